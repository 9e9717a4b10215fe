"""A resolved configuration for people: every value, and the file that it came from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rich.cells import cell_len
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from cd4ml.report.visible import visible


def config_view(leaves: Mapping[str, Mapping[str, Any]]) -> RenderableType:
    """One line a value: its dotted key, the value as JSON, and the file."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, min_width=max(map(cell_len, map(visible, leaves)), default=0))  # to be found whole
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    for key, leaf in leaves.items():
        value = json.dumps(leaf["value"], ensure_ascii=False)
        table.add_row(Text(visible(key)), Text(visible(value)), Text(visible(str(leaf["file"])), style="dim"))
    return table
