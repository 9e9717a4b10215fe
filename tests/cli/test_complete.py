"""Shell completion: verbs and branches, at no cost and with no word of complaint."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.conftest import Shell
from tests.controller.controller_world import branch, git


def offered(shell: Shell, words: str, name: str = "bash") -> list[str]:
    """What the shell would offer at the end of ``words``, as the script that typer installs asks for it."""
    count = len(words.split(" ")) - 1
    asked = {"_CD4ML_COMPLETE": f"complete_{name}", "_TYPER_COMPLETE_ARGS": words, "COMP_WORDS": words}
    done = shell.attempt("cd4ml", COMP_CWORD=str(count), _TYPER_COMPLETE_FISH_ACTION="get-args", **asked)
    assert done.stderr == ""
    return [line.split("\t")[0] for line in done.stdout.splitlines() if line]


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_the_completion_of_each_shell_can_be_printed(tmp_path: Path, name: str) -> None:
    shell = Shell(tmp_path, {})
    shown = shell.attempt("cd4ml", _CD4ML_COMPLETE=f"source_{name}")  # --show-completion asks which shell it runs in
    assert shown.returncode == 0, shown.stderr
    assert "_CD4ML_COMPLETE" in shown.stdout


@pytest.mark.parametrize("verb", ["plan", "status", "reconcile", "update", "note", "show", "reproduce", "config"])
def test_branches_complete_for_verbs_that_take_one(team: Shell, verb: str) -> None:
    git(team, "branch", "exp/here")
    branch(team, "exp/there", {"a": "a"})
    team.run("git", "fetch", "--quiet", "origin", "refs/heads/*:refs/cd4ml/remote/heads/*")
    assert offered(team, f"cd4ml {verb} exp/") == ["exp/here", "exp/there"]


def test_verbs_complete(team: Shell) -> None:
    assert offered(team, "cd4ml rec") == ["reconcile"]


def test_outside_of_a_repository_nothing_is_offered_and_nothing_said(tmp_path: Path) -> None:
    assert offered(Shell(tmp_path, {}), "cd4ml update e") == []


def test_completing_a_branch_imports_nothing_heavy(team: Shell) -> None:
    code = (
        "import sys; from cd4ml.cli.complete import complete_branch; print(complete_branch('ma'))\n"
        "assert not {'git', 'pandas', 'hydra', 'dvc', 'sklearn'} & set(sys.modules)\n"
    )
    assert team.run(sys.executable, "-c", code) == "['main']\n"
