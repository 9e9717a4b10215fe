"""Dotted paths into JSON values, as people write them in a filter.

``model.estimator.max_depth`` names a key of a key of a key; ``steps.0`` the first element of a list; a key
that holds anything but letters, digits, ``_`` and ``-`` is quoted: ``metrics.validation."p90 error"``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

Path = tuple[str, ...]

_PLAIN = re.compile(r"[\w-]+")
_SEGMENT = re.compile(r'"(?P<double>(?:[^"]|"")*+)"|`(?P<back>[^`]*)`|(?P<plain>[\w-]+)')
_PATH = re.compile(r'(?:"(?:[^"]|"")*+"|`[^`]*`|[\w-]+)(?:\.(?:"(?:[^"]|"")*+"|`[^`]*`|[\w-]+))*+')


@lru_cache(maxsize=4096)
def path_text(path: Path) -> str:
    """The one written form of a path; ``split_path`` is its inverse."""
    return ".".join(map(key_text, path))


@lru_cache(maxsize=4096)
def key_text(key: str) -> str:
    """A key as a written path spells it."""
    return key if _PLAIN.fullmatch(key) else '"' + key.replace('"', '""') + '"'


def split_path(text: str) -> Path:
    """The keys of a written path. Raises ValueError when it is none."""
    if not _PATH.fullmatch(text):
        raise ValueError(f"{text!r} is not a path")
    return tuple(
        match["double"].replace('""', '"') if match["double"] is not None else match["back"] or match["plain"] or ""
        for match in _SEGMENT.finditer(text)
    )


def path_end(text: str, start: int) -> int:
    """Where the written path that begins at ``start`` ends; ``start`` itself where none does."""
    match = _PATH.match(text, start)
    return match.end() if match else start


def leaves(place: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Every written path from ``place`` down that holds something, containers included, ``null`` left out.

    A container is given as ``None``: it is there, and compares with nothing.
    """
    stack = [(place, value)]
    while stack:
        place, value = stack.pop()
        if isinstance(value, Mapping):
            yield place, None
            stack.extend((f"{place}.{key_text(key)}", inner) for key, inner in value.items())
        elif isinstance(value, list | tuple):
            yield place, None
            stack.extend((f"{place}.{position}", inner) for position, inner in enumerate(value))
        elif value is not None:
            yield place, value
