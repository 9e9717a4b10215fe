"""How findings read: named, with a cure, few at a time, and nothing of theirs on a line of its own."""

from __future__ import annotations

import io

from rich.console import Console

from cd4ml.index.audit import Finding
from cd4ml.report.findings import as_json, count_line, findings_view

FINDING = Finding(
    "damaged", "object", "remote", "a" * 32, "artifacts/x: has other bytes", "cure it", True, ("r1", "r2")
)


def shown(*findings: Finding, limit: int = 40) -> str:
    target = io.StringIO()
    Console(file=target, width=100).print(findings_view(findings, shown=limit))
    return target.getvalue()


def test_a_finding_is_named_and_told_with_who_needs_it_and_its_cure() -> None:
    lines = shown(FINDING).splitlines()
    assert lines[0] == f"damaged object in the DVC remote  {'a' * 32}"
    assert [line.strip() for line in lines[1:]] == ["artifacts/x: has other bytes", "needed by r1, r2", "→ cure it"]


def test_many_findings_and_many_runs_are_counted_and_not_listed() -> None:
    many = [Finding("missing", "object", "cache", str(number), "x", "y") for number in range(5)]
    text = shown(*many, limit=2)
    assert text.count("missing object") == 2
    assert "3 more" in text
    runs = tuple(f"r{number}" for number in range(9))
    assert "and 6 more" in shown(Finding("missing", "object", "remote", "x", "m", "c", True, runs))


def test_text_of_records_cannot_forge_a_line_or_move_the_cursor() -> None:
    forged = Finding("edited", "record", "index", "runs/\x1b[2Jx", "says \n0 faults found [red]x[/red]", "c")
    text = shown(forged)
    assert "\x1b" not in text
    assert "\n0 faults" not in text
    assert "[red]x[/red]" in text


def test_the_count_says_what_was_looked_at_and_tells_faults_from_notes() -> None:
    note = Finding("missing", "object", "cache", "x", "m", "c", fault=False)
    assert count_line([], 1, 1, 0) == "1 record in 1 fold, 0 stored objects: all sound"
    assert count_line([note], 2, 3, 1) == "3 records in 2 folds, 1 stored object: all sound, 1 note"
    assert count_line([FINDING, note], 2, 3, 1).endswith(": 1 fault found, 1 note")
    assert as_json(note)["level"] == "note"


def test_what_an_empty_cache_lacks_is_one_note_and_hides_no_fault() -> None:
    notes = [Finding("missing", "object", "cache", str(number), "x", "mend it", fault=False) for number in range(50)]
    lines = [line.strip() for line in shown(FINDING, *notes).splitlines()]
    assert lines[0].startswith("damaged object")
    assert lines[-2:] == [
        "note: 50 objects are not in the DVC cache of this clone, as in any new one",
        "→ mend it brings them",
    ]
    assert len(lines) == 6
    assert shown(*notes[:2]).count("note: missing object") == 2
