"""The metrics there are: which way is better, for which task, and what of a model they need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from cd4ml.spec.experiment import Direction, EvaluationSpec, Task

Needs = Literal["prediction", "probability"]
"""What a metric is computed from: labels or numbers, or the probability that the model gives to each class."""

TASKS: tuple[Task, ...] = ("regression", "binary", "multiclass")


@dataclass(frozen=True)
class Metric:
    """``tasks`` are those that it is defined for."""

    direction: Direction
    tasks: tuple[Task, ...]
    needs: Needs = "prediction"


_REGRESSION: tuple[Task, ...] = ("regression",)
_BINARY: tuple[Task, ...] = ("binary",)
_MULTICLASS: tuple[Task, ...] = ("multiclass",)
_CLASSES: tuple[Task, ...] = ("binary", "multiclass")

METRICS_BY_NAME: Mapping[str, Metric] = MappingProxyType(
    {
        "rmse": Metric("minimize", _REGRESSION),
        "mae": Metric("minimize", _REGRESSION),
        "medae": Metric("minimize", _REGRESSION),
        "max_error": Metric("minimize", _REGRESSION),
        "mape": Metric("minimize", _REGRESSION),
        "smape": Metric("minimize", _REGRESSION),
        "rmsle": Metric("minimize", _REGRESSION),
        "r2": Metric("maximize", _REGRESSION),
        "explained_variance": Metric("maximize", _REGRESSION),
        "accuracy": Metric("maximize", _CLASSES),
        "balanced_accuracy": Metric("maximize", _CLASSES),
        "mcc": Metric("maximize", _CLASSES),
        "precision": Metric("maximize", _BINARY),
        "recall": Metric("maximize", _BINARY),
        "f1": Metric("maximize", _BINARY),
        "f1_macro": Metric("maximize", _MULTICLASS),
        "f1_weighted": Metric("maximize", _MULTICLASS),
        "precision_macro": Metric("maximize", _MULTICLASS),
        "recall_macro": Metric("maximize", _MULTICLASS),
        "log_loss": Metric("minimize", _CLASSES, "probability"),
        "brier": Metric("minimize", _CLASSES, "probability"),
        "roc_auc": Metric("maximize", _BINARY, "probability"),
        "average_precision": Metric("maximize", _BINARY, "probability"),
        "roc_auc_ovr": Metric("maximize", _MULTICLASS, "probability"),
    }
)
"""Every metric by its name. ``stages.scores`` says how each is computed."""

DIRECTIONS: Mapping[str, Direction] = MappingProxyType({name: one.direction for name, one in METRICS_BY_NAME.items()})


def metrics_of(task: Task) -> tuple[str, ...]:
    """The names of cd4ml's metrics for a task."""
    return tuple(name for name, metric in METRICS_BY_NAME.items() if task in metric.tasks)


def direction_of(name: str, evaluation: EvaluationSpec) -> Direction:
    """Which way is better, of cd4ml's metrics and the project's. Raises KeyError for a name that is neither."""
    own = {metric.name: metric.direction for metric in evaluation.own}
    return own[name] if name in own else DIRECTIONS[name]


def needs_of(name: str, evaluation: EvaluationSpec) -> Needs:
    """What a metric is computed from. Raises KeyError for a name that is neither cd4ml's nor the project's."""
    own: dict[str, Needs] = {metric.name: metric.needs for metric in evaluation.own}
    return own[name] if name in own else METRICS_BY_NAME[name].needs
