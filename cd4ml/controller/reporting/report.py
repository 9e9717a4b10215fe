"""The report on a branch: everything that a reviewer is told, gathered from Git, the index and DVC.

Nothing here trains, and nothing of a branch is executed. What is gathered are facts; ``promotion.assemble`` makes the
review of them.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from cd4ml.controller.desired.specs import asked_of
from cd4ml.controller.history.compare import code_paths, source_of
from cd4ml.controller.history.objects import Objects
from cd4ml.controller.history.search import known_state
from cd4ml.controller.landing.landed import current_cache
from cd4ml.controller.project import Project
from cd4ml.controller.reconciling.observe import (
    Observation,
    is_experiment,
    no_experiment,
    observe_state,
    observed_branch,
)
from cd4ml.controller.reporting.champions import ANSWERING, References
from cd4ml.controller.reporting.columns import NoEvidenceError
from cd4ml.controller.reporting.evidence import Request, curves_of, importance_of, pair
from cd4ml.controller.reporting.kin import told_relatives
from cd4ml.controller.reporting.movement import moved_between
from cd4ml.controller.reporting.observed import Columns
from cd4ml.controller.reporting.policy import policy_moved
from cd4ml.errors import ConfigError, IntegrityError, RepositoryError, ToolError
from cd4ml.gateways.git import LANDING
from cd4ml.gateways.store import QueryCache
from cd4ml.index.paths import path_text
from cd4ml.index.record import RunRecord
from cd4ml.index.removed import words
from cd4ml.index.sql import compile_filter
from cd4ml.plan.standing import Kind, Standing
from cd4ml.plan.state import Experiment, Target
from cd4ml.promotion.assemble import Answered, AnswerKind, Facts, assemble
from cd4ml.promotion.compare import finite, side_digest
from cd4ml.promotion.inputs import LinesChanged
from cd4ml.promotion.judgement import use_of
from cd4ml.promotion.paired import Paired
from cd4ml.promotion.review import Review
from cd4ml.promotion.story import Measured, Point, story

_DIGEST = re.compile(r"[0-9a-f]{64}")

_KINDS: Mapping[Kind, AnswerKind] = {
    Kind.RESULT: "ran",
    Kind.OLDER: "ran",
    Kind.ERASED: "erased",
    Kind.FAILED: "failed",
    Kind.REFUSED: "refused",
}
"""How a target was answered; any other way, nothing was run yet."""


@dataclass(frozen=True)
class Reported:
    """A review, and what its plots are drawn from.

    ``paired`` is nothing where the two cannot be held against each other. ``curves`` are the rows of a learning curve
    by name, ``importance`` is by feature: its name, the mean drop of the primary metric, and the drop's deviation.
    """

    review: Review
    paired: Paired | None = None
    story: tuple[Point, ...] = ()
    curves: Mapping[str, tuple[tuple[float, ...], ...]] = field(default_factory=dict)
    importance: tuple[tuple[str, float, float], ...] = ()


def report_on(project: Project, branch: str, base_rev: str = "") -> Reported:
    """The report on a branch, with or without the prefix of the experiments' pattern.

    It is held against the result of the base branch's tip, or of ``base_rev`` (any revision; then the head is judged
    and no gate is looked at). Reads the remote, the index and stored outputs; trains nothing and records nothing.
    Raises UsageError for a name that means nothing, RepositoryError, ConfigError for the base branch's configuration.
    Side effects: those of ``observe``.
    """
    return Reporter.open(project).on(branch, base_rev)


@dataclass(frozen=True)
class Reporter:
    """Makes reports in one observation: what is common to all branches is looked at once."""

    project: Project
    observation: Observation
    references: References
    cache: QueryCache
    stale: str = ""

    @classmethod
    def open(cls, project: Project) -> Reporter:
        """Look at the remote, or at what the last fetch saw of it. Raises RemoteError where there is neither."""
        state, stale = known_state(project)
        observation = observe_state(project, state)
        return cls(project, observation, References(project, observation), current_cache(project, state), stale)

    def on(self, branch: str, base_rev: str = "") -> Reported:
        """The report on one branch; see ``report_on``."""
        asked = observed_branch(self.project, self.observation, branch)
        held = self._held_against(asked, base_rev)
        target = self._judged(asked, gated=held.gated)
        standing = self.references.standing(asked, target)
        challenger = self._answered(standing, asked)
        held, challenger = self._with_sources(held, challenger)
        notes = (*self._notes(asked, target, standing), *held.notes)
        facts = self._facts(asked, target, held, challenger, notes)
        new = challenger.run if challenger.kind == "ran" else None
        old = held.champion.run if held.champion is not None and held.champion.kind == "ran" else None
        importance: tuple[tuple[str, float, float], ...] = ()
        curves: Mapping[str, tuple[tuple[float, ...], ...]] = {}
        if new is not None:
            facts = replace(facts, measured=self._measured(new))
            with Objects(self.project.storage(self.observation.base_commit)) as objects:
                if old is not None:
                    facts = self._with_evidence(facts, objects, old, new)
                importance, curves = importance_of(objects, new), curves_of(objects, new)
        points = self._story(old, new) if old or new else ()
        return Reported(assemble(facts), facts.paired, points, curves, importance)

    # ── what is judged, and what it is held against ──

    def _judged(self, asked: Experiment, *, gated: bool) -> Target:
        """The merge result where it asks for something else than the head; the head where they conflict."""
        merge = asked.merge
        differs = merge is not None and (merge.components is None or merge.fingerprint != asked.head.fingerprint)
        return merge if gated and merge is not None and differs else asked.head

    def _held_against(self, asked: Experiment, base_rev: str) -> _Held:
        references, base = self.references, self.references.base
        commit = references.commit_of(base_rev) if base_rev else base.commit
        if commit != base.commit:
            alone = references.alone(commit)
            named_so = f"{base_rev} ({commit[:12]})" if base_rev != commit else commit[:12]
            if alone is None:
                raise RepositoryError(f"--base {base_rev}: {commit[:12]} cannot be read")
            named = replace(alone[0], branch=base_rev or alone[0].branch)
            champion = self._answered(references.standing(*_target_of(alone[0])), named)
            note = f"held against {named_so} and not against {base.branch}, so the gates were not looked at"
            return _Held(champion, named_so, commit, gated=False, notes=(note,))
        if not asked.is_base:
            champion = self._answered(references.standing(*_target_of(base)), base)
            return _Held(champion, base.branch, commit)
        before = references.before()
        if before is None:
            return _Held(None, base.branch, commit)
        earlier, run = before
        note = f"{base.branch} is held against what was before it: the result of {earlier[:12]}"
        erased = references.erased(run)
        champion = _answer(run, "erased", words(erased.body)) if erased is not None else _answer(run)
        return _Held(champion, earlier[:12], earlier, notes=(note,))

    def _answered(self, standing: Standing, asked: Experiment) -> Answered:
        kind = _KINDS.get(standing.kind, "pending")
        reason = standing.reason
        if kind == "pending" and standing.kind is not Kind.ELSEWHERE:
            reason = f"{standing.reason}: {self._how_it_runs(asked)}"
        if standing.run is not None and kind in ("ran", "erased", "failed"):
            return _answer(standing.run, kind, reason)
        params, data = self._asks_for(standing.target)
        return Answered(kind, reason, None, params, data)

    def _how_it_runs(self, asked: Experiment) -> str:
        policy = self.observation.policy
        if asked.is_base or is_experiment(self.project, asked.branch, policy):
            return f"`cd4ml reconcile {shlex.quote(asked.branch)}`"
        return f"{asked.branch} {no_experiment(self.project, policy)}"

    def _asks_for(self, target: Target) -> tuple[Mapping[str, object], Mapping[str, object]]:
        """The resolved configuration and the pins of what was not run; nothing where they cannot be read."""
        if target.components is None:
            return {}, {}
        try:
            asked = asked_of(self.project, target.tree, self.references.reader.base)
        except (ConfigError, RepositoryError, IntegrityError, ToolError):
            return {}, {}
        pins = {name: {"digest": pin.digest, "rows": pin.rows} for name, pin in asked.pins.items()}
        return asked.spec.resolved, pins

    def _with_sources(self, held: _Held, challenger: Answered) -> tuple[_Held, Answered]:
        """Both with what their commits hold, as far as it may differ; nothing where one of them has no run."""
        champion = held.champion
        if champion is None or champion.run is None or challenger.run is None:
            return held, challenger
        old, new = champion.run, challenger.run
        champion = replace(champion, source=source_of(self.project, old, new))
        return replace(held, champion=champion), replace(challenger, source=source_of(self.project, new, old))

    # ── facts ──

    def _facts(
        self, asked: Experiment, target: Target, held: _Held, challenger: Answered, notes: tuple[str, ...]
    ) -> Facts:
        references, base = self.references, self.references.base
        _, merge_base = references.merge_base(held.commit, asked.commit) if not asked.is_base else ("", None)
        production, told = references.production()
        merged = asked.merge
        answer = references.standing(asked, merged) if merged is not None else None
        moves = _moves(merged, base.head) if merged is not None else ()
        shared = references.merge_base(base.commit, asked.commit)[0] if asked.conflicts else ""
        policy = policy_moved(self.project, base, asked, shared or "")
        return Facts(
            branch=asked.branch,
            base=base.branch,
            commit=asked.commit,
            base_commit=held.commit,
            judged="merge" if target is asked.merge else "head",
            policy=self.observation.policy,
            challenger=challenger,
            champion=held.champion,
            held_against=held.words,
            name=asked.name,
            hypothesis=asked.hypothesis,
            author=asked.author,
            is_base=asked.is_base,
            gated=held.gated and not (asked.is_base and held.champion is None),  # nothing came before it
            conflicts=asked.conflicts,
            merge_base=merge_base,
            production=production,
            lines=self._lines(held.champion, challenger),
            relatives=told_relatives(self.observation, self.cache, asked, target, challenger),
            trains=answer is None or answer.kind not in ANSWERING,
            moves=moves,
            policy_moved=policy.keys,
            policy_files=policy.files,
            notes=(*notes, *told),
        )

    def _notes(self, asked: Experiment, target: Target, standing: Standing) -> tuple[str, ...]:
        """What a reader must know of the branch itself."""
        found = []
        if self.stale:
            found.append(self.stale)
        if not asked.published:
            found.append("this branch is not on the remote")
        if asked.unpushed is not None:
            found.append(f"the commit {asked.unpushed[:12]} of this branch is not pushed, and not reported on")
        if asked.ancestor_of_base and not asked.is_base:
            found.append(f"{self.project.base} has this branch's commit already")
        base = self.references.base.head.fingerprint
        if not asked.is_base and target.fingerprint is not None and target.fingerprint == base:
            what = "it asks for" if target is asked.head else "with it merged, it would ask for"
            found.append(f"{what} exactly what {self.project.base} asks for")
        if standing.kind is Kind.OLDER:
            found.append(standing.reason)
        elif standing.kind is Kind.RESULT and standing.removed:
            found.append(standing.removed)
        if standing.run is not None and LANDING + standing.run.id in self.observation.remote.drafts:
            found.append(
                f"{standing.run.id} is in this clone alone so far: whoever reconciles without it runs it again"
            )
        return tuple(found)

    def _lines(self, champion: Answered | None, challenger: Answered) -> LinesChanged:
        runs = (champion.run if champion is not None else None, challenger.run)
        if runs[0] is None or runs[1] is None or champion is None:
            return {}
        if champion.source.files is None or challenger.source.files is None:
            return {}
        if champion.source.files == challenger.source.files:
            return {}
        paths = dict.fromkeys(path for run in runs if run is not None for path in code_paths(run))
        with suppress(RepositoryError):
            return self.project.repository.lines_changed(runs[0].commit, runs[1].commit, paths)
        return {}

    def _with_evidence(self, facts: Facts, objects: Objects, old: RunRecord, new: RunRecord) -> Facts:
        policy = self.observation.policy
        columns = Columns(policy.evaluation.slices, policy.promotion.resample_by)
        asked = policy.promotion
        request = Request(columns, asked.min_rows, self._uses(old, new), asked.min_share)
        try:
            facts = replace(facts, paired=pair(objects, old, new, request))
        except NoEvidenceError as error:
            facts = replace(facts, unpaired=self._let_go(error, old, new))
        moved, notes = moved_between(objects, old, new)
        return replace(facts, moved=moved, notes=(*facts.notes, *notes))

    def _let_go(self, error: NoEvidenceError, *runs: RunRecord) -> str:
        """Why there is no evidence; that artefacts were let go says more than that they are missing."""
        for run in runs:
            removal = self.references.removal(run)
            if removal is not None:
                return f"{words(removal.body, f'the artefacts of {run.id}')}: {removal.body['reason']}"
        return str(error)

    def _measured(self, run: RunRecord) -> Mapping[str, Any]:
        """The cost of a run that trained the very model of this one, where this one found it made."""
        model = str((run.body.get("model") or {}).get("digest"))
        if "train" in ((run.body.get("cost") or {}).get("seconds") or {}) or not _DIGEST.fullmatch(model):
            return {}
        from cd4ml.index.query import parse

        rows = self.cache.search(compile_filter(parse(f"model_digest = '{model}'"), datetime.now(UTC)))
        cost: Mapping[str, Any] = next(
            (row["cost"] for row in rows if finite(row["cost"].get("train")) is not None), {}
        )
        return {**cost, "seconds": {name: took for name, took in cost.items() if finite(took) is not None}}

    def _uses(self, old: RunRecord, new: RunRecord) -> int:
        """Which one the challenger is among the results that can have been scored on the champion's test side.

        Results of the base branch's own do not count.
        """
        held = self.cache.results_with("split.test.digest", side_digest(old, "test") or "")
        counted = [(name, asked if branch != self.project.base else "") for name, asked, branch in self.cache.results()]
        return use_of(counted, held[0][0] if held else "", new.fingerprint)

    def _story(self, old: RunRecord | None, new: RunRecord | None) -> tuple[Point, ...]:
        run = old or new
        primary = self.observation.policy.evaluation.primary
        digest = side_digest(run, "validation") if run is not None else None
        if digest is None:
            return ()
        found = self.cache.results_with(
            "split.validation.digest", digest, path_text(("metrics", "validation", primary))
        )
        measured = [
            Measured(name, branch, value) for name, _, branch, told in found if (value := finite(told)) is not None
        ]
        return story(measured, new.id if new is not None else "", old.id if old is not None else "")


@dataclass(frozen=True)
class _Held:
    """What a branch is held against, in ``words`` for people."""

    champion: Answered | None
    words: str
    commit: str
    gated: bool = True
    notes: tuple[str, ...] = ()


def _target_of(asked: Experiment) -> tuple[Experiment, Target]:
    return asked, asked.head


def _answer(run: RunRecord, kind: AnswerKind = "ran", reason: str = "") -> Answered:
    return Answered(kind, reason, run, run.params, run.body.get("data") or {})


def _moves(merge: Target, base: Target) -> tuple[str, ...]:
    """The components of the base branch's fingerprint that merging would move."""
    if merge.components is None or base.components is None:
        return ()
    return merge.components.moved_from(base.components.as_mapping())
