"""Pins and the raw bytes behind them.

A pin names raw bytes by digest. They are archived in DVC's cache and on DVC's remote under their MD5, and
kept for ingest in a folder of cd4ml's own under their SHA-256; every copy on the way is checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cd4ml.controller.project import CONF, Project
from cd4ml.errors import Cd4mlError, ConfigError, IntegrityError, RemoteError, StageFailed, UsageError
from cd4ml.gateways.dvc import Storage
from cd4ml.gateways.files import FileDigest, copy_verified, digest_file, scratch, write_atomically
from cd4ml.gateways.hydra import compose
from cd4ml.gateways.sources import fetch_source, file_name
from cd4ml.spec.experiment import SourceSpec, Spec
from cd4ml.spec.parse import parse
from cd4ml.spec.pin import Pin, archived_format, parse_pin
from cd4ml.spec.pipeline import pin_path

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class PinChange:
    """What looking at one source found. ``before`` is missing for a source that had no pin."""

    source: str
    before: Pin | None
    after: Pin

    @property
    def moved(self) -> bool:
        """Does the source hold other data than the pin says, or is it described otherwise than when it was pinned?"""
        return self.before is None or (self.before.digest, self.before.described) != (
            self.after.digest,
            self.after.described,
        )

    def as_json(self) -> dict[str, Any]:
        """The object that ``--json`` lists under ``pins``; see ``docs/json.md``."""
        before = {"digest": self.before.digest, "rows": self.before.rows} if self.before else None
        after = {"digest": self.after.digest, "rows": self.after.rows}
        return {
            "source": self.source,
            "path": pin_path(self.source),
            "moved": self.moved,
            "before": before,
            "after": after,
        }


def ensure_raw(project: Project, storage: Storage, pins: Iterable[Pin], erased: Mapping[str, str]) -> Path:
    """The folder that holds the raw bytes of all these pins by their SHA-256, fetched as needed.

    ``erased`` is as in ``refuse_erased``, which is asked first. Raises UsageError as that does, RemoteError when bytes
    are nowhere to be had, IntegrityError when they are wrong everywhere.
    """
    folder, pins = project.private / "raw", tuple(pins)
    refuse_erased(storage, pins, erased)
    for pin in pins:
        target = folder / pin.raw_sha256
        if not _holds(target, pin):
            _bring(storage, pin, target)
    return folder


def refuse_erased(storage: Storage, pins: Iterable[Pin], erased: Mapping[str, str]) -> None:
    """Raise UsageError for data that were erased: objects by name and why. They may lie in this clone yet."""
    for pin in pins:
        if pin.raw_md5 in erased and is_gone(storage, pin.raw_md5):
            raise UsageError(
                f"{pin_path(pin.source)}: these data were {erased[pin.raw_md5]}; what is to run needs others, and "
                "another pin (`cd4ml data update`)"
            )


def is_gone(storage: Storage, md5: str) -> bool:
    """Is an object of which a tombstone speaks not stored any more? False where the DVC remote cannot be asked.

    A tombstone by itself keeps nobody from anything, since whoever may land a record may land one.
    """
    if not storage.remote:
        return not storage.cached(md5).is_file()
    try:
        with storage.open_remote() as remote:
            return remote.is_there() and not remote.has(md5)
    except RemoteError:
        return False


def drop_raw_copy(project: Project, sha256: object) -> None:
    """Remove the copy of raw bytes that ``ensure_raw`` made, if there is one.

    The name may come from a record that anybody landed: what is no digest is the name of no copy.
    """
    if isinstance(sha256, str) and _SHA256.fullmatch(sha256):
        (project.private / "raw" / sha256).unlink(missing_ok=True)


def _holds(path: Path, pin: Pin) -> bool:
    """Are these the bytes that the pin names? Looked at each time: what lies on a disk can rot."""
    return path.is_file() and path.stat().st_size == pin.raw_bytes and digest_file(path).sha256 == pin.raw_sha256


def _bring(storage: Storage, pin: Pin, target: Path) -> None:
    cached = storage.cached(pin.raw_md5)
    if cached.is_file():
        try:
            copy_verified(cached, target, pin.raw_sha256)
        except IntegrityError:
            cached.unlink()  # a damaged cache entry must not be offered again, to us or to DVC
        else:
            return
    if not storage.remote:
        raise RemoteError(
            f"{pin_path(pin.source)}: its raw bytes are not in the DVC cache, and .dvc/config names no remote to "
            "fetch them from (`dvc remote add --default NAME URL`, or `cd4ml data update` where the source is)"
        )
    try:
        with storage.open_remote() as remote:
            remote.retrieve(pin.raw_md5, pin.raw_sha256, target)
    except (RemoteError, IntegrityError) as error:
        raise type(error)(f"{pin_path(pin.source)}: {error}") from error


def work_tree_spec(project: Project) -> Spec:
    """The spec that the work tree's ``conf/`` asks for, committed or not. Raises ConfigError."""
    composed = compose(read_folder(project.work_tree(), CONF))
    return parse(composed.resolved, composed.origin)


def read_folder(root: Path, folder: str) -> dict[str, bytes]:
    """Every regular file under ``root/folder`` by its path from ``root``. Raises UsageError for a link."""
    files = {}
    for path in (root / folder, *sorted((root / folder).rglob("*"))):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            raise UsageError(f"{name}: a symbolic link is not allowed here")
        if path.is_file():
            files[name] = path.read_bytes()
    return files


def update_pins(
    project: Project, sources: tuple[str, ...], erased: Mapping[str, str] = MappingProxyType({})
) -> tuple[PinChange, ...]:
    """Read the named sources (all, when none is named), archive their raw bytes, and write moved pins.

    ``erased`` are objects by name that are not to be stored again, and why. Side effects: DVC's cache and remote,
    ``data/*.lock.json`` of the work tree. Commits nothing. Raises UsageError for an unknown source, and for one that
    holds what was erased.
    """
    spec = work_tree_spec(project)
    known = {source.name: source for source in spec.data.sources}
    for name in sources:
        if name not in known:
            raise UsageError(f"conf/data: has no source {name!r} (sources: {', '.join(known)})")
    storage = work_tree_storage(project)
    changes = []
    for name in sources or tuple(known):
        change = _look(project, known[name], storage, erased)
        if change.moved:
            write_atomically(project.work_tree() / pin_path(name), change.after.dump().encode())
        changes.append(change)
    return tuple(changes)


def commit_pins(project: Project, changes: Iterable[PinChange]) -> str | None:
    """Commit the pins that moved, each with its source if that is a file which Git tracks: they belong together.

    Gives the commit; nothing where no pin moved, or before the first commit, which takes them in. Side effects: a
    commit on the current branch. Raises UsageError where there is none.
    """
    repository, moved = project.repository, [change for change in changes if change.moved]
    if not moved or repository.resolve("HEAD") is None:
        return None
    if repository.current_branch() is None:
        raise UsageError("HEAD is detached: the pins are written but not committed; switch to a branch and commit them")
    changed = set(repository.uncommitted())
    read = dict.fromkeys(change.after.location for change in moved)
    paths = [*(pin_path(change.source) for change in moved), *(one for one in read if one in changed)]
    return repository.commit_paths(paths, f"Pin {', '.join(change.source for change in moved)}\n")


def work_tree_storage(project: Project) -> Storage:
    """The storage that the work tree's own ``.dvc/config`` names: its user runs this on purpose."""
    from cd4ml.gateways.dvc import CONFIG_PATH, open_storage

    root = project.work_tree()
    config, local = root / CONFIG_PATH, root / f"{CONFIG_PATH}.local"
    return open_storage(
        config.read_bytes() if config.is_file() else b"",
        local.read_bytes() if local.is_file() else b"",
        root,
        project.private / "dvc",
    )


def _look(project: Project, source: SourceSpec, storage: Storage, erased: Mapping[str, str]) -> PinChange:
    """Read one source now, archive its bytes, and compare it with its pin."""
    from cd4ml.stages.table import column_types, read_table, table_digest

    path = project.work_tree() / pin_path(source.name)
    before = _pinned(path, source.name)
    name = file_name(source)
    with scratch("cd4ml-source-") as folder:
        raw = folder / "raw"
        fetch_source(source, project.work_tree(), raw)
        digest = digest_file(raw)
        if digest.md5 in erased and is_gone(storage, digest.md5):
            raise UsageError(
                f"source {source.name}: these data were {erased[digest.md5]}; they are not stored again, unless "
                "--store-erased says so"
            )
        try:
            form = archived_format(source)
            frame = read_table(raw, form, name, source.delimiter, source.decimal, source.missing)
        except StageFailed as error:  # no stage ran: the source is what is wrong
            raise Cd4mlError(f"source {source.name}: {error.message}") from error
        after = Pin(
            source=source.name,
            digest=table_digest(frame),
            rows=len(frame),
            columns=column_types(frame),
            raw_sha256=digest.sha256,
            raw_md5=digest.md5,
            raw_bytes=digest.bytes,
            raw_name=name,
            format=archived_format(source),
            location=source.location,
            fetched=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            query=source.query,
            delimiter=source.delimiter,
            decimal=source.decimal,
            missing=source.missing,
        )
        change = PinChange(source.name, before, after)
        # a pin that stays keeps its raw bytes: these are the ones to archive again if they were lost
        kept = after if before is None or change.moved else before
        if kept.raw_sha256 == digest.sha256:
            archive(storage, raw, digest)
            copy_verified(raw, project.private / "raw" / digest.sha256, digest.sha256)
    return change


def _pinned(path: Path, source: str) -> Pin | None:
    """The pin as it stands; nothing for one that is missing or cannot be read, which is to be written anew."""
    try:
        return parse_pin(path.read_bytes().decode("utf-8", "replace"), pin_path(source)) if path.is_file() else None
    except ConfigError:
        return None


def archive(storage: Storage, path: Path, digest: FileDigest) -> None:
    """Put raw bytes into DVC's cache and on its remote, and see that they are there."""
    cached = storage.cached(digest.md5)
    if not cached.is_file() or digest_file(cached) != digest:
        copy_verified(path, cached, digest.sha256)
    if storage.remote:
        with storage.open_remote() as remote:
            remote.store(path, digest)
