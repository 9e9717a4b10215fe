"""The line to the warm process: ask it to run a task in a fork, and hear how the task ended.

The protocol, over a Unix stream socket whose folder only its owner may enter: the client sends one JSON
line ``{"task": [...], "cwd": …, "env": {…}}`` together with its three standard descriptors; the server
answers one JSON line ``{"exit": code}`` when the task has ended. If the client goes away first, or says that
it will send no more, the server ends the task and all that it started.

This module imports nothing heavy: DVC starts one client for each stage.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import socket
from collections.abc import Mapping, Sequence

TYPE_CHECKING = False  # as typing has it: to import typing and pathlib takes as long as to start Python
if TYPE_CHECKING:
    from pathlib import Path

SOCKET_VARIABLE = "CD4ML_WARM"
"""The environment variable that holds the socket's path where a warm process serves."""

KILLED = 137
"""Exit code of a task that was ended by a signal, or whose server went away."""


_SECONDS_TO_END = 10.0


class WarmTask:
    """One task that runs in a fork of the warm process."""

    def __init__(
        self, address: str, task: Sequence[str], *, cwd: str | Path, env: Mapping[str, str], output: int
    ) -> None:
        """Start it; its output and error output go to the descriptor ``output``.

        Raises OSError when no warm process answers.
        """
        request = json.dumps({"task": list(task), "cwd": str(cwd), "env": dict(env)}).encode() + b"\n"
        self._exit: int | None = None
        self._line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._line.connect(address)
            with open(os.devnull, "rb") as null:  # noqa: PTH123  # a bare descriptor is what is sent
                descriptors = array.array("i", [null.fileno(), output, output])
                sent = self._line.sendmsg([request], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
            if sent < len(request):  # else the task may have ended already, and nobody listens any more
                self._line.sendall(request[sent:])
        except OSError:
            self._line.close()
            raise

    def wait(self, seconds: float | None) -> int | None:
        """The exit code if the task ends within ``seconds``, else nothing."""
        if self._exit is None:
            try:
                self._line.settimeout(seconds)
                answer = self._line.recv(4096)
                self._exit = int(json.loads(answer)["exit"]) if answer else KILLED
            except (TimeoutError, BlockingIOError):
                return None
            except OSError:
                self._exit = KILLED
        return self._exit

    def kill(self) -> None:
        """End the task and all that it started, and wait until they have; harmless when it has ended."""
        if self._exit is None:
            with contextlib.suppress(OSError):
                self._line.shutdown(socket.SHUT_WR)
                self.wait(_SECONDS_TO_END)
        self._line.close()


def run_stage_warm(name: str) -> int | None:
    """Run a stage in the warm process that ``CD4ML_WARM`` names; nothing when there is none to ask."""
    address = os.environ.get(SOCKET_VARIABLE)
    if not address:
        return None
    try:
        task = WarmTask(address, ["stage", name], cwd=os.getcwd(), env=os.environ, output=1)  # noqa: PTH109  # see above
    except OSError:
        return None
    return task.wait(None)
