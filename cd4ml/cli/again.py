"""The verb that runs a record again: reproduce."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cd4ml.cli.complete import complete_branch
from cd4ml.cli.context import Context, JsonFlag, print_json, say

if TYPE_CHECKING:
    from cd4ml.controller.history.reproduce import Reproduction


def register(app: typer.Typer) -> None:
    """Add this module's verbs."""
    app.command(epilog="Examples: cd4ml reproduce exp/deeper · cd4ml reproduce r9275bed --rebuild-env")(reproduce)


def reproduce(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="A run id, a unique prefix of a fingerprint, or a branch.",
            autocompletion=complete_branch,
        ),
    ],
    rebuild_env: Annotated[
        bool,
        typer.Option("--rebuild-env", help="Make the environment of the run's lock for it, and remove it afterwards."),
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Run a record's commit again, from Git and the archived raw data alone, and compare.

    Exit 0 when metrics, predictions and model digest are equal; 1 when something moved, with what did. Where the record
    says beforehand that a run again may differ, and by how much, what stays within that counts as equal.
    """
    from cd4ml.cli.progress import watching
    from cd4ml.controller.history.reproduce import reproduce as again
    from cd4ml.controller.history.search import named_run

    options: Context = context.obj
    project = options.project()
    entry = named_run(project, name)
    with watching() as watch:
        outcome = again(project, entry.run.id, watch, rebuild_env=rebuild_env)
    if as_json:
        print_json("reproductions", [_as_json(outcome)])
    else:
        _say(outcome)
    raise typer.Exit(0 if outcome.equal else 1)


def _as_json(outcome: Reproduction) -> dict[str, Any]:
    return {
        "run": outcome.entry.run.id,
        "fingerprint": outcome.entry.run.fingerprint,
        "equal": outcome.equal,
        "moved": list(outcome.moved),
        "environment": list(outcome.environment),
        "differences": [asdict(difference) for difference in outcome.differences],
        "expected": [asdict(difference) for difference in outcome.expected],
        "why": list(outcome.why),
        "let_go": outcome.let_go or None,
        "metrics": dict(outcome.verdict.metrics) if outcome.verdict else {},
        "model_digest": outcome.verdict.model["digest"] if outcome.verdict else None,
    }


def _say(outcome: Reproduction) -> None:
    run = outcome.entry.run
    if outcome.let_go:
        say(f"{run.id} {outcome.let_go}; what was made again here is not kept")
    for name in outcome.moved:
        say(f"{name} moved since: what runs today is not quite what ran then")
    for line in outcome.environment:
        say(f"environment: {line}")
    if outcome.environment and outcome.differences:
        say("the environment is not the run's: try again with --rebuild-env")
    for difference in outcome.differences:
        say(f"{difference.what}: recorded {difference.recorded}, now {difference.found}")
    for difference in outcome.expected:
        say(f"{difference.what}: recorded {difference.recorded}, now {difference.found} (as expected)")
    for why in outcome.why if outcome.expected else ():
        say(f"expected, since {why}")
    if not outcome.equal:
        return
    if outcome.verdict is None:
        say(f"{run.id} fails again, in the same way: {outcome.failure.stage if outcome.failure else ''}")
        return
    _say_equal(outcome)
    say(f"{run.id} is reproduced")


def _say_equal(outcome: Reproduction) -> None:
    differing = {difference.what for difference in outcome.expected}
    for side, values in outcome.verdict.metrics.items() if outcome.verdict else ():
        equal = {metric: value for metric, value in values.items() if f"{side} {metric}" not in differing}
        if equal:
            say(f"{side}: " + ", ".join(f"{metric} {value!r} (equal)" for metric, value in equal.items()))
    if outcome.verdict and "model digest" not in differing:
        say(f"model {outcome.verdict.model['digest']} (equal)")
