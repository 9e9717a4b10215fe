"""What the base branch itself is held against, and what is in production, told from records, merges and tags."""

from __future__ import annotations

from typing import Any

from cd4ml.controller.project import open_project
from cd4ml.controller.reconciling.observe import observe
from cd4ml.controller.reporting.champions import References
from tests.conftest import Shell
from tests.controller.compare_world import result_of_main
from tests.controller.controller_world import cd4ml, git, push, remote
from tests.controller.report_world import made_up, result_commit, tagged


def references(shell: Shell) -> References:
    project = open_project(shell.folder)
    return References(project, observe(project))


def before(shell: Shell) -> tuple[str, str]:
    """The commit and its run."""
    found = references(shell).before()
    assert found is not None
    return found[0], found[1].id


def moved(shell: Shell, body: dict[str, Any], seed: int) -> tuple[str, str]:
    """The base branch goes to a commit that asks for a seed, with a run; a branch ``exp/SEED`` stays there."""
    made = made_up(shell, f"exp/{seed}", seed, body)
    push(shell, "refs/heads/main", made["commit"], "--force")
    git(shell, "reset", "--quiet", "--hard", made["commit"])
    return made["commit"], made["id"]


def test_what_was_before_is_what_main_was_recorded_with_last_unless_it_went_back_or_merged_since(team: Shell) -> None:
    body = result_of_main(team)
    start = git(team, "rev-parse", "main"), str(body["id"])
    one = made_up(team, "exp/1", 1, body)
    cd4ml(team, "reconcile", "exp/1")
    push(team, "refs/heads/main", one["commit"])
    git(team, "reset", "--quiet", "--hard", one["commit"])
    cd4ml(team, "reconcile", "main")
    assert before(team) == start
    two = moved(team, body, 2)
    cd4ml(team, "reconcile", "main")
    assert before(team) == (one["commit"], one["id"])
    moved(team, body, 3)
    assert before(team) == two, "and not what was merged before that"
    moved(team, body, 4)
    assert before(team) == two, "a branch that only stands on the way was not merged"
    git(team, "reset", "--quiet", "--hard", start[0])
    moved(team, body, 5)
    assert before(team) == start, "what was taken back is not what was before"


def test_a_tag_that_counts_for_nothing_hides_none_that_counts(team: Shell) -> None:
    """Whether its name was taken out of production, or it is on no result."""
    body = result_of_main(team)
    held = result_commit(team, body["id"])
    for name, target in (
        ("delays#production#1", held),
        ("delays#production!#2", held),
        ("flights#production#9", "main"),
        ("flights#production#4", held),
    ):
        tagged(team, name, target)
    production, told = references(team).production()
    assert production is not None
    assert (production.run.id, production.environment) == (body["id"], "production")
    assert told == ("the release tag flights#production#9 is on no result of the index, and is not counted",)


def test_where_tags_cannot_be_read_nothing_is_said_to_be_in_production(team: Shell) -> None:
    known = references(team)
    remote(team).folder.rename(team.folder.parent / "away.git")
    assert known.production() == (None, ("what is in production is not known: the remote's tags cannot be read",))
