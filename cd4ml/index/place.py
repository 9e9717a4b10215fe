"""A mistake in a text that a person wrote, shown where it is."""

from __future__ import annotations

import unicodedata

from cd4ml.errors import UsageError

WINDOW = 70
"""Columns of a terminal that are shown of a long line."""


def located(what: str, text: str, position: int, message: str) -> UsageError:
    """An error whose message names the place, followed by the line around it and a caret beneath the character.

    ``what`` says what the text is (``filter``); ``position`` counts characters from 0 and may be the end.
    """
    start = text.rfind("\n", 0, position) + 1
    line = text[start:].partition("\n")[0]
    number = text.count("\n", 0, position) + 1
    place = f"character {position - start + 1}"
    if "\n" in text:
        place = f"line {number}, {place}"
    shown, caret = _window("".join(map(_shown, line)), position - start)
    said = " ".join(message.splitlines())  # a quoted name may hold a line's end
    return UsageError(f"{what}, {place}: {said}\n  {shown}\n  {' ' * caret}^")


def _shown(character: str) -> str:
    """A character that takes as many columns on the terminal as ``_columns`` says, and moves nothing."""
    return character if character.isprintable() and character not in _WITHOUT_INK else " "


def _window(line: str, position: int) -> tuple[str, int]:
    """What fits around the place, and the column of the place in it."""
    first = position
    while first > 0 and width(line[first - 1 : position]) <= WINDOW // 2:
        first -= 1
    last = position
    while last < len(line) and width(line[first : last + 1]) <= WINDOW:
        last += 1
    while first > 0 and width(line[first - 1 : last]) <= WINDOW:
        first -= 1
    return line[first:last], width(line[first:position])


def width(text: str) -> int:
    """How many columns a text takes on a terminal: two for a wide character, none for a mark on another."""
    return sum(map(_columns, text))


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


# Letters by their category that have no ink; the report writes them as escapes, which would move the caret.
_WITHOUT_INK = frozenset("\u115f\u1160\u2800\u3164\uffa0")
