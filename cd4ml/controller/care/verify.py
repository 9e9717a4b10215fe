"""Verify: is everything that the index promises there, and is it what was written?

Read here, judged in ``index/audit``. Git's objects are read through few processes, and each object of DVC's once,
however many runs need it. Nothing is changed but what a fetch changes; ``controller/care/repair`` does the rest.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches

from cd4ml.controller.care.landed_facts import landed_facts
from cd4ml.controller.care.stored import Watch, check_stored, in_a_line
from cd4ml.controller.desired.specs import spec_of
from cd4ml.controller.landing import trust
from cd4ml.controller.landing.epochs import epoch_number, refusal
from cd4ml.controller.landing.fold import derived_files
from cd4ml.controller.project import Project
from cd4ml.errors import Cd4mlError, IntegrityError, RemoteError, RepositoryError, UsageError
from cd4ml.gateways.git import HEADS, INDEX, LANDING
from cd4ml.gateways.git.integrity import (
    Broken,
    CommitFacts,
    TransferError,
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
)
from cd4ml.gateways.git.tree_changes import EMPTY_TREE, Trees, tree_changes
from cd4ml.index.audit import (
    REPAIR,
    RESTORE,
    ChainAudit,
    Change,
    Finding,
    FoldFacts,
    adds_entry,
    audit_landed,
    audit_landing,
    pins_of,
)
from cd4ml.index.envelope import read_envelope
from cd4ml.index.epoch import Epoch, parse_message
from cd4ml.index.fold import ENTRY_FOLDERS, entry_path
from cd4ml.index.history import RemovalEntry, experiments_in, removals_in
from cd4ml.index.promised import Needed, Promises, References, not_to_be_stored
from cd4ml.index.record import RECORD_PATH, Entry, ExperimentRecord, Record, RunRecord
from cd4ml.promotion.summary import PAGE_FILE, SUMMARY_FILE, Summary, empty, grown

_AT_ONCE = 500
"""So many records are in memory at once."""

_NUMBER = re.compile(rb'\{\n "fold": ([1-9][0-9]{0,15}),\n')
_NAME_LENGTH = len("r") + 20 + len(".json")


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
    chain = _chain(project, seen)
    findings += chain.findings
    answering = frozenset(_answering(project, chain.folds, scope.runs)) if scope.runs else frozenset[str]()
    reading = _Reading(project, scope, chain, watch, answering)
    for entries in _entries(project, chain):
        reading.take(entries)
    chain.audit.end()
    findings += [*chain.audit.findings, *reading.references.findings(chain.audit.ids | chain.audit.newer)]
    reading.check_names()
    if seen.index:
        findings += _derived(project, seen.index, chain, reading.summary)
    if not scope.runs:
        reading.take_waiting(seen.landing)
    needed = reading.promises.needed()
    findings += [*reading.findings, *reading.promises.findings]
    promised = {one.md5: one for one in needed}
    erased = {} if scope.runs else not_to_be_stored(chain.removals, promised)
    base = seen.head(project.base)
    findings += check_stored(project, base, needed, erased, quick=scope.quick, watch=watch)
    ordered = tuple(sorted(dict.fromkeys(findings), key=lambda finding: finding.order))
    return Report(ordered, len(chain.folds), reading.records, len(needed), promised, reading.commits)


# ── the remote's refs ──


def _look(project: Project) -> _Seen:
    """What the remote holds and whether it follows from what this clone remembers; each failure is a finding."""
    findings: list[Finding] = []
    where = project.remote if project.has_remote else "this repository"
    try:
        found = trust.look(project)
    except (Cd4mlError, OSError, ValueError) as error:  # of a repository that is damaged, anything may come back
        message = f"cannot be fetched from: {in_a_line(error)}"
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
        named = {one.name: one for one in told} | named or {project.remote: Broken(project.remote, in_a_line(error))}
    for one in named.values():
        message = f"the Git remote cannot send it: {one.message}"
        yield Finding("damaged", "object" if one.is_object else "ref", "git remote", one.name, message, _CURE_OF_REMOTE)


_CURE_OF_REMOTE = (
    f"{REPAIR} sends what is missing; a damaged file in the remote's object store has to be moved away there first"
)


# ── the chain ──


@dataclass(frozen=True)
class _Chain:
    """The chain of folds as Git has it: what each changes is known, and no entry is read yet.

    ``audit`` judges it as its entries are read; ``findings`` are those of the chain itself. ``removals`` are read
    beforehand, since they say what earlier runs promise no longer.
    """

    folds: tuple[FoldFacts, ...]
    audit: ChainAudit
    findings: tuple[Finding, ...] = ()
    removals: tuple[RemovalEntry, ...] = ()

    @property
    def count(self) -> int:
        """How many entries it seems to hold."""
        return sum(one.path.startswith(ENTRY_FOLDERS) for fold in self.folds for one in fold.changes or ())


def _chain(project: Project, seen: _Seen) -> _Chain:
    repository, tip = project.repository, seen.index
    if tip is None:
        return _Chain((), ChainAudit())
    commits, whole = first_parents_while(repository, tip, RECORD_PATH)
    facts = read_commits(repository, commits)
    ordered = [(commit, found) for commit in reversed(commits) if (found := facts[commit]) is not None]
    findings = []
    if not whole or not ordered:
        message = "what lies before it cannot be read: the chain of folds is not proven whole"
        where = ordered[0][0] if ordered else tip
        findings.append(Finding("unproven", "fold", "index", where, message, REPAIR))
    epoch = _epoch(project, ordered[0][0]) if ordered and whole else None
    folds = tuple(_folds(project, ordered, epoch=epoch is not None))
    if epoch is not None:
        findings += _sanctioned(project, seen, ordered[0][0], epoch)
    removals = removals_in(sorted(_readable(project, folds, "removals/"), key=lambda entry: entry.order))
    return _Chain(folds, ChainAudit(whole=whole), tuple(findings), removals)


def _answering(project: Project, folds: Iterable[FoldFacts], branches: Collection[str]) -> Iterator[str]:
    """The ids of all runs that were ever said to answer these branches, whoever asked for them first."""
    for one in experiments_in(_readable(project, folds, "experiments/")):
        if one.experiment.branch in branches:
            yield from filter(None, one.experiment.answer.values())


def _readable(project: Project, folds: Iterable[FoldFacts], folder: str) -> Iterator[Entry]:
    """The entries of a folder as far as they can be read; that all of them can is for the audit to say."""
    placed = {
        one.object_id: one.path
        for fold in folds
        for one in fold.changes or ()
        if one.path.startswith(folder) and adds_entry(fold, one)
    }
    ids = list(placed)
    for start in range(0, len(ids), _AT_ONCE):
        for object_id, data in read_objects(project.repository, ids[start : start + _AT_ONCE]).items():
            with suppress(IntegrityError):
                yield read_envelope(data or b"", placed[object_id])


def _entries(project: Project, chain: _Chain) -> Iterator[list[Entry]]:
    """The entries of the chain in fold order, some at a time: they are judged as they come, and none is kept."""
    waiting: list[tuple[FoldFacts, Sequence[Change]]] = []
    for fold in chain.folds:
        changes = _in_fold_order(project, fold)
        for start in range(0, max(1, len(changes)), _AT_ONCE):  # a fold without any is judged, too
            waiting.append((fold, changes[start : start + _AT_ONCE]))
            if sum(len(some) for _, some in waiting) >= _AT_ONCE:
                yield _read(project, chain, waiting)
                waiting = []
    yield _read(project, chain, waiting)


def _read(project: Project, chain: _Chain, some: Sequence[tuple[FoldFacts, Sequence[Change]]]) -> list[Entry]:
    wanted = [one.object_id for fold, changes in some for one in changes if adds_entry(fold, one)]
    blobs = read_objects(project.repository, wanted)
    found = [entry for fold, changes in some for entry in chain.audit.take(fold, changes, blobs)]
    return sorted(found, key=lambda entry: entry.order)


def _in_fold_order(project: Project, fold: FoldFacts) -> Sequence[Change]:
    """What a fold changes. Where that is read in parts, in the order of its entries: an epoch has those of many folds.

    What says no order, no fold wrote: where it stands is of no account.
    """
    changes = fold.changes or ()
    if len(changes) <= _AT_ONCE:
        return changes
    order: dict[str, tuple[int, str]] = {}
    for start in range(0, len(changes), _AT_ONCE):
        some = {one.object_id: one.path for one in changes[start : start + _AT_ONCE] if adds_entry(fold, one)}
        for object_id, data in read_objects(project.repository, some).items():
            number = _NUMBER.match(data or b"")
            if number:
                order[some[object_id]] = (int(number[1]), some[object_id][-_NAME_LENGTH:])
    return sorted(changes, key=lambda one: order.get(one.path, (0, one.path)))


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
            why = in_a_line(error)
        else:
            why = "" if signed else f"is not signed by anybody whom index.erasers of {project.base} names"
    if why:
        message = f"begins epoch {epoch.number}, which is not sanctioned: {why}"
        yield Finding("chain", "fold", "index", first, message, RESTORE)


def _derived(project: Project, tip: str, chain: _Chain, summary: Summary) -> Iterator[Finding]:
    """Are the summary and the first page of the index what its entries give?"""
    if chain.findings or chain.audit.findings or chain.audit.newer:
        return  # of entries that are not all read, they cannot be made
    names = {path: f"{tip}:{path}" for path in (SUMMARY_FILE, PAGE_FILE)}
    ids = object_ids(project.repository, names.values())
    read = read_objects(project.repository, filter(None, ids.values()))
    held = {path: read.get(ids[name] or "") for path, name in names.items()}
    if all(data is None for data in held.values()):
        return  # an index from before there were any
    made = derived_files({**summary, "epoch": epoch_number(project, tip)})
    for path, data in made.items():
        if held[path] != data:
            message = f"{path}: is not what this version of cd4ml makes of the entries"
            # the page is for people, and another version may word it otherwise; folds count by the summary
            fault = path == SUMMARY_FILE
            yield Finding("edited", "index", "index", path, message, RESTORE, fault)


# ── records ──


class _Reading:
    """Takes the entries of the chain as they come, and keeps of each what is to be known when all have come.

    ``promises`` are of the runs that are asked for, ``commits`` their result commits, ``records`` how many entries
    are; ``summary`` is made from all entries, as ``references`` are.
    """

    def __init__(self, project: Project, scope: Scope, chain: _Chain, watch: Watch, answering: Collection[str]) -> None:
        self.references = References()
        self.promises = Promises(chain.removals)
        self.findings: list[Finding] = []
        self.commits: dict[str, str] = {}
        self.records = 0
        self.summary = empty()
        self._project, self._watch = project, watch
        self._trees = Trees(project.repository)
        self._names, self._unknown, self._branches = scope.runs, set(scope.runs), set[str]()
        self._answering = answering
        self._answered: set[str] = set()
        self._done, self._count = 0, chain.count

    def take(self, entries: Sequence[Entry]) -> None:
        """Judge the landed commits of entries, given in fold order."""
        self._watch(f"checking records: {self._done} of {self._count}")
        self._done += len(entries)
        self._summarise(entries)
        for entry in entries:
            self.references.take(entry)
        wanted = [entry for entry in entries if self._is_wanted(entry.record)]
        self.records += len(wanted)
        self._judge([(LANDING + entry.record.id, entry.result_commit, entry) for entry in wanted])

    def take_waiting(self, landing: Mapping[str, str]) -> None:
        """The same for what has landed and waits to be folded, by ref."""
        waiting = sorted(landing.items())
        for start in range(0, len(waiting), _AT_ONCE):
            self._watch(f"checking records that wait to be folded: {start} of {len(waiting)}")
            self._judge([(ref, commit, None) for ref, commit in waiting[start : start + _AT_ONCE]])

    def check_names(self) -> None:
        """Raises UsageError for a name that was asked for and that no run has."""
        for name in self._names:
            if name in self._unknown:
                near = get_close_matches(name, sorted(self._branches), n=1)
                hint = f" (did you mean {near[0]}?)" if near else ""
                raise UsageError(f"{name}: no run of the index has that name{hint}")

    def _is_wanted(self, record: Record) -> bool:
        if not self._names:
            return True
        if isinstance(record, RunRecord | ExperimentRecord):
            self._branches.add(record.branch)
        named = {name for name in self._names if _is_named(record, name)}
        self._unknown -= named
        return bool(named) or record.id in self._answering

    def _summarise(self, entries: Sequence[Entry]) -> None:
        runs = [entry.record for entry in entries if isinstance(entry.record, RunRecord) and entry.record.succeeded]
        fingerprints = {run.fingerprint for run in runs}
        self.summary = grown(self.summary, entries, frozenset(fingerprints & self._answered))
        self._answered |= fingerprints

    def _judge(self, some: Sequence[tuple[str, str, Entry | None]]) -> None:
        read = landed_facts(self._project, self._trees, some)
        for (ref, commit, entry), (facts, record) in zip(some, read, strict=True):
            if entry is not None:
                self.findings += audit_landed(entry, entry_path(entry.record), facts)
            else:
                self.findings += audit_landing(ref, facts, commit)
            if isinstance(record, RunRecord):
                self.commits[record.id] = commit
                self.promises.take(record, commit, pins_of(record, facts.files))
        self._trees.forget()


def _is_named(record: Record, name: str) -> bool:
    if isinstance(record, RunRecord):
        return record.branch == name or record.id.startswith(name) or record.fingerprint.startswith(name)
    if isinstance(record, ExperimentRecord):
        return record.branch == name or record.id.startswith(name)
    return record.id.startswith(name)
