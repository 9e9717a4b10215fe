"""Reading what a fold wrote, many at a time: the same entries as ``fold.parse_envelope``, in a fraction of the time.

An envelope is committed in one form, keys sorted and one space of indent a level, with the record inside just as
its own bytes, a space further in. So the bytes that ``record_sha256`` is over are cut out and moved back rather
than written anew, and the record is read by a faster parser (orjson). That it was read as Python's would read it
follows from its canonical form: but for blanks it is the text that was read, so no key is there twice, none is out of
order, and every number is what it was. Whatever is not in that form, or fails any check, is left to
``parse_envelope`` to judge.
"""

from __future__ import annotations

import hashlib
import json
import re
from functools import lru_cache
from typing import Any

import orjson

from cd4ml.index.fold import entry_path, parse_envelope
from cd4ml.index.record import KINDS, Entry
from cd4ml.index.relied_on import check_relied_on
from cd4ml.index.validate import MAX_BYTES, MAX_DEPTH, decode_bounded
from cd4ml.spec.canonical import canonical_json

_HEAD = re.compile(rb'\{\n "fold": ([1-9][0-9]{0,15}),\n "landed_by": ("[^\n]*"),\n "record": (?=\{)')
_TAIL = re.compile(rb',\n "record_sha256": "([0-9a-f]{64})",\n "result_commit": "([0-9a-f]{40})"\n\}\n')
_TAIL_LENGTH = len(b',\n "record_sha256": "",\n "result_commit": ""\n}\n') + 64 + 40

_TOO_DEEP = b"\n" + b" " * (MAX_DEPTH + 2)
_SORTED = orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER
"""Whole numbers beyond 53 bits are left to the slower way, which knows which of them a record may hold."""


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
    if not head or not tail or len(data) > MAX_BYTES or _TOO_DEEP in data:
        return None
    text = data[head.end() : tail.start()]
    if hashlib.sha256(text.replace(b"\n ", b"\n") + b"\n").hexdigest() != tail[1].decode():
        return None
    read = _value_of(text)
    if read is None:
        return None
    body, canonical = read
    if not _is_named(body, canonical):
        return None
    record = check_relied_on(body)
    if entry_path(record) != path:
        return None
    return Entry(record, tail[1].decode(), tail[2].decode(), _name(head[2]), int(head[1]))


def _value_of(text: bytes) -> tuple[dict[str, Any], bytes] | None:
    """A record and its canonical form; nothing where the text says it otherwise. Raises ValueError or TypeError."""
    if b"\\u0000" in text:
        return None
    # Blanks are layout, or are in texts, which read the same either way.
    plain = text.translate(None, b" \n")
    body = orjson.loads(text)
    try:
        canonical = orjson.dumps(body, option=_SORTED)
    except TypeError:
        canonical = b""
    if canonical.translate(None, b" ") != plain:  # such as 1e-05, which orjson writes as 1e-5
        canonical = _as_python_writes(canonical, text)
    if canonical.translate(None, b" ") != plain:
        body = decode_bounded(text.decode())
        canonical = canonical_json(body)
        if canonical.translate(None, b" ") != plain:
            return None
    return body, canonical


_SMALL_BELOW = re.compile(rb"e-0[1-9](?=,?\n)")
_SMALL = re.compile(rb"e-([1-9])(?=[],}])(?<=[0-9]e-[1-9])")


def _as_python_writes(canonical: bytes, text: bytes) -> bytes:
    """The same with small numbers as they are written in the text; as it is where a text in it looks like one."""
    written, count = _SMALL.subn(rb"e-0\1", canonical)
    return written if count == len(_SMALL_BELOW.findall(text)) else canonical  # no text ends a line


def _is_named(body: dict[str, Any], canonical: bytes) -> bool:
    """Is the id derived from the rest? As ``record_id`` says, from the canonical form, which is at hand."""
    name = body["id"]
    rest = canonical.replace(b'"id":"%s",' % name.encode(), b"", 1)  # sorted, it is neither the last nor alone
    return bool(name == KINDS[body["kind"]][0] + hashlib.sha256(rest).hexdigest()[:20])


@lru_cache(maxsize=1000)
def _name(quoted: bytes) -> str:
    """Who landed a record. Raises ValueError for what is no text that can be stored."""
    name = str(json.loads(quoted))
    name.encode()  # a lone surrogate is refused
    if "\0" in name:
        raise ValueError("NUL")
    return name
