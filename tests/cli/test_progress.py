"""How far something long is, as people who wait see it."""

from __future__ import annotations

import io
import logging

import pytest

from cd4ml.cli import progress
from cd4ml.cli.progress import showing_progress

LOG = logging.getLogger("cd4ml.progress")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def work(upto: int) -> None:
    for done in range(upto + 1):
        LOG.info("reading the index: %d of %d entries", done, 3)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if every step took as long as is worth telling."""
    for name in ("_WORTH_TELLING", "_SECONDS_BETWEEN_LINES", "_SECONDS_BETWEEN_LOOKS"):
        monkeypatch.setattr(progress, name, 0.0)


def test_what_is_done_soon_is_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    with showing_progress():
        work(3)
    assert capsys.readouterr() == ("", "")


def test_where_there_is_no_terminal_plain_lines_are_told(slow: None, capsys: pytest.CaptureFixture[str]) -> None:
    with showing_progress():
        work(3)
    assert capsys.readouterr() == ("", "".join(f"reading the index: {done} of 3 entries\n" for done in range(3)))


@pytest.mark.parametrize("upto", [2, 3], ids=["interrupted", "done"])
def test_on_a_terminal_one_line_changes_and_is_gone_at_the_end(
    slow: None, monkeypatch: pytest.MonkeyPatch, upto: int
) -> None:
    shown = Terminal()
    monkeypatch.setattr("sys.stderr", shown)
    monkeypatch.setenv("TERM", "xterm")
    with showing_progress():
        work(upto)
    text = shown.getvalue()
    assert "2 of 3" in text
    assert "\n" not in text
    assert text.endswith("\r\x1b[K")


def test_a_dumb_terminal_gets_plain_lines(slow: None, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Terminal()
    monkeypatch.setattr("sys.stderr", shown)
    monkeypatch.setenv("TERM", "dumb")
    with showing_progress():
        work(1)
    assert "\x1b" not in shown.getvalue()


def test_nothing_listens_once_the_command_has_ended(slow: None, capsys: pytest.CaptureFixture[str]) -> None:
    with showing_progress():
        pass
    work(3)
    assert capsys.readouterr() == ("", "")
