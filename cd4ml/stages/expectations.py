"""Which expectations a suite may ask for, and how: everything that can be told before any data is seen.

Great Expectations drops an expectation that it does not know and calls the rest a success, hands
``row_condition`` to an evaluator, and fetches what a JSON schema refers to. So a suite is checked here
first, and what is refused is refused with its reason. Imports Great Expectations inside functions.
"""

from __future__ import annotations

import difflib
import functools
import logging
import math
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

from cd4ml.errors import Problem
from cd4ml.spec.experiment import ExpectationSpec, ValidationSpec
from cd4ml.spec.pipeline import PARAMS_FILE
from cd4ml.stages.time_limit import NotHere, TooLong, within

OUR_OWN = frozenset(
    {
        *("batch_id", "catch_exceptions", "description", "id", "library_metadata", "meta", "notes"),
        *("rendered_content", "result_format", "severity", "windows"),
    }
)
"""Fields of an expectation that say how it is run and kept, which is not for the configuration to choose."""

EVALUATED = frozenset({"row_condition", "condition_parser"})
"""Fields that Great Expectations evaluates as an expression that reaches into Python."""

_QUERIES = "it runs a query, and the table is not in a database"
_LIKE = "Great Expectations matches LIKE patterns in databases alone; use expect_column_values_to_{}"

REFUSED: Mapping[str, str] = MappingProxyType(
    {
        "unexpected_rows_expectation": _QUERIES,
        "expect_query_results_to_match_comparison": _QUERIES,
        "expect_table_row_count_to_equal_other_table": "it looks at another table; join it as a data source instead",
        "expect_column_values_to_match_like_pattern": _LIKE.format("match_regex"),
        "expect_column_values_to_match_like_pattern_list": _LIKE.format("match_regex_list"),
        "expect_column_values_to_not_match_like_pattern": _LIKE.format("not_match_regex"),
        "expect_column_values_to_not_match_like_pattern_list": _LIKE.format("not_match_regex_list"),
    }
)
"""Types of Great Expectations that no suite may ask for, each with its reason."""

BASE_SECONDS = 10.0
"""What a bounded expectation may take on any table, in seconds of wall time; its rows are added to it."""

SECONDS_PER_ROW: Mapping[str, float] = MappingProxyType(
    {
        "expect_column_values_to_be_dateutil_parseable": 3e-4,
        "expect_column_values_to_be_json_parseable": 1e-4,
        "expect_column_values_to_match_json_schema": 3e-3,
        "expect_column_values_to_match_regex": 1e-4,
        "expect_column_values_to_match_regex_list": 1e-4,
        "expect_column_values_to_match_strftime_format": 1e-4,
        "expect_column_values_to_not_match_regex": 1e-4,
        "expect_column_values_to_not_match_regex_list": 1e-4,
    }
)
"""The expectations that work through each cell by patterns or parsers, which on some cells take for ever, and the
seconds that each row adds to what they may take: some ten times what an honest one needs."""

_LOCAL = frozenset({"$ref", "$dynamicRef", "$recursiveRef"})
_BASES = frozenset({"$id", "id"})
_MAX_TEXT = 200


def check_expectations(validation: ValidationSpec) -> tuple[Problem, ...]:
    """What is wrong with a suite before any data is seen, all of it at once; imports Great Expectations."""
    if not validation.expectations:
        return (Problem(PARAMS_FILE, "validation.expectations", "is empty: nothing would be checked"),)
    problems: list[Problem] = []
    for index, expectation in enumerate(validation.expectations):
        problems += _wrong(expectation, f"validation.expectations[{index}]")
    return tuple(problems)


@functools.cache
def known_types() -> Mapping[str, Any]:
    """Expectation classes of Great Expectations by their snake-case type, without those that are refused."""
    with quiet():
        import great_expectations.expectations.core
        from great_expectations.expectations import registry

        del great_expectations  # imported for what it registers
        names = registry.list_registered_expectation_implementations()
        return MappingProxyType({name: registry.get_expectation_impl(name) for name in names if name not in REFUSED})


@contextmanager
def quiet() -> Iterator[None]:
    """No usage statistics, no progress bars, no warnings, and no logging from Great Expectations, while it lasts."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    os.environ.setdefault("TQDM_DISABLE", "1")
    logger = logging.getLogger("great_expectations")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _wrong(expectation: ExpectationSpec, where: str) -> list[Problem]:
    if expectation.type in REFUSED:
        message = f"{expectation.type} is refused: {REFUSED[expectation.type]}"
        return [Problem(PARAMS_FILE, f"{where}.type", message)]
    known = known_types()
    if expectation.type not in known:
        near = difflib.get_close_matches(expectation.type, sorted(known), n=1)
        hint = f"did you mean {near[0]}?" if near else ""
        return [Problem(PARAMS_FILE, f"{where}.type", f"{expectation.type!r} is not known", hint)]
    kind = known[expectation.type]
    return (
        _wrong_kwargs(expectation, kind, where)
        or _refused_by_library(expectation, kind, where)
        or _wrong_patterns(expectation, where)
    )


def _wrong_kwargs(expectation: ExpectationSpec, kind: Any, where: str) -> list[Problem]:
    takes = set(kind.__fields__) - OUR_OWN - EVALUATED
    problems = []
    for key, value in expectation.kwargs.items():
        if key in EVALUATED:
            message, hint = "is not allowed: it is evaluated as code", "filter the data in its source instead"
        elif key in OUR_OWN:
            message, hint = "is not for the configuration to set", ""
        elif key not in takes:
            near = difflib.get_close_matches(key, sorted(takes), n=1)
            message, hint = f"{expectation.type} takes no such argument", f"did you mean {near[0]}?" if near else ""
        elif _has_parameter(value):
            message, hint = "must be plain values: $PARAMETER is evaluated", ""
        elif _is_endless(value):
            message, hint = "must be finite", "leave a bound out where there is none"
        else:
            continue
        problems.append(Problem(PARAMS_FILE, f"{where}.kwargs.{key}", message, hint))
    return problems


def _has_parameter(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(str(key).startswith("$PARAMETER") or _has_parameter(item) for key, item in value.items())
    return isinstance(value, (list, tuple)) and any(_has_parameter(item) for item in value)


def _is_endless(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_is_endless(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return any(_is_endless(item) for item in value)
    return isinstance(value, float) and not math.isfinite(value)


def _refused_by_library(expectation: ExpectationSpec, kind: Any, where: str) -> list[Problem]:
    """Great Expectations' own checks of the arguments' types and of what must be given together."""
    try:
        kind(**expectation.kwargs)
    except (ValueError, TypeError) as error:
        details: list[Any] = getattr(error, "errors", list)()
        if not details:
            return [Problem(PARAMS_FILE, f"{where}.kwargs", _line(error))]
        first: dict[str, str] = {}
        for detail in details:
            place = ".".join(str(part) for part in detail["loc"] if part != "__root__")
            first.setdefault(place, _line(detail["msg"]))
        if len(first) > 1:  # an argument that was refused is then missed by the check of the whole
            first.pop("", None)
        places = {f"{where}.kwargs.{place}".rstrip("."): message for place, message in first.items()}
        return [Problem(PARAMS_FILE, place, message) for place, message in places.items()]
    return []


def _wrong_patterns(expectation: ExpectationSpec, where: str) -> list[Problem]:
    """Patterns that cannot be searched for, and JSON schemas that look elsewhere. Compiling is bounded, too."""
    if expectation.type not in SECONDS_PER_ROW:
        return []
    try:
        wrong = within(BASE_SECONDS, lambda: list(_patterns(expectation.kwargs)))
    except TooLong:
        return [Problem(PARAMS_FILE, f"{where}.kwargs", f"its patterns took longer than {BASE_SECONDS:.0f} s to read")]
    except NotHere:
        return [Problem(PARAMS_FILE, f"{where}.type", "holds patterns, which only a main thread may search for")]
    return [Problem(PARAMS_FILE, f"{where}.kwargs.{key}", message) for key, message in wrong]


def _patterns(kwargs: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is wrong with each argument that holds patterns: (key, message)."""
    searched = {"regex": kwargs.get("regex")}
    searched |= {f"regex_list[{index}]": item for index, item in enumerate(kwargs.get("regex_list") or [])}
    for key, pattern in searched.items():
        problem = "" if pattern is None else _unsearchable(pattern)
        if problem:
            yield key, problem
    if "regex_list" in kwargs and not kwargs["regex_list"]:
        yield "regex_list", "is empty: nothing would be checked"
    if "json_schema" in kwargs:
        yield from (("json_schema", message) for message in _schema_problems(kwargs["json_schema"]))


def _unsearchable(pattern: object) -> str:
    """Why pandas cannot search for a pattern, tried on an empty cell in the way that it will be; empty if it can."""
    import pandas as pd

    if not isinstance(pattern, str):
        return "must be text"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pandas warns of groups
            pd.Series([""]).astype(str).str.contains(pattern)
    except (re.error, ValueError, RecursionError, OverflowError) as error:
        return f"is no regular expression that can be searched for: {_line(error)}"
    return ""


def _schema_problems(schema: Mapping[str, Any]) -> list[str]:
    """A schema that is none, has patterns that are none, or whose references lead out of it: those are fetched."""
    import jsonschema
    from jsonschema.exceptions import best_match

    problems = sorted(set(_outward(schema)))
    if problems:
        return problems
    try:
        judge = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
        error = best_match(judge(judge.META_SCHEMA).iter_errors(schema))
        return [f"is no JSON schema: {_line(error.message)}"] if error else []
    except RecursionError:
        return ["is nested too deeply"]


def _outward(value: Any) -> Iterator[str]:
    """What is amiss anywhere in a schema: any mapping in it can be referred to, and so be a schema."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _amiss(str(key), item)
            yield from _outward(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _outward(item)


def _amiss(key: str, item: Any) -> Iterator[str]:
    if key in _LOCAL and isinstance(item, str) and not item.startswith("#"):
        yield f"{key} must lead to a place in the schema itself (#/…): nothing is fetched"
    elif key in _BASES and isinstance(item, str):
        yield f"{key} is not allowed: references would be read from there"
    elif key == "pattern" and isinstance(item, str):
        yield from _uncompiled(item)
    elif key == "patternProperties" and isinstance(item, Mapping):
        for pattern in item:
            yield from _uncompiled(str(pattern))


def _uncompiled(pattern: str) -> Iterator[str]:
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        yield f"holds a pattern that is none: {_line(error)}"


def _line(message: object) -> str:
    return " ".join(str(message).split())[:_MAX_TEXT]
