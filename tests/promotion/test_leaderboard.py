"""The best of those that were measured alike: never one list over what does not compare, and never a tie."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cd4ml.index.history import History, RunEntry
from cd4ml.index.record import RunRecord
from cd4ml.promotion.leaderboard import DECIDES, better, key_of, measured_of
from tests.index.index_world import SIDES, entry, hexes, run_body
from tests.promotion.boards import leaderboard


def params(**evaluation: Any) -> dict[str, Any]:
    return {"data": {"target": "delay"}, "evaluation": {"task": "regression", "primary": "rmse", **evaluation}}


def body(label: object, rmse: Any = 12.5, **changed: Any) -> dict[str, Any]:
    metrics = {"validation": {"rmse": rmse}, "test": {"rmse": 13.25}}
    return run_body(label, **{"params": params(), "metrics": metrics, **changed})


def sides(label: str) -> dict[str, Any]:
    return {side: {"rows": 1, "digest": hexes(f"{label} {side}")} for side in SIDES}


def runs(*bodies: dict[str, Any]) -> tuple[RunEntry, ...]:
    """The runs in fold order: each of a fold of its own."""
    return History.of(entry(one, number) for number, one in enumerate(bodies, start=1)).runs


def test_the_best_is_first_by_the_direction_of_the_metric() -> None:
    found = leaderboard(runs(body("a", 3.0), body("b", 1.0), body("c", 2.0)))
    assert [place.value for place in found.boards[0].places] == [1.0, 2.0, 3.0]
    up = [body(one, metrics={"validation": {"r2": one}}, primary={"metric": "r2"}) for one in (0.1, 0.9)]
    (board,) = leaderboard(runs(*up)).boards
    assert ([place.value for place in board.places], board.key.direction) == ([0.9, 0.1], "maximize")


@pytest.mark.parametrize(
    "changed",
    [
        {"split": sides("elsewhere")},
        {"params": params(task="binary")},
        {"params": params(positive="yes")},
        {"params": {**params(), "data": {"target": "other"}}},
        {"params": params(own={"rmse": {"function": "own.zero", "direction": "minimize"}})},
    ],
    ids=["rows", "task", "positive", "target", "own"],
)
def test_what_was_measured_otherwise_is_a_list_of_its_own(changed: dict[str, Any]) -> None:
    found = leaderboard(runs(body("a"), body("b", 1.0, **changed), body("c")))
    assert sorted(len(board.places) for board in found.boards) == [1, 2]


OWN = params(own={"cost": {"function": "own.cost", "direction": "maximize"}})
MEASURED = {
    "params": OWN,
    "primary": {"metric": "cost"},
    "judge": {"commit": hexes("judge", 40), "code": "old"},
    "data": {"flights": {"digest": hexes("flights"), "rows": 3}},
}


def told(path: tuple[str, ...], value: Any) -> Any:
    """The value that lies at a path, and nothing beside the way to it."""
    head, *rest = path
    return {head: told(tuple(rest), value[head]) if rest else value[head]}


def test_what_decides_how_a_run_was_measured_is_all_that_is_looked_at() -> None:
    whole = body("a", **MEASURED)
    left: dict[str, Any] = {"params": {}}
    for path in DECIDES:
        part = told(path, whole)
        left["params"].update(part.pop("params", {}))
        left.update(part)
    found = measured_of(RunRecord(left), "validation")
    assert found is not None
    assert found == measured_of(RunRecord(whole), "validation")


@pytest.mark.parametrize("path", DECIDES)
def test_each_place_that_decides_how_a_run_was_measured_does(path: tuple[str, ...]) -> None:
    whole = body("a", **MEASURED)
    missing = {**whole, path[0]: {key: value for key, value in whole[path[0]].items() if key != path[-1]}}
    if len(path) == 1:
        missing[path[0]] = None
    assert measured_of(RunRecord(missing), "validation") != measured_of(RunRecord(whole), "validation")


def test_the_code_of_a_metric_of_the_projects_own_parts_lists_and_a_metric_of_cd4mls_is_not_parted_by_it() -> None:
    own = params(own={"cost": {"function": "own.cost", "direction": "maximize"}})
    made = [
        body(code, params=own, primary={"metric": "cost"}, metrics={"validation": {"cost": 1.0, "rmse": 2.0}},
             judge={"commit": hexes(code, 40), "code": code})
        for code in ("old", "new")
    ]  # fmt: skip
    by_cost = leaderboard(runs(*made))
    assert [board.key.direction for board in by_cost.boards] == ["maximize", "maximize"]
    assert len(leaderboard(runs(*made), metric="rmse").boards) == 1


def test_other_training_data_with_the_same_validation_rows_is_one_list_that_names_both() -> None:
    old, new = {"flights": {"digest": hexes("old"), "rows": 3}}, {"flights": {"digest": hexes("new"), "rows": 4}}
    (board,) = leaderboard(runs(body("a", data=old), body("b", data=new))).boards
    assert board.sources == {"flights": (hexes("old"), hexes("new"))}
    assert board.rows == 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None, "1", True])
def test_what_is_no_finite_number_never_ranks(value: object) -> None:
    """Minus infinity would be the smallest error of all. A record cannot hold it; whoever asks may make one."""
    odd = RunRecord({**body("b"), "metrics": {"validation": {"rmse": value}}})
    assert key_of(odd) is None
    first = runs(body("a"))[0]
    found = leaderboard([first, RunEntry(first.entry, odd)])
    assert (len(found.boards[0].places), found.unranked) == (1, 1)


def test_a_missing_metric_an_unknown_side_and_a_failure_have_no_place() -> None:
    lacking = [
        body("a", metrics={}),
        body("b", split={}),
        body("c", primary={"metric": "luck"}, metrics={"validation": {"luck": 1.0}}),
        body("d", failed=True),
    ]
    found = leaderboard(runs(*lacking))
    assert (found.boards, found.unranked) == ((), 3)  # a failure is nothing that could rank


def test_what_was_run_again_is_counted_at_its_result() -> None:
    """The first success is the result, even where a later run came out better."""
    made = [body("a", 2.0), body("a", 1.0, threads=2), body("b", 1.5), body("a", 3.0, threads=3)]
    (board,) = leaderboard(runs(*made)).boards
    assert [(place.value, place.replicates) for place in board.places] == [(1.5, 0), (2.0, 2)]


def test_the_validation_side_ranks_unless_the_test_side_is_asked_for() -> None:
    made = [
        body(label, metrics={"validation": {"rmse": low}, "test": {"rmse": high}})
        for label, low, high in (("a", 1.0, 9.0), ("b", 2.0, 3.0))
    ]
    assert [place.value for place in leaderboard(runs(*made)).boards[0].places] == [1.0, 2.0]
    (test,) = leaderboard(runs(*made), side="test").boards
    assert ([place.value for place in test.places], test.key.rows) == ([3.0, 9.0], hexes("test"))


def test_a_metric_that_is_asked_for_ranks_those_that_have_it() -> None:
    made = [body("a"), body("b", metrics={"validation": {"mae": 1.0}})]
    found = leaderboard(runs(*made), metric="mae")
    assert [board.key.metric for board in found.boards] == ["mae"]
    assert (len(found.boards[0].places), found.unranked) == (1, 1)


VALUES = st.lists(st.sampled_from([1.0, 1.5, 2.0]), min_size=2, max_size=7)


@given(VALUES, st.randoms(use_true_random=False))
def test_equals_stand_in_fold_order_and_no_two_are_tied(values: list[float], shuffle: random.Random) -> None:
    entries = list(runs(*(body(number, value) for number, value in enumerate(values))))
    (board,) = leaderboard(entries).boards
    assert [(place.value, place.order[0]) for place in board.places] == sorted(
        (value, number) for number, value in enumerate(values, start=1)
    )
    one, other = shuffle.sample(board.places, 2)
    assert better(one, other, "minimize") != better(other, one, "minimize")
    assert better(one, other, "minimize") == (board.places.index(one) < board.places.index(other))


@given(VALUES)
def test_no_run_is_on_two_lists_and_none_is_lost(values: list[float]) -> None:
    made = [body(number, value, split=sides(str(number % 3))) for number, value in enumerate(values)]
    by_id = {one.run.id: one.run for one in runs(*made)}
    found = leaderboard(runs(*made))
    ids = [place.id for board in found.boards for place in board.places]
    assert sorted(ids) == sorted(one["id"] for one in made)
    assert len({board.key for board in found.boards}) == len(found.boards)
    for board in found.boards:
        assert {key_of(by_id[place.id]) for place in board.places} == {board.key}


def test_the_list_with_the_newest_result_comes_first() -> None:
    made = [body("a"), body("b", split=sides("new")), body("c", split=sides("newer"))]
    found = leaderboard(runs(*made))
    assert [board.places[0].id for board in found.boards] == [one["id"] for one in reversed(made)]
