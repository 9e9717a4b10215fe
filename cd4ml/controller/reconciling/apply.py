"""Apply plans until one is empty, or nothing more can be done here.

What a plan asks to be recorded is recorded here. Where the answers to its runs come from is a *runner's* business:
``reconcile`` executes them, ``parts`` takes them from what another job brought.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

from cd4ml.controller.desired.data import ensure_raw, refuse_erased
from cd4ml.controller.desired.scaffold import load_templates
from cd4ml.controller.desired.specs import Asked
from cd4ml.controller.landing import trust
from cd4ml.controller.landing.erased import erased_objects
from cd4ml.controller.landing.fold import fold_landed
from cd4ml.controller.landing.land import land_experiment, land_failure, land_success
from cd4ml.controller.project import Project
from cd4ml.controller.reconciling.observe import Observation, observe
from cd4ml.controller.running.environment import python_for
from cd4ml.controller.running.run import Attempt, Event, Failure, Job, Watch, discard
from cd4ml.controller.running.warm import warm_process
from cd4ml.errors import Cd4mlError
from cd4ml.gateways.dvc import Storage
from cd4ml.gateways.files import told
from cd4ml.gateways.git import LANDING, RemoteState
from cd4ml.index.fold import entry_path
from cd4ml.index.record import ExperimentRecord, RunRecord
from cd4ml.index.removed import erasures
from cd4ml.plan.action import Action, Plan, PlanItem, RecordExperiment, Run, experiment_body
from cd4ml.plan.diff import PlanPolicy, diff
from cd4ml.plan.reason import joined

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
    """How applying ended.

    ``plan`` is what is still to be done (empty, unless something could not be applied, or is not for this runner);
    ``primary`` the metric that ranks; ``ran`` the ids of the runs that landed; ``not_applied`` has a line for each
    action that could not be; ``refused`` one for each landed ref that is no record.
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
    return _saying_erased(diff(observation.desired, observation.history, policy), observation)


def _saying_erased(plan: Plan, observation: Observation) -> Plan:
    """With words where what is to be run is pinned to data that the index calls erased: nothing more follows."""
    commits = {action.target.commit for action in plan.actions if isinstance(action, Run)}
    known = erasures(observation.history.removals) if commits else {}
    if not known:  # what is remembered of a commit does not tell its pins: to ask for them costs a look at each
        return plan
    asked = {commit: observation.asked[commit] for commit in commits if commit in observation.asked}
    pins = {commit: [pin.raw_md5 for pin in one.pins.values()] for commit, one in asked.items()}
    told = {commit: f"its data were {known[name]}" for commit, names in pins.items() for name in names if name in known}
    return replace(plan, looked_at=tuple(_saying(item, told) for item in plan.looked_at)) if told else plan


def _saying(item: PlanItem, told: Mapping[str, str]) -> PlanItem:
    why = [told.get(one.target.commit, "") if isinstance(one, Run) else "" for one in item.actions]
    if not any(why):
        return item
    actions = (
        replace(one, why=joined([one.why, more])) if more else one for one, more in zip(item.actions, why, strict=True)
    )
    return replace(item, actions=tuple(actions), reason=joined([item.reason, *dict.fromkeys(filter(None, why))]))


@dataclass
class Workshop:
    """What the runs of one pass share.

    ``alone`` is held by whoever does what only one may do at a time. ``landed`` gives branch and place in the index of
    every record that the remote took, by id. Whoever sets ``stop`` ends what is being executed.
    """

    project: Project
    observation: Observation
    request: Request
    storage: Storage
    templates: Mapping[str, str]
    warm: str
    watch: Watch
    alone: threading.Lock = field(default_factory=threading.Lock)
    landed: dict[str, tuple[str, str]] = field(default_factory=dict)
    stop: threading.Event = field(default_factory=threading.Event)

    def job(self, action: Run, python: str, *, published: bool = True) -> Job:
        """What running a target needs to know; ``python`` executes it (``""``: another machine did)."""
        target = action.target
        where = (action.branch, target.side, target.commit, target.tree)
        asked, seen = self.observation.asked[target.commit], self.observation
        return Job(*where, asked, seen.policy, self.templates, published, base_commit=seen.base_commit, python=python)

    def prepared(self, action: Run, *, published: bool = True) -> tuple[Job, Path]:
        """The job of a target that is to be executed here, and the folder with the raw bytes of its data.

        Raises UsageError where its environment cannot be had, RemoteError, IntegrityError where its data cannot.
        """
        asked, project = self.observation.asked[action.target.commit], self.project
        with self.alone:
            python = python_for(project, asked, action.target.tree, self.observation.policy)
            raw = self.raw_of(asked)
        return self.job(action, python, published=published), raw

    def raw_of(self, asked: Asked) -> Path:
        """The folder with the raw bytes of the data; to be asked with ``alone`` held. Raises as ``ensure_raw``."""
        return ensure_raw(self.project, self.storage, asked.pins.values(), self._erased)

    def land(self, job: Job, tried: Attempt) -> str:
        """Land what came of a job, and free its execution; gives the run id, of a failed run too."""
        try:
            self.watch(Event(job.branch, job.side, "land", "started"))
            with self.alone:
                self._refuse_erased_since(job)
                if tried.verdict is not None and tried.failure is None:
                    run_id = land_success(self.project, self.storage, job, tried.execution, tried.verdict)
                else:
                    failure = tried.failure or Failure("judge", "no verdict", "transient")
                    run_id = land_failure(self.project, job, tried.execution, failure)
                if job.published:
                    fingerprint = job.asked.components.fingerprint
                    record = RunRecord({"kind": "run", "id": run_id, "fingerprint": fingerprint})
                    self.landed[run_id] = (job.branch, entry_path(record))
        finally:
            discard(tried.execution)
        self.watch(Event(job.branch, job.side, "run", "failed" if tried.failure else "landed"))
        return run_id

    @cached_property
    def _erased(self) -> Mapping[str, str]:
        """What was erased when the plan was made."""
        return erased_objects(self.project)

    def _refuse_erased_since(self, job: Job) -> None:
        """What was erased while it was read is not to come back by what was made of it."""
        try:
            now = trust.fetch(self.project)
        except Cd4mlError:  # whatever is wrong with the remote or the index, the landing will tell
            return
        before = self.observation.remote
        if now.index != before.index or _removals_in(now) != _removals_in(before):
            refuse_erased(self.storage, job.asked.pins.values(), erased_objects(self.project))


def _removals_in(state: RemoteState) -> frozenset[str]:
    return frozenset(ref for ref in state.landing if ref.startswith(f"{LANDING}x"))


class Answers(Protocol):
    """What answers a run."""

    def run(self, shop: Workshop, item: PlanItem, action: Run) -> str:
        """Answer it; gives the id of the run that landed, or ``""`` when none did, such as one left to others."""


class Runner(Answers, Protocol):
    """Where the answers to a plan's runs come from, for as long as there are plans."""

    def look(self, found: Observation) -> Observation:
        """What of an observation plans are made from."""

    def takes(self, action: Run, /) -> bool:
        """Can this run be answered now?"""

    def end_pass(self) -> None:
        """Called when all that one plan asks for was done."""

    def waits(self, observation: Observation, plan: Plan, request: Request) -> bool:
        """Of a plan with nothing to do: did it wait for something that another look may show?"""


def converge(project: Project, request: Request, watch: Watch, runner: Runner) -> Outcome:
    """Apply plans until one asks for nothing that ``runner`` takes.

    Every pass reads everything anew and the plan alone says what to do, so whatever was killed needs nothing but the
    next one. Call it with the clone's work lock held.
    """
    ran: list[str] = []
    failed: dict[str, str] = {}
    refused, observation = look(project, runner)
    plan = make_plan(observation, request)
    left = _PASSES + observation.policy.experiments.retries
    while (left and _groups(plan, runner)) or (plan.is_empty and runner.waits(observation, plan, request)):
        landed: Mapping[str, tuple[str, str]] = {}
        if not plan.is_empty:
            done = _apply(project, observation, plan, request, watch, runner)
            ran += done.ran
            failed |= done.failed
            # a branch that failed gets no further action, and frees what it stood in for: that can go on for as
            # long as there are branches, and then ends by itself; so does what others are faster to run
            left -= not done.failed and not done.left_to_others
            # what was asked to be tried again has been tried: asking once more would never end
            request = replace(request, retry=False, refresh_env=False)
            landed = done.landed
        failed |= _not_taken(project, landed)
        refused, observation = look(project, runner)
        plan = make_plan(observation, request, frozenset(failed))
    not_applied = {**observation.unreadable, **failed}
    return Outcome(plan, observation.policy.evaluation.primary, tuple(ran), tuple(not_applied.values()), refused)


def look(project: Project, runner: Runner) -> tuple[tuple[str, ...], Observation]:
    """Fold what has landed, and observe anew; gives the refused landing refs too."""
    refused = fold_landed(project, trust.fetch(project))
    return refused, runner.look(observe(project))


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


# ── one plan ──


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
    project: Project, observation: Observation, plan: Plan, request: Request, watch: Watch, runner: Runner
) -> _Pass:
    """Carry out of a plan what the runner takes."""
    done = _Pass()
    groups = _groups(plan, runner)
    with open_workshop(project, observation, request, watch, groups) as shop:
        for branch, ids, why in work(shop, groups, runner):
            done.ran += [run_id for run_id in ids if run_id]
            done.left_to_others += ids.count("")
            if why:
                done.failed[branch] = why
    runner.end_pass()
    return replace(done, landed=shop.landed)


Groups = tuple[tuple[PlanItem, ...], ...]


@contextmanager
def open_workshop(
    project: Project, observation: Observation, request: Request, watch: Watch, groups: Groups
) -> Iterator[Workshop]:
    """What the runs among these actions need, with a warm process if there are any."""
    storage = project.storage(observation.base_commit)
    templates = load_templates(project, observation.base_commit)
    runs = any(isinstance(action, Run) for group in groups for item in group for action in item.actions)
    threads = observation.policy.executor.threads
    with warm_process(project.private, threads) if runs else nullcontext("") as warm:
        yield Workshop(project, observation, request, storage, templates, warm, watch)


def work(shop: Workshop, groups: Groups, runner: Answers) -> Iterator[tuple[str, list[str], str]]:
    """Every item's actions: for each branch its run ids, and why it could not be done (``""``: it could)."""
    jobs = shop.request.jobs or shop.observation.policy.executor.jobs
    for group in groups:
        with ThreadPoolExecutor(max_workers=max(1, jobs)) as pool, _stopping(shop.stop):
            yield from pool.map(lambda item: _apply_item(shop, item, runner), group)


@contextmanager
def _stopping(stop: threading.Event) -> Iterator[None]:
    """End what runs when the block ends in an error, such as an interrupt: a training may take hours."""
    try:
        yield
    except BaseException:
        stop.set()
        raise


def runs_of(plan: Plan) -> Groups:
    """The items with their runs alone, in groups that are worked on one after the other."""
    return _grouped(plan, lambda action: isinstance(action, Run))


def _groups(plan: Plan, runner: Runner) -> Groups:
    """The items with what the runner takes of their actions, grouped alike."""
    return _grouped(plan, lambda action: not isinstance(action, Run) or runner.takes(action))


def _grouped(plan: Plan, wanted: Callable[[Action], bool]) -> Groups:
    """The base branch comes first, since the others share most of its stages; then the rest."""
    items = [replace(item, actions=tuple(filter(wanted, item.actions))) for item in plan.looked_at]
    base = tuple(item for item in items if item.is_base and item.actions)
    others = tuple(item for item in items if not item.is_base and item.actions)
    return tuple(group for group in (base, others) if group)


def _apply_item(shop: Workshop, item: PlanItem, runner: Answers) -> tuple[str, list[str], str]:
    """One branch's actions in order; an error ends this branch's only. A run left to others has ``""`` for its id."""
    ids: list[str] = []
    try:
        for action in item.actions:
            if isinstance(action, Run):
                ids.append(runner.run(shop, item, action))
            elif isinstance(action, RecordExperiment):
                with shop.alone:
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
