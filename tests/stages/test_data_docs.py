"""Data Docs: one page that reads well, loads nothing, and is the same bytes for the same table and suite."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cd4ml.spec.experiment import ExpectationSpec, Severity, ValidationSpec
from cd4ml.spec.pipeline import DATA_DOCS, Pipeline, stages
from cd4ml.stages.data_docs import data_docs, observed_text
from cd4ml.stages.runner import run_stage
from cd4ml.stages.validate import validate_table
from tests.stages.stage_world import build, resolved

MARKUP = "<script>alert('x')</script>\"'&<img src=x onerror=y>"
TABLE = pd.DataFrame(
    {
        "n": [1.0, 2.0, float("nan"), 4.0],
        "word": pd.Series(["secret-cell", "other-cell", "secret-cell", "other-cell"], dtype="str"),
        MARKUP: [1, 2, 3, 4],
    }
)


class Page(HTMLParser):
    """The tags of a page, their attributes, and the text of each row of its table."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.rows: list[list[str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "tr":
            self.rows.append([])
        elif tag == "td":
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data.strip()


def expect(type_: str, severity: Severity = "critical", /, **kwargs: Any) -> ExpectationSpec:
    return ExpectationSpec(type_, kwargs, severity)


def page(*asked: ExpectationSpec, suite: str = "tested", table: pd.DataFrame = TABLE) -> str:
    return data_docs(validate_table(table, ValidationSpec(suite, asked)))


ASKED = (
    expect("expect_column_values_to_be_between", column="n", min_value=0, max_value=3),
    expect("expect_column_values_to_be_between", "warning", column="n", min_value=2),
    expect("expect_column_values_to_be_in_set", column="word", value_set=["nothing"]),
    expect("expect_column_mean_to_be_between", column="n", min_value=2, max_value=3),
    expect("expect_column_values_to_not_be_null", column="wrod"),
)


def test_the_page_says_what_was_asked_and_what_came_out() -> None:
    text = page(*ASKED)
    rows = Page(text).rows[1:]
    assert [row[3] for row in rows] == [
        "not met",
        "not met",
        "not met",
        "met",
        "not met: the table has no column 'wrod' (did you mean word?)",
    ]
    assert rows[0] == [
        "0",
        'expect column values to be betweencolumn = "n", max_value = 3, min_value = 0',
        "critical",
        "not met",
        "",
        "1 of 3 (33.33 %)",
        "1 of 4 (25.00 %)",
    ]
    assert rows[3][4] == "2.33333"
    assert "Rejected" in text
    assert re.search(r"1 of 5 expectations met on 4 rows;\s+3 critical and 1 with a warning were not", text)
    assert "Accepted" in page(ASKED[1], ASKED[3])


def test_names_and_values_never_become_markup() -> None:
    text = page(
        expect("expect_column_values_to_not_be_null", column=MARKUP),
        expect("expect_column_values_to_be_in_set", column="word", value_set=[MARKUP, "{{ 7 * 7 }}"]),
        expect("expect_column_to_exist", column="</td></table>" + MARKUP),
        expect("expect_column_values_to_not_be_null", column=MARKUP + "?"),
        suite=MARKUP,
    )
    plain = Page(page(*ASKED[:4]))
    found = Page(text)
    assert (set(found.tags), found.rows[0]) == (set(plain.tags), plain.rows[0])
    assert len(found.rows) == 5
    assert {name for name, _ in found.attributes} == {name for name, _ in plain.attributes}
    assert "49" not in text


def test_the_page_loads_nothing_and_runs_nothing() -> None:
    text = page(*ASKED)
    found = Page(text)
    assert not {"script", "link", "img", "iframe", "object", "base", "form"} & set(found.tags)
    assert not {"src", "href", "onclick", "action"} & {name for name, _ in found.attributes}
    assert not re.search(r"https?:|//[a-z]|url\(|@import", text)
    assert "default-src 'none'" in text


def test_the_page_tells_no_cell() -> None:
    text = page(
        *ASKED,
        expect("expect_column_most_common_value_to_be_in_set", column="word", value_set=["x"]),
        expect("expect_column_max_to_be_between", column="word", max_value=1),
        expect("expect_column_mean_to_be_between", column="word", max_value=1),
    )
    assert "-cell" not in text


def test_the_same_table_and_suite_give_the_same_bytes_in_any_folder(tmp_path: Path) -> None:
    pages = []
    for name in ("one", "another"):
        build(tmp_path / name, tmp_path / "raw", resolved())
        for stage in ("ingest", "validate"):
            run_stage(stage, tmp_path / name, tmp_path / "raw")
        pages.append((tmp_path / name / DATA_DOCS).read_bytes())
    assert pages[0] == pages[1]
    assert b"2 of 2 expectations met on 54 rows" in pages[0]
    assert str(tmp_path).encode() not in pages[0]


def test_the_page_is_an_output_of_the_stage() -> None:
    (validate,) = (stage for stage in stages(Pipeline(())) if stage.name == "validate")
    assert DATA_DOCS in validate.outs


def test_a_long_suite_makes_a_small_page() -> None:
    value_set = [f"value {at}" for at in range(2000)]
    asked = expect("expect_column_values_to_be_in_set", column="word", value_set=value_set)
    results = validate_table(TABLE, ValidationSpec("long", (asked,)))
    results = {**results, "asked": 50, "expectations": results["expectations"] * 50}
    text = data_docs(results)
    assert len(text.encode()) < 100_000
    assert "value 1 " not in text
    assert "…" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (0.0, "0"), (1234567.0, "1.23457e+06"), ([0.1, None, 2.5], "0.1, 2.5"), ("float64", "float64")],
)
def test_an_observed_value_is_told_in_short(value: Any, text: str) -> None:
    assert observed_text(value) == text
