"""Take the base branch in: one merge commit on an experiment branch, made without a work tree.

Files are merged as Git does. The configuration is merged as what it *means*: the resolved values of both sides
since they parted, written as the base branch's files and the branch's own experiment file. So a second pull
request is no conflict in YAML, and a file that was copied from an older base branch takes nothing back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cd4ml.controller.desired.scaffold import load_templates
from cd4ml.controller.desired.specs import spec_of
from cd4ml.controller.editing.merge import merged_conf
from cd4ml.controller.landing import trust
from cd4ml.controller.project import CONF, Project
from cd4ml.controller.reconciling.observe import known_branches
from cd4ml.errors import RepositoryError, UsageError
from cd4ml.gateways.git import RemoteState
from cd4ml.render.artifacts import render_pipeline
from cd4ml.spec.merge import BothChanged
from cd4ml.spec.pipeline import PIPELINE_FILE

_SHOWN = 5


@dataclass(frozen=True)
class Updated:
    """A branch with the base branch taken in. ``updated`` is false where it had been before."""

    branch: str
    commit: str
    updated: bool
    pushed: bool = False
    both_changed: tuple[BothChanged, ...] = ()


def update_branch(project: Project, name: str, *, push: bool) -> Updated:
    """Merge the remote's base branch into a branch (the current one, for ``""``) and move its local head.

    The work tree follows when the branch is checked out in it, and is not touched otherwise. Raises UsageError
    for a branch that cannot be updated, RepositoryError where files other than the configuration conflict or
    the work tree has changes, ConfigError where a configuration cannot be read or merged.
    """
    state = trust.fetch(project)
    base_commit = state.heads.get(project.base)
    if base_commit is None:
        raise project.without_base()
    branch = _branch(project, name)
    head, local = _head(project, branch, state)
    if project.repository.is_ancestor(base_commit, head):
        return Updated(branch, head, updated=False)
    here = _is_here(project, branch)
    commit, both_changed = _merge(project, branch, head, base_commit)
    if here:
        project.repository.fast_forward(commit)
    else:
        project.repository.move_branch(branch, commit, local)
    pushing = push and project.has_remote
    if pushing:
        project.repository.push_head(project.remote, branch, state.heads.get(branch, ""), commit)
    return Updated(branch, commit, updated=True, pushed=pushing, both_changed=both_changed)


def _branch(project: Project, name: str) -> str:
    if name:
        (branch,) = known_branches(project, [name])
    else:
        current = project.repository.current_branch()
        if current is None:
            raise UsageError("HEAD is detached: name the branch to update")
        branch = current
    if branch == project.base:
        raise UsageError(f"{branch} is the base branch: name the branch that is to take it in")
    return branch


def _head(project: Project, branch: str, state: RemoteState) -> tuple[str, str]:
    """The newest head, here or on the remote, and the local one (``""`` when there is none)."""
    local, remote = project.repository.local_heads().get(branch, ""), state.heads.get(branch, "")
    if not local and not remote:
        raise UsageError(f"{branch}: has no commit here or on {project.remote}")
    if not remote or (local and project.repository.is_ancestor(remote, local)):
        return local, local
    if not local or project.repository.is_ancestor(local, remote):
        return remote, local
    raise RepositoryError(
        f"{branch}: the commits here and on {project.remote} have gone apart: bring them together first (`git pull`)"
    )


def _is_here(project: Project, branch: str) -> bool:
    """Is the branch checked out in this work tree? Raises RepositoryError for one that cannot follow."""
    repository = project.repository
    if repository.work_tree is not None and repository.current_branch() == branch:
        changed = repository.uncommitted()
        if changed:
            more = f" (+{len(changed) - _SHOWN} more)" if len(changed) > _SHOWN else ""
            raise RepositoryError(
                f"{branch} is checked out with uncommitted changes in {', '.join(changed[:_SHOWN])}{more}: "
                "commit or stash them first"
            )
        return True
    place = repository.worktree_of(branch)
    if place is not None:
        raise RepositoryError(f"{branch} is checked out in {place}: run `cd4ml update` there")
    return False


def _merge(project: Project, branch: str, head: str, base_commit: str) -> tuple[str, tuple[BothChanged, ...]]:
    repository = project.repository
    parted = repository.merge_base(head, base_commit)
    if parted is None:
        raise RepositoryError(f"{branch}: shares no history with {project.base}")
    tree, conflicts = repository.merged_tree(head, base_commit)
    others = sorted(path for path in conflicts if not path.startswith(f"{CONF}/") and path != PIPELINE_FILE)
    if others:
        raise RepositoryError(
            f"{branch} and {project.base} conflict in {', '.join(others)}: "
            f"merge them by hand (`git merge {project.remote}/{project.base}`)"
        )
    in_conf = any(path.startswith(f"{CONF}/") for path in conflicts)
    conf, both_changed = merged_conf(project, branch, parted, head, base_commit, "" if in_conf else tree)
    if conf is not None:
        tree = repository.write_tree(tree, conf, without=CONF)
    tree = repository.write_tree(tree, _rendered(project, tree, base_commit))
    keys = "".join(f"- {one.key}\n" for one in both_changed)
    told = f"\nBoth changed, and the branch's value was kept:\n{keys}" if keys else ""
    commit = repository.commit_tree(tree, (head, base_commit), f"Take {project.base} into {branch}\n{told}")
    return commit, both_changed


def _rendered(project: Project, tree: str, base_commit: str) -> Mapping[str, bytes]:
    """``dvc.yaml`` as the merged configuration renders it, where the branch has one."""
    if project.repository.entry(tree, PIPELINE_FILE) is None:
        return {}
    spec, _ = spec_of(project, tree)
    return {PIPELINE_FILE: render_pipeline(spec, load_templates(project, base_commit)).encode()}
