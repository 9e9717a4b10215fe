"""The judge's scoring: a run's predictions are a stranger's file, and every metric agrees with scikit-learn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cd4ml.errors import IntegrityError, StageFailed
from cd4ml.spec.experiment import EvaluationSpec
from cd4ml.spec.metrics import DIRECTIONS
from cd4ml.spec.pipeline import PREDICTED_VS_OBSERVED, RESIDUALS_OVER_TIME
from cd4ml.stages.evaluate import SAMPLE, check_predictions, judge_predictions, score
from cd4ml.stages.split import assign_sides
from cd4ml.stages.table import digest_matrix, write_parquet
from tests.stages.stage_world import spec

ROWS = 4000
SPEC = spec({"split.validation_from": "2013-02-01", "split.test_from": "2013-05-01"})
ALL = EvaluationSpec("regression", tuple(DIRECTIONS), "rmse")


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


# --- metrics -------------------------------------------------------------------------------------------

values = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))


@settings(deadline=None)
@given(st.lists(st.tuples(values, values), min_size=2, max_size=40))
def test_metrics_are_scikit_learns(pairs: list[tuple[float, float]]) -> None:
    from sklearn import metrics

    from cd4ml.stages.evaluate import METRIC_FUNCTIONS

    observed, predicted = np.array(pairs).T
    references = {
        "rmse": metrics.root_mean_squared_error,
        "mae": metrics.mean_absolute_error,
        "medae": metrics.median_absolute_error,
        "max_error": metrics.max_error,
        "mape": metrics.mean_absolute_percentage_error,
        "r2": metrics.r2_score,
    }
    assert set(references) == set(METRIC_FUNCTIONS) == set(DIRECTIONS)
    for name, reference in references.items():
        if name == "mape" and (abs(observed) < 1e-3).any():
            continue
        if name == "r2" and np.ptp(observed) < 1e-3:
            continue
        assert METRIC_FUNCTIONS[name](observed, predicted) == pytest.approx(
            reference(observed, predicted), rel=1e-9, abs=1e-9
        )


def test_directions_say_which_way_a_better_prediction_moves_each_metric(
    table: pd.DataFrame, predictions: pd.DataFrame
) -> None:
    truth = table["delay"].to_numpy()[predictions["row"]]
    worse = score(predictions, truth, ALL)["test"]
    better = score(predictions.assign(prediction=(predictions["prediction"] + truth) / 2), truth, ALL)["test"]
    for name, direction in DIRECTIONS.items():
        assert (better[name] < worse[name]) == (direction == "minimize")


def test_each_side_is_scored_on_its_own_rows(table: pd.DataFrame, predictions: pd.DataFrame) -> None:
    truth = table["delay"].to_numpy()[predictions["row"]]
    perfect_on_test = predictions.assign(
        prediction=predictions["prediction"].where(predictions["side"] != "test", truth)
    )
    scores = score(perfect_on_test, truth, ALL)
    assert scores["test"] == {"rmse": 0.0, "mae": 0.0, "medae": 0.0, "max_error": 0.0, "mape": 0.0, "r2": 1.0}
    assert scores["validation"]["rmse"] > 0.5


@pytest.mark.parametrize(
    ("truth", "metric"),
    [
        (lambda truth: np.full_like(truth, 3.0), "r2"),
        (lambda truth: truth * 0.0, "mape"),
        (lambda truth: truth * np.nan, "mae"),
    ],
)
def test_a_metric_without_a_finite_value_is_an_error_and_never_a_pass(
    table: pd.DataFrame, predictions: pd.DataFrame, truth: Callable[[Any], Any], metric: str
) -> None:
    values_ = truth(table["delay"].to_numpy()[predictions["row"]])
    with pytest.raises(StageFailed, match=f"metric '{metric}' has no finite value on the validation side"):
        score(predictions, values_, EvaluationSpec("regression", (metric,), metric))


def test_an_unknown_metric_and_a_side_without_rows_are_errors(table: pd.DataFrame, predictions: pd.DataFrame) -> None:
    truth = table["delay"].to_numpy()[predictions["row"]]
    with pytest.raises(StageFailed, match="'rsme' is not known"):
        score(predictions, truth, EvaluationSpec("regression", ("rsme",), "rsme"))
    here = (predictions["side"] == "validation").to_numpy()
    with pytest.raises(StageFailed, match="test side has no rows"):
        score(predictions[here], truth[here], ALL)


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
