"""``_target_``: what may stand for an estimator, and that nothing else is ever imported or called."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cd4ml.errors import ConfigError
from cd4ml.stages.estimators import build_estimator, check_estimator

ALLOWED = ("sklearn", "xgboost")


def refused(mapping: Mapping[str, Any], allowed: tuple[str, ...] = ALLOWED) -> dict[str, str]:
    """Message and hint of every problem by its key; building and checking must agree."""
    with pytest.raises(ConfigError) as caught:
        build_estimator(mapping, allowed, seed=1)
    assert check_estimator(mapping, allowed) == caught.value.problems
    return {problem.key: f"{problem.message} {problem.hint}" for problem in caught.value.problems}


HOSTILE_TARGETS = [
    "os.system",
    "builtins.eval",
    "builtins.open",
    "subprocess.Popen",
    "shutil.rmtree",
    "joblib.load",
    "pandas.read_pickle",
    "pickle.loads",
    "numpy.load",
    "distutils.spawn.spawn",
    "sklearn:os.system",
    "sklearn.os:system",
    "sklearn.pipeline.Pipeline:fit",
    "sklearn.pipeline.Pipeline.fit",
    "sklearn.pipeline.clone",
    "sklearn.pipeline",
    "sklearn",
    "sklearn.",
    ".sklearn.pipeline.Pipeline",
    "sklearn..pipeline.Pipeline",
    "sklearn.pipeline.__builtins__",
    "sklearn.pipeline.Pipeline.__init__",
    "sklearn.base.__class__",
    "sklearn.linear_model._ridge.Ridge",
    "sklearn.linear_model._ridge._BaseRidge",
    "sklearn.base.clone",
    "sklearn.base.inspect",
    "sklearn.externals.array_api_compat.numpy.load",
    "sklearn.externals._packaging.version.Version",
    "sklearn.datasets.fetch_openml",
    "sklearn.datasets.load_files",
    "sklearn.conftest.fetch_fixture",
    "sklearn.utils.Bunch",
    "sklearn.utils.Memory",
    "sklearn.utils.parallel.Parallel",
    "sklearn.set_config",
    "sklearn.pipeline.defaultdict",
    "sklearn.pipeline.chain",
    "sklearn.model_selection.KFold",
    "sklearn.preprocessing.StandardScaler",
    "xgboost.Booster",
    "xgboost.DMatrix",
    "xgboost.train",
    "xgboost.core.ctypes.CDLL",
    "xgboost.compat.pickle",
    "xgboost.dask.DaskXGBRegressor",
    "xgboost.spark.SparkXGBRegressor",
    "xgboost.testing.make_regression",
    "XGBOOST.XGBRegressor",
    "sklearn.linear_model.Rіdge",  # a Cyrillic letter
    "sklearn.linear_model.Ridge ",
    "sklearn/linear_model/Ridge",
    "../sklearn.linear_model.Ridge",
    "sklearn." * 100 + "Ridge",
    "",
    None,
    7,
    ["sklearn.linear_model.Ridge"],
    {"_target_": "os.system"},
]


@pytest.mark.parametrize("target", HOSTILE_TARGETS, ids=lambda target: repr(target)[:40])
def test_a_target_that_is_no_public_estimator_class_is_refused(target: Any) -> None:
    assert list(refused({"_target_": target})) == ["model.estimator._target_"]


INSIDE_ONLY = ("sklearn.preprocessing.StandardScaler", "sklearn.model_selection.KFold")


@pytest.mark.parametrize("target", [target for target in HOSTILE_TARGETS if target not in INSIDE_ONLY])
def test_it_is_refused_inside_another_estimator_as_well(target: Any) -> None:
    mapping = {"_target_": "sklearn.pipeline.Pipeline", "steps": [["x", {"_target_": target}]]}
    assert list(refused(mapping)) == ["model.estimator.steps[0][1]._target_"]


def test_a_transformer_may_stand_inside_but_not_at_the_top() -> None:
    scaler = {"_target_": "sklearn.preprocessing.StandardScaler"}
    assert "no predict" in refused(scaler)["model.estimator._target_"]
    mapping = {
        "_target_": "sklearn.pipeline.Pipeline",
        "steps": [["s", scaler], ["r", {"_target_": "sklearn.svm.SVR"}]],
    }
    assert type(build_estimator(mapping, ALLOWED, 1).steps[0][1]).__name__ == "StandardScaler"


@settings(deadline=None, max_examples=300)
@given(
    st.lists(
        st.sampled_from(
            ["sklearn", "os", "system", "base", "pipeline", "Pipeline", "_x", ":", "..", "__class__", "utils", "é"]
        ),
        max_size=5,
    )
)
def test_no_target_reaches_a_module_outside_the_allowed_packages(parts: list[str]) -> None:
    before = set(sys.modules)
    check_estimator({"_target_": ".".join(parts)}, ("sklearn",))
    assert {name for name in set(sys.modules) - before if not name.startswith("sklearn")} == set()


def test_a_package_that_is_not_allowed_is_not_even_imported(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "trap_package.py").write_text("raise SystemExit('imported')", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert "trap_package" in refused({"_target_": "trap_package.Model"})["model.estimator._target_"]
    assert "trap_package" not in sys.modules


def test_the_projects_own_package_is_checked_around_but_never_imported(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "trap_package.py").write_text("raise SystemExit('imported')", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    own = {"_target_": "trap_package.Model", "anything": 1}
    misspelt = {"_target_": "sklearn.linear_model.Ridge", "alhpa": 1.0}
    mapping = {"_target_": "sklearn.pipeline.Pipeline", "steps": [["one", own], ["two", misspelt]]}
    found = check_estimator(mapping, (*ALLOWED, "trap_package"), unseen=frozenset({"trap_package"}))
    assert [problem.key for problem in found] == ["model.estimator.steps[1][1].alhpa"]
    assert check_estimator(own, (*ALLOWED, "trap_package"), unseen=frozenset({"trap_package"})) == ()
    assert "trap_package" not in sys.modules


def test_a_class_that_an_allowed_package_only_imported_is_refused(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "mine_models.py").write_text(
        "from sklearn.linear_model import Ridge\n"
        "class Mine(Ridge):\n    pass\n"
        "class _Hidden(Ridge):\n    pass\n"
        "Alias = _Hidden\n"
        "def factory():\n    return Mine()\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert type(build_estimator({"_target_": "mine_models.Mine"}, ("mine_models",), 1)).__name__ == "Mine"
    for name, reason in (("Ridge", "not defined in"), ("Alias", "not public"), ("factory", "not a class")):
        assert reason in refused({"_target_": f"mine_models.{name}"}, ("mine_models",))["model.estimator._target_"]


def test_every_problem_is_reported_at_once_with_the_nearest_name() -> None:
    mapping = {
        "_target_": "sklearn.pipeline.Pipeline",
        "memory": "/tmp/cache",  # noqa: S108  # refused, never opened
        "steps": [
            ["scale", {"_target_": "sklearn.preprocessing.StandardScalar"}],
            ["regress", {"_target_": "sklearn.linear_model.Ridge", "alhpa": 1.0, "solver": "svd"}],
            ["boost", {"_target_": "xgboost.XGBRegressor", "max_deph": 3, "n_estimators": 5}],
        ],
    }
    found = refused(mapping)
    assert set(found) == {
        "model.estimator.memory",
        "model.estimator.steps[0][1]._target_",
        "model.estimator.steps[1][1].alhpa",
        "model.estimator.steps[2][1].max_deph",
    }
    assert "sklearn.preprocessing.StandardScaler" in found["model.estimator.steps[0][1]._target_"]
    assert "did you mean alpha?" in found["model.estimator.steps[1][1].alhpa"]
    assert "did you mean max_depth?" in found["model.estimator.steps[2][1].max_deph"]


def test_a_key_of_another_model_is_not_swallowed_by_xgboost() -> None:
    assert list(refused({"_target_": "xgboost.XGBRegressor", "max_iter": 200})) == ["model.estimator.max_iter"]
    assert list(refused({"_target_": "xgboost.XGBRegressor", "kwargs": {}})) == ["model.estimator.kwargs"]


def test_a_parameter_that_must_be_given_is_missed_before_anything_is_built() -> None:
    assert "needs" in refused({"_target_": "sklearn.pipeline.Pipeline"})["model.estimator.steps"]


def test_memory_may_be_null() -> None:
    steps = [["r", {"_target_": "sklearn.linear_model.Ridge"}]]
    assert build_estimator({"_target_": "sklearn.pipeline.Pipeline", "memory": None, "steps": steps}, ALLOWED, 1)


def test_values_that_are_no_plain_data_and_bottomless_nesting_are_refused() -> None:
    assert list(refused({"_target_": "sklearn.linear_model.Ridge", "alpha": {1, 2}})) == ["model.estimator.alpha"]
    value: Any = 1
    for _ in range(500):
        value = [value]
    assert "deeper" in "".join(refused({"_target_": "sklearn.linear_model.Ridge", "alpha": value}).values())


def test_the_seed_and_one_thread_go_wherever_they_are_left_open() -> None:
    mapping = {
        "_target_": "sklearn.pipeline.Pipeline",
        "steps": [
            ["q", {"_target_": "sklearn.preprocessing.QuantileTransformer", "random_state": 5}],
            ["forest", {"_target_": "sklearn.ensemble.RandomForestRegressor", "n_jobs": 2, "random_state": None}],
            ["boost", {"_target_": "xgboost.XGBRegressor"}],
        ],
    }
    built = dict(build_estimator(mapping, ALLOWED, seed=11).steps)
    assert built["q"].random_state == 5
    assert (built["forest"].random_state, built["forest"].n_jobs) == (11, 2)
    assert (built["boost"].random_state, built["boost"].n_jobs) == (11, 1)


def test_lists_of_named_parts_become_the_tuples_that_scikit_learn_wants() -> None:
    mapping = {
        "_target_": "sklearn.compose.ColumnTransformer",
        "transformers": [
            ["numbers", {"_target_": "sklearn.preprocessing.StandardScaler"}, ["a", "b"]],
            ["rest", "passthrough", ["c"]],
        ],
    }
    steps = [["p", mapping], ["r", {"_target_": "sklearn.linear_model.Ridge", "alpha": 2.0}]]
    built = build_estimator({"_target_": "sklearn.pipeline.Pipeline", "steps": steps}, ALLOWED, 1)
    name, scaler, columns = built.steps[0][1].transformers[0]
    assert (name, type(scaler).__name__, columns) == ("numbers", "StandardScaler", ["a", "b"])
    assert built.steps[0][1].transformers[1] == ("rest", "passthrough", ["c"])
    assert built.get_params()["r__alpha"] == 2.0


@pytest.mark.parametrize("steps", ["foo", [], ["ab"], [["one", 1]], [["one"]], {"one": "passthrough"}])
def test_what_is_no_list_of_named_objects_is_refused_by_its_key(steps: Any) -> None:
    told = refused({"_target_": "sklearn.pipeline.Pipeline", "steps": steps})
    assert told["model.estimator.steps"].startswith("must be a list of [name, object], at least one")


def test_the_models_that_the_project_ships_can_be_built() -> None:
    from cd4ml.gateways.hydra import compose

    root = Path(__file__).parents[2]
    files = {path.relative_to(root).as_posix(): path.read_bytes() for path in (root / "conf").rglob("*.yaml")}
    names = [Path(path).stem for path in files if path.startswith("conf/model/")]
    assert len(names) >= 3
    for name in names:
        chosen = files["conf/config.yaml"].replace(b"model: ridge", f"model: {name}".encode())
        composed = compose({**files, "conf/config.yaml": chosen}).resolved
        assert check_estimator(composed["model"]["estimator"], ALLOWED) == ()
        assert hasattr(build_estimator(composed["model"]["estimator"], ALLOWED, 1), "fit")
