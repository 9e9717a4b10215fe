"""Every expectation type that Great Expectations brings is run both ways, or refused with its reason."""

from __future__ import annotations

import contextlib
import http.server
import json
import re
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cd4ml.errors import ConfigError, StageFailed
from cd4ml.spec.experiment import ExpectationSpec, ValidationSpec
from cd4ml.spec.parse import parse
from cd4ml.stages import expectations, validate
from cd4ml.stages.data_docs import data_docs
from cd4ml.stages.expectations import REFUSED, SECONDS_PER_ROW, check_expectations, known_types
from cd4ml.stages.validate import seconds_for, validate_table
from tests.stages.stage_world import resolved

ROWS = 20
TABLE = pd.DataFrame(
    {
        "n": np.arange(ROWS, dtype=np.int64),
        "next": np.arange(ROWS, dtype=np.int64) + 1,
        "x": np.linspace(0, 1, ROWS),
        "gap": [np.nan] * 5 + [1.0] * 15,
        "empty": [np.nan] * ROWS,
        "word": pd.Series(["a", "b"] * (ROWS // 2), dtype="str"),
        "day": pd.Series([f"2013-01-{day + 1:02d}" for day in range(ROWS)], dtype="str"),
        "json": pd.Series(['{"a": 1}'] * ROWS, dtype="str"),
        "flag": [True, False] * (ROWS // 2),
        "when": pd.date_range("2013-01-01", periods=ROWS, freq="D", tz="UTC").astype("datetime64[ns, UTC]"),
    }
)
NAMES = list(TABLE.columns)
N, X, WORD, DAY, JSON = ({"column": name} for name in ("n", "x", "word", "day", "json"))

FORMS: Mapping[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "expect_column_distinct_values_to_be_in_set": (WORD | {"value_set": ["a", "b"]}, WORD | {"value_set": ["a"]}),
    "expect_column_distinct_values_to_contain_set": (WORD | {"value_set": ["a"]}, WORD | {"value_set": ["c"]}),
    "expect_column_distinct_values_to_equal_set": (WORD | {"value_set": ["b", "a"]}, WORD | {"value_set": ["a"]}),
    "expect_column_kl_divergence_to_be_less_than": (
        WORD | {"partition_object": {"values": ["a", "b"], "weights": [0.5, 0.5]}, "threshold": 0.1},
        X | {"partition_object": {"bins": [0.0, 0.5, 1.0], "weights": [0.99, 0.01]}, "threshold": 0.1},
    ),
    "expect_column_max_to_be_between": (N | {"max_value": 19}, N | {"max_value": 18}),
    "expect_column_mean_to_be_between": (N | {"min_value": 9, "max_value": 10}, N | {"min_value": 10}),
    "expect_column_median_to_be_between": (N | {"min_value": 9, "max_value": 10}, N | {"min_value": 10}),
    "expect_column_min_to_be_between": (N | {"min_value": 0}, N | {"min_value": 0, "strict_min": True}),
    "expect_column_most_common_value_to_be_in_set": (
        {"column": "gap", "value_set": [1.0]},
        {"column": "gap", "value_set": [2.0]},
    ),
    "expect_column_pair_values_a_to_be_greater_than_b": (
        {"column_A": "next", "column_B": "n"},
        {"column_A": "n", "column_B": "next", "or_equal": True},
    ),
    "expect_column_pair_values_to_be_equal": (
        {"column_A": "n", "column_B": "n"},
        {"column_A": "n", "column_B": "next"},
    ),
    "expect_column_pair_values_to_be_in_set": (
        {"column_A": "flag", "column_B": "word", "value_pairs_set": [[True, "a"], [False, "b"]]},
        {"column_A": "flag", "column_B": "word", "value_pairs_set": [[True, "b"]]},
    ),
    "expect_column_proportion_of_non_null_values_to_be_between": (
        {"column": "gap", "min_value": 0.7},
        {"column": "gap", "min_value": 0.8},
    ),
    "expect_column_proportion_of_unique_values_to_be_between": (N | {"min_value": 1.0}, WORD | {"min_value": 0.2}),
    "expect_column_quantile_values_to_be_between": (
        X | {"quantile_ranges": {"quantiles": [0.1, 0.5], "value_ranges": [[0, 0.2], [None, 0.6]]}},
        X | {"quantile_ranges": {"quantiles": [0.1, 0.5], "value_ranges": [[0.2, 0.3], [None, 0.6]]}},
    ),
    "expect_column_stdev_to_be_between": (N | {"max_value": 6}, N | {"max_value": 5}),
    "expect_column_sum_to_be_between": (N | {"min_value": 190, "max_value": 190}, N | {"max_value": 189}),
    "expect_column_to_exist": (X, {"column": "y"}),
    "expect_column_type_to_be": (X | {"type_": "float64"}, X | {"type_": "int64"}),
    "expect_column_unique_value_count_to_be_between": (WORD | {"max_value": 2}, WORD | {"max_value": 1}),
    "expect_column_value_lengths_to_be_between": (WORD | {"max_value": 1}, WORD | {"min_value": 2}),
    "expect_column_value_lengths_to_equal": (WORD | {"value": 1}, WORD | {"value": 2}),
    "expect_column_value_z_scores_to_be_less_than": (
        X | {"threshold": 3, "double_sided": True},
        X | {"threshold": 0.1, "double_sided": True},
    ),
    "expect_column_values_to_be_between": (X | {"min_value": 0, "max_value": 1}, X | {"min_value": 0.5}),
    "expect_column_values_to_be_dateutil_parseable": (DAY, JSON),
    "expect_column_values_to_be_decreasing": ({"column": "gap"}, N),
    "expect_column_values_to_be_in_set": (WORD | {"value_set": ["a", "b"]}, WORD | {"value_set": ["a"]}),
    "expect_column_values_to_be_in_type_list": (X | {"type_list": ["float64"]}, X | {"type_list": ["int64", "bool"]}),
    "expect_column_values_to_be_increasing": (N | {"strictly": True}, {"column": "gap", "strictly": True}),
    "expect_column_values_to_be_json_parseable": (JSON, WORD),
    "expect_column_values_to_be_null": ({"column": "empty"}, {"column": "gap"}),
    "expect_column_values_to_be_of_type": (X | {"type_": "float64"}, X | {"type_": "int64"}),
    "expect_column_values_to_be_unique": (N, WORD),
    "expect_column_values_to_match_json_schema": (
        JSON | {"json_schema": {"$ref": "#/$defs/counts", "$defs": {"counts": {"required": ["a"]}}}},
        JSON | {"json_schema": {"type": "array"}},
    ),
    "expect_column_values_to_match_regex": (WORD | {"regex": "^[ab]$"}, WORD | {"regex": "^a$", "mostly": 0.6}),
    "expect_column_values_to_match_regex_list": (
        WORD | {"regex_list": ["a", "b"]},
        WORD | {"regex_list": ["a", "b"], "match_on": "all"},
    ),
    "expect_column_values_to_match_strftime_format": (
        DAY | {"strftime_format": "%Y-%m-%d"},
        DAY | {"strftime_format": "%d.%m.%Y"},
    ),
    "expect_column_values_to_not_be_in_set": (WORD | {"value_set": ["c"]}, WORD | {"value_set": ["a"]}),
    "expect_column_values_to_not_be_null": (N, {"column": "gap"}),
    "expect_column_values_to_not_be_outliers": (X, N | {"method": "std", "multiplier": 0.5}),
    "expect_column_values_to_not_match_regex": (WORD | {"regex": "c"}, WORD | {"regex": "^a$"}),
    "expect_column_values_to_not_match_regex_list": (WORD | {"regex_list": ["c"]}, WORD | {"regex_list": ["c", "a"]}),
    "expect_compound_columns_to_be_unique": ({"column_list": ["n", "word"]}, {"column_list": ["flag", "word"]}),
    "expect_multicolumn_sum_to_equal": (
        {"column_list": ["n", "next"], "sum_total": 1, "mostly": 0.05},
        {"column_list": ["n", "next"], "sum_total": 1},
    ),
    "expect_multicolumn_values_to_be_equal": ({"column_list": ["n", "n"]}, {"column_list": ["n", "next"]}),
    "expect_select_column_values_to_be_unique_within_record": (
        {"column_list": ["n", "next"]},
        {"column_list": ["n", "n"]},
    ),
    "expect_table_column_count_to_be_between": ({"min_value": 1}, {"max_value": 9}),
    "expect_table_column_count_to_equal": ({"value": len(NAMES)}, {"value": 1}),
    "expect_table_columns_to_match_ordered_list": ({"column_list": NAMES}, {"column_list": NAMES[::-1]}),
    "expect_table_columns_to_match_set": (
        {"column_set": ["n", "x"], "exact_match": False},
        {"column_set": ["n", "x"]},
    ),
    "expect_table_row_count_to_be_between": ({"min_value": ROWS}, {"min_value": ROWS, "strict_min": True}),
    "expect_table_row_count_to_equal": ({"value": ROWS}, {"value": 1}),
}
"""For each type that is allowed: arguments with which ``TABLE`` meets it, and with which it does not."""


_PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def expect(type_: str, /, **kwargs: Any) -> ExpectationSpec:
    return ExpectationSpec(type_, kwargs, "critical")


def suite(*asked: ExpectationSpec) -> ValidationSpec:
    return ValidationSpec("tested", asked)


def problems(*asked: ExpectationSpec) -> dict[str, str]:
    return {problem.key: f"{problem.message} {problem.hint}" for problem in check_expectations(suite(*asked))}


@pytest.fixture(scope="module")
def outcomes() -> dict[str, list[dict[str, Any]]]:
    """The results of all forms, asked in one suite, by type: the one that is met, the one that is not."""
    asked = [expect(type_, **kwargs) for type_, forms in FORMS.items() for kwargs in forms]
    results = validate_table(TABLE, suite(*asked))
    assert results["asked"] == results["returned"] == len(asked)
    found: dict[str, list[dict[str, Any]]] = {}
    for item in results["expectations"]:
        found.setdefault(item["type"], []).append(item)
    return found


def test_every_registered_type_is_run_here_or_refused() -> None:
    import great_expectations.expectations.core
    from great_expectations.expectations import registry

    assert great_expectations.expectations.core
    registered = set(registry.list_registered_expectation_implementations())
    assert set(FORMS) | set(REFUSED) == registered
    assert set(FORMS) == set(known_types())


@pytest.mark.parametrize("type_", sorted(FORMS))
def test_a_type_is_met_and_not_met_as_it_should(type_: str, outcomes: dict[str, list[dict[str, Any]]]) -> None:
    met, unmet = outcomes[type_]
    assert (met["success"], met["error"]) == (True, None)
    assert (unmet["success"], unmet["error"]) == (False, None)


def test_what_is_observed_is_told_as_numbers_and_types(outcomes: dict[str, list[dict[str, Any]]]) -> None:
    quantiles = outcomes["expect_column_quantile_values_to_be_between"][0]
    assert quantiles["observed"] == pytest.approx([2 / 19, 10 / 19])
    assert outcomes["expect_column_type_to_be"][1]["observed"] == "float64"
    assert outcomes["expect_column_mean_to_be_between"][1]["observed"] == 9.5
    assert outcomes["expect_table_column_count_to_equal"][1]["observed"] == 10.0
    texts = {item["observed"] for both in outcomes.values() for item in both if isinstance(item["observed"], str)}
    assert texts == {"float64"}
    gap = outcomes["expect_column_values_to_be_increasing"][1]
    assert (gap["missing_count"], gap["missing_percent"], gap["element_count"]) == (5, 25.0, ROWS)
    assert (gap["unexpected_count"], gap["unexpected_percent"]) == (14, pytest.approx(100 * 14 / 15))


@pytest.mark.parametrize("type_", sorted(REFUSED))
def test_a_refused_type_says_why(type_: str) -> None:
    found = problems(expect(type_))
    assert found == {"validation.expectations[0].type": f"{type_} is refused: {REFUSED[type_]} "}


@pytest.mark.parametrize("type_", sorted(type_ for type_ in REFUSED if "like_pattern" in type_))
def test_like_patterns_are_refused_since_great_expectations_cannot_match_them_here(
    type_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When it learns to, this test says so, and the type can be allowed."""
    from great_expectations.expectations import registry

    kind = registry.get_expectation_impl(type_)
    monkeypatch.setattr(expectations, "REFUSED", {})
    for module in (expectations, validate):
        monkeypatch.setattr(module, "known_types", lambda: {type_: kind})
    pattern = {"like_pattern_list": ["a%"]} if type_.endswith("_list") else {"like_pattern": "a%"}
    results = validate_table(TABLE, suite(expect(type_, column="word", **pattern)))
    assert results["expectations"][0]["error"] == "it raised an exception"


@pytest.mark.parametrize("type_", sorted(FORMS))
def test_every_type_refuses_an_argument_that_it_lacks_names_the_nearest_and_refuses_parameters(type_: str) -> None:
    kwargs = FORMS[type_][0]
    key = next(iter(kwargs))
    misspelt = problems(expect(type_, **{f"{key}x": kwargs[key]}))[f"validation.expectations[0].kwargs.{key}x"]
    assert misspelt == f"{type_} takes no such argument did you mean {key}?"
    evaluated = problems(expect(type_, **{**kwargs, key: {"$PARAMETER": "1 + 1"}}))
    assert "$PARAMETER" in evaluated[f"validation.expectations[0].kwargs.{key}"]
    condition = problems(expect(type_, **kwargs, row_condition="@pd.read_pickle('x')"))
    assert "evaluated as code" in condition["validation.expectations[0].kwargs.row_condition"]


SPEAKS_OF_COLUMNS = sorted(
    name for name in FORMS if not name.startswith("expect_table_") and name != "expect_column_to_exist"
)


@pytest.mark.parametrize("type_", SPEAKS_OF_COLUMNS)
def test_every_type_fails_on_a_column_that_the_table_lacks_and_names_the_nearest(type_: str) -> None:
    kwargs = dict(FORMS[type_][0])
    places = [key for key in ("column", "column_A", "column_list") if key in kwargs]
    kwargs[places[0]] = ["n", "wrod"] if places[0] == "column_list" else "wrod"
    (item,) = validate_table(TABLE, suite(expect(type_, **kwargs)))["expectations"]
    assert (item["success"], item["error"]) == (False, "the table has no column 'wrod' (did you mean word?)")


@pytest.mark.parametrize(
    ("asked", "key"),
    [
        (expect("expect_column_values_to_be_between", column="x"), ""),
        (expect("expect_column_values_to_be_between", column="x", min_value=[1]), ".min_value"),
        (expect("expect_column_values_to_be_between", column="x", max_value=float("inf")), ".max_value"),
        (expect("expect_column_values_to_be_in_set", column="x", value_set=[1, float("nan")]), ".value_set"),
        (expect("expect_column_values_to_be_in_set", column="x", value_set=3), ".value_set"),
        (expect("expect_compound_columns_to_be_unique", column_list=3), ".column_list"),
        (expect("expect_column_values_to_match_regex", column="word", regex="("), ".regex"),
        (
            expect("expect_column_values_to_not_match_regex_list", column="word", regex_list=["a", "["]),
            ".regex_list[1]",
        ),
        (expect("expect_column_values_to_match_regex_list", column="word", regex_list=[]), ".regex_list"),
        (expect("expect_column_values_to_match_json_schema", column="word", json_schema={"type": 3}), ".json_schema"),
        (
            expect("expect_column_values_to_match_json_schema", column="word", json_schema={"pattern": "("}),
            ".json_schema",
        ),
        (
            expect(
                "expect_column_values_to_match_json_schema", column="word", json_schema={"patternProperties": {"(": {}}}
            ),
            ".json_schema",
        ),
    ],
)
def test_an_argument_of_the_wrong_kind_is_refused_in_one_line_by_its_key(asked: ExpectationSpec, key: str) -> None:
    found = problems(asked)
    assert list(found) == [f"validation.expectations[0].kwargs{key}"]
    assert "\n" not in "".join(found.values())


def test_a_bound_of_a_time_column_that_is_no_time_is_a_failure_that_says_so() -> None:
    results = validate_table(
        TABLE, suite(expect("expect_column_values_to_be_between", column="when", min_value={"day": "soon"}))
    )
    assert results["expectations"][0]["error"] == "min_value and max_value of a time column must be ISO 8601 times"


def test_expectations_that_raise_while_they_are_prepared_fail_alone() -> None:
    """Great Expectations then answers none of a suite."""
    results = validate_table(
        TABLE,
        suite(
            expect("expect_column_values_to_not_be_null", column="n"),
            expect("expect_column_quantile_values_to_be_between", column="x", quantile_ranges={}),
            expect("expect_column_kl_divergence_to_be_less_than", column="x", partition_object={}, threshold=1),
            expect("expect_column_stdev_to_be_between", column="when", max_value=5),
            expect("expect_column_values_to_be_null", column="n"),
        ),
    )
    told = [(item["success"], item["error"]) for item in results["expectations"]]
    assert told == [(True, None), *[(False, "it raised an exception")] * 3, (False, None)]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_whatever_the_arguments_are_they_are_refused_or_answered(data: st.DataObject) -> None:
    type_ = data.draw(st.sampled_from(sorted(FORMS)))
    kwargs = dict(data.draw(st.sampled_from(FORMS[type_])))
    keys = st.sampled_from([*sorted(kwargs), "mostly"])
    kwargs |= data.draw(st.dictionaries(keys, _PLAIN | st.sampled_from(NAMES) | st.floats(), max_size=2))
    asked = suite(expect(type_, **kwargs))
    refused = check_expectations(asked)
    assert all(problem.key.startswith("validation.expectations[0]") for problem in refused)
    assert all("\n" not in problem.message for problem in refused)
    if not refused:
        results = validate_table(TABLE, asked)
        assert json.loads(json.dumps(results, allow_nan=False))["returned"] == 1
        assert data_docs(results)


def test_the_severity_info_of_great_expectations_is_refused() -> None:
    """Two say all that there is to decide: ``critical`` rejects, ``warning`` reports."""
    asked = [{"type": "expect_column_to_exist", "kwargs": {"column": "delay"}, "severity": "info"}]
    with pytest.raises(ConfigError, match=r"severity: 'info' is none of critical, warning"):
        parse(resolved({"validation.expectations": asked}))


# --- patterns that take for ever ---

HOSTILE = "a" * 60 + "b"


@pytest.mark.parametrize(
    "asked",
    [
        # A pattern that looks ahead is one that pandas hands to Python's re, which tries every way to part the cell.
        expect("expect_column_values_to_match_regex", column="cell", regex="(?=a)^(a+)+$"),
        expect("expect_column_values_to_not_match_regex", column="cell", regex="(?=a)^(a+)+$"),
        expect("expect_column_values_to_match_regex_list", column="cell", regex_list=["x", "(?=a)^(a+)+$"]),
        expect("expect_column_values_to_not_match_regex_list", column="cell", regex_list=["x", "(?=a)^(a+)+$"]),
        expect("expect_column_values_to_match_json_schema", column="text", json_schema={"pattern": "^(a+)+$"}),
        expect(
            "expect_column_values_to_match_json_schema",
            column="text",
            json_schema={
                "$ref": "#/$defs/d0",
                "$defs": {
                    **{f"d{at}": {"allOf": [{"$ref": f"#/$defs/d{at + 1}"}] * 2} for at in range(40)},
                    "d40": {"type": "string"},
                },
            },
        ),
    ],
    ids=lambda asked: asked.type,
)
def test_an_expectation_that_takes_for_ever_ends_with_the_limit(
    asked: ExpectationSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validate, "BASE_SECONDS", 0.5)
    table = pd.DataFrame({"cell": pd.Series([HOSTILE], dtype="str"), "text": pd.Series([f'"{HOSTILE}"'], dtype="str")})
    column = asked.kwargs["column"]
    with pytest.raises(StageFailed, match=rf"{asked.type} on {column} took longer than \d+ s") as caught:
        validate_table(table, suite(expect("expect_column_to_exist", column="cell"), asked))
    assert caught.value.kind == "deterministic"
    assert HOSTILE not in str(caught.value)


def test_a_hostile_pattern_without_looking_ahead_is_answered_or_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which of the two depends on whether pandas searches by Arrow; neither takes for ever."""
    monkeypatch.setattr(validate, "BASE_SECONDS", 0.5)
    table = pd.DataFrame({"cell": pd.Series([HOSTILE], dtype="str")})
    asked = expect("expect_column_values_to_match_regex", column="cell", regex="^(a+)+$")
    with contextlib.suppress(StageFailed):
        assert validate_table(table, suite(asked))["success"] is False


def test_many_slow_expectations_have_a_limit_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validate, "_MOST_AT_ONCE", 0)
    asked = expect("expect_column_values_to_match_regex", column="word", regex="a")
    with pytest.raises(StageFailed, match="was not done: those before it took too long"):
        validate_table(TABLE, suite(asked))


def test_a_pattern_that_takes_for_ever_to_read_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folding the case of every character of a wide class, again and again, keeps the compiler busy for minutes."""
    monkeypatch.setattr(expectations, "BASE_SECONDS", 0.3)
    pattern = "(?i)" + "".join(f"[\\u0100-\\U0010{at:04x}]" for at in range(0x4000, 0x4400))
    schema = {"pattern": pattern}
    found = problems(expect("expect_column_values_to_match_json_schema", column="word", json_schema=schema))
    assert "took longer than" in found["validation.expectations[0].kwargs"]


def test_patterns_are_searched_for_by_a_main_thread_alone() -> None:
    found: list[dict[str, str]] = []
    asked = expect("expect_column_values_to_match_regex", column="word", regex="a")
    thread = threading.Thread(target=lambda: found.append(problems(asked)))
    thread.start()
    thread.join()
    assert found == [{"validation.expectations[0].type": "holds patterns, which only a main thread may search for "}]


def test_the_limit_grows_with_the_rows() -> None:
    assert seconds_for("expect_column_values_to_match_regex", 0) == 10.0
    assert seconds_for("expect_column_values_to_match_regex", 100_000) == pytest.approx(20.0)


def test_every_type_that_takes_patterns_or_parses_cells_is_bounded() -> None:
    takes = {"regex", "regex_list", "like_pattern", "like_pattern_list", "json_schema", "strftime_format"}
    searching = {name for name, kind in known_types().items() if takes & set(kind.__fields__) or "parseable" in name}
    assert searching == set(SECONDS_PER_ROW)


# --- JSON schemas that lead elsewhere ---


@pytest.fixture
def listening() -> Iterator[tuple[str, list[str]]]:
    """The address of a real server, and the paths that it was asked for."""
    asked: list[str] = []

    class Listener(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the library's name
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Listener)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    "form",
    [
        '{"$ref": "URL/a"}',
        '{"$id": "URL/a", "$ref": "#/x"}',
        '{"$id": "URL/a/", "$ref": "b"}',
        '{"id": "URL/a/", "$schema": "http://json-schema.org/draft-04/schema#", "$ref": "b"}',
        '{"const": {"$ref": "URL/a"}, "allOf": [{"$ref": "#/const"}]}',
        '{"$dynamicRef": "URL/a"}',
        '{"properties": {"p": [{"$ref": "FILE"}]}}',
        '{"items": {"$ref": "relative.json"}}',
    ],
)
def test_a_schema_that_leads_elsewhere_is_refused_and_nothing_is_fetched(
    form: str, listening: tuple[str, list[str]], tmp_path: Path
) -> None:
    url, asked = listening
    schema = json.loads(form.replace("URL", url).replace("FILE", (tmp_path / "s.json").as_uri()))
    found = problems(expect("expect_column_values_to_match_json_schema", column="json", json_schema=schema))
    assert list(found) == ["validation.expectations[0].kwargs.json_schema"]
    assert re.search(r"nothing is fetched|is not allowed", found["validation.expectations[0].kwargs.json_schema"])
    assert asked == []


def test_without_that_check_a_schema_would_be_fetched(
    listening: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, asked = listening
    monkeypatch.setattr(expectations, "_outward", lambda schema: iter(()))
    schema = {"$ref": f"{url}/a"}
    validate_table(TABLE, suite(expect("expect_column_values_to_match_json_schema", column="json", json_schema=schema)))
    assert "/a" in asked


@given(inner=_PLAIN, path=st.lists(st.sampled_from(["list", "properties", "const", "x"]), max_size=5))
def test_an_outward_reference_is_found_wherever_it_lies(inner: Any, path: list[str]) -> None:
    value: Any = {"a": inner, "$ref": "other.json"}
    for step in path:
        value = [inner, value] if step == "list" else {step: value}
    assert any("$ref" in message for message in expectations._outward(value))


def test_a_property_may_be_called_id_or_ref() -> None:
    schema = {"properties": {"id": {"type": "string"}, "$ref": {"type": "string"}, "pattern": {"type": "string"}}}
    assert not problems(expect("expect_column_values_to_match_json_schema", column="json", json_schema=schema))


# --- what the documentation says ---


def test_the_page_on_expectations_lists_the_types_the_refusals_and_the_limits() -> None:
    page = (Path(__file__).parents[2] / "docs/expectations.md").read_text()
    types = page.split("## Types\n")[1].split("\n## ")[0]
    assert sorted(re.findall(r"`(expect_\w+)`", types)) == sorted(known_types())
    refused = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", page.split("## Types that are refused")[1], re.MULTILINE))
    limits = {name: text for name, text in refused.items() if name in SECONDS_PER_ROW}
    assert {name: text for name, text in refused.items() if name not in limits} == dict(REFUSED)
    assert limits == {name: f"{seconds * 1000:g}" for name, seconds in SECONDS_PER_ROW.items()}
    assert f"limit of wall time: {expectations.BASE_SECONDS:.0f} s" in page
    assert f"may take {validate._MOST_AT_ONCE} times as long" in page
