"""Stage featurize: what is learnt from the train side, how a target becomes classes, and which columns leak."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cd4ml.errors import ConfigError, StageFailed
from cd4ml.spec.experiment import EvaluationSpec, FeaturesSpec, OwnStageSpec
from cd4ml.spec.pipeline import FEATURES, Pipeline
from cd4ml.stages.featurize import featurize_table, load_features, load_schema
from cd4ml.stages.ingest import ingest_table
from cd4ml.stages.runner import run_stage
from cd4ml.stages.split import assign_sides
from cd4ml.stages.table import read_table, write_parquet
from tests.stages.stage_world import CSVS, DAYS, build, data, resolved, spec

SPLIT = spec().split
REGRESSION = spec().evaluation


@pytest.fixture
def table(tmp_path: Path) -> pd.DataFrame:
    frames = {}
    for name, text in CSVS.items():
        (tmp_path / name).write_text(text)
        frames[name] = read_table(tmp_path / name, "csv", f"{name}.csv")
    return ingest_table(data(), frames, "regression")[0]


PLAIN = Pipeline(("trips", "planes"))


def features(**changes: Any) -> FeaturesSpec:
    return replace(spec().features, **changes)


def test_categories_are_learnt_from_the_train_side_alone(table: pd.DataFrame) -> None:
    side = assign_sides(table, SPLIT)["side"]
    frame, schema = featurize_table(table, side, features(), "delay", REGRESSION)
    city = next(feature for feature in schema["features"] if feature["name"] == "city")
    assert city["categories"] == ["lima", "oslo", "rome"]
    assert "cairo" in set(table["city"])
    assert frame["city"][(table["city"] == "cairo").to_numpy()].isna().all()
    assert frame["city"][(table["city"] != "cairo").to_numpy()].notna().all()


def test_the_schema_lists_features_in_the_order_declared(table: pd.DataFrame) -> None:
    frame, schema = featurize_table(table, assign_sides(table, SPLIT)["side"], features(), "delay", REGRESSION)
    names = ["distance", "late_start", "plane_year", "city", "plane", "start_month", "start_hour"]
    assert [feature["name"] for feature in schema["features"]] == names
    assert list(frame.columns) == [*names, "delay", "__row__"]
    assert frame["start_hour"].tolist() == [float(moment.hour) for moment in table["start"]]
    assert {str(frame[name].dtype) for name in names if name not in {"city", "plane"}} == {"float64"}


def test_few_valued_numbers_and_truth_may_be_categories(table: pd.DataFrame) -> None:
    side = assign_sides(table, SPLIT)["side"]
    frame, schema = featurize_table(table, side, features(categorical=("night", "plane_electric")), "delay", REGRESSION)
    assert schema["features"][3]["categories"] == schema["features"][4]["categories"] == ["False", "True"]
    assert frame["plane_electric"].isna().equals(table["plane_electric"].isna())


def test_every_wrong_column_is_reported_at_once(table: pd.DataFrame) -> None:
    wrong = features(
        numeric=("distance", "delay", "city", "distnace", "distance"),
        categorical=("late_start",),
        calendar={"start": ("month", "week"), "distance": ("hour",)},
    )
    with pytest.raises(ConfigError) as caught:
        featurize_table(table, assign_sides(table, SPLIT)["side"], wrong, "delay", REGRESSION)
    told = str(caught.value)
    for part in (
        "'delay' is the target",
        "'city' is string",
        "no column 'distnace'",
        "'late_start' is float64",
        "'week' is none of",
        "features.calendar.distance",
        "'distance' is there twice",
    ):
        assert part in told


def test_an_exact_copy_of_the_target_cannot_be_a_feature(table: pd.DataFrame) -> None:
    leaky = table.assign(oracle=table["delay"], nearly=table["delay"] + (table.index == 0))
    side = assign_sides(table, SPLIT)["side"]
    with pytest.raises(ConfigError, match="'oracle' is an exact copy of the target"):
        featurize_table(leaky, side, features(numeric=("oracle",)), "delay", REGRESSION)
    featurize_table(leaky, side, features(numeric=("nearly",)), "delay", REGRESSION)


@pytest.mark.parametrize("column", ["late_start", "delay"])
def test_infinite_values_are_refused_by_column(table: pd.DataFrame, column: str) -> None:
    endless = table.assign(**{column: table[column].where(table.index != 5, np.inf)})
    with pytest.raises(StageFailed, match=f"column '{column}' holds infinite values"):
        featurize_table(endless, assign_sides(table, SPLIT)["side"], features(), "delay", REGRESSION)


def test_what_a_model_is_handed_has_the_schemas_categories_on_every_side(tmp_path: Path) -> None:
    build(tmp_path / "root", tmp_path / "raw", resolved())
    for stage in ("ingest", "split", "featurize"):
        run_stage(stage, tmp_path / "root", tmp_path / "raw")
    sizes = 0
    for side in ("train", "validation", "test"):
        x, y, rows = load_features(tmp_path / "root", side, PLAIN)
        assert x["city"].cat.categories.tolist() == ["lima", "oslo", "rome"]
        assert (str(y.dtype), str(rows.dtype)) == ("float64", "int64")
        assert len(x) == len(y) == len(rows)
        sizes += len(rows)
    assert sizes == sum(day % 10 != 9 for day in range(DAYS))


# --- what a model may be handed ------------------------------------------------------------------------


def sided(count: int = 12) -> pd.Series[Any]:
    """Sides in turn, so that every class of a few rows is on each."""
    return pd.Series([("train", "validation", "test")[n // 4 % 3] for n in range(count)], dtype="str")


def plain(**columns: Any) -> pd.DataFrame:
    found = {"x": pd.Series([float(n * 5 % 7) for n in range(12)])}
    return pd.DataFrame({**found, **{name: pd.Series(values) for name, values in columns.items()}})


def chosen(**kinds: Any) -> FeaturesSpec:
    return replace(FeaturesSpec((), (), {}), **kinds)


def test_text_is_handed_over_as_text_with_nothing_missing() -> None:
    table = plain(note=["a b", None, "", *"cdefghijk"], y=range(12))
    frame, schema = featurize_table(table, sided(), chosen(text=("note",), numeric=("x",)), "y", REGRESSION)
    assert frame["note"].tolist() == ["a b", "", "", *"cdefghijk"]
    assert schema["features"][-1] == {"name": "note", "kind": "text"}


def test_truth_constants_gaps_in_training_and_identifiers_are_features(tmp_path: Path) -> None:
    table = plain(
        flag=pd.array([True, None, False] * 4, dtype="boolean"),
        same=[1] * 12,
        late=[np.nan] * 4 + [1.0] * 8,
        who=[f"id{n}" for n in range(12)],
        y=range(12),
    )
    asked = chosen(numeric=("flag", "same", "late"), categorical=("who",))
    frame, schema = featurize_table(table, sided(), asked, "y", REGRESSION)
    assert frame["flag"].isna().tolist() == [False, True, False] * 4
    assert frame["flag"].dtype == np.float64
    assert schema["features"][3]["categories"] == ["id0", "id1", "id2", "id3"]
    assert frame["who"].notna().sum() == 4


WRONG: dict[str, tuple[dict[str, Any], dict[str, Any], str, str]] = {
    "a near name": ({}, {"numeric": ("xx",)}, "regression", r"features\.numeric: .*'xx' \(did you mean 'x'\?\)"),
    "blanks in a name": ({"city ": ["a"] * 12}, {"categorical": ("city",)}, "regression", r"did you mean 'city '\?"),
    "nothing at all": ({"none": [np.nan] * 12}, {"numeric": ("none",)}, "regression", r"'none' holds no value at all"),
    "no text at all": ({"none": [np.nan] * 12}, {"text": ("none",)}, "regression", r"'none' holds no value at all"),
    "numbers as text": ({}, {"text": ("x",)}, "regression", r"features\.text: column 'x' is float64, not string"),
    "text as numbers": ({"w": ["a"] * 12}, {"numeric": ("w",)}, "regression", r"features\.numeric: .*'w' is string"),
    "a copy as text": (
        {"w": [str(n) for n in range(12)]},
        {"categorical": ("w",)},
        "regression",
        r"'w' is an exact copy of the target",
    ),
    "a copy as numbers": ({"w": [float(n) for n in range(12)]}, {"numeric": ("w",)}, "regression", r"exact copy"),
    "a class as number": ({"w": [0, 1] * 6, "y": ["n", "y"] * 6}, {"numeric": ("w",)}, "binary", r"exact copy"),
    "a class as truth": (
        {"w": [False, True] * 6, "y": ["n", "y"] * 6},
        {"categorical": ("w",)},
        "binary",
        r"exact copy",
    ),
    "a class in other words": (
        {"w": ["rot", "grün", "blau"] * 4, "y": ["red", "green", "blue"] * 4},
        {"categorical": ("w",)},
        "multiclass",
        r"exact copy",
    ),
    "a class as text": ({"w": ["a", "b"] * 6, "y": ["a", "b"] * 6}, {"text": ("w",)}, "binary", r"exact copy"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_column_that_is_no_feature_is_named_by_its_key(case: str) -> None:
    columns, kinds, task, message = WRONG[case]
    table = plain(**{"y": range(12), **columns})
    with pytest.raises(ConfigError, match=message) as caught:
        featurize_table(table, sided(), chosen(**kinds), "y", classification(task))
    assert "red" not in str(caught.value)


def test_a_copy_with_one_other_value_is_no_copy() -> None:
    nearly = ["n", "y"] * 5 + ["y", "n"]
    table = plain(w=["n", "y"] * 6, y=nearly)
    featurize_table(table, sided(), chosen(categorical=("w",)), "y", classification("binary"))


# --- classes -------------------------------------------------------------------------------------------


def classification(task: Any, positive: str = "") -> EvaluationSpec:
    return EvaluationSpec(task, ("accuracy",), "accuracy", positive=positive)


@pytest.mark.parametrize(
    ("labels", "task", "positive", "classes"),
    [
        (["no", "yes"], "binary", "", ["no", "yes"]),
        (["no", "yes"], "binary", "no", ["yes", "no"]),
        ([2, 1], "binary", "", [1, 2]),
        ([2, 1], "binary", "1", [2, 1]),
        ([False, True], "binary", "", [False, True]),
        ([False, True], "binary", "false", [True, False]),
        ([False, True], "binary", "True", [False, True]),
        (["c", "a", "b"], "multiclass", "", ["a", "b", "c"]),
        ([10, 9, 1], "multiclass", "", [1, 9, 10]),
    ],
)
def test_a_target_s_code_is_the_place_of_its_label_and_the_positive_one_is_last(
    labels: list[Any], task: Any, positive: str, classes: list[Any]
) -> None:
    table = plain(y=(labels * 6)[:12])
    frame, schema = featurize_table(table, sided(), chosen(numeric=("x",)), "y", classification(task, positive))
    assert (schema["classes"], schema["task"]) == (classes, task)
    assert [type(label) for label in schema["classes"]] == [type(label) for label in classes]
    assert [schema["classes"][int(code)] for code in frame["y"]] == table["y"].tolist()
    assert frame["y"].dtype == np.float64


def test_a_positive_class_that_is_none_is_named_and_no_label_is_shown() -> None:
    table = plain(y=["klara", "nemo"] * 6)
    with pytest.raises(ConfigError, match=r"evaluation\.positive: 'yes' is no class of the target 'y'") as caught:
        featurize_table(table, sided(), chosen(numeric=("x",)), "y", classification("binary", "yes"))
    assert "klara" not in str(caught.value)


def test_a_class_that_training_never_sees_is_counted_with_what_to_do() -> None:
    table = plain(y=["a", "b"] * 2 + ["c", "a", "c", "klara"] * 2)
    with pytest.raises(
        StageFailed, match=r"2 of 4 classes \(6 rows\) are not on the train side; .*stratified"
    ) as caught:
        featurize_table(table, sided(), chosen(numeric=("x",)), "y", classification("multiclass"))
    assert "klara" not in str(caught.value)


def test_a_regression_has_no_classes(tmp_path: Path) -> None:
    build(tmp_path / "root", tmp_path / "raw", resolved())
    for stage in ("ingest", "split", "featurize"):
        run_stage(stage, tmp_path / "root", tmp_path / "raw")
    schema = load_schema(tmp_path / "root")
    assert (schema["target"], schema["task"], schema["classes"]) == ("delay", "regression", None)


# --- features of the project's own stages --------------------------------------------------------------

OWN = Pipeline(
    ("m",), own=(OwnStageSpec("embed", {}, (), (), "features"), OwnStageSpec("more", {}, (), (), "features"))
)


@pytest.fixture
def featurized(tmp_path: Path) -> Path:
    """The train side of a tiny table, and two stages' features of it: the first in another order of rows."""
    table = plain(y=range(12))
    frame, schema = featurize_table(table, sided(), chosen(numeric=("x",)), "y", REGRESSION)
    (tmp_path / "artifacts" / "featurize").mkdir(parents=True)
    (tmp_path / "artifacts" / "featurize" / "schema.json").write_text(json.dumps(schema))
    write_parquet(frame[:4], tmp_path / FEATURES["train"])
    embed(tmp_path, pd.DataFrame({"e": [3, 2, 1, 0], "__row__": [3, 2, 1, 0]}))
    embed(tmp_path, pd.DataFrame({"__row__": [0, 1, 2, 3], "f": [0.5, np.nan, 1.5, 2.5], "t": [True] * 4}), "more")
    return tmp_path


def embed(root: Path, frame: pd.DataFrame, stage: str = "embed") -> None:
    """As code of a project writes it."""
    (root / "artifacts" / stage).mkdir(exist_ok=True)
    frame.to_parquet(root / "artifacts" / stage / "train.parquet", index=frame.index.name is not None)


def test_own_features_are_matched_by_row_and_come_after_the_others(featurized: Path) -> None:
    embed(featurized, pd.DataFrame({"e": [30, 20, 10, 0], "__row__": [3, 2, 1, 0]}))
    x, y, rows = load_features(featurized, "train", OWN)
    assert list(x.columns) == ["x", "e", "f", "t"]
    assert x["e"].tolist() == [0.0, 10.0, 20.0, 30.0]
    assert x["f"].isna().tolist() == [False, True, False, False]
    assert {str(dtype) for dtype in x.dtypes} == {"float64"}
    assert (y.tolist(), rows.tolist()) == ([0.0, 1.0, 2.0, 3.0], [0, 1, 2, 3])
    assert list(load_features(featurized, "train", Pipeline(("m",)))[0].columns) == ["x"]


ROWS = [0, 1, 2, 3]
BAD_OWN: dict[str, tuple[dict[str, Any], str]] = {
    "no rows named": ({"e": [1, 2, 3, 4]}, r"has no column '__row__' of whole numbers"),
    "rows as text": ({"e": [1, 2, 3, 4], "__row__": list("0123")}, r"has no column '__row__' of whole numbers"),
    "a row too few": ({"e": [1, 2, 3], "__row__": ROWS[:3]}, r"each of the side's 4 rows once"),
    "a row twice": ({"e": [1, 2, 3, 4], "__row__": [0, 1, 2, 2]}, r"each of the side's 4 rows once"),
    "a row of another side": ({"e": [1, 2, 3, 4], "__row__": [0, 1, 2, 9]}, r"each of the side's 4 rows once"),
    "text": ({"e": list("abcd"), "__row__": ROWS}, r"column 'e' is string, not numbers"),
    "infinite": ({"e": [1, np.inf, 3, 4], "__row__": ROWS}, r"column 'e' holds infinite values"),
    "a name that is taken": ({"x": [1, 2, 3, 4], "__row__": ROWS}, r"feature 'x' is there already"),
    "the target's name": ({"y": [1, 2, 3, 4], "__row__": ROWS}, r"feature 'y' is there already"),
    "another own stage's name": ({"f": [1, 2, 3, 4], "__row__": ROWS}, r"feature 'f' is there already"),
    "the target": ({"e": ROWS, "__row__": ROWS}, r"feature 'e' .* exact copy of the target"),
}


@pytest.mark.parametrize("case", BAD_OWN)
def test_own_features_that_do_not_fit_are_refused_by_file_and_column(featurized: Path, case: str) -> None:
    columns, message = BAD_OWN[case]
    embed(featurized, pd.DataFrame(columns))
    with pytest.raises(StageFailed, match=message) as caught:
        load_features(featurized, "train", OWN)
    assert len(str(caught.value).splitlines()) == 1


def test_the_index_of_pandas_and_a_file_that_is_no_table_are_refused(featurized: Path) -> None:
    frame = pd.DataFrame({"e": [9, 8, 7, 6], "__row__": ROWS}, index=pd.Index([5, 6, 7, 8], name="__index_level_0__"))
    embed(featurized, frame)
    with pytest.raises(StageFailed, match="write it with index=False"):
        load_features(featurized, "train", OWN)
    (featurized / "artifacts" / "embed" / "train.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(StageFailed, match=r"artifacts/embed/train\.parquet is no Parquet file of numbers"):
        load_features(featurized, "train", OWN)
