"""Runs of the index that asked for the same as a branch does, or for nearly the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cd4ml.controller.landing.labels import without_label
from cd4ml.controller.reconciling.lifecycles import Lifecycles, lives_of_all
from cd4ml.controller.reconciling.observe import Observation
from cd4ml.gateways.store import DRAFT, QueryCache
from cd4ml.index.history import runs_in
from cd4ml.index.record import RunRecord
from cd4ml.plan.state import Experiment, Target
from cd4ml.promotion.assemble import Answered
from cd4ml.promotion.relatives import Kin, near_relatives, near_runs, same_runs
from cd4ml.promotion.review import Relative

MOST_CANDIDATES = 100
"""Runs, the newest of those that differ in the configuration alone, that are looked at for one key that differs."""

_NEAR = (
    "number IN (SELECT number FROM entry WHERE kind = 'run' AND code = ? AND data = ? AND pipeline = ? AND spec <> ?"  # noqa: S608  # numbers of ours
    f" AND origin < {DRAFT} ORDER BY fold DESC, id DESC LIMIT {MOST_CANDIDATES})"
)


def told_relatives(
    observation: Observation, cache: QueryCache, asked: Experiment, target: Target, challenger: Answered
) -> tuple[Relative, ...]:
    """Runs of the same fingerprint for other branches, then those that differ in one key; the newest of each.

    Runs of the base branch are no news, but that it has the very same; neither are the branch's own.
    """
    if target.components is None:
        return ()
    primary = observation.policy.evaluation.primary
    fingerprint = target.components.fingerprint
    same = [] if asked.is_base else [one for one in _same(observation, cache, fingerprint) if not _is_own(one, asked)]
    parts = target.components.as_mapping()
    packed = (bytes.fromhex(parts[name]) for name in ("code", "data", "pipeline", "spec"))
    candidates = [entry.run for entry in reversed(runs_in(cache.entries(_NEAR, *packed, drafts=False)))]
    apart = frozenset((asked.branch, observation.desired.base))
    near = near_runs(candidates, challenger.params, fingerprint, apart) if challenger.params else ()
    branches = {branch for _, branch in same} | {run.branch for run, *_ in near}
    lifecycles = _lifecycles(observation, branches)
    kin = [Kin(run, branch, lifecycles.get(branch, "discarded")) for run, branch in same]
    return (*same_runs(kin, asked.branch, primary), *near_relatives(near, lifecycles, primary))


def _is_own(found: tuple[RunRecord, str], asked: Experiment) -> bool:
    """A run that was made for this very branch, whoever else asked for the same since."""
    return found[0].branch == asked.branch


def _same(observation: Observation, cache: QueryCache, fingerprint: str) -> list[tuple[RunRecord, str]]:
    """Runs of the fingerprint, each with every branch that it was run for or answers; in fold order."""
    runs = {entry.run.id: entry.run for entry in observation.history.runs_of(fingerprint)}
    rows = [row for row in cache.named(fingerprint) if row.id in runs]
    return [(runs[row.id], row.branch) for row in rows]


def _lifecycles(observation: Observation, branches: Iterable[str]) -> Mapping[str, str]:
    """What became of each; a run of a work tree belongs to the branch that was checked out there."""
    names = frozenset(branches)
    if not names:
        return {}
    known = frozenset(map(without_label, names))
    lives = Lifecycles(lives_of_all(observation.desired, observation.history, known))
    found = {name: str(lives[name].became.lifecycle) for name in names if name in lives}
    return {observation.desired.base: "open", **found}
