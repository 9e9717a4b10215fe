"""Early stopping on the validation side: which estimator asks for it, and how it is given the rows.

Boosting stops when the validation side no longer gains. XGBoost takes such rows through ``fit``, scikit-learn's
histogram boosting from the version on whose ``fit`` has ``X_val``. That works for the model itself and for the
last step of a pipeline, whose earlier steps are fitted on the train side and only applied to the validation side.
The test side is never seen.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from cd4ml.errors import ConfigError, Problem
from cd4ml.spec.pipeline import PARAMS_FILE

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

_ADVICE = "it works for the model itself and for the last step of a pipeline: set the number of rounds instead"


def stopping(estimator: Any) -> Any | None:
    """The part of ``estimator`` (itself, or the last step of a pipeline) that stops early; nothing when none does.

    Raises ConfigError when a part stops early that is somewhere else, in a search or a stack: there is no telling
    which rows it would watch.
    """
    last = _last(estimator)
    parts = estimator.get_params(deep=True).items()
    hidden = sorted(name for name, part in parts if part is not last and _stops(part))
    if hidden:
        message = f"{hidden[0]!r} stops early inside {type(last).__name__}, where it cannot watch the validation side"
        raise ConfigError([Problem(PARAMS_FILE, "model.estimator", message, _ADVICE)])
    return last if _stops(last) else None


def fit_watching(
    estimator: Any,
    train: tuple[pd.DataFrame, npt.NDArray[Any]],
    validation: tuple[pd.DataFrame, npt.NDArray[Any]],
) -> Any:
    """Fit an estimator for which ``stopping`` gave a part; ``train`` and ``validation`` are features and target."""
    (features, target), (watched, truth) = train, validation
    if _is_pipeline(estimator):
        if len(estimator.steps) > 1:
            head = estimator[:-1]
            features, watched = head.fit_transform(features, target), head.transform(watched)
            estimator.steps = [*head.steps, estimator.steps[-1]]
        fit_watching(estimator.steps[-1][1], (features, target), (watched, truth))
        return estimator
    if _is_xgboost(estimator):
        return estimator.fit(features, target, eval_set=[(watched, truth)], verbose=False)
    if not takes_validation(estimator):
        return estimator.fit(features, target)
    return estimator.fit(features, target, X_val=watched, y_val=truth)


def takes_validation(part: Any) -> bool:
    """Whether a part that stops early can be given rows to watch; else it takes some of the train side."""
    return _is_xgboost(part) or "X_val" in inspect.signature(part.fit).parameters


def best_round(part: Any) -> int:
    """The last round (from 0) that a fitted part uses in its predictions."""
    return int(part.best_iteration) if _is_xgboost(part) else int(part.n_iter_) - 1


MOST_STEPS = 200
"""Rows that a learning curve has at most; of more rounds, evenly chosen ones and the last."""

_DIGITS = 6


def learning_curve(part: Any) -> dict[str, Any] | None:
    """How a fitted part went round by round, as the library kept it; nothing where it kept none.

    ``{"name": metric, "rows": [[round, validation], …]}``, with the train side's value in the middle where it is kept;
    six digits, since the last ones may depend on the number of threads.
    """
    if _is_xgboost(part):
        told = part.evals_result()
        metrics = list(told.values())[-1] if told else {}
        name = list(metrics)[-1] if metrics else ""
        series = [metrics[name]] if metrics else []
    else:
        name = "score" if part.scoring != "loss" else "negative loss"
        kept = [getattr(part, attribute, ()) for attribute in ("train_score_", "validation_score_")]
        series = [values for values in kept if len(values) > 1]
    if not series:
        return None
    rounds = list(range(min(map(len, series))))
    step = max(1, -(-len(rounds) // (MOST_STEPS - 1)))
    chosen = sorted({*rounds[::step], *rounds[-1:]})
    rows = [[place, *(float(f"{float(values[place]):.{_DIGITS}g}") for values in series)] for place in chosen]
    return {"name": name, "rows": rows}


def _last(estimator: Any) -> Any:
    while _is_pipeline(estimator):
        estimator = estimator.steps[-1][1]
    return estimator


def _stops(part: Any) -> bool:
    if _is_xgboost(part):
        return part.get_params(deep=False).get("early_stopping_rounds") is not None
    return _is(part, "sklearn.ensemble", "BaseHistGradientBoosting") and part.early_stopping is True


def _is_pipeline(part: Any) -> bool:
    return _is(part, "sklearn.pipeline", "Pipeline")


def _is_xgboost(part: Any) -> bool:
    return _is(part, "xgboost", "XGBModel")


def _is(part: Any, package: str, name: str) -> bool:
    """Whether ``part`` is of a class of that name or of one derived from it; no library is imported to find out."""
    return any(base.__name__ == name and base.__module__.startswith(package) for base in type(part).__mro__)
