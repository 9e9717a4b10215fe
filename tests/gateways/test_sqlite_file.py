"""Copies of files of SQLite that others have open, or had when they were killed."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from cd4ml.errors import RemoteError
from cd4ml.gateways import sqlite_file
from cd4ml.gateways.sqlite_file import copy_database, is_database

_KILLED_AMID_A_TRANSACTION = """
import os, signal, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA cache_size = 1")  # so that pages are written before anything is committed
database.execute("BEGIN")
for _ in range(5000):
    database.execute("INSERT INTO one VALUES (hex(randomblob(50)))")
os.kill(os.getpid(), signal.SIGKILL)
"""
_KILLED_AFTER_A_COMMIT = """
import os, signal, sqlite3, sys
database = sqlite3.connect(sys.argv[1])
database.execute("INSERT INTO one VALUES ('in the log')")
database.commit()
os.kill(os.getpid(), signal.SIGKILL)
"""
_WRITES = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
while True:
    database.execute("BEGIN IMMEDIATE")
    for table in ("one", "other"):
        database.execute(f"INSERT INTO {table} SELECT hex(randomblob(500)) FROM one LIMIT 50")
    database.execute("COMMIT")
    print("committed", flush=True)
"""


def made(folder: Path, mode: str = "delete") -> Path:
    """A database with 50 equal rows in each of two tables."""
    file = folder / "store.db"
    with closing(sqlite3.connect(file)) as database:
        database.execute(f"PRAGMA journal_mode = {mode}")
        database.execute("CREATE TABLE one (value TEXT)")
        database.executemany("INSERT INTO one VALUES (?)", [(str(number),) for number in range(50)])
        database.execute("CREATE TABLE other AS SELECT * FROM one")
        database.commit()
    return file


def rows_of(file: Path) -> tuple[int, int]:
    """How many rows the tables of a sound file have."""
    with closing(sqlite3.connect(file)) as database:
        assert database.execute("PRAGMA quick_check").fetchall() == [("ok",)]
        one, other = database.execute("SELECT (SELECT count(*) FROM one), (SELECT count(*) FROM other)").fetchone()
    return one, other


def killed(program: str, file: Path) -> None:
    assert subprocess.run([sys.executable, "-c", program, str(file)], check=False).returncode == -9


def test_what_a_killed_writer_never_committed_is_not_copied(tmp_path: Path) -> None:
    file = made(tmp_path)
    killed(_KILLED_AMID_A_TRANSACTION, file)
    before = {one.name: one.read_bytes() for one in tmp_path.iterdir()}
    assert set(before) == {"store.db", "store.db-journal"}
    copy_database(file, tmp_path / "copy.db")
    assert rows_of(tmp_path / "copy.db") == (50, 50)
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


def test_what_a_killed_writer_committed_to_the_log_is_copied(tmp_path: Path) -> None:
    file = made(tmp_path, "wal")
    killed(_KILLED_AFTER_A_COMMIT, file)
    Path(f"{file}-shm").unlink()  # as where the file and its log were brought from elsewhere
    before = sorted(tmp_path.iterdir())
    copy_database(file, tmp_path / "copy.db")
    assert sorted(set(tmp_path.iterdir()) - {tmp_path / "copy.db"}) == before
    assert rows_of(tmp_path / "copy.db") == (51, 50)


def test_a_copy_may_take_longer_than_a_lock_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_file, "_PATIENCE", 0.0)
    copy_database(made(tmp_path), tmp_path / "copy.db")
    assert rows_of(tmp_path / "copy.db") == (50, 50)


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_copy_made_while_somebody_writes_is_of_one_moment(tmp_path: Path, mode: str) -> None:
    file = made(tmp_path, mode)
    with subprocess.Popen([sys.executable, "-c", _WRITES, str(file)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        for number in range(5):
            assert writer.stdout.readline() == b"committed\n"
            copy = tmp_path / f"{number}.db"
            copy_database(file, copy)
            one, other = rows_of(copy)
            assert one == other > 50
        writer.kill()


def test_beside_a_file_that_nobody_has_open_nothing_is_left(tmp_path: Path) -> None:
    """A reader of a file in WAL mode makes two more, which its owner could not write if another user had made them."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    file = made(folder, "wal")
    copy_database(file, tmp_path / "copy.db")
    assert [one.name for one in folder.iterdir()] == ["store.db"]
    assert rows_of(tmp_path / "copy.db") == (50, 50)


def test_what_somebody_writes_while_a_file_that_nobody_had_open_is_copied_is_whole_or_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They open, write and close it between two of its parts, so that nothing lies beside it afterwards."""
    file, copied = made(tmp_path, "wal"), shutil.copyfile

    def slowly(source: str, target: str) -> None:
        copied(source, target)
        with closing(sqlite3.connect(file)) as other:
            for table in ("one", "other"):
                other.execute(f"DELETE FROM {table} WHERE value < '3'")  # noqa: S608  # names from above
            other.commit()
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    monkeypatch.setattr("shutil.copyfile", slowly)
    copy_database(file, tmp_path / "copy.db")
    one, other = rows_of(tmp_path / "copy.db")
    assert one == other == rows_of(file)[0] < 50


def test_a_file_that_stays_locked_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_file, "_PATIENCE", 0.1)
    file = made(tmp_path)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(RemoteError, match="stayed locked"):
            copy_database(file, tmp_path / "copy.db")


@pytest.mark.parametrize("content", [b"", b"SQLite format 3\0", b"SQLite format 4\0" + bytes(200)])
def test_a_file_that_begins_otherwise_is_no_database(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    assert not is_database(tmp_path / "x")
