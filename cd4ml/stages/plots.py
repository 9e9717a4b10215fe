"""The plots of an evaluation, as CSV with the columns that ``spec.pipeline`` names."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cd4ml.spec.pipeline import (
    CALIBRATION,
    CONFUSION,
    PRECISION_RECALL,
    PREDICTED_VS_OBSERVED,
    RESIDUALS,
    RESIDUALS_OVER_TIME,
    ROC,
)
from cd4ml.spec.text import one_line
from cd4ml.stages.scores import Answers

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

SAMPLE = 1000
"""Most rows, or points of a curve, in a plot."""

BINS = 10
_LONGEST_LABEL = 100


def regression_plots(answers: Answers) -> dict[str, str]:
    """Predictions against observations, and residuals, of rows evenly spaced in the order of the table."""
    chosen = _evenly(len(answers.observed))
    pairs = [(float(answers.predicted[row]), float(answers.observed[row])) for row in chosen]
    residuals = [(_short(one), _short(float(_short(two)) - float(_short(one)))) for one, two in pairs]
    return {
        PREDICTED_VS_OBSERVED: _csv("predicted,observed", [(_short(one), _short(two)) for one, two in pairs]),
        RESIDUALS: _csv("predicted,residual", residuals),
    }


def residuals_over_time(
    sides: Mapping[str, tuple[npt.NDArray[np.int64], Answers]], times: pd.Series[Any]
) -> dict[str, str]:
    """Mean of observed minus predicted for each UTC day of each side.

    ``sides`` are, by name, the positions in ``times`` of a side's rows and what was answered for them. ``day`` counts
    from the first day that was judged: DVC's line template draws numbers and no dates.
    """
    import pandas as pd

    means = {}
    for side, (rows, answers) in sides.items():
        days = times.iloc[rows].dt.floor("D").reset_index(drop=True)
        means[side] = pd.Series(answers.observed - answers.predicted).groupby(days, sort=True).mean()
    first = min(mean.index[0] for mean in means.values())
    lines = [
        (side, f"{day:%Y-%m-%d}", (day - first).days, _short(value))
        for side, mean in means.items()
        for day, value in mean.items()
    ]
    return {RESIDUALS_OVER_TIME: _csv("side,date,day,mean_residual", lines)}


def confusion_plot(answers: Answers) -> dict[str, str]:
    """Predicted and observed class of rows evenly spaced in the order of the table: DVC's template counts them."""
    labels = [one_line(label, _LONGEST_LABEL) for label in answers.classes]
    lines = [(labels[answers.predicted[row]], labels[answers.observed[row]]) for row in _evenly(len(answers.observed))]
    return {CONFUSION: _csv("predicted,observed", lines)}


def probability_plots(answers: Answers) -> dict[str, str]:
    """ROC, precision and recall, and calibration of the positive class.

    Only their header line where there are no probabilities, or one class only.
    """
    positive = answers.is_positive
    there = answers.probabilities is not None and positive.any() and not positive.all()
    return {
        ROC: _csv("false_positive_rate,true_positive_rate", _roc(answers) if there else ()),
        PRECISION_RECALL: _csv("recall,precision", _precision_recall(answers) if there else ()),
        CALIBRATION: _csv("predicted,observed,rows", _calibration(answers) if there else ()),
    }


def _roc(answers: Answers) -> list[tuple[str, ...]]:
    from sklearn.metrics import roc_curve

    false, true, _ = roc_curve(answers.is_positive, answers.positive_share)
    return [(_short(false[point]), _short(true[point])) for point in _evenly(len(false))]


def _precision_recall(answers: Answers) -> list[tuple[str, ...]]:
    """From low recall to high."""
    from sklearn.metrics import precision_recall_curve

    precision, recall, _ = precision_recall_curve(answers.is_positive, answers.positive_share)
    points = [(recall[point], precision[point]) for point in _evenly(len(recall))[::-1]]
    return [(_short(one), _short(two)) for one, two in points]


def _calibration(answers: Answers) -> list[tuple[Any, ...]]:
    """Mean probability and share observed in bins of equally many rows, rows of equal probability together."""
    import numpy as np

    shares, positive = answers.positive_share, answers.is_positive
    edges = np.unique(np.quantile(shares, np.linspace(0, 1, BINS + 1)[1:-1]))
    bins = np.searchsorted(edges, shares, side="left")
    lines = []
    for one in np.unique(bins):
        here = bins == one
        lines.append((_short(shares[here].mean()), _short(positive[here].mean()), int(here.sum())))
    return lines


def _evenly(length: int) -> Any:
    """At most ``SAMPLE`` of so many places, evenly spaced, the first and the last among them."""
    import numpy as np

    return np.unique(np.linspace(0, length - 1, min(SAMPLE, length)).round().astype(int))


def _csv(header: str, lines: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header.split(","))
    writer.writerows(lines)
    return text.getvalue()


def _short(value: float) -> str:
    """Six significant digits, which a plot cannot tell from more, and -0 as 0."""
    return f"{float(value) + 0.0:.6g}"
