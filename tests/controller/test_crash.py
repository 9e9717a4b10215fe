"""A reconcile that is killed at any instant loses nothing, claims nothing false, and is finished by the next."""

from __future__ import annotations

import os
import re
import signal
import subprocess

import pytest

from cd4ml.gateways.process import CRASH_POINTS
from cd4ml.index.claims import CLAIM_PREFIX
from tests.conftest import Shell
from tests.controller.controller_world import (
    BASELINE,
    RECORDS,
    branch,
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

NEEDS_A_RESULT = ("judge.finished", "land.outputs-stored")
"""Points that a rejected table, the cheapest run, never comes to."""

OF_OTHER_VERBS = (
    "bundle.written",
    "bundle.taken",
    "gc.recorded",
    "gc.freed",
    "epoch.committed",
    "epoch.pushed",
    "restore.pushed",
)
"""Points that a reconcile never comes to; the tests of their verbs do."""


def records_on_remote(shell: Shell) -> set[str]:
    """Names of the records that are folded, and of those that have landed."""
    found = refs(remote(shell))
    index = found.get("refs/heads/cd4ml/index")
    listed = git(remote(shell), "ls-tree", "-r", "--name-only", index, "runs", "experiments") if index else ""
    landed = {ref.removeprefix(RECORDS) for ref in found if ref.startswith(RECORDS)}
    return landed | set(re.findall(r"([re][0-9a-f]{20})\.json$", listed, re.MULTILINE))


def assert_converged(shell: Shell, branch: str, source: str, before: set[str], *, health: str) -> None:
    """One plain reconcile finished the work; everything that was recorded is still there."""
    cd4ml(shell, "reconcile")
    cd4ml(shell, "plan", "--exit-code")
    item = experiments(shell)[branch]
    assert (item["sync"], item["health"], item["commit"]) == ("Synced", health, source)
    found = runs(shell, f"branch = '{branch}'")
    assert len(found) == 1, found
    assert found[0]["source_commit"] == source
    assert git(shell, "rev-parse", f"{found[0]['result_commit']}^") == source
    assert records_on_remote(shell) >= before
    assert not [ref for ref in refs(remote(shell)) if ref.startswith((RECORDS, CLAIM_PREFIX))]
    for repository in (shell, remote(shell)):
        told = repository.attempt("git", "fsck", "--strict", "--no-dangling")
        assert told.returncode == 0, told.stderr


@pytest.mark.parametrize("point", [point for point in CRASH_POINTS if point not in OF_OTHER_VERBS])
def test_a_reconcile_killed_at_a_named_point_is_finished_by_the_next(team: Shell, point: str) -> None:
    succeeds = point in NEEDS_A_RESULT
    source = experiment(team, "exp/x", seed=3) if succeeds else rejected(team, "exp/x")
    before = records_on_remote(team)
    done = team.attempt("cd4ml", "reconcile", CD4ML_CRASH_AT=point)
    assert done.returncode == -signal.SIGKILL, f"{point} was not reached: {done.stderr}"
    left = records_on_remote(team)
    assert left >= before
    assert_converged(team, "exp/x", source, left, health="Healthy" if succeeds else "Degraded")


@pytest.mark.parametrize(
    ("line", "succeeds"),
    [
        ("exp/x: validate started", False),
        ("exp/x: run failed", False),
        ("exp/x: train started", True),
        ("exp/x: land started", True),
        ("exp/x: run landed", True),
    ],
)
def test_a_reconcile_killed_after_any_line_of_progress_is_finished_by_the_next(
    team: Shell, line: str, succeeds: bool
) -> None:
    source = experiment(team, "exp/x", seed=3) if succeeds else rejected(team, "exp/x")
    before = records_on_remote(team)
    environment = {**os.environ, **team.environment}
    with subprocess.Popen(
        ["cd4ml", "reconcile"],
        cwd=team.folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as killed:
        assert killed.stderr is not None
        assert f"{line}\n" in iter(killed.stderr.readline, ""), "it ended before it said so"
        os.killpg(killed.pid, signal.SIGKILL)
    assert killed.returncode == -signal.SIGKILL  # and not by itself, before
    left = records_on_remote(team)
    assert left >= before
    assert_converged(team, "exp/x", source, left, health="Healthy" if succeeds else "Degraded")


def test_a_run_that_ends_after_its_branch_moved_speaks_of_the_old_commit_only(team: Shell) -> None:
    old = rejected(team, "exp/x", seed=1)
    team.attempt("cd4ml", "reconcile", CD4ML_CRASH_AT="land.pushed")
    new = commit(team, "main", {"other": "x"})
    push(team, "refs/heads/exp/x", new, "--force")
    cd4ml(team, "reconcile")
    item = experiments(team)["exp/x"]
    assert (item["commit"], item["health"]) == (new, "Healthy")
    assert item["fingerprint"] == experiments(team)["main"]["fingerprint"]
    (failed,) = runs(team, "health = 'Degraded'")
    assert failed["source_commit"] == old


def test_an_interrupt_ends_what_runs_and_records_nothing(team: Shell) -> None:
    slow = git(team, "show", "main:conf/config.yaml").replace("model: ridge", "model: hist_gradient_boosting")
    for iterations in (10**6, 10**7):  # hours of training
        text = f"# @package _global_\nmodel: {{estimator: {{max_iter: {iterations}}}}}\n"
        branch(team, f"exp/slow{iterations}", {"conf/config.yaml": slow, BASELINE: text})
    before = refs(remote(team))
    environment = {**os.environ, **team.environment}
    command = ["cd4ml", "reconcile", "--jobs", "2"]
    running = subprocess.Popen(command, cwd=team.folder, env=environment, stderr=subprocess.PIPE, text=True)
    assert running.stderr is not None
    while "train started" not in running.stderr.readline():
        pass
    running.send_signal(signal.SIGINT)
    told = running.stderr.read()
    assert running.wait(20) == 130
    assert told.splitlines()[-1] == "cd4ml: interrupted"
    assert "Traceback" not in told
    assert refs(remote(team)) == before
