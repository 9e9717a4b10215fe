"""A review as Markdown of GitHub's and GitLab's kind, for a comment on a pull request."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape

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
    Section,
    Shell,
    Strong,
    cut,
)
from cd4ml.report.markup import LONGEST, LONGEST_COMMAND, code, fenced, html_code, html_prose, image, link, own, prose
from cd4ml.report.sections import document_of
from cd4ml.report.visible import plain_number

LIMIT = 65_000
"""Characters of a comment, a little below what GitHub takes (65,536)."""

_IN_SIGHT = 10
_FIRST = (None, 1000, 200, 50)
_THEN = (20, 5, 0)
_NOTICE = "Shortened to fit"

_Caps = tuple[int | None, ...]


@dataclass(frozen=True)
class PlotLink:
    """A plot at a web address, or in a file beside the report (its path, percent-encoded).

    ``alt`` says in words what it shows. It is shown ``width`` pixels wide, and has more of its own for dense screens.
    """

    title: str
    alt: str
    url: str
    width: int = 820


def markdown_report(review: Review, *, plots: Sequence[PlotLink] = (), whole: str = "", limit: int = LIMIT) -> str:
    """The report, never longer than ``limit`` characters; ``whole`` is the web address of the whole of it.

    As much is shown as fits. Where not all does, long tables lose rows, first all alike, then those of the last
    sections before those of the first; then sections keep their summaries alone; then what stands open is cut, too.
    Text from outside is shown as text, whatever it holds.
    """
    document = document_of(review)
    lead = [_line(document.title), *(_block(block, _IN_SIGHT) for block in document.lead)]
    opened = [*lead, _plots(plots)]
    section = cache(lambda number, most: _section(document.sections[number], most))
    for caps in _ever_less(document.sections, limit):
        text = _joined([*opened, *_sections(document.sections, caps, section, whole)])
        if len(text) <= limit:
            return text
    for blocks in range(len(lead), 0, -1):
        text = _joined([*lead[:blocks], _footer(whole, True)])
        if len(text) <= limit:
            return text
    return _line(document.title[:1])[:limit]


def _ever_less(sections: Sequence[Section], limit: int) -> Iterator[_Caps]:
    """The most rows that each section shows: none is ``0``, nothing is all of them. What cannot fit is left out."""
    for most in _FIRST:
        if _at_least(sections, most) <= limit:
            yield (most,) * len(sections)
    caps = [_FIRST[-1]] * len(sections)
    for most in _THEN:
        for number in reversed(range(len(sections))):
            caps[number] = most
            yield tuple(caps)


def _at_least(sections: Sequence[Section], most: int | None) -> int:
    """Characters that the tables take, if every cell held a single one."""
    grids = [block for section in sections for block in section.blocks if isinstance(block, Grid)]
    return sum(4 * len(grid.head) * min(len(grid.rows), most or len(grid.rows)) for grid in grids)


def _sections(
    sections: Sequence[Section], caps: _Caps, section: Callable[[int, int | None], str], whole: str
) -> list[str]:
    """Those that show rows, then a line for each of the others, and the end of the report."""
    shown = [number for number, most in enumerate(caps) if most != 0]
    named = [sections[number] for number, most in enumerate(caps) if most == 0]
    less = bool(named) or any(cut(block, caps[number])[1] for number in shown for block in sections[number].blocks)
    summaries = "\n".join(f"- {_line(one.summary)}" for one in named)
    return [*(section(number, caps[number]) for number in shown), summaries, _footer(whole, less)]


def _joined(parts: Sequence[str]) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"


def _footer(whole: str, less: bool) -> str:
    if whole:
        return f"{_NOTICE}: {link('the whole report', whole)}" if less else link("The whole report", whole)
    return f"{_NOTICE}; `cd4ml report` has all of it." if less else ""


def _section(section: Section, most: int | None) -> str:
    return _folded("".join(map(_html_part, section.summary)), [_block(block, most) for block in section.blocks])


def _plots(plots: Sequence[PlotLink]) -> str:
    if not plots:
        return ""
    blocks = [f"**{prose(plot.title)}**\n\n{image(plot.url, plot.alt, plot.width)}" for plot in plots]
    return _folded(f"<b>Plots</b>: {len(plots)}", blocks)


def _folded(summary: str, blocks: Sequence[str]) -> str:
    """``summary`` is HTML, since a forge reads that line so; what is between blank lines is Markdown again."""
    return "\n\n".join([f"<details>\n<summary>{summary}</summary>", *blocks, "</details>"])


def _block(block: Block, most: int | None) -> str:
    told, left_out = cut(block, most)
    more = f"\n\n… and {plain_number(left_out)} more" if left_out else ""
    if isinstance(told, Grid):
        return _grid(told) + more
    if isinstance(told, Bullets):
        return "\n".join(f"- {_line(line)}" for line in told.lines) + more
    return fenced(told.command) if isinstance(told, Shell) else _line(told)


def _grid(grid: Grid) -> str:
    rules = ["---:" if number in grid.numeric else "---" for number in range(len(grid.head))]
    rows = [[own(title) for title in grid.head], rules]
    rows += [[_line(cell, in_table=True) for cell in row] for row in grid.rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _line(line: Line, *, in_table: bool = False) -> str:
    return "".join(_part(part, in_table=in_table) for part in line)


def _part(part: Part, *, in_table: bool) -> str:
    match part:
        case Code():
            longest = LONGEST_COMMAND if part.whole else LONGEST
            text = code(part.text, in_table=in_table, longest=longest)
            return f"**{text}**" if part.strong else text
        case Prose():
            return prose(part.text, in_table=in_table)
        case Strong():
            return f"**{own(part.text)}**"
        case Judged():
            word = f"**{own(part.title)}**" if part.title else own(part.word)
            return f"{MARKS[part.word].page} {word}".lstrip()
        case _:
            return own(part)


def _html_part(part: Part) -> str:
    match part:
        case Code():
            return html_code(part.text)
        case Prose():
            return html_prose(part.text)
        case Strong():
            return f"<b>{escape(part.text)}</b>"
        case Judged():
            return f"{MARKS[part.word].page} {escape(part.title or part.word)}".lstrip()
        case _:
            return escape(part)
