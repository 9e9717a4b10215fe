"""``cd4ml gc``: what is needed stays, what a rule of main lets go goes, the record of it first."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from cd4ml.controller.care import inventory
from cd4ml.controller.care.inventory import stored_objects
from cd4ml.controller.care.keep import PLACES, Options, collect, delete, plan_collection
from cd4ml.controller.landing.land import land_removal
from cd4ml.controller.landing.removals import removal
from cd4ml.controller.project import Project
from cd4ml.controller.reconciling.claims import Claims
from cd4ml.errors import IntegrityError
from cd4ml.gateways.git import INDEX_BRANCH, LANDING, keeping, open_repository
from tests.conftest import Shell
from tests.controller.controller_world import (
    BASELINE,
    OTHER_SEED,
    cd4ml,
    commit,
    experiment,
    git,
    push,
    refs,
    remote,
    runs,
)
from tests.controller.keeping_world import (
    OLD,
    cache,
    land_removal_of,
    listing,
    make_old,
    md5,
    outputs_in_index,
    outputs_of,
    plant,
    project_of,
    put,
    rule,
    storage,
)
from tests.index.index_world import fingerprint

DISCARDED = "lifecycle = 'discarded'"


def shown(team: Shell, *options: str) -> dict[str, Any]:
    return cd4ml(team, "gc", *options, "--yes", "--json").json


def test_nothing_is_freed_unasked_where_nobody_can_be_asked(team: Shell) -> None:
    stranger = put(team, b"nobody names it")
    for options in ((), ("--json",)):
        done = cd4ml(team, "gc", "--all-unknown", "--apply", *options, code=2)
        assert done.lines == ["cd4ml: nothing was freed: there is no terminal to ask on, so say --yes"]
    assert stranger in listing(cache(team))
    cd4ml(team, "gc", "--all-unknown", "--apply", "--yes")
    assert stranger not in listing(cache(team))


def objects(found: dict[str, Any], part: str = "objects") -> set[tuple[str, str]]:
    return {(one["where"], one["md5"]) for one in found[part]}


def snapshot(team: Shell) -> tuple[Any, ...]:
    ours = {name: commit for name, commit in refs(team).items() if not name.startswith("refs/cd4ml/")}
    return ours, refs(remote(team)), listing(cache(team)), listing(storage(team))


def test_a_record_that_no_fold_would_take_does_not_leave_this_clone(team: Shell) -> None:
    project, before = project_of(team), refs(remote(team))
    body = removal(project, git(team, "rev-parse", "main"), f"r{'0' * 20}", "artefacts", {}, "two\nlines")
    with pytest.raises(IntegrityError, match="reason"):
        land_removal(project, body)
    assert refs(remote(team)) == before


def test_gc_shows_first_and_then_frees_exactly_what_it_showed(team: Shell) -> None:
    """And nothing that a kept run, an open branch's run or a pin needs; a second one has nothing to do."""
    one = plant(team, "one", table="shared", fold=False)
    two = plant(team, "two", table="shared", fold=False)
    young = plant(team, "young", age=0)
    push(team, f"refs/heads/{two.branch}", two.commit)
    stranger = put(team, b"of another project")
    rule(team, "outcome = 'succeeded'", branch="exp/rules")
    assert shown(team)["let_go"] == [], "a rule counts on the base branch alone"
    rule(team, DISCARDED)
    before = snapshot(team)
    plan = shown(team)
    assert snapshot(team) == before, "nothing was to be changed"
    assert {one_["run"] for one_ in plan["let_go"]} == {one.id, young.id}
    alone = {md5(data) for data in outputs_of("one").values()} & one.objects - two.objects
    assert objects(plan) == {(where, name) for where in ("local", "remote") for name in alone}
    assert plan["young"]["objects"] == 2 * len(young.objects)
    done = shown(team, "--apply")
    assert objects(done, "freed") == objects(plan)
    for place, old in ((cache(team), before[2]), (storage(team), before[3])):
        assert listing(place) == {name: data for name, data in old.items() if name not in alone}
        assert stranger in listing(place)
    assert set(done["recorded"]) == {one.id, young.id}
    assert {run["id"] for run in runs(team, "let_go = 'artefacts'")} == {one.id, young.id}
    told = " ".join(cd4ml(team, "show", one.id).out.split())
    assert f"rule {DISCARDED}" in told
    assert "Test <test@localhost>" in told
    again = shown(team, "--apply")
    assert (again["let_go"], again["objects"], again["recorded"]) == ([], [], {})


def test_a_release_and_what_a_branch_asks_for_outlive_every_rule(team: Shell) -> None:
    released, other = plant(team, "released", fold=False), plant(team, "other")
    team.run("git", "tag", "-a", "-m", "A release", "model@v1", released.result_commit)
    team.run("git", "push", "--quiet", "origin", "model@v1")
    team.run("git", "tag", "-d", "model@v1")
    rule(team, "outcome = 'succeeded'")
    assert [one["run"] for one in shown(team)["let_go"]] == [other.id], "main's own run answers what main asks for"


def test_a_release_is_shown_by_its_tag(team: Shell) -> None:
    one = plant(team, "one")
    team.run("git", "tag", "-a", "-m", "A release", "delays@v1.0.0", one.result_commit)
    assert cd4ml(team, "show", "delays@v1.0.0", "--json").json["runs"][0]["id"] == one.id
    assert "no run is named 'delays@v1.0.1'" in cd4ml(team, "show", "delays@v1.0.1", code=2).err


def test_a_cache_that_was_changed_lets_nothing_go(team: Shell) -> None:
    """Which rows match is looked up there; what goes is judged by the records."""
    one = plant(team, "one")
    rule(team, "metrics.validation.rmse < -1 and lifecycle = 'discarded'")
    assert shown(team)["let_go"] == []
    (file,) = (team.folder / ".git/cd4ml/query").glob("*.sqlite")
    with contextlib.closing(sqlite3.connect(file)) as database, database:
        database.execute("UPDATE own SET value = -2 WHERE value > 0")
    assert one.id in {row["id"] for row in runs(team, "metrics.validation.rmse < -1")}, "the change is seen"
    assert shown(team)["let_go"] == []


@pytest.mark.parametrize("at_once", [1, 2000])
def test_what_rules_let_go_does_not_depend_on_how_many_runs_are_judged_together(
    team: Shell, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(inventory, "_JUDGED_AT_ONCE", at_once)
    planted = [plant(team, name, fold=name == "c") for name in "abc"]
    rule(team, DISCARDED)
    found = inventory.take_inventory(project_of(team))
    assert {one.run for one in found.inventory.holdings if one.goes} == {one.id for one in planted}
    assert [run.id for run in found.runs] == [one.run.id for one in found.history.runs]


@pytest.mark.parametrize("point", ["gc.recorded", "gc.freed"])
def test_a_collection_that_was_killed_is_finished_by_the_next(team: Shell, point: str) -> None:
    one = plant(team, "one")
    rule(team, DISCARDED)
    before = {("local", name) for name in listing(cache(team))} | {("remote", name) for name in listing(storage(team))}
    assert team.attempt("cd4ml", "gc", "--apply", "--yes", CD4ML_CRASH_AT=point).returncode == -9
    assert [run["id"] for run in runs(team, "let_go = 'artefacts'")] == [one.id], "the index promises nothing that goes"
    assert shown(team, "--apply")["recorded"] == {}
    after = {("local", name) for name in listing(cache(team))} | {("remote", name) for name in listing(storage(team))}
    assert before - after == {(where, name) for where in ("local", "remote") for name in one.objects}


def test_no_byte_goes_before_the_index_itself_says_so(team: Shell) -> None:
    """Whoever was killed had landed the record, and not folded it: the next one folds it before it deletes."""
    plant(team, "one")
    rule(team, DISCARDED)
    assert team.attempt("cd4ml", "gc", "--apply", "--yes", CD4ML_CRASH_AT="land.pushed").returncode == -9
    assert [ref for ref in refs(remote(team)) if ref.startswith(f"{LANDING}x")] != []
    assert team.attempt("cd4ml", "gc", "--apply", "--yes", CD4ML_CRASH_AT="gc.recorded").returncode == -9
    assert [ref for ref in refs(remote(team)) if ref.startswith(f"{LANDING}x")] == []
    assert "removals/" in git(remote(team), "ls-tree", "-r", "--name-only", INDEX_BRANCH)


def test_where_the_index_takes_no_fold_nothing_goes(team: Shell) -> None:
    """As for somebody who may not push that branch: the record lands, and the index does not say it."""
    plant(team, "one")
    rule(team, DISCARDED)
    before = listing(storage(team)), listing(cache(team))
    hook = team.folder.parent / "remote.git/hooks/update"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f'#!/bin/sh\ntest "$1" != refs/heads/{INDEX_BRANCH}\n', "utf-8")
    hook.chmod(0o755)
    done = cd4ml(team, "gc", "--apply", "--yes", code=1)
    assert "so nothing follows from it" in done.err
    assert (listing(storage(team)), listing(cache(team))) == before
    hook.unlink()
    cd4ml(team, "gc", "--apply", "--yes")
    assert (listing(storage(team)), listing(cache(team))) != before


def test_a_run_that_lands_meanwhile_keeps_what_it_needs(team: Shell) -> None:
    """Between showing and deleting; and what is already gone from the remote is put back from the cache."""
    one = plant(team, "one")
    rule(team, DISCARDED)
    project, options = project_of(team), Options()
    look = plan_collection(project, options)
    assert {freed.stored.md5 for freed in look.sweep.free} == one.objects
    late = plant(team, "late", outputs={**outputs_of("late"), **dict(list(one.outputs.items())[:1])}, fold=False)
    push(team, f"refs/heads/{late.branch}", late.commit)
    (shared,) = one.objects & late.objects
    freed, restored = delete(project, look.found.storage, look.sweep.free)
    assert restored == (shared,)
    assert {gone.stored.md5 for gone in freed} == one.objects - {shared}
    assert shared in listing(storage(team))
    assert shared in listing(cache(team))
    done = collect(project, look, options)
    assert set(done.recorded) == {one.id}
    assert done.freed == ()
    left = {stored.md5 for stored in stored_objects(look.found.storage, PLACES) if stored.where == "remote"}
    assert late.objects <= left


def test_objects_that_no_record_names_go_only_when_asked_for(team: Shell) -> None:
    """Not what DVC tracks in any commit, nor what is young, no object, or behind a link; and only in that place."""
    old, young = put(team, b"left by a failed run"), put(team, b"just stored", age=0)
    tracked = put(team, b"tracked by DVC, on a branch, once")
    made = commit(team, "main", {"big.bin.dvc": f"outs:\n- md5: {tracked}\n  path: big.bin\n"})
    push(team, "refs/heads/somebody", commit(team, made, {"big.bin.dvc": None}))
    outside = team.folder.parent / "outside"
    outside.write_bytes(b"not an object")
    for place in (cache(team), storage(team)):
        (place / "ab").mkdir(exist_ok=True)
        link = next(place / f"{number:02x}" for number in range(256) if not (place / f"{number:02x}").exists())
        link.symlink_to(place / "ab", target_is_directory=True)
        (place / "ab" / ("c" * 30)).symlink_to(outside)
        (place / "ab" / "notes.txt").write_text("mine", "utf-8")
        os.utime(place / "ab" / "notes.txt", (time.time() - OLD,) * 2)
    before = listing(cache(team)), listing(storage(team))
    assert shown(team, "--apply")["freed"] == []
    assert objects(shown(team, "--remote", "--all-unknown", "--apply"), "freed") == {("remote", old)}
    assert listing(cache(team)) == before[0]
    assert listing(storage(team)) == {name: data for name, data in before[1].items() if name != old}
    assert {young, tracked} <= set(before[1])
    assert outside.read_bytes() == b"not an object"


@pytest.mark.parametrize("in_its_place", [False, True])
def test_a_remote_whose_folder_is_not_there_is_told_as_that_and_not_as_one_with_nothing_to_free(
    team: Shell, in_its_place: bool
) -> None:
    away = storage(team).parents[1].rename(storage(team).parents[1].with_name("away"))
    if in_its_place:
        storage(team).parents[1].write_text("no folder", "utf-8")
    before = listing(cache(team))
    for options in ((), ("--remote", "--all-unknown", "--apply", "--yes")):
        (line,) = cd4ml(team, "gc", *options, code=1).lines
        assert line.startswith("cd4ml: DVC remote ")
    assert listing(cache(team)) == before
    assert "freed" not in cd4ml(team, "gc", "--local").err
    assert away.is_dir()


def test_a_broken_rule_is_a_line_that_names_file_and_key(team: Shell) -> None:
    rule(team, "lifecycle = discarded")
    done = cd4ml(team, "gc", code=2)
    (line,) = done.lines
    assert line.startswith("cd4ml: conf/config.yaml: index.let_go.0: filter, character 13: ")
    assert git(team, "rev-parse", "main") == refs(remote(team))["refs/heads/main"]


def test_storing_what_is_there_since_long_makes_it_young(team: Shell, tmp_path: Path) -> None:
    """So that a run which counts on an old object and has not landed yet cannot lose it."""
    from cd4ml.gateways.files import digest_file

    name = put(team, b"an old model")
    project = project_of(team)
    places = project.storage(git(team, "rev-parse", "main"))
    source = tmp_path / "model"
    source.write_bytes(b"an old model")
    with places.open_remote() as remote_:
        remote_.store(source, digest_file(source))
        (stored,) = (one for one in remote_.list() if one.md5 == name)
    assert stored.modified is not None
    assert time.time() - stored.modified < OLD / 2


def left(team: Shell) -> set[str]:
    """The objects that lie in both places."""
    return {*listing(cache(team))} & {*listing(storage(team))}


def test_what_a_release_or_the_rules_say_since_it_was_shown_counts(team: Shell) -> None:
    """Neither a record nor a deletion follows from what was true when it was shown."""
    released, other = plant(team, "released", fold=False), plant(team, "other")
    rule(team, DISCARDED)
    project, options = project_of(team), Options()
    look = plan_collection(project, options)
    assert {one.run for one in look.sweep.let_go} == {released.id, other.id}
    push(team, "refs/tags/model@v1", released.result_commit)
    rule(team, f"{DISCARDED} and branch = 'exp/released'")
    done = collect(project, look, options)
    assert (done.recorded, done.freed) == ({}, ())
    assert released.objects | other.objects <= left(team)


@pytest.mark.parametrize("what", ["artefacts", "run"])
def test_a_removal_that_somebody_landed_of_a_live_result_takes_nothing_along(team: Shell, what: str) -> None:
    (main,) = runs(team, "branch = 'main'")
    objects_ = outputs_in_index(team, main)
    make_old(team)
    raw = {name for name in listing(storage(team)) if name not in objects_}
    land_removal_of(team, main["id"], objects_ | raw, what)
    assert shown(team, "--apply")["freed"] == []
    assert [run["id"] for run in runs(team, f"let_go = '{what}'")] == [main["id"]], "the record is in the index"
    assert shown(team, "--apply")["freed"] == []
    assert objects_ | raw <= {*listing(storage(team))}


def test_an_erasure_that_somebody_else_recorded_is_named_and_leaves_what_is_young(team: Shell) -> None:
    old, young = plant(team, "old", fold=False), plant(team, "young", age=0)
    for one in (old, young):
        land_removal_of(team, one.id, one.objects, "run")
    cd4ml(team, "reconcile", "main")
    found = shown(team)
    assert {one["md5"] for one in found["objects"]} == old.objects
    (why,) = {one["why"] for one in found["objects"]}
    assert why.startswith("erased, says record x")
    assert why.endswith("by Test <test@localhost>")


def test_a_run_that_answers_a_branch_though_its_environment_is_older_is_needed(team: Shell) -> None:
    experiment(team, "exp/x", seed=3)
    cd4ml(team, "reconcile", "exp/x")
    (run,) = runs(team, "branch = 'exp/x'")
    team.run("git", "push", "--quiet", "origin", "--delete", "exp/x")
    rule(team, DISCARDED)
    lock = git(team, "show", "main:requirements.lock") + "\n"
    newer = {"requirements.lock": lock.replace("joblib==", "joblib==9."), BASELINE: OTHER_SEED.format(seed=3)}
    cd4ml(team, "reconcile")
    assert [one["run"] for one in shown(team)["let_go"]] == [run["id"]]
    push(team, "refs/heads/exp/newer", commit(team, "main", newer))
    assert shown(team)["let_go"] == []


@pytest.mark.parametrize("few", [0, 1000], ids=["as kept", "as listed"])
def test_what_a_dvc_file_tracks_stays_though_an_equal_file_lies_elsewhere(
    team: Shell, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    """Git names an object once, by the first path that it has."""
    monkeypatch.setattr(keeping, "_FEW_TREES", few)
    tracked = put(team, b"tracked by DVC")
    text = f"outs:\n- md5: {tracked}\n  path: z\n"
    push(team, "refs/heads/somebody", commit(team, "main", {"a/z.dvc.bak": text, "z.dvc": text}))
    assert shown(team, "--all-unknown")["objects"] == []


def test_a_shallow_clone_collects_nothing(team: Shell) -> None:
    """It cannot know what earlier commits pin."""
    folder = team.folder.parent / "shallow"
    team.run("git", "clone", "--quiet", "--depth", "1", f"file://{remote(team).folder}", str(folder))
    assert "git fetch --unshallow" in cd4ml(team.at(folder), "gc", code=2).err


def test_what_no_record_names_stays_on_the_remote_while_a_run_is_in_progress_elsewhere(team: Shell) -> None:
    """The run may have found there what its record will name."""
    name = put(team, b"left by a failed run, and found by one that goes on")
    team.at(team.folder.parent).run("git", "clone", "--quiet", "remote.git", "other")
    other = Project(open_repository(team.folder.parent / "other"), "origin", "main")
    with Claims(other) as claims:
        assert claims.take(fingerprint("elsewhere"), "exp/x", other.repository.fetch("origin"))
        done = cd4ml(team, "gc", "--all-unknown", "--apply", "--yes")
    other.repository.close()
    assert name in listing(storage(team))
    told = "1 runs are in progress elsewhere: objects on the DVC remote wait for them; run it again"
    assert done.lines == [f"cd4ml: {told}"]
