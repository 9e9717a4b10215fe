"""Files that code of an experiment may have written: read with a limit, and believed no further than JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_json(path: Path, limit: int) -> Any:
    """The JSON value in a regular file of at most ``limit`` bytes; nothing for anything else.

    NaN, infinities, numbers too long and nesting too deep count as anything else.
    """
    try:
        if path.is_symlink() or not path.is_file():
            return None
        with path.open("rb") as stream:
            data = stream.read(limit + 1)
        return None if len(data) > limit else parse_json(data)
    except OSError:
        return None


def parse_json(data: bytes | str) -> Any:
    """The JSON value of a text, or nothing when it is none."""
    try:
        return json.loads(data, parse_constant=_refused)
    except (ValueError, RecursionError):
        return None


def _refused(name: str) -> float:
    raise ValueError(name)
