"""``gc``: free the stored objects that nobody needs, the records of it first.

The order is the promise: what is let go is written into the index, and seen there, before any byte goes; then
everything is looked at again, and only what was shown and still may go is deleted. Cut off anywhere, the next
one finishes.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cd4ml.controller.care.inventory import Found, stored_objects, take_inventory
from cd4ml.controller.desired.data import drop_raw_copy
from cd4ml.controller.landing.removals import record_removals, removal
from cd4ml.controller.project import Project
from cd4ml.controller.running.run import WORK_LOCK
from cd4ml.gateways.dvc import Storage
from cd4ml.gateways.files import FileDigest, digest_file, exclusive
from cd4ml.gateways.process import crash_point
from cd4ml.index.removed import ERASED, LET_GO
from cd4ml.index.retention import GRACE_HOURS, Freed, Sweep, Where, needed, still_free, sweep

PLACES: tuple[Where, ...] = ("local", "remote")


@dataclass(frozen=True)
class Options:
    """What a collection looks at: the places, those of them where unknown objects go too, and the grace."""

    places: tuple[Where, ...] = PLACES
    unknown: tuple[Where, ...] = ()
    grace_hours: float = GRACE_HOURS


@dataclass(frozen=True)
class Look:
    """What would be done, from one look."""

    found: Found
    sweep: Sweep


@dataclass(frozen=True)
class Done:
    """What was done: removal records by run, deleted objects, objects put back, and lines on what was not done."""

    recorded: Mapping[str, str]
    freed: tuple[Freed, ...]
    restored: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()


def plan_collection(project: Project, options: Options) -> Look:
    """What may go now. Fetches; changes nothing. Raises RemoteError, ConfigError, RepositoryError."""
    found = take_inventory(project)
    expected = any(one.objects and one.kept and one.run in found.landed for one in found.inventory.holdings)
    stored = stored_objects(found.storage, options.places, expected=expected)
    planned = sweep(found.inventory, stored, time.time(), grace_hours=options.grace_hours, unknown=options.unknown)
    return Look(found, planned)


def erased_runs(look: Look) -> tuple[str, ...]:
    """The runs, erased by another clone, whose objects are needed here all the same."""
    names = {one.md5 for one in look.sweep.erased}
    told = (one.removal for one in look.found.history.removals if one.removal.what == ERASED)
    return tuple(dict.fromkeys(one.run for one in told if any(held["md5"] in names for held in one.body["objects"])))


def collect(project: Project, shown: Look, options: Options) -> Done:
    """Do what was shown, as far as it still may be done.

    Side effects: removal records on the remote, deleted objects in the cache and on the DVC remote. Raises
    RemoteError, also when the index does not say yet what was let go: then nothing was deleted.
    """
    with exclusive(project.private / WORK_LOCK):
        recorded = _let_go(project, shown, options)
        now = plan_collection(project, options)
        free = still_free(shown.sweep, now.sweep)
        waiting = _in_progress(now.found) if any(one.stored.where == "remote" for one in free) else ()
        if waiting:
            free = tuple(one for one in free if one.stored.where == "local")
        freed, restored = delete(project, now.found.storage, free)
        drop_erased_copies(project, now.found)
        return Done(recorded, freed, restored, waiting)


def _let_go(project: Project, shown: Look, options: Options) -> dict[str, str]:
    """Record what was shown to be let go and still is: hours may lie between, a release and another rule."""
    if not shown.sweep.let_go:
        return record_first(project, ())
    fresh = plan_collection(project, options)
    known, base_commit = {one.run for one in shown.sweep.let_go}, fresh.found.observation.base_commit
    bodies = [
        removal(project, base_commit, one.run, LET_GO, one.objects, f"rule {one.rule}", rule=one.rule)
        for one in fresh.sweep.let_go
        if one.run in known
    ]
    return record_first(project, bodies)


def _in_progress(found: Found) -> tuple[str, ...]:
    """Runs of other machines: what they have stored, or found stored, no record names yet."""
    elsewhere = found.observation.elsewhere
    if not elsewhere:
        return ()
    return (f"{len(elsewhere)} runs are in progress elsewhere: objects on the DVC remote wait for them; run it again",)


def record_first(project: Project, bodies: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Have the index say what is about to be deleted; gives the records' ids by run. Raises RemoteError."""
    recorded = record_removals(project, bodies)
    crash_point("gc.recorded")
    return recorded


def delete_remotely(storage: Storage, names: Collection[str]) -> frozenset[str]:
    """Delete objects of the DVC remote; gives the names of those that were there. Raises RemoteError."""
    gone: frozenset[str] = frozenset()
    if names and storage.remote:
        with storage.open_remote() as remote:
            gone = frozenset(name for name in names if remote.delete(name))
    crash_point("gc.freed")
    return gone


def delete(project: Project, storage: Storage, free: Collection[Freed]) -> tuple[tuple[Freed, ...], tuple[str, ...]]:
    """Delete objects, those of the remote first; gives what was there and went, and what was put back.

    A run may have landed in the meantime that needs what has just gone from the remote: it is put back from the
    cache, which is cleared last.
    """
    gone = delete_remotely(storage, [one.stored.md5 for one in free if one.stored.where == "remote"])
    freed = [one for one in free if one.stored.where == "remote" and one.stored.md5 in gone]
    keep = needed(take_inventory(project).inventory)
    restored = _put_back(storage, sorted({one.stored.md5 for one in freed} & keep))
    locally = [one for one in free if one.stored.where == "local" and one.stored.md5 not in keep]
    freed += [one for one in locally if storage.drop_cached(one.stored.md5)]
    return tuple(one for one in freed if one.stored.md5 not in restored), restored


def drop_erased_copies(project: Project, found: Found) -> None:
    """Remove this clone's own copies of raw data that were erased, here or elsewhere, and are not in use again."""
    keep = needed(found.inventory)
    kept = {one.run for one in found.inventory.holdings if one.kept}
    in_use = {pin.raw_sha256 for pins in found.pins.values() for pin in pins if pin.raw_md5 in keep}
    for entry in found.history.removals:
        if entry.removal.what != ERASED or entry.removal.run in kept:
            continue
        for one in entry.removal.body["objects"]:
            if one["md5"] not in keep and one.get("sha256") not in in_use:  # the two may be anybody's pair
                drop_raw_copy(project, one.get("sha256"))


def _put_back(storage: Storage, names: Iterable[str]) -> tuple[str, ...]:
    restored = []
    for name in names:
        cached = storage.cached(name)
        if cached.is_file():
            digest: FileDigest = digest_file(cached)
            if digest.md5 == name:
                with storage.open_remote() as remote:
                    remote.store(cached, digest)
                restored.append(name)
    return tuple(restored)
