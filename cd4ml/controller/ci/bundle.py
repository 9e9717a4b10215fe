"""One bundle: what executing a target left, as ``bundle.json`` says it.

Code of an experiment ran where a bundle was made, so what it says is held against a schema, key by key.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args

from cd4ml.controller.running.run import Failure
from cd4ml.errors import FailureKind, IntegrityError
from cd4ml.gateways.files import FileDigest
from cd4ml.gateways.untrusted import parse_strictly
from cd4ml.plan.state import Side
from cd4ml.spec.text import one_line

SCHEMA = 1
BUNDLE = "bundle.json"

Kind = Literal["run", "unverified"]
"""``unverified``: of a commit that nobody with rights to this repository wrote. It is told of, and never recorded."""

FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_MD5 = re.compile(r"[0-9a-f]{32}")
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]{0,99}")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_MOST_FILES = 1000
_MOST_STAGES = 500
_MOST_SECONDS = 1e7
_MOST_BYTES = 1 << 50
_LARGEST_NUMBER = 1e30
_AHEAD = timedelta(days=1)
"""So far another machine's clock may be ahead of this one's."""


@dataclass(frozen=True)
class Bundle:
    """What ``bundle.json`` says, checked; ``folder`` is where it lies, ``size`` how many bytes it has.

    ``head`` and ``base`` are the heads of its branch and of the base branch when it was executed.
    ``files`` and ``log`` are promises: nobody has looked at the bytes. ``metrics`` is what the job that executed it
    says of itself, by side and name; only an unverified one has any.
    """

    folder: Path
    size: int
    kind: Kind
    fingerprint: str
    branch: str
    side: Side
    commit: str
    tree: str
    head: str
    base: str
    started: str
    finished: str
    seconds: Mapping[str, float]
    peak_bytes: Mapping[str, int]
    prediction_seconds_per_row: float | None
    environment: Mapping[str, Any]
    failure: Failure | None
    files: Mapping[str, FileDigest]
    log: FileDigest | None = None
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"bundle {self.fingerprint[:12]}"

    def as_json(self) -> dict[str, Any]:
        """What ``bundle.json`` holds."""
        told = asdict(self)
        return {"schema": SCHEMA, **{key: told[key] for key in told if key not in ("folder", "size")}}


def parse_bundle(data: bytes, folder: Path) -> Bundle:
    """The bundle that ``bundle.json`` describes. Raises IntegrityError, naming the key, for what breaks the schema."""
    told = _Told(parse_strictly(data), BUNDLE)
    told.has(
        *("schema", "kind", "fingerprint", "branch", "side", "commit", "tree", "head", "base"),
        *(
            "started",
            "finished",
            "seconds",
            "peak_bytes",
            "prediction_seconds_per_row",
            "environment",
            "failure",
            "files",
            "log",
            "metrics",
        ),
    )
    if told.of("schema", int) != SCHEMA:
        told.refuse("schema", "is another version's")
    started, finished = told.instant("started"), told.instant("finished")
    if finished < started:
        told.refuse("finished", "is before it started")
    environment = told.part("environment")
    environment.has("python", "platform", "packages")
    return Bundle(
        folder=folder,
        size=len(data),
        kind=told.word("kind", get_args(Kind)),
        fingerprint=told.like("fingerprint", FINGERPRINT),
        branch=told.line("branch", 255),
        side=told.word("side", get_args(Side)),
        commit=told.like("commit", _COMMIT),
        tree=told.like("tree", _COMMIT),
        head=told.like("head", _COMMIT),
        base=told.like("base", _COMMIT),
        started=started,
        finished=finished,
        seconds=told.part("seconds").numbers(_NAME, 0.0, _MOST_SECONDS),
        peak_bytes=told.part("peak_bytes").wholes(_NAME, _MOST_BYTES),
        prediction_seconds_per_row=told.perhaps("prediction_seconds_per_row", 0.0, _MOST_SECONDS),
        environment={
            "python": environment.like("python", _VERSION),
            "platform": environment.like("platform", _VERSION),
            "packages": environment.part("packages").texts(_VERSION),
        },
        failure=_failure(told),
        files=_files(told.part("files")),
        log=_digest(told.part("log")) if told.value["log"] is not None else None,
        metrics=_metrics(told),
    )


def _failure(told: _Told) -> Failure | None:
    if told.value["failure"] is None:
        return None
    part = told.part("failure")
    part.has("stage", "message", "kind")
    return Failure(part.like("stage", _NAME), part.line("message", 500), part.word("kind", get_args(FailureKind)))


def _files(told: _Told) -> dict[str, FileDigest]:
    if len(told.value) > _MOST_FILES:
        raise IntegrityError(f"{told.where}: are more than {_MOST_FILES}")
    return {path: _digest(told.part(path)) for path in told.value}


def _digest(told: _Told) -> FileDigest:
    told.has("sha256", "md5", "bytes")
    size = told.of("bytes", int)
    if size < 0:
        told.refuse("bytes", "is below 0")
    return FileDigest(told.like("sha256", FINGERPRINT), told.like("md5", _MD5), size)


def _metrics(told: _Told) -> dict[str, dict[str, float]]:
    part = told.part("metrics")
    if part.value and told.value["kind"] != "unverified":
        told.refuse("metrics", "are for the judge to say")
    return {side: part.part(side).numbers(_NAME, -_LARGEST_NUMBER, _LARGEST_NUMBER) for side in part.names(_NAME)}


@dataclass(frozen=True)
class _Told:
    """A JSON object that nobody trusts, and its name for errors. Every method raises IntegrityError."""

    value: Any
    where: str

    def __post_init__(self) -> None:
        if not isinstance(self.value, dict):
            raise IntegrityError(f"{self.where}: is no JSON object")

    def refuse(self, key: str, why: str) -> NoReturn:
        raise IntegrityError(f"{self.where}: {one_line(key.encode('utf-8', 'replace').decode(), 100)}: {why}")

    def has(self, *keys: str) -> None:
        """These keys and no others."""
        for key in keys:
            if key not in self.value:
                self.refuse(key, "is missing")
        for key in self.value.keys() - set(keys):
            self.refuse(key, "is no key of it")

    def of(self, key: str, kind: type[Any]) -> Any:
        value = self.value[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            self.refuse(key, f"is no {kind.__name__}")
        return value

    def part(self, key: str) -> _Told:
        return _Told(self.value[key], f"{self.where}: {one_line(key.encode('utf-8', 'replace').decode(), 100)}")

    def like(self, key: str, pattern: re.Pattern[str]) -> str:
        value: str = self.of(key, str)
        if not pattern.fullmatch(value):
            self.refuse(key, "is not of the form that it must have")
        return value

    def word(self, key: str, words: tuple[Any, ...]) -> Any:
        if self.of(key, str) not in words:
            self.refuse(key, f"is none of {', '.join(words)}")
        return self.value[key]

    def line(self, key: str, most: int) -> str:
        """Text, made fit for one line of a record."""
        return one_line(self.of(key, str), most) or "?"

    def instant(self, key: str) -> str:
        value = self.like(key, _INSTANT)
        try:
            ahead = datetime.fromisoformat(value) - datetime.now(UTC)
        except ValueError:
            self.refuse(key, "is no time")
        if ahead > _AHEAD:
            self.refuse(key, "is yet to come")
        return value

    def names(self, pattern: re.Pattern[str]) -> list[str]:
        if len(self.value) > _MOST_STAGES:
            raise IntegrityError(f"{self.where}: has more than {_MOST_STAGES} keys")
        for key in self.value:
            if not pattern.fullmatch(key):
                self.refuse(key, "is no name")
        return list(self.value)

    def number(self, key: str, low: float, high: float) -> float:
        """A finite one."""
        value = self.value[key]
        number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
        if not low <= number <= high:
            self.refuse(key, "is no number that can be")
        return float(number)

    def perhaps(self, key: str, low: float, high: float) -> float | None:
        return None if self.value[key] is None else self.number(key, low, high)

    def numbers(self, pattern: re.Pattern[str], low: float, high: float) -> dict[str, float]:
        """Finite numbers by name."""
        return {name: self.number(name, low, high) for name in self.names(pattern)}

    def wholes(self, pattern: re.Pattern[str], high: int) -> dict[str, int]:
        """Whole numbers by name."""
        found = {name: self.of(name, int) for name in self.names(pattern)}
        for name, number in found.items():
            if not 0 <= number <= high:
                self.refuse(name, "is no number that can be")
        return found

    def texts(self, pattern: re.Pattern[str]) -> dict[str, str]:
        return {name: self.like(name, pattern) for name in self.names(pattern)}
