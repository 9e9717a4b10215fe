"""What a claim says, who believes it, and for how long."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cd4ml.index.claims import (
    LARGEST_CLAIM,
    UNCHANGED_LOOKS,
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
from tests.index.index_world import hexes

PRINT = hexes("fingerprint")
CLAIM = Claim(PRINT, hexes("holder", 32), 1, "exp/a", "Ada", "2026-11-03T10:00:00Z")
INTERVAL, PATIENCE = 15.0, 7200.0


def looks(*seen: tuple[float, Claim | None]) -> dict[str, Sighting]:
    """What is known after looks at these times."""
    known: dict[str, Sighting] = {}
    for now, claim in seen:
        known = look(known, {PRINT: claim} if claim else {}, now, INTERVAL)
    return known


def beat(number: int) -> Claim:
    return replace(CLAIM, beat=number)


@given(st.text(), st.text(), st.integers(1, 2**53))
def test_a_claim_is_read_as_it_was_written_and_is_small(branch: str, by: str, number: int) -> None:
    claim = replace(CLAIM, branch=branch, by=by, beat=number)
    data = encode_claim(claim)
    assert len(data) <= LARGEST_CLAIM
    assert parse_claim(claim_ref(PRINT), data) == replace(claim, branch=branch[:255], by=by[:255])


BODY = json.loads(encode_claim(CLAIM))


@pytest.mark.parametrize(
    "data",
    [
        None, b"", b"\xff", b"[]", b"1", b"{}", b"[" * 100_000, b" " * LARGEST_CLAIM + encode_claim(CLAIM),
        *(json.dumps({**BODY, key: value}).encode() for key, value in [
            ("holder", "x"), ("holder", None), ("holder", "A" * 32), ("beat", 0), ("beat", -1), ("beat", 1.5),
            ("beat", True),
            ("beat", 2**60), ("beat", "1"), ("branch", 1), ("by", "x" * 300), ("since", "yesterday"), ("since", None),
        ]),
    ],
)  # fmt: skip
def test_what_is_no_claim_is_nothing_and_no_error(data: bytes | None) -> None:
    assert parse_claim(claim_ref(PRINT), data) is None


@pytest.mark.parametrize("name", ["", "x", PRINT[:-1], PRINT.upper(), f"{PRINT}/more", f"{PRINT}\n"])
def test_a_ref_that_names_no_fingerprint_holds_no_claim(name: str) -> None:
    assert parse_claim(claim_ref(name), encode_claim(CLAIM)) is None


@given(st.dictionaries(st.text(), st.none() | st.integers() | st.text()))
def test_fields_of_later_versions_are_tolerated(more: dict[str, object]) -> None:
    body = {**more, **BODY}
    assert parse_claim(claim_ref(PRINT), json.dumps(body)[:LARGEST_CLAIM].encode()) in (CLAIM, None)
    assert parse_claim(claim_ref(PRINT), json.dumps({"new": 1, **BODY}).encode()) == CLAIM


def test_two_unchanged_looks_an_interval_apart_show_that_a_claim_is_abandoned() -> None:
    assert UNCHANGED_LOOKS == 2
    for seen, abandoned in (
        ([(0.0, CLAIM)], False),
        ([(0.0, CLAIM), (15.0, CLAIM)], False),
        ([(0.0, CLAIM), (15.0, CLAIM), (30.0, CLAIM)], True),
        ([(0.0, CLAIM), (1.0, CLAIM), (2.0, CLAIM), (3.0, CLAIM)], False),  # too soon to say
        ([(0.0, CLAIM), (15.0, CLAIM), (30.0, beat(2)), (45.0, beat(2))], False),
        ([(0.0, beat(5)), (15.0, beat(4)), (30.0, beat(3))], True),  # an old one put back is no sign of life
        ([(0.0, CLAIM), (15.0, CLAIM), (30.0, replace(CLAIM, holder=hexes("other", 32)))], False),
        ([(0.0, CLAIM), (15.0, CLAIM), (20.0, None), (30.0, CLAIM)], False),
        ([(9e6, CLAIM), (9e6 + 15, CLAIM), (5.0, CLAIM)], False),  # this machine was started anew
        ([(9e6, CLAIM), (5.0, CLAIM), (20.0, CLAIM), (35.0, CLAIM)], True),  # and counts from then on
    ):
        assert is_abandoned(looks(*seen)[PRINT], seen[-1][0], PATIENCE) is abandoned, seen


def test_nobody_needs_to_wait_for_a_claim_that_was_seen_alive() -> None:
    assert is_undecided(looks((0.0, CLAIM))[PRINT])
    assert not is_undecided(looks((0.0, CLAIM), (3.0, beat(2)))[PRINT])
    assert not is_undecided(looks((0.0, CLAIM), (3.0, beat(2)), (4.0, beat(2)))[PRINT])
    assert is_undecided(looks((0.0, CLAIM), (3.0, beat(2)), (18.0, beat(2)))[PRINT])


@given(st.lists(st.floats(0.1, 100.0), min_size=1, max_size=60), st.booleans())
def test_a_claim_that_shows_life_before_every_look_is_believed_and_one_that_never_does_is_not(
    pauses: list[float], alive: bool
) -> None:
    known: dict[str, Sighting] = {}
    now = 0.0
    counted = 0
    last = 0.0
    for number, pause in enumerate([0.0, *pauses], 1):
        now += pause
        claim = beat(number) if alive else CLAIM
        if number > 1 and now - last >= INTERVAL:
            counted, last = counted + 1, now
        known = look(known, {PRINT: claim}, now, INTERVAL)
        assert bool(believed({PRINT: claim}, known, (), now, PATIENCE)) is (alive or counted < UNCHANGED_LOOKS)


def test_no_claim_is_believed_for_ever_however_often_holders_change() -> None:
    seen = [(15.0 * number, replace(CLAIM, holder=hexes(number, 32))) for number in range(1000)]
    known = looks(*seen)
    assert believed({PRINT: seen[-1][1]}, known, (), seen[-1][0], PATIENCE) == {}
    assert believed({PRINT: seen[9][1]}, looks(*seen[:10]), (), seen[9][0], PATIENCE) != {}


def test_the_claim_of_a_reconcile_of_this_clone_that_has_ended_is_not_believed() -> None:
    known = looks((0.0, CLAIM))
    assert believed({PRINT: CLAIM}, known, (), 0.0, PATIENCE) == {PRINT: CLAIM}
    assert believed({PRINT: CLAIM}, known, (CLAIM.holder,), 0.0, PATIENCE) == {}
