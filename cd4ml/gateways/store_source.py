"""What a query cache is to hold, and where it has entries from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cd4ml.gateways.store_batch import Batch, Stored
from cd4ml.index.record import Entry


@dataclass(frozen=True)
class Wanted:
    """What the cache is to hold: an index commit (or none), and by ref the landed commits that are not folded yet.

    Of each ref: its commit, and LANDING or DRAFT. ``version`` is the program's: what another one judged is judged
    again.
    """

    version: str
    index: str | None
    landed: Mapping[str, tuple[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Changes:
    """From one index commit to another: entries that came (as stored), and ids of those that went."""

    added: Sequence[Stored]
    removed: Sequence[str] = ()


class Source(Protocol):
    """Where entries come from."""

    def batches(self, index: str | None) -> Iterable[Batch]:
        """All of them, and all rows, as ``store_batch.batches`` makes them."""
        ...

    def changes(self, before: str | None, after: str | None) -> Changes | None:
        """What changed; nothing when the two have nothing to do with each other."""
        ...

    def read(self, places: Sequence[tuple[str, str]]) -> Iterable[Entry]:
        """The entries of the index at these (blob id, path), in this order."""
        ...

    def speaking_of(self, index: str, text: bytes) -> Iterable[Entry]:
        """The runs of the index whose entries hold these bytes anywhere, in any order."""
        ...

    def judge(self, ref: str, commit: str, number: int) -> Entry | None:
        """The entry that a landed ref becomes in the fold of that number; nothing when a fold would refuse it."""
        ...
