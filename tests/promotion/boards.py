"""The lists of runs, from whole records."""

from __future__ import annotations

from collections.abc import Iterable

from cd4ml.index.history import RunEntry
from cd4ml.promotion.leaderboard import BoardSide, Candidate, Leaderboard, measured_of, ranked, value_of


def leaderboard(runs: Iterable[RunEntry], side: BoardSide = "validation", metric: str = "") -> Leaderboard:
    """The lists of these runs, of which those of a fingerprint come in fold order."""
    return ranked(_candidate(one, side, metric) for one in runs if one.run.succeeded)


def _candidate(entry: RunEntry, side: BoardSide, metric: str) -> Candidate:
    run = entry.run
    measured = measured_of(run, side, metric)
    value = value_of(run, side, measured.key.metric) if measured else None
    model = run.body["model"]["digest"]
    return Candidate(run.id, run.fingerprint, run.branch, run.commit, model, entry.entry.order, measured, value)
