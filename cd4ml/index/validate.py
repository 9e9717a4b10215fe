"""Records from bytes that nobody vouches for.

A landed record is hostile input: whoever may push a ref may have written it. What passes here has the
shape of the published schema, its own name, and a fingerprint that follows from its components.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from cd4ml.errors import IntegrityError
from cd4ml.index.instant import utc_form
from cd4ml.index.paths import Path, path_text
from cd4ml.index.record import KINDS, SCHEMA_VERSION, Record, as_record, record_id
from cd4ml.index.shape import Fits, shape_of
from cd4ml.spec.canonical import canonical_json
from cd4ml.spec.fingerprint import COMPONENTS

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import ValidationError

MAX_BYTES = 1 << 20
"""A record is at most 1 MiB."""

MAX_DEPTH = 64
"""Objects and lists inside a record, each inside the other, at most; an envelope has the record one deeper."""

LARGEST = 1e308
"""No number of a record is beyond it: what readers add and divide must stay a number."""

_INTEGERS = range(-(1 << 63), 1 << 63)
_SORTED = tuple(sorted(COMPONENTS))
_INSTANTS = ("started", "finished", "committed", "at")
_SHOWN = 160


class NewerSchemaError(IntegrityError):
    """The record is of a schema that this version does not know: leave it where it is, as it is."""

    def __init__(self, what: str, schema: int) -> None:
        self.schema = schema
        super().__init__(f"{what}: schema {schema} is newer than {SCHEMA_VERSION}: unknown, left untouched")


def validate_record(data: bytes) -> Record:
    """The record that these bytes hold.

    Raises IntegrityError with one line that names the field, and NewerSchemaError (which is one) for a
    record that a later version wrote.
    """
    return validate_body(parse_object(data, "record"))


def validate_body(body: Mapping[str, Any]) -> Record:
    """The record that a parsed JSON object is; raises as ``validate_record`` does."""
    check_shape(body)
    check_name(body)
    return as_record(body)


def check_shape(body: Mapping[str, Any]) -> None:
    """The same but for the name of the content, for a record that was found to have the right one."""
    _check_schema(kind_of(body), body)
    check_meaning(body)


def kind_of(body: Mapping[str, Any]) -> str:
    """The kind of a record that this version knows. Raises as ``validate_record`` does."""
    schema, kind = body.get("schema"), body.get("kind")
    known = KINDS[kind][1] if isinstance(kind, str) and kind in KINDS else SCHEMA_VERSION
    if isinstance(schema, int) and not isinstance(schema, bool) and schema > known:
        raise NewerSchemaError("record", schema)
    if not isinstance(kind, str) or kind not in KINDS:
        raise IntegrityError(f"record: kind: {_shown(kind)} is none of {', '.join(KINDS)}")
    return kind


def parse_object(data: bytes, what: str, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH) -> dict[str, Any]:
    """A JSON object: UTF-8, no NaN or infinity, no key twice, no NUL, with at most so many others inside each other.

    No number is beyond ``LARGEST``, and no whole number beyond 64 bits with a sign.

    Raises IntegrityError; ``what`` begins the message.
    """
    if len(data) > max_bytes:
        raise IntegrityError(f"{what}: {len(data)} bytes are more than the {max_bytes} allowed")
    try:
        value = json.loads(
            data.decode(),
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_float=_bounded_float,
            parse_int=_bounded_int,
        )
    except UnicodeDecodeError as error:
        raise IntegrityError(f"{what}: byte {error.start} is not UTF-8") from None
    except RecursionError:
        raise IntegrityError(f"{what}: nested too deeply") from None
    except ValueError as error:
        raise IntegrityError(f"{what}: {_line(str(error))}") from None
    if not isinstance(value, dict):
        raise IntegrityError(f"{what}: not a JSON object")
    _check_depth(value, what, max_depth)
    _check_plain(value, what)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [key for key, _ in pairs]
        raise ValueError(f"the key {_shown(next(key for key in names if names.count(key) > 1))} is there twice")
    return value


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _bounded_float(text: str) -> float:
    value = float(text)
    if not -LARGEST <= value <= LARGEST:
        raise ValueError(f"{text} is too large a number")
    return value


def _bounded_int(text: str) -> int:
    value = int(text)
    if value not in _INTEGERS:
        raise ValueError(f"{text} is too large a number")
    return value


decode_bounded = json.JSONDecoder(
    parse_constant=_no_constant, parse_float=_bounded_float, parse_int=_bounded_int
).decode
"""JSON text as a value. Raises ValueError for what is none, and for a number that no record may hold."""


def _check_plain(value: Any, what: str) -> None:
    """No NUL or lone surrogate."""
    try:
        plain = "\\u0000" not in canonical_json(value).decode()
    except ValueError:
        plain = False
    if plain:
        return
    for path, inner in _walk(value):
        for text in (inner, path[-1] if path else ""):
            if isinstance(text, str) and ("\0" in text or not _encodes(text)):
                raise IntegrityError(f"{what}: {place_of(path)}: text that cannot be stored")


def _check_depth(value: Any, what: str, allowed: int) -> None:
    # Level by level: what is checked here may be nested deeper than Python recurses.
    level = [value]
    for _ in range(allowed + 1):
        level = [
            inner
            for container in level
            for inner in (container.values() if isinstance(container, dict) else container)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise IntegrityError(f"{what}: nested more than {allowed} deep")


def _walk(value: Any) -> Iterator[tuple[Path, Any]]:
    stack: list[tuple[Path, Any]] = [((), value)]
    while stack:
        path, inner = stack.pop()
        yield path, inner
        if isinstance(inner, dict):
            stack.extend(((*path, key), child) for key, child in inner.items())
        elif isinstance(inner, list):
            stack.extend(((*path, str(position)), child) for position, child in enumerate(inner))


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@cache
def _validator(kind: str) -> Draft202012Validator:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(schema_of(kind))


def schema_of(kind: str) -> dict[str, Any]:
    """The published JSON Schema of the records of a kind."""
    text = resources.files("cd4ml.index").joinpath("schemas", f"{kind}.schema.json").read_text(encoding="utf-8")
    value: dict[str, Any] = json.loads(text)
    return value


@cache
def _shape(kind: str) -> Fits | None:
    return shape_of(schema_of(kind))


def _check_schema(kind: str, body: Mapping[str, Any]) -> None:
    shape = _shape(kind)
    if shape is not None and shape(body):
        return
    errors = list(_validator(kind).iter_errors(body))
    if errors:
        # The shallowest place, then the first in reading order: the same words on every machine.
        error = min(errors, key=lambda found: (len(found.absolute_path), str(list(found.absolute_path)), found.message))
        raise IntegrityError(f"record: {_schema_message(error)}")


def _schema_message(error: ValidationError) -> str:
    place = place_of(tuple(str(key) for key in error.absolute_path))
    if error.validator == "required":
        missing = error.message.split("'")[1]
        return f"{place}: the field '{missing}' is missing" if error.absolute_path else f"{missing}: is missing"
    if error.validator in ("pattern", "not"):
        return f"{place}: {_shown(error.instance)} is not {_expected(error)}"
    return f"{place}: {_line(error.message)}"


def _expected(error: ValidationError) -> str:
    described = error.schema.get("$comment") if isinstance(error.schema, dict) else None
    return str(described or "of the right form")


def check_meaning(body: Mapping[str, Any]) -> None:
    """What no schema says: instants are in the calendar, a fingerprint follows from its components."""
    for field in _INSTANTS:
        if (instant := body.get(field)) is not None:
            try:
                utc_form(instant)
            except ValueError as error:
                raise IntegrityError(f"record: {field}: {_line(str(error))}") from None
    if body["kind"] == "run" and body["fingerprint"] != (follows := _fingerprint_of(body["components"])):
        raise IntegrityError(f"record: fingerprint: does not follow from the components, which give {follows}")


def check_name(body: Mapping[str, Any]) -> None:
    """Is the record named by its content?"""
    if body["id"] != record_id(body):
        raise IntegrityError(f"record: id: {body['id']} is not the name of this content, which is {record_id(body)}")


def _fingerprint_of(components: Mapping[str, str]) -> str:
    text = ",".join([f'"{name}":"{components[name]}"' for name in _SORTED])  # digests all: their canonical form
    return hashlib.sha256(f"{{{text}}}".encode()).hexdigest()


def place_of(path: Path) -> str:
    """A place in a record as it is told."""
    return _line(path_text(path)) if path else "the record"


def _shown(value: Any) -> str:
    return _line(repr(value))


def _line(text: str) -> str:
    """One line that a terminal takes as text: no control or direction characters, cut to size."""
    printable = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)
    return printable if len(printable) <= _SHOWN else printable[: _SHOWN - 1] + "…"
