"""Records are taken from bytes that nobody vouches for."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from cd4ml.errors import IntegrityError
from cd4ml.index.record import ExperimentRecord, RunRecord, encode, record_id, seal
from cd4ml.index.shape import compile_shape
from cd4ml.index.validate import MAX_BYTES, NewerSchemaError, schema_of, validate_record
from tests.index.index_world import bodies, experiment_body, hexes, refused_body, run_body

KINDS: dict[str, Callable[[], dict[str, Any]]] = {"run": run_body, "experiment": experiment_body}


def resealed(body: dict[str, Any], **changed: Any) -> bytes:
    return encode(seal({**body, **changed}))


def refusal(data: bytes) -> str:
    with pytest.raises(IntegrityError) as caught:
        validate_record(data)
    message = str(caught.value)
    assert message.isprintable(), "one line that a terminal takes as text"
    assert len(message) < 500
    return message


@given(bodies())
def test_a_record_that_we_write_is_accepted_as_it_is(body: dict[str, Any]) -> None:
    record = validate_record(encode(body))
    assert record.body == body
    assert isinstance(record, RunRecord if body["kind"] == "run" else ExperimentRecord)


@pytest.mark.parametrize("kind", KINDS)
def test_the_schemas_are_valid_2020_12_and_describe_every_field(kind: str) -> None:
    schema = schema_of(kind)
    Draft202012Validator.check_schema(schema)

    def undescribed(place: str, part: dict[str, Any]) -> list[str]:
        found = [] if part.get("description") else [place]
        for name, inner in part.get("properties", {}).items():
            found += undescribed(f"{place}.{name}", inner)
        if isinstance(part.get("additionalProperties"), dict):
            found += undescribed(f"{place}.*", part["additionalProperties"])
        return found + (undescribed(f"{place}[]", part["items"]) if "items" in part else [])

    assert undescribed(kind, schema) == []
    assert set(schema["required"]) == set(schema["properties"]) == set(KINDS[kind]())


@pytest.mark.parametrize("body", [run_body(), run_body(failed=True), experiment_body()], ids=["run", "failed", "exp"])
def test_every_field_is_required_and_named_when_it_is_missing(body: dict[str, Any]) -> None:
    for field in set(body) - {"id", "schema", "kind"}:
        rest = {key: value for key, value in body.items() if key != field}
        assert field in refusal(encode({**rest, "id": record_id(rest)}))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("commit", "HEAD"),
        ("commit", hexes(1, 40) + "\n"),
        ("commit", "--upload-pack=x" + hexes(1, 25)),
        ("branch", "exp/\x1b[2J"),
        ("branch", ""),
        ("name", "two\nlines"),
        ("name", "two lines\n"),
        ("side", "both"),
        ("threads", 1.5),
        ("threads", True),
        ("metrics", {"validation": {"rmse": "12"}}),
        ("metrics", {"validation": {"rmse": None}}),
        ("model", {"digest": hexes(1), "format": "pickle", "bytes": 4}),
        ("reason", {"kind": "deterministic", "stage": "train", "message": "no success has one"}),
        ("started", "2026-13-03T10:00:00Z"),
        ("started", "yesterday"),
        ("finished", "2026-11-03T10:00:00+02:00"),
        ("fingerprint", hexes("another")),
    ],
)
def test_a_run_with_a_bad_field_is_refused_by_its_name(field: str, value: object) -> None:
    assert field in refusal(resealed(run_body(), **{field: value}))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("committed", "2026-11-03"),
        ("committed", "0001-01-01T00:00:00+10:00"),
        ("tags", "t"),
        ("problems", [{"file": "a"}]),
        ("answer", {"head": "e" + hexes(1, 20), "merge": None}),
        ("hypothesis", "x" * 5000),
        ("hypothesis", "bell \x07"),
        ("is_base", 1),
    ],
)
def test_an_experiment_with_a_bad_field_is_refused_by_its_name(field: str, value: object) -> None:
    assert field in refusal(resealed(experiment_body(), **{field: value}))


def test_a_failure_without_a_reason_is_refused() -> None:
    assert "reason" in refusal(resealed(run_body(failed=True), reason=None))


@given(bodies(), st.data())
def test_a_record_under_another_name_is_refused(body: dict[str, Any], data: st.DataObject) -> None:
    other = data.draw(st.integers(0, 2**80 - 1).map(lambda number: f"{body['id'][0]}{number:020x}"))
    if other != body["id"]:
        assert "id" in refusal(encode({**body, "id": other}))


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_fields_are_kept_at_any_depth(kind: str) -> None:
    inner = "components" if kind == "run" else "answer"
    body = KINDS[kind]()
    changed = resealed({**body, "later": {"deep": [1]}, inner: {**body[inner], "later": 1}})
    record = validate_record(changed)
    assert record.body["later"] == {"deep": [1]}
    assert record.body[inner]["later"] == 1


@pytest.mark.parametrize("kind", ["run", "experiment", "release"])
def test_a_newer_schema_is_unknown_and_not_wrong(kind: str) -> None:
    with pytest.raises(NewerSchemaError) as caught:
        validate_record(json.dumps({"schema": 2, "kind": kind, "anything": 1}).encode())
    assert caught.value.schema == 2
    assert "untouched" in str(caught.value)


@pytest.mark.parametrize("schema", [0, True, "1", 1.5, None, -1])
def test_a_schema_that_never_was_is_refused(schema: object) -> None:
    body = {**run_body(), "schema": schema}
    message = refusal(json.dumps({**body, "id": record_id(body)}).encode())
    assert "schema" in message
    assert "untouched" not in message


DEEP = b'{"a":' * 2000 + b"1" + b"}" * 2000
HOSTILE = {
    "empty": (b"", "JSON|Expecting"),
    "not an object": (b"[]", "object"),
    "latin-1": (b'{"a": "\xe9"}', "UTF-8"),
    "byte order mark": (b"\xef\xbb\xbf{}", "BOM"),
    "NaN": (b'{"a": NaN}', "NaN"),
    "infinity": (b'{"a": -Infinity}', "Infinity"),
    "beyond a float": (b'{"a": 1e999}', "too large"),
    "endless integer": (b'{"a": ' + b"9" * 5000 + b"}", "digits"),
    "the same key twice": (b'{"kind": "run", "kind": "experiment"}', "kind"),
    "twice, deep": (b'{"a": {"b": 1, "b": 2}}', "'b'"),
    "nested": (b'{"a":' * 70 + b"1" + b"}" * 70, "deep"),
    "nested beyond the stack": (DEEP, "deep"),
    "nested lists": (b'{"a":' + b"[" * 100000 + b"]" * 100000 + b"}", "deep"),
    "too long": (b'{"a": "' + b"x" * MAX_BYTES + b'"}', "bytes"),
    "NUL": (b'{"a": ["x\\u0000"]}', "a.0"),
    "NUL in a key": (b'{"a\\u0000": 1}', "stored"),
    "half a character": (b'{"a": "\\ud800"}', "stored"),
    "terminal commands": (b'{"schema": 1, "kind": "\\u001b[2J\\u202e"}', "kind"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_bytes_are_refused_in_one_line(case: str) -> None:
    data, word = HOSTILE[case]
    assert any(one in refusal(data) for one in word.split("|"))


@settings(max_examples=200)
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_bytes_do_anything_but_pass_or_be_refused(data: bytes) -> None:
    refusal(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += places(inner, (*path, key))
    return found


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


@settings(max_examples=200)
@given(bodies(), st.data())
def test_the_quick_check_of_readers_never_takes_what_the_schema_refuses(
    body: dict[str, Any], data: st.DataObject
) -> None:
    """Whatever one place of a record is changed to; and it does take records as we write them."""
    schema = schema_of(body["kind"])
    quick = compile_shape(schema)
    assert quick(body)
    path = data.draw(st.sampled_from(places(body)))
    changed = replaced(
        body, path, data.draw(JSON | st.sampled_from(["run", "merge", hexes(1), hexes(1, 40) + "\n", 0]))
    )
    assert not quick(changed) or Draft202012Validator(schema).is_valid(changed)


def test_the_quick_check_refuses_a_schema_with_a_rule_that_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="uniqueItems"):
        compile_shape({"type": "array", "uniqueItems": True})


def test_a_refused_configuration_makes_a_record() -> None:
    assert validate_record(encode(refused_body())).body["problems"][0]["hint"] == "choose another"
