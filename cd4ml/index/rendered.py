"""Rendered files, read back: YAML that cd4ml wrote once, and that anybody may have edited since.

One run's ``params.yaml`` and ``dvc.lock`` are much like those of the next. So a text in the plain form in which they
are written is read in pieces, one for each key of its outer mappings, and a piece that was seen before is not read
again. Each piece is a mapping of one key by itself, and none reaches into another; a text for which that cannot be
said is read as a whole.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import yaml

from cd4ml.spec.sources import ConfLoader

LARGEST = 4 << 20
"""Bytes of a file that is looked at."""

_PIECES_KEPT = 4096
_LARGEST_KEPT = 8 << 10
"""Characters of a piece that is kept in mind."""

_MOST_INDENT = 8


class _FastLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # C is not there everywhere
    """``ConfLoader`` with the library's parser in C, ten times as fast, where that is there."""


_FastLoader.yaml_implicit_resolvers = ConfLoader.yaml_implicit_resolvers


def read_rendered(data: bytes | None) -> Any:
    """The value of ``params.yaml`` or ``dvc.lock``; nothing for what is missing, too large, or no YAML.

    What ``dump_yaml`` wrote is read back as the value that it was. Parts of it may be parts of other answers, too: it
    is not to be changed.
    """
    if data is None or len(data) > LARGEST:
        return None
    try:
        text = data.decode("utf-8")
        try:
            return _in_pieces(text, 0)
        except (_NotPlainError, yaml.YAMLError, ValueError, TypeError):
            return yaml.load(text, Loader=_FastLoader)  # noqa: S506  # _FastLoader is a SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError):
        return None


class _NotPlainError(Exception):
    """The text cannot be read in pieces."""


_BREAKS = ("\n...", "\n---", "\n%", "\ufeff")
"""Where a document may end, or say something of itself."""
_ANCHOR = re.compile(r"&(?<![0-9A-Za-z]&)")
_COMMENTS = re.compile(r"(?:#[^\n]*\n)*")
_FIRST = r"[0-9A-Za-z_'\"]"
_OUTER = re.compile(rf"( *)([A-Za-z_][0-9A-Za-z_.-]*):\n(?=( +){_FIRST})")
_BEGINS = {indent: re.compile(rf" {{{indent}}}{_FIRST}") for indent in range(_MOST_INDENT + 1)}
_PIECE = {indent: re.compile(rf"\n {{{indent}}}(?={_FIRST})") for indent in range(_MOST_INDENT + 1)}


def _in_pieces(text: str, indent: int) -> dict[Any, Any]:
    """A mapping whose keys begin in this column. Raises _NotPlainError, or what YAML does for a piece that is none."""
    if indent == 0 and (any(one in text for one in _BREAKS) or _ANCHOR.search(text) or text[:1] in ".-%"):
        raise _NotPlainError
    starts = [found.start() + 1 for found in _PIECE[indent].finditer(text)]
    first = _COMMENTS.match(text).end() if indent == 0 else 0  # type: ignore[union-attr]  # it matches nothing, too
    if not _BEGINS[indent].match(text, first):
        raise _NotPlainError
    if starts and starts[0] == first:
        del starts[0]
    value: dict[Any, Any] = {}
    for start, end in zip([first, *starts], [*starts, len(text)], strict=True):
        part = text[start:end]
        value.update(_kept(part, indent) if len(part) <= _LARGEST_KEPT else _piece(part, indent))
    return value


def _piece(text: str, indent: int) -> dict[Any, Any]:
    """The mapping of one key that a piece is."""
    listed = _listed(text)
    if listed is not None:
        return listed
    outer = _OUTER.match(text)
    if outer is not None and len(outer[1]) == indent < len(outer[3]) <= _MOST_INDENT:
        return {_key(outer[2]): _in_pieces(text[outer.end() :], len(outer[3]))}
    return _loaded(text)


_kept = lru_cache(_PIECES_KEPT)(_piece)


def _loaded(text: str) -> dict[Any, Any]:
    value = yaml.load(text, Loader=_FastLoader)  # noqa: S506  # _FastLoader is a SafeLoader
    if not isinstance(value, dict) or len(value) != 1:
        raise _NotPlainError
    return value


@lru_cache(_PIECES_KEPT)
def _key(text: str) -> Any:
    """A plain key as YAML reads it: ``on`` and ``yes`` are none that is a text."""
    (key,) = _loaded(f"{text}:\n")
    return key


# ── lists of files, as DVC writes them into a lock ──

_LIST = re.compile(
    r"( *)(deps|outs):\n"
    r"(?:\1- path: [A-Za-z_][\w.-]*/[\w./-]*[A-Za-z_]\n\1  hash: md5\n\1  md5: [0-9a-f]{32}\n"
    r"\1  size: (?:0|[1-9][0-9]{0,17})\n)+",
    re.ASCII,
)
_LISTED = re.compile(r"path: (\S+)\n +hash: md5\n +md5: (\S+)\n +size: ([0-9]+)\n")
_LIKE_NUMBER = re.compile(r"[0-9e]*|0b[01]*")
"""A digest that YAML may read as a number where it is not in quotes."""


def _listed(text: str) -> dict[Any, Any] | None:
    """What DVC read and wrote for a stage, in the form in which it says so; nothing for any other text."""
    whole = _LIST.fullmatch(text)
    if whole is None:
        return None
    found = _LISTED.findall(text)
    if any(_LIKE_NUMBER.fullmatch(md5) for _, md5, _ in found):
        return None
    return {whole[2]: [{"path": path, "hash": "md5", "md5": md5, "size": int(size)} for path, md5, size in found]}
