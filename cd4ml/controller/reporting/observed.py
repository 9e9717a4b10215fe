"""What is true of rows: the target in the champion's table, which is the base branch's, and what slices it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cd4ml.controller.history.objects import Objects
from cd4ml.controller.reporting.columns import (
    MOST_VALUES,
    NoEvidenceError,
    as_numpy,
    coded,
    codes_of,
    open_output,
    read_columns,
    schema_of,
    seconds_of,
)
from cd4ml.index.record import RunRecord
from cd4ml.spec.pipeline import TABLE

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

Slices = dict[str, tuple["npt.NDArray[np.int64]", tuple[str, ...]]]


@dataclass(frozen=True)
class Columns:
    """Columns of the base branch's choice: those that slice the rows, and the one by which they depend on each other
    (``""``: none).
    """

    slices: tuple[str, ...] = ()
    resample_by: str = ""


@dataclass(frozen=True, eq=False)
class Observed:
    """Of n rows: the target, float64 (n,), of a classification the codes of classes; by column of slices the code of
    each row and the text of each code; seconds since 1970 where the split is by time; and codes of clusters.
    """

    target: npt.NDArray[np.float64]
    slices: Slices
    times: npt.NDArray[np.float64] | None
    clusters: npt.NDArray[np.int64] | None


def observe_rows(
    objects: Objects,
    run: RunRecord,
    rows: npt.NDArray[np.int64],
    total: int,
    classes: tuple[str, ...],
    columns: Columns,
) -> Observed:
    """What is true of some rows of the champion's table.

    ``rows`` are positions in the table, which must have ``total`` rows; without ``classes`` the target is a number. A
    column of slices that is not there, or has too many values, is left out. Raises NoEvidenceError.
    """
    what = "the champion's table"
    stream = open_output(objects, run, "champion", TABLE)
    types = dict(schema_of(stream, what))
    target, moment, cluster = _target(run), _time_column(run, types), columns.resample_by
    if cluster and cluster not in types:
        raise NoEvidenceError(f"promotion.resample_by names {cluster!r}, which is no column of {what}")
    sliced = [name for name in dict.fromkeys(columns.slices) if name in types]
    wanted = dict.fromkeys((target, *sliced, *filter(None, (moment, cluster))))
    table = read_columns(stream, what, list(wanted), rows=total)
    return Observed(
        target=_class_codes(table[target], rows, classes) if classes else _numbers(table[target], rows),
        slices={name: codes for name in sliced if (codes := coded(table[name], rows)) is not None},
        times=seconds_of(table[moment], rows) if moment else None,
        clusters=codes_of(table[cluster], rows) if cluster else None,
    )


def _target(run: RunRecord) -> str:
    data = run.params.get("data")
    target = data.get("target") if isinstance(data, Mapping) else None
    if not isinstance(target, str):
        raise NoEvidenceError("the champion's record names no target")
    return target


def _time_column(run: RunRecord, types: Mapping[str, str]) -> str:
    split = run.params.get("split")
    if not isinstance(split, Mapping) or split.get("method") != "time":
        return ""
    column = split.get("column")
    return column if isinstance(column, str) and types.get(column, "").startswith("timestamp[ns") else ""


def _numbers(column: pa.ChunkedArray, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    import numpy as np
    import pyarrow as pa

    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)) or column.null_count:
        raise NoEvidenceError("the champion's target is not a number in every row")
    values: npt.NDArray[np.float64] = as_numpy(column)[rows].astype(np.float64, copy=False)
    if not np.isfinite(values).all():
        raise NoEvidenceError("the champion's target is not finite in every row")
    return values


def _class_codes(
    column: pa.ChunkedArray, rows: npt.NDArray[np.int64], classes: tuple[str, ...]
) -> npt.NDArray[np.float64]:
    import numpy as np

    texts = coded(column, rows, len(classes) + MOST_VALUES)
    if texts is None:
        raise NoEvidenceError("the champion's target has more classes than its model")
    codes, values = texts
    known = {text: code for code, text in enumerate(classes)}
    of = np.array([known.get(value, -1) for value in values] or [0], dtype=np.float64)
    observed: npt.NDArray[np.float64] = of[codes]
    if (observed < 0).any():
        raise NoEvidenceError("the champion's target has missing values, or classes that its model does not know")
    return observed
