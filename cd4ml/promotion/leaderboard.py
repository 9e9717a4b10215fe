"""Which runs are best, among those that were measured alike.

A number ranks only beside numbers of the same metric, said of the same task, computed on the same rows. So
there is a list for each such thing, and never one over several of them. Runs are taken in one pass, and let go again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from cd4ml.index.paths import Path
from cd4ml.index.record import RunRecord
from cd4ml.promotion.compare import direction_of, finite, meaning_of, side_digest
from cd4ml.spec.canonical import digest
from cd4ml.spec.experiment import Direction

BoardSide = Literal["validation", "test"]


@dataclass(frozen=True, order=True)
class BoardKey:
    """What runs of one list have in common.

    ``rows`` is the digest of the rows of the side that they were measured on; ``task``, ``positive`` and ``target``
    are as configured; ``own`` is a digest of how a metric of the project's own was declared and of the code that
    computed it, ``""`` for cd4ml's metrics.
    """

    metric: str
    direction: Direction
    side: BoardSide
    rows: str
    task: str
    target: str
    positive: str
    own: str


@dataclass(frozen=True)
class Place:
    """A result on a list: ``value`` of the metric, and ``order``, its place in fold order.

    It holds what names the run and not its record, since there may be very many. ``replicates`` is how many later
    runs of the same fingerprint succeeded.
    """

    id: str
    fingerprint: str
    branch: str
    commit: str
    model_digest: str
    value: float
    order: tuple[int, str]
    replicates: int = 0


@dataclass(frozen=True)
class Board:
    """One list, the best first. ``rows`` is how many rows the side has, as the first of its runs says.

    ``sources`` are the digests of the data, by source, of the runs; several where a source was pinned anew and the
    side stayed as it was.
    """

    key: BoardKey
    rows: int | None
    sources: Mapping[str, tuple[str, ...]]
    places: tuple[Place, ...]


@dataclass(frozen=True)
class Leaderboard:
    """Every list, the one whose newest result is newest first; ``unranked`` counts succeeded runs without a place."""

    boards: tuple[Board, ...]
    unranked: int


@dataclass(frozen=True)
class Measured:
    """How runs were measured: their list, how many rows its side has, and the digests of the data by source."""

    key: BoardKey
    rows: int | None
    sources: Mapping[str, str]


DECIDES: tuple[Path, ...] = (
    ("primary",),
    ("split",),
    ("data",),
    ("judge",),
    ("params", "evaluation"),
    ("params", "data"),
)
"""All of a record that ``measured_of`` looks at: where it is equal, so is the answer."""


class Candidate(NamedTuple):
    """A succeeded run as far as a list needs it; ``value`` is None where the metric is missing or no finite number."""

    id: str
    fingerprint: str
    branch: str
    commit: str
    model_digest: str
    order: tuple[int, str]
    measured: Measured | None
    value: float | None


def key_of(run: RunRecord, side: BoardSide = "validation", metric: str = "") -> BoardKey | None:
    """The list on which a run has a place: by its primary metric, or the one named. None where it has none.

    A failed run, one whose record does not say which rows the side had, a metric that is missing, no finite number
    or of no known direction: none of these ranks anywhere.
    """
    measured = measured_of(run, side, metric) if run.succeeded else None
    return measured.key if measured and value_of(run, side, measured.key.metric) is not None else None


def measured_of(run: RunRecord, side: BoardSide, metric: str = "") -> Measured | None:
    """How a run was measured, and None where that is not known, whatever came out. See ``DECIDES``."""
    name = metric or str((run.body.get("primary") or {}).get("metric") or "")
    rows, direction = side_digest(run, side), direction_of(run, name)
    if rows is None or direction is None:
        return None
    meaning = meaning_of(run, name)
    own = {key: value for key, value in meaning.items() if key not in _PLAIN and value}
    task, target, positive = (_text(meaning[key]) for key in _PLAIN)
    key = BoardKey(name, direction, side, rows, task, target, positive, digest(own) if own else "")
    sources = {source: str(pin["digest"]) for source, pin in (run.body.get("data") or {}).items()}
    return Measured(key, run.body["split"][side].get("rows"), sources)


_PLAIN = ("evaluation.task", "data.target", "evaluation.positive")


def _text(value: Any) -> str:
    """A record's parameters may be of any shape."""
    return value if isinstance(value, str) else digest(value)


def value_of(run: RunRecord, side: str, metric: str) -> float | None:
    """The metric of a run on a side; None where it is missing or no finite number."""
    return finite((run.metrics.get(side) or {}).get(metric))


def better(one: Place, other: Place, direction: Direction) -> bool:
    """Does ``one`` stand before ``other``? Of equals the earlier in fold order does, so that there is no tie."""
    return rank(one, direction) < rank(other, direction)


def rank(place: Place, direction: Direction) -> tuple[float, tuple[int, str]]:
    """What places of one list are sorted by, ascending."""
    return (place.value if direction == "minimize" else -place.value, place.order)


def ranked(candidates: Iterable[Candidate]) -> Leaderboard:
    """The lists of these runs, in one pass; of n runs in O(n log n). Those of a fingerprint come in fold order.

    Of a fingerprint the first success has the place, as it is the result; what was run again of it is counted there.
    """
    first: dict[str, BoardKey | None] = {}
    places: dict[BoardKey, dict[str, Place]] = {}
    sources: dict[BoardKey, dict[str, dict[str, None]]] = {}
    counts: dict[BoardKey, int | None] = {}
    unranked = 0
    for one in candidates:
        if one.fingerprint in first:
            known = first[one.fingerprint]
            if known is not None:
                place = places[known][one.fingerprint]
                places[known][one.fingerprint] = replace(place, replicates=place.replicates + 1)
            continue
        measured = one.measured if one.value is not None else None
        key = first[one.fingerprint] = measured.key if measured else None
        if measured is None or key is None or one.value is None:
            unranked += 1
            continue
        place = Place(one.id, one.fingerprint, one.branch, one.commit, one.model_digest, one.value, one.order)
        places.setdefault(key, {})[one.fingerprint] = place
        counts.setdefault(key, measured.rows)
        seen = sources.setdefault(key, {})
        for name, source in measured.sources.items():
            seen.setdefault(name, {})[source] = None
    boards = [_board(key, counts[key], places[key].values(), sources[key]) for key in places]
    newest = {board.key: max(place.order for place in board.places) for board in boards}
    boards.sort(key=lambda board: (newest[board.key], board.key), reverse=True)
    return Leaderboard(tuple(boards), unranked)


def _board(
    key: BoardKey, rows: int | None, places: Iterable[Place], sources: Mapping[str, Mapping[str, None]]
) -> Board:
    ordered = tuple(sorted(places, key=lambda place: rank(place, key.direction)))
    return Board(key, rows, {name: tuple(digests) for name, digests in sorted(sources.items())}, ordered)
