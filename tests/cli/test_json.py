"""Every ``--json`` has the published shape, on a project in which something of every kind has happened."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from cd4ml.gateways.warm import SOCKET_VARIABLE
from tests.conftest import Shell
from tests.controller.controller_world import BASELINE, Done, branch, cd4ml, commit, experiment, git, rejected

SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"
REFUSED = {BASELINE: "# @package _global_\nvalidation: {expectations: []}\n"}
RUN_FIELDS = {
    *("id", "fingerprint", "branch", "commit", "result_commit", "health", "lifecycle", "params", "metrics", "reason"),
}
EXPERIMENT_FIELDS = {
    *("branch", "commit", "sync", "health", "lifecycle", "fingerprint", "merge_fingerprint", "reason"),
}


@pytest.fixture(scope="module")
def lived_in(template_project: Path, tmp_path_factory: pytest.TempPathFactory, few_flights: Path, warm: str) -> Shell:
    """A project with a result, a rejected table, a refused and a deleted branch, one to run, and one not pushed."""
    folder = tmp_path_factory.mktemp("lived-in") / "team"
    shutil.copytree(template_project, folder, symlinks=True)
    shell = Shell(folder / "project", {"PYTHONPATH": str(few_flights), SOCKET_VARIABLE: warm})
    rejected(shell, "exp/rejected", seed=1)
    branch(shell, "exp/refused", REFUSED)
    branch(shell, "exp/deleted", REFUSED)
    cd4ml(shell, "reconcile")
    shell.run("git", "push", "--quiet", "origin", "--delete", "exp/deleted")
    experiment(shell, "exp/to-run", seed=2)
    git(shell, "update-ref", "refs/heads/exp/mine", commit(shell, "main", {BASELINE: "# @package _global_\nseed: 3\n"}))
    return shell


def listed(done: Done, name: str) -> list[dict[str, Any]]:
    """The items, after the object was held against its schema; nothing but it is on stdout."""
    told = done.json
    schema = json.loads((SCHEMAS / f"{name}.schema.json").read_text("utf-8"))
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(told)
    assert told["version"] == 1
    items: list[dict[str, Any]] = told[name]
    return items


@pytest.mark.parametrize(
    "command", [["search"], ["search", "health != 'Healthy'"], ["show", "main"], ["show", "refused"]]
)
def test_runs_have_the_published_shape(lived_in: Shell, command: list[str]) -> None:
    items = listed(cd4ml(lived_in, *command, "--json"), "runs")
    assert items
    for item in items:
        assert item.keys() >= RUN_FIELDS


@pytest.mark.parametrize("command", ["status", "plan"])
def test_experiments_have_the_published_shape(lived_in: Shell, command: str) -> None:
    items = listed(cd4ml(lived_in, command, "--json"), "experiments")
    found = {item["branch"]: (item["sync"], item["health"], item["lifecycle"]) for item in items}
    assert found == {
        "main": ("Synced", "Healthy", "open"),
        "exp/deleted": ("Synced", "Degraded", "discarded"),
        "exp/mine": ("Unknown", "Missing", "open"),
        "exp/refused": ("Synced", "Degraded", "open"),
        "exp/rejected": ("Synced", "Degraded", "open"),
        "exp/to-run": ("OutOfSync", "Missing", "open"),
    }
    assert items[0]["branch"] == "main"
    for item in items:
        assert item.keys() >= EXPERIMENT_FIELDS


def test_what_reconcile_prints_has_the_shape_of_status_and_its_progress_is_on_stderr(lived_in: Shell) -> None:
    done = cd4ml(lived_in, "reconcile", "exp/refused", "--json", code=1)
    (item,) = listed(done, "experiments")
    assert item["branch"] == "exp/refused"
    assert (done.json["ran"], done.json["not_applied"]) == ([], [])


def test_the_other_lists_are_one_object_with_a_version(lived_in: Shell) -> None:
    name = cd4ml(lived_in, "show", "main", "--json").json["runs"][0]["fingerprint"]
    for command, name_of_list in (
        (["diff", "main", name[:8]], "comparisons"),
        (["config", "main"], "values"),
        (["reproduce", "exp/rejected"], "reproductions"),
        (["render", "--check"], "problems"),
    ):
        told = cd4ml(lived_in, *command, "--json").json
        assert told["version"] == 1
        assert isinstance(told[name_of_list], list)


def test_a_run_goes_by_its_branch_its_id_and_any_unique_prefix_of_its_fingerprint(lived_in: Shell) -> None:
    (run,) = cd4ml(lived_in, "search", "branch = 'main'", "--json").json["runs"]
    for name in ("main", run["id"], run["fingerprint"], run["fingerprint"][:6]):
        assert cd4ml(lived_in, "show", name, "--json").json["runs"][0]["id"] == run["id"], name
