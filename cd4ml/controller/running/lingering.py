"""A warm process that outlives the command that started it, so that the next one starts in seconds.

One serves one clone. Its socket lies in a short temporary folder that only its owner may enter; where, and
what it was started for, stands in ``.git/cd4ml/warm.json``. It has no terminal and no credentials, ends by
itself when nobody has asked it for anything for some time or the clone is gone, and is replaced as soon as it
would not be what a new one is: another version of cd4ml, Python or any installed package, other threads.
"""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import cd4ml
from cd4ml.errors import UsageError
from cd4ml.gateways.files import exclusive, remove_tree, write_atomically
from cd4ml.gateways.process import ProcessGroup, end_process, execute_environment
from cd4ml.gateways.untrusted import read_json
from cd4ml.gateways.warm import SOCKET_VARIABLE
from cd4ml.spec.canonical import digest

MINUTES_VARIABLE = "CD4ML_WARM_MINUTES"
"""The environment variable that says how long an idle warm process stays; ``0`` for not at all."""

DEFAULT_MINUTES = 15.0
STATE = "warm.json"
_LOCK = "warm.lock"
_LARGEST_STATE = 4096
_SECONDS_TO_START = 30.0
_SECONDS_TO_END = 15.0
_SECONDS_TO_ANSWER = 2.0
_VERSION = re.compile(r".*\.(dist-info|egg-info|pth|egg-link)")


@dataclass(frozen=True)
class Serving:
    """A lingering warm process: its socket, its process id, and the digest of what it was started for."""

    address: str
    pid: int
    key: str


def ensure_lingering(folder: Path, threads: int) -> None:
    """See that one lingers for this clone, so that ``warm_process`` finds it. ``folder`` is the clone's private one.

    Nothing happens where ``CD4ML_WARM`` names one already, or ``CD4ML_WARM_MINUTES`` is 0. Raises UsageError for
    minutes that are no number.
    """
    minutes = linger_minutes()
    serving = os.environ.get(SOCKET_VARIABLE, "")
    if minutes and not (serving and Path(serving).is_socket()):
        find_or_start(folder, threads, minutes)


def linger_minutes() -> float:
    """How long an idle warm process stays. Raises UsageError for what is no number of minutes."""
    text = os.environ.get(MINUTES_VARIABLE, "").strip()
    if not text:
        return DEFAULT_MINUTES
    try:
        minutes = float(text)
    except ValueError:
        minutes = -1.0
    if not 0 <= minutes <= 24 * 60:
        raise UsageError(f"{MINUTES_VARIABLE}: must be a number of minutes, from 0 (do not linger) to 1440")
    return minutes


def find(folder: Path, threads: int) -> str:
    """The socket of the one that serves this clone and is what a new one would be; ``""`` when there is none."""
    serving = _known(folder)
    return serving.address if serving and serving.key == warm_key(threads) and _answers(serving.address) else ""


def find_or_start(folder: Path, threads: int, minutes: float) -> str:
    """The socket of the one that serves this clone, started if need be; ``""`` when none can be started.

    Of two that start one at a time, the second finds that of the first. One that is another than wanted, or
    does not answer, is ended first.
    """
    with exclusive(folder / _LOCK):
        address = find(folder, threads)
        if address:
            return address
        _end(folder)
        return _start(folder, threads, minutes)


def stop_lingering(folder: Path) -> bool:
    """End the one that serves this clone with all its tasks; says whether there was one."""
    with exclusive(folder / _LOCK):
        return _end(folder)


def warm_key(threads: int) -> str:
    """What a warm process is started for, as a digest: two with equal keys give the same bytes."""
    environment = execute_environment(Path("/"), threads, {})
    versions = (cd4ml.__version__, sys.version, sys.executable, sys.prefix)
    return digest([*versions, environment, _installed(), _newest_source()])


def _installed() -> list[str]:
    """The installed distributions with their versions, by the names of their folders."""
    places = sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    found: list[str] = []
    for place in places:
        with suppress(OSError):
            found += sorted(name for name in os.listdir(place) if _VERSION.fullmatch(name))  # noqa: PTH208  # fast
    return found


def _newest_source() -> list[int]:
    """How many files cd4ml has, and when the newest was written: a checkout changes without a new version."""
    times = [path.stat().st_mtime_ns for path in Path(cd4ml.__file__).parent.rglob("*.py")]
    return [len(times), max(times)]


# ── the one that is there ──


def _known(folder: Path) -> Serving | None:
    """What is written down, where it is whole and the socket is our own in a folder that nobody else can enter."""
    told = read_json(folder / STATE, _LARGEST_STATE)
    try:
        serving = Serving(str(told["address"]), int(told["pid"]), str(told["key"]))
        place = Path(serving.address).parent.lstat()
    except (OSError, ValueError, KeyError, TypeError):
        return None
    private = stat.S_ISDIR(place.st_mode) and place.st_uid == os.getuid() and not place.st_mode & 0o077
    return serving if private else None


def _answers(address: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(_SECONDS_TO_ANSWER)
        try:
            line.connect(address)
        except OSError:
            return False
    return True


def _end(folder: Path) -> bool:
    """End what is written down: the process of that id, if it is still the one that was started for that socket."""
    serving = _known(folder)
    (folder / STATE).unlink(missing_ok=True)
    if serving is None:
        return False
    ended = end_process(serving.pid, serving.address, _SECONDS_TO_END)
    remove_tree(Path(serving.address).parent)
    return ended


# ── a new one ──


def _start(folder: Path, threads: int, minutes: float) -> str:
    place = Path(tempfile.mkdtemp(prefix="cd4ml-"))
    home = place / "home"
    (home / "tmp").mkdir(parents=True)
    address = str(place / "warm")
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "warm.log"
    log.unlink(missing_ok=True)
    group = ProcessGroup(
        [
            sys.executable,
            "-P",
            "-m",
            "cd4ml.controller.running.warm",
            address,
            "linger",
            str(folder),
            str(minutes * 60),
        ],
        cwd=place,
        env=execute_environment(home, threads, {}),
        log=log,
    )
    # what was started leaves the server behind as soon as that listens, and ends
    if group.wait(_SECONDS_TO_START) != 0:
        group.kill()
        remove_tree(place)
        return ""
    pid = int((place / PID).read_text("ascii"))
    state = {"address": address, "pid": pid, "key": warm_key(threads)}
    write_atomically(folder / STATE, json.dumps(state).encode(), mode=0o600)
    return address


# ── in the server ──

PID = "pid"
"""Beside the socket: the file that holds the server's process id."""

_LOOKED_EVERY = 2.0
_LAST_CALLS = 5
_LAST_CALL_SECONDS = 0.05


class Lease:
    """Until when a lingering server stays."""

    def __init__(self, address: str, folder: Path, seconds: float) -> None:
        self._address, self._folder, self._seconds = Path(address), folder, seconds
        self._started = self._used = time.monotonic()

    @property
    def pause(self) -> float:
        """Seconds after which to look again."""
        return min(_LOOKED_EVERY, max(self._seconds / 4, 0.05))

    @property
    def has_clone(self) -> bool:
        return self._folder.is_dir()

    def is_over(self, *, busy: bool) -> bool:
        """Is it time to end? Where clone or socket are gone; when idle where the time is up or another serves."""
        if busy:
            self._used = time.monotonic()
        if not self.has_clone or not self._address.exists():
            return True
        return not busy and (time.monotonic() - self._used > self._seconds or self._is_replaced())

    def _is_replaced(self) -> bool:
        starting = time.monotonic() - self._started < _SECONDS_TO_START  # its starter is about to write it down
        return not starting and not self._is_written_down()

    def _is_written_down(self) -> bool:
        told = read_json(self._folder / STATE, _LARGEST_STATE)
        return isinstance(told, dict) and told.get("address") == str(self._address)

    def last_calls(self) -> Iterator[float]:
        """Take the name away, so that nobody new comes; gives how long to wait for those who came just before."""
        with suppress(OSError):
            self._address.unlink(missing_ok=True)
        yield from (_LAST_CALL_SECONDS,) * _LAST_CALLS

    def clear(self) -> None:
        """Remove what the server leaves behind."""
        with suppress(OSError):
            if self._is_written_down():
                (self._folder / STATE).unlink(missing_ok=True)
        with suppress(OSError):
            remove_tree(self._address.parent)
