"""Filling the tables of the query cache from batches of rows: all at once, or on top of what is there."""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from cd4ml.gateways.store_batch import Batch
from cd4ml.gateways.store_tables import (
    INDEXES,
    ROW_COLUMNS,
    TABLES,
    column,
    packed_numbers,
    positions_text,
    seal,
    unpacked_numbers,
    without_collection,
)
from cd4ml.index.record import Entry
from cd4ml.index.rows import Row
from cd4ml.index.sql import NUMBER, TEXT, Values

Read = Callable[[Sequence[tuple[str, str]]], Iterable[Entry]]
"""Gives the entries of the index at these (blob id, path), in this order."""

_ENTRY_VALUES = 15
_OWN_AT_ONCE = 50
_MANY_VALUES = 1000
_POSITIONS_AT_ONCE = 400
"""About as many as fill a page of the file."""
_ROW_VALUES = 1 + len(ROW_COLUMNS) + 1


@dataclass
class Writer:
    """Puts batches into the tables. In bulk, what comes in another order than that of its key waits for ``finish``."""

    database: sqlite3.Connection
    bulk: bool
    _numbers: dict[bytes, int] = field(default_factory=dict)
    _places: dict[str, int] = field(default_factory=dict)
    _leaves: list[tuple[Any, ...]] = field(default_factory=list)
    _parts: dict[int, array[int]] = field(default_factory=dict)
    _own: Values = field(default_factory=dict)
    _last: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for table, key in (("entry", "number"), ("run", "position"), ("fragment", "number"), ("place", "number")):
            (self._last[table],) = column(self.database, f"SELECT coalesce(max({key}), 0) FROM {table}")  # noqa: S608  # names from above

    def write(self, batch: Batch) -> None:
        """Put in a batch. What a fragment is called decides whether it is there already."""
        base = self._last["entry"] + 1
        self._put("entry", batch.entries, _ENTRY_VALUES)
        self._insert("answer", [(run, base + number) for run, number in batch.answers])
        numbers = self._fragments(batch)
        position = self._last["run"] + 1
        self._put("run", [row[0] for row in batch.rows], _ROW_VALUES)
        docs = []
        for at, (_, content, parts) in enumerate(batch.rows, position):
            mine = [numbers[number] for number in unpacked_numbers(parts)]
            packed = packed_numbers(mine)
            docs.append((at, content, packed, seal(at, packed, content)))
            for number in mine:
                self._parts[number].append(at)
        self._insert("doc", docs)
        for key, (rows, values) in batch.own.items():
            held = self._own.setdefault(key, ([], []))
            held[0].extend([position + row for row in rows])
            held[1].extend(values)
        if not self.bulk:
            self.finish()

    def _put(self, table: str, rows: list[tuple[Any, ...]], width: int) -> None:
        """Insert rows that get the next numbers."""
        last = self._last[table]
        self._last[table] = last + len(rows)
        marks = ", ".join("?" * (1 + width))
        numbered = ((number, *row) for number, row in enumerate(rows, last + 1))
        self.database.executemany(f"INSERT INTO {table} VALUES ({marks})", numbered)  # noqa: S608  # names of our tables

    def _insert(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        if rows:
            marks = ", ".join("?" * len(rows[0]))
            self.database.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)  # noqa: S608  # as above

    def _fragments(self, batch: Batch) -> list[int]:
        """The number of each fragment of the batch, once all of them are there."""
        new, numbers = [], []
        for name, path, content, leaves in batch.fragments:
            number = self._numbers.get(name)
            if number is None and not self.bulk:
                number = next(iter(column(self.database, "SELECT number FROM fragment WHERE name = ?", name)), None)
            if number is None:
                number = self._last["fragment"] = self._last["fragment"] + 1
                new.append((number, name, path, content))
                self._leaves += [(self._place(place), value, number, kind) for place, kind, value in leaves]
            self._numbers[name] = number
            self._parts.setdefault(number, array("q"))
            numbers.append(number)
        self._insert("fragment", new)
        return numbers

    def _place(self, path: str) -> int:
        number = self._places.get(path)
        if number is None:
            sql = "SELECT number FROM place WHERE path = ?"
            number = None if self.bulk else next(iter(column(self.database, sql, path)), None)
            if number is None:
                number = self._last["place"] = self._last["place"] + 1
                self._insert("place", [(number, path)])
            self._places[path] = number
        return number

    def finish(self) -> None:
        """Write what is left, in the order of its keys."""
        self._insert("leaf", sorted(self._leaves, key=_leaf_order))
        self._leaves.clear()
        self._insert("part", [row for number in sorted(self._parts) for row in _part_rows(number, self._parts[number])])
        self._parts.clear()
        own = sorted((self._place(path), kind, path) for path, kind in self._own)
        for place, kind, path in own:
            positions, values = self._own.pop((path, kind))
            _put_own(self.database, place, kind, _in_order(values, positions, kind))


def _in_order(values: Sequence[Any], positions: Sequence[int], kind: int) -> list[Any]:
    """Values and positions, alternating, the least value first: nearly, of numbers."""
    bound: list[Any] = [None] * (2 * len(values))
    if kind == NUMBER and len(values) > _MANY_VALUES:
        import numpy as np

        places = np.array(values, dtype=float).argsort()
        order, bound[1::2] = places.tolist(), np.array(positions)[places].tolist()
    else:
        order = sorted(range(len(values)), key=values.__getitem__)
        bound[1::2] = [positions[at] for at in order]
    bound[::2] = [values[at] for at in order]
    return bound


def _part_rows(fragment: int, positions: array[int]) -> Iterator[tuple[int, int, str]]:
    for start in range(0, len(positions), _POSITIONS_AT_ONCE):
        some = positions[start : start + _POSITIONS_AT_ONCE]
        yield fragment, some[0], positions_text(some.tolist())


def _put_own(database: sqlite3.Connection, place: int, kind: int, bound: list[Any]) -> None:
    """Insert values and positions, alternating in ``bound``: many by one statement, in half of the time."""
    whole = len(bound) // (2 * _OWN_AT_ONCE) * 2 * _OWN_AT_ONCE
    for count, start, end in ((_OWN_AT_ONCE, 0, whole), (1, whole, len(bound))):
        marks = ", ".join([f"({place}, ?, ?, {kind})"] * count)
        parts = (bound[at : at + 2 * count] for at in range(start, end, 2 * count))
        database.executemany(f"INSERT INTO own VALUES {marks}", parts)  # noqa: S608  # numbers of our own


def _leaf_order(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Nearly that of the table's key: only the time that it takes to write depends on it."""
    place, value, number, kind = row
    is_text = kind == TEXT
    return (place, is_text, value if is_text else "", number if is_text or isinstance(value, bytes) else value, number)


# ── the whole ────────────────────────────────────────────────────────────────────────────────────────────────────


def build(database: sqlite3.Connection, batches: Iterable[Batch]) -> None:
    """Fill an empty database."""
    for statement in TABLES:
        database.execute(statement)
    writer = Writer(database, bulk=True)
    with without_collection():
        for batch in batches:
            writer.write(batch)
        writer.finish()
    for statement in INDEXES:
        database.execute(statement)


def build_rows(database: sqlite3.Connection, rows: Iterable[Row]) -> None:
    """Fill an empty database with rows alone."""
    batch = Batch()
    became = []
    for row in rows:
        batch.row(row, own=True)
        when = row.lifecycle_at and row.lifecycle_at.removesuffix("Z")
        became.append((row.branch, row.commit, row.lifecycle, row.lifecycle_by, when))
    build(database, [batch])
    database.executemany("INSERT OR REPLACE INTO lifecycle VALUES (?, ?, ?, ?, ?)", became)
