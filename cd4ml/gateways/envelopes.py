"""Reading the envelopes of an index, where there are many: in further processes, while the caller works with the first.

An envelope takes as long to check as its rows take to write, so a second processor halves what a rebuild of the
query cache takes. What cannot be read there is left to the caller's own process, which says what is wrong with it.
"""

from __future__ import annotations

import marshal
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from cd4ml.errors import IntegrityError, ToolError
from cd4ml.gateways.process import run
from cd4ml.index.envelope import read_envelope
from cd4ml.index.record import Entry, as_record

_FEW = 4 << 20
_MANY = 12 << 20
"""Bytes that one process reads; of fewer than ``_FEW`` in all none is started."""

_AT_ONCE = 2

Part = list[tuple[str, bytes]]
"""Paths and the bytes there."""


def read_envelopes(files: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, bytes, Entry | None]]:
    """Path, bytes and entry of each envelope, in the order given; no entry where the bytes are to be judged again."""
    waiting: deque[tuple[Part, Future[list[Entry | None]]]] = deque()
    with ThreadPoolExecutor(_AT_ONCE) as apart:
        for part in _parts(files):
            if not waiting and sum(len(data) for _, data in part) < _FEW:
                yield from _together(part, _read(part))
                continue
            waiting.append((part, apart.submit(_read_apart, part)))
            if len(waiting) > _AT_ONCE:
                first, coming = waiting.popleft()
                yield from _together(first, coming.result())
        for part, coming in waiting:
            yield from _together(part, coming.result())


def _parts(files: Iterable[tuple[str, bytes]]) -> Iterator[Part]:
    part: Part = []
    size = 0
    for path, data in files:
        part.append((path, data))
        size += len(data)
        if size >= _MANY:
            yield part
            part, size = [], 0
    if part:
        yield part


def _together(part: Part, entries: list[Entry | None]) -> Iterator[tuple[str, bytes, Entry | None]]:
    return ((path, data, entry) for (path, data), entry in zip(part, entries, strict=True))


def _read(part: Part) -> list[Entry | None]:
    return [_entry(path, data) for path, data in part]


def _entry(path: str, data: bytes) -> Entry | None:
    try:
        return read_envelope(data, path)
    except IntegrityError:
        return None


def _read_apart(part: Part) -> list[Entry | None]:
    try:
        command = [sys.executable, "-P", "-m", "cd4ml.gateways.envelopes"]
        told = marshal.loads(run(command, cwd=Path("/"), stdin=marshal.dumps(part)).stdout)  # noqa: S302  # our own process
    except (ToolError, ValueError, EOFError, TypeError):
        return _read(part)
    return [Entry(as_record(one[0]), *one[1:]) if one else None for one in told]


def _main() -> None:
    part: Part = marshal.loads(sys.stdin.buffer.read())  # noqa: S302  # of the process that started this one
    told = [
        (one.record.body, one.record_sha256, one.result_commit, one.landed_by, one.fold) if one else None
        for one in _read(part)
    ]
    sys.stdout.buffer.write(marshal.dumps(told))


if __name__ == "__main__":
    _main()
