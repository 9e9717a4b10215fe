"""The whole loop on real Git, DVC and Great Expectations: from a branch to a record, and back."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from tests.conftest import Shell
from tests.controller.controller_world import BASELINE, branch, cd4ml, experiment, experiments, rejected, runs


def test_a_reconciled_base_branch_is_synced_and_the_next_plan_is_empty(team: Shell) -> None:
    main = experiments(team)["main"]
    assert (main["sync"], main["health"], main["lifecycle"]) == ("Synced", "Healthy", "open")
    cd4ml(team, "plan", "--exit-code")


@pytest.fixture
def eventful(team: Shell) -> Shell:
    """As ``team``, reconciled: with a branch that is open, one that failed, one that was noted, and one deleted."""
    experiment(team, "exp/open", seed=3)
    rejected(team, "exp/failed", seed=1)
    rejected(team, "exp/noted", seed=2)
    branch(team, "exp/gone", {BASELINE: "# @package _global_\nvalidation: {expectations: []}\n"})
    cd4ml(team, "reconcile")
    cd4ml(team, "note", "exp/noted", "Gusts are not reported at night.")
    team.run("git", "push", "--quiet", "origin", "--delete", "exp/gone")
    cd4ml(team, "reconcile")
    told = {name: (item["lifecycle"], item["health"]) for name, item in experiments(team).items()}
    assert told["exp/open"] == ("open", "Healthy")
    assert told["exp/failed"] == told["exp/noted"] == ("open", "Degraded")
    assert told["exp/gone"] == ("discarded", "Degraded")
    return team


def everything(folder: Path) -> dict[str, tuple[str, int]]:
    """Each path below a folder: the digest of a file, and of refs and objects also when they were written."""
    found = {}
    for path in folder.rglob("*"):
        if path.parent.name == "query" and path.name.endswith((".sqlite-shm", ".sqlite-wal")):
            continue  # what SQLite keeps beside a cache
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        is_gits = not {"refs", "objects", "packed-refs"}.isdisjoint(path.parts)
        found[path.relative_to(folder).as_posix()] = (content, path.lstat().st_mtime_ns if is_gits else 0)
    return found


def test_a_second_reconcile_changes_nothing_of_remote_storage_and_clone(eventful: Shell) -> None:
    before = everything(eventful.folder.parent)
    eventful.run("cd4ml", "reconcile")
    assert everything(eventful.folder.parent) == before


def test_a_pushed_experiment_is_run_once_and_only_its_model_is_trained_anew(team: Shell) -> None:
    cd4ml(team, "new", "boosting", "model=hist_gradient_boosting", "model.estimator.max_iter=20", "--push")
    cd4ml(team, "plan", "--exit-code", code=10)
    done = cd4ml(team, "reconcile")
    told = [line for line in done.err.splitlines() if line.endswith("started") and "land" not in line]
    assert told == ["exp/boosting: train started", "exp/boosting: predict started"]
    item = experiments(team)["exp/boosting"]
    assert (item["sync"], item["health"]) == ("Synced", "Healthy")
    assert item["fingerprint"] == item["merge_fingerprint"]


def test_rejected_data_is_a_result_that_names_the_expectation(team: Shell) -> None:
    cd4ml(team, "new", "gusts", "validation=gusts", "--push")
    cd4ml(team, "reconcile")  # unnamed: a degraded experiment is not an error of the reconcile
    item = experiments(team)["exp/gusts"]
    assert (item["sync"], item["health"]) == ("Synced", "Degraded")
    assert "expect_column_values_to_not_be_null on wind_gust" in item["reason"]
    shown = cd4ml(team, "show", "exp/gusts").out
    assert "expect_column_values_to_not_be_null on wind_gust (critical)" in " ".join(shown.split())
    cd4ml(team, "reconcile", "exp/gusts", code=1)
    cd4ml(team, "plan", "--exit-code")


def test_a_deleted_branch_is_found_and_reproduced_in_a_fresh_clone(team: Shell) -> None:
    cd4ml(team, "new", "trees", "model=xgboost", "model.estimator.n_estimators=10", "--push")
    cd4ml(team, "reconcile")
    (ran,) = runs(team, "branch = 'exp/trees'")
    team.run("git", "branch", "-D", "exp/trees")
    team.run("git", "push", "--quiet", "origin", "--delete", "exp/trees")
    for repository in (".", "../remote.git"):
        team.run("git", "-C", repository, "reflog", "expire", "--expire=now", "--all")
        team.run("git", "-C", repository, "gc", "--quiet", "--prune=now")
    shutil.rmtree(team.folder.parent / "project" / ".dvc" / "cache")
    team.at(team.folder.parent).run("git", "clone", "--quiet", "remote.git", "fresh")
    fresh = team.at(team.folder.parent / "fresh")
    (found,) = runs(fresh, "lifecycle = 'discarded'")
    assert (found["id"], found["metrics"]) == (ran["id"], ran["metrics"])
    told = cd4ml(fresh, "reproduce", "exp/trees", "--json").json["reproductions"][0]
    assert told["equal"]
    assert told["metrics"] == ran["metrics"]
    assert told["model_digest"] == ran["model_digest"]


def test_merging_an_experiment_runs_nothing_again(team: Shell) -> None:
    cd4ml(team, "new", "boosting", "model=hist_gradient_boosting", "model.estimator.max_iter=20", "--push")
    cd4ml(team, "reconcile")
    team.run("git", "merge", "--quiet", "--squash", "exp/boosting")
    team.run("git", "commit", "--quiet", "--message", "Promote boosting")
    team.run("git", "push", "--quiet", "origin", "main")
    done = cd4ml(team, "reconcile", "--json")
    assert done.json["ran"] == []
    assert "train" not in done.err
    after = experiments(team)
    assert "already run as" in after["main"]["reason"]
    assert after["exp/boosting"]["lifecycle"] == "merged"
