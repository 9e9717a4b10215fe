"""The file of a query cache: opened where it is sound, replaced whole where it is not, done without where it cannot be.

``query.sqlite`` is a link to the database that counts, in a folder beside it; another one is built whole, then the
link is moved.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import time
from pathlib import Path

from cd4ml.gateways.store_keeping import about, advance, fill, is_usable
from cd4ml.gateways.store_source import Source, Wanted
from cd4ml.gateways.store_tables import DAMAGE, LAYOUT, STATEMENTS

_PATIENCE = 60.0
"""Seconds that SQLite waits for a lock: one is held for as long as a change takes to write."""

_CHECKED_WHOLE = 8 << 20
"""A file of at most so many bytes is looked through when it is opened."""

_CACHE = 64 << 20
"""Bytes of a file that a process keeps in memory at most: rows lie all over a large one."""

_LEFT_BEHIND = 86_400
"""Seconds after which what somebody was building is nobody's."""


def connect(path: Path) -> sqlite3.Connection | None:
    """The database, when there is one that this version can use."""
    try:
        size = path.stat().st_size
        if not path.is_file() or not _is_whole(path, size):
            return None
        database = sqlite3.connect(
            f"{path.resolve().as_uri()}?mode=rw",
            uri=True,
            timeout=_PATIENCE,
            isolation_level=None,
            check_same_thread=False,
        )
    except (OSError, sqlite3.DatabaseError):
        return None
    try:
        told = about(database)
        tables = {sql for (sql,) in database.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")}
        sound = told.get("layout") == LAYOUT and told.get("complete") == 1 and tables == STATEMENTS
        if sound and size <= _CHECKED_WHOLE:
            sound = database.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
        if sound:
            database.execute("PRAGMA synchronous = NORMAL")
            database.execute(f"PRAGMA cache_size = -{_CACHE >> 10}")
            return database
    except DAMAGE:
        pass
    database.close()
    return None


def _is_whole(path: Path, size: int) -> bool:
    """Is the file as long as its first page says? Not asked while a log beside it may hold the rest."""
    with path.open("rb") as file:
        head = file.read(100)
    if len(head) < 100 or not head.startswith(b"SQLite format 3\0"):
        return False
    page = int.from_bytes(head[16:18], "big")
    log = path.resolve().with_name(f"{path.resolve().name}-wal")
    if log.exists() and log.stat().st_size:
        return True
    return int.from_bytes(head[28:32], "big") * (65536 if page == 1 else page) == size


def replace(path: Path, wanted: Wanted, source: Source) -> None:
    """Build a database and let ``path`` lead to it. Raises OSError, and then leaves nothing behind."""
    folder = path.with_suffix("")
    if path.is_dir():
        raise IsADirectoryError(path)
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{secrets.token_hex(8)}.sqlite"
    building, finished, link = folder / f".building-{name}", folder / name, folder / f".link-{name}"
    try:
        _build_file(building, wanted, source)
        building.rename(finished)
        link.symlink_to(Path(folder.name) / name)
        link.rename(path)
    except sqlite3.OperationalError as error:
        raise OSError(f"{building}: {error}") from error
    finally:
        for left in (building, Path(f"{building}-journal"), link):
            left.unlink(missing_ok=True)
    _clear(folder, name)


def _build_file(building: Path, wanted: Wanted, source: Source) -> None:
    database = sqlite3.connect(building, isolation_level=None)
    try:
        for pragma in (
            "journal_mode = OFF",
            "synchronous = OFF",
            "locking_mode = EXCLUSIVE",
            f"cache_size = -{_CACHE >> 10}",
        ):
            database.execute(f"PRAGMA {pragma}")
        fill(database, wanted, source)
        database.execute("PRAGMA locking_mode = NORMAL")
        database.execute("PRAGMA journal_mode = WAL")
    finally:
        database.close()
    with building.open("rb") as file:
        os.fsync(file.fileno())


def _clear(folder: Path, current: str) -> None:
    """Remove databases that no link leads to, and what was left half built."""
    for found in folder.iterdir():
        if found.name.startswith(current):
            continue
        with contextlib.suppress(OSError):
            if not found.name.startswith(".") or time.time() - found.stat().st_mtime > _LEFT_BEHIND:
                found.unlink()


def in_memory(path: Path | None, wanted: Wanted, source: Source) -> sqlite3.Connection:
    """What is wanted, for this process alone; from the file if that can at least be read."""
    found = connect(path) if path is not None else None
    if found is not None:
        with contextlib.suppress(*DAMAGE), contextlib.closing(found):
            database = _copied(found)
            if is_usable(database, wanted.version) and advance(database, wanted, source):
                return database
    database = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    fill(database, wanted, source)
    return database


def _copied(found: sqlite3.Connection) -> sqlite3.Connection:
    database = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    found.backup(database)
    return database
