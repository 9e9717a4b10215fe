"""The one place that starts programs.

Nothing goes through a shell. Environments are built from what is named, never inherited whole, wherever
code of an experiment may run.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from cd4ml.errors import ToolError
from cd4ml.gateways import guard

CRASH_POINTS = (
    "claim.taken",
    "claim.dropped",
    "execute.started",
    "execute.finished",
    "bundle.written",
    "bundle.taken",
    "judge.finished",
    "land.outputs-stored",
    "land.committed",
    "land.pushed",
    "fold.committed",
    "fold.pushed",
    "gc.recorded",
    "gc.freed",
    "epoch.committed",
    "epoch.pushed",
    "restore.pushed",
)
"""Names at which ``CD4ML_CRASH_AT`` can end the process, for tests of what a crash leaves behind."""

_KEPT_GIT_VARIABLES = frozenset(
    {
        "GIT_AUTHOR_DATE",
        "GIT_AUTHOR_EMAIL",
        "GIT_AUTHOR_NAME",
        "GIT_COMMITTER_DATE",
        "GIT_COMMITTER_EMAIL",
        "GIT_COMMITTER_NAME",
        "GIT_ASKPASS",
        "GIT_CONFIG_GLOBAL",
        "GIT_CONFIG_NOSYSTEM",
        "GIT_SSH",
        "GIT_SSH_COMMAND",
        "GIT_SSL_CAINFO",
        "GIT_SSL_CAPATH",
        "GIT_TRACE",
    }
)
_KEPT_IN_EXECUTE = ("LANG", "LC_ALL", "LC_CTYPE", "TZ", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
_POLL_SECONDS = 0.02
_SECONDS_TO_END = 10.0


@dataclass(frozen=True)
class Completed:
    """What a program that ended with exit code 0 (or one that was allowed) left behind."""

    returncode: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        return self.stdout.decode("utf-8", "replace")


def run(
    command: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    allowed: tuple[int, ...] = (0,),
    timeout: float | None = None,
    stdout: IO[bytes] | None = None,
) -> Completed:
    """Run a program to its end and give back its output, unless it is to go to the file ``stdout``.

    Raises ToolError for an exit code that is not allowed, a program that is not there, or a timeout (seconds).
    """
    try:
        whole_env = dict(os.environ) if env is None else dict(env)
        done = _communicated(list(command), cwd, whole_env, stdin, timeout, stdout)
    except FileNotFoundError as error:
        raise ToolError(tuple(command), 127, "", f"{error.filename}: not found") from error
    except (OSError, ValueError) as error:  # not executable, a list too long, a NUL in an argument
        raise ToolError(tuple(command), 126, "", f"{command[0]}: cannot be started: {error}") from error
    except subprocess.TimeoutExpired as error:
        raise ToolError(tuple(command), 124, "", f"no answer within {timeout:g} s") from error
    completed = Completed(done.returncode, done.stdout or b"", done.stderr)
    if done.returncode not in allowed:
        raise ToolError(tuple(command), done.returncode, completed.text, done.stderr.decode("utf-8", "replace").strip())
    return completed


_children: set[subprocess.Popen[bytes]] = set()
_ending = threading.Event()


def _communicated(
    command: list[str],
    cwd: Path,
    env: dict[str, str],
    stdin: bytes,
    timeout: float | None,
    sink: IO[bytes] | None,
) -> subprocess.CompletedProcess[bytes]:
    """``subprocess.run``, with the program among those that ``end_children`` ends."""
    if _ending.is_set():
        raise ToolError(tuple(command), 130, "", "interrupted")
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=cwd, env=env, stdin=pipe, stdout=sink or pipe, stderr=pipe) as process:
        _children.add(process)
        try:
            if _ending.is_set():  # since the program was started
                process.terminate()
            stdout, stderr = process.communicate(stdin, timeout)
        except BaseException:
            process.kill()
            raise
        finally:
            _children.discard(process)
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


@contextlib.contextmanager
def streamed(command: Sequence[str], *, cwd: Path, env: Mapping[str, str], stdin: bytes) -> Iterator[IO[bytes]]:
    """Run a program whose output is too much to hold: it can be read while the program runs, and ends with the block.

    How it ended is not told: a reader knows how much there has to be. Its error output is lost. Raises ToolError when
    it cannot be started.
    """
    if _ending.is_set():
        raise ToolError(tuple(command), 130, "", "interrupted")
    pipe = subprocess.PIPE
    try:
        process = subprocess.Popen(command, cwd=cwd, env=env, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)
    except OSError as error:
        raise ToolError(tuple(command), 126, "", f"{command[0]}: cannot be started: {error}") from error
    assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018  # both pipes
    _children.add(process)
    feeding = threading.Thread(target=_feed, args=(process.stdin, stdin), daemon=True)
    feeding.start()
    try:
        yield process.stdout
    finally:
        process.kill()
        process.wait()
        feeding.join()
        process.stdout.close()
        _children.discard(process)


def _feed(pipe: IO[bytes], data: bytes) -> None:
    with contextlib.suppress(OSError), pipe:  # it has ended before it read all
        pipe.write(data)


class Helper:
    """A program that answers what it is asked, one message after the other; see ``read_message``.

    It is among those that ``end_children`` ends. One thread speaks with it at a time.
    """

    def __init__(self, command: Sequence[str], files: Sequence[int] = ()) -> None:
        """Start it; the ``files`` are open in it as well, under the same numbers. Raises ToolError."""
        self._command = tuple(command)
        if _ending.is_set():
            raise ToolError(self._command, 130, "", "interrupted")
        pipe = subprocess.PIPE
        try:
            self._process = subprocess.Popen(
                command, cwd="/", stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, pass_fds=files
            )
        except OSError as error:
            raise ToolError(self._command, 126, "", f"{command[0]}: cannot be started: {error}") from error
        _children.add(self._process)

    def ask(self, message: bytes) -> bytes:
        """Its answer. Raises ToolError when it has ended."""
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: S101, PT018  # both pipes
        try:
            write_message(self._process.stdin, message)
            answer = read_message(self._process.stdout)
        except (OSError, ValueError) as error:
            raise ToolError(self._command, 1, "", f"gives no answer: {error}") from error
        if answer is None:
            raise ToolError(self._command, 1, "", "ended without an answer")
        return answer

    def close(self) -> None:
        """End it."""
        self._process.kill()
        with contextlib.suppress(OSError), self._process:  # what it never read is lost
            pass
        _children.discard(self._process)


def read_message(stream: IO[bytes]) -> bytes | None:
    """The next message: 8 bytes of length, and so many bytes. Nothing at the end of the stream, or in its middle."""
    head = stream.read(8)
    size = int.from_bytes(head, "big")
    message = stream.read(size) if len(head) == 8 else b""
    return message if len(head) == 8 and len(message) == size else None


def write_message(stream: IO[bytes], message: bytes) -> None:
    """Write a message as ``read_message`` reads it."""
    stream.write(len(message).to_bytes(8, "big"))
    stream.write(message)
    stream.flush()


def end_children() -> None:
    """Ask every program that ``run`` waits for, in whatever thread, to end; start no further one."""
    _ending.set()
    for process in tuple(_children):
        with contextlib.suppress(ProcessLookupError):
            process.terminate()


def let_children() -> None:
    """Let programs be started again after ``end_children``."""
    _ending.clear()


def scrub_git_variables() -> None:
    """Drop the ``GIT_*`` variables that point Git at other places than its arguments do.

    Side effect: changes this process's environment. Names, dates, and how to reach a remote are kept.
    """
    for name in set(os.environ) - set(without_git_variables(os.environ)):
        del os.environ[name]


def without_git_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without the ``GIT_*`` variables that point Git at other places. Pure."""
    return {
        name: value for name, value in environment.items() if not name.startswith("GIT_") or name in _KEPT_GIT_VARIABLES
    }


def thread_environment(threads: int) -> dict[str, str]:
    """Variables that pin OpenMP and BLAS to ``threads``; they count only before the libraries load.

    Idle OpenMP threads must sleep: spinning ones starve the other runs of the machine.
    """
    count = str(threads)
    return {
        "OMP_NUM_THREADS": count,
        "OMP_WAIT_POLICY": "passive",
        "OPENBLAS_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "NUMEXPR_NUM_THREADS": count,
    }


def execute_environment(home: Path, threads: int, extra: Mapping[str, str], python: str = "") -> dict[str, str]:
    """The whole environment that code of an experiment sees: no credentials, nothing inherited but locale.

    ``home`` is a private folder; it also takes the temporary files. ``python`` is the interpreter beside which
    ``cd4ml`` is found (``""``: the running one).
    """
    kept = {name: os.environ[name] for name in _KEPT_IN_EXECUTE if name in os.environ}
    return {
        **kept,
        **thread_environment(threads),
        "HOME": str(home),
        "TMPDIR": str(home / "tmp"),
        "PATH": os.pathsep.join([str(Path(python or sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin"]),
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GX_ANALYTICS_ENABLED": "false",
        "DVC_NO_ANALYTICS": "1",
        "NO_COLOR": "1",
        **extra,
    }


class ProcessGroup:
    """A program in a session of its own, so that it and all that it started can be ended together.

    One that is ``guarded`` ends when the thread that started it does, and takes with it what left its session.
    """

    def __init__(
        self, command: Sequence[str], *, cwd: Path, env: Mapping[str, str], log: Path, guarded: bool = False
    ) -> None:
        """Start it; output and error output go to ``log`` (appended)."""
        self._guarded = guarded
        before = (sys.executable, "-P", "-m", guard.__name__, str(os.getpid())) if guarded else ()
        with log.open("ab") as sink:
            self._process = subprocess.Popen(
                [*before, *command],
                cwd=cwd,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self, seconds: float) -> int | None:
        """The exit code (negative: the signal) if it ends within ``seconds``, else nothing."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def terminate(self) -> None:
        """Ask it (it alone) to end, with SIGTERM."""
        self._process.terminate()

    def kill(self) -> None:
        """End the whole group; harmless when it has ended."""
        if self._guarded and self._process.poll() is None:
            self._process.terminate()  # the guard ends what it guards, before itself
            self.wait(_SECONDS_TO_END)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def end_process(pid: int, word: str, seconds: float) -> bool:
    """End a process that is not our child, and wait until it has ended; SIGTERM first, SIGKILL after ``seconds``.

    Only if ``word`` is one of its arguments: by now the id may be another process's. Says whether it was there.
    """
    if not _has_argument(pid, word):
        return False
    deadline = time.monotonic() + seconds
    number = signal.SIGTERM
    while _has_argument(pid, word):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
        time.sleep(_POLL_SECONDS)
        if time.monotonic() > deadline:
            if number is signal.SIGKILL:
                break  # in the kernel's hands
            number, deadline = signal.SIGKILL, time.monotonic() + seconds
    return True


def _has_argument(pid: int, word: str) -> bool:
    if pid <= 1:
        return False
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        if Path("/proc/self/cmdline").exists():
            return False
        told = run(["ps", "-o", "command=", "-p", str(pid)], cwd=Path("/"), allowed=(0, 1)).stdout
        words = told.split()
    return os.fsencode(word) in words


_passed: Counter[str] = Counter()


def crash_point(name: str) -> None:
    """End this process with SIGKILL if ``CD4ML_CRASH_AT`` names this point: ``NAME``, or ``NAME:n`` for the nth time.

    ``CD4ML_STOP_AT`` suspends it there with SIGSTOP, until it is woken. Tests use both to stand at every instant
    between two writes.
    """
    for variable, number in (("CD4ML_CRASH_AT", signal.SIGKILL), ("CD4ML_STOP_AT", signal.SIGSTOP)):
        wanted, _, count = os.environ.get(variable, "").partition(":")
        if wanted == name:
            _passed[variable] += 1
            if _passed[variable] == int(count or 1):
                os.kill(os.getpid(), number)
