"""Which runs of this clone alone a branch takes for its own, and which it is not answered by."""

from __future__ import annotations

from typing import Any

import pytest

from cd4ml.controller.landing.drafts import adoptable
from cd4ml.controller.landing.labels import work_tree_label
from cd4ml.controller.landing.land import land_record
from cd4ml.controller.project import open_project
from cd4ml.controller.reconciling.observe import observe, observed_branch
from cd4ml.plan.state import Experiment
from cd4ml.spec.canonical import digest
from tests.conftest import Shell
from tests.controller.compare_world import result_of_main
from tests.controller.controller_world import BASELINE, OTHER_SEED, Content, branch, commit, git, push

FAILED: dict[str, Any] = {"outcome": "failed", "metrics": {}, "table": None, "split": {}, "model": None, "files": {}}
ASKED: dict[str, Content] = {BASELINE: OTHER_SEED.format(seed=2)}


def asked(team: Shell, name: str) -> Experiment:
    project = open_project(team.folder)
    return observed_branch(project, observe(project), name)


def adopted(team: Shell) -> list[str]:
    """The ids of the runs that branches ask for."""
    project = open_project(team.folder)
    return [run.id for _, run in adoptable(project, observe(project).desired, frozenset())]


def ran(team: Shell, source: dict[str, Content], parts: dict[str, str], **changed: Any) -> str:
    """A run of the work tree on the tip of ``main``, made up; gives its id."""
    made = commit(team, "main", source)
    body = {key: value for key, value in result_of_main(team).items() if key not in ("id", "schema")}
    of_it = {"commit": made, "tree": git(team, "rev-parse", f"{made}^{{tree}}"), "branch": work_tree_label("main")}
    named = {"components": parts, "fingerprint": digest(parts)}
    return land_record(open_project(team.folder), {**body, **of_it, **named, **changed}, published=False)


@pytest.mark.parametrize("kind", ["deterministic", "transient"])
def test_a_failure_of_this_machine_is_no_branchs_and_any_other_is(team: Shell, kind: str) -> None:
    branch(team, "exp/mine", ASKED)
    parts = asked(team, "exp/mine").head.components
    assert parts is not None
    reason = {"kind": kind, "stage": "train", "message": "no"}
    run = ran(team, ASKED, dict(parts.as_mapping()), **FAILED, reason=reason)
    assert adopted(team) == ([run] if kind == "deterministic" else [])


def with_another_merge_result(team: Shell) -> tuple[dict[str, str], dict[str, str]]:
    """A branch ``exp/mine`` beside which ``main`` moves; gives what its head and its merge result ask for."""
    branch(team, "exp/mine", ASKED)
    config = git(team, "show", "main:conf/model/ridge.yaml").replace("alpha: 1.0", "alpha: 2.0") + "\n"
    moved = commit(team, "main", {"conf/model/ridge.yaml": config})
    push(team, "refs/heads/main", moved)
    git(team, "reset", "--quiet", "--hard", moved)
    one = asked(team, "exp/mine")
    assert one.merge is not None
    head, merge = one.head.components, one.merge.components
    assert head is not None
    assert merge is not None
    assert head != merge
    return dict(head.as_mapping()), dict(merge.as_mapping())


def test_a_run_on_the_base_branch_of_what_a_merge_would_give_is_the_branchs(team: Shell) -> None:
    _, merge = with_another_merge_result(team)
    run = ran(team, ASKED, merge)
    assert adopted(team) == [run]


def test_what_a_pushed_branch_asks_for_is_answered_by_no_run_that_this_clone_alone_has(team: Shell) -> None:
    """Its record would name a run that nobody else can see."""
    head, merge = with_another_merge_result(team)
    elsewhere = {**head, "code": "0" * 64}
    for parts in (head, merge, elsewhere):
        ran(team, ASKED, parts, branch="exp/alone")
    known = observe(open_project(team.folder)).history
    assert [known.result(digest(parts)) is None for parts in (head, merge, elsewhere)] == [True, True, False]
