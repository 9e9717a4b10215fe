"""What docs/ says of the filter language and of JSON is what the code does."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from cd4ml.errors import UsageError
from cd4ml.index.filter import FIELDS
from cd4ml.index.query import parse

DOCS = Path(__file__).parents[2] / "docs"
SEARCH = (DOCS / "search.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```\n(.*?)```", SEARCH, re.DOTALL)[1].splitlines()


@pytest.mark.parametrize("text", EXAMPLES)
def test_every_example_of_a_filter_can_be_read(text: str) -> None:
    assert parse(text) is not None


def test_every_field_is_documented() -> None:
    assert len(EXAMPLES) > 5
    assert [field for field in FIELDS if f"`{field}`" not in SEARCH] == []


def test_the_mistake_that_is_shown_is_the_one_that_is_made() -> None:
    (shown,) = re.findall(r"```text\n(.*?)\n```", SEARCH, re.DOTALL)
    with pytest.raises(UsageError) as caught:
        parse("metric.rmse < 3")
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
