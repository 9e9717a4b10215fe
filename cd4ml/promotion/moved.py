"""Columns whose distribution moved between two tables, by the population stability index.

The index is that of Siddiqi, Credit Risk Scorecards (2006): over bins, the sum of (q - p) ln(q / p), with p the
champion's share of a bin and q the challenger's. Below 0.1 a column is taken as stable, above 0.25 as moved much.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cd4ml.promotion.review import ColumnMoved

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

LEAST = 0.1
"""From this index on a column is told."""

MOST_COLUMNS = 50
QUANTILES = 10
"""Bins of a column of numbers: as many as the champion's quantiles are distinct."""

TOP_VALUES = 20
"""Values of a text column that have a bin of their own, the champion's most frequent; the others share one."""

_SMALLEST_SHARE = 1e-4
"""Taken for the share of an empty bin, of which there is no logarithm."""


@dataclass(frozen=True)
class Binned:
    """Rows in each bin of one column in both tables; the last bin is that of missing values."""

    column: str
    before: tuple[int, ...]
    after: tuple[int, ...]


def psi(before: Sequence[int], after: Sequence[int]) -> float:
    """The index of two counts over the same bins; 0 where one of the two has no rows at all. Never negative."""
    rows_before, rows_after = sum(before), sum(after)
    if not rows_before or not rows_after:
        return 0.0
    shares = (
        (max(one / rows_before, _SMALLEST_SHARE), max(other / rows_after, _SMALLEST_SHARE))
        for one, other in zip(before, after, strict=True)
        if one or other
    )
    return math.fsum((q - p) * math.log(q / p) for p, q in shares)


def binned_numbers(column: str, before: npt.NDArray[np.float64], after: npt.NDArray[np.float64]) -> Binned:
    """Numbers, or times as numbers, in the champion's quantiles; NaN is missing. Infinities are numbers here."""
    import numpy as np

    here, there = before[~np.isnan(before)], after[~np.isnan(after)]
    edges: npt.NDArray[np.float64] = np.empty(0)
    if here.size:
        places = np.arange(1, QUANTILES) * here.size // QUANTILES
        edges = np.unique(np.partition(here, places)[places])  # values that occur: nothing is computed between them
    bins = len(edges) + 1
    counts = [np.bincount(np.searchsorted(edges, values, side="right"), minlength=bins) for values in (here, there)]
    missing = [len(before) - here.size, len(after) - there.size]
    first, second = ((*map(int, count), int(gone)) for count, gone in zip(counts, missing, strict=True))
    return Binned(column, first, second)


def binned_texts(
    column: str, before: Mapping[str, int], after: Mapping[str, int], missing: tuple[int, int] = (0, 0)
) -> Binned:
    """Texts, given as rows by value in each table: a bin for each of the champion's top values, one for the rest."""
    top = sorted(before, key=lambda value: (-before[value], value))[:TOP_VALUES]
    counts = []
    for values, gone in zip((before, after), missing, strict=True):
        kept = [values.get(value, 0) for value in top]
        counts.append((*kept, sum(values.values()) - sum(kept), gone))
    return Binned(column, counts[0], counts[1])


def moved_columns(columns: Iterable[Binned]) -> tuple[ColumnMoved, ...]:
    """The columns that moved, the most moved first; at most ``MOST_COLUMNS`` of them."""
    found = []
    for one in columns:
        index = psi(one.before, one.after)
        if index >= LEAST:
            found.append(ColumnMoved(one.column, index, _missing(one.before), _missing(one.after)))
    return tuple(sorted(found, key=lambda column: (-column.psi, column.column))[:MOST_COLUMNS])


def _missing(counts: Sequence[int]) -> float:
    rows = sum(counts)
    return counts[-1] / rows if rows else 0.0
