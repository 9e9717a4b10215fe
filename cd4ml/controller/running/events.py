"""What the stages of a run tell while they run. Code of the experiment can write there too, so it is held to bounds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cd4ml.controller.running.stage import EVENTS
from cd4ml.gateways.untrusted import parse_json

STAGE_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_EVENTS = frozenset({"started", "finished", "failed"})
_MOST_SECONDS = 1e7
_MOST_BYTES = 1 << 50
_MOST_STAGES = 500
"""A record tells the cost of so many, and no more."""
_LARGEST_READ = 1 << 20


def read_events(folder: Path) -> Iterator[Mapping[str, Any] | None]:
    """The events as they are written; nothing whenever there is no further one yet."""
    path, position, pending = folder / EVENTS, 0, ""
    while True:
        if path.is_file():
            with path.open(encoding="utf-8", errors="replace") as stream:
                stream.seek(position)
                pending = (pending + stream.read(_LARGEST_READ))[-_LARGEST_READ:]
                position = stream.tell()
        *lines, pending = pending.split("\n")
        for line in lines:
            event = _as_event(line)
            if event is not None:
                yield event
        yield None


def _as_event(line: str) -> Mapping[str, Any] | None:
    """An event, or nothing for a line that is not one: code of the experiment can write there too."""
    event = parse_json(line)
    try:
        seconds = float(event["seconds"])
        named = STAGE_NAME.fullmatch(event["stage"]) is not None
        known = named and event["event"] in _EVENTS and 0 <= seconds < _MOST_SECONDS
        if not known:
            return None
        return {"stage": event["stage"], "event": event["event"], "seconds": seconds, **_measured(event)}
    except (ValueError, KeyError, TypeError, OverflowError):
        return None


def _measured(event: Mapping[str, Any]) -> dict[str, Any]:
    """What a stage measured of itself, as far as it is a number within bounds."""
    found: dict[str, Any] = {}
    peak, latency = event.get("peak_bytes"), event.get("seconds_per_row")
    if isinstance(peak, int) and not isinstance(peak, bool) and 0 <= peak < _MOST_BYTES:
        found["peak_bytes"] = peak
    if isinstance(latency, int | float) and not isinstance(latency, bool) and 0 <= latency < _MOST_SECONDS:
        found["seconds_per_row"] = float(latency)
    return found


def finished_stages(folder: Path) -> dict[str, Mapping[str, Any]]:
    """The last word of each stage that finished, of the first so many."""
    found: dict[str, Mapping[str, Any]] = {}
    for event in read_events(folder):
        if event is None:
            return found
        if event["event"] == "finished" and (event["stage"] in found or len(found) < _MOST_STAGES):
            found[event["stage"]] = event
    return found
