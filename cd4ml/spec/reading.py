"""Reading a mapping strictly: each key once, of its type, with every problem kept and named by file and key."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from cd4ml.errors import ConfigError, Problem
from cd4ml.spec.canonical import canonical_json
from cd4ml.spec.checks import Check, nearest, one_of, shown
from cd4ml.spec.secrets import secret_kind
from cd4ml.spec.sources import CONF, MAX_DEPTH, MAX_INTEGER, MAX_NODES, problem

MAX_RESOLVED = 256 * 1024
"""Bytes of the resolved configuration as canonical JSON: each record of a run holds it, and is at most 1 MiB."""

# As in the schemas of records: what they cannot hold must be refused before anything is run.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_NOT_ONE_LINE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True)
class Asked:
    """A key that was asked for: the words for its type, and what stands for it where it is left out.

    ``optional`` says whether it may be; ``default`` is then a plain value.
    """

    what: str
    optional: bool
    default: Any = None


@dataclass
class Report:
    """The problems so far, the file that each key belongs to, and what was asked for.

    ``asked`` is by the key's place with ``NAME`` for names that a project chooses and ``[]`` for places in a list:
    ``data.sources.NAME.location``. The reference of the configuration is made from it.
    """

    origin: Mapping[str, str]
    problems: list[Problem] = field(default_factory=list)
    asked: dict[str, Asked] = field(default_factory=dict)

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
                    self.add((*path, key if isinstance(key, str) else shown(key)), message)
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
class Section:
    """One mapping being read: each key is taken once, what is left over is a problem.

    A method that finds a problem reports it and gives back an empty value of the right type, so that
    reading goes on; no ``Spec`` leaves ``parse`` once anything was reported.
    """

    value: dict[str, Any]
    path: tuple[str, ...]
    report: Report
    known: list[str] = field(default_factory=list)
    place: tuple[str, ...] = ()
    names: bool = False

    def problem(self, key: tuple[str, ...], message: str, hint: str = "") -> None:
        self.report.add((*self.path, *key), message, hint)

    def finish(self) -> None:
        """Report the keys that nobody asked for."""
        for key in self.value:
            if key not in self.known:
                unused = [name for name in self.known if name not in self.value]
                hint = nearest(str(key), unused) or nearest(str(key), self.known)
                self.problem((str(key),), "is not a key that cd4ml knows", hint)

    def _take(self, key: str, kind: type | tuple[type, ...], what: str, default: Any = _MISSING) -> Any:
        """The value of a key if it has the right type, else ``_MISSING`` once the problem is reported."""
        self.known.append(key)
        optional = default is not _MISSING
        place = ".".join((*self.place, "NAME" if self.names else key)).replace(".[]", "[]")
        self.report.asked[place] = Asked(what, optional, default if optional else None)
        if key not in self.value:
            if default is _MISSING:
                self.problem((key,), "is missing")
            return default
        value = self.value[key]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            self.problem((key,), f"must be {what}, not {shown(value)}")
            return _MISSING
        return value

    def text(self, key: str, check: Check, *, default: str | None = None) -> str:
        """Text; one with a ``default`` may be left out."""
        value = self._take(key, str, "text", _MISSING if default is None else default)
        if value is _MISSING:
            return ""
        if default is not None and value == default:
            return default
        if message := check(value):
            self.problem((key,), message)
        return cast("str", value)

    def one_of(self, key: str, allowed: tuple[str, ...], default: Any = _MISSING) -> Any:
        """One of a closed set of words; typed ``Any`` since the caller's field is a ``Literal`` of the same words."""
        value = self._take(key, str, f"one of {', '.join(allowed)}", default)
        if value is not _MISSING and (message := one_of(allowed)(value)):
            self.problem((key,), message)
        return value

    def texts(
        self,
        key: str,
        check: Check,
        *,
        unique: bool = False,
        at_least: int = 0,
        at_most: int = MAX_NODES,
        optional: bool = False,
    ) -> tuple[str, ...]:
        """A list of text; an ``optional`` one may be left out."""
        value = self._take(key, list, "a list", [] if optional else _MISSING)
        if value is _MISSING:
            return ()
        taken: list[str] = []
        for index, item in enumerate(value):
            if not isinstance(item, str):
                self.problem((key, str(index)), f"must be text, not {shown(item)}")
            elif message := check(item):
                self.problem((key, str(index)), message)
            elif unique and item in taken:
                self.problem((key, str(index)), f"{shown(item)} is there twice")
            else:
                taken.append(item)
        if len(value) < at_least:
            self.problem((key,), "must not be empty")
        if len(value) > at_most:
            self.problem((key,), f"has more than {at_most} entries")
        return tuple(taken)

    def flag(self, key: str, *, default: bool | None = None) -> bool:
        """True or false; one with a ``default`` may be left out."""
        return self._take(key, bool, "true or false", _MISSING if default is None else default) is True

    def integer(self, key: str, low: int, high: int, *, default: int | None = None) -> int:
        """A whole number from ``low`` to ``high``; one with a ``default`` may be left out."""
        value = self._take(key, int, "a whole number", _MISSING if default is None else default)
        if value is _MISSING:
            return low
        if not low <= value <= high:
            self.problem((key,), f"must be from {low} to {high}, not {shown(value)}")
        return cast("int", value)

    def number(self, key: str, low: float) -> float:
        value = self._take(key, (int, float), "a number")
        if value is _MISSING:
            return 1.0
        if value < low:
            self.problem((key,), f"must be at least {low:g}, not {shown(value)}")
        return float(value)

    def positive(self, key: str) -> float | None:
        """A number above 0, or null; may be left out, which is null."""
        value = self._take(key, (int, float, type(None)), "a number above 0, or null", None)
        if value is None:
            return None
        if value is not _MISSING and value <= 0:
            self.problem((key,), f"must be more than 0, not {shown(value)}")
        return None if value is _MISSING else float(value)

    def share(self, key: str) -> float:
        """A number between 0 and 1, both excluded."""
        value = self._take(key, (int, float), "a number between 0 and 1")
        if value is not _MISSING and not 0 < value < 1:
            self.problem((key,), f"must be between 0 and 1, not {shown(value)}")
        return 0.0 if value is _MISSING else float(value)

    def mapping(self, key: str, *, optional: bool = False) -> dict[str, Any]:
        value = self._take(key, Mapping, "a mapping", {} if optional else _MISSING)
        return {} if value is _MISSING else dict(value)

    def section(self, key: str, read: Callable[[Section], _T], *, optional: bool = False) -> _T:
        """What ``read`` makes of the mapping under a key; of an empty one, silently, where there is none.

        An ``optional`` one may be left out.
        """
        value = self._take(key, Mapping, "a mapping", {} if optional else _MISSING)
        if value is _MISSING:
            return read(Section({}, (), Report({})))
        return self._read(value, (key,), read, (key,))

    def named(self, key: str, *, optional: bool = False) -> Section:
        """A mapping of names to values that are no mappings."""
        value = self.mapping(key, optional=optional)
        return Section(value, (*self.path, key), self.report, place=(*self.place, key), names=True)

    def sections(self, key: str, read: Callable[[Section], _T], *, optional: bool = False) -> dict[str, _T]:
        """A mapping of names to mappings, in order; an ``optional`` one may be left out."""
        found: dict[str, _T] = {}
        for name, item in self.mapping(key, optional=optional).items():
            if isinstance(item, Mapping):
                found[str(name)] = self._read(item, (key, str(name)), read, (key, "NAME"))
            else:
                self.problem((key, str(name)), f"must be a mapping, not {shown(item)}")
        return found

    def list_of(self, key: str, read: Callable[[Section], _T], *, optional: bool = False) -> tuple[_T, ...]:
        """A list of mappings; an ``optional`` one may be left out."""
        value = self._take(key, list, "a list", [] if optional else _MISSING)
        found: list[_T] = []
        for index, item in enumerate([] if value is _MISSING else value):
            if isinstance(item, Mapping):
                found.append(self._read(item, (key, str(index)), read, (key, "[]")))
            else:
                self.problem((key, str(index)), f"must be a mapping, not {shown(item)}")
        return tuple(found)

    def _read(
        self, value: Mapping[str, Any], key: tuple[str, ...], read: Callable[[Section], _T], place: tuple[str, ...]
    ) -> _T:
        section = Section(dict(value), (*self.path, *key), self.report, place=(*self.place, *place))
        result = read(section)
        section.finish()
        return result
