"""How the command line behaves on a terminal, in a pipe and in ``--help``: for every verb alike."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator

import pytest
import typer

from cd4ml.cli.app import app
from tests.conftest import Shell
from tests.controller.controller_world import cd4ml, experiment, rejected, runs


def verbs(command: typer.core.TyperCommand | object, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every verb and group of verbs by its words, the program itself included."""
    yield words
    for name, child in getattr(command, "commands", {}).items():
        yield from verbs(child, (*words, name))


VERBS = tuple(verbs(typer.main.get_command(app)))


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
def test_every_help_has_an_example_that_starts_with_the_verb(words: tuple[str, ...], shell: Shell) -> None:
    told = " ".join(cd4ml(shell, *words, "--help").out.split())
    assert re.search("Examples?: .*" + re.escape(" ".join(("cd4ml", *words))), told), told


READING = ("status", "plan", "search", "show main", "diff main main", "config", "render --check", "--help")


@pytest.mark.parametrize("environment", [{}, {"TERM": "dumb"}, {"CLICOLOR": "0"}, {"NO_COLOR": "1", "TERM": "xterm"}])
def test_a_pipe_gets_no_escape_sequences(team: Shell, environment: dict[str, str]) -> None:
    for verb in READING:
        done = cd4ml(Shell(team.folder, {**team.environment, **environment}), *verb.split())
        assert "\x1b" not in done.out + done.err, verb


def on_terminal(shell: Shell, *command: str, **environment: str) -> tuple[int, str]:
    """Exit code and whole output of a command whose three descriptors are a terminal of 100 columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    env = {**os.environ, **shell.environment, "TERM": "xterm", **environment}
    running = subprocess.Popen(
        command, cwd=shell.folder, env=env, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    shown, deadline = b"", time.monotonic() + 60
    while time.monotonic() < deadline:
        if select.select([ours], [], [], 0.2)[0]:
            try:
                data = os.read(ours, 1 << 16)
            except OSError:  # the last descriptor of the other end was closed
                break
            if not data:
                break
            shown += data
    os.close(ours)
    return running.wait(10), shown.decode("utf-8", "replace")


def test_on_a_terminal_a_live_table_shows_branch_stage_and_seconds_and_then_gives_it_back(team: Shell) -> None:
    experiment(team, "exp/x", seed=3)
    code, shown = on_terminal(team, "cd4ml", "reconcile")
    assert code == 0, shown
    assert re.search(r"exp/x\S*\s+train\s+started\s+\d+\.\d s", re.sub(r"\x1b\[[0-9;]*m", "", shown)), shown
    assert shown.count("\x1b[?25h") >= 1  # the cursor is shown again
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
    last = shown[shown.rindex("\x1b[?25h") :]
    assert "Healthy" in last  # what stays is the status table


def test_a_dumb_terminal_gets_plain_lines(team: Shell) -> None:
    rejected(team, "exp/x")
    code, shown = on_terminal(team, "cd4ml", "reconcile", TERM="dumb", NO_COLOR="1")
    assert code == 0, shown
    assert "exp/x: validate started" in shown
    assert "\x1b" not in shown


def test_the_log_of_a_run_is_found_by_its_id_its_fingerprint_and_its_branch(degraded: Shell) -> None:
    (run,) = runs(degraded, "branch = 'exp/x'")
    told = [cd4ml(degraded, "show", name, "--log").out for name in (run["id"], run["fingerprint"][:12], "exp/x")]
    assert told[0] == told[1] == told[2]
    assert "cd4ml: validate: " in told[0]
    (line,) = cd4ml(degraded, "show", "exp/none", "--log", code=2).lines
    assert "exp/none" in line
