"""What a run again gave beside what its record says: each fact that came out otherwise, and what was to be expected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cd4ml.controller.history.reproduce import Difference, Expectation, differences
from cd4ml.controller.running.run import Failure, Verdict
from cd4ml.gateways.files import FileDigest
from cd4ml.index.history import History, RunEntry
from cd4ml.spec.pipeline import PREDICTIONS
from tests.index.index_world import entry, run_body

BODY = run_body()
FAILED = run_body(failed=True)
FAILURE = Failure("validate", "2 rows", "deterministic")


def recorded(body: dict[str, Any]) -> RunEntry:
    (run,) = History.of([entry(body)]).runs
    return run


def verdict(**changed: Any) -> Verdict:
    """What the judge finds where all comes out as it is recorded."""
    told = BODY["files"][PREDICTIONS]
    files = {PREDICTIONS: FileDigest(told["sha256"], told["md5"], told["bytes"])}
    same = {"metrics": BODY["metrics"], "table": BODY["table"], "split": BODY["split"], "model": BODY["model"]}
    return Verdict(**{"folder": Path(), "slices": {}, "files": files, **same, **changed})


def test_what_comes_out_as_it_is_recorded_differs_in_nothing() -> None:
    assert differences(recorded(BODY), None, verdict()) == ()
    assert differences(recorded(FAILED), FAILURE, None) == ()


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"metrics": {**BODY["metrics"], "test": {"rmse": 13.250000000000002}}}, "test rmse"),
        ({"metrics": {"validation": BODY["metrics"]["validation"]}}, "test rmse"),
        ({"model": {**BODY["model"], "digest": "0" * 64}}, "model digest"),
        ({"files": {PREDICTIONS: FileDigest("0" * 64, "0" * 32, 1)}}, "predictions"),
        ({"table": {**BODY["table"], "digest": "0" * 64}}, "table"),
    ],
)
def test_each_fact_that_comes_out_otherwise_is_named(changed: dict[str, Any], what: str) -> None:
    assert [one.what for one in differences(recorded(BODY), None, verdict(**changed))] == [what]


@pytest.mark.parametrize(
    ("body", "failure", "found"),
    [
        (BODY, FAILURE, "validate: 2 rows"),
        (FAILED, None, "succeeded"),
        (FAILED, Failure("validate", "3 rows", "deterministic"), "validate: 3 rows"),
    ],
)
def test_another_outcome_is_a_difference_of_its_own(body: dict[str, Any], failure: Failure | None, found: str) -> None:
    (told,) = differences(recorded(body), failure, None if failure else verdict())
    assert (told.what, told.found) == ("outcome", found)


VARIES = {"deterministic": False, "nondeterminism": {"why": ["threads"], "tolerance": 1e-3}}
MODEL = Difference("model digest", "a", "b")


@pytest.mark.parametrize(
    ("one", "is_covered"),
    [
        (MODEL, True),
        (Difference("predictions", "a", "b"), True),
        (Difference("test rmse", "12.5", "12.501"), True),
        (Difference("test rmse", "12.5", "12.6"), False),
        (Difference("test rmse", "0.0", "0.0000000005"), True),
        (Difference("test rmse", "12.5", "nan"), False),
        (Difference("test rmse", "12.5", "None"), False),
        (Difference("table", "a", "b"), False),
        (Difference("outcome", "succeeded", "train: no"), False),
    ],
)
def test_a_record_covers_what_it_said_beforehand_and_nothing_else(one: Difference, is_covered: bool) -> None:
    assert Expectation.of(VARIES).covers(one) is is_covered


@pytest.mark.parametrize("body", [{}, {"deterministic": True, "nondeterminism": VARIES["nondeterminism"]}])
def test_a_record_that_promises_the_same_bytes_covers_no_difference(body: dict[str, Any]) -> None:
    expected = Expectation.of(body)
    assert not expected.covers(MODEL)
    assert not expected.covers(Difference("test rmse", "12.5", "12.500000000000002"))
