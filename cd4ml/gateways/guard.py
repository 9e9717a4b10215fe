"""Ending a program with all that it started, also what left its session (``setsid``) or lost its parent.

Linux: whoever adopts orphans stays the ancestor of everything that its children start, so that a walk over
``/proc`` finds it. Elsewhere only the process group is ended.

As a program, ``python -m cd4ml.gateways.guard PARENT COMMAND…`` runs a command, ends what it leaves behind,
and ends all of it at once when PARENT ends or SIGTERM comes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

_KILLED = 137
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_SECONDS = 5.0
_PAUSE = 0.005


def adopt_orphans() -> None:
    """Become the parent of every descendant that loses its own (Linux; prctl(2), PR_SET_CHILD_SUBREAPER)."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int, signal_number: int = signal.SIGKILL) -> None:
    """Ask the kernel (Linux) to end this process when its parent ends, and end now if it already has."""
    _prctl(_PR_SET_PDEATHSIG, signal_number)
    if os.getppid() != parent:
        os._exit(_KILLED)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(option, value)


def end_descendants(pid: int, keep: frozenset[int] = frozenset()) -> None:
    """SIGKILL everything that descends from ``pid``, until nothing does; not ``keep`` and what descends from those."""
    deadline = time.monotonic() + _SECONDS
    while (found := _descendants(pid, keep)) and time.monotonic() < deadline:
        for one in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(one, signal.SIGKILL)
        time.sleep(_PAUSE)


def _descendants(pid: int, keep: frozenset[int]) -> list[int]:
    """What runs and descends from a process; what has ended and waits to be reaped is not counted."""
    children: dict[int, list[int]] = {}
    living: set[int] = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (entry / "stat").read_bytes().rpartition(b")")[2].split()[:2]
        except (OSError, ValueError):
            continue
        children.setdefault(int(parent), []).append(int(entry.name))
        if state not in (b"Z", b"X"):
            living.add(int(entry.name))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        new = [one for one in children.get(waiting.pop(), ()) if one not in keep]
        found += new
        waiting += new
    return [one for one in found if one in living]


def guard(parent: int, command: list[str]) -> NoReturn:
    """Run a command as this module's docstring says, and end with its exit code (128 + n for signal n)."""

    def ended(*_: object) -> NoReturn:
        end_descendants(os.getpid())
        os._exit(_KILLED)

    signal.signal(signal.SIGTERM, ended)
    die_with_parent(parent, signal.SIGTERM)
    adopt_orphans()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            os.execvp(command[0], command)  # noqa: S606  # there is no shell on purpose
        finally:
            os._exit(127)
    pid, status = os.waitpid(-1, 0)
    while pid != child:
        pid, status = os.waitpid(-1, 0)
    end_descendants(os.getpid())
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    guard(int(sys.argv[1]), sys.argv[2:])
