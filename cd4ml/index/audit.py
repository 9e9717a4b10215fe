"""Is what the index holds what was written? Findings from facts; nothing is read here.

Two questions, each by itself: does the chain of folds only add, in order, what landed (``ChainAudit``); and does each
landed commit hold the record that the index has of it, and is it the commit that the record speaks of
(``audit_landed``, ``audit_run``). ``promised`` asks what records say of each other, and of stored objects. An index
may hold more records than fit into memory: each question can be asked of some of them after the other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from cd4ml.errors import ConfigError, IntegrityError
from cd4ml.index.envelope import read_envelope
from cd4ml.index.fold import ENTRY_FOLDERS, Landed, check_landed
from cd4ml.index.proven import check_proven
from cd4ml.index.record import Entry, RunRecord
from cd4ml.index.rendered import read_rendered
from cd4ml.index.retention import OUTPUTS
from cd4ml.index.validate import NewerSchemaError
from cd4ml.spec.fingerprint import code_digest, data_digest
from cd4ml.spec.pin import Pin, parse_pin
from cd4ml.spec.pipeline import LOCK_FILE, METRICS, MODEL, PARAMS_FILE, pin_path

DERIVED_FILES = frozenset({"README.md", "summary.json"})
"""What a fold may change besides adding entries: it is made from them."""

INDEX = "cd4ml/index"
RESTORE = "cd4ml restore"
REPAIR = "cd4ml verify --repair"
_SHOWN = 12
_LARGEST_PIN_KEPT = 64 << 10

Kind = Literal["missing", "damaged", "edited", "chain", "unproven", "erased"]
What = Literal["run", "record", "object", "commit", "fold", "ref", "index"]
Place = Literal["index", "git", "git remote", "cache", "remote"]


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it was written.

    ``kind`` says what is wrong: it is *missing*, its bytes are *damaged*, it was *edited* after it was written, the
    *chain* of folds was, it is *unproven*: what it depends on cannot be read, or it was *erased* and is stored
    still. ``what`` it is, ``where`` names it
    (a path of the index, a ref, a commit, the MD5 or id of an object, a run's id), and ``place`` says which copy is
    meant: the index's content, Git's objects here or on the remote, DVC's cache or remote. ``cure`` is what to do.
    A finding that is no ``fault`` costs nothing but a download. ``runs`` are ids of those that need it.
    """

    kind: Kind
    what: What
    place: Place
    where: str
    message: str
    cure: str
    fault: bool = True
    runs: tuple[str, ...] = ()

    @property
    def order(self) -> tuple[bool, str, str, str, str]:
        """Faults first, then by place, what, name and message."""
        return (not self.fault, self.place, self.what, self.where, self.message)


# ── the chain of folds ──


@dataclass(frozen=True)
class Change:
    """A path in which two trees differ: ``status`` is Git's letter, ``mode`` and ``object_id`` those of the newer."""

    status: str
    mode: str
    object_id: str
    path: str


@dataclass(frozen=True)
class FoldFacts:
    """A commit of the chain, and what its tree changes over the fold before (over nothing, for the first).

    ``changes`` is nothing when its trees cannot be read. ``epoch`` says that it is the first commit of a new epoch,
    which carries entries of earlier folds over; its ``parents`` are then those of the commits that bundle them, too.
    """

    commit: str
    parents: tuple[str, ...]
    changes: tuple[Change, ...] | None
    epoch: bool = False


@dataclass(frozen=True, slots=True)
class _Taken:
    """What one file of a fold says: its record's id and its landed commit."""

    record_id: str
    result_commit: str
    fold: int
    path: str


class ChainAudit:
    """Goes along a chain, oldest fold first, and keeps what it has to know of the ones before.

    Each adds entries and nothing else (derived files aside), under the next number, none twice; and its parents are
    the fold before and then the landed commits of what it adds, in their order. Where the chain is not ``whole``,
    since what came before the first one cannot be read, numbers count from the one that this says.

    ``newer`` are ids of records that a later version wrote; ``findings`` are complete after ``end``.
    """

    def __init__(self, *, whole: bool = True) -> None:
        self.newer: set[str] = set()
        self.findings: list[Finding] = []
        self._whole = whole
        self._known: dict[str, str] = {}
        self._entered: set[str] = set()
        self._number: int | None = 0 if whole else None
        self._fold: FoldFacts | None = None
        self._first = True
        self._taken: list[_Taken] = []

    @property
    def ids(self) -> frozenset[str]:
        """Ids of the entries, without those in ``newer``."""
        return frozenset(self._entered)

    def take(self, fold: FoldFacts, changes: Sequence[Change], blobs: Mapping[str, bytes | None]) -> Iterator[Entry]:
        """The entries that some changes of a fold add, each when it is there for the first time.

        All changes of a fold, in any number of parts, are taken before those of the next.
        """
        if fold is not self._fold:
            self.end()
            self._fold = fold
        for change in changes:
            read = _taken(fold, change, blobs, self.findings)
            if read is None:
                continue
            one, entry = read
            self._taken.append(one)
            self.findings += _second(one, self._known)
            self._known.setdefault(one.record_id, one.path)
            if entry is None:
                self.newer.add(one.record_id)
            elif entry.record.id not in self._entered:
                self._entered.add(entry.record.id)
                yield entry

    def end(self) -> None:
        """Judge the last fold as a whole."""
        fold, taken = self._fold, self._taken
        self._fold, self._taken = None, []
        if fold is None:
            return
        begins = self._first and self._whole
        self._first = False
        if fold.changes is None:
            self.findings.append(_chain(fold.commit, "what it changes cannot be read", kind="unproven", cure=REPAIR))
            self._number = None
            return
        self._number = _numbered(fold, taken, self._number, self.findings)
        if len(taken) == sum(change.path.startswith(ENTRY_FOLDERS) for change in fold.changes):
            # with a file that cannot be read, what its parents should be is not known
            self.findings += _parents(fold, taken, begins=begins)


def _numbered(fold: FoldFacts, taken: Sequence[_Taken], before: int | None, found: list[Finding]) -> int | None:
    """The number of the last fold after this commit."""
    if not taken:  # a fold of which nothing can be read counts all the same
        adds = any(change.path.startswith(ENTRY_FOLDERS) and change.status == "A" for change in fold.changes or ())
        return before + 1 if adds and before is not None else before
    if fold.epoch:
        return max(one.fold for one in taken)
    number = before + 1 if before is not None else min(one.fold for one in taken)
    for one in taken:
        if one.fold != number:
            message = f"says that fold {one.fold} took it in, and stands in fold {number}: the chain was rewritten"
            found.append(Finding("chain", "record", "index", one.path, message, RESTORE))
    return number


def _taken(
    fold: FoldFacts, change: Change, blobs: Mapping[str, bytes | None], found: list[Finding]
) -> tuple[_Taken, Entry | None] | None:
    """The entry that a fold adds there (nothing for a later version's); what else it does goes to ``found``."""
    if change.path in DERIVED_FILES:
        return None
    problem = _is_addition(fold, change)
    if problem:
        found.append(problem)
        return None
    data = blobs.get(change.object_id)
    if data is None:
        message = f"its bytes (object {change.object_id}) cannot be read"
        found.append(Finding("unproven", "record", "index", change.path, message, REPAIR))
        return None
    try:
        return _read(data, change.path)
    except IntegrityError as error:
        message = str(error).removeprefix(f"{change.path}: ")
        found.append(Finding("edited", "record", "index", change.path, message, RESTORE))
        return None


def adds_entry(fold: FoldFacts, change: Change) -> bool:
    """Does the fold add an entry there, as a fold does?"""
    return change.path not in DERIVED_FILES and _is_addition(fold, change) is None


_CURE_OF_FOREIGN = "none is needed, as cd4ml does not read it; a plain commit may delete it again"


def _is_addition(fold: FoldFacts, change: Change) -> Finding | None:
    if not change.path.startswith(ENTRY_FOLDERS):
        # as for whoever fetches (index/chain): what is no entry is read by nobody
        message = f"changes {change.path!a}, which is no entry"
        return Finding("chain", "fold", "index", fold.commit, message, _CURE_OF_FOREIGN, fault=False)
    if change.status == "D":
        message = f"was dropped by {fold.commit[:_SHOWN]}: an entry stays for good"
        return Finding("chain", "record", "index", change.path, message, RESTORE)
    if change.status != "A":
        message = f"was rewritten by {fold.commit[:_SHOWN]}: an entry never changes"
        return Finding("chain", "record", "index", change.path, message, RESTORE)
    if change.mode != "100644":
        message = f"has mode {change.mode} in {fold.commit[:_SHOWN]}: an entry is a plain file"
        return Finding("chain", "record", "index", change.path, message, RESTORE)
    return None


def _read(data: bytes, path: str) -> tuple[_Taken, Entry | None]:
    try:
        entry = read_envelope(data, path)
    except NewerSchemaError:
        told = json.loads(data)
        return _Taken(str(told["record"].get("id")), str(told["result_commit"]), int(told["fold"]), path), None
    return _Taken(entry.record.id, entry.result_commit, entry.fold, path), entry


def _second(one: _Taken, known: Mapping[str, str]) -> Iterator[Finding]:
    if one.record_id in known:
        message = f"holds {one.record_id} a second time: {known[one.record_id]} was first"
        yield Finding("chain", "record", "index", one.path, message, RESTORE)


def _parents(fold: FoldFacts, taken: Sequence[_Taken], *, begins: bool) -> Iterator[Finding]:
    landed = fold.parents if begins else fold.parents[1:]
    ordered = sorted(taken, key=lambda one: (one.fold, one.record_id))
    promised = tuple(dict.fromkeys(one.result_commit for one in ordered))
    if not taken and not fold.changes:
        yield _chain(fold.commit, "takes in no record, and changes nothing")
    for commit in promised:
        if commit not in landed:
            yield _chain(fold.commit, f"has an entry of {commit}, which is none of its parents")
    for commit in landed:
        if commit not in promised:
            yield _chain(fold.commit, f"has the parent {commit}, of which it has no entry: a record was dropped")
    if sorted(promised) == sorted(landed) and promised != landed:
        yield _chain(fold.commit, "its parents are not in the order of its entries")


def _chain(commit: str, message: str, *, kind: Kind = "chain", cure: str = RESTORE) -> Finding:
    return Finding(kind, "fold", "index", commit, message, cure)


# ── landed commits ──


@dataclass(frozen=True)
class LandedFacts:
    """A landed commit, read. ``landed`` is nothing when it (or its parent) cannot be; ``source_tree`` is the parent's.

    ``files`` are the bytes at the paths that ``paths_of`` names in it, nothing for what is not there; ``code`` the ids
    of what lies at the paths that the run's configuration calls its code.
    """

    landed: Landed | None
    source_tree: str
    files: Mapping[str, bytes | None]
    code: Mapping[str, str | None]


def paths_of(record: object) -> tuple[str, ...]:
    """The paths of a landed commit that ``audit_run`` looks at."""
    if not isinstance(record, RunRecord):
        return ()
    pins = [pin_path(name) for name in record.body["data"]]
    return tuple(dict.fromkeys((PARAMS_FILE, LOCK_FILE, *pins, *record.body["files"])))


def code_of(record: object) -> tuple[str, ...]:
    """The paths that a run's configuration calls its code."""
    listed = record.params.get("code") if isinstance(record, RunRecord) else None
    return tuple(path for path in listed if isinstance(path, str)) if isinstance(listed, list) else ()


def audit_landed(entry: Entry, path: str, facts: LandedFacts) -> Iterator[Finding]:
    """Does the landed commit hold the very record, as it lands, by whom the index says?

    ``entry`` is one that was read from the index, at ``path``.
    """
    found, record = facts.landed, entry.record
    if found is None:
        message = f"its landed commit {entry.result_commit} cannot be read"
        yield Finding("missing", "commit", "git", entry.result_commit, f"{path}: {message}", REPAIR, runs=_runs(record))
        return
    edited = _edits(path, _runs(record))
    if hashlib.sha256(found.data).hexdigest() != entry.record_sha256:
        yield edited(f"is not the record that {found.commit} holds: one of them was edited")
    if found.committer != entry.landed_by:
        yield edited(f"says that {entry.landed_by!a} landed it, and {found.commit} was made by {found.committer!a}")
    if found.parents[:1] != (record.commit,):
        yield edited(f"speaks of commit {record.commit}, and {found.commit} is no child of it")
    try:
        check_proven(found, entry)
    except IntegrityError as error:
        yield edited(f"{found.commit}: {error}")
    if isinstance(record, RunRecord):
        yield from audit_run(record, path, facts)


def audit_landing(ref: str, facts: LandedFacts, commit: str) -> Iterator[Finding]:
    """The same for a record that has landed and waits to be folded."""
    if facts.landed is None:
        message = f"points to {commit}, which cannot be read"
        yield Finding("missing", "ref", "git", ref, message, REPAIR)
        return
    try:
        record = check_landed(facts.landed)
    except NewerSchemaError:
        return
    except IntegrityError as error:
        cure = f"no fold will take it in; `git push REMOTE :{ref}` once you know whose it is"
        yield Finding("edited", "ref", "index", ref, str(error), cure)
        return
    if isinstance(record, RunRecord):
        yield from audit_run(record, ref, facts)


def audit_run(run: RunRecord, path: str, facts: LandedFacts) -> Iterator[Finding]:
    """Do the commit's tree, pins, code and rendered files carry the digests that the run's record states?"""
    edited = _edits(path, (run.id,))
    if facts.source_tree != run.body["tree"]:
        yield edited(f"states the tree {run.body['tree']}, and {run.commit} has {facts.source_tree}")
    for message in (*_of_pins(run, facts.files), *_of_code(run, facts.code), *_of_params(run, facts.files)):
        yield edited(message)
    if run.succeeded:
        for message in (*_of_files(run, facts.files), *_of_lock(run, facts.files), *_of_outcome(run, facts.files)):
            yield edited(message)


def _edits(path: str, runs: tuple[str, ...]) -> Callable[[str], Finding]:
    return lambda message: Finding("edited", "record", "index", path, message, RESTORE, runs=runs)


def _runs(record: object) -> tuple[str, ...]:
    return (record.id,) if isinstance(record, RunRecord) else ()


def pins_of(run: RunRecord, files: Mapping[str, bytes | None]) -> dict[str, Pin | None]:
    """The pins of a run by source; nothing for one that its commit does not hold, or that cannot be read."""
    pins: dict[str, Pin | None] = {}
    for name in run.body["data"]:
        path = pin_path(name)
        data = files.get(path)
        read = _pin_of if data is None or len(data) <= _LARGEST_PIN_KEPT else _pin_of.__wrapped__
        pins[name] = read(data, path)
    return pins


@lru_cache(500)
def _pin_of(data: bytes | None, path: str) -> Pin | None:
    """Runs share few pins: one that was read is kept in mind."""
    try:
        return parse_pin(data.decode("utf-8", "replace"), path) if data is not None else None
    except ConfigError:
        return None


def _of_pins(run: RunRecord, files: Mapping[str, bytes | None]) -> Iterator[str]:
    stated = run.body["data"]
    for name, pin in pins_of(run, files).items():
        if pin is None:
            yield f"{pin_path(name)}: is not in its commit, or is no pin"
        elif (pin.digest, pin.rows) != (stated[name]["digest"], stated[name]["rows"]):
            yield f"{pin_path(name)}: pins other data than data.{name} states"
    if data_digest({name: one["digest"] for name, one in stated.items()}) != run.components["data"]:
        yield "components.data does not follow from the digests that data states"


def _of_code(run: RunRecord, code: Mapping[str, str | None]) -> Iterator[str]:
    absent = [path for path, object_id in code.items() if object_id is None]
    if absent:
        yield f"{absent[0]!a}: is not in its commit, and counts as its code"
    elif code_digest({path.rstrip("/"): str(object_id) for path, object_id in code.items()}) != run.components["code"]:
        yield "components.code does not follow from the code in its commit"


def _of_params(run: RunRecord, files: Mapping[str, bytes | None]) -> Iterator[str]:
    rendered = read_rendered(files.get(PARAMS_FILE))
    if not isinstance(rendered, dict):
        yield f"{PARAMS_FILE}: is not in its result commit, or is no YAML"
        return
    differing = [key for key, value in run.params.items() if key not in rendered or rendered[key] != value]
    if differing:
        yield f"{PARAMS_FILE}: holds other values of {differing[0]!a} than params states"


def _of_files(run: RunRecord, files: Mapping[str, bytes | None]) -> Iterator[str]:
    """What the manifest names and Git holds: pins, metrics."""
    for path, stated in run.body["files"].items():
        data = files.get(path)
        if data is None:
            continue  # an object of DVC's
        found = (hashlib.sha256(data).hexdigest(), hashlib.md5(data, usedforsecurity=False).hexdigest(), len(data))
        if found != (stated["sha256"], stated["md5"], stated["bytes"]):
            yield f"{path}: holds other bytes in its result commit than files states"


def _of_lock(run: RunRecord, files: Mapping[str, bytes | None]) -> Iterator[str]:
    lock = read_rendered(files.get(LOCK_FILE))
    stages = lock.get("stages") if isinstance(lock, dict) else None
    if not isinstance(stages, dict):
        yield f"{LOCK_FILE}: is not in its result commit, or is no lock"
        return
    stated = run.body["files"]
    try:
        listed = [
            (one["path"], one.get("md5"), one.get("size"))
            for stage in stages.values()
            for one in (*(stage.get("deps") or ()), *(stage.get("outs") or ()))
        ]
    except (AttributeError, KeyError, TypeError):
        yield f"{LOCK_FILE}: is no lock"
        return
    wrong = [path for path, md5, size in listed if _md5_and_size(stated.get(path)) != (md5, size)]
    if wrong:
        yield f"{LOCK_FILE}: locks other bytes of {wrong[0]!a} than files states"
    absent = sorted({path for path in stated if path.startswith(OUTPUTS)} - {path for path, _, _ in listed})
    if absent:
        yield f"{LOCK_FILE}: does not lock {absent[0]!a}, which files states"


def _md5_and_size(stated: Mapping[str, Any] | None) -> tuple[Any, Any]:
    return (stated["md5"], stated["bytes"]) if stated else (None, None)


def _of_outcome(run: RunRecord, files: Mapping[str, bytes | None]) -> Iterator[str]:
    data = files.get(METRICS)
    try:
        measured = json.loads(data) if data is not None else None
    except (ValueError, RecursionError):
        measured = None
    if measured != run.body["metrics"]:
        yield f"{METRICS}: holds other values in its result commit than metrics states"
    model = run.body["files"].get(MODEL)
    if model is None or model["sha256"] != run.body["model"]["digest"]:
        yield f"model.digest is not the digest that files states of {MODEL}"
