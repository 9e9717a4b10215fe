"""Filters as SQL over the query cache, and the shape of the tables that this SQL asks.

No text that a person wrote ever becomes SQL: column names come from closed lists, everything else is a
bound parameter.

Tables (``gateways/store`` makes them)::

    run       position, doc, one column for each of COLUMNS   doc is a row's JSON without its fragments
    part      position, name, fragment                        which fragments a row is made of
    fragment  number, content                                 the JSON of each
    leaf      fragment, place, kind, value                    every value inside a fragment
    place     number, path                                    every written path

A fragment is one group of a configuration (``params.model``) or all metrics. Experiments share most of
their groups, so each distinct group is stored once, as Git stores trees.

Truth has three values, as in SQL: a comparison with a missing value, or one of another type, is neither
true nor false, and NOT leaves it so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cd4ml.errors import UsageError
from cd4ml.index.filter import (
    FIELDS,
    And,
    Between,
    Comparison,
    Duration,
    Field,
    Filter,
    Holds,
    IsNull,
    Like,
    Not,
    OneOf,
    Operator,
    Or,
    Test,
    Value,
    operands_of,
)
from cd4ml.index.instant import parse_instant, sort_text
from cd4ml.index.paths import leaves, path_text, split_path

Bound = str | int | float

COLUMNS = tuple(name for name, holds in FIELDS.items() if holds is not Holds.AGE)
"""Fields of one name that a row of ``run`` holds; instants in the form that sorts."""

_COLUMN_SQL: Mapping[str, str] = {
    **{name: f'run."{name}"' for name in COLUMNS},
    # The age of a result is that of its run; of what was refused, that of the commit.
    "age": 'coalesce(run."finished", run."committed")',
}

_AT_PLACE = (
    "FROM part JOIN leaf ON leaf.fragment = part.fragment JOIN place ON place.number = leaf.place"
    " WHERE part.position = run.position AND part.name = ? AND place.path = ?"
)
_LEAF = f"(SELECT leaf.value {_AT_PLACE} AND leaf.kind = ?)"
_LEAF_OF_ANY_KIND = f"(SELECT leaf.value {_AT_PLACE})"
_LEAF_EXISTS = f"EXISTS (SELECT 1 {_AT_PLACE})"

_OPPOSITE: Mapping[Operator, Operator] = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "=", "!=": "!="}

_ORDER = re.compile(r"(?P<field>.+?)(?:\s+(?P<direction>asc|desc))?", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Where:
    """A condition over ``run``, to stand after WHERE."""

    sql: str
    parameters: tuple[Bound, ...]


@dataclass(frozen=True)
class Order:
    """Terms to stand after ORDER BY."""

    sql: str
    parameters: tuple[Bound, ...]


def compile_filter(filter_: Filter | None, now: datetime) -> Where | None:
    """The condition that a parsed filter asks for; nothing for no filter.

    ``now`` (with a zone) is what ages are counted from.
    """
    return None if filter_ is None else _compile(_flat(filter_), now)


def compile_order(text: str) -> Order:
    """``metrics.rmse``, ``metrics.rmse desc``, ``started asc``: what is missing comes last either way.

    Raises UsageError for a field that there is not, or another direction.
    """
    match = _ORDER.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"order {text!r}: expected a field, then asc or desc")
    try:
        field = Field(split_path(match["field"]))
    except ValueError as error:
        raise UsageError(f"order: {error}") from None
    if field.holds is Holds.AGE:
        raise UsageError("order: age is not stored; order by finished")
    sql, parameters = _operand(field, None)
    turn = "DESC" if (match["direction"] or "").lower() == "desc" else "ASC"
    return Order(f"{sql} IS NULL, {sql} {turn}", parameters * 2)


def column_values(doc: Mapping[str, Any]) -> tuple[Bound | None, ...]:
    """What a row of ``run`` holds in ``COLUMNS``, from the row's JSON."""
    return tuple(_column_value(name, doc.get(name)) for name in COLUMNS)


def _column_value(name: str, value: Any) -> Bound | None:
    # A row's instants are in UTC already; without the Z they sort.
    found: str | None = value.removesuffix("Z") if value and FIELDS[name] is Holds.TIME else value
    return found


def parts_of(doc: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """The fragments of a row's JSON: written path, key, and value; the key is that of ``doc`` or its ``params``."""
    yield "metrics", "metrics", doc["metrics"]
    for group, value in doc["params"].items():
        yield path_text(("params", group)), group, value


def leaf_rows(place: str, value: Any) -> Iterator[tuple[str, str, Bound | None]]:
    """``path, kind, value`` for every place of a fragment."""
    for path, leaf in leaves(place, value):
        if isinstance(leaf, bool):
            yield path, "bool", int(leaf)
        elif isinstance(leaf, str):
            yield path, "text", leaf
        elif isinstance(leaf, int | float):
            number = _number(leaf)
            yield path, "other" if number is None else "number", number
        else:
            yield path, "other", None


def _number(value: float) -> int | float | None:
    """A number as SQLite can hold it: an integer of 64 bits, or else a float."""
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        try:
            return float(value)
        except OverflowError:
            return None
    return value


def _flat(filter_: Filter, *, negate: bool = False) -> Filter:
    """The same condition with NOT at tests only and no AND directly inside AND, OR inside OR.

    In three-valued logic, too, NOT (a AND b) is NOT a OR NOT b. The deepest operand comes first: SQLite's
    parser keeps what stands left of an open bracket on a stack of a fixed size, and nothing stands left
    of the first.
    """
    match filter_:
        case Not(operand):
            return _flat(operand, negate=not negate)
        case And() | Or():
            kind = Or if isinstance(filter_, And) is negate else And
            flat = [_flat(operand, negate=negate) for operand in filter_.operands]
            operands = [inner for one in flat for inner in (one.operands if isinstance(one, kind) else (one,))]
            return kind(tuple(sorted(operands, key=_height, reverse=True)))
        case _:
            return Not(filter_) if negate else filter_


def _height(filter_: Filter) -> int:
    return 1 + max((_height(inner) for inner in operands_of(filter_)), default=0)


def _compile(filter_: Filter, now: datetime) -> Where:
    match filter_:
        case And(operands) | Or(operands):
            word = " AND " if isinstance(filter_, And) else " OR "
            inner = [_compile(operand, now) for operand in operands]
            return Where(
                "(" + word.join(one.sql for one in inner) + ")",
                tuple(value for one in inner for value in one.parameters),
            )
        case Not(operand):
            where = _compile(operand, now)
            return Where(f"NOT {where.sql}", where.parameters)
        case _:
            return _compile_test(filter_, now)


def _compile_test(test: Test, now: datetime) -> Where:
    negation = "NOT " * (not isinstance(test, Comparison) and test.negated)
    match test:
        case Comparison(field, operator, value):
            if field.holds is Holds.AGE:
                operator = _OPPOSITE[operator]
            sql, parameters = _operand(field, value)
            return Where(f"({sql} {operator} ?)", (*parameters, _bound(field, value, now)))
        case OneOf(field, values, _):
            # Values of several types are asked one type at a time; a value of none of them is no match.
            return _compile_one_of(field, values, now, negation)
        case Like(field, pattern, ignore_case, _):
            sql, parameters = _operand(field, pattern)
            if ignore_case:
                return Where(f"({sql} {negation}LIKE ?)", (*parameters, pattern))
            return Where(f"({sql} {negation}GLOB ?)", (*parameters, _glob(pattern)))
        case Between(field, low, high, _):
            bounds = [_bound(field, low, now), _bound(field, high, now)]
            if field.holds is Holds.AGE:
                bounds.reverse()
            low_sql, low_parameters = _operand(field, low)
            high_sql, high_parameters = _operand(field, high)
            return Where(
                f"({negation}({low_sql} >= ? AND {high_sql} <= ?))",
                (*low_parameters, bounds[0], *high_parameters, bounds[1]),
            )
        case IsNull(field, _):
            return _compile_is_null(field, negated=test.negated)


def _compile_one_of(field: Field, values: tuple[Value, ...], now: datetime, negation: str) -> Where:
    by_kind: dict[str, list[Value]] = {}
    for value in values:
        by_kind.setdefault(_kind(value), []).append(value)
    sqls: list[str] = []
    parameters: list[Bound] = []
    for same in by_kind.values():
        sql, operand_parameters = _operand(field, same[0])
        sqls.append(f"{sql} IN ({', '.join('?' * len(same))})")
        parameters += [*operand_parameters, *(_bound(field, value, now) for value in same)]
    return Where(f"({negation}({' OR '.join(sqls)}))", tuple(parameters))


def _compile_is_null(field: Field, *, negated: bool) -> Where:
    if field.path[0] in _COLUMN_SQL:
        return Where(f"({_COLUMN_SQL[field.path[0]]} IS {'NOT ' * negated}NULL)", ())
    return Where(f"({'' if negated else 'NOT '}{_LEAF_EXISTS})", _place(field))


def _operand(field: Field, value: Value | None) -> tuple[str, tuple[Bound, ...]]:
    """The SQL that reads the field, NULL where it does not hold a value of the kind compared with."""
    _ = field.holds
    if field.path[0] in _COLUMN_SQL:
        return _COLUMN_SQL[field.path[0]], ()
    if value is None:
        return _LEAF_OF_ANY_KIND, _place(field)
    return _LEAF, (*_place(field), _kind(value))


def _place(field: Field) -> tuple[str, str]:
    """The name of the fragment that the path lies in, and the path as ``leaf`` spells it."""
    path = field.resolved
    return ("metrics" if path[0] == "metrics" else path_text(path[:2])), path_text(path)


def _kind(value: Value) -> str:
    if isinstance(value, bool):
        return "bool"
    return "text" if isinstance(value, str) else "number"


def _bound(field: Field, value: Value, now: datetime) -> Bound:
    if isinstance(value, Duration):
        return sort_text(_before(now, value))
    if field.holds is Holds.TIME:
        return sort_text(parse_instant(str(value)))
    return int(value) if isinstance(value, bool) else value


def _before(now: datetime, duration: Duration) -> datetime:
    try:
        return now.astimezone(UTC) - duration.delta
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)


def _glob(pattern: str) -> str:
    """A LIKE pattern as GLOB spells it, since SQLite's LIKE takes either case and its GLOB does not."""
    spelled = {"%": "*", "_": "?", "*": "[*]", "?": "[?]", "[": "[[]"}
    return "".join(spelled.get(char, char) for char in pattern)
