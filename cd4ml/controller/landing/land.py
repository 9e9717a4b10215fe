"""Land: store a run's outputs, write its record, put both on the remote.

Nothing here runs code of an experiment. After any error nobody knows whether a push took place, so every
push is followed by a look.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from cd4ml.controller.desired.specs import own_code_of
from cd4ml.controller.landing import trust
from cd4ml.controller.landing.erased import made_of_erased
from cd4ml.controller.landing.landed import LARGEST_RECORD, read_landed
from cd4ml.controller.project import Project
from cd4ml.controller.running.run import Execution, Failure, Job, Verdict, output_path, params_of, params_text
from cd4ml.errors import IntegrityError, RemoteError
from cd4ml.gateways.dvc import Storage
from cd4ml.gateways.files import FileDigest, copy_verified, digest_file
from cd4ml.gateways.git import LANDING, RefUpdate, RemoteState
from cd4ml.gateways.process import crash_point
from cd4ml.gateways.untrusted import read_json
from cd4ml.index.fold import Landed, check_landed, entry_path
from cd4ml.index.record import RECORD_PATH, RunRecord, as_record, encode, seal
from cd4ml.index.retention import OUTPUTS
from cd4ml.render.artifacts import render_pipeline
from cd4ml.render.lock import render_lock
from cd4ml.spec.canonical import digest
from cd4ml.spec.determinism import determinism_of
from cd4ml.spec.metrics import direction_of
from cd4ml.spec.pipeline import (
    EXPECTATION_RESULTS,
    LOCK_FILE,
    PARAMS_FILE,
    PIPELINE_FILE,
    StageSpec,
    pipeline_of,
    stages,
)
from cd4ml.spec.text import one_line

_LOG = logging.getLogger("cd4ml")
_MOST_EXPECTATIONS = 1000


# ── a run ──


def land_success(project: Project, storage: Storage, job: Job, execution: Execution, verdict: Verdict) -> str:
    """Prove the outputs stored, then land the record; gives the run id.

    Raises IntegrityError when bytes changed since the judge saw them, RemoteError when a remote fails.
    """
    store_outputs(storage, execution, verdict, stored_outputs(verdict), remotely=job.published)
    crash_point("land.outputs-stored")
    body = {
        **_common(project, job, execution),
        "outcome": "succeeded",
        "reason": None,
        "metrics": verdict.metrics,
        **({"slices": dict(verdict.slices)} if verdict.slices else {}),
        "table": dict(verdict.table),
        "split": dict(verdict.split),
        "validation": _validation(verdict.folder),
        "model": verdict.model,
        "files": {path: vars(value) for path, value in sorted(verdict.files.items())},
    }
    declared = stages(pipeline_of(job.asked.spec))
    params = params_of(project, job)
    lock = render_lock(declared, params, {path: (value.md5, value.bytes) for path, value in verdict.files.items()})
    files = {LOCK_FILE: lock.encode()}
    for path in _kept_in_git(declared):
        files[path] = output_path(execution, verdict, path).read_bytes()
    return _land_run(project, job, body, files)


def land_failure(project: Project, job: Job, execution: Execution, failure: Failure) -> str:
    """Land the record of a run without a result; gives the run id."""
    body = {
        **_common(project, job, execution),
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


def _judge(project: Project, job: Job) -> dict[str, str]:
    """Whose code computed the project's own metrics."""
    return {"commit": job.base_commit, "code": own_code_of(project, job.base_commit, job.asked.spec.code)}


def _common(project: Project, job: Job, execution: Execution) -> dict[str, Any]:
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
        "primary": {
            "metric": spec.evaluation.primary,
            "direction": direction_of(spec.evaluation.primary, spec.evaluation),
        },
        "data": {name: {"digest": pin.digest, "rows": pin.rows} for name, pin in asked.pins.items()},
        "environment": {
            **execution.environment,
            "lock": digest(sorted(asked.lock)) if asked.lock else "",
        },
        **({"judge": _judge(project, job)} if spec.evaluation.own else {}),
        "threads": job.policy.executor.threads,
        **determinism_of(spec.model.estimator, job.policy.executor.threads).as_json(),
        "cost": execution.cost,
        "started": execution.started,
        "finished": execution.finished,
    }


def _validation(folder: Path) -> dict[str, Any] | None:
    """The outcome of validation in short; nothing when there is none, or what is there is no outcome.

    In ``folder`` lie the judge's own results for a run that succeeded, and for one that failed the run's.
    """
    told = read_json(folder / EXPECTATION_RESULTS, LARGEST_RECORD)
    try:
        failed = [
            {
                "type": one_line(item["type"], 100),
                "column": one_line(item["kwargs"].get("column", ""), 100),
                "severity": "warning" if item["severity"] == "warning" else "critical",
            }
            for item in told["expectations"][:_MOST_EXPECTATIONS]
            if not item["success"]
        ]
        asked, returned = (min(max(int(told[key]), 0), _MOST_EXPECTATIONS) for key in ("asked", "returned"))
        suite, success = one_line(told["suite"], 100), bool(told["success"])
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None
    return {"suite": suite, "success": success, "asked": asked, "returned": returned, "failed": failed}


def stored_outputs(verdict: Verdict) -> tuple[str, ...]:
    """The outputs that are stored, by their paths."""
    return tuple(path for path in verdict.files if path.startswith(OUTPUTS))


def store_outputs(
    storage: Storage, execution: Execution, verdict: Verdict, outputs: Iterable[str], *, remotely: bool
) -> None:
    """These outputs in DVC's cache, and on its remote unless the run is a draft, each read back.

    The cache entry that DVC made is checked as well: a damaged one is replaced. Raises IntegrityError when bytes
    changed since the judge saw them, RemoteError when the remote fails.
    """
    paths = {path: output_path(execution, verdict, path) for path in outputs}
    for path, place in paths.items():
        expected = verdict.files[path]
        if digest_file(place) != expected:
            raise IntegrityError(f"{path}: changed after it was judged")
        cached = storage.cached(expected.md5)
        if not cached.is_file() or digest_file(cached) != expected:
            copy_verified(place, cached, expected.sha256)
    if remotely:
        _store_remotely(storage, {place: verdict.files[path] for path, place in paths.items()})


def _store_remotely(storage: Storage, files: Mapping[Path, FileDigest]) -> None:
    if storage.remote:
        with storage.open_remote() as remote:
            for place, expected in files.items():
                remote.store(place, expected)


def _land_run(project: Project, job: Job, body: Mapping[str, Any], extra: Mapping[str, bytes]) -> str:
    files = {
        PARAMS_FILE: params_text(project, job).encode(),
        PIPELINE_FILE: render_pipeline(job.asked.spec, job.templates).encode(),
        **extra,
    }
    return land_record(project, body, files, published=job.published)


def publish_drafts(project: Project, storage: Storage, state: RemoteState, branches: Collection[str]) -> None:
    """Land the drafts of branches that have been pushed since, and of those named.

    A draft is a run of a branch that was not pushed. It has been pushed when the remote's head contains the
    commit that was run (of a merge result: the head that was merged).
    """
    for ref, commit in state.drafts.items():
        found = read_landed(project, ref, commit)
        try:
            run = check_landed(found)
        except IntegrityError:
            continue  # not one of ours, or damaged: it stays where only this clone sees it
        if not isinstance(run, RunRecord):
            continue
        source = project.repository.commit_info(run.commit).parents[-1] if run.body["side"] == "merge" else run.commit
        head = state.heads.get(run.branch)
        pushed = head is not None and project.repository.is_ancestor(source, head)
        if pushed or run.branch in branches:
            publish_draft(project, storage, commit, found.data, run)


def publish_draft(project: Project, storage: Storage, commit: str, data: bytes, run: RunRecord) -> None:
    """Land one draft, and forget it as such. ``data`` is its record's bytes.

    One that was made of data that were erased meanwhile does not land, and is forgotten, too; that is logged.
    """
    if told := made_of_erased(project, storage, run):
        _LOG.warning("%s, a draft of %s, does not land: what it was made of was %s", run.id, run.branch, told)
        project.repository.drop_draft(run.id)
        return
    outputs = {path: FileDigest(**known) for path, known in run.body["files"].items()}
    ours = {path: known for path, known in outputs.items() if path.startswith(OUTPUTS)}
    places = {storage.cached(known.md5): known for known in ours.values()}
    if all(place.is_file() for place in places):
        _store_remotely(storage, places)
        _push_landing(project, run.id, commit, data)
    # where the cache was cleared the outputs are gone: forgotten, the run is made again
    project.repository.drop_draft(run.id)


# ── a record of any kind ──


def land_experiment(project: Project, body: Mapping[str, Any]) -> str:
    """Land an experiment record on a commit whose parent is the branch's; gives its id."""
    return land_record(project, body)


def land_removal(project: Project, body: Mapping[str, Any]) -> str:
    """Land a removal record on a commit whose parent is the base branch's whose rule was followed; gives its id."""
    return land_record(project, body)


def land_record(
    project: Project, body: Mapping[str, Any], files: Mapping[str, bytes] | None = None, *, published: bool = True
) -> str:
    """Land a record, ``body`` without ``schema`` and ``id``, on a commit whose parent is the one it speaks of.

    ``files`` are what that commit adds beside the record. One that is not ``published`` is kept as a draft. Landing
    the same body again is harmless. Gives the id. Raises IntegrityError for what no fold would take, RemoteError.
    """
    record = seal(body)
    data, source = encode(record), str(record["commit"])
    added = {RECORD_PATH: data, **(files or {})}
    (commit,) = project.repository.write_children([(source, added, _message(record))])
    _check(record, data, commit, added)
    crash_point("land.committed")
    if published:
        _push_landing(project, str(record["id"]), commit, data)
    else:
        project.repository.keep_draft(str(record["id"]), commit)
    crash_point("land.pushed")
    return str(record["id"])


def _message(record: Mapping[str, Any]) -> str:
    if record["kind"] != "run":
        return f"cd4ml: {record['kind']} {record['id']}\n"
    outcome = "result" if record["outcome"] == "succeeded" else "failed run"
    return f"cd4ml: {outcome} {record['id']}\n\nFingerprint: {record['fingerprint']}\n"


def _check(record: Mapping[str, Any], data: bytes, commit: str, files: Collection[str]) -> None:
    """Raise IntegrityError, in the words of the fold, for what the fold would refuse: it must not leave here."""
    check_landed(Landed(LANDING + str(record["id"]), commit, (str(record["commit"]),), tuple(files), data, ""))


def _push_landing(project: Project, record_id: str, commit: str, data: bytes) -> None:
    """Create the record's landing ref. That it is there already, with these bytes, is success."""
    ref = LANDING + record_id
    try:
        project.repository.push(project.remote, [RefUpdate(ref, "", commit)])
        project.repository.remember_landed(project.remote, ref, commit)
    except RemoteError as error:
        found = project.repository.remote_ref(project.remote, ref)
        if found == commit:
            return
        state = trust.fetch(project)
        if found and project.repository.read_blob(found, RECORD_PATH, LARGEST_RECORD) == data:
            return
        path = entry_path(as_record(json.loads(data)))
        if state.index and project.repository.existing(state.index, [path]):
            return
        raise RemoteError(f"record {record_id} could not be landed: {error}") from error
