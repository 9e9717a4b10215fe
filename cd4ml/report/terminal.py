"""Plans, runs and comparisons as renderables for rich's console.

Everything is laid out for 80 columns and says in words what its colour says, so that it reads the same
without colour (rich respects ``NO_COLOR``). Text that comes from a branch is made visible first and put
into ``Text`` objects, which interpret neither rich's markup nor escapes: no name can forge a line.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from cd4ml.plan.action import Action, Plan, PlanItem, Run
from cd4ml.promotion.compare import Comparison, ConfigChange, DataChange, MetricChange, PackageChange
from cd4ml.report.visible import ABSENT, percent, plain_number, signed_number, visible

WIDTH = 80
"""Columns that a listing takes at most."""

_GAP = 2

_STYLES: Mapping[str, str] = {
    "Synced": "green",
    "Healthy": "green",
    "better": "green",
    "OutOfSync": "yellow",
    "Progressing": "cyan",
    "Missing": "yellow",
    "Degraded": "red",
    "worse": "red",
    "not comparable": "yellow",
    "discarded": "dim",
}


def status_table(items: Iterable[PlanItem], metric: str = "", side: str = "validation") -> RenderableType:
    """How every experiment stands, each with its reason beneath; with ``metric``, its value on ``side`` too."""
    columns = [_Column("Branch"), _Column("Sync"), _Column("Health"), _Column("Lifecycle")]
    if metric:
        columns.append(_Column(f"{side} {metric}", "right"))
    rows = [_Row(_status_cells(item, metric, side), _quiet(item.reason)) for item in items]
    return _listing(columns, rows) if rows else Text("No experiments.")


def runs_table(rows: Iterable[Mapping[str, Any]], metrics: Sequence[str] = ()) -> RenderableType:
    """Runs as ``search --json`` lists them, one a line; what did not succeed has its reason beneath.

    A run is named by the first 10 digits of its fingerprint. ``metrics`` names the metrics to show on the
    validation and the test side; without it, the primary metric of the first run that declares one.
    """
    runs = list(rows)
    if not runs:
        return Text("No runs.")
    shown = list(metrics) or _primary_of(runs)
    measures = [(side, metric) for metric in shown for side in ("validation", "test")]
    columns = [_Column("Branch"), _Column("Run"), _Column("Health"), _Column("Lifecycle")]
    columns += [_Column(f"{_SHORT.get(side, side)} {visible(metric)}", "right") for side, metric in measures]
    return _listing(columns, [_Row(_run_cells(run, measures), _failure_note(run)) for run in runs])


def diff_view(comparison: Comparison) -> RenderableType:
    """A challenger against a champion: verdict, metrics, and what differs in configuration, data, environment."""
    parts: list[RenderableType] = [_verdict(comparison)]
    if comparison.metrics:
        parts += [Text(), _metrics(comparison.metrics)]
    for title, lines in (
        ("Configuration", _config_lines(comparison.config)),
        ("Data", [_data_line(change) for change in comparison.data]),
        ("Environment", [_package_line(change) for change in comparison.environment]),
    ):
        if lines:
            parts += [Text(), Text(title, style="bold"), *(Padding(line, (0, 0, 0, 2)) for line in lines)]
    parts += [Text(), Text(f"Moved: {', '.join(comparison.moved) or 'nothing'}")]
    return Group(*parts)


def plan_view(plan: Plan) -> RenderableType:
    """What a plan would do, one action a line under its experiment; then how many there are."""
    parts: list[RenderableType] = []
    for item in plan.items:
        if item.actions:
            parts.append(Text(visible(item.branch), style="bold", overflow="fold"))
            parts += [Padding(_action_line(action), (0, 0, 0, 2)) for action in item.actions]
    return Group(*parts, _summary(plan))


# ── status and runs ──────────────────────────────────────────────────────────────────────────────────────────────

CLASS_KEY = "_target_"
_SHORT = {"validation": "valid."}


def _status_cells(item: PlanItem, metric: str, side: str) -> tuple[Text, ...]:
    cells = (_branch(item.branch), _word(item.sync), _word(item.health), _word(item.lifecycle))
    if not metric:
        return cells
    return (*cells, Text(plain_number(item.metrics.get(side, {}).get(metric))))


def _run_cells(run: Mapping[str, Any], measures: Sequence[tuple[str, str]]) -> tuple[Text, ...]:
    measured = run.get("metrics") or {}
    values = (plain_number((measured.get(side) or {}).get(metric)) for side, metric in measures)
    return (
        _branch(str(run.get("branch", ""))),
        Text(visible(str(run.get("fingerprint") or "")[:10]) or ABSENT),
        _word(str(run.get("health", ""))),
        _word(str(run.get("lifecycle", ""))),
        *(Text(value) for value in values),
    )


def _primary_of(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    for run in runs:
        primary = ((run.get("params") or {}).get("evaluation") or {}).get("primary")
        if primary:
            return [str(primary)]
    return []


def _failure_note(run: Mapping[str, Any]) -> Text | None:
    reason = run.get("reason")
    return _quiet(str(reason)) if reason and run.get("health") != "Healthy" else None


# ── comparison ───────────────────────────────────────────────────────────────────────────────────────────────────


def _verdict(comparison: Comparison) -> Text:
    return Text.assemble(
        _word(comparison.verdict),
        f": {visible(comparison.reason)}{_measured(comparison)}\n",
        f"Champion {visible(comparison.champion)}, challenger {visible(comparison.challenger)}",
    )


def _measured(comparison: Comparison) -> str:
    """The primary metric on the side that decides, old and new; nothing where it decided nothing."""
    row = next((one for one in comparison.metrics if (one.side, one.metric) == ("test", comparison.primary)), None)
    if row is None or not row.change or comparison.verdict == "not comparable":
        return ""
    lower = "lower" if row.direction == "minimize" else "higher"
    change = f"{plain_number(row.champion)} → {plain_number(row.challenger)}"
    return f", {change} ({percent(row.relative)}, {lower} is better)"


def _metrics(changes: Sequence[MetricChange]) -> Table:
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="bold")
    for title in ("Side", "Metric"):
        table.add_column(title, overflow="fold")
    for title in ("Champion", "Challenger", "Change", "Relative"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("")
    for change in changes:
        numbers = (
            plain_number(change.champion),
            plain_number(change.challenger),
            signed_number(change.change),
            percent(change.relative),
        )
        names = (Text(visible(change.side)), Text(visible(change.metric)))
        table.add_row(*names, *(Text(number) for number in numbers), _word(change.judgement))
    return table


def _config_lines(changes: Sequence[ConfigChange]) -> list[Text]:
    """A line a change; where a class was changed for another, one line for all of its parameters.

    Two classes share no parameters worth comparing, and their long lists would bury the changes that are.
    """
    swapped = [
        one.key.removesuffix(CLASS_KEY) for one in changes if one.how == "changed" and one.key.endswith(f".{CLASS_KEY}")
    ]
    lines: list[Text] = []
    for change in changes:
        prefix = next((one for one in swapped if change.key.startswith(one)), None)
        if prefix is None:
            lines.append(_config_line(change))
        elif change.key == prefix + CLASS_KEY:
            theirs = sum(one.key.startswith(prefix) for one in changes) - 1
            lines.append(_config_line(change).append(f" (and {_counted(theirs, 'parameter')})" if theirs else ""))
    return lines


def _config_line(change: ConfigChange) -> Text:
    return _change_line(change.key, change.how, _value(change.champion), _value(change.challenger))


def _data_line(change: DataChange) -> Text:
    old = _table(change.champion, change.champion_rows)
    return _change_line(change.source, change.how, old, _table(change.challenger, change.challenger_rows))


def _package_line(change: PackageChange) -> Text:
    return _change_line(change.package, change.how, str(change.champion), str(change.challenger))


def _change_line(name: str, how: str, old: str, new: str) -> Text:
    key = Text(visible(name), style="bold")
    if how == "added":
        return Text.assemble("+ ", key, f" {visible(new)}", overflow="fold")
    if how == "removed":
        return Text.assemble("- ", key, f" {visible(old)}", overflow="fold")
    return Text.assemble("~ ", key, f" {visible(old)} → {visible(new)}", overflow="fold")


def _value(value: Any) -> str:
    """As JSON, so that the text ``1`` and the number 1 are told apart."""
    return json.dumps(value, ensure_ascii=False)


def _table(digest: str | None, rows: int | None) -> str:
    return f"{(digest or ABSENT)[:10]} ({plain_number(rows)} rows)"


# ── plan ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _action_line(action: Action) -> Text:
    what = f"run {action.target.side}" if isinstance(action, Run) else "record"
    commit = action.target.commit if isinstance(action, Run) else action.experiment.commit
    return Text.assemble("+ ", (what, "bold"), f" {visible(commit)[:7]}: {visible(action.why)}", overflow="fold")


def _summary(plan: Plan) -> Text:
    runs = sum(isinstance(action, Run) for action in plan.actions)
    records = len(plan.actions) - runs
    if plan.is_empty:
        return Text(f"Nothing to do: {_counted(len(plan.items), 'experiment')} looked at.")
    return Text(f"To do: {_counted(runs, 'run')}, {_counted(records, 'record')} to write.")


def _counted(number: int, noun: str) -> str:
    return f"{plain_number(number)} {noun}{'' if number == 1 else 's'}"


# ── layout ───────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Column:
    title: str
    justify: Literal["left", "right"] = "left"


@dataclass(frozen=True)
class _Row:
    """Cells of one line, and what stands beneath it over the whole width."""

    cells: tuple[Text, ...]
    note: Text | None = None


def _listing(columns: Sequence[_Column], rows: Sequence[_Row]) -> Group:
    """A table whose rows may have a note; the first column gives way where 80 columns are not enough."""
    header = tuple(Text(column.title, style="bold") for column in columns)
    widths = _widths([header, *(row.cells for row in rows)])
    parts: list[RenderableType] = [_line(columns, widths, header)]
    for row in rows:
        parts.append(_line(columns, widths, row.cells))
        if row.note is not None:
            parts.append(Padding(row.note, (0, 0, 0, 2)))
    return Group(*parts)


def _widths(lines: Sequence[tuple[Text, ...]]) -> list[int]:
    wanted = [max(cell_len(cell.plain) for cell in column) for column in zip(*lines, strict=True)]
    others = sum(wanted[1:]) + _GAP * (len(wanted) - 1)
    return [min(wanted[0], max(8, WIDTH - others)), *wanted[1:]]


def _line(columns: Sequence[_Column], widths: Sequence[int], cells: tuple[Text, ...]) -> Table:
    grid = Table.grid(padding=(0, _GAP, 0, 0))
    for column, width in zip(columns, widths, strict=True):
        grid.add_column(justify=column.justify, width=width, overflow="fold")
    grid.add_row(*cells)
    return grid


def _branch(name: str) -> Text:
    return Text(visible(name), overflow="fold")


def _word(word: str) -> Text:
    return Text(visible(word), style=_STYLES.get(word, ""))


def _quiet(text: str) -> Text:
    return Text(visible(text), style="dim", overflow="fold")
