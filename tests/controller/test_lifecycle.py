"""What became of branches, told from real repositories: renamed, re-used, rewritten, squashed late, gone unseen."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from cd4ml.controller.landing.landed import read_history
from cd4ml.controller.project import open_project
from cd4ml.controller.reconciling.lifecycles import Lifecycles, lifecycles
from cd4ml.gateways.warm import SOCKET_VARIABLE
from cd4ml.plan.lifecycle import Became
from tests.conftest import Shell
from tests.controller.controller_world import (
    BASELINE,
    OTHER_SEED,
    Content,
    branch,
    cd4ml,
    commit,
    experiments,
    git,
    gusty,
    push,
    refs,
    remote,
    runs,
)

ADA = {"GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "ada@example.org"}
EVE = {"GIT_COMMITTER_NAME": "Eve", "GIT_COMMITTER_EMAIL": "eve@example.org"}
_FIRST = 1_780_000_000


def refused(name: str, seed: int) -> dict[str, str]:
    """Files of an experiment that its configuration rules out: recorded, and never run."""
    return {BASELINE: f"# @package _global_\nname: {name}\nseed: {seed}\nvalidation: {{expectations: []}}\n"}


def at(minute: int) -> dict[str, str]:
    """Both dates of a commit."""
    return {"GIT_AUTHOR_DATE": f"{_FIRST + 60 * minute} +0000", "GIT_COMMITTER_DATE": f"{_FIRST + 60 * minute} +0000"}


@dataclass(frozen=True)
class World:
    """A project in which everything has happened, and what is known of it."""

    shell: Shell
    commits: dict[str, str]
    known: Lifecycles

    def became(self, branch: str) -> Became:
        return self.known[branch].became

    def of(self, branch: str, commit: str) -> Became:
        """What became of a branch as it was at one of the commits above."""
        return self.known[branch].of(self.commits[commit])


def told(shell: Shell) -> Lifecycles:
    project = open_project(shell.folder)
    state = project.repository.fetch(project.remote)
    return lifecycles(project, state, read_history(project, state))


def heads(shell: Shell, *moves: str, force: bool = False) -> None:
    """Push ``branch:commit`` (nothing to delete), all at once."""
    specs = [f"{one.split(':')[1]}:refs/heads/{one.split(':')[0]}" for one in moves]
    shell.run("git", "push", "--quiet", *(["--force"] if force else []), "origin", *specs)


@pytest.fixture(scope="module")
def world(template_project: Path, tmp_path_factory: pytest.TempPathFactory, few_flights: Path, warm: str) -> World:
    folder = tmp_path_factory.mktemp("lifecycle") / "team"
    subprocess.run(["cp", "-a", str(template_project), str(folder)], check=True)
    shell = Shell(folder / "project", {"PYTHONPATH": str(few_flights), SOCKET_VARIABLE: warm})
    made: dict[str, str] = {"fork": git(shell, "rev-parse", "main")}

    def make(label: str, base: str, files: dict[str, str], minute: int, message: str = "x\n", **who: str) -> str:
        made[label] = commit(shell, made.get(base, base), files, message, **{**at(minute), **who})
        return made[label]

    for number, name in enumerate(("renamed", "moved on", "copied", "reused", "amended", "rebased", "merged", "gone")):
        make(name, "fork", refused(name, number), number, **ADA)
    make("squashed late", "fork", {**refused("squashed", 50), "notes.md": "squashed late\n"}, 10, **ADA)
    make("squashed late, 2", "squashed late", {"more.md": "more\n"}, 11, **ADA)
    make("rebased late", "fork", {"one.md": "1\n"}, 12, **ADA)
    make("rebased late, 2", "rebased late", {"two.md": "2\n"}, 13, **ADA)
    # the base branch: a squash of the one (whose file has moved on beside it), a rebase of the other, something after
    make("before", "fork", {"README.md": "before\n"}, 14)
    squash = {**refused("squashed", 50), "notes.md": "squashed late\n", "more.md": "more\n"}
    make("the squash", "before", squash, 20, **EVE)
    make("rebased 1", "the squash", {"one.md": "1\n"}, 21, **EVE)
    make("rebased 2", "rebased 1", {"two.md": "2\n"}, 22, **EVE)
    make("after", "rebased 2", {**refused("squashed", 50), BASELINE: "# @package _global_\nname: after\n"}, 23)
    make("repeats", "before", {}, 30)
    make("picks", "fork", {"README.md": "before\n"}, 31, **ADA)
    made["fresh"] = made["fork"]
    heads(
        shell,
        *(f"exp/{name.replace(' ', '-')}:{made[name]}" for name in ("renamed", "moved on", "copied", "reused")),
        *(f"exp/{name}:{made[name]}" for name in ("amended", "rebased", "merged", "gone", "fresh", "picks")),
        f"exp/squashed-late:{made['squashed late, 2']}",
        f"exp/rebased-late:{made['rebased late, 2']}",
        f"exp/copy:{made['copied']}",
        f"main:{made['after']}",
    )
    cd4ml(shell, "reconcile", code=None)

    make("merge", "after", {}, 40, **EVE)
    made["merge"] = git(
        shell,
        *("commit-tree", f"{made['after']}^{{tree}}", "-p", made["after"], "-p", made["merged"]),
        stdin=b"Merge\n",
        environment={**at(40), **EVE},
    )
    make("goes on", "moved on", refused("goes on", 70), 41, **ADA)
    make("anew", "fork", refused("anew", 71), 42, GIT_AUTHOR_NAME="Bob", GIT_AUTHOR_EMAIL="bob@example.org")
    kept = {"GIT_AUTHOR_DATE": at(4)["GIT_AUTHOR_DATE"]}
    make("amended again", "fork", refused("amended", 72), 43, **{**ADA, **kept})
    kept = {"GIT_AUTHOR_DATE": at(5)["GIT_AUTHOR_DATE"]}
    make("rebased again", "before", refused("rebased", 5), 44, **{**ADA, **kept})
    make("unseen", "fork", refused("unseen", 73), 45, **ADA)
    config = git(shell, "show", "main:conf/config.yaml").replace("seed: 20130101", "seed: 74")
    make("seen", "fork", {"conf/config.yaml": f"{config}\n"}, 46, **ADA)
    heads(
        shell,
        *("exp/renamed:", f"exp/new-name:{made['renamed']}", "exp/moved-on:", f"exp/went-on:{made['goes on']}"),
        *(
            "exp/copied:",
            "exp/gone:",
            "exp/merged:",
            "exp/fresh:",
            "exp/squashed-late:",
            "exp/rebased-late:",
            "exp/picks:",
        ),
        *(f"exp/reused:{made['anew']}", f"exp/amended:{made['amended again']}", f"exp/rebased:{made['rebased again']}"),
        *(f"exp/unseen:{made['unseen']}", f"main:{made['merge']}"),
        force=True,
    )
    heads(shell, "exp/unseen:")
    heads(shell, f"exp/seen:{made['seen']}")
    cd4ml(shell, "status")
    heads(shell, "exp/seen:")
    cd4ml(shell, "reconcile", code=None)
    return World(shell, made, told(shell))


def test_a_renamed_branch_is_told_by_its_new_name(world: World) -> None:
    assert world.became("exp/renamed").renamed == "exp/new-name"
    assert world.became("exp/renamed").lifecycle == "open"
    item = experiments(world.shell)["exp/renamed"]
    assert (item["reason"], item["renamed"]) == ("branch gone: renamed to exp/new-name", "exp/new-name")
    assert world.became("exp/new-name").renamed == ""


def test_a_branch_that_was_renamed_and_went_on_is_told_by_its_new_name(world: World) -> None:
    assert world.became("exp/moved-on").renamed == "exp/went-on"


def test_a_branch_whose_copy_was_there_beside_it_was_discarded_and_not_renamed(world: World) -> None:
    assert (world.became("exp/copied").lifecycle, world.became("exp/copied").renamed) == ("discarded", "")


def test_a_discarded_branch_says_who_recorded_it_last_and_when(world: World) -> None:
    gone = world.became("exp/gone")
    assert (gone.lifecycle, gone.commit, gone.by) == ("discarded", world.commits["gone"], "Test <test@localhost>")
    project = open_project(world.shell.folder)
    (record,) = read_history(project, project.repository.last_seen()).of_branch("exp/gone")
    assert gone.when == git_time(world.shell, record.entry.result_commit)


def git_time(shell: Shell, revision: str) -> str:
    shown = git(
        shell,
        "show",
        "--no-patch",
        "--date=format-local:%Y-%m-%dT%H:%M:%SZ",
        "--format=%cd",
        revision,
        "--",
        environment={"TZ": "UTC"},
    )
    return shown.splitlines()[-1]


def test_a_new_history_under_an_old_name_is_a_new_experiment(world: World) -> None:
    assert world.became("exp/reused").lifecycle == "open"
    old = world.of("exp/reused", "reused")
    assert (old.lifecycle, old.commit) == ("discarded", world.commits["reused"])
    assert world.of("exp/reused", "anew").lifecycle == "open"


@pytest.mark.parametrize("how", ["amended", "rebased"])
def test_a_branch_that_was_rewritten_is_the_same_experiment(world: World, how: str) -> None:
    assert world.of(f"exp/{how}", how) == world.became(f"exp/{how}")
    assert world.became(f"exp/{how}").lifecycle == "open"


@pytest.mark.parametrize(("how", "by"), [("squashed", "the squash"), ("rebased", "rebased 2")])
def test_a_squash_or_rebase_is_seen_for_the_first_time_after_the_base_branch_moved_on(
    world: World, how: str, by: str
) -> None:
    became = world.became(f"exp/{how}-late")
    assert (became.lifecycle, became.commit) == ("merged", world.commits[by])
    assert became.by == "Eve <eve@example.org>"
    assert became.when == git_time(world.shell, world.commits[by])


def test_a_merge_commit_tells_who_merged_and_when(world: World) -> None:
    became = world.became("exp/merged")
    assert (became.lifecycle, became.commit) == ("merged", world.commits["merge"])
    assert (became.by, became.when) == ("Eve <eve@example.org>", git_time(world.shell, world.commits["merge"]))
    item = experiments(world.shell)["exp/merged"]
    assert (item["lifecycle_by"], item["lifecycle_at"]) == (became.by, became.when)


def test_a_branch_that_only_repeats_the_base_branch_was_never_merged(world: World) -> None:
    assert world.became("exp/fresh").lifecycle == "discarded"


def test_a_branch_that_takes_over_what_the_base_branch_did_before_it_was_never_merged(world: World) -> None:
    assert world.became("exp/picks").lifecycle == "discarded"


def test_a_branch_that_a_fetch_saw_and_nobody_reconciled_is_recorded_after_its_deletion(world: World) -> None:
    project = open_project(world.shell.folder)
    state = project.repository.fetch(project.remote)
    (record,) = read_history(project, state).of_branch("exp/seen")
    assert (record.experiment.commit, record.experiment.body["author"]) == (
        world.commits["seen"],
        "Ada <ada@example.org>",
    )
    assert record.experiment.answer == {"head": None, "merge": None}
    assert record.experiment.fingerprint
    assert world.became("exp/seen").lifecycle == "discarded"
    assert not [ref for ref in refs(world.shell) if "/vanished/" in ref]
    assert state.vanished == ()
    (row,) = runs(world.shell, "branch = 'exp/seen'")
    assert (row["lifecycle"], row["health"], row["reason"]) == (
        "discarded",
        "Unknown",
        "nothing was run for this commit",
    )


def test_search_tells_the_lives_of_a_name_apart(world: World) -> None:
    found = {row["commit"]: row["lifecycle"] for row in runs(world.shell, "branch = 'exp/reused'")}
    assert found == {world.commits["reused"]: "discarded", world.commits["anew"]: "open"}


def test_a_branch_that_no_fetch_saw_is_unknown(world: World) -> None:
    assert "exp/unseen" not in world.known


def test_after_all_that_nothing_is_left_to_record(world: World) -> None:
    items = experiments(world.shell, "plan")
    assert {name: item["actions"] for name, item in items.items() if item["actions"] and name != "main"} == {}


def test_what_a_plan_lists_of_a_branch_is_what_became_of_it(world: World) -> None:
    listed = {name: item["lifecycle"] for name, item in experiments(world.shell).items()}
    assert listed == {name: str(lives.became.lifecycle) for name, lives in world.known.items()}


def test_a_branch_is_open_again_once_the_base_branch_was_moved_back_before_it(team: Shell) -> None:
    main = git(team, "rev-parse", "origin/main")
    made = branch(team, "exp/taken-back", gusty(team))
    cd4ml(team, "reconcile", "exp/taken-back", code=None)
    heads(team, f"main:{made}")
    cd4ml(team, "reconcile", "main", code=None)
    assert told(team)["exp/taken-back"].became.lifecycle == "merged"
    heads(team, f"main:{main}", force=True)
    assert told(team)["exp/taken-back"].became.lifecycle == "open"
    cd4ml(team, "reconcile", code=None)
    heads(team, f"main:{made}", force=True)
    assert told(team)["exp/taken-back"].became.lifecycle == "merged"


def test_a_branch_that_this_clone_pushed_and_that_was_deleted_before_any_fetch_is_recorded(team: Shell) -> None:
    cd4ml(team, "new", "short-lived", "seed=61", "--push")
    made = git(team, "rev-parse", "exp/short-lived")
    git(team, "branch", "--delete", "--force", "exp/short-lived")
    git(team, "push", "--quiet", "origin", "--delete", "exp/short-lived")
    cd4ml(team, "reconcile")
    assert told(team)["exp/short-lived"].of(made).lifecycle == "discarded"


def test_what_this_clone_updated_and_pushed_is_recorded_though_it_was_deleted_before_any_fetch(team: Shell) -> None:
    cd4ml(team, "new", "short-lived", "seed=61", "--push")
    heads(team, f"main:{commit(team, 'origin/main', {'notes.md': 'more'})}")
    cd4ml(team, "update", "short-lived", "--push")
    made = git(team, "rev-parse", "exp/short-lived")
    git(team, "branch", "--delete", "--force", "exp/short-lived")
    git(team, "push", "--quiet", "origin", "--delete", "exp/short-lived")
    cd4ml(team, "reconcile", code=None)
    assert told(team)["exp/short-lived"].of(made).lifecycle == "discarded"
    assert [one["commit"] for one in runs(team, "branch = 'exp/short-lived'")] == [made]


def test_a_branch_that_was_pushed_and_dropped_before_it_was_recorded_is_told_once_where_it_was_made(
    team: Shell,
) -> None:
    cd4ml(team, "new", "dropped", "seed=64", "--push")
    git(team, "push", "--quiet", "origin", "--delete", "exp/dropped")
    items = cd4ml(team, "status", "--json").json["experiments"]
    (item,) = [one for one in items if one["branch"] == "exp/dropped"]
    assert item["lifecycle"] == "discarded"
    assert item["reason"].startswith("branch gone before it was ever recorded")


def test_an_experiment_of_an_earlier_pattern_is_no_former_name_of_the_base_branch(team: Shell) -> None:
    made = branch(team, "exp/x", refused("x", 69))
    cd4ml(team, "reconcile", code=None)
    policy: dict[str, Content] = {BASELINE: '# @package _global_\nexperiments: {branches: ["trial/*"]}\n'}
    heads(team, f"main:{commit(team, made, policy)}")
    assert told(team)["exp/x"].became.lifecycle == "merged"


def test_what_went_on_here_since_an_unrecorded_head_was_dropped_is_there_to_be_pushed(team: Shell) -> None:
    made = branch(team, "exp/mine", refused("mine", 67))
    cd4ml(team, "status")
    onward = commit(team, made, refused("mine", 68))
    git(team, "branch", "exp/mine", onward)
    heads(team, "exp/mine:")
    items = cd4ml(team, "status", "--json").json["experiments"]
    told_of = {one["commit"]: one["lifecycle"] for one in items if one["branch"] == "exp/mine"}
    assert told_of == {made: "discarded", onward: "open"}


@pytest.mark.parametrize("how", ["deleted", "renamed", "went on"])
def test_a_clone_that_has_a_branch_still_says_what_every_other_clone_says(team: Shell, how: str) -> None:
    made = branch(team, "exp/mine", refused("mine", 62))
    cd4ml(team, "reconcile", code=None)
    git(team, "branch", "exp/mine", made)
    git(team, "push", "--quiet", "origin", "--delete", "exp/mine")
    if how == "renamed":
        heads(team, f"exp/yours:{made}")
    if how == "went on":
        git(team, "branch", "--force", "exp/mine", commit(team, made, refused("mine", 63)))
    cd4ml(team, "reconcile", code=None)
    (row,) = [one for one in runs(team, "branch = 'exp/mine'") if one["commit"] == made]
    listed = experiments(team).get("exp/mine", {})
    expected = {"deleted": ("discarded", None), "renamed": ("open", None), "went on": ("open", "not pushed")}[how]
    assert (row["lifecycle"], listed.get("reason") if listed.get("sync") == "Unknown" else None) == expected


def test_a_branch_that_is_no_experiment_is_not_recorded_as_one_after_its_deletion(team: Shell) -> None:
    branch(team, "fix/typo", refused("typo", 66))
    cd4ml(team, "status")
    heads(team, "fix/typo:")
    cd4ml(team, "reconcile")
    assert runs(team, "branch = 'fix/typo'") == []


def test_a_branch_that_was_deleted_and_pushed_again_as_it_was_is_open_and_recorded_once(team: Shell) -> None:
    made = branch(team, "exp/back", refused("back", 65))
    cd4ml(team, "status")
    heads(team, "exp/back:")
    cd4ml(team, "status")
    heads(team, f"exp/back:{made}")
    items = cd4ml(team, "status", "--json").json["experiments"]
    assert [one["lifecycle"] for one in items if one["branch"] == "exp/back"] == ["open"]
    cd4ml(team, "reconcile", code=None)
    project = open_project(team.folder)
    history = read_history(project, project.repository.fetch(project.remote))
    assert [one.experiment.commit for one in history.of_branch("exp/back")] == [made]


def test_a_shallow_clone_of_a_branch_calls_nothing_a_conflict_that_it_cannot_know(team: Shell) -> None:
    """Where the branch left main is below the cut."""
    push(team, "refs/heads/exp/x", commit(team, "main", {BASELINE: OTHER_SEED.format(seed=3)}))
    source = f"file://{remote(team).folder}"
    team.at(team.folder.parent).run("git", "clone", "--quiet", "--depth=1", "--branch=exp/x", source, "shallow")
    shallow = team.at(team.folder.parent / "shallow")
    before = refs(remote(team))
    for verb, code in (("plan", 0), ("status", 0), ("reconcile", 1)):
        told = cd4ml(shallow, verb, code=code)
        assert "its history is cut off in this clone: run `git fetch --unshallow origin`" in told.err + told.out
        assert "conflict" not in told.err + told.out
    for verb in ("search", "leaderboard"):
        (line,) = cd4ml(shallow, verb).lines
        assert line.endswith("where history is cut off: git fetch --unshallow origin")
    assert refs(remote(team)) == before
    shallow.run("git", "fetch", "--quiet", "--unshallow", "origin")
    assert cd4ml(shallow, "search").lines == []
    assert "exp/x" in cd4ml(shallow, "plan").out
    assert "cut off" not in cd4ml(shallow, "plan").out


def test_a_shallow_clone_knows_what_was_merged_below_its_cut(team: Shell) -> None:
    """The base branch's records tell, where its commits do not."""
    before = git(team, "show", "main:conf/config.yaml") + "\n"
    branch(team, "exp/squashed", gusty(team))
    cd4ml(team, "reconcile", code=None)
    squash = commit(team, "main", {**gusty(team), "notes.md": "what else was squashed\n"})
    heads(team, f"main:{squash}", "exp/squashed:")
    assert told(team)["exp/squashed"].became.lifecycle == "merged", "also before main is recorded there"
    cd4ml(team, "reconcile", code=None)
    heads(team, f"main:{commit(team, squash, {'conf/config.yaml': before})}")
    cd4ml(team, "reconcile", code=None)
    team.at(team.folder.parent).run("git", "clone", "--quiet", "--depth=1", f"file://{remote(team).folder}", "shallow")
    shallow = team.at(team.folder.parent / "shallow")
    assert told(team)["exp/squashed"].became.lifecycle == "merged"
    assert told(shallow) == told(team)
    assert experiments(shallow, "plan") == experiments(team, "plan")


def test_a_branch_that_was_renamed_before_anybody_reconciled_it_is_never_told_as_discarded(team: Shell) -> None:
    made = branch(team, "exp/old", refused("old", 5))
    cd4ml(team, "status")
    heads(team, "exp/old:", f"exp/new:{made}")
    cd4ml(team, "reconcile", "exp/new", code=1)
    cd4ml(team, "reconcile")
    heads(team, f"exp/new:{commit(team, made, {'notes.md': 'went on'})}")
    cd4ml(team, "reconcile")
    assert told(team).keys() == {"main", "exp/new"}


def test_a_note_under_an_old_name_goes_to_the_new_one(team: Shell) -> None:
    made = branch(team, "exp/old", refused("old", 5))
    cd4ml(team, "reconcile")
    heads(team, "exp/old:", f"exp/new:{made}")
    cd4ml(team, "reconcile")
    assert cd4ml(team, "note", "exp/old", "Depth helped.").out.endswith(" of exp/new\n")
    assert (told(team)["exp/old"].became.renamed, told(team)["exp/new"].became.lifecycle) == ("exp/new", "open")
    assert {run["branch"]: run["conclusion"] for run in runs(team)}["exp/new"] == "Depth helped."


def test_a_branch_that_only_repeats_the_base_branch_is_not_merged_by_renaming_that(team: Shell) -> None:
    heads(team, "exp/rep:main")
    cd4ml(team, "reconcile")
    git(remote(team), "branch", "--move", "main", "trunk")
    git(team, "config", "cd4ml.base", "trunk")
    assert told(team)["exp/rep"].became.lifecycle == "open"
    cd4ml(team, "reconcile")
    heads(team, "exp/rep:")
    assert told(team)["exp/rep"].became.lifecycle == "discarded"
    assert experiments(team)["main"]["reason"] == "branch gone: renamed to trunk"
