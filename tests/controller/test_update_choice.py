"""`cd4ml update` where the base branch has come to choose another group: whose choice, and whose values in it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from cd4ml.gateways import git as gateway
from tests.conftest import Shell
from tests.controller.controller_world import BASELINE, cd4ml, commit, experiments, git, push, refs, remote
from tests.controller.test_update import edited, moved_main, updated, values

MINE = "conf/experiment/mine.yaml"
MODELS = ("xgboost", "hist_gradient_boosting")


def merged_into_main(shell: Shell, name: str, *overrides: str) -> None:
    """An experiment is opened from main, and merged into the remote's main."""
    cd4ml(shell, "new", name, *overrides, "--push")
    push(shell, "refs/heads/main", f"exp/{name}")
    git(shell, "fetch", "--quiet", "origin")


def experiment_body(shell: Shell, name: str) -> dict[str, Any]:
    """What a branch's own experiment file says, without what it says of itself."""
    body = yaml.safe_load(git(shell, "show", f"exp/{name}:conf/experiment/{name}.yaml"))
    return {key: value for key, value in body.items() if key not in ("name", "hypothesis", "tags")}


def everywhere(shell: Shell) -> tuple[Any, ...]:
    """Branches here and on the remote, HEAD, and the work tree."""
    heads = {ref: at for ref, at in refs(shell).items() if ref.startswith("refs/heads/")}
    status = git(shell, "status", "--porcelain"), git(shell, "symbolic-ref", "HEAD"), git(shell, "write-tree")
    return heads, refs(remote(shell)), status


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("override", ["features.numeric=[temp,dep_delay]", "features.categorical=[origin]"])
def test_a_list_of_features_goes_with_the_model_that_main_came_to_choose(
    team: Shell, override: str, model: str
) -> None:
    """The model that the branch has from main uses that list, and so resolves otherwise, without being changed."""
    cd4ml(team, "new", "mine", override)
    merged_into_main(team, "trees", f"model={model}")
    assert updated(team, "mine")["both_changed"] == []
    main, found = values(team, "origin/main"), values(team, "exp/mine")
    assert found["model"] == main["model"]
    key, _, listed = override.removeprefix("features.").partition("=")
    assert found["features"] == {**main["features"], key: listed[1:-1].split(",")}


def test_the_experiment_file_gets_mains_choice_and_no_value_beside_the_branchs_own(team: Shell) -> None:
    cd4ml(team, "new", "mine", "features.numeric=[temp,dep_delay]")
    merged_into_main(team, "trees", "model=xgboost")
    updated(team, "mine")
    assert experiment_body(team, "mine") == {
        "defaults": [{"override /model": "xgboost"}],
        "features": {"numeric": ["temp", "dep_delay"]},
    }


def test_values_that_main_has_in_its_own_files_are_not_written_into_the_experiment_file(team: Shell) -> None:
    cd4ml(team, "new", "mine", "features.numeric=[temp,dep_delay]")
    moved_main(
        team,
        {
            **edited(team, "main", "conf/model/ridge.yaml", "alpha: 1.0", "alpha: 3.0"),
            **edited(team, "main", "conf/config.yaml", "seed: 20130101", "seed: 4"),
            **edited(team, "main", "conf/features/flights.yaml", "[carrier, origin, dest]", "[carrier]"),
        },
    )
    updated(team, "mine")
    assert experiment_body(team, "mine") == {"features": {"numeric": ["temp", "dep_delay"]}}
    found = values(team, "exp/mine")
    assert (found["model"]["parameters"]["alpha"], found["seed"]) == (3.0, 4)


def test_what_mains_experiment_file_asks_for_is_copied_and_the_copy_says_from_where(team: Shell) -> None:
    """It stands in no other file of main: not copied, the gain that was merged would be lost."""
    cd4ml(team, "new", "mine", "features.numeric=[temp,dep_delay]")
    merged_into_main(team, "stiff", "model.parameters.alpha=3")
    updated(team, "mine")
    assert experiment_body(team, "mine") == {
        "features": {"numeric": ["temp", "dep_delay"]},
        "model": {"parameters": {"alpha": 3}},
    }
    comments = [line for line in git(team, "show", f"exp/mine:{MINE}").splitlines() if line.startswith("#")]
    assert "conf/experiment/stiff.yaml" in comments[-1]


@pytest.mark.parametrize("model", MODELS)
def test_a_value_of_a_model_that_main_gave_up_is_refused_in_one_line_with_both_sides_and_what_to_do(
    team: Shell, model: str
) -> None:
    cd4ml(team, "new", "mine", "model.parameters.alpha=10")
    merged_into_main(team, "trees", f"model={model}")
    (line,) = cd4ml(team, "update", "mine", code=2).err.splitlines()
    assert line == (
        f"cd4ml: {MINE}: model.parameters.alpha: exp/mine sets this in model ridge, and main now has model {model} "
        f"(to keep ridge, add `- override /model: ridge` to the defaults of {MINE}; to have {model}, undo "
        f"model.parameters.alpha in {MINE}; commit, then update again)"
    )


def test_a_refused_update_leaves_work_tree_branches_and_remote_as_they_were(team: Shell) -> None:
    cd4ml(team, "new", "mine", "model.parameters.alpha=10", "--push", "--checkout")
    merged_into_main(team, "trees", "model=xgboost")
    (team.folder / "notes.txt").write_text("untracked", "utf-8")
    before = everywhere(team)
    cd4ml(team, "update", "--push", code=2)
    assert everywhere(team) == before
    assert (team.folder / "notes.txt").read_text("utf-8") == "untracked"


def test_after_a_refusal_the_model_is_kept_by_naming_it_as_the_line_says(team: Shell) -> None:
    cd4ml(team, "new", "mine", "model.parameters.alpha=10")
    merged_into_main(team, "trees", "model=xgboost")
    cd4ml(team, "update", "mine", code=2)
    own = git(team, "show", f"exp/mine:{MINE}") + "\ndefaults:\n- override /model: ridge\n"
    git(team, "update-ref", "refs/heads/exp/mine", commit(team, "exp/mine", {MINE: own}))
    asked = values(team, "exp/mine")["model"]
    done = cd4ml(team, "update", "mine")
    assert 'model: main has "xgboost", exp/mine keeps "ridge"' in done.out.splitlines()
    assert values(team, "exp/mine")["model"] == asked


def test_after_a_refusal_mains_model_is_had_by_taking_the_value_out_as_the_line_says(team: Shell) -> None:
    cd4ml(team, "new", "mine", "model.parameters.alpha=10", "seed=3")
    merged_into_main(team, "trees", "model=xgboost")
    cd4ml(team, "update", "mine", code=2)
    own = "# @package _global_\nname: mine\nhypothesis: ''\nseed: 3\n"
    git(team, "update-ref", "refs/heads/exp/mine", commit(team, "exp/mine", {MINE: own}))
    updated(team, "mine")
    found = values(team, "exp/mine")
    assert (found["model"]["name"], found["seed"]) == ("xgboost", 3)


def test_a_value_in_the_groups_own_file_is_refused_by_that_file(team: Shell) -> None:
    ridge = "conf/model/ridge.yaml"
    cd4ml(team, "new", "mine", "seed=3")
    made = commit(team, "exp/mine", edited(team, "main", ridge, "strategy: median", "strategy: mean"))
    git(team, "update-ref", "refs/heads/exp/mine", made)
    merged_into_main(team, "trees", "model=xgboost")
    (line,) = cd4ml(team, "update", "mine", code=2).err.splitlines()
    assert line.startswith(f"cd4ml: {ridge}: model.estimator.steps: exp/mine sets this in model ridge")


def test_a_parameter_of_one_class_is_not_given_to_another_that_has_one_of_that_name(team: Shell) -> None:
    root = "conf/config.yaml"
    moved_main(team, edited(team, "main", root, "model: ridge", "model: xgboost"))
    git(team, "update-ref", "refs/heads/main", "origin/main")
    cd4ml(team, "new", "mine", "model.estimator.learning_rate=0.3")
    moved_main(team, edited(team, "main", root, "model: xgboost", "model: hist_gradient_boosting"))
    (line,) = cd4ml(team, "update", "mine", code=2).err.splitlines()
    assert line.startswith(f"cd4ml: {MINE}: model.estimator.learning_rate: exp/mine sets this in model xgboost")


def test_a_model_that_the_branch_only_names_stays_though_it_was_mains(team: Shell) -> None:
    cd4ml(team, "new", "mine", "seed=3")
    own = git(team, "show", f"exp/mine:{MINE}") + "\ndefaults:\n- override /model: ridge\n"
    git(team, "update-ref", "refs/heads/exp/mine", commit(team, "exp/mine", {MINE: own}))
    merged_into_main(team, "trees", "model=xgboost")
    updated(team, "mine")
    assert values(team, "exp/mine")["model"]["name"] == "ridge"


def test_where_both_chose_another_model_the_branchs_stays_and_that_is_told_in_one_line(team: Shell) -> None:
    cd4ml(team, "new", "mine", "model=hist_gradient_boosting", "model.estimator.max_iter=50")
    merged_into_main(team, "trees", "model=xgboost")
    asked = values(team, "exp/mine")["model"]
    assert updated(team, "mine")["both_changed"] == [
        {"key": "model", "base": "ridge", "ours": "hist_gradient_boosting", "theirs": "xgboost"}
    ]
    assert values(team, "exp/mine")["model"] == asked


def test_a_model_copied_from_mains_experiment_and_left_alone_follows_main(team: Shell) -> None:
    merged_into_main(team, "trees", "model=xgboost")
    git(team, "update-ref", "refs/heads/main", "origin/main")
    cd4ml(team, "new", "mine", "features.numeric=[temp]")
    merged_into_main(team, "boosting", "model=hist_gradient_boosting")
    assert updated(team, "mine")["both_changed"] == []
    assert values(team, "exp/mine")["model"] == values(team, "origin/main")["model"]


def test_a_model_that_the_branchs_file_names_and_sets_values_in_stays_and_that_is_told(team: Shell) -> None:
    merged_into_main(team, "trees", "model=xgboost")
    git(team, "update-ref", "refs/heads/main", "origin/main")
    cd4ml(team, "new", "mine", "model.estimator.max_depth=4")
    merged_into_main(team, "boosting", "model=hist_gradient_boosting")
    asked = values(team, "exp/mine")["model"]
    assert [one["key"] for one in updated(team, "mine")["both_changed"]] == ["model"]
    assert values(team, "exp/mine")["model"] == asked


def test_values_of_a_group_without_classes_are_merged_by_key_where_main_chose_another(team: Shell) -> None:
    cd4ml(team, "new", "mine", "features.numeric=[temp]")
    few = git(team, "show", "main:conf/features/flights.yaml").replace("[carrier, origin, dest]", "[dest]") + "\n"
    moved_main(
        team,
        {
            "conf/features/few.yaml": few,
            **edited(team, "main", "conf/config.yaml", "features: flights", "features: few"),
        },
    )
    updated(team, "mine")
    found = values(team, "exp/mine")["features"]
    assert (found["numeric"], found["categorical"]) == (["temp"], ["dest"])


def test_a_reference_in_the_branchs_file_stays_one(team: Shell) -> None:
    cd4ml(team, "new", "mine", "seed=3")
    own = git(team, "show", f"exp/mine:{MINE}") + "\nmodel: {parameters: {alpha: '${seed}'}}\n"
    git(team, "update-ref", "refs/heads/exp/mine", commit(team, "exp/mine", {MINE: own}))
    moved_main(team, edited(team, "main", "conf/model/ridge.yaml", "strategy: median", "strategy: mean"))
    assert updated(team, "mine")["both_changed"] == []
    assert experiment_body(team, "mine")["model"] == {"parameters": {"alpha": "${seed}"}}


def test_a_pipeline_that_has_to_go_into_the_experiment_file_keeps_its_references(team: Shell) -> None:
    """Both changed a group's file: what the branch changed there is the experiment's from now on."""
    ridge = "conf/model/ridge.yaml"
    cd4ml(team, "new", "mine", "seed=3")
    made = commit(team, "exp/mine", edited(team, "main", ridge, "strategy: median", "strategy: mean"))
    git(team, "update-ref", "refs/heads/exp/mine", made)
    moved_main(team, edited(team, "main", ridge, "strategy: median", "strategy: most_frequent"))
    assert len(updated(team, "mine")["both_changed"]) == 1
    steps = repr(experiment_body(team, "mine")["model"]["estimator"]["steps"])
    assert "'mean'" in steps
    assert "'${features.numeric}'" in steps


def test_a_key_with_a_dot_in_it_that_both_changed_is_told(team: Shell) -> None:
    cd4ml(team, "new", "mine", "seed=3")
    own = git(team, "show", f"exp/mine:{MINE}") + "\nmodel: {parameters: {a.b: 1}}\n"
    git(team, "update-ref", "refs/heads/exp/mine", commit(team, "exp/mine", {MINE: own}))
    baseline = git(team, "show", f"main:{BASELINE}") + "\nmodel: {parameters: {a.b: 2}}\n"
    moved_main(team, {BASELINE: baseline})
    (told,) = updated(team, "mine")["both_changed"]
    assert told == {"key": "model.parameters.a.b", "ours": 1, "theirs": 2}


def test_text_that_looks_like_the_mark_of_a_reference_changes_nothing_of_the_merge(team: Shell) -> None:
    """References are hidden behind a private character while files are composed; here it is used already."""
    cd4ml(team, "new", "mine", "seed=3")
    own = git(team, "show", f"exp/mine:{MINE}") + "\n# \ue000{seed}\n"
    git(team, "update-ref", "refs/heads/exp/mine", commit(team, "exp/mine", {MINE: own}))
    merged_into_main(team, "trees", "model=xgboost")
    updated(team, "mine")
    found = values(team, "exp/mine")
    assert (found["model"]["name"], found["seed"]) == ("xgboost", 3)


def test_what_the_branch_refers_to_in_a_model_that_main_gave_up_is_refused_by_key(team: Shell) -> None:
    merged_into_main(team, "trees", "model=xgboost")
    git(team, "update-ref", "refs/heads/main", "origin/main")
    cd4ml(team, "new", "mine", "seed=3")
    own = git(team, "show", f"exp/mine:{MINE}").replace("seed: 3", "seed: ${model.estimator.max_depth}") + "\n"
    git(team, "update-ref", "refs/heads/exp/mine", commit(team, "exp/mine", {MINE: own}))
    merged_into_main(team, "boosting", "model=hist_gradient_boosting")
    (line,) = cd4ml(team, "update", "mine", code=2).err.splitlines()
    assert line.startswith(f"cd4ml: {MINE}: seed: ${{model.estimator.max_depth}} does not exist")


def test_in_a_project_for_ones_own_table_a_branch_takes_in_the_model_that_was_merged(tmp_path: Path) -> None:
    rows = "".join(f"{n % 7},{n % 5},{'ab'[n % 2]},{n % 7 * 2 + n % 3}\n" for n in range(60))
    (tmp_path / "own.csv").write_text(f"temp,last,kind,y\n{rows}", "utf-8")
    gateway.init(tmp_path / "project")
    subprocess.run(["git", "init", "--quiet", "--bare", tmp_path / "remote.git"], check=True)
    shell = Shell(tmp_path / "project", {"PYTHONPATH": str(Path(__file__).parents[2])})
    cd4ml(shell, "init", "--data", str(tmp_path / "own.csv"), "--target", "y")
    git(shell, "remote", "add", "origin", "../remote.git")
    for command in ("checkout -q -B main", "add --all", "commit -q -m own", "push -q -u origin main"):
        git(shell, *command.split())
    git(shell.at(tmp_path / "remote.git"), "symbolic-ref", "HEAD", "refs/heads/main")
    cd4ml(shell, "new", "feat", "features.numeric=[temp]", "--push")
    merged_into_main(shell, "trees", "model=xgboost")
    assert updated(shell, "exp/feat", "--push")["both_changed"] == []
    found = values(shell, "exp/feat")
    assert (found["model"]["name"], found["features"]["numeric"]) == ("xgboost", ["temp"])
    assert experiments(shell, "plan")["exp/feat"]["merge_fingerprint"] is not None
