"""Runs that other tools recorded, as import records.

Nothing is vouched for: what a tool says is brought into the form that can be searched beside cd4ml's own runs,
and the record says where it comes from. What seems to be a credential is left out of it: a record stays for good.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import Any, Literal

from cd4ml.index.instant import utc_text
from cd4ml.index.record import seal
from cd4ml.spec.secrets import redacted
from cd4ml.spec.text import one_line

Tool = Literal["mlflow", "dvc"]

_SIDES: Mapping[str, str] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "eval"), "validation"),
    "test": "test",
}
_SIDED = re.compile(rf"(?P<side>{'|'.join(_SIDES)})[_./ ](?P<name>.+)", re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
"""As JSON writes one, or nearly: a text that begins with further zeros names something, such as a day or a shop."""

_LONGEST_NAME = 500
_MOST_ITEMS = 500
_MOST_METRICS = 5000
_MOST_TAGS = 1000
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""With half of a pair of surrogates, which JSON can name and no file can hold."""

_PASSWORD = re.compile(r"(?<=://)[^/@\s]*@")
_LONGEST_RUN_NAME = 200
_LONGEST_TEXT = 4000
_LONGEST_PARAM = 10_000
"""Longer than MLflow takes them."""

_INT64 = 1 << 63


@dataclass(frozen=True)
class ForeignRun:
    """A finished run as another tool tells it. Times have a zone; ``commit`` is what it says was run, or nothing."""

    tool: Tool
    location: str
    experiment: str
    id: str
    name: str
    author: str
    description: str
    succeeded: bool
    params: Mapping[str, Any]
    metrics: Mapping[str, Any]
    tags: Mapping[str, str]
    started: datetime | None
    finished: datetime | None
    commit: str | None = None


@dataclass(frozen=True)
class Unreadable:
    """A run that another tool's store holds and cannot give: its id there, and why."""

    id: str
    why: str


def import_body(run: ForeignRun, anchor: str) -> dict[str, Any]:
    """The sealed record of a foreign run that hangs on the commit ``anchor``, without credentials.

    Equal runs give equal records.
    """
    return seal(
        {
            "kind": "import",
            "commit": anchor,
            "source": {
                "kind": run.tool,
                "location": one_line(without_secrets(run.location), 1000),
                "experiment": one_line(run.experiment, _LONGEST_NAME),
                "id": run_id(run),
            },
            "source_commit": run.commit if re.fullmatch(r"[0-9a-f]{40}", run.commit or "") else None,
            "name": one_line(run.name, _LONGEST_RUN_NAME),
            "author": one_line(run.author, _LONGEST_NAME),
            "description": _text(run.description),
            "outcome": "succeeded" if run.succeeded else "failed",
            "params": _params(run.params),
            "metrics": _metrics(run.metrics),
            "tags": _tags(run.tags),
            "started": utc_text(run.started) if run.started else None,
            "finished": utc_text(run.finished) if run.finished else None,
        }
    )


def run_id(run: ForeignRun) -> str:
    """The tool's own id of the run, as records hold it; ``-`` where it gives none."""
    return one_line(run.id, 200) or "-"


def redactions(run: ForeignRun) -> int:
    """How many values of the run (names of values counted with them) held what seems to be a credential."""
    told = [run.experiment, run.name, run.author, run.description]
    named = (*_leaves(run.params), *run.tags.items(), *((name, "") for name, _ in _leaves(run.metrics)))
    return sum(redacted(text) != text for text in (*told, *(f"{name} {value}" for name, value in named)))


def cuts(run: ForeignRun) -> int:
    """How many values of the run are longer, or come after more others, than a record holds."""
    kept = sum(map(len, _metrics(run.metrics).values()))
    left_out = sum(1 for _ in _numbers(run.metrics)) - kept + max(0, len(run.tags) - _MOST_TAGS)
    params = list(_leaves(run.params))
    names = [name for name, _ in (*params, *_leaves(run.metrics), *run.tags.items())]
    texts = [(run.name, _LONGEST_RUN_NAME), (run.description, _LONGEST_TEXT)]
    texts += [(text, _LONGEST_NAME) for text in (run.experiment, run.author, *names)]
    texts += [(str(value), _LONGEST_TEXT) for value in run.tags.values()]
    texts += [(text, _LONGEST_PARAM) for _, value in params for text in _texts_in(value)]
    lists = sum(len(value) > _MOST_ITEMS for _, value in params if isinstance(value, list | tuple))
    return left_out + lists + sum(len(redacted(text)) > most for text, most in texts)


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts_in(one)


def without_secrets(location: str) -> str:
    """A URL without its user part and query: either may hold a password."""
    return _PASSWORD.sub("", location).partition("?")[0]


def _params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Nested by the dots of their names, as a configuration is; where one name lies below another, by whole names."""
    nested: dict[str, Any] = {}
    for name, value in sorted(_flat(params).items()):
        inner, *rest = nested, *name.split(".")
        for step in rest[:-1]:
            inner = inner.setdefault(step, {}) if isinstance(inner, dict) else inner
        if not isinstance(inner, dict) or rest[-1] in inner or "" in rest:
            return {key: _typed(one) for key, one in sorted(_flat(params).items())}
        inner[rest[-1]] = _typed(value)
    return nested


def _flat(params: Mapping[str, Any]) -> dict[str, Any]:
    named = ((one_line(name, _LONGEST_NAME), value) for name, value in _leaves(params))
    return {name: value for name, value in named if name}


def _leaves(params: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Values that are no mapping (or an empty one) by their whole dotted name, as the tool tells them."""
    stack: list[tuple[str, Mapping[str, Any]]] = [("", params)]
    while stack:
        place, held = stack.pop()
        for key, inner in held.items():
            if isinstance(inner, Mapping) and inner:
                stack.append((f"{place}{key}.", inner))
            else:
                yield f"{place}{key}", inner


def _typed(value: Any) -> Any:
    """A value of a parameter. A tool that holds everything as text means numbers and truth values by theirs."""
    if isinstance(value, str):
        text = value.strip()
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        if _NUMBER.fullmatch(text):
            return _whole_or_real(text)
        return _text(value, _LONGEST_PARAM)
    if isinstance(value, float):
        return _finite(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value if -_INT64 <= value < _INT64 else _finite(value)
    if isinstance(value, list | tuple):
        return [_typed(one) for one in value[:_MOST_ITEMS]]
    return value if value is None or isinstance(value, bool) else _text(json.dumps(value, default=str))


def _whole_or_real(text: str) -> int | float | str:
    if text.lstrip("+-").isdigit():  # one beyond 64 bits is a name, too: as a number it would lose digits
        return int(text) if len(text) <= len(str(-_INT64)) and -_INT64 <= int(text) < _INT64 else text
    number = _finite(text)
    return text if number is None else number


def _finite(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and abs(number) < 1e308 else None


def _metrics(metrics: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """By side. A name that begins with one (``val_rmse``, ``test.f1``) says so.

    Any other counts as validation; beside one that says so it is of the training side, as Keras writes ``loss`` and
    ``val_loss``. Where both places are taken, or several names mean one place, the later keeps its whole name.
    """
    numbers = dict(_numbers(metrics))
    found: dict[str, dict[str, float]] = {}
    for name in sorted(numbers, key=lambda name: (_SIDED.fullmatch(name) is None, name)):
        side, short = next(place for place in _places(name) if place[1] not in found.get(place[0], {}))
        if len(found.get(side, {})) < _MOST_METRICS:
            found.setdefault(side, {})[short] = numbers[name]
    return {side: dict(sorted(found[side].items())) for side in sorted(found)}


def _numbers(metrics: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in _flat(metrics).items():
        if not isinstance(value, bool | str) and (number := _finite(value)) is not None:
            yield name, number


def _places(name: str) -> Iterator[tuple[str, str]]:
    """Where a metric may stand, the likeliest first: side and name there."""
    sided = _SIDED.fullmatch(name)
    side = _SIDES[sided["side"].lower()] if sided else "validation"
    yield (side, sided["name"]) if sided else (side, name)
    yield (side, name) if sided else ("train", name)
    yield from ((side, f"{name} ({number})") for number in count(2))


def _tags(tags: Mapping[str, str]) -> dict[str, str]:
    kept = sorted((one_line(name, _LONGEST_NAME), _text(str(value))) for name, value in tags.items())
    return {name: value for name, value in kept[:_MOST_TAGS] if name}


def _text(text: str, most: int = _LONGEST_TEXT) -> str:
    """Text as records hold it on several lines; the credentials go before the cut, since half a one is not found."""
    told = _CONTROL.sub(" ", redacted(text))
    return told if len(told) <= most else f"{told[: most - 1]}…"
