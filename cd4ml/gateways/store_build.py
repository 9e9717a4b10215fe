"""The tables of the query cache: made whole from a stream of entries, or brought up to date by what changed.

Both ways give the same rows: a change recomputes exactly the rows that it can reach (``_Reach``), from the records
that these rows are made of, by the same pure functions (``index.rows``).
"""

from __future__ import annotations

import gc
import hashlib
import itertools
import json
import marshal
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any

from cd4ml.index.fold import parse_envelope, stored_path
from cd4ml.index.history import ExperimentEntry, ImportEntry, RemovalEntry, RunEntry
from cd4ml.index.paths import Path, path_text
from cd4ml.index.record import Entry, ExperimentRecord, ImportRecord, RemovalRecord, RunRecord
from cd4ml.index.rows import Made, Questions, Row
from cd4ml.index.sql import COLUMNS, OF_BRANCH, SHARED_GROUPS, column_values, leaf_rows, own_leaves, parts_of

INDEX, LANDING, DRAFT = 0, 1, 2
"""Where an entry comes from: the index, a landing ref that is not folded yet, a record that is kept here alone."""

COMPONENTS = ("spec", "code", "data", "pipeline", "env")

# In quotes, since "commit" is a word of SQL.
_COLUMNS = ", ".join(f'"{name}"' for name in COLUMNS)
_OF_BRANCH = ", ".join(f'"{name}"' for name in OF_BRANCH)
TABLES = (
    "CREATE TABLE about (name TEXT PRIMARY KEY, value) WITHOUT ROWID",
    (
        "CREATE TABLE entry (number INTEGER PRIMARY KEY, id TEXT, kind TEXT, origin INTEGER, fold INTEGER, blob TEXT,"
        ' fingerprint TEXT, branch TEXT, "commit" TEXT, merge TEXT, succeeded INTEGER,'
        " spec BLOB, code BLOB, data BLOB, pipeline BLOB, env BLOB)"
    ),
    "CREATE TABLE answer (run TEXT, number INTEGER, PRIMARY KEY (run, number)) WITHOUT ROWID",
    (
        'CREATE TABLE landed (ref TEXT, "commit" TEXT, origin INTEGER, id TEXT, envelope BLOB,'
        ' PRIMARY KEY (ref, "commit")) WITHOUT ROWID'
    ),
    f"CREATE TABLE run (position INTEGER PRIMARY KEY, own INTEGER, {_COLUMNS}, fold INTEGER, said TEXT)",
    "CREATE TABLE doc (position INTEGER PRIMARY KEY, content TEXT, parts TEXT, seal INTEGER)",
    f'CREATE TABLE lifecycle (branch TEXT, "commit" TEXT, {_OF_BRANCH}, PRIMARY KEY (branch, "commit")) WITHOUT ROWID',
    "CREATE TABLE fragment (number INTEGER PRIMARY KEY, name BLOB, path TEXT, content TEXT)",
    "CREATE TABLE part (fragment INTEGER, position INTEGER, PRIMARY KEY (fragment, position)) WITHOUT ROWID",
    "CREATE TABLE place (number INTEGER PRIMARY KEY, path TEXT UNIQUE)",
    (
        "CREATE TABLE leaf (place INTEGER, value, fragment INTEGER, kind INTEGER,"
        " PRIMARY KEY (place, value, fragment, kind)) WITHOUT ROWID"
    ),
    (
        "CREATE TABLE own (place INTEGER, value, position INTEGER, kind INTEGER,"
        " PRIMARY KEY (place, value, position)) WITHOUT ROWID"
    ),
)
INDEXES = (
    "CREATE UNIQUE INDEX entry_id ON entry (id)",
    "CREATE INDEX entry_fingerprint ON entry (fingerprint, fold, id) WHERE kind = 'run'",
    'CREATE INDEX entry_commit ON entry (branch, "commit")',
    "CREATE INDEX entry_merge ON entry (branch, merge) WHERE merge IS NOT NULL",
    "CREATE INDEX entry_spec ON entry (spec) WHERE spec IS NOT NULL",
    "CREATE INDEX entry_order ON entry (kind, fold, id)",
    'CREATE INDEX run_order ON run (fold, "id", "branch", "commit", "side")',
    'CREATE INDEX run_id ON run ("id")',
    'CREATE INDEX run_fingerprint ON run ("fingerprint")',
    'CREATE INDEX run_branch ON run ("branch", "commit")',
    "CREATE UNIQUE INDEX fragment_name ON fragment (name)",
)
_IN_DOC = tuple(one.name for one in fields(Row) if one.name not in (*COLUMNS, "fold", *OF_BRANCH))
"""What of a row's JSON has no column of its own."""

LAYOUT = zlib.crc32("\n".join((*TABLES, *INDEXES, *_IN_DOC)).encode())

_AT_ONCE = 2000
_MARKS = 500
_SHORT = 64
_SORTED = ("part", "leaf", "own")
"""Tables whose rows come in another order than that of their key: in a build they are sorted once, at the end."""

encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=dict).encode


@dataclass(frozen=True)
class Stored:
    """An entry and where it is kept: the id of its blob in the index, or nothing for one that is not folded yet."""

    entry: Entry
    blob: str = ""
    origin: int = INDEX


Read = Callable[[Sequence[tuple[str, str]]], Iterable[Entry]]
"""Gives the entries of the index at these (blob id, path), in this order."""


# ── rows of entries ──────────────────────────────────────────────────────────────────────────────────────────────


def _entry_row(stored: Stored) -> tuple[Any, ...]:
    record, order = stored.entry.record, stored.entry.fold
    body = record.body
    shared = (record.id, body["kind"], stored.origin, order, stored.blob)
    match record:
        case RunRecord():
            parts = (bytes.fromhex(record.components[name]) for name in COMPONENTS)
            return (*shared, record.fingerprint, record.branch, record.commit, None, int(record.succeeded), *parts)
        case ExperimentRecord():
            where = (record.fingerprint, record.branch, record.commit, body["merge_commit"], None)
            return (*shared, *where, *[None] * len(COMPONENTS))
        case _:
            return (*shared, *[None] * (5 + len(COMPONENTS)))


def _names(entry: Entry) -> tuple[str, ...]:
    """Ids of the runs that a record speaks of."""
    if isinstance(entry.record, ExperimentRecord):
        return tuple({run for run in entry.record.answer.values() if run is not None})
    return (entry.record.run,) if isinstance(entry.record, RemovalRecord) else ()


@dataclass
class Writer:
    """Puts entries and rows into the tables. In bulk, what has to be sorted is kept aside until ``finish``."""

    database: sqlite3.Connection
    bulk: bool
    _pending: dict[str, list[tuple[Any, ...]]] = field(default_factory=dict)
    _numbers: dict[Path, dict[str | bytes, int]] = field(default_factory=dict)
    _places: dict[str, int] = field(default_factory=dict)
    _next: dict[str, Iterator[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for table, column in (("entry", "number"), ("run", "position"), ("fragment", "number"), ("place", "number")):
            (last,) = self.database.execute(f"SELECT coalesce(max({column}), 0) FROM {table}").fetchone()  # noqa: S608  # names from above
            self._next[table] = itertools.count(last + 1)
        if self.bulk:
            for table in _SORTED:
                self.database.execute(f"CREATE TEMP TABLE new_{table} AS SELECT * FROM {table} LIMIT 0")  # noqa: S608  # as above

    def entry(self, stored: Stored) -> None:
        number = next(self._next["entry"])
        self._add("entry", (number, *_entry_row(stored)))
        for run in _names(stored.entry):
            self._add("answer", (run, number))

    def row(self, row: Row, *, own: bool) -> None:
        doc = row.as_json()
        position = next(self._next["run"])
        columns = column_values(doc)
        numbers = [self._fragment(path, value) for path, value in parts_of(doc)]
        self._extend("part", [(number, position) for number in numbers])
        place = self._place
        self._extend("own", [(place(path), value, position, kind) for path, kind, value in own_leaves(doc)])
        for group in SHARED_GROUPS:
            if doc.get(group):
                doc[group] = type(doc[group])()
        content = encode({name: doc[name] for name in _IN_DOC if doc[name] is not None})
        parts = ",".join(map(str, numbers))
        self._add("run", (position, int(own), *columns))
        self._add("doc", (position, content, parts, seal(position, columns[:-1], content, parts)))

    def _fragment(self, path: Path, value: Any) -> int:
        known = self._numbers.setdefault(path, {})
        # a text is its own key: the others are bytes
        packed = value if type(value) is str else _packed(value)
        if len(packed) > _SHORT:
            packed = _name(path, _packed(value))
        number = known.get(packed)
        if number is None:
            number = known[packed] = self._new_fragment(path, value)
        return number

    def _new_fragment(self, path: Path, value: Any) -> int:
        content = encode(value)
        name = _name(path, content.encode())
        found = None if self.bulk else self._one("SELECT number FROM fragment WHERE name = ?", name)
        if found is not None:
            return int(found)
        number = next(self._next["fragment"])
        self._add("fragment", (number, name, encode(path), content))
        for place, kind, leaf in leaf_rows(path, value):
            self._add("leaf", (self._place(place), leaf, number, kind))
        return number

    def _place(self, path: str) -> int:
        number = self._places.get(path)
        if number is None:
            found = None if self.bulk else self._one("SELECT number FROM place WHERE path = ?", path)
            number = next(self._next["place"]) if found is None else int(found)
            if found is None:
                self._add("place", (number, path))
            self._places[path] = number
        return number

    def _one(self, sql: str, value: Any) -> Any:
        row = self.database.execute(sql, (value,)).fetchone()
        return row[0] if row else None

    def _add(self, table: str, row: tuple[Any, ...]) -> None:
        rows = self._pending.setdefault(table, [])
        rows.append(row)
        if len(rows) >= _AT_ONCE:
            self._flush(table)

    def _extend(self, table: str, more: list[tuple[Any, ...]]) -> None:
        rows = self._pending.setdefault(table, [])
        rows += more
        if len(rows) >= _AT_ONCE:
            self._flush(table)

    def _flush(self, table: str) -> None:
        rows = self._pending.get(table)
        if rows:
            into = f"temp.new_{table}" if self.bulk and table in _SORTED else table
            marks = ", ".join("?" * len(rows[0]))
            self.database.executemany(f"INSERT INTO {into} VALUES ({marks})", rows)  # noqa: S608  # names of our tables
            rows.clear()

    def finish(self) -> None:
        """Write what is left."""
        for table in self._pending:
            self._flush(table)
        if self.bulk:
            for table in _SORTED:
                order = "1, 2, 3" if table != "part" else "1, 2"
                self.database.execute(f"INSERT INTO {table} SELECT * FROM temp.new_{table} ORDER BY {order}")  # noqa: S608  # as above
                self.database.execute(f"DROP TABLE temp.new_{table}")


def _packed(value: Any) -> bytes:
    """Bytes that are equal for equal values alone, in a tenth of the time that JSON takes."""
    try:
        return marshal.dumps(value, 2)
    except ValueError:  # a mapping that is no dict
        return encode(value).encode()


def _name(path: Path, data: bytes) -> bytes:
    return hashlib.blake2b(path_text(path).encode() + b"\0" + data, digest_size=16).digest()


def seal(position: int, columns: tuple[Any, ...], content: str, parts: str) -> int:
    """A checksum over all that a row's JSON is made of."""
    return zlib.crc32(f"{position} {columns} {parts} {content}".encode())


def fragments(database: sqlite3.Connection, numbers: Iterable[int]) -> dict[int, tuple[Path, Any]]:
    """Where fragments lie in a row's JSON, and their values. Raises DatabaseError for one that was changed."""
    wanted = list(dict.fromkeys(numbers))
    found: dict[int, tuple[Path, Any]] = {}
    for start in range(0, len(wanted), _MARKS):
        part = wanted[start : start + _MARKS]
        sql = f"SELECT number, name, path, content FROM fragment WHERE number IN ({', '.join('?' * len(part))})"  # noqa: S608  # marks only
        for number, name, written, content in database.execute(sql, part):
            path = tuple(json.loads(written))
            if name == _name(path, content.encode()):
                found[number] = path, json.loads(content)
    if len(found) != len(wanted):
        raise sqlite3.DatabaseError("a part of a row is not what was written")
    return found


# ── the whole ────────────────────────────────────────────────────────────────────────────────────────────────────


def build(database: sqlite3.Connection, entries: Iterable[Stored]) -> None:
    """Fill an empty database with the entries of an index, given in the order of their paths.

    In that order runs come last, all of one fingerprint together: no more than these and what is not a run is
    held in memory at a time.
    """
    for statement in TABLES:
        database.execute(statement)
    writer = Writer(database, bulk=True)
    with _without_collection():
        _build(writer, entries)
    writer.finish()
    for statement in INDEXES:
        database.execute(statement)


def build_rows(database: sqlite3.Connection, rows: Iterable[Row]) -> None:
    """Fill an empty database with rows alone."""
    for statement in (*TABLES, *INDEXES):
        database.execute(statement)
    writer = Writer(database, bulk=True)
    for row in rows:
        writer.row(row, own=True)
        when = row.lifecycle_at and row.lifecycle_at.removesuffix("Z")
        became = (row.branch, row.commit, row.lifecycle, row.lifecycle_by, when)
        database.execute("INSERT OR REPLACE INTO lifecycle VALUES (?, ?, ?, ?, ?)", became)
    writer.finish()


def _build(writer: Writer, entries: Iterable[Stored]) -> None:
    others: list[Entry] = []
    known: set[str] = set()
    questions: Questions | None = None
    for fingerprint, same in itertools.groupby(entries, key=_fingerprint):
        found = list(same)
        for stored in found:
            writer.entry(stored)
        if fingerprint is None:
            others += [stored.entry for stored in found]
            continue
        questions = questions or _questions(others)
        runs = _runs(stored.entry for stored in found)
        known.update(run.run.id for run in runs)
        _write(writer, questions.rows_of(runs, {}))
    questions = questions or _questions(others)
    _write(writer, questions.rows_without_run(known, {}))
    for one in _sorted(others):
        if isinstance(one.record, ImportRecord):
            writer.row(questions.row_of_import(ImportEntry(one, one.record)), own=True)


def _write(writer: Writer, made: Iterable[Made]) -> None:
    for one in made:
        writer.row(one.row, own=one.own)


def _fingerprint(stored: Stored) -> str | None:
    record = stored.entry.record
    return record.fingerprint if isinstance(record, RunRecord) else None


def _sorted(entries: Iterable[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda entry: entry.order)


def _runs(entries: Iterable[Entry]) -> list[RunEntry]:
    return [RunEntry(one, one.record) for one in _sorted(entries) if isinstance(one.record, RunRecord)]


def _questions(entries: Iterable[Entry]) -> Questions:
    ordered = _sorted(entries)
    return Questions.of(
        [ExperimentEntry(one, one.record) for one in ordered if isinstance(one.record, ExperimentRecord)],
        [RemovalEntry(one, one.record) for one in ordered if isinstance(one.record, RemovalRecord)],
    )


@contextmanager
def _without_collection() -> Iterator[None]:
    """Hundreds of thousands of small objects, none of them in a cycle: looking for cycles would take half the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


# ── what changed ─────────────────────────────────────────────────────────────────────────────────────────────────

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
                    self.runs.update((entry.record.id, *_names(entry)))
        for fingerprint in fingerprints:
            self.runs.update(_column(database, _SIBLINGS, fingerprint))
        for key in made_for:
            self.runs.update(_column(database, _MADE_FOR, *key))
        for name in self.runs:
            self.keys.update(database.execute(_ASKING, (name,)).fetchall())

    def drop(self, database: sqlite3.Connection) -> None:
        """Delete the rows."""
        positions = [position for run in self.runs for position in _column(database, _OWN_ROWS, run)]
        positions += [position for key in self.keys for position in _column(database, _ROWS_OF_COMMIT, *key)]
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


def _column(database: sqlite3.Connection, sql: str, *values: Any) -> list[Any]:
    return [found for (found,) in database.execute(sql, values)]


def _merges_of(database: sqlite3.Connection, key: _Key) -> set[_Key]:
    sql = 'SELECT branch, merge FROM entry WHERE branch = ? AND "commit" = ? AND merge IS NOT NULL'
    return set(database.execute(sql, key).fetchall())


def change(database: sqlite3.Connection, removed: Sequence[Entry], added: Sequence[Stored], read: Read) -> None:
    """Take entries out and in, and bring the rows that this can reach up to date."""
    reach = _Reach()
    reach.add(database, [*removed, *(stored.entry for stored in added)])
    for entry in removed:
        _drop_entry(database, entry.record.id)
    writer = Writer(database, bulk=False)
    for stored in added:
        writer.entry(stored)
    writer.finish()
    reach.add(database, [*removed, *(stored.entry for stored in added)])
    reach.drop(database)
    _Context(database, read, {stored.entry.record.id: stored.entry for stored in added}).write(reach, writer)
    writer.finish()


def _drop_entry(database: sqlite3.Connection, record_id: str) -> None:
    for number in _column(database, "SELECT number FROM entry WHERE id = ?", record_id):
        named = _column(database, _NAMED_BY, number)
        database.executemany("DELETE FROM answer WHERE run = ? AND number = ?", [(run, number) for run in named])
        database.execute("DELETE FROM entry WHERE number = ?", (number,))


_NAMED_BY = "SELECT run FROM answer WHERE number = ?"


@dataclass
class _Context:
    """The records that rows are made of, brought in as they are needed."""

    database: sqlite3.Connection
    read: Read
    at_hand: dict[str, Entry]

    def write(self, reach: _Reach, writer: Writer) -> None:
        """Make the rows within reach."""
        asked = [number for key in reach.keys for number in self._column(_OF_COMMIT, *key)]
        answering = {run for number in asked for run in self._column(_NAMED, number)}
        runs = self._with_siblings({*reach.runs, *answering})
        experiments = dict.fromkeys((*asked, *(number for run in runs.values() for number in self._around(run))))
        removals = [number for name in {*runs, *reach.runs, *answering} for number in self._column(_REMOVALS, name)]
        questions = _questions(load(self.database, [*experiments, *removals], self.read, self.at_hand))
        by_fingerprint: dict[str, list[Entry]] = {}
        for entry in load_by_id(self.database, runs, self.read, self.at_hand):
            by_fingerprint.setdefault(entry.record.body["fingerprint"], []).append(entry)
        made = [one for same in by_fingerprint.values() for one in questions.rows_of(_runs(same), {})]
        made += questions.rows_without_run(runs, {})
        for one in made:
            if (one.row.id in reach.runs) if one.own else ((one.row.branch, one.row.commit) in reach.keys):
                writer.row(one.row, own=one.own)
        self._write_imports(reach, questions, writer)

    def _write_imports(self, reach: _Reach, questions: Questions, writer: Writer) -> None:
        imports = [found for found in reach.runs if self._column(_IS_IMPORT, found)]
        for entry in load_by_id(self.database, imports, self.read, self.at_hand):
            if isinstance(entry.record, ImportRecord):
                writer.row(questions.row_of_import(ImportEntry(entry, entry.record)), own=True)

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
        return _column(self.database, sql, *values)


_FINGERPRINT = "SELECT fingerprint FROM entry WHERE id = ? AND kind = 'run'"
_IS_IMPORT = "SELECT 1 FROM entry WHERE id = ? AND kind = 'import'"


def load_by_id(
    database: sqlite3.Connection, ids: Iterable[str], read: Read, at_hand: dict[str, Entry] | None = None
) -> list[Entry]:
    """The entries of these ids, in this order; those that are not here left out."""
    numbers = [number for one in ids for number in _column(database, "SELECT number FROM entry WHERE id = ?", one)]
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
        numbers = [int(number) for number in parts.split(",") if number]
        fragments.update(numbers)
        database.executemany(
            "DELETE FROM part WHERE fragment = ? AND position = ?", [(one, position) for one in numbers]
        )
        for path, _, value in own_leaves(json.loads(content)):
            where = "place = (SELECT number FROM place WHERE path = ?) AND value = ? AND position = ?"
            database.execute(f"DELETE FROM own WHERE {where}", (path, value, position))  # noqa: S608  # text from above
        for table in ("run", "doc"):
            database.execute(f"DELETE FROM {table} WHERE position = ?", (position,))  # noqa: S608  # names from above
    for number in fragments:
        if not _column(database, "SELECT 1 FROM part WHERE fragment = ? LIMIT 1", number):
            _drop_fragment(database, number)


def _drop_fragment(database: sqlite3.Connection, number: int) -> None:
    sql = "SELECT path, content FROM fragment WHERE number = ?"
    path, content = database.execute(sql, (number,)).fetchone()
    for place, kind, value in leaf_rows(tuple(json.loads(path)), json.loads(content)):
        where = "place = (SELECT number FROM place WHERE path = ?) AND value = ? AND fragment = ? AND kind = ?"
        database.execute(f"DELETE FROM leaf WHERE {where}", (place, value, number, kind))  # noqa: S608  # text from above
    database.execute("DELETE FROM fragment WHERE number = ?", (number,))
