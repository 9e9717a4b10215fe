"""What a command that only reads need not bring in, and arguments that are taken without a library to check them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from cd4ml.cli import app
from cd4ml.cli.plain import taking_plainly
from tests.conftest import Shell

HEAVY = {
    *("pydantic", "lark", "rich", "git", "gitdb", "hydra", "omegaconf", "dvc", "pandas", "numpy", "pyarrow", "sklearn"),
    *("great_expectations", "matplotlib", "jinja2", "yaml", "jsonschema", "requests", "multiprocessing", "asyncio"),
}


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A repository with one commit, which is its own remote and has no index."""
    folder = tmp_path_factory.mktemp("light")
    subprocess.run(["git", "init", "--quiet", "--initial-branch=main", str(folder)], check=True)
    shell = Shell(folder, {"PYTHONPATH": str(Path(__file__).parents[2])})
    shell.run("git", "commit", "--quiet", "--allow-empty", "--message", "A project")
    return shell


@pytest.mark.parametrize(
    "words",
    [
        ["--version"],
        [
            "search",
            "metrics.rmse < 12 and params.model.name in ('a')",
            "--order-by",
            "metrics.rmse",
            "-n",
            "5",
            "--json",
        ],
        ["search", "--fields", "--json"],
        ["search", "--count"],
        ["show", "r12345", "--json"],
    ],
    ids=" ".join,
)
def test_a_command_that_reads_brings_in_nothing_heavy(empty: Shell, words: list[str]) -> None:
    code = (
        "import sys; from cd4ml.cli.app import run; run(sys.argv[1:])\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)\n"
    )
    done = empty.attempt(sys.executable, "-c", code, *words)
    assert done.stderr.splitlines()[-1] == "[]"


def test_the_way_to_a_warm_process_brings_in_next_to_nothing() -> None:
    """DVC goes it for each stage of each run, and what is named here takes as long as to start Python."""
    code = (
        "import sys; from cd4ml.cli.entry import main; from cd4ml.gateways.warm import run_stage_warm\n"
        "assert run_stage_warm('ingest') is None\n"
        "print(sorted({'typing', 'pathlib', 'tempfile', 'subprocess', 'dataclasses', 'inspect'} & set(sys.modules)))\n"
    )
    command = [sys.executable, "-S", "-c", code]  # what the environment brings in at each start counts for nothing
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def taken(words: list[str], *, plainly: bool) -> tuple[dict[str, Any], dict[str, Any]] | str:
    """What the group and its verb are given for these words; or what is said of them."""
    command: Any = typer.main.get_command(app.app)
    if plainly:
        taking_plainly(command)
    try:
        group = command.make_context("cd4ml", list(words))
        name, verb, rest = command.resolve_command(group, [*group._protected_args, *group.args])
        with verb.make_context(name, rest, parent=group) as inner:
            return group.params, inner.params
    except Exception as error:  # noqa: BLE001  # of whichever parser typer brings along
        return f"{type(error).__name__}: {error.format_message() if hasattr(error, 'format_message') else error}"


@pytest.mark.parametrize(
    "words",
    [
        "search",
        "search x -n 5 --order-by a --format csv -o out.csv --json",
        "search -n 0",
        "search -n +7",
        "search -n 007",
        "search -n x",
        "search -n 1_000",
        "search --format odd",
        "-C . --remote there search",
        "-C missing search",
        "leaderboard",
        "leaderboard -n 3",
        "diff a b c",
        "diff",
        "show",
        "show a",
        "config a=1 b=2",
        "config",
        "lineage --row a=1 --row b=2",
        "init",
        "init here --storage there",
        "plan",
        "plan a b --exit-code",
    ],
)
def test_what_is_taken_plainly_is_what_typer_makes_of_it(words: str) -> None:
    plain = taken(words.split(), plainly=True)
    assert plain == taken(words.split(), plainly=False)
    assert repr(plain) == repr(taken(words.split(), plainly=False))
