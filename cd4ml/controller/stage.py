"""``cd4ml stage NAME``: one stage, as DVC or a person starts it."""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from pathlib import Path

from cd4ml.errors import Cd4mlError, StageFailed

RUN_FOLDER = "CD4ML_RUN_FOLDER"
"""Environment variable: where a run's events and its failure are written."""

RAW_FOLDER = "CD4ML_RAW_FOLDER"
"""Environment variable: where the raw bytes behind the pins lie, by SHA-256."""

EVENTS = "events.jsonl"
FAILURE = "failure.json"
_LONGEST_MESSAGE = 500


def stage_main(name: str) -> int:
    """Run a stage in the current folder; the exit code is that of the error tree.

    Side effects: the stage's outputs; in a run, a line of ``events.jsonl`` at its start and end, and
    ``failure.json`` when it failed.
    """
    from cd4ml.stages.runner import run_stage

    began = time.monotonic()
    _event(name, "started", 0.0)
    try:
        run_stage(name, Path.cwd(), _raw_folder(name))
    except Cd4mlError as error:
        _event(name, "failed", time.monotonic() - began)
        if isinstance(error, StageFailed):
            _fail(error.stage, error.message, error.kind)
        else:
            _fail(name, str(error), "deterministic")
        sys.stderr.write(f"cd4ml: {error}\n")
        return error.exit_code
    except OSError as error:
        _event(name, "failed", time.monotonic() - began)
        _fail(name, f"{type(error).__name__}: {error.strerror}", "transient")
        raise
    except MemoryError:
        _event(name, "failed", time.monotonic() - began)
        _fail(name, "ran out of memory", "transient")
        raise
    except SystemExit:  # code of the experiment asked to leave: that is no result, whatever its code
        _event(name, "failed", time.monotonic() - began)
        _fail(name, "code of the experiment asked to exit", "deterministic")
        return 1
    except Exception as error:
        _event(name, "failed", time.monotonic() - began)
        frames = traceback.extract_tb(error.__traceback__)
        place = f" in {frames[-1].name} ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
        _fail(name, f"{type(error).__name__}{place}", "deterministic")
        raise
    _event(name, "finished", time.monotonic() - began)
    return 0


def _raw_folder(name: str) -> Path:
    """In a run it is given; by hand, the project's own, with what is missing fetched first."""
    given = os.environ.get(RAW_FOLDER)
    if given:
        return Path(given)
    from cd4ml.controller.data import ensure_raw, work_tree_spec, work_tree_storage
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
    return ensure_raw(project, work_tree_storage(project), pins)


def _event(stage: str, event: str, seconds: float) -> None:
    folder = os.environ.get(RUN_FOLDER)
    if folder:
        line = json.dumps({"stage": stage, "event": event, "seconds": round(seconds, 3)})
        with (Path(folder) / EVENTS).open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")


def _fail(stage: str, message: str, kind: str) -> None:
    folder = os.environ.get(RUN_FOLDER)
    if folder:
        one_line = " ".join(message.split())[:_LONGEST_MESSAGE]
        text = json.dumps({"stage": stage, "message": one_line, "kind": kind})
        (Path(folder) / FAILURE).write_text(text, "utf-8")
