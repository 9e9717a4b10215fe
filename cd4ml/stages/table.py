"""Tables: read whatever a source ships, in one canonical form, and say what is in them by digest.

A *canonical frame* is a pandas DataFrame with a fresh RangeIndex, text column names that are unique, and
only these kinds of column:

============  =========================  =======================
kind          pandas dtype               missing values
============  =========================  =======================
``int64``     int64                      none (else ``float64``)
``float64``   float64                    NaN
``string``    str (object before 3.0)    NaN
``bool``      bool, or boolean           <NA>
``timestamp`` datetime64[ns, UTC]        NaT
============  =========================  =======================

Reading infers kinds by rules written here and not by a library's, and digests are over bytes laid out here,
so that neither moves with a version of pandas, NumPy or Arrow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cd4ml.errors import IntegrityError, StageFailed
from cd4ml.spec.canonical import canonical_json
from cd4ml.spec.checks import not_empty
from cd4ml.spec.text import one_line
from cd4ml.stages.csv_table import MAX_UNPACKED_BYTES, read_csv
from cd4ml.stages.parquet import Bounds, read_bounded, with_plain_texts

MAX_COLUMNS = 10_000
RESERVED = frozenset({"__row__", "__partner__"})
"""Names of columns that stages add for themselves."""

ROW_DIGEST_BYTES = 16
_PERSON = b"cd4ml row v1"
_ROW_GROUP = 131_072
_BATCH = 16_384
_CELL_BYTES = 8
_CHUNK = 16_384
"""Rows laid out at a time: few enough that their bytes stay in the processor's cache."""


def read_table(
    path: Path, file_format: str, name: str, delimiter: str = ",", decimal: str = ".", missing: Iterable[str] = ()
) -> pd.DataFrame:
    """The table in the file at ``path`` as a canonical frame of at least one row.

    ``file_format`` is ``csv`` or ``parquet``; for ``csv`` the ending of ``name`` (.zip, .gz, .bz2, .xz) says how it
    is compressed, ``delimiter`` stands between cells, ``decimal`` before the fraction of a number, and ``missing``
    are words, beside the usual ones, for a cell that holds nothing. CSV must be UTF-8, with a header, and every
    record as long as the header. Whole numbers that fit 64 bits become ``int64`` (``float64`` when some are
    missing), other numbers ``float64``, true/false ``bool``, all else ``string``; times stay text. Raises
    StageFailed naming ``name`` for anything else, in one line that shows no cell. Reads the file; no other effect.
    """
    try:
        if file_format == "csv":
            table = read_csv(path, name, delimiter, decimal, missing)
        else:
            table = _read_parquet_source(path)
        _check_names(table.column_names)
    except ValueError as error:  # Arrow's errors are ValueErrors too, and may quote cells
        reason = f"({type(error).__name__})" if isinstance(error, pa.ArrowException) else str(error)
        raise StageFailed("ingest", f"{name} cannot be read as {file_format}: {reason}") from error
    except (pa.ArrowException, OSError) as error:
        reason = f"it is damaged or cut off ({type(error).__name__})"
        raise StageFailed("ingest", f"{name} cannot be read as {file_format}: {reason}") from error
    if table.num_rows == 0:
        raise StageFailed("ingest", f"{name} has no rows")
    return to_frame(table, name)


def _read_parquet_source(path: Path) -> pa.Table:
    """A Parquet file that somebody else wrote. Raises ValueError for what is none, or would not fit into memory."""
    with path.open("rb") as file:
        start = file.read(8)
        file.seek(0, 2)
        size = file.tell()
        file.seek(max(0, size - 4))
        end = file.read()
    if not size:
        raise ValueError("it is empty")
    if not start.startswith(b"PAR1"):
        printable = start.isascii() and start.decode("ascii", "replace").replace("\n", "").isprintable()
        raise ValueError("it is no Parquet file" + ("; did you mean format: csv?" if printable else ""))
    if end != b"PAR1":
        raise ValueError("it is cut off, or damaged at its end")
    with pq.ParquetFile(path, memory_map=False) as parquet:
        _refuse_too_much(parquet.metadata.num_rows * parquet.metadata.num_columns * _CELL_BYTES)
        batches, total = [], 0
        for batch in parquet.iter_batches(batch_size=_BATCH, use_threads=False):
            batches.append(batch)
            total += batch.nbytes
            _refuse_too_much(total)
        return pa.Table.from_batches(batches, parquet.schema_arrow)


def _refuse_too_much(size: int) -> None:
    if size > MAX_UNPACKED_BYTES:
        raise ValueError(f"it holds more than {MAX_UNPACKED_BYTES >> 20} MiB")


def _check_names(names: list[str]) -> None:
    """Raises ValueError when a column's name is missing, there twice, or cannot stand on a line of a record."""
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise ValueError(f"columns named twice: {', '.join(one_line(repr(name), 60) for name in twice[:5])}")
    if len(names) > MAX_COLUMNS:
        raise ValueError(f"it has {len(names)} columns, more than {MAX_COLUMNS}")
    for index, name in enumerate(names, 1):
        problem = not_empty(name)
        if problem or name in RESERVED:
            raise ValueError(f"the name of column {index} {problem or 'is one that cd4ml uses itself'}")


def to_frame(table: pa.Table, name: str) -> pd.DataFrame:
    """An Arrow table as a canonical frame. Raises StageFailed for a column of a type that has no canonical kind."""
    if len(set(table.column_names)) != len(table.column_names):
        raise StageFailed("ingest", f"{name} has two columns of one name")
    columns = {}
    for field in table.schema:
        try:
            columns[field.name] = _canonical_column(table[field.name].combine_chunks())
        except (pa.ArrowException, ValueError, OverflowError) as error:
            message = f"{name}: column {field.name!r} of type {field.type} has no canonical form"
            raise StageFailed("ingest", message) from error
    return pd.DataFrame(columns, columns=table.column_names)


def _canonical_column(array: pa.Array) -> pd.Series[Any]:
    kind = array.type
    if pa.types.is_dictionary(kind):
        return _canonical_column(array.cast(kind.value_type))
    if pa.types.is_null(kind):
        return pd.Series(np.full(len(array), np.nan))
    if pa.types.is_boolean(kind):
        return pd.Series(array.to_pylist(), dtype="boolean" if array.null_count else "bool")
    if pa.types.is_integer(kind):
        return pd.Series(_numbers(array.cast(pa.int64())))
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return pd.Series(_numbers(array.cast(pa.float64())))
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return pd.Series(array.cast(pa.timestamp("ns", tz="UTC")).to_pandas())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return pd.Series(array.cast(pa.string()).to_pandas())
    raise ValueError(f"unexpected type {kind}")


def _numbers(array: pa.Array) -> npt.NDArray[Any]:
    if pa.types.is_integer(array.type) and array.null_count:
        array = array.cast(pa.float64())
    numbers: npt.NDArray[Any] = array.to_numpy(zero_copy_only=False)
    return numbers


def kind_of(column: pd.Series[Any]) -> str:
    """``int64``, ``float64``, ``string``, ``bool`` or ``timestamp``. Raises TypeError for anything else."""
    dtype = column.dtype
    if isinstance(dtype, pd.DatetimeTZDtype):
        return "timestamp"
    if pd.api.types.is_bool_dtype(dtype) and not isinstance(dtype, pd.CategoricalDtype):
        return "bool"
    if dtype == np.dtype(np.int64) or dtype == np.dtype(np.float64):
        return str(dtype)
    if isinstance(dtype, pd.StringDtype):
        return "string"
    if dtype == np.dtype(object) and pd.api.types.infer_dtype(column, skipna=True) in {"string", "empty"}:
        return "string"
    raise TypeError(f"column {column.name!r} of dtype {dtype} has no canonical kind")


def column_types(frame: pd.DataFrame) -> tuple[tuple[str, str], ...]:
    """(name, kind) of every column of a canonical frame, in order."""
    return tuple((str(name), kind_of(frame[name])) for name in frame.columns)


def did_you_mean(name: str, columns: Iterable[str]) -> str:
    """The column that was probably meant, in quotes, so that blanks at its ends are seen; ``""`` when none is near."""
    close = get_close_matches(name, [str(column) for column in columns], n=1)
    return f"did you mean {close[0]!r}?" if close else ""


def words_of(column: pd.Series[Any]) -> npt.NDArray[np.object_]:
    """Every value as text, the same for a whole number however it is kept; None where nothing is there.

    Whole numbers are in decimals, truth is ``true`` or ``false``, moments are nanoseconds since 1970.
    """
    kind = kind_of(column)
    codes, values = pd.factorize(column, use_na_sentinel=True)
    if kind == "timestamp":
        texts = [str(value.value) for value in values]
    elif kind == "bool":
        texts = ["true" if value else "false" for value in values]
    elif kind == "float64":
        texts = [str(int(value)) if float(value).is_integer() else repr(float(value)) for value in values]
    else:
        texts = [str(value) for value in values]
    return np.array([*texts, None], dtype=object)[codes]  # the last answers code -1: missing


def row_digests(frame: pd.DataFrame) -> npt.NDArray[np.uint8]:
    """BLAKE2b-128 of every row of a canonical frame: an array of shape (rows, 16).

    Each row is laid out as, for each column, one byte that is 1 where a value is there and then its value (all
    zero bytes where none is): little-endian int64; little-endian IEEE float64, -0.0 as 0.0; one byte of truth;
    int64 nanoseconds since 1970 in UTC; or the BLAKE2b-128 of a text's UTF-8. A digest of the columns' names
    and kinds is the salt, so rows of differently named or typed tables never agree.
    """
    types = column_types(frame)
    salt = hashlib.sha256(canonical_json(types)).digest()[: hashlib.blake2b.SALT_SIZE]
    joined = b"".join(
        digest
        for start in range(0, len(frame), _CHUNK)
        for digest in _chunk_digests(frame.iloc[start : start + _CHUNK], types, salt)
    )
    return np.frombuffer(joined, dtype=np.uint8).reshape(-1, ROW_DIGEST_BYTES)


def _chunk_digests(frame: pd.DataFrame, types: tuple[tuple[str, str], ...], salt: bytes) -> Iterator[bytes]:
    layout = np.hstack([_column_bytes(frame[name], kind) for name, kind in types])
    width = layout.shape[1]
    view = memoryview(layout.tobytes())
    for start in range(0, len(frame) * width, width):
        row = view[start : start + width]
        yield hashlib.blake2b(row, digest_size=ROW_DIGEST_BYTES, salt=salt, person=_PERSON).digest()


def _column_bytes(column: pd.Series[Any], kind: str) -> npt.NDArray[np.uint8]:
    """The bytes that one column adds to every row: shape (rows, 1 + width of the kind)."""
    present = column.notna().to_numpy(dtype=bool)
    encoders: Mapping[str, Callable[[pd.Series[Any]], npt.NDArray[np.uint8]]] = {
        "int64": lambda values: _eight_bytes(values.to_numpy(), "<i8"),
        # adding 0.0 turns -0.0 into 0.0 and changes nothing else
        "float64": lambda values: _eight_bytes(values.to_numpy() + 0.0, "<f8"),
        "bool": lambda values: values.fillna(False).to_numpy(dtype=np.uint8).reshape(-1, 1),
        "timestamp": lambda values: _eight_bytes(values.to_numpy("datetime64[ns]").view(np.int64), "<i8"),
        "string": _text_bytes,
    }
    encoded = np.where(present[:, None], encoders[kind](column), np.uint8(0))
    return np.hstack([present.astype(np.uint8)[:, None], encoded])


def _eight_bytes(values: npt.NDArray[Any], dtype: str) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(values.astype(dtype, copy=False)).view(np.uint8).reshape(-1, 8)


def _text_bytes(values: pd.Series[Any]) -> npt.NDArray[np.uint8]:
    codes, words = pd.factorize(values, use_na_sentinel=True)
    table = np.zeros((len(words) + 1, ROW_DIGEST_BYTES), dtype=np.uint8)  # the last row answers code -1: missing
    for index, word in enumerate(words):
        raw = str(word).encode("utf-8", "surrogatepass")
        table[index] = np.frombuffer(hashlib.blake2b(raw, digest_size=ROW_DIGEST_BYTES).digest(), dtype=np.uint8)
    return table[codes]


def table_digest(frame: pd.DataFrame, rows: npt.NDArray[np.uint8] | None = None) -> str:
    """SHA-256 (hex) over the columns' names and kinds and the row digests in order.

    ``rows`` may hand in ``row_digests(frame)`` where the caller has them already.
    """
    digests = row_digests(frame) if rows is None else rows
    total = hashlib.sha256(canonical_json([column_types(frame), len(frame)]))
    total.update(digests.tobytes())
    return total.hexdigest()


def write_parquet(frame: pd.DataFrame, path: Path, binary: Mapping[str, npt.NDArray[np.uint8]] | None = None) -> None:
    """Write a canonical frame, with ``binary`` columns of shape (rows, width) after it, as one Parquet file.

    Equal content gives equal bytes under one version of Arrow: no metadata of pandas, fixed row groups.
    Replaces ``path``, whose folder must exist.
    """
    columns: dict[str, pa.Array] = {name: _arrow_column(frame[name], kind) for name, kind in column_types(frame)}
    for name, matrix in (binary or {}).items():
        kind = pa.binary(matrix.shape[1])
        columns[name] = pa.Array.from_buffers(kind, len(matrix), [None, pa.py_buffer(matrix.tobytes())])
    pq.write_table(
        pa.table(columns), path, row_group_size=_ROW_GROUP, compression="zstd", store_schema=False, version="2.6"
    )


def _arrow_column(column: pd.Series[Any], kind: str) -> pa.Array:
    types = {
        "int64": pa.int64(),
        "float64": pa.float64(),
        "bool": pa.bool_(),
        "string": pa.string(),
        "timestamp": pa.timestamp("ns", tz="UTC"),
    }
    array = pa.Array.from_pandas(column, type=types[kind])
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def read_parquet(path: Path, columns: list[str] | None = None, bounds: Bounds | None = None) -> pd.DataFrame:
    """A file that ``write_parquet`` wrote, as the frame it was; fixed-width binary columns as Python ``bytes``.

    ``bounds`` are for a file that somebody else says it wrote. Raises IntegrityError when it is no Parquet file or out
    of bounds, FileNotFoundError when it is not there.
    """
    if bounds is not None:
        table = with_plain_texts(read_bounded(path, path.name, bounds, columns), path.name, bounds.size)
    else:
        table = _read_ours(path, columns)
    binary = [field.name for field in table.schema if pa.types.is_fixed_size_binary(field.type)]
    frame = to_frame(table.drop_columns(binary), path.name)
    for name in binary:
        frame[name] = pd.Series(table[name].to_pylist(), dtype=object)
    return frame.reindex(columns=table.column_names)


def _read_ours(path: Path, columns: list[str] | None) -> pa.Table:
    raw = pa.BufferReader(path.read_bytes())
    try:
        return pq.read_table(raw, columns=columns, use_threads=False)
    except pa.ArrowException as error:
        raise IntegrityError(f"{path.name} cannot be read as Parquet: it is damaged or something else") from error


def digest_matrix(values: pd.Series[Any]) -> npt.NDArray[np.uint8]:
    """A column of 16-byte ``bytes`` as a matrix of shape (rows, 16)."""
    return np.frombuffer(b"".join(values), dtype=np.uint8).reshape(-1, ROW_DIGEST_BYTES)
