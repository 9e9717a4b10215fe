"""Training and predicting: failures that say enough and nothing of the data, and models that are checked."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cd4ml.errors import IntegrityError, StageFailed
from cd4ml.spec.pipeline import FEATURE_SCHEMA, MODEL, MODEL_CARD, PREDICTIONS, SPLIT
from cd4ml.stages.estimators import build_estimator
from cd4ml.stages.featurize import load_features
from cd4ml.stages.models import load_model, model_digest
from cd4ml.stages.predict import predict
from cd4ml.stages.runner import run_stage
from cd4ml.stages.table import read_parquet
from cd4ml.stages.train import fit, is_deterministic
from tests.stages.stage_world import build, resolved

X = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [4.0, 5.0, 7.0]})
Y = np.array([1.0, 2.0, 4.0])
RIDGE = {"_target_": "sklearn.linear_model.Ridge"}


def estimator(target: str, **params: Any) -> Any:
    return build_estimator({"_target_": target, **params}, ("sklearn", "xgboost"), 1)


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    build(root, tmp_path / "raw", resolved())
    for stage in ("ingest", "split", "featurize", "train"):
        run_stage(stage, root, tmp_path / "raw")
    return root


def test_the_card_describes_the_stored_model(trained: Path) -> None:
    card = json.loads((trained / MODEL_CARD).read_text())
    data = (trained / MODEL).read_bytes()
    assert card["digest"] == model_digest(data)
    assert (card["bytes"], card["format"]) == (len(data), "skops")
    assert card["estimator"] == "sklearn.pipeline.Pipeline"
    assert card["deterministic"] is True
    assert card["features"] == [item["name"] for item in json.loads((trained / FEATURE_SCHEMA).read_text())["features"]]
    assert card["rows"] == len(load_features(trained, "train")[1])


def test_predictions_are_the_stored_models_for_validation_and_test_under_each_rows_digest(trained: Path) -> None:
    run_stage("predict", trained, trained)
    frame = read_parquet(trained / PREDICTIONS)
    split = read_parquet(trained / SPLIT)
    model = load_model((trained / MODEL).read_bytes())
    assert sorted(frame.columns) == ["digest", "prediction", "row", "side"]
    asked = split[split["side"] != "train"]
    assert frame["row"].tolist() == asked["row"].tolist()
    assert frame["digest"].tolist() == asked["digest"].tolist()
    for side in ("validation", "test"):
        x, _, _ = load_features(trained, side)
        assert np.array_equal(frame.loc[frame["side"] == side, "prediction"], model.predict(x))


def test_a_model_that_its_card_does_not_describe_is_never_loaded(trained: Path) -> None:
    data = bytearray((trained / MODEL).read_bytes())
    data[len(data) // 2] ^= 1
    (trained / MODEL).write_bytes(bytes(data))
    with pytest.raises(IntegrityError, match="is not the model"):
        run_stage("predict", trained, trained)
    assert not (trained / PREDICTIONS).exists()


def test_an_unset_seed_is_set_and_many_threads_are_said() -> None:
    assert is_deterministic(estimator("sklearn.ensemble.RandomForestRegressor"))
    assert not is_deterministic(estimator("sklearn.ensemble.RandomForestRegressor", n_jobs=2))


# --- failures ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X, np.array([1.0, np.nan, 2.0]), "missing or infinite"),
        (X, np.array([1.0, np.inf, 2.0]), "missing or infinite"),
        (X, np.full(3, np.nan), "missing or infinite"),
        (X, np.full(3, 7.0), "the same in every row"),
        (X.iloc[:0], Y[:0], "missing or infinite"),
        (X.assign(b=np.nan), Y, "'b' has no value"),
    ],
)
def test_data_that_nothing_can_be_learnt_from_is_refused_before_fitting(x: pd.DataFrame, y: Any, message: str) -> None:
    class Untouched:
        def fit(self, *_: object) -> None:
            raise AssertionError("fitted")

    with pytest.raises(StageFailed, match=message):
        fit(Untouched(), x, y)


class Raises:
    """An estimator whose methods raise what they are given."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def fit(self, *_: object) -> None:
        raise self.error


def failure(model: Any, x: pd.DataFrame = X) -> StageFailed:
    with pytest.raises(StageFailed) as caught:
        fit(model, x, Y)
    assert caught.value.stage == "train"
    return caught.value


def test_no_value_of_the_data_is_told_when_an_estimator_raises() -> None:
    """scikit-learn's message quotes the cell that it could not convert."""
    error = failure(estimator("sklearn.linear_model.Ridge"), X.assign(a="patient 4711"))
    assert "ValueError in Ridge" in error.message
    assert "4711" not in error.message
    assert error.kind == "deterministic"


def test_what_is_told_names_the_librarys_innermost_function() -> None:
    told = failure(estimator("sklearn.linear_model.Ridge"), X.assign(a="x")).message
    assert re.fullmatch(r"ValueError in Ridge, in _?\w+\._?\w+", told)


def test_a_parameter_that_the_library_refuses_is_named() -> None:
    assert "about parameter 'alpha'" in failure(estimator("sklearn.linear_model.Ridge", alpha=-1.0)).message
    assert "about parameter 'max_depth'" in failure(estimator("xgboost.XGBRegressor", max_depth="deep")).message


def test_running_out_of_memory_may_be_tried_again_and_other_errors_may_not() -> None:
    assert failure(Raises(MemoryError())).kind == "transient"
    assert failure(Raises(RuntimeError("secret"))).kind == "deterministic"


def test_an_interrupt_is_not_a_result() -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(Raises(KeyboardInterrupt()), X, Y)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([1.0, 2.0], r"shape \(2,\)"),
        ([[1.0], [2.0], [3.0]], r"shape \(3, 1\)"),
        ([1.0, np.nan, 2.0], "1 of 3 predictions are not finite"),
        ([1.0, np.inf, 2.0], "1 of 3 predictions are not finite"),
        (["a", "b", "c"], "answers an array"),
    ],
)
def test_predictions_that_are_not_one_finite_number_a_row_are_refused(answer: Any, message: str) -> None:
    class Answers:
        def predict(self, _: object) -> Any:
            return np.array(answer)

    with pytest.raises(StageFailed, match=message):
        predict(Answers(), X)


def test_native_categories_reach_both_boosting_libraries(tmp_path: Path) -> None:
    """A category that training never saw is missing, and is predicted for all the same."""
    for name, model in {
        "hist": {"_target_": "sklearn.ensemble.HistGradientBoostingRegressor", "max_iter": 3, "min_samples_leaf": 2},
        "boost": {"_target_": "xgboost.XGBRegressor", "n_estimators": 3, "enable_categorical": True},
    }.items():
        root = tmp_path / name
        build(root, tmp_path / "raw", resolved({"model.estimator": model}))
        for stage in ("ingest", "split", "featurize", "train", "predict"):
            run_stage(stage, root, tmp_path / "raw")
        assert len(read_parquet(root / PREDICTIONS)) == len(load_features(root, "test")[1]) + len(
            load_features(root, "validation")[1]
        )
        assert load_features(root, "test")[0]["city"].isna().any()
