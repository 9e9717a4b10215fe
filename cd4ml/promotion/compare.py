"""Two run records side by side: metrics, configuration, data, environment, and a verdict in one word.

The verdict says what the numbers on the test side say and no more: whether a difference is larger than
chance is another question, so the word for a difference is "change".
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from cd4ml.index.record import RunRecord
from cd4ml.promotion.configuration import ConfigChange, config_changes
from cd4ml.promotion.inputs import (
    DataChange,
    FileChange,
    LinesChanged,
    PackageChange,
    Source,
    data_changes,
    file_changes,
    package_changes,
)
from cd4ml.spec.experiment import Direction
from cd4ml.spec.metrics import DIRECTIONS

Judgement = Literal["better", "worse", "equal", "unknown"]
Verdict = Literal["better", "worse", "no difference", "not comparable"]

RULER = "test"
"""The side whose primary metric decides."""

_SIDE_ORDER = ("train", "validation", "test")


@dataclass(frozen=True)
class MetricChange:
    """One metric on one side. ``change`` is challenger minus champion in the metric's own units, ``relative``
    the same over the champion's absolute value (a fraction). Nothing where a value is missing, not a finite
    number, or the champion's is 0. ``judgement`` is by ``direction``, and "unknown" where that or a value is missing,
    or the two were measured on different rows.
    ``direction`` is cd4ml's, or of a metric of the project's own the champion's.
    """

    side: str
    metric: str
    champion: float | None
    challenger: float | None
    change: float | None
    relative: float | None
    direction: Direction | None
    judgement: Judgement


@dataclass(frozen=True)
class SliceChange:
    """The primary metric on one side for the rows in which ``column`` has a value; both runs have it."""

    column: str
    value: str
    side: str
    metric: str
    champion: float
    challenger: float
    change: float | None
    judgement: Judgement


@dataclass(frozen=True)
class Comparison:
    """What differs between two runs. ``reason`` explains the verdict in one line.

    ``moved`` names the components of the fingerprint that differ. ``min_improvement`` is in units of ``primary``.
    ``test_rows`` are the digests of the rows on the two test sides, nothing where a record does not say them.
    ``code`` are the files that count and differ; nothing where a commit can no longer be read, or none was asked.
    """

    champion: str
    challenger: str
    primary: str
    min_improvement: float
    verdict: Verdict
    reason: str
    metrics: tuple[MetricChange, ...]
    config: tuple[ConfigChange, ...]
    data: tuple[DataChange, ...]
    environment: tuple[PackageChange, ...]
    moved: tuple[str, ...]
    slices: tuple[SliceChange, ...] = ()
    test_rows: tuple[str | None, str | None] = (None, None)
    code: tuple[FileChange, ...] | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values; tuples become lists."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain


def compare(
    champion: RunRecord,
    challenger: RunRecord,
    min_improvement: float = 0.0,
    sources: tuple[Source, Source] | None = None,
    lines: LinesChanged | None = None,
) -> Comparison:
    """The challenger against the champion.

    The primary metric is the one that the champion was declared with. The challenger is better when it gains
    something, and at least ``min_improvement`` (in the metric's units), on the test side. Runs that were measured
    on different test sides, or failed, or lack the metric, are not comparable. ``sources`` is what the commits of
    the two hold, ``lines`` how many lines each file gained and lost.
    """
    known = sources or (Source(), Source())
    read = all(one.files is not None for one in known)
    primary = _primary(champion) or _primary(challenger)
    metrics = tuple(_metric_changes(champion, challenger))
    slices = tuple(_slice_changes(champion, challenger, primary))
    verdict, reason = _verdict(champion, challenger, primary, metrics, min_improvement)
    if _ruler(champion, challenger):  # of values on other rows, none is better
        metrics = tuple(replace(one, judgement="unknown") for one in metrics)
        slices = tuple(replace(one, judgement="unknown") for one in slices)
    return Comparison(
        champion=champion.id,
        challenger=challenger.id,
        primary=primary,
        min_improvement=min_improvement,
        verdict=verdict,
        reason=reason,
        metrics=metrics,
        config=tuple(config_changes(champion.params, challenger.params)),
        data=tuple(data_changes(champion.body, challenger.body, known)),
        environment=tuple(package_changes(champion.body, challenger.body, known)),
        moved=_moved(champion.components, challenger.components),
        slices=slices,
        test_rows=(side_digest(champion, RULER), side_digest(challenger, RULER)),
        code=tuple(file_changes(known, lines or {})) if read else None,
    )


def _primary(run: RunRecord) -> str:
    return str((run.body.get("primary") or {}).get("metric") or "")


def _moved(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(name for name in ("spec", "code", "data", "pipeline", "env") if old.get(name) != new.get(name))


# ── verdict ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _verdict(
    champion: RunRecord,
    challenger: RunRecord,
    primary: str,
    metrics: tuple[MetricChange, ...],
    min_improvement: float,
) -> tuple[Verdict, str]:
    hindrance = (
        _failure("champion", champion)
        or _failure("challenger", challenger)
        or _ruler(champion, challenger)
        or _meaning(champion, challenger, primary)
    )
    if hindrance:
        return "not comparable", hindrance
    if not primary:
        return "not comparable", "no primary metric is declared"
    row = next((row for row in metrics if row.side == RULER and row.metric == primary), None)
    if row is None or row.judgement == "unknown":
        return "not comparable", f"{primary} on the {RULER} side is {_lack(row)}"
    return _measured(row, min_improvement)


def _measured(row: MetricChange, min_improvement: float) -> tuple[Verdict, str]:
    what = f"{row.metric} on the {RULER} side"
    if row.judgement == "worse":
        return "worse", f"{what} is worse"
    if row.judgement == "equal":
        return "no difference", f"{what} is equal"
    # Written so that a limit that is not a number passes nothing.
    if row.change is not None and abs(row.change) >= min_improvement:
        return "better", f"{what} is better"
    return "no difference", f"{what} is better by less than the {min_improvement:g} asked for"


def _failure(role: str, run: RunRecord) -> str:
    if run.succeeded:
        return ""
    why = run.reason or {}
    message = " ".join(str(why.get("message", "no message")).split())
    return f"the {role} failed at {why.get('stage', 'an unnamed stage')} because {message}"


def _ruler(champion: RunRecord, challenger: RunRecord) -> str:
    digests = [side_digest(run, RULER) for run in (champion, challenger)]
    if None in digests:
        return "a record does not say which rows its test side had"
    return "" if digests[0] == digests[1] else "the test sides differ"


_MEANING = (("evaluation", "task"), ("evaluation", "positive"), ("data", "target"))
"""What of a configuration decides what a metric says of a model, beside its name."""


def meaning_of(run: RunRecord, metric: str) -> dict[str, Any]:
    """What decides what a metric says of a run, by dotted key: two runs in which it is equal are measured alike.

    For a metric of the project's own its declaration counts, and the code that computed it.
    """
    own = ("evaluation", "own", metric)
    meaning = {".".join(path): _at(run.params, path) or "" for path in (*_MEANING, own)}
    code = _at(run.body, ("judge", "code")) if _at(run.params, own) else None
    return {**meaning, _CODE_OF_METRIC: code or ""}


_CODE_OF_METRIC = "code"


def _meaning(champion: RunRecord, challenger: RunRecord, primary: str) -> str:
    """Why the primary metric says something else of the two; a branch chooses what it is measured by."""
    old, new = meaning_of(champion, primary), meaning_of(challenger, primary)
    key = next((key for key in old if old[key] != new[key]), None)
    if key is None:
        return ""
    return f"the code of {primary} differs" if key == _CODE_OF_METRIC else f"{key} differs"


def _at(value: Any, path: tuple[str, ...]) -> Any:
    """What lies at a path, or nothing: a record's parameters may be of any shape."""
    for step in path:
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def side_digest(run: RunRecord, side: str) -> str | None:
    """The digest of the rows of a side, as the record says it."""
    rows = (run.body.get("split") or {}).get(side) or {}
    return rows.get("digest") or None


def _lack(row: MetricChange | None) -> str:
    if row is None or (row.champion is None and row.challenger is None):
        return "missing from both"
    if row.champion is None or row.challenger is None:
        return f"missing from the {'champion' if row.champion is None else 'challenger'}, or no finite number there"
    return "of no known direction"


# ── metrics ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _metric_changes(champion: RunRecord, challenger: RunRecord) -> Iterator[MetricChange]:
    directions = directions_of(champion)
    for side in ordered_sides({*champion.metrics, *challenger.metrics}):
        old, new = champion.metrics.get(side) or {}, challenger.metrics.get(side) or {}
        for metric in [*old, *(name for name in new if name not in old)]:
            yield _metric_change(side, metric, finite(old.get(metric)), finite(new.get(metric)), directions.get(metric))


def directions_of(champion: RunRecord) -> dict[str, Direction]:
    """Which way is better: of the project's own metrics as the champion declared it, since a challenger has no say."""
    own = _at(champion.params, ("evaluation", "own"))
    declared = {name: _direction(metric) for name, metric in own.items()} if isinstance(own, Mapping) else {}
    return {**{name: way for name, way in declared.items() if way}, **DIRECTIONS}


def direction_of(run: RunRecord, metric: str) -> Direction | None:
    """The same of one metric; nothing where it is not known."""
    return DIRECTIONS.get(metric) or _direction(_at(run.params, ("evaluation", "own", metric)))


def _direction(declared: Any) -> Direction | None:
    way = declared.get("direction") if isinstance(declared, Mapping) else None
    if way == "minimize":
        return "minimize"
    return "maximize" if way == "maximize" else None


def ordered_sides(sides: set[str]) -> list[str]:
    """The sides by name, cd4ml's own first: train, validation, test."""
    return sorted(sides, key=lambda side: (_SIDE_ORDER.index(side) if side in _SIDE_ORDER else len(_SIDE_ORDER), side))


def _metric_change(
    side: str, metric: str, old: float | None, new: float | None, direction: Direction | None
) -> MetricChange:
    if old is None or new is None:
        return MetricChange(side, metric, old, new, None, None, direction, "unknown")
    change = new - old
    relative = finite(change / abs(old)) if old else None
    return MetricChange(side, metric, old, new, finite(change), relative, direction, _judge(change, direction))


def _judge(change: float, direction: Direction | None) -> Judgement:
    if direction is None:
        return "unknown"
    if change == 0:
        return "equal"
    return "better" if (change < 0) == (direction == "minimize") else "worse"


def finite(value: object) -> float | None:
    """The number, or nothing for what is no finite one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


# ── slices ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _slice_changes(champion: RunRecord, challenger: RunRecord, primary: str) -> Iterator[SliceChange]:
    """The primary metric for every value of a column that both runs have."""
    way = directions_of(champion).get(primary)
    old, new = (_sliced(run, primary) for run in (champion, challenger))
    for (column, value, side), before in old.items():
        after = new.get((column, value, side))
        if after is not None:
            change = after - before
            yield SliceChange(column, value, side, primary, before, after, finite(change), _judge(change, way))


def _sliced(run: RunRecord, metric: str) -> dict[tuple[str, str, str], float]:
    found: dict[tuple[str, str, str], float] = {}
    for column, part in (run.body.get("slices") or {}).items():
        for one in part["values"]:
            for side in ("validation", RULER):
                number = finite(one[side].get(metric))
                if number is not None:
                    found[column, one["value"], side] = number
    return found
