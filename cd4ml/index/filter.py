"""A search filter as a value: what can be asked of a run, and how it is written.

``query.parse`` makes these from text, ``sql.compile_filter`` asks the query cache with them. The language is
described in ``docs/search.md``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from cd4ml.errors import UsageError
from cd4ml.index.fields import CHOICES, LISTS, NOUNS, OF_LISTS, OPERATORS, Holds, holds_of, nearest, with_side
from cd4ml.index.instant import parse_instant
from cd4ml.index.paths import Path, path_text
from cd4ml.index.words import words_of

Operator = Literal["=", "!=", "<", "<=", ">", ">="]


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
        return holds_of(self.path)

    @property
    def is_list(self) -> bool:
        """Whether it holds several texts, of which any may pass a test."""
        return self.path in LISTS

    @property
    def resolved(self) -> Path:
        """The path with the side of a metric said."""
        return with_side(self.path)


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
class Text:
    """Every word occurs, in either case, in what people and failures said of the run: see ``words.text_of``."""

    words: str


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


Test = Comparison | OneOf | Like | IsNull | Between | Text
Filter = Test | Not | And | Or


def retyped(filter_: Filter) -> Filter:
    """The same with texts that read as numbers as these numbers, and numbers as texts, wherever places are compared.

    Other tools keep every parameter as a text, and here a number is not the text that says it.
    """
    match filter_:
        case And(operands):
            return And(tuple(map(retyped, operands)))
        case Or(operands):
            return Or(tuple(map(retyped, operands)))
        case Not(operand):
            return Not(retyped(operand))
        case Comparison(field, operator, value) if field.holds is Holds.ANY:
            return Comparison(field, operator, _retyped(value))
        case OneOf(field, values, negated) if field.holds is Holds.ANY:
            return OneOf(field, tuple(map(_retyped, values)), negated)
        case _:
            return filter_


_WILDCARDS = frozenset("%_")


def begun(filter_: Filter) -> Filter:
    """The same with ``LIKE 'text%'`` for ``= 'text'``: what begins so, as digests and ids are often cut."""
    match filter_:
        case And(operands):
            return And(tuple(map(begun, operands)))
        case Or(operands):
            return Or(tuple(map(begun, operands)))
        case Comparison(field, "=", str(text)) if (
            text and not set(text) & _WILDCARDS and field.holds in (Holds.TEXT, Holds.ANY)
        ):
            return Like(field, f"{text}%", ignore_case=False)
        case _:
            return filter_


_EXACT = 2**53
"""Below it a float is every whole number."""


def _retyped(value: Value) -> Value:
    if isinstance(value, bool | Duration):
        return value
    if not isinstance(value, str):
        return repr(value)
    try:
        number = float(value)
    except ValueError:
        return value
    if not math.isfinite(number):
        return value
    return int(number) if number.is_integer() and abs(number) < _EXACT else number


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
    match test:
        case Text(words):
            return f"MATCH {write_value(words)}"
        case Comparison(field, operator, value):
            return f"{path_text(field.path)} {operator} {write_value(value)}"
        case OneOf(field, values, negated):
            listed = ", ".join(write_value(value) for value in values)
            return f"{path_text(field.path)} {'NOT ' * negated}IN ({listed})"
        case Like(field, pattern, ignore_case, negated):
            return f"{path_text(field.path)} {'NOT ' * negated}{'I' * ignore_case}LIKE {write_value(pattern)}"
        case IsNull(field, negated):
            return f"{path_text(field.path)} IS {'NOT ' * negated}NULL"
        case Between(field, low, high, negated):
            bounds = f"{write_value(low)} AND {write_value(high)}"
            return f"{path_text(field.path)} {'NOT ' * negated}BETWEEN {bounds}"


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
    match test:
        case Text(words):
            if not words_of(words):
                raise UsageError("there is no word to look for")
        case Comparison(field, operator, value):
            _check_operator(field, operator)
            _check_value(field, value, whole=operator in ("=", "!="))
        case OneOf(field, values, _):
            _check_operator(field, "IN")
            for value in values:
                _check_value(field, value, whole=True)
        case Like(field, _, _, _):
            if field.holds not in (Holds.TEXT, Holds.CHOICE, Holds.ANY, Holds.VERSION):
                raise UsageError(f"LIKE is for text, and {path_text(field.path)} holds {_plural(field.holds)}")
        case Between(field, low, high, _):
            _check_operator(field, "BETWEEN")
            _check_value(field, low, whole=False)
            _check_value(field, high, whole=False)
        case IsNull(field, _):
            _ = field.holds


def _check_operator(field: Field, operator: str) -> None:
    known = OF_LISTS if field.is_list else OPERATORS[field.holds]
    if operator not in known:
        why = " (versions do not sort as text does)" if field.holds is Holds.VERSION else ""
        listed = f"{', '.join(known[:-1])} or {known[-1]}"
        raise UsageError(f"{path_text(field.path)} is compared with {listed}{why}")


def _check_value(field: Field, value: Value, *, whole: bool) -> None:
    """``whole``: it is asked to be equal, so a choice must be one of its words."""
    holds, name = field.holds, path_text(field.path)
    if not _fits(holds, value):
        raise UsageError(f"{name} is compared with {holds.value}, not with {write_value(value)}")
    if holds is Holds.CHOICE and whole and value not in CHOICES[name]:
        words = CHOICES[name]
        near = nearest(str(value), words)
        hint = f"; did you mean '{near}'?" if near else ""
        raise UsageError(f"{name} is never {write_value(value)}: it is one of {', '.join(words)}{hint}")


def _fits(holds: Holds, value: Value) -> bool:
    if holds is Holds.TRUTH:
        return isinstance(value, bool)
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


def _plural(holds: Holds) -> str:
    return "truth values" if holds is Holds.TRUTH else f"{NOUNS[holds]}s"


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
