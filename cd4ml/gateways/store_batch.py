"""Entries as rows for the tables of the query cache, many at a time; no database is needed to make them.

So a further process can make them of what it has read (``envelopes``), and the process that writes has little left to
do. Numbers in a batch are its own: an entry, a row and a fragment is known by its place in it.
"""

from __future__ import annotations

import itertools
import marshal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

from cd4ml.gateways.store_tables import INDEX, encode, fragment_name, packed_numbers
from cd4ml.index.history import ExperimentEntry, ImportEntry, RemovalEntry, RunEntry
from cd4ml.index.paths import Path
from cd4ml.index.record import Entry, ExperimentRecord, ImportRecord, RemovalRecord, RunRecord
from cd4ml.index.rows import Made, Questions, Row
from cd4ml.index.sql import (
    SHARED_GROUPS,
    Numbers,
    Values,
    column_values,
    leaf_rows,
    take_own,
)
from cd4ml.spec.fingerprint import COMPONENTS

WITHOUT_REFERENCES = 2
"""The version of marshal's format that does not look for what it has written before: hardly larger here, and sooner."""
_ROWS_AT_ONCE = 2000


@dataclass(frozen=True)
class Stored:
    """An entry and where it is kept: the id of its blob in the index, or nothing for one that is not folded yet."""

    entry: Entry
    blob: str = ""
    origin: int = INDEX


Fragment = tuple[bytes, str, bytes, tuple[tuple[str, int, Any], ...]]
"""Name, path and content (both as JSON), and its leaves: written path, kind, value."""

Fragments = dict[Path, dict[Any, Fragment]]
"""By path and value."""


OfBatch = dict[str, dict[Any, int]]
"""By name and value, the numbers of fragments in a batch."""

_HELD_WHOLE = tuple(group for group in SHARED_GROUPS if group != "params")
_held_whole = itemgetter(*_HELD_WHOLE)


@dataclass
class Batch:
    """Rows for the tables. ``answers`` are (run id, entry), ``rows`` (columns, content, numbers of fragments)."""

    entries: list[tuple[Any, ...]] = field(default_factory=list)
    answers: list[tuple[str, int]] = field(default_factory=list)
    fragments: list[Fragment] = field(default_factory=list)
    rows: list[tuple[tuple[Any, ...], bytes, bytes]] = field(default_factory=list)
    own: Values = field(default_factory=dict)
    made: Fragments = field(default_factory=dict, repr=False)
    """What other batches of this process have made; to be shared by them, and to be forgotten at any time."""
    _own_numbers: Numbers = field(default_factory=dict, repr=False)
    _of_groups: OfBatch = field(default_factory=dict, repr=False)
    _of_params: OfBatch = field(default_factory=dict, repr=False)
    _together: dict[bytes, tuple[tuple[int, ...], dict[str, None]]] = field(default_factory=dict, repr=False)
    """By the values of all groups that are held whole: the numbers of their fragments, and the groups that have one."""

    def packed(self) -> bytes:
        """The batch as bytes, for another process of this version."""
        return marshal.dumps((self.entries, self.answers, self.fragments, self.rows, self.own), WITHOUT_REFERENCES)

    @staticmethod
    def unpacked(data: bytes) -> Batch:
        """Its inverse. Raises ValueError, EOFError or TypeError for bytes that are none."""
        return Batch(*marshal.loads(data))  # noqa: S302  # of a process that this one started

    def entry(self, stored: Stored) -> None:
        """Take in a row for an entry."""
        for run in names(stored.entry):
            self.answers.append((run, len(self.entries)))
        self.entries.append(_entry_row(stored))

    def row(self, row: Row, *, own: bool) -> None:
        """Take in a row, and what of it is new to the batch."""
        doc = row.as_json()
        take_own(self.own, self._own_numbers, len(self.rows), doc)
        columns = (int(own), *column_values(doc))
        parts = self._fragments(doc)
        self.rows.append((columns, encode(doc), parts))

    def _fragments(self, doc: dict[str, Any]) -> bytes:
        """The packed numbers of a row's fragments in the batch; they are taken out of its JSON."""
        whole = _held_whole(doc)
        together = _packed(whole)
        known = self._together.get(together)
        if known is None:
            known = self._together[together] = self._of_whole(whole)
        numbers, taken_out = known
        found = list(numbers)
        for name, inner in (doc["params"] or {}).items():
            # a text is its own key: the others are bytes
            key = inner if type(inner) is str else _packed(inner)
            try:
                found.append(self._of_params[name][key])
            except KeyError:
                found.append(self._new(self._of_params, name, key, ("params", name), inner))
        doc["params"] = None if doc["params"] else doc["params"]
        doc.update(taken_out)
        return packed_numbers(found)

    def _of_whole(self, values: Iterable[Any]) -> tuple[tuple[int, ...], dict[str, None]]:
        found: dict[str, int] = {}
        for group, value in zip(_HELD_WHOLE, values, strict=True):
            if value:
                key = _packed(value)
                of_group = self._of_groups.get(group, {})
                found[group] = (
                    of_group[key] if key in of_group else self._new(self._of_groups, group, key, (group,), value)
                )
        return tuple(found.values()), dict.fromkeys(found)

    def _new(self, known: OfBatch, name: str, key: Any, path: Path, value: Any) -> int:
        """The number of a fragment that is new to the batch."""
        of_path = self.made.setdefault(path, {})
        fragment = of_path.get(key)
        if fragment is None:
            fragment = of_path[key] = _fragment(path, value)
        number = known.setdefault(name, {})[key] = len(self.fragments)
        self.fragments.append(fragment)
        return number


def _fragment(path: Path, value: Any) -> Fragment:
    content = encode(value)
    leaves = tuple(sorted(leaf_rows(path, value), key=repr))
    return fragment_name(path, content), encode(path).decode(), content, leaves


def _packed(value: Any) -> bytes:
    """Bytes that are equal for equal values alone, in a tenth of the time that JSON takes."""
    try:
        return marshal.dumps(value, WITHOUT_REFERENCES)
    except ValueError:  # a mapping that is no dict
        return encode(value)


def _entry_row(stored: Stored) -> tuple[Any, ...]:
    record, order = stored.entry.record, stored.entry.fold
    body = record.body
    shared = (record.id, body["kind"], stored.origin, order, stored.blob)
    match record:
        case RunRecord():
            parts = map(bytes.fromhex, map(record.components.__getitem__, COMPONENTS))
            return (*shared, record.fingerprint, record.branch, record.commit, None, int(record.succeeded), *parts)
        case ExperimentRecord():
            where = (record.fingerprint, record.branch, record.commit, body["merge_commit"], None)
            return (*shared, *where, *[None] * len(COMPONENTS))
        case _:
            return (*shared, *[None] * (5 + len(COMPONENTS)))


def names(entry: Entry) -> tuple[str, ...]:
    """Ids of the runs that a record speaks of."""
    if isinstance(entry.record, ExperimentRecord):
        return tuple({run for run in entry.record.answer.values() if run is not None})
    return (entry.record.run,) if isinstance(entry.record, RemovalRecord) else ()


# ── of a whole index ─────────────────────────────────────────────────────────────────────────────────────────────

Ran = tuple[str, str, str]
"""Of a run: its id, and the branch and commit that it is of."""


class Others:
    """What is no run, of a whole index: with it, the rows of any of its runs can be made."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._known: set[str] = set()
        self._of_commit: dict[tuple[str, str], list[Entry]] = {}
        self._claiming: dict[tuple[str, str], set[tuple[str, str]]] = {}
        self._naming: dict[str, list[Entry]] = {}

    def add(self, entry: Entry) -> None:
        """Take one in. All are to be there before the first question."""
        self._entries.append(entry)
        for run in names(entry):
            self._naming.setdefault(run, []).append(entry)
        if isinstance(entry.record, ExperimentRecord):
            key = (entry.record.branch, entry.record.commit)
            self._of_commit.setdefault(key, []).append(entry)
            if merge := entry.record.body["merge_commit"]:
                self._claiming.setdefault((key[0], merge), set()).add(key)

    def speaking_of(self, runs: Iterable[Ran]) -> list[Entry]:
        """All that the rows of these runs are made of beside themselves, each once."""
        found: dict[str, Entry] = {}
        keys: set[tuple[str, str]] = set()
        for run, branch, commit in runs:
            keys.add((branch, commit))
            keys.update(self._claiming.get((branch, commit), ()))
            for entry in self._naming.get(run, ()):
                found[entry.record.id] = entry
                if isinstance(entry.record, ExperimentRecord):
                    keys.add((entry.record.branch, entry.record.commit))
            self._known.add(run)
        for key in keys:
            found.update((entry.record.id, entry) for entry in self._of_commit.get(key, ()))
        return list(found.values())

    def questions(self) -> Questions:
        """What all of them ask."""
        return questions_of(self._entries)

    def without_run(self) -> Iterator[Batch]:
        """The rows of commits that none of the runs answers that were asked for, and those of imports."""
        questions = self.questions()
        yield from _in_batches(questions.rows_without_run(self._known, {}))
        imports = (one for one in in_order(self._entries) if isinstance(one.record, ImportRecord))
        made = (questions.row_of_import(ImportEntry(one, one.record)) for one in imports)  # type: ignore[arg-type]  # asked above
        yield from _in_batches(Made(row, own=True) for row in made)


def batches(entries: Iterable[Stored]) -> Iterator[Batch]:
    """The whole of an index, given what is no run first and then all runs of a fingerprint together.

    No more than what is no run, and the runs of one fingerprint, is held in memory at a time.
    """
    others = Others()
    questions: Questions | None = None
    batch = Batch()
    for fingerprint, same in itertools.groupby(entries, key=_fingerprint):
        found = list(same)
        for stored in found:
            batch.entry(stored)
            if fingerprint is None:
                others.add(stored.entry)
        if fingerprint is not None:
            questions = questions or others.questions()
            runs = runs_of(stored.entry for stored in found)
            others.speaking_of((run.run.id, run.run.branch, run.run.commit) for run in runs)
            for made in questions.rows_of(runs, {}):
                batch.row(made.row, own=made.own)
        if len(batch.entries) >= _ROWS_AT_ONCE:
            yield batch
            batch = Batch(made=batch.made)
    yield batch
    yield from others.without_run()


def batch_of_runs(stored: Iterable[Stored], speaking: Iterable[Entry], made: Fragments | None = None) -> Batch:
    """The entries and rows of runs, all of a fingerprint together; ``speaking`` is what ``Others`` says of them."""
    batch = Batch(made={} if made is None else made)
    questions = questions_of(speaking)
    for _, same in itertools.groupby(stored, key=_fingerprint):
        found = list(same)
        for one in found:
            batch.entry(one)
        for row in questions.rows_of(runs_of(one.entry for one in found), {}):
            batch.row(row.row, own=row.own)
    return batch


def _in_batches(made: Iterable[Made]) -> Iterator[Batch]:
    batch = Batch()
    for one in made:
        batch.row(one.row, own=one.own)
        if len(batch.rows) >= _ROWS_AT_ONCE:
            yield batch
            batch = Batch()
    yield batch


def _fingerprint(stored: Stored) -> str | None:
    record = stored.entry.record
    return record.fingerprint if isinstance(record, RunRecord) else None


def in_order(entries: Iterable[Entry]) -> list[Entry]:
    """Entries in fold order."""
    return sorted(entries, key=lambda entry: entry.order)


def runs_of(entries: Iterable[Entry]) -> list[RunEntry]:
    """Those that hold a run, in fold order."""
    return [RunEntry(one, one.record) for one in in_order(entries) if isinstance(one.record, RunRecord)]


def questions_of(entries: Iterable[Entry]) -> Questions:
    """What experiment records and removals among these ask."""
    ordered = in_order(entries)
    return Questions.of(
        [ExperimentEntry(one, one.record) for one in ordered if isinstance(one.record, ExperimentRecord)],
        [RemovalEntry(one, one.record) for one in ordered if isinstance(one.record, RemovalRecord)],
    )
