"""How one target stands: which run answers it, or why none does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from cd4ml.index.claims import Claim
from cd4ml.index.history import History
from cd4ml.index.record import RemovalRecord, RunRecord
from cd4ml.index.removed import ERASED as ERASED_RUN
from cd4ml.index.removed import counting
from cd4ml.plan import reason
from cd4ml.plan.state import Experiment, Health, Target
from cd4ml.spec.fingerprint import COMPONENTS, Components


@dataclass(frozen=True)
class PlanPolicy:
    """What a plan is made under; all of it from the base branch and the request, never from an experiment.

    ``rerun_on`` names the components whose move makes an experiment run again. ``retries`` counts the
    further tries after a transient failure. ``refresh_env`` runs again what an older environment answers.
    ``retry`` names branches whose failures are tried once more: a request of one plan, to be left out of
    the next. With ``named``, only those branches get actions, and local heads that are not pushed are run
    only when named. ``publish`` lets the record of such a head be written. ``failed`` names branches whose
    actions could not be applied just now: they get none in this plan, and keep no fingerprint from others.
    ``elsewhere`` are claims of others, by fingerprint: such a run is left to them, unless a person asks for it again.
    """

    rerun_on: tuple[str, ...] = ("spec", "code", "data", "pipeline")
    retries: int = 2
    refresh_env: bool = False
    retry: frozenset[str] = frozenset()
    named: frozenset[str] | None = None
    publish: bool = False
    failed: frozenset[str] = frozenset()
    elsewhere: Mapping[str, Claim] = field(default_factory=dict)

    def key(self, components: Components | Mapping[str, str]) -> tuple[str | None, ...]:
        """Targets with equal keys are answered by one run."""
        values = components.as_mapping() if isinstance(components, Components) else components
        names = COMPONENTS if self.exact else self.rerun_on
        return tuple(values.get(name) for name in names)

    @property
    def exact(self) -> bool:
        """Only a run of the very fingerprint answers."""
        return self.refresh_env or not self.rerun_on


@dataclass(frozen=True)
class Evidence:
    """The history, as each target asks it. Nothing in it looks at more than what is asked for."""

    history: History

    def run(self, run_id: str | None) -> RunRecord | None:
        """The run of that id, when the index holds it."""
        found = self.history.run_by_id(run_id) if run_id else None
        return found.run if found else None

    def removal(self, run_id: str | None) -> RemovalRecord | None:
        """What was let go of that run, as the record that counts says."""
        found = counting(self.history.removals_of((run_id,))).get(run_id) if run_id else None
        return found.removal if found else None

    def erased(self, run_id: str | None) -> RemovalRecord | None:
        """The record that says that this run was erased, if one does."""
        removal = self.removal(run_id)
        return removal if removal is not None and removal.what == ERASED_RUN else None

    def equivalent(self, components: Components, policy: PlanPolicy) -> RunRecord | None:
        """The first success that ``policy.rerun_on`` cannot tell from these components."""
        if policy.exact:
            return None
        values = components.as_mapping()
        found = self.history.first_success({name: values[name] for name in policy.rerun_on})
        return found.run if found else None


class Kind(StrEnum):
    """The closed set of ways in which a target stands."""

    RESULT = "result"  # a run of the very fingerprint succeeded
    OLDER = "older"  # a run succeeded that differs only in what rerun_on leaves out
    ERASED = "erased"  # one of both, and then the run was erased: it is not run again
    FAILED = "failed"  # failed for good, or as often as is allowed
    RETRY = "retry"  # failed, and is to be tried again
    MISSING = "missing"  # nothing answers
    ELSEWHERE = "elsewhere"  # nothing answers yet, and another reconciler says that it runs it
    REFUSED = "refused"  # the configuration cannot be run


ANSWERED = frozenset({Kind.RESULT, Kind.OLDER, Kind.ERASED, Kind.FAILED, Kind.REFUSED})
"""Ways that stay as they are until somebody moves something."""

WANTS_RUN = frozenset({Kind.MISSING, Kind.RETRY})

_HEALTH = {
    Kind.RESULT: Health.HEALTHY,
    Kind.OLDER: Health.HEALTHY,
    Kind.ERASED: Health.DEGRADED,
    Kind.FAILED: Health.DEGRADED,
    Kind.RETRY: Health.PROGRESSING,
    Kind.MISSING: Health.MISSING,
    Kind.ELSEWHERE: Health.PROGRESSING,
    Kind.REFUSED: Health.DEGRADED,
}


@dataclass(frozen=True)
class Standing:
    """``run`` is the run that answers or, for a retry, the last attempt; ``reason`` speaks of this target.

    ``removal`` says what was let go of the run that answers; where its record was erased as well, there is no ``run``.
    """

    target: Target
    kind: Kind
    reason: str
    run: RunRecord | None = None
    removal: RemovalRecord | None = None

    @property
    def is_final(self) -> bool:
        return self.kind in ANSWERED

    @property
    def health(self) -> Health:
        return _HEALTH[self.kind]

    @property
    def answer(self) -> str | None:
        """The id of the run that answers."""
        if not self.is_final:
            return None
        return self.run.id if self.run else self.removal.run if self.removal else None

    @property
    def removed(self) -> str:
        """That the run was let go or erased, in words; nothing where it was not."""
        return reason.removed(self.removal) if self.removal else ""


def stand(asked: Experiment, target: Target, evidence: Evidence, policy: PlanPolicy) -> Standing:
    """How ``target`` of ``asked`` stands.

    A failure counts for its very fingerprint only, an environment included, since another environment may
    heal it; so a failure for good outranks the success of an older environment, and a transient one does not.

    Removals change words and health. They choose no other run, and none makes anything run: whoever may land a record
    may land one.
    """
    found = _stand(asked, target, evidence, policy)
    removal = evidence.removal(found.answer)
    if removal is None or found.kind is Kind.ERASED:
        return found
    found = replace(found, removal=removal)
    if found.kind is Kind.FAILED:
        return found
    if removal.what == ERASED_RUN:
        return replace(found, kind=Kind.ERASED, reason=found.removed)
    return replace(found, reason=reason.joined([found.reason, found.removed]))


def _stand(asked: Experiment, target: Target, evidence: Evidence, policy: PlanPolicy) -> Standing:
    components = target.components
    if components is None:
        return Standing(target, Kind.REFUSED, reason.refused(target.problems))
    fingerprint = components.fingerprint
    result = evidence.history.result(fingerprint)
    if result is not None:
        return Standing(target, Kind.RESULT, _result_reason(asked, target, result.run), result.run)
    failures = [entry.run for entry in evidence.history.attempts(fingerprint)]
    lasting = [run for run in failures if not _is_transient(run)]
    if lasting:
        return _failed(asked, target, lasting[-1], policy)
    older = evidence.equivalent(components, policy)
    if older is not None:
        return Standing(target, Kind.OLDER, _older_reason(components, older), older)
    if failures:
        return _unless_elsewhere(_interrupted(asked, target, failures, policy), fingerprint, asked, policy)
    erased = _erased(asked, target, evidence) if asked.branch not in policy.retry else None
    if erased is not None:
        return Standing(target, Kind.ERASED, reason.removed(erased), None, erased)
    missing = Standing(target, Kind.MISSING, _missing_reason(asked, components, evidence, policy))
    return _unless_elsewhere(missing, fingerprint, asked, policy)


def _erased(asked: Experiment, target: Target, evidence: Evidence) -> RemovalRecord | None:
    """That what answered this very fingerprint of the branch was erased, its record with it.

    Then a tombstone and the branch's own record of the answer are all that is left. What was erased is not to come
    back because nobody finds it any more: a person who wants it says ``--retry``.
    """
    for entry in reversed(evidence.history.of_branch(asked.branch)):
        record = entry.experiment
        known = record.fingerprint if target.side == "head" else record.merge_fingerprint
        answer = record.answer.get(target.side)
        if known == target.fingerprint and answer:
            return evidence.erased(answer) if evidence.run(answer) is None else None
    return None


def _unless_elsewhere(standing: Standing, fingerprint: str, asked: Experiment, policy: PlanPolicy) -> Standing:
    claim = policy.elsewhere.get(fingerprint)
    local = asked.branch in policy.retry or policy.refresh_env or not asked.published
    if claim is None or local or standing.kind not in WANTS_RUN:
        return standing
    return Standing(standing.target, Kind.ELSEWHERE, reason.runs_elsewhere(claim.since, claim.by), standing.run)


def _result_reason(asked: Experiment, target: Target, run: RunRecord) -> str:
    if run.branch != asked.branch:
        return reason.already_run(run.id, run.branch)
    # The merge commit changes with every move of the base branch; that an equal merge was run says nothing new.
    if target.side == "head" and run.commit != target.commit:
        return reason.already_run_at(run.id, run.commit)
    return reason.up_to_date(run.id)


def _older_reason(components: Components, run: RunRecord) -> str:
    differing = components.moved_from(run.components)
    return reason.environment_older(run.id) if differing == ("env",) else reason.tolerated(differing, run.id)


def _failed(asked: Experiment, target: Target, run: RunRecord, policy: PlanPolicy) -> Standing:
    stage, message = _failure(run)
    if asked.branch in policy.retry:
        return Standing(target, Kind.RETRY, reason.retry_asked(stage, message), run)
    return Standing(target, Kind.FAILED, reason.failed(stage, message), run)


def _interrupted(asked: Experiment, target: Target, runs: list[RunRecord], policy: PlanPolicy) -> Standing:
    stage, message = _failure(runs[-1])
    allowed = policy.retries + 1
    if len(runs) < allowed:
        why = reason.failed_attempt(stage, message, len(runs), allowed)
        return Standing(target, Kind.RETRY, why, runs[-1])
    if asked.branch in policy.retry:
        return Standing(target, Kind.RETRY, reason.retry_asked(stage, message), runs[-1])
    why = reason.failed_attempt(stage, message, len(runs), max(allowed, len(runs)))
    return Standing(target, Kind.FAILED, why, runs[-1])


def _missing_reason(asked: Experiment, components: Components, evidence: Evidence, policy: PlanPolicy) -> str:
    """What moved since the branch was last answered; failing that, that it was never run."""
    for entry in reversed(evidence.history.of_branch(asked.branch)):
        last = evidence.run(entry.experiment.answer.get("head"))
        if last is not None:
            differing = components.moved_from(last.components)
            # A component that cannot cause a run is named only when nothing else explains it.
            causes = tuple(name for name in differing if policy.exact or name in policy.rerun_on)
            return reason.moved(causes or differing) if differing else reason.NEVER_RUN
    return reason.NEVER_RUN


def _is_transient(run: RunRecord) -> bool:
    return (run.reason or {}).get("kind") == "transient"


def _failure(run: RunRecord) -> tuple[str, str]:
    why = run.reason or {}
    return str(why.get("stage", "an unnamed stage")), str(why.get("message", "no message"))
