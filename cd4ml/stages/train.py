"""Stage ``train``: fit the estimator on the train side and store it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cd4ml.errors import ConfigError, Problem, StageFailed
from cd4ml.spec.experiment import EvaluationSpec
from cd4ml.spec.metrics import needs_of
from cd4ml.spec.pipeline import MODEL, MODEL_CARD, PARAMS_FILE, pipeline_of
from cd4ml.stages.guard import called, guarded
from cd4ml.stages.job import Job, put_bytes, put_json

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    Side = tuple[pd.DataFrame, npt.NDArray[np.float64]]

STAGE = "train"


def run(job: Job) -> None:
    """Read the train side, and for early stopping the validation side; write ``MODEL`` and ``MODEL_CARD``."""
    from cd4ml.stages.early_stopping import best_round, learning_curve, stopping, takes_validation
    from cd4ml.stages.estimators import build_estimator
    from cd4ml.stages.featurize import load_features
    from cd4ml.stages.models import dump_model, model_digest

    spec = job.spec
    estimator = build_estimator(spec.model.estimator, spec.allowed_packages, spec.seed, file=PARAMS_FILE)
    check_fits(estimator, spec.evaluation)
    stops = called(STAGE, estimator, lambda: stopping(estimator))
    pipeline = pipeline_of(spec)
    features, target, _ = load_features(job.root, "train", pipeline)
    watches = stops is not None and takes_validation(stops)
    watched = load_features(job.root, "validation", pipeline)[:2] if watches else None
    fitted = fit(estimator, features, target, spec.evaluation.task != "regression", watched)
    data = dump_model(fitted, frozenset(spec.allowed_packages))
    card = {
        "digest": model_digest(data),
        "bytes": len(data),
        "format": "skops",
        "estimator": f"{type(fitted).__module__}.{type(fitted).__qualname__}",
        "deterministic": called(STAGE, fitted, lambda: is_deterministic(fitted)),
        "features": [str(name) for name in features.columns],
        "rows": len(target),
    }
    if stops is not None:
        card |= {"early_stopping": "validation" if watched else "train", "best_iteration": best_round(stops)}
        curve = called(STAGE, stops, lambda: learning_curve(stops))
        card |= {"curve": curve} if curve else {}
    put_bytes(job.root, MODEL, data)
    put_json(job.root, MODEL_CARD, card)


def check_fits(estimator: Any, evaluation: EvaluationSpec) -> None:
    """See that an estimator, not yet fitted, is of the kind that the task asks for and can give what the metrics need.

    Raises ConfigError with every problem.
    """
    task, name = evaluation.task, type(estimator).__name__
    problems = []
    if not _is_of(task, estimator):
        wanted = "regressor" if task == "regression" else "classifier"
        hint = f"evaluation.task is {task}; a class of your own says what it is by sklearn.base.{wanted.title()}Mixin"
        problems.append(Problem(PARAMS_FILE, "model.estimator", f"{name} is no {wanted}", hint))
    needing = [metric for metric in evaluation.metrics if needs_of(metric, evaluation) == "probability"]
    if task != "regression" and needing and not gives_probabilities(estimator):
        message = f"{', '.join(needing)} needs probabilities, and {name} has no predict_proba"
        hint = "sklearn.calibration.CalibratedClassifierCV around it gives it one"
        problems.append(Problem(PARAMS_FILE, "evaluation.metrics", message, hint))
    if problems:
        raise ConfigError(problems)


def _is_of(task: str, estimator: Any) -> bool:
    from sklearn.base import is_classifier, is_regressor

    try:
        return bool(is_regressor(estimator) if task == "regression" else is_classifier(estimator))
    except Exception:  # noqa: BLE001  # a class without tags says nothing of itself, and scikit-learn raises
        return False


def gives_probabilities(estimator: Any) -> bool:
    """Whether an estimator will have ``predict_proba`` once it is fitted."""
    from sklearn.ensemble import StackingClassifier
    from sklearn.model_selection._search import BaseSearchCV
    from sklearn.pipeline import Pipeline

    if hasattr(estimator, "predict_proba"):
        return True
    if isinstance(estimator, Pipeline):
        return bool(estimator.steps) and gives_probabilities(estimator.steps[-1][1])
    if isinstance(estimator, BaseSearchCV):
        return gives_probabilities(estimator.estimator)
    # it has none before it is fitted, since its default final estimator is made then
    return isinstance(estimator, StackingClassifier) and estimator.final_estimator is None


def fit(
    estimator: Any,
    features: pd.DataFrame,
    target: npt.NDArray[np.float64],
    classes: bool = False,
    watched: Side | None = None,
) -> Any:
    """The estimator, fitted on ``features`` (rows x columns) and ``target`` (rows, float64).

    With ``classes`` the target are codes, and are handed over as int64. ``watched`` are features and target of the
    validation side, for an estimator that stops early on it.

    Raises StageFailed: deterministic when the target does not vary or the estimator raises, transient when
    memory runs out. The message names the exception and the library function, never a value of the data.
    """
    import numpy as np

    from cd4ml.stages.early_stopping import fit_watching

    if not len(target) or not np.isfinite(target).all():
        raise StageFailed(STAGE, "the target has missing or infinite values on the train side")
    if (target == target[0]).all():
        what = "only one class is on the train side" if classes else "the target is the same in every row"
        raise StageFailed(STAGE, what if classes else f"{what} of the train side")
    empty = [str(name) for name in features.columns if features[name].isna().all()]
    if empty:
        raise StageFailed(STAGE, f"feature {', '.join(map(repr, empty[:5]))} has no value on the train side")
    known = target.astype(np.int64) if classes else target
    if watched is None:
        return guarded(STAGE, estimator, "fit", features, known)
    seen, truth = watched
    if not len(truth) or not np.isfinite(truth).all():
        raise StageFailed(STAGE, "the target has missing or infinite values on the validation side")
    if classes:  # what training never saw cannot be watched
        there = np.isin(truth, target)
        seen, truth = seen[there], truth[there].astype(np.int64)
    if not len(truth):
        raise StageFailed(STAGE, "no class of the train side is on the validation side, so early stopping is blind")
    return called(STAGE, estimator, lambda: fit_watching(estimator, (features, known), (seen, truth)))


def is_deterministic(estimator: Any) -> bool:
    """Whether the same data would give the same model: no random number is drawn without a seed, one thread."""
    params = estimator.get_params(deep=True)
    unseeded = any(name.rpartition("__")[2] == "random_state" and value is None for name, value in params.items())
    threads = any(name.rpartition("__")[2] == "n_jobs" and value not in (None, 1) for name, value in params.items())
    return not unseeded and not threads
