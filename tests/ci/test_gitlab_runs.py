"""The rendered pipeline of GitLab, really run: a push, a rebase, a fork, a merge, the clock. No network, no containers.

The forge is a fake that is held to GitLab's documentation; the hosted service was not asked.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.ci.gitlab_ci_world import FORK, Pipelines
from tests.ci.runner_world import make_machine
from tests.forge.gitlab_world import GitLabWorld

BRANCH = "exp/softer"
ALPHA = "model.parameters.alpha={}"
HOSTILE = "exp/$(id>pwned)`id>pwned`;&|'\"{{x}}"


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory, warm: str) -> Iterator[Pipelines]:
    """A project whose base branch has been pushed, and reconciled from a laptop."""
    with GitLabWorld() as forge:
        assert isinstance(forge, GitLabWorld)
        pipelines = Pipelines(make_machine(tmp_path_factory.mktemp("gitlab"), warm, "gitlab"), forge)
        pipelines.machine.project.run("cd4ml", "reconcile")
        yield pipelines
        assert forge.violations == []


def test_a_push_notes_a_rebase_edits_and_a_merge_costs_no_training(pipelines: Pipelines) -> None:
    """One branch from its first push to `main`, since every job costs seconds. Its name is an attack on each shell."""
    machine, project, forge = pipelines.machine, pipelines.machine.project, pipelines.forge
    project.run("cd4ml", "new", BRANCH, ALPHA.format(30), "--hypothesis", "`id` $CD4ML_FORGE_TOKEN")
    project.run("git", "branch", "--move", BRANCH, HOSTILE)

    forge.add_pull(1, HOSTILE, machine.head(HOSTILE))
    pushed = pipelines.push(HOSTILE)
    assert pushed.jobs == {"check": True, "execute": True, "land": True}, pushed.log
    ((note, first),) = forge.notes.items()
    before = first["body"]
    assert "rmse" in before

    project.run("git", "switch", "--quiet", "main")
    machine.commit("Say hello", ("README.md", "Hello.\n"))
    project.run("git", "push", "--quiet", "origin", "main")
    project.run("git", "rebase", "--quiet", "main", HOSTILE)
    rebased = pipelines.push(HOSTILE, force=True)
    assert rebased.succeeded, rebased.log
    assert list(forge.notes) == [note]
    assert forge.notes[note]["body"] != before

    project.run("git", "switch", "--quiet", "main")
    project.run("git", "merge", "--quiet", "--no-ff", "--no-edit", HOSTILE)
    forge.pulls[1]["state"] = "merged"
    merged = pipelines.push("main")
    assert merged.succeeded, merged.log
    assert "0 bundles" in merged.log

    assert {line.split()[0] for line in machine.told("pushed")} == {"land"}
    assert set(machine.told("called")) == {
        "check check without",
        "execute execute without",
        "land land with",
        "land report with",
    }
    assert not list(machine.folder.rglob("pwned*"))


def test_a_fork_is_checked_and_its_code_not_run_wherever_its_pipeline_runs(pipelines: Pipelines) -> None:
    pipelines.forge.add_pull(7, "main", pipelines.machine.head("origin/main"), fork=True)
    assert pipelines.merge_request_jobs(7, here=FORK) == ["check"]
    assert pipelines.merge_request_jobs(7) == ["check"]


def test_a_branch_that_is_no_experiment_starts_no_pipeline(pipelines: Pipelines) -> None:
    head = pipelines.machine.head("origin/main")
    for branch, jobs in (("fix/typo", []), ("exp/x", ["check", "execute", "land"]), ("expx", []), ("my/exp/x", [])):
        assert pipelines.jobs_of(branch, head, {"CI_PIPELINE_SOURCE": "push", "CI_COMMIT_BRANCH": branch}) == jobs


def test_a_pipeline_that_the_clock_started_for_a_branch_runs_beside_its_merge_request(pipelines: Pipelines) -> None:
    given = {"CI_PIPELINE_SOURCE": "api", "CI_COMMIT_BRANCH": "exp/x", "CI_OPEN_MERGE_REQUESTS": "a/b!1"}
    jobs = pipelines.jobs_of("exp/x", pipelines.machine.head("origin/main"), given)
    assert jobs == ["check", "execute", "land"]


def test_the_clock_reconciles_and_verifies(pipelines: Pipelines) -> None:
    ran = pipelines.schedule()
    assert ran.jobs == {"execute": True, "land": True, "verify": True}, ran.log
