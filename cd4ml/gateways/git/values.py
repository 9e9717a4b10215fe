"""What is said about Git: names of refs, and values that questions are answered with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

HERE = "."
"""The remote's name when a repository has none: it is then its own remote."""

OBJECTS_ALONE = ("--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--refmap=")
"""What a fetch is told that is to bring objects, and to move no ref and write no file of the user's."""

HEADS = "refs/heads/"
TAGS = "refs/tags/"
LANDING = "refs/cd4ml/landing/"
CLAIMS = "refs/cd4ml/claims/"
IMPORTS = "refs/cd4ml/imports/"
"""Below it one ref for each tool that runs are imported from, which each import moves: of two at once, one sees it."""

INDEX_BRANCH = "cd4ml/index"
INDEX = HEADS + INDEX_BRANCH
SEEN = "refs/cd4ml/remote/"
"""Below it lies what the last fetch saw of the remote."""

DRAFT = "refs/cd4ml/draft/"
"""Below it lie records that are kept in this clone alone."""


@dataclass(frozen=True)
class CommitInfo:
    """Who made a commit and when; ``author`` is ``Name <address>``, ``committed`` ISO 8601 in UTC."""

    commit: str
    tree: str
    parents: tuple[str, ...]
    author: str
    committer: str
    committed: str
    subject: str


@dataclass(frozen=True)
class Authorship:
    """A commit's parents, and ``stamp``: who wrote it and when, which a rebase or an amended commit keeps."""

    parents: tuple[str, ...]
    stamp: str


@dataclass(frozen=True)
class Tag:
    """What a tag points to, an annotated one followed; ``annotated`` has a message, an author and a date of its own."""

    commit: str
    annotated: bool


@dataclass(frozen=True)
class RefUpdate:
    """Move ``ref`` on the remote from ``old`` to ``new``; an empty ``old`` creates, an empty ``new`` deletes."""

    ref: str
    old: str
    new: str


@dataclass(frozen=True)
class RemoteState:
    """The remote's refs as one fetch saw them: heads by branch name, landing refs by full name.

    ``drafts`` are records that are kept here alone, by the name of the ref that they would land under. ``claims``
    are objects by full name of their ref; they say nothing of what is recorded, so states are equal without them.
    ``vanished`` are heads that an earlier fetch saw, as branch and commit: the remote does not have them any more.
    ``misplaced`` are landing refs, by full name, that lead to an object which is no commit, and so hold no record.
    ``is_index_remembered``: the remote's index is not what it was, and what this clone remembers stands in its place.
    """

    heads: Mapping[str, str]
    landing: Mapping[str, str]
    drafts: Mapping[str, str] = field(default_factory=dict)
    claims: Mapping[str, str] = field(default_factory=dict, compare=False)
    vanished: tuple[tuple[str, str], ...] = ()
    misplaced: Mapping[str, str] = field(default_factory=dict)
    is_index_remembered: bool = False

    @property
    def index(self) -> str | None:
        """The tip of the index branch."""
        return self.heads.get(INDEX_BRANCH)


@dataclass(frozen=True)
class Draft:
    """A record that is kept here alone: its commit, and the fingerprint that the commit's message names."""

    commit: str
    fingerprint: str
