"""The file system: digests, atomic writes, locks."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from cd4ml.errors import IntegrityError

_CHUNK = 1 << 20
_LOCK = "cd4ml.lock"
"""In a folder of ``scratch``: held by the process that it is of."""

_LEFT_BEHIND = 3600.0
"""Seconds."""


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


def told(error: OSError) -> str:
    """An error of the system in a line that names the file."""
    place = error.filename2 or error.filename
    return f"{f'{place}: ' if place else ''}{error.strerror or error}"


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an error of the system that names no file (a full disk does not) name this one."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def check_writable(folder: Path) -> None:
    """See that a folder takes another MiB. Raises OSError where the disk is full, broken or read-only."""
    probe = folder / f".probe-{os.getpid()}-{threading.get_ident()}"
    write_atomically(probe, bytes(_CHUNK))
    probe.unlink(missing_ok=True)


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
        with naming(path):
            yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.chmod(mode)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a file whole or not at all. Raises OSError with nothing left behind."""
    with replacing(path, mode) as temporary:
        temporary.write_bytes(data)


def hand_over(path: Path, data: bytes) -> None:
    """Write a file that somebody named: whole or not at all, with the mode that it has or that is usual here.

    Links are followed, and what is no regular file (a device, a pipe) is written to and stays what it is. Raises
    OSError.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        write_atomically(path.resolve(), data, usual_mode())
        return
    if stat.S_ISREG(mode):
        write_atomically(path.resolve(), data, stat.S_IMODE(mode))
        return
    with path.open("wb") as stream:
        stream.write(data)


def usual_mode() -> int:
    """What a new file allows here."""
    try:
        status = Path("/proc/self/status").read_text("utf-8")
        mask = int(status.partition("\nUmask:")[2].split(maxsplit=1)[0], 8)
    except (OSError, ValueError, IndexError):  # not Linux: there it can be asked for only by setting it
        mask = os.umask(0o077)
        os.umask(mask)
    return 0o666 & ~mask


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
    """Remove a folder and all below it, read-only ones included; harmless when it is not there.

    A link is removed and never followed. Raises OSError when something cannot be removed.
    """
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.is_dir():
        try:
            shutil.rmtree(path)
        except OSError:  # a folder without permission, or one that something still writes to: once more
            for folder in _folders(path):
                folder.chmod(0o700)
            shutil.rmtree(path, onerror=_unless_gone)


def _folders(path: Path) -> Iterator[Path]:
    """The folder and those below it, each before what it holds; no links."""
    yield path
    with contextlib.suppress(FileNotFoundError):
        for child in path.iterdir():
            if child.is_dir() and not child.is_symlink():
                yield from _folders(child)


def _unless_gone(_: object, __: str, caught: tuple[type[BaseException], BaseException, object]) -> None:
    if not isinstance(caught[1], FileNotFoundError):
        raise caught[1]


@contextlib.contextmanager
def exclusive(path: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold an exclusive lock on ``path`` while the block runs; the kernel frees it if the process dies.

    ``waiting`` is called once when somebody else holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def is_held(path: Path) -> bool:
    """Does some process hold the exclusive lock on ``path``? Changes nothing."""
    try:
        with path.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


@contextlib.contextmanager
def scratch(prefix: str) -> Iterator[Path]:
    """A new and empty folder, where temporary files are kept, that is gone when the block ends.

    Of a process that was killed it goes when somebody asks for one of the same prefix an hour later.
    """
    for lock in Path(tempfile.gettempdir()).glob(f"{prefix}*/{_LOCK}"):
        if _is_left(lock):
            _clear(lock)
    with tempfile.TemporaryDirectory(prefix=prefix) as parent, exclusive(Path(parent) / _LOCK):
        folder = Path(parent) / "content"
        folder.mkdir()
        yield folder


def _is_left(lock: Path) -> bool:
    """May it be one of ours that nobody has any more? A new one may not be held yet; others may put anything there."""
    try:
        folder, status = lock.parent.lstat(), lock.lstat()
    except OSError:
        return False
    ours = folder.st_uid == status.st_uid == os.geteuid() and stat.S_ISDIR(folder.st_mode)
    old = time.time() - status.st_mtime > _LEFT_BEHIND
    return ours and old and stat.S_ISREG(status.st_mode)


def _clear(lock: Path) -> None:
    """Remove its folder, unless somebody holds it, or nobody can tell."""
    with contextlib.suppress(OSError), lock.open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(lock.parent, ignore_errors=True)
