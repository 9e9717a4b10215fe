"""Verbs that CI runs as jobs of their own: execute, land, check."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cd4ml.cli.complete import complete_branch
from cd4ml.cli.context import Context, JsonFlag, experiments_named, print_json, say, show, warn

if TYPE_CHECKING:
    from cd4ml.controller.ci.bundle import Bundle

Jobs = Annotated[int | None, typer.Option("--jobs", "-j", min=1, help="Runs at the same time.")]


def register(app: typer.Typer) -> None:
    """Add this module's verbs."""
    app.command(
        epilog="Examples: cd4ml execute exp/deeper --output bundles · cd4ml execute --commit 1a2b3c --unverified -o out"
    )(execute)
    app.command(epilog="Examples: cd4ml land bundles · cd4ml land bundles -- exp/deeper")(land)
    app.command(epilog="Examples: cd4ml check · cd4ml check refs/pull/7/head --strict")(check)


def execute(
    context: typer.Context,
    branches: Annotated[
        list[str] | None,
        typer.Argument(metavar="[BRANCH]...", help="Only these (default: all).", autocompletion=complete_branch),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Where the bundles go: an empty folder, or one of bundles."),
    ] = None,
    commit: Annotated[str, typer.Option(metavar="SHA", help="Run this commit, with --unverified.")] = "",
    unverified: Annotated[
        bool, typer.Option("--unverified", help="The commit is a stranger's: hold no credentials, record nothing.")
    ] = False,
    jobs: Jobs = None,
    outputs: Annotated[
        Path | None,
        typer.Option("--outputs", metavar="FILE", help="Append `runs=N` to this file, for later steps of a CI job."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Run what the branches ask for, and leave what came out in a folder, for `cd4ml land`. Records nothing."""
    from cd4ml.cli.progress import watching
    from cd4ml.controller.ci.parts import execute_parts
    from cd4ml.controller.reconciling.apply import Request
    from cd4ml.errors import UsageError

    options: Context = context.obj
    if output is None:
        raise UsageError("--output DIR says where the bundles go")
    if bool(commit) != unverified or (commit and branches):
        raise UsageError("--commit SHA and --unverified belong together, and name no branch")
    project, output = options.project(), output.absolute()
    if commit:
        from cd4ml.controller.ci.unverified import execute_unverified

        with watching() as watch:
            made: Sequence[Bundle] = (execute_unverified(project, commit, output, watch),)
        left: Sequence[str] = ()
        not_executed: Sequence[str] = ()
    else:
        named = experiments_named(context, branches)
        with watching() as watch:
            done = execute_parts(project, Request(named, jobs=jobs), output, watch)
        made, left, not_executed = done.bundles, done.left, done.not_executed
    for line in (*left, *not_executed):
        warn(line)
    if outputs is not None:
        with outputs.open("a", encoding="utf-8") as stream:
            stream.write(f"runs={len(made)}\n")
    if as_json:
        print_json("bundles", [bundle.as_json() for bundle in made], not_executed=list(not_executed))
    else:
        for bundle in made:
            say(_told(bundle))
        say(f"{_counted(len(made), 'bundle')} in {_relative(output)}")
    raise typer.Exit(1 if not_executed else 0)


def _told(bundle: Bundle) -> str:
    side = "" if bundle.side == "head" else " (merge result)"
    how = f"failed at {bundle.failure.stage}: {bundle.failure.message}" if bundle.failure else "executed"
    return f"{bundle.branch}{side} at {bundle.commit[:12]}: {how}"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _relative(path: Path) -> str:
    here = os.path.relpath(path)
    return str(path) if here.startswith("..") else here


def land(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where `cd4ml execute` left its bundles.")],
    branches: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[BRANCH]...",
            help="Take answers for these alone, by their whole names: those whose code ran there (default: all).",
        ),
    ] = None,
    jobs: Jobs = None,
    as_json: JsonFlag = False,
) -> None:
    """Judge what was executed, record it, and all else that reconcile would record. Runs no code of an experiment."""
    from cd4ml.cli.progress import watching
    from cd4ml.controller.ci.parts import land_parts
    from cd4ml.report.terminal import status_table

    options: Context = context.obj
    with watching() as watch:
        done = land_parts(options.project(), directory.absolute(), watch, jobs, frozenset(branches or ()) or None)
    outcome, refused = done.outcome, (*done.refused, *done.outcome.refused)
    for line in (*outcome.not_applied, *refused, *done.dropped):
        warn(line)
    if done.still:
        verb = "is" if len(done.still) == 1 else "are"
        warn(f"{_counted(len(done.still), 'run')} {verb} still to be executed: {', '.join(done.still)}")
    items = list(outcome.plan.items)
    if as_json:
        print_json(
            "experiments",
            [item.as_json() for item in items],
            ran=list(outcome.ran),
            not_applied=list(outcome.not_applied),
            refused=list(refused),
            dropped=list(done.dropped),
            still=list(done.still),
        )
    else:
        show(status_table(items, outcome.primary))
    raise typer.Exit(1 if outcome.not_applied or done.refused else 0)


def check(
    context: typer.Context,
    revision: Annotated[str, typer.Argument(metavar="[REV]", help="A commit, branch or ref.")] = "HEAD",
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 for what could not be checked, too.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """See whether a commit's configuration, rendered files and expectations hold. Never runs its code."""
    from dataclasses import asdict

    from cd4ml.controller.ci.check import check_revision, left_aside

    options: Context = context.obj
    project = options.project()
    found = check_revision(project, revision)
    if aside := left_aside(project, revision):
        more = f" and {len(aside) - 1} more" if aside[1:] else ""
        warn(f"{aside[0]}{more}: not committed, so not looked at; `cd4ml run` takes the files as they are")
    if as_json:
        print_json(
            "problems",
            [asdict(problem) for problem in found.problems],
            commit=found.commit,
            checked=list(found.checked),
            not_checked=list(found.not_checked),
            warnings=[asdict(problem) for problem in found.warnings],
        )
    else:
        for problem in found.problems:
            warn(str(problem))
        for problem in found.warnings:
            warn(f"warning: {problem}")
        for line in found.not_checked:
            warn(f"not checked: {line}")
        if not found.problems:
            say(f"{found.commit[:12]}: {', '.join(found.checked)}: all is well")
    raise typer.Exit(found.exit_code or int(strict and bool(found.not_checked)))
