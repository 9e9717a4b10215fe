"""The query cache on real SQLite and real files: damaged, locked, shared. tests/index asks it with filters."""

from __future__ import annotations

import json
import multiprocessing
import sqlite3
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cd4ml.gateways.store import QueryCache
from cd4ml.index.query import parse
from cd4ml.index.rows import Row
from cd4ml.index.sql import compile_filter, compile_order
from tests.index.filter_world import row


@pytest.fixture
def cache(tmp_path: Path) -> QueryCache:
    cache = QueryCache(tmp_path / "cd4ml" / "query.sqlite")
    cache.replace("key", [row(number) for number in range(20)])
    return cache


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cd4ml" / "query.sqlite"


def ids(*numbers: int) -> list[str]:
    return [f"r{number:020x}" for number in numbers]


def reopened(path: Path) -> QueryCache:
    return QueryCache(path)


def test_another_process_finds_what_was_written(cache: QueryCache, path: Path) -> None:
    other = reopened(path)
    assert other.state() == cache.state() == "key"
    assert other.search() == cache.search()
    assert other.paths() == (
        *("metrics", "metrics.test", "metrics.test.rmse", "metrics.validation", "metrics.validation.rmse"),
        *("params.model", "params.model.alpha", "params.model.name", "params.seed"),
    )


def test_the_file_is_a_plain_database(cache: QueryCache, path: Path) -> None:
    database = sqlite3.connect(path)
    assert database.execute("SELECT count(*) FROM run WHERE branch = 'exp/3'").fetchone() == (1,)
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()


def test_equal_rows_make_equal_bytes(cache: QueryCache, path: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.sqlite"
    reopened(again).replace("key", [row(number) for number in range(20)])
    assert again.read_bytes() == path.read_bytes()


def counted(calls: list[int]) -> Iterable[Row]:
    calls.append(1)
    return [row(7)]


def test_rows_are_only_asked_for_when_the_key_is_another(cache: QueryCache, path: Path) -> None:
    calls: list[int] = []
    reopened(path).refresh("key", lambda: counted(calls))
    assert calls == []
    other = reopened(path)
    other.refresh("next", lambda: counted(calls))
    assert calls == [1]
    assert [found["id"] for found in other.search()] == ids(7)
    assert reopened(path).state() == "next"


def test_nothing_there_is_an_empty_cache(tmp_path: Path) -> None:
    cache = QueryCache(tmp_path / "none" / "query.sqlite")
    assert cache.state() == ""
    assert cache.search() == []
    assert cache.paths() == ()
    assert not (tmp_path / "none").exists()


def damage_truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5000])


def damage_flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def damage_garbage(path: Path) -> None:
    path.write_bytes(b"not a database at all" * 100)


def damage_empty(path: Path) -> None:
    path.write_bytes(b"")


def damage_foreign(path: Path) -> None:
    path.unlink()
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE run (a)")
    database.commit()
    database.close()


def damage_old_layout(path: Path) -> None:
    from cd4ml.gateways import store

    database = sqlite3.connect(":memory:")
    database.deserialize(path.read_bytes())
    database.execute("UPDATE about SET layout = 0")
    database.commit()
    path.write_bytes(store._image(database))


def damage_foreign_with_checksum(path: Path) -> None:
    from cd4ml.gateways import store

    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE other (a)")
    database.commit()
    path.write_bytes(store._image(database))


DAMAGES = (
    damage_truncated,
    damage_flipped,
    damage_garbage,
    damage_empty,
    damage_foreign,
    damage_old_layout,
    damage_foreign_with_checksum,
)


@pytest.mark.parametrize("damage", DAMAGES, ids=[one.__name__ for one in DAMAGES])
def test_a_damaged_or_foreign_file_is_an_empty_cache_and_is_replaced(
    cache: QueryCache, path: Path, damage: Any
) -> None:
    whole = path.read_bytes()
    damage(path)
    assert path.read_bytes() != whole
    other = reopened(path)
    assert other.state() == ""
    assert other.search() == []
    other.refresh("key", lambda: [row(number) for number in range(20)])
    assert path.read_bytes() == whole


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_flipped_bit_gives_a_wrong_answer(cache: QueryCache, path: Path, data: st.DataObject) -> None:
    whole = path.read_bytes()
    bit = data.draw(st.integers(0, len(whole) * 8 - 1))
    changed = bytearray(whole)
    changed[bit // 8] ^= 1 << bit % 8
    other_path = path.with_name("flipped.sqlite")
    other_path.write_bytes(changed)
    assert reopened(other_path).state() == ""


def test_a_file_that_another_program_has_locked_is_read_and_replaced(cache: QueryCache, path: Path) -> None:
    holder = sqlite3.connect(path)
    holder.execute("BEGIN EXCLUSIVE")
    other = reopened(path)
    assert other.state() == "key"
    other.replace("next", [row(1)])
    assert reopened(path).state() == "next"
    holder.close()


def test_a_read_only_file_is_replaced(cache: QueryCache, path: Path) -> None:
    path.chmod(0o444)
    reopened(path).replace("next", [row(1)])
    assert reopened(path).state() == "next"


@pytest.mark.parametrize("blocked", ["a folder in its place", "a file for its folder"])
def test_a_place_that_cannot_be_written_costs_nothing_but_a_rebuild(tmp_path: Path, blocked: str) -> None:
    path = tmp_path / "cd4ml" / "query.sqlite"
    if blocked == "a folder in its place":
        (path / "inside").mkdir(parents=True)
    else:
        path.parent.write_text("a file")
    cache = QueryCache(path)
    cache.refresh("key", lambda: [row(1)])
    assert cache.state() == "key"
    where = compile_filter(parse("params.seed = 1"), datetime.now(UTC))
    assert [found["id"] for found in cache.search(where)] == ids(1)
    assert reopened(path).state() == ""
    assert [found.name for found in tmp_path.rglob("*.sqlite.*")] == []


def write_and_read(path: Path, number: int, times: int) -> None:
    for turn in range(times):
        mine = QueryCache(path)
        mine.replace(f"{number} {turn}", [row(number) for _ in range(30)])
        seen = QueryCache(path)
        who = seen.state().split(" ")[0]
        assert who, "a file was seen that was not whole"
        assert {found["params"]["seed"] for found in seen.search()} == {int(who)}


def test_processes_that_write_at_once_never_show_each_other_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "query.sqlite"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=write_and_read, args=(path, number, 15)) for number in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert [found.name for found in tmp_path.iterdir()] == ["query.sqlite"]


def test_what_an_object_holds_does_not_change_under_it(cache: QueryCache, path: Path) -> None:
    before = cache.search()
    reopened(path).replace("next", [])
    assert cache.search() == before
    assert reopened(path).search() == []


def test_ten_thousand_rows_are_held_and_asked_quickly(tmp_path: Path) -> None:
    """The bounds are of processor time and some three times what it takes on a slow machine."""
    shared = {f"group{group}": {f"key{key}": [key, "value"] for key in range(10)} for group in range(12)}
    rows = [row(number, params={**shared, **row(number).params}) for number in range(10_000)]
    cache = QueryCache(tmp_path / "query.sqlite")
    started = time.process_time()
    cache.replace("k", rows)
    built = time.process_time()
    where = compile_filter(parse("metrics.rmse < 1000 and params.model.alpha > 600"), datetime.now(UTC))
    found = cache.search(where, compile_order("metrics.rmse desc"), 20)
    asked = time.process_time()
    assert [doc["params"]["seed"] for doc in found] == list(range(6929, 6909, -1))
    assert found[0] == json.loads(json.dumps(rows[6929].as_json()))
    assert built - started < 6
    assert asked - built < 0.3
