"""Where things come from and what became of them, as trees of text; and on which side of each split a row lies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.text import Text
from rich.tree import Tree

from cd4ml.index.lineage import Answer, ModelRun, Relation
from cd4ml.index.record import RunRecord
from cd4ml.report.layout import Column, Row, branch_text, counted, listing, word
from cd4ml.report.visible import ABSENT, plain_number, visible
from cd4ml.spec.pin import Pin
from cd4ml.spec.secrets import redacted

_DIGITS = 12
_RELATIONS: Mapping[Relation, str] = {"is": "run", "made": "made by", "used": "used by"}
_MOST_PARTS = 3
_MOST_ANSWERS = 5


def heading(digest: str, what: Sequence[str], runs: int, left_out: int) -> Text:
    """What a digest stands for, in a line."""
    parts = ", ".join(visible(one) for one in what[:_MOST_PARTS])
    more = f" and {len(what) - _MOST_PARTS} more parts" if len(what) > _MOST_PARTS else ""
    told = counted(runs + left_out, "run")
    return Text.assemble((visible(digest), "bold"), f": {parts}{more}, of {told}", overflow="fold")


def run_tree(
    run: RunRecord,
    *,
    relation: Relation,
    role: str,
    result_commit: str,
    pins: Mapping[str, Pin],
    answers: Sequence[Answer],
    let_go: str,
    whole: bool,
) -> Tree:
    """One run: above it what it was made from, and what it led to; ``whole`` has all, else the model and answers."""
    state = "" if run.succeeded else " failed"
    title = Text.assemble(
        f"{_RELATIONS[relation]} ",
        (visible(run.id), "bold"),
        f" {visible(run.fingerprint[:_DIGITS])} of {visible(run.branch)}, {role}{state}",
        overflow="fold",
    )
    tree = Tree(title)
    lines = [*(_from(run, pins) if whole else ()), *_made(run, result_commit if whole else "")]
    for line in [*lines, *_answered(answers), *([visible(let_go)] if let_go else [])]:
        tree.add(Text(line, overflow="fold"))
    return tree


def _from(run: RunRecord, pins: Mapping[str, Pin]) -> Iterator[str]:
    for source, recorded in run.body["data"].items():
        known = f"data {visible(source)} {recorded['digest'][:_DIGITS]}, {plain_number(recorded['rows'])} rows"
        pin = pins.get(source)
        yield f"from {known}" + (
            f", of {visible(redacted(pin.location))}, fetched {visible(pin.fetched)}"
            if pin
            else ", its pin cannot be read"
        )
    yield f"from code {run.components['code'][:_DIGITS]} of commit {run.commit[:_DIGITS]}"
    judge = run.body.get("judge")
    if judge:
        yield f"from the judge's code {visible(judge['code'][:_DIGITS])} of commit {judge['commit'][:_DIGITS]}"
    environment = run.body["environment"]
    packages = [f"{name} {version}" for name, version in environment["packages"].items()]
    told = ", ".join(visible(one) for one in [f"python {environment['python']}", *packages])
    yield f"from environment {run.components['env'][:_DIGITS]}: {told}"


def _made(run: RunRecord, result_commit: str) -> Iterator[str]:
    if run.succeeded:
        table = run.body["table"]
        yield f"made table {table['digest'][:_DIGITS]}, {plain_number(table['rows'])} rows"
        yield f"made model {run.body['model']['digest'][:_DIGITS]}"
    else:
        reason = run.reason or {}
        yield f"failed at {visible(reason.get('stage'))}: {visible(reason.get('message'))}"
    if result_commit:
        yield f"made commit {result_commit[:_DIGITS]}"


def _answered(answers: Sequence[Answer]) -> Iterator[str]:
    for one in answers[:_MOST_ANSWERS]:
        of = "" if one.side == "head" else ", merged with the base branch"
        yield f"answers {visible(one.branch)} at {one.commit[:_DIGITS]}{of}"
    if len(answers) > _MOST_ANSWERS:
        yield f"answers {counted(len(answers) - _MOST_ANSWERS, 'more commit')}"


def rows_view(
    looks: Sequence[tuple[str, Mapping[str, int] | None, str, Sequence[ModelRun]]], let_go: Mapping[str, str]
) -> RenderableType:
    """``(side, rows by side, why it is unknown, runs)`` of each look, as a line a run, and how many models trained.

    ``let_go`` says by run what was erased or let go of it.
    """
    rows: list[Row] = []
    for side, counts, unknown, runs in looks:
        for number, run in enumerate(runs, start=1):
            why = let_go.get(run.id) or (unknown if number == len(runs) else "")
            note = Text(visible(why), style="dim", overflow="fold") if why else None
            cells = (
                branch_text(run.branch),
                Text(visible(run.id)),
                Text(visible(run.model_digest[:_DIGITS])),
                word(side),
                Text(_counts(counts)),
            )
            rows.append(Row(cells, note))
    if not rows:
        return Text("No run has a model.")
    columns = [Column("Branch"), Column("Run"), Column("Model"), Column("Side"), Column("Rows", "right")]
    trained = {run.model_digest for _, counts, _, runs in looks if counts and counts["train"] for run in runs}
    unknown_runs = sum(len(runs) for _, counts, _, runs in looks if counts is None)
    told = f"{counted(len(trained), 'model')} {'was' if len(trained) == 1 else 'were'} trained on it"
    return Group(
        listing(columns, rows),
        Text(),
        Text(told + (f"; of {counted(unknown_runs, 'run')} it is not known" if unknown_runs else "") + "."),
    )


def _counts(counts: Mapping[str, int] | None) -> str:
    if counts is None:
        return ABSENT
    return plain_number(sum(counts.values()))
