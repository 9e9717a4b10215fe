"""What ``gc`` and ``forget`` would do, and did, for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from cd4ml.index.retention import Freed, LetGo, Stored
from cd4ml.report.visible import visible

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_MOST_RUNS = 3
_KIBI = 1024


def size_text(count: float) -> str:
    """A number of bytes: ``"1.5 MiB"``."""
    for unit in _UNITS[:-1]:
        if count < _KIBI:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= _KIBI
    return f"{count:.1f} {_UNITS[-1]}"


def let_go_table(runs: Iterable[LetGo]) -> RenderableType:
    """The runs whose artefacts a rule lets go."""
    table = _table("run let go", "objects", "size", "rule")
    for one in runs:
        table.add_row(
            Text(one.run), str(len(one.objects)), size_text(sum(one.objects.values())), Text(visible(one.rule))
        )
    return table


def freed_table(free: Iterable[Freed]) -> RenderableType:
    """The objects that go, by place, reason and the runs that held them."""
    groups: dict[tuple[str, str, tuple[str, ...]], list[Stored]] = {}
    for one in free:
        groups.setdefault((one.stored.where, one.why, one.runs), []).append(one.stored)
    table = _table("where", "objects", "size", "of runs", "why")
    for (where, why, runs), stored in groups.items():
        more = f" and {len(runs) - _MOST_RUNS} more" if len(runs) > _MOST_RUNS else ""
        size = size_text(sum(one.bytes for one in stored))
        table.add_row(where, str(len(stored)), size, Text(", ".join(runs[:_MOST_RUNS]) + more), Text(visible(why)))
    return table


def totals(free: Iterable[Freed]) -> str:
    """``"12 objects, 3.4 MiB in the cache; 10 objects, 3.1 MiB on the DVC remote"``."""
    found: dict[str, list[int]] = {}
    for one in free:
        found.setdefault(one.stored.where, []).append(one.stored.bytes)
    places: Mapping[str, str] = {"local": "in the cache", "remote": "on the DVC remote"}
    parts = [
        f"{_objects(len(found[where]))}, {size_text(sum(found[where]))} {told}"
        for where, told in places.items()
        if where in found
    ]
    return "; ".join(parts) or "nothing"


def kept_line(what: str, stored: Iterable[Stored]) -> str:
    """``"3 objects (1.2 MiB) what"``; ``""`` for none."""
    sizes = [one.bytes for one in stored]
    return f"{_objects(len(sizes))} ({size_text(sum(sizes))}) {what}" if sizes else ""


def _objects(count: int) -> str:
    return f"{count} object{'s' * (count != 1)}"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in ("objects", "size") else "left", overflow="fold")
    return table
