"""One run for people: everything that the index knows of it, a line each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from cd4ml.report.visible import plain_number, visible

_FIELDS = (
    "id",
    "branch",
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


def run_view(row: Mapping[str, Any]) -> RenderableType:
    """A row of the index as ``field  value`` lines, then its metrics by side and its cost by stage."""
    table = Table.grid(padding=(0, 2))
    for name in _FIELDS:
        if row.get(name):
            table.add_row(Text(name, style="dim"), Text(visible(row[name])))
    for side, values in row["metrics"].items():
        shown = ", ".join(f"{metric} {plain_number(value)}" for metric, value in values.items())
        table.add_row(Text(f"{side} metrics", style="dim"), Text(visible(shown)))
    if row.get("cost"):
        spent = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in row["cost"].items())
        table.add_row(Text("cost", style="dim"), Text(visible(spent)))
    return table
