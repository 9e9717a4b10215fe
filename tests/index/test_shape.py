"""A schema as a function says of every value what ``jsonschema`` says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from cd4ml.index.record import KINDS, seal
from cd4ml.index.shape import shape_of
from cd4ml.index.validate import schema_of
from tests.index.index_world import experiment_body, hexes, refused_body, run_body

SAID = {"reason": "old", "rule": "age > 1d", "by": "A <a@localhost>", "at": "2026-11-03T10:00:00Z"}
REMOVAL = seal(
    {"kind": "removal", "run": "r" + "1" * 20, "commit": hexes("c", 40), "what": "artefacts", **SAID}
    | {"objects": [{"md5": "1" * 32, "bytes": 3}]}
)
BODIES = [run_body("a"), run_body("b", failed=True), experiment_body("exp/a", "a"), refused_body(), REMOVAL]
OTHER: st.SearchStrategy[Any] = st.sampled_from(
    [
        *(None, True, False, 0, 1, 1.0, 2, -1, 0.5, 1e308, 1e309, float("nan"), 2**63, -(2**63), "", "x", "x\n"),
        *("head", "run", "1" * 40, "1" * 64, "1" * 64 + "\n", "a\u2028b", "x" * 3000, "2026-11-03T09:30:00Z", [], {}),
        *(
            [1],
            ["x"],
            [{}],
            [None],
            {"": 1},
            {"x": 1},
            {"rows": 1, "digest": "1" * 64},
            {f"k{n}": 1.5 for n in range(501)},
        ),
    ]
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        found += places(inner, (*path, key))
    return found


def altered(value: Any, path: tuple[Any, ...], change: Any) -> Any:
    """A copy with what lies at a path replaced, or (by ``...``) left out."""
    copy = dict(value) if isinstance(value, dict) else list(value)
    if len(path) > 1:
        copy[path[0]] = altered(copy[path[0]], path[1:], change)
    elif change is ...:
        del copy[path[0]]
    else:
        copy[path[0]] = change
    return copy


@settings(max_examples=500)
@given(st.data())
def test_a_record_with_anything_in_it_changed_is_judged_alike(data: st.DataObject) -> None:
    body = data.draw(st.sampled_from(BODIES))
    schema = schema_of(body["kind"])
    for _ in range(data.draw(st.integers(1, 2))):
        path = data.draw(st.sampled_from(places(body)))
        body = altered(body, path, data.draw(st.one_of(OTHER, st.just(...))))
    fits = shape_of(schema)
    assert fits is not None
    assert fits(body) == Draft202012Validator(schema).is_valid(body)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_published_schema_has_a_function(kind: str) -> None:
    assert shape_of(schema_of(kind)) is not None


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body["kind"])
def test_a_record_as_it_is_written_fits(body: dict[str, Any]) -> None:
    fits = shape_of(schema_of(body["kind"]))
    assert fits is not None
    assert fits(body)


@pytest.mark.parametrize("schema", [{"multipleOf": 2}, {"properties": {"a": {"$ref": "#"}}}, {"enum": [[1]]}])
def test_a_schema_with_a_keyword_that_is_not_known_has_none(schema: dict[str, Any]) -> None:
    assert shape_of(schema) is None
