"""Runs of the work tree: drafts of commits that no branch has, until a branch asks for the same.

They are told from other drafts by the name that stands for their branch, which Git allows for none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set

from cd4ml.controller.landing.labels import is_of_work_tree
from cd4ml.controller.landing.land import publish_draft
from cd4ml.controller.landing.landed import DRAFTS_READ, read_landed
from cd4ml.controller.project import Project
from cd4ml.errors import IntegrityError
from cd4ml.gateways.dvc import Storage
from cd4ml.gateways.git import LANDING
from cd4ml.index.fold import check_landed
from cd4ml.index.record import RunRecord, encode
from cd4ml.plan.state import DesiredState, Experiment

_KEPT = 100


def drop_old_drafts(project: Project) -> None:
    """Forget all runs of the work tree but the newest 100, and what was read of drafts that are gone.

    Drafts of branches stay.
    """
    for name, draft in list(project.repository.drafts_by_age().items())[:-_KEPT]:
        if work_tree_run(project, name, draft.commit) is not None:
            project.repository.drop_draft(name)
    there = {draft.commit for draft in project.repository.drafts_by_age().values()}
    for path in (project.private / DRAFTS_READ).glob("*.json"):
        if path.stem not in there:
            path.unlink(missing_ok=True)


def work_tree_run(project: Project, name: str, commit: str) -> RunRecord | None:
    """The run that a draft holds, if it is one of the work tree."""
    try:
        record = check_landed(read_landed(project, LANDING + name, commit))
    except IntegrityError:
        return None
    return record if isinstance(record, RunRecord) and is_of_work_tree(record.branch) else None


def adoptable(project: Project, desired: DesiredState, also: Set[str]) -> tuple[tuple[str, RunRecord], ...]:
    """The runs of the work tree that a pushed branch (or one of ``also``) asks for, each with its draft's commit.

    Only those on a commit that such a branch has too: with a run's commit its history travels, and what is not
    pushed is nobody else's.
    """
    drafts = project.repository.drafts_by_age()
    base = next(one.commit for one in desired.experiments if one.is_base)
    asking = _by_fingerprint((one for one in desired.experiments if one.published or one.branch in also), base)
    found = []
    for name, draft in drafts.items():
        heads = asking.get(draft.fingerprint, ())
        run = work_tree_run(project, name, draft.commit) if heads else None
        if run is None or run.fingerprint != draft.fingerprint or (run.reason or {}).get("kind") == "transient":
            continue
        (parent,) = project.repository.commit_info(run.commit).parents
        if any(project.repository.is_ancestor(parent, head) for head in heads):
            found.append((draft.commit, run))
    return tuple(found)


def adopt(project: Project, storage: Storage, desired: DesiredState, also: Set[str]) -> None:
    """Land the runs of the work tree that branches ask for; see ``adoptable``. Raises RemoteError, IntegrityError."""
    for commit, run in adoptable(project, desired, also):
        publish_draft(project, storage, commit, encode(run.body), run)


def _by_fingerprint(experiments: Iterable[Experiment], base: str) -> Mapping[str, tuple[str, ...]]:
    """Commits of the heads that ask for a fingerprint, as they stand or as merged."""
    found: dict[str, tuple[str, ...]] = {}
    for one in experiments:
        for target in (one.head, one.merge):
            if target is not None and target.fingerprint:
                # of a merge result, whose commit need not exist, its parents
                commits = (target.commit,) if target.commit == one.commit else (one.commit, base)
                found[target.fingerprint] = (*found.get(target.fingerprint, ()), *commits)
    return found
