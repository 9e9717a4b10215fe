"""The query cache on real SQLite and real files: damaged, locked, shared. tests/index asks it with filters."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cd4ml.gateways import store, store_build, store_file
from cd4ml.gateways.store import QueryCache
from cd4ml.gateways.store_keeping import fill
from cd4ml.gateways.store_source import Source
from cd4ml.index.query import parse
from cd4ml.index.sql import compile_filter
from tests.gateways.store_world import Index, held, wanted
from tests.index.index_world import experiment_body, fingerprint, refused_body, run_body

FOLDS = [
    [*(run_body(number, params={"seed": number}) for number in range(12)), refused_body()],
    [run_body(20, params={"seed": 20}), experiment_body("exp/b", 20)],
]
ALL, BEFORE = wanted("2"), wanted("1")


@pytest.fixture
def source() -> Index:
    return Index({"1": FOLDS[:1], "2": FOLDS})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cd4ml" / "query.sqlite"


@pytest.fixture
def cache(path: Path, source: Index) -> Iterator[QueryCache]:
    cache = QueryCache(path)
    cache.refresh(ALL, source)
    yield cache
    cache.close()


def found(path: Path, source: Index, state: store.Wanted = ALL) -> list[dict[str, Any]]:
    """What another process finds."""
    other = QueryCache(path)
    other.refresh(state, source)
    try:
        return other.search()
    finally:
        other.close()


def test_another_process_finds_what_was_written_and_reads_no_record(
    cache: QueryCache, path: Path, source: Index
) -> None:
    other = Index(source.indexes)
    assert found(path, other) == cache.search()
    assert (source.read_whole, other.read_whole) == (1, 0)


def test_a_fragment_of_many_rows_is_kept_in_several_lists_and_found_in_each(
    cache: QueryCache, source: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_build, "_POSITIONS_AT_ONCE", 3)
    other = QueryCache(tmp_path / "other.sqlite")
    other.refresh(ALL, source)
    assert held(other) == held(cache)
    database = sqlite3.connect(tmp_path / "other.sqlite")
    lists = [count for (count,) in database.execute("SELECT json_array_length(positions) FROM part")]
    firsts = database.execute("SELECT sum(first = json_extract(positions, '$[0]')) FROM part").fetchone()
    database.close()
    other.close()
    assert max(lists) == 3 < sum(lists)
    assert firsts == (len(lists),)


def test_the_file_is_a_plain_database(cache: QueryCache, path: Path) -> None:
    database = sqlite3.connect(path)
    assert database.execute("SELECT count(*) FROM run WHERE \"role\" = 'refused'").fetchone() == (1,)
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()


def test_nothing_asked_for_is_an_empty_cache(path: Path) -> None:
    cache = QueryCache(path)
    assert (cache.search(), cache.paths(), cache.row_branches()) == ([], (), ())
    assert not path.parent.exists()


def test_what_another_version_judged_is_judged_again(cache: QueryCache, path: Path, source: Index) -> None:
    before = cache.search()
    assert found(path, source, wanted("2", version="2")) == before
    assert source.read_whole == 2


def in_memory(source: Index, state: store.Wanted = ALL) -> QueryCache:
    cache = QueryCache(Path("/dev/null/none"))
    cache.refresh(state, source)
    return cache


def target(path: Path) -> Path:
    return path.resolve()


def damage_truncated(path: Path) -> None:
    target(path).write_bytes(path.read_bytes()[:-5000])


def damage_garbage(path: Path) -> None:
    path.write_bytes(b"not a database at all" * 100)


def damage_empty(path: Path) -> None:
    path.write_bytes(b"")


def damage_header(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[100:120] = bytes(20)
    path.write_bytes(data)


def damage_foreign(path: Path) -> None:
    path.unlink()
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE run (a)")
    database.commit()
    database.close()


def damage_old_layout(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute("UPDATE about SET value = 0 WHERE name = 'layout'")
    database.commit()
    database.close()


def damage_no_target(path: Path) -> None:
    target(path).unlink()


def damage_no_table(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute("DROP TABLE own")
    database.commit()
    database.close()


def damage_row(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute("UPDATE doc SET content = CAST(replace(content, 'Healthy', 'Wealthy') AS BLOB)")
    database.commit()
    database.close()


def damage_fragment(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute("UPDATE fragment SET content = CAST(replace(content, '7', '8') AS BLOB)")
    database.execute("UPDATE fragment SET content = x'31' WHERE path = '[\"params\",\"seed\"]'")
    database.commit()
    database.close()


def damage_fragment_path(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute("UPDATE fragment SET path = '[\"params'")
    database.commit()
    database.close()


def damage_parts(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute("UPDATE doc SET parts = x'010000'")
    database.commit()
    database.close()


def damage_encoding(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute("UPDATE doc SET content = x'7bff7d'")
    database.commit()
    database.close()


DAMAGES = (
    damage_truncated,
    damage_garbage,
    damage_empty,
    damage_header,
    damage_foreign,
    damage_old_layout,
    damage_no_target,
    damage_no_table,
    damage_row,
    damage_fragment,
    damage_fragment_path,
    damage_parts,
    damage_encoding,
)


@pytest.mark.parametrize("damage", DAMAGES, ids=[one.__name__ for one in DAMAGES])
def test_a_damaged_or_foreign_file_changes_no_answer_and_is_replaced(
    cache: QueryCache, path: Path, source: Index, damage: Any
) -> None:
    before, whole = cache.search(), held(cache)
    cache.close()
    damage(path)
    assert found(path, source) == before
    assert source.read_whole == 2
    again = QueryCache(path)
    again.refresh(ALL, source)
    assert held(again) == whole
    assert source.read_whole == 2, "the replaced file is used"
    assert [one.name for one in path.parent.iterdir() if one.name.startswith(".")] == []
    again.close()


@pytest.mark.parametrize("name", ["index", "version", "layout", "complete"])
@pytest.mark.parametrize("state", ["1", "2"])
def test_a_cache_that_does_not_say_what_it_is_of_is_made_anew(tmp_path: Path, name: str, state: str) -> None:
    """As one flipped byte of the file makes of it."""
    folds = [[run_body(1)], [run_body(2)]]
    source = Index({"1": folds[:1], "2": folds})
    path = tmp_path / "query.sqlite"
    cache = QueryCache(path)
    cache.refresh(wanted("1"), source)
    cache.close()
    database = sqlite3.connect(path)
    database.execute("UPDATE about SET name = 'else' WHERE name = ?", (name,))
    database.commit()
    database.close()
    other = QueryCache(path)
    other.refresh(wanted(state), source)
    assert len(other.search()) == int(state)
    other.close()


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_flipped_byte_raises_or_shows_a_row_that_was_not_written(
    cache: QueryCache, path: Path, source: Index, data: st.DataObject
) -> None:
    """A byte of a file this small can lie in an index, and hide a row until the next rebuild; it never forges one."""
    before = in_memory(source).search()
    cache.close()
    whole = path.read_bytes()
    at, bit = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 7))
    changed = bytearray(whole)
    changed[at] ^= 1 << bit
    path.write_bytes(changed)
    after = found(path, Index(source.indexes))
    assert all(row in before for row in after)
    path.write_bytes(whole)


def test_a_reader_goes_on_with_what_it_began_with(cache: QueryCache, path: Path, source: Index) -> None:
    before = cache.search()
    assert len(found(path, source, BEFORE)) < len(before)
    assert cache.search() == before


def test_a_writer_waits_for_no_reader_and_a_reader_for_no_writer(path: Path, source: Index) -> None:
    reader, writer = QueryCache(path), QueryCache(path)
    reader.refresh(BEFORE, source)
    assert len(reader.search()) == 13
    writer.refresh(ALL, source)
    assert len(writer.search()) > 13
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    holder.execute("UPDATE about SET value = 'x' WHERE name = 'index'")
    assert len(found(path, source)) > 13, "what another program writes and has not committed keeps nobody waiting"
    holder.close()
    reader.close()
    writer.close()


@pytest.mark.parametrize("blocked", ["a folder in its place", "a file for its folder"])
def test_a_place_that_cannot_be_written_costs_nothing_but_a_rebuild(
    tmp_path: Path, source: Index, blocked: str
) -> None:
    path = tmp_path / "cd4ml" / "query.sqlite"
    if blocked == "a folder in its place":
        (path / "inside").mkdir(parents=True)
    else:
        path.parent.write_text("a file")
    cache = QueryCache(path)
    cache.refresh(ALL, source)
    where = compile_filter(parse("params.seed = 20"), datetime.now(UTC))
    assert [row["fingerprint"] for row in cache.search(where)] == [fingerprint(20)] * 1
    cache.keep_lifecycles("k", {("exp/b", ""): ("open", None, None)})
    assert cache.untold("k", ["exp/b", "exp/a"]) == {"exp/a"}
    assert len(found(path, source)) == len(cache.search())
    assert [one.name for one in tmp_path.rglob("*.sqlite")] == ["query.sqlite"] * path.is_dir()


def test_a_database_takes_its_place_only_once_its_bytes_are_on_the_disk(
    path: Path, source: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite itself syncs nothing while one is built."""
    done: list[tuple[str, int]] = []
    fsync, rename = os.fsync, os.rename

    def noted_fsync(handle: int) -> None:
        done.append(("on the disk", os.fstat(handle).st_ino))
        fsync(handle)

    def noted_rename(old: Path, new: Path) -> None:
        done.append(("in its place", old.lstat().st_ino))
        rename(old, new)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "rename", noted_rename)
    cache = QueryCache(path)
    cache.refresh(ALL, source)
    cache.close()
    number = path.stat().st_ino
    link = path.lstat().st_ino
    assert done == [("on the disk", number), ("in its place", number), ("in its place", link)]


def test_a_database_for_which_the_disk_has_no_room_is_left_nowhere_half_built(
    path: Path, source: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_a_full_disk(database: sqlite3.Connection, wanted: store.Wanted, source: Source) -> None:
        (_, _, file) = database.execute("PRAGMA database_list").fetchone()
        if file:
            database.execute("PRAGMA max_page_count = 4")
        fill(database, wanted, source)

    monkeypatch.setattr("cd4ml.gateways.store_file.fill", on_a_full_disk)
    with pytest.raises(OSError, match="database or disk is full"):
        store_file.replace(path, ALL, source)
    assert list(path.with_suffix("").iterdir()) == []


def test_what_became_of_branches_is_kept_until_the_key_is_another(cache: QueryCache, path: Path, source: Index) -> None:
    assert cache.untold("k", ["exp/a", "exp/bad"]) == {"exp/a", "exp/bad"}
    commit = next(row["commit"] for row in cache.search() if row["branch"] == "exp/bad")
    became = {("exp/bad", ""): ("open", None, None), ("exp/bad", commit): ("merged", "Ada", "2026-11-03T10:00:00Z")}
    cache.keep_lifecycles("k", became)
    other = QueryCache(path)
    other.refresh(ALL, source)
    assert other.untold("k", ["exp/a", "exp/bad"]) == {"exp/a"}
    merged = other.search(
        compile_filter(parse("lifecycle = 'merged' and lifecycle_at > '2026-11-01'"), datetime.now(UTC))
    )
    assert [(row["lifecycle_by"], row["lifecycle_at"]) for row in merged] == [("Ada", "2026-11-03T10:00:00Z")]
    others = [row for row in other.search() if row["branch"] != "exp/bad"]
    assert {row["lifecycle"] for row in others} == {"discarded"}
    assert other.search(compile_filter(parse("lifecycle = 'discarded'"), datetime.now(UTC))) == others
    assert other.untold("another", ["exp/bad"]) == {"exp/bad"}
    other.close()


def advance_and_read(path: Path, number: int, times: int) -> None:
    source = Index({"1": FOLDS[:1], "2": FOLDS})
    expected = {}
    for name in source.indexes:
        expected[name] = in_memory(source, wanted(name)).search()
    for turn in range(times):
        name = str(1 + (turn + number) % 2)
        cache = QueryCache(path)
        cache.refresh(wanted(name), source)
        cache.keep_lifecycles(f"{number} {turn}", {})
        assert cache.search() == expected[name]
        cache.close()


def test_results_come_in_fold_order_without_failures_and_repetitions(path: Path) -> None:
    folds = [
        [run_body("z")],
        [run_body("a", branch="main"), run_body("failed", failed=True)],
        [run_body("y"), run_body("z", finished="2026-11-04T10:00:02Z")],
    ]
    cache = QueryCache(path)
    cache.refresh(wanted("x"), Index({"x": folds}))
    assert [(one, branch) for _, one, branch in cache.results()] == [
        (fingerprint("z"), "exp/a"),
        (fingerprint("a"), "main"),
        (fingerprint("y"), "exp/a"),
    ]
    cache.close()


def test_processes_that_write_at_once_each_find_what_they_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "query.sqlite"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=advance_and_read, args=(path, number, 12)) for number in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len(list((tmp_path / "query").glob("*.sqlite"))) == 1
