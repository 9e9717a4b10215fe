"""Plans, reasons and lifecycles, as the state of real repositories makes them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cd4ml.controller.landing.land import land_experiment
from cd4ml.controller.project import Project
from cd4ml.controller.reconciling import apply
from cd4ml.controller.running import run as run_module
from cd4ml.spec.pipeline import MODEL
from tests.conftest import Shell
from tests.controller import keeping_world
from tests.controller.controller_world import (
    BASELINE,
    OTHER_SEED,
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


def actions(shell: Shell, name: str, *options: str) -> list[tuple[str, str | None]]:
    return [(action["action"], action["side"]) for action in experiments(shell, "plan", *options)[name]["actions"]]


# ── failures ──


def test_a_failure_for_good_is_tried_again_only_when_asked(degraded: Shell) -> None:
    cd4ml(degraded, "plan", "--exit-code")
    cd4ml(degraded, "plan", "--exit-code", "--retry", code=10)
    done = cd4ml(degraded, "reconcile", "x", "--retry", code=1)  # named, and degraded still
    assert done.err.count("validate started") == 1
    assert [run["role"] for run in runs(degraded, "branch = 'exp/x'")] == ["attempt", "attempt"]
    assert cd4ml(degraded, "reconcile", "exp/x", code=1).err == ""


def test_a_failure_that_may_pass_is_tried_a_counted_number_of_times(
    team: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment(team, "exp/x", seed=3)
    monkeypatch.setattr(run_module, "_limit", lambda job: 0.0)
    cd4ml(team, "reconcile")
    item = experiments(team)["exp/x"]
    assert (item["sync"], item["health"]) == ("Synced", "Degraded")
    assert "the time limit of executor.timeout_minutes was reached (attempt 3 of 3)" in item["reason"]
    assert len(runs(team, "branch = 'exp/x'")) == 3
    cd4ml(team, "plan", "--exit-code")
    monkeypatch.undo()
    cd4ml(team, "reconcile", "exp/x", "--retry")
    assert experiments(team)["exp/x"]["health"] == "Healthy"


def test_an_environment_that_is_not_installed_is_named_in_a_line_and_holds_nobody_up(team: Shell) -> None:
    lock = git(team, "show", "main:requirements.lock").splitlines()
    other = [line if not line.startswith("pandas==") else "pandas==0.1" for line in lock]
    branch(team, "exp/old", {"requirements.lock": "\n".join(other) + "\n", BASELINE: OTHER_SEED.format(seed=1)})
    rejected(team, "exp/x")
    done = cd4ml(team, "reconcile", code=1)
    (line,) = done.lines
    assert line.startswith("cd4ml: exp/old: requirements.lock: is not what is installed: pandas")
    assert experiments(team)["exp/x"]["sync"] == "Synced"
    assert experiments(team)["exp/old"]["sync"] == "OutOfSync"


def test_another_lock_alone_is_synced_and_says_that_its_environment_is_older(team: Shell) -> None:
    lock = git(team, "show", "main:requirements.lock").splitlines()
    branch(team, "exp/lock", {"requirements.lock": "\n".join(lock[:-1]) + "\n"})
    item = experiments(team)["exp/lock"]
    assert item["sync"] == "Synced"
    assert item["reason"].startswith("environment older: run as r")
    assert actions(team, "exp/lock") == [("record", None)]
    assert actions(team, "exp/lock", "--refresh-env") == [("run", "head")]


# ── whose heads ──


def test_a_head_that_is_not_pushed_is_run_when_named_and_recorded_only_when_published(team: Shell) -> None:
    made = commit(team, "main", {BASELINE: "# @package _global_\nvalidation: {expectations: []}\n"})
    git(team, "update-ref", "refs/heads/exp/mine", made)
    before = refs(remote(team))
    item = experiments(team)["exp/mine"]
    assert (item["sync"], item["reason"], item["published"]) == ("Unknown", "not pushed", False)
    cd4ml(team, "reconcile")
    done = cd4ml(team, "reconcile", "mine", code=1)
    assert "not pushed; conf/experiment/baseline.yaml: validation.expectations" in " ".join(done.out.split())
    assert refs(remote(team)) == before
    cd4ml(team, "reconcile", "exp/mine", "--publish", code=1)
    assert runs(team, "branch = 'exp/mine'")[0]["role"] == "refused"
    assert "refs/heads/exp/mine" not in refs(remote(team))


def test_everything_works_in_a_repository_without_a_remote(team: Shell) -> None:
    source = rejected(team, "exp/x")
    team.run("git", "fetch", "--quiet", "origin", "cd4ml/index:cd4ml/index", "exp/x:exp/x")
    team.run("git", "remote", "remove", "origin")
    cd4ml(team, "reconcile")
    cd4ml(team, "plan", "--exit-code")
    assert [run["source_commit"] for run in runs(team, "branch = 'exp/x'")] == [source]
    assert cd4ml(team, "reproduce", "exp/x", "--json").json["reproductions"][0]["equal"]
    assert not [ref for ref in refs(team) if ref.startswith("refs/cd4ml/landing/")]


# ── reasons ──


def test_a_merge_result_that_differs_is_run_too_and_says_so(degraded: Shell) -> None:
    push(degraded, "refs/heads/main", commit(degraded, "main", {"conf/split/time.yaml": later_split(degraded)}))
    item = experiments(degraded)["exp/x"]
    assert item["reason"].endswith("merge result differs from the head in spec")
    assert item["fingerprint"] != item["merge_fingerprint"]
    assert actions(degraded, "exp/x") == [("run", "merge")]
    assert experiments(degraded)["main"]["reason"] == "spec moved"


def later_split(shell: Shell) -> str:
    """The split a day later."""
    return git(shell, "show", "main:conf/split/time.yaml").replace("-01", "-02", 1) + "\n"


def test_a_conflict_with_the_base_branch_is_told_by_file(team: Shell) -> None:
    rejected(team, "exp/x")
    push(team, "refs/heads/main", commit(team, "main", {BASELINE: "# @package _global_\nname: moved\nseed: 99\n"}))
    item = experiments(team)["exp/x"]
    assert f"conflicts with main in {BASELINE}" in item["reason"]
    assert item["merge_fingerprint"] is None


def test_what_moved_is_named_data_spec_and_code(team: Shell) -> None:
    pin = json.loads(git(team, "show", "main:data/planes.lock.json"))
    moved = json.dumps({**pin, "digest": "0" * 64}, indent=1) + "\n"
    own = git(team, "show", "main:conf/config.yaml").replace("code: []", "code: [own]") + "\n"
    for files, reason in (
        ({"data/planes.lock.json": moved}, "data moved"),
        ({BASELINE: OTHER_SEED.format(seed=2)}, "spec moved"),
        ({"conf/config.yaml": own, "own/x.py": "x"}, "code moved"),
        ({"README.md": "x", BASELINE: "# @package _global_\nname: renamed\nhypothesis: same\n"}, None),
    ):
        push(team, "refs/heads/main", commit(team, "main", files), "--force")
        told = experiments(team)["main"]["reason"]
        assert (told == reason) if reason else told.startswith("already run as r"), (reason, told)


def test_a_note_outlives_what_the_machine_writes_afterwards(degraded: Shell) -> None:
    cd4ml(degraded, "note", "x", "Gusts are not reported at night.")
    assert runs(degraded, "branch = 'exp/x'")[0]["conclusion"] == "Gusts are not reported at night."
    cd4ml(degraded, "reconcile", "--retry")
    found = runs(degraded, "branch = 'exp/x'")
    assert {run["conclusion"] for run in found} == {"Gusts are not reported at night."}
    cd4ml(degraded, "plan", "--exit-code")


# ── lifecycle ──


@pytest.mark.parametrize("how", ["merge", "squash", "rebase"])
def test_a_merged_experiment_is_known_however_it_was_merged(degraded: Shell, how: str) -> None:
    degraded.run("git", "fetch", "--quiet", "origin")
    degraded.run("git", "commit", "--quiet", "--allow-empty", "--message", "Meanwhile")
    if how == "merge":
        degraded.run("git", "merge", "--quiet", "--no-ff", "-m", "Merge", "origin/exp/x")
    elif how == "squash":
        degraded.run("git", "merge", "--quiet", "--squash", "origin/exp/x")
        degraded.run("git", "commit", "--quiet", "--message", "Squashed")
    else:
        degraded.run("git", "cherry-pick", "origin/exp/x")
    degraded.run("git", "push", "--quiet", "origin", "main")
    assert experiments(degraded)["exp/x"]["lifecycle"] == "merged"
    assert experiments(degraded)["main"]["reason"].startswith("failed at validate")  # by the experiment's own run
    assert actions(degraded, "main") == [("record", None)]
    degraded.run("git", "push", "--quiet", "origin", "--delete", "exp/x")
    cd4ml(degraded, "reconcile")
    item = experiments(degraded)["exp/x"]
    assert (item["lifecycle"], item["reason"]) == ("merged", "branch gone: merged into main")
    cd4ml(degraded, "plan", "--exit-code")


def test_a_deleted_experiment_is_discarded_and_its_reason_says_so(team: Shell) -> None:
    branch(team, "exp/x", {BASELINE: "# @package _global_\nvalidation: {expectations: []}\n"})
    cd4ml(team, "reconcile")
    team.run("git", "push", "--quiet", "origin", "--delete", "exp/x")
    item = experiments(team)["exp/x"]
    assert (item["lifecycle"], item["reason"]) == ("discarded", "branch gone: discarded")
    assert runs(team, "lifecycle = 'discarded'")[0]["role"] == "refused"
    cd4ml(team, "plan", "--exit-code")


def test_everything_that_is_kept_locally_can_be_thrown_away(degraded: Shell) -> None:
    verbs = (["status", "--json"], ["search", "--json"], ["plan", "--json"], ["show", "exp/x", "--json"])
    before = [cd4ml(degraded, *verb).out for verb in verbs]
    damages: tuple[Callable[[Path], None], ...] = (shutil.rmtree, _overwrite)
    for number, damage in enumerate(damages):
        damage(degraded.folder / ".git" / "cd4ml")
        shutil.rmtree(degraded.folder / ".dvc" / "cache", ignore_errors=True)
        assert [cd4ml(degraded, *verb).out for verb in verbs] == before, number
        cd4ml(degraded, "reconcile")


def _overwrite(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(0o600)
            path.write_bytes(b"damaged")


# ── what is the user's stays as it is ──


def snapshot(shell: Shell) -> dict[str, str]:
    """Everything of a clone that belongs to its user: files, index, HEAD, refs, stash, settings."""
    top, inside = shell.folder, shell.folder / ".git"
    files = {
        str(path.relative_to(top)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(top.rglob("*"))
        if path.is_file() and not path.is_relative_to(inside) and not path.is_relative_to(top / ".dvc")
    }
    for name in ("index", "HEAD", "config", "logs/refs/stash", "logs/HEAD"):
        files[f".git/{name}"] = hashlib.sha256((inside / name).read_bytes()).hexdigest()
    for name in ("config", ".gitignore"):
        files[f".dvc/{name}"] = (top / ".dvc" / name).read_text("utf-8")
    seen = ("refs/cd4ml/", "refs/remotes/")  # what was seen of the remote, which Git itself keeps current
    kept = {ref: value for ref, value in refs(shell).items() if not ref.startswith(seen)}
    return {**files, **kept}


@dataclass(frozen=True)
class Verb:
    """A command line, what it says when it did its work, and what happened before so that there was some."""

    command: list[str]
    says: str = ""
    before: Callable[[Shell], None] = lambda _: None


def dvc_experiment(shell: Shell) -> None:
    """An experiment of DVC's, as its refs hold one."""
    head = git(shell, "rev-parse", "HEAD")
    made = commit(shell, "HEAD", {BASELINE: OTHER_SEED.format(seed=9)})
    git(shell, "update-ref", f"refs/exps/{head[:2]}/{head[2:]}/one", made)


def index_moved_back(shell: Shell) -> None:
    git(remote(shell), "update-ref", "refs/heads/cd4ml/index", "refs/heads/cd4ml/index~1")


def a_model_is_missing(shell: Shell) -> None:
    (run,) = cd4ml(shell, "show", "main", "--json").json["runs"]
    md5 = run["record"]["files"][MODEL]["md5"]
    (keeping_world.cache(shell) / md5[:2] / md5[2:]).unlink()


def an_unknown_object(shell: Shell) -> None:
    keeping_world.put(shell, b"of nobody")


def another_run(shell: Shell) -> None:
    keeping_world.plant(shell, "one")


VERBS = (
    Verb(["plan"]),
    Verb(["status"]),
    Verb(["reconcile"]),
    Verb(["search"]),
    Verb(["show", "exp/x"]),
    Verb(["diff", "main", "main"]),
    Verb(["note", "exp/x", "a note"]),
    Verb(["config", "main"]),
    Verb(["check", "main"], "all is well"),
    Verb(["leaderboard"], "1 run"),
    Verb(["lineage", "main"], "from data flights"),
    Verb(["report", "exp/x"], "Failed at validate"),
    Verb(["reproduce", "exp/x"], "fails again"),
    Verb(["reproduce", "main"], "is reproduced"),
    Verb(["doctor"], "honours leases"),
    Verb(["restore", "--dry-run"], "move    the index", index_moved_back),
    Verb(["restore", "--yes"], "restored"),
    Verb(["verify", "main", "--repair"], MODEL, a_model_is_missing),
    Verb(["gc"], "are known to no record", an_unknown_object),
    Verb(["gc", "--apply", "--local", "--all-unknown", "--yes"], "freed: 1 object"),
    Verb(
        ["forget", "exp/one", "--reason", "Asked for", "--keep-data", "--yes"],
        "stored objects were deleted",
        another_run,
    ),
    Verb(["import", "dvc-exp"], "1 run imported"),
)


def test_no_verb_touches_what_is_the_users(team: Shell) -> None:
    rejected(team, "exp/x")
    dvc_experiment(team)
    (team.folder / "dvc.yaml").write_text("changed, and stashed\n", "utf-8")
    team.run("git", "stash", "--quiet")
    (team.folder / "staged").write_text("staged\n", "utf-8")
    team.run("git", "add", "staged")
    (team.folder / "untracked").write_text("untracked\n", "utf-8")
    (team.folder / BASELINE).write_text("broken: [\n", "utf-8")
    team.run("git", "switch", "--quiet", "--detach")
    os.utime(team.folder / "staged", (1, 1))  # an index that could be refreshed
    before = snapshot(team)
    for verb in VERBS:
        verb.before(team)
        said = cd4ml(team, *verb.command).out
        assert verb.says in said, verb
        after = snapshot(team)
        assert {name for name in {*before, *after} if before.get(name) != after.get(name)} == set(), verb
    cd4ml(team, "new", "y", "seed=4", "--hypothesis", "untouched")
    made = snapshot(team)
    assert {name for name in made if made[name] != before.get(name)} == {"refs/heads/exp/y"}


@pytest.mark.parametrize("error", [RuntimeError("odd"), OSError(28, "No space left on device")], ids=["defect", "disk"])
def test_an_error_met_on_one_branch_is_told_in_a_line_and_stops_no_other(
    team: Shell, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    for name in ("exp/bad", "exp/good"):
        experiment(team, name, nonsense=1)

    def met(project: Project, body: Mapping[str, Any]) -> str:
        if body["branch"] == "exp/bad":
            raise error
        return land_experiment(project, body)

    monkeypatch.setattr(apply, "land_experiment", met)
    (line,) = cd4ml(team, "reconcile", code=1).lines
    assert line.startswith("cd4ml: exp/bad: ")
    assert ("a defect of cd4ml: RuntimeError: odd in " in line) == isinstance(error, RuntimeError)
    found = experiments(team)
    assert (found["exp/good"]["sync"], found["exp/bad"]["sync"]) == ("Synced", "OutOfSync")
