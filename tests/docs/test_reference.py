"""The reference pages list what there is: no key or field is missing, none is made up."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from cd4ml.cli.app import app
from cd4ml.spec.keys import MEANINGS
from docs import reference
from tests.docs.pages import ROOT, table

RECORDS = ROOT / "docs/records.md"


@pytest.mark.parametrize("page", sorted(reference.PAGES), ids=lambda page: str(page.name))
def test_the_reference_pages_are_what_the_code_gives(page: Path) -> None:
    assert page.read_text("utf-8") == reference.PAGES[page](), "run `make reference`"


def test_every_key_that_is_asked_for_has_a_meaning_and_no_other() -> None:
    with_rows = {key for key, meaning in MEANINGS.items() if meaning}
    assert with_rows == set(reference.asked()) - {key for key, meaning in MEANINGS.items() if not meaning}


def test_every_key_of_this_repository_is_documented() -> None:
    page = reference.CONFIGURATION.read_text("utf-8")
    for key in reference.asked():
        if MEANINGS[key]:
            assert f"| `{key}` |" in page


def test_every_option_of_every_verb_is_documented() -> None:
    page = reference.COMMANDS.read_text("utf-8")
    for verb in ("init", "new", "run", "update", "config", "data update", "reconcile", "search", "reproduce"):
        section = page.partition(f"\n## cd4ml {verb}\n")[2].partition("\n## ")[0]
        assert section, verb
        printed = CliRunner().invoke(app, [*verb.split(), "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"}).output
        options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", printed)) - {"--help"}
        assert options <= set(re.findall(r"--[a-z][a-z-]+", section)), verb


@pytest.mark.parametrize(
    ("heading", "kind"),
    [
        ("### A run", "run"),
        ("### An experiment", "experiment"),
        ("### A removal", "removal"),
        ("### An import", "import"),
    ],
)
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
