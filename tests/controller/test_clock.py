"""Clocks that lie: what came first, and what a record is called, do not follow from them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from tests.conftest import Shell
from tests.controller.controller_world import cd4ml, experiments, rejected, runs
from tests.controller.index_attacks import plain_clone

YEARS = timedelta(days=3650)


@contextlib.contextmanager
def turned_back(clock: time_machine.Traveller) -> Iterator[None]:
    """Ten minutes back, every tenth of a second."""
    done = threading.Event()

    def turn() -> None:
        while not done.wait(0.1):
            clock.shift(-600.0)

    turning = threading.Thread(target=turn)
    turning.start()
    try:
        yield
    finally:
        done.set()
        turning.join()


def test_what_came_first_is_told_by_folds_where_the_clocks_of_machines_are_twenty_years_apart(team: Shell) -> None:
    shifts = {"ahead": YEARS, "behind": -YEARS, "right": timedelta()}
    for number, (name, shift) in enumerate(shifts.items()):
        rejected(team, f"exp/{name}", seed=80 + number)
        with time_machine.travel(datetime.now(UTC) + shift):
            cd4ml(plain_clone(team, name), "reconcile", f"exp/{name}", code=1)
    found = [run for run in runs(team) if run["branch"] in {f"exp/{name}" for name in shifts}]
    assert [run["branch"] for run in found] == [f"exp/{name}" for name in shifts]
    assert len({run["id"] for run in found}) == 3
    started = [datetime.fromisoformat(run["started"]) for run in found]
    assert started[1] + YEARS < started[2] < started[0] - YEARS + timedelta(days=1)
    cd4ml(team, "verify")
    assert {item["sync"] for item in experiments(team).values()} == {"Synced"}


def test_a_clock_that_is_turned_back_again_and_again_during_a_run_leaves_one_sound_record_that_answers(
    team: Shell,
) -> None:
    rejected(team, "exp/jump", seed=90)
    with time_machine.travel(datetime.now(UTC)) as clock, turned_back(clock):
        cd4ml(team, "reconcile", "exp/jump", code=1)
    (run,) = runs(team, "branch = 'exp/jump'")
    assert run["finished"] < run["started"]
    assert all(0 < seconds < 600 for seconds in run["cost"].values() if isinstance(seconds, float))
    cd4ml(team, "verify")
    cd4ml(team, "reconcile")
    assert [one["id"] for one in runs(team, "branch = 'exp/jump'")] == [run["id"]]


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "America/St_Johns"])
def test_instants_are_in_utc_whatever_the_zone_of_the_machine(team: Shell, zone: str) -> None:
    rejected(team, "exp/zone", seed=91)
    Shell(team.folder, {**team.environment, "TZ": zone}).run("cd4ml", "reconcile", "exp/zone", code=1)
    (run,) = runs(team, "branch = 'exp/zone'")
    assert run["started"].endswith("Z")
    assert timedelta() <= datetime.now(UTC) - datetime.fromisoformat(run["started"]) < timedelta(minutes=10)
