"""What differs between two commits is told by Git alone: no setting, attribute or program has a say."""

from __future__ import annotations

from pathlib import Path

import pytest

from cd4ml.errors import RepositoryError
from cd4ml.gateways.git import Repository, open_repository
from tests.conftest import Shell
from tests.controller.controller_world import Link, commit, git


@pytest.fixture
def place(tmp_path: Path) -> tuple[Shell, Repository]:
    """A repository with one empty commit on ``main``."""
    shell = Shell(tmp_path, {})
    shell.run("git", "init", "--quiet", ".")
    shell.run("git", "commit", "--quiet", "--allow-empty", "--message", "Begin")
    return shell, open_repository(tmp_path)


def test_only_files_at_or_under_the_paths_count(place: tuple[Shell, Repository]) -> None:
    shell, repository = place
    old = commit(shell, "main", {"own/a.py": "1\n2\n", "own/gone.py": "x\n", "ownish.py": "1\n", "other.py": "1\n"})
    new = commit(shell, old, {"own/a.py": "1\n3\n4\n", "own/gone.py": None, "ownish.py": "2\n", "other.py": "2\n"})
    assert repository.lines_changed(old, new, ["own"]) == {"own/a.py": (2, 1), "own/gone.py": (0, 1)}
    assert repository.lines_changed(old, new, ["other.py", "nothing"]) == {"other.py": (1, 1)}
    assert repository.lines_changed(old, new, []) == {}
    text = repository.patch(old, new, ["own/a.py"])
    assert text.splitlines()[-4:] == [" 1", "-2", "+3", "+4"]


NASTY = ["own/-rf", "own/:(top)x", "own/*.py", 'own/q"\t\n', "own/\u202e.py", "own/--output=x", "own/a b"]


@pytest.mark.parametrize("path", NASTY)
def test_a_path_is_a_path_whatever_it_looks_like(place: tuple[Shell, Repository], path: str) -> None:
    shell, repository = place
    old = commit(shell, "main", {path: "1\n", "own/z.py": "1\n"})
    new = commit(shell, old, {path: "2\n", "own/z.py": "2\n"})
    assert repository.lines_changed(old, new, [path]) == {path: (1, 1)}
    assert repository.lines_changed(old, new, ["own"]).keys() == {path, "own/z.py"}
    assert repository.patch(old, new, [path]).splitlines()[-2:] == ["-1", "+2"]
    assert not (shell.folder / "x").exists()


@pytest.mark.parametrize("path", ["/etc", "../x", "own/../..", "", ".", "a\0b"])
def test_a_path_that_leads_out_of_the_tree_names_nothing(place: tuple[Shell, Repository], path: str) -> None:
    shell, repository = place
    new = commit(shell, "main", {"own/a.py": "1\n"})
    assert repository.lines_changed(git(shell, "rev-parse", "main"), new, [path]) == {}


def test_neither_settings_nor_attributes_run_a_program_or_hide_a_line(place: tuple[Shell, Repository]) -> None:
    shell, repository = place
    ran = shell.folder / "ran"
    for key in ("diff.external", "diff.odd.command", "diff.odd.textconv", "core.pager", "pager.diff-tree"):
        shell.run("git", "config", key, f"touch {ran}; false")
    shell.run("git", "config", "diff.renames", "copies")
    shell.run("git", "config", "diff.noprefix", "true")
    shell.run("git", "config", "color.ui", "always")
    attributes = "*.py diff=odd\n*.txt binary\n"
    (shell.folder / ".gitattributes").write_text(attributes, "utf-8")
    (shell.folder / ".git/info/attributes").write_text(attributes, "utf-8")
    old = commit(shell, "main", {".gitattributes": attributes, "own/a.py": "1\n", "own/b.txt": "1\n"})
    new = commit(shell, old, {"own/a.py": "2\n", "own/b.txt": "2\n"})
    assert repository.lines_changed(old, new, ["own"]) == {"own/a.py": (1, 1), "own/b.txt": (1, 1)}
    text = repository.patch(old, new, ["own"])
    assert "--- a/own/a.py" in text
    assert text.splitlines()[-2:] == ["-1", "+2"]
    assert "\x1b" not in text
    assert not ran.exists()


def test_binary_large_and_linked_files_are_named_and_not_poured_out(place: tuple[Shell, Repository]) -> None:
    shell, repository = place
    new = commit(
        shell,
        "main",
        {"own/bin": b"\0\1", "own/big": "x\n" * 400_000, "own/link": Link("/etc/passwd"), "own/odd": b"\xff\n"},
    )
    old = git(shell, "rev-parse", "main")
    assert repository.lines_changed(old, new, ["own"]) == {
        "own/bin": (None, None),
        "own/big": (None, None),
        "own/link": (1, 0),
        "own/odd": (1, 0),
    }
    text = repository.patch(old, new, ["own"])
    assert len(text) < 2000
    assert "+\\xff" in text


def test_a_commit_that_is_not_here_is_named(place: tuple[Shell, Repository]) -> None:
    shell, repository = place
    with pytest.raises(RepositoryError, match="cannot be compared"):
        repository.patch("0" * 40, git(shell, "rev-parse", "main"), ["own"])
