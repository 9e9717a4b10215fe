"""Repositories as people have them, and settings and variables that mean harm: a clear line, or plain work."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Shell
from tests.controller.controller_world import (
    BASELINE,
    OTHER_SEED,
    branch,
    cd4ml,
    commit,
    experiments,
    git,
    gusty,
    push,
    refs,
    rejected,
    remote,
    runs,
)

READING = ("plan", "status", "search")


def script(shell: Shell, text: str) -> None:
    shell.run("bash", "-ec", text)


def beside(shell: Shell, name: str) -> Shell:
    return shell.at(shell.folder.parent / name)


def hook(shell: Shell, name: str, text: str) -> None:
    """A hook of the remote."""
    path = shell.folder.parent / "remote.git/hooks" / name
    path.write_text(f"#!/bin/sh\n{text}\n", "utf-8")
    path.chmod(0o755)


# ── states of a work tree that no verb but its own cares about ──

CONFLICT = """
git switch -qc side; echo a>f; git add f; git commit -qm a; git switch -q main; echo b>f; git add f; git commit -qm b
"""
STATES = {
    "detached": "git checkout -q --detach",
    "dirty": "echo 'x: : [' >> conf/config.yaml; echo new > untracked; git add untracked",
    "rebase": f"{CONFLICT}git switch -q side; git rebase -q main || true",
    "merge": f"{CONFLICT}git merge -q side || true",
    "submodule": "git init -q ../sub; git -C ../sub commit -q --allow-empty -m x;"
    "git -c protocol.file.allow=always submodule add -q ../sub sub",
    "worktree": "git worktree add -q ../project2 -b wt; rm -rf ../project2/conf",
}


def state(shell: Shell) -> tuple[str, str, str]:
    """Work tree, index and HEAD, as their owner sees them."""
    listed = git(shell, "status", "--porcelain=v2", "--branch")
    return listed, git(shell, "stash", "list"), git(shell, "ls-files", "--stage")


STATES["many"] = "; ".join(STATES[name] for name in ("detached", "submodule", "worktree", "dirty"))


@pytest.mark.parametrize("name", ["many", "merge"])
def test_whatever_state_the_work_tree_is_in_the_remote_s_heads_are_reconciled_and_it_is_left_alone(
    team: Shell, name: str
) -> None:
    script(team, STATES[name])
    rejected(team, "exp/x")
    before = state(team)
    cd4ml(team, "reconcile")
    cd4ml(team, "new", "other", "model.parameters.alpha=7")
    assert experiments(team)["exp/x"]["sync"] == "Synced"
    assert state(team) == before


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("merge", "a merge is under way: finish it, then commit"),
        ("rebase", "HEAD is detached: the pins are written but not committed"),
    ],
)
def test_pins_are_not_committed_into_something_unfinished(team: Shell, name: str, told: str) -> None:
    script(team, STATES[name])
    head = git(team, "rev-parse", "HEAD")
    (team.folder / "data/flights.lock.json").unlink()
    (line,) = cd4ml(team, "data", "update", "flights", code=2).lines
    assert told in line
    assert (team.folder / "data/flights.lock.json").is_file()
    assert git(team, "rev-parse", "HEAD") == head


# ── kinds of repositories ──


def test_a_repository_without_a_commit_says_what_to_do(shell: Shell) -> None:
    shell.run("git", "init", "--quiet")
    for verb in (*READING[:2], "reconcile", "new x seed=3"):
        (line,) = cd4ml(shell, *verb.split(), code=2).lines
        assert line.endswith(
            "has no commit on main yet: commit the project first "
            "(or name the base branch with `git config cd4ml.base NAME`)"
        ), verb
    assert "No runs" in cd4ml(shell, "search").out


def test_a_bare_repository_is_reconciled_and_what_needs_a_work_tree_says_so(team: Shell) -> None:
    rejected(team, "exp/x")
    bare = remote(team)
    for verb in ("config", "data update", "render", "init"):
        (line,) = cd4ml(bare, *verb.split(), code=2).lines
        assert "a bare repository has no work tree" in line, verb
    for verb in READING:
        cd4ml(bare, verb)


def test_in_a_bare_clone_the_dvc_remote_is_the_folder_that_a_clone_beside_it_has(team: Shell) -> None:
    """`../storage` counts from the repository's own folder."""
    team.at(team.folder.parent).run("git", "clone", "--quiet", "--bare", "remote.git", "bare.git")
    bare = team.at(team.folder.parent / "bare.git")
    before = sorted(path.name for path in bare.folder.iterdir())
    assert "all sound" in cd4ml(bare, "verify").err + cd4ml(bare, "verify").out
    assert "is reproduced" in cd4ml(bare, "reproduce", "main").out
    assert sorted({path.name for path in bare.folder.iterdir()} - {*before, "cd4ml"}) == []


@pytest.mark.parametrize("options", ["--depth=1", "--filter=tree:0 --no-checkout"])
def test_a_shallow_or_partial_clone_reconciles_as_a_whole_one(team: Shell, options: str) -> None:
    git(remote(team), "config", "uploadpack.allowFilter", "true")
    rejected(team, "exp/x")
    team.at(team.folder.parent).run("git", "clone", "-q", *options.split(), f"file://{remote(team).folder}", "clone")
    clone = beside(team, "clone")
    cd4ml(clone, "reconcile")
    assert experiments(clone)["exp/x"]["health"] == "Degraded"
    cd4ml(team, "plan", "--exit-code")


def test_a_linked_worktree_is_a_project_like_any_other(team: Shell) -> None:
    rejected(team, "exp/x")
    script(team, "git worktree add -q ../linked -b side")
    linked = beside(team, "linked")
    cd4ml(linked, "reconcile")
    assert experiments(linked)["exp/x"]["sync"] == "Synced"
    cd4ml(linked, "render", "--check")


def test_trunk_on_upstream_needs_no_setting(team: Shell) -> None:
    script(
        team,
        "git branch -m main trunk; git push -q origin trunk; git -C ../remote.git symbolic-ref HEAD refs/heads/trunk;"
        "git push -q origin :main; git remote rename origin upstream; git remote set-head upstream -d",
    )
    assert "git push upstream exp/x" in cd4ml(team, "new", "x", "validation=gusts").out
    script(team, "git push -q upstream exp/x")
    cd4ml(team, "reconcile")
    found = experiments(team)
    assert found["trunk"]["is_base"]
    assert found["exp/x"]["sync"] == "Synced"


# ── no identity ──


def test_without_a_name_and_an_address_nothing_is_lost_and_the_records_say_cd4ml(team: Shell) -> None:
    rejected(team, "exp/x")
    for setting in ("false", "true"):
        git(team, "config", "user.useConfigOnly", setting)
        cd4ml(team, "reconcile", GIT_CONFIG_GLOBAL=os.devnull)
    (run,) = runs(team, "branch = 'exp/x'")
    assert git(team, "show", "--no-patch", "--format=%cn <%ce>", run["result_commit"]) == "cd4ml <cd4ml@localhost>"


# ── remotes that will not ──


def test_a_remote_that_refuses_is_quoted_and_what_was_run_is_not_run_again(team: Shell) -> None:
    made = branch(team, "exp/x", {BASELINE: OTHER_SEED.format(seed=3)})
    hook(team, "pre-receive", "exit 1")
    before = refs(remote(team))
    (line,) = cd4ml(team, "reconcile", code=1).lines
    assert "could not be landed: git push: ! [remote rejected]" in line
    assert "pre-receive hook declined" in line
    assert refs(remote(team)) == before
    hook(team, "pre-receive", "exit 0")
    done = cd4ml(team, "reconcile")
    assert "train started" not in done.err  # DVC's cache has what was trained
    assert experiments(team)["exp/x"]["commit"] == made
    assert experiments(team)["exp/x"]["health"] == "Healthy"


def test_an_unreachable_remote_is_one_line_for_every_verb_without_the_password(team: Shell) -> None:
    git(team, "remote", "set-url", "origin", "http://me:s3cret@127.0.0.1:9/x.git")
    for verb in ("plan", "status", "reconcile", "new x seed=3", "note main x", "reproduce main"):
        done = cd4ml(team, *verb.split(), code=1)
        assert len(done.lines) == 1, verb
        assert "127.0.0.1:9/x.git" in done.err
        assert "s3cret" not in done.err + done.out
    done = cd4ml(team, "search", "--json")
    assert done.json["runs"]
    assert done.lines[0].endswith("showing what the last fetch saw")


@pytest.mark.parametrize(
    "change",
    [
        "git -C ../remote.git symbolic-ref HEAD refs/heads/nothing; git remote set-head origin -d",
        "git clone -q ../remote.git ../o; git -C ../o commit -q --allow-empty -m y; git -C ../o push -q",
        "git commit -q --amend -m rewritten; git push -qf; git reset -q --hard HEAD@{1}",
    ],
    ids=["HEAD names nothing", "diverged", "main was rewritten"],
)
def test_what_the_remote_s_heads_are_is_what_counts(team: Shell, change: str) -> None:
    script(team, change)
    rejected(team, "exp/x")
    cd4ml(team, "reconcile")
    found = experiments(team)
    assert {found["main"]["sync"], found["exp/x"]["sync"]} == {"Synced"}
    assert found["main"]["commit"] == refs(remote(team))["refs/heads/main"]


# ── a branch that moves while it runs ──


@pytest.mark.parametrize("deleted", [True, False])
def test_a_branch_that_is_deleted_or_rewritten_during_its_run_is_recorded_for_the_commit_that_was_run(
    team: Shell, deleted: bool
) -> None:
    old = rejected(team, "exp/x")
    new = commit(team, "main", {**gusty(team), BASELINE: OTHER_SEED.format(seed=8)})
    push(team, "refs/heads/kept", new)
    move = "update-ref -d refs/heads/exp/x" if deleted else f"update-ref refs/heads/exp/x {new}"
    # the first landing of the run comes while its branch is still the old one: then it moves
    hook(team, "pre-receive", f"unset GIT_QUARANTINE_PATH; [ -f moved ] || {{ touch moved; git {move}; }}; exit 0")
    cd4ml(team, "reconcile", code=None)
    cd4ml(team, "reconcile")
    cd4ml(team, "plan", "--exit-code")
    found = runs(team, "branch = 'exp/x'")
    assert {run["source_commit"] for run in found} == ({old} if deleted else {old, new})
    for run in found:
        assert git(team, "rev-parse", f"{run['result_commit']}^") == run["source_commit"]
    if not deleted:
        assert experiments(team)["exp/x"]["commit"] == new


# ── variables and settings that lead elsewhere ──


def harmful(folder: Path) -> dict[str, str]:
    canary = f"touch {folder}/canary"
    return {
        "GIT_DIR": str(folder),
        "GIT_WORK_TREE": str(folder),
        "GIT_INDEX_FILE": str(folder / "index"),
        "GIT_OBJECT_DIRECTORY": str(folder / "objects"),
        "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(folder),
        "GIT_NAMESPACE": "elsewhere",
        "GIT_CEILING_DIRECTORIES": "/",
        "GIT_EXTERNAL_DIFF": canary,
        "GIT_PAGER": canary,
        "GIT_EDITOR": "false",
        "GIT_CONFIG_COUNT": "2",
        "GIT_CONFIG_KEY_0": "core.fsmonitor",
        "GIT_CONFIG_VALUE_0": canary,
        "GIT_CONFIG_KEY_1": "alias.log",
        "GIT_CONFIG_VALUE_1": f"!{canary}",
        "GIT_DEFAULT_HASH": "sha256",
        "GIT_REF_PARANOIA": "0",
    }


SETTINGS = {
    "core.hooksPath": "{folder}/hooks",
    "core.fsmonitor": "{folder}/hooks/post-checkout",
    "core.autocrlf": "true",
    "core.quotePath": "true",
    "core.attributesFile": "{folder}/attributes",
    "filter.evil.smudge": "tr a b",
    "filter.evil.clean": "tr a b",
    "diff.external": "{folder}/hooks/post-checkout",
    "commit.gpgsign": "true",
    "gpg.program": "false",
    "push.default": "nothing",
    "push.followTags": "true",
    "push.gpgSign": "true",
    "fetch.prune": "true",
    "fetch.fsckObjects": "true",
    "transfer.hideRefs": "refs/cd4ml/nothing",
    "protocol.version": "0",
    "init.defaultObjectFormat": "sha256",
    "init.templateDir": "{folder}",
    "i18n.commitEncoding": "ISO-8859-1",
    "log.showSignature": "true",
    "log.decorate": "full",
    "format.pretty": "oneline",
    "color.ui": "always",
    "column.ui": "always",
    "merge.renames": "false",
    "status.showUntrackedFiles": "all",
    "submodule.recurse": "true",
    "alias.push": "!false",
    "remote.origin.mirror": "true",
}


def test_hostile_variables_and_settings_lead_git_nowhere_else_and_start_nothing(team: Shell, tmp_path: Path) -> None:
    folder = tmp_path / "evil"
    (folder / "hooks").mkdir(parents=True)
    for name in ("post-checkout", "pre-push", "pre-commit", "reference-transaction", "post-index-change"):
        (folder / "hooks" / name).write_text(f"#!/bin/sh\ntouch {folder}/canary\n", "utf-8")
        (folder / "hooks" / name).chmod(0o755)
    (folder / "attributes").write_text("* filter=evil eol=crlf\n", "utf-8")
    rejected(team, "exp/x")
    for key, value in SETTINGS.items():
        git(team, "config", key, value.format(folder=folder))
    before, evil = sorted(folder.rglob("*")), {**team.environment, **harmful(folder)}
    cd4ml(Shell(team.folder, evil), "reconcile")
    cd4ml(Shell(team.folder, evil), "new", "y", "model.parameters.alpha=7", "--push")
    assert sorted(folder.rglob("*")) == before
    found = experiments(team)
    assert (found["exp/x"]["sync"], found["main"]["sync"]) == ("Synced", "Synced")
    there = refs(remote(team))
    assert {"refs/heads/main", "refs/heads/exp/x", "refs/heads/exp/y", "refs/heads/cd4ml/index"} <= set(there)
    assert git(remote(team), "show", "exp/y:requirements.lock") == git(remote(team), "show", "main:requirements.lock")


def test_an_address_that_is_rewritten_by_the_user_s_settings_is_followed(team: Shell) -> None:
    """``url.insteadOf`` says how to reach a remote, as ``GIT_SSH_COMMAND`` does: both are kept."""
    git(team, "remote", "set-url", "origin", "team:remote.git")
    git(team, "config", f"url.{team.folder.parent}/.insteadOf", "team:")
    cd4ml(team, "plan", "--exit-code")
    git(team, "remote", "set-url", "origin", "ssh://nowhere.invalid/x.git")
    told = team.attempt("cd4ml", "plan", GIT_SSH_COMMAND="sh -c 'echo reached the command >&2; exit 1'")
    assert told.returncode == 1
    assert "reached the command" in told.stderr or "Could not read from remote" in told.stderr


def test_a_repository_of_somebody_else_is_refused_in_git_s_words(team: Shell) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can give files away")
    subprocess.run(["chown", "-R", "12345", str(team.folder)], check=True)
    done = cd4ml(team, "status", code=2)
    assert len(done.lines) == 1
    assert "dubious ownership" in done.lines[0]


@pytest.mark.parametrize(("code", "link"), [("vendor", "vendor"), ("own", "own/deep/vendor")])
def test_a_submodule_among_the_code_is_refused_with_its_file_and_key(team: Shell, code: str, link: str) -> None:
    """A run has none of its files: that is said, and nothing is run."""
    config = git(team, "show", "main:conf/config.yaml").replace("code: []", f"code: [{code}]") + "\n"
    changed = commit(team, "main", {"conf/config.yaml": config, "own/x.py": "x\n"})
    index = {"GIT_INDEX_FILE": str(team.folder / ".git/other")}
    git(team, "read-tree", changed, environment=index)
    git(team, "update-index", "--add", "--cacheinfo", f"160000,{'a' * 40},{link}", environment=index)
    tree = git(team, "write-tree", environment=index)
    push(team, "refs/heads/exp/linked", git(team, "commit-tree", tree, "-p", changed, "-m", "linked"))
    told = f"conf/config.yaml: code: {link} is a Git submodule"
    assert told in cd4ml(team, "check", "exp/linked", code=2).err
    cd4ml(team, "reconcile", "exp/linked", code=1)
    (row,) = [run for run in runs(team) if run["branch"] == "exp/linked"]
    assert row["role"] == "refused"
    assert told in row["reason"]
