"""What a tree asks for: nothing that it names may be missing or stand in the way, and no memory answers for another."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cd4ml.controller.desired import specs
from cd4ml.controller.desired.specs import asked_of, compose_tree, configuration
from cd4ml.controller.project import Project, open_project
from cd4ml.errors import ConfigError
from tests.conftest import Shell
from tests.controller.controller_world import BASELINE, Content, Link, branch, cd4ml, commit, git

LOCK = "requirements.lock"


@pytest.fixture
def project(team: Shell) -> Project:
    return open_project(team.folder)


def refused(team: Shell, files: dict[str, Content]) -> list[str]:
    """What is wrong with ``main`` once it has these files, as FILE: KEY: WHY."""
    made = commit(team, "main", files)
    with pytest.raises(ConfigError) as met:
        asked_of(open_project(team.folder), made)
    return [f"{one.file}: {one.key}: {one.message}" for one in met.value.problems]


def test_a_lock_that_is_not_in_the_commit_is_not_taken_for_an_environment_without_packages(team: Shell) -> None:
    assert refused(team, {LOCK: None}) == [
        f"conf/config.yaml: environment.lock: {LOCK} is not in this commit",
    ]


@pytest.mark.parametrize("text", ["numpy>=1\n", "numpy\n", "-r other.txt\n"])
def test_a_lock_that_cannot_be_read_is_not_taken_for_an_environment_without_packages(team: Shell, text: str) -> None:
    found = refused(team, {LOCK: text})
    assert found
    assert all(LOCK in line for line in found)


def test_code_that_is_not_in_the_commit_is_refused_by_its_path_beside_code_that_is(team: Shell) -> None:
    config = git(team, "show", "main:conf/config.yaml").replace("code: []", "code: [here, gone, here/gone.py]") + "\n"
    assert refused(team, {"conf/config.yaml": config, "here/x.py": "x\n"}) == [
        "conf/config.yaml: code: gone is not in this commit",
        "conf/config.yaml: code: here/gone.py is not in this commit",
    ]


@pytest.mark.parametrize("path", ["params.yaml", "dvc.lock", "dvc.yaml", "artifacts"])
def test_a_link_where_a_result_is_put_is_refused_whatever_lies_there_otherwise(team: Shell, path: str) -> None:
    assert refused(team, {path: Link("elsewhere")}) == [f"{path}: : a link is in the way of what cd4ml puts there"]


def test_a_composition_that_is_remembered_for_another_tree_is_composed_anew(team: Shell, project: Project) -> None:
    """Both are whole and sealed; only the name of the file tells them apart."""
    first, second = (commit(team, "main", {BASELINE: f"# @package _global_\nseed: {seed}\n"}) for seed in (2, 3))
    places = [_remembered(team, one) for one in (first, second)]
    assert [compose_tree(project, one)[0]["seed"] for one in (first, second)] == [2, 3]
    shutil.copyfile(places[0], places[1])
    assert compose_tree(project, second)[0]["seed"] == 3
    assert compose_tree(project, first)[0]["seed"] == 2


def test_a_composition_that_another_version_of_cd4ml_remembered_is_composed_anew(
    team: Shell, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    compose_tree(project, "main")
    before = _remembered(team, "main")
    known = before.read_bytes()
    monkeypatch.setattr("cd4ml.__version__", "99")
    compose_tree(project, "main")
    after = [path for path in before.parent.glob(f"{git(team, 'rev-parse', 'main:conf')}-*") if path != before]
    assert [path.name.partition("-")[2] for path in after] == ["99.json"]
    assert before.read_bytes() == known


def _remembered(team: Shell, revision: str) -> Path:
    (found,) = (team.folder / ".git/cd4ml/specs").glob(f"{git(team, 'rev-parse', f'{revision}:conf')}-*.json")
    return found


def test_the_same_lock_under_another_python_is_another_environment_and_nothing_else(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = asked_of(project, "main").components.as_mapping()
    monkeypatch.setattr(specs, "python_minor", lambda: "3.99")
    after = asked_of(project, "main").components.as_mapping()
    assert {name for name in before if before[name] != after[name]} == {"env"}


WRONG = "# @package _global_\nseed: many\n"


def test_a_configuration_that_is_wrong_is_refused_and_not_shown_whether_it_is_committed_or_not(team: Shell) -> None:
    made = commit(team, "main", {BASELINE: WRONG})
    (team.folder / BASELINE).write_text(WRONG, "utf-8")
    for words in (["config"], ["config", made]):
        done = cd4ml(team, *words, code=2)
        assert done.out == ""
        assert f"{BASELINE}: seed" in done.err


def test_a_branch_that_the_remote_alone_has_is_shown_by_its_bare_name(team: Shell, project: Project) -> None:
    branch(team, "exp/away", {BASELINE: "# @package _global_\nseed: 5\n"})
    cd4ml(team, "status")
    resolved, origin = configuration(project, "exp/away")
    assert (resolved["seed"], origin["seed"]) == (5, BASELINE)
