"""Text of a run or a branch, made fit for one line of a record."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cd4ml.spec.text import one_line

TOKEN = "ghp_" + "a1" * 18


@given(st.text(), st.integers(1, 50))
def test_a_line_is_one_line_of_what_can_be_seen_and_no_longer_than_asked(text: str, most: int) -> None:
    line = one_line(text, most)
    assert len(line) <= most
    assert len(line.splitlines()) <= 1
    line.encode()
    assert "\x1b" not in line


def test_a_credential_that_the_cut_would_halve_is_left_out_whole() -> None:
    assert "ghp_" not in one_line(f"failed: {TOKEN}", 30)
