"""A new epoch carries everything over but what was erased, byte by byte; its message says what it replaces."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cd4ml.index.epoch import (
    Epoch,
    entry_files,
    epoch_message,
    kept_commits,
    parse_message,
    problems,
    readable,
    without,
)
from cd4ml.index.fold import encode_envelope, entry_path
from cd4ml.index.record import Entry, seal
from tests.index.index_world import bodies, entry, hexes, run_body


def files_of(*entries: Entry) -> dict[str, bytes]:
    return {entry_path(one.record): encode_envelope(one) for one in entries}


def tombstone(run: str, what: str = "run") -> dict[str, Any]:
    return seal(
        {
            "kind": "removal",
            "run": run,
            "commit": hexes("base", 40),
            "what": what,
            "reason": "asked for",
            "rule": "",
            "by": "Ada <ada@example.org>",
            "at": "2026-11-25T00:00:00Z",
            "objects": [],
        }
    )


@st.composite
def indexes(draw: st.DrawFn) -> dict[str, bytes]:
    """Entries of several folds, and a file that is made from them."""
    found = {body["id"]: body for body in draw(st.lists(bodies(), max_size=6))}
    entries = [entry(body, fold) for fold, body in enumerate(found.values(), start=1)]
    return {**files_of(*entries), "summary.json": b"{}"}


erased = entry(run_body("erased"), 3)
told = entry(tombstone(erased.record.id), 9)
OLD = {**files_of(erased, told, entry(run_body("kept"), 5)), "README.md": b"#"}


@given(indexes(), st.data())
def test_an_index_without_erased_runs_is_accepted_and_any_other_change_is_not(
    files: dict[str, bytes], data: st.DataObject
) -> None:
    old = {**files, **files_of(erased, told)}
    new = without(entry_files(old), [erased.record.id])
    assert problems(old, new, exact=True) == ()
    assert old.keys() - new.keys() == {entry_path(erased.record), "summary.json"}
    path = data.draw(st.sampled_from(sorted(new)))
    assert problems(old, {name: content for name, content in new.items() if name != path}, exact=True)
    place = data.draw(st.integers(0, len(new[path]) - 1))
    flipped = bytes([new[path][place] ^ 1])
    assert problems(old, {**new, path: new[path][:place] + flipped + new[path][place + 1 :]}, exact=True)


def test_what_was_folded_since_may_be_there_unless_the_very_tip_was_replaced() -> None:
    new = without(entry_files(OLD), [erased.record.id])
    later, before = files_of(entry(run_body("later"), 10)), files_of(entry(run_body("smuggled"), 9))
    assert problems(OLD, {**new, **later}, exact=False) == ()
    assert "was not there before" in problems(OLD, {**new, **later}, exact=True)[0]
    assert "was folded before" in problems(OLD, {**new, **before}, exact=False)[0]
    assert problems(OLD, {**new, "runs/aa/x.json": b"{}"}, exact=False)


@pytest.mark.parametrize(
    ("body", "is_one"),
    [
        (tombstone(erased.record.id), True),
        (tombstone(erased.record.id, "artefacts"), False),
        (tombstone("r" + "0" * 20), False),
    ],
)
def test_only_a_tombstone_of_that_run_lets_a_record_go(body: dict[str, Any], is_one: bool) -> None:
    old = files_of(erased, entry(body, 9))
    assert (problems(old, without(old, [erased.record.id]), exact=True) == ()) is is_one


def test_no_experiment_record_and_no_tombstone_can_be_erased() -> None:
    for path in OLD:
        if not path.startswith("runs/"):
            assert path in without(OLD, [erased.record.id, told.record.id])
    assert problems(OLD, {}, exact=True)


@given(st.integers(1, 10**9 - 1), st.integers(0, 5))
def test_a_message_says_what_epoch_it_begins(number: int, count: int) -> None:
    one = Epoch(number, hexes("tip", 40))
    message = epoch_message(one, count)
    assert parse_message(message) == one
    assert parse_message(message + "\n") == one
    assert parse_message(f"x{message}") is None
    assert parse_message(message.replace(f"Epoch: {number}", f"Epoch: {number + 1}")) is None


def test_the_landed_commits_are_kept_in_the_order_of_the_folds_each_once() -> None:
    entries = readable({path: data for path, data in OLD.items() if path.endswith(".json")})
    assert kept_commits(reversed(entries)) == tuple(
        one.result_commit for one in sorted(entries, key=lambda one: (one.fold, one.record.id))
    )
