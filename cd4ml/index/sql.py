"""Filters and orders as SQL over the query cache, and what of a row its tables hold.

No text that a person wrote ever becomes SQL: column names come from closed lists, everything else is a
bound parameter.

Tables (``gateways/store`` makes them)::

    run        position, one column for each of COLUMNS and COMPONENTS, fold, said (what free text is looked for in)
    lifecycle  branch, commit, and OF_BRANCH                what became of a branch (commit ''), or of it as it was then
    part       fragment, first, positions                       which rows are made of a fragment, in lists
    leaf       place, value, fragment, kind                     every value inside a fragment
    own        place, value, position, kind                     every value that is a row's own, such as its metrics
    place      number, path                                     every written path

A fragment is one group of a configuration (``params.model``), or what a run says of its data, its environment and
the like. Runs share most of it, so each distinct fragment is stored once, as Git stores trees. Metrics hardly ever
recur and are a row's own.

A test on a path is a set of rows, found through the order of values of its place: what it costs follows what it
finds. Truth has three values, as in SQL: a comparison with a missing value, or one of another type, is neither
true nor false, and NOT leaves it so. Since NOT stands at tests only (``_flat``), and AND and OR find a row exactly
when its true tests suffice, the set of rows for which a test, or its negation, is true is all that is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any

from cd4ml.index.asked import Term, parse_order
from cd4ml.index.fields import FIELDS, GROUPS, LISTS, Holds
from cd4ml.index.filter import (
    And,
    Between,
    Comparison,
    Duration,
    Field,
    Filter,
    IsNull,
    Like,
    Not,
    OneOf,
    Operator,
    Or,
    Test,
    Text,
    Value,
    operands_of,
)
from cd4ml.index.instant import parse_instant, sort_text
from cd4ml.index.paths import Path, key_text, leaves, path_text
from cd4ml.index.rows import GONE
from cd4ml.index.words import text_of, words_of
from cd4ml.spec.fingerprint import COMPONENTS

Bound = str | int | float | bytes

OF_BRANCH = ("lifecycle", "lifecycle_by", "lifecycle_at")
"""Fields that are a branch's and not a run's: they change without any record."""

COLUMNS = tuple(name for name, holds in FIELDS.items() if holds is not Holds.AGE and name not in (*OF_BRANCH, "fold"))
"""Fields of one name that a row of ``run`` holds; instants in the form that sorts."""

OWN_GROUPS = ("metrics", "slices", "cost", "components", "imported")
"""Groups whose values hardly ever recur: not worth a fragment."""

SHARED_GROUPS = tuple(
    dict.fromkeys((*(name for name in GROUPS if name not in OWN_GROUPS), *(path[0] for path in LISTS)))
)
"""Groups that are stored once for all rows that have the same; of params, each group of the configuration is one."""

OTHER, TRUTH, NUMBER, TEXT = 0, 1, 2, 3
"""Kinds of values; of the first are containers, which are there and compare with nothing."""

_TIMED = tuple(place for place, name in enumerate(COLUMNS) if FIELDS[name] is Holds.TIME)
_held = itemgetter(*COLUMNS)
_NO_COMPONENTS: Mapping[str, str] = {}

_OF_BRANCH_SQL = (
    '(SELECT lifecycle."{name}" FROM lifecycle WHERE lifecycle.branch = run."branch"'
    ' AND lifecycle."commit" IN (run."commit", \'\') ORDER BY lifecycle."commit" DESC LIMIT 1)'
)
_COLUMN_SQL: Mapping[str, str] = {
    **{name: f'run."{name}"' for name in COLUMNS},
    **{f"components.{name}": f'run."components.{name}"' for name in COMPONENTS},
    **{name: _OF_BRANCH_SQL.format(name=name) for name in OF_BRANCH},
    "fold": "run.fold",
    "lifecycle": f"coalesce({_OF_BRANCH_SQL.format(name='lifecycle')}, '{GONE}')",
    # The age of a result is that of its run; of what was refused, that of the commit.
    "age": 'coalesce(run."finished", run."committed")',
}
IN_FOLD_ORDER = 'run.fold, run."id", run."branch", run."commit", run."side"'

ROWS_OF_FRAGMENT = "JOIN part ON part.fragment = {0}.fragment JOIN json_each(part.positions) AS held"
"""To stand after a leaf of that name: ``held.value`` is the position of each row that has it."""

_PLACE = "place = (SELECT number FROM place WHERE path = ?)"
_OPPOSITE: Mapping[Operator, Operator] = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "=", "!=": "!="}
_NEGATED: Mapping[Operator, Operator] = {"<": ">=", ">": "<=", "<=": ">", ">=": "<", "=": "!=", "!=": "="}


@dataclass(frozen=True)
class Sql:
    """A piece of SQL and what is bound to its question marks."""

    sql: str
    parameters: tuple[Bound, ...] = ()


@dataclass(frozen=True)
class Where:
    """A filter, ready to be asked. ``now`` (with a zone) is what ages are counted from."""

    filter_: Filter
    now: datetime

    def condition(self, along: Field | None = None) -> Sql:
        """The condition over ``run``, to stand after WHERE.

        ``along`` a place that has a value of each row as ``o``, tests on that place look there.
        """
        return _Compiler(self.now, along.resolved if along else None).compile(self.filter_)

    @property
    def heads(self) -> frozenset[str]:
        """The first name of every field that is asked for."""
        found: set[str] = set()
        level: list[Filter] = [self.filter_]
        while level:
            found |= {one.field.path[0] for one in level if not isinstance(one, Text | Not | And | Or)}
            level = [operand for one in level for operand in operands_of(one)]
        return frozenset(found)

    @property
    def sql(self) -> str:
        return self.condition().sql

    @property
    def parameters(self) -> tuple[Bound, ...]:
        return self.condition().parameters


def compile_filter(filter_: Filter | None, now: datetime) -> Where | None:
    """What a parsed filter asks for; nothing for no filter. ``now`` (with a zone) is what ages are counted from."""
    return None if filter_ is None else Where(_flat(filter_), now)


@dataclass(frozen=True)
class Order:
    """What to order by, each term with what is missing last; of equals, fold order decides."""

    terms: tuple[Term, ...]

    @property
    def along(self) -> Field | None:
        """The place whose order of values comes first, if it is a place that does."""
        first = self.terms[0].field
        return None if _column(first) else first

    def joins(self, skip: int = 0) -> Sql:
        """Joins that give the value of each term of a path beyond the first ``skip`` as ``tN.value``."""
        found = [
            Sql(
                f"LEFT JOIN (SELECT {at.position} AS position, v.value AS value {at.source} AND v.kind <> {OTHER})"
                f" AS t{number} ON t{number}.position = run.position",
                (at.path,),
            )
            for number, term in enumerate(self.terms)
            if number >= skip and (at := _at(term.field)) is not None
        ]
        return _joined(found, " ")

    def by(self, skip: int = 0) -> str:
        """Terms to stand after ORDER BY."""
        return ", ".join(
            (*(_direction(number, term) for number, term in enumerate(self.terms[skip:], skip)), IN_FOLD_ORDER)
        )


def _column(field: Field) -> str:
    """The SQL of a field that is a column; ``""`` for a place."""
    return _COLUMN_SQL.get(".".join(field.path), "") if len(field.path) < 3 else ""  # components.NAME


def _direction(number: int, term: Term) -> str:
    value = _column(term.field) or f"t{number}.value"
    return f"{value} IS NULL, {value} {'DESC' if term.descending else 'ASC'}"


def compile_order(order: str | tuple[Term, ...]) -> Order:
    """``metrics.rmse``, ``metrics.rmse desc, started``: what is missing comes last either way.

    Raises UsageError for a field that there is not, or another direction.
    """
    return Order(parse_order(order) if isinstance(order, str) else order)


# ── what of a row the tables hold ────────────────────────────────────────────────────────────────────────────────


def column_values(doc: Mapping[str, Any]) -> tuple[Bound | None, ...]:
    """What a row of ``run`` holds, from the row's JSON: COLUMNS, COMPONENTS, its fold and what it says in words."""
    held = list(_held(doc))
    for place in _TIMED:  # in UTC already; without the Z they sort
        held[place] = held[place] and held[place].removesuffix("Z")
    components = doc["components"] or _NO_COMPONENTS
    return (*held, *map(components.get, COMPONENTS), doc["fold"], text_of(doc, doc["tags"]))


Place = tuple[str, int]
"""A written path, and the kind of the values there."""

Values = dict[Place, tuple[list[int], list[Any]]]
"""By place the rows, by number, that have a value of their own there, and the values."""


Numbers = dict[str, dict[str, tuple[list[int], list[Any]]]]
"""What ``Values`` have at places of numbers, by what these lie below and their key: found without writing a path."""


def take_own(values: Values, numbers: Numbers, number: int, doc: Mapping[str, Any]) -> None:
    """Take in every value that is the own of the row of that number; ``numbers`` are of the same values."""
    for group in OWN_GROUPS:
        value = further_components(doc) if group == "components" else doc.get(group)
        if value:
            _take_below(values, numbers, number, group, value)


def further_components(doc: Mapping[str, Any]) -> dict[str, Any]:
    """The components of a row that have no column."""
    held = doc.get("components")
    if not held or (len(held) == len(COMPONENTS) and all(map(held.get, COMPONENTS))):
        return {}
    return {name: value for name, value in held.items() if name not in COMPONENTS}


def _take_below(values: Values, numbers: Numbers, number: int, place: str, value: Mapping[str, Any]) -> None:
    """Take in the leaves below a mapping that hold a value; what is most frequent, sooner than ``_leaves`` gives it."""
    known = numbers.setdefault(place, {})
    for key, inner in value.items():
        if type(inner) is float:
            both = known.get(key)
            if both is None:
                both = known[key] = values.setdefault((f"{place}.{key_text(key)}", NUMBER), ([], []))
            both[0].append(number)
            both[1].append(inner)
        elif isinstance(inner, Mapping):
            _take_below(values, numbers, number, f"{place}.{key_text(key)}", inner)
        else:
            for path, kind, leaf in _leaves(f"{place}.{key_text(key)}", inner):
                if kind != OTHER:
                    rows, held = values.setdefault((path, kind), ([], []))
                    rows.append(number)
                    held.append(leaf)


def leaf_rows(path: Path, value: Any) -> frozenset[tuple[str, int, Bound]]:
    """``path, kind, value`` for every place of a fragment."""
    found = set(_leaves(path_text(path), value))
    for listed in (listed for listed in LISTS if listed[: len(path)] == path):
        held = value
        for name in listed[len(path) :]:
            held = held.get(name) or ()
        place = path_text(listed)
        found = {leaf for leaf in found if leaf[0] != place and not leaf[0].startswith(f"{place}.")}
        found |= {(place, TEXT, text) for text in held}
    if path == ("tags",):
        # reversed: of two tags with one key the first counts
        keyed = {key: said for key, mark, said in (text.partition("=") for text in reversed(value)) if mark}
        found |= {(path_text((*path, key)), TEXT, said) for key, said in keyed.items()}
    return frozenset(found)


def _leaves(place: str, value: Any) -> Iterator[tuple[str, int, Bound]]:
    for path, leaf in leaves(place, value):
        if isinstance(leaf, bool):
            yield path, TRUTH, int(leaf)
        elif isinstance(leaf, str):
            yield path, TEXT, leaf
        elif isinstance(leaf, int | float):
            number = _number(leaf)
            yield (path, OTHER, b"") if number is None else (path, NUMBER, number)
        else:
            yield path, OTHER, b""


def _number(value: float) -> int | float | None:
    """A number as SQLite can hold it: an integer of 64 bits, or else a float."""
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        try:
            return float(value)
        except OverflowError:
            return None
    return value


# ── filters ──────────────────────────────────────────────────────────────────────────────────────────────────────


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


_NEVER, _ALWAYS = Sql("0"), Sql("1")


@dataclass(frozen=True)
class _At:
    """Where the values of a place are: ``source`` is a FROM clause with its path to be bound, values in ``v``."""

    path: str
    position: str
    source: str


def _at(field: Field) -> _At | None:
    """The place of a field; nothing for a column."""
    path = field.resolved
    if (len(path) == 1 and path not in LISTS) or _column(field):
        return None
    if path[0] in OWN_GROUPS:
        return _At(path_text(path), "v.position", f"FROM own AS v WHERE v.{_PLACE}")
    source = f"FROM leaf AS v {ROWS_OF_FRAGMENT.format('v')} WHERE v.{_PLACE}"
    return _At(path_text(path), "held.value", source)


@dataclass(frozen=True)
class Driving:
    """What to select from so that ``o.value`` is a value of a field, where it is held, and the row that holds it."""

    source: str
    held: Sql
    position: str


def driving(field: Field) -> Driving:
    """How to go along the values of a field."""
    at = _at(field)
    assert at is not None  # noqa: S101  # only a place is asked for
    held = Sql(f"o.{_PLACE} AND o.kind <> {OTHER}", (at.path,))
    source = "own AS o" if field.resolved[0] in OWN_GROUPS else f"leaf AS o {ROWS_OF_FRAGMENT.format('o')}"
    return Driving(source, held, _position_along(field.resolved))


def _position_along(path: Path) -> str:
    return "o.position" if path[0] in OWN_GROUPS else "held.value"


@dataclass(frozen=True)
class _Compiler:
    now: datetime
    along: Path | None

    def compile(self, filter_: Filter) -> Sql:
        match filter_:
            case And(operands) | Or(operands):
                word = " AND " if isinstance(filter_, And) else " OR "
                inner = _joined([self.compile(operand) for operand in operands], word)
                return Sql(f"({inner.sql})", inner.parameters)
            case Not(operand):
                return self._test(operand, negated=True)  # type: ignore[arg-type]  # _flat leaves NOT at tests alone
            case _:
                return self._test(filter_, negated=False)

    def _test(self, test: Test, *, negated: bool) -> Sql:
        match test:
            case Text(words):
                found = _joined([Sql("instr(run.said, ?) > 0", (word,)) for word in words_of(words)], " AND ")
                return Sql(f"({'NOT ' * negated}({found.sql}))", found.parameters)
            case IsNull(field, flag):
                return self._is_null(field, missing=negated is flag)
            case Comparison(field, operator, value):
                return self._comparison(field, operator, value, negated=negated)
            case OneOf(field, values, flag):
                return self._one_of(field, values, negated=negated is not flag)
            case Like(field, pattern, ignore_case, flag):
                return self._like(field, pattern, ignore_case, negated=negated is not flag)
            case Between(field, low, high, flag):
                return self._between(field, low, high, negated=negated is not flag)

    def _comparison(self, field: Field, operator: Operator, value: Value, *, negated: bool) -> Sql:
        if field.holds is Holds.AGE:
            operator = _OPPOSITE[operator]
        if field.is_list:
            return self._any(field, Sql("{} = ?", (str(value),)), negated=negated is (operator == "="))
        operator = _NEGATED[operator] if negated else operator
        return self._rows(field, _kind(value), Sql(f"{{}} {operator} ?", (self._bound(field, value),)))

    def _one_of(self, field: Field, values: tuple[Value, ...], *, negated: bool) -> Sql:
        by_kind: dict[int, list[Bound]] = {}
        for value in values:
            by_kind.setdefault(_kind(value), []).append(self._bound(field, value))
        tests = {kind: f"IN ({', '.join('?' * len(same))})" for kind, same in by_kind.items()}
        if field.is_list:
            return self._any(field, Sql(f"{{}} {tests[TEXT]}", tuple(by_kind[TEXT])), negated=negated)
        if negated and len(by_kind) > 1:
            return _NEVER  # a value of one type is neither among those of another nor not
        found = [
            self._rows(field, kind, Sql(f"{{}} {'NOT ' * negated}{tests[kind]}", tuple(same)))
            for kind, same in by_kind.items()
        ]
        inner = _joined(found, " OR ")
        return inner if len(found) == 1 else Sql(f"({inner.sql})", inner.parameters)

    def _like(self, field: Field, pattern: str, ignore_case: bool, *, negated: bool) -> Sql:
        word, bound = ("LIKE", pattern) if ignore_case else ("GLOB", _glob(pattern))
        if field.is_list:
            return self._any(field, Sql(f"{{}} {word} ?", (bound,)), negated=negated)
        return self._rows(field, TEXT, Sql(f"{{}} {'NOT ' * negated}{word} ?", (bound,)))

    def _between(self, field: Field, low: Value, high: Value, *, negated: bool) -> Sql:
        first, last = self._bound(field, low), self._bound(field, high)
        if field.holds is Holds.AGE:
            first, last = last, first
        if negated:
            below = self._rows(field, _kind(low), Sql("{} < ?", (first,)))
            above = self._rows(field, _kind(high), Sql("{} > ?", (last,)))
            return Sql(f"({below.sql} OR {above.sql})", (*below.parameters, *above.parameters))
        if _kind(low) != _kind(high):
            return _NEVER
        return self._rows(field, _kind(low), Sql("{} BETWEEN ? AND ?", (first, last)))

    def _is_null(self, field: Field, *, missing: bool) -> Sql:
        at = _at(field)
        if at is None:
            return Sql(f"({_column(field)} IS {'NOT ' * (not missing)}NULL)")
        if field.resolved == self.along:
            return _NEVER if missing else _ALWAYS
        return Sql(f"{self._position} {'NOT ' * missing}IN (SELECT {at.position} {at.source})", (at.path,))

    def _rows(self, field: Field, kind: int, test: Sql) -> Sql:
        """Rows that hold a value of the kind at the place (any text in the column), and one that passes."""
        at = _at(field)
        if at is None:
            return Sql(f"({test.sql.format(_column(field))})", test.parameters)
        if field.resolved == self.along:
            return Sql(f"({test.sql.format('o.value')} AND o.kind = {kind})", test.parameters)
        passes = f"{at.source} AND {test.sql.format('v.value')} AND v.kind = {kind}"
        return Sql(f"{self._position} IN (SELECT {at.position} {passes})", (at.path, *test.parameters))

    def _any(self, field: Field, test: Sql, *, negated: bool) -> Sql:
        """Rows of whose texts any passes; negated, all others."""
        at = _at(field)
        assert at is not None  # noqa: S101  # lists are places
        passes = f"{at.source} AND {test.sql.format('v.value')}"
        found = f"{self._position} {'NOT ' * negated}IN (SELECT {at.position} {passes})"
        return Sql(found, (at.path, *test.parameters))

    @property
    def _position(self) -> str:
        return "run.position" if self.along is None else _position_along(self.along)

    def _bound(self, field: Field, value: Value) -> Bound:
        if isinstance(value, Duration):
            return sort_text(_before(self.now, value))
        if field.holds is Holds.TIME:
            return sort_text(parse_instant(str(value)))
        return int(value) if isinstance(value, bool) else value


def _joined(pieces: list[Sql], word: str) -> Sql:
    return Sql(word.join(one.sql for one in pieces), tuple(value for one in pieces for value in one.parameters))


def _kind(value: Value) -> int:
    if isinstance(value, bool):
        return TRUTH
    return TEXT if isinstance(value, str) else NUMBER


def _before(now: datetime, duration: Duration) -> datetime:
    try:
        return now.astimezone(UTC) - duration.delta
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)


def _glob(pattern: str) -> str:
    """A LIKE pattern as GLOB spells it, since SQLite's LIKE takes either case and its GLOB does not."""
    spelled = {"%": "*", "_": "?", "*": "[*]", "?": "[?]", "[": "[[]"}
    return "".join(spelled.get(char, char) for char in pattern)
