"""A memory of answers that follow from their key, in SQLite: what a plan would otherwise work out anew each time.

The file can be deleted at any time. Any number of processes and threads use it at once. One that is damaged,
foreign, of another layout, locked for long, or not writable costs working the answers out, and nothing else: no
method raises for it. Every value is sealed with its key, so that a changed byte is a forgotten answer and never a
wrong one. What has not been asked for in 60 days is forgotten.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

_TABLE = "CREATE TABLE IF NOT EXISTS memo (key TEXT PRIMARY KEY, value BLOB, seal BLOB, used INTEGER) WITHOUT ROWID"
# The "user version" of the file: one of another layout is begun anew.
_LAYOUT = zlib.crc32(_TABLE.encode()) & 0x7FFFFFFF
_DAY = 86_400
_FORGOTTEN_AFTER = 60
"""Days without use."""
_MOST = 1_000_000
"""Answers kept; beyond it, those that were not used for longest go first."""
_NOTED_AGAIN_AFTER = 7
"""Days after which another use is noted: a memory that is only read is not written."""
_AT_ONCE = 500
_PATIENCE = 5.0


class Memo:
    """The memory at ``path``, which need not exist. Keys are digests (any text); values anything that JSON takes."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """The remembered values by key; a key that is not remembered is left out."""
        wanted = list(dict.fromkeys(keys))
        if not wanted or not self._path.exists():
            return {}
        try:
            with self._opened() as database:
                rows = [row for part in _parts(wanted) for row in _read(database, part)]
        except sqlite3.DatabaseError as error:
            self._drop_if_damaged(error)
            return {}
        found = {key: value for key, data, seal, _ in rows if (value := _unsealed(key, data, seal)) is not None}
        today = _today()
        self._note_use([key for key, _, _, used in rows if used < today - _NOTED_AGAIN_AFTER], today)
        return {key: one[0] for key, one in found.items()}

    def put_many(self, values: Mapping[str, Any]) -> None:
        """Remember these, and forget what has not been used for long."""
        if not values:
            return
        today = _today()
        rows = []
        for key, value in values.items():
            data = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
            rows.append((key, data, _seal(key, data), today))
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._write(rows, today)
        except sqlite3.DatabaseError as error:
            if self._drop_if_damaged(error):
                with contextlib.suppress(sqlite3.DatabaseError):
                    self._write(rows, today)
        except OSError:
            return

    def _write(self, rows: list[tuple[str, bytes, bytes, int]], today: int) -> None:
        with self._opened() as database:
            database.execute("BEGIN IMMEDIATE")
            if database.execute("PRAGMA user_version").fetchone()[0] != _LAYOUT:
                database.execute("DROP TABLE IF EXISTS memo")
                database.execute(_TABLE)
                database.execute(f"PRAGMA user_version = {_LAYOUT}")
            database.executemany("INSERT OR REPLACE INTO memo VALUES (?, ?, ?, ?)", rows)
            database.execute("DELETE FROM memo WHERE used < ?", (today - _FORGOTTEN_AFTER,))
            (count,) = database.execute("SELECT count(*) FROM memo").fetchone()
            if count > _MOST:
                oldest = "SELECT key FROM memo ORDER BY used, key LIMIT ?"
                database.execute(f"DELETE FROM memo WHERE key IN ({oldest})", (count - _MOST,))  # noqa: S608  # text from above
            database.execute("COMMIT")

    def _note_use(self, keys: list[str], today: int) -> None:
        if keys:
            with contextlib.suppress(sqlite3.DatabaseError), self._opened() as database:
                database.executemany("UPDATE memo SET used = ? WHERE key = ?", [(today, key) for key in keys])

    @contextlib.contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        database = sqlite3.connect(self._path, timeout=_PATIENCE, isolation_level=None)
        try:
            # what is lost when the machine loses power is worked out again
            database.execute("PRAGMA synchronous = OFF")
            yield database
        finally:
            database.close()

    def _drop_if_damaged(self, error: sqlite3.DatabaseError) -> bool:
        """Delete a file that is no database. One that is locked, or cannot be written, is left alone."""
        if isinstance(error, sqlite3.OperationalError) and "malformed" not in str(error):
            return False
        for name in (self._path.name, f"{self._path.name}-journal"):
            with contextlib.suppress(OSError):
                self._path.with_name(name).unlink(missing_ok=True)
        return True


def _read(database: sqlite3.Connection, keys: list[str]) -> list[tuple[str, bytes, bytes, int]]:
    if database.execute("PRAGMA user_version").fetchone()[0] != _LAYOUT:
        return []
    marks = ", ".join("?" * len(keys))
    found = database.execute(f"SELECT key, value, seal, used FROM memo WHERE key IN ({marks})", keys)  # noqa: S608  # marks only
    return [row for row in found.fetchall() if _has_types(row)]


def _has_types(row: tuple[Any, ...]) -> bool:
    return tuple(map(type, row)) == (str, bytes, bytes, int)


def _parts(keys: list[str]) -> Iterator[list[str]]:
    return (keys[start : start + _AT_ONCE] for start in range(0, len(keys), _AT_ONCE))


def _seal(key: str, data: bytes) -> bytes:
    return hashlib.blake2b(data, key=hashlib.sha256(key.encode()).digest(), digest_size=16).digest()


def _unsealed(key: str, data: bytes, seal: bytes) -> tuple[Any] | None:
    """The value, in a tuple since it may be nothing; nothing when this is not what was remembered."""
    return (json.loads(data.decode("utf-8", "surrogatepass")),) if seal == _seal(key, data) else None


def _today() -> int:
    return int(time.time() // _DAY)
