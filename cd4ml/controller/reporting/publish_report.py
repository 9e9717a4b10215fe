"""Put a report where a forge shows it: a commit of its own on the remote, replaced when the report changes.

Nothing depends on what lies there. It is computed from records, so it is replaced without regret and dropped with its
branch; a clone does not bring it, and the index knows nothing of it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from cd4ml.controller.project import Project
from cd4ml.errors import RemoteError, UsageError

LARGEST_FILE = 2 << 20
"""Bytes of one file of a report."""

MOST_FILES = 20

SHORT = 10
"""A report names a run by so many characters of its id at least."""

_KEY = re.compile(r"[0-9a-f]{8,64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_AT_ONCE = 200


def publish_report(project: Project, key: str, files: Mapping[str, bytes]) -> str:
    """Put these files on the remote as the report of ``key``; gives their commit.

    The commit is a function of the files: where the remote has it already, nothing is pushed. ``key`` is hexadecimal,
    8 to 64 digits; names are plain, without folders. Of two writers at once the last one's report stays. Raises
    UsageError for a key, a name, or sizes that are not allowed, and RemoteError when the remote refuses.
    """
    _check(key, files)
    repository, remote = project.repository, project.remote
    commit = repository.write_report(files)
    before = repository.report(remote, key)
    if before == commit:
        return commit
    try:
        repository.put_report(remote, key, before, commit)
    except RemoteError:
        now = repository.report(remote, key)  # somebody else was faster, or the push arrived and its answer did not
        if now == commit:
            return commit
        if now == before:  # nobody was: it is the remote that does not take it
            raise
        repository.put_report(remote, key, now, commit)
    return commit


def drop_reports(project: Project, alive_keys: Collection[str]) -> tuple[str, ...]:
    """Take from the remote every report whose key is not among these; gives the keys that were taken.

    One that was replaced meanwhile stays. Raises RemoteError when the remote cannot be asked.
    """
    found = project.repository.reports(project.remote)
    return _dropped(project, found, sorted(set(found) - set(alive_keys)))


def drop_reports_of(project: Project, runs: Collection[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Take from the remote every report that names one of these runs.

    Gives the keys of those that went, and of those that did not or cannot be read. Raises RemoteError when the remote
    cannot be asked.
    """
    names = [run[:SHORT].encode() for run in runs]
    repository = project.repository
    found = repository.reports(project.remote) if names else {}
    repository.bring_reports(project.remote, found)
    naming, unread = [], []
    for key, commit in sorted(found.items()):
        if repository.resolve(commit) != commit:
            unread.append(key)
            continue
        texts = repository.small_objects(repository.blob_ids(commit, "").values(), LARGEST_FILE).values()
        if any(name in text for name in names for text in texts):
            naming.append(key)
    dropped = _dropped(project, found, naming)
    return dropped, (*(key for key in naming if key not in dropped), *unread)


def _dropped(project: Project, found: Mapping[str, str], stale: Sequence[str]) -> tuple[str, ...]:
    dropped: list[str] = []
    for start in range(0, len(stale), _AT_ONCE):
        together = stale[start : start + _AT_ONCE]
        for keys in (together, *([key] for key in together if len(together) > 1)):
            try:
                project.repository.drop_reports(project.remote, found, keys)
            except RemoteError:  # one of them moved, or the remote allows no deletion: then each by itself
                continue
            dropped += keys
            if keys is together:
                break
    return tuple(dropped)


def _check(key: str, files: Mapping[str, bytes]) -> None:
    if not _KEY.fullmatch(key):
        raise UsageError(f"{key!r}: is no key of a report (8 to 64 hexadecimal digits)")
    if len(files) > MOST_FILES:
        raise UsageError(f"a report of {len(files)} files: at most {MOST_FILES} are kept")
    for name, data in files.items():
        if not _NAME.fullmatch(name):
            raise UsageError(f"{name!r}: is no name for a file of a report")
        if len(data) > LARGEST_FILE:
            raise UsageError(f"{name}: {len(data):,} bytes: a file of a report has at most {LARGEST_FILE:,}")
