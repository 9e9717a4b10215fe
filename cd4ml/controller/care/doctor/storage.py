"""DVC's cache and remote: can they be written, and do bytes come back as they went?"""

from __future__ import annotations

import hashlib
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from cd4ml.controller.care.doctor.finding import Finding, Level, Subject
from cd4ml.errors import Cd4mlError, ConfigError
from cd4ml.gateways.dvc import Storage
from cd4ml.gateways.files import FileDigest, check_writable, told


def _storage(subject: Subject) -> Storage | Finding | None:
    if subject.base_commit is None:
        return None
    try:
        return subject.project.storage(subject.base_commit)
    except ConfigError as error:
        problem, base = error.problems[0], subject.project.base
        cure = f"edit {problem.file}" + ("" if problem.file.endswith(".local") else f", and push it to {base}")
        return Finding(Level.PROBLEM, "storage", str(problem), cure)


def remote_objects(subject: Subject) -> Iterator[Finding]:
    """Put an object on the DVC remote, read it back, and remove it."""
    found = _storage(subject)
    if not isinstance(found, Storage):
        yield from (found,) if found else ()
        return
    if not found.remote:
        message = f".dvc/config of {subject.project.base} names no remote: results are nowhere but on this machine"
        yield Finding(Level.WARNING, "storage", message, "dvc remote add --default NAME URL")
        return
    data = uuid.uuid4().bytes
    expected = FileDigest(hashlib.sha256(data).hexdigest(), hashlib.md5(data, usedforsecurity=False).hexdigest(), 16)
    try:
        with found.open_remote() as remote, tempfile.TemporaryDirectory() as folder:
            probe = Path(folder) / "probe"
            probe.write_bytes(data)
            remote.store(probe, expected)
            removed = remote.delete(expected.md5)
    except Cd4mlError as error:
        yield Finding(Level.PROBLEM, "storage", str(error), f"dvc remote list; dvc push --remote {found.remote}")
        return
    yield Finding(Level.OK, "storage", f"DVC remote {found.remote} gives back what is put there")
    if not removed:
        yield Finding(Level.NOTE, "storage", f"DVC remote {found.remote}: the probe {expected.md5} was gone before")


def cache(subject: Subject) -> Iterator[Finding]:
    """DVC's cache on this machine."""
    found = _storage(subject)
    if not isinstance(found, Storage):
        return
    place = next(folder for folder in (found.cache, *found.cache.parents) if folder.exists())
    try:
        check_writable(place)
    except OSError as error:
        message = f"{told(error)}: DVC's cache cannot be written"
        yield Finding(Level.PROBLEM, "cache", message, f"ls -ld '{place}'; dvc cache dir")
    else:
        yield Finding(Level.OK, "cache", f"DVC's cache at {found.cache} can be written")
