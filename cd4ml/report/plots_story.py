"""The primary metric over the index's history, with this run and the champion marked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cd4ml.promotion.review import Review
from cd4ml.promotion.story import Point
from cd4ml.report.plots_canvas import (
    CHALLENGER,
    CHAMPION,
    HUGE,
    INK,
    SMALL,
    TEXT,
    TITLE,
    WIDTH,
    Sheet,
    fitted,
    frame,
    mark,
    numbers,
    rule,
    say,
    shown,
    span,
)
from cd4ml.report.visible import plain_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FAR = 1.5
"""A result that lies further from the middle half than this many times its width is drawn at the edge (Tukey 1977)."""

_MOST_DRAWN = 4000


def history(story: Sequence[Point], review: Review) -> tuple[str, str, bytes] | None:
    """Every result in fold order, the best so far as a line. Nothing with fewer than two results to show."""
    drawn = sorted((one for one in story if abs(one.value) < HUGE), key=lambda one: one.order)
    if len(drawn) < 2:
        return None
    drawn = _thinned(drawn)
    direction = review.of_primary.direction if review.of_primary else None
    low, high = _limits(drawn, direction)
    name = review.primary or "the primary metric"
    metric, alike = shown(name), fitted(name, 300, TITLE)
    better = {"minimize": ", lower is better", "maximize": ", higher is better"}.get(direction or "", "")
    sheet = Sheet(300)
    sheet.title(f"{alike} of every result so far{better}")
    axes = sheet.panel(64, 62, WIDTH - 64 - 150, 186)
    first, last = drawn[0].order, drawn[-1].order
    frame(axes, span([first, last], 0.02), (low, high), (8, 5))
    ticks = [float(place) for place in axes.get_xticks() if place == int(place)]
    mark(axes.xaxis, ticks, numbers(ticks))
    rule(axes)
    axes.set_xlabel("result, in the order of the index")
    sheet.write(12, 36, f"{fitted(name, 150, SMALL)} (validation side)", size=SMALL)
    beyond = sum(not low <= one.value <= high for one in drawn)
    legend = [
        "● a result",
        *(["— the best so far"] if direction else ()),
        *([f"△ beyond the axis: {beyond}"] if beyond else ()),
    ]
    sheet.write(WIDTH - 150, 36, "     ".join(legend), size=SMALL, ha="right")
    if direction:
        _best_so_far(axes, drawn, direction, (low, high))
    _dots(axes, drawn, (low, high))
    told = _marks(axes, drawn, (low, high))
    return f"{metric} over the history", _alt(drawn, metric, better, told), sheet.png()


def _thinned(points: list[Point]) -> list[Point]:
    """At most some thousands, evenly taken; those that are marked stay."""
    if len(points) <= _MOST_DRAWN:
        return points
    step = len(points) / _MOST_DRAWN
    kept = {int(number * step) for number in range(_MOST_DRAWN)}
    return [one for place, one in enumerate(points) if place in kept or one.outcome != "other"]


def _limits(points: Sequence[Point], direction: str | None) -> tuple[float, float]:
    """Of the axis: all that is near the middle half; the best, this run and the champion if not absurdly far."""
    values = sorted(one.value for one in points)
    lower, middle, upper = (values[int(share * (len(values) - 1))] for share in (0.25, 0.5, 0.75))
    reach = _FAR * 2 * max(upper - lower, 0.02 * abs(middle))
    near = [value for value in values if lower - reach <= value <= upper + reach]
    best = {"minimize": values[:1], "maximize": values[-1:]}.get(direction or "", [])
    marked = [*best, *(one.value for one in points if one.outcome != "other")]
    return span([*near, *(value for value in marked if abs(value - middle) <= 10 * reach)], 0.08)


def _within(value: float, limits: tuple[float, float]) -> float:
    return min(max(value, limits[0]), limits[1])


def _best_so_far(axes: Axes, points: Sequence[Point], direction: str, limits: tuple[float, float]) -> None:
    sign = 1 if direction == "maximize" else -1
    best, line = -float("inf"), []
    for one in points:
        best = max(best, sign * one.value)
        line.append(_within(sign * best, limits))
    orders = [one.order for one in points]
    axes.step(orders, line, where="post", color=INK, linewidth=1.2)


def _dots(axes: Axes, points: Sequence[Point], limits: tuple[float, float]) -> None:
    others = [one for one in points if one.outcome == "other"]
    for marker, chosen in (
        (".", [one for one in others if limits[0] <= one.value <= limits[1]]),
        ("^", [one for one in others if one.value > limits[1]]),
        ("v", [one for one in others if one.value < limits[0]]),
    ):
        where = [one.order for one in chosen], [_within(one.value, limits) for one in chosen]
        size = 30 if marker == "." and len(others) < 300 else 10 if marker == "." else 24
        face = INK if marker == "." else "none"
        axes.scatter(*where, s=size, marker=marker, facecolors=face, edgecolors=INK, linewidths=0.8, clip_on=False)


def _marks(axes: Axes, points: Sequence[Point], limits: tuple[float, float]) -> str:
    """This run and the champion, with their numbers at the right; gives the same in words."""
    room = (limits[1] - limits[0]) * 0.09
    told: list[str] = []
    taken: list[float] = []
    right = axes.get_xlim()[1]
    for outcome, name, colour in (("this", "this run", CHALLENGER), ("champion", "champion", CHAMPION)):
        found = [one for one in points if one.outcome == outcome]
        if not found:
            continue
        one = found[-1]
        y = _within(one.value, limits)
        filled = outcome == "this"
        axes.plot([one.order, right], [y, y], color=colour, linewidth=1, linestyle="-" if filled else (0, (4, 2)))
        face: dict[str, Any] = {"facecolors": colour if filled else "none", "edgecolors": colour}
        marker = "D" if filled else "s"
        axes.scatter([one.order], [y], s=60, marker=marker, linewidths=1.8, zorder=4, clip_on=False, **face)
        place = y
        while any(abs(place - other) < room for other in taken):
            place += room if y >= taken[0] else -room
        taken.append(place)
        number = plain_number(one.value)
        say(axes, right, place, f"  {'◆' if filled else '□'} {name} {number}", colour=colour, size=TEXT, va="center")
        told.append(f"{name} {number}")
    return ", ".join(told)


def _alt(points: Sequence[Point], metric: str, better: str, told: str) -> str:
    values = [one.value for one in points]
    reach = f"from {plain_number(float(min(values)))} to {plain_number(float(max(values)))}"
    place = _place(points, better)
    parts = (f"{metric} of {len(points)} results{better}, {reach}", told, place)
    return "; ".join(part for part in parts if part) + "."


def _place(points: Sequence[Point], better: str) -> str:
    """How many results are better than this run."""
    this = next((one.value for one in points if one.outcome == "this"), None)
    if this is None or not better:
        return ""
    sign = 1 if "higher" in better else -1
    count = sum(sign * one.value > sign * this for one in points)
    return f"{count} of them better than this run"
