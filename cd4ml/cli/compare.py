"""Verbs that hold runs against each other: diff, leaderboard, lineage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cd4ml.cli.complete import complete_branch
from cd4ml.cli.context import Context, JsonFlag, print_json, say, show, warn
from cd4ml.errors import UsageError

if TYPE_CHECKING:
    from cd4ml.controller.history.compare import Compared, Ranking
    from cd4ml.controller.history.lineage import Descent, Lineage, Look
    from cd4ml.index.lineage import ModelRun
    from cd4ml.promotion.leaderboard import Board

_SHOWN = 20
_TEST_SIDE = (
    "this is the test side: every choice that is made by looking at it costs some of its worth as a judge; "
    "choose by the validation side"
)


def register(app: typer.Typer) -> None:
    """Add this module's verbs."""
    app.command(epilog="Examples: cd4ml diff main exp/deeper · cd4ml diff main exp/deeper exp/wider --patch")(diff)
    app.command(
        name="leaderboard", epilog="Examples: cd4ml leaderboard · cd4ml leaderboard \"params.model.name = 'ridge'\""
    )(show_leaderboard)
    app.command(
        name="lineage",
        epilog="Examples: cd4ml lineage exp/deeper · cd4ml lineage 41d0c2aa · "
        "cd4ml lineage --row year=2013 --row month=1 --row day=1 --row flight=1545",
    )(show_lineage)


def diff(
    context: typer.Context,
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="A B [C …]",
            help="Runs (ids, prefixes of fingerprints, branches); the first is what the others are held against.",
            autocompletion=complete_branch,
        ),
    ],
    patch: Annotated[bool, typer.Option("--patch", "-p", help="Show what differs in the files that count.")] = False,
    name_only: Annotated[bool, typer.Option("--name-only", help="List only the files that count and differ.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Compare runs: metrics with their direction, configuration, data, environment, code."""
    from cd4ml.controller.history.compare import compare_named

    options: Context = context.obj
    compared = compare_named(options.project(), names, patch=patch)
    for line in (*compared.let_go, *compared.unread):
        warn(line)
    if as_json:
        _print_diff(compared)
    elif name_only:
        files = {change.path for one in compared.comparisons for change in one.code or ()}
        for path in sorted(files):
            say(path)
    else:
        _show_diff(compared, names)


def _print_diff(compared: Compared) -> None:
    patches = [
        {
            "champion": one.champion,
            "challenger": one.challenger,
            "text": one.text,
            "files_left_out": one.files_left_out,
            "lines_left_out": one.lines_left_out,
        }
        for one in compared.patches
    ]
    items = [one.as_json() for one in compared.comparisons]
    unread, let_go = list(compared.unread), list(compared.let_go)
    print_json("comparisons", items, table=compared.contrast.as_json(), patches=patches, unread=unread, let_go=let_go)


def _show_diff(compared: Compared, names: list[str]) -> None:
    from cd4ml.report.compare import contrast_view, diff_view, patch_view

    if len(names) == 2:
        show(diff_view(compared.comparisons[0]))
    else:
        show(contrast_view(compared.contrast, names), whole=True)
    for one, name in zip(compared.patches, names[1:], strict=False):
        say("")
        if len(names) > 2:
            say(f"{names[0]} → {name}")
        show(patch_view(one.text))
        if one.files_left_out or one.lines_left_out:
            say(f"cut: {one.files_left_out} more files, {one.lines_left_out} more lines")


def show_leaderboard(
    context: typer.Context,
    filter_text: Annotated[
        str, typer.Argument(metavar="[FILTER]", help="Which runs to rank; docs/search.md has the language.")
    ] = "",
    metric: Annotated[str, typer.Option(help="Rank by this metric (default: each run's primary one).")] = "",
    side: Annotated[str, typer.Option(help="validation, or test, which costs: see docs/compare.md.")] = "validation",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many runs of each list.")] = 10,
    as_json: JsonFlag = False,
) -> None:
    """Rank results by what they were measured by: one list for each metric and each set of rows."""
    from cd4ml.controller.history.compare import rank_runs
    from cd4ml.report.leaderboard import leaderboard_view

    if side not in ("validation", "test"):
        raise UsageError(f"--side {side}: is neither validation nor test")
    options: Context = context.obj
    chosen: Any = side
    ranking = rank_runs(options.project(), filter_text, side=chosen, metric=metric, limit=limit)
    if ranking.stale:
        warn(ranking.stale)
    if side == "test":
        warn(_TEST_SIDE)
    if as_json:
        boards = [_board(one, ranking, limit) for one in ranking.board.boards]
        print_json("leaderboards", boards, unranked=ranking.board.unranked)
    else:
        standings = {run: (one.branch, one.lifecycle) for run, one in ranking.standings.items()}
        show(leaderboard_view(ranking.board, standings, limit))


def _board(board: Board, ranking: Ranking, limit: int) -> dict[str, Any]:
    key = board.key
    return {
        "metric": key.metric,
        "direction": key.direction,
        "side": key.side,
        "rows": {"digest": key.rows, "count": board.rows},
        "task": key.task,
        "target": key.target,
        "positive": key.positive,
        "own": key.own,
        "sources": {name: list(digests) for name, digests in board.sources.items()},
        "ranked": len(board.places),
        "runs": [
            {
                "rank": number,
                "id": place.id,
                "fingerprint": place.fingerprint,
                "branch": ranking.standings[place.id].branch,
                "branches": list(ranking.standings[place.id].branches),
                "commit": place.commit,
                "lifecycle": ranking.standings[place.id].lifecycle,
                "value": place.value,
                "replicates": place.replicates,
                "model_digest": place.model_digest,
            }
            for number, place in enumerate(board.places[:limit], start=1)
        ],
    }


def show_lineage(
    context: typer.Context,
    target: Annotated[
        str,
        typer.Argument(
            metavar="[TARGET]",
            help="A run, a digest of data, table, side, model or file (8 digits or more), or a commit.",
            autocompletion=complete_branch,
        ),
    ] = "",
    row: Annotated[
        list[str] | None,
        typer.Option("--row", metavar="COLUMN=VALUE", help="Say which models were trained on the row with this value."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, help="At most so many runs (default: 20; of --json all).")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show where a model, a table or a file comes from and what became of it; or find the models of a row."""
    from cd4ml.controller.history.lineage import find_row, lineage, row_key

    options: Context = context.obj
    if row:
        looks = find_row(options.project(), row_key(row), target)
        if as_json:
            print_json("models", [_found(one, run) for one in looks for run in one.runs])
        else:
            _show_rows(looks)
        return
    if not target:
        raise UsageError("lineage needs a TARGET, or a row (`--row COLUMN=VALUE`)")
    found = lineage(options.project(), target, limit=limit or (None if as_json else _SHOWN))
    if found.stale:
        warn(found.stale)
    if as_json:
        print_json("lineages", [_lineage(found)])
    else:
        _show_lineage(found)


def _found(look: Look, run: ModelRun) -> dict[str, Any]:
    return {
        "run": run.id,
        "fingerprint": run.fingerprint,
        "branch": run.branch,
        "model_digest": run.model_digest,
        "side": look.side,
        "rows": dict(look.sides) if look.sides is not None else None,
        "unknown": look.unknown or None,
        "let_go": look.let_go.get(run.id),
    }


def _show_rows(looks: tuple[Look, ...]) -> None:
    from cd4ml.report.lineage import rows_view

    let_go = {run: told for one in looks for run, told in one.let_go.items()}
    show(rows_view([(one.side, one.sides, one.unknown, one.runs) for one in looks], let_go))


def _lineage(found: Lineage) -> dict[str, Any]:
    relations = {link.run.run.id: link for link in found.trace.links}
    return {
        "digest": found.trace.digest,
        "what": list(found.trace.what),
        "runs": [_descent(one, relations[one.entry.run.id].relation) for one in found.runs],
        "left_out": found.left_out,
    }


def _descent(one: Descent, relation: str) -> dict[str, Any]:
    run = one.entry.run
    body = run.body
    made = {"table": body["table"]["digest"], "model": body["model"]["digest"]} if run.succeeded else {}
    return {
        "id": run.id,
        "fingerprint": run.fingerprint,
        "branch": run.branch,
        "outcome": body["outcome"],
        "role": one.role,
        "relation": relation,
        "from": {
            "data": [_source(name, pin, one) for name, pin in body["data"].items()],
            "commit": run.commit,
            "components": dict(run.components),
            "environment": {"python": body["environment"]["python"], "packages": body["environment"]["packages"]},
            "judge": body.get("judge"),
        },
        "made": {"result_commit": one.entry.entry.result_commit, "table": None, "model": None, **made},
        "split": {side: {"digest": part["digest"], "rows": part["rows"]} for side, part in body["split"].items()},
        "answers": [{"branch": each.branch, "commit": each.commit, "side": each.side} for each in one.answers],
        "let_go": one.let_go or None,
    }


def _source(name: str, recorded: dict[str, Any], one: Descent) -> dict[str, Any]:
    from cd4ml.spec.secrets import redacted

    pin = one.pins.get(name)
    return {
        "source": name,
        "digest": recorded["digest"],
        "rows": recorded["rows"],
        "location": redacted(pin.location) if pin else None,
        "fetched": pin.fetched if pin else None,
        "raw_sha256": pin.raw_sha256 if pin else None,
        "raw_md5": pin.raw_md5 if pin else None,
    }


def _show_lineage(found: Lineage) -> None:
    from cd4ml.report.lineage import heading, run_tree

    if found.trace.what != ("run",):
        show(heading(found.trace.digest, found.trace.what, len(found.runs), found.left_out))
    relations = {link.run.run.id: link.relation for link in found.trace.links}
    for one in found.runs:
        relation = relations[one.entry.run.id]
        show(
            run_tree(
                one.entry.run,
                relation=relation,
                role=one.role,
                result_commit=one.entry.entry.result_commit,
                pins=one.pins,
                answers=one.answers,
                let_go=one.let_go,
                whole=relation != "used",
            )
        )
    if found.left_out:
        say(f"{found.left_out} earlier runs (`--limit`)")
