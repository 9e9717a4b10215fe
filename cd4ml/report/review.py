"""A review in a terminal of 80 columns, and in one line of plain text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import MappingProxyType

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from cd4ml.promotion.review import Review
from cd4ml.report.document import (
    MARKS,
    Block,
    Bullets,
    Code,
    Grid,
    Judged,
    Line,
    Part,
    Prose,
    Shell,
    Strong,
    cut,
)
from cd4ml.report.layout import GAP
from cd4ml.report.markup import LONGEST, LONGEST_COMMAND, seen
from cd4ml.report.sections import document_of
from cd4ml.report.verdict import verdict_line
from cd4ml.report.visible import plain_number, visible

_MOST = 12
_LONGEST_LINE = 140
_TONES = MappingProxyType({"good": "green", "bad": "red", "open": "yellow", "even": ""})
_LONGEST_PROSE = 600


def review_view(review: Review) -> RenderableType:
    """The report as it stands open, then every section beneath its summary; long tables are cut, and say so."""
    document = document_of(review)
    parts: list[RenderableType] = [_text(document.title), *_blocks(document.lead)]
    for section in document.sections:
        parts += [
            Text(),
            _text(section.summary, "bold"),
            *(Padding(one, (0, 0, 0, 2)) for one in _blocks(section.blocks)),
        ]
    return Group(*parts)


def one_line_verdict(review: Review) -> str:
    """The first line as plain text, cut after 140 characters, for checks and logs."""
    text = "".join(_plain(part) for part in verdict_line(review))
    return text if len(text) <= _LONGEST_LINE else text[: _LONGEST_LINE - 1] + "…"


def _plain(part: Part) -> str:
    match part:
        case Judged():
            return part.title or part.word
        case Code():
            return seen(part.text, LONGEST_COMMAND if part.whole else LONGEST)
        case Prose():
            return " ".join(seen(part.text, _LONGEST_PROSE).split())
        case Strong():
            return part.text
        case _:
            return part


def _text(line: Line, style: str = "") -> Text:
    text = Text(style=style, overflow="fold")
    for part in line:
        match part:
            case Judged():
                mark = MARKS[part.word]
                text.append(
                    f"{mark.terminal} {_plain(part)}".lstrip(),
                    f"bold {_TONES[mark.tone]}" if part.title else _TONES[mark.tone],
                )
            case Code():
                text.append(_plain(part), "bold" if part.strong else "cyan")
            case Strong():
                text.append(part.text, "bold")
            case _:
                text.append(_plain(part))
    return text


def _blocks(blocks: Iterable[Block]) -> Iterator[RenderableType]:
    for block in blocks:
        told, left_out = cut(block, _MOST)
        match told:
            case Grid():
                yield _table(told)
            case Bullets():
                for line in told.lines:
                    yield Padding(_text(line), (0, 0, 0, 2))
            case Shell():
                yield Text(visible(told.command), style="cyan", overflow="fold")
            case _:
                yield _text(told)
        if left_out:
            yield Text(f"… and {plain_number(left_out)} more (`--format json` has all)")


def _table(grid: Grid) -> Table:
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold")
    for number, title in enumerate(grid.head):
        numeric = number in grid.numeric
        table.add_column(title, justify="right" if numeric else "left", no_wrap=numeric, overflow="fold")
    for row in grid.rows:
        table.add_row(*(_text(cell) for cell in row))
    return table
