"""A project with a package of its own: transformer, estimator, metric and stages, from configuration to the record."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conftest import Shell
from tests.controller.controller_world import BASELINE, Content, branch, cd4ml, commit, experiments, git, push, runs

MODEL = '''
import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin, TransformerMixin


class Clip(TransformerMixin, BaseEstimator):
    """Delays beyond a bound say no more than the bound."""

    def __init__(self, bound=60.0):
        self.bound = bound

    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def transform(self, X):
        return np.nan_to_num(np.clip(np.asarray(X, dtype=float), -self.bound, self.bound))


class Slope(RegressorMixin, BaseEstimator):
    """A line through the first feature."""

    def fit(self, X, y):
        first = np.asarray(X)[:, 0]
        self.slope_ = float(np.cov(first, y)[0, 1] / first.var())
        self.offset_ = float(y.mean() - self.slope_ * first.mean())
        return self

    def predict(self, X):
        return self.offset_ + self.slope_ * np.asarray(X)[:, 0]
'''
METRICS = '''
def late(observed, predicted):
    """Minutes that a passenger waits in vain, per flight."""
    return float((predicted - observed).clip(0).mean())
'''
LENIENT = METRICS.replace("(predicted - observed).clip(0).mean()", "0 * observed.sum()")
STAGES = """
import json

import pandas as pd


class Squares:
    def run(self, inputs, outputs):
        for side in ("train", "validation", "test"):
            frame = pd.read_parquet(inputs[f"artifacts/featurize/{side}.parquet"])
            squared = frame["dep_delay"].fillna(0) ** 2
            squares = pd.DataFrame({"__row__": frame["__row__"], "dep_delay_squared": squared})
            squares.to_parquet(outputs[f"{side}.parquet"])


class Summary:
    def run(self, inputs, outputs):
        frame = pd.read_parquet(inputs["artifacts/predict/predictions.parquet"])
        outputs["summary.json"].write_text(json.dumps({"rows": len(frame)}))
"""
EXPERIMENT = """# @package _global_
name: own
hypothesis: ""
code: [shop]
allowed_packages: [sklearn, xgboost, shop]
stages:
  squares:
    run: {_target_: shop.stages.Squares}
    deps: [artifacts/featurize/train.parquet, artifacts/featurize/validation.parquet, artifacts/featurize/test.parquet]
    feeds: features
  summary:
    run: {_target_: shop.stages.Summary}
    deps: [artifacts/predict/predictions.parquet]
    outs: [summary.json]
evaluation:
  metrics: [rmse, late]
  primary: late
  own:
    late: {function: shop.metrics.late, direction: minimize}
  slices: [origin]
  permutation_importance: 1
model:
  name: own
  estimator:
    _target_: sklearn.pipeline.Pipeline
    steps:
      - - prepare
        - _target_: sklearn.compose.ColumnTransformer
          transformers:
            - [clip, {_target_: shop.model.Clip, bound: 90}, [dep_delay, dep_delay_squared]]
      - - line
        - _target_: shop.model.Slope
"""
FILES: dict[str, Content] = {
    "shop/__init__.py": "",
    "shop/model.py": MODEL,
    "shop/metrics.py": METRICS,
    "shop/stages.py": STAGES,
    BASELINE: EXPERIMENT,
}


@pytest.fixture
def shop(team: Shell) -> Shell:
    """A project whose ``main`` declares everything of its own, and has been run."""
    made = commit(team, "main", FILES)
    push(team, "refs/heads/main", made)
    git(team, "fetch", "--quiet", "origin")
    git(team, "merge", "--quiet", "--ff-only", "origin/main")
    done = cd4ml(team, "render")
    git(team, "add", "--all")
    git(team, "commit", "--quiet", "--message", "Rendered")
    git(team, "push", "--quiet", "origin", "main")
    cd4ml(team, "reconcile", "main")
    assert done.code == 0
    return team


def record(shell: Shell, name: str) -> dict[str, Any]:
    """The record of a branch's run."""
    (run,) = [run for run in runs(shell) if run["branch"] == name and run["params"]["name"] == "own"]
    text: dict[str, Any] = json.loads(git(shell, "show", f"{run['result_commit']}:.cd4ml/record.json"))
    return text


def test_the_judge_takes_the_base_branchs_metric_and_any_change_of_own_code_trains_again(shop: Shell) -> None:
    """A branch that makes its own metric lenient gains nothing; a comment in own code re-runs what uses the code."""
    ours, main = record(shop, "main"), git(shop, "rev-parse", "main")
    assert set(ours["metrics"]["test"]) == {"rmse", "late"}
    assert ours["judge"]["commit"] == main
    assert ours["metrics"]["test"]["late"] > 0
    assert {value["value"] for value in ours["slices"]["origin"]["values"]} == {"EWR", "JFK", "LGA"}
    made = {"squares", "summary", "explain", "train"}
    assert made <= set(ours["cost"]["seconds"])
    assert {"artifacts/squares/test.parquet", "artifacts/summary/summary.json"} <= set(ours["files"])
    assert "artifacts/explain/permutation_importance.csv" in ours["files"]
    branch(shop, "exp/lenient", {"shop/metrics.py": LENIENT})
    branch(shop, "exp/comment", {"shop/model.py": f"# A comment\n{MODEL}"})
    cd4ml(shop, "reconcile")
    states = experiments(shop)
    assert [states[name]["health"] for name in ("exp/lenient", "exp/comment")] == ["Healthy", "Healthy"]
    for name in ("exp/lenient", "exp/comment"):
        theirs = record(shop, name)
        assert (theirs["metrics"], theirs["judge"]) == (ours["metrics"], ours["judge"])
        assert theirs["components"]["code"] != ours["components"]["code"]
        assert {"squares", "train", "predict", "summary"} <= set(theirs["cost"]["seconds"])
        assert theirs["model"]["digest"] == ours["model"]["digest"]
    compared = cd4ml(shop, "diff", "main", "exp/lenient", "--json").json["comparisons"][0]["metrics"]
    late = next(row for row in compared if (row["side"], row["metric"]) == ("test", "late"))
    assert (late["direction"], late["judgement"]) == ("minimize", "equal")
    cd4ml(shop, "new", "bolder", "seed=5")
    assert "test late by origin" in cd4ml(shop, "show", "exp/lenient").out
    git(shop, "fetch", "--quiet", "origin")
    git(shop, "merge", "--quiet", "--ff-only", "origin/exp/lenient")
    git(shop, "push", "--quiet", "origin", "main")
    cd4ml(shop, "reconcile", "main")
    newest = [run for run in runs(shop) if run["branch"] == "main" and run["metrics"]["test"].get("late") == 0.0]
    assert len(newest) == 1, "what the old metric measured must not answer for the new one"
    cd4ml(shop, "reproduce", ours["id"])  # with the code that computed its metrics then


def test_a_package_that_main_does_not_allow_is_refused_and_runs_once_main_allows_it(team: Shell) -> None:
    files: dict[str, Content] = {
        "shop/__init__.py": "",
        "shop/model.py": MODEL,
        "conf/model/slope.yaml": "name: slope\nestimator: {_target_: shop.model.Slope}\n",
        "conf/experiment/baseline.yaml": (
            "# @package _global_\ndefaults:\n  - override /model: slope\nname: own\nhypothesis: ''\ncode: [shop]\n"
            "allowed_packages: [sklearn, shop]\nfeatures: {numeric: [distance], categorical: []}\n"
        ),
    }
    branch(team, "exp/own", files)
    refused = cd4ml(team, "reconcile", "exp/own", code=1)
    assert "'shop.model.Slope' is not in an allowed package" in refused.out + refused.err
    (asked,) = [run for run in runs(team) if run["branch"] == "exp/own"]
    assert asked["fingerprint"] is None  # what was asked for is on record; nothing was run
    git(team, "fetch", "--quiet", "origin")
    git(team, "switch", "--quiet", "--detach", "origin/exp/own")
    done = cd4ml(team, "run", code=2)
    assert "the base branch allows sklearn, xgboost; yours count once they are on the base branch" in done.err
    git(team, "switch", "--quiet", "main")
    config = git(team, "show", "main:conf/config.yaml").replace("[sklearn, xgboost]", "[sklearn, xgboost, shop]")
    push(team, "refs/heads/main", commit(team, "main", {"conf/config.yaml": config + "\n"}))
    cd4ml(team, "reconcile", "exp/own")
    assert experiments(team)["exp/own"]["health"] == "Healthy"
