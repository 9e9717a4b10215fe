"""The closed set of reasons: what each says, and that none is ever more than one short line."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cd4ml.errors import Problem
from cd4ml.plan import reason


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (reason.NEVER_RUN, "never run"),
        (reason.NOT_PUSHED, "not pushed"),
        (reason.GONE_DISCARDED, "branch gone: discarded"),
        (reason.gone_merged("main"), "branch gone: merged into main"),
        (reason.merged("trunk"), "merged into trunk"),
        (reason.moved(["spec"]), "spec moved"),
        (reason.moved(["spec", "data"]), "spec and data moved"),
        (reason.moved(["spec", "code", "env"]), "spec, code and environment moved"),
        (reason.environment_older("r1"), "environment older: run as r1 under another lock"),
        (
            reason.tolerated(["code", "env"], "r1"),
            "run as r1; another code and environment, which experiments.rerun_on leaves out",
        ),
        (reason.merge_differs(["data"]), "merge result differs from the head in data"),
        (reason.conflicts("main", ["a", "b"]), "conflicts with main in a (+1 more): take main in"),
        (reason.failed("validate", "bad\n  rows"), "failed at validate: bad rows"),
        (reason.failed_attempt("train", "killed", 1, 3), "failed at train: killed (attempt 1 of 3)"),
        (reason.retry_asked("train", "no"), "failed at train: no (asked to try again)"),
        (reason.already_run("r1", "exp/x"), "already run as r1 (branch exp/x)"),
        (reason.already_run_at("r1", "0123456789"), "already run as r1 (commit 0123456)"),
        (reason.same_as("exp/x"), "runs as exp/x, which asks for the same"),
        (reason.local_ahead("0123456789"), "local head 0123456 is not pushed"),
        (reason.of_merge_result("never run"), "merge result: never run"),
        (reason.up_to_date("r1"), "up to date: result r1"),
        (reason.answered(["r1", "r2"]), "answered by r1 and r2"),
        (reason.answered([]), "configuration refused"),
        (reason.refused([Problem("f", "k", "m", "h")]), "f: k: m (h)"),
        (reason.refused([Problem("f", "", "m"), Problem("g", "", "m")]), "f: m (+1 more)"),
    ],
)
def test_each_reason_reads_as_it_should(said: str, text: str) -> None:
    assert said == text


@settings(deadline=None)
@given(st.text(max_size=2000), st.text(max_size=2000))
def test_no_message_from_outside_makes_a_reason_long_or_more_than_one_line(stage: str, message: str) -> None:
    for said in (
        reason.failed(stage, message),
        reason.refused([Problem(stage, stage, message, message)]),
        reason.conflicts("main", [message]),
    ):
        assert len(said.splitlines()) <= 1
        assert len(said) <= 2 * reason.MESSAGE_LENGTH + 50


def test_a_failure_that_tells_a_credential_is_shown_without_it() -> None:
    said = reason.failed("train", "no access to https://ada:secret@example.org/x")
    assert said == "failed at train: no access to https://…example.org/x"
