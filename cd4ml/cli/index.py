"""Verbs that ask the index: search, show, diff, note, reproduce."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cd4ml.cli.complete import complete_branch
from cd4ml.cli.context import Context, JsonFlag, print_json, say, show, warn

if TYPE_CHECKING:
    from cd4ml.controller.reproduce import Reproduction

RunName = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="A run id, a unique prefix of a fingerprint, or a branch.", autocompletion=complete_branch
    ),
]


def register(app: typer.Typer) -> None:
    """Add this module's verbs."""
    app.command(
        epilog="Example: cd4ml search \"metrics.rmse < 18 and (params.model.name = 'xgboost' or lifecycle = 'merged')\""
    )(search)
    app.command(name="show", epilog="Examples: cd4ml show exp/deeper · cd4ml show 3fa2c1 --json")(show_run)
    app.command(epilog="Example: cd4ml diff main exp/deeper")(diff)
    app.command(epilog="Example: cd4ml note exp/deeper 'Depth helped only in July'")(note)
    app.command(epilog="Example: cd4ml reproduce exp/deeper")(reproduce)


def search(
    context: typer.Context,
    filter_text: Annotated[
        str, typer.Argument(metavar="[FILTER]", help="What to find; docs/search.md has the language.")
    ] = "",
    order: Annotated[str, typer.Option("--order-by", help="A field, then asc or desc.")] = "",
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="At most so many.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Find runs in the index, those of deleted branches included."""
    from cd4ml.controller.search import search as ask
    from cd4ml.report.terminal import runs_table

    options: Context = context.obj
    found = ask(options.project(), filter_text, order=order, limit=limit)
    if found.stale:
        warn(found.stale)
    if as_json:
        print_json("runs", found.runs)
    else:
        show(runs_table(found.runs))


def show_run(
    context: typer.Context,
    name: RunName,
    log: Annotated[bool, typer.Option("--log", help="Print the log of the run, where it ran on this machine.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show what is known of a run."""
    from cd4ml.controller.run import log_of
    from cd4ml.controller.search import named_runs
    from cd4ml.report.run import run_view

    options: Context = context.obj
    project = options.project()
    found = named_runs(project, name)
    if log:
        say_lines(log_of(project, found[0].row.fingerprint or ""))
    elif as_json:
        print_json("runs", [one.as_json() for one in found])
    else:
        show(run_view(found[0].row.as_json(), found[0].record))


def say_lines(text: str) -> None:
    """Print lines that others wrote, each made visible."""
    for line in text.splitlines():
        say(line)


def diff(
    context: typer.Context,
    champion: Annotated[
        str, typer.Argument(metavar="A", help="The run to compare against.", autocompletion=complete_branch)
    ],
    challenger: Annotated[str, typer.Argument(metavar="B", help="The run to compare.", autocompletion=complete_branch)],
    as_json: JsonFlag = False,
) -> None:
    """Compare two runs: metrics with their direction, configuration, data, environment."""
    from cd4ml.controller.search import compare_named
    from cd4ml.report.terminal import diff_view

    options: Context = context.obj
    comparison = compare_named(options.project(), champion, challenger)
    if as_json:
        print_json("comparisons", [comparison.as_json()])
    else:
        show(diff_view(comparison))


def note(
    context: typer.Context,
    branch: Annotated[
        str, typer.Argument(help="The experiment's branch, deleted or not.", autocompletion=complete_branch)
    ],
    text: Annotated[str, typer.Argument(help="What was learnt.")],
) -> None:
    """Write a conclusion beside an experiment; it is kept in the index."""
    from cd4ml.controller.experiments import add_note

    options: Context = context.obj
    record = add_note(options.project(), branch, text)
    say(f"noted as {record}")


def reproduce(context: typer.Context, name: RunName, as_json: JsonFlag = False) -> None:
    """Run a record's commit again, from Git and the archived raw data alone, and compare.

    Exit 0 when metrics, predictions and model digest are equal; 1 when something moved, with what did.
    """
    from cd4ml.cli.progress import watching
    from cd4ml.controller.reproduce import reproduce as again
    from cd4ml.controller.search import named_run

    options: Context = context.obj
    project = options.project()
    entry = named_run(project, name)
    with watching() as watch:
        outcome = again(project, entry.run.id, watch)
    if as_json:
        print_json("reproductions", [_as_json(outcome)])
    else:
        _say_reproduction(outcome)
    raise typer.Exit(0 if outcome.equal else 1)


def _as_json(outcome: Reproduction) -> dict[str, Any]:
    return {
        "run": outcome.entry.run.id,
        "fingerprint": outcome.entry.run.fingerprint,
        "equal": outcome.equal,
        "moved": list(outcome.moved),
        "environment": list(outcome.environment),
        "differences": [asdict(difference) for difference in outcome.differences],
        "metrics": dict(outcome.verdict.metrics) if outcome.verdict else {},
        "model_digest": outcome.verdict.model["digest"] if outcome.verdict else None,
    }


def _say_reproduction(outcome: Reproduction) -> None:
    run = outcome.entry.run
    for name in outcome.moved:
        say(f"{name} moved since: what runs today is not quite what ran then")
    for line in outcome.environment if outcome.moved or outcome.differences else ():
        say(f"environment: {line}")
    for difference in outcome.differences:
        say(f"{difference.what}: recorded {difference.recorded}, now {difference.found}")
    if not outcome.equal:
        return
    if outcome.verdict is None:
        say(f"{run.id} fails again, in the same way: {outcome.failure.stage if outcome.failure else ''}")
        return
    for side, values in outcome.verdict.metrics.items():
        say(f"{side}: " + ", ".join(f"{metric} {value!r} (equal)" for metric, value in values.items()))
    say(f"model {outcome.verdict.model['digest']} (equal)")
    say(f"{run.id} is reproduced")
