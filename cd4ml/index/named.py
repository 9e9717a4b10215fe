"""Which rows a name means: a run id, a fingerprint, a branch, or the beginning of one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from cd4ml.errors import UsageError
from cd4ml.index.fields import nearest
from cd4ml.index.history import RemovalEntry
from cd4ml.index.removed import ERASED
from cd4ml.index.rows import Row
from cd4ml.spec.text import listing

MIN_PREFIX = 4
_BEST_FIRST: Mapping[str, int] = MappingProxyType(
    {"result": 0, "replicate": 1, "imported": 2, "attempt": 3, "unknown": 4, "refused": 5}
)


class Shelf(Protocol):
    """Rows, looked up by what people call them."""

    def named(self, name: str) -> tuple[Row, ...]:
        """Those of that run id or fingerprint, in fold order."""
        ...

    def of_branch(self, branch: str) -> tuple[Row, ...]:
        """Those of a branch, in fold order."""
        ...

    def row_branches(self) -> tuple[str, ...]:
        """Every branch that has one, sorted."""
        ...

    def starting(self, prefix: str) -> tuple[str, ...]:
        """Every run id and fingerprint that begins so, sorted."""
        ...


@dataclass(frozen=True)
class RowsAtHand:
    """A shelf of rows in memory."""

    rows: tuple[Row, ...]

    def named(self, name: str) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if name in (row.id, row.fingerprint))

    def of_branch(self, branch: str) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.branch == branch)

    def row_branches(self) -> tuple[str, ...]:
        return tuple(sorted({row.branch for row in self.rows}))

    def starting(self, prefix: str) -> tuple[str, ...]:
        names = {known for row in self.rows for known in (row.id, row.fingerprint or row.id)}
        return tuple(sorted(known for known in names if known.startswith(prefix)))


def tombstone_line(removals: Iterable[RemovalEntry], name: str) -> str:
    """What is left of a run of that id (or a prefix of it) whose record was erased as well; ``""`` for any other."""
    for one in removals:
        removal = one.removal
        if removal.what == ERASED and len(name) >= MIN_PREFIX and removal.run.startswith(name):
            body = removal.body
            return f"{removal.run} was erased at {body['at']} by {body['by']}, as {removal.id} says: {body['reason']}"
    return ""


def find(shelf: Shelf | tuple[Row, ...], name: str) -> tuple[Row, ...]:
    """The rows that a name means, the best answer first.

    A run id or a unique prefix (from 4 characters) of an id or a fingerprint gives every row of that run or
    fingerprint, unless a branch is called that without the first part of its name. A branch, with or without the first
    part of its name, gives the one row that answers its latest commit: of the head rather than of the merge result, a
    success rather than a failure, and then the newest in fold order. Raises UsageError when nothing or more than one
    thing has that name.
    """
    shelf = RowsAtHand(shelf) if isinstance(shelf, tuple) else shelf
    exact = shelf.named(name)
    if exact:
        return _best_first(exact)
    branches = shelf.row_branches()
    named = [branch for branch in branches if name and name in (branch, branch.partition("/")[2])]
    named = [name] if name in named else named
    if len(named) > 1:
        raise UsageError(f"{name!r} may be any of {listing(named)}")
    # whoever names a branch so has no say in which run a prefix means; by its whole name the branch can be had
    if named and name not in named and len(name) >= MIN_PREFIX and (runs := shelf.starting(name.lower())):
        raise UsageError(f"{name!r} may be the branch {named[0]}, or {listing([known[:16] for known in runs])}")
    if named:
        return (_answer_of_branch(shelf.of_branch(named[0])),)
    return _by_prefix(shelf, name, branches)


def _by_prefix(shelf: Shelf, name: str, branches: tuple[str, ...]) -> tuple[Row, ...]:
    prefix = name.lower()
    names = shelf.starting(prefix)
    if len(prefix) >= MIN_PREFIX and len(names) == 1:
        return _best_first(shelf.named(names[0]))
    if len(prefix) >= MIN_PREFIX and names:
        raise UsageError(f"{name!r} begins the names of several runs: {listing([known[:16] for known in names])}")
    if names:
        raise UsageError(f"{name!r} is too short: give at least {MIN_PREFIX} characters")
    short = {branch.partition("/")[2]: branch for branch in branches}
    near = nearest(name, [*branches, *short])
    hint = f"; did you mean {short.get(near, near)}?" if near else ""
    raise UsageError(f"no run is named {name!r}{hint}")


def _best_first(found: tuple[Row, ...]) -> tuple[Row, ...]:
    return tuple(sorted(found, key=lambda row: _BEST_FIRST[row.role]))


def _answer_of_branch(found: tuple[Row, ...]) -> Row:
    first_fold: dict[str, tuple[int, str, str]] = {}
    for row in found:
        key = (row.fold, row.committed or "", row.commit)
        first_fold[row.commit] = min(key, first_fold.get(row.commit, key))
    latest = max(first_fold, key=lambda commit: first_fold[commit])
    return min(
        (row for row in found if row.commit == latest),
        key=lambda row: (row.side != "head", _BEST_FIRST[row.role], -row.fold),
    )
