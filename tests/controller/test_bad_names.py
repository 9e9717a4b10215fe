"""Names that mean something to a shell, to Git, to SQL or to a terminal are names, or are refused in a line."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest

from cd4ml.gateways import hydra
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
)

REFUSED = (
    "a b",
    "a..b",
    "a.lock",
    "a@{1}",
    "a//b",
    "a\nb",
    "a\x1b[31m",
    "a\x7f",
    "",
    "x" * 300,
    "\udcff",
)
"""What Git does not allow, and what no record could name."""

ODD = (
    "$(touch${IFS}canary)",
    "-rf",
    "HEAD",
    "0123456789" * 4,
    "txt.exe\u202e",
    "zero\u200bwidth",
    "e\u0301",
    "x" * 200,
    "a/b/c",
    "yes",
)


def heads(shell: Shell) -> dict[str, str]:
    return {ref: made for ref, made in refs(shell).items() if ref.startswith("refs/heads/")}


def test_a_column_that_no_source_has_is_told_before_a_branch_is_made(team: Shell) -> None:
    before = refs(team), refs(remote(team))
    (line,) = cd4ml(team, "new", "typo", "features.numeric=[dep_dealy]", "--push", code=2).lines
    assert "features.numeric" in line
    assert "dep_dealy" in line
    assert "did you mean dep_delay?" in line
    assert (refs(team), refs(remote(team))) == before


def test_a_name_that_git_does_not_allow_is_refused_in_a_line_and_makes_nothing(team: Shell) -> None:
    before = heads(team)
    for name in REFUSED:
        done = cd4ml(team, "new", "--", name, "model.parameters.alpha=7", code=2)
        assert len(done.lines) == 1, (name, done.err)
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", done.err), name
    assert heads(team) == before


def compose_nothing(*_: object) -> None:
    raise AssertionError("Hydra was asked")


def test_a_name_is_refused_before_anything_is_composed(team: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cd4ml.gateways.hydra._composed", compose_nothing)
    for name in ("a b", "x.lock"):
        (line,) = cd4ml(team, "new", name, "no.such.key=7", code=2).lines
        assert "NAME" in line


def test_what_was_opened_is_not_composed_again_by_the_plan(team: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    cd4ml(team, "new", "calm", "model.parameters.alpha=7", "--push")
    monkeypatch.setattr("cd4ml.gateways.hydra._composed", compose_nothing)
    hydra._answer.cache_clear()  # as in another process
    assert experiments(team, "plan")["exp/calm"]["sync"] == "OutOfSync"


def test_every_other_name_opens_an_experiment_or_is_refused_in_a_line_and_none_is_interpreted(team: Shell) -> None:
    opened = []
    for name in ODD:
        done = cd4ml(team, "new", "--push", "--", name, "validation=gusts", "model.parameters.alpha=7", code=None)
        assert done.code in (0, 2), (name, done.err)
        assert "\u202e" not in done.out + done.err
        if done.code:
            assert len(done.lines) == 1, (name, done.err)
        else:
            opened.append(f"exp/{name}")
            assert git(team, "rev-parse", "--verify", f"refs/heads/exp/{name}")
    assert {"exp/yes", "exp/a/b/c"} <= set(opened)
    # all ask for the same: one run answers them, and every one is recorded under its own name
    cd4ml(team, "reconcile")
    found = experiments(team)
    for name in opened:
        assert found[name]["sync"] == "Synced", found[name]
    assert not list(team.folder.parent.rglob("canary"))
    cd4ml(team, "plan", "--exit-code")


def test_where_any_name_is_an_experiments_neither_main_nor_the_branch_of_the_index_is_one(team: Shell) -> None:
    made = commit(team, "main", {BASELINE: '# @package _global_\nexperiments: {branches: ["*"]}\n'})
    for name in ("main", "any/name"):
        push(team, f"refs/heads/{name}", made)
    found = experiments(team)
    assert set(found) == {"main", "any/name"}
    cd4ml(team, "status", "cd4ml/index", code=2)


def test_an_experiment_below_another_one_is_refused_and_named_by_git(team: Shell) -> None:
    cd4ml(team, "new", "a", "model.parameters.alpha=7", "--push")
    (line,) = cd4ml(team, "new", "a/b", "model.parameters.alpha=8", code=2).lines
    assert "exp/a" in line
    # one that another clone has pushed meanwhile: the push is refused, the branch stays here
    script = "git clone -q ../remote.git ../o; git -C ../o push -q origin origin/main:refs/heads/exp/c/d"
    team.run("bash", "-ec", script)
    (line,) = cd4ml(team, "new", "c", "model.parameters.alpha=8", "--push", code=1).lines
    assert "exp/c" in line


def test_a_branch_that_takes_the_place_of_a_folder_of_branches_is_seen_as_what_it_is(team: Shell) -> None:
    """``exp/a`` becomes ``exp/a/b`` on the remote, and back: neither keeps the other from being fetched."""
    first = rejected(team, "exp/a")
    cd4ml(team, "reconcile")
    git(team, "push", "-q", "origin", ":refs/heads/exp/a")
    second = branch(team, "exp/a/b", {**gusty(team), BASELINE: OTHER_SEED.format(seed=1), "x": "x"})
    cd4ml(team, "reconcile")
    found = experiments(team)
    assert found["exp/a/b"]["commit"] == second
    git(team, "push", "-q", "origin", ":refs/heads/exp/a/b")
    push(team, "refs/heads/exp/a", first)
    cd4ml(team, "reconcile")
    assert experiments(team)["exp/a"]["commit"] == first


NUMBERS = (
    "a b",
    "$(touch canary)",
    "`touch canary`",
    'q"q',
    "--",
    "{{x}}",
    "${x}",
    "; drop table runs; --",
    "a.b",
    "=1+1",
)
CATEGORY, TARGET = "\u202ee\u0301😀", "target's <b>"
VALUES = ("$(touch canary)", "`id`", "'; drop", "<script>", "\u202ex", "a b", "")


def odd_table(rows: int = 240) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*NUMBERS, CATEGORY, TARGET])
    for row in range(rows):
        numbers = [(row * (place + 3)) % (7 + place) for place in range(len(NUMBERS))]
        writer.writerow([*numbers, VALUES[row % len(VALUES)], sum(numbers) + row % 3])
    return text.getvalue()


def test_columns_categories_and_suites_with_such_names_go_through_a_whole_run(team: Shell) -> None:
    team.run("git", "switch", "--quiet", "--create", "exp/odd")
    groups = {
        "data": {
            "sources": {"odd": {"location": "odd.csv", "format": "csv"}},
            "joins": [],
            "target": TARGET,
            "time_columns": [],
            "drop_missing_target": True,
        },
        # a value with `${` is an interpolation in Hydra: that one column stays out of the features
        "features": {
            "numeric": [name for name in NUMBERS if "${" not in name],
            "categorical": [CATEGORY],
            "calendar": {},
        },
        "split": {"method": "random", "validation": 0.2, "test": 0.2},
        "validation": {
            "suite": "odd",
            "expectations": [
                {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": name}}
                for name in (NUMBERS[1], TARGET)
            ],
        },
    }
    config = (team.folder / "conf/config.yaml").read_text("utf-8")
    for group, values in groups.items():
        (team.folder / f"conf/{group}/odd.yaml").write_text(json.dumps(values, ensure_ascii=False), "utf-8")
        config = re.sub(rf"- {group}: \w+", f"- {group}: odd", config)
    (team.folder / "conf/config.yaml").write_text(config, "utf-8")
    (team.folder / "odd.csv").write_text(odd_table(), "utf-8")
    cd4ml(team, "data", "update")
    team.run("git", "add", "--all")
    team.run("git", "commit", "--quiet", "--message", "odd")
    team.run("git", "push", "--quiet", "origin", "exp/odd")
    done = cd4ml(team, "reconcile", "exp/odd", code=None)
    told = experiments(team)["exp/odd"]
    assert told["health"] == "Healthy", (told["reason"], done.err)
    for verb in ("status", "show exp/odd", "diff main exp/odd", "search", "config exp/odd"):
        shown = cd4ml(team, *verb.split()).out
        assert "\u202e" not in shown, verb
    assert cd4ml(team, "reproduce", "exp/odd", "--json").json["reproductions"][0]["equal"]
    assert not list(team.folder.parent.rglob("canary"))
