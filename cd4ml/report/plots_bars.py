"""Plots of a few named numbers: how far metrics moved, how much features matter, and how a model learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cd4ml.promotion.review import Interval, MetricJudged, Review
from cd4ml.report.plots_canvas import (
    CHALLENGER,
    CHALLENGER_LINE,
    CHAMPION_LINE,
    HUGE,
    INK,
    SMALL,
    TEXT,
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

Drawn = tuple[str, str, bytes]
"""A plot's title, its text and its image."""

MOST_METRICS, MOST_SLICES, MOST_FEATURES, MOST_CURVES = 12, 6, 20, 2
_ROW = 22


@dataclass(frozen=True)
class _Moved:
    """A number before and after; change and interval as shares of what it was, turned so that more is better."""

    name: str
    before: float
    after: float
    change: float
    low: float
    high: float
    standing: str


def intervals(review: Review) -> Drawn | None:
    """How each metric moved against the champion, with its interval; slices that got worse below."""
    metrics = sorted(review.metrics, key=lambda one: one.metric != review.primary)
    found = [
        _moved(one.metric, one.direction, one.champion, one.challenger, one.interval, one.standing) for one in metrics
    ]
    moved = [one for one in found if one]
    if not moved:
        return None
    slices = [one for one in _slices(review, metrics) if one]
    upper, lower = moved[:MOST_METRICS], slices[:MOST_SLICES]
    count = len(upper) + (len(lower) + 1 if lower else 0)
    sheet = Sheet(62 + _ROW * count + 52)
    sheet.title(f"Change against the champion, {review.confidence * 100:.4g} % intervals")
    left_out = len(metrics) - len(upper) + len(slices) - len(lower)
    more = f"; {left_out} more not shown" if left_out else ""
    sheet.write(12, 34, f"● not explained by chance   ○ may be chance{more}", size=SMALL)
    axes = sheet.panel(200, 58, WIDTH - 200 - 230, _ROW * count + 4)
    _forest(axes, upper, lower, review.primary)
    return "Change of the metrics", _told(moved, review), sheet.png()


def _slices(review: Review, metrics: Sequence[MetricJudged]) -> list[_Moved | None]:
    directions = {one.metric: one.direction for one in metrics}
    names = [f"{fitted(one.column, 86)} = {fitted(one.value, 80)}" for one in review.slices]
    return [
        _moved(name, directions.get(one.metric), one.champion, one.challenger, one.interval, one.standing)
        for name, one in zip(names, review.slices, strict=True)
    ]


def _moved(
    name: str,
    direction: str | None,
    champion: float | None,
    challenger: float | None,
    interval: Interval | None,
    standing: str,
) -> _Moved | None:
    """Nothing where a part is missing, or the champion's value is nothing to measure by."""
    if direction is None or champion is None or challenger is None or interval is None:
        return None
    unit = abs(champion) * (1 if direction == "maximize" else -1)
    if not 1 / HUGE < abs(unit) < HUGE or not abs(challenger) < HUGE:
        return None
    low, high = sorted((interval.low / unit, interval.high / unit))
    change = (challenger - champion) / unit
    sound = all(abs(number) < HUGE for number in (change, low, high))
    return _Moved(name, float(champion), float(challenger), change, low, high, standing) if sound else None


def _forest(axes: Axes, metrics: Sequence[_Moved], slices: Sequence[_Moved], primary: str) -> None:
    """A line a row: a whisker for the interval, a filled mark where chance does not explain the change."""
    rows = [*metrics, *slices]
    places = [*range(len(metrics)), *(len(metrics) + 1 + place for place in range(len(slices)))]
    reach = 1.08 * _reach(rows)
    frame(axes, (-reach, reach), (places[-1] + 0.6, -0.6), (6, 0))
    axes.spines["left"].set_visible(False)
    rule(axes, across=False, along=True)
    axes.axvline(0, color=INK, linewidth=1.2)
    ticks = [float(place) for place in axes.get_xticks()]
    mark(axes.xaxis, ticks, _shares(ticks))
    axes.set_xlabel("← worse      as a share of the champion's value      better →")
    if slices:
        say(axes, -1.05 * reach, len(metrics), "slices that got worse:", ha="right", va="center")
    for place, row in zip(places, rows, strict=True):
        is_slice = place > len(metrics)
        weight = "bold" if row.name == primary and not is_slice else "normal"
        _whisker(axes, place, row, reach, "v" if is_slice else "o")
        how: dict[str, Any] = {"va": "center", "size": TEXT, "fontweight": weight}
        say(axes, -1.05 * reach, place, row.name if is_slice else fitted(row.name, 180), ha="right", **how)
        word = "no real diff." if row.standing == "no real difference" else row.standing
        say(axes, 1.04 * reach, place, f"{plain_number(row.before)} → {plain_number(row.after)}  {word}", **how)


def _reach(rows: Sequence[_Moved]) -> float:
    """To which side the axis goes: one row that is far wider than the others must not press them together."""
    ends = sorted(max(abs(row.low), abs(row.high), abs(row.change)) for row in rows)
    return max(min(ends[-1], max(4 * ends[len(ends) // 2], 1.5 * abs(rows[0].change))), 1e-12)


def _whisker(axes: Axes, place: float, row: _Moved, reach: float, shape: str) -> None:
    """An interval with its ends, arrows where it goes on beyond the axis, and the change itself."""
    low, high = (min(max(end, -reach), reach) for end in (row.low, row.high))
    axes.plot([low, high], [place, place], color=CHALLENGER, linewidth=2, solid_capstyle="butt")
    for end, whole, arrow in ((low, row.low, "<"), (high, row.high, ">")):
        cap = "|" if end == whole else arrow
        axes.plot([end], [place], color=CHALLENGER, marker=cap, markersize=6, markeredgewidth=1.6, clip_on=False)
    if abs(row.change) <= reach:
        face = CHALLENGER if row.standing in ("better", "worse") else "none"
        axes.plot([row.change], [place], marker=shape, markersize=7, markerfacecolor=face, color=CHALLENGER, zorder=4)


def _share(value: float) -> str:
    """A share in percent, without a sign; one that is far beyond any percentage as a multiple."""
    return f"{abs(value):.1%}".replace("%", " %") if abs(value) < 100 else f"{abs(value):.1e} times"


def _shares(ticks: Sequence[float]) -> list[str]:
    """What the ticks say, without a sign: to the left it is worse, to the right better."""
    large = max(map(abs, ticks), default=0.0) >= 100
    texts = numbers([abs(tick) if large else abs(tick) * 100 for tick in ticks])
    unit = " times" if large else " %"
    return [text + unit if tick else "0" for text, tick in zip(texts, ticks, strict=True)]


def _told(moved: Sequence[_Moved], review: Review) -> str:
    """The same in words, the first metric in full."""
    first = moved[0]
    low, high = (f"{_share(end)} {'better' if end >= 0 else 'worse'}" for end in (first.low, first.high))
    whole = (
        f"{shown(first.name)} went from {plain_number(first.before)} to {plain_number(first.after)}, {first.standing}"
    )
    whole += f"; with {review.confidence * 100:.4g} % confidence between {low} and {high}"
    rest = {word: sum(one.standing == word for one in moved[1:]) for word in ("better", "worse", "no real difference")}
    others = ", ".join(f"{count} {word}" for word, count in rest.items() if count)
    parts = [whole, f"of {len(moved) - 1} other metrics {others}" if others else ""]
    parts.append(f"{len(review.slices)} slices got worse" if review.slices else "")
    return "; ".join(part for part in parts if part) + "."


def importance(rows: Sequence[tuple[str, float, float]]) -> Drawn | None:
    """The features that matter most, by how far the score drops when their values are shuffled."""
    sound = [(name, mean, std) for name, mean, std in rows if abs(mean) < HUGE and 0 <= std < HUGE]
    best = sorted(sound, key=lambda row: (-row[1], row[0]))[:MOST_FEATURES]
    if not best:
        return None
    sheet = Sheet(44 + 20 * len(best) + 50)
    more = f" (the first {len(best)} of {len(rows)})" if len(rows) > len(best) else ""
    sheet.title(f"What the model relies on{more}")
    axes = sheet.panel(240, 40, WIDTH - 240 - 110, 20 * len(best) + 4)
    low = min(0.0, *(mean - std for _, mean, std in best))
    high = max(0.0, *(mean + std for _, mean, std in best))
    frame(axes, (low - 0.02 * (high - low), span([low, high])[1]), (len(best) - 0.4, -0.6), (6, 0))
    axes.spines["left"].set_visible(False)
    axes.axvline(0, color=INK, linewidth=1.2)
    rule(axes, across=False, along=True)
    axes.set_xlabel(
        "drop in score when the feature's values are shuffled; the line is one standard deviation to both sides"
    )
    left, right = axes.get_xlim()
    for place, (name, mean, std) in enumerate(best):
        axes.plot([0, mean], [place, place], color=INK, linewidth=1)
        axes.plot([mean - std, mean + std], [place, place], color=CHALLENGER, linewidth=2, solid_capstyle="butt")
        axes.plot([mean], [place], color=CHALLENGER, marker="o", markersize=7)
        say(axes, left - 0.012 * (right - left), place, fitted(name, 216), ha="right", va="center", size=TEXT)
        say(axes, right + 0.01 * (right - left), place, plain_number(float(mean)), va="center", size=TEXT)
    first = ", ".join(f"{shown(name)} ({plain_number(float(mean))})" for name, mean, _ in best[:3])
    alt = f"Permutation importance of {len(best)} features of {len(rows)}; the largest drops in score: {first}."
    return "Permutation importance", alt, sheet.png()


def learning(curves: Mapping[str, Sequence[Sequence[float]]]) -> Drawn | None:
    """How a score went with each step of training: one panel a curve, validation solid, training dashed."""
    sound = {name: rows for name, given in curves.items() if len(rows := _rows(given)) > 1}
    chosen = dict(list(sound.items())[:MOST_CURVES])
    if not chosen:
        return None
    sheet = Sheet(306)
    sheet.title("Learning curve")
    two = any(len(rows[0]) > 2 for rows in chosen.values())
    sheet.key(34, "validation", "training" if two else "")
    told = []
    width = (WIDTH - 74 * len(chosen) - 12) / len(chosen)
    for place, (name, rows) in enumerate(chosen.items()):
        axes = sheet.panel(70 + place * (width + 74), 84, width, 164)
        told.append(_curve(axes, fitted(name, width), rows))
    return "Learning curve", "Learning curve: " + "; ".join(told) + ".", sheet.png()


def _rows(given: Sequence[Sequence[float]]) -> list[tuple[float, ...]]:
    """Rows of a step and one or two numbers, all as long as the first, none of them beyond what can be drawn."""
    width = min(3, len(given[0])) if given else 0
    rows = [tuple(map(float, row[:width])) for row in given if len(row) >= width > 1]
    return sorted(row for row in rows if all(abs(number) < HUGE for number in row))


def _curve(axes: Axes, name: str, rows: Sequence[tuple[float, ...]]) -> str:
    step = max(1, len(rows) // 500)
    kept = [*rows[:-1:step], rows[-1]]
    steps = [row[0] for row in kept]
    values = [number for row in kept for number in row[1:]]
    frame(axes, span(steps, 0.02), span(values), (6, 5))
    rule(axes)
    axes.set_xlabel("step")
    axes.set_title(name, fontsize=TEXT * 0.72, color=INK, loc="left", parse_math=False)
    few = len(kept) <= 30
    if len(kept[0]) > 2:
        axes.plot(steps, [row[1] for row in kept], **{**CHAMPION_LINE, "marker": "s" if few else "", "markersize": 4})
    line = {**CHALLENGER_LINE, "marker": "o" if few else "", "markersize": 4}
    axes.plot(steps, [row[-1] for row in kept], **line)
    end = rows[-1][-1]
    return f"{name} went from {plain_number(rows[0][-1])} to {plain_number(end)} in {len(rows)} steps (validation)"
