"""Verbs about one run of the index: show, note."""

from __future__ import annotations

from typing import Annotated

import typer

from cd4ml.cli.complete import complete_branch
from cd4ml.cli.context import Context, JsonFlag, print_json, say, show

RunName = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="A run id, a unique prefix of a fingerprint, or a branch.", autocompletion=complete_branch
    ),
]


def register(app: typer.Typer) -> None:
    """Add this module's verbs."""
    app.command(name="show", epilog="Examples: cd4ml show exp/deeper · cd4ml show 3fa2c1 --json")(show_run)
    app.command(epilog="Example: cd4ml note exp/deeper 'Depth helped only in July'")(note)


def show_run(
    context: typer.Context,
    name: RunName,
    log: Annotated[bool, typer.Option("--log", help="Print the log of the run, where it ran on this machine.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show what is known of a run."""
    from cd4ml.controller.history.search import named_runs

    options: Context = context.obj
    project = options.project()
    found = named_runs(project, name)
    if log:
        from cd4ml.controller.running.run import log_of

        say_lines(log_of(project, found[0].row.fingerprint or ""))
    elif as_json:
        print_json("runs", [one.as_json() for one in found])
    else:
        from cd4ml.report.run import run_view

        show(run_view(found[0].row.as_json(), found[0].record))


def say_lines(text: str) -> None:
    """Print lines that others wrote, each made visible."""
    for line in text.splitlines():
        say(line)


def note(
    context: typer.Context,
    branch: Annotated[
        str, typer.Argument(help="The experiment's branch, deleted or not.", autocompletion=complete_branch)
    ],
    text: Annotated[str, typer.Argument(help="What was learnt.")],
) -> None:
    """Write a conclusion beside an experiment; it is kept in the index."""
    from cd4ml.controller.editing.experiments import add_note

    options: Context = context.obj
    record, of = add_note(options.project(), branch, text)
    say(f"noted as {record} of {of}")
