"""Claims on a real remote: they keep others from the same work, and nothing depends on them."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cd4ml.controller.project import Project
from cd4ml.controller.reconciling.claims import Claims, patience, running_elsewhere
from cd4ml.controller.running.run import WORK_LOCK
from cd4ml.errors import RemoteError
from cd4ml.gateways.files import exclusive
from cd4ml.gateways.git import CLAIMS, RefUpdate, Repository, open_repository
from cd4ml.index.claims import (
    CLAIM_PREFIX,
    LARGEST_CLAIM,
    UNCHANGED_LOOKS,
    Claim,
    claim_ref,
    encode_claim,
    parse_claim,
)
from tests.conftest import Shell
from tests.controller.controller_world import cd4ml, commit, experiments, git, push, refs, rejected, remote, runs
from tests.controller.writers_world import World
from tests.controller.writers_world import git as git_in
from tests.index.index_world import fingerprint, hexes

PATIENCE = 3600.0
PRINT = fingerprint("claimed")
OTHER = Claim(PRINT, hexes("other", 32), 1, "exp/a", "Ada", "2026-11-03T10:00:00Z")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.make(tmp_path)


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CD4ML_CLAIM_SECONDS", "0.1")


@pytest.fixture
def project(world: World) -> Iterator[Callable[[], Project]]:
    """Makes projects, each in a clone of its own."""
    made: list[Project] = []

    def make(clone: Path | None = None) -> Project:
        made.append(Project(open_repository(clone or world.clone()), "origin", "main"))
        return made[-1]

    yield make
    for one in made:
        one.repository.close()


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def put(folder: Path, ref: str, data: bytes) -> None:
    """A claim as anybody who may push can make it; in the bare repository itself."""
    blob = open_repository(folder).write_blob(data)
    git_in(folder, "update-ref", ref, blob)


def claimed(world: World) -> Claim | None:
    """What the remote has now."""
    repository = open_repository(world.remote)
    found = git_in(world.remote, "for-each-ref", "--format=%(objectname)", claim_ref(PRINT))
    try:
        return parse_claim(claim_ref(PRINT), repository.read_object(found, LARGEST_CLAIM)) if found else None
    finally:
        repository.close()


def test_the_prefix_is_the_same_in_the_core_and_at_the_door() -> None:
    assert CLAIMS == CLAIM_PREFIX


def test_a_claim_is_seen_by_others_shows_life_and_goes_at_the_end(world: World, project: Callable[[], Project]) -> None:
    mine, theirs = project(), project()
    with Claims(mine) as claims:
        assert claims.take(PRINT, "exp/a", mine.repository.fetch("origin"))
        first = claimed(world)
        assert first is not None
        assert (first.beat, first.branch, first.by) == (1, "exp/a", "Test")
        with Claims(theirs) as other:
            seen = theirs.repository.fetch("origin")
            assert set(other.look(seen, PATIENCE)) == {PRINT}
            assert other.is_undecided(PRINT)
            wait_for(lambda: (found := claimed(world)) is not None and found.beat > 3)
            assert set(other.look(theirs.repository.fetch("origin"), PATIENCE)) == {PRINT}
            assert not other.is_undecided(PRINT)
        assert claimed(world) is not None, "whoever looks takes nothing away"
    assert world.refs(CLAIM_PREFIX) == []


def test_of_two_that_claim_at_once_one_is_told_to_leave_it(world: World, project: Callable[[], Project]) -> None:
    mine, theirs = project(), project()
    before = mine.repository.fetch("origin"), theirs.repository.fetch("origin")
    with Claims(mine) as one, Claims(theirs) as two:
        assert one.take(PRINT, "exp/a", before[0])
        assert not two.take(PRINT, "exp/a", before[1])
        one.finish(PRINT)
        one.drop()
        assert two.take(PRINT, "exp/a", before[1])


def test_a_claim_without_signs_of_life_is_taken_over_and_who_wakes_does_not_take_it_back(
    world: World, project: Callable[[], Project]
) -> None:
    stop = {"CD4ML_STOP_AT": "claim.taken", "CD4ML_CLAIM_SECONDS": "0.1"}
    record = world.record("claimed")
    asleep = world.start([world.worker("reconcile", [record], environment=stop)])
    wait_for(lambda: world.refs(CLAIM_PREFIX))
    wait_for(lambda: asleep.state(0) == "T")
    mine = project()
    with Claims(mine) as claims:
        looks = 0
        while claims.look(state := mine.repository.fetch("origin"), PATIENCE):
            looks += 1
            assert claims.is_undecided(PRINT)
            time.sleep(0.1)
        assert looks >= 2
        assert claims.take(PRINT, "exp/a", state)
        asleep.wake(0)
        assert asleep.end() == [0]
        found = claimed(world)
        assert found is not None
        assert found.by == "Test"
        assert claims.look(mine.repository.fetch("origin"), PATIENCE) == {}, "it is ours, whatever the other did"
    assert world.refs(CLAIM_PREFIX) == []
    world.assert_sound({record["id"]})


def test_after_a_kill_the_next_reconcile_of_the_clone_need_not_wait(
    world: World, project: Callable[..., Project]
) -> None:
    clone = world.clone()
    crash = {"CD4ML_CRASH_AT": "claim.taken", "CD4ML_CLAIM_SECONDS": "600"}
    record = world.record("claimed")
    assert world.run([world.worker("reconcile", [record], clone=clone, environment=crash)]) == [-9]
    assert world.refs(CLAIM_PREFIX) == [claim_ref(PRINT)]
    other = project()
    with Claims(other) as claims:
        assert set(claims.look(other.repository.fetch("origin"), PATIENCE)) == {PRINT}
    patient = {"CD4ML_CLAIM_SECONDS": "600"}
    assert world.run([world.worker("reconcile", [record], clone=clone, environment=patient)]) == [0]
    world.assert_sound({record["id"]})


def test_a_dead_claim_is_taken_over_though_the_clock_began_anew_between_two_looks(
    world: World, project: Callable[[], Project], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it does when the machine is started again: what was seen before must not be waited for until then."""
    put(world.remote, claim_ref(PRINT), encode_claim(OTHER))
    mine = project()
    state = mine.repository.fetch("origin")
    before, after = [900_000.0], [5.0 + 15.0 * number for number in range(UNCHANGED_LOOKS + 1)]
    seen = []
    for now in before + after:
        monkeypatch.setattr("cd4ml.controller.reconciling.claims.time.monotonic", lambda now=now: now)
        with Claims(mine) as claims:  # each knows what the one before it saw
            seen.append(PRINT in claims.look(state, PATIENCE))
    assert seen == [True, *[True] * UNCHANGED_LOOKS, False]


@pytest.mark.parametrize("refused", ["refs/cd4ml/claims/*", "refs/cd4ml/*"])
def test_a_remote_that_takes_no_claims_is_worked_with_as_if_there_were_none(
    world: World, project: Callable[[], Project], refused: str
) -> None:
    update = world.remote / "hooks/update"
    update.write_text(f'#!/bin/sh\ncase "$1" in {refused}) exit 1;; esac\n', "utf-8")
    update.chmod(0o755)
    mine = project()
    with Claims(mine) as claims:
        assert claims.take(PRINT, "exp/a", mine.repository.fetch("origin"))
        assert claims.take(fingerprint("more"), "exp/b", mine.repository.fetch("origin"))
    assert world.refs(CLAIM_PREFIX) == []


def test_whatever_lies_among_the_claims_is_ignored_and_swept_away(world: World, project: Callable[[], Project]) -> None:
    for name, data in (
        (claim_ref(fingerprint(1)), b"no claim"),
        (claim_ref(fingerprint(2)), b"x" * 100_000),
        (f"{CLAIM_PREFIX}name", encode_claim(OTHER)),
        (f"{CLAIM_PREFIX}{fingerprint(3)}/below", encode_claim(OTHER)),
        (claim_ref(fingerprint("answered")), encode_claim(OTHER)),
    ):
        put(world.remote, name, data)
    git_in(world.remote, "update-ref", claim_ref(fingerprint(4)), world.source)
    put(world.remote, claim_ref(PRINT), encode_claim(OTHER))
    mine = project()
    with Claims(mine) as claims:
        state = mine.repository.fetch("origin")
        assert set(claims.look(state, PATIENCE)) == {PRINT, fingerprint("answered")}
        claims.tidy(state, PATIENCE, lambda one: one == fingerprint("answered"))
    assert world.refs(CLAIM_PREFIX) == [claim_ref(PRINT)]


def test_tidying_sweeps_what_nobody_holds_any_more_and_leaves_what_is_held_here(
    world: World, project: Callable[[], Project], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CD4ML_CLAIM_SECONDS", "600")
    put(world.remote, claim_ref(PRINT), encode_claim(OTHER))
    mine, own = project(), fingerprint("own")
    with Claims(mine) as claims:
        assert claims.take(own, "exp/b", mine.repository.fetch("origin"))
        state = mine.repository.fetch("origin")
        for looks in range(UNCHANGED_LOOKS + 1):
            monkeypatch.setattr("cd4ml.controller.reconciling.claims.time.monotonic", lambda now=600.0 * looks: now)
            claims.tidy(state, PATIENCE, lambda one: one == own)
            assert world.refs(CLAIM_PREFIX) == sorted([claim_ref(PRINT), claim_ref(own)])
            assert (PRINT in claims.look(state, PATIENCE)) == (looks < UNCHANGED_LOOKS)
        claims.tidy(state, PATIENCE, lambda one: one == own)
        assert world.refs(CLAIM_PREFIX) == [claim_ref(own)]


def test_a_claim_whose_every_push_is_reported_as_failed_is_held_where_it_took_place(
    world: World, project: Callable[[], Project], monkeypatch: pytest.MonkeyPatch
) -> None:
    push = Repository.push

    def cut_off(self: Repository, remote_name: str, updates: Sequence[RefUpdate], **options: Any) -> None:
        push(self, remote_name, updates, **options)
        raise RemoteError("the remote end hung up unexpectedly")

    monkeypatch.setattr(Repository, "push", cut_off)
    mine = project()
    with Claims(mine) as claims:
        assert claims.take(PRINT, "exp/a", mine.repository.fetch("origin"))
        wait_for(lambda: (found := claimed(world)) is not None and found.beat > 3)
    assert world.refs(CLAIM_PREFIX) == []


def test_a_claim_outlives_a_time_in_which_the_remote_cannot_be_reached(
    world: World, project: Callable[[], Project], monkeypatch: pytest.MonkeyPatch
) -> None:
    push, ask = Repository.push, Repository.remote_ref
    away, asked = [False], []

    def pushed(self: Repository, remote_name: str, updates: Sequence[RefUpdate], **options: Any) -> None:
        if away[0]:
            raise RemoteError("no route to host")
        push(self, remote_name, updates, **options)

    def told(self: Repository, remote_name: str, ref: str) -> str | None:
        if away[0]:
            asked.append(ref)
            raise RemoteError("no route to host")
        return ask(self, remote_name, ref)

    monkeypatch.setattr(Repository, "push", pushed)
    monkeypatch.setattr(Repository, "remote_ref", told)
    mine = project()
    with Claims(mine) as claims:
        assert claims.take(PRINT, "exp/a", mine.repository.fetch("origin"))
        away[0] = True
        wait_for(lambda: len(asked) > 1)
        before = claimed(world)
        away[0] = False
        wait_for(lambda: (found := claimed(world)) is not None and before is not None and found.beat > before.beat)
    assert world.refs(CLAIM_PREFIX) == []


def test_where_a_dead_claim_may_not_be_replaced_its_run_is_made_without_one(
    world: World, project: Callable[[], Project]
) -> None:
    put(world.remote, claim_ref(PRINT), encode_claim(OTHER))
    update = world.remote / "hooks/update"
    update.write_text("#!/bin/sh\nexit 1\n", "utf-8")
    update.chmod(0o755)
    mine = project()
    with Claims(mine) as claims:
        assert claims.take(PRINT, "exp/a", mine.repository.fetch("origin"))


def test_of_the_many_reconciles_of_a_clone_the_last_are_known_as_its_own(
    world: World, project: Callable[[], Project]
) -> None:
    mine, older = project(), [hexes(number, 32) for number in range(200)]
    mine.private.mkdir(exist_ok=True)
    (mine.private / "claims.json").write_text(json.dumps({"holders": older, "seen": {}}), "utf-8")
    with Claims(mine) as claims:
        assert claims.take(PRINT, "exp/a", mine.repository.fetch("origin"))
        left = claimed(world)
    assert left is not None
    put(world.remote, claim_ref(PRINT), encode_claim(left))  # as if it had been killed
    with Claims(mine) as claims:
        assert claims.look(mine.repository.fetch("origin"), PATIENCE) == {}
    assert len(json.loads((mine.private / "claims.json").read_text("utf-8"))["holders"]) < len(older)


@pytest.mark.parametrize("content", ["[]", "null", '{"holders": 1, "seen": {}}', '{"seen": {"x": {"odd": 1}}}', None])
def test_notes_on_claims_that_are_damaged_or_cannot_be_written_keep_nobody_from_working(
    world: World, project: Callable[[], Project], content: str | None
) -> None:
    put(world.remote, claim_ref(PRINT), encode_claim(OTHER))
    mine, own = project(), fingerprint("own")
    notes = mine.private / "claims.json"
    notes.parent.mkdir(exist_ok=True)
    if content is None:
        notes.mkdir()
    else:
        notes.write_text(content, "utf-8")
    with Claims(mine) as claims:
        state = mine.repository.fetch("origin")
        assert set(claims.look(state, PATIENCE)) == {PRINT}
        assert claims.take(own, "exp/b", state)
    assert world.refs(CLAIM_PREFIX) == [claim_ref(PRINT)]


def test_a_claim_is_believed_for_longer_than_a_run_and_its_repetition_may_take() -> None:
    policy = SimpleNamespace(executor=SimpleNamespace(timeout_minutes=60))
    assert patience(policy) > 2 * 60 * 60  # type: ignore[arg-type]  # all that it reads


# ── the verbs ──


def claim_of(shell: Shell, branch: str) -> Claim:
    return Claim(str(experiments(shell)[branch]["fingerprint"]), hexes("other", 32), 1, branch, "Ada", "2026-11-03")


def test_status_shows_what_runs_elsewhere_and_a_dead_claim_holds_nobody_up(team: Shell) -> None:
    source = rejected(team, "exp/x")
    claim = claim_of(team, "exp/x")
    put(remote(team).folder, claim_ref(claim.fingerprint), encode_claim(claim))
    for verb in ("status", "plan"):
        item = experiments(team, verb)["exp/x"]
        assert (item["sync"], item["health"]) == ("OutOfSync", "Progressing")
        assert (item["reason"], item["actions"]) == ("runs elsewhere since 2026-11-03 (Ada)", [])
    cd4ml(team, "plan", "--exit-code")
    done = cd4ml(team, "reconcile")
    assert "exp/x: run waits: runs elsewhere since 2026-11-03 (Ada)" in done.err
    assert [run["source_commit"] for run in runs(team, "branch = 'exp/x'")] == [source]
    assert [ref for ref in refs(remote(team)) if ref.startswith("refs/cd4ml/")] == []


def test_a_dead_claim_of_a_merge_result_holds_nobody_up_either(team: Shell) -> None:
    rejected(team, "exp/x")
    ridge = git(team, "show", "main:conf/model/ridge.yaml").replace("alpha: 1.0", "alpha: 2.0")
    push(team, "refs/heads/main", commit(team, "main", {"conf/model/ridge.yaml": f"{ridge}\n"}))
    merge = str(experiments(team)["exp/x"]["merge_fingerprint"])
    put(remote(team).folder, claim_ref(merge), encode_claim(replace(claim_of(team, "exp/x"), fingerprint=merge)))
    cd4ml(team, "reconcile", "exp/x", code=1)
    assert {run["side"] for run in runs(team, "branch = 'exp/x'")} == {"head", "merge"}


def test_a_living_claim_is_left_alone_and_waited_for_only_by_who_names_the_branch(team: Shell) -> None:
    rejected(team, "exp/x")
    claim = claim_of(team, "exp/x")
    team.at(team.folder.parent).run("git", "clone", "--quiet", "remote.git", "other")
    other = Project(open_repository(team.folder.parent / "other"), "origin", "main")
    with Claims(other) as claims:
        claims.take(claim.fingerprint, "exp/x", other.repository.fetch("origin"))
        cd4ml(team, "reconcile")
        assert experiments(team)["exp/x"]["health"] == "Progressing"
        assert runs(team, "branch = 'exp/x'") == []
        command = ["cd4ml", "reconcile", "exp/x", "--json"]
        pipe, environment = subprocess.PIPE, {**os.environ, **team.environment}
        waiting = subprocess.Popen(command, cwd=team.folder, env=environment, stdout=pipe, stderr=pipe, text=True)
        assert waiting.stderr is not None
        while "waits: runs elsewhere" not in waiting.stderr.readline():
            assert waiting.poll() is None
    out, err = waiting.communicate()
    assert waiting.returncode == 1, err  # the branch that was named is Degraded
    assert json.loads(out)["experiments"][0]["health"] == "Degraded"
    assert len(runs(team, "branch = 'exp/x'")) == 1
    assert git(remote(team), "for-each-ref", "refs/cd4ml/") == ""


def test_who_is_always_faster_is_waited_for_three_times_and_no_more(
    world: World, project: Callable[..., Project]
) -> None:
    mine, theirs = project(), project()
    before = mine.repository.fetch("origin"), theirs.repository.fetch("origin")
    with Claims(mine) as one, Claims(theirs) as two:
        assert one.take(PRINT, "exp/a", before[0])
        assert [two.take(PRINT, "exp/a", before[1]) for _ in range(5)] == [False, False, False, True, True]


def test_a_claim_that_somebody_replaced_does_not_keep_the_others(world: World, project: Callable[..., Project]) -> None:
    mine, more = project(), fingerprint("more")
    state = mine.repository.fetch("origin")
    with Claims(mine) as claims:
        for one in (PRINT, more):
            assert claims.take(one, "exp/a", state)
        for one in (PRINT, more):
            claims.finish(one)
        put(world.remote, claim_ref(more), encode_claim(OTHER))
    assert world.refs(CLAIM_PREFIX) == [claim_ref(more)]


def test_of_this_clones_own_claims_those_count_that_are_at_work(world: World, project: Callable[..., Project]) -> None:
    mine, policy = project(), SimpleNamespace(executor=SimpleNamespace(timeout_minutes=60))
    with exclusive(mine.private / WORK_LOCK), Claims(mine) as claims:
        assert claims.take(PRINT, "exp/a", mine.repository.fetch("origin"))
        state = mine.repository.fetch("origin")
        assert set(running_elsewhere(mine, state, policy)) == {PRINT}  # type: ignore[arg-type]  # all that it reads
    assert running_elsewhere(mine, state, policy) == {}  # type: ignore[arg-type]  # as above


def test_a_claim_that_went_while_it_was_to_be_taken_over_is_made_anew(
    world: World, project: Callable[..., Project]
) -> None:
    put(world.remote, claim_ref(PRINT), encode_claim(OTHER))
    mine = project()
    with Claims(mine) as claims:
        state = mine.repository.fetch("origin")
        git_in(world.remote, "update-ref", "-d", claim_ref(PRINT))
        assert claims.take(PRINT, "exp/a", state)
        found = claimed(world)
        assert found is not None
        assert found.by == "Test"
