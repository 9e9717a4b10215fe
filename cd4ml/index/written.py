"""The bytes under which a record is committed, by faster writers (orjson, msgspec) than Python's.

They are the same as ``record.encode`` gives but for some numbers, which have another form: whoever asks compares.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
import orjson

_SORTED = orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER
"""Whole numbers beyond 53 bits are left to the slower way, which knows which of them a record may hold."""

_EXPONENT = rb"(?<=[0-9]e)(-?)([1-9][0-9]*)"
_AT_LINE_END = re.compile(_EXPONENT + rb"(?=,?\n)")
"""Of a number: a text has its quotation mark there."""
_ANYWHERE = re.compile(_EXPONENT + rb"(?=[],}])")
"""Of a number, or in a text."""


def compact(body: Any) -> bytes:
    """Sorted, without blanks. Raises TypeError for what these writers do not know."""
    return orjson.dumps(body, option=_SORTED)


def laid_out(written: bytes) -> bytes:
    """What ``compact`` gave, a line for each value, as it is committed."""
    return msgspec.json.format(written, indent=1) + b"\n"


def as_python_lays_out(written: bytes) -> tuple[bytes, int]:
    """``1e-7`` as ``1e-07`` and ``1e16`` as ``1e+16`` in what is laid out; and in how many places."""
    return _AT_LINE_END.subn(_exponent, written)


def as_python_writes(written: bytes) -> tuple[bytes, int]:
    """The same in a compact form; in more places, and not to be used, where a text holds what looks like a number."""
    return _ANYWHERE.subn(_exponent, written)


def _exponent(found: re.Match[bytes]) -> bytes:
    return b"-" + found[2].rjust(2, b"0") if found[1] else b"+" + found[2]
