"""Execute and land as jobs of their own: what is recorded is what one reconcile would have recorded."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Shell
from tests.controller.controller_world import (
    BASELINE,
    RECORDS,
    branch,
    cd4ml,
    commit,
    experiments,
    git,
    push,
    refs,
    remote,
    runs,
)
from tests.controller.keeping_world import listing, storage
from tests.controller.parts_world import Parts, assert_published, records, retell, run_of, told

FORGET = ("--reason", "Erasure request 12", "--yes")
OF_TIME = ("id", "started", "finished", "cost")
"""What two executions of the same differ in."""


NEEDS_A_RESULT = ("judge.finished", "land.outputs-stored")
"""Points that a rejected table never comes to."""


def timeless(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in OF_TIME}


def test_what_is_landed_from_bundles_is_what_reconcile_records_but_for_times(parts: Parts, tmp_path: Path) -> None:
    shutil.copytree(parts.folder, tmp_path / "other", symlinks=True)
    other = Parts(tmp_path / "other", parts.environment)
    cd4ml(other.project, "reconcile")
    cd4ml(parts.lander, "land", str(parts.bundles))
    for name in ("exp/x", "exp/bad"):
        assert timeless(run_of(parts.project, name)) == timeless(run_of(other.project, name))
    answered = [
        {key: value for key, value in one.items() if key not in ("id", "answer")}
        for project in (parts.project, other.project)
        for one in sorted(records(project).values(), key=lambda one: str(one["branch"]))
        if one["kind"] == "experiment"
    ]
    assert answered[: len(answered) // 2] == answered[len(answered) // 2 :]
    assert {one["branch"] for one in answered} == {"main", "exp/x", "exp/bad"}
    assert cd4ml(parts.lander, "plan", "--exit-code").code == 0
    assert experiments(parts.lander)["exp/bad"]["health"] == "Degraded"


def test_outputs_of_a_landed_bundle_come_back_from_the_remote_with_plain_dvc(parts: Parts) -> None:
    cd4ml(parts.lander, "land", str(parts.bundles))
    run = run_of(parts.project, "exp/x")
    found = cd4ml(parts.lander, "search", "branch = 'exp/x'", "--json").json["runs"][0]
    git(parts.project, "fetch", "--quiet", "origin", "cd4ml/index")
    git(parts.project, "checkout", "--quiet", found["result_commit"])
    shutil.rmtree(parts.project.folder / ".dvc/cache", ignore_errors=True)
    parts.project.run("dvc", "pull", "--quiet")
    model = parts.project.folder / "artifacts/train/model.skops"
    assert model.stat().st_size == run["model"]["bytes"]


def test_execute_changes_nothing_on_any_remote(executed_parts: Parts) -> None:
    there = refs(remote(executed_parts.project))
    assert not [ref for ref in there if ref.startswith("refs/cd4ml/")]
    assert {one["branch"] for one in records(executed_parts.project).values()} == {"main"}
    stored = {path.name for path in (executed_parts.folder / "storage").rglob("*") if path.is_file()}
    files = told(executed_parts.bundle("exp/x"))["files"]
    assert files["artifacts/train/model.skops"]["md5"][2:] not in stored


def test_execute_writes_a_bundle_a_run_and_a_failed_run_leaves_one_too(executed_parts: Parts) -> None:
    good, bad = (told(executed_parts.bundle(name)) for name in ("exp/x", "exp/bad"))
    assert good["failure"] is None
    assert bad["failure"]["stage"] == "validate"
    assert bad["failure"]["kind"] == "deterministic"
    assert list(bad["files"]) == ["artifacts/validate/results.json"]
    assert "artifacts/evaluate/metrics.json" not in good["files"], "the judge's, and nobody else's"
    assert {path.name for path in executed_parts.bundles.iterdir()} == {
        "bundles.json",
        good["fingerprint"],
        bad["fingerprint"],
    }


def test_execute_again_replaces_its_bundles_and_counts_them_for_ci(parts: Parts) -> None:
    before = told(parts.bundle("exp/bad"))
    (parts.bundles / ".part-of-a-killed-one").mkdir()
    counted = parts.folder / "outputs"
    counted.write_text("other=1\n", "utf-8")
    arguments = ("execute", "exp/bad", "--output", str(parts.bundles), "--outputs", str(counted), "--json")
    printed = cd4ml(parts.runner, *arguments).json
    assert_published(printed, "bundles")
    (made,) = printed["bundles"]
    assert counted.read_text("utf-8") == "other=1\nruns=1\n"
    assert told(parts.bundle("exp/bad")) == made
    assert made["fingerprint"] == before["fingerprint"]
    assert not (parts.bundles / ".part-of-a-killed-one").exists()


def test_a_folder_that_holds_something_else_is_refused_and_left_alone(parts: Parts) -> None:
    folder = parts.folder / "mine"
    folder.mkdir()
    (folder / "thesis.txt").write_text("dear", "utf-8")
    done = cd4ml(parts.runner, "execute", "--output", str(folder), code=2)
    assert "holds 'thesis.txt', which is none of ours" in done.err
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]


def test_with_nothing_to_run_there_is_still_a_folder_to_hand_over_and_land_records_what_is_due(parts: Parts) -> None:
    for name in ("exp/x", "exp/bad"):
        git(remote(parts.project), "update-ref", "-d", f"refs/heads/{name}")
    conf = {"conf/experiment/baseline.yaml": "# @package _global_\nname: baseline\nhypothesis: the same again\n"}
    branch(parts.project, "exp/same", conf)
    empty = parts.folder / "empty"
    assert cd4ml(parts.runner, "execute", "--output", str(empty), "--json").json["bundles"] == []
    assert [path.name for path in empty.iterdir()] == ["bundles.json"]
    cd4ml(parts.lander, "land", str(empty))
    assert "exp/same" in {one["branch"] for one in records(parts.project).values()}


def test_a_bundle_given_twice_or_landed_again_gives_one_run(parts: Parts) -> None:
    cd4ml(parts.lander, "land", str(parts.bundles))
    before = records(parts.project)
    index = refs(remote(parts.project))["refs/heads/cd4ml/index"]
    done = cd4ml(parts.lander, "land", str(parts.bundles))
    assert done.err.count("dropped, since it has landed") == 2, done.err
    cd4ml(parts.runner, "land", str(parts.bundles))  # another clone, which has not seen it
    assert records(parts.project) == before
    assert refs(remote(parts.project))["refs/heads/cd4ml/index"] == index


def test_a_transient_failure_is_landed_once_and_asked_for_again(parts: Parts) -> None:
    def out_of_memory(said: dict[str, Any]) -> None:
        said["failure"] = {"stage": "train", "message": "ran out of memory", "kind": "transient"}

    retell(parts.bundle("exp/bad"), out_of_memory)
    for _ in range(2):
        done = cd4ml(parts.lander, "land", str(parts.bundles))
        assert "1 run is still to be executed: exp/bad" in done.err
    assert run_of(parts.project, "exp/bad")["reason"]["kind"] == "transient"
    assert experiments(parts.lander)["exp/bad"]["actions"]


def test_a_failure_that_has_landed_answers_nothing_again_though_its_run_is_asked_for(parts: Parts) -> None:
    failure = {"stage": "train", "message": "ran out of memory", "kind": "transient"}
    retell(parts.bundle("exp/bad"), lambda said: said.update(failure=failure))
    shutil.rmtree(parts.bundle("exp/x"))
    fingerprint = told(parts.bundle("exp/bad"))["fingerprint"][:12]
    assert "land started" in cd4ml(parts.lander, "land", str(parts.bundles)).err
    again = cd4ml(parts.lander, "land", str(parts.bundles)).err
    assert f"bundle {fingerprint} of exp/bad: dropped, since it has landed" in again
    assert "land started" not in again
    assert "still to be executed: exp/bad" in again


@pytest.mark.parametrize(
    "point", ["bundle.taken", "judge.finished", "land.outputs-stored", "land.pushed", "fold.pushed"]
)
def test_a_land_killed_at_a_named_point_is_finished_by_the_next(parts: Parts, point: str) -> None:
    branch = "exp/x" if point in NEEDS_A_RESULT else "exp/bad"
    shutil.rmtree(parts.bundle("exp/bad" if branch == "exp/x" else "exp/x"))
    killed = parts.lander.attempt("cd4ml", "land", str(parts.bundles), CD4ML_CRASH_AT=point)
    assert killed.returncode == -signal.SIGKILL, f"{point} was not reached: {killed.stderr}"
    cd4ml(parts.lander, "land", str(parts.bundles))
    assert run_of(parts.project, branch)["finished"] == told(parts.bundle(branch))["finished"]
    assert not experiments(parts.lander)[branch]["actions"]
    assert not [ref for ref in refs(remote(parts.project)) if ref.startswith(RECORDS)]


def test_an_execute_killed_after_a_bundle_leaves_it_whole(parts: Parts) -> None:
    output = parts.folder / "again"
    killed = parts.runner.attempt(
        "cd4ml", "execute", "exp/bad", "--output", str(output), CD4ML_CRASH_AT="bundle.written"
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    cd4ml(parts.lander, "land", str(output))
    assert run_of(parts.project, "exp/bad")["outcome"] == "failed"


def test_two_land_jobs_at_once_leave_one_result_each_and_lose_nothing(parts: Parts) -> None:
    words = ["cd4ml", "land", str(parts.bundles)]
    started = [
        subprocess.Popen(
            words, cwd=shell.folder, env=_environment(shell), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for shell in (parts.lander, parts.runner)
    ]
    for process in started:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err.decode()
    cd4ml(parts.lander, "plan", "--exit-code")
    assert run_of(parts.project, "exp/x")["outcome"] == "succeeded"
    assert run_of(parts.project, "exp/bad")["outcome"] == "failed"


def _environment(shell: Shell) -> dict[str, str]:
    return {**os.environ, **shell.environment}


def test_what_was_made_of_data_that_were_erased_before_the_land_began_does_not_land(parts: Parts) -> None:
    """The lander has a copy of the raw data yet, as a job's cache may."""
    (main,) = runs(parts.runner, "branch = 'main'")
    cd4ml(parts.runner, "forget", main["id"], *FORGET, "--all-runs-of-data")
    before = listing(storage(parts.project))
    done = cd4ml(parts.project, "land", str(parts.bundles), code=1)
    assert "these data were erased on " in done.err
    assert listing(storage(parts.project)) == before
    assert [one["id"] for one in records(parts.project).values() if one["kind"] == "run"] == [main["id"]]


def test_an_answer_that_nobody_asks_for_any_more_is_dropped_with_one_line(parts: Parts) -> None:
    git(remote(parts.project), "update-ref", "-d", "refs/heads/exp/x")
    done = cd4ml(parts.lander, "land", str(parts.bundles))
    said = told(parts.bundle("exp/x"))
    line = f"bundle {said['fingerprint'][:12]} of exp/x: dropped, since nobody asks for it at {said['commit'][:12]}"
    assert done.lines == [f"cd4ml: {line}"]
    assert {one["branch"] for one in records(parts.project).values() if one["kind"] == "run"} == {"main", "exp/bad"}


def test_a_head_that_moved_on_without_asking_for_anything_else_is_answered_at_the_commit_that_was_run(
    parts: Parts,
) -> None:
    head = told(parts.bundle("exp/bad"))["commit"]
    push(parts.project, "refs/heads/exp/bad", commit(parts.project, head, {"NOTES.md": "a word"}))
    shutil.rmtree(parts.bundle("exp/x"))
    cd4ml(parts.lander, "land", str(parts.bundles))
    assert run_of(parts.project, "exp/bad")["commit"] == head
    assert not experiments(parts.lander)["exp/bad"]["actions"]


def test_a_merge_result_of_an_earlier_main_lands_when_git_gives_the_same_merge_again(parts: Parts) -> None:
    split = git(parts.project, "show", "main:conf/split/time.yaml").replace("2013-11-01", "2013-11-15")
    main = commit(parts.project, "main", {"conf/split/time.yaml": split + "\n"})
    push(parts.project, "refs/heads/main", main)
    again = parts.folder / "again"
    made = cd4ml(parts.runner, "execute", "exp/bad", "--output", str(again), "--json").json["bundles"]
    (merge,) = (bundle for bundle in made if bundle["side"] == "merge")
    push(parts.project, "refs/heads/main", commit(parts.project, main, {"NOTES.md": "a word"}))
    done = cd4ml(parts.lander, "land", str(again))
    assert "dropped" not in done.err
    found = [one for one in records(parts.project).values() if one["kind"] == "run" and one["branch"] == "exp/bad"]
    assert {(one["side"], one["commit"]) for one in found} == {(one["side"], one["commit"]) for one in made}
    assert git(remote(parts.project), "rev-parse", f"{merge['commit']}^1") == main
    assert not experiments(parts.lander)["exp/bad"]["actions"]


def test_an_answer_for_a_commit_that_the_branch_never_had_is_dropped_although_the_fingerprint_is_right(
    parts: Parts,
) -> None:
    other = commit(parts.project, told(parts.bundle("exp/bad"))["commit"], {"NOTES.md": "elsewhere"})
    push(parts.project, "refs/heads/other", other)
    tree = git(parts.project, "rev-parse", f"{other}^{{tree}}")
    retell(parts.bundle("exp/bad"), lambda said: said.update(commit=other, head=other, tree=tree))
    shutil.rmtree(parts.bundle("exp/x"))
    done = cd4ml(parts.lander, "land", str(parts.bundles))
    assert f"of exp/bad: dropped, since nobody asks for it at {other[:12]}" in done.err
    assert "1 run is still to be executed: exp/bad" not in done.err
    assert "2 runs are still to be executed: exp/bad, exp/x" in done.err


def test_an_answer_for_an_earlier_head_that_asked_for_something_else_is_dropped_although_the_branch_had_it(
    parts: Parts,
) -> None:
    earlier = git(parts.project, "rev-parse", f"{told(parts.bundle('exp/bad'))['commit']}^")
    tree = git(parts.project, "rev-parse", f"{earlier}^{{tree}}")
    retell(parts.bundle("exp/bad"), lambda said: said.update(commit=earlier, head=earlier, tree=tree))
    done = cd4ml(parts.lander, "land", str(parts.bundles), "exp/bad")
    assert f"of exp/bad: dropped, since nobody asks for it at {earlier[:12]}" in done.err
    assert not [one for one in records(parts.project).values() if one["kind"] == "run" and one["branch"] == "exp/bad"]


def test_the_policy_is_that_of_today_and_not_of_when_it_was_executed(parts: Parts) -> None:
    config = git(parts.project, "show", "main:conf/config.yaml").replace("allowed_packages: [sklearn, xgboost]", "")
    assert config != git(parts.project, "show", "main:conf/config.yaml")
    stricter = commit(parts.project, "main", {"conf/config.yaml": config + "\nallowed_packages: [xgboost]\n"})
    push(parts.project, "refs/heads/main", stricter)
    cd4ml(parts.lander, "land", str(parts.bundles), code=None)
    assert not [one for one in records(parts.project).values() if one["kind"] == "run" and one["branch"] == "exp/x"]


def test_land_trains_nothing_and_says_what_is_still_to_be_executed(parts: Parts) -> None:
    shutil.rmtree(parts.bundle("exp/x"))
    done = cd4ml(parts.lander, "land", str(parts.bundles), "--json")
    assert done.lines == ["cd4ml: 1 run is still to be executed: exp/x"]
    assert done.json["still"] == ["exp/x"]
    assert_published(done.json, "experiments")
    assert experiments(parts.lander)["exp/x"]["health"] == "Missing"


def test_an_answer_for_another_branch_than_those_whose_code_ran_there_never_lands(parts: Parts) -> None:
    """Code of exp/bad left an answer to what exp/x asks for, in whosever name."""
    named = {"exp/bad": "exp/bad", "exp/x": "exp/x"}
    for claimed in named:
        failure = {"stage": "train", "message": "your model is bad", "kind": "deterministic"}
        forged = parts.bundle(named["exp/x"])
        shutil.rmtree(forged / "files", ignore_errors=True)
        retell(forged, lambda said: said.update(branch=claimed, failure=failure, files={}))  # noqa: B023  # called here
        shutil.copytree(forged, parts.folder / claimed / forged.name)
        shutil.copy(parts.bundles / "bundles.json", parts.folder / claimed)
        done = cd4ml(parts.lander, "land", str(parts.folder / claimed), "--", "exp/bad")
        fingerprint = told(forged)["fingerprint"][:12]
        assert f"bundle {fingerprint} of {claimed}: is of another branch, exp/x, dropped" in done.err
        assert "still to be executed: exp/bad, exp/x" in done.err
        retell(forged, lambda said: said.update(branch="exp/x"))
    assert not [one for one in records(parts.project).values() if one["kind"] == "run" and one["branch"] == "exp/x"]
    assert experiments(parts.lander)["exp/x"]["health"] == "Missing"


def test_with_branches_named_their_answers_land_and_what_git_asks_to_be_recorded_is_recorded_of_all(
    parts: Parts,
) -> None:
    conf = {"conf/experiment/baseline.yaml": "# @package _global_\nname: baseline\nhypothesis: the same again\n"}
    branch(parts.project, "exp/same", conf)
    done = cd4ml(parts.lander, "land", str(parts.bundles), "exp/bad")
    assert run_of(parts.project, "exp/bad")["outcome"] == "failed"
    assert "is of another branch, exp/x, dropped" in done.err
    recorded = {one["branch"] for one in records(parts.project).values() if one["kind"] == "experiment"}
    assert recorded >= {"exp/bad", "exp/same"}
    assert "exp/x" not in recorded


def test_a_failures_message_commands_no_runner_however_it_is_laid_out(parts: Parts) -> None:
    command = "::error title=cd4ml::main is compromised"
    for padding in ("", "x" * 74 + " ", "y" * 130):
        message = f"{padding}{command} ##[error]x"
        failure = {"stage": "train", "message": message, "kind": "transient"}
        shutil.rmtree(parts.bundle("exp/bad") / "files", ignore_errors=True)
        retell(parts.bundle("exp/bad"), lambda said: said.update(failure=failure, files={}))  # noqa: B023  # called here
        done = cd4ml(parts.lander, "land", str(parts.bundles), "exp/bad")
        lines = (done.out + done.err).splitlines()
        assert any("title=cd4ml" in line for line in lines)
        assert not [line for line in lines if line.strip().startswith("::") or "##[" in line]


def test_a_claim_of_another_does_not_keep_an_answer_from_landing(parts: Parts) -> None:
    fingerprint = told(parts.bundle("exp/x"))["fingerprint"]
    blob = git(parts.project, "hash-object", "-w", "--stdin", stdin=b"{}")
    git(parts.project, "push", "--quiet", "origin", f"{blob}:refs/cd4ml/claims/{fingerprint}")
    cd4ml(parts.lander, "land", str(parts.bundles))
    assert run_of(parts.project, "exp/x")["outcome"] == "succeeded"


def test_a_branch_that_is_not_pushed_is_not_executed_for_others(parts: Parts) -> None:
    made = commit(parts.runner, "origin/main", {BASELINE: "# @package _global_\nname: local\nseed: 11\n"})
    git(parts.runner, "branch", "exp/local", made)
    done = cd4ml(parts.runner, "execute", "exp/local", "--output", str(parts.folder / "out"), code=1)
    assert done.lines == ["cd4ml: exp/local: is not pushed, so nobody could land its result: push it first"]
