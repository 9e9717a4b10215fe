"""Permutation importance: what a model leans on, on the validation side, the same on every run."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.svm import LinearSVC

from cd4ml.errors import StageFailed
from cd4ml.spec.experiment import EvaluationSpec, OwnMetricSpec
from cd4ml.spec.pipeline import FEATURES, IMPORTANCE
from cd4ml.stages.explain import importances, metric_of
from cd4ml.stages.runner import run_stage
from tests.stages.stage_world import build, resolved

GENERATOR = np.random.default_rng(0)
X = pd.DataFrame({"idle": GENERATOR.normal(size=200), "some": GENERATOR.normal(size=200), "most": np.arange(200.0)})
Y = X["most"] + 5 * X["some"]


def evaluation(primary: str, task: Any = "regression", own: tuple[OwnMetricSpec, ...] = ()) -> EvaluationSpec:
    return EvaluationSpec(task, (primary,), primary, own, permutation_importance=5)


@pytest.mark.parametrize("primary", ["rmse", "r2", "mae"])
def test_the_features_are_sorted_by_how_much_worse_the_model_does_without_them(primary: str) -> None:
    """Whether more or less of the metric is better, a drop in score is positive."""
    model = LinearRegression().fit(X, Y)
    rows = importances(model, X, Y.to_numpy(), evaluation(primary), (), seed=1)
    assert [name for name, _, _ in rows] == ["most", "some", "idle"]
    assert rows[0][1] > rows[1][1] > 0
    assert rows[2][1] == pytest.approx(0, abs=1e-9)
    assert rows[0][2] > 0


def test_the_seed_decides_and_nothing_else() -> None:
    model = LinearRegression().fit(X, Y)
    first, again, other = (importances(model, X, Y.to_numpy(), evaluation("rmse"), (), seed) for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("primary", ["log_loss", "f1", "roc_auc"])
def test_classes_are_explained_by_label_or_probability(primary: str) -> None:
    codes = (X["most"] > 100).astype(int).to_numpy()
    model = LogisticRegression(max_iter=1000).fit(X, codes)
    rows = importances(model, X, codes.astype(float), evaluation(primary, "binary"), ("no", "yes"), seed=1)
    assert rows[0][0] == "most"
    assert rows[0][1] > 0.2


def test_the_metric_is_cd4mls_where_the_primary_one_is_the_projects_own() -> None:
    own = (OwnMetricSpec("cost", "shop.cost", "minimize", "prediction"),)
    assert metric_of(evaluation("cost", "regression", own), False) == "rmse"
    assert metric_of(evaluation("cost", "binary", own), True) == "log_loss"
    assert metric_of(evaluation("cost", "multiclass", own), False) == "accuracy"
    assert metric_of(evaluation("f1", "binary", own), True) == "f1"
    codes = (X["most"] > 100).astype(int).to_numpy()
    rows = importances(LinearSVC().fit(X, codes), X, codes, evaluation("cost", "binary", own), ("no", "yes"), seed=1)
    assert rows[0][0] == "most"


def test_a_metric_that_is_not_defined_on_the_validation_side_is_an_error() -> None:
    model = LinearRegression().fit(X, Y)
    with pytest.raises(StageFailed, match="explain: metric 'r2' has no finite value on the validation side"):
        importances(model, X, np.ones(200), evaluation("r2"), (), seed=1)


def test_the_stage_reads_the_validation_side_alone_and_writes_one_line_a_feature(tmp_path: Path) -> None:
    root = tmp_path / "root"
    build(root, tmp_path / "raw", resolved({"evaluation.permutation_importance": 3}))
    for stage in ("ingest", "validate", "split", "featurize", "train"):
        run_stage(stage, root, tmp_path / "raw")
    for side in ("train", "test"):
        (root / FEATURES[side]).unlink()
    run_stage("explain", root, tmp_path)
    text = (root / IMPORTANCE).read_text()
    rows = list(csv.DictReader(text.splitlines()))
    assert list(rows[0]) == ["feature", "importance", "std"]
    assert sorted(row["feature"] for row in rows) == sorted(
        ["distance", "late_start", "plane_year", "city", "plane", "start_month", "start_hour"]
    )
    drops = [float(row["importance"]) for row in rows]
    assert drops == sorted(drops, reverse=True)
    assert float(next(row for row in rows if row["feature"] == "plane_year")["importance"]) == 0  # not in the pipeline
    run_stage("explain", root, tmp_path)
    assert (root / IMPORTANCE).read_text() == text
