"""Which repository, remote, base branch and storage a command works with."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from cd4ml.controller.project import Project, open_project
from cd4ml.errors import RepositoryError, UsageError
from cd4ml.gateways import git
from cd4ml.gateways.git import HERE


def sh(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout.strip()


def commit(folder: Path, name: str = "a", text: str = "1") -> str:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, "utf-8")
    sh(folder, "git", "add", "--force", "--all")
    sh(folder, "git", "commit", "--quiet", "--message", name)
    return sh(folder, "git", "rev-parse", "HEAD")


def made(folder: Path, branch: str = "main") -> Path:
    git.init(folder, branch=branch)
    commit(folder)
    return folder


def remote_of(folder: Path, name: str, branch: str = "main") -> Path:
    """A bare remote beside ``folder`` whose HEAD names that branch, with the branch pushed."""
    place = folder.parent / f"{name}.git"
    git.init(place, bare=True, branch=branch)
    sh(folder, "git", "remote", "add", name, f"../{name}.git")
    sh(folder, "git", "push", "--quiet", name, f"HEAD:refs/heads/{branch}")
    return place


def chosen(folder: Path, remote: str = "") -> tuple[str, str]:
    project = open_project(folder, remote)
    return project.remote, project.base


def test_without_a_remote_the_repository_is_its_own(tmp_path: Path) -> None:
    home = made(tmp_path / "home")
    project = open_project(home)
    assert (project.remote, project.base, project.has_remote) == (HERE, "main", False)
    assert (project.root, project.work_tree(), project.private) == (home, home, home / ".git" / "cd4ml")


@pytest.mark.parametrize("name", ["origin", "upstream"])
@pytest.mark.parametrize("branch", ["main", "trunk", "größe/ü"])
def test_the_only_remote_is_taken_whatever_its_name_and_the_base_is_its_head(
    tmp_path: Path, name: str, branch: str
) -> None:
    home = made(tmp_path / "home", "elsewhere")
    remote_of(home, name, branch)
    assert chosen(home) == (name, branch)
    sh(tmp_path, "git", "clone", "--quiet", "--origin", name, f"{name}.git", "clone")
    assert chosen(tmp_path / "clone") == (name, branch)


def test_of_several_remotes_origin_is_taken_unless_another_is_named(tmp_path: Path) -> None:
    home = made(tmp_path / "home")
    remote_of(home, "upstream", "trunk")
    remote_of(home, "origin")
    assert chosen(home) == ("origin", "main")
    assert chosen(home, "upstream") == ("upstream", "trunk")
    sh(home, "git", "config", "cd4ml.remote", "upstream")
    assert chosen(home) == ("upstream", "trunk")
    assert chosen(home, "origin") == ("origin", "main")
    sh(home, "git", "config", "cd4ml.base", "release")
    assert chosen(home) == ("upstream", "release")
    assert chosen(home, HERE) == (HERE, "release")


def test_several_remotes_without_origin_are_asked_about_in_one_line(tmp_path: Path) -> None:
    home = made(tmp_path / "home")
    remote_of(home, "fork")
    remote_of(home, "upstream")
    with pytest.raises(UsageError, match=r"^several remotes \(fork, upstream\) .* cd4ml.remote NAME`$"):
        open_project(home)


@pytest.mark.parametrize("name", ["none", "--upload-pack=touch canary", "https://localhost/x.git"])
def test_a_remote_that_is_not_there_is_refused_by_name(tmp_path: Path, name: str) -> None:
    home = made(tmp_path / "home")
    remote_of(home, "origin")
    with pytest.raises(UsageError, match=rf"^there is no remote '{name}' here \(remotes: origin\)$"):
        open_project(home, name)
    sh(home, "git", "config", "cd4ml.remote", name)
    with pytest.raises(UsageError, match="there is no remote"):
        open_project(home)


def test_a_remote_whose_head_names_nothing_falls_back_to_the_usual_names(tmp_path: Path) -> None:
    home = made(tmp_path / "home")
    git.init(tmp_path / "origin.git", bare=True, branch="unborn")
    sh(home, "git", "remote", "add", "origin", "../origin.git")
    assert chosen(home) == ("origin", "main")
    sh(home, "git", "branch", "--move", "master")
    assert chosen(home) == ("origin", "master")
    sh(home, "git", "branch", "--move", "mine")
    assert chosen(home) == ("origin", "mine")


def test_a_remote_that_does_not_answer_does_not_keep_a_project_from_being_opened(tmp_path: Path) -> None:
    home = made(tmp_path / "home", "exp/a")
    place = remote_of(home, "origin", "trunk")
    project = open_project(home)
    assert project.base == "trunk"
    project.repository.fetch("origin")
    place.rename(tmp_path / "gone")
    assert chosen(home) == ("origin", "trunk")


def test_a_detached_head_with_no_usual_branch_is_asked_about(tmp_path: Path) -> None:
    home = made(tmp_path / "home", "mine")
    assert chosen(home) == (HERE, "mine")
    sh(home, "git", "checkout", "--quiet", "--detach")
    with pytest.raises(RepositoryError, match=r"cd4ml.base NAME"):
        open_project(home)


def test_a_bare_repository_is_a_project_without_a_work_tree(tmp_path: Path) -> None:
    place = remote_of(made(tmp_path / "home"), "origin")
    project = open_project(place)
    assert (project.remote, project.base, project.root) == (HERE, "main", place)
    with pytest.raises(RepositoryError, match="bare repository has no work tree"):
        project.work_tree()


def test_no_repository_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="cd4ml init"):
        open_project(tmp_path)


def test_a_folder_below_and_a_linked_worktree_belong_to_the_project(tmp_path: Path) -> None:
    home = made(tmp_path / "home")
    commit(home, "deep/a")
    sh(home, "git", "worktree", "add", "--quiet", "-b", "exp/a", "../linked")
    assert open_project(home / "deep").root == home
    linked = open_project(tmp_path / "linked")
    assert (linked.root, linked.base) == (tmp_path / "linked", "main")
    assert linked.private == open_project(home).private


# ── storage ──

SETTINGS = "[core]\n    remote = storage\n['remote \"storage\"']\n    url = ../../{}\n"


def test_storage_is_what_the_commit_says_and_not_what_the_work_tree_says(tmp_path: Path) -> None:
    home = made(tmp_path / "home")
    good = commit(home, ".dvc/config", SETTINGS.format("good"))
    evil = commit(home, ".dvc/config", SETTINGS.format("evil"))
    project = open_project(home)
    first = project.storage(good)
    second = project.storage(evil)
    assert first.remote == "storage"
    for storage, name in ((first, "good"), (second, "evil")):  # opening another changes nothing of the first
        assert f"url = {tmp_path / name}\n" in (storage.admin / ".dvc" / "config").read_text("utf-8")
    assert project.storage(sh(home, "git", "rev-parse", "HEAD~2")).remote == ""


def test_the_user_s_own_credentials_come_on_top(tmp_path: Path) -> None:
    home = made(tmp_path / "home")
    made_at = commit(home, ".dvc/config", SETTINGS.format("good"))
    (home / ".dvc" / "config.local").write_text("['remote \"storage\"']\n    password = secret\n", "utf-8")
    project = open_project(home)
    written = project.storage(made_at).admin / ".dvc" / "config"
    assert "password = secret" in written.read_text("utf-8")
    assert written.stat().st_mode & 0o077 == 0
    assert sh(home, "git", "status", "--porcelain") == "?? .dvc/config.local"


def test_a_linked_settings_file_of_a_commit_is_not_followed(tmp_path: Path) -> None:
    home = made(tmp_path / "home")
    (tmp_path / "outside").write_text(SETTINGS.format("evil"), "utf-8")
    (home / ".dvc").mkdir()
    (home / ".dvc" / "config").symlink_to(tmp_path / "outside")
    assert open_project(home).storage(commit(home)).remote == ""


def test_storage_of_a_bare_repository_lies_in_its_private_folder(tmp_path: Path) -> None:
    home = made(tmp_path / "home")
    made_at = commit(home, ".dvc/config", f"[core]\nremote = s\n['remote \"s\"']\nurl = {tmp_path}/s\n")
    project: Project = open_project(remote_of(home, "origin"))
    storage = project.storage(made_at)
    assert storage.remote == "s"
    assert storage.cache.is_relative_to(project.private)


def test_opening_a_project_changes_nothing(tmp_path: Path) -> None:
    home = made(tmp_path / "home")
    remote_of(home, "origin")
    before = {path: path.lstat().st_mtime_ns for path in home.rglob("*")}
    open_project(home)
    assert {path: path.lstat().st_mtime_ns for path in home.rglob("*")} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "origin.git"]
