"""Columns that a spec names, against those that its pins list."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cd4ml.controller.desired.scaffold import scaffold
from cd4ml.gateways.hydra import compose
from cd4ml.spec.columns import column_problems
from cd4ml.spec.experiment import OwnStageSpec, Spec
from cd4ml.spec.parse import parse
from cd4ml.spec.pin import Pin, parse_pin

PINS = Path(__file__).parents[2] / "data"
"""The pins of the project's own example."""


@pytest.fixture(scope="module")
def flights() -> Spec:
    composed = compose(scaffold())
    return parse(composed.resolved, composed.origin)


@pytest.fixture(scope="module")
def pins() -> dict[str, Pin]:
    files = [PINS / f"{name}.lock.json" for name in ("flights", "weather", "planes")]
    return {pin.source: pin for pin in (parse_pin(file.read_text("utf-8"), file.name) for file in files)}


def told(spec: Spec, pins: dict[str, Pin], estimator: dict[str, Any] | None = None) -> list[str]:
    if estimator is not None:
        spec = replace(spec, model=replace(spec.model, estimator=estimator))
    return [one.message for one in column_problems(spec, pins, {})]


def transformer(*columns: Any) -> dict[str, Any]:
    return {
        "_target_": "sklearn.compose.ColumnTransformer",
        "transformers": [["one", "passthrough", list(columns)]],
    }


def pipeline(*steps: Any) -> dict[str, Any]:
    return {"_target_": "sklearn.pipeline.Pipeline", "steps": [[f"step{at}", step] for at, step in enumerate(steps)]}


ABSENT = ["the model's ColumnTransformer takes column 'nowhere', which is no feature"]
SCALER = {"_target_": "sklearn.preprocessing.StandardScaler"}


def test_the_project_that_is_shipped_names_only_columns_that_are_there(flights: Spec, pins: dict[str, Pin]) -> None:
    assert told(flights, pins) == []


def test_without_its_pin_a_source_is_not_judged(flights: Spec, pins: dict[str, Pin]) -> None:
    spec = replace(flights, data=replace(flights.data, target="nowhere"))
    assert told(spec, {}) == []
    assert told(spec, pins) == ["the data has no column 'nowhere'"]


@pytest.mark.parametrize(
    "estimator",
    [
        transformer("nowhere"),
        pipeline(transformer("nowhere"), SCALER),
        pipeline("passthrough", transformer("nowhere")),
        {"_target_": "sklearn.calibration.CalibratedClassifierCV", "estimator": pipeline(transformer("nowhere"))},
        {"_target_": "sklearn.ensemble.VotingRegressor", "estimators": [["one", transformer("nowhere")]]},
    ],
)
def test_a_transformer_that_gets_the_features_as_they_are_is_judged(
    estimator: dict[str, Any], flights: Spec, pins: dict[str, Pin]
) -> None:
    assert told(flights, pins, estimator) == ABSENT


@pytest.mark.parametrize(
    "estimator",
    [
        transformer(0, True),
        pipeline(SCALER, transformer("nowhere")),
        {"_target_": "shop.Own", "estimator": transformer("nowhere")},
    ],
)
def test_a_transformer_whose_columns_only_a_run_knows_is_not_judged(
    estimator: dict[str, Any], flights: Spec, pins: dict[str, Pin]
) -> None:
    assert told(flights, pins, estimator) == []


def test_features_of_a_stage_of_the_project_may_be_any(flights: Spec, pins: dict[str, Pin]) -> None:
    own = OwnStageSpec("more", {}, (), (), "features")
    assert told(replace(flights, stages=(own,)), pins, transformer("nowhere")) == []
