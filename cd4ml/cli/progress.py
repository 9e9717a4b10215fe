"""Progress: of runs, a live table on a terminal and plain lines elsewhere; of checks, a line. All go to stderr."""

from __future__ import annotations

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
