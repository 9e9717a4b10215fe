"""The first page of the index branch, as a forge shows it: the best runs and the newest, with links to records."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from cd4ml.report.visible import visible

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 -/,;()")
_LONGEST = 80


def index_page(summary: Mapping[str, Any]) -> str:
    """Markdown of a summary (``promotion.summary``). Nothing that a record says is markup in it."""
    return "\n".join([*_head(summary), *_boards(summary), *_latest(summary)]) + "\n"


def cell(text: str) -> str:
    """A text as Markdown that shows just this text, wherever it stands in a line of a table."""
    shown = visible(text)
    shown = shown if len(shown) <= _LONGEST else shown[: _LONGEST - 1] + "…"
    return "".join(char if char in _PLAIN or ord(char) > 127 else f"&#{ord(char)};" for char in shown)


def _head(summary: Mapping[str, Any]) -> Iterator[str]:
    records, outcomes = summary["records"], summary["outcomes"]
    yield "# Index of experiments"
    yield ""
    yield "Every run of this repository, also those of deleted branches. `cd4ml reconcile` writes this branch, one"
    yield "commit a fold, and it only grows: please do not change it by hand."
    yield ""
    others = [f"{records[kind]:,} {words[records[kind] != 1]}" for kind, words in _OTHERS.items() if kind in records]
    yield (
        f"{records.get('run', 0):,} runs ({outcomes.get('succeeded', 0):,} succeeded, {outcomes.get('failed', 0):,} "
        f"failed){''.join(f', {one}' for one in others)} in {summary['folds']:,} folds."
    )
    yield ""
    yield f"Ask it: `cd4ml search \"{_question(summary)} and lifecycle = 'discarded'\"`, `cd4ml leaderboard`,"
    yield "`cd4ml show RUN`."


_OTHERS: Mapping[str, tuple[str, str]] = {
    "experiment": ("experiment record", "experiment records"),
    "import": ("imported run", "imported runs"),
    "removal": ("note of what was erased or let go", "notes of what was erased or let go"),
}
"""Kinds of records beside runs, of one and of several."""


def _question(summary: Mapping[str, Any]) -> str:
    """A filter that the worst of the listed best runs passes; of a metric whose name needs no care."""
    for board in summary["boards"]:
        key = board["key"]
        if board["best"] and _NAME.fullmatch(key["metric"]):
            sign = "<=" if key["direction"] == "minimize" else ">="
            return f"metrics.{key['metric']} {sign} {_number(board['best'][-1]['value'])}"
    return "metrics.rmse < 12"


_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")


def _boards(summary: Mapping[str, Any]) -> Iterator[str]:
    for board in summary["boards"]:
        key = board["key"]
        way = "lower" if key["direction"] == "minimize" else "higher"
        yield ""
        yield f"## {cell(key['metric'])}, {way} is better"
        yield ""
        rows = f"{board['rows']:,} rows" if isinstance(board["rows"], int) else "rows"
        yield f"On the {cell(key['side'])} side, {rows} (`{str(key['rows'])[:12]}`), target {cell(key['target'])}; "
        yield f"{board['runs']:,} results."
        yield ""
        yield f"| | {cell(key['metric'])} | branch | experiment | run | finished |"
        yield "|---:|---:|---|---|---|---|"
        for number, place in enumerate(board["best"], 1):
            cells = (str(number), _number(place["value"]), cell(place["branch"]), cell(place["name"]))
            yield _row(*cells, _link(place), cell(place["finished"][:10]))


def _latest(summary: Mapping[str, Any]) -> Iterator[str]:
    if not summary["latest"]:
        return
    yield ""
    yield "## Newest runs"
    yield ""
    yield "| run | branch | experiment | outcome | validation | finished |"
    yield "|---|---|---|---|---:|---|"
    for brief in summary["latest"]:
        failed = f"failed at {brief['reason']}" if brief["reason"] else "failed"
        outcome = brief["outcome"] if brief["outcome"] == "succeeded" else failed
        value = f"{cell(brief['metric'])} {_number(brief['value'])}" if brief["value"] is not None else "–"
        cells = (_link(brief), cell(brief["branch"]), cell(brief["name"]), cell(outcome), value)
        yield _row(*cells, cell(brief["finished"][:10]))


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _link(brief: Mapping[str, Any]) -> str:
    """To the record on the same branch: both names are hex digits, checked by the fold."""
    run, fingerprint = brief["run"], brief["fingerprint"]
    return f"[`{run[:11]}`](runs/{fingerprint[:2]}/{fingerprint}-{run}.json)"


def _number(value: float) -> str:
    return f"{value:.6g}"
