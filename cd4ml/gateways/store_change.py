"""The query cache brought up to date by what changed, at the cost of that.

A change recomputes exactly the rows that it can reach (``_Reach``), from the records that these rows are made of, by
the same pure functions as a build: both ways give the same rows.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from cd4ml.gateways.store_batch import Batch, Stored, names, questions_of, runs_of
from cd4ml.gateways.store_build import Read, Writer
from cd4ml.gateways.store_tables import INDEX, column, positions_text, unpacked_numbers
from cd4ml.index.fold import parse_envelope, stored_path
from cd4ml.index.history import ImportEntry
from cd4ml.index.record import Entry, ExperimentRecord, ImportRecord, RunRecord
from cd4ml.index.rows import Questions, Row
from cd4ml.index.sql import Values, leaf_rows, take_own

_Key = tuple[str, str]


@dataclass
class _Reach:
    """The rows that a change can reach: those that runs (and imports) have by themselves, and those of commits."""

    runs: set[str] = field(default_factory=set)
    keys: set[_Key] = field(default_factory=set)

    def add(self, database: sqlite3.Connection, changed: Iterable[Entry]) -> None:
        """Take in what these entries reach in the index as it stands, they themselves in it or not."""
        fingerprints: set[str] = set()
        made_for: set[_Key] = set()
        for entry in changed:
            match entry.record:
                case RunRecord() as run:
                    self.runs.add(run.id)
                    fingerprints.add(run.fingerprint)
                case ExperimentRecord() as asked:
                    key = (asked.branch, asked.commit)
                    self.keys.add(key)
                    made_for |= {key, *_merges_of(database, key), (asked.branch, asked.body["merge_commit"] or "")}
                case _:
                    self.runs.update((entry.record.id, *names(entry)))
        for fingerprint in fingerprints:
            self.runs.update(column(database, _SIBLINGS, fingerprint))
        for key in made_for:
            self.runs.update(column(database, _MADE_FOR, *key))
        for name in self.runs:
            self.keys.update(database.execute(_ASKING, (name,)).fetchall())

    def drop(self, database: sqlite3.Connection) -> None:
        """Delete the rows."""
        positions = [position for run in self.runs for position in column(database, _OWN_ROWS, run)]
        positions += [position for key in self.keys for position in column(database, _ROWS_OF_COMMIT, *key)]
        _drop_rows(database, positions)


_SIBLINGS = "SELECT id FROM entry WHERE fingerprint = ? AND kind = 'run'"
_MADE_FOR = "SELECT id FROM entry WHERE branch = ? AND \"commit\" = ? AND kind = 'run'"
_ASKING = (
    'SELECT entry.branch, entry."commit" FROM answer JOIN entry ON entry.number = answer.number'
    " WHERE answer.run = ? AND entry.kind = 'experiment'"
)
_OWN_ROWS = 'SELECT position FROM run WHERE "id" = ? AND own'
_ROWS_OF_COMMIT = 'SELECT position FROM run WHERE "branch" = ? AND "commit" = ? AND NOT own'
_OF_COMMIT = "SELECT number FROM entry WHERE branch = ? AND \"commit\" = ? AND kind = 'experiment'"
_CLAIMING = 'SELECT branch, "commit" FROM entry WHERE branch = ? AND merge = ? AND merge IS NOT NULL'
_NAMED = "SELECT answer.run FROM answer WHERE answer.number = ?"
_REMOVALS = (
    "SELECT entry.number FROM answer JOIN entry ON entry.number = answer.number"
    " WHERE answer.run = ? AND entry.kind = 'removal'"
)


def _merges_of(database: sqlite3.Connection, key: _Key) -> set[_Key]:
    sql = 'SELECT branch, merge FROM entry WHERE branch = ? AND "commit" = ? AND merge IS NOT NULL'
    return set(database.execute(sql, key).fetchall())


def change(database: sqlite3.Connection, removed: Sequence[Entry], added: Sequence[Stored], read: Read) -> None:
    """Take entries out and in, and bring the rows that this can reach up to date."""
    reach = _Reach()
    reach.add(database, [*removed, *(stored.entry for stored in added)])
    for entry in removed:
        _drop_entry(database, entry.record.id)
    batch = Batch()
    for stored in added:
        batch.entry(stored)
    Writer(database, bulk=False).write(batch)
    reach.add(database, [*removed, *(stored.entry for stored in added)])
    reach.drop(database)
    rows = _Context(database, read, {stored.entry.record.id: stored.entry for stored in added}).rows(reach)
    Writer(database, bulk=False).write(rows)


def _drop_entry(database: sqlite3.Connection, record_id: str) -> None:
    for number in column(database, "SELECT number FROM entry WHERE id = ?", record_id):
        named = column(database, _NAMED_BY, number)
        database.executemany("DELETE FROM answer WHERE run = ? AND number = ?", [(run, number) for run in named])
        database.execute("DELETE FROM entry WHERE number = ?", (number,))


_NAMED_BY = "SELECT run FROM answer WHERE number = ?"


@dataclass
class _Context:
    """The records that rows are made of, brought in as they are needed."""

    database: sqlite3.Connection
    read: Read
    at_hand: dict[str, Entry]

    def rows(self, reach: _Reach) -> Batch:
        """The rows within reach."""
        batch = Batch()
        asked = [number for key in reach.keys for number in self._column(_OF_COMMIT, *key)]
        answering = {run for number in asked for run in self._column(_NAMED, number)}
        runs = self._with_siblings({*reach.runs, *answering})
        experiments = dict.fromkeys((*asked, *(number for run in runs.values() for number in self._around(run))))
        removals = [number for name in {*runs, *reach.runs, *answering} for number in self._column(_REMOVALS, name)]
        questions = questions_of(load(self.database, [*experiments, *removals], self.read, self.at_hand))
        by_fingerprint: dict[str, list[Entry]] = {}
        for entry in load_by_id(self.database, runs, self.read, self.at_hand):
            by_fingerprint.setdefault(entry.record.body["fingerprint"], []).append(entry)
        made = [one for same in by_fingerprint.values() for one in questions.rows_of(runs_of(same), {})]
        made += questions.rows_without_run(runs, {})
        for one in made:
            if (one.row.id in reach.runs) if one.own else ((one.row.branch, one.row.commit) in reach.keys):
                batch.row(one.row, own=one.own)
        for row in self._imports(reach, questions):
            batch.row(row, own=True)
        return batch

    def _imports(self, reach: _Reach, questions: Questions) -> Iterator[Row]:
        imports = [found for found in reach.runs if self._column(_IS_IMPORT, found)]
        for entry in load_by_id(self.database, imports, self.read, self.at_hand):
            if isinstance(entry.record, ImportRecord):
                yield questions.row_of_import(ImportEntry(entry, entry.record))

    def _with_siblings(self, wanted: set[str]) -> dict[str, _Key]:
        """All runs of the fingerprints of these runs, with the branch and commit that they are of."""
        fingerprints = {name for run in wanted for name in self._column(_FINGERPRINT, run)}
        sql = "SELECT id, branch, \"commit\" FROM entry WHERE fingerprint = ? AND kind = 'run'"
        found = (row for name in fingerprints for row in self.database.execute(sql, (name,)))
        return {str(run): (str(branch), str(commit)) for run, branch, commit in found}

    def _around(self, key: _Key) -> Iterator[int]:
        """Numbers of the experiment records that say for which commit of the branch this one was run."""
        yield from self._column(_OF_COMMIT, *key)
        for claiming in set(self.database.execute(_CLAIMING, key).fetchall()):
            yield from self._column(_OF_COMMIT, *claiming)

    def _column(self, sql: str, *values: Any) -> list[Any]:
        return column(self.database, sql, *values)


_FINGERPRINT = "SELECT fingerprint FROM entry WHERE id = ? AND kind = 'run'"
_IS_IMPORT = "SELECT 1 FROM entry WHERE id = ? AND kind = 'import'"


def load_by_id(
    database: sqlite3.Connection, ids: Iterable[str], read: Read, at_hand: dict[str, Entry] | None = None
) -> list[Entry]:
    """The entries of these ids, in this order; those that are not here left out."""
    numbers = [number for one in ids for number in column(database, "SELECT number FROM entry WHERE id = ?", one)]
    return load(database, numbers, read, at_hand)


def load(
    database: sqlite3.Connection, numbers: Sequence[int], read: Read, at_hand: dict[str, Entry] | None = None
) -> list[Entry]:
    """The entries of these numbers, in this order: from the index, or as they landed."""
    known = dict(at_hand or {})
    rows = []
    for number in numbers:
        rows += database.execute(_PLACE_OF, (number,)).fetchall()
    wanted = [(one, blob, stored_path(kind, one, name)) for one, kind, name, blob, origin in rows if origin == INDEX]
    missing = [(one, blob, path) for one, blob, path in wanted if one not in known]
    if missing:
        found = read([(blob, path) for _, blob, path in missing])
        known.update(zip((one for one, _, _ in missing), found, strict=True))
    for one, kind, name, _, origin in rows:
        if origin != INDEX and one not in known:
            (envelope,) = database.execute("SELECT envelope FROM landed WHERE id = ?", (one,)).fetchone()
            known[one] = parse_envelope(envelope, stored_path(kind, one, name))
    return [known[row[0]] for row in rows]


_PLACE_OF = "SELECT id, kind, fingerprint, blob, origin FROM entry WHERE number = ?"


def _drop_rows(database: sqlite3.Connection, positions: Iterable[int]) -> None:
    fragments: set[int] = set()
    for position in dict.fromkeys(positions):
        content, parts = database.execute("SELECT content, parts FROM doc WHERE position = ?", (position,)).fetchone()
        numbers = unpacked_numbers(parts)
        fragments.update(numbers)
        for number in numbers:
            _drop_part(database, number, position)
        own: Values = {}
        take_own(own, {}, position, json.loads(content))
        for path, value in [(path, value) for (path, _), (_, held) in own.items() for value in held]:
            where = "place = (SELECT number FROM place WHERE path = ?) AND value = ? AND position = ?"
            database.execute(f"DELETE FROM own WHERE {where}", (path, value, position))  # noqa: S608  # text from above
        for table in ("run", "doc"):
            database.execute(f"DELETE FROM {table} WHERE position = ?", (position,))  # noqa: S608  # names from above
    for number in fragments:
        if not column(database, "SELECT 1 FROM part WHERE fragment = ? LIMIT 1", number):
            _drop_fragment(database, number)


def _drop_part(database: sqlite3.Connection, fragment: int, position: int) -> None:
    sql = "SELECT first, positions FROM part WHERE fragment = ? AND first <= ? ORDER BY first DESC LIMIT 1"
    first, positions = database.execute(sql, (fragment, position)).fetchone()
    left = [one for one in json.loads(positions) if one != position]
    if left:
        sql = "UPDATE part SET positions = ? WHERE fragment = ? AND first = ?"
        database.execute(sql, (positions_text(left), fragment, first))
    else:
        database.execute("DELETE FROM part WHERE fragment = ? AND first = ?", (fragment, first))


def _drop_fragment(database: sqlite3.Connection, number: int) -> None:
    sql = "SELECT path, content FROM fragment WHERE number = ?"
    path, content = database.execute(sql, (number,)).fetchone()
    for place, kind, value in leaf_rows(tuple(json.loads(path)), json.loads(content)):
        where = "place = (SELECT number FROM place WHERE path = ?) AND value = ? AND fragment = ? AND kind = ?"
        database.execute(f"DELETE FROM leaf WHERE {where}", (place, value, number, kind))  # noqa: S608  # text from above
    database.execute("DELETE FROM fragment WHERE number = ?", (number,))
