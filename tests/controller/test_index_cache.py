"""The query cache over a real index branch: it follows the branch by what changed, and believes no edit of it."""

from __future__ import annotations

import contextlib
import logging
import re
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pytest

from benchmarks.synthetic_index import write_index
from cd4ml.controller.history.compare import candidate_of
from cd4ml.controller.landing import landed
from cd4ml.controller.landing.landed import current_cache, read_entries, read_history
from cd4ml.controller.project import Project
from cd4ml.errors import IntegrityError
from cd4ml.gateways import envelopes, git, store_file, store_keeping
from cd4ml.gateways.git import INDEX_BRANCH, LANDING, RemoteState, Repository
from cd4ml.gateways.git.objects import Place
from cd4ml.gateways.process import Helper
from cd4ml.gateways.store import QueryCache
from cd4ml.gateways.store_batch import Batch
from cd4ml.gateways.store_build import Writer
from cd4ml.index.envelope import read_envelope
from cd4ml.index.fold import encode_envelope, entry_path, parse_envelope
from cd4ml.index.history import History
from cd4ml.index.record import RECORD_PATH, Entry, encode, seal
from cd4ml.index.rows import rows, run_told_by
from cd4ml.promotion.leaderboard import DECIDES, BoardSide, measured_of, ranked
from tests.gateways.store_world import held
from tests.index.index_world import entry, experiment_body, hexes, run_body
from tests.promotion.boards import leaderboard


@pytest.fixture
def project(tmp_path: Path) -> Project:
    git.init(tmp_path / "p", bare=True)
    return Project(git.open_repository(tmp_path / "p"), git.HERE, "main")


def grown(project: Project, count: int, start: int = 0) -> RemoteState:
    """The state after the index took in so many further synthetic runs."""
    return seen(write_index(project.root, count, start=start))


def seen(index: str | None, landing: dict[str, str] | None = None, drafts: dict[str, str] | None = None) -> RemoteState:
    return RemoteState({INDEX_BRANCH: index} if index else {}, landing or {}, drafts or {})


def changed(project: Project, index: str, files: dict[str, bytes], parents: tuple[str, ...] | None = None) -> str:
    """A commit like the index with these files put in; an empty one is taken out."""
    repository = project.repository
    tree = repository.write_tree(index, {path: data for path, data in files.items() if data})
    for path in (path for path, data in files.items() if not data):
        tree = repository.write_tree(tree, {}, without=path)
    return repository.commit_tree(tree, (index,) if parents is None else parents, "x\n")


def test_rows_and_history_follow_the_branch_and_are_those_of_all_its_entries(project: Project) -> None:
    for count, start in ((30, 0), (25, 30), (1, 55)):
        state = grown(project, count, start)
        cache, history = current_cache(project, state), read_history(project, state)
        expected = History.of(read_entries(project, state.index))
        assert cache.search() == [row.as_json() for row in rows(expected, {})]
        assert (history.runs, history.experiments) == (expected.runs, expected.experiments)
        assert history.branches == expected.branches
        assert tuple(sorted(history.each_run(), key=lambda run: run.entry.order)) == expected.runs
        for run in expected.runs:
            assert history.run_by_id(run.run.id) == run
            assert history.result(run.run.fingerprint) == expected.result(run.run.fingerprint)
            assert history.attempts(run.run.fingerprint) == expected.attempts(run.run.fingerprint)
            one = {"spec": run.run.components["spec"]}
            assert history.first_success(one) == expected.first_success(one)
        assert [history.of_branch(branch) for branch in history.branches] == [
            expected.of_branch(branch) for branch in expected.branches
        ]


def removal_of(run: str, hour: str) -> dict[str, Any]:
    body = {"kind": "removal", "run": run, "commit": hexes("base", 40), "what": "artefacts", "reason": "r", "rule": ""}
    return seal({**body, "by": "A <a@example.org>", "at": f"2026-11-03T{hour}:00:00Z", "objects": []})


@pytest.mark.parametrize("many", [1, 10_000], ids=["as kept", "as asked"])
def test_what_names_a_run_or_holds_a_text_is_found_as_among_all_entries(
    project: Project, monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    monkeypatch.setattr(landed, "_MANY", many)
    index = grown(project, 40).index
    assert index
    ids = [run.run.id for run in read_history(project, seen(index)).runs]
    removed = [entry(removal_of(ids[number], when), 2) for number, when in ((1, "10"), (2, "10"), (1, "11"))]
    index = changed(project, index, {entry_path(one.record): encode_envelope(one) for one in removed})
    history, expected = read_history(project, seen(index)), History.of(read_entries(project, index))
    assert history.runs == expected.runs
    for some in ([], ids[:1], ids[1:5], ids):
        assert history.answering(some) == expected.answering(some)
        assert history.removals_of(some) == expected.removals_of(some)
    assert len(history.removals_of(ids[1:2])) == 2
    known = history.looked_up(history.branches, [run.run.fingerprint for run in expected.runs[:3]])
    for some in ([], ids[:1], ids[1:5], ids, [*ids[1:3], "r" + "0" * 20, ids[1]]):
        assert known.removals_of(some) == expected.removals_of(some)
    for run in (one.run for one in expected.runs[:5]):
        for text in (run.id, run.commit, run.components["data"]):
            holding = {one.run.id for one in expected.runs if text.encode() in encode_envelope(one.entry)}
            assert {one.run.id for one in history.speaking_of(text)} == holding
            assert run.id in holding


def test_removals_of_many_branches_are_looked_up_together(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    state = grown(project, 40)
    whole = read_history(project, state)
    runs = whole.runs
    asked: list[str] = []
    entries = QueryCache.entries

    def counting(cache: QueryCache, condition: str, *values: Any, **others: Any) -> tuple[Entry, ...]:
        asked.append(condition)
        return entries(cache, condition, *values, **others)

    monkeypatch.setattr(QueryCache, "entries", counting)
    known = whole.looked_up(whole.branches, {run.run.fingerprint for run in runs})
    before = len(asked)
    for run in runs:
        assert known.removals_of([run.run.id]) == ()
    assert len(asked) == before + 1


def test_the_rows_of_runs_tell_a_leaderboard_what_their_records_do(project: Project) -> None:
    state = grown(project, 60)
    runs = read_history(project, state).runs
    assert sum(len(board.places) for board in leaderboard(runs).boards) > 30
    asked: tuple[tuple[BoardSide, str], ...] = (("validation", ""), ("test", "mae"))
    for side, metric in asked:
        found = current_cache(project, state).of_successes(
            DECIDES,
            lambda doc, side=side, metric=metric: measured_of(run_told_by(doc).run, side, metric),  # type: ignore[misc]  # bound now
            lambda told: ranked(candidate_of(*one) for one in told),
        )
        assert found == leaderboard(runs, side, metric)


def test_what_is_made_once_for_rows_that_are_equal_at_some_paths_is_what_each_of_them_gives(project: Project) -> None:
    state = grown(project, 60)
    runs = {run.run.id: run.run for run in read_history(project, state).runs}
    told = current_cache(project, state).of_successes(
        DECIDES, lambda doc: measured_of(run_told_by(doc).run, "validation"), list
    )
    assert {doc["id"]: measured for doc, measured in told} == {
        run_id: measured_of(run, "validation") for run_id, run in runs.items() if run.succeeded
    }
    assert len({repr(measured) for _, measured in told}) > 1


@pytest.fixture
def by_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even a small index is read by further processes, in many parts."""
    monkeypatch.setattr(landed, "_MANY", 1)
    monkeypatch.setattr(envelopes, "_PART", 20_000)
    monkeypatch.setattr(envelopes, "_processors", lambda: 2)


def rebuilt(project: Project, state: RemoteState) -> dict[str, Any]:
    shutil.rmtree(project.private, ignore_errors=True)
    with contextlib.closing(current_cache(project, state)) as cache:
        return held(cache)


def test_each_run_is_read_when_it_is_asked_for(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a walk over a large index holds a few of its records in memory, and not all."""
    state = grown(project, 40)
    history = read_history(project, state)
    read: list[str] = []
    judged = landed._judged

    def counting(data: bytes, path: str) -> Entry | None:
        read.append(path)
        return judged(data, path)

    monkeypatch.setattr(landed, "_judged", counting)
    runs = iter(history.each_run())
    next(runs)
    assert len(read) == 1
    assert len(list(runs)) == len(read) - 1 == len(history.runs) - 1


def test_how_far_the_reading_of_a_large_index_is_is_told(
    project: Project, by_others: None, caplog: pytest.LogCaptureFixture
) -> None:
    state = grown(project, 120)
    caplog.set_level(logging.INFO, "cd4ml.progress")
    entries = rebuilt(project, state)["entries"]
    told = [tuple(map(int, re.findall(r"\d+", record.getMessage()))) for record in caplog.records]
    assert told[0] == (0, len(entries))
    assert told[-1] == (len(entries), len(entries))
    assert len(told) > 3
    assert told == sorted(told)


def test_further_processes_make_the_rows_that_this_one_makes(project: Project, request: pytest.FixtureRequest) -> None:
    state = grown(project, 120)
    here = rebuilt(project, state)
    request.getfixturevalue("by_others")
    assert rebuilt(project, state) == here


@pytest.mark.usefixtures("by_others")
@pytest.mark.parametrize("command", [["false"], ["echo", "nonsense"], ["/nowhere/python"]])
def test_where_no_further_process_can_help_the_rows_are_made_here(
    project: Project, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    state = grown(project, 120)
    expected = rebuilt(project, state)
    monkeypatch.setattr(envelopes, "Helper", lambda *_: Helper(command))
    assert rebuilt(project, state) == expected


def files_and_processes() -> tuple[list[str], list[str]]:
    """The files without a name that this process has open, and the processes that it has started."""
    opened = [str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    started = [path.read_text("utf-8") for path in Path("/proc/self/task").glob("*/children")]
    return sorted(one for one in opened if one.endswith("(deleted)")), sorted(" ".join(started).split())


@pytest.mark.usefixtures("by_others")
def test_where_there_is_no_room_for_files_entries_are_read_one_by_one(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = grown(project, 120)
    expected = rebuilt(project, state)

    def full(*_: object) -> list[Place]:
        raise OSError(28, "No space left on device")

    before, looked = files_and_processes(), []
    plain = type(project.repository).read_many

    def looking(repository: Repository, object_ids: Sequence[str]) -> Iterator[bytes]:
        looked.append(files_and_processes())
        return plain(repository, object_ids)

    monkeypatch.setattr(Repository, "put_many", full)
    monkeypatch.setattr(Repository, "read_many", looking)
    assert rebuilt(project, state) == expected
    assert looked == [before]  # what was put so far is gone, since there is little room


@pytest.mark.usefixtures("by_others")
def test_nothing_is_left_of_the_files_that_further_processes_read(project: Project) -> None:
    state = grown(project, 120)
    before = files_and_processes()
    cache = current_cache(project, state)
    assert files_and_processes() == before
    cache.close()
    assert {path.name for path in project.private.iterdir()} == {"query", "query.lock", "query.sqlite"}


@pytest.mark.usefixtures("by_others")
def test_what_was_started_for_the_rows_ends_with_an_error_though_the_error_lives_on(project: Project) -> None:
    index = grown(project, 120).index
    assert index
    path = some_path(project, index, "runs/")
    edited = changed(project, index, {path: project.repository.read_tree(index)[path].replace(b"model-", b"modem-")})
    before = files_and_processes()
    with pytest.raises(IntegrityError) as caught:
        current_cache(project, seen(edited))
    assert files_and_processes() == before
    del caught


@pytest.mark.usefixtures("by_others")
def test_the_second_try_in_memory_begins_when_the_first_holds_nothing_any_more(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as on a full disk, on which the first left no room."""
    state = grown(project, 120)
    expected = rebuilt(project, state)
    shutil.rmtree(project.private)
    before = files_and_processes()
    looked: list[object] = []
    insert, fill = Writer.write, store_keeping.fill

    def full(writer: Writer, batch: Batch) -> None:
        if len(looked) == 0:
            raise sqlite3.OperationalError("database or disk is full")
        insert(writer, batch)

    def looking(*arguments: Any) -> None:
        if path_of(arguments[0]) == "":
            looked.append(files_and_processes())
        fill(*arguments)

    monkeypatch.setattr(Writer, "write", full)
    monkeypatch.setattr(store_file, "fill", looking)
    assert held(current_cache(project, state)) == expected
    assert looked == [before]


def path_of(database: sqlite3.Connection) -> str:
    """The file that a database is in; ``""`` for one in memory."""
    return str(database.execute("PRAGMA database_list").fetchone()[2])


@pytest.mark.usefixtures("by_others")
def test_where_the_private_folder_takes_no_files_they_lie_where_temporary_ones_are_kept(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = grown(project, 120)
    expected = rebuilt(project, state)
    made: list[object] = []

    def reluctant(**where: Any) -> Any:
        if where:
            raise PermissionError(13, "Permission denied")
        made.append(TemporaryFile())  # noqa: SIM115  # whoever asked closes it
        return made[-1]

    monkeypatch.setattr(landed, "TemporaryFile", reluctant)
    assert rebuilt(project, state) == expected
    assert len(made) == 2


@pytest.mark.usefixtures("by_others")
@pytest.mark.parametrize("folder", ["runs/", "experiments/"])
def test_an_edited_entry_is_named_whoever_reads_it(project: Project, folder: str) -> None:
    index = grown(project, 120).index
    assert index
    path = some_path(project, index, folder)
    data = project.repository.read_tree(index)[path]
    with pytest.raises(IntegrityError, match=path):
        current_cache(project, seen(changed(project, index, {path: data.replace(b"model-", b"modem-")})))


def test_the_whole_is_read_once_and_then_what_was_added(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    plain = type(project.repository).read_many

    def counting(repository: Repository, object_ids: Sequence[str]) -> Iterator[bytes]:
        read.append(len(object_ids))
        return plain(repository, object_ids)

    monkeypatch.setattr(type(project.repository), "read_many", counting)
    grown(project, 40)
    current_cache(project, grown(project, 0))
    current_cache(project, grown(project, 0)).search()
    current_cache(project, grown(project, 3, 40)).search()
    assert read == [44, 3]


def test_an_index_that_goes_back_and_forth_is_followed_both_ways(project: Project) -> None:
    first, second = grown(project, 20), grown(project, 20, 20)
    rows_of = {state.index: current_cache(project, state).search() for state in (first, second)}
    for state in (first, second, first):
        assert current_cache(project, state).search() == rows_of[state.index]


def test_another_index_altogether_is_read_whole(project: Project, tmp_path: Path) -> None:
    current_cache(project, grown(project, 20))
    other = write_index(project.root, 10, 7, ref="refs/heads/other")
    found = current_cache(project, seen(other)).search()
    assert len(found) == 10
    assert current_cache(project, seen(None)).search() == []


def some_path(project: Project, index: str, folder: str) -> str:
    return min(path for path in project.repository.blob_ids(index, "") if path.startswith(folder))


@pytest.mark.parametrize("folder", ["runs/", "experiments/"])
@pytest.mark.parametrize("with_cache", [False, True])
def test_an_entry_that_was_edited_is_named(project: Project, folder: str, with_cache: bool) -> None:
    state = grown(project, 20)
    assert state.index
    if with_cache:
        current_cache(project, state)
    path = some_path(project, state.index, folder)
    data = project.repository.read_tree(state.index)[path]
    edited = changed(project, state.index, {path: data.replace(b'"schema": 1', b'"schema":  1')})
    if not with_cache:
        edited = changed(project, state.index, {path: data.replace(b"model-", b"modem-")})
    with pytest.raises(IntegrityError, match=path):
        current_cache(project, seen(edited))
    assert len(current_cache(project, state).search()) == 20


def test_an_entry_that_was_taken_out_on_top_of_the_index_is_named(project: Project) -> None:
    state = grown(project, 20)
    assert state.index
    current_cache(project, state)
    path = some_path(project, state.index, "runs/")
    with pytest.raises(IntegrityError, match=f"{path}: was taken out"):
        current_cache(project, seen(changed(project, state.index, {path: b""})))
    shutil.rmtree(project.private)  # whoever never saw it cannot tell: `verify` looks at the chain
    assert len(current_cache(project, seen(changed(project, state.index, {path: b""}))).search()) == 19


def test_a_landed_record_counts_until_it_is_folded_and_a_draft_only_where_it_is_asked_for(project: Project) -> None:
    repository = project.repository
    index = grown(project, 5).index
    assert index
    refs, bodies = {}, [landed_body(project, number) for number in (1, 2)]
    for body in bodies:
        tree = repository.write_tree(str(body["commit"]), {RECORD_PATH: encode(body)})
        refs[LANDING + str(body["id"])] = repository.commit_tree(tree, (str(body["commit"]),), "landed\n")
    (first, commit), (second, draft) = refs.items()
    state = seen(index, {first: commit}, {second: draft, first: commit})
    ids = [str(body["id"]) for body in bodies]
    assert [run.run.id for run in read_history(project, state).runs[-2:]] == sorted(ids)
    assert [run.run.id for run in read_history(project, state, drafts=False).runs[-1:]] == [ids[0]]
    folded = entry(bodies[0], 2)
    later = changed(project, index, {entry_path(folded.record): encode_envelope(folded)})
    history = read_history(project, seen(later, {first: commit}))
    assert history.run_by_id(ids[1]) is None
    assert [run.entry for run in history.runs if run.run.id == ids[0]] == [folded]


def landed_body(project: Project, number: int) -> dict[str, Any]:
    tree = project.repository.write_tree(None, {"source": str(number).encode()})
    commit = project.repository.commit_tree(tree, (), "source\n")
    return run_body(number, commit=commit, tree=tree)


ENVELOPES = [
    entry(run_body()),
    entry(run_body(failed=True)),
    entry(experiment_body()),
    entry(run_body("é\u2028"), 1000),
]


@pytest.mark.parametrize("one", ENVELOPES, ids=["run", "failed", "experiment", "letters"])
def test_the_short_way_to_read_an_envelope_ends_where_the_long_one_does(one: Any) -> None:
    """For what a fold wrote, and for that with a piece of it cut out, doubled or replaced, at every place."""
    path, whole = entry_path(one.record), encode_envelope(one)
    assert read_envelope(whole, path) == parse_envelope(whole, path) == one
    for at in range(0, len(whole), 41):
        for piece in (b"", whole[at : at + 5] * 2, b'"', b"\x00", b"\\u0000", b"1e999", b"\xff"):
            forged = whole[:at] + piece + whole[at + 5 :]
            expected = outcome(parse_envelope, forged, path)
            assert outcome(read_envelope, forged, path) == expected, (at, piece)
    assert outcome(read_envelope, whole, f"runs/{hexes('x')}.json")[0] == "IntegrityError"


def outcome(read: Any, data: bytes, path: str) -> tuple[str, Any]:
    try:
        return "read", read(data, path)
    except IntegrityError as error:
        return type(error).__name__, str(error)
