"""Verbs that say what is wanted: new, config, data."""

from __future__ import annotations

from typing import Annotated

import typer

from cd4ml.cli.complete import complete_branch
from cd4ml.cli.context import Context, JsonFlag, print_json, say, show

data = typer.Typer(
    help="Pins: which data the runs use.", epilog="Example: cd4ml data update flights", no_args_is_help=True
)


def register(app: typer.Typer) -> None:
    """Add this module's verbs."""
    app.command(epilog="Example: cd4ml new deeper model=xgboost seed=7 --hypothesis 'Depth helps'")(new)
    app.command(epilog="Examples: cd4ml config · cd4ml config origin/exp/deeper --json")(config)
    data.command(epilog="Examples: cd4ml data update · cd4ml data update flights")(update)
    app.add_typer(data, name="data")


def new(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the experiment; its branch is exp/NAME.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[OVERRIDE]...", help="Hydra overrides: group=choice, a.b=value.")
    ] = None,
    hypothesis: Annotated[str, typer.Option(help="What you expect, and why.")] = "",
    checkout: Annotated[bool, typer.Option("--checkout", help="Switch to the new branch.")] = False,
    push: Annotated[bool, typer.Option("--push", help="Push the new branch.")] = False,
) -> None:
    """Open an experiment branch from the remote's base branch; the work tree is left alone."""
    from cd4ml.controller.editing.experiments import open_experiment

    options: Context = context.obj
    project = options.project()
    opened = open_experiment(project, name, tuple(overrides or ()), hypothesis=hypothesis, checkout=checkout, push=push)
    say(f"{opened.branch} is at {opened.commit[:12]}, {', '.join(opened.changed)} changed")
    if not push and project.has_remote:
        say(f"Next: git push {project.remote} {opened.branch} && cd4ml reconcile")


def config(
    context: typer.Context,
    revision: Annotated[
        str,
        typer.Argument(
            metavar="[REV]", help="Commit or branch (default: the work tree).", autocompletion=complete_branch
        ),
    ] = "",
    as_json: JsonFlag = False,
) -> None:
    """Print the resolved configuration, with the file that each value came from."""
    from cd4ml.controller.desired.specs import configuration
    from cd4ml.report.configuration import config_view

    options: Context = context.obj
    resolved, origin = configuration(options.project(), revision)
    if as_json:
        print_json("values", [{"key": key, **entry} for key, entry in flat(resolved, origin).items()], config=resolved)
    else:
        show(config_view(flat(resolved, origin)))


def flat(resolved: dict[str, object], origin: dict[str, str]) -> dict[str, dict[str, object]]:
    """Every leaf of a configuration (a list is one) by its dotted path, as ``{"value": …, "file": …}``."""
    leaves: dict[str, dict[str, object]] = {}

    def walk(value: object, path: str) -> None:
        if isinstance(value, dict) and value:
            for key, child in value.items():
                walk(child, f"{path}.{key}" if path else str(key))
        else:
            leaves[path] = {"value": value, "file": origin.get(path, "")}

    walk(resolved, "")
    return leaves


def update(
    context: typer.Context,
    sources: Annotated[
        list[str] | None, typer.Argument(metavar="[SOURCE]...", help="Sources to look at (default: all).")
    ] = None,
    commit: Annotated[bool, typer.Option(help="Commit the pins that moved.")] = True,
    store_erased: Annotated[
        bool, typer.Option("--store-erased", help="Archive data again that `cd4ml forget` erased.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Read the sources as they are now, archive their raw bytes, and pin what moved.

    A source that is a file which Git tracks is committed with its pin.
    """
    from cd4ml.controller.desired.data import commit_pins, update_pins
    from cd4ml.controller.landing.erased import erased_objects

    options: Context = context.obj
    project = options.project()
    changes = update_pins(project, tuple(sources or ()), {} if store_erased else erased_objects(project, fetch=True))
    if as_json:
        made = commit_pins(project, changes) if commit else None
        print_json("pins", [change.as_json() for change in changes], commit=made)
        return
    for change in changes:
        rows = f"{change.after.rows:,} rows"
        if not change.moved:
            say(f"{change.source}: unchanged ({rows})")
        elif change.before is None:
            say(f"{change.source}: pinned, {rows}, {change.after.digest[:12]}")
        else:
            digests = f"{change.before.digest[:12]} → {change.after.digest[:12]}"
            say(f"{change.source}: {change.before.rows:,} → {rows}, {digests}")
    if commit and (made := commit_pins(project, changes)):
        say(f"committed {made[:12]}")
    elif commit and any(change.moved for change in changes):
        say("There is no commit here yet: the pins wait to be committed with the rest of the project.")
