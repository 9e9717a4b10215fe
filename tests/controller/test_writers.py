"""Several reconcilers on one remote, and remotes that refuse, lie or move."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from cd4ml.controller.reconciling.claims import Claims
from cd4ml.gateways.git import RefUpdate, RemoteState, Repository
from tests.conftest import Shell
from tests.controller.controller_world import (
    RECORDS,
    cd4ml,
    commit,
    experiment,
    experiments,
    git,
    push,
    refs,
    rejected,
    remote,
    runs,
)


def hook(shell: Shell, name: str, script: str) -> Path:
    """A hook of the remote."""
    path = shell.folder.parent / "remote.git" / "hooks" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n", "utf-8")
    path.chmod(0o755)
    return path


def clone(shell: Shell, name: str) -> Shell:
    """Another person's clone, with caches of its own."""
    shell.at(shell.folder.parent).run("git", "clone", "--quiet", "remote.git", name)
    return shell.at(shell.folder.parent / name)


def landing(shell: Shell) -> list[str]:
    return [ref for ref in refs(remote(shell)) if ref.startswith(RECORDS)]


def test_reconcilers_at_once_leave_one_result_a_fingerprint_and_keep_every_record(team: Shell) -> None:
    experiment(team, "exp/one", seed=1)
    rejected(team, "exp/two", seed=2)
    clones = [team, *(clone(team, f"clone{number}") for number in range(2))]
    environment = {**os.environ, **team.environment}
    racing = [
        subprocess.Popen(
            ["cd4ml", "reconcile"], cwd=one.folder, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        for one in clones
    ]
    told = [racer.communicate()[1].decode() for racer in racing]
    assert [racer.returncode for racer in racing] == [0] * len(clones), told
    assert "".join(told).count("train started") == 1  # whoever claims it: the others leave it to that one
    for one in clones:
        cd4ml(one, "plan", "--exit-code")
        answers = runs(one, "branch = 'exp/one'")
        assert [run["role"] for run in answers].count("result") == 1
        assert {run["role"] for run in answers} <= {"result", "replicate"}
        assert len({run["fingerprint"] for run in answers}) == 1
        assert len({str(run["metrics"]) for run in answers}) == 1
    assert not landing(team)
    landed = sum(line.endswith(("run landed", "run failed")) for text in told for line in text.splitlines())
    kept = git(remote(team), "ls-tree", "-r", "--name-only", "cd4ml/index", "runs").split()
    assert len(kept) == landed + 1  # and main's own
    remote(team).run("git", "fsck", "--strict", "--no-dangling")


def test_a_push_that_took_place_and_was_reported_as_failed_is_read_back(team: Shell, tmp_path: Path) -> None:
    rejected(team, "exp/x")
    real = shutil.which("git")
    shim = tmp_path / "bin" / "git"
    shim.parent.mkdir()
    told = 'echo "fatal: the remote end hung up unexpectedly" >&2; exit 128'
    shim.write_text(f'#!/bin/sh\n"{real}" "$@" || exit $?\ncase " $* " in *" push "*) {told};; esac\n', "utf-8")
    shim.chmod(0o755)
    done = cd4ml(team, "reconcile", PATH=f"{shim.parent}{os.pathsep}{os.environ['PATH']}")
    assert done.lines == []
    assert len(runs(team, "branch = 'exp/x'")) == 1
    cd4ml(team, "plan", "--exit-code")
    assert not landing(team)


def test_a_push_that_was_reported_as_failed_and_whose_record_was_folded_meanwhile_has_landed(
    team: Shell, tmp_path: Path
) -> None:
    experiment(team, "exp/bad", nonsense=1)
    other, real = clone(team, "other"), shutil.which("git")
    shim = tmp_path / "bin" / "git"
    shim.parent.mkdir()
    fold = f'cd "{other.folder}" && PATH="{os.environ["PATH"]}" cd4ml reconcile >"{tmp_path}/told" 2>&1'
    told = f'{{ {fold}; echo "fatal: the remote end hung up unexpectedly" >&2; exit 1; }}'
    shim.write_text(f'#!/bin/sh\n"{real}" "$@" || exit $?\ncase " $* " in *" push "*) {told};; esac\n', "utf-8")
    shim.chmod(0o755)
    done = cd4ml(team, "reconcile", PATH=f"{shim.parent}{os.pathsep}{os.environ['PATH']}")
    assert (tmp_path / "told").exists()
    assert done.lines == []
    assert not landing(team)
    assert experiments(team)["exp/bad"]["sync"] == "Synced"


def test_the_same_record_that_another_landed_as_another_commit_has_landed(
    team: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two machines that look at one commit say the same of it, each under its own name."""
    experiment(team, "exp/bad", nonsense=1)
    other, push_refs = clone(team, "other"), Repository.push
    first: list[str] = []

    def push_late(self: Repository, remote_name: str, updates: Sequence[RefUpdate], **options: Any) -> None:
        if not first:
            first.append("landed, and not folded")
            other.attempt("cd4ml", "reconcile", CD4ML_CRASH_AT="land.pushed", GIT_COMMITTER_NAME="Another")
            assert len(landing(team)) == 1
        push_refs(self, remote_name, updates, **options)

    monkeypatch.setattr(Repository, "push", push_late)
    assert cd4ml(team, "reconcile").lines == []
    assert first
    assert not landing(team)
    assert experiments(team)["exp/bad"]["sync"] == "Synced"


@pytest.mark.parametrize("opened", [rejected, experiment])
def test_what_another_answered_since_the_plan_was_made_is_not_run_again(
    team: Shell, monkeypatch: pytest.MonkeyPatch, opened: Callable[..., str]
) -> None:
    """Whose claim has gone with the work; by a failure, and by a result."""
    opened(team, "exp/x", seed=71)
    other, take = clone(team, "other"), Claims.take

    def take_late(claims: Claims, fingerprint: str, name: str, state: RemoteState) -> bool:
        other.run("cd4ml", "reconcile")
        return take(claims, fingerprint, name, state)

    monkeypatch.setattr(Claims, "take", take_late)
    assert cd4ml(team, "reconcile", "--json").json["ran"] == []
    (answer,) = runs(team, "branch = 'exp/x'")
    assert answer["health"] == ("Degraded" if opened is rejected else "Healthy")


def test_a_remote_that_refuses_is_told_in_a_line_and_nothing_is_lost(team: Shell) -> None:
    rejected(team, "exp/x")
    before = refs(remote(team))
    refusing = hook(team, "pre-receive", 'echo "no pushes today" >&2; exit 1')
    done = cd4ml(team, "reconcile", code=1)
    assert len(done.lines) == 1, done.err
    assert done.lines[0].startswith("cd4ml: exp/x: record r")
    assert "could not be landed" in done.lines[0]
    assert refs(remote(team)) == before
    assert experiments(team)["exp/x"]["sync"] == "OutOfSync"
    refusing.unlink()
    cd4ml(team, "reconcile")
    assert experiments(team)["exp/x"]["sync"] == "Synced"


def test_a_remote_that_protects_the_index_keeps_the_records_where_they_landed(team: Shell) -> None:
    rejected(team, "exp/x")
    protecting = hook(team, "update", 'case "$1" in refs/heads/cd4ml/*) echo "protected" >&2; exit 1;; esac')
    done = cd4ml(team, "reconcile")
    assert len(done.lines) == 1, done.err
    assert "2 landed records count, and are not folded: " in done.lines[0]
    assert len(landing(team)) == 2
    assert runs(team, "branch = 'exp/x'")[0]["health"] == "Degraded"
    cd4ml(team, "plan", "--exit-code")
    experiment(team, "exp/y", seed=3, validation={"expectations": []})
    cd4ml(team, "reconcile")
    assert experiments(team)["exp/y"]["sync"] == "Synced"
    protecting.unlink()
    cd4ml(team, "reconcile")
    assert not landing(team)


def test_a_remote_that_is_gone_is_told_in_a_line_and_search_still_answers(team: Shell) -> None:
    cd4ml(team, "search")
    remote(team).folder.rename(team.folder.parent / "away.git")
    for verb in ("plan", "status", "reconcile"):
        done = cd4ml(team, verb, code=1)
        assert len(done.lines) == 1, done.err
        assert done.lines[0].startswith("cd4ml: git fetch: ")
    done = cd4ml(team, "search", "--json")
    assert len(done.json["runs"]) == 1
    assert "what the last fetch saw" in done.lines[0]


def test_a_branch_that_moves_or_goes_during_its_run_leaves_no_false_record(team: Shell) -> None:
    old, gone = experiment(team, "exp/moves", seed=5), rejected(team, "exp/goes", seed=6)
    new = commit(team, "main", {"other": "x"})
    push(team, "refs/keep/new", new)
    move = f"git update-ref refs/heads/exp/moves {new} && git update-ref -d refs/heads/exp/goes"
    hook(team, "pre-receive", f"unset GIT_QUARANTINE_PATH; test -e moved || {{ touch moved; {move}; }}")
    cd4ml(team, "reconcile")
    found = experiments(team)
    assert found["exp/moves"]["commit"] == new
    assert found["exp/moves"]["fingerprint"] == found["main"]["fingerprint"]
    cd4ml(team, "plan", "--exit-code")
    by_source = {run["source_commit"]: run for run in runs(team)}
    assert (by_source[old]["health"], by_source[gone]["health"]) == ("Healthy", "Degraded")
    for run in by_source.values():
        assert git(team, "rev-parse", f"{run['result_commit']}^") == run["source_commit"]
        assert run["commit"] in (run["source_commit"], new)


def test_a_landing_ref_that_holds_something_else_is_not_taken_for_the_record(
    team: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment(team, "exp/bad", nonsense=1)
    main, push_refs = refs(remote(team))["refs/heads/main"], Repository.push
    planted: list[str] = []

    def push_late(self: Repository, remote_name: str, updates: Sequence[RefUpdate], **options: Any) -> None:
        if not planted and updates[0].ref.startswith(RECORDS):
            planted.append(updates[0].ref)
            git(remote(team), "update-ref", updates[0].ref, main)
        push_refs(self, remote_name, updates, **options)

    monkeypatch.setattr(Repository, "push", push_late)
    done = cd4ml(team, "reconcile", code=1)
    (line,) = [line for line in done.lines if "exp/bad" in line]
    assert f"record {planted[0].removeprefix(RECORDS)} could not be landed" in line
    cd4ml(team, "restore", "--yes")
    cd4ml(team, "reconcile")
    assert experiments(team)["exp/bad"]["sync"] == "Synced"


def test_a_run_that_was_asked_for_again_is_made_though_another_answered_meanwhile(
    team: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    rejected(team, "exp/x")
    cd4ml(team, "reconcile")
    other, take = clone(team, "other"), Claims.take
    seen: list[int] = []

    def take_late(claims: Claims, *arguments: Any) -> bool:
        if not seen:
            seen.append(other.attempt("cd4ml", "reconcile", "exp/x", "--retry").returncode)
        return take(claims, *arguments)

    monkeypatch.setattr(Claims, "take", take_late)
    assert len(cd4ml(team, "reconcile", "exp/x", "--retry", "--json", code=1).json["ran"]) == 1
    assert seen == [1]
    assert len(runs(team, "branch = 'exp/x'")) == 3
