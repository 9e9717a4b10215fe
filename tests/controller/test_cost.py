"""What a run costs, as its stages say it: numbers within bounds, whoever else writes into the same file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cd4ml.controller.running.events import finished_stages
from cd4ml.controller.running.run import Execution
from cd4ml.controller.running.stage import EVENTS, RAW_FOLDER, RUN_FOLDER, peak_bytes, stage_main
from cd4ml.index.rows import _cost
from cd4ml.stages import runner


def finished(folder: Path, *lines: object) -> dict[str, Any]:
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    (folder / EVENTS).write_text(text, "utf-8")
    return {stage: dict(event) for stage, event in finished_stages(folder).items()}


def event(stage: str = "predict", **said: object) -> dict[str, Any]:
    return {"stage": stage, "event": "finished", "seconds": 1.5, **said}


def test_a_stage_that_finishes_says_how_much_memory_it_took_and_what_it_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(RUN_FOLDER, str(tmp_path))
    monkeypatch.setenv(RAW_FOLDER, str(tmp_path))
    monkeypatch.setattr(runner, "run_stage", lambda *_: {"seconds_per_row": 0.25})
    assert stage_main("predict") == 0
    found = dict(finished_stages(tmp_path)["predict"])
    assert found["seconds_per_row"] == 0.25
    assert found["peak_bytes"] >= 1 << 20


def test_memory_is_told_in_bytes() -> None:
    grown = bytearray(64 << 20)
    assert peak_bytes() > len(grown)


@pytest.mark.parametrize("odd", [-1, 1 << 60, 1.5, True, "8", None, [8], float("nan")])
def test_a_peak_that_is_no_number_of_bytes_is_none(tmp_path: Path, odd: object) -> None:
    assert finished(tmp_path, event(peak_bytes=odd)) in ({"predict": event()}, {})


@pytest.mark.parametrize("odd", [-1.0, 1e300, True, "0.1", None, {"a": 1}])
def test_a_latency_that_is_no_number_of_seconds_is_none(tmp_path: Path, odd: object) -> None:
    assert finished(tmp_path, event(seconds_per_row=odd)) == {"predict": event()}


def test_further_words_of_an_event_are_not_kept(tmp_path: Path) -> None:
    assert finished(tmp_path, event(peak_bytes=7, note="hello", path="/etc")) == {"predict": event(peak_bytes=7)}


def test_the_last_word_of_a_stage_counts_and_only_so_many_stages_do(tmp_path: Path) -> None:
    lines = [*(event(f"s{number}") for number in range(600)), event("s1", peak_bytes=9), event("later"), "no json"]
    found = finished(tmp_path, *lines)
    assert len(found) == 500
    assert found["s1"] == event("s1", peak_bytes=9)


def test_a_record_says_only_what_was_measured(tmp_path: Path) -> None:
    execution = Execution(tmp_path, None, {"train": 1.0}, "", "", {})
    assert execution.cost == {"seconds": {"train": 1.0}}
    measured = replace(execution, peak_bytes={"train": 5}, prediction_seconds_per_row=0.5).cost
    assert measured == {"seconds": {"train": 1.0}, "peak_bytes": {"train": 5}, "prediction_seconds_per_row": 0.5}


@pytest.mark.parametrize(
    ("recorded", "told"),
    [
        ({"seconds": {"train": 1}}, {"train": 1}),
        ({"seconds": {"peak_bytes": 1}}, {}),
        ({"seconds": {}, "peak_bytes": {"train": 5}}, {"peak_bytes": {"train": 5}}),
        ({"seconds": {}, "peak_bytes": {"train": "5"}}, {}),
        ({"seconds": {}, "peak_bytes": [5], "prediction_seconds_per_row": True}, {}),
        ({"seconds": {}, "prediction_seconds_per_row": 0.5}, {"prediction_seconds_per_row": 0.5}),
    ],
)
def test_a_row_tells_what_a_record_says_where_it_is_made_of_numbers(
    recorded: dict[str, Any], told: dict[str, Any]
) -> None:
    assert _cost(recorded) == told
