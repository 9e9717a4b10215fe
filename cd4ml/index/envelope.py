"""Reading what a fold wrote, many at a time: the same entries as ``fold.parse_envelope``, in a fraction of the time.

An envelope is committed in one form, keys sorted and one space of indent a level, with the record inside just as
its own bytes, a space further in. So the bytes that ``record_sha256`` is over are cut out and moved back rather
than written anew. Whatever is not in that form, or fails any check, is left to ``parse_envelope`` to judge.
"""

from __future__ import annotations

import hashlib
import json
import re

from cd4ml.index.fold import entry_path, parse_envelope
from cd4ml.index.record import KINDS, Entry
from cd4ml.index.validate import MAX_DEPTH, check_relied_on, decode_bounded
from cd4ml.spec.canonical import canonical_json

_HEAD = re.compile(rb'\{\n "fold": ([1-9][0-9]{0,15}),\n "landed_by": ("[^\n]*"),\n "record": (?=\{)')
_TAIL = re.compile(rb',\n "record_sha256": "([0-9a-f]{64})",\n "result_commit": "([0-9a-f]{40})"\n\}\n')
_TAIL_LENGTH = len(b',\n "record_sha256": "",\n "result_commit": ""\n}\n') + 64 + 40

_TOO_DEEP = b"\n" + b" " * (MAX_DEPTH + 1)


def read_envelope(data: bytes, path: str) -> Entry:
    """The entry that the index holds at ``path``; raises as ``parse_envelope`` does.

    Of two envelopes with the same record this may accept one that is laid out otherwise than a fold does.
    """
    try:
        entry = _read(data, path)
    except (ValueError, TypeError, KeyError, RecursionError, AttributeError):  # IntegrityError: judged anew below
        entry = None
    return entry or parse_envelope(data, path)


def _read(data: bytes, path: str) -> Entry | None:
    head, tail = _HEAD.match(data), _TAIL.fullmatch(data, max(0, len(data) - _TAIL_LENGTH))
    if not head or not tail:
        return None
    written = data[head.end() : tail.start()].replace(b"\n ", b"\n") + b"\n"
    sha256 = tail[1].decode()
    if hashlib.sha256(written).hexdigest() != sha256 or _TOO_DEEP in written:
        return None
    landed_by, body = json.loads(head[2]), decode_bounded(written.decode())
    if not _is_named(body, _canonical(written, body)) or "\0" in landed_by:
        return None
    record = check_relied_on(body)
    landed_by.encode()  # a lone surrogate is refused
    if entry_path(record) != path:
        return None
    return Entry(record, sha256, tail[2].decode(), landed_by, int(head[1]))


def _canonical(written: bytes, body: object) -> bytes:
    """The canonical form of a record, from the text that it was written in where that takes no more than blanks out.

    Raises ValueError for text that cannot be stored.
    """
    if b'\\"' not in written and b"\\u" not in written:
        # without an escaped quote, a quote and a colon end a key; should they begin a text, the id will not fit
        return b"".join([line.lstrip(b" ") for line in written.split(b"\n")]).replace(b'": ', b'":')
    canonical = canonical_json(body)
    if b"\\u0000" in canonical:
        raise ValueError("NUL")
    return canonical


def _is_named(body: dict[str, object], canonical: bytes) -> bool:
    """Is the id derived from the rest? As ``record_id`` says, from the canonical form that is at hand."""
    named = str(body["id"])
    content = canonical.replace(f'"id":"{named}",'.encode(), b"", 1)
    return named == KINDS[str(body["kind"])][0] + hashlib.sha256(content).hexdigest()[:20]
