"""Whatever befalls the remote's index is noticed and named by every verb, and nothing is recorded meanwhile."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cd4ml.controller.landing import trust
from cd4ml.controller.landing.epochs import epoch_number
from cd4ml.controller.landing.landed import read_entries
from cd4ml.gateways.warm import SOCKET_VARIABLE
from cd4ml.index.epoch import Epoch, epoch_message
from cd4ml.promotion.summary import summary_of
from cd4ml.report.page import index_page
from tests.conftest import Shell
from tests.controller.controller_world import cd4ml, commit, git, push, refs, remote, runs
from tests.controller.index_attacks import (
    ATTACKS,
    INDEX,
    Attack,
    committed,
    folded,
    grown,
    landed,
    mirrored,
    moved_back_by_one,
    names,
    plain_clone,
    tip,
    unreadable,
)
from tests.controller.keeping_world import project_of


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


def forged_whole(world: Shell) -> str:
    """An index of one commit, with all entries and nothing that proves them; gives what was there before."""
    before = tip(world)
    clone = remote(world)
    made = git(clone, "commit-tree", f"{before}^{{tree}}", stdin=b"cd4ml: fold 1 record\n")
    git(clone, "update-ref", INDEX, made)
    return before


def test_a_clone_that_knows_nothing_shows_nothing_of_an_index_that_is_forged_whole(world: Shell) -> None:
    forged_whole(world)
    fresh = plain_clone(world, "fresh")
    told = cd4ml(fresh, "search", "--json")
    assert "was forged" in told.err
    assert {run["branch"] for run in told.json["runs"]} == {"exp/waiting"}, "which has landed, and is proven by that"


def test_a_forged_index_that_plain_git_brought_is_not_what_the_sound_one_is_held_against(world: Shell) -> None:
    before = forged_whole(world)
    fresh = plain_clone(world, "fresh")
    git(remote(world), "update-ref", INDEX, before)
    assert cd4ml(fresh, "search").err == ""
    assert cd4ml(fresh, "reconcile").err == ""


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


MEMORY = "refs/cd4ml/trusted/remote/origin/"


def accepted_by_an_earlier_version(world: Shell) -> None:
    """Take the remote's index for the remembered one, by rules that knew less."""
    made = tip(world)
    git(world, "fetch", "--quiet", "origin", made)
    git(world, "update-ref", f"{MEMORY}index", made)
    (project_of(world).private / "judged.json").unlink(missing_ok=True)


def test_what_an_earlier_version_accepted_and_none_can_read_can_be_put_back(world: Shell) -> None:
    before = tip(world)
    word, named = unreadable(world)
    accepted_by_an_earlier_version(world)
    assert named in cd4ml(world, "reconcile", code=1).err
    assert word in cd4ml(world, "restore", "--yes").out
    assert tip(world) == before
    assert cd4ml(world, "reconcile").err == ""


def test_restore_finds_what_none_can_read_though_it_was_judged_before(world: Shell) -> None:
    before = tip(world)
    unreadable(world)
    accepted_by_an_earlier_version(world)
    (project_of(world).private / "judged.json").write_text('{"origin": 2}', "utf-8")
    cd4ml(world, "restore", "--yes")
    assert tip(world) == before


@pytest.mark.parametrize("summary", [None, '{"folds": "many"}'], ids=["deleted", "garbled"])
def test_folds_are_counted_from_the_entries_where_an_earlier_version_lost_the_count(
    world: Shell, summary: str | None
) -> None:
    number = trust.number_at(project_of(world), tip(world))
    made = committed(world, {"summary.json": summary})
    git(world, "fetch", "--quiet", "origin", made)
    assert (number, trust.number_at(project_of(world), made)) == (5, 5)


def test_landing_refs_that_are_no_records_do_not_stop_this_clone_from_remembering(world: Shell) -> None:
    for gone, come in (("", "zz"), ("zz", "zz/y")):
        if gone:
            git(remote(world), "update-ref", "-d", f"refs/cd4ml/landing/{gone}")
        git(remote(world), "update-ref", f"refs/cd4ml/landing/{come}", "refs/heads/main")
        cd4ml(world, "search")
    assert not [ref for ref in refs(world) if ref.startswith(f"{MEMORY}landing/zz")]
    other = plain_clone(world)
    landed(other, "one")
    cd4ml(other, "reconcile", code=None)
    assert refs(world)[f"{MEMORY}index"] != tip(world)
    cd4ml(world, "search")
    assert refs(world)[f"{MEMORY}index"] == tip(world)


def test_a_name_that_an_earlier_version_remembered_does_not_stand_in_the_way(world: Shell) -> None:
    git(world, "update-ref", f"{MEMORY}landing/e{'0' * 20}/x", "origin/main")
    push(world, f"refs/cd4ml/landing/e{'0' * 20}", "origin/main")
    assert cd4ml(world, "search").err == ""
    assert f"{MEMORY}landing/e{'0' * 20}" in refs(world)


def test_a_memory_that_does_not_move_is_told(world: Shell) -> None:
    folded(plain_clone(world), "one")
    (world.folder / ".git" / f"{MEMORY}index.lock").write_bytes(b"")
    assert "cannot be remembered" in cd4ml(world, "search").err


def test_an_index_commit_does_not_pass_for_a_landed_one(world: Shell) -> None:
    """What lies before a landed commit is not looked at: it would hide every forgery from a clone that is new."""
    made = committed(world, {".cd4ml/record.json": "{}"})
    for shell in (world, plain_clone(world, "fresh")):
        assert f"commit {made[:12]}: .cd4ml/record.json" in cd4ml(shell, "reconcile", code=1).err


def test_an_ordinary_fold_may_not_say_that_it_begins_an_epoch(world: Shell) -> None:
    before = tip(world)
    tree = git(remote(world), "rev-parse", f"{before}^{{tree}}")
    message = epoch_message(Epoch(999_999_999, before), 0).encode()
    made = git(remote(world), "commit-tree", tree, "-p", before, stdin=message)
    git(remote(world), "update-ref", INDEX, made)
    assert f"commit {made[:12]}: its message: says that it begins" in cd4ml(world, "reconcile", code=1).err
    assert epoch_number(project_of(world), made) == 1


def test_each_fold_writes_the_first_page_that_all_entries_give(world: Shell) -> None:
    pages = []
    for name in ("one", "two"):
        folded(world, name)
        entries = read_entries(project_of(world), tip(world))
        pages.append(git(remote(world), "show", f"{INDEX}:README.md") + "\n")
        assert pages[-1] == index_page(summary_of(entries, 1))
    assert pages[0] != pages[1]


def test_a_record_that_this_clone_landed_is_missed_though_no_fetch_saw_it(world: Shell) -> None:
    name = landed(world, "pushed")
    git(remote(world), "update-ref", "-d", f"refs/cd4ml/landing/{name}")
    assert "1 landed record vanished" in cd4ml(world, "reconcile", code=1).err
    cd4ml(world, "restore", "--yes")
    cd4ml(world, "reconcile")
    assert name in names(world)
