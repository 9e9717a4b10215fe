"""A challenger against a champion: each number, each difference, and a verdict that never flatters."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cd4ml.index.record import RunRecord
from cd4ml.promotion.compare import compare
from cd4ml.promotion.configuration import ConfigChange
from cd4ml.promotion.inputs import ColumnChange, FileChange, Source
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
    assert {row.judgement for row in result.metrics} == {"unknown"}, "nor is any value called better"
    assert {row.judgement for row in compare(run(), run({"rmse": 1.0})).metrics} > {"better"}
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


SCALE, FIT = ["scale", {"_target_": "S", "with_mean": True}], ["fit", {"_target_": "R"}]


def test_a_list_of_plain_values_is_one_value_and_a_list_of_steps_goes_by_their_names() -> None:
    other = [["scale", {"_target_": "S", "with_mean": False}], FIT]
    assert config({"numeric": ["a", "b"], "steps": [SCALE, FIT]}, {"numeric": ["a"], "steps": other}) == [
        ConfigChange("numeric", "changed", ["a", "b"], ["a"]),
        ConfigChange("steps[scale].1.with_mean", "changed", True, False),
    ]


def test_a_step_put_in_front_is_one_step_more_and_not_a_change_of_all_that_follow() -> None:
    poly = ["poly", {"_target_": "P"}]
    assert config({"steps": [SCALE, FIT]}, {"steps": [poly, SCALE, FIT]}) == [
        ConfigChange("steps", "changed", ["[scale]", "[fit]"], ["[poly]", "[scale]", "[fit]"]),
        ConfigChange("steps[poly].0", "added", None, "poly"),
        ConfigChange("steps[poly].1._target_", "added", None, "P"),
    ]


def test_steps_in_another_order_differ_in_their_order_alone() -> None:
    assert config({"steps": [SCALE, FIT]}, {"steps": [FIT, SCALE]}) == [
        ConfigChange("steps", "changed", ["[scale]", "[fit]"], ["[fit]", "[scale]"])
    ]


def expectation(column: str, **kwargs: object) -> dict[str, object]:
    return {"type": "between", "kwargs": {"column": column, **kwargs}, "severity": "critical"}


def test_expectations_go_by_type_and_column_and_what_has_one_name_by_its_number() -> None:
    old = [expectation("a", max_value=1), expectation("b"), expectation("b", min_value=0)]
    new = [expectation("b"), expectation("b", min_value=2)]
    changes = {change.key: (change.champion, change.challenger) for change in config({"e": old}, {"e": new})}
    assert changes["e[between(b)#2].kwargs.min_value"] == (0, 2)
    assert {key.partition("]")[0] for key in changes} == {"e", "e[between(a)", "e[between(b)#2"}


def test_a_list_in_which_something_has_no_name_goes_by_index() -> None:
    assert config({"joins": [{"on": ["a"]}, {"on": ["b"]}]}, {"joins": [{"on": ["a"]}, {"on": ["c"]}]}) == [
        ConfigChange("joins.1.on", "changed", ["b"], ["c"])
    ]


def test_a_name_in_a_list_is_never_taken_for_a_key_of_that_name() -> None:
    """As leaves by path the two would be the same."""
    assert config({"s": [["a"]]}, {"s": {"[a]": ["a"]}})


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
STEP = st.tuples(st.sampled_from(["a", "b", "a#2"]), JSON).map(list) | st.fixed_dictionaries(
    {"name": st.sampled_from(["a", "b"]), "x": JSON}
)
CONFIG = st.dictionaries(
    st.sampled_from(["seed", "model", "name"]),
    JSON | st.lists(STEP, max_size=3) | st.dictionaries(st.sampled_from(["[a]", "[b]"]), JSON, max_size=2),
    max_size=3,
)


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


def test_columns_of_a_source_are_added_removed_and_retyped() -> None:
    old = Source(columns={"flights": (("year", "int64"), ("delay", "int64"), ("tail", "string"))})
    new = Source(columns={"flights": (("year", "int64"), ("delay", "float64"), ("gate", "string"))})
    moved = run(data={"flights": {"digest": "e" * 64, "rows": 90}})
    (flights,) = compare(run(), moved, sources=(old, new)).data
    assert flights.columns == (
        ColumnChange("delay", "changed", "int64", "float64"),
        ColumnChange("tail", "removed", "string", None),
        ColumnChange("gate", "added", None, "string"),
    )
    (unread,) = compare(run(), moved, sources=(old, Source())).data
    assert unread.columns == ()  # what cannot be read is not told as removed


def test_every_package_of_the_lock_files_is_compared_and_what_ran_wins_over_them() -> None:
    old = Source(packages={"numpy": "1.0", "six": "1.16", "gone": "1", "colorama ; win": "1"})
    new = Source(packages={"numpy": "2.4.6", "six": "1.17", "colorama ; win": "1"})
    found = compare(run(), run(), sources=(old, new)).environment
    assert [(change.package, change.how, change.champion, change.challenger) for change in found] == [
        ("gone", "removed", "1", None),
        ("six", "changed", "1.16", "1.17"),
    ]
    assert compare(run(), run(), sources=(old, Source())).environment == ()  # one lock alone says nothing of the other


def test_files_that_count_are_compared_and_what_cannot_be_read_is_told_from_what_is_equal() -> None:
    old, new = Source(files={"own/a.py": "1", "own/b.py": "2"}), Source(files={"own/a.py": "3", "own/c.py": "2"})
    assert compare(run(), run(), sources=(old, new), lines={"own/a.py": (4, 2)}).code == (
        FileChange("own/a.py", "changed", 4, 2),
        FileChange("own/b.py", "removed"),
        FileChange("own/c.py", "added"),
    )
    assert compare(run(), run(), sources=(old, old)).code == ()
    assert compare(run(), run(), sources=(old, Source())).code is None
    assert compare(run(), run()).code is None


def sliced(**values: float | None) -> dict[str, Any]:
    listed = [
        {"value": name, "rows": {}, "validation": {"rmse": number}, "test": {"rmse": number}}
        for name, number in values.items()
    ]
    return {"origin": {"values": listed, "left_out": 0}}


def test_slices_that_both_runs_have_are_judged_by_the_direction_of_the_primary_metric() -> None:
    old, new = run(slices=sliced(JFK=10.0, LGA=5.0, EWR=None)), run(slices=sliced(JFK=9.0, EWR=1.0, XXX=1.0))
    found = compare(old, new).slices
    assert [(one.column, one.value, one.side, one.change, one.judgement) for one in found] == [
        ("origin", "JFK", "validation", -1.0, "better"),
        ("origin", "JFK", "test", -1.0, "better"),
    ]


def test_the_digests_of_both_test_sides_are_told() -> None:
    elsewhere = run(split={"test": {"digest": "u" * 64, "rows": 10}})
    assert compare(run(), elsewhere).test_rows == ("t" * 64, "u" * 64)
    assert compare(run(), run(split={})).test_rows == ("t" * 64, None)


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
