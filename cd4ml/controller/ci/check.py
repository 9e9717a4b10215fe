"""Check a commit, a stranger's too, without running anything of it: configuration, rendered files, expectations."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cd4ml.controller.desired.data import ensure_raw
from cd4ml.controller.desired.scaffold import load_templates
from cd4ml.controller.desired.specs import Asked, Base, asked_of, spec_of
from cd4ml.controller.editing.experiments import check_model
from cd4ml.controller.landing import trust
from cd4ml.controller.landing.erased import erased_objects
from cd4ml.controller.project import TEMPLATES, Project
from cd4ml.controller.running.run import Job, lay_out
from cd4ml.controller.running.stage import FAILURE, MEMORY_GIB, RAW_FOLDER, RUN_FOLDER
from cd4ml.controller.running.tasks import ended, start_task
from cd4ml.controller.running.warm import warm_process
from cd4ml.errors import Cd4mlError, ConfigError, Problem, RemoteError, UsageError
from cd4ml.gateways.files import scratch
from cd4ml.gateways.process import execute_environment
from cd4ml.gateways.untrusted import read_json
from cd4ml.render.artifacts import check, render_pipeline
from cd4ml.render.workflows import render_workflows
from cd4ml.spec.experiment import Spec
from cd4ml.spec.pipeline import EXPECTATION_RESULTS, PIPELINE_FILE, pin_path
from cd4ml.spec.sources import CONF
from cd4ml.spec.text import one_line

_LARGEST_RENDERED = 4 << 20
_LARGEST_RESULTS = 16 << 20
_MEMORY_GIB = 8.0
"""What looking at a stranger's expectations may take, where the base branch sets no limit."""

_INDEX = re.compile(r"\[(\d+)\]")


@dataclass(frozen=True)
class Checked:
    """What a check found.

    ``checked`` says what was looked at, ``not_checked`` has a line for what could not be. ``wrong`` are problems of the
    configuration; ``unmet`` files that are not as rendered, and critical expectations that the data does not meet.
    ``warnings`` are the expectations that only warn.
    """

    commit: str
    checked: tuple[str, ...] = ()
    not_checked: tuple[str, ...] = ()
    wrong: tuple[Problem, ...] = ()
    unmet: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()

    @property
    def problems(self) -> tuple[Problem, ...]:
        """All that is to be mended."""
        return (*self.wrong, *self.unmet)

    @property
    def exit_code(self) -> int:
        return 2 if self.wrong else 1 if self.unmet else 0


def base_of(project: Project) -> Base:
    """The base branch as far as it decides what others ask for: the remote's or, out of its reach, as last seen.

    Raises RepositoryError where it was never seen, ConfigError for its configuration.
    """
    try:
        heads = trust.read(project, quiet=True).heads
    except RemoteError:
        heads = trust.last_seen(project).heads
    commit = heads.get(project.base) or project.repository.resolve(f"refs/remotes/{project.remote}/{project.base}")
    if commit is None:
        raise project.without_base()
    return Base(commit, spec_of(project, commit)[0])


def commit_of(project: Project, revision: str) -> str:
    """The commit that a revision names; a branch that only the remote has may be named by its bare name.

    Raises UsageError.
    """
    commit = project.repository.resolve(revision) or project.repository.resolve(f"refs/cd4ml/remote/heads/{revision}")
    if commit is None:
        raise UsageError(f"{revision}: no such commit or branch here (is it fetched?)")
    return commit


def left_aside(project: Project, revision: str) -> tuple[str, ...]:
    """Files of the work tree that would count and are not committed, where its own commit is asked about."""
    if revision != "HEAD" or project.repository.work_tree is None:
        return ()
    return project.repository.uncommitted_below(CONF, PIPELINE_FILE, pin_path("*"))


def check_revision(project: Project, revision: str) -> Checked:
    """Check a commit against the base branch's policy, templates and data.

    Reads Git and the DVC remote. Whatever the commit brings along, only its ``conf/`` and pins are looked at, as data;
    stages of ours that read them run in a private folder that holds nothing else, without credentials. Raises
    UsageError for a revision that is none.
    """
    base = base_of(project)
    commit = commit_of(project, revision)
    found = Checked(commit, ("configuration",))
    try:
        asked = asked_of(project, commit, base)
    except ConfigError as error:
        later = "what follows from the configuration: it is refused"
        return replace(found, wrong=error.problems, not_checked=(later,))
    wrong = [*_wrong_model(asked, base.policy), *_wrong_expectations(asked)]
    found = replace(found, wrong=tuple(wrong))
    found = _with_rendered(project, found, asked.spec, base)
    if any(problem.key.startswith("validation") for problem in wrong):
        return replace(found, not_checked=(*found.not_checked, "the data: its expectations are wrong"))
    return _with_data(project, found, asked, base)


# ── configuration ──


def _wrong_model(asked: Asked, policy: Spec) -> tuple[Problem, ...]:
    try:
        check_model(asked.spec, asked.origin, policy)
    except ConfigError as error:
        return error.problems
    return ()


def _wrong_expectations(asked: Asked) -> Iterator[Problem]:
    from cd4ml.stages.expectations import check_expectations

    for problem in check_expectations(asked.spec.validation):
        key = _INDEX.sub(r".\1", problem.key)
        yield replace(problem, key=key, file=_file_of(key, asked.origin) or problem.file)


def _file_of(key: str, origin: Mapping[str, str]) -> str:
    """The file that a key, or the nearest one above it, came from."""
    above = key
    while above and above not in origin:
        above = above.rpartition(".")[0]
    return origin.get(above) or next((file for name, file in origin.items() if name.startswith(f"{key}.")), "")


# ── rendered files ──


def _with_rendered(project: Project, found: Checked, spec: Spec, base: Base) -> Checked:
    """Hold the committed rendered files against what the base branch's templates give.

    A file is the base branch's own matter where the commit changes neither it nor what it is made of.
    """
    repository = project.repository
    before = repository.merge_base(base.commit, found.commit) or base.commit
    if repository.entry(found.commit, TEMPLATES) != repository.entry(before, TEMPLATES):
        line = f"the rendered files: {TEMPLATES}/ is changed, and only that of {project.base} is rendered"
        return replace(found, not_checked=(*found.not_checked, line))
    templates = load_templates(project, base.commit)
    expected = _rendered(spec, templates, project.base)
    there = {path: _text(project, found.commit, path) for path in expected}
    try:
        earlier = _rendered(spec_of(project, before)[0], templates, project.base)
    except ConfigError:
        earlier = {}
    untouched = {
        path
        for path, text in expected.items()
        if earlier.get(path) == text and there[path] == _text(project, before, path)
    }
    problems = tuple(one for one in check(expected, there) if one.file not in untouched)
    return replace(found, checked=(*found.checked, "rendered files"), unmet=(*found.unmet, *problems))


def _rendered(spec: Spec, templates: Mapping[str, str], base: str) -> dict[str, str]:
    return {PIPELINE_FILE: render_pipeline(spec, templates), **render_workflows(spec, templates, base)}


def _text(project: Project, commit: str, path: str) -> str | None:
    data = project.repository.read_blob(commit, path, _LARGEST_RENDERED)
    return None if data is None else data.decode("utf-8", "replace")


# ── data ──


def _with_data(project: Project, found: Checked, asked: Asked, base: Base) -> Checked:
    """Hold the pinned data against the expectations."""
    try:
        raw = ensure_raw(project, project.storage(base.commit), asked.pins.values(), erased_objects(project))
    except (Cd4mlError, OSError) as error:
        line = f"the expectations against the data: {one_line(error, 300)}"
        return replace(found, not_checked=(*found.not_checked, line))
    tree = project.repository.tree_of(found.commit)
    job = Job("", "head", found.commit, tree, asked, base.policy, {})
    threads = base.policy.executor.threads
    with scratch("cd4ml-check-") as folder, warm_process(project.private, threads) as warm:
        lay_out(project, job, folder / "work")
        for stage in ("ingest", "validate"):
            failure = _failure_of(folder, stage, job.policy, raw, warm)
            if failure is not None:
                break
        results = read_json(folder / "work" / EXPECTATION_RESULTS, _LARGEST_RESULTS)
    unmet, warnings = _unmet(results, asked.origin)
    if failure is not None and not unmet:
        if failure[1] == "transient":
            line = f"the expectations against the data: {failure[0]}"
            return replace(found, not_checked=(*found.not_checked, line))
        key = "data" if stage == "ingest" else "validation"
        unmet = (Problem(_file_of(f"{key}.name", asked.origin) or f"conf/{key}", key, failure[0]),)
    return replace(
        found, checked=(*found.checked, "expectations"), unmet=(*found.unmet, *unmet), warnings=tuple(warnings)
    )


def _failure_of(folder: Path, stage: str, policy: Spec, raw: Path, warm: str) -> tuple[str, str] | None:
    """Run a stage of ours; gives why it failed and of what kind, or nothing when it did not."""
    home = folder / "home"
    (home / "tmp").mkdir(parents=True, exist_ok=True)
    memory = str(policy.executor.memory_gib or _MEMORY_GIB)
    extra = {RUN_FOLDER: str(folder), RAW_FOLDER: str(raw), MEMORY_GIB: memory}
    words = ["stage", stage]
    cold = [sys.executable, "-P", "-m", "cd4ml", *words]
    env = execute_environment(home, policy.executor.threads, extra)
    task = start_task(warm, words, cold, cwd=folder / "work", env=env, log=folder / "log.txt")
    code = ended(task, policy.executor.timeout_minutes * 60, threading.Event(), lambda: None)
    if code == 0:
        return None
    if code is None:
        return f"{stage}: the time limit of executor.timeout_minutes was reached", "transient"
    told = read_json(folder / FAILURE, 1 << 20)
    if not isinstance(told, dict):
        return f"{stage}: ended with {code} and did not say why", "transient"
    kind = "transient" if told.get("kind") == "transient" else "deterministic"
    return one_line(told.get("message", ""), 500) or f"{stage}: failed", kind


def _unmet(results: Any, origin: Mapping[str, str]) -> tuple[tuple[Problem, ...], list[Problem]]:
    """The critical expectations that are not met, and those that only warn."""
    from cd4ml.stages.validate import describe

    critical: list[Problem] = []
    warnings: list[Problem] = []
    for item in results["expectations"] if isinstance(results, dict) else ():
        if not item["success"]:
            key = f"validation.expectations.{item['index']}"
            problem = Problem(_file_of(key, origin) or "conf/validation", key, one_line(describe(item), 500))
            (warnings if item["severity"] == "warning" else critical).append(problem)
    return tuple(critical), warnings
