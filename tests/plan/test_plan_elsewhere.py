"""What another reconciler says to run is left to it, and is Progressing."""

from __future__ import annotations

from typing import Any

from cd4ml.index.claims import Claim
from cd4ml.plan.state import Health, SyncStatus
from tests.plan.plan_world import asks, briefly, components, desired, hexes, plan_of, run_entry

HEAD, MERGE = components("s1"), components("s2")


def elsewhere(*prints: str) -> dict[str, Any]:
    return {"elsewhere": {one: Claim(one, hexes("holder", 32), 3, "exp/a", "Ada", "2026-11-03") for one in prints}}


def test_a_run_that_is_claimed_gets_no_action_and_is_progressing() -> None:
    state = desired(asks("exp/a", HEAD))
    assert briefly(plan_of(state), "exp/a") == ["run head"]
    plan = plan_of(state, **elsewhere(HEAD.fingerprint))
    assert plan.is_empty
    (item,) = plan.items
    assert (item.sync, item.health, item.answer) == (
        SyncStatus.OUT_OF_SYNC, Health.PROGRESSING, {"head": None, "merge": None}
    )  # fmt: skip
    assert item.reason == "runs elsewhere since 2026-11-03 (Ada)"


def test_the_other_side_is_run_all_the_same_and_no_record_is_written_before_both_are_answered() -> None:
    state = desired(asks("exp/a", HEAD, MERGE))
    assert briefly(plan_of(state, **elsewhere(HEAD.fingerprint)), "exp/a") == ["run merge"]
    assert briefly(plan_of(state, **elsewhere(MERGE.fingerprint)), "exp/a") == ["run head"]
    done = [run_entry(HEAD, "exp/a")]
    assert briefly(plan_of(state, done, **elsewhere(MERGE.fingerprint)), "exp/a") == []


def test_a_claim_of_what_is_answered_changes_nothing() -> None:
    state, done = desired(asks("exp/a", HEAD)), [run_entry(HEAD, "exp/a")]
    assert plan_of(state, done, **elsewhere(HEAD.fingerprint)) == plan_of(state, done)


def test_what_a_person_asks_for_again_and_what_is_not_pushed_is_run_whatever_others_claim() -> None:
    failed = [run_entry(HEAD, "exp/a", outcome=("transient", "train", "killed"))]
    claimed = elsewhere(HEAD.fingerprint)
    state = desired(asks("exp/a", HEAD))
    assert briefly(plan_of(state, failed, **claimed), "exp/a") == []
    assert briefly(plan_of(state, failed, retry=frozenset({"exp/a"}), **claimed), "exp/a") == ["run head"]
    assert briefly(plan_of(state, refresh_env=True, **claimed), "exp/a") == ["run head"]
    local = desired(asks("exp/a", HEAD, published=False))
    assert briefly(plan_of(local, named=frozenset({"exp/a"}), **claimed), "exp/a") == ["run head"]
