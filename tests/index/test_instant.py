"""Instants: one form that is shown, whatever form a record has."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cd4ml.index.instant import parse_instant, utc_form, utc_text

SHOWN = "2026-11-03T10:00:00Z"


@given(st.lists(st.tuples(st.integers(0, 19), st.sampled_from("0129-:TZW+. é٣")), max_size=4))
@example([(5, "W"), (8, "-")])
@example([(13, "0"), (16, "0")])
@example([(11, "2"), (12, "5")])
def test_the_form_that_is_shown_is_looked_at_as_any_other(changes: list[tuple[int, str]]) -> None:
    """A text that seems to have it already is taken as it is, but only if it is such an instant."""
    text = list(SHOWN)
    for place, char in changes:
        text[place] = char
    expected = None
    with suppress(ValueError):
        expected = utc_text(parse_instant("".join(text)))
    found = None
    with suppress(ValueError):
        found = utc_form("".join(text))
    assert found == expected


@pytest.mark.parametrize("text", ["2026-11-03T12:00:00+02:00", "2026-11-03 10:00", "2026-11-03T10:00:00.000000Z"])
def test_every_form_of_an_instant_is_shown_in_one(text: str) -> None:
    assert utc_form(text) == SHOWN
