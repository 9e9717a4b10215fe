"""How the errors of both models went over the time of the rows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from cd4ml.promotion.paired import Paired
from cd4ml.report.plots_canvas import (
    CHALLENGER_LINE,
    CHAMPION_LINE,
    HUGE,
    INK,
    SMALL,
    WIDTH,
    Sheet,
    frame,
    mark,
    rule,
    span,
)
from cd4ml.report.visible import plain_number

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes

    Numbers = npt.NDArray[np.float64]

_DAY = 86_400.0
_MOST_GROUPS = 40
_FIRST, _LAST = -62_135_596_800.0, 253_402_300_799.0
"""Years 1 to 9999, in seconds since 1970: what a calendar date is written for."""


@dataclass(frozen=True)
class _Group:
    """Rows of one stretch of time: its middle, and of each model the mean of a number, challenger first."""

    when: float
    means: tuple[float, float]


def over_time(paired: Paired) -> tuple[str, str, bytes] | None:
    """The size and the direction of errors by day, or by stretches of equally many rows; of classes the share wrong.

    Nothing where the split is not by time, or all rows are of one time.
    """
    if paired.times is None:
        return None
    regression = paired.task == "regression"
    with np.errstate(invalid="ignore", over="ignore"):
        errors = [model.predicted - paired.observed for model in (paired.challenger, paired.champion)]
        usable = (paired.times >= _FIRST) & (paired.times <= _LAST)
        usable &= np.logical_and.reduce([np.abs(error) < HUGE for error in errors])
    times = paired.times[usable]
    errors = [error[usable] for error in errors]
    groups, is_daily = _grouped(times)
    if len(groups) < 2:
        return None
    if is_daily:
        times = np.floor(times / _DAY) * _DAY
    sizes = [np.abs(error) if regression else (error != 0).astype(np.float64) for error in errors]
    panels = [("mean absolute error" if regression else "share of wrong answers", sizes)]
    if regression:
        panels.append(("mean error (predicted − observed)", errors))
    sheet = Sheet(394 if len(panels) > 1 else 256)
    sheet.title(f"Errors over time, by {'day' if is_daily else 'groups of equally many rows'}")
    sheet.key(34, "challenger", "champion")
    told = []
    for place, (what, numbers) in enumerate(panels):
        axes = sheet.panel(70, 84 + place * 160, WIDTH - 70 - 44, 118 if len(panels) > 1 else 140)
        means = [_Group(float(np.median(times[group])), _means(numbers, group)) for group in groups]
        sheet.write(70, 64 + place * 160, what, size=SMALL)
        told.append(_lines(axes, what, means, unit=_DAY if is_daily else 0.0, is_last=place == len(panels) - 1))
    span_of = f"{_date(float(times.min()), _DAY)} to {_date(float(times.max()), _DAY)}"
    alt = f"The challenger's errors from {span_of}. {'; '.join(told)}."
    return "Errors over time", alt, sheet.png()


def _grouped(times: Numbers) -> tuple[list[npt.NDArray[np.int64]], bool]:
    """Rows by day (true) where there are a few, and in groups of equal size where there are many, or one."""
    days = np.floor(times / _DAY)
    order = np.argsort(times, kind="stable")
    if len(times) == 0 or times[order[0]] == times[order[-1]]:
        return [], False
    kinds = np.unique(days)
    if 3 <= len(kinds) <= _MOST_GROUPS:
        bounds = np.searchsorted(days[order], kinds[1:])
        return np.split(order, bounds), True
    count = min(_MOST_GROUPS, max(2, len(times) // 20))
    return [group for group in np.array_split(order, count) if len(group)], False


def _means(numbers: list[Numbers], group: npt.NDArray[np.int64]) -> tuple[float, float]:
    return float(np.mean(numbers[0][group])), float(np.mean(numbers[1][group]))


def _lines(axes: Axes, what: str, groups: list[_Group], *, unit: float, is_last: bool) -> str:
    """Both models' means as lines, 0 in sight where it is near; says how often the challenger's is the smaller."""
    when = [group.when for group in groups]
    values = [mean for group in groups for mean in group.means]
    low, high = min(values), max(values)
    crosses = low < 0 or low < 0.3 * high
    frame(axes, span(when, 0.01), span([*values, 0.0] if crosses else values, 0.08), (0, 4))
    rule(axes)
    _dates(axes, unit, is_last)
    if low < 0:
        axes.axhline(0, color=INK, linewidth=1)
    axes.plot(when, [group.means[1] for group in groups], **{**CHAMPION_LINE, "markersize": 4})
    axes.plot(when, [group.means[0] for group in groups], **{**CHALLENGER_LINE, "markersize": 4})
    smaller = sum(abs(group.means[0]) < abs(group.means[1]) for group in groups)
    most = max(groups, key=lambda group: abs(group.means[0]))
    return (
        f"{what}: {'smaller' if low >= 0 else 'nearer to 0'} than the champion's in {smaller} of {len(groups)} groups, "
        f"farthest from 0 with {plain_number(most.means[0])} on {_date(most.when, _DAY)}"
    )


def _dates(axes: Axes, unit: float, is_last: bool) -> None:
    """About six ticks, a whole number of days apart; within a few days, of minutes or seconds."""
    low, high = axes.get_xlim()
    unit = unit or next(unit for unit in (_DAY, 3600.0, 60.0, 1.0, 1e-3) if high - low > 6 * unit or unit < 1)
    step = np.ceil((high - low) / 6 / unit) * unit
    places = [float(place) for place in np.arange(np.ceil(low / unit) * unit, high, step)]
    mark(axes.xaxis, places, [_date(place, max(high - low, 7 * unit)) if is_last else "" for place in places])


def _date(seconds: float, reach: float) -> str:
    """The day; within a few days the time of day as well."""
    if not _FIRST <= seconds <= _LAST:
        return ""
    when = datetime.fromtimestamp(seconds, UTC)
    if reach == _DAY or reach > 6 * _DAY:
        return when.date().isoformat()  # strftime pads no year before 1000
    return when.strftime("%m-%d %H:%M" if reach > 360 else "%H:%M:%S")
