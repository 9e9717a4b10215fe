"""``index:`` of the configuration: may be left out, is checked whole, and changes no result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cd4ml.errors import ConfigError
from cd4ml.gateways.hydra import compose
from cd4ml.spec.experiment import EraserSpec, IndexPolicy
from cd4ml.spec.fingerprint import spec_digest
from cd4ml.spec.keys import BASE_ONLY
from cd4ml.spec.parse import parse

ROOT = Path(__file__).parents[2]
KEY = "ssh-ed25519 " + "A" * 68
NAMED = {"name": "Ada Lovelace <ada@example.org>", "key": KEY}


@pytest.fixture(scope="module")
def resolved() -> dict[str, Any]:
    files = {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in (ROOT / "conf").rglob("*.yaml")}
    return dict(compose(files).resolved)


def test_it_may_be_left_out_and_then_lets_nothing_go(resolved: dict[str, Any]) -> None:
    without = {key: value for key, value in resolved.items() if key != "index"}
    assert parse(without).index == IndexPolicy() == parse(resolved).index
    assert parse({**without, "index": {"let_go": ["age > 9d"]}}).index.let_go == ("age > 9d",)


def test_no_rule_changes_a_fingerprint_and_only_mains_count(resolved: dict[str, Any]) -> None:
    other = {**resolved, "index": {"let_go": ["age > 9d"], "erasers": [NAMED]}}
    assert spec_digest(other) == spec_digest(resolved)
    assert "index" in BASE_ONLY
    assert parse(other).index.erasers == (EraserSpec(NAMED["name"], KEY),)


@pytest.mark.parametrize(
    ("index", "key"),
    [
        ({"let_go": [" "]}, "index.let_go.0"),
        ({"let_go": "age > 9d"}, "index.let_go"),
        ({"let_go": ["age > 9d\nor true"]}, "index.let_go.0"),
        ({"let_go": ["age > 9d", "age > 9d"]}, "index.let_go.1"),
        ({"erasers": [{**NAMED, "name": "Ada"}]}, "index.erasers.0.name"),
        ({"erasers": [{**NAMED, "key": "ssh-ed25519"}]}, "index.erasers.0.key"),
        ({"erasers": [{**NAMED, "key": f'namespaces="x" {KEY}'}]}, "index.erasers.0.key"),
        ({"erasers": [{**NAMED, "key": f"{KEY}\n* {KEY}"}]}, "index.erasers.0.key"),
        ({"erasers": [{"name": NAMED["name"]}]}, "index.erasers.0.key"),
        ({"letgo": []}, "index.letgo"),
    ],
)
def test_what_is_wrong_is_named_by_its_key(resolved: dict[str, Any], index: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse({**resolved, "index": index})
    assert [problem.key for problem in error.value.problems] == [key]
