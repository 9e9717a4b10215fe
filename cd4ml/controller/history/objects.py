"""Stored outputs of runs: from DVC's cache or its remote, and never without being held against the record."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from cd4ml.errors import IntegrityError, RemoteError
from cd4ml.gateways.dvc import RemoteObjects, Storage
from cd4ml.gateways.files import FileDigest, copy_verified, scratch

_MD5 = re.compile(r"[0-9a-f]{32}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Objects:
    """Stored objects by digest; what has to be fetched comes into a temporary folder, once. To be used in a block."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._stack = ExitStack()
        self._remote: RemoteObjects | None = None

    def __enter__(self) -> Objects:
        self._folder = self._stack.enter_context(scratch("cd4ml-objects-"))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def bring(self, recorded: Mapping[str, Any], path: str) -> Path:
        """The file of that content, in the temporary folder.

        ``recorded`` is what a record says of the output ``path``. Raises RemoteError when it is nowhere,
        IntegrityError when it is wrong.
        """
        expected = _expected(recorded, path)
        target = self._folder / expected.sha256
        if target.is_file():
            return target
        cached = self._storage.cached(expected.md5)
        if cached.is_file():
            try:
                copy_verified(cached, target, expected.sha256)
            except IntegrityError:
                pass  # a damaged cache entry; the remote may have it whole
            else:
                return target
        return self._fetch(expected, path, target)

    def open(self, recorded: Mapping[str, Any], path: str) -> IO[bytes]:
        """The same as an open file, of which no copy is made where the cache has it; closed when the block ends."""
        expected = _expected(recorded, path)
        cached = self._storage.cached(expected.md5)
        if not (self._folder / expected.sha256).is_file() and cached.is_file() and not cached.is_symlink():
            stream = self._stack.enter_context(cached.open("rb"))
            if os.fstat(stream.fileno()).st_size == expected.bytes and _sha256(stream) == expected.sha256:
                stream.seek(0)
                return stream
        return self._stack.enter_context(self._fetch(expected, path, self._folder / expected.sha256).open("rb"))

    def _fetch(self, expected: FileDigest, path: str, target: Path) -> Path:
        if target.is_file():
            return target
        if not self._storage.remote:
            raise RemoteError(f"{path} is not in the DVC cache, and .dvc/config names no remote to fetch it from")
        if self._remote is None:
            self._remote = self._stack.enter_context(self._storage.open_remote())
        self._remote.retrieve(expected.md5, expected.sha256, target)
        return target


def _expected(recorded: Mapping[str, Any], path: str) -> FileDigest:
    expected = FileDigest(str(recorded["sha256"]), str(recorded["md5"]), int(recorded["bytes"]))
    if not (_MD5.fullmatch(expected.md5) and _SHA256.fullmatch(expected.sha256)):  # they become paths
        raise IntegrityError(f"{path}: its record names no object")
    return expected


def _sha256(stream: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while chunk := stream.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()
