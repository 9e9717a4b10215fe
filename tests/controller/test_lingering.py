"""The warm process that outlives a command: found, shared, replaced, and never left behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cd4ml.controller.running import lingering
from cd4ml.controller.running.lingering import ensure_lingering, find, find_or_start, linger_minutes, stop_lingering
from cd4ml.controller.running.warm import warm_process
from cd4ml.errors import UsageError
from cd4ml.gateways.files import write_atomically
from cd4ml.gateways.process import end_process
from cd4ml.gateways.warm import SOCKET_VARIABLE, WarmTask
from tests.conftest import Shell
from tests.controller.controller_world import cd4ml


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A clone's private folder, and no warm process but its own; whatever was started is ended."""
    monkeypatch.delenv(SOCKET_VARIABLE, raising=False)
    monkeypatch.setenv("CD4ML_WARM_MINUTES", "5")
    private = tmp_path / "private"
    private.mkdir()
    started: set[tuple[int, str]] = set()
    write = write_atomically

    def noted(path: Path, data: bytes, mode: int = 0o644) -> None:
        told = json.loads(data)
        started.add((told["pid"], told["address"]))
        write(path, data, mode)

    monkeypatch.setattr(lingering, "write_atomically", noted)
    yield private
    for pid, address in started:
        end_process(pid, address, 5)
        shutil.rmtree(Path(address).parent, ignore_errors=True)


def state(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / "warm.json").read_text("utf-8"))
    return loaded


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(true: Callable[[], bool], seconds: float = 90) -> bool:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.02)
    return true()


def task(address: str, folder: Path, *words: str) -> WarmTask:
    with (folder / "log").open("ab") as sink:
        return WarmTask(address, list(words) or ["none"], cwd=folder, env={}, output=sink.fileno())


def test_it_stays_when_its_command_ends_has_no_terminal_and_no_credentials(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    address = find_or_start(folder, 1, 5)
    pid = state(folder)["pid"]
    assert state(folder)["address"] == address
    assert os.getsid(pid) == pid != os.getsid(0)
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    assert fields[4] == "0"  # no controlling terminal
    assert b"hush" not in Path(f"/proc/{pid}/environ").read_bytes()
    assert Path(address).parent.stat().st_mode & 0o077 == 0
    assert (folder / "warm.json").stat().st_mode & 0o077 == 0
    assert len(address) < 90
    assert find_or_start(folder, 1, 5) == address
    with warm_process(folder, 1) as found:
        assert found == address
    assert is_running(pid)
    assert stop_lingering(folder)
    assert not is_running(pid)
    assert not Path(address).parent.exists()
    assert not (folder / "warm.json").exists()
    assert not stop_lingering(folder)


def test_of_two_that_start_one_at_once_both_get_the_same(folder: Path) -> None:
    code = "import sys; from pathlib import Path; from cd4ml.controller.running.lingering import find_or_start as f; "
    command = [sys.executable, "-c", code + "print(f(Path(sys.argv[1]), 1, 0.5))", str(folder)]
    with ThreadPoolExecutor() as pool:
        told = list(pool.map(lambda _: subprocess.run(command, capture_output=True, check=True).stdout, range(3)))
    assert len(set(told)) == 1
    assert told[0].decode().strip() == state(folder)["address"]
    assert stop_lingering(folder)


def test_one_for_other_threads_or_of_another_version_is_replaced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = find_or_start(folder, 1, 5)
    old = state(folder)["pid"]
    assert find(folder, 2) == ""
    monkeypatch.setattr("cd4ml.__version__", "99")
    assert find(folder, 1) == ""
    second = find_or_start(folder, 1, 5)
    assert second != first
    assert not is_running(old)
    assert not Path(first).parent.exists()


def test_what_it_is_started_for_follows_versions_packages_and_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    key = lingering.warm_key(1)
    assert lingering.warm_key(1) == key
    assert lingering.warm_key(2) != key
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert lingering.warm_key(1) != key
    monkeypatch.undo()
    monkeypatch.setattr(lingering, "_installed", lambda: ["numpy-9.9.dist-info"])
    assert lingering.warm_key(1) != key


def test_a_killed_one_and_a_socket_that_nobody_serves_are_replaced(folder: Path) -> None:
    first = find_or_start(folder, 1, 5)
    os.kill(state(folder)["pid"], signal.SIGKILL)
    assert wait_until(lambda: find(folder, 1) == "")
    assert Path(first).exists()  # stale
    with warm_process(folder, 1) as own:
        assert own not in ("", first)  # for this command alone
    second = find_or_start(folder, 1, 5)
    assert second not in ("", first)
    assert not Path(first).parent.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"address": 1}', '{"address": "/tmp/x/warm", "pid": "a", "key": ""}'])
def test_a_damaged_address_is_no_address(folder: Path, text: str) -> None:
    (folder / "warm.json").write_text(text, "utf-8")
    assert find(folder, 1) == ""
    assert not stop_lingering(folder)


def test_an_address_in_a_folder_that_others_may_enter_is_not_trusted(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "open"
    place.mkdir(mode=0o755)
    told = {"address": str(place / "warm"), "pid": os.getpid(), "key": lingering.warm_key(1)}
    (folder / "warm.json").write_text(json.dumps(told), "utf-8")
    assert find(folder, 1) == ""
    assert not stop_lingering(folder)
    assert place.is_dir()


def test_a_process_id_that_is_another_process_by_now_is_left_alone(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "private-place"
    place.mkdir(mode=0o700)
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    told = {"address": str(place / "warm"), "pid": other.pid, "key": lingering.warm_key(1)}
    (folder / "warm.json").write_text(json.dumps(told), "utf-8")
    try:
        assert not stop_lingering(folder)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_idle_it_ends_by_itself_and_leaves_nothing(folder: Path) -> None:
    address = find_or_start(folder, 1, 0.01)
    pid = state(folder)["pid"]
    assert wait_until(lambda: not is_running(pid))
    assert wait_until(lambda: not Path(address).parent.exists() and not (folder / "warm.json").exists())


def test_when_the_clone_is_gone_it_ends(folder: Path) -> None:
    address = find_or_start(folder, 1, 5)
    pid = state(folder)["pid"]
    running = task(address, folder.parent, "dvc", "daemon")  # whatever runs ends too
    shutil.rmtree(folder)
    assert wait_until(lambda: not is_running(pid))
    assert not Path(address).parent.exists()
    running.kill()


def test_none_lingers_for_no_minutes_or_where_one_serves_already(
    folder: Path, warm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CD4ML_WARM_MINUTES", "0")
    ensure_lingering(folder, 1)
    monkeypatch.setenv("CD4ML_WARM_MINUTES", "5")
    monkeypatch.setenv(SOCKET_VARIABLE, warm)
    ensure_lingering(folder, 1)
    assert not (folder / "warm.json").exists()


def test_minutes_are_a_number_from_0_to_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CD4ML_WARM_MINUTES")
    assert linger_minutes() == 15
    for text in ("soon", "-1", "nan", "1e9"):
        monkeypatch.setenv("CD4ML_WARM_MINUTES", text)
        with pytest.raises(UsageError, match="CD4ML_WARM_MINUTES: must be a number of minutes"):
            linger_minutes()


def test_one_that_cannot_start_gives_no_address(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    assert find_or_start(folder, 1, 5) == ""
    assert not (folder / "warm.json").exists()


def test_a_command_leaves_one_behind_that_the_next_uses_and_a_flag_ends(folder: Path, team: Shell) -> None:
    shell = Shell(team.folder, {"PYTHONPATH": team.environment["PYTHONPATH"], "CD4ML_WARM_MINUTES": "5"})
    private = team.folder / ".git" / "cd4ml"
    cd4ml(shell, "run", "validation=gusts", code=1)
    first = state(private)
    cd4ml(shell, "run", "validation=gusts", "seed=2", code=1)
    assert state(private) == first
    assert cd4ml(shell, "run", "--stop-warm").out == "the warm process has ended\n"
    assert not is_running(first["pid"])
    assert cd4ml(shell, "run", "--stop-warm").out == "no warm process lingers for this clone\n"
    assert not list(Path(team.folder).rglob("warm.json"))
