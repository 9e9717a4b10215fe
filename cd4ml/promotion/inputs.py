"""What two runs were made from: data, environment, code; from their records and from the commits that were run.

A record names digests; the commit behind it says more: the columns of each pin, every package of the lock file,
the files that count. ``Source`` is what was read of a commit, and may lack what cannot be read any more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cd4ml.promotion.configuration import How, how_of

Columns = tuple[tuple[str, str], ...]
"""(name, type) of a table's columns, in order."""

LinesChanged = Mapping[str, tuple[int | None, int | None]]
"""Lines added and removed by path; nothing for what is no text."""


@dataclass(frozen=True)
class Source:
    """What the commit of a run holds, as far as it can be read.

    ``packages`` are the versions by name (and marker, after ``" ; "``) that its lock file says; nothing without one
    that can be read. ``columns`` are by source; ``files`` the Git object of every file that counts, by path, nothing
    for a commit that is not here.
    """

    packages: Mapping[str, str] | None = None
    columns: Mapping[str, Columns] = field(default_factory=dict)
    files: Mapping[str, str] | None = None


@dataclass(frozen=True)
class ColumnChange:
    """A column of a source that differs: its type on each side, nothing where it is not there."""

    column: str
    how: How
    champion: str | None
    challenger: str | None


@dataclass(frozen=True)
class DataChange:
    """A data source that differs: canonical digests, and numbers of rows where the records tell them.

    ``columns`` are what differs in its schema; empty, too, where a pin can no longer be read.
    """

    source: str
    how: How
    champion: str | None
    challenger: str | None
    champion_rows: int | None
    challenger_rows: int | None
    columns: tuple[ColumnChange, ...] = ()


@dataclass(frozen=True)
class PackageChange:
    """A package (or ``python``) of the environment whose version differs."""

    package: str
    how: How
    champion: str | None
    challenger: str | None


@dataclass(frozen=True)
class FileChange:
    """A file that counts as code and differs. The lines are counts, missing where they are not known, or it is no
    text."""

    path: str
    how: How
    added: int | None = None
    removed: int | None = None


def data_changes(
    old: Mapping[str, Any], new: Mapping[str, Any], sources: tuple[Source, Source]
) -> Iterator[DataChange]:
    """Sources whose digests differ, from the bodies of two records."""
    before, after = old.get("data") or {}, new.get("data") or {}
    for source in sorted({*before, *after}):
        a, b = before.get(source) or {}, after.get(source) or {}
        if a.get("digest") != b.get("digest"):
            how = how_of(source in before, source in after)
            columns = [one.columns.get(source) for one in sources]
            changes = tuple(column_changes(*columns)) if how == "changed" and None not in columns else ()
            yield DataChange(source, how, a.get("digest"), b.get("digest"), a.get("rows"), b.get("rows"), changes)


def column_changes(old: Columns | None, new: Columns | None) -> Iterator[ColumnChange]:
    """Columns added, removed, and of another type, in the order of the older table and then the newer."""
    before, after = dict(old or ()), dict(new or ())
    for column in (*before, *(name for name in after if name not in before)):
        if before.get(column) != after.get(column):
            yield ColumnChange(column, how_of(column in before, column in after), before.get(column), after.get(column))


def package_changes(
    old: Mapping[str, Any], new: Mapping[str, Any], sources: tuple[Source, Source]
) -> Iterator[PackageChange]:
    """Packages whose versions differ, from the bodies of two records and, where both can be read, the lock files."""
    locked = all(one.packages is not None for one in sources)
    before, after = (
        packages_of(body, one if locked else Source()) for body, one in zip((old, new), sources, strict=True)
    )
    for package in sorted({*before, *after}):
        if before.get(package) != after.get(package):
            how = how_of(package in before, package in after)
            yield PackageChange(package, how, before.get(package), after.get(package))


def packages_of(body: Mapping[str, Any], source: Source) -> dict[str, str]:
    """Versions by package, ``python`` among them: what the lock says, and for those that the record names what ran."""
    environment = body.get("environment") or {}
    python = {"python": str(environment["python"])} if environment.get("python") else {}
    ran = {str(name): str(version) for name, version in (environment.get("packages") or {}).items()}
    return {**python, **(source.packages or {}), **ran}


def file_changes(sources: tuple[Source, Source], lines: LinesChanged) -> Iterator[FileChange]:
    """Files that count and differ; ``lines`` are those added and removed, by path, where they are known."""
    before, after = sources[0].files or {}, sources[1].files or {}
    for path in sorted({*before, *after}):
        if before.get(path) != after.get(path):
            yield FileChange(path, how_of(path in before, path in after), *lines.get(path, (None, None)))
