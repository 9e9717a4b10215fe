"""`cd4ml run`: the work tree as it is, a draft, and the branch that comes to ask for the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from cd4ml.controller.landing import drafts
from cd4ml.controller.project import open_project
from tests.conftest import Shell
from tests.controller.controller_world import Done, cd4ml, commit, experiments, git, holding, push, refs, remote, runs

SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"
RIDGE = "conf/model/ridge.yaml"
DRAFTS = "refs/cd4ml/draft/"


def edit(shell: Shell, path: str, old: str, new: str) -> None:
    file = shell.folder / path
    text = file.read_text("utf-8")
    assert old in text
    file.write_text(text.replace(old, new), "utf-8")


def ran(done: Done) -> dict[str, Any]:
    schema = json.loads((SCHEMAS / "edits.schema.json").read_text("utf-8"))
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(done.json)
    (item,) = done.json["edits"]
    assert isinstance(item, dict)
    return item


def own_refs(shell: Shell) -> dict[str, str]:
    return {name: commit for name, commit in refs(shell).items() if not name.startswith("refs/cd4ml/remote/")}


def drafts_of(shell: Shell) -> set[str]:
    return {name.removeprefix(DRAFTS) for name in refs(shell) if name.startswith(DRAFTS)}


def untouched(shell: Shell) -> tuple[str, ...]:
    """Everything of the user's that a run must leave alone."""
    status = git(shell, "status", "--porcelain", "--ignored")  # which may itself refresh the index
    index = (shell.folder / ".git" / "index").read_bytes().hex()
    settings = (shell.folder / ".git" / "config").read_text("utf-8")
    heads = git(shell, "for-each-ref", "refs/heads", "refs/stash", "refs/tags")
    return (index, settings, heads, git(shell, "rev-parse", "HEAD"), git(shell, "symbolic-ref", "HEAD"), status)


def test_an_edit_is_run_and_compared_with_the_champion_and_nothing_of_the_users_is_touched(team: Shell) -> None:
    edit(team, RIDGE, "alpha: 1.0", "alpha: 11.0")
    (team.folder / "README.md").write_text("# not committed\n", "utf-8")
    team.run("git", "add", "README.md")
    before, there = untouched(team), refs(remote(team))
    item = ran(cd4ml(team, "run", "--json"))
    assert (item["outcome"], item["known"], item["branch"]) == ("succeeded", False, "main (work tree)")
    changed = {one["key"] for one in item["comparison"]["config"]}
    assert "model.parameters.alpha" in changed
    assert item["champion"] == item["comparison"]["champion"]
    assert untouched(team) == before
    assert refs(remote(team)) == there
    assert drafts_of(team) == {item["id"]}
    assert git(team, "rev-parse", f"{item['commit']}^") == git(team, "rev-parse", "HEAD")
    assert "alpha: 11.0" in git(team, "show", f"{item['commit']}:{RIDGE}")
    assert git(team, "ls-tree", item["commit"], "README.md") == git(team, "ls-tree", "HEAD", "README.md")

    again = cd4ml(team, "run")
    assert f"already run as {item['id']} for main (work tree)\n" in again.out
    assert "rmse" in again.out
    assert again.err == ""
    assert runs(team, "branch = 'main (work tree)'")[0]["lifecycle"] == "open"
    assert cd4ml(team, "show", "main", "--json").json["runs"][0]["id"] == item["champion"]


def test_a_commit_that_asks_for_the_same_adopts_the_run_and_a_push_lands_it_without_training(team: Shell) -> None:
    team.run("git", "switch", "--quiet", "--create", "exp/mine")
    edit(team, RIDGE, "alpha: 1.0", "alpha: 12.0")
    item = ran(cd4ml(team, "run", "--json"))
    team.run("git", "commit", "--quiet", "--all", "--message", "Alpha 12")
    named = cd4ml(team, "reconcile", "exp/mine")
    assert "train" not in named.err
    assert experiments(team, "plan")["exp/mine"]["health"] == "Healthy"
    assert drafts_of(team) == {item["id"]}
    assert cd4ml(team, "plan", "--json").json["adopts"] == [], "nobody has pushed it"
    team.run("git", "push", "--quiet", "origin", "exp/mine")
    assert cd4ml(team, "plan", "--json").json["adopts"] == [item["id"]]
    assert f"{item['id']}, a run of the work tree here, is landed first" in cd4ml(team, "plan").out
    pushed = cd4ml(team, "reconcile")
    assert "train" not in pushed.err
    assert drafts_of(team) == set()
    team.at(team.folder.parent).run("git", "clone", "--quiet", "remote.git", "other")
    other = team.at(team.folder.parent / "other")
    (found,) = runs(other, "branch = 'exp/mine'")
    assert (found["id"], found["source_commit"]) == (item["id"], item["commit"])
    assert "is reproduced" in cd4ml(other, "reproduce", "exp/mine").out
    (told,) = cd4ml(team, "report", "exp/mine", "--json").json["reports"]
    assert {one["lifecycle"] for one in told["relatives"]} == {"open"}, "nobody discarded what the work tree tried"


def test_overrides_are_what_a_new_experiment_would_ask_for(team: Shell) -> None:
    """`cd4ml new` with the same overrides has the fingerprint that was run, so nothing is run."""
    item = ran(cd4ml(team, "run", "validation=gusts", "model.parameters.alpha=13", "--json", code=1))
    cd4ml(team, "new", "same", "validation=gusts", "model.parameters.alpha=13", "--push")
    assert "validate" not in cd4ml(team, "reconcile").err
    assert [one["id"] for one in runs(team, "branch = 'exp/same'")] == [item["id"]]


def test_publish_lands_the_run_that_a_branch_that_is_not_pushed_asks_for_and_no_other(team: Shell) -> None:
    first = ran(cd4ml(team, "run", "validation=gusts", "seed=14", "--json", code=1))
    second = ran(cd4ml(team, "run", "validation=gusts", "seed=15", "--json", code=1))
    cd4ml(team, "new", "mine", "validation=gusts", "seed=14")
    assert "validate" not in cd4ml(team, "reconcile", "exp/mine", "--publish", code=1).err
    assert drafts_of(team) == {second["id"]}
    landed = git(remote(team), "log", "--format=%s", "--all")
    assert first["id"] in landed
    assert second["id"] not in landed


def test_a_run_on_commits_that_are_not_pushed_is_not_published_by_somebody_elses_branch(team: Shell) -> None:
    """With a run's commit its history travels: a commit of mine that I did not push stays mine."""
    secret = commit(team, "HEAD", {"diary.txt": "mine\n"})
    git(team, "update-ref", "refs/heads/main", secret)
    item = ran(cd4ml(team, "run", "validation=gusts", "--json", code=1))
    assert git(team, "rev-parse", f"{item['commit']}^") == secret
    git(team, "update-ref", "refs/heads/main", "refs/remotes/origin/main")
    cd4ml(team, "new", "theirs", "validation=gusts", "--push")
    cd4ml(team, "reconcile", code=None)
    assert item["id"] in drafts_of(team)
    remote(team).run("git", "cat-file", "-e", secret, code=1)


def test_untracked_files_of_conf_and_code_count_and_ignored_ones_do_not(team: Shell) -> None:
    own = (team.folder / RIDGE).read_text("utf-8").replace("name: ridge", "name: own")
    (team.folder / "conf" / "model" / "own.yaml").write_text(own, "utf-8")
    (team.folder / "package").mkdir()
    (team.folder / "package" / "__init__.py").write_text("VALUE = 1\n", "utf-8")
    (team.folder / "package" / "ignored.pyc").write_text("x", "utf-8")
    (team.folder / "elsewhere.txt").write_text("x", "utf-8")
    (team.folder / ".gitignore").write_text((team.folder / ".gitignore").read_text("utf-8") + "*.pyc\n", "utf-8")
    edit(team, "conf/config.yaml", "code: []", "code: [package]")
    edit(team, "conf/config.yaml", "validation: flights", "validation: gusts")
    (team.folder / "conf" / "ci" / "github.yaml").rename(team.folder / "conf" / "ci" / "other.yaml")
    edit(team, "conf/config.yaml", "ci: github", "ci: other")
    item = ran(cd4ml(team, "run", "model=own", "--json", code=1))
    listed = set(git(team, "ls-tree", "-r", "--name-only", item["commit"]).splitlines())
    assert {"conf/model/own.yaml", "package/__init__.py", "conf/ci/other.yaml"} <= listed
    assert not {"conf/ci/github.yaml", "package/ignored.pyc", "elsewhere.txt"} & listed


def test_a_run_that_fails_says_why_ends_with_1_and_is_not_run_again_unless_asked(team: Shell) -> None:
    done = cd4ml(team, "run", "validation=gusts", code=1)
    assert "failed at validate: " in done.err
    again = cd4ml(team, "run", "validation=gusts", code=1)
    assert "already run as" in again.out
    assert "validate started" not in again.err
    assert "validate started" in cd4ml(team, "run", "validation=gusts", "--retry", code=1).err


def test_the_message_of_a_library_is_told_to_who_asks_for_it_and_written_nowhere(team: Shell) -> None:
    secretive = "Got -1.5 instead"
    done = cd4ml(team, "run", "model.parameters.alpha=-1.5", "--debug", code=1)
    assert secretive in done.err
    held = holding(team.folder / ".git", secretive.encode())
    assert [path for path in held if "logs" not in path.parts] == []
    assert secretive not in cd4ml(team, "show", next(iter(drafts_of(team))), "--json").out


def test_without_being_asked_the_message_of_a_library_is_told_to_nobody(team: Shell) -> None:
    assert "instead" not in cd4ml(team, "run", "model.parameters.alpha=-1.5", code=1).err


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["model=rigde"], "override: model: the group model has no choice 'rigde' (did you mean ridge?)"),
        (["model.parameters.alhpa=1"], "override: model.parameters.alhpa: there is no such key"),
        (["name=x"], "override: name: is no override"),
        (["seed=1,2"], "gives several values"),
    ],
)
def test_an_override_that_is_wrong_is_named_and_nothing_is_run(team: Shell, overrides: list[str], said: str) -> None:
    before = own_refs(team)
    done = cd4ml(team, "run", *overrides, code=2)
    assert said in done.lines[0]
    assert own_refs(team) == before


def test_what_is_wrong_in_the_work_tree_is_told_by_file_and_key(team: Shell) -> None:
    edit(team, "conf/config.yaml", "seed: 20130101", "sede: 1")
    (team.folder / "data" / "planes.lock.json").unlink()
    done = cd4ml(team, "run", code=2)
    assert any("conf/config.yaml: sede" in line for line in done.lines)


def test_without_a_pin_a_commit_or_a_work_tree_one_line_says_so(team: Shell) -> None:
    (team.folder / "data" / "planes.lock.json").unlink()
    (line,) = cd4ml(team, "run", code=2).lines
    assert "data/planes.lock.json: no pin" in line
    assert "bare repository" in cd4ml(remote(team), "run", code=2).lines[0]
    team.run("git", "init", "--quiet", "../empty")
    assert "no commit yet" in cd4ml(team.at(team.folder.parent / "empty"), "run", code=2).lines[0]


def test_without_a_champion_the_metrics_are_told(team: Shell) -> None:
    made = commit(team, "main", {"conf/experiment/baseline.yaml": "# @package _global_\nseed: 99\n"})
    push(team, "refs/heads/main", made)
    done = cd4ml(team, "run", "model.parameters.alpha=16")
    assert "validation: mae " in done.out
    assert "The base branch has no result to compare with." in done.out


def test_when_the_remote_cannot_be_reached_what_it_last_had_counts(team: Shell) -> None:
    cd4ml(team, "status")
    (team.folder.parent / "remote.git").rename(team.folder.parent / "gone.git")
    done = cd4ml(team, "run")
    assert "already run" in done.out
    assert "showing what the last fetch saw" in done.err


def test_only_the_newest_runs_of_the_work_tree_are_kept(team: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drafts, "_KEPT", 1)
    made = [ran(cd4ml(team, "run", "validation=gusts", f"seed={n}", "--json", code=1))["id"] for n in range(2)]
    drafts.drop_old_drafts(open_project(team.folder))
    assert drafts_of(team) == {made[1]}


def test_the_lock_that_a_reconcile_holds_is_waited_for(team: Shell) -> None:
    """Two commands in one clone never work in the same folders at once."""
    from cd4ml.gateways.files import exclusive

    environment = {**os.environ, **team.environment}
    command = ["cd4ml", "run", "validation=gusts"]
    with exclusive(team.folder / ".git" / "cd4ml" / "work.lock"):
        done = subprocess.Popen(command, cwd=team.folder, env=environment, stderr=subprocess.PIPE, text=True)
        assert done.stderr is not None
        told = next((line for line in done.stderr if "waiting for it" in line), "it ended without waiting")
        assert (told.count("waiting for it"), drafts_of(team)) == (1, set())
    done.communicate()
    assert len(drafts_of(team)) == 1


def test_an_interrupt_ends_everything_and_keeps_nothing(team: Shell) -> None:
    environment = {**os.environ, **team.environment}
    command = ["cd4ml", "run", "model=xgboost", "model.estimator.n_estimators=1000000"]
    done = subprocess.Popen(command, cwd=team.folder, env=environment, stderr=subprocess.PIPE, text=True)
    assert done.stderr is not None
    for line in done.stderr:
        if "train started" in line:
            break
    done.send_signal(signal.SIGINT)
    rest = done.stderr.read()
    assert (done.wait(30), "cd4ml: interrupted" in rest) == (130, True)
    assert drafts_of(team) == set()
    assert not list((team.folder / ".git" / "cd4ml" / "runs").glob("*/clone"))


def test_publish_lands_the_runs_of_the_branches_that_are_named_alone(team: Shell) -> None:
    first, second = (
        ran(cd4ml(team, "run", "validation=gusts", f"seed={seed}", "--json", code=1))["id"] for seed in (14, 15)
    )
    for name, seed in (("mine", 14), ("private", 15)):
        cd4ml(team, "new", name, "validation=gusts", f"seed={seed}")
    cd4ml(team, "reconcile", "exp/mine", "--publish", code=1)
    landed = git(remote(team), "log", "--format=%s", "--all")
    assert (first in landed, second in landed) == (True, False)
    assert drafts_of(team) == {second}
