"""Expectations through the real Great Expectations, with its silent successes closed off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cd4ml.errors import ConfigError, StageFailed
from cd4ml.spec.experiment import ExpectationSpec, Severity, ValidationSpec
from cd4ml.spec.pipeline import DATA_DOCS, EXPECTATION_RESULTS
from cd4ml.stages import validate
from cd4ml.stages.expectations import check_expectations, known_types
from cd4ml.stages.runner import run_stage
from cd4ml.stages.validate import describe, is_true, validate_table
from tests.stages.stage_world import build, resolved

TABLE = pd.DataFrame(
    {
        "x": [*np.arange(98.0), np.nan, 1000.0],
        "word": pd.Series(["secret-a", "secret-b"] * 50, dtype="str"),
        "when": pd.date_range("2013-01-01", periods=100, freq="D", tz="UTC").astype("datetime64[ns, UTC]"),
        "n": np.arange(100, dtype=np.int64),
    }
)


def expect(type_: str, severity: Severity = "critical", **kwargs: Any) -> ExpectationSpec:
    return ExpectationSpec(type_, kwargs, severity)


def suite(*expectations: ExpectationSpec) -> ValidationSpec:
    return ValidationSpec("tested", expectations)


NOT_NULL = expect("expect_column_values_to_not_be_null", column="n")


def problems(*expectations: ExpectationSpec) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        validate_table(TABLE, suite(*expectations))
    return {problem.key: f"{problem.message} {problem.hint}" for problem in caught.value.problems}


def test_each_expectation_is_answered_in_the_order_asked_with_counts() -> None:
    results = validate_table(
        TABLE,
        suite(
            expect("expect_column_values_to_be_between", column="x", min_value=0, max_value=99),
            expect("expect_column_values_to_not_be_null", "warning", column="x"),
            expect("expect_column_mean_to_be_between", column="n", min_value=0, max_value=60),
            expect("expect_table_row_count_to_be_between", min_value=10),
            expect("expect_column_values_to_be_in_set", column="word", value_set=["secret-a", "secret-b"]),
            NOT_NULL,
            NOT_NULL,
        ),
    )
    assert (results["asked"], results["returned"], results["rows"], results["success"]) == (7, 7, 100, False)
    assert [item["success"] for item in results["expectations"]] == [False, False, True, True, True, True, True]
    assert [item["index"] for item in results["expectations"]] == list(range(7))
    between, null, mean = results["expectations"][:3]
    assert (between["unexpected_count"], between["element_count"]) == (1, 100)
    assert (null["unexpected_count"], null["unexpected_percent"]) == (1, 1.0)
    assert mean["observed"] == 49.5
    told = describe(between)
    assert told.startswith("expect_column_values_to_be_between on x failed: 1 of 99 unexpected (1.01 %)"), (
        "one is missing"
    )


def test_only_a_critical_expectation_decides() -> None:
    gap = expect("expect_column_values_to_not_be_null", "warning", column="x")
    assert validate_table(TABLE, suite(gap, NOT_NULL))["success"] is True


def test_no_content_of_a_text_cell_reaches_the_results() -> None:
    results = validate_table(
        TABLE,
        suite(
            expect("expect_column_values_to_be_in_set", column="word", value_set=["other"]),
            expect("expect_column_distinct_values_to_be_in_set", column="word", value_set=["other"]),
            expect("expect_column_most_common_value_to_be_in_set", column="word", value_set=["other"]),
            expect("expect_column_max_to_be_between", column="word", max_value=3),
        ),
    )
    assert [item["success"] for item in results["expectations"]] == [False] * 4
    assert "secret" not in json.dumps(results)
    assert "secret" not in " ".join(describe(item) for item in results["expectations"])


@pytest.mark.parametrize("bound", ["max", "min"])
def test_a_cell_that_an_expectation_observes_is_not_told(bound: str) -> None:
    asked = expect(f"expect_column_{bound}_to_be_between", column="word")
    results = validate_table(TABLE, suite(asked))
    assert results["success"] is True
    assert results["expectations"][0]["observed"] is None
    assert "secret" not in json.dumps(results)


@pytest.mark.parametrize("verdict", [1, "no", None, [], np.int64(1)])
def test_what_is_no_truth_value_is_no_success(verdict: object) -> None:
    assert not is_true(verdict)
    assert is_true(np.bool_(True))


def test_an_unknown_type_is_an_error_with_the_nearest_name_and_not_a_success() -> None:
    """Great Expectations drops it, and calls the rest a success."""
    found = problems(expect("expect_column_values_to_not_be_nul", column="x"), NOT_NULL)
    assert list(found) == ["validation.expectations[0].type"]
    assert "did you mean expect_column_values_to_not_be_null?" in found["validation.expectations[0].type"]


def test_an_empty_suite_and_a_table_without_rows_are_refused() -> None:
    assert list(problems()) == ["validation.expectations"]
    with pytest.raises(StageFailed, match="no rows"):
        validate_table(TABLE.iloc[:0], suite(NOT_NULL))


@pytest.mark.parametrize(
    ("kwargs", "key"),
    [
        ({"column": "x", "row_condition": "@pd.read_pickle('x')", "condition_parser": "pandas"}, "row_condition"),
        ({"column": "x", "condition_parser": "pandas"}, "condition_parser"),
        ({"column": "x", "result_format": "COMPLETE"}, "result_format"),
        ({"column": "x", "catch_exceptions": False}, "catch_exceptions"),
        ({"column": "x", "meta": {"cd4ml_index": 3}}, "meta"),
        ({"column": "x", "windows": []}, "windows"),
        ({"colunm": "x"}, "colunm"),
        ({"column": "x", "mostly": {"$PARAMETER": "1 + 1"}}, "mostly"),
        ({"column": "x", "mostly": 1.5}, "mostly"),
        ({"column": 3}, "column"),
        ({}, "column"),
    ],
)
def test_arguments_that_are_evaluated_unknown_or_wrong_are_refused_by_name(kwargs: dict[str, Any], key: str) -> None:
    found = problems(expect("expect_column_values_to_not_be_null", **kwargs))
    assert f"validation.expectations[0].kwargs.{key}" in found


def test_every_problem_of_a_suite_is_reported_at_once() -> None:
    found = problems(
        expect("nonsense"),
        expect("expect_column_values_to_be_between", column="x"),
        expect("expect_column_values_to_not_be_null", column="x", row_condition="True"),
    )
    assert [key.split(".")[1] for key in found] == ["expectations[0]", "expectations[1]", "expectations[2]"]


def test_a_column_that_the_table_lacks_is_a_failure_with_the_nearest_name() -> None:
    results = validate_table(TABLE, suite(expect("expect_column_values_to_not_be_null", column="wrod"), NOT_NULL))
    assert [item["success"] for item in results["expectations"]] == [False, True]
    assert "no column 'wrod' (did you mean word?)" in describe(results["expectations"][0])
    absent = validate_table(TABLE, suite(expect("expect_column_to_exist", column="wrod")))
    assert absent["success"] is False


def test_an_expectation_that_raises_has_failed() -> None:
    results = validate_table(
        TABLE, suite(expect("expect_column_mean_to_be_between", column="word", min_value=0), NOT_NULL)
    )
    assert [item["success"] for item in results["expectations"]] == [False, True]
    assert results["expectations"][0]["error"] == "it raised an exception"


def test_bounds_of_a_time_column_may_be_written_as_text() -> None:
    inside = expect("expect_column_values_to_be_between", column="when", min_value="2013-01-01", max_value="2014-01-01")
    outside = expect("expect_column_values_to_be_between", column="when", min_value="2013-01-02T00:00:00Z")
    results = validate_table(TABLE, suite(inside, outside))
    assert [item["success"] for item in results["expectations"]] == [True, False]
    assert results["expectations"][1]["unexpected_count"] == 1


def test_an_answer_that_was_not_asked_for_stops_the_stage(monkeypatch: Any) -> None:
    original = known_types()
    other = original["expect_column_values_to_be_unique"]
    monkeypatch.setattr(validate, "known_types", lambda: {**original, "expect_column_values_to_not_be_null": other})
    with pytest.raises(StageFailed, match="Great Expectations"):
        validate_table(TABLE, suite(NOT_NULL))


def test_the_stage_writes_its_results_before_it_fails(tmp_path: Path) -> None:
    rejected = [
        {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "plane", "mostly": 0.99}},
        {
            "type": "expect_column_values_to_be_between",
            "kwargs": {"column": "distance", "max_value": 5},
            "severity": "warning",
        },
    ]
    build(tmp_path / "root", tmp_path / "raw", resolved({"validation.expectations": rejected}))
    run_stage("ingest", tmp_path / "root", tmp_path / "raw")
    with pytest.raises(
        StageFailed, match=r"expect_column_values_to_not_be_null on plane failed: \d+ of 54 unexpected"
    ) as caught:
        run_stage("validate", tmp_path / "root", tmp_path / "raw")
    assert (caught.value.stage, caught.value.kind) == ("validate", "deterministic")
    results = json.loads((tmp_path / "root" / EXPECTATION_RESULTS).read_text())
    assert results["success"] is False
    assert [item["severity"] for item in results["expectations"]] == ["critical", "warning"]
    page = (tmp_path / "root" / DATA_DOCS).read_text()
    assert "Rejected" in page
    assert "1 critical and 1 with a warning were not" in page


def test_the_suites_that_the_project_ships_are_all_known() -> None:
    import yaml

    for path in (Path(__file__).parents[2] / "conf/validation").glob("*.yaml"):
        content = yaml.safe_load(path.read_text())
        expectations = [
            expect(item["type"], item.get("severity", "critical"), **item["kwargs"]) for item in content["expectations"]
        ]
        assert check_expectations(ValidationSpec(content["suite"], tuple(expectations))) == ()


def test_validating_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    validate_table(TABLE, suite(NOT_NULL))
    assert capfd.readouterr() == ("", "")
