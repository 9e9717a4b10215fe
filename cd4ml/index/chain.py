"""The chain of fold commits: what one more commit may do to the index, and what the remote's index has become.

Pure: commits, and what they hold, go in; what is wrong with them comes out, naming the commit and the file. The chain
only ever grows. A fold adds entries, each made from a landed commit that is among its parents and that a fold would
take, all under the next number; what is there stays as it is. The files made from the entries may change, but the
count of folds is always there, and right.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from cd4ml.errors import IntegrityError
from cd4ml.index.envelope import read_envelope
from cd4ml.index.fold import (
    ENTRY_FOLDERS,
    Landed,
    check_landed,
    encode_envelope,
    entry_path,
    landing_ref,
    parse_envelope,
)
from cd4ml.index.proven import check_proven, same_entry
from cd4ml.index.record import RECORD_PATH, Entry, as_record
from cd4ml.index.validate import NewerSchemaError, parse_object

PLAIN_FILE = "100644"


class Damage(StrEnum):
    """What has become of the remote's index or its landed records."""

    DELETED = "deleted"
    MOVED_BACK = "moved back"
    REWRITTEN = "rewritten"
    FORGED = "forged"
    WIPED = "wiped"
    NOT_BEGUN = "not begun"  # the remote never had one, and this repository has one of its own


@dataclass(frozen=True)
class Touched:
    """A file in which a fold commit differs from the one before it.

    ``status`` is Git's letter (``A`` added, ``M``, ``D``, ``T``); ``data`` are the bytes that it holds now, nothing
    where they were not read.
    """

    path: str
    status: str
    mode: str
    data: bytes | None = None

    @property
    def is_entry(self) -> bool:
        return self.path.startswith(ENTRY_FOLDERS)


@dataclass(frozen=True)
class FoldCommit:
    """A commit of the index branch.

    ``landed`` are the landed commits among its parents, by commit. ``begins`` says that no commit of the index lies
    before it: it is the first fold, or the first of an epoch, and may hold entries of several folds.
    ``says_epoch``: its message says that it begins an epoch.
    """

    commit: str
    touched: tuple[Touched, ...]
    landed: Mapping[str, Landed] = field(default_factory=dict)
    begins: bool = False
    says_epoch: bool = False


@dataclass(frozen=True)
class Forgery:
    """A commit that does what no fold does: which file of it, and what is wrong there."""

    fold: str
    file: str
    message: str

    def __str__(self) -> str:
        return f"commit {self.fold[:12]}: {self.file}: {self.message}"


@dataclass(frozen=True)
class Checked:
    """How far a chain is sound.

    ``tip`` is the last commit that is (the one that the check began from, if none is), ``number`` the number of the
    fold that it ends with; ``forgery`` what the commit after it does.
    """

    tip: str | None
    number: int | None
    forgery: Forgery | None = None


def check_chain(
    folds: Sequence[FoldCommit], tip: str | None, number: int | None, *, summary: str, holds: Callable[[str, str], bool]
) -> Checked:
    """Go along a chain, oldest first, from the commit ``tip`` whose last fold has this number (nothing: unknown).

    ``summary`` is the path of the derived file that counts the folds; ``holds(commit, path)`` looks into a commit.
    """
    for fold in folds:
        try:
            number = _check(fold, number, summary, holds)
        except _ForgedError as found:
            return Checked(tip, number, Forgery(fold.commit, found.file, found.message))
        tip = fold.commit
    return Checked(tip, number)


class _ForgedError(Exception):
    def __init__(self, file: str, message: str) -> None:
        self.file, self.message = file, message
        super().__init__(file, message)


def _check(fold: FoldCommit, number: int | None, summary: str, holds: Callable[[str, str], bool]) -> int | None:
    """The number of the chain's last fold after this commit. Raises _ForgedError."""
    if fold.says_epoch and not fold.begins:
        raise _ForgedError("its message", "says that it begins an epoch, and it follows another fold")
    if any(one.path == RECORD_PATH for one in fold.touched):
        raise _ForgedError(RECORD_PATH, "belongs in a landed commit, not in the index")
    entries = [one for one in fold.touched if one.is_entry]
    for one in entries:
        if one.status != "A":
            raise _ForgedError(one.path, _DONE_TO_IT.get(one.status, "was changed"))
        if one.mode != PLAIN_FILE:
            raise _ForgedError(one.path, "is no plain file")
    numbers = {one.path: _check_entry(one, fold.landed) for one in entries}
    _check_dropped(fold, {commit for commit, _ in numbers.values()}, holds)
    after = _next_number(fold, {path: given for path, (_, given) in numbers.items()}, number)
    counted = next((one for one in fold.touched if one.path == summary), None)
    if counted is not None:
        _check_count(counted, after)
    elif entries and not fold.begins and holds(fold.commit, summary):
        raise _ForgedError(summary, "does not count this fold")
    return after


_DONE_TO_IT = {"M": "was edited", "D": "was deleted", "T": "was replaced by something that is no file"}


def _check_entry(one: Touched, landed: Mapping[str, Landed]) -> tuple[str, int]:
    """The landed commit that proves an added entry, and the number that it bears. Raises _ForgedError."""
    try:
        envelope = json.loads(one.data or b"")
        commit, number = str(envelope["result_commit"]), envelope["fold"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _ForgedError(one.path, "is no entry of an index") from None
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise _ForgedError(one.path, "bears no number of a fold")
    if commit not in landed:
        raise _ForgedError(one.path, "was added without its landed commit")
    if _is_as_folded(one, landed[commit]):
        return commit, number
    if one.data != _as_folded(landed[commit], number, one.path):
        raise _ForgedError(one.path, f"is not the record that landed as {commit[:12]}")
    return commit, number


def _is_as_folded(one: Touched, landed: Landed) -> bool:
    """Does it hold what a fold makes of the landed commit, to the byte, and would a fold take that?

    As most do; of others, ``_as_folded`` says what is wrong with them.
    """
    try:
        entry = read_envelope(one.data or b"", one.path)
        if not same_entry(landed, entry, one.data or b""):
            return False
        check_proven(replace(landed, ref=landing_ref(entry.record.id)), entry)
    except (IntegrityError, ValueError):
        return False
    return True


def _as_folded(landed: Landed, number: int, path: str) -> bytes:
    """The envelope that a fold of that number makes of a landed commit. Raises _ForgedError."""
    import hashlib

    body = _body(landed)
    if body is None:
        raise _ForgedError(path, f"names {landed.commit[:12]}, which holds no record")
    sha256 = hashlib.sha256(landed.data).hexdigest()
    try:
        data = encode_envelope(Entry(as_record(body), sha256, landed.commit, landed.committer, number))
        belongs = _place(landed, body)
    except NewerSchemaError:
        belongs = path
    except (IntegrityError, ValueError) as error:
        raise _ForgedError(path, f"no fold takes {landed.commit[:12]}: {error}") from None
    if belongs != path:
        raise _ForgedError(path, "is not where its record belongs")
    try:
        parse_envelope(data, path)
    except NewerSchemaError:
        pass
    except IntegrityError as error:
        raise _ForgedError(path, f"cannot be read: {str(error).removeprefix(f'{path}: ')}") from None
    return data


def _place(landed: Landed, body: Mapping[str, Any]) -> str:
    """Where the entry of a landed commit belongs that a fold would take. Raises IntegrityError as the fold does."""
    return entry_path(check_landed(replace(landed, ref=landing_ref(str(body.get("id"))))))


def _body(landed: Landed) -> dict[str, Any] | None:
    try:
        body = parse_object(landed.data, "record")
    except IntegrityError:
        return None
    return body if isinstance(body.get("kind"), str) else None


def _check_dropped(fold: FoldCommit, used: set[str], holds: Callable[[str, str], bool]) -> None:
    """A parent without an entry is a landed commit whose record the index holds; behind any other, one may hide."""
    for commit in sorted(fold.landed.keys() - used):
        body = _body(fold.landed[commit])
        try:
            path = _place(fold.landed[commit], body) if body is not None else ""
        except IntegrityError:
            path = ""
        if not path:
            raise _ForgedError("its parents", f"{commit[:12]} is none of the landed commits of its entries")
        if not holds(fold.commit, path):
            raise _ForgedError(path, f"is missing, though {commit[:12]}, which holds it, was taken in")


def _next_number(fold: FoldCommit, numbers: Mapping[str, int], number: int | None) -> int | None:
    if not numbers:
        return number
    if fold.begins:
        return max(numbers.values())
    wanted = number + 1 if number is not None else min(numbers.values())
    for path, given in sorted(numbers.items()):
        if given != wanted:
            raise _ForgedError(path, f"bears the number {given} of a fold, and {wanted} is next")
    return wanted


def _check_count(summary: Touched, number: int | None) -> None:
    """The next fold takes its number from there."""
    if summary.status == "D":
        raise _ForgedError(summary.path, "was deleted")
    try:
        folds = json.loads(summary.data or b"")["folds"]
    except (ValueError, KeyError, TypeError, RecursionError):
        folds = None
    if not isinstance(folds, int) or isinstance(folds, bool):
        raise _ForgedError(summary.path, "does not say how many folds there are")
    if number is not None and folds != number:
        raise _ForgedError(summary.path, f"counts {folds} folds where there are {number}")
