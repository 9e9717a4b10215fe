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
    equally_precise,
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


@pytest.mark.parametrize("positives", [6, 8, 15, 30])
@pytest.mark.parametrize("precision", [0.8, 0.95])
def test_of_400_equal_models_that_predict_few_positives_at_most_4_5_percent_pass_by_precision(
    positives: int, precision: float
) -> None:
    """2.5 % are the budget of the gate; of the resamples of 8 rows that are all right, every one is all right."""
    pairs = [equally_precise(seed, 800, positives, precision) for seed in range(400)]
    each = [better_or_passed(pair, "precision", policy(resamples=200)) for pair in pairs]
    assert sum(better for better, _ in each) <= 18
    assert sum(passed for _, passed in each) <= 18


@pytest.mark.parametrize("positives", [10, 30])
def test_of_400_equal_models_of_a_rare_class_at_most_7_percent_are_called_better_or_worse(positives: int) -> None:
    metrics = ("recall", "precision", "f1", "mcc", "balanced_accuracy", "average_precision", "roc_auc")
    claimed = dict.fromkeys(metrics, 0)
    for seed in range(400):
        made = equal_classifiers(seed, 800, positives / 800)
        for one in judged(made, metrics[0], metrics, policy(resamples=200)).metrics:
            claimed[one.metric] += one.standing in ("better", "worse")
    assert max(claimed.values()) <= 28, claimed


def test_a_model_that_is_more_precise_on_enough_rows_still_passes() -> None:
    asked = policy(resamples=200)
    pairs = [equally_precise(seed, 4000, 400, 0.7, challenger=0.85) for seed in range(40)]
    assert sum(better_or_passed(pair, "precision", asked)[1] for pair in pairs) >= 36


@pytest.mark.parametrize("task", ["regression", "binary"])
def test_a_planted_drop_of_5_percent_on_10000_rows_is_named(task: Any) -> None:
    named = 0
    for seed in range(25):
        pair, metric = planted_drop(seed, 10_000, task)
        named += judged(pair, metric, asked=policy(resamples=500)).verdict == "worse"
    assert named >= 24
