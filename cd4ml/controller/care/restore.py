"""Put the remote's index and landed records back from what this clone remembers.

What the remote has is replaced only by a commit that follows from what was accepted before, with a lease on what was
seen there, and nothing that proves itself is lost: a record that only the other history took in lands again, for the
next fold to take. So two that restore at once do the same, and whoever is second finds nothing left to do. Records
that were erased come back only when that is asked for. Landing refs that no fold will ever take are dropped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from cd4ml.controller.landing import trust
from cd4ml.controller.landing.epochs import epoch_number
from cd4ml.controller.landing.fold import derived_files, give_way
from cd4ml.controller.landing.landed import LARGEST_RECORD, erased_in, read_entries, read_landed
from cd4ml.controller.project import Project
from cd4ml.errors import Cd4mlError, IntegrityError, RemoteError, UsageError
from cd4ml.gateways.git import INDEX, INDEX_BRANCH, LANDING, RefUpdate, Remembered, RemoteState
from cd4ml.gateways.process import crash_point
from cd4ml.gateways.untrusted import parse_json
from cd4ml.index.chain import Damage
from cd4ml.index.fold import ENTRY_FOLDERS, check_landed, entry_path, landing_ref, names_record
from cd4ml.index.record import RECORD_PATH
from cd4ml.index.validate import NewerSchemaError
from cd4ml.promotion.summary import SUMMARY_FILE, summary_of

_TRIES = 8
_RECORD_ID = re.compile(r"[a-z][0-9a-f]{20}")
_ID_LENGTH = 21


@dataclass(frozen=True)
class Relanded:
    """A record that lands again: its id, and its landed commit."""

    record: str
    commit: str


@dataclass(frozen=True)
class Dropped:
    """A file of the replaced index that is not taken over, and why."""

    path: str
    why: str


@dataclass(frozen=True)
class Gone:
    """A branch that the remote has no more, as this clone last saw it; no `reconcile` has looked at it since."""

    branch: str
    commit: str


@dataclass(frozen=True)
class Swept:
    """A landing ref that no fold will ever take, the commit (or other object) that it points to, and why."""

    ref: str
    commit: str
    why: str


@dataclass(frozen=True)
class Restoration:
    """What a restore does.

    ``found`` says what is wrong, a line each. ``index_from`` and ``index_to`` are the index's tip on the remote now and
    afterwards (nothing: there is none). ``relanded`` are records that land again: those that vanished, and those that
    only the replaced history held. ``dropped`` are entries of it that no landed commit proves.
    ``accepts`` says that the remote's history is taken, in place of the one that this clone remembers. ``returning``
    are the ids of records that were erased from the remote's index and that the one to put back holds; ``swept`` are
    landing refs that are dropped. ``gone`` are branches that were seen and are not there any more: whether they were
    deleted on purpose nobody knows, so they are told and not put back.
    """

    found: tuple[str, ...]
    index_from: str | None
    index_to: str | None
    relanded: tuple[Relanded, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    accepts: bool = False
    returning: tuple[str, ...] = ()
    swept: tuple[Swept, ...] = ()
    gone: tuple[Gone, ...] = ()

    @property
    def drops(self) -> tuple[RefUpdate, ...]:
        """The landing refs that go, before anything else moves: one may stand where a record is to land."""
        return tuple(RefUpdate(one.ref, one.commit, "") for one in self.swept)

    @property
    def updates(self) -> tuple[RefUpdate, ...]:
        """The refs that move on the remote, together or not at all."""
        index = [RefUpdate(INDEX, self.index_from or "", self.index_to or "")] if self.moves_index else []
        return (*index, *(RefUpdate(landing_ref(one.record), "", one.commit) for one in self.relanded))

    @property
    def moves_index(self) -> bool:
        return self.index_from != self.index_to and not self.accepts

    @property
    def is_empty(self) -> bool:
        """Is there nothing to put back?"""
        return not self.found and not self.swept


def plan_restore(project: Project, *, accept: bool = False) -> Restoration:
    """What is to be put back, after a fetch. Writes nothing on the remote.

    With ``accept``, what the remote has is taken for the index if it is sound by itself, and what only this clone
    remembers lands again. Raises RemoteError, and IntegrityError for an index that cannot be accepted.
    """
    found = trust.look(project, thorough=True)
    vanished = [(branch, commit) for branch, commit in found.state.vanished if branch != INDEX_BRANCH]
    gone = tuple(Gone(branch, commit) for branch, commit in sorted(vanished))
    return replace(_plan(project, found, accept=accept), gone=gone)


def _plan(project: Project, found: trust.Look, *, accept: bool) -> Restoration:
    state = found.state
    told = tuple(finding.message for finding in found.findings)
    swept = tuple(_hopeless(project, state))
    if not told:
        mended, wrong = _mended(project, state.index)
        own = _new(state, _proved(project, trust.own_index(project), state.index), swept)
        told += tuple(f"{path} of the index is not what its entries give" for path in wrong)
        told += ("what this repository recorded before it had a remote is not in the index",) if own else ()
        return Restoration(told, state.index, mended or state.index, _relanded(own), swept=swept)
    if accept:
        return replace(_acceptance(project, found, told, swept), swept=swept)
    target = _newest_known(project, found)
    records = {**_vanished(found, project, target), **_proved(project, state.index, target)}
    records = _new(state, records, swept)
    if any(finding.damage is Damage.REWRITTEN for finding in found.findings):
        told = (*told, "where the remote's index is the right one, and other clones take it for that: say --accept")
    dropped = tuple(_unproved(project, state.index, target, records))
    returning = _returning(project, state.index, target)
    return Restoration(told, state.index, target, _relanded(records), dropped, returning=returning, swept=swept)


def _mended(project: Project, index: str | None) -> tuple[str, tuple[str, ...]]:
    """A commit after this index with its derived files made anew, and which of them are not what the entries give.

    Nothing (``""``) where all are, where there never was a summary, and where a later version's records are among the
    entries. Side effect: the commit is made, in this clone alone.
    """
    repository = project.repository
    if index is None or repository.read_blob(index, SUMMARY_FILE, LARGEST_RECORD) is None:
        return "", ()
    entries = read_entries(project, index)
    if len(entries) != sum(path.startswith(ENTRY_FOLDERS) for path in repository.blob_ids(index, "")):
        return "", ()
    made = derived_files(summary_of(entries, epoch_number(project, index)))
    wrong = tuple(path for path, data in made.items() if repository.read_blob(index, path, LARGEST_RECORD) != data)
    if not wrong:
        return "", ()
    tree = repository.write_tree(index, made)
    return repository.commit_tree(tree, (index,), "cd4ml: make the summary and the page anew\n"), wrong


def _hopeless(project: Project, state: RemoteState) -> Iterator[Swept]:
    """Landing refs that no fold will ever take. What cannot be read, or only in part, is none of them."""
    for ref, object_id in sorted(state.misplaced.items()):
        yield Swept(ref, object_id, "leads to no commit")
    for ref, commit in sorted(state.landing.items()):
        if not names_record(ref):
            yield Swept(ref, commit, "is not the name of a record")
        elif not project.repository.is_shallow and (why := _why_never(project, ref, commit)):
            yield Swept(ref, commit, why)


def _why_never(project: Project, ref: str, commit: str) -> str:
    try:
        tree = project.repository.over_parent(commit).tree
        project.repository.file_at(tree, RECORD_PATH, LARGEST_RECORD)
    except Cd4mlError:
        return ""  # it may be a record all the same, of which an object is not here
    try:
        check_landed(read_landed(project, ref, commit))
    except NewerSchemaError:
        return ""  # for a later version's fold to judge
    except IntegrityError as error:
        return str(error)
    return ""


def _returning(project: Project, now: str | None, target: str | None) -> tuple[str, ...]:
    """The records that were erased, by what either index says, which ``target`` holds and ``now`` does not."""
    if now is None or target is None or now == target:
        return ()
    erased = erased_in(project, now) | erased_in(project, target)
    if not erased:
        return ()
    there, here = (
        {path.rpartition("/")[2].removesuffix(".json")[-_ID_LENGTH:] for path in project.repository.blob_ids(tip, "")}
        for tip in (now, target)
    )
    return tuple(sorted((erased & here) - there))


def _relanded(records: dict[str, str]) -> tuple[Relanded, ...]:
    return tuple(Relanded(ref.removeprefix(LANDING), commit) for ref, commit in sorted(records.items()))


def _newest_known(project: Project, found: trust.Look) -> str | None:
    """The newest commit that follows from what was accepted: plain Git may have seen a later one than cd4ml."""
    best = found.sound
    damages = {finding.damage for finding in found.findings}
    if not damages & {Damage.DELETED, Damage.MOVED_BACK}:
        return best
    for commit in project.repository.tracked_index(project.remote):
        if best is None or (commit != best and project.repository.is_ancestor(best, commit)):
            sound, wrong = trust.follow(project, best, commit)
            best = sound if not wrong else best
    return best


def _acceptance(project: Project, found: trust.Look, told: tuple[str, ...], swept: tuple[Swept, ...]) -> Restoration:
    index = found.state.index
    if index is None:
        raise IntegrityError(f"{project.remote}: there is no index to accept")
    checked = trust.check_newest(project, index, newest=0)
    if checked.forgery is not None:
        raise IntegrityError(f"{project.remote}: its index cannot be accepted: {checked.forgery}")
    records = {**_vanished(found, project, index), **_proved(project, found.remembered.index, index)}
    return Restoration(told, index, index, _relanded(_new(found.state, records, swept)), accepts=True)


def _new(state: RemoteState, records: dict[str, str], swept: tuple[Swept, ...]) -> dict[str, str]:
    """Those that have not landed there, or whose ref leads to what is dropped."""
    taken = state.landing.keys() - {one.ref for one in swept}
    return {ref: commit for ref, commit in records.items() if ref not in taken}


def _vanished(found: trust.Look, project: Project, index: str | None) -> dict[str, str]:
    """Landed commits that were seen and are gone, unless the index that is put back holds their records."""
    return {ref: commit for ref, commit in found.lost.items() if trust.is_missed(project, ref, commit, index)}


def _proved(project: Project, other: str | None, target: str | None) -> dict[str, str]:
    """Landed commits that the history of ``other`` took in and ``target`` does not hold, by the ref to land under."""
    if other is None or other == target:
        return {}
    chain = project.repository.first_parent_chain(other, target or "")
    commits = [commit for commit, _ in chain]
    ends = project.repository.holding(commits, RECORD_PATH)  # below the first fold lies a landed commit
    found: dict[str, str] = {}
    for commit, parents in chain:
        if commit in ends:
            break
        for parent in (*parents[1:], *(one for one in parents[:1] if one in ends)):
            ref = _ref_of(project, parent, target)
            if ref:
                found.setdefault(ref, parent)
    return found


def _ref_of(project: Project, commit: str, target: str | None) -> str:
    """The ref under which a landed commit's record lands, if it is one that ``target`` does not hold; else ``""``."""
    landed = read_landed(project, "", commit)
    body = parse_json(landed.data)
    record_id = str(body.get("id")) if isinstance(body, dict) else ""
    if not _RECORD_ID.fullmatch(record_id):
        return ""
    ref = landing_ref(record_id)
    try:
        record = check_landed(read_landed(project, ref, commit))
    except NewerSchemaError:
        return ref  # for a later version's fold to judge
    except IntegrityError:
        return ""
    if target is None:
        return ref
    held = project.repository.existing(target, [entry_path(record)])
    return "" if held or erased_in(project, target, [record_id]) else ref


def _unproved(project: Project, other: str | None, target: str | None, records: dict[str, str]) -> Iterator[Dropped]:
    """Entries that ``other`` has otherwise than ``target``, and that do not land again."""
    if other is None or other == target or (target and project.repository.is_ancestor(other, target)):
        return
    changed = project.repository.changes([(other, target)]) if target else {other: project.repository.whole(other)}
    for one in changed.get(other, ()):
        if not one.path.startswith(ENTRY_FOLDERS):
            continue
        if one.status == "D":
            continue  # it is only put back
        if one.status != "A":
            yield Dropped(one.path, "is another than the one that is remembered and put back")
        elif landing_ref(one.path.removesuffix(".json")[-_ID_LENGTH:]) not in records:
            yield Dropped(one.path, "no landed commit proves it")


def restore(project: Project, shown: Restoration, *, with_erased: bool = False) -> Restoration:
    """Carry out what was shown; gives what was done, which is less when somebody else restored meanwhile.

    Side effects: an atomic push, with a lease on each ref, and one before it for landing refs that are dropped; this
    clone's memory. Raises RemoteError when the remote refuses, and UsageError where records that were erased would
    come back, unless ``with_erased`` says that they may.
    """
    plan, done = shown, shown
    for attempt in range(_TRIES):
        if plan.is_empty:
            return done
        if plan.returning and not with_erased:
            count = len(plan.returning)
            raise UsageError(
                f"nothing was done: {count} record{'s' * (count != 1)} that {'were' if count > 1 else 'was'} erased, "
                f"{plan.returning[0]} for one, would come back: say --accept to keep the remote's index, "
                "or --with-erased"
            )
        done = plan
        try:
            if plan.swept:
                project.repository.push(project.remote, plan.drops)
            if plan.updates:
                project.repository.push(project.remote, plan.updates)
        except RemoteError as error:
            after = plan_restore(project, accept=plan.accepts)
            if after == plan and attempt:
                told = f"{project.remote}: the index could not be put back: {error}"
                raise RemoteError(f"{told}{_not_whole(project)}") from error
            plan = after
            give_way(attempt)
            continue
        crash_point("restore.pushed")
        if plan.accepts:
            _take(project)
        plan = plan_restore(project)
    if plan.is_empty:
        return done
    raise RemoteError(f"{project.remote}: the index could not be put back: it keeps moving; try again")


def _not_whole(project: Project) -> str:
    """That this clone may lack what is to be put back, where that is so."""
    kind = "shallow" if project.repository.is_shallow else "partial" if project.repository.is_partial else ""
    if not kind:
        return ""
    return f" (this clone is {kind}, and may not have all of it: restore from a whole one that has seen the index)"


def _take(project: Project) -> None:
    """Remember what the remote has now."""
    before = project.repository.remembered(project.remote)
    state = project.repository.fetch(project.remote)
    project.repository.remember(project.remote, before, Remembered(state.index, state.landing))
