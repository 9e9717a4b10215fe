"""Training and predicting: failures that say enough and nothing of the data, and models that are checked."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cd4ml.errors import ConfigError, IntegrityError, StageFailed
from cd4ml.spec.experiment import EvaluationSpec, OwnMetricSpec
from cd4ml.spec.pipeline import (
    CALIBRATION,
    CONFUSION,
    FEATURE_SCHEMA,
    METRICS,
    MODEL,
    MODEL_CARD,
    PREDICTIONS,
    SLICES,
    SPLIT,
    Pipeline,
)
from cd4ml.stages.early_stopping import stopping
from cd4ml.stages.estimators import build_estimator
from cd4ml.stages.featurize import load_features, load_schema
from cd4ml.stages.models import load_model, model_digest
from cd4ml.stages.predict import answers, predict
from cd4ml.stages.runner import run_stage
from cd4ml.stages.table import read_parquet
from cd4ml.stages.train import check_fits, fit, gives_probabilities, is_deterministic
from tests.stages.stage_world import build, resolved

PLAIN = Pipeline(("trips",))

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
    assert card["rows"] == len(load_features(trained, "train", PLAIN)[1])


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
        x, _, _ = load_features(trained, side, PLAIN)
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
        assert len(read_parquet(root / PREDICTIONS)) == len(load_features(root, "test", PLAIN)[1]) + len(
            load_features(root, "validation", PLAIN)[1]
        )
        assert load_features(root, "test", PLAIN)[0]["city"].isna().any()


# --- classes -------------------------------------------------------------------------------------------

COLOURS = ("blue", "green", "red")


def colours_csv(days: int = 90) -> str:
    """Colour follows from x up to some noise, every side has all; ``warm`` says whether it is red."""
    generator = np.random.default_rng(4)
    lines = ["start,x,z,colour,warm"]
    for day in range(days):
        colour = int(generator.integers(0, 3))
        x = colour + generator.normal() * 0.4
        month, dom = divmod(day, 28)
        start = f"2013-{month + 1:02d}-{dom + 1:02d}T00:00:00Z"
        lines.append(f"{start},{x:.4f},{generator.normal():.4f},{COLOURS[colour]},{'true' if colour == 2 else 'false'}")
    return "\n".join(lines) + "\n"


def classified(task: str, target: str, model: dict[str, Any], **evaluation: Any) -> dict[str, Any]:
    metrics = ["accuracy", "log_loss"]
    return resolved(
        {
            "data": {
                "sources": {"colours": {"location": "colours.csv", "format": "csv"}},
                "joins": [],
                "target": target,
                "time_columns": ["start"],
                "drop_missing_target": True,
            },
            "split.validation_from": "2013-02-20",
            "split.test_from": "2013-03-10",
            "validation.expectations": [
                {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "x"}},
            ],
            "features": {"numeric": ["x", "z"], "categorical": [], "calendar": {}},
            "model": {"name": "m", "estimator": model},
            "evaluation": {"task": task, "metrics": metrics, "primary": "log_loss", **evaluation},
        }
    )


FOREST = {"_target_": "sklearn.ensemble.RandomForestClassifier", "n_estimators": 5}
BOOST = {"_target_": "xgboost.XGBClassifier", "n_estimators": 5, "max_depth": 2}
STAGES = ("ingest", "validate", "split", "featurize", "train", "predict", "evaluate")


def ran(folder: Path, value: dict[str, Any], stages: tuple[str, ...] = STAGES) -> Path:
    root = folder / "root"
    build(root, folder / "raw", value, {"colours": colours_csv()})
    for stage in stages:
        run_stage(stage, root, folder / "raw")
    return root


@pytest.mark.parametrize("model", [FOREST, BOOST], ids=["forest", "xgboost"])
@pytest.mark.parametrize(("task", "target", "classes"), [("multiclass", "colour", COLOURS), ("binary", "warm", (0, 1))])
def test_classes_are_learnt_as_codes_and_told_with_probabilities_that_sum_to_1(
    tmp_path: Path, model: dict[str, Any], task: str, target: str, classes: tuple[Any, ...]
) -> None:
    root = ran(tmp_path, classified(task, target, model, slices=["warm"]))
    frame = read_parquet(root / PREDICTIONS)
    shares = [f"p{code}" for code in range(len(classes))]
    assert sorted(frame.columns) == sorted(["digest", "prediction", "row", "side", *shares])
    values = frame[shares].to_numpy()
    assert ((values >= 0) & (values <= 1)).all()
    assert values.sum(axis=1) == pytest.approx(np.ones(len(frame)), abs=1e-12)
    assert tuple(load_schema(root)["classes"]) == classes
    loaded = load_model((root / MODEL).read_bytes())
    assert loaded.classes_.tolist() == list(range(len(classes)))
    x, y, _ = load_features(root, "test", PLAIN)
    assert np.array_equal(frame.loc[frame["side"] == "test", "prediction"], loaded.predict(x))
    metrics = json.loads((root / METRICS).read_text())
    assert metrics["test"]["accuracy"] == pytest.approx((loaded.predict(x) == y).mean())
    assert metrics["test"]["accuracy"] > 0.6
    assert {value["value"] for value in json.loads((root / SLICES).read_text())["warm"]["values"]} == {"True", "False"}
    assert (root / CONFUSION).exists()
    assert (root / CALIBRATION).exists() == (task == "binary")


def test_a_model_without_probabilities_tells_classes_alone(tmp_path: Path) -> None:
    svm = {"_target_": "sklearn.svm.LinearSVC"}
    value = classified("binary", "warm", svm, metrics=["f1"], primary="f1")
    frame = read_parquet(ran(tmp_path, value) / PREDICTIONS)
    assert sorted(frame.columns) == ["digest", "prediction", "row", "side"]


# --- what is refused before training -------------------------------------------------------------------

LOGISTIC = {"_target_": "sklearn.linear_model.LogisticRegression"}
SVC = {"_target_": "sklearn.svm.LinearSVC"}


def told(config: dict[str, Any], evaluation: EvaluationSpec) -> list[str]:
    try:
        check_fits(build_estimator(config, ("sklearn", "xgboost"), 1), evaluation)
    except ConfigError as error:
        return [f"{problem.key}: {problem.message}" for problem in error.problems]
    return []


def asked(task: Any, *metrics: str, **more: Any) -> EvaluationSpec:
    return EvaluationSpec(task, metrics, metrics[0], **more)


def test_an_estimator_of_the_wrong_kind_is_refused() -> None:
    assert told(LOGISTIC, asked("regression", "rmse")) == ["model.estimator: LogisticRegression is no regressor"]
    assert told(RIDGE, asked("binary", "f1")) == ["model.estimator: Ridge is no classifier"]
    steps = [["one", {"_target_": "sklearn.preprocessing.StandardScaler"}], ["two", RIDGE]]
    piped = {"_target_": "sklearn.pipeline.Pipeline", "steps": steps}
    assert told(piped, asked("multiclass", "accuracy")) == ["model.estimator: Pipeline is no classifier"]
    assert told(piped, asked("regression", "rmse")) == []
    assert told({"_target_": "sklearn.cluster.KMeans"}, asked("regression", "rmse")) != []


def test_metrics_that_need_probabilities_are_named_when_the_model_will_have_none() -> None:
    own = OwnMetricSpec("cost", "shop.cost", "minimize", "probability")
    expected = ["evaluation.metrics: log_loss, cost needs probabilities, and LinearSVC has no predict_proba"]
    assert told(SVC, asked("binary", "f1", "log_loss", "cost", own=(own,))) == expected
    assert told(SVC, asked("binary", "f1")) == []
    assert told(LOGISTIC, asked("binary", "log_loss")) == []


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"_target_": "sklearn.ensemble.StackingClassifier", "estimators": [["a", SVC]]}, True),
        (
            {"_target_": "sklearn.ensemble.StackingClassifier", "estimators": [["a", SVC]], "final_estimator": SVC},
            False,
        ),
        ({"_target_": "sklearn.calibration.CalibratedClassifierCV", "estimator": SVC}, True),
        ({"_target_": "sklearn.model_selection.GridSearchCV", "estimator": SVC, "param_grid": {"C": [1.0]}}, False),
        (
            {
                "_target_": "sklearn.model_selection.GridSearchCV",
                "estimator": {
                    "_target_": "sklearn.pipeline.Pipeline",
                    "steps": [["s", {"_target_": "sklearn.ensemble.StackingClassifier", "estimators": [["a", SVC]]}]],
                },
                "param_grid": {},
            },
            True,
        ),
        ({"_target_": "sklearn.ensemble.VotingClassifier", "estimators": [["a", LOGISTIC]]}, False),
    ],
)
def test_whether_there_will_be_probabilities_is_known_before_training(config: dict[str, Any], expected: bool) -> None:
    model = build_estimator(config, ("sklearn",), 1)
    assert gives_probabilities(model) == expected
    x, y = np.arange(48.0).reshape(24, 2), np.arange(24) % 2
    assert hasattr(model.fit(x, y), "predict_proba") == expected


def test_one_class_is_nothing_to_learn() -> None:
    with pytest.raises(StageFailed, match="only one class is on the train side"):
        fit(build_estimator(LOGISTIC, ("sklearn",), 1), X, np.ones(3), classes=True)


@pytest.mark.parametrize(
    ("prediction", "shares", "message"),
    [
        ([0.0, 1.0, 3.0], None, "1 of 3 predictions are no code of one of 3 classes"),
        ([0.0, 1.5, -1.0], None, "2 of 3 predictions are no code"),
        ([0, 1, 2], [[0.5, 0.5]] * 3, r"shape \(3, 2\), not \(3, 3\)"),
        ([0, 1, 2], [[0.5, 0.5, 0.5]] * 3, "3 of 3 rows have no probabilities"),
        ([0, 1, 2], [[np.nan, 0.5, 0.5]] * 3, "3 of 3 rows have no probabilities"),
        ([0, 1, 2], [[2.0, -1.0, 0.0]] * 3, "3 of 3 rows have no probabilities"),
        ([0, 1, 2], [["a", "b", "c"]] * 3, "answers probabilities"),
    ],
)
def test_answers_that_are_no_classes_or_no_probabilities_are_refused(
    prediction: Any, shares: Any, message: str
) -> None:
    class Says:
        def predict(self, _: object) -> Any:
            return np.array(prediction)

        def predict_proba(self, _: object) -> Any:
            return np.array(shares)

    with pytest.raises(StageFailed, match=message):
        answers(Says(), X, 3)


def test_probabilities_go_to_the_classes_that_the_model_knows() -> None:
    class Says:
        classes_ = np.array([2, 0])

        def predict(self, _: object) -> Any:
            return np.array([0, 2, 2])

        def predict_proba(self, _: object) -> Any:
            return np.array([[0.25, 0.75], [1.0, 0.0], [0.5, 0.5]], np.float32)

    said = answers(Says(), X, 3)
    assert [said[name].tolist() for name in ("p0", "p1", "p2")] == [[0.75, 0.0, 0.5], [0.0] * 3, [0.25, 1.0, 0.5]]


# --- early stopping ------------------------------------------------------------------------------------

STOPS: dict[str, dict[str, Any]] = {
    "xgboost": {**BOOST, "n_estimators": 200, "early_stopping_rounds": 3, "learning_rate": 0.9},
    "hist": {
        "_target_": "sklearn.ensemble.HistGradientBoostingClassifier",
        "max_iter": 200,
        "early_stopping": True,
        "n_iter_no_change": 3,
        "min_samples_leaf": 2,
        "learning_rate": 0.9,
    },
}


def scaled(model: dict[str, Any]) -> dict[str, Any]:
    steps = [["scale", {"_target_": "sklearn.preprocessing.StandardScaler"}], ["model", model]]
    return {"_target_": "sklearn.pipeline.Pipeline", "steps": steps}


@pytest.mark.parametrize("name", STOPS)
@pytest.mark.parametrize("wrap", [lambda model: model, scaled, lambda model: scaled(scaled(model))])
def test_boosting_stops_when_the_validation_side_gains_no_more(tmp_path: Path, name: str, wrap: Any) -> None:
    root = ran(tmp_path, classified("multiclass", "colour", wrap(STOPS[name])), STAGES[:-1])
    card = json.loads((root / MODEL_CARD).read_text())
    assert card["early_stopping"] == "validation"
    assert card["rows"] == len(load_features(root, "train", PLAIN)[1])
    # by hand, with transformers that have seen the train side alone
    (x, y, _), (seen, truth, _) = (load_features(root, side, PLAIN) for side in ("train", "validation"))
    config, model = wrap(STOPS[name]), load_model((root / MODEL).read_bytes())
    last = config
    while "steps" in last:
        last = last["steps"][-1][1]
        scale = (x.mean(), x.std(ddof=0))
        x, seen = ((one - scale[0]) / scale[1] for one in (x, seen))
    alone = build_estimator(last, ("sklearn", "xgboost"), 7)
    if name == "xgboost":
        alone.fit(x, y.astype(int), eval_set=[(seen, truth.astype(int))], verbose=False)
        rounds = alone.best_iteration
    else:
        alone.fit(x, y.astype(int), X_val=seen, y_val=truth.astype(int))
        rounds = alone.n_iter_ - 1
    assert card["best_iteration"] == rounds < 150
    told = [row[0] for row in card["curve"]["rows"]]  # up to the round at which it gave up, or to the last one
    assert told == list(range(rounds + (4 if name == "xgboost" else 2)))
    test = load_features(root, "test", PLAIN)[0]
    assert len(set(model.predict(test))) == 3


def test_a_model_that_does_not_stop_early_never_sees_the_validation_side(tmp_path: Path) -> None:
    root = ran(tmp_path, classified("multiclass", "colour", BOOST), STAGES[:-3])
    (root / "artifacts/featurize/validation.parquet").unlink()
    run_stage("train", root, root)
    assert "early_stopping" not in json.loads((root / MODEL_CARD).read_text())


def test_the_test_side_is_never_seen_in_training(tmp_path: Path) -> None:
    root = ran(tmp_path, classified("multiclass", "colour", STOPS["xgboost"]), STAGES[:-3])
    (root / "artifacts/featurize/test.parquet").unlink()
    run_stage("train", root, root)


@pytest.mark.parametrize("name", STOPS)
def test_early_stopping_where_it_could_not_watch_the_validation_side_is_refused(name: str) -> None:
    search = {"_target_": "sklearn.model_selection.GridSearchCV", "estimator": STOPS[name], "param_grid": {}}
    stack = {"_target_": "sklearn.ensemble.StackingClassifier", "estimators": [["one", STOPS[name]]]}
    calibrated = {"_target_": "sklearn.calibration.CalibratedClassifierCV", "estimator": STOPS[name]}
    for config in (search, stack, calibrated, scaled(search)):
        with pytest.raises(ConfigError, match=r"model\.estimator: .* stops early inside") as caught:
            stopping(build_estimator(config, ("sklearn", "xgboost"), 1))
        assert "last step of a pipeline" in str(caught.value)
    assert stopping(build_estimator(scaled(STOPS[name]), ("sklearn", "xgboost"), 1)) is not None
