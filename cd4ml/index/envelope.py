"""Reading what a fold wrote, many at a time: the same entries as ``fold.parse_envelope``, in a fraction of the time.

An envelope is committed in one form, keys sorted and one space of indent a level, with the record inside just as
its own bytes, a space further in. So the bytes that ``record_sha256`` is over are cut out and moved back rather
than written anew, field by field; and a field that reads as it did in another record (of its environment, its data)
is not read again. Whatever is not in that form, or fails any check, is left to ``parse_envelope`` to judge.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import Any

from cd4ml.index.fold import entry_path, parse_envelope
from cd4ml.index.record import KINDS, Entry
from cd4ml.index.validate import MAX_DEPTH, Variant, check_relied_on, decode_bounded, variant_of
from cd4ml.spec.canonical import canonical_json

_HEAD = re.compile(rb'\{\n "fold": ([1-9][0-9]{0,15}),\n "landed_by": ("[^\n]*"),\n "record": (?=\{)')
_TAIL = re.compile(rb',\n "record_sha256": "([0-9a-f]{64})",\n "result_commit": "([0-9a-f]{40})"\n\}\n')
_TAIL_LENGTH = len(b',\n "record_sha256": "",\n "result_commit": ""\n}\n') + 64 + 40

_MARK, _QUOTE = b"\1", b'"'
_MARKED = b",\n " + _MARK
_BEGINS, _BETWEEN, _ENDS = b'{\n  "', b',\n  "', b"\n }"
_TOO_DEEP = b"\n" + b" " * (MAX_DEPTH + 2)

_RECURRING = frozenset(
    {
        *(
            "branch",
            "data",
            "environment",
            "is_base",
            "judge",
            "kind",
            "outcome",
            "primary",
            "reason",
            "schema",
            "side",
        ),
        *("split", "table", "threads", "validation", "answer", "conflicts", "problems"),
    }
)
"""Fields that hold the same in many records."""
_MOST = 5_000
"""Fields that are kept in mind."""


def read_envelope(data: bytes, path: str) -> Entry:
    """The entry that the index holds at ``path``; raises as ``parse_envelope`` does.

    Of two envelopes with the same record this may accept one that is laid out otherwise than a fold does.
    """
    return Reader().read(data, path)


@dataclass(frozen=True)
class _Field:
    """A field of a record that recurs: name, value, its bytes in the record and in the record's canonical form.

    ``fits`` are the variants of records that it was found in order in.
    """

    name: str
    value: Any
    written: bytes
    canonical: bytes
    fits: set[Variant] = field(default_factory=set)


@dataclass
class Reader:
    """Reads envelopes, and keeps in mind what recurs in them: values are shared between the entries."""

    _known: dict[bytes, _Field] = field(default_factory=dict)
    _names: dict[bytes, str] = field(default_factory=dict)

    def read(self, data: bytes, path: str) -> Entry:
        """The entry that the index holds at ``path``; as ``read_envelope``."""
        try:
            entry = self._read(data, path)
        except (ValueError, TypeError, KeyError, RecursionError, AttributeError):  # IntegrityError: judged anew below
            entry = None
        return entry or parse_envelope(data, path)

    def _read(self, data: bytes, path: str) -> Entry | None:
        head, tail = _HEAD.match(data), _TAIL.fullmatch(data, max(0, len(data) - _TAIL_LENGTH))
        if not head or not tail or _TOO_DEEP in data or _MARK in data:
            return None
        start, end = head.end(), tail.start()
        if not data.startswith(_BEGINS, start) or not data.endswith(_ENDS, start, end):
            return None
        pieces = data[start + len(_BEGINS) : end - len(_ENDS)].split(_BETWEEN)
        known = [self._known.get(piece) for piece in pieces]
        new = _new([piece for piece, one in zip(pieces, known, strict=True) if one is None])
        if new is None:
            return None
        rest = iter(zip(*new, strict=True))
        found = [(one.name, one.value, one.written, one.canonical) if one else next(rest) for one in known]
        body = {one[0]: one[1] for one in found}
        names = list(body)
        sha256 = hashlib.sha256(b'{\n "' + b',\n "'.join([one[2] for one in found]) + b"\n}\n").hexdigest()
        if sha256 != tail[1].decode() or len(names) != len(found) or names != sorted(names):
            return None
        if not _is_named(body, b'{"' + b',"'.join([one[3] for one in found if one[0] != "id"]) + b"}"):
            return None
        variant = variant_of(body)
        record = check_relied_on(body, {one.name for one in known if one and variant in one.fits})
        if entry_path(record) != path:
            return None
        self._keep(variant, pieces, known, found)
        return Entry(record, sha256, tail[2].decode(), self._name(head[2]), int(head[1]))

    def _keep(
        self, variant: Variant, pieces: list[bytes], known: list[_Field | None], found: list[tuple[Any, ...]]
    ) -> None:
        """Keep in mind the fields that recur, which are in order in a record of this variant."""
        if len(self._known) > _MOST:
            self._known.clear()
        for piece, one, told in zip(pieces, known, found, strict=True):
            if one is None and told[0] in _RECURRING:
                one = self._known[piece] = _Field(*told)
            if one is not None:
                one.fits.add(variant)

    def _name(self, quoted: bytes) -> str:
        name = self._names.get(quoted)
        if name is None:
            name = str(json.loads(quoted))
            name.encode()  # a lone surrogate is refused
            if "\0" in name:
                raise ValueError("NUL")
            self._names[quoted] = name
        return name


_Told = tuple[list[str], list[Any], list[bytes], list[bytes]]
"""Of fields: names, values, their bytes in the record and in its canonical form."""


def _new(pieces: list[bytes]) -> _Told | None:
    """The fields that are read from these pieces of an envelope, together. Raises ValueError for what are none.

    Where no text has an escaped quote or letter, blanks are layout alone, and a quote and a colon end a key: should
    they begin a text, the id will not fit.
    """
    joined = _MARKED.join(pieces).replace(b"\n ", b"\n")
    if b"\\" in joined and (b'\\"' in joined or b"\\u" in joined):
        return _escaped(pieces)
    written = joined.split(_MARKED[:2] + _MARK)
    canonical = b"".join([line.lstrip(b" ") for line in joined.split(b"\n")]).replace(b'": ', b'":').split(b"," + _MARK)
    values: dict[str, Any] = decode_bounded(f'{{"{joined.replace(_MARK, _QUOTE).decode()}}}')
    names = [piece[: piece.index(b'":')].decode() for piece in written]
    if list(values) != names or len(canonical) != len(names):
        return None
    return names, list(values.values()), written, canonical


def _escaped(pieces: list[bytes]) -> _Told | None:
    """The same, each field by itself, where a text has escapes."""
    told = []
    for piece in pieces:
        written = piece.replace(b"\n ", b"\n")
        ((name, value),) = decode_bounded(f'{{"{written.decode()}}}').items()
        canonical = canonical_json({name: value})
        if b"\\u0000" in canonical:
            return None
        told.append((name, value, written, canonical[2:-1]))
    names, values, written_, canonical_ = map(list, zip(*told, strict=True))
    return names, values, written_, canonical_


def _is_named(body: dict[str, Any], canonical: bytes) -> bool:
    """Is the id derived from the rest? As ``record_id`` says, from the canonical form of the rest that is at hand."""
    return bool(body["id"] == KINDS[body["kind"]][0] + hashlib.sha256(canonical).hexdigest()[:20])
