"""What else a search is asked for: the order, the columns; and which of its fields no run holds."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar

from cd4ml.errors import UsageError
from cd4ml.index.fields import (
    CHOICES,
    DEFAULT_SIDE,
    FIELDS,
    GROUPS,
    LISTS,
    NOUNS,
    OF_LISTS,
    OPERATORS,
    SYNONYMS,
    Holds,
    canonical,
    check_column,
    forms,
    holds_of,
    meaning_of,
    nearest,
    with_side,
)
from cd4ml.index.filter import Field, Filter, IsNull, Text, operands_of
from cd4ml.index.paths import Path, path_end, path_text, split_path
from cd4ml.index.place import located

MAX_CHARACTERS = 4000
_BLANKS = re.compile(r"\s*")
_WORD = re.compile(r"[^\s,]+")
_DIRECTIONS = ("asc", "desc")
_MOST_BELOW = 4

Item = TypeVar("Item")


@dataclass(frozen=True)
class Term:
    """A field to order by; what does not have it comes last in either direction."""

    field: Field
    descending: bool = False


def parse_order(text: str) -> tuple[Term, ...]:
    """``metrics.rmse desc, started``: fields, each followed by ``asc`` (what is meant without) or ``desc``.

    Raises UsageError that shows the place for a field that there is not, or anything else that stands there.
    """
    return tuple(_items("order", text, _term))


def parse_columns(text: str) -> tuple[Path, ...]:
    """``branch, metrics.rmse, params.model``: fields, or what holds several. Raises as ``parse_order`` does."""
    return tuple(dict.fromkeys(_items("columns", text, _column)))


def _items(what: str, text: str, read: Callable[[str, int], tuple[Item, int]]) -> Iterator[Item]:
    """The items of a list with commas between them."""
    if len(text) > MAX_CHARACTERS:
        raise UsageError(f"{what}: {len(text)} characters; at most {MAX_CHARACTERS} are read")
    position = 0
    while True:
        position = _blanks(text, position)
        try:
            item, position = read(text, position)
        except _AtError as error:
            raise located(what, text, error.position, str(error)) from None
        except UsageError as error:
            raise located(what, text, position, str(error)) from None
        yield item
        position = _blanks(text, position)
        if position == len(text):
            return
        if text[position] != ",":
            raise located(what, text, position, "expected ',' or the end here")
        position += 1


class _AtError(UsageError):
    """A mistake at another place than where the item begins."""

    def __init__(self, message: str, position: int) -> None:
        self.position = position
        super().__init__(message)


def _term(text: str, start: int) -> tuple[Term, int]:
    path, end = _path(text, start)
    if holds_of(path) is Holds.AGE:
        raise UsageError("age is not stored; order by finished")
    if path in LISTS:
        raise UsageError(f"{path_text(path)} holds several texts, which have no order")
    word = _WORD.match(text, _blanks(text, end))
    if word is None:
        return Term(Field(path)), end
    if word[0].lower() not in _DIRECTIONS:
        raise _AtError("expected asc, desc, ',' or the end here", word.start())
    return Term(Field(path), word[0].lower() == "desc"), word.end()


def _column(text: str, start: int) -> tuple[Path, int]:
    path, end = _path(text, start)
    check_column(path)
    return path, end


def _path(text: str, start: int) -> tuple[Path, int]:
    end = path_end(text, start)
    if end == start:
        raise UsageError("expected a field such as metrics.rmse here")
    return canonical(split_path(text[start:end])), end


def _blanks(text: str, position: int) -> int:
    match = _BLANKS.match(text, position)
    return match.end() if match else position


def fields_of(filter_: Filter | None) -> tuple[Path, ...]:
    """The fields that a filter compares. Not those that it asks whether they are there."""
    if filter_ is None:
        return ()
    if isinstance(filter_, Text | IsNull):
        return ()
    operands = operands_of(filter_)
    if operands:
        return tuple(dict.fromkeys(chain.from_iterable(map(fields_of, operands))))
    return (filter_.field.path,) if hasattr(filter_, "field") else ()


def unheld(asked: Iterable[Path], held: Collection[str], compared: Collection[Path] = ()) -> tuple[str, ...]:
    """A line for each field that takes names and that no run holds, with the nearest that some run does.

    Of those that are ``compared``, a line also where runs hold keys below it, and no value. ``held`` is every written
    path that some run holds, sides said; where there is none, there is nothing to say.
    """
    known = set(held)
    if not known:
        return ()
    paths = [path for path in dict.fromkeys((*compared, *asked)) if path[0] in GROUPS and path not in LISTS]
    groups = [path for path in paths if path in compared and _is_held(path, known) and not _is_value(path, known)]
    return (
        *(_hint(path, known) for path in paths if not _is_held(path, known)),
        *(_hint_below(path, known) for path in groups),
    )


def _is_value(path: Path, known: Collection[str]) -> bool:
    return any(path_text(form) in known for form in forms_of(path))


def _hint_below(path: Path, known: Iterable[str]) -> str:
    text = path_text(path)
    below = sorted(name for name in known if name.startswith(f"{text}."))
    more = f" and {len(below) - _MOST_BELOW} more" if len(below) > _MOST_BELOW else ""
    return f"{text} is a group of keys, and no value: {', '.join(below[:_MOST_BELOW])}{more}"


def _is_held(path: Path, known: Collection[str]) -> bool:
    """Whether some run has the path, or anything below it."""
    texts = [path_text(form) for form in forms_of(path)]
    return any(text in known for text in texts) or any(name.startswith(f"{text}.") for text in texts for name in known)


def forms_of(path: Path) -> tuple[Path, ...]:
    """What a path may mean as a column, the likelier first: a metric of the default side, or all of a side."""
    side = (path[0], DEFAULT_SIDE, *path[1:])
    return tuple(dict.fromkeys((with_side(path), path, *((side,) if path[0] == "slices" else ()))))


def _hint(path: Path, known: Iterable[str]) -> str:
    head, shown = path[0], path_text(path)
    default = f"{head}.{DEFAULT_SIDE}."
    of_group = {name for name in known if name.startswith(f"{head}.")}
    short = {f"{head}.{name.removeprefix(default)}" for name in of_group if name.startswith(default)}
    near = nearest(shown, sorted(short) + sorted(of_group))
    return f"no run holds {shown}" + (f"; did you mean {near}?" if near and near != shown else "")


def described(held: Collection[str]) -> list[dict[str, Any]]:
    """Every field that can be asked for, as ``search --fields --json`` lists it: see ``docs/json.md``.

    ``held`` is every written path that some run holds, sides said.
    """
    told = [
        _described(name, holds, meaning_of(name), OPERATORS[holds], CHOICES.get(name, ()))
        for name, holds in FIELDS.items()
    ]
    for path, meaning in LISTS.items():
        told.append(_described(path_text(path), Holds.TEXT, meaning, OF_LISTS) | {"type": "texts"})
    for head, group in GROUPS.items():
        below = sorted(name for name in held if name.startswith(f"{head}."))
        for form, holds in forms(head):
            words = CHOICES.get(form, ())
            found = [name for name in below if not group.last or name.endswith(form[form.rindex(".") :])]
            told.append(_described(form, holds, group.meaning, OPERATORS[holds], words) | {"held": found})
    return told


def _described(
    name: str, holds: Holds, meaning: str, operators: Iterable[str], words: Iterable[str] = ()
) -> dict[str, Any]:
    others = [other for other, means in SYNONYMS.items() if means in (name, f"{name.partition('.')[0]}.X")]
    return {
        "name": name,
        "type": NOUNS[holds],
        "meaning": meaning,
        "operators": list(operators),
        "words": list(words),
        "synonyms": others,
        "held": [],
    }
