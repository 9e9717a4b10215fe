"""A file of SQLite that belongs to somebody else, copied as it is at one moment, whoever writes to it meanwhile."""

from __future__ import annotations

import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from cd4ml.errors import RemoteError

_BEGINS = b"SQLite format 3\0"
_HEAD = 100
"""Bytes of a header."""

_PATIENCE = 30.0
"""Seconds that somebody else may keep the file locked."""

_BESIDE = ("", "-wal", "-journal")
_IN_WAL_MODE = 2
"""What the 19th byte of a file is that has a log beside it while it is open (sqlite.org/fileformat.html, 1.3.3)."""


def is_database(file: Path) -> bool:
    """Is it a file of SQLite, by how it begins?"""
    return file.is_file() and len(head := _head(file)) == _HEAD and head.startswith(_BEGINS)


def copy_database(file: Path, copy: Path) -> None:
    """Copy all that was committed. ``copy`` is not there yet, and the file's folder stays as it is.

    SQLite reads it under its own lock, which lets no writer commit for as long as the copy takes. Raises RemoteError
    for a file that stays locked, or cannot be read as one whole, ``sqlite3.DatabaseError`` for one that is damaged.
    """
    opened = Path(f"{file}-shm")  # there while somebody has a file in this mode open; a reader would leave it behind
    if _head(file)[18] == _IN_WAL_MODE and not opened.exists() and _copy_parts(file, copy) and not opened.exists():
        return
    _drop(copy)
    try:
        _back_up(file, copy)
    except sqlite3.OperationalError:  # a killed writer's journal is to be rolled back first, which a reader may not
        _drop(copy)
        if not _copy_parts(file, copy):
            raise RemoteError("the database was written to while it was copied: try again") from None


def _head(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(_HEAD)


def _back_up(file: Path, copy: Path) -> None:
    until = time.monotonic() + _PATIENCE

    def still_patient(status: int, *_: int) -> None:
        if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) and time.monotonic() > until:
            raise RemoteError(f"the database stayed locked for {_PATIENCE:.0f} seconds: somebody writes to it")

    with (
        closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as source,
        closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target, progress=still_patient)


def _copy_parts(file: Path, copy: Path) -> bool:
    """Copy the file and what lies beside it, and let SQLite put the copy in order; false where somebody wrote to it.

    Raises DatabaseError for one that is damaged.
    """
    before = _states(file)
    for beside in before:
        shutil.copyfile(f"{file}{beside}", f"{copy}{beside}")
    try:
        with closing(sqlite3.connect(copy)) as database:
            (said,) = database.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        said = str(error)
    if _states(file) != before:
        return False
    if said != "ok":
        raise sqlite3.DatabaseError(said)
    return True


def _drop(copy: Path) -> None:
    """With its log and journal, which SQLite would take for those of the next copy."""
    for beside in _BESIDE:
        Path(f"{copy}{beside}").unlink(missing_ok=True)


def _states(file: Path) -> dict[str, tuple[int, int, int]]:
    """Of the file and what lies beside it, by what its name has more, what changes with it."""
    parts = {beside: path for beside in _BESIDE if (path := Path(f"{file}{beside}")).is_file()}
    states = {beside: path.stat() for beside, path in parts.items()}
    return {beside: (state.st_ino, state.st_size, state.st_mtime_ns) for beside, state in states.items()}
