"""Every kind of model comes out again to the byte, from Git and the archived data alone."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cd4ml.controller.desired import specs
from cd4ml.controller.history import reproduce
from cd4ml.controller.history.reproduce import environment_lines
from cd4ml.spec.determinism import determinism_of
from tests.conftest import Shell
from tests.controller.controller_world import BASELINE, branch, cd4ml, commit, git, push, refs, remote, runs
from tests.controller.keeping_world import land
from tests.controller.parts_world import assert_published
from tests.index.index_world import hexes, run_body

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
KINDS = ("linear", "histogram", "forest", "forest-threads")


def reproduced(shell: Shell, name: str, code: int = 0) -> dict[str, Any]:
    """What ``reproduce`` says, after it was held against its schema."""
    told = cd4ml(shell, "reproduce", name, "--json", code=code).json
    assert_published(told, "reproductions")
    found: dict[str, Any] = told["reproductions"][0]
    return found


def homes(path: Path) -> None:
    chance = random.Random(1)  # noqa: S311  # the same homes every time
    lines = ["size,age,colour,price,kind"]
    for _ in range(200):
        size, age, colour = chance.gauss(50, 10), chance.randint(0, 80), chance.choice(["red", "blue", "green"])
        price = size * 3 - age + chance.gauss(0, 9)
        lines.append(f"{size:.3f},{age},{colour},{price:.3f},{'dear' if price > 110 else 'cheap'}")
    path.write_text("\n".join(lines) + "\n", "utf-8")


def fresh_without(team: Shell, branches: list[str]) -> Shell:
    """A fresh clone, after these branches and every other trace of them in Git are gone from the remote."""
    top, bare = team.at(team.folder.parent), remote(team)
    team.run("git", "push", "--quiet", "origin", "--delete", *branches)
    bare.run("git", "reflog", "expire", "--expire=now", "--all")
    bare.run("git", "gc", "--quiet", "--prune=now")
    shutil.rmtree(team.folder)
    top.run("git", "clone", "--quiet", "remote.git", "fresh")
    return top.at(top.folder / "fresh")


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
    return Lab(fresh_without(team, [f"exp/{kind}" for kind in KINDS]), found)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_of_a_branch_that_is_gone_comes_out_again_to_the_byte(lab: Lab, kind: str) -> None:
    ran = lab.runs[f"exp/{kind}"]
    assert ran["outcome"] == "succeeded", ran["reason"]
    assert not [name for name in refs(lab.clone) if kind in name]
    told = reproduced(lab.clone, ran["id"])
    assert told["equal"]
    assert told["model_digest"] == ran["model_digest"]
    if kind != "forest-threads":  # of which the record says beforehand that it may differ
        assert told["metrics"] == ran["metrics"]
        assert told["differences"] == told["expected"] == []


MANY_THREADS = """# @package _global_
defaults:
  - override /model: xgboost
name: many-threads
model:
  estimator: {{_target_: xgboost.XGB{kind}, n_estimators: 15, subsample: 0.8, n_jobs: 4}}
"""
ORIGIN = """data: {target: origin}
validation: {expectations: [{type: expect_column_values_to_not_be_null, kwargs: {column: origin}}]}
features: {numeric: [dep_delay, distance, sched_dep_time, temp, wind_speed], categorical: [carrier, dest]}
evaluation: {task: multiclass, metrics: [log_loss, accuracy], primary: log_loss, slices: []}
"""


@pytest.mark.parametrize(("kind", "more"), [("Regressor", ""), ("Classifier", ORIGIN)])
def test_boosted_trees_of_many_threads_and_thousands_of_rows_come_out_again_to_the_byte(
    team: Shell, kind: str, more: str
) -> None:
    """Of so many rows, each thread adds up gradients of some, and the sums must not depend on who is first."""
    experiment = branch(team, "exp/many-threads", {BASELINE: MANY_THREADS.format(kind=kind) + more})
    cd4ml(team, "reconcile", "exp/many-threads")
    (ran,) = runs(team, "branch = 'exp/many-threads'")
    assert ran["commit"] == experiment
    assert sum(side["rows"] for side in ran["split"].values()) > 5000
    told = reproduced(fresh_without(team, ["exp/many-threads"]), ran["id"])
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


# ── what is not run again ──


@pytest.mark.parametrize("lie", ["tree", "judge"])
def test_a_record_of_another_tree_or_of_a_judge_that_main_never_had_runs_nothing(
    team: Shell, monkeypatch: pytest.MonkeyPatch, lie: str
) -> None:
    """Whoever may push a ref may land a record: the code that judges is main's, of whatever time."""
    source, foreign = (commit(team, "main", {BASELINE: f"name: {name}\n"}) for name in ("x", "foreign"))
    named = foreign if lie == "tree" else source
    body = run_body(
        lie,
        commit=source,
        tree=git(team, "rev-parse", f"{named}^{{tree}}"),
        judge={"commit": foreign if lie == "judge" else git(team, "rev-parse", "main"), "code": hexes("code")},
    )
    land(team, body)
    monkeypatch.setattr(reproduce, "attempt", None)
    done = cd4ml(team, "reproduce", body["id"], code=1)
    told = {
        "tree": "has another tree than the record says",
        "judge": f"{foreign[:12]}, whose code computed its metrics",
    }
    (line,) = done.lines
    assert told[lie] in line


# ── what a run again is told of, and run on ──


def test_a_component_that_moved_since_is_named(degraded: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(specs, "python_minor", lambda: "3.99")
    assert reproduced(degraded, "exp/x")["moved"] == ["env"]
    assert "env moved since: what runs today is not quite what ran then" in cd4ml(degraded, "reproduce", "exp/x").out


def test_what_runs_as_it_ran_then_has_nothing_that_moved(degraded: Shell) -> None:
    assert reproduced(degraded, "exp/x")["moved"] == []
    assert "moved since" not in cd4ml(degraded, "reproduce", "exp/x").out


THREADED = """# @package _global_
name: threaded
code: [mine]
allowed_packages: [sklearn, xgboost, mine]
executor: {{threads: {threads}}}
stages:
  threads:
    run: {{_target_: mine.Threads}}
    deps: [artifacts/ingest/table.parquet]
    outs: [none.json]
"""
THREADS = """import os


class Threads:
    def run(self, inputs, outputs):
        raise type(f"On{os.environ['OMP_NUM_THREADS']}Threads", (Exception,), {})
"""


def threaded(shell: Shell, threads: int) -> None:
    """A ``main`` that asks for so many threads, and fails by the name of those that it was given."""
    files = {BASELINE: THREADED.format(threads=threads), "mine/__init__.py": THREADS}
    push(shell, "refs/heads/main", commit(shell, "main", files), "--force")


def test_a_run_again_has_the_threads_of_the_run_and_not_those_that_are_asked_for_today(team: Shell) -> None:
    threaded(team, 2)
    cd4ml(team, "reconcile", "main", code=1)
    (ran,) = runs(team, "outcome = 'failed'")
    assert ran["failure"]["message"].startswith("On2Threads in ")
    threaded(team, 1)
    assert reproduced(team, ran["id"])["differences"] == []


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
