"""A remote that refuses, hangs, goes away, is locked or lies: one line tells, and the next reconcile puts all right.

The branches' configuration is refused, so that their records land without a run.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cd4ml.gateways.git import connection
from tests.conftest import Shell
from tests.controller.controller_world import RECORDS, cd4ml, experiment, experiments, git, refs, rejected, remote, runs

Fault = Callable[[Shell, Path, pytest.MonkeyPatch], Callable[[], object]]
"""Makes the remote faulty; gives what mends it."""


def hook(shell: Shell, name: str, script: str) -> Callable[[], object]:
    path = remote(shell).folder / "hooks" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n", "utf-8")
    path.chmod(0o755)
    return path.unlink


def rejects(shell: Shell, _: Path, __: pytest.MonkeyPatch) -> Callable[[], object]:
    return hook(shell, "pre-receive", 'echo "no pushes today" >&2; exit 1')


def hangs(shell: Shell, folder: Path, patch: pytest.MonkeyPatch) -> Callable[[], object]:
    """And does what was asked for, long after nobody waits any more."""
    patch.setattr(connection, "_NETWORK_SECONDS", 2.0)
    script = f"cat > {folder}/asked; grep -q landing {folder}/asked && {{ sleep 4; echo > {folder}/woke; }}; exit 0"
    remove = hook(shell, "pre-receive", script)

    def mend() -> None:
        remove()
        deadline = time.monotonic() + 60
        while not (folder / "woke").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        patch.undo()

    return mend


def dies_before(shell: Shell, _: Path, __: pytest.MonkeyPatch) -> Callable[[], object]:
    return hook(shell, "pre-receive", "kill -9 $PPID")


def dies_after(shell: Shell, _: Path, __: pytest.MonkeyPatch) -> Callable[[], object]:
    return hook(shell, "post-receive", "kill -9 $PPID")


def goes_away(shell: Shell, _: Path, __: pytest.MonkeyPatch) -> Callable[[], object]:
    """In the middle of a push, which ends where nobody looks."""
    here, away = remote(shell).folder, shell.folder.parent / "away.git"
    hook(shell, "pre-receive", f'grep -q landing && mv "{here}" "{away}"; exit 0')

    def mend() -> None:
        away.rename(here)
        (here / "hooks/pre-receive").unlink()

    return mend


def locked(name: str) -> Fault:
    """Whoever was killed in the middle of a push left a lock behind."""

    def make(shell: Shell, _: Path, __: pytest.MonkeyPatch) -> Callable[[], object]:
        path = remote(shell).folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        return path.unlink

    return make


def landing_locked(shell: Shell, _: Path, __: pytest.MonkeyPatch) -> Callable[[], object]:
    """The locks of the very refs that are asked for."""
    folder = remote(shell).folder
    script = f'while read old new ref; do mkdir -p "{folder}/${{ref%/*}}"; : > "{folder}/$ref.lock"; done'
    remove = hook(shell, "pre-receive", script)

    def mend() -> None:
        remove()
        for path in folder.glob("refs/**/*.lock"):
            path.unlink()

    return mend


def shim(script: str) -> Fault:
    """A Git on this machine that goes about pushes in its own way; the script has ``$real``."""

    def make(_: Shell, folder: Path, patch: pytest.MonkeyPatch) -> Callable[[], object]:
        path = folder / "bin" / "git"
        path.parent.mkdir()
        path.write_text(
            f'#!/bin/sh\nreal="{shutil.which("git")}"\ncase " $* " in *" push "*) {script};; esac\nexec "$real" "$@"\n',
            "utf-8",
        )
        path.chmod(0o755)
        patch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")
        return patch.undo

    return make


REFUSED = "could not be landed: git push: "
WAITS = "landed records count, and are not folded: git push: "
FAULTS: dict[str, tuple[Fault, int, tuple[str, ...]]] = {
    "rejects": (rejects, 1, (REFUSED, "pre-receive hook declined")),
    "hangs": (hangs, 1, (REFUSED, "no answer within 2 s")),
    "dies before it is done": (dies_before, 1, (REFUSED, "the remote end hung up")),
    "dies after it is done": (dies_after, 0, ()),
    "goes away": (goes_away, 1, ("git fetch: ", "does not appear to be a git repository")),
    "index locked": (locked("refs/heads/cd4ml/index.lock"), 0, (WAITS, "refs/heads/cd4ml/index.lock': File exists")),
    "packed refs locked": (locked("packed-refs.lock"), 0, (WAITS, "packed-refs.lock': File exists")),
    "landing locked": (landing_locked, 1, (REFUSED, ".lock': File exists")),
    "does it and says no": (shim('"$real" "$@"; echo "fatal: hung up" >&2; exit 1'), 0, ()),
    "does nothing and says yes": (shim("exit 0"), 1, ("origin said that it took record e", "does not have it")),
}


@pytest.mark.parametrize("name", FAULTS)
def test_after_a_faulty_remote_the_next_reconcile_puts_everything_right(team: Shell, tmp_path: Path, name: str) -> None:
    fault, code, words = FAULTS[name]
    experiment(team, "exp/bad", nonsense=1)
    with pytest.MonkeyPatch.context() as patch:
        mend = fault(team, tmp_path, patch)
        done = cd4ml(team, "reconcile", code=None)
        mend()
    told = [line for line in done.lines if "exp/bad" in line or "landed records" in line or "git " in line]
    assert done.code == code, done.err
    assert len(told) == bool(words), done.err
    for word in words:
        assert word in told[0]
    cd4ml(team, "reconcile")
    cd4ml(team, "plan", "--exit-code")
    assert experiments(team)["exp/bad"]["sync"] == "Synced"
    folded = git(remote(team), "ls-tree", "-r", "--name-only", "cd4ml/index", "experiments").split()
    found = [json.loads(git(remote(team), "show", f"cd4ml/index:{path}"))["record"] for path in folded]
    assert [record["branch"] for record in found].count("exp/bad") == 1
    assert not [ref for ref in refs(remote(team)) if ref.startswith(RECORDS)]
    remote(team).run("git", "fsck", "--strict", "--no-dangling")


def test_a_remote_that_forbids_deletes_and_rewinds_takes_all_that_a_reconcile_pushes(team: Shell) -> None:
    for key in ("receive.denyDeletes", "receive.denyNonFastForwards", "receive.fsckObjects"):
        subprocess.run(["git", "config", key, "true"], cwd=remote(team).folder, check=True)
    experiment(team, "exp/bad", nonsense=1)
    assert cd4ml(team, "reconcile").lines == []
    assert experiments(team)["exp/bad"]["sync"] == "Synced"
    assert not [ref for ref in refs(remote(team)) if ref.startswith("refs/cd4ml/")]


def test_a_run_that_the_remote_only_said_it_took_is_told_and_not_run_over_and_over(
    team: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = rejected(team, "exp/x")
    fault, code, _ = FAULTS["does nothing and says yes"]
    mend = fault(team, tmp_path, monkeypatch)
    done = cd4ml(team, "reconcile", "exp/x", code=code)
    assert done.err.count("validate started") == 1
    assert [line for line in done.lines if "origin said that it took record r" in line] != []
    mend()
    cd4ml(team, "reconcile")
    assert [run["commit"] for run in runs(team, "branch = 'exp/x'")] == [source]
