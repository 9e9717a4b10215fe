"""Reconcile: observe, plan, apply, until the plan is empty or nothing more can be done. Its runs are executed here."""

from __future__ import annotations

import time
from dataclasses import replace

from cd4ml.controller.landing import trust
from cd4ml.controller.landing.drafts import adopt, adoptable
from cd4ml.controller.landing.land import publish_drafts
from cd4ml.controller.landing.landed import read_history
from cd4ml.controller.project import Project
from cd4ml.controller.reconciling.apply import Outcome, Request, Workshop, converge, look, make_plan
from cd4ml.controller.reconciling.claims import Claims, interval, patience
from cd4ml.controller.reconciling.observe import Observation
from cd4ml.controller.running.environment import drop_old_environments
from cd4ml.controller.running.run import WAITING, WORK_LOCK, Event, Watch, attempt, clear_leftovers
from cd4ml.errors import RemoteError
from cd4ml.gateways.files import exclusive
from cd4ml.gateways.git import LANDING
from cd4ml.index.record import RunRecord
from cd4ml.plan.action import Plan, PlanItem, Run
from cd4ml.plan.state import SyncStatus

__all__ = ["Outcome", "Request", "make_plan", "reconcile", "to_adopt"]


def reconcile(project: Project, request: Request, watch: Watch) -> Outcome:
    """Apply plans until one is empty.

    Every pass reads everything anew and the plan alone says what to do, so a reconcile that was killed
    needs nothing but the next one. One reconcile at a time works on this clone; others wait.
    """
    with exclusive(project.private / WORK_LOCK, waiting=lambda: watch(WAITING)):
        clear_leftovers(project)
        drop_old_environments(project)
        with Claims(project) as claims:
            runner = _Executing(project, claims, watch)
            _bring_drafts(project, request, runner)
            return converge(project, request, watch, runner)


class _Executing:
    """Answers runs by executing them, each with a claim, and leaves to others what they claimed."""

    def __init__(self, project: Project, claims: Claims, watch: Watch) -> None:
        self._project = project
        self._claims = claims
        self._watch = watch

    def look(self, found: Observation) -> Observation:
        """With the claims of others that count; those that do not are swept away."""
        longest = patience(found.policy)
        elsewhere = self._claims.look(found.remote, longest)
        self._claims.tidy(found.remote, longest, lambda fingerprint: found.history.result(fingerprint) is not None)
        return replace(found, elsewhere=elsewhere)

    def takes(self, _: Run, /) -> bool:
        """Every one."""
        return True

    def end_pass(self) -> None:
        """Drop the claims of what has ended."""
        self._claims.drop()

    def run(self, shop: Workshop, item: PlanItem, action: Run) -> str:
        """Run one target, with a claim if it is one that others may run too; ``""`` when it is left to them."""
        fingerprint = action.target.fingerprint
        if not item.published or fingerprint is None:
            return self._run(shop, action, published=item.published or shop.request.publish)
        with shop.alone:
            taken = self._claims.take(fingerprint, action.branch, shop.observation.remote)
            asked_for = shop.request.retry or shop.request.refresh_env
            if not asked_for and (not taken or _is_answered(shop, fingerprint)):
                self._claims.finish(fingerprint)
                return ""
        try:
            return self._run(shop, action, published=True)
        finally:
            self._claims.finish(fingerprint)

    def _run(self, shop: Workshop, action: Run, *, published: bool) -> str:
        """Execute, judge and land one target; gives the run id, of a failed run too."""
        job, raw = shop.prepared(action, published=published)
        storage, warm = shop.storage, shop.warm
        tried = attempt(self._project, job, storage=storage, raw=raw, warm=warm, watch=shop.watch, stop=shop.stop)
        return shop.land(job, tried)

    def waits(self, observation: Observation, plan: Plan, request: Request) -> bool:
        """Wait until another look at what others run may show something new; false when there is nothing to wait for.

        For a branch that was named, the result of another reconciler is waited for. The runs of other branches are
        left to whoever does them, as soon as their claims have been seen alive.
        """
        if not observation.elsewhere:
            return False
        awaited = [
            item
            for item in plan.looked_at
            if item.sync is SyncStatus.OUT_OF_SYNC  # whatever its health: a head that failed is worse than what runs
            and (item.published if request.named is None else item.branch in request.named)
            and any(
                fingerprint in observation.elsewhere
                and (request.named is not None or self._claims.is_undecided(fingerprint))
                for fingerprint in (item.fingerprint or "", item.merge_fingerprint or "")
            )
        ]
        for item in awaited:
            self._watch(Event(item.branch, "head", "run", f"waits: {item.reason}"))
        if awaited:
            time.sleep(interval())
        return bool(awaited)


def _is_answered(shop: Workshop, fingerprint: str) -> bool:
    """Has a record of the fingerprint landed since the plan was made? A plan may be hours old."""
    before, own = shop.observation, shop.landed
    try:
        remote = trust.fetch(shop.project)
    except RemoteError:
        return False  # the landing will tell
    new = remote.landing.keys() - before.remote.landing.keys() - {LANDING + run_id for run_id in own}
    if remote.index == before.remote.index and not any(ref.startswith(f"{LANDING}r") for ref in new):
        return False
    history = read_history(shop.project, remote, drafts=False)
    known = {entry.run.id for entry in before.history.attempts(fingerprint)} | own.keys()
    failures = [entry for entry in history.attempts(fingerprint) if entry.run.id not in known]
    return history.result(fingerprint) is not None or bool(failures)


# ── drafts ──


def _bring_drafts(project: Project, request: Request, runner: _Executing) -> None:
    """Land the drafts that are pushed, or asked for, by now: of branches, and of the work tree."""
    if not _publish(project, request):
        return
    _, observation = look(project, runner)
    adopt(project, project.storage(observation.base_commit), observation.desired, _to_publish(observation, request))


def to_adopt(project: Project, observation: Observation, request: Request) -> tuple[RunRecord, ...]:
    """The runs of the work tree that ``reconcile`` would land first, and so need not execute."""
    return tuple(run for _, run in adoptable(project, observation.desired, _to_publish(observation, request)))


def _to_publish(observation: Observation, request: Request) -> frozenset[str]:
    """The branches that are not pushed and are asked for all the same."""
    if not request.publish:
        return frozenset()
    local = frozenset(one.branch for one in observation.desired.experiments if not one.published)
    return local if request.named is None else local & request.named


def _publish(project: Project, request: Request) -> bool:
    """Land the drafts of branches that have been pushed since they were run, or that ``--publish`` is for.

    Says whether there were any drafts.
    """
    state = trust.fetch(project)
    base_commit = state.heads.get(project.base)
    if not state.drafts or base_commit is None:
        return False
    everyone = project.repository.local_heads() if request.publish else {}
    named = request.named if request.publish and request.named is not None else frozenset(everyone)
    publish_drafts(project, project.storage(base_commit), state, named)
    return True
