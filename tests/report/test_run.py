"""What ``cd4ml show`` prints of a run."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from cd4ml.report.run import run_view

ROW: dict[str, Any] = {
    "id": "r1",
    "branch": "exp/\x1b[31mred",
    "reason": None,
    "metrics": {"test": {"rmse": 16.403}},
    "cost": {"train": 1.25},
}
RECORD: dict[str, Any] = {
    "data": {"flights": {"rows": 336776, "digest": "ab" * 32}},
    "split": {"train": {"rows": 10, "digest": "c" * 64}},
    "validation": {"asked": 3, "failed": [{"type": "expect_x", "column": "y", "severity": "warning"}]},
    "environment": {"python": "3.11.7", "packages": {"numpy": "2.4.6"}},
}


def shown(record: dict[str, Any] | None) -> list[list[str]]:
    out = io.StringIO()
    Console(file=out, width=100).print(run_view(ROW, record))
    return [line.split(maxsplit=1) for line in out.getvalue().splitlines()]


def test_a_run_shows_what_its_row_and_its_record_say() -> None:
    assert [" ".join(line).split() for line in shown(RECORD)] == [
        ["id", "r1"],
        ["branch", "exp/\\x1b[31mred"],
        ["test", "metrics", "rmse", "16.40"],
        ["cost", "train", "1.2", "s"],
        ["data", "flights", "336,776", "rows,", "abababababab"],
        ["split", "train", "10", "rows"],
        ["expectations", "2", "of", "3", "met;", "failed:", "expect_x", "on", "y", "(warning)"],
        ["environment", "python", "3.11.7,", "numpy", "2.4.6"],
    ]


def test_slices_show_the_primary_metric_of_the_test_side_by_value() -> None:
    values = [
        {"value": f"v\x1b{n}", "rows": {}, "validation": {}, "test": {"rmse": 2.5 if n else None}} for n in range(12)
    ]
    record = {
        **RECORD,
        "primary": {"metric": "rmse", "direction": "minimize"},
        "slices": {"carrier": {"values": values, "left_out": 3}},
    }
    text = " ".join(" ".join(" ".join(line) for line in shown(record)).split())
    assert "test rmse by carrier v\\x1b0 –, v\\x1b1 2.50" in text
    assert "5 more" in text
    assert "v\\x1b10" not in text


def test_an_experiment_without_a_run_shows_its_row_alone() -> None:
    assert len(shown(None)) == 4


def test_an_imported_run_says_what_the_other_tool_said_of_it() -> None:
    row = {**ROW, "role": "imported", "tags": ["team=pricing", "old"], "params": {"depth": 7, "note": "x", "by": [1]}}
    out = io.StringIO()
    Console(file=out, width=100).print(run_view(row, None))
    lines = [" ".join(line.split()) for line in out.getvalue().splitlines()]
    assert {"tags team=pricing, old", "params.depth 7", "params.note x", "params.by [1]"} <= set(lines)
    assert not [line for line in shown(RECORD) if line[0].startswith("params.")]
