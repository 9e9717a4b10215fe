"""Facts of Git on branches that are gone, worked out when somebody asks for them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

from cd4ml.controller.desired.heads import FIRST_PARENTS, HeadReader
from cd4ml.controller.project import Project
from cd4ml.index.history import History
from cd4ml.index.record import ExperimentRecord
from cd4ml.plan.lifecycle import succession
from cd4ml.plan.state import Experiment


class GoneFacts:
    """What a plan needs to know of gone branches, as ``DesiredState`` has it.

    A plan that nobody asks for its gone branches asks for none of this, and pays for none of it.
    """

    def __init__(
        self,
        project: Project,
        reader: HeadReader,
        history: History,
        experiments: list[Experiment],
        base_names: Sequence[str],
    ) -> None:
        self._project = project
        self._base_names = base_names
        self._reader = reader
        self._whole = history
        self._experiments = experiments
        self.base_commits: Container[str] = _LazySet(lambda: self._base_history)
        self.brought_by: Mapping[str, str] = _LazyMapping(self._brought)
        self.base_asked: Mapping[str, str] = _LazyMapping(self._asked_by_base)
        self.continued_by: Mapping[str, tuple[str, ...]] = _LazyMapping(self._continued)
        self.signed: Mapping[str, tuple[str, str]] = _Signed(self._signed_first, reader)
        self.begun_anew: Container[tuple[str, str]] = _LazySet(self._begun_anew)

    def landed_as(self, known: Mapping[str, str]) -> Mapping[str, str]:
        """``known`` is of the heads that are there; that of gone branches is worked out when it is asked for."""
        heads = {one.commit for one in self._experiments}
        return _LandedAs(known, heads, lambda: self._reader.landed_as(self._gone_commits()))

    @cached_property
    def _history(self) -> History:
        """With the records of all branches at hand: whoever asks here asks about each."""
        return self._whole.looked_up(self._whole.branches, ())

    @cached_property
    def _base_history(self) -> Mapping[str, tuple[str, ...]]:
        return self._project.repository.history_of(self._reader.base.commit)

    def _gone_commits(self) -> list[str]:
        """Every recorded commit that no head is at and the base branch does not contain."""
        heads = {one.commit for one in self._experiments}
        found = {
            entry.experiment.commit
            for branch in self._history.branches
            if branch != self._project.base
            for entry in self._history.of_branch(branch)
        }
        return sorted(commit for commit in found - heads if commit not in self._base_history)

    def _brought(self) -> dict[str, str]:
        """By commit that the base branch contains, the commit of its first-parent chain that brought it."""
        history, found = self._base_history, {commit: commit for commit in self._reader.base_chain}
        for step in reversed(self._reader.base_chain):
            left = [parent for parent in history[step][1:] if parent not in found]
            while left:
                commit = left.pop()
                found[commit] = step
                left += [parent for parent in history.get(commit, ()) if parent not in found]
        return found

    def _asked_by_base(self) -> dict[str, str]:
        """By fingerprint, the first recorded commit of the base branch with it, or the first that came since."""
        found: dict[str, str] = {}
        recorded = recorded_on_base(self._project, self._history, self._reader.base_chain, self._base_names)
        for one in recorded:
            if one.fingerprint:
                found.setdefault(one.fingerprint, one.commit)
        known = {one.commit for one in recorded}
        since = []
        for commit in self._reader.base_chain[:FIRST_PARENTS]:
            if commit in known:
                break
            since.append(commit)
        asks = self._reader.asks_alone(since)
        for commit in reversed(since):
            parts = asks[commit].components if commit in asks else None
            if parts is not None:
                found.setdefault(parts.fingerprint, commit)
        return found

    def _continued(self) -> dict[str, tuple[str, ...]]:
        """By commit that the base branch does not have, the branches that have it: those at it, then by name."""
        heads = [one for one in self._experiments if not one.is_base]
        parents = self._project.repository.commits_ahead([one.commit for one in heads], self._reader.base.commit)
        found: dict[str, list[str]] = {}
        for at_head in (True, False):
            for one in sorted(heads, key=lambda one: one.branch):
                for commit in [one.commit] if at_head else _below(one.commit, parents):
                    if commit in parents:
                        found.setdefault(commit, []).append(one.branch)
        return {commit: tuple(branches) for commit, branches in found.items()}

    def _signed_first(self) -> dict[str, tuple[str, str]]:
        """Who made the last record of each branch, and the newest commits of the base branch, and when."""
        last = [self._history.of_branch(branch)[-1].entry.result_commit for branch in self._history.branches]
        return self._reader.signatures([*last, *self._reader.base_chain[:FIRST_PARENTS]])

    def _begun_anew(self) -> frozenset[tuple[str, str]]:
        there = {one.branch: one for one in self._experiments}
        everyone = {*self._history.branches, *there} - {self._project.base}
        pairs = {pair for branch in everyone for pair in pairwise(succession(branch, self._history, there.get(branch)))}
        return self._reader.begun_anew(pairs, frozenset(self._reader.base_chain)) if pairs else frozenset()


def recorded_on_base(
    project: Project, history: History, chain: Collection[str], names: Sequence[str]
) -> list[ExperimentRecord]:
    """What was recorded of the base branch's commits, under any of its names, that are on its first-parent chain still.

    It may have been moved back. Where its history is cut off in this clone, nobody can tell, and all are.
    """
    on_chain, whole = frozenset(chain), not project.repository.is_shallow
    recorded = [entry.experiment for name in names for entry in history.of_branch(name)]
    return [one for one in recorded if one.commit in on_chain or not whole]


def _below(commit: str, parents: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    """The commits of ``parents`` that a commit stands on."""
    seen, left = {commit}, [commit]
    while left:
        for parent in parents.get(left.pop(), ()):
            if parent in parents and parent not in seen:
                seen.add(parent)
                left.append(parent)
                yield parent


# ── worked out when they are asked for ──


class _LazyMapping(Mapping[Any, Any]):
    def __init__(self, make: Callable[[], Mapping[Any, Any]]) -> None:
        self._make = make

    @cached_property
    def _made(self) -> Mapping[Any, Any]:
        return self._make()

    def __getitem__(self, key: Any) -> Any:
        return self._made[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)


class _Signed(_LazyMapping):
    """All that is likely to be asked for at once; whatever else one by one."""

    def __init__(self, make: Callable[[], Mapping[Any, Any]], reader: HeadReader) -> None:
        super().__init__(make)
        self._reader = reader

    def __getitem__(self, key: Any) -> Any:
        return self._made[key] if key in self._made else self._reader.signatures([key])[key]


class _LazySet(Container[Any]):
    def __init__(self, make: Callable[[], Container[Any]]) -> None:
        self._make = make

    @cached_property
    def _made(self) -> Container[Any]:
        return self._make()

    def __contains__(self, value: object) -> bool:
        return value in self._made


@dataclass(frozen=True)
class _LandedAs(Mapping[str, str]):
    """Known for the heads that are there; worked out for other commits."""

    known: Mapping[str, str]
    heads: Container[str]
    others: Callable[[], Mapping[str, str]]

    @cached_property
    def _others(self) -> Mapping[str, str]:
        return self.others()

    def __getitem__(self, commit: str) -> str:
        return self.known[commit] if commit in self.known or commit in self.heads else self._others[commit]

    def __iter__(self) -> Iterator[str]:
        return iter({**self._others, **self.known})

    def __len__(self) -> int:
        return len({**self._others, **self.known})
