"""Metrics of classes that are functions of counts, and of probabilities that are means."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from cd4ml.promotion.statistics import MISSING, Amounts, Part, Scored, Share, Statistic, sums_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from cd4ml.promotion.statistics import Floats

    OfCounts = Callable[[Floats, Floats, Floats], Floats]

_POSITIVE = 1


def _by_class(of: OfCounts, *, of_predicted: bool = False) -> Callable[[Scored], Statistic]:
    """A function of the counts by class, (b, classes) each: rightly predicted, observed, predicted.

    It is not defined where only one class is observed, in a resample too. ``of_predicted``: it is the mean of the
    classes' shares of what was predicted.
    """

    def statistic(answers: Scored) -> Statistic:
        if answers.constant:
            return MISSING
        parts = (answers.right_kinds, answers.observed_kinds, answers.predicted_kinds)
        shares = _shares_of_predicted(answers) if of_predicted else ()
        return Statistic(None, parts, weighed, rows=_resting_on(answers), shares=shares)

    def weighed(sums: Sequence[Floats]) -> Floats:
        import numpy as np

        right, observed, predicted = sums[0][:, :-1], sums[1], sums[2]
        several = (observed > 0).sum(axis=1) > 1
        return np.where(several, of(right, observed, predicted), np.nan)

    return statistic


def _resting_on(answers: Scored) -> int:
    """Of two classes the rows of the rarer one; of more, where each counts little, all rows."""
    positive = int(answers.codes.sum()) if answers.classes == 2 else 0
    return min(positive, len(answers.codes) - positive) or len(answers.codes)


def _shares_of_predicted(answers: Scored) -> tuple[Share, ...]:
    """By class, how many of the rows in which it was predicted are right; of those that weigh in the mean."""
    right, predicted, observed = (
        sums_of(part) for part in (answers.right_kinds, answers.predicted_kinds, answers.observed_kinds)
    )
    weight = 1 / int((observed + predicted > 0).sum())
    found = zip(right[:-1], predicted, strict=True)
    return tuple(Share(float(one), float(of), weight) for one, of in found if of > 0)


def _shares(part: Floats, whole: Floats) -> Floats:
    """A share, 0 where there is nothing that it would be of."""
    import numpy as np

    return np.asarray(np.divide(part, whole, out=np.zeros_like(part), where=whole > 0))


def _mean_where(values: Floats, where: npt.NDArray[np.bool_]) -> Floats:
    import numpy as np

    return np.asarray((values * where).sum(axis=1) / where.sum(axis=1))


def _balanced_accuracy(right: Floats, observed: Floats, _: Floats) -> Floats:
    return _mean_where(_shares(right, observed), observed > 0)


def _recall_macro(right: Floats, observed: Floats, predicted: Floats) -> Floats:
    return _mean_where(_shares(right, observed), observed + predicted > 0)


def _precision_macro(right: Floats, observed: Floats, predicted: Floats) -> Floats:
    return _mean_where(_shares(right, predicted), observed + predicted > 0)


def _f1_macro(right: Floats, observed: Floats, predicted: Floats) -> Floats:
    return _mean_where(_shares(2 * right, observed + predicted), observed + predicted > 0)


def _f1_weighted(right: Floats, observed: Floats, predicted: Floats) -> Floats:
    import numpy as np

    each = _shares(2 * right, observed + predicted)
    return np.asarray((each * observed).sum(axis=1) / observed.sum(axis=1))


def _mcc(right: Floats, observed: Floats, predicted: Floats) -> Floats:
    """R_K (Gorodkin 2004), which of two classes is Matthews' coefficient; 0 where only one class is predicted."""
    import numpy as np

    rows = observed.sum(axis=1)
    together = right.sum(axis=1) * rows - (observed * predicted).sum(axis=1)
    apart = (rows**2 - (predicted**2).sum(axis=1)) * (rows**2 - (observed**2).sum(axis=1))
    return np.asarray(np.divide(together, np.sqrt(apart), out=np.zeros_like(rows), where=apart > 0))


# ── of the positive class ────────────────────────────────────────────────────────────────────────────────────────


def _of_positive(rows: str, of: OfCounts) -> Callable[[Scored], Statistic]:
    """A function of the counts of the positive class, (b,) each; ``rows`` says which of them it is a share of."""

    def statistic(answers: Scored) -> Statistic:
        observed, predicted = answers.observed == _POSITIVE, answers.predicted == _POSITIVE
        parts: tuple[Part, ...] = (answers.right_kinds, answers.observed_kinds, answers.predicted_kinds)
        count = int((observed if rows == "observed" else predicted).sum())
        shares = (Share(float((observed & predicted).sum()), count),) if rows == "predicted" and count else ()
        return Statistic(None, parts, weighed, rows=count, shares=shares)

    def weighed(sums: Sequence[Floats]) -> Floats:
        import numpy as np

        with np.errstate(all="ignore"):
            return of(sums[0][:, _POSITIVE], sums[1][:, _POSITIVE], sums[2][:, _POSITIVE])

    return statistic


def _precision(right: Floats, _: Floats, predicted: Floats) -> Floats:
    return right / predicted


def _recall(right: Floats, observed: Floats, _: Floats) -> Floats:
    return right / observed


def _f1(right: Floats, observed: Floats, predicted: Floats) -> Floats:
    return 2 * right / (observed + predicted)


# ── means ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _mean(answers: Scored, values: Floats) -> Statistic:
    return Statistic(None, (answers.ones, Amounts(values)), _ratio, rows=len(values))


def _ratio(sums: Sequence[Floats]) -> Floats:
    return sums[1] / sums[0]


def _accuracy(answers: Scored) -> Statistic:
    import numpy as np

    return _mean(answers, (answers.observed == answers.predicted).astype(np.float64))


def _log_loss(answers: Scored) -> Statistic:
    import numpy as np

    least = np.finfo(np.float64).eps
    of_observed = _shares_of(answers)[np.arange(len(answers.codes)), answers.codes]
    return _mean(answers, -np.log(np.clip(of_observed, least, 1 - least)))


def _brier(answers: Scored) -> Statistic:
    import numpy as np

    shares = _shares_of(answers)
    if answers.classes == 2:
        return _mean(answers, (shares[:, _POSITIVE] - answers.observed) ** 2)
    outcome = np.zeros_like(shares)
    outcome[np.arange(len(answers.codes)), answers.codes] = 1
    return _mean(answers, ((outcome - shares) ** 2).sum(axis=1))


def _shares_of(answers: Scored) -> Floats:
    if answers.probabilities is None:
        raise ValueError("there are no probabilities")
    return answers.probabilities


CLASSES: Mapping[str, Callable[[Scored], Statistic]] = MappingProxyType(
    {
        "accuracy": _accuracy,
        "balanced_accuracy": _by_class(_balanced_accuracy),
        "mcc": _by_class(_mcc),
        "precision": _of_positive("predicted", _precision),
        "recall": _of_positive("observed", _recall),
        "f1": _of_positive("observed", _f1),
        "f1_macro": _by_class(_f1_macro),
        "f1_weighted": _by_class(_f1_weighted),
        "precision_macro": _by_class(_precision_macro, of_predicted=True),
        "recall_macro": _by_class(_recall_macro),
        "log_loss": _log_loss,
        "brier": _brier,
    }
)
