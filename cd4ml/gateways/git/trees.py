"""Tree objects as values: read, changed along a few paths, and named, without reading what is not touched.

The cost follows what changes: an index of 100,000 records takes one more in the four trees above it. The format is
that of "git cat-file tree": ``MODE NAME NUL ID``, the id as 20 bytes, in the order of names where a folder's name
counts as ending in ``/``.
"""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

_FILE = b"100644"
_FOLDER = b"40000"

Entries = dict[bytes, tuple[bytes, bytes]]
"""Of one tree: mode and id by name."""

_ENTRY = re.compile(rb"([^ ]+) ([^\0]*)\0(.{20})", re.DOTALL)
_BESIDE = len(b" \0") + 20

_Node = dict[bytes, "bytes | _Node"]


def parse_tree(data: bytes) -> Entries:
    """The entries of a tree object. Raises ValueError for what is none."""
    parts = _ENTRY.findall(data)
    if sum(len(mode) + len(name) + _BESIDE for mode, name, _ in parts) != len(data):
        raise ValueError("no tree object")
    return {name: (mode, object_id) for mode, name, object_id in parts}


def encode_tree(entries: Entries) -> bytes:
    """The tree object that holds these entries."""
    ordered = sorted(entries.items(), key=lambda item: item[0] + b"/" * (item[1][0] == _FOLDER))
    return b"".join(mode + b" " + name + b"\0" + object_id for name, (mode, object_id) in ordered)


def object_name(kind: str, data: bytes) -> bytes:
    """The id of an object of that kind, 20 bytes: SHA-1 over its header and content."""
    return hashlib.sha1(f"{kind} {len(data)}\0".encode() + data, usedforsecurity=False).digest()


_PACKED_KINDS = {"commit": 1, "tree": 2, "blob": 3}


def encode_pack(objects: Sequence[tuple[str, bytes]]) -> bytes:
    """A pack of whole objects, given as kind and content, in the format that "git unpack-objects" reads."""
    parts = [b"PACK" + struct.pack(">II", 2, len(objects))]
    for kind, data in objects:
        parts += [_packed_head(_PACKED_KINDS[kind], len(data)), zlib.compress(data, 1)]
    body = b"".join(parts)
    return body + hashlib.sha1(body, usedforsecurity=False).digest()


def _packed_head(kind: int, size: int) -> bytes:
    """Four bits of the size beside the kind, then seven a byte, the lowest first; the highest bit says: more."""
    byte, left = kind << 4 | size & 15, size >> 4
    head = []
    while left:
        head.append(byte | 0x80)
        byte, left = left & 0x7F, left >> 7
    return bytes([*head, byte])


@dataclass
class Growth:
    """The objects that a change makes, by id; ``read`` gives the tree object of an id."""

    read: Callable[[bytes], bytes]
    blobs: dict[bytes, bytes] = field(default_factory=dict)
    trees: dict[bytes, bytes] = field(default_factory=dict)

    def tree(self, base: bytes | None, files: Mapping[str, bytes], without: str = "") -> bytes:
        """The id of a tree like ``base`` with these files put in and the folder ``without`` left out.

        A file of the base where a folder has to be, or the other way round, gives way.
        """
        node: _Node = {}
        for path, data in files.items():
            inner = node
            *folders, name = _steps(path)
            for folder in folders:
                found = inner.setdefault(folder, {})
                if isinstance(found, bytes):
                    found = inner[folder] = {}
                inner = found
            inner[name] = data
        return self._changed(base, node, tuple(_steps(without)) if without else ()) or self._kept(b"")

    def _changed(self, base: bytes | None, node: _Node, without: tuple[bytes, ...]) -> bytes | None:
        """The changed tree's id; nothing when it holds nothing."""
        entries = parse_tree(self.read(base)) if base is not None else {}
        if without and without[0] in entries and without[0] not in node:
            self._set(entries, without[0], {}, without)
        for name, child in node.items():
            if isinstance(child, bytes):
                object_id = object_name("blob", child)
                self.blobs[object_id] = child
                entries[name] = (_FILE, object_id)
            else:
                self._set(entries, name, child, without)
        return self._kept(encode_tree(entries)) if entries else None

    def _set(self, entries: Entries, name: bytes, child: _Node, without: tuple[bytes, ...]) -> None:
        mode, known = entries.get(name, (b"", b""))
        below = without[1:] if without[:1] == (name,) else ()
        if without == (name,):
            mode = b""  # the whole of it goes
        elif mode != _FOLDER and not child:
            return
        changed = self._changed(known if mode == _FOLDER else None, child, below)
        if changed is None:
            entries.pop(name, None)
        else:
            entries[name] = (_FOLDER, changed)

    def _kept(self, data: bytes) -> bytes:
        object_id = object_name("tree", data)
        self.trees[object_id] = data
        return object_id


def _steps(path: str) -> Iterator[bytes]:
    return (part for part in path.encode("utf-8", "surrogateescape").split(b"/") if part)
