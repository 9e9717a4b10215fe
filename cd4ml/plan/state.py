"""Desired and observed state, and the closed words for how they stand to each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from cd4ml.errors import Problem
from cd4ml.spec.fingerprint import Components


class SyncStatus(StrEnum):
    """Does the index hold what the head asks for?"""

    SYNCED = "Synced"
    OUT_OF_SYNC = "OutOfSync"
    UNKNOWN = "Unknown"


class Health(StrEnum):
    """How the run that answers stands."""

    HEALTHY = "Healthy"
    PROGRESSING = "Progressing"
    DEGRADED = "Degraded"
    MISSING = "Missing"
    UNKNOWN = "Unknown"


class Lifecycle(StrEnum):
    """What became of the branch."""

    OPEN = "open"
    MERGED = "merged"
    DISCARDED = "discarded"


Side = Literal["head", "merge"]


@dataclass(frozen=True)
class Target:
    """One tree that may be run: a branch's head, or its merge result with the base branch.

    ``commit`` is the commit to run (for a merge result, the deterministic merge commit); ``components``
    is missing exactly when ``problems`` says why the configuration was refused.
    """

    side: Side
    commit: str
    tree: str
    components: Components | None
    problems: tuple[Problem, ...] = ()

    @property
    def fingerprint(self) -> str | None:
        return self.components.fingerprint if self.components else None


@dataclass(frozen=True)
class Experiment:
    """What one branch asks for now.

    ``merge`` is missing for the base branch and where the merge conflicts (``conflicts`` then names the
    files). ``published`` is false for a local head that the remote does not have. ``ancestor_of_base`` is
    true when the base branch contains the commit. ``committed`` is the commit's own time, ISO 8601 with its
    zone: a fact of the commit, so that two machines write the same record. ``unpushed`` is a local commit of
    the same branch that the remote does not have; nothing but the reason speaks of it.
    """

    branch: str
    commit: str
    is_base: bool
    author: str
    name: str
    hypothesis: str
    tags: tuple[str, ...]
    head: Target
    merge: Target | None = None
    conflicts: tuple[str, ...] = ()
    published: bool = True
    ancestor_of_base: bool = False
    unpushed: str | None = None
    committed: str = field(kw_only=True)


@dataclass(frozen=True)
class DesiredState:
    """Every head that asks for something; the base branch first.

    ``base_fingerprints`` are those of the base branch's first-parent commits, as far as known.
    ``base_commits`` are commits that the base branch contains, as far as asked: those that experiment
    records name are enough, and tell a merged branch from a discarded one after it is deleted.
    ``base_first_parents`` are those on the base branch's first-parent chain among the base's head, the heads
    of ``experiments`` and ``base_commits``: what the base branch contains beside that chain came by a merge.
    The base's own head is always on it, so an empty set says that the chain was not asked for.
    """

    base: str
    experiments: tuple[Experiment, ...]
    base_fingerprints: frozenset[str] = field(default_factory=frozenset)
    base_commits: frozenset[str] = field(default_factory=frozenset)
    base_first_parents: frozenset[str] = frozenset()
