"""A challenger's numbers against the champion's, with chance allowed for: the verdict, each metric, the slices.

A metric is better or worse where the paired-bootstrap interval of its change (``resample``) lies on one side of 0. The
verdict is that of the primary metric. Gates (``gates``) use the wider ``corrected`` interval, which allows for how
often the same test side has been used; slices are corrected for how many are looked at.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from cd4ml.promotion.paired import Paired, Said
from cd4ml.promotion.resample import Alone, Blocks, Difference, alone, blocks_of, differences, interval, seed_of, widest
from cd4ml.promotion.review import Interval, MetricJudged, Ruler, SliceJudged, Standing, Verdict
from cd4ml.promotion.statistics import Statistic, scored, statistic
from cd4ml.spec.experiment import Direction, PromotionSpec
from cd4ml.spec.metrics import METRICS_BY_NAME

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MIN_SLICE_ROWS = 30
"""With fewer rows a slice is not looked at."""

_ROUNDING = 1e-12
"""Of the size of a metric: what differs by less is rounding."""


@dataclass(frozen=True)
class Judged:
    """``reason`` is one line. ``slices`` are those that got significantly worse, the surest first. ``same``: both
    models gave the same answer for every row.
    """

    verdict: Verdict
    reason: str
    metrics: tuple[MetricJudged, ...] = ()
    slices: tuple[SliceJudged, ...] = ()
    slices_looked_at: int = 0
    same: bool = False

    def of(self, metric: str) -> MetricJudged | None:
        """What was judged of a metric; nothing where it was not measured."""
        return next((one for one in self.metrics if one.metric == metric), None)


def judge(
    paired: Paired,
    policy: PromotionSpec,
    primary: str,
    metrics: Sequence[str],
    directions: Mapping[str, Direction],
    own: Mapping[str, tuple[float | None, float | None]] = MappingProxyType({}),
) -> Judged:
    """The challenger against the champion in every one of ``metrics``, and in the primary one by slices.

    ``directions`` says which way is better; a metric that it does not hold is told and not judged. ``own`` are the
    values, champion's and challenger's, of the project's own metrics, which are told without an interval. With fewer
    rows than the policy asks for, or less of the test side, the two are not comparable, and nothing has an interval: a
    challenger that trained on some of these rows, or has none of them, has chosen the rest. They are not comparable
    either where the primary metric cannot be judged; what can be judged by itself still is.
    """
    enough = len(paired.observed) >= policy.rows_asked(paired.ruler.declared)
    told = tuple(_metrics(paired, policy, metrics, directions, own, enough))
    first = next((one for one in told if one.metric == primary), None)
    if not enough:
        return Judged("not comparable", _too_few(paired.ruler, len(paired.observed), policy), told)
    if _same(paired.champion, paired.challenger):
        return Judged("no real difference", "the same predictions", told, same=True)
    if first is None or first.standing == "unknown":
        return Judged("not comparable", _hindrance(first, primary, primary in own), told)
    found = _slices(paired, primary)
    worse = tuple(_significantly_worse(found, primary, directions[primary], 1 - policy.confidence))
    return Judged(_verdict(first.standing), _because(first, policy.confidence), told, worse, len(found))


def level_of_use(confidence: float, uses: int) -> float:
    """The share of equal challengers of which the ``uses``-th result scored on a test side may claim a difference.

    (1 - confidence) / (k (k + 1)), since the sum over all k = 1, 2, … is 1 - confidence: among however many equal
    challengers on one test side, the chance that a gate takes even one for better stays below that (Bonferroni's
    inequality with unequal shares, as alpha is spent in Foster and Stine 2008), whatever their answers have in common.
    """
    k = max(uses, 1)
    return (1 - confidence) / (k * (k + 1))


def use_of(results: Iterable[tuple[str, str]], first: str, fingerprint: str) -> int:
    """The how many-th use of a test side a challenger is, of which ``first`` is the first result's id.

    ``results`` are ids and fingerprints in the order of the index, without a fingerprint where one does not count.
    Those from ``first`` on can have been scored on the side, whatever their own split: a challenger is scored on the
    champion's rows. One that is not among the results yet comes after these. One from before ``first`` comes after all
    that ever were: with m of those each has a k above m, so that together they add m / ((m + 1) (m + 2)), a sixth at
    most, to the shares of ``level_of_use``.
    """
    before: set[str] = set()
    since: dict[str, int] = {}
    started = not first
    for name, asked in results:
        started = started or name == first
        if asked and started:
            since.setdefault(asked, len(since) + 1)
        elif asked:
            before.add(asked)
    late = len(before) if fingerprint in before else 0
    return since.get(fingerprint) or len(since) + late + 1


def _verdict(standing: Standing) -> Verdict:
    if standing == "better":
        return "better"
    return "worse" if standing == "worse" else "no real difference"


def _too_few(ruler: Ruler, rows: int, policy: PromotionSpec) -> str:
    """With counts, since the challenger can have brought it about."""
    least, asked = max(policy.min_rows, 2), policy.rows_asked(ruler.declared)
    share = f" ({100 * policy.min_share:g} %)" if asked > least else ""
    dropped = [
        f"{count:,} {why}"
        for count, why in (
            (ruler.seen_by_challenger, "the challenger saw in training or validation"),
            (ruler.seen_by_champion, "the champion did"),
            (ruler.not_predicted, "lack an answer"),
        )
        if count
    ]
    of = f"{rows:,} of the test side's {ruler.declared:,}" if rows < ruler.declared else f"{rows:,}"
    scored = f"{of} {'row was' if of == '1' else 'rows were'} scored by both"
    why = f": {', '.join(dropped)}" if dropped else ""
    return f"{scored}, and at least {asked:,}{share} are asked for{why}"


def _same(one: Said, other: Said) -> bool:
    import numpy as np

    if not np.array_equal(one.predicted, other.predicted):
        return False
    if one.probabilities is None or other.probabilities is None:
        return one.probabilities is other.probabilities
    return bool(np.array_equal(one.probabilities, other.probabilities))


def _hindrance(metric: MetricJudged | None, primary: str, own: bool) -> str:
    """Why the primary metric cannot be judged."""
    if not primary:
        return "no primary metric is declared"
    if metric is None or (metric.champion is None and metric.challenger is None):
        return f"{primary} is missing from both, or no finite number there"
    for role, value in (("champion", metric.champion), ("challenger", metric.challenger)):
        if value is None:
            return f"{primary} is missing from the {role}, or no finite number there"
    if metric.direction is None:
        return f"it is not known which way {primary} is better"
    if own:
        return f"{primary} is a metric of the project's own, of which no interval is known"
    if primary == "max_error":
        return "max_error has no interval: the largest of some errors does not tell what chance allows"
    return f"{primary} has no interval on these rows: it is not defined for some samples of them"


def _because(metric: MetricJudged, confidence: float) -> str:
    """Of the primary metric, what its interval says."""
    if metric.interval is None or metric.change is None:
        raise ValueError("a metric without an interval is not judged")
    share, low, high = f"{100 * confidence:g} %", metric.interval.low, metric.interval.high
    if metric.standing == "no real difference":
        return f"the {share} interval of the change of {metric.metric}, {low:+.4g} to {high:+.4g}, holds 0"
    return f"{metric.metric} changed by {metric.change:+.4g} ({share} interval {low:+.4g} to {high:+.4g})"


# ── metrics ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _metrics(
    paired: Paired,
    policy: PromotionSpec,
    metrics: Sequence[str],
    directions: Mapping[str, Direction],
    own: Mapping[str, tuple[float | None, float | None]],
    enough: bool,
) -> Iterator[MetricJudged]:
    champion, challenger = scored(paired, paired.champion), scored(paired, paired.challenger)
    pairs = [(statistic(name, champion), statistic(name, challenger)) for name in metrics]
    drawn: Sequence[Difference | None] = [None] * len(pairs)
    if enough:
        seed = seed_of(paired.ruler.digest)
        blocks = blocks_of(len(paired.observed), seed, paired.clusters)
        drawn = differences(pairs, blocks, policy.resamples, seed)
    corrected = level_of_use(policy.confidence, paired.ruler.uses)
    for name, (old, new), difference in zip(metrics, pairs, drawn, strict=True):
        if name in own:
            yield _told(name, directions.get(name), *own[name])
        elif difference is None:
            yield _told(name, directions.get(name), old.value, new.value)
        else:
            narrow = interval(difference, 1 - policy.confidence, _noise(name, old, new))
            wide = interval(difference, corrected, _noise(name, old, new))
            yield _told(name, directions.get(name), old.value, new.value, narrow, widest(narrow, wide))


def _told(
    name: str,
    direction: Direction | None,
    champion: float | None,
    challenger: float | None,
    narrow: Interval | None = None,
    wide: Interval | None = None,
) -> MetricJudged:
    old, new = _finite(champion), _finite(challenger)
    change = None if old is None or new is None else _finite(new - old)
    relative = _finite(change / abs(old)) if change is not None and old else None
    standing: Standing = standing_of(narrow, direction) if narrow and direction else "unknown"
    return MetricJudged(name, direction, old, new, change, relative, narrow, wide, standing)


def standing_of(found: Interval, direction: Direction) -> Standing:
    """What an interval of a change says: better or worse where 0 is not in it."""
    if found.low <= 0 <= found.high:
        return "no real difference"
    return "better" if (found.low > 0) == (direction == "maximize") else "worse"


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _noise(name: str, *both: Statistic) -> float:
    """What may be rounding: of the metric's size, which is 1 of those that are to be large, such as a share or R²."""
    sizes = [abs(one.value) for one in both if one.value is not None]
    return _ROUNDING * max([*sizes, 1.0 if METRICS_BY_NAME[name].direction == "maximize" else 0.0])


# ── slices ───────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Slice:
    column: str
    value: str
    rows: int
    champion: float
    challenger: float
    alone: Alone


def _slices(paired: Paired, primary: str) -> list[_Slice]:
    """The primary metric in each slice with enough rows in which it is defined for both and has a standard error."""
    champion, challenger = scored(paired, paired.champion), scored(paired, paired.challenger)
    found: list[_Slice] = []
    for column, value, rows in _places(paired):
        old, new = statistic(primary, champion.of(rows)), statistic(primary, challenger.of(rows))
        judged = alone((old, new), _blocks(paired, column, value, rows), seed_of(paired.ruler.digest, column, value))
        if judged is None or old.value is None or new.value is None:
            continue
        if abs(judged.change) <= _noise(primary, old, new):
            judged = Alone(0.0, judged.error, judged.units, judged.differing)
        found.append(_Slice(column, value, len(rows), old.value, new.value, judged))
    return found


def _places(paired: Paired) -> Iterator[tuple[str, str, npt.NDArray[np.intp]]]:
    """Column, value and the positions of its rows, for each slice with enough rows."""
    import numpy as np

    for column, (codes, texts) in paired.slices.items():
        order = np.argsort(codes, kind="stable")
        in_order = codes[order]
        for code, value in enumerate(texts):
            begin, end = np.searchsorted(in_order, [code, code + 1])
            if end - begin >= MIN_SLICE_ROWS:
                yield column, value, order[begin:end]


def _blocks(paired: Paired, column: str, value: str, rows: npt.NDArray[np.intp]) -> Blocks:
    clusters = None if paired.clusters is None else paired.clusters[rows]
    return blocks_of(len(rows), seed_of(paired.ruler.digest, column, value), clusters)


def _significantly_worse(
    found: Sequence[_Slice], primary: str, direction: Direction, level: float
) -> Iterator[SliceJudged]:
    """Those that got worse by Holm's step-down procedure (1979) over all that were looked at, better ones too.

    The j-th smallest of m p-values is held against level / (m - j + 1), and the first that is larger ends it. That is
    also the level of the slice's interval, which so keeps 0 out.
    """
    for place, one in enumerate(sorted(found, key=lambda one: (one.alone.p_value, one.column, one.value))):
        share = level / (len(found) - place)
        if one.alone.p_value > share:
            return
        around = one.alone.interval(share)
        if standing_of(around, direction) == "worse":
            change = one.alone.change
            yield SliceJudged(
                one.column, one.value, one.rows, primary, one.champion, one.challenger, change, around, "worse"
            )
