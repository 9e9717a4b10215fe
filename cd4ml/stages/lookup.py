"""On which side of a split a row lies, by the values of some of its columns."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cd4ml.errors import IntegrityError
from cd4ml.spec.pipeline import SIDES

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd


class NoSuchRowError(ValueError):
    """The question makes no sense for this table: it says which column is not there, or of another type."""


def sides_of_row(table: Path, split: Path, key: Mapping[str, str]) -> dict[str, int]:
    """How many rows of each side have these values: ``{"train": 1, "validation": 0, "test": 0}``.

    ``table`` and ``split`` are files that stages ``ingest`` and ``split`` wrote; of the table only the columns of
    ``key`` are read. A value is given as text and read as the column's type: whole and decimal numbers, ``true`` and
    ``false``, ISO 8601 (UTC where it names no zone), or text as it is; an empty one asks for a missing cell. Raises
    NoSuchRowError for a column that is not there or a value that is none of its type, IntegrityError for files that are
    not what they should be.
    """
    import pyarrow.parquet as pq

    from cd4ml.stages.table import did_you_mean, read_parquet

    names = _column_names(table)
    for column in key:
        if column not in names:
            hint = did_you_mean(column, names)
            raise NoSuchRowError(f"its table has no column {column!r}{f' ({hint})' if hint else ''}")
    frame = read_parquet(table, list(key))
    sides = read_parquet(split, ["row", "side"])
    if len(frame) != len(sides) or len(frame) != pq.ParquetFile(table).metadata.num_rows:
        raise IntegrityError(f"{split.name} is not of the rows of {table.name}")
    chosen = _all_equal(frame, key)
    side_of = sides["side"].to_numpy()[chosen]
    return {side: int((side_of == side).sum()) for side in SIDES}


def _column_names(table: Path) -> list[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return list(pq.read_schema(table).names)
    except pa.ArrowException as error:
        raise IntegrityError(f"{table.name} cannot be read as Parquet: it is damaged or something else") from error


def _all_equal(frame: pd.DataFrame, key: Mapping[str, str]) -> npt.NDArray[np.bool_]:
    import numpy as np

    from cd4ml.stages.table import kind_of

    chosen = np.ones(len(frame), dtype=bool)
    for column, text in key.items():
        cells = frame[column]
        same = cells.isna() if not text else (cells == _value(cells, text)).fillna(False)
        if not text and kind_of(cells) == "string":
            same |= (cells == "").fillna(False)
        chosen &= same.to_numpy(dtype=bool)
    return chosen


def _value(column: pd.Series[Any], text: str) -> Any:
    """The text as a value of the column's kind. Raises NoSuchRowError."""
    from cd4ml.stages.table import kind_of

    kind = kind_of(column)
    readers: Mapping[str, Callable[[str], Any]] = {"int64": int, "float64": float, "bool": _truth, "timestamp": _moment}
    try:
        return readers[kind](text) if kind in readers else text
    except (ValueError, OverflowError):
        form = f" ({_FORMS[kind]})" if kind in _FORMS else ""
        raise NoSuchRowError(f"column {column.name!r} of its table holds {kind}, and {text!r} is none{form}") from None


_FORMS = {
    "float64": "write 32.1",
    "bool": "write true or false",
    "timestamp": "write 2026-01-31, or 2026-01-31T10:00:00, in UTC",
}
_ISO_8601 = re.compile(
    r"\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?(?:Z|[+-]\d{2}:?\d{2})?)?", re.ASCII
)


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError("neither true nor false")
    return text.lower() == "true"


def _moment(text: str) -> pd.Timestamp:
    import pandas as pd

    if not _ISO_8601.fullmatch(text):  # of 05.01.2019 nobody can tell which is the month
        raise ValueError("not ISO 8601")
    moment = pd.Timestamp(text)
    return moment.tz_localize("UTC") if moment.tzinfo is None else moment.tz_convert("UTC")
