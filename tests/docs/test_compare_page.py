"""The page on comparing shows what the commands print."""

from __future__ import annotations

import re
import shlex

from cd4ml.controller.history.compare import MOST_FILES, MOST_LINES
from tests.conftest import Shell
from tests.controller.compare_world import land, other, result_of_main
from tests.controller.controller_world import cd4ml
from tests.docs.pages import ROOT, blocks

PAGE = ROOT / "docs/compare.md"


def told(text: str) -> list[str]:
    """What the lines of a text say, whatever their digests, numbers, moments and widths.

    Sorted, since runs that land together are taken in by their ids, which are of this very run of the test.
    """
    text = re.sub(r"\b[re]?[0-9a-f]{8,}\b", "DIGEST", text)
    text = re.sub(r"\d[\d,.:TZ-]*", "0", text)
    return sorted(" ".join(line.split()) for line in text.splitlines() if line.strip())


BETTER = {
    "validation": {"mae": 9.5, "r2": 0.9125, "rmse": 12.5},
    "test": {"mae": 10.25, "r2": 0.8875, "rmse": 13.25},
}
WORSE = {
    "validation": {"mae": 13.5, "r2": 0.8125, "rmse": 17.5},
    "test": {"mae": 14.25, "r2": 0.7625, "rmse": 18.25},
}


def land_two(shell: Shell) -> None:
    """Two runs beside the result of ``main``, with code of their own: one clearly better, one clearly worse."""
    body = result_of_main(shell)
    for name, slope, metrics in (("exp/steep", 3, BETTER), ("exp/flat", 1, WORSE)):
        land(
            shell,
            body,
            {"flights/__init__.py": "", "flights/ramp.py": f"SLOPE = {slope}\n"},
            branch=name,
            params={**body["params"], "code": ["flights"], "seed": slope},
            components=other(body, "code", slope),
            metrics=metrics,
        )


def test_every_command_of_the_page_prints_what_the_page_shows(team: Shell) -> None:
    land_two(team)
    typed = 0
    for block in blocks(PAGE):
        if block.language != "console":
            continue
        command, _, shown = block.text.partition("\n")
        done = cd4ml(team, *shlex.split(command.removeprefix("$ cd4ml ")))
        assert told(done.out) == told(shown), command
        typed += 1
    assert typed == 6


def test_the_limits_that_the_page_names_are_those_of_the_code() -> None:
    text = " ".join(PAGE.read_text("utf-8").split())
    assert f"more than {MOST_FILES} files or {MOST_LINES:,} lines is cut" in text
