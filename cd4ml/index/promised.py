"""What records say of each other, and which stored objects they promise; asked of some records after the other."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from cd4ml.index.audit import REPAIR, RESTORE, Finding
from cd4ml.index.history import RemovalEntry
from cd4ml.index.record import Entry, ExperimentRecord, RemovalRecord, RunRecord
from cd4ml.index.removed import ERASED, counting, words
from cd4ml.index.retention import OBJECT_NAME, OUTPUTS
from cd4ml.spec.pin import Pin
from cd4ml.spec.pipeline import pin_path

# ── what records say of each other ──


class References:
    """Which runs answers and removals name."""

    def __init__(self) -> None:
        self._erased: set[str] = set()
        self._named: list[tuple[str, str, str]] = []

    def take(self, entry: Entry) -> None:
        """Keep what an entry names."""
        record = entry.record
        if isinstance(record, ExperimentRecord):
            named = [("answer." + side, run) for side, run in record.answer.items() if run is not None]
        elif isinstance(record, RemovalRecord) and record.what != ERASED:
            named = [("run", record.run)]
        else:
            named = []
            if isinstance(record, RemovalRecord):
                self._erased.add(record.run)
        self._named += [(record.id, field, run) for field, run in named]

    def findings(self, known: Collection[str]) -> Iterator[Finding]:
        """A finding for each that is neither known nor erased."""
        for record_id, field, run in self._named:
            if run not in known and run not in self._erased:
                message = f"{field} names {run}, which is not in the index: it was dropped"
                yield Finding("missing", "run", "index", run, f"{record_id}: {message}", RESTORE)


# ── stored objects ──


@dataclass(frozen=True)
class Needed:
    """An object that runs promise: its MD5 is its name in DVC's storage; ``paths`` and ``runs`` say what for.

    ``in_git`` is ``COMMIT:PATH`` where Git may hold the same bytes (``""``: nowhere).
    """

    md5: str
    sha256: str
    bytes: int
    paths: tuple[str, ...]
    runs: tuple[str, ...]
    in_git: str = ""


class Promises:
    """What runs promise. Of a run that was erased, nothing is promised any more, and of one whose artefacts were let
    go, its raw data are.

    ``removals`` are all that there are, in fold order; ``findings`` are of records that contradict each other.
    """

    def __init__(self, removals: Iterable[RemovalEntry]) -> None:
        self.findings: list[Finding] = []
        gone = {run: one.removal.what for run, one in counting(removals).items()}
        self._erased = {run for run, what in gone.items() if what == ERASED}
        self._let_go = gone.keys() - self._erased
        self._promised: dict[str, Needed] = {}
        self._needing: dict[str, tuple[dict[str, None], list[str]]] = {}

    def take(self, run: RunRecord, commit: str, pins: Mapping[str, Pin | None]) -> None:
        """Keep what a run promises, given its result commit and its pins."""
        if run.id in self._erased or not run.succeeded:
            return
        for md5, sha256, size, path, in_git in _promises(run, commit, pins, outputs=run.id not in self._let_go):
            known = self._promised.get(md5)
            if known is None:
                known = self._promised[md5] = Needed(md5, sha256, size, (path,), (run.id,), in_git)
                self._needing[md5] = ({}, [])
            if (known.sha256, known.bytes) != (sha256, size):
                message = f"{known.runs[0]} and {run.id} state other SHA-256 or size of it"
                self.findings.append(Finding("edited", "object", "index", md5, message, RESTORE, runs=(run.id,)))
                continue
            paths, names = self._needing[md5]
            paths[path] = None
            if not names or names[-1] != run.id:
                names.append(run.id)

    def needed(self) -> tuple[Needed, ...]:
        """Every object that is promised, by name."""
        found = []
        for md5, one in sorted(self._promised.items()):
            paths, names = self._needing[md5]
            found.append(replace(one, paths=tuple(paths), runs=tuple(dict.fromkeys(names))))
        return tuple(found)


def _promises(
    run: RunRecord, commit: str, pins: Mapping[str, Pin | None], *, outputs: bool
) -> Iterator[tuple[str, str, int, str, str]]:
    """MD5, SHA-256, bytes and path of each, and where Git may hold the same."""
    for path, stated in run.body["files"].items() if outputs else ():
        if path.startswith(OUTPUTS) and OBJECT_NAME.fullmatch(stated["md5"]):
            yield stated["md5"], stated["sha256"], stated["bytes"], path, f"{commit}:{path}"
    for pin in pins.values():
        if pin is not None:
            yield pin.raw_md5, pin.raw_sha256, pin.raw_bytes, pin_path(pin.source), ""


def not_to_be_stored(removals: Iterable[RemovalEntry], needed: Collection[str]) -> dict[str, RemovalRecord]:
    """The objects of erased runs, by name, that nothing else needs."""
    return {
        str(held["md5"]): one.removal
        for one in removals
        if one.removal.what == ERASED
        for held in one.removal.body["objects"]
        if held["md5"] not in needed and OBJECT_NAME.fullmatch(str(held["md5"]))
    }


@dataclass(frozen=True)
class Held:
    """What a place holds under an object's name: digests and size, ``None`` for digests that were not taken.

    What is there and no file has fewer bytes than none.
    """

    sha256: str | None
    md5: str | None
    bytes: int


def audit_object(
    needed: Needed, place: Literal["cache", "remote"], held: Held | None, *, only_copy: bool
) -> Finding | None:
    """Is the object there, with the bytes that were promised? ``only_copy``: no other place is known to hold it."""
    what = f"{needed.paths[0]}{f' and {len(needed.paths) - 1} more' if len(needed.paths) > 1 else ''}"
    if held is None:
        fault = place == "remote" or only_copy
        message = f"{what}: is not in the {_PLACES[place]}"
        return Finding("missing", "object", place, needed.md5, message, REPAIR, fault, needed.runs)
    if held.bytes < 0:
        message = f"{what}: is no file in the {_PLACES[place]}"
    elif held.bytes != needed.bytes:
        message = f"{what}: has {held.bytes} bytes in the {_PLACES[place]}, and {needed.bytes} were recorded"
    elif held.sha256 is not None and (held.sha256, held.md5) != (needed.sha256, needed.md5.removesuffix(".dir")):
        message = f"{what}: has other bytes in the {_PLACES[place]} than were recorded"
    else:
        return None
    return Finding("damaged", "object", place, needed.md5, message, REPAIR, runs=needed.runs)


def audit_erased(md5: str, removal: RemovalRecord, place: Literal["cache", "remote"]) -> Finding:
    """An object that is there and should not be. No fault: whoever may land a record may land a tombstone."""
    message = f"a record says of its run {removal.run}: {words(removal.body)}; the {_PLACES[place]} has it yet"
    cure = "`cd4ml gc` says whether anything needs it"
    return Finding("erased", "object", place, md5, message, cure, fault=False)


_PLACES = {"cache": "DVC cache", "remote": "DVC remote"}
