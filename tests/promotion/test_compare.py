"""A challenger against a champion: each number, each difference, and a verdict that never flatters."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cd4ml.index.record import RunRecord
from cd4ml.promotion.compare import ConfigChange, compare
from cd4ml.spec.fingerprint import spec_digest

PARAMS: dict[str, Any] = {
    "name": "baseline",
    "hypothesis": "",
    "seed": 1,
    "features": {"numeric": ["distance", "dep_delay"]},
    "model": {"estimator": {"_target_": "sklearn.linear_model.Ridge", "alpha": 1.0}},
    "evaluation": {"metrics": ["rmse", "r2"], "primary": "rmse"},
    "executor": {"threads": 1},
}


def run(test: dict[str, Any] | None = None, **changed: Any) -> RunRecord:
    """A succeeded run with these metrics on its test side."""
    body: dict[str, Any] = {
        "id": "r" + "0" * 20,
        "fingerprint": "f" * 64,
        "components": {"spec": "s", "code": "c", "data": "d", "pipeline": "p", "env": "e"},
        "outcome": "succeeded",
        "reason": None,
        "params": PARAMS,
        "primary": {"metric": "rmse", "direction": "minimize"},
        "metrics": {"validation": {"rmse": 11.0, "r2": 0.5}, "test": test or {"rmse": 10.0, "r2": 0.6}},
        "data": {"flights": {"digest": "d" * 64, "rows": 100}},
        "split": {"test": {"digest": "t" * 64, "rows": 10}},
        "environment": {"python": "3.11.7", "platform": "linux", "packages": {"numpy": "2.4.6"}, "lock": ""},
    }
    return RunRecord({**body, **changed})


def test_each_metric_is_judged_by_its_own_direction() -> None:
    """A smaller error and a smaller r2 are not both better."""
    result = compare(run(), run({"rmse": 9.0, "r2": 0.5}))
    rows = {(row.side, row.metric): row for row in result.metrics}
    error, fit = rows["test", "rmse"], rows["test", "r2"]
    assert (error.champion, error.challenger, error.change) == (10.0, 9.0, -1.0)
    assert error.relative == pytest.approx(-0.1)
    assert (error.direction, error.judgement) == ("minimize", "better")
    assert (fit.direction, fit.judgement) == ("maximize", "worse")
    assert rows["validation", "rmse"].judgement == "equal"
    assert [row.side for row in result.metrics] == ["validation", "validation", "test", "test"]


@pytest.mark.parametrize(
    ("rmse", "least", "verdict", "reason"),
    [
        (9.0, 0.0, "better", "rmse on the test side is better"),
        (9.0, 1.0, "better", "rmse on the test side is better"),
        (9.5, 1.0, "no difference", "rmse on the test side is better by less than the 1 asked for"),
        (9.5, math.nan, "no difference", "rmse on the test side is better by less than the nan asked for"),
        (10.0, 0.0, "no difference", "rmse on the test side is equal"),
        (10.0, -1.0, "no difference", "rmse on the test side is equal"),
        (10.001, 0.0, "worse", "rmse on the test side is worse"),
        (10.001, -1.0, "worse", "rmse on the test side is worse"),
    ],
)
def test_the_primary_metric_on_the_test_side_decides(rmse: float, least: float, verdict: str, reason: str) -> None:
    result = compare(run(), run({"rmse": rmse, "r2": 0.9}), least)
    assert (result.verdict, result.reason) == (verdict, reason)


def own(**directions: Any) -> dict[str, Any]:
    return {**PARAMS, "evaluation": {"own": {name: {"direction": way} for name, way in directions.items()}}}


def test_the_direction_of_the_projects_own_metric_is_the_champions() -> None:
    """A challenger cannot turn its loss into a gain by declaring the other direction; cd4ml's metrics keep theirs."""
    champion = run({"cost": 3.0, "rmse": 1.0}, params=own(cost="minimize", rmse="maximize"))
    challenger = run({"cost": 4.0, "rmse": 2.0}, params=own(cost="maximize"))
    rows = {row.metric: row for row in compare(champion, challenger).metrics if row.side == "test"}
    assert (rows["cost"].direction, rows["cost"].judgement) == ("minimize", "worse")
    assert (rows["rmse"].direction, rows["rmse"].judgement) == ("minimize", "worse")


@pytest.mark.parametrize(
    "evaluation", [None, [], "x", {"own": []}, {"own": {"cost": []}}, own(cost=["minimize"])["evaluation"]]
)
def test_an_own_metric_without_a_known_direction_is_judged_unknown(evaluation: Any) -> None:
    champion = run({"cost": 3.0}, params={**PARAMS, "evaluation": evaluation})
    rows = [row for row in compare(champion, run({"cost": 4.0})).metrics if row.metric == "cost"]
    assert [(row.direction, row.judgement) for row in rows] == [(None, "unknown")]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None, "9.0", True, [9.0]])
def test_what_is_not_a_finite_number_is_never_better(value: object) -> None:
    """Minus infinity would be the smallest error of all."""
    result = compare(run(), run({"rmse": value, "r2": 0.9}))
    row = next(row for row in result.metrics if (row.side, row.metric) == ("test", "rmse"))
    assert (row.challenger, row.change, row.relative, row.judgement) == (None, None, None, "unknown")
    assert result.verdict == "not comparable"
    assert result.reason == "rmse on the test side is missing from the challenger, or no finite number there"


def test_a_missing_primary_metric_is_not_comparable_and_says_from_whom() -> None:
    assert compare(run(), run({"r2": 0.9})).reason.startswith("rmse on the test side is missing from the challenger")
    assert compare(run({"r2": 0.9}), run()).reason.startswith("rmse on the test side is missing from the champion")
    assert compare(run({"r2": 0.9}), run({"r2": 0.9})).reason == "rmse on the test side is missing from both"


def test_the_challenger_cannot_choose_the_metric_that_decides() -> None:
    challenger = run({"rmse": 99.0, "r2": 0.9}, primary={"metric": "r2", "direction": "maximize"})
    assert compare(run(), challenger).verdict == "worse"


def test_a_metric_of_no_known_direction_does_not_decide() -> None:
    odd = {"metric": "luck", "direction": "maximize"}
    result = compare(run({"luck": 1.0}, primary=odd), run({"luck": 2.0}, primary=odd))
    assert (result.verdict, result.reason) == ("not comparable", "luck on the test side is of no known direction")


@pytest.mark.parametrize("split", [{}, {"test": {"digest": "", "rows": 1}}, {"test": {"digest": "u" * 64}}])
def test_other_or_unknown_test_rows_are_not_comparable(split: dict[str, Any]) -> None:
    result = compare(run(), run({"rmse": 1.0}, split=split))
    assert result.verdict == "not comparable"
    assert "test side" in result.reason
    assert compare(run(split={}), run({"rmse": 1.0}, split={})).verdict == "not comparable"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"evaluation": {"task": "binary"}}, "evaluation.task differs"),
        ({"evaluation": {"positive": "no"}}, "evaluation.positive differs"),
        ({"data": {"target": "other"}}, "data.target differs"),
        ({"evaluation": {"own": {"rmse": {"function": "mine.zero"}}}}, "evaluation.own.rmse differs"),
    ],
)
def test_a_challenger_that_is_measured_otherwise_is_not_comparable(changed: dict[str, Any], reason: str) -> None:
    found = compare(run(), run({"rmse": 1.0}, params={**PARAMS, **changed}))
    assert (found.verdict, found.reason) == ("not comparable", reason)


def test_an_own_metric_that_other_code_computed_is_not_comparable() -> None:
    params = own(rmse="minimize")
    old, new = (run(params=params, judge={"commit": "c", "code": code}) for code in ("old", "new"))
    assert compare(old, new).reason == "the code of rmse differs"
    assert compare(old, old).verdict == "no difference"


def test_a_failed_run_is_not_comparable_and_says_where_and_why() -> None:
    why = {"kind": "deterministic", "stage": "validate", "message": "1 of 2\nexpectations failed"}
    failed = run(outcome="failed", reason=why, metrics={}, split={})
    assert compare(run(), failed).reason == "the challenger failed at validate because 1 of 2 expectations failed"
    assert compare(failed, run()).verdict == "not comparable"
    assert compare(failed, run()).reason.startswith("the champion failed at validate")


def config(old: dict[str, Any], new: dict[str, Any]) -> list[ConfigChange]:
    return list(compare(run(params=old), run(params=new)).config)


def test_configuration_differs_by_dotted_key_and_only_where_it_can_change_a_result() -> None:
    new = {
        **PARAMS,
        "name": "other",
        "hypothesis": "it helps",
        "executor": {"threads": 8},
        "model": {"estimator": {"_target_": "xgboost.XGBRegressor", "max_depth": 6}},
    }
    assert config(PARAMS, new) == [
        ConfigChange("model.estimator._target_", "changed", "sklearn.linear_model.Ridge", "xgboost.XGBRegressor"),
        ConfigChange("model.estimator.alpha", "removed", 1.0, None),
        ConfigChange("model.estimator.max_depth", "added", None, 6),
    ]


def test_a_list_of_plain_values_is_one_value_and_a_list_of_steps_goes_by_index() -> None:
    steps = [["scale", {"_target_": "S", "with_mean": True}], ["fit", {"_target_": "R"}]]
    other = [["scale", {"_target_": "S", "with_mean": False}], ["fit", {"_target_": "R"}]]
    assert config({"numeric": ["a", "b"], "steps": steps}, {"numeric": ["a"], "steps": other}) == [
        ConfigChange("numeric", "changed", ["a", "b"], ["a"]),
        ConfigChange("steps.0.1.with_mean", "changed", True, False),
    ]


@pytest.mark.parametrize(("old", "new"), [(1, 1.0), (1, True), (0, False), ("1", 1), (None, 0), ({}, [])])
def test_values_that_a_fingerprint_tells_apart_differ_here_too(old: object, new: object) -> None:
    assert [change.key for change in config({"a": {"b": old}}, {"a": {"b": new}})] == ["a.b"]


def test_an_added_null_is_told_from_a_missing_key() -> None:
    assert config({}, {"a": None}) == [ConfigChange("a", "added", None, None)]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-1, 1) | st.text("ab.", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab.", max_size=2), inner, max_size=3),
    max_leaves=8,
)
CONFIG = st.dictionaries(st.sampled_from(["seed", "model", "name"]), JSON, max_size=3)


@settings(deadline=None)
@given(CONFIG, CONFIG)
def test_configuration_differs_exactly_when_its_digest_does(old: dict[str, Any], new: dict[str, Any]) -> None:
    changes = config(old, new)
    assert (not changes) == (spec_digest(old) == spec_digest(new))
    swapped = {"added": "removed", "removed": "added", "changed": "changed"}
    assert [(c.key, swapped[c.how], c.challenger, c.champion) for c in changes] == [
        (c.key, c.how, c.champion, c.challenger) for c in config(new, old)
    ]


def test_data_environment_and_components_that_moved_are_named() -> None:
    challenger = run(
        data={"flights": {"digest": "e" * 64, "rows": 90}, "weather": {"digest": "w" * 64, "rows": 5}},
        environment={"python": "3.12.1", "packages": {"scipy": "1.17.1"}},
        components={"spec": "s", "code": "c", "data": "D", "pipeline": "p", "env": "E"},
    )
    result = compare(run(), challenger)
    assert result.moved == ("data", "env")
    flights, weather = result.data
    assert (flights.how, flights.champion_rows, flights.challenger_rows) == ("changed", 100, 90)
    assert (weather.source, weather.how, weather.champion) == ("weather", "added", None)
    assert [(change.package, change.how, change.champion, change.challenger) for change in result.environment] == [
        ("numpy", "removed", "2.4.6", None),
        ("python", "changed", "3.11.7", "3.12.1"),
        ("scipy", "added", None, "1.17.1"),
    ]


def test_a_run_against_itself_differs_in_nothing() -> None:
    result = compare(run(), run())
    assert result.verdict == "no difference"
    assert (result.config, result.data, result.environment, result.moved) == ((), (), (), ())


NUMBERS = st.floats(allow_nan=True, allow_infinity=True) | st.none()


@settings(deadline=None)
@given(NUMBERS, NUMBERS, st.floats(0, 10))
def test_swapping_the_two_never_leaves_both_better_and_the_result_is_plain_json(
    old: float | None, new: float | None, least: float
) -> None:
    there = compare(run({"rmse": old}), run({"rmse": new}), least)
    back = compare(run({"rmse": new}), run({"rmse": old}), least)
    assert not (there.verdict == "better" and back.verdict == "better")
    assert (there.verdict == "not comparable") == (back.verdict == "not comparable")
    assert json.loads(json.dumps(there.as_json(), allow_nan=False))["verdict"] == there.verdict
