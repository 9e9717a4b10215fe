"""Parquet files of strangers, read within bounds.

A file of a few kilobytes can unpack to any size: a text is stored once and meant a million times, a footer names rows
that are not there, a value is as long as its writer likes. So types, rows and sizes are looked at before anything is
read; texts are read as dictionaries, each value once, and are made plain only when it is known how much that takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from cd4ml.errors import IntegrityError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq


_ROOM_OF_A_COLUMN = 4 << 20  # a writer's dictionary of 1 MiB, and what else is not by row


@dataclass(frozen=True)
class Bounds:
    """What a file may hold: exactly, or at most, so many ``rows``, and ``size`` bytes in memory.

    ``cell`` is for columns of short values: so many bytes each on average, and 4 MiB a column.
    """

    rows: int
    size: int
    exactly: bool = True
    cell: int | None = None

    def most(self, rows: int, columns: int) -> int:
        """Bytes that so many rows of so many columns may take."""
        by_cell = self.size if self.cell is None else columns * (_ROOM_OF_A_COLUMN + rows * self.cell)
        return min(self.size, by_cell)


def read_bounded(source: Path | IO[bytes], what: str, bounds: Bounds, columns: Sequence[str] | None = None) -> pa.Table:
    """Some columns of a file (all, if none are named), texts as dictionaries of whatever length their values have.

    ``what`` names the file in messages. Raises IntegrityError for a file that is no Parquet, is out of bounds, lacks a
    column or has it twice, or holds there anything but texts and values of a fixed width. Reads a row group at a time.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        plain = pq.ParquetFile(source, memory_map=False)
        schema = plain.schema_arrow
        _check_rows(plain.metadata, what, bounds)
        places = _places(plain, what, columns)
        texts = [schema.field(place).name for place in places if _is_text(schema.field(place).type)]
        most = bounds.most(plain.metadata.num_rows, len(places))
        _check_size(plain, what, most, places)
        parquet = pq.ParquetFile(source, metadata=plain.metadata, read_dictionary=texts, memory_map=False)
        names = [schema.field(place).name for place in places]
        pieces = [parquet.read_row_groups([], columns=names, use_threads=False)]
        size = 0
        for group in range(plain.metadata.num_row_groups):
            pieces.append(parquet.read_row_group(group, columns=names, use_threads=False))
            size += pieces[-1].nbytes  # the footer may have told less
            if size > most:
                raise _too_large(what, most)
        table = pa.concat_tables(pieces[1:] or pieces).select(names if columns is None else list(columns))
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise IntegrityError(f"{what} cannot be read: {type(error).__name__}") from error
    if table.num_rows != plain.metadata.num_rows:
        raise IntegrityError(f"{what} does not hold the rows that it should")
    return table


def with_plain_texts(table: pa.Table, what: str, size: int) -> pa.Table:
    """The table with its dictionaries of texts written out. Raises IntegrityError for texts of more than ``size``
    bytes in all."""
    import pyarrow as pa

    chosen = [name for name in table.column_names if pa.types.is_dictionary(table[name].type)]
    if sum(_written_out(table[name]) for name in chosen) > size:
        raise _too_large(what, size)
    try:
        for name in chosen:
            table = table.set_column(table.column_names.index(name), name, table[name].cast(pa.string()))
    except pa.ArrowException as error:  # a row group of more than 2 GiB
        raise _too_large(what, size) from error
    return table


def longest_text(column: pa.ChunkedArray) -> int:
    """Bytes of the longest value that a dictionary of texts knows."""
    import pyarrow.compute as pc

    lengths = (pc.max(pc.binary_length(chunk.dictionary)).as_py() or 0 for chunk in column.chunks)
    return max(lengths, default=0)


def _written_out(column: pa.ChunkedArray) -> int:
    import pyarrow.compute as pc

    each = (pc.sum(pc.binary_length(chunk.dictionary).take(chunk.indices)).as_py() or 0 for chunk in column.chunks)
    return sum(each) + 4 * len(column)


def _check_rows(about: pq.FileMetaData, what: str, bounds: Bounds) -> None:
    told = sum(about.row_group(number).num_rows for number in range(about.num_row_groups))
    fits = told == bounds.rows if bounds.exactly else told <= bounds.rows
    if told != about.num_rows or not fits:
        raise IntegrityError(f"{what} does not hold the rows that it should")


def _places(parquet: pq.ParquetFile, what: str, columns: Sequence[str] | None) -> list[int]:
    """Where the columns are, in the schema and in each row group: the same place, since nothing is nested."""
    schema = parquet.schema_arrow
    names = schema.names
    wanted = names if columns is None else list(columns)
    for name in wanted:
        if names.count(name) != 1:
            raise IntegrityError(f"{what} has no column {name[:100]!r}, or several")
    # a reader that is asked for "a" gives "a.b" as well
    beside = [name for name in names if any(name.startswith(f"{one}.") for one in wanted) and name not in wanted]
    places = [place for place, name in enumerate(names) if name in {*wanted, *beside}]
    odd = next((place for place in places if not (_is_text(schema[place].type) or _width(schema[place].type))), None)
    if odd is not None or parquet.metadata.num_columns != len(names):
        raise IntegrityError(f"{what} holds values that no table of cd4ml has")
    return places


def _check_size(parquet: pq.ParquetFile, what: str, most: int, places: list[int]) -> None:
    """As the footer tells it, and as so many rows take even where every value is stored once."""
    about = parquet.metadata
    groups = [about.row_group(number) for number in range(about.num_row_groups)]
    packed = sum(group.column(place).total_uncompressed_size for group in groups for place in places)
    fixed = about.num_rows * sum(_width(parquet.schema_arrow[place].type) or 4 for place in places)
    if max(packed, fixed) > most:
        raise _too_large(what, most)


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind.value_type if pa.types.is_dictionary(kind) else kind))


def _width(kind: pa.DataType) -> int:
    """Bytes of a value; 0 for a type that has no fixed width, or that no table of ours has."""
    import pyarrow as pa

    if pa.types.is_fixed_size_binary(kind):
        return int(kind.byte_width)
    return -(-int(kind.bit_width) // 8) if pa.types.is_primitive(kind) else 0


def _too_large(what: str, most: int) -> IntegrityError:
    return IntegrityError(f"{what} is larger than the {most / (1 << 30):.3g} GiB that it may take")
