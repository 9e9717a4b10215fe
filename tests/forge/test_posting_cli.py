"""``cd4ml report --post`` as CI runs it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.conftest import Shell
from tests.controller.controller_world import BASELINE, Done, branch, cd4ml, git
from tests.forge.github_world import REPOSITORY, GitHubWorld
from tests.forge.served_world import TOKEN

SCHEMA = Path(__file__).parents[2] / "docs" / "schemas" / "posted.schema.json"
SEED = "# @package _global_\nname: other\nseed: 5\n"


@dataclass
class OnCi:
    """A project whose branch ``exp/new`` is pull request 7, and the environment of a job."""

    shell: Shell
    world: GitHubWorld

    def report(self, *arguments: str, code: int | None = 0, **environment: str) -> Done:
        variables = {
            "GITHUB_API_URL": self.world.api,
            "GITHUB_SERVER_URL": "https://github.example",
            "GITHUB_REPOSITORY": REPOSITORY,
            "CD4ML_FORGE_TOKEN": TOKEN,
            **environment,
        }
        return cd4ml(self.shell, "report", *arguments, code=code, **variables)


@pytest.fixture
def ci(team: Shell, monkeypatch: pytest.MonkeyPatch) -> Iterator[OnCi]:
    for name in ("GITHUB_TOKEN", "GH_TOKEN", "CD4ML_FORGE_USER"):
        monkeypatch.delenv(name, raising=False)
    branch(team, "exp/new", {BASELINE: SEED})
    with GitHubWorld() as world:
        assert isinstance(world, GitHubWorld)
        world.add_pull(7, "exp/new", git(team.at(team.folder.parent / "remote.git"), "rev-parse", "exp/new"))
        yield OnCi(team, world)
    assert not world.violations


def posted(done: Done) -> list[dict[str, Any]]:
    told = done.json
    Draft202012Validator(json.loads(SCHEMA.read_text("utf-8"))).validate(told)
    items: list[dict[str, Any]] = told["posted"]
    return items


def test_the_report_is_posted_once_and_then_stands(ci: OnCi) -> None:
    first = ci.report("exp/new", "--post")
    assert first.out == (
        "pull request 7: comment created, check run written "
        "(https://github.example/Octo-Org/flights/pull/7)\n"
    )  # fmt: skip
    again = ci.report("exp/new", "--post", "--json")
    assert [(pull["comment"], pull["check"]) for pull in posted(again)[0]["pulls"]] == [("unchanged", "unchanged")]
    assert again.json["reports"][0]["branch"] == "exp/new"
    assert len(ci.world.writes) == 2


def test_all_pull_requests_are_posted_on_and_a_refusal_is_exit_1(ci: OnCi) -> None:
    ci.world.add_pull(8, "exp/nowhere", "c" * 40)
    done = ci.report("--post", "--all", "--json", code=1)
    told = {item["branch"]: item for item in posted(done)}
    assert told["exp/new"]["pulls"][0]["comment"] == "created"
    assert told["exp/nowhere"]["problem"]


def test_a_dry_run_writes_nothing(ci: OnCi) -> None:
    done = ci.report("exp/new", "--post", "--dry-run")
    assert "comment would be created" in done.out
    assert not ci.world.writes


def test_without_a_pull_request_there_is_nothing_to_do(ci: OnCi) -> None:
    ci.world.pulls.clear()
    assert ci.report("exp/new", "--post").out == "branch exp/new: has no open pull request\n"
    assert ci.report("--post", "--all").out == "no open pull request of a branch of this repository\n"


def test_an_expired_token_is_one_line_and_exit_1_and_not_shown(ci: OnCi) -> None:
    done = ci.report("exp/new", "--post", code=1, CD4ML_FORGE_TOKEN="an-expired-token")
    assert done.err.splitlines()[-1].startswith("cd4ml: GitHub, Octo-Org/flights: list pull requests: the token in")
    assert "an-expired-token" not in done.out + done.err


def test_a_report_goes_to_stdout_and_what_was_posted_beside_it(ci: OnCi) -> None:
    done = ci.report("exp/new", "--post", "--format", "markdown")
    assert "pull request 7:" not in done.out
    assert "pull request 7: comment created" in done.err


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--pull", "7"], "--pull: goes with --post"),
        (["--all"], "--all: goes with --post"),
        (["--dry-run"], "--dry-run: goes with --post"),
        (["exp/new", "--post", "--base", "main"], "--base"),
        (["exp/new", "--post", "--all"], "BRANCH has no meaning"),
        (["--post", "--all", "--pull", "7"], "--pull has no meaning"),
        (["--post", "--pull", "0"], "1 or more"),
        (["--head", "a" * 40], "--unverified DIR and --head SHA go together"),
        (["exp/new", "--unverified", "x", "--head", "a" * 40], "the branch is a fork's"),
    ],
)
def test_options_that_do_not_go_together_are_refused_before_anything_is_asked(
    shell: Shell, arguments: list[str], word: str
) -> None:
    done = cd4ml(shell, "report", *arguments, code=2)
    assert word in done.err
