"""A first expectation suite, derived from the data and with slack: it is to notice what is broken, not what is new."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cd4ml.controller.starting.proposed_columns import Column, unusable
from cd4ml.spec.experiment import Severity, Task

if TYPE_CHECKING:
    import pandas as pd

MAX_COLUMNS = 100
"""Columns that the suite speaks of: of more, the first so many."""

_LARGEST = 2**53
_LONGEST_VALUE = 100
_BETWEEN = "expect_column_values_to_be_between"
_NOT_NULL = "expect_column_values_to_not_be_null"
_IN_SET = "expect_column_values_to_be_in_set"


@dataclass(frozen=True)
class ProposedExpectation:
    """An expectation derived from the data; ``saw`` is what it is derived from."""

    type: str
    kwargs: Mapping[str, Any]
    severity: Severity
    saw: str


def propose_expectations(
    frame: pd.DataFrame, columns: tuple[Column, ...], task: Task
) -> tuple[ProposedExpectation, ...]:
    """What held of the data, loosened. What concerns the target rejects data, most else only warns.

    Numbers may leave what was seen by its whole width, in one row of a hundred by more; categories may be new
    and values be missing somewhat more often, with a warning.
    """
    target = next(column for column in columns if column.role == "target")
    few = max(1, len(frame) // 2)
    found = [
        ProposedExpectation(
            "expect_table_row_count_to_be_between", {"min_value": few}, "critical", f"{len(frame):,} rows"
        ),
        ProposedExpectation(_NOT_NULL, {"column": target.name}, "critical", "those without one are left out before"),
    ]
    if task == "regression":
        found += _between(target, frame[target.name], mostly=None)
    else:
        found += _classes(target, frame[target.name])
    for column in [one for one in columns if one.is_feature][:MAX_COLUMNS]:
        if column.role == "numeric":
            found += _between(column, frame[column.name], mostly=0.99)
        elif column.role == "categorical" and column.values:
            found += _in_set(column, column.values, "warning")
        found += _there(column)
    return tuple(found)


def _there(column: Column) -> list[ProposedExpectation]:
    mostly = math.floor(100 * (1 - min(1.0, 2 * column.missing + 0.05))) / 100
    if mostly <= 0:
        return []
    saw = "none missing" if not column.missing else f"{column.missing:.2%} missing"
    return [ProposedExpectation(_NOT_NULL, {"column": column.name, "mostly": mostly}, "warning", saw)]


def _between(column: Column, values: pd.Series[Any], mostly: float | None) -> list[ProposedExpectation]:
    low, high = float(values.min()), float(values.max())
    width = high - low
    bounds = (0.0 if low >= 0 else _outward(low - width, -1)), _outward(high + width, 1)
    if not all(math.isfinite(bound) and abs(bound) < _LARGEST for bound in bounds):
        return []
    if column.kind == "int64":
        bounds = math.floor(bounds[0]), math.ceil(bounds[1])
    kwargs: dict[str, Any] = {"column": column.name, "min_value": bounds[0], "max_value": bounds[1]}
    if mostly is not None:
        kwargs["mostly"] = mostly
    return [ProposedExpectation(_BETWEEN, kwargs, "critical", f"{low:.6g} to {high:.6g}")]


def _outward(value: float, direction: int) -> float:
    """The number with two digits, not nearer to zero in its ``direction`` (1 up, -1 down) than it is."""
    if not value or not math.isfinite(value):
        return value
    unit = 10.0 ** (math.floor(math.log10(abs(value))) - 1)
    steps = math.ceil(value / unit) if direction > 0 else math.floor(value / unit)
    return float(f"{steps * unit:.2g}") if unit else value


def _classes(target: Column, values: pd.Series[Any]) -> list[ProposedExpectation]:
    if target.kind == "bool":
        return []
    whole = target.kind != "string"
    seen = tuple(sorted(int(value) if whole else str(value) for value in values.unique()))
    return _in_set(target, seen, "critical")


def _in_set(column: Column, values: tuple[str | int, ...], severity: Severity) -> list[ProposedExpectation]:
    texts = [value for value in values if isinstance(value, str)]
    if any(unusable(text) or len(text) > _LONGEST_VALUE for text in texts) or column.kind == "bool":
        return []
    saw = f"{len(values)} different values"
    return [ProposedExpectation(_IN_SET, {"column": column.name, "value_set": list(values)}, severity, saw)]
