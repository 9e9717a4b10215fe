"""A run executes in the environment that its lock names, or is refused in one line."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest

from tests.conftest import Shell
from tests.controller.controller_world import cd4ml, runs

MODEL = """
import cd4ml_extra
import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin


class Constant(RegressorMixin, BaseEstimator):
    def fit(self, features, target):
        self.value_ = float(cd4ml_extra.VALUE)
        return self

    def predict(self, features):
        return np.full(len(features), self.value_)
"""
BASELINE = """
# @package _global_
defaults:
  - override /model: constant
name: baseline
hypothesis: ""
code: [mine]
allowed_packages: [sklearn, xgboost, mine]
"""


def wheelhouse(folder: Path, version: str, value: int) -> Path:
    """A folder with a wheel of ``cd4ml-extra``, a package that nothing else knows."""
    folder.mkdir(exist_ok=True)
    info = f"cd4ml_extra-{version}.dist-info"
    files = {
        "cd4ml_extra.py": f"VALUE = {value}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: cd4ml-extra\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(folder / f"cd4ml_extra-{version}-py3-none-any.whl", "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
        wheel.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD")))
    return folder


@pytest.fixture
def extended(team: Shell) -> Shell:
    """``main`` asks for a model that needs a package which is not installed, and locks it."""
    for path, text in {
        "mine/__init__.py": "",
        "mine/models.py": MODEL,
        "conf/model/constant.yaml": "name: constant\nestimator: {_target_: mine.models.Constant}\n",
        "conf/experiment/baseline.yaml": BASELINE.lstrip(),
    }.items():
        (team.folder / path).parent.mkdir(exist_ok=True)
        (team.folder / path).write_text(text, "utf-8")
    lock = team.folder / "requirements.lock"
    lock.write_text(lock.read_text("utf-8") + "cd4ml-extra==2.0\n", "utf-8")
    return team


def push(team: Shell) -> None:
    team.run("git", "add", "--all")
    team.run("git", "commit", "--quiet", "--message", "A model with a dependency")
    team.run("git", "push", "--quiet", "origin", "main")


def test_a_lock_that_is_not_installed_is_refused_in_one_line_where_main_says_so(extended: Shell) -> None:
    push(extended)
    done = cd4ml(extended, "reconcile", "main", code=1)
    (line,) = [line for line in done.lines if "requirements.lock" in line]
    assert "cd4ml-extra: lock says 2.0, it is not installed" in line
    assert "environment.venv" in line


def test_where_main_allows_it_the_run_executes_in_an_environment_made_from_its_lock(
    extended: Shell, tmp_path: Path
) -> None:
    root = extended.folder / "conf/config.yaml"
    text = root.read_text("utf-8")
    root.write_text(text.replace("  lock: requirements.lock\n", "  lock: requirements.lock\n  venv: true\n"), "utf-8")
    push(extended)
    pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheelhouse(tmp_path / "wheels", "1.0", 7))}
    extended = Shell(extended.folder, {**extended.environment, **pip})
    failed = cd4ml(extended, "reconcile", "main", code=1)
    assert any("its environment cannot be made" in line for line in failed.lines)
    assert runs(extended, "params.model.name = 'constant'") == []
    wheelhouse(tmp_path / "wheels", "2.0", 9)
    cd4ml(extended, "reconcile", "main")
    (run,) = runs(extended, "params.model.name = 'constant'")
    assert run["outcome"] == "succeeded"
    cached = (path.read_bytes() for path in (extended.folder / ".dvc/cache").rglob("*") if path.is_file())
    assert any(b"mine.models" in data and b'"content":"9.0"' in data for data in cached)
    lock = extended.folder / "requirements.lock"
    lock.write_text(lock.read_text("utf-8").replace("cd4ml-extra==2.0", "cd4ml-extra==3.0"), "utf-8")
    push(extended)
    wheelhouse(tmp_path / "wheels", "3.0", 500)
    cd4ml(extended, "reconcile", "main", "--refresh-env")
    rmse = {run["metrics"]["test"]["rmse"] for run in runs(extended, "params.model.name = 'constant'")}
    assert len(rmse) == 2, "what the other version made must not answer for this one"
    cd4ml(extended, "new", "again", "seed=5", "--push")
    shutil.rmtree(tmp_path / "wheels")
    cd4ml(extended, "reconcile", "exp/again")  # the environment that was made serves


def test_a_run_again_names_the_packages_that_differ_and_rebuilds_its_environment_when_asked(
    extended: Shell, tmp_path: Path
) -> None:
    root = extended.folder / "conf/config.yaml"
    text = root.read_text("utf-8")
    root.write_text(text.replace("  lock: requirements.lock\n", "  lock: requirements.lock\n  venv: true\n"), "utf-8")
    push(extended)
    pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheelhouse(tmp_path / "wheels", "2.0", 9))}
    extended = Shell(extended.folder, {**extended.environment, **pip})
    cd4ml(extended, "reconcile", "main")
    (run,) = runs(extended, "params.model.name = 'constant'")
    private = extended.folder / ".git/cd4ml"
    shutil.rmtree(private / "environments")
    without = cd4ml(extended, "reproduce", run["id"], code=1)
    assert "environment: cd4ml-extra: lock says 2.0, it is not installed" in without.out
    assert "--rebuild-env" in without.out
    rebuilt = cd4ml(extended, "reproduce", run["id"], "--rebuild-env", "--json")
    (told,) = rebuilt.json["reproductions"]
    assert told["equal"]
    assert told["model_digest"] == run["model_digest"]
    assert not list((private / "reproduce").iterdir())
    assert not (private / "environments").exists()
