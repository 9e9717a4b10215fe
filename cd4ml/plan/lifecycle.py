"""What became of a branch: open, merged or discarded; by whom, and when, as far as Git tells.

Nothing depends on ancestry alone, so squash and rebase work. A branch is merged when

- the base branch contains its recorded commit, or
- the base branch has a commit with a fingerprint that the branch's record claims (its own or that of its merge
  result), or
- a commit on the base branch's first-parent chain holds exactly what merging the branch at that place gives, and is
  no older than the branch's. This one needs no record and no fingerprint: it tells a squash that was first looked at
  after the base branch had moved on, and one whose fingerprint the project's own metrics moved.

A commit that the base branch contains beside its first-parent chain came by a merge commit, and is merged.

A branch that only repeats what the base branch had before it, as a fresh ``git branch exp/x main`` does,
meets the first two tests and was never merged; its commit is on that chain, as after a fast-forward. The fold order
tells the two apart: the claim must be the branch's own, that is, no record of the base branch with that
commit or that fingerprint lies in the same fold or an earlier one. An experiment that changes no fingerprint
and was not merged by a merge commit therefore stays open until it is deleted, and reads "already run".

A name can have several lives. Commits that were recorded for one name belong to one life as long as each next one
goes on from the one before, or rewrites it (a rebase or an amended commit keeps who wrote what and when); one that
shares nothing but the base branch begins the next. What became of an earlier life does not change any more but by
being merged: a new branch under an old name opens nothing again.

A branch that is gone while another one has its commit, or went on from it, was renamed: when no record of the other
is as old as its own last one. What was seen beside it before is a branch of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise, zip_longest

from cd4ml.index.history import ExperimentEntry, History
from cd4ml.plan.state import DesiredState, Experiment, Lifecycle


@dataclass(frozen=True)
class Became:
    """What became of a branch, or of one life of it.

    ``commit`` is, of a merged one, the commit of the base branch that brought it (``""`` when nobody can tell) and
    otherwise the last commit that is known of it. ``by`` and ``when`` (``Name <address>``, ISO 8601 in UTC) are, of
    a merged one, the committer and the time of that commit. Git does not tell who deleted a branch: of a discarded
    one they are who recorded it last, and when, so that it was there until then at least. Of an open one they are
    empty. ``renamed`` is the name that the branch goes
    by now.
    """

    lifecycle: Lifecycle
    by: str = ""
    when: str = ""
    commit: str = ""
    renamed: str = ""


@dataclass(frozen=True)
class Lives:
    """``became`` is what became of the branch as last known; ``earlier`` what of commits that fared otherwise."""

    became: Became
    earlier: Mapping[str, Became] = field(default_factory=dict)

    def of(self, commit: str) -> Became:
        """What became of the branch as it was at a recorded commit."""
        return self.earlier.get(commit, self.became)


@dataclass(frozen=True)
class BaseRecord:
    """The earliest folds in which the base branch was recorded with each commit and each fingerprint.

    Under a name that it had before, what is on its first-parent chain counts alone: another branch, which it took in
    since, may have been the base of somebody.
    """

    first_fold: dict[str, int]

    @classmethod
    def of(cls, history: History, desired: DesiredState) -> BaseRecord:
        first: dict[str, int] = {}
        for branch in desired.base_names:
            for entry in history.of_branch(branch):
                if branch != desired.base and entry.experiment.commit not in desired.base_first_parents:
                    continue
                for name in (entry.experiment.commit, entry.experiment.fingerprint):
                    if name is not None:
                        first[name] = min(first.get(name, entry.entry.fold), entry.entry.fold)
        return cls(first)

    def had(self, name: str | None, fold: int) -> bool:
        """Was this commit or fingerprint recorded for the base branch in ``fold`` or earlier?"""
        return name is not None and self.first_fold.get(name, fold + 1) <= fold


def came_by_merge(commit: str, contained: bool, desired: DesiredState) -> bool:
    """Does the base branch have the commit from the other side of a merge? False where nobody asked for its chain."""
    chain = desired.base_first_parents
    return contained and bool(chain) and commit not in chain


def merged_unrecorded(asked: Experiment, desired: DesiredState) -> bool:
    """Is a head merged, as far as that can be told of one that was never recorded?"""
    return not asked.is_base and (
        came_by_merge(asked.commit, asked.ancestor_of_base, desired) or asked.commit in desired.landed_as
    )


def last_record_if_merged(
    asked: Experiment, history: History, desired: DesiredState, base: BaseRecord
) -> ExperimentEntry | None:
    """The last record of an existing branch's head when it is merged; nothing when it is open."""
    records = [entry for entry in history.of_branch(asked.branch) if entry.experiment.commit == asked.commit]
    if asked.is_base or not records or not is_merged(records, asked.ancestor_of_base, desired, base):
        return None
    return records[-1]


def is_merged(records: Sequence[ExperimentEntry], contained: bool, desired: DesiredState, base: BaseRecord) -> bool:
    """Is one commit merged, given all records of it in fold order? ``contained``: the base has the commit."""
    return merged_as(records, contained, desired, base) is not None


def merged_as(
    records: Sequence[ExperimentEntry], contained: bool, desired: DesiredState, base: BaseRecord
) -> str | None:
    """The commit of the base branch that brought a merged one (``""`` when unknown); nothing when it is not merged."""
    first = records[0]
    commit = first.experiment.commit
    if came_by_merge(commit, contained, desired):
        return desired.brought_by.get(commit, "")
    if contained and not _repeats(first, commit, first.experiment.fingerprint, base):
        return desired.brought_by.get(commit, "")
    for entry in records:
        for fingerprint in (entry.experiment.fingerprint, entry.experiment.merge_fingerprint):
            if fingerprint in desired.base_fingerprints and not base.had(fingerprint, entry.entry.fold):
                return desired.landed_as.get(commit) or desired.base_asked.get(fingerprint, "")
    return desired.landed_as.get(commit)


def _repeats(entry: ExperimentEntry, commit: str, fingerprint: str | None, base: BaseRecord) -> bool:
    fold = entry.entry.fold
    return base.had(commit, fold) or base.had(fingerprint, fold)


def lives_of(
    branch: str, history: History, desired: DesiredState, base: BaseRecord, present: Experiment | None = None
) -> Lives:
    """What became of a branch and of its earlier lives; ``present`` is what its head asks for, if it is there.

    The branch has a record, or is there. A name that the base branch had before goes by its present one.
    """
    if branch in desired.base_before and present is None:
        last = history.of_branch(branch)[-1].experiment.commit
        return Lives(Became(Lifecycle.OPEN, commit=last, renamed=desired.base))
    records = _by_commit(history.of_branch(branch))
    commits = succession(branch, history, present)
    own = {commit: _own_fate(commit, records.get(commit, ()), desired, base, present) for commit in commits}
    lives = _split(commits, desired)
    latest = _fate_of_last(lives[-1][-1], own, records, history, desired, base, present)
    earlier: dict[str, Became] = {}
    for life, after in zip_longest(lives, lives[1:]):
        ended = life[-1]
        began = next((entry.entry.fold for commit in after or () for entry in records.get(commit, ())), None)
        fate = latest if after is None else own[ended] or _fate_of_gone(records[ended], history, desired, base, began)
        earlier |= {commit: own[commit] or fate for commit in life}
    return Lives(latest, {commit: fate for commit, fate in earlier.items() if fate != latest})


def succession(branch: str, history: History, present: Experiment | None = None) -> tuple[str, ...]:
    """The recorded commits of a branch in the order in which they were last recorded; its head comes last."""
    head = (present.commit,) if present is not None else ()
    return (*(commit for commit in _by_commit(history.of_branch(branch)) if commit not in head), *head)


def _by_commit(entries: Iterable[ExperimentEntry]) -> dict[str, tuple[ExperimentEntry, ...]]:
    """Records by commit; the commit that was recorded last comes last."""
    found: dict[str, tuple[ExperimentEntry, ...]] = {}
    for entry in entries:
        commit = entry.experiment.commit
        found[commit] = (*found.pop(commit, ()), entry)
    return found


def _split(commits: Sequence[str], desired: DesiredState) -> list[list[str]]:
    lives = [[commits[0]]]
    for earlier, later in pairwise(commits):
        if (earlier, later) in desired.begun_anew:
            lives.append([])
        lives[-1].append(later)
    return lives


def _own_fate(
    commit: str,
    records: Sequence[ExperimentEntry],
    desired: DesiredState,
    base: BaseRecord,
    present: Experiment | None,
) -> Became | None:
    """That a commit was merged by itself, or nothing."""
    is_head = present is not None and present.commit == commit
    if is_head and present is not None and not records:
        merged = merged_unrecorded(present, desired)
        brought = desired.landed_as.get(commit) or desired.brought_by.get(commit, "") if merged else None
    else:
        contained = present.ancestor_of_base if is_head and present is not None else commit in desired.base_commits
        brought = merged_as(records, contained, desired, base)
    return None if brought is None else _merged(brought, desired)


def _merged(brought: str, desired: DesiredState) -> Became:
    by, when = desired.signed.get(brought, ("", "")) if brought else ("", "")
    return Became(Lifecycle.MERGED, by, when, brought)


def _fate_of_last(
    commit: str,
    own: Mapping[str, Became | None],
    records: Mapping[str, Sequence[ExperimentEntry]],
    history: History,
    desired: DesiredState,
    base: BaseRecord,
    present: Experiment | None,
) -> Became:
    if present is not None and present.is_base:
        return Became(Lifecycle.OPEN, commit=commit)
    if (fate := own[commit]) is not None:
        return fate
    if present is not None:
        return Became(Lifecycle.OPEN, commit=commit)
    return _fate_of_gone(records[commit], history, desired, base)


def _fate_of_gone(
    records: Sequence[ExperimentEntry],
    history: History,
    desired: DesiredState,
    base: BaseRecord,
    until: int | None = None,
) -> Became:
    """What became of the last commit of a life that is over, and that was not merged by itself.

    ``until`` is the fold in which the name was first recorded with other work.
    """
    last = records[-1]
    renamed = renamed_to(last, history, desired, until)
    if renamed is None:
        return _discarded(records, desired)
    entries = [entry for entry in history.of_branch(renamed.branch) if entry.experiment.commit == renamed.commit]
    now = _own_fate(renamed.commit, entries, desired, base, renamed)
    if now is None:
        return Became(Lifecycle.OPEN, commit=last.experiment.commit, renamed=renamed.branch)
    return replace(now, renamed=renamed.branch)


def renamed_to(
    last: ExperimentEntry, history: History, desired: DesiredState, until: int | None = None
) -> Experiment | None:
    """The branch that the gone one of this last record goes by now, if it was renamed, in fold ``until`` at last."""
    there = {one.branch: one for one in desired.experiments if not one.is_base}
    for name in desired.continued_by.get(last.experiment.commit, ()):
        folds = [entry.entry.fold for entry in history.of_branch(name)]
        beside = any(fold <= last.entry.fold for fold in folds)
        in_time = until is None or any(fold <= until for fold in folds)
        if name in there and in_time and not beside:
            return there[name]
    return None


def _discarded(records: Sequence[ExperimentEntry], desired: DesiredState) -> Became:
    last = records[-1]
    _, when = desired.signed.get(last.entry.result_commit, ("", ""))
    return Became(Lifecycle.DISCARDED, last.entry.landed_by, when, last.experiment.commit)
