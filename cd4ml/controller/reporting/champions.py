"""What a branch is held against: the base branch's result, that of the merge base, and what is in production."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile

from cd4ml.controller.desired.heads import FIRST_PARENTS, Asks, HeadReader
from cd4ml.controller.desired.specs import Base
from cd4ml.controller.landing.landed import claimed_id
from cd4ml.controller.project import Project
from cd4ml.controller.reconciling.lifecycles import lives_of_all
from cd4ml.controller.reconciling.observe import Observation
from cd4ml.errors import RemoteError, ToolError, UsageError
from cd4ml.index.record import ExperimentRecord, RemovalRecord, RunRecord
from cd4ml.index.removed import words
from cd4ml.plan.standing import Evidence, Kind, PlanPolicy, Standing, stand
from cd4ml.plan.state import Experiment, Lifecycle, Target
from cd4ml.promotion.assemble import Production
from cd4ml.promotion.release_tags import Claim, candidates, differing, names_in_production, taken_out, uncounted
from cd4ml.spec.fingerprint import Components

_MOST_COMPOSED = 50
"""Commits of the base branch whose configuration is composed to find what was before its tip."""


@dataclass(frozen=True)
class References:
    """Finds results of commits, in one observation."""

    project: Project
    observation: Observation

    @cached_property
    def policy(self) -> PlanPolicy:
        """The base branch's say on what answers what."""
        policy = self.observation.policy.experiments
        return PlanPolicy(policy.rerun_on, policy.retries, elsewhere=self.observation.elsewhere)

    @cached_property
    def reader(self) -> HeadReader:
        return HeadReader(self.project, Base(self.observation.base_commit, self.observation.policy))

    @property
    def base(self) -> Experiment:
        """The base branch as an experiment."""
        return self.observation.desired.experiments[0]

    def standing(self, asked: Experiment, target: Target) -> Standing:
        """Which run answers a target."""
        return stand(asked, target, Evidence(self.observation.history), self.policy)

    def removal(self, run: RunRecord) -> RemovalRecord | None:
        """What was let go of a run, as the record that counts says."""
        return Evidence(self.observation.history).removal(run.id)

    def erased(self, run: RunRecord) -> RemovalRecord | None:
        """The record that says that a run was erased, if one does."""
        return Evidence(self.observation.history).erased(run.id)

    def result(self, components: Components | None) -> RunRecord | None:
        """The result of a fingerprint, or a success that the base branch's rules take for it."""
        if components is None:
            return None
        evidence = Evidence(self.observation.history)
        found = evidence.history.result(components.fingerprint)
        return found.run if found is not None else evidence.equivalent(components, self.policy)

    # ── commits ──

    def commit_of(self, revision: str) -> str:
        """The commit that a revision names: a branch of the remote, or anything that Git knows. Raises UsageError."""
        commit = self.observation.remote.heads.get(revision) or self.project.repository.resolve(revision)
        if commit is None:
            raise UsageError(f"--base {revision}: no branch, tag or commit of that name here")
        return commit

    def alone(self, commit: str) -> tuple[Experiment, Asks] | None:
        """What a commit asks for under its own rules; nothing where it cannot be read."""
        asks = self.reader.asks_alone([commit]).get(commit)
        infos = self.project.repository.commit_infos([commit])
        if asks is None or commit not in infos:
            return None
        info = infos[commit]
        target = Target("head", commit, info.tree, asks.components, asks.problems)
        asked = Experiment(
            branch=self.project.base,
            commit=commit,
            is_base=True,
            author=info.author,
            name=asks.name,
            hypothesis=asks.hypothesis,
            tags=asks.tags,
            head=target,
            committed=info.committed,
        )
        return asked, asks

    def merge_base(self, base_commit: str, commit: str) -> tuple[str, RunRecord | None]:
        """The newest commit that both have (``""``: none), and its result."""
        try:
            found = self.project.repository.merge_base(base_commit, commit)
        except ToolError:
            found = None
        if found is None:
            return "", None
        if found == self.base.commit:
            return found, self.result(self.base.head.components)
        alone = self.alone(found)
        return found, self.result(alone[1].components) if alone is not None else None

    def before(self) -> tuple[str, RunRecord] | None:
        """The newest commit that the base branch was at, that asks for something else than its tip, and its result.

        That is one that a merged branch came by since the base branch was last recorded; else the one recorded last
        before the tip, since a merge may be a fast-forward; where none was recorded, one of the first-parent chain.
        """
        tip = self.base.head.fingerprint
        for commit in self._merged_since_recorded():
            found = self._result_at(commit, unlike=tip)
            if found is not None:
                return commit, found
        for asked in reversed(self._recorded):
            if asked.fingerprint is None or asked.fingerprint == tip:
                continue
            known = self.observation.history.result(asked.fingerprint)
            if known is not None and self.project.repository.is_ancestor(asked.commit, self.base.commit):
                return asked.commit, known.run
        for commit in self._chain[:_MOST_COMPOSED]:
            found = self._result_at(commit, unlike=tip)
            if found is not None:
                return commit, found
        return None

    @cached_property
    def _chain(self) -> tuple[str, ...]:
        """The first-parent chain of the base branch before its tip, the newest first."""
        return self.project.repository.first_parents(self.base.commit)[1:FIRST_PARENTS]

    @cached_property
    def _recorded(self) -> list[ExperimentRecord]:
        """What was recorded of the base branch, under each of its names, the present one last."""
        names, history = self.observation.desired.base_names, self.observation.history
        return [one.experiment for name in names for one in history.of_branch(name)]

    def _merged_since_recorded(self) -> list[str]:
        """Commits of the base branch that brought a branch after the last one that was recorded, the newest first.

        Two merges that one reconcile sees leave no record of the base branch between them.
        """
        recorded = {one.commit for one in self._recorded}
        since = [*takewhile(lambda commit: commit not in recorded, self._chain)]
        if not since:
            return []
        lives = lives_of_all(self.observation.desired, self.observation.history).values()
        brought = {one.became.commit for one in lives if one.became.lifecycle is Lifecycle.MERGED}
        return [commit for commit in since if commit in brought][:_MOST_COMPOSED]

    def _result_at(self, commit: str, *, unlike: str | None) -> RunRecord | None:
        """The result of what a commit asks for under its own rules, unless it asks for the fingerprint ``unlike``."""
        alone = self.alone(commit)
        fingerprint = alone[0].head.fingerprint if alone is not None else None
        if fingerprint is None or fingerprint == unlike:
            return None
        found = self.observation.history.result(fingerprint)
        return found.run if found is not None else None

    # ── releases ──

    def production(self) -> tuple[Production | None, tuple[str, ...]]:
        """What tags say is in production, where that is a result of the index; and what a reader must know of it.

        A tag is believed no further than the commit under it: its tree must hold a record, and the index must hold
        the same record with that very commit.
        """
        try:
            there = self.project.repository.tags(self.project.remote)
        except RemoteError:
            return None, ("what is in production is not known: the remote's tags cannot be read",)
        tags = {name: tag.commit for name, tag in there.items() if tag.annotated}
        production, told = self._in_production(tags)
        return production, (*told, *uncounted(there))

    def _in_production(self, tags: Mapping[str, str]) -> tuple[Production | None, tuple[str, ...]]:
        """The same of annotated tags alone; values are the commits."""
        claims = candidates(tags)
        if not claims and (out := sorted(taken_out(tags).values())):
            return None, (f"nothing is in production since {', '.join(out)[:200]}",)
        ignored: list[str] = []
        for claim in claims:
            name = claimed_id(self.project, claim.commit)
            removal = Evidence(self.observation.history).erased(name)
            if removal is not None:  # what was there before is not there again for that
                told = f"what the release tag {claim.tag[:100]} is on was {words(removal.body)}"
                return None, (*_ignored(ignored), told)
            run = self._released(name, claim.commit)
            if run is not None:
                return Production(run, claim.release, claim.environment), (
                    *_ignored(ignored),
                    *_of_several(tags, claim),
                )
            ignored.append(claim.tag)
        stands = f"nothing was released yet, so the result of {self.project.base} stands for what is in production"
        return None, (*_ignored(ignored), stands)

    def _released(self, name: str, commit: str) -> RunRecord | None:
        """The result of that id, if the index holds it with that very commit."""
        found = self.observation.history.run_by_id(name) if name else None
        return found.run if found is not None and found.entry.result_commit == commit and found.run.succeeded else None


def tags_of_this_clone(project: Project) -> tuple[str, ...]:
    """What this clone's release tags have otherwise than the remote's; for whoever works here, and in no report."""
    try:
        there = project.repository.tags(project.remote)
    except RemoteError:
        return ()
    return differing(there, project.repository.tags_here(), project.remote)


def _of_several(tags: Mapping[str, str], told: Claim) -> tuple[str, ...]:
    names = names_in_production(tags)
    if not told.environment or len(names) < 2:
        return ()
    return (f"several names are in production ({', '.join(names)[:200]}): {told.tag[:100]} is the one told of",)


def _ignored(tags: list[str]) -> tuple[str, ...]:
    if not tags:
        return ()
    more = f" and {len(tags) - 1} more" if len(tags) > 1 else ""
    return (f"the release tag {tags[0][:100]}{more} is on no result of the index, and is not counted",)


ANSWERING = frozenset({Kind.RESULT, Kind.OLDER, Kind.ERASED})
"""Ways in which a target has a run that succeeded, or had one that was erased: nothing is trained for it."""
