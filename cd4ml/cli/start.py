"""The verb that starts a project: init."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cd4ml.cli.context import Context, JsonFlag, print_json, say, warn
from cd4ml.errors import UsageError
from cd4ml.spec.text import listing

if TYPE_CHECKING:
    from cd4ml.controller.starting.init import Initialised, OwnData
    from cd4ml.controller.starting.proposal import Proposal


def register(app: typer.Typer) -> None:
    """Add this module's verbs."""
    app.command(
        epilog="Examples: cd4ml init flights --storage ../storage · "
        "cd4ml init houses --data houses.csv --target price --storage ../storage"
    )(init)


def init(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(metavar="[DIR]", help="Folder to make a project in.")] = Path(),
    data: Annotated[str, typer.Option(metavar="FILE", help="Your table: a CSV or Parquet file, or its URL.")] = "",
    target: Annotated[str, typer.Option(metavar="COLUMN", help="The column of it to predict.")] = "",
    name: Annotated[str, typer.Option(help="Name of the table in conf/ (default: after its file).")] = "",
    task: Annotated[str, typer.Option(help="regression, binary or multiclass (default: by the target).")] = "",
    time: Annotated[str, typer.Option(metavar="COLUMN", help="Split by this time column.")] = "",
    group: Annotated[str, typer.Option(metavar="COLUMN", help="Split so that no value of it is on two sides.")] = "",
    storage: Annotated[str, typer.Option(help="URL or path of the DVC remote that keeps data and models.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Make a project: conf/, dvc.yaml, a workflow and a lock file, never overwriting anything.

    With --data and --target it looks at your table and proposes a project for it: task, columns, split,
    expectations, models. Without, the project is the flights example, whole and ready to reconcile.
    """
    from cd4ml.controller.starting.init import init_project

    options: Context = context.obj
    own = _own(options, data, target, {"name": name, "task": task, "time": time, "group": group})
    done = init_project((options.directory / directory).resolve(), storage=storage, own=own)
    if as_json:
        files = [*({"path": path, "made": True} for path in done.made)]
        files += [{"path": path, "made": False} for path in done.kept]
        proposal = None if done.proposal is None else {"source": done.source, **asdict(done.proposal)}
        print_json("files", files, proposal=proposal)
    else:
        _tell(done, directory)
    for path in done.ignored:
        warn(f"{path}: Git ignores it, and it has to be committed: change your .gitignore")


def _own(options: Context, data: str, target: str, more: dict[str, str]) -> OwnData | None:
    """The person's own data, where they named some. Raises UsageError for an option that lacks its partner."""
    from cd4ml.controller.starting.init import OwnData
    from cd4ml.controller.starting.proposal import Hints
    from cd4ml.spec.metrics import TASKS

    if not data:
        given = next((key for key, value in {"target": target, **more}.items() if value), "")
        if given:
            raise UsageError(f"--{given} says something of your own table: name that with --data")
        return None
    if not target:
        raise UsageError("--data needs --target, the column to predict")
    if more["task"] and more["task"] not in TASKS:
        raise UsageError(f"--task: {more['task']!r} is none of {', '.join(TASKS)}")
    hints = Hints(target, more["task"], more["time"], more["group"])
    return OwnData(data, options.directory.resolve(), hints, more["name"])


def _tell(done: Initialised, directory: Path) -> None:
    if done.proposal is not None:
        for line in _proposed(done.source, done.proposal):
            say(line)
    for path in done.made:
        say(f"made  {path}")
    for path in done.kept:
        say(f"kept  {path}")
    if done.proposal is None:
        say("Next: `cd4ml data update` pins the data; then commit, push, and `cd4ml reconcile`.")
        return
    say("The data is pinned, and conf/ says of each choice why it was made: look it through. Next:")
    if directory != Path():
        say(f"  cd {shlex.quote(str(directory))}")
    message = shlex.quote(f"Predict {done.proposal.target}")
    say("  git add --all")
    say(f"  git commit --message {message}")
    say("  cd4ml reconcile")


def _proposed(source: str, proposal: Proposal) -> list[str]:
    """The proposal in a few lines."""
    rows = ", ".join(f"{side} {count:,}" for side, count in proposal.split.rows.items())
    lines = [
        f"{source}: {proposal.rows:,} rows, {len(proposal.columns)} columns; to predict: {proposal.target}",
        f"task         {proposal.task}: {proposal.task_why}",
        f"split        {proposal.split.method}{f' ({rows})' if rows else ''}: {proposal.split.why}",
    ]
    lines += [
        f"{role:<12} {len(columns)}: {listing((column.name for column in columns), 12)}"
        for role in ("numeric", "categorical", "time", "text")
        if (columns := proposal.with_role(role))
    ]
    lines += [f"left out     {column.name}: {column.why}" for column in proposal.with_role("left out")]
    lines.append(f"metrics      {', '.join(proposal.metrics)}; {proposal.primary} ranks: {proposal.primary_why}")
    lines.append(f"expectations {len(proposal.expectations)}, derived from what is there now")
    lines += [f"mind         {note}" for note in proposal.notes]
    return lines
