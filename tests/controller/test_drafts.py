"""Runs of branches that are not pushed: they stay here until the branch is pushed, or --publish says so."""

from __future__ import annotations

from tests.conftest import Shell


def refs(team: Shell) -> str:
    return team.run("git", "-C", "../remote.git", "for-each-ref")


def test_a_branch_that_is_not_pushed_runs_when_named_and_nothing_of_it_reaches_the_remote(team: Shell) -> None:
    team.run("cd4ml", "new", "mine", "model.parameters.alpha=7")
    commit = team.run("git", "rev-parse", "exp/mine").strip()
    before = refs(team)
    team.run("cd4ml", "reconcile", "exp/mine")
    assert refs(team) == before
    team.run("git", "-C", "../remote.git", "cat-file", "-e", commit, code=1)
    assert "rmse" in team.run("cd4ml", "show", "exp/mine")
    done = team.attempt("cd4ml", "reconcile", "exp/mine")
    assert "train started" not in done.stderr  # what was run stays known here


def test_a_draft_lands_without_another_run_once_its_branch_is_pushed(team: Shell) -> None:
    team.run("cd4ml", "new", "mine", "model.parameters.alpha=8")
    team.run("cd4ml", "reconcile", "exp/mine")
    team.run("git", "push", "--quiet", "origin", "exp/mine")
    done = team.attempt("cd4ml", "reconcile")
    assert done.returncode == 0, done.stderr
    assert "train started" not in done.stderr
    assert team.run("git", "for-each-ref", "refs/cd4ml/draft") == ""
    team.at(team.folder.parent).run("git", "clone", "--quiet", "remote.git", "other")
    other = team.at(team.folder.parent / "other")
    assert "exp/mine" in other.run("cd4ml", "search", "health = 'Healthy'")
    other.run("cd4ml", "reproduce", "exp/mine")


def test_a_draft_whose_outputs_were_cleared_is_forgotten_and_run_again(team: Shell) -> None:
    team.run("cd4ml", "new", "mine", "model.parameters.alpha=9")
    team.run("cd4ml", "reconcile", "exp/mine")
    team.run("git", "push", "--quiet", "origin", "exp/mine")
    team.run("rm", "-rf", ".dvc/cache")
    team.run("cd4ml", "reconcile", "exp/mine")
    team.run("cd4ml", "plan", "--exit-code")
