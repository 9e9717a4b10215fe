"""Every estimator of scikit-learn and XGBoost is stored as canonical skops, or refused before training."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import is_classifier
from sklearn.linear_model import Ridge
from sklearn.utils.discovery import all_estimators

from cd4ml.errors import StageFailed
from cd4ml.stages.estimators import UNSTORABLE, build_estimator, check_estimator
from cd4ml.stages.models import dump_model, load_model, model_digest

ALLOWED = ("sklearn", "xgboost")
ROWS = 60
GENERATOR = np.random.default_rng(0)
X = np.abs(GENERATOR.normal(size=(ROWS, 4)))
LATER = np.abs(GENERATOR.normal(size=(20, 4)))
NUMBERS = np.abs(X[:, 0] * 2 + GENERATOR.normal(size=ROWS) * 0.1) + 0.1
CODES = (X[:, 0] > 0.7).astype(np.int64)
TEXTS = [f"{'red' if code else 'blue'} {row % 7} house" for row, code in enumerate(CODES)]

Config = dict[str, Any]
RIDGE: Config = {"_target_": "sklearn.linear_model.Ridge"}
LOGISTIC: Config = {"_target_": "sklearn.linear_model.LogisticRegression"}
SCALER: Config = {"_target_": "sklearn.preprocessing.StandardScaler"}

SMALL: Mapping[str, Any] = {"n_estimators": 3, "max_iter": 20, "cv": 2}
"""Parameters that keep a fit short, where a class takes them."""

NEEDED: Mapping[str, Config] = {
    "CCA": {"n_components": 1},
    "ClassifierChain": {"estimator": LOGISTIC},
    "FeatureHasher": {"n_features": 32},
    "GaussianRandomProjection": {"n_components": 2},
    "HashingVectorizer": {"n_features": 32},
    "OneHotEncoder": {"handle_unknown": "ignore"},
    "OrdinalEncoder": {"handle_unknown": "use_encoded_value", "unknown_value": -1},
    "OrthogonalMatchingPursuitCV": {"max_iter": 3},
    "PLSCanonical": {"n_components": 1},
    "PLSSVD": {"n_components": 1},
    "RadiusNeighborsClassifier": {"radius": 10.0},
    "RegressorChain": {"estimator": RIDGE},
    "SelectKBest": {"k": 2},
    "SelfTrainingClassifier": {"estimator": LOGISTIC},
    "SparseRandomProjection": {"n_components": 2},
    "TSNE": {"max_iter": 250, "perplexity": 5},
    "TargetEncoder": {"cv": 2},
    "TunedThresholdClassifierCV": {"estimator": LOGISTIC, "thresholds": 5, "cv": 2},
}
PLURAL = frozenset(
    {"MultiOutputClassifier", "MultiOutputRegressor", "ClassifierChain", "RegressorChain"}
    | {f"MultiTask{name}" for name in ("ElasticNet", "ElasticNetCV", "Lasso", "LassoCV")}
)
"""Estimators of several targets, which no task of cd4ml has; they are stored all the same."""

TEXTUAL = frozenset({"CountVectorizer", "TfidfVectorizer", "HashingVectorizer"})
NOT_BUILT: Mapping[str, Any] = {
    "FrozenEstimator": lambda target: target(Ridge().fit(X, NUMBERS)),
    "SparseCoder": lambda target: target(np.eye(4)[:2]),
}
"""What no configuration can describe, since they are made of a fitted estimator or of an array: how to make them."""


def configured(name: str, target: type[Any]) -> Config:
    """The least configuration of a class."""
    known = inspect.signature(target).parameters
    classifies = "Classif" in name or name in {"RFE", "RFECV"}
    inner = LOGISTIC if classifies or name == "FixedThresholdClassifier" else RIDGE
    config: Config = {"_target_": f"{_public(target)}.{name}"}
    config |= {key: value for key, value in SMALL.items() if key in known and name != "CountVectorizer"}
    if name in {"StackingClassifier", "StackingRegressor"}:
        config["cv"] = 2
    defaults: Mapping[str, Any] = {
        "estimator": inner,
        "base_estimator": inner,
        "estimators": [["one", inner]],
        "steps": [["one", SCALER], ["two", inner]],
        "transformers": [["one", SCALER, [0, 1]]],
        "transformer_list": [["one", SCALER]],
        "param_grid": {"alpha": [1.0, 2.0]},
        "param_distributions": {"alpha": [1.0, 2.0]},
    }
    for key, value in defaults.items():
        if key in known and known[key].default is inspect.Parameter.empty:
            config[key] = value
    if name == "RandomizedSearchCV":
        config["n_iter"] = 2
    return {**config, **NEEDED.get(name, {})}


def _public(target: type[Any]) -> str:
    """The module that a class is imported from: the part of its home before the first private one."""
    return target.__module__.partition("._")[0]


def rows_for(name: str, estimator: Any) -> tuple[Any, Any, Any]:
    """Rows to fit on, a target, and rows to answer for."""
    target: Any = CODES if is_classifier(estimator) or name == "NeighborhoodComponentsAnalysis" else NUMBERS
    if name in PLURAL:
        target = np.column_stack([target, target[::-1]])
    if name in TEXTUAL:
        return TEXTS, target, TEXTS[:20]
    match name:
        case "IsotonicRegression":
            return X[:, 0], target, LATER[:, 0]
        case "KernelCenterer":
            return X @ X.T, target, LATER @ X.T
        case "LabelBinarizer" | "LabelEncoder":
            return CODES, None, CODES[:20]
        case "MultiLabelBinarizer":
            return [["a"], ["b", "c"]], None, [["a", "c"]]
        case "DictVectorizer" | "FeatureHasher":
            return [{"a": 1.0, "b": 2.0}, {"b": 3.0}], None, [{"a": 2.0}]
        case "PatchExtractor":
            return np.ones((2, 20, 20)), None, np.ones((1, 20, 20))
        case _:
            return X, target, LATER


def answer(estimator: Any, rows: Any) -> Any:
    """What an estimator says of rows, as an array; nothing for one that says nothing of rows it has not seen."""
    method = next((name for name in ("predict", "transform") if hasattr(estimator, name)), "")
    if not method:
        return None
    said = getattr(estimator, method)(rows)
    return np.asarray(said.toarray() if hasattr(said, "toarray") else said)


def fitted(name: str, config: Config) -> tuple[Any, Any]:
    """The estimator, fitted, and the rows to answer for."""
    # a class that stands at the top must predict; inside a mapping any part of a model may be built
    wrapped = build_estimator({**RIDGE, "alpha": config}, ALLOWED, seed=1).alpha
    rows, target, later = rows_for(name, wrapped)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return (wrapped.fit(rows) if target is None else wrapped.fit(rows, target)), later


ESTIMATORS = dict(all_estimators())
STORABLE = sorted(set(ESTIMATORS) - set(UNSTORABLE) - set(NOT_BUILT))


@pytest.fixture(scope="module")
def elsewhere() -> dict[str, str]:
    """Digests of the models made by another process, whose hashes and addresses are others."""
    code = "from test_storable import *\nprint(json.dumps(digests()))"
    folder = Path(__file__).parent
    path = os.pathsep.join([str(folder), str(folder.parent.parent)])
    env = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "12345", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def digests() -> dict[str, str]:
    """By name: of every estimator alone, and of every composed model."""
    alone = {name: fitted(name, configured(name, ESTIMATORS[name]))[0] for name in STORABLE}
    return {
        name: model_digest(dump_model(model))
        for name, model in {**alone, **{name: composed(name) for name in COMPOSED}}.items()
    }


@pytest.mark.parametrize("name", STORABLE)
def test_it_is_stored_as_equal_bytes_in_any_process_and_loaded_to_answer_the_same(
    name: str, elsewhere: dict[str, str]
) -> None:
    model, later = fitted(name, configured(name, ESTIMATORS[name]))
    data = dump_model(model)
    assert model_digest(data) == elsewhere[name]
    before, after = answer(model, later), answer(load_model(data), later)
    assert np.array_equal(before, after, equal_nan=np.issubdtype(np.asarray(before).dtype, np.floating))


@pytest.mark.parametrize("name", sorted(UNSTORABLE))
def test_what_is_named_unstorable_is_so_and_is_refused_before_training(name: str) -> None:
    """The list is exact: nothing that could be stored is on it."""
    target = ESTIMATORS[name]
    with pytest.raises(StageFailed, match="cannot be stored"):
        dump_model(target().fit(X, NUMBERS))
    steps = [["one", {"_target_": f"{_public(target)}.{name}"}], ["two", RIDGE]]
    (problem,) = check_estimator({"_target_": "sklearn.pipeline.Pipeline", "steps": steps}, ALLOWED)
    assert problem.key == "model.estimator.steps[0][1]._target_"
    assert UNSTORABLE[name] in problem.message


@pytest.mark.parametrize("name", NOT_BUILT)
def test_what_configuration_cannot_describe_could_be_stored_too(name: str) -> None:
    model = NOT_BUILT[name](ESTIMATORS[name]).fit(X, NUMBERS)
    assert np.array_equal(answer(load_model(dump_model(model)), LATER), answer(model, LATER))


def test_all_estimators_of_scikit_learn_are_tried() -> None:
    assert len(STORABLE) > 190
    assert set(UNSTORABLE) <= set(ESTIMATORS)


BOOSTERS = {"XGBClassifier": CODES, "XGBRFClassifier": CODES, "XGBRegressor": NUMBERS, "XGBRFRegressor": NUMBERS}


@pytest.mark.parametrize("name", BOOSTERS)
def test_xgboost_is_stored_as_equal_bytes_and_loaded_to_answer_the_same(name: str) -> None:
    config = {"_target_": f"xgboost.{name}", "n_estimators": 3, "subsample": 0.5}
    model, again = (build_estimator(config, ALLOWED, 1).fit(X, BOOSTERS[name]) for _ in range(2))
    data = dump_model(model)
    assert dump_model(again) == data
    loaded = load_model(data)
    assert np.array_equal(loaded.predict(LATER), model.predict(LATER))
    if "Classifier" in name:
        assert np.array_equal(loaded.predict_proba(LATER), model.predict_proba(LATER))


def test_a_ranker_is_refused() -> None:
    (problem,) = check_estimator({"_target_": "xgboost.XGBRanker"}, ALLOWED)
    assert "ranks" in problem.message


TREE: Config = {"_target_": "sklearn.tree.DecisionTreeClassifier", "max_depth": 2}
FOLDS: Config = {"_target_": "sklearn.model_selection.StratifiedKFold", "n_splits": 2, "shuffle": True}
FRAME = pd.DataFrame(X, columns=list("abcd")).assign(
    word=pd.Categorical(np.where(CODES, "x", "y"), dtype=pd.CategoricalDtype(pd.Index(["x", "y"], dtype="str"))),
    text=pd.Series(TEXTS, dtype="str"),
)


def piped(*steps: Config) -> Config:
    return {"_target_": "sklearn.pipeline.Pipeline", "steps": [[f"s{n}", step] for n, step in enumerate(steps)]}


NUMBERED: Config = {
    "_target_": "sklearn.compose.ColumnTransformer",
    "transformers": [
        ["numbers", SCALER, {"_target_": "sklearn.compose.make_column_selector", "dtype_include": "number"}],
        ["words", {"_target_": "sklearn.preprocessing.OneHotEncoder"}, ["word"]],
        ["text", {"_target_": "sklearn.feature_extraction.text.TfidfVectorizer", "ngram_range": [1, 2]}, "text"],
    ],
}
IMPUTED: Config = {
    "_target_": "sklearn.compose.ColumnTransformer",
    "transformers": [["n", {"_target_": "sklearn.impute.IterativeImputer", "max_iter": 2}, list("abcd")]],
}
SELECTED: Config = {"_target_": "sklearn.feature_selection.SelectKBest", "score_func": "f_classif", "k": 2}
SEARCHED = {"estimator": LOGISTIC, "cv": FOLDS, "scoring": "neg_log_loss"}
GRID = {"C": [0.1, 1.0]}
COMPOSED: Mapping[str, Config] = {
    "columns by kind, words and text": piped(NUMBERED, LOGISTIC),
    "an experimental transformer and a selection": piped(IMPUTED, SELECTED, LOGISTIC),
    "calibrated": piped(
        NUMBERED,
        {"_target_": "sklearn.calibration.CalibratedClassifierCV", "estimator": TREE, "cv": FOLDS},
    ),
    "stacked": piped(
        NUMBERED,
        {
            "_target_": "sklearn.ensemble.StackingClassifier",
            "estimators": [["tree", TREE], ["boost", {"_target_": "xgboost.XGBClassifier", "n_estimators": 2}]],
            "cv": FOLDS,
        },
    ),
    "voting": piped(
        NUMBERED,
        {
            "_target_": "sklearn.ensemble.VotingClassifier",
            "estimators": [["tree", TREE], ["line", LOGISTIC]],
            "voting": "soft",
        },
    ),
    "searched by grid": piped(
        NUMBERED, {"_target_": "sklearn.model_selection.GridSearchCV", "param_grid": GRID, **SEARCHED}
    ),
    "searched over a pipeline": {
        "_target_": "sklearn.model_selection.GridSearchCV",
        "estimator": piped(NUMBERED, LOGISTIC),
        "param_grid": {"s1__C": [0.1, 1.0]},
        "cv": {"_target_": "sklearn.model_selection.TimeSeriesSplit", "n_splits": 2},
        "scoring": ["roc_auc", "accuracy"],
        "refit": "roc_auc",
    },
    "searched at random": piped(
        NUMBERED,
        {
            "_target_": "sklearn.model_selection.RandomizedSearchCV",
            "param_distributions": GRID,
            "n_iter": 2,
            **SEARCHED,
        },
    ),
    "searched by halving": piped(
        NUMBERED, {"_target_": "sklearn.model_selection.HalvingGridSearchCV", "param_grid": GRID, **SEARCHED}
    ),
    "a Gaussian process with a kernel": piped(
        IMPUTED,
        {
            "_target_": "sklearn.gaussian_process.GaussianProcessClassifier",
            "optimizer": None,
            "kernel": {
                "_target_": "sklearn.gaussian_process.kernels.Sum",
                "k1": {"_target_": "sklearn.gaussian_process.kernels.RBF", "length_scale_bounds": [0.1, 10.0]},
                "k2": {"_target_": "sklearn.gaussian_process.kernels.WhiteKernel"},
            },
        },
    ),
}


def composed(name: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return build_estimator(COMPOSED[name], ALLOWED, seed=3).fit(FRAME, CODES)


@pytest.mark.parametrize("name", COMPOSED)
def test_a_composed_model_is_configuration_alone_and_is_its_bytes(name: str, elsewhere: dict[str, str]) -> None:
    assert check_estimator(COMPOSED[name], ALLOWED) == ()
    model = composed(name)
    data = dump_model(model)
    assert model_digest(data) == elsewhere[name]
    assert np.array_equal(load_model(data).predict_proba(FRAME), model.predict_proba(FRAME))


def test_a_seed_goes_into_splitters_that_shuffle_and_into_no_other() -> None:
    """scikit-learn refuses a seed for a splitter that does not shuffle."""
    search = {"_target_": "sklearn.model_selection.GridSearchCV", "estimator": TREE, "param_grid": {}}
    straight = {"_target_": "sklearn.model_selection.KFold", "n_splits": 2}
    assert build_estimator({**search, "cv": FOLDS}, ALLOWED, seed=9).cv.random_state == 9
    assert build_estimator({**search, "cv": straight}, ALLOWED, seed=9).cv.random_state is None
    drawn = {"_target_": "sklearn.model_selection.ShuffleSplit"}
    assert build_estimator({**search, "cv": drawn}, ALLOWED, seed=9).cv.random_state == 9


def test_a_function_is_refused_with_the_way_to_do_it() -> None:
    transformer = {"_target_": "sklearn.preprocessing.FunctionTransformer", "func": "numpy.log1p"}
    (problem,) = check_estimator(piped(transformer, RIDGE), ALLOWED)
    assert problem.key == "model.estimator.steps[0][1].func"
    assert "write a class" in problem.hint
    (problem,) = check_estimator(piped({**SELECTED, "score_func": "os.system"}, RIDGE), ALLOWED)
    assert problem.message == "must be one of f_classif, f_regression, chi2, r_regression"
    assert check_estimator(piped({**transformer, "func": None}, RIDGE), ALLOWED) == ()
