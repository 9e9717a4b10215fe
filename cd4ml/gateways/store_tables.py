"""The tables of the query cache, and the checksums by which a reader knows what a writer wrote."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import sqlite3
import sys
import zlib
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import fields
from functools import lru_cache
from typing import Any

import orjson

from cd4ml.index.paths import Path, path_text
from cd4ml.index.rows import Row
from cd4ml.index.sql import COLUMNS, OF_BRANCH
from cd4ml.spec.fingerprint import COMPONENTS

INDEX, LANDING, DRAFT = 0, 1, 2
"""Where an entry comes from: the index, a landing ref that is not folded yet, a record that is kept here alone."""

_FORMAT = 6
"""To be raised when what the columns mean changes and their names do not."""

# In quotes, since "commit" is a word of SQL.
ROW_COLUMNS = (*COLUMNS, *(f"components.{name}" for name in COMPONENTS), "fold")
_COLUMNS = ", ".join(f'"{name}"' for name in ROW_COLUMNS)
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
    f"CREATE TABLE run (position INTEGER PRIMARY KEY, own INTEGER, {_COLUMNS}, said TEXT)",
    "CREATE TABLE doc (position INTEGER PRIMARY KEY, content BLOB, parts BLOB, seal INTEGER)",
    f'CREATE TABLE lifecycle (branch TEXT, "commit" TEXT, {_OF_BRANCH}, PRIMARY KEY (branch, "commit")) WITHOUT ROWID',
    "CREATE TABLE fragment (number INTEGER PRIMARY KEY, name BLOB, path TEXT, content BLOB)",
    "CREATE TABLE part (fragment INTEGER, first INTEGER, positions TEXT, PRIMARY KEY (fragment, first)) WITHOUT ROWID",
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
IN_DOC = tuple(one.name for one in fields(Row))
"""What a row's JSON has: it is stored whole, in a fraction of the time that columns take to be read."""

STATEMENTS = frozenset((*TABLES, *INDEXES))
LAYOUT = zlib.crc32("\n".join((str(_FORMAT), sys.byteorder, *TABLES, *INDEXES, *IN_DOC)).encode())

DAMAGE = (sqlite3.DatabaseError, ValueError, TypeError)
"""What reading a file with other bytes than were written may raise: SQLite's complaints, and those of decoders."""

_MARKS = 500


def encode(value: Any) -> bytes:
    """A value as compact JSON. Raises TypeError for what JSON does not know."""
    try:
        return orjson.dumps(value, default=dict)
    except TypeError:  # a whole number beyond 64 bits, which no record holds
        return _SLOWER(value).encode()


def decode(text: bytes) -> Any:
    """Its inverse. Raises ValueError for what is no JSON."""
    try:
        return orjson.loads(text)
    except ValueError:  # as above: it may be
        return json.loads(text)


_SLOWER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=dict).encode


def fragment_name(path: Path, content: bytes) -> bytes:
    """The name of a fragment: a digest of where it lies in a row's JSON and what is there."""
    return _name(path_text(path).encode(), content)


def _name(lies_at: bytes, content: bytes) -> bytes:
    return hashlib.blake2b(lies_at + b"\0" + content, digest_size=16).digest()


def packed_numbers(numbers: Iterable[int]) -> bytes:
    """The numbers of fragments as a row keeps them: 32 bits each."""
    return array("I", numbers).tobytes()


def unpacked_numbers(packed: bytes) -> array[int]:
    """Its inverse. Raises ValueError for other bytes, TypeError for what is none."""
    numbers = array("I")
    numbers.frombytes(packed)
    return numbers


def positions_text(positions: list[int]) -> str:
    """The positions of rows that have a fragment, as SQLite's ``json_each`` reads them."""
    return orjson.dumps(positions).decode()


def seal(position: int, parts: bytes, content: bytes) -> int:
    """A checksum over a row's number, its fragments and the JSON that is its own."""
    return zlib.crc32(parts, zlib.crc32(content, position & 0xFFFFFFFF))


@contextlib.contextmanager
def without_collection() -> Iterator[None]:
    """Hundreds of thousands of small objects, none of them in a cycle: looking for cycles would take half the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def column(database: sqlite3.Connection, sql: str, *values: Any) -> list[Any]:
    """The first value of every row that is found."""
    return [found[0] for found in database.execute(sql, values)]


def fragments(database: sqlite3.Connection, numbers: Iterable[int]) -> dict[int, tuple[Path, Any]]:
    """By number where fragments lie in a row's JSON, and their values.

    Raises DatabaseError for one that was changed.
    """
    wanted = list(dict.fromkeys(numbers))
    found: dict[int, tuple[Path, Any]] = {}
    with contextlib.suppress(*DAMAGE):  # then some are not found
        for start in range(0, len(wanted), _MARKS):
            part = wanted[start : start + _MARKS]
            sql = f"SELECT number, name, path, content FROM fragment WHERE number IN ({', '.join('?' * len(part))})"  # noqa: S608  # marks only
            for number, name, written, content in database.execute(sql, part):
                path, lies_at = _path(written)
                if name == _name(lies_at, content):
                    found[number] = path, decode(content)
    if len(found) != len(wanted):
        raise sqlite3.DatabaseError("a part of a row is not what was written")
    return found


@lru_cache(maxsize=1000)
def _path(written: str) -> tuple[Path, bytes]:
    path = tuple(decode(written.encode()))
    return path, path_text(path).encode()
