"""Ask the index: through the query cache, which is kept at what the last fetch saw."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import cd4ml
from cd4ml.controller.landing import trust
from cd4ml.controller.landing.labels import without_label
from cd4ml.controller.landing.landed import IndexHistory, claimed_id, current_cache
from cd4ml.controller.project import Project
from cd4ml.errors import RemoteError, UsageError
from cd4ml.gateways.git import RemoteState
from cd4ml.gateways.store import QueryCache
from cd4ml.index.asked import described, fields_of, parse_columns, parse_order, unheld
from cd4ml.index.filter import Filter, begun, retyped, write
from cd4ml.index.grid import LEFT_OUT
from cd4ml.index.history import RunEntry
from cd4ml.index.instant import parse_instant, utc_text
from cd4ml.index.named import find, tombstone_line
from cd4ml.index.paths import Path
from cd4ml.index.rows import GONE, Row
from cd4ml.index.sql import OF_BRANCH, compile_filter, compile_order
from cd4ml.spec.canonical import digest


@dataclass(frozen=True)
class Found:
    """Rows as JSON values; ``stale`` says why they are of the last fetch and not of now, or not whole, or nothing.

    ``columns`` are the paths that were asked for, ``held`` is every written path below ``metrics``, ``params`` and
    so on that some run of the index holds, and ``hints`` has a line for each path asked for that none does.
    """

    runs: list[dict[str, Any]]
    stale: str = ""
    columns: tuple[Path, ...] = ()
    held: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()


def search(project: Project, text: str, *, order: str = "", limit: int | None = None, columns: str = "") -> Found:
    """The rows that a filter picks (all, for ``""``), newest last unless ordered.

    Raises UsageError for a filter, an order or columns that cannot be read.
    """
    from cd4ml.index.query import parse  # its grammar costs more than all else that a report or a plan imports

    filter_ = parse(text)
    where = compile_filter(filter_, datetime.now(UTC))
    order_by = compile_order(order) if order.strip() else None
    shown = parse_columns(columns) if columns.strip() else ()
    state, stale = known_state(project)
    cache = current_cache(project, state)
    ordered = tuple(term.field.path for term in parse_order(order)) if order_by else ()
    held = cache.paths()
    hints = unheld(shown, held, compared=(*fields_of(filter_), *ordered))
    if {*(where.heads if where else ()), *(path[0] for path in ordered)}.intersection(OF_BRANCH):
        _tell(project, state, cache, cache.row_branches())
    runs = cache.search(where, order_by, limit)
    if _tell(project, state, cache, {run["branch"] for run in runs}):
        runs = cache.search(where, order_by, limit)
    if filter_ is not None and not runs and limit != 0:
        hints = (*hints, *_otherwise(cache, filter_))
    for group in set(LEFT_OUT) - {path[0] for path in shown}:
        for run in runs:
            run.pop(group, None)
    return Found(runs, stale or cut_off(project), shown, held, hints)


def _otherwise(cache: QueryCache, filter_: Filter) -> tuple[str, ...]:
    """A hint where nothing is found, and something would be by nearly the same filter."""
    for nearly, why in (
        (retyped, "a number and the text that says it differ"),
        (begun, "what only begins so is asked for with LIKE"),
    ):
        with contextlib.suppress(UsageError):  # an operator that is none for texts
            other = nearly(filter_)
            if other != filter_ and cache.search(compile_filter(other, datetime.now(UTC)), None, 1):
                return (f"nothing is found; {why}: {write(other)}",)
    return ()


def known_fields(project: Project) -> tuple[list[dict[str, Any]], str]:
    """What can be asked for, as ``search --fields --json`` lists it; and why it is of the last fetch, or nothing."""
    state, stale = known_state(project)
    return described(current_cache(project, state).paths()), stale


@dataclass(frozen=True)
class Shown:
    """A row and the run record behind it; none for an experiment that was refused, or one that cannot be read."""

    row: Row
    record: Mapping[str, Any] | None

    def as_json(self) -> dict[str, Any]:
        return {**self.row.as_json(), "record": self.record}


def named_runs(project: Project, name: str) -> tuple[Shown, ...]:
    """What a run id, a fingerprint's unique prefix, a branch or a tag of this clone means, the best first.

    Raises UsageError when nothing or more than one thing has that name.
    """
    state, _ = known_state(project)
    cache = current_cache(project, state)
    found = _meant(project, cache, name)
    if _tell(project, state, cache, {row.branch for row in found}):
        found = _meant(project, cache, name)
    history = IndexHistory(cache, drafts=True)
    entries = ((row, history.run_by_id(row.id)) for row in found)
    return tuple(Shown(row, entry.run.body if entry else None) for row, entry in entries)


def _meant(project: Project, cache: QueryCache, name: str) -> tuple[Row, ...]:
    """The rows of that name. Raises UsageError, which tells of an erasure where that is why there are none."""
    try:
        return find(cache, name)
    except UsageError:
        commit = project.repository.resolve(f"refs/tags/{name}")
        if commit and (tagged := cache.of_commit(commit)):  # as a release is: its tag is at the result commit
            return tagged
        told = tombstone_line(
            IndexHistory(cache, drafts=True).removals, claimed_id(project, commit) if commit else name
        )
        if commit:
            why = told or f"that tag is on {commit[:12]}, which is no result of the index"
            raise UsageError(f"{name}: {why}") from None
        if told:
            raise UsageError(told) from None
        raise


def named_run(project: Project, name: str) -> RunEntry:
    """The one run that a name means. Raises UsageError when what it names has none."""
    state, _ = known_state(project)
    cache = current_cache(project, state)
    row = _meant(project, cache, name)[0]
    entry = IndexHistory(cache, drafts=True).run_by_id(row.id)
    if entry is None and row.imported:
        source = row.imported["source"]
        raise UsageError(f"{name}: was run by {source}, and imported: `cd4ml show {row.id}` tells what is known of it")
    if entry is None:
        raise UsageError(f"{name}: was not run: {row.reason or row.role}")
    return entry


def known_state(project: Project) -> tuple[RemoteState, str]:
    """What the remote holds now; where it cannot be reached, what the last fetch saw, and why."""
    try:
        return trust.read(project), ""
    except RemoteError as error:
        seen = trust.last_seen(project)
        if not seen.heads:
            raise
        return seen, f"{error}: showing what the last fetch saw"


def cut_off(project: Project) -> str:
    """Why a clone cannot know what became of every branch; nothing where it can."""
    if not project.repository.is_shallow:
        return ""
    return f"what became of branches is not all here, where history is cut off: git fetch --unshallow {project.remote}"


def cache_with_lifecycles(project: Project, state: RemoteState) -> QueryCache:
    """The query cache, which knows what became of every branch."""
    cache = current_cache(project, state)
    _tell(project, state, cache, cache.row_branches())
    return cache


def _tell(project: Project, state: RemoteState, cache: QueryCache, branches: Collection[str]) -> bool:
    """See that the cache knows what became of these branches; says whether it had to be told."""
    key = digest([cd4ml.__version__, project.base, dict(state.heads), dict(state.landing), dict(state.drafts)])
    untold = cache.untold(key, branches)
    if not untold:
        return False
    from cd4ml.controller.reconciling.lifecycles import lifecycles  # which brings in all that a plan looks at

    asked = frozenset(without_label(branch) for branch in untold)
    known = lifecycles(project, state, IndexHistory(cache, drafts=True), asked)
    told: dict[tuple[str, str], tuple[str, str | None, str | None]] = {}
    for branch in untold:
        lives = known.get(branch)
        became = {"": lives.became, **lives.earlier} if lives else {"": None}
        for commit, one in became.items():
            when = utc_text(parse_instant(one.when)) if one and one.when else None
            told[branch, commit] = (str(one.lifecycle), one.by or None, when) if one else (GONE, None, None)
    cache.keep_lifecycles(key, told)
    return True


def rows_of_runs(
    project: Project, state: RemoteState, cache: QueryCache, ids: Collection[str]
) -> dict[str, tuple[Row, ...]]:
    """By id the rows of these runs, that of the branch that it was run for first, with what became of each branch."""
    found = cache.rows_of(ids)
    if _tell(project, state, cache, {row.branch for those in found.values() for row in those}):
        found = cache.rows_of(ids)
    return found
