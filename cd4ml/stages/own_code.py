"""The project's own code: what a stage may import of it, and its digest."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from cd4ml.spec.experiment import Spec
from cd4ml.spec.fingerprint import own_code_digest


def code_on_disk(root: Path, paths: tuple[str, ...]) -> str:
    """``own_code_digest`` of the files under ``paths`` of the folder ``root``, as they are now. Reads them."""
    blobs: dict[str, str] = {}
    for path in paths:
        place = root / path
        found = [place] if place.is_file() or place.is_symlink() else sorted(place.rglob("*"))
        for file in found:
            if file.is_symlink() or file.is_file():
                blobs[file.relative_to(root).as_posix()] = _blob_id(file)
    return own_code_digest(blobs)


def _blob_id(path: Path) -> str:
    """The id that Git gives to a file's content, or to a link's target (Pro Git, "Git Objects")."""
    data = os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class _OwnPackages(MetaPathFinder):
    """Finds the named packages in the project's root, and nothing else there.

    A package that has no ``__init__.py``, or is another one than ``code:`` counts, is not found. It is asked last, so
    that it can hide nothing that is installed; and a library that tries whether some package exists does not run a
    file of that name that a branch has put there.
    """

    root: Path
    names: tuple[str, ...]
    paths: tuple[str, ...]

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is not None or fullname not in self.names:
            return None
        found = PathFinder.find_spec(fullname, [os.fspath(self.root)], target)
        declared = (self.root / f"{fullname}.py", self.root / fullname / "__init__.py")
        origin = Path(found.origin) if found is not None and found.origin else None
        counted = [place for place in declared if place == origin and _top(place, self.root) in self.paths]
        return found if counted else None


def _top(place: Path, root: Path) -> str:
    return place.relative_to(root).parts[0]


def own_packages(spec: Spec) -> tuple[str, ...]:
    """Top-level packages that ``code:`` declares, so that the fingerprint counts them, and that are allowed."""
    declared = {path.rstrip("/").removesuffix(".py") for path in spec.code if "/" not in path.rstrip("/")}
    return tuple(sorted(declared.intersection(name.partition(".")[0] for name in spec.allowed_packages)))


@contextmanager
def own_code(root: Path, names: tuple[str, ...], paths: tuple[str, ...]) -> Iterator[None]:
    """Let the project's own packages ``names``, which lie at ``paths``, be imported for as long as the block runs."""
    finder = _OwnPackages(root.resolve(), names, tuple(path.rstrip("/") for path in paths))
    sys.meta_path.append(finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
