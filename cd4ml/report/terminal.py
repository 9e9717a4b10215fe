"""Plans, runs and comparisons as renderables for rich's console.

Everything is laid out for 80 columns and says in words what its colour says, so that it reads the same
without colour (rich respects ``NO_COLOR``). Text that comes from a branch is made visible first and put
into ``Text`` objects, which interpret neither rich's markup nor escapes: no name can forge a line.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from cd4ml.index.removed import words
from cd4ml.plan.action import Action, Plan, PlanItem, Run
from cd4ml.report.layout import Column, Row, branch_text, counted, listing, quiet, word
from cd4ml.report.visible import ABSENT, plain_number, visible


def status_table(items: Iterable[PlanItem], metric: str = "", side: str = "validation") -> RenderableType:
    """How every experiment stands, each with its reason beneath; with ``metric``, its value on ``side`` too."""
    columns = [Column("Branch"), Column("Sync"), Column("Health"), Column("Lifecycle")]
    if metric:
        columns.append(Column(f"{side} {metric}", "right"))
    rows = [Row(_status_cells(item, metric, side), quiet(item.reason)) for item in items]
    return listing(columns, rows) if rows else Text("No experiments.")


def runs_table(rows: Iterable[Mapping[str, Any]], metrics: Sequence[str] = ()) -> RenderableType:
    """Runs as ``search --json`` lists them, one a line; what did not succeed, or was let go, says so beneath.

    So do runs of several commits of one branch which commit they are of, and imported ones what they were called and
    measured, since they declare no primary metric. A run is named by the beginning of its id. ``metrics`` names the
    metrics to show on the validation and the test side; without it, the primary one of the first run that has one.
    """
    runs = list(rows)
    if not runs:
        return Text("No runs.")
    shown = list(metrics) or _primary_of(runs)
    measures = [(side, metric) for metric in shown for side in ("validation", "test")]
    columns = [Column("Branch"), Column("Run"), Column("Health"), Column("Lifecycle")]
    columns += [Column(f"{_SHORT.get(side, side)} {visible(metric)}", "right") for side, metric in measures]
    commits: dict[Any, set[Any]] = {}
    for run in runs:
        commits.setdefault(run.get("branch"), set()).add(run.get("commit"))
    several = {branch for branch, found in commits.items() if len(found) > 1}
    return listing(columns, [Row(_run_cells(run, measures), _note(run, several)) for run in runs])


def plan_view(plan: Plan) -> RenderableType:
    """What a plan would do, one action a line under its experiment; then how many there are."""
    parts: list[RenderableType] = []
    for item in plan.looked_at:
        if item.actions:
            parts.append(Text(visible(item.branch), style="bold", overflow="fold"))
            parts += [Padding(_action_line(action), (0, 0, 0, 2)) for action in item.actions]
    return Group(*parts, _summary(plan))


# ── status and runs ──────────────────────────────────────────────────────────────────────────────────────────────

_SHORT = {"validation": "valid."}


def _status_cells(item: PlanItem, metric: str, side: str) -> tuple[Text, ...]:
    cells = (branch_text(item.branch), word(item.sync), word(item.health), word(item.lifecycle))
    if not metric:
        return cells
    return (*cells, Text(plain_number(item.metrics.get(side, {}).get(metric))))


def _run_cells(run: Mapping[str, Any], measures: Sequence[tuple[str, str]]) -> tuple[Text, ...]:
    measured = run.get("metrics") or {}
    values = (plain_number((measured.get(side) or {}).get(metric)) for side, metric in measures)
    return (
        branch_text(str(run.get("branch", ""))),
        Text(ABSENT if run.get("role") == "refused" else visible(str(run.get("id") or ""))[:10]),  # nothing was run
        word(str(run.get("health", ""))),
        word(str(run.get("lifecycle", ""))),
        *(Text(value) for value in values),
    )


def _primary_of(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    for run in runs:
        primary = ((run.get("params") or {}).get("evaluation") or {}).get("primary")
        if primary:
            return [str(primary)]
    return []


def _note(run: Mapping[str, Any], several: Collection[Any]) -> Text | None:
    """Which commit it is of, or what was imported; why it is not healthy, or that what it stored was let go."""
    reason, removal = run.get("reason"), run.get("removal")
    if run.get("role") == "imported":
        parts = [str(run.get("name") or ""), *_measured(run)]
    else:
        parts = [f"commit {run['commit'][:7]}"] if run.get("branch") in several and run.get("commit") else []
    if run.get("health") != "Healthy":
        parts.append(str(reason or ""))
    elif removal:
        parts.append(words(removal))
    told = "; ".join(part for part in parts if part)
    return quiet(told) if told else None


def _measured(run: Mapping[str, Any]) -> list[str]:
    """The first metrics of a run, side by side."""
    sides: Mapping[str, Mapping[str, float]] = run.get("metrics") or {}
    values = [
        f"{side + ' ' if len(sides) > 1 else ''}{metric} {plain_number(value)}"
        for side, measured in sides.items()
        for metric, value in sorted(measured.items())
    ]
    more = [f"{counted(len(values) - _MOST_MEASURED, 'more metric')}"] if len(values) > _MOST_MEASURED else []
    return [", ".join([*values[:_MOST_MEASURED], *more])] if values else []


_MOST_MEASURED = 3


# ── plan ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _action_line(action: Action) -> Text:
    what = f"run {action.target.side}" if isinstance(action, Run) else "record"
    commit = action.target.commit if isinstance(action, Run) else action.experiment.commit
    return Text.assemble("+ ", (what, "bold"), f" {visible(commit)[:7]}: {visible(action.why)}", overflow="fold")


def _summary(plan: Plan) -> Text:
    runs = sum(isinstance(action, Run) for action in plan.actions)
    records = len(plan.actions) - runs
    if plan.is_empty:
        return Text(f"Nothing to do: {counted(len(plan.looked_at), 'experiment')} looked at.")
    return Text(f"To do: {counted(runs, 'run')}, {counted(records, 'record')} to write.")
