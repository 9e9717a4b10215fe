"""Desired and observed state, read from Git.

Desired is what the remote's heads ask for; observed is what the index holds and what has landed since.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase

from cd4ml.controller.desired.heads import FIRST_PARENTS, Head, HeadReader
from cd4ml.controller.desired.specs import Asked, Base, asked_of, spec_of
from cd4ml.controller.landing import trust
from cd4ml.controller.landing.landed import read_drafts, read_history
from cd4ml.controller.project import Project
from cd4ml.controller.reconciling.claims import running_elsewhere
from cd4ml.controller.reconciling.gone import GoneFacts, recorded_on_base
from cd4ml.errors import IntegrityError, Problem, UsageError
from cd4ml.gateways.git import INDEX_BRANCH, RemoteState
from cd4ml.index.claims import Claim
from cd4ml.index.history import History
from cd4ml.index.record import RunRecord
from cd4ml.plan.state import DesiredState, Experiment, Target
from cd4ml.spec.experiment import Spec


@dataclass(frozen=True)
class Observation:
    """Everything that a plan is made from, and what its actions will need.

    ``policy`` is the base branch's spec (gates, allow-lists, executor, templates are its); ``asked`` holds
    what each target commit asks for. ``unreadable`` has a line for each branch whose objects are damaged here, by
    branch: that says nothing of the experiment, so nothing is done or recorded for it. ``elsewhere`` are the claims of
    other reconcilers that are believed, by fingerprint.
    """

    remote: RemoteState
    base_commit: str
    policy: Spec
    desired: DesiredState
    history: History
    asked: Mapping[str, Asked]
    unreadable: Mapping[str, str] = field(default_factory=dict)
    elsewhere: Mapping[str, Claim] = field(default_factory=dict)


def observe(project: Project) -> Observation:
    """Fetch and read everything. Raises RemoteError, RepositoryError, ConfigError for the base branch's conf.

    Side effects: refs under ``refs/cd4ml/remote/``, objects of merge results, remembered compositions.
    """
    return observe_state(project, trust.fetch(project))


def observe_state(project: Project, remote: RemoteState, *, memory: bool = True) -> Observation:
    """The same for what a fetch saw; without ``memory``, nothing is taken from it or put into it.

    Raises RepositoryError, ConfigError for the base branch's conf.
    """
    base_commit = remote.heads.get(project.base)
    if base_commit is None:
        raise project.without_base()
    policy, _ = spec_of(project, base_commit)
    history = read_history(project, remote, drafts=False)
    reader = HeadReader(project, Base(base_commit, policy), memory=memory)
    local = project.repository.local_heads() if project.has_remote else {}
    named = _heads(project, remote, local, policy)
    vanished = _vanished(project, remote, history, policy)
    gone = _gone(reader, history, {one: commit for one, commit in named.items() if one not in remote.heads}, vanished)
    heads = {one: commit for one, commit in named.items() if one not in gone}
    commits = dict.fromkeys([base_commit, *heads.values(), *(commit for _, commit in vanished)])
    found = reader.read(commits)
    main = found[base_commit]
    if isinstance(main, IntegrityError):
        raise main
    behind = _pushed_already(reader, heads, local)
    unreadable: dict[str, str] = {}
    experiments = [_experiment(project.base, main, is_base=True)]
    for branch, commit in sorted(heads.items()):
        published = remote.heads.get(branch) == commit
        head = found[commit]
        if isinstance(head, IntegrityError):
            unreadable[branch] = f"{branch}: {head}"
            one = _damaged(branch, commit, str(head), published=published)
        else:
            one = _experiment(branch, head, published=published)
        mine = local.get(branch)
        ahead = mine if mine is not None and mine != commit and (mine, commit) not in behind else None
        experiments.append(replace(one, unpushed=ahead))
    known = {commit: head for commit, head in found.items() if isinstance(head, Head)}
    before = _base_before(project, remote, history, policy)
    facts = GoneFacts(project, reader, history, experiments, (*before, project.base))
    desired = DesiredState(
        base=project.base,
        experiments=tuple(experiments),
        base_fingerprints=_base_fingerprints(project, reader, history, (*before, project.base)),
        base_commits=facts.base_commits,
        base_first_parents=frozenset(reader.base_chain),
        landed_as=facts.landed_as({commit: head.landed_as for commit, head in known.items() if head.landed_as}),
        vanished=tuple(_experiment(branch, known[commit]) for branch, commit in vanished if commit in known),
        base_before=before,
        brought_by=facts.brought_by,
        base_asked=facts.base_asked,
        continued_by=facts.continued_by,
        begun_anew=facts.begun_anew,
        signed=facts.signed,
    )
    seen = _with_drafts(project, remote, history, desired)
    elsewhere = running_elsewhere(project, remote, policy)
    asked = AskedTargets(project, reader, tuple(known.values()))
    return Observation(remote, base_commit, policy, desired, seen, asked, unreadable, elsewhere)


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
    return history.with_later(
        entry
        for entry in read_drafts(project, remote)
        if isinstance(entry.record, RunRecord) and entry.record.fingerprint not in pushed
    )


def _pushed_already(
    reader: HeadReader, heads: Mapping[str, str], local: Mapping[str, str]
) -> frozenset[tuple[str, str]]:
    """Local heads that the branch's head holds already, each with that head."""
    pairs = {(local[branch], commit) for branch, commit in heads.items() if local.get(branch, commit) != commit}
    return frozenset(pair for pair, held in reader.are_ancestors(pairs).items() if held)


def _vanished(project: Project, remote: RemoteState, history: History, policy: Spec) -> tuple[tuple[str, str], ...]:
    """Experiments that an earlier fetch saw, that are gone, and that nobody has recorded; the others are forgotten.

    One that is recorded under another name that is at its commit was renamed. Nothing is forgotten while the index is
    to be restored: ``restore`` tells what went with it, recorded or not.
    """
    gone_at = {commit for _, commit in remote.vanished}
    names: dict[str, list[str]] = {}
    for name, commit in remote.heads.items():
        if commit in gone_at and is_experiment(project, name, policy):
            names.setdefault(commit, []).append(name)
    wanted = tuple(
        (branch, commit)
        for branch, commit in remote.vanished
        if is_experiment(project, branch, policy)
        and remote.heads.get(branch) != commit
        and not any(
            entry.experiment.commit == commit
            for name in (branch, *names.get(commit, ()))
            for entry in history.of_branch(name)
        )
    )
    if not remote.is_index_remembered:
        project.repository.drop_vanished([one for one in remote.vanished if one not in wanted])
    return wanted


def _heads(project: Project, remote: RemoteState, local: Mapping[str, str], policy: Spec) -> dict[str, str]:
    """The experiment branches: the remote's, and local ones that the remote does not have."""
    everyone = {**local, **remote.heads}
    return {branch: commit for branch, commit in everyone.items() if is_experiment(project, branch, policy)}


def _gone(
    reader: HeadReader, history: History, alone: Mapping[str, str], vanished: Collection[tuple[str, str]]
) -> frozenset[str]:
    """Branches that are in this clone alone since the remote dropped them: all that they hold was there.

    It was recorded, or is among the ``vanished``, which will be. They are gone for everybody else, too. A branch with
    a commit that the remote never had is one to be pushed.
    """
    known = history.looked_up(alone, ()) if alone else history
    recorded = {branch: entries[-1].experiment.commit for branch in alone if (entries := known.of_branch(branch))}
    held = reader.are_ancestors({(alone[branch], commit) for branch, commit in recorded.items()})
    dropped = {branch for branch, commit in recorded.items() if held[alone[branch], commit]}
    return frozenset(dropped | {branch for branch, commit in vanished if alone.get(branch) == commit})


def is_experiment(project: Project, branch: str, policy: Spec) -> bool:
    """Has the branch a name that the base branch's policy takes for an experiment's?"""
    named = any(fnmatchcase(branch, pattern) for pattern in policy.experiments.branches)
    return named and branch not in (project.base, INDEX_BRANCH)


def _experiment(branch: str, head: Head, *, is_base: bool = False, published: bool = True) -> Experiment:
    own, merge = head.asks, head.merge
    return Experiment(
        branch=branch,
        commit=head.commit,
        is_base=is_base,
        author=head.author,
        committed=head.committed,
        name=own.name if own.components else branch,
        hypothesis=own.hypothesis,
        tags=own.tags,
        head=Target("head", head.commit, head.tree, own.components, own.problems),
        merge=Target("merge", merge.commit, merge.tree, merge.asks.components, merge.asks.problems)
        if merge and not is_base
        else None,
        conflicts=() if is_base else head.conflicts,
        published=published,
        ancestor_of_base=not is_base and head.in_base,
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


class AskedTargets(Mapping[str, Asked]):
    """What heads and their merge results ask for, completely, by commit.

    Worked out when it is asked for, that is, for what is to be run; the commit of a merge result exists from then on.
    """

    def __init__(self, project: Project, reader: HeadReader, heads: tuple[Head, ...]) -> None:
        self._project = project
        self._reader = reader
        merges = {head.merge.commit: (head, head.merge.tree) for head in heads if head.merge}
        self._heads = {**merges, **{head.commit: (head, head.tree) for head in heads}}
        self._known: dict[str, Asked] = {}
        self._working = threading.Lock()

    def __getitem__(self, commit: str) -> Asked:
        """Raises ConfigError for what was refused, KeyError for what is no target."""
        head, tree = self._heads[commit]
        with self._working:
            if commit not in self._known:
                if commit != head.commit:
                    self._reader.make_merge(head)
                self._known[commit] = asked_of(self._project, tree, self._reader.base)
            return self._known[commit]

    def __iter__(self) -> Iterator[str]:
        return iter(self._heads)

    def __len__(self) -> int:
        return len(self._heads)


def _base_before(project: Project, remote: RemoteState, history: History, policy: Spec) -> tuple[str, ...]:
    """Names of no experiment that are gone, and that the base branch was last recorded under."""
    gone = [one for one in history.branches if one not in remote.heads and one != project.base]
    others = [one for one in gone if not is_experiment(project, one, policy)]
    known = history.looked_up(others, ()) if others else history
    return tuple(one for one in others if known.of_branch(one)[-1].experiment.body["is_base"])


def _base_fingerprints(project: Project, reader: HeadReader, history: History, names: Sequence[str]) -> frozenset[str]:
    """Fingerprints of the base branch's first-parent commits: recorded ones, and those that came since."""
    chain = reader.base_chain
    recorded = {one.commit: one.fingerprint for one in recorded_on_base(project, history, chain, names)}
    found: set[str] = set()
    since: list[str] = []
    for commit in chain[:FIRST_PARENTS]:
        if commit in recorded:
            found.update(value for value in recorded.values() if value)
            break
        since.append(commit)
    # a commit that asked for nothing valid has no fingerprint to share
    asks = reader.asks_alone(since).values()
    return frozenset(found | {one.components.fingerprint for one in asks if one.components})


def known_branches(project: Project, names: list[str]) -> frozenset[str]:
    """The whole names of branches given with or without the prefix of the experiments' pattern.

    Raises UsageError for a name that no head and no record bears, with the nearest that one does.
    """
    return _known_branches(project, trust.read(project, quiet=True), names)


def _known_branches(project: Project, remote: RemoteState, names: list[str]) -> frozenset[str]:
    known = {*remote.heads, *project.repository.local_heads(), *read_history(project, remote).branches}
    base_commit = remote.heads.get(project.base)
    patterns = spec_of(project, base_commit)[0].experiments.branches if base_commit else ()
    return frozenset(_whole_name(project, name, known, patterns) for name in names)


def named_experiments(project: Project, names: list[str]) -> frozenset[str]:
    """The same for names of which each is to be the base branch's or an experiment's, or was recorded as that.

    Raises UsageError for any other, of which nothing would ever be planned.
    """
    remote = trust.read(project, quiet=True)
    found = _known_branches(project, remote, names)
    base_commit = remote.heads.get(project.base)
    if base_commit is not None:
        policy, recorded = spec_of(project, base_commit)[0], read_history(project, remote).branches
        for name in sorted(found - {project.base}):
            if name not in recorded and not is_experiment(project, name, policy):
                raise UsageError(f"{name}: {no_experiment(project, policy)}")
    return found


def no_experiment(project: Project, policy: Spec) -> str:
    """Why a branch is not an experiment."""
    patterns = " or ".join(policy.experiments.branches)
    return f"is no experiment: on {project.base}, experiments.branches asks for a name like {patterns}"


def _whole_name(project: Project, name: str, known: Collection[str], patterns: tuple[str, ...]) -> str:
    prefixes = ["", *(pattern[:-1] for pattern in patterns if pattern.endswith("*"))]
    full = next((prefix + name for prefix in prefixes if prefix + name in known), None)
    if full is None:
        near = get_close_matches(name, sorted(known), 1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise UsageError(f"{name}: no branch of that name here or on {project.remote}{hint}")
    return full


def observed_branch(project: Project, observation: Observation, name: str) -> Experiment:
    """What one branch asks for, whatever the pattern says: the remote's head, one that is here alone, or, of a branch
    that is gone, the commit that was recorded last.

    The name is taken with or without the prefix of the experiments' pattern. Raises UsageError for a name that no head
    and no record bears, IntegrityError where its objects are damaged or gone. Side effects: those of ``HeadReader``.
    """
    heads, local = observation.remote.heads, project.repository.local_heads()
    patterns = observation.policy.experiments.branches
    branch = _whole_name(project, name, {*heads, *local, *observation.history.branches} - {INDEX_BRANCH}, patterns)
    known = next((one for one in observation.desired.experiments if one.branch == branch), None)
    if known is not None:
        if branch in observation.unreadable:
            raise IntegrityError(observation.unreadable[branch])
        return known
    commit = heads.get(branch) or local.get(branch)
    if commit is None:
        commit = observation.history.of_branch(branch)[-1].experiment.commit
        if project.repository.resolve(commit) is None:
            raise IntegrityError(
                f"{branch}: is gone, and the commit that was recorded last ({commit[:12]}) is not here"
            )
    found = HeadReader(project, Base(observation.base_commit, observation.policy)).read([commit])[commit]
    if isinstance(found, IntegrityError):
        raise found
    return _experiment(branch, found, published=branch in heads)
