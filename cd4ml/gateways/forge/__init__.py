"""A forge (GitHub, GitLab): what is asked of it and told it, as frozen values and one port.

Nothing that a forge answers is trusted beyond its type: texts are texts, to be made visible by whoever shows them, and
every address of a request is made here, never taken from an answer. Each call waits out what passes (``patience``) and
otherwise raises one of the errors below, in one line that names what to do.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, Protocol

from cd4ml.errors import RemoteError
from cd4ml.promotion.addresses import Place
from cd4ml.promotion.posting import Comment, Conclusion

__all__ = [
    "Check",
    "Comment",
    "Conclusion",
    "Forge",
    "ForgeError",
    "GoneError",
    "NotAllowedError",
    "PullRequest",
    "State",
    "UnclearError",
]

State = Literal["open", "closed", "merged"]


@dataclass(frozen=True)
class PullRequest:
    """A pull (GitHub) or merge (GitLab) request.

    ``head_repository`` is ``OWNER/NAME`` on GitHub and the project's number on GitLab, ``""`` when that repository is
    gone. ``labels`` are as the forge spells them.
    """

    number: int
    head_branch: str
    head_commit: str
    head_repository: str
    is_fork: bool
    base_branch: str
    state: State
    url: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Check:
    """The verdict as it stands at a commit: a check run, or a commit status where the token may not write checks.

    ``title`` is plain text of one line, ``summary`` Markdown that only a check run shows, ``details_url`` where to read
    on (``""``: nowhere).
    """

    name: str
    conclusion: Conclusion
    title: str
    summary: str = ""
    details_url: str = ""


class ForgeError(RemoteError):
    """A forge refused, vanished, or answered what cannot be read. The message is one line."""


class GoneError(ForgeError):
    """What was to be read or edited is not there (any more), or the token may not see it."""


class NotAllowedError(ForgeError):
    """The token lacks a right."""


class UnclearError(ForgeError):
    """A write was not confirmed: it may have been done. Read back before it is tried again."""


class Forge(Protocol):
    """One repository on one forge, with one account.

    Every method may raise ForgeError. Reads are repeated when they fail for a while; so is a write that has no other
    effect the second time.
    """

    @property
    def place(self) -> Place:
        """Where the forge shows the repository."""

    @property
    def longest_comment(self) -> int:
        """Characters that a comment may have."""

    def whoami(self) -> str:
        """The account that the token writes as. Asked for once."""

    def pulls_for(self, branch: str) -> tuple[PullRequest, ...]:
        """The open ones whose head is this branch of this repository (not of a fork's branch of that name)."""

    def open_pulls(self) -> tuple[PullRequest, ...]:
        """All open ones, those of forks among them."""

    def pull(self, number: int) -> PullRequest:
        """One by its number. Raises GoneError."""

    def pulls_for_commit(self, commit: str) -> tuple[PullRequest, ...]:
        """The open ones whose head is this commit, those of forks among them."""

    def comments(self, number: int) -> tuple[Comment, ...]:
        """Every comment of a pull request, on all pages, but none that the forge itself wrote."""

    def create_comment(self, number: int, body: str) -> None:
        """Raises UnclearError when it may have been made and was not confirmed."""

    def edit_comment(self, number: int, comment: int, body: str) -> None:
        """Raises GoneError when the comment was deleted, UnclearError as above."""

    def check_stands(self, commit: str, check: Check) -> bool:
        """Does the commit say all of that already, as a check run or as a commit status?"""

    def set_check(self, commit: str, check: Check) -> str:
        """Make it say so; gives ``check run`` or ``commit status``, whichever was written."""

    def change_labels(self, number: int, add: Collection[str], remove: Collection[str]) -> None:
        """Put labels on and take labels off; one that is there, or not there, already is no error."""
