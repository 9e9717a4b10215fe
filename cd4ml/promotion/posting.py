"""What to write on a pull request, and what to leave as it is: decided from what stands there already.

The comment of cd4ml begins with a hidden line that names the project and the pull request by the forge's own number, so
that it is found again after a rebase, a force-push, a renamed branch or a second run. Whoever can comment can copy that
line; so a comment is ours only when our own account wrote it too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from cd4ml.promotion.review import Review

Conclusion = Literal["success", "failure", "neutral", "action_required", "pending"]
"""Of the check on a commit, in GitHub's words; ``pending`` is none yet."""

CHECK = "cd4ml"
"""The name of the check, for a rule of the forge that requires it."""

CHECK_OF_FORKS = "cd4ml (unverified)"
"""Another one for results of which no record is made: a neutral check lets a rule pass that requires its name."""


@dataclass(frozen=True)
class Comment:
    """A comment on a pull request: the forge's id, the account that wrote it, its text."""

    id: int
    author: str
    body: str


@dataclass(frozen=True)
class Writing:
    """What to do about the comment. ``comment`` is the id of the one that stands, nothing where one is to be made."""

    what: Literal["create", "edit", "leave"]
    comment: int | None = None


def identity(path: str, base: str, number: int) -> str:
    """A digest (16 hexadecimal digits) of the project, its base branch and the forge's number of the pull request.

    ``path`` is the project's folder within its repository, ``""`` or ``.`` for the whole.
    """
    return _digest(_folder(path), base, str(number))


def marker(path: str, base: str, number: int) -> str:
    """The hidden line. It says nothing that a rebase, a force-push, a renamed branch or another run would change."""
    project = _digest(_folder(path), base)
    return f"<!-- cd4ml:report v1 project={project} pull={number} -->"


def _folder(path: str) -> str:
    return "/".join(part for part in path.split("/") if part not in ("", "."))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def marked(mark: str, report: str) -> str:
    """The whole text of the comment."""
    return f"{mark}\n{_normal(report)}"


def room(mark: str, limit: int) -> int:
    """Characters that the marker leaves for the report where a comment may have ``limit``."""
    return limit - len(mark) - 1


def ours(comments: Iterable[Comment], mark: str, me: str) -> Comment | None:
    """The comment to keep current: the oldest that begins with the marker and that ``me`` wrote.

    Forges give ids in order and take names of accounts for the same whatever their case.
    """
    found = [one for one in comments if one.author.casefold() == me.casefold() and _begins_with(one.body, mark)]
    return min(found, key=lambda one: one.id, default=None)


def writing(comments: Iterable[Comment], mark: str, me: str, body: str) -> Writing:
    """What to do so that one comment of ours says ``body``, given all comments of the pull request."""
    standing = ours(comments, mark, me)
    if standing is None:
        return Writing("create")
    return Writing("leave" if same_text(standing.body, body) else "edit", standing.id)


def same_text(one: str, other: str) -> bool:
    """Would a forge show the same? Line ends, and blanks at the end, are its own affair."""
    return _normal(one) == _normal(other)


def _normal(text: str) -> str:
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "\n".join(line.rstrip() for line in lines).strip("\n")


def _begins_with(body: str, mark: str) -> bool:
    return _normal(body).split("\n", 1)[0] == mark


def check_name(review: Review) -> str:
    """Under which name the verdict stands at the commit."""
    return CHECK_OF_FORKS if review.verdict == "unverified" else CHECK


def conclusion_of(review: Review) -> Conclusion:
    """The verdict of the gates.

    ``success`` when every gate is passed, or when the branch asks for what the base branch has already; ``failure``
    when one holds, or the run failed; ``action_required`` when no gate could be looked at and somebody has to do
    something (take main in, find more rows), or when merging would change the base branch's policy, which no gate
    judges; ``pending`` before there is a result; ``neutral`` for a fork's result, which is no evidence.
    """
    if review.verdict == "unverified":
        return "neutral"
    if review.verdict == "pending":
        return "pending"
    if review.verdict == "failed":
        return "failure"
    if review.verdict in ("take main in", "not comparable"):
        return "action_required"
    if review.held and not _asks_for_the_same(review):
        return "failure"
    return "action_required" if review.merge.moves_policy else "success"


def _asks_for_the_same(review: Review) -> bool:
    one, other = review.challenger, review.champion
    return one is not None and other is not None and one.fingerprint == other.fingerprint


@dataclass(frozen=True)
class LabelChange:
    """Labels to put on and to take off."""

    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.add or self.remove)


def label_change(
    present: Collection[str], labels: Mapping[str, str], review: Review, fork_label: str = ""
) -> LabelChange:
    """What makes the labels of a pull request say the verdict. ``labels`` is ``ci.labels``: verdict (``_`` for a
    blank) → label.

    Only labels that stand there are ever taken off. ``fork_label`` (``ci.fork_label``) is a person's to put on, for one
    commit of a fork: the report of a fork's result takes it off, so that it says nothing of the next commit, and no
    other report does. A forge takes names of labels for the same whatever their case.
    """
    wanted = labels.get(review.verdict.replace(" ", "_"), "")
    there = {name.casefold(): name for name in present}
    add = (wanted,) if wanted and wanted.casefold() not in there else ()
    used = {fork_label.casefold()} if fork_label and review.verdict == "unverified" else set()
    kept = {wanted.casefold(), fork_label.casefold()}
    named = sorted({name.casefold() for name in labels.values() if name} - kept | used)
    return LabelChange(add, tuple(there[name] for name in named if name in there))
