"""A stranger's commit, such as the head of a fork's pull request: run without rights, and told of without a record.

Two jobs do it. ``execute_unverified`` runs the commit by the base branch's policy where there is nothing to take.
``unverified_report`` looks at what that left, elsewhere and with rights: it is hostile. Whatever decides what the
report says (which commit, what it asks for, which data) is read from Git; what the artefact says of itself is at most
shown, as the number that it is, and called the fork's own word.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cd4ml.controller.ci.bundle import Bundle
from cd4ml.controller.ci.bundles import MARK, OF_FORKS, open_output, read_bundles, unpack, write_bundle
from cd4ml.controller.ci.check import base_of, commit_of
from cd4ml.controller.desired.data import ensure_raw
from cd4ml.controller.desired.scaffold import load_templates
from cd4ml.controller.desired.specs import Asked, Base, asked_of
from cd4ml.controller.landing import trust
from cd4ml.controller.landing.erased import erased_objects
from cd4ml.controller.landing.landed import read_history
from cd4ml.controller.project import Project
from cd4ml.controller.reporting.report import Reported
from cd4ml.controller.running.environment import environment_differences, executed_with, python_for
from cd4ml.controller.running.run import WAITING, WORK_LOCK, Job, Watch, attempt, clear_leftovers, discard, judge
from cd4ml.controller.running.warm import warm_process
from cd4ml.errors import Cd4mlError, ConfigError, IntegrityError, RemoteError, StageFailed, UsageError
from cd4ml.gateways.files import exclusive, scratch
from cd4ml.index.record import RunRecord
from cd4ml.promotion.compare import finite, side_digest
from cd4ml.promotion.configuration import config_changes
from cd4ml.promotion.review import Review
from cd4ml.report.visible import plain_number
from cd4ml.spec.experiment import Spec
from cd4ml.spec.pipeline import pipeline_of
from cd4ml.spec.text import one_line

FORK = "fork"
"""What stands for the branch of a commit that no branch here has."""

SECRETS = (
    *("CD4ML_FORGE_TOKEN", "GITHUB_TOKEN", "GH_TOKEN", "GITHUB_PAT", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"),
    *("GITLAB_TOKEN", "GITLAB_PRIVATE_TOKEN", "CI_JOB_TOKEN", "CI_JOB_JWT", "GIT_ASKPASS", "SSH_AUTH_SOCK"),
    *("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_WEB_IDENTITY_TOKEN_FILE", "GOOGLE_APPLICATION_CREDENTIALS"),
    *("AZURE_STORAGE_CONNECTION_STRING", "AZURE_STORAGE_KEY", "AZURE_CLIENT_SECRET", "GDRIVE_CREDENTIALS_DATA"),
    *("PGPASSWORD", "PYPI_TOKEN", "TWINE_PASSWORD"),
)
"""Variables that hold, or lead to, credentials: no code of a stranger runs where one of them is set."""

_SOURCE_URL = re.compile(r"CD4ML_SOURCE_\w+_URL")
_MEMORY_GIB = 8.0
"""What judging a stranger's predictions may take, where the base branch sets no limit."""

_COMMIT = re.compile(r"[0-9a-f]{40}")


# ── run it ──


def execute_unverified(project: Project, commit: str, output: Path, watch: Watch) -> Bundle:
    """Run one commit by the base branch's policy, and leave one bundle in ``output``. Nothing is recorded.

    Raises UsageError where credentials are in reach, ``output`` is not empty or the commit is not here; ConfigError for
    a configuration that is refused; RemoteError where the data cannot be had.
    """
    refuse_credentials(project)
    open_output(output)
    if any(path.name != MARK for path in output.iterdir()):
        raise UsageError(f"{output}: holds bundles: name an empty folder")
    base = base_of(project)
    commit = commit_of(project, commit)
    tree = project.repository.tree_of(commit)
    asked = asked_of(project, tree, base)
    storage, templates = project.storage(base.commit), load_templates(project, base.commit)
    with exclusive(project.private / WORK_LOCK, waiting=lambda: watch(WAITING)):
        clear_leftovers(project)
        python = python_for(project, asked, tree, base.policy)
        raw = ensure_raw(project, storage, asked.pins.values(), erased_objects(project))
        job = _job(commit, tree, asked, base, templates, python)
        with warm_process(project.private, base.policy.executor.threads) as warm:
            tried = attempt(project, job, storage=storage, raw=raw, warm=warm, watch=watch)
        try:
            metrics = tried.verdict.metrics if tried.verdict and not tried.failure else {}
            return write_bundle(output, job, commit, tried.execution, tried.failure, metrics)
        finally:
            discard(tried.execution)


def _job(commit: str, tree: str, asked: Asked, base: Base, templates: Mapping[str, str], python: str) -> Job:
    return Job(
        FORK,
        "head",
        commit,
        tree,
        asked,
        base.policy,
        templates,
        published=False,
        base_commit=base.commit,
        python=python,
    )


def refuse_credentials(project: Project) -> None:
    """Raise UsageError where code that this job runs could find credentials, in one line that says which."""
    names = sorted(name for name in os.environ if os.environ[name] and (name in SECRETS or _SOURCE_URL.fullmatch(name)))
    if names:
        raise UsageError(f"{', '.join(names)}: no code of a stranger is run beside credentials: start the job without")
    settings = project.repository.git(
        "config", "--name-only", "--get-regexp", r"^http\..*\.?extraheader$", allowed=(0, 1)
    )
    if settings.text.strip():
        key = settings.text.split()[0]
        raise UsageError(f"git config {key}: holds a token (check out with persist-credentials: false)")
    local = project.root / ".dvc/config.local"
    if project.repository.work_tree and local.exists():
        raise UsageError(".dvc/config.local: may hold credentials, and no code of a stranger is run beside them")


# ── tell of it ──


@dataclass(frozen=True)
class _Told:
    """The numbers to tell (validation side, by metric), and how they came about. ``split`` is the side's digest."""

    numbers: Mapping[str, float]
    how: str
    split: str | None = None


def unverified_report(project: Project, directory: Path, head_commit: str) -> Reported:
    """The report on the one bundle in ``directory``, which must be of the commit ``head_commit`` (its full id).

    The test side is not used: how often it is, is counted by what is recorded, and nothing of this is. Writes nothing
    but temporary folders, and in this clone objects of that commit, and what is kept of the base branch's own data.
    Raises IntegrityError for an artefact that is anything else than one bundle of that commit.
    """
    if not _COMMIT.fullmatch(head_commit):
        raise UsageError(f"{one_line(head_commit, 80)}: is not the full id of a commit")
    bundle = _only(directory, head_commit)
    base = base_of(project)
    asked, why = _asked(project, head_commit, base)
    if asked is not None and asked.components.fingerprint != bundle.fingerprint:
        raise IntegrityError(f"{bundle}: its commit {head_commit[:12]} asks for {asked.components.fingerprint[:12]}")
    champion, main = _champion(project, base)
    primary = base.policy.evaluation.primary
    told = _Told({}, "")
    if bundle.failure is None:
        told = _numbers(project, bundle, base, asked, main, why)
    review = Review(
        branch=FORK,
        base=project.base,
        commit=head_commit,
        base_commit=base.commit,
        judged="head",
        verdict="unverified",
        reason=_reason(bundle, told, primary, champion),
        name=one_line(asked.spec.name, 200) if asked else "",
        hypothesis=one_line(asked.spec.hypothesis, 1000) if asked else "",
        author=project.repository.commit_info(head_commit).author if asked else "",
        primary=primary,
        config=tuple(config_changes(main.spec.resolved, asked.spec.resolved)) if asked and main else (),
        reproduce=f"cd4ml execute --commit {head_commit} --unverified --output unverified",
        notes=_notes(asked, why, told),
    )
    return Reported(review)


def _only(directory: Path, head_commit: str) -> Bundle:
    brought = read_bundles(directory)
    if brought.refused:
        raise IntegrityError(f"the artefact: {brought.refused[0]}")
    if len(brought.bundles) != 1:
        raise IntegrityError(f"the artefact holds {len(brought.bundles)} bundles, and not one")
    (bundle,) = brought.bundles
    if bundle.kind != "unverified":
        raise IntegrityError(f"{bundle}: is not of an execute --unverified")
    if bundle.commit != head_commit:
        raise IntegrityError(f"{bundle}: is of {bundle.commit[:12]}, and the pull request's head is {head_commit[:12]}")
    return bundle


def _asked(project: Project, commit: str, base: Base) -> tuple[Asked | None, str]:
    """What the commit asks for, or why that is not known here."""
    if not project.repository.bring_commit(project.remote, commit):
        return None, "the commit cannot be read here"
    try:
        return asked_of(project, commit, base), ""
    except ConfigError as error:
        return None, f"its configuration is refused: {one_line(error.problems[0], 300)}"


def _champion(project: Project, base: Base) -> tuple[RunRecord | None, Asked | None]:
    """The result of the base branch's tip, and what it asks for."""
    try:
        asked = asked_of(project, base.commit)
        history = read_history(project, trust.last_seen(project), drafts=False)
    except Cd4mlError:
        return None, None
    found = history.result(asked.components.fingerprint)
    return (found.run if found else None), asked


def _numbers(project: Project, bundle: Bundle, base: Base, asked: Asked | None, main: Asked | None, why: str) -> _Told:
    """The validation side's metrics: judged here where the data is the base branch's own, else the fork's word."""
    if asked is not None and main is not None and asked.components.data == main.components.data:
        try:
            return _judged(project, bundle, base, asked)
        except StageFailed as error:
            return _Told({}, f"the judge refuses it: {one_line(error, 300)}")
        except (RemoteError, UsageError) as error:  # or was erased
            why = f"the data is out of reach here: {one_line(error, 200)}"
    elif asked is not None:
        why = f"it asks for other data than {project.base}"
    numbers = {name: value for name, value in bundle.metrics.get("validation", {}).items() if finite(value) is not None}
    return _Told(numbers, f"by the word of the job that ran it, since {why}")


def _judged(project: Project, bundle: Bundle, base: Base, asked: Asked) -> _Told:
    """Judge the predictions by the base branch's pins. Raises StageFailed, IntegrityError for what does not hold."""
    raw = ensure_raw(project, project.storage(base.commit), asked.pins.values(), erased_objects(project))
    here = not environment_differences(asked.lock) and bundle.environment == executed_with(asked.lock, here=True)
    limited = Base(base.commit, _limited(base.policy))
    job = _job(bundle.commit, bundle.tree, asked, limited, load_templates(project, base.commit), "")
    job = replace(job, tree=project.repository.tree_of(bundle.commit), python=sys.executable if here else "")
    with scratch("cd4ml-unverified-") as folder:
        execution = unpack(bundle, pipeline_of(asked.spec), folder / "run", OF_FORKS)
        truth = folder / "truth"
        verdict = judge(project, job, execution, raw=raw, warm="", stop=threading.Event(), truth=truth)
    split = verdict.split.get("validation") or {}
    how = f"judged here from its predictions, by the data that {project.base} pins"
    return _Told(verdict.metrics.get("validation", {}), how, str(split.get("digest")))


def _limited(policy: Spec) -> Spec:
    memory = policy.executor.memory_gib or _MEMORY_GIB
    return replace(policy, executor=replace(policy.executor, memory_gib=memory))


def _reason(bundle: Bundle, told: _Told, primary: str, champion: RunRecord | None) -> str:
    if bundle.failure is not None:
        return f"its run failed at {bundle.failure.stage} ({bundle.failure.kind}): {bundle.failure.message}"
    value = told.numbers.get(primary)
    if value is None:
        return f"it gave no {primary} ({told.how})"
    beside = ""
    if champion is not None and told.split is not None and side_digest(champion, "validation") == told.split:
        known = finite(champion.metrics.get("validation", {}).get(primary))
        beside = f", where the base branch has {plain_number(known)}" if known is not None else ""
    return f"{primary} {plain_number(value)} on the validation side{beside}; {told.how}"


def _notes(asked: Asked | None, why: str, told: _Told) -> tuple[str, ...]:
    notes = ["A fork's code was run without rights: nothing is recorded, and no gate was looked at."]
    if told.numbers:
        notes.append("The test side was not used: how often it is used is counted by records.")
    if asked is None:
        notes.append(f"What it asks for is not told: {why}.")
    return tuple(notes)
