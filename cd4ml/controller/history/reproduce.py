"""Reproduce: run what a record says again, from Git and the archived raw data alone, and compare."""

from __future__ import annotations

import math
import platform
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cd4ml.controller.desired.data import ensure_raw
from cd4ml.controller.desired.scaffold import load_templates
from cd4ml.controller.desired.specs import Base, asked_of, spec_of
from cd4ml.controller.landing import trust
from cd4ml.controller.landing.erased import erased_objects, made_of_erased
from cd4ml.controller.landing.land import store_outputs
from cd4ml.controller.landing.landed import read_history
from cd4ml.controller.landing.removals import record_removals, removal
from cd4ml.controller.project import Project
from cd4ml.controller.running.environment import environment_differences, installed_versions, throwaway_environment
from cd4ml.controller.running.run import (
    WAITING,
    WORK_LOCK,
    Attempt,
    Failure,
    Job,
    Verdict,
    Watch,
    attempt,
    clear_leftovers,
    discard,
)
from cd4ml.controller.running.warm import warm_process
from cd4ml.errors import IntegrityError, RemoteError, RepositoryError, UsageError
from cd4ml.gateways.dvc import Storage
from cd4ml.gateways.files import exclusive, remove_tree
from cd4ml.index.history import RunEntry
from cd4ml.index.record import RemovalRecord, RunRecord
from cd4ml.index.removed import ERASED, LET_GO, STORED, counting, words
from cd4ml.index.retention import OUTPUTS
from cd4ml.spec.experiment import Spec
from cd4ml.spec.pipeline import PREDICTIONS

_MOST_THREADS = 256
_SMALL = 1e-6
"""Of a metric near 0 a relative difference says nothing: below this much times the tolerance it is none."""


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
    that are not as the commit's lock says: either may be why something differs. ``expected`` are differences that
    the record said beforehand could come, metrics within its ``tolerance`` among them; ``why`` says what it said.
    ``let_go`` says when and by whom the run was erased (``is_erased``), or its artefacts were let go and were not all
    stored again now; else nothing.
    ``stored`` are the outputs that were put back where that was asked for, and ``withheld`` those that came out as
    other bytes, or not at all.
    """

    entry: RunEntry
    moved: tuple[str, ...]
    environment: tuple[str, ...]
    differences: tuple[Difference, ...]
    expected: tuple[Difference, ...]
    why: tuple[str, ...]
    failure: Failure | None
    verdict: Verdict | None
    let_go: str = ""
    is_erased: bool = False
    stored: tuple[str, ...] = ()
    withheld: tuple[str, ...] = ()

    @property
    def equal(self) -> bool:
        """The same metrics, predictions and model digest (or the same failure), but for what was expected?"""
        return not self.differences


def reproduce(
    project: Project, run_id: str, watch: Watch, *, rebuild_env: bool = False, store: bool = False
) -> Reproduction:
    """Run a record's commit again with an empty DVC cache, on as many threads as then, and compare what comes out.

    ``rebuild_env`` makes the environment of the commit's lock for it, and removes it afterwards. ``store`` puts every
    output that has the recorded bytes back into DVC's cache and on its remote, such as after it was let go or lost; of
    a run that was let go the index says so then; else nothing is written to it. Raises RepositoryError for an
    unknown run or a commit that is gone, UsageError where what is asked for was erased or never had outputs,
    RemoteError when the raw data cannot be had or the index cannot be told.
    """
    state = trust.read(project)
    base_commit = state.heads.get(project.base)
    history = read_history(project, state)
    entry = history.run_by_id(run_id)
    if entry is None or base_commit is None:
        raise RepositoryError(f"{run_id}: is not in the index of {project.remote}")
    run = entry.run
    tree = project.repository.tree_of(run.commit)
    if tree != run.body["tree"]:
        raise IntegrityError(f"{run.id}: its commit {run.commit[:12]} has another tree than the record says")
    policy = _with_threads(spec_of(project, base_commit)[0], run.body.get("threads"))
    judged = run.body.get("judge") or {}  # the code whose metrics were computed then
    judge = str(judged.get("commit") or base_commit)
    if judge != base_commit and not project.repository.is_ancestor(judge, base_commit):
        raise IntegrityError(f"{run.id}: {judge[:12]}, whose code computed its metrics, is no commit of {project.base}")
    asked = asked_of(project, tree, Base(judge, policy))
    moved = asked.components.moved_from(run.components)
    environment = environment_lines(asked.lock, run.body["environment"])
    storage = project.storage(base_commit)
    templates, side = load_templates(project, base_commit), run.body["side"]
    job = Job(run.branch, side, run.commit, tree, asked, policy, templates, base_commit=judge)
    known = Expectation.of(run.body)
    gone = counting(history.removals_of([run_id])).get(run_id)
    let_go = words(gone.removal.body) if gone else ""
    if store:
        _refuse_to_store(project, storage, run)
    try:
        raw = ensure_raw(project, storage, asked.pins.values(), erased_objects(project))
    except (RemoteError, UsageError) as error:
        if not let_go:
            raise
        raise type(error)(f"{run_id}: {let_go}: {error}") from error
    with (
        exclusive(project.private / WORK_LOCK, waiting=lambda: watch(WAITING)),
        _empty_cache(project) as cache,
        warm_process(project.private, policy.executor.threads) as warm,
        _environment(project, job, wanted=rebuild_env) as python,
    ):
        job = replace(job, python=python)
        tried = attempt(project, job, storage=replace(storage, cache=cache), raw=raw, warm=warm, watch=watch)
        try:
            stored, withheld = _put_back(project, storage, tried, run) if store else ((), ())
        finally:
            discard(tried.execution)
    if stored and not withheld and _tell_stored(project, base_commit, run_id):
        let_go = ""
    found = differences(entry, tried.failure, tried.verdict)
    expected = tuple(one for one in found if known.covers(one))
    counted = tuple(one for one in found if one not in expected)
    remaining = () if rebuild_env else environment
    outcome = Reproduction(entry, moved, remaining, counted, expected, known.why, tried.failure, tried.verdict, let_go)
    is_erased = gone is not None and gone.removal.what == ERASED
    return replace(outcome, is_erased=is_erased, stored=stored, withheld=withheld)


def _refuse_to_store(project: Project, storage: Storage, run: RunRecord) -> None:
    """Raise UsageError for a run of which nothing is to be stored: it, or its data, were erased; or it failed."""
    if told := made_of_erased(project, storage, run):
        raise UsageError(f"{run.id}: its data, or its model, were {told}: what is made of it again is not stored")
    if not run.succeeded:
        raise UsageError(f"{run.id} failed: it has no outputs that could be stored")


def _put_back(
    project: Project, storage: Storage, tried: Attempt, run: RunRecord
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Store the outputs that came out with the bytes that the run recorded; gives them, and those that did not.

    Those of a draft in this clone's cache alone. Raises as ``_refuse_to_store`` does: the run may have been erased
    while it was made.
    """
    state = trust.fetch(project)
    _refuse_to_store(project, storage, run)
    remotely = read_history(project, state, drafts=False).run_by_id(run.id) is not None
    recorded = {path: told for path, told in run.body["files"].items() if path.startswith(OUTPUTS)}
    made = tried.verdict.files if tried.verdict else {}
    same = tuple(path for path, told in recorded.items() if path in made and vars(made[path]).items() <= told.items())
    if tried.verdict and same:
        store_outputs(storage, tried.execution, tried.verdict, same, remotely=remotely)
    return same, tuple(path for path in recorded if path not in same)


def _tell_stored(project: Project, base_commit: str, run_id: str) -> bool:
    """Record that what was let go of a run, as the index says now, is stored again; false where nothing was let go."""
    try:
        if _letting_go(project, run_id) is None:
            return False
        record_removals(project, ())  # what has landed is folded first: of one fold none is the later
        gone = _letting_go(project, run_id)
        if gone is None:
            return False
        objects = {one["md5"]: one["bytes"] for one in gone.body["objects"]}
        record_removals(project, [removal(project, base_commit, run_id, STORED, objects, f"takes back {gone.id}")])
    except RemoteError as error:
        raise RemoteError(
            f"{run_id}: all of it is stored again, and the index could not be told so: {error}"
        ) from error
    return True


def _with_threads(policy: Spec, threads: Any) -> Spec:
    """The policy with the run's own number of threads: sums of floats may depend on it."""
    if not isinstance(threads, int) or not 0 < threads <= _MOST_THREADS:
        return policy
    return replace(policy, executor=replace(policy.executor, threads=threads))


def environment_lines(lock: tuple[str, ...], recorded: Mapping[str, Any]) -> tuple[str, ...]:
    """A line for each package, and for Python, that is not here as the lock says, or without one the record."""
    minor = ".".join(str(recorded["python"]).split(".")[:2])
    here = ".".join(platform.python_version_tuple()[:2])
    python = (
        () if minor == here else (f"python: the run had {recorded['python']}, here is {platform.python_version()}",)
    )
    if lock:
        return (*python, *environment_differences(lock))
    packages = {str(name): str(version) for name, version in recorded["packages"].items()}
    installed = installed_versions(tuple(packages))
    return (
        *python,
        *(
            f"{name}: the run had {version}, here is {installed.get(name, 'none')}"
            for name, version in sorted(packages.items())
            if installed.get(name) != version
        ),
    )


@contextmanager
def _environment(project: Project, job: Job, *, wanted: bool) -> Iterator[str]:
    """The Python to run with: the running one, or that of an environment made from the commit's lock for this once."""
    if not wanted:
        yield sys.executable
        return
    with throwaway_environment(project, job.asked, job.tree) as python:
        yield python


@dataclass(frozen=True)
class Expectation:
    """What a record said beforehand of a run again."""

    deterministic: bool
    why: tuple[str, ...]
    tolerance: float

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Expectation:
        told = body.get("nondeterminism")
        if body.get("deterministic") is not False or not isinstance(told, Mapping):
            return cls(True, (), 0.0)
        return cls(False, tuple(map(str, told["why"])), float(told["tolerance"]))

    def covers(self, one: Difference) -> bool:
        """Is this a difference that was to be expected? Digests of what was trained, and metrics within tolerance."""
        if self.deterministic:
            return False
        if one.what in ("model digest", "predictions"):
            return True
        try:
            old, new = float(one.recorded), float(one.found)
        except ValueError:
            return False
        return math.isfinite(new) and math.isclose(old, new, rel_tol=self.tolerance, abs_tol=self.tolerance * _SMALL)


def _letting_go(project: Project, run_id: str) -> RemovalRecord | None:
    """The removal that lets a run's artefacts go, where that counts now."""
    history = read_history(project, trust.fetch(project), drafts=False)
    found = counting(history.removals_of([run_id])).get(run_id)
    return found.removal if found and found.removal.what == LET_GO else None


@contextmanager
def _empty_cache(project: Project) -> Iterator[Path]:
    """A DVC cache that holds nothing, so that everything is made again; removed afterwards.

    What runs that were killed have left goes first.
    """
    clear_leftovers(project)
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
