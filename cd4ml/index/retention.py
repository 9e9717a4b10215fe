"""Which stored objects are needed, by whom, and which may go: a pure function of what is known and what lies there.

An object is *needed* while a run that is kept names it, or its raw data are pinned. A run is let go when a rule of
the base branch's conf says so and nobody needs it: no live branch, no release. What was let go before needs nothing as
long as that still holds, so a sweep that was cut off is finished by the next one. A removal record decides nothing by
itself, since whoever may land a record may land one: what a live branch or a release needs stays, whatever one says.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from cd4ml.errors import Problem, UsageError
from cd4ml.spec.reading import file_of
from cd4ml.spec.sources import problem

GRACE_HOURS = 24.0
"""What was written within so many hours stays: somebody may be between storing it and landing its record."""

OBJECT_NAME = re.compile(r"[0-9a-f]{32}(?:\.dir)?")
"""What DVC calls an object; nothing of another name is ever touched."""

FOLDER = ".dir"
"""How the name of an object ends that lists the objects of a folder."""

OUTPUTS = "artifacts/"
"""Where a run's record names what the run made; the other files are what it read, which Git or a pin holds."""

Where = Literal["local", "remote"]

_PLACE = re.compile(r"filter, character (\d+): ")
_AROUND = 40


@dataclass(frozen=True)
class Stored:
    """An object as it lies in the cache (``local``) or on the remote.

    ``modified`` is when it was written, in seconds since 1970; nothing where the remote does not tell.
    """

    where: Where
    md5: str
    bytes: int
    modified: float | None


@dataclass(frozen=True)
class Holding:
    """What one run needs: ``objects`` are its outputs (name → bytes), ``raw`` the raw data of its pins.

    ``needed_by`` says why no rule may let it go (a live branch, a release, a draft), ``rule`` which one would.
    ``gone`` is what a removal record says of it: ``artefacts``, ``run`` or nothing; ``told`` which record, and by whom.
    ``erased_here`` says that this clone erased the run itself.
    """

    run: str
    objects: Mapping[str, int]
    raw: frozenset[str] = frozenset()
    needed_by: str = ""
    rule: str = ""
    gone: str = ""
    told: str = ""
    erased_here: bool = False

    @property
    def is_erased(self) -> bool:
        """Was it erased, by this clone or as a record says of what nobody needs?"""
        return self.erased_here or (self.gone == "run" and not self.needed_by)

    @property
    def goes(self) -> bool:
        """Is it let go now?"""
        return bool(self.rule and self.objects) and not self.needed_by and not self.gone

    @property
    def kept(self) -> bool:
        """Do its objects stay, now and after this sweep?"""
        if self.erased_here:
            return False
        if self.gone == "artefacts":
            return bool(self.needed_by) or not self.rule
        return bool(self.needed_by) if self.gone else not self.goes


@dataclass(frozen=True)
class Inventory:
    """Everything that needs an object.

    ``pinned`` are objects that commits pin or track with DVC, by name, and ``pinned_now`` those of them that a head, a
    release or the work tree does. ``folders`` gives the objects that a folder's object lists; one that is needed and
    not in it could not be read. ``erased`` are the objects of erased runs, raw data among them, and which record says
    so; ``erased_here`` are those that this clone erased itself.
    """

    holdings: tuple[Holding, ...]
    pinned: frozenset[str] = frozenset()
    folders: Mapping[str, frozenset[str]] = field(default_factory=dict)
    erased: Mapping[str, str] = field(default_factory=dict)
    pinned_now: frozenset[str] = frozenset()
    erased_here: frozenset[str] = frozenset()


@dataclass(frozen=True)
class LetGo:
    """A run whose artefacts a rule lets go."""

    run: str
    rule: str
    objects: Mapping[str, int]


@dataclass(frozen=True)
class Freed:
    """A stored object that nobody needs: the runs that held it, and why it may go."""

    stored: Stored
    runs: tuple[str, ...]
    why: str


@dataclass(frozen=True)
class Sweep:
    """What is to be done: first the records, then the objects.

    ``unknown`` are stored objects that no record names and that stay, ``young`` those that could go but for the grace,
    ``erased`` those of runs that another clone erased, and that are needed here all the same.
    """

    let_go: tuple[LetGo, ...]
    free: tuple[Freed, ...]
    unknown: tuple[Stored, ...] = ()
    young: tuple[Stored, ...] = ()
    erased: tuple[Stored, ...] = ()

    def bytes(self, where: Where) -> int:
        """How many bytes it frees in one of the places."""
        return sum(one.stored.bytes for one in self.free if one.stored.where == where)


def needed(inventory: Inventory) -> frozenset[str]:
    """The names of all objects that must stay.

    Raw data stay as long as any run has them that was not erased: letting artefacts go leaves a run reproducible.
    A pin of the past does not keep what was erased, and one of today only what this clone did not erase itself.
    """
    names: set[str] = set()
    for one in inventory.holdings:
        if one.kept:
            names.update(one.objects)
        if one.kept or one.gone != "run":
            names.update(one.raw)
    names.update(inventory.pinned - inventory.erased.keys() - inventory.erased_here)
    names.update(inventory.pinned_now - inventory.erased_here)
    for name in [name for name in names if name.endswith(FOLDER)]:
        names.update(inventory.folders.get(name, ()))
    return frozenset(names)


def unread_folders(inventory: Inventory) -> tuple[str, ...]:
    """Needed folders of which nobody knows what they list: then nothing that is unknown may go."""
    return tuple(sorted(name for name in needed(inventory) if name.endswith(FOLDER) and name not in inventory.folders))


def sweep(
    inventory: Inventory,
    stored: Iterable[Stored],
    now: float,
    *,
    grace_hours: float = GRACE_HOURS,
    unknown: Collection[Where] = (),
) -> Sweep:
    """What may go of what is stored. ``now`` is in seconds since 1970.

    In the places of ``unknown``, objects go that no record names. Nothing goes that is needed, is younger than the
    grace, or is of unknown age. What this clone erased itself enjoys no grace in its cache; on the remote, where it was
    deleted at once, it has been stored again since.
    """
    keep, holders = needed(inventory), _holders(inventory)
    closed = bool(unread_folders(inventory))
    free: list[Freed] = []
    strangers: list[Stored] = []
    young: list[Stored] = []
    erased: list[Stored] = []
    # an output that another run has, too, is its own; raw data that were erased are nobody's
    others = [one for one in inventory.holdings if one.gone != "run" and one.kept]
    elsewhere = {name for one in others for name in _with_listed(one.objects, inventory.folders)}
    for one in sorted(stored, key=lambda one: (one.where, one.md5)):
        if one.md5 in keep and one.md5 in inventory.erased and one.md5 not in elsewhere:
            erased.append(one)
        if one.md5 in keep or not OBJECT_NAME.fullmatch(one.md5):
            continue
        told = inventory.erased.get(one.md5, "erased" if one.md5 in inventory.erased_here else "")
        runs, why = holders.get(one.md5, ((), told))
        if one.md5 in inventory.erased_here and one.where == "local":
            free.append(Freed(one, runs, "erased"))
        elif not why and (one.where not in unknown or closed):
            strangers.append(one)
        elif one.modified is None or now - one.modified < grace_hours * 3600:
            young.append(one)
        else:
            free.append(Freed(one, runs, why or "no record names it"))
    let_go = tuple(LetGo(one.run, one.rule, one.objects) for one in inventory.holdings if one.goes)
    return Sweep(let_go, tuple(free), tuple(strangers), tuple(young), tuple(erased))


def _holders(inventory: Inventory) -> dict[str, tuple[tuple[str, ...], str]]:
    """By object: the runs that do not keep it any more, and why."""
    found: dict[str, tuple[tuple[str, ...], str]] = {}
    for one in inventory.holdings:
        if one.kept:
            continue
        why = one.rule if one.goes else one.told or "erased" if one.gone == "run" else "let go before"
        for name in dict.fromkeys(_with_listed(one.objects, inventory.folders)):
            runs, first = found.get(name, ((), why))
            found[name] = ((*runs, one.run), first)
    return found


def _with_listed(names: Iterable[str], folders: Mapping[str, frozenset[str]]) -> Iterator[str]:
    for name in names:
        yield name
        yield from folders.get(name, ())


def still_free(shown: Sweep, now: Sweep) -> tuple[Freed, ...]:
    """What was to go when it was shown, and still is: all that may be deleted."""
    shown_names = {(one.stored.where, one.stored.md5) for one in shown.free}
    return tuple(one for one in now.free if (one.stored.where, one.stored.md5) in shown_names)


# ── erasure ──


@dataclass(frozen=True)
class Erasure:
    """What erasing a run takes with it.

    ``runs`` are erased, the named one first: ``with_model`` have the very same model, ``with_data`` were
    made from the same raw data. ``objects`` go (name → bytes), raw data among them unless the data stay.
    """

    runs: tuple[str, ...]
    with_model: tuple[str, ...]
    with_data: tuple[str, ...]
    objects: frozenset[str]
    raw: frozenset[str]


def erasure(
    holdings: Iterable[Holding],
    run: str,
    learned: Mapping[str, frozenset[str]],
    folders: Mapping[str, frozenset[str]],
    *,
    keep_data: bool = False,
) -> Erasure:
    """What has to go so that nothing is left of a run's model and, unless ``keep_data``, of its data.

    ``learned`` are, by run, the objects that hold what was learnt from the data: the model; ``folders`` gives what a
    folder's object lists, which goes with it. Equal predictions are those of the other run, too. Objects that a run
    outside of ``runs`` needs stay, which with the data gone are none that were made from them. With the data go those
    that were erased before, too, as an erasure that was cut off, or another clone's, leaves them.
    """
    known = {one.run: one for one in holdings}
    named = known[run]
    same = [one for one in known.values() if one.run != run and one.raw & named.raw]
    with_data = tuple(one.run for one in same if not one.is_erased)
    runs, with_model = [run, *(() if keep_data else (one.run for one in same))], list[str]()
    for done in runs:  # grows while it is gone through: a run brings those with its model
        for one in known.values():
            shared = learned.get(one.run, frozenset()) & learned.get(done, frozenset())
            if shared and one.run not in runs and one.gone != "run":
                runs.append(one.run)
                with_model.append(one.run)
    elsewhere = _needed_by_others(known.values(), runs, folders)
    raw = frozenset() if keep_data else named.raw
    objects = {name for one in runs for name in _with_listed(known[one].objects, folders)} | raw
    return Erasure(tuple(runs), tuple(with_model), with_data, frozenset(objects - elsewhere), raw)


def erasure_of_purged(
    holdings: Iterable[Holding],
    run: str,
    purged: Mapping[str, frozenset[str]],
    folders: Mapping[str, frozenset[str]],
    pinned: frozenset[str],
    *,
    drafts: Collection[str] = (),
    all_runs_of_data: bool = False,
) -> Erasure:
    """The same of a run whose record is no more: what its tombstone names, but for what others need.

    ``purged`` are the objects that tombstones name, by the runs that have no record, and ``pinned`` those that stay.
    Only with ``all_runs_of_data`` do the runs go along that share some of them, and of the ``drafts`` those that were
    made from such data; runs that others see do not, since the tombstone may be anybody's.
    """
    known = {one.run: one for one in holdings}
    runs, objects = [run], set(purged[run])
    more = [run] if all_runs_of_data else []
    while more:
        more = [one for one, names in purged.items() if one not in runs and names & objects]
        runs += more
        objects.update(*(purged[one] for one in more))
    ours = [one for one in drafts if known[one].raw & objects] if all_runs_of_data else []
    runs += ours
    objects.update(*(_with_listed(known[one].objects, folders) for one in ours))  # what else it was made from stays
    names = frozenset(objects - _needed_by_others(known.values(), runs, folders) - pinned)
    return Erasure(tuple(runs), (), tuple(runs[1:]), names, names)


def _needed_by_others(
    holdings: Iterable[Holding], runs: Collection[str], folders: Mapping[str, frozenset[str]]
) -> set[str]:
    """The objects that runs need which are none of these and were not erased.

    A record that says so of what a branch or a release needs is not believed: anybody may have landed it.
    """
    others = [one for one in holdings if one.run not in runs and not one.is_erased]
    needed_there = {name for one in others if one.kept for name in _with_listed(one.objects, folders)}
    return needed_there | {name for one in others for name in one.raw}


# ── rules ──


def rule_problems(rules: Iterable[str], origin: Mapping[str, str]) -> tuple[Problem, ...]:
    """What is wrong with the retention rules of a configuration, each with its place, in one line."""
    from cd4ml.index.query import parse

    found = []
    for number, rule in enumerate(rules):
        key = f"index.let_go.{number}"
        try:
            parse(rule)
        except UsageError as error:
            found.append(problem(file_of(origin, key), key, _folded(rule, str(error))))
    return tuple(found)


def _folded(rule: str, message: str) -> str:
    """The words of a mistake and the text around its place on one line, with a caret before the place."""
    said, *shown = message.splitlines()
    place = _PLACE.match(said)
    if place is None or not shown:
        return said
    position = int(place[1]) - 1
    before, after = rule[max(position - _AROUND, 0) : position], rule[position : position + _AROUND]
    return f"{said}: {before}^{after}"
