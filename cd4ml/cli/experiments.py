"""Verbs that compare and change state: plan, reconcile, status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cd4ml.cli.complete import complete_branch
from cd4ml.cli.context import Context, JsonFlag, experiments_named, print_json, say, show, warn

if TYPE_CHECKING:
    from cd4ml.controller.reconciling.observe import Observation
    from cd4ml.controller.reconciling.reconcile import Request
    from cd4ml.plan.action import Plan, PlanItem

PENDING = 10
Branches = Annotated[
    list[str] | None,
    typer.Argument(metavar="[BRANCH]...", help="Only these (default: all).", autocompletion=complete_branch),
]
Retry = Annotated[bool, typer.Option("--retry", help="Run failed ones again.")]
RefreshEnv = Annotated[bool, typer.Option("--refresh-env", help="Run again what was run in another environment.")]
Publish = Annotated[bool, typer.Option("--publish", help="Record branches that are not pushed, too.")]


def register(app: typer.Typer) -> None:
    """Add this module's verbs."""
    app.command(epilog="Examples: cd4ml plan · cd4ml plan --exit-code · cd4ml plan exp/deeper --json")(plan)
    app.command(epilog="Examples: cd4ml reconcile · cd4ml reconcile exp/deeper --retry")(reconcile)
    app.command(epilog="Examples: cd4ml status · cd4ml status --json")(status)


def plan(
    context: typer.Context,
    branches: Branches = None,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit 10 when there is something to do.")] = False,
    retry: Retry = False,
    refresh_env: RefreshEnv = False,
    publish: Publish = False,
    as_json: JsonFlag = False,
) -> None:
    """Show what reconcile would do, and why. Changes nothing."""
    from cd4ml.controller.reconciling.reconcile import to_adopt
    from cd4ml.report.terminal import plan_view

    request = _request(context, branches, retry=retry, refresh_env=refresh_env, publish=publish)
    made, observation = _planned(context, request)
    drafts = to_adopt(context.obj.project(), observation, request)
    for line in observation.unreadable.values():  # such a branch has no actions, and is not done for that
        warn(line)
    if as_json:
        print_json("experiments", [item.as_json() for item in made.items], adopts=[run.id for run in drafts])
    else:
        show(plan_view(made))
        for run in drafts:
            say(f"{run.id}, a run of the work tree here, is landed first: what asks for the same is not run again")
    raise typer.Exit(PENDING if exit_code and not made.is_empty else 0)


def status(context: typer.Context, branches: Branches = None, as_json: JsonFlag = False) -> None:
    """Show how every experiment stands, and why."""
    from cd4ml.report.terminal import status_table

    made, observation = _planned(context, _request(context, None))
    wanted = experiments_named(context, branches)
    items = [item for item in made.items if wanted is None or item.branch in wanted]
    if as_json:
        print_json("experiments", [item.as_json() for item in items])
    else:
        show(status_table(items, observation.policy.evaluation.primary))


def reconcile(
    context: typer.Context,
    branches: Branches = None,
    jobs: Annotated[int | None, typer.Option("--jobs", "-j", min=1, help="Runs at the same time.")] = None,
    retry: Retry = False,
    refresh_env: RefreshEnv = False,
    publish: Publish = False,
    as_json: JsonFlag = False,
) -> None:
    """Run what the branches ask for and the index does not hold, and record it."""
    from cd4ml.cli.progress import watching
    from cd4ml.controller.reconciling.reconcile import reconcile as apply
    from cd4ml.report.terminal import status_table

    options: Context = context.obj
    project = options.project()
    request = _request(context, branches, retry=retry, refresh_env=refresh_env, publish=publish, jobs=jobs)
    with watching() as watch:
        outcome = apply(project, request, watch)
    for line in (*outcome.not_applied, *outcome.refused):
        warn(line)
    items = [item for item in outcome.plan.items if request.named is None or item.branch in request.named]
    if as_json:
        print_json(
            "experiments",
            [item.as_json() for item in items],
            ran=list(outcome.ran),
            not_applied=list(outcome.not_applied),
        )
    else:
        show(status_table(items, outcome.primary))
    raise typer.Exit(_exit_code(items, bool(outcome.not_applied), request.named is not None))


def _exit_code(items: list[PlanItem], not_applied: bool, named: bool) -> int:
    """1 when something is left to do that was asked for, or a branch that was named is Degraded."""
    from cd4ml.plan.state import Health

    degraded = named and any(item.health is Health.DEGRADED for item in items)
    return 1 if not_applied or degraded or any(item.actions for item in items) else 0


def _planned(context: typer.Context, request: Request) -> tuple[Plan, Observation]:
    from cd4ml.controller.landing import trust
    from cd4ml.controller.reconciling.observe import observe_state
    from cd4ml.controller.reconciling.reconcile import make_plan

    options: Context = context.obj
    project = options.project()
    observation = observe_state(project, trust.read(project))
    return make_plan(observation, request), observation


def _request(
    context: typer.Context,
    branches: list[str] | None,
    *,
    retry: bool = False,
    refresh_env: bool = False,
    publish: bool = False,
    jobs: int | None = None,
) -> Request:
    from cd4ml.controller.reconciling.reconcile import Request

    return Request(experiments_named(context, branches), retry, refresh_env, publish, jobs)
