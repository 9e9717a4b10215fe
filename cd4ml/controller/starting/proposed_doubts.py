"""What of a table is nearly something else: text that is numbers or times but for a few cells, a class spelt twice.

Nothing is mended here: the cells are named, so that a person mends them where they come from, or says in the source's
keys how they are to be read.
"""

from __future__ import annotations

import re
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

_WITH_COMMA = r"[-+]?(?:\d{1,3}(?:\.\d{3})+|\d+)(?:,\d+)?|[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?"
_DIGIT = re.compile(r"\d")

Way = Literal["plain", "blanks", "other mark", "thousands", "times"]


@dataclass(frozen=True)
class Reading:
    """How the cells of a CSV file are read, and which keys of its source may say that they are read otherwise.

    ``missing_key`` and ``decimal_key`` are such keys, written out, and empty where the key would cure nothing or harm
    other columns. ``said`` is what a person should know of it, one line each.
    """

    decimal: str = "."
    missing: tuple[str, ...] = ()
    missing_key: str = ""
    decimal_key: str = ""
    said: tuple[str, ...] = ()


USUAL = Reading()


@dataclass(frozen=True)
class Nearly:
    """What most cells of a column of text are, in one line with the first cells that are not, and how to mend it.

    ``way`` is how those are written, and ``odd`` are the texts of the others.
    """

    kind: Literal["numbers", "times"]
    saw: str
    mend: str
    way: Way
    odd: frozenset[str]

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


def number_with(mark: str) -> str:
    """The pattern of a number with this decimal mark, as it is read when the source says so."""
    mark = re.escape(mark)
    return rf"[-+]?(?:\d+{mark}?\d*|{mark}\d+)(?:[eE][-+]?\d+)?"


def _ways(reading: Reading) -> tuple[tuple[Way, str, str, str], ...]:
    """How numbers may be written, of two that fit alike the earlier: what they are, a pattern, what to do about it."""
    here, other = (".", ",") if reading.decimal == "." else (",", ".")
    names = {".": "point", ",": "comma"}
    plain = number_with(here)
    write = f"in the data, write a decimal {names[here]}"
    mark = f"{write}, and nothing between thousands" if here == "." else write
    if reading.decimal_key:
        thousands = "take it away in the data if it parts thousands"
        mark = f"say {reading.decimal_key}: '{other}' if the {names[other]} begins a fraction, or {thousands}"
    return (
        ("plain", "numbers", plain, ""),
        ("blanks", "numbers between blanks", rf"\s*(?:{plain})\s*", "in the data, take the blanks away"),
        ("other mark", f"numbers with a {names[other]}", number_with(other), mark),
        (
            "thousands",
            "numbers with a comma" if here == "." else "numbers with marks between thousands",
            rf"\s*(?:{_WITH_COMMA})\s*",
            f"{write}, and nothing between thousands",
        ),
    )


def nearly_numbers(present: pd.Series[Any], reading: Reading = USUAL) -> Nearly | None:
    """What a column of texts is when most are numbers, in whatever way they are written, and the others few."""
    counts = present.value_counts()
    best, most = None, 0
    for way, what, pattern, mend in _ways(reading):
        fits = counts.index.str.fullmatch(pattern).astype(bool)
        if (rows := int(counts[fits].sum())) > most:
            best, most = (way, what, mend, fits), rows
    if best is None or most < NEARLY * len(present):
        return None
    way, what, mend, fits = best
    odd = counts[~fits]
    if len(odd) > MAX_WORDS or not (len(odd) or mend):  # text on purpose, as Parquet can tell
        return None
    first = next((text for text in counts.index[fits] if "," in text), counts.index[fits][0])
    saw = _saw(most, len(present), f"{what}, such as {cell(first)}" if mend else what, odd)
    todo = _mended((mend, _of_odd(odd, "numbers", reading)), "features.numeric")
    return Nearly("numbers", saw, todo, way, frozenset(odd.index))


def nearly_times(present: pd.Series[Any], formats: Iterable[str], reading: Reading = USUAL) -> Nearly | None:
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
    odd = present[~best[1]].value_counts()
    saw = _saw(most, len(present), f"times ({best[0]})", odd)
    form = f", and its form under data.time_formats ({best[0]})" if best[0] != "ISO 8601" else ""
    todo = _mended((_of_odd(odd, "times", reading),), f"data.time_columns{form}")
    return Nearly("times", saw, todo, "times", frozenset(odd.index))


def _saw(fit: int, rows: int, what: str, odd: pd.Series[Any]) -> str:
    many = f"{fit:,} of {rows:,} are" if len(odd) else f"all {rows:,} are"
    return f"{many} {what}" + (f", not: {counted(odd)}" if len(odd) else "")


def _of_odd(odd: pd.Series[Any], what: str, reading: Reading) -> str:
    """What to do about cells that are not what the others are: words among them may say that they hold nothing."""
    if not len(odd):
        return ""
    if reading.missing_key and not all(_DIGIT.search(text) for text in odd.index):
        return f"list those that hold nothing under {reading.missing_key}, and make the rest {what} in the data"
    return f"in the data, make the others {what} or empty (missing)"


def _mended(steps: Iterable[str], key: str) -> str:
    """What to do: no cell is changed by cd4ml."""
    todo = ", and ".join(step for step in steps if step)
    return f"cd4ml changes no cell: {todo}; then `cd4ml data update`, and name it under {key}"


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
