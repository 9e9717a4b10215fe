"""The warm process: imports the heavy libraries once, then forks for each task.

It only imports and forks. It holds no credentials (its environment is scrubbed before it starts), computes
nothing and starts no thread: OpenMP that was used before a fork hangs the children. (The one thread beside
its own belongs to Arrow's allocator, which makes itself anew after a fork.) Threads are pinned in
its environment before the first import, since later it has no effect. Each task gets a session of its own,
so that it can be ended with all that it started; every task ends when its client goes away, and everything
ends when the controller does.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from cd4ml.gateways.files import remove_tree
from cd4ml.gateways.process import ProcessGroup, execute_environment
from cd4ml.gateways.warm import KILLED, SOCKET_VARIABLE

_IMPORTS = (
    "numpy",
    "pandas",
    "pyarrow.parquet",
    "sklearn.pipeline",
    "sklearn.compose",
    "sklearn.ensemble",
    "sklearn.linear_model",
    "sklearn.metrics",
    "skops.io",
    "xgboost",
    "dvc.cli",
    "dvc.commands.repro",
    "dvc.repo",
    "dvc.repo.reproduce",
    "jsonschema",
    "great_expectations",
    "cd4ml.stages.runner",
)
_LARGEST_REQUEST = 1 << 20
_PR_SET_PDEATHSIG = 1


@contextmanager
def warm_process(folder: Path, threads: int) -> Iterator[str]:
    """Start a warm process for as long as the block runs; gives its socket's path.

    It serves from the start; a task that comes before its imports are done waits for them. The socket lies
    in a short temporary folder, since the length of its path is limited to about 100 bytes. Where one serves
    already (``CD4ML_WARM`` names it), that one is used.
    """
    serving = os.environ.get(SOCKET_VARIABLE, "")
    if serving and Path(serving).is_socket():
        yield serving
        return
    place = Path(tempfile.mkdtemp(prefix="cd4ml-"))
    home = place / "home"
    (home / "tmp").mkdir(parents=True)
    address = str(place / "warm")
    folder.mkdir(parents=True, exist_ok=True)
    group = ProcessGroup(
        [sys.executable, "-m", "cd4ml.controller.warm", address, str(os.getpid())],
        cwd=place,
        env=execute_environment(home, threads, {}),
        log=folder / "warm.log",
    )
    try:
        _await_socket(address, group)
        yield address
    finally:
        group.kill()
        remove_tree(place)


def _await_socket(address: str, group: ProcessGroup) -> None:
    while not Path(address).exists() and group.wait(0.01) is None:
        pass


@dataclass
class _Child:
    line: socket.socket
    pid: int


def serve(address: str) -> NoReturn:
    """Listen, import, then fork for each request until this process is ended."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(f"{address}.new")
    listener.listen(64)
    Path(f"{address}.new").rename(address)  # whoever sees the name can connect
    for name in _IMPORTS:
        importlib.import_module(name)
    woken, wake = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ, "new")
    selector.register(woken, selectors.EVENT_READ, "ended")
    children: dict[int, _Child] = {}
    while True:
        for key, _ in selector.select():
            if key.data == "new":
                _begin(listener, selector, children)
            elif key.data == "ended":
                with contextlib.suppress(BlockingIOError):
                    os.read(woken, 4096)
                _reap(selector, children)
            else:
                _abandon(key.data, selector, children)


def _begin(listener: socket.socket, selector: selectors.BaseSelector, children: dict[int, _Child]) -> None:
    line, _ = listener.accept()
    try:
        request, descriptors = _receive(line)
    except (OSError, ValueError):
        line.close()
        return
    pid = os.fork()
    if pid == 0:
        listener.close()
        for child in children.values():
            child.line.close()
        line.close()
        _become(request, descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    children[pid] = _Child(line, pid)
    selector.register(line, selectors.EVENT_READ, pid)


def _receive(line: socket.socket) -> tuple[Mapping[str, object], list[int]]:
    """One request and its descriptors; ValueError when it is not one."""
    data, ancillary, _, _ = line.recvmsg(_LARGEST_REQUEST, socket.CMSG_SPACE(3 * array.array("i").itemsize))
    received = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            received.frombytes(payload[: len(payload) - len(payload) % received.itemsize])
    while not data.endswith(b"\n") and len(data) < _LARGEST_REQUEST:
        more = line.recv(_LARGEST_REQUEST)
        if not more:
            raise ValueError
        data += more
    return json.loads(data), list(received)


def _reap(selector: selectors.BaseSelector, children: dict[int, _Child]) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        child = children.pop(pid, None)
        if child is None:
            continue
        code = os.waitstatus_to_exitcode(status)
        _end_session(pid)
        selector.unregister(child.line)
        with contextlib.suppress(OSError):
            child.line.sendall(json.dumps({"exit": code if code >= 0 else KILLED}).encode())
        child.line.close()


def _abandon(pid: int, selector: selectors.BaseSelector, children: dict[int, _Child]) -> None:
    """The client went away: its task ends too."""
    child = children.get(pid)
    if child is None:
        return
    selector.unregister(child.line)
    child.line.close()
    del children[pid]
    _end_session(pid)


def _end_session(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def die_with_parent(parent: int) -> None:
    """Ask the kernel (Linux) to end this process when its parent ends, and end now if it already has."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(KILLED)


def _become(request: Mapping[str, object], descriptors: list[int]) -> NoReturn:
    """In the fork: take on the task's session, descriptors, folder and environment, run it, and end."""
    code = KILLED
    try:
        os.setsid()
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for target, descriptor in enumerate(descriptors[:3]):
            os.dup2(descriptor, target)
        for descriptor in descriptors:
            if descriptor > 2:  # the standard descriptors stay
                os.close(descriptor)
        os.chdir(str(request["cwd"]))
        os.environ.clear()
        os.environ.update(dict(request["env"]))  # type: ignore[call-overload]  # JSON from our own client
        tempfile.tempdir = None
        code = _task([str(word) for word in request["task"]])  # type: ignore[attr-defined]  # as above
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:  # noqa: BLE001  # whatever it was, a fork must never return into the server's loop
        traceback.print_exc()
        code = 3
    finally:
        os._exit(code)


def _task(words: list[str]) -> int:
    match words:
        case ["stage", name]:
            from cd4ml.controller.stage import stage_main

            return stage_main(name)
        case ["judge"]:
            from cd4ml.controller.judge import judge_main

            return judge_main()
        case ["dvc", *arguments]:
            from dvc.cli import main

            return int(main(arguments))
        case _:
            sys.stderr.write(f"unknown task: {words!r}\n")
            return 2


if __name__ == "__main__":
    die_with_parent(int(sys.argv[2]))
    serve(sys.argv[1])
