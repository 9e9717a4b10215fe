"""Reconcile: observe, plan, apply, until the plan is empty or nothing more can be done."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace

from cd4ml.controller import trust
from cd4ml.controller.claims import Claims, interval, patience
from cd4ml.controller.data import ensure_raw
from cd4ml.controller.drafts import adopt
from cd4ml.controller.environment import drop_old_environments, python_for
from cd4ml.controller.fold import fold_landed
from cd4ml.controller.land import land_experiment, land_failure, land_success, publish_drafts
from cd4ml.controller.landed import read_history
from cd4ml.controller.observe import Observation, observe
from cd4ml.controller.project import Project
from cd4ml.controller.run import WAITING, WORK_LOCK, Event, Failure, Job, Watch, attempt, clear_leftovers, discard
from cd4ml.controller.scaffold import load_templates
from cd4ml.controller.warm import warm_process
from cd4ml.errors import Cd4mlError, RemoteError
from cd4ml.gateways.dvc import Storage
from cd4ml.gateways.files import exclusive, told
from cd4ml.gateways.git import LANDING, RemoteState
from cd4ml.index.fold import entry_path
from cd4ml.index.record import ExperimentRecord, RunRecord
from cd4ml.plan.action import Plan, PlanItem, RecordExperiment, Run, experiment_body
from cd4ml.plan.diff import PlanPolicy, diff
from cd4ml.plan.state import Health

_PASSES = 6


@dataclass(frozen=True)
class Request:
    """What was asked of a reconcile or a plan. ``named`` are branches; nothing means all."""

    named: frozenset[str] | None = None
    retry: bool = False
    refresh_env: bool = False
    publish: bool = False
    jobs: int | None = None


@dataclass(frozen=True)
class Outcome:
    """How a reconcile ended.

    ``plan`` is what is still to be done (empty, unless something could not be applied); ``primary`` the
    metric that ranks; ``ran`` the ids of the runs that landed; ``not_applied``
    has a line for each action that could not be; ``refused`` one for each landed ref that is no record.
    """

    plan: Plan
    primary: str
    ran: tuple[str, ...] = ()
    not_applied: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


def make_plan(observation: Observation, request: Request, failed: frozenset[str] = frozenset()) -> Plan:
    """The plan for what was observed. Pure. ``failed`` are branches whose actions could not be applied."""
    rules = observation.policy.experiments
    everyone = frozenset(asked.branch for asked in observation.desired.experiments)
    policy = PlanPolicy(
        rerun_on=rules.rerun_on,
        retries=rules.retries,
        refresh_env=request.refresh_env,
        retry=(request.named or everyone) if request.retry else frozenset(),
        named=request.named,
        publish=request.publish,
        failed=failed | frozenset(observation.unreadable),
        elsewhere=observation.elsewhere,
    )
    return diff(observation.desired, observation.history, policy)


def reconcile(project: Project, request: Request, watch: Watch) -> Outcome:
    """Apply plans until one is empty.

    Every pass reads everything anew and the plan alone says what to do, so a reconcile that was killed
    needs nothing but the next one. One reconcile at a time works on this clone; others wait.
    """
    with exclusive(project.private / WORK_LOCK, waiting=lambda: watch(WAITING)):
        clear_leftovers(project)
        drop_old_environments(project)
        with Claims(project) as claims:
            return _reconcile(project, request, watch, claims)


def _reconcile(project: Project, request: Request, watch: Watch, claims: Claims) -> Outcome:
    ran: list[str] = []
    failed: dict[str, str] = {}
    _publish(project, request)
    refused, observation = _look(project, claims, trust.fetch(project))
    if _adopt(project, request, observation):
        refused, observation = _look(project, claims, trust.fetch(project))
    plan = make_plan(observation, request)
    left = _PASSES + observation.policy.experiments.retries
    while (left and not plan.is_empty) or _waits(observation, plan, request, claims, watch):
        landed: Mapping[str, tuple[str, str]] = {}
        if not plan.is_empty:
            done = _apply(project, observation, plan, request, watch, claims)
            ran += done.ran
            failed |= done.failed
            # a branch that failed gets no further action, and frees what it stood in for: that can go on for as
            # long as there are branches, and then ends by itself; so does what others are faster to run
            left -= not done.failed and not done.left_to_others
            # what was asked to be tried again has been tried: asking once more would never end
            request = replace(request, retry=False, refresh_env=False)
            landed = done.landed
        failed |= _not_taken(project, landed)
        refused, observation = _look(project, claims, trust.fetch(project))
        plan = make_plan(observation, request, frozenset(failed))
    not_applied = {**observation.unreadable, **failed}
    return Outcome(plan, observation.policy.evaluation.primary, tuple(ran), tuple(not_applied.values()), refused)


def _look(project: Project, claims: Claims, state: RemoteState) -> tuple[tuple[str, ...], Observation]:
    """Fold what has landed, and observe anew; gives the refused landing refs too."""
    refused = fold_landed(project, state)
    found = observe(project)
    longest = patience(found.policy)
    elsewhere = claims.look(found.remote, longest)
    claims.tidy(found.remote, longest, lambda fingerprint: found.history.result(fingerprint) is not None)
    return refused, replace(found, elsewhere=elsewhere)


def _not_taken(project: Project, landed: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """By branch, the records that are not on the remote although its answer was that it took them.

    Landing them again and again would not help; ``landed`` gives branch and place in the index by id.
    """
    if not landed:
        return {}
    state = project.repository.fetch(project.remote)
    missing = {run_id: where for run_id, where in landed.items() if LANDING + run_id not in state.landing}
    if missing and state.index:
        folded = project.repository.existing(state.index, [path for _, path in missing.values()])
        missing = {run_id: where for run_id, where in missing.items() if where[1] not in folded}
    for run_id in missing:
        project.repository.forget_landed(project.remote, LANDING + run_id)
    return {
        branch: f"{branch}: {project.remote} said that it took record {run_id}, and does not have it"
        for run_id, (branch, _) in missing.items()
    }


def _waits(observation: Observation, plan: Plan, request: Request, claims: Claims, watch: Watch) -> bool:
    """Wait until another look at what others run may show something new; false when there is nothing to wait for.

    For a branch that was named, the result of another reconciler is waited for. The runs of other branches are left
    to whoever does them, as soon as their claims have been seen alive.
    """
    if not observation.elsewhere or not plan.is_empty:
        return False
    awaited = [
        item
        for item in plan.looked_at
        if item.health is Health.PROGRESSING
        and (item.published if request.named is None else item.branch in request.named)
        and any(
            fingerprint in observation.elsewhere and (request.named is not None or claims.is_undecided(fingerprint))
            for fingerprint in (item.fingerprint or "", item.merge_fingerprint or "")
        )
    ]
    for item in awaited:
        watch(Event(item.branch, "head", "run", f"waits: {item.reason}"))
    if awaited:
        time.sleep(interval())
    return bool(awaited)


def _publish(project: Project, request: Request) -> None:
    """Land the drafts of branches that have been pushed since they were run, or that ``--publish`` is for."""
    state = trust.fetch(project)
    base_commit = state.heads.get(project.base)
    if state.drafts and base_commit is not None:
        everyone = project.repository.local_heads() if request.publish else {}
        named = request.named if request.publish and request.named is not None else frozenset(everyone)
        publish_drafts(project, project.storage(base_commit), state, named)


def _adopt(project: Project, request: Request, observation: Observation) -> bool:
    """Land the runs of the work tree that a branch asks for by now; says whether there were any."""
    if not observation.remote.drafts:
        return False
    local = {one.branch for one in observation.desired.experiments if not one.published} if request.publish else set()
    also = local if request.named is None else local & request.named
    return adopt(project, project.storage(observation.base_commit), observation.desired, also)


@dataclass
class _Workshop:
    """What the runs of one pass share."""

    project: Project
    observation: Observation
    storage: Storage
    templates: Mapping[str, str]
    warm: str
    watch: Watch
    request: Request
    claims: Claims
    landing: threading.Lock = field(default_factory=threading.Lock)
    landed: dict[str, tuple[str, str]] = field(default_factory=dict)
    stop: threading.Event = field(default_factory=threading.Event)


@dataclass
class _Pass:
    """What came of one plan.

    ``ran`` are ids of the runs that landed, ``failed`` says by branch why an action could not be applied;
    ``left_to_others`` counts the runs that others were faster to begin, or had done meanwhile. ``landed`` gives branch
    and place in the index of every record that the remote took.
    """

    ran: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    left_to_others: int = 0
    landed: Mapping[str, tuple[str, str]] = field(default_factory=dict)


def _apply(
    project: Project, observation: Observation, plan: Plan, request: Request, watch: Watch, claims: Claims
) -> _Pass:
    """Carry out a plan: the base branch first, since the others share most of its stages; then the rest."""
    storage = project.storage(observation.base_commit)
    templates = load_templates(project, observation.base_commit)
    runs = any(isinstance(action, Run) for action in plan.actions)
    threads = observation.policy.executor.threads
    done = _Pass()
    with warm_process(project.private, threads) if runs else nullcontext("") as warm:
        shop = _Workshop(project, observation, storage, templates, warm, watch, request, claims)
        jobs = request.jobs or observation.policy.executor.jobs
        for group in _groups(plan):
            with ThreadPoolExecutor(max_workers=max(1, jobs)) as pool, _stopping(shop.stop):
                for branch, ids, why in pool.map(lambda item: _apply_item(shop, item), group):
                    done.ran += [run_id for run_id in ids if run_id]
                    done.left_to_others += ids.count("")
                    if why:
                        done.failed[branch] = why
    claims.drop()
    return replace(done, landed=shop.landed)


@contextmanager
def _stopping(stop: threading.Event) -> Iterator[None]:
    """End what runs when the block ends in an error, such as an interrupt: a training may take hours."""
    try:
        yield
    except BaseException:
        stop.set()
        raise


def _groups(plan: Plan) -> tuple[tuple[PlanItem, ...], ...]:
    base = tuple(item for item in plan.looked_at if item.is_base and item.actions)
    others = tuple(item for item in plan.looked_at if not item.is_base and item.actions)
    return tuple(group for group in (base, others) if group)


def _apply_item(shop: _Workshop, item: PlanItem) -> tuple[str, list[str], str]:
    """One branch's actions in order; an error ends this branch's only. A run left to others has ``""`` for its id."""
    ids: list[str] = []
    try:
        for action in item.actions:
            if isinstance(action, Run):
                ids.append(_claimed_run(shop, item, action))
            elif isinstance(action, RecordExperiment):
                with shop.landing:
                    body = experiment_body(item, action)
                    record = ExperimentRecord({**body, "id": land_experiment(shop.project, body)})
                    shop.landed[record.id] = (item.branch, entry_path(record))
    except Cd4mlError as error:
        return item.branch, ids, f"{item.branch}: {error}"
    except OSError as error:
        return item.branch, ids, f"{item.branch}: {told(error)}"
    except Exception as error:  # noqa: BLE001  # a defect met on one branch must not stop the others
        place = traceback.extract_tb(error.__traceback__)[-1]
        return item.branch, ids, f"{item.branch}: a defect of cd4ml: {type(error).__name__}: {error} in {place.name}"
    return item.branch, ids, ""


def _claimed_run(shop: _Workshop, item: PlanItem, action: Run) -> str:
    """Run one target, with a claim if it is one that others may run too; ``""`` when it is left to them."""
    fingerprint = action.target.fingerprint
    if not item.published or fingerprint is None:
        return _run(shop, action, published=item.published or shop.request.publish)
    with shop.landing:
        taken = shop.claims.take(fingerprint, action.branch, shop.observation.remote)
        asked_for = shop.request.retry or shop.request.refresh_env
        if not asked_for and (not taken or _is_answered(shop, fingerprint)):
            shop.claims.finish(fingerprint)
            return ""
    try:
        return _run(shop, action, published=True)
    finally:
        shop.claims.finish(fingerprint)


def _is_answered(shop: _Workshop, fingerprint: str) -> bool:
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


def _run(shop: _Workshop, action: Run, *, published: bool) -> str:
    """Execute, judge and land one target; gives the run id, of a failed run too."""
    project, target = shop.project, action.target
    asked = shop.observation.asked[target.commit]
    policy, base = shop.observation.policy, shop.observation.base_commit
    with shop.landing:
        python = python_for(project, asked, target.tree, policy)
        raw = ensure_raw(project, shop.storage, asked.pins.values())
    where = (action.branch, target.side, target.commit, target.tree)
    job = Job(*where, asked, policy, shop.templates, published, base_commit=base, python=python)
    tried = attempt(project, job, storage=shop.storage, raw=raw, warm=shop.warm, watch=shop.watch, stop=shop.stop)
    try:
        shop.watch(Event(job.branch, job.side, "land", "started"))
        with shop.landing:
            if tried.verdict is not None and tried.failure is None:
                run_id = land_success(project, shop.storage, job, tried.execution, tried.verdict)
            else:
                failure = tried.failure or Failure("judge", "no verdict", "transient")
                run_id = land_failure(project, job, tried.execution, failure)
            if published:
                record = RunRecord({"kind": "run", "id": run_id, "fingerprint": target.fingerprint})
                shop.landed[run_id] = (action.branch, entry_path(record))
    finally:
        discard(tried.execution)
    shop.watch(Event(job.branch, job.side, "run", "failed" if tried.failure else "landed"))
    return run_id
