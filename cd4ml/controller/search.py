"""Ask the index: through the query cache, which is kept at what the last fetch saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import cd4ml
from cd4ml.controller.drafts import is_of_work_tree, without_label
from cd4ml.controller.landed import read_history
from cd4ml.controller.observe import observe_state
from cd4ml.controller.project import Project
from cd4ml.controller.reconcile import Request, make_plan
from cd4ml.errors import RemoteError, RepositoryError, UsageError
from cd4ml.gateways.git import RemoteState
from cd4ml.gateways.store import QueryCache
from cd4ml.index.history import History, RunEntry
from cd4ml.index.query import parse
from cd4ml.index.rows import Row, find, rows
from cd4ml.index.sql import compile_filter, compile_order
from cd4ml.promotion.compare import Comparison, compare
from cd4ml.spec.canonical import digest


@dataclass(frozen=True)
class Found:
    """Rows as JSON values; ``stale`` says why they are of the last fetch and not of now, or nothing."""

    runs: list[dict[str, Any]]
    stale: str = ""


def search(project: Project, text: str, *, order: str, limit: int | None) -> Found:
    """The rows that a filter picks (all, for ``""``), newest last unless ordered.

    Raises UsageError for a filter that cannot be read.
    """
    where = compile_filter(parse(text), datetime.now(UTC))
    order_by = compile_order(order) if order else None
    state, stale = known_state(project)
    cache = QueryCache(project.private / "query.sqlite")
    cache.refresh(_key(project, state), lambda: _rows(project, state))
    return Found(cache.search(where, order_by, limit), stale)


@dataclass(frozen=True)
class Shown:
    """A row and the run record behind it; none for an experiment that was refused, or one that cannot be read."""

    row: Row
    record: Mapping[str, Any] | None

    def as_json(self) -> dict[str, Any]:
        return {**self.row.as_json(), "record": self.record}


def named_runs(project: Project, name: str) -> tuple[Shown, ...]:
    """What a run id, a fingerprint's unique prefix or a branch means, the best first.

    Raises UsageError when nothing or more than one thing has that name.
    """
    state, _ = known_state(project)
    history = read_history(project, state)
    found = find(rows(history, _lifecycles(project, state, history)), name)
    entries = ((row, history.run_by_id(row.id)) for row in found)
    return tuple(Shown(row, entry.run.body if entry else None) for row, entry in entries)


def named_run(project: Project, name: str) -> RunEntry:
    """The one run that a name means. Raises UsageError when what it names has none."""
    state, _ = known_state(project)
    row = find(_rows(project, state), name)[0]
    entry = read_history(project, state).run_by_id(row.id)
    if entry is None:
        raise UsageError(f"{name}: was not run: {row.reason or row.role}")
    return entry


def compare_named(project: Project, champion: str, challenger: str) -> Comparison:
    """The comparison of two named runs, by the base branch's rules."""
    state, _ = known_state(project)
    observation = observe_state(project, state)
    least = observation.policy.promotion.min_improvement
    return compare(named_run(project, champion).run, named_run(project, challenger).run, least)


def known_state(project: Project) -> tuple[RemoteState, str]:
    """What the remote holds now; where it cannot be reached, what the last fetch saw, and why."""
    try:
        return project.repository.fetch(project.remote), ""
    except RemoteError as error:
        seen = project.repository.last_seen()
        if not seen.heads:
            raise
        return seen, f"{error}: showing what the last fetch saw"


def _key(project: Project, state: RemoteState) -> str:
    return digest([cd4ml.__version__, project.base, dict(state.heads), dict(state.landing), dict(state.drafts)])


def _rows(project: Project, state: RemoteState) -> tuple[Row, ...]:
    history = read_history(project, state)
    return rows(history, _lifecycles(project, state, history))


def _lifecycles(project: Project, state: RemoteState, history: History) -> dict[str, str]:
    """By branch. A base branch that cannot be read leaves open what is there; the index stays searchable."""
    try:
        plan = make_plan(observe_state(project, state), Request())
    except (UsageError, RepositoryError):
        known = dict.fromkeys(state.heads, "open")
    else:
        known = {item.branch: str(item.lifecycle) for item in plan.items} or dict.fromkeys(history.branches, "open")
    edits = {run.run.branch for run in history.runs if is_of_work_tree(run.run.branch)}
    return {**known, **{label: known.get(without_label(label), "open") for label in edits}}
