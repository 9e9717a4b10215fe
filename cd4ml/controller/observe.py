"""Desired and observed state, read from Git.

Desired is what the remote's heads ask for; observed is what the index holds and what has landed since.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase

from cd4ml.controller.landed import read_history
from cd4ml.controller.project import Project
from cd4ml.controller.specs import Asked, Base, asked_of, spec_of
from cd4ml.errors import ConfigError, IntegrityError, Problem, RepositoryError, ToolError, UsageError
from cd4ml.gateways.git import INDEX_BRANCH, CommitInfo, RemoteState
from cd4ml.index.history import History
from cd4ml.plan.state import DesiredState, Experiment, Target
from cd4ml.spec.experiment import Spec

_FIRST_PARENTS = 500
_MERGE_MESSAGE = "Merge result, made by cd4ml to be run before the merge\n"


@dataclass(frozen=True)
class Observation:
    """Everything that a plan is made from, and what its actions will need.

    ``policy`` is the base branch's spec (gates, allow-lists, executor, templates are its); ``asked`` holds
    what each target commit asks for. ``unreadable`` has a line for each branch whose objects are damaged here, by
    branch: that says nothing of the experiment, so nothing is done or recorded for it.
    """

    remote: RemoteState
    base_commit: str
    policy: Spec
    desired: DesiredState
    history: History
    asked: Mapping[str, Asked]
    unreadable: Mapping[str, str] = field(default_factory=dict)


def observe(project: Project) -> Observation:
    """Fetch and read everything. Raises RemoteError, RepositoryError, ConfigError for the base branch's conf.

    Side effects: refs under ``refs/cd4ml/remote/``, objects of merge results, remembered compositions.
    """
    return observe_state(project, project.repository.fetch(project.remote))


def observe_state(project: Project, remote: RemoteState) -> Observation:
    """The same for what a fetch saw. Raises RepositoryError, ConfigError for the base branch's conf."""
    base_commit = remote.heads.get(project.base)
    if base_commit is None:
        raise project.without_base()
    policy, _ = spec_of(project, base_commit)
    history = read_history(project, remote, drafts=False)
    asked: dict[str, Asked] = {}
    unreadable: dict[str, str] = {}
    base = Base(base_commit, policy)
    experiments = [_experiment(project, project.base, base_commit, base, asked, is_base=True)]
    local = project.repository.local_heads() if project.has_remote else {}
    for branch, commit in sorted(_heads(project, remote, local, policy).items()):
        published = remote.heads.get(branch) == commit
        try:
            one = _experiment(project, branch, commit, base, asked, published=published)
        except IntegrityError as error:
            unreadable[branch] = f"{branch}: {error}"
            one = _damaged(branch, commit, str(error), published=published)
        experiments.append(replace(one, unpushed=_ahead(project, local.get(branch), commit)))
    desired = DesiredState(
        base=project.base,
        experiments=tuple(experiments),
        base_fingerprints=_base_fingerprints(project, base_commit, history),
        base_commits=_recorded_in_base(project, base_commit, history),
        base_first_parents=frozenset(project.repository.first_parents(base_commit)),
    )
    return Observation(
        remote, base_commit, policy, desired, _with_drafts(project, remote, history, desired), asked, unreadable
    )


def _with_drafts(project: Project, remote: RemoteState, history: History, desired: DesiredState) -> History:
    """The history with the runs of branches that are not pushed.

    Not those that a pushed branch asks for as well: its record would name a run that others cannot see.
    """
    if not remote.drafts:
        return history
    pushed = {
        target.fingerprint
        for one in desired.experiments
        if one.published
        for target in (one.head, one.merge)
        if target is not None
    }
    known = {entry.run.id for entry in history.runs}
    drafts = [
        entry.entry
        for entry in read_history(project, remote).runs
        if entry.run.id not in known and entry.run.fingerprint not in pushed
    ]
    recorded = [*(entry.entry for entry in history.runs), *(entry.entry for entry in history.experiments)]
    return History.of([*recorded, *drafts])


def _ahead(project: Project, local: str | None, commit: str) -> str | None:
    """The local head where it holds what the remote's head does not; nothing where it does not, or is the head."""
    if local is None or local == commit or project.repository.is_ancestor(local, commit):
        return None
    return local


def _heads(project: Project, remote: RemoteState, local: Mapping[str, str], policy: Spec) -> dict[str, str]:
    """The experiment branches: the remote's, and local ones that the remote does not have."""

    def matches(branch: str) -> bool:
        named = any(fnmatchcase(branch, pattern) for pattern in policy.experiments.branches)
        return named and branch not in (project.base, INDEX_BRANCH)

    return {branch: commit for branch, commit in {**local, **remote.heads}.items() if matches(branch)}


def _experiment(
    project: Project,
    branch: str,
    commit: str,
    base: Base,
    asked: dict[str, Asked],
    *,
    is_base: bool = False,
    published: bool = True,
) -> Experiment:
    repository = project.repository
    info = repository.commit_info(commit)
    head = _target(project, "head", commit, info.tree, base, asked)
    merge, conflicts = (None, ()) if is_base else _merge_target(project, info, head, base, asked)
    spec = asked[commit].spec if commit in asked else None
    return Experiment(
        branch=branch,
        commit=commit,
        is_base=is_base,
        author=info.author,
        committed=info.committed,
        name=spec.name if spec else branch,
        hypothesis=spec.hypothesis if spec else "",
        tags=spec.tags if spec else (),
        head=head,
        merge=merge,
        conflicts=conflicts,
        published=published,
        ancestor_of_base=not is_base and repository.is_ancestor(commit, base.commit),
    )


def _damaged(branch: str, commit: str, message: str, *, published: bool) -> Experiment:
    head = Target("head", commit, "", None, (Problem(commit[:12], "", message),))
    return Experiment(
        branch=branch,
        commit=commit,
        is_base=False,
        author="",
        committed="",
        name=branch,
        hypothesis="",
        tags=(),
        head=head,
        merge=None,
        conflicts=(),
        published=published,
        ancestor_of_base=False,
    )


def _target(project: Project, side: str, commit: str, tree: str, base: Base, asked: dict[str, Asked]) -> Target:
    try:
        found = asked.get(commit) or asked_of(project, tree, base)
    except ConfigError as error:
        return Target("merge" if side == "merge" else "head", commit, tree, None, error.problems)
    except (IntegrityError, ToolError) as error:
        raise IntegrityError(f"{commit[:12]} cannot be read, see `git fsck`: {error}") from error
    except Exception as error:  # noqa: BLE001  # whatever a branch brings, the others must still be seen
        problem = Problem("conf/", "", f"cannot be read: {type(error).__name__}")
        return Target("merge" if side == "merge" else "head", commit, tree, None, (problem,))
    asked[commit] = found
    return Target("merge" if side == "merge" else "head", commit, tree, found.components)


def _merge_target(
    project: Project, info: CommitInfo, head: Target, base: Base, asked: dict[str, Asked]
) -> tuple[Target | None, tuple[str, ...]]:
    """What merging this head into the base branch gives: decision 5 of the design.

    The merge commit is made the same by everyone: its dates and identity come from the head.
    """
    try:
        tree, conflicts = project.repository.merge_tree(base.commit, info.commit)
    except RepositoryError as error:
        return None, (str(error),)
    if tree is None:
        return None, conflicts
    if tree == info.tree:
        return Target("merge", head.commit, head.tree, head.components, head.problems), ()
    identity = {
        "GIT_AUTHOR_NAME": "cd4ml",
        "GIT_AUTHOR_EMAIL": "cd4ml@localhost",
        "GIT_AUTHOR_DATE": info.committed,
        "GIT_COMMITTER_NAME": "cd4ml",
        "GIT_COMMITTER_EMAIL": "cd4ml@localhost",
        "GIT_COMMITTER_DATE": info.committed,
    }
    try:
        commit = project.repository.commit_tree(tree, (base.commit, info.commit), _MERGE_MESSAGE, identity)
    except ToolError as error:
        return None, (f"{info.commit[:12]} cannot be merged: {error}",)
    return _target(project, "merge", commit, tree, base, asked), ()


def _base_fingerprints(project: Project, base_commit: str, history: History) -> frozenset[str]:
    """Fingerprints of the base branch's first-parent commits: recorded ones, and those that came since."""
    recorded = {entry.experiment.commit: entry.experiment.fingerprint for entry in history.of_branch(project.base)}
    found: set[str] = set()
    for commit in project.repository.first_parents(base_commit)[:_FIRST_PARENTS]:
        if commit in recorded:
            found.update(value for value in recorded.values() if value)
            break
        try:
            found.add(asked_of(project, commit).components.fingerprint)
        except ConfigError:
            continue  # a commit that asked for nothing valid has no fingerprint to share
    return frozenset(found)


def _recorded_in_base(project: Project, base_commit: str, history: History) -> frozenset[str]:
    """Recorded commits of experiments that the base branch contains."""
    commits = {entry.experiment.commit for entry in history.experiments if entry.experiment.branch != project.base}
    if not commits:
        return frozenset()
    contained = project.repository.git("rev-list", base_commit).text.split()
    return frozenset(commits.intersection(contained))


def known_branches(project: Project, names: list[str]) -> frozenset[str]:
    """The whole names of branches given with or without the prefix of the experiments' pattern.

    Raises UsageError for a name that no head and no record bears, with the nearest that one does.
    """
    remote = project.repository.fetch(project.remote)
    known = {*remote.heads, *project.repository.local_heads(), *read_history(project, remote).branches}
    base_commit = remote.heads.get(project.base)
    patterns = spec_of(project, base_commit)[0].experiments.branches if base_commit else ()
    prefixes = ["", *(pattern[:-1] for pattern in patterns if pattern.endswith("*"))]
    found = set()
    for name in names:
        full = next((prefix + name for prefix in prefixes if prefix + name in known), None)
        if full is None:
            near = get_close_matches(name, sorted(known), 1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise UsageError(f"{name}: no branch of that name here or on {project.remote}{hint}")
        found.add(full)
    return frozenset(found)
