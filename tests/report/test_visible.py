"""Text from outside is shown as what it is, and numbers are written one way."""

from __future__ import annotations

import math
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cd4ml.report.visible import harmless_lines, percent, plain_number, signed_number, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("exp/ein-Täst-日本", "exp/ein-Täst-日本"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\r\nmain  Synced", "a\\x0d\\x0amain  Synced"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("a\u2066b\u200bc\ufeff", "a\\u2066b\\u200bc\\ufeff"),
        ("a\u00a0b\u3000c\u2028d", "a\\xa0b\\u3000c\\u2028d"),
        ("\u3164", "\\u3164"),
        ("\U000e0041", "\\U000e0041"),
        ("\x9b31m", "\\x9b31m"),
        ("\ud800", "\\ud800"),
        ("e\u0301", "e\u0301"),
        ("\u0301e", "\\u0301e"),
        ("::error::x", "\\x3a:error::x"),
        ("a  ::add-mask::é", "a  \\x3a:add-mask::é"),
        (":::", "\\x3a::"),
        ("a::b std::vector", "a::b std::vector"),
        ("x##[error]y", "x\\x23#[error]y"),
        ("###[", "#\\x23#["),
        ("## [a]", "## [a]"),
    ],
)
def test_what_would_not_be_seen_as_itself_is_written_as_an_escape(text: str, shown: str) -> None:
    assert visible(text) == shown


@settings(deadline=None)
@given(st.text())
def test_nothing_invisible_is_left_and_plain_text_is_untouched(text: str) -> None:
    shown = visible(text)
    assert all(unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") for character in shown)
    assert len(shown.splitlines()) <= 1
    assert visible(shown) == shown
    if text.isascii() and text.isprintable() and "::" not in text and "##[" not in text:
        assert shown == text


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([":", "::", " ", "#", "##", "[", "a", "\x1b[1m", "\u00a0", "\n", "é"])), st.integers(1, 9)
)
def test_no_runner_of_a_ci_finds_a_command_however_the_text_is_folded(parts: list[str], width: int) -> None:
    shown = visible("".join(parts))
    folded = "\n".join(shown[start : start + width] for start in range(0, len(shown), width))
    for line in (shown, *harmless_lines(folded).splitlines()):
        assert not line.strip().startswith("::")
        assert "##[" not in line
    assert not any(word.startswith("::") for word in shown.split())
    assert harmless_lines(shown) == shown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.0, "0"),
        (-0.0, "0"),
        (1, "1"),
        (336776, "336,776"),
        (12.3, "12.30"),
        (9.99996, "10.00"),
        (0.5, "0.5000"),
        (-0.0123, "-0.01230"),
        (12345.678, "12,346"),
        (0.0001, "0.0001000"),
        (0.00001234, "1.234e-05"),
        (1e15, "1.000e+15"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (True, "True"),
        ("\x1b", "\\x1b"),
    ],
)
def test_numbers_have_four_significant_digits_and_lose_none_before_the_point(value: object, text: str) -> None:
    assert plain_number(value) == text


@settings(deadline=None)
@given(st.floats(-1e300, 1e300))
def test_a_written_number_is_within_its_last_digit_of_the_value(value: float) -> None:
    assert float(plain_number(value).replace(",", "")) == pytest.approx(value, rel=5.1e-4, abs=0.0)


def test_differences_carry_their_sign() -> None:
    assert [signed_number(value) for value in (1.5, -1.5, 0.0, None)] == ["+1.500", "-1.500", "0", "–"]
    assert [percent(value) for value in (0.0321, -0.5, None, math.inf)] == ["+3.2 %", "-50.0 %", "–", "–"]
