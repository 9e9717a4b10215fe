"""Land: store a run's outputs, write its record, put both on the remote; and fold what has landed.

Nothing here runs code of an experiment. After any error nobody knows whether a push took place, so every
push is followed by a look.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cd4ml.controller.landed import LARGEST_RECORD, plan_fold, read_entries, read_landed
from cd4ml.controller.project import Project
from cd4ml.controller.run import Execution, Failure, Job, Verdict, output_path, params_text
from cd4ml.errors import IntegrityError, RemoteError, ToolError
from cd4ml.gateways.dvc import Storage
from cd4ml.gateways.files import copy_verified, digest_file
from cd4ml.gateways.git import INDEX, LANDING, RefUpdate, RemoteState
from cd4ml.gateways.process import crash_point
from cd4ml.index.fold import FoldPlan, check_landed
from cd4ml.index.record import RECORD_PATH, encode, seal
from cd4ml.render.artifacts import render_pipeline
from cd4ml.render.lock import render_lock
from cd4ml.spec.canonical import digest
from cd4ml.spec.metrics import DIRECTIONS
from cd4ml.spec.pipeline import (
    EXPECTATION_RESULTS,
    LOCK_FILE,
    PARAMS_FILE,
    PIPELINE_FILE,
    StageSpec,
    stages,
)

_FOLD_TRIES = 5
_PACKAGES = (
    "numpy",
    "scipy",
    "pandas",
    "pyarrow",
    "scikit-learn",
    "xgboost",
    "skops",
    "great-expectations",
    "dvc",
    "hydra-core",
)


# ── a run ──


def land_success(project: Project, storage: Storage, job: Job, execution: Execution, verdict: Verdict) -> str:
    """Prove the outputs stored, then land the record; gives the run id.

    Raises IntegrityError when bytes changed since the judge saw them, RemoteError when a remote fails.
    """
    _store_outputs(storage, execution, verdict)
    crash_point("land.outputs-stored")
    body = {
        **_common(job, execution),
        "outcome": "succeeded",
        "reason": None,
        "metrics": verdict.metrics,
        "table": dict(verdict.table),
        "split": dict(verdict.split),
        "validation": _validation(execution.clone),
        "model": verdict.model,
        "files": {path: vars(value) for path, value in sorted(verdict.files.items())},
    }
    declared = stages(tuple(job.asked.pins))
    lock = render_lock(declared, job.params, {path: (value.md5, value.bytes) for path, value in verdict.files.items()})
    files = {LOCK_FILE: lock.encode()}
    for path in _kept_in_git(declared):
        files[path] = output_path(execution, verdict, path).read_bytes()
    return _land_run(project, job, body, files)


def land_failure(project: Project, job: Job, execution: Execution, failure: Failure) -> str:
    """Land the record of a run without a result; gives the run id."""
    body = {
        **_common(job, execution),
        "outcome": "failed",
        "reason": {"kind": failure.kind, "stage": failure.stage, "message": failure.message},
        "metrics": {},
        "table": None,
        "split": {},
        "validation": _validation(execution.clone),
        "model": None,
        "files": {},
    }
    return _land_run(project, job, body, {})


def _kept_in_git(declared: tuple[StageSpec, ...]) -> tuple[str, ...]:
    """Outputs that live in the result commit itself: metrics. DVC refuses cached outputs that Git tracks."""
    return tuple(path for stage in declared for path in stage.metrics)


def _common(job: Job, execution: Execution) -> dict[str, Any]:
    spec, asked = job.asked.spec, job.asked
    return {
        "kind": "run",
        "fingerprint": asked.components.fingerprint,
        "components": asked.components.as_mapping(),
        "commit": job.commit,
        "tree": job.tree,
        "branch": job.branch,
        "side": job.side,
        "name": spec.name,
        "params": dict(spec.resolved),
        "primary": {"metric": spec.evaluation.primary, "direction": DIRECTIONS[spec.evaluation.primary]},
        "data": {name: {"digest": pin.digest, "rows": pin.rows} for name, pin in asked.pins.items()},
        "environment": {
            "python": platform.python_version(),
            "platform": f"{platform.system()}-{platform.machine()}",
            "packages": installed_versions(_PACKAGES),
            "lock": digest(sorted(asked.lock)) if asked.lock else "",
        },
        "threads": job.policy.executor.threads,
        "cost": {"seconds": dict(execution.seconds)},
        "started": execution.started,
        "finished": execution.finished,
    }


def installed_versions(names: tuple[str, ...]) -> dict[str, str]:
    """Versions of the distributions that are installed here, by name."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _validation(clone: Path) -> dict[str, Any] | None:
    """The outcome of validation in short, from the run's results; nothing when it did not get so far."""
    path = clone / EXPECTATION_RESULTS
    try:
        told = json.loads(path.read_bytes()[:LARGEST_RECORD])
        failed = [
            {
                "type": str(item["type"])[:100],
                "column": str(item["kwargs"].get("column", ""))[:100],
                "severity": str(item["severity"])[:20],
            }
            for item in told["expectations"]
            if not item["success"]
        ]
        return {
            "suite": str(told["suite"])[:100],
            "success": bool(told["success"]),
            "asked": int(told["asked"]),
            "returned": int(told["returned"]),
            "failed": failed,
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _store_outputs(storage: Storage, execution: Execution, verdict: Verdict) -> None:
    """Every output in DVC's cache and on its remote, each read back.

    The cache entry that DVC made is checked as well: a damaged one is replaced.
    """
    paths = {path: output_path(execution, verdict, path) for path in verdict.files if path.startswith("artifacts/")}
    for path, place in paths.items():
        expected = verdict.files[path]
        if digest_file(place) != expected:
            raise IntegrityError(f"{path}: changed after it was judged")
        cached = storage.cached(expected.md5)
        if not cached.is_file() or digest_file(cached) != expected:
            copy_verified(place, cached, expected.sha256)
    if storage.remote:
        with storage.open_remote() as remote:
            for path, place in paths.items():
                remote.store(place, verdict.files[path])


def _land_run(project: Project, job: Job, body: Mapping[str, Any], extra: Mapping[str, bytes]) -> str:
    record = seal(body)
    data = encode(record)
    files = {
        RECORD_PATH: data,
        PARAMS_FILE: params_text(project, job).encode(),
        PIPELINE_FILE: render_pipeline(job.asked.spec, job.templates).encode(),
        **extra,
    }
    tree = project.repository.write_tree(job.commit, files)
    outcome = "result" if record["outcome"] == "succeeded" else "failed run"
    message = f"cd4ml: {outcome} {record['id']}\n\nFingerprint: {record['fingerprint']}\n"
    commit = project.repository.commit_tree(tree, (job.commit,), message)
    _check(project, str(record["id"]), commit)
    crash_point("land.committed")
    _push_landing(project, str(record["id"]), commit, data)
    crash_point("land.pushed")
    return str(record["id"])


# ── an experiment record ──


def land_experiment(project: Project, body: Mapping[str, Any]) -> str:
    """Land an experiment record on a commit whose parent is the branch's; gives its id."""
    record = seal(body)
    data = encode(record)
    tree = project.repository.write_tree(str(record["commit"]), {RECORD_PATH: data})
    message = f"cd4ml: experiment {record['id']}\n"
    commit = project.repository.commit_tree(tree, (str(record["commit"]),), message)
    _check(project, str(record["id"]), commit)
    _push_landing(project, str(record["id"]), commit, data)
    return str(record["id"])


def _check(project: Project, record_id: str, commit: str) -> None:
    """Raise IntegrityError, in the words of the fold, for what the fold would refuse: it must not leave here."""
    check_landed(read_landed(project, LANDING + record_id, commit))


def _push_landing(project: Project, record_id: str, commit: str, data: bytes) -> None:
    """Create the record's landing ref. That it is there already, with these bytes, is success."""
    ref = LANDING + record_id
    try:
        project.repository.push(project.remote, [RefUpdate(ref, "", commit)])
    except RemoteError as error:
        found = project.repository.remote_ref(project.remote, ref)
        if found == commit:
            return
        state = project.repository.fetch(project.remote)
        if found and project.repository.read_blob(found, RECORD_PATH, LARGEST_RECORD) == data:
            return
        if any(entry.record.id == record_id for entry in read_entries(project, state.index)):
            return
        raise RemoteError(f"record {record_id} could not be landed: {error}") from error


# ── fold ──


def fold_landed(project: Project, state: RemoteState) -> tuple[str, ...]:
    """Gather what has landed into the index; gives a line for each landed ref that was refused.

    One atomic push moves the index and drops the folded refs. Whoever loses that race looks again, and
    then has less, or nothing, to do. A remote that refuses the push leaves the records where they landed,
    which is reported only by RemoteError when nobody else folded them either.
    """
    refused: tuple[str, ...] = ()
    for _ in range(_FOLD_TRIES):
        if not state.landing:
            return ()
        plan = plan_fold(project, state, read_entries(project, state.index))
        refused = tuple(f"{ref}: {reason}" for ref, reason in (*plan.refused, *plan.untouched))
        if not plan.folded_refs:
            return refused
        try:
            _push_fold(project, state, plan)
        except RemoteError as error:
            before = state
            state = project.repository.fetch(project.remote)
            if state == before:
                raise RemoteError(f"landed records could not be folded: {error}") from error
            continue
        crash_point("fold.pushed")
        return refused
    raise RemoteError(f"landed records could not be folded in {_FOLD_TRIES} tries: the index keeps moving")


def _push_fold(project: Project, state: RemoteState, plan: FoldPlan) -> None:
    repository = project.repository
    updates = [RefUpdate(ref, state.landing[ref], "") for ref in plan.folded_refs]
    if plan.files:
        tree = repository.write_tree(state.index, plan.files)
        parents = (*([state.index] if state.index else []), *plan.parents)
        try:
            commit = repository.commit_tree(
                tree, parents, f"cd4ml: fold {len(plan.entries)} record{'s' * (len(plan.entries) != 1)}\n"
            )
        except ToolError as error:
            raise RemoteError(f"the fold commit could not be made: {error}") from error
        crash_point("fold.committed")
        updates.insert(0, RefUpdate(INDEX, state.index or "", commit))
    repository.push(project.remote, updates)
