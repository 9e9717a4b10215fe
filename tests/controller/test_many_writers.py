"""Many writers on one remote, as real processes: killed, suspended and woken, they lose nothing and agree on all.

``benchmarks/many_writers.py`` does the same on a larger scale, as do ``CD4ML_ROUNDS`` and ``CD4ML_WRITERS`` here.
"""

from __future__ import annotations

import os
import random
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cd4ml.controller.landing.land import land_record
from cd4ml.controller.project import Project
from cd4ml.errors import IntegrityError
from cd4ml.gateways.git import open_repository
from cd4ml.gateways.process import CRASH_POINTS
from tests.controller.writers_world import World, until

OF_WRITERS = ("claim.taken", "claim.dropped", "land.committed", "land.pushed", "fold.committed", "fold.pushed")
"""The crash points of whoever lands and folds; ``test_crash`` comes to those of a run, too."""


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.make(tmp_path)


def ids(records: list[dict[str, Any]]) -> set[str]:
    return {str(record["id"]) for record in records}


def result(world: World, fingerprint: str) -> str:
    """The id of the result of a fingerprint; there must be exactly one."""
    (found,) = world.results()[fingerprint]
    return found


def test_writers_of_distinct_runs_land_each_record_exactly_once_while_others_fold_and_read(world: World) -> None:
    records = [world.record(f"distinct {number}") for number in range(32)]
    writers = [world.worker("land", [record]) for record in records]
    at_work = world.start([world.worker("folding"), world.worker("folding"), world.worker("reading"), *writers])
    until(lambda: len(world.lines("end")) >= len(writers))
    world.stop.touch()
    assert set(at_work.end()) == {0}
    assert world.lines("vanished") == []
    assert [words for words in world.lines("done") if words[1] == "read"]
    assert sorted(words[2] for words in world.lines("done") if words[1] == "land") == sorted(ids(records))
    assert world.run([world.worker("fold")]) == [0]
    world.assert_sound(ids(records))


@pytest.mark.parametrize("changed", [{"branch": ""}, {"metrics": {"validation": {"rmse": "good"}}}])
def test_a_record_that_no_fold_would_take_does_not_leave_its_clone(world: World, changed: dict[str, Any]) -> None:
    project = Project(open_repository(world.clone()), "origin", "main")
    with pytest.raises(IntegrityError):
        land_record(project, world.record("odd", **changed))
    project.repository.close()
    assert world.refs("refs/cd4ml/") == []


def test_writers_of_one_fingerprint_leave_one_result_that_later_folds_do_not_move(world: World) -> None:
    rounds, writers = int(os.environ.get("CD4ML_ROUNDS", "1")), int(os.environ.get("CD4ML_WRITERS", "16"))
    clones = [world.clone() for _ in range(writers + 1)]
    landed: set[str] = set()
    for round_ in range(rounds):
        *early, late = [world.record(f"same {round_}", number) for number in range(writers + 1)]
        specs = [
            world.worker("land", [record], folds=int(number < 4), clone=clones[number])
            for number, record in enumerate(early)
        ]
        assert set(world.run(specs)) == {0}, round_
        assert world.run([world.worker("fold", clone=clones[-1])]) == [0], round_
        first = result(world, late["fingerprint"])
        assert first in ids(early), round_
        assert world.run([world.worker("land", [late], folds=1, clone=clones[-1])]) == [0], round_
        assert result(world, late["fingerprint"]) == first, round_
        landed |= ids([*early, late])
    world.assert_sound(landed)


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


# ── a storm ──


@dataclass(frozen=True)
class Storm:
    """What a storm left before anybody tidied up: how all processes ended, and what the remote held.

    ``killed`` are the exit codes of those that were sent SIGKILL from outside, ``finished`` what was said to be landed.
    """

    world: World
    records: list[dict[str, Any]]
    codes: list[int]
    killed: list[int]
    finished: set[str]
    held: set[str]


@pytest.fixture(scope="module", params=[1])
def storm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Storm:
    """Reconcilers of the same few records, killed or suspended at every point and in between, and one who reads."""
    assert set(OF_WRITERS) <= set(CRASH_POINTS)
    world = World.make(tmp_path_factory.mktemp("storm"))
    chance = random.Random(request.param)  # noqa: S311  # the same each time
    at_points = [{name: point} for point in OF_WRITERS for name in ("CD4ML_CRASH_AT", "CD4ML_STOP_AT")]
    records = [world.record(f"chaos {number}", number) for number in range(16)]
    specs = [
        world.worker("reconcile", chance.sample(records, 3), environment={"CD4ML_CLAIM_SECONDS": "0.2", **environment})
        for environment in [*at_points, *[{}] * 10]
    ]
    places = range(len(specs))
    struck = chance.sample(places[len(at_points) :], 6)
    pending = {place: chance.randrange(4) for place in struck}
    numbers = dict(zip(struck, [signal.SIGKILL, signal.SIGSTOP] * 3, strict=True))
    with world.start([*specs, world.worker("reading")]) as at_work:

        def are_struck() -> bool:
            """Each as soon as it has said so many lines, of five at least."""
            for place in [place for place, lines in pending.items() if said(specs[place]) >= lines]:
                at_work.signal(place, numbers[place])
                del pending[place]
            return not pending

        def are_woken() -> bool:
            for place in places:
                at_work.signal(place, signal.SIGCONT)
            return all(at_work.state(place) == "Z" for place in places)

        until(are_struck)
        others = [place for place in places if numbers.get(place) != signal.SIGSTOP]
        until(lambda: all(at_work.state(place) in "TZ" for place in others))  # nobody waits for who is suspended
        until(are_woken)
        world.stop.touch()
        codes = at_work.end()
    killed = [codes[place] for place in struck if numbers[place] == signal.SIGKILL]
    return Storm(world, records, codes, killed, world.finished(), world.held())


def said(spec: dict[str, Any]) -> int:
    """How many lines a writer has written so far."""
    log = Path(spec["log"])
    return len(log.read_text("utf-8").splitlines()) if log.exists() else 0


def test_processes_are_killed_at_work_by_a_storm(storm: Storm) -> None:
    assert -signal.SIGKILL in storm.killed


def test_nobody_ends_badly_in_a_storm_but_who_is_killed(storm: Storm) -> None:
    assert set(storm.codes) == {0, -signal.SIGKILL}


def test_whatever_is_killed_or_suspended_all_that_was_landed_is_there_before_any_further_reconcile(
    storm: Storm,
) -> None:
    assert storm.finished
    assert storm.finished - storm.held == set()


def test_who_reads_in_a_storm_is_refused_nothing(storm: Storm) -> None:
    assert [words for words in storm.world.lines("refused") if words[1] == "read"] == []


def test_who_reads_in_a_storm_never_misses_what_was_there_before(storm: Storm) -> None:
    assert storm.world.lines("vanished") == []


def test_who_reads_in_a_storm_sees_ever_more(storm: Storm) -> None:
    saw = [int(words[1]) for words in storm.world.lines("saw")]
    assert saw == sorted(saw)
    assert saw[-1] > saw[0]


def test_whatever_is_killed_or_suspended_the_next_reconcile_converges(storm: Storm) -> None:
    world, records = storm.world, storm.records
    assert world.run([world.worker("reconcile", records, environment={"CD4ML_CLAIM_SECONDS": "0.05"})]) == [0]
    found = {fingerprint: len(results) for fingerprint, results in world.results().items()}
    assert found == {record["fingerprint"]: 1 for record in records}
    world.assert_sound(ids(records))
