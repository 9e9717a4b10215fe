"""Stage ``evaluate``, and the judge's own work: score predictions against the truth that the judge holds.

Predictions come from a run, so they are read as a stranger's file: exactly the expected columns and rows, or
an error. Nothing here reads a number that training wrote about itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cd4ml.errors import IntegrityError, StageFailed
from cd4ml.spec.experiment import EvaluationSpec, Spec
from cd4ml.spec.metrics import DIRECTIONS
from cd4ml.spec.pipeline import METRICS, PREDICTED_VS_OBSERVED, PREDICTIONS, RESIDUALS_OVER_TIME, SPLIT, TABLE
from cd4ml.stages.job import Job, put_bytes, put_json

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

STAGE = "evaluate"
JUDGED_SIDES = ("validation", "test")
SAMPLE = 1000
"""Most rows in the plot of predictions against observations."""

MAX_PREDICTION_BYTES = 8 << 30


@dataclass(frozen=True)
class Evaluation:
    """``metrics`` by side and name; ``plots`` as the text of a CSV file by its path in the tree."""

    metrics: Mapping[str, Mapping[str, float]]
    plots: Mapping[str, str]


def run(job: Job) -> None:
    """Read ``TABLE``, ``SPLIT`` and ``PREDICTIONS``; write ``METRICS`` and the plots."""
    evaluation = evaluate_in(job.root, job.spec)
    put_json(job.root, METRICS, evaluation.metrics)
    for path, text in evaluation.plots.items():
        put_bytes(job.root, path, text.encode())


def evaluate_in(root: Path, spec: Spec) -> Evaluation:
    """The evaluation of the predictions in ``root`` against the table and split in ``root``; reads three files."""
    from cd4ml.stages.table import read_parquet

    return judge_predictions(read_parquet(root / TABLE), read_parquet(root / SPLIT), root / PREDICTIONS, spec)


def judge_predictions(table: pd.DataFrame, split_frame: pd.DataFrame, predictions_path: Path, spec: Spec) -> Evaluation:
    """Score the predictions at ``predictions_path`` against a trusted table and split.

    ``table`` is the ingested canonical frame, ``split_frame`` that of ``split.assign_sides`` on it. Raises
    IntegrityError when the file is not exactly one finite prediction for each validation and test row,
    StageFailed when a metric has no finite value. Reads one file.
    """
    predictions = read_predictions(predictions_path, int(split_frame["side"].isin(JUDGED_SIDES).sum()))
    check_predictions(predictions, split_frame)
    ordered = predictions.sort_values("row", ignore_index=True)
    rows = ordered["row"].to_numpy()
    truth = table[spec.data.target].to_numpy(dtype="float64")[rows]
    times = table[spec.split.column].iloc[rows].reset_index(drop=True)
    return Evaluation(
        metrics=score(ordered, truth, spec.evaluation),
        plots={
            PREDICTED_VS_OBSERVED: _predicted_vs_observed(ordered, truth),
            RESIDUALS_OVER_TIME: _residuals_over_time(ordered, truth, times),
        },
    )


def read_predictions(path: Path, rows: int) -> pd.DataFrame:
    """The predictions file as a frame, types as they are in the file.

    Raises IntegrityError when it is none, or does not hold ``rows`` rows: a small file can claim any number of
    them, so they are counted before they are read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    wanted = {"row": pa.int64(), "side": pa.string(), "prediction": pa.float64(), "digest": pa.binary(16)}
    try:
        if path.is_symlink() or path.stat().st_size > MAX_PREDICTION_BYTES:
            raise IntegrityError(f"{PREDICTIONS} is a link, or larger than predictions can be")
        schema = pq.read_schema(path)
        found = dict(zip(schema.names, schema.types, strict=True))
        if len(schema.names) != len(wanted) or found != wanted:
            raise IntegrityError(f"{PREDICTIONS} must hold exactly row, side, prediction and digest, of their types")
        held = pq.read_metadata(path).num_rows
        if held != rows:
            raise IntegrityError(f"{PREDICTIONS} holds {held} rows, and {rows} were asked for")
        table = pq.read_table(path, use_threads=False, memory_map=False)
    except (OSError, pa.ArrowException, ValueError) as error:
        raise IntegrityError(f"{PREDICTIONS} cannot be read: {type(error).__name__}") from error
    if any(column.null_count for column in table.columns):
        raise IntegrityError(f"{PREDICTIONS} has missing values")
    return table.to_pandas()  # type: ignore[no-any-return]  # pyarrow has no types


def check_predictions(predictions: pd.DataFrame, split: pd.DataFrame) -> None:
    """See that there is exactly one finite prediction for every validation and test row, under its digest.

    Both frames have the columns ``row`` (int64), ``digest`` (bytes) and ``side``. Raises IntegrityError.
    """
    import numpy as np

    asked = split[split["side"].isin(JUDGED_SIDES)].sort_values("row")
    if sorted(predictions.columns) != ["digest", "prediction", "row", "side"]:
        raise IntegrityError("the predictions do not have exactly the columns row, digest, side and prediction")
    if predictions["row"].dtype != np.int64 or predictions["prediction"].dtype != np.float64:
        raise IntegrityError("the predictions' columns row and prediction are not int64 and float64")
    given = predictions.sort_values("row")
    if given["row"].duplicated().any():
        raise IntegrityError(f"{int(given['row'].duplicated().sum())} rows are predicted more than once")
    if not np.array_equal(given["row"].to_numpy(), asked["row"].to_numpy()):
        lacking = len(set(asked["row"]) - set(given["row"]))
        extra = len(set(given["row"]) - set(asked["row"]))
        raise IntegrityError(f"the predictions lack {lacking} rows and have {extra} that were not asked for")
    for column in ("digest", "side"):
        wrong = int((given[column].to_numpy() != asked[column].to_numpy()).sum())
        if wrong:
            raise IntegrityError(f"{wrong} predictions carry another {column} than the row that they are for")
    unfinished = int((~np.isfinite(given["prediction"].to_numpy())).sum())
    if unfinished:
        raise IntegrityError(f"{unfinished} of {len(given)} predictions are not finite")


def score(
    predictions: pd.DataFrame, truth: npt.NDArray[np.float64], evaluation: EvaluationSpec
) -> dict[str, dict[str, float]]:
    """Each asked metric on the validation and the test side: ``{"validation": {"rmse": …}, "test": {…}}``.

    ``truth`` (float64) is in the order of ``predictions``. Raises StageFailed for a side without rows and for a
    metric that is unknown or not finite there (r2 of a constant target, mape where the target is 0).
    """
    import numpy as np

    scores: dict[str, dict[str, float]] = {}
    for side in JUDGED_SIDES:
        here = (predictions["side"] == side).to_numpy()
        observed, predicted = truth[here], predictions["prediction"].to_numpy()[here]
        if not len(observed):
            raise StageFailed(STAGE, f"the {side} side has no rows")
        scores[side] = {}
        for name in evaluation.metrics:
            if name not in METRIC_FUNCTIONS:
                raise StageFailed(STAGE, f"metric {name!r} is not known")
            with np.errstate(all="ignore"):
                value = float(METRIC_FUNCTIONS[name](observed, predicted))
            if not np.isfinite(value):
                raise StageFailed(STAGE, f"metric {name!r} has no finite value on the {side} side")
            scores[side][name] = value
    return scores


def _rmse(observed: Any, predicted: Any) -> Any:
    """Square root of the mean squared difference, in the target's unit."""
    return ((observed - predicted) ** 2).mean() ** 0.5


def _mae(observed: Any, predicted: Any) -> Any:
    """Mean absolute difference, in the target's unit."""
    return abs(observed - predicted).mean()


def _medae(observed: Any, predicted: Any) -> Any:
    """Median absolute difference, in the target's unit."""
    import numpy as np

    return np.median(abs(observed - predicted))


def _max_error(observed: Any, predicted: Any) -> Any:
    """Largest absolute difference, in the target's unit."""
    return abs(observed - predicted).max()


def _mape(observed: Any, predicted: Any) -> Any:
    """Mean absolute difference as a share of the observation (1 is 100 %); not finite where one is 0."""
    return (abs(observed - predicted) / abs(observed)).mean()


def _r2(observed: Any, predicted: Any) -> Any:
    """Coefficient of determination, 1 - SS_res / SS_tot with SS_tot about this side's own mean."""
    return 1.0 - ((observed - predicted) ** 2).sum() / ((observed - observed.mean()) ** 2).sum()


METRIC_FUNCTIONS: Mapping[str, Callable[[Any, Any], Any]] = {
    "rmse": _rmse,
    "mae": _mae,
    "medae": _medae,
    "max_error": _max_error,
    "mape": _mape,
    "r2": _r2,
}
"""How each metric of ``spec.metrics.DIRECTIONS`` is computed from (observed, predicted) arrays."""

if set(METRIC_FUNCTIONS) != set(DIRECTIONS):
    raise RuntimeError("spec.metrics and stages.evaluate do not know the same metrics")


def _predicted_vs_observed(predictions: pd.DataFrame, truth: npt.NDArray[np.float64]) -> str:
    """Validation rows evenly spaced in the order of the table, at most ``SAMPLE``."""
    import numpy as np

    rows = np.flatnonzero((predictions["side"] == "validation").to_numpy())
    chosen = rows[np.unique(np.linspace(0, len(rows) - 1, min(SAMPLE, len(rows))).round().astype(int))]
    predicted = predictions["prediction"].to_numpy()
    lines = [f"{_short(predicted[row])},{_short(truth[row])}" for row in chosen]
    return "\n".join(["predicted,observed", *lines]) + "\n"


def _residuals_over_time(predictions: pd.DataFrame, truth: npt.NDArray[np.float64], times: pd.Series[Any]) -> str:
    """Mean of observed minus predicted for each UTC day of each side.

    ``day`` counts from the first day that was judged: DVC's line template draws numbers and no dates.
    """
    days = times.dt.floor("D")
    residual = predictions.assign(residual=truth - predictions["prediction"], time=days)
    means = residual.groupby(["side", "time"], sort=True)["residual"].mean()
    first = days.min()
    lines = [
        f"{side},{day:%Y-%m-%d},{(day - first).days},{_short(means[(side, day)])}"
        for side in JUDGED_SIDES
        for day in sorted(day for one, day in means.index if one == side)
    ]
    return "\n".join(["side,date,day,mean_residual", *lines]) + "\n"


def _short(value: float) -> str:
    """Six significant digits, which a plot cannot tell from more, and -0 as 0."""
    return f"{float(value) + 0.0:.6g}"
