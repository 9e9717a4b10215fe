"""The index in short: what its first page shows, kept current by each fold at a cost that follows the fold.

A summary is a pure function of the entries in fold order, and of a fixed size however many there are: counts, the
newest runs, and the best of the lists that were added to last. It lies beside the entries as ``summary.json``, so
that a fold reads it instead of all that came before. It can be made anew from the entries at any time.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from cd4ml.errors import IntegrityError
from cd4ml.index.record import Entry, RemovalRecord, RunRecord

if TYPE_CHECKING:
    from cd4ml.promotion.leaderboard import BoardKey

SUMMARY_FILE = "summary.json"
PAGE_FILE = "README.md"
DERIVED_FILES = (SUMMARY_FILE, PAGE_FILE)
"""What the index branch holds beside its entries; made from them."""

MOST_LATEST = 20
MOST_BOARDS = 8
MOST_PLACES = 10

Summary = Mapping[str, Any]
"""``schema``, ``epoch``, ``folds``, ``records`` and ``outcomes`` (counts), ``latest`` (runs, newest first) and
``boards`` (the one added to last first; each with its ``key``, ``rows``, ``runs``, ``fold`` and ``best``)."""


def empty(epoch: int = 1) -> Summary:
    """Of an index that holds nothing."""
    return {"schema": 1, "epoch": epoch, "folds": 0, "records": {}, "outcomes": {}, "latest": [], "boards": []}


def grown(summary: Summary, entries: Iterable[Entry], answered: frozenset[str]) -> Summary:
    """The summary after a fold of these entries, given in fold order.

    ``answered`` are the fingerprints that an earlier fold has a success of: a further one is no result.
    """
    value = json.loads(json.dumps(summary))
    seen = set(answered)
    for entry in entries:
        record = entry.record
        value["folds"] = max(value["folds"], entry.fold)
        _count(value["records"], str(record.body["kind"]))
        if isinstance(record, RemovalRecord) and record.what == "run":
            _erase(value, record.run)
        if not isinstance(record, RunRecord):
            continue
        _count(value["outcomes"], str(record.body["outcome"]))
        value["latest"] = [_brief(entry, record), *value["latest"]][:MOST_LATEST]
        if record.succeeded and record.fingerprint not in seen:
            seen.add(record.fingerprint)
            _rank(value, entry, record)
    return value  # type: ignore[no-any-return]  # what json.loads gives


def summary_of(entries: Iterable[Entry], epoch: int = 1) -> Summary:
    """The summary of a whole index, made anew from its entries, given in any order."""
    ordered = sorted(entries, key=lambda entry: entry.order)
    return grown(empty(epoch), ordered, frozenset())


def encode_summary(summary: Summary) -> bytes:
    """The bytes of ``summary.json``."""
    return (json.dumps(summary, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()


def parse_summary(data: bytes) -> Summary:
    """What ``summary.json`` holds. Raises IntegrityError when it is not of the form that a fold relies on."""
    try:
        value = json.loads(data)
        sound = (
            value["schema"] == 1
            and all(isinstance(value[name], int) and value[name] >= 0 for name in ("epoch", "folds"))
            and all(isinstance(value[name], dict) for name in ("records", "outcomes"))
            and all(isinstance(value[name], list) for name in ("latest", "boards"))
            and encode_summary(grown(value, (), frozenset())) == data
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        sound = False
    if not sound:
        raise IntegrityError(f"{SUMMARY_FILE}: is not what a fold writes")
    return value  # type: ignore[no-any-return]  # what json.loads gives


def _count(counts: dict[str, int], name: str) -> None:
    counts[name] = counts.get(name, 0) + 1


def _brief(entry: Entry, run: RunRecord) -> dict[str, Any]:
    from cd4ml.promotion.leaderboard import value_of  # a reader asks for the name of the file alone

    primary = (run.body.get("primary") or {}).get("metric") or ""
    return {
        "run": run.id,
        "fingerprint": run.fingerprint,
        "branch": run.branch,
        "name": str(run.body["name"]),
        "outcome": str(run.body["outcome"]),
        "reason": str((run.reason or {}).get("stage") or ""),
        "metric": str(primary),
        "value": value_of(run, "validation", str(primary)),
        "finished": str(run.body["finished"]),
        "fold": entry.fold,
    }


def _rank(value: dict[str, Any], entry: Entry, run: RunRecord) -> None:
    """Give a result its place on its list, which moves to the front."""
    from cd4ml.promotion.leaderboard import key_of

    key = key_of(run)
    if key is None:
        return
    told = asdict(key)
    board = next((board for board in value["boards"] if board["key"] == told), None)
    if board is None:
        rows = (run.body["split"].get(key.side) or {}).get("rows")
        board = {"key": told, "rows": rows, "runs": 0, "fold": entry.fold, "best": []}
    board["runs"] += 1
    board["fold"] = entry.fold
    places = [*board["best"], _brief(entry, run)]
    board["best"] = sorted(places, key=lambda place: _rank_of(key, place))[:MOST_PLACES]
    value["boards"] = [board, *(other for other in value["boards"] if other["key"] != told)][:MOST_BOARDS]


def _rank_of(key: BoardKey, place: Mapping[str, Any]) -> tuple[float, int, str]:
    sign = 1 if key.direction == "minimize" else -1
    return (sign * place["value"], place["fold"], place["run"])


def _erase(value: dict[str, Any], run: str) -> None:
    value["latest"] = [brief for brief in value["latest"] if brief["run"] != run]
    for board in value["boards"]:
        kept = [place for place in board["best"] if place["run"] != run]
        board["runs"] -= len(board["best"]) - len(
            kept
        )  # of a run below the best nobody knows here which list it was on
        board["best"] = kept
    value["boards"] = [board for board in value["boards"] if board["runs"]]
