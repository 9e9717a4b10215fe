"""Fetch the fitted model of a run."""

from __future__ import annotations

import hashlib
from typing import Any

from cd4ml.controller.desired.specs import spec_of
from cd4ml.controller.history.search import known_state, named_run
from cd4ml.controller.landing.landed import IndexHistory, current_cache
from cd4ml.controller.project import Project
from cd4ml.errors import IntegrityError, RemoteError, RepositoryError, UsageError
from cd4ml.gateways.dvc import Storage
from cd4ml.gateways.files import FileDigest, digest_file, scratch
from cd4ml.index.removed import counting
from cd4ml.plan.reason import removed
from cd4ml.spec.pipeline import MODEL


def load_model(project: Project, name: str) -> Any:
    """The estimator of a named run; its bytes are what the record says.

    Loads classes of scikit-learn, XGBoost and the packages that the base branch allows, nothing else. Raises
    UsageError, RemoteError, IntegrityError.
    """
    from cd4ml.stages.models import MODEL_PACKAGES
    from cd4ml.stages.models import load_model as load

    run = named_run(project, name).run
    known = run.body["files"].get(MODEL)
    if known is None:
        raise UsageError(f"{name}: {run.id} failed and has no model")
    state, _ = known_state(project)
    base_commit = state.heads.get(project.base)
    if base_commit is None:
        raise RepositoryError(f"{project.remote}: has no branch {project.base}, which says what a model may hold")
    policy, _ = spec_of(project, base_commit)
    try:
        data = _bytes(project.storage(base_commit), FileDigest(**known), f"{run.id}: {MODEL}")
    except RemoteError as error:
        removals = IndexHistory(current_cache(project, state), drafts=True).removals_of([run.id])
        if (gone := counting(removals).get(run.id)) is None:
            raise
        raise RemoteError(f"{run.id}: {removed(gone.removal)}") from error
    return load(data, MODEL_PACKAGES | frozenset(policy.allowed_packages))


def _bytes(storage: Storage, expected: FileDigest, what: str) -> bytes:
    cached = storage.cached(expected.md5)
    if cached.is_file() and digest_file(cached) == expected:
        data = cached.read_bytes()
    elif storage.remote:
        with scratch("cd4ml-model-") as folder, storage.open_remote() as remote:
            target = folder / "model"
            remote.retrieve(expected.md5, expected.sha256, target)
            data = target.read_bytes()
    else:
        raise RemoteError(f"{what}: is not in the DVC cache, and .dvc/config names no remote to fetch it from")
    if hashlib.sha256(data).hexdigest() != expected.sha256:
        raise IntegrityError(f"{what}: does not hold the bytes that were recorded")
    return data
