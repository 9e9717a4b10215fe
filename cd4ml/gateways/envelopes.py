"""Reading the envelopes of a whole index: in further processes, which also make the rows of the query cache of them.

To check an envelope and to make rows of it takes longer than to read it or to write them, and needs nothing but what
the index says of that run. What cannot be read there is left to the caller's own process, which says what is wrong.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import marshal
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from cd4ml.errors import IntegrityError, ToolError
from cd4ml.gateways.process import Helper, read_message, write_message
from cd4ml.gateways.store_batch import WITHOUT_REFERENCES, Batch, Fragments, Others, Stored, batch_of_runs
from cd4ml.index.envelope import read_envelope
from cd4ml.index.fold import run_folder
from cd4ml.index.record import Entry, RunRecord, as_record

if TYPE_CHECKING:
    from cd4ml.gateways.git.objects import Place

File = tuple[str, str, "Place"]
"""Path, id of the blob, and where the bytes of an envelope lie."""

Judge = Callable[[bytes, str], Entry | None]
"""Reads an envelope; nothing for a later version's. Raises IntegrityError."""

Made = TypeVar("Made")

_PART = 3 << 20
"""Bytes that a process is given at once."""
_MOST_PROCESSES = 4
_MOST_FRAGMENTS = 50_000
"""So many fragments a process keeps in mind from part to part."""


def _parts(files: Iterable[File]) -> Iterator[list[File]]:
    """Files in parts of about the same size, runs or none; runs of one fingerprint are never parted."""
    part: list[File] = []
    folder, size = "", 0
    for file in files:
        before, folder = folder, run_folder(file[0])
        if (part and (not before) != (not folder)) or (size >= _PART and (folder != before or not folder)):
            yield part
            part, size = [], 0
        part.append(file)
        size += file[2].size
    if part:
        yield part


def _holds_runs(part: list[File]) -> bool:
    return bool(run_folder(part[0][0]))


def _bytes_at(spools: Sequence[int], place: tuple[int, int, int]) -> bytes:
    file, start, size = place
    return os.pread(spools[file], size, start)


class Readers:
    """Further processes that make batches, each with a thread that speaks with it; they end with the block."""

    def __init__(self, spools: Sequence[int], judge: Judge) -> None:
        """Start them. What they are to read will lie in the open files ``spools``."""
        self._spools, self._judge = spools, judge
        count = min(_MOST_PROCESSES, _processors())
        self._threads = ThreadPoolExecutor(count)
        self._free: SimpleQueue[Helper | None] = SimpleQueue()
        self._all: list[Helper] = []
        for _ in range(count):
            helper = _started(spools) if count > 1 else None
            self._free.put(helper)
            self._all += [helper] if helper else []

    def __enter__(self) -> Readers:
        return self

    def __exit__(self, *_: object) -> None:
        for helper in self._all:
            helper.close()
        self._threads.shutdown(cancel_futures=True)

    def batches(self, files: Iterable[File]) -> Iterator[Batch]:
        """What ``store_batch.batches`` makes of an index.

        ``files`` are those that hold no run first, then the runs, all of one fingerprint together. Raises what
        ``judge`` does of an envelope that is not sound.
        """
        others = Others()
        for is_run, parts in itertools.groupby(_parts(files), key=_holds_runs):
            if is_run:
                yield from self._each(parts, lambda helper, part: self._rows(helper, part, others))
                continue
            for stored in self._each(parts, self._entries):
                batch = Batch()
                for one in stored:
                    batch.entry(one)
                    others.add(one.entry)
                yield batch
        yield from others.without_run()

    def _each(self, parts: Iterable[list[File]], make: Callable[[Helper | None, list[File]], Made]) -> Iterator[Made]:
        """What is made of each part, in their order, a few parts ahead."""
        waiting: deque[Future[Made]] = deque()
        for part in parts:
            waiting.append(self._threads.submit(self._made, make, part))
            if len(waiting) > len(self._all) + 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _made(self, make: Callable[[Helper | None, list[File]], Made], part: list[File]) -> Made:
        helper = self._free.get()
        try:
            return make(helper, part)
        finally:
            self._free.put(helper)

    def _entries(self, helper: Helper | None, part: list[File]) -> list[Stored]:
        """The entries of these files that this version can read."""
        told = _asked(helper, "entries", _asking(part))
        if told is None:
            return self._here(part)
        return [
            Stored(entry, file[1])
            for file, one in zip(part, told, strict=True)
            if (entry := _entry_of(one) if one else self._judged(file)) is not None
        ]

    def _rows(self, helper: Helper | None, part: list[File], others: Others) -> Batch:
        """The entries and rows of these runs."""
        told = _asked(helper, "runs", _asking(part))
        if told is None or None in told:
            stored = self._here(part)
            return batch_of_runs(stored, others.speaking_of(map(_ran, stored)))
        packed = _asked(helper, "rows", [_told(entry) for entry in others.speaking_of(told)])
        with contextlib.suppress(ValueError, EOFError, TypeError):
            return Batch.unpacked(packed)
        stored = self._here(part)
        return batch_of_runs(stored, others.speaking_of(told))

    def _here(self, part: list[File]) -> list[Stored]:
        """The same in this process."""
        return [Stored(entry, file[1]) for file in part if (entry := self._judged(file)) is not None]

    def _judged(self, file: File) -> Entry | None:
        path, _, place = file
        return self._judge(_bytes_at(self._spools, place), path)


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _started(spools: Sequence[int]) -> Helper | None:
    try:
        return Helper([sys.executable, "-P", "-m", __name__, *map(str, spools)], spools)
    except ToolError:
        return None


def _asked(helper: Helper | None, what: str, value: Any) -> Any:
    """The answer; nothing where there is none to be had."""
    if helper is None:
        return None
    try:
        return marshal.loads(helper.ask(marshal.dumps((what, value), WITHOUT_REFERENCES)))  # noqa: S302  # our own process
    except (ToolError, ValueError, EOFError, TypeError):
        return None


def _asking(part: list[File]) -> list[tuple[str, str, tuple[int, ...]]]:
    return [(path, blob, tuple(place)) for path, blob, place in part]


def _told(entry: Entry) -> tuple[Any, ...]:
    return (entry.record.body, entry.record_sha256, entry.result_commit, entry.landed_by, entry.fold)


def _entry_of(told: tuple[Any, ...]) -> Entry:
    return Entry(as_record(told[0]), *told[1:])


def _ran(stored: Stored) -> tuple[str, str, str]:
    record = stored.entry.record
    assert isinstance(record, RunRecord)  # noqa: S101  # by its path
    return record.id, record.branch, record.commit


# ── in the further process ───────────────────────────────────────────────────────────────────────────────────────


def _entry(path: str, data: bytes) -> Entry | None:
    try:
        return read_envelope(data, path)
    except IntegrityError:
        return None


def _answer(requests: BinaryIO, answers: BinaryIO, spools: Sequence[int]) -> None:
    """Answer until there are no further requests."""
    made: Fragments = {}
    runs: list[Stored] = []
    while (request := read_message(requests)) is not None:
        what, value = marshal.loads(request)  # noqa: S302  # of the process that started this one
        if what == "entries":
            entries = [_entry(path, _bytes_at(spools, place)) for path, _, place in value]
            answer: Any = [_told(entry) if entry else None for entry in entries]
        elif what == "runs":
            read = [(_entry(path, _bytes_at(spools, place)), blob) for path, blob, place in value]
            runs = [Stored(entry, blob) for entry, blob in read if entry]
            answer = [_ran(Stored(entry)) if entry else None for entry, _ in read]
        else:
            answer = batch_of_runs(runs, [_entry_of(one) for one in value], made).packed()
            if sum(map(len, made.values())) > _MOST_FRAGMENTS:
                made.clear()
        write_message(answers, marshal.dumps(answer, WITHOUT_REFERENCES))


if __name__ == "__main__":
    gc.disable()  # nothing that is made here is in a cycle
    _answer(sys.stdin.buffer, sys.stdout.buffer, [int(number) for number in sys.argv[1:]])
