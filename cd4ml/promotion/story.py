"""The primary metric over the index's history, as points of a plot."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

MOST_POINTS = 2000

Outcome = Literal["this", "champion", "other"]


@dataclass(frozen=True)
class Point:
    """The primary metric of a result on the validation side. ``order`` is its place in fold order, from 0."""

    order: int
    value: float
    branch: str
    outcome: Outcome


@dataclass(frozen=True)
class Measured:
    """A result as the index lists it; ``value`` is the metric on the validation side, a finite number."""

    run: str
    branch: str
    value: float


def story(
    measured: Iterable[Measured], this: str = "", champion: str = "", most: int = MOST_POINTS
) -> tuple[Point, ...]:
    """At most ``most`` points of results that are given in fold order; ``this`` and ``champion`` are run ids.

    Of more than that the newest stay, and the two that are named, wherever they stand.
    """
    listed = [
        Point(order, one.value, one.branch, _outcome(one.run, this, champion)) for order, one in enumerate(measured)
    ]
    named = [point for point in listed if point.outcome != "other"]
    others = [point for point in listed if point.outcome == "other"]
    left = max(0, most - len(named))
    return tuple(sorted([*named, *others[len(others) - min(left, len(others)) :]], key=lambda point: point.order))


def _outcome(run: str, this: str, champion: str) -> Outcome:
    if run == this:
        return "this"
    return "champion" if run == champion else "other"
