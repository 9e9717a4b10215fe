"""GitLab as its documentation has it (``gitlab.openapi.yaml``), with one project."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import yaml

from tests.forge.served_world import TOKEN, Answer, Asked, Route, Served

DESCRIPTION: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "gitlab.openapi.yaml").read_text("utf-8"))
PROJECT = "Data-Team/models/flights"
BOT = "project_42_bot_a1b2"
SOMEBODY = "somebody"
_WHEN = "2026-03-01T10:00:00.000Z"
_PROJECT_ID = 42
_FORK_ID = 77
_JOBS = ("land", "execute", "check")
_ENDED = ("success", "failed", "canceled", "skipped")


class GitLabWorld(Served):
    """One project. ``rights`` are what the token may write; ``takes_skipped`` is false for an older GitLab."""

    prefix: ClassVar[str] = "/api/v4"
    description = DESCRIPTION

    def __init__(self, me: str = BOT) -> None:
        super().__init__()
        self.me = me
        self.rights = {"notes", "statuses", "labels"}
        self.takes_skipped = True
        self.pulls: dict[int, dict[str, Any]] = {}
        self.notes: dict[int, dict[str, Any]] = {}
        self.statuses: list[dict[str, Any]] = []
        self.handed_over: Callable[[str], bytes] | None = None
        """The zip of what a job left, by its name."""
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
        state: str = "opened",
        fork: bool = False,
        labels: tuple[str, ...] = (),
    ) -> None:
        """A merge request; of another project with ``fork``."""
        self.pulls[number] = {
            "id": 5000 + number,
            "iid": number,
            "project_id": _PROJECT_ID,
            "title": f"Draft of {branch}",
            "state": state,
            "target_branch": base,
            "source_branch": branch,
            "author": _user(SOMEBODY),
            "source_project_id": _FORK_ID if fork else _PROJECT_ID,
            "target_project_id": _PROJECT_ID,
            "labels": list(labels),
            "sha": commit,
            "web_url": f"https://gitlab.example/{PROJECT}/-/merge_requests/{number}",
            "draft": False,
        }

    def add_comment(self, number: int, author: str, body: str, *, system: bool = False) -> int:
        """A note that somebody, or GitLab itself, wrote; gives its id."""
        self._last += 1
        self.notes[self._last] = {
            "id": self._last,
            "body": body,
            "author": _user(author),
            "created_at": _WHEN,
            "updated_at": _WHEN,
            "system": system,
            "noteable_id": 5000 + number,
            "noteable_type": "MergeRequest",
            "noteable_iid": number,
            "resolvable": False,
            "internal": False,
        }
        return self._last

    def bodies(self, number: int) -> list[str]:
        """The texts of the notes on a merge request, oldest first."""
        return [one["body"] for one in self._notes_of(number)]

    def labels(self, number: int) -> list[str]:
        found: list[str] = self.pulls[number]["labels"]
        return found

    def _notes_of(self, number: int) -> list[dict[str, Any]]:
        return [one for _, one in sorted(self.notes.items()) if one["noteable_iid"] == number]

    def refused(self, asked: Asked) -> Answer | None:
        if asked.headers.get("Authorization") != f"Bearer {TOKEN}":
            return Answer(401, {"message": "401 Unauthorized"})
        return None

    def routes(self) -> list[Route]:
        project = "/projects/" + quote(PROJECT, safe="")
        pull = "/merge_requests/(?P<number>[0-9]+)"
        ours = (
            ("GET", "/merge_requests", self._list_pulls),
            ("GET", pull, self._pull),
            ("PUT", pull, self._edit_pull),
            ("GET", f"{pull}/notes", self._list_notes),
            ("POST", f"{pull}/notes", self._create_note),
            ("PUT", f"{pull}/notes/(?P<id_>[0-9]+)", self._edit_note),
            ("GET", "/pipelines/[0-9]+/jobs", self._list_jobs),
            ("GET", "/jobs/(?P<job>[0-9]+)/artifacts", self._artifacts),
            ("GET", "/repository/commits/(?P<sha>[0-9a-f]{40})/statuses", self._list_statuses),
            ("POST", "/statuses/(?P<sha>[0-9a-f]{40})", self._set_status),
        )
        found: list[Route] = [("GET", re.compile("/user"), self._user)]
        found += [(verb, re.compile(project + path), action) for verb, path, action in ours]
        return [*found, *((verb, re.compile("/projects/.*"), self._nowhere) for verb in ("GET", "POST", "PUT"))]

    def _nowhere(self, asked: Asked) -> Answer:
        return Answer(404, {"message": "404 Project Not Found"})

    def _denied(self, right: str) -> Answer | None:
        return None if right in self.rights else Answer(403, {"message": "403 Forbidden"})

    def _user(self, asked: Asked) -> Answer:
        return Answer(200, _user(self.me))

    def _page(self, asked: Asked, items: list[Any]) -> Answer:
        page, headers = self.pages(asked, items, default=20)
        return Answer(200, page, headers)

    def _list_pulls(self, asked: Asked) -> Answer:
        state, branch = asked.query.get("state", "all"), asked.query.get("source_branch")
        found = [
            pull
            for _, pull in sorted(self.pulls.items(), reverse=True)
            if state in ("all", pull["state"]) and branch in (None, pull["source_branch"])
        ]
        return self._page(asked, found)

    def _pull(self, asked: Asked, number: str) -> Answer:
        pull = self.pulls.get(int(number))
        return Answer(404, {"message": "404 Not found"}) if pull is None else Answer(200, pull)

    def _edit_pull(self, asked: Asked, number: str) -> Answer:
        if denied := self._denied("labels"):
            return denied
        pull = self.pulls[int(number)]
        added, removed = (asked.body.get(name, "").split(",") for name in ("add_labels", "remove_labels"))
        kept = [name for name in pull["labels"] if name not in removed]
        pull["labels"] = [*kept, *(name for name in added if name and name not in kept)]
        return Answer(200, pull)

    def _list_notes(self, asked: Asked, number: str) -> Answer:
        if int(number) not in self.pulls:
            return Answer(404, {"message": "404 Not found"})
        notes = self._notes_of(int(number))
        return self._page(asked, notes if asked.query.get("sort", "desc") == "asc" else notes[::-1])

    def _create_note(self, asked: Asked, number: str) -> Answer:
        if denied := self._denied("notes"):
            return denied
        if int(number) not in self.pulls:
            return Answer(404, {"message": "404 Not found"})
        made = self.add_comment(int(number), self.me, asked.body["body"].rstrip())
        return Answer(201, self.notes[made])

    def _edit_note(self, asked: Asked, number: str, id_: str) -> Answer:
        if denied := self._denied("notes"):
            return denied
        note = self.notes.get(int(id_))
        if note is None:
            return Answer(404, {"message": "404 Note Not Found"})
        note["body"] = asked.body["body"].rstrip()
        return Answer(200, note)

    def _list_jobs(self, asked: Asked) -> Answer:
        known = {"stage": "any", "status": "success", "ref": "main"}
        return self._page(asked, [{"id": number, "name": name, **known} for number, name in enumerate(_JOBS, 1)])

    def _artifacts(self, asked: Asked, job: str) -> Answer:
        if self.handed_over is None:
            return Answer(404, {"message": "404 Not Found"})
        data = self.handed_over(_JOBS[int(job) - 1])
        return Answer(200, data, {"Content-Type": "application/octet-stream"}, beside="it is no JSON")

    def _list_statuses(self, asked: Asked, sha: str) -> Answer:
        name = asked.query.get("name")
        newest = {one["name"]: one for one in self.statuses if one["sha"] == sha and name in (None, one["name"])}
        return self._page(asked, list(newest.values()))

    def _set_status(self, asked: Asked, sha: str) -> Answer:
        """One that is under way is moved on, and cannot be put where it is; one that has ended is followed by a new."""
        if denied := self._denied("statuses"):
            return denied
        state, name = asked.body["state"], asked.body.get("name", "default")
        if state == "skipped" and not self.takes_skipped:
            return Answer(400, {"message": "state does not have a valid value"})
        same = [one for one in self.statuses if (one["sha"], one["name"]) == (sha, name)]
        standing = next((one for one in same if one["status"] not in _ENDED), None)
        if standing is not None and standing["status"] == state:
            return Answer(400, {"message": "Cannot transition status via :enqueue from :pending"})
        if standing is None:
            self._last += 1
            standing = {"id": self._last, "sha": sha, "ref": "main", "name": name, "created_at": _WHEN}
            standing |= {"allow_failure": False, "author": _user(self.me)}
            self.statuses.append(standing)
        told = {part: asked.body.get(part) for part in ("target_url", "description")}
        standing |= {"status": state, **told}
        return Answer(201, standing)


def _user(name: str) -> dict[str, Any]:
    about = {"name": name.title(), "state": "active", "avatar_url": None, "web_url": f"https://gitlab.example/{name}"}
    return {"id": 7, "username": name, **about}
