"""The bytes under which a record is committed, by faster writers (orjson, msgspec) than Python's.

They are the same as ``record.encode`` gives but for some numbers, which have another form: whoever asks compares.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

_SORTED = orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER
"""Whole numbers beyond 53 bits are left to the slower way, which knows which of them a record may hold."""

# Each begins with what can be looked for fast, and looks back from there.
_EXPONENT = rb"e(?<=[0-9]e)(-?)([1-9][0-9]*)"
_FIFTH_PLACE = rb"0\.0000(?<![0-9]0\.0000)([1-9])([0-9]*)"

_AT_LINE_END = rb"(?=,?\n)"
"""After a number: a text has its quotation mark there."""
_ANYWHERE = rb"(?=[],}])"
"""After a number, or in a text."""


def compact(body: Any) -> bytes:
    """Sorted, without blanks. Raises TypeError for what these writers do not know."""
    return orjson.dumps(body, option=_SORTED)


def laid_out(written: bytes) -> bytes:
    """What ``compact`` gave, a line for each value, as it is committed."""
    import msgspec  # takes longer to load than all else that a search of a cache that is there needs of this

    return msgspec.json.format(written, indent=1) + b"\n"


def as_python_lays_out(written: bytes) -> tuple[bytes, int]:
    """``1e-7`` as ``1e-07``, ``1e16`` as ``1e+16`` and ``0.00001`` as ``1e-05`` in what is laid out.

    And in how many places.
    """
    return _as_python(written, _AT_LINE_END)


def as_python_writes(written: bytes) -> tuple[bytes, int]:
    """The same in a compact form; in more places, and not to be used, where a text holds what looks like a number."""
    return _as_python(written, _ANYWHERE)


def _as_python(written: bytes, end: bytes) -> tuple[bytes, int]:
    written, exponents = re.subn(_EXPONENT + end, _exponent, written)
    written, small = re.subn(_FIFTH_PLACE + end, _fifth_place, written)
    return written, exponents + small


def _exponent(found: re.Match[bytes]) -> bytes:
    return b"e-" + found[2].rjust(2, b"0") if found[1] else b"e+" + found[2]


def _fifth_place(found: re.Match[bytes]) -> bytes:
    return found[1] + (b"." + found[2] if found[2] else b"") + b"e-05"
