"""Text from outside in Markdown and HTML, so that it is shown as text and does nothing.

A forge works on Markdown twice. Its parser makes HTML of it, and links what looks like an address; then filters go over
the text of that HTML, and make mentions, references, emoji and formulas of what they find. An entity (``&#64;``) is
undone before the second step, and for e-mail addresses before the end of the first. What both leave alone is code.
So a name or a value is a code span, and of a sentence all words are that are not plainly words or numbers.

GitLab also takes a line that begins with ``/`` for a command: none does, since text from outside never begins a line
but inside a code span, which begins with a backtick.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from html import escape

from cd4ml.report.visible import ABSENT, visible

LONGEST = 80
"""Characters of a name or a value in Markdown."""

LONGEST_COMMAND = 400
_LONGEST_PROSE = 600
_LEFT_TO_RIGHT = "&lrm;"
_RIGHT_TO_LEFT = frozenset({"R", "AL", "AN"})
_COMMON = re.compile(r"[0-9a-f]{7,40}", re.ASCII | re.IGNORECASE)  # a commit is linked by as little
_NUMBER = re.compile(r"[+\u2212\u00b1-]?[0-9]{1,3}(?:,?[0-9]{3})*(?:\.[0-9]+)?(?:e[+-]?[0-9]{1,3})?%?", re.ASCII)
_POINT = re.compile(r"[0-9]{1,9}[.)](?![0-9]).*", re.ASCII)  # at the start of a line it would number a list
_PIECES = re.compile(r"`(?P<quoted>[^`\s][^`]*)`(?P<end>[.,;:)]{0,2})(?!\S)|(?P<word>\S+)")
_BESIDE = re.compile(r"(?:[A-Za-z0-9_%-][A-Za-z0-9_.%-]*/)*[A-Za-z0-9_%-][A-Za-z0-9_.%-]*", re.ASCII)
_SIGNS = frozenset("→–—≥≤±×·%")
_ENDS = ".,;:!?…"
_SPECIAL = re.compile(r"([\\`*_\[\]<>#|~$@!{}])")


def seen(text: object, longest: int = LONGEST) -> str:
    """What of a text is shown: made visible, cut with ``…`` after ``longest`` characters, blanks alone as escapes."""
    shown = visible(str(text)[: longest + 1])  # what is made visible gets no shorter
    shown = shown if len(shown) <= longest else shown[: longest - 1] + "…"
    if not shown:
        return ABSENT
    return shown.replace(" ", "\\x20") if shown.isspace() else shown


def code(text: object, *, in_table: bool = False, longest: int = LONGEST) -> str:
    """The text as a code span of Markdown, within a line or, with ``in_table``, a cell of a table.

    In a cell, a ``|`` behind a backslash is shown as ``\\x7c``: parsers do not agree on what else it would be.
    After text that is written from right to left stands a mark that turns the line back, or else the numbers behind it
    would be shown in reverse.
    """
    shown = seen(text, longest)
    fence = _fence(shown, 1)
    room = " " if {shown[0], shown[-1]} & {"`", " "} else ""  # Markdown takes one blank away on both sides
    inner = shown.replace("\\|", "\\\\x7c").replace("|", "\\|") if in_table else shown
    return f"{fence}{room}{inner}{room}{fence}{_turned_back(shown)}"


def prose(text: object, *, in_table: bool = False, longest: int = _LONGEST_PROSE) -> str:
    """Words as Markdown: plain ones as they are, all others, and what stands between backticks, as code spans."""
    return _written(text, longest, lambda piece: code(piece, in_table=in_table, longest=longest))


def own(text: str) -> str:
    """Text of cd4ml's as Markdown that shows just this."""
    return _SPECIAL.sub(r"\\\1", text.replace("&", "&amp;"))


def html_code(text: object, *, longest: int = LONGEST) -> str:
    """The text as a ``code`` element, for HTML within Markdown."""
    shown = seen(text, longest)
    return f"<code>{escape(shown)}</code>{_turned_back(shown)}"


def html_prose(text: object, *, longest: int = _LONGEST_PROSE) -> str:
    """Words for HTML within Markdown: plain ones as they are, all others as ``code`` elements."""
    return _written(text, longest, lambda piece: html_code(piece, longest=longest))


def fenced(command: str) -> str:
    """A line to paste, as a block of code."""
    line = visible(command)
    fence = _fence(line, 3)
    return f"{fence}sh\n{line}\n{fence}"


def _fence(text: str, least: int) -> str:
    """More backticks than stand anywhere in a row in the text."""
    longest = max(map(len, re.findall("`+", text)), default=0) if "`" in text else 0
    return "`" * max(least, 1 + longest)


def link(text: str, address: str) -> str:
    """A link of HTML with a text of ours; the text alone where the address is not one of the web."""
    return f'<a href="{escape(address)}">{escape(text)}</a>' if is_web(address) else escape(text)


def image(address: str, alt: str, width: int = 0) -> str:
    """An image on its own line, from the web or a file beside the page, so many pixels wide; or else ``alt`` alone."""
    if not is_web(address) and not _BESIDE.fullmatch(address):
        return prose(alt)
    size = f' width="{width}"' if width else ""
    return f'<img src="{escape(address)}" alt="{escape(seen(alt, _LONGEST_PROSE))}"{size}>'


def is_web(address: str) -> bool:
    """Is this an address that a page may name, with nothing in it that would have to be written otherwise?"""
    return re.fullmatch(r"https?://[A-Za-z0-9._~:/?#@!$&()*+,;=%\[\]-]{1,2000}", address) is not None


def _written(text: object, longest: int, as_code: Callable[[str], str]) -> str:
    """Pieces of a sentence with a blank between them; neighbours that are no plain words are one piece of code."""
    parts: list[str] = []
    odd: list[str] = []
    for found in _PIECES.finditer(seen(text, longest)):
        word = found["word"]
        if word is not None and not _is_plain(word, first=not parts and not odd):
            odd.append(word)
            continue
        if odd:
            parts.append(_with_end(" ".join(odd), as_code))
            odd = []
        parts.append(word if word is not None else as_code(found["quoted"]) + found["end"])
    return " ".join([*parts, _with_end(" ".join(odd), as_code)] if odd else parts)


def _with_end(odd: str, as_code: Callable[[str], str]) -> str:
    """A piece of code; the comma or the point of the sentence behind it is none of it."""
    stem = odd.rstrip(",.;")
    return as_code(stem) + odd[len(stem) :] if stem else as_code(odd)


def _is_plain(word: str, *, first: bool) -> bool:
    """Is this a word, a number or a sign between them, and nothing that a forge could take for anything else?

    Letters may have ``'`` or ``-`` between them, and the end of a sentence or of a bracket behind them. The ``first``
    word may begin a line, where a number with a point would begin a list.
    """
    if first and _POINT.fullmatch(word):
        return False
    inner = word.removeprefix("(").rstrip(_ENDS).removesuffix(")").rstrip(_ENDS)
    if _COMMON.fullmatch(inner):
        return False
    if inner in _SIGNS or _NUMBER.fullmatch(inner):
        return True
    return word == "…" or (bool(inner) and all(_is_letters(piece) for piece in re.split("['\u2019-]", inner)))


def _is_letters(piece: str) -> bool:
    letters = unicodedata.normalize("NFC", piece)
    return letters.isalpha() and not _turned_back(letters)


def _turned_back(text: str) -> str:
    if text.isascii():
        return ""
    return _LEFT_TO_RIGHT if any(unicodedata.bidirectional(char) in _RIGHT_TO_LEFT for char in text) else ""
