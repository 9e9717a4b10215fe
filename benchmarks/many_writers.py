"""Many writers on one bare remote: how fast records land, and that none is lost, false or doubled.

    python -m benchmarks.many_writers [--writers 32] [--records 10] [--rounds 50] [--chaos 10]

Three parts, each with processes of their own and a clone for every writer. **Distinct**: every writer lands its records
one after the other; beside it, in the same minute, as many writers do nothing but ``git push`` a commit that is there
already to a ref of its own, which is the least that landing can cost on this machine. **Same**: all writers land a run
of one fingerprint, some fold at the same time; there must be one result, and the folds of latecomers must not move it.
**Chaos**: a third of all processes is killed or suspended and woken, at random and at every named point.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.controller.writers_world import World

OF_WRITERS = ("claim.taken", "claim.dropped", "land.committed", "land.pushed", "fold.committed", "fold.pushed")


LEAST_RATE = 30.0
"""Distinct records landed a second, at least."""

MOST_SECONDS = 2.0
"""The 99th percentile of one landing, at most."""


def say(*words: object) -> None:
    """A line of the report."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def percentile(values: list[float], share: float) -> float:
    """The value below which that share of the values lies."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def distinct(folder: Path, writers: int, records: int) -> list[str]:
    """Land ``writers`` × ``records`` records; gives a line for each goal that was missed."""
    world = World.make(folder)
    many = [[world.record(f"{writer} {number}") for number in range(records)] for writer in range(writers)]
    specs = [world.worker("land", each) for each in many]
    began = time.perf_counter()
    codes = world.run(specs)
    took = time.perf_counter() - began
    times = [float(words[3]) for words in world.lines("done")]
    if any(codes) or len(times) != writers * records:
        raise SystemExit(f"distinct: {len(times)} of {writers * records} landed; exit codes {sorted(set(codes))}")
    rate, slow = len(times) / took, percentile(times, 0.99)
    say(
        f"distinct: {rate:.1f} records/s; a landing takes {percentile(times, 0.5):.2f} s (p50), "
        f"{slow:.2f} s (p99), {max(times):.2f} s (most)"
    )
    began = time.perf_counter()
    world.run([world.worker("fold")])
    say(f"          folded in {time.perf_counter() - began:.1f} s")
    world.assert_sound({record["id"] for each in many for record in each})
    say("          each exactly once")
    missed = [f"{rate:.1f} records/s, fewer than {LEAST_RATE:g}"] if rate < LEAST_RATE else []
    return missed + ([f"{slow:.2f} s (p99), more than {MOST_SECONDS:g}"] if slow > MOST_SECONDS else [])


def bare_pushes(folder: Path, writers: int, pushes: int) -> None:
    """The same number of create-only pushes of nothing new, by Git alone."""
    world = World.make(folder)
    clones = [world.clone() for _ in range(writers)]

    def push(place: int) -> list[float]:
        times = []
        for number in range(pushes):
            ref = f"refs/cd4ml/landing/{place}-{number}"
            began = time.perf_counter()
            command = ["git", "push", "--quiet", "--atomic", f"--force-with-lease={ref}:", "origin", f"HEAD:{ref}"]
            subprocess.run(command, cwd=clones[place], check=True)
            times.append(time.perf_counter() - began)
        return times

    began = time.perf_counter()
    with ThreadPoolExecutor(writers) as pool:
        times = [value for each in pool.map(push, range(writers)) for value in each]
    took = time.perf_counter() - began
    say(f"git push: {len(times) / took:.1f} refs/s; {percentile(times, 0.99):.2f} s (p99)")


def same(folder: Path, writers: int, rounds: int) -> None:
    """Rounds of one fingerprint each, as told above."""
    world = World.make(folder)
    clones = [world.clone() for _ in range(writers + 2)]
    landed: set[str] = set()
    for round_ in range(rounds):
        records = [world.record(f"same {round_}", number) for number in range(writers + 1)]
        landed |= {str(record["id"]) for record in records}
        late, sleeper, *others = records
        asleep = world.start(
            [world.worker("land", [sleeper], clone=clones[0], folds=1, environment={"CD4ML_STOP_AT": "land.committed"})]
        )
        specs = [
            world.worker("land", [record], clone=clone, folds=int(number % 4 == 0))
            for number, (record, clone) in enumerate(zip(others, clones[1:], strict=False))
        ]
        failed = [code for code in world.run(specs) if code]
        failed += world.run([world.worker("fold", clone=clones[-1])])
        first = world.results().get(late["fingerprint"], [])
        asleep.wake(0)
        failed += asleep.end()
        failed += world.run([world.worker("land", [late], clone=clones[1], folds=1)])
        after = world.results().get(late["fingerprint"], [])
        if len(first) != 1 or after != first or any(failed):
            raise SystemExit(f"round {round_}: {first} became {after}; exit codes {failed}")
    world.assert_sound(landed)
    say(
        f"same: {rounds} rounds of {writers} writers and a latecomer: one result each, which stayed; {len(landed)} kept"
    )


def chaos(folder: Path, writers: int, seed: int) -> tuple[int, int]:
    """One storm; gives how many were killed, and how many suspended."""
    world = World.make(folder)
    chance = random.Random(seed)  # noqa: S311  # the same each time
    records = [world.record(f"chaos {number}", number) for number in range(writers)]
    at_points = [{name: point} for point in OF_WRITERS for name in ("CD4ML_CRASH_AT", "CD4ML_STOP_AT")]
    specs = [
        world.worker("reconcile", chance.sample(records, 4), environment={"CD4ML_CLAIM_SECONDS": "0.3", **more})
        for more in [*at_points, *[{}] * (writers - len(at_points))]
    ]
    with world.start([*specs, world.worker("reading")]) as at_work:
        counts = {signal.SIGKILL: 0, signal.SIGSTOP: 0}
        for place in chance.sample(range(len(at_points), writers), writers // 3):
            time.sleep(chance.uniform(0.0, 0.5))
            number = chance.choice(list(counts))
            counts[number] += 1
            at_work.signal(place, number)
        time.sleep(2.0)
        world.stop.touch()
        while at_work.process.poll() is None:
            for place in range(len(specs)):
                at_work.signal(place, signal.SIGCONT)
            time.sleep(0.2)
        codes = at_work.end()
    if {*codes} - {0, -signal.SIGKILL} or world.lines("vanished"):
        raise SystemExit(f"seed {seed}: exit codes {codes}, vanished {world.lines('vanished')}")
    lost = world.finished() - world.held()
    if lost or world.run([world.worker("reconcile", records, environment={"CD4ML_CLAIM_SECONDS": "0.1"})]) != [0]:
        raise SystemExit(f"seed {seed}: lost {lost}")
    world.assert_sound({str(record["id"]) for record in records})
    return codes.count(-signal.SIGKILL), counts[signal.SIGSTOP] + len(OF_WRITERS)


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--writers", type=int, default=32)
    parser.add_argument("--records", type=int, default=10, help="that each writer lands")
    parser.add_argument("--rounds", type=int, default=50, help="of one fingerprint each")
    parser.add_argument("--chaos", type=int, default=10, help="storms")
    options = parser.parse_args()

    def folder() -> tempfile.TemporaryDirectory[str]:
        return tempfile.TemporaryDirectory(prefix="many-writers-")

    with folder() as one, folder() as two:
        bare_pushes(Path(one), options.writers, options.records)
        missed = distinct(Path(two), options.writers, options.records)
    if options.rounds:
        with folder() as one:
            same(Path(one), options.writers, options.rounds)
    killed = suspended = 0
    for seed in range(options.chaos):
        with folder() as one:
            ended, slept = chaos(Path(one), options.writers, seed)
            killed, suspended = killed + ended, suspended + slept
    say(f"chaos: {options.chaos} storms, {killed} killed and {suspended} suspended: no record lost, false or doubled")
    if missed:
        raise SystemExit(f"goals missed: {'; '.join(missed)}")


if __name__ == "__main__":
    main()
