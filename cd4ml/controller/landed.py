"""What the index holds, and what has landed on the remote and is not folded into it yet."""

from __future__ import annotations

import json
from dataclasses import replace

from cd4ml.controller.project import Project
from cd4ml.errors import IntegrityError, RepositoryError, ToolError
from cd4ml.gateways.files import write_atomically
from cd4ml.gateways.git import INDEX_BRANCH, RemoteState
from cd4ml.gateways.untrusted import read_json
from cd4ml.index.fold import FoldPlan, Landed, fold, parse_envelope
from cd4ml.index.history import History
from cd4ml.index.record import RECORD_PATH, Entry
from cd4ml.index.validate import NewerSchemaError

LARGEST_RECORD = 1 << 20
DRAFTS_READ = "drafts"
"""In cd4ml's private folder: what drafts hold, by commit."""


def read_history(project: Project, state: RemoteState, *, drafts: bool = True) -> History:
    """Everything known: the index's entries, and landed records as the next fold would take them.

    ``drafts`` counts in the records of branches that are not pushed, which are kept here alone. A reader
    never writes, so it counts in by itself what is to be folded. Raises IntegrityError for an index that was
    tampered with.
    """
    entries = read_entries(project, state.index)
    if drafts:
        state = replace(state, landing={**state.drafts, **state.landing})
    remembered = frozenset(state.drafts.values()) if drafts else frozenset()
    return History.of((*entries, *plan_fold(project, state, entries, remembered).entries))


def read_entries(project: Project, index_commit: str | None) -> tuple[Entry, ...]:
    """Every entry of an index commit that this version can read.

    Raises IntegrityError naming the file that is not what it says.
    """
    if index_commit is None:
        return ()
    entries = []
    for path, data in project.repository.read_tree(index_commit).items():
        if not path.startswith(("runs/", "experiments/")):
            continue
        try:
            entries.append(parse_envelope(data, path))
        except NewerSchemaError:
            continue  # a later version's record: kept as it is, and read by those who can
        except IntegrityError as error:
            raise IntegrityError(f"{INDEX_BRANCH}: {error}") from error
    return tuple(entries)


def plan_fold(
    project: Project, state: RemoteState, entries: tuple[Entry, ...], remembered: frozenset[str] = frozenset()
) -> FoldPlan:
    """What folding all landed refs into the index would do. ``remembered`` commits are read from Git only once."""
    number = max((entry.fold for entry in entries), default=0) + 1
    landed = [
        (_remembered if commit in remembered else read_landed)(project, ref, commit)
        for ref, commit in sorted(state.landing.items())
    ]
    return fold(frozenset(entry.record.id for entry in entries), landed, number)


def read_landed(project: Project, ref: str, commit: str) -> Landed:
    """What one landing ref holds (or would hold), as hostile input for the fold to judge."""
    repository = project.repository
    try:
        info = repository.commit_info(commit)
        changes = repository.changed_paths(info.parents[0], commit) if info.parents else ()
        data = repository.read_blob(commit, RECORD_PATH, LARGEST_RECORD) or b""
    except (RepositoryError, ToolError, IntegrityError):
        return Landed(ref, commit, (), (), b"", "")  # which the fold refuses, and names
    return Landed(ref, commit, info.parents, changes, data, info.committer)


def _remembered(project: Project, ref: str, commit: str) -> Landed:
    """The same, from what was read before: drafts stay for long, and each costs several commands of Git."""
    path = project.private / DRAFTS_READ / f"{commit}.json"
    told = read_json(path, 4 * LARGEST_RECORD)
    try:
        parents, changes = (tuple(map(str, told[name])) for name in ("parents", "changes"))
        return Landed(ref, commit, parents, changes, str(told["data"]).encode(), str(told["committer"]))
    except (TypeError, KeyError):
        pass
    landed = read_landed(project, ref, commit)
    content = {
        "parents": landed.parents,
        "changes": landed.tree_changes,
        "data": landed.data.decode("utf-8", "replace"),
        "committer": landed.committer,
    }
    if landed.data:
        write_atomically(path, json.dumps(content).encode())
    return landed
