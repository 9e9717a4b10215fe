"""The guard of a command: it ends as the command ended, and nothing that the command started outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

SECONDS = 20.0
SLEEPS = "import os, pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(600)"
FORKS = """
import os, pathlib, subprocess, sys, time
if os.fork() == 0:
    os.setsid()  # nobody's child any more, in a session of its own
    if os.fork() == 0:
        pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))
        time.sleep(600)
    os._exit(0)
while not pathlib.Path(sys.argv[1]).exists() or not pathlib.Path(sys.argv[1]).read_text():
    time.sleep(0.01)
"""

STARTS = """
import os, subprocess, sys
subprocess.run([sys.executable, "-P", "-m", "cd4ml.gateways.guard", str(os.getpid()), *sys.argv[1:]])
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives orphans to whom they descend from")


def guarded(*command: str, parent: int | None = None) -> subprocess.Popen[bytes]:
    whole = [sys.executable, "-P", "-m", "cd4ml.gateways.guard", str(parent or os.getpid()), *command]
    return subprocess.Popen(whole)


def until(is_true: Callable[[], bool]) -> bool:
    end = time.monotonic() + SECONDS
    while not is_true() and time.monotonic() < end:
        time.sleep(0.02)
    return is_true()


def pid_in(path: Path) -> int:
    assert until(lambda: path.is_file() and path.read_text("utf-8") != "")
    return int(path.read_text("utf-8"))


def lives(pid: int) -> bool:
    """Does it run? What has ended and waits to be reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except OSError:
        return False
    return state not in (b"Z", b"X")


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -15 $$", 143)])
def test_it_ends_as_its_command_ended(script: str, code: int) -> None:
    assert guarded("sh", "-c", script).wait(SECONDS) == code


def test_a_command_that_is_not_there_ends_with_127() -> None:
    assert guarded("/nowhere/to/be/found").wait(SECONDS) == 127


def test_what_a_command_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    assert guarded(sys.executable, "-c", FORKS, str(path)).wait(SECONDS) == 0
    assert not lives(pid_in(path))


def test_whoever_ends_it_ends_the_command_too(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    process = guarded(sys.executable, "-c", SLEEPS, str(path))
    command = pid_in(path)
    process.send_signal(signal.SIGTERM)
    assert process.wait(SECONDS) == 137
    assert until(lambda: not lives(command))


def test_when_whoever_asked_for_it_is_killed_it_ends_with_all_that_it_started(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    asked = [sys.executable, "-c", STARTS, sys.executable, "-c", SLEEPS, str(path)]
    parent = subprocess.Popen(asked)
    command = pid_in(path)
    parent.kill()
    parent.wait(SECONDS)
    assert until(lambda: not lives(command))


def test_it_runs_nothing_for_somebody_who_is_no_more(tmp_path: Path) -> None:
    """Its parent may have died before it could ask to be told of that."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait(SECONDS)
    path = tmp_path / "ran"
    assert guarded("touch", str(path), parent=gone.pid).wait(SECONDS) != 0
    assert not path.exists()
