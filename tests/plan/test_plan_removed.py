"""Runs that were let go or erased: what a plan says of them, and that it asks for nothing because of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cd4ml.index.record import Entry
from cd4ml.plan.action import PlanItem
from cd4ml.plan.state import Health, SyncStatus
from tests.plan.plan_world import asks, briefly, components, desired, entry, plan_of, run_entry, settle

MAIN = asks("main", components())
OWN = components(spec="x")
ON = desired(MAIN, asks("exp/x", OWN))
RAN = [run_entry(components(), "main", MAIN.commit), run_entry(OWN, "exp/x", asks("exp/x", OWN).commit)]
ID = RAN[1].record.id
BY_ADA = "on 2026-11-03 by Ada <ada@example.org>"
LET_GO = f"its artefacts were let go {BY_ADA}: cd4ml reproduce {ID} --store makes them again"
ERASED = f"erased {BY_ADA}: Request 12"


def removed(run: str = ID, what: str = "artefacts", fold: int = 9, **changed: Any) -> Entry:
    told = {"reason": "Request 12", "rule": "", "by": "Ada <ada@example.org>", "at": "2026-11-03T10:00:00Z"}
    return entry({"kind": "removal", "run": run, "commit": MAIN.commit, "what": what, **told, **changed}, fold)


def item(entries: list[Entry], state: Any = ON, branch: str = "exp/x", **policy: Any) -> PlanItem:
    return next(one for one in plan_of(state, entries, **policy).items if one.branch == branch)


def test_a_result_whose_artefacts_were_let_go_is_healthy_and_says_so() -> None:
    found = item([*settle(ON, RAN), removed()])
    assert (found.sync, found.health, found.actions) == (SyncStatus.SYNCED, Health.HEALTHY, ())
    assert found.reason == f"up to date: result {ID}; {LET_GO}"
    assert found.metrics


def test_a_result_that_was_erased_is_degraded_and_says_who_when_and_why() -> None:
    found = item([*settle(ON, RAN), removed(what="run")])
    assert (found.sync, found.health, found.reason) == (SyncStatus.SYNCED, Health.DEGRADED, ERASED)
    assert found.answer["head"] == ID


@pytest.mark.parametrize("others", [{}, {"retry": frozenset({"exp/x"})}, {"refresh_env": True}])
@pytest.mark.parametrize("what", ["artefacts", "stored", "run"])
@pytest.mark.parametrize("known", [RAN, settle(ON, RAN), settle(ON)], ids=["unrecorded", "recorded", "run here"])
def test_no_removal_changes_what_a_plan_asks_for(known: list[Entry], what: str, others: dict[str, Any]) -> None:
    """Whoever may land a record may land one; of any run."""
    ids = [one.record.id for one in known if one.record.body["kind"] == "run"]
    forged = [removed(run, what) for run in ids]
    before, after = plan_of(ON, known, **others), plan_of(ON, [*known, *forged], **others)
    assert after.actions == before.actions
    assert [one.answer for one in after.items] == [one.answer for one in before.items]


def test_of_several_removals_the_later_counts_and_an_erasure_always() -> None:
    later = removed(at="2026-11-05T10:00:00+02:00", fold=10)
    assert "let go on 2026-11-05" in item([*RAN, removed(), later]).reason
    assert item([*RAN, removed(what="run"), later]).reason == ERASED
    stored = removed(what="stored", fold=11)
    assert item([*settle(ON, RAN), removed(), later, stored]).reason == f"up to date: result {ID}"
    assert item([*RAN, removed(what="run"), stored]).reason == ERASED


def test_the_same_is_said_where_an_older_environment_answers() -> None:
    state = desired(MAIN, asks("exp/x", replace(OWN, env="0" * 64)))
    assert item([*RAN, removed()], state).reason == f"environment older: run as {ID} under another lock; {LET_GO}"
    found = item([*RAN, removed(what="run")], state)
    assert (found.health, found.reason, briefly(plan_of(state, [*RAN, removed(what="run")]), "exp/x")) == (
        Health.DEGRADED,
        ERASED,
        ["record"],
    )


def test_a_failure_stays_the_reason_of_a_failed_run_that_was_erased() -> None:
    failed = run_entry(OWN, "exp/x", outcome=("deterministic", "train", "no"))
    found = item([failed, removed(failed.record.id, "run")])
    assert (found.health, found.reason) == (Health.DEGRADED, "failed at train: no")


def test_what_holds_for_the_merge_result_alone_is_said_of_it() -> None:
    merge = components(spec="y")
    state = desired(MAIN, asks("exp/x", OWN, merge))
    ran = run_entry(merge, "exp/x", asks("exp/x", OWN, merge).merge.commit)  # type: ignore[union-attr]  # one that merges
    own = f"its artefacts were let go {BY_ADA}: cd4ml reproduce {ran.record.id} --store makes them again"
    found = item([*RAN, ran, removed(ran.record.id)], state)
    assert found.reason == f"up to date: result {ID}; merge result: {own}"
    erased = item([*RAN, ran, removed(ran.record.id, "run"), removed()], state)
    assert (erased.health, erased.reason) == (Health.DEGRADED, f"{LET_GO}; merge result: {ERASED}")


@pytest.mark.parametrize(
    ("what", "health", "said"), [("artefacts", Health.HEALTHY, LET_GO), ("run", Health.DEGRADED, ERASED)]
)
def test_a_branch_that_is_gone_says_so_too(what: str, health: Health, said: str) -> None:
    found = item([*settle(ON, RAN), removed(what=what)], desired(MAIN))
    assert (found.health, found.reason, found.actions) == (health, f"branch gone: discarded; {said}", ())


def test_what_was_erased_from_the_history_as_well_is_not_run_again_unless_a_person_asks() -> None:
    """Then the record of the answer and the tombstone are all that is left."""
    left = [one for one in settle(ON, RAN) if one.record.id != ID]
    gone = [*left, removed(what="run")]
    found = item(gone)
    assert (found.sync, found.health, found.reason, found.actions) == (SyncStatus.SYNCED, Health.DEGRADED, ERASED, ())
    assert found.answer["head"] == ID
    assert briefly(plan_of(ON, gone, retry=frozenset({"exp/x"})), "exp/x") == ["run head"]
    assert item(gone, desired(MAIN)).health is Health.DEGRADED


def test_a_missing_run_is_run_where_its_artefacts_alone_were_let_go() -> None:
    left = [one for one in settle(ON, RAN) if one.record.id != ID]
    assert briefly(plan_of(ON, [*left, removed()]), "exp/x") == ["run head"]


def test_another_request_of_the_branch_is_run_whatever_was_erased() -> None:
    moved = desired(MAIN, asks("exp/x", components(spec="z")))
    assert briefly(plan_of(moved, [*settle(ON, RAN), removed(what="run")]), "exp/x") == ["run head"]


def test_what_others_say_in_a_removal_is_one_short_line_without_credentials() -> None:
    said: dict[str, Any] = {"by": "a" * 400, "reason": "see https://ada:secret@example.org " + "b" * 400}
    reason = item([*RAN, removed(what="run", **said)]).reason
    assert len(reason) < 450
    assert "secret" not in reason
