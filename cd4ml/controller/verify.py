"""Verify: is everything that the index promises there, and is it what was written?

Read here, judged in ``index/audit``. Git's objects are read through few processes, and each object of DVC's once,
however many runs need it. Nothing is changed but what a fetch changes; ``controller/repair`` does the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from difflib import get_close_matches

from cd4ml.controller import trust
from cd4ml.controller.epochs import epoch_number, refusal
from cd4ml.controller.fold import derived_files
from cd4ml.controller.project import Project
from cd4ml.controller.specs import spec_of
from cd4ml.errors import Cd4mlError, ConfigError, RemoteError, RepositoryError, ToolError, UsageError
from cd4ml.gateways.dvc import RemoteObjects, Storage
from cd4ml.gateways.files import FileDigest, digest_file
from cd4ml.gateways.git import HEADS, INDEX, LANDING
from cd4ml.gateways.git.integrity import (
    EMPTY_TREE,
    Broken,
    CommitFacts,
    TransferError,
    TreeChange,
    check_objects,
    draft_commits,
    first_parents_while,
    fresh_copy,
    object_ids,
    read_commits,
    read_objects,
    refs_as_seen,
    remote_refs,
    store_of,
    tree_changes,
)
from cd4ml.index.audit import (
    REPAIR,
    RESTORE,
    Chain,
    Change,
    Finding,
    FoldFacts,
    Held,
    LandedFacts,
    Needed,
    audit_chain,
    audit_landed,
    audit_landing,
    audit_object,
    audit_references,
    code_of,
    objects_of,
    paths_of,
    pins_of,
)
from cd4ml.index.epoch import Epoch, parse_message
from cd4ml.index.fold import ENTRY_FOLDERS, Landed, check_landed, entry_path
from cd4ml.index.record import RECORD_PATH, Entry, ExperimentRecord, Record, RemovalRecord, RunRecord
from cd4ml.promotion.summary import PAGE_FILE, SUMMARY_FILE, summary_of
from cd4ml.spec.pin import Pin

_AT_ONCE = 400
_DOWNLOADS = 4

Watch = Callable[[str], None]
"""Told, in a few words, what is looked at now."""


@dataclass(frozen=True)
class Scope:
    """What to look at: all runs, or those that a run id, fingerprint (or a prefix of them) or branch names.

    ``quick`` believes a size where otherwise bytes are read: it sees what is missing, and what was cut off.
    """

    runs: tuple[str, ...] = ()
    quick: bool = False


@dataclass(frozen=True)
class Report:
    """The findings, faults first, and how much was looked at.

    ``needed`` are the objects that runs promise, by MD5; ``commits`` the result commits of runs, by run id.
    """

    findings: tuple[Finding, ...]
    folds: int
    records: int
    objects: int
    needed: Mapping[str, Needed] = field(default_factory=dict)
    commits: Mapping[str, str] = field(default_factory=dict)

    @property
    def sound(self) -> bool:
        """Is nothing at fault?"""
        return not any(finding.fault for finding in self.findings)


@dataclass(frozen=True)
class _Seen:
    """The remote's refs: ``refs`` by full name, from the remote itself where it could be asked."""

    refs: Mapping[str, str]
    findings: tuple[Finding, ...]

    @property
    def index(self) -> str | None:
        return self.refs.get(INDEX)

    @property
    def landing(self) -> dict[str, str]:
        return {ref: commit for ref, commit in self.refs.items() if ref.startswith(LANDING)}

    def head(self, branch: str) -> str | None:
        return self.refs.get(HEADS + branch)


def verify(project: Project, scope: Scope, watch: Watch) -> Report:
    """Check every record of the index, or of some runs, against Git, DVC's cache and DVC's remote.

    Raises UsageError for a name that no run has, RepositoryError for a shallow clone, RemoteError when neither the
    remote nor an earlier fetch tells of an index.
    """
    repository = project.repository
    if repository.is_shallow:
        raise RepositoryError(f"{project.root}: its history is cut off: run `git fetch --unshallow`, then verify")
    watch("asking the remote")
    seen = _look(project)
    findings = list(seen.findings)
    tips = [commit for commit in (seen.index, *seen.landing.values(), *draft_commits(repository)) if commit]
    watch("checking Git's objects")
    findings += _broken(check_objects(repository, tips, thorough=not scope.quick))
    if project.has_remote and not scope.quick:
        watch("checking the objects that the Git remote sends")
        findings += _of_remote(project, seen)
    watch("reading the chain of folds")
    chain, folds = _chain(project, seen)
    findings += [*chain.findings, *audit_references(chain.entries, chain.newer)]
    if seen.index:
        findings += _derived(project, seen.index, chain)
    wanted = _in_scope(chain.entries, scope.runs)
    runs = list(_check_landed(project, wanted, seen.landing if not scope.runs else {}, findings, watch))
    removals = [entry.record for entry in chain.entries if isinstance(entry.record, RemovalRecord)]
    needed, contradictions = objects_of(runs, removals)
    findings += contradictions
    findings += _check_objects(project, seen, needed, quick=scope.quick, watch=watch)
    ordered = tuple(sorted(dict.fromkeys(findings), key=lambda finding: finding.order))
    commits = {run.id: commit for run, commit, _ in runs}
    return Report(ordered, folds, len(wanted), len(needed), {one.md5: one for one in needed}, commits)


# ── the remote's refs ──


def _look(project: Project) -> _Seen:
    """What the remote holds and whether it follows from what this clone remembers; each failure is a finding."""
    findings: list[Finding] = []
    where = project.remote if project.has_remote else "this repository"
    try:
        found = trust.look(project)
    except (Cd4mlError, OSError, ValueError) as error:  # of a repository that is damaged, anything may come back
        message = f"cannot be fetched from: {_line(error)}"
        findings.append(Finding("unproven", "ref", "git remote", where, message, "see the other findings; then again"))
    else:
        findings += [
            Finding("chain", "index", "index", INDEX.removeprefix(HEADS), finding.message, RESTORE)
            for finding in found.findings
        ]
    try:
        return _Seen(remote_refs(project.repository, project.remote), tuple(findings))
    except RemoteError:
        seen = refs_as_seen(project.repository)
        if not seen:
            raise
        return _Seen(seen, tuple(findings))


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())


# ── Git's objects ──


def _broken(broken: Iterable[Broken]) -> Iterator[Finding]:
    for one in broken:
        missing = "missing" in one.message and "corrupt" not in one.message
        yield Finding("missing" if missing else "damaged", "object", "git", one.name, f"here: {one.message}", REPAIR)


def _of_remote(project: Project, seen: _Seen) -> Iterator[Finding]:
    """Whether the remote can send every object of the index and of what has landed: nothing of ours is taken for it.

    Of a remote that is a folder of this machine, every object is read as well.
    """
    refs = [ref for ref in (INDEX, *seen.landing) if ref in seen.refs]
    if not refs:
        return
    named: dict[str, Broken] = {}
    store = store_of(project.repository, project.remote)
    if store is not None:
        tips = [seen.refs[ref] for ref in refs]
        named = {one.name: one for one in check_objects(project.repository, tips, thorough=True, store=store)}
    try:
        with fresh_copy(project.repository, project.remote, refs):
            pass
    except TransferError as error:
        told = [one for one in error.broken if one.is_object]
        named = {one.name: one for one in told} | named or {project.remote: Broken(project.remote, _line(error))}
    for one in named.values():
        message = f"the Git remote cannot send it: {one.message}"
        yield Finding("damaged", "object" if one.is_object else "ref", "git remote", one.name, message, _CURE_OF_REMOTE)


_CURE_OF_REMOTE = (
    f"{REPAIR} sends what is missing; a damaged file in the remote's object store has to be moved away there first"
)


# ── the chain ──


def _chain(project: Project, seen: _Seen) -> tuple[Chain, int]:
    """The chain of folds as it is read and judged, and its length."""
    repository, tip = project.repository, seen.index
    if tip is None:
        return Chain((), frozenset(), ()), 0
    commits, whole = first_parents_while(repository, tip, RECORD_PATH)
    facts = read_commits(repository, commits)
    ordered = [(commit, found) for commit in reversed(commits) if (found := facts[commit]) is not None]
    findings = []
    if not whole or not ordered:
        message = "what lies before it cannot be read: the chain of folds is not proven whole"
        where = ordered[0][0] if ordered else tip
        findings.append(Finding("unproven", "fold", "index", where, message, REPAIR))
    epoch = _epoch(project, ordered[0][0]) if ordered and whole else None
    folds = list(_folds(project, ordered, epoch=epoch is not None))
    if epoch is not None:
        findings += _sanctioned(project, seen, ordered[0][0], epoch)
    blobs = read_objects(repository, (one.object_id for one in _entries_of(folds)))
    chain = audit_chain(folds, blobs, whole=whole)
    return replace(chain, findings=(*findings, *chain.findings)), len(folds)


def _folds(project: Project, ordered: Sequence[tuple[str, CommitFacts]], *, epoch: bool) -> Iterator[FoldFacts]:
    trees = [facts.tree for _, facts in ordered]
    changed = tree_changes(project.repository, list(zip([EMPTY_TREE, *trees], trees, strict=False)))
    for place, ((commit, facts), changes) in enumerate(zip(ordered, changed, strict=True)):
        told = (
            None if changes is None else tuple(Change(one.status, one.mode, one.object_id, one.path) for one in changes)
        )
        begins = epoch and place == 0
        parents = _unbundled(project, facts.parents) if begins else facts.parents
        yield FoldFacts(commit, parents, told, begins)


def _entries_of(folds: Iterable[FoldFacts]) -> Iterator[Change]:
    for fold in folds:
        yield from (one for one in fold.changes or () if one.path.startswith(ENTRY_FOLDERS) and one.status != "D")


def _unbundled(project: Project, parents: Sequence[str]) -> tuple[str, ...]:
    """The landed commits among (or, where they were too many for one commit, behind) the parents of an epoch."""
    held = object_ids(project.repository, (f"{parent}:{RECORD_PATH}" for parent in parents))
    facts = read_commits(project.repository, parents)
    found: list[str] = []
    for parent in parents:
        known = facts[parent]
        bundle = held[f"{parent}:{RECORD_PATH}"] is None and known is not None
        found += known.parents if bundle and known is not None else (parent,)
    return tuple(found)


def _epoch(project: Project, first: str) -> Epoch | None:
    with suppress(Cd4mlError):
        return parse_message(project.repository.message_of(first))
    return None


def _sanctioned(project: Project, seen: _Seen, first: str, epoch: Epoch) -> Iterator[Finding]:
    """An epoch is believed from those alone whom the base branch names."""
    base, why = seen.head(project.base), ""
    if base is None:
        why = f"{project.base} is not on the remote, so nobody is named who may begin one"
    elif object_ids(project.repository, [epoch.replaces])[epoch.replaces]:
        why = refusal(project, base, epoch.replaces, first)
    else:  # what it replaced is gone, as it should be: the signature is what is left to judge
        try:
            keys = [eraser.key for eraser in spec_of(project, base)[0].index.erasers]
            signed = project.repository.signed_by_one_of(first, keys)
        except Cd4mlError as error:
            why = _line(error)
        else:
            why = "" if signed else f"is not signed by anybody whom index.erasers of {project.base} names"
    if why:
        message = f"begins epoch {epoch.number}, which is not sanctioned: {why}"
        yield Finding("chain", "fold", "index", first, message, RESTORE)


def _derived(project: Project, tip: str, chain: Chain) -> Iterator[Finding]:
    """Are the summary and the first page of the index what its entries give?"""
    if chain.findings or chain.newer:
        return  # of entries that are not all read, they cannot be made
    names = {path: f"{tip}:{path}" for path in (SUMMARY_FILE, PAGE_FILE)}
    ids = object_ids(project.repository, names.values())
    read = read_objects(project.repository, filter(None, ids.values()))
    held = {path: read.get(ids[name] or "") for path, name in names.items()}
    if all(data is None for data in held.values()):
        return  # an index from before there were any
    made = derived_files(summary_of(chain.entries, epoch_number(project, tip)))
    for path, data in made.items():
        if held[path] != data:
            message = f"{path}: is not what this version of cd4ml makes of the entries"
            # the page is for people, and another version may word it otherwise; folds count by the summary
            fault = path == SUMMARY_FILE
            cure = RESTORE if fault else "none is needed: the next fold writes it anew"
            yield Finding("edited", "index", "index", path, message, cure, fault)


# ── which runs ──


def _in_scope(entries: Sequence[Entry], names: Sequence[str]) -> tuple[Entry, ...]:
    """The entries of the runs that are named (all without names). Raises UsageError for a name that none has."""
    if not names:
        return tuple(entries)
    chosen: set[str] = set()
    for name in names:
        found = [entry.record.id for entry in entries if _is_named(entry.record, name)]
        if not found:
            raise UsageError(f"{name}: no run of the index has that name{_nearest(entries, name)}")
        chosen.update(found)
    return tuple(entry for entry in entries if entry.record.id in chosen)


def _is_named(record: Record, name: str) -> bool:
    if isinstance(record, RunRecord):
        return record.branch == name or record.id.startswith(name) or record.fingerprint.startswith(name)
    if isinstance(record, ExperimentRecord):
        return record.branch == name or record.id.startswith(name)
    return record.id.startswith(name)


def _nearest(entries: Iterable[Entry], name: str) -> str:
    branches = {entry.record.branch for entry in entries if isinstance(entry.record, RunRecord | ExperimentRecord)}
    near = get_close_matches(name, sorted(branches), n=1)
    return f" (did you mean {near[0]}?)" if near else ""


# ── landed commits ──


def _check_landed(
    project: Project, entries: Sequence[Entry], landing: Mapping[str, str], findings: list[Finding], watch: Watch
) -> Iterator[tuple[RunRecord, str, Mapping[str, Pin | None]]]:
    """Judge every landed commit; gives the runs with their commits and pins."""
    asked = [(LANDING + entry.record.id, entry.result_commit, entry) for entry in entries]
    waiting = [(ref, commit, None) for ref, commit in sorted(landing.items())]
    everything: list[tuple[str, str, Entry | None]] = [*asked, *waiting]
    for start in range(0, len(everything), _AT_ONCE):
        watch(f"checking records: {start} of {len(everything)}")
        some = everything[start : start + _AT_ONCE]
        for (ref, commit, entry), (facts, record) in zip(some, _facts(project, some), strict=True):
            if entry is not None:
                findings += audit_landed(entry, entry_path(entry.record), facts)
            else:
                findings += audit_landing(ref, facts, commit)
            if isinstance(record, RunRecord):
                yield record, commit, pins_of(record, facts.files)


def _facts(
    project: Project, some: Sequence[tuple[str, str, Entry | None]]
) -> Iterator[tuple[LandedFacts, Record | None]]:
    """What Git holds of landed commits, and each one's record (the index's, where there is an entry)."""
    repository = project.repository
    commits = read_commits(repository, (commit for _, commit, _ in some))
    parents = read_commits(repository, (one.parents[0] for one in commits.values() if one and one.parents))
    pairs = {
        commit: (parent.tree, one.tree)
        for commit, one in commits.items()
        if one and one.parents and (parent := parents[one.parents[0]])
    }
    changed = dict(zip(pairs, tree_changes(repository, list(pairs.values())), strict=True))
    data = _read_paths(project, dict.fromkeys(commits, (RECORD_PATH,)))
    landed = [
        _landed(project, ref, commit, commits[commit], changed.get(commit), data[commit][RECORD_PATH])
        for ref, commit, _ in some
    ]
    records = [
        entry.record if entry is not None else _record(one) for (_, _, entry), one in zip(some, landed, strict=True)
    ]
    named = dict(zip((commit for _, commit, _ in some), records, strict=True))
    files = _read_paths(project, {commit: paths_of(record) for commit, record in named.items()})
    code = object_ids(repository, (f"{commit}:{path}" for commit in named for path in code_of(named[commit])))
    for (_, commit, _), one, record in zip(some, landed, records, strict=True):
        known = commits[commit]
        source = parents.get(known.parents[0]) if known and known.parents else None
        lies = {path: code.get(f"{commit}:{path}") for path in code_of(record)}
        yield LandedFacts(one, source.tree if source else "", files[commit], lies), record


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


def _read_paths(project: Project, wanted: Mapping[str, Sequence[str]]) -> dict[str, dict[str, bytes | None]]:
    """The bytes at paths of commits, each distinct object read once; nothing for what is not there."""
    names = {(commit, path): f"{commit}:{path}" for commit, paths in wanted.items() for path in paths}
    ids = object_ids(project.repository, names.values())
    read = read_objects(project.repository, filter(None, ids.values()))
    found: dict[str, dict[str, bytes | None]] = {commit: {} for commit in wanted}
    for (commit, path), name in names.items():
        found[commit][path] = read.get(ids.get(name) or "")
    return found


# ── DVC's objects ──


def _check_objects(
    project: Project, seen: _Seen, needed: Sequence[Needed], *, quick: bool, watch: Watch
) -> Iterator[Finding]:
    if not needed:
        return
    try:
        storage = open_storage_of(project, seen.head(project.base))
    except (Cd4mlError, OSError) as error:
        message = f"the settings of DVC cannot be read: {_line(error)}"
        yield Finding("unproven", "object", "remote", ".dvc/config", message, "mend them on the base branch")
        return
    for place, one in enumerate(needed):
        if place % _AT_ONCE == 0:
            watch(f"checking the DVC cache: {place} of {len(needed)}")
        finding = audit_object(one, "cache", in_cache(storage, one.md5, quick=quick), only_copy=not storage.remote)
        if finding is not None:
            yield finding
    if storage.remote:
        yield from _check_remote(storage, needed, quick=quick, watch=watch)


def open_storage_of(project: Project, base_commit: str | None) -> Storage:
    """DVC's storage, as the base branch says. Raises RepositoryError where there is no base branch, ConfigError."""
    if base_commit is None:
        raise project.without_base()
    return project.storage(base_commit)


def in_cache(storage: Storage, md5: str, *, quick: bool = False) -> Held | None:
    """What the cache holds under this name; what is there and no file that can be read has no bytes."""
    path = storage.cached(md5)
    try:
        if quick:
            return Held(None, None, path.stat().st_size) if path.is_file() else _no_file(path.exists())
        return _held(digest_file(path)) if path.is_file() else _no_file(path.exists())
    except OSError:
        return _no_file(True)


def _no_file(exists: bool) -> Held | None:
    return Held("", "", -1) if exists else None


def _held(found: FileDigest | None) -> Held | None:
    return Held(found.sha256, found.md5, found.bytes) if found else None


def _check_remote(storage: Storage, needed: Sequence[Needed], *, quick: bool, watch: Watch) -> Iterator[Finding]:
    try:
        with storage.open_remote() as remote:
            for place, (one, held) in enumerate(zip(needed, _on_remote(remote, needed, quick=quick), strict=True)):
                if place % 50 == 0:
                    watch(f"checking the DVC remote: {place} of {len(needed)}")
                finding = audit_object(one, "remote", held, only_copy=False)
                if finding is not None:
                    yield finding
    except (RemoteError, ConfigError) as error:
        message = f"cannot be read: {_line(error)}"
        yield Finding("unproven", "object", "remote", storage.remote, message, "reach it, then verify again")


def _on_remote(remote: RemoteObjects, needed: Sequence[Needed], *, quick: bool) -> Iterator[Held | None]:
    """What the remote holds of each object: read whole, a few at a time; or as it lists it."""
    if quick:
        sizes = {stored.md5: stored.bytes for stored in remote.list()}
        yield from (Held(None, None, sizes[one.md5]) if one.md5 in sizes else None for one in needed)
        return
    with ThreadPoolExecutor(_DOWNLOADS) as pool:
        yield from map(_held, pool.map(remote.digest, (one.md5 for one in needed)))
