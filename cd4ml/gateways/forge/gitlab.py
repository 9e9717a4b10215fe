"""GitLab, and a GitLab of one's own, by python-gitlab."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from itertools import count
from typing import Any, TypeVar

import gitlab
import requests

from cd4ml.gateways.forge import (
    Check,
    Comment,
    Conclusion,
    ForgeError,
    GoneError,
    PullRequest,
    State,
    answers,
)
from cd4ml.gateways.forge.access import Access
from cd4ml.gateways.forge.connection import unanswered, unreadable
from cd4ml.gateways.forge.patience import Call, Failure, Patience, patiently
from cd4ml.promotion.addresses import Place

T = TypeVar("T")

_SECONDS = 30
_PAGE = 100
_LONGEST_COMMENT = 1_000_000
_LONGEST_DESCRIPTION = 255
_LONGEST_ADDRESS = 255
_ONE_TRY: dict[str, Any] = {"obey_rate_limit": False, "max_retries": 0}
"""The library would sleep by itself, without a bound and without a word."""

_STATES: dict[Conclusion, str] = {
    "success": "success",
    "failure": "failed",
    "action_required": "failed",
    "neutral": "skipped",
    "pending": "pending",
}
_BEFORE_SKIPPED = {"skipped": "pending"}
"""An older GitLab takes no ``skipped`` from outside."""

_OPEN: dict[str, State] = {"opened": "open", "locked": "open", "merged": "merged", "closed": "closed"}

_CAUGHT = (gitlab.GitlabError, requests.RequestException, AttributeError, KeyError, TypeError, ValueError)


class GitLab:
    """One project there. A ``Forge``."""

    def __init__(self, access: Access, patience: Patience) -> None:
        self._access = access
        self._patience = patience
        self._me = access.account
        self._headers: dict[str, str] = {}
        session = requests.Session()
        session.hooks["response"].append(self._seen)
        self._client = gitlab.Gitlab(
            access.api,
            oauth_token=access.token,  # as Authorization, which is not carried on to another host
            timeout=_SECONDS,
            per_page=_PAGE,
            user_agent="cd4ml",
            keep_base_url=True,
            session=session,
        )
        self._project = self._client.projects.get(access.place.repository, lazy=True)

    def _seen(self, response: requests.Response, *_: Any, **__: Any) -> None:
        """The library's errors carry no headers."""
        self._headers = {name.lower(): value for name, value in response.headers.items()}

    @property
    def place(self) -> Place:
        return self._access.place

    @property
    def longest_comment(self) -> int:
        return _LONGEST_COMMENT

    def whoami(self) -> str:
        if not self._me:

            def ask() -> str:
                user: Any = self._client.http_get("/user", **_ONE_TRY)
                return answers.text(user["username"], "an account")

            self._me = self._call("read the account", "scope api", ask)
        return self._me

    def pulls_for(self, branch: str) -> tuple[PullRequest, ...]:
        found = self._pulls(source_branch=branch)
        return tuple(one for one in found if one.head_branch == branch and not one.is_fork)

    def open_pulls(self) -> tuple[PullRequest, ...]:
        return self._pulls()

    def pull(self, number: int) -> PullRequest:
        return self._call(
            f"read merge request !{number}",
            "scope api, role Reporter",
            lambda: _pull(self._project.mergerequests.get(number, **_ONE_TRY).attributes),
        )

    def pulls_for_commit(self, commit: str) -> tuple[PullRequest, ...]:
        return tuple(one for one in self._pulls() if one.head_commit == commit)

    def _pulls(self, **asked: str) -> tuple[PullRequest, ...]:
        def listed() -> tuple[PullRequest, ...]:
            found = self._pages(self._project.mergerequests.list, state="opened", **asked)
            return tuple(_pull(one.attributes) for one in found)

        return self._call("list merge requests", "scope api, role Reporter", listed)

    def _pages(self, listing: Callable[..., Any], **asked: str) -> Iterator[Any]:
        """Every item on every page, by the number of the page and never by an address that was answered."""
        for page in count(1):
            yield from listing(page=page, per_page=_PAGE, get_all=False, **asked, **_ONE_TRY)
            if not self._headers.get("x-next-page", "").strip():
                return

    def comments(self, number: int) -> tuple[Comment, ...]:
        def listed() -> tuple[Comment, ...]:
            notes = self._project.mergerequests.get(number, lazy=True).notes
            found = [one.attributes for one in self._pages(notes.list, sort="asc", order_by="created_at")]
            return tuple(
                Comment(
                    answers.number(one["id"], "the id of a note"),
                    answers.text(one["author"]["username"], "an account"),
                    answers.text(one["body"], "a note"),
                )
                for one in found
                if not one.get("system")
            )

        return self._call(f"list the notes of !{number}", "scope api, role Reporter", listed)

    def create_comment(self, number: int, body: str) -> None:
        notes = self._project.mergerequests.get(number, lazy=True).notes
        self._call(
            f"comment on !{number}",
            "scope api, role Reporter",
            lambda: notes.create({"body": body}, **_ONE_TRY),
            repeatable=False,
        )

    def edit_comment(self, number: int, comment: int, body: str) -> None:
        notes = self._project.mergerequests.get(number, lazy=True).notes
        self._call(
            f"edit the note on !{number}",
            "scope api, role Reporter",
            lambda: notes.update(comment, {"body": body}, **_ONE_TRY),
            repeatable=False,
        )

    def check_stands(self, commit: str, check: Check) -> bool:
        newest = self._newest_status(commit, check.name)
        if newest is None:
            return False
        asked = _status_fields(check)
        states = (asked["state"], _BEFORE_SKIPPED.get(asked["state"], ""))
        told = [newest.get(name) or "" for name in ("description", "target_url")]
        return newest["status"] in states and told == [asked["description"], asked.get("target_url", "")]

    def _newest_status(self, commit: str, name: str) -> dict[str, Any] | None:
        def newest() -> dict[str, Any] | None:
            statuses = self._project.commits.get(commit, lazy=True).statuses
            found = [one.attributes for one in self._pages(statuses.list, name=name) if one.attributes["name"] == name]
            return max(found, key=lambda one: answers.number(one["id"], "the id of a status"), default=None)

        try:
            return self._call("read the commit status", "scope api, role Reporter", newest)
        except GoneError:  # no pipeline has looked at this commit yet
            return None

    def set_check(self, commit: str, check: Check) -> str:
        asked = _status_fields(check)
        try:
            self._set_status(commit, asked)
        except _RefusedError as refused:
            if "transition" in refused.said.lower():  # it is in that state already
                return "commit status"
            older = _BEFORE_SKIPPED.get(asked["state"])
            if older is None:
                raise
            self._set_status(commit, {**asked, "state": older})
        return "commit status"

    def _set_status(self, commit: str, asked: dict[str, str]) -> None:
        statuses = self._project.commits.get(commit, lazy=True).statuses

        def create() -> None:
            try:
                statuses.create(asked, **_ONE_TRY)
            except gitlab.GitlabError as error:
                if error.response_code == 400:
                    said = _failure_of(error, self._headers).message
                    raise _RefusedError(f"GitLab: the commit status is refused: {said}", said) from error
                raise

        self._call("write the commit status", "scope api, role Developer", create)

    def change_labels(self, number: int, add: Collection[str], remove: Collection[str]) -> None:
        asked = {"add_labels": ",".join(sorted(add)), "remove_labels": ",".join(sorted(remove))}
        asked = {name: value for name, value in asked.items() if value}
        if asked:
            self._call(
                f"label !{number}",
                "scope api, role Reporter",
                lambda: self._project.mergerequests.update(number, asked, **_ONE_TRY),
            )

    def _call(self, what: str, right: str, action: Callable[[], T], *, repeatable: bool = True) -> T:
        access = self._access
        call = Call("GitLab", access.place.repository, what, right, access.token_from, repeatable)
        return patiently(self._patience, call, action, _CAUGHT, lambda error: _failure_of(error, self._headers))


class _RefusedError(ForgeError):
    """A value that this GitLab does not take; ``said`` is what it says about it."""

    def __init__(self, message: str, said: str) -> None:
        super().__init__(message)
        self.said = said


def _pull(one: dict[str, Any]) -> PullRequest:
    source, target = one["source_project_id"], one["target_project_id"]
    return PullRequest(
        number=answers.number(one["iid"], "the number of a merge request"),
        head_branch=answers.text(one["source_branch"], "a branch"),
        head_commit=answers.commit(one["sha"]),
        head_repository=str(answers.number(source, "a project")) if source is not None else "",
        is_fork=source != target,
        base_branch=answers.text(one["target_branch"], "a branch"),
        state=_OPEN.get(answers.text(one["state"], "a state"), "closed"),
        url=answers.text(one["web_url"], "an address"),
        labels=answers.texts(one["labels"], "labels"),
    )


def _status_fields(check: Check) -> dict[str, str]:
    asked = {
        "state": _STATES[check.conclusion],
        "name": check.name,
        "description": check.title[:_LONGEST_DESCRIPTION],
    }
    if not 0 < len(check.details_url) <= _LONGEST_ADDRESS:
        return asked
    return {**asked, "target_url": check.details_url}


def _failure_of(error: Exception, headers: dict[str, str]) -> Failure:
    if isinstance(error, gitlab.GitlabError):
        if error.response_code is None:
            return unreadable(error)
        return Failure(error.response_code, str(error.error_message), headers)
    if isinstance(error, requests.RequestException):
        return unanswered(error)
    return unreadable(error)
