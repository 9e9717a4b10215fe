"""The first line of a report, and the words for numbers in all of it."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from types import MappingProxyType

from cd4ml.promotion.review import Interval, MetricJudged, Review, Verdict
from cd4ml.report.document import Code, Judged, Line, Part, Prose, Strong
from cd4ml.report.keeping import size_text
from cd4ml.report.visible import ABSENT, percent, plain_number, signed_number

_TITLES: Mapping[Verdict, str] = MappingProxyType(
    {
        "better": "Better",
        "worse": "Worse",
        "no real difference": "No real difference",
        "not comparable": "Not comparable",
        "take main in": "Take main in first",
        "failed": "Failed",
        "pending": "Pending",
        "unverified": "Unverified",
    }
)
_MEASURED = frozenset({"better", "worse", "no real difference", "unverified"})
_LARGEST_SHARE = 100.0  # beyond it a percentage says less than a power of ten
_MOST_BYTES = 1024.0**5
_SMALL_SECONDS = ((1e-3, 1e6, "µs"), (1.0, 1e3, "ms"))
_MINUTE = 60.0
_FAILED_AT = "failed at "
_REFUSED = f"{_FAILED_AT}configuration because"
_FORK_FAILED_AT = "its run failed at "
_SHORT = (1e-4, 999.5)


def verdict_line(review: Review) -> Line:
    """Verdict; the primary metric with its change and interval, or the reason; and which tree was judged."""
    word = Judged(review.verdict, _TITLES[review.verdict])
    if review.reason.startswith(_FAILED_AT):
        return (word, " ", Prose(review.reason.removeprefix(_FAILED_AT[:-3])), *_judged(review))
    start: Line = (word, ": ")
    if review.verdict == "unverified" and review.reason.startswith(_FORK_FAILED_AT):
        return (*start, *reason_line(review), *_judged(review))
    if review.verdict == "take main in":
        return (*start, *_take_in(review))
    row = review.of_primary
    if row is None or review.verdict not in _MEASURED or None in (row.champion, row.challenger):
        return (*start, Prose(review.reason or "no reason is known"), *_judged(review))
    return (*start, Code(row.metric), f" {measured(row, review.confidence)}", *_judged(review))


def reason_line(review: Review) -> Line:
    """The reason in words; what a fork's failure says of itself is shown to the letter, and is no sentence of ours."""
    if review.verdict == "unverified" and review.reason.startswith(_FORK_FAILED_AT):
        where, colon, message = review.reason.partition(": ")
        return (Prose(where), colon, *((Code(message, whole=True),) if message else ()))
    return (Prose(review.reason),)


def measured(row: MetricJudged, confidence: float) -> str:
    """``16.43 → 13.25, -19.4 % (-3.18, 95 % interval -3.62 … -2.77)``; what is not known is left out."""
    relative, told = share_text(row.relative), [short_number(row.change)]
    if row.interval is not None:
        told.append(f"{confidence_text(confidence)} interval {interval_text(row.interval)}")
    inner = ", ".join(part for part in told if part != ABSENT)
    values = f"{plain_number(row.champion)} → {plain_number(row.challenger)}"
    return f"{values}{f', {relative}' if relative != ABSENT else ''}{f' ({inner})' if inner else ''}"


def interval_text(interval: Interval | None) -> str:
    """``-3.62 … -2.77``, or ``–`` for none."""
    return ABSENT if interval is None else f"{short_number(interval.low)} … {short_number(interval.high)}"


def short_number(value: float | None) -> str:
    """A difference, or a bound of one, with its sign and three significant digits: ``-3.18``."""
    if value is None or not _SHORT[0] <= abs(value) < _SHORT[1]:
        return signed_number(value)
    return f"{value:+#.3g}".removesuffix(".")


def confidence_text(confidence: float) -> str:
    """``95 %``."""
    return f"{100 * confidence:g} %"


def share_text(share: float | None) -> str:
    """A fraction as a signed percentage; as a power of ten where that would be a long row of digits."""
    if share is None or not math.isfinite(share) or abs(share) < _LARGEST_SHARE:
        return percent(share)
    return f"{100 * share:+.1e} %"


def direction_mark(row: MetricJudged) -> str:
    """Which way is better: an arrow, or nothing where it is not known."""
    return {"minimize": " ↓", "maximize": " ↑"}.get(row.direction or "", "")


def amount_text(value: float | None, unit: str) -> str:
    """A cost with its unit: ``31.70 s``, ``12 min 5 s``, ``1.2 MiB``, ``4.400 µs a row``; ``–`` for none."""
    if value is None:
        return ABSENT
    if unit == "bytes" and 0 <= value < _MOST_BYTES:
        return size_text(value)
    if unit in ("seconds", "seconds/row"):
        return seconds_text(value) + (" a row" if unit == "seconds/row" else "")
    return f"{plain_number(value)} {unit}"


def seconds_text(value: float) -> str:
    """A length of time in the unit that suits it."""
    for below, factor, unit in _SMALL_SECONDS:
        if 0 < value < below:
            return f"{plain_number(value * factor)} {unit}"
    if not _MINUTE <= value < math.inf:
        return f"{plain_number(value)} s"
    minutes, seconds = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min" if hours else f"{minutes} min {seconds} s"


def listed(parts: tuple[str, ...], most: int) -> Line:
    """Names from outside, one after the other; of more than ``most`` the rest is counted."""
    told: list[Part] = []
    for name in parts[:most]:
        told += [", " if told else "", Code(name)]
    if len(parts) > most:
        told.append(f" and {plain_number(len(parts) - most)} more")
    return tuple(told)


def _take_in(review: Review) -> Line:
    how = (Code(f"cd4ml update {shlex.quote(review.branch)}", whole=True), " takes ", Code(review.base), " in")
    if review.merge.conflicts:
        return (*how, "; they conflict in ", *listed(review.merge.conflicts, 3))
    return (*how, "; ", Prose(review.reason)) if review.reason else how


def _judged(review: Review) -> Line:
    if review.verdict == "pending":
        return ()
    if review.verdict == "unverified":
        return ("; ", Strong("a fork's code, not recorded"))
    if review.challenger is None and review.reason.startswith(_REFUSED):
        return ("; nothing was run",)
    done = "run" if review.verdict == "failed" else "judged"
    return (f"; the {'merge result' if review.judged == 'merge' else 'head'} was {done}",)
