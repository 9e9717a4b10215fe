"""What DVC's cache and remote hold of the objects that the index promises."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from cd4ml.controller.project import Project
from cd4ml.errors import Cd4mlError, ConfigError, RemoteError
from cd4ml.gateways.dvc import RemoteObjects, Storage
from cd4ml.gateways.files import FileDigest, digest_file
from cd4ml.index.audit import Finding
from cd4ml.index.promised import Held, Needed, audit_erased, audit_object
from cd4ml.index.record import RemovalRecord

Watch = Callable[[str], None]
"""Told, in a few words, what is looked at now."""

_TOLD_EVERY = 500
_DOWNLOADS = 4


def check_stored(
    project: Project,
    base_commit: str | None,
    needed: Sequence[Needed],
    erased: Mapping[str, RemovalRecord],
    *,
    quick: bool,
    watch: Watch,
) -> Iterator[Finding]:
    """Are the objects there that are promised, in DVC's cache and on its remote, and those gone that were erased?

    Each is read once.
    """
    if not needed and not erased:
        return
    try:
        storage = open_storage_of(project, base_commit)
    except Cd4mlError as error:
        message = f"the settings of DVC cannot be read: {in_a_line(error)}"
        yield Finding("unproven", "object", "remote", ".dvc/config", message, "mend them on the base branch")
        return
    except OSError as error:  # they are written into cd4ml's own folder, such as where a disk is full
        message = f"this clone cannot keep the settings of DVC: {in_a_line(error)}"
        yield Finding("unproven", "object", "remote", ".dvc/config", message, "`cd4ml doctor` says what is in the way")
        return
    for place, one in enumerate(needed):
        if place % _TOLD_EVERY == 0:
            watch(f"checking the DVC cache: {place} of {len(needed)}")
        finding = audit_object(one, "cache", in_cache(storage, one.md5, quick=quick), only_copy=not storage.remote)
        if finding is not None:
            yield finding
    for md5, removal in erased.items():
        if storage.cached(md5).exists():
            yield audit_erased(md5, removal, "cache")
    if storage.remote:
        yield from _check_remote(storage, needed, erased, quick=quick, watch=watch)


def open_storage_of(project: Project, base_commit: str | None) -> Storage:
    """DVC's storage, as the base branch says. Raises RepositoryError where there is no base branch, ConfigError."""
    if base_commit is None:
        raise project.without_base()
    return project.storage(base_commit)


def in_cache(storage: Storage, md5: str, *, quick: bool = False) -> Held | None:
    """What the cache holds under this name; what is there and no file that can be read has no bytes."""
    path = storage.cached(md5)
    try:
        if quick:
            return Held(None, None, path.stat().st_size) if path.is_file() else _no_file(path.exists())
        return _held(digest_file(path)) if path.is_file() else _no_file(path.exists())
    except OSError:
        return _no_file(True)


def _no_file(exists: bool) -> Held | None:
    return Held("", "", -1) if exists else None


def _held(found: FileDigest | None) -> Held | None:
    return Held(found.sha256, found.md5, found.bytes) if found else None


def _check_remote(
    storage: Storage, needed: Sequence[Needed], erased: Mapping[str, RemovalRecord], *, quick: bool, watch: Watch
) -> Iterator[Finding]:
    try:
        with storage.open_remote() as remote:
            for place, (one, held) in enumerate(zip(needed, _on_remote(remote, needed, quick=quick), strict=True)):
                if place % 50 == 0:
                    watch(f"checking the DVC remote: {place} of {len(needed)}")
                finding = audit_object(one, "remote", held, only_copy=False)
                if finding is not None:
                    yield finding
            for md5 in _there(remote, list(erased), quick=quick, watch=watch):
                yield audit_erased(md5, erased[md5], "remote")
    except (RemoteError, ConfigError) as error:
        message = f"cannot be read: {in_a_line(error)}"
        yield Finding("unproven", "object", "remote", storage.remote, message, "reach it, then verify again")


def _there(remote: RemoteObjects, names: Sequence[str], *, quick: bool, watch: Watch) -> Iterator[str]:
    """Those of these objects that the remote has."""
    if not names:
        return
    watch(f"looking for {len(names)} objects that were erased")
    if quick:
        held = {stored.md5 for stored in remote.list()}
        yield from (name for name in names if name in held)
        return
    with ThreadPoolExecutor(_DOWNLOADS) as pool:
        yield from (name for name, there in zip(names, pool.map(remote.has, names), strict=True) if there)


def _on_remote(remote: RemoteObjects, needed: Sequence[Needed], *, quick: bool) -> Iterator[Held | None]:
    """What the remote holds of each object: read whole, a few at a time; or as it lists it."""
    if quick:
        sizes = {stored.md5: stored.bytes for stored in remote.list()}
        yield from (Held(None, None, sizes[one.md5]) if one.md5 in sizes else None for one in needed)
        return
    with ThreadPoolExecutor(_DOWNLOADS) as pool:
        yield from map(_held, pool.map(remote.digest, (one.md5 for one in needed)))


def in_a_line(error: BaseException) -> str:
    """What an error says, without line ends."""
    return " ".join(str(error).split())
