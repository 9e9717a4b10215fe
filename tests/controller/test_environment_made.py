"""The environment that a run gets: who may ask for one, what goes into it, and how long it stays."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from cd4ml.controller.desired.specs import Asked, asked_of, spec_of
from cd4ml.controller.project import Project, open_project
from cd4ml.controller.running import environment
from cd4ml.controller.running.environment import drop_old_environments, executed_with, python_for
from cd4ml.errors import UsageError
from cd4ml.spec.experiment import Spec
from tests.conftest import Shell
from tests.controller.controller_world import Content, commit, git

LOCK = "requirements.lock"


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one place where pip finds anything."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def wheel(folder: Path, name: str, version: str, *needs: str) -> None:
    module, info = name.replace("-", "_"), f"{name.replace('-', '_')}-{version}.dist-info"
    needed = "".join(f"Requires-Dist: {one}\n" for one in needs)
    files = {
        f"{module}.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needed}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(folder / f"{module}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
        archive.writestr(f"{info}/RECORD", "".join(f"{path},,\n" for path in (*files, f"{info}/RECORD")))


def source(folder: Path, name: str, version: str, canary: Path) -> None:
    """A distribution that is to be built, by code of its own that needs nothing else."""
    top = f"{name.replace('-', '_')}-{version}"
    files = {
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "own"\nbackend-path = ["."]\n',
        "own.py": f"open({str(canary)!r}, 'w').close()\n",
    }
    with tarfile.open(folder / f"{top}.tar.gz", "w:gz") as archive:
        for path, text in files.items():
            entry = tarfile.TarInfo(f"{top}/{path}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))


def locking(team: Shell, *lines: str, files: Mapping[str, Content] | None = None) -> tuple[Project, Asked, str, Spec]:
    """What a commit on ``main`` with these lines in its lock asks for, and ``main`` as one that allows environments."""
    lock = git(team, "show", f"main:{LOCK}") + "\n" + "".join(f"{line}\n" for line in lines)
    made = commit(team, "main", {LOCK: lock, **(files or {})})
    project = open_project(team.folder)
    allowing = commit(team, "main", {"conf/config.yaml": allowed(team)})
    return project, asked_of(project, made), git(team, "rev-parse", f"{made}^{{tree}}"), spec_of(project, allowing)[0]


def allowed(team: Shell) -> str:
    config = git(team, "show", "main:conf/config.yaml")
    changed = config.replace(f"  lock: {LOCK}\n", f"  lock: {LOCK}\n  venv: true\n")
    assert changed != config
    return changed + "\n"


def environments(project: Project) -> list[Path]:
    return [*(project.private / "environments").glob("*")]


def test_no_branch_allows_itself_an_environment(team: Shell) -> None:
    project, asked, tree, _ = locking(team, "cd4ml-extra==2.0", files={"conf/config.yaml": allowed(team)})
    assert asked.spec.venv
    main, _ = spec_of(project, "main")
    with pytest.raises(UsageError, match=r"cd4ml-extra: lock says 2\.0, it is not installed: .*environment\.venv"):
        python_for(project, asked, tree, main)
    assert environments(project) == []


def test_nothing_is_built_whose_code_would_run_and_nothing_half_made_stays(
    team: Shell, wheels: Path, tmp_path: Path
) -> None:
    canary = tmp_path / "canary"
    source(wheels, "cd4ml-extra", "2.0", canary)
    project, asked, tree, main = locking(team, "cd4ml-extra==2.0")
    with pytest.raises(UsageError, match=rf"^{LOCK}: its environment cannot be made: "):
        python_for(project, asked, tree, main)
    assert not canary.exists()
    assert environments(project) == []


def test_what_the_lock_does_not_name_is_not_installed_though_a_package_asks_for_it(team: Shell, wheels: Path) -> None:
    wheel(wheels, "cd4ml-extra", "2.0", "cd4ml-unasked")
    wheel(wheels, "cd4ml-unasked", "6.6")
    project, asked, tree, main = locking(team, "cd4ml-extra==2.0")
    python = Path(python_for(project, asked, tree, main))
    found = {path.name for path in python.parents[1].glob("lib/python*/site-packages/cd4ml*")}
    assert found == {"cd4ml_extra.py", "cd4ml_extra-2.0.dist-info"}


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The environments that are made, without what would be in them."""
    found: list[Path] = []

    def make(folder: Path, *_: object) -> None:
        (folder / "bin").mkdir(parents=True)
        (folder / "bin/cd4ml").touch()
        found.append(folder)

    monkeypatch.setattr(environment, "_make", make)
    return found


def test_an_environment_serves_again_until_anything_that_it_shares_is_another(
    team: Shell, made: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    project, asked, tree, main = locking(team, "cd4ml-extra==2.0")
    pythons = [python_for(project, asked, tree, main) for _ in range(2)]
    assert (len(made), len(set(pythons))) == (1, 1)
    shared = dict(environment.installed())
    monkeypatch.setattr(environment, "installed", lambda: {**shared, "nobody-locked-it": "1.0"})
    pythons.append(python_for(project, asked, tree, main))
    assert (len(made), len(set(pythons))) == (2, 2)


def test_of_many_environments_those_stay_that_were_used_last_and_not_those_made_last(
    team: Shell, made: list[Path]
) -> None:
    project, asked, tree, main = locking(team, "cd4ml-extra==2.0")
    python_for(project, asked, tree, main)
    (oldest,) = made
    os.utime(oldest, (1, 1))
    later = [oldest.with_name(f"later-{number}") for number in range(6)]
    for number, folder in enumerate(later):
        folder.mkdir()
        os.utime(folder, (10 + number,) * 2)
    python_for(project, asked, tree, main)
    drop_old_environments(project)
    assert set(environments(project)) == {oldest, *later[2:]}


def test_a_record_tells_the_versions_that_the_run_had_and_not_those_of_who_started_it() -> None:
    lock = ("numpy==0.0.1 ; python_version >= '3'", "pandas==0.0.2", "nobody-tells-it==3")
    elsewhere, here = (executed_with(lock, here=one)["packages"] for one in (False, True))
    assert (elsewhere["numpy"], elsewhere["pandas"]) == ("0.0.1", "0.0.2")
    assert here["numpy"] == environment.installed()["numpy"] != "0.0.1"
    assert elsewhere.keys() == here.keys()
    assert elsewhere["scipy"] == here["scipy"]
