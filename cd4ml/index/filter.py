"""A search filter as a value: what can be asked of a run, and how it is written.

``query.parse`` makes these from text, ``sql.compile_filter`` asks the query cache with them. The language is
described in ``docs/search.md``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from types import MappingProxyType
from typing import Literal

from cd4ml.errors import UsageError
from cd4ml.index.instant import parse_instant
from cd4ml.index.paths import Path, path_text

SIDES = ("train", "validation", "test")
DEFAULT_SIDE = "validation"
"""``metrics.rmse`` is the validation side's: the test side decides gates and is not for looking around."""

Operator = Literal["=", "!=", "<", "<=", ">", ">="]


class Holds(Enum):
    """What a field can be compared with."""

    TEXT = "text in quotes"
    CHOICE = "one of its words, in quotes"
    TIME = "a date such as '2026-11-03' or '2026-11-03T10:00:00Z'"
    AGE = "a duration such as 7d, 12h or 30m"
    NUMBER = "a number"
    ANY = "a number, text in quotes, true or false"


CHOICES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "health": ("Healthy", "Progressing", "Degraded", "Missing", "Unknown"),
        "lifecycle": ("open", "merged", "discarded"),
        "outcome": ("succeeded", "failed"),
        "role": ("result", "replicate", "attempt", "refused", "unknown"),
        "side": ("head", "merge"),
    }
)
"""The closed lists of words, by the field that holds one of them."""

FIELDS: Mapping[str, Holds] = MappingProxyType(
    {
        **dict.fromkeys(("id", "fingerprint", "branch", "commit", "source_commit", "result_commit"), Holds.TEXT),
        **dict.fromkeys(("author", "name", "hypothesis", "conclusion", "reason", "model_digest"), Holds.TEXT),
        **dict.fromkeys(CHOICES, Holds.CHOICE),
        **dict.fromkeys(("started", "finished", "committed"), Holds.TIME),
        "age": Holds.AGE,
    }
)
"""Fields of one name; ``metrics.…`` and ``params.…`` take a path."""

GROUPS: Mapping[str, Holds] = MappingProxyType({"metrics": Holds.NUMBER, "params": Holds.ANY})


@dataclass(frozen=True)
class Duration:
    """A length of time as it was written; ``unit`` is one of ``s m h d w``."""

    count: int | float
    unit: str

    @property
    def delta(self) -> timedelta:
        """The same as a timedelta; raises OverflowError beyond some million years."""
        seconds = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}[self.unit]
        return timedelta(seconds=self.count * seconds)


Value = str | int | float | bool | Duration


@dataclass(frozen=True)
class Field:
    """A field by its path, as it was written: ``("metrics", "rmse")``, ``("branch",)``."""

    path: Path

    @property
    def holds(self) -> Holds:
        """What it can be compared with. Raises UsageError when there is no such field."""
        head, rest = self.path[0], self.path[1:]
        if head in GROUPS and rest:
            return GROUPS[head]
        if head in FIELDS and not rest:
            return FIELDS[head]
        raise UsageError(_no_field(self.path))

    @property
    def resolved(self) -> Path:
        """The path with the side of a metric said."""
        if self.path[0] == "metrics" and not (len(self.path) > 2 and self.path[1] in SIDES):
            return ("metrics", DEFAULT_SIDE, *self.path[1:])
        return self.path


@dataclass(frozen=True)
class Comparison:
    field: Field
    operator: Operator
    value: Value


@dataclass(frozen=True)
class OneOf:
    field: Field
    values: tuple[Value, ...]
    negated: bool = False


@dataclass(frozen=True)
class Like:
    """``%`` stands for any text and ``_`` for one character; ILIKE takes ASCII letters in either case."""

    field: Field
    pattern: str
    ignore_case: bool = False
    negated: bool = False


@dataclass(frozen=True)
class IsNull:
    field: Field
    negated: bool = False


@dataclass(frozen=True)
class Between:
    """Both bounds count."""

    field: Field
    low: Value
    high: Value
    negated: bool = False


@dataclass(frozen=True)
class Not:
    operand: Filter


@dataclass(frozen=True)
class And:
    """Two or more."""

    operands: tuple[Filter, ...]


@dataclass(frozen=True)
class Or:
    """Two or more."""

    operands: tuple[Filter, ...]


Test = Comparison | OneOf | Like | IsNull | Between
Filter = Test | Not | And | Or


def write(filter_: Filter) -> str:
    """The text of a filter; parsing it gives an equal value."""
    match filter_:
        case And(operands):
            return " AND ".join(_operand(inner, (And, Or)) for inner in operands)
        case Or(operands):
            return " OR ".join(_operand(inner, (Or,)) for inner in operands)
        case Not(inner):
            return "NOT " + _operand(inner, (And, Or))
        case _:
            return _write_test(filter_)


def _operand(inner: Filter, in_brackets: tuple[type, ...]) -> str:
    text = write(inner)
    return f"({text})" if isinstance(inner, in_brackets) else text


def _write_test(test: Test) -> str:
    field = path_text(test.field.path)
    match test:
        case Comparison(_, operator, value):
            return f"{field} {operator} {write_value(value)}"
        case OneOf(_, values, negated):
            return f"{field} {'NOT ' * negated}IN ({', '.join(write_value(value) for value in values)})"
        case Like(_, pattern, ignore_case, negated):
            return f"{field} {'NOT ' * negated}{'I' * ignore_case}LIKE {write_value(pattern)}"
        case IsNull(_, negated):
            return f"{field} IS {'NOT ' * negated}NULL"
        case Between(_, low, high, negated):
            return f"{field} {'NOT ' * negated}BETWEEN {write_value(low)} AND {write_value(high)}"


def write_value(value: Value) -> str:
    """A value as a filter spells it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, Duration):
        return f"{value.count!r}{value.unit}"
    return repr(value)


def check_test(test: Test) -> None:
    """Raises UsageError when the field is unknown, or does not compare so or with such a value."""
    name, holds = path_text(test.field.path), test.field.holds
    match test:
        case Comparison(_, operator, value):
            if operator in ("=", "!=") and holds is Holds.AGE:
                raise UsageError(f"{name} is compared with <, <=, >, >= or BETWEEN")
            _check_value(test.field, value, whole=operator in ("=", "!="))
        case OneOf(_, values, _):
            if holds is Holds.AGE:
                raise UsageError(f"{name} is compared with <, <=, >, >= or BETWEEN")
            for value in values:
                _check_value(test.field, value, whole=True)
        case Like():
            if holds not in (Holds.TEXT, Holds.CHOICE, Holds.ANY):
                raise UsageError(f"LIKE is for text, and {name} holds {_noun(holds)}")
        case Between(_, low, high, _):
            _check_value(test.field, low, whole=False)
            _check_value(test.field, high, whole=False)
        case IsNull():
            pass


def _check_value(field: Field, value: Value, *, whole: bool) -> None:
    """``whole``: it is asked to be equal, so a choice must be one of its words."""
    holds, name = field.holds, path_text(field.path)
    if not _fits(holds, value):
        raise UsageError(f"{name} is compared with {holds.value}, not with {write_value(value)}")
    if holds is Holds.CHOICE and whole and value not in CHOICES[field.path[0]]:
        words = CHOICES[field.path[0]]
        raise UsageError(
            f"{name} is never {write_value(value)}: it is one of {', '.join(words)}{_near(str(value), words)}"
        )


def _fits(holds: Holds, value: Value) -> bool:
    if holds is Holds.NUMBER:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if holds is Holds.AGE:
        return isinstance(value, Duration)
    if holds is Holds.ANY:
        return not isinstance(value, Duration)
    if holds is Holds.TIME:
        return isinstance(value, str) and _is_instant(value)
    return isinstance(value, str)


def _is_instant(text: str) -> bool:
    try:
        parse_instant(text)
    except ValueError:
        return False
    return True


def _noun(holds: Holds) -> str:
    return {Holds.NUMBER: "numbers", Holds.TIME: "dates", Holds.AGE: "durations"}[holds]


def _no_field(path: Path) -> str:
    head, written = path[0], path_text(path)
    if head in GROUPS and len(path) == 1:
        return f"{head} needs a name after it, such as {head}.{'rmse' if head == 'metrics' else 'model.name'}"
    if len(path) > 1:
        near = nearest(head, GROUPS)
        return f"there is no field {written}" + (f"; did you mean {path_text((near, *path[1:]))}?" if near else _all())
    near = nearest(head, FIELDS)
    return f"there is no field {written}" + (f"; did you mean {near}?" if near else _all())


def _all() -> str:
    return f"; there are metrics.NAME, params.NAME, {', '.join(FIELDS)}"


def _near(word: str, words: Iterable[str]) -> str:
    near = nearest(word, words)
    return f"; did you mean '{near}'?" if near else ""


def nearest(word: str, words: Iterable[str]) -> str | None:
    """The word most like the given one in spelling, whatever its case, when any is like it."""
    by_lower = {known.lower(): known for known in words}
    found = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[found[0]] if found else None


def depth(filter_: Filter) -> int:
    """How many AND, OR and NOT are inside each other, the test at the bottom counted as one."""
    # Level by level: what is measured may be nested deeper than Python recurses.
    level: list[Filter] = [filter_]
    count = 0
    while level:
        level = [operand for inner in level for operand in operands_of(inner)]
        count += 1
    return count


def operands_of(filter_: Filter) -> tuple[Filter, ...]:
    """What an AND, OR or NOT is over; nothing for a test."""
    if isinstance(filter_, And | Or):
        return filter_.operands
    return (filter_.operand,) if isinstance(filter_, Not) else ()
