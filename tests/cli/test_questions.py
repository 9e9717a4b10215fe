"""Questions on a terminal: whatever is no yes changes nothing, and what is printed for programs stays clean."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.conftest import Shell
from tests.controller.controller_world import git, refs, remote
from tests.controller.keeping_world import cache, listing, put

ASKING = {
    "gc": ("gc", "--local", "--all-unknown", "--apply"),
    "forget": ("forget", "main", "--reason", "asked", "--all-runs-of-data"),
    "restore": ("restore",),
}


@pytest.fixture(params=ASKING)
def asking(request: pytest.FixtureRequest, team: Shell) -> tuple[str, ...]:
    """A command line that has something to ask about."""
    put(team, b"nobody names it")
    if request.param == "restore":
        git(remote(team), "update-ref", "-d", "refs/heads/cd4ml/index")
    return ASKING[request.param]


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Where somebody types, and what the program reads of it."""
    ends = pty.openpty()
    yield ends
    for end in ends:
        os.close(end)


def state(shell: Shell) -> object:
    return listing(cache(shell)), refs(remote(shell))


def start(shell: Shell, stdin: int, *arguments: str) -> subprocess.Popen[str]:
    env = {**os.environ, **shell.environment}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        ["cd4ml", *arguments], cwd=shell.folder, env=env, stdin=stdin, stdout=pipe, stderr=pipe, text=True
    )


def answered(shell: Shell, terminal: tuple[int, int], typed: bytes, *arguments: str) -> tuple[int, str, str]:
    """Exit code and output of a command that is asked from a terminal."""
    os.write(terminal[0], typed)
    process = start(shell, terminal[1], *arguments)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


@pytest.mark.parametrize("typed", [b"n\n", b"\n"], ids=["no", "nothing"])
def test_whatever_is_no_yes_changes_nothing(
    team: Shell, terminal: tuple[int, int], asking: tuple[str, ...], typed: bytes
) -> None:
    before = state(team)
    code, out, err = answered(team, terminal, typed, *asking)
    assert state(team) == before
    assert code == {"gc": 0, "forget": 2, "restore": 1}[asking[0]]
    assert ("[y/N]" in err, "[y/N]" in out) == (True, False)
    assert "defect" not in err


def test_an_input_that_ends_is_no_answer(team: Shell, terminal: tuple[int, int], asking: tuple[str, ...]) -> None:
    before = state(team)
    code, _, err = answered(team, terminal, b"\x04", *asking)
    assert state(team) == before
    assert (code, err.splitlines()[-1].partition(": ")[2].partition(": ")[2]) == (2, "the question got no answer")


def test_a_yes_does_it(team: Shell, terminal: tuple[int, int], asking: tuple[str, ...]) -> None:
    before = state(team)
    code, _, err = answered(team, terminal, b"y\n", *asking)
    assert (code, state(team) != before) == (0, True), err


def test_an_interrupted_question_changes_nothing(
    team: Shell, terminal: tuple[int, int], asking: tuple[str, ...]
) -> None:
    before = state(team)
    process = start(team, terminal[1], *asking)
    assert process.stderr is not None
    while not (told := process.stderr.read(1)).endswith("]"):
        assert told, "it ended without a question"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err.splitlines()[-1]) == (130, "cd4ml: interrupted")
    assert state(team) == before


def test_nobody_is_asked_about_what_was_not_shown(
    team: Shell, terminal: tuple[int, int], asking: tuple[str, ...]
) -> None:
    before = state(team)
    code, out, err = answered(team, terminal, b"y\n", *asking, "--json")
    assert (code, out, "--json does not show beforehand" in err) == (2, "", True)
    assert state(team) == before


def test_without_any_input_nothing_is_erased(team: Shell) -> None:
    before = state(team)
    done = team.attempt("sh", "-c", "exec cd4ml forget main --reason r --all-runs-of-data <&-")
    assert (done.returncode, done.stderr) == (
        2,
        "cd4ml: nothing was erased: there is no terminal to ask on, so say --yes\n",
    )
    assert state(team) == before
