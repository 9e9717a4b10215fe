"""What the index holds, and what has landed on the remote and is not folded into it yet."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryFile
from typing import IO

import cd4ml
from cd4ml.controller.project import Project
from cd4ml.errors import IntegrityError, RepositoryError, ToolError
from cd4ml.gateways.git import INDEX_BRANCH, RemoteState
from cd4ml.gateways.store import DRAFT, LANDING, Changes, QueryCache, Stored, Wanted
from cd4ml.gateways.store_batch import Batch, batches
from cd4ml.gateways.untrusted import parse_json
from cd4ml.index.envelope import read_envelope
from cd4ml.index.fold import ENTRY_FOLDERS, Landed, fold, names_record, parse_envelope, run_folder
from cd4ml.index.history import (
    ExperimentEntry,
    History,
    ImportEntry,
    LookedUp,
    RemovalEntry,
    RunEntry,
    experiments_in,
    imports_in,
    removals_in,
    runs_in,
)
from cd4ml.index.record import RECORD_PATH, Entry, RemovalRecord, RunRecord
from cd4ml.index.validate import NewerSchemaError

CACHE = "query.sqlite"
"""The query cache, in cd4ml's private folder."""

LARGEST_RECORD = 1 << 20
_AT_ONCE = 500
_MANY = 1000
"""So many entries are read in the order in which Git keeps them, by further processes."""
_SPOOLS = 2
"""So many processes of Git write entries into files."""
_PROGRESS = logging.getLogger("cd4ml.progress")
"""How far something long is, as "words: %d of %d things": whoever shows it listens (``cli/progress``)."""
DRAFTS_READ = "drafts"
"""In cd4ml's private folder: what drafts hold, by commit."""


def read_history(project: Project, state: RemoteState, *, drafts: bool = True) -> History:
    """Everything known: the index's entries, and landed records as the next fold would take them.

    It is read through the query cache, so that it costs what has changed since somebody last looked, and then what
    is asked of it. ``drafts`` counts in the records of branches that are not pushed, which are kept here alone. A
    reader never writes to Git, so it counts in by itself what is to be folded. Raises IntegrityError for an index
    that was tampered with. Side effects: the cache is brought up to date.
    """
    return IndexHistory(current_cache(project, state), drafts)


def read_drafts(project: Project, state: RemoteState) -> tuple[Entry, ...]:
    """The entries that drafts would become in the next fold, but for those that have landed, in fold order."""
    return current_cache(project, state).entries("origin = ?", DRAFT)


def current_cache(project: Project, state: RemoteState) -> QueryCache:
    """The query cache, holding what a fetch saw. Raises IntegrityError. Side effects: brings it up to date."""
    landed = {ref: (commit, DRAFT) for ref, commit in state.drafts.items()}
    landed |= {ref: (commit, LANDING) for ref, commit in state.landing.items() if names_record(ref)}
    cache = QueryCache(project.private / CACHE)
    cache.refresh(Wanted(cd4ml.__version__, state.index, landed), _IndexSource(project))
    return cache


@dataclass(frozen=True)
class IndexHistory(History):
    """A history on disk, each record of which is read when it is asked for."""

    cache: QueryCache
    drafts: bool

    @property
    def runs(self) -> tuple[RunEntry, ...]:
        return runs_in(self._entries("kind = 'run'"))

    @property
    def experiments(self) -> tuple[ExperimentEntry, ...]:
        return experiments_in(self._entries("kind = 'experiment'"))

    @property
    def removals(self) -> tuple[RemovalEntry, ...]:
        return removals_in(self._entries("kind = 'removal'"))

    @property
    def imports(self) -> tuple[ImportEntry, ...]:
        return imports_in(self._entries("kind = 'import'"))

    @property
    def branches(self) -> tuple[str, ...]:
        return self.cache.values("branch", "kind = 'experiment'", drafts=self.drafts)

    def runs_of(self, fingerprint: str) -> tuple[RunEntry, ...]:
        return runs_in(self._entries("kind = 'run' AND fingerprint = ?", fingerprint))

    def result(self, fingerprint: str) -> RunEntry | None:
        return self._first("kind = 'run' AND fingerprint = ? AND succeeded", fingerprint)

    def attempts(self, fingerprint: str) -> tuple[RunEntry, ...]:
        return runs_in(self._entries("kind = 'run' AND fingerprint = ? AND NOT succeeded", fingerprint))

    def first_success(self, components: Mapping[str, str | None]) -> RunEntry | None:
        return self._first(*self.cache.with_components(components))

    def of_branch(self, branch: str) -> tuple[ExperimentEntry, ...]:
        return experiments_in(self._entries("kind = 'experiment' AND branch = ?", branch))

    def run_by_id(self, run_id: str) -> RunEntry | None:
        return self._first("kind = 'run' AND id = ?", run_id)

    def answering(self, runs: Collection[str]) -> tuple[ExperimentEntry, ...]:
        return experiments_in(self._naming("experiment", runs))

    def removals_of(self, runs: Collection[str]) -> tuple[RemovalEntry, ...]:
        return removals_in(self._naming("removal", runs))

    def each_run(self) -> Iterator[RunEntry]:
        return self.speaking_of("")

    def speaking_of(self, text: str) -> Iterator[RunEntry]:
        for one in self.cache.speaking_of(text, drafts=self.drafts):
            if isinstance(one.record, RunRecord):
                yield RunEntry(one, one.record)

    def _naming(self, kind: str, runs: Collection[str]) -> list[Entry]:
        """Entries of a kind that name one of these runs, each once, in fold order."""
        named = "kind = ? AND number IN (SELECT number FROM answer WHERE run"
        found = {one.record.id: one for one in self._among(named, runs, kind, end=")")}
        return sorted(found.values(), key=lambda entry: entry.order)

    def looked_up(self, branches: Collection[str], fingerprints: Collection[str]) -> History:
        by_branch: dict[str, list[ExperimentEntry]] = {branch: [] for branch in branches}
        for asked in experiments_in(self._among("kind = 'experiment' AND branch", by_branch)):
            by_branch[asked.experiment.branch].append(asked)
        by_fingerprint: dict[str, list[RunEntry]] = {fingerprint: [] for fingerprint in fingerprints}
        for run in runs_in(self._among("kind = 'run' AND fingerprint", by_fingerprint)):
            by_fingerprint[run.run.fingerprint].append(run)
        return LookedUp(
            self,
            {branch: tuple(found) for branch, found in by_branch.items()},
            {fingerprint: tuple(found) for fingerprint, found in by_fingerprint.items()},
        )

    def _among(self, condition: str, values: Iterable[str], *before: str, end: str = "") -> Iterator[Entry]:
        """Entries of which the last column of the condition has one of these values; in fold order for each value.

        ``before`` is bound in the condition, ``end`` ends it.
        """
        left = list(values)
        for start in range(0, len(left), _AT_ONCE):
            part = left[start : start + _AT_ONCE]
            yield from self._entries(f"{condition} IN ({', '.join('?' * len(part))}){end}", *before, *part)

    def _entries(self, condition: str, *values: object) -> tuple[Entry, ...]:
        return self.cache.entries(condition, *values, drafts=self.drafts)

    def _first(self, condition: str, *values: object) -> RunEntry | None:
        found = runs_in(self.cache.entries(condition, *values, drafts=self.drafts, limit=1))
        return found[0] if found else None


@dataclass(frozen=True)
class _IndexSource:
    """Where the query cache has entries from: Git."""

    project: Project

    def batches(self, index: str | None) -> Iterator[Batch]:
        if index is None:
            return iter(())
        repository = self.project.repository
        blobs = repository.blob_ids(index, "")
        paths = sorted(path for path in blobs if path.startswith(ENTRY_FOLDERS))
        if len(paths) < _MANY:
            return batches(self._stored([(blobs[path], path) for path in paths]))
        return _told(self._made_apart(paths, blobs), len(paths))

    def _made_apart(self, paths: Sequence[str], blobs: Mapping[str, str]) -> Iterator[Batch]:
        """Batches that further processes make, of what Git puts into files for them; the files are gone afterwards."""
        from cd4ml.gateways.envelopes import Readers

        repository = self.project.repository
        with ExitStack() as stack:
            try:
                spools = [stack.enter_context(_spool(self.project.private)) for _ in range(_SPOOLS)]
                readers = stack.enter_context(Readers([spool.fileno() for spool in spools], _judged))  # load meanwhile
                kept = repository.in_stored_order(blobs[path] for path in paths)
                places = dict(zip(kept, repository.put_many(kept, spools), strict=True))
            except OSError:  # such as a full disk
                readers = None
            if readers is not None:
                runs = [path for path in paths if run_folder(path)]
                others = [path for path in paths if not run_folder(path)]
                yield from readers.batches((path, blobs[path], places[blobs[path]]) for path in (*others, *runs))
                return
        yield from batches(self._stored([(blobs[path], path) for path in paths]))

    def changes(self, before: str | None, after: str | None) -> Changes | None:
        if after is None:
            return None
        if before is None:
            blobs = self.project.repository.blob_ids(after, "")
            paths = sorted(path for path in blobs if path.startswith(ENTRY_FOLDERS))
            return Changes(tuple(self._stored([(blobs[path], path) for path in paths])))
        repository = self.project.repository
        try:
            forward = repository.is_ancestor(before, after)
            if not forward and not repository.is_ancestor(after, before):
                return None
            changed = repository.changed_blobs(before, after)
        except ToolError:  # the index that was remembered is no longer here
            return None
        places = {path: both for path, both in sorted(changed.items()) if path.startswith(ENTRY_FOLDERS)}
        for path, (old, new) in places.items():
            if (old and new) or (old if forward else new):
                raise IntegrityError(f"{INDEX_BRANCH}: {path}: was {'changed' if old and new else 'taken out'}")
        added = self._stored([(new, path) for path, (_, new) in places.items() if new])
        gone = tuple(PurePosixPath(path).stem.rpartition("-")[2] for path, (old, _) in places.items() if old)
        return Changes(tuple(added), gone)

    def read(self, places: Sequence[tuple[str, str]]) -> Iterator[Entry]:
        if len(places) < _MANY:
            return (stored.entry for stored in self._stored(places))
        path_of = dict(places)
        kept = self.project.repository.in_stored_order(path_of)
        found = {stored.blob: stored.entry for stored in self._stored([(blob, path_of[blob]) for blob in kept])}
        return (found[blob] for blob, _ in places)

    def speaking_of(self, index: str, text: bytes) -> Iterator[Entry]:
        repository = self.project.repository
        path_of = {blob: path for path, blob in repository.blob_ids(index, "").items() if run_folder(path)}
        kept = repository.in_stored_order(path_of) if len(path_of) >= _MANY else path_of
        for path, data in self._files([(blob, path_of[blob]) for blob in kept]):
            if text in data and (entry := _judged(data, path)) is not None:
                yield entry

    def judge(self, ref: str, commit: str, number: int) -> Entry | None:
        taken = fold((), [read_landed(self.project, ref, commit)], number).entries
        return taken[0] if taken else None

    def _stored(self, places: Sequence[tuple[str, str]]) -> Iterator[Stored]:
        blobs = {path: blob for blob, path in places}
        for path, data in self._files(places):
            if (entry := _judged(data, path)) is not None:
                yield Stored(entry, blobs[path])

    def _files(self, places: Sequence[tuple[str, str]]) -> Iterator[tuple[str, bytes]]:
        read = self.project.repository.read_many([blob for blob, _ in places])
        for _, path in places:
            try:
                yield path, next(read)
            except IntegrityError as error:
                raise IntegrityError(f"{INDEX_BRANCH}: {path}: {error}") from error


def _spool(folder: Path) -> IO[bytes]:
    """A file without a name there, or where temporary files are kept if that folder can only be read."""
    try:
        return TemporaryFile(dir=folder)
    except OSError:
        return TemporaryFile()


def _told(made: Iterable[Batch], count: int) -> Iterator[Batch]:
    """The same, saying on the way how many of the entries are done."""
    done = 0
    for batch in made:
        _PROGRESS.info("reading the index: %d of %d entries", done, count)
        yield batch
        done += len(batch.entries)
    _PROGRESS.info("reading the index: %d of %d entries", count, count)


def _judged(data: bytes, path: str) -> Entry | None:
    """An entry of the index; nothing for a later version's record, which is kept as it is. Raises IntegrityError."""
    try:
        return read_envelope(data, path)
    except NewerSchemaError:
        return None
    except IntegrityError as error:
        raise IntegrityError(f"{INDEX_BRANCH}: {error}") from error


def read_entries(project: Project, index_commit: str | None) -> tuple[Entry, ...]:
    """Every entry of an index commit that this version can read.

    Raises IntegrityError naming the file that is not what it says.
    """
    if index_commit is None:
        return ()
    files = project.repository.read_tree(index_commit).items()
    entries = (_judged(data, path) for path, data in files if path.startswith(ENTRY_FOLDERS))
    return tuple(entry for entry in entries if entry is not None)


def read_landed(project: Project, ref: str, commit: str) -> Landed:
    """What one landing ref holds (or would hold), as hostile input for the fold to judge."""
    repository = project.repository
    try:
        info = repository.over_parent(commit)
        data = repository.file_at(info.tree, RECORD_PATH, LARGEST_RECORD) or b""
    except (RepositoryError, ToolError, IntegrityError):
        return Landed(ref, commit, (), (), b"", "")  # which the fold refuses, and names
    return Landed(ref, commit, info.parents, info.changed, data, info.committer)


def claimed_id(project: Project, commit: str) -> str:
    """The id of the record that a commit says it holds (``""``: none), believed by nobody yet."""
    try:
        data = project.repository.read_blob(commit, RECORD_PATH, LARGEST_RECORD)
    except (RepositoryError, ToolError, IntegrityError):
        return ""
    told = parse_json(data) if data is not None else None
    name = told.get("id") if isinstance(told, dict) else None
    return name if isinstance(name, str) else ""


def erased_in(project: Project, index: str | None, ids: Collection[str] | None = None) -> frozenset[str]:
    """Those of these records (of all, without ``ids``) that an index says were erased: they are not taken in again.

    Read are the index's removals alone. Raises IntegrityError when one of them is not here.
    """
    if index is None or (ids is not None and not ids):
        return frozenset()
    blobs = project.repository.blob_ids(index, "removals")
    marks = None if ids is None else [one.encode() for one in ids]
    found = set()
    for path, data in zip(blobs, project.repository.read_many(list(blobs.values())), strict=True):
        if b'"run"' not in data or (marks is not None and not any(mark in data for mark in marks)):
            continue
        try:
            record = parse_envelope(data, path).record
        except IntegrityError:
            continue  # not for a fold to judge: `cd4ml verify` names it
        if isinstance(record, RemovalRecord) and record.what == "run" and (ids is None or record.run in ids):
            found.add(record.run)
    return frozenset(found)
