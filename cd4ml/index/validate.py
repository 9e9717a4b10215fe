"""Records from bytes that nobody vouches for.

A landed record is hostile input: whoever may push a ref may have written it. What passes here has the
shape of the published schema, its own name, and a fingerprint that follows from its components.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from cd4ml.errors import IntegrityError
from cd4ml.index.instant import parse_instant
from cd4ml.index.paths import Path, path_text
from cd4ml.index.record import KINDS, SCHEMA_VERSION, Record, as_record, record_id
from cd4ml.spec.canonical import canonical_json
from cd4ml.spec.pipeline import PREDICTIONS

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import ValidationError

MAX_BYTES = 1 << 20
"""A record is at most 1 MiB."""

MAX_DEPTH = 64
"""Objects and lists inside each other, at most."""

LARGEST = 1e308
"""No number of a record is beyond it: what readers add and divide must stay a number."""

_INTEGERS = range(-(1 << 63), 1 << 63)
_COMPONENTS = ("spec", "code", "data", "pipeline", "env")
_SORTED = tuple(sorted(_COMPONENTS))
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
    _check_schema(_kind_of(body), body)
    _check_meaning(body)
    _check_name(body)
    return as_record(body)


def check_stored(body: Mapping[str, Any]) -> Record:
    """A record that the index holds; raises as ``validate_record`` does.

    A fold has judged it by its schema, which takes milliseconds, and a plan reads every record. So this looks
    only at what readers rely on: an index that was forged is an error, and never a reader's mishap.
    """
    record = check_relied_on(body)
    _check_name(body)
    return record


def check_relied_on(body: Mapping[str, Any], passed: Collection[str] = ()) -> Record:
    """The same for a record whose ``id`` was compared with its content before.

    What the fields ``passed`` hold was found in order in another record of the same ``variant_of``.
    """
    _kind_of(body)
    if not _passes(body, _tree_of(*variant_of(body)), passed):
        for path, check, expected in _rules_of(*variant_of(body)):
            if not _holds(body, path, check):
                raise IntegrityError(f"record: {_place(path)}: is not {expected}")
    _check_meaning(body)
    return as_record(body)


def _kind_of(body: Mapping[str, Any]) -> str:
    schema, kind = body.get("schema"), body.get("kind")
    known = KINDS[kind][1] if isinstance(kind, str) and kind in KINDS else SCHEMA_VERSION
    if isinstance(schema, int) and not isinstance(schema, bool) and schema > known:
        raise NewerSchemaError("record", schema)
    if not isinstance(kind, str) or kind not in KINDS:
        raise IntegrityError(f"record: kind: {_shown(kind)} is none of {', '.join(KINDS)}")
    return kind


def parse_object(data: bytes, what: str, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """A JSON object: UTF-8, no NaN or infinity, no key twice, no NUL, nested at most ``MAX_DEPTH``.

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
    """No NUL or lone surrogate, not too deep."""
    _check_depth(value, what)
    try:
        plain = "\\u0000" not in canonical_json(value).decode()
    except ValueError:
        plain = False
    if plain:
        return
    for path, inner in _walk(value):
        for text in (inner, path[-1] if path else ""):
            if isinstance(text, str) and ("\0" in text or not _encodes(text)):
                raise IntegrityError(f"{what}: {_place(path)}: text that cannot be stored")


def _check_depth(value: Any, what: str) -> None:
    # Level by level: what is checked here may be nested deeper than Python recurses.
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            inner
            for container in level
            for inner in (container.values() if isinstance(container, dict) else container)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise IntegrityError(f"{what}: nested more than {MAX_DEPTH} deep")


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


def _check_schema(kind: str, body: Mapping[str, Any]) -> None:
    errors = list(_validator(kind).iter_errors(body))
    if errors:
        # The shallowest place, then the first in reading order: the same words on every machine.
        error = min(errors, key=lambda found: (len(found.absolute_path), str(list(found.absolute_path)), found.message))
        raise IntegrityError(f"record: {_schema_message(error)}")


def _schema_message(error: ValidationError) -> str:
    place = _place(tuple(str(key) for key in error.absolute_path))
    if error.validator == "required":
        missing = error.message.split("'")[1]
        return f"{place}: the field '{missing}' is missing" if error.absolute_path else f"{missing}: is missing"
    if error.validator in ("pattern", "not"):
        return f"{place}: {_shown(error.instance)} is not {_expected(error)}"
    return f"{place}: {_line(error.message)}"


def _expected(error: ValidationError) -> str:
    described = error.schema.get("$comment") if isinstance(error.schema, dict) else None
    return str(described or "of the right form")


def _check_meaning(body: Mapping[str, Any]) -> None:
    for field, check in (*((name, _is_instant) for name in _INSTANTS), ("fingerprint", _fingerprint_follows)):
        problem = check(body, field)
        if problem:
            raise IntegrityError(f"record: {field}: {problem}")


def _check_name(body: Mapping[str, Any]) -> None:
    if body["id"] != record_id(body):
        raise IntegrityError(f"record: id: {body['id']} is not the name of this content, which is {record_id(body)}")


def _is_instant(body: Mapping[str, Any], field: str) -> str:
    if body.get(field) is None:
        return ""
    try:
        parse_instant(body[field])
    except ValueError as error:
        return _line(str(error))
    return ""


def _fingerprint_follows(body: Mapping[str, Any], field: str) -> str:
    if body["kind"] != "run":
        return ""
    parts = body["components"]
    text = ",".join([f'"{name}":"{parts[name]}"' for name in _SORTED])  # digests all: their canonical form
    follows = hashlib.sha256(f"{{{text}}}".encode()).hexdigest()
    return "" if body[field] == follows else f"does not follow from the components, which give {follows}"


def _place(path: Path) -> str:
    return _line(path_text(path)) if path else "the record"


def _shown(value: Any) -> str:
    return _line(repr(value))


def _line(text: str) -> str:
    """One line that a terminal takes as text: no control or direction characters, cut to size."""
    printable = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)
    return printable if len(printable) <= _SHOWN else printable[: _SHOWN - 1] + "…"


# ── what readers rely on ─────────────────────────────────────────────────────────────────────────────────────────

_PROBLEM = ("file", "key", "message", "hint")
_SOURCE = ("kind", "location", "experiment", "id")
_Rule = tuple[Path, Callable[[Any], bool], str]
_ABSENT = object()


def _holds(value: Any, path: Path, check: Callable[[Any], bool]) -> bool:
    """Does everything at a path pass? ``*`` is every value of a mapping, ``[]`` of a list."""
    for depth, key in enumerate(path):
        if key == "[]":
            return isinstance(value, list) and all(_holds(one, path[depth + 1 :], check) for one in value)
        if not isinstance(value, dict):
            return check(_ABSENT)
        if key == "*":
            return all(_holds(one, path[depth + 1 :], check) for one in value.values())
        value = value.get(key, _ABSENT)
    return check(value)


@dataclass(frozen=True, eq=False)
class _Node:
    """Rules by what they begin with, so that of many rules each place is looked at once.

    ``of_keys`` are checks of the very values of keys, ``below`` what goes on from keys; ``of_all`` and ``below_all``
    the same for every value of a mapping or list.
    """

    of_keys: tuple[tuple[str, Callable[[Any], bool]], ...]
    below: tuple[tuple[str, _Node], ...]
    of_all: tuple[Callable[[Any], bool], ...]
    below_all: _Node | None
    lists: bool


@cache
def _tree(rules: tuple[_Rule, ...]) -> _Node:
    named: dict[str, list[_Rule]] = {}
    for path, check, expected in rules:
        if len(path) > 1:
            named.setdefault(path[0], []).append((path[1:], check, expected))
    every = [rule for key in ("*", "[]") for rule in named.pop(key, ())]
    return _Node(
        of_keys=tuple((path[0], check) for path, check, _ in rules if len(path) == 1 and path[0] not in ("*", "[]")),
        below=tuple((key, _tree(tuple(inner))) for key, inner in named.items()),
        of_all=tuple(check for path, check, _ in rules if path in (("*",), ("[]",))),
        below_all=_tree(tuple(every)) if every else None,
        lists=any(path[0] == "[]" for path, _, _ in rules),
    )


def _passes(value: Any, node: _Node, passed: Collection[str] = ()) -> bool:
    """Do all rules hold, but for those of the keys ``passed``? Where this says no, ``_holds`` tells which does not."""
    if not isinstance(value, list if node.lists else dict):
        return False
    held: Any = value
    for key, check in node.of_keys:
        if key not in passed and not check(held.get(key, _ABSENT)):
            return False
    for key, inner in node.below:
        if key not in passed and not _passes(held.get(key, _ABSENT), inner):
            return False
    return (not node.of_all and node.below_all is None) or _all_pass(held if node.lists else held.values(), node)


def _all_pass(values: Iterable[Any], node: _Node) -> bool:
    for one in values:
        for check in node.of_all:
            if not check(one):
                return False
        if node.below_all is not None and not _passes(one, node.below_all):
            return False
    return True


Variant = tuple[str, bool, bool, tuple[str, ...]]


def variant_of(body: Mapping[str, Any]) -> Variant:
    """What the rules for a record depend on."""
    more = tuple(name for name in _MORE if name in body)
    return str(body["kind"]), body.get("outcome") == "succeeded", body.get("validation", _ABSENT) is not None, more


@cache
def _tree_of(kind: str, succeeded: bool, validated: bool, more: tuple[str, ...]) -> _Node:
    return _tree(_rules_of(kind, succeeded, validated, more))


@cache
def _rules_of(kind: str, succeeded: bool, validated: bool, more: tuple[str, ...]) -> tuple[_Rule, ...]:
    if kind != "run":
        return (*_SEALED[KINDS[kind][1]], *_OTHERS[kind])
    ended = _SUCCEEDED if succeeded else _FAILED
    return (
        *_SEALED[KINDS[kind][1]],
        *_RUN,
        *ended,
        *(_VALIDATED if validated else ()),
        *(rule for name in more for rule in _MORE[name]),
    )


def _is(*types: type) -> Callable[[Any], bool]:
    known = frozenset(types)  # what JSON is read as has no subclasses but bool, which is none of them
    return lambda value: type(value) in known


def _truth(value: Any) -> bool:
    return isinstance(value, bool)


def _one_of(*words: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value in words


def _is_number(known: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and value == known


def _hex(length: int) -> Callable[[Any], bool]:
    whole = re.compile(f"[0-9a-f]{{{length}}}").fullmatch
    return lambda value: isinstance(value, str) and whole(value) is not None


def _or_null(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or check(value)


def _rules(check: Callable[[Any], bool], expected: str, *paths: str) -> tuple[_Rule, ...]:
    return tuple((tuple(path.split(".")), check, expected) for path in paths)


_TEXT, _NUMBER, _OBJECT, _NULL = _is(str), _is(int, float), _is(dict), _is(type(None))
_COMMIT, _DIGEST = _hex(40), _hex(64)

_NAMED = _rules(_TEXT, "text", "id")
_SEALED = {
    schema: (*_rules(_is_number(schema), str(schema), "schema"), *_NAMED)
    for schema in sorted({schema for _, schema in KINDS.values()})
}
_RUN = (
    *_rules(_DIGEST, "a SHA-256 digest", "fingerprint", *(f"components.{name}" for name in _COMPONENTS)),
    *_rules(_COMMIT, "a Git object's name", "commit", "tree"),
    *_rules(_one_of("head", "merge"), "head or merge", "side"),
    *_rules(_one_of("succeeded", "failed"), "succeeded or failed", "outcome"),
    *_rules(_TEXT, "text", "branch", "name", "started", "finished", "primary.metric", "environment.python"),
    *_rules(_TEXT, "text", "environment.platform"),
    *_rules(_OBJECT, "an object", "params", "environment.packages"),
    *_rules(_NUMBER, "a number", "metrics.*.*", "cost.seconds.*", "data.*.rows", "split.*.rows"),
    *_rules(_DIGEST, "a SHA-256 digest", "data.*.digest", "split.*.digest"),
)
_SUCCEEDED: tuple[_Rule, ...] = (
    *_rules(_NULL, "null", "reason"),
    *_rules(_DIGEST, "a SHA-256 digest", "model.digest", "table.digest"),
    *_rules(_NUMBER, "a number", "table.rows"),
    (("files", PREDICTIONS, "sha256"), _DIGEST, "a SHA-256 digest"),
)
_MEASURED = _or_null(
    lambda value: isinstance(value, dict) and _DIGEST(value.get("digest")) and _NUMBER(value.get("rows"))
)
_FAILED = (
    *_rules(_NULL, "null", "model"),
    *_rules(_MEASURED, "null, or a digest and a number of rows", "table"),
    *_rules(_TEXT, "text", "reason.kind", "reason.stage", "reason.message"),
)
_VALIDATED = (
    *_rules(_NUMBER, "a number", "validation.asked", "validation.returned"),
    *_rules(_truth, "true or false", "validation.success"),
    *_rules(_TEXT, "text", "validation.suite"),
    *_rules(_TEXT, "text", "validation.failed.[].type", "validation.failed.[].severity"),
    *_rules(_or_null(_TEXT), "text or null", "validation.failed.[].column"),
)
_JUDGED = (*_rules(_COMMIT, "a commit", "judge.commit"), *_rules(_TEXT, "text", "judge.code"))
_VARYING = (
    *_rules(_TEXT, "text", "nondeterminism.why.[]"),
    *_rules(_NUMBER, "a number", "nondeterminism.tolerance"),
)
_SLICED = (
    *_rules(_TEXT, "text", "slices.*.values.[].value"),
    *_rules(_OBJECT, "an object", "slices.*.values.[].validation", "slices.*.values.[].test"),
    *_rules(_or_null(_NUMBER), "a number or null", "slices.*.values.[].validation.*", "slices.*.values.[].test.*"),
    *_rules(_OBJECT, "an object", "slices.*.values.[].rows"),
    *_rules(_NUMBER, "a number", "slices.*.left_out", "slices.*.values.[].rows.*"),
)
_EXPERIMENT = (
    *_rules(_COMMIT, "a commit", "commit"),
    *_rules(_or_null(_COMMIT), "a commit or null", "merge_commit"),
    *_rules(_or_null(_DIGEST), "a SHA-256 digest or null", "fingerprint", "merge_fingerprint"),
    *_rules(_or_null(_TEXT), "text or null", "answer.head", "answer.merge"),
    *_rules(_TEXT, "text", "branch", "committed", "author", "name", "hypothesis", "conclusion", "noted_by"),
    *_rules(_TEXT, "text", "tags.[]", "conflicts.[]", *(f"problems.[].{name}" for name in _PROBLEM)),
)
_REMOVAL = (
    *_rules(_COMMIT, "a commit", "commit"),
    *_rules(_one_of("artefacts", "run"), "artefacts or run", "what"),
    *_rules(_TEXT, "text", "run", "reason", "rule", "by", "at"),
    *_rules(_TEXT, "text", "objects.[].md5"),
)
_IMPORT = (
    *_rules(_COMMIT, "a commit", "commit"),
    *_rules(_or_null(_COMMIT), "a commit or null", "source_commit"),
    *_rules(_one_of("succeeded", "failed"), "succeeded or failed", "outcome"),
    *_rules(_OBJECT, "an object", "params", "tags"),
    *_rules(_NUMBER, "a number", "metrics.*.*"),
    *_rules(_TEXT, "text", "name", "author", "description", *(f"source.{name}" for name in _SOURCE), "tags.*"),
    *_rules(_or_null(_TEXT), "text or null", "started", "finished"),
)
_OTHERS: Mapping[str, tuple[_Rule, ...]] = {"experiment": _EXPERIMENT, "removal": _REMOVAL, "import": _IMPORT}
_MORE: Mapping[str, tuple[_Rule, ...]] = {"slices": _SLICED, "judge": _JUDGED, "nondeterminism": _VARYING}
"""Rules for fields of a run that need not be there."""
