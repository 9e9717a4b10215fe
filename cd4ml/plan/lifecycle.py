"""What became of a branch: open, merged or discarded.

Nothing depends on ancestry alone, so squash and rebase work: a branch is merged when the base branch
contains its recorded commit, or has a commit with a fingerprint that the branch's record claims (its own
or that of its merge result).

A commit that the base branch contains beside its first-parent chain came by a merge commit, and is merged.

A branch that only repeats what the base branch had before it, as a fresh ``git branch exp/x main`` does,
meets both tests and was never merged; its commit is on that chain, as after a fast-forward. The fold order
tells the two apart: the claim must be the branch's own, that is, no record of the base branch with that
commit or that fingerprint lies in the same fold or an earlier one. An experiment that changes no fingerprint
and was not merged by a merge commit therefore stays open until it is deleted, and reads "already run".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cd4ml.index.history import ExperimentEntry, History
from cd4ml.plan.state import DesiredState, Experiment


@dataclass(frozen=True)
class BaseRecord:
    """The earliest folds in which the base branch was recorded with each commit and each fingerprint."""

    first_fold: dict[str, int]

    @classmethod
    def of(cls, history: History, base: str) -> BaseRecord:
        first: dict[str, int] = {}
        for entry in history.of_branch(base):
            for name in (entry.experiment.commit, entry.experiment.fingerprint):
                if name is not None:
                    first.setdefault(name, entry.entry.fold)
        return cls(first)

    def had(self, name: str | None, fold: int) -> bool:
        """Was this commit or fingerprint recorded for the base branch in ``fold`` or earlier?"""
        return name is not None and self.first_fold.get(name, fold + 1) <= fold


def came_by_merge(commit: str, contained: bool, desired: DesiredState) -> bool:
    """Does the base branch have the commit from the other side of a merge? False where nobody asked for its chain."""
    chain = desired.base_first_parents
    return contained and bool(chain) and commit not in chain


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
    first = records[0]
    if came_by_merge(first.experiment.commit, contained, desired):
        return True
    if contained and not _repeats(first, first.experiment.commit, first.experiment.fingerprint, base):
        return True
    return any(
        fingerprint in desired.base_fingerprints and not base.had(fingerprint, entry.entry.fold)
        for entry in records
        for fingerprint in (entry.experiment.fingerprint, entry.experiment.merge_fingerprint)
        if fingerprint is not None
    )


def _repeats(entry: ExperimentEntry, commit: str, fingerprint: str | None, base: BaseRecord) -> bool:
    fold = entry.entry.fold
    return base.had(commit, fold) or base.had(fingerprint, fold)
