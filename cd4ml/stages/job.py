"""What a stage is handed, and how it leaves files behind."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cd4ml.errors import StageFailed
from cd4ml.spec.experiment import Spec
from cd4ml.spec.pin import Pin


@dataclass(frozen=True)
class Job:
    """One stage's surroundings: ``root`` of the tree whose paths ``spec.pipeline`` names, ``raw_dir`` where raw
    source files lie under their SHA-256, what is asked for, the pins by source name, and the stage's own name.
    """

    root: Path
    raw_dir: Path
    spec: Spec
    pins: Mapping[str, Pin]
    name: str = ""


def put(root: Path, relative: str, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a new file, then rename it to ``root/relative``: no reader ever sees half of it.

    Makes the folders above it. Raises OSError when the disk does not take it.
    """
    target = root / relative
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    os.close(descriptor)
    scratch = Path(name)
    try:
        write(scratch)
        scratch.chmod(0o644)
        scratch.replace(target)
    finally:
        scratch.unlink(missing_ok=True)


def put_bytes(root: Path, relative: str, content: bytes) -> None:
    """``put`` for bytes at hand."""
    put(root, relative, lambda path: _fill(path, content))


def put_json(root: Path, relative: str, value: Any) -> None:
    """``put`` for a JSON value: sorted keys, indented, a final newline. Raises ValueError for NaN and infinities."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    put_bytes(root, relative, text.encode())


def read_json(root: Path, relative: str, stage: str) -> Any:
    """The JSON value in a file that an earlier stage wrote. Raises StageFailed when it is not one."""
    try:
        return json.loads((root / relative).read_bytes())
    except (OSError, ValueError) as error:
        raise StageFailed(stage, f"{relative} cannot be read: {type(error).__name__}") from error


def _fill(path: Path, content: bytes) -> None:
    path.write_bytes(content)
