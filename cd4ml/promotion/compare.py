"""Two run records side by side: metrics, configuration, data, environment, and a verdict in one word.

The verdict says what the numbers on the test side say and no more: whether a difference is larger than
chance is another question, so the word for a difference is "change".
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from cd4ml.index.record import RunRecord
from cd4ml.spec.canonical import canonical_json
from cd4ml.spec.experiment import Direction
from cd4ml.spec.fingerprint import NOT_IN_SPEC
from cd4ml.spec.metrics import DIRECTIONS

Judgement = Literal["better", "worse", "equal", "unknown"]
Verdict = Literal["better", "worse", "no difference", "not comparable"]
How = Literal["added", "removed", "changed"]

RULER = "test"
"""The side whose primary metric decides."""

_Path = tuple[str, ...]
_SIDE_ORDER = ("train", "validation", "test")


@dataclass(frozen=True)
class MetricChange:
    """One metric on one side. ``change`` is challenger minus champion in the metric's own units, ``relative``
    the same over the champion's absolute value (a fraction). Nothing where a value is missing, not a finite
    number, or the champion's is 0. ``judgement`` is by ``direction``, and "unknown" where that or a value is missing.
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
class ConfigChange:
    """A resolved configuration value, by dotted key, that differs. The side that lacks it holds nothing."""

    key: str
    how: How
    champion: Any
    challenger: Any


@dataclass(frozen=True)
class DataChange:
    """A data source that differs: canonical digests, and numbers of rows where the records tell them."""

    source: str
    how: How
    champion: str | None
    challenger: str | None
    champion_rows: int | None
    challenger_rows: int | None


@dataclass(frozen=True)
class PackageChange:
    """A package (or ``python``) of the environment whose version differs."""

    package: str
    how: How
    champion: str | None
    challenger: str | None


@dataclass(frozen=True)
class Comparison:
    """What differs between two runs. ``reason`` explains the verdict in one line.

    ``moved`` names the components of the fingerprint that differ. ``min_improvement`` is in units of ``primary``.
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

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values; tuples become lists."""
        plain = asdict(self)
        for name in ("metrics", "config", "data", "environment", "moved"):
            plain[name] = list(plain[name])
        return plain


def compare(champion: RunRecord, challenger: RunRecord, min_improvement: float = 0.0) -> Comparison:
    """The challenger against the champion.

    The primary metric is the one that the champion was declared with. The challenger is better when it gains
    something, and at least ``min_improvement`` (in the metric's units), on the test side. Runs that were measured
    on different test sides, or failed, or lack the metric, are not comparable.
    """
    primary = _primary(champion) or _primary(challenger)
    metrics = tuple(_metric_changes(champion, challenger))
    verdict, reason = _verdict(champion, challenger, primary, metrics, min_improvement)
    return Comparison(
        champion=champion.id,
        challenger=challenger.id,
        primary=primary,
        min_improvement=min_improvement,
        verdict=verdict,
        reason=reason,
        metrics=metrics,
        config=tuple(_config_changes(champion.params, challenger.params)),
        data=tuple(_data_changes(champion.body, challenger.body)),
        environment=tuple(_package_changes(champion.body, challenger.body)),
        moved=_moved(champion.components, challenger.components),
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
    digests = [_test_digest(run) for run in (champion, challenger)]
    if None in digests:
        return "a record does not say which rows its test side had"
    return "" if digests[0] == digests[1] else "the test sides differ"


def _meaning(champion: RunRecord, challenger: RunRecord, primary: str) -> str:
    """Why the primary metric says something else of the two; a branch chooses what it is measured by."""
    for path in (
        ("evaluation", "task"),
        ("evaluation", "positive"),
        ("data", "target"),
        ("evaluation", "own", primary),
    ):
        old, new = (_at(run.params, path) or "" for run in (champion, challenger))
        if old != new:
            return f"{'.'.join(path)} differs"
    codes = [_at(run.body, ("judge", "code")) for run in (champion, challenger)]
    if _at(champion.params, ("evaluation", "own", primary)) and codes[0] != codes[1]:
        return f"the code of {primary} differs"
    return ""


def _at(value: Any, path: _Path) -> Any:
    """What lies at a path, or nothing: a record's parameters may be of any shape."""
    for step in path:
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _test_digest(run: RunRecord) -> str | None:
    side = (run.body.get("split") or {}).get(RULER) or {}
    return side.get("digest") or None


def _lack(row: MetricChange | None) -> str:
    if row is None or (row.champion is None and row.challenger is None):
        return "missing from both"
    if row.champion is None or row.challenger is None:
        return f"missing from the {'champion' if row.champion is None else 'challenger'}, or no finite number there"
    return "of no known direction"


# ── metrics ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _metric_changes(champion: RunRecord, challenger: RunRecord) -> Iterator[MetricChange]:
    directions = _directions(champion)
    for side in _ordered({*champion.metrics, *challenger.metrics}):
        old, new = champion.metrics.get(side) or {}, challenger.metrics.get(side) or {}
        for metric in [*old, *(name for name in new if name not in old)]:
            yield _metric_change(
                side, metric, _finite(old.get(metric)), _finite(new.get(metric)), directions.get(metric)
            )


def _directions(champion: RunRecord) -> dict[str, Direction]:
    """Which way is better: of the project's own metrics as the champion declared it, since a challenger has no say."""
    evaluation = champion.params.get("evaluation")
    own = evaluation.get("own") if isinstance(evaluation, Mapping) else None
    directions: dict[str, Direction] = dict(DIRECTIONS)
    for name, metric in own.items() if isinstance(own, Mapping) else ():
        way = metric.get("direction") if isinstance(metric, Mapping) else None
        if name not in DIRECTIONS and way in ("minimize", "maximize"):
            directions[name] = "minimize" if way == "minimize" else "maximize"
    return directions


def _ordered(sides: set[str]) -> list[str]:
    return sorted(sides, key=lambda side: (_SIDE_ORDER.index(side) if side in _SIDE_ORDER else len(_SIDE_ORDER), side))


def _metric_change(
    side: str, metric: str, old: float | None, new: float | None, direction: Direction | None
) -> MetricChange:
    if old is None or new is None:
        return MetricChange(side, metric, old, new, None, None, direction, "unknown")
    change = new - old
    relative = _finite(change / abs(old)) if old else None
    return MetricChange(side, metric, old, new, _finite(change), relative, direction, _judge(change, direction))


def _judge(change: float, direction: Direction | None) -> Judgement:
    if direction is None:
        return "unknown"
    if change == 0:
        return "equal"
    return "better" if (change < 0) == (direction == "minimize") else "worse"


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


# ── configuration ────────────────────────────────────────────────────────────────────────────────────────────────


def _config_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[ConfigChange]:
    """What differs among the values that can change a result; names, notes and policy are left out."""
    old_values, new_values = (
        dict(_flat({key: value for key, value in values.items() if key not in NOT_IN_SPEC})) for values in (old, new)
    )
    for path in sorted({*old_values, *new_values}):
        if path not in new_values or path not in old_values or not _same(old_values[path], new_values[path]):
            how = _how(path in old_values, path in new_values)
            yield ConfigChange(".".join(path), how, old_values.get(path), new_values.get(path))


def _flat(value: Any, path: _Path = ()) -> Iterator[tuple[_Path, Any]]:
    """Leaves by path. A list of plain values is one leaf; one that holds mappings or lists goes by index."""
    inner: Mapping[str, Any] = {}
    if isinstance(value, Mapping):
        inner = value
    elif isinstance(value, list | tuple) and any(isinstance(item, Mapping | list | tuple) for item in value):
        inner = {str(index): item for index, item in enumerate(value)}
    if not inner:
        if path:  # the whole configuration being empty is no value of it
            yield path, value
        return
    for key, item in inner.items():
        yield from _flat(item, (*path, str(key)))


def _same(old: Any, new: Any) -> bool:
    """As the fingerprint sees it: 1, 1.0 and true are three values."""
    return canonical_json(old) == canonical_json(new)


def _how(in_old: bool, in_new: bool) -> How:
    if in_old and in_new:
        return "changed"
    return "removed" if in_old else "added"


# ── data and environment ─────────────────────────────────────────────────────────────────────────────────────────


def _data_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[DataChange]:
    before, after = old.get("data") or {}, new.get("data") or {}
    for source in sorted({*before, *after}):
        a, b = before.get(source) or {}, after.get(source) or {}
        if a.get("digest") != b.get("digest"):
            how = _how(source in before, source in after)
            yield DataChange(source, how, a.get("digest"), b.get("digest"), a.get("rows"), b.get("rows"))


def _package_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[PackageChange]:
    before, after = _packages(old), _packages(new)
    for package in sorted({*before, *after}):
        if before.get(package) != after.get(package):
            how = _how(package in before, package in after)
            yield PackageChange(package, how, before.get(package), after.get(package))


def _packages(body: Mapping[str, Any]) -> dict[str, str]:
    environment = body.get("environment") or {}
    python = {"python": str(environment["python"])} if environment.get("python") else {}
    return {**python, **{str(name): str(version) for name, version in (environment.get("packages") or {}).items()}}
