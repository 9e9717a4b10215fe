"""What this machine cannot do is never recorded as the fault of a branch."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from cd4ml.controller.desired.specs import asked_of
from tests.conftest import Shell
from tests.controller.controller_world import cd4ml, commit, experiment, experiments, git, push, runs


def without(folder: Path, *commands: str) -> str:
    """A PATH whose ``git`` runs out of memory whenever it is to do one of these."""
    shim = folder / "bin/git"
    shim.parent.mkdir()
    asked = "|".join(f'*" {command} "*' for command in commands)
    fails = f'case " $* " in {asked}) echo "fatal: Out of memory, malloc failed" >&2; exit 128;; esac'
    shim.write_text(f'#!/bin/sh\n{fails}\nexec "{shutil.which("git")}" "$@"\n', "utf-8")
    shim.chmod(0o755)
    return f"{shim.parent}:{os.environ['PATH']}"


@pytest.fixture
def without_merges(tmp_path: Path) -> str:
    return without(tmp_path, "merge-tree")


def test_a_merge_that_git_could_not_try_is_no_conflict(team: Shell, without_merges: str) -> None:
    experiment(team, "exp/a", seed=7)
    push(team, "refs/heads/main", commit(team, "main", {"notes.md": "main has moved on\n"}))
    done = cd4ml(team, "reconcile", code=1, PATH=without_merges)
    assert any("exp/a" in line and "Out of memory" in line for line in done.lines), done.err
    assert runs(team, "branch = 'exp/a'") == []
    cd4ml(team, "reconcile")
    assert experiments(team)["exp/a"]["health"] == "Healthy"


def test_a_merge_is_no_conflict_either_where_git_could_not_say_that_the_two_are_kin(
    team: Shell, tmp_path: Path
) -> None:
    experiment(team, "exp/a", seed=2)
    push(team, "refs/heads/main", commit(team, "main", {"notes.md": "main has moved on\n"}))
    done = cd4ml(team, "reconcile", code=1, PATH=without(tmp_path, "merge-tree", "merge-base"))
    assert any("exp/a" in line and "Out of memory" in line for line in done.lines), done.err
    assert runs(team, "branch = 'exp/a'") == []
    assert "conflicts" not in experiments(team)["exp/a"]["reason"]


def test_a_branch_that_could_not_be_looked_at_is_told_by_who_executes_for_others(
    team: Shell, tmp_path: Path, without_merges: str
) -> None:
    experiment(team, "exp/a", seed=2)
    push(team, "refs/heads/main", commit(team, "main", {"notes.md": "main has moved on\n"}))
    done = cd4ml(team, "execute", "exp/a", "--output", str(tmp_path / "out"), code=1, PATH=without_merges)
    assert any("exp/a" in line and "Out of memory" in line for line in done.lines), done.err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["bundles.json"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), MemoryError()])
def test_a_configuration_that_could_not_be_looked_at_is_not_refused(
    team: Shell, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    tree = git(team, "rev-parse", f"{experiment(team, 'exp/a', seed=7)}^{{tree}}").strip()

    def failing(project: Any, asked: str, base: Any) -> Any:
        if asked == tree:
            raise error
        return asked_of(project, asked, base)

    with monkeypatch.context() as patch:
        patch.setattr("cd4ml.controller.desired.heads.asked_of", failing)
        assert any("exp/a" in line for line in cd4ml(team, "reconcile", code=1).lines)
    assert runs(team, "branch = 'exp/a'") == []
    assert experiments(team, "plan")["exp/a"]["sync"] == "OutOfSync"
