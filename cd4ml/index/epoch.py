"""A new epoch of the index: what it says of itself, and whether it carries everything over but what was erased.

An epoch is a commit of the index branch that does not follow the one before: its parents are the landed commits
that are kept, its entries are those of the tip that it replaces without the erased records, byte by byte. What is left
of an erased record is its tombstone: a removal record that says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from cd4ml.errors import IntegrityError
from cd4ml.index.envelope import read_envelope
from cd4ml.index.fold import ENTRY_FOLDERS
from cd4ml.index.record import Entry, RemovalRecord
from cd4ml.index.validate import NewerSchemaError

EPOCH_SUBJECT = r"^cd4ml: epoch [1-9][0-9]*$"
"""The first line of the message of a commit that begins an epoch, as an extended regular expression of Git."""

ERASABLE = ("runs/", "imports/")
"""Where the records lie that may be erased."""

LAST_EPOCH = 999_999_999

_MESSAGE = re.compile(
    r"cd4ml: epoch (?P<number>[1-9][0-9]{0,8})\n\n(?:.+\n\n)?"
    r"Epoch: (?P=number)\nReplaces: (?P<replaces>[0-9a-f]{40})\n*"
)


@dataclass(frozen=True)
class Epoch:
    """The number of an epoch (the first index is of epoch 1), and the tip of the index that it replaces."""

    number: int
    replaces: str


def epoch_message(epoch: Epoch, erased: int) -> str:
    """The message of the commit that begins it."""
    what = f"{erased} record{'s' * (erased != 1)} erased"
    return f"cd4ml: epoch {epoch.number}\n\n{what}\n\nEpoch: {epoch.number}\nReplaces: {epoch.replaces}\n"


def parse_message(message: str) -> Epoch | None:
    """What a message says; nothing for one that begins no epoch."""
    found = _MESSAGE.fullmatch(message)
    return Epoch(int(found["number"]), found["replaces"]) if found else None


def entry_files(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The entries among the files of the index branch."""
    return {path: data for path, data in files.items() if path.startswith(ENTRY_FOLDERS)}


def readable(files: Mapping[str, bytes]) -> tuple[Entry, ...]:
    """The entries of these files in fold order, without a later version's. Raises IntegrityError."""
    found = []
    for path, data in files.items():
        try:
            found.append(read_envelope(data, path))
        except NewerSchemaError:
            continue
    return tuple(sorted(found, key=lambda entry: entry.order))


def without(files: Mapping[str, bytes], runs: Iterable[str]) -> dict[str, bytes]:
    """The entries that an epoch keeps when these runs are erased."""
    erased = frozenset(runs)
    return {path: data for path, data in files.items() if not (path.startswith(ERASABLE) and _id(path) in erased)}


def kept_commits(entries: Iterable[Entry]) -> tuple[str, ...]:
    """The landed commits of these entries in fold order, each once: what the epoch keeps alive."""
    ordered = sorted(entries, key=lambda entry: entry.order)
    return tuple(dict.fromkeys(entry.result_commit for entry in ordered))


def problems(old: Mapping[str, bytes], new: Mapping[str, bytes], *, exact: bool) -> tuple[str, ...]:
    """Why the entries ``new`` are not ``old`` carried over, a line each.

    Every old entry is there unchanged, or is of a run that a tombstone among the new ones speaks of.
    Further entries are of later folds than any old one; with ``exact`` there are none.
    """
    return tuple(_problems(entry_files(old), entry_files(new), exact=exact))


def _problems(old: Mapping[str, bytes], new: Mapping[str, bytes], *, exact: bool) -> Iterator[str]:
    erased = _tombstones(new)
    for path in sorted(old):
        if path not in new:
            if not (path.startswith(ERASABLE) and _id(path) in erased):
                yield f"{path}: is gone, and no tombstone says that it was erased"
        elif new[path] != old[path]:
            yield f"{path}: is not what it was"
    last = max((entry.fold for entry in _sound(old)), default=0)
    for path in sorted(new.keys() - old.keys()):
        if exact:
            yield f"{path}: was not there before"
        elif (problem := _not_later(path, new[path], last)) is not None:
            yield problem


def _not_later(path: str, data: bytes, last: int) -> str | None:
    try:
        entry = read_envelope(data, path)
    except NewerSchemaError:
        return None
    except IntegrityError as error:
        return str(error)
    return f"{path}: is of fold {entry.fold}, which was folded before" if entry.fold <= last else None


def _tombstones(files: Mapping[str, bytes]) -> frozenset[str]:
    removals = {path: data for path, data in files.items() if path.startswith("removals/")}
    return frozenset(
        entry.record.run
        for entry in _sound(removals)
        if isinstance(entry.record, RemovalRecord) and entry.record.what == "run"
    )


def _sound(files: Mapping[str, bytes]) -> Iterator[Entry]:
    for path, data in files.items():
        try:
            yield read_envelope(data, path)
        except IntegrityError:
            continue


def _id(path: str) -> str:
    """The id of the record at a path; a run's name begins with its fingerprint."""
    return path.rsplit("/", 1)[-1].rsplit("-", 1)[-1].removesuffix(".json")
