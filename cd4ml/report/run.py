"""One run for people: what the index knows of it, a line each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from cd4ml.report.keeping import size_text
from cd4ml.report.visible import ABSENT, plain_number, visible

_SLICES_SHOWN = 10

_FIELDS = (
    "id",
    "branch",
    "side",
    "lifecycle",
    "health",
    "role",
    "reason",
    "name",
    "hypothesis",
    "conclusion",
    "author",
    "commit",
    "result_commit",
    "fingerprint",
    "model_digest",
    "started",
    "finished",
)


def run_view(row: Mapping[str, Any], record: Mapping[str, Any] | None) -> RenderableType:
    """A row of the index and the run record behind it as ``name  value`` lines; what is empty is left out."""
    table = Table.grid(padding=(0, 2))
    lines = [(name, str(row.get(name) or "")) for name in _FIELDS]
    lines.append(("tags", ", ".join(map(str, row.get("tags") or ()))))
    brought = _brought(row) if row.get("role") == "imported" else ()
    for name, value in (*lines, *_let_go(row), *_measured(row), *brought, *(_recorded(record) if record else ())):
        if value:
            table.add_row(Text(name, style="dim"), Text(visible(value)))
    return table


def _let_go(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    removal = row.get("removal")
    if removal:
        what = "erased" if removal["what"] == "run" else "artefacts let go"
        yield "let go", f"{what} at {removal['at']} by {removal['by']} ({removal['reason']})"


def _measured(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for side, values in row["metrics"].items():
        yield f"{side} metrics", ", ".join(f"{metric} {plain_number(value)}" for metric, value in values.items())
    cost = dict(row["cost"])
    peaks, latency = cost.pop("peak_bytes", {}), cost.pop("prediction_seconds_per_row", None)
    yield "cost", ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in cost.items())
    if peaks:
        yield "peak memory", ", ".join(f"{stage} {size_text(peak)}" for stage, peak in peaks.items())
    if latency is not None:
        yield "prediction", f"{latency:.3g} s a row"


def _brought(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What another tool said of a run: it has no configuration here that could be looked up."""
    for name, value in row["params"].items():
        yield f"params.{name}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=dict)


def _recorded(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What only the record says: data, split, expectations, environment."""
    for source, pin in record["data"].items():
        yield f"data {source}", f"{plain_number(pin['rows'])} rows, {pin['digest'][:12]}"
    yield "split", ", ".join(f"{side} {plain_number(part['rows'])} rows" for side, part in record["split"].items())
    for column, part in (record.get("slices") or {}).items():
        yield from _sliced(column, part, str(record["primary"]["metric"]))
    suite = record["validation"]
    if suite:
        failed = ", ".join(f"{one['type']} on {one['column']} ({one['severity']})" for one in suite["failed"])
        met = suite["asked"] - len(suite["failed"])
        yield "expectations", f"{met} of {suite['asked']} met" + (f"; failed: {failed}" if failed else "")
    packages = record["environment"]["packages"]
    yield (
        "environment",
        ", ".join(
            [f"python {record['environment']['python']}", *(f"{name} {version}" for name, version in packages.items())]
        ),
    )


def _sliced(column: str, part: Mapping[str, Any], metric: str) -> Iterator[tuple[str, str]]:
    """The primary metric on the test side for the values of a column that have most rows."""
    shown = [f"{one['value']} {_known(one['test'].get(metric))}" for one in part["values"][:_SLICES_SHOWN]]
    more = len(part["values"]) - len(shown) + part["left_out"]
    yield f"test {metric} by {column}", ", ".join([*shown, *([f"{more} more"] if more else [])])


def _known(value: float | None) -> str:
    return ABSENT if value is None else plain_number(value)
