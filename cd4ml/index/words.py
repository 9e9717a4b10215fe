"""Free text: what a run says of itself in words, and the words to look for in it."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping

_FIELDS = ("name", "branch", "hypothesis", "conclusion", "author", "reason")


def folded(text: str) -> str:
    """The text with case, width and composed letters put away, so that ``Größe`` and ``GRÖSSE`` are one."""
    if text.isascii():
        return text.lower()  # the same, sooner
    # Folding can undo the normal form and normalizing can bring back case, so each is done until both hold.
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).casefold()


def words_of(text: str) -> tuple[str, ...]:
    """The words to look for, each once, folded; words are what stands between blanks."""
    return tuple(dict.fromkeys(folded(text).split()))


def text_of(doc: Mapping[str, object], tags: Iterable[str]) -> str:
    """What free text is looked for in: name, branch, hypothesis, conclusion, author, reason and tags, folded.

    Each is on a line of its own, so that no word is found across two of them.
    """
    return folded("\n".join(str(text) for text in (*map(doc.get, _FIELDS), *tags) if text))
