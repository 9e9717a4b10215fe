"""Whatever befalls the remote's index is noticed and named by every verb, and nothing is recorded meanwhile."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cd4ml.gateways.warm import SOCKET_VARIABLE
from tests.conftest import Shell
from tests.controller.controller_world import cd4ml, commit, git, push, refs, remote, runs
from tests.controller.index_attacks import (
    ATTACKS,
    INDEX,
    Attack,
    folded,
    grown,
    landed,
    mirrored,
    moved_back_by_one,
    names,
    plain_clone,
    tip,
)


@pytest.fixture(scope="module")
def lived_in(template_project: Path, tmp_path_factory: pytest.TempPathFactory, few_flights: Path, warm: str) -> Shell:
    folder = tmp_path_factory.mktemp("attacked") / "team"
    return grown(template_project, folder, {"PYTHONPATH": str(few_flights), SOCKET_VARIABLE: warm})


@pytest.fixture
def world(lived_in: Shell, tmp_path: Path) -> Shell:
    """A fresh copy of a project whose index has a few folds, and its remote."""
    shutil.copytree(lived_in.folder.parent, tmp_path / "team", symlinks=True)
    return lived_in.at(tmp_path / "team" / "project")


def test_every_verb_that_fetches_names_it_and_none_records_anything(world: Shell) -> None:
    push(world, "refs/heads/exp/y", commit(world, "main", {"other": "x"}))
    word, named = mirrored(world)
    before = refs(remote(world))
    for command in (
        *("status", "plan", "show main", "status main", "search", "diff main main", "leaderboard"),
        *("reconcile", "note main learnt", "new x seed=3", "update main"),
    ):
        (line,) = cd4ml(world, *command.split(), code=None).lines
        assert word in line, command
        assert named in line, command
    assert refs(remote(world)) == before


def test_status_shows_what_this_clone_remembers(world: Shell) -> None:
    before = cd4ml(world, "status", "--json").json
    moved_back_by_one(world)
    done = cd4ml(world, "status", "--json")
    assert done.json == before
    assert "showing what this clone remembers" in done.err


def test_what_is_noticed_stays_noticed_with_the_remote_away_and_after_a_collection_of_garbage(world: Shell) -> None:
    known = {run["id"] for run in runs(world)}
    word, _ = mirrored(world)
    for _ in range(2):
        assert word in cd4ml(world, "search", "--json").err
    git(world, "reflog", "expire", "--expire=now", "--all")
    git(world, "gc", "--quiet", "--prune=now")
    remote(world).folder.rename(world.folder.parent / "away.git")
    done = cd4ml(world, "search", "--json")
    assert word in done.err
    assert {run["id"] for run in done.json["runs"]} == known


def test_folds_of_others_are_followed_without_a_word(world: Shell) -> None:
    other = plain_clone(world)
    ids = folded(other, "one", "two", "three")
    assert cd4ml(world, "search", "--json").err == ""
    assert names(world) >= set(ids)
    assert git(world, "rev-parse", "refs/cd4ml/trusted/remote/origin/index") == tip(world)


def test_a_landed_record_that_others_fold_is_not_missed(world: Shell) -> None:
    waiting = landed(world, "mine")
    cd4ml(world, "search")
    assert cd4ml(plain_clone(world), "reconcile").lines == []
    assert waiting in names(world)
    assert cd4ml(world, "reconcile").lines == []


def test_a_landed_ref_that_holds_no_record_may_go(world: Shell) -> None:
    push(world, f"refs/cd4ml/landing/r{'0' * 20}", commit(world, "main", {"other": "x"}))
    cd4ml(world, "search")
    git(remote(world), "update-ref", "-d", f"refs/cd4ml/landing/r{'0' * 20}")
    assert cd4ml(world, "search").err == ""


def test_what_was_pushed_a_moment_ago_is_missed_though_no_fetch_has_seen_it(world: Shell) -> None:
    before = tip(world)
    landed(world, "pushed")
    folded(world, "folded")
    git(remote(world), "update-ref", INDEX, before)
    assert "was moved back" in cd4ml(world, "reconcile", code=1).err


def test_a_clone_that_knows_nothing_accepts_what_is_there(world: Shell) -> None:
    known = names(world)
    moved_back_by_one(world)
    fresh = plain_clone(world, "fresh")
    assert cd4ml(fresh, "reconcile").lines == []
    assert len(names(world)) == len(known)  # one was lost, and the one that waited is folded


@pytest.mark.parametrize("attack", [one for one in ATTACKS if one.__name__ in ("edited", "added_without_proof")])
def test_a_clone_that_knows_nothing_sees_a_forged_fold_among_the_newest(world: Shell, attack: Attack) -> None:
    _, named = attack(world)
    (line,) = cd4ml(plain_clone(world, "fresh"), "reconcile", code=1).lines
    assert named in line


def test_a_clone_made_with_plain_git_remembers_what_git_brought(world: Shell) -> None:
    other = plain_clone(world)
    git(remote(world), "update-ref", "-d", INDEX)
    (line,) = cd4ml(other, "reconcile", code=1).lines
    assert "was deleted" in line


def test_two_remotes_are_remembered_apart(world: Shell) -> None:
    world.run("git", "init", "--quiet", "--bare", "../second.git")
    world.run("git", "remote", "add", "second", "../second.git")
    world.run("git", "push", "--quiet", "second", "main")
    for name in ("second", "origin", "second"):
        assert cd4ml(world, "--remote", name, "search").err == "", name


def test_a_repository_that_is_its_own_remote_is_guarded_too(world: Shell) -> None:
    bare = remote(world)
    cd4ml(bare, "search")
    git(bare, "update-ref", INDEX, f"{INDEX}~1")
    (line,) = cd4ml(bare, "search").lines
    assert line.startswith("cd4ml: this repository: the index cd4ml/index was moved back by 1 fold: ")
