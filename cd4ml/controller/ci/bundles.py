"""Bundles: what executing a target left, as files that another job takes over.

::

    DIR/bundles.json                  whose folder this is
    DIR/FINGERPRINT/bundle.json       of which commit, how it ended, how long it took, what lies beside it
    DIR/FINGERPRINT/log.txt           the end of the log
    DIR/FINGERPRINT/files/artifacts/… what the executed stages wrote; of a failed run, the outcome of validation

Code of an experiment ran where a bundle was made, so whoever reads one takes it for hostile: everything is held
against a schema, against limits, and against what the pipeline of the commit (read from Git) says must be there.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cd4ml.controller.ci.bundle import BUNDLE, FINGERPRINT, SCHEMA, Bundle, parse_bundle
from cd4ml.controller.running.run import Execution, Failure, Job
from cd4ml.errors import IntegrityError, UsageError
from cd4ml.gateways.files import FileDigest, digest_file, remove_tree, write_atomically
from cd4ml.gateways.process import crash_point
from cd4ml.gateways.untrusted import check_holds_only, digest_plain, names_in, read_plain, tail_plain, take
from cd4ml.spec.pipeline import EXPECTATION_RESULTS, Pipeline, executed, pipeline_of
from cd4ml.spec.text import one_line

MARK = "bundles.json"
LOG = "log.txt"
FILES = "files"


@dataclass(frozen=True)
class Limits:
    """How large what is taken over may be, in bytes: each file, and all files of a bundle together."""

    file: int
    total: int


OF_RUNS = Limits(8 << 30, 16 << 30)
OF_FORKS = Limits(1 << 30, 2 << 30)

_MARK = json.dumps({"schema": SCHEMA, "kind": "bundles"}, indent=1).encode() + b"\n"
_PART = ".part-"
_LARGEST_BUNDLE = 1 << 20
_MOST_BUNDLES = 1000
_LOG_TAIL = 64 << 10


# ── writing ──


def open_output(output: Path) -> None:
    """Make the folder that bundles go into; what a killed execute left half-way there is removed.

    Raises UsageError for a folder that holds anything else than bundles.
    """
    output.mkdir(parents=True, exist_ok=True)
    names = [path.name for path in output.iterdir()]
    for name in names:
        if name.startswith(_PART):
            remove_tree(output / name)
        elif name != MARK and not (FINGERPRINT.fullmatch(name) and (output / name / BUNDLE).is_file()):
            raise UsageError(f"{output}: holds {name!r}, which is none of ours: name an empty folder")
    write_atomically(output / MARK, _MARK)


def write_bundle(
    output: Path,
    job: Job,
    head: str,
    execution: Execution,
    failure: Failure | None,
    metrics: Mapping[str, Mapping[str, float]] | None = None,
) -> Bundle:
    """Put what an execution left into ``output``, whole or not at all; one of the same fingerprint is replaced.

    ``head`` is the branch's head, ``failure`` the one that counts, and ``metrics`` makes it an unverified one. Raises
    IntegrityError for what is larger than anybody would take over.
    """
    part = output / f"{_PART}{uuid.uuid4().hex}"
    wanted = _expected(pipeline_of(job.asked.spec), failed=False)
    found = {path: digest_plain(execution.clone, path) for _, path in wanted}
    hole = next(((stage, path) for stage, path in wanted if found[path] is None), None)
    if failure is None and hole is not None:
        failure = Failure(hole[0], f"{hole[1]} was not written", "deterministic")
    kept = {path for _, path in _expected(pipeline_of(job.asked.spec), failed=failure is not None)}
    files = {path: known for path, known in found.items() if path in kept and known is not None}
    try:
        for path, known in files.items():
            take(execution.clone, path, part / FILES / path, known)
        bundle = Bundle(
            folder=output / job.asked.components.fingerprint,
            size=0,
            kind="run" if metrics is None else "unverified",
            fingerprint=job.asked.components.fingerprint,
            branch=job.branch,
            side=job.side,
            commit=job.commit,
            tree=job.tree,
            head=head,
            base=job.base_commit,
            started=execution.started,
            finished=execution.finished,
            seconds=dict(execution.seconds),
            peak_bytes=dict(execution.peak_bytes),
            prediction_seconds_per_row=execution.prediction_seconds_per_row,
            environment=execution.environment,
            failure=failure,
            files=files,
            log=_bring_log(execution.folder, part),
            metrics=metrics or {},
        )
        _check_sizes(bundle, OF_RUNS if metrics is None else OF_FORKS)
        content = json.dumps(bundle.as_json(), indent=1, sort_keys=True).encode() + b"\n"
        write_atomically(part / BUNDLE, content)
        _swap(part, bundle.folder)
        crash_point("bundle.written")
    finally:
        remove_tree(part)
    return bundle


def _bring_log(folder: Path, part: Path) -> FileDigest | None:
    tail = tail_plain(folder, LOG, _LOG_TAIL)  # code of the experiment could put another file in its place
    if tail is None:
        return None
    write_atomically(part / LOG, tail)
    return digest_file(part / LOG)


def _swap(part: Path, target: Path) -> None:
    old = part.with_name(f"{_PART}{uuid.uuid4().hex}")
    if target.exists():
        target.rename(old)
    part.rename(target)
    remove_tree(old)


def _expected(pipeline: Pipeline, *, failed: bool) -> tuple[tuple[str, str], ...]:
    """Stage and path of each file that a bundle has; of a failed one, may have."""
    wanted = tuple((stage.name, path) for stage in executed(pipeline) for path in stage.written)
    return tuple((stage, path) for stage, path in wanted if path == EXPECTATION_RESULTS) if failed else wanted


# ── reading ──


@dataclass(frozen=True)
class Brought:
    """The bundles of a folder; ``refused`` has a line for each that is none."""

    bundles: tuple[Bundle, ...]
    refused: tuple[str, ...]


def read_bundles(directory: Path) -> Brought:
    """What the bundles in a folder say of themselves. Their files are not looked at.

    Raises UsageError for a folder that is not there, or that holds anything else.
    """
    try:
        names = names_in(directory, _MOST_BUNDLES)
    except IntegrityError as error:
        raise UsageError(f"{directory}: {error}") from error
    bundles, refused = [], []
    for name in names:
        if name == MARK or name.startswith(_PART):
            continue
        shown = one_line(name.encode("utf-8", "backslashreplace").decode(), 64)
        try:
            bundles.append(_read(directory, name))
        except IntegrityError as error:
            refused.append(f"{shown}: {error}")
    return Brought(tuple(bundles), tuple(refused))


def _read(directory: Path, name: str) -> Bundle:
    folder = directory / name
    if not FINGERPRINT.fullmatch(name) or folder.is_symlink():
        raise IntegrityError("is no bundle")
    data = read_plain(folder, BUNDLE, _LARGEST_BUNDLE)
    bundle = parse_bundle(data, folder)
    if bundle.fingerprint != name:
        raise IntegrityError(f"{BUNDLE}: fingerprint: is not the one that its folder is named by")
    return bundle


def unpack(bundle: Bundle, pipeline: Pipeline, folder: Path, limits: Limits = OF_RUNS) -> Execution:
    """Copy what a bundle holds into ``folder``, as ``execute`` would have left it there.

    ``pipeline`` is that of the commit. Raises IntegrityError, with nothing left behind, for a file too many or too few,
    a link, a size or a digest that is not the stated one, or more than ``limits`` allow.
    """
    expected = {path for _, path in _expected(pipeline, failed=bundle.failure is not None)}
    named = set(bundle.files)
    if not named <= expected or (bundle.failure is None and named != expected):
        odd = min(named - expected or expected - named)
        what = "is none of the outputs of its commit's pipeline" if odd in named else "is missing"
        raise IntegrityError(f"{bundle}: files: {one_line(odd.encode('utf-8', 'replace').decode(), 200)}: {what}")
    _check_sizes(bundle, limits)
    sizes = {f"{FILES}/{path}": known.bytes for path, known in bundle.files.items()} | {BUNDLE: bundle.size}
    if bundle.log:
        sizes[LOG] = bundle.log.bytes
    try:
        check_holds_only(bundle.folder, sizes)
        for path, promised in bundle.files.items():
            take(bundle.folder, f"{FILES}/{path}", folder / "clone" / path, promised)
        if bundle.log:
            take(bundle.folder, LOG, folder / LOG, bundle.log)
    except BaseException as error:
        remove_tree(folder)
        if isinstance(error, IntegrityError):
            raise IntegrityError(f"{bundle}: {error}") from error
        raise
    (folder / "clone").mkdir(parents=True, exist_ok=True)
    crash_point("bundle.taken")
    return Execution(
        folder,
        bundle.failure,
        bundle.seconds,
        bundle.started,
        bundle.finished,
        bundle.environment,
        bundle.peak_bytes,
        bundle.prediction_seconds_per_row,
    )


def _check_sizes(bundle: Bundle, limits: Limits) -> None:
    sizes = {path: known.bytes for path, known in bundle.files.items()}
    largest = max(sizes, key=lambda path: sizes[path], default="")
    if largest and sizes[largest] > limits.file:
        raise IntegrityError(f"{bundle}: {largest}: has {sizes[largest]} bytes, more than {limits.file} are not taken")
    if sum(sizes.values()) > limits.total:
        raise IntegrityError(f"{bundle}: has {sum(sizes.values())} bytes, more than {limits.total} are not taken")
    if bundle.log and bundle.log.bytes > _LOG_TAIL:
        raise IntegrityError(f"{bundle}: {LOG}: has more than {_LOG_TAIL} bytes")
