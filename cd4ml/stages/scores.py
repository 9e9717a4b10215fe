"""Every metric of ``spec.metrics``, computed with scikit-learn's functions, and the project's own.

A metric that is not defined for the rows at hand (a constant target, one class only, a division by zero) has no
value here, and never a stand-in such as 0 or NaN. All functions take ``Answers`` and are pure.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from cd4ml.errors import StageFailed
from cd4ml.spec.experiment import EvaluationSpec, OwnMetricSpec
from cd4ml.spec.metrics import needs_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

STAGE = "evaluate"
_POSITIVE = 1


@dataclass(frozen=True)
class Answers:
    """What was observed and what a model said, for the same rows.

    Of a regression ``observed`` and ``predicted`` are float64 and ``classes`` is empty. Of a classification they
    are codes (int64, places in ``classes``; of a binary task the class that counts as positive is the last), and
    ``probabilities`` (rows x classes, float64, rows sum to 1) are there where the model gives them.
    """

    observed: npt.NDArray[Any]
    predicted: npt.NDArray[Any]
    classes: tuple[Any, ...] = ()
    probabilities: npt.NDArray[np.float64] | None = None

    def of(self, rows: npt.NDArray[Any]) -> Answers:
        """The same for some of the rows: a mask, or positions."""
        shares = None if self.probabilities is None else self.probabilities[rows]
        return Answers(self.observed[rows], self.predicted[rows], self.classes, shares)

    @property
    def codes(self) -> list[int]:
        return list(range(len(self.classes)))

    @property
    def is_positive(self) -> npt.NDArray[np.bool_]:
        return self.observed == _POSITIVE  # type: ignore[no-any-return]  # of two arrays of codes it is an array

    @property
    def positive_share(self) -> npt.NDArray[np.float64]:
        """The probability of the positive class."""
        return self.shares[:, _POSITIVE]

    @property
    def shares(self) -> npt.NDArray[np.float64]:
        if self.probabilities is None:
            raise ValueError("there are no probabilities")
        return self.probabilities


# --- regression ----------------------------------------------------------------------------------------


def _rmse(answers: Answers) -> float:
    """Square root of the mean squared difference, in the target's unit."""
    from sklearn.metrics import root_mean_squared_error

    return float(root_mean_squared_error(answers.observed, answers.predicted))


def _mae(answers: Answers) -> float:
    """Mean absolute difference, in the target's unit."""
    from sklearn.metrics import mean_absolute_error

    return float(mean_absolute_error(answers.observed, answers.predicted))


def _medae(answers: Answers) -> float:
    """Median absolute difference, in the target's unit."""
    from sklearn.metrics import median_absolute_error

    return float(median_absolute_error(answers.observed, answers.predicted))


def _max_error(answers: Answers) -> float:
    """Largest absolute difference, in the target's unit."""
    from sklearn.metrics import max_error

    return float(max_error(answers.observed, answers.predicted))


def _mape(answers: Answers) -> float | None:
    """Mean absolute percentage error, as a share of the observation (1 is 100 %); undefined where one is 0."""
    from sklearn.metrics import mean_absolute_percentage_error

    if (answers.observed == 0).any():
        return None
    return float(mean_absolute_percentage_error(answers.observed, answers.predicted))


def _smape(answers: Answers) -> float:
    """Symmetric mean absolute percentage error, mean of 2 |o - p| / (|o| + |p|): 0 to 2, and 0 where both are 0.

    (Makridakis 1993; scikit-learn has none.)
    """
    import numpy as np

    size = np.abs(answers.observed) + np.abs(answers.predicted)
    apart = 2.0 * np.abs(answers.observed - answers.predicted)
    return float(np.divide(apart, size, out=np.zeros_like(size), where=size > 0).mean())


def _rmsle(answers: Answers) -> float | None:
    """Root mean squared difference of log(1 + value); undefined where a value is -1 or less."""
    from sklearn.metrics import root_mean_squared_log_error

    if min(answers.observed.min(), answers.predicted.min()) <= -1:
        return None
    return float(root_mean_squared_log_error(answers.observed, answers.predicted))


def _r2(answers: Answers) -> float | None:
    """Coefficient of determination, 1 - SS_res / SS_tot about these rows' own mean; undefined for a constant target."""
    from sklearn.metrics import r2_score

    if _is_constant(answers.observed):
        return None
    return float(r2_score(answers.observed, answers.predicted, force_finite=False))


def _explained_variance(answers: Answers) -> float | None:
    """1 - Var(observed - predicted) / Var(observed); undefined for a constant target."""
    from sklearn.metrics import explained_variance_score

    if _is_constant(answers.observed):
        return None
    return float(explained_variance_score(answers.observed, answers.predicted, force_finite=False))


# --- classification, by label --------------------------------------------------------------------------


def _accuracy(answers: Answers) -> float:
    """Share of the rows whose class is predicted."""
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(answers.observed, answers.predicted))


def _balanced_accuracy(answers: Answers) -> float | None:
    """Mean recall of the classes observed; undefined where only one is."""
    from sklearn.metrics import balanced_accuracy_score

    return (
        None if _is_constant(answers.observed) else float(balanced_accuracy_score(answers.observed, answers.predicted))
    )


def _mcc(answers: Answers) -> float | None:
    """Matthews' correlation coefficient, of several classes R_K (Gorodkin 2004); undefined where only one class is
    observed, and by convention 0 where only one is predicted."""
    from sklearn.metrics import matthews_corrcoef

    return None if _is_constant(answers.observed) else float(matthews_corrcoef(answers.observed, answers.predicted))


def _precision(answers: Answers) -> float:
    """TP / (TP + FP) of the positive class; undefined where it is never predicted."""
    from sklearn.metrics import precision_score

    return float(_of_positive(precision_score, answers))


def _recall(answers: Answers) -> float:
    """TP / (TP + FN) of the positive class; undefined where it is never observed."""
    from sklearn.metrics import recall_score

    return float(_of_positive(recall_score, answers))


def _f1(answers: Answers) -> float:
    """2 TP / (2 TP + FP + FN) of the positive class; undefined where it is neither observed nor predicted."""
    from sklearn.metrics import f1_score

    return float(_of_positive(f1_score, answers))


def _of_positive(function: Callable[..., Any], answers: Answers) -> Any:
    import numpy as np

    predicted = answers.predicted == _POSITIVE
    return function(answers.is_positive, predicted, zero_division=np.nan)


def _averaged(function: Callable[..., Any], answers: Answers, average: str) -> float | None:
    """Over the classes that are observed or predicted; of one that lacks what is divided by, the share is 0."""
    if _is_constant(answers.observed):
        return None
    return float(function(answers.observed, answers.predicted, average=average, zero_division=0.0))


def _f1_macro(answers: Answers) -> float | None:
    """Mean F1 of the classes; undefined where only one is observed."""
    from sklearn.metrics import f1_score

    return _averaged(f1_score, answers, "macro")


def _f1_weighted(answers: Answers) -> float | None:
    """F1 of the classes weighted by the rows observed of each; undefined where only one is observed."""
    from sklearn.metrics import f1_score

    return _averaged(f1_score, answers, "weighted")


def _precision_macro(answers: Answers) -> float | None:
    """Mean precision of the classes; undefined where only one is observed."""
    from sklearn.metrics import precision_score

    return _averaged(precision_score, answers, "macro")


def _recall_macro(answers: Answers) -> float | None:
    """Mean recall of the classes; undefined where only one is observed."""
    from sklearn.metrics import recall_score

    return _averaged(recall_score, answers, "macro")


# --- classification, by probability --------------------------------------------------------------------


def _log_loss(answers: Answers) -> float:
    """Mean of -log(probability of the class observed), natural logarithm, probabilities cut to machine precision."""
    from sklearn.metrics import log_loss

    return float(log_loss(answers.observed, answers.shares, labels=answers.codes))


def _brier(answers: Answers) -> float:
    """Mean squared difference of probability and outcome (0 or 1): of the positive class in a binary task (0 to 1),
    summed over the classes in a multiclass one (0 to 2)."""
    import numpy as np
    from sklearn.metrics import brier_score_loss

    if len(answers.classes) == 2:
        outcome = answers.is_positive.astype(np.int64)
        return float(brier_score_loss(outcome, answers.positive_share, pos_label=1, labels=[0, 1]))
    return float(brier_score_loss(answers.observed, answers.shares, labels=answers.codes, scale_by_half=False))


def _roc_auc(answers: Answers) -> float | None:
    """Area under the ROC curve; undefined where only one class is observed."""
    from sklearn.metrics import roc_auc_score

    positive = answers.is_positive
    return None if _is_constant(positive) else float(roc_auc_score(positive, answers.positive_share))


def _average_precision(answers: Answers) -> float | None:
    """Sum of precision times gain in recall over the thresholds; undefined where only one class is observed."""
    from sklearn.metrics import average_precision_score

    positive = answers.is_positive
    return None if _is_constant(positive) else float(average_precision_score(positive, answers.positive_share))


def _roc_auc_ovr(answers: Answers) -> float | None:
    """Mean area under the ROC curves of each class against the rest; undefined where a class is not observed."""
    import numpy as np
    from sklearn.metrics import roc_auc_score

    if len(np.unique(answers.observed)) < len(answers.classes):
        return None
    return float(
        roc_auc_score(answers.observed, answers.shares, multi_class="ovr", average="macro", labels=answers.codes)
    )


def _is_constant(values: npt.NDArray[Any]) -> bool:
    return bool((values == values[0]).all())


METRIC_FUNCTIONS: Mapping[str, Callable[[Answers], float | None]] = MappingProxyType(
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
        "accuracy": _accuracy,
        "balanced_accuracy": _balanced_accuracy,
        "mcc": _mcc,
        "precision": _precision,
        "recall": _recall,
        "f1": _f1,
        "f1_macro": _f1_macro,
        "f1_weighted": _f1_weighted,
        "precision_macro": _precision_macro,
        "recall_macro": _recall_macro,
        "log_loss": _log_loss,
        "brier": _brier,
        "roc_auc": _roc_auc,
        "average_precision": _average_precision,
        "roc_auc_ovr": _roc_auc_ovr,
    }
)
"""How each metric of ``spec.metrics.METRICS_BY_NAME`` is computed; nothing where it is not defined."""

OwnFunction = Callable[[Any, Any], Any]


def score(name: str, answers: Answers) -> float | None:
    """The value of one of cd4ml's metrics on at least one row, or nothing where it is not defined.

    Raises KeyError for a name that is none of ``METRIC_FUNCTIONS``.
    """
    import numpy as np

    if not np.isfinite(answers.observed).all():
        return None
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = METRIC_FUNCTIONS[name](answers)
    return value if value is not None and np.isfinite(value) else None


# --- the project's own ---------------------------------------------------------------------------------


def own_functions(evaluation: EvaluationSpec, packages: tuple[str, ...]) -> dict[str, OwnFunction]:
    """The project's metric functions by the metrics' names; imports modules of ``packages``, the project's own.

    Raises StageFailed naming ``evaluation.own.NAME`` for one that is not there, private, no function, or defined
    in another package.
    """
    from cd4ml.stages.targets import Site, resolved

    functions: dict[str, OwnFunction] = {}
    for metric in evaluation.own:
        site = Site(packages, "", f"evaluation.own.{metric.name}")
        found = resolved(metric.function, site, _unfit_function)
        if found is None:
            problem = site.problems[0]
            raise StageFailed(STAGE, f"{problem.key}: {problem.message}; the judge takes the base branch's code")
        functions[metric.name] = found
    return functions


def _unfit_function(found: Any, root: str) -> str:
    from cd4ml.stages.targets import foreign

    return foreign(found, root) if inspect.isfunction(found) else "is not a function"


def own_score(metric: OwnMetricSpec, function: OwnFunction, answers: Answers) -> float:
    """What the project's function says. Raises StageFailed when it raises, or gives anything but a finite number.

    It gets the labels as the table has them (numbers of a regression), and of a metric that needs probabilities that
    of the positive class, or of every class in a multiclass task.
    """
    import numpy as np

    from cd4ml.stages.guard import explain

    where = f"evaluation.own.{metric.name}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = function(*_as_own(metric, answers))
    except MemoryError:
        raise
    except Exception as error:  # it is the project's code, and may raise anything
        told = explain(error, function.__name__, function.__module__.partition(".")[0])
        raise StageFailed(STAGE, f"{where}: {told}") from error
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise StageFailed(STAGE, f"{where}: gives {type(value).__name__}, not a number")
    if not np.isfinite(value):
        raise StageFailed(STAGE, f"{where}: gives no finite number")
    return float(value)


def _as_own(metric: OwnMetricSpec, answers: Answers) -> tuple[Any, Any]:
    """Copies, so that a function that changes what it is given changes nothing of ours."""
    import numpy as np

    if not answers.classes:
        return answers.observed.copy(), answers.predicted.copy()
    labels = np.asarray(answers.classes)
    if metric.needs == "prediction":
        return labels[answers.observed], labels[answers.predicted]
    shares = answers.positive_share if len(answers.classes) == 2 else answers.shares
    return labels[answers.observed], shares.copy()


def scores_of(
    evaluation: EvaluationSpec, functions: Mapping[str, OwnFunction], answers: Answers, where: str
) -> dict[str, float]:
    """Every metric asked for, on the rows at hand; ``where`` names them in messages.

    Raises StageFailed for one that is unknown, not defined there, or needs probabilities that the model does not give.
    """
    own = {metric.name: metric for metric in evaluation.own}
    values: dict[str, float] = {}
    for name in evaluation.metrics:
        if name not in own and name not in METRIC_FUNCTIONS:
            raise StageFailed(STAGE, f"metric {name!r} is not known")
        if needs_of(name, evaluation) == "probability" and answers.probabilities is None:
            raise StageFailed(STAGE, f"metric {name!r} needs probabilities, and the model gives none")
        if name in own:
            values[name] = _placed(own[name], functions[name], answers, where)
            continue
        value = score(name, answers)
        if value is None:
            raise StageFailed(STAGE, f"metric {name!r} has no finite value on the {where} side")
        values[name] = value
    return values


def _placed(metric: OwnMetricSpec, function: OwnFunction, answers: Answers, where: str) -> float:
    try:
        return own_score(metric, function, answers)
    except StageFailed as error:
        raise StageFailed(error.stage, f"{error.message}, on the {where} side", error.kind) from error


def scores_where_defined(
    evaluation: EvaluationSpec, functions: Mapping[str, OwnFunction], answers: Answers
) -> dict[str, float | None]:
    """As ``scores_of``, with nothing for a metric that is not defined: a slice may be small."""
    own = {metric.name: metric for metric in evaluation.own}
    values: dict[str, float | None] = {}
    for name in evaluation.metrics:
        if not len(answers.observed):
            values[name] = None
        elif name in own:
            try:
                values[name] = own_score(own[name], functions[name], answers)
            except StageFailed:
                values[name] = None
        else:
            values[name] = score(name, answers)
    return values
