"""What a plan is told of branches that are gone, by Git alone: who brought them, and who went on from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from cd4ml.controller.desired.heads import HeadReader
from cd4ml.controller.desired.specs import Base
from cd4ml.controller.project import Project
from cd4ml.controller.reconciling.gone import GoneFacts
from cd4ml.gateways.git import open_repository
from cd4ml.index.history import History
from tests.conftest import Shell
from tests.controller.controller_world import commit, git
from tests.controller.writers_world import World
from tests.plan.plan_world import asks


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A clone of a repository whose ``main`` has one commit."""
    return Shell(World.make(tmp_path).clone(), {})


def facts(shell: Shell, tip: str, heads: Mapping[str, str]) -> GoneFacts:
    """Where the base branch is at ``tip``, and others at these commits."""
    project = Project(open_repository(shell.folder), "origin", "main")
    reader = HeadReader(project, Base(tip, None), memory=False)  # type: ignore[arg-type]  # nothing is asked by a policy
    experiments = [replace(asks(name, None), commit=at) for name, at in heads.items()]
    return GoneFacts(project, reader, History.of([]), experiments, ("main",))


def test_of_branches_that_stand_on_each_other_each_was_brought_by_its_own_merge(shell: Shell) -> None:
    main = git(shell, "rev-parse", "main")
    first = commit(shell, main, {"one.md": "1\n"})
    second = commit(shell, first, {"two.md": "2\n"})
    merges = [main]
    for one in (first, second):
        parents = ("-p", merges[-1], "-p", one)
        merges.append(git(shell, "commit-tree", f"{one}^{{tree}}", *parents, stdin=b"Merge\n"))
    known = facts(shell, merges[-1], {}).brought_by
    assert [known[one] for one in (main, first, second)] == merges


def test_of_branches_that_have_the_commit_of_a_gone_one_the_one_that_is_at_it_is_likeliest(shell: Shell) -> None:
    main = git(shell, "rev-parse", "main")
    gone = commit(shell, main, {"one.md": "1\n"})
    heads = {"exp/a": commit(shell, gone, {"two.md": "2\n"}), "exp/z": gone, "exp/other": main}
    known = facts(shell, main, heads).continued_by
    assert (known[gone], known.get(main)) == (("exp/z", "exp/a"), None)
