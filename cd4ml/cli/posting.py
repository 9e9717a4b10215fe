"""What ``cd4ml report --post`` may be asked together with, and what it prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from cd4ml.cli.context import print_json, say, warn
from cd4ml.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from cd4ml.controller.project import Project
    from cd4ml.controller.reporting.post import Posted
    from cd4ml.controller.reporting.report import Reported


@dataclass(frozen=True)
class Posting:
    """The options that say whether, and where, a report is posted."""

    post: bool
    pulls: tuple[int, ...]
    everything: bool
    dry_run: bool

    def check(self, branch: str, base: str, unverified: Path | None, head: str) -> None:
        """Raises UsageError for options that do not go together."""
        asked = {"--pull": bool(self.pulls), "--all": self.everything, "--dry-run": self.dry_run}
        for name in [name for name, given in asked.items() if given and not self.post]:
            raise UsageError(f"{name}: goes with --post")
        if any(number < 1 for number in self.pulls):
            raise UsageError("--pull: takes the number of a pull request, 1 or more")
        if self.post and base:
            raise UsageError("--base: a report against another commit asks no gate, so it is not posted")
        if bool(head) != (unverified is not None):
            raise UsageError("--unverified DIR and --head SHA go together")
        given = {"BRANCH": bool(branch), "--pull": bool(self.pulls), "--unverified": unverified is not None}
        if self.everything and any(given.values()):
            also = next(name for name, is_given in given.items() if is_given)
            raise UsageError(f"--all: posts on every open pull request, so {also} has no meaning")
        if unverified is not None and (branch or base):
            raise UsageError("--unverified: the branch is a fork's, and its pull request is found by --head")


def post_one(project: Project, reported: Reported, posting: Posting) -> Posted:
    """Post one report."""
    from cd4ml.controller.reporting.post import open_forge, post_report

    pulls = posting.pulls or None
    return post_report(project, open_forge(project), reported, pulls=pulls, rehearse=posting.dry_run)


def post_everything(project: Project, posting: Posting, *, as_json: bool) -> None:
    """Post on every open pull request. Raises ``typer.Exit`` when one of them refused."""
    from cd4ml.controller.reporting.post import open_forge, post_all

    done = post_all(project, open_forge(project), rehearse=posting.dry_run)
    if as_json:
        print_json("posted", posted_json(done))
    else:
        tell(done)
    exit_if_refused(done)


def posted_json(done: Sequence[Posted]) -> list[dict[str, Any]]:
    """What was posted, for ``--json``."""
    return [one.as_json() for one in done]


def tell(done: Sequence[Posted], *, aside: bool = False) -> None:
    """One line a pull request: what was done on stdout (``aside``: on stderr), what was refused on stderr."""
    if not done:
        say("no open pull request of a branch of this repository")
    for one in done:
        for line in one.lines:
            (warn if aside or one.failed else say)(line)


def exit_if_refused(done: Sequence[Posted]) -> None:
    """Exit 1 when a pull request, or a branch, refused its report."""
    if any(one.failed for one in done):
        raise typer.Exit(1)
