"""Each way in which an experiment can stand, its reason, and what is done about it."""

from __future__ import annotations

import pytest

from cd4ml.errors import Problem
from cd4ml.index.history import History
from cd4ml.index.record import Entry, ExperimentRecord, RunRecord
from cd4ml.plan.action import Plan, PlanItem, RecordExperiment, Run, experiment_body
from tests.plan.plan_world import (
    Outcome,
    apply,
    asks,
    briefly,
    components,
    desired,
    entry,
    plan_of,
    run_entry,
    settle,
    succeeds,
)

BASE = components()
OTHER = components(spec="other")
MAIN = asks("main", BASE)
REJECTED: Outcome = ("deterministic", "validate", "1 of 7 expectations failed")
KILLED: Outcome = ("transient", "train", "killed")


def item_of(plan: Plan, branch: str) -> PlanItem:
    (item,) = (item for item in plan.items if item.branch == branch)
    return item


def stands(item: PlanItem) -> tuple[str, str, str]:
    return (item.sync, item.health, item.lifecycle)


def rejects(_run: Run) -> Outcome:
    return REJECTED


def run_ids(entries: list[Entry]) -> list[str]:
    return [entry.record.id for entry in entries if isinstance(entry.record, RunRecord)]


def records_of(entries: list[Entry], branch: str) -> list[ExperimentRecord]:
    return [entry.experiment for entry in History.of(entries).of_branch(branch)]


def test_what_was_never_run_is_run_and_says_so() -> None:
    plan = plan_of(desired(MAIN, asks("exp/a", OTHER, OTHER)))
    assert stands(item_of(plan, "exp/a")) == ("OutOfSync", "Missing", "open")
    assert item_of(plan, "exp/a").reason == "never run"
    assert briefly(plan, "exp/a") == ["run head"]
    assert [action.branch for action in plan.actions] == ["main", "exp/a"]


def test_a_run_is_followed_by_its_record_and_then_by_nothing() -> None:
    state = desired(MAIN)
    ran = apply(plan_of(state), [])
    second = plan_of(state, ran)
    assert briefly(second, "main") == ["record"]
    assert second.actions[0].why == f"answered by {run_ids(ran)[0]}"
    done = apply(second, ran)
    third = plan_of(state, done)
    assert third.is_empty
    assert stands(third.items[0]) == ("Synced", "Healthy", "open")
    assert third.items[0].reason == f"up to date: result {run_ids(ran)[0]}"
    assert third.items[0].metrics["validation"]["rmse"] == 1.5


@pytest.mark.parametrize(
    ("moved", "reason"),
    [
        ({"spec": "2"}, "spec moved"),
        ({"data": "2"}, "data moved"),
        ({"code": "2"}, "code moved"),
        ({"pipeline": "2"}, "pipeline moved"),
        ({"spec": "2", "data": "2"}, "spec and data moved"),
        ({"spec": "2", "code": "2", "data": "2", "env": "2"}, "spec, code and data moved"),
    ],
)
def test_what_moved_since_the_last_answer_is_named(moved: dict[str, str], reason: str) -> None:
    """An environment that moved along is not named: it would not have caused the run."""
    before = settle(desired(asks("exp/a", BASE, BASE)))
    plan = plan_of(desired(asks("exp/a", components(**moved), components(**moved))), before)
    assert item_of(plan, "exp/a").reason == reason
    assert briefly(plan, "exp/a") == ["run head"]


def test_an_older_environment_alone_runs_nothing_again() -> None:
    before = settle(desired(MAIN))
    newer = components(env="newer")
    plan = plan_of(desired(asks("main", newer)), before)
    assert stands(plan.items[0]) == ("Synced", "Healthy", "open")
    assert plan.items[0].reason == f"environment older: run as {run_ids(before)[0]} under another lock"
    assert briefly(plan, "main") == ["record"]
    assert plan.items[0].answer["head"] == run_ids(before)[0]


@pytest.mark.parametrize(
    "policy",
    [{"refresh_env": True}, {"rerun_on": ("spec", "code", "data", "pipeline", "env")}],
)
def test_an_older_environment_is_run_again_when_asked(policy: dict[str, object]) -> None:
    before = settle(desired(MAIN))
    plan = plan_of(desired(asks("main", components(env="newer"))), before, **policy)
    assert briefly(plan, "main") == ["run head"]
    assert plan.items[0].reason == "environment moved"


def test_a_run_of_the_very_fingerprint_is_preferred_to_an_equivalent_one() -> None:
    old = run_entry(components(env="old"), "main", fold=1)
    exact = run_entry(BASE, "main", fold=2)
    assert item_of(plan_of(desired(MAIN), [old, exact]), "main").answer["head"] == exact.record.id


def test_a_component_that_main_leaves_out_of_rerun_on_is_tolerated_by_name() -> None:
    before = settle(desired(MAIN))
    plan = plan_of(desired(asks("main", components(pipeline="2"))), before, rerun_on=("spec", "code", "data"))
    assert plan.items[0].sync == "Synced"
    assert "another pipeline, which experiments.rerun_on leaves out" in plan.items[0].reason


def test_an_empty_rerun_on_does_not_let_any_run_answer() -> None:
    plan = plan_of(desired(asks("main", OTHER)), [run_entry(BASE, "main")], rerun_on=())
    assert briefly(plan, "main") == ["run head"]


# ── the merge result ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_merge_result_that_differs_is_run_too_after_the_head() -> None:
    plan = plan_of(desired(asks("exp/a", OTHER, components(spec="other", data="new"))))
    assert briefly(plan, "exp/a") == ["run head", "run merge"]
    assert plan.actions[1].why == "merge result differs from the head in data"


def test_a_base_branch_that_moves_asks_for_the_new_merge_result_only() -> None:
    before = settle(desired(MAIN, asks("exp/a", OTHER, OTHER)))
    moved = components(data="new")
    state = desired(asks("main", moved), asks("exp/a", OTHER, components(spec="other", data="new")))
    plan = plan_of(state, before)
    item = item_of(plan, "exp/a")
    assert briefly(plan, "exp/a") == ["run merge"]
    assert item.reason == "merge result differs from the head in data"
    assert stands(item) == ("OutOfSync", "Missing", "open")
    after = settle(state, before)
    last = records_of(after, "exp/a")[-1]
    assert None not in last.answer.values()
    assert last.answer["head"] != last.answer["merge"]
    assert item_of(plan_of(state, after), "exp/a").sync == "Synced"


def test_equal_fingerprints_of_both_sides_are_answered_by_one_run() -> None:
    done = settle(desired(asks("exp/a", OTHER, OTHER)))
    (record,) = records_of(done, "exp/a")
    assert record.answer == {"head": run_ids(done)[0], "merge": run_ids(done)[0]}


def test_a_merge_result_under_another_lock_waits_for_the_run_of_the_head() -> None:
    state = desired(asks("exp/a", OTHER, components(spec="other", env="newer")))
    assert briefly(plan_of(state), "exp/a") == ["run head"]
    assert len(run_ids(settle(state))) == 1


def test_a_merge_result_under_another_lock_is_run_when_the_head_failed() -> None:
    state = desired(asks("exp/a", OTHER, components(spec="other", env="newer")))
    failed = apply(plan_of(state), [], rejects)
    assert briefly(plan_of(state, failed), "exp/a") == ["run merge"]


def test_a_conflict_names_the_files_and_leaves_sync_to_the_head() -> None:
    asked = asks("exp/a", OTHER, conflicts=("conf/config.yaml",))
    plan = plan_of(desired(asked))
    assert item_of(plan, "exp/a").reason == "never run; conflicts with main in conf/config.yaml: take main in"
    assert briefly(plan, "exp/a") == ["run head"]
    done = settle(desired(asked))
    item = item_of(plan_of(desired(asked), done), "exp/a")
    assert stands(item) == ("Synced", "Healthy", "open")
    assert item.reason == "conflicts with main in conf/config.yaml: take main in"
    assert records_of(done, "exp/a")[0].body["conflicts"] == ["conf/config.yaml"]


def test_a_merge_result_that_fails_makes_the_experiment_degraded() -> None:
    state = desired(asks("exp/a", OTHER, components(spec="other", data="new")))
    done = settle(state, outcome=lambda run: REJECTED if run.target.side == "merge" else None)
    item = item_of(plan_of(state, done), "exp/a")
    assert stands(item) == ("Synced", "Degraded", "open")
    assert item.reason == "merge result: failed at validate: 1 of 7 expectations failed"


PROBLEMS = (
    Problem("conf/model/ridge.yaml", "model.estimator", "names no class", "write `_target_`"),
    Problem("conf/config.yaml", "seed", "must be a whole number"),
    Problem("conf/config.yaml", "tags", "must be a list"),
)


def test_a_merge_result_that_is_refused_makes_the_experiment_degraded() -> None:
    state = desired(asks("exp/a", OTHER, merge_problems=PROBLEMS[1:2]))
    done = settle(state)
    item = item_of(plan_of(state, done), "exp/a")
    assert stands(item) == ("Synced", "Degraded", "open")
    assert item.reason == "merge result: conf/config.yaml: seed: must be a whole number"
    assert records_of(done, "exp/a")[0].body["problems"][0]["key"] == "seed"


# ── failures ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_failure_for_good_is_recorded_and_not_run_again() -> None:
    state = desired(asks("exp/a", OTHER, OTHER))
    done = settle(state, outcome=rejects)
    item = item_of(plan_of(state, done), "exp/a")
    assert stands(item) == ("Synced", "Degraded", "open")
    assert item.reason == "failed at validate: 1 of 7 expectations failed"
    assert item.actions == ()
    assert records_of(done, "exp/a")[0].answer["head"] == run_ids(done)[0]


def test_a_failure_is_tried_again_when_asked_and_its_success_recorded() -> None:
    state = desired(asks("exp/a", OTHER, OTHER), asks("exp/b", BASE, BASE))
    done = settle(state, outcome=rejects)
    plan = plan_of(state, done, retry=frozenset({"exp/a"}))
    assert [action.branch for action in plan.actions] == ["exp/a"]
    assert plan.actions[0].why == "failed at validate: 1 of 7 expectations failed (asked to try again)"
    healed = settle(state, apply(plan, done, succeeds))
    assert item_of(plan_of(state, healed), "exp/a").health == "Healthy"
    assert records_of(healed, "exp/a")[-1].answer["head"] == run_ids(healed)[-1]


def test_a_further_failure_for_good_replaces_the_one_before_it() -> None:
    state = desired(asks("exp/a", OTHER, OTHER))
    done = settle(state, outcome=rejects)
    again = apply(plan_of(state, done, retry=frozenset({"exp/a"})), done, lambda _run: ("deterministic", "train", "no"))
    assert item_of(plan_of(state, again), "exp/a").reason == "failed at train: no"
    assert records_of(settle(state, again), "exp/a")[-1].answer["head"] == run_ids(again)[-1]


def test_an_interrupted_run_is_tried_again_a_counted_number_of_times() -> None:
    state = desired(asks("exp/a", OTHER, OTHER))
    known: list[Entry] = []
    said = []
    for _ in range(5):
        plan = plan_of(state, known, retries=2)
        said.append((item_of(plan, "exp/a").reason, item_of(plan, "exp/a").health, briefly(plan, "exp/a")))
        known = apply(plan, known, lambda _run: KILLED)
    assert said == [
        ("never run", "Missing", ["run head"]),
        ("failed at train: killed (attempt 1 of 3)", "Progressing", ["run head"]),
        ("failed at train: killed (attempt 2 of 3)", "Progressing", ["run head"]),
        ("failed at train: killed (attempt 3 of 3)", "Degraded", ["record"]),
        ("failed at train: killed (attempt 3 of 3)", "Degraded", []),
    ]


def test_exhausted_tries_are_taken_up_again_when_asked() -> None:
    state = desired(asks("exp/a", OTHER, OTHER))
    known = settle(state, outcome=lambda _run: KILLED, rounds=4)
    assert briefly(plan_of(state, known, retry=frozenset({"exp/a"})), "exp/a") == ["run head"]


def test_a_failure_for_good_outranks_an_older_environments_success_and_an_interruption_does_not() -> None:
    newer = components(env="newer")
    old = run_entry(BASE, "main", fold=1)
    rejected = plan_of(desired(asks("main", newer)), [old, run_entry(newer, "main", fold=2, outcome=REJECTED)])
    assert rejected.items[0].health == "Degraded"
    killed = plan_of(desired(asks("main", newer)), [old, run_entry(newer, "main", fold=2, outcome=KILLED)])
    assert stands(killed.items[0])[:2] == ("Synced", "Healthy")


def test_a_failure_is_tried_again_under_another_environment() -> None:
    done = settle(desired(MAIN), outcome=rejects)
    plan = plan_of(desired(asks("main", components(env="newer"))), done)
    assert briefly(plan, "main") == ["run head"]
    assert plan.items[0].reason == "environment moved"


# ── runs that answer several ─────────────────────────────────────────────────────────────────────────────────────


def test_another_branchs_run_answers_without_a_run_but_with_a_record() -> None:
    before = settle(desired(asks("exp/a", OTHER, OTHER)))
    state = desired(asks("exp/a", OTHER, OTHER), asks("exp/b", OTHER, OTHER))
    plan = plan_of(state, before)
    item = item_of(plan, "exp/b")
    assert item.reason == f"already run as {run_ids(before)[0]} (branch exp/a)"
    assert item.sync == "Synced"
    assert briefly(plan, "exp/b") == ["record"]
    assert plan_of(state, settle(state, before)).is_empty


def test_a_commit_that_moves_no_component_is_recorded_and_not_run() -> None:
    before = settle(desired(asks("exp/a", OTHER, OTHER)))
    plan = plan_of(desired(asks("exp/a", OTHER, OTHER, commit="a comment")), before)
    commit = asks("exp/a", OTHER).commit[:7]
    assert item_of(plan, "exp/a").reason == f"already run as {run_ids(before)[0]} (commit {commit})"
    assert briefly(plan, "exp/a") == ["record"]


def test_two_branches_that_ask_for_the_same_share_one_run() -> None:
    state = desired(asks("exp/b", OTHER, OTHER), asks("exp/a", OTHER, OTHER))
    plan = plan_of(state)
    assert [action.branch for action in plan.actions] == ["exp/a"]
    assert item_of(plan, "exp/b").reason == "never run; runs as exp/a, which asks for the same"
    done = settle(state)
    assert len(run_ids(done)) == 1
    assert History.of(done).branches == ("exp/a", "exp/b")


def test_a_branch_whose_actions_could_not_be_applied_leaves_its_run_to_the_next() -> None:
    state = desired(asks("exp/a", OTHER, OTHER), asks("exp/b", OTHER, OTHER), asks("exp/c", OTHER, OTHER))
    plan = plan_of(state, failed=frozenset({"exp/a"}))
    assert [(action.branch, type(action)) for action in plan.actions] == [("exp/b", Run)]
    assert item_of(plan, "exp/c").reason == "never run; runs as exp/b, which asks for the same"
    assert item_of(plan, "exp/a").reason == "never run"
    assert stands(item_of(plan, "exp/a")) == ("OutOfSync", "Missing", "open")


def test_a_refusal_whose_record_could_not_be_written_is_not_synced() -> None:
    state = desired(asks("exp/a", None, problems=PROBLEMS))
    plan = plan_of(state, failed=frozenset({"exp/a"}))
    assert plan.is_empty
    assert plan.items[0].sync == "OutOfSync"


# ── whose heads ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("known", [False, True], ids=["first seen", "settled"])
def test_a_local_head_ahead_of_the_pushed_one_is_shown_and_changes_nothing_else(known: bool) -> None:
    pushed = asks("exp/a", OTHER, OTHER)
    ahead = asks("exp/a", OTHER, OTHER, unpushed="abc1234" + "0" * 33)
    entries = settle(desired(MAIN, pushed)) if known else []
    before, after = (item_of(plan_of(desired(MAIN, one), entries), "exp/a") for one in (pushed, ahead))
    assert after.reason == before.reason + "; local head abc1234 is not pushed"
    assert (after.as_json()["unpushed"], before.as_json()["unpushed"]) == ("abc1234" + "0" * 33, None)
    assert stands(after) == stands(before)
    assert after.commit == before.commit
    assert [action.as_json() for action in after.actions] == [action.as_json() for action in before.actions]


def test_only_named_branches_get_actions_and_the_others_keep_their_reasons() -> None:
    state = desired(MAIN, asks("exp/a", OTHER, OTHER), asks("exp/b", components(spec="b"), components(spec="b")))
    plan = plan_of(state, named=frozenset({"exp/b"}))
    assert [action.branch for action in plan.actions] == ["exp/b"]
    assert item_of(plan, "exp/a").reason == "never run"


def test_a_branch_that_is_not_named_does_not_take_the_run_of_one_that_is() -> None:
    state = desired(asks("exp/a", OTHER, OTHER), asks("exp/b", OTHER, OTHER))
    assert briefly(plan_of(state, named=frozenset({"exp/b"})), "exp/b") == ["run head"]


def test_a_head_that_is_not_pushed_is_shown_and_not_run() -> None:
    plan = plan_of(desired(asks("exp/a", OTHER, OTHER, published=False)))
    assert plan.items[0].sync == "Unknown"
    assert plan.items[0].reason == "not pushed"
    assert plan.is_empty


def test_a_head_that_is_not_pushed_is_run_when_named_and_lands_only_when_published() -> None:
    state = desired(asks("exp/a", OTHER, OTHER, published=False))
    named = frozenset({"exp/a"})
    plan = plan_of(state, named=named)
    assert briefly(plan, "exp/a") == ["run head"]
    assert plan.items[0].reason == "not pushed; never run"
    assert plan.items[0].sync == "OutOfSync"
    ran = apply(plan, [])
    assert briefly(plan_of(state, ran, named=named), "exp/a") == []
    assert briefly(plan_of(state, ran, named=named, publish=True), "exp/a") == ["record"]


def test_publish_alone_acts_on_nothing_that_was_not_named() -> None:
    assert plan_of(desired(asks("exp/a", OTHER, OTHER, published=False)), publish=True).is_empty


# ── refused ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_refused_configuration_is_recorded_once_and_never_run() -> None:
    state = desired(asks("exp/a", None, BASE, problems=PROBLEMS))
    plan = plan_of(state)
    item = item_of(plan, "exp/a")
    assert stands(item) == ("OutOfSync", "Degraded", "open")
    assert item.reason == "conf/model/ridge.yaml: model.estimator: names no class (write `_target_`) (+2 more)"
    assert briefly(plan, "exp/a") == ["record"]
    assert plan.actions[0].why == "configuration refused"
    done = apply(plan, [])
    assert stands(item_of(plan_of(state, done), "exp/a")) == ("Synced", "Degraded", "open")
    assert plan_of(state, done).is_empty
    body = records_of(done, "exp/a")[0].body
    assert (body["fingerprint"], body["merge_fingerprint"], body["merge_commit"]) == (None, None, None)
    assert body["problems"][2] == {"file": "conf/config.yaml", "key": "tags", "message": "must be a list", "hint": ""}


@pytest.mark.parametrize("name", ["exp/" + "x" * 252, "exp/\x85", "exp/\u2028"])
def test_a_branch_that_no_record_can_name_is_refused_and_not_run_for_ever(name: str) -> None:
    state = desired(MAIN, asks(name, OTHER, OTHER))
    item = item_of(plan_of(state), name)
    assert (item.health, item.actions) == ("Degraded", ())
    assert "cannot be recorded" in item.reason
    assert len(plan_of(state).actions) == 1


# ── notes, and records once ──────────────────────────────────────────────────────────────────────────────────────


def noted(known: list[Entry], branch: str, conclusion: str) -> list[Entry]:
    body = {**records_of(known, branch)[-1].body, "conclusion": conclusion, "noted_by": "Ada <ada@example.org>"}
    del body["id"], body["schema"]
    return [*known, entry(body, max(one.fold for one in known) + 1)]


def test_a_note_is_no_reason_to_record_again() -> None:
    state = desired(asks("exp/a", OTHER, OTHER))
    assert plan_of(state, noted(settle(state), "exp/a", "it does not help")).is_empty


def test_a_note_is_carried_into_the_next_record_of_the_same_commit() -> None:
    before = noted(settle(desired(asks("exp/a", OTHER, OTHER))), "exp/a", "it does not help")
    state = desired(asks("exp/a", OTHER, components(spec="other", data="new")))
    after = settle(state, before)
    last = records_of(after, "exp/a")[-1].body
    assert last["merge_fingerprint"] != last["fingerprint"]
    assert (last["conclusion"], last["noted_by"]) == ("it does not help", "Ada <ada@example.org>")


def test_a_note_is_not_carried_to_other_work_on_the_branch() -> None:
    before = noted(settle(desired(asks("exp/a", OTHER, OTHER))), "exp/a", "it does not help")
    after = settle(desired(asks("exp/a", BASE, BASE)), before)
    assert records_of(after, "exp/a")[-1].body["conclusion"] == ""


def test_what_was_recorded_before_is_not_recorded_again_when_the_base_goes_back() -> None:
    first = desired(asks("exp/a", OTHER, OTHER))
    second = desired(asks("exp/a", OTHER, components(spec="other", data="new")))
    known = settle(second, settle(first))
    assert plan_of(first, known).is_empty


def test_the_record_names_facts_of_the_commit_and_refuses_another_branchs_item() -> None:
    state = desired(asks("exp/a", OTHER, OTHER), asks("exp/b", None, problems=PROBLEMS))
    known = apply(plan_of(state), [])
    plan = plan_of(state, known)
    item = item_of(plan, "exp/a")
    (action,) = item.actions
    assert isinstance(action, RecordExperiment)
    body = experiment_body(item, action)
    assert body["committed"] == "2026-01-02T03:04:05+01:00"
    assert body["merge_commit"] == asks("exp/a", OTHER, OTHER).merge.commit  # type: ignore[union-attr]  # made with one
    with pytest.raises(ValueError, match="exp/b"):
        experiment_body(item_of(plan_of(state), "exp/b"), action)


def test_an_item_prints_as_the_json_that_status_and_plan_promise() -> None:
    state = desired(MAIN, asks("exp/a", OTHER, components(spec="other", data="new")))
    item = item_of(plan_of(state, settle(desired(MAIN))), "exp/a").as_json()
    assert {key: item[key] for key in ("branch", "sync", "health", "lifecycle", "reason", "run", "merge_run")} == {
        "branch": "exp/a",
        "sync": "OutOfSync",
        "health": "Missing",
        "lifecycle": "open",
        "reason": "never run; merge result differs from the head in data",
        "run": None,
        "merge_run": None,
    }
    assert item["fingerprint"] == OTHER.fingerprint
    assert item["commit"] == asks("exp/a", OTHER).commit
    assert [(action["action"], action["side"], action["why"]) for action in item["actions"]] == [
        ("run", "head", "never run"),
        ("run", "merge", "merge result differs from the head in data"),
    ]
    assert item["actions"][0]["fingerprint"] == OTHER.fingerprint
    assert len(item["actions"][0]["commit"]) == 40
