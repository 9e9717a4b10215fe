"""Stages, estimators and metrics of the project: public code of its own package, called with what it declares."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cd4ml.errors import ConfigError, StageFailed
from cd4ml.spec.experiment import EvaluationSpec, OwnMetricSpec, OwnStageSpec
from cd4ml.spec.pipeline import FEATURES, METRICS, PREDICTIONS, TABLE, Pipeline
from cd4ml.stages.estimators import build_estimator
from cd4ml.stages.featurize import load_features
from cd4ml.stages.own import build_stage
from cd4ml.stages.own_code import own_code
from cd4ml.stages.runner import run_stage
from cd4ml.stages.scores import own_functions
from tests.stages.stage_world import build, render, resolved

PACKAGE = "cd4ml_test_bakery"
STAGES = '''
import json
from os import system
from pathlib import Path

import pandas as pd

class Double:
    """Twice a feature."""

    def __init__(self, column, factor=2, seed=None):
        self.column, self.factor, self.seed = column, factor, seed

    def run(self, inputs, outputs):
        for side in ("train", "validation", "test"):
            frame = pd.read_parquet(inputs[f"artifacts/featurize/{side}.parquet"])
            more = pd.DataFrame({"__row__": frame["__row__"], "doubled": frame[self.column] * self.factor})
            more.iloc[::-1].to_parquet(outputs[f"{side}.parquet"])

class Report:
    def __init__(self, title="x", random_state=None, seed=None):
        self.title, self.seeds = title, [random_state, seed]

    def run(self, inputs, outputs):
        rows = len(pd.read_parquet(inputs["artifacts/predict/predictions.parquet"]))
        text = json.dumps({"title": self.title, "rows": rows, "seeds": self.seeds, "names": sorted(inputs)})
        outputs["report.json"].write_text(text)

class Forgets(Report):
    def run(self, inputs, outputs):
        outputs["report.json"].write_text("half")

class Links(Report):
    def run(self, inputs, outputs):
        outputs["report.json"].symlink_to("/etc/hostname")

class Raises(Report):
    def run(self, inputs, outputs):
        outputs["report.json"].write_text("half")
        raise RuntimeError("patient 4711")

class RefusesToBe(Report):
    def __init__(self):
        raise LookupError("patient 4711")

class Idle:
    pass

class _Hidden(Report):
    pass

def cost(observed, predicted):
    return float(abs(observed - predicted).sum())

def _hidden_cost(observed, predicted):
    return 0.0

NUMBER = 3
'''
BROKEN = "import cd4ml_test_not_there\n"


@pytest.fixture
def bakery(tmp_path: Path) -> Iterator[Path]:
    root = tmp_path / "root"
    (root / PACKAGE).mkdir(parents=True)
    (root / PACKAGE / "__init__.py").write_text("")
    (root / PACKAGE / "work.py").write_text(STAGES)
    (root / PACKAGE / "broken.py").write_text(BROKEN)
    yield root
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


def stage(target: Any = f"{PACKAGE}.work.Report", **params: Any) -> OwnStageSpec:
    return OwnStageSpec("bake", {"_target_": target, **params}, (PREDICTIONS,), ("report.json",), "nothing")


def refused(root: Path, one: OwnStageSpec) -> dict[str, str]:
    with own_code(root, (PACKAGE,), (PACKAGE,)), pytest.raises(ConfigError) as caught:
        build_stage(one, (PACKAGE,), 5)
    return {problem.key: f"{problem.message} ({problem.hint})" for problem in caught.value.problems}


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("os.system", "not in an allowed package"),
        ("sklearn.linear_model.Ridge", "not in an allowed package"),
        (f"{PACKAGE}.work._Hidden", "does not name a public class"),
        (f"{PACKAGE}.work.system", "is not a class"),
        (f"{PACKAGE}.work.Path", "is not defined in"),
        (f"{PACKAGE}.work.cost", "is not a class"),
        (f"{PACKAGE}.work.Idle", "has no method run"),
        (f"{PACKAGE}.work.Reports", "does not exist (did you mean cd4ml_test_bakery.work.Report?)"),
        (f"{PACKAGE}.nowhere.Report", "does not exist"),
        (f"{PACKAGE}.broken.Report", "cannot be imported: ModuleNotFoundError"),
        (3, "must name a class"),
    ],
)
def test_a_target_that_is_no_public_class_with_run_is_refused(bakery: Path, target: Any, reason: str) -> None:
    found = refused(bakery, stage(target))
    assert list(found) == ["stages.bake.run._target_"]
    assert reason in found["stages.bake.run._target_"]


def test_parameters_are_plain_and_those_that_the_class_takes(bakery: Path) -> None:
    found = refused(bakery, stage(titel="x", title={"_target_": f"{PACKAGE}.work.Report"}))
    assert "did you mean title?" in found["stages.bake.run.titel"]
    assert "must be plain data" in found["stages.bake.run.title"]
    assert "needs this parameter" in refused(bakery, stage(f"{PACKAGE}.work.Double"))["stages.bake.run.column"]


def test_seeds_that_are_left_open_are_set(bakery: Path) -> None:
    with own_code(bakery, (PACKAGE,), (PACKAGE,)):
        assert build_stage(stage(), (PACKAGE,), 5).seeds == [5, 5]
        assert build_stage(stage(random_state=1), (PACKAGE,), 5).seeds == [1, 5]


def value(**run: Any) -> dict[str, Any]:
    """The tiny project with a stage that feeds and one that reports."""
    sides = [FEATURES[side] for side in ("train", "validation", "test")]
    double = {"_target_": f"{PACKAGE}.work.Double", "column": "distance", "factor": 3}
    report = {"_target_": f"{PACKAGE}.work.Report", "title": "trips", **run}
    return resolved(
        {
            "code": [PACKAGE],
            "allowed_packages": ["sklearn", PACKAGE],
            "stages": {
                "double": {"run": double, "deps": sides, "feeds": "features"},
                "bake": {"run": report, "deps": [PREDICTIONS, TABLE], "outs": ["report.json"]},
            },
            "model.estimator": {
                "_target_": "sklearn.pipeline.Pipeline",
                "steps": [
                    [
                        "choose",
                        {
                            "_target_": "sklearn.compose.ColumnTransformer",
                            "transformers": [["one", "passthrough", ["distance", "doubled"]]],
                        },
                    ],
                    ["line", {"_target_": "sklearn.linear_model.Ridge"}],
                ],
            },
            "evaluation": {
                "task": "regression",
                "metrics": ["rmse", "cost"],
                "primary": "rmse",
                "own": {"cost": {"function": f"{PACKAGE}.work.cost", "direction": "minimize"}},
            },
        }
    )


ORDER = ("ingest", "validate", "split", "featurize", "double", "train", "predict", "bake", "evaluate")


def test_own_stages_feed_the_model_and_report_and_own_metrics_judge(bakery: Path, tmp_path: Path) -> None:
    build(bakery, tmp_path / "raw", value())
    for name in ORDER:
        run_stage(name, bakery, tmp_path / "raw")
    spec = value()
    feeding = OwnStageSpec("double", spec["stages"]["double"]["run"], (), (), "features")
    x, y, _ = load_features(bakery, "test", Pipeline(("trips",), own=(feeding,)))
    assert (x["doubled"] == x["distance"] * 3).all()
    report = json.loads((bakery / "artifacts/bake/report.json").read_text())
    assert (report["title"], report["seeds"], report["names"]) == ("trips", [7, 7], [TABLE, PREDICTIONS])
    metrics = json.loads((bakery / METRICS).read_text())
    from cd4ml.stages.table import read_parquet

    frame = read_parquet(bakery / PREDICTIONS)
    predicted = frame.loc[frame["side"] == "test", "prediction"].to_numpy()
    assert metrics["test"]["cost"] == pytest.approx(abs(y - predicted).sum())
    assert sorted(path.name for path in (bakery / "artifacts/bake").iterdir()) == ["report.json"]


@pytest.mark.parametrize(
    ("name", "outs", "message"),
    [
        ("Forgets", ["report.json", "more.txt"], "bake: Forgets.run did not write more.txt"),
        ("Links", ["report.json"], "bake: Links.run did not write report.json"),
        ("Raises", ["report.json"], "bake: RuntimeError in Raises, in work.run (line "),
    ],
)
def test_a_stage_that_does_not_do_its_work_leaves_nothing_and_is_named_without_data(
    bakery: Path, tmp_path: Path, name: str, outs: list[str], message: str
) -> None:
    build(bakery, tmp_path / "raw", value())
    (bakery / PREDICTIONS).parent.mkdir(parents=True)
    for path in (PREDICTIONS, TABLE):
        (bakery / path).parent.mkdir(parents=True, exist_ok=True)
        (bakery / path).write_bytes(b"")
    changed = value(_target_=f"{PACKAGE}.work.{name}")
    changed["stages"]["bake"]["outs"] = outs
    render(bakery, changed)
    with pytest.raises(StageFailed) as caught:
        run_stage("bake", bakery, tmp_path)
    assert message in str(caught.value)
    assert "4711" not in str(caught.value)
    assert caught.value.kind == "deterministic"
    assert list((bakery / "artifacts/bake").iterdir()) == []


def test_a_constructor_that_raises_is_told_without_its_words(bakery: Path) -> None:
    with (
        own_code(bakery, (PACKAGE,), (PACKAGE,)),
        pytest.raises(StageFailed, match="bake: LookupError in RefusesToBe") as caught,
    ):
        build_stage(stage(f"{PACKAGE}.work.RefusesToBe"), (PACKAGE,), 5)
    assert "4711" not in str(caught.value)


def test_a_dep_that_is_not_there_is_named(bakery: Path, tmp_path: Path) -> None:
    build(bakery, tmp_path / "raw", value())
    with pytest.raises(StageFailed, match=r"predictions\.parquet is not there; an earlier stage writes it"):
        run_stage("bake", bakery, tmp_path)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (f"{PACKAGE}.work.costs", "does not exist"),
        (f"{PACKAGE}.work._hidden_cost", "does not name a public"),
        (f"{PACKAGE}.work.NUMBER", "is not a function"),
        (f"{PACKAGE}.work.Report", "is not a function"),
        (f"{PACKAGE}.work.system", "is not a function"),
        (f"{PACKAGE}.broken.cost", "cannot be imported"),
        ("sklearn.metrics.accuracy_score", "not in an allowed package"),
        ("os.system", "not in an allowed package"),
    ],
)
def test_an_own_metric_is_a_public_function_of_the_projects_own_package(
    bakery: Path, function: str, reason: str
) -> None:
    own = (OwnMetricSpec("cost", function, "minimize", "prediction"),)
    with (
        own_code(bakery, (PACKAGE,), (PACKAGE,)),
        pytest.raises(StageFailed, match=r"evaluation\.own\.cost: .*" + reason),
    ):
        own_functions(EvaluationSpec("regression", ("cost",), "cost", own), (PACKAGE,))


def test_an_own_class_whose_module_does_not_import_is_one_problem_and_no_defect(bakery: Path) -> None:
    (bakery / PACKAGE / "wrong.py").write_text("def half(:\n")
    with own_code(bakery, (PACKAGE,), (PACKAGE,)), pytest.raises(ConfigError, match="cannot be imported: SyntaxError"):
        build_estimator({"_target_": f"{PACKAGE}.wrong.Model"}, (PACKAGE,), 1)
