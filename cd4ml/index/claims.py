"""Claims: who says that it runs a fingerprint just now, and for how long others believe that.

A claim saves work and decides nothing: without one, with a false one or with two, the fold order still leaves one
result a fingerprint. Pure: what was seen goes in, and what to make of it comes out. No two machines' clocks are
ever compared. A claim is alive as long as its counter rises between the looks of the one who looks.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from cd4ml.index.instant import parse_instant

CLAIM_PREFIX = "refs/cd4ml/claims/"
"""One ref below this for every fingerprint that somebody says to run, to a blob that says who."""

LARGEST_CLAIM = 8192
"""Bytes of a claim at most."""

UNCHANGED_LOOKS = 2
"""After so many looks in a row that found it as it was, a claim is taken over."""

_SCHEMA = 1
_MOST_BEATS = 2**53
_LONGEST_TEXT = 255


@dataclass(frozen=True)
class Claim:
    """What a claim says. ``holder`` is the random name of one reconcile (32 hex digits), ``beat`` counts its signs of
    life from 1; ``branch``, ``by`` (a person's name) and ``since`` (ISO 8601) are for people alone."""

    fingerprint: str
    holder: str
    beat: int
    branch: str
    by: str
    since: str

    def next(self) -> Claim:
        """The same claim, one sign of life later."""
        return Claim(self.fingerprint, self.holder, self.beat + 1, self.branch, self.by, self.since)


@dataclass(frozen=True)
class Sighting:
    """What one clone knows of the claims of a fingerprint.

    ``unchanged`` counts the looks in a row that found it as it was, ``moved`` says that the last one found it alive.
    ``looked`` and ``first`` are when the last look counted and when any claim of the fingerprint was first seen,
    seconds of a clock of this machine that never jumps.
    """

    holder: str
    beat: int
    unchanged: int
    moved: bool
    looked: float
    first: float


def claim_ref(fingerprint: str) -> str:
    """The ref that claims a fingerprint."""
    return CLAIM_PREFIX + fingerprint


def encode_claim(claim: Claim) -> bytes:
    """The bytes of a claim's blob, at most ``LARGEST_CLAIM``: texts for people are cut."""
    body = {
        "schema": _SCHEMA,
        "holder": claim.holder,
        "beat": claim.beat,
        "branch": claim.branch[:_LONGEST_TEXT],
        "by": claim.by[:_LONGEST_TEXT],
        "since": claim.since,
    }
    return (json.dumps(body, sort_keys=True) + "\n").encode()


def parse_claim(ref: str, data: bytes | None) -> Claim | None:
    """The claim that a ref holds, or nothing when ref or bytes are none: such a claim counts for nothing."""
    fingerprint = ref.removeprefix(CLAIM_PREFIX)
    if data is None or len(data) > LARGEST_CLAIM or not _is_hex(fingerprint, 64):
        return None
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return _claim(fingerprint, body) if isinstance(body, dict) else None


def _claim(fingerprint: str, body: Mapping[str, Any]) -> Claim | None:
    holder, beat = body.get("holder"), body.get("beat")
    texts = [body.get(name) for name in ("branch", "by", "since")]
    if not _is_hex(holder, 32) or type(beat) is not int or not 1 <= beat <= _MOST_BEATS:
        return None
    if not all(isinstance(text, str) and len(text) <= _LONGEST_TEXT for text in texts):
        return None
    branch, by, since = map(str, texts)
    try:
        parse_instant(since)
    except ValueError:
        return None
    return Claim(fingerprint, str(holder), beat, branch, by, since)


def _is_hex(value: object, length: int) -> bool:
    return isinstance(value, str) and len(value) == length and set(value) <= set("0123456789abcdef")


def look(
    known: Mapping[str, Sighting], claims: Mapping[str, Claim], now: float, interval: float
) -> dict[str, Sighting]:
    """What is known after a look at all claims, by fingerprint.

    A look counts when the last that did is ``interval`` seconds ago, the time in which a living holder gives a
    sign of life; one that finds the counter risen, or another holder, always counts. What is claimed no more is
    forgotten.
    """
    return {
        fingerprint: _sighted(known.get(fingerprint), claim, now, interval) for fingerprint, claim in claims.items()
    }


def _sighted(known: Sighting | None, claim: Claim, now: float, interval: float) -> Sighting:
    if known is None or now < known.looked:  # after a restart of the machine its clock begins anew
        return Sighting(claim.holder, claim.beat, 0, False, now, now)
    if claim.holder != known.holder or claim.beat > known.beat:
        return Sighting(claim.holder, claim.beat, 0, True, now, known.first)
    if now - known.looked < interval:
        return known
    return Sighting(known.holder, known.beat, known.unchanged + 1, False, now, known.first)


def is_abandoned(sighting: Sighting, now: float, patience: float) -> bool:
    """Is a claim to be taken over? Also one that lives longer than any run may take, ``patience`` in seconds."""
    return sighting.unchanged >= UNCHANGED_LOOKS or now - sighting.first > patience


def is_undecided(sighting: Sighting) -> bool:
    """May another look show that the claim is abandoned? Not of one that has just been seen alive."""
    return not sighting.moved


def believed(
    claims: Mapping[str, Claim],
    sightings: Mapping[str, Sighting],
    own: Collection[str],
    now: float,
    patience: float,
) -> dict[str, Claim]:
    """The claims to leave a run to, by fingerprint.

    ``own`` are holders that were reconciles of this clone: one works on it at a time, so they have ended.
    """
    return {
        fingerprint: claim
        for fingerprint, claim in claims.items()
        if claim.holder not in own
        and not (fingerprint in sightings and is_abandoned(sightings[fingerprint], now, patience))
    }
