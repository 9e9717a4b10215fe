"""GitHub, and a GitHub of one's own, by PyGithub."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import github
import requests
from github import Auth
from github.GithubObject import NotSet

from cd4ml.gateways.forge import (
    Check,
    Comment,
    Conclusion,
    ForgeError,
    GoneError,
    NotAllowedError,
    PullRequest,
    State,
    answers,
)
from cd4ml.gateways.forge.access import Access
from cd4ml.gateways.forge.connection import unanswered, unreadable
from cd4ml.gateways.forge.patience import Call, Failure, Patience, patiently
from cd4ml.promotion.addresses import Place

if TYPE_CHECKING:
    from github.CheckRun import CheckRun
    from github.PullRequest import PullRequest as Pull

T = TypeVar("T")

_SECONDS = 30
_PAGE = 100
_LONGEST_COMMENT = 65_536
_LONGEST_DESCRIPTION = 140
_ACTIONS = "github-actions[bot]"
"""The account of the token that a workflow is given, which may not ask who it is."""

_STATES: dict[Conclusion, str] = {
    "success": "success",
    "failure": "failure",
    "action_required": "failure",
    "neutral": "pending",
    "pending": "pending",
}
"""A commit status knows no neutral: pending, since green would say that it was verified."""

_CAUGHT = (
    github.GithubException,
    github.BadAttributeException,
    requests.RequestException,
    AssertionError,  # PyGithub's, for an address on another host and the like
    AttributeError,
    KeyError,
    RuntimeError,
    TypeError,
    ValueError,
)


class GitHub:
    """One repository there. A ``Forge``."""

    def __init__(self, access: Access, patience: Patience) -> None:
        self._access = access
        self._patience = patience
        self._me = access.account
        self._client = github.Github(
            base_url=access.api,
            auth=Auth.Token(access.token),
            timeout=_SECONDS,
            per_page=_PAGE,
            user_agent="cd4ml",
            retry=None,
            seconds_between_requests=None,
            seconds_between_writes=None,
            lazy=True,
        )
        self._repository = self._client.get_repo(access.place.repository)

    @property
    def place(self) -> Place:
        return self._access.place

    @property
    def longest_comment(self) -> int:
        return _LONGEST_COMMENT

    def whoami(self) -> str:
        if not self._me:
            user = self._client.get_user()
            try:
                self._me = self._call("read the account", "user: read", lambda: answers.text(user.login, "an account"))
            except NotAllowedError:
                self._me = _ACTIONS
        return self._me

    def pulls_for(self, branch: str) -> tuple[PullRequest, ...]:
        owner = self.place.repository.split("/")[0]
        found = self._pulls(head=f"{owner}:{branch}")
        return tuple(one for one in found if one.head_branch == branch and not one.is_fork)

    def open_pulls(self) -> tuple[PullRequest, ...]:
        return self._pulls()

    def pull(self, number: int) -> PullRequest:
        return self._call(
            f"read pull request #{number}",
            "pull requests: read",
            lambda: _pull(self._repository.get_pull(number)),
        )

    def pulls_for_commit(self, commit: str) -> tuple[PullRequest, ...]:
        return tuple(one for one in self._pulls() if one.head_commit == commit)

    def _pulls(self, **asked: str) -> tuple[PullRequest, ...]:
        def listed() -> tuple[PullRequest, ...]:
            return tuple(_pull(one) for one in self._repository.get_pulls(state="open", **asked))

        return self._call("list pull requests", "pull requests: read", listed)

    def comments(self, number: int) -> tuple[Comment, ...]:
        def listed() -> tuple[Comment, ...]:
            return tuple(
                Comment(
                    answers.number(one.id, "the id of a comment"),
                    answers.text(one.user.login if one.user else None, "an account", absent=True),
                    answers.text(one.body, "a comment", absent=True),
                )
                for one in self._repository.get_issue(number).get_comments()
            )

        return self._call(f"list the comments of #{number}", "pull requests: read", listed)

    def create_comment(self, number: int, body: str) -> None:
        comment = self._call(
            f"comment on #{number}",
            "pull requests: write",
            lambda: self._repository.get_issue(number).create_comment(body).user.login,
            repeatable=False,
        )
        self._check_author(answers.text(comment, "an account"))

    def _check_author(self, author: str) -> None:
        """A token whose account we took for another's would leave a new comment each time."""
        if author.casefold() != self.whoami().casefold():
            self._patience.tell(
                f"GitHub: comments are written as {author}, not {self.whoami()}: "
                f"set CD4ML_FORGE_USER={author}, or the next report is a new comment"
            )

    def edit_comment(self, number: int, comment: int, body: str) -> None:
        def edit() -> None:
            edited = self._repository.get_issue(number).get_comment(comment)
            edited.edit(body)
            # whatever answers in GitHub's place, as a page to log in at, may say 200 and have taken nothing
            if _lines(answers.text(edited.body, "a comment")) != _lines(body):
                raise ForgeError(f"GitHub answered the edit of a comment on #{number}, and did not take it over")

        self._call(f"edit the comment on #{number}", "pull requests: write", edit, repeatable=False)

    def check_stands(self, commit: str, check: Check) -> bool:
        run = self._run(commit, check.name)
        if run is not None and _says(run, check):
            return True
        return self._status_stands(commit, check)

    def set_check(self, commit: str, check: Check) -> str:
        try:
            self._set_run(commit, check)
        except NotAllowedError:
            self._set_status(commit, check)
            return "commit status"
        return "check run"

    def _run(self, commit: str, name: str) -> CheckRun | None:
        """The newest check run of that name; nothing as well where the token may not look."""

        def newest() -> CheckRun | None:
            runs = self._repository.get_commit(commit).get_check_runs(check_name=name)
            return max(runs, key=lambda one: answers.number(one.id, "the id of a check run"), default=None)

        try:
            return self._call("read the check", "checks: read", newest)
        except (NotAllowedError, GoneError):
            return None

    def _set_run(self, commit: str, check: Check) -> None:
        asked = _run_fields(check)
        run = self._run(commit, check.name)
        if run is not None and (check.conclusion == "pending") == (run.status != "completed"):
            edited = self._repository.get_check_run(answers.number(run.id, "the id of a check run"))
            try:
                return self._call("edit the check", "checks: write", lambda: edited.edit(**asked))
            except (NotAllowedError, GoneError):  # another app's
                pass

        def create() -> None:
            self._repository.create_check_run(check.name, commit, **asked)

        return self._call("write the check", "checks: write", create)

    def _status_stands(self, commit: str, check: Check) -> bool:
        def stands() -> bool:
            found = self._repository.get_commit(commit).get_combined_status().statuses
            wanted = (check.name, *_status_fields(check).values())
            return any((one.context, one.state, one.description or "", one.target_url or "") == wanted for one in found)

        try:
            return self._call("read the commit status", "commit statuses: read", stands)
        except (NotAllowedError, GoneError):
            return False

    def _set_status(self, commit: str, check: Check) -> None:
        asked = _status_fields(check)

        def create() -> None:
            self._repository.get_commit(commit).create_status(
                asked["state"], asked["target_url"] or NotSet, asked["description"], check.name
            )

        self._call("write the commit status", "commit statuses: write", create)

    def change_labels(self, number: int, add: Collection[str], remove: Collection[str]) -> None:
        issue = self._repository.get_issue(number)
        if add:
            asked = {"labels": sorted(add)}  # GitHub describes an object, PyGithub sends a bare list
            self._call(
                f"label #{number}",
                "pull requests: write",
                lambda: self._client.requester.requestJsonAndCheck("POST", f"{issue.url}/labels", input=asked),
            )
        for name in sorted(remove):
            self._remove_label(number, issue.url, name)

    def _remove_label(self, number: int, url: str, name: str) -> None:
        address = f"{url}/labels/{quote(name, safe='')}"  # PyGithub would leave the / of a name as it is
        try:
            self._call(
                f"take a label off #{number}",
                "pull requests: write",
                lambda: self._client.requester.requestJsonAndCheck("DELETE", address),
            )
        except GoneError:  # by somebody else, meanwhile
            return

    def _call(self, what: str, right: str, action: Callable[[], T], *, repeatable: bool = True) -> T:
        access = self._access
        call = Call("GitHub", access.place.repository, what, right, access.token_from, repeatable)
        return patiently(self._patience, call, action, _CAUGHT, _failure)


def _pull(one: Pull) -> PullRequest:
    head, base = one.head, one.base
    state: State = "open" if one.state == "open" else "merged" if one.merged_at is not None else "closed"
    return PullRequest(
        number=answers.number(one.number, "the number of a pull request"),
        head_branch=answers.text(head.ref, "a branch"),
        head_commit=answers.commit(head.sha),
        head_repository=answers.text(head.repo.full_name, "a repository") if head.repo else "",
        is_fork=not head.repo or head.repo.id != base.repo.id,
        base_branch=answers.text(base.ref, "a branch"),
        state=state,
        url=answers.text(one.html_url, "an address"),
        labels=tuple(answers.text(label.name, "a label") for label in one.labels),
    )


def _run_fields(check: Check) -> dict[str, Any]:
    asked: dict[str, Any] = {"output": {"title": check.title, "summary": check.summary or check.title}}
    if check.details_url:
        asked["details_url"] = check.details_url
    if check.conclusion == "pending":
        return {**asked, "status": "in_progress"}
    return {**asked, "status": "completed", "conclusion": check.conclusion}


def _says(run: CheckRun, check: Check) -> bool:
    conclusion = "pending" if run.status != "completed" else run.conclusion
    stands = (conclusion, run.output.title, _lines(run.output.summary))
    wanted = (check.conclusion, check.title, _lines(check.summary or check.title))
    return stands == wanted and (not check.details_url or run.details_url == check.details_url)


def _lines(summary: str | None) -> list[str]:
    return [line.rstrip() for line in (summary or "").strip().splitlines()]


def _status_fields(check: Check) -> dict[str, str]:
    return {
        "state": _STATES[check.conclusion],
        "description": check.title[:_LONGEST_DESCRIPTION],
        "target_url": check.details_url,
    }


def _failure(error: Exception) -> Failure:
    if isinstance(error, github.GithubException):
        headers = {str(name).lower(): str(value) for name, value in (error.headers or {}).items()}
        return Failure(error.status if isinstance(error.status, int) else None, _message(error.data), headers)
    if isinstance(error, requests.RequestException):
        return unanswered(error)
    return unreadable(error)


def _message(data: Any) -> str:
    """GitHub's own words, and those for each field that it did not take."""
    if not isinstance(data, dict):
        return ""
    errors = data.get("errors")
    fields = [one for one in errors if isinstance(one, dict)] if isinstance(errors, list) else []
    said = [str(one.get("message") or f"{one.get('field', '')} {one.get('code', '')}".strip()) for one in fields]
    return ": ".join([str(data.get("message") or ""), *said[:3]])
