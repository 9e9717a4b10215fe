"""``cd4ml doctor`` finds what stands in the way, names it in a line with its cure, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from cd4ml.controller.care import doctor
from cd4ml.controller.care.doctor import Finding, Level, examine
from cd4ml.controller.care.doctor.finding import Subject
from cd4ml.controller.care.doctor.machine import below, git_findings
from cd4ml.errors import RemoteError
from cd4ml.gateways.warm import SOCKET_VARIABLE
from tests.conftest import Shell
from tests.controller.controller_world import BASELINE, cd4ml, commit, git, push, refs, remote
from tests.controller.index_attacks import INDEX, folded, landed, plain_clone
from tests.controller.test_writers import hook

SCHEMA = Path(__file__).parents[2] / "docs" / "schemas" / "findings.schema.json"
OLD = time.time() - 7 * 86400


def copied(template: Path, folder: Path, few_flights: Path, warm: str) -> Shell:
    shutil.copytree(template, folder, symlinks=True)
    return Shell(folder / "project", {"PYTHONPATH": str(few_flights), SOCKET_VARIABLE: warm})


def findings(shell: Shell, *, code: int = 0, **environment: str) -> list[dict[str, Any]]:
    """What doctor says, after it was held against its schema."""
    told = cd4ml(shell, "doctor", "--json", code=code, **environment).json
    Draft202012Validator(json.loads(SCHEMA.read_text("utf-8"))).validate(told)
    found: list[dict[str, Any]] = told["findings"]
    return found


def without_cure(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Findings that ask for something to be done, and do not say what."""
    return [one for one in found if one["level"] in ("problem", "warning") and not one["cure"].strip()]


def stored(shell: Shell) -> list[Path]:
    return sorted(path for path in (shell.folder.parent / "storage").rglob("*") if path.is_file())


def test_a_sound_project_has_no_problem_and_nothing_is_left_behind(team: Shell) -> None:
    before, objects, branches = refs(remote(team)), stored(team), refs(team).keys()
    found = findings(team)
    assert {one["level"] for one in found} <= {"ok", "note"}, found
    assert {one["check"] for one in found} >= {
        *("python", "packages", "git", "disk", "private folder", "remote", "refs", "index branch", "storage", "cache"),
        *("index", "rendered", "environment"),
    }
    assert refs(remote(team)) == before
    assert stored(team) == objects
    assert {ref for ref in refs(team).keys() - branches if not ref.startswith("refs/cd4ml/")} == set()


# ── everything at once: no check keeps another from finding what it looks for ──


def old(path: Path) -> Path:
    os.utime(path, (OLD, OLD))
    return path


@pytest.fixture(scope="module")
def ailing(
    template_project: Path, tmp_path_factory: pytest.TempPathFactory, few_flights: Path, warm: str
) -> tuple[Shell, list[dict[str, Any]]]:
    """A project in which much is wrong, and what doctor says of it."""
    shell = copied(template_project, tmp_path_factory.mktemp("ailing") / "team", few_flights, warm)
    bare = remote(shell).folder
    lock = shell.folder / "requirements.lock"
    lock.write_text(lock.read_text("utf-8").replace("typer==", "typer==99."), "utf-8")
    shell.run("git", "commit", "--quiet", "--all", "--message", "Another lock")
    shell.run("git", "push", "--quiet")
    (shell.folder / "dvc.yaml").write_text("stages: {}\n", "utf-8")
    landed(shell, "waiting")
    blob = git(shell, "hash-object", "-w", "dvc.yaml")
    git(shell, "push", "--quiet", "origin", f"{blob}:refs/cd4ml/claims/{'0' * 64}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GIT_COMMITTER_DATE", f"{int(time.time()) + 86400} +0000")
        folded(shell, "tomorrow")
    landed(shell, "later")
    push(shell, f"refs/cd4ml/landing/r{'0' * 20}", commit(shell, "main", {"other": "x"}))
    shell.run("git", "config", "remote.origin.mirror", "true")
    shell.run("git", "config", "--add", "remote.origin.fetch", "+refs/*:refs/*")
    shell.run("git", "config", "--add", "remote.origin.push", "+refs/cd4ml/*:refs/cd4ml/*")
    own = shell.folder / ".git/hooks/pre-commit"
    own.parent.mkdir(exist_ok=True)
    own.write_text("#!/bin/sh\n", "utf-8")
    own.chmod(0o755)
    (bare / "refs/heads/other.lock").write_bytes(b"")
    old(bare / "refs/heads/other.lock")
    (bare / "objects/tmp_objdir-incoming-abc").mkdir()
    old(bare / "objects/tmp_objdir-incoming-abc")
    shutil.rmtree(shell.folder.parent / "storage")
    (shell.folder.parent / "storage").write_text("no folder", "utf-8")
    git(remote(shell), "update-ref", INDEX, f"{INDEX}~1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_WAIT_POLICY", "active")
        patch.setenv("OMP_NUM_THREADS", "4096")
        return shell, findings(shell, code=1)


@pytest.mark.parametrize(
    ("check", "level", "message", "cure"),
    [
        ("threads", "warning", "OMP_WAIT_POLICY", "export OMP_WAIT_POLICY=passive"),
        ("threads", "warning", "OMP_NUM_THREADS is 4096", "export OMP_NUM_THREADS="),
        ("mirror", "problem", "remote.origin.mirror is set", "git config --unset remote.origin.mirror"),
        ("refspecs", "warning", "a plain `git fetch` moves or prunes refs", "git config --edit"),
        ("refspecs", "problem", "a plain `git push` moves or prunes refs", "git config --edit"),
        ("hooks", "note", "pre-commit", ""),
        ("refs", "ok", "honours leases", ""),
        ("index branch", "ok", "can be pushed", ""),
        ("protections", "note", "can be deleted and moved back", "docs/care.md"),
        ("leftovers", "problem", "refs/heads/other.lock", "rm "),
        ("leftovers", "note", "1 folders that killed pushes left", "gc"),
        ("storage", "problem", "DVC remote 'storage'", "dvc remote list"),
        ("index", "problem", "was moved back by 1 fold", "cd4ml restore"),
        ("landed", "note", "1 landed record count", "cd4ml reconcile"),
        ("landed", "warning", f"r{'0' * 20} is no record", "cd4ml restore  # offers to drop them"),
        ("claims", "note", "1 claims are older than a day", "cd4ml reconcile"),
        ("rendered", "warning", "dvc.yaml", "cd4ml render"),
        ("environment", "warning", "typer", "pip install -r requirements.lock"),
    ],
)
def test_what_is_wrong_is_found_with_its_cure(
    ailing: tuple[Shell, list[dict[str, Any]]], check: str, level: str, message: str, cure: str
) -> None:
    _, found = ailing
    told = [one for one in found if (one["check"], one["level"]) == (check, level) and message in one["message"]]
    assert len(told) == 1, [one for one in found if one["check"] == check]
    assert cure in told[0]["cure"]


def test_what_people_read_is_a_line_each_with_the_cure_below(ailing: tuple[Shell, list[dict[str, Any]]]) -> None:
    shell, _ = ailing
    lines = cd4ml(shell, "doctor", code=1).out.splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith("problem  mirror"))
    assert lines[place + 1].strip() == "→ git config --unset remote.origin.mirror"


def test_whatever_is_a_problem_or_a_warning_has_its_cure(ailing: tuple[Shell, list[dict[str, Any]]]) -> None:
    _, found = ailing
    assert without_cure(found) == []


# ── one at a time ──


def no_refs_of_ours(shell: Shell) -> None:
    hook(shell, "update", 'case "$1" in refs/cd4ml/*) echo "only branches" >&2; exit 1;; esac')


def no_deletion(shell: Shell) -> None:
    hook(shell, "update", 'case "$3" in 000000*) echo "nothing goes" >&2; exit 1;; esac')


def not_atomic(shell: Shell) -> None:
    git(remote(shell), "config", "receive.advertiseAtomic", "false")


def away(shell: Shell) -> None:
    remote(shell).folder.rename(shell.folder.parent / "away.git")


def no_folder_of_ours(shell: Shell) -> None:
    shutil.rmtree(shell.folder / ".git/cd4ml")
    (shell.folder / ".git/cd4ml").write_text("x", "utf-8")


def tomorrow(shell: Shell) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GIT_COMMITTER_DATE", f"{int(time.time()) + 86400} +0000")
        folded(shell, "tomorrow")


def no_base(shell: Shell) -> None:
    git(remote(shell), "update-ref", "-d", "refs/heads/main")


def broken_storage(shell: Shell) -> None:
    push(shell, "refs/heads/main", commit(shell, "main", {".dvc/config": "[core\n"}))


def broken_storage_of_mine(shell: Shell) -> None:
    (shell.folder / ".dvc/config.local").write_text("[core\n", "utf-8")


def storage_without_section(shell: Shell) -> None:
    push(shell, "refs/heads/main", commit(shell, "main", {".dvc/config": "[core]\nremote = gone\n"}))


def no_storage(shell: Shell) -> None:
    push(shell, "refs/heads/main", commit(shell, "main", {".dvc/config": ""}))


def broken_configuration(shell: Shell) -> None:
    push(shell, "refs/heads/main", commit(shell, "main", {BASELINE: "broken: [\n"}))


def unreadable_configuration(shell: Shell) -> None:
    (shell.folder / BASELINE).write_text("broken: [\n", "utf-8")


def other_git(shell: Shell, script: str) -> None:
    """Another ``git`` in the folder that ``PATH`` names first: the real one, after a script."""
    shim = shell.folder.parent / "bin/git"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\n{script}\nexec "{shutil.which("git")}" "$@"\n', "utf-8")
    shim.chmod(0o755)


def no_leases(shell: Shell) -> None:
    forced = 'case "$word" in --force-with-lease=*) word=--force;; esac'
    other_git(shell, f'for word; do shift; {forced}; set -- "$@" "$word"; done')


def no_protocol(shell: Shell) -> None:
    other_git(shell, 'case "$*" in *ls-remote*refs/cd4ml/none) echo "fatal: gone" >&2; exit 128;; esac')


@pytest.mark.parametrize(
    ("damage", "code", "check", "message"),
    [
        (no_refs_of_ours, 1, "refs", "refuses refs outside of branches"),
        (no_deletion, 1, "refs", "cannot be deleted"),
        (not_atomic, 1, "refs", "does not move several refs together"),
        (no_leases, 1, "refs", "moved a ref from another value than was asked for"),
        (away, 1, "remote", "git fetch: "),
        (no_base, 1, "remote", "origin has no branch main"),
        (no_protocol, 0, "remote", "origin: git ls-remote"),
        (broken_storage, 1, "storage", ".dvc/config: is not DVC configuration"),
        (broken_storage_of_mine, 1, "storage", ".dvc/config.local: is not DVC configuration"),
        (storage_without_section, 1, "storage", "core.remote: names 'gone'"),
        (no_storage, 0, "storage", "names no remote"),
        (broken_configuration, 1, "configuration", f"main: {BASELINE}"),
        (unreadable_configuration, 0, "rendered", BASELINE),
        (no_folder_of_ours, 1, "private folder", "cd4ml's own folder cannot be used"),
        (tomorrow, 0, "clock", "minutes from now, by this clock"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_each_is_named_and_the_others_are_looked_at_all_the_same(
    team: Shell, damage: Callable[[Shell], None], code: int, check: str, message: str
) -> None:
    damage(team)
    found = findings(team, code=code, PATH=f"{team.folder.parent / 'bin'}:{os.environ['PATH']}")
    told = [one for one in found if one["check"] == check and message in one["message"]]
    assert told, found
    assert told[0]["level"] == ("problem" if code else "warning")
    assert without_cure(found) == []
    assert any(one["check"] == "disk" for one in found)


def test_a_shallow_clone_is_told_how_to_become_whole(team: Shell) -> None:
    url = remote(team).folder.as_uri()
    team.at(team.folder.parent).run("git", "clone", "--quiet", "--depth", "1", "--no-single-branch", url, "shallow")
    found = {one.check: one for one in examine(team.folder.parent / "shallow")}
    assert found["history"].level is Level.WARNING
    assert found["history"].cure == "git fetch --unshallow origin"
    assert found["index"].level is Level.OK


def test_outside_of_a_repository_the_machine_is_looked_at(tmp_path: Path) -> None:
    found = examine(tmp_path)
    assert found[-1].check == "repository"
    assert found[-1].level is Level.PROBLEM
    assert any(one.check == "packages" for one in found)


def test_a_repository_of_sha256_objects_is_named(tmp_path: Path) -> None:
    Shell(tmp_path, {}).run("git", "init", "--quiet", "--object-format=sha256")
    assert "sha256" in examine(tmp_path)[-1].message


@pytest.mark.parametrize(
    ("error", "message", "cure"),
    [
        (KeyError("x"), "KeyError", "report it"),
        (OSError(5, "Input/output error", "disk"), "Input/output error", "cd4ml doctor"),
        (RemoteError("no answer"), "no answer", "cd4ml doctor"),
    ],
)
def test_a_check_that_breaks_is_a_finding(
    team: Shell, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str, cure: str
) -> None:
    def broken(_: Subject) -> list[Finding]:
        raise error

    monkeypatch.setattr(doctor, "CHECKS", (broken,))
    found = examine(team.folder)[-1]
    assert (found.level, found.check) == (Level.WARNING, "broken")
    assert message in found.message
    assert cure in found.cure


# ── what is said of versions ──


@pytest.mark.parametrize(
    ("version", "holes", "level"),
    [
        ((2, 37, 9), set(), Level.PROBLEM),
        ((2, 39, 3), {"CVE-2025-48384", "CVE-2024-32002"}, Level.OK),
        ((2, 39, 5), {"CVE-2025-48384"}, Level.OK),
        ((2, 43, 7), set(), Level.OK),
        ((2, 45, 1), {"CVE-2025-48384"}, Level.OK),
        ((2, 46, 0), {"CVE-2025-48384"}, Level.OK),
        ((2, 50, 0), {"CVE-2025-48384"}, Level.OK),
        ((2, 51, 0), set(), Level.OK),
    ],
)
def test_git_is_held_against_what_is_known_of_it(version: tuple[int, int, int], holes: set[str], level: Level) -> None:
    first, *rest = git_findings(version)
    assert first.level is level
    assert {one.message.split(" has ")[1].split(" ")[0] for one in rest} == holes


def test_a_library_that_is_missing_or_too_old_is_a_problem_with_its_cure() -> None:
    required = ["jinja2>=3.1.6", "dvc>=3.60", "skops>=0.14", "psycopg>=3; extra == 'postgres'"]
    found = {one.message.split(" ")[0]: one for one in below(required, {"jinja2": "3.1.5", "dvc": "3.67.1"})}
    assert found.keys() == {"jinja2", "skops"}
    assert found["jinja2"].cure == "pip install 'jinja2>=3.1.6'"
    assert "sandbox" in found["jinja2"].message
    assert "is not installed" in found["skops"].message
    assert {one.level for one in found.values()} == {Level.PROBLEM}


def test_another_persons_clone_is_as_sound(team: Shell) -> None:
    other = plain_clone(team)
    found = findings(other)
    assert {one["level"] for one in found} <= {"ok", "note"}, [one for one in found if one["level"] == "warning"]
