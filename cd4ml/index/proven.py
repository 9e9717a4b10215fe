"""A landed commit held against the entry that a fold made of it, without reading the record a second time.

An entry that was read (``envelope.read_envelope``) has told what the record says. Where the landed commit holds the
very bytes under which that record is committed, it says the same, and what is left to judge is its schema and the
commit; any other bytes are judged from the beginning.
"""

from __future__ import annotations

from typing import Any

from cd4ml.index.fold import Landed, check_known, check_landed
from cd4ml.index.record import Entry, encode
from cd4ml.index.validate import MAX_BYTES
from cd4ml.index.written import as_python_lays_out, compact, laid_out


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
        quickly = as_python_lays_out(laid_out(compact(body)))[0]
    except TypeError:  # a number that is too large for the faster writer
        quickly = b""
    try:
        return quickly == data or encode(body) == data
    except ValueError:
        return False


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
