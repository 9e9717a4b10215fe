"""Records of other tools' runs: no credential that a tool tells gets into one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cd4ml.index.foreign import ForeignRun, cuts, import_body, redactions
from cd4ml.index.validate import validate_body

TOKEN = f"ghp_{'A1b2' * 9}"
URL = "postgresql://u:Passw0rd@h/x"
KEY = "-----BEGIN RSA PRIVATE KEY-----\nPassw0rd\n-----END RSA PRIVATE KEY-----"
NAMES = ("x", "val_x", "val.x", "valid_x", "eval x", "train_x", "test_x", "x (2)", "val_val_x")
PLAIN = ForeignRun("mlflow", "x", "x", "f" * 32, "name", "ada", "text", True, {"a": 1}, {"rmse": 1.0}, {}, None, None)


@pytest.mark.parametrize(
    "told",
    [
        {"params": {"token": TOKEN}},
        {"params": {"a": {"b": [URL, 1]}}},
        {"params": {"a": [{"b": URL}]}},
        {"params": {f"a.{TOKEN}": 1}},
        {"params": {"key": "x" * 9990 + TOKEN}},
        {"tags": {"key": KEY}},
        {"tags": {TOKEN: "x"}},
        {"metrics": {TOKEN: 1.0}},
        {"experiment": URL},
        {"name": TOKEN},
        {"author": URL},
        {"description": f"first line\n{KEY}"},
    ],
    ids=lambda told: str(*told),
)
def test_a_record_leaves_a_credential_out_and_counts_it(told: Mapping[str, Any]) -> None:
    run = replace(PLAIN, **told)
    text = json.dumps(import_body(run, "a" * 40))
    assert "ghp_" not in text
    assert "Passw0rd" not in text
    assert redactions(run) == 1


def test_a_run_without_credentials_is_told_as_it_is() -> None:
    assert redactions(PLAIN) == 0
    assert import_body(PLAIN, "a" * 40)["params"] == {"a": 1}


def metrics_of(**metrics: float) -> dict[str, dict[str, float]]:
    return dict(import_body(replace(PLAIN, metrics=metrics), "a" * 40)["metrics"])


def test_what_stands_beside_a_validation_metric_is_of_the_training_side() -> None:
    """As Keras and what logs for it write."""
    told = metrics_of(loss=0.1, val_loss=0.9, accuracy=0.99, val_accuracy=0.6, f1=0.5)
    assert told == {"train": {"loss": 0.1, "accuracy": 0.99}, "validation": {"loss": 0.9, "accuracy": 0.6, "f1": 0.5}}


def test_of_two_names_for_one_place_the_second_keeps_its_whole_name() -> None:
    told = metrics_of(**{"val_rmse": 1, "rmse": 2, "validation.rmse": 3, "train_rmse": 4})
    assert told == {"train": {"rmse": 4}, "validation": {"rmse": 1, "validation.rmse": 3, "rmse (2)": 2}}


@given(st.dictionaries(st.sampled_from(NAMES) | st.text("valtrin_./ x", min_size=1, max_size=12), st.integers(0, 9)))
def test_no_metric_that_is_a_number_is_lost(metrics: dict[str, int]) -> None:
    told = import_body(replace(PLAIN, metrics=metrics), "a" * 40)["metrics"]
    kept = sorted(value for names in told.values() for value in names.values())
    named = {" ".join(name.split()): value for name, value in metrics.items()}
    assert kept == sorted(value for name, value in named.items() if name)


@pytest.mark.parametrize(
    ("text", "held"),
    [("7", 7), ("-0.5", -0.5), ("1e3", 1000.0), ("007", "007"), ("00.5", "00.5"), ("9" * 30, "9" * 30), ("0", 0)],
)
def test_a_text_that_is_a_number_becomes_one_unless_it_would_lose_digits(text: str, held: object) -> None:
    assert import_body(replace(PLAIN, params={"a": text}), "0" * 40)["params"]["a"] == held


@pytest.mark.parametrize(
    "told",
    [
        {"params": {"a": "x" * 10_001}},
        {"params": {"a": list(range(501))}},
        {"description": "x" * 4001},
        {"tags": {"a": "x" * 4001}},
        {"name": "x" * 201},
        {"author": "x" * 501},
        {"params": {"x" * 501: 1}},
        {"params": {"a": ["x" * 10_001]}},
        {"tags": {str(number): "x" for number in range(1001)}},
        {"metrics": {f"m{number}": number for number in range(5001)}},
    ],
    ids=lambda told: str(*told),
)
def test_a_value_that_is_more_than_a_record_holds_is_cut_and_counted(told: Mapping[str, Any]) -> None:
    run = replace(PLAIN, **told)
    assert cuts(run) == 1
    validate_body(import_body(run, "0" * 40))


def test_what_a_record_holds_just_so_is_not_cut() -> None:
    metrics = {f"m{number}": number for number in range(5000)}
    run = replace(PLAIN, params={"a": "x" * 10_000}, description="y" * 4000, name="z" * 200, metrics=metrics)
    body = import_body(run, "0" * 40)
    assert (cuts(run), body["params"]["a"], body["description"]) == (0, "x" * 10_000, "y" * 4000)
    assert body["metrics"]["validation"] == metrics
    assert import_body(replace(run, description="y" * 4001), "0" * 40)["description"] == "y" * 3999 + "…"


@pytest.mark.parametrize("held", ["params", "tags", "metrics", "name", "author", "description", "experiment", "id"])
def test_half_of_a_surrogate_pair_anywhere_is_no_obstacle(held: str) -> None:
    odd = "a\ud800b"
    nested = {"params": {odd: odd, "nested": [odd, {odd: odd}]}, "tags": {odd: odd}, "metrics": {odd: 1.0}}
    value: Any = nested.get(held, odd)
    body = import_body(replace(PLAIN, **{held: value}), "0" * 40)
    validate_body(body)
    redactions(replace(PLAIN, **{held: value}))
