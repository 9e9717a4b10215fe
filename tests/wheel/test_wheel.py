"""The built wheel alone: installed where no checkout is in reach, it makes a project and runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built once."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    return built


@dataclass(frozen=True)
class Elsewhere:
    """A folder beside no checkout, and an environment that holds the wheel."""

    folder: Path
    environment: Path

    def run(self, *command: str) -> str:
        """What a command prints that must succeed; it sees no variable of this process but the home of the tests."""
        kept = ("HOME", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_NOSYSTEM", "DVC_NO_ANALYTICS", "GX_ANALYTICS_ENABLED")
        env = {name: os.environ[name] for name in kept}
        env["PATH"] = os.pathsep.join([str(self.environment / "bin"), "/usr/local/bin", "/usr/bin", "/bin"])
        done = subprocess.run(command, cwd=self.folder, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def elsewhere(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Elsewhere:
    """An environment of its own that holds the wheel and sees the libraries of this one, by a ``.pth`` file.

    Python does not read the ``.pth`` files of a folder that a ``.pth`` file adds, so an editable install of the
    checkout among those libraries is not seen.
    """
    folder = tmp_path_factory.mktemp("elsewhere")
    environment = folder / "venv"
    venv.create(environment, with_pip=False)
    site = environment / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n", "utf-8")
    pip = [sys.executable, "-m", "pip", "--python", str(environment / "bin/python"), "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)], check=True)
    (folder / "work").mkdir()
    return Elsewhere(folder / "work", environment)


def test_the_wheel_holds_all_of_the_package_the_scaffold_and_the_templates_and_no_tests(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    package = {path for path in (ROOT / "cd4ml").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {path.relative_to(ROOT).as_posix() for path in package} <= held
    for folder, ending in (("conf", "yaml"), ("templates", "j2")):
        shipped = {
            f"cd4ml/_project/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / folder).rglob(f"*.{ending}")
        }
        assert shipped
        assert shipped <= held
    assert {"cd4ml/py.typed", "cd4ml/index/schemas/run.schema.json"} <= held
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in held)
    assert {name.split("/")[0].partition("-")[0] for name in held} == {"cd4ml"}
    assert not [name for name in held if "/tests/" in name or name.endswith(".pyc")]


def test_what_is_imported_is_the_wheel_and_no_path_leads_to_the_checkout(elsewhere: Elsewhere) -> None:
    asked = "import json, sys, cd4ml; print(json.dumps([cd4ml.__file__, sys.path]))"
    file, path = json.loads(elsewhere.run("python", "-c", asked))
    assert Path(file).is_relative_to(elsewhere.environment)
    assert str(ROOT) not in path


def test_the_wheel_alone_makes_a_project_of_a_table_reconciles_it_and_tells_how_it_stands(elsewhere: Elsewhere) -> None:
    numbers = np.random.default_rng(7)
    size = numbers.normal(50, 10, 80)
    table = pd.DataFrame({"size": size, "price": size * 3 + numbers.normal(0, 5, 80)})
    table.to_csv(elsewhere.folder / "houses.csv", index=False)
    elsewhere.run("cd4ml", "init", "houses", "--data", "houses.csv", "--target", "price", "--storage", "../storage")
    project = Elsewhere(elsewhere.folder / "houses", elsewhere.environment)
    project.run("git", "add", "--all")
    project.run("git", "commit", "--quiet", "--message", "Predict what a house costs")
    project.run("cd4ml", "reconcile")
    (main,) = json.loads(project.run("cd4ml", "status", "--json"))["experiments"]
    assert (main["branch"], main["sync"], main["health"]) == ("main", "Synced", "Healthy")
    (found,) = json.loads(project.run("cd4ml", "search", "--json"))["runs"]
    assert found["metrics"]["test"]["r2"] > 0.8


def test_the_wheel_alone_vendors_the_example(elsewhere: Elsewhere) -> None:
    """The flights themselves come with a package of their own, which is not part of the wheel's needs."""
    elsewhere.run("cd4ml", "init", "flights")
    made = elsewhere.folder / "flights"
    assert (made / "conf/config.yaml").read_bytes() == (ROOT / "conf/config.yaml").read_bytes()
    assert "cd4ml stage ingest" in (made / "dvc.yaml").read_text("utf-8")
