"""Records are taken from bytes that nobody vouches for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from cd4ml.errors import IntegrityError
from cd4ml.index.fold import encode_envelope, entry_path, parse_envelope
from cd4ml.index.history import History
from cd4ml.index.record import SCHEMA_VERSION, Entry, ExperimentRecord, RunRecord, as_record, encode, record_id, seal
from cd4ml.index.relied_on import check_stored
from cd4ml.index.rows import rows
from cd4ml.index.validate import MAX_BYTES, NewerSchemaError, schema_of, validate_record
from cd4ml.promotion.compare import compare
from cd4ml.report.run import run_view
from tests.index.index_world import FILE, OUTPUTS, bodies, experiment_body, hexes, refused_body, run_body
from tests.plan.plan_world import asks, desired, plan_of
from tests.plan.plan_world import components as plan_components

SIDE = {"rows": 1, "digest": hexes("side")}
OPTIONAL = {"slices", "judge", "deterministic", "nondeterminism"}
SLICED = run_body(
    slices={
        "carrier": {
            "values": [
                {
                    "value": "AA",
                    "rows": {"validation": 2, "test": 1},
                    "validation": {"rmse": 2.5},
                    "test": {"rmse": None},
                }
            ],
            "left_out": 3,
        }
    }
)
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
    assert set(schema["required"]) == set(schema["properties"]) - OPTIONAL == set(KINDS[kind]())


def test_the_commit_whose_code_computed_metrics_may_be_there_and_is_a_commit() -> None:
    judged = run_body(judge={"commit": hexes("judge")[:40], "code": hexes("code")})
    assert validate_record(encode(judged)).body == judged
    for junk in (None, "main", 7, ["a"], {}, {"commit": "main", "code": ""}, {"commit": hexes("judge")[:40]}):
        assert "judge" in refusal(resealed(judged, judge=junk))


def test_slices_may_be_there_and_hold_what_readers_rely_on() -> None:
    assert validate_record(encode(SLICED)).body == SLICED
    wrong: tuple[Any, ...] = (None, [], {"carrier": []}, {"carrier": {"values": [], "left_out": -1}}, {"a\nb": {}})
    for junk in wrong:
        assert "slices" in refusal(resealed(SLICED, slices=junk))


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
        ("model", None),
        ("table", None),
        ("files", {OUTPUTS[0]: FILE}),
        ("files", {OUTPUTS[1]: FILE}),
        ("split", {"train": SIDE, "validation": SIDE}),
        ("metrics", {}),
        ("metrics", {"test": {"rmse": 1.0}}),
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


@pytest.mark.parametrize("value", [1.5e308, -1.5e308, 10**400])
def test_the_published_schema_bounds_what_is_measured(value: float) -> None:
    """So that whoever reads records with the schema alone is as safe as a fold."""
    metrics = {"validation": {"rmse": value}, "test": {"rmse": 1}}
    for changed in ({"metrics": metrics}, {"cost": {"seconds": {"train": value}}}):
        assert not Draft202012Validator(schema_of("run")).is_valid(run_body(**changed))


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
        validate_record(json.dumps({"schema": SCHEMA_VERSION + 1, "kind": kind, "anything": 1}).encode())
    assert caught.value.schema == SCHEMA_VERSION + 1
    assert "untouched" in str(caught.value)


@pytest.mark.parametrize(("what", "schema"), [("artefacts", 2), ("run", 2), ("stored", 3)])
def test_a_removal_is_of_a_schema_that_versions_which_do_not_know_it_leave_alone(what: str, schema: int) -> None:
    told = {"reason": "r", "rule": "", "by": "A", "at": "2026-11-03T10:00:00Z", "objects": []}
    body = seal({"kind": "removal", "run": f"r{'0' * 20}", "commit": "c" * 40, "what": what, **told})
    assert body["schema"] == schema
    assert validate_record(encode(body)).body == check_stored(body).body == body
    other = {**body, "schema": 5 - schema}
    other["id"] = record_id(other)
    assert "schema" in refusal(encode(other))
    with pytest.raises(IntegrityError, match="schema"):
        check_stored(other)


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
    "nearly beyond a float": (b'{"a": [1.1e308]}', "too large"),
    "an integer beyond 64 bits": (b'{"a": {"b": 9223372036854775808}}', "too large"),
    "a negative one": (b'{"a": -9223372036854775809}', "too large"),
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


@settings(max_examples=300, deadline=None)
@given(bodies(), st.data())
def test_no_forged_entry_of_the_index_makes_a_reader_stumble(body: dict[str, Any], data: st.DataObject) -> None:
    """Whatever one place of a well-sealed record is changed to: it is refused, or all readers can live with it."""
    path = data.draw(st.sampled_from(places(body)))
    junk = JSON | st.sampled_from(["run", "merge", "succeeded", hexes(1), -1e308, 2**63 - 1])
    changed = seal(replaced(body, path, data.draw(junk)))
    sha256 = hashlib.sha256(encode(changed)).hexdigest()
    forged = Entry(as_record(changed), sha256, hexes("landed", 40), "Judge <j@example.org>", 1)
    try:
        read = parse_envelope(encode_envelope(forged), entry_path(forged.record))
    except IntegrityError:
        return
    read_everything(read)


JUNK: tuple[Any, ...] = (None, True, 1, "x", [], ["x"], {}, {"x": "y"})


@pytest.mark.parametrize(
    "body", [run_body(), SLICED, run_body(failed=True), refused_body()], ids=["run", "sliced", "failed", "exp"]
)
def test_an_entry_that_lacks_a_value_or_has_another_kind_of_it_stops_no_reader(body: dict[str, Any]) -> None:
    """Every place of a record, taken away and replaced by every kind of JSON value."""
    refused = 0
    for path in places(body):
        for forged in (removed(body, path), *(replaced(body, path, junk) for junk in JUNK)):
            if "kind" in forged and "id" in forged:
                forged = seal(forged)
            try:
                read = check_stored(forged)
            except IntegrityError:
                refused += 1
                continue
            read_everything(Entry(read, hexes("x"), hexes("landed", 40), "Judge <j@example.org>", 1))
    assert refused > 100


def read_everything(entry: Entry) -> None:
    """What the plan, the search, the comparison and the reproduction do with an entry."""
    history = History.of([entry])
    for row in rows(history, {}):
        assert json.dumps(row.as_json(), allow_nan=False)
    other = RunRecord(run_body("other"))
    for run in (one.run for one in history.runs):
        for comparison in (compare(run, other), compare(other, run)):
            assert json.dumps(comparison.as_json(), allow_nan=False)
        for row in rows(history, {}):
            run_view(row.as_json(), run.body)
        if run.succeeded:
            assert all(
                (run.body["model"]["digest"], run.body["files"][OUTPUTS[1]]["sha256"], run.body["table"]["digest"])
            )
    assert plan_of(desired(asks("main", plan_components())), [entry]).items


def removed(value: Any, path: tuple[Any, ...]) -> Any:
    copy = dict(value) if isinstance(value, dict) else list(value)
    if len(path) == 1:
        del copy[path[0]]
    else:
        copy[path[0]] = removed(value[path[0]], path[1:])
    return copy


def test_a_refused_configuration_makes_a_record() -> None:
    assert validate_record(encode(refused_body())).body["problems"][0]["hint"] == "choose another"
