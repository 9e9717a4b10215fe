"""The rendered workflows of GitHub, really run: a push, a rebase, a fork, a merge, the clock. No network, no Docker.

The forge is a fake that is held to GitHub's own description; the hosted service was not asked.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.ci.act_world import Runner
from tests.ci.runner_world import make_machine
from tests.forge.github_world import GitHubWorld

LABEL = "run this"
BRANCH = "exp/softer"
ALPHA = "model.parameters.alpha={}"
HOSTILE = "exp/$(touch${IFS}pwned)`touch${IFS}pwned`;&|'\"{{x}}%0A@all"


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory, warm: str) -> Iterator[Runner]:
    """A repository whose base branch has been pushed, and reconciled from a laptop."""
    with GitHubWorld(me=None) as forge:
        assert isinstance(forge, GitHubWorld)
        runner = Runner(make_machine(tmp_path_factory.mktemp("github"), warm, "github", LABEL), forge)
        runner.machine.project.run("cd4ml", "reconcile")
        yield runner
        assert forge.violations == []


def records(runner: Runner, branch: str = "") -> list[dict[str, object]]:
    """The runs in the index, as a person's clone sees them."""
    found = json.loads(runner.machine.project.run("cd4ml", "search", "--json"))["runs"]
    return [one for one in found if not branch or one["branch"] == branch]


def texts(runner: Runner, number: int) -> dict[int, str]:
    """The comments on a pull request by their ids."""
    place = f"/issues/{number}"
    return {key: one["body"] for key, one in runner.forge.comments.items() if one["issue_url"].endswith(place)}


def conclusions(runner: Runner, commit: str) -> list[str]:
    return [one["conclusion"] for one in runner.forge.checks.values() if one["head_sha"] == commit]


def test_a_push_comments_a_rebase_edits_and_a_merge_costs_no_training(runner: Runner) -> None:
    """One branch from its first push to `main`, since every job costs seconds. Its name is an attack on each shell."""
    machine, project = runner.machine, runner.machine.project
    why = "`id` {{ github.token }} ::set-output name=x::y </details>"
    project.run("cd4ml", "new", BRANCH, ALPHA.format(30), "--hypothesis", why)
    project.run("git", "branch", "--move", BRANCH, HOSTILE)

    runner.forge.add_pull(1, HOSTILE, machine.head(HOSTILE))
    pushed = runner.push(HOSTILE)
    assert pushed.jobs == {"check": True, "execute": True, "land": True}, pushed.log
    (comment,) = first = texts(runner, 1)
    assert "rmse" in first[comment]
    assert conclusions(runner, machine.head(HOSTILE)) != []
    (run,) = records(runner, HOSTILE)

    machine.project.run("git", "switch", "--quiet", "main")
    machine.commit("Say hello", ("README.md", "Hello.\n"))
    project.run("git", "push", "--quiet", "origin", "main")
    project.run("git", "rebase", "--quiet", "main", HOSTILE)
    rebased = runner.push(HOSTILE, force=True)
    assert rebased.succeeded, rebased.log
    second = texts(runner, 1)
    assert list(second) == [comment]
    assert machine.head(HOSTILE)[:8] in second[comment]
    assert second != first

    writes = len(runner.forge.writes)
    again = runner.pull_request(1, "synchronize")
    assert again.jobs == {"check": True, "execute": True, "land": True}, again.log
    assert len(runner.forge.writes) == writes

    project.run("git", "switch", "--quiet", "main")
    project.run("git", "merge", "--quiet", "--no-ff", "--no-edit", HOSTILE)
    runner.forge.pulls[1] |= {"state": "closed", "merged": True}
    merged = runner.push("main")
    assert merged.succeeded, merged.log
    assert "0 bundles" in merged.log
    assert {one["id"] for one in records(runner, "main")} > {run["id"]}

    assert {line.split()[0] for line in machine.told("pushed")} == {"land"}
    assert not list(machine.folder.rglob("pwned*"))


def test_the_code_of_a_fork_runs_by_label_without_a_token_and_is_told_of_and_not_recorded(runner: Runner) -> None:
    machine, project = runner.machine, runner.machine.project
    project.run("git", "switch", "--quiet", "--detach", "origin/main")
    conf = machine.folder / "project" / "conf" / "experiment" / "baseline.yaml"
    head = machine.commit(
        "Theirs", ("conf/experiment/baseline.yaml", conf.read_text("utf-8") + "\nmodel: {parameters: {alpha: 5}}\n")
    )
    project.run("git", "switch", "--quiet", "main")
    runner.forge.add_pull(7, "main", head, fork="stranger/flights", labels=(LABEL,))
    before, called = records(runner), len(machine.told("called"))

    opened = runner.pull_request(7, "opened")
    assert opened.jobs == {"check": True}, opened.log
    assert runner.pull_request(7, "labeled", "another").jobs == {}
    assert texts(runner, 7) == {}

    ran = runner.pull_request(7, "labeled", LABEL)
    assert ran.jobs == {"execute": True}, ran.log
    assert machine.told("called")[called:] == ["check check with", "execute execute without"]
    assert texts(runner, 7) == {}

    reported = runner.after(ran, 7)
    assert reported.jobs == {"report": True}, reported.log
    (text,) = texts(runner, 7).values()
    assert "unverified" in text.casefold()
    assert conclusions(runner, head) == ["neutral"]
    assert records(runner) == before
    assert not [line for line in machine.told("pushed") if not line.startswith("land ")]


def test_the_clock_starts_what_is_missing_every_hour_and_verifies_once_a_day(runner: Runner) -> None:
    machine, project = runner.machine, runner.machine.project
    project.run("git", "switch", "--quiet", "main")
    project.run("cd4ml", "new", "exp/lost", ALPHA.format(7), "--hypothesis", "its event was lost")
    project.run("git", "push", "--quiet", "origin", "exp/lost")
    hourly = runner.schedule("17 * * * *")
    assert hourly.jobs == {"again": True}, hourly.log
    start = "workflow run cd4ml.yml --ref main --raw-field branch="
    assert machine.told("started") == [f"{start}exp/lost", f"{start}main"]
    for branch in ("exp/lost", "main"):
        again = runner.dispatch(branch)
        assert again.jobs == {"execute": True, "land": True}, again.log
    (run,) = records(runner, "exp/lost")
    assert run["health"] == "Healthy"
    assert runner.dispatch("").jobs == {"again": True}
    assert machine.told("started")[2:] == [f"{start}main"]
    daily = runner.schedule("43 3 * * *")
    assert daily.jobs == {"verify": True}, daily.log
