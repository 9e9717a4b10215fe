"""What keeps an object from ``cd4ml gc``: each place that pins it, each reason for which a run is needed."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cd4ml.controller.care.inventory import note_erased
from cd4ml.controller.care.keep import Options, delete, plan_collection
from cd4ml.controller.landing.fold import fold_landed
from cd4ml.controller.running.run import WORK_LOCK
from cd4ml.gateways.files import exclusive
from cd4ml.index.record import seal
from tests.conftest import Shell
from tests.controller.controller_world import cd4ml, commit, git, push, remote, runs
from tests.controller.keeping_world import (
    Planted,
    cache,
    land,
    land_removal_of,
    listing,
    md5,
    plant,
    project_of,
    put,
    rule,
    storage,
)
from tests.index.index_world import experiment_body

ALL = "outcome = 'succeeded'"


def going(team: Shell, *options: str) -> dict[str, Any]:
    return cd4ml(team, "gc", *options, "--json").json


def free(team: Shell, *options: str) -> set[str]:
    return {one["md5"] for one in going(team, *options)["objects"]}


def let_go(team: Shell) -> set[str]:
    return {one["run"] for one in going(team)["let_go"]}


def fold(team: Shell) -> None:
    project = project_of(team)
    assert fold_landed(project, project.repository.fetch(project.remote)) == ()


# ── what pins an object ──


def tracking(name: str) -> str:
    return f"outs:\n- md5: {name}\n  path: big.bin\n"


def in_the_work_tree(team: Shell, name: str) -> None:
    (team.folder / "big.bin.dvc").write_text(tracking(name), "utf-8")


def in_the_stash(team: Shell, name: str) -> None:
    in_the_work_tree(team, name)
    team.run("git", "add", "big.bin.dvc")
    team.run("git", "stash", "--quiet")
    assert not (team.folder / "big.bin.dvc").exists()


def on_a_branch_that_is_not_pushed(team: Shell, name: str) -> None:
    team.run("git", "branch", "mine", commit(team, "main", {"big.bin.dvc": tracking(name)}))


def in_the_past_of_a_branch_that_is_not_pushed(team: Shell, name: str) -> None:
    made = commit(team, "main", {"big.bin.dvc": tracking(name)})
    team.run("git", "branch", "mine", commit(team, made, {"big.bin.dvc": None}))


def on_a_tag(team: Shell, name: str) -> None:
    team.run("git", "tag", "-a", "-m", "x", "kept", commit(team, "main", {"big.bin.dvc": tracking(name)}))


def on_a_head_that_nobody_has_recorded_and_that_is_gone(team: Shell, name: str) -> None:
    push(team, "refs/heads/exp/gone", commit(team, "main", {"big.bin.dvc": tracking(name)}))
    project = project_of(team)
    project.repository.fetch(project.remote)
    git(remote(team), "update-ref", "-d", "refs/heads/exp/gone")


def where_head_is_on_no_branch(team: Shell, name: str) -> None:
    team.run("git", "checkout", "--quiet", "--detach", commit(team, "main", {"big.bin.dvc": tracking(name)}))


def in_the_lock_of_a_branch(team: Shell, name: str) -> None:
    made = commit(team, "main", {"dvc.lock": f"schema: '2.0'\nstages:\n  x:\n    outs:\n    - md5: {name}\n"})
    push(team, "refs/heads/somebody", made)


PINNED: tuple[Callable[[Shell, str], None], ...] = (
    in_the_work_tree,
    in_the_stash,
    on_a_branch_that_is_not_pushed,
    in_the_past_of_a_branch_that_is_not_pushed,
    on_a_tag,
    on_a_head_that_nobody_has_recorded_and_that_is_gone,
    where_head_is_on_no_branch,
    in_the_lock_of_a_branch,
)


@pytest.mark.parametrize("pin", PINNED, ids=lambda pin: pin.__name__)
def test_an_object_stays_that_is_tracked(team: Shell, pin: Callable[[Shell, str], None]) -> None:
    name = put(team, b"tracked by DVC")
    assert free(team, "--all-unknown") == {name}
    pin(team, name)
    assert free(team, "--all-unknown") == set()


def test_what_a_tracked_folder_lists_stays_though_the_folder_lies_on_the_remote_alone(team: Shell) -> None:
    inner, stranger = put(team, b"a file of the folder"), put(team, b"of nobody")
    listed = json.dumps([{"md5": inner, "relpath": "a"}]).encode()
    folder = put(team, listed, ending=".dir")
    (cache(team) / folder[:2] / folder[2:]).unlink()
    push(team, "refs/heads/somebody", commit(team, "main", {"data.dvc": tracking(folder)}))
    assert free(team, "--all-unknown") == {stranger}


# ── who needs a run ──


def asked_by(team: Shell, one: Planted) -> None:
    """An experiment record that says: this run answered its branch at its commit."""
    body = {**experiment_body(one.branch), "commit": one.commit, "answer": {"head": one.id, "merge": None}}
    land(team, seal({key: value for key, value in body.items() if key not in ("id", "schema")}))
    fold(team)


def test_the_run_that_answered_a_branch_last_stays_as_long_as_there_is_the_branch_here_or_there(team: Shell) -> None:
    here, there, nowhere = (plant(team, name) for name in ("here", "there", "nowhere"))
    for one in (here, there, nowhere):
        asked_by(team, one)
    team.run("git", "branch", here.branch, here.commit)
    push(team, f"refs/heads/{there.branch}", there.commit)
    rule(team, ALL)
    assert let_go(team) == {nowhere.id}


def test_a_run_that_is_kept_in_this_clone_alone_stays(team: Shell) -> None:
    one = plant(team, "one", fold=False)
    project = project_of(team)
    project.repository.keep_draft(one.id, one.result_commit)
    git(remote(team), "update-ref", "-d", f"refs/cd4ml/landing/{one.id}")
    rule(team, ALL)
    assert let_go(team) == set()
    project.repository.drop_draft(one.id)
    assert one.objects <= free(team, "--all-unknown"), "without the draft nothing names them"


def test_the_runs_of_a_branch_that_cannot_be_read_stay(team: Shell) -> None:
    """Nobody knows what it asks for."""
    one = plant(team, "one")
    push(team, f"refs/heads/{one.branch}", commit(team, one.commit, {"conf/model/own.yaml": "x: a file of its own\n"}))
    project = project_of(team)
    blob = git(team, "rev-parse", f"{project.repository.fetch('origin').heads[one.branch]}:conf/model/own.yaml")
    rule(team, ALL)
    path = team.folder / ".git/objects" / blob[:2] / blob[2:]
    path.chmod(0o644)
    path.unlink()
    assert let_go(team) == set()


# ── what was erased ──


def test_a_note_of_an_erasure_that_was_never_recorded_frees_nothing(team: Shell) -> None:
    """Whoever was killed in between had erased nothing yet."""
    one = plant(team, "one")
    note_erased(project_of(team), [one.id], one.objects)
    assert free(team) == set()


def test_of_a_run_that_was_let_go_and_then_erased_the_erasure_counts(team: Shell) -> None:
    one = plant(team, "one")
    for what in ("artefacts", "run"):
        land_removal_of(team, one.id, one.objects, what)
        fold(team)
    assert free(team) == one.objects


def raw_copy(team: Shell, sha256: str) -> Path:
    path = team.folder / ".git/cd4ml/raw" / sha256
    path.write_bytes(b"a copy of raw data")
    return path


def told_erased(team: Shell, run: str, name: str, sha256: str) -> None:
    """A tombstone that somebody landed, with one object."""
    told = {"reason": "x", "by": "Eve", "at": "2026-11-03T10:00:00Z", "rule": "", "what": "run"}
    held = [{"md5": name, "bytes": 1, "sha256": sha256}]
    land(team, seal({"kind": "removal", "run": run, "commit": git(team, "rev-parse", "main"), "objects": held, **told}))
    fold(team)


def test_a_copy_of_raw_data_goes_with_what_was_erased_elsewhere_and_not_where_it_is_needed(team: Shell) -> None:
    (main,) = runs(team, "branch = 'main'")
    gone, needed, pinned = plant(team, "gone"), main["id"], put(team, b"raw data that a head pins")
    push(team, "refs/heads/somebody", commit(team, "main", {"data.dvc": tracking(pinned)}))
    in_use = next((team.folder / ".git/cd4ml/raw").iterdir())
    copies = [*(raw_copy(team, letter * 64) for letter in "abc"), in_use]
    told_erased(team, gone.id, md5(b"raw data of one"), "a" * 64)
    told_erased(team, needed, md5(b"raw data of main"), "b" * 64)
    told_erased(team, plant(team, "other").id, pinned, "c" * 64)
    told_erased(team, plant(team, "another").id, md5(b"no object of anybody"), in_use.name)
    cd4ml(team, "gc", "--apply", "--yes")
    assert [copy.exists() for copy in copies] == [False, True, True, True], "who told it paired name and digest at will"


def test_no_record_that_somebody_landed_names_a_file_that_is_none_of_ours(team: Shell) -> None:
    """What a tombstone calls a digest becomes the name of a file that goes, in ``gc`` and in ``forget``."""
    mine = [team.folder.parent / name for name in ("absolute.txt", "relative.txt", "project/conf/config.yaml")]
    mine[0].write_text("mine", "utf-8")
    mine[1].write_text("mine", "utf-8")
    run = "r" + "0" * 20
    for name in (str(mine[0]), "../../../../relative.txt", "../../../conf/config.yaml"):
        told_erased(team, run, md5(name.encode()), name)
    cd4ml(team, "gc", "--apply", "--yes")
    cd4ml(team, "forget", run, "--reason", "Erasure request 12", "--yes")
    assert [path.is_file() for path in mine] == [True, True, True]


# ── deleting ──


def test_damaged_bytes_are_not_put_back_on_the_remote(team: Shell) -> None:
    one = plant(team, "one")
    rule(team, "lifecycle = 'discarded'")
    project = project_of(team)
    look = plan_collection(project, Options())
    (name,) = list(one.objects)[:1]
    push(team, "refs/heads/somebody", commit(team, "main", {"data.dvc": tracking(name)}))
    path = cache(team) / name[:2] / name[2:]
    path.chmod(0o644)
    path.write_bytes(b"rotten")
    _, restored = delete(project, look.found.storage, look.sweep.free)
    assert restored == ()
    assert name not in listing(storage(team))


def test_nothing_goes_while_something_runs_in_this_clone(team: Shell) -> None:
    """What it has stored no record names yet."""
    stranger = put(team, b"of nobody, or of the run")
    done = threading.Event()

    def collects() -> None:
        team.attempt("cd4ml", "gc", "--all-unknown", "--apply", "--yes")
        done.set()

    with exclusive(project_of(team).private / WORK_LOCK):
        thread = threading.Thread(target=collects)
        thread.start()
        assert not done.wait(4), "it waits"
        assert stranger in listing(cache(team))
        os.utime(cache(team) / stranger[:2] / stranger[2:], (time.time(),) * 2)
    thread.join()
    assert stranger in listing(cache(team)), "and then looks again"
