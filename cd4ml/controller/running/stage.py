"""``cd4ml stage NAME``: one stage, as DVC or a person starts it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from cd4ml.errors import Cd4mlError, StageFailed
from cd4ml.gateways.guard import die_with_parent

RUN_FOLDER = "CD4ML_RUN_FOLDER"
"""Environment variable: where a run's events and its failure are written."""

RAW_FOLDER = "CD4ML_RAW_FOLDER"
"""Environment variable: where the raw bytes behind the pins lie, by SHA-256."""

MEMORY_GIB = "CD4ML_MEMORY_GIB"
"""Environment variable: how much memory each process of a stage may take, in GiB."""

TRACEBACK = "CD4ML_TRACEBACK"
"""Environment variable: in a run of somebody's work tree, a stage that fails leaves its whole traceback, which may
quote cells, in ``TRACEBACK_FILE``. No other run is given it.
"""

EVENTS = "events.jsonl"
FAILURE = "failure.json"
TRACEBACK_FILE = "traceback.json"
_LONGEST_MESSAGE = 500
_LONGEST_TRACEBACK = 100_000
_LIKELY_VICTIM = 500
_MEMORY_WORDS = ("bad_alloc", "Cannot allocate memory", "Unable to allocate", "malloc of size")
"""What libraries that raise something else than MemoryError say when memory runs out."""


def guarded_stage(name: str, *, debug: bool = False) -> int:
    """``stage_main``, in a run in a child: a stage that is killed leaves word of it all the same.

    The child may take as much memory as ``CD4ML_MEMORY_GIB`` says, and is what the kernel ends first where
    memory runs out. It ends with this process.
    """
    if RUN_FOLDER not in os.environ:
        return stage_main(name, debug=debug)
    began = time.monotonic()
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        _in_child(name, parent)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code >= 0:
        return code
    _event(name, "failed", time.monotonic() - began)
    _fail(name, _killed(signal.Signals(-code)), "transient")
    return 128 - code


def _in_child(name: str, parent: int) -> None:
    """Run the stage in the fork, and end it."""
    code = 3
    try:
        die_with_parent(parent)
        with contextlib.suppress(OSError):  # where there is no such file, the kernel chooses by itself
            Path("/proc/self/oom_score_adj").write_text(str(_LIKELY_VICTIM), "ascii")
        limit_memory()
        code = stage_main(name)
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:  # noqa: BLE001  # a fork must not go on where its parent does
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def limit_memory() -> None:
    """Keep this process, and each that it starts, to the memory that ``CD4ML_MEMORY_GIB`` names.

    The limit is on private writable memory (getrlimit(2), RLIMIT_DATA), libraries included: about 0.3 GiB. What
    asks for more gets an error and is not killed. Only Linux counts so.
    """
    text = os.environ.get(MEMORY_GIB)
    if text:
        most = int(float(text) * (1 << 30))
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _ran_out() -> str:
    allowed = os.environ.get(MEMORY_GIB)
    return f"ran out of memory: executor.memory_gib allows {allowed} GiB" if allowed else "ran out of memory"


def _killed(number: signal.Signals) -> str:
    """What a signal says of the stage that it ended."""
    allowed = os.environ.get(MEMORY_GIB)
    limit = f"executor.memory_gib allows {allowed} GiB" if allowed else "executor.memory_gib sets no limit"
    if number is signal.SIGKILL:
        return f"was killed ({number.name}), as the kernel does when memory runs out; {limit}"
    if number is signal.SIGABRT:
        return f"was aborted ({number.name}), as libraries do when memory runs out; {limit}"
    return f"crashed ({number.name})" if number is signal.SIGSEGV else f"was ended by {number.name}"


def _is_about_memory(error: BaseException) -> bool:
    """Did memory run out, whatever the error is called? Looks at its causes, too."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        known = isinstance(found, MemoryError) or (isinstance(found, OSError) and found.errno == errno.ENOMEM)
        if known or any(word in str(found) for word in _MEMORY_WORDS):
            return True
        found = found.__cause__ or found.__context__
    return False


def stage_main(name: str, *, debug: bool = False) -> int:
    """Run a stage in the current folder; the exit code is that of the error tree.

    By hand, ``debug`` shows the whole traceback of a failure on stderr, the library's own message with it.

    Side effects: the stage's outputs; in a run, a line of ``events.jsonl`` at its start and end, and
    ``failure.json`` when it failed.
    """
    from cd4ml.stages.runner import run_stage

    began = time.monotonic()
    _event(name, "started", 0.0)
    try:
        measured = run_stage(name, Path.cwd(), _raw_folder(name))
    except Cd4mlError as error:
        _event(name, "failed", time.monotonic() - began)
        if _is_about_memory(error):
            _fail(name, _ran_out(), "transient")
        elif isinstance(error, StageFailed):
            _fail(error.stage, error.message, error.kind)
        else:
            _fail(name, str(error), "deterministic")
        _tell_all(error, debug)
        sys.stderr.write(f"cd4ml: {error}\n")
        return error.exit_code
    except OSError as error:
        _event(name, "failed", time.monotonic() - began)
        told = _ran_out() if _is_about_memory(error) else f"{type(error).__name__}: {error.strerror}"
        _fail(name, told, "transient")
        raise
    except MemoryError:
        _event(name, "failed", time.monotonic() - began)
        _fail(name, _ran_out(), "transient")
        raise
    except SystemExit:  # code of the experiment asked to leave: that is no result, whatever its code
        _event(name, "failed", time.monotonic() - began)
        _fail(name, "code of the experiment asked to exit", "deterministic")
        return 1
    except Exception as error:
        _event(name, "failed", time.monotonic() - began)
        if _is_about_memory(error):
            _fail(name, _ran_out(), "transient")
            raise
        frames = traceback.extract_tb(error.__traceback__)
        place = f" in {frames[-1].name} ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
        _fail(name, f"{type(error).__name__}{place}", "deterministic")
        _tell_all(error, debug)
        raise
    _event(name, "finished", time.monotonic() - began, {"peak_bytes": peak_bytes(), **measured})
    return 0


def _tell_all(error: BaseException, debug: bool) -> None:
    """The traceback with what the library said, to the person who asked for it and nobody else."""
    folder = os.environ.get(RUN_FOLDER)
    if not (os.environ.get(TRACEBACK) if folder else debug):
        return
    from cd4ml.report.visible import visible

    text = "".join(traceback.format_exception(error))[-_LONGEST_TRACEBACK:]
    if folder:
        (Path(folder) / TRACEBACK_FILE).write_text(json.dumps(text), "utf-8")
    else:
        sys.stderr.write("".join(f"{visible(line)}\n" for line in text.splitlines()))


def peak_bytes() -> int:
    """The most memory that this process held at once (or, if that was more, one that it started and waited for).

    Resident, libraries included; what a fork shares with the process that it comes from counts as the fork's, so that
    a stage in the warm process (``controller/running/warm``) has the libraries of all stages in it. getrusage(2),
    ru_maxrss.
    """
    unit = 1 if sys.platform == "darwin" else 1024  # macOS tells bytes, Linux KiB
    return unit * max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def _raw_folder(name: str) -> Path:
    """In a run it is given; by hand, the project's own, with what is missing fetched first."""
    given = os.environ.get(RAW_FOLDER)
    if given:
        return Path(given)
    from cd4ml.controller.desired.data import ensure_raw, work_tree_spec, work_tree_storage
    from cd4ml.controller.project import open_project
    from cd4ml.spec.pin import parse_pin
    from cd4ml.spec.pipeline import pin_path

    project = open_project(Path.cwd())
    if name != "ingest":
        return project.private / "raw"
    pins = []
    for source in work_tree_spec(project).data.sources:
        path = project.work_tree() / pin_path(source.name)
        if path.is_file():  # a pin that is missing is the stage's own to report
            pins.append(parse_pin(path.read_bytes().decode("utf-8", "replace"), pin_path(source.name)))
    return ensure_raw(project, work_tree_storage(project), pins, {})  # what a person types is stored nowhere


def _event(stage: str, event: str, seconds: float, measured: Mapping[str, float] = MappingProxyType({})) -> None:
    folder = os.environ.get(RUN_FOLDER)
    if folder:
        line = json.dumps({"stage": stage, "event": event, "seconds": round(seconds, 3), **measured})
        with (Path(folder) / EVENTS).open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")


def _fail(stage: str, message: str, kind: str) -> None:
    folder = os.environ.get(RUN_FOLDER)
    if folder:
        one_line = " ".join(message.split())[:_LONGEST_MESSAGE]
        text = json.dumps({"stage": stage, "message": one_line, "kind": kind})
        (Path(folder) / FAILURE).write_text(text, "utf-8")
