"""Columns of stored tables, read as a stranger's file: sizes are looked at before anything is read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, Any, Literal

from cd4ml.controller.history.objects import Objects
from cd4ml.errors import Cd4mlError, IntegrityError
from cd4ml.index.lineage import files_of
from cd4ml.index.record import RunRecord
from cd4ml.spec.text import one_line
from cd4ml.stages.parquet import Bounds, read_bounded

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

MOST_ROWS = 50_000_000
MOST_UNPACKED = 4 << 30
MOST_TEXT = 1 << 30
"""Bytes of texts that are written out, each as often as it occurs."""

SHORT = 64
"""Bytes of a value, on average, in files that hold no texts of the data."""

MOST_VALUES = 1000
"""Values of a column beyond which they are no codes."""

LONGEST = 100
MISSING = "(missing)"

Role = Literal["champion", "challenger"]


class NoEvidenceError(Cd4mlError):
    """The two cannot be held against each other; the message says why, in words that end no sentence."""


def open_output(objects: Objects, run: RunRecord, role: Role, path: str) -> IO[bytes]:
    """An output of a run, seen to be what its record says. Raises NoEvidenceError."""
    recorded = files_of(run).get(path)
    if recorded is None:
        raise NoEvidenceError(f"the {role}'s record names no {path}")
    try:
        return objects.open(recorded, path)
    except (Cd4mlError, OSError, KeyError, TypeError, ValueError) as error:
        raise NoEvidenceError(f"the {role}'s {path} cannot be had: {one_line(error, 200)}") from error


def read_columns(
    stream: IO[bytes], what: str, columns: Sequence[str], rows: int | None = None, cell: int | None = None
) -> pa.Table:
    """Some columns of a Parquet file (of ``rows`` rows), texts as dictionaries. Raises NoEvidenceError.

    ``cell`` is for columns whose values are short: bytes of each, on average.
    """
    bounds = Bounds(MOST_ROWS if rows is None else min(rows, MOST_ROWS), MOST_UNPACKED, rows is not None, cell)
    try:
        return read_bounded(stream, what, bounds, columns)
    except IntegrityError as error:
        raise NoEvidenceError(str(error)) from error


def names_of(stream: IO[bytes], what: str) -> list[str]:
    """Names of the columns of a Parquet file, in order. Raises NoEvidenceError."""
    return [name for name, _ in schema_of(stream, what)]


def schema_of(stream: IO[bytes], what: str) -> list[tuple[str, str]]:
    """Names and types (in Arrow's words) of the columns of a Parquet file, in order. Raises NoEvidenceError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(stream)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise NoEvidenceError(f"{what} cannot be read: {type(error).__name__}") from error
    finally:
        stream.seek(0)
    return [(field.name, str(field.type)) for field in schema]


def indices(rows: npt.NDArray[np.int64]) -> pa.Array:
    """Positions, to take rows by. Made without ``pyarrow.array``, which imports pandas to look at what it is given."""
    import numpy as np
    import pyarrow as pa

    packed = np.ascontiguousarray(rows, dtype=np.int64)
    return pa.Array.from_buffers(pa.int64(), len(packed), [None, pa.py_buffer(packed)])


def whole(column: pa.ChunkedArray) -> pa.Array:
    """A column in one piece."""
    import pyarrow as pa

    column = column.unify_dictionaries() if pa.types.is_dictionary(column.type) else column
    found = column.combine_chunks()
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found


def as_numpy(column: pa.ChunkedArray | pa.Array) -> npt.NDArray[Any]:
    """A column of whole numbers or floats, none of them missing, as an array that must not be written to.

    Arrow's own ``to_numpy`` imports pandas, which takes longer than all the rest of a report.
    """
    import numpy as np
    import pyarrow as pa

    array = whole(column) if isinstance(column, pa.ChunkedArray) else column
    kind = np.dtype(str(array.type).replace("double", "float64"))
    if not len(array):
        return np.empty(0, kind)
    return np.frombuffer(array.buffers()[1], kind, len(array), array.offset * kind.itemsize)


def coded(
    column: pa.ChunkedArray, rows: npt.NDArray[np.int64], most: int = MOST_VALUES
) -> tuple[npt.NDArray[np.int64], tuple[str, ...]] | None:
    """The value of some rows as codes, and the text of each; missing is one of them. Nothing for too many values."""
    import numpy as np
    import pyarrow as pa

    if pa.types.is_timestamp(column.type):  # Python knows no nanoseconds
        column = column.cast(pa.timestamp("us", tz=column.type.tz), safe=False)
    codes, dictionary = _encoded(column)
    used = np.unique(codes[rows])  # the dictionary is the whole table's
    if len(used) > most:
        return None
    texts = [as_text(dictionary[code].as_py()) if code < len(dictionary) else MISSING for code in used.tolist()]
    distinct = list(dict.fromkeys(texts))
    places = np.array([distinct.index(text) for text in texts] or [0], dtype=np.int64)
    return places[np.searchsorted(used, codes[rows])], tuple(distinct)


def codes_of(column: pa.ChunkedArray, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The value of some rows as a code, equal for equal values; missing is a value of its own."""
    codes: npt.NDArray[np.int64] = _encoded(column)[0][rows]
    return codes


def _encoded(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.int64], pa.Array]:
    """The code of every row, and what the codes stand for; one beyond that is missing."""
    import pyarrow as pa

    values = whole(column)
    encoded = values if pa.types.is_dictionary(values.type) else values.dictionary_encode()
    places = encoded.indices
    if places.null_count:
        places = places.cast(pa.int64()).fill_null(len(encoded.dictionary))
    return as_numpy(places).astype("int64"), encoded.dictionary


def as_text(value: Any) -> str:
    """A value as text, the same whether it comes from a table or from JSON."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return MISSING
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return one_line(value.isoformat() if hasattr(value, "isoformat") else value, LONGEST)


def seconds_of(column: pa.ChunkedArray, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64] | None:
    """Nanoseconds since 1970 of some rows as seconds, float64; nothing for a column that lacks any."""
    import pyarrow as pa

    if column.null_count:
        return None
    seconds: npt.NDArray[np.float64] = as_numpy(whole(column).view(pa.int64()))[rows] / 1e9
    return seconds
