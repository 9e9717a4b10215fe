"""What each column of a table seems to be: a number, a category, a time, prose, or nothing to learn from."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from cd4ml.controller.starting.proposed_doubts import (
    USUAL,
    Nearly,
    Reading,
    nearly_numbers,
    nearly_times,
    spelt_alike,
)
from cd4ml.spec.checks import not_empty
from cd4ml.spec.experiment import Task
from cd4ml.spec.secrets import secret_kind

if TYPE_CHECKING:
    import pandas as pd

Role = Literal["target", "numeric", "categorical", "text", "time", "left out"]

ROWS_NEEDED = 10
MAX_CATEGORIES = 200
"""Above, scikit-learn's histogram boosting soon refuses a category (it takes 255), and most are rare."""

SHOWN_VALUES = 20
CODES = 50
"""Whole numbers that a column's name says are codes, at most so many of them, are taken for categories."""

ROWS_OF_AN_IDENTIFIER = 300
"""Whole numbers that differ in so many rows, and every one, may name the rows whatever their column is called."""

CHANCE = 5.0
"""So many pairs of equal values among numbers drawn at random from a column's range are more than chance can miss."""

EVEN = 0.15
"""Identifiers spread evenly: their median is no further from the middle of their range than this share of it."""

MOSTLY_MISSING = 0.95
WORDS_OF_PROSE = 3.0
"""So many words on average make a text that rarely repeats prose and not a name."""

TEXTS_OF_PROSE = 20
SAME = 0.999
"""A correlation with the target above this is taken for a copy of it."""

TIME_FORMATS = (
    *("%Y/%m/%d", "%Y/%m/%d %H:%M", "%Y/%m/%d %H:%M:%S"),
    *("%d.%m.%Y", "%d.%m.%Y %H:%M", "%d.%m.%Y %H:%M:%S"),
    *("%m/%d/%Y", "%m/%d/%Y %H:%M", "%m/%d/%Y %H:%M:%S", "%m/%d/%Y %I:%M:%S %p"),
    *("%d/%m/%Y", "%d/%m/%Y %H:%M", "%d/%m/%Y %H:%M:%S"),
    *("%m/%d/%y", "%d/%m/%y", "%d-%m-%Y", "%d-%b-%Y", "%d-%b-%y", "%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y"),
)
"""Formats that are tried on text that is no ISO 8601 time; of two that fit, the earlier."""

_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")
_CODE_WORDS = frozenset(
    {"id", "code", "zip", "zipcode", "postcode", "type", "class", "category", "cluster", "region", "group"}
)
_NUMBERING_WORDS = frozenset(
    {"id", "ids", "uuid", "guid", "key", "index", "idx", "row", "rows", "rowname", "rownames", "number", "nr", "no"}
)
_A_TIME = re.compile(r"year|date|time|month|week|day|hour|period", re.IGNORECASE)


@dataclass(frozen=True)
class Column:
    """One column: its canonical kind, the role proposed for it, and why.

    ``missing`` is a share of the rows, ``distinct`` counts the values that are there. ``low`` and ``high`` bound a
    numeric column, ``values`` are those of a small categorical one, sorted. Of a time column, ``time_format`` is
    the strptime format (``""``: ISO 8601) and ``parts`` the calendar parts to learn from. ``doubt`` is what a person
    should look at in its cells, and ``nearly`` what text would be (``numbers``, ``times``) but for a few of them.
    """

    name: str
    kind: str
    role: Role
    why: str
    missing: float
    distinct: int
    low: float | None = None
    high: float | None = None
    values: tuple[str | int, ...] = ()
    time_format: str = ""
    parts: tuple[str, ...] = ()
    is_leak: bool = False
    is_group: bool = False
    doubt: str = ""
    nearly: str = ""

    @property
    def is_feature(self) -> bool:
        """Does a model get to see it, or a part of it?"""
        return self.role in ("numeric", "categorical", "text") or (self.role == "time" and bool(self.parts))

    def left_out(self, why: str) -> Column:
        return replace(self, role="left out", why=why, parts=())


def unusable(name: str) -> str | None:
    """Why a name, or a value, cannot be written into a configuration; nothing when it can."""
    if "${" in name:
        return "`${` begins an interpolation there"
    if name in ("???", "searchpath", "__row__"):
        return "it has a meaning of its own there"
    if secret_kind(name):
        return "it looks like a credential"
    if not name.isascii() and any("\ud800" <= character <= "\udfff" for character in name):
        return "it is not valid Unicode"
    return not_empty(name)


def look_at_columns(
    frame: pd.DataFrame, target: str, task: Task, *, time: str = "", group: str = "", reading: Reading = USUAL
) -> tuple[Column, ...]:
    """Every column of a canonical frame whose target is there in every row; ``group`` and ``time`` are hints.

    ``reading`` is how its cells were read, for what is said of them.
    """
    columns = []
    for name in map(str, frame.columns):
        column = _look(frame[name], name, reading)
        if name == time and column.kind == "int64":
            column = _counted_time(frame[name], column)
        if name == target:
            column = replace(column, role="target", why=f"what a model predicts ({task})")
        elif name == group:
            column = replace(column, is_group=True).left_out("the group column: its values are new in every other side")
        elif column.role != "left out" and name != time and (why := _leak(frame[name], frame[target], task)):
            column = replace(column, is_leak=True).left_out(why)
        columns.append(column)
    return _without_collisions(columns)


def _look(column: pd.Series[Any], name: str, reading: Reading) -> Column:
    from cd4ml.stages.table import kind_of

    kind = kind_of(column)
    present = column.dropna()
    found = Column(name, kind, "left out", "", 1 - len(present) / len(column), int(present.nunique()))
    if reason := unusable(name):
        return found.left_out(f"its name cannot stand in conf/: {reason}")
    if not len(present):
        return found.left_out("it holds nothing")
    if found.distinct == 1:
        return found.left_out("it is the same in every row")
    if found.missing > MOSTLY_MISSING:
        return found.left_out(f"{found.missing:.1%} of it is missing")
    if kind == "string":
        return _text(present, found, reading)
    looks = {"int64": _number, "float64": _number, "bool": _truth, "timestamp": _time}
    return looks[kind](present, found)


def _number(present: pd.Series[Any], found: Column) -> Column:
    import numpy as np

    values = present.to_numpy()
    if not np.isfinite(values.astype("float64")).all():
        return found.left_out("it holds infinite values")
    found = replace(found, low=float(values.min()), high=float(values.max()))
    if found.kind == "int64":
        rising = bool((np.abs(np.diff(values)) == 1).all())
        numbers = found.distinct == len(present) and not _A_TIME.search(found.name)
        if numbers and (rising or _ends_with(found.name, _NUMBERING_WORDS)):
            return found.left_out("it numbers the rows")
        if numbers and _identifies(values):
            why = f"whole numbers that differ in all {len(present):,} rows: by its values it names rows"
            return found.left_out(f"{why} (an amount? then name it under features.numeric)")
        if found.distinct <= CODES and _ends_with(found.name, _CODE_WORDS):
            return _category(present, found, "whole numbers that its name says are codes")
    what = "whole numbers" if found.kind == "int64" else "numbers"
    return replace(found, role="numeric", why=f"{what} from {found.low:.6g} to {found.high:.6g}")


def _identifies(values: Any) -> bool:
    """Do whole numbers, all different, look like names: by chance some would be equal, or they spread evenly?

    Amounts that are large beside their number, such as populations, are all different, too, but lie to one side.
    """
    import numpy as np

    if len(values) < ROWS_OF_AN_IDENTIFIER:
        return False
    low, high = float(values.min()), float(values.max())
    pairs = len(values) ** 2 / 2 / (high - low)
    aside = abs(float(np.median(values)) - (low + high) / 2) / (high - low)
    return pairs >= CHANCE or aside <= EVEN


def _ends_with(name: str, words: frozenset[str]) -> bool:
    """Is the last word of the name one of these? So ends ``customerId`` with ``id``, and not ``valid``."""
    found = _WORD.findall(name)
    return bool(found) and found[-1].lower() in words


def _truth(_: pd.Series[Any], found: Column) -> Column:
    return replace(found, role="categorical", why="true or false")


def _category(present: pd.Series[Any], found: Column, what: str) -> Column:
    values: tuple[str | int, ...] = ()
    if found.distinct <= SHOWN_VALUES:
        values = tuple(sorted(int(value) if found.kind == "int64" else str(value) for value in present.unique()))
    doubt = spelt_alike(present) if found.kind == "string" else ""
    return replace(found, role="categorical", why=f"{what}, {found.distinct} different", values=values, doubt=doubt)


def _text(present: pd.Series[Any], found: Column, reading: Reading) -> Column:
    moment = as_times(present)
    if moment is not None:
        times, time_format = moment
        return _time(times, replace(found, time_format=time_format))
    nearly = nearly_numbers(present, reading) or nearly_times(present, ("", *TIME_FORMATS), reading)
    if nearly is not None:
        return _nearly(present, found, nearly)
    words = sum(len(text.split()) for text in present.head(2000)) / len(present.head(2000))
    rarely_again = found.distinct * 2 > len(present)
    many = rarely_again or found.distinct > MAX_CATEGORIES
    if words >= WORDS_OF_PROSE and many and found.distinct >= TEXTS_OF_PROSE:
        return replace(found, role="text", why=f"prose: {words:.0f} words on average, {found.distinct} different texts")
    if found.distinct == len(present):
        return found.left_out("it differs in every row: it names rows and says nothing of others")
    if rarely_again:
        return found.left_out(f"{found.distinct} different values in {len(present)} rows: hardly any comes again")
    if found.distinct > MAX_CATEGORIES:
        return found.left_out(f"{found.distinct} different values: more than {MAX_CATEGORIES} categories")
    return _category(present, found, "text that comes again")


def _nearly(present: pd.Series[Any], found: Column, nearly: Nearly) -> Column:
    """A column of text that a few cells keep from being numbers or times: a category where it would be one of them.

    Else it is left out: to learn from numbers as if they were names would be a mistake that nothing shows.
    """
    found = replace(found, nearly=nearly.kind)
    codes = found.distinct <= MAX_CATEGORIES and _ends_with(found.name, _CODE_WORDS)
    comes_again = found.distinct * 2 <= len(present)
    if nearly.kind == "numbers" and comes_again and (codes or found.distinct <= SHOWN_VALUES):
        column = _category(present, found, "text that comes again")
        return replace(column, doubt=f"is taken for a category: {nearly}")
    return found.left_out(str(nearly))


def as_times(present: pd.Series[Any]) -> tuple[pd.Series[Any], str] | None:
    """A column of text as UTC times with the format that fits every value (``""``: ISO 8601), or nothing."""
    import pandas as pd

    few = present.head(50)
    if not few.str.contains(r"\d").all():
        return None
    for time_format in ("", *TIME_FORMATS):
        how = time_format or "ISO8601"
        if pd.to_datetime(few, format=how, utc=True, errors="coerce").notna().all():
            times = pd.to_datetime(present, format=how, utc=True, errors="coerce")
            if times.notna().all():
                return times, time_format
    return None


WHOLE_TIME_FORMATS = ("%Y%m%d", "%Y%m", "%Y")
"""Formats of whole numbers that a person says are times."""


def _counted_time(values: pd.Series[Any], found: Column) -> Column:
    """Days, months or years that are written as whole numbers, where every one of them is such a time."""
    import pandas as pd

    for time_format in WHOLE_TIME_FORMATS:
        times = pd.to_datetime(values.astype("str"), format=time_format, utc=True, errors="coerce")
        if times.notna().all():
            return _time(times, replace(found, time_format=time_format))
    return found


def _time(times: pd.Series[Any], found: Column) -> Column:
    """Which parts of a time to learn from: those that vary."""
    names = {"month": "month", "dayofweek": "day_of_week", "hour": "hour"}
    parts = tuple(part for part, attribute in names.items() if getattr(times.dt, attribute).nunique() > 1)
    fits = "ISO 8601" if found.kind == "timestamp" or not found.time_format else found.time_format
    if found.time_format.startswith(("%m/", "%d/")) and bool((times.dt.day <= 12).all()):
        fits += ", by the order of day and month that is tried first: see that it is the right one"
    why = f"times ({fits}) from {times.min().isoformat()} to {times.max().isoformat()}"
    return replace(found, role="time", why=why, parts=parts)


def _leak(column: pd.Series[Any], target: pd.Series[Any], task: Task) -> str:
    """Why a column gives the target away; empty when it does not."""
    from cd4ml.stages.table import kind_of

    numbers = {"int64", "float64", "bool"}
    if task != "regression" and column.notna().all() and column.nunique() == target.nunique():
        pairs = int(column.astype(str).str.cat(target.astype(str), sep="\x00").nunique())
        if pairs == target.nunique():
            return "each of its values goes with one class of the target: it gives the target away"
    if kind_of(column) in numbers and kind_of(target) in numbers and len(column.dropna()) > 2:
        return _correlated(column, target)
    return ""


def _correlated(column: pd.Series[Any], target: pd.Series[Any]) -> str:
    import numpy as np

    values = column.to_numpy(dtype="float64", na_value=np.nan)
    there = ~np.isnan(values)
    ours, theirs = values[there], target.to_numpy(dtype="float64", na_value=np.nan)[there]
    if not there.all() and np.array_equal(ours, theirs) and there.sum() > ROWS_NEEDED:
        return "it equals the target wherever it is there: it gives the target away"
    if there.all() and np.array_equal(ours, theirs):
        return "it is an exact copy of the target"
    with np.errstate(all="ignore"):
        spread = float(np.std(ours) * np.std(theirs))
        if len(ours) < ROWS_NEEDED or not np.isfinite(spread) or not spread:
            return ""
        correlation = float(np.mean((ours - ours.mean()) * (theirs - theirs.mean())) / spread)
    return f"its correlation with the target is {correlation:.4f}: a copy of it?" if abs(correlation) > SAME else ""


def _without_collisions(columns: Iterable[Column]) -> tuple[Column, ...]:
    """No calendar part whose name ``<column>_<part>`` is that of another column."""
    listed = list(columns)
    names = {column.name for column in listed}
    kept = []
    for column in listed:
        parts = tuple(part for part in column.parts if f"{column.name}_{part}" not in names)
        kept.append(replace(column, parts=parts))
    return tuple(kept)
