"""Desired and observed state, and the closed words for how they stand to each other."""

from __future__ import annotations

from collections.abc import Container, Mapping
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
    """Every head that asks for something; the base branch first; and what the base branch has of what was asked.

    ``base_fingerprints`` are those of the base branch's first-parent commits, as far as known.
    ``base_commits`` are commits that the base branch contains, as far as asked: those that experiment
    records name are enough, and tell a merged branch from a discarded one after it is deleted.
    ``base_first_parents`` are those on the base branch's first-parent chain among the base's head, the heads
    of ``experiments`` and ``base_commits``: what the base branch contains beside that chain came by a merge.
    The base's own head is always on it, so an empty set says that the chain was not asked for.

    ``landed_as`` tells squash and rebase merges by content: by commit of a branch, the commit on the base branch's
    first-parent chain that holds exactly what merging the branch into its parent gives, and is no older than it.
    ``vanished`` are heads that a fetch has seen, and that the remote does not have any more. ``base_before`` are names
    that the base branch was recorded under before it had its present one.

    What follows is asked for when branches are gone, and may be worked out then. ``brought_by``: by commit that the
    base branch contains, the commit on its first-parent chain that brought it. ``base_asked``: by fingerprint, the
    first commit on that chain with it. ``continued_by``: by recorded commit, the branches that have it or went on from
    it, the likeliest first. ``begun_anew``: pairs of commits of one branch, earlier and later, that have nothing in
    common but the base branch. ``signed``: committer (``Name <address>``) and time (ISO 8601 in UTC) by commit.
    """

    base: str
    experiments: tuple[Experiment, ...]
    base_fingerprints: frozenset[str] = field(default_factory=frozenset)
    base_commits: Container[str] = field(default_factory=frozenset)
    base_first_parents: frozenset[str] = frozenset()
    landed_as: Mapping[str, str] = field(default_factory=dict)
    vanished: tuple[Experiment, ...] = ()
    base_before: tuple[str, ...] = ()
    brought_by: Mapping[str, str] = field(default_factory=dict)
    base_asked: Mapping[str, str] = field(default_factory=dict)
    continued_by: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    begun_anew: Container[tuple[str, str]] = frozenset()
    signed: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def base_names(self) -> tuple[str, ...]:
        """Every name of the base branch, the present one last."""
        return (*self.base_before, self.base)
