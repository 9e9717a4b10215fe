"""Verbs that look after the index and the machine: restore, doctor."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from cd4ml.cli.complete import complete_branch
from cd4ml.cli.context import Context, JsonFlag, confirmed, print_json, say, show, warn

if TYPE_CHECKING:
    from cd4ml.controller.care.doctor import Finding
    from cd4ml.controller.care.restore import Restoration

_SHOWN = 12


def register(app: typer.Typer) -> None:
    """Add this module's verbs."""
    app.command(epilog="Examples: cd4ml restore --dry-run · cd4ml restore --yes")(restore)
    app.command(epilog="Examples: cd4ml doctor · cd4ml doctor --json")(doctor)
    app.command(epilog="Examples: cd4ml verify · cd4ml verify exp/deeper --quick · cd4ml verify --repair")(verify)


def restore(
    context: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; needed where there is no terminal.")] = False,
    accept: Annotated[
        bool, typer.Option("--accept", help="Take the remote's index for the right one, if it is sound by itself.")
    ] = False,
    with_erased: Annotated[
        bool, typer.Option("--with-erased", help="Put records back that were erased from the remote's index.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Put the index and landed records of the remote back, from what this clone remembers of them.

    For an index that was deleted, moved back, rewritten or forged, and landed records that were wiped. Records that
    prove themselves are kept, whichever history took them in. Landing refs that no fold will ever take are dropped.
    """
    from cd4ml.controller.care import restore as work

    options: Context = context.obj
    project = options.project()
    plan = work.plan_restore(project, accept=accept)
    if not as_json:
        for line in _told(plan):
            say(line)
    wanted = not (dry_run or plan.is_empty)
    if wanted and not yes:
        wanted = confirmed("Do this?", "nothing was done", "--yes (or --dry-run to look only)", shown=not as_json)
    done = work.restore(project, plan, with_erased=with_erased) if wanted else plan
    if as_json:
        print_json("restorations", [_as_json(done, done=wanted)])
    elif wanted:
        say("restored: `cd4ml reconcile` goes on from here")
    if not (wanted or dry_run or plan.is_empty):
        warn("nothing was done")
        raise typer.Exit(1)


def _told(plan: Restoration) -> list[str]:
    if plan.is_empty:
        if plan.index_from is None:
            return ["nothing to restore: the remote has no index, and this clone remembers none; another one may"]
        return ["nothing to restore: the index follows from what this clone remembers"]
    lines = list(plan.found)
    if plan.accepts:
        lines.append(f"accept  the index at {_short(plan.index_to)}")
    elif plan.moves_index:
        lines.append(f"move    the index from {_short(plan.index_from)} to {_short(plan.index_to)}")
    lines += _few(
        [f"return  record {one}, which was erased from the remote's index" for one in plan.returning], "return"
    )
    lines += _few([f"land    record {one.record} again, as {one.commit[:12]}" for one in plan.relanded], "land")
    lines += _few([f"drop    {one.path}: {one.why}" for one in plan.dropped], "drop")
    lines += [f"drop    {one.ref}: {one.why}" for one in plan.swept]  # each is named: it is gone then
    lines += _few(
        [f"leave   {one.branch}, which is gone from the remote, at {one.commit}" for one in plan.gone], "leave"
    )
    return [*lines, _BRINGS_BACK] if plan.gone else lines


_BRINGS_BACK = "        `git push origin COMMIT:refs/heads/BRANCH` brings back a branch that nobody meant to delete"


def _few(lines: list[str], what: str) -> list[str]:
    left = len(lines) - _SHOWN
    return lines if left <= 0 else [*lines[:_SHOWN], f"{what}    {left} more (--json lists them)"]


def _short(commit: str | None) -> str:
    return commit[:12] if commit else "nothing"


def _as_json(plan: Restoration, *, done: bool) -> dict[str, object]:
    updates = [asdict(update) for update in plan.updates]
    return {**asdict(plan), "done": done, "updates": updates}


def verify(
    context: typer.Context,
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN]...",
            help="Only these: run ids, fingerprints (or a prefix of them), branches.",
            autocompletion=complete_branch,
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Look at presence and sizes only, and do not download anything.")
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Fetch what can be fetched, and say what is lost for good.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Check that everything the index promises is there, and is what was written.

    Records, the chain of folds, Git's objects here and on the remote, DVC's objects in the cache and on the remote.
    Exit 0 when all is sound, 1 when something is at fault.
    """
    from cd4ml.cli.progress import saying
    from cd4ml.controller.care.verify import Scope
    from cd4ml.controller.care.verify import verify as check
    from cd4ml.report.findings import as_json as finding_as_json
    from cd4ml.report.findings import count_line, findings_view

    options: Context = context.obj
    project = options.project()
    scope = Scope(tuple(runs or ()), quick)
    done: tuple[str, ...] = ()
    lost = 0
    with saying() as watch:
        report = check(project, scope, watch)
        if repair and report.findings:
            from cd4ml.controller.care.repair import repair as mend

            repaired = mend(project, scope, report, watch)
            done, report, lost = repaired.done, repaired.report, len(repaired.lost)
    if as_json:
        counts = {"folds": report.folds, "records": report.records, "objects": report.objects}
        listed = [finding_as_json(finding) for finding in report.findings]
        print_json("faults", listed, sound=report.sound, checked=counts, repaired=list(done), lost=lost)
    else:
        for line in done:
            say(line)
        if report.findings:
            show(findings_view(report.findings))
        say(count_line(report.findings, report.folds, report.records, report.objects))
    raise typer.Exit(0 if report.sound else 1)


def doctor(context: typer.Context, as_json: JsonFlag = False) -> None:
    """Look at this machine, the remotes and the index for what stands in the way, and say how to mend it.

    Makes and deletes a few refs and an object on the remotes, to see that it may. Exit 1 when there is a problem.
    """
    from cd4ml.controller.care.doctor import Level, examine

    options: Context = context.obj
    found = examine(options.directory.resolve(), options.remote)
    if as_json:
        print_json("findings", [asdict(finding) for finding in found])
    else:
        for finding in found:
            for line in _lines(finding):
                say(line)
    raise typer.Exit(1 if any(finding.level is Level.PROBLEM for finding in found) else 0)


def _lines(finding: Finding) -> list[str]:
    said = " ".join(finding.message.split())
    cure = [f"{'':<8} {'':<14} → {finding.cure}"] if finding.cure else []
    return [f"{finding.level:<8} {finding.check:<14} {said}", *cure]
