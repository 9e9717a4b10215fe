"""The judge: a run's predictions are a stranger's file, and what they are worth is told by side, slice and plot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cd4ml.errors import IntegrityError, StageFailed
from cd4ml.index.record import encode
from cd4ml.index.validate import MAX_BYTES
from cd4ml.spec.experiment import EvaluationSpec
from cd4ml.spec.metrics import metrics_of
from cd4ml.spec.pipeline import (
    CALIBRATION,
    CONFUSION,
    PRECISION_RECALL,
    PREDICTED_VS_OBSERVED,
    RESIDUALS,
    RESIDUALS_OVER_TIME,
    ROC,
)
from cd4ml.stages.evaluate import check_predictions, judge_predictions
from cd4ml.stages.plots import SAMPLE
from cd4ml.stages.slices import MISSING
from cd4ml.stages.split import assign_sides
from cd4ml.stages.table import digest_matrix, write_parquet
from tests.index.index_world import run_body
from tests.stages.stage_world import spec

ROWS = 4000
SPEC = spec({"split.validation_from": "2013-02-01", "split.test_from": "2013-05-01"})


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    generator = np.random.default_rng(1)
    times = pd.date_range("2013-01-01", periods=ROWS, freq="h", tz="UTC").astype("datetime64[ns, UTC]")
    return pd.DataFrame({"start": times, "delay": generator.normal(size=ROWS) + 20.0})


@pytest.fixture(scope="module")
def split(table: pd.DataFrame) -> pd.DataFrame:
    return assign_sides(table, SPEC.split)


@pytest.fixture
def predictions(table: pd.DataFrame, split: pd.DataFrame) -> pd.DataFrame:
    asked = split[split["side"] != "train"].reset_index(drop=True)
    noise = np.random.default_rng(2).normal(size=len(asked))
    return asked.assign(prediction=table["delay"].to_numpy()[asked["row"]] + noise)


def written(tmp_path: Path, frame: pd.DataFrame) -> Path:
    path = tmp_path / "predictions.parquet"
    write_parquet(frame[["row", "side", "prediction"]], path, {"digest": digest_matrix(frame["digest"])})
    return path


# --- hostile predictions -------------------------------------------------------------------------------

Change = Callable[[pd.DataFrame], pd.DataFrame]
CHEATS: dict[str, Change] = {
    "a row left out": lambda frame: frame.iloc[1:],
    "the hard rows left out": lambda frame: frame[frame["row"] % 7 != 0],
    "a side left out": lambda frame: frame[frame["side"] == "test"],
    "nothing at all": lambda frame: frame.iloc[:0],
    "a row twice": lambda frame: pd.concat([frame, frame.iloc[:1]]),
    "one row for another": lambda frame: pd.concat([frame.iloc[1:], frame.iloc[1:2]]),
    "a train row more": lambda frame: pd.concat([frame, frame.iloc[:1].assign(row=0)]),
    "a row that is not there": lambda frame: frame.assign(row=frame["row"].replace(frame["row"].max(), 10**9)),
    "a negative row": lambda frame: frame.assign(row=frame["row"].replace(frame["row"].max(), -1)),
    "digests of other rows": lambda frame: frame.assign(digest=frame["digest"].iloc[::-1].tolist()),
    "one digest changed": lambda frame: frame.assign(digest=[b"\0" * 16, *frame["digest"][1:]]),
    "sides exchanged": lambda frame: frame.assign(
        side=frame["side"].replace({"test": "validation", "validation": "test"})
    ),
    "one side renamed": lambda frame: frame.assign(side=["train", *frame["side"][1:]]),
    "a NaN": lambda frame: frame.assign(prediction=frame["prediction"].where(frame.index != 3)),
    "an infinity": lambda frame: frame.assign(prediction=frame["prediction"].where(frame.index != 3, np.inf)),
    "a column more": lambda frame: frame.assign(weight=1.0),
    "a column less": lambda frame: frame.drop(columns="side"),
    "rows as floats": lambda frame: frame.astype({"row": "float64"}),
    "predictions as text": lambda frame: frame.astype({"prediction": "str"}),
    "predictions as whole numbers": lambda frame: frame.assign(prediction=np.arange(len(frame))),
}


@pytest.mark.parametrize("cheat", CHEATS)
def test_predictions_that_are_not_exactly_what_was_asked_are_refused(
    predictions: pd.DataFrame, split: pd.DataFrame, cheat: str
) -> None:
    with pytest.raises(IntegrityError):
        check_predictions(CHEATS[cheat](predictions), split)


def test_honest_predictions_pass_in_any_order(predictions: pd.DataFrame, split: pd.DataFrame) -> None:
    check_predictions(predictions.sample(frac=1.0, random_state=3), split)


def hostile_file(path: Path, honest: pa.Table, case: str) -> None:
    match case:
        case "text":
            path.write_text("row,prediction\n1,2\n")
        case "cut off":
            pq.write_table(honest, path)
            path.write_bytes(path.read_bytes()[:-50])
        case "gone":
            pass
        case "a folder":
            path.mkdir()
        case "a link":
            pq.write_table(honest, path.with_suffix(".real"))
            path.symlink_to(path.with_suffix(".real"))
        case "a column twice":
            twice = pa.Table.from_arrays([*honest.columns, honest["row"]], [*honest.column_names, "row"])
            pq.write_table(twice, path)
        case "a missing value":
            column = pa.array([None, *honest["prediction"].to_pylist()[1:]], pa.float64())
            pq.write_table(honest.set_column(honest.schema.get_field_index("prediction"), "prediction", column), path)
        case "a digest of another width":
            column = pa.array([b"x"] * len(honest), pa.binary(1))
            pq.write_table(honest.set_column(honest.schema.get_field_index("digest"), "digest", column), path)
        case "other types":
            index = honest.schema.get_field_index("row")
            pq.write_table(honest.set_column(index, "row", honest["row"].cast(pa.int32())), path)


def test_rows_are_counted_before_they_are_read(
    tmp_path: Path, table: pd.DataFrame, split: pd.DataFrame, predictions: pd.DataFrame
) -> None:
    more = pd.concat([predictions] * 3, ignore_index=True)
    with pytest.raises(IntegrityError, match=f"holds {len(more)} rows, and {len(predictions)} were asked for"):
        judge_predictions(table, split, written(tmp_path, more), SPEC)


@pytest.mark.parametrize(
    "case",
    [
        *("text", "cut off", "gone", "a folder", "a link", "a column twice", "a missing value"),
        *("a digest of another width", "other types"),
    ],
)
def test_a_file_that_is_no_predictions_file_is_refused(
    tmp_path: Path, table: pd.DataFrame, split: pd.DataFrame, predictions: pd.DataFrame, case: str
) -> None:
    honest = pq.read_table(written(tmp_path, predictions))
    path = tmp_path / "hostile.parquet"
    hostile_file(path, honest, case)
    with pytest.raises(IntegrityError):
        judge_predictions(table, split, path, SPEC)


# --- predictions of classes ----------------------------------------------------------------------------

CLASSES = ("blue", "green", "red")
COLOURED = spec(
    {
        "split.validation_from": "2013-02-01",
        "split.test_from": "2013-05-01",
        "evaluation": {"task": "multiclass", "metrics": ["accuracy", "log_loss"], "primary": "log_loss"},
    }
)


@pytest.fixture(scope="module")
def coloured(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(delay=pd.Series(np.array(CLASSES)[np.arange(ROWS) % 3], dtype="str"))


@pytest.fixture
def answered(split: pd.DataFrame) -> pd.DataFrame:
    """Right for two rows of three, with probabilities."""
    asked = split[split["side"] != "train"].reset_index(drop=True)
    codes = (asked["row"] % 3).where(asked["row"] % 9 != 0, 2)
    shares = {f"p{code}": np.where(codes == code, 0.8, 0.1) for code in range(3)}
    return asked.assign(prediction=codes.astype("float64"), **shares)


def written_classes(tmp_path: Path, frame: pd.DataFrame) -> Path:
    path = tmp_path / "predictions.parquet"
    write_parquet(frame.drop(columns="digest"), path, {"digest": digest_matrix(frame["digest"])})
    return path


def test_classes_are_judged_by_code_and_probability(
    tmp_path: Path, coloured: pd.DataFrame, split: pd.DataFrame, answered: pd.DataFrame
) -> None:
    evaluation = judge_predictions(coloured, split, written_classes(tmp_path, answered), COLOURED, CLASSES)
    test = answered[answered["side"] == "test"]
    right = (test["prediction"] == test["row"] % 3).to_numpy()
    assert evaluation.metrics["test"]["accuracy"] == pytest.approx(right.mean())
    loss = -(right * np.log(0.8) + (~right) * np.log(0.1)).mean()
    assert evaluation.metrics["test"]["log_loss"] == pytest.approx(loss)
    lines = evaluation.plots[CONFUSION].splitlines()
    assert lines[0] == "predicted,observed"
    assert set(lines[1:]) == {"blue,blue", "green,green", "red,red", "red,blue"}
    assert len(lines) == 1 + SAMPLE


CLASS_CHEATS: dict[str, tuple[Change, str]] = {
    "a class that is not there": (lambda frame: frame.assign(prediction=3.0), "no code"),
    "half a class": (lambda frame: frame.assign(prediction=0.5), "no code"),
    "a class below": (lambda frame: frame.assign(prediction=-1.0), "no code"),
    "a probability over 1": (lambda frame: frame.assign(p0=1.5, p1=-0.25, p2=-0.25), "no probabilities that sum to 1"),
    "probabilities that sum to more": (lambda frame: frame.assign(p0=0.9, p1=0.9, p2=0.9), "no probabilities that sum"),
    "a probability that is no number": (lambda frame: frame.assign(p0=np.nan), "missing|no probabilities"),
    "a class more": (lambda frame: frame.assign(p3=0.0), "must hold exactly"),
    "a class less": (lambda frame: frame.drop(columns="p2"), "must hold exactly"),
}


@pytest.mark.parametrize("cheat", CLASS_CHEATS)
def test_classes_and_probabilities_that_are_none_are_refused(
    tmp_path: Path, coloured: pd.DataFrame, split: pd.DataFrame, answered: pd.DataFrame, cheat: str
) -> None:
    change, message = CLASS_CHEATS[cheat]
    with pytest.raises(IntegrityError, match=message):
        judge_predictions(coloured, split, written_classes(tmp_path, change(answered)), COLOURED, CLASSES)


def test_a_metric_that_needs_probabilities_is_refused_where_there_are_none(
    tmp_path: Path, coloured: pd.DataFrame, split: pd.DataFrame, answered: pd.DataFrame
) -> None:
    path = written_classes(tmp_path, answered.drop(columns=["p0", "p1", "p2"]))
    with pytest.raises(StageFailed, match="'log_loss' needs probabilities, and the model gives none"):
        judge_predictions(coloured, split, path, COLOURED, CLASSES)


def test_the_truth_must_be_of_a_known_class(
    tmp_path: Path, coloured: pd.DataFrame, split: pd.DataFrame, answered: pd.DataFrame
) -> None:
    odd, path = coloured.assign(delay="purple"), written_classes(tmp_path, answered)
    with pytest.raises(StageFailed, match="no known class, on the validation side"):
        judge_predictions(odd, split, path, COLOURED, CLASSES)


BINARY = replace(
    COLOURED,
    evaluation=EvaluationSpec("binary", ("recall", "roc_auc"), "roc_auc"),
)


def test_a_binary_task_draws_its_curves_and_without_probabilities_their_header_alone(
    tmp_path: Path, table: pd.DataFrame, split: pd.DataFrame
) -> None:
    late = table.assign(delay=table["delay"] > 20)
    asked = split[split["side"] != "train"].reset_index(drop=True)
    share = np.clip((table["delay"].to_numpy()[asked["row"]] - 17) / 6, 0, 1)
    answered = asked.assign(prediction=(share > 0.5).astype("float64"), p0=1 - share, p1=share)
    evaluation = judge_predictions(late, split, written_classes(tmp_path, answered), BINARY, (False, True))
    assert evaluation.metrics["test"] == {"recall": 1.0, "roc_auc": 1.0}
    roc = [tuple(map(float, line.split(","))) for line in evaluation.plots[ROC].splitlines()[1:]]
    assert roc[0] == (0.0, 0.0)
    assert roc[-1] == (1.0, 1.0)
    assert (0.0, 1.0) in roc
    assert evaluation.plots[PRECISION_RECALL].splitlines()[0] == "recall,precision"
    bins = [line.split(",") for line in evaluation.plots[CALIBRATION].splitlines()]
    assert bins[0] == ["predicted", "observed", "rows"]
    assert len(bins) == 11
    assert sum(int(rows) for _, _, rows in bins[1:]) == int((asked["side"] == "validation").sum())
    assert set(evaluation.plots) == {ROC, PRECISION_RECALL, CALIBRATION, CONFUSION}
    unsure = replace(BINARY, evaluation=EvaluationSpec("binary", ("recall",), "recall"))
    path = written_classes(tmp_path, answered.drop(columns=["p0", "p1"]))
    plots = judge_predictions(late, split, path, unsure, (False, True)).plots
    assert [plots[path] for path in (ROC, PRECISION_RECALL, CALIBRATION)] == [
        "false_positive_rate,true_positive_rate\n",
        "recall,precision\n",
        "predicted,observed,rows\n",
    ]
    drawn = set(plots[CONFUSION].splitlines()[1:])
    assert {"True,True", "False,False"} <= drawn <= {"True,True", "False,False", "False,True"}


def test_a_binary_task_has_two_classes(
    tmp_path: Path, coloured: pd.DataFrame, split: pd.DataFrame, answered: pd.DataFrame
) -> None:
    with pytest.raises(StageFailed, match="has two classes, and the target has 3"):
        judge_predictions(coloured, split, written_classes(tmp_path, answered), BINARY, CLASSES)


def test_classes_in_the_order_of_another_positive_class_are_never_scored(
    tmp_path: Path, table: pd.DataFrame, split: pd.DataFrame
) -> None:
    """Scored as they stand, recall of the wrong class would be told."""
    late = table.assign(delay=table["delay"] > 20)
    asked = split[split["side"] != "train"].reset_index(drop=True)
    path = written_classes(tmp_path, asked.assign(prediction=(asked["row"] % 2).astype("float64")))
    for positive, classes in (("true", (False, True)), ("False", (True, False)), ("", (False, True))):
        one = replace(BINARY, evaluation=EvaluationSpec("binary", ("recall",), "recall", positive=positive))
        assert judge_predictions(late, split, path, one, classes).metrics["test"]["recall"] > 0
        if positive:
            with pytest.raises(StageFailed, match=r"evaluation\.positive: .* was made for another one"):
                judge_predictions(late, split, path, one, classes[::-1])


# --- slices --------------------------------------------------------------------------------------------


def sliced(*columns: str, metrics: tuple[str, ...] = ("rmse", "r2")) -> Any:
    return replace(SPEC, evaluation=EvaluationSpec("regression", metrics, metrics[0], slices=columns))


def test_slices_hold_each_metric_of_each_value_and_side(
    tmp_path: Path, table: pd.DataFrame, split: pd.DataFrame, predictions: pd.DataFrame
) -> None:
    city = pd.Series(np.where(np.arange(ROWS) % 5 == 0, "oslo", "rome"), dtype="str").where(np.arange(ROWS) % 7 != 0)
    asked = sliced("city", "night")
    wide = table.assign(city=city, night=np.arange(ROWS) % 2 == 0)
    slices = judge_predictions(wide, split, written(tmp_path, predictions), asked).slices
    assert [value["value"] for value in slices["city"]["values"]] == ["rome", "oslo", MISSING]
    assert [value["value"] for value in slices["night"]["values"]] == ["False", "True"]
    here = predictions[(predictions["side"] == "test") & (city[predictions["row"]].to_numpy() == "oslo")]
    error = table["delay"].to_numpy()[here["row"]] - here["prediction"]
    oslo = slices["city"]["values"][1]
    assert oslo["rows"]["test"] == len(here)
    assert oslo["test"]["rmse"] == pytest.approx(float(np.sqrt((error**2).mean())))
    assert slices["city"]["left_out"] == 0


def marked(text: str, value: str) -> str:
    return f"{text} (#{sha256(value.encode()).hexdigest()[:4]})"


def test_a_value_that_looks_like_another_is_called_the_same_whatever_else_is_there(
    tmp_path: Path, table: pd.DataFrame, split: pd.DataFrame, predictions: pd.DataFrame
) -> None:
    def names(*values: str) -> set[str]:
        city = pd.Series([values[number % len(values)] for number in range(ROWS)], dtype="str")
        judged = judge_predictions(table.assign(city=city), split, written(tmp_path, predictions), sliced("city"))
        return {value["value"] for value in judged.slices["city"]["values"]}

    assert names("UA", "UA\t") & names("UA", "UA ", " UA", "UA\t") == {"UA", marked("UA", "UA\t")}


def test_values_that_look_alike_on_one_line_have_slices_of_their_own(
    tmp_path: Path, table: pd.DataFrame, split: pd.DataFrame, predictions: pd.DataFrame
) -> None:
    alike = ["UA", "UA ", "a  b", "a\nb", "a b", None, MISSING, "UA (2)", "x" * 100 + "1", "x" * 100 + "2"]
    city = pd.Series([alike[number % len(alike)] for number in range(ROWS)], dtype="str")
    slices = judge_predictions(table.assign(city=city), split, written(tmp_path, predictions), sliced("city")).slices
    rows = {value["value"]: value["rows"]["test"] for value in slices["city"]["values"]}
    assert set(rows) == {
        *("UA", marked("UA", "UA "), "UA (2)", "a b", marked("a b", "a\nb"), marked("a b", "a  b"), MISSING),
        *(marked(MISSING, MISSING), "x" * 100, marked("x" * 100, "x" * 100 + "2")),
    }
    assert sum(rows.values()) == (predictions["side"] == "test").sum()
    assert rows["UA (2)"] == (city[predictions.loc[predictions["side"] == "test", "row"]] == "UA (2)").sum()
    assert rows[MISSING] == city[predictions.loc[predictions["side"] == "test", "row"]].isna().sum()


def test_a_slice_has_nothing_for_a_metric_that_is_not_defined_and_small_ones_are_counted(
    tmp_path: Path, table: pd.DataFrame, split: pd.DataFrame, predictions: pd.DataFrame
) -> None:
    rows = {side: predictions.loc[predictions["side"] == side, "row"].to_numpy() for side in ("validation", "test")}
    code = np.zeros(ROWS, np.int64)
    for number in range(1, 61):  # one row on each side
        code[[rows["validation"][number], rows["test"][number]]] = number
    code[rows["test"][100]] = 99  # on one side only
    slices = judge_predictions(table.assign(code=code), split, written(tmp_path, predictions), sliced("code")).slices
    values = slices["code"]["values"]
    assert len(values) == 50
    assert values[0]["value"] == "0"
    assert slices["code"]["left_out"] == 62 - 50
    assert all(value["test"]["r2"] is None and value["test"]["rmse"] >= 0 for value in values[1:])
    assert values[0]["test"]["r2"] is not None


def test_what_cannot_be_sliced_by_is_named(
    tmp_path: Path, table: pd.DataFrame, split: pd.DataFrame, predictions: pd.DataFrame
) -> None:
    path = written(tmp_path, predictions)
    with pytest.raises(StageFailed, match=r"evaluation\.slices: the table has no column 'town'"):
        judge_predictions(table, split, path, sliced("town"))
    with pytest.raises(StageFailed, match="'delay' has 4000 values, more than 1000"):
        judge_predictions(table, split, path, sliced("delay"))


def test_the_slices_of_the_most_that_may_be_asked_for_fit_into_a_record(
    tmp_path: Path, table: pd.DataFrame, split: pd.DataFrame, predictions: pd.DataFrame
) -> None:
    names = [f"column {number}" for number in range(20)]
    values = pd.Series([f"{row % 60:0>90}" for row in range(ROWS)], dtype="str")
    wide = table.assign(**dict.fromkeys(names, values))
    metrics = tuple(name for name in metrics_of("regression") if name != "rmsle")
    slices = judge_predictions(wide, split, written(tmp_path, predictions), sliced(*names, metrics=metrics)).slices
    assert len(slices["column 3"]["values"]) == 12
    assert len(encode(run_body(slices=slices))) < MAX_BYTES / 3


# --- the whole -----------------------------------------------------------------------------------------


def test_the_order_of_the_file_does_not_matter(
    tmp_path: Path, table: pd.DataFrame, split: pd.DataFrame, predictions: pd.DataFrame
) -> None:
    straight = judge_predictions(table, split, written(tmp_path, predictions), SPEC)
    shuffled = written(tmp_path, predictions.sample(frac=1.0, random_state=5).reset_index(drop=True))
    assert judge_predictions(table, split, shuffled, SPEC) == straight


def test_plots_sample_the_validation_side_and_average_each_day(
    tmp_path: Path, table: pd.DataFrame, split: pd.DataFrame, predictions: pd.DataFrame
) -> None:
    evaluation = judge_predictions(table, split, written(tmp_path, predictions), SPEC)
    sample = evaluation.plots[PREDICTED_VS_OBSERVED].splitlines()
    assert sample[0] == "predicted,observed"
    assert len(sample) == 1 + SAMPLE < 1 + int((predictions["side"] == "validation").sum())
    residuals = evaluation.plots[RESIDUALS].splitlines()
    assert residuals[0] == "predicted,residual"
    predicted, observed = map(float, sample[1].split(","))
    assert [float(value) for value in residuals[1].split(",")] == pytest.approx([predicted, observed - predicted])
    lines = [line.split(",") for line in evaluation.plots[RESIDUALS_OVER_TIME].splitlines()]
    assert lines[0] == ["side", "date", "day", "mean_residual"]
    truth = pd.Series(table["delay"].to_numpy()[predictions["row"]] - predictions["prediction"])
    days = table["start"].iloc[predictions["row"]].dt.strftime("%Y-%m-%d").to_numpy()
    expected = truth.groupby(days).mean()
    assert [(side, day) for side, day, _, _ in lines[1:]] == [
        (side, day)
        for side in ("validation", "test")
        for day in sorted(set(days[(predictions["side"] == side).to_numpy()]))
    ]
    assert [float(value) for _, _, _, value in lines[1:]] == pytest.approx(expected.tolist(), rel=1e-4)


def test_only_the_metrics_asked_for_are_given(
    tmp_path: Path, table: pd.DataFrame, split: pd.DataFrame, predictions: pd.DataFrame
) -> None:
    asked = replace(SPEC, evaluation=EvaluationSpec("regression", ("mae",), "mae"))
    evaluation = judge_predictions(table, split, written(tmp_path, predictions), asked)
    assert {side: list(scores) for side, scores in evaluation.metrics.items()} == {
        "validation": ["mae"],
        "test": ["mae"],
    }


def test_each_side_is_scored_on_its_own_rows(
    tmp_path: Path, table: pd.DataFrame, split: pd.DataFrame, predictions: pd.DataFrame
) -> None:
    truth = table["delay"].to_numpy()[predictions["row"]]
    perfect_on_test = predictions["prediction"].where(predictions["side"] != "test", truth)
    scores = judge_predictions(table, split, written(tmp_path, predictions.assign(prediction=perfect_on_test)), SPEC)
    assert scores.metrics["test"] == {"rmse": 0.0, "mae": 0.0, "r2": 1.0}
    assert scores.metrics["validation"]["rmse"] > 0.5


def test_a_side_without_rows_is_an_error(tmp_path: Path, table: pd.DataFrame, split: pd.DataFrame) -> None:
    none = split.assign(side=split["side"].replace({"test": "train"}))
    asked = none[none["side"] == "validation"].assign(prediction=1.0)
    with pytest.raises(StageFailed, match="test side has no rows"):
        judge_predictions(table, none, written(tmp_path, asked), SPEC)
