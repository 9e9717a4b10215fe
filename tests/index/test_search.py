"""What a filter finds: compiled, and asked of the query cache on real SQLite."""

from __future__ import annotations

from datetime import timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cd4ml.errors import UsageError
from cd4ml.gateways.store import QueryCache
from cd4ml.index.asked import Term
from cd4ml.index.fields import CHOICES, Holds
from cd4ml.index.filter import And, Comparison, Field, Filter, Not, OneOf, Or, Text, operands_of, write
from cd4ml.index.query import MAX_CHARACTERS, MAX_NESTING, parse
from cd4ml.index.rows import Row
from cd4ml.index.sql import compile_filter, compile_order
from cd4ml.spec.fingerprint import COMPONENTS
from tests.index.filter_world import COMPARE, KEYS, NAMED, NOW, NUMBERS, SLICED, WORDS, filters, row, truth

TIMES = st.sampled_from([None, "2026-11-03T00:00:00Z", "2026-11-03T10:00:00Z", "2026-11-03T10:00:00.500000Z"])


JSON = st.recursive(
    st.none() | st.booleans() | WORDS | NUMBERS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=5,
)
METRICS = st.dictionaries(st.sampled_from(["rmse", "test", "mae"]), NUMBERS, max_size=2)


DIGESTS = st.dictionaries(NAMED, st.fixed_dictionaries({"digest": WORDS, "rows": NUMBERS}), max_size=2)
SLICES = st.dictionaries(
    st.sampled_from(["validation", "test"]),
    st.dictionaries(
        SLICED, st.dictionaries(SLICED, st.dictionaries(SLICED, NUMBERS, max_size=2), max_size=2), max_size=2
    ),
    max_size=2,
)
FAILURES = st.fixed_dictionaries({"kind": st.sampled_from(CHOICES["failure.kind"]), "stage": WORDS, "message": WORDS})
VALIDATIONS = st.fixed_dictionaries(
    {
        "suite": WORDS,
        "success": st.booleans(),
        "asked": NUMBERS,
        "returned": NUMBERS,
        "failed": st.lists(WORDS, max_size=2),
    }
)
GROUPED: dict[str, st.SearchStrategy[Any]] = {
    "params": st.dictionaries(KEYS, JSON, max_size=3),
    "metrics": st.dictionaries(st.sampled_from(["validation", "test"]), METRICS, max_size=2),
    "tags": st.lists(WORDS | NAMED.map("{}=b".format), max_size=3).map(tuple),
    "slices": SLICES,
    "data": DIGESTS,
    "split": DIGESTS,
    "table": st.none() | st.fixed_dictionaries({"digest": WORDS, "rows": NUMBERS}),
    "failure": st.none() | FAILURES,
    "validation": st.none() | VALIDATIONS,
    "packages": st.dictionaries(NAMED, WORDS, max_size=2),
    "components": st.none() | st.dictionaries(NAMED, WORDS, max_size=2),
    "cost": st.dictionaries(NAMED, NUMBERS, max_size=2),
    "environment": st.none() | st.fixed_dictionaries({"python": WORDS, "platform": WORDS}),
    "judge": st.none() | st.fixed_dictionaries({"commit": WORDS, "code": WORDS}),
}


@st.composite
def some_rows(draw: st.DrawFn) -> list[Row]:
    found = []
    lifecycles = {word: draw(st.sampled_from(CHOICES["lifecycle"])) for word in ("a", "A", "ab")}
    for number in range(draw(st.integers(1, 5))):
        changed: dict[str, Any] = {name: draw(WORDS) for name in ("name", "id")}
        changed |= {name: draw(st.none() | WORDS) for name in ("author", "reason", "hypothesis", "conclusion")}
        changed |= {name: draw(st.sampled_from(words)) for name, words in CHOICES.items() if "." not in name}
        changed["branch"] = draw(st.sampled_from(sorted(lifecycles)))
        changed["lifecycle"] = lifecycles[changed["branch"]]  # a branch has one
        changed |= {name: draw(TIMES) for name in ("started", "finished", "committed")}
        groups = draw(st.sets(st.sampled_from(sorted(GROUPED)), max_size=5))
        changed |= {name: draw(GROUPED[name]) for name in sorted(groups)}
        found.append(row(number, **changed))
    return found


def searched(cache: QueryCache, text: str, **asked: Any) -> list[str]:
    return [found["id"] for found in cache.search(compile_filter(parse(text), NOW), **asked)]


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(some_rows(), st.lists(filters(), min_size=1, max_size=4))
def test_a_search_finds_exactly_the_rows_for_which_the_filter_is_true(
    tmp_path: Path, found: list[Row], asked: list[Filter]
) -> None:
    cache = QueryCache.of(found)
    docs = [one.as_json() for one in found]
    assert cache.search() == docs
    for filter_ in asked:
        expected = [doc for doc in docs if truth(filter_, doc) is True]
        assert cache.search(compile_filter(filter_, NOW)) == expected, write(filter_)


def orders_of(filter_: Filter) -> list[Field]:
    """The fields of a filter that a search can be ordered by."""
    below = [field for inner in operands_of(filter_) for field in orders_of(inner)]
    own = () if isinstance(filter_, Text | Not | And | Or) else (filter_.field,)
    return [*(one for one in own if not one.is_list and one.holds is not Holds.AGE), *below]


@settings(max_examples=100)
@given(some_rows(), filters().filter(orders_of), st.data())
def test_an_order_by_a_field_of_the_filter_finds_the_same_rows(
    found: list[Row], asked: Filter, drawn: st.DataObject
) -> None:
    """Such a search goes along the values of that field, and tests them on its way."""
    fields = st.sampled_from(orders_of(asked))
    terms = drawn.draw(st.lists(st.builds(Term, fields, st.booleans()), min_size=1, max_size=2))
    cache, where = QueryCache.of(found), compile_filter(asked, NOW)
    expected = cache.search(where)
    ordered = cache.search(where, compile_order(tuple(terms)))
    assert sorted(doc["id"] for doc in ordered) == sorted(doc["id"] for doc in expected), write(asked)
    assert all(doc in expected for doc in ordered)


def test_of_very_many_rows_each_is_found_by_its_own_value() -> None:
    """They are put in order by columns, and not one by one."""
    values = [number * 37 % 1201 / 8 for number in range(1200)]
    values[7] = 151
    found = QueryCache.of([row(number, metrics={"test": {"rmse": value}}) for number, value in enumerate(values)])
    docs = found.search(None, compile_order("metrics.test.rmse"))
    assert [doc["metrics"]["test"]["rmse"] for doc in docs] == sorted(values)
    for value in (values[0], values[600], 151):
        (doc,) = found.search(compile_filter(parse(f"metrics.test.rmse = {value}"), NOW))
        assert doc["metrics"]["test"]["rmse"] == value


@pytest.fixture
def cache(tmp_path: Path) -> QueryCache:
    return QueryCache.of([row(number) for number in range(20)])


def ids(*numbers: int) -> list[str]:
    return [f"r{number:020x}" for number in numbers]


def test_filters_that_people_write_find_what_they_mean(cache: QueryCache) -> None:
    assert searched(cache, "metrics.rmse < 10.3 and params.model.name = 'ridge'") == ids(0, 1, 2)
    assert searched(cache, f"metrics.rmse = {10 + 5 / 7!r}") == ids(5), "a number copied from the output"
    assert searched(cache, "params.model.alpha in (0.3, 1.2, 'x')") == ids(3, 12)
    assert searched(cache, "branch like 'EXP/%'") == []
    assert searched(cache, "branch ilike 'EXP/1_' and not (params.seed = 10 or params.seed > 11)") == ids(11)
    assert searched(cache, "params.modle.name = 'ridge'") == []
    assert len(searched(cache, "metrics.test.rmse = 20 and conclusion is null and params.model is not null")) == 20


def test_not_stands_at_a_test_or_inside_it_and_twice_is_nothing(cache: QueryCache) -> None:
    for test, inside in (
        ("params.seed between 2 and 18", "params.seed not between 2 and 18"),
        ("params.seed in (2, 3)", "params.seed not in (2, 3)"),
        ("branch like 'exp/1%'", "branch not like 'exp/1%'"),
        ("params.seed is null", "params.seed is not null"),
    ):
        found, others = searched(cache, test), searched(cache, inside)
        assert sorted([*found, *others]) == ids(*range(20)), test
        assert (searched(cache, f"not {test}"), searched(cache, f"not {inside}")) == (others, found), test


@pytest.mark.parametrize(
    "text",
    [
        *("params.seed between 1 and 'x'", "params.seed between 'a' and 7", "not params.seed in (1, 'x')"),
        *("params.seed not in (1, 'x')", "params.seed in ('1', true)", "params.seed not in ('1', true)"),
    ],
)
def test_values_of_several_types_are_compared_each_with_its_own(cache: QueryCache, text: str) -> None:
    assert searched(cache, text) == []


@pytest.mark.parametrize("text", ["[a]", "a*", "?", "[", "]", "a[b", "^a"])
def test_only_percent_and_underscore_are_wildcards(tmp_path: Path, text: str) -> None:
    cache = QueryCache.of([row(0, name=text), row(1, name="a"), row(2, name="ab")])
    assert searched(cache, f"name like '{text}'") == searched(cache, f"name ilike '{text}'") == ids(0)


def test_integers_beyond_64_bits_are_compared_as_far_as_a_float_goes(tmp_path: Path) -> None:
    cache = QueryCache.of([row(0, params={"x": 2**70}), row(1, params={"x": 10**400}), row(2, params={"x": 1})])
    assert searched(cache, f"params.x >= {2**70}") == searched(cache, f"params.x > {2**63}") == ids(0)
    assert searched(cache, "params.x is not null") == ids(0, 1, 2)


def test_what_is_missing_or_of_another_type_matches_neither_a_comparison_nor_its_negation(cache: QueryCache) -> None:
    for test in (
        "metrics.mae < 1",
        "params.model.name < 3",
        "params.seed = '3'",
        "params.model = 'ridge'",
        "conclusion = ''",
    ):
        assert searched(cache, test) == searched(cache, f"not {test}") == []


@pytest.mark.parametrize("operator", COMPARE)
def test_every_row_with_a_value_passes_either_a_comparison_or_its_negation(cache: QueryCache, operator: str) -> None:
    passing = [number for number in range(20) if COMPARE[operator](number, 3)]
    others = [number for number in range(20) if number not in passing]
    for field, value in (("params.seed", "3"), ("fold", "4"), ("components.spec", f"'{3:064x}'")):
        assert searched(cache, f"{field} {operator} {value}") == ids(*passing), field
        assert searched(cache, f"not {field} {operator} {value}") == ids(*others), field


@pytest.mark.parametrize(
    ("text", "found"),
    [
        *(("tags.team = 'a'", [0]), ("tags.team = 'b'", []), ("tags.team is null", [1, 2])),
        *(("tags.plain is null", [0, 1, 2]), ("tags = 'plain'", [0]), ("tags = 'team=b'", [0]), ("tags is null", [2])),
        *(("tags.0 is null", [0, 1, 2]), ("tags != 'plain'", [1, 2])),
    ],
)
def test_a_tag_is_a_text_and_one_with_a_key_has_a_value_the_first_of_its_key(text: str, found: list[int]) -> None:
    tags = ("team=a", "team=b", "plain"), ("other",), ()
    cache = QueryCache.of([row(number, tags=held) for number, held in enumerate(tags)])
    assert searched(cache, text) == ids(*found)


@pytest.mark.parametrize(
    ("text", "found"),
    [("params.x = true", [0]), ("params.x != true", [1]), ("params.x = 1", [2]), ("params.x < 1", [3])],
)
def test_a_truth_value_is_no_number(text: str, found: list[int]) -> None:
    cache = QueryCache.of([row(number, params={"x": value}) for number, value in enumerate((True, False, 1, 0))])
    assert searched(cache, text) == ids(*found)


def test_a_component_that_this_version_does_not_know_is_found_beside_all_that_it_knows() -> None:
    known = dict.fromkeys(COMPONENTS, "0" * 64)
    cache = QueryCache.of([row(0, components=known), row(1, components={**known, "later": "f" * 64})])
    assert searched(cache, "components.later like 'f%'") == ids(1)
    assert searched(cache, "components.later is null") == ids(0)


@pytest.mark.parametrize("text", ["lifecycle = 'open'", "name = 'x' or not (side = 'head' and lifecycle = 'open')"])
def test_a_filter_knows_which_fields_it_asks_for_wherever_they_stand(text: str) -> None:
    where = compile_filter(parse(text), NOW)
    assert where is not None
    assert "lifecycle" in where.heads
    assert where.heads <= {"lifecycle", "name", "side"}


def test_age_counts_back_from_now_to_the_end_of_the_run_or_to_the_commit(tmp_path: Path) -> None:
    day = timedelta(days=1)

    def ago(days: float) -> str:
        return (NOW - days * day).strftime("%Y-%m-%dT%H:%M:%SZ")

    cache = QueryCache.of([row(0, finished=ago(2)), row(1, finished=ago(9)), row(2, finished=None, committed=ago(3))])
    assert searched(cache, "age < 7d") == ids(0, 2)
    assert searched(cache, "age >= 1w") == ids(1)
    assert searched(cache, "age between 60h and 80h") == ids(2)
    assert searched(cache, "not age < 9999999w") == []
    assert searched(cache, f"finished = '{ago(9)}'") == ids(1)
    elsewhere = NOW.astimezone(timezone(timedelta(hours=-11)))
    for asked, passing in (("age < 48h", 0), ("age <= 48h", 1)):
        assert len(cache.search(compile_filter(parse(asked), elsewhere))) == passing


def test_no_text_of_a_filter_becomes_sql(cache: QueryCache) -> None:
    for text in ("x' OR 1=1 --", '"; DROP TABLE run; --', "%", "*", "\\", "''"):
        for where in (Comparison(Field(("name",)), "=", text), Comparison(Field(("params", text)), "=", text)):
            compiled = compile_filter(where, NOW)
            assert compiled is not None
            assert text not in compiled.sql
            assert cache.search(compiled) == []
    assert len(cache.search()) == 20


def test_results_come_in_the_order_asked_with_what_is_missing_last(cache: QueryCache, tmp_path: Path) -> None:
    assert searched(cache, "", limit=3) == ids(0, 1, 2)
    assert searched(cache, "", order_by=compile_order("metrics.rmse desc"), limit=2) == ids(19, 18)
    mixed = QueryCache.of([row(0, metrics={}), row(1), row(2), row(3, metrics={})])
    assert searched(mixed, "", order_by=compile_order("metrics.rmse")) == ids(1, 2, 0, 3)
    assert searched(mixed, "", order_by=compile_order("metrics.rmse DESC")) == ids(2, 1, 0, 3)
    assert searched(mixed, "", order_by=compile_order("params.model.name asc"), limit=0) == []
    assert searched(mixed, "", order_by=compile_order("outcome, metrics.rmse desc")) == ids(2, 1, 0, 3)
    holding = QueryCache.of([row(0, params={"x": {"y": 1}}), row(1, params={"x": 1}), row(2, params={})])
    for order in ("params.x", "params.x desc", "outcome, params.x", "outcome, params.x desc"):
        assert searched(holding, "", order_by=compile_order(order)) == ids(1, 0, 2), "what holds fields has no value"
    named = QueryCache.of([row(0, author=None), row(1, author="Bob"), row(2, author="Ada")])
    assert searched(named, "", order_by=compile_order("author")) == ids(2, 1, 0)
    assert searched(named, "", order_by=compile_order("author desc")) == ids(1, 2, 0)


@pytest.mark.parametrize(
    "text",
    [
        *("{0} > 3", "{0} < 9", "not {0} > 3", "{0} != 4", "{0} between 1 and 9", "{0} in (2, 4)", "not {0} in (2, 4)"),
        *("{0} is null", "{0} is not null", "not {0} is null and {0} != 4", "{0} is null or {0} < 3"),
    ],
)
@pytest.mark.parametrize("field", ["params.x", "metrics.rmse"])
def test_an_order_by_a_field_that_is_asked_for_finds_the_same_rows(text: str, field: str) -> None:
    """Such a search goes along the values of the field, and tests them on its way."""
    values = (4, "5", 2, True, {"y": 1}, None, False, "a", 7, 4)
    numbers = {"metrics.rmse": [one if isinstance(one, int) else None for one in values]}.get(field, values)
    place = field.partition(".")[0]
    cache = QueryCache.of(
        [
            row(number, **{place: {"validation": {"rmse": value}} if place == "metrics" else {"x": value}})
            for number, value in enumerate(numbers)
        ]
    )
    docs = cache.search()
    filter_ = parse(text.format(field))
    assert filter_ is not None
    expected = [doc["id"] for doc in docs if truth(filter_, doc) is True]
    assert searched(cache, text.format(field)) == expected
    for order in (field, f"{field} desc"):
        assert sorted(searched(cache, text.format(field), order_by=compile_order(order))) == expected


@pytest.mark.parametrize("text", ["", "metrics.rmse down", "rmse", "age", "metrics", "name; drop", "name desc desc"])
def test_an_order_that_is_none_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError):
        compile_order(text)


SHORT = Comparison(Field(("id",)), "=", "")
LARGE = OneOf(Field(("params", "x")), (1, "a", True), negated=True)


def chain(levels: int, end: Filter) -> Filter:
    """AND in OR in AND …, so that no level can be taken into the one around it."""
    for level in range(levels - 1):
        end = (And if level % 2 else Or)((SHORT, end))
    return end


def crossed(second: int) -> Filter:
    """As deep as is allowed, and in the outer ``second`` levels with another part just as deep before it."""
    made: Filter = LARGE
    for level in range(MAX_NESTING - 1):
        beside = chain(level + 1, LARGE) if level >= MAX_NESTING - 1 - second else SHORT
        made = (And if level % 2 else Or)((beside, made))
    return made


@pytest.mark.parametrize("second", [0, 4, 8])
def test_every_filter_that_is_read_can_be_asked(cache: QueryCache, second: int) -> None:
    """SQLite's parser has a stack of 100 places; nesting and length at their limits must fit."""
    for filter_ in (crossed(second), Not(chain(MAX_NESTING - 1, LARGE))):
        text = write(filter_).replace(" = ", "=").replace(" AND (", "and(").replace(" OR ", "or ")
        assert len(text) <= MAX_CHARACTERS
        assert parse(text) == filter_
        expected = [doc["id"] for doc in cache.search() if truth(filter_, doc) is True]
        assert searched(cache, text) == expected


@pytest.mark.parametrize("joined", ["or", "and"])
def test_a_filter_of_as_many_tests_as_fit_can_be_asked(cache: QueryCache, joined: str) -> None:
    test = "params.x=1"
    text = f" {joined} ".join([test] * (MAX_CHARACTERS // (len(test) + len(joined) + 2)))
    assert searched(cache, text) == []
