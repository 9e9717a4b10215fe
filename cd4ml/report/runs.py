"""What ``search`` found as CSV, Parquet, a data frame, or a table of chosen columns; and what can be asked for.

Cells come from records, which anyone who can push has written: on a terminal they are made visible, and in CSV, which
spreadsheets open, no text can begin a formula.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from cd4ml.index.grid import Column, Grid, Kind
from cd4ml.report.layout import GAP, quiet
from cd4ml.report.visible import ABSENT, plain_number, visible

if TYPE_CHECKING:
    import pandas as pd

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula."""

_LONGEST = 60
_FEW_LETTERS = 16
_NUMERIC: frozenset[Kind] = frozenset({"integer", "number"})


def csv_text(grid: Grid) -> str:
    """The table as RFC 4180 has it: a line of names, CRLF, quotes where they are needed.

    What is missing is empty. Lists and mixed values are JSON, instants ISO 8601. A text that a spreadsheet would
    take for a formula has an apostrophe before it, as spreadsheets themselves write such a text.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\r\n")
    writer.writerow([_harmless(column.name) for column in grid.columns])
    kinds = [column.kind for column in grid.columns]
    for row in grid.rows:
        writer.writerow([_csv_cell(value, kind) for value, kind in zip(row, kinds, strict=True)])
    return stream.getvalue()


def _csv_cell(value: Any, kind: Kind) -> str:
    if value is None:
        return ""
    if kind in ("mixed", "texts"):
        return _json(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return _harmless(value) if isinstance(value, str) else repr(value)


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=dict)


def parquet_bytes(grid: Grid) -> bytes:
    """The table as a Parquet file.

    Types: text utf8, texts list of utf8, integer int64, number double, truth bool, instant timestamp in microseconds
    and UTC; mixed values are JSON in utf8.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {
        "text": pa.string(),
        "texts": pa.list_(pa.string()),
        "integer": pa.int64(),
        "number": pa.float64(),
        "truth": pa.bool_(),
        "instant": pa.timestamp("us", tz="UTC"),
        "mixed": pa.string(),
    }
    arrays = [
        pa.array([_typed(value, column.kind) for value in column.values], types[column.kind]) for column in grid.columns
    ]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(arrays, names=[column.name for column in grid.columns]), sink)
    return bytes(sink.getvalue().to_pybytes())


def frame(grid: Grid) -> pd.DataFrame:
    """The table as a data frame, one run a row.

    dtypes: text ``string``, integer ``Int64``, number ``float64``, truth ``boolean``, instant ``datetime64[us, UTC]``;
    lists and mixed values are objects. What is missing is missing.
    """
    import pandas as pd

    index = pd.RangeIndex(grid.height)
    if not grid.columns:
        return pd.DataFrame(index=index)
    return pd.DataFrame({column.name: _series(column, index) for column in grid.columns}, index=index)


def _series(column: Column, index: Any) -> Any:
    import pandas as pd

    dtypes = {"text": "string", "integer": "Int64", "number": "float64", "truth": "boolean"}
    if column.kind == "instant":
        instants = [_typed(value, "instant") for value in column.values]
        return pd.Series(pd.to_datetime(instants, utc=True), index=index).astype("datetime64[us, UTC]")
    return pd.Series(list(column.values), index=index, dtype=dtypes.get(column.kind, "object"))


def _typed(value: Any, kind: Kind) -> Any:
    if value is None:
        return None
    if kind == "instant":
        return datetime.fromisoformat(value)
    if kind == "number":
        return float(value)
    return _json(value) if kind == "mixed" else value


def json_rows(grid: Grid) -> list[dict[str, Any]]:
    """One object a run, its keys the names of the columns; ``null`` for what is missing."""
    names = [column.name for column in grid.columns]
    return [dict(zip(names, row, strict=True)) for row in grid.rows]


@dataclass(frozen=True)
class _GridView:
    """A table where its columns have room, and otherwise each run by itself with a line for each column."""

    table: Table
    least: int
    names: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        if options.max_width >= self.least:
            yield self.table
        else:
            yield from (_one_run(self.names, row) for row in self.rows)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement.get(console, options, self.table)


def grid_table(grid: Grid) -> RenderableType:
    """Chosen columns, one run a line as long as no number is cut and no text has less than a few letters a line."""
    if not grid.height:
        return Text("No runs.")
    table, least = _table(), 0
    rows = [[_shown(value) for value in row] for row in grid.rows]
    for column, cells in zip(grid.columns, zip(*rows, strict=True), strict=True):
        right = column.kind in _NUMERIC
        title = visible(column.name)
        wanted = max(map(cell_len, (title, *cells)))
        least_of_it = wanted if right else min(wanted, _FEW_LETTERS)
        least += least_of_it + GAP
        table.add_column(
            Text(title),
            justify="right" if right else "left",
            no_wrap=right,
            overflow="fold",
            min_width=least_of_it,
        )
    for row in rows:
        table.add_row(*map(Text, row))
    return _GridView(table, least, [visible(column.name) for column in grid.columns], rows)


def _one_run(names: Sequence[str], cells: Sequence[str]) -> RenderableType:
    lines = Table.grid(padding=(0, GAP, 0, 0))
    lines.add_column(overflow="fold", style="bold", min_width=min(max(map(cell_len, names)), _LONGEST // 2))
    lines.add_column(overflow="fold")
    for name, cell in zip(names, cells, strict=True):
        lines.add_row(Text(name), Text(cell))
    return Padding(lines, (0, 0, 1, 0))


def _table() -> Table:
    return Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold")


def _shown(value: Any) -> str:
    if value is None:
        return ABSENT
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return plain_number(value)
    text = visible(value if isinstance(value, str) else _json(value))
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def fields_table(fields: Sequence[Mapping[str, Any]]) -> RenderableType:
    """What can be asked for, as ``search --fields --json`` lists it: and beneath it what runs hold."""
    table = _table()
    for title in ("Field", "Type", "Meaning"):
        table.add_column(title, overflow="fold")
    for field in fields:
        meaning = ": ".join(filter(None, (field["meaning"], ", ".join(field["words"]))))
        table.add_row(Text(visible(field["name"])), Text(field["type"]), Text(meaning))
    parts: list[RenderableType] = [table, Text(), Text("How each type is compared:", style="bold")]
    for kind, operators in {field["type"]: field["operators"] for field in fields}.items():
        parts.append(Padding(Text(f"{kind}: {', '.join(operators)}"), (0, 0, 0, 2)))
    for field in fields:
        if field["held"]:
            parts += [Text(), Text(f"{visible(field['name'])}, of which some run has:", style="bold")]
            parts += [Padding(quiet(name), (0, 0, 0, 2)) for name in field["held"]]
    return Group(*parts)
