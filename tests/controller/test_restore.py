"""Whatever befell the remote's index, ``cd4ml restore`` puts it back from any clone, and reconcile goes on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from cd4ml.controller.fold import fold_landed
from cd4ml.controller.project import open_project
from cd4ml.gateways.warm import SOCKET_VARIABLE
from tests.conftest import Shell
from tests.controller.controller_world import cd4ml, git, refs, remote, runs
from tests.controller.index_attacks import (
    ATTACKS,
    INDEX,
    Attack,
    another_history,
    changed_entry,
    committed,
    deleted,
    dropped,
    edited,
    folded,
    grown,
    landed,
    mirrored,
    names,
    plain_clone,
    tip,
)
from tests.controller.test_writers import hook

SCHEMA = Path(__file__).parents[2] / "docs" / "schemas" / "restorations.schema.json"


@pytest.fixture(scope="module")
def lived_in(template_project: Path, tmp_path_factory: pytest.TempPathFactory, few_flights: Path, warm: str) -> Shell:
    folder = tmp_path_factory.mktemp("restored") / "team"
    return grown(template_project, folder, {"PYTHONPATH": str(few_flights), SOCKET_VARIABLE: warm})


@pytest.fixture
def world(lived_in: Shell, tmp_path: Path) -> Shell:
    """A fresh copy of a project whose index has a few folds, and its remote."""
    shutil.copytree(lived_in.folder.parent, tmp_path / "team", symlinks=True)
    return lived_in.at(tmp_path / "team" / "project")


def all_records(shell: Shell) -> set[str]:
    """The ids of what the index holds and of what waits to be folded."""
    return names(shell) | {ref.rsplit("/", 1)[-1] for ref in refs(remote(shell)) if "/landing/" in ref}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_an_attack_is_named_nothing_is_recorded_meanwhile_and_restore_undoes_it(world: Shell, attack: Attack) -> None:
    known, before, ids = all_records(world), tip(world), {run["id"] for run in runs(world)}
    word, named = attack(world)
    found = refs(remote(world))
    (refused,) = cd4ml(world, "reconcile", code=1).lines
    shown = cd4ml(world, "search", "--json")
    for line in (refused, *shown.lines):
        assert line.startswith("cd4ml: origin: ")
        assert word in line
        assert named in line
        assert "nothing is recorded until `cd4ml restore`" in line
    assert len(shown.lines) == 1
    assert {run["id"] for run in shown.json["runs"]} == ids
    assert refs(remote(world)) == found
    done = cd4ml(world, "restore", "--yes")
    assert done.err == ""
    assert "restored" in done.out
    assert git(remote(world), "merge-base", "--is-ancestor", before, INDEX) == ""
    done = cd4ml(world, "restore", "--yes")
    assert done.out.startswith("nothing to restore: ")
    assert cd4ml(world, "reconcile").lines == []
    assert names(world) >= known


@pytest.mark.parametrize("attack", [mirrored, edited], ids=lambda attack: attack.__name__)
def test_any_clone_can_do_it_and_the_first_one_then_has_nothing_to_say(world: Shell, attack: Attack) -> None:
    known, other = all_records(world), plain_clone(world)
    cd4ml(other, "status")
    attack(world)
    cd4ml(other, "restore", "--yes")
    done = cd4ml(world, "search", "--json")
    assert done.err == ""
    assert all_records(world) >= known


def test_a_clone_made_with_plain_git_can_do_it_with_no_verb_before(world: Shell) -> None:
    before, other = tip(world), plain_clone(world)
    deleted(world)
    cd4ml(other, "restore", "--yes")
    assert tip(world) == before
    assert cd4ml(world, "reconcile").lines == []


def test_plain_git_may_have_seen_a_later_index_than_cd4ml(world: Shell) -> None:
    other = plain_clone(world)
    cd4ml(other, "status")
    folded(world, "later")
    newest = tip(world)
    other.run("git", "fetch", "--quiet")
    deleted(world)
    cd4ml(other, "restore", "--yes")
    assert tip(world) == newest


def test_a_forged_commit_goes_and_valid_records_that_others_folded_over_it_stay(world: Shell) -> None:
    before = tip(world)
    path, data = changed_entry(world)
    committed(world, {path: data})
    unguarded = open_project(plain_clone(world).folder)
    waiting = landed(world, "honest")
    fold_landed(unguarded, unguarded.repository.fetch("origin"))  # as whoever does not look
    assert waiting in names(world)
    done = cd4ml(world, "restore", "--yes")
    assert f"land    record {waiting} again" in done.out
    assert f"drop    {path}: is another than the one that is remembered" in done.out
    assert tip(world) == before
    cd4ml(world, "reconcile")
    assert waiting in names(world)
    assert git(remote(world), "show", f"{INDEX}:{path}") == git(remote(world), "show", f"{before}:{path}")


def test_what_another_history_alone_had_is_kept(world: Shell) -> None:
    known = all_records(world)
    another_history(world)
    theirs = names(world)
    cd4ml(world, "restore", "--yes")
    cd4ml(world, "reconcile")
    assert names(world) >= known | theirs


def test_another_history_can_be_accepted_and_what_is_remembered_then_lands_again(world: Shell) -> None:
    known = all_records(world)
    another_history(world)
    theirs = tip(world)
    done = cd4ml(world, "restore", "--accept", "--yes")
    assert f"accept  the index at {theirs[:12]}" in done.out
    assert cd4ml(world, "reconcile").lines == []
    assert git(remote(world), "merge-base", "--is-ancestor", theirs, INDEX) == ""
    assert names(world) >= known


def test_a_forged_index_cannot_be_accepted(world: Shell) -> None:
    _, named = dropped(world)
    before = refs(remote(world))
    (line,) = cd4ml(world, "restore", "--accept", "--yes", code=1).lines
    assert named in line
    assert refs(remote(world)) == before


def test_without_a_yes_nothing_is_done(world: Shell) -> None:
    mirrored(world)
    before = refs(remote(world))
    shown = cd4ml(world, "restore", "--dry-run")
    assert "move    the index from nothing to" in shown.out
    done = cd4ml(world, "restore", code=2)
    assert done.out == shown.out
    assert "say --yes" in done.lines[0]
    assert refs(remote(world)) == before


def test_two_that_restore_at_once_both_succeed(world: Shell) -> None:
    known, other = all_records(world), plain_clone(world)
    cd4ml(other, "status")
    another_history(world)
    known |= names(world)
    command = ["cd4ml", "restore", "--yes"]
    environment = {**os.environ, **world.environment}
    racing = [
        subprocess.Popen(command, cwd=one.folder, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
        for one in (world, other)
    ]
    told = [racer.communicate() for racer in racing]
    assert [racer.returncode for racer in racing] == [0, 0], told
    for one in (world, other):
        assert cd4ml(one, "reconcile").lines == []
    assert names(world) >= known


def test_a_remote_that_refuses_is_told_in_a_line_and_may_be_asked_again(world: Shell) -> None:
    before = tip(world)
    edited(world)
    refusing = hook(world, "update", 'case "$1" in refs/heads/cd4ml/*) echo "protected" >&2; exit 1;; esac')
    (line,) = cd4ml(world, "restore", "--yes", code=1).lines
    assert "could not be put back" in line
    refusing.unlink()
    cd4ml(world, "restore", "--yes")
    assert tip(world) == before


def test_the_json_has_the_published_shape(world: Shell) -> None:
    schema = json.loads(SCHEMA.read_text("utf-8"))
    Draft202012Validator.check_schema(schema)
    another_history(world)
    for options, done in ((["--dry-run"], False), (["--yes"], True)):
        told = cd4ml(world, "restore", "--json", *options).json
        Draft202012Validator(schema).validate(told)
        (item,) = told["restorations"]
        assert item["done"] is done
        assert item["relanded"]
        assert item["updates"]
    (item,) = cd4ml(world, "restore", "--json").json["restorations"]
    assert (item["found"], item["done"]) == ([], False)


def test_all_is_found_again_after_the_remote_was_made_anew(world: Shell) -> None:
    """The worst: the remote is gone, and a new and empty one stands in its place."""
    known, ids = all_records(world), {run["id"] for run in runs(world)}
    shutil.rmtree(remote(world).folder)
    world.run("git", "init", "--quiet", "--bare", "../remote.git")
    world.run("git", "push", "--quiet", "origin", "main")
    cd4ml(world, "restore", "--yes")
    assert cd4ml(world, "reconcile").lines == []
    assert names(world) >= known
    assert {run["id"] for run in runs(world)} == ids
