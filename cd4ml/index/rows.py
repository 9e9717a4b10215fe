"""What ``search`` and ``show`` list: one row for each run and each branch that it answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, Literal

from cd4ml.errors import Problem, UsageError
from cd4ml.index.filter import nearest
from cd4ml.index.history import ExperimentEntry, History, RunEntry
from cd4ml.index.instant import parse_instant, utc_text

Health = Literal["Healthy", "Degraded", "Unknown"]
Role = Literal["result", "replicate", "attempt", "refused", "unknown"]
Side = Literal["head", "merge"]

GONE = "discarded"
"""The lifecycle of a branch that nobody speaks of any more."""

MIN_PREFIX = 4
_SIDES: tuple[Side, ...] = ("head", "merge")
_MOST_PROBLEMS = 5
_MOST_LISTED = 8
_BEST_FIRST: Mapping[str, int] = MappingProxyType(
    {"result": 0, "replicate": 1, "attempt": 2, "unknown": 3, "refused": 4}
)


@dataclass(frozen=True)
class Row:
    """One run and one branch that it answers.

    ``id`` is the run's, or the experiment record's when ``role`` is ``refused``: there was nothing to run.
    ``commit`` is the branch's, ``source_commit`` the one that was run: they differ for a merge result and
    for a run that was made for another branch. ``result_commit`` keeps both alive; for what was refused it
    is the commit that holds the experiment record. ``role`` is ``unknown`` when the index names a run that
    this version cannot read. ``fold`` is the number of the fold that made the row. ``started``,
    ``finished`` and ``committed`` are ISO 8601 in UTC. ``cost`` is in seconds, by stage.
    """

    id: str
    fingerprint: str | None
    branch: str
    commit: str
    result_commit: str | None
    health: Health
    lifecycle: str
    params: Mapping[str, Any]
    metrics: Mapping[str, Mapping[str, float]]
    reason: str | None
    outcome: str | None
    role: Role
    side: Side
    source_commit: str | None
    experiment: str | None
    name: str
    author: str | None
    hypothesis: str | None
    tags: tuple[str, ...]
    conclusion: str | None
    noted_by: str | None
    started: str | None
    finished: str | None
    committed: str | None
    model_digest: str | None
    components: Mapping[str, str] | None
    primary: Mapping[str, str] | None
    cost: Mapping[str, float]
    landed_by: str | None
    fold: int

    def as_json(self) -> dict[str, Any]:
        """The object that ``--json`` lists under ``runs``; see ``docs/json.md``."""
        value = {field.name: getattr(self, field.name) for field in fields(self)}
        value["tags"] = list(self.tags)
        return value


@dataclass(frozen=True)
class _Asked:
    """What the experiment records say of one commit of one branch, in fold order."""

    records: tuple[ExperimentEntry, ...]

    @property
    def latest(self) -> ExperimentEntry:
        return self.records[-1]

    @property
    def first_fold(self) -> int:
        return self.records[0].entry.fold

    def shared(self) -> dict[str, Any]:
        """The fields of a row that speak of the branch and not of a run."""
        body = self.latest.experiment.body
        noted = next((one.experiment.body for one in reversed(self.records) if one.experiment.body["conclusion"]), body)
        return {
            "branch": body["branch"],
            "commit": body["commit"],
            "experiment": body["id"],
            "name": body["name"],
            "author": body["author"] or None,
            "hypothesis": body["hypothesis"] or None,
            "tags": tuple(body["tags"]),
            "conclusion": noted["conclusion"] or None,
            "noted_by": noted["noted_by"] or None,
            "committed": utc_text(parse_instant(body["committed"])),
        }


Key = tuple[str, str]


def rows(history: History, lifecycles: Mapping[str, str]) -> tuple[Row, ...]:
    """Everything that the index has to list, in fold order.

    A run gives a row for the branch that it was run for, enriched by the latest experiment record of that
    commit, and one for each other branch and commit whose latest record it answers. A commit that was
    refused, or whose merge conflicts, and that no run answers gives a row of role ``refused``.
    ``lifecycles`` is by branch; a branch that is not in it is discarded.
    """
    asked = _asked(history)
    merges = {
        (branch, one.experiment.body["merge_commit"]): (branch, commit)
        for (branch, commit), ask in asked.items()
        for one in ask.records
        if one.experiment.body["merge_commit"]
    }
    roles = _roles(history)
    runs = {run.run.id: run for run in history.runs}
    own: dict[str, Key] = {}
    found: list[Row] = []
    for run in history.runs:
        source = (run.run.branch, run.run.commit)
        key = merges.get(source, source) if run.run.body["side"] == "merge" else source
        own[run.run.id] = key
        side: Side = run.run.body["side"]
        found.append(_run_row(run, roles[run.run.id], side, asked.get(key), lifecycles, run.entry.fold))
    for key, ask in asked.items():
        found += _answers(key, ask, runs, roles, own, lifecycles)
    return tuple(sorted(found, key=lambda row: (row.fold, row.id, row.branch, row.commit, row.side)))


def _asked(history: History) -> dict[Key, _Asked]:
    records: dict[Key, list[ExperimentEntry]] = {}
    for one in history.experiments:
        records.setdefault((one.experiment.branch, one.experiment.commit), []).append(one)
    return {key: _Asked(tuple(found)) for key, found in records.items()}


def _roles(history: History) -> dict[str, Role]:
    roles: dict[str, Role] = {}
    answered: set[str] = set()
    for run in history.runs:
        if not run.run.succeeded:
            roles[run.run.id] = "attempt"
        else:
            roles[run.run.id] = "replicate" if run.run.fingerprint in answered else "result"
            answered.add(run.run.fingerprint)
    return roles


def _answers(
    key: Key,
    ask: _Asked,
    runs: Mapping[str, RunEntry],
    roles: Mapping[str, Role],
    own: Mapping[str, Key],
    lifecycles: Mapping[str, str],
) -> Iterator[Row]:
    """Rows for the runs that answer a commit and were made for another, or for having none."""
    answer = ask.latest.experiment.answer
    by_run: dict[str, Side] = {}
    for side in _SIDES:
        run_id = answer[side]
        if run_id is not None:
            by_run.setdefault(run_id, side)
    for run_id, side in by_run.items():
        if run_id not in runs:
            yield _unknown_row(run_id, side, ask, lifecycles)
        elif own[run_id] != key:
            run = runs[run_id]
            yield _run_row(run, roles[run_id], side, ask, lifecycles, max(run.entry.fold, ask.first_fold))
    body = ask.latest.experiment.body
    if not by_run and (body["problems"] or body["conflicts"]):
        yield _refused_row(ask, lifecycles)


def _run_row(
    run: RunEntry, role: Role, side: Side, ask: _Asked | None, lifecycles: Mapping[str, str], fold: int
) -> Row:
    body = run.run.body
    shared = ask.shared() if ask else _shared_of_run(run)
    model = body["model"]
    return Row(
        **shared,
        id=run.run.id,
        fingerprint=run.run.fingerprint,
        result_commit=run.entry.result_commit,
        health="Healthy" if run.run.succeeded else "Degraded",
        lifecycle=lifecycles.get(shared["branch"], GONE),
        params=run.run.params,
        metrics=run.run.metrics,
        reason=_reason(run),
        outcome=body["outcome"],
        role=role,
        side=side,
        source_commit=run.run.commit,
        started=utc_text(parse_instant(body["started"])),
        finished=utc_text(parse_instant(body["finished"])),
        model_digest=model["digest"] if model else None,
        components=run.run.components,
        primary=body["primary"],
        cost=body["cost"]["seconds"],
        landed_by=run.entry.landed_by or None,
        fold=fold,
    )


def _shared_of_run(run: RunEntry) -> dict[str, Any]:
    return {
        "branch": run.run.branch,
        "commit": run.run.commit,
        "experiment": None,
        "name": run.run.body["name"],
        "author": None,
        "hypothesis": None,
        "tags": (),
        "conclusion": None,
        "noted_by": None,
        "committed": None,
    }


def _reason(run: RunEntry) -> str | None:
    reason = run.run.reason
    return f"{reason['stage']}: {reason['message']}" if reason else None


def _runless(ask: _Asked, lifecycles: Mapping[str, str]) -> dict[str, Any]:
    entry = ask.latest.entry
    shared = ask.shared()
    return {
        **shared,
        "lifecycle": lifecycles.get(shared["branch"], GONE),
        "params": {},
        "metrics": {},
        "outcome": None,
        "source_commit": None,
        "started": None,
        "finished": None,
        "model_digest": None,
        "components": None,
        "primary": None,
        "cost": {},
        "landed_by": entry.landed_by or None,
        "fold": ask.first_fold,
    }


def _unknown_row(run_id: str, side: Side, ask: _Asked, lifecycles: Mapping[str, str]) -> Row:
    body = ask.latest.experiment.body
    return Row(
        **_runless(ask, lifecycles),
        id=run_id,
        fingerprint=body["fingerprint" if side == "head" else "merge_fingerprint"],
        result_commit=None,
        health="Unknown",
        reason=f"the index holds no run {run_id} that this version can read",
        role="unknown",
        side=side,
    )


def _refused_row(ask: _Asked, lifecycles: Mapping[str, str]) -> Row:
    body = ask.latest.experiment.body
    problems = [
        str(Problem(one["file"], one["key"], one["message"], one["hint"])) for one in body["problems"][:_MOST_PROBLEMS]
    ]
    if body["conflicts"]:
        problems.append("conflicts with the base branch in " + ", ".join(body["conflicts"][:_MOST_PROBLEMS]))
    return Row(
        **_runless(ask, lifecycles),
        id=body["id"],
        fingerprint=body["fingerprint"],
        result_commit=ask.latest.entry.result_commit,
        health="Degraded",
        reason="; ".join(problems),
        role="refused",
        side="head" if body["problems"] else "merge",
    )


def find(all_rows: tuple[Row, ...], name: str) -> tuple[Row, ...]:
    """The rows that a name means, the best answer first.

    A run id or a unique prefix (from 4 characters) of an id or a fingerprint gives every row of that run or
    fingerprint. A branch, with or without the first part of its name, gives the one row that answers its
    latest commit: of the head rather than of the merge result, a success rather than a failure, and then the
    newest in fold order. Raises UsageError when nothing or more than one thing has that name.
    """
    exact = [row for row in all_rows if name in (row.id, row.fingerprint)]
    if exact:
        return _best_first(exact)
    branches = sorted({row.branch for row in all_rows})
    named = [branch for branch in branches if name and name in (branch, branch.partition("/")[2])]
    named = [name] if name in named else named
    if len(named) > 1:
        raise UsageError(f"{name!r} may be any of {_listing(named)}")
    if named:
        return (_answer_of_branch([row for row in all_rows if row.branch == named[0]]),)
    return _by_prefix(all_rows, name, branches)


def _by_prefix(all_rows: tuple[Row, ...], name: str, branches: list[str]) -> tuple[Row, ...]:
    prefix = name.lower()
    names = sorted(
        {known for row in all_rows for known in (row.id, row.fingerprint or row.id) if known.startswith(prefix)}
    )
    if len(prefix) >= MIN_PREFIX and len(names) == 1:
        return _best_first([row for row in all_rows if names[0] in (row.id, row.fingerprint)])
    if len(prefix) >= MIN_PREFIX and names:
        raise UsageError(f"{name!r} begins the names of several runs: {_listing([known[:16] for known in names])}")
    if names:
        raise UsageError(f"{name!r} is too short: give at least {MIN_PREFIX} characters")
    short = {branch.partition("/")[2]: branch for branch in branches}
    near = nearest(name, [*branches, *short])
    hint = f"; did you mean {short.get(near, near)}?" if near else ""
    raise UsageError(f"no run is named {name!r}{hint}")


def _best_first(found: list[Row]) -> tuple[Row, ...]:
    return tuple(sorted(found, key=lambda row: _BEST_FIRST[row.role]))


def _answer_of_branch(found: list[Row]) -> Row:
    first_fold: dict[str, tuple[int, str, str]] = {}
    for row in found:
        key = (row.fold, row.committed or "", row.commit)
        first_fold[row.commit] = min(key, first_fold.get(row.commit, key))
    latest = max(first_fold, key=lambda commit: first_fold[commit])
    return min(
        (row for row in found if row.commit == latest),
        key=lambda row: (row.side != "head", _BEST_FIRST[row.role], -row.fold),
    )


def _listing(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
    return ", ".join(names[:_MOST_LISTED]) + more
