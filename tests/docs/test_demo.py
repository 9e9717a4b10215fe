"""The demo, played once on a slice of the flights: the whole loop in a single test."""

from __future__ import annotations

import json
import sys

from tests.conftest import Shell
from tests.docs.pages import ROOT


def test_the_demo_leaves_an_index_a_discarded_branch_and_an_empty_plan(shell: Shell) -> None:
    """THE WHOLE LOOP: what ``make demo`` starts, from no folder to a deleted branch reproduced in a fresh clone."""
    folder = shell.folder / "demo"
    path = f"{shell.environment['PYTHONPATH']}:{ROOT}"
    done = shell.attempt(sys.executable, "-m", "demo", "--directory", str(folder), PYTHONPATH=path)
    assert done.returncode == 0, done.stdout + done.stderr
    heads = shell.at(folder / "remote.git").run("git", "for-each-ref", "--format=%(refname)")
    assert heads.split() == [
        "refs/heads/cd4ml/index",
        "refs/heads/exp/gusts",
        "refs/heads/exp/xgboost",
        "refs/heads/main",
    ]
    project = shell.at(folder / "project")
    project.run("cd4ml", "plan", "--exit-code")
    (gone,) = json.loads(project.run("cd4ml", "search", "lifecycle = 'discarded'", "--json"))["runs"]
    assert (gone["branch"], gone["health"]) == ("exp/boosting", "Healthy")
    (rejected,) = json.loads(project.run("cd4ml", "search", "health = 'Degraded'", "--json"))["runs"]
    assert rejected["branch"] == "exp/gusts"
    assert (folder / "clone" / ".git").is_dir()


def test_the_demo_refuses_a_folder_that_holds_something(shell: Shell) -> None:
    (shell.folder / "mine.txt").write_text("mine", "utf-8")
    done = shell.attempt(sys.executable, "-m", "demo", "--directory", str(shell.folder), PYTHONPATH=str(ROOT))
    assert done.returncode == 1
    assert "is not empty" in done.stderr
    assert [path.name for path in shell.folder.iterdir()] == ["mine.txt"]
