"""The best runs as renderables for rich's console: one list for each thing that was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.console import Group, RenderableType
from rich.text import Text

from cd4ml.promotion.leaderboard import Board, BoardKey, Leaderboard, Place
from cd4ml.report.layout import Column, Row, branch_text, counted, listing, word
from cd4ml.report.visible import plain_number, visible

_DIGITS = 10


def leaderboard_view(board: Leaderboard, standings: Mapping[str, tuple[str, str]], limit: int) -> RenderableType:
    """Every list under what it is measured on, at most ``limit`` runs of each; ``standings`` are branch and
    lifecycle by run."""
    parts: list[RenderableType] = []
    if len(board.boards) > 1:
        lists = f"{counted(len(board.boards), 'list')}: each was measured otherwise, or on other rows, than the others."
        parts += [Text(lists), Text("Numbers of two lists do not compare."), Text()]
    for each in board.boards:
        parts += [*_heading(each), _table(each, standings, limit)]
        if len(each.places) > limit:
            parts.append(Text(f"{counted(len(each.places) - limit, 'more run')} (`--limit`)", style="dim"))
        parts.append(Text())
    if not board.boards:
        parts.append(Text("No run has a place."))
    if board.unranked:
        parts.append(Text(f"{counted(board.unranked, 'run')} without such a number, not ranked."))
    return Group(*parts)


def _heading(board: Board) -> Iterator[Text]:
    key = board.key
    way = "lower" if key.direction == "minimize" else "higher"
    runs = counted(len(board.places), "run")
    yield Text.assemble((f"{visible(key.metric)} on {key.side}", "bold"), f", {way} is better: {runs}", overflow="fold")
    sources = ", ".join(
        visible(name) + (f" ({counted(len(digests), 'version')})" if len(digests) > 1 else "")
        for name, digests in board.sources.items()
    )
    rows = "" if board.rows is None else f"{plain_number(board.rows)} "
    yield Text(f"{rows}rows {visible(key.rows[:_DIGITS])} of {sources}{_meaning(key)}", style="dim", overflow="fold")


def _meaning(key: BoardKey) -> str:
    parts = [
        *([f"target {key.target}"] if key.target else []),
        *([key.task] if key.task else []),
        *([f"positive {key.positive}"] if key.positive else []),
        *([f"own metric {key.own[:_DIGITS]}"] if key.own else []),
    ]
    return "".join(f", {visible(part)}" for part in parts)


def _table(board: Board, standings: Mapping[str, tuple[str, str]], limit: int) -> RenderableType:
    columns = [Column("Branch"), Column("#", "right"), Column("Value", "right"), Column("Run")]
    columns += [Column("Lifecycle"), Column("Again", "right")]
    places = enumerate(board.places[:limit], start=1)
    return listing(columns, [_row(number, place, standings) for number, place in places])


def _row(number: int, place: Place, standings: Mapping[str, tuple[str, str]]) -> Row:
    branch, lifecycle = standings[place.id]
    return Row(
        (
            branch_text(branch),
            Text(str(number)),
            Text(plain_number(place.value)),
            Text(visible(place.id[:_DIGITS])),
            word(lifecycle),
            Text(f"{place.replicates}×" if place.replicates else ""),
        )
    )
