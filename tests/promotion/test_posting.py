"""What is written on a pull request, decided from what stands there."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cd4ml.promotion.configuration import ConfigChange
from cd4ml.promotion.posting import (
    CHECK,
    Comment,
    LabelChange,
    check_name,
    conclusion_of,
    identity,
    label_change,
    marked,
    marker,
    ours,
    room,
    same_text,
    writing,
)
from cd4ml.promotion.review import Gate, Merge, Review, RunTold

ME = "cd4ml-bot"
MARK = marker("", "main", 7)
PASSED = Gate("metric", "better", "better by 1", "passed")
HELD = replace(PASSED, outcome="held")
JUDGED = Review(
    branch="exp/a",
    base="main",
    commit="a" * 40,
    base_commit="b" * 40,
    judged="head",
    verdict="better",
    reason="",
    gates=(PASSED,),
)
LABELS = {"better": "model: better", "worse": "model: worse"}


def run(fingerprint: str) -> RunTold:
    return RunTold("r", fingerprint, "c" * 40, "exp/a", "2026-03-01T10:00:00Z")


def test_without_a_comment_of_ours_one_is_created() -> None:
    assert writing([Comment(1, "somebody", "fine work")], MARK, ME, marked(MARK, "new")).what == "create"


def test_a_comment_with_another_text_is_edited() -> None:
    found = writing([Comment(4, ME, marked(MARK, "old"))], MARK, ME, marked(MARK, "new"))
    assert (found.what, found.comment) == ("edit", 4)


def test_a_comment_that_says_it_already_is_left() -> None:
    assert writing([Comment(4, ME, marked(MARK, "same"))], MARK, ME, marked(MARK, "same")).what == "leave"


def test_line_ends_and_trailing_blanks_of_the_forge_are_no_difference() -> None:
    stored = f"{MARK}\r\n# Title  \r\n\r\ntext\r\n\r\n"
    assert writing([Comment(4, ME, stored)], MARK, ME, marked(MARK, "# Title\n\ntext")).what == "leave"


def test_a_strangers_copy_of_the_marker_is_never_touched() -> None:
    stranger = Comment(1, "somebody", marked(MARK, "buy this model"))
    assert writing([stranger], MARK, ME, marked(MARK, "new")).what == "create"


def test_of_several_comments_of_ours_the_oldest_is_kept_current() -> None:
    several = [Comment(9, ME, marked(MARK, "x")), Comment(3, ME, marked(MARK, "y")), Comment(5, ME, marked(MARK, "z"))]
    found = ours(several, MARK, ME)
    assert found is not None
    assert found.id == 3


def test_the_marker_counts_at_the_beginning_alone() -> None:
    quoted = Comment(1, ME, f"as in\n{MARK}\nabove")
    assert ours([quoted], MARK, ME) is None


def test_the_comment_of_another_pull_request_is_not_ours() -> None:
    assert ours([Comment(1, ME, marked(marker("", "main", 71), "x"))], MARK, ME) is None


def test_the_name_of_an_account_is_the_same_in_any_case() -> None:
    assert ours([Comment(1, "CD4ML-Bot", marked(MARK, "x"))], MARK, ME) is not None


def test_the_marker_is_another_for_another_project_base_or_number() -> None:
    marks = {marker(path, base, number) for path in ("", "b") for base in ("main", "next") for number in (7, 8)}
    assert len(marks) == 8


def test_the_whole_repository_is_the_same_project_however_it_is_written() -> None:
    assert marker("", "main", 7) == marker(".", "main", 7) == marker("./", "main", 7)
    assert marker("b", "main", 7) == marker("./b/", "main", 7)


def test_an_identity_is_what_a_published_report_may_be_called() -> None:
    assert len(identity("", "main", 7)) == 16
    assert set(identity("", "main", 7)) <= set("0123456789abcdef")


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_name_of_a_base_branch_breaks_out_of_the_marker(path: str, base: str) -> None:
    mark = marker(path, base, 7)
    assert "\n" not in mark
    assert mark.count("--") == 2


@given(st.text(max_size=300), st.integers(1, 9))
def test_writing_what_was_written_changes_nothing(report: str, number: int) -> None:
    mark = marker("", "main", number)
    body = marked(mark, report)
    assert writing([Comment(1, ME, body.replace("\n", "\r\n"))], mark, ME, body).what == "leave"


@given(st.text(max_size=200), st.text(max_size=200))
def test_only_blanks_can_be_the_same_text(one: str, other: str) -> None:
    if same_text(one, other):
        assert "".join(one.split()) == "".join(other.split())


@given(st.text(min_size=1, max_size=100))
def test_a_report_that_fits_its_room_fits_the_comment(report: str) -> None:
    assert len(marked(MARK, report[: room(MARK, 120)])) <= 120


@pytest.mark.parametrize(
    ("review", "conclusion"),
    [
        (JUDGED, "success"),
        (replace(JUDGED, gates=(PASSED, HELD)), "failure"),
        (replace(JUDGED, verdict="worse", gates=(HELD,)), "failure"),
        (replace(JUDGED, verdict="no real difference", gates=(HELD,)), "failure"),
        (replace(JUDGED, verdict="no real difference", gates=(PASSED,)), "success"),
        (replace(JUDGED, gates=()), "failure"),
        (replace(JUDGED, verdict="failed"), "failure"),
        (replace(JUDGED, verdict="not comparable"), "action_required"),
        (replace(JUDGED, verdict="take main in"), "action_required"),
        (replace(JUDGED, verdict="pending"), "pending"),
        (replace(JUDGED, verdict="unverified"), "neutral"),
    ],
)
def test_the_conclusion_is_the_verdict_of_the_gates(review: Review, conclusion: str) -> None:
    assert conclusion_of(review) == conclusion


def test_a_branch_that_asks_for_what_main_has_is_let_through() -> None:
    same = replace(JUDGED, verdict="no real difference", gates=(HELD,), challenger=run("f"), champion=run("f"))
    assert conclusion_of(same) == "success"
    assert conclusion_of(replace(same, champion=run("e"))) == "failure"


def test_a_result_that_is_not_verified_cannot_satisfy_a_rule_that_asks_for_the_check() -> None:
    assert check_name(replace(JUDGED, verdict="unverified")) != CHECK == check_name(JUDGED)


def test_the_label_of_the_verdict_is_put_on_and_that_of_another_taken_off() -> None:
    found = label_change(("model: worse", "bug"), LABELS, JUDGED)
    assert found == LabelChange(("model: better",), ("model: worse",))


def test_labels_that_conf_does_not_name_are_left() -> None:
    assert not label_change(("bug", "model: better"), LABELS, JUDGED)


def test_a_verdict_without_a_label_only_takes_off() -> None:
    failed = replace(JUDGED, verdict="failed")
    assert label_change(("model: better",), LABELS, failed) == LabelChange((), ("model: better",))


def test_a_label_is_taken_off_as_the_forge_spells_it() -> None:
    assert label_change(("Model: Worse",), LABELS, JUDGED).remove == ("Model: Worse",)


def test_a_label_for_two_verdicts_stays() -> None:
    labels = {"better": "looked at", "worse": "looked at"}
    assert not label_change(("looked at",), labels, JUDGED)


def test_the_label_that_lets_a_forks_commit_run_is_taken_off_by_the_report_of_a_fork_alone() -> None:
    present = ("Run it", "bug")
    unverified = replace(JUDGED, verdict="unverified")
    assert label_change(present, {"worse": "run it"}, unverified, "run it") == LabelChange((), ("Run it",))
    assert "Run it" not in label_change(present, {"worse": "run it"}, JUDGED, "run it").remove
    assert not label_change(present, {}, unverified, "")


def test_the_verdict_with_blanks_is_written_with_underscores_in_conf() -> None:
    found = label_change((), {"no_real_difference": "same"}, replace(JUDGED, verdict="no real difference"))
    assert found.add == ("same",)


def test_what_only_loosens_the_base_branchs_policy_needs_somebody_to_look() -> None:
    for merge in (
        Merge(policy=(ConfigChange("promotion.min_rows", "changed", 100, 2),)),
        Merge(policy_files=(".github/workflows/cd4ml.yml",)),
    ):
        assert conclusion_of(replace(JUDGED, merge=merge)) == "action_required"
        same = replace(JUDGED, challenger=run("f"), champion=run("f"), gates=(HELD,), merge=merge)
        assert conclusion_of(same) == "action_required"
        assert conclusion_of(replace(JUDGED, gates=(HELD,), merge=merge)) == "failure"
        assert conclusion_of(replace(JUDGED, verdict="pending", merge=merge)) == "pending"
