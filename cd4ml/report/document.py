"""What a report says, before it is Markdown, HTML or a terminal's lines: lines, lists, tables, sections.

A plain ``str`` in a line is cd4ml's own. Text from outside is always ``Code`` or ``Prose``, so that no renderer can
take the one for the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType


@dataclass(frozen=True)
class Code:
    """A name, a value or a command, shown to the letter; ``strong`` sets it off, ``whole`` keeps it from being cut."""

    text: str
    strong: bool = False
    whole: bool = False


@dataclass(frozen=True)
class Prose:
    """Words from outside, or words of ours that may quote such."""

    text: str


@dataclass(frozen=True)
class Strong:
    """Words of ours that must not be missed."""

    text: str


@dataclass(frozen=True)
class Judged:
    """One of the words of ``MARKS``; ``title`` is written in its stead, and more strongly."""

    word: str
    title: str = ""


Part = str | Code | Prose | Strong | Judged
Line = tuple[Part, ...]


@dataclass(frozen=True)
class Bullets:
    """A list."""

    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Grid:
    """A table. ``numeric`` are the columns (from 0) that are set to the right; every row is as long as ``head``."""

    head: tuple[str, ...]
    rows: tuple[tuple[Line, ...], ...]
    numeric: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Shell:
    """One line to paste into a shell."""

    command: str


Block = Line | Bullets | Grid | Shell


@dataclass(frozen=True)
class Section:
    """A part that folds; ``told`` says what a reader misses who leaves it folded."""

    title: str
    told: Line
    blocks: tuple[Block, ...]

    @property
    def summary(self) -> Line:
        """The line that stays in sight."""
        return (Strong(self.title), ": ", *self.told) if self.told else (Strong(self.title),)


@dataclass(frozen=True)
class Document:
    """A report. Where room is short, the last sections lose theirs first."""

    title: Line
    lead: tuple[Block, ...]
    sections: tuple[Section, ...]


@dataclass(frozen=True)
class Mark:
    """Beside a word: for a page, for a terminal of one colour, and the tone in which it is told."""

    page: str
    terminal: str
    tone: str


_GOOD, _BAD, _EVEN, _OPEN = "good", "bad", "even", "open"

MARKS: Mapping[str, Mark] = MappingProxyType(
    {
        "better": Mark("🟢", "▲", _GOOD),
        "worse": Mark("🔴", "▼", _BAD),
        "no real difference": Mark("⚪", "=", _EVEN),
        "unknown": Mark("", "", _EVEN),
        "not comparable": Mark("🟡", "?", _OPEN),
        "take main in": Mark("🔀", "!", _OPEN),
        "failed": Mark("⛔", "✗", _BAD),
        "pending": Mark("⏳", "…", _OPEN),
        "unverified": Mark("⚠️", "!", _OPEN),
        "passed": Mark("✅", "✓", _GOOD),
        "held": Mark("❌", "✗", _BAD),
        "attention": Mark("⚠️", "!", _OPEN),
    }
)
"""The words that judge. Each mark has a shape or a word beside it: colour alone says nothing."""


def cut(block: Block, most: int | None) -> tuple[Block, int]:
    """A block with at most so many rows or points, and how many were left out."""
    if most is None:
        return block, 0
    if isinstance(block, Grid):
        return replace(block, rows=block.rows[:most]), max(0, len(block.rows) - most)
    if isinstance(block, Bullets):
        return Bullets(block.lines[:most]), max(0, len(block.lines) - most)
    return block, 0
