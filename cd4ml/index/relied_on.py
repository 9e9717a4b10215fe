"""What readers of the index rely on in a record, checked sooner than its schema is.

A fold has judged every record by its schema, which takes milliseconds; a reader may read a hundred thousand. So what
is looked at here is what readers take for granted alone: an index that was forged is an error, and never a reader's
mishap. Of a run that succeeded, as most do, all of it is looked at together, and rule by rule only to say what is
wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from itertools import chain
from typing import Any

from cd4ml.errors import IntegrityError
from cd4ml.index.paths import Path
from cd4ml.index.record import KINDS, SCHEMA_VERSION, Record, as_record, schema_version
from cd4ml.index.validate import LARGEST, check_meaning, check_name, kind_of, place_of
from cd4ml.spec.fingerprint import COMPONENTS
from cd4ml.spec.pipeline import PREDICTIONS


def check_stored(body: Mapping[str, Any]) -> Record:
    """A record that the index holds; raises as ``validate.validate_record`` does."""
    record = check_relied_on(body)
    check_name(body)
    return record


def check_relied_on(body: Mapping[str, Any]) -> Record:
    """The same for a record whose ``id`` was compared with its content before."""
    kind_of(body)
    quickly = _is_sound_run(body)
    for path, check, expected in _further_rules_of(body) if quickly else _rules_of(body):
        if not _holds(body, path, check):
            raise IntegrityError(f"record: {place_of(path)}: is not {expected}")
    check_meaning(body)
    return as_record(body)


def _rules_of(body: Mapping[str, Any]) -> Iterable[_Rule]:
    if body["kind"] != "run":
        return _rules_of_kind(body["kind"], schema_version(body))
    validated = body.get("validation", _ABSENT) is not None
    return chain(_rules_of_run(body.get("outcome") == "succeeded", validated), _further_rules_of(body))


def _further_rules_of(body: Mapping[str, Any]) -> Iterable[_Rule]:
    """For fields of a run that need not be there."""
    return [rule for name in _MORE if name in body for rule in _MORE[name]]


@cache
def _rules_of_kind(kind: str, schema: int) -> tuple[_Rule, ...]:
    return (*_SEALED[schema], *_OTHERS[kind])


@cache
def _rules_of_run(succeeded: bool, validated: bool) -> tuple[_Rule, ...]:
    ended = _SUCCEEDED if succeeded else _FAILED
    return (*_SEALED[KINDS["run"][1]], *_RUN, *ended, *(_VALIDATED if validated else ()))


def _is_sound_run(body: Mapping[str, Any]) -> bool:
    """Is it a run that succeeded and of which all rules hold but those for fields that need not be there?"""
    if body["kind"] != "run" or body.get("outcome") != "succeeded":
        return False
    try:
        return _all_hold(body)
    except (KeyError, TypeError, AttributeError):  # something is not there, or is of another kind
        return False


def _all_hold(body: Mapping[str, Any]) -> bool:
    environment, validation = body["environment"], body["validation"]
    measured = [*body["data"].values(), *body["split"].values(), body["table"]]
    digests = [one["digest"] for one in measured]
    digests += map(body["components"].__getitem__, COMPONENTS)
    digests += (body["fingerprint"], body["model"]["digest"], body["files"][PREDICTIONS]["sha256"])
    numbers = [one["rows"] for one in measured]
    numbers += body["cost"]["seconds"].values()
    for side in body["metrics"].values():
        numbers += side.values()
    texts = [body["id"], body["branch"], body["name"], body["started"], body["finished"], body["primary"]["metric"]]
    texts += (environment["python"], environment["platform"])
    if validation is not None:
        numbers += (validation["asked"], validation["returned"])
        texts.append(validation["suite"])
        for one in validation["failed"]:
            texts += (one["type"], one["severity"])
            texts += () if one["column"] is None else (one["column"],)
    return (
        _ONE(body["schema"])
        and body["side"] in _SIDES
        and body["reason"] is None
        and type(body["params"]) is type(environment["packages"]) is dict
        and (validation is None or (type(validation["success"]) is bool and type(validation["failed"]) is list))
        and set(map(type, texts)) == {str}
        and set(map(type, numbers)) <= _NUMBERS
        and -LARGEST <= min(numbers) <= max(numbers) <= LARGEST
        and set(map(len, digests)) == {64}
        and len(body["commit"]) == len(body["tree"]) == 40
        and _is_hex("".join((*digests, body["commit"], body["tree"])))
    )


_SIDES = ("head", "merge")
_NUMBERS = {int, float}


def _is_hex(text: str) -> bool:
    """Lower-case hex digits alone? A pattern takes seven times as long."""
    try:
        return bytes.fromhex(text).hex() == text
    except ValueError:
        return False


# ── the rules ────────────────────────────────────────────────────────────────────────────────────────────────────

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


def _is_bounded(value: Any) -> bool:
    return type(value) in _NUMBERS and -LARGEST <= value <= LARGEST


_TEXT, _OBJECT, _NULL, _NUMBER = _is(str), _is(dict), _is(type(None)), _is_bounded
_ONE = _is_number(1)
_COMMIT, _DIGEST = _hex(40), _hex(64)

_NAMED = _rules(_TEXT, "text", "id")
_SEALED = {
    schema: (*_rules(_is_number(schema), str(schema), "schema"), *_NAMED) for schema in range(1, SCHEMA_VERSION + 1)
}
_RUN = (
    *_rules(_DIGEST, "a SHA-256 digest", "fingerprint", *(f"components.{name}" for name in COMPONENTS)),
    *_rules(_COMMIT, "a Git object's name", "commit", "tree"),
    *_rules(_one_of(*_SIDES), "head or merge", "side"),
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
    *_rules(_one_of("artefacts", "stored", "run"), "artefacts, stored or run", "what"),
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
