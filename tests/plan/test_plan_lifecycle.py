"""Open, merged or discarded: told from records and the base branch, whatever way a branch was merged."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cd4ml.errors import Problem
from cd4ml.index.history import History
from cd4ml.index.record import Entry
from cd4ml.plan.action import RecordExperiment
from cd4ml.plan.lifecycle import BaseRecord, Became, Lives, lives_of
from cd4ml.plan.state import DesiredState, Experiment, Lifecycle
from tests.plan.plan_world import asks, briefly, components, desired, entry, hexes, plan_of, settle, target

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


def test_a_branch_that_only_repeats_the_base_branch_does_so_when_that_has_another_name() -> None:
    trunk = replace(MAIN, branch="trunk")
    repeat = replace(asks("exp/a", OLD, OLD, ancestor_of_base=True), commit=MAIN.commit)
    known = settle(replace(desired(trunk, repeat, base_fingerprints=frozenset({OLD.fingerprint})), base="trunk"))
    chain = frozenset({MAIN.commit})
    state = desired(MAIN, repeat, base_fingerprints=frozenset({OLD.fingerprint}), base_first_parents=chain)
    assert lifecycle(replace(state, base_before=("trunk",)), known)[0] == "open"
    assert became(replace(state, base_before=("trunk",)), known, "trunk").renamed == "main"
    elsewhere = replace(state, base_before=("trunk",), base_first_parents=frozenset())
    assert lifecycle(elsewhere, known)[0] == "merged", "somebody else's base branch, with other commits"


def test_the_earliest_record_counts_whichever_name_the_base_branch_had_then() -> None:
    """It was called otherwise for a while, and has its name back."""
    prints, repeat = frozenset({OLD.fingerprint}), asks("exp/a", OLD, OLD)
    known = settle(desired(MAIN, repeat, base_fingerprints=prints), settle(desired(MAIN)))
    known = settle(replace(desired(replace(MAIN, branch="trunk")), base="trunk"), known)
    asked = {"base_commits": frozenset({MAIN.commit}), "base_before": ("trunk",)}
    assert lifecycle(desired(MAIN, repeat, base_fingerprints=prints, **asked), known)[0] == "open"


def test_a_branch_that_repeats_main_is_open_however_often_main_comes_back_to_that() -> None:
    """The earliest record of the base branch counts, and not that of the commit that reverted it."""
    repeat = asks("exp/a", OLD, OLD)
    known = settle(desired(MAIN, repeat, base_fingerprints=frozenset({OLD.fingerprint})), settle(desired(MAIN)))
    for main in (asks("main", NEW), asks("main", OLD, commit="a revert")):
        state = desired(main, repeat, base_fingerprints=frozenset({OLD.fingerprint, NEW.fingerprint}))
        known = settle(state, known)
    assert lifecycle(state, known)[0] == "open"


def test_a_fresh_branch_at_a_commit_of_main_that_is_refused_is_open_and_then_discarded() -> None:
    """What is refused has no fingerprint: the commit alone tells that the base branch had it before."""
    problems = (Problem("conf/config.yaml", "seed", "no"),)
    main = asks("main", None, problems=problems)
    fresh = asks("exp/a", None, problems=problems, commit="main refused", ancestor_of_base=True)
    assert fresh.commit == main.commit
    asked = {"base_commits": frozenset({main.commit}), "base_first_parents": frozenset({main.commit})}
    state = desired(main, fresh, **asked)
    known = settle(state)
    assert lifecycle(state, known)[0] == "open"
    assert lifecycle(desired(main, **asked), known)[0] == "discarded"


def test_what_goes_on_after_its_squash_is_open_and_run() -> None:
    known = known_before_the_merge()
    main, prints = asks("main", NEW), frozenset({OLD.fingerprint, NEW.fingerprint})
    known = settle(desired(main, ASKED, base_fingerprints=prints), known)
    more = components(spec="more")
    state = desired(main, asks("exp/a", more, more), base_fingerprints=prints)
    plan = plan_of(state, known)
    assert (plan.items[1].lifecycle, briefly(plan, "exp/a")) == ("open", ["run head"])
    known = settle(state, known)
    assert lifecycle(state, known)[0] == "open"


@pytest.mark.parametrize("landed", ["1", "2"])
def test_a_squash_of_any_merge_result_that_was_recorded_counts_as_merged(landed: str) -> None:
    """The base branch moved between two records of one commit, and may have moved back since."""
    both = {data: components(spec="new", data=data) for data in ("1", "2")}
    known: list[Entry] = []
    for data, merge in both.items():
        known = settle(desired(asks("main", components(data=data)), asks("exp/a", NEW, merge)), known)
    main, here = asks("main", both[landed], commit="squash"), asks("exp/a", NEW, both[landed])
    state = desired(main, here, base_fingerprints=frozenset({both[landed].fingerprint}))
    known = settle(state, known)
    (item,) = (item for item in plan_of(state, known).items if item.branch == "exp/a")
    assert (item.lifecycle, item.merge_fingerprint) == ("merged", both["2"].fingerprint)
    assert lifecycle(replace(state, experiments=(main,)), known)[0] == "merged"


def test_a_fast_forward_that_was_noted_afterwards_stays_merged() -> None:
    """A note is a further record of the commit, and younger than the base branch's."""
    main = asks("main", NEW, commit="exp/a " + NEW.fingerprint)
    state = after(main, asks("exp/a", NEW, NEW, ancestor_of_base=True), contains=True, with_fingerprint=False)
    known = settle(state, known_before_the_merge())
    body = dict(History.of(known).of_branch("exp/a")[-1].experiment.body, conclusion="it helps")
    del body["id"], body["schema"]
    known.append(entry(body, 1 + max(one.fold for one in known)))
    assert lifecycle(state, known)[0] == "merged"
    assert lifecycle(after(main, contains=True, with_fingerprint=False), known)[0] == "merged"


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


# ── squash merges by content ──


def test_a_squash_that_changed_every_fingerprint_on_the_way_is_told_by_its_content() -> None:
    """As where the project's own metrics make the base branch's code part of every fingerprint."""
    known = known_before_the_merge()
    state = desired(asks("main", components(spec="another")), ASKED, landed_as={ASKED.commit: hexes("squash", 40)})
    assert lifecycle(state, settle(state, known))[0] == "merged"
    gone = replace(state, experiments=(state.experiments[0],))
    assert lifecycle(gone, settle(state, known)) == ("merged", "branch gone: merged into main")
    assert became(gone, settle(state, known)).commit == hexes("squash", 40)


def test_a_squash_that_is_seen_first_after_it_is_merged_before_and_after_its_record() -> None:
    state = desired(asks("main", components(spec="another")), ASKED, landed_as={ASKED.commit: hexes("squash", 40)})
    (item,) = (item for item in plan_of(state).items if item.branch == "exp/a")
    assert item.lifecycle == "merged"
    assert lifecycle(state, settle(state))[0] == "merged"


def test_of_a_squash_the_commit_with_its_content_is_told_rather_than_the_first_with_its_fingerprint() -> None:
    known, squash, other = known_before_the_merge(), hexes("squash", 40), hexes("first with the fingerprint", 40)
    state = after(asks("main", NEW), contains=False, with_fingerprint=True)
    state = replace(state, base_asked={NEW.fingerprint: other})
    assert became(state, known).commit == other
    assert became(replace(state, landed_as={ASKED.commit: squash}), known).commit == squash


@pytest.mark.parametrize("how", ["squash", "merge"])
def test_of_what_was_merged_before_its_first_record_the_commit_that_brought_it_is_known(how: str) -> None:
    brought = {ASKED.commit: hexes(how, 40)}
    if how == "squash":
        state = desired(asks("main", components(spec="another")), ASKED, landed_as=brought)
    else:
        state = merged_before_anybody_looked(asks("exp/a", NEW, NEW, ancestor_of_base=True))
        state = replace(state, brought_by=brought)
    state = replace(state, signed={hexes(how, 40): ("Eve", "then")})
    assert became(state, []) == Became(became(state, []).lifecycle, "Eve", "then", hexes(how, 40))
    assert became(state, []).lifecycle == "merged"


# ── lives of a name ──


def became(state: DesiredState, known: list[Entry], branch: str = "exp/a") -> Became:
    return lives(state, known, branch).became


def lives(state: DesiredState, known: list[Entry], branch: str = "exp/a") -> Lives:
    history = History.of(known)
    there = next((one for one in state.experiments if one.branch == branch), None)
    return lives_of(branch, history, state, BaseRecord.of(history, state), there)


ANEW = asks("exp/a", components(spec="anew"), components(spec="anew"))


def test_a_life_that_ended_stays_discarded_while_the_name_lives_again() -> None:
    known = settle(desired(MAIN, ANEW), known_before_the_merge())
    found = lives(desired(MAIN, ANEW, begun_anew=frozenset({(ASKED.commit, ANEW.commit)})), known)
    assert (found.became.lifecycle, found.of(ANEW.commit).lifecycle) == ("open", "open")
    assert (found.of(ASKED.commit).lifecycle, found.of(ASKED.commit).commit) == ("discarded", ASKED.commit)


def test_a_life_that_was_merged_stays_merged_while_the_name_lives_again_and_is_discarded() -> None:
    merged = {"base_commits": frozenset({ASKED.commit}), "base_first_parents": frozenset({MAIN.commit})}
    anew = frozenset({(ASKED.commit, ANEW.commit)})
    known = settle(desired(MAIN, ANEW), known_before_the_merge())
    brought = {ASKED.commit: hexes("the merge", 40)}
    state = desired(
        MAIN, **merged, begun_anew=anew, brought_by=brought, signed={hexes("the merge", 40): ("Eve", "then")}
    )
    found = lives(state, known)
    assert found.became.lifecycle == "discarded"
    assert found.of(ASKED.commit) == Became(found.of(ASKED.commit).lifecycle, "Eve", "then", hexes("the merge", 40))
    assert found.of(ASKED.commit).lifecycle == "merged"


def test_earlier_commits_of_one_life_fare_as_the_last() -> None:
    known = settle(desired(MAIN, ANEW), known_before_the_merge())
    assert lives(desired(MAIN, ANEW), known).earlier == {}
    assert lives(desired(MAIN), known).of(ASKED.commit).lifecycle == "discarded"


def test_a_life_that_was_merged_stays_merged_while_the_name_lives_again_and_is_open() -> None:
    anew = frozenset({(ASKED.commit, ANEW.commit)})
    merged = {"base_commits": frozenset({ASKED.commit}), "base_first_parents": frozenset({MAIN.commit})}
    state = desired(MAIN, ANEW, begun_anew=anew, **merged)
    found = lives(state, settle(state, known_before_the_merge()))
    assert (found.of(ASKED.commit).lifecycle, found.of(ANEW.commit).lifecycle) == ("merged", "open")


def test_all_commits_of_an_earlier_life_fare_as_its_last() -> None:
    later = asks("exp/a", components(spec="later"), components(spec="later"))
    known = settle(desired(MAIN, ANEW), settle(desired(MAIN, later), known_before_the_merge()))
    anew, squash = frozenset({(later.commit, ANEW.commit)}), {later.commit: hexes("squash", 40)}
    found = lives(desired(MAIN, ANEW, begun_anew=anew, landed_as=squash), known)
    assert found.of(ASKED.commit) == found.of(later.commit)
    assert (found.of(ASKED.commit).lifecycle, found.became.lifecycle) == ("merged", "open")


def recorded_again(known: list[Entry], one: Experiment = ASKED) -> list[Entry]:
    """The same commit has a further record, since the base branch has moved."""
    moved = components(spec="new", data="moved")
    here = replace(one, merge=target(moved, "m", "merge"))
    return settle(desired(asks("main", components(data="moved")), here), known)


def test_the_commit_that_was_recorded_last_stands_for_a_branch_that_is_gone() -> None:
    """Also where the branch had gone elsewhere in between, and came back."""
    known = recorded_again(settle(desired(MAIN, ANEW), known_before_the_merge()))
    last = History.of(known).of_branch("exp/a")[-1]
    assert last.experiment.commit == ASKED.commit
    signed = {one.result_commit: ("whoever", f"in fold {one.fold}") for one in known}
    gone = became(desired(MAIN, signed=signed), known)
    assert (gone.lifecycle, gone.commit) == ("discarded", ASKED.commit)
    assert (gone.by, gone.when) == (last.entry.landed_by, f"in fold {last.entry.fold}")


# ── renamed ──


def renamed(*others: Experiment, to: tuple[str, ...] = ("exp/b",)) -> DesiredState:
    return desired(MAIN, *others, continued_by={ASKED.commit: to})


B = asks("exp/b", NEW, NEW, commit="exp/a " + NEW.fingerprint)


def test_a_branch_that_is_gone_while_a_newer_one_has_its_commit_was_renamed() -> None:
    known = known_before_the_merge()
    for entries in (known, settle(renamed(B), known)):
        assert (became(renamed(B), entries).lifecycle, became(renamed(B), entries).renamed) == ("open", "exp/b")
        assert lifecycle(renamed(B), entries)[1] == "branch gone: renamed to exp/b"


def test_a_branch_that_was_renamed_went_on_and_was_merged_is_merged() -> None:
    went_on = asks("exp/b", components(spec="went on"), components(spec="went on"))
    known = settle(renamed(went_on), known_before_the_merge())
    state = replace(renamed(went_on), landed_as={went_on.commit: hexes("squash", 40)})
    assert (became(state, known).lifecycle, became(state, known).renamed) == ("merged", "exp/b")


def test_a_copy_that_was_recorded_beside_it_is_another_branch() -> None:
    known = settle(desired(MAIN, ASKED, B))
    assert (became(renamed(B), known).lifecycle, became(renamed(B), known).renamed) == ("discarded", "")
    third = replace(B, branch="exp/c")
    assert became(renamed(B, third, to=("exp/b", "exp/c")), known).renamed == "exp/c"


def test_a_branch_that_was_there_with_other_work_and_took_it_in_is_another_branch() -> None:
    other = asks("exp/b", components(spec="other"), components(spec="other"))
    known = settle(desired(MAIN, ASKED, other))
    took_in = asks("exp/b", components(spec="both"), components(spec="both"))
    assert (became(renamed(took_in), known).lifecycle, became(renamed(took_in), known).renamed) == ("discarded", "")


def test_a_branch_that_was_renamed_stays_so_when_its_old_name_is_used_for_other_work() -> None:
    known = settle(renamed(B), known_before_the_merge())
    anew = frozenset({(ASKED.commit, ANEW.commit)})
    state = replace(renamed(B), experiments=(MAIN, B, ANEW), begun_anew=anew)
    known = settle(state, known)
    assert became(state, known).lifecycle == "open"
    assert lives(state, known).of(ASKED.commit) == Became(Lifecycle.OPEN, commit=ASKED.commit, renamed="exp/b")


def test_an_earlier_life_that_was_discarded_stays_that_when_somebody_begins_another_branch_from_it() -> None:
    anew = frozenset({(ASKED.commit, ANEW.commit)})
    known = settle(desired(MAIN, ANEW, begun_anew=anew), known_before_the_merge())
    state = replace(renamed(B), experiments=(MAIN, B, ANEW), begun_anew=anew)
    for entries in (known, settle(state, known)):
        assert lives(state, entries).of(ASKED.commit).lifecycle == "discarded"


def test_a_copy_that_came_later_and_stood_beside_it_is_another_branch() -> None:
    known = recorded_again(settle(desired(MAIN, ASKED, B), known_before_the_merge()))
    assert (became(renamed(B), known).lifecycle, became(renamed(B), known).renamed) == ("discarded", "")


def test_a_branch_that_was_renamed_merged_and_goes_on_is_open_by_its_new_name() -> None:
    went_on, later = (asks("exp/b", components(spec=word), components(spec=word)) for word in ("went on", "later"))
    known = settle(renamed(later), settle(renamed(went_on), known_before_the_merge()))
    state = replace(renamed(later), landed_as={went_on.commit: hexes("squash", 40)})
    found = became(state, known)
    assert (found.lifecycle, found.renamed, found.commit) == ("open", "exp/b", ASKED.commit)


# ── gone before anybody looked ──


def test_a_vanished_head_is_recorded_once_and_never_run() -> None:
    state = desired(MAIN, vanished=(ASKED,))
    known = settle(desired(MAIN))
    plan = plan_of(state, known)
    assert briefly(plan, "exp/a") == ["record"]
    (item,) = (item for item in plan.items if item.branch == "exp/a")
    assert (item.lifecycle, item.health, item.sync) == ("discarded", "Unknown", "OutOfSync")
    assert item.reason == "branch gone before it was ever recorded; nothing answers it"
    known = settle(state, known)
    assert lifecycle(state, known) == ("discarded", "branch gone: discarded")


def test_a_vanished_head_is_recorded_with_the_run_that_answers_it() -> None:
    known = settle(desired(MAIN, asks("exp/other", NEW, NEW)))
    (item,) = (item for item in plan_of(desired(MAIN, vanished=(ASKED,)), known).items if item.branch == "exp/a")
    (action,) = item.actions
    assert isinstance(action, RecordExperiment)
    assert action.answer["head"] == action.answer["merge"] == item.answer["head"] is not None


def test_a_vanished_head_waits_for_a_run_of_the_same_that_another_branch_asks_for() -> None:
    """As of a branch that was merged by a fast-forward and deleted before anybody reconciled it."""
    state = desired(asks("main", NEW), vanished=(asks("exp/a", NEW, NEW),))
    assert briefly(plan_of(state), "exp/a") == briefly(plan_of(state, named=frozenset({"exp/a"})), "exp/a") == []
    (record,) = History.of(settle(state)).of_branch("exp/a")
    assert record.experiment.answer["head"] is not None


def test_a_vanished_head_that_is_there_under_another_name_was_renamed_and_is_recorded_once_that_is_gone() -> None:
    other = replace(ASKED, branch="exp/b")
    known = settle(desired(MAIN, other))
    state = desired(MAIN, other, vanished=(ASKED,))
    (item,) = (item for item in plan_of(state, known).items if item.branch == "exp/a")
    assert (item.actions, item.lifecycle, item.reason) == ((), "open", "branch gone: renamed to exp/b")
    assert item.as_json()["renamed"] == "exp/b"
    assert briefly(plan_of(desired(MAIN, vanished=(ASKED,)), known), "exp/a") == ["record"]


def test_a_vanished_head_that_was_merged_is_recorded_as_that_also_where_a_copy_is_there() -> None:
    merged = replace(ASKED, ancestor_of_base=True)
    copy, chain = replace(merged, branch="exp/b"), frozenset({MAIN.commit})
    state = desired(MAIN, copy, vanished=(merged,), base_first_parents=chain)
    known = settle(state)
    assert len(History.of(known).of_branch("exp/a")) == 1
    assert became(replace(state, vanished=(), base_commits=frozenset({merged.commit})), known).lifecycle == "merged"


def test_a_vanished_head_that_is_elsewhere_in_this_clone_alone_is_recorded() -> None:
    mine = replace(ASKED, branch="exp/b", published=False)
    assert briefly(plan_of(desired(MAIN, mine, vanished=(ASKED,)), settle(desired(MAIN))), "exp/a") == ["record"]


def test_a_vanished_head_whose_name_lives_again_is_recorded_beside_the_new_one() -> None:
    state = desired(MAIN, ANEW, vanished=(ASKED,), begun_anew=frozenset({(ASKED.commit, ANEW.commit)}))
    known = settle(state)
    assert {entry.experiment.commit for entry in History.of(known).of_branch("exp/a")} == {ASKED.commit, ANEW.commit}
    assert lives(state, known).of(ASKED.commit).lifecycle == "discarded"
    assert became(state, known).lifecycle == "open"


# ── whatever happened ──

COMMITS = [asks("exp/a", NEW, NEW, commit=letter) for letter in "vwxyz"]


@given(
    st.lists(st.sampled_from(COMMITS), min_size=1, max_size=6),
    st.sets(st.sampled_from([one.commit for one in COMMITS])),
    st.sets(st.tuples(*[st.sampled_from([one.commit for one in COMMITS])] * 2)),
    st.booleans(),
)
def test_every_recorded_commit_of_a_name_has_a_fate_and_only_the_last_life_can_be_open(
    pushed: list[Experiment], landed: set[str], anew: set[tuple[str, str]], there: bool
) -> None:
    known: list[Entry] = []
    for one in pushed:
        known = settle(desired(MAIN, one), known)
    head = (pushed[-1],) if there else ()
    facts = {"landed_as": {one: hexes(f"squash of {one}", 40) for one in landed}, "begun_anew": frozenset(anew)}
    found = lives(desired(MAIN, *head, **facts), known)
    last = pushed[-1].commit if there else History.of(known).of_branch("exp/a")[-1].experiment.commit
    assert found.of(last) == found.became
    assert (found.became.lifecycle == "merged") == (last in landed)
    assert (found.became.lifecycle == "open") == (there and last not in landed)
    for commit in {one.commit for one in pushed}:
        fate = found.of(commit)
        if commit in landed:
            assert (fate.lifecycle, fate.commit) == ("merged", hexes(f"squash of {commit}", 40))
        if fate.lifecycle == "open":
            assert fate == found.became
        if fate.lifecycle == "discarded":
            assert not (there and commit == last)
