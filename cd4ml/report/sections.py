"""A review as a document: what stands open, and what folds, in the order in which a reviewer asks."""

from __future__ import annotations

from collections.abc import Iterator

from cd4ml.promotion.review import Review, Ruler, RunTold
from cd4ml.report.changes import code_section, config_section, data_section, environment_section, value_text
from cd4ml.report.document import Block, Bullets, Code, Document, Grid, Judged, Line, Prose, Section, Shell
from cd4ml.report.in_sight import LINES_IN_SIGHT, METRICS_IN_SIGHT, in_sight, metric_grid, metric_name, ranked
from cd4ml.report.layout import counted
from cd4ml.report.verdict import amount_text, interval_text, listed, reason_line, short_number, verdict_line
from cd4ml.report.visible import ABSENT, plain_number

_DIGITS = 10


def document_of(review: Review) -> Document:
    """Everything that a review says, in the order in which it is told; the most dispensable section is the last."""
    sections = (
        _gates_in_full(review),
        _metrics_in_full(review),
        _slices(review),
        _compared(review),
        config_section(review.config),
        data_section(review.data, review.moved),
        code_section(review.code),
        environment_section(review.environment),
        _cost(review),
        _relatives(review),
        _expectations(review),
        _merge(review),
        _reproduce(review),
    )
    return Document(verdict_line(review), in_sight(review), tuple(one for one in sections if one is not None))


def _gates_in_full(review: Review) -> Section | None:
    if not review.gates:
        return None
    rows = tuple(
        ((Code(gate.name),), (Prose(gate.asked),), (Prose(gate.measured),), (Judged(gate.outcome),))
        for gate in review.gates
    )
    passed = sum(gate.outcome == "passed" for gate in review.gates)
    return Section("Gates", (f"{passed} of {len(rows)} passed",), (Grid(("Gate", "Asked", "Measured", ""), rows),))


def _metrics_in_full(review: Review) -> Section | None:
    """Every metric, where not all are in sight; and what each was elsewhere, with the interval that gates use."""
    rows = ranked(review)
    blocks: list[Block] = [metric_grid(review, rows)] if len(rows) > METRICS_IN_SIGHT else []
    columns = [
        ("Merge base", "the merge base", [plain_number(row.merge_base) for row in rows]),
        ("In production", "production", [plain_number(row.production) for row in rows]),
        ("Interval for gates", "the intervals that gates use", [interval_text(row.corrected) for row in rows]),
    ]
    there = [(head, values) for head, _, values in columns if set(values) != {ABSENT}]
    if rows and there:
        cells = zip(*(values for _, values in there), strict=True)
        others = tuple(
            (metric_name(row, review.primary), *((cell,) for cell in of)) for row, of in zip(rows, cells, strict=True)
        )
        heads = ("Metric", *(head for head, _ in there))
        blocks.append(Grid(heads, others, frozenset(range(1, len(heads)))))
    ruler = review.ruler
    if rows and there and ruler is not None and ruler.rows < ruler.declared and there[0][0] != "Interval for gates":
        blocks.append((f"The merge base and production: on all {plain_number(ruler.declared)} rows of the test side.",))
    if not blocks:
        return None
    told = [words for _, words, values in columns if set(values) != {ABSENT}]
    beside = f", with {_and(told)}" if told else ""
    return Section("Metrics", (f"all {plain_number(len(rows))}{beside}",), tuple(blocks))


def _slices(review: Review) -> Section | None:
    if not review.slices:
        return None
    head = ("Column", "Value", "Rows", "Champion", "Challenger", "Change", "Interval")
    rows = tuple(
        (
            (Code(one.column),),
            (Code(one.value),),
            (plain_number(one.rows),),
            (plain_number(one.champion),),
            (plain_number(one.challenger),),
            (short_number(one.change),),
            (interval_text(one.interval),),
        )
        for one in review.slices
    )
    summary = f"{len(rows)} of {plain_number(review.slices_looked_at)} got worse by more than chance explains"
    why: Line = (
        "Of the metric ",
        Code(review.slices[0].metric),
        f"; the intervals allow for {counted(review.slices_looked_at, 'slice')} having been looked at.",
    )
    return Section("Slices", (summary,), (why, Grid(head, rows, frozenset(range(2, 7)))))


def _compared(review: Review) -> Section | None:
    """Which runs were held against each other, on which rows, and why the verdict is what it is."""
    lines: list[Line] = []
    merged: Line = (" merged with ", Code(review.base), " at ", Code(review.base_commit[:_DIGITS]))
    tree: Line = (Code(review.branch), " at ", Code(review.commit[:_DIGITS]))
    lines.append(("Judged: ", *tree, *(merged if review.judged == "merge" else ())))
    if review.author:
        lines.append(("Author: ", Prose(review.author)))
    named = (
        ("Challenger", review.challenger),
        ("Champion", review.champion),
        ("Merge base", review.merge_base),
        ("In production", review.production),
    )
    champion = review.champion.id if review.champion is not None else ""
    for title, told in named:
        if told is not None:
            lines.append((f"{title}: ", *_run_line(told, "" if title == "Champion" else champion)))
    if review.reason and review.verdict in ("better", "worse", "no real difference", "unverified"):
        lines.append(("Verdict: ", *reason_line(review)))
    lines += _ruler_lines(review)
    title, summary = "Tree and runs", "which these are"
    if review.ruler is not None:
        title, summary = "How it was judged", f"on {_share_of_rows(review.ruler)}, which neither model had seen"
    return Section(title, (summary,), (Bullets(tuple(lines)),))


def _share_of_rows(ruler: Ruler) -> str:
    rows = counted(ruler.declared, "test row")
    return f"all {rows}" if ruler.rows == ruler.declared else f"{plain_number(ruler.rows)} of {rows}"


def _run_line(told: RunTold, champion: str) -> Line:
    """A run in short, and shorter where it is the champion, which was told before."""
    parts: Line = ("the champion",)
    if told.id != champion:
        parts = (Code(told.id[:_DIGITS]), " of ", Code(told.branch))
        parts = (*parts, ", model ", Code(told.model[:_DIGITS])) if told.model else parts
        parts = (*parts, ", finished ", Code(told.finished)) if told.finished else parts
    if told.release:
        parts = (*parts, ", release ", Code(told.release))
    return (*parts, " in ", Code(told.environment)) if told.environment else parts


def _ruler_lines(review: Review) -> Iterator[Line]:
    ruler = review.ruler
    if ruler is None:
        return
    side: Line = (" declares as its test side (", Code(ruler.digest[:_DIGITS]), ")")
    yield (
        f"Ruler: {counted(ruler.rows, 'row')} of the {plain_number(ruler.declared)} that ",
        Code(review.base),
        *side,
        f"; at least {plain_number(ruler.min_rows)} are needed",
    )
    dropped = [
        (ruler.seen_by_champion, "the champion saw in training or validation"),
        (ruler.seen_by_challenger, "the challenger saw in training or validation"),
        (ruler.not_predicted, "one of them has no prediction for"),
    ]
    told = [f"{plain_number(count)} that {why}" for count, why in dropped if count]
    yield (f"Dropped rows: {_and(told) or 'none'}",)
    if ruler.matched_by:
        yield ("The two tables differ in columns; rows were matched by ", *listed(ruler.matched_by, 12))
    if ruler.uses > 1:
        times = f"This test side was used {plain_number(ruler.uses)} times, this result included"
        yield (f"{times}; the intervals that gates use are wider to allow for it",)
    else:
        yield ("This test side was used once, by this result",)
    if review.slices_looked_at and not review.slices:
        yield (f"None of {counted(review.slices_looked_at, 'slice')} got worse by more than chance explains",)


def _cost(review: Review) -> Section | None:
    known = [row for row in review.cost if (row.champion, row.challenger) != (None, None)]
    if not known:
        return None
    rows = tuple(
        (
            (Prose(row.name),),
            (Prose(amount_text(row.champion, row.unit)),),
            (Prose(amount_text(row.challenger, row.unit)),),
            (_times(row.champion, row.challenger),),
        )
        for row in known
    )
    first = known[0]
    change = f"{amount_text(first.champion, first.unit)} → {amount_text(first.challenger, first.unit)}"
    grid = Grid(("", "Champion", "Challenger", "Ratio"), rows, frozenset({1, 2, 3}))
    return Section("Cost", (Prose(first.name), " ", Prose(change)), (grid,))


def _times(old: float | None, new: float | None) -> str:
    """How many times as much."""
    if old is None or new is None or not 0 < old < float("inf"):
        return ABSENT
    return f"× {plain_number(new / old)}"


def _relatives(review: Review) -> Section | None:
    if not review.relatives:
        return None
    same = sum(one.kind == "same" for one in review.relatives)
    near = len(review.relatives) - same
    rows = tuple(
        (
            (Code(one.run[:_DIGITS]),),
            (Code(one.branch),),
            (Prose(one.lifecycle),),
            (Prose(f"failed: {one.reason}"),) if one.outcome == "failed" else ("succeeded",),
            (plain_number(one.metric),),
            (Code(one.key), " ", Code(value_text(one.there)), ", here ", Code(value_text(one.here)))
            if one.kind == "near"
            else ("the same",),
        )
        for one in review.relatives
    )
    kinds = ((same, "of the same"), (near, "of the same but for one key"))
    told = [f"{counted(number, 'run')} {what}" for number, what in kinds if number]
    head = ("Run", "Branch", "Lifecycle", "Outcome", "Validation", "What differs")
    return Section("Tried before", (_and(told),), (Grid(head, rows, frozenset({4})),))


def _expectations(review: Review) -> Section | None:
    if len(review.expectations) <= LINES_IN_SIGHT:
        return None
    rows = tuple(((Code(one.type),), (Code(one.column),), (one.severity,)) for one in review.expectations)
    return Section(
        "Expectations", (f"{plain_number(len(rows))} not met",), (Grid(("Expectation", "Column", "Severity"), rows),)
    )


def _merge(review: Review) -> Section | None:
    if review.merge.conflicts:
        files = tuple((Code(path),) for path in review.merge.conflicts)
        return Section("Conflicts", (counted(len(files), "file"),), (Bullets(files), *_policy(review)))
    if review.branch == review.base:
        return None
    if review.verdict in ("pending", "failed"):
        moved = tuple(_policy(review))
        return Section("What merging would do", (), moved) if moved else None
    trains = (
        "The base branch would have to be trained anew"
        if review.merge.trains
        else "Nothing would be trained: the run that was judged answers the merged base branch, too"
    )
    lines = (
        _model_after(review),
        (trains,),
        ("Of the base branch's fingerprint would move: ", *(listed(review.merge.moves, 8) or ("nothing",))),
    )
    return Section("What merging would do", (), (Bullets(lines), *_policy(review)))


def _model_after(review: Review) -> Line:
    if not review.merge.moves:
        return ("No model would change",)
    against = "" if review.merge.promotes else ", against the gates"
    return ("It would be the model of ", Code(review.base), against)


def _policy(review: Review) -> Iterator[Block]:
    """What would change of the base branch's own say, from its value to the branch's."""
    if review.merge.policy:
        rows = tuple(
            ((Code(one.key),), _value(one.champion, one.how == "added"), _value(one.challenger, one.how == "removed"))
            for one in review.merge.policy
        )
        yield ("Of the policy, of which only the base branch's values count:",)
        yield Grid(("Key", "Now", "After the merge"), rows)
    if review.merge.policy_files:
        yield ("Files that act for the base branch:",)
        yield Bullets(tuple((Code(path),) for path in review.merge.policy_files))


def _value(value: object, lacking: bool) -> Line:
    return (ABSENT,) if lacking else (Code(value_text(value)),)


def _reproduce(review: Review) -> Section | None:
    if not review.reproduce:
        return None
    return Section("Reproduce it", (), (Shell(review.reproduce),))


def _and(parts: list[str]) -> str:
    """``a, b and c``."""
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} and {parts[-1]}"
