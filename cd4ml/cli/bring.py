"""Verbs that bring in what other tools recorded: import mlflow, import dvc-exp."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from cd4ml.cli.context import Context, JsonFlag, print_json, say, warn

if TYPE_CHECKING:
    from cd4ml.controller.landing.imports import Imported

_LISTED = 20
"""So many runs are listed for the eye."""

DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be imported, and import nothing.")]


def register(app: typer.Typer) -> None:
    """Add this module's verbs."""
    group = typer.Typer(
        help="Bring runs that another tool recorded into the index.",
        no_args_is_help=True,
        epilog="Example: cd4ml import mlflow sqlite:///mlruns.db",
    )
    group.command(
        name="mlflow",
        epilog="Examples: cd4ml import mlflow sqlite:///mlruns.db · cd4ml import mlflow ./mlruns --experiment flights",
    )(import_mlflow)
    group.command(name="dvc-exp", epilog="Example: cd4ml import dvc-exp --dry-run")(import_dvc)
    app.add_typer(group, name="import")


def import_mlflow(
    context: typer.Context,
    uri: Annotated[
        str, typer.Argument(metavar="URI", help="The tracking store: sqlite:///FILE, a folder, or a server's address.")
    ],
    experiments: Annotated[
        list[str] | None, typer.Option("--experiment", "-e", help="Only this experiment; may be given several times.")
    ] = None,
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """Bring in the runs of an MLflow tracking store. The store is only read; a run is imported once."""
    from cd4ml.controller.landing.imports import from_mlflow, import_runs

    options: Context = context.obj
    project = options.project()
    with from_mlflow(uri, experiments or []) as runs:
        _tell(import_runs(project, runs, dry_run=dry_run), dry_run=dry_run, as_json=as_json)


def import_dvc(context: typer.Context, dry_run: DryRun = False, as_json: JsonFlag = False) -> None:
    """Bring in the experiments that DVC keeps in this clone (dvc exp), with the commits that hold their code."""
    from cd4ml.controller.landing.imports import from_dvc, import_runs

    options: Context = context.obj
    project = options.project()
    _tell(import_runs(project, from_dvc(project), dry_run=dry_run), dry_run=dry_run, as_json=as_json)


def _tell(done: Imported, *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        told = {
            "landed": list(done.landed),
            "known": done.known,
            "unfinished": done.unfinished,
            "redacted": done.redacted,
            "empty": done.empty,
            "withheld": done.withheld,
            "cut": done.cut,
            "unreadable": [asdict(one) for one in done.unreadable],
            "dry_run": dry_run,
        }
        print_json("imports", [told])
        return
    count = len(done.landed)
    say(f"{count} run{'s' * (count != 1)} {'would be ' * dry_run}imported")
    if dry_run:
        for experiment, name in list(done.landed.values())[:_LISTED]:
            say(f"  {name} ({experiment})" if name else f"  a run without a name ({experiment})")
        if count > _LISTED:
            say(f"  and {count - _LISTED} more: --json lists the ids of all")
    if done.known:
        say(f"{done.known} known already")
    if done.unfinished:
        say(f"{done.unfinished} not ended or not readable: left out")
    _tell_left_out(done, dry_run=dry_run)
    if count and not dry_run:
        say("find them with: cd4ml search \"role = 'imported'\"")


def _tell_left_out(done: Imported, *, dry_run: bool) -> None:
    for one in done.unreadable[:_LISTED]:
        warn(f"left out: run {one.id}: {one.why}")
    if len(done.unreadable) > _LISTED:
        warn(f"left out: {len(done.unreadable) - _LISTED} more that cannot be read: --json lists them")
    if done.empty:
        hold = "holds" if done.empty == 1 else "hold"
        warn(f"{done.empty} of them {hold} neither parameters nor metrics: files that Git does not have cannot be read")
    if done.redacted:
        values = f"{done.redacted} value{'s' * (done.redacted != 1)}"
        say(f"{values} seemed to hold a credential, which {'would be' if dry_run else 'was'} left out")
    if done.cut:
        values = f"{done.cut} value{'s' * (done.cut != 1)}"
        warn(f"{values} {'is' if done.cut == 1 else 'are'} longer or more than a record holds, and cut or left out")
    if done.withheld:
        commits = "commit" if done.withheld == 1 else "commits"
        stay = "would stay" if dry_run else "stays" if done.withheld == 1 else "stay"
        say(f"{done.withheld} {commits} {stay} here alone: what nobody else has yet may hold a credential")
