"""Stage ``validate``: the ingested table against its expectation suite, through Great Expectations.

Great Expectations drops an expectation that it does not know and calls the rest a success; it passes an empty
suite and most of a table without rows; and it lets a regular expression run for ever. So what is asked is checked
first (``stages.expectations``), what searches by pattern is given a bounded time, what comes back is compared
with what was asked one by one, and an expectation that raised has failed.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from cd4ml.errors import ConfigError, StageFailed
from cd4ml.spec.experiment import ExpectationSpec, ValidationSpec
from cd4ml.spec.pipeline import DATA_DOCS, EXPECTATION_RESULTS, TABLE
from cd4ml.stages.data_docs import data_docs, observed_text
from cd4ml.stages.expectations import BASE_SECONDS, SECONDS_PER_ROW, check_expectations, known_types, quiet
from cd4ml.stages.job import Job, put_bytes, put_json
from cd4ml.stages.time_limit import NotHere, TooLong, within

if TYPE_CHECKING:
    import pandas as pd

STAGE = "validate"

_IDENTITY = "cd4ml_index"
_COLUMN_KEYS = ("column", "column_A", "column_B")
_OBSERVES_TYPE = frozenset(
    {"expect_column_type_to_be", "expect_column_values_to_be_of_type", "expect_column_values_to_be_in_type_list"}
)
_RAISED = "it raised an exception"
_MOST_AT_ONCE = 6
"""Bounded expectations may together take as long as this many of them alone."""


Validate: TypeAlias = Callable[[Mapping[int, ExpectationSpec]], dict[int, Any]]


def run(job: Job) -> None:
    """Read ``TABLE``; write ``EXPECTATION_RESULTS`` and ``DATA_DOCS``.

    Raises StageFailed when a critical expectation is not met (both are written then, too), or one is not done in time.
    """
    from cd4ml.stages.table import read_parquet

    results = validate_table(read_parquet(job.root / TABLE), job.spec.validation)
    put_json(job.root, EXPECTATION_RESULTS, results)
    put_bytes(job.root, DATA_DOCS, data_docs(results).encode("utf-8", "backslashreplace"))
    failed = [item for item in results["expectations"] if not item["success"] and item["severity"] == "critical"]
    if failed:
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        raise StageFailed(STAGE, describe(failed[0]) + more)


def validate_table(table: pd.DataFrame, validation: ValidationSpec) -> dict[str, Any]:
    """What became of each expectation on a canonical table.

    Returns ``{suite, success, asked, returned, rows, expectations: [{index, type, kwargs, severity, success, observed,
    unexpected_count, unexpected_percent, missing_count, missing_percent, element_count, error}]}`` in the order
    asked; ``success`` of the whole is that no critical one failed. Percents (0 to 100) of the unexpected are of the
    elements that are not missing. ``observed`` is a number, a list of numbers (quantiles), the name of a column's
    type, or null: nothing here is ever the content of a text cell. Raises ConfigError for expectations that are
    not known or not allowed, StageFailed for a table without rows, when Great Expectations does not answer exactly
    what was asked, and when an expectation that searches by pattern takes longer than ``seconds_for`` its rows.
    """
    problems = check_expectations(validation)
    if problems:
        raise ConfigError(problems)
    if not len(table):
        raise StageFailed(STAGE, "the table has no rows, so nothing about it can be expected")
    hopeless = {index: _hopeless(item, table) for index, item in enumerate(validation.expectations)}
    reports = {
        index: {**_blank(index, validation.expectations[index]), "error": error}
        for index, error in hopeless.items()
        if error
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
    subject = _subject(report["type"], report["kwargs"])
    if report["error"]:
        return f"{subject} failed: {report['error']}"
    if report["unexpected_count"] is not None and report["element_count"]:
        percent = f" ({report['unexpected_percent']:.2f} %)" if report["unexpected_percent"] is not None else ""
        judged = report["element_count"] - (report["missing_count"] or 0)  # which is what Great Expectations counts
        return f"{subject} failed: {report['unexpected_count']} of {judged} unexpected{percent}"
    observed = observed_text(report["observed"])
    return f"{subject} failed: observed {observed}" if observed else f"{subject} failed"


def _subject(type_: str, kwargs: Mapping[str, Any]) -> str:
    columns = [str(kwargs[key]) for key in _COLUMN_KEYS if key in kwargs]
    columns += [str(name) for name in kwargs.get("column_list") or []]
    return f"{type_} on {', '.join(columns)}" if columns else type_


def _absent(expectation: ExpectationSpec, table: pd.DataFrame) -> list[str]:
    """The columns that the expectation speaks of and the table lacks; whether one exists may itself be asked."""
    if expectation.type == "expect_column_to_exist":
        return []
    named = [expectation.kwargs[key] for key in _COLUMN_KEYS if key in expectation.kwargs]
    if not expectation.type.startswith("expect_table_"):
        named += list(expectation.kwargs.get("column_list", []))
    return [str(name) for name in named if name not in table.columns]


def _hopeless(expectation: ExpectationSpec, table: pd.DataFrame) -> str:
    """Why the table cannot even be asked: a column that it lacks, a bound that is no time; empty if it can."""
    absent = _absent(expectation, table)
    if absent:
        near = difflib.get_close_matches(absent[0], [str(column) for column in table.columns], n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        return f"the table has no column {absent[0]!r}{hint}"
    try:
        _timed(expectation.kwargs, table)
    except (ValueError, TypeError, OverflowError):
        return "min_value and max_value of a time column must be ISO 8601 times"
    return ""


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
        "missing_count": None,
        "missing_percent": None,
        "element_count": None,
        "error": None,
    }


def seconds_for(type_: str, rows: int) -> float:
    """The wall time, in seconds, that an expectation of a bounded type may take on a table of so many rows."""
    return BASE_SECONDS + SECONDS_PER_ROW[type_] * rows


def _answers(table: pd.DataFrame, suite: str, asked: Mapping[int, ExpectationSpec]) -> dict[int, Any]:
    """One result of Great Expectations for each index asked. Raises StageFailed when it answers anything else."""
    if not asked:
        return {}
    with quiet():
        validate = _validator(table, suite)
        answers = validate({index: item for index, item in asked.items() if item.type not in SECONDS_PER_ROW})
        started = time.monotonic()
        for index, item in asked.items():
            if item.type in SECONDS_PER_ROW:
                answers |= _in_time(validate, index, item, len(table), started)
    unanswered = sorted(set(asked) - set(answers))
    if unanswered:
        raise StageFailed(STAGE, f"Great Expectations did not answer validation.expectations{unanswered}")
    return answers


def _in_time(validate: Validate, index: int, item: ExpectationSpec, rows: int, started: float) -> dict[int, Any]:
    """The answer to a bounded expectation. Raises StageFailed, of the kind that is not tried again, if it is late."""
    limit = seconds_for(item.type, rows)
    left = started + _MOST_AT_ONCE * limit - time.monotonic()
    try:
        return within(max(min(limit, left), 0.001), lambda: validate({index: item}))
    except TooLong as error:
        late = f"took longer than {limit:.0f} s" if left >= limit else "was not done: those before it took too long"
        raise StageFailed(STAGE, f"{_subject(item.type, item.kwargs)} {late}") from error
    except NotHere as error:
        message = f"{_subject(item.type, item.kwargs)} searches by pattern, which only a main thread may do"
        raise StageFailed(STAGE, message) from error


def _validator(table: pd.DataFrame, suite: str) -> Validate:
    """What asks Great Expectations about the table.

    Its answers are by index: none where none was given, None for an expectation that raised before it was run.
    """
    import great_expectations as gx

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    source = context.data_sources.add_pandas("cd4ml").add_dataframe_asset("table")
    batch = source.add_batch_definition_whole_dataframe("whole").get_batch({"dataframe": table})

    def validate(asked: Mapping[int, ExpectationSpec]) -> dict[int, Any]:
        if not asked:
            return {}
        try:
            return _paired(asked, _ask(batch, suite, asked, table))
        except StageFailed:
            raise
        except Exception:  # noqa: BLE001  # one that raises while it is prepared takes all others with it
            if len(asked) == 1:
                return dict.fromkeys(asked)
            return {index: answer for one in asked for index, answer in validate({one: asked[one]}).items()}

    return validate


def _ask(batch: Any, suite: str, asked: Mapping[int, ExpectationSpec], table: pd.DataFrame) -> list[Any]:
    import great_expectations as gx

    known = known_types()
    expectations = [
        known[item.type](**_timed(item.kwargs, table), meta={_IDENTITY: index}) for index, item in asked.items()
    ]
    result = batch.validate(
        gx.ExpectationSuite(name=suite or "suite", expectations=expectations),
        result_format={"result_format": "BASIC", "partial_unexpected_count": 0},
    )
    return list(result.results)


def _paired(asked: Mapping[int, ExpectationSpec], results: Sequence[Any]) -> dict[int, Any]:
    """The results by the index that each was asked under. Raises StageFailed for one that was not asked."""
    answers: dict[int, Any] = {}
    for item in results:
        index: int = (item.expectation_config.meta or {}).get(_IDENTITY, -1)
        if index not in asked or item.expectation_config.type != asked[index].type or index in answers:
            raise StageFailed(STAGE, "Great Expectations answered something that was not asked")
        answers[index] = item
    return answers


def _timed(kwargs: Mapping[str, Any], table: pd.DataFrame) -> dict[str, Any]:
    """Bounds of a time column, which configuration can only write as text, as UTC timestamps."""
    import pandas as pd

    from cd4ml.stages.table import kind_of

    column = kwargs.get("column")
    if column not in table.columns or kind_of(table[column]) != "timestamp":
        return dict(kwargs)
    return {
        key: pd.to_datetime(value, utc=True).to_pydatetime(warn=False)
        if key in {"min_value", "max_value"} and value
        else value
        for key, value in kwargs.items()
    }


def _report(index: int, expectation: ExpectationSpec, answer: Any) -> dict[str, Any]:
    if answer is None:
        return {**_blank(index, expectation), "error": _RAISED}
    result = answer.result or {}
    raised = _raised(answer.exception_info or {})
    of_elements = _whole(result.get("element_count")) is not None
    return {
        **_blank(index, expectation),
        "success": is_true(answer.success) and not raised,
        "observed": _observed(expectation.type, result.get("observed_value")),
        "unexpected_count": _whole(result.get("unexpected_count")),
        "unexpected_percent": _number(result.get("unexpected_percent")),
        "missing_count": _whole(result.get("missing_count")) if of_elements else None,
        "missing_percent": _number(result.get("missing_percent")) if of_elements else None,
        "element_count": _whole(result.get("element_count")),
        "error": raised or None,
    }


def is_true(success: Any) -> bool:
    """Whether a verdict is true, be it Python's or NumPy's; anything else is no success."""
    import numpy as np

    return isinstance(success, (bool, np.bool_)) and bool(success)


def _observed(type_: str, value: Any) -> float | list[float | None] | str | None:
    """What of an observed value may be told: numbers, those of quantiles, the type of a column; no text of cells."""
    if type_ in _OBSERVES_TYPE and isinstance(value, str):
        return value
    if isinstance(value, Mapping) and isinstance(value.get("values"), list):
        return [_number(item) for item in value["values"]]
    return _number(value)


def _raised(info: Mapping[str, Any]) -> str:
    """That an expectation raised, without its message, which may quote the data; empty when it did not."""
    details = [info, *(value for value in info.values() if isinstance(value, Mapping))]
    return _RAISED if any(item.get("raised_exception") for item in details) else ""


def _number(value: Any) -> float | None:
    import math
    import numbers

    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(float(value)):
        return None
    return float(value)


def _whole(value: Any) -> int | None:
    number = _number(value)
    return None if number is None else int(number)
