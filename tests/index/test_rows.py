"""What search and show list, and which of it a name means."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from cd4ml.errors import UsageError
from cd4ml.index.fields import CHOICES, FIELDS, GROUPS, LISTS, Holds
from cd4ml.index.grid import value_at
from cd4ml.index.history import History
from cd4ml.index.named import find
from cd4ml.index.paths import split_path
from cd4ml.index.record import seal
from cd4ml.index.rows import Row, rows
from cd4ml.index.sql import column_values
from tests.index.index_world import bodies, entry, experiment_body, fingerprint, hexes, refused_body, run_body

DOCS = Path(__file__).parents[2] / "docs" / "schemas"
OPEN = {"exp/a": "open", "exp/b": "merged", "main": "open"}
RUN = run_body()
RUN_ID = RUN["id"]


def listed(*bodies_by_fold: list[dict[str, Any]]) -> tuple[Row, ...]:
    entries = [entry(body, fold) for fold, found in enumerate(bodies_by_fold, 1) for body in found]
    return rows(History.of(entries), OPEN)


def answered(branch: str = "exp/a", commit: object = "x", **changed: Any) -> dict[str, Any]:
    return experiment_body(branch, commit, **{"answer": {"head": RUN_ID, "merge": None}, **changed})


def test_a_run_is_listed_with_what_its_experiment_says() -> None:
    (row,) = listed([RUN, answered(conclusion="worse", noted_by="Bo")])
    assert (row.id, row.branch, row.commit, row.source_commit) == (RUN_ID, "exp/a", RUN["commit"], RUN["commit"])
    assert (row.health, row.role, row.outcome, row.lifecycle, row.reason) == (
        "Healthy",
        "result",
        "succeeded",
        "open",
        None,
    )
    assert (row.author, row.hypothesis, row.tags) == ("Ada <ada@example.org>", "It helps.\nA lot.", ("t",))
    assert (row.conclusion, row.noted_by, row.committed) == ("worse", "Bo", "2026-11-03T09:30:00Z")
    assert (row.started, row.finished) == ("2026-11-03T10:00:00Z", "2026-11-03T10:00:02.500000Z")
    assert row.params["model"]["name"] == "ridge"
    assert row.metrics["test"] == {"rmse": 13.25}
    assert row.result_commit == hexes(f"landed {RUN_ID}", 40)
    assert row.model_digest == hexes("model")


def test_a_run_without_an_experiment_record_is_listed_all_the_same() -> None:
    (row,) = listed([RUN])
    assert (row.branch, row.author, row.hypothesis, row.experiment) == ("exp/a", None, None, None)


def test_a_run_is_listed_for_every_branch_and_commit_that_it_answers() -> None:
    found = listed([RUN, answered()], [answered("exp/b", "elsewhere", name="b"), answered("exp/a", "later")])
    assert sorted((row.branch, row.commit, row.name, row.lifecycle) for row in found) == sorted(
        [
            ("exp/a", hexes("commit x", 40), "a", "open"),
            ("exp/a", hexes("commit later", 40), "a", "open"),
            ("exp/b", hexes("commit elsewhere", 40), "b", "merged"),
        ]
    )
    assert {row.id for row in found} == {RUN_ID}
    assert {row.source_commit for row in found} == {RUN["commit"]}


def test_a_branch_is_listed_once_though_one_run_answers_both_its_sides() -> None:
    both = {"head": RUN_ID, "merge": RUN_ID}
    found = listed([RUN, answered(answer=both), answered("exp/b", "y", answer=both)])
    assert [(row.branch, row.side) for row in found] == [("exp/a", "head"), ("exp/b", "head")]


def test_the_run_of_a_merge_result_is_listed_under_the_commit_of_the_branch() -> None:
    merge = run_body("m", side="merge")
    asked = answered(merge_commit=merge["commit"], answer={"head": RUN_ID, "merge": merge["id"]})
    found = listed([RUN, merge, asked])
    assert len(found) == 2
    by_side = {row.side: row for row in found}
    assert by_side["merge"].commit == by_side["head"].commit == RUN["commit"]
    assert by_side["merge"].source_commit == merge["commit"]
    assert by_side["merge"].author == "Ada <ada@example.org>"


def test_first_success_is_the_result_later_ones_replicates_and_failures_attempts() -> None:
    failed = run_body(failed=True)
    later = run_body(started="2026-11-04T10:00:00Z")
    found = listed([failed], [RUN], [later])
    assert [(row.id, row.role, row.health) for row in found] == [
        (failed["id"], "attempt", "Degraded"),
        (RUN_ID, "result", "Healthy"),
        (later["id"], "replicate", "Healthy"),
    ]
    assert found[0].reason == "validate: 2 rows"


def test_a_refused_configuration_is_listed_with_its_problems_and_keeps_its_commit() -> None:
    body = refused_body()
    (row,) = listed([body])
    assert (row.id, row.role, row.health, row.outcome, row.fingerprint) == (
        body["id"],
        "refused",
        "Degraded",
        None,
        None,
    )
    assert row.reason == "conf/config.yaml: model: unknown (choose another)"
    assert row.result_commit == hexes(f"landed {body['id']}", 40)
    assert row.hypothesis == "It helps.\nA lot."
    assert row.lifecycle == "discarded"


def test_a_conflict_that_nothing_answers_is_listed_and_one_that_was_run_is_not_listed_twice() -> None:
    lonely = experiment_body("exp/b", "b", conflicts=["conf/config.yaml"])
    run = answered(conflicts=["conf/config.yaml"])
    found = {row.branch: row for row in listed([RUN, run, lonely])}
    assert found["exp/b"].role == "refused"
    assert found["exp/b"].reason == "conflicts with the base branch in conf/config.yaml"
    assert found["exp/a"].role == "result"


def test_an_experiment_of_which_nothing_was_run_is_listed_by_what_it_asked_for() -> None:
    body = experiment_body()
    (row,) = listed([body])
    assert (row.id, row.branch, row.role, row.health) == (body["id"], body["branch"], "unknown", "Unknown")
    assert row.reason == "nothing was run for this commit"


def test_a_refusal_that_a_later_record_of_the_commit_takes_back_is_not_listed() -> None:
    (row,) = listed([RUN, refused_body("exp/a", "x")], [answered()])
    assert row.role == "result"


def test_a_conclusion_outlives_a_later_record_of_the_same_commit() -> None:
    later = answered(merge_fingerprint=hexes("moved"))
    (row,) = listed([RUN, answered()], [answered(conclusion="worse", noted_by="Bo")], [later])
    assert (row.experiment, row.conclusion, row.noted_by) == (later["id"], "worse", "Bo")


def test_a_run_that_this_version_cannot_read_is_listed_as_unknown() -> None:
    (row,) = listed([answered()])
    assert (row.id, row.role, row.health, row.metrics) == (RUN_ID, "unknown", "Unknown", {})
    assert row.fingerprint == fingerprint("x")


def test_metrics_of_slices_are_by_side_column_value_and_name_with_the_number_of_rows() -> None:
    one = {"value": "UA", "rows": {"validation": 2, "test": 3}, "validation": {"rmse": 1.5, "r2": None}, "test": {}}
    (row,) = listed([run_body(slices={"carrier": {"values": [one], "left_out": 0}})])
    assert row.slices == {
        "validation": {"carrier": {"UA": {"rows": 2, "rmse": 1.5}}},
        "test": {"carrier": {"UA": {"rows": 3}}},
    }


def test_what_a_failed_run_found_is_listed_by_its_parts() -> None:
    failed = [
        {"type": "expect_x", "column": "a", "severity": "critical"},
        {"type": "expect_y", "column": "", "severity": "warning"},
    ]
    validation = {"suite": "s", "success": False, "asked": 3, "returned": 3, "failed": failed}
    (row,) = listed([run_body(failed=True, validation=validation, judge={"commit": "c" * 40, "code": ""})])
    assert row.failure == {"kind": "deterministic", "stage": "validate", "message": "2 rows"}
    assert row.validation == {**validation, "failed": ["expect_x(a)", "expect_y"]}
    assert (row.table, row.split, row.judge) == (None, {}, {"commit": "c" * 40, "code": ""})
    assert row.data == {"flights": {"digest": hexes("rows"), "rows": 3}}
    assert row.environment == {"python": "3.11.7", "platform": "linux"}
    assert row.packages == {"numpy": "2.4.6"}


@dataclass(frozen=True)
class Fate:
    lifecycle: str
    by: str = ""
    when: str = ""


class Lives:
    def of(self, commit: str) -> Fate:
        merged = Fate("merged", "Bo <bo@example.org>", "2026-11-05T10:00:00+01:00")
        return merged if commit == RUN["commit"] else Fate("open")


def test_what_became_of_a_branch_is_listed_with_who_and_when_for_each_of_its_commits() -> None:
    entries = [entry(body) for body in (RUN, answered(), answered(commit="later"))]
    found = {row.commit: row for row in rows(History.of(entries), {"exp/a": Lives()})}
    then, later = found[RUN["commit"]], found[hexes("commit later", 40)]
    assert (then.lifecycle, then.lifecycle_by) == ("merged", "Bo <bo@example.org>")
    assert then.lifecycle_at == "2026-11-05T09:00:00Z"
    assert (later.lifecycle, later.lifecycle_by, later.lifecycle_at) == ("open", None, None)
    (row,) = rows(History.of([entry(RUN)]), {"exp/a": Fate("discarded")})
    assert (row.lifecycle, row.lifecycle_at) == ("discarded", None)


def imported(**changed: Any) -> dict[str, Any]:
    source = {"kind": "mlflow", "location": "sqlite:///x.db", "experiment": "Delays", "id": "abc"}
    fields = {"kind": "import", "commit": "c" * 40, "source": source, "source_commit": None, "name": "gentle-ox"}
    said = {"author": "bo", "description": "", "outcome": "succeeded", "params": {"depth": 7}, "started": None}
    measured = {"metrics": {"validation": {"rmse": 1.0}}, "tags": {"team": "a", "mark": ""}, "finished": None}
    return seal({**fields, **said, **measured, **changed})


def test_an_imported_run_is_listed_by_its_tool_and_experiment() -> None:
    body = imported()
    (row,) = listed([body])
    assert (row.id, row.role, row.fingerprint, row.branch) == (body["id"], "imported", None, "mlflow:Delays")
    assert (row.health, row.lifecycle, row.reason, row.hypothesis) == ("Healthy", "discarded", None, None)
    assert row.tags == ("mark", "team=a")
    assert row.imported == {"source": "mlflow", "location": "sqlite:///x.db", "experiment": "Delays", "id": "abc"}
    (failed,) = listed([imported(outcome="failed")])
    assert (failed.health, failed.reason) == ("Degraded", "failed, as mlflow says")
    assert find((row,), body["id"][:8]) == (row,)


def test_a_run_says_what_of_it_was_let_go() -> None:
    removal = {"kind": "removal", "commit": "c" * 40, "run": RUN_ID, "what": "artefacts", "reason": "old"}
    removed = seal({**removal, "rule": "", "by": "Bo", "at": "2026-12-01T10:00:00Z", "objects": []})
    (row,) = listed([RUN], [removed])
    assert (row.let_go, row.health, row.reason) == ("artefacts", "Healthy", None)
    stored = seal({**removed, "what": "stored"})
    (row,) = listed([RUN], [removed], [stored])
    assert (row.let_go, row.removal) == (None, None)
    (row,) = listed([RUN], [removed], [stored], [seal({**removed, "at": "2026-12-02T10:00:00Z"})])
    assert row.let_go == "artefacts"
    (row,) = listed([RUN], [removed], [seal({**removed, "what": "run"})], [stored])
    assert (row.let_go, row.health, row.outcome) == ("run", "Degraded", "succeeded")
    assert row.reason == "erased on 2026-12-01 by Bo: old"


def erased(run: str) -> dict[str, Any]:
    told = {"reason": "Request 12", "rule": "", "by": "Bo", "at": "2026-12-01T23:30:00-02:00", "objects": []}
    return seal({"kind": "removal", "commit": "c" * 40, "run": run, "what": "run", **told})


def test_a_failed_run_that_was_erased_says_both() -> None:
    failed = run_body(failed=True)
    (row,) = listed([failed], [erased(failed["id"])])
    assert (row.health, row.reason) == ("Degraded", "validate: 2 rows; erased on 2026-12-02 by Bo: Request 12")


def test_an_answer_whose_record_was_erased_as_well_is_degraded_and_says_so() -> None:
    (row,) = listed([answered()], [erased(RUN_ID)])
    assert (row.id, row.role, row.health) == (RUN_ID, "unknown", "Degraded")
    assert row.reason == "erased on 2026-12-02 by Bo: Request 12"


ENTRIES = st.lists(st.tuples(bodies(), st.integers(1, 3)), max_size=8)


@given(ENTRIES, st.randoms())
def test_rows_do_not_depend_on_the_order_of_the_entries(found: list[tuple[dict[str, Any], int]], random: Any) -> None:
    entries = [entry(body, fold) for body, fold in found]
    expected = rows(History.of(entries), OPEN)
    random.shuffle(entries)
    assert rows(History.of(entries), OPEN) == expected


@given(ENTRIES)
def test_every_run_and_every_answer_is_listed_and_nothing_twice(found: list[tuple[dict[str, Any], int]]) -> None:
    history = History.of([entry(body, fold) for body, fold in found])
    every = rows(history, OPEN)
    assert {run.run.id for run in history.runs} <= {row.id for row in every}
    keys = [(row.id, row.branch, row.commit) for row in every]
    assert len(keys) == len(set(keys))
    for experiment in history.experiments:
        latest = [
            one
            for one in history.of_branch(experiment.experiment.branch)
            if one.experiment.commit == experiment.experiment.commit
        ][-1]
        for run_id in filter(None, latest.experiment.answer.values()):
            assert (run_id, experiment.experiment.branch, experiment.experiment.commit) in keys


@given(ENTRIES)
def test_the_json_of_a_row_is_json_and_holds_every_field_that_a_filter_asks(
    found: list[tuple[dict[str, Any], int]],
) -> None:
    schema = json.loads((DOCS / "runs.schema.json").read_text(encoding="utf-8"))
    every = [row.as_json() for row in rows(History.of([entry(body, fold) for body, fold in found]), OPEN)]
    Draft202012Validator(schema).validate(json.loads(json.dumps({"version": 1, "runs": every})))
    for value in every:
        assert set(FIELDS) - {"age"} <= set(value)
        assert set(GROUPS) | {path[0] for path in LISTS} <= set(value)
        assert all(value_at(value, split_path(field)) in (None, *words) for field, words in CHOICES.items())
        assert all(held is None or isinstance(held, str | int) for held in column_values(value))
    assert FIELDS["age"] is Holds.AGE


def row_named(text: str, **changed: Any) -> Row:
    (row,) = listed([RUN])
    defaults = {"id": "r" + hexes(text, 20), "fingerprint": hexes(text), "commit": hexes(text, 40)}
    return replace(row, **{**defaults, **changed})


ONE, TWO = row_named("one", branch="exp/one", fold=1), row_named("two", branch="exp/two", fold=2)
COUSIN = row_named(
    "cousin", branch="try/one", fold=3, fingerprint=ONE.fingerprint[:10] + "0" * 54 if ONE.fingerprint else None
)
ALL = (ONE, TWO, COUSIN)


@pytest.mark.parametrize(
    ("name", "row"),
    [
        (ONE.id, ONE),
        (TWO.fingerprint, TWO),
        (ONE.id[:6], ONE),
        ((TWO.fingerprint or "")[:4], TWO),
        ((TWO.fingerprint or "")[:9].upper(), TWO),
        ("exp/one", ONE),
        ("two", TWO),
        ("try/one", COUSIN),
    ],
)
def test_a_run_is_found_by_its_id_by_a_prefix_and_by_its_branch(name: str, row: Row) -> None:
    assert find(ALL, name) == (row,)


def test_a_branch_that_is_named_as_a_run_begins_takes_nobodys_prefix_away() -> None:
    """Whoever may push a branch would say what `cd4ml forget r858f0` erases."""
    like = row_named("like", branch=f"exp/{ONE.id[:6]}", fold=4)
    with pytest.raises(UsageError, match=f"may be the branch exp/{ONE.id[:6]}, or {ONE.id[:16]}"):
        find((*ALL, like), ONE.id[:6])
    assert find((*ALL, like), ONE.id) == (ONE,)
    assert find((*ALL, like), f"exp/{ONE.id[:6]}") == (like,)
    other = row_named("other", branch="exp/other", fold=4)
    assert find((*ALL, other), "other") == (other,)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("one", r"may be any of exp/one, try/one"),
        ((ONE.fingerprint or "")[:8], "begins the names of several"),
        ((TWO.fingerprint or "")[:3], "too short"),
        ("exp/tow", "did you mean exp/two"),
        ("tow", "did you mean exp/two"),
        ("zzzzzz", "no run is named 'zzzzzz'$"),
        ("", "too short|no run"),
        ("\x1b[2J", r"no run is named '\\x1b"),
    ],
)
def test_a_name_that_means_nothing_or_several_things_is_a_usage_error(name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        find(ALL, name)


def test_a_fingerprint_gives_all_its_runs_the_result_first() -> None:
    failed, again = run_body(failed=True), run_body(started="2026-11-04T10:00:00Z")
    found = find(listed([failed], [RUN], [again]), fingerprint("x")[:12])
    assert [row.role for row in found] == ["result", "replicate", "attempt"]


def test_a_branch_means_the_success_of_its_latest_commit_and_of_the_head_rather_than_the_merge() -> None:
    old = run_body("old")
    merge = run_body("m", side="merge")
    failed = run_body(failed=True)
    asked = answered(merge_commit=merge["commit"], answer={"head": RUN_ID, "merge": merge["id"]})
    every = listed(
        [old, experiment_body(commit="old", answer={"head": old["id"], "merge": None})], [asked, merge, failed], [RUN]
    )
    assert [row.id for row in find(every, "a")] == [RUN_ID]


def test_a_late_replicate_or_note_of_an_older_commit_does_not_make_it_the_latest() -> None:
    old, newer = run_body("old"), run_body("new")
    again = run_body("old", started="2026-12-04T10:00:00Z")
    note = experiment_body(commit="old", conclusion="worse", answer={"head": old["id"], "merge": None})
    every = listed([old], [newer], [again, note])
    assert [row.id for row in find(every, "exp/a")] == [newer["id"]]


def test_a_branch_means_its_head_though_the_merge_result_was_run_later() -> None:
    merge = run_body("m", side="merge")
    asked = answered(merge_commit=merge["commit"], answer={"head": RUN_ID, "merge": merge["id"]})
    assert [row.side for row in find(listed([RUN, asked], [merge]), "a")] == ["head"]


def test_a_branch_whose_latest_commit_an_older_run_answers_means_that_commit() -> None:
    own = run_body("own", branch="exp/b")
    every = listed([RUN], [own], [answered("exp/b", "reworded")])
    assert [(row.id, row.commit) for row in find(every, "exp/b")] == [(RUN_ID, hexes("commit reworded", 40))]


def test_a_branch_that_was_refused_last_means_its_refusal() -> None:
    every = listed([RUN, answered()], [refused_body("exp/a", "broken")])
    assert [row.role for row in find(every, "a")] == ["refused"]
