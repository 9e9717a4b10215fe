"""What readers of the index rely on: the quick look at a run, held to the rules one by one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cd4ml.errors import IntegrityError
from cd4ml.index import relied_on
from cd4ml.index.relied_on import check_relied_on
from tests.index.index_world import hexes, run_body
from tests.index.test_index_validate import JSON, JUNK, SLICED, places, removed, replaced

NUMBERS: tuple[Any, ...] = (1e308, 1.7e308, -1.7e308, 10**400, 2**63, 0.5, float("inf"))  # NaN is no JSON
TEXTS: tuple[Any, ...] = (
    hexes("x"),
    hexes("x", 40),
    f"{hexes('x')},{hexes('y')}",
    "",
    "head",
    "é",
    "2026-02-30T00:00:00Z",
)
RUN = {**run_body(), "validation": {"suite": "s", "success": False, "asked": 2, "returned": 2, "failed": []}}
RUN["validation"]["failed"] = [{"type": "t", "column": None, "severity": "critical"}]
BODIES = [RUN, SLICED, run_body(failed=True), {**run_body(), "validation": None}]


def outcome(body: dict[str, Any]) -> str:
    try:
        return repr(check_relied_on(body))
    except IntegrityError as error:
        return str(error)


def by_the_rules(body: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> str:
    with monkeypatch.context() as patched:
        patched.setattr(relied_on, "_is_sound_run", lambda _: False)
        return outcome(body)


def changes(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in places(body):
        yield removed(body, path)
        yield from (replaced(body, path, junk) for junk in (*JUNK, *NUMBERS, *TEXTS))


@pytest.mark.parametrize("body", BODIES, ids=["run", "sliced", "failed", "unvalidated"])
def test_a_quick_look_at_a_run_ends_where_the_rules_do(body: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for changed in changes(body):
        if "kind" in changed and "id" in changed:
            assert outcome(changed) == by_the_rules(changed, monkeypatch)


@pytest.mark.parametrize("body", [RUN, SLICED], ids=["run", "sliced"])
def test_a_sound_run_needs_the_quick_look_alone(body: dict[str, Any]) -> None:
    assert relied_on._is_sound_run(body)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_whatever_one_or_two_places_hold_a_quick_look_ends_where_the_rules_do(data: st.DataObject) -> None:
    body = RUN
    for _ in range(data.draw(st.integers(1, 2))):
        body = replaced(body, data.draw(st.sampled_from(places(body))), data.draw(JSON))
    if "kind" in body and "id" in body:
        with pytest.MonkeyPatch.context() as monkeypatch:
            assert outcome(body) == by_the_rules(body, monkeypatch)
