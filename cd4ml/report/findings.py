"""What verify found, for people: each thing that is wrong, what it is wrong with, and its cure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from cd4ml.index.audit import Finding
from cd4ml.report.visible import plain_number, visible

SHOWN = 40
"""Findings that are listed; the rest is counted (``--json`` has them all)."""

_RUNS_SHOWN = 3
_ABSENT_SHOWN = 3
_STYLES = {True: "red", False: "dim"}


def findings_view(findings: Sequence[Finding], *, shown: int = SHOWN) -> RenderableType:
    """Each finding on a line that names it; what is wrong, who needs it and the cure beneath. Faults come first."""
    parts: list[RenderableType] = []
    absent = [one for one in findings if not one.fault and (one.kind, one.place) == ("missing", "cache")]
    if len(absent) > _ABSENT_SHOWN:
        findings = [one for one in findings if one not in absent]
    for finding in findings[:shown]:
        title = Text(f"{'' if finding.fault else 'note: '}{finding.kind} ", style=_STYLES[finding.fault])
        title.append(f"{finding.what} in {_PLACES[finding.place]}  ", style="dim")
        title.append(visible(finding.where))
        parts.append(title)
        lines = [visible(finding.message), *_needed_by(finding), *([f"→ {finding.cure}"] if finding.cure else [])]
        parts += [Padding(Text(line), (0, 0, 0, 2), expand=False) for line in lines]
    left = len(findings) - shown
    if left > 0:
        parts.append(Text(f"… and {plain_number(left)} more (--json lists them all)", style="dim"))
    if len(absent) > _ABSENT_SHOWN:
        told = f"note: {plain_number(len(absent))} objects are not in the DVC cache of this clone, as in any new one"
        parts += [Text(told, style="dim"), Padding(Text(f"→ {absent[0].cure} brings them"), (0, 0, 0, 2))]
    return Group(*parts)


def _needed_by(finding: Finding) -> list[str]:
    if not finding.runs:
        return []
    more = len(finding.runs) - _RUNS_SHOWN
    return [
        f"needed by {', '.join(finding.runs[:_RUNS_SHOWN])}" + (f" and {plain_number(more)} more" if more > 0 else "")
    ]


_PLACES = {
    "index": "the index",
    "git": "Git, here",
    "git remote": "Git, on the remote",
    "cache": "the DVC cache",
    "remote": "the DVC remote",
}


def count_line(findings: Iterable[Finding], folds: int, records: int, objects: int) -> str:
    """What was looked at, and what came of it, in one line."""
    listed = list(findings)
    faults = sum(finding.fault for finding in listed)
    notes = len(listed) - faults
    checked = f"{_count(records, 'record')} in {_count(folds, 'fold')}, {_count(objects, 'stored object')}"
    found = f"{_count(faults, 'fault')} found" if faults else "all sound"
    return f"{checked}: {found}" + (f", {_count(notes, 'note')}" if notes else "")


def _count(number: int, what: str) -> str:
    return f"{plain_number(number)} {what}{'s' * (number != 1)}"


def as_json(finding: Finding) -> dict[str, Any]:
    """A finding as ``verify --json`` lists it."""
    return {
        "kind": finding.kind,
        "what": finding.what,
        "place": finding.place,
        "where": finding.where,
        "message": finding.message,
        "cure": finding.cure,
        "level": "fault" if finding.fault else "note",
        "runs": list(finding.runs),
    }
