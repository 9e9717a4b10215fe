"""Stage ``explain``: by how much the validation score drops when a feature's values are shuffled.

(Breiman 2001; Fisher, Rudin and Dominici 2019; computed by ``sklearn.inspection.permutation_importance``.) It explains
a model to people and counts for nothing else: the judge does not look at it.
"""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from cd4ml.errors import StageFailed
from cd4ml.spec.experiment import EvaluationSpec
from cd4ml.spec.metrics import METRICS_BY_NAME
from cd4ml.spec.pipeline import IMPORTANCE, pipeline_of
from cd4ml.stages.guard import called
from cd4ml.stages.job import Job, put_bytes

if TYPE_CHECKING:
    import pandas as pd

STAGE = "explain"
SIDE = "validation"


def run(job: Job) -> None:
    """Read the model, its card, the validation side and the feature schema; write ``IMPORTANCE``."""
    from cd4ml.stages.featurize import load_features, load_schema
    from cd4ml.stages.predict import load_described_model

    evaluation = job.spec.evaluation
    classes = tuple(load_schema(job.root)["classes"] or ())
    model = load_described_model(job)
    features, target, _ = load_features(job.root, SIDE, pipeline_of(job.spec))
    rows = importances(model, features, target, evaluation, classes, job.spec.seed)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("feature", "importance", "std"))
    writer.writerows((name, f"{mean + 0.0:.6g}", f"{std:.6g}") for name, mean, std in rows)
    put_bytes(job.root, IMPORTANCE, text.getvalue().encode())


def importances(
    model: Any,
    features: pd.DataFrame,
    target: Any,
    evaluation: EvaluationSpec,
    classes: tuple[Any, ...],
    seed: int,
) -> list[tuple[str, float, float]]:
    """Feature, mean and standard deviation of the drop in score over the repeats, the largest drop first.

    In the unit of ``metric_of``; a positive number says that the model does worse without the feature. ``target`` are
    float64, of a classification the classes' codes. Raises StageFailed when the metric is not defined on these rows,
    or the model raises.
    """
    from sklearn.inspection import permutation_importance

    metric = metric_of(evaluation, hasattr(model, "predict_proba"))

    def score(_: Any, changed: pd.DataFrame, truth: Any) -> float:
        return _score(model, changed, truth, classes, metric)

    found = called(
        STAGE,
        model,
        lambda: permutation_importance(
            model,
            features,
            target,
            scoring=score,
            n_repeats=evaluation.permutation_importance,
            random_state=seed,
            n_jobs=1,
        ),
    )
    rows = zip(map(str, features.columns), found.importances_mean, found.importances_std, strict=True)
    return sorted(((name, float(mean), float(std)) for name, mean, std in rows), key=lambda row: (-row[1], row[0]))


def metric_of(evaluation: EvaluationSpec, probabilities: bool) -> str:
    """The metric whose drop is told: the primary one; where that is the project's own, which only the judge computes,
    ``rmse``, or of a classification ``log_loss``, or ``accuracy`` for a model without probabilities."""
    if evaluation.primary in METRICS_BY_NAME:
        return evaluation.primary
    if evaluation.task == "regression":
        return "rmse"
    return "log_loss" if probabilities else "accuracy"


def _score(model: Any, features: pd.DataFrame, truth: Any, classes: tuple[Any, ...], metric: str) -> float:
    import numpy as np

    from cd4ml.stages.predict import predict, probabilities
    from cd4ml.stages.scores import Answers, score

    known = METRICS_BY_NAME[metric]
    if classes:
        shares = probabilities(model, features, len(classes)) if known.needs == "probability" else None
        # labels are not asked for where probabilities decide
        predicted = np.zeros(len(truth), np.int64) if shares is not None else predict(model, features).astype(np.int64)
        answers = Answers(truth.astype(np.int64), predicted, classes, shares)
    else:
        answers = Answers(truth, predict(model, features))
    value = score(metric, answers)
    if value is None:
        raise StageFailed(STAGE, f"metric {metric!r} has no finite value on the {SIDE} side")
    return value if known.direction == "maximize" else -value
