"""The file system: digests, atomic writes, locks."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from cd4ml.errors import IntegrityError

_CHUNK = 1 << 20


@dataclass(frozen=True)
class FileDigest:
    """What one file holds: SHA-256 (ours), MD5 (DVC's name for it) and size in bytes."""

    sha256: str
    md5: str
    bytes: int


def digest_stream(stream: IO[bytes]) -> FileDigest:
    """Digest what is left of a binary stream."""
    sha256, md5, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
    while chunk := stream.read(_CHUNK):
        sha256.update(chunk)
        md5.update(chunk)
        size += len(chunk)
    return FileDigest(sha256.hexdigest(), md5.hexdigest(), size)


def digest_file(path: Path) -> FileDigest:
    """Digest a file. Raises OSError."""
    with path.open("rb") as stream:
        return digest_stream(stream)


@contextlib.contextmanager
def replacing(path: Path, mode: int) -> Iterator[Path]:
    """A temporary file beside ``path`` that takes its place when the block ends well, and vanishes when not.

    A reader sees the old bytes or the new, never a part. Side effects: makes the parent folders.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.chmod(mode)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file whole or not at all. Raises OSError with nothing left behind."""
    with replacing(path, 0o644) as temporary:
        temporary.write_bytes(data)


def copy_verified(source: Path, target: Path, sha256: str) -> None:
    """Copy ``source`` to ``target`` atomically if its bytes have this SHA-256.

    Raises IntegrityError (and leaves no target) when they do not.
    """
    with replacing(target, 0o444) as temporary:
        shutil.copyfile(source, temporary)
        _check(source, digest_file(temporary).sha256, sha256)


def _check(path: Path, found: str, promised: str) -> None:
    if found != promised:
        raise IntegrityError(f"{path}: holds {found[:12]}…, but {promised[:12]}… was promised")


def remove_tree(path: Path) -> None:
    """Remove a folder and all below it, read-only files included; harmless when it is not there."""

    def retry(_: object, name: str, __: object) -> None:
        with contextlib.suppress(OSError):
            Path(name).parent.chmod(0o700)
            Path(name).chmod(0o700)
            os.unlink(name)  # noqa: PTH108  # the failed call was on this very name, a file or link

    if path.exists():
        shutil.rmtree(path, onerror=retry)


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on ``path`` while the block runs; the kernel frees it if the process dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
