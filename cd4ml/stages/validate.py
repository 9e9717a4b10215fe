"""Stage ``validate``: the ingested table against its expectation suite, through Great Expectations.

Great Expectations drops an expectation that it does not know and calls the rest a success; it passes an empty
suite and most of a table without rows; it hands ``row_condition`` to an evaluator, and lets a regular
expression run for ever. So what is asked is checked here first, what comes back is compared with it one by
one, and an expectation that raised has failed.
"""

from __future__ import annotations

import difflib
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cd4ml.errors import ConfigError, Problem, StageFailed
from cd4ml.spec.experiment import ExpectationSpec, ValidationSpec
from cd4ml.spec.pipeline import EXPECTATION_RESULTS, PARAMS_FILE, TABLE
from cd4ml.stages.job import Job, put_json

if TYPE_CHECKING:
    import pandas as pd

STAGE = "validate"

OUR_OWN = frozenset(
    {
        *("batch_id", "catch_exceptions", "description", "id", "library_metadata", "meta", "notes"),
        *("rendered_content", "result_format", "severity", "windows"),
    }
)
"""Fields of an expectation that say how it is run and kept, which is not for the configuration to choose."""

EVALUATED = frozenset({"row_condition", "condition_parser"})
"""Fields that Great Expectations evaluates as an expression that reaches into Python."""

SEARCHED = frozenset({"regex", "regex_list", "like_pattern", "like_pattern_list", "json_schema"})
"""Fields that hold patterns, which on some texts take for ever."""

ELSEWHERE = frozenset(
    {
        "expect_query_results_to_match_comparison",
        "expect_table_row_count_to_equal_other_table",
        "unexpected_rows_expectation",
    }
)
"""Expectations that run queries of their own, or look at another table."""

_IDENTITY = "cd4ml_index"
_COLUMN_KEYS = ("column", "column_A", "column_B")
_MAX_TEXT = 200


def run(job: Job) -> None:
    """Read ``TABLE``; write ``EXPECTATION_RESULTS``; raise StageFailed when a critical expectation is not met."""
    from cd4ml.stages.table import read_parquet

    results = validate_table(read_parquet(job.root / TABLE), job.spec.validation)
    put_json(job.root, EXPECTATION_RESULTS, results)
    failed = [item for item in results["expectations"] if not item["success"] and item["severity"] == "critical"]
    if failed:
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        raise StageFailed(STAGE, describe(failed[0]) + more)


def validate_table(table: pd.DataFrame, validation: ValidationSpec) -> dict[str, Any]:
    """What became of each expectation on a canonical table.

    Returns ``{suite, success, asked, returned, rows, expectations: [{index, type, kwargs, severity, success, observed,
    unexpected_count, unexpected_percent, element_count, error}]}`` in the order asked; ``success`` of the whole
    is that no critical one failed. Holds numbers and counts, never the content of a text cell. Raises
    ConfigError for expectations that are not known or not allowed, StageFailed for a table without rows or
    when Great Expectations does not answer exactly what was asked.
    """
    problems = check_expectations(validation)
    if problems:
        raise ConfigError(problems)
    if not len(table):
        raise StageFailed(STAGE, "the table has no rows, so nothing about it can be expected")
    reports = {
        index: _lacking(index, expectation, table)
        for index, expectation in enumerate(validation.expectations)
        if _absent(expectation, table)
    }
    askable = {index: item for index, item in enumerate(validation.expectations) if index not in reports}
    returned = _answers(table, validation.suite, askable)
    for index, expectation in askable.items():
        reports[index] = _report(index, expectation, returned[index])
    ordered = [reports[index] for index in range(len(validation.expectations))]
    return {
        "suite": validation.suite,
        "success": all(item["success"] for item in ordered if item["severity"] == "critical"),
        "asked": len(validation.expectations),
        "returned": len(ordered),
        "rows": len(table),
        "expectations": ordered,
    }


def describe(report: Mapping[str, Any]) -> str:
    """One line on an expectation that was not met, from its report; says no content of a cell."""
    columns = [str(report["kwargs"][key]) for key in _COLUMN_KEYS if key in report["kwargs"]]
    columns += [str(name) for name in report["kwargs"].get("column_list", [])]
    subject = f"{report['type']} on {', '.join(columns)}" if columns else str(report["type"])
    if report["error"]:
        return f"{subject} failed: {report['error']}"
    if report["unexpected_count"] is not None and report["element_count"]:
        percent = f" ({report['unexpected_percent']:.2f} %)" if report["unexpected_percent"] is not None else ""
        return f"{subject} failed: {report['unexpected_count']} of {report['element_count']} unexpected{percent}"
    if report["observed"] is not None:
        return f"{subject} failed: observed {report['observed']:.6g}"
    return f"{subject} failed"


def check_expectations(validation: ValidationSpec) -> tuple[Problem, ...]:
    """What is wrong with a suite before any data is seen; imports Great Expectations."""
    if not validation.expectations:
        return (Problem(PARAMS_FILE, "validation.expectations", "is empty: nothing would be checked"),)
    known = _known_types()
    problems: list[Problem] = []
    for index, expectation in enumerate(validation.expectations):
        where = f"validation.expectations[{index}]"
        if expectation.type not in known:
            near = difflib.get_close_matches(expectation.type, sorted(known), n=1)
            hint = f"did you mean {near[0]}?" if near else ""
            problems.append(Problem(PARAMS_FILE, f"{where}.type", f"{expectation.type!r} is not known", hint))
        else:
            problems += _wrong_kwargs(expectation, known[expectation.type], where)
    return tuple(problems)


def _known_types() -> dict[str, Any]:
    """Expectation classes by their snake-case type, without those that look elsewhere or match patterns."""
    with _quiet():
        import great_expectations.expectations.core
        from great_expectations.expectations import registry

        del great_expectations  # imported for what it registers
        names = registry.list_registered_expectation_implementations()
        classes = {name: registry.get_expectation_impl(name) for name in names}
    allowed = {name: kind for name, kind in classes.items() if name not in ELSEWHERE}
    return {name: kind for name, kind in allowed.items() if not SEARCHED & set(kind.__fields__)}


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
        else:
            continue
        problems.append(Problem(PARAMS_FILE, f"{where}.kwargs.{key}", message, hint))
    return problems or _refused_by_library(expectation, kind, where)


def _has_parameter(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(str(key).startswith("$") or _has_parameter(item) for key, item in value.items())
    return isinstance(value, (list, tuple)) and any(_has_parameter(item) for item in value)


def _refused_by_library(expectation: ExpectationSpec, kind: Any, where: str) -> list[Problem]:
    """Great Expectations' own checks of the arguments' types and of what must be given together."""
    try:
        kind(**expectation.kwargs)
    except (ValueError, TypeError) as error:
        details: list[Any] = getattr(error, "errors", list)()
        if not details:
            return [Problem(PARAMS_FILE, f"{where}.kwargs", str(error)[:_MAX_TEXT])]
        first: dict[str, str] = {}
        for detail in details:
            place = ".".join(str(part) for part in detail["loc"] if part != "__root__")
            first.setdefault(place, str(detail["msg"])[:_MAX_TEXT])
        places = {f"{where}.kwargs.{place}".rstrip("."): message for place, message in first.items()}
        return [Problem(PARAMS_FILE, place, message) for place, message in places.items()]
    return []


def _absent(expectation: ExpectationSpec, table: pd.DataFrame) -> list[str]:
    """The columns that the expectation speaks of and the table lacks; whether one exists may itself be asked."""
    if expectation.type == "expect_column_to_exist":
        return []
    named = [expectation.kwargs[key] for key in _COLUMN_KEYS if key in expectation.kwargs]
    if not expectation.type.startswith("expect_table_"):
        named += list(expectation.kwargs.get("column_list", []))
    return [str(name) for name in named if name not in table.columns]


def _lacking(index: int, expectation: ExpectationSpec, table: pd.DataFrame) -> dict[str, Any]:
    name = _absent(expectation, table)[0]
    near = difflib.get_close_matches(name, [str(column) for column in table.columns], n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return {**_blank(index, expectation), "error": f"the table has no column {name!r}{hint}"}


def _blank(index: int, expectation: ExpectationSpec) -> dict[str, Any]:
    return {
        "index": index,
        "type": expectation.type,
        "kwargs": dict(expectation.kwargs),
        "severity": expectation.severity,
        "success": False,
        "observed": None,
        "unexpected_count": None,
        "unexpected_percent": None,
        "element_count": None,
        "error": None,
    }


def _answers(table: pd.DataFrame, suite: str, asked: Mapping[int, ExpectationSpec]) -> dict[int, Any]:
    """One result of Great Expectations for each index asked. Raises StageFailed when it answers anything else."""
    if not asked:
        return {}
    known = _known_types()
    with _quiet():
        import great_expectations as gx

        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = {"globally": False}
        source = context.data_sources.add_pandas("cd4ml").add_dataframe_asset("table")
        batch = source.add_batch_definition_whole_dataframe("whole").get_batch({"dataframe": table})
        expectations = [
            known[item.type](**_timed(item.kwargs, table), meta={_IDENTITY: index}) for index, item in asked.items()
        ]
        result = batch.validate(
            gx.ExpectationSuite(name=suite or "suite", expectations=expectations),
            result_format={"result_format": "BASIC", "partial_unexpected_count": 0},
        )
    answers: dict[int, Any] = {}
    for item in result.results:
        index: int = (item.expectation_config.meta or {}).get(_IDENTITY, -1)
        if index not in asked or item.expectation_config.type != asked[index].type or index in answers:
            raise StageFailed(STAGE, "Great Expectations answered something that was not asked")
        answers[index] = item
    unanswered = sorted(set(asked) - set(answers))
    if unanswered:
        raise StageFailed(STAGE, f"Great Expectations did not answer validation.expectations{unanswered}")
    return answers


def _timed(kwargs: Mapping[str, Any], table: pd.DataFrame) -> dict[str, Any]:
    """Bounds of a time column, which configuration can only write as text, as UTC timestamps."""
    import pandas as pd

    from cd4ml.stages.table import kind_of

    column = kwargs.get("column")
    if column not in table.columns or kind_of(table[column]) != "timestamp":
        return dict(kwargs)
    return {
        key: pd.to_datetime(value, utc=True).to_pydatetime() if key in {"min_value", "max_value"} and value else value
        for key, value in kwargs.items()
    }


def _report(index: int, expectation: ExpectationSpec, answer: Any) -> dict[str, Any]:
    result = answer.result or {}
    raised = _raised(answer.exception_info or {})
    return {
        **_blank(index, expectation),
        "success": answer.success is True and not raised,
        "observed": _number(result.get("observed_value")),
        "unexpected_count": _whole(result.get("unexpected_count")),
        "unexpected_percent": _number(result.get("unexpected_percent")),
        "element_count": _whole(result.get("element_count")),
        "error": raised or None,
    }


def _raised(info: Mapping[str, Any]) -> str:
    """That an expectation raised, without its message, which may quote the data; empty when it did not."""
    details = [info, *(value for value in info.values() if isinstance(value, Mapping))]
    return "it raised an exception" if any(item.get("raised_exception") for item in details) else ""


def _number(value: Any) -> float | None:
    import math
    import numbers

    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(float(value)):
        return None
    return float(value)


def _whole(value: Any) -> int | None:
    number = _number(value)
    return None if number is None else int(number)


@contextmanager
def _quiet() -> Iterator[None]:
    """No usage statistics, no progress bars, no warnings, and logging from errors up, while it lasts."""
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
