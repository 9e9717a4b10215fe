"""What of a table is nearly something else: text that is numbers or times but for a few cells, a class spelt twice.

Nothing is mended here: the cells are named, so that a person mends them where they come from.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from cd4ml.report.visible import visible
from cd4ml.spec.secrets import redacted

if TYPE_CHECKING:
    import pandas as pd

NEARLY = 0.9
"""From this share of its cells on a column of text is taken for what they are, and the others for dirt."""

MAX_WORDS = 10
"""More different cells than this that are no numbers are codes of another kind, and not dirt."""

SHOWN_CELLS = 3
SHOWN_CHARACTERS = 30
_LOOKED_AT = 200
_FEW = 50

_PLAIN = r"-?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_WITH_COMMA = r"[-+]?(?:\d{1,3}(?:\.\d{3})+|\d+)(?:,\d+)?|[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?"
_WAYS = (
    ("numbers", _PLAIN, ""),
    ("numbers between blanks", rf"\s*(?:{_PLAIN})\s*", "take the blanks away"),
    ("numbers with a comma", rf"\s*(?:{_WITH_COMMA})\s*", "write a decimal point, and nothing between thousands"),
)
"""How numbers may be written, of two that fit alike the earlier: what they are, a pattern, and what to do about it."""


@dataclass(frozen=True)
class Nearly:
    """What most cells of a column of text are, in one line with the first cells that are not, and how to mend it."""

    kind: Literal["numbers", "times"]
    saw: str
    mend: str

    def __str__(self) -> str:
        return f"{self.saw}; {self.mend}"


def cell(value: object) -> str:
    """A value of the data as it may be shown: bounded, visible on one line, text in quotes."""
    if not isinstance(value, str):
        return visible(value)
    text = redacted(value[:_LOOKED_AT])
    return f"'{visible(text[:SHOWN_CHARACTERS])}{'…' if len(text) > SHOWN_CHARACTERS else ''}'"


def counted(values: pd.Series[Any]) -> str:
    """The first of these values, an index of their counts, as text: ``'k. A.' (4), '-' (1)``."""
    shown = [f"{cell(value)} ({count:,})" for value, count in values.head(SHOWN_CELLS).items()]
    more = len(values) - len(shown)
    return ", ".join(shown) + (f", and {more:,} more" if more else "")


def nearly_numbers(present: pd.Series[Any]) -> Nearly | None:
    """What a column of texts is when most are numbers, in whatever way they are written, and the others few."""
    counts = present.value_counts()
    best, most = None, 0
    for what, pattern, mend in _WAYS:
        fits = counts.index.str.fullmatch(pattern).astype(bool)
        if (rows := int(counts[fits].sum())) > most:
            best, most = (what, mend, fits), rows
    if best is None or most < NEARLY * len(present):
        return None
    what, mend, fits = best
    odd = counts[~fits]
    if len(odd) > MAX_WORDS or not (len(odd) or mend):  # text on purpose, as Parquet can tell
        return None
    first = next((text for text in counts.index[fits] if "," in text), counts.index[fits][0])
    saw = _saw(most, len(present), f"{what}, such as {cell(first)}" if mend else what, odd)
    empty = "make the others numbers or empty (missing)" if len(odd) else ""
    return Nearly("numbers", saw, _mended((mend, empty), "features.numeric"))


def nearly_times(present: pd.Series[Any], formats: Iterable[str]) -> Nearly | None:
    """What a column of texts is when most are times of one of these strptime formats (``""``: ISO 8601)."""
    import pandas as pd

    few = present.head(_FEW)
    if few.str.contains(r"\d").mean() < NEARLY:
        return None
    best, most = None, 0
    for time_format in formats:
        how = time_format or "ISO8601"
        if pd.to_datetime(few, format=how, utc=True, errors="coerce").notna().mean() < NEARLY:
            continue
        fits = pd.to_datetime(present, format=how, utc=True, errors="coerce").notna()
        if (rows := int(fits.sum())) > most:
            best, most = (time_format or "ISO 8601", fits), rows
    if best is None or most < NEARLY * len(present):
        return None
    saw = _saw(most, len(present), f"times ({best[0]})", present[~best[1]].value_counts())
    form = f", and its form under data.time_formats ({best[0]})" if best[0] != "ISO 8601" else ""
    todo = _mended(("make the others times or empty (missing)",), f"data.time_columns{form}")
    return Nearly("times", saw, todo)


def _saw(fit: int, rows: int, what: str, odd: pd.Series[Any]) -> str:
    many = f"{fit:,} of {rows:,} are" if len(odd) else f"all {rows:,} are"
    return f"{many} {what}" + (f", not: {counted(odd)}" if len(odd) else "")


def _mended(steps: Iterable[str], key: str) -> str:
    """What to do: no cell is changed by cd4ml, and no declaration of a source reads them so."""
    todo = " and ".join(step for step in steps if step)
    return f"cd4ml changes no cell: in the data, {todo}; then `cd4ml data update`, and name it under {key}"


def spelt_alike(present: pd.Series[Any]) -> str:
    """Texts of a column that differ in blanks or capitals only, in one line; empty when none do."""
    counts = present.value_counts()
    groups: dict[str, list[Any]] = {}
    for text in counts.index:
        groups.setdefault(" ".join(str(text).split()).casefold(), []).append(text)
    twice = [counts[texts] for texts in groups.values() if len(texts) > 1]
    if not twice:
        return ""
    told = "; ".join(counted(one) for one in twice[:SHOWN_CELLS])
    more = f"; and {len(twice) - SHOWN_CELLS:,} more" if len(twice) > SHOWN_CELLS else ""
    return f"{told}{more}: different values, though they differ in blanks or capitals only"
