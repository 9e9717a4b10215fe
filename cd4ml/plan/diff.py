"""Desired against observed state, as a plan.

``diff`` is a pure function of what the heads ask for, what the index holds, and the policy. It looks at
levels, never at events: whatever was missed, repeated or cut off, the next plan is the same. Applying a
plan is at most two further plans away from an empty one: runs first, the records that they answer after.

Every experiment is judged by itself, so none can keep another from its action. Two that ask for the same
fingerprint share one run; the base branch, then the first by name, gets it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from cd4ml.index.history import ExperimentEntry, History
from cd4ml.index.record import RunRecord
from cd4ml.index.removed import ERASED
from cd4ml.plan import reason
from cd4ml.plan.action import (
    Action,
    Answer,
    Plan,
    PlanItem,
    RecordExperiment,
    Run,
    claim,
    is_recordable,
    merge_fingerprint_of,
)
from cd4ml.plan.lifecycle import BaseRecord, Became, last_record_if_merged, lives_of, merged_unrecorded
from cd4ml.plan.standing import WANTS_RUN, Evidence, Kind, PlanPolicy, Standing, stand
from cd4ml.plan.state import DesiredState, Experiment, Health, Lifecycle, SyncStatus
from cd4ml.spec.canonical import canonical_json

__all__ = ["PlanPolicy", "diff"]


def diff(desired: DesiredState, history: History, policy: PlanPolicy) -> Plan:
    """What is to be done so that the index holds what every head asks for.

    The base branch comes first, then all branches by name; of one branch, the head is run before its merge
    result. Heads that vanished before anybody recorded them are recorded, and not run. The order of
    ``desired.experiments`` is ignored. Items of deleted branches that were recorded are made when they are asked for.
    """
    history = history.looked_up(*_asked_about(desired))
    evidence = Evidence(history)
    base = BaseRecord.of(history, desired)
    claimed: dict[str, str] = {}
    items = [
        _beside_local(_planned(asked, desired, evidence, base, policy, claimed), asked.unpushed)
        for asked in sorted(desired.experiments, key=lambda asked: (not asked.is_base, asked.branch, asked.commit))
    ]
    vanished = [_vanished(asked, desired, evidence, policy) for asked in _unrecorded(desired, history)]
    there = {asked.branch for asked in desired.experiments} | {desired.base}
    without = there | {item.branch for item in vanished}

    def settled() -> tuple[PlanItem, ...]:
        names = [name for name in history.branches if name not in without]
        known = Evidence(_looked_up(history, names))
        return tuple(_gone(name, desired, known, base) for name in names)

    items += vanished
    return Plan(tuple(sorted(items, key=lambda item: (not item.is_base, item.branch))), settled)


def _looked_up(history: History, branches: Sequence[str]) -> History:
    """The history with the records of these branches at hand, and the runs of what they asked for."""
    known = history.looked_up(branches, ())
    asked = (entry.experiment for branch in branches for entry in known.of_branch(branch))
    fingerprints = {name for one in asked for name in (one.fingerprint, one.merge_fingerprint) if name}
    return known.looked_up((), fingerprints)


def _asked_about(desired: DesiredState) -> tuple[frozenset[str], frozenset[str]]:
    """Branches and fingerprints that the plan asks the history about in any case."""
    everyone = (*desired.experiments, *desired.vanished)
    targets = (target for asked in everyone for target in (asked.head, asked.merge) if target is not None)
    fingerprints = frozenset(target.fingerprint for target in targets if target.fingerprint)
    return frozenset({desired.base, *(asked.branch for asked in everyone)}), fingerprints


@dataclass(frozen=True)
class _Sides:
    """How both targets of an experiment stand; ``merge`` is missing where it has no run of its own."""

    asked: Experiment
    head: Standing
    merge: Standing | None

    @property
    def all(self) -> tuple[Standing, ...]:
        return (self.head, self.merge) if self.merge else (self.head,)

    @property
    def is_final(self) -> bool:
        return all(side.is_final for side in self.all)

    @property
    def answer(self) -> Answer:
        """Of equal fingerprints, one run answers both sides."""
        merge = self.merge or (self.head if self.asked.merge else None)
        return {"head": self.head.answer, "merge": merge.answer if merge else None}


def _planned(
    asked: Experiment,
    desired: DesiredState,
    evidence: Evidence,
    base: BaseRecord,
    policy: PlanPolicy,
    claimed: dict[str, str],
) -> PlanItem:
    """The item of an existing branch; runs that it asks for are added to ``claimed`` (fingerprint → branch)."""
    merged = last_record_if_merged(asked, evidence.history, desired, base)
    if merged is not None:
        item = _closed(merged, Lifecycle.MERGED, reason.merged(desired.base), evidence)
        return replace(item, became=lambda: lives_of(asked.branch, evidence.history, desired, base, asked).became)
    if not is_recordable(asked.branch):
        return _unrecordable(asked)
    sides = _sides(asked, evidence, policy)
    acts, failed = _may_act(asked, policy), asked.branch in policy.failed
    runs, waits = _runs(sides, policy, claimed) if acts and not failed else ((), ())
    due = _record(sides, evidence.history) if acts and _may_land(asked, policy) else None
    record = None if failed else due
    item = replace(
        _bare(asked),
        sync=_sync(sides, due),
        health=_health(sides),
        # Merged, and to be recorded all the same: the record is what the index keeps of it.
        lifecycle=Lifecycle.MERGED if merged_unrecorded(asked, desired) else Lifecycle.OPEN,
        reason=reason.joined([*_reasons(sides, desired.base), *waits]),
        actions=(*runs, record) if record else runs,
        answer=sides.answer,
        metrics=sides.head.run.metrics if sides.head.run and sides.head.is_final else {},
    )
    return item if asked.published else _unpublished(item, acts)


def _sides(asked: Experiment, evidence: Evidence, policy: PlanPolicy) -> _Sides:
    head = stand(asked, asked.head, evidence, policy)
    merge = asked.merge
    if merge is None or head.kind is Kind.REFUSED or merge.fingerprint == asked.head.fingerprint:
        return _Sides(asked, head, None)
    return _Sides(asked, head, stand(asked, merge, evidence, policy))


def _may_act(asked: Experiment, policy: PlanPolicy) -> bool:
    if policy.named is None:
        return asked.published
    return asked.branch in policy.named


def _may_land(asked: Experiment, policy: PlanPolicy) -> bool:
    return asked.published or policy.publish


def _runs(sides: _Sides, policy: PlanPolicy, claimed: dict[str, str]) -> tuple[tuple[Action, ...], tuple[str, ...]]:
    """The runs to do, and a reason for each side that another branch's run will answer."""
    actions: list[Action] = []
    waits: list[str] = []
    for side in _to_run(sides, policy):
        fingerprint = side.target.fingerprint or ""
        owner = claimed.setdefault(fingerprint, sides.asked.branch)
        if owner == sides.asked.branch:
            actions.append(Run(sides.asked.branch, side.target, _why(sides, side)))
        else:
            waits.append(_of_side(side, reason.same_as(owner)))
    return tuple(actions), tuple(waits)


def _to_run(sides: _Sides, policy: PlanPolicy) -> list[Standing]:
    wanted = [side for side in sides.all if side.kind in WANTS_RUN]
    if len(sides.all) == 2 and not sides.head.is_final and _same_key(sides, policy):
        # The head's run will answer the merge result too, unless it fails: then the next plan says so.
        return [side for side in wanted if side is sides.head]
    return wanted


def _same_key(sides: _Sides, policy: PlanPolicy) -> bool:
    keys = {policy.key(side.target.components) for side in sides.all if side.target.components}
    return len(keys) == 1


def _why(sides: _Sides, side: Standing) -> str:
    head, own = sides.head.target.components, side.target.components
    if side.target.side == "merge" and side.kind is Kind.MISSING and head and own:
        return reason.merge_differs(own.moved_from(head.as_mapping()))
    return side.reason


def _record(sides: _Sides, history: History) -> RecordExperiment | None:
    """The experiment record to write, unless the answer is not final or already written down."""
    if not sides.is_final:
        return None
    asked = sides.asked
    earlier = history.of_branch(asked.branch)
    current = canonical_json(claim(asked, sides.answer))
    if any(entry.experiment.commit == asked.commit and _claim_of(entry) == current for entry in earlier):
        return None
    note = _note(asked, earlier)
    return RecordExperiment(
        branch=asked.branch,
        experiment=asked,
        answer=sides.answer,
        why=reason.answered(sorted({run_id for run_id in sides.answer.values() if run_id})),
        conclusion=str(note.get("conclusion") or ""),
        noted_by=str(note.get("noted_by") or ""),
    )


def _claim_of(entry: ExperimentEntry) -> bytes:
    body = entry.experiment.body
    keys = ("fingerprint", "merge_fingerprint", "conflicts", "problems", "answer")
    return canonical_json({key: body.get(key) for key in keys})


def _note(asked: Experiment, earlier: Iterable[ExperimentEntry]) -> Mapping[str, object]:
    """The newest record of the same commit or fingerprint; a conclusion about other work is not carried over."""
    fingerprint = asked.head.fingerprint
    same = [
        entry.experiment
        for entry in earlier
        if entry.experiment.commit == asked.commit
        or (fingerprint is not None and entry.experiment.fingerprint == fingerprint)
    ]
    return same[-1].body if same else {}


def _sync(sides: _Sides, record: RecordExperiment | None) -> SyncStatus:
    if sides.head.kind is Kind.REFUSED:
        return SyncStatus.OUT_OF_SYNC if record else SyncStatus.SYNCED
    return SyncStatus.SYNCED if sides.is_final else SyncStatus.OUT_OF_SYNC


_WORST_FIRST = (Health.DEGRADED, Health.PROGRESSING, Health.MISSING, Health.HEALTHY)


def _health(sides: _Sides) -> Health:
    return min((side.health for side in sides.all), key=_WORST_FIRST.index)


def _reasons(sides: _Sides, base: str) -> list[str]:
    """The head's reason, unless it is good and the merge result or a conflict has something to say.

    That a run was let go is said in any case.
    """
    more = _merge_reasons(sides, base)
    settled = sides.head.kind in _GOOD
    first = sides.head.removed if settled and more else sides.head.reason
    merge = sides.merge
    apart = merge is not None and merge.kind in _GOOD and merge.answer != sides.head.answer
    last = reason.of_merge_result(merge.removed) if merge is not None and merge.removed and apart else ""
    return [text for text in (first, *more, last) if text]


_GOOD = frozenset({Kind.RESULT, Kind.OLDER})


def _merge_reasons(sides: _Sides, base: str) -> list[str]:
    if sides.asked.conflicts:
        return [reason.conflicts(base, sorted(sides.asked.conflicts))]
    merge = sides.merge
    if merge is None or merge.kind in _GOOD or (merge.kind is Kind.ERASED and merge.answer == sides.head.answer):
        return []
    return [_why(sides, merge) if merge.kind is Kind.MISSING else reason.of_merge_result(merge.reason)]


def _of_side(side: Standing, text: str) -> str:
    return text if side.target.side == "head" else reason.of_merge_result(text)


def _beside_local(item: PlanItem, unpushed: str | None) -> PlanItem:
    """Everything else speaks of the remote's head: that is what everybody sees."""
    if unpushed is None:
        return item
    return replace(item, unpushed=unpushed, reason=reason.joined([item.reason, reason.local_ahead(unpushed)]))


def _unpublished(item: PlanItem, acts: bool) -> PlanItem:
    """A local head: its sync is unknown to everybody else, and is looked at only when named."""
    if not acts:
        return replace(item, sync=SyncStatus.UNKNOWN, reason=reason.NOT_PUSHED)
    return replace(item, reason=reason.joined([reason.NOT_PUSHED, item.reason]))


def _unrecordable(asked: Experiment) -> PlanItem:
    """A head whose records no fold would accept: to run it would be to run it for ever."""
    return replace(_bare(asked), health=Health.DEGRADED, reason=reason.UNRECORDABLE)


def _bare(asked: Experiment) -> PlanItem:
    """The item of which nothing is known but what is asked for."""
    return PlanItem(
        branch=asked.branch,
        commit=asked.commit,
        sync=SyncStatus.UNKNOWN,
        health=Health.UNKNOWN,
        lifecycle=Lifecycle.OPEN,
        fingerprint=asked.head.fingerprint,
        merge_fingerprint=merge_fingerprint_of(asked),
        reason="",
        author=asked.author,
        name=asked.name,
        hypothesis=asked.hypothesis,
        is_base=asked.is_base,
        published=asked.published,
    )


def _unrecorded(desired: DesiredState, history: History) -> list[Experiment]:
    """Vanished heads that no record names, in the order of their names."""
    return [
        asked
        for asked in sorted(desired.vanished, key=lambda asked: (asked.branch, asked.commit))
        if is_recordable(asked.branch)
        and not any(entry.experiment.commit == asked.commit for entry in history.of_branch(asked.branch))
    ]


def _vanished(asked: Experiment, desired: DesiredState, evidence: Evidence, policy: PlanPolicy) -> PlanItem:
    """A head that is gone and was never recorded: what it asked for is kept, and whatever answers it already.

    Where a branch that is there asks for the same and has no answer yet, its record waits for that. It has none while
    it is there under another name: that one's record says the same, and a later one of the old name would be that of a
    copy, which was discarded.
    """
    if not merged_unrecorded(asked, desired) and (renamed := _by_another_name(asked, desired)) is not None:
        return _renamed(asked, renamed)
    sides = _sides(asked, evidence, policy)
    acts = (policy.named is None or asked.branch in policy.named) and asked.branch not in policy.failed
    runs = sorted({run_id for run_id in sides.answer.values() if run_id})
    wanted = {side.target.fingerprint for side in sides.all if side.kind in WANTS_RUN} - {None}
    asking = ((one, target) for one in desired.experiments for target in (one.head, one.merge) if one.published)
    owners = [one.branch for one, target in asking if target is not None and target.fingerprint in wanted]
    answered = reason.answered(runs) if runs or asked.head.problems else reason.UNANSWERED
    why = reason.same_as(owners[0]) if owners else answered
    record = RecordExperiment(asked.branch, asked, sides.answer, reason.joined([reason.GONE_UNRECORDED, why]))
    return replace(
        _bare(asked),
        sync=SyncStatus.OUT_OF_SYNC,
        health=_health(sides) if sides.is_final else Health.UNKNOWN,
        lifecycle=Lifecycle.MERGED if merged_unrecorded(asked, desired) else Lifecycle.DISCARDED,
        reason=reason.joined([record.why, *dict.fromkeys(side.removed for side in sides.all if side.removed)]),
        actions=(record,) if acts and not owners else (),
        answer=sides.answer,
        metrics=sides.head.run.metrics if sides.head.run and sides.head.is_final else {},
    )


def _by_another_name(asked: Experiment, desired: DesiredState) -> str | None:
    """The first branch on the remote, by name, that is at the commit of one that is gone."""
    same = (one for one in desired.experiments if one.commit == asked.commit and one.published and not one.is_base)
    names = (one.branch for one in same if one.branch != asked.branch and is_recordable(one.branch))
    return min(names, default=None)


def _renamed(asked: Experiment, renamed: str) -> PlanItem:
    became = Became(Lifecycle.OPEN, commit=asked.commit, renamed=renamed)
    return replace(_bare(asked), reason=reason.gone_renamed(renamed), became=lambda: became)


def _gone(branch: str, desired: DesiredState, evidence: Evidence, base: BaseRecord) -> PlanItem:
    """A branch that was recorded and exists no more; its last record stands for it."""
    last = evidence.history.of_branch(branch)[-1]
    became = lives_of(branch, evidence.history, desired, base).became
    why = {Lifecycle.MERGED: reason.gone_merged(desired.base), Lifecycle.DISCARDED: reason.GONE_DISCARDED}
    told = reason.gone_renamed(became.renamed) if became.renamed else why[became.lifecycle]
    return replace(_closed(last, became.lifecycle, told, evidence), became=lambda: became)


def _closed(entry: ExperimentEntry, lifecycle: Lifecycle, why: str, evidence: Evidence) -> PlanItem:
    """The item of a merged or discarded branch: what its last record says, and nothing to do.

    A merged branch that still exists is not compared with later moves of the base branch.
    """
    record = entry.experiment
    body = record.body
    runs = [evidence.run(run_id) for run_id in record.answer.values() if run_id]
    head = evidence.run(record.answer.get("head"))
    settled = bool(runs) or bool(body.get("problems"))
    removals = [evidence.removal(run_id) for run_id in dict.fromkeys(record.answer.values()) if run_id]
    removed = [one for one in removals if one is not None]
    erased = any(one.what == ERASED for one in removed)
    return PlanItem(
        branch=record.branch,
        commit=record.commit,
        sync=SyncStatus.SYNCED if settled else SyncStatus.UNKNOWN,
        health=Health.DEGRADED if erased else _closed_health(runs, bool(body.get("problems"))),
        lifecycle=lifecycle,
        fingerprint=record.fingerprint,
        merge_fingerprint=record.merge_fingerprint,
        reason=reason.joined([why, *dict.fromkeys(map(reason.removed, removed))]),
        author=str(body.get("author", "")),
        name=str(body.get("name", "")),
        hypothesis=str(body.get("hypothesis", "")),
        answer={"head": record.answer.get("head"), "merge": record.answer.get("merge")},
        metrics=head.metrics if head else {},
    )


def _closed_health(runs: list[RunRecord | None], refused: bool) -> Health:
    if refused or any(run is not None and not run.succeeded for run in runs):
        return Health.DEGRADED
    return Health.HEALTHY if runs and None not in runs else Health.UNKNOWN
