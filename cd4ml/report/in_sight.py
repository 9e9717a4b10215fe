"""What of a report stands open: gates, metrics, and what must not be missed."""

from __future__ import annotations

from collections.abc import Iterator

from cd4ml.promotion.review import Gate, MetricJudged, Relative, Review, SliceJudged
from cd4ml.report.document import Block, Bullets, Code, Grid, Judged, Line, Prose, Strong
from cd4ml.report.layout import counted
from cd4ml.report.verdict import confidence_text, direction_mark, interval_text, listed, share_text, short_number
from cd4ml.report.visible import ABSENT, plain_number

METRICS_IN_SIGHT = 6
"""Of more metrics the rest folds."""

LINES_IN_SIGHT = 3
"""Of more slices, expectations or runs the rest folds."""

_MOST_NOTES = 6
_MOST_NAMES = 8
_DIGITS = 10
_ORDER = {"worse": 0, "better": 1, "no real difference": 2, "unknown": 3}


def in_sight(review: Review) -> tuple[Block, ...]:
    """Everything that a reviewer reads before unfolding anything, but for the first line."""
    return (*_gates(review), *_hypothesis(review), *_metrics(review), *_warnings(review))


def _gates(review: Review) -> Iterator[Block]:
    """How many gates hold it back, those with their numbers; and what merging would do."""
    held = [gate for gate in review.gates if gate.outcome == "held"]
    merging = _merging(review)
    if not review.gates:
        if review.verdict not in ("take main in", "pending", "failed"):
            yield ("Gates: none was looked at.", *merging)
    elif not held:
        yield (Judged("passed", f"All {counted(len(review.gates), 'gate')} passed"), ".", *merging)
    else:
        yield (Judged("held", f"{_hold(len(held), len(review.gates))} it back"), ".", *merging)
        yield Bullets(tuple(_gate_line(gate) for gate in held))


def _hold(held: int, all_of_them: int) -> str:
    return f"{held} of {counted(all_of_them, 'gate')} hold{'s' if held == 1 else ''}"


def _gate_line(gate: Gate) -> Line:
    return (Code(gate.name), ": ", Prose(gate.measured), " (asked: ", Prose(gate.asked), ")")


def _merging(review: Review) -> Line:
    if review.branch == review.base or (not review.gates and not review.merge.conflicts):
        return ()
    if review.merge.conflicts:
        return (" It cannot be merged as it is.",)
    if not review.merge.moves:
        return (" Merging would change no model.",)
    if not review.merge.promotes:
        return (" Merged all the same, it would be the model of ", Code(review.base), " against the gates.")
    again = ", trained anew" if review.merge.trains else ", with no training"
    return (" Merging makes it the model of ", Code(review.base), f"{again}.")


def _hypothesis(review: Review) -> Iterator[Block]:
    if review.hypothesis:
        yield ("Hypothesis: ", Prose(review.hypothesis))


def _metrics(review: Review) -> Iterator[Block]:
    """The primary metric first, then those that moved; and on which rows they were measured."""
    rows = ranked(review)[:METRICS_IN_SIGHT]
    if rows:
        yield metric_grid(review, rows)
        yield (*_contest(review), *_measured_on(review, len(review.metrics) - len(rows)), _arrows(rows))


def _contest(review: Review) -> Line:
    champion: Line = ("none",)
    if review.champion is not None:
        champion = (Code(review.champion.id[:_DIGITS]), " of ", Code(review.champion.branch))
    merged: Line = (" merged with ", Code(review.base)) if review.judged == "merge" else ()
    return ("Champion: ", *champion, ". Challenger: ", Code(review.branch), *merged, ".")


def _measured_on(review: Review, rest: int) -> Line:
    ruler = review.ruler
    if ruler is None:
        return ()
    times = "for the first time" if ruler.uses == 1 else f"{plain_number(ruler.uses)} times by now"
    more = f" {counted(rest, 'more metric')} below." if rest else ""
    rows = f"{counted(ruler.rows, 'test row')} that neither model had seen"
    return (f" Measured on {rows}; this test side was used {times}.{more}",)


def _arrows(rows: list[MetricJudged]) -> str:
    """What the arrows beside the names mean."""
    ways = {"minimize": "↓: lower is better", "maximize": "↑: higher is better"}
    there = {row.direction for row in rows}
    told = ", ".join(words for way, words in ways.items() if way in there)
    return f" {told}." if told else ""


def ranked(review: Review) -> list[MetricJudged]:
    return sorted(review.metrics, key=lambda row: (row.metric != review.primary, _ORDER[row.standing]))


def metric_grid(review: Review, rows: list[MetricJudged]) -> Grid:
    head = ("Metric", "Champion", "Challenger", "Change", f"{confidence_text(review.confidence)} interval", "")
    return Grid(head, tuple(_metric_row(row, review.primary) for row in rows), frozenset({1, 2, 3, 4}))


def _metric_row(row: MetricJudged, primary: str) -> tuple[Line, ...]:
    relative = share_text(row.relative)
    change = short_number(row.change) + (f" ({relative})" if relative != ABSENT else "")
    return (
        metric_name(row, primary),
        (plain_number(row.champion),),
        (plain_number(row.challenger),),
        (change,),
        (interval_text(row.interval),),
        (Judged(row.standing),),
    )


def _warnings(review: Review) -> Iterator[Block]:
    """What must not be missed even where the whole got better."""
    lines: list[Line] = []
    if review.slices:
        looked = f"{len(review.slices)} of {counted(review.slices_looked_at, 'slice')}"
        lines.append((Judged("attention", f"Worse on {looked}"), ": ", *_slice_names(review.slices)))
    if review.expectations:
        failed = [one for one in review.expectations if one.severity == "critical"]
        asked = f" of {review.expectations_asked}" if review.expectations_asked else ""
        told = f"{len(review.expectations)}{asked} expectations of the data not met"
        kinds = f" ({len(failed)} critical)" if failed else " (warnings)"
        lines.append((Judged("attention", told), f"{kinds}: ", *_expected(review)))
    lines += [(Judged("attention", told),) for told in _what_merging_moves(review)]
    if review.merge.moves_policy:
        named = tuple(dict.fromkeys((*(one.key for one in review.merge.policy), *review.merge.policy_files)))
        lines.append((Judged("attention", "Merging changes what no gate judges"), ": ", *listed(named, _MOST_NAMES)))
    same = [one for one in review.relatives if one.kind == "same"]
    lines += [(Judged("attention", "Already run"), " as ", *_relative_line(one)) for one in same[:LINES_IN_SIGHT]]
    lines += [(Strong("Note"), ": ", Prose(note)) for note in review.notes[:_MOST_NOTES]]
    if lines:
        yield Bullets(tuple(lines))


def _what_merging_moves(review: Review) -> Iterator[str]:
    """Changes of the ruler itself: what later reports are measured by."""
    keys = [one.key for one in review.config] if review.branch != review.base else []
    if any(key.startswith("split.") for key in keys):
        yield "Merging changes which rows are the test side"
    if "evaluation.primary" in keys:
        yield "Merging changes which metric ranks"


def _slice_names(slices: tuple[SliceJudged, ...]) -> Line:
    told: list[Line] = []
    for one in slices[:LINES_IN_SIGHT]:
        numbers = f" {plain_number(one.champion)} → {plain_number(one.challenger)} ({counted(one.rows, 'row')})"
        told.append((Code(one.column), " ", Code(one.value), numbers))
    rest = len(slices) - LINES_IN_SIGHT
    return _joined(told, f" and {plain_number(rest)} more" if rest > 0 else "")


def _expected(review: Review) -> Line:
    told = [
        (Code(one.type), " of ", Code(one.column)) if one.column else (Code(one.type),) for one in review.expectations
    ]
    rest = len(told) - LINES_IN_SIGHT
    return _joined(list(told[:LINES_IN_SIGHT]), f" and {plain_number(rest)} more" if rest > 0 else "")


def _joined(lines: list[Line], end: str) -> Line:
    parts: Line = ()
    for line in lines:
        parts = (*parts, "; ", *line) if parts else line
    return (*parts, end) if end else parts


def _relative_line(one: Relative) -> Line:
    outcome: Line = (f" {one.outcome}",)
    if one.outcome == "failed":
        outcome = (" failed, ", Prose(one.reason)) if one.reason else (" failed",)
    elif one.metric is not None:
        outcome = (f" succeeded with {plain_number(one.metric)} on the validation side",)
    return (Code(one.run[:_DIGITS]), " of ", Code(one.branch), " (", Prose(one.lifecycle), "):", *outcome)


def metric_name(row: MetricJudged, primary: str) -> Line:
    return (Code(row.metric, strong=row.metric == primary), direction_mark(row))
