"""Reproduce: run what a record says again, from Git and the archived raw data alone, and compare."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from cd4ml.controller.data import ensure_raw
from cd4ml.controller.environment import environment_differences
from cd4ml.controller.landed import read_history
from cd4ml.controller.project import Project
from cd4ml.controller.run import WAITING, WORK_LOCK, Failure, Job, Verdict, Watch, attempt, discard
from cd4ml.controller.scaffold import load_templates
from cd4ml.controller.specs import Base, asked_of, spec_of
from cd4ml.controller.warm import warm_process
from cd4ml.errors import IntegrityError, RepositoryError
from cd4ml.gateways.files import exclusive, remove_tree
from cd4ml.index.history import RunEntry
from cd4ml.spec.pipeline import PREDICTIONS


@dataclass(frozen=True)
class Difference:
    """One fact that came out otherwise than the record says."""

    what: str
    recorded: str
    found: str


@dataclass(frozen=True)
class Reproduction:
    """What running it again gave.

    ``moved`` names the fingerprint components that are not the recorded ones, ``environment`` the packages
    that are not as the commit's lock says: either may be why something differs.
    """

    entry: RunEntry
    moved: tuple[str, ...]
    environment: tuple[str, ...]
    differences: tuple[Difference, ...]
    failure: Failure | None
    verdict: Verdict | None

    @property
    def equal(self) -> bool:
        """The same metrics, predictions and model digest (or the same failure)?"""
        return not self.differences


def reproduce(project: Project, run_id: str, watch: Watch) -> Reproduction:
    """Run a record's commit again with an empty DVC cache, and compare what comes out.

    Writes nothing to the index. Raises RepositoryError for an unknown run or a commit that is gone,
    RemoteError when the raw data cannot be had.
    """
    state = project.repository.fetch(project.remote)
    base_commit = state.heads.get(project.base)
    entry = read_history(project, state).run_by_id(run_id)
    if entry is None or base_commit is None:
        raise RepositoryError(f"{run_id}: is not in the index of {project.remote}")
    run = entry.run
    tree = project.repository.tree_of(run.commit)
    if tree != run.body["tree"]:
        raise IntegrityError(f"{run.id}: its commit {run.commit[:12]} has another tree than the record says")
    policy, _ = spec_of(project, base_commit)
    judged = run.body.get("judge") or {}  # the code whose metrics were computed then
    judge = str(judged.get("commit") or base_commit)
    if judge != base_commit and not project.repository.is_ancestor(judge, base_commit):
        raise IntegrityError(f"{run.id}: {judge[:12]}, whose code computed its metrics, is no commit of {project.base}")
    asked = asked_of(project, tree, Base(judge, policy))
    moved = asked.components.moved_from(run.components)
    environment = environment_differences(asked.lock)
    storage = project.storage(base_commit)
    templates, side = load_templates(project, base_commit), run.body["side"]
    job = Job(run.branch, side, run.commit, tree, asked, policy, templates, base_commit=judge)
    raw = ensure_raw(project, storage, asked.pins.values())
    with (
        exclusive(project.private / WORK_LOCK, waiting=lambda: watch(WAITING)),
        _empty_cache(project) as cache,
        warm_process(project.private, policy.executor.threads) as warm,
    ):
        tried = attempt(project, job, storage=replace(storage, cache=cache), raw=raw, warm=warm, watch=watch)
        discard(tried.execution)
    found = differences(entry, tried.failure, tried.verdict)
    return Reproduction(entry, moved, environment, found, tried.failure, tried.verdict)


@contextmanager
def _empty_cache(project: Project) -> Iterator[Path]:
    """A DVC cache that holds nothing, so that everything is made again; removed afterwards."""
    cache = project.private / "reproduce" / uuid.uuid4().hex[:12]
    try:
        yield cache
    finally:
        remove_tree(cache)


def differences(entry: RunEntry, failure: Failure | None, verdict: Verdict | None) -> tuple[Difference, ...]:
    """Where a new outcome differs from the recorded one. Pure."""
    run = entry.run
    if verdict is None:
        recorded = run.reason or {}
        told = f"{failure.stage}: {failure.message}" if failure else "no outcome"
        known = f"{recorded.get('stage')}: {recorded.get('message')}" if recorded else "succeeded"
        return () if told == known else (Difference("outcome", known, told),)
    if not run.succeeded:
        return (Difference("outcome", "failed", "succeeded"),)
    found = [
        Difference(f"{side} {name}", repr(value), repr(verdict.metrics.get(side, {}).get(name)))
        for side, values in run.metrics.items()
        for name, value in values.items()
        if verdict.metrics.get(side, {}).get(name) != value
    ]
    pairs = [
        ("model digest", run.body["model"]["digest"], verdict.model["digest"]),
        ("predictions", run.body["files"][PREDICTIONS]["sha256"], verdict.files[PREDICTIONS].sha256),
        ("table", run.body["table"]["digest"], verdict.table["digest"]),
    ]
    return (*found, *(Difference(what, old, new) for what, old, new in pairs if old != new))
