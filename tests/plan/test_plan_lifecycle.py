"""Open, merged or discarded: told from records and the base branch, whatever way a branch was merged."""

from __future__ import annotations

import pytest

from cd4ml.errors import Problem
from cd4ml.index.record import Entry
from cd4ml.plan.state import DesiredState, Experiment
from tests.plan.plan_world import asks, components, desired, plan_of, settle

OLD = components()
NEW = components(spec="new")
MAIN = asks("main", OLD)
ASKED = asks("exp/a", NEW, NEW)


def known_before_the_merge() -> list[Entry]:
    return settle(desired(MAIN, ASKED))


def lifecycle(state: DesiredState, known: list[Entry]) -> tuple[str, str]:
    (item,) = (item for item in plan_of(state, known).items if item.branch == "exp/a")
    assert item.actions == ()
    return (item.lifecycle, item.reason)


def after(*experiments: Experiment, contains: bool, with_fingerprint: bool) -> DesiredState:
    commits = frozenset({ASKED.commit}) if contains else frozenset[str]()
    prints = {OLD.fingerprint, NEW.fingerprint} if with_fingerprint else {OLD.fingerprint}
    return desired(*experiments, base_commits=commits, base_fingerprints=frozenset(prints))


@pytest.mark.parametrize(
    ("contains", "with_fingerprint"),
    [(True, True), (True, False), (False, True)],
    ids=["merge commit", "merged and changed on the way", "squash or rebase"],
)
def test_a_merged_branch_is_merged_whether_it_still_exists_or_not(contains: bool, with_fingerprint: bool) -> None:
    known = known_before_the_merge()
    main = asks("main", NEW)
    here = asks("exp/a", NEW, NEW, ancestor_of_base=contains)
    present = after(main, here, contains=contains, with_fingerprint=with_fingerprint)
    known = settle(present, known)
    assert lifecycle(present, known) == ("merged", "merged into main")
    gone = after(main, contains=contains, with_fingerprint=with_fingerprint)
    assert lifecycle(gone, known) == ("merged", "branch gone: merged into main")


def test_a_fast_forward_is_a_merge_even_after_the_base_is_recorded_at_the_same_commit() -> None:
    known = known_before_the_merge()
    main = asks("main", NEW, commit="exp/a " + NEW.fingerprint)
    assert main.commit == ASKED.commit
    state = after(main, asks("exp/a", NEW, NEW, ancestor_of_base=True), contains=True, with_fingerprint=True)
    assert lifecycle(state, settle(state, known)) == ("merged", "merged into main")


def test_a_squashed_merge_result_that_is_not_the_head_counts_as_merged() -> None:
    both = components(spec="new", data="new")
    state = desired(asks("main", components(data="new")), asks("exp/a", NEW, both))
    known = settle(state)
    merged = desired(
        asks("main", both),
        asks("exp/a", NEW, both),
        base_fingerprints=frozenset({OLD.fingerprint, both.fingerprint}),
    )
    assert lifecycle(merged, settle(merged, known))[0] == "merged"


def test_a_fresh_branch_at_the_commit_of_main_is_open_before_and_after_its_record() -> None:
    fresh = asks("exp/a", OLD, OLD, commit="main " + OLD.fingerprint, ancestor_of_base=True)
    assert fresh.commit == MAIN.commit
    state = desired(MAIN, fresh, base_fingerprints=frozenset({OLD.fingerprint}), base_commits=frozenset({fresh.commit}))
    first = plan_of(state, settle(desired(MAIN)))
    assert first.items[1].lifecycle == "open"
    assert first.items[1].reason.startswith("already run as r")
    assert [action.branch for action in first.actions] == ["exp/a"]
    for known in (settle(state), settle(state, settle(desired(MAIN)))):
        assert lifecycle(state, known)[0] == "open"


def test_a_branch_that_repeats_an_older_main_is_open() -> None:
    known = settle(desired(asks("main", NEW)), settle(desired(MAIN)))
    repeat = asks("exp/a", OLD, NEW, ancestor_of_base=True)
    state = desired(asks("main", NEW), repeat, base_fingerprints=frozenset({OLD.fingerprint, NEW.fingerprint}))
    assert lifecycle(state, settle(state, known))[0] == "open"


def test_a_branch_that_is_gone_and_was_not_merged_is_discarded_with_its_result() -> None:
    state = desired(MAIN, base_fingerprints=frozenset({OLD.fingerprint}))
    plan = plan_of(state, known_before_the_merge())
    (item,) = (item for item in plan.items if item.branch == "exp/a")
    assert (item.lifecycle, item.reason) == ("discarded", "branch gone: discarded")
    assert (item.sync, item.health, item.commit) == ("Synced", "Healthy", ASKED.commit)
    assert (item.author, item.hypothesis) == ("Ada <ada@example.org>", "it helps")
    assert item.metrics["test"]["rmse"] == 2.5
    assert item.as_json()["run"] is not None


def test_a_branch_that_is_gone_after_a_failure_or_a_refusal_is_degraded() -> None:
    state = desired(MAIN, ASKED)
    failed = settle(state, outcome=lambda run: ("deterministic", "train", "no") if run.branch == "exp/a" else None)
    refused = settle(desired(MAIN, asks("exp/a", None, problems=(Problem("conf/config.yaml", "seed", "no"),))))
    for known in (failed, refused):
        item = plan_of(desired(MAIN), known).items[1]
        assert (item.branch, item.sync, item.health) == ("exp/a", "Synced", "Degraded")


def test_a_base_branch_that_is_missing_is_not_an_experiment_that_is_gone() -> None:
    assert plan_of(desired(), settle(desired(MAIN))).items == ()


def test_a_merged_branch_is_not_recorded_again_at_every_move_of_the_base() -> None:
    known = known_before_the_merge()
    for step in range(3):
        moved = components(spec="new", data=str(step))
        state = desired(
            asks("main", moved),
            asks("exp/a", NEW, moved, ancestor_of_base=True),
            base_fingerprints=frozenset({OLD.fingerprint, NEW.fingerprint}),
        )
        assert {action.branch for action in plan_of(state, known).actions} == {"main"}
        known = settle(state, known)


def merged_before_anybody_looked(*others: Experiment) -> DesiredState:
    """The head came by a merge commit, and the base asks for what it asks for."""
    main = asks("main", NEW, commit="merge of exp/a")
    return desired(
        main,
        *others,
        base_fingerprints=frozenset({OLD.fingerprint, NEW.fingerprint}),
        base_commits=frozenset({ASKED.commit}),
        base_first_parents=frozenset({main.commit, MAIN.commit}),
    )


def test_a_branch_that_was_merged_before_its_first_record_is_merged() -> None:
    """Both records land in one fold then, and only the base branch's first-parent chain tells."""
    here = merged_before_anybody_looked(asks("exp/a", NEW, NEW, ancestor_of_base=True))
    first = plan_of(here)
    assert [(item.branch, item.lifecycle) for item in first.items] == [("main", "open"), ("exp/a", "merged")]
    known = settle(here)
    assert len({entry.fold for entry in known if entry.record.body["kind"] == "experiment"}) == 1
    assert lifecycle(here, known) == ("merged", "merged into main")
    assert lifecycle(merged_before_anybody_looked(), known) == ("merged", "branch gone: merged into main")


def test_a_branch_that_was_merged_after_the_base_had_its_fingerprint_is_merged() -> None:
    """As when the same change came to the base before, or the branch changed no fingerprint."""
    known = settle(desired(asks("main", NEW)))
    here = merged_before_anybody_looked(asks("exp/a", NEW, NEW, ancestor_of_base=True))
    assert lifecycle(here, settle(here, known))[0] == "merged"


@pytest.mark.parametrize("commit", ["main " + OLD.fingerprint, "an older main"])
def test_a_fresh_branch_on_the_first_parent_chain_of_the_base_is_open_and_then_discarded(commit: str) -> None:
    fresh = asks("exp/a", OLD, OLD, commit=commit, ancestor_of_base=True)
    asked = {
        "base_fingerprints": frozenset({OLD.fingerprint}),
        "base_commits": frozenset({fresh.commit}),
        "base_first_parents": frozenset({MAIN.commit, fresh.commit}),
    }
    state = desired(MAIN, fresh, **asked)
    known = settle(state)
    assert lifecycle(state, known)[0] == "open"
    assert lifecycle(desired(MAIN, **asked), known)[0] == "discarded"


def test_a_fast_forward_keeps_the_rule_of_the_folds() -> None:
    known = known_before_the_merge()
    main = asks("main", NEW, commit="exp/a " + NEW.fingerprint)
    asked = {"base_commits": frozenset({main.commit}), "base_first_parents": frozenset({main.commit, MAIN.commit})}
    state = desired(main, asks("exp/a", NEW, NEW, ancestor_of_base=True), **asked)
    assert lifecycle(state, settle(state, known))[0] == "merged"
    assert lifecycle(state, settle(state))[0] == "open", "recorded together, it may as well be a branch at main"
