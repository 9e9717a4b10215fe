"""How often a report is wrong: simulated from fixed seeds, small here, in full in ``benchmarks/report_figures.py``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cd4ml.promotion.paired import Paired
from tests.promotion.judging_world import (
    better_or_passed,
    equal_classifiers,
    equal_regressors,
    family,
    judged,
    planted_drop,
    policy,
)

FEW = policy(resamples=1000)


@pytest.mark.parametrize(
    ("made", "metrics"),
    [(equal_regressors, ("rmse", "mae", "r2")), (equal_classifiers, ("roc_auc", "accuracy", "log_loss"))],
)
def test_of_1000_pairs_of_equal_models_at_most_7_percent_are_called_better_or_worse(
    made: Callable[[int, int], Paired], metrics: tuple[str, ...]
) -> None:
    claimed = dict.fromkeys(metrics, 0)
    for seed in range(1000):
        for one in judged(made(seed, 200), metrics[0], metrics, FEW).metrics:
            claimed[one.metric] += one.standing in ("better", "worse")
    assert all(20 <= count <= 70 for count in claimed.values()), claimed


def test_of_12_families_of_200_equal_challengers_a_gate_passes_hardly_one_and_most_have_one_that_seems_better() -> None:
    asked = policy(resamples=200)
    seemed = passed = 0
    for seed in range(12):
        each = [better_or_passed(pair, "rmse", asked) for pair in family(seed, 120, 200)]
        seemed += any(better for better, _ in each)
        passed += any(through for _, through in each)
    assert passed <= 1
    assert seemed >= 6


@pytest.mark.parametrize("task", ["regression", "binary"])
def test_a_planted_drop_of_5_percent_on_10000_rows_is_named(task: Any) -> None:
    named = 0
    for seed in range(25):
        pair, metric = planted_drop(seed, 10_000, task)
        named += judged(pair, metric, asked=policy(resamples=500)).verdict == "worse"
    assert named >= 24
