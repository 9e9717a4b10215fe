"""`cd4ml update`: the base branch is taken into an experiment branch as what both configurations mean."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from cd4ml.controller.editing import update
from tests.conftest import Shell
from tests.controller.controller_world import BASELINE, Content, cd4ml, commit, experiments, git, push, refs, remote

SCHEMA = Path(__file__).parents[2] / "docs" / "schemas" / "updates.schema.json"
RIDGE = "conf/model/ridge.yaml"
PIN = "data/planes.lock.json"
FEATURES = "conf/features/flights.yaml"


def edited(shell: Shell, revision: str, path: str, old: str, new: str) -> dict[str, Content]:
    text = git(shell, "show", f"{revision}:{path}")
    assert old in text, text
    return {path: text.replace(old, new) + "\n"}


def moved_main(shell: Shell, files: dict[str, Content]) -> str:
    """A further commit on the remote's main, not brought into the local one."""
    made = commit(shell, "refs/remotes/origin/main", files, "Main moves\n")
    push(shell, "refs/heads/main", made)
    shell.run("git", "update-ref", "refs/remotes/origin/main", made)
    return made


def values(shell: Shell, revision: str) -> dict[str, Any]:
    config: dict[str, Any] = cd4ml(shell, "config", revision, "--json").json["config"]
    return config


def updated(shell: Shell, *arguments: str, code: int = 0) -> dict[str, Any]:
    told = cd4ml(shell, "update", *arguments, "--json", code=code).json
    Draft202012Validator(json.loads(SCHEMA.read_text("utf-8"))).validate(told)
    (item,) = told["updates"]
    assert isinstance(item, dict)
    return item


def conf_files(shell: Shell, revision: str) -> dict[str, str]:
    listed = git(shell, "ls-tree", "-r", revision, "conf/").splitlines()
    return {line.split("\t")[1]: line.split()[2] for line in listed}


def test_what_main_changed_is_taken_in_and_what_the_branch_changed_stays(team: Shell) -> None:
    """Main changes another key of the same group's file than the branch does."""
    cd4ml(team, "new", "mine", "model.parameters.alpha=7", "--push")
    main = moved_main(team, edited(team, "main", RIDGE, "strategy: median", "strategy: mean"))
    head = git(team, "rev-parse", "exp/mine")
    item = updated(team, "mine")
    assert item == {
        "branch": "exp/mine",
        "commit": git(team, "rev-parse", "exp/mine"),
        "updated": True,
        "pushed": False,
        "both_changed": [],
    }
    assert git(team, "rev-parse", "exp/mine^1", "exp/mine^2").split() == [head, main]
    found = values(team, "exp/mine")
    assert found["model"]["parameters"] == {"alpha": 7}
    assert "mean" in repr(found["model"]["estimator"])
    assert "alpha': 7" in repr(found["model"]["estimator"])
    assert found["name"] == "mine"
    assert git(team, "ls-remote", "origin", "refs/heads/exp/mine").split()[0] == head


def test_a_value_that_both_changed_stays_the_branchs_and_both_are_told(team: Shell) -> None:
    cd4ml(team, "new", "mine", "model.parameters.alpha=7", "seed=3")
    moved_main(
        team,
        {
            **edited(team, "main", RIDGE, "alpha: 1.0", "alpha: 2.0"),
            BASELINE: git(team, "show", f"main:{BASELINE}") + "\nseed: 4\n",
        },
    )
    done = cd4ml(team, "update", "exp/mine")
    assert "model.parameters.alpha: main has 2.0, exp/mine keeps 7\n" in done.out
    assert "seed: main has 4, exp/mine keeps 3\n" in done.out
    found = values(team, "exp/mine")
    assert (found["model"]["parameters"]["alpha"], found["seed"]) == (7, 3)
    message = git(team, "log", "-1", "--format=%B", "exp/mine")
    assert "model.parameters.alpha" in message


def test_a_group_that_the_branch_chose_stays_chosen_and_is_not_mixed_with_the_other(team: Shell) -> None:
    cd4ml(team, "new", "mine", "model=xgboost", "model.estimator.max_depth=4")
    moved_main(
        team,
        {
            **edited(team, "main", RIDGE, "alpha: 1.0", "alpha: 2.0"),
            **edited(team, "main", "conf/model/xgboost.yaml", "n_estimators: 100", "n_estimators: 50"),
            BASELINE: git(team, "show", f"main:{BASELINE}") + "\nmodel: {parameters: {gamma: 1}}\nseed: 9\n",
        },
    )
    item = updated(team, "exp/mine")
    assert {one["key"] for one in item["both_changed"]} >= {"model.parameters.alpha", "model.parameters.gamma"}
    found = values(team, "exp/mine")
    assert found["model"]["name"] == "xgboost"
    assert found["model"]["estimator"]["max_depth"] == 4
    assert found["model"]["estimator"]["n_estimators"] == 100  # what the branch was run with
    assert "parameters" not in found["model"]
    assert found["seed"] == 9
    assert "override /model: xgboost" in git(team, "show", "exp/mine:conf/experiment/mine.yaml")


def test_pins_and_code_that_main_moved_come_along_as_git_merges_them(team: Shell) -> None:
    cd4ml(team, "new", "mine", "seed=3")
    pin = git(team, "show", f"main:{PIN}").replace('"rows": ', '"rows": 1')
    moved_main(team, {PIN: pin, "own/code.py": "VALUE = 1\n"})
    updated(team, "exp/mine")
    assert git(team, "show", f"exp/mine:{PIN}") == pin
    assert git(team, "show", "exp/mine:own/code.py") == "VALUE = 1"
    assert values(team, "exp/mine")["seed"] == 3


def test_a_conflict_outside_the_configuration_is_refused_by_name_and_nothing_moves(team: Shell) -> None:
    cd4ml(team, "new", "mine", "seed=3")
    other = commit(team, "exp/mine", {"own/code.py": "VALUE = 1\n"})
    git(team, "update-ref", "refs/heads/exp/mine", other)
    moved_main(team, {"own/code.py": "VALUE = 2\n"})
    done = cd4ml(team, "update", "exp/mine", code=2)
    assert done.lines == [
        "cd4ml: exp/mine and main conflict in own/code.py: merge them by hand (`git merge origin/main`)"
    ]
    assert git(team, "rev-parse", "exp/mine") == other


def test_a_second_pull_request_is_no_conflict_after_the_first_was_merged(team: Shell) -> None:
    """Both branches select an experiment file of their own in one line of one file, and keep the gains."""
    cd4ml(team, "new", "first", "model.parameters.alpha=5", "--push")
    cd4ml(team, "new", "second", "seed=77", "--push")
    push(team, "refs/heads/main", "exp/first")
    git(team, "update-ref", "refs/remotes/origin/main", "exp/first")
    assert experiments(team, "plan")["exp/second"]["merge_fingerprint"] is None
    updated(team, "second", "--push")
    found = values(team, "exp/second")
    assert found["model"]["parameters"]["alpha"] == 5
    assert found["seed"] == 77
    assert found["name"] == "second"
    pushed = git(team, "ls-remote", "origin", "refs/heads/exp/second").split()[0]
    assert pushed == git(team, "rev-parse", "exp/second")
    assert experiments(team, "plan")["exp/second"]["merge_fingerprint"] is not None
    assert updated(team, "second") == {
        "branch": "exp/second",
        "commit": pushed,
        "updated": False,
        "pushed": False,
        "both_changed": [],
    }


def test_a_branch_that_is_checked_out_is_updated_with_its_work_tree_and_only_when_that_is_clean(team: Shell) -> None:
    cd4ml(team, "new", "mine", "seed=3", "--checkout")
    moved_main(team, edited(team, "main", RIDGE, "alpha: 1.0", "alpha: 2.0"))
    readme = team.folder / "conf" / "model" / "xgboost.yaml"
    before = readme.read_text("utf-8")
    readme.write_text(before + "# mine\n", "utf-8")
    done = cd4ml(team, "update", code=2)
    assert "uncommitted changes in conf/model/xgboost.yaml" in done.lines[0]
    assert readme.read_text("utf-8") == before + "# mine\n"
    readme.write_text(before, "utf-8")
    (team.folder / "notes.txt").write_text("untracked", "utf-8")
    updated(team)
    assert "alpha: 2.0" in (team.folder / RIDGE).read_text("utf-8")
    assert git(team, "status", "--porcelain") == "?? notes.txt"
    assert git(team, "symbolic-ref", "HEAD") == "refs/heads/exp/mine"


def test_another_branch_is_updated_without_touching_the_work_tree_also_one_only_the_remote_has(team: Shell) -> None:
    cd4ml(team, "new", "mine", "seed=3", "--push")
    git(team, "branch", "-D", "exp/mine")
    moved_main(team, edited(team, "main", RIDGE, "alpha: 1.0", "alpha: 2.0"))
    (team.folder / "README.md").write_text("changed", "utf-8")
    (team.folder / RIDGE).write_text("broken: [", "utf-8")
    status, head, before = git(team, "status", "--porcelain"), git(team, "rev-parse", "HEAD"), refs(team)
    updated(team, "mine")
    assert (git(team, "status", "--porcelain"), git(team, "rev-parse", "HEAD")) == (status, head)
    after = refs(team)
    assert {ref for ref in after if after[ref] != before.get(ref) and not ref.startswith("refs/cd4ml/remote")} == {
        "refs/heads/exp/mine"
    }
    assert values(team, "exp/mine")["model"]["parameters"]["alpha"] == 2.0


def test_files_that_only_the_branch_has_and_edits_of_a_group_file_are_kept(team: Shell) -> None:
    cd4ml(team, "new", "mine", "seed=3")
    own = git(team, "show", f"main:{RIDGE}").replace("name: ridge", "name: own") + "\n"
    made = commit(
        team,
        "exp/mine",
        {
            "conf/model/own.yaml": own,
            "conf/config.yaml": git(team, "show", "exp/mine:conf/config.yaml").replace("model: ridge", "model: own")
            + "\n",
            **edited(team, "exp/mine", "conf/split/time.yaml", "2013-09-01", "2013-08-01"),
        },
    )
    git(team, "update-ref", "refs/heads/exp/mine", made)
    moved_main(
        team,
        {
            **edited(team, "main", "conf/split/time.yaml", "2013-09-01", "2013-10-01"),
            **edited(team, "main", "conf/config.yaml", "retries: 2", "retries: 1"),
        },
    )
    item = updated(team, "exp/mine")
    assert [one["key"] for one in item["both_changed"]] == ["split.validation_from"]
    found = values(team, "exp/mine")
    assert (found["model"]["name"], found["split"]["validation_from"][:7]) == ("own", "2013-08")
    assert found["experiments"]["retries"] == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["main"], "is the base branch"), ([], "is the base branch"), (["nowhere"], "no branch of that name")],
)
def test_what_cannot_be_updated_is_said_in_one_line(team: Shell, arguments: list[str], said: str) -> None:
    done = cd4ml(team, "update", *arguments, code=2)
    assert len(done.lines) == 1
    assert said in done.lines[0]


def test_heads_that_have_gone_apart_and_a_detached_head_are_refused(team: Shell) -> None:
    cd4ml(team, "new", "mine", "seed=3", "--push")
    moved_main(team, {"a": "a"})
    push(team, "refs/heads/exp/mine", commit(team, "exp/mine", {"b": "b"}))
    git(team, "update-ref", "refs/heads/exp/mine", commit(team, "exp/mine", {"c": "c"}))
    assert "gone apart" in cd4ml(team, "update", "mine", code=2).lines[0]
    team.run("git", "checkout", "--quiet", "--detach")
    assert "HEAD is detached" in cd4ml(team, "update", code=2).lines[0]


def test_what_somebody_pushed_to_the_branch_meanwhile_is_not_overwritten(team: Shell, tmp_path: Path) -> None:
    cd4ml(team, "new", "mine", "seed=3", "--push")
    moved_main(team, {"a": "a"})
    theirs = commit(team, "exp/mine", {"b": "b"})
    push(team, "refs/heads/elsewhere", theirs)
    real, shim = shutil.which("git"), tmp_path / "bin" / "git"
    shim.parent.mkdir()
    theirs_first = f'"{real}" -C "{remote(team).folder}" update-ref refs/heads/exp/mine {theirs}'
    shim.write_text(f'#!/bin/sh\ncase " $* " in *" push "*) {theirs_first};; esac\nexec "{real}" "$@"\n', "utf-8")
    shim.chmod(0o755)
    cd4ml(team, "update", "mine", "--push", code=1, PATH=f"{shim.parent}{os.pathsep}{os.environ['PATH']}")
    assert git(remote(team), "rev-parse", "exp/mine") == theirs


def test_what_somebody_pushed_to_the_branch_while_it_was_merged_is_not_overwritten(
    team: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    cd4ml(team, "new", "mine", "seed=3", "--push")
    moved_main(team, {"a": "a"})
    theirs, merge = commit(team, "exp/mine", {"b": "b"}), update._merge

    def merged(*arguments: Any) -> Any:
        push(team, "refs/heads/exp/mine", theirs)
        return merge(*arguments)

    monkeypatch.setattr(update, "_merge", merged)
    cd4ml(team, "update", "mine", "--push", code=1)
    assert git(remote(team), "rev-parse", "exp/mine") == theirs


def test_a_branch_checked_out_in_another_work_tree_is_refused(team: Shell) -> None:
    cd4ml(team, "new", "mine", "seed=3")
    moved_main(team, {"a": "a"})
    team.run("git", "worktree", "add", "--quiet", "../other", "exp/mine")
    assert "is checked out in" in cd4ml(team, "update", "mine", code=2).lines[0]
    updated(team.at(team.folder.parent / "other"))


def test_what_each_side_may_ask_for_and_both_together_may_not_is_refused_and_nothing_moves(team: Shell) -> None:
    cd4ml(team, "new", "mine", "split.validation_from='2013-10-20T00:00:00Z'")
    head = git(team, "rev-parse", "exp/mine")
    moved_main(team, edited(team, "main", "conf/split/time.yaml", "2013-11-01", "2013-10-10"))
    (line,) = cd4ml(team, "update", "mine", code=2).lines
    assert "before test_from" in line
    assert git(team, "rev-parse", "exp/mine") == head


def test_a_merge_that_no_experiment_file_can_say_is_refused_by_its_key(team: Shell) -> None:
    """The branch took a parameter away from a group's file, in which main changed another one."""
    xgboost = "conf/model/xgboost.yaml"
    cd4ml(team, "new", "mine", "model=xgboost")
    made = commit(
        team,
        "exp/mine",
        {
            **edited(team, "main", xgboost, "min_child_weight: 20\n  ", ""),
            BASELINE: None,
            "conf/model/ridge.yaml": None,
        },
    )
    git(team, "update-ref", "refs/heads/exp/mine", made)
    moved_main(
        team,
        {
            **edited(team, "main", xgboost, "max_depth: 6", "max_depth: 7"),
            **edited(team, "main", "conf/config.yaml", "experiment: baseline", "experiment: other"),
            "conf/experiment/other.yaml": "# @package _global_\nmodel: {name: x}\n",
        },
    )
    done = cd4ml(team, "update", "exp/mine", code=2)
    assert done.lines[0].startswith(
        "cd4ml: conf/experiment/mine.yaml: model.estimator.min_child_weight: an experiment file cannot say"
    )
    assert git(team, "rev-parse", "exp/mine") == made
