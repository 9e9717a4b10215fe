"""Filters for property tests, and what they mean: an evaluation in plain Python, written from docs/search.md."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from operator import eq, ge, gt, le, lt, ne
from typing import Any

from hypothesis import strategies as st

from cd4ml.index.filter import (
    CHOICES,
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
    Or,
    Test,
    Value,
)
from cd4ml.index.rows import Row

NOW = datetime(2026, 11, 10, 12, tzinfo=UTC)
OPERATORS: dict[str, Callable[[Any, Any], bool]] = {"=": eq, "!=": ne, "<": lt, "<=": le, ">": gt, ">=": ge}

# Few values, so that filters and rows meet; some that need care: quotes, wildcards, case, floats, big integers.
WORDS = st.sampled_from(["a", "A", "ab", "it's", "a_b", "a%b", "[a]", "*", "é", "É", "2026-11-03", "", '"', "a?b"])
NUMBERS = st.sampled_from(
    [0, 1, -1, 2, 0.1, 0.30000000000000004, 12.345678901234567, 1e300, -1e-7, 2**62, 2**53 + 1, 1.0]
)
TIMES = st.sampled_from(
    ["2026-11-03", "2026-11-03T10:00:00Z", "2026-11-03T12:00:00+02:00", "2026-11-03T10:00:00.5Z", "2026-11-04"]
)
DURATIONS = st.builds(Duration, st.sampled_from([0, 1, 2.5, 7, 1e9, 3000000]), st.sampled_from("smhdw"))
PATTERNS = st.lists(st.sampled_from(["%", "_", "a", "A", "b", "[", "]", "*", "?", "'", "é"]), max_size=4).map("".join)
KEYS = st.sampled_from(["rmse", "x", "0", "1", "a b", "model", 'q"q', "é", "and"])
PLAIN = st.sampled_from(sorted(FIELDS))


def values_of(field: Field, *, whole: bool) -> st.SearchStrategy[Value]:
    holds = field.holds
    if holds is Holds.CHOICE and whole:
        return st.sampled_from(CHOICES[field.path[0]])
    strategies: dict[Holds, st.SearchStrategy[Any]] = {
        Holds.TEXT: WORDS,
        Holds.CHOICE: WORDS,
        Holds.TIME: TIMES,
        Holds.AGE: DURATIONS,
        Holds.NUMBER: NUMBERS,
        Holds.ANY: WORDS | NUMBERS | st.booleans(),
    }
    return strategies[holds]


FIELDS_ = st.one_of(
    PLAIN.map(lambda name: Field((name,))),
    st.lists(KEYS, min_size=1, max_size=3).map(lambda path: Field(("params", *path))),
    st.lists(st.sampled_from(["rmse", "test", "validation", "mae"]), min_size=1, max_size=2).map(
        lambda path: Field(("metrics", *path))
    ),
)


@st.composite
def tests(draw: st.DrawFn) -> Test:
    field = draw(FIELDS_)
    negated = draw(st.booleans())
    kinds = ["comparison", "between", "null"]
    kinds += ["one of"] if field.holds is not Holds.AGE else []
    kinds += ["like"] if field.holds in (Holds.TEXT, Holds.CHOICE, Holds.ANY) else []
    match draw(st.sampled_from(kinds)):
        case "comparison":
            usable = ["<", "<=", ">", ">="] if field.holds is Holds.AGE else list(OPERATORS)
            operator = draw(st.sampled_from(usable))
            value = draw(values_of(field, whole=operator in ("=", "!=")))
            return Comparison(field, operator, value)  # type: ignore[arg-type]  # drawn from the closed list
        case "between":
            bounds = values_of(field, whole=False)
            return Between(field, draw(bounds), draw(bounds), negated)
        case "one of":
            values = draw(st.lists(values_of(field, whole=True), min_size=1, max_size=4))
            return OneOf(field, tuple(values), negated)
        case "like":
            return Like(field, draw(PATTERNS), draw(st.booleans()), negated)
        case _:
            return IsNull(field, negated)


def filters() -> st.SearchStrategy[Filter]:
    return st.recursive(
        tests(),
        lambda inner: st.one_of(
            inner.map(Not),
            st.lists(inner, min_size=2, max_size=3).map(lambda found: And(tuple(found))),
            st.lists(inner, min_size=2, max_size=3).map(lambda found: Or(tuple(found))),
        ),
        max_leaves=8,
    )


Truth = bool | None
"""None: neither true nor false."""


def truth(filter_: Filter, row: dict[str, Any]) -> Truth:
    """Whether the row's JSON matches."""
    match filter_:
        case Not(operand):
            return negation(truth(operand, row))
        case And(operands):
            found = [truth(inner, row) for inner in operands]
            return False if False in found else None if None in found else True
        case Or(operands):
            return any_of([truth(inner, row) for inner in operands])
        case _:
            return truth_of_test(filter_, row)


def negation(value: Truth) -> Truth:
    return None if value is None else not value


def any_of(found: list[Truth]) -> Truth:
    return True if True in found else None if None in found else False


def truth_of_test(test: Test, row: dict[str, Any]) -> Truth:
    match test:
        case Comparison(field, operator, value):
            return compared(field, operator, value, row)
        case OneOf(field, values, negated):
            found = any_of([compared(field, "=", value, row) for value in values])
            return negation(found) if negated else found
        case Between(field, low, high, negated):
            inside = truth(And((Comparison(field, ">=", low), Comparison(field, "<=", high))), row)
            return negation(inside) if negated else inside
        case Like(field, pattern, ignore_case, negated):
            held = lookup(field, row)
            if not isinstance(held, str):
                return None
            matched = like(pattern, held, ignore_case)
            return matched is not negated
        case IsNull(field, negated):
            return (lookup(field, row) is None) is not negated


def like(pattern: str, text: str, ignore_case: bool) -> bool:
    spelled = "".join({"%": ".*", "_": "."}.get(char, re.escape(char)) for char in pattern)
    return re.fullmatch(spelled, text, re.DOTALL | (re.IGNORECASE | re.ASCII if ignore_case else 0)) is not None


def compared(field: Field, operator: str, value: Value, row: dict[str, Any]) -> Truth:
    held = lookup(field, row)
    if field.holds is Holds.AGE:
        assert isinstance(value, Duration)
        return None if held is None else OPERATORS[operator]((NOW - instant(held)).total_seconds(), seconds(value))
    if field.holds is Holds.TIME:
        return None if held is None else OPERATORS[operator](instant(held), instant(str(value)))
    if held is None or kind(held) != kind(value):
        return None
    return OPERATORS[operator](held, value)


def seconds(duration: Duration) -> float:
    return duration.count * {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}[duration.unit]


def instant(text: str) -> datetime:
    value = datetime.fromisoformat(text)
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def kind(value: object) -> str:
    if isinstance(value, bool):
        return "bool"
    return "number" if isinstance(value, int | float) else "text" if isinstance(value, str) else "other"


def lookup(field: Field, row: dict[str, Any]) -> Any:
    head, *path = field.path
    if head == "age":
        return row["finished"] or row["committed"]
    if head == "metrics" and not (len(path) > 1 and path[0] in ("train", "validation", "test")):
        path = ["validation", *path]
    held: Any = row[head]
    for key in path:
        if isinstance(held, dict):
            held = held.get(key)
        elif isinstance(held, list) and key.isdigit() and int(key) < len(held):
            held = held[int(key)]
        else:
            return None
    return held


def row(number: int = 0, **changed: Any) -> Row:
    fields: dict[str, Any] = {
        "id": f"r{number:020x}",
        "fingerprint": f"{number:064x}",
        "branch": f"exp/{number}",
        "commit": f"{number:040x}",
        "result_commit": f"{number:040x}",
        "health": "Healthy",
        "lifecycle": "open",
        "params": {"seed": number, "model": {"name": "ridge", "alpha": number / 10}},
        "metrics": {"validation": {"rmse": 10 + number / 7}, "test": {"rmse": 20.0}},
        "reason": None,
        "outcome": "succeeded",
        "role": "result",
        "side": "head",
        "source_commit": f"{number:040x}",
        "experiment": None,
        "name": f"name {number}",
        "author": "Ada",
        "hypothesis": None,
        "tags": ("t",),
        "conclusion": None,
        "noted_by": None,
        "started": "2026-11-03T10:00:00Z",
        "finished": "2026-11-03T10:00:00Z",
        "committed": None,
        "model_digest": None,
        "components": {"spec": f"{number:064x}"},
        "primary": {"metric": "rmse", "direction": "minimize"},
        "cost": {"train": 1.0},
        "landed_by": None,
        "fold": 1 + number,
    }
    return Row(**{**fields, **changed})
