"""The one door to Hydra and OmegaConf: the files of any commit in, a plain resolved value out.

Hydra is used for what it is: choosing group files, merging them, and overrides. What reaches it has passed
``spec.sources.check_conf_files``; nothing is instantiated, no resolver can be named, Hydra's own node is
neither configurable nor part of the answer. Needs no checkout: Hydra is given what the files hold.

To compose takes a fifth of a second, and commands ask for the same again and again, so the last answers are
remembered by all that they follow from: every byte of the files, and the overrides.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from cd4ml.errors import Cd4mlError, ConfigError, Problem
from cd4ml.spec import sources
from cd4ml.spec.override import OVERRIDE, Operation, Override

if TYPE_CHECKING:
    from hydra.core.config_store import ConfigNode
    from omegaconf import DictConfig

_JOB = "cd4ml"
_VERSION_BASE = "1.3"
_ONE_AT_A_TIME = threading.Lock()
"""Hydra keeps its state in a singleton."""

_REMEMBERED = 64
"""Answers of one process; each keeps its files, 1 MiB at most."""

_HYDRAS_OWN = ("_dummy_empty_config_.yaml",)
"""What Hydra registers of itself. Whatever else a program has registered takes no part here; nor do the defaults of
Hydra's own node (launchers, loggers, help), which is thrown away, and which take half the time to compose."""

_MISSING = "???"
_IN_FILE = re.compile(r"In '([^']+)': (.*)")
_NOT_THERE = re.compile(r"Could not (?:override|delete from config\.) '([^']+)'")


@dataclass(frozen=True)
class Composed:
    """``resolved``: plain JSON values, no interpolation left. ``origin``: the file that each value is written in.

    Keys of ``origin`` are the dotted paths of all leaves (a list is one leaf); values are paths relative to the
    repository root, or ``"override"``. A value that comes from ``${…}`` has the file that holds the ``${…}``.
    """

    resolved: dict[str, Any]
    origin: dict[str, str]


def compose(files: Mapping[str, bytes], overrides: tuple[str, ...] = ()) -> Composed:
    """Compose ``conf/config.yaml`` of a commit with overrides in Hydra's grammar.

    ``files``: every file under ``conf/`` by its path relative to the repository root. Raises ConfigError for
    whatever is wrong, with file and key. The answer is the caller's own. Side effects: an empty temporary folder,
    removed before the return.
    """
    try:
        answer = _answer(tuple(sorted(files.items())), tuple(overrides))
    except _UnforeseenError as error:
        raise ConfigError(error.problems) from None
    if isinstance(answer, Composed):
        return Composed(_copied(answer.resolved), dict(answer.origin))
    raise ConfigError(answer)


class _UnforeseenError(ConfigError):
    """What neither Hydra nor OmegaConf meant to say. It may be of this moment (how deep the stack is), so it is
    not remembered."""


@lru_cache(_REMEMBERED)
def _answer(files: tuple[tuple[str, bytes], ...], overrides: tuple[str, ...]) -> Composed | tuple[Problem, ...]:
    """What was composed, not to be changed, or what is wrong."""
    try:
        return _composed(dict(files), overrides)
    except _UnforeseenError:
        raise
    except ConfigError as error:
        return error.problems


def _composed(files: Mapping[str, bytes], overrides: tuple[str, ...]) -> Composed:
    if problems := sources.check_conf_files(files):
        raise ConfigError(problems)
    if sources.CONFIG not in files:
        raise ConfigError([sources.problem(sources.CONFIG, "", "is missing", "`cd4ml init` writes one")])
    parsed = parse_overrides(overrides)
    named = _named(files, parsed)
    if len(named) < len(files):
        with contextlib.suppress(ConfigError):  # to be told of all of them, with what else might be meant
            return _composed_of(files, named, parsed, overrides)
    return _composed_of(files, files, parsed, overrides)


def _named(files: Mapping[str, bytes], overrides: Iterable[Override]) -> dict[str, bytes]:
    """The files that can take part: named by the defaults list of one that does, or in a group that is overridden.

    Every experiment that was merged has left a file, and most others are named by none.
    """
    by_name: dict[str, list[str]] = {}
    for path in files:
        by_name.setdefault(path.rpartition("/")[2], []).append(path)
    groups = tuple(f"{sources.CONF}{one.key}/" for one in overrides)
    waiting = [sources.CONFIG, *(path for path in files if groups and path.startswith(groups))]
    found: dict[str, bytes] = {}
    while waiting:
        path = waiting.pop()
        if path not in found:
            found[path] = files[path]
            for _, choice in sources.defaults_of(path, files[path]):
                name = choice.rpartition("/")[2].removesuffix(".yaml")  # Hydra takes it with the ending, too
                waiting += by_name.get(f"{name}.yaml", ())
    return found


def _composed_of(
    files: Mapping[str, bytes], named: Mapping[str, bytes], parsed: tuple[Override, ...], overrides: tuple[str, ...]
) -> Composed:
    """What the ``named`` of the files give."""
    groups = sources.group_choices(files)
    chosen = tuple(one.text for one in parsed if one.key in groups and one.operation != "delete")
    with _ONE_AT_A_TIME, _translated(files, parsed, chosen):
        writers: Writers = {}
        marked = [_File(one.path, _marked(one.body, one.path, writers), one.is_global) for one in _read(named)]
        if any(one.operation == "delete" and one.value is not None for one in parsed):
            # Hydra compares what it deletes with the value that was given: it must not find marks in it.
            config, told = _compose(_read(named), overrides), _plain(_compose(marked, chosen), resolve=False)
        else:
            config = _compose(marked, overrides)
            told = _plain(config, resolve=False)
        given = {path for one in parsed if one.key not in groups for path in _leaves(one.value, one.path)}
        if problems := tuple(
            sources.problem(_origin(tuple(key.split(".")), told, writers, given), key, message, hint)
            for key, message, hint in sources.check_references(_unmarked(_plain(config, resolve=False)))
        ):
            raise ConfigError(problems)
        resolved = _unmarked(_plain(config, resolve=True))
    return Composed(resolved, {".".join(path): _origin(path, told, writers, given) for path in _leaves(resolved)})


def parse_overrides(overrides: Iterable[str]) -> tuple[Override, ...]:
    """Overrides by Hydra's grammar: ``group=choice``, ``a.b=value``, ``+a.b=value``, ``~a.b``.

    Raises ConfigError for syntax, sweeps, Hydra's own keys, packages and resolvers; all at once.
    """
    found: list[Override] = []
    problems: list[Problem] = []
    for text in overrides:
        try:
            found.append(_parse_override(text))
        except ValueError as error:
            problems.append(sources.problem(OVERRIDE, text, str(error)))
    if problems:
        raise ConfigError(problems)
    return tuple(found)


def _parse_override(text: str) -> Override:
    try:
        parsed, several, value = _read_override(text)
    except _NoOverrideError:
        if quoted := _in_quotes(text):
            raise ValueError(f'its value is to be in quotes: "{quoted}" (with both kinds of them in a shell)') from None
        raise
    if several:
        raise ValueError("gives several values; quote the value or write a list as [a, b]")
    key = str(parsed.key_or_group)
    if re.split(r"[./]", key)[0] == "hydra":
        raise ValueError("Hydra itself cannot be configured here")
    if parsed.package is not None:
        raise ValueError("a package (@…) cannot be named")
    for _, leaf in _texts(value):
        if message := sources.reference_problem(leaf):
            raise ValueError(message)
    operation: Operation = "delete" if parsed.is_delete() else "change"
    if parsed.is_add() or parsed.is_force_add():
        operation = "add"
    return Override(text, operation, key, value)


class _NoOverrideError(ValueError):
    def __init__(self) -> None:
        super().__init__("not an override; write key=value, group=choice, +key=value or ~key")


def _read_override(text: str) -> tuple[Any, bool, Any]:
    """By Hydra's grammar: the override, whether it gives several values, and otherwise its value."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    try:
        (parsed,) = OverridesParser.create().parse_overrides([text])
        several = parsed.is_sweep_override()
        return parsed, several, None if several else parsed.value()
    except Exception as error:
        raise _NoOverrideError from error


def _in_quotes(text: str) -> str:
    """The override with its value, or each text of a list, in quotes, if that can be read; else nothing."""
    key, mark, value = text.partition("=")
    if not mark or not value.isprintable() or set(value) & _NOT_QUOTED or len(text) > _LONGEST_QUOTED:
        return ""
    inner = re.fullmatch(r"\[([^][{}]+)\]", value)
    parts = [part.strip() for part in inner[1].split(",")] if inner else [value]
    quoted = ", ".join(f"'{part}'" for part in parts)
    found = f"{key}=[{quoted}]" if inner else f"{key}={quoted}"
    try:
        _, several, _ = _read_override(found)
    except _NoOverrideError:
        return ""
    return "" if several or (not inner and value[:1] in "[{") else found


_NOT_QUOTED = frozenset("'\"\\$`!")
"""What means something inside of quotes, to Hydra or to a shell."""
_LONGEST_QUOTED = 200


# --- composing --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _File:
    """One file of ``conf/``: its path relative to the repository root, its content, whose keys they are."""

    path: str
    body: dict[Any, Any]
    is_global: bool


def _read(files: Mapping[str, bytes]) -> list[_File]:
    texts = {path: content for path, content in files.items() if path.endswith(".yaml")}
    return [
        _File(path, _copied(sources.load_file(content) or {}), sources.is_global(content.decode()))
        for path, content in texts.items()
    ]


def _compose(files: Iterable[_File], overrides: tuple[str, ...]) -> DictConfig:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.config_store import ConfigStore
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.singleton import Singleton

    before, store = Singleton.get_state(), ConfigStore.instance()
    registered = store.repo
    # Hydra wants a folder. Its own files come before those, and those before what is registered: this one is empty.
    with tempfile.TemporaryDirectory(prefix="cd4ml-conf-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        GlobalHydra.instance().clear()
        try:
            store.repo = {name: registered[name] for name in _HYDRAS_OWN if name in registered}
            store.repo["hydra"] = {"config.yaml": _hydras_node()}
            for one in files:
                group, _, name = one.path.removeprefix(sources.CONF).rpartition("/")
                store.store(name, one.body, group or None, "_global_" if one.is_global else None)
            with initialize_config_dir(folder, job_name=_JOB, version_base=_VERSION_BASE):
                return hydra_compose("config", overrides=list(overrides))
        finally:
            store.repo = registered
            Singleton.set_state(before)


@cache
def _hydras_node() -> ConfigNode:
    """Hydra's own node, without its defaults. Whoever loads it is given a copy."""
    from hydra.conf import HydraConf
    from hydra.core.config_store import ConfigNode
    from omegaconf import OmegaConf

    return ConfigNode("config.yaml", OmegaConf.structured(HydraConf(defaults=[])), "hydra", None, "hydra")


def _plain(config: DictConfig, *, resolve: bool) -> dict[Any, Any]:
    from omegaconf import OmegaConf

    value = OmegaConf.to_container(config, resolve=resolve)
    assert isinstance(value, dict)  # noqa: S101  # what a DictConfig becomes
    return value


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


class _translated:  # noqa: N801  # used like a function
    """Turns every error of Hydra, OmegaConf and YAML inside the ``with`` into a ConfigError.

    They raise more than their own kinds, and a branch chooses what they are given: whatever comes out of them
    is that branch's problem and must end no verb. What the machine lacks (OSError, MemoryError) stays what it is.
    """

    def __init__(self, files: Mapping[str, bytes], overrides: tuple[Override, ...], chosen: tuple[str, ...]) -> None:
        self.files, self.overrides, self.chosen = files, overrides, chosen

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        from hydra.errors import HydraException, MissingConfigException
        from omegaconf.errors import OmegaConfBaseException

        if isinstance(error, MissingConfigException) and isinstance(error.missing_cfg_file, str):
            raise ConfigError([self._no_such_choice(error.missing_cfg_file)]) from None
        if isinstance(error, HydraException | OmegaConfBaseException):
            raise ConfigError([self._other(error)]) from None
        if isinstance(error, RecursionError):
            said = "refers to itself, or is nested too deep"
            raise _UnforeseenError([sources.problem(sources.CONF, "", said)]) from None
        if isinstance(error, Exception) and not isinstance(error, Cd4mlError | OSError | MemoryError):
            # The text of such an error may hold values of the configuration.
            message = f"Hydra cannot compose this ({type(error).__name__})"
            raise _UnforeseenError([sources.problem(sources.CONF, "", message)]) from None

    def _no_such_choice(self, missing: str) -> Problem:
        groups = sources.group_choices(self.files)
        group = next((name for name in sorted(groups, key=len, reverse=True) if missing.startswith(f"{name}/")), "")
        choice = missing[len(group) :].lstrip("/")
        file, key = self._where(group, choice, missing)
        if not group:
            name = missing.split("/")[0]
            return sources.problem(file, key, f"there is no group or file {name!r}", _nearest(name, groups))
        hint = _nearest(choice, groups[group]) or "there are " + ", ".join(groups[group])
        return sources.problem(file, key, f"the group {group} has no choice {choice!r}", hint)

    def _where(self, group: str, choice: str, missing: str) -> tuple[str, str]:
        """The override or defaults list that asks for a choice."""
        for one in self.overrides:
            if one.key == group:
                return OVERRIDE, one.key
        for path in sorted(self.files, key=lambda name: (name == sources.CONFIG, name)):
            for index, (its_group, its_choice) in enumerate(sources.defaults_of(path, self.files[path])):
                if (its_group, its_choice) in ((group, choice), (*_split(missing),)):
                    return path, f"defaults.{index}"
        return sources.CONFIG, "defaults"

    def _other(self, error: Exception) -> Problem:
        text = str(error).strip()
        first = text.splitlines()[0] if text else type(error).__name__
        inside = _IN_FILE.match(first)
        file = f"conf/{inside[1]}.yaml" if inside else sources.CONF
        message = inside[2] if inside else first
        if unknown := _NOT_THERE.search(first):
            key = unknown[1]
            if any(one.key == key for one in self.overrides):
                return sources.problem(OVERRIDE, key, "there is no such key or group", self._known(key))
            nearest = _nearest(key, sources.group_choices(self.files))
            return sources.problem(file, "defaults", f"there is no group {key!r}", nearest)
        key = str(getattr(error, "full_key", None) or "")
        return sources.problem(file if file in self.files else sources.CONF, key, message)

    def _known(self, key: str) -> str:
        """What may have been meant by a key that is not there, or how to add it."""
        names = set(sources.group_choices(self.files))
        try:
            raw = _plain(_compose(_read(self.files), self.chosen), resolve=False)
        except Exception:  # noqa: BLE001  # only a hint is lost; the problem at hand is told
            raw = {}
        names.update(".".join(path[:cut]) for path in _leaves(raw) for cut in range(1, len(path) + 1))
        return _nearest(key, names) or f"+{key}=… adds one"


def _split(missing: str) -> tuple[str, str]:
    group, _, choice = missing.rpartition("/")
    return group, choice


def _nearest(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]}?" if close else ""


# --- where a value comes from -----------------------------------------------------------------------


# Every mapping with keys is given one more before Hydra merges it: a mark, that leads to the file and to what the
# file holds there. Marks are merged like keys, so a mapping that came out tells who wrote in it, in which order.

Writers = dict[bytes, tuple[str, dict[Any, Any]]]
"""By its mark, the path of a file and one of its mappings. Marks are bytes: a file's keys are text, and those of
an override's value text or numbers."""


def _marked(value: Any, path: str, writers: Writers) -> Any:
    """The same with marks, which are added to ``writers``. A list is one leaf, and nothing in it marked."""
    if not isinstance(value, dict) or not value:
        return value
    mark = b"%d" % len(writers)
    writers[mark] = (path, value)
    return {**{key: _marked(item, path, writers) for key, item in value.items()}, mark: None}


def _unmarked(value: Any) -> Any:
    """The same without marks. References take them anywhere, into lists too."""
    if isinstance(value, dict):
        return {key: _unmarked(item) for key, item in value.items() if not isinstance(key, bytes)}
    return [_unmarked(item) for item in value] if isinstance(value, list) else value


def _origin(path: tuple[str, ...], told: Mapping[Any, Any], writers: Writers, given: set[tuple[str, ...]]) -> str:
    """The file of a value, by the marks in ``told`` (unresolved: what is below a reference is the reference's)."""
    if any(path[: len(one)] == one for one in given):
        return OVERRIDE
    here: Any = told
    found = sources.CONFIG
    for step in path:
        if not isinstance(here, dict) or step not in here:
            break
        value = here[step]
        for file, body in (writers[mark] for mark in reversed(here) if isinstance(mark, bytes)):
            if step in body and (body[step] != _MISSING or value == _MISSING):  # what must be given replaces nothing
                found = file
                break
        here = value
    return found


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Paths of everything that is not a mapping with keys."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(item, (*path, str(key)))
    else:
        yield path


def _texts(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _texts(item, (*path, str(key)))
