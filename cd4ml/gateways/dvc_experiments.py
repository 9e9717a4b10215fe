"""DVC's own experiments (``dvc exp``), as ``dvc exp show --json`` tells them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from cd4ml.errors import ToolError, UsageError
from cd4ml.gateways.process import run, without_git_variables
from cd4ml.index.foreign import ForeignRun

_DEFAULT = "params.yaml"


def experiments_of(root: Path) -> Iterator[ForeignRun | None]:
    """Every experiment of the repository at ``root``; nothing in place of one that has not ended or cannot be read.

    Raises UsageError when DVC cannot tell.
    """
    command = [sys.executable, "-m", "dvc", "exp", "show", "--json", "--all-commits", "--hide-workspace", "--sha"]
    environment = {**without_git_variables(os.environ), "DVC_NO_ANALYTICS": "1", "NO_COLOR": "1"}
    try:
        told = json.loads(run(command, cwd=root, env=environment).stdout)
    except ToolError as error:
        lines = error.stderr.strip().splitlines() or [f"exit code {error.returncode}"]
        raise UsageError(f"dvc exp show: {lines[0].removeprefix('ERROR: ')}") from error
    except ValueError as error:
        raise UsageError("dvc exp show: its answer is not JSON") from error
    seen: set[str] = set()
    for baseline in told:
        for one in baseline.get("experiments") or ():
            found = (one.get("revs") or [{}])[0]
            if found.get("rev") not in seen:
                seen.add(str(found.get("rev")))
                yield _foreign(one, found, str(baseline.get("rev") or ""))


def _foreign(one: Mapping[str, Any], found: Mapping[str, Any], baseline: str) -> ForeignRun | None:
    data, executor = found.get("data"), one.get("executor") or {}
    if not data or found.get("error") or executor.get("state") in ("queued", "running"):
        return None
    made = _instant(data.get("timestamp"))
    return ForeignRun(
        tool="dvc",
        location="dvc exp",
        experiment=baseline[:12],
        id=str(found["rev"]),
        name=str(one.get("name") or found.get("name") or ""),
        author="",
        description="",
        succeeded=True,
        params=_merged(data.get("params")),
        metrics=_merged(data.get("metrics")),
        tags={},
        started=None,
        finished=made,
        commit=str(found["rev"]),
    )


def _merged(files: Mapping[str, Any] | None) -> dict[str, Any]:
    """The values of all files, that of DVC's default parameters first.

    A name that two files share goes, in the later one, by its file's name as well, which is given no dot there: a dot
    says that what follows lies inside.
    """
    merged: dict[str, Any] = {}
    for path, told in sorted((files or {}).items(), key=lambda one: (one[0] != _DEFAULT, one[0])):
        values = told.get("data") if isinstance(told, dict) else None
        for name, value in values.items() if isinstance(values, dict) else ():
            merged[f"{path.replace('.', '_')}:{name}" if name in merged else name] = value
    return merged


def _instant(text: object) -> datetime | None:
    """DVC tells the commit's time without a zone, as this machine's clock has it."""
    try:
        return datetime.fromisoformat(str(text)).astimezone()
    except ValueError:
        return None
