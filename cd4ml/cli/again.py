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
    examples = ("exp/deeper", "r9275bed --rebuild-env", "r9275bed --store")
    app.command(epilog="Examples: " + " · ".join(f"cd4ml reproduce {one}" for one in examples))(reproduce)


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
    store: Annotated[
        bool,
        typer.Option(
            "--store",
            help="Put what has the recorded bytes back into the DVC cache and (unless of a draft) on the DVC remote.",
        ),
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Run a record's commit again, from Git and the archived raw data alone, and compare.

    Exit 0 when metrics, predictions and model digest are equal; 1 when something moved, with what did. Where the record
    says beforehand that a run again may differ, and by how much, what stays within that counts as equal. With `--store`
    the model, predictions and tables of a run that `gc` let go, or that were lost, are there again, byte by byte,
    and the index no longer says that they were let go; exit 1 where one of them came out as other bytes, which are not
    stored.
    """
    from cd4ml.cli.progress import watching
    from cd4ml.controller.history.reproduce import reproduce as again
    from cd4ml.controller.history.search import named_run

    options: Context = context.obj
    project = options.project()
    entry = named_run(project, name)
    with watching() as watch:
        outcome = again(project, entry.run.id, watch, rebuild_env=rebuild_env, store=store)
    if as_json:
        print_json("reproductions", [_as_json(outcome)])
    else:
        _say(outcome)
    raise typer.Exit(0 if outcome.equal and not outcome.withheld else 1)


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
        "stored": list(outcome.stored),
        "withheld": list(outcome.withheld),
        "metrics": dict(outcome.verdict.metrics) if outcome.verdict else {},
        "model_digest": outcome.verdict.model["digest"] if outcome.verdict else None,
    }


def _say(outcome: Reproduction) -> None:
    run = outcome.entry.run
    if outcome.let_go and not (outcome.stored or outcome.withheld):
        kept = "" if outcome.is_erased else " (--store keeps it)"
        say(f"{run.id} {outcome.let_go}; what was made again here is not kept{kept}")
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
    if outcome.equal:
        _say_equal(outcome)
    _say_stored(outcome)


def _say_stored(outcome: Reproduction) -> None:
    if outcome.stored:
        say(f"stored again: {', '.join(outcome.stored)}")
    if outcome.withheld:
        say(f"not stored, since other bytes came out than the record says: {', '.join(outcome.withheld)}")


def _say_equal(outcome: Reproduction) -> None:
    run = outcome.entry.run
    if outcome.verdict is None:
        say(f"{run.id} fails again, in the same way: {outcome.failure.stage if outcome.failure else ''}")
        return
    differing = {difference.what for difference in outcome.expected}
    for side, values in outcome.verdict.metrics.items():
        equal = {metric: value for metric, value in values.items() if f"{side} {metric}" not in differing}
        if equal:
            say(f"{side}: " + ", ".join(f"{metric} {value!r} (equal)" for metric, value in equal.items()))
    if "model digest" not in differing:
        say(f"model {outcome.verdict.model['digest']} (equal)")
    say(f"{run.id} is reproduced")
