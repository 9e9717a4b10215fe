"""Many writers on one remote, as real processes: killed, suspended and woken, they lose nothing and agree on all.

``benchmarks/many_writers.py`` does the same on a larger scale.
"""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from cd4ml.gateways.process import CRASH_POINTS
from tests.controller.writers_world import World

OF_WRITERS = ("claim.taken", "claim.dropped", "land.committed", "land.pushed", "fold.committed", "fold.pushed")
"""The crash points of whoever lands and folds; ``test_crash`` comes to those of a run, too."""


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.make(tmp_path)


def ids(records: list[dict[str, Any]]) -> set[str]:
    return {str(record["id"]) for record in records}


def result(world: World, fingerprint: str) -> str:
    """The id of the result of a fingerprint; there must be one."""
    found = world.history().result(fingerprint)
    assert found is not None
    return found.run.id


def test_writers_of_distinct_runs_land_each_record_exactly_once_while_others_fold_and_read(world: World) -> None:
    records = [world.record(f"distinct {number}") for number in range(32)]
    writers = [world.worker("land", [record]) for record in records]
    at_work = world.start([world.worker("folding"), world.worker("folding"), world.worker("reading"), *writers])
    deadline = time.monotonic() + 300
    while len(world.lines("end")) < len(writers) and time.monotonic() < deadline:
        time.sleep(0.1)
    world.stop.touch()
    assert set(at_work.end()) == {0}
    assert world.lines("vanished") == []
    assert [words for words in world.lines("done") if words[1] == "read"]
    assert sorted(words[2] for words in world.lines("done") if words[1] == "land") == sorted(ids(records))
    assert world.run([world.worker("fold")]) == [0]
    world.assert_sound(ids(records))


def test_writers_of_one_fingerprint_leave_one_result_that_later_folds_do_not_move(world: World) -> None:
    records = [world.record("same", number) for number in range(17)]
    *early, late = records
    fingerprint = late["fingerprint"]
    workers = [world.worker("land", [record], folds=int(number < 4)) for number, record in enumerate(early)]
    assert set(world.run(workers)) == {0}
    assert world.run([world.worker("fold")]) == [0]
    first = result(world, fingerprint)
    assert first in ids(early)
    assert world.run([world.worker("land", [late], folds=1)]) == [0]
    assert result(world, fingerprint) == first
    world.assert_sound(ids(records))


def test_a_writer_that_wakes_after_its_place_was_taken_adds_a_replicate_and_moves_nothing(world: World) -> None:
    mine, theirs = world.record("zombie", 1), world.record("zombie", 2)
    at_work = world.start([world.worker("land", [mine], folds=1, environment={"CD4ML_STOP_AT": "land.committed"})])
    assert world.run([world.worker("land", [theirs], folds=1)]) == [0]
    assert result(world, mine["fingerprint"]) == theirs["id"]
    at_work.wake(0)
    assert at_work.end() == [0]
    assert result(world, mine["fingerprint"]) == theirs["id"]
    world.assert_sound(ids([mine, theirs]))


def test_a_record_that_is_landed_again_after_it_was_folded_stays_one_record(world: World) -> None:
    record = world.record("again")
    clone = world.clone()
    for _ in range(2):
        assert world.run([world.worker("land", [record], folds=1, clone=clone)]) == [0]
    assert world.run([world.worker("land", [record], folds=1)]) == [0]
    world.assert_sound(ids([record]))


@pytest.mark.parametrize("seed", [1])
def test_whatever_is_killed_or_suspended_no_record_is_lost_and_the_next_reconcile_converges(
    world: World, seed: int
) -> None:
    assert set(OF_WRITERS) <= set(CRASH_POINTS)
    chance = random.Random(seed)  # noqa: S311  # the same each time
    at_points = [{name: point} for point in OF_WRITERS for name in ("CD4ML_CRASH_AT", "CD4ML_STOP_AT")]
    records = [world.record(f"chaos {number}", number) for number in range(16)]
    specs = [
        world.worker("reconcile", chance.sample(records, 3), environment={"CD4ML_CLAIM_SECONDS": "0.2", **environment})
        for environment in [*at_points, *[{}] * 10]
    ]
    at_work = world.start(specs)
    unlucky = chance.sample(range(len(at_points), len(specs)), 6)
    for place in unlucky:
        time.sleep(chance.uniform(0.0, 0.4))
        at_work.signal(place, chance.choice([signal.SIGKILL, signal.SIGSTOP]))
    time.sleep(1.0)
    for place in range(len(specs)):
        at_work.signal(place, signal.SIGCONT)
    while at_work.process.poll() is None:  # whoever suspends itself is woken, however late
        time.sleep(0.2)
        for place in range(len(specs)):
            at_work.signal(place, signal.SIGCONT)
    codes = at_work.end()
    assert all(code in (0, -signal.SIGKILL) for code in codes), codes
    finished = world.finished()
    assert world.run([world.worker("reconcile", records, environment={"CD4ML_CLAIM_SECONDS": "0.05"})]) == [0]
    history = world.history()
    assert {entry.run.id for entry in history.runs} >= finished
    missing = [record for record in records if history.result(record["fingerprint"]) is None]
    assert missing == []
    world.assert_sound(ids(records))
