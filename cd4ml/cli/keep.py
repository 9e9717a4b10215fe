"""Verbs that let go: gc, forget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cd4ml.cli.complete import complete_branch
from cd4ml.cli.context import Context, JsonFlag, confirmed, print_json, say, show, warn
from cd4ml.errors import UsageError

if TYPE_CHECKING:
    from cd4ml.controller.care.erase import Doomed, Forgotten
    from cd4ml.controller.care.keep import Done, Look, Options
    from cd4ml.index.retention import Freed, Stored, Where

_MOST_NAMED = 8

YesFlag = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def register(app: typer.Typer) -> None:
    """Add this module's verbs."""
    app.command(epilog="Examples: cd4ml gc · cd4ml gc --apply · cd4ml gc --local --all-unknown --apply --yes")(gc)
    app.command(epilog='Example: cd4ml forget exp/deeper --reason "Erasure request 12" --all-runs-of-data')(forget)


def gc(
    context: typer.Context,
    apply: Annotated[bool, typer.Option("--apply", help="Free them. Without it, they are only shown.")] = False,
    local: Annotated[bool, typer.Option("--local", help="Only in the DVC cache of this clone.")] = False,
    remote: Annotated[bool, typer.Option("--remote", help="Only on the DVC remote.")] = False,
    all_unknown: Annotated[
        bool,
        typer.Option("--all-unknown", help="Also objects that no record names; another project may use the remote."),
    ] = False,
    yes: YesFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Free stored objects that no live branch, release or kept run needs, as the rules of the base branch allow.

    What is let go by a rule (`index.let_go`) keeps its record, which says so; raw data always stay.
    """
    from cd4ml.controller.care.keep import Options, collect, plan_collection

    options: Context = context.obj
    project = options.project()
    places: tuple[Where, ...] = ("local",) if local and not remote else ("remote",) if remote and not local else ()
    wanted = Options(places, places if all_unknown else ()) if places else _everywhere(all_unknown)
    look = plan_collection(project, wanted)
    if not as_json:
        _show_plan(look)
    nothing = not (look.sweep.free or look.sweep.let_go)
    go = apply and (nothing or yes or confirmed("Free them?", "nothing was freed", shown=not as_json))
    done = collect(project, look, wanted) if go else None
    if as_json:
        print_json("objects", [_object(one) for one in look.sweep.free], **_more(look, done))
    elif done is not None:
        _say_done(done)
    elif not nothing:
        say("nothing was changed: `cd4ml gc --apply` frees them")


def _everywhere(all_unknown: bool) -> Options:
    from cd4ml.controller.care.keep import PLACES, Options

    return Options(PLACES, PLACES if all_unknown else ())


def _show_plan(look: Look) -> None:
    from cd4ml.controller.care.keep import erased_runs
    from cd4ml.report.keeping import freed_table, kept_line, let_go_table, totals

    planned = look.sweep
    if planned.let_go:
        show(let_go_table(planned.let_go))
    if planned.free:
        show(freed_table(planned.free))
    say(f"to free now: {totals(planned.free)}")
    if planned.let_go:
        say("with the records of what is let go, their objects go too, unless they are young")
    kept = (
        kept_line("are known to no record and stay: --all-unknown frees them", planned.unknown),
        kept_line("are too young to go", planned.young),
    )
    for line in filter(None, kept):
        say(line)
    if planned.erased:
        runs = erased_runs(look)
        shown = ", ".join(runs[:_MOST_NAMED]) + (f" and {len(runs) - _MOST_NAMED} more" if runs[_MOST_NAMED:] else "")
        say(
            kept_line(
                "are of runs that others erased, as records say, and stay while branches, tags or pins ask for them",
                planned.erased,
            )
        )
        say(f"`cd4ml forget RUN` erases those, too, here and on the DVC remote: {shown}")


def _say_done(done: Done) -> None:
    from cd4ml.report.keeping import totals

    for run, record in done.recorded.items():
        say(f"{run}: its artefacts were let go, as {record} says")
    say(f"freed: {totals(done.freed)}")
    for name in done.restored:
        say(f"{name}: put back, since a run that landed in the meantime needs it")
    for line in done.waiting:
        warn(line)


def _object(one: Freed) -> dict[str, Any]:
    stored = one.stored
    return {"where": stored.where, "md5": stored.md5, "bytes": stored.bytes, "runs": list(one.runs), "why": one.why}


def _more(look: Look, done: Done | None) -> dict[str, Any]:
    from cd4ml.controller.care.keep import erased_runs

    planned = look.sweep
    return {
        "let_go": [
            {"run": one.run, "rule": one.rule, "objects": len(one.objects), "bytes": sum(one.objects.values())}
            for one in planned.let_go
        ],
        "unknown": _counted(planned.unknown),
        "young": _counted(planned.young),
        "erased": {**_counted(planned.erased), "runs": list(erased_runs(look))},
        "applied": done is not None,
        "recorded": dict(done.recorded) if done else {},
        "freed": [_object(one) for one in done.freed] if done else [],
        "restored": list(done.restored) if done else [],
        "waiting": list(done.waiting) if done else [],
    }


def _counted(stored: tuple[Stored, ...]) -> dict[str, int]:
    return {"objects": len(stored), "bytes": sum(one.bytes for one in stored)}


def forget(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            metavar="RUN", help="A run id, a prefix of a fingerprint, or a branch.", autocompletion=complete_branch
        ),
    ],
    reason: Annotated[str, typer.Option("--reason", help="Why, in one line; it is kept in the index.")],
    all_runs_of_data: Annotated[
        bool, typer.Option("--all-runs-of-data", help="Erase its data, and every run that was made from them.")
    ] = False,
    keep_data: Annotated[
        bool,
        typer.Option("--keep-data", help="Erase only what was learnt: model, predictions, what no other run needs."),
    ] = False,
    purge: Annotated[
        bool,
        typer.Option("--purge", help="Take the records out of the history of the index, as a new signed epoch."),
    ] = False,
    yes: YesFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Erase a run's models and data, in the cache and on the DVC remote, for good; a tombstone stays in the index."""
    from cd4ml.controller.care.erase import check_reason, erase, plan_erasure

    if all_runs_of_data and keep_data:
        raise UsageError("--all-runs-of-data and --keep-data exclude each other")
    check_reason(reason)
    options: Context = context.obj
    project = options.project()
    doomed = plan_erasure(project, name, keep_data=keep_data, all_runs_of_data=all_runs_of_data, purge=purge)
    if not as_json:
        _show_erasure(doomed)
    if not (yes or confirmed("Erase them for good?", "nothing was erased", shown=not as_json)):
        raise UsageError("nothing was erased: this cannot be undone, so it wants a yes (or --yes)")
    done = erase(project, doomed, reason, purge=purge)
    if as_json:
        print_json("removals", _removals(doomed, done), **_left(doomed, done))
    else:
        _say_forgotten(doomed, done)


def _show_erasure(doomed: Doomed) -> None:
    from cd4ml.report.keeping import size_text

    if doomed.imported is not None:
        say(f"imported run {doomed.imported.id} ({doomed.imported.name}): nothing of it is stored but its record")
        return
    needed_by = {one.run: one.needed_by for one in doomed.found.inventory.holdings}
    known = {one.run.id: one for one in doomed.runs}
    for name in doomed.erasure.runs:
        if name not in known:
            say(f"run {name}: its record is out of the index already; what is still stored of it goes")
            continue
        run = known[name]
        with_model = run.run.id in doomed.erasure.with_model
        why = (
            " (the very same model)"
            if with_model
            else " (the same data)"
            if run.run.id != doomed.erasure.runs[0]
            else ""
        )
        needed = f"; {needed_by[run.run.id]}" if needed_by.get(run.run.id) else ""
        say(f"run {run.run.id} of {run.run.branch}{why}{needed}")
    say(f"{len(doomed.bytes)} objects, {size_text(sum(doomed.bytes.values()))}, here and on the DVC remote")
    for path in doomed.in_git:
        say(f"{path}: Git holds these data as well, and stays as it is")
    for branch in doomed.pinned_by:
        say(f"{branch} pins data that go")
    others = set(doomed.erasure.with_data).difference(doomed.erasure.runs)
    if others and not doomed.erasure.raw:
        say(f"the data stay: {len(others)} other runs were made from them")


def _removals(doomed: Doomed, done: Forgotten) -> list[dict[str, Any]]:
    return [{"run": run, "record": done.tombstones.get(run)} for run in _ids(doomed)]


def _ids(doomed: Doomed) -> list[str]:
    return [doomed.imported.id] if doomed.imported else list(doomed.erasure.runs)


def _left(doomed: Doomed, done: Forgotten) -> dict[str, Any]:
    return {
        "objects": len(doomed.bytes),
        "bytes": sum(doomed.bytes.values()),
        "deleted": done.deleted,
        "epoch": done.epoch or None,
        "held_by": list(done.held_by),
        "pinned_by": list(doomed.pinned_by),
        "in_git": list(doomed.in_git),
        "files": list(done.files),
        "late": list(done.late),
        "reports": done.reports,
        "reports_left": list(done.reports_left),
    }


def _say_forgotten(doomed: Doomed, done: Forgotten) -> None:
    for run, record in done.tombstones.items():
        say(f"{run}: erased, as {record} says")
    if doomed.imported is None:
        say(f"{done.deleted} stored objects were deleted")
    elif not done.epoch:
        say("its record stays in the history of the index, as it was imported: --purge takes it out")
    if done.reports:
        say(f"{done.reports} report{'s' * (done.reports != 1)} under refs/cd4ml/reports/ told of it, and went")
    _say_left(doomed, done)
    if done.epoch:
        say(f"the index begins a new epoch at {done.epoch[:12]}")
    if done.epoch or doomed.is_purged:
        _say_held(done)


def _say_left(doomed: Doomed, done: Forgotten) -> None:
    """What of it is left elsewhere, for a person to see to."""
    if elsewhere := len(doomed.found.observation.elsewhere):
        warn(
            f"{elsewhere} run{'s are' if elsewhere != 1 else ' is'} in progress elsewhere: "
            "ask again when they have ended, since what they read may be what was erased"
        )
    for ref in done.reports_left:
        warn(f"{ref}: a report there may tell of it, and could not be read or dropped")
    for run in done.late:
        warn(f"{run}: landed meanwhile, and has what was erased: forget it as well")
    for branch in doomed.pinned_by:
        say(f"{branch} pins data that are gone: it wants other data, and another pin (`cd4ml data update`)")
    for path in doomed.in_git:
        say(
            f"{path}: Git still holds the data that were erased, in the history of the branches and of the runs that "
            "the index keeps: nothing here takes them out of it"
        )
    for path in done.files:
        say(f"{path}: holds erased bytes; the work tree is yours to clear")
    if doomed.erasure.objects:
        say("other clones may have copies in their caches: `cd4ml forget RUN` erases them there, too")


def _say_held(done: Forgotten) -> None:
    for ref in done.held_by:
        say(f"{ref}: still holds an erased commit")
    if done.held_by:
        say("delete these refs (`git update-ref -d REF`, `git push REMOTE :REF`), here and in every clone")
    say(
        "objects that no ref holds go with `git fetch --all`, `git reflog expire --expire=now --all` and "
        "`git gc --prune=now`, here and in every clone; a forge keeps them until its support removes them"
    )
