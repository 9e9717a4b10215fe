"""From landed refs to index entries: what a fold takes in, and the files that it writes.

Pure: what has landed goes in, a plan of one commit comes out. Given the same landed refs, in any order,
every reconciler plans the same files, so whoever loses the race to push has nothing left to do.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from cd4ml.errors import IntegrityError
from cd4ml.index.record import RECORD_PATH, Entry, Record, RunRecord, encode
from cd4ml.index.relied_on import check_stored
from cd4ml.index.validate import MAX_BYTES, MAX_DEPTH, NewerSchemaError, check_shape, parse_object, validate_body

LANDING_PREFIX = "refs/cd4ml/landing/"
"""One ref below this for every record that has landed and is not yet folded."""

_LANDING_REF = re.compile(re.escape(LANDING_PREFIX) + r"[a-z][0-9a-f]{20}")

RESULT_FILES = frozenset({RECORD_PATH, "params.yaml", "dvc.yaml", "dvc.lock"})
RESULT_FOLDER = "artifacts/evaluate/"
"""What a result commit may change in the tree of the commit that was run; the rest is the source's own."""

ENTRY_FOLDERS = ("runs/", "experiments/", "removals/", "imports/")
"""Where the index holds entries; whatever else lies in it is made from them."""

# An envelope indents the record once more, one space for each line of it.
_MAX_ENVELOPE = 2 * MAX_BYTES + 65536


@dataclass(frozen=True)
class Landed:
    """A landing ref, read: ``commit`` is what it points to and ``parents`` that commit's parents.

    ``tree_changes`` are the paths in which its tree differs from its first parent's; ``data`` the bytes of
    ``RECORD_PATH`` in it (empty when there is no such file); ``committer`` is ``Name <address>``.
    """

    ref: str
    commit: str
    parents: tuple[str, ...]
    tree_changes: tuple[str, ...]
    data: bytes
    committer: str


@dataclass(frozen=True)
class FoldPlan:
    """One commit on the index branch, and the landing refs that go with it.

    ``files`` are to be written beside what the branch holds; ``parents`` are the landed commits that become
    additional parents, in the order of ``entries``. ``folded_refs`` may be dropped in the same push: what
    they hold is in ``files`` or was in the index before. ``refused`` and ``untouched`` (a later version's
    records) stay where they are; each comes with a reason of one line.
    """

    entries: tuple[Entry, ...]
    files: Mapping[str, bytes]
    parents: tuple[str, ...]
    folded_refs: tuple[str, ...]
    refused: tuple[tuple[str, str], ...] = ()
    untouched: tuple[tuple[str, str], ...] = ()


def landing_ref(record_id: str) -> str:
    """The ref under which the record of that id lands."""
    return LANDING_PREFIX + record_id


def names_record(ref: str) -> bool:
    """Is it a ref under which a record can land? What lies under any other name is not looked at."""
    return _LANDING_REF.fullmatch(ref) is not None


def check_landed(landed: Landed) -> Record:
    """The record of a landed ref, when ref, commit, tree and record agree.

    Raises IntegrityError with one line that says what is wrong, NewerSchemaError for a later version's.
    """
    body = parse_object(landed.data, "record")
    record = validate_body(body)
    _check_ref(landed, record)
    if landed.data != encode(body):
        raise IntegrityError("record: not written in the canonical form")
    _check_commit(landed, record)
    return record


def check_known(landed: Landed, record: Record) -> None:
    """The same where ``landed.data`` are the bytes of this record, which an entry was read as. Raises the same."""
    check_shape(record.body)
    _check_ref(landed, record)
    _check_commit(landed, record)


def _check_ref(landed: Landed, record: Record) -> None:
    if landed.ref != landing_ref(record.id):
        raise IntegrityError(f"record: id: {record.id} does not land under this ref")


def _check_commit(landed: Landed, record: Record) -> None:
    if landed.parents != (record.commit,):
        raise IntegrityError(f"record: commit: {record.commit} is not the sole parent of {landed.commit}")
    if RECORD_PATH not in landed.tree_changes:
        raise IntegrityError(f"record: {landed.commit} does not add {RECORD_PATH}")
    allowed = _in_result if isinstance(record, RunRecord) else _in_experiment
    foreign = sorted(path for path in landed.tree_changes if not allowed(path))
    if foreign:
        raise IntegrityError(f"record: {landed.commit} changes {foreign[0]!a}, which is the source's")


def _in_result(path: str) -> bool:
    return _in_experiment(path) or path in RESULT_FILES or path.startswith(RESULT_FOLDER)


def _in_experiment(path: str) -> bool:
    """A file of the source in place of the record's folder gives way to it."""
    return path in (RECORD_PATH, RECORD_PATH.split("/")[0])


def fold(known_ids: Collection[str], landed: Iterable[Landed], number: int) -> FoldPlan:
    """Plan the fold commit of that number (1 for the first) over what has landed.

    A record whose id is known only gives up its ref. Nothing that one ref holds can stop the others, and nothing is
    taken that could not be read again.
    """
    taken: dict[str, Entry] = {}
    folded: set[str] = set()
    refused: dict[str, str] = {}
    untouched: dict[str, str] = {}
    for one in sorted(landed, key=lambda one: (one.ref, one.commit)):
        try:
            record = check_landed(one)
            entry = Entry(record, hashlib.sha256(one.data).hexdigest(), one.commit, one.committer, number)
            parse_envelope(encode_envelope(entry), entry_path(record))
        except NewerSchemaError as error:
            untouched[one.ref] = str(error)
        except IntegrityError as error:
            refused[one.ref] = str(error)
        else:
            folded.add(one.ref)
            if record.id not in known_ids and record.id not in taken:
                taken[record.id] = entry
    entries = tuple(sorted(taken.values(), key=lambda entry: entry.order))
    return FoldPlan(
        entries=entries,
        files={entry_path(entry.record): encode_envelope(entry) for entry in entries},
        parents=tuple(dict.fromkeys(entry.result_commit for entry in entries)),
        folded_refs=tuple(sorted(folded)),
        refused=tuple(sorted(refused.items())),
        untouched=tuple(sorted(untouched.items())),
    )


def less(plan: FoldPlan, known_paths: Collection[str]) -> FoldPlan:
    """The plan without the entries that the index holds at these paths; their refs go all the same."""
    entries = tuple(entry for entry in plan.entries if entry_path(entry.record) not in known_paths)
    return replace(
        plan,
        entries=entries,
        files={path: data for path, data in plan.files.items() if path not in known_paths},
        parents=tuple(dict.fromkeys(entry.result_commit for entry in entries)),
    )


def not_erased(plan: FoldPlan, erased: Collection[str]) -> FoldPlan:
    """The plan without the entries of records that were erased, by id; their refs go all the same."""
    return less(plan, [entry_path(entry.record) for entry in plan.entries if entry.record.id in erased])


def entry_path(record: Record) -> str:
    """Where the index holds the record: runs by fingerprint, so that those of one stand together."""
    fingerprint = record.fingerprint if isinstance(record, RunRecord) else ""
    return stored_path(record.body["kind"], record.id, fingerprint)


def stored_path(kind: str, record_id: str, fingerprint: str) -> str:
    """The same for a record that is known by name alone; the fingerprint is a run's."""
    if kind == "run":
        # one folder deep: what Git looks at for each push grows with the number of folders
        return f"runs/{fingerprint[:2]}/{fingerprint}-{record_id}.json"
    return f"{kind}s/{record_id[1:3]}/{record_id}.json"


def run_folder(path: str) -> str:
    """What the paths of all runs of one fingerprint begin with, from the path of one of them; ``""`` of no run."""
    return path.rpartition("-")[0] if path.startswith("runs/") else ""


def encode_envelope(entry: Entry) -> bytes:
    """The bytes under which the index holds an entry."""
    return encode(
        {
            "record_sha256": entry.record_sha256,
            "result_commit": entry.result_commit,
            "landed_by": entry.landed_by,
            "fold": entry.fold,
            "record": entry.record.body,
        }
    )


def parse_envelope(data: bytes, path: str) -> Entry:
    """The entry that the index holds at ``path``.

    Raises IntegrityError when bytes, digest, id or path do not agree or the record lacks what readers rely on,
    and NewerSchemaError for a later version's record; both begin with the path.
    """
    try:
        return _parse_envelope(data, path)
    except NewerSchemaError as error:
        raise NewerSchemaError(path, error.schema) from None
    except IntegrityError as error:
        raise IntegrityError(f"{path}: {error}") from None


def _parse_envelope(data: bytes, path: str) -> Entry:
    envelope = parse_object(data, "envelope", _MAX_ENVELOPE, MAX_DEPTH + 1)
    body = _field(envelope, "record", lambda value: isinstance(value, dict), "an object")
    sha256 = _field(envelope, "record_sha256", _is_hex(64), "a SHA-256 digest")
    result_commit = _field(envelope, "result_commit", _is_hex(40), "a commit")
    landed_by = _field(envelope, "landed_by", lambda value: isinstance(value, str), "text")
    number = _field(envelope, "fold", _is_positive, "a number from 1")
    if hashlib.sha256(encode(body)).hexdigest() != sha256:
        raise IntegrityError("record_sha256: is not the digest of the record")
    record = check_stored(body)
    if entry_path(record) != path:
        raise IntegrityError(f"record {record.id} belongs at {entry_path(record)}")
    return Entry(record, sha256, result_commit, landed_by, number)


def _field(envelope: Mapping[str, Any], name: str, fits: Callable[[Any], bool], expected: str) -> Any:
    value = envelope.get(name)
    if not fits(value):
        raise IntegrityError(f"envelope: {name}: is not {expected}")
    return value


def _is_hex(length: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and len(value) == length and set(value) <= set("0123456789abcdef")


def _is_positive(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
