"""Several runs side by side: one column a run, the first of which the others are held against."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cd4ml.index.record import RunRecord
from cd4ml.promotion.compare import (
    RULER,
    Comparison,
    Judgement,
    compare,
    directions_of,
    finite,
    ordered_sides,
    side_digest,
)
from cd4ml.promotion.configuration import differing, key_text, plain, values_of
from cd4ml.promotion.inputs import LinesChanged, Source, packages_of
from cd4ml.spec.experiment import Direction

Section = Literal["metrics", "test rows", "config", "data", "columns", "environment", "code"]


@dataclass(frozen=True)
class Cell:
    """What one run has. ``there`` tells a value that is ``null`` from one that is missing.

    ``judgement`` is of metrics alone, against the first run's.
    """

    value: Any
    there: bool = True
    judgement: Judgement | None = None


MISSING = Cell(None, there=False)


@dataclass(frozen=True)
class ContrastRow:
    """One thing that is told of every run; ``direction`` is of metrics alone."""

    section: Section
    name: str
    cells: tuple[Cell, ...]
    direction: Direction | None = None


@dataclass(frozen=True)
class Contrast:
    """Runs by their ids, every metric, and all else in which they differ.

    ``comparisons`` are of the first with each other run, in their order.
    """

    runs: tuple[str, ...]
    rows: tuple[ContrastRow, ...]
    comparisons: tuple[Comparison, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values: ``runs`` and ``rows``."""
        rows = [
            {
                "section": row.section,
                "name": row.name,
                "direction": row.direction,
                "cells": [{"value": one.value, "there": one.there, "judgement": one.judgement} for one in row.cells],
            }
            for row in self.rows
        ]
        return {"runs": list(self.runs), "rows": rows}


def contrast(
    runs: Sequence[RunRecord],
    min_improvement: float = 0.0,
    sources: Sequence[Source] | None = None,
    lines: Sequence[LinesChanged] | None = None,
) -> Contrast:
    """Two or more runs side by side; ``sources`` is what their commits hold, ``lines``, for each but the first, how
    many lines its files gained and lost.
    """
    known = tuple(sources or [Source()] * len(runs))
    first, *others = runs
    comparisons = tuple(
        compare(first, other, min_improvement, (known[0], source), changed)
        for other, source, changed in zip(others, known[1:], lines or [{}] * len(others), strict=True)
    )
    rows = (
        *_metric_rows(runs, comparisons),
        *_differing("test rows", [{RULER: digest} if (digest := side_digest(run, RULER)) else {} for run in runs]),
        *_config_rows(runs),
        *_differing("data", [_pins(run) for run in runs]),
        *_column_rows(known),
        *_package_rows(runs, known),
        *_file_rows(known),
    )
    return Contrast(tuple(run.id for run in runs), rows, comparisons)


def _metric_rows(runs: Sequence[RunRecord], comparisons: Sequence[Comparison]) -> Iterator[ContrastRow]:
    directions = directions_of(runs[0])
    judged = [{(one.side, one.metric): one.judgement for one in each.metrics} for each in comparisons]
    for side in ordered_sides({side for run in runs for side in run.metrics}):
        for metric in dict.fromkeys(name for run in runs for name in run.metrics.get(side) or {}):
            values = [finite((run.metrics.get(side) or {}).get(metric)) for run in runs]
            judgements = [None, *(each.get((side, metric)) for each in judged)]
            cells = tuple(
                MISSING if value is None else Cell(value, judgement=judgement)
                for value, judgement in zip(values, judgements, strict=True)
            )
            yield ContrastRow("metrics", f"{side} {metric}", cells, directions.get(metric))


def _config_rows(runs: Sequence[RunRecord]) -> Iterator[ContrastRow]:
    configurations = [values_of(run.params) for run in runs]
    for path in differing(configurations):
        cells = tuple(Cell(plain(values[path])) if path in values else MISSING for values in configurations)
        yield ContrastRow("config", key_text(path), cells)


def _differing(section: Section, columns: Sequence[Mapping[str, Any]]) -> Iterator[ContrastRow]:
    """Rows for the names at which the mappings do not all hold the same."""
    for name in sorted({name for column in columns for name in column}):
        cells = tuple(Cell(column[name]) if name in column else MISSING for column in columns)
        if any(cell != cells[0] for cell in cells):
            yield ContrastRow(section, name, cells)


def _pins(run: RunRecord) -> dict[str, Any]:
    return {name: {"digest": pin["digest"], "rows": pin["rows"]} for name, pin in (run.body.get("data") or {}).items()}


def _column_rows(sources: Sequence[Source]) -> Iterator[ContrastRow]:
    """Types of columns, of the sources whose pins can be read for all runs."""
    shared = {name for name in sources[0].columns if all(name in one.columns for one in sources)}
    columns = [
        {f"{name}.{column}": kind for name in shared for column, kind in source.columns[name]} for source in sources
    ]
    yield from _differing("columns", columns)


def _package_rows(runs: Sequence[RunRecord], sources: Sequence[Source]) -> Iterator[ContrastRow]:
    locked = all(one.packages is not None for one in sources)
    packages = [packages_of(run.body, one if locked else Source()) for run, one in zip(runs, sources, strict=True)]
    yield from _differing("environment", packages)


def _file_rows(sources: Sequence[Source]) -> Iterator[ContrastRow]:
    """Files that count, by the object that Git keeps of each; nothing where a commit cannot be read."""
    files = [one.files for one in sources]
    if None not in files:
        yield from _differing("code", [one or {} for one in files])
