"""What docs/ says of the filter language and of JSON is what the code does."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from cd4ml.errors import UsageError
from cd4ml.index.fields import CHOICES, FIELDS, GROUPS, LISTS, SYNONYMS, forms
from cd4ml.index.paths import path_text
from cd4ml.index.query import parse

DOCS = Path(__file__).parents[2] / "docs"
SEARCH = (DOCS / "search.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```\n(.*?)```", SEARCH, re.DOTALL)[1].splitlines()


@pytest.mark.parametrize("text", EXAMPLES)
def test_every_example_of_a_filter_can_be_read(text: str) -> None:
    assert parse(text) is not None


def test_every_example_elsewhere_in_the_documentation_can_be_read() -> None:
    pages = [page.read_text("utf-8") for page in (*DOCS.rglob("*.md"), DOCS.parent / "README.md")]
    found = [text for page in pages for text in re.findall(r"cd4ml search \"([^\"\n]+)\"", page)]
    assert len(found) > 5
    for text in found:
        assert parse(text) is not None


def test_every_field_and_every_word_that_one_can_be_is_documented() -> None:
    assert len(EXAMPLES) > 20
    assert [field for field in FIELDS if f"`{field}`" not in SEARCH] == []
    assert [path for path in LISTS if f"`{path_text(path)}`" not in SEARCH] == []
    written = [form for head in GROUPS for form, _ in forms(head)]
    assert [form for form in written if f"`{form}`" not in SEARCH] == []
    shown = set(CHOICES["health"]) - {"Progressing", "Missing"}  # of a branch, never of a run
    words = {*shown, *(word for field, words in CHOICES.items() if field != "health" for word in words)}
    assert [word for word in words if f"`{word}`" not in SEARCH] == []


def test_every_other_spelling_is_documented_with_what_it_means() -> None:
    (table,) = re.findall(r"## Coming from MLflow\n(.*?)\n## ", SEARCH, re.DOTALL)
    for other, means in SYNONYMS.items():
        (line,) = [line for line in table.splitlines() if f"`{other}`" in line.partition(" | ")[0]]
        assert f"`{means}`" in line.partition(" | ")[2]


def test_the_mistake_that_is_shown_is_the_one_that_is_made() -> None:
    (shown,) = re.findall(r"```text\n(.*?)\n```", SEARCH, re.DOTALL)
    with pytest.raises(UsageError) as caught:
        parse("metrcs.rmse < 3")
    assert str(caught.value) == shown


@pytest.mark.parametrize(
    ("name", "always"),
    [
        (
            "runs",
            {
                *("id", "fingerprint", "branch", "commit", "result_commit"),
                *("health", "lifecycle", "params", "metrics", "reason"),
            },
        ),
        ("fields", {"name", "type", "meaning", "operators", "words", "synonyms", "held"}),
        (
            "experiments",
            {
                *("branch", "commit", "sync", "health", "lifecycle"),
                *("fingerprint", "merge_fingerprint", "reason"),
            },
        ),
    ],
)
def test_the_published_shapes_are_schemas_that_demand_what_is_promised(name: str, always: set[str]) -> None:
    schema = json.loads((DOCS / "schemas" / f"{name}.schema.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    items = schema["properties"][name]["items"]
    assert set(schema["required"]) == {"version", name}
    assert set(items["required"]) == always
    assert all(part["description"] for part in items["properties"].values())
    page = (DOCS / "json.md").read_text(encoding="utf-8")
    assert [field for field in always if f"`{field}`" not in page] == []
