"""How listings are laid out: columns that fit a terminal, words with their colours, lines beneath a row.

Whatever comes from outside is made visible first and put into ``Text`` objects, which interpret neither rich's
markup nor escapes: no name can forge a line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from cd4ml.report.visible import plain_number, visible

WIDTH = 80
"""Columns that a listing takes at most, unless there is more room."""

GAP = 2
"""Blanks between two columns."""

_STYLES: Mapping[str, str] = MappingProxyType(
    {
        "Synced": "green",
        "Healthy": "green",
        "better": "green",
        "OutOfSync": "yellow",
        "Progressing": "cyan",
        "Missing": "yellow",
        "Degraded": "red",
        "worse": "red",
        "not comparable": "yellow",
        "discarded": "dim",
    }
)


def counted(number: int, noun: str) -> str:
    """``1 run``, ``2 runs``."""
    return f"{plain_number(number)} {noun}{'' if number == 1 else 's'}"


@dataclass(frozen=True)
class Column:
    """The head of a column."""

    title: str
    justify: Literal["left", "right"] = "left"


@dataclass(frozen=True)
class Row:
    """Cells of one line, and what stands beneath it over the whole width."""

    cells: tuple[Text, ...]
    note: Text | None = None


@dataclass(frozen=True)
class _Listing:
    columns: Sequence[Column]
    rows: Sequence[Row]

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        header = tuple(Text(column.title, style="bold") for column in self.columns)
        widths = _widths([header, *(row.cells for row in self.rows)], max(WIDTH, options.max_width))
        yield _line(self.columns, widths, header)
        for row in self.rows:
            yield _line(self.columns, widths, row.cells)
            if row.note is not None:
                yield Padding(row.note, (0, 0, 0, 2))


def listing(columns: Sequence[Column], rows: Sequence[Row]) -> RenderableType:
    """A table whose rows may have a note; the first column gives way where the room is not enough."""
    return _Listing(columns, rows)


def _widths(lines: Sequence[tuple[Text, ...]], room: int) -> list[int]:
    wanted = [max(cell_len(cell.plain) for cell in column) for column in zip(*lines, strict=True)]
    others = sum(wanted[1:]) + GAP * (len(wanted) - 1)
    return [min(wanted[0], max(8, room - others)), *wanted[1:]]


def _line(columns: Sequence[Column], widths: Sequence[int], cells: tuple[Text, ...]) -> Table:
    grid = Table.grid(padding=(0, GAP, 0, 0))
    for column, width in zip(columns, widths, strict=True):
        grid.add_column(justify=column.justify, width=width, overflow="fold")
    grid.add_row(*cells)
    return grid


def branch_text(name: str) -> Text:
    """A name from outside, over several lines where it is long."""
    return Text(visible(name), overflow="fold")


def word(text: str, before: str = "") -> Text:
    """One of cd4ml's words in its colour; ``before`` is a mark in front of it, in the same colour."""
    return Text(before + visible(text), style=_STYLES.get(text, ""))


def quiet(text: str) -> Text:
    """A note from outside."""
    return Text(visible(text), style="dim", overflow="fold")
