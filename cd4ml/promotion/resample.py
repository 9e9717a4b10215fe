"""The paired bootstrap: how far a difference between two models may be chance.

Both models are scored on the same resample, so that what makes rows easy or hard cancels. Up to ``MOST_BLOCKS`` rows,
rows are drawn. Of more, rows are first put into that many blocks of equal size (or one more) by chance, and blocks are
drawn: sums over blocks have the same expected variance and skewness as sums over rows (the method of random groups:
Wolter 2007, chapter 2), and a standard error from 2,000 blocks is itself within 1.6 % (1 / sqrt(2 x 2,000)), as is one
from 2,000 resamples. So the work does not grow with the rows. Where rows come in clusters, those take the rows' place.

The draws follow from a seed alone, so that a report is the same however often it is made; ``seed_of`` takes it from the
digest of the base branch's test side, so that no challenger can move it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cd4ml.promotion.review import Interval
from cd4ml.promotion.statistics import Amounts, Part, Share, Statistic, sums_of
from cd4ml.promotion.student import quantile, upper_tail

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from cd4ml.promotion.statistics import Floats

    Codes = npt.NDArray[np.int64]
    Pair = tuple[Statistic, Statistic]

MOST_BLOCKS = 2000
_AT_ONCE = 500
"""Resamples that are held in memory at a time."""
_IN_TAIL = 20
"""Resamples that must lie beyond the end of an interval for their percentile to be looked at: it is then within some
22 % of the share that is meant."""
_DEFINED = 0.99
"""The share of resamples in which a metric must be defined for it to have an interval."""
_USUAL = 2.0
"""Standard errors of the intervals for which the error of a share of few rows is set (``_unseen``) in a slice."""
_FEW = 400
"""Resamples for a standard error of one metric of one slice, where leaving out rows does not tell it."""


@dataclass(frozen=True, eq=False)
class Blocks:
    """What is drawn: int64 (n,), for each row the block that it belongs to, of ``count``.

    ``clusters``: int64 (n,), where rows depend on each other, which of them do.
    """

    codes: Codes
    count: int
    clusters: Codes | None = None


@dataclass(frozen=True, eq=False)
class Difference:
    """Challenger minus champion in one metric: on the rows as they are, and float64 (b,) in each resample.

    ``units`` is how many independent things it rests on, ``differing`` in how many of them the two models differ.
    ``shares`` are the champion's and the challenger's, as in ``Statistic``.
    """

    change: float
    drawn: Floats
    units: int
    differing: int
    shares: tuple[tuple[Share, ...], tuple[Share, ...]] = ((), ())


def seed_of(*told: object) -> int:
    """A seed from what identifies the rows."""
    text = "\n".join(str(one) for one in told)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")


def blocks_of(rows: int, seed: int, clusters: Codes | None = None, most: int = MOST_BLOCKS) -> Blocks:
    """Rows, or clusters of rows, themselves where there are at most ``most``, else put together by chance."""
    import numpy as np

    units, unit = rows, np.arange(rows)
    if clusters is not None:
        found, unit = np.unique(clusters, return_inverse=True)
        units = len(found)
    if units > most:
        unit = (np.random.default_rng(seed).permutation(units) % most)[unit]
    return Blocks(unit.astype(np.int64), min(units, most), clusters)


def differences(pairs: Sequence[Pair], blocks: Blocks, resamples: int, seed: int) -> list[Difference | None]:
    """Of champion and challenger in each metric, over the same resamples; nothing where there is no resampling it.

    ``pairs`` holds the two models' statistics on the same rows. Takes memory for some hundred resamples at a time.
    """
    import numpy as np

    can = [place for place, pair in enumerate(pairs) if _can(pair)]
    sums, where = _sums_by_block([part for place in can for one in pairs[place] for part in one.parts], blocks)
    drawn = {place: np.empty(resamples) for place in can}
    for begin, counts in _draws(blocks.count, resamples, seed):
        weighted = counts @ sums
        with np.errstate(all="ignore"):
            for place in can:
                champion, challenger = (_weighed(one, weighted, where) for one in pairs[place])
                drawn[place][begin : begin + len(counts)] = challenger - champion
    return [_difference(pair, drawn[place], blocks) if place in drawn else None for place, pair in enumerate(pairs)]


def _can(pair: Pair) -> bool:
    return all(one.value is not None and one.of is not None for one in pair)


def _difference(pair: Pair, drawn: Floats, blocks: Blocks) -> Difference | None:
    champion, challenger = pair
    if champion.value is None or challenger.value is None:
        return None
    units = min(blocks.count, champion.rows, challenger.rows)
    shares = (champion.shares, challenger.shares)
    return Difference(challenger.value - champion.value, drawn, units, differing(pair, blocks.clusters), shares)


def _draws(count: int, resamples: int, seed: int) -> Iterator[tuple[int, Floats]]:
    """How often each block is drawn, float64 (some, count), with the place of the first of these resamples."""
    import numpy as np

    random = np.random.default_rng(seed)
    for begin in range(0, resamples, _AT_ONCE):
        some = min(_AT_ONCE, resamples - begin)
        chosen = random.integers(count, size=(some, count)) + count * np.arange(some)[:, None]
        counts = np.bincount(chosen.ravel(), minlength=some * count)
        yield begin, counts.reshape(some, count).astype(np.float64)


def _sums_by_block(parts: Sequence[Part], blocks: Blocks) -> tuple[Floats, dict[int, slice]]:
    """The sums over each block, float64 (count, columns), and the columns of each part by its identity.

    A part that several metrics share is summed once.
    """
    import numpy as np

    columns: list[Floats] = []
    where: dict[int, slice] = {}
    width = 0
    for part in parts:
        if id(part) not in where:
            columns.append(_by_block(part, blocks))
            where[id(part)] = slice(width, width + columns[-1].shape[1])
            width += columns[-1].shape[1]
    return (np.hstack(columns) if columns else np.empty((blocks.count, 0))), where


def _by_block(part: Part, blocks: Blocks) -> Floats:
    import numpy as np

    if isinstance(part, Amounts):
        summed = np.bincount(blocks.codes, weights=part.values, minlength=blocks.count)
        return np.asarray(summed, dtype=np.float64)[:, None]
    counted = np.bincount(blocks.codes * part.count + part.codes, minlength=blocks.count * part.count)
    return counted.reshape(blocks.count, part.count).astype(np.float64)


def _weighed(one: Statistic, weighted: Floats, where: dict[int, slice]) -> Floats:
    if one.of is None:
        raise ValueError("this metric cannot be resampled")
    return one.of([_part_of(part, weighted[:, where[id(part)]]) for part in one.parts])


def _part_of(part: Part, columns: Floats) -> Floats:
    return columns[:, 0] if isinstance(part, Amounts) else columns


def differing(pair: Pair, clusters: Codes | None = None) -> int:
    """In how many rows, or clusters, one of the things that a metric is made of differs between two models."""
    import numpy as np

    old, new = (_told(one) for one in pair)
    differs = np.zeros(len(old[0]) if old else 0, dtype=bool)
    for before, after in zip(old, new, strict=True):
        if before is not after:
            differs |= before != after
    return int(differs.sum()) if clusters is None else len(np.unique(clusters[differs]))


def _told(one: Statistic) -> tuple[npt.NDArray[Any], ...]:
    return one.told or tuple(_values(part) for part in one.parts)


def _values(part: Part) -> npt.NDArray[Any]:
    return part.values if isinstance(part, Amounts) else part.codes


# ── intervals ────────────────────────────────────────────────────────────────────────────────────────────────────


def interval(difference: Difference, level: float, noise: float = 0.0) -> Interval | None:
    """Of a difference: it misses the true one in a share ``level`` (0 to 1) of cases, half of them on either side.

    The normal distribution's, with the bootstrap's standard error and Student's quantile; and where enough resamples
    lie beyond its ends, at each end the wider of that and their percentile, expanded for small samples by Student's
    quantile too (Hesterberg 2015, section 5.3): percentiles alone miss somewhat more often than they say. Nothing with
    fewer than two units, or where the metric is not defined in some of the resamples. It always holds the difference
    itself; of shares what a prior of their own allows too (``_unseen``); and 0 where the models differ in so few units
    that no exchange of their answers could be that rare. An end within ``noise`` of 0 is 0, so that rounding is not
    taken for a difference.
    """
    import numpy as np

    drawn = difference.drawn[np.isfinite(difference.drawn)]
    if difference.units < 2 or len(drawn) < _DEFINED * len(difference.drawn) or len(drawn) < 2:
        return None
    change, small = difference.change, math.sqrt(difference.units / (difference.units - 1))
    far = quantile(level / 2, difference.units - 1) * small
    tail = 0.5 * math.erfc(far / math.sqrt(2))
    error = _spread(drawn)
    low, high = _about(change, far, error)
    if any(difference.shares):
        moved, more = _unseen(difference.shares, far)
        ends_seen = _about(change + moved, far, math.hypot(error, more))
        low, high = min(low, ends_seen[0]), max(high, ends_seen[1])
    if tail * len(drawn) >= _IN_TAIL:
        ends = np.quantile(drawn, [tail, 1 - tail])
        low, high = min(low, float(ends[0])), max(high, float(ends[1]))
    if sign_bound(difference.differing) > level:
        low, high = min(low, 0.0), max(high, 0.0)
    low, high = (0.0 if abs(end) <= noise else end for end in (low, high))
    return Interval(low, high) if math.isfinite(low) and math.isfinite(high) else None


def _unseen(shares: tuple[Sequence[Share], Sequence[Share]], far: float) -> tuple[float, float]:
    """What few rows of a share leave unseen, for an interval of ``far`` standard errors: a move of the difference, and
    a standard error beside the bootstrap's.

    Resamples of rows that are all right are all right, however few they are, so that the bootstrap sees no chance in
    them. As of Agresti and Caffo (2000), far² / 4 rows that are right and as many that are wrong are put to each share;
    the error is that of the larger variance where it is larger.
    """
    moved = more = 0.0
    for sign, some in zip((-1, 1), shares, strict=True):
        for one in some:
            whole, seen = one.whole + far**2 / 2, one.part / one.whole
            share = (one.part + far**2 / 4) / whole
            moved += sign * one.weight * (share - seen)
            more += one.weight**2 * max(share * (1 - share) / whole - seen * (1 - seen) / one.whole, 0.0)
    return moved, math.sqrt(more)


def _about(change: float, far: float, error: float) -> tuple[float, float]:
    wide = far * error if error > 0 else 0.0
    return change - wide, change + wide


def _spread(drawn: Floats) -> float:
    """The standard deviation; one of numbers of 1e200 does not overflow."""
    import numpy as np

    most = float(np.abs(drawn).max())
    return most * float((drawn / most).std(ddof=1)) if most > 0 else 0.0


def sign_bound(units: int) -> float:
    """The least p-value, two-sided, that a test can reach which exchanges the answers of two equal models at random.

    Of ``units`` that differ each points one way or the other by chance, as a coin: all one way has 2 / 2^units.
    """
    return min(1.0, 2.0 ** (1 - units))


def widest(one: Interval | None, other: Interval | None) -> Interval | None:
    """What holds both; nothing where one is missing."""
    return None if one is None or other is None else Interval(min(one.low, other.low), max(one.high, other.high))


# ── one difference by itself ─────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Alone:
    """A difference with its standard error (nothing: not to be had), and what it rests on, as in ``Difference``."""

    change: float
    error: float
    units: int
    differing: int

    @property
    def p_value(self) -> float:
        """Two-sided, of no difference."""
        bound = sign_bound(self.differing)
        if self.change == 0 or self.error < 0:
            return 1.0
        t = abs(self.change) / self.error if self.error > 0 else math.inf
        return max(bound, 2 * upper_tail(t, self.units - 1) if math.isfinite(t) else 0.0)

    def interval(self, level: float) -> Interval:
        """Student's, with 0 in it where the p-value is larger than the level."""
        wide = quantile(level / 2, self.units - 1) * self.error
        low, high = self.change - wide, self.change + wide
        return Interval(min(low, 0.0), max(high, 0.0)) if self.p_value > level else Interval(low, high)


def alone(pair: Pair, blocks: Blocks, seed: int) -> Alone | None:
    """One metric's difference with a standard error, for when there are too many differences to draw for each.

    By the jackknife, which leaves out one block at a time (Efron 1982, chapter 3; of random blocks, Wolter 2007,
    chapter 4); of a median, for which that is no consistent estimate, by the bootstrap. Nothing where the metric is not
    defined, also with a block left out, or rests on one unit.
    """
    import numpy as np

    champion, challenger = pair
    units = min(blocks.count, champion.rows, challenger.rows)
    if not _can(pair) or units < 2 or champion.value is None or challenger.value is None:
        return None
    if not (champion.smooth and challenger.smooth):
        [found] = differences([pair], blocks, _FEW, seed)
        left_out, scale = (found.drawn if found else np.array([np.nan])), math.sqrt(units / (units - 1))
    else:
        with np.errstate(all="ignore"):
            left_out = _without_each(challenger, blocks) - _without_each(champion, blocks)
        scale = (blocks.count - 1) / math.sqrt(blocks.count)
    if not np.isfinite(left_out).all():
        return None
    _, more = _unseen((champion.shares, challenger.shares), _USUAL)
    error = math.hypot(scale * _spread(left_out), more)
    return Alone(challenger.value - champion.value, error, units, differing(pair, blocks.clusters))


def _without_each(one: Statistic, blocks: Blocks) -> Floats:
    """The metric with one block left out, float64 (count,)."""
    if one.of is None:
        raise ValueError("this metric cannot be resampled")
    return one.of([_part_of(part, sums_of(part) - _by_block(part, blocks)) for part in one.parts])
