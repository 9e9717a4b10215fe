"""Every kind of model comes out again to the byte, from Git and the archived data alone."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cd4ml.controller.history.reproduce import environment_lines
from cd4ml.spec.determinism import determinism_of
from tests.conftest import Shell
from tests.controller.controller_world import cd4ml, commit, git, refs

FOREST = """name: {name}
estimator:
  _target_: sklearn.pipeline.Pipeline
  steps:
    - - codes
      - _target_: sklearn.compose.ColumnTransformer
        transformers:
          - - categories
            - _target_: sklearn.preprocessing.OrdinalEncoder
            - ${{features.categorical}}
        remainder: passthrough
    - - forest
      - {{_target_: sklearn.ensemble.{target}, n_estimators: 20, n_jobs: {jobs}}}
"""
ASKED = "# @package _global_\ndefaults:\n  - override /model: {model}\nname: {name}\n{more}"
FEWER = "model:\n  estimator: {{max_iter: 20}}\n"
TREES = "model:\n  estimator: {n_estimators: 20, n_jobs: 2}\n"
KINDS = ("linear", "histogram", "forest", "forest-threads", "xgboost-threads")


def homes(path: Path) -> None:
    chance = random.Random(1)  # noqa: S311  # the same homes every time
    lines = ["size,age,colour,price,kind"]
    for _ in range(200):
        size, age, colour = chance.gauss(50, 10), chance.randint(0, 80), chance.choice(["red", "blue", "green"])
        price = size * 3 - age + chance.gauss(0, 9)
        lines.append(f"{size:.3f},{age},{colour},{price:.3f},{'dear' if price > 110 else 'cheap'}")
    path.write_text("\n".join(lines) + "\n", "utf-8")


@dataclass(frozen=True)
class Lab:
    """A fresh clone of a remote on which every kind of model was run, and every branch is gone for good."""

    clone: Shell
    runs: dict[str, dict[str, Any]]


def branch_files(kind: str, *, classes: bool) -> dict[str, str]:
    suffix = "Classifier" if classes else "Regressor"
    model, more, files = {
        "linear": ("logistic" if classes else "ridge", "seed: 7\n", {}),
        "histogram": ("hist_gradient_boosting", "model:\n  estimator: {max_iter: 20}\n", {}),
        "forest": ("forest", "", {"forest": FOREST.format(name="forest", target=f"RandomForest{suffix}", jobs=1)}),
        "forest-threads": (
            "threads",
            "",
            {"threads": FOREST.format(name="threads", target=f"RandomForest{suffix}", jobs=2)},
        ),
        "xgboost-threads": ("xgboost", TREES, {}),
    }[kind]
    asked = {"conf/experiment/baseline.yaml": ASKED.format(model=model, name=kind, more=more)}
    return asked | {f"conf/model/{name}.yaml": text for name, text in files.items()}


@pytest.fixture(scope="module", params=["regression", "classification"])
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, few_flights: Path, warm: str) -> Lab:
    classes = request.param == "classification"
    folder = tmp_path_factory.mktemp(request.param)
    top = Shell(folder, {"PYTHONPATH": str(few_flights), "CD4ML_WARM": warm})
    top.run("git", "init", "--quiet", "--bare", "remote.git")
    homes(folder / "homes.csv")
    columns = ["--target", "kind"] if classes else ["--target", "price"]
    cd4ml(top, "init", "project", "--data", str(folder / "homes.csv"), *columns, "--storage", "../storage")
    team = top.at(folder / "project")
    team.run("git", "add", "--all")
    team.run("git", "commit", "--quiet", "--message", "A project")
    team.run("git", "remote", "add", "origin", "../remote.git")
    team.run("git", "push", "--quiet", "origin", "main")
    for kind in KINDS:
        made = commit(team, "main", branch_files(kind, classes=classes))
        team.run("git", "push", "--quiet", "origin", f"{made}:refs/heads/exp/{kind}")
    cd4ml(team, "reconcile")
    found = {row["branch"]: row for row in cd4ml(team, "search", "", "--json").json["runs"]}
    for kind in KINDS:
        team.run("git", "push", "--quiet", "origin", "--delete", f"exp/{kind}")
    remote = top.at(folder / "remote.git")
    remote.run("git", "reflog", "expire", "--expire=now", "--all")
    remote.run("git", "gc", "--quiet", "--prune=now")
    shutil.rmtree(team.folder)
    top.run("git", "clone", "--quiet", "remote.git", "fresh")
    return Lab(top.at(folder / "fresh"), found)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_of_a_branch_that_is_gone_comes_out_again_to_the_byte(lab: Lab, kind: str) -> None:
    ran = lab.runs[f"exp/{kind}"]
    assert ran["outcome"] == "succeeded", ran["reason"]
    assert not [name for name in refs(lab.clone) if kind in name]
    (told,) = cd4ml(lab.clone, "reproduce", ran["id"], "--json").json["reproductions"]
    assert told["equal"]
    assert told["model_digest"] == ran["model_digest"]
    if kind != "forest-threads":  # of which the record says beforehand that it may differ
        assert told["metrics"] == ran["metrics"]
        assert told["differences"] == told["expected"] == []


def test_the_record_says_beforehand_what_may_come_out_otherwise(lab: Lab) -> None:
    records = {
        kind: cd4ml(lab.clone, "show", lab.runs[f"exp/{kind}"]["id"], "--json").json["runs"][0]["record"]
        for kind in KINDS
    }
    assert {kind: record["deterministic"] for kind, record in records.items()} == {
        kind: kind != "forest-threads" for kind in KINDS
    }
    told = records["forest-threads"]["nondeterminism"]
    assert 0 < told["tolerance"] < 1e-6
    assert "n_jobs 2" in told["why"][0]
    assert git(lab.clone, "rev-parse", "origin/cd4ml/index")


XGB: dict[str, Any] = {"_target_": "xgboost.XGBRegressor"}


@pytest.mark.parametrize(
    ("estimator", "threads", "expected"),
    [
        (XGB, 4, True),
        ({**XGB, "n_jobs": 8, "tree_method": "hist"}, 4, True),
        ({**XGB, "device": "cpu"}, 1, True),
        ({**XGB, "device": "cuda:0"}, 1, False),
        ({**XGB, "booster": "gblinear"}, 2, False),
        ({**XGB, "booster": "gblinear"}, 1, True),
        ({**XGB, "booster": "gblinear", "updater": "coord_descent"}, 4, True),
        ({"_target_": "sklearn.ensemble.RandomForestRegressor"}, 4, True),
        ({"_target_": "sklearn.ensemble.ExtraTreesClassifier", "n_jobs": -1}, 1, False),
        ({"_target_": "x.Pipeline", "steps": [["a", {"_target_": "y.RandomForestRegressor", "n_jobs": 3}]]}, 1, False),
        ({}, 1, True),
    ],
)
def test_only_what_is_known_to_vary_is_said_to_vary(estimator: dict[str, Any], threads: int, expected: bool) -> None:
    found = determinism_of(estimator, threads)
    assert found.deterministic is expected
    assert bool(found.why) is not expected
    assert (found.tolerance == 0) is expected


def test_another_python_and_other_packages_are_named() -> None:
    recorded = {"python": "3.8.1", "packages": {"numpy": "0.1", "no-such-package": "1"}}
    python, *others = environment_lines((), recorded)
    assert "3.8.1" in python
    assert [line.partition(":")[0] for line in others] == ["no-such-package", "numpy"]
