"""``reproduce --store``: outputs that were let go or lost are there again, with the recorded bytes or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cd4ml.controller.history import reproduce
from cd4ml.controller.history.models import load_model
from cd4ml.controller.landing.landed import read_history
from cd4ml.controller.running.run import Attempt, attempt
from cd4ml.errors import RemoteError
from cd4ml.index.record import RECORD_PATH
from cd4ml.spec.pipeline import MODEL
from tests.conftest import Shell
from tests.controller.controller_world import cd4ml, experiment, git, runs
from tests.controller.keeping_world import (
    cache,
    copies,
    land_removal_of,
    listing,
    make_old,
    md5,
    outputs_in_index,
    plant,
    project_of,
    rule,
    storage,
)

REASON = ("--reason", "Erasure request 12", "--yes")


def dropped(folder: Path, names: set[str]) -> dict[str, bytes]:
    """Remove these objects from a place; gives what it held."""
    held = {name: data for name, data in listing(folder).items() if name in names}
    for name in held:
        (folder / name[:2] / name[2:]).unlink()
    return held


def test_what_a_rule_let_go_is_stored_again_byte_by_byte(team: Shell) -> None:
    experiment(team, "exp/x", seed=3)
    cd4ml(team, "reconcile", "exp/x")
    (run,) = runs(team, "branch = 'exp/x'")
    before = listing(storage(team))
    team.run("git", "push", "--quiet", "origin", "--delete", "exp/x")
    rule(team, "lifecycle = 'discarded'")
    make_old(team)
    freed = {one["md5"] for one in cd4ml(team, "gc", "--apply", "--yes", "--json").json["freed"]}
    assert freed
    assert not freed & set(listing(storage(team)))
    with pytest.raises(RemoteError, match=rf"were let go on .*: cd4ml reproduce {run['id']} --store makes them again"):
        load_model(project_of(team), run["id"])
    (again,) = cd4ml(team, "reproduce", run["id"], "--store", "--json").json["reproductions"]
    assert set(again["stored"]) >= {"artifacts/train/model.skops", "artifacts/predict/predictions.parquet"}
    assert again["withheld"] == []
    for place in (cache(team), storage(team)):
        found = listing(place)
        assert {name: found.get(name) for name in freed} == {name: before[name] for name in freed}
    cd4ml(team, "verify")


def test_what_is_stored_again_is_promised_again_everywhere_until_a_rule_lets_it_go_once_more(team: Shell) -> None:
    experiment(team, "exp/x", seed=3)
    cd4ml(team, "reconcile", "exp/x")
    team.run("git", "push", "--quiet", "origin", "--delete", "exp/x")
    rule(team, "lifecycle = 'discarded'")
    make_old(team)
    freed = {one["md5"] for one in cd4ml(team, "gc", "--apply", "--yes", "--json").json["freed"]}
    (run,) = runs(team, "let_go = 'artefacts'")
    (again,) = cd4ml(team, "reproduce", run["id"], "--store", "--json").json["reproductions"]
    assert again["let_go"] is None
    second = copies(team)
    assert runs(second, "let_go IS NOT NULL") == []
    assert "let go" not in cd4ml(second, "show", run["id"]).out
    dropped(storage(team), freed)
    dropped(cache(team), freed)
    assert {one["where"] for one in cd4ml(team, "verify", "--json", code=1).json["faults"]} == freed
    cd4ml(team, "reproduce", run["id"], "--store")
    make_old(team)
    assert {one["md5"] for one in cd4ml(team, "gc", "--apply", "--yes", "--json").json["freed"]} == freed
    assert [one["id"] for one in runs(second, "let_go = 'artefacts'")] == [run["id"]]
    cd4ml(team, "verify")


def test_an_output_that_is_lost_everywhere_is_made_again_by_the_command_that_repair_names(team: Shell) -> None:
    (main,) = runs(team, "branch = 'main'")
    lost = outputs_in_index(team, main)
    dropped(cache(team), lost)
    held = dropped(storage(team), lost)
    found = cd4ml(team, "verify", "--repair", "--json", code=1).json["faults"]
    cures = {one["cure"] for one in found}
    command = f"`cd4ml reproduce {main['id']} --store`"
    assert any(cure.endswith(f", else {command}") for cure in cures), cures
    told = cd4ml(team, "reproduce", main["id"], "--store")
    assert "stored again: " in told.out
    there = listing(storage(team))
    assert {name: there.get(name) for name in held} == held
    cd4ml(team, "verify")


def test_raw_data_that_are_lost_are_said_to_be_made_by_no_command(team: Shell) -> None:
    raw = {md5(path.read_bytes()) for path in (team.folder / ".git/cd4ml/raw").iterdir()}
    for path in (team.folder / ".git/cd4ml/raw").iterdir():
        path.unlink()
    for place in (cache(team), storage(team)):
        assert dropped(place, raw)
    faults = cd4ml(team, "verify", "--repair", "--json", code=1).json["faults"]
    assert any("Lost for good" in one["message"] for one in faults)
    assert not any("reproduce" in one["cure"] or "made again" in one["message"] for one in faults)


def test_what_one_that_was_killed_left_goes_with_the_next(team: Shell) -> None:
    left = team.folder / ".git/cd4ml/reproduce/environment-0.1.part"
    left.mkdir(parents=True)
    cd4ml(team, "reproduce", "main")
    assert not left.exists()


def test_other_bytes_than_the_recorded_ones_are_not_stored(team: Shell) -> None:
    """The record is one whose outputs were never made by any stage."""
    one = plant(team, "one")
    before = [listing(place) for place in (cache(team), storage(team))]
    told = cd4ml(team, "reproduce", one.id, "--store", code=1)
    assert "not stored, since other bytes came out than the record says: " in told.out
    assert "stored again" not in told.out
    assert [listing(place) for place in (cache(team), storage(team))] == before


def test_what_was_erased_is_not_stored_again(team: Shell) -> None:
    one = plant(team, "one")
    cd4ml(team, "forget", one.id, *REASON, "--keep-data")
    (line,) = cd4ml(team, "reproduce", one.id, "--store", code=2).lines
    assert line.startswith(f"cd4ml: {one.id}: its data, or its model, were erased on ")
    assert line.endswith("what is made of it again is not stored")


def test_a_run_without_a_result_has_nothing_to_store(degraded: Shell) -> None:
    (failed,) = runs(degraded, "branch = 'exp/x' and outcome = 'failed'")
    (line,) = cd4ml(degraded, "reproduce", failed["id"], "--store", code=2).lines
    assert line == f"cd4ml: {failed['id']} failed: it has no outputs that could be stored"


def test_an_erased_run_is_not_run_again_on_a_copy_of_its_data_that_a_clone_has_yet(team: Shell) -> None:
    second = copies(team)
    (main,) = runs(team, "branch = 'main'")
    cd4ml(team, "forget", main["id"], *REASON, "--all-runs-of-data")
    (line,) = cd4ml(second, "reproduce", main["id"], code=2).lines
    assert "these data were erased on " in line


def test_what_is_erased_while_it_is_made_again_is_not_stored(team: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """By another clone: minutes lie between the look at the index and the outputs."""
    second = copies(team)
    (main,) = runs(team, "branch = 'main'")
    outputs = outputs_in_index(team, main)

    def attempted(*arguments: Any, **options: Any) -> Attempt:
        done = attempt(*arguments, **options)
        cd4ml(second, "forget", main["id"], *REASON, "--keep-data")
        return done

    monkeypatch.setattr(reproduce, "attempt", attempted)
    (line,) = cd4ml(team, "reproduce", main["id"], "--store", code=2).lines[-1:]
    assert f"{main['id']}: its data, or its model, were erased on " in line
    assert not outputs & set(listing(storage(team)))


def test_a_tombstone_of_what_is_stored_yet_keeps_nobody_from_storing(team: Shell) -> None:
    """Whoever may land a record may land one."""
    (main,) = runs(team, "branch = 'main'")
    outputs = outputs_in_index(team, main)
    land_removal_of(team, main["id"], outputs, "run")
    lost = next(name for name in sorted(outputs) if name != model_of(team, main))
    held = dropped(storage(team), {lost}) | dropped(cache(team), {lost})
    assert "stored again: " in cd4ml(team, "reproduce", main["id"], "--store").out
    assert listing(storage(team))[lost] == held[lost]
    project = project_of(team)
    history = read_history(project, project.repository.fetch(project.remote))
    assert [one.removal.what for one in history.removals] == ["run"], "nothing takes that back"


def test_what_a_rule_lets_go_while_it_is_made_again_is_promised_again(
    team: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    (main,) = runs(team, "branch = 'main'")

    def attempted(*arguments: Any, **options: Any) -> Attempt:
        done = attempt(*arguments, **options)
        land_removal_of(team, main["id"], outputs_in_index(team, main), "artefacts")
        return done

    monkeypatch.setattr(reproduce, "attempt", attempted)
    cd4ml(team, "reproduce", main["id"], "--store")
    assert runs(team, "let_go IS NOT NULL") == []


def test_what_a_run_shares_with_an_erased_one_is_stored_again_with_it(team: Shell) -> None:
    """A draft and a run that was let go have tables in common with it; neither was erased."""
    (main,) = runs(team, "branch = 'main'")
    cd4ml(team, "new", "mine", "model.parameters.alpha=7")
    cd4ml(team, "reconcile", "exp/mine")
    cd4ml(copies(team), "forget", main["id"], *REASON, "--keep-data")
    team.run("git", "push", "--quiet", "origin", "exp/mine")
    assert "does not land" not in cd4ml(team, "reconcile", "exp/mine").err
    (mine,) = runs(team, "branch = 'exp/mine'")
    assert outputs_in_index(team, mine) <= set(listing(storage(team)))


def model_of(team: Shell, run: dict[str, Any]) -> str:
    record = json.loads(git(team, "show", f"{run['result_commit']}:{RECORD_PATH}"))
    return str(record["files"][MODEL]["md5"])
