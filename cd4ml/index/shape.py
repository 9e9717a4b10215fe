"""A fast yes for records that readers meet again and again.

``jsonschema`` takes milliseconds for a record, and a plan reads every record of the index. The schema is
therefore also compiled into plain closures, for the keywords that our schemas use and no other. It only
ever says yes early: whatever it does not accept goes to ``jsonschema``, which has the word and the message.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

Fits = Callable[[Any], bool]

_ANNOTATIONS = frozenset({"$schema", "$id", "$comment", "title", "description"})


def compile_shape(schema: Mapping[str, Any]) -> Fits:
    """A predicate that is true only for values which the schema allows.

    Raises ValueError for a keyword that it does not know, so that no rule is ever skipped.
    """
    checks = [_KEYWORDS[key](schema) for key in schema if key in _KEYWORDS]
    unknown = set(schema) - set(_KEYWORDS) - _ANNOTATIONS - {"then", "else"}
    if unknown or schema.get("additionalProperties", True) is False:
        raise ValueError(f"no rule for {', '.join(sorted(unknown)) or 'additionalProperties: false'}")
    if len(checks) == 1:
        return checks[0]
    return lambda value: all(check(value) for check in checks)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_TYPES: Mapping[str, Fits] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": _is_number,
    "integer": _is_integer,
}


def _type(schema: Mapping[str, Any]) -> Fits:
    names = schema["type"]
    if isinstance(names, str):
        return _TYPES[names]
    choices = tuple(_TYPES[name] for name in names)
    return lambda value: any(choice(value) for choice in choices)


def _enum(schema: Mapping[str, Any]) -> Fits:
    choices = tuple(schema["enum"])
    # Types as well: to Python True is 1, to JSON it is not.
    return lambda value: any(type(value) is type(choice) and value == choice for choice in choices)


def _const(schema: Mapping[str, Any]) -> Fits:
    return _enum({"enum": [schema["const"]]})


def _pattern(schema: Mapping[str, Any]) -> Fits:
    search = re.compile(schema["pattern"]).search
    return lambda value: not isinstance(value, str) or search(value) is not None


def _length(schema: Mapping[str, Any]) -> Fits:
    low, high = schema.get("minLength", 0), schema.get("maxLength", float("inf"))
    return lambda value: not isinstance(value, str) or low <= len(value) <= high


def _range(schema: Mapping[str, Any]) -> Fits:
    low, high = schema.get("minimum", float("-inf")), schema.get("maximum", float("inf"))
    return lambda value: not _is_number(value) or low <= value <= high


def _max_items(schema: Mapping[str, Any]) -> Fits:
    return lambda value: not isinstance(value, list) or len(value) <= schema["maxItems"]


def _max_properties(schema: Mapping[str, Any]) -> Fits:
    return lambda value: not isinstance(value, dict) or len(value) <= schema["maxProperties"]


def _required(schema: Mapping[str, Any]) -> Fits:
    names = frozenset(schema["required"])
    return lambda value: not isinstance(value, dict) or names <= value.keys()


def _properties(schema: Mapping[str, Any]) -> Fits:
    rules = {name: compile_shape(rule) for name, rule in schema["properties"].items()}

    def fits(value: Any) -> bool:
        return not isinstance(value, dict) or all(rule(value[name]) for name, rule in rules.items() if name in value)

    return fits


def _additional(schema: Mapping[str, Any]) -> Fits:
    rule = schema["additionalProperties"]
    if rule is True or rule is False:
        return lambda _: True
    named = frozenset(schema.get("properties", ()))
    fits_one = compile_shape(rule)
    return lambda value: (
        not isinstance(value, dict) or all(fits_one(inner) for name, inner in value.items() if name not in named)
    )


def _property_names(schema: Mapping[str, Any]) -> Fits:
    rule = compile_shape(schema["propertyNames"])
    return lambda value: not isinstance(value, dict) or all(rule(name) for name in value)


def _items(schema: Mapping[str, Any]) -> Fits:
    rule = compile_shape(schema["items"])
    return lambda value: not isinstance(value, list) or all(rule(inner) for inner in value)


def _if(schema: Mapping[str, Any]) -> Fits:
    condition = compile_shape(schema["if"])
    then, otherwise = compile_shape(schema.get("then", {})), compile_shape(schema.get("else", {}))
    return lambda value: then(value) if condition(value) else otherwise(value)


_KEYWORDS: Mapping[str, Callable[[Mapping[str, Any]], Fits]] = {
    "type": _type,
    "enum": _enum,
    "const": _const,
    "pattern": _pattern,
    "minLength": _length,
    "maxLength": _length,
    "minimum": _range,
    "maximum": _range,
    "maxItems": _max_items,
    "maxProperties": _max_properties,
    "required": _required,
    "properties": _properties,
    "additionalProperties": _additional,
    "propertyNames": _property_names,
    "items": _items,
    "if": _if,
}
