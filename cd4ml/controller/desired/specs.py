"""What a tree asks for: its ``conf/`` composed and checked, its fingerprint components, its problems.

Composition is remembered by the object id of ``conf/``, so that a plan over branches that have not
changed composes nothing and imports no Hydra.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cd4ml
from cd4ml.controller.project import CONF, Project
from cd4ml.errors import ConfigError, Problem, RepositoryError, UsageError
from cd4ml.gateways.files import write_atomically
from cd4ml.index.fold import RESULT_FILES, RESULT_FOLDER
from cd4ml.spec.allowed import not_allowed
from cd4ml.spec.columns import column_problems
from cd4ml.spec.environment import lock_entries
from cd4ml.spec.experiment import Spec
from cd4ml.spec.fingerprint import (
    Components,
    code_digest,
    data_digest,
    env_digest,
    own_code_digest,
    pipeline_digest,
    spec_digest,
)
from cd4ml.spec.parse import parse
from cd4ml.spec.pin import Pin, parse_pin, pin_problems
from cd4ml.spec.pipeline import pin_path, pipeline_of, stages

_LARGEST_INPUT = 4 << 20
_SUBMODULE = "160000"
"""Git's mode for the commit of another repository."""


@dataclass(frozen=True)
class Asked:
    """What a tree asks for, completely: the spec, where each value came from, the pins, the digests."""

    spec: Spec
    origin: Mapping[str, str]
    pins: Mapping[str, Pin]
    lock: tuple[str, ...]
    components: Components


def python_minor() -> str:
    """``"3.11"``."""
    return ".".join(platform.python_version_tuple()[:2])


def compose_tree(project: Project, tree: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The resolved configuration of a tree and the file of each value. Raises ConfigError."""
    object_id = project.repository.entry(tree, CONF)
    if object_id is None:
        raise ConfigError([Problem(f"{CONF}/", "", "is missing", "commit the project that `cd4ml init` made")])
    remembered = project.private / "specs" / f"{object_id}-{cd4ml.__version__}.json"
    known = _remembered(remembered)
    if known is not None:
        return known["resolved"], known["origin"]
    from cd4ml.gateways.hydra import compose

    try:
        composed = compose(project.repository.read_files(tree, CONF))
    except RepositoryError as error:
        raise ConfigError([Problem(f"{CONF}/", "", str(error))]) from error
    content = json.dumps({"resolved": composed.resolved, "origin": composed.origin}).encode()
    with suppress(OSError):  # what cannot be remembered is composed again
        write_atomically(remembered, _seal(remembered, content) + content)
    return composed.resolved, dict(composed.origin)


def _seal(path: Path, content: bytes) -> bytes:
    """The first line of a remembered composition: one that has changed, or was another tree's, is not believed."""
    return hashlib.sha256(os.fsencode(path.name) + content).hexdigest().encode() + b"\n"


def _remembered(path: Path) -> dict[str, Any] | None:
    """What was remembered, or nothing when it was not, or is damaged."""
    try:
        seal, content = path.read_bytes().split(b"\n", 1)
    except (OSError, ValueError):
        return None
    known: dict[str, Any] | None = json.loads(content) if seal + b"\n" == _seal(path, content) else None
    return known


def spec_of(project: Project, tree: str) -> tuple[Spec, dict[str, str]]:
    """The checked value of a tree's configuration. Raises ConfigError."""
    resolved, origin = compose_tree(project, tree)
    return _parsed(resolved, origin), origin


def _parsed(resolved: Mapping[str, Any], origin: Mapping[str, str]) -> Spec:
    """The checked value, its retention rules read as well. Raises ConfigError."""
    spec = parse(resolved, origin)
    if spec.index.let_go:  # reading the language of filters imports its parser
        from cd4ml.index.retention import rule_problems

        if problems := rule_problems(spec.index.let_go, origin):
            raise ConfigError(problems)
    return spec


@dataclass(frozen=True)
class Base:
    """The base branch as far as it decides what others ask for: its commit and its policy."""

    commit: str
    policy: Spec


def asked_of(project: Project, tree: str, base: Base | None = None) -> Asked:
    """Everything that a tree asks for; without a ``base``, as a base branch asks for it itself.

    Raises ConfigError with every problem found.
    """
    spec, origin = spec_of(project, tree)
    problems: list[Problem] = list(not_allowed(spec, (base.policy if base else spec).allowed_packages, origin))
    pins = _pins(project, tree, spec, problems)
    problems += column_problems(spec, pins, origin)
    code = _code(project, tree, spec, problems)
    lock = _lock(project, tree, spec, problems)
    problems += _in_the_way(project, tree)
    if problems:
        raise ConfigError(problems)
    judges_code = own_code_of(project, base.commit if base else tree, spec.code) if spec.evaluation.own else ""
    components = Components(
        spec=spec_digest(spec.resolved),
        code=code_digest(code),
        data=data_digest({name: pin.digest for name, pin in pins.items()}),
        pipeline=pipeline_digest(stages(pipeline_of(spec)), judges_code),
        env=env_digest(lock, python_minor()),
    )
    return Asked(spec, origin, pins, lock, components)


def named_columns(project: Project, tree: str, spec: Spec, origin: Mapping[str, str]) -> tuple[Problem, ...]:
    """The columns that a spec names and that the pins of its tree do not list, as far as these can be read."""
    return column_problems(spec, _pins(project, tree, spec, []), origin)


def own_code_of(project: Project, treeish: str, paths: tuple[str, ...]) -> str:
    """``own_code_digest`` of the files of a tree or commit under ``paths`` (those of ``code:``)."""
    listed = (project.repository.blob_ids(treeish, one) for one in paths)
    return own_code_digest({path: blob for blobs in listed for path, blob in blobs.items()})


def _pins(project: Project, tree: str, spec: Spec, problems: list[Problem]) -> dict[str, Pin]:
    pins: dict[str, Pin] = {}
    for source in spec.data.sources:
        path = pin_path(source.name)
        data = project.repository.read_blob(tree, path, _LARGEST_INPUT)
        if data is None:
            problems.append(Problem(path, "", "no pin", f"pin the data with `cd4ml data update {source.name}`"))
            continue
        try:
            pin = parse_pin(data.decode("utf-8", "replace"), path)
        except ConfigError as error:
            problems.extend(error.problems)
        else:
            problems.extend(pin_problems(pin, source, path))
            pins[source.name] = pin
    return pins


def _code(project: Project, tree: str, spec: Spec, problems: list[Problem]) -> dict[str, str]:
    """What lies at the paths of ``code:``; a run gets the files of one commit, so a submodule's would be missing."""
    listed = _listed(project, tree, spec.code, "-r", "-t") if spec.code else []
    for mode, _, path, _ in listed:
        if mode == _SUBMODULE:
            problems.append(
                Problem(
                    "conf/config.yaml", "code", f"{path} is a Git submodule: a run has no files of it", "copy them in"
                )
            )
    found: dict[str, str] = {}
    objects = {path: object_id for _, _, path, object_id in listed}
    for path in spec.code:
        object_id = objects.get(path.rstrip("/"))
        if object_id is None:
            problems.append(Problem("conf/config.yaml", "code", f"{path} is not in this commit"))
        else:
            found[path.rstrip("/")] = object_id
    return found


def _listed(project: Project, tree: str, paths: Iterable[str], *options: str) -> list[tuple[str, str, str, str]]:
    """Mode, kind, path and object id of the entries at these paths, and of what ``options`` of ls-tree add."""
    plain = [path.rstrip("/") for path in paths]
    listed = project.repository.git("--literal-pathspecs", "ls-tree", "-z", *options, tree, "--", *plain).text
    rows = (line.partition("\t") for line in listed.split("\0") if line)
    parts = ((meta.split(" "), path) for meta, _, path in rows)
    return [(mode, kind, path, object_id) for (mode, kind, object_id), path in parts]


def _lock(project: Project, tree: str, spec: Spec, problems: list[Problem]) -> tuple[str, ...]:
    if not spec.lock:
        return ()
    data = project.repository.read_blob(tree, spec.lock, _LARGEST_INPUT)
    if data is None:
        problems.append(Problem("conf/config.yaml", "environment.lock", f"{spec.lock} is not in this commit"))
        return ()
    try:
        return _entries(data.decode("utf-8", "replace"), spec.lock)
    except ConfigError as error:
        problems.extend(error.problems)
        return ()


_entries = lru_cache(maxsize=8)(lock_entries)
"""Most branches have the base branch's lock."""


def _in_the_way(project: Project, tree: str) -> list[Problem]:
    """Entries of another kind where a result commit puts its own: to replace them would change the source."""
    wanted = {RESULT_FOLDER.split("/")[0]: "tree", RESULT_FOLDER.rstrip("/"): "tree"}
    wanted |= dict.fromkeys(RESULT_FILES, "blob")
    return [
        Problem(path, "", f"a {'link' if mode == '120000' else kind} is in the way of what cd4ml puts there", "move it")
        for mode, kind, path, _ in _listed(project, tree, sorted(wanted))
        if path in wanted and (kind != wanted[path] or mode == "120000")
    ]


def configuration(project: Project, revision: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The resolved configuration of a revision (of the work tree for ``""``), and the file of each value.

    A branch that only the remote has may be named by its bare name. Raises UsageError for a revision that
    is not there, ConfigError.
    """
    if not revision:
        from cd4ml.controller.desired.data import read_folder
        from cd4ml.gateways.hydra import compose

        composed = compose(read_folder(project.work_tree(), CONF))
        _parsed(composed.resolved, composed.origin)
        return composed.resolved, dict(composed.origin)
    seen = f"refs/cd4ml/remote/heads/{revision}"
    commit = project.repository.resolve(revision) or project.repository.resolve(seen)
    if commit is None:
        raise UsageError(f"{revision}: no such commit or branch here (is it fetched?)")
    resolved, origin = compose_tree(project, commit)
    _parsed(resolved, origin)
    return resolved, origin
