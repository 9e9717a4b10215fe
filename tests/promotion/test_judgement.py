"""The verdict, each metric and the slices: what is said, why, and never more than chance allows."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cd4ml.promotion import judgement, resample
from cd4ml.promotion.judgement import MIN_SLICE_ROWS, level_of_use, use_of
from cd4ml.promotion.paired import Said
from cd4ml.promotion.review import Interval
from cd4ml.spec.metrics import METRICS_BY_NAME, metrics_of
from tests.promotion.judging_world import (
    Slices,
    equal_classifiers,
    equal_regressors,
    judged,
    paired,
    planted_drop,
    policy,
    ruler,
    said,
)

RANDOM = np.random.default_rng(11)
OBSERVED = RANDOM.normal(10, 3, 400)
ERROR = RANDOM.normal(size=400)
OTHER = RANDOM.normal(size=400)
SLICES: Slices = {
    "half": (np.arange(400) % 2, ("even", "odd")),
    "few": (np.minimum(np.arange(400), 29) // 29, ("f", "m")),
}


# ── uses ─────────────────────────────────────────────────────────────────────────────────────────────────────────

RESULTS = [("r1", "old 1"), ("r2", "old 2"), ("r3", ""), ("r4", "a"), ("r5", "b"), ("r6", "a"), ("r7", ""), ("r8", "c")]


@pytest.mark.parametrize(
    ("fingerprint", "use"), [("a", 1), ("b", 2), ("c", 3), ("not folded", 4), ("old 1", 6), ("old 2", 6)]
)
def test_every_result_since_the_first_on_a_test_side_is_a_use_and_one_from_before_comes_after_all(
    fingerprint: str, use: int
) -> None:
    assert use_of(RESULTS, "r3", fingerprint) == use


def test_where_no_result_is_known_to_be_the_first_all_count() -> None:
    assert [use_of(RESULTS, "", one) for one in ("old 1", "a", "not folded")] == [1, 3, 6]


@given(before=st.integers(0, 300), since=st.integers(0, 300))
def test_all_uses_of_a_test_side_together_spend_little_more_than_the_budget(before: int, since: int) -> None:
    results = [(f"r{number}", f"f{number}") for number in range(before + since)]
    first = f"r{before}"
    levels = [level_of_use(0.95, use_of(results, first, one)) for _, one in results]
    assert sum(levels) <= 0.05 * 7 / 6 + 1e-12


# ── the verdict ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_smaller_error_is_better_and_a_larger_one_worse() -> None:
    better = judged(paired(OBSERVED, OBSERVED + ERROR, OBSERVED + 0.8 * ERROR), "rmse")
    worse = judged(paired(OBSERVED, OBSERVED + ERROR, OBSERVED + 1.2 * ERROR), "rmse")
    assert (better.verdict, worse.verdict) == ("better", "worse")
    assert better.reason.startswith("rmse changed by -0.20")
    assert "95 % interval" in better.reason


def test_a_larger_share_is_better() -> None:
    observed = np.arange(400) % 2.0
    champion, challenger = observed.copy(), observed.copy()
    champion[:80] = 1 - champion[:80]
    assert judged(paired(observed, champion, challenger, "binary"), "accuracy").verdict == "better"
    assert judged(paired(observed, challenger, champion, "binary"), "accuracy").verdict == "worse"


def test_a_change_that_chance_explains_is_no_real_difference() -> None:
    result = judged(paired(OBSERVED, OBSERVED + ERROR, OBSERVED + OTHER), "rmse")
    assert result.verdict == "no real difference"
    assert result.reason.startswith("the 95 % interval of the change of rmse, -")
    assert result.reason.endswith("holds 0")


@pytest.mark.parametrize(("task", "metric"), [("regression", "rmse"), ("binary", "accuracy")])
def test_a_planted_drop_is_named(task: Any, metric: str) -> None:
    pair, of = planted_drop(1, 10_000, task)
    result = judged(pair, metric)
    assert (of, result.verdict) == (metric, "worse")
    [told] = result.metrics
    assert told.relative is not None
    assert abs(told.relative) == pytest.approx(0.05, abs=0.02)


def test_the_same_predictions_are_no_real_difference() -> None:
    result = judged(paired(OBSERVED, OBSERVED + ERROR, OBSERVED + ERROR), "rmse")
    assert (result.verdict, result.reason) == ("no real difference", "the same predictions")
    assert result.metrics[0].interval == Interval(0, 0)
    assert result.metrics[0].standing == "no real difference"


def test_the_same_predictions_need_no_interval() -> None:
    pair = paired(OBSERVED, OBSERVED + ERROR, OBSERVED + ERROR)
    assert judged(pair, "max_error").reason == "the same predictions"
    assert judged(pair, "own", own={"own": (1.0, 1.0)}).reason == "the same predictions"


def test_the_same_labels_with_other_probabilities_are_not_the_same_predictions() -> None:
    observed = np.arange(400) % 2.0
    shares = np.where(observed == 1, 0.9, 0.1)
    sure, unsure = said(shares), said(0.5 + 0.5 * (shares - 0.5))
    result = judged(paired(observed, unsure, sure, "binary"), "log_loss", ("log_loss", "accuracy"))
    assert result.verdict == "better"
    assert result.metrics[1].change == 0
    none = Said(sure.predicted)
    assert judged(paired(observed, none, none, "binary"), "accuracy").reason == "the same predictions"
    assert judged(paired(observed, none, sure, "binary"), "accuracy").reason != "the same predictions"


@pytest.mark.parametrize("rows", [0, 1, 99])
def test_too_few_rows_are_not_comparable_and_nothing_is_claimed_of_them(rows: int) -> None:
    zeros = np.zeros(rows)
    slices: Slices = {"all": (np.zeros(rows, dtype=np.int64), ("x",))}
    result = judged(paired(zeros, zeros, zeros + 5, slices=slices), "mae", ("mae", "r2"))
    assert result.verdict == "not comparable"
    assert result.reason.endswith("scored by both, and at least 100 are asked for")
    assert result.reason.startswith("1 row was" if rows == 1 else f"{rows} rows were")
    assert {(one.interval, one.corrected, one.standing) for one in result.metrics} == {(None, None, "unknown")}
    assert result.slices == ()


def test_a_challenger_that_leaves_too_small_a_share_of_the_test_side_is_not_comparable_and_the_counts_say_why() -> None:
    told = replace(ruler(900), declared=1100, seen_by_challenger=150, not_predicted=50)
    pair = replace(paired(np.zeros(900), np.ones(900), np.zeros(900)), ruler=told)
    result = judged(pair, "mae")
    assert result.verdict == "not comparable"
    assert result.reason == (
        "900 of the test side's 1,100 rows were scored by both, and at least 990 (90 %) are asked for: 150 the "
        "challenger saw in training or validation, 50 lack an answer"
    )
    assert result.metrics[0].interval is None
    assert judged(pair, "mae", asked=policy(min_share=0.8)).verdict == "better"


def test_the_draws_follow_from_the_digest_of_the_test_side_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = []
    drawn = resample.differences

    def noted(pairs: Any, blocks: Any, resamples: int, seed: int) -> Any:
        seeds.append(seed)
        return drawn(pairs, blocks, resamples, seed)

    monkeypatch.setattr(judgement, "differences", noted)
    for rows, digest in ((200, "one"), (199, "one"), (200, "other")):
        judged(paired(np.zeros(rows), np.ones(rows), np.full(rows, 2.0), digest=digest), "mae")
    assert seeds[0] == seeds[1] != seeds[2]


def test_two_rows_are_never_enough_for_a_claim() -> None:
    result = judged(paired([0, 0], [1, 1], [9, 9]), "mae", asked=policy(min_rows=2))
    assert result.verdict == "no real difference"


def test_a_constant_difference_on_many_rows_is_sure() -> None:
    result = judged(paired(np.zeros(100), np.ones(100), np.full(100, 2.0)), "mae")
    assert result.verdict == "worse"
    assert result.metrics[0].interval == Interval(1, 1)


def test_a_metric_that_one_side_lacks_is_not_comparable() -> None:
    observed = np.arange(400) % 2.0
    bare, whole = Said(observed.astype(np.float64)), said(np.where(observed == 1, 0.9, 0.2))
    for champion, challenger, role in ((bare, whole, "champion"), (whole, bare, "challenger")):
        result = judged(paired(observed, champion, challenger, "binary"), "log_loss")
        assert result.verdict == "not comparable"
        assert result.reason == f"log_loss is missing from the {role}, or no finite number there"
        assert result.metrics[0].change is None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e200])
def test_predictions_without_a_finite_error_are_never_better(bad: float) -> None:
    spoilt = OBSERVED + 0.5 * ERROR
    spoilt[7] = bad
    result = judged(paired(OBSERVED, OBSERVED + ERROR, spoilt), "rmse", ("rmse", "r2"))
    assert (result.verdict, {one.standing for one in result.metrics}) == ("not comparable", {"unknown"})
    assert "challenger" in result.reason


def test_a_primary_metric_that_is_not_measured_is_not_comparable() -> None:
    pair = paired(OBSERVED, OBSERVED + ERROR, OBSERVED + OTHER)
    assert judged(pair, "rmse", ("mae",)).reason == "rmse is missing from both, or no finite number there"
    assert judged(pair, "", ("mae",)).reason == "no primary metric is declared"
    assert judged(pair, "accuracy").verdict == "not comparable"


def test_a_metric_of_no_known_direction_is_told_and_not_judged() -> None:
    pair = paired(OBSERVED, OBSERVED + ERROR, OBSERVED + 0.5 * ERROR)
    result = judged(pair, "rmse", directions={})
    assert (result.verdict, result.reason) == ("not comparable", "it is not known which way rmse is better")
    assert result.metrics[0].standing == "unknown"
    assert result.metrics[0].interval is not None


def test_a_metric_of_the_project_s_own_is_told_without_an_interval() -> None:
    pair = paired(OBSERVED, OBSERVED + ERROR, OBSERVED + 0.5 * ERROR)
    more: dict[str, Any] = {"directions": {"rmse": "minimize", "late": "minimize"}, "own": {"late": (4.0, 3.0)}}
    result = judged(pair, "rmse", ("rmse", "late"), **more)
    assert result.verdict == "better"
    late = result.metrics[1]
    assert (late.champion, late.challenger, late.change, late.relative) == (4, 3, -1, -0.25)
    assert (late.interval, late.standing) == (None, "unknown")
    primary = judged(pair, "late", ("rmse", "late"), **more)
    assert primary.verdict == "not comparable"
    assert primary.reason == "late is a metric of the project's own, of which no interval is known"


def test_an_own_metric_that_is_no_finite_number_is_missing() -> None:
    pair = paired(OBSERVED, OBSERVED + ERROR, OBSERVED + 0.5 * ERROR)
    result = judged(pair, "late", own={"late": (math.nan, 3.0)}, directions={"late": "minimize"})
    assert result.reason == "late is missing from the champion, or no finite number there"


def test_the_largest_error_is_told_and_no_verdict_rests_on_it() -> None:
    result = judged(paired(OBSERVED, OBSERVED + ERROR, OBSERVED + 0.5 * ERROR), "max_error", ("max_error", "mae"))
    assert result.verdict == "not comparable"
    assert "max_error has no interval" in result.reason
    assert result.metrics[0].change is not None
    assert result.metrics[1].standing == "better"


def test_a_rare_class_that_samples_miss_leaves_its_metrics_without_an_interval() -> None:
    observed = np.zeros(400)
    observed[:2] = 1
    champion, challenger = np.zeros(400), observed.copy()
    result = judged(paired(observed, champion, challenger, "binary"), "recall", ("recall", "accuracy"))
    assert result.verdict == "not comparable"
    assert result.reason == "recall has no interval on these rows: it is not defined for some samples of them"
    assert result.metrics[1].standing == "no real difference"


# ── numbers of any size ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("size", [1e-12, 1.0, 1e20])
def test_the_verdict_does_not_depend_on_the_unit(size: float) -> None:
    for share, verdict in ((0.8, "better"), (1.25, "worse")):
        pair = paired(OBSERVED * size, (OBSERVED + ERROR) * size, (OBSERVED + share * ERROR) * size)
        assert judged(pair, "rmse").verdict == verdict


def test_rounding_is_no_difference() -> None:
    result = judged(paired(np.zeros(400), np.full(400, 0.1), np.full(400, 0.1 * (1 + 4e-15))), "rmse", ("rmse", "mae"))
    assert result.metrics[0].change != 0
    assert {one.standing for one in result.metrics} == {"no real difference"}


def test_nothing_is_relative_to_0() -> None:
    result = judged(paired(OBSERVED, OBSERVED, OBSERVED + ERROR), "rmse")
    assert (result.metrics[0].champion, result.metrics[0].relative, result.verdict) == (0, None, "worse")


def test_a_relative_change_is_over_the_size_of_the_champion_s_value() -> None:
    bad, worse = OBSERVED.mean() + 9 * ERROR, OBSERVED.mean() + 12 * ERROR
    [told] = judged(paired(OBSERVED, bad, worse), "r2").metrics
    assert told.champion is not None
    assert told.champion < 0
    assert told.relative is not None
    assert told.relative < 0


def test_500_metrics_are_judged() -> None:
    own = {f"own_{number}": (float(number), 1.0) for number in range(490)}
    names = (*metrics_of("regression"), *own)
    result = judged(paired(OBSERVED, OBSERVED + ERROR, OBSERVED + OTHER), "rmse", names, own=own)
    assert [one.metric for one in result.metrics] == list(names)


def test_every_metric_of_every_task_has_a_standing_but_the_largest_error() -> None:
    shares = RANDOM.dirichlet([1, 1, 1], size=(2, 400))
    several = paired(RANDOM.integers(3, size=400), said(shares[0]), said(shares[1]), "multiclass")
    unknown = set()
    for pair in (equal_regressors(1, 400), equal_classifiers(1, 400), several):
        names = metrics_of(pair.task)
        unknown |= {one.metric for one in judged(pair, names[0], names).metrics if one.standing == "unknown"}
    # The logarithm of a prediction of -1 or less is not defined, nor a percentage of 0.
    assert unknown - {"rmsle"} == {"max_error"}
    assert set(METRICS_BY_NAME) >= unknown


# ── how often the test side was used ─────────────────────────────────────────────────────────────────────────────


@given(st.floats(0.5, 0.999), st.integers(1, 10_000))
def test_the_levels_of_all_uses_sum_to_what_is_left_of_the_confidence(confidence: float, uses: int) -> None:
    spent = sum(level_of_use(confidence, use) for use in range(1, uses + 1))
    assert spent == pytest.approx((1 - confidence) * uses / (uses + 1))


def test_the_corrected_interval_widens_with_use_and_holds_the_other() -> None:
    widths = []
    for uses in (1, 2, 10, 1000):
        pair = paired(OBSERVED, OBSERVED + ERROR, OBSERVED + OTHER, uses=uses)
        [told] = judged(pair, "rmse").metrics
        assert told.interval is not None
        assert told.corrected is not None
        assert told.corrected.low <= told.interval.low <= told.interval.high <= told.corrected.high
        widths.append(told.corrected.high - told.corrected.low)
    assert widths == sorted(widths)
    assert widths[0] < widths[1] < widths[-1]


def test_the_verdict_is_not_corrected_for_use() -> None:
    once, often = (
        judged(paired(OBSERVED, OBSERVED + ERROR, OBSERVED + 0.8 * ERROR, uses=uses), "rmse") for uses in (1, 10**9)
    )
    assert once.verdict == often.verdict == "better"
    assert once.metrics[0].interval == often.metrics[0].interval


def test_a_judgement_is_the_same_however_often_it_is_made() -> None:
    pair = paired(OBSERVED, OBSERVED + ERROR, OBSERVED + OTHER, slices=SLICES)
    assert judged(pair, "medae", metrics_of("regression")) == judged(pair, "medae", metrics_of("regression"))


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6))
def test_the_order_of_metrics_changes_nothing(seed: int) -> None:
    pair = equal_classifiers(3, 200)
    names = list(metrics_of("binary"))
    np.random.default_rng(seed).shuffle(names)
    first = {one.metric: one for one in judged(pair, "f1", metrics_of("binary")).metrics}
    for one in judged(pair, "f1", names).metrics:
        known = first[one.metric]
        assert one.standing == known.standing
        assert one.interval is not None
        assert known.interval is not None
        assert one.interval.low == pytest.approx(known.interval.low, rel=1e-9, abs=1e-12)


# ── rows that depend on each other ───────────────────────────────────────────────────────────────────────────────


def test_rows_of_a_cluster_count_as_often_as_there_are_clusters() -> None:
    day = np.repeat(np.arange(40), 25)
    random = np.random.default_rng(5)
    shift, base = np.repeat(random.normal(0.0, 1.0, 40), 25), random.normal(size=1000)
    observed, champion = np.zeros(1000), base
    challenger = base + shift
    rows = judged(paired(observed, champion, challenger), "mae").metrics[0].interval
    days = judged(paired(observed, champion, challenger, clusters=day), "mae").metrics[0].interval
    assert rows is not None
    assert days is not None
    assert days.high - days.low > 1.5 * (rows.high - rows.low)


def test_a_few_clusters_are_never_enough_for_a_claim() -> None:
    pair = paired(OBSERVED, OBSERVED + ERROR, OBSERVED + 0.5 * ERROR, clusters=np.arange(400) % 5)
    assert judged(pair, "rmse").verdict == "no real difference"


# ── slices ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_slice_that_got_worse_is_named_though_the_whole_got_better() -> None:
    even = np.arange(400) % 2 == 0
    challenger = np.where(even, 0.2 * ERROR, 1.4 * ERROR)
    result = judged(paired(OBSERVED, OBSERVED + 1.2 * ERROR, OBSERVED + challenger, slices=SLICES), "rmse")
    assert result.verdict == "better"
    [slice_] = result.slices
    assert (slice_.column, slice_.value, slice_.rows, slice_.metric) == ("half", "odd", 200, "rmse")
    assert slice_.change == pytest.approx(slice_.challenger - slice_.champion)
    assert 0 < slice_.interval.low < slice_.change < slice_.interval.high
    assert slice_.standing == "worse"


def test_a_slice_with_few_rows_is_not_looked_at() -> None:
    result = judged(paired(OBSERVED, OBSERVED + ERROR, OBSERVED + OTHER, slices=SLICES), "rmse")
    assert MIN_SLICE_ROWS == 30
    assert result.slices_looked_at == 3


def test_a_slice_in_which_the_metric_is_not_defined_is_not_looked_at() -> None:
    observed = np.r_[np.zeros(200), np.arange(200) % 2]
    champion, challenger = said(RANDOM.random(400)), said(RANDOM.random(400))
    halves: Slices = {"half": (np.arange(400) // 200, ("one class", "two"))}
    assert judged(paired(observed, champion, challenger, "binary", slices=halves), "roc_auc").slices_looked_at == 1


def test_rows_without_a_value_of_the_column_are_in_no_slice() -> None:
    codes: Slices = {"c": (np.where(np.arange(400) < 200, -1, 0), ("x",))}
    assert judged(paired(OBSERVED, OBSERVED + ERROR, OBSERVED + OTHER, slices=codes), "rmse").slices_looked_at == 1


def test_among_many_slices_one_must_be_worse_by_more() -> None:
    def worse(count: int) -> int:
        codes = np.repeat(np.arange(count), 60)
        error = np.random.default_rng(3).normal(size=(count, 2, 60)).swapaxes(0, 1).reshape(2, -1)
        challenger = error[1].copy()
        challenger[:60] *= 1.6
        slices: Slices = {"c": (codes, tuple(f"v{code}" for code in range(count)))}
        zeros = np.zeros(60 * count)
        result = judged(paired(zeros, error[0], challenger, slices=slices), "rmse")
        assert result.slices_looked_at == count
        return len(result.slices)

    assert worse(2) == 1
    assert worse(200) == 0


def test_in_families_of_slices_of_equal_models_hardly_one_family_has_a_worse_one() -> None:
    slices: Slices = {"c": (np.arange(900) % 20, tuple(map(str, range(20))))}
    found = 0
    for seed in range(100):
        made = equal_regressors(seed, 900)
        pair = paired(made.observed, made.champion, made.challenger, digest=f"{seed}", slices=slices)
        found += bool(judged(pair, "mae", asked=policy(resamples=200)).slices)
    assert found <= 7


def test_there_are_no_slices_to_name_where_the_predictions_are_the_same() -> None:
    result = judged(paired(OBSERVED, OBSERVED + ERROR, OBSERVED + ERROR, slices=SLICES), "rmse")
    assert (result.slices, result.slices_looked_at) == ((), 0)


def test_slices_of_a_median_are_looked_at_too() -> None:
    challenger = np.where(np.arange(400) % 2 == 0, ERROR, 3 * ERROR)
    result = judged(paired(OBSERVED, OBSERVED + ERROR, OBSERVED + challenger, slices=SLICES), "medae")
    assert {one.value for one in result.slices} == {"m", "odd"}


# ── how many slices are looked at, and at which level ────────────────────────────────────────────────────────────


def test_a_slice_of_30_rows_is_looked_at_and_one_of_29_is_not() -> None:
    slices: Slices = {"c": (np.repeat([0, 1, 2], [30, 29, 341]), ("enough", "too few", "the rest"))}
    assert judged(paired(np.zeros(400), ERROR, OTHER, slices=slices), "rmse").slices_looked_at == 2


def test_rows_that_belong_together_count_once_in_a_slice_too() -> None:
    day = np.repeat(np.arange(40), 25)
    random = np.random.default_rng(5)
    of_day, before = random.normal(size=40), 5 + random.random(1000)
    after = before + np.repeat(0.15 + of_day - of_day.mean(), 25)
    slices: Slices = {"c": (np.zeros(1000, np.int64), ("all",))}
    found = [
        len(judged(paired(np.zeros(1000), before, after, slices=slices, clusters=clusters), "mae").slices)
        for clusters in (None, day)
    ]
    assert found == [1, 0]


def test_what_differs_by_rounding_alone_makes_no_slice_worse() -> None:
    champion = 1.0 + np.abs(ERROR)
    pair = paired(np.zeros(400), champion, champion + 3e-13 * (1 + 0.2 * OTHER), slices=SLICES)
    assert (judged(pair, "mae").slices, judged(pair, "mae").slices_looked_at) == ((), 3)


def sliced(name: str, change: float) -> judgement._Slice:
    """A slice of which the change was estimated with a standard error of 1."""
    return judgement._Slice("c", name, 60, 1.0, 2.0, resample.Alone(change, 1.0, 1000, 1000))


def worse_at(level: float, *found: judgement._Slice) -> list[str]:
    return [one.value for one in judgement._significantly_worse(found, "rmse", "minimize", level)]


@pytest.mark.parametrize("others", [0, 1, 2, 9])
def test_the_smallest_p_value_is_held_against_the_level_shared_by_all_slices(others: int) -> None:
    one, rest = sliced("one", 3.0), [sliced(f"other {number}", 0.0) for number in range(others)]
    least = one.alone.p_value * (1 + others)
    assert (worse_at(least * 1.01, one, *rest), worse_at(least * 0.99, one, *rest)) == (["one"], [])


def test_the_next_smallest_is_held_against_the_level_shared_by_those_that_are_left() -> None:
    first, second = sliced("first", 9.0), sliced("second", 2.2)
    rest = [sliced(f"other {number}", 0.0) for number in range(3)]
    least = second.alone.p_value * 4
    assert worse_at(least * 1.01, second, *rest, first) == ["first", "second"]
    assert worse_at(least * 0.99, second, *rest, first) == ["first"]


def test_behind_the_first_slice_that_may_be_chance_none_is_called_worse() -> None:
    nearly, next_ = sliced("nearly", 2.2), sliced("next", 2.19)
    level = nearly.alone.p_value * 1.9
    assert next_.alone.p_value < level, "by itself it would pass"
    assert worse_at(level, nearly, next_) == []
