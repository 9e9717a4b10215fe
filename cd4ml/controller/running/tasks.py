"""Tasks of a run: started in the warm process or by themselves, and ended when their time is up."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from cd4ml.errors import Cd4mlError
from cd4ml.gateways.process import ProcessGroup
from cd4ml.gateways.warm import WarmTask

_POLL_SECONDS = 0.1


def start_task(
    warm: str, words: list[str], cold: list[str], *, cwd: Path, env: Mapping[str, str], log: Path
) -> WarmTask | ProcessGroup:
    """Start a task in the warm process; by itself where there is none, or none answers any more."""
    if warm:
        with contextlib.suppress(OSError), log.open("ab") as sink:
            return WarmTask(warm, words, cwd=cwd, env=env, output=sink.fileno())
    return ProcessGroup(cold, cwd=cwd, env=env, log=log, guarded=True)


def ended(task: WarmTask | ProcessGroup, limit: float, stop: threading.Event, look: Callable[[], None]) -> int | None:
    """The exit code of a task, or nothing when the time was up and it was ended; it is ended in any case."""
    deadline = time.monotonic() + limit
    try:
        while True:
            code = task.wait(_POLL_SECONDS)
            look()
            if code is not None or time.monotonic() > deadline:
                return code
            if stop.is_set():
                raise Cd4mlError("interrupted")
    finally:
        task.kill()
