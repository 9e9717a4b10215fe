"""Progress: of runs, a live table on a terminal and plain lines elsewhere; of checks, a line. All go to stderr."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING

from cd4ml.cli.context import console
from cd4ml.report.visible import visible

if TYPE_CHECKING:
    from rich.table import Table

    from cd4ml.controller.running.run import Event, Watch

_SECONDS_BETWEEN_LINES = 5.0
_SECONDS_BETWEEN_LOOKS = 0.2
_WORTH_TELLING = 1.0
"""Seconds after which somebody who waits wants to know what for."""


@contextmanager
def watching() -> Iterator[Watch]:
    """Something to tell events to, for as long as the block runs."""
    screen = console(stderr=True)
    if not screen.is_terminal or screen.is_dumb_terminal:  # a dumb one cannot be drawn over
        yield _tell_line
        return
    from rich.live import Live

    board = _Board()
    with Live(get_renderable=board.table, console=screen, refresh_per_second=8, transient=True) as live:

        def tell(event: Event) -> None:
            board.tell(event)
            live.refresh()  # a stage may start and end between two ticks

        yield tell


@contextmanager
def saying() -> Iterator[Callable[[str], None]]:
    """Something to tell what is looked at now: one line that changes on a terminal, few plain ones elsewhere."""
    screen = console(stderr=True)
    if screen.is_terminal and not screen.is_dumb_terminal:
        with screen.status("") as status:
            yield lambda text: status.update(visible(text))
        return
    told = time.monotonic()

    def tell(text: str) -> None:
        nonlocal told
        if time.monotonic() - told >= _SECONDS_BETWEEN_LINES:
            told = time.monotonic()
            sys.stderr.write(f"{visible(text)}\n")
            sys.stderr.flush()

    yield tell


@contextmanager
def showing_progress() -> Iterator[None]:
    """Show how far the long work below is, wherever it is done: it logs ``"words: %d of %d things"``, done and all.

    What is done within a second is not shown. On a terminal one line changes, and is gone at the end.
    """
    log, shown = logging.getLogger("cd4ml.progress"), _Progress(logging.INFO)
    before, propagated = log.level, log.propagate
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(shown)
    try:
        yield
    finally:
        shown.close()
        log.removeHandler(shown)
        log.setLevel(before)
        log.propagate = propagated


class _Progress(logging.Handler):
    """Writes to stderr. A line that is drawn over is taken away before anything else is written."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self._began: float | None = None
        self._last = 0.0
        self._is_drawn = False

    def emit(self, record: logging.LogRecord) -> None:
        done, count = record.args[:2] if isinstance(record.args, tuple) else (1, 1)
        now = time.monotonic()
        if done == count:
            self._wipe()
            self._began = None
            return
        if self._began is None:
            self._began = self._last = now
        drawn = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        if now - self._began < _WORTH_TELLING or now - self._last < (
            _SECONDS_BETWEEN_LOOKS if drawn else _SECONDS_BETWEEN_LINES
        ):
            return
        self._last = now
        text = visible(record.getMessage())
        sys.stderr.write(f"\r{text}\x1b[K" if drawn else f"{text}\n")
        sys.stderr.flush()
        self._is_drawn = drawn

    def close(self) -> None:
        self._wipe()
        super().close()

    def _wipe(self) -> None:
        if self._is_drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
        self._is_drawn = False


def _who(event: Event) -> str:
    return event.branch if event.side == "head" else f"{event.branch} (merge result)"


def _tell_line(event: Event) -> None:
    took = f" after {event.seconds:.1f} s" if event.seconds else ""
    who = f"{visible(_who(event))}: " if event.branch else ""
    sys.stderr.write(f"{who}{event.stage} {event.what}{took}\n")
    sys.stderr.flush()


class _Board:
    """The newest event of each run. ``tell`` is called from several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._rows: dict[str, tuple[Event, float]] = {}

    def tell(self, event: Event) -> None:
        with self._lock:
            self._rows[_who(event)] = (event, time.monotonic())

    def table(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        with self._lock:
            rows = list(self._rows.items())
        for who, (event, since) in rows:
            running = event.what == "started"
            seconds = time.monotonic() - since if running else event.seconds
            mark = {"started": "…", "finished": "✓", "landed": "✓", "failed": "✗"}.get(event.what, "·")
            table.add_row(mark, Text(visible(who)), event.stage, event.what, f"{seconds:.1f} s")
        return table
