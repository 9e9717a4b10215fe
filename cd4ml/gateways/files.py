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


def write_atomically(path: Path, data: bytes) -> None:
    """Write beside the target, then rename into place; a reader sees the old bytes or the new, never a part.

    Side effects: makes the parent folders. Raises OSError with nothing left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def copy_verified(source: Path, target: Path, sha256: str) -> None:
    """Copy ``source`` to ``target`` atomically if its bytes have this SHA-256.

    Raises IntegrityError (and leaves no target) when they do not.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:40]}.")
    os.close(handle)
    temporary = Path(name)
    try:
        shutil.copyfile(source, temporary)
        found = digest_file(temporary).sha256
        if found != sha256:
            raise IntegrityError(f"{source}: holds {found[:12]}…, but {sha256[:12]}… was promised")
        temporary.chmod(0o444)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove_tree(path: Path) -> None:
    """Remove a folder and all below it, read-only files included; harmless when it is not there."""

    def retry(function: object, name: str, _: BaseException) -> None:
        with contextlib.suppress(OSError):
            Path(name).parent.chmod(0o700)
            Path(name).chmod(0o700)
            os.unlink(name)  # noqa: PTH108  # the failed call was on this very name, a file or link

    if path.exists():
        shutil.rmtree(path, onerror=lambda function, name, info: retry(function, name, info[1]))


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on ``path`` while the block runs; the kernel frees it if the process dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
