"""A landed commit held against the entry that a fold made of it, without reading the record a second time.

An entry that was read (``envelope.read_envelope``) has told what the record says. Where the landed commit holds the
very bytes under which that record is committed, it says the same, and what is left to judge is its schema and the
commit; any other bytes are judged from the beginning.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from cd4ml.index.fold import Landed, check_known, check_landed
from cd4ml.index.record import Entry, encode
from cd4ml.index.validate import MAX_BYTES

_PLAIN = orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER
_INDENTED = _PLAIN | orjson.OPT_INDENT_2
_EXPONENT = re.compile(rb"e(-?)([1-9][0-9]*)(?=,?\n)")
"""Of a number: no text ends a line without its quotation mark."""


def check_proven(landed: Landed, entry: Entry) -> None:
    """Raises as ``check_landed`` does, of which it is the same. ``entry`` is one that was read from an index."""
    body = entry.record.body
    if len(landed.data) <= MAX_BYTES and isinstance(body, dict) and is_encoded(landed.data, body):
        check_known(landed, entry.record)
    else:
        check_landed(landed)


def is_encoded(data: bytes, body: dict[str, Any]) -> bool:
    """Are these the bytes that ``record.encode`` gives? It is asked only where a faster writer gives others."""
    try:
        return _written(body) == data or encode(body) == data
    except ValueError:
        return False


def _written(body: dict[str, Any]) -> bytes | None:
    """The same as ``encode``; nothing where some text has blanks side by side, or a number is too large."""
    try:
        if b"  " in orjson.dumps(body, option=_PLAIN):
            return None
        narrow = orjson.dumps(body, option=_INDENTED).replace(b"  ", b" ")  # what is left of them is layout
    except TypeError:
        return None
    return _EXPONENT.sub(_as_python_writes, narrow + b"\n")


def _as_python_writes(found: re.Match[bytes]) -> bytes:
    """``1e-5`` as ``1e-05``, and ``1e16`` as ``1e+16``."""
    return b"e" + (b"-" + found[2].rjust(2, b"0") if found[1] else b"+" + found[2])


def same_entry(landed: Landed, entry: Entry, data: bytes) -> bool:
    """Are ``data`` the bytes of the envelope that a fold of that number makes of a landed commit, and no others?

    The commit's own bytes are put in: nothing is written anew.
    """
    body = entry.record.body
    if not isinstance(body, dict) or not is_encoded(landed.data, body):
        return False
    if (landed.commit, landed.committer) != (entry.result_commit, entry.landed_by):
        return False
    record = landed.data[:-1].replace(b"\n", b"\n ")
    made = (
        b'{\n "fold": %d,\n "landed_by": ' % entry.fold
        + encode({"": entry.landed_by})[len(b'{\n "": ') : -len(b"\n}\n")]
        + b',\n "record": '
        + record
        + b',\n "record_sha256": "'
        + entry.record_sha256.encode()
        + b'",\n "result_commit": "'
        + entry.result_commit.encode()
        + b'"\n}\n'
    )
    return made == data
