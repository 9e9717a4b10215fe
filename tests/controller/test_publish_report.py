"""Reports on the remote: replaced when they change, bounded, and in nobody's way."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cd4ml.controller.project import Project, open_project
from cd4ml.controller.reporting.publish_report import (
    LARGEST_FILE,
    MOST_FILES,
    drop_reports,
    publish_report,
)
from cd4ml.errors import RemoteError, UsageError
from cd4ml.gateways import git
from cd4ml.gateways.git import REPORTS, Repository
from tests.conftest import Shell
from tests.controller.controller_world import cd4ml, commit, push, refs, remote

KEY, OTHER = "a" * 16, "b" * 16
FILES = {"report.md": b"# better\n", "report.json": b"{}", "history.png": b"\x89PNG"}
CHANGED = {**FILES, "report.md": b"# worse\n"}


def sh(folder: Path, *command: str) -> str:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A bare remote with one commit on ``main``."""
    git.init(tmp_path / "remote.git", bare=True)
    git.init(tmp_path / "first")
    sh(tmp_path / "first", "git", "commit", "--quiet", "--allow-empty", "--message", "first")
    sh(tmp_path / "first", "git", "push", "--quiet", "../remote.git", "main")
    return tmp_path / "remote.git"


@pytest.fixture
def project(bare: Path) -> Project:
    return clone(bare, "here")


def clone(bare: Path, name: str) -> Project:
    sh(bare.parent, "git", "clone", "--quiet", "remote.git", name)
    return open_project(bare.parent / name)


def there(bare: Path) -> dict[str, str]:
    """The reports of the remote by key."""
    listed = sh(bare, "git", "for-each-ref", "--format=%(refname) %(objectname)", REPORTS).splitlines()
    return {line.split()[0].removeprefix(REPORTS): line.split()[1] for line in listed}


def counted(patch: pytest.MonkeyPatch, before: Callable[[], object] = lambda: None) -> list[str]:
    """The keys of every push of a report from now on; ``before`` is done before the first."""
    pushed: list[str] = []
    put = Repository.put_report

    def counting(self: Repository, remote: str, key: str, *rest: Any) -> None:
        if not pushed:
            pushed.append(key)
            before()
        else:
            pushed.append(key)
        put(self, remote, key, *rest)

    patch.setattr(Repository, "put_report", counting)
    return pushed


# ── publishing ──


def test_what_was_published_is_on_the_remote(project: Project, bare: Path) -> None:
    made = publish_report(project, KEY, FILES)
    assert there(bare) == {KEY: made}
    assert sh(bare, "git", "ls-tree", "--name-only", made).split() == sorted(FILES)
    assert sh(bare, "git", "show", f"{made}:report.md") == "# better"


def test_a_report_that_has_not_changed_is_not_pushed(
    project: Project, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = publish_report(project, KEY, FILES)
    pushed = counted(monkeypatch)
    assert publish_report(project, KEY, FILES) == made
    assert publish_report(clone(bare, "other"), KEY, FILES) == made
    assert pushed == []


def test_one_that_has_is_replaced(project: Project, bare: Path) -> None:
    first = publish_report(project, KEY, FILES)
    second = publish_report(project, KEY, CHANGED)
    assert first != second
    assert there(bare) == {KEY: second}


def test_reports_of_two_experiments_lie_beside_each_other(project: Project, bare: Path) -> None:
    one, two = publish_report(project, KEY, FILES), publish_report(project, OTHER, FILES)
    assert one == two
    assert there(bare) == {KEY: one, OTHER: two}


def test_whoever_was_overtaken_looks_again_and_replaces(
    project: Project, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = clone(bare, "other").repository
    theirs = other.write_report({"report.md": b"another\n"})
    pushed = counted(
        monkeypatch, lambda: sh(bare.parent / "other", "git", "push", "origin", f"{theirs}:{REPORTS}{KEY}")
    )
    made = publish_report(project, KEY, FILES)
    assert pushed == [KEY, KEY]
    assert there(bare) == {KEY: made}


def test_whoever_was_overtaken_by_the_same_report_has_nothing_to_do(
    project: Project, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = clone(bare, "other").repository
    same = other.write_report(FILES)
    pushed = counted(monkeypatch, lambda: sh(bare.parent / "other", "git", "push", "origin", f"{same}:{REPORTS}{KEY}"))
    assert publish_report(project, KEY, FILES) == same
    assert pushed == [KEY]


def test_a_remote_that_takes_no_reports_is_an_error_after_one_try(
    project: Project, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = bare / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho no reports here >&2\nexit 1\n", "utf-8")
    hook.chmod(0o755)
    pushed = counted(monkeypatch)
    with pytest.raises(RemoteError):
        publish_report(project, KEY, FILES)
    assert pushed == [KEY]
    assert there(bare) == {}


def test_a_remote_that_is_not_there_is_an_error(project: Project, bare: Path) -> None:
    shutil.rmtree(bare)
    with pytest.raises(RemoteError):
        publish_report(project, KEY, FILES)


@pytest.mark.parametrize("key", ["", "a", "A" * 16, "a" * 65, "../" + KEY, "a/b" * 8, KEY + "\n", "g" * 16, "-" + KEY])
def test_a_key_that_is_not_hexadecimal_is_refused(key: str, project: Project, bare: Path) -> None:
    with pytest.raises(UsageError, match="no key"):
        publish_report(project, key, FILES)
    assert there(bare) == {}


@pytest.mark.parametrize("name", ["", ".", "..", ".git", "a/b", "../a", "a\n", "-a", "ä.png", "a" * 101, "a b"])
def test_a_name_that_is_not_plain_is_refused(name: str, project: Project) -> None:
    with pytest.raises(UsageError, match="no name"):
        publish_report(project, KEY, {name: b""})


def test_a_report_is_bounded_in_files_and_bytes(project: Project, bare: Path) -> None:
    publish_report(project, KEY, {f"{place}.png": b"" for place in range(MOST_FILES)})
    publish_report(project, OTHER, {"a.png": bytes(LARGEST_FILE)})
    before = there(bare)
    with pytest.raises(UsageError, match="at most 20"):
        publish_report(project, KEY, {f"{place}.png": b"" for place in range(MOST_FILES + 1)})
    with pytest.raises(UsageError, match=r"a\.png: 2,097,153 bytes"):
        publish_report(project, OTHER, {"a.png": bytes(LARGEST_FILE + 1)})
    assert there(bare) == before


# ── dropping ──


def test_reports_of_branches_that_are_gone_are_dropped_and_the_others_stay(project: Project, bare: Path) -> None:
    made = publish_report(project, KEY, FILES)
    publish_report(project, OTHER, CHANGED)
    assert drop_reports(project, {KEY}) == (OTHER,)
    assert there(bare) == {KEY: made}
    assert drop_reports(project, {KEY}) == ()


def test_one_that_was_replaced_meanwhile_stays_and_the_rest_goes(
    project: Project, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_report(project, KEY, FILES)
    publish_report(project, OTHER, FILES)
    seen = project.repository.reports(project.remote)
    made = publish_report(clone(bare, "other"), KEY, CHANGED)
    monkeypatch.setattr(Repository, "reports", lambda self, remote: seen)
    assert drop_reports(project, set()) == (OTHER,)
    assert there(bare) == {KEY: made}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A repository that is its own remote."""
    folder = tmp_path_factory.mktemp("alone")
    git.init(folder)
    sh(folder, "git", "commit", "--quiet", "--allow-empty", "--message", "first")
    return open_project(folder)


@settings(max_examples=12)
@given(published=st.sets(st.integers(0, 5)), alive=st.sets(st.integers(0, 5)))
def test_after_a_drop_no_report_is_without_a_branch(alone: Project, published: set[int], alive: set[int]) -> None:
    keys = {number: f"{number:08x}" for number in range(6)}
    for number in published:
        publish_report(alone, keys[number], {"n": str(number).encode()})
    before = set(alone.repository.reports(git.HERE))
    dropped = drop_reports(alone, {keys[number] for number in alive})
    left = set(alone.repository.reports(git.HERE))
    assert left == before & {keys[number] for number in alive}
    assert set(dropped) == before - left


# ── in nobody's way ──


def test_no_other_verb_sees_reports_or_touches_them(team: Shell) -> None:
    """What each says, and every ref, is with reports what it was without; a strange one among them, too."""
    verbs = (["status"], ["plan"], ["search"], ["verify"], ["gc"], ["doctor"], ["restore", "--yes"], ["reconcile"])
    asked = [[*verb, "--json"] for verb in verbs]
    cd4ml(team, "reconcile")

    def told() -> list[tuple[int, Any]]:
        found = []
        for verb in asked:
            done = cd4ml(team, *verb, code=None)
            found.append((done.code, _without_times(done.json)))
        return found

    before, here, there_ = told(), refs(team), refs(remote(team))
    project = open_project(team.folder)
    made = publish_report(project, KEY, FILES)
    push(team, f"{REPORTS}strange/one", commit(team, "main", {"a.txt": "a"}))
    assert told() == before
    assert refs(team) == here
    added = {name: value for name, value in refs(remote(team)).items() if name not in there_}
    assert set(added) == {f"{REPORTS}{KEY}", f"{REPORTS}strange/one"}
    assert added[f"{REPORTS}{KEY}"] == made
    assert {name: value for name, value in refs(remote(team)).items() if name in there_} == there_


def _without_times(told: Any) -> Any:
    """JSON without what a clock or a disk says."""
    if isinstance(told, dict):
        return {name: _without_times(value) for name, value in told.items() if name not in ("seconds", "at", "free")}
    if isinstance(told, str):
        return re.sub(r"[\d.,]+ [KMGT]iB", "some", told)
    return [_without_times(one) for one in told] if isinstance(told, list) else told
