"""A newcomer types what the README says, in its order, and it works."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Shell
from tests.docs.pages import ROOT, blocks, code, commands, expected_exit, pages, table

README = ROOT / "README.md"
SESSIONS = (*sorted((ROOT / "docs/tours").glob("*.md")), *sorted((ROOT / "docs/howto").glob("own-[mst]*.md")))
_LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")
_MARK = "exit code of line"


def in_the_checkout(command: str) -> bool:
    """Is this typed in the clone of cd4ml itself, before there is a project?"""
    return command.startswith(("make ", "export PATH="))


def script(folder: Path, page: Path = README) -> tuple[str, list[str]]:
    """A shell script of all commands outside the checkout, each followed by its exit code; and the commands.

    A block that is named after a file stands for the file: it is written where the session is by then.
    """
    lines: list[str] = []
    typed: list[str] = []
    for number, block in enumerate(blocks(page)):
        if block.title:
            kept = folder / f"block-{number}"
            kept.write_text(block.text, "utf-8")
            lines.append(f"mkdir -p $(dirname {block.title}) && cp {kept} {block.title} || exit 99")
        for command in commands(block) if block.language == "console" else ():
            if not in_the_checkout(command):
                lines += [command, f'code=$?; echo "{_MARK} {len(typed)}: $code"']
                lines.append(f"[ $code -eq {expected_exit(command)} ] || exit 99")
                typed.append(command)
    return "\n".join(lines) + "\n", typed


def type_all(shell: Shell, page: Path, folder: Path) -> str:
    """Type every command of a page in one shell in ``shell.folder``, and give all that was printed."""
    text, typed = script(folder, page)
    done = shell.attempt("bash", "-c", text)
    reached = [int(number) for number in re.findall(rf"^{_MARK} (\d+): \d+$", done.stdout, re.MULTILINE)]
    last = typed[reached[-1]] if reached else "nothing"
    told = f"stopped at `{last}`\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    assert done.returncode == 0, told
    assert reached == list(range(len(typed))), told
    return done.stdout


def test_every_command_of_the_readme_works_as_it_says(shell: Shell) -> None:
    place = shell.folder / "work"
    place.mkdir()
    printed = type_all(shell.at(place), README, shell.folder)
    assert "is reproduced" in printed
    flights, temperature = shell.at(shell.folder / "work/flights"), shell.at(shell.folder / "work/temperature")
    standing = {item["branch"]: item for item in json.loads(flights.run("cd4ml", "status", "--json"))["experiments"]}
    assert {branch: (item["health"], item["lifecycle"]) for branch, item in standing.items()} == {
        "main": ("Healthy", "open"),
        "exp/boosting": ("Healthy", "discarded"),
        "exp/gusts": ("Degraded", "open"),
    }
    (found,) = json.loads(flights.run("cd4ml", "search", "conclusion like '%deeper%'", "--json"))["runs"]
    assert found["branch"] == "exp/boosting"
    assert flights.run("git", "branch", "--list", "--remotes", "origin/exp/boosting") == ""
    (own,) = json.loads(temperature.run("cd4ml", "search", "--json"))["runs"]
    assert own["params"]["data"]["target"] == "temp"


@pytest.mark.parametrize("page", SESSIONS, ids=lambda page: str(page.stem))
def test_every_command_of_a_tour_or_a_how_to_works_as_it_says(team: Shell, tmp_path: Path, page: Path) -> None:
    """Each is typed in a clone of a project whose ``main`` has a result."""
    type_all(team, page, tmp_path)
    team.run("cd4ml", "plan", "--exit-code")


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_inside_the_repository_leads_somewhere(page: Path) -> None:
    for target in _LINK.findall(page.read_text("utf-8")):
        if "://" not in target and not target.startswith("#"):
            assert (page.parent / target.partition("#")[0]).exists(), target


def test_every_make_target_that_the_pages_name_exists() -> None:
    named = {
        target for page in pages() for target in re.findall(r"\bmake ([a-z]+)\b(?=`|$| DEMO)", page.read_text("utf-8"))
    }
    assert {"demo", "test", "install"} <= named
    for target in sorted(named):
        subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)


def test_the_table_of_verbs_lists_the_verbs_that_there_are() -> None:
    from typer.main import get_command

    from cd4ml.cli.app import app

    command = get_command(app)
    assert hasattr(command, "commands")
    there = {
        f"{name} {inner}" if hasattr(verb, "commands") else name
        for name, verb in command.commands.items()
        for inner in getattr(verb, "commands", ("",))
    }
    words = [code(row[0]).split() for row in table(README, "## The verbs")]
    assert [word[0] for word in words] == ["cd4ml"] * len(words)
    assert {" ".join(word for word in line[1:] if word.islower()) for line in words} == there


def test_the_pages_claim_the_python_that_the_package_asks_for() -> None:
    asked = re.search(r'requires-python = ">=([\d.]+)"', (ROOT / "pyproject.toml").read_text("utf-8"))
    assert asked is not None
    assert f"Python {asked[1]} or newer" in README.read_text("utf-8")
    assert sys.version_info >= tuple(int(part) for part in asked[1].split("."))
