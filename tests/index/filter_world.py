"""Filters for property tests, and what they mean: an evaluation in plain Python, written from docs/search.md."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime
from operator import eq, ge, gt, le, lt, ne
from typing import Any

from hypothesis import strategies as st

from cd4ml.index.fields import CHOICES, FIELDS, LISTS, OF_LISTS, OPERATORS, Holds
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
    Or,
    Test,
    Text,
    Value,
)
from cd4ml.index.paths import path_text
from cd4ml.index.rows import Row

NOW = datetime(2026, 11, 10, 12, tzinfo=UTC)
COMPARE: dict[str, Callable[[Any, Any], bool]] = {"=": eq, "!=": ne, "<": lt, "<=": le, ">": gt, ">=": ge}

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
SAID = st.lists(
    st.sampled_from(["a", "É", "it's", "STRASSE", "ß", "a_b", "%", "ﬁ", "\n", "2026"]), min_size=1, max_size=3
)
SLICED = st.sampled_from(["a", "UA", "rows", "rmse", "test", "x.y", "(missing)"])
NAMED = st.sampled_from(["flights", "train", "test", 'q"q', "a b"])


def values_of(field: Field, *, whole: bool) -> st.SearchStrategy[Value]:
    holds = field.holds
    if holds is Holds.CHOICE and whole:
        return st.sampled_from(CHOICES[path_text(field.path)])
    strategies: dict[Holds, st.SearchStrategy[Any]] = {
        Holds.TEXT: WORDS,
        Holds.CHOICE: WORDS,
        Holds.VERSION: WORDS,
        Holds.TIME: TIMES,
        Holds.AGE: DURATIONS,
        Holds.NUMBER: NUMBERS,
        Holds.TRUTH: st.booleans(),
        Holds.ANY: WORDS | NUMBERS | st.booleans(),
    }
    return strategies[holds]


FIELDS_ = st.one_of(
    PLAIN.map(lambda name: Field((name,))),
    st.sampled_from(sorted(LISTS)).map(Field),
    st.lists(KEYS, min_size=1, max_size=3).map(lambda path: Field(("params", *path))),
    st.lists(st.sampled_from(["rmse", "test", "validation", "mae"]), min_size=1, max_size=2).map(
        lambda path: Field(("metrics", *path))
    ),
    st.lists(SLICED, min_size=3, max_size=3).map(lambda path: Field(("slices", *path))),
    st.tuples(st.sampled_from(["validation", "test"]), SLICED, SLICED, SLICED).map(
        lambda path: Field(("slices", *path))
    ),
    st.tuples(st.sampled_from(["data", "split"]), NAMED, st.sampled_from(["digest", "rows"])).map(Field),
    st.tuples(st.sampled_from(["cost", "packages", "components", "tags"]), NAMED).map(Field),
    st.sampled_from(
        [
            *(("table", "digest"), ("table", "rows"), ("environment", "python"), ("environment", "platform")),
            *(("validation", "suite"), ("validation", "success"), ("validation", "asked"), ("validation", "returned")),
            *(
                ("failure", "kind"),
                ("failure", "stage"),
                ("failure", "message"),
                ("judge", "commit"),
                ("judge", "code"),
            ),
            *(("primary", "metric"), ("primary", "direction"), ("imported", "source"), ("imported", "id")),
        ]
    ).map(Field),
)


@st.composite
def tests(draw: st.DrawFn) -> Test:
    field = draw(FIELDS_)
    negated = draw(st.booleans())
    usable = OF_LISTS if field.is_list else OPERATORS[field.holds]
    kinds = {"IN": "one of", "LIKE": "like", "ILIKE": "like", "BETWEEN": "between", "IS NULL": "null"}
    match draw(st.sampled_from(["text", *(kinds.get(one, "comparison") for one in usable)])):
        case "text":
            return Text(" ".join(draw(SAID.filter(lambda words: any(map(str.strip, words))))))
        case "comparison":
            operator = draw(st.sampled_from([one for one in usable if one in COMPARE]))
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
    if isinstance(test, Text):
        said = [row[name] for name in ("name", "branch", "hypothesis", "conclusion", "author", "reason")]
        lines = [alike(line) for line in (*said, *row["tags"]) if line]
        return all(any(word in line for line in lines) for word in alike(test.words).split())
    if test.field.is_list:
        return truth_of_list(test, lookup(test.field, row) or [])
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


def alike(text: str) -> str:
    """The text without its case, and with letters that are the same but for how they are encoded made the same."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).casefold()


def truth_of_list(test: Test, held: list[str]) -> Truth:
    """Whether any text passes; negated, whether none does. There is nothing in between."""
    match test:
        case Comparison(_, operator, value):
            return (value in held) is (operator == "=")
        case OneOf(_, values, negated):
            return any(value in held for value in values) is not negated
        case Like(_, pattern, ignore_case, negated):
            return any(like(pattern, text, ignore_case) for text in held) is not negated
        case IsNull(_, negated):
            return (not held) is not negated
    raise AssertionError(test)


def like(pattern: str, text: str, ignore_case: bool) -> bool:
    spelled = "".join({"%": ".*", "_": "."}.get(char, re.escape(char)) for char in pattern)
    return re.fullmatch(spelled, text, re.DOTALL | (re.IGNORECASE | re.ASCII if ignore_case else 0)) is not None


def compared(field: Field, operator: str, value: Value, row: dict[str, Any]) -> Truth:
    held = lookup(field, row)
    if field.holds is Holds.AGE:
        assert isinstance(value, Duration)
        return None if held is None else COMPARE[operator]((NOW - instant(held)).total_seconds(), seconds(value))
    if field.holds is Holds.TIME:
        return None if held is None else COMPARE[operator](instant(held), instant(str(value)))
    if held is None or kind(held) != kind(value):
        return None
    return COMPARE[operator](held, value)


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
    if head == "slices" and len(path) == 3:
        path = ["validation", *path]
    if head == "tags" and path:
        return next((tag[len(path[0]) + 1 :] for tag in row["tags"] if tag.startswith(f"{path[0]}=")), None)
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
