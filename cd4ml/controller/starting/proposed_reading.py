"""How the cells of a person's own CSV file are to be read: with a decimal comma, and which words say nothing.

A key is proposed only where no column becomes poorer by it; a person is told of each. What remains is said by
``proposed_doubts``, column by column.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cd4ml.controller.starting.proposed_columns import TIME_FORMATS, as_times, unusable
from cd4ml.controller.starting.proposed_doubts import (
    Reading,
    cell,
    counted,
    nearly_numbers,
    nearly_times,
    number_with,
)
from cd4ml.spec.checks import MAX_MISSING_WORDS, missing_word

if TYPE_CHECKING:
    import pandas as pd

    Read = Callable[[str, tuple[str, ...]], pd.DataFrame]
    """Reads the file again, with this decimal mark and these words for missing."""

MOSTLY = 0.5
"""A column is one of numbers or times, some of which are lacking, from this share of its cells on."""

NOTHING_WORDS = frozenset(
    (
        *("na", "n/a", "#n/a", "n/v", "nv", "#nv", "nan", "null", "(null)", "\\n", "#null!", "missing", "unknown"),
        *("not available", "not known", "no data", "nodata"),
        *("ka", "k/a", "keine angabe", "keine angaben", "keine daten"),
        *("unbekannt", "nicht bekannt", "fehlt", "fehlend"),
        *("inconnu", "non renseigné", "manquant", "desconocido", "sin datos", "sconosciuto", "onbekend", "brak danych"),
    )
)
"""Words of which hardly any says anything else, in small letters and without points: ``k. A.`` is ``ka``.

Words that can be an amount or a finding are not among them: none, nil, empty, negative, not detected.
"""

_LONGEST = 30
_NOTHING_MARKS = re.compile(r"[-–—−?._*/\s]*")
_LIKE_THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2},\d{3}")
_COMMAS_FOR_THOUSANDS = re.compile(r"\s*[-+]?\d{1,3}(?:(?:,\d{3})+\.\d+|(?:,\d{3}){2,})\s*")


def propose_reading(frame: pd.DataFrame, key: str, delimiter: str, read: Read) -> tuple[pd.DataFrame, Reading]:
    """The table of a CSV file as it is best read, and how; ``frame`` is it as it is usually read.

    ``key`` is the place of its source in the configuration. Reads the file once more for each key that may help.
    """
    reading = Reading(missing_key=f"{key}.missing")
    frame, reading = _with_decimal(frame, reading, f"{key}.decimal", delimiter, read)
    words = _words(frame, reading)
    if not len(words):
        return frame, reading
    missing = tuple(sorted(words.index))
    those = "a cell that holds" if len(words) == 1 else "cells that hold"
    are = "is" if len(words) == 1 else "are"
    said = f"{those} {counted(words)} {are} read as missing ({reading.missing_key})"
    return read(reading.decimal, missing), replace(reading, missing=missing, said=(*reading.said, said))


# --- the decimal mark --------------------------------------------------------------------------------


def _with_decimal(
    frame: pd.DataFrame, reading: Reading, key: str, delimiter: str, read: Read
) -> tuple[pd.DataFrame, Reading]:
    """The frame with a decimal comma, where columns are written so and none needs a point; else as it is."""
    marks: dict[str, tuple[str, str]] = {}
    for name, texts in _texts(frame).items():
        if any("," in text or "." in text for text in texts):
            marks[name] = _mark(_without_nothing(frame[name], texts), reading)
    found = {mark for mark, _ in marks.values()}
    if delimiter == "," or "." in found or not found & {",", "?"}:
        return frame, reading
    other = read(",", ())
    if not _numbers(frame) <= _numbers(other):  # numbers with a point would be texts
        return frame, reading
    if "," not in found:
        return frame, replace(reading, decimal_key=key)  # it may help, and it may be wrong by a factor of a thousand
    name, shown = next((name, text) for name, (mark, text) in marks.items() if mark == ",")
    said = f"numbers are read with a decimal comma, such as {cell(shown)} of column {name!r} ({key})"
    return other, replace(reading, decimal=",", said=(said,))


def _mark(rest: pd.Series[Any], reading: Reading) -> tuple[str, str]:
    """The decimal mark of a column that is nearly numbers, and one that shows it; ``?`` if it may part thousands."""
    way, odd = "plain" if _are_numbers(rest, ".") else "other mark", frozenset[str]()
    if way == "other mark" and not _are_numbers(rest, ","):
        nearly = nearly_numbers(rest, reading)
        if nearly is None:
            return "", ""
        way, odd = nearly.way, nearly.odd
    texts = sorted(set(rest.to_numpy(dtype=object)) - odd)
    if way in ("plain", "blanks"):
        return next(((".", text) for text in texts if "." in text), ("", ""))
    if way == "other mark":
        with_comma = [text for text in texts if "," in text]
        return next(((",", text) for text in with_comma if not _LIKE_THOUSANDS.fullmatch(text)), ("?", ""))
    if any(_COMMAS_FOR_THOUSANDS.fullmatch(text) for text in texts):
        return ".", ""
    return "", ""  # points between thousands, which no key reads


def _numbers(frame: pd.DataFrame) -> set[str]:
    from cd4ml.stages.table import kind_of

    return {str(name) for name in frame.columns if kind_of(frame[name]) in ("int64", "float64")}


# --- words that say nothing ----------------------------------------------------------------------------


def says_nothing(text: str) -> bool:
    """Is this what people write where a number or a time is lacking, and can a configuration hold it?"""
    if len(text) > _LONGEST or text[-1:].isdigit():  # most texts of most tables, told at once
        return False
    plain = " ".join(text.casefold().replace(".", "").split())
    known = plain in NOTHING_WORDS or plain.replace(" ", "") in NOTHING_WORDS or _NOTHING_MARKS.fullmatch(text)
    return bool(known) and not missing_word(text) and not (text.strip() and unusable(text))


def _words(frame: pd.DataFrame, reading: Reading) -> pd.Series[Any]:
    """Words, by their number of cells, that alone keep columns from being numbers or times, and that no text says."""
    import pandas as pd

    alone: list[set[str]] = []
    values: set[str] = set()
    columns = _texts(frame)
    for name, texts in columns.items():
        nothing = {text for text in texts if says_nothing(text)}
        if not nothing or nothing == texts:
            continue
        rest = _without_nothing(frame[name], texts)
        if len(texts - nothing) > 1 and (_are_numbers(rest, reading.decimal) or as_times(rest) is not None):
            if len(rest) >= MOSTLY * frame[name].count():
                alone.append(nothing)
        elif nearly_numbers(rest, reading) is None and nearly_times(rest, ("", *TIME_FORMATS)) is None:
            values |= nothing  # which may mean something here: not applicable, or, beside one number, no
    words = sorted({word for one in alone if not one & values for word in one})
    if not words or len(words) > MAX_MISSING_WORDS:
        return pd.Series(dtype="int64")
    cells: pd.Series[Any] = pd.concat([frame[name] for name in columns])
    return cells[cells.isin(words)].value_counts()


def _are_numbers(rest: pd.Series[Any], decimal: str) -> bool:
    """Is each of these texts read as a number, with this decimal mark?"""
    return bool(rest.str.fullmatch(number_with(decimal)).all())


def _without_nothing(column: pd.Series[Any], texts: Iterable[str]) -> pd.Series[Any]:
    """The cells of a column of these texts that say something."""
    present = column.dropna()
    nothing = [text for text in texts if says_nothing(text)]
    return present[~present.isin(nothing)] if nothing else present


def _texts(frame: pd.DataFrame) -> Mapping[str, set[str]]:
    """The different texts of each column of text."""
    from cd4ml.stages.table import kind_of

    texts = {str(name): frame[name].dropna() for name in frame.columns if kind_of(frame[name]) == "string"}
    return {name: set(column.to_numpy(dtype=object)) for name, column in texts.items()}
