"""Until when a warm process that lingers stays, what it leaves behind, and which one is believed to be ours."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cd4ml.controller.running import lingering
from cd4ml.controller.running.lingering import STATE, Lease, find, stop_lingering, warm_key


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A clone's private folder."""
    made = tmp_path / "private"
    made.mkdir()
    return made


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A socket that answers, in a folder of its owner alone."""
    place = tmp_path / "place"
    place.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        monkeypatch.chdir(place)  # a whole path may be too long for a socket
        line.bind("warm")
        line.listen()
        yield place / "warm"


def written_down(folder: Path, address: Path, key: str = "k") -> None:
    told = {"address": str(address), "pid": os.getpid(), "key": key}
    (folder / STATE).write_text(json.dumps(told), "utf-8")


def test_one_whose_time_is_up_stays_until_its_task_has_ended(folder: Path, address: Path) -> None:
    written_down(folder, address)
    lease = Lease(str(address), folder, 0.0)
    time.sleep(0.01)
    assert not lease.is_over(busy=True)
    time.sleep(0.01)
    assert lease.is_over(busy=False)


def test_its_time_begins_anew_with_every_task(folder: Path, address: Path) -> None:
    written_down(folder, address)
    lease = Lease(str(address), folder, 0.5)
    lease._used -= 10
    assert not lease.is_over(busy=True)
    assert not lease.is_over(busy=False)
    lease._used -= 10
    assert lease.is_over(busy=False)


def test_where_another_serves_it_ends_once_idle_and_not_before_it_can_have_been_written_down(
    folder: Path, address: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written_down(folder, address.with_name("other"))
    lease = Lease(str(address), folder, 3600.0)
    assert not lease.is_over(busy=False), "whoever started it is about to write it down"
    monkeypatch.setattr(lingering, "_SECONDS_TO_START", 0.0)
    assert not lease.is_over(busy=True)
    assert lease.is_over(busy=False)
    written_down(folder, address)
    assert not lease.is_over(busy=False)


def test_it_takes_along_what_was_written_of_it_and_nothing_that_was_written_of_another(
    folder: Path, address: Path
) -> None:
    other = address.with_name("other")
    written_down(folder, other)
    Lease(str(address), folder, 1.0).clear()
    assert json.loads((folder / STATE).read_text("utf-8"))["address"] == str(other)
    assert not address.parent.exists()
    written_down(folder, address)
    Lease(str(address), folder, 1.0).clear()
    assert not (folder / STATE).exists()


def test_a_socket_in_a_folder_of_another_user_is_not_trusted_however_it_is_locked(
    folder: Path, address: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written_down(folder, address, warm_key(1))
    monkeypatch.setattr(lingering, "_answers", lambda _: True)  # its path may be too long to be connected to
    assert find(folder, 1) == str(address)
    monkeypatch.setattr(os, "getuid", lambda: address.parent.stat().st_uid + 1)
    assert find(folder, 1) == ""
    assert not stop_lingering(folder)
    assert address.exists()


def test_a_socket_in_a_folder_that_a_link_leads_to_is_not_trusted(
    folder: Path, address: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lingering, "_answers", lambda _: True)
    link = address.parent.with_name("link")
    link.symlink_to(address.parent)
    written_down(folder, link / "warm", warm_key(1))
    assert find(folder, 1) == ""
    assert not stop_lingering(folder)
    assert address.exists()


def test_one_of_other_source_files_or_of_another_environment_is_not_what_a_new_one_would_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "cd4ml"
    (package / "deep").mkdir(parents=True)
    files = [package / "__init__.py", package / "deep/one.py", package / "deep/two.py"]
    for path in files:
        path.write_text("", "utf-8")
        os.utime(path, (1, 1))
    monkeypatch.setattr("cd4ml.__file__", str(files[0]))
    keys = [warm_key(1)]
    os.utime(files[1], (2, 2))  # edited: a checkout has no new version
    keys.append(warm_key(1))
    files[2].unlink()
    keys.append(warm_key(1))
    monkeypatch.setattr(sys, "prefix", "/elsewhere")
    keys.append(warm_key(1))
    monkeypatch.setattr(sys, "executable", "/elsewhere/bin/python")
    keys.append(warm_key(1))
    assert len(set(keys)) == len(keys)
