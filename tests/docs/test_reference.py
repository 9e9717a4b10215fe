"""The reference pages list what there is: no key or field is missing, none is made up."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cd4ml.spec.fingerprint import NOT_IN_SPEC
from tests.docs.pages import ROOT, code, table

CONFIGURATION = ROOT / "docs/configuration.md"
RECORDS = ROOT / "docs/records.md"
GROUPS = ("Root", "data", "validation", "split", "features", "model", "evaluation", "promotion", "ci", "executor")
NAMED = {"data.sources": "NAME", "features.calendar": "COLUMN", "model.parameters": "NAME"}
"""Mappings whose keys are names that a project chooses."""

WHOLE = ("model.estimator", "validation.expectations[].kwargs")
"""Mappings that are handed on as they are."""


@pytest.fixture(scope="module")
def resolved() -> dict[str, Any]:
    """The resolved configuration of this repository."""
    from cd4ml.gateways.hydra import compose

    files = {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in (ROOT / "conf").rglob("*.yaml")}
    return dict(compose(files).resolved)


def keys(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every key as the page writes it, and its value."""
    if isinstance(value, dict) and place not in WHOLE:
        for name, inner in value.items():
            yield from keys(inner, f"{place}.{NAMED.get(place, name)}".lstrip("."))
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for inner in value:
            yield from keys(inner, f"{place}[]")
    else:
        yield place, value


def documented() -> dict[str, list[str]]:
    """The rows of all tables of keys, by key."""
    rows = [row for group in GROUPS for row in table(CONFIGURATION, f"## {group}")]
    found = {code(row[0]): row for row in rows}
    assert len(found) == len(rows), "a key is there twice"
    return found


def test_every_key_of_the_configuration_is_documented_and_no_other(resolved: dict[str, Any]) -> None:
    assert set(documented()) == {key for key, _ in keys(resolved)}


def test_the_documented_defaults_are_those_of_the_scaffold(resolved: dict[str, Any]) -> None:
    there = dict(reversed(list(keys(resolved))))  # of several sources or joins, the first
    told = {key: code(row[2]) for key, row in documented().items() if row[2] != "–"}
    assert len(told) > 15
    optional = "validation.expectations[].severity"
    assert told.pop(optional) == "critical"
    dated = {key: str(value) for key, value in there.items() if key.startswith("split.")}
    assert {key: text if key in dated else yaml.safe_load(text) for key, text in told.items()} == {
        key: {**there, **dated}[key] for key in told
    }


def test_what_counts_in_the_fingerprint_is_documented_as_it_is(resolved: dict[str, Any]) -> None:
    elsewhere = {"code": "code", "environment.lock": "env"}
    for key, row in documented().items():
        counted = "spec" if key.split(".")[0] not in NOT_IN_SPEC else "–"
        assert row[3] == elsewhere.get(key, counted), key


@pytest.mark.parametrize(("heading", "kind"), [("### A run", "run"), ("### An experiment", "experiment")])
def test_the_fields_of_a_record_are_those_of_its_schema(heading: str, kind: str) -> None:
    schema = json.loads((ROOT / f"cd4ml/index/schemas/{kind}.schema.json").read_text("utf-8"))
    assert names(RECORDS, heading) == set(schema["properties"])


def test_the_fields_of_the_envelope_are_those_that_the_index_writes() -> None:
    from cd4ml.index.fold import encode_envelope
    from cd4ml.index.record import Entry, ExperimentRecord

    written = json.loads(encode_envelope(Entry(ExperimentRecord({"id": "e0"}), "0" * 64, "0" * 40, "A <a@b>", 1)))
    assert names(RECORDS, "## The index branch") == set(written)


def names(page: Path, heading: str) -> set[str]:
    """All that is `code` in the first column of a table."""
    return {name for row in table(page, heading) for name in re.findall(r"`([^`]+)`", row[0])}


def test_the_metrics_that_the_page_offers_are_those_that_there_are() -> None:
    from cd4ml.spec.metrics import DIRECTIONS

    told = documented()["evaluation.metrics"][4]
    assert re.findall(r"`([^`]+)`", told) == list(DIRECTIONS)


def test_contributing_lists_every_make_target() -> None:
    targets = set(re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    told = {name.removeprefix("make ") for name in names(ROOT / "CONTRIBUTING.md", "## Set up")}
    assert told | {"help"} == targets | {"help"}


def test_every_decision_is_listed_and_numbered_in_order() -> None:
    folder = ROOT / "docs/decisions"
    pages = sorted(path.name for path in folder.glob("[0-9]*.md"))
    listed = re.findall(r"\]\((\d{4}-[a-z0-9-]+\.md)\)", (folder / "README.md").read_text("utf-8"))
    assert listed == pages
    assert [int(name[:4]) for name in pages] == list(range(1, len(pages) + 1))


def test_pre_commit_uses_nothing_but_the_tools_of_the_project() -> None:
    settings = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    assert [repository["repo"] for repository in settings["repos"]] == ["local"]
    for hook in settings["repos"][0]["hooks"]:
        assert hook["language"] == "system"
        assert hook["entry"].startswith(".venv/bin/")
