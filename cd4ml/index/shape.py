"""The published schemas as functions: does a value have the shape, said in a fraction of the time.

A function answers yes or no as ``jsonschema`` does, for the keywords that our schemas use; what is wrong is for
``jsonschema`` to say. A schema with any other keyword has no function, and its records take the slower way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Fits = Callable[[Any], bool]


def shape_of(schema: Mapping[str, Any]) -> Fits | None:
    """A function for a schema; nothing where it uses a keyword that is not known here."""
    try:
        return _compiled(schema)
    except _UnknownError:
        return None


class _UnknownError(Exception):
    pass


_WORDS = frozenset({"$schema", "$id", "$comment", "title", "description"})
"""Keywords that ask for nothing."""

_OF_OBJECTS = frozenset(
    {"properties", "required", "additionalProperties", "propertyNames", "maxProperties", "minProperties"}
)
_OF_TEXTS = frozenset({"pattern", "minLength", "maxLength"})
_OF_LISTS = frozenset({"items", "minItems", "maxItems"})
_OF_NUMBERS = frozenset({"minimum", "maximum"})


def _compiled(schema: Any) -> Fits:
    if schema is True or schema == {}:
        return _anything
    if not isinstance(schema, Mapping):
        raise _UnknownError
    left = set(schema) - _WORDS
    parts: list[Fits] = []
    together = _typed(schema) if left <= _TOGETHER.get(str(schema.get("type")), frozenset()) else None
    if together is not None:
        return together
    if "type" in left:
        parts.append(_of_type(schema["type"]))
    if "const" in left:
        parts.append(_among([schema["const"]]))
    if "enum" in left:
        parts.append(_among(schema["enum"]))
    for keywords, made in (
        (_OF_TEXTS, _text),
        (_OF_NUMBERS, _number),
        (_OF_LISTS, _list),
        (_OF_OBJECTS, _object),
        ({"if", "then", "else"}, _choice),
    ):
        if left & keywords:
            parts.append(made(schema))
        left -= keywords
    if left - {"type", "const", "enum"}:
        raise _UnknownError
    return _all(parts)


def _anything(_: Any) -> bool:
    return True


def _all(parts: Sequence[Fits]) -> Fits:
    if len(parts) == 1:
        return parts[0]
    if len(parts) == 2:  # as most are: a type, and what it must be like
        one, other = parts
        return lambda value: one(value) and other(value)
    return lambda value: all(part(value) for part in parts)


def _is_whole(value: Any) -> bool:
    return type(value) is int or (type(value) is float and value.is_integer())


_TYPES: Mapping[str, Fits] = {
    "object": lambda value: type(value) is dict,
    "array": lambda value: type(value) is list,
    "string": lambda value: type(value) is str,
    "number": lambda value: type(value) is int or type(value) is float,
    "integer": _is_whole,
    "boolean": lambda value: type(value) is bool,
    "null": lambda value: value is None,
}


_TOGETHER: Mapping[str, frozenset[str]] = {
    "string": _OF_TEXTS | {"type"},
    "integer": _OF_NUMBERS | {"type"},
    "number": _OF_NUMBERS | {"type"},
    "object": _OF_OBJECTS | {"type"},
}


def _typed(schema: Mapping[str, Any]) -> Fits:
    """A type and what it must be like, as most of a record is described, in one function."""
    match schema["type"]:
        case "string":
            return _text(schema, typed=True)
        case "object":
            return _object(schema, typed=True)
        case other:
            is_number, fits = _TYPES[other], _number(schema)
            least, most = schema.get("minimum"), schema.get("maximum")
            if least is None or most is None:
                return lambda value: is_number(value) and fits(value)
            return lambda value: (type(value) is int and least <= value <= most) or (is_number(value) and fits(value))


def _of_type(named: str | Sequence[str]) -> Fits:
    names = [named] if isinstance(named, str) else list(named)
    if not names or not set(names) <= set(_TYPES):
        raise _UnknownError
    checks = [_TYPES[name] for name in names]
    return checks[0] if len(checks) == 1 else lambda value: any(check(value) for check in checks)


def _among(values: Sequence[Any]) -> Fits:
    """Equal to one of these, which are texts or whole numbers; true and false are no numbers."""
    if not all(type(one) in (str, int) for one in values):
        raise _UnknownError
    texts = frozenset(one for one in values if type(one) is str)
    numbers = frozenset(one for one in values if type(one) is int)

    def fits(value: Any) -> bool:
        kind = type(value)
        return value in texts if kind is str else (kind is int or kind is float) and value in numbers

    return fits


def _text(schema: Mapping[str, Any], *, typed: bool = False) -> Fits:
    found = re.compile(schema.get("pattern", "")).search
    least, most = schema.get("minLength", 0), schema.get("maxLength", float("inf"))
    if not typed:
        return lambda value: not isinstance(value, str) or (least <= len(value) <= most and found(value) is not None)
    if "maxLength" not in schema and not least:
        return lambda value: type(value) is str and found(value) is not None
    return lambda value: type(value) is str and least <= len(value) <= most and found(value) is not None


def _number(schema: Mapping[str, Any]) -> Fits:
    least, most = schema.get("minimum"), schema.get("maximum")

    def fits(value: Any) -> bool:
        if type(value) is not int and type(value) is not float:
            return True
        return (least is None or not value < least) and (most is None or not value > most)

    return fits


def _list(schema: Mapping[str, Any]) -> Fits:
    item = _compiled(schema.get("items", True))
    least, most = schema.get("minItems", 0), schema.get("maxItems", float("inf"))
    return lambda value: not isinstance(value, list) or (least <= len(value) <= most and all(map(item, value)))


def _object(schema: Mapping[str, Any], *, typed: bool = False) -> Fits:
    known = {name: _compiled(one) for name, one in schema.get("properties", {}).items()}
    required = frozenset(schema.get("required", ()))
    least, most = schema.get("minProperties", 0), schema.get("maxProperties", float("inf"))
    name_fits = _compiled(schema["propertyNames"]) if "propertyNames" in schema else None
    others = _compiled(schema["additionalProperties"]) if "additionalProperties" in schema else _anything

    def fits(value: Any) -> bool:
        if not isinstance(value, dict):
            return not typed
        if not least <= len(value) <= most or not required <= value.keys():
            return False
        if name_fits is not None and not all(map(name_fits, value)):
            return False
        for name, one in value.items():  # noqa: SIM110  # a generator takes twice as long
            if not known.get(name, others)(one):
                return False
        return True

    return fits


def _choice(schema: Mapping[str, Any]) -> Fits:
    if "if" not in schema:
        raise _UnknownError
    asked, then, otherwise = (_compiled(schema.get(name, True)) for name in ("if", "then", "else"))
    return lambda value: then(value) if asked(value) else otherwise(value)
