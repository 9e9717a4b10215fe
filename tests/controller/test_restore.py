"""Whatever befell the remote's index, ``cd4ml restore`` puts it back from any clone, and reconcile goes on."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from cd4ml.controller.landing.fold import fold_landed
from cd4ml.controller.project import open_project
from cd4ml.gateways.warm import SOCKET_VARIABLE
from cd4ml.index.record import RECORD_PATH, encode
from tests.conftest import Shell
from tests.controller.controller_world import branch, cd4ml, commit, git, push, refs, remote, runs
from tests.controller.index_attacks import (
    ATTACKS,
    FOLDS,
    INDEX,
    Attack,
    another_history,
    changed_entry,
    committed,
    deleted,
    dropped,
    edited,
    entries,
    folded,
    grown,
    landed,
    mirrored,
    names,
    plain_clone,
    tip,
)
from tests.controller.keeping_world import Planted, clone, plant, rule
from tests.controller.test_forget import FORGET, signing_key
from tests.controller.test_forget import names as name_eraser
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


def test_a_run_that_lands_again_is_not_said_to_be_dropped(world: Shell) -> None:
    """Somebody who knew nothing folded it over an index that was moved back. Its entry is not named by the id alone."""
    git(remote(world), "update-ref", INDEX, f"{INDEX}~2")
    late = plant(plain_clone(world), "late")
    assert any(late.id in path for path in git(remote(world), "ls-tree", "-r", "--name-only", INDEX).splitlines())
    told = cd4ml(world, "restore", "--dry-run").out
    assert f"land    record {late.id} again" in told
    assert "no landed commit proves it" not in told
    cd4ml(world, "restore", "--yes")
    cd4ml(world, "reconcile")
    assert any(late.id in path for path in git(remote(world), "ls-tree", "-r", "--name-only", INDEX).splitlines())


def test_what_another_history_alone_had_is_kept(world: Shell) -> None:
    known = all_records(world)
    another_history(world)
    theirs = names(world)
    cd4ml(world, "restore", "--yes")
    cd4ml(world, "reconcile")
    assert names(world) >= known | theirs


def test_where_another_history_stands_it_is_said_that_it_can_be_accepted(world: Shell) -> None:
    """Two clones that remember two histories would undo each other for ever."""
    another_history(world)
    assert "--accept" in cd4ml(world, "restore", "--dry-run").out


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


def test_an_index_cannot_be_accepted_that_was_forged_long_before_its_newest_fold(world: Shell) -> None:
    path, data = changed_entry(world)
    forged = committed(world, {path: data})
    unguarded = open_project(plain_clone(world).folder)
    for name in ("honest", "and another"):
        landed(world, name)
        fold_landed(unguarded, unguarded.repository.fetch("origin"))  # as whoever does not look
    before = refs(remote(world))
    (line,) = cd4ml(world, "restore", "--accept", "--yes", code=1).lines
    assert f"its index cannot be accepted: commit {forged[:12]}: {path}" in line
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
    assert cd4ml(world, "restore", "--dry-run", "--yes").out == shown.out
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
    lost = branch(world, "exp/lost", {"notes.md": "lost"})
    cd4ml(world, "reconcile", "exp/lost")
    known, ids = all_records(world), {run["id"] for run in runs(world)}
    shutil.rmtree(remote(world).folder)
    world.run("git", "init", "--quiet", "--bare", "../remote.git")
    world.run("git", "push", "--quiet", "origin", "main")
    cd4ml(world, "status")
    told = cd4ml(world, "restore", "--yes").out.splitlines()
    assert f"leave   exp/lost, which is gone from the remote, at {lost}" in told
    assert "brings back a branch" in told[-2]
    assert not [line for line in told if line.startswith(("leave   main", "leave   cd4ml/index"))]
    assert cd4ml(world, "reconcile").lines == []
    assert names(world) >= known
    assert {run["id"] for run in runs(world)} == ids


def test_a_clone_that_lacks_what_is_to_be_put_back_says_so_and_one_that_knows_no_index_is_not_content(
    world: Shell,
) -> None:
    shallow, other = (world.at(world.folder.parent / name) for name in ("shallow", "other"))
    source = f"file://{remote(world).folder}"
    git(world, "clone", "--quiet", "--depth", "1", "--no-single-branch", source, str(shallow.folder))
    cd4ml(shallow, "status")
    shutil.rmtree(remote(world).folder)
    world.run("git", "init", "--quiet", "--bare", "../remote.git")
    world.run("git", "push", "--quiet", "origin", "main")
    (line,) = cd4ml(shallow, "restore", "--yes", code=1).lines
    assert line.endswith(
        "(this clone is shallow, and may not have all of it: restore from a whole one that has seen the index)"
    )
    git(world, "clone", "--quiet", source, str(other.folder))
    told = cd4ml(other, "restore", "--yes").out
    assert told.startswith("nothing to restore: the remote has no index, and this clone remembers none")


def erased(team: Shell) -> tuple[Planted, Shell, Shell]:
    """A run that is erased from history, and two clones that saw the index before."""
    key, public = signing_key(team, "key")
    name_eraser(team, public)
    one = plant(team, "one")
    plant(team, "kept")
    away = [clone(team, name) for name in ("second", "third")]
    for other in away:
        cd4ml(other, "search", "--json")
    team.run("git", "config", "user.signingkey", key)
    cd4ml(team, "forget", one.id, *FORGET, "--keep-data", "--purge")
    return one, away[0], away[1]


def is_held(team: Shell, one: Planted) -> bool:
    return one.id in git(remote(team), "ls-tree", "-r", "--name-only", INDEX)


def test_a_record_that_was_erased_and_lands_again_is_not_taken_in_and_its_ref_goes(team: Shell) -> None:
    one, second, _ = erased(team)
    ref = f"refs/cd4ml/landing/{one.id}"
    push(second, ref, one.result_commit)
    done = cd4ml(team, "reconcile", "main")
    assert [line for line in done.lines if f"{ref}: was erased" in line]
    assert not is_held(team, one)
    assert ref not in refs(remote(team))
    for shell in (team, second):
        assert cd4ml(shell, "status").err == "", "nothing is missed"


def test_records_that_were_erased_come_back_only_when_that_is_asked_for(team: Shell) -> None:
    """Whoever erased is named by main no more, and a clone that was away cannot tell the epoch from a forgery."""
    one, second, third = erased(team)
    rule(team)
    before = refs(remote(team))
    done = cd4ml(second, "restore", "--yes", code=2)
    assert f"return  record {one.id}, which was erased" in done.out
    assert "--accept" in done.err
    assert refs(remote(team)) == before
    cd4ml(second, "restore", "--accept", "--yes")
    cd4ml(second, "reconcile", "main")
    assert not is_held(team, one)
    cd4ml(third, "restore", "--yes", "--with-erased")
    assert is_held(team, one)


def test_a_restore_that_was_killed_after_its_push_has_restored(world: Shell) -> None:
    before, known = tip(world), all_records(world)
    mirrored(world)
    assert world.attempt("cd4ml", "restore", "--yes", CD4ML_CRASH_AT="restore.pushed").returncode == -9
    assert (tip(world), all_records(world)) == (before, known)
    assert "nothing to restore" in cd4ml(world, "restore", "--yes").out
    assert cd4ml(world, "reconcile", "main").lines == []


@pytest.fixture
def alone(world: Shell) -> Shell:
    """A repository that recorded an index while it had no remote, and then got one, which has none."""
    index = tip(world)
    git(world, "remote", "remove", "origin")
    for ref in [one for one in refs(world) if one.startswith(("refs/cd4ml/", "refs/remotes/"))]:
        git(world, "update-ref", "-d", ref)
    git(world, "update-ref", INDEX, index)
    assert len(runs(world)) == FOLDS + 1
    git(world, "remote", "add", "origin", str(remote(world).folder))
    for ref in [one for one in refs(remote(world)) if one.startswith("refs/cd4ml/") or one == INDEX]:
        git(remote(world), "update-ref", "-d", ref)
    return world


def test_an_index_from_before_there_was_a_remote_is_told_as_that_and_taken_there(alone: Shell) -> None:
    own = refs(alone)[INDEX]
    (line,) = cd4ml(alone, "reconcile", code=1).lines
    assert line.startswith("cd4ml: origin: no index is there yet, and this repository has its own of ")
    assert line.endswith(" folds: nothing is recorded until `cd4ml restore` has put it there")
    assert len(runs(alone)) == FOLDS + 1
    cd4ml(alone, "restore", "--yes")
    assert tip(alone) == own
    assert cd4ml(alone, "reconcile", "main").lines == []
    assert "nothing to restore" in cd4ml(alone, "restore", "--dry-run").out


def test_an_index_that_the_remote_has_already_is_followed_and_ones_own_records_land_in_it(alone: Shell) -> None:
    """The team's index is never taken for one that was rewritten, and never moved."""
    own = {path.rpartition("/")[2][-26:-5] for path in entries(alone, refs(alone)[INDEX])}
    (theirs,) = folded(plain_clone(alone, "team"), "theirs")
    before = tip(alone)
    (line,) = cd4ml(alone, "search").lines
    assert "what this repository recorded before it had a remote is not in it: `cd4ml restore` lands that" in line
    assert cd4ml(alone, "search").lines == []
    assert runs(alone) != []
    done = cd4ml(alone, "restore", "--yes").out
    assert "move " not in done
    cd4ml(alone, "reconcile", "main")
    assert {path.rpartition("/")[2][-26:-5] for path in entries(alone)} >= {theirs, *own}
    assert git(remote(alone), "merge-base", before, INDEX) == before
    assert "nothing to restore" in cd4ml(alone, "restore", "--dry-run").out


def test_landing_refs_that_no_fold_takes_are_named_and_dropped(world: Shell) -> None:
    main, waiting = refs(remote(world))["refs/heads/main"], {ref for ref in refs(remote(world)) if "/landing/" in ref}
    junk = [f"refs/cd4ml/landing/{name}" for name in ("zz", f"e{'0' * 20}/x", f"e{'1' * 20}")]
    for ref in junk:
        git(remote(world), "update-ref", ref, main)
    told = cd4ml(world, "restore", "--dry-run").out
    assert [ref for ref in junk if f"drop    {ref}: " in told] == junk
    assert set(junk) <= set(refs(remote(world)))
    cd4ml(world, "restore", "--yes")
    assert {ref for ref in refs(remote(world)) if "/landing/" in ref} == waiting
    assert cd4ml(world, "restore", "--yes").out.startswith("nothing to restore: ")


def test_a_record_lands_once_what_stood_in_its_way_is_dropped(world: Shell) -> None:
    main = refs(remote(world))["refs/heads/main"]
    ref = next(ref for ref in refs(remote(world)) if "/landing/" in ref)
    commit = refs(remote(world))[ref]
    git(remote(world), "update-ref", "-d", ref)
    git(remote(world), "update-ref", f"{ref}/x", main)
    cd4ml(world, "search", "--json")
    cd4ml(world, "restore", "--yes")
    push(world, ref, commit)
    assert cd4ml(world, "reconcile").lines == []
    assert ref.rsplit("/", 1)[1] in names(world)


@pytest.mark.parametrize("what", ["a commit", "a tag", "a blob"])
def test_a_waiting_record_whose_ref_was_moved_to_something_else_is_missed_and_lands_again(
    world: Shell, what: str
) -> None:
    known = all_records(world)
    ref, commit = waiting_ref(world)
    main = refs(remote(world))["refs/heads/main"]
    if what == "a tag":
        git(remote(world), "tag", "--annotate", "--message", "x", "junk", main)
    junk = {"a commit": main, "a tag": "refs/tags/junk", "a blob": f"{main}:dvc.yaml"}[what]
    git(remote(world), "update-ref", ref, git(remote(world), "rev-parse", junk))
    assert "1 landed record vanished before being folded" in cd4ml(world, "search", "--json").err
    (line,) = cd4ml(world, "reconcile", code=1).lines
    assert "cd4ml restore" in line
    cd4ml(world, "restore", "--yes")
    assert refs(remote(world))[ref] == commit
    cd4ml(world, "reconcile")
    assert all_records(world) >= known


def test_a_record_that_somebody_else_landed_by_another_commit_is_not_missed(world: Shell) -> None:
    ref, commit = waiting_ref(world)
    parent = git(world, "rev-parse", f"{commit}^")
    other = git(world, "commit-tree", "-p", parent, "-m", "the same", f"{commit}^{{tree}}")
    git(world, "push", "--quiet", "--force", "origin", f"{other}:{ref}")
    assert cd4ml(world, "search", "--json").err == ""
    assert "nothing" in cd4ml(world, "restore", "--yes").out


def test_what_another_history_took_in_lands_again_also_where_something_else_stands_at_its_ref(world: Shell) -> None:
    known = all_records(world)
    another_history(world)
    theirs = names(world) - known
    (one,) = theirs
    git(remote(world), "update-ref", f"refs/cd4ml/landing/{one[-21:]}", refs(remote(world))["refs/heads/main"])
    assert "no landed commit proves it" not in cd4ml(world, "restore", "--yes").out
    cd4ml(world, "reconcile")
    assert all_records(world) >= known | theirs


def test_of_many_landing_refs_that_are_refused_a_few_are_named_and_the_rest_counted(world: Shell) -> None:
    main = refs(remote(world))["refs/heads/main"]
    lines = "".join(f"create refs/cd4ml/landing/junk{number} {main}\n" for number in range(20))
    git(remote(world), "update-ref", "--stdin", stdin=lines.encode())
    told = cd4ml(world, "reconcile").lines
    assert len(told) == 4
    assert "17 more landing refs are not folded: `cd4ml restore`" in told[-1]


@pytest.mark.parametrize("page", ["# Nothing to see here\n", None], ids=["edited", "deleted"])
def test_a_first_page_that_the_entries_do_not_give_is_noticed_and_made_anew(world: Shell, page: str | None) -> None:
    right = git(remote(world), "show", f"{INDEX}:README.md")
    committed(world, {"README.md": page})
    assert "README.md" in cd4ml(world, "verify", "--quick", code=None).out
    done = cd4ml(world, "restore", "--yes")
    assert "README.md of the index is not what its entries give" in done.out
    assert git(remote(world), "show", f"{INDEX}:README.md") == right
    assert "nothing to restore" in cd4ml(world, "restore", "--dry-run").out


def test_a_summary_that_the_entries_do_not_give_is_made_anew(world: Shell) -> None:
    folded(world, "more")
    right = git(remote(world), "show", f"{INDEX}:summary.json")
    committed(world, {"summary.json": right.replace('"epoch": 1', '"epoch": 7') + "\n"})
    before = tip(world)
    cd4ml(world, "verify", code=1)
    cd4ml(world, "restore", "--yes")
    assert git(remote(world), "show", f"{INDEX}:summary.json") == right
    assert git(remote(world), "rev-parse", f"{INDEX}^") == before
    assert "summary.json" not in cd4ml(world, "verify", "--quick", code=None).out


def later_body(shell: Shell) -> dict[str, Any]:
    """A record of a schema and a kind that this version does not know."""
    main = refs(remote(shell))["refs/heads/main"]
    return {"schema": 99, "kind": "later", "id": f"f{'5' * 20}", "commit": main}


def later_landed(shell: Shell) -> tuple[str, str]:
    """A later version's record that landed; gives its ref and commit."""
    body = later_body(shell)
    made = commit(remote(shell), body["commit"], {RECORD_PATH: encode(body)}, "result\n")
    ref = f"refs/cd4ml/landing/{body['id']}"
    git(remote(shell), "update-ref", ref, made)
    return ref, made


def later_folded(shell: Shell) -> tuple[str, str]:
    """The same, and folded as a later version does; gives the ref that it had, and the path of its entry."""
    body, (ref, landing) = later_body(shell), later_landed(shell)
    summary = json.loads(git(remote(shell), "show", f"{INDEX}:summary.json"))
    number = summary["folds"] + 1
    envelope = {
        "record_sha256": hashlib.sha256(encode(body)).hexdigest(),
        "result_commit": landing,
        "landed_by": git(remote(shell), "log", "-1", "--format=%cn <%ce>", landing),
        "fold": number,
        "record": body,
    }
    path = f"experiments/55/{body['id']}.json"
    counted = json.dumps(summary | {"folds": number, "later": 1})
    committed(shell, {path: encode(envelope), "summary.json": counted}, parents=(landing,))
    git(remote(shell), "update-ref", "-d", ref)
    return ref, path


def test_a_landed_record_of_a_later_version_is_not_among_those_that_no_fold_ever_takes(world: Shell) -> None:
    ref, landing = later_landed(world)
    git(remote(world), "update-ref", f"refs/cd4ml/landing/e{'1' * 20}", refs(remote(world))["refs/heads/main"])
    assert ref not in cd4ml(world, "restore", "--yes").out
    assert refs(remote(world))[ref] == landing


def test_a_landed_record_of_a_later_version_that_vanished_lands_again(world: Shell) -> None:
    ref, landing = later_landed(world)
    cd4ml(world, "search")
    git(remote(world), "update-ref", "-d", ref)
    cd4ml(world, "restore", "--yes")
    assert refs(remote(world))[ref] == landing


def test_what_a_later_version_folded_lands_again_where_another_history_is_accepted(world: Shell) -> None:
    ref, _ = later_folded(world)
    landing = git(remote(world), "rev-parse", f"{INDEX}^2")
    assert cd4ml(world, "search").lines == []
    another_history(world)
    cd4ml(world, "restore", "--accept", "--yes")
    assert refs(remote(world))[ref] == landing


def test_summary_and_page_of_an_index_with_a_later_versions_entry_are_left_to_that_version(world: Shell) -> None:
    _, path = later_folded(world)
    before = tip(world)
    assert cd4ml(world, "restore", "--yes").out.startswith("nothing to restore: ")
    assert tip(world) == before
    assert path in entries(world)


def test_accepting_an_index_lands_no_record_again_that_was_erased_from_it(team: Shell) -> None:
    one, second, _ = erased(team)
    rule(team)
    cd4ml(second, "restore", "--accept", "--yes")
    assert f"refs/cd4ml/landing/{one.id}" not in refs(remote(team))


def test_a_clone_that_is_cut_off_before_the_parent_of_a_waiting_record_drops_nothing(world: Shell) -> None:
    waiting = {ref: one for ref, one in refs(remote(world)).items() if "/landing/" in ref}
    (parent,) = {git(remote(world), "rev-parse", f"{one}^") for one in waiting.values()}
    push(world, "refs/heads/main", commit(world, "main", {"notes.md": "moved on"}))
    shallow = world.at(world.folder.parent / "shallow")
    source = f"file://{remote(world).folder}"
    git(world, "clone", "--quiet", "--depth", "1", "--no-single-branch", source, str(shallow.folder))
    git(shallow, "fetch", "--quiet", "--depth", "1", "origin", "+refs/cd4ml/landing/*:refs/seen/*")
    cd4ml(shallow, "restore", "--yes")
    assert shallow.attempt("git", "cat-file", "-e", parent).returncode != 0, "it is not here"
    assert {ref: one for ref, one in refs(remote(world)).items() if "/landing/" in ref} == waiting


def waiting_ref(shell: Shell) -> tuple[str, str]:
    """The ref and the commit of the one record that has landed and is not folded."""
    ((ref, commit),) = [(ref, one) for ref, one in refs(remote(shell)).items() if "/landing/" in ref]
    return ref, commit


def test_a_push_that_fails_once_does_not_turn_an_acceptance_into_putting_the_old_history_back(world: Shell) -> None:
    known = all_records(world)
    another_history(world)
    theirs = tip(world)
    hook(world, "update", '[ -e hooks/refused ] || { touch hooks/refused; echo "not now" >&2; exit 1; }')
    cd4ml(world, "restore", "--accept", "--yes")
    assert (remote(world).folder / "hooks/refused").exists()
    assert tip(world) == theirs
    assert cd4ml(world, "reconcile").lines == []
    assert git(remote(world), "merge-base", "--is-ancestor", theirs, INDEX) == ""
    assert names(world) >= known


def test_a_waiting_record_that_vanished_lands_again_where_another_history_is_accepted(world: Shell) -> None:
    ref, landing = waiting_ref(world)
    git(remote(world), "update-ref", "-d", ref)
    another_history(world)
    assert ref.rsplit("/", 1)[1] not in names(world)
    cd4ml(world, "restore", "--accept", "--yes")
    assert refs(remote(world))[ref] == landing


def test_what_another_history_took_in_and_no_fold_takes_does_not_land_again(world: Shell) -> None:
    """Its id is one that a record may have, and its content is sealed by nobody."""
    main, record = refs(remote(world))["refs/heads/main"], f"e{'3' * 20}"
    body = encode({"kind": "experiment", "schema": 1, "id": record, "branch": "exp/forged"})
    forged = commit(remote(world), main, {RECORD_PATH: body}, "result\n")
    committed(world, {"notes.md": "x\n"}, parents=(forged,))
    told = cd4ml(world, "restore", "--yes").out
    assert record not in told
    assert f"refs/cd4ml/landing/{record}" not in refs(remote(world))
    assert cd4ml(world, "reconcile").lines == []


@pytest.mark.parametrize("lost", [f":{RECORD_PATH}", "^{tree}"], ids=["record", "tree"])
def test_a_waiting_record_of_which_this_clone_lost_an_object_is_not_taken_for_one_that_no_fold_takes(
    world: Shell, lost: str
) -> None:
    ref, landing = waiting_ref(world)
    missing = git(world, "rev-parse", f"{landing}{lost}")
    place = world.folder / ".git/objects" / missing[:2] / missing[2:]
    place.unlink()
    done = cd4ml(world, "restore", "--yes", code=None)
    assert f"drop    {ref}" not in done.out
    assert refs(remote(world))[ref] == landing
