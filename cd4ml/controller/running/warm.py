"""The warm process: imports the heavy libraries once, then forks for each task.

It only imports and forks. It holds no credentials (its environment is scrubbed before it starts), computes
nothing and starts no thread: OpenMP that was used before a fork hangs the children. (The one thread beside
its own belongs to Arrow's allocator, which makes itself anew after a fork.) Threads are pinned in
its environment before the first import, since later it has no effect. Each task gets a session of its own,
so that it can be ended with all that it started; every task ends when its client goes away, and everything
ends when the controller does. No client, whatever it sends or fails to send, keeps another waiting.
"""

from __future__ import annotations

import array
import contextlib
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from cd4ml.controller.running.lingering import PID, Lease, find
from cd4ml.gateways.files import remove_tree, write_atomically
from cd4ml.gateways.guard import adopt_orphans, die_with_parent, end_descendants
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
    "networkx",
    "ruamel.yaml",
    "scmrepo.git",
    "dvc.cachemgr",
    "dvc.cli",
    "dvc.cli.parser",
    "dvc.commands.repro",
    "dvc.data_cloud",
    "dvc.dirs",
    "dvc.lock",
    "dvc.repo",
    "dvc.repo.index",
    "dvc.repo.metrics",
    "dvc.repo.params",
    "dvc.repo.plots",
    "dvc.repo.reproduce",
    "dvc.repo.stage",
    "dvc.rwlock",
    "dvc.scm",
    "dvc.utils.strictyaml",
    "jsonschema",
    "great_expectations",
    "cd4ml.stages.runner",
)
_LARGEST_REQUEST = 16 << 20
_SECONDS_TO_END = 10.0


@contextmanager
def warm_process(folder: Path, threads: int) -> Iterator[str]:
    """Start a warm process for as long as the block runs; gives its socket's path.

    It serves from the start; a task that comes before its imports are done waits for them. The socket lies
    in a short temporary folder, since the length of its path is limited to about 100 bytes. Where one serves
    already (``CD4ML_WARM`` names it, or it lingers for this clone), that one is used. Gives ``""`` when none can
    be started (the log says why): tasks then run cold.
    """
    serving = os.environ.get(SOCKET_VARIABLE, "")
    if not (serving and Path(serving).is_socket()):
        serving = find(folder, threads)
    if serving:
        yield serving
        return
    place = Path(tempfile.mkdtemp(prefix="cd4ml-"))
    home = place / "home"
    (home / "tmp").mkdir(parents=True)
    address = str(place / "warm")
    folder.mkdir(parents=True, exist_ok=True)
    group = ProcessGroup(
        [sys.executable, "-P", "-m", "cd4ml.controller.running.warm", address, str(os.getpid())],
        cwd=place,
        env=execute_environment(home, threads, {}),
        log=folder / "warm.log",
    )
    try:
        yield address if _await_socket(address, group) else ""
    finally:
        group.terminate()  # it ends its tasks, and what they started, before itself
        group.wait(_SECONDS_TO_END)
        group.kill()
        remove_tree(place)


def _await_socket(address: str, group: ProcessGroup) -> bool:
    while not Path(address).exists():
        if group.wait(0.01) is not None:
            return False
    return True


def serve(address: str) -> NoReturn:
    """Listen, import, then fork for each request until this process is ended."""
    server = _imported(_listening(address))
    while True:
        server.step()


def linger(address: str, folder: Path, seconds: float) -> NoReturn:
    """Leave a server behind that listens, and end. It stays as long as its lease says."""
    listener = _listening(address)
    pid = os.fork()
    if pid:
        write_atomically(Path(address).parent / PID, str(pid).encode())
        os._exit(0)
    os.setsid()
    server, lease = _imported(listener), Lease(address, folder, seconds)
    while not lease.is_over(busy=server.is_busy):
        server.step(lease.pause)
    for wait in lease.last_calls():
        server.step(wait)
    while server.is_busy and lease.has_clone:
        server.step(lease.pause)
    lease.clear()
    server.end()


def _listening(address: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(f"{address}.new")
    listener.listen(64)
    Path(f"{address}.new").rename(address)  # whoever sees the name can connect
    return listener


def _imported(listener: socket.socket) -> _Server:
    for name in _IMPORTS:
        try:
            importlib.import_module(name)
        except Exception:  # noqa: BLE001  # what cannot be imported is the task's to meet, with its own error
            traceback.print_exc()
    return _Server(listener)


@dataclass
class _Request:
    """What a client has sent so far."""

    line: socket.socket
    data: bytes = b""
    descriptors: list[int] = field(default_factory=list)


class _Server:
    """Who is connected, and which task runs for whom. One thread; nothing in it waits for a client."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._tasks: dict[int, socket.socket] = {}
        self._requests: dict[int, _Request] = {}
        self._woken, self._wake = os.pipe()
        for end in (self._woken, self._wake):
            os.set_blocking(end, False)
        listener.setblocking(False)
        signal.set_wakeup_fd(self._wake)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self.end())
        adopt_orphans()
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._woken, selectors.EVENT_READ, self._reap)

    @property
    def is_busy(self) -> bool:
        """Does a task run?"""
        return bool(self._tasks)

    def step(self, seconds: float | None = None) -> None:
        """Wait for something to happen (at most so long), and deal with it."""
        for key, _ in self._selector.select(seconds):
            key.data()

    def _accept(self) -> None:
        try:
            line, _ = self._listener.accept()
        except OSError:  # gone again, or no descriptor free: it is asked about again
            time.sleep(0.01)
            return
        line.setblocking(False)
        self._requests[line.fileno()] = _Request(line)
        self._selector.register(line, selectors.EVENT_READ, partial(self._read, line.fileno()))

    def _read(self, number: int) -> None:
        """Take what a client sends; begin its task when the request is whole, drop it when it is none."""
        request = self._requests[number]
        try:
            data, descriptors = _received(request.line)
        except BlockingIOError:
            return
        except OSError:
            data, descriptors = b"", []
        request.data += data
        request.descriptors += descriptors
        if data and not request.data.endswith(b"\n") and len(request.data) < _LARGEST_REQUEST:
            return
        del self._requests[number]
        self._selector.unregister(request.line)
        asked = _parsed(request.data)
        if asked is None or not self._begin(request, asked):
            request.line.close()
        for descriptor in request.descriptors:
            os.close(descriptor)

    def _begin(self, request: _Request, asked: Mapping[str, Any]) -> bool:
        sys.stdout.flush()
        sys.stderr.flush()  # what an import left unwritten is not the task's to write
        server = os.getpid()
        try:
            pid = os.fork()
        except OSError:
            return False
        if pid == 0:
            self._forget(request.line)
            _become(asked, request.descriptors, server)
        self._tasks[pid] = request.line
        self._selector.register(request.line, selectors.EVENT_READ, partial(self._abandon, pid))
        return True

    def _forget(self, own: socket.socket) -> None:
        """In the fork: close everything that is the server's, or another task's."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for line in (self._listener, own, *self._tasks.values()):
            line.close()
        for other in self._requests.values():
            other.line.close()
            for descriptor in other.descriptors:
                os.close(descriptor)
        self._selector.close()
        os.close(self._woken)
        os.close(self._wake)

    def _reap(self) -> None:
        """Answer for the tasks that have ended, after ending what they left running."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._woken, 4096)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            _end_group(pid)
            line = self._tasks.pop(pid, None)
            # a task adopts its own orphans: what is a child here and no task outlived the one that began it
            end_descendants(os.getpid(), keep=frozenset(self._tasks))
            if line is not None:
                self._answer(line, os.waitstatus_to_exitcode(status))

    def _answer(self, line: socket.socket, code: int) -> None:
        with contextlib.suppress(KeyError):  # one whose client went away is not listened to any more
            self._selector.unregister(line)
        with contextlib.suppress(OSError):
            line.sendall(json.dumps({"exit": code if code >= 0 else KILLED}).encode())
        line.close()

    def _abandon(self, pid: int) -> None:
        """The client went away, or sent more than one request: its task ends, and is answered for when it has."""
        self._selector.unregister(self._tasks[pid])
        _end_session(pid)

    def end(self) -> NoReturn:
        """End every task with what it started, and this process."""
        for pid in self._tasks:
            _end_session(pid)
        end_descendants(os.getpid())
        os._exit(0)


def _received(line: socket.socket) -> tuple[bytes, list[int]]:
    """What there is to read, and the descriptors that came with it. Raises OSError."""
    data, ancillary, _, _ = line.recvmsg(_LARGEST_REQUEST, socket.CMSG_SPACE(3 * array.array("i").itemsize))
    descriptors = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(payload[: len(payload) - len(payload) % descriptors.itemsize])
    return data, list(descriptors)


def _parsed(data: bytes) -> Mapping[str, Any] | None:
    """A request, or nothing for what is none."""
    try:
        asked = json.loads(data)
        task, cwd, env = asked["task"], asked["cwd"], asked["env"]
        texts = [*task, cwd, *env, *env.values()]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return asked if isinstance(task, list) and all(isinstance(text, str) for text in texts) else None


def _end_session(pid: int) -> None:
    """End a task that is not reaped yet with all that it started, in whatever session that is by now."""
    end_descendants(pid)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)
    _end_group(pid)


def _end_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _become(asked: Mapping[str, Any], descriptors: list[int], server: int) -> NoReturn:
    """In the fork: take on the task's session, descriptors, folder and environment, run it, and end."""
    code = KILLED
    try:
        os.setsid()
        die_with_parent(server)
        adopt_orphans()
        for target, descriptor in enumerate(descriptors[:3]):
            os.dup2(descriptor, target)
        for descriptor in descriptors:
            if descriptor > 2:  # the standard descriptors stay
                os.close(descriptor)
        os.chdir(asked["cwd"])
        os.environ.clear()
        os.environ.update(asked["env"])
        time.tzset()
        tempfile.tempdir = None
        code = _task(asked["task"])
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:  # noqa: BLE001  # whatever it was, a fork must never return into the server's loop
        code = 3
        traceback.print_exc()
    finally:
        os._exit(code)


def _task(words: list[str]) -> int:
    match words:
        case ["stage", name]:
            from cd4ml.controller.running.stage import guarded_stage

            return guarded_stage(name)
        case ["judge"]:
            from cd4ml.controller.running.judge import judge_main

            return judge_main()
        case ["dvc", *arguments]:
            from dvc.cli import main

            return int(main(arguments))
        case _:
            sys.stderr.write(f"unknown task: {words!r}\n")
            return 2


if __name__ == "__main__":
    if sys.argv[2] == "linger":
        linger(sys.argv[1], Path(sys.argv[3]), float(sys.argv[4]))
    die_with_parent(int(sys.argv[2]), signal.SIGTERM)  # so that it can end its tasks first
    serve(sys.argv[1])
