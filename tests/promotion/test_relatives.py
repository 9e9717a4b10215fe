"""Runs that asked for the same, or for nearly the same."""

from __future__ import annotations

from typing import Any

import pytest

from cd4ml.index.record import RunRecord
from cd4ml.promotion.relatives import MOST, Kin, near_relatives, near_runs, same_runs

PARAMS: dict[str, Any] = {
    "name": "baseline",
    "seed": 1,
    "features": {"numeric": ["a", "b"]},
    "model": {
        "name": "ridge",
        "parameters": {"alpha": 1.0},
        "estimator": {"steps": [["scale", 1], ["fit", {"alpha": 1.0}]]},
    },
    "promotion": {"min_improvement": 0.0},
}


def run(number: int = 0, *, succeeded: bool = True, branch: str = "exp/a", **params: Any) -> RunRecord:
    body = {
        "id": f"r{number:020}",
        "fingerprint": f"{number:064x}",
        "branch": branch,
        "outcome": "succeeded" if succeeded else "failed",
        "reason": None if succeeded else {"kind": "deterministic", "stage": "train", "message": "no\x1b[2J room"},
        "finished": "2026-11-03T10:00:00Z",
        "metrics": {"validation": {"rmse": float(number)}},
        "params": {**PARAMS, **params},
    }
    return RunRecord(body)


def near(*runs: RunRecord, params: dict[str, Any] | None = None, left_out: frozenset[str] = frozenset()) -> list[Any]:
    found = near_runs(runs, params or PARAMS, "f" * 64, left_out)
    return [(one.id, key, here, there) for one, key, here, there in found]


def test_a_run_for_another_branch_is_told_with_its_lifecycle_and_metric() -> None:
    (found,) = same_runs([Kin(run(3), "exp/a", "discarded"), Kin(run(3), "exp/own", "open")], "exp/own", "rmse")
    assert (found.kind, found.branch, found.lifecycle, found.outcome) == ("same", "exp/a", "discarded", "succeeded")
    assert (found.metric, found.reason, found.key) == (3.0, "", "")


def test_of_a_branch_the_success_counts_and_otherwise_the_last_failure() -> None:
    failed, later = run(1, succeeded=False), run(2, succeeded=False)
    tried = [Kin(failed, "exp/a", "open"), Kin(run(3), "exp/a", "open"), Kin(later, "exp/a", "open")]
    assert [one.run for one in same_runs(tried, "", "rmse")] == [run(3).id]
    assert [one.run for one in same_runs([tried[0], tried[2]], "", "rmse")] == [later.id]


def test_a_failure_is_told_in_one_line_without_controls() -> None:
    (found,) = same_runs([Kin(run(1, succeeded=False), "exp/a", "open")], "", "rmse")
    assert (found.outcome, found.reason) == ("failed", "train: no[2J room")


def test_the_newest_of_many_are_told_newest_first() -> None:
    kin = [Kin(run(number), f"exp/{number}", "open") for number in range(20)]
    assert [one.branch for one in same_runs(kin, "", "rmse")] == [
        f"exp/{number}" for number in range(19, 19 - MOST, -1)
    ]


def test_one_key_that_differs_is_near_with_its_value_here_and_there() -> None:
    assert near(run(1, seed=7)) == [(run(1).id, "seed", 1, 7)]


def test_two_keys_that_differ_are_not_near() -> None:
    assert near(run(1, seed=7, features={"numeric": ["a"]})) == []


def test_equal_configurations_are_not_near() -> None:
    """They are the same: it is the environment, or nothing, that differs."""
    assert near(run(1)) == []


def test_what_cannot_change_a_result_does_not_count_as_a_difference() -> None:
    assert near(run(1, seed=7, name="other", promotion={"min_improvement": 9.0})) == [(run(1).id, "seed", 1, 7)]


def test_a_parameter_and_the_place_that_refers_to_it_are_one_key() -> None:
    model = {
        "name": "ridge",
        "parameters": {"alpha": 2.0},
        "estimator": {"steps": [["scale", 1], ["fit", {"alpha": 2.0}]]},
    }
    assert near(run(1, model=model)) == [(run(1).id, "model.parameters.alpha", 1.0, 2.0)]
    other = {**model, "estimator": {"steps": [["scale", 1], ["fit", {"alpha": 3.0}]]}}
    assert near(run(1, model=other)) == []


@pytest.mark.parametrize("value", [1.0, True])
def test_a_value_of_another_type_is_a_difference(value: object) -> None:
    """1, 1.0 and true are three to the fingerprint."""
    assert near(run(1, seed=value)) == [(run(1).id, "seed", 1, value)]


def test_own_and_base_branches_and_further_runs_of_a_fingerprint_are_left_out() -> None:
    runs = [run(1, seed=2, branch="main"), run(2, seed=3), run(2, seed=3)]
    assert near(*runs, left_out=frozenset({"main"})) == [(run(2).id, "seed", 1, 3)]


def test_the_first_five_near_ones_are_enough() -> None:
    assert len(near(*(run(number, seed=number + 2) for number in range(30)))) == MOST


def test_a_branch_of_which_nothing_is_known_is_discarded() -> None:
    (found,) = near_relatives(near_runs([run(1, seed=7)], PARAMS, "", frozenset()), {}, "rmse")
    assert (found.kind, found.lifecycle, found.key, found.here, found.there) == ("near", "discarded", "seed", 1, 7)


def test_configurations_of_any_size_are_held_against_each_other_at_once() -> None:
    many = {f"k{number}": number for number in range(10_000)}
    assert near(run(1, more=many), params={**PARAMS, "more": {**many, "k7": -1}}) == [(run(1).id, "more.k7", -1, 7)]
    assert near(run(1, more=many), params={**PARAMS, "more": dict.fromkeys(many, -1)}) == []
