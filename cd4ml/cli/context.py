"""What every verb is given, and how every verb prints."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cd4ml.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from cd4ml.controller.project import Project

JSON_VERSION = 1

_LAID_OUT = 20
"""So many items are laid out for the eye."""
_WIDEST = 100_000
"""Columns that a view has room for where nobody looks at a terminal."""

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object (shape: docs/json.md).")]


@dataclass(frozen=True)
class Context:
    """The global options."""

    directory: Path
    remote: str
    debug: bool

    def project(self) -> Project:
        """The project in ``-C`` (or the current folder), with the remote that ``--remote`` names."""
        from cd4ml.controller.project import open_project

        return open_project(self.directory.resolve(), self.remote)


def experiments_named(context: typer.Context, branches: list[str] | None) -> frozenset[str] | None:
    """Branches by their whole names. Raises UsageError for one that nobody knows, or that is no experiment."""
    if not branches:
        return None
    from cd4ml.controller.reconciling.observe import named_experiments

    options: Context = context.obj
    return named_experiments(options.project(), branches)


def console(*, stderr: bool = False) -> Console:
    """A console that follows NO_COLOR and the terminal's width; 100 columns where there is no terminal."""
    from rich.console import Console

    plain = Console(stderr=stderr, highlight=False)
    return plain if plain.is_terminal else Console(stderr=stderr, highlight=False, width=max(plain.width, 100))


def show(view: RenderableType, *, whole: bool = False) -> None:
    """Print a view for people. However it is laid out, no line of it commands the runner of a CI.

    With ``whole``, what does not go to a terminal is as wide as it wants to be: another program reads its lines.
    """
    from cd4ml.report.visible import harmless_lines

    screen = console()
    if whole and not screen.is_terminal:
        wanted = screen.measure(view, options=screen.options.update(max_width=_WIDEST)).maximum
        screen.width = max(screen.width, wanted)
    with screen.capture() as captured:
        screen.print(view)
    text = captured.get()
    if whole and not screen.is_terminal:
        text = "".join(f"{line.rstrip()}\n" for line in text.splitlines())
    screen.file.write(harmless_lines(text))
    screen.file.flush()


def confirmed(question: str, refusal: str, instead: str = "--yes", *, shown: bool) -> bool:
    """Ask on the terminal, on stderr; ``shown`` says whether it was told what is asked about.

    Raises UsageError where there is nobody to ask, or no answer: ``refusal``, and what to say ``instead``.
    """
    if not (sys.stdin and sys.stdin.isatty()):
        raise UsageError(f"{refusal}: there is no terminal to ask on, so say {instead}")
    if not shown:
        raise UsageError(f"{refusal}: --json does not show beforehand what it is about, so say {instead}")
    try:
        return typer.confirm(question, err=True)
    except typer.Abort as error:  # the input ended; of an interrupt the whole program tells
        sys.stderr.write("\n")
        raise UsageError(f"{refusal}: the question got no answer") from error


def print_json(name: str, items: list[dict[str, Any]], **more: Any) -> None:
    """Print the one JSON object of a verb: ``version``, a list by its name, and whatever else it says."""
    sys.stdout.write(json_text(name, items, **more))


def json_text(name: str, items: list[dict[str, Any]], **more: Any) -> str:
    """The one JSON object of a verb as text, with a final newline; where there are many items, one a line."""
    return _json(name, items, more).replace("##[", "\\u0023#[")  # in a string alone, where it says the same


def _json(name: str, items: list[dict[str, Any]], more: Mapping[str, Any]) -> str:
    if len(items) <= _LAID_OUT:
        return json.dumps({"version": JSON_VERSION, name: items, **more}, indent=1, ensure_ascii=False) + "\n"
    lines = ",\n".join(map(_compact, items))
    rest = "".join(f",\n{_compact(key)}: {_compact(value)}" for key, value in more.items())
    return f'{{"version": {JSON_VERSION},\n{_compact(name)}: [\n{lines}\n]{rest}}}\n'


def _compact(value: Any) -> str:
    """JSON in one line, many times as fast as with an indent."""
    import orjson

    try:
        return orjson.dumps(value).decode()
    except TypeError:  # a number of more than 64 bits, half of a surrogate pair
        return json.dumps(value, ensure_ascii=False)


def say(line: str) -> None:
    """A line for people on stdout, with whatever came from outside made visible."""
    from cd4ml.report.visible import visible

    sys.stdout.write(visible(line) + "\n")


@contextmanager
def telling() -> Iterator[None]:
    """Let what is logged as a warning go to stderr while the block runs, each line once, as ``warn`` writes it."""
    log, handler = logging.getLogger("cd4ml"), _Told(logging.WARNING)
    propagated, log.propagate = log.propagate, False
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.propagate = propagated


class _Told(logging.Handler):
    def __init__(self, level: int) -> None:
        super().__init__(level)
        self._lines: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        if line not in self._lines:
            self._lines.add(line)
            warn(line)


def warn(line: str) -> None:
    """A line on stderr that does not end the command."""
    from cd4ml.report.visible import visible

    sys.stderr.write(f"cd4ml: {visible(line)}\n")
