"""Branches and refs by people who mean harm, or know no better: nothing runs, nobody else is held up."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cd4ml.index.record import RECORD_PATH, encode, seal
from tests.conftest import Shell
from tests.controller.controller_world import (
    BASELINE,
    RECORDS,
    Content,
    Link,
    branch,
    cd4ml,
    commit,
    experiment,
    experiments,
    git,
    gusty,
    push,
    refs,
    rejected,
    remote,
    runs,
)

SEED = "# @package _global_\nseed: {}\n"
CONF_FILES = ("conf/config.yaml", "conf/data", "conf/experiment")
LINK = "a symbolic link is not allowed here"

NAMES = (
    "exp/$(touch${IFS}canary)",
    "exp/`touch${IFS}canary`",
    "exp/;touch${IFS}canary",
    "exp/&&touch${IFS}canary",
    "exp/|touch",
    'exp/"quoted',
    "exp/'quoted",
    "exp/${{github.token}}",
    "exp/<{name}>",
    "exp/{{name}}",
    "exp/<script>alert(1)</script>",
    "exp/%s%d%n",
    "exp/\u202etxt.exe",
    "exp/zero\u200bwidth",
    "exp/é漢😀",
    "exp/--upload-pack=touch",
    "exp/-rf",
    "exp/refs/heads/x",
    "exp/" + "0123456789" * 4,
    "exp/" + "a" * 200,
)


def without_conf(shell: Shell) -> dict[str, Content]:
    return dict.fromkeys(git(shell, "ls-tree", "-r", "--name-only", "main", "conf").split())


BAD: dict[str, tuple[Callable[[Shell, str], dict[str, Content]], str]] = {
    "exp/no-conf": (lambda shell, _: without_conf(shell), "conf/: is missing"),
    "exp/conf-is-a-link": (lambda shell, _: {**without_conf(shell), "conf": Link("/etc")}, LINK),
    "exp/conf-is-a-file": (lambda shell, _: {**without_conf(shell), "conf": "?"}, "a file is not allowed here"),
    "exp/link-in-conf": (lambda *_: {"conf/model/ridge.yaml": Link("/etc/passwd")}, LINK),
    "exp/bomb": (
        lambda *_: {BASELINE: "a: &a [1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a]\nc: [*b,*b,*b,*b,*b]\n"},
        "anchors and aliases are not allowed",
    ),
    "exp/deep": (lambda *_: {BASELINE: "a: " + "[" * 5000}, "nested deeper than"),
    "exp/large": (lambda *_: {BASELINE: f'hypothesis: "{"x" * 2_000_000}"\n'}, "the limit is"),
    "exp/not-yaml": (lambda *_: {BASELINE: "a: b: c\n"}, BASELINE),
    "exp/not-text": (lambda *_: {BASELINE: b"\xff\xfe\x00"}, BASELINE),
    "exp/python-tag": (lambda *_: {BASELINE: "a: !!python/object/apply:os.system ['true']\n"}, BASELINE),
    "exp/environment": (lambda *_: {BASELINE: SEED.format("${oc.env:HOME}")}, "'oc.env' is not allowed"),
    "exp/misspelt": (lambda *_: {BASELINE: SEED.format("1\nsed: 2")}, "sed"),
    "exp/pin-gone": (lambda *_: {"data/flights.lock.json": None}, "no pin"),
    "exp/pin-link": (lambda *_: {"data/flights.lock.json": Link("weather.lock.json")}, "no pin"),
    "exp/pin-garbage": (lambda *_: {"data/flights.lock.json": b"\xff\x00"}, "data/flights.lock.json"),
    "exp/pin-deep": (lambda *_: {"data/flights.lock.json": "[" * 100_000}, "data/flights.lock.json"),
    "exp/code-outside": (lambda *_: {BASELINE: SEED.format('1\ncode: ["../../etc"]')}, "inside the repository"),
    "exp/code-dot": (lambda *_: {BASELINE: SEED.format('1\ncode: ["."]')}, "must be a plain path"),
    "exp/lock-outside": (lambda *_: {BASELINE: SEED.format("1\nenvironment: {lock: /etc/passwd}")}, "inside"),
    "exp/outputs-link": (lambda *_: {BASELINE: SEED.format(1), "artifacts": Link("/tmp")}, "is in the way"),  # noqa: S108  # is never followed
    "exp/params-folder": (lambda *_: {BASELINE: SEED.format(1), "params.yaml/x": "x"}, "is in the way"),
    "exp/record-file": (lambda *_: {".cd4ml": "a file", BASELINE: "a: b: c\n"}, BASELINE),
    "exp/os-system": (
        lambda _, canary: {
            BASELINE: SEED.format("1\nallowed_packages: [os, posix]")
            + f"model: {{estimator: {{_target_: os.system, command: touch {canary}}}}}\n"
        },
        "'os.system' is not in an allowed package",
    ),
}


def test_bad_branches_and_names_are_told_in_a_line_and_hold_nobody_up(team: Shell, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    for name, (files, _) in BAD.items():
        branch(team, name, files(team, str(canary)))
    refused = rejected(team, NAMES[0])
    team.run("git", "push", "--quiet", "origin", *(f"{refused}:refs/heads/{name}" for name in NAMES[1:]))
    good = experiment(team, "exp/good", seed=7)
    done = cd4ml(team, "reconcile", "--jobs", "2")
    assert done.lines == []
    found = experiments(team)
    assert found["exp/good"]["health"] == "Healthy"
    assert found["exp/good"]["commit"] == good
    for name, (_, told) in BAD.items():
        item = found[name]
        assert (item["sync"], item["health"]) == ("Synced", "Degraded"), item
        assert told in item["reason"], item
        assert "\n" not in item["reason"]
    for name in NAMES:
        assert (found[name]["sync"], found[name]["health"]) == ("Synced", "Degraded"), name
    cd4ml(team, "plan", "--exit-code")
    assert not canary.exists()
    assert not list(team.folder.parent.rglob("canary"))
    assert "\u202e" not in cd4ml(team, "status").out
    found_runs = runs(team, "branch = 'exp/$(touch${IFS}canary)'")
    assert len(found_runs) == 1


def test_files_that_a_branch_brings_for_dvc_git_and_jinja_are_not_used(team: Shell, tmp_path: Path) -> None:
    canary, evil = tmp_path / "canary", tmp_path / "evil"
    touch = f"stages:\n  train:\n    cmd: touch {canary}\n"
    made = branch(
        team,
        "exp/tricks",
        {
            BASELINE: SEED.format(11),
            "dvc.yaml": touch,
            "nested/dvc.yaml": touch,
            "nested/data.dvc": "outs:\n- path: data\n",
            "dvc.lock": "schema: '2.0'\nstages: {}\n",
            "artifacts/predict/predictions.parquet": "forged",
            "artifacts/evaluate/metrics.json": '{"test": {"rmse": 0.0}, "validation": {"rmse": 0.0}}',
            ".dvc/config": f"[core]\n    remote = evil\n['remote \"evil\"']\n    url = {evil}\n",
            ".dvc/config.local": f"[cache]\n    dir = {evil}\n",
            ".dvcignore": "*\n",
            ".gitattributes": "* filter=evil diff=evil\n",
            ".gitmodules": f'[submodule "x"]\n\tpath = x\n\turl = ext::sh -c "touch {canary}"\n',
            "templates/dvc.yaml.j2": touch,
            "templates/workflow.yml.j2": touch,
            "cd4ml/__init__.py": f"open({str(canary)!r}, 'w')\n",
            "sitecustomize.py": f"open({str(canary)!r}, 'w')\n",
            "json.py": f"open({str(canary)!r}, 'w')\n",
        },
    )
    cd4ml(team, "reconcile", "exp/tricks")
    (ran,) = runs(team, "branch = 'exp/tricks'")
    assert (ran["health"], ran["commit"]) == ("Healthy", made)
    assert 1 < ran["metrics"]["test"]["rmse"] < 100
    assert not canary.exists()
    assert not evil.exists()
    rendered = git(team, "show", f"{ran['result_commit']}:dvc.yaml")
    assert rendered == git(team, "show", "main:dvc.yaml")


def test_the_policy_that_counts_is_the_base_branchs(team: Shell) -> None:
    keys = 'experiments: {branches: ["*"], rerun_on: [spec], retries: 99}\nexecutor: {threads: 7, timeout_minutes: 1}\n'
    branch(team, "exp/policy", {**gusty(team), BASELINE: "# @package _global_\n" + keys})
    cd4ml(team, "reconcile")
    (ran,) = runs(team, "branch = 'exp/policy'")
    body = json.loads(git(team, "show", f"{ran['result_commit']}:{RECORD_PATH}"))
    assert body["threads"] == 1
    branch(team, "other/x", {BASELINE: SEED.format(13)})
    assert "other/x" not in experiments(team)


def test_names_and_messages_of_commits_reach_a_terminal_as_text_only(team: Shell) -> None:
    evil = "\x1b[31mEve\x07\x1b]0;owned"
    environment = {"GIT_AUTHOR_NAME": evil, "GIT_COMMITTER_NAME": evil, "GIT_AUTHOR_EMAIL": "$(id)@`id`"}
    text = '# @package _global_\nhypothesis: "\\e[2J[red]wiped\\u202e"\n'
    branch(team, "exp/ansi", {**gusty(team), BASELINE: text}, f"{evil}\n", **environment)
    cd4ml(team, "reconcile")
    for verb in (["status"], ["show", "exp/ansi"], ["search"], ["plan"], ["show", "exp/ansi", "--json"]):
        done = cd4ml(team, *verb)
        shown = done.out + done.err
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f]", shown), verb
        assert "--json" in verb or "\u202e" not in shown, verb
    (line,) = cd4ml(team, "note", "exp/ansi", "learnt \x1b[31mnothing", code=2).lines
    assert "control characters" in line


# ── records that were not written by a run ──


def true_record(shell: Shell) -> dict[str, Any]:
    (run,) = runs(shell)
    body: dict[str, Any] = json.loads(git(shell, "show", f"{run['result_commit']}:{RECORD_PATH}"))
    return body


def nested(depth: int) -> list[Any]:
    """So many lists, each inside the other."""
    found: list[Any] = []
    for _ in range(depth - 1):
        found = [found]
    return found


def land(shell: Shell, name: str, parent: str, data: bytes, **more: Content) -> None:
    push(shell, RECORDS + name, commit(shell, parent, {RECORD_PATH: data, **more}))


def test_forged_records_are_refused_and_named_while_true_ones_are_folded(team: Shell) -> None:
    body = true_record(team)
    source = body["commit"]
    other = commit(team, "main", {"other": "x"})

    def sealed(**changes: object) -> dict[str, Any]:
        return seal({**body, **changes})

    swapped = sealed(name="swapped")
    land(team, swapped["id"], other, encode(swapped))
    widened = sealed(name="widened")
    land(team, widened["id"], source, encode(widened), **{"conf/config.yaml": "x"})
    renamed = sealed(name="renamed")
    land(team, "r" + "0" * 20, source, encode(renamed))
    edited = {**body, "metrics": {"validation": {"rmse": 0.0}, "test": {"rmse": 0.0}}}
    land(team, "r" + "1" * 20, source, encode(edited))
    land(team, "r" + "2" * 20, source, b"\x00garbage")
    land(team, "r" + "3" * 20, source, b'{"a": "' + b"x" * (2 << 20) + b'"}')
    land(team, "r" + "4" * 20, source, b"[" * 50_000)
    land(team, "r" + "5" * 20, source, encode({"schema": 99, "kind": "run", "id": "r" + "5" * 20}))
    strange = sealed(components={**body["components"], "data": "0" * 64})
    land(team, strange["id"], source, encode(strange))
    push(team, RECORDS + "r" + "6" * 20, git(team, "hash-object", "-w", "--stdin", stdin=b"no commit"))
    push(team, RECORDS + "r" + "7" * 20, git(team, "commit-tree", "main^{tree}", stdin=b"no parent"))
    named = [swapped["id"], widened["id"], strange["id"], *("r" + digit * 20 for digit in "0123457")]
    before = runs(team)
    assert len(before) == 1
    good = sealed(name="good", side="merge")
    land(team, good["id"], source, encode(good))
    done = cd4ml(team, "reconcile")
    *told, rest = done.lines  # three by name, so that no flood of refs is one of lines; `restore` names them all
    assert [line.split(": ")[1] for line in told] == [RECORDS + name for name in sorted(named)[:3]], done.err
    assert f" {len(named) - 3} more landing refs" in rest
    kept = {ref for ref in refs(remote(team)) if ref.startswith(RECORDS)}
    assert kept >= {RECORDS + name for name in named}
    assert RECORDS + good["id"] not in kept
    index = git(team, "ls-tree", "-r", "--name-only", refs(remote(team))["refs/heads/cd4ml/index"])
    assert good["id"] in index
    assert not any(name in index for name in named)


def test_records_as_deep_as_may_be_and_deeper_leave_the_index_readable(team: Shell) -> None:
    body = true_record(team)
    before = {one["id"] for one in runs(team)}
    deep = [seal({**body, "params": {**body["params"], "deep": nested(depth)}}) for depth in range(60, 67)]
    for one in deep:
        land(team, one["id"], body["commit"], encode(one))
    refused = [line.split(": ")[1] for line in cd4ml(team, "reconcile").lines if "nested more than 64 deep" in line]
    taken = {one["id"] for one in runs(team)} - before
    assert {RECORDS + one["id"] for one in deep} == {*refused, *(RECORDS + name for name in taken)}
    assert (len(taken), len(refused)) == (4, 3)
    assert cd4ml(team, "search").lines == []


@pytest.mark.parametrize("change", [(b'"rmse": 1', b'"rmse": 2'), (b"{", b"["), None])
def test_an_index_entry_that_was_altered_is_noticed_and_named(team: Shell, change: tuple[bytes, bytes] | None) -> None:
    tip = refs(remote(team))["refs/heads/cd4ml/index"]
    git(team, "fetch", "--quiet", "origin", "cd4ml/index")
    (path,) = git(team, "ls-tree", "-r", "--name-only", tip, "runs").split()
    data = git(team, "show", f"{tip}:{path}").encode()
    moved = path.replace("runs/", "runs/00")
    files: dict[str, Content] = {path: data.replace(*change, 1)} if change else {path: None, moved: data}
    push(team, "refs/heads/cd4ml/index", commit(team, tip, files))
    for verb, code in (("search", 0), ("reconcile", 1), ("status", 0)):
        (line,) = cd4ml(team, verb, code=code).lines
        assert "the index cd4ml/index was forged" in line, verb
        assert path in line or moved in line
