"""The one door to Hydra and OmegaConf: the files of any commit in, a plain resolved value out.

Hydra is used for what it is: choosing group files, merging them, and overrides. What reaches it has passed
``spec.sources.check_conf_files``; nothing is instantiated, no resolver can be named, Hydra's own node is
neither configurable nor part of the answer. Needs no checkout: the files are written to a private folder.
"""

from __future__ import annotations

import re
import tempfile
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cd4ml.errors import Cd4mlError, ConfigError, Problem
from cd4ml.spec import sources
from cd4ml.spec.override import OVERRIDE, Operation, Override

if TYPE_CHECKING:
    from omegaconf import DictConfig

_JOB = "cd4ml"
_VERSION_BASE = "1.3"
_ONE_AT_A_TIME = threading.Lock()
"""Hydra keeps its state in a singleton."""

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
    whatever is wrong, with file and key. Side effects: a temporary folder, removed before the return.
    """
    if problems := sources.check_conf_files(files):
        raise ConfigError(problems)
    if sources.CONFIG not in files:
        raise ConfigError([sources.problem(sources.CONFIG, "", "is missing", "`cd4ml init` writes one")])
    parsed = parse_overrides(overrides)
    groups = sources.group_choices(files)
    chosen = tuple(one.text for one in parsed if one.key in groups and one.operation != "delete")
    with _ONE_AT_A_TIME, _translated(files, parsed, chosen):
        config = _compose(files, overrides)
        raw = _plain(config, resolve=False)
        tags = _plain(_compose(_tagged(files), chosen), resolve=False)
        given = {path for one in parsed if one.key not in groups for path in _leaves(one.value, one.path)}
        if problems := tuple(
            sources.problem(_origin(tuple(key.split(".")), tags, given), key, message, hint)
            for key, message, hint in sources.check_references(raw)
        ):
            raise ConfigError(problems)
        resolved = _plain(config, resolve=True)
    return Composed(resolved, {".".join(path): _origin(path, tags, given) for path in _leaves(resolved)})


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
    from hydra.core.override_parser.overrides_parser import OverridesParser

    try:
        (parsed,) = OverridesParser.create().parse_overrides([text])
        several = parsed.is_sweep_override()
        value = None if several else parsed.value()
    except Exception as error:
        raise ValueError("not an override; write key=value, group=choice, +key=value or ~key") from error
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


# --- composing --------------------------------------------------------------------------------------


def _compose(files: Mapping[str, bytes], overrides: tuple[str, ...]) -> DictConfig:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.singleton import Singleton

    before = Singleton.get_state()
    with tempfile.TemporaryDirectory(prefix="cd4ml-conf-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path, content in files.items():
            if path.endswith(".yaml"):
                target = Path(folder, path)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
        GlobalHydra.instance().clear()
        try:
            with initialize_config_dir(str(Path(folder, "conf")), job_name=_JOB, version_base=_VERSION_BASE):
                return hydra_compose("config", overrides=list(overrides))
        finally:
            Singleton.set_state(before)


def _plain(config: DictConfig, *, resolve: bool) -> dict[str, Any]:
    from omegaconf import OmegaConf

    value = OmegaConf.to_container(config, resolve=resolve)
    assert isinstance(value, dict)  # noqa: S101  # what a DictConfig becomes
    return {str(key): item for key, item in value.items()}


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
            raise ConfigError([sources.problem(sources.CONF, "", "refers to itself, or is nested too deep")]) from None
        if isinstance(error, Exception) and not isinstance(error, Cd4mlError | OSError | MemoryError):
            # The text of such an error may hold values of the configuration.
            message = f"Hydra cannot compose this ({type(error).__name__})"
            raise ConfigError([sources.problem(sources.CONF, "", message)]) from None

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
            raw = _plain(_compose(self.files, self.chosen), resolve=False)
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


def _tagged(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The same files with every value replaced by the name of its file: composed, they say who wrote what."""
    tagged = {}
    for path, content in files.items():
        if path.endswith(".yaml"):
            text = content.decode()
            body = sources.load_yaml(text) or {}
            marked = {key: value if key == "defaults" else _mark(value, path) for key, value in body.items()}
            header = "# @package _global_\n" if sources.is_global(text) else ""
            tagged[path] = (header + sources.dump_yaml(marked)).encode()
    return tagged


def _mark(value: Any, path: str) -> Any:
    if isinstance(value, dict) and value:
        return {key: _mark(item, path) for key, item in value.items()}
    return path


def _origin(path: tuple[str, ...], tags: Mapping[str, Any], given: set[tuple[str, ...]]) -> str:
    if any(path[: len(one)] == one for one in given):
        return OVERRIDE
    here: Any = tags
    for step in path:
        if not isinstance(here, dict) or step not in here:
            break
        here = here[step]
    while isinstance(here, dict) and here:
        here = next(iter(here.values()))
    return here if isinstance(here, str) else sources.CONFIG


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
