"""Every ``--json`` has the published shape, on a project in which something of every kind has happened."""

from __future__ import annotations

import ast
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from cd4ml import cli
from cd4ml.gateways.warm import SOCKET_VARIABLE
from tests.conftest import Shell
from tests.controller.controller_world import BASELINE, Done, branch, cd4ml, commit, experiment, git, rejected

VERBS = Path(cli.__file__).parent
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


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["diff", "main", "exp/rejected"], "comparisons"),
        (["config", "main"], "values"),
        (["config"], "values"),
        (["reproduce", "exp/rejected"], "reproductions"),
        (["import", "dvc-exp", "--dry-run"], "imports"),
        (["render", "--check"], "problems"),
        (["check", "main"], "problems"),
        (["render"], "files"),
        (["leaderboard"], "leaderboards"),
        (["lineage", "main"], "lineages"),
        (["doctor"], "findings"),
        (["restore", "--dry-run"], "restorations"),
        (["gc"], "objects"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_other_lists_have_the_published_shape(lived_in: Shell, command: list[str], name: str) -> None:
    listed(cd4ml(lived_in, *command, "--json"), name)


def test_what_is_not_as_rendered_and_what_is_written_then_have_the_published_shape(lived_in: Shell) -> None:
    rendered = lived_in.folder / "dvc.yaml"
    rendered.write_text(rendered.read_text("utf-8") + "# mine\n", "utf-8")
    (problem,) = listed(cd4ml(lived_in, "render", "--check", "--json", code=1), "problems")
    assert problem["file"] == "dvc.yaml"
    assert listed(cd4ml(lived_in, "render", "--json"), "files") == [{"path": "dvc.yaml"}]


def test_what_was_pinned_and_what_moved_then_have_the_published_shape(lived_in: Shell, tmp_path: Path) -> None:
    shutil.copytree(lived_in.folder.parent, tmp_path / "team", symlinks=True)
    shell = lived_in.at(tmp_path / "team" / "project")
    told = cd4ml(shell, "data", "update", "--json")
    assert {item["moved"] for item in listed(told, "pins")} == {False}
    assert told.json["commit"] is None
    pin = shell.folder / told.json["pins"][0]["path"]
    before = pin.read_text("utf-8")
    shell.run("git", "rm", "--quiet", str(pin))
    shell.run("git", "commit", "--quiet", "--message", "No pin")
    told = cd4ml(shell, "data", "update", "--json")
    first = listed(told, "pins")[0]
    assert (first["moved"], first["before"], first["after"]["digest"] in before) == (True, None, True)
    assert told.json["commit"] == git(shell, "rev-parse", "HEAD")


def printed_lists() -> set[str]:
    """The names of the lists that some verb prints, as its code calls them."""
    calls = [
        (path.name, node.args[0])
        for path in sorted(VERBS.glob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("print_json", "json_text")
    ]
    named = {argument.value for _, argument in calls if isinstance(argument, ast.Constant)}
    unnamed = [name for name, argument in calls if not isinstance(argument, ast.Constant)]
    assert unnamed == ["context.py"], "where print_json itself hands its name on"
    return {str(name) for name in named}


def test_every_list_that_is_printed_has_a_published_schema() -> None:
    assert printed_lists() == {path.name.removesuffix(".schema.json") for path in SCHEMAS.glob("*.schema.json")}


@pytest.mark.parametrize("name", sorted(printed_lists()))
def test_the_page_on_shapes_names_every_list_with_its_schema(name: str) -> None:
    page = (SCHEMAS.parent / "json.md").read_text("utf-8")
    assert f"| `{name}` | [`schemas/{name}.schema.json`](schemas/{name}.schema.json) |" in page


@pytest.mark.parametrize("name", sorted(printed_lists()))
def test_a_published_schema_demands_its_list_and_describes_its_items(name: str) -> None:
    schema = json.loads((SCHEMAS / f"{name}.schema.json").read_text("utf-8"))
    Draft202012Validator.check_schema(schema)
    assert {"version", name} <= set(schema["required"])
    assert schema["properties"][name]["type"] == "array"
    assert schema["properties"][name]["items"]


def test_a_run_goes_by_its_branch_its_id_and_any_unique_prefix_of_its_fingerprint(lived_in: Shell) -> None:
    (run,) = cd4ml(lived_in, "search", "branch = 'main'", "--json").json["runs"]
    for name in ("main", run["id"], run["fingerprint"], run["fingerprint"][:6]):
        assert cd4ml(lived_in, "show", name, "--json").json["runs"][0]["id"] == run["id"], name
