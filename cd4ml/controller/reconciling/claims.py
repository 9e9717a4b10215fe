"""Claims: telling other reconcilers what this one runs, and leaving to them what they run.

A claim is a ref ``refs/cd4ml/claims/FINGERPRINT`` of the remote to a small blob, made before a run, renewed while it
lasts and dropped after its record landed. All of that is a favour: whatever a remote, a forger or a crash does to
claims, runs are executed and recorded as if there were none.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from cd4ml.controller.project import Project
from cd4ml.controller.running.run import WORK_LOCK
from cd4ml.errors import Cd4mlError, RemoteError
from cd4ml.gateways.files import is_held, write_atomically
from cd4ml.gateways.git import RefUpdate, RemoteState
from cd4ml.gateways.process import crash_point, let_children
from cd4ml.gateways.untrusted import read_json
from cd4ml.index.claims import (
    LARGEST_CLAIM,
    Claim,
    Sighting,
    believed,
    claim_ref,
    encode_claim,
    is_abandoned,
    is_undecided,
    look,
    parse_claim,
)
from cd4ml.index.instant import utc_text
from cd4ml.spec.experiment import Spec

_SECONDS = 15.0
_SECONDS_VARIABLE = "CD4ML_CLAIM_SECONDS"
_PUSH_SECONDS = 60.0
_SPARE_SECONDS = 600.0
_MOST_LOST = 3
_MOST_HOLDERS = 50
_KNOWN = "claims.json"
_LARGEST_KNOWN = 16 << 20


def interval() -> float:
    """Seconds between two signs of life, and between two looks that count."""
    try:
        return max(0.01, float(os.environ.get(_SECONDS_VARIABLE, "")))
    except ValueError:
        return _SECONDS


def patience(policy: Spec) -> float:
    """Seconds after which no claim of a fingerprint is believed any more: longer than a run may take, and a repeat."""
    return 2 * policy.executor.timeout_minutes * 60 + _SPARE_SECONDS


def running_elsewhere(project: Project, remote: RemoteState, policy: Spec) -> Mapping[str, Claim]:
    """The claims that a reconcile begun now would leave runs to, by fingerprint. Changes nothing.

    Those of this clone count while another process works in it.
    """
    if not remote.claims:
        return {}
    own, sightings = _known(project)
    here = () if is_held(project.private / WORK_LOCK) else own
    return believed(_parsed(project, remote), sightings, here, time.monotonic(), patience(policy))


class Claims:
    """The claims of one reconcile, which holds the clone's work lock. A context: at its end all are dropped.

    A repository that is its own remote needs none, since one reconcile at a time works on it.
    """

    def __init__(self, project: Project) -> None:
        self._project = project
        self._works = project.has_remote
        self._holder = secrets.token_hex(16)
        self._own, self._sightings = _known(project)
        self._held: dict[str, tuple[Claim, str]] = {}
        self._finished: dict[str, str] = {}
        self._lost: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._beating: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        if kind is not None and not issubclass(kind, Exception):
            let_children()  # interrupted: all that ran has been ended, and others need not wait for it
        if self._beating is not None:
            self._beating.join()
        for fingerprint in tuple(self._held):
            self.finish(fingerprint)
        self.drop()

    # ── the claims of others ──

    def look(self, remote: RemoteState, patience: float) -> Mapping[str, Claim]:
        """The claims to leave runs to, by fingerprint, as ``remote`` shows them; the look is remembered.

        A claim of a fingerprint that has been claimed for ``patience`` seconds is not believed any more.
        """
        if not remote.claims and not self._sightings:
            return {}
        claims, now = _parsed(self._project, remote), time.monotonic()
        others = {name: claim for name, claim in claims.items() if claim.holder != self._holder}
        seen = look(self._sightings, others, now, interval())
        if seen != self._sightings:
            self._sightings = seen
            self._remember()
        return believed(others, seen, self._own, now, patience)

    def is_undecided(self, fingerprint: str) -> bool:
        """May a further look show that nobody runs this any more?"""
        return fingerprint in self._sightings and is_undecided(self._sightings[fingerprint])

    def tidy(self, remote: RemoteState, patience: float, is_answered: Callable[[str], bool]) -> None:
        """Drop the claims that are none, that nobody holds any more, and those of fingerprints that have a result."""
        if not self._works or not remote.claims:
            return
        claims, now = _parsed(self._project, remote), time.monotonic()
        kept = set()
        for fingerprint, claim in claims.items():
            sighting = self._sightings.get(fingerprint)
            dead = claim.holder in self._own or (sighting and is_abandoned(sighting, now, patience))
            if claim.holder == self._holder or not (dead or is_answered(fingerprint)):
                kept.add(claim_ref(fingerprint))
        self._delete({ref: blob for ref, blob in remote.claims.items() if ref not in kept})

    # ── its own ──

    def take(self, fingerprint: str, branch: str, remote: RemoteState) -> bool:
        """Claim a fingerprint that nobody is believed to run; false when somebody else was faster.

        True also when the remote takes no claims: then it is run without. ``remote`` is what was seen last.
        """
        if not self._works:
            return True
        claim = self._new(fingerprint, branch)
        ref = claim_ref(fingerprint)
        try:
            blob = self._project.repository.write_blob(encode_claim(claim))
        except Cd4mlError:
            return True
        if self._put(ref, remote.claims.get(ref, ""), blob):
            self._hold(claim, blob)
            crash_point("claim.taken")
            return True
        found = self._found(ref) if self._works else ""
        if found is None or found == "":
            return True
        self._lost[fingerprint] += 1
        return self._lost[fingerprint] > _MOST_LOST  # whoever is always faster lands nothing

    def _put(self, ref: str, before: str, blob: str) -> bool:
        """Move a claim; one that somebody dropped meanwhile is made anew. Says whether it is there now."""
        try:
            self._project.repository.push(self._project.remote, [RefUpdate(ref, before, blob)], seconds=_PUSH_SECONDS)
        except RemoteError:
            found = self._found(ref)
            if found is None and before:
                return self._put(ref, "", blob)
            if found in (None, before):  # it takes none
                self._works = False
            return found == blob
        return True

    def finish(self, fingerprint: str) -> None:
        """The run has ended: no more signs of life. The claim is dropped with the next ``drop``."""
        with self._lock:
            if fingerprint in self._held:
                _, blob = self._held.pop(fingerprint)
                self._finished[claim_ref(fingerprint)] = blob

    def drop(self) -> None:
        """Drop the claims of runs that have ended. Raises nothing: a claim that stays is taken for what it is."""
        with self._lock:
            finished, self._finished = self._finished, {}
        if finished:
            self._delete(finished)
            crash_point("claim.dropped")

    def _new(self, fingerprint: str, branch: str) -> Claim:
        by = self._project.repository.me().partition(" <")[0]
        since = utc_text(datetime.now(UTC).replace(microsecond=0))
        return Claim(fingerprint, self._holder, 1, branch, by, since)

    def _hold(self, claim: Claim, blob: str) -> None:
        with self._lock:
            self._held[claim.fingerprint] = (claim, blob)
            if self._beating is None:
                self._beating = threading.Thread(target=self._beat_on, name="claims", daemon=True)
                self._beating.start()
                self._remember()

    def _beat_on(self) -> None:
        while not self._end.wait(interval()):
            with contextlib.suppress(Cd4mlError, OSError):  # the next beat may do better, and nothing depends on it
                self._beat()

    def _beat(self) -> None:
        with self._lock:
            for fingerprint, (claim, before) in tuple(self._held.items()):
                if self._end.is_set():
                    return
                later = claim.next()
                blob = self._project.repository.write_blob(encode_claim(later))
                ref = claim_ref(fingerprint)
                found: str | None = blob
                try:
                    update = RefUpdate(ref, before, blob)
                    self._project.repository.push(self._project.remote, [update], seconds=_PUSH_SECONDS)
                except RemoteError:
                    found = self._found(ref)
                if found == blob:
                    self._held[fingerprint] = (later, blob)
                elif found not in (before, ""):
                    del self._held[fingerprint]  # taken over, by whoever took this process for dead

    def _found(self, ref: str) -> str | None:
        """What the remote has there now; ``""`` when it cannot be asked."""
        try:
            return self._project.repository.remote_ref(self._project.remote, ref)
        except RemoteError:
            return ""

    def _delete(self, refs: Mapping[str, str]) -> None:
        """Together if all are as they were seen, else each by itself."""
        updates = [RefUpdate(ref, blob, "") for ref, blob in refs.items()]
        for group in (updates, *([update] for update in updates if len(updates) > 1)):
            try:
                if group:
                    self._project.repository.push(self._project.remote, group, seconds=_PUSH_SECONDS)
            except RemoteError:
                continue
            if group is updates:
                return

    def _remember(self) -> None:
        """Write down what was seen, and that this holder is one of this clone's: if it is killed, the next knows."""
        holders = [*self._own, *([self._holder] if self._beating else [])][-_MOST_HOLDERS:]
        seen = {fingerprint: vars(sighting) for fingerprint, sighting in self._sightings.items()}
        content = json.dumps({"holders": holders, "seen": seen}, sort_keys=True)
        path = self._project.private / _KNOWN
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, content.encode())


def _parsed(project: Project, remote: RemoteState) -> dict[str, Claim]:
    found = (
        parse_claim(ref, project.repository.read_object(blob, LARGEST_CLAIM)) for ref, blob in remote.claims.items()
    )
    return {claim.fingerprint: claim for claim in found if claim is not None}


def _known(project: Project) -> tuple[tuple[str, ...], dict[str, Sighting]]:
    """Holders that were reconciles of this clone, and what was seen before; nothing of either when unreadable."""
    told: Any = read_json(project.private / _KNOWN, _LARGEST_KNOWN)
    try:
        seen = {str(name): Sighting(**value) for name, value in told["seen"].items()}
        return tuple(map(str, told["holders"])), seen
    except (TypeError, KeyError, AttributeError):
        return (), {}
