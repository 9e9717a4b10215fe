"""The parts of a run as jobs of their own: ``execute`` leaves bundles, ``land`` judges and records what they hold.

Whoever executes needs no right to write anywhere but to a folder. Whoever lands runs no code of an experiment, and
takes the folder for hostile: what is asked for, by which policy, and what it must look like is read from Git anew. The
folder is a word of the branches whose code ran beside it, and of no others: those are named to ``land``.
"""

from __future__ import annotations

import sys
import threading
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cd4ml.controller.ci.bundle import Bundle
from cd4ml.controller.ci.bundles import open_output, read_bundles, unpack, write_bundle
from cd4ml.controller.ci.vouched import Source, source_of
from cd4ml.controller.landing import trust
from cd4ml.controller.project import Project
from cd4ml.controller.reconciling.apply import (
    Outcome,
    Request,
    Workshop,
    converge,
    make_plan,
    open_workshop,
    runs_of,
    work,
)
from cd4ml.controller.reconciling.observe import Observation, observe_state
from cd4ml.controller.running.environment import drop_old_environments, environment_differences, executed_with
from cd4ml.controller.running.run import (
    WAITING,
    WORK_LOCK,
    Event,
    Watch,
    blamed,
    clear_leftovers,
    discard,
    execute,
    judged,
)
from cd4ml.errors import IntegrityError
from cd4ml.gateways.files import exclusive
from cd4ml.index.history import RunEntry
from cd4ml.plan.action import Plan, PlanItem, Run
from cd4ml.plan.state import Health
from cd4ml.spec.pipeline import pipeline_of

# ── execute ──


@dataclass(frozen=True)
class Executed:
    """What an execute left: ``bundles``, a line in ``left`` for each run that is others' to do, and one in
    ``not_executed`` for each that could not be done."""

    bundles: tuple[Bundle, ...]
    left: tuple[str, ...] = ()
    not_executed: tuple[str, ...] = ()


def execute_parts(project: Project, request: Request, output: Path, watch: Watch) -> Executed:
    """Execute the runs that a plan made now asks for, and leave a bundle of each in ``output``.

    Reads the Git and the DVC remote and writes to neither: nothing is claimed, judged, landed or folded. Side effects
    beside ``output``: those of ``observe``, and cd4ml's private folder. Raises UsageError for an ``output`` that holds
    anything else, RemoteError.
    """
    with exclusive(project.private / WORK_LOCK, waiting=lambda: watch(WAITING)):
        clear_leftovers(project)
        drop_old_environments(project)
        open_output(output)
        observation = observe_state(project, trust.read(project))
        plan = make_plan(observation, request)
        runner = _Bundling(output)
        groups = runs_of(plan)
        failed = dict(observation.unreadable)
        with open_workshop(project, observation, request, watch, groups) as shop:
            failed |= {branch: why for branch, _, why in work(shop, groups, runner) if why}
    return Executed(tuple(runner.made), _left(plan, observation, request), tuple(failed.values()))


def _left(plan: Plan, observation: Observation, request: Request) -> tuple[str, ...]:
    items = (item for item in plan.looked_at if request.named is None or item.branch in request.named)
    return tuple(
        f"{item.branch}: {item.reason}"
        for item in items
        if item.health is Health.PROGRESSING
        and not item.actions
        and {item.fingerprint, item.merge_fingerprint} & observation.elsewhere.keys()
    )


class _Bundling:
    """Answers runs by executing them into bundles, which nobody has judged."""

    def __init__(self, output: Path) -> None:
        self._output = output
        self.made: list[Bundle] = []

    def run(self, shop: Workshop, item: PlanItem, action: Run) -> str:
        """Execute one target; it has no run id yet."""
        if not item.published:
            raise IntegrityError("is not pushed, so nobody could land its result: push it first")
        job, raw = shop.prepared(action)
        cache = shop.storage.cache
        execution = execute(shop.project, job, cache=cache, raw=raw, warm=shop.warm, watch=shop.watch, stop=shop.stop)
        try:
            failure = blamed(execution, execution.failure, shop.storage)
            bundle = write_bundle(self._output, job, item.commit, execution, failure)
        finally:
            discard(execution)
        self.made.append(bundle)
        shop.watch(Event(job.branch, job.side, "run", "failed" if bundle.failure else "executed"))
        return ""


# ── land ──


@dataclass(frozen=True)
class Landed:
    """How a land ended.

    ``dropped`` has a line for each bundle that nobody asks for (any more), ``refused`` one for each that is none, and
    ``still`` names the branches whose runs are yet to be executed.
    """

    outcome: Outcome
    dropped: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    still: tuple[str, ...] = ()


def land_parts(
    project: Project, directory: Path, watch: Watch, jobs: int | None = None, of: frozenset[str] | None = None
) -> Landed:
    """Judge and land the bundles in ``directory`` that a plan made now asks for, and record all that is due.

    ``of`` are the branches whose code ran where the bundles were made: only runs that the plan gives to one of them are
    answered, whatever a bundle says of itself (nothing: all). What is recorded without a bundle comes from Git, of all.
    Nothing is executed. Whoever is killed, or runs at the same time as another, leaves no more than the next or the
    other finishes: to land a bundle again changes nothing. Raises UsageError for no folder of bundles, RemoteError.
    """
    brought = read_bundles(directory)
    with exclusive(project.private / WORK_LOCK, waiting=lambda: watch(WAITING)):
        clear_leftovers(project)
        runner = _Bringing(project, brought.bundles, of)
        outcome = converge(project, Request(jobs=jobs), watch, runner)
    still = [action for action in outcome.plan.actions if isinstance(action, Run)]
    return Landed(outcome, runner.dropped(), (*brought.refused, *runner.refused), tuple(map(_who, still)))


def _who(action: Run) -> str:
    return action.branch if action.target.side == "head" else f"{action.branch} (merge result)"


class _Bringing:
    """Answers runs from bundles, each once; leaves the others."""

    def __init__(self, project: Project, bundles: Iterable[Bundle], of: frozenset[str] | None) -> None:
        self._project = project
        self._of = of
        self._of_others: dict[str, str] = {}
        self._unused = {bundle.fingerprint: bundle for bundle in bundles if bundle.kind == "run"}
        self.refused = tuple(
            f"{bundle}: is of a commit that nobody here vouches for: it can be told of, and not be recorded"
            for bundle in bundles
            if bundle.kind != "run"
        )
        self._seen: Observation | None = None
        self._sources: dict[tuple[str, str], Source | None] = {}
        self._taking = threading.Lock()

    def look(self, found: Observation) -> Observation:
        """Without the claims of others: an answer that is here need not be waited for."""
        self._seen = replace(found, elsewhere={})
        self._sources.clear()
        return self._seen

    def takes(self, action: Run, /) -> bool:
        """Is there a bundle of a commit that can answer it, and that has not landed yet?"""
        bundle = self._unused.get(action.target.fingerprint or "")
        if bundle is None or self._has_landed(bundle):
            return False
        if self._of is not None and action.branch not in self._of:
            self._of_others[bundle.fingerprint] = action.branch
            return False
        return self._source(bundle, action) is not None

    def _source(self, bundle: Bundle, action: Run) -> Source | None:
        key = (bundle.fingerprint, action.target.commit)
        if key not in self._sources and self._seen is not None:
            self._sources[key] = source_of(self._project, self._seen, bundle, action)
        return self._sources.get(key)

    def _has_landed(self, bundle: Bundle) -> bool:
        """Is its record in the index? A failure that is to be tried again takes another execution than this one."""
        return any(_execution_of(entry.run.body) == _execution(bundle) for entry in self._known(bundle))

    def _known(self, bundle: Bundle) -> tuple[RunEntry, ...]:
        return self._seen.history.runs_of(bundle.fingerprint) if self._seen else ()

    def end_pass(self) -> None:
        """Nothing is held."""

    def waits(self, observation: Observation, plan: Plan, request: Request) -> bool:
        """Never: what is not here comes with another land."""
        del observation, plan, request
        return False

    def run(self, shop: Workshop, item: PlanItem, action: Run) -> str:
        """Judge and land the bundle of one target."""
        del item
        with self._taking:
            bundle = self._unused.pop(action.target.fingerprint or "")
            source = self._source(bundle, action)
        if source is None or bundle.tree != source.tree:
            raise IntegrityError(f"{bundle}: names another tree than its commit has")
        with shop.alone:
            raw = shop.raw_of(source.asked)
        lock = source.asked.lock
        here = not environment_differences(lock) and bundle.environment == executed_with(lock, here=True)
        job = shop.job(action, sys.executable if here else "")
        job = replace(job, commit=source.commit, tree=source.tree, asked=source.asked)
        folder = shop.project.private / "runs" / f"{bundle.fingerprint[:12]}-{uuid.uuid4().hex[:8]}"
        execution = unpack(bundle, pipeline_of(source.asked.spec), folder)
        storage, warm, stop = shop.storage, shop.warm, shop.stop
        tried = judged(shop.project, job, execution, storage=storage, raw=raw, warm=warm, stop=stop)
        return shop.land(job, tried)

    def dropped(self) -> tuple[str, ...]:
        """A line for each bundle that was of no use."""
        return tuple(f"{one} of {one.branch}: {self._why_not(one)}" for one in self._unused.values())

    def _why_not(self, bundle: Bundle) -> str:
        other = self._of_others.get(bundle.fingerprint, "")
        if other:
            return f"is of another branch, {other}, dropped"
        return f"dropped, since {self._why_nobody_asks(bundle)}"

    def _why_nobody_asks(self, bundle: Bundle) -> str:
        if self._has_landed(bundle):
            return "it has landed"
        if any(entry.run.succeeded for entry in self._known(bundle)):
            return "there is a result of it"
        return f"nobody asks for it at {bundle.commit[:12]}"


def _execution(bundle: Bundle) -> tuple[Any, ...]:
    return bundle.started, bundle.finished, dict(bundle.seconds)


def _execution_of(run: Any) -> tuple[Any, ...]:
    return run["started"], run["finished"], run["cost"]["seconds"]
