"""Text from elsewhere, made fit for one line of a record."""

from __future__ import annotations

import unicodedata

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
