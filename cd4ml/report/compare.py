"""Runs against each other as renderables for rich's console: two in words, several as a table, code as a patch.

What is better or worse is said by a mark and a word, and not by colour alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from cd4ml.promotion.compare import Comparison, Judgement, MetricChange, SliceChange
from cd4ml.promotion.configuration import ConfigChange
from cd4ml.promotion.inputs import DataChange, FileChange, PackageChange
from cd4ml.promotion.table import Cell, Contrast, ContrastRow
from cd4ml.report.changes import near_first
from cd4ml.report.layout import GAP, counted, word
from cd4ml.report.visible import ABSENT, percent, plain_number, signed_number, visible

CLASS_KEY = "_target_"
MARKS: Mapping[str, str] = MappingProxyType({"better": "▲", "worse": "▼", "equal": "="})

_DIGITS = 10
_MOST_FILES = 20
_MOST_SLICES = 10
_LONGEST_LINE = 400
_TITLES: Mapping[str, str] = MappingProxyType(
    {
        "metrics": "Metrics",
        "test rows": "Test rows",
        "config": "Configuration",
        "data": "Data",
        "columns": "Columns",
        "environment": "Environment",
        "code": "Code",
    }
)


def diff_view(comparison: Comparison) -> RenderableType:
    """A challenger against a champion: verdict, metrics, and what differs in all that they were made from."""
    parts: list[RenderableType] = [_verdict(comparison)]
    if comparison.metrics:
        parts += [Text(), _metrics(comparison.metrics)]
    for title, lines in (
        (f"Slices (test {visible(comparison.primary)})", list(_slice_lines(comparison.slices))),
        ("Configuration", _config_lines(comparison.config)),
        ("Data", list(_data_lines(comparison.data))),
        ("Environment", [_package_line(change) for change in comparison.environment]),
        ("Code", list(_code_lines(comparison))),
    ):
        if lines:
            parts += [Text(), Text(title, style="bold"), *(Padding(line, (0, 0, 0, 2)) for line in lines)]
    parts += [Text(), Text(f"Moved: {', '.join(comparison.moved) or 'nothing'}")]
    return Group(*parts)


def contrast_view(contrast: Contrast, names: Sequence[str]) -> RenderableType:
    """Several runs, a column each; the first is what the others are held against. ``names`` head the columns."""
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("", overflow="fold")
    for name, run in zip(names, contrast.runs, strict=True):
        table.add_column(Text(f"{visible(name)}\n{visible(run)[:_DIGITS]}"), overflow="fold")
    section = ""
    for row in contrast.rows:
        if row.section != section:
            blank = [Text()] * len(names)
            if section:
                table.add_row(Text(), *blank)
            table.add_row(Text(_TITLES[row.section], style="bold"), *blank)
            section = row.section
        table.add_row(Text(f"  {visible(row.name)}"), *(_cell(row, cell) for cell in row.cells))
    parts: list[RenderableType] = [table, Text()]
    parts.append(Text(f"{MARKS['better']} better than the first, {MARKS['worse']} worse, {MARKS['equal']} equal"))
    for name, comparison in zip(names[1:], contrast.comparisons, strict=True):
        reason = Text.assemble(f"{visible(name)}: ", word(comparison.verdict), f": {visible(comparison.reason)}")
        parts.append(reason)
    if any(one.verdict in _STYLES for one in contrast.comparisons):
        parts.append(Text(_MORE_THAN_CHANCE))
    return Group(*parts)


def patch_view(text: str) -> RenderableType:
    """A unified diff; what files hold is made visible, tabs become blanks, and long lines are cut."""
    lines = text.removesuffix("\n").split("\n") if text else []
    return Group(*(_patch_line(line) for line in lines))


def _patch_line(line: str) -> Text:
    told = line.expandtabs(8)
    told = told if len(told) <= _LONGEST_LINE else f"{told[:_LONGEST_LINE]}… ({len(told)} characters)"
    heads = ("diff ", "index ", "--- ", "+++ ", "@@ ")
    style = "bold" if line.startswith(heads) else {"+": "green", "-": "red"}.get(line[:1], "")
    return Text(visible(told), style=style, overflow="fold")


def _judged(judgement: Judgement) -> Text:
    return word(judgement, f"{MARKS[judgement]} " if judgement in MARKS else "")


# ── several ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _cell(row: ContrastRow, cell: Cell) -> Text:
    if not cell.there:
        return Text(ABSENT)
    if row.section == "metrics":
        mark = MARKS.get(cell.judgement or "", "")
        return Text(f"{plain_number(cell.value)} {mark}".rstrip(), style=_STYLES.get(cell.judgement or "", ""))
    if row.section == "data":
        return Text(f"{visible(cell.value['digest'])[:_DIGITS]}\n{plain_number(cell.value['rows'])} rows")
    if row.section in ("test rows", "code"):
        return Text(visible(cell.value)[:_DIGITS])
    return Text(visible(_value(cell.value) if row.section == "config" else cell.value), overflow="fold")


_STYLES: Mapping[str, str] = MappingProxyType({"better": "green", "worse": "red"})
_MORE_THAN_CHANCE = "By the numbers alone: `cd4ml report BRANCH` says whether it is more than chance"


# ── code and slices ──────────────────────────────────────────────────────────────────────────────────────────────


def _code_lines(comparison: Comparison) -> Iterator[Text]:
    if comparison.code is None:
        if "code" in comparison.moved:
            yield Text("it differs; the files cannot be read here")
        return
    for change in comparison.code[:_MOST_FILES]:
        yield _file_line(change)
    if len(comparison.code) > _MOST_FILES:
        yield Text(f"{counted(len(comparison.code) - _MOST_FILES, 'more file')} (`--name-only` lists them)")
    if not comparison.code and "code" in comparison.moved:
        yield Text("the files are the same; which paths count, or their modes, differ")


def _file_line(change: FileChange) -> Text:
    sign = {"added": "+", "removed": "-", "changed": "~"}[change.how]
    lines = "" if change.added is None else f"  +{change.added} -{change.removed}"
    return Text.assemble(f"{sign} ", (visible(change.path), "bold"), lines, overflow="fold")


def _slice_lines(changes: Sequence[SliceChange]) -> Iterator[Text]:
    """The values of columns for which the primary metric on the test side moved most."""
    moved = [one for one in changes if one.side == "test" and one.change]
    moved.sort(key=lambda one: (-abs(one.change or 0.0), one.column, one.value))
    for one in moved[:_MOST_SLICES]:
        name = f"{visible(one.column)} {visible(one.value)}"
        numbers = f" {plain_number(one.champion)} → {plain_number(one.challenger)} "
        yield Text.assemble("~ ", (name, "bold"), numbers, _judged(one.judgement), overflow="fold")
    if len(moved) > _MOST_SLICES:
        yield Text(f"{counted(len(moved) - _MOST_SLICES, 'more slice')} (`--json` has them)")


# ── comparison ───────────────────────────────────────────────────────────────────────────────────────────────────


def _verdict(comparison: Comparison) -> Text:
    return Text.assemble(
        word(comparison.verdict),
        f": {visible(comparison.reason)}{_measured(comparison)}\n",
        f"Champion {visible(comparison.champion)}, challenger {visible(comparison.challenger)}\n",
        _rows_compared(comparison.test_rows),
        f"\n{_MORE_THAN_CHANCE}" if comparison.verdict in _STYLES else "",
    )


def _rows_compared(digests: tuple[str | None, str | None]) -> str:
    """Whether the two were measured on the same rows, in a line."""
    old, new = (visible((one or ABSENT)[:_DIGITS]) for one in digests)
    if None in digests or digests[0] != digests[1]:
        return f"Test rows: {old} and {new}, which are not the same"
    return f"Test rows: {old}, the same"


def _measured(comparison: Comparison) -> str:
    """The primary metric on the side that decides, old and new; nothing where it decided nothing."""
    row = next((one for one in comparison.metrics if (one.side, one.metric) == ("test", comparison.primary)), None)
    if row is None or not row.change or comparison.verdict == "not comparable":
        return ""
    lower = "lower" if row.direction == "minimize" else "higher"
    change = f"{plain_number(row.champion)} → {plain_number(row.challenger)}"
    return f", {change} ({percent(row.relative)}, {lower} is better)"


def _metrics(changes: Sequence[MetricChange]) -> Table:
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold")
    for title in ("Side", "Metric"):
        table.add_column(title, overflow="fold")
    for title in ("Champion", "Challenger", "Change", "Relative"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("")
    for change in changes:
        numbers = (
            plain_number(change.champion),
            plain_number(change.challenger),
            signed_number(change.change),
            percent(change.relative),
        )
        names = (Text(visible(change.side)), Text(visible(change.metric)))
        table.add_row(*names, *(Text(number) for number in numbers), _judged(change.judgement))
    return table


def _config_lines(changes: Sequence[ConfigChange]) -> list[Text]:
    """A line a change; where a class was changed for another, one line for all of its parameters.

    Two classes share no parameters worth comparing, and their long lists would bury the changes that are.
    """
    swapped = [
        one.key.removesuffix(CLASS_KEY) for one in changes if one.how == "changed" and one.key.endswith(f".{CLASS_KEY}")
    ]
    lines: list[Text] = []
    for change in near_first(changes):
        prefix = next((one for one in swapped if change.key.startswith(one)), None)
        if prefix is None:
            lines.append(_config_line(change))
        elif change.key == prefix + CLASS_KEY:
            theirs = sum(one.key.startswith(prefix) for one in changes) - 1
            lines.append(_config_line(change).append(f" (and {counted(theirs, 'parameter')})" if theirs else ""))
    return lines


def _config_line(change: ConfigChange) -> Text:
    return _change_line(change.key, change.how, _value(change.champion), _value(change.challenger))


def _data_lines(changes: Sequence[DataChange]) -> Iterator[Text]:
    for change in changes:
        old = _table(change.champion, change.champion_rows)
        yield _change_line(change.source, change.how, old, _table(change.challenger, change.challenger_rows))
        for column in change.columns:
            line = _change_line(column.column, column.how, str(column.champion), str(column.challenger))
            yield Text.assemble("  ", line, overflow="fold")


def _package_line(change: PackageChange) -> Text:
    return _change_line(change.package, change.how, str(change.champion), str(change.challenger))


def _change_line(name: str, how: str, old: str, new: str) -> Text:
    key = Text(visible(name), style="bold")
    if how == "added":
        return Text.assemble("+ ", key, f" {visible(new)}", overflow="fold")
    if how == "removed":
        return Text.assemble("- ", key, f" {visible(old)}", overflow="fold")
    return Text.assemble("~ ", key, f" {visible(old)} → {visible(new)}", overflow="fold")


def _value(value: Any) -> str:
    """As JSON, so that the text ``1`` and the number 1 are told apart."""
    return json.dumps(value, ensure_ascii=False)


def _table(digest: str | None, rows: int | None) -> str:
    return f"{(digest or ABSENT)[:10]} ({plain_number(rows)} rows)"
