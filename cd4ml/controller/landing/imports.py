"""Import: bring what other tools recorded into the index, once, however often it is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

from cd4ml.controller.landing import trust
from cd4ml.controller.landing.fold import fold_landed
from cd4ml.controller.landing.landed import read_landed
from cd4ml.controller.project import Project
from cd4ml.errors import IntegrityError, RemoteError
from cd4ml.gateways import dvc_experiments, mlflow
from cd4ml.gateways.git import LANDING, RefUpdate
from cd4ml.index.fold import check_landed, entry_path
from cd4ml.index.foreign import ForeignRun, import_body
from cd4ml.index.record import RECORD_PATH, as_record, encode

_AT_ONCE = 200


@dataclass(frozen=True)
class Imported:
    """What an import did: ids of new records, how many runs were known as they are, and how many have not ended."""

    landed: tuple[str, ...]
    known: int
    unfinished: int


@contextmanager
def from_mlflow(uri: str, experiments: Sequence[str]) -> Iterator[Iterable[ForeignRun | None]]:
    """The runs of an MLflow tracking store. Raises UsageError, RemoteError."""
    with mlflow.open_store(uri) as client:
        yield mlflow.runs_of(client, uri, mlflow.experiments_of(client, experiments))


def from_dvc(project: Project) -> Iterable[ForeignRun | None]:
    """The experiments that DVC keeps in this clone. Raises UsageError."""
    return dvc_experiments.experiments_of(project.work_tree())


def import_runs(project: Project, runs: Iterable[ForeignRun | None], *, dry_run: bool = False) -> Imported:
    """Land a record for each run that the index does not hold as it is, and fold them.

    A record hangs on the commit that was run, where the remote's branches hold it or DVC keeps it here, so that an
    experiment's code lives as long as its record; else on the base branch's. Raises RemoteError.
    """
    state = trust.fetch(project)
    base = state.heads.get(project.base)
    if base is None:
        raise project.without_base()
    published = _Published(project, tuple(state.heads.values()))
    landed: list[str] = []
    known = unfinished = 0
    pending = iter(runs)
    while chunk := list(islice(pending, _AT_ONCE)):
        ended = [run for run in chunk if run is not None]
        unfinished += len(chunk) - len(ended)
        bodies = {body["id"]: body for run in ended for body in [import_body(run, published.anchor(run, base))]}
        state = trust.fetch(project)
        new = _unknown(project, state.index, frozenset(state.landing), bodies)
        known += len(ended) - len(new)
        if new and not dry_run:
            _land(project, new)
            fold_landed(project, trust.fetch(project))
        landed += new
    return Imported(tuple(landed), known, unfinished)


class _Published:
    """Which commits a record may hang on without making public what was not."""

    def __init__(self, project: Project, heads: tuple[str, ...]) -> None:
        self._project = project
        self._heads = heads
        self._known: dict[str, bool] = {}

    def anchor(self, run: ForeignRun, base: str) -> str:
        commit = self._project.repository.resolve(run.commit) if run.commit else None
        if commit is None or commit != run.commit:
            return base
        # an experiment of DVC lies in refs of its own: to import it is to ask that it be kept
        return commit if run.tool == "dvc" or self._holds(commit) else base

    def _holds(self, commit: str) -> bool:
        if commit not in self._known:
            repository = self._project.repository
            self._known[commit] = any(repository.is_ancestor(commit, head) for head in self._heads)
        return self._known[commit]


def _unknown(
    project: Project, index: str | None, landing: frozenset[str], bodies: Mapping[str, Mapping[str, Any]]
) -> dict[str, Mapping[str, Any]]:
    paths = {entry_path(as_record(body)): record_id for record_id, body in bodies.items()}
    held = project.repository.existing(index, sorted(paths)) if index is not None else frozenset()
    return {
        record_id: bodies[record_id]
        for path, record_id in sorted(paths.items())
        if path not in held and LANDING + record_id not in landing
    }


def _land(project: Project, bodies: Mapping[str, Mapping[str, Any]]) -> None:
    """Put the records on the remote, in one push."""
    repository = project.repository
    asked = [
        (str(body["commit"]), {RECORD_PATH: encode(body)}, f"cd4ml: import {record_id}\n")
        for record_id, body in bodies.items()
    ]
    commits = repository.write_children(asked)
    refs = [LANDING + record_id for record_id in bodies]
    for ref, commit in zip(refs, commits, strict=True):
        try:
            check_landed(read_landed(project, ref, commit))
        except IntegrityError as error:
            raise IntegrityError(f"{ref.removeprefix(LANDING)}: cannot be recorded: {error}") from error
    try:
        repository.push(project.remote, [RefUpdate(*one) for one in zip(refs, [""] * len(refs), commits, strict=True)])
    except RemoteError as error:
        landing = trust.fetch(project).landing
        missing = [ref for ref, commit in zip(refs, commits, strict=True) if landing.get(ref) != commit]
        if missing:
            raise RemoteError(f"{len(missing)} records could not be landed: {error}") from error
