"""Text from elsewhere, made fit for one line of a record."""

from __future__ import annotations

import unicodedata

from cd4ml.spec.secrets import secret_kind


def one_line(text: object, most: int) -> str:
    """The text on one line of at most ``most`` characters, without controls or surrogates.

    Of a text that seems to hold a credential nothing is kept: it would be recorded for good.
    """
    kept = "".join(
        " " if character.isspace() else character
        for character in str(text)
        if character.isspace() or unicodedata.category(character) not in ("Cc", "Cs", "Cf")
    )
    line = " ".join(kept.split())[:most]
    kind = secret_kind(line)
    return f"(left out: it seems to hold {kind})" if kind else line
