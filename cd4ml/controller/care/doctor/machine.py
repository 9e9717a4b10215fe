"""This machine: versions, threads, room on the disk."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
from collections.abc import Iterable, Iterator

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from cd4ml.controller.care.doctor.finding import Finding, Level, Subject
from cd4ml.controller.running.environment import installed

OLDEST_PYTHON = (3, 11)
OLDEST_GIT = (2, 38, 0)
"""The first that merges without a work tree (``git merge-tree --write-tree``)."""

MENDED = {
    "CVE-2025-48384": ((2, 43, 7), (2, 44, 4), (2, 45, 4), (2, 46, 4), (2, 47, 3), (2, 48, 2), (2, 49, 1), (2, 50, 1)),
    "CVE-2024-32002": ((2, 39, 4), (2, 40, 2), (2, 41, 1), (2, 42, 2), (2, 43, 4), (2, 44, 1), (2, 45, 1)),
}
"""Holes of Git through submodules, and the first version of each line that has none."""

_WHY = {
    "hydra-core": "older ones run code that a configuration names",
    "gitpython": "older ones take names for options",
    "jinja2": "older ones let templates out of their sandbox",
    "skops": "older ones run code when a model is loaded",
}
_SCARCE, _TIGHT = 500 << 20, 5 << 30


def python() -> Iterator[Finding]:
    """The interpreter."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST_PYTHON:
        yield Finding(Level.PROBLEM, "python", f"Python {version}: 3.11 is needed", "python3.11 -m venv .venv")
    else:
        yield Finding(Level.OK, "python", f"Python {version}")


def packages() -> Iterator[Finding]:
    """The libraries that cd4ml builds on, against the oldest that it works with."""
    yield from below(importlib.metadata.requires("cd4ml") or (), installed())


def below(required: Iterable[str], present: dict[str, str]) -> Iterator[Finding]:
    """A finding for each required distribution that is missing or too old, or one that says that all is well.

    ``required`` are requirements as a wheel lists them; ``present`` versions by canonical name.
    """
    found = 0
    for text in required:
        try:
            wanted = Requirement(text)
        except InvalidRequirement:
            continue
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        name = canonicalize_name(wanted.name)
        version = present.get(name)
        if version is None or not wanted.specifier.contains(version, prereleases=True):
            found += 1
            why = f" ({_WHY[name]})" if name in _WHY else ""
            told = f"{name} {version or 'is not installed'}: {wanted.specifier} is needed{why}"
            yield Finding(Level.PROBLEM, "packages", told, f"pip install '{name}{wanted.specifier}'")
    if not found:
        told = ", ".join(f"{name} {present[name]}" for name in ("dvc", "hydra-core", "gitpython") if name in present)
        yield Finding(Level.OK, "packages", f"every library is new enough ({told})")


def threads() -> Iterator[Finding]:
    """Variables that make the runs of one machine get in each other's way."""
    if os.environ.get("OMP_WAIT_POLICY", "passive").lower() != "passive":
        told = "OMP_WAIT_POLICY: idle threads spin, and starve the other runs of this machine"
        yield Finding(Level.WARNING, "threads", told, "export OMP_WAIT_POLICY=passive")
    asked, there = os.environ.get("OMP_NUM_THREADS", ""), os.cpu_count() or 1
    if asked.isdigit() and int(asked) > there:
        told = f"OMP_NUM_THREADS is {asked}, and this machine has {there} processors"
        yield Finding(Level.WARNING, "threads", told, f"export OMP_NUM_THREADS={there}")


def git(subject: Subject) -> Iterator[Finding]:
    """The Git that is found on PATH."""
    yield from git_findings(subject.project.repository.version())


def git_findings(version: tuple[int, int, int]) -> Iterator[Finding]:
    """What is to be said of a version of Git. Pure."""
    shown = ".".join(map(str, version))
    if version < OLDEST_GIT:
        told = f"git {shown}: 2.38 is needed, which merges without a work tree"
        yield Finding(Level.PROBLEM, "git", told, "install a newer git")
        return
    yield Finding(Level.OK, "git", f"git {shown}")
    for name, mended in MENDED.items():
        if not _is_mended(version, mended):
            told = f"git {shown} has {name} unless its packager mended it; cd4ml never clones submodules, but you might"
            yield Finding(Level.NOTE, "git", told, "install a newer git")


def _is_mended(version: tuple[int, int, int], mended: tuple[tuple[int, int, int], ...]) -> bool:
    """By the first mended version of its line; a line that came later than all of them is."""
    first = next((one for one in mended if one[:2] == version[:2]), mended[-1])
    return version >= first


def disk(subject: Subject) -> Iterator[Finding]:
    """Room for clones, caches and models."""
    place = subject.project.root
    free = shutil.disk_usage(place).free
    level = Level.PROBLEM if free < _SCARCE else Level.WARNING if free < _TIGHT else Level.OK
    cure = "cd4ml gc" if level is not Level.OK else ""
    yield Finding(level, "disk", f"{free / (1 << 30):.1f} GiB free at {place}", cure)
