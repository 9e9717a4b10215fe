"""Three-way merge of configurations: what both sides asked for since they parted, value by value.

A mapping is merged key by key, and a list that holds mappings or lists item by item where its length stayed;
everything else is one value. So is a mapping whose class (``_target_``) or group choice changed on one side: the
parameters of two classes do not mix.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cd4ml.spec.canonical import canonical_json

TARGET = "_target_"
Path = tuple[str, ...]


class Absent:
    """What stands where a key is not there."""

    def __repr__(self) -> str:
        return "nothing"


ABSENT: Final = Absent()


@dataclass(frozen=True)
class BothChanged:
    """A value that both sides changed, and differently; ours is kept.

    ``key`` is its dotted path (items of a list by their index); ``ABSENT`` stands where it is missing.
    """

    key: str
    base: Any
    ours: Any
    theirs: Any

    def as_json(self) -> dict[str, Any]:
        """``key``, and those of ``base``, ``ours`` and ``theirs`` that are there."""
        values = {"base": self.base, "ours": self.ours, "theirs": self.theirs}
        return {"key": self.key, **{side: value for side, value in values.items() if value is not ABSENT}}


@dataclass(frozen=True)
class Merged:
    """The merged configuration, and what both sides changed, sorted by key."""

    value: dict[str, Any]
    both_changed: tuple[BothChanged, ...]


def three_way(
    base: Mapping[str, Any], ours: Mapping[str, Any], theirs: Mapping[str, Any], whole: Collection[Path] = ()
) -> Merged:
    """Ours with everything that theirs changed since ``base``, unless ours changed it too.

    ``whole`` are paths of mappings that are merged as one value. Where nothing was changed by both, the two sides
    can be exchanged. Values are compared as the fingerprint sees them: 1, 1.0 and true are three values.
    """
    found: list[BothChanged] = []
    value = _merged((), base, ours, theirs, frozenset(whole), found)
    return Merged(dict(value), tuple(sorted(found, key=lambda one: one.key)))


def same(left: Any, right: Any) -> bool:
    """Are these one value to the fingerprint? A missing one equals nothing else."""
    if left is ABSENT or right is ABSENT:
        return left is right
    return canonical_json(left) == canonical_json(right)


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every value that is no mapping with keys, by path; a list is one."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from leaves(item, (*path, str(key)))
    else:
        yield path, value


def get(value: Any, path: Path) -> Any:
    """The value at a path, or ``ABSENT``; items of a list that is no one value go by their index."""
    for step in path:
        inside = _parts(value)
        if inside is None or step not in inside:
            return ABSENT
        value = inside[step]
    return value


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[Path, Any]:
    """What to set in ``found``, by path, so that it becomes ``wanted``; ``ABSENT`` for what to take away."""
    now, then = dict(leaves(found)), dict(leaves(wanted))
    changed = {path: value for path, value in then.items() if not same(now.get(path, ABSENT), value)}
    # a mapping where a value has to be, or the other way round, gives way to what is set there
    gone = {path for path in now if path and path not in then and get(wanted, path) is ABSENT}
    return {**changed, **dict.fromkeys(gone, ABSENT)}


def settled(base: Any, written: Any, base_resolved: Any, resolved: Any) -> Any:
    """``written``, a configuration with its references, as ``base`` has it wherever both resolve to one value.

    So a value that was only written another way, by a reference or without one, is no change.
    """
    if not (base is ABSENT or base_resolved is ABSENT) and same(base_resolved, resolved):
        return base
    if not (isinstance(written, Mapping) and isinstance(resolved, Mapping)):
        return written
    return {
        key: settled(get(base, (key,)), item, get(base_resolved, (key,)), get(resolved, (key,)))
        for key, item in written.items()
    }


# ── the parts ──


def _merged(path: Path, base: Any, ours: Any, theirs: Any, whole: frozenset[Path], found: list[BothChanged]) -> Any:
    if same(ours, theirs) or same(base, theirs):
        return ours
    if same(base, ours):
        return theirs
    if not _mixes(path, base, ours, theirs, whole):
        found.extend(_lost(path, base, ours, theirs))
        return ours
    before, mine, main = (_parts(one) or {} for one in (base, ours, theirs))
    merged = {}
    for key in dict.fromkeys((*mine, *main)):
        then, one, other = (side.get(key, ABSENT) for side in (before, mine, main))
        value = _merged((*path, key), then, one, other, whole, found)
        if value is not ABSENT:
            merged[key] = value
    return list(merged.values()) if isinstance(ours, list) else merged


def _parts(value: Any) -> Mapping[str, Any] | None:
    """What a mapping, or a list that holds mappings or lists, is made of; nothing for one value."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, list) and any(isinstance(item, Mapping | list) for item in value):
        return {str(index): item for index, item in enumerate(value)}
    return None


def _deep_leaves(value: Any, path: Path = ()) -> Iterator[Path]:
    inside = _parts(value)
    if not inside:
        yield path
    for key, item in (inside or {}).items():
        yield from _deep_leaves(item, (*path, key))


def _mixes(path: Path, base: Any, ours: Any, theirs: Any, whole: frozenset[Path]) -> bool:
    """Can the two sides be merged part by part?"""
    if isinstance(ours, list) or isinstance(theirs, list):
        lists = [_parts(one) if isinstance(one, list) else None for one in (base, ours, theirs)]
        return None not in lists and len({len(one or ()) for one in lists}) == 1
    if path in whole or not (isinstance(ours, Mapping) and isinstance(theirs, Mapping)):
        return False
    sides = (base, ours, theirs) if isinstance(base, Mapping) and base else (ours, theirs)
    classes = [one.get(TARGET, ABSENT) for one in sides]
    return all(same(one, classes[0]) for one in classes)


def _lost(path: Path, base: Any, ours: Any, theirs: Any) -> Iterator[BothChanged]:
    """What theirs changed below ``path`` and ours has otherwise."""
    told: set[Path] = set()
    for place in sorted({where for one in (base, theirs) if one is not ABSENT for where in _deep_leaves(one)}):
        then, kept, now = (get(one, place) for one in (base, ours, theirs))
        inside = any(place[:cut] in told for cut in range(len(place)))
        if not inside and not same(then, now) and not same(kept, now):
            told.add(place)
            yield BothChanged(".".join((*path, *place)), then, kept, now)
