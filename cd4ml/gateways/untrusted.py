"""Files that code of an experiment, or another job, may have written: read with a limit, and believed no further."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

from cd4ml.errors import IntegrityError
from cd4ml.gateways.files import FileDigest, digest_file, digest_stream, replacing
from cd4ml.spec.text import one_line


def read_json(path: Path, limit: int) -> Any:
    """The JSON value in a regular file of at most ``limit`` bytes; nothing for anything else.

    NaN, infinities, numbers too long and nesting too deep count as anything else.
    """
    try:
        if path.is_symlink() or not path.is_file():
            return None
        with path.open("rb") as stream:
            data = stream.read(limit + 1)
        return None if len(data) > limit else parse_json(data)
    except OSError:
        return None


def parse_json(data: bytes | str) -> Any:
    """The JSON value of a text, or nothing when it is none."""
    try:
        return json.loads(data, parse_constant=_refused)
    except (ValueError, RecursionError):
        return None


def parse_strictly(data: bytes) -> Any:
    """The JSON value of a text that says each thing once. Raises IntegrityError for any other."""
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_refused, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise IntegrityError("is no JSON that is taken") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _refused(name: str) -> float:
    raise ValueError(name)


# ── a folder that somebody else filled ──


def names_in(folder: Path, most: int) -> list[str]:
    """Names in a folder, sorted. Raises IntegrityError for what is no folder, or holds more than ``most``."""
    found: list[str] = []
    with _opened(folder, "") as handle, os.scandir(handle) as entries:
        for entry in entries:
            found.append(entry.name)
            if len(found) > most:
                raise IntegrityError(f"holds more than {most} entries")
    return sorted(found)


def check_holds_only(folder: Path, sizes: Mapping[str, int]) -> None:
    """See that a folder holds these files, by path from it, in these sizes in bytes, and nothing else.

    Raises IntegrityError, naming the first thing that is amiss: a file too many, too few or of another size, a name
    that is not exactly the one expected, a link (a hard one too), a device, a pipe. No link is followed, and nothing
    is read.
    """
    folders = {"", *("/".join(path.split("/")[:count]) for path in sizes for count in range(1, path.count("/") + 1))}
    missing = set(sizes)
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        with _opened(folder, inside) as handle, os.scandir(handle) as entries:
            for entry in entries:
                path = f"{inside}/{entry.name}" if inside else entry.name
                found = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(found.st_mode) and path in folders:
                    waiting.append(path)
                elif path not in sizes:
                    raise IntegrityError(f"{_shown(path)}: is none of the files that were to be here")
                else:
                    _check_plain(path, found, sizes[path])
                    missing.discard(path)
    if missing:
        raise IntegrityError(f"{min(missing)}: is missing")


def take(folder: Path, path: str, target: Path, promised: FileDigest) -> None:
    """Copy the plain file at ``path`` of ``folder`` to ``target``, if it holds the bytes that were promised.

    No more is read than was promised, whatever the file becomes meanwhile, and no link is followed on the way. Raises
    IntegrityError (and leaves no target) for anything else.
    """
    with _opened_file(folder, path) as source, replacing(target, 0o644) as temporary:
        _check_plain(path, os.fstat(source.fileno()), promised.bytes)
        with temporary.open("wb") as sink:
            left = promised.bytes
            while left and (chunk := source.read(min(left, 1 << 20))):
                sink.write(chunk)
                left -= len(chunk)
        if source.read(1) or digest_file(temporary) != promised:
            raise IntegrityError(f"{_shown(path)}: does not hold the bytes that were promised")


def read_plain(folder: Path, path: str, limit: int) -> bytes:
    """The bytes of a plain file of at most ``limit``. Raises IntegrityError for anything else, as ``take`` does."""
    with _opened_file(folder, path) as source:
        found = os.fstat(source.fileno())
        _check_plain(path, found, found.st_size)
        data = source.read(limit + 1)
    if len(data) > limit:
        raise IntegrityError(f"{_shown(path)}: has more than {limit} bytes")
    return data


def digest_plain(folder: Path, path: str) -> FileDigest | None:
    """The digest of a plain file; nothing where there is none, or a link is on the way to it."""
    try:
        with _opened_file(folder, path) as source:
            return digest_stream(source) if _is_plain(source) else None
    except IntegrityError:
        return None


def tail_plain(folder: Path, path: str, most: int) -> bytes | None:
    """The last bytes of a plain file, ``most`` of them; nothing where there is none."""
    try:
        with _opened_file(folder, path) as source:
            if not _is_plain(source):
                return None
            source.seek(max(0, os.fstat(source.fileno()).st_size - most))
            return source.read(most)
    except IntegrityError:
        return None


def _is_plain(source: IO[bytes]) -> bool:
    found = os.fstat(source.fileno())
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1


def _check_plain(path: str, found: os.stat_result, size: int) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise IntegrityError(f"{_shown(path)}: is a {_KINDS.get(stat.S_IFMT(found.st_mode), 'device')}, and no file")
    if found.st_nlink != 1:
        raise IntegrityError(f"{_shown(path)}: is a hard link")
    if found.st_size != size:
        raise IntegrityError(f"{_shown(path)}: has {found.st_size} bytes, and {size} were promised")


_KINDS = {stat.S_IFLNK: "link", stat.S_IFDIR: "folder", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Not blocking: to open a pipe would wait for somebody to write to it."""


@contextmanager
def _opened(folder: Path, inside: str) -> Iterator[int]:
    """A handle of the folder ``inside`` another, reached through no link. Raises IntegrityError."""
    try:
        handle = _reached(folder, inside)
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{_shown(inside) or folder.name}: is no folder that can be read") from error
    try:
        yield handle
    finally:
        os.close(handle)


def _reached(folder: Path, inside: str) -> int:
    handle = os.open(folder, _FOLDER & ~os.O_NOFOLLOW)
    for name in filter(None, inside.split("/")):
        above = handle
        try:
            if name in (".", ".."):
                raise ValueError(name)
            handle = os.open(name, _FOLDER, dir_fd=above)
        finally:
            os.close(above)
    return handle


@contextmanager
def _opened_file(folder: Path, path: str) -> Iterator[IO[bytes]]:
    inside, _, name = path.rpartition("/")
    with _opened(folder, inside) as above:
        try:
            source = open(name, "rb", opener=partial(_open_file, above))  # noqa: SIM115  # closed below
        except (OSError, ValueError) as error:  # also of a folder, which can be opened and not be read
            raise IntegrityError(f"{_shown(path)}: is no plain file that can be read") from error
        with source:
            yield source


def _open_file(above: int, name: str, _: int) -> int:
    return os.open(name, _FILE, dir_fd=above)


def _shown(path: str) -> str:
    return one_line(path.encode("utf-8", "backslashreplace").decode(), 200)
