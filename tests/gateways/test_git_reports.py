"""Reports on a real bare remote: a commit of their own, under refs that no clone and no fetch brings."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from cd4ml.errors import RemoteError, RepositoryError
from cd4ml.gateways import git
from cd4ml.gateways.git import REPORTS, RefUpdate, Repository

KEY = "0123456789abcdef"
FILES = {"report.md": b"# better\n", "history.png": b"\x89PNG\0"}


def sh(folder: Path, *command: str, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def here(tmp_path: Path) -> Repository:
    """A clone with one commit, and its bare remote ``../remote.git``."""
    git.init(tmp_path / "remote.git", bare=True)
    git.init(tmp_path / "home")
    sh(tmp_path / "home", "git", "commit", "--quiet", "--allow-empty", "--message", "first")
    sh(tmp_path / "home", "git", "remote", "add", "origin", "../remote.git")
    sh(tmp_path / "home", "git", "push", "--quiet", "origin", "main")
    return git.open_repository(tmp_path / "home")


def remote_of(here: Repository) -> Path:
    return here.root.parent / "remote.git"


def test_a_report_is_a_commit_without_parents_that_holds_its_files(here: Repository) -> None:
    commit = here.write_report(FILES)
    assert here.commit_info(commit).parents == ()
    assert here.read_tree(commit) == FILES


def test_the_same_files_are_the_same_commit_whoever_writes_them_and_when(here: Repository) -> None:
    commit = here.write_report(FILES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GIT_AUTHOR_DATE", "2031-01-01T00:00:00Z")
        patch.setenv("GIT_COMMITTER_NAME", "Ada")
        assert here.write_report(dict(reversed(FILES.items()))) == commit
    assert here.write_report({**FILES, "report.md": b"# worse\n"}) != commit


def test_a_report_moves_no_ref_of_the_clone(here: Repository) -> None:
    before = sh(here.root, "git", "for-each-ref")
    here.put_report("origin", KEY, None, here.write_report(FILES))
    assert sh(here.root, "git", "for-each-ref") == before


def test_a_report_that_was_put_is_found_and_whole_on_the_remote(here: Repository) -> None:
    commit = here.write_report(FILES)
    assert here.report("origin", KEY) is None
    here.put_report("origin", KEY, None, commit)
    assert here.report("origin", KEY) == commit
    assert here.reports("origin") == {KEY: commit}
    assert sh(remote_of(here), "git", "show", f"{REPORTS}{KEY}:report.md") == "# better"
    sh(remote_of(here), "git", "fsck", "--strict", "--no-dangling")


def test_looking_brings_no_object_of_another_clone(here: Repository, tmp_path: Path) -> None:
    sh(tmp_path, "git", "clone", "--quiet", "remote.git", "other")
    other = git.open_repository(tmp_path / "other")
    commit = other.write_report(FILES)
    other.put_report("origin", KEY, None, commit)
    assert here.reports("origin") == {KEY: commit}
    assert here.resolve(commit) is None


def test_one_report_follows_another_that_is_not_its_parent_and_is_not_here(here: Repository, tmp_path: Path) -> None:
    sh(tmp_path, "git", "clone", "--quiet", "remote.git", "other")
    other = git.open_repository(tmp_path / "other")
    first = other.write_report(FILES)
    other.put_report("origin", KEY, None, first)
    second = here.write_report({"report.md": b"# worse\n"})
    here.put_report("origin", KEY, first, second)
    assert here.report("origin", KEY) == second


def test_so_it_does_where_the_remote_takes_no_rewritten_or_deleted_branches(here: Repository) -> None:
    for name in ("receive.denyNonFastForwards", "receive.denyDeletes"):
        sh(remote_of(here), "git", "config", name, "true")
    first, second = here.write_report(FILES), here.write_report({})
    here.put_report("origin", KEY, None, first)
    here.put_report("origin", KEY, first, second)
    here.drop_reports("origin", {KEY: second}, [KEY])
    assert here.reports("origin") == {}


@pytest.mark.parametrize("before", [None, "f" * 40])
def test_a_report_that_somebody_else_has_replaced_is_not_overwritten(here: Repository, before: str | None) -> None:
    first = here.write_report(FILES)
    here.put_report("origin", KEY, None, first)
    with pytest.raises(RemoteError):
        here.put_report("origin", KEY, before, here.write_report({}))
    assert here.report("origin", KEY) == first


def test_dropping_takes_all_that_are_named_or_none(here: Repository) -> None:
    commit = here.write_report(FILES)
    for key in (KEY, "f" * 16, "e" * 16):
        here.put_report("origin", key, None, commit)
    with pytest.raises(RemoteError):
        here.drop_reports("origin", {KEY: commit, "f" * 16: here.write_report({})}, [KEY, "f" * 16])
    assert len(here.reports("origin")) == 3
    here.drop_reports("origin", {KEY: commit, "f" * 16: commit}, [KEY, "f" * 16])
    assert here.reports("origin") == {"e" * 16: commit}


def test_neither_a_fetch_of_ours_nor_a_clone_brings_reports(here: Repository, tmp_path: Path) -> None:
    commit = here.write_report(FILES)
    here.put_report("origin", KEY, None, commit)
    for command in (("clone", "--quiet"), ("clone", "--quiet", "--no-local")):
        sh(tmp_path, "git", *command, "remote.git", command[-1].strip("-"))
        other = git.open_repository(tmp_path / command[-1].strip("-"))
        state = other.fetch("origin")
        assert set(state.heads) == {"main"}
        assert not any("reports" in ref for ref in sh(other.root, "git", "for-each-ref").splitlines())
    assert other.resolve(commit) is None  # the clone that copied no objects


def test_a_ref_of_another_kind_with_such_an_ending_is_no_report(here: Repository) -> None:
    commit = here.write_report(FILES)
    here.push("origin", [RefUpdate(f"refs/heads/{REPORTS}{KEY}", "", commit)])
    assert here.reports("origin") == {}
    assert here.report("origin", KEY) is None


def test_a_file_that_leads_out_of_the_tree_is_refused(here: Repository) -> None:
    with pytest.raises(RepositoryError):
        here.write_report({"../report.md": b""})


def test_a_repository_that_is_its_own_remote_takes_reports_too(here: Repository) -> None:
    commit = here.write_report(FILES)
    here.put_report(git.HERE, KEY, None, commit)
    assert here.reports(git.HERE) == {KEY: commit}


def test_the_address_of_a_remote_is_told_as_git_uses_it(here: Repository) -> None:
    assert here.remote_url("origin") == "../remote.git"
    assert here.remote_url("no-such") == ""
    sh(here.root, "git", "config", "url.https://forge.example.org/.insteadOf", "forge:")
    sh(here.root, "git", "remote", "set-url", "origin", "forge:ada/flights.git")
    assert here.remote_url("origin") == "https://forge.example.org/ada/flights.git"
