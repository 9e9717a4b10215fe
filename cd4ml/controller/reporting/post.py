"""Post a report on the pull requests of its branch: one comment, one check, the labels of the verdict.

What is written is decided by ``promotion.posting`` from what stands there, so a second post of the same report writes
nothing. What one pull request refuses keeps no other from its report.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, Literal

from cd4ml.controller.desired.specs import spec_of
from cd4ml.controller.landing import trust
from cd4ml.controller.project import Project
from cd4ml.controller.reporting.report import Reported, Reporter
from cd4ml.errors import Cd4mlError, RemoteError
from cd4ml.gateways.forge import Check, Forge, ForgeError, GoneError, PullRequest, UnclearError
from cd4ml.promotion.addresses import file_addresses
from cd4ml.promotion.posting import check_name, conclusion_of, identity, label_change, marked, marker, room, writing
from cd4ml.promotion.review import Review
from cd4ml.report.visible import visible
from cd4ml.spec.experiment import CiSpec

_TRIES = 4
_LONGEST_COMMENT = 65_000
"""Characters, also where a forge would take more: longer ones are not read."""

_LONGEST_SUMMARY = 16_000
_LONGEST_WHOLE = 400_000
_WHOLE = "report.md"
_PATH = ""
"""A project is the whole of its repository."""

Done = Literal["created", "edited", "unchanged", "nothing"]


@dataclass(frozen=True)
class PostedPull:
    """What became of one pull request. ``check`` is empty where none was to be looked at.

    ``left`` says why nothing was posted, ``problem`` what was refused.
    """

    number: int
    url: str
    comment: Done = "nothing"
    check: str = ""
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    left: str = ""
    problem: str = ""

    @property
    def writes(self) -> int:
        """How many things were written (or would be)."""
        return (
            (self.comment in ("created", "edited"))
            + (self.check not in ("", "unchanged"))
            + bool(self.added or self.removed)
        )

    def line(self, rehearsed: bool) -> str:
        """One line for a log."""
        start = f"pull request {self.number}: "
        if self.left:
            return visible(f"{start}nothing posted, {self.left}")
        would = "would be " if rehearsed else ""
        said = {
            "created": f"comment {would}created",
            "edited": f"comment {would}edited",
            "unchanged": "comment unchanged",
        }
        told = [said.get(self.comment, "no comment")]
        if self.check:
            told.append("check unchanged" if self.check == "unchanged" else f"{self.check} {would}written")
        told += [f"label {name} {would}put on" for name in self.added]
        told += [f"label {name} {would}taken off" for name in self.removed]
        if self.problem:
            told.append(f"then {self.problem}")
        return visible(f"{start}{', '.join(told)} ({self.url})")


@dataclass(frozen=True)
class Posted:
    """What became of the pull requests of one branch. ``notes`` are lines about what could not be done beside it."""

    branch: str
    pulls: tuple[PostedPull, ...] = ()
    notes: tuple[str, ...] = ()
    rehearsed: bool = False
    problem: str = ""

    @property
    def failed(self) -> bool:
        return bool(self.problem) or any(pull.problem for pull in self.pulls)

    @property
    def lines(self) -> tuple[str, ...]:
        """What was done, one line each, fit for a log."""
        if self.problem:
            return (visible(f"branch {self.branch}: {self.problem}"),)
        none = () if self.pulls else (visible(f"branch {self.branch}: has no open pull request"),)
        return (*none, *(pull.line(self.rehearsed) for pull in self.pulls), *map(visible, self.notes))

    def as_json(self) -> dict[str, Any]:
        pulls = [
            {
                "number": pull.number,
                "url": pull.url,
                "comment": pull.comment,
                "check": pull.check or None,
                "labels_added": list(pull.added),
                "labels_removed": list(pull.removed),
                "left": pull.left or None,
                "problem": pull.problem or None,
            }
            for pull in self.pulls
        ]
        return {
            "branch": self.branch,
            "pulls": pulls,
            "notes": list(self.notes),
            "dry_run": self.rehearsed,
            "problem": self.problem or None,
        }


def open_forge(project: Project) -> Forge:
    """The forge that ``conf/ci`` of the base branch names, as the environment lets us into it.

    Raises UsageError when there is no token or nothing tells the repository, ConfigError for the base branch's conf.
    """
    from cd4ml.gateways.forge.access import find_access
    from cd4ml.gateways.forge.patience import Patience

    ci = _ci(project)
    url = project.repository.remote_url(project.remote) if project.has_remote else ""
    access = find_access(ci, url, os.environ)
    patience = Patience(tell=_tell)
    if ci.provider == "github":
        from cd4ml.gateways.forge.github import GitHub

        return GitHub(access, patience)
    from cd4ml.gateways.forge.gitlab import GitLab

    return GitLab(access, patience)


def _tell(line: str) -> None:
    sys.stderr.write(f"cd4ml: {visible(line)}\n")
    sys.stderr.flush()


def _ci(project: Project) -> CiSpec:
    """Of the base branch alone: a branch does not choose whom a token is sent to."""
    heads = project.repository.last_seen().heads if project.has_remote else project.repository.local_heads()
    commit = heads.get(project.base) or trust.fetch(project).heads.get(project.base)
    if commit is None:
        raise project.without_base()
    return spec_of(project, commit)[0].ci


def post_report(
    project: Project,
    forge: Forge,
    reported: Reported,
    *,
    pulls: Sequence[int] | None = None,
    rehearse: bool = False,
) -> Posted:
    """Post on the open pull requests of the branch, or on those that are named by number; ``rehearse`` writes nothing.

    The pull request of a result that is not verified is found through the head commit, which is a fork's. Side effects:
    comments, checks and labels on the forge; the plots and the whole report on the remote. Raises ForgeError when the
    pull requests cannot be read; what one of them refuses is told in its place.
    """
    review = reported.review
    found = _found(forge, review, pulls)
    ci = _ci(project)
    told = {pull.number: _why_not(pull, review, project.base, ci.fork_label) for pull in found}
    open_ones = [pull for pull in found if not told[pull.number]]
    if not open_ones:
        left = tuple(PostedPull(pull.number, pull.url, left=told[pull.number]) for pull in found)
        return Posted(review.branch, left, rehearsed=rehearse)
    key = identity(_PATH, project.base, min(pull.number for pull in open_ones))
    page = _Page(reported, project.base)
    if review.verdict != "unverified":  # of a stranger's numbers nothing is kept, and their job may not push
        page = _published(project, forge, page, "" if rehearse else key)
    checked = set[str]()
    done: list[PostedPull] = []
    for pull in found:
        if told[pull.number]:
            done.append(PostedPull(pull.number, pull.url, left=told[pull.number]))
            continue
        done.append(_post(forge, pull, page, ci, rehearse=rehearse, with_check=pull.head_commit not in checked))
        checked.add(pull.head_commit)
    return Posted(review.branch, tuple(done), page.notes, rehearse)


def post_all(project: Project, forge: Forge, *, rehearse: bool = False) -> tuple[Posted, ...]:
    """Post on every open pull request of a branch of this repository; what one branch refuses stops no other.

    Reports of pull requests that are open no longer are dropped from the remote. Raises ForgeError when the pull
    requests cannot be listed, and what ``report_on`` raises for the base branch.
    """
    open_ones = forge.open_pulls()
    branches: dict[str, list[int]] = {}
    for pull in open_ones:
        if not pull.is_fork and pull.head_branch != project.base == pull.base_branch:
            branches.setdefault(pull.head_branch, []).append(pull.number)
    done: list[Posted] = []
    reporters = [Reporter.open(project)] if branches else []
    for reporter, (branch, numbers) in product(reporters, sorted(branches.items())):
        try:
            done.append(post_report(project, forge, reporter.on(branch), pulls=numbers, rehearse=rehearse))
        except Cd4mlError as error:
            done.append(Posted(branch, problem=str(error), rehearsed=rehearse))
        except Exception as error:  # noqa: BLE001  # a defect met on one branch must not stop the others
            what = f"a defect of cd4ml: {type(error).__name__}: {error}"
            done.append(Posted(branch, problem=what, rehearsed=rehearse))
    if not rehearse:
        _drop_closed(project, open_ones)
    return tuple(done)


def _drop_closed(project: Project, open_ones: Sequence[PullRequest]) -> None:
    from cd4ml.controller.reporting.publish_report import drop_reports

    with suppress(RemoteError):  # they are in nobody's way
        drop_reports(project, [identity(_PATH, project.base, pull.number) for pull in open_ones])


def _found(forge: Forge, review: Review, pulls: Sequence[int] | None) -> tuple[PullRequest, ...]:
    if pulls is not None:
        return tuple(forge.pull(number) for number in dict.fromkeys(pulls))
    if review.verdict == "unverified":
        return tuple(pull for pull in forge.pulls_for_commit(review.commit) if pull.is_fork)
    return forge.pulls_for(review.branch)


def _why_not(pull: PullRequest, review: Review, base: str, fork_label: str) -> str:
    """Why this pull request gets no report, or ``""``. Whatever is said of it is the forge's word, not a branch's.

    A fork may change the workflow that waits for the label, so whether it is there is asked again; a post takes it off.
    """
    if pull.state != "open":
        return f"it is {pull.state}"
    if pull.base_branch != base:
        return f"it is into {pull.base_branch or 'no branch'}, and the report compares with {base}"
    if pull.head_commit != review.commit:
        at = pull.head_commit[:8] or "no commit"
        return f"its head is {at} and the report is of {review.commit[:8]}: whoever reports on that head posts"
    if pull.is_fork and review.verdict != "unverified":
        return "it is a fork's: only an unverified report goes there"
    if review.verdict == "unverified" and fork_label and fork_label.casefold() not in map(str.casefold, pull.labels):
        return f"it does not have the label {fork_label!r}"
    return ""


@dataclass(frozen=True)
class _Page:
    """The report as it is shown: where the plots are, and the whole text."""

    reported: Reported
    base: str
    plots: tuple[tuple[str, str, str], ...] = ()
    whole: str = ""
    notes: tuple[str, ...] = field(default=())

    def text(self, limit: int) -> str:
        from cd4ml.report.markdown import PlotLink, markdown_report

        links = [PlotLink(title, alt, url) for title, alt, url in self.plots]
        return markdown_report(self.reported.review, plots=links, whole=self.whole, limit=limit)

    @property
    def check(self) -> Check:
        from cd4ml.report.markdown import markdown_report
        from cd4ml.report.review import one_line_verdict

        review = self.reported.review
        summary = markdown_report(review, whole=self.whole, limit=_LONGEST_SUMMARY)
        return Check(check_name(review), conclusion_of(review), one_line_verdict(review), summary, self.whole)


def _published(project: Project, forge: Forge, page: _Page, key: str) -> _Page:
    """Plots and the whole text, put where the forge shows them; without a ``key`` their addresses alone, unpushed.

    A report without them is better than none.
    """
    from cd4ml.controller.reporting.publish_report import publish_report
    from cd4ml.report.plots import draw

    reported, notes = page.reported, list[str]()
    drawn: dict[str, tuple[str, str, bytes]] = {}
    try:
        plots = draw(reported.review, reported.paired, reported.story, reported.importance, reported.curves)
        drawn = {_file(plot.name): (plot.title, plot.alt, plot.png) for plot in plots}
    except Exception as error:  # noqa: BLE001  # a defect in a plot must not keep the verdict from its reader
        notes.append(f"plots: none, they could not be drawn ({type(error).__name__}: {error})")
    files = {name: png for name, (_, _, png) in drawn.items()}
    try:
        files[_WHOLE] = page.text(_LONGEST_WHOLE).encode()  # its pictures stand in the comment
        commit = publish_report(project, key, files) if key else project.repository.write_report(files)
    except Cd4mlError as error:
        return replace(page, notes=(*notes, f"plots: none, the remote does not take them ({error})"))
    at = file_addresses(forge.place, commit, files)
    links = tuple((title, alt, at[name]) for name, (title, alt, _) in drawn.items())
    return replace(page, plots=links, whole=at[_WHOLE], notes=tuple(notes))


def _file(name: str) -> str:
    return name if name.endswith(".png") else f"{name}.png"


def _post(forge: Forge, pull: PullRequest, page: _Page, ci: CiSpec, *, rehearse: bool, with_check: bool) -> PostedPull:
    """All that one pull request gets; what it refuses ends it, and is told."""
    done = PostedPull(pull.number, pull.url)
    try:
        done = replace(done, comment=_comment(forge, pull, page, rehearse=rehearse))
        if with_check:
            done = replace(done, check=_check(forge, pull, page, rehearse=rehearse))
        change = label_change(pull.labels, ci.labels, page.reported.review, ci.fork_label)
        if change and not rehearse:
            forge.change_labels(pull.number, change.add, change.remove)
        return replace(done, added=change.add, removed=change.remove)
    except ForgeError as error:
        return replace(done, problem=str(error))


def _comment(forge: Forge, pull: PullRequest, page: _Page, *, rehearse: bool) -> Done:
    """One comment of ours that says it. What was not confirmed, or vanished meanwhile, is looked at again."""
    mark = marker(_PATH, page.base, pull.number)
    body = marked(mark, page.text(min(room(mark, forge.longest_comment), _LONGEST_COMMENT)))
    tried: Done = "unchanged"
    for left in reversed(range(_TRIES)):
        what = writing(forge.comments(pull.number), mark, forge.whoami(), body)
        if what.comment is not None and what.what == "leave":
            return tried
        tried = "created" if what.comment is None else "edited"
        if rehearse:
            return tried
        try:
            if what.comment is None:
                forge.create_comment(pull.number, body)
            else:
                forge.edit_comment(pull.number, what.comment, body)
        except (GoneError, UnclearError) as error:
            if not left or (what.comment is None and isinstance(error, GoneError)):
                raise
            continue
        return tried
    raise AssertionError


def _check(forge: Forge, pull: PullRequest, page: _Page, *, rehearse: bool) -> str:
    check = page.check
    if not check.details_url:
        check = replace(check, details_url=pull.url)
    if forge.check_stands(pull.head_commit, check):
        return "unchanged"
    return "check" if rehearse else forge.set_check(pull.head_commit, check)
