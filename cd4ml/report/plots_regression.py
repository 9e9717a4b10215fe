"""Of a regression: what was predicted against what was observed, and how large the errors are, of both models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cd4ml.promotion.paired import Paired
from cd4ml.report.plots_canvas import (
    CHALLENGER,
    CHALLENGER_LINE,
    CHAMPION,
    CHAMPION_LINE,
    HUGE,
    INK,
    SMALL,
    Sheet,
    frame,
    rule,
    say,
    span,
)
from cd4ml.report.visible import plain_number

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes

    Numbers = npt.NDArray[np.float64]

_CELLS = 34
_FEW = 300
"""Up to so many rows each is a dot of its own."""


def predictions(paired: Paired) -> tuple[str, str, bytes] | None:
    """Two panels: predicted against observed with the middle of each model, and the share of rows below each error."""
    observed, challenger, champion = _sound(paired)
    rows = len(observed)
    if rows == 0:
        return None
    sheet = Sheet(412)
    sheet.title(f"Predicted and observed, {rows:,} rows that neither model learned from")
    sheet.key(34, "challenger", "champion")
    limits = _limits(observed, challenger, champion)
    axes = sheet.panel(78, 66, 330, 280)
    frame(axes, limits, limits, (5, 5))
    rule(axes)
    axes.set_xlabel("predicted")
    axes.set_ylabel("observed")
    axes.plot(limits, limits, color=INK, linewidth=1.2)
    say(axes, *(limits[1],) * 2, "equal ", ha="right", va="bottom")
    _clouds(axes, observed, challenger, champion, limits)
    beyond = int(sum(_outside(one, limits) for one in (observed, challenger)))
    errors = np.abs(challenger - observed), np.abs(champion - observed)
    right = sheet.panel(500, 66, 300, 280)
    told = _cumulated(right, *errors)
    note = (
        "" if rows <= _FEW else "● rows of the challenger, larger where more   lines: the median of what was observed"
    )
    note += f"   outside: {beyond:,} values" if beyond else ""
    sheet.write(12, 390, note.strip(), size=SMALL)
    alt = f"Predicted against observed for {rows:,} rows. {told}"
    return "Predicted against observed", alt, sheet.png()


def _sound(paired: Paired) -> tuple[Numbers, Numbers, Numbers]:
    """Observed, challenger's and champion's answers where all three can be drawn."""
    three = paired.observed, paired.challenger.predicted, paired.champion.predicted
    with np.errstate(invalid="ignore"):
        usable = np.logical_and.reduce([np.abs(one) < HUGE for one in three])
    return three[0][usable], three[1][usable], three[2][usable]


def _limits(*values: Numbers) -> tuple[float, float]:
    """Of both axes: what all but a few in a thousand of the values lie in, on both sides."""
    ends = [np.quantile(one, (0.002, 0.998)) for one in values]
    return span([float(end) for pair in ends for end in pair], 0.06)


def _outside(values: Numbers, limits: tuple[float, float]) -> int:
    return int(np.sum((values < limits[0]) | (values > limits[1])))


def _clouds(axes: Axes, observed: Numbers, challenger: Numbers, champion: Numbers, limits: tuple[float, float]) -> None:
    """The challenger's rows as dots, larger where there are more; the middle of what was observed for both."""
    low, high = limits
    if len(observed) <= _FEW:
        ring: dict[str, Any] = {"facecolors": "none", "linewidths": 1.0}
        axes.scatter(champion, observed, s=26, marker="s", edgecolors=CHAMPION, **ring)
        axes.scatter(challenger, observed, s=14, marker="o", color=CHALLENGER, linewidths=0)
    else:
        x, y, counts = _cells(challenger, observed, low, high)
        largest = float(counts.max(initial=1))
        share = np.log1p(counts) / np.log1p(largest)
        # the largest dot nearly fills its cell: the panel's pixels over the cells, in points, squared
        sizes = (0.72 * 270 / _CELLS * np.clip(share, 0.16, 0.8)) ** 2
        axes.scatter(x, y, s=sizes, marker="o", color=INK, linewidths=0)
        for model, style in ((champion, CHAMPION_LINE), (challenger, CHALLENGER_LINE)):
            _middle(axes, model, observed, limits, {**style, "markersize": 6, "linewidth": 2.2})


def _cells(x: Numbers, y: Numbers, low: float, high: float) -> tuple[Numbers, Numbers, Numbers]:
    """Middles of the cells of a grid that hold rows, every other line of it moved by half a cell, and the counts."""
    unit = (high - low) / _CELLS
    inside = (x >= low) & (x < high) & (y >= low) & (y < high)
    line = ((y[inside] - low) / unit).astype(np.int64)
    shift = (line % 2) * 0.5
    column = np.floor((x[inside] - low) / unit - shift).astype(np.int64) + 1  # the first is half a cell to the left
    counts = np.bincount(line * (_CELLS + 2) + column, minlength=(_CELLS + 1) * (_CELLS + 2)).astype(np.float64)
    place = np.flatnonzero(counts)
    lines, columns = np.divmod(place, _CELLS + 2)
    return low + (columns - 0.5 + (lines % 2) * 0.5) * unit, low + (lines + 0.5) * unit, counts[place]


def _middle(
    axes: Axes, predicted: Numbers, observed: Numbers, limits: tuple[float, float], style: dict[str, Any]
) -> None:
    """The median of what was observed, by the prediction: a dozen stretches of it that hold rows enough."""
    order = np.argsort(predicted, kind="stable")
    low, high = np.quantile(predicted, (0.002, 0.998))
    groups = np.split(order, np.searchsorted(predicted[order], np.linspace(low, high, 13)))
    groups = [group for group in groups if len(group) >= 20]
    x = [float(np.median(predicted[group])) for group in groups]
    y = [float(np.median(observed[group])) for group in groups]
    axes.plot(np.clip(x, *limits), np.clip(y, *limits), **style)


def _cumulated(axes: Axes, challenger: Numbers, champion: Numbers) -> str:
    """The share of rows whose error is at most so large, of both models; gives the middle errors in words."""
    shares = np.linspace(0, 1, 201)
    reach = float(max(np.quantile(challenger, 0.97), np.quantile(champion, 0.97)))
    right = span([0.0, reach], 0.02)[1]
    frame(axes, (0, right), (0, 1.02), (5, 5))
    rule(axes)
    axes.set_xlabel("absolute error")
    axes.set_ylabel("share of the rows with at most that error")
    told = []
    for errors, style, name in ((champion, CHAMPION_LINE, "champion"), (challenger, CHALLENGER_LINE, "challenger")):
        at = np.quantile(errors, shares)
        near = at <= right
        axes.plot(at[near], shares[near], **{**style, "markersize": 5, "markevery": 25})
        told.append((name, plain_number(float(np.median(errors))), plain_number(float(np.quantile(errors, 0.9)))))
    for place, (name, middle, most) in enumerate(reversed(told)):
        colour = CHALLENGER if name == "challenger" else CHAMPION
        text = f"half within {middle}, 90 % within {most}"
        say(axes, right, 0.15 - 0.09 * place, text, ha="right", va="center", colour=colour)
    (_, old_middle, old_most), (_, new_middle, new_most) = told
    return (
        f"Half of the rows are within {new_middle} (champion {old_middle}), "
        f"90 % within {new_most} (champion {old_most})."
    )
