"""The query cache: rows of the index in SQLite, for ``cd4ml search``. The one door to ``sqlite3``.

The file can be deleted at any time. It is written whole, beside its place, and renamed into it; it is read
whole and checked, and asked in memory. So processes never wait for each other, a reader never sees half a
file, and a file that is damaged, foreign, of another version, or not writable costs a rebuild and nothing
else. What it holds is a plain SQLite database that any other tool may open.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from cd4ml.index.rows import Row
from cd4ml.index.sql import COLUMNS, Order, Where, column_values, leaf_rows, parts_of

_MAGIC = b"SQLite format 3\0"
# Bytes 60 to 63 of a SQLite file hold its "user version", a number for the application: here a checksum
# over the file with these four bytes zero.
_CHECKSUM = slice(60, 64)

# In quotes, since "commit" is a word of SQL.
_COLUMNS = ", ".join(f'"{name}"' for name in COLUMNS)
_TABLES = (
    "CREATE TABLE about (layout INTEGER, key TEXT)",
    f"CREATE TABLE run (position INTEGER PRIMARY KEY, doc TEXT, {_COLUMNS})",
    "CREATE TABLE fragment (number INTEGER PRIMARY KEY, content TEXT)",
    "CREATE TABLE part (position INTEGER, name TEXT, fragment INTEGER, PRIMARY KEY (position, name)) WITHOUT ROWID",
    "CREATE TABLE place (number INTEGER PRIMARY KEY, path TEXT UNIQUE)",
    "CREATE TABLE leaf (fragment INTEGER, place INTEGER, kind, value, PRIMARY KEY (fragment, place)) WITHOUT ROWID",
)
# A file of another layout is rebuilt.
_LAYOUT = zlib.crc32("\n".join(_TABLES).encode())
_WIDTHS = {"about": 2, "run": 2 + len(COLUMNS), "fragment": 2, "part": 3, "place": 2, "leaf": 4}


class QueryCache:
    """The cache at ``path``, which need not exist.

    An object keeps what it has read or built in memory and does not notice that the file changes; make a new
    one for a new question.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database: sqlite3.Connection | None = None
        self._key = ""

    def state(self) -> str:
        """The key of what the cache holds; empty when there is none, or none that can be trusted."""
        if self._database is None:
            self._load()
        return self._key

    def replace(self, key: str, rows: Iterable[Row]) -> None:
        """Hold these rows, in this order, under this key.

        Writes the file; where that is impossible the rows are held in memory only, and the next process
        builds them again.
        """
        database = _build(key, rows)
        self._forget()
        self._database, self._key = database, key
        with contextlib.suppress(OSError):
            _write(self._path, _image(database))

    def refresh(self, key: str, rows: Callable[[], Iterable[Row]]) -> None:
        """Hold what ``rows`` gives, unless the cache holds that key already; then ``rows`` is not called."""
        if self.state() != key:
            self.replace(key, rows())

    def search(
        self, where: Where | None = None, order_by: Order | None = None, limit: int | None = None
    ) -> list[dict[str, Any]]:
        """The JSON of the rows that match, at most ``limit`` of them.

        They come in the order asked, and otherwise (and between equals) in fold order. Empty when the cache
        holds nothing.
        """
        if self._database is None:
            self._load()
        if self._database is None:
            return []
        sql, parameters = "SELECT run.position, run.doc FROM run", []
        if where is not None:
            sql, parameters = f"{sql} WHERE {where.sql}", [*where.parameters]
        sql += " ORDER BY "
        if order_by is not None:
            sql, parameters = f"{sql}{order_by.sql}, ", [*parameters, *order_by.parameters]
        sql += "run.position LIMIT ?"
        parameters.append(-1 if limit is None else limit)
        return [_whole(self._database, *row) for row in self._database.execute(sql, parameters).fetchall()]

    def paths(self) -> tuple[str, ...]:
        """Every ``metrics.…`` and ``params.…`` path that some row holds, sorted: for completion and hints."""
        if self._database is None:
            self._load()
        if self._database is None:
            return ()
        return tuple(path for (path,) in self._database.execute("SELECT path FROM place ORDER BY path"))

    def _load(self) -> None:
        try:
            image = self._path.read_bytes()
        except OSError:
            return
        if not image.startswith(_MAGIC) or len(image) < _CHECKSUM.stop or image[_CHECKSUM] != _checksum(image):
            return
        database = sqlite3.connect(":memory:", check_same_thread=False)
        try:
            database.deserialize(image)
            layout, key = database.execute("SELECT layout, key FROM about").fetchone()
        except (sqlite3.Error, TypeError, ValueError):
            database.close()
            return
        if layout != _LAYOUT:
            database.close()
            return
        self._database, self._key = database, key

    def _forget(self) -> None:
        if self._database is not None:
            self._database.close()
        self._database, self._key = None, ""


def _build(key: str, rows: Iterable[Row]) -> sqlite3.Connection:
    tables: dict[str, list[tuple[Any, ...]]] = {table: [] for table in _WIDTHS}
    tables["about"].append((_LAYOUT, key))
    fragments: dict[tuple[str, str], int] = {}
    places: dict[str, int] = {}
    for position, row in enumerate(rows):
        doc = row.as_json()
        for name, group, value in parts_of(doc):
            content = (name, _encode(value))
            number = fragments.get(content)
            if number is None:
                number = fragments[content] = len(fragments)
                tables["fragment"].append((number, f"{{{_encode(group)}:{content[1]}}}"))
                tables["leaf"].extend(
                    (number, places.setdefault(path, len(places)), kind, leaf)
                    for path, kind, leaf in leaf_rows(name, value)
                )
            tables["part"].append((position, name, number))
        values = column_values(doc)
        for stored_once in ("params", "metrics"):
            del doc[stored_once]
        tables["run"].append((position, _encode(doc), *values))
    tables["place"].extend((number, path) for path, number in places.items())
    return _filled(tables)


def _filled(tables: dict[str, list[tuple[Any, ...]]]) -> sqlite3.Connection:
    database = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
    database.execute("BEGIN")
    for statement in _TABLES:
        database.execute(statement)
    for table, found in tables.items():
        marks = ", ".join("?" * _WIDTHS[table])
        # In the order of the key: faster to insert, and equal rows give equal bytes.
        found.sort(key=_key)
        database.executemany(f"INSERT INTO {table} VALUES ({marks})", found)  # noqa: S608  # names from the list above
    database.execute("COMMIT")
    return database


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=dict).encode


def _key(row: tuple[Any, ...]) -> Any:
    return row[:2]


def _whole(database: sqlite3.Connection, position: int, doc: str) -> dict[str, Any]:
    """The row's JSON with what is stored once for many rows put back."""
    value: dict[str, Any] = {**json.loads(doc), "params": {}, "metrics": {}}
    for name, content in database.execute(
        "SELECT part.name, fragment.content FROM part JOIN fragment ON fragment.number = part.fragment"
        " WHERE part.position = ?",
        (position,),
    ):
        (value if name == "metrics" else value["params"]).update(json.loads(content))
    return value


def _image(database: sqlite3.Connection) -> bytearray:
    image = bytearray(database.serialize())
    image[_CHECKSUM] = _checksum(image)
    return image


def _checksum(image: bytes | bytearray) -> bytes:
    view = memoryview(image)
    before = zlib.crc32(bytes(4), zlib.crc32(view[: _CHECKSUM.start]))
    return zlib.crc32(view[_CHECKSUM.stop :], before).to_bytes(4, "big")


def _write(path: Path, image: bytes | bytearray) -> None:
    """Put the file in place whole. Raises OSError, and then leaves nothing behind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _beside(path) as (descriptor, name):
        with os.fdopen(descriptor, "wb") as file:
            file.write(image)
        Path(name).replace(path)


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[tuple[int, str]]:
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        yield descriptor, name
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
