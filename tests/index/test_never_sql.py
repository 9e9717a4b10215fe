"""Nothing that a person writes becomes SQL: it is bound, whatever it is, wherever it stands."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cd4ml.gateways.store import QueryCache
from cd4ml.index.asked import Term
from cd4ml.index.fields import FIELDS, LISTS
from cd4ml.index.filter import Between, Comparison, Field, Filter, IsNull, Like, OneOf, Text, write
from cd4ml.index.query import parse
from cd4ml.index.sql import Order, compile_filter
from tests.index.filter_world import NOW, row

MARK = "zqx"
WRITTEN = (
    st.sampled_from(["' OR 1=1 --", '"; DROP TABLE run; --', "') OR ('", "%", "\\", "`", '"', "[", "?", ")", "NULL"])
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
).map(lambda text: MARK + text)
PATHS = st.one_of(
    st.sampled_from([(name,) for name, holds in FIELDS.items() if holds.name == "TEXT"] + list(LISTS)),
    WRITTEN.map(lambda name: ("params", name)),
    st.tuples(WRITTEN, WRITTEN).map(lambda names: ("params", *names)),
    WRITTEN.map(lambda name: ("tags", name)),
    WRITTEN.map(lambda name: ("components", name)),
    WRITTEN.map(lambda name: ("data", name, "digest")),
)


@st.composite
def hostile(draw: st.DrawFn) -> Filter:
    """A test with text of somebody's wherever text can stand."""
    field, text, other = Field(draw(PATHS)), draw(WRITTEN), draw(WRITTEN)
    forms: list[Filter] = [
        Text(text),
        Comparison(field, draw(st.sampled_from(["=", "!="])), text),
        OneOf(field, (text, other), draw(st.booleans())),
        Like(field, text, draw(st.booleans()), draw(st.booleans())),
        IsNull(field, draw(st.booleans())),
    ]
    if not field.is_list:
        forms.append(Between(field, text, other))
    return draw(st.sampled_from(forms))


CACHE = QueryCache.of([row(number) for number in range(3)])


@given(hostile())
def test_no_text_of_a_filter_becomes_sql_and_none_does_harm(filter_: Filter) -> None:
    parsed = parse(write(filter_))
    assert parsed == filter_
    compiled = compile_filter(parsed, NOW)
    assert compiled is not None
    assert MARK not in compiled.sql
    assert len(CACHE.search(compiled)) in (0, 3)
    assert len(CACHE.search()) == 3


@given(st.lists(st.builds(Term, PATHS.filter(lambda path: path not in LISTS).map(Field), st.booleans()), min_size=1))
def test_no_text_of_an_order_becomes_sql(terms: list[Term]) -> None:
    order = Order(tuple(terms[:3]))
    assert MARK not in order.by() + order.joins().sql
    assert len(CACHE.search(order_by=order)) == 3
