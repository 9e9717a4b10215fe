"""What is remembered of a head is sure, and of this Python; and what counts as landed holds what the head gives."""

from __future__ import annotations

from typing import Any

import pytest

from cd4ml.controller.desired import heads, specs
from cd4ml.controller.desired.heads import Head, HeadReader
from cd4ml.controller.desired.specs import Base, asked_of, spec_of
from cd4ml.controller.project import Project, open_project
from tests.conftest import Shell
from tests.controller.controller_world import commit, git

_FIRST = 1_780_000_000


def at(minute: int) -> dict[str, str]:
    """Both dates of a commit."""
    when = f"{_FIRST + 60 * minute} +0000"
    return {"GIT_AUTHOR_DATE": when, "GIT_COMMITTER_DATE": when}


@pytest.fixture
def project(team: Shell) -> Project:
    return open_project(team.folder)


def read(project: Project, base: str, commit: str, *, memory: bool = True) -> Head:
    """What one commit asks for beside one of the base branch."""
    found = HeadReader(project, Base(base, spec_of(project, base)[0]), memory=memory).read([commit])[commit]
    assert isinstance(found, Head)
    return found


def failing(monkeypatch: pytest.MonkeyPatch, tree: str) -> None:
    """Let nobody find out what a tree asks for; not for a reason that is known to be the machine's."""

    def fail(project: Project, asked: str, base: Any) -> Any:
        if asked == tree:
            raise RuntimeError("odd")
        return asked_of(project, asked, base)

    monkeypatch.setattr(heads, "asked_of", fail)


def test_what_a_head_asks_for_is_looked_at_again_where_looking_failed(
    team: Shell, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    main = git(team, "rev-parse", "main")
    own = commit(team, main, {"notes.md": "a\n"})
    with monkeypatch.context() as patch:
        failing(patch, git(team, "rev-parse", f"{own}^{{tree}}"))
        (problem,) = read(project, main, own).asks.problems
        assert problem.message == "cannot be read: RuntimeError"
    found = read(project, main, own)
    assert found == read(project, main, own, memory=False)
    assert found.asks.components is not None


def test_what_a_merge_result_asks_for_is_looked_at_again_where_looking_failed(
    team: Shell, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    fork = git(team, "rev-parse", "main")
    own, main = commit(team, fork, {"notes.md": "a\n"}), commit(team, fork, {"more.md": "b\n"})
    with monkeypatch.context() as patch:
        failing(patch, git(team, "merge-tree", "--write-tree", main, own))
        before = read(project, main, own)
        assert before.asks.components is not None
        assert before.merge is not None
        assert before.merge.asks.components is None
    found = read(project, main, own)
    assert found == read(project, main, own, memory=False)
    assert found.merge is not None
    assert found.merge.asks.components is not None


def test_what_was_remembered_under_another_python_does_not_answer(
    team: Shell, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    main = git(team, "rev-parse", "main")
    before = read(project, main, main).asks.components
    for module in (heads, specs):
        monkeypatch.setattr(module, "python_minor", lambda: "3.99")
    after = read(project, main, main).asks.components
    assert before is not None
    assert after is not None
    assert after.env != before.env


def test_a_head_that_the_base_branch_holds_gives_what_the_base_branch_is(team: Shell, project: Project) -> None:
    fork = git(team, "rev-parse", "main")
    main = commit(team, fork, {"more.md": "b\n"})
    found = read(project, main, fork)
    assert found.in_base
    assert found.merge is not None
    assert found.merge.tree == git(team, "rev-parse", f"{main}^{{tree}}") != found.tree
    assert not read(project, main, commit(team, main, {"notes.md": "a\n"})).in_base


def test_a_head_that_changed_nothing_did_not_land_with_a_commit_that_changed_nothing(
    team: Shell, project: Project
) -> None:
    fork = git(team, "rev-parse", "main")
    own, main = commit(team, fork, {}, **at(1)), commit(team, fork, {}, **at(2))
    assert own != main
    assert read(project, main, own).landed_as == ""


def test_a_head_that_landed_was_taken_back_and_landed_again_has_landed_as_the_first(
    team: Shell, project: Project
) -> None:
    fork = git(team, "rev-parse", "main")
    own = commit(team, fork, {"notes.md": "a\n"}, **at(1))
    first = commit(team, fork, {"notes.md": "a\n"}, "Squashed\n", **at(2))
    back = commit(team, first, {"notes.md": None}, **at(3))
    again = commit(team, back, {"notes.md": "a\n"}, "Squashed\n", **at(4))
    assert read(project, again, own).landed_as == first


def test_a_commit_that_changed_the_same_file_otherwise_is_not_how_a_head_landed(team: Shell, project: Project) -> None:
    fork = git(team, "rev-parse", "main")
    own = commit(team, fork, {"notes.md": "a\n", "more.md": "b\n"}, **at(1))
    assert read(project, commit(team, fork, {"notes.md": "a\n"}, **at(2)), own).landed_as == "", "only a part of it"
    whole = commit(team, fork, {"notes.md": "a\n", "more.md": "b\n"}, **at(2))
    assert read(project, whole, own).landed_as == whole


def test_what_the_base_branch_did_before_is_not_how_a_head_that_repeats_it_landed(
    team: Shell, project: Project
) -> None:
    fork = git(team, "rev-parse", "main")
    main = commit(team, fork, {"notes.md": "a\n"}, **at(1))
    assert read(project, main, commit(team, fork, {"notes.md": "a\n"}, "Mine\n", **at(2))).landed_as == ""


def test_a_branch_is_begun_anew_where_nothing_of_its_own_joins_the_two(team: Shell, project: Project) -> None:
    """Who wrote what and when outlives a rebase; a branch that had nothing of its own yet goes on with anything."""
    fork = git(team, "rev-parse", "main")
    main = commit(team, fork, {"more.md": "b\n"}, **at(1))
    own = commit(team, fork, {"notes.md": "a\n"}, **at(2))
    longer = commit(team, own, {"notes.md": "a, b\n"}, **at(3))
    kept = {"GIT_AUTHOR_DATE": at(2)["GIT_AUTHOR_DATE"], "GIT_COMMITTER_DATE": at(9)["GIT_COMMITTER_DATE"]}
    rebased = commit(team, main, {"notes.md": "a\n"}, **kept)
    longer_rebased = commit(team, rebased, {"last.md": "c\n"}, **at(10))
    other = commit(team, fork, {"notes.md": "a\n"}, **{**at(4), "GIT_AUTHOR_NAME": "Bob"})
    joined = {(own, longer), (longer, own), (own, rebased), (longer, longer_rebased), (fork, own), (main, other)}
    apart = {(own, other), (longer, other), (other, rebased)}
    chain = frozenset(project.repository.first_parents(main))
    for memory in (False, True, True):  # worked out, made, and read
        reader = HeadReader(project, Base(main, spec_of(project, main)[0]), memory=memory)
        assert reader.begun_anew(joined | apart, chain) == apart
