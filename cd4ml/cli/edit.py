"""Verbs of the edit loop: run the work tree, take the base branch in."""

from __future__ import annotations

import json
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cd4ml.cli.complete import complete_branch
from cd4ml.cli.context import Context, JsonFlag, print_json, say, show, warn

if TYPE_CHECKING:
    from cd4ml.controller.editing.edit import Edited


def register(app: typer.Typer) -> None:
    """Add this module's verbs."""
    app.command(
        name="run",
        epilog="Examples: cd4ml run · cd4ml run model.parameters.alpha=3 · cd4ml run model=xgboost --json"
        " · cd4ml run --stop-warm",
    )(run_work_tree)
    app.command(epilog="Examples: cd4ml update · cd4ml update exp/deeper --push")(update)


def run_work_tree(
    context: typer.Context,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[OVERRIDE]...", help="Hydra overrides: group=choice, a.b=value.")
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Run again what failed.")] = False,
    stop_warm: Annotated[
        bool, typer.Option("--stop-warm", help="Run nothing; end the warm process that lingers for this clone.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the whole traceback of a stage that fails; it may quote the data.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Run the work tree as it is, committed or not, and compare it with the champion.

    The result stays in this clone. A branch that comes to ask for the same is answered by it, and lands it
    once it is pushed. A warm process stays for 15 minutes (CD4ML_WARM_MINUTES), so that the next run starts
    at once. Exit 1 when the run failed.
    """
    options: Context = context.obj
    project = options.project()
    if stop_warm:
        from cd4ml.controller.running.lingering import stop_lingering

        stopped = stop_lingering(project.private)
        say("the warm process has ended" if stopped else "no warm process lingers for this clone")
        return
    from cd4ml.cli.progress import watching
    from cd4ml.controller.editing.edit import run_work_tree as run
    from cd4ml.report.visible import visible

    tracebacks: list[str] = []
    with watching() as watch, _tracebacks_to(tracebacks, debug=debug or options.debug):
        edited = run(project, tuple(overrides or ()), watch, retry=retry)
    if (debug or options.debug) and edited.known and not edited.run.succeeded:
        warn("it failed earlier and was not run now, so there is no traceback: say --retry")
    if tracebacks:
        sys.stderr.write("".join(f"{visible(line)}\n" for line in tracebacks[-1].splitlines()))
    if edited.stale:
        warn(edited.stale)
    for path in edited.moved:
        warn(f"{path}: is not what its pin says, and the pinned data were used; `cd4ml data update` takes it in")
    if as_json:
        print_json("edits", [edit_as_json(edited)])
    else:
        _say(edited)
    raise typer.Exit(0 if edited.run.succeeded else 1)


def _tracebacks_to(tracebacks: list[str], *, debug: bool) -> AbstractContextManager[None]:
    """Where ``debug`` asks for them, have the tracebacks of failing stages appended while the block runs."""
    if not debug:
        return nullcontext()
    from cd4ml.controller.running.run import telling_tracebacks

    return telling_tracebacks(tracebacks.append)


def edit_as_json(edited: Edited) -> dict[str, Any]:
    """One item of ``edits`` (docs/json.md)."""
    run = edited.run
    return {
        "id": run.id,
        "fingerprint": run.fingerprint,
        "branch": run.branch,
        "commit": run.commit,
        "known": edited.known,
        "outcome": run.body["outcome"],
        "reason": dict(run.reason) if run.reason else None,
        "metrics": run.metrics,
        "primary": run.body.get("primary"),
        "champion": edited.champion.id if edited.champion else None,
        "comparison": edited.comparison.as_json() if edited.comparison else None,
    }


def _say(edited: Edited) -> None:
    from cd4ml.report.compare import diff_view
    from cd4ml.report.visible import plain_number

    run = edited.run
    if edited.known:
        say(f"already run as {run.id} for {run.branch}")
    if not run.succeeded:
        reason = run.reason or {}
        warn(f"failed at {reason.get('stage')}: {reason.get('message')} (`cd4ml show {run.id} --log`)")
    elif edited.comparison is not None:
        show(diff_view(edited.comparison))
    else:
        for side, values in run.metrics.items():
            say(f"{side}: " + ", ".join(f"{metric} {plain_number(value)}" for metric, value in values.items()))
        same = edited.champion is not None
        say("This is the champion." if same else "The base branch has no result to compare with.")


def update(
    context: typer.Context,
    branch: Annotated[
        str,
        typer.Argument(
            metavar="[BRANCH]", help="Branch to update (default: the current one).", autocompletion=complete_branch
        ),
    ] = "",
    push: Annotated[bool, typer.Option("--push", help="Push the branch.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Take the base branch in: merge what both ask for, value by value, and the other files as Git does.

    Where both changed one value, the branch's stays and is listed with both. Another branch than the current
    one is updated without touching the work tree.
    """
    from cd4ml.controller.editing.update import update_branch

    options: Context = context.obj
    project = options.project()
    done = update_branch(project, branch, push=push)
    if as_json:
        item = {"branch": done.branch, "commit": done.commit, "updated": done.updated, "pushed": done.pushed}
        print_json("updates", [{**item, "both_changed": [one.as_json() for one in done.both_changed]}])
        return
    if not done.updated:
        say(f"{done.branch}: {project.base} is taken in already")
        return
    for one in done.both_changed:
        say(f"{one.key}: {project.base} has {_value(one.theirs)}, {done.branch} keeps {_value(one.ours)}")
    say(f"{done.branch} is at {done.commit[:12]}, with {project.base} taken in")
    if project.has_remote and not done.pushed:
        say(f"Next: git push {project.remote} {done.branch} && cd4ml reconcile")


def _value(value: Any) -> str:
    """As JSON, so that the text ``1`` and the number 1 are told apart; a missing value is ``nothing``."""
    from cd4ml.spec.merge import ABSENT

    return "nothing" if value is ABSENT else json.dumps(value, ensure_ascii=False)
