"""Verbs of the pipeline in the work tree: render, stage."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from cd4ml.cli.context import Context, JsonFlag, print_json, say, warn


def register(app: typer.Typer) -> None:
    """Add this module's verbs."""
    app.command(epilog="Examples: cd4ml render --check · cd4ml render --template github/cd4ml.yml.j2")(render)
    app.command(epilog="Example: cd4ml render && cd4ml stage ingest (or all of them: dvc repro)")(stage)


def render(
    context: typer.Context,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 if a committed file is not as rendered.")
    ] = False,
    template: Annotated[
        str, typer.Option(metavar="NAME", help="Copy this shipped template to templates/, to change; render nothing.")
    ] = "",
    as_json: JsonFlag = False,
) -> None:
    """Write dvc.yaml, params.yaml and the CI workflows from templates and conf/."""
    from dataclasses import asdict

    from cd4ml.controller.desired.render import check_rendered, no_longer_rendered, vendor_template
    from cd4ml.controller.desired.render import render as render_project

    options: Context = context.obj
    project = options.project()
    if template:
        say(f"wrote {vendor_template(project, template)}")
        return
    if check:
        problems = check_rendered(project)
        if as_json:
            print_json("problems", [asdict(problem) for problem in problems])
        else:
            for problem in problems:
                warn(str(problem))
        raise typer.Exit(1 if problems else 0)
    changed = render_project(project)
    for problem in no_longer_rendered(project):
        warn(str(problem))
    if as_json:
        print_json("files", [{"path": path} for path in changed])
    elif changed:
        for path in changed:
            say(f"wrote {path}")
    else:
        say("everything is as rendered")


def stage(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="ingest, validate, split, featurize, train, predict or evaluate.")],
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the whole traceback of a failure; it may quote the data.")
    ] = False,
) -> None:
    """Run one stage of the pipeline here, as `dvc repro` does."""
    from cd4ml.controller.running.stage import guarded_stage

    options: Context = context.obj
    os.chdir(options.directory)  # stages work in the current folder, as DVC starts them
    raise typer.Exit(guarded_stage(name, debug=debug or options.debug))
