"""Runs as a table with typed columns: what CSV, Parquet, a data frame and ``--columns`` show."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cd4ml.errors import UsageError
from cd4ml.index.asked import forms_of
from cd4ml.index.fields import FIELDS, GROUPS, LISTS, Holds, holds_of
from cd4ml.index.paths import Path, path_text, split_path

Kind = Literal["text", "texts", "integer", "number", "truth", "instant", "mixed"]
"""What the values of a column are: ``texts`` is a list of text, ``instant`` ISO 8601 in UTC, ``mixed`` any JSON."""

Doc = Mapping[str, Any]

LEFT_OUT = ("packages",)
"""Groups that are shown only when they are asked for: hundreds of columns that few look at."""

_KINDS: Mapping[Holds, Kind] = {
    Holds.TEXT: "text",
    Holds.CHOICE: "text",
    Holds.VERSION: "text",
    Holds.TIME: "instant",
    Holds.NUMBER: "number",
    Holds.TRUTH: "truth",
}
_WHOLE = frozenset({("fold",), ("validation", "asked"), ("validation", "returned")})
_COUNTED = frozenset({"data", "table", "split", "slices"})
_MOST = 1 << 63


@dataclass(frozen=True)
class Column:
    name: str
    kind: Kind
    values: tuple[Any, ...]
    """One a row; nothing where a run has none."""


@dataclass(frozen=True)
class Grid:
    columns: tuple[Column, ...]
    height: int

    @property
    def rows(self) -> Iterator[tuple[Any, ...]]:
        """The same by row."""
        if not self.columns:
            return iter([()] * self.height)
        return zip(*(column.values for column in self.columns), strict=True)


def grid(docs: Sequence[Doc], asked: Iterable[Path] = (), held: Iterable[str] = ()) -> Grid:
    """The runs, as ``search --json`` lists them, with a column for each path asked for.

    A path that holds others (``metrics``, ``params.model``) gives a column for each of them that some run here
    has. Without ``asked``: every field of one name, every list, every metric in ``held`` (written paths, sides
    said; so that the columns do not depend on what was found), and every other value that some run here has but
    those of ``LEFT_OUT``.
    """
    places = list(asked)
    columns = [column for path in places for column in _columns(docs, path)] if places else _every(docs, held)
    return Grid(tuple({column.name: column for column in columns}.values()), len(docs))


def _columns(docs: Sequence[Doc], path: Path) -> list[Column]:
    for form in forms_of(path):
        values = tuple(value_at(doc, form) for doc in docs)
        if any(isinstance(value, Mapping) for value in values):
            return list(_parts(docs, form))
        if any(value is not None for value in values):
            return [Column(path_text(path), _kind(form, values), values)]
    nothing = (None,) * len(docs)
    return [Column(path_text(path), _kind(forms_of(path)[0], nothing), nothing)]


def _every(docs: Sequence[Doc], held: Iterable[str]) -> list[Column]:
    names = [(name,) for name, holds in FIELDS.items() if holds is not Holds.AGE]
    found: list[Column] = []
    for path in (*names, *LISTS):
        values = tuple(value_at(doc, path) for doc in docs)
        found.append(Column(path_text(path), _kind(path, values), values))
    metrics = [split_path(name) for name in held if name.startswith("metrics.")]
    for path in (path for path in metrics if len(path) > 2):
        values = tuple(value_at(doc, path) for doc in docs)
        found.append(Column(path_text(path), "number", values))
    for head in GROUPS:
        if head not in LEFT_OUT and (head,) not in LISTS:
            found += _parts(docs, (head,))
    return found


def _parts(docs: Sequence[Doc], path: Path) -> Iterator[Column]:
    """A column for each value below the path that some run has, in the order in which they are met."""
    by_path: dict[Path, dict[int, Any]] = {}
    for position, doc in enumerate(docs):
        for below, value in _leaves(value_at(doc, path), path):
            by_path.setdefault(below, {})[position] = value
    for below, values in by_path.items():
        column = tuple(values.get(position) for position in range(len(docs)))
        yield Column(path_text(below), _kind(below, column), column)


def _leaves(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    """Every value that is no mapping; a list is one."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, str(key)))
    elif value is not None:
        yield path, value


def value_at(doc: Doc, path: Path) -> Any:
    """What a run has at a path; nothing where there is none."""
    value: Any = keyed(doc["tags"]) if path[0] == "tags" and len(path) > 1 else doc.get(path[0])
    for key in path[1:]:
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, list) and key.isdecimal() and key.isascii() and str(int(key)) == key:
            value = value[int(key)] if int(key) < len(value) else None
        else:
            return None
    return value


def keyed(tags: Iterable[str]) -> dict[str, str]:
    """Tags of the form ``KEY=VALUE`` by key; of two with one key the first counts."""
    found: dict[str, str] = {}
    for tag in tags:
        key, equals, value = tag.partition("=")
        if key and equals:
            found.setdefault(key, value)
    return found


def _kind(path: Path, values: Sequence[Any]) -> Kind:
    if path in LISTS:
        return "texts"
    if path in _WHOLE or (path[0] in _COUNTED and path[-1] == "rows"):
        return "integer"
    known = _known(path)
    kind = _KINDS.get(known) if known else None
    return kind or _kind_of(values)


def _known(path: Path) -> Holds | None:
    try:
        return holds_of(path)
    except UsageError:  # what holds several values, or is deeper than a filter goes
        return None


def _kind_of(values: Sequence[Any]) -> Kind:
    """The kind that fits all values that are there."""
    types = {type(value) for value in values if value is not None}
    if types == {bool}:
        return "truth"
    if types == {str}:
        return "text"
    if types == {int} and all(-_MOST <= value < _MOST for value in values if value is not None):
        return "integer"
    if types and types <= {int, float} and all(abs(value) < 2**1023 for value in values if value is not None):
        return "number"
    return "mixed"
