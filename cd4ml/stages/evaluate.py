"""Stage ``evaluate``, and the judge's own work: score predictions against the truth that the judge holds.

Predictions come from a run, so they are read as a stranger's file: exactly the expected columns and rows, or
an error. Nothing here reads a number that training wrote about itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cd4ml.errors import IntegrityError, StageFailed
from cd4ml.spec.experiment import EvaluationSpec, Spec
from cd4ml.spec.pipeline import FEATURE_SCHEMA, METRICS, PREDICTIONS, SLICES, SPLIT, TABLE
from cd4ml.stages.job import Job, put_bytes, put_json
from cd4ml.stages.scores import STAGE, Answers, OwnFunction, own_functions, scores_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    Sides = Mapping[str, tuple[npt.NDArray[np.int64], Answers]]

JUDGED_SIDES = ("validation", "test")

MAX_PREDICTION_BYTES = 8 << 30
_ROOM_OF_A_CELL = 64
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Evaluation:
    """``metrics`` by side and name; ``plots`` as the text of a CSV file by its path in the tree; ``slices`` by column
    (see ``slices.slices_of``).
    """

    metrics: Mapping[str, Mapping[str, float]]
    plots: Mapping[str, str]
    slices: Mapping[str, Any] = field(default_factory=dict)


def run(job: Job) -> None:
    """Read ``TABLE``, ``SPLIT``, ``FEATURE_SCHEMA`` and ``PREDICTIONS``; write ``METRICS``, the plots and, where
    slices are asked for, ``SLICES``.
    """
    evaluation = evaluate_in(job.root, job.spec)
    put_json(job.root, METRICS, evaluation.metrics)
    if job.spec.evaluation.slices:
        put_json(job.root, SLICES, evaluation.slices)
    for path, text in evaluation.plots.items():
        put_bytes(job.root, path, text.encode())


def evaluate_in(root: Path, spec: Spec) -> Evaluation:
    """The evaluation of the predictions in ``root`` against the table and split in ``root``; reads four files."""
    from cd4ml.stages.featurize import load_schema
    from cd4ml.stages.table import read_parquet

    classes = tuple(load_schema(root)["classes"] or ())
    table, split = read_parquet(root / TABLE), read_parquet(root / SPLIT)
    return judge_predictions(table, split, root / PREDICTIONS, spec, classes)


def judge_predictions(
    table: pd.DataFrame,
    split_frame: pd.DataFrame,
    predictions_path: Path,
    spec: Spec,
    classes: tuple[Any, ...] = (),
) -> Evaluation:
    """Score the predictions at ``predictions_path`` against a trusted table and split.

    ``table`` is the ingested canonical frame, ``split_frame`` that of ``split.assign_sides`` on it, ``classes`` the
    trusted classes by code, of a binary task the positive one last (none: a regression). Raises IntegrityError when
    the file is not exactly one finite prediction for each validation and test row, StageFailed when a metric has no
    finite value. Reads one file, and imports the modules of the project's own metrics.
    """
    from cd4ml.stages.own_code import own_packages
    from cd4ml.stages.slices import slices_of

    _check_task(spec.evaluation, classes)
    functions = own_functions(spec.evaluation, own_packages(spec))
    predictions = read_predictions(predictions_path, int(split_frame["side"].isin(JUDGED_SIDES).sum()), len(classes))
    check_predictions(predictions, split_frame, len(classes))
    ordered = predictions.sort_values("row", ignore_index=True)
    truth = _truth(table[spec.data.target], classes)
    sides = _sides(ordered, truth, classes)
    return Evaluation(
        metrics=score(sides, spec.evaluation, functions),
        plots=_plots(sides, table, spec),
        slices=slices_of(table, sides, spec.evaluation, functions) if spec.evaluation.slices else {},
    )


def _check_task(evaluation: EvaluationSpec, classes: tuple[Any, ...]) -> None:
    if evaluation.task != "binary":
        return
    if len(classes) != 2:
        raise StageFailed(STAGE, f"evaluation.task: a binary task has two classes, and the target has {len(classes)}")
    last = str(classes[-1])
    if evaluation.positive and evaluation.positive not in (last, last.lower()):  # truth may be written as YAML does
        raise StageFailed(STAGE, f"evaluation.positive: {FEATURE_SCHEMA} was made for another one")


def _truth(target: pd.Series[Any], classes: tuple[Any, ...]) -> npt.NDArray[Any]:
    """The target of every row: float64, or the class's code (int64; -1 where it is none of them)."""
    import numpy as np
    import pandas as pd

    if not classes:
        return target.to_numpy(dtype="float64")
    return np.asarray(pd.Index(classes).get_indexer(pd.Index(target)), dtype=np.int64)


def _sides(ordered: pd.DataFrame, truth: npt.NDArray[Any], classes: tuple[Any, ...]) -> Sides:
    """Rows and answers of each judged side, in the order of the table. Raises StageFailed for a side without rows."""
    import numpy as np

    shares = [f"p{code}" for code in range(len(classes))]
    sides: dict[str, tuple[npt.NDArray[np.int64], Answers]] = {}
    for side in JUDGED_SIDES:
        here = ordered[ordered["side"] == side]
        if here.empty:
            raise StageFailed(STAGE, f"the {side} side has no rows")
        rows = here["row"].to_numpy(np.int64)
        predicted = here["prediction"].to_numpy()
        probabilities = here[shares].to_numpy(np.float64) if shares and shares[0] in here else None
        answers = Answers(truth[rows], predicted.astype(np.int64) if classes else predicted, classes, probabilities)
        if classes and (answers.observed < 0).any():
            raise StageFailed(STAGE, f"the target has missing values, or no known class, on the {side} side")
        sides[side] = (rows, answers)
    return sides


def read_predictions(path: Path, rows: int, classes: int = 0) -> pd.DataFrame:
    """The predictions file as a frame, types as they are in the file.

    With ``classes`` it may have the columns ``p0``, ``p1``, … of that many classes: all of them or none.

    Raises IntegrityError when it is none, or does not hold ``rows`` rows of such values: a small file can claim any
    number of them, of any length, so both are looked at before they are read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from cd4ml.stages.parquet import Bounds, longest_text, read_bounded, with_plain_texts

    wanted = {"row": pa.int64(), "side": pa.string(), "prediction": pa.float64(), "digest": pa.binary(16)}
    try:
        if path.is_symlink() or path.stat().st_size > MAX_PREDICTION_BYTES:
            raise IntegrityError(f"{PREDICTIONS} is a link, or larger than predictions can be")
        schema = pq.read_schema(path)
        found = dict(zip(schema.names, schema.types, strict=True))
        shares = {f"p{code}": pa.float64() for code in range(classes)}
        if len(schema.names) != len(found) or found not in (wanted, {**wanted, **shares}):
            more = f", and may hold p0 to p{classes - 1}" if classes else ""
            raise IntegrityError(
                f"{PREDICTIONS} must hold exactly row, side, prediction and digest{more}, of their types"
            )
        held = pq.read_metadata(path).num_rows
        if held != rows:
            raise IntegrityError(f"{PREDICTIONS} holds {held} rows, and {rows} were asked for")
    except (OSError, pa.ArrowException, ValueError) as error:
        raise IntegrityError(f"{PREDICTIONS} cannot be read: {type(error).__name__}") from error
    table = read_bounded(path, PREDICTIONS, Bounds(rows, MAX_PREDICTION_BYTES, cell=_ROOM_OF_A_CELL))
    if any(column.null_count for column in table.columns):
        raise IntegrityError(f"{PREDICTIONS} has missing values")
    if longest_text(table["side"]) > max(map(len, JUDGED_SIDES)):
        raise IntegrityError(f"{PREDICTIONS} knows other sides than {' and '.join(JUDGED_SIDES)}")
    return with_plain_texts(table, PREDICTIONS, MAX_PREDICTION_BYTES).to_pandas()  # type: ignore[no-any-return]  # pyarrow has no types


def check_predictions(predictions: pd.DataFrame, split: pd.DataFrame, classes: int = 0) -> None:
    """See that there is exactly one finite prediction for every validation and test row, under its digest.

    Both frames have the columns ``row`` (int64), ``digest`` (bytes) and ``side``. With ``classes`` predictions are
    codes of so many classes, and probabilities, where there are any, sum to 1. Raises IntegrityError.
    """
    import numpy as np

    asked = split[split["side"].isin(JUDGED_SIDES)].sort_values("row")
    columns = ["digest", "prediction", "row", "side"]
    shares = [f"p{code}" for code in range(classes)]
    if sorted(predictions.columns) not in (columns, sorted([*columns, *shares])):
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
    if classes:
        _check_classes(given, [name for name in shares if name in given], classes)


def _check_classes(given: pd.DataFrame, shares: list[str], classes: int) -> None:
    import numpy as np

    codes = given["prediction"].to_numpy()
    wrong = int(((codes != codes.round()) | (codes < 0) | (codes >= classes)).sum())
    if wrong:
        raise IntegrityError(f"{wrong} of {len(codes)} predictions are no code of one of {classes} classes")
    if not shares:
        return
    values = given[shares].to_numpy(np.float64)
    good = ((values >= 0) & (values <= 1)).all(axis=1) & (abs(values.sum(axis=1) - 1.0) <= _ROUNDING)
    if not good.all():
        raise IntegrityError(f"{int((~good).sum())} of {len(good)} rows have no probabilities that sum to 1")


def score(
    sides: Sides, evaluation: EvaluationSpec, functions: Mapping[str, OwnFunction]
) -> dict[str, dict[str, float]]:
    """Each asked metric on the validation and the test side: ``{"validation": {"rmse": …}, "test": {…}}``.

    Raises StageFailed for a metric that is unknown or not defined there (r2 of a constant target, mape where the
    target is 0).
    """
    return {side: scores_of(evaluation, functions, answers, side) for side, (_, answers) in sides.items()}


def _plots(sides: Sides, table: pd.DataFrame, spec: Spec) -> dict[str, str]:
    from cd4ml.stages.plots import confusion_plot, probability_plots, regression_plots, residuals_over_time

    _, validation = sides["validation"]
    if spec.evaluation.task == "multiclass":
        return confusion_plot(validation)
    if spec.evaluation.task == "binary":
        return {**confusion_plot(validation), **probability_plots(validation)}
    over_time = residuals_over_time(sides, table[spec.split.column]) if spec.split.method == "time" else {}
    return {**regression_plots(validation), **over_time}
