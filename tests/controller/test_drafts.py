"""Runs of branches that are not pushed: they stay here until the branch is pushed, or --publish says so."""

from __future__ import annotations

import json

from cd4ml.index.record import RECORD_PATH
from tests.conftest import Shell
from tests.controller.controller_world import (
    BASELINE,
    OTHER_SEED,
    Content,
    branch,
    cd4ml,
    commit,
    experiments,
    git,
    gusty,
    push,
    rejected,
    remote,
    runs,
)
from tests.controller.keeping_world import listing, storage


def refs(team: Shell) -> str:
    return team.run("git", "-C", "../remote.git", "for-each-ref")


def drafts(team: Shell) -> list[str]:
    """The commits of the drafts."""
    return git(team, "for-each-ref", "--format=%(objectname)", "refs/cd4ml/draft").split()


def outputs_of_commit(team: Shell, commit: str) -> set[str]:
    """The names of the stored outputs of the record that a commit holds."""
    files = json.loads(git(team, "show", f"{commit}:{RECORD_PATH}"))["files"]
    return {known["md5"] for path, known in files.items() if path.startswith("artifacts/")}


def test_a_draft_of_a_merge_result_stays_until_the_head_that_was_merged_is_pushed(team: Shell) -> None:
    """That a branch of that name has come to be that holds its first parent, the base branch, says nothing."""
    source = rejected(team, "exp/theirs")
    git(team, "push", "--quiet", "origin", ":exp/theirs")
    here_alone(team, source, "exp/mine")
    ridge = git(team, "show", "main:conf/model/ridge.yaml").replace("alpha: 1.0", "alpha: 2.0")
    moved = commit(team, "main", {"conf/model/ridge.yaml": f"{ridge}\n"})
    push(team, "refs/heads/main", moved)
    cd4ml(team, "reconcile", "exp/mine", code=1)
    sides = {json.loads(git(team, "show", f"{one}:{RECORD_PATH}"))["side"] for one in drafts(team)}
    assert sides == {"head", "merge"}
    held = [json.loads(git(team, "show", f"{one}:{RECORD_PATH}"))["id"] for one in drafts(team)]
    push(team, "refs/heads/exp/mine", commit(team, moved, {**gusty(team), BASELINE: OTHER_SEED.format(seed=8)}))
    cd4ml(team, "reconcile", code=0)
    everything = git(remote(team), "log", "--all", "--format=%B")
    assert not [one for one in held if one in everything]


def test_a_branch_that_is_not_pushed_runs_when_named_and_nothing_of_it_reaches_the_remote(team: Shell) -> None:
    cd4ml(team, "new", "mine", "model.parameters.alpha=7")
    source = team.run("git", "rev-parse", "exp/mine").strip()
    before = refs(team)
    cd4ml(team, "reconcile", "exp/mine")
    assert refs(team) == before
    team.run("git", "-C", "../remote.git", "cat-file", "-e", source, code=1)
    assert "rmse" in cd4ml(team, "show", "exp/mine").out
    done = cd4ml(team, "reconcile", "exp/mine")
    assert "train started" not in done.err  # what was run stays known here


def test_a_draft_lands_without_another_run_once_its_branch_is_pushed(team: Shell) -> None:
    """With its outputs, and not before they are on the DVC remote."""
    cd4ml(team, "new", "mine", "model.parameters.alpha=8")
    cd4ml(team, "reconcile", "exp/mine")
    (draft,) = drafts(team)
    outputs = outputs_of_commit(team, draft)
    team.run("git", "push", "--quiet", "origin", "exp/mine")
    before, away = refs(team), storage(team).parents[1].rename(storage(team).parents[1].with_name("away"))
    storage(team).parents[1].write_text("no folder", "utf-8")
    assert not outputs <= set(listing(away / "files/md5"))
    cd4ml(team, "reconcile", code=1)
    assert (refs(team), drafts(team)) == (before, [draft]), "the record does not come before what it promises"
    storage(team).parents[1].unlink()
    away.rename(storage(team).parents[1])
    done = cd4ml(team, "reconcile")
    assert "train started" not in done.err
    assert outputs <= set(listing(storage(team)))
    assert team.run("git", "for-each-ref", "refs/cd4ml/draft") == ""
    team.at(team.folder.parent).run("git", "clone", "--quiet", "remote.git", "other")
    other = team.at(team.folder.parent / "other")
    assert "exp/mine" in cd4ml(other, "search", "health = 'Healthy'").out
    cd4ml(other, "reproduce", "exp/mine")


def test_a_draft_whose_outputs_were_cleared_is_forgotten_and_run_again(team: Shell) -> None:
    cd4ml(team, "new", "mine", "model.parameters.alpha=9")
    cd4ml(team, "reconcile", "exp/mine")
    team.run("git", "push", "--quiet", "origin", "exp/mine")
    (draft,) = drafts(team)
    for name in sorted(outputs_of_commit(team, draft))[1:]:  # one is there still
        (team.folder / ".dvc" / "cache" / "files" / "md5" / name[:2] / name[2:]).unlink()
    assert "train started" in cd4ml(team, "reconcile", "exp/mine").err
    cd4ml(team, "plan", "--exit-code")


def here_alone(shell: Shell, source: str, name: str) -> str:
    """A branch of this clone alone with a commit of its own, which asks for the same as ``source``."""
    made = git(shell, "commit-tree", f"{source}^{{tree}}", "-p", "main", "-m", "The same, here alone")
    git(shell, "update-ref", f"refs/heads/{name}", made)
    return made


def test_a_branch_that_is_pushed_is_not_answered_by_a_run_that_nobody_else_sees(team: Shell) -> None:
    source = rejected(team, "exp/theirs")
    here_alone(team, source, "exp/mine")
    cd4ml(team, "reconcile", "exp/mine", code=1)
    assert git(team, "for-each-ref", "refs/cd4ml/draft") != ""
    cd4ml(team, "reconcile", "exp/theirs", code=1)
    team.at(team.folder.parent).run("git", "clone", "--quiet", "remote.git", "other")
    (run,) = runs(team.at(team.folder.parent / "other"), "branch = 'exp/theirs'")
    assert run["source_commit"] == source


def test_a_draft_of_a_commit_that_was_never_pushed_stays_here(team: Shell) -> None:
    source = rejected(team, "exp/theirs")
    git(team, "push", "--quiet", "origin", ":exp/theirs")
    mine = here_alone(team, source, "exp/mine")
    cd4ml(team, "reconcile", "exp/mine", code=1)
    push(team, "refs/heads/exp/mine", source)  # another commit, that asks for the same
    cd4ml(team, "reconcile", "exp/mine", code=1)
    assert remote(team).attempt("git", "cat-file", "-e", mine).returncode != 0
    assert source in {run["source_commit"] for run in runs(team, "branch = 'exp/mine'")}


def test_publishing_a_branch_that_is_named_lands_no_draft_of_another(team: Shell) -> None:
    source = rejected(team, "exp/theirs")
    git(team, "push", "--quiet", "origin", ":exp/theirs")
    here_alone(team, source, "exp/mine")
    cd4ml(team, "reconcile", "exp/mine", code=1)
    (draft,) = drafts(team)
    refused = {BASELINE: "# @package _global_\nvalidation: {expectations: []}\n"}
    git(team, "update-ref", "refs/heads/exp/other", commit(team, "main", refused))
    cd4ml(team, "reconcile", "--publish", "exp/other", code=1)
    assert drafts(team) == [draft]


def test_a_draft_that_holds_no_record_is_left_alone_and_keeps_nobody_from_reconciling(team: Shell) -> None:
    made = git(team, "commit-tree", "main^{tree}", "-p", "main", "-m", f"A draft\n\nFingerprint: {'0' * 64}")
    git(team, "update-ref", f"refs/cd4ml/draft/r{'0' * 20}", made)
    cd4ml(team, "reconcile", "--publish")
    assert drafts(team) == [made]
    assert "refs/cd4ml/draft" not in refs(team)


def test_a_draft_whose_commit_tells_no_fingerprint_keeps_no_verb_from_working(team: Shell) -> None:
    git(team, "update-ref", f"refs/cd4ml/draft/r{'0' * 20}", "main")
    for verb in ("plan", "reconcile", "status", "search", "gc"):
        cd4ml(team, verb)
    cd4ml(team, "run", "validation=gusts", code=1)
    assert git(team, "rev-parse", "main") in drafts(team)


def test_a_draft_is_one_whatever_separates_trailers_for_its_user(team: Shell) -> None:
    git(team, "config", "trailer.separators", "=")
    cd4ml(team, "run", "validation=gusts", code=1)
    (draft,) = drafts(team)
    branch(team, "exp/x", gusty(team))
    assert "validate started" not in cd4ml(team, "reconcile", code=None).err
    assert draft not in drafts(team), "it answers the branch"


def test_a_draft_of_an_earlier_commit_lands_once_its_branch_is_pushed_with_what_came_after(team: Shell) -> None:
    mine = commit(team, "main", {**gusty(team), BASELINE: OTHER_SEED.format(seed=1)})
    git(team, "update-ref", "refs/heads/exp/mine", mine)
    cd4ml(team, "reconcile", "exp/mine", code=1)
    push(team, "refs/heads/exp/mine", commit(team, mine, {"notes.md": "what came after\n"}))
    assert "validate started" not in cd4ml(team, "reconcile").err
    assert drafts(team) == []
    assert {run["source_commit"] for run in runs(team, "branch = 'exp/mine'")} == {mine}


def test_a_local_branch_is_said_to_be_ahead_where_it_is_and_not_where_it_is_behind(team: Shell) -> None:
    refused: dict[str, Content] = {BASELINE: "# @package _global_\nvalidation: {expectations: []}\n"}
    pushed = branch(team, "exp/x", refused)
    for local, ahead in (("main", False), (pushed, False), (commit(team, pushed, {"notes.md": "more\n"}), True)):
        git(team, "update-ref", "refs/heads/exp/x", local)
        assert ("is not pushed" in experiments(team)["exp/x"]["reason"]) == ahead, local
