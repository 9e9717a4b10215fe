"""A stage in the child that its run gives it: what it may take, whom it outlives, and what its end is called."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cd4ml.controller.running import stage
from cd4ml.errors import StageFailed
from cd4ml.stages import runner

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has it")


@pytest.fixture
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that a run gives its stages."""
    monkeypatch.setenv(stage.RUN_FOLDER, str(tmp_path))
    monkeypatch.setenv(stage.RAW_FOLDER, str(tmp_path))
    return tmp_path


def doing(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Let a stage do this and nothing else."""

    def run_stage(*_: object) -> dict[str, float]:
        act()
        return {}

    monkeypatch.setattr(runner, "run_stage", run_stage)


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail() -> None:
        raise error

    doing(monkeypatch, fail)


def failure(folder: Path) -> dict[str, str]:
    told: dict[str, str] = json.loads((folder / stage.FAILURE).read_text("utf-8"))
    return told


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


ENDLESS = """
import os, pathlib, time
from cd4ml.controller.running import stage
from cd4ml.stages import runner

def run_stage(*_):
    place = pathlib.Path(os.environ["CD4ML_RUN_FOLDER"])
    (place / "new").write_text(str(os.getpid()))
    (place / "new").rename(place / "pid")
    time.sleep(120)

runner.run_stage = run_stage
stage.guarded_stage("train")
"""


@LINUX
def test_a_stage_ends_with_the_process_that_waits_for_it_however_that_ends(run_folder: Path) -> None:
    waiting = subprocess.Popen([sys.executable, "-c", ENDLESS], cwd=run_folder)
    try:
        deadline = time.monotonic() + 60
        while not (run_folder / "pid").exists() and waiting.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        child = int((run_folder / "pid").read_text("ascii"))
        assert child != waiting.pid
        assert is_running(child)
    finally:
        waiting.send_signal(signal.SIGKILL)
        waiting.wait()
    deadline = time.monotonic() + 10
    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    left = is_running(child)
    if left:
        os.kill(child, signal.SIGKILL)
    assert not left


@LINUX
def test_a_stage_is_what_the_kernel_ends_first_and_its_guard_is_not(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score = Path("/proc/self/oom_score_adj")
    before = score.read_text("ascii")
    doing(monkeypatch, lambda: (run_folder / "score").write_text(score.read_text("ascii"), "ascii"))
    assert stage.guarded_stage("train") == 0
    assert int((run_folder / "score").read_text("ascii")) >= 500
    assert score.read_text("ascii") == before


def test_a_stage_may_take_the_memory_that_is_said_and_its_guard_is_not_limited(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(stage.MEMORY_GIB, "3.5")
    before = resource.getrlimit(resource.RLIMIT_DATA)
    doing(monkeypatch, lambda: (run_folder / "most").write_text(str(resource.getrlimit(resource.RLIMIT_DATA)), "ascii"))
    assert stage.guarded_stage("train") == 0
    most = int(3.5 * (1 << 30))
    assert (run_folder / "most").read_text("ascii") == str((most, most))
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_a_lower_limit_of_the_machine_stays_what_it_is() -> None:
    lower = 1 << 30
    code = "import resource; from cd4ml.controller.running.stage import limit_memory; limit_memory(); "
    done = subprocess.run(
        [sys.executable, "-c", code + "print(*resource.getrlimit(resource.RLIMIT_DATA))"],
        env={**os.environ, stage.MEMORY_GIB: "2"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (lower, lower)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.split()) == (0, [str(lower)] * 2), done.stderr


def caused(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        OSError(12, "Nicht genügend Hauptspeicher verfügbar"),  # ENOMEM, in whatever language
        RuntimeError("std::bad_alloc"),
        caused(RuntimeError("failed"), caused(ValueError("as well"), MemoryError())),
        caused(StageFailed("train", "RuntimeError in Odd"), RuntimeError("Unable to allocate 9. GiB for an array")),
    ],
    ids=["the system says so", "a library says so", "the cause of a cause", "a failure that was told otherwise"],
)
def test_whatever_it_is_called_and_however_deep_it_lies_a_want_of_memory_may_pass(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    failing(monkeypatch, error)
    assert stage.guarded_stage("train") != 0
    assert failure(run_folder) == {"stage": "train", "message": "ran out of memory", "kind": "transient"}


def test_an_error_that_only_names_memory_is_one_for_good(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, ValueError("memory"))
    assert stage.guarded_stage("train") != 0
    assert failure(run_folder)["kind"] == "deterministic"


def test_the_message_of_a_library_commands_no_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(stage.RUN_FOLDER, raising=False)
    monkeypatch.setenv(stage.RAW_FOLDER, str(tmp_path))
    failing(monkeypatch, caused(StageFailed("train", "ValueError in Odd"), ValueError("\x1b]0;owned\x07\x1b[2Jcell")))
    assert stage.stage_main("train", debug=True) == 1
    told = capsys.readouterr().err
    assert "cell" in told
    assert "\x1b" not in told
    assert "\x07" not in told
