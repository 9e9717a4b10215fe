"""``cd4ml stage``: its exit codes, and what it leaves for the run that started it; and the environment's check."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cd4ml.controller.desired.specs import Asked
from cd4ml.controller.running import stage
from cd4ml.controller.running.environment import check_environment, installed
from cd4ml.controller.running.stage import EVENTS, FAILURE, RAW_FOLDER, RUN_FOLDER, stage_main
from cd4ml.controller.starting.init import frozen_environment
from cd4ml.errors import Cd4mlError, ConfigError, Problem, StageFailed, UsageError
from cd4ml.spec.environment import lock_entries
from cd4ml.spec.fingerprint import Components
from cd4ml.spec.parse import parse
from cd4ml.stages import runner
from tests.conftest import Shell
from tests.controller.controller_world import cd4ml
from tests.stages.stage_world import RESOLVED


@pytest.fixture
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv(RUN_FOLDER, str(tmp_path))
    monkeypatch.setenv(RAW_FOLDER, str(tmp_path))
    return tmp_path


def told(folder: Path) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """The events and the failure that a stage left."""
    events = [json.loads(line) for line in (folder / EVENTS).read_text("utf-8").splitlines()]
    failure = folder / FAILURE
    return [(event["stage"], event["event"]) for event in events], json.loads(failure.read_text("utf-8"))


def test_a_stage_without_params_fails_as_wrong_input_and_says_so(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stage_main("split") == 2
    events, failure = told(run_folder)
    assert events == [("split", "started"), ("split", "failed")]
    assert (failure["stage"], failure["kind"]) == ("split", "deterministic")
    assert "params.yaml" in failure["message"]
    assert capsys.readouterr().err.startswith("cd4ml: params.yaml")


def raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Stand in for a stage that ends so: what user code and a full disk do cannot be had on order."""

    def run_stage(*_: object) -> None:
        raise error

    monkeypatch.setattr(runner, "run_stage", run_stage)


@pytest.mark.parametrize(
    ("error", "code", "kind", "message"),
    [
        (StageFailed("train", "did not converge"), 1, "deterministic", "did not converge"),
        (StageFailed("train", "ran out of memory", "transient"), 1, "transient", "ran out of memory"),
        (ConfigError([Problem("a", "b", "one"), Problem("c", "", "two")]), 2, "deterministic", "a: b: one c: two"),
        (Cd4mlError("x" * 9000), 1, "deterministic", "x" * 500),
        (SystemExit(0), 1, "deterministic", "code of the experiment asked to exit"),
        (SystemExit("secret cell"), 1, "deterministic", "code of the experiment asked to exit"),
    ],
)
def test_a_failure_is_left_in_one_line_with_its_kind(
    run_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: int,
    kind: str,
    message: str,
) -> None:
    raising(monkeypatch, error)
    assert stage_main("train") == code
    events, failure = told(run_folder)
    assert events[-1] == ("train", "failed")
    assert failure == {"stage": "train", "kind": kind, "message": message}


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (MemoryError(), "transient", "ran out of memory"),
        (OSError(28, "No space left on device", "/secret"), "transient", "OSError: No space left on device"),
        (ValueError("secret cell"), "deterministic", "ValueError in run_stage"),
    ],
)
def test_what_no_stage_raises_on_purpose_is_told_without_its_data_and_raised_on(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: str, message: str
) -> None:
    raising(monkeypatch, error)
    with pytest.raises(type(error)):
        stage_main("train")
    _, failure = told(run_folder)
    assert failure["kind"] == kind
    assert failure["message"].startswith(message)
    assert "secret" not in failure["message"]


def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    error = StageFailed("train", "ValueError in Ridge")
    error.__cause__ = ValueError("secret cell")
    raising(monkeypatch, error)


def test_by_hand_the_message_of_a_library_is_shown_to_who_asks_for_it(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(RUN_FOLDER)
    failing(monkeypatch)
    assert stage_main("train", debug=True) == 1
    assert "ValueError: secret cell\n" in capsys.readouterr().err
    assert [path.name for path in run_folder.iterdir()] == ["work"]


def test_in_a_run_the_message_of_a_library_is_not_shown_whatever_is_asked(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch)
    assert stage_main("train", debug=True) == 1
    assert "secret" not in capsys.readouterr().err
    assert [path for path in run_folder.iterdir() if path.is_file() and "secret" in path.read_text("utf-8")] == []


def test_outside_of_a_run_nothing_is_left(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(RUN_FOLDER)
    assert stage_main("split") == 2
    assert [path.name for path in run_folder.iterdir()] == ["work"]


def test_a_stage_by_hand_uses_the_project_s_own_raw_bytes(team_less: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(RAW_FOLDER, raising=False)
    monkeypatch.chdir(team_less)
    assert stage._raw_folder("split") == team_less / ".git" / "cd4ml" / "raw"


def test_by_hand_a_pin_that_is_missing_is_named_and_only_the_stage_that_reads_raw_bytes_fetches_them(
    team: Shell,
) -> None:
    cd4ml(team, "render")
    raw = team.folder / ".git/cd4ml/raw"
    shutil.rmtree(raw)
    assert cd4ml(team, "stage", "split", code=1).lines != []
    assert not raw.exists()
    pin = team.folder / "data/flights.lock.json"
    pin.unlink()
    (line,) = cd4ml(team, "stage", "ingest", code=2).lines
    assert line.startswith("cd4ml: data/flights.lock.json: is not there")


@pytest.fixture
def team_less(tmp_path: Path) -> Path:
    from cd4ml.gateways import git

    git.init(tmp_path / "project")
    return tmp_path / "project"


# ── the environment ──


def asked(lock: tuple[str, ...]) -> Asked:
    spec = parse({**RESOLVED, "environment": {"lock": "requirements.lock"}}, {})
    return Asked(spec, {}, {}, lock, Components("1", "2", "3", "4", "5"))


def test_what_is_installed_is_what_was_frozen() -> None:
    check_environment(asked(lock_entries(frozen_environment(), "requirements.lock")))
    check_environment(asked(()))


def test_another_environment_is_refused_in_one_line_that_names_the_lock_and_some_of_the_difference() -> None:
    names = ("numpy", "pandas", "scipy", "jinja2", "dvc")
    with pytest.raises(
        UsageError, match=r"^requirements\.lock: is not what is installed: .*numpy.* \(\+2 more\): install"
    ):
        check_environment(asked(tuple(f"{name}==0.0.1" for name in sorted(names, key=lambda name: name != "numpy"))))
    with pytest.raises(UsageError, match="no-such-package"):
        check_environment(asked(("no-such-package==1.0",)))
    assert installed()["numpy"] != "0.0.1"
