"""The parser of filters, which is written by hand, reads the language that the grammar beside this file describes."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lark import Lark
from lark.exceptions import UnexpectedInput, UnexpectedToken

from cd4ml.errors import UsageError
from cd4ml.index.query import parse

_WORDS = (
    *(
        "id",
        "tags",
        "metrics.rmse",
        "params.x",
        'params."q"',
        "params.`a b`",
        "in",
        "and.",
        "not.x",
        "xgboost",
        "IN",
        "match",
    ),
    *("=", "<>", "<", "~", ".", "'x'", "'it''s'", '"', "12", "-1.5", "1.", "7d", "7dd", "1e999", "true", "2026-11-03"),
    *("and", "or", "not", "like", "ilike", "between", "is", "null", "(", ")", ","),
    *("in ('a', 'b')", "between 1 and 2", "is not null", "like 'a%'", "and id = 'x'", "or (id = 'y'", "id = 'z'"),
)
_SYNTAX = ("expected ", "nothing equals NULL")


@cache
def grammar() -> Lark:
    text = Path(__file__).with_name("filter.lark").read_text("utf-8")
    return Lark(text, parser="lalr")


def refused_at(text: str) -> int | None:
    """Where the grammar takes the text no further; nothing when it takes all of it."""
    try:
        grammar().parse(text)
    except UnexpectedInput as error:
        at_end = isinstance(error, UnexpectedToken) and error.token.type == "$END"
        return len(text) if at_end or error.pos_in_stream is None else error.pos_in_stream
    return None


def texts() -> st.SearchStrategy[str]:
    chosen = st.lists(st.sampled_from(_WORDS), min_size=1, max_size=9)
    return st.builds(lambda words, between: between.join(words), chosen, st.sampled_from([" ", "", "  "]))


def mistake(text: str) -> str:
    """What the parser says of the text, in a line; nothing when it reads it."""
    try:
        parse(text)
    except UsageError as error:
        return str(error).split("\n")[0]
    return ""


@given(texts())
def test_a_text_that_the_grammar_refuses_is_refused_and_no_other_is_for_its_syntax(text: str) -> None:
    place, told = refused_at(text), mistake(text)
    of_syntax = told.partition(": ")[2].startswith(_SYNTAX)
    assert told or place is None
    assert not of_syntax or (place is not None and told.startswith(f"filter, character {place + 1}:"))


@pytest.mark.parametrize("text", ["id = 'x' ~", "id = 'x' id", "id in ('x'", "(id = 'x'", "id = 'x')", "id = 'x',"])
def test_a_mistake_is_where_the_grammar_has_it(text: str) -> None:
    with pytest.raises(UsageError, match=f"character {(refused_at(text) or 0) + 1}: expected"):
        parse(text)
