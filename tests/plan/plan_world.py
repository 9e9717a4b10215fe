"""A small world of branches, runs and records, as values: what the plan's tests are told in."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from cd4ml.errors import FailureKind, Problem
from cd4ml.index.history import History
from cd4ml.index.record import Entry, as_record, seal
from cd4ml.plan.action import Plan, RecordExperiment, Run, experiment_body
from cd4ml.plan.diff import PlanPolicy, diff
from cd4ml.plan.state import DesiredState, Experiment, Side, Target
from cd4ml.spec.fingerprint import Components

POLICY = PlanPolicy()
Outcome = tuple[FailureKind, str, str] | None
"""How a run ends: kind, stage and message of its failure, or nothing for a success."""


def hexes(label: str, length: int = 64) -> str:
    """A digest for a word."""
    return hashlib.sha256(label.encode()).hexdigest()[:length]


def components(spec: str = "s", code: str = "c", data: str = "d", pipeline: str = "p", env: str = "e") -> Components:
    return Components(*(hexes(f"{index}{word}") for index, word in enumerate((spec, code, data, pipeline, env))))


def target(parts: Components | None, commit: str, side: Side = "head", problems: tuple[Problem, ...] = ()) -> Target:
    return Target(side, hexes(commit, 40), hexes(f"tree of {commit}", 40), parts, problems)


def asks(
    branch: str,
    head: Components | None,
    merge: Components | None = None,
    *,
    commit: str = "",
    problems: tuple[Problem, ...] = (),
    merge_problems: tuple[Problem, ...] = (),
    **others: Any,
) -> Experiment:
    """An experiment at a commit named after what it asks for; ``main`` is the base branch."""
    name = commit or f"{branch} {head.fingerprint if head else 'refused'}"
    return Experiment(
        branch=branch,
        commit=hexes(name, 40),
        is_base=branch == "main",
        author="Ada <ada@example.org>",
        name=branch.rsplit("/", 1)[-1],
        hypothesis="it helps",
        tags=("t",),
        head=target(head, name, problems=problems),
        merge=target(merge, f"merge of {name}", "merge", merge_problems) if merge or merge_problems else None,
        committed="2026-01-02T03:04:05+01:00",
        **others,
    )


def desired(*experiments: Experiment, **others: Any) -> DesiredState:
    return DesiredState("main", experiments, **others)


def entry(body: dict[str, Any], fold: int) -> Entry:
    return Entry(as_record(seal(body)), hexes(str(body)), hexes(f"result {body}", 40), "judge", fold)


def run_entry(
    parts: Components,
    branch: str,
    commit: str = "elsewhere",
    fold: int = 1,
    outcome: Outcome = None,
    attempt: int = 0,
) -> Entry:
    """A landed run; ``attempt`` tells equal failures apart, as their times do in real records."""
    kind, stage, message = outcome or ("deterministic", "", "")
    body = {
        "kind": "run",
        "fingerprint": parts.fingerprint,
        "components": parts.as_mapping(),
        "commit": commit if len(commit) == 40 else hexes(commit, 40),
        "branch": branch,
        "outcome": "failed" if outcome else "succeeded",
        "reason": {"kind": kind, "stage": stage, "message": message} if outcome else None,
        "metrics": {} if outcome else {"validation": {"rmse": 1.5}, "test": {"rmse": 2.5}},
        "attempt": attempt,
    }
    return entry(body, fold)


def succeeds(_run: Run) -> Outcome:
    return None


def apply(
    plan: Plan, entries: Iterable[Entry], outcome: Callable[[Run], Outcome] = succeeds, *, only: int | None = None
) -> list[Entry]:
    """What the index holds after the first ``only`` actions (or all) of a plan are carried out in one fold."""
    known = list(entries)
    fold = max((entry.fold for entry in known), default=0) + 1
    pairs = [(item, action) for item in plan.items for action in item.actions][:only]
    for number, (item, action) in enumerate(pairs):
        if isinstance(action, RecordExperiment):
            known.append(entry(experiment_body(item, action), fold))
        else:
            assert action.target.components is not None
            ended = outcome(action)
            attempt = fold * 1000 + number
            parts = action.target.components
            known.append(run_entry(parts, action.branch, action.target.commit, fold, ended, attempt))
    return known


def settle(
    state: DesiredState,
    entries: Iterable[Entry] = (),
    outcome: Callable[[Run], Outcome] = succeeds,
    policy: PlanPolicy = POLICY,
    rounds: int = 3,
) -> list[Entry]:
    """Apply plans until one is empty; fails when that takes more than ``rounds`` of them."""
    known = list(entries)
    for _ in range(rounds):
        plan = diff(state, History.of(known), policy)
        if plan.is_empty:
            return known
        known = apply(plan, known, outcome)
    left = diff(state, History.of(known), policy)
    assert left.is_empty, [action.as_json() for action in left.actions]
    return known


def plan_of(state: DesiredState, entries: Iterable[Entry] = (), **policy: Any) -> Plan:
    return diff(state, History.of(entries), replace(POLICY, **policy))


def briefly(plan: Plan, branch: str) -> list[str]:
    """The actions for a branch in words: ``run head``, ``run merge``, ``record``."""
    return [
        f"run {action.target.side}" if isinstance(action, Run) else "record"
        for action in plan.actions
        if action.branch == branch
    ]
