"""The memory: what was put in comes out, by any number of processes, and whatever is wrong with it is no answer."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cd4ml.gateways import memo
from cd4ml.gateways.memo import Memo

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.text("abcdef\0é'\"%", min_size=1, max_size=4)


@given(st.lists(st.dictionaries(KEYS, JSON, max_size=5), max_size=4), st.lists(KEYS, max_size=8))
def test_what_was_put_last_comes_out_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, puts: list[dict[str, object]], asked: list[str]
) -> None:
    path = tmp_path_factory.mktemp("memo") / "deep" / "memory.sqlite"
    expected: dict[str, object] = {}
    for values in puts:
        Memo(path).put_many(values)
        expected |= values
    known = Memo(path).get_many([*expected, *asked])
    assert known == expected


def test_more_keys_than_a_statement_takes_are_asked_for_in_parts(tmp_path: Path) -> None:
    path = tmp_path / "memory.sqlite"
    values = {f"key {number}": number for number in range(5_000)}
    Memo(path).put_many(values)
    assert Memo(path).get_many([*values, "another"]) == values


def filled(tmp_path: Path) -> Path:
    path = tmp_path / "memory.sqlite"
    Memo(path).put_many({f"key {number}": [number, "x" * 500] for number in range(100)})
    return path


def test_no_changed_byte_ever_gives_a_wrong_answer(tmp_path: Path) -> None:
    path = filled(tmp_path)
    whole = path.read_bytes()
    for place in range(0, len(whole), 397):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x5A]) + whole[place + 1 :])
        found = Memo(path).get_many([f"key {number}" for number in range(100)])
        assert all(found[key] == [int(key[4:]), "x" * 500] for key in found), place


def test_a_value_under_another_key_is_no_answer(tmp_path: Path) -> None:
    path = filled(tmp_path)
    with sqlite3.connect(path) as database:
        (other,) = database.execute("SELECT value FROM memo WHERE key = 'key 2'").fetchone()
        database.execute("UPDATE memo SET value = ? WHERE key = 'key 1'", (other,))
    assert Memo(path).get_many(["key 1", "key 2"]) == {"key 2": [2, "x" * 500]}


@pytest.mark.parametrize("damage", ["garbage", "cut", "empty", "foreign", "other layout", "folder"])
def test_a_file_that_is_not_ours_costs_its_answers_and_is_begun_anew(tmp_path: Path, damage: str) -> None:
    path = filled(tmp_path)
    if damage == "garbage":
        path.write_bytes(b"garbage " * 4000)
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:6000])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        path.unlink()
        with sqlite3.connect(path) as database:
            database.execute("CREATE TABLE memo (a)")
            database.execute(f"PRAGMA user_version = {5 if damage == 'foreign' else 0}")
    assert Memo(path).get_many(["key 1"]) == {}
    Memo(path).put_many({"key 1": "new"})
    assert Memo(path).get_many(["key 1"]) == ({} if damage == "folder" else {"key 1": "new"})


def test_where_nothing_can_be_written_it_remembers_nothing_and_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    below = Memo(tmp_path / "file" / "memory.sqlite")
    below.put_many({"a": 1})
    assert below.get_many(["a"]) == {}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_memory_that_may_only_be_read_answers(tmp_path: Path) -> None:
    path = filled(tmp_path)
    path.chmod(0o400)
    tmp_path.chmod(0o500)
    try:
        Memo(path).put_many({"key 1": "new"})
        assert Memo(path).get_many(["key 1"]) == {"key 1": [1, "x" * 500]}
    finally:
        tmp_path.chmod(0o700)


def test_another_that_holds_it_locked_costs_the_memory_and_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = filled(tmp_path)
    monkeypatch.setattr(memo, "_PATIENCE", 0.05)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    Memo(path).put_many({"key 1": "new"})
    assert Memo(path).get_many(["key 1"]) == {}
    holder.execute("ROLLBACK")
    holder.close()
    assert Memo(path).get_many(["key 1"]) == {"key 1": [1, "x" * 500]}


def test_what_was_not_used_for_long_is_forgotten_and_what_was_used_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "memory.sqlite"
    monkeypatch.setattr(memo, "_today", lambda: 1000)
    Memo(path).put_many({"used": 1, "unused": 2})
    monkeypatch.setattr(memo, "_today", lambda: 1050)
    assert Memo(path).get_many(["used"]) == {"used": 1}
    monkeypatch.setattr(memo, "_today", lambda: 1061)
    Memo(path).put_many({"new": 3})
    assert Memo(path).get_many(["used", "unused", "new"]) == {"used": 1, "new": 3}


def test_beyond_the_most_that_is_kept_the_longest_unused_go_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "memory.sqlite"
    monkeypatch.setattr(memo, "_MOST", 3)
    for day in range(5):
        monkeypatch.setattr(memo, "_today", lambda day=day: 100 + day)
        Memo(path).put_many({f"of day {day}": day})
    assert set(Memo(path).get_many([f"of day {day}" for day in range(5)])) == {"of day 2", "of day 3", "of day 4"}


WRITER = """
import sys
from pathlib import Path
from cd4ml.gateways.memo import Memo
path, name = Path(sys.argv[1]), sys.argv[2]
for number in range(30):
    Memo(path).put_many({f"{name} {number}": [name, number], "shared": name})
    found = Memo(path).get_many([f"{name} {number}", "shared"])
    assert found.get("shared", "a") in "abcd", found
    assert found.get(f"{name} {number}", [name, number]) == [name, number], found
"""


def test_processes_that_write_at_once_lose_nothing_of_each_other(tmp_path: Path) -> None:
    path = tmp_path / "memory.sqlite"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), name]) for name in "abcd"]
    assert [writer.wait(120) for writer in writers] == [0, 0, 0, 0]
    keys = [f"{name} {number}" for name in "abcd" for number in range(30)]
    assert len(Memo(path).get_many(keys)) == len(keys)
