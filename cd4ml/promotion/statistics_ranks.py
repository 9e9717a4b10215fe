"""Metrics of ranks, in their linear form about the rows at hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from cd4ml.promotion.statistics import MISSING, Amounts, Part, Scored, Statistic

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from cd4ml.promotion.statistics import Floats

    Bools = npt.NDArray[np.bool_]

_POSITIVE = 1


def _roc_auc(answers: Scored) -> Statistic:
    score, positive = _positive(answers)
    if answers.constant:
        return MISSING
    area, parts = _area(score, positive)

    def of(sums: Sequence[Floats]) -> Floats:
        return _area_of(sums, area)

    return Statistic(area, parts, of, told=(score,), rows=_fewest(positive))


def _roc_auc_ovr(answers: Scored) -> Statistic:
    """The mean over the classes; not defined where one is not observed, in a resample too."""
    import numpy as np

    shares = _shares_of(answers)
    counts = np.bincount(answers.codes, minlength=answers.classes)
    if not counts.all() or answers.classes < 2:
        return MISSING
    each = [_area(shares[:, code], answers.codes == code) for code in range(answers.classes)]
    areas = [area for area, _ in each]

    def of(sums: Sequence[Floats]) -> Floats:
        found = [_area_of(sums[4 * place : 4 * place + 4], area) for place, area in enumerate(areas)]
        return np.asarray(np.mean(found, axis=0))

    parts = tuple(part for _, some in each for part in some)
    told = tuple(shares[:, code] for code in range(answers.classes))
    return Statistic(float(np.mean(areas)), parts, of, told=told, rows=len(answers.codes))


def _area(score: Floats, positive: Bools) -> tuple[float, tuple[Part, ...]]:
    """The area under the ROC curve, and what it is the sum of.

    ``parts``: placement values of the positive rows (the share of negative rows that rank below, ties by half) and
    their number; those of the negative rows (the share of positive rows above) and their number.
    """
    import numpy as np

    _, level = np.unique(score, return_inverse=True)
    of_positive = np.bincount(level[positive], minlength=level.max() + 1).astype(np.float64)
    of_negative = np.bincount(level[~positive], minlength=level.max() + 1).astype(np.float64)
    below = (np.cumsum(of_negative) - of_negative / 2) / of_negative.sum()
    above = (of_positive.sum() - np.cumsum(of_positive) + of_positive / 2) / of_positive.sum()
    yes, no = positive.astype(np.float64), (~positive).astype(np.float64)
    area = float((below * of_positive).sum() / of_positive.sum())
    return area, (Amounts(below[level] * yes), Amounts(yes), Amounts(above[level] * no), Amounts(no))


def _area_of(sums: Sequence[Floats], area: float) -> Floats:
    """The linear form about the rows at hand, whose area is ``area``."""
    return sums[0] / sums[1] + sums[2] / sums[3] - area


def _average_precision(answers: Scored) -> Statistic:
    score, positive = _positive(answers)
    if answers.constant:
        return MISSING
    value, influence = _influence_on_precision(score, positive)

    def of(sums: Sequence[Floats]) -> Floats:
        import numpy as np

        return np.where(sums[2] > 0, value + len(score) * sums[1] / sums[0], np.nan)

    parts = (answers.ones, Amounts(influence), Amounts(positive.astype(score.dtype)))
    return Statistic(value, parts, of, told=(score,), rows=_fewest(positive))


def _influence_on_precision(score: Floats, positive: Bools) -> tuple[float, Floats]:
    """The average precision, and its derivative by each row's weight, float64 (n,), which sum to 0.

    With P and N the weights of positive and of all rows at or above a level, and p those of positive rows at it, it is
    the sum over levels of p P / N, divided by the weight W of all positive rows. A row moves p at its own level, and P
    and N there and at all levels beneath.
    """
    import numpy as np

    _, level = np.unique(-score, return_inverse=True)
    at_level = np.bincount(level[positive], minlength=level.max() + 1).astype(np.float64)
    hits = np.cumsum(at_level)
    rows = np.cumsum(np.bincount(level).astype(np.float64))
    total = hits[-1]
    precision = hits / rows
    value = float((at_level * precision).sum() / total)
    by_hit = _from_here_on(at_level * (rows - hits) / rows**2) / total
    by_miss = -_from_here_on(at_level * hits / rows**2) / total
    own = (precision - value) / total
    return value, np.where(positive, (own + by_hit)[level], by_miss[level])


def _from_here_on(values: Floats) -> Floats:
    import numpy as np

    return np.cumsum(values[::-1])[::-1]


def _positive(answers: Scored) -> tuple[Floats, Bools]:
    return _shares_of(answers)[:, _POSITIVE], answers.codes == _POSITIVE


def _shares_of(answers: Scored) -> Floats:
    if answers.probabilities is None:
        raise ValueError("there are no probabilities")
    return answers.probabilities


def _fewest(positive: Bools) -> int:
    return int(min(positive.sum(), len(positive) - positive.sum()))


RANKS: Mapping[str, Callable[[Scored], Statistic]] = MappingProxyType(
    {
        "roc_auc": _roc_auc,
        "average_precision": _average_precision,
        "roc_auc_ovr": _roc_auc_ovr,
    }
)
