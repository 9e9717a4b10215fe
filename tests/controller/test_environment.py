"""A run executes in the environment that its lock names, or is refused in one line."""

from __future__ import annotations

import importlib.metadata
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from cd4ml.controller.running import environment
from cd4ml.gateways.warm import SOCKET_VARIABLE
from tests.conftest import Shell
from tests.controller.controller_world import Done, cd4ml, runs

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
CONSTANT = "params.model.name = 'constant'"


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


def extend(team: Shell) -> None:
    """Let the work tree ask for a model that needs a package which is not installed, and lock it."""
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


def allow(team: Shell) -> None:
    """Let the work tree allow cd4ml to make environments."""
    root = team.folder / "conf/config.yaml"
    text = root.read_text("utf-8")
    root.write_text(text.replace("  lock: requirements.lock\n", "  lock: requirements.lock\n  venv: true\n"), "utf-8")


def push(team: Shell) -> None:
    team.run("git", "add", "--all")
    team.run("git", "commit", "--quiet", "--message", "A model with a dependency")
    team.run("git", "push", "--quiet", "origin", "main")


def finding(team: Shell, wheels: Path) -> Shell:
    """The same where pip knows that folder of wheels, and nothing else."""
    return Shell(team.folder, {**team.environment, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)})


@dataclass(frozen=True)
class Ran:
    """A project whose ``main`` was run in an environment of its lock. Copied for whoever changes it.

    ``failed`` is how the attempt ended before the locked version could be had.
    """

    team: Shell
    failed: Done


@pytest.fixture(scope="module")
def ran(template_project: Path, tmp_path_factory: pytest.TempPathFactory, few_flights: Path, warm: str) -> Ran:
    folder = tmp_path_factory.mktemp("extended")
    shutil.copytree(template_project, folder / "team", symlinks=True)
    team = Shell(folder / "team/project", {"PYTHONPATH": str(few_flights), SOCKET_VARIABLE: warm})
    extend(team)
    allow(team)
    push(team)
    team = finding(team, wheelhouse(folder / "wheels", "1.0", 7))
    failed = cd4ml(team, "reconcile", "main", code=1)
    assert runs(team, CONSTANT) == []
    wheelhouse(folder / "wheels", "2.0", 9)
    cd4ml(team, "reconcile", "main")
    return Ran(team, failed)


@pytest.fixture
def again(ran: Ran, tmp_path: Path) -> Shell:
    """A copy of it, without the environment that was made; the wheels are to be put into ``wheels`` beside it."""
    shutil.copytree(ran.team.folder.parent, tmp_path / "team", symlinks=True)
    shutil.rmtree(tmp_path / "team/project/.git/cd4ml/environments")
    return finding(ran.team.at(tmp_path / "team/project"), tmp_path / "wheels")


def test_of_a_package_that_is_there_twice_the_one_that_is_imported_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in an environment on top of another, or where ``PYTHONPATH`` leads to one."""
    info = tmp_path / "scikit_learn-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: scikit-learn\nVersion: 0.1\n", "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    environment.installed.cache_clear()
    try:
        assert environment.installed()["scikit-learn"] == "0.1" == importlib.metadata.version("scikit-learn")
    finally:
        environment.installed.cache_clear()


def test_a_lock_that_is_not_installed_is_refused_in_one_line_where_main_says_so(team: Shell) -> None:
    extend(team)
    push(team)
    done = cd4ml(team, "reconcile", "main", code=1)
    (line,) = [line for line in done.lines if "requirements.lock" in line]
    assert "cd4ml-extra: lock says 2.0, it is not installed" in line
    assert "environment.venv" in line


def test_where_main_allows_it_the_run_executes_in_an_environment_made_from_its_lock(ran: Ran) -> None:
    why = "requirements.lock: its environment cannot be made: cd4ml-extra==2.0 cannot be had: there are 1.0"
    assert any(why in line for line in ran.failed.lines), ran.failed.lines
    (run,) = runs(ran.team, CONSTANT)
    assert run["outcome"] == "succeeded"
    cached = (path.read_bytes() for path in (ran.team.folder / ".dvc/cache").rglob("*") if path.is_file())
    assert any(b"mine.models" in data and b'"content":"9.0"' in data for data in cached)


def test_another_version_in_the_lock_is_run_anew_and_the_environment_that_was_made_serves_again(
    again: Shell, tmp_path: Path
) -> None:
    lock = again.folder / "requirements.lock"
    lock.write_text(lock.read_text("utf-8").replace("cd4ml-extra==2.0", "cd4ml-extra==3.0"), "utf-8")
    push(again)
    wheelhouse(tmp_path / "wheels", "3.0", 500)
    cd4ml(again, "reconcile", "main", "--refresh-env")
    rmse = {run["metrics"]["test"]["rmse"] for run in runs(again, CONSTANT)}
    assert len(rmse) == 2, "what the other version made must not answer for this one"
    cd4ml(again, "new", "again", "seed=5", "--push")
    shutil.rmtree(tmp_path / "wheels")
    cd4ml(again, "reconcile", "exp/again")


def test_a_run_again_names_the_packages_that_differ_and_rebuilds_its_environment_when_asked(
    again: Shell, tmp_path: Path
) -> None:
    wheelhouse(tmp_path / "wheels", "2.0", 9)
    (run,) = runs(again, CONSTANT)
    without = cd4ml(again, "reproduce", run["id"], code=1)
    assert "environment: cd4ml-extra: lock says 2.0, it is not installed" in without.out
    assert "--rebuild-env" in without.out
    rebuilt = cd4ml(again, "reproduce", run["id"], "--rebuild-env", "--json")
    (told,) = rebuilt.json["reproductions"]
    assert told["equal"]
    assert told["model_digest"] == run["model_digest"]
    private = again.folder / ".git/cd4ml"
    assert not list((private / "reproduce").iterdir())
    assert not (private / "environments").exists()
