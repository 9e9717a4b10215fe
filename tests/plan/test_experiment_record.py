"""Every experiment record that a plan asks for is one that a fold accepts, whatever a branch wrote into its commit."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.resources import files

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from cd4ml.errors import Problem
from cd4ml.index.record import seal
from cd4ml.plan.action import RecordExperiment, experiment_body, is_recordable
from cd4ml.plan.state import Experiment
from tests.plan.plan_world import apply, asks, components, desired, plan_of

SCHEMA = Draft202012Validator(json.loads((files("cd4ml.index") / "schemas/experiment.schema.json").read_text()))
TEXT = st.text(st.characters(), max_size=8) | st.just("x\n\x1b" * 1700)
PROBLEMS = st.lists(st.builds(Problem, TEXT, TEXT, TEXT, TEXT), min_size=1, max_size=3)
OTHER = components(spec="other")


def accepted(asked: Experiment) -> None:
    """The record lands, is one that the schema takes, and is not asked for again."""
    state = desired(asked)
    ran = apply(plan_of(state), [])
    plan = plan_of(state, ran)
    plan = plan if asked.head.components else plan_of(state)
    (item,) = plan.items
    (action,) = item.actions
    assert isinstance(action, RecordExperiment)
    body = seal(experiment_body(item, action))
    assert [error.message for error in SCHEMA.iter_errors(body)] == []
    assert plan_of(state, apply(plan, ran)).is_empty


@settings(max_examples=40, deadline=None)
@given(TEXT, TEXT, TEXT, PROBLEMS)
def test_a_refused_commit_is_recorded_whatever_its_texts_hold(
    author: str, name: str, hypothesis: str, problems: list[Problem]
) -> None:
    asked = asks("exp/a", None, OTHER, problems=tuple(problems))
    accepted(replace(asked, author=author, name=name, hypothesis=hypothesis, tags=(name[:300],) * 101))


@settings(max_examples=40, deadline=None)
@given(st.lists(TEXT.filter(bool), min_size=1, max_size=3))
def test_a_conflict_is_recorded_whatever_its_files_are_called(paths: list[str]) -> None:
    accepted(asks("exp/a", OTHER, conflicts=tuple(paths)))


def test_a_clean_merge_and_a_base_branch_are_recorded() -> None:
    accepted(asks("exp/a", OTHER, OTHER))
    accepted(asks("exp/a", OTHER, components(spec="other", env="newer")))
    accepted(asks("main", OTHER))


@settings(deadline=None)
@given(st.text(st.characters(), max_size=300))
def test_a_branch_is_recordable_exactly_when_the_schema_takes_its_name(branch: str) -> None:
    taken = Draft202012Validator(SCHEMA.schema["properties"]["branch"])  # type: ignore[index]  # a mapping here
    if branch.isascii() or branch.isprintable():
        assert is_recordable(branch) == taken.is_valid(branch)
    elif is_recordable(branch):
        assert taken.is_valid(branch)


TOKEN = "glpat-" + "aB3" * 8
LATE = "x" * 190 + " " + TOKEN  # where the cut of a name or a reason would leave half of it


@pytest.mark.parametrize("text", [TOKEN, f"got '{TOKEN}'", LATE], ids=["bare", "quoted", "across the cut"])
def test_no_text_of_a_record_or_a_reason_holds_a_credential(text: str) -> None:
    """Neither what a problem quotes, nor what a commit says of itself, nor a note that is carried on."""
    problem = Problem(text, text, text, text)
    refused = replace(asks("exp/a", None, problems=(problem,)), author=text, name=text, hypothesis=text, tags=(text,))
    conflicting = asks("exp/b", OTHER, conflicts=(text,))
    state = desired(refused, conflicting)
    known = apply(plan_of(state), [])
    plan = plan_of(state, apply(plan_of(desired(conflicting)), []))
    records = [action for action in plan.actions if isinstance(action, RecordExperiment)]
    assert len(records) == 2
    items = {item.branch: item for item in plan.items}
    for record in (replace(record, conclusion=text, noted_by=text) for record in records):
        body = seal(experiment_body(items[record.branch], record))
        assert "glpat-" not in json.dumps(body)
        assert body["conclusion"] == text.replace(TOKEN, "…")
        assert SCHEMA.is_valid(body)
    for item in (*plan.items, *plan_of(state, known).items):
        assert "glpat-" not in item.reason
