"""What lies damaged on this machine, or stands oddly in a branch, costs no experiment its true record."""

from __future__ import annotations

from tests.conftest import Shell
from tests.controller.controller_world import cd4ml, experiments


def test_a_damaged_copy_of_the_truth_is_made_again_and_fails_nobody(team: Shell) -> None:
    (kept,) = (team.folder / ".git/cd4ml/truth").glob("*/artifacts/split/split.parquet")
    content = bytearray(kept.read_bytes())
    content[len(content) // 2] ^= 1
    kept.chmod(0o644)
    kept.write_bytes(content)
    cd4ml(team, "new", "stiff", "model.parameters.alpha=30", "--push")
    cd4ml(team, "reconcile", "exp/stiff")
    assert kept.read_bytes() != bytes(content)


def test_a_commit_of_the_year_10000_is_an_experiment_like_any_other(team: Shell) -> None:
    date = "@253402300800 +0000"
    team.run("git", "switch", "--quiet", "--create", "exp/late")
    (team.folder / "note.txt").write_text("x", "utf-8")
    team.run("git", "add", "note.txt")
    made = team.attempt("git", "commit", "--quiet", "-m", "late", GIT_COMMITTER_DATE=date, GIT_AUTHOR_DATE=date)
    assert made.returncode == 0, made.stderr
    team.run("git", "switch", "--quiet", "main")
    (team.folder / "other.txt").write_text("x", "utf-8")
    team.run("git", "add", "other.txt")
    team.run("git", "commit", "--quiet", "-m", "main moves, so that the merge result is a commit of its own")
    team.run("git", "push", "--quiet", "origin", "main", "exp/late")
    cd4ml(team, "reconcile")
    found = experiments(team)
    assert (found["exp/late"]["sync"], found["exp/late"]["health"]) == ("Synced", "Healthy")
    cd4ml(team, "plan", "--exit-code")


def test_a_branch_merged_before_it_was_ever_recorded_reads_merged_after_it_is_deleted(team: Shell) -> None:
    cd4ml(team, "new", "stiff", "model.parameters.alpha=40", "--push")
    team.run("git", "merge", "--quiet", "--no-ff", "-m", "Promote stiff", "exp/stiff")
    team.run("git", "push", "--quiet", "origin", "main")
    cd4ml(team, "reconcile")
    team.run("git", "push", "--quiet", "origin", "--delete", "exp/stiff")
    team.run("git", "branch", "-D", "exp/stiff")
    cd4ml(team, "reconcile")
    assert experiments(team)["exp/stiff"]["lifecycle"] == "merged"
