"""``forget``: erase a run's models and data wherever cd4ml put them, leaving a tombstone in the index."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cd4ml.controller.care.inventory import Found, note_erased, stored_objects, take_inventory
from cd4ml.controller.care.keep import PLACES, delete_remotely, record_first
from cd4ml.controller.desired.data import drop_raw_copy
from cd4ml.controller.history.search import named_runs
from cd4ml.controller.landing import trust
from cd4ml.controller.landing.epochs import begin_epoch, check_key, check_may_erase, erased_commits
from cd4ml.controller.landing.landed import DRAFTS_READ, read_history
from cd4ml.controller.landing.removals import removal
from cd4ml.controller.project import Project
from cd4ml.controller.reporting.publish_report import drop_reports_of
from cd4ml.controller.running.run import WORK_LOCK
from cd4ml.errors import IntegrityError, RemoteError, UsageError
from cd4ml.gateways.files import digest_file, exclusive, remove_tree
from cd4ml.gateways.git import REPORTS, RemoteState
from cd4ml.index.history import RunEntry
from cd4ml.index.named import MIN_PREFIX
from cd4ml.index.removed import ERASED
from cd4ml.index.retention import FOLDER, Erasure, erasure, erasure_of_purged
from cd4ml.index.rows import Row
from cd4ml.spec.checks import not_empty
from cd4ml.spec.secrets import secret_kind

_OUTPUTS = "artifacts"
_MOST_SHOWN = 8
_TRIES = 5
"""Of a purge, while others move the index."""


@dataclass(frozen=True)
class Doomed:
    """What erasing a run would do. ``bytes`` and ``sha256`` are of its objects by name.

    ``pinned_by`` are the branches whose head pins the data that go, ``runs`` the entries that get a tombstone.
    ``in_git`` are the paths of sources that Git holds with the very bytes that go, in the commits of these runs.
    ``imported`` is the row of a run of another tool, which has nothing stored: its record alone is to go. Where it
    ``is_purged``, the run's record is out of the history of the index already: what is stored of it here is left.
    """

    found: Found
    erasure: Erasure
    runs: tuple[RunEntry, ...]
    bytes: Mapping[str, int]
    sha256: Mapping[str, str]
    pinned_by: tuple[str, ...]
    in_git: tuple[str, ...] = ()
    imported: Row | None = None
    is_purged: bool = False

    @property
    def landed(self) -> frozenset[str]:
        """The ids of the runs and imports that others see too."""
        return self.found.landed | ({self.imported.id} if self.imported else frozenset())


@dataclass(frozen=True)
class Forgotten:
    """What was done: tombstones by run, the number of places that objects were deleted from, and what is left to do.

    ``epoch`` is the new tip of the index after ``purge`` (else ``""``); ``held_by`` are refs of this clone and tags
    that still hold an erased commit; ``files`` are files of the work tree with erased bytes. ``late`` are runs that
    landed meanwhile and need what was erased. ``reports`` is how many reports on the remote told of an erased run, and
    were dropped; ``reports_left`` are the refs of those that may do so, and are there yet.
    """

    tombstones: Mapping[str, str]
    deleted: int
    epoch: str = ""
    held_by: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    late: tuple[str, ...] = ()
    reports: int = 0
    reports_left: tuple[str, ...] = ()


def check_reason(reason: str) -> None:
    """Raise UsageError, which repeats nothing of it, for a reason that no record takes or that none should hold."""
    problem = not_empty(reason)
    if kind := secret_kind(reason):
        problem = f"seems to hold {kind}: what is recorded stays for good"
    if problem:
        raise UsageError(f"--reason: {problem}")


def plan_erasure(
    project: Project, name: str, *, keep_data: bool, all_runs_of_data: bool, purge: bool = False
) -> Doomed:
    """What erasing the run of that name means. Fetches; changes nothing.

    Raises UsageError for an unknown run, for an imported one that is not named by its id, where its data are those
    of other runs or of a branch as well, and nothing says what is to become of them, and where ``purge`` is wanted
    of somebody who may not.
    """
    if gone := _purged_run(project, name):
        return _copies(project, gone, keep_data=keep_data, all_runs_of_data=all_runs_of_data)
    shown = named_runs(project, name)[0]
    base_commit = project.repository.last_seen().heads.get(project.base)
    if purge and base_commit is not None:
        check_may_erase(project, base_commit)
        check_key(project, base_commit)
    row = shown.row
    if row.role == "imported":
        if not row.id.startswith(name.lower()):  # the name of an experiment over there is that of many runs
            raise UsageError(f"{name}: names imported runs: say the id of the one that is to go")
        alone = Erasure((row.id,), (), (), frozenset(), frozenset())
        return Doomed(take_inventory(project), alone, (), {}, {}, (), imported=row)
    if shown.record is None:
        raise UsageError(f"{name}: was not run: {row.reason or row.role}")
    found = take_inventory(project)
    learned = {run.id: run.learned for run in found.runs}
    if row.id not in learned:
        raise UsageError(f"{name}: is not in the index of {project.remote} any more")
    doomed = erasure(found.inventory.holdings, row.id, learned, found.inventory.folders, keep_data=keep_data)
    pinned_by = tuple(_pinning(project, found, doomed.raw))
    if not keep_data and not all_runs_of_data:
        _check_alone(row.id, doomed, pinned_by)
    runs = tuple(run for one in doomed.runs if (run := found.history.run_by_id(one)) is not None)
    sizes, digests = _described(found, runs, doomed)
    return Doomed(found, doomed, runs, sizes, digests, pinned_by, _in_git(project, found, runs, doomed.raw))


def _purged_run(project: Project, name: str) -> str:
    """The id of an erased run whose record is no more, named by itself or by a branch that it answered; or nothing.

    Raises UsageError for a name that says nothing else either.
    """
    try:
        shown = named_runs(project, name)[0]
    except UsageError:
        found = _tombstones_alone(project, name)
        if not found:
            raise
        return found
    return "" if shown.record is not None else _tombstones_alone(project, shown.row.id)


def _tombstones_alone(project: Project, name: str) -> str:
    history = read_history(project, project.repository.last_seen(), drafts=True)
    erased = {one.removal.run for one in history.removals if one.removal.what == ERASED}
    meant = [run for run in erased if len(name) >= MIN_PREFIX and run.startswith(name) and run.startswith("r")]
    return meant[0] if len(meant) == 1 and history.run_by_id(meant[0]) is None else ""


def _copies(project: Project, run: str, *, keep_data: bool, all_runs_of_data: bool) -> Doomed:
    """What is left to erase of a run, erased before, of which the index has a tombstone alone.

    Which of it are its data nobody can tell but by the pins: what is pinned now stays, unless all runs of the data are
    to go, and with ``keep_data`` what ever was. Raises UsageError where runs that were not erased have such data.
    """
    found = take_inventory(project)
    told: dict[str, dict[str, Mapping[str, Any]]] = {}
    for one in found.history.removals:
        if one.removal.what == ERASED and found.history.run_by_id(one.removal.run) is None:
            told.setdefault(one.removal.run, {}).update({held["md5"]: held for held in one.removal.body["objects"]})
    purged = {name: frozenset(held) for name, held in told.items()}
    inventory = found.inventory
    pinned = inventory.pinned if keep_data else frozenset() if all_runs_of_data else inventory.pinned_now
    drafts = tuple(one.run for one in inventory.holdings if one.run not in found.landed and not one.is_erased)
    if not keep_data:
        _check_of_data(run, purged[run], found, drafts if not all_runs_of_data else ())
    doomed = erasure_of_purged(
        inventory.holdings,
        run,
        purged,
        inventory.folders,
        pinned,
        drafts=() if keep_data else drafts,
        all_runs_of_data=all_runs_of_data,
    )
    runs = tuple(entry for one in doomed.runs if (entry := found.history.run_by_id(one)) is not None)
    sizes, digests = _described(found, runs, doomed)
    for held in (held for name in doomed.runs if name in told for held in told[name].values()):
        if held["md5"] in doomed.objects:
            sizes[held["md5"]] = int(held["bytes"])
            digests |= {held["md5"]: str(held["sha256"])} if "sha256" in held else {}
    pinned_by = tuple(_pinning(project, found, doomed.raw))
    return Doomed(found, doomed, runs, sizes, digests, pinned_by, is_purged=True)


def _check_of_data(run: str, objects: frozenset[str], found: Found, drafts: Collection[str]) -> None:
    """Raise UsageError where drafts, or runs that others see, were made from what the tombstone of a run names."""
    sharing = [one for one in found.inventory.holdings if one.raw & objects and not one.is_erased]
    _refuse_shared(run, [f"{one.run}, a draft of this clone" for one in sharing if one.run in drafts])
    landed = [one.run for one in sharing if one.run in found.landed and one.gone != ERASED]
    if landed:
        raise UsageError(
            f"{run}: {landed[0]} has data that its tombstone names, and was not erased: that first "
            f"(`cd4ml forget {landed[0]} --all-runs-of-data`), or --keep-data"
        )


def _check_alone(run: str, doomed: Erasure, pinned_by: tuple[str, ...]) -> None:
    _refuse_shared(run, [*doomed.with_data, *(f"the head of {branch}" for branch in pinned_by)])


def _refuse_shared(run: str, users: Sequence[str]) -> None:
    if users:
        shown = ", ".join(users[:_MOST_SHOWN]) + (
            f" and {len(users) - _MOST_SHOWN} more" if users[_MOST_SHOWN:] else ""
        )
        raise UsageError(
            f"{run}: its data are also those of {shown}: erase them all with --all-runs-of-data, or this run's model "
            "alone with --keep-data"
        )


def _pinning(project: Project, found: Found, raw: frozenset[str]) -> Iterator[str]:
    """The branches of the remote whose head pins some of these raw data."""
    for branch, commit in sorted(found.state.heads.items()):
        asked = found.observation.asked.get(commit)
        pins = [pin.raw_md5 for pin in asked.pins.values()] if asked else []
        if not asked and commit != found.state.index:
            told = project.repository.blob_ids(commit, "data")
            texts = project.repository.small_objects(told.values(), 4 << 20)
            pins = [name for name in raw if any(name.encode() in text for text in texts.values())]
        if raw.intersection(pins):
            yield branch


def _in_git(project: Project, found: Found, runs: Iterable[RunEntry], raw: frozenset[str]) -> tuple[str, ...]:
    """The sources whose raw bytes are files of the runs' commits, too."""
    pins = {
        (run.run.commit, pin.location): pin
        for run in runs
        for pin in found.pins.get(run.run.id, ())
        if pin.raw_md5 in raw and "\n" not in pin.location
    }
    at = project.repository.objects_at(sorted(pins))
    files = {(blob, place[1]): pins[place] for place, blob in at.items()}
    same = {
        path
        for (blob, path), pin in files.items()
        if _md5(project.repository.read_object(blob, pin.raw_bytes) or b"") == pin.raw_md5
    }
    return tuple(sorted(same))


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _described(found: Found, runs: Iterable[RunEntry], doomed: Erasure) -> tuple[dict[str, int], dict[str, str]]:
    sizes: dict[str, int] = {}
    digests: dict[str, str] = {}
    for one in runs:
        for known in one.run.body["files"].values():
            sizes[known["md5"]], digests[known["md5"]] = known["bytes"], known["sha256"]
        for pin in found.pins.get(one.run.id, ()):
            sizes[pin.raw_md5], digests[pin.raw_md5] = pin.raw_bytes, pin.raw_sha256
    # what a folder lists is in no record of a run: its size and digest are told where it lies
    for name in sorted(doomed.objects - sizes.keys()):
        cached = found.storage.cached(name)
        sizes[name] = cached.stat().st_size if cached.is_file() else 0
    return (
        {name: sizes[name] for name in doomed.objects},
        {name: digests[name] for name in doomed.objects if name in digests},
    )


def erase(project: Project, doomed: Doomed, reason: str, *, purge: bool = False) -> Forgotten:
    """Do it: tombstones first, then the objects; with ``purge`` the records leave the history of the index as well.

    Side effects: the index, the DVC cache and remote, cd4ml's private folder, drafts. Nothing in the work tree is
    touched. Done again after it was cut off, it finishes. Raises UsageError, before anything is done, for a reason that
    may not be recorded, RemoteError while an object is still there.
    """
    check_reason(reason)
    base_commit = doomed.found.observation.base_commit
    purge = purge and not doomed.is_purged
    if purge:
        check_may_erase(project, base_commit)
    _check_remote(doomed)
    with exclusive(project.private / WORK_LOCK):
        files = tuple(_files_of_work_tree(project, doomed))
        note_erased(project, doomed.erasure.runs, doomed.erasure.objects)
        tombstones = record_first(project, list(_tombstones(project, doomed, reason)))
        _drop_drafts(project, doomed)
        deleted = 0 if doomed.imported else _delete(doomed)
        _clear_private(project, doomed)
        reports, reports_left = _drop_reports(project, doomed)
        late = _late(project, doomed)
        epoch, held_by = _purge(project, doomed) if purge else ("", ())
        _clear_answers(project)
    return Forgotten(tombstones, deleted, epoch, held_by, files, late, reports, reports_left)


def _check_remote(doomed: Doomed) -> None:
    """Raise RemoteError where the DVC remote is not there, or holds nothing though it should: none would be deleted.

    A tombstone would say then that it was.
    """
    storage, known = doomed.found.storage, {one.run: one.gone for one in doomed.found.inventory.holdings}
    if not storage.remote or not doomed.erasure.objects:
        return
    others = any(
        one.objects and one.run in doomed.found.landed and one.run not in doomed.erasure.runs and one.gone != ERASED
        for one in doomed.found.inventory.holdings
    )
    ours = [run for run in doomed.erasure.runs if run in doomed.found.landed]  # of a draft it holds nothing
    expected = others or any(known.get(run, ERASED) != ERASED for run in ours)
    landed = any(run in doomed.found.landed or run not in known for run in doomed.erasure.runs)
    with storage.open_remote() as remote:
        if landed and not (remote.is_there() and (remote.list() or not expected)):
            raise RemoteError(
                f"DVC remote {storage.remote!r}: holds nothing at all, so nothing was erased: is it mounted? "
                "(if it is lost for good, `dvc remote remove` it first)"
            )


def _late(project: Project, doomed: Doomed) -> tuple[str, ...]:
    """Runs that nobody knew of when it was shown, and that have to be erased as well."""
    known = {one.run for one in doomed.found.inventory.holdings}
    return tuple(
        one.run
        for one in take_inventory(project).inventory.holdings
        if one.run not in known and doomed.erasure.objects.intersection((*one.objects, *one.raw))
    )


def _tombstones(project: Project, doomed: Doomed, reason: str) -> Iterator[dict[str, Any]]:
    """One for each landed run that has none; it names all its objects, shared ones too: none is promised any more."""
    base_commit = doomed.found.observation.base_commit
    if (imported := doomed.imported) is not None:
        if imported.let_go != ERASED and imported.imported is not None:
            # what was erased is not brought in again: the other tool has it still
            source = {"kind": imported.imported["source"], "id": imported.imported["id"]}
            yield {**removal(project, base_commit, imported.id, ERASED, {}, reason), "source": source}
        return
    holdings = {one.run: one for one in doomed.found.inventory.holdings}
    for run in doomed.erasure.runs:
        known = holdings.get(run)  # none of a purged one, which has its tombstone
        if known is None or run not in doomed.found.landed or known.gone == ERASED:
            continue
        raw = {name: doomed.bytes[name] for name in known.raw & doomed.erasure.raw & doomed.erasure.objects}
        listed = doomed.found.inventory.folders
        inside = {name for one in known.objects for name in listed.get(one, ()) if name in doomed.erasure.objects}
        objects = {**known.objects, **raw, **{name: doomed.bytes[name] for name in inside}}
        yield removal(project, base_commit, run, ERASED, objects, reason, sha256=doomed.sha256)


def _drop_drafts(project: Project, doomed: Doomed) -> None:
    for run in doomed.runs:
        if run.run.id not in doomed.found.landed:
            project.repository.drop_draft(run.run.id)
            (project.private / DRAFTS_READ / f"{run.entry.result_commit}.json").unlink(missing_ok=True)


def _delete(doomed: Doomed) -> int:
    """Delete the objects in both places, and see that they are gone."""
    storage = doomed.found.storage
    names = sorted(doomed.erasure.objects, key=lambda name: (name.endswith(FOLDER), name))  # lists go after their files
    deleted = len(delete_remotely(storage, names)) + sum(storage.drop_cached(name) for name in names)
    storage.drop_run_cache(names)
    left = [one for one in stored_objects(storage, PLACES) if one.md5 in doomed.erasure.objects]
    if left:
        raise RemoteError(f"{left[0].md5} is still there ({left[0].where}) after it was deleted")
    return deleted


def _clear_private(project: Project, doomed: Doomed) -> None:
    """Everything of cd4ml's own that may hold what was erased; all of it can be made again."""
    private = project.private
    for name in doomed.erasure.objects:
        if name in doomed.sha256:
            drop_raw_copy(project, doomed.sha256[name])
    for run in doomed.runs:
        for folder in (private / "runs").glob(f"{run.run.fingerprint[:12]}-*"):
            remove_tree(folder)
    for name in ("truth", "reproduce"):
        remove_tree(private / name)
    _clear_answers(project)


def _clear_answers(project: Project) -> None:
    """The query cache, which says what records do."""
    for path in project.private.glob("query*"):
        remove_tree(path)


def _files_of_work_tree(project: Project, doomed: Doomed) -> Iterator[str]:
    """Files under ``artifacts/`` of the work tree, and the sources of erased pins there, that hold erased bytes."""
    root = project.repository.work_tree
    if root is None:
        return
    sizes = set(doomed.bytes.values())
    places = [path for path in (root / _OUTPUTS).rglob("*") if path.is_file() and not path.is_symlink()]
    places += [root / pin.location for run in doomed.runs for pin in doomed.found.pins.get(run.run.id, ())]
    for path in dict.fromkeys(places):
        inside = Path(os.path.normpath(path)).is_relative_to(root)
        if inside and path.is_file() and path.stat().st_size in sizes and digest_file(path).md5 in doomed.bytes:
            yield path.relative_to(root).as_posix()


def _drop_reports(project: Project, doomed: Doomed) -> tuple[int, tuple[str, ...]]:
    """How many reports on the remote went, and the refs of those that may tell of an erased run yet."""
    try:
        dropped, left = drop_reports_of(project, doomed.erasure.runs)
    except RemoteError:
        return 0, (f"{REPORTS}*",)
    return len(dropped), tuple(REPORTS + key for key in left)


def _purge(project: Project, doomed: Doomed) -> tuple[str, tuple[str, ...]]:
    """The new tip of the index, and the refs that still hold an erased commit."""
    try:
        state, tip, commits = _begin_without(project, [run for run in doomed.erasure.runs if run in doomed.landed])
    except RemoteError as error:
        raise RemoteError(
            f"everything that was stored is erased, but the records are in the history of the index yet: {error} "
            "(where the remote protects the branch, lift that, and say the same again)"
        ) from error
    repository = project.repository
    repository.drop_vanished([(branch, commit) for branch, commit in state.vanished if commit in commits])
    trust.fetch(project)
    held = repository.refs_holding(commits)
    tags = [f"tag {name}" for name, commit in repository.tagged(project.remote).items() if commit in commits]
    return tip, tuple(
        dict.fromkeys([*held, *(tag for tag in tags if tag.replace("tag ", "refs/tags/", 1) not in held)])
    )


def _begin_without(project: Project, runs: Sequence[str]) -> tuple[RemoteState, str, tuple[str, ...]]:
    """What the remote held before, the tip of an index without these runs, and their landed commits.

    Tried again while others move the index. Raises RemoteError.
    """
    state = trust.fetch(project)
    commits = erased_commits(project, state.index or "", runs)
    for left in reversed(range(_TRIES)):
        try:
            return state, begin_epoch(project, state, runs), commits
        except RemoteError:
            before, state = state, trust.fetch(project)
            if not left or state.index == before.index:
                raise
        try:
            commits = erased_commits(project, state.index or "", runs)
        except IntegrityError:  # somebody else has done it
            break
    return state, state.index or "", commits
