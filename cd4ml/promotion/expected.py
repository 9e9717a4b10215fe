"""The expectations that the base branch has of data, held against what a run's record says of its table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from cd4ml.index.record import RunRecord
from cd4ml.promotion.review import ExpectationTold
from cd4ml.spec.canonical import canonical_json
from cd4ml.spec.experiment import Spec
from cd4ml.spec.text import one_line


def expectations_told(
    policy: Spec, champion: RunRecord | None, run: RunRecord | None
) -> tuple[tuple[ExpectationTold, ...], int]:
    """What was not met, by the base branch's expectations and the run's own; and how many were asked.

    One of the base branch's that the run was not held to counts as not met, unless the champion met it on the very
    same table: a branch cannot leave out what it would not meet. A run that succeeded and whose record tells of no
    validation was held to none. One that failed before it was validated tells nothing.
    """
    if run is None or not (_is_validated(run) or run.succeeded):
        return (), 0
    found = dict.fromkeys(_failed(run))
    asked, ours = _suite(run.params) if _is_validated(run) else [], _suite(policy.resolved)
    weights = {_key(one): _severity(one) for one in ours}
    told = {(one.type, one.column): one for one in found}
    held = champion is not None and _is_validated(champion) and _same_table(champion, run)
    answered = _suite(champion.params) if champion is not None and held else []
    met = {_key(one) for one in answered}
    failed_there = {(one.type, one.column) for one in _failed(champion)} if champion is not None else set()
    for one in ours:
        name = (str(one.get("type", "")), _column(one))
        if _key(one) in {_key(other) for other in asked}:
            if name in told and told[name].severity != weights[_key(one)] and weights[_key(one)] == "critical":
                told[name] = replace(told[name], severity="critical")
        elif _key(one) not in met or name in failed_there:
            told[name] = ExpectationTold(one_line(name[0], 100), one_line(name[1], 100), _severity(one))
    return tuple(told.values()), int(run.body["validation"]["asked"]) if _is_validated(run) else 0


def _is_validated(run: RunRecord) -> bool:
    return bool(run.body.get("validation"))


def _same_table(one: RunRecord, other: RunRecord) -> bool:
    tables = [(run.body.get("table") or {}).get("digest") for run in (one, other)]
    return tables[0] is not None and tables[0] == tables[1]


def _failed(run: RunRecord) -> tuple[ExpectationTold, ...]:
    told = (run.body.get("validation") or {}).get("failed") or ()
    return tuple(
        ExpectationTold(
            str(one["type"]), str(one["column"] or ""), "warning" if one["severity"] == "warning" else "critical"
        )
        for one in told
    )


def _suite(params: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    validation = params.get("validation")
    listed = validation.get("expectations") if isinstance(validation, Mapping) else None
    return [one for one in listed if isinstance(one, Mapping)] if isinstance(listed, list | tuple) else []


def _key(expectation: Mapping[str, Any]) -> bytes:
    return canonical_json([expectation.get("type"), expectation.get("kwargs") or {}])


def _column(expectation: Mapping[str, Any]) -> str:
    kwargs = expectation.get("kwargs")
    return str(kwargs.get("column", "")) if isinstance(kwargs, Mapping) else ""


def _severity(expectation: Mapping[str, Any]) -> Literal["critical", "warning"]:
    return "warning" if expectation.get("severity") == "warning" else "critical"
