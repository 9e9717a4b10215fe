"""What Git holds of landed commits, many at a time: facts for ``index/audit`` to judge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from cd4ml.controller.project import Project
from cd4ml.errors import Cd4mlError, RepositoryError, ToolError
from cd4ml.gateways.git.integrity import CommitFacts, object_ids, read_commits, read_objects
from cd4ml.gateways.git.tree_changes import TreeChange, Trees, tree_changes
from cd4ml.index.audit import LandedFacts, code_of, paths_of
from cd4ml.index.fold import Landed, check_landed
from cd4ml.index.record import RECORD_PATH, Entry, Record


def landed_facts(
    project: Project, trees: Trees, some: Sequence[tuple[str, str, Entry | None]]
) -> Iterator[tuple[LandedFacts, Record | None]]:
    """What Git holds of landed commits, and each one's record (the index's, where there is an entry)."""
    repository = project.repository
    likely = [entry.record.commit for _, _, entry in some if entry is not None]
    commits = read_commits(repository, (*(commit for _, commit, _ in some), *likely))
    above = [one.parents[0] for _, commit, _ in some if (one := commits[commit]) and one.parents]
    commits |= read_commits(repository, (commit for commit in above if commit not in commits))
    pairs = {
        commit: (parent.tree, one.tree)
        for _, commit, _ in some
        if (one := commits[commit]) and one.parents and (parent := commits[one.parents[0]])
    }
    changed = _changes(project, trees, pairs)
    known = {commit: entry.record for _, commit, entry in some if entry is not None}
    asked = {commit: (RECORD_PATH, *paths_of(known.get(commit))) for _, commit, _ in some}
    files = _read_paths(project, trees, commits, asked)
    landed = [
        _landed(project, ref, commit, commits[commit], changed.get(commit), files[commit][RECORD_PATH])
        for ref, commit, _ in some
    ]
    records = [
        entry.record if entry is not None else _record(one) for (_, _, entry), one in zip(some, landed, strict=True)
    ]
    named = dict(zip((commit for _, commit, _ in some), records, strict=True))
    unread = {commit: paths_of(record) for commit, record in named.items() if commit not in known}
    for commit, read in _read_paths(project, trees, commits, unread).items():
        files[commit] |= read
    code = _ids(project, trees, commits, {commit: code_of(record) for commit, record in named.items()})
    for (_, commit, _), found, record in zip(some, landed, records, strict=True):
        known_as = commits[commit]
        source = commits[known_as.parents[0]] if known_as and known_as.parents else None
        lies = {path: code[commit, path] for path in code_of(record)}
        yield LandedFacts(found, source.tree if source else "", files[commit], lies), record


def _changes(
    project: Project, trees: Trees, pairs: Mapping[str, tuple[str, str]]
) -> dict[str, Sequence[TreeChange] | None]:
    """What each commit changes over its parent, given their trees."""
    found: dict[str, Sequence[TreeChange] | None] = dict(zip(pairs, trees.changes(list(pairs.values())), strict=True))
    left = [commit for commit, changes in found.items() if changes is None]
    told = tree_changes(project.repository, [pairs[commit] for commit in left])
    return {**found, **dict(zip(left, told, strict=True))}


def _landed(
    project: Project,
    ref: str,
    commit: str,
    facts: CommitFacts | None,
    changed: Sequence[TreeChange] | None,
    data: bytes | None,
) -> Landed | None:
    """The commit as a fold would see it; nothing when the commit, its parent, or one of their trees cannot be read."""
    if facts is None or (changed is None and facts.parents):
        return None
    committer = facts.committer
    if committer is None:
        try:
            committer = project.repository.commit_info(commit).committer
        except (RepositoryError, ToolError):
            return None
    paths = tuple(one.path for one in changed or ())
    return Landed(ref, commit, facts.parents, paths, data or b"", committer)


def _record(landed: Landed | None) -> Record | None:
    with suppress(Cd4mlError):
        return check_landed(landed) if landed else None
    return None


def _read_paths(
    project: Project, trees: Trees, commits: Mapping[str, CommitFacts | None], wanted: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, bytes | None]]:
    """The bytes at paths of commits, each distinct object read once; nothing for what is not there."""
    ids = _ids(project, trees, commits, wanted)
    read = read_objects(project.repository, filter(None, ids.values()))
    found: dict[str, dict[str, bytes | None]] = {commit: {} for commit in wanted}
    for (commit, path), object_id in ids.items():
        found[commit][path] = read.get(object_id or "")
    return found


def _ids(
    project: Project, trees: Trees, commits: Mapping[str, CommitFacts | None], wanted: Mapping[str, Sequence[str]]
) -> dict[tuple[str, str], str | None]:
    """The id of what lies at paths of commits; nothing for what is not there."""
    roots = {commit: one.tree for commit in wanted if (one := commits[commit])}
    here = trees.at((root, path) for commit, root in roots.items() for path in wanted[commit])
    names = [(commit, path) for commit, paths in wanted.items() for path in paths]
    left = {name: ":".join(name) for name in names if (roots.get(name[0], ""), name[1]) not in here}
    told = object_ids(project.repository, left.values())
    return {name: told.get(left[name]) if name in left else here[roots[name[0]], name[1]] for name in names}
