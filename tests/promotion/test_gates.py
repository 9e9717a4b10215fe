"""The gates: what each asks, what it measured, and that nothing passes which was not shown."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cd4ml.promotion.gates import MODEL, PREDICTION, TRAINING, gates
from cd4ml.promotion.judgement import Judged
from cd4ml.promotion.review import CostRow, ExpectationTold, Gate, Interval, MetricJudged, Ruler, SliceJudged
from cd4ml.spec.experiment import PromotionSpec
from tests.promotion.judging_world import policy, ruler

BETTER = MetricJudged(
    "rmse", "minimize", 10.0, 9.0, -1.0, -0.1, Interval(-1.5, -0.5), Interval(-1.8, -0.2), standing="better"
)
OTHER = MetricJudged("mae", "minimize", 5.0, 5.4, 0.4, 0.08, Interval(0.1, 0.7), Interval(-0.1, 0.9), standing="worse")
SCORE = MetricJudged("r2", "maximize", 0.5, 0.4, -0.1, -0.2, None, None)
RULER = ruler(5000)
JUDGED = Judged("better", "rmse changed by -1", (BETTER, OTHER, SCORE), (), 12)


def looked_at(
    judged: Judged = JUDGED,
    asked: PromotionSpec | None = None,
    primary: str = "rmse",
    of: Ruler | None = RULER,
    cost: tuple[CostRow, ...] = (),
    unmet: tuple[ExpectationTold, ...] = (),
) -> dict[str, Gate]:
    return {gate.name: gate for gate in gates(judged, asked or policy(), primary, of, cost, unmet)}


def judged_as(**values: Any) -> Judged:
    """The primary metric with other values."""
    return replace(JUDGED, metrics=(replace(BETTER, **values), OTHER))


# ── rows ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_enough_rows_pass_and_too_few_hold() -> None:
    few = policy(min_share=0.01)
    assert looked_at(asked=few)["rows"] == Gate(
        "rows", "at least 100 test rows that both were scored on", "5,000", "passed"
    )
    assert looked_at(of=ruler(99))["rows"].outcome == "held"
    assert looked_at(of=None)["rows"] == Gate("rows", "at least 100 test rows that both were scored on", "0", "held")


@pytest.mark.parametrize(("rows", "outcome"), [(4500, "passed"), (4499, "held")])
def test_too_small_a_share_of_the_test_side_holds_however_many_rows_it_is(
    rows: int, outcome: Literal["passed", "held"]
) -> None:
    gate = looked_at(of=replace(RULER, rows=rows))["rows"]
    asked = "at least 4,500 test rows that both were scored on (90 % of 5,000)"
    assert gate == Gate("rows", asked, f"{rows:,}", outcome)


@pytest.mark.parametrize(("share", "declared", "asked"), [(0.7, 10, 7), (0.9, 100, 90), (0.9, 101, 91), (1.0, 33, 33)])
def test_a_share_of_rows_is_rounded_up_and_no_rounding_of_the_machine_is(
    share: float, declared: int, asked: int
) -> None:
    assert policy(min_rows=2, min_share=share).rows_asked(declared) == asked


# ── the primary metric ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_gain_beyond_chance_passes_and_says_the_numbers() -> None:
    gate = looked_at()["rmse"]
    assert gate.asked == "better, beyond chance"
    assert gate.measured == "better by 1; chance allows 0.2 to 1.8 better"
    assert gate.outcome == "passed"


def test_the_corrected_interval_decides_and_not_the_other() -> None:
    gate = looked_at(judged_as(corrected=Interval(-1.8, 0.1)), of=ruler(5000, uses=17))["rmse"]
    assert gate.outcome == "held"
    assert gate.measured == (
        "better by 1; chance allows from 0.1 worse to 1.8 better, corrected for 17 uses of this test side"
    )


def test_an_interval_that_ends_at_0_does_not_pass() -> None:
    assert looked_at(judged_as(corrected=Interval(-1.8, 0.0)))["rmse"].outcome == "held"


def test_a_metric_that_is_to_be_large_gains_by_growing() -> None:
    grown = judged_as(direction="maximize", change=1.0, corrected=Interval(0.2, 1.8))
    assert looked_at(grown)["rmse"].outcome == "passed"
    assert looked_at(judged_as(direction="maximize"))["rmse"].outcome == "held"
    assert looked_at(judged_as(direction="maximize"))["rmse"].measured == "worse by 1; chance allows 0.2 to 1.8 worse"


@pytest.mark.parametrize(("least", "outcome"), [(0.0, "passed"), (1.0, "passed"), (1.001, "held"), (math.nan, "held")])
def test_a_gain_must_be_as_large_as_asked(least: float, outcome: str) -> None:
    gate = looked_at(asked=policy(min_improvement=least))["rmse"]
    assert gate.outcome == outcome
    assert gate.asked == (
        f"better, beyond chance, and by at least {least:.4g}" if least > 0 else "better, beyond chance"
    )


@pytest.mark.parametrize(("margin", "outcome"), [(0.0, "held"), (0.19, "held"), (0.2, "passed"), (math.nan, "held")])
def test_not_worse_passes_where_a_loss_beyond_the_margin_is_ruled_out(margin: float, outcome: str) -> None:
    little = judged_as(change=0.05, corrected=Interval(-0.1, 0.2), standing="no real difference")
    gate = looked_at(little, policy(require="not worse", margin=margin))["rmse"]
    assert gate.outcome == outcome
    assert gate.asked == f"not worse by more than {margin:.4g}, beyond chance"


@pytest.mark.parametrize(
    ("around", "words"),
    [
        (Interval(0.0, 0.0), "chance allows no change"),
        (Interval(-1.0, -1.0), "chance allows 1 better, no more and no less"),
        (Interval(1.0, 1.0), "chance allows 1 worse, no more and no less"),
        (Interval(-0.0, 1.0), "chance allows 0 to 1 worse"),
    ],
)
def test_an_interval_without_width_is_told_in_words_of_its_own(around: Interval, words: str) -> None:
    assert looked_at(judged_as(corrected=around))["rmse"].measured.endswith(f"; {words}")


def test_not_worse_does_not_ask_for_an_improvement() -> None:
    asked = policy(require="not worse", margin=0.5, min_improvement=100.0)
    assert looked_at(asked=asked)["rmse"].outcome == "passed"


@pytest.mark.parametrize("require", ["better", "not worse"])
@pytest.mark.parametrize("lacking", [{"corrected": None}, {"change": None}, {"direction": None}])
def test_what_was_not_judged_passes_no_gate(require: str, lacking: dict[str, None]) -> None:
    gate = looked_at(judged_as(**lacking), policy(require=require, margin=1e9))["rmse"]
    assert (gate.outcome, gate.measured) == ("held", "not comparable: rmse has no interval")


def test_a_primary_metric_that_is_not_there_is_held() -> None:
    assert looked_at(primary="f1")["f1"].outcome == "held"
    assert looked_at(primary="")["primary metric"].outcome == "held"


def test_where_nothing_is_comparable_no_gate_passes() -> None:
    told = replace(JUDGED, verdict="not comparable", reason="99 rows were scored by both")
    asked = policy(slices="hold", expectations="hold", max_training_seconds=10, max_worsening={"mae": 1.0})
    found = looked_at(told, asked, cost=(CostRow(TRAINING, "seconds", 1, 1),))
    assert len(found) == 6
    assert {gate.outcome for gate in found.values()} == {"held"}
    assert found["rmse"].measured == "not comparable: 99 rows were scored by both"
    assert found["training time"].measured == "1 s; not comparable: 99 rows were scored by both"


# ── how much worse other metrics may get ─────────────────────────────────────────────────────────────────────────


def test_a_metric_may_get_as_much_worse_as_is_allowed() -> None:
    gate = looked_at(asked=policy(max_worsening={"mae": 0.4}))["mae"]
    assert gate == Gate("mae", "worse by at most 0.4", "worse by 0.4", "passed")
    assert looked_at(asked=policy(max_worsening={"mae": 0.39}))["mae"].outcome == "held"
    assert looked_at(asked=policy(max_worsening={"r2": 0.05}))["r2"].outcome == "held"
    assert looked_at(asked=policy(max_worsening={"r2": 0.2}))["r2"].outcome == "passed"
    assert looked_at(asked=policy(max_worsening={"mae": math.nan}))["mae"].outcome == "held"


def test_a_metric_of_the_project_s_own_needs_no_interval_for_its_limit() -> None:
    gate = looked_at(asked=policy(max_worsening={"r2": 0.5}))["r2"]
    assert (gate.outcome, gate.measured) == ("passed", "worse by 0.1")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"challenger": None, "change": None}, "missing, or no finite number: challenger"),
        ({"champion": None, "change": None}, "missing, or no finite number: champion"),
        (
            {"champion": None, "challenger": None, "change": None},
            "missing, or no finite number: champion and challenger",
        ),
        ({"direction": None}, "it is not known which way it is better"),
    ],
)
def test_a_metric_that_is_missing_never_passes_its_limit(values: dict[str, Any], words: str) -> None:
    lacking = replace(JUDGED, metrics=(BETTER, replace(OTHER, **values)))
    gate = looked_at(lacking, policy(max_worsening={"mae": 1e9}))["mae"]
    assert (gate.outcome, gate.measured) == ("held", words)


def test_a_limit_of_a_metric_that_is_not_measured_is_held() -> None:
    gate = looked_at(asked=policy(max_worsening={"brier": 1.0}))["brier"]
    assert (gate.outcome, gate.measured) == ("held", "it is not measured")


def test_the_primary_metric_may_have_a_limit_beside_its_gate() -> None:
    found = gates(JUDGED, policy(max_worsening={"rmse": 0.0}), "rmse", ruler(5000), (), ())
    assert [(gate.name, gate.asked) for gate in found[1:]] == [
        ("rmse", "better, beyond chance"),
        ("rmse", "worse by at most 0"),
    ]


# ── slices and expectations ──────────────────────────────────────────────────────────────────────────────────────


def worse_slices(count: int) -> Judged:
    one = SliceJudged("carrier", "UA", 40, "rmse", 1.0, 2.0, 1.0, Interval(0.5, 1.5), "worse")
    return replace(JUDGED, slices=tuple(replace(one, value=f"C{number}") for number in range(count)))


def test_a_slice_that_got_worse_holds_only_where_asked() -> None:
    assert "slices" not in looked_at(worse_slices(1))
    held = looked_at(worse_slices(1), policy(slices="hold"))["slices"]
    assert held == Gate("slices", "no slice significantly worse", "1 of 12: carrier = C0", "held")
    assert looked_at(asked=policy(slices="hold"))["slices"].measured == "none of 12"


@pytest.mark.parametrize(
    ("columns", "judged", "outcome"),
    [
        (("carrier",), replace(JUDGED, slices_looked_at=0), "held"),
        (("carrier",), replace(JUDGED, slices_looked_at=0, same=True), "passed"),
        (("carrier",), JUDGED, "passed"),
        ((), replace(JUDGED, slices_looked_at=0), "passed"),
    ],
)
def test_slices_hold_where_some_are_declared_and_the_answers_differ_but_none_could_be_looked_at(
    columns: tuple[str, ...], judged: Judged, outcome: str
) -> None:
    found = {one.name: one for one in gates(judged, policy(slices="hold"), "rmse", RULER, (), (), columns)}["slices"]
    assert found.outcome == outcome
    assert ("enough rows" in found.measured) == (outcome == "held")


def test_of_many_slices_a_few_are_named_and_the_rest_is_counted() -> None:
    measured = looked_at(worse_slices(8), policy(slices="hold"))["slices"].measured
    assert measured.endswith("carrier = C4 and 3 more")


def test_an_expectation_of_severity_warning_holds_only_where_asked() -> None:
    unmet = (ExpectationTold("expect_column_values_to_not_be_null", "tailnum", "warning"),)
    assert "expectations" not in looked_at(unmet=unmet)
    held = looked_at(asked=policy(expectations="hold"), unmet=unmet)["expectations"]
    assert held.measured == "1 not met: expect_column_values_to_not_be_null (tailnum)"
    assert held.outcome == "held"
    assert looked_at(asked=policy(expectations="hold"))["expectations"].outcome == "passed"


def test_a_critical_expectation_holds_whatever_is_asked() -> None:
    unmet = (ExpectationTold("expect_table_row_count_to_be_between", "", "critical"),)
    gate = looked_at(unmet=unmet)["expectations"]
    assert (gate.outcome, gate.asked) == ("held", "every critical expectation met")
    assert gate.measured == "1 not met: expect_table_row_count_to_be_between"


# ── cost ─────────────────────────────────────────────────────────────────────────────────────────────────────────

LIMITS = (
    (TRAINING, "training time", "max_training_seconds", 60.0, "at most 60 s", "60 s"),
    (MODEL, "model size", "max_model_bytes", 1e6, "at most 1,000,000 bytes", "1,000,000 bytes"),
    (PREDICTION, "prediction time", "max_prediction_seconds", 1e-5, "at most 1e-05 s a row", "1e-05 s a row"),
)


@pytest.mark.parametrize(("cost", "name", "key", "most", "asked", "measured"), LIMITS)
def test_a_limit_of_cost_is_of_the_challenger_alone(
    cost: str, name: str, key: str, most: float, asked: str, measured: str
) -> None:
    def gate(champion: float | None, challenger: float | None) -> Gate:
        return looked_at(asked=policy(**{key: most}), cost=(CostRow(cost, "", champion, challenger),))[name]

    assert gate(most * 9, most) == Gate(name, asked, measured, "passed")
    assert gate(most / 9, most * 1.01).outcome == "held"
    for bad in (None, math.nan, math.inf):
        assert gate(1.0, bad).measured == "not measured"
        assert gate(1.0, bad).outcome == "held"
    assert looked_at(asked=policy(**{key: most}))[name].outcome == "held"
    assert name not in looked_at(cost=(CostRow(cost, "", 1.0, 1e30),))


# ── together ─────────────────────────────────────────────────────────────────────────────────────────────────────

FINITE = st.floats(-1e6, 1e6)


@given(FINITE, FINITE, FINITE, st.sampled_from(["minimize", "maximize"]), st.floats(0, 10), st.floats(0, 10))
def test_a_gate_never_passes_a_loss_that_is_sure(
    change: float, one: float, other: float, direction: Any, least: float, margin: float
) -> None:
    low, high = min(one, other, change), max(one, other, change)
    told = judged_as(direction=direction, change=change, corrected=Interval(low, high))
    best = high if direction == "maximize" else -low
    for asked in (policy(min_improvement=least), policy(require="not worse", margin=margin)):
        gate = looked_at(told, asked)["rmse"]
        if best < -margin or (asked.require == "better" and best <= 0):
            assert gate.outcome == "held"


def test_every_gate_says_what_it_asks_and_what_it_measured() -> None:
    asked = policy(
        slices="hold",
        expectations="hold",
        max_worsening={"mae": 1.0, "r2": 1.0},
        max_training_seconds=1,
        max_model_bytes=1,
        max_prediction_seconds=1,
    )
    found = gates(JUDGED, asked, "rmse", ruler(5000), (), ())
    assert [gate.name for gate in found] == [
        "rows",
        "rmse",
        "mae",
        "r2",
        "slices",
        "expectations",
        "training time",
        "model size",
        "prediction time",
    ]
    assert all(gate.asked and gate.measured for gate in found)
