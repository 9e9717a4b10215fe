"""The fakes hold whoever talks to them, and themselves, to the descriptions; otherwise they would prove nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.forge import github_world, gitlab_world, trim
from tests.forge.github_world import REPOSITORY, GitHubWorld
from tests.forge.gitlab_world import PROJECT, GitLabWorld
from tests.forge.served_world import TOKEN, Served

HEAD = "a" * 40
OURS = f"/repos/{REPOSITORY}"
THEIRS = f"/projects/{PROJECT.replace('/', '%2F')}"


@pytest.fixture
def github() -> Iterator[GitHubWorld]:
    world = GitHubWorld()
    world.add_pull(7, "exp/a", HEAD)
    with world:
        yield world


@pytest.fixture
def gitlab() -> Iterator[GitLabWorld]:
    world = GitLabWorld()
    world.add_pull(7, "exp/a", HEAD)
    with world:
        yield world


def ask(world: Served, verb: str, path: str, body: Any = None) -> int:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    return requests.request(
        verb, f"{world.address}{world.prefix}{path}", json=body, headers=headers, timeout=30
    ).status_code


@pytest.mark.parametrize(
    ("verb", "path", "body"),
    [
        ("POST", f"{OURS}/issues/7/comments", {"text": "no body"}),
        ("POST", f"{OURS}/statuses/{HEAD}", {"state": "green"}),
        ("POST", f"{OURS}/check-runs", {"name": "cd4ml", "status": "completed", "conclusion": "success"}),
        ("POST", f"{OURS}/issues/7/labels", ["a bare list"]),
        ("GET", f"{OURS}/pulls?source_branch=exp/a", None),
        ("GET", f"{OURS}/pulls?state=opened", None),
    ],
)
def test_a_request_that_github_does_not_describe_is_a_violation(
    github: Served, verb: str, path: str, body: Any
) -> None:
    assert ask(github, verb, path, body) == 500
    assert len(github.violations) == 1


@pytest.mark.parametrize(
    ("verb", "path", "body"),
    [
        ("POST", f"{THEIRS}/merge_requests/7/notes", {"text": "no body"}),
        ("POST", f"{THEIRS}/statuses/{HEAD}", {"state": "failure"}),
        ("PUT", f"{THEIRS}/merge_requests/7", {"label": "x"}),
        ("GET", f"{THEIRS}/merge_requests?head=x", None),
    ],
)
def test_a_request_that_gitlab_does_not_describe_is_a_violation(
    gitlab: Served, verb: str, path: str, body: Any
) -> None:
    assert ask(gitlab, verb, path, body) == 500
    assert len(gitlab.violations) == 1


def test_an_answer_that_github_does_not_describe_is_a_violation(github: GitHubWorld) -> None:
    del github.pulls[7]["head"]["sha"]
    assert ask(github, "GET", f"{OURS}/pulls/7") == 500
    assert github.violations == [f"answer 200 of GET {OURS}/pulls/7: 'sha' is a required property"]


def test_an_answer_that_gitlab_does_not_describe_is_a_violation(gitlab: GitLabWorld) -> None:
    gitlab.pulls[7]["state"] = "open"
    assert ask(gitlab, "GET", f"{THEIRS}/merge_requests/7") == 500
    assert len(gitlab.violations) == 1


@pytest.mark.parametrize("name", ["github", "gitlab"])
def test_pages_are_as_large_as_is_asked_and_a_hundred_at_most(name: str, request: pytest.FixtureRequest) -> None:
    world = request.getfixturevalue(name)
    path = f"{OURS}/issues/7/comments" if name == "github" else f"{THEIRS}/merge_requests/7/notes"
    for number in range(105):
        world.add_comment(7, "somebody", f"{number}")
    headers = {"Authorization": f"Bearer {TOKEN}"}
    found = requests.get(f"{world.address}{world.prefix}{path}?per_page=100", headers=headers, timeout=30)
    assert len(found.json()) == 100
    assert 'rel="next"' in found.headers["Link"]


def test_the_trimmed_description_holds_each_operation_and_what_it_refers_to() -> None:
    description = github_world.DESCRIPTION
    assert {path: tuple(item) for path, item in description["paths"].items()} == trim.OPERATIONS
    parts = {f"#/components/{kind}/{name}" for kind, named in description["components"].items() for name in named}
    assert trim.references(description) <= parts


def test_the_description_is_small_and_says_whose_it_is() -> None:
    folder = Path(github_world.__file__).parent
    assert (folder / "github.openapi.json").stat().st_size < 300_000
    assert "MIT License" in (folder / "github.openapi.LICENSE").read_text("utf-8")
    assert "@octokit/openapi" in github_world.DESCRIPTION["info"]["x-trimmed-from"]


def test_the_contract_of_gitlab_says_that_it_is_ours() -> None:
    text = (Path(gitlab_world.__file__).parent / "gitlab.openapi.yaml").read_text("utf-8")
    assert "written for these tests from the published documentation" in text
