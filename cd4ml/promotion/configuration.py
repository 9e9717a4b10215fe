"""Where resolved configurations differ, value by value.

Lists of steps are held against each other by the steps' names, so that one step put in front of the others
is one difference and not as many as there are values after it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cd4ml.spec.canonical import canonical_json
from cd4ml.spec.fingerprint import NOT_IN_SPEC
from cd4ml.spec.keys import BASE_ONLY

How = Literal["added", "removed", "changed"]

Path = tuple[str, ...]
_LABELS = ("name", "source", "_target_", "type")
"""Keys of a mapping in a list that say which one it is, the most telling first."""


@dataclass(frozen=True)
class ConfigChange:
    """A resolved configuration value, by dotted key, that differs. The side that lacks it holds nothing.

    An element of a list of steps goes by its name, ``steps[scale].1.alpha``; where names differ, or their order,
    the list itself is a change too, from names to names.
    """

    key: str
    how: How
    champion: Any
    challenger: Any


@dataclass(frozen=True)
class Names:
    """What a list of steps consists of, in its order."""

    names: tuple[str, ...]


def how_of(in_old: bool, in_new: bool) -> How:
    """The word for what is on one side, or on both and differs."""
    if in_old and in_new:
        return "changed"
    return "removed" if in_old else "added"


def config_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[ConfigChange]:
    """What differs among the values that can change a result; names, notes and policy are left out."""
    return _changes(values_of(old), values_of(new))


def policy_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[ConfigChange]:
    """What differs among the values of which only the base branch's count; ``old`` is the base branch's."""
    return _changes(*(dict(_flat(_policy(params))) for params in (old, new)))


def _policy(params: Mapping[str, Any]) -> dict[str, Any]:
    environment = params.get("environment")
    venv = {"environment": {"venv": environment.get("venv")}} if isinstance(environment, Mapping) else {}
    return {**{key: value for key, value in params.items() if key in BASE_ONLY}, **venv}


def _changes(before: Mapping[Path, Any], after: Mapping[Path, Any]) -> Iterator[ConfigChange]:
    for path in differing((before, after)):
        how = how_of(path in before, path in after)
        yield ConfigChange(key_text(path), how, plain(before.get(path)), plain(after.get(path)))


def differing(configurations: Sequence[Mapping[Path, Any]]) -> list[Path]:
    """The paths, sorted, at which configurations (as ``values_of`` gives them) do not all have the same value.

    Values are the same as the fingerprint sees it: 1, 1.0 and true are three. The names of a list that some lack
    are left out where a value of an element tells it.
    """
    first, *others = configurations
    union = sorted({path for values in configurations for path in values})
    found = [path for path in union if not all(_same(path, first, values) for values in others)]
    told = {path[:length] for path in found for length in range(len(path))}
    return [path for path in found if path not in told or all(path in values for values in configurations)]


def _same(path: Path, old: Mapping[Path, Any], new: Mapping[Path, Any]) -> bool:
    if path not in old or path not in new:
        return path not in old and path not in new
    a, b = old[path], new[path]
    return bool(a == b) if isinstance(a, Names) or isinstance(b, Names) else canonical_json(a) == canonical_json(b)


def values_of(params: Mapping[str, Any]) -> dict[Path, Any]:
    """The leaves of a configuration by path, without what cannot change a result.

    A list of plain values is one leaf. Of one that holds mappings or lists, the elements go by name (by index where
    they have none), and ``Names`` lies at the path of the list itself.
    """
    return dict(_flat({key: value for key, value in params.items() if key not in NOT_IN_SPEC}))


def key_text(path: Path) -> str:
    """``("steps", "[scale]", "1", "alpha")`` as ``steps[scale].1.alpha``."""
    return "".join(step if step.startswith("[") else f".{step}" for step in path).removeprefix(".")


def plain(value: Any) -> Any:
    """A leaf as a JSON value."""
    return list(value.names) if isinstance(value, Names) else value


def _flat(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    inner: Mapping[str, Any] = {}
    if isinstance(value, Mapping):
        inner = value
    elif isinstance(value, list | tuple) and any(isinstance(item, Mapping | list | tuple) for item in value):
        names = _names(value)
        if names:
            yield path, Names(names)
        inner = dict(zip(names or map(str, range(len(value))), value, strict=True))
    if not inner:
        if path:  # the whole configuration being empty is no value of it
            yield path, value
        return
    for key, item in inner.items():
        yield from _flat(item, (*path, str(key)))


def _names(items: Sequence[Any]) -> tuple[str, ...]:
    """A name in brackets for each element, no two alike; none at all where one of them has no name."""
    seen: Counter[str] = Counter()
    found: list[str] = []
    for item in items:
        label = _label(item)
        if not label:
            return ()
        seen[label] += 1
        found.append(f"[{label}]" if seen[label] == 1 else f"[{label}#{seen[label]}]")
    return tuple(found) if len(set(found)) == len(found) else ()


def _label(item: Any) -> str:
    if isinstance(item, Mapping):
        named = next((item[key] for key in _LABELS if isinstance(item.get(key), str) and item[key]), "")
        kwargs = item.get("kwargs")
        column = kwargs.get("column") if isinstance(kwargs, Mapping) else None
        return f"{named}({column})" if named and isinstance(column, str) else str(named)
    if isinstance(item, list | tuple) and item and isinstance(item[0], str):
        return item[0]
    return ""
