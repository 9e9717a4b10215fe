"""Repair what ``verify`` found: from every place that still has the bytes, to those that lost them.

Nothing is deleted: what is damaged is moved aside, under ``damaged/`` of cd4ml's folder in the Git directory. Records
and refs are not touched; what is wrong with them is for ``cd4ml restore``.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from cd4ml.controller.care.stored import Watch, in_cache, open_storage_of
from cd4ml.controller.care.verify import Report, Scope, verify
from cd4ml.controller.project import Project
from cd4ml.errors import Cd4mlError, IntegrityError, RemoteError, ToolError
from cd4ml.gateways.dvc import RemoteObjects, Storage
from cd4ml.gateways.files import FileDigest, copy_verified, digest_file, scratch
from cd4ml.gateways.git import HEADS, INDEX, LANDING
from cd4ml.gateways.git.integrity import (
    TransferError,
    fresh_copy,
    object_ids,
    read_objects,
    remote_refs,
    salvage_pack,
    send_objects,
    set_aside,
    still_missing,
    take_packs,
    trees_below,
)
from cd4ml.index.audit import Finding
from cd4ml.index.promised import Needed
from cd4ml.index.retention import OUTPUTS

DAMAGED = "damaged"
"""In cd4ml's private folder: what was moved aside."""

_MOST_SENT = 50
"""A remote names one missing object after the other."""


@dataclass(frozen=True)
class Repaired:
    """What was done, a line each; how things stand after it; and which of the findings no copy is left for."""

    done: tuple[str, ...]
    report: Report
    lost: tuple[Finding, ...]


def repair(project: Project, scope: Scope, report: Report, watch: Watch) -> Repaired:
    """Put right what can be put right, and verify again. Raises as ``verify`` does."""
    done: list[str] = []
    watch("repairing Git's objects")
    done += _repair_git(project, report)
    if project.has_remote:
        done += _repair_git_remote(project, report)
    if any(finding.place in ("cache", "remote") for finding in report.findings) or not report.needed:
        done += _repair_objects(project, report, watch)
    after = verify(project, scope, watch)
    lost = tuple(_lost(project, after))
    hopeless = {finding.where for finding in lost}
    kept = (finding for finding in after.findings if finding.where not in hopeless or not finding.fault)
    ordered = tuple(sorted((*kept, *lost), key=lambda finding: finding.order))
    return Repaired(tuple(done), replace(after, findings=ordered), lost)


# ── Git ──


def _repair_git(project: Project, report: Report) -> Iterator[str]:
    """Bring every object that is damaged or missing here from the remote, and what a damaged pack still gives."""
    repository = project.repository
    named = [finding.where for finding in report.findings if finding.place == "git"]
    if not named:
        return
    brought = _bring(project) if project.has_remote else 0
    if brought:
        yield f"brought the objects of {project.remote} again"
    folder = project.private / DAMAGED / "git"
    for name in named:
        moved = set_aside(repository, name, folder)
        if not moved:
            continue
        yield f"moved {name} aside, to {moved[0].parent}"
        if any(path.suffix == ".pack" for path in moved):
            saved = salvage_pack(repository, moved)
            yield f"{name}: saved {saved} object{'s' * (saved != 1)} that nothing else holds"


def _bring(project: Project) -> int:
    """Everything that the remote sends: of all its branches, or where one of them is broken, of as many as can be."""
    with suppress(RemoteError):
        refs = sorted(
            ref for ref in remote_refs(project.repository, project.remote) if ref.startswith((HEADS, LANDING))
        )
        for some in (refs, *([ref] for ref in refs)):
            try:
                with fresh_copy(project.repository, project.remote, some) as copy:
                    brought = take_packs(project.repository, copy)
            except TransferError:
                continue
            if some is refs:
                return brought
        return 1
    return 0


def _repair_git_remote(project: Project, report: Report) -> Iterator[str]:
    """Send the remote what it lacks, as long as it names objects that are whole here."""
    if not any(finding.place == "git remote" for finding in report.findings):
        return
    sent: set[str] = set()
    tips = frozenset(remote_refs(project.repository, project.remote).values())  # which a push takes for being there
    for _ in range(_MOST_SENT):
        lacking = _named_by(project) - sent - tips
        lacking -= still_missing(project.repository, lacking)
        if not lacking:
            break
        try:
            send_objects(project.repository, project.remote, sorted(lacking), f"refs/cd4ml/repair/{uuid.uuid4().hex}")
        except (TransferError, ToolError) as error:
            yield f"{project.remote}: does not take what it lacks: {' '.join(str(error).split())}"
            break
        sent |= lacking
    if sent:
        yield f"sent {len(sent)} object{'s' * (len(sent) != 1)} to {project.remote}"


def _named_by(project: Project) -> frozenset[str]:
    """The objects that the remote cannot send."""
    try:
        refs = [
            ref for ref in remote_refs(project.repository, project.remote) if ref == INDEX or ref.startswith(LANDING)
        ]
        with fresh_copy(project.repository, project.remote, refs):
            return frozenset()
    except TransferError as error:
        return frozenset(one.name for one in error.broken if one.is_object)
    except RemoteError:
        return frozenset()


# ── DVC ──


def _repair_objects(project: Project, report: Report, watch: Watch) -> Iterator[str]:
    """Fill the cache from the remote and the remote from the cache, and both from wherever else the bytes lie."""
    wrong = {finding.where for finding in report.findings if finding.place in ("cache", "remote")}
    needed = [report.needed[md5] for md5 in sorted(wrong & report.needed.keys())]
    if not needed:
        return
    heads = remote_refs(project.repository, project.remote) if project.has_remote else {}
    base = heads.get(HEADS + project.base) or project.repository.resolve(HEADS + project.base)
    storage = open_storage_of(project, base)
    with ExitStack() as stack:
        remote = None
        if storage.remote:
            with suppress(RemoteError):
                remote = stack.enter_context(storage.open_remote())
        for place, one in enumerate(needed):
            watch(f"repairing DVC's objects: {place} of {len(needed)}")
            yield from _repair_object(project, storage, remote, one)


def _repair_object(project: Project, storage: Storage, remote: RemoteObjects | None, needed: Needed) -> Iterator[str]:
    name, cached = needed.md5, storage.cached(needed.md5)
    held = in_cache(storage, name)
    if held is not None and not _is(held.sha256, needed):
        aside = _aside(project, "cache", name)
        cached.replace(aside)
        yield f"moved {name} ({needed.paths[0]}) of the cache aside, to {aside}"
        held = None
    if held is None and _fill_cache(project, remote, needed, cached):
        yield f"brought {name} ({needed.paths[0]}) into the cache"
    if remote is not None and cached.is_file():
        yield from _fill_remote(project, remote, needed, cached)


def _is(sha256: str | None, needed: Needed) -> bool:
    return sha256 == needed.sha256


def _aside(project: Project, place: str, name: str) -> Path:
    folder = project.private / DAMAGED / place
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.{uuid.uuid4().hex[:8]}"


def _fill_cache(project: Project, remote: RemoteObjects | None, needed: Needed, cached: Path) -> bool:
    """Bring the object here from the first place that has its very bytes."""
    ways: list[Callable[[], None]] = [
        lambda: copy_verified(project.private / "raw" / needed.sha256, cached, needed.sha256),
        lambda: _from_git(project, needed, cached),
        *((lambda path=path: copy_verified(project.root / path, cached, needed.sha256)) for path in needed.paths),
    ]
    if remote is not None:
        ways.insert(0, lambda: remote.retrieve(needed.md5, needed.sha256, cached))
    for way in ways:
        try:
            way()
        except (Cd4mlError, OSError):
            continue
        return True
    return False


def _from_git(project: Project, needed: Needed, cached: Path) -> None:
    """Outputs that are committed as well, such as metrics. Raises IntegrityError where Git has other bytes."""
    object_id = object_ids(project.repository, [needed.in_git])[needed.in_git] if needed.in_git else None
    data = read_objects(project.repository, [object_id])[object_id] if object_id else None
    if data is None:
        raise IntegrityError(f"{needed.md5}: is not in Git")
    with scratch("cd4ml-repair-") as folder:
        path = folder / "object"
        path.write_bytes(data)
        copy_verified(path, cached, needed.sha256)


def _fill_remote(project: Project, remote: RemoteObjects, needed: Needed, cached: Path) -> Iterator[str]:
    expected = FileDigest(needed.sha256, needed.md5.removesuffix(".dir"), needed.bytes)
    with suppress(RemoteError):
        held = remote.digest(needed.md5)
        if held == expected or digest_file(cached) != expected:
            return
        if held is not None:
            aside = _aside(project, "remote", needed.md5)
            remote.bring_as_is(needed.md5, aside)
            yield f"moved {needed.md5} ({needed.paths[0]}) of the remote aside, to {aside}"
        try:
            remote.store(cached, expected)
        except IntegrityError as error:
            yield str(error)
            return
        yield f"stored {needed.md5} ({needed.paths[0]}) on the remote again"


# ── what is left ──


def _lost(project: Project, report: Report) -> Iterator[Finding]:
    """Findings after a repair of what no place that is known holds any more, with the runs that need it."""
    faults = [finding for finding in report.findings if finding.fault and finding.what == "object"]
    gone = {"cache": set[str](), "remote": set[str](), "git": set[str]()}
    for finding in report.findings:
        if finding.place in gone and finding.kind in ("missing", "damaged"):
            gone[finding.place].add(finding.where)
    for finding in faults:
        if finding.place == "git" and finding.where in gone["git"]:
            runs = tuple(_runs_needing(project, report, finding.where))
            yield _as_lost(replace(finding, runs=runs), "neither this clone nor the remote has it")
        elif finding.place == "remote" and finding.where in gone["cache"] & gone["remote"]:
            yield _as_lost(finding, "neither the DVC cache nor the DVC remote has it", _made_again(report, finding))
        elif finding.place == "cache" and finding.kind == "missing":  # where there is no remote
            yield _as_lost(finding, "the DVC cache was the only copy", _made_again(report, finding))


def _as_lost(finding: Finding, why: str, made_again: str = "") -> Finding:
    otherwise = " or it is made again" if made_again else ""
    message = f"{finding.message}. Lost for good, unless another clone or a backup has it{otherwise}: {why}"
    return replace(finding, message=message, cure=f"run `cd4ml verify --repair` in every other clone{made_again}")


def _made_again(report: Report, finding: Finding) -> str:
    """What makes an output once more; nothing for raw data, which no run makes."""
    needed = report.needed.get(finding.where)
    if needed is None or not any(path.startswith(OUTPUTS) for path in needed.paths):
        return ""
    return f", else `cd4ml reproduce {needed.runs[0]} --store`"


def _runs_needing(project: Project, report: Report, object_id: str) -> Iterable[str]:
    """The runs in whose commits the object lies (or whose commits cannot be read to the end)."""
    for run, commit in report.commits.items():
        listed = trees_below(project.repository, commit)
        if listed is None or object_id in listed:
            yield run
