"""What an observation remembers is what it would find; and it asks Git no more often for more branches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from cd4ml.controller.desired.heads import MEMORY
from cd4ml.controller.project import Project, open_project
from cd4ml.controller.reconciling.lifecycles import lives_of_all
from cd4ml.controller.reconciling.observe import Observation, observe, observe_state
from cd4ml.controller.reconciling.reconcile import Request, make_plan
from cd4ml.gateways.git import Repository
from cd4ml.gateways.memo import Memo
from tests.conftest import Shell
from tests.controller.controller_world import BASELINE, Content, commit, git, push

OWN = "# @package _global_\nseed: {seed}\n"


def setting(shell: Shell, old: str, new: str, base: str = "main") -> dict[str, Content]:
    """The root of the configuration with one text in it for another."""
    config = git(shell, "show", f"{base}:conf/config.yaml")
    assert old in config
    return {"conf/config.yaml": config.replace(old, new) + "\n"}


class Team:
    """People who push, by plumbing: nothing runs, and no work tree is needed."""

    def __init__(self, shell: Shell) -> None:
        self.shell = shell
        self.heads = {"main": git(shell, "rev-parse", "main")}

    def push(self, name: str, files: dict[str, Content], base: str = "", force: bool = False) -> None:
        made = commit(self.shell, base or self.heads.get(name, self.heads["main"]), files)
        self.put(name, made, force)

    def put(self, name: str, made: str, force: bool = False) -> None:
        self.heads[name] = made
        push(self.shell, f"refs/heads/{name}", made, *(["--force"] if force else []))

    def merge(self, name: str, squash: bool = False) -> None:
        tree = git(self.shell, "merge-tree", "--write-tree", self.heads["main"], self.heads[name])
        parents = ["-p", self.heads["main"], *([] if squash else ["-p", self.heads[name]])]
        self.put("main", git(self.shell, "commit-tree", tree, *parents, stdin=b"Merged\n"))

    def delete(self, name: str) -> None:
        self.shell.run("git", "push", "--quiet", "origin", "--delete", name)
        del self.heads[name]


def told(found: Observation) -> Any:
    """Everything that a plan is made from, worked out."""
    desired = found.desired
    commits = [one.commit for one in (*desired.experiments, *desired.vanished)]
    commits += [entry.experiment.commit for entry in found.history.experiments]
    plain = replace(
        desired,
        base_commits=frozenset(one for one in commits if one in desired.base_commits),
        landed_as={one: desired.landed_as[one] for one in commits if one in desired.landed_as},
        brought_by=dict(desired.brought_by),
        base_asked=dict(desired.base_asked),
        continued_by=dict(desired.continued_by),
        begun_anew=frozenset(),
        signed={one: desired.signed[one] for one in commits},
    )
    return plain, lives_of_all(desired, found.history), found.unreadable, make_plan(found, Request()).items


def test_an_observation_with_memory_is_the_one_without(team: Shell) -> None:
    people = Team(team)
    project = open_project(team.folder)
    people.push("exp/a", {BASELINE: OWN.format(seed=1)})
    people.push("exp/b", {"notes.md": "b\n"})
    people.push("exp/c", setting(team, "seed: 20130101", "seed: 3"))
    people.push("exp/refused", {BASELINE: OWN.format(seed=1) + "validation: {expectations: []}\n"})
    people.push("exp/own", setting(team, "code: []", "code: [own]") | {"own/x.py": "x\n"})
    people.put("exp/fresh", people.heads["main"])
    seen = [compared(project)]
    steps: list[Callable[[], None]] = [
        lambda: people.push("exp/a", {BASELINE: OWN.format(seed=2)}),
        lambda: people.push("exp/c", {"conf/config.yaml": None, "notes.md": "c\n"}, people.heads["main"], force=True),
        lambda: people.push("main", {BASELINE: OWN.format(seed=4)}),  # conflicts with exp/a from now on
        lambda: people.merge("exp/b", squash=True),
        lambda: people.push("main", setting(team, "code: []", "code: [own]") | {"own/x.py": "y\n"}),
        lambda: people.push("main", setting(team, "[sklearn, xgboost]", "[xgboost]", people.heads["main"])),
        lambda: people.push("exp/b", {"README.md": "more\n"}),
        lambda: people.merge("exp/b"),
        lambda: people.delete("exp/own"),
        lambda: people.put("main", people.heads["exp/fresh"], force=True),
    ]
    for step in steps:
        step()
        now = compared(project)
        assert now != seen[-1], "the step shows"
        seen.append(now)


def compared(project: Project) -> Any:
    """What is observed, twice with the memory (made, then read) and once without."""
    state = project.repository.fetch(project.remote)
    without = told(observe_state(project, state, memory=False))
    assert told(observe_state(project, state)) == without
    assert told(observe_state(project, state)) == without
    return without


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The commands of Git that are run meanwhile."""
    found: list[str] = []
    real = Repository.git

    def git_command(self: Repository, *arguments: str, **options: Any) -> Any:
        found.append(" ".join(arguments)[:80])
        return real(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Repository, "git", git_command)
        yield found


def test_a_plan_costs_what_changed_and_not_what_there_is(team: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of Git's commands is the same for 3 branches and for 12, of which one changed, or none."""
    people = Team(team)

    def commands(change: int | None) -> int:
        project = open_project(team.folder)
        observe(project)
        if change is not None:
            people.push("exp/0", {BASELINE: OWN.format(seed=change)})
        with counted(monkeypatch) as found:
            make_plan(observe(project), Request())
        return len(found)

    for number in range(3):
        people.push(f"exp/{number}", {BASELINE: OWN.format(seed=10), "n.md": f"{number}\n"})
    few = commands(None), commands(20)
    for number in range(3, 12):
        people.push(f"exp/{number}", {BASELINE: OWN.format(seed=10), "n.md": f"{number}\n"})
    many = commands(None), commands(21)
    assert many == few
    assert few[0] < few[1]


def test_a_merge_result_that_was_collected_as_garbage_is_made_again_when_it_is_to_be_run(team: Shell) -> None:
    people = Team(team)
    people.push("exp/a", {BASELINE: OWN.format(seed=1)})
    people.push(
        "main", {"conf/split/time.yaml": git(team, "show", "main:conf/split/time.yaml").replace("-01", "-02", 1) + "\n"}
    )
    observe(open_project(team.folder))
    team.run("git", "gc", "--quiet", "--prune=now")
    found = observe(open_project(team.folder))
    one = next(one for one in found.desired.experiments if one.branch == "exp/a")
    assert one.merge is not None
    assert one.merge.commit != one.commit
    assert found.asked[one.merge.commit].components == one.merge.components
    assert git(team, "rev-parse", f"{one.merge.commit}^{{tree}}") == one.merge.tree
    assert git(team, "rev-parse", f"{one.merge.commit}^1", f"{one.merge.commit}^2").split() == [
        found.base_commit,
        one.commit,
    ]


def test_another_version_of_the_code_believes_nothing_that_was_remembered(
    team: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = Team(team)
    people.push("exp/a", {BASELINE: OWN.format(seed=1)})
    project = open_project(team.folder)
    observe(project)
    asked: list[int] = []
    real = Memo.get_many

    def get_many(self: Memo, keys: Any) -> Any:
        found = real(self, keys)
        asked.append(len(found))
        return found

    monkeypatch.setattr(Memo, "get_many", get_many)
    assert (team.folder / ".git/cd4ml" / MEMORY).exists()
    observe(project)
    assert sum(asked) > 0
    asked.clear()
    monkeypatch.setattr("cd4ml.controller.desired.heads._MEANING", 1000)
    observe(project)
    assert asked[0] == 0
