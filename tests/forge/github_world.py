"""GitHub as its own description has it (``github.openapi.json``), with one repository."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any, ClassVar

from tests.forge.served_world import TOKEN, Answer, Asked, Route, Served


def _with_null(part: Any) -> Any:
    """What is ``nullable`` and one of a list may be null: the list would have to say so, and GitHub's do not."""
    if isinstance(part, list):
        return [_with_null(one) for one in part]
    if not isinstance(part, dict):
        return part
    found = {name: _with_null(value) for name, value in part.items()}
    if part.get("nullable") is True and isinstance(part.get("enum"), list):
        found["enum"] = [*part["enum"], None]
    return found


DESCRIPTION: dict[str, Any] = _with_null(json.loads((Path(__file__).parent / "github.openapi.json").read_text("utf-8")))
REPOSITORY = "Octo-Org/flights"
BOT = "cd4ml-bot"
SOMEBODY = "somebody"
_WHEN = "2026-03-01T10:00:00Z"
_NOT_FOUND = {"message": "Not Found", "documentation_url": "https://docs.github.com/rest", "status": "404"}
_MAIN_ID = 1296269
_FORK_ID = 7_000_001


def example(name: str) -> Any:
    """A fresh copy of one of the description's own examples."""
    return copy.deepcopy(DESCRIPTION["components"]["examples"][name]["value"])


class GitHubWorld(Served):
    """One repository. ``api`` is its address as that of a GitHub of one's own.

    ``me`` is the account of the token, nothing for one that may not ask who it is. ``rights`` are what it may write.
    """

    prefix: ClassVar[str] = ""
    description = DESCRIPTION

    def __init__(self, me: str | None = BOT) -> None:
        super().__init__()
        self.me = me
        self.rights = {"pulls", "checks", "statuses"}
        self.pulls: dict[int, dict[str, Any]] = {}
        self.comments: dict[int, dict[str, Any]] = {}
        self.checks: dict[int, dict[str, Any]] = {}
        self.statuses: dict[str, list[dict[str, Any]]] = {}
        self._last = 1000

    @property
    def api(self) -> str:
        return self.address

    def add_pull(
        self,
        number: int,
        branch: str,
        commit: str,
        *,
        base: str = "main",
        state: str = "open",
        fork: str = "",
        labels: tuple[str, ...] = (),
        merged: bool = False,
    ) -> None:
        """A pull request, of a fork ``OWNER/NAME`` if one is named (``gone``: of one that was deleted)."""
        pull = example("pull-request")
        for side, ref, sha in (("head", branch, commit), ("base", base, "0" * 39 + "1")):
            part = pull[side]
            part["ref"], part["sha"] = ref, sha
            part["repo"]["id"], part["repo"]["full_name"] = _MAIN_ID, REPOSITORY
            part["repo"]["name"], part["label"] = REPOSITORY.split("/")[1], f"Octo-Org:{ref}"
        if fork == "gone":
            pull["head"]["repo"] = None
        elif fork:
            pull["head"]["repo"]["id"], pull["head"]["repo"]["full_name"] = _FORK_ID, fork
            pull["head"]["label"] = f"{fork.split('/')[0]}:{branch}"
        pull |= {"milestone": None, "requested_teams": []}  # these examples break their own schema
        pull |= {"number": number, "state": state, "merged": merged, "merged_at": _WHEN if merged else None}
        pull["html_url"] = f"https://github.example/{REPOSITORY}/pull/{number}"
        pull["labels"] = [_label(name) for name in labels]
        self.pulls[number] = pull

    def add_comment(self, number: int, author: str, body: str) -> int:
        """A comment that somebody wrote by hand; gives its id."""
        comment = example("issue-comment")
        self._last += 1
        comment |= {"id": self._last, "body": body, "url": f"{self.address}/x/{self._last}"}
        comment["user"]["login"] = author
        comment["issue_url"] = f"https://api.github.example/repos/{REPOSITORY}/issues/{number}"
        self.comments[self._last] = comment
        return self._last

    def bodies(self, number: int) -> list[str]:
        """The texts of the comments on a pull request, oldest first."""
        return [one["body"] for one in self._comments_of(number)]

    def labels(self, number: int) -> list[str]:
        return [one["name"] for one in self.pulls[number]["labels"]]

    def _comments_of(self, number: int) -> list[dict[str, Any]]:
        return [one for _, one in sorted(self.comments.items()) if one["issue_url"].endswith(f"/issues/{number}")]

    def refused(self, asked: Asked) -> Answer | None:
        if asked.headers.get("Authorization") not in (f"token {TOKEN}", f"Bearer {TOKEN}"):
            return Answer(401, {"message": "Bad credentials", "documentation_url": "https://docs.github.com/rest"})
        return None

    def routes(self) -> list[Route]:
        repository = "/repos/" + re.escape(REPOSITORY)
        other = (r"/repos/.*", self._nowhere)
        return [
            ("GET", re.compile("/user"), self._user),
            *[
                (verb, re.compile(repository + path), action)
                for verb, path, action in (
                    ("GET", "/pulls", self._list_pulls),
                    ("GET", "/pulls/(?P<number>[0-9]+)", self._pull),
                    ("GET", "/issues/(?P<number>[0-9]+)/comments", self._list_comments),
                    ("POST", "/issues/(?P<number>[0-9]+)/comments", self._create_comment),
                    ("PATCH", "/issues/comments/(?P<id_>[0-9]+)", self._edit_comment),
                    ("POST", "/issues/(?P<number>[0-9]+)/labels", self._add_labels),
                    ("DELETE", "/issues/(?P<number>[0-9]+)/labels/(?P<name>[^/]+)", self._remove_label),
                    ("GET", "/commits/(?P<sha>[0-9a-f]{40})/check-runs", self._list_checks),
                    ("GET", "/commits/(?P<sha>[0-9a-f]{40})/status", self._status),
                    ("POST", "/check-runs", self._create_check),
                    ("PATCH", "/check-runs/(?P<id_>[0-9]+)", self._edit_check),
                    ("POST", "/statuses/(?P<sha>[0-9a-f]{40})", self._create_status),
                )
            ],
            *[(verb, re.compile(other[0]), other[1]) for verb in ("GET", "POST", "PATCH", "DELETE")],
        ]

    def _nowhere(self, asked: Asked) -> Answer:
        return Answer(404, _NOT_FOUND)

    def _denied(self, right: str) -> Answer | None:
        if right in self.rights:
            return None
        asked = {"pulls": "pull_requests=write", "checks": "checks=write", "statuses": "statuses=write"}[right]
        body = {
            "message": "Resource not accessible by integration",
            "documentation_url": "https://docs.github.com/rest",
        }
        return Answer(403, body, {"X-Accepted-GitHub-Permissions": asked})

    def _user(self, asked: Asked) -> Answer:
        if self.me is None:
            return Answer(
                403, {"message": "Resource not accessible by integration", "documentation_url": "https://x.test"}
            )
        user = example("private-user-response-with-public-and-private-profile-information")
        return Answer(200, {**user, "login": self.me, "user_view_type": "private"})

    def _list_pulls(self, asked: Asked) -> Answer:
        state, head = asked.query.get("state", "open"), asked.query.get("head")
        found = [
            _simple(pull)
            for _, pull in sorted(self.pulls.items(), reverse=True)
            if state in ("all", pull["state"]) and head in (None, pull["head"]["label"])
        ]
        gone = any(pull["head"]["repo"] is None for pull in found)
        return self._page(asked, found, beside="the repository of a deleted fork is null" if gone else "")

    def _page(self, asked: Asked, items: list[Any], beside: str = "") -> Answer:
        page, headers = self.pages(asked, items, default=30)
        return Answer(200, page, {"Link": headers["Link"]} if "Link" in headers else {}, beside)

    def _pull(self, asked: Asked, number: str) -> Answer:
        pull = self.pulls.get(int(number))
        return Answer(404, _NOT_FOUND) if pull is None else Answer(200, pull)

    def _list_comments(self, asked: Asked, number: str) -> Answer:
        if int(number) not in self.pulls:
            return Answer(404, _NOT_FOUND)
        return self._page(asked, self._comments_of(int(number)))

    def _create_comment(self, asked: Asked, number: str) -> Answer:
        if denied := self._denied("pulls"):
            return denied
        if int(number) not in self.pulls:
            return Answer(404, _NOT_FOUND)
        if refused := _too_long(asked.body["body"]):
            return refused
        made = self.add_comment(int(number), self.me or "github-actions[bot]", asked.body["body"])
        where = f"https://api.github.example/repos/{REPOSITORY}/issues/comments/{made}"
        return Answer(201, self.comments[made], {"Location": where})

    def _edit_comment(self, asked: Asked, id_: str) -> Answer:
        if denied := self._denied("pulls"):
            return denied
        comment = self.comments.get(int(id_))
        if comment is None:
            return Answer(404, _NOT_FOUND)
        if refused := _too_long(asked.body["body"]):
            return refused
        comment["body"] = asked.body["body"]
        return Answer(200, comment)

    def _add_labels(self, asked: Asked, number: str) -> Answer:
        names = asked.body if isinstance(asked.body, list) else asked.body["labels"]
        pull = self.pulls[int(number)]
        pull["labels"] += [_label(name) for name in names if name not in self.labels(int(number))]
        return Answer(200, pull["labels"])

    def _remove_label(self, asked: Asked, number: str, name: str) -> Answer:
        pull = self.pulls[int(number)]
        kept = [one for one in pull["labels"] if one["name"] != name]
        if len(kept) == len(pull["labels"]):
            return Answer(404, {**_NOT_FOUND, "message": "Label does not exist"})
        pull["labels"] = kept
        return Answer(200, kept)

    def _list_checks(self, asked: Asked, sha: str) -> Answer:
        name = asked.query.get("check_name")
        found = [one for one in self.checks.values() if one["head_sha"] == sha and name in (None, one["name"])]
        return Answer(200, {"total_count": len(found), "check_runs": found})

    def _create_check(self, asked: Asked) -> Answer:
        if denied := self._denied("checks"):
            return denied
        self._last += 1
        run = example("check-run-example-of-completed-conclusion")
        run |= {"id": self._last, "pull_requests": [], "output": {**run["output"], "title": None, "summary": None}}
        run |= {"conclusion": None, "details_url": "https://example.test/app", "completed_at": None}
        self.checks[self._last] = run
        return Answer(201, self._changed(run, asked.body))

    def _edit_check(self, asked: Asked, id_: str) -> Answer:
        if denied := self._denied("checks"):
            return denied
        if int(id_) not in self.checks:
            return Answer(404, _NOT_FOUND)
        return Answer(200, self._changed(self.checks[int(id_)], asked.body))

    def _changed(self, run: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        run |= {name: body[name] for name in ("name", "head_sha", "details_url", "status") if name in body}
        if "conclusion" in body:
            run |= {"conclusion": body["conclusion"], "status": "completed", "completed_at": _WHEN}
        run["output"] |= body.get("output", {})
        return run

    def _status(self, asked: Asked, sha: str) -> Answer:
        combined = example("combined-commit-status")
        newest = {one["context"]: one for one in self.statuses.get(sha, [])}
        combined |= {
            "sha": sha,
            "statuses": [_simple_status(one) for one in newest.values()],
            "total_count": len(newest),
        }
        return Answer(200, combined)

    def _create_status(self, asked: Asked, sha: str) -> Answer:
        if denied := self._denied("statuses"):
            return denied
        self._last += 1
        status = example("status")
        fields = {name: asked.body.get(name) for name in ("state", "description", "target_url")}
        status |= {"id": self._last, "context": asked.body.get("context", "default"), **fields}
        self.statuses.setdefault(sha, []).append(status)
        return Answer(201, status, {"Location": f"https://api.github.example/repos/{REPOSITORY}/statuses/{sha}"})


def _label(name: str) -> dict[str, Any]:
    label: dict[str, Any] = example("label-items")[0]
    return {**label, "name": name}


def _simple(pull: dict[str, Any]) -> dict[str, Any]:
    """As it stands in a list."""
    known = DESCRIPTION["components"]["schemas"]["pull-request-simple"]["properties"]
    return {name: value for name, value in pull.items() if name in known}


def _simple_status(status: dict[str, Any]) -> dict[str, Any]:
    known = DESCRIPTION["components"]["schemas"]["simple-commit-status"]["properties"]
    avatar = status["creator"]["avatar_url"]
    return {name: value for name, value in {**status, "avatar_url": avatar}.items() if name in known}


def _too_long(body: str) -> Answer | None:
    if len(body) <= 65_536:
        return None
    said = {"resource": "IssueComment", "code": "unprocessable", "field": "data", "message": "Body is too long"}
    return Answer(422, {"message": "Validation Failed", "errors": [said], "documentation_url": "https://x.test"})
