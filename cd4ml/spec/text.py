"""Text from elsewhere, made fit for one line."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from cd4ml.spec.secrets import redacted


def one_line(text: object, most: int) -> str:
    """The text on one line of at most ``most`` characters, without controls or surrogates.

    What seems to be a credential is left out, and before the cut: half a token is no longer found.
    """
    kept = "".join(
        " " if character.isspace() else character
        for character in redacted(str(text))
        if character.isspace() or unicodedata.category(character) not in ("Cc", "Cs", "Cf")
    )
    return " ".join(kept.split())[:most]


def listing(names: Iterable[str], most: int = 8) -> str:
    """The names in one line: the first ``most``, and how many more there are."""
    known = list(names)
    more = f" and {len(known) - most} more" if len(known) > most else ""
    return ", ".join(known[:most]) + more
