"""The edit loop: run the work tree as it is, and keep what came out here alone.

What is run is a commit on HEAD's that no branch has: the work tree's conf/, code, pins and lock file, written
as Git objects without touching the work tree or its index. Its record is a draft. A branch whose head asks
for the same fingerprint is answered by it, and lands it once it is pushed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from cd4ml.controller.desired.data import ensure_raw
from cd4ml.controller.desired.scaffold import load_templates
from cd4ml.controller.desired.specs import Asked, Base, asked_of, spec_of
from cd4ml.controller.history.search import known_state
from cd4ml.controller.landing.drafts import drop_old_drafts
from cd4ml.controller.landing.erased import erased_objects
from cd4ml.controller.landing.labels import work_tree_label
from cd4ml.controller.landing.land import land_failure, land_success
from cd4ml.controller.landing.landed import read_history
from cd4ml.controller.project import CONF, Project
from cd4ml.controller.running.environment import python_for
from cd4ml.controller.running.lingering import ensure_lingering
from cd4ml.controller.running.run import (
    WAITING,
    WORK_LOCK,
    Event,
    Failure,
    Job,
    Watch,
    attempt,
    clear_leftovers,
    discard,
)
from cd4ml.controller.running.warm import warm_process
from cd4ml.errors import ConfigError, Problem, RepositoryError
from cd4ml.gateways.dvc import Storage
from cd4ml.gateways.files import digest_file, exclusive
from cd4ml.index.history import History
from cd4ml.index.record import RunRecord
from cd4ml.plan.standing import Evidence, PlanPolicy
from cd4ml.promotion.compare import Comparison, compare
from cd4ml.spec.override import overridden_experiment
from cd4ml.spec.pipeline import pin_path

_READ_TO_COMPARE = 64 << 20
"""Bytes of a file that every `cd4ml run` may take the time to read."""


@dataclass(frozen=True)
class Edited:
    """What the work tree gives.

    ``known`` is true when it was run before, so that nothing was run now. ``champion`` is the result of the base
    branch's head, and ``comparison`` that of the two; missing where it has none, or is this very run. ``stale``
    says why the base branch is that of the last fetch, or nothing; ``moved`` are files of data in the work tree that
    are other than their pins: the pinned bytes were taken.
    """

    run: RunRecord
    known: bool
    champion: RunRecord | None
    comparison: Comparison | None
    stale: str = ""
    moved: tuple[str, ...] = ()


def run_work_tree(project: Project, overrides: tuple[str, ...], watch: Watch, *, retry: bool = False) -> Edited:
    """Run what the work tree and the overrides ask for, unless that was run before; compare with the champion.

    ``retry`` runs again what failed for good. Side effects: Git objects and a ref under ``refs/cd4ml/draft/``,
    DVC's cache, cd4ml's private folder; a warm process that lingers. Raises ConfigError for what is wrong in the
    work tree or an override, RepositoryError without a commit or a work tree.
    """
    project.work_tree()
    head = project.repository.resolve("HEAD")
    if head is None:
        raise RepositoryError(f"{project.root}: there is no commit yet: commit the project first")
    state, stale = known_state(project)
    base_commit = state.heads.get(project.base)
    if base_commit is None:
        raise project.without_base()
    policy, _ = spec_of(project, base_commit)
    tree = snapshot(project, head, overrides)
    asked = asked_of(project, tree, Base(base_commit, policy))
    answers = _Answers(read_history(project, state), PlanPolicy(rerun_on=policy.experiments.rerun_on))
    run = answers.to(asked, retry=retry)
    known = run is not None
    if run is None:
        commit = project.repository.commit_tree(tree, (head,), "Work tree, as `cd4ml run` found it\n")
        label = work_tree_label(project.repository.current_branch())
        templates = load_templates(project, base_commit)
        job = Job(label, "head", commit, tree, asked, policy, templates, published=False, base_commit=base_commit)
        run = _run(project, job, project.storage(base_commit), watch)
    champion = _champion(project, base_commit, answers)
    compared = compare(champion, run, policy.promotion.min_improvement) if champion and champion.id != run.id else None
    return Edited(run, known, champion, compared, stale, tuple(_moved(project, asked)))


def _moved(project: Project, asked: Asked) -> Iterator[str]:
    """Local files of sources whose bytes are not those of the pin. One of the same size is read, unless it is large."""
    for source in asked.spec.data.sources:
        pin, path = asked.pins.get(source.name), project.work_tree() / source.location
        if pin is None or "://" in source.location or not path.is_file():
            continue
        size = path.stat().st_size
        if size != pin.raw_bytes or (size <= _READ_TO_COMPARE and digest_file(path).sha256 != pin.raw_sha256):
            yield source.location


def snapshot(project: Project, commit: str, overrides: tuple[str, ...] = ()) -> str:
    """The tree of ``commit`` with what the work tree holds of all that a fingerprint is made of.

    Raises ConfigError for overrides that are wrong, and for a configuration that cannot be read.
    """
    repository = project.repository
    tree = repository.snapshot_tree(commit, (CONF,), ())
    spec, _ = spec_of(project, tree)
    paths = (CONF, *spec.code, *((spec.lock,) if spec.lock else ()))
    pins = tuple(pin_path(source.name) for source in spec.data.sources)
    tree = repository.snapshot_tree(commit, paths, pins)
    if not overrides:
        return tree
    tree = repository.write_tree(tree, _overridden(project, tree, overrides))
    chosen, _ = spec_of(project, tree)  # another group may name other sources, code or lock
    more = {*(pin_path(source.name) for source in chosen.data.sources)}.difference(pins)
    files = {path: (project.work_tree() / path).read_bytes() for path in more if (project.work_tree() / path).is_file()}
    return repository.write_tree(tree, files) if files else tree


def _overridden(project: Project, tree: str, overrides: tuple[str, ...]) -> Mapping[str, bytes]:
    """The files of conf/ that overrides change, after both ways to compose them were seen to agree."""
    from cd4ml.gateways.hydra import compose, parse_overrides

    try:
        files = project.repository.read_files(tree, CONF)
    except RepositoryError as error:
        raise ConfigError([Problem(f"{CONF}/", "", str(error))]) from error
    compose(files, overrides)  # a key that is not there, or a value that is none, is told by the override's name
    return overridden_experiment(files, parse_overrides(overrides))


class _Answers:
    """What was run before, asked as a plan asks it."""

    def __init__(self, history: History, policy: PlanPolicy) -> None:
        self._history, self._policy = history, policy
        self._evidence = Evidence(history)

    def to(self, asked: Asked, *, retry: bool = False) -> RunRecord | None:
        """A success, a failure that would come again (unless ``retry``), or nothing."""
        fingerprint = asked.components.fingerprint
        result = self._history.result(fingerprint)
        if result is not None:
            return result.run
        lasting = [
            entry.run
            for entry in self._history.attempts(fingerprint)
            if (entry.run.reason or {}).get("kind") != "transient"
        ]
        if lasting:
            return None if retry else lasting[-1]
        return self._evidence.equivalent(asked.components, self._policy)


def _champion(project: Project, base_commit: str, answers: _Answers) -> RunRecord | None:
    """The result of the base branch's head, as far as there is one."""
    try:
        run = answers.to(asked_of(project, base_commit))
    except ConfigError:
        return None  # it asks for nothing that could be run; whoever reconciles it is told
    return run if run is not None and run.succeeded else None


def _run(project: Project, job: Job, storage: Storage, watch: Watch) -> RunRecord:
    """Execute, judge and keep one run as a draft."""
    threads = job.policy.executor.threads
    with exclusive(project.private / WORK_LOCK, waiting=lambda: watch(WAITING)):
        clear_leftovers(project)
        drop_old_drafts(project)
        job = replace(job, python=python_for(project, job.asked, job.tree, job.policy))
        raw = ensure_raw(project, storage, job.asked.pins.values(), erased_objects(project))
        ensure_lingering(project.private, threads)
        with warm_process(project.private, threads) as warm:
            tried = attempt(project, job, storage=storage, raw=raw, warm=warm, watch=watch)
        try:
            if tried.verdict is not None and tried.failure is None:
                run_id = land_success(project, storage, job, tried.execution, tried.verdict)
            else:
                failure = tried.failure or Failure("judge", "no verdict", "transient")
                run_id = land_failure(project, job, tried.execution, failure)
        finally:
            discard(tried.execution)
    watch(Event(job.branch, job.side, "run", "failed" if tried.failure else "finished"))
    entry = read_history(project, project.repository.last_seen()).run_by_id(run_id)
    assert entry is not None  # noqa: S101  # the draft was written a moment ago
    return entry.run
