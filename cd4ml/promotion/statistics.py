"""Every metric of ``spec.metrics`` in a form that a bootstrap computes fast: a function of sums over rows.

A resample gives each row a weight, how often it was drawn. What a metric is made of is summed with these weights,
``counts @ sums``, and the metric is a function of the weighted sums: one matrix product does for all metrics of both
models. The values are those of ``stages.scores`` (which computes them with scikit-learn, inside a stage), and a metric
has none exactly where it has none there.

Metrics of ranks are no function of sums. They are replaced by their linear form about the sample at hand, which has
the same value there and the same standard error in large samples (the nonparametric delta method, or infinitesimal
jackknife: Efron 1982, chapter 6); of ROC areas it is the placement values of DeLong, DeLong and Clarke-Pearson 1988.
What is left out is of the order of one over the number of rows in the smaller class. The median is weighted exactly
among order statistics near the middle, linearly between. The largest error has no valid bootstrap (Bickel and Freedman
1981), so it has a value here and nothing more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING

from cd4ml.promotion.paired import Paired, Said
from cd4ml.spec.experiment import Task
from cd4ml.spec.metrics import METRICS_BY_NAME

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Codes = npt.NDArray[np.int64]
    Of = Callable[[Sequence[Floats]], Floats]


@dataclass(frozen=True, eq=False)
class Amounts:
    """What a row adds to one sum: float64 (n,)."""

    values: Floats


@dataclass(frozen=True, eq=False)
class Kinds:
    """Which of ``count`` sums a row adds 1 to: int64 (n,), from 0."""

    codes: Codes
    count: int


Part = Amounts | Kinds


@dataclass(frozen=True)
class Share:
    """A share that a metric is a mean of: ``part`` of the rows in ``whole``, with its weight in the mean."""

    part: float
    whole: float
    weight: float = 1.0


@dataclass(frozen=True, eq=False)
class Statistic:
    """One metric of one model.

    ``value`` is the metric on the rows as they are, nothing where it is not defined. ``of`` gives it for b weightings
    of the rows at once: from the weighted sums of ``parts``, float64 (b,) of an amount and (b, count) of kinds, float64
    (b,) with NaN where it is not defined; nothing where the metric cannot be resampled. ``told`` are arrays (n,): a row
    in which one of them differs is one in which two models differ (nothing: the parts). ``smooth``: leaving out one
    row at a time tells the standard error. ``rows`` is on how many rows it rests (of a share, those it is a share of).
    ``shares`` are those of rows that the model itself chose, of which few can be all right by chance.
    """

    value: float | None
    parts: tuple[Part, ...] = ()
    of: Of | None = None
    told: tuple[npt.NDArray[np.float64], ...] = ()
    smooth: bool = True
    rows: int = 0
    shares: tuple[Share, ...] = ()


MISSING = Statistic(None)


@dataclass(frozen=True, eq=False)
class Scored:
    """One model's answers beside what was observed; what several metrics need is computed once.

    As in ``Paired``: float64 (n,), of a classification the classes' codes; ``probabilities`` (n, classes).
    """

    task: Task
    classes: int
    observed: Floats
    predicted: Floats
    probabilities: Floats | None = None

    def of(self, rows: npt.NDArray[np.intp]) -> Scored:
        """The same for some of the rows, by position."""
        shares = None if self.probabilities is None else self.probabilities[rows]
        return Scored(self.task, self.classes, self.observed[rows], self.predicted[rows], shares)

    @cached_property
    def is_sound(self) -> bool:
        """Is there a row, and is every number finite, of a classification a code of a class?"""
        import numpy as np

        arrays = [self.observed, self.predicted]
        if not len(self.observed) or not all(np.isfinite(array).all() for array in arrays):
            return False
        return self.task == "regression" or all(_are_codes(array, self.classes) for array in arrays)

    @cached_property
    def shares_are_sound(self) -> bool:
        """Does the model give each class a probability of 0 to 1?"""
        import numpy as np

        shares = self.probabilities
        if shares is None or shares.shape != (len(self.observed), self.classes) or self.classes < 2:
            return False
        return bool(np.isfinite(shares).all() and (shares >= 0).all() and (shares <= 1).all())

    @cached_property
    def ones(self) -> Amounts:
        import numpy as np

        return Amounts(np.ones(len(self.observed)))

    @cached_property
    def codes(self) -> Codes:
        """Of the class observed."""
        import numpy as np

        return self.observed.astype(np.int64)

    @cached_property
    def observed_kinds(self) -> Kinds:
        return Kinds(self.codes, self.classes)

    @cached_property
    def predicted_kinds(self) -> Kinds:
        import numpy as np

        return Kinds(self.predicted.astype(np.int64), self.classes)

    @cached_property
    def right_kinds(self) -> Kinds:
        """By class, the rows in which it was predicted rightly; last, those in which it was not."""
        import numpy as np

        return Kinds(np.where(self.observed == self.predicted, self.codes, self.classes), self.classes + 1)

    @cached_property
    def constant(self) -> bool:
        """Is the same observed in every row?"""
        return bool((self.observed == self.observed[0]).all())

    @cached_property
    def residual(self) -> Floats:
        return self.observed - self.predicted

    @cached_property
    def absolute(self) -> Amounts:
        import numpy as np

        return Amounts(np.abs(self.residual))

    @cached_property
    def squared(self) -> Amounts:
        return Amounts(self.residual**2)

    @cached_property
    def about_mean(self) -> tuple[Amounts, Amounts]:
        """The observations less their mean, so that nothing cancels, and the squares."""
        centred = self.observed - self.observed.mean()
        return Amounts(centred), Amounts(centred**2)


def _are_codes(values: Floats, classes: int) -> bool:
    import numpy as np

    return bool(((values >= 0) & (values < classes) & (np.floor(values) == values)).all())


def scored(paired: Paired, said: Said) -> Scored:
    """One of the two models' answers, ready to be measured."""
    return Scored(paired.task, max(len(paired.classes), 2), paired.observed, said.predicted, said.probabilities)


def statistic(name: str, answers: Scored) -> Statistic:
    """One of cd4ml's metrics; ``MISSING`` where it is unknown, for another task, or not defined for these rows."""
    import numpy as np

    metric = METRICS_BY_NAME.get(name)
    if metric is None or answers.task not in metric.tasks or not answers.is_sound:
        return MISSING
    if metric.needs == "probability" and not answers.shares_are_sound:
        return MISSING
    with np.errstate(all="ignore"):
        found = _forms()[name](answers)
        value = found.value if found.of is None else whole(found)
    return replace(found, value=value) if value is not None and math.isfinite(value) else MISSING


def whole(found: Statistic) -> float | None:
    """The value with every row counted once."""
    if found.value is not None:
        return found.value
    if found.of is None:
        return None
    return float(found.of([sums_of(part)[None] for part in found.parts])[0])


def sums_of(part: Part) -> Floats:
    """Over all rows: float64, () of an amount and (count,) of kinds."""
    import numpy as np

    if isinstance(part, Amounts):
        return np.asarray(part.values.sum())
    return np.bincount(part.codes, minlength=part.count).astype(np.float64)


def _forms() -> Mapping[str, Callable[[Scored], Statistic]]:
    from cd4ml.promotion.statistics_classes import CLASSES
    from cd4ml.promotion.statistics_ranks import RANKS

    return MappingProxyType({**REGRESSION, **CLASSES, **RANKS})


# ── regression ───────────────────────────────────────────────────────────────────────────────────────────────────


def _mean(answers: Scored, amounts: Amounts) -> Statistic:
    return Statistic(None, (answers.ones, amounts), _ratio, rows=len(answers.observed))


def _ratio(sums: Sequence[Floats]) -> Floats:
    return sums[1] / sums[0]


def _root(sums: Sequence[Floats]) -> Floats:
    import numpy as np

    return np.sqrt(sums[1] / sums[0])


def _rmse(answers: Scored) -> Statistic:
    return Statistic(None, (answers.ones, answers.squared), _root, rows=len(answers.observed))


def _mae(answers: Scored) -> Statistic:
    return _mean(answers, answers.absolute)


def _max_error(answers: Scored) -> Statistic:
    return Statistic(float(answers.absolute.values.max()))


def _mape(answers: Scored) -> Statistic:
    import numpy as np

    size = np.abs(answers.observed)
    if not size.all():
        return MISSING
    # As in scikit-learn, smaller observations count as the smallest step from 1.
    return _mean(answers, Amounts(answers.absolute.values / np.maximum(size, np.finfo(np.float64).eps)))


def _smape(answers: Scored) -> Statistic:
    import numpy as np

    size = np.abs(answers.observed) + np.abs(answers.predicted)
    apart = 2.0 * answers.absolute.values
    return _mean(answers, Amounts(np.divide(apart, size, out=np.zeros_like(size), where=size > 0)))


def _rmsle(answers: Scored) -> Statistic:
    import numpy as np

    if min(answers.observed.min(), answers.predicted.min()) <= -1:
        return MISSING
    apart = np.log1p(answers.observed) - np.log1p(answers.predicted)
    return Statistic(None, (answers.ones, Amounts(apart**2)), _root, rows=len(answers.observed))


def _r2(answers: Scored) -> Statistic:
    if answers.constant:
        return MISSING
    parts = (answers.ones, *answers.about_mean, answers.squared)
    return Statistic(None, parts, _one_less_residual_share, rows=len(answers.observed))


def _one_less_residual_share(sums: Sequence[Floats]) -> Floats:
    return 1.0 - sums[3] / _spread(sums[0], sums[1], sums[2])


def _explained_variance(answers: Scored) -> Statistic:
    if answers.constant:
        return MISSING
    centred = answers.residual - answers.residual.mean()
    parts = (answers.ones, *answers.about_mean, Amounts(centred), Amounts(centred**2))
    return Statistic(None, parts, _one_less_variance_share, rows=len(answers.observed))


def _one_less_variance_share(sums: Sequence[Floats]) -> Floats:
    import numpy as np

    left = np.maximum(sums[4] - sums[3] ** 2 / sums[0], 0.0)
    return 1.0 - left / _spread(sums[0], sums[1], sums[2])


def _spread(count: Floats, total: Floats, squares: Floats) -> Floats:
    """Sum of squares about the mean; NaN where it is 0 but for rounding, as in a resample of equal observations."""
    import numpy as np

    about = squares - total**2 / count
    return np.where(about > squares * 1e-12, about, np.nan)


# ── the middle of the errors ─────────────────────────────────────────────────────────────────────────────────────


def _medae(answers: Scored) -> Statistic:
    """The median among order statistics: half a standard error of its rank apart near the middle, wider outside.

    A row is of kind 2 j where its error lies below the j-th of them (and above the one before), 2 j + 1 at it.
    """
    import numpy as np

    errors = answers.absolute.values
    in_order = np.sort(errors)
    marks = np.unique(in_order[_ranks(len(errors))])
    place = np.searchsorted(marks, errors)
    kinds = Kinds(2 * place + (errors == marks[place]), 2 * len(marks))

    def of(sums: Sequence[Floats]) -> Floats:
        return _weighted_median(sums[0], marks)

    value = float(np.median(errors))
    return Statistic(value, (kinds,), of, told=(errors,), smooth=False, rows=len(errors))


def _ranks(rows: int) -> npt.NDArray[np.intp]:
    """Of the order statistics that are looked at; the first and the last among them."""
    import numpy as np

    near = (rows - 1) / 2 + np.sqrt(rows) * np.linspace(-4, 4, 17) / 2
    wide = (rows - 1) * np.linspace(0, 1, 13)
    return np.unique(np.clip(np.rint(np.concatenate([near, wide])), 0, rows - 1)).astype(np.intp)


def _weighted_median(counts: Floats, marks: Floats) -> Floats:
    """For each row of ``counts``, float64 (b, 2 k), by ``marks`` in ascending order, float64 (k,)."""
    import numpy as np

    upto = np.cumsum(counts, axis=1)
    half = upto[:, -1] / 2
    kind = (upto >= half[:, None]).argmax(axis=1)
    mark, at_mark, rows = kind // 2, kind % 2 == 1, np.arange(len(counts))
    below = np.where(kind > 0, upto[rows, kind - 1], 0.0)
    share = np.divide(half - below, upto[rows, kind] - below, out=np.zeros_like(half), where=~at_mark)
    low = marks[np.maximum(mark - 1, 0)]
    between = low + share * (marks[mark] - low)
    return np.where(half > 0, np.where(at_mark, marks[mark], between), np.nan)


REGRESSION: Mapping[str, Callable[[Scored], Statistic]] = MappingProxyType(
    {
        "rmse": _rmse,
        "mae": _mae,
        "medae": _medae,
        "max_error": _max_error,
        "mape": _mape,
        "smape": _smape,
        "rmsle": _rmsle,
        "r2": _r2,
        "explained_variance": _explained_variance,
    }
)
