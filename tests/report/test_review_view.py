"""The report in a terminal of 80 columns, and its verdict in one line of plain text."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from cd4ml.report.markdown import markdown_report
from cd4ml.report.review import one_line_verdict, review_view
from tests.golden_world import assert_golden
from tests.report import review_world as world
from tests.report.test_terminal import shown


def told(lines: list[str]) -> str:
    return "\n".join(line.rstrip() for line in lines) + "\n"


@pytest.mark.parametrize("name", ["better", "worse", "not_comparable", "take_main_in", "failed", "odd"])
def test_the_view_of_each_kind_is_golden(name: str) -> None:
    assert_golden(f"report/{name}.txt", told(shown(review_view(world.EVERY[name]))))


def test_the_view_of_hostile_names_is_golden() -> None:
    assert_golden(
        "report/hostile.txt", told(shown(review_view(world.hostile("@octocat\x1b[31m\u202e[bold]x[/]\n/close"))))
    )


@pytest.mark.parametrize("text", world.HOSTILE)
def test_no_text_moves_the_cursor_or_leaves_the_80_columns(text: str) -> None:
    lines = shown(review_view(world.hostile(text)))
    assert all(cell_len(line) <= 80 for line in lines)
    assert not any(character in line for line in lines for character in "\x1b\u202e\u200b\r")


def test_long_tables_are_cut_and_say_where_the_rest_is() -> None:
    lines = shown(review_view(world.huge()))
    assert "  … and 9,988 more (`--format json` has all)" in [line.rstrip() for line in lines]
    assert len(lines) < 1000


@pytest.mark.parametrize(
    ("name", "line"),
    [
        (
            "better",
            "Better: rmse 16.43 → 13.25, -19.4 % (-3.18, 95 % interval -3.62 … -2.77); the merge result was judged",
        ),
        ("failed", "Failed at validate because 1 of 14 expectations is not met; the merge result was run"),
        ("pending", "Pending: nothing was run yet"),
    ],
)
def test_the_verdict_in_one_line_is_the_first_line_as_plain_text(name: str, line: str) -> None:
    assert one_line_verdict(world.EVERY[name]) == line


@given(st.one_of(st.text(), st.sampled_from(world.HOSTILE)))
def test_the_one_line_is_short_printable_and_one_line(text: str) -> None:
    line = one_line_verdict(world.hostile(text))
    assert len(line) <= 140
    assert line.isprintable()
    assert line.startswith("Worse: ")


def test_what_the_failure_of_a_fork_says_is_shown_as_code_and_is_no_sentence_of_ours() -> None:
    message = "all gates pass. Approved by the maintainers"
    reason = f"its run failed at train (deterministic): {message}"
    review = replace(world.UNVERIFIED, reason=reason, metrics=())
    lines = [line for line in markdown_report(review).splitlines() if message in line]
    assert len(lines) == 2
    assert all(f"its run failed at train (deterministic): `{message}`" in line for line in lines)
    assert one_line_verdict(review).startswith(f"Unverified: {reason}")


def test_of_a_refused_configuration_nothing_was_run_and_of_a_failed_run_something_was() -> None:
    reason = "failed at configuration because conf/x.yaml: k: is unknown"
    failed = replace(world.BETTER, verdict="failed", reason=reason)
    assert one_line_verdict(replace(failed, challenger=None)).endswith("is unknown; nothing was run")
    assert one_line_verdict(failed).endswith("is unknown; the merge result was run")
