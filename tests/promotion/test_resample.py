"""The paired bootstrap: what it draws, its intervals, and what it does where there is nothing to draw from."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cd4ml.promotion.resample import (
    MOST_BLOCKS,
    Difference,
    alone,
    blocks_of,
    differences,
    differing,
    interval,
    seed_of,
    sign_bound,
    widest,
)
from cd4ml.promotion.review import Interval
from cd4ml.promotion.statistics import Statistic, scored, statistic
from tests.promotion.judging_world import equal_classifiers, equal_regressors, paired


def pair_of(rows: int, metric: str = "rmse", seed: int = 0) -> tuple[Statistic, Statistic]:
    made = equal_classifiers(seed, rows) if metric in ("roc_auc", "accuracy") else equal_regressors(seed, rows)
    return statistic(metric, scored(made, made.champion)), statistic(metric, scored(made, made.challenger))


def drawn(pair: tuple[Statistic, Statistic], rows: int, resamples: int = 2000, seed: int = 1) -> Difference:
    [found] = differences([pair], blocks_of(rows, seed), resamples, seed)
    assert found is not None
    return found


# ── what is drawn ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_few_rows_are_drawn_themselves_and_many_by_blocks_of_equal_size() -> None:
    few, many = blocks_of(MOST_BLOCKS, 1), blocks_of(MOST_BLOCKS * 3 + 5, 1)
    assert few.codes.tolist() == list(range(MOST_BLOCKS))
    sizes = np.bincount(many.codes, minlength=MOST_BLOCKS)
    assert (many.count, set(sizes.tolist())) == (MOST_BLOCKS, {3, 4})
    assert np.corrcoef(many.codes, np.arange(len(many.codes)))[0, 1] == pytest.approx(0, abs=0.05)


def test_rows_of_a_cluster_are_drawn_together() -> None:
    days = np.repeat(np.arange(50), 4) * 1000
    found = blocks_of(200, 1, days)
    assert found.count == 50
    assert all(len(set(found.codes[days == day].tolist())) == 1 for day in np.unique(days))
    merged = blocks_of(200, 1, days, most=10)
    assert np.bincount(merged.codes).tolist() == [20] * 10


def test_the_same_rows_give_the_same_interval_and_another_seed_about_the_same() -> None:
    pair = pair_of(500)
    first, again, other = (interval(drawn(pair, 500, seed=seed), 0.05) for seed in (1, 1, 2))
    assert first == again != other
    assert first is not None
    assert other is not None
    assert other.low == pytest.approx(first.low, rel=0.15)


def test_a_seed_is_of_what_names_the_rows() -> None:
    assert seed_of("a", 1) == seed_of("a", 1) != seed_of("a", 2)


@pytest.mark.parametrize("metric", ["rmse", "mae", "r2", "medae", "accuracy", "roc_auc"])
def test_the_standard_error_is_that_of_drawing_rows_and_computing_the_metric(metric: str) -> None:
    rows = 800
    made = equal_classifiers(0, rows) if metric in ("roc_auc", "accuracy") else equal_regressors(0, rows)
    answers = [scored(made, made.champion), scored(made, made.challenger)]
    random = np.random.default_rng(3)
    direct = []
    for _ in range(400):
        chosen = random.integers(rows, size=rows)
        values = [statistic(metric, one.of(chosen)).value for one in answers]
        assert None not in values
        direct.append(float(values[1] or 0) - float(values[0] or 0))
    ours = drawn(pair_of(rows, metric), rows).drawn
    assert ours.std() == pytest.approx(np.std(direct), rel=0.12)


@pytest.mark.parametrize("metric", ["rmse", "mae", "medae", "roc_auc", "accuracy"])
def test_blocks_give_the_standard_error_of_rows(metric: str) -> None:
    pair = pair_of(20_000, metric)
    of_blocks = drawn(pair, 20_000).drawn.std()
    [of_rows] = differences([pair], blocks_of(20_000, 1, most=20_000), 300, 1)
    assert of_rows is not None
    assert of_blocks == pytest.approx(of_rows.drawn.std(), rel=0.12)


def test_all_metrics_are_computed_of_the_same_resamples() -> None:
    pair = pair_of(300)
    alone_, beside = drawn(pair, 300), differences([pair_of(300, "mae"), pair], blocks_of(300, 1), 2000, 1)[1]
    assert beside is not None
    assert np.allclose(alone_.drawn, beside.drawn, rtol=1e-12)


# ── intervals ────────────────────────────────────────────────────────────────────────────────────────────────────


def made_up(draws: object, change: float = 0.0, units: int = 1000, apart: int = 1000) -> Difference:
    return Difference(change, np.asarray(draws, dtype=np.float64), units, apart)


NORMAL = np.random.default_rng(0).normal(1.0, 0.1, 5000)


def test_a_level_that_resamples_resolve_reaches_as_far_as_their_percentiles_and_the_normal_distribution() -> None:
    leaning = np.random.default_rng(0).exponential(1.0, 5000)
    for sign in (1, -1):
        found = interval(made_up(sign * leaning, sign), 0.05)
        assert found is not None
        assert sorted([sign * found.low, sign * found.high]) == [
            pytest.approx(1 - 1.96, abs=0.1),
            pytest.approx(3.69, abs=0.3),
        ]


def test_a_level_beyond_the_resamples_takes_the_normal_distribution() -> None:
    found = interval(made_up(NORMAL, 1.0), 1e-6)
    assert found is not None
    assert found.low == pytest.approx(1 - 4.92 * 0.1, abs=0.02)
    assert found.high == pytest.approx(1 + 4.92 * 0.1, abs=0.02)


def test_few_units_widen_the_interval_as_student_s_distribution_does() -> None:
    wide, narrow = interval(made_up(NORMAL, 1.0, units=10), 0.05), interval(made_up(NORMAL, 1.0), 0.05)
    assert wide is not None
    assert narrow is not None
    # t of 9 degrees of freedom over the normal quantile, and the root of 10 / 9
    assert (wide.high - wide.low) / (narrow.high - narrow.low) == pytest.approx(1.154 * 1.054, rel=0.06)


def test_a_mean_of_few_rows_has_about_the_interval_of_a_t_test() -> None:
    errors = np.array([1.0, 2.0, 1.5, 2.5, 3.0, 1.0, 2.0, 0.5, 1.0, 2.0, 1.7, 2.9])
    made = paired(np.zeros(12), np.full(12, 1.0), errors)
    pair = statistic("mae", scored(made, made.champion)), statistic("mae", scored(made, made.challenger))
    found = interval(drawn(pair, 12, 20_000), 0.05)
    half = 2.201 * errors.std(ddof=1) / math.sqrt(12)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((errors.mean() - 1 - half, errors.mean() - 1 + half), abs=0.06)


def test_one_unit_or_a_metric_that_is_often_undefined_has_no_interval() -> None:
    often = NORMAL.copy()
    often[:60] = np.nan
    assert interval(made_up(NORMAL, units=1), 0.05) is None
    assert interval(made_up(often), 0.05) is None
    assert interval(made_up(np.full(10, np.nan)), 0.05) is None
    often[10:] = 1.0
    assert interval(made_up(often, 1.0), 0.05) is not None


def test_a_difference_that_never_varies_has_an_interval_without_width() -> None:
    assert interval(made_up(np.full(2000, 0.5), 0.5), 0.05) == Interval(0.5, 0.5)
    assert interval(made_up(np.zeros(2000)), 0.05) == Interval(0, 0)


def test_a_difference_that_rests_on_few_rows_holds_0_however_sure_it_looks() -> None:
    sure = np.full(2000, 0.5)
    assert interval(made_up(sure, 0.5, apart=5), 0.05) == Interval(0, 0.5)
    assert interval(made_up(sure, 0.5, apart=6), 0.05) == Interval(0.5, 0.5)
    assert interval(made_up(sure, 0.5, apart=20), 1e-6) == Interval(0, 0.5)


def test_the_sign_bound_is_that_of_all_coins_falling_alike() -> None:
    assert [sign_bound(units) for units in (0, 1, 2, 6)] == [1, 1, 0.5, 2 / 2**6]
    assert sign_bound(100_000) == 0


def test_rounding_is_no_difference() -> None:
    assert interval(made_up(np.full(2000, 1e-15), 1e-15), 0.05, noise=1e-12) == Interval(0, 0)


@pytest.mark.parametrize("size", [1e-200, 1e-12, 1e20, 1e200])
def test_an_interval_scales_with_the_numbers(size: float) -> None:
    found, scaled = interval(made_up(NORMAL, 1.0), 1e-4), interval(made_up(NORMAL * size, size), 1e-4)
    assert found is not None
    assert scaled is not None
    assert scaled.low == pytest.approx(found.low * size, rel=1e-9)
    assert scaled.high == pytest.approx(found.high * size, rel=1e-9)


def test_an_end_that_is_no_number_is_no_interval() -> None:
    assert interval(made_up(np.repeat([-1.7e308, 1.7e308], 1000), units=2), 0.05) is None


@settings(deadline=None)
@given(st.integers(2, 50), st.sampled_from([0.5, 0.05, 1e-3, 1e-7]), st.floats(-2, 2))
def test_an_interval_holds_the_change_and_a_smaller_level_never_narrows_what_is_joined(
    units: int, level: float, change: float
) -> None:
    difference = made_up(NORMAL, change, units)
    narrow, wide = interval(difference, 0.5), interval(difference, level)
    assert narrow is not None
    both = widest(narrow, wide)
    assert both is not None
    assert both.low <= narrow.low <= change <= narrow.high <= both.high


def test_what_both_hold_is_nothing_where_one_is_missing() -> None:
    assert widest(Interval(0, 1), None) is None
    assert widest(None, Interval(0, 1)) is None


# ── rows that differ ─────────────────────────────────────────────────────────────────────────────────────────────


def test_only_rows_that_a_metric_sees_differently_count_as_different() -> None:
    made = paired([0, 0, 1, 2, 2], [0, 1, 1, 0, 2], [0, 2, 1, 1, 0], task="multiclass")
    of = {
        name: (statistic(name, scored(made, made.champion)), statistic(name, scored(made, made.challenger)))
        for name in ("accuracy", "mcc")
    }
    assert differing(of["accuracy"]) == 1  # the others are wrong of both
    assert differing(of["mcc"]) == 3
    assert differing(of["mcc"], np.array([0, 1, 1, 1, 1])) == 1


# ── one by itself ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("metric", "rows"),
    [("rmse", 300), ("rmse", 5000), ("r2", 300), ("roc_auc", 400), ("accuracy", 300), ("medae", 900)],
)
def test_the_standard_error_of_leaving_out_is_that_of_drawing(metric: str, rows: int) -> None:
    pair = pair_of(rows, metric)
    found = alone(pair, blocks_of(rows, 1), 1)
    assert found is not None
    assert found.error == pytest.approx(drawn(pair, rows).drawn.std(), rel=0.1)


def test_one_by_itself_is_judged_as_by_a_t_test() -> None:
    from scipy import stats  # type: ignore[import-untyped]  # which scikit-learn brings along

    random = np.random.default_rng(4)
    errors = random.exponential(1.2, 40)
    made = paired(np.zeros(40), np.ones(40), errors)
    pair = statistic("mae", scored(made, made.champion)), statistic("mae", scored(made, made.challenger))
    found = alone(pair, blocks_of(40, 1), 1)
    known = stats.ttest_1samp(errors, 1.0)
    assert found is not None
    assert found.p_value == pytest.approx(known.pvalue, rel=1e-9)
    around, ends = found.interval(0.1), known.confidence_interval(0.9)
    assert known.pvalue < 0.1
    assert (around.low, around.high) == pytest.approx((ends.low - 1, ends.high - 1))


def test_one_by_itself_with_few_rows_that_differ_is_never_sure() -> None:
    observed, champion = np.zeros(100), np.zeros(100)
    challenger = np.where(np.arange(100) < 4, 9.0, 0.0)
    made = paired(observed, champion, challenger)
    pair = statistic("mae", scored(made, made.champion)), statistic("mae", scored(made, made.challenger))
    found = alone(pair, blocks_of(100, 1), 1)
    assert found is not None
    assert found.p_value == 0.125
    assert found.interval(0.05).low == 0


def test_what_is_not_defined_with_a_row_left_out_has_no_standard_error() -> None:
    made = paired([0, 0, 0, 1], [0, 1, 0, 1], [0, 0, 0, 1], task="binary")
    pair = statistic("recall", scored(made, made.champion)), statistic("recall", scored(made, made.challenger))
    assert alone(pair, blocks_of(4, 1), 1) is None
