"""What a forge answered, held to its type: whatever is of another one is refused, in one line."""

from __future__ import annotations

import re
from typing import Any

from cd4ml.gateways.forge import ForgeError

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def text(value: Any, what: str, *, absent: bool = False) -> str:
    """A text, or (where it may be ``absent``) the empty one for nothing. Raises ForgeError."""
    if absent and value is None:
        return ""
    if not isinstance(value, str):
        raise _unreadable(what)
    return value


def number(value: Any, what: str) -> int:
    """A whole number above 0. Raises ForgeError."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _unreadable(what)
    return value


def commit(value: Any) -> str:
    """An object id in full, or ``""`` where there is none yet. Raises ForgeError."""
    found = text(value, "a commit", absent=True)
    if found and not _COMMIT.fullmatch(found):
        raise _unreadable("a commit")
    return found


def texts(value: Any, what: str) -> tuple[str, ...]:
    """A list of texts. Raises ForgeError."""
    if not isinstance(value, list):
        raise _unreadable(what)
    return tuple(text(one, what) for one in value)


def _unreadable(what: str) -> ForgeError:
    return ForgeError(f"the forge answered something else than {what}")
