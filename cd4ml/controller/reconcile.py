"""Reconcile: observe, plan, apply, until the plan is empty or nothing more can be done."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace

from cd4ml.controller.data import ensure_raw
from cd4ml.controller.drafts import adopt
from cd4ml.controller.environment import drop_old_environments, python_for
from cd4ml.controller.land import fold_landed, land_experiment, land_failure, land_success, publish_drafts
from cd4ml.controller.observe import Observation, observe
from cd4ml.controller.project import Project
from cd4ml.controller.run import WAITING, WORK_LOCK, Event, Failure, Job, Watch, attempt, clear_leftovers, discard
from cd4ml.controller.scaffold import load_templates
from cd4ml.controller.warm import warm_process
from cd4ml.errors import Cd4mlError
from cd4ml.gateways.dvc import Storage
from cd4ml.gateways.files import exclusive, told
from cd4ml.plan.action import Plan, PlanItem, RecordExperiment, Run, experiment_body
from cd4ml.plan.diff import PlanPolicy, diff

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
        return _reconcile(project, request, watch)


def _reconcile(project: Project, request: Request, watch: Watch) -> Outcome:
    ran: list[str] = []
    failed: dict[str, str] = {}
    _publish(project, request)
    refused = fold_landed(project, project.repository.fetch(project.remote))
    observation = observe(project)
    if _adopt(project, request, observation):
        refused = fold_landed(project, project.repository.fetch(project.remote))
        observation = observe(project)
    plan = make_plan(observation, request)
    left = _PASSES + observation.policy.experiments.retries
    while left and not plan.is_empty:
        applied, not_applied = _apply(project, observation, plan, request, watch)
        ran += applied
        failed |= not_applied
        # a branch that failed gets no further action, and frees what it stood in for: that can go on for as
        # long as there are branches, and then ends by itself
        left -= not not_applied
        # what was asked to be tried again has been tried: asking once more would never end
        request = replace(request, retry=False, refresh_env=False)
        refused = fold_landed(project, project.repository.fetch(project.remote))
        observation = observe(project)
        plan = make_plan(observation, request, frozenset(failed))
    not_applied = {**observation.unreadable, **failed}
    return Outcome(plan, observation.policy.evaluation.primary, tuple(ran), tuple(not_applied.values()), refused)


def _publish(project: Project, request: Request) -> None:
    """Land the drafts of branches that have been pushed since they were run, or that ``--publish`` is for."""
    state = project.repository.fetch(project.remote)
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
    publish: bool
    landing: threading.Lock = field(default_factory=threading.Lock)
    stop: threading.Event = field(default_factory=threading.Event)


def _apply(
    project: Project, observation: Observation, plan: Plan, request: Request, watch: Watch
) -> tuple[list[str], dict[str, str]]:
    """Carry out a plan: the base branch first, since the others share most of its stages; then the rest.

    Gives the ids of the runs that landed, and by branch why an action could not be applied.
    """
    storage = project.storage(observation.base_commit)
    templates = load_templates(project, observation.base_commit)
    runs = any(isinstance(action, Run) for action in plan.actions)
    threads = observation.policy.executor.threads
    ran: list[str] = []
    failed: dict[str, str] = {}
    with warm_process(project.private, threads) if runs else nullcontext("") as warm:
        shop = _Workshop(project, observation, storage, templates, warm, watch, request.publish)
        jobs = request.jobs or observation.policy.executor.jobs
        for group in _groups(plan):
            with ThreadPoolExecutor(max_workers=max(1, jobs)) as pool, _stopping(shop.stop):
                for branch, ids, why in pool.map(lambda item: _apply_item(shop, item), group):
                    ran += ids
                    if why:
                        failed[branch] = why
    return ran, failed


@contextmanager
def _stopping(stop: threading.Event) -> Iterator[None]:
    """End what runs when the block ends in an error, such as an interrupt: a training may take hours."""
    try:
        yield
    except BaseException:
        stop.set()
        raise


def _groups(plan: Plan) -> tuple[tuple[PlanItem, ...], ...]:
    base = tuple(item for item in plan.items if item.is_base and item.actions)
    others = tuple(item for item in plan.items if not item.is_base and item.actions)
    return tuple(group for group in (base, others) if group)


def _apply_item(shop: _Workshop, item: PlanItem) -> tuple[str, list[str], str]:
    """One branch's actions in order; an error ends this branch's only."""
    ids: list[str] = []
    try:
        for action in item.actions:
            if isinstance(action, Run):
                ids.append(_run(shop, action, published=item.published or shop.publish))
            elif isinstance(action, RecordExperiment):
                with shop.landing:
                    land_experiment(shop.project, experiment_body(item, action))
    except Cd4mlError as error:
        return item.branch, ids, f"{item.branch}: {error}"
    except OSError as error:
        return item.branch, ids, f"{item.branch}: {told(error)}"
    except Exception as error:  # noqa: BLE001  # a defect met on one branch must not stop the others
        place = traceback.extract_tb(error.__traceback__)[-1]
        return item.branch, ids, f"{item.branch}: a defect of cd4ml: {type(error).__name__}: {error} in {place.name}"
    return item.branch, ids, ""


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
    finally:
        discard(tried.execution)
    shop.watch(Event(job.branch, job.side, "run", "failed" if tried.failure else "landed"))
    return run_id
