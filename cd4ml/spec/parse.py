"""From the resolved mapping to the frozen ``Spec``, strictly, with every problem at once.

Nothing is guessed: a missing, misspelt or mistyped key is a problem, a truth value is no number, and a
problem names the file that the value came from.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

from cd4ml.errors import ConfigError, Problem
from cd4ml.spec.canonical import canonical_json
from cd4ml.spec.experiment import (
    CiSpec,
    DataSpec,
    EvaluationSpec,
    ExecutorSpec,
    ExpectationSpec,
    ExperimentsPolicy,
    FeaturesSpec,
    JoinSpec,
    ModelSpec,
    PromotionSpec,
    SourceSpec,
    Spec,
    SplitSpec,
    ValidationSpec,
)
from cd4ml.spec.metrics import DIRECTIONS
from cd4ml.spec.pin import FORMATS
from cd4ml.spec.secrets import redacted, secret_kind
from cd4ml.spec.sources import CONF, MAX_DEPTH, MAX_INTEGER, MAX_NODES, problem

COMPONENTS = ("spec", "code", "data", "pipeline", "env")
CALENDAR_PARTS = ("month", "day", "dayofweek", "hour", "minute")
TARGET = "_target_"
MAX_RESOLVED = 256 * 1024
"""Bytes of the resolved configuration as canonical JSON: each record of a run holds it, and is at most 1 MiB."""

_SAFE_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}(/[A-Za-z0-9][A-Za-z0-9._-]{0,99})*")
_PACKAGE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_CLASS = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)+")
_EXPECTATION = re.compile(r"(?=.{1,200}\Z)expect_[a-z0-9]+(_[a-z0-9]+)*")
_BRANCHES = re.compile(r"[A-Za-z0-9*][A-Za-z0-9._/*-]*")
_PYTHON = re.compile(r"3\.[0-9]{1,2}")
_URL = re.compile(r"[a-z][a-z0-9+.-]*://")
# As in the schemas of records: what they cannot hold must be refused before anything is run.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_NOT_ONE_LINE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_LOCAL_SCHEMES = ("file", "local", "memory", "data", "reference", "github", "git", "zip", "tar")


def parse(resolved: Mapping[str, Any], origin: Mapping[str, str] | None = None) -> Spec:
    """The checked value of a resolved configuration (plain JSON values, as ``gateways.hydra.compose`` gives).

    ``origin`` maps dotted leaf paths to the file each was written in; without it problems name ``conf/``.
    What is accepted can be recorded: text without control characters, integers of 64 bits, and a size, a depth
    and a number of values that leave room in a record. Raises ConfigError with all problems found.
    """
    report = _Report(origin or {})
    report.check_extent(resolved)
    report.check_plain(dict(resolved), ())
    report.check_size(dict(resolved))
    root = _Section(dict(resolved), (), report)
    spec = Spec(
        name=root.text("name", _short_label),
        hypothesis=root.text("hypothesis", _hypothesis),
        tags=root.texts("tags", _short, unique=True, at_most=100),
        seed=root.integer("seed", 0, 2**32 - 1),
        code=root.texts("code", _inside, unique=True),
        lock=root.section("environment", _environment),
        allowed_packages=root.texts("allowed_packages", _package, unique=True),
        data=root.section("data", _data),
        validation=root.section("validation", _validation),
        split=root.section("split", _split),
        features=root.section("features", _features),
        model=root.section("model", _model),
        evaluation=root.section("evaluation", _evaluation),
        promotion=root.section("promotion", _promotion),
        ci=root.section("ci", _ci),
        executor=root.section("executor", _executor),
        experiments=root.section("experiments", _experiments),
        resolved=resolved,
    )
    root.finish()
    if not report.problems:
        _check_columns(spec, report)
    if report.problems:
        raise ConfigError(report.problems)
    return spec


# --- groups -----------------------------------------------------------------------------------------


def _environment(section: _Section) -> str:
    return section.text("lock", lambda text: _inside(text) if text else None)


def _data(section: _Section) -> DataSpec:
    named = section.sections("sources", _source)
    for name in named:
        if not _SAFE_NAME.fullmatch(name):
            section.problem(("sources", name), "a source's name may hold letters, digits, _ and - only")
    if len(named) > 500:
        section.problem(("sources",), "there are more than 500")
    if not named and section.value.get("sources") == {}:
        section.problem(("sources",), "at least one source is needed")
    sources = tuple(SourceSpec(name, *where) for name, where in named.items())
    joins = section.list_of("joins", _join)
    names = section.value.get("sources")
    for index, join in enumerate(joins if isinstance(names, Mapping) and names else ()):
        _check_join(section, index, join, tuple(str(name) for name in names or ()))
    added = [f"{join.prefix}{column}" for join in joins for column in join.columns]
    for column in sorted({column for column in added if added.count(column) > 1}):
        section.problem(("joins",), f"the column {column!r} is added twice", "give one of the joins a prefix")
    return DataSpec(
        sources=sources,
        joins=joins,
        target=section.text("target", _not_empty),
        time_columns=section.texts("time_columns", _not_empty, unique=True),
        drop_missing_target=section.flag("drop_missing_target"),
    )


def _source(section: _Section) -> tuple[str, str]:
    return section.text("location", _location), section.one_of("format", FORMATS)


def _join(section: _Section) -> JoinSpec:
    return JoinSpec(
        source=section.text("source", _not_empty),
        on=section.texts("on", _not_empty, unique=True, at_least=1),
        columns=section.texts("columns", _not_empty, unique=True, at_least=1),
        prefix=section.text("prefix", _one_line),
    )


def _check_join(section: _Section, index: int, join: JoinSpec, names: tuple[str, ...]) -> None:
    key = ("joins", str(index), "source")
    if join.source and join.source not in names:
        section.problem(key, f"there is no source {join.source!r}", _nearest(join.source, names))
    elif join.source and join.source == names[0]:
        section.problem(key, f"{join.source!r} is the main table, the first source; it cannot be joined to itself")


def _validation(section: _Section) -> ValidationSpec:
    suite = section.text("suite", _short_label)
    expectations = section.list_of("expectations", _expectation)
    if not expectations:
        section.problem(("expectations",), "at least one expectation is needed", "an empty suite accepts anything")
    elif len(expectations) > 1000:
        section.problem(("expectations",), "there are more than 1000")
    return ValidationSpec(suite, expectations)


def _expectation(section: _Section) -> ExpectationSpec:
    kwargs = section.mapping("kwargs")
    for name in ("row_condition", "condition_parser"):
        if name in kwargs:
            section.problem(("kwargs", name), "is not allowed: Great Expectations runs it as code")
    column = kwargs.get("column", "column")
    if message := _not_empty(column) if isinstance(column, str) else "must be text":
        section.problem(("kwargs", "column"), message)
    return ExpectationSpec(
        type=section.text("type", _matching(_EXPECTATION, "an expectation's name, expect_… in snake case")),
        kwargs=kwargs,
        severity=section.one_of("severity", ("critical", "warning"), default="critical"),
    )


def _split(section: _Section) -> SplitSpec:
    spec = SplitSpec(
        method=section.one_of("method", ("time",)),
        column=section.text("column", _not_empty),
        validation_from=section.text("validation_from", _timestamp),
        test_from=section.text("test_from", _timestamp),
    )
    if not (_timestamp(spec.validation_from) or _timestamp(spec.test_from)) and instant(
        spec.validation_from
    ) >= instant(spec.test_from):
        section.problem(("validation_from",), f"must be before test_from ({spec.test_from})")
    return spec


def _features(section: _Section) -> FeaturesSpec:
    numeric = section.texts("numeric", _not_empty, unique=True)
    categorical = section.texts("categorical", _not_empty, unique=True)
    inner = _Section(section.mapping("calendar"), (*section.path, "calendar"), section.report)
    parts = _one_of(CALENDAR_PARTS)
    calendar = {column: inner.texts(column, parts, unique=True, at_least=1) for column in sorted(inner.value)}
    return FeaturesSpec(numeric, categorical, calendar)


def _model(section: _Section) -> ModelSpec:
    estimator = section.mapping("estimator")
    if isinstance(section.value.get("estimator"), Mapping) and TARGET not in estimator:
        section.problem(("estimator", TARGET), "is missing", "the class to train, such as sklearn.linear_model.Ridge")
    _check_targets(estimator, ("estimator",), section)
    parameters = section.mapping("parameters", optional=True)
    for key, value in parameters.items():
        if isinstance(value, (Mapping, list)):
            section.problem(("parameters", str(key)), f"must be one value, not {_shown(value)}")
    return ModelSpec(section.text("name", _label), estimator, parameters)


def _check_targets(value: Any, path: tuple[str, ...], section: _Section) -> None:
    if isinstance(value, list):
        for index, item in enumerate(value):
            _check_targets(item, (*path, str(index)), section)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            here = (*path, str(key))
            if key == TARGET and not (isinstance(item, str) and _CLASS.fullmatch(item)):
                section.problem(here, f"must be the dotted name of a class, not {_shown(item)}")
            elif str(key).startswith("_") and key != TARGET:
                section.problem(here, f"only {TARGET} has a meaning here", _nearest(str(key), (TARGET,)))
            _check_targets(item, here, section)


def _evaluation(section: _Section) -> EvaluationSpec:
    metrics = section.texts("metrics", _one_of(tuple(DIRECTIONS)), unique=True, at_least=1)
    primary = section.text("primary", _not_empty)
    if primary and metrics and primary not in metrics:
        section.problem(("primary",), f"{primary!r} is not among metrics", _nearest(primary, metrics))
    return EvaluationSpec(section.one_of("task", ("regression",)), metrics, primary)


def _promotion(section: _Section) -> PromotionSpec:
    return PromotionSpec(section.number("min_improvement", -math.inf))


def _ci(section: _Section) -> CiSpec:
    python = section.text("python", _matching(_PYTHON, 'a Python version such as "3.11", in quotes'))
    return CiSpec(section.one_of("provider", ("github",)), python)


def _executor(section: _Section) -> ExecutorSpec:
    timeout = section.number("timeout_minutes", 0)
    if timeout == 0:
        section.problem(("timeout_minutes",), "must be more than 0")
    return ExecutorSpec(section.integer("threads", 1, 1024), section.integer("jobs", 1, 1024), timeout)


def _experiments(section: _Section) -> ExperimentsPolicy:
    pattern = _matching(_BRANCHES, "a branch pattern of letters, digits, . _ / - and *")
    return ExperimentsPolicy(
        branches=section.texts("branches", pattern, unique=True, at_least=1),
        rerun_on=section.texts("rerun_on", _one_of(COMPONENTS), unique=True, at_least=1),
        retries=section.integer("retries", 0, 100),
    )


def _check_columns(spec: Spec, report: _Report) -> None:
    """What concerns more than one group: targets, times and features."""
    features, data = spec.features, spec.data
    used: dict[str, str] = {}
    for kind, columns in (
        ("numeric", features.numeric),
        ("categorical", features.categorical),
        ("calendar", tuple(f"{column}_{part}" for column, parts in features.calendar.items() for part in parts)),
    ):
        for column in columns:
            if column in used:
                report.add(("features", kind), f"{column!r} is a feature already, under {used[column]}")
            used.setdefault(column, kind)
    if not used:
        report.add(("features",), "at least one feature is needed")
    for column in (*used, *features.calendar):
        if column == data.target:
            kind = used.get(column, "calendar")
            report.add(("features", kind), f"{column!r} is the target; as a feature it would leak")
    for key, column in (
        (("split", "column"), spec.split.column),
        *((("features", "calendar", column), column) for column in features.calendar),
    ):
        if column not in data.time_columns:
            report.add(key, f"{column!r} is not among data.time_columns", _nearest(column, data.time_columns))


# --- checks of one text: a message, or nothing ------------------------------------------------------

_Check = Callable[[str], str | None]


def _hypothesis(text: str) -> str | None:
    return _longer(text, 4000)


def _longer(text: str, most: int) -> str | None:
    return f"is longer than {most} characters" if len(text) > most else None


def _one_line(text: str) -> str | None:
    """Text as records hold it on one line: names of columns, paths."""
    return "must be one line without control characters" if _NOT_ONE_LINE.search(text) else _longer(text, 500)


def _not_empty(text: str) -> str | None:
    return _one_line(text) if text.strip() else "must not be empty"


def _short(text: str) -> str | None:
    return _not_empty(text) or _longer(text, 200)


def _short_label(text: str) -> str | None:
    return _label(text) or _longer(text, 200)


def _matching(pattern: re.Pattern[str], what: str) -> _Check:
    return lambda text: None if pattern.fullmatch(text) else f"must be {what}, not {_shown(text)}"


_package = _matching(_PACKAGE, "the name of a Python package")
_label = _matching(_LABEL, "a name of letters, digits, . _ - and /")


def _one_of(allowed: tuple[str, ...]) -> _Check:
    def check(text: str) -> str | None:
        if text in allowed:
            return None
        nearest = _nearest(text, allowed)
        return f"{_shown(text)} is none of {', '.join(allowed)}" + (f"; {nearest}" if nearest else "")

    return check


def _inside(text: str) -> str | None:
    """A path inside the repository, with ``/``."""
    parts = text.split("/")
    if not text.strip() or "\\" in text or _one_line(text):
        return f"must be a path inside the repository, with /, not {_shown(text)}"
    if text.startswith(("/", "~", "-", ":")) or re.match(r"[A-Za-z]:", text) or ".." in parts or ".git" in parts:
        return f"must be a path inside the repository: relative, without .. and .git, not {_shown(text)}"
    return None


def _location(text: str) -> str | None:
    if not _URL.match(text):
        return _inside(text)
    if message := _one_line(text):
        return message
    scheme, rest = text.split("://", 1)
    if scheme == "package":
        package, _, path = rest.partition("/")
        if not _PACKAGE.fullmatch(package) or _inside(path):
            return f"must be package://NAME/PATH with a path inside the package, not {_shown(text)}"
        return None
    try:
        host = urlsplit(text).netloc
    except ValueError:
        host = ""
    user, at, _ = host.rpartition("@")
    if at and ":" not in user:  # with a password it has been reported as a credential
        return "must not carry a user name: locations are recorded for good"
    if scheme in _LOCAL_SCHEMES or "::" in text or not host:
        return f"must be a URL of a remote file, a path inside the repository, or package://…, not {_shown(text)}"
    return None


def _timestamp(text: str) -> str | None:
    try:
        instant(text)
    except ValueError:
        return f'must be an ISO 8601 time such as "2013-09-01T00:00:00Z", not {_shown(text)}'
    return None


def instant(text: str) -> datetime:
    """The moment that an ISO 8601 text names, as UTC; UTC is also what a text without a zone means.

    Raises ValueError for any other text.
    """
    moment = datetime.fromisoformat(text)
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(text) from error


def _shown(value: Any) -> str:
    """A value in a message, short; credentials are taken out before it is cut, and before escapes are added."""
    if isinstance(value, Mapping | list):
        return "a mapping" if isinstance(value, Mapping) else "a list"
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        return "so large a number"
    text = redacted(repr(redacted(value) if isinstance(value, str) else value))
    return text if len(text) <= 60 else f"{text[:57]}…"


def _nearest(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]}?" if close else ""


# --- reading a mapping ------------------------------------------------------------------------------


@dataclass
class _Report:
    """The problems so far, and the file that each key belongs to."""

    origin: Mapping[str, str]
    problems: list[Problem] = field(default_factory=list)

    def add(self, path: tuple[str, ...], message: str, hint: str = "") -> None:
        key = ".".join(path)
        self.problems.append(problem(file_of(self.origin, key), key, message, hint))

    def check_extent(self, value: Any) -> None:
        """Depth and number of values, before anything recurses. Raises ConfigError at once when one is too large."""
        level, values = [value], 1
        for _ in range(MAX_DEPTH + 1):
            level = [
                item
                for container in level
                if isinstance(container, Mapping | list)
                for item in (container.values() if isinstance(container, Mapping) else container)
            ]
            values += len(level)
            if values > MAX_NODES or not level:
                break
        if values > MAX_NODES:
            self.add((), f"holds more than {MAX_NODES} values")
        elif level:
            self.add((), f"is nested deeper than {MAX_DEPTH}")
        if self.problems:
            raise ConfigError(self.problems)

    def check_size(self, value: Any) -> None:
        """That plain values fit into a record."""
        if not self.problems and (size := len(canonical_json(value))) > MAX_RESOLVED:
            self.add((), f"{size} bytes as JSON; the limit is {MAX_RESOLVED}", "large tables belong in a data source")

    def check_plain(self, value: Any, path: tuple[str, ...]) -> None:
        """JSON values only, with text keys, finite numbers, text that records can hold, and no credentials."""
        if isinstance(value, dict):
            for key, item in value.items():
                if message := _not_a_key(key):
                    self.add((*path, key if isinstance(key, str) else _shown(key)), message)
                else:
                    self.check_plain(item, (*path, key))
        elif isinstance(value, list):
            for index, item in enumerate(value):
                self.check_plain(item, (*path, str(index)))
        elif message := _not_plain(value):
            self.add(path, message)


def _not_a_key(key: object) -> str | None:
    if not isinstance(key, str):
        return "a key must be text; quote it"
    if not _encodable(key):
        return "the key is not valid Unicode"
    if _NOT_ONE_LINE.search(key):
        return "a key must be one line without control characters"
    return _credential(key)


def _not_plain(value: Any) -> str | None:
    if isinstance(value, str):
        return _not_plain_text(value)
    if isinstance(value, float) and not math.isfinite(value):
        return f"must be a finite number, not {value}"
    if isinstance(value, int) and not -MAX_INTEGER - 1 <= value <= MAX_INTEGER:
        return "must be an integer of at most 64 bits"
    if not isinstance(value, int | float | None):
        return f"must be plain data, not {type(value).__name__}"
    return None


def _not_plain_text(text: str) -> str | None:
    if not _encodable(text):
        return "is not valid Unicode text"
    if _CONTROL.search(text):
        return "holds a control character"
    return _credential(text)


def _credential(text: str) -> str | None:
    kind = secret_kind(text)
    return f"seems to hold {kind}: what is committed and recorded may hold no credential" if kind else None


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def file_of(origin: Mapping[str, str], key: str) -> str:
    """The file to name for a dotted key: its own, that of what contains it, or of what it contains."""
    parts = key.split(".") if key else []
    for cut in range(len(parts), 0, -1):
        path = ".".join(parts[:cut])
        if path in origin:
            return origin[path]
        inside = sorted(name for name in origin if name.startswith(f"{path}."))
        if inside:
            return origin[inside[0]]
    return CONF


_MISSING = object()
_T = TypeVar("_T")


@dataclass
class _Section:
    """One mapping being read: each key is taken once, what is left over is a problem.

    A method that finds a problem reports it and gives back an empty value of the right type, so that
    reading goes on; no ``Spec`` leaves ``parse`` once anything was reported.
    """

    value: dict[str, Any]
    path: tuple[str, ...]
    report: _Report
    known: list[str] = field(default_factory=list)

    def problem(self, key: tuple[str, ...], message: str, hint: str = "") -> None:
        self.report.add((*self.path, *key), message, hint)

    def finish(self) -> None:
        """Report the keys that nobody asked for."""
        for key in self.value:
            if key not in self.known:
                unused = [name for name in self.known if name not in self.value]
                hint = _nearest(str(key), unused) or _nearest(str(key), self.known)
                self.problem((str(key),), "is not a key that cd4ml knows", hint)

    def _take(self, key: str, kind: type | tuple[type, ...], what: str, default: Any = _MISSING) -> Any:
        """The value of a key if it has the right type, else ``_MISSING`` once the problem is reported."""
        self.known.append(key)
        if key not in self.value:
            if default is _MISSING:
                self.problem((key,), "is missing")
            return default
        value = self.value[key]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            self.problem((key,), f"must be {what}, not {_shown(value)}")
            return _MISSING
        return value

    def text(self, key: str, check: _Check) -> str:
        value = self._take(key, str, "text")
        if value is _MISSING:
            return ""
        if message := check(value):
            self.problem((key,), message)
        return cast("str", value)

    def one_of(self, key: str, allowed: tuple[str, ...], default: Any = _MISSING) -> Any:
        """One of a closed set of words; typed ``Any`` since the caller's field is a ``Literal`` of the same words."""
        value = self._take(key, str, f"one of {', '.join(allowed)}", default)
        if value is not _MISSING and (message := _one_of(allowed)(value)):
            self.problem((key,), message)
        return value

    def texts(
        self, key: str, check: _Check, *, unique: bool = False, at_least: int = 0, at_most: int = MAX_NODES
    ) -> tuple[str, ...]:
        value = self._take(key, list, "a list")
        if value is _MISSING:
            return ()
        taken: list[str] = []
        for index, item in enumerate(value):
            if not isinstance(item, str):
                self.problem((key, str(index)), f"must be text, not {_shown(item)}")
            elif message := check(item):
                self.problem((key, str(index)), message)
            elif unique and item in taken:
                self.problem((key, str(index)), f"{_shown(item)} is there twice")
            else:
                taken.append(item)
        if len(value) < at_least:
            self.problem((key,), "must not be empty")
        if len(value) > at_most:
            self.problem((key,), f"has more than {at_most} entries")
        return tuple(taken)

    def flag(self, key: str) -> bool:
        return self._take(key, bool, "true or false") is True

    def integer(self, key: str, low: int, high: int) -> int:
        value = self._take(key, int, "a whole number")
        if value is _MISSING:
            return low
        if not low <= value <= high:
            self.problem((key,), f"must be from {low} to {high}, not {_shown(value)}")
        return cast("int", value)

    def number(self, key: str, low: float) -> float:
        value = self._take(key, (int, float), "a number")
        if value is _MISSING:
            return 1.0
        if value < low:
            self.problem((key,), f"must be at least {low:g}, not {_shown(value)}")
        return float(value)

    def mapping(self, key: str, *, optional: bool = False) -> dict[str, Any]:
        value = self._take(key, Mapping, "a mapping", {} if optional else _MISSING)
        return {} if value is _MISSING else dict(value)

    def section(self, key: str, read: Callable[[_Section], _T]) -> _T:
        """What ``read`` makes of the mapping under a key; of an empty one, silently, where there is none."""
        value = self._take(key, Mapping, "a mapping")
        if value is _MISSING:
            return read(_Section({}, (), _Report({})))
        return self._read(value, (key,), read)

    def sections(self, key: str, read: Callable[[_Section], _T]) -> dict[str, _T]:
        """A mapping of names to mappings, in order."""
        found: dict[str, _T] = {}
        for name, item in self.mapping(key).items():
            if isinstance(item, Mapping):
                found[str(name)] = self._read(item, (key, str(name)), read)
            else:
                self.problem((key, str(name)), f"must be a mapping, not {_shown(item)}")
        return found

    def list_of(self, key: str, read: Callable[[_Section], _T]) -> tuple[_T, ...]:
        """A list of mappings."""
        value = self._take(key, list, "a list")
        found: list[_T] = []
        for index, item in enumerate([] if value is _MISSING else value):
            if isinstance(item, Mapping):
                found.append(self._read(item, (key, str(index)), read))
            else:
                self.problem((key, str(index)), f"must be a mapping, not {_shown(item)}")
        return tuple(found)

    def _read(self, value: Mapping[str, Any], key: tuple[str, ...], read: Callable[[_Section], _T]) -> _T:
        section = _Section(dict(value), (*self.path, *key), self.report)
        result = read(section)
        section.finish()
        return result
