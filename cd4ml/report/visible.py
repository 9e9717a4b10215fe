"""Text from outside, made safe to look at, and numbers made easy to.

Branch names, messages and configuration values come from whoever can push. Shown as they are they could
move the cursor, turn the direction of the line, look like cd4ml's own words on a line of their own, or command the
runner of a CI that reads along.
"""

from __future__ import annotations

import math
import re
import unicodedata

ABSENT = "–"
"""Stands where there is no value."""

SIGNIFICANT_DIGITS = 4

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_BLANK_LETTERS = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Letters and symbols by their category that have no ink."""


_COMMAND = re.compile(r"(?<![^ ])::|##\[")
"""What GitHub's runner may take for a command: ``::error`` where a line begins (it trims blanks, and whoever wraps the
text chooses where lines begin), and ``##[error]`` anywhere, in older ones."""

_LINE_COMMAND = re.compile(r"^((?:[^\S\n]|\x1b\[[0-9;]*m)*):(?=:)", re.MULTILINE)


def harmless_lines(text: str) -> str:
    """Lines that are laid out, so that no runner of a CI takes one for a command: a word may have been folded."""
    return _LINE_COMMAND.sub(r"\1\\x3a", text).replace("##[", "\\x23#[")


def visible(text: object) -> str:
    """The text on one line, with every character that would not be seen as itself written as an escape.

    Controls (line ends and ANSI escapes among them), bidirectional and zero-width marks, surrogates,
    private and unassigned code points, blanks other than the space, and a combining mark with nothing to
    stand on are written ``\\xNN``, ``\\uNNNN`` or ``\\UNNNNNNNN``. So is the first sign of what would command the
    runner of a CI: of ``::`` at the start or after a blank, and of ``##[``. All else stays as it is.
    """
    text = str(text)
    if text.isascii() and text.isprintable():
        return _without_commands(text)
    shown: list[str] = []
    for character in text:
        alone = unicodedata.combining(character) and (not shown or len(shown[-1]) > 1)
        shown.append(_escape(character) if alone or _is_hidden(character) else character)
    return _without_commands("".join(shown))


def _without_commands(text: str) -> str:
    return _COMMAND.sub(lambda found: f"{_escape(found[0][0])}{found[0][1:]}", text)


def _is_hidden(character: str) -> bool:
    category = unicodedata.category(character)
    return category in _HIDDEN or (category == "Zs" and character != " ") or character in _BLANK_LETTERS


def _escape(character: str) -> str:
    code = ord(character)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def plain_number(value: object) -> str:
    """A number with four significant digits, written the same way everywhere.

    Whole numbers are written in full with a thin grouping (``336,776``). Other numbers keep trailing
    zeros, so that a column lines up, and never lose a digit before the point (``12.30``, ``0.01230``,
    ``12,346``); below 1e-4 and from 1e15 on they are written with an exponent. ``–`` stands for no value.
    """
    if value is None:
        return ABSENT
    if isinstance(value, bool) or not isinstance(value, int | float):
        return visible(value)
    if isinstance(value, int):
        return f"{value:,}"
    return _decimal(value) if math.isfinite(value) else str(value)


def signed_number(value: float | None) -> str:
    """A difference: like ``plain_number``, with its sign, since no sign could be read as no difference."""
    text = plain_number(value)
    return f"+{text}" if value is not None and value > 0 else text


def percent(value: float | None) -> str:
    """A fraction as a signed percentage with one decimal: ``-3.2 %``."""
    if value is None or not math.isfinite(value):
        return ABSENT
    return f"{value:+.1%}".replace("%", " %")


def _decimal(value: float) -> str:
    if value == 0:
        return "0"
    text = f"{value:.{SIGNIFICANT_DIGITS - 1}e}"
    exponent = int(text.split("e")[1])
    if not -4 <= exponent < 15:
        return text
    return f"{value:,.{max(0, SIGNIFICANT_DIGITS - 1 - exponent)}f}"
