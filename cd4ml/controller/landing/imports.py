"""Import: bring what other tools recorded into the index, once, however often it is asked for."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from cd4ml.controller.landing import trust
from cd4ml.controller.landing.fold import fold_landed, give_way
from cd4ml.controller.landing.landed import current_cache, read_landed
from cd4ml.controller.project import Project
from cd4ml.errors import IntegrityError, RemoteError
from cd4ml.gateways import dvc_experiments, mlflow
from cd4ml.gateways.git import IMPORTS, LANDING, RefUpdate, RemoteState
from cd4ml.index.filter import Field, OneOf
from cd4ml.index.fold import check_landed
from cd4ml.index.foreign import ForeignRun, Unreadable, cuts, import_body, redactions, run_id
from cd4ml.index.record import RECORD_PATH, encode
from cd4ml.index.sql import compile_filter
from cd4ml.index.validate import MAX_BYTES
from cd4ml.spec.secrets import redacted

_AT_ONCE = 200
_TRIES = 30
"""Others may land what is not the same at the same time, and move the same ref."""

_REFUSALS = 3
_LARGEST_LOOKED_INTO = 4 << 20
_TOO_LARGE = f"it is larger than a record may be ({MAX_BYTES >> 20} MiB)"
_OF_IMPORTS = "kind = 'removal' AND number IN (SELECT number FROM answer WHERE run >= 'i' AND run < 'j')"
"""Over the query cache's entries: tombstones of imported runs."""


@dataclass(frozen=True)
class Imported:
    """What an import did: new records, how many runs were known already, and how many have not ended.

    ``landed`` are the ids of the new records, each with the run's experiment and name in the tool that it is of.
    ``redacted`` is the number of values of the new records that seemed to hold a credential, which was left out;
    ``empty`` of the new records that hold neither parameters nor metrics; ``withheld`` of the runs of DVC whose commit
    is not published, since what it brings may hold a credential. ``unreadable`` are runs that their store cannot give.
    ``cut`` is the number of values that are longer or more than a record holds.
    """

    landed: Mapping[str, tuple[str, str]]
    known: int
    unfinished: int
    redacted: int = 0
    empty: int = 0
    withheld: int = 0
    unreadable: tuple[Unreadable, ...] = ()
    cut: int = 0


@contextmanager
def from_mlflow(uri: str, experiments: Sequence[str]) -> Iterator[Iterable[ForeignRun | Unreadable | None]]:
    """The runs of an MLflow tracking store. Raises UsageError, RemoteError."""
    with mlflow.open_store(uri) as client:
        yield mlflow.runs_of(client, uri, mlflow.experiments_of(client, experiments))


def from_dvc(project: Project) -> Iterable[ForeignRun | None]:
    """The experiments that DVC keeps in this clone. Raises UsageError."""
    return dvc_experiments.experiments_of(project.work_tree())


def import_runs(project: Project, runs: Iterable[ForeignRun | Unreadable | None], *, dry_run: bool = False) -> Imported:
    """Land a record for each run that the index does not hold, and fold them.

    A tool's own id is unique everywhere, so a run is known by it wherever its store lies and whatever it is called
    there; also one that was erased, which is not brought back.

    A record hangs on the commit that was run, where the remote's branches hold it or DVC keeps it here, so that an
    experiment's code lives as long as its record; else on the base branch's, also where that commit would make public
    what seems to be a credential. Raises RemoteError.
    """
    state = trust.fetch(project)
    base = state.heads.get(project.base)
    if base is None:
        raise project.without_base()
    published = _Published(project, tuple(state.heads.values()))
    landed: dict[str, tuple[str, str]] = {}
    known = unfinished = left_out = empty = cut = 0
    unreadable: list[Unreadable] = []
    pending = iter(runs)
    while chunk := list(islice(pending, _AT_ONCE)):
        ended = [run for run in chunk if isinstance(run, ForeignRun)]
        unreadable += (run for run in chunk if isinstance(run, Unreadable))
        unfinished += chunk.count(None)
        fresh, new = _bring(project, ended, lambda run: published.anchor(run, base), dry_run=dry_run)
        known += len(ended) - len(fresh)
        held = {body["source"]["id"] for body in new.values()}
        left_out += sum(redactions(run) for run in fresh if run_id(run) in held)
        cut += sum(cuts(run) for run in fresh if run_id(run) in held)
        unreadable += (Unreadable(run_id(run), _TOO_LARGE) for run in fresh if run_id(run) not in held)
        empty += sum(not (body["params"] or body["metrics"]) for body in new.values())
        landed |= {record_id: (body["source"]["experiment"], body["name"]) for record_id, body in new.items()}
    return Imported(landed, known, unfinished, left_out, empty, len(published.withheld), tuple(unreadable), cut)


def _bring(
    project: Project, runs: Sequence[ForeignRun], anchor: Callable[[ForeignRun], str], *, dry_run: bool
) -> tuple[Sequence[ForeignRun], Mapping[str, Mapping[str, Any]]]:
    """Land and fold those of the runs of which there is no record; gives them, and the records by id.

    Of a run that is larger than a record may be there is none. Where somebody else imports the same, what they land
    meanwhile is theirs: whoever lands moves a ref that the other does then not find as it was before he asked what is
    known.
    """
    tool = next((run.tool for run in runs), None)
    if tool is None:
        return (), {}
    looks: list[object] = []
    for left in reversed(range(_TRIES)):
        before = project.repository.remote_ref(project.remote, IMPORTS + tool) or ""
        held = _held(project, trust.fetch(project), runs)
        fresh = {(run.tool, run_id(run)): run for run in reversed(runs) if (run.tool, run_id(run)) not in held}
        bodies = [import_body(run, anchor(run)) for run in fresh.values()]
        small = [body for body in bodies if len(encode(body)) <= MAX_BYTES]
        new = {str(body["id"]): body for body in sorted(small, key=lambda body: str(body["id"]))}
        if not new or dry_run:
            break
        try:
            mark = project.repository.write_blob(f"{uuid.uuid4()}\n".encode())
            _land(project, new, RefUpdate(IMPORTS + tool, before, mark))
        except RemoteError:
            looks.append((before, held))
            if not left or looks[-_REFUSALS:] == [(before, held)] * _REFUSALS:  # nobody else was the reason
                raise
            give_way(len(looks))
            continue
        fold_landed(project, trust.fetch(project))
        break
    return tuple(fresh.values()), new


class _Published:
    """Which commits a record may hang on without making public what was not."""

    def __init__(self, project: Project, heads: tuple[str, ...]) -> None:
        self._project = project
        self._heads = heads
        self._known: dict[str, bool] = {}
        self.withheld: set[str] = set()

    def anchor(self, run: ForeignRun, base: str) -> str:
        commit = self._project.repository.resolve(run.commit) if run.commit else None
        if commit is None or commit != run.commit:
            return base
        if self._holds(commit):
            return commit
        # an experiment of DVC lies in refs of its own: to import it is to ask that it be kept
        if run.tool != "dvc":
            return base
        if self._brings_secrets(commit):
            self.withheld.add(commit)
            return base
        return commit

    def _brings_secrets(self, commit: str) -> bool:
        """Does a file or message that nobody has yet who reads the remote seem to hold a credential?

        One that is too large to be looked into may.
        """
        repository = self._project.repository
        brought, large = repository.brought_by(commit, self._heads, _LARGEST_LOOKED_INTO)
        held = repository.small_objects(brought, _LARGEST_LOOKED_INTO, ("blob", "commit")).values()
        texts = (data.replace(b"\0", b"").decode("utf-8", "replace") for data in held)  # of two bytes a letter, too
        return bool(large) or any(redacted(text) != text for text in texts)

    def _holds(self, commit: str) -> bool:
        if commit not in self._known:
            repository = self._project.repository
            self._known[commit] = any(repository.is_ancestor(commit, head) for head in self._heads)
        return self._known[commit]


def _held(project: Project, state: RemoteState, runs: Iterable[ForeignRun]) -> frozenset[tuple[str, str]]:
    """Tool and id of those of the runs that a record of the index, or one that has landed, is of; or a tombstone."""
    cache = current_cache(project, state)
    ids = tuple(dict.fromkeys(map(run_id, runs)))
    if not ids:
        return frozenset()
    asked = compile_filter(OneOf(Field(("imported", "id")), ids), datetime.now(UTC))
    rows = cache.rows_of(sorted({key[0] for key in cache.keys(asked)}))
    told = [row.imported for same in rows.values() for row in same if row.imported]
    found = {(one["source"], one["id"]) for one in told}
    for entry in cache.entries(_OF_IMPORTS):
        source = entry.record.body.get("source")
        if isinstance(source, dict):
            found.add((str(source.get("kind")), str(source.get("id"))))
    return frozenset(found)


def _land(project: Project, bodies: Mapping[str, Mapping[str, Any]], along: RefUpdate) -> None:
    """Put the records on the remote in one push, in which another ref moves, too."""
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
        updates = [RefUpdate(ref, "", commit) for ref, commit in zip(refs, commits, strict=True)]
        repository.push(project.remote, [*updates, along])
    except RemoteError as error:
        landing = trust.fetch(project).landing
        missing = [ref for ref, commit in zip(refs, commits, strict=True) if landing.get(ref) != commit]
        if missing:
            raise RemoteError(f"{len(missing)} records could not be landed with {along.ref}: {error}") from error
