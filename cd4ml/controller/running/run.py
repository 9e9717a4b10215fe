"""A run in three parts with a seam between: execute, judge, land.

``execute`` starts the experiment's stages where they can reach nothing of ours and leaves a folder;
``judge`` is trusted code that works out, from the pins and the predictions alone, what was achieved;
``land`` holds the credentials, runs no code of the experiment, and puts the record on the remote.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cd4ml.controller.desired.specs import Asked, own_code_of
from cd4ml.controller.project import CONF, Project
from cd4ml.controller.running.environment import executed_with, installed_versions
from cd4ml.controller.running.events import STAGE_NAME, finished_stages, read_events
from cd4ml.controller.running.stage import FAILURE, MEMORY_GIB, RAW_FOLDER, RUN_FOLDER, TRACEBACK, TRACEBACK_FILE
from cd4ml.controller.running.tasks import ended, start_task
from cd4ml.errors import FailureKind, IntegrityError, StageFailed, UsageError
from cd4ml.gateways.dvc import Storage, isolate
from cd4ml.gateways.files import FileDigest, check_writable, remove_tree, write_atomically
from cd4ml.gateways.process import crash_point, execute_environment
from cd4ml.gateways.untrusted import read_json
from cd4ml.gateways.warm import SOCKET_VARIABLE
from cd4ml.plan.state import Side
from cd4ml.render.artifacts import render_params, render_pipeline, with_derived
from cd4ml.spec.canonical import digest
from cd4ml.spec.experiment import Spec
from cd4ml.spec.pipeline import LOCK_FILE, PARAMS_FILE, PIPELINE_FILE, executed, pin_path, pipeline_of
from cd4ml.spec.sources import conf_digest
from cd4ml.spec.text import one_line

JUDGE_REQUEST = "request.json"
JUDGE_VERDICT = "verdict.json"
ARTIFACTS = "artifacts"
_LARGEST_READ = 1 << 20
_KEPT_LOGS = 50
_LEAST_JUDGE_GIB = 2.0
_LARGEST_PIN = 4 << 20
_OURS_RUN_ON = ("numpy", "pandas", "pyarrow", "great-expectations")
"""What the bytes of our own stages' outputs depend on where no lock names it."""


@dataclass(frozen=True)
class Event:
    """Something that happened in a run, for people who watch. ``seconds`` is how long it took."""

    branch: str
    side: Side
    stage: str
    what: str
    seconds: float = 0.0


Watch = Callable[[Event], None]

_told_tracebacks: ContextVar[Callable[[str], None] | None] = ContextVar("told_tracebacks", default=None)


@contextlib.contextmanager
def telling_tracebacks(tell: Callable[[str], None]) -> Iterator[None]:
    """While the block runs, hand the whole traceback of a stage that fails to ``tell``, the library's message with it.

    It may quote cells of the data, so that this is for the terminal of a person who runs their own work tree, and
    for no other run: the traceback is in no record, artefact or log, and its file is removed when it is told.
    """
    token = _told_tracebacks.set(tell)
    try:
        yield
    finally:
        _told_tracebacks.reset(token)


WORK_LOCK = "work.lock"
"""In cd4ml's private folder: whoever executes anything in this clone holds it."""

WAITING = Event("", "head", "another cd4ml", "works in this clone: waiting for it")


@dataclass(frozen=True)
class Job:
    """One target to run, and everything that running it needs to know.

    ``policy`` is the base branch's spec and ``templates`` the base branch's: a branch has no say in either.
    The record of a job that is not ``published`` is a draft, which stays in this clone. ``base_commit`` is the base
    branch's commit, whose code computes the project's own metrics (``""``: there is none). ``python`` is the
    interpreter that executes; where it is not the running one (``""``: it was another machine's), the warm process is
    of no use, and other libraries may have written the outputs.
    """

    branch: str
    side: Side
    commit: str
    tree: str
    asked: Asked
    policy: Spec
    templates: Mapping[str, str]
    published: bool = True
    base_commit: str = ""
    python: str = sys.executable

    @property
    def params(self) -> dict[str, Any]:
        """The resolved configuration as the stages get it: with main's allow-list."""
        return {**self.asked.spec.resolved, "allowed_packages": list(self.policy.allowed_packages)}


@dataclass(frozen=True)
class Failure:
    """Why a run has no result."""

    stage: str
    message: str
    kind: FailureKind


@dataclass(frozen=True)
class Execution:
    """What ``execute`` left: a folder whose ``clone`` holds outputs that nobody has checked yet.

    ``environment`` is what ``executed_with`` said where it ran. ``peak_bytes`` is the most memory that each stage
    held, ``prediction_seconds_per_row`` what stage ``predict`` measured; the stages said so, and code of the experiment
    can write there too, so they are numbers within bounds and no more.
    """

    folder: Path
    failure: Failure | None
    seconds: Mapping[str, float]
    started: str
    finished: str
    environment: Mapping[str, Any]
    peak_bytes: Mapping[str, int] = field(default_factory=dict)
    prediction_seconds_per_row: float | None = None

    @property
    def cost(self) -> dict[str, Any]:
        """What the run took, as a record tells it."""
        peaks = {"peak_bytes": dict(self.peak_bytes)} if self.peak_bytes else {}
        latency = self.prediction_seconds_per_row
        return {
            "seconds": dict(self.seconds),
            **peaks,
            **({"prediction_seconds_per_row": latency} if latency is not None else {}),
        }

    @property
    def clone(self) -> Path:
        return self.folder / "clone"


@dataclass(frozen=True)
class Verdict:
    """What the judge found. ``files`` are all outputs by path; ``folder`` holds the judge's own."""

    folder: Path
    metrics: Mapping[str, Mapping[str, float]]
    slices: Mapping[str, Any]
    table: Mapping[str, Any]
    split: Mapping[str, Any]
    model: Mapping[str, Any]
    files: Mapping[str, FileDigest] = field(default_factory=dict)


def now() -> str:
    """UTC, ISO 8601 to the second. For people; nothing is ordered by it."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class Attempt:
    """A run as far as it came: a verdict when it has a result, else a failure."""

    execution: Execution
    verdict: Verdict | None
    failure: Failure | None


def attempt(
    project: Project,
    job: Job,
    *,
    storage: Storage,
    raw: Path,
    warm: str,
    watch: Watch,
    stop: threading.Event | None = None,
) -> Attempt:
    """Execute, and judge what came of it.

    ``storage.cache`` is used and mended: a failure that damaged entries of it may have caused is transient.
    Whoever sets ``stop`` ends it: Cd4mlError is raised then. Raises OSError where a failure goes with a disk that
    takes nothing any more.
    """
    stop = stop or threading.Event()
    execution = execute(project, job, cache=storage.cache, raw=raw, warm=warm, watch=watch, stop=stop)
    return judged(project, job, execution, storage=storage, raw=raw, warm=warm, stop=stop)


def judged(
    project: Project, job: Job, execution: Execution, *, storage: Storage, raw: Path, warm: str, stop: threading.Event
) -> Attempt:
    """Judge what came of an execution, unless it failed. Mends, and raises, as ``attempt`` does."""
    failure, verdict = execution.failure, None
    try:
        if failure is None:
            try:
                verdict = judge(project, job, execution, raw=raw, warm=warm, stop=stop)
            except StageFailed as error:
                failure = Failure(error.stage, error.message, error.kind)
        if failure is not None:
            failure = blamed(execution, failure, storage)
    except BaseException:
        discard(execution)
        raise
    return Attempt(execution, verdict, failure)


def blamed(execution: Execution, failure: Failure | None, storage: Storage) -> Failure | None:
    """The failure that counts, when what this machine had a hand in is allowed for.

    Entries of the cache that are damaged go, and whatever came of them is transient. Raises OSError where a transient
    failure goes with a disk that takes nothing any more: this machine's fault says nothing of the experiment.
    """
    damaged = storage.remove_damaged(execution.clone / LOCK_FILE)
    if damaged:
        message = f"{len(damaged)} entries of the DVC cache were damaged and have been removed ({damaged[0]})"
        failure = Failure("execute", message, "transient")
    if failure and failure.kind == "transient":
        for place in (execution.folder, storage.cache):
            check_writable(place)
    return failure


# ── execute ──


def execute(
    project: Project, job: Job, *, cache: Path, raw: Path, warm: str, watch: Watch, stop: threading.Event
) -> Execution:
    """Run the stages up to prediction in a private clone.

    ``cache`` is the DVC cache to use, ``raw`` the folder of raw bytes, ``warm`` the warm process's socket
    (``""`` to start each stage cold). Side effects: a folder under ``cd4ml/runs`` of the Git directory.
    """
    folder = project.private / "runs" / f"{job.asked.components.fingerprint[:12]}-{uuid.uuid4().hex[:8]}"
    clone = folder / "clone"
    own = project.repository.private_clone(job.commit, clone)
    made = (PARAMS_FILE, PIPELINE_FILE, LOCK_FILE, ARTIFACTS)
    # Outputs or links that a branch brought would stand in for its run; DVC refuses outputs that Git tracks.
    own.git("rm", "-r", "--cached", "--quiet", "--ignore-unmatch", "--", *made)
    for name in made:
        remove_tree(clone / name)
    isolate(clone, cache)
    write_atomically(clone / PARAMS_FILE, params_text(project, job).encode())
    write_atomically(clone / PIPELINE_FILE, render_pipeline(job.asked.spec, job.templates).encode())
    home = folder / "home"
    (home / "tmp").mkdir(parents=True)
    extra = {RUN_FOLDER: str(folder), RAW_FOLDER: str(raw), "DVC_SITE_CACHE_DIR": str(folder / "site")}
    warm = warm if job.python == sys.executable else ""
    if warm:
        extra[SOCKET_VARIABLE] = warm
    if job.policy.executor.memory_gib is not None:
        extra[MEMORY_GIB] = str(job.policy.executor.memory_gib)
    if _told_tracebacks.get() is not None:
        extra[TRACEBACK] = "1"
    started = now()
    crash_point("execute.started")
    env = execute_environment(home, job.policy.executor.threads, extra, job.python)
    try:
        code = _repro(job, folder, env, warm, _limit(job), stop, lambda event: watch(_told(job, event)))
    except BaseException:
        remove_tree(folder)
        raise
    _tell_traceback(folder)
    crash_point("execute.finished")
    environment = executed_with(job.asked.lock, here=job.python == sys.executable)
    finished = finished_stages(folder)
    return Execution(
        folder,
        _failure(folder, code),
        {stage: event["seconds"] for stage, event in finished.items()},
        started,
        now(),
        environment,
        {stage: event["peak_bytes"] for stage, event in finished.items() if "peak_bytes" in event},
        finished.get("predict", {}).get("seconds_per_row"),
    )


def _targets(job: Job) -> tuple[str, ...]:
    """The executed stages that no other one reads: DVC runs what these need."""
    there = executed(pipeline_of(job.asked.spec))
    needed = {path for stage in there for path in stage.deps}
    return tuple(stage.name for stage in there if not needed.intersection(stage.written))


def params_of(project: Project, job: Job) -> dict[str, Any]:
    """What ``params.yaml`` of a job holds beside the digest of ``conf/``."""
    return with_derived(
        job.params,
        job.asked.spec,
        own_code_of(project, job.tree, job.asked.spec.code),
        job.asked.components.env,
    )


def params_text(project: Project, job: Job, params: Mapping[str, Any] | None = None) -> str:
    """``params.yaml`` of a job, with the digest of the ``conf/`` that it was rendered from."""
    conf = conf_digest(project.repository.read_files(job.tree, CONF))
    return render_params(params_of(project, job) if params is None else params, conf)


def _told(job: Job, event: Mapping[str, Any]) -> Event:
    return Event(job.branch, job.side, str(event["stage"]), str(event["event"]), float(event["seconds"]))


def _limit(job: Job) -> float:
    """Seconds that each part of a run may take."""
    return job.policy.executor.timeout_minutes * 60


def _repro(
    job: Job,
    folder: Path,
    env: Mapping[str, str],
    warm: str,
    limit: float,
    stop: threading.Event,
    tell: Callable[[Mapping[str, Any]], None],
) -> int | None:
    """Exit code of ``dvc repro`` of all executed stages, or nothing when the time was up and it was ended."""
    words = ["dvc", "repro", *_targets(job)]
    cold = [job.python, "-P", "-m", *words]  # -P: the clone, which is a branch's, is no place to import from
    task = start_task(warm, words, cold, cwd=folder / "clone", env=env, log=folder / "log.txt")
    events = read_events(folder)

    def look() -> None:
        for event in events:
            if event is None:
                break
            tell(event)

    return ended(task, limit, stop, look)


def _tell_traceback(folder: Path) -> None:
    tell = _told_tracebacks.get()
    if tell is None:
        return
    told = read_json(folder / TRACEBACK_FILE, _LARGEST_READ)
    (folder / TRACEBACK_FILE).unlink(missing_ok=True)
    if isinstance(told, str):
        tell(told)


def _failure(folder: Path, code: int | None) -> Failure | None:
    """Nothing when the exit code is 0; whether there *is* a result is for the judge to see."""
    if code == 0:
        return None
    if code is None:
        return Failure("execute", "the time limit of executor.timeout_minutes was reached", "transient")
    told = read_json(folder / FAILURE, _LARGEST_READ)
    named = isinstance(told, dict) and STAGE_NAME.fullmatch(str(told.get("stage")))
    if named and one_line(told.get("message"), 500):
        kind: FailureKind = "transient" if told.get("kind") == "transient" else "deterministic"
        return Failure(told["stage"], one_line(told["message"], 500), kind)
    return Failure("execute", f"dvc ended with {code} and no stage said why; see the log", "transient")


# ── judge ──


def judge(
    project: Project,
    job: Job,
    execution: Execution,
    *,
    raw: Path,
    warm: str,
    stop: threading.Event,
    truth: Path | None = None,
) -> Verdict:
    """Work out what a finished execution achieved, in a clean folder, from pins and predictions.

    What our own stages give is kept in the folder ``truth`` (by default one of this clone), for the next one. Raises
    StageFailed when the outputs are missing, malformed or not what the pins give.
    """
    folder = execution.folder / "judge"
    remove_tree(folder)
    lay_out(project, job, folder, _bring_metrics(project, job, folder))
    request = {
        "clone": str(execution.clone),
        "truth": str((truth or project.private / "truth") / truth_key(job.asked)),
        "raw": str(raw),
        "other_libraries": job.python != sys.executable,
    }
    write_atomically(folder / JUDGE_REQUEST, json.dumps(request).encode())
    home = folder / "home"
    (home / "tmp").mkdir(parents=True)
    memory = {MEMORY_GIB: str(job.policy.executor.memory_gib or judge_memory_gib())}
    env = execute_environment(home, job.policy.executor.threads, memory)
    code = _judge_task(folder, env, warm, _limit(job), stop)
    crash_point("judge.finished")
    return _read_verdict(folder, code)


def truth_key(asked: Asked) -> str:
    """The name under which what our own stages give is kept: a digest of all that it follows from."""
    spec, components = asked.spec.resolved, asked.components
    declared = [*(spec[name] for name in ("data", "validation", "split", "features")), *_classes(spec)]
    return digest([*declared, components.data, components.pipeline, components.env, installed_versions(_OURS_RUN_ON)])


def judge_memory_gib() -> float:
    """What the judge may take where ``executor.memory_gib`` says nothing, in GiB: half of what is available, at least
    2. What it reads was written by a stranger. Where the kernel does not say (it is no Linux), of all that is there.
    """
    available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 30)
    with contextlib.suppress(OSError, StopIteration, ValueError):
        told = Path("/proc/meminfo").read_text("ascii").splitlines()
        available = next(int(line.split()[1]) for line in told if line.startswith("MemAvailable:")) / (1 << 20)
    return max(_LEAST_JUDGE_GIB, round(available / 2, 1))


def lay_out(project: Project, job: Job, folder: Path, code: str = "") -> None:
    """Put what our own stages read into a folder: the commit's configuration and pins, and none of its code.

    ``code`` is the digest of the project's own code that lies there already.
    """
    for path, data in project.repository.read_files(job.tree, CONF).items():
        write_atomically(folder / path, data)
    for source in job.asked.pins:
        path = pin_path(source)
        write_atomically(folder / path, project.repository.read_blob(job.tree, path, _LARGEST_PIN) or b"")
    params = with_derived(job.params, job.asked.spec, code, job.asked.components.env)
    write_atomically(folder / PARAMS_FILE, params_text(project, job, params).encode())


def _classes(spec: Mapping[str, Any]) -> tuple[str, str]:
    """What of the evaluation decides how the target is encoded."""
    return str(spec["evaluation"]["task"]), str(spec["evaluation"].get("positive", ""))


def _bring_metrics(project: Project, job: Job, folder: Path) -> str:
    """The base branch's code for the judge, where the project's own metrics are asked for; gives its digest."""
    spec = job.asked.spec
    if not (spec.evaluation.own and job.base_commit):
        return ""
    for one in spec.code:
        if project.repository.entry(job.base_commit, one) is not None:
            for path, data in project.repository.read_files(job.base_commit, one).items():
                write_atomically(folder / path, data)
    return own_code_of(project, job.base_commit, spec.code)


def _judge_task(folder: Path, env: Mapping[str, str], warm: str, limit: float, stop: threading.Event) -> int | None:
    cold = [sys.executable, "-P", "-m", "cd4ml.controller.running.judge"]
    log = folder.parent / "log.txt"  # the run's own: a judge that broke down must leave its reason
    task = start_task(warm, ["judge"], cold, cwd=folder, env=env, log=log)
    return ended(task, limit, stop, lambda: None)


def _read_verdict(folder: Path, code: int | None) -> Verdict:
    if code is None:
        raise StageFailed("judge", "the time limit of executor.timeout_minutes was reached", "transient")
    try:
        told = json.loads((folder / JUDGE_VERDICT).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise StageFailed("judge", f"ended with {code} and no verdict", "transient") from error
    if "failure" in told:
        failure = told["failure"]
        raise StageFailed(failure["stage"], one_line(failure["message"], 500), failure["kind"])
    files = {path: FileDigest(**value) for path, value in told["files"].items()}
    return Verdict(folder, told["metrics"], told["slices"], told["table"], told["split"], told["model"], files)


def output_path(execution: Execution, verdict: Verdict, path: str) -> Path:
    """Where an output lies: the judge's own with the judge, the others in the clone.

    Raises IntegrityError for a path that leads elsewhere through a link.
    """
    own = verdict.folder / path
    if path.startswith(("artifacts/evaluate/", "artifacts/validate/")):
        return own
    found = execution.clone / path
    if Path(os.path.realpath(found)) != Path(os.path.realpath(execution.clone)) / path:
        raise IntegrityError(f"{path}: is a link")
    return found


def discard(execution: Execution) -> None:
    """Free the clone and all that it holds; the log and the events stay, for ``cd4ml show --log``.

    What cannot be removed now is left to the next ``clear_leftovers``: it must not hide how the run ended.
    """
    with contextlib.suppress(OSError):
        _free(execution.folder)


def _free(folder: Path) -> None:
    for name in ("clone", "judge", "home", "site"):
        remove_tree(folder / name)


def clear_leftovers(project: Project) -> None:
    """Remove what killed runs left behind, and all logs but the newest. Only while nothing runs in this clone."""
    runs = project.private / "runs"
    folders = sorted(runs.iterdir(), key=lambda path: path.stat().st_mtime) if runs.is_dir() else []
    leftovers = [*(project.private / "reproduce").glob("*"), *(project.private / "truth").glob("*.part")]
    for folder in (*folders[:-_KEPT_LOGS], *leftovers):
        shutil.rmtree(folder, ignore_errors=True)
    for folder in folders[-_KEPT_LOGS:]:
        with contextlib.suppress(OSError):
            _free(folder)


def log_of(project: Project, fingerprint: str) -> str:
    """The newest log of a fingerprint that ran on this machine. Raises UsageError when there is none."""
    folder = project.private / "runs"
    logs = (
        sorted(folder.glob(f"{fingerprint[:12]}-*/log.txt"), key=lambda path: path.stat().st_mtime)
        if fingerprint
        else []
    )
    if not logs:
        raise UsageError(
            f"{fingerprint[:12] or 'this experiment'}: no log here: it ran on another machine, or the log was cleared"
        )
    return logs[-1].read_text("utf-8", "replace")
