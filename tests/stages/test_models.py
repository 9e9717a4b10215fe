"""Canonical skops: equal models are equal bytes, in any process, and a hostile file is refused before it acts."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cd4ml.errors import IntegrityError, StageFailed
from cd4ml.stages.estimators import build_estimator
from cd4ml.stages.models import _normal_array, dump_model, load_model, model_digest

ROWS = 600


def table() -> tuple[pd.DataFrame, Any]:
    generator = np.random.default_rng(0)
    x = pd.DataFrame({"a": generator.normal(size=ROWS), "b": generator.normal(size=ROWS)})
    codes = generator.integers(-1, 3, ROWS)
    x["c"] = pd.Categorical.from_codes(codes, dtype=pd.CategoricalDtype(pd.Index(["x", "y", "z"], dtype="str")))
    return x, (x["a"] * 2 + np.asarray(codes) + generator.normal(size=ROWS)).to_numpy()


def piped(target: str, **params: Any) -> dict[str, Any]:
    prepare = {
        "_target_": "sklearn.compose.ColumnTransformer",
        "transformers": [
            ["numbers", {"_target_": "sklearn.preprocessing.StandardScaler"}, ["a", "b"]],
            ["words", {"_target_": "sklearn.preprocessing.OneHotEncoder", "handle_unknown": "ignore"}, ["c"]],
        ],
    }
    return {"_target_": "sklearn.pipeline.Pipeline", "steps": [["p", prepare], ["r", {"_target_": target, **params}]]}


SPLINES = {
    "_target_": "sklearn.pipeline.Pipeline",
    "steps": [
        [
            "p",
            {
                "_target_": "sklearn.compose.ColumnTransformer",
                "transformers": [["s", {"_target_": "sklearn.preprocessing.SplineTransformer"}, ["a", "b"]]],
            },
        ],
        ["r", {"_target_": "sklearn.linear_model.BayesianRidge"}],
    ],
}
TREE = {"_target_": "sklearn.tree.DecisionTreeRegressor", "max_depth": 2}

MODELS: dict[str, dict[str, Any]] = {
    "ridge": piped("sklearn.linear_model.Ridge"),
    "hist": {
        "_target_": "sklearn.ensemble.HistGradientBoostingRegressor",
        "max_iter": 5,
        "categorical_features": "from_dtype",
    },
    "forest": piped("sklearn.ensemble.RandomForestRegressor", n_estimators=3),
    "xgboost": {"_target_": "xgboost.XGBRegressor", "n_estimators": 5, "enable_categorical": True, "subsample": 0.5},
    "piped xgboost": piped("xgboost.XGBRegressor", n_estimators=3),
    "stack": piped("sklearn.ensemble.StackingRegressor", estimators=[["tree", TREE]]),
    "search": piped(
        "sklearn.model_selection.GridSearchCV",
        estimator={"_target_": "sklearn.linear_model.Ridge"},
        param_grid={"alpha": [0.1, 1.0]},
    ),
    "network": piped("sklearn.neural_network.MLPRegressor", hidden_layer_sizes=[3], max_iter=5),
    "neighbours": piped("sklearn.neighbors.KNeighborsRegressor"),
    "splines": SPLINES,
}


def fitted(name: str) -> Any:
    x, y = table()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return build_estimator(MODELS[name], ("sklearn", "xgboost"), seed=3).fit(x, y)


def schema_of(data: bytes) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(zipfile.ZipFile(io.BytesIO(data)).read("schema.json"))
    return value


def rewritten(data: bytes, change: Callable[[dict[str, Any]], Any]) -> bytes:
    """The same archive with its schema changed in place by ``change``."""
    source = zipfile.ZipFile(io.BytesIO(data))
    schema = schema_of(data)
    change(schema)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for info in source.infolist():
            content = json.dumps(schema).encode() if info.filename == "schema.json" else source.read(info)
            archive.writestr(info.filename, content)
    return buffer.getvalue()


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_its_bytes(name: str) -> None:
    """Fitting again gives the same bytes, storing what was loaded too, and what was loaded predicts the same."""
    x, _ = table()
    model = fitted(name)
    data = dump_model(model)
    assert dump_model(fitted(name)) == data
    loaded = load_model(data)
    assert dump_model(loaded) == data
    assert np.array_equal(loaded.predict(x), model.predict(x))


def test_another_process_with_other_hashes_gives_the_same_bytes() -> None:
    names = ["ridge", "hist", "forest", "xgboost", "search"]
    here = [model_digest(dump_model(fitted(name))) for name in names]
    code = (
        "from test_models import *\n"
        f"print([model_digest(dump_model(fitted(name))) for name in {list(reversed(names))!r}][::-1])"
    )
    folder = Path(__file__).parent
    path = os.pathsep.join([str(folder), str(folder.parent.parent)])
    env = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "12345", "OMP_NUM_THREADS": "1"}
    there = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert there.stdout.strip() == str(here)


def test_a_model_that_differs_has_another_digest() -> None:
    x, y = table()
    model = fitted("ridge")
    assert model_digest(dump_model(model)) != model_digest(dump_model(model.fit(x, y + 1e-6 * x["a"])))


def test_nothing_of_the_process_or_the_clock_is_left_in_the_file() -> None:
    data = dump_model(fitted("search"))
    archive = zipfile.ZipFile(io.BytesIO(data))
    assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert archive.namelist() == sorted(archive.namelist())
    assert all(name == "schema.json" or int(name.split(".")[0]) < 10_000 for name in archive.namelist())
    text = archive.read("schema.json").decode()
    schema = json.loads(text)
    search = schema["content"]["content"]["steps"]["content"][1]["content"][1]["content"]["content"]
    assert search["refit_time_"]["content"] == "0.0"
    times = search["cv_results_"]["content"]["mean_fit_time"]
    assert not np.load(io.BytesIO(archive.read(times["file"]))).any()


def test_the_padding_of_arrays_of_records_is_not_part_of_a_model() -> None:
    dtype = np.dtype([("left", "i8"), ("missing", "u1")], align=True)
    stored = []
    for noise in (0x00, 0xAB):
        array = np.frombuffer(bytes([noise]) * 3 * dtype.itemsize, dtype=np.uint8).copy().view(dtype)
        array["left"], array["missing"] = 5, 1
        buffer = io.BytesIO()
        np.save(buffer, array)
        stored.append(buffer.getvalue())
    assert stored[0] != stored[1]
    assert _normal_array(stored[0]) == _normal_array(stored[1])
    assert np.load(io.BytesIO(_normal_array(stored[1])))["left"].tolist() == [5, 5, 5]


# --- hostile files -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ridge() -> bytes:
    return dump_model(fitted("ridge"))


def node(loader: str, module: str, name: str, **more: Any) -> dict[str, Any]:
    return {"__class__": name, "__module__": module, "__loader__": loader, **more}


def call_arguments() -> dict[str, Any]:
    return node("TupleNode", "builtins", "tuple", content=[node("JsonNode", "builtins", "str", content='"touch x"')])


EMPTY = node("DictNode", "builtins", "dict", content={}, key_types=node("ListNode", "builtins", "list", content=[]))
HOSTILE = {
    "a shell": node("FunctionNode", "os", "system"),
    "a shell by another name": node("FunctionNode", "posix", "system"),
    "evaluation": node("TypeNode", "builtins", "eval"),
    "a builtin function": node("FunctionNode", "builtins", "exec"),
    "a process": node("ObjectNode", "subprocess", "Popen", content=EMPTY),
    "a constructor's call": node("ConstructorFromReduceNode", "subprocess", "Popen", content=call_arguments()),
    "a constructor's call in sklearn": node(
        "ConstructorFromReduceNode", "sklearn.linear_model._ridge", "Ridge", content=EMPTY
    ),
    "an operator": node("OperatorFuncNode", "operator", "methodcaller", attrs=call_arguments()),
    "a partial of a function that acts": node(
        "PartialNode",
        "functools",
        "partial",
        content={
            "func": node("FunctionNode", "os", "system"),
            "args": call_arguments(),
            "kwds": EMPTY,
            "namespace": EMPTY,
        },
    ),
    "what sklearn merely imports": node("TypeNode", "sklearn.utils._joblib", "Memory"),
    "a module that sklearn imports": node("TypeNode", "sklearn.utils.validation", "warnings"),
    "a function of sklearn": node("FunctionNode", "sklearn.datasets._openml", "fetch_openml"),
    "a class of sklearn's downloads": node("ObjectNode", "sklearn.datasets._openml", "OpenMLError", content=EMPTY),
    "a reader of NumPy": node("FunctionNode", "numpy", "load"),
    "a class of NumPy that opens files": node("ObjectNode", "numpy", "memmap", content=EMPTY),
    "a tree that calls another constructor": node(
        "TreeNode", "subprocess", "Popen", content=EMPTY, __reduce__={"args": call_arguments()}
    ),
    "an unknown loader": node("MysteryNode", "builtins", "dict"),
    "no type": {"__loader__": "ObjectNode"},
    "a type that is no text": {"__loader__": "ObjectNode", "__module__": ["os"], "__class__": "system"},
    "a name with a path": node("ObjectNode", "sklearn.linear_model._ridge", "Ridge.__init__", content=EMPTY),
    "a package that is not allowed": node("ObjectNode", "pandas", "DataFrame", content=EMPTY),
}


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("place", ["root", "attribute"])
def test_a_node_that_could_act_is_refused(ridge: bytes, case: str, place: str) -> None:
    def change(schema: dict[str, Any]) -> None:
        if place == "root":
            for key in [key for key in schema if key != "protocol"]:
                del schema[key]
            schema.update(HOSTILE[case])
        else:
            schema["content"]["content"]["verbose"] = HOSTILE[case]

    with pytest.raises(IntegrityError, match="holds what models may not"):
        load_model(rewritten(ridge, change))


def test_a_bound_method_is_refused(ridge: bytes) -> None:
    def change(schema: dict[str, Any]) -> None:
        owner = {key: value for key, value in schema.items() if key not in {"protocol", "_skops_version"}}
        content = {"func": "fit", "obj": owner}
        schema.update(node("MethodNode", owner["__module__"], owner["__class__"], content=content))

    with pytest.raises(IntegrityError, match="MethodNode"):
        load_model(rewritten(ridge, change))


@pytest.mark.parametrize("protocol", [0, 1, True, None, "2", -1])
def test_an_older_protocol_with_its_laxer_loaders_is_refused(ridge: bytes, protocol: Any) -> None:
    with pytest.raises(IntegrityError, match="protocol"):
        load_model(rewritten(ridge, lambda schema: schema.update(protocol=protocol)))


def test_files_that_are_not_canonical_skops_are_refused(ridge: bytes) -> None:
    for data in [b"", b"PK", ridge[:-100], ridge[:200], b"\x80\x04N."]:
        with pytest.raises(IntegrityError):
            load_model(data)


def packed_anew(model: bytes, *, compression: int = zipfile.ZIP_STORED, twice: str = "") -> bytes:
    """The members of a model in another archive, one of them there a second time."""
    made = io.BytesIO()
    with (
        warnings.catch_warnings(),
        zipfile.ZipFile(io.BytesIO(model)) as archive,
        zipfile.ZipFile(made, "w", compression) as other,
    ):
        warnings.simplefilter("ignore")
        for name in (*archive.namelist(), *([twice] if twice else [])):
            other.writestr(name, archive.read(name))
    return made.getvalue()


def test_a_model_of_compressed_members_is_refused(ridge: bytes) -> None:
    """A few bytes of it could fill the memory."""
    load_model(packed_anew(ridge))
    with pytest.raises(IntegrityError, match="compressed"):
        load_model(packed_anew(ridge, compression=zipfile.ZIP_DEFLATED))


def test_a_model_with_two_members_of_one_name_is_refused(ridge: bytes) -> None:
    """Readers differ in which of them counts."""
    with pytest.raises(IntegrityError, match="one name"):
        load_model(packed_anew(ridge, twice="schema.json"))


def test_a_model_of_the_projects_own_class_needs_its_package_to_be_allowed(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "owncode.py").write_text(
        "from sklearn.linear_model import Ridge\nclass Own(Ridge):\n    pass\n", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(tmp_path)
    x, y = table()
    model = build_estimator({"_target_": "owncode.Own"}, ("owncode",), 1).fit(x[["a"]], y)
    with pytest.raises(StageFailed, match=r"owncode\.Own"):
        dump_model(model)
    packages = frozenset({"sklearn", "owncode"})
    with pytest.raises(IntegrityError):
        load_model(dump_model(model, packages))
    assert type(load_model(dump_model(model, packages), packages)).__name__ == "Own"


def test_an_estimator_that_cannot_be_stored_fails_the_training() -> None:
    from sklearn.preprocessing import FunctionTransformer

    with pytest.raises(StageFailed, match="cannot be stored"):
        dump_model(FunctionTransformer(func=os.getcwd).fit([[1.0]]))
