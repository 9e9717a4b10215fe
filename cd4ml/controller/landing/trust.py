"""What this clone remembers of the remote's index, and whether what a fetch sees now follows from it.

Every verb that fetches does so here. What is accepted is remembered under refs of our own, so that Git keeps it and it
can be put back (``controller/care/restore``). A check costs what is new: nothing while the index stands still, and a
few reads for each new fold. A clone that remembers nothing accepts what there is, after a look at the newest folds.
What an earlier version accepted is looked at in the same way, once: it may have known less of what can be wrong.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Any

from cd4ml.controller.landing.landed import LARGEST_RECORD, erased_in, read_entries, read_landed
from cd4ml.controller.project import Project
from cd4ml.errors import IndexLostError, IntegrityError, RepositoryError, ToolError
from cd4ml.gateways.files import write_atomically
from cd4ml.gateways.git import HERE, INDEX_BRANCH, LANDING, Changed, Remembered, RemoteState
from cd4ml.gateways.git.chain import TRUSTED
from cd4ml.gateways.git.integrity import read_objects
from cd4ml.gateways.git.tree_changes import read_over_parents
from cd4ml.gateways.untrusted import parse_json
from cd4ml.index.chain import Checked, Damage, FoldCommit, Forgery, Touched, check_chain
from cd4ml.index.epoch import EPOCH_SUBJECT
from cd4ml.index.fold import ENTRY_FOLDERS, Landed, check_landed, entry_path
from cd4ml.index.record import RECORD_PATH
from cd4ml.index.validate import NewerSchemaError
from cd4ml.promotion.summary import SUMMARY_FILE

NEWEST = 20
"""So many folds a clone looks at that sees an index for the first time."""

_RULES = 2
"""Raised with every rule that ``check_chain`` has more: what was accepted under others is looked at again."""

_JUDGED = "judged.json"
"""In cd4ml's private folder: by remote, the rules by which its remembered index was accepted."""

_READ_AT_ONCE = 5000

_LOOKS = 3
"""Another fetch in this clone drops refs before it moves others: what is found amiss is looked at again."""
_BETWEEN_LOOKS = 0.1
_LARGEST_FILE = 4 * LARGEST_RECORD
_LOG = logging.getLogger("cd4ml")


@dataclass(frozen=True)
class Finding:
    """One thing that has become of the remote's index, in words that end no sentence."""

    damage: Damage
    message: str


@dataclass(frozen=True)
class Look:
    """What a fetch saw, held against what was remembered before it.

    ``remembered`` is this clone's memory; ``sound`` the newest commit of the index that follows from it without a
    fault (what to put back), and ``lost`` the landed commits that are on the remote no more, by full name of their ref.
    """

    state: RemoteState
    remembered: Remembered
    findings: tuple[Finding, ...] = ()
    sound: str | None = None
    lost: Mapping[str, str] = field(default_factory=dict)


def fetch(project: Project) -> RemoteState:
    """What the remote holds, for whoever records something.

    Side effects: those of ``Repository.fetch``, and refs under ``refs/cd4ml/trusted/``. Raises RemoteError, and
    IndexLostError, in one line, when the index is not what it was.
    """
    found = look(project)
    if found.findings:
        raise IndexLostError(warning(project, found))
    return found.state


def read(project: Project, *, quiet: bool = False) -> RemoteState:
    """The same for whoever only reads: where the index is not what it was, what this clone remembers is taken for it.

    That is logged as a warning, unless ``quiet``. Raises RemoteError.
    """
    return _readable(project, look(project), quiet=quiet)


def last_seen(project: Project) -> RemoteState:
    """The same of what the last fetch saw; no network."""
    repository = project.repository
    return _readable(project, judge(project, repository.remembered(project.remote), repository.last_seen()))


def _readable(project: Project, found: Look, *, quiet: bool = False) -> RemoteState:
    if not found.findings:
        return found.state
    if not quiet:
        _LOG.warning("%s; showing what this clone remembers", warning(project, found))
    heads = {name: commit for name, commit in found.state.heads.items() if name != INDEX_BRANCH}
    index = {INDEX_BRANCH: found.sound} if found.sound else {}
    landing = {**found.state.landing, **found.lost}
    return replace(found.state, heads={**heads, **index}, landing=landing, is_index_remembered=True)


def warning(project: Project, found: Look) -> str:
    """What was found, in one line that says what to do."""
    where = project.remote if project.has_remote else "this repository"
    told = "; ".join(finding.message for finding in found.findings)
    place = "there" if any(finding.damage is Damage.NOT_BEGUN for finding in found.findings) else "back"
    return f"{where}: {told}: nothing is recorded until `cd4ml restore` has put it {place}"


def look(project: Project, *, thorough: bool = False) -> Look:
    """Fetch, and judge what is seen; what is sound is remembered. Raises RemoteError.

    With ``thorough``, every entry of the remembered index is read first: one that no reader can read was forged.
    """
    repository = project.repository
    for attempt in range(_LOOKS):
        if attempt > 1:
            time.sleep(_BETWEEN_LOOKS)
        before = repository.remembered(project.remote)  # first: what others remember meanwhile is newer than the fetch
        found = judge(project, before, repository.fetch(project.remote), thorough=thorough)
        if not found.findings:
            _remember(project, before, Remembered(found.state.index, found.state.landing))
            if before.index is None and found.state.index:
                _tell_of_own(project, found.state.index)
            break
    return found


def _tell_of_own(project: Project, index: str) -> None:
    """Say once, when the remote's index is seen for the first time, that what was recorded before is not in it."""
    own = own_index(project)
    if own and not project.repository.is_ancestor(own, index):
        _LOG.warning(
            "%s: its index is followed from now on; what this repository recorded before it had a remote is not in it:"
            " `cd4ml restore` lands that, too",
            project.remote,
        )


def _remember(project: Project, before: Remembered, now: Remembered) -> None:
    if not project.repository.remember(project.remote, before, now):
        where = project.remote if project.has_remote else "this repository"
        _LOG.warning("%s: what it holds cannot be remembered: refs below %s do not move", where, TRUSTED)
    elif now.index is not None:
        set_judged(project)


def judge(project: Project, before: Remembered, state: RemoteState, *, thorough: bool = False) -> Look:
    """Hold what a fetch saw against what was remembered before it. Reads Git; no network, writes nothing."""
    known = _still_sound(project, before.index, thorough=thorough) or _tracked(project, state)
    findings: list[Finding] = []
    sound = state.index
    if known is None and state.index is None and (own := own_index(project)):
        known = sound = own
        told = _folds_at(project, own) or "some folds"
        findings.append(Finding(Damage.NOT_BEGUN, f"no index is there yet, and this repository has its own of {told}"))
    elif known is None:
        sound, findings = _newest_checked(project, state.index)
    elif state.index != known:
        begun = _sanctioned(project, state, known)
        if begun and state.index:
            checked = _checked(project, project.repository.first_parent_chain(state.index, begun), begun)
            sound, findings = checked.tip, _forged(checked)
        else:
            sound, findings = _moved(project, known, state.index)
    lost = _lost(project, before, state, sound)
    if lost:
        more = "records" if len(lost) > 1 else "record"
        findings.append(Finding(Damage.WIPED, f"{len(lost)} landed {more} vanished before being folded"))
    return Look(state, replace(before, index=known), tuple(findings), sound, lost)


def _still_sound(project: Project, known: str | None, *, thorough: bool) -> str | None:
    """The remembered tip, or the newest sound commit before it where it should not have been accepted."""
    if known is None:
        return None
    if thorough and not _is_readable(project, known):
        return check_newest(project, known, newest=0).tip
    return known if _judged(project) else check_newest(project, known).tip


def _is_readable(project: Project, tip: str) -> bool:
    try:
        read_entries(project, tip)
    except IntegrityError:
        return False
    return True


def _judged(project: Project) -> bool:
    """Was the remembered tip accepted by this version's rules?"""
    return _judged_by(project).get(project.remote) == _RULES


def _judged_by(project: Project) -> dict[str, Any]:
    try:
        told = parse_json((project.private / _JUDGED).read_bytes())
    except OSError:
        return {}
    return told if isinstance(told, dict) else {}


def set_judged(project: Project) -> None:
    """Note that the remembered index was accepted by this version's rules."""
    if not _judged(project):
        told = {**_judged_by(project), project.remote: _RULES}
        with suppress(OSError):  # a disk that is full: it is judged once more
            write_atomically(project.private / _JUDGED, json.dumps(told).encode())


def follow(project: Project, known: str | None, now: str) -> tuple[str | None, list[Finding]]:
    """The newest sound commit on the way from ``known`` to ``now``, and what is wrong with ``now``."""
    return _newest_checked(project, now) if known is None else _moved(project, known, now)


def _tracked(project: Project, state: RemoteState) -> str | None:
    """What plain Git knows of the index, for a clone in which cd4ml remembers nothing yet."""
    tracked = project.repository.tracked_index(project.remote)
    if state.index in tracked:
        return None  # it tells nothing of how what is there now came about
    return next((commit for commit in tracked if not _newest_checked(project, commit)[1]), None)


def own_index(project: Project) -> str | None:
    """The index that this repository made before it had a remote; nothing where it has none, or is one by itself."""
    return project.repository.remembered(HERE).index if project.has_remote else None


def _moved(project: Project, known: str, now: str | None) -> tuple[str, list[Finding]]:
    """The newest sound commit, and what is wrong when the tip is another one than the one that was remembered."""
    repository = project.repository
    if now is None:
        return known, [Finding(Damage.DELETED, f"the index {INDEX_BRANCH} was deleted, {_at(project, known)}")]
    if repository.is_ancestor(now, known):
        count = len(repository.first_parent_chain(known, now))
        folds = f"{count} fold{'s' * (count != 1)}"
        return known, [Finding(Damage.MOVED_BACK, f"the index {INDEX_BRANCH} was moved back by {folds}")]
    chain = repository.first_parent_chain(now, known) if repository.is_ancestor(known, now) else ()
    if not chain or chain[-1][1][:1] != (known,):
        told = f"the index {INDEX_BRANCH} was rewritten: it is not what was {_at(project, known)}"
        return known, [Finding(Damage.REWRITTEN, told)]
    checked = _checked(project, chain, known)
    return checked.tip or known, _forged(checked)


def _at(project: Project, commit: str) -> str:
    folds = _folds_at(project, commit)
    return f"last seen at {commit[:12]}" + (f" with {folds}" if folds else "")


def _folds_at(project: Project, commit: str) -> str:
    number = number_at(project, commit)
    return f"{number} fold{'s' * (number != 1)}" if number else ""


def _forged(checked: Checked) -> list[Finding]:
    if checked.forgery is None:
        return []
    return [Finding(Damage.FORGED, f"the index {INDEX_BRANCH} was forged: {checked.forgery}")]


def _newest_checked(project: Project, tip: str | None) -> tuple[str | None, list[Finding]]:
    """The newest sound commit among the last folds, and what is wrong after it."""
    if tip is None:
        return None, []
    checked = check_newest(project, tip)
    return checked.tip, _forged(checked)


def _sanctioned(project: Project, state: RemoteState, known: str) -> str | None:
    """The commit that begins the index as it is now, if that is a new epoch that the base branch sanctions."""
    base_commit = state.heads.get(project.base)
    if base_commit is None or state.index is None or project.repository.is_ancestor(known, state.index):
        return None
    from cd4ml.controller.landing import epochs  # which folds, and so fetches, itself

    begun = first_of(project, state.index)  # what follows it is judged as any fold is
    return begun if begun and epochs.accepts(project, base_commit, known, begun) else None


# ── the chain ────────────────────────────────────────────────────────────────────────────────────────────────────


Chain = Sequence[tuple[str, tuple[str, ...]]]
"""Commits with their parents, newest first."""


def check_newest(project: Project, tip: str, newest: int = NEWEST) -> Checked:
    """Check the newest folds of a chain of which nothing is known; all of them for 0."""
    chain = list(project.repository.first_parent_chain(tip, limit=newest + 1 if newest else 0))
    landed = project.repository.holding([commit for commit, _ in chain], RECORD_PATH)
    ends = next((place for place, (commit, _) in enumerate(chain) if commit in landed), None)
    if ends == 0:
        return Checked(None, None, Forgery(tip, RECORD_PATH, "belongs in a landed commit, not in the index"))
    whole = ends is not None or not newest or len(chain) <= newest
    own = chain[:ends] if whole else chain[:newest]
    if whole and project.repository.is_shallow and own and not own[-1][1]:
        own.pop()  # where history is cut off, nothing can be said of what came before
        whole = False
    if not own:
        return Checked(tip, None)
    known = None if whole else own[-1][1][0]
    return _checked(project, own, known)


def first_of(project: Project, tip: str) -> str | None:
    """The commit that a chain begins with (or is cut off at, in a shallow clone); nothing for a landed commit."""
    chain = project.repository.first_parent_chain(tip)
    landed = project.repository.holding([commit for commit, _ in chain], RECORD_PATH)
    own = list(takewhile(lambda one: one[0] not in landed, chain))
    return own[-1][0] if own else None


def number_at(project: Project, commit: str) -> int | None:
    """The number of the last fold of the chain that ends with this commit, which was found sound; nothing: unknown."""
    data = project.repository.read_blob(commit, SUMMARY_FILE, _LARGEST_FILE)
    told = parse_json(data) if data else None
    number = _number(told, "folds")
    if number is not None:
        return number
    # an index of an earlier version: it is asked once
    entries = [one.blob for one in project.repository.whole(commit) if one.path.startswith(ENTRY_FOLDERS)]
    numbers: set[int | None] = set()
    for some in _at_once(project.repository.in_stored_order(entries)):
        read = read_objects(project.repository, some).values()
        numbers.update(_number(parse_json(data or b""), "fold") for data in read)
    return max(filter(None, numbers), default=None)


def _at_once(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[start : start + _READ_AT_ONCE] for start in range(0, len(ids), _READ_AT_ONCE))


def _number(told: object, name: str) -> int | None:
    number = told.get(name) if isinstance(told, dict) else None
    return number if isinstance(number, int) and not isinstance(number, bool) and number > 0 else None


def _checked(project: Project, chain: Chain, known: str | None) -> Checked:
    """Check a chain that follows from ``known``; from nothing, where its oldest commit is the first of an index."""
    number = number_at(project, known) if known else None
    folds = list(_folds(project, chain, begins=known is None))
    return check_chain(folds, known, number, summary=SUMMARY_FILE, holds=_holds(project))


def _folds(project: Project, chain: Chain, *, begins: bool) -> Iterator[FoldCommit]:
    """The commits of a chain with what they hold, the oldest first."""
    if not chain:
        return
    later = chain[:-1] if begins else chain
    epochs = project.repository.saying(chain[0][0], EPOCH_SUBJECT, chain[-1][1][0] if chain[-1][1] else "")
    changed = project.repository.changes([(commit, parents[0]) for commit, parents in later])
    if begins:
        commit, parents = chain[-1]
        landed = _all_landed(project, parents)
        yield FoldCommit(commit, tuple(_touched(project, project.repository.whole(commit))), landed, begins=True)
    for commit, parents in reversed(later):
        landed = _all_landed(project, parents[1:])
        touched = tuple(_touched(project, changed.get(commit, ())))
        yield FoldCommit(commit, touched, landed, says_epoch=commit in epochs)


def _touched(project: Project, changed: Sequence[Changed]) -> Iterator[Touched]:
    """What a commit changes, with the bytes of those files that a check looks into."""
    read = read_objects(project.repository, (one.blob for one in changed if _is_looked_into(one)))
    for one in changed:
        yield Touched(one.path, one.status, one.mode, read[one.blob] if _is_looked_into(one) else None)


def _is_looked_into(one: Changed) -> bool:
    return one.status != "D" and (one.path.startswith(ENTRY_FOLDERS) or one.path == SUMMARY_FILE)


def _all_landed(project: Project, commits: Sequence[str]) -> dict[str, Landed]:
    """Landed commits, those that are as they should be with a few commands."""
    read = read_over_parents(project.repository, commits, RECORD_PATH, LARGEST_RECORD)
    found = {}
    for commit in commits:
        one = read.get(commit)
        found[commit] = (
            Landed("", commit, one.facts.parents, one.changed, one.data, one.facts.committer or "")
            if one is not None
            else _landed(project, commit)
        )
    return found


def _landed(project: Project, commit: str) -> Landed:
    landed = read_landed(project, "", commit)
    if landed.data or not project.repository.is_shallow:
        return landed
    try:  # its parent may be where history is cut off: the record is here all the same
        info = project.repository.commit_info(commit)
        data = project.repository.read_blob(commit, RECORD_PATH, LARGEST_RECORD) or b""
    except (RepositoryError, ToolError, IntegrityError):
        return landed
    # nothing can be said of its parent: it is taken at its word
    told = parse_json(data)
    parents = info.parents or ((str(told.get("commit")),) if isinstance(told, dict) else ())
    return replace(landed, parents=parents, tree_changes=(RECORD_PATH,), data=data, committer=info.committer)


def _holds(project: Project) -> Callable[[str, str], bool]:
    return lambda commit, path: bool(project.repository.existing(commit, [path]))


# ── landed records ───────────────────────────────────────────────────────────────────────────────────────────────


def _lost(project: Project, before: Remembered, state: RemoteState, index: str | None) -> dict[str, str]:
    """Landed records that were seen, are on the remote no more, and are not in the index ``index`` either."""
    gone = [(ref, commit) for ref, commit in sorted(before.landing.items()) if state.landing.get(ref) != commit]
    return {
        ref: commit
        for ref, commit in gone
        if not _stands_in(project, ref, state.landing.get(ref)) and is_missed(project, ref, commit, index)
    }


def _stands_in(project: Project, ref: str, commit: str | None) -> bool:
    """Is what a landing ref was moved to that record as well, which somebody else has landed?"""
    try:
        return commit is not None and bool(check_landed(read_landed(project, ref, commit)))
    except NewerSchemaError:
        return True
    except IntegrityError:
        return False


def is_missed(project: Project, ref: str, commit: str, index: str | None) -> bool:
    """Is it a record, and one that the index does not hold under another commit?"""
    try:
        record = check_landed(read_landed(project, ref, commit))
    except NewerSchemaError:  # where its entry lies is for a later version to know
        return index is None or not _seems_held(project, ref.removeprefix(LANDING), commit, index)
    except IntegrityError:
        return False  # no fold would ever have taken it
    if index is None:
        return True
    held = project.repository.existing(index, [entry_path(record)])
    return not held and not erased_in(project, index, [record.id])


def _seems_held(project: Project, record: str, commit: str, index: str) -> bool:
    paths = project.repository.blob_ids(index, "")
    named = any(path.startswith(ENTRY_FOLDERS) and path.endswith(f"{record}.json") for path in paths)
    return named or project.repository.is_ancestor(commit, index)
