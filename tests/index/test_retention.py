"""What may go: nothing that is needed, everything that is not, whatever the world looks like."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cd4ml.index.retention import (
    GRACE_HOURS,
    Holding,
    Inventory,
    Stored,
    erasure,
    erasure_of_purged,
    needed,
    rule_problems,
    still_free,
    sweep,
    unread_folders,
)

NOW = 1_800_000_000.0
GRACE = GRACE_HOURS * 3600
NAMES = [digit * 32 for digit in "0123456789"] + ["a" * 32 + ".dir", "b" * 32 + ".dir"]
names = st.sampled_from(NAMES)
sets = st.frozensets(names, max_size=4)


@st.composite
def holdings(draw: st.DrawFn, number: int) -> Holding:
    return Holding(
        f"r{number:020x}",
        dict.fromkeys(draw(sets), 5),
        draw(st.frozensets(st.sampled_from(NAMES[:10]), max_size=2)),
        draw(st.sampled_from(["", "", "exp/a asks for it", "tag v1", "is a draft"])),
        draw(st.sampled_from(["", "lifecycle = 'discarded'"])),
        gone := draw(st.sampled_from(["", "", "artefacts", "run"])),
        f"{gone}, says record x by Somebody" if gone else "",
        gone == "run" and draw(st.booleans()),
    )


@st.composite
def inventories(draw: st.DrawFn) -> Inventory:
    held = tuple(draw(holdings(number)) for number in range(draw(st.integers(0, 5))))
    listed = {name: draw(sets) for name in NAMES[10:] if draw(st.booleans())}
    own = frozenset(name for one in held if one.erased_here for name in (*one.objects, *one.raw))
    told = {name: one.told for one in held if one.gone == "run" for name in (*one.objects, *one.raw)}
    told |= dict.fromkeys(draw(sets), "erased, says record y by Somebody")  # a record may name whatever it likes
    ever = draw(sets)
    return Inventory(held, ever, listed, told, ever & draw(sets), own)


@st.composite
def places(draw: st.DrawFn) -> tuple[Stored, ...]:
    ages = st.sampled_from([None, 0.0, GRACE - 1, GRACE, 1e7])
    stored = []
    for where in ("local", "remote"):
        for name in sorted(draw(st.frozensets(names))):
            age = draw(ages)
            stored.append(Stored(where, name, 5, None if age is None else NOW - age))
    return tuple(stored)


unknown = st.sampled_from([(), ("local",), ("remote",), ("local", "remote")])


@given(inventories(), places(), unknown)
def test_nothing_that_anybody_needs_is_ever_freed(
    inventory: Inventory, stored: tuple[Stored, ...], wanted: Any
) -> None:
    """Said without the module's own words: whose promise holds, and whose raw data are kept."""
    swept = sweep(inventory, stored, NOW, unknown=wanted)
    free = {one.stored.md5 for one in swept.free}
    going = {one.run for one in swept.let_go}
    for run in inventory.holdings:
        if run.needed_by:
            assert run.run not in going
        if run.erased_here:
            continue
        if run.needed_by or (not run.rule and run.gone != "run") or (not run.gone and run.run not in going):
            assert not free & set(run.objects)
            for name in run.objects:
                assert not free & inventory.folders.get(name, frozenset())
        if run.gone != "run":
            assert not free & run.raw
    assert not free & (inventory.pinned - inventory.erased.keys() - inventory.erased_here)
    assert not free & (inventory.pinned_now - inventory.erased_here)


@given(inventories(), places(), unknown)
def test_a_run_is_let_go_by_a_rule_and_by_nothing_else(
    inventory: Inventory, stored: tuple[Stored, ...], wanted: Any
) -> None:
    for one in sweep(inventory, stored, NOW, unknown=wanted).let_go:
        run = next(run for run in inventory.holdings if run.run == one.run)
        assert one.rule == run.rule
        assert run.rule
        assert not run.needed_by
        assert not run.gone


@given(inventories(), places(), unknown)
def test_what_is_young_or_of_unknown_age_stays_unless_this_clone_erased_it_and_it_lies_in_its_cache(
    inventory: Inventory, stored: tuple[Stored, ...], wanted: Any
) -> None:
    for one in sweep(inventory, stored, NOW, unknown=wanted).free:
        known_old = one.stored.modified is not None and NOW - one.stored.modified >= GRACE
        assert known_old or (one.stored.md5 in inventory.erased_here and one.stored.where == "local")


@given(inventories(), places(), unknown)
def test_what_no_record_names_goes_only_where_that_was_asked_for(
    inventory: Inventory, stored: tuple[Stored, ...], wanted: Any
) -> None:
    named = {name for run in inventory.holdings for name in run.objects}
    named |= inventory.erased.keys() | inventory.erased_here
    named |= {inner for name in named for inner in inventory.folders.get(name, ())}
    for one in sweep(inventory, stored, NOW, unknown=wanted).free:
        if one.stored.md5 not in named:
            assert one.stored.where in wanted
            assert not unread_folders(inventory)


@given(inventories(), places(), unknown)
def test_every_old_object_of_a_run_that_nobody_keeps_is_freed(
    inventory: Inventory, stored: tuple[Stored, ...], wanted: Any
) -> None:
    swept = sweep(inventory, stored, NOW, unknown=wanted)
    free = {(one.stored.where, one.stored.md5) for one in swept.free}
    keep = needed(inventory)
    lost = {name for run in inventory.holdings if not run.kept for name in run.objects} - keep
    for one in stored:
        if one.md5 in lost and one.modified is not None and NOW - one.modified >= GRACE:
            assert (one.where, one.md5) in free


@given(inventories(), places(), unknown)
def test_a_second_sweep_after_the_first_has_nothing_to_do(
    inventory: Inventory, stored: tuple[Stored, ...], wanted: Any
) -> None:
    first = sweep(inventory, stored, NOW, unknown=wanted)
    going = {one.run for one in first.let_go}
    after = tuple(replace(run, gone="artefacts") if run.run in going else run for run in inventory.holdings)
    gone = {one.stored for one in first.free}
    left = tuple(one for one in stored if one not in gone)
    second = sweep(replace(inventory, holdings=after), left, NOW, unknown=wanted)
    assert second.let_go == ()
    assert second.free == ()
    # and cut off between record and deletion, it still finds the same objects
    again = sweep(replace(inventory, holdings=after), stored, NOW, unknown=wanted)
    assert {one.stored for one in again.free} == gone


@given(inventories(), inventories(), places())
def test_only_what_was_shown_and_may_still_go_is_deleted(
    shown: Inventory, now: Inventory, stored: tuple[Stored, ...]
) -> None:
    first, second = sweep(shown, stored, NOW), sweep(now, stored, NOW)
    for one in still_free(first, second):
        assert one.stored in {other.stored for other in first.free}
        assert one.stored.md5 not in needed(now)


def listed_by(run: Holding, inventory: Inventory) -> frozenset[str]:
    """What the folders among the objects of a run list."""
    return frozenset().union(*(inventory.folders.get(name, frozenset()) for name in run.objects))


@given(inventories().filter(lambda one: one.holdings), st.booleans(), st.data())
def test_an_erasure_leaves_no_object_of_the_model_and_none_that_others_keep(
    inventory: Inventory, keep_data: bool, data: st.DataObject
) -> None:
    held = inventory.holdings
    learned = {one.run: frozenset(sorted(one.objects)[:1]) for one in held}
    run = data.draw(st.sampled_from([one.run for one in held]))
    doomed = erasure(held, run, learned, inventory.folders, keep_data=keep_data)
    others = [one for one in held if one.run not in doomed.runs]
    shared = {name for one in others for name in (*one.objects, *one.raw, *listed_by(one, inventory))}
    own = next(one for one in held if one.run == run)
    assert learned[run] <= doomed.objects | shared
    assert listed_by(own, inventory) <= doomed.objects | shared
    for one in others:
        if one.gone != "run":
            assert not learned[one.run] & learned[run], "whoever has the very same model is erased with it"
        if one.kept and one.gone != "run":
            assert not doomed.objects & {*one.objects, *listed_by(one, inventory)}
        if one.gone != "run":
            assert not doomed.objects & one.raw, "the raw data of others stay"
        if not keep_data and one.gone != "run":
            assert not one.raw & next(holding.raw for holding in held if holding.run == run)
    if keep_data:
        assert doomed.raw == frozenset()


OBJECT = "a" * 32


def freed(run: Holding, *, age: float = GRACE, **more: Any) -> list[tuple[str, str]]:
    """Where the object of a run is freed, and why, when it lies in both places."""
    stored = [Stored(where, OBJECT, 5, NOW - age) for where in ("local", "remote")]
    return [(one.stored.where, one.why) for one in sweep(Inventory((run,), **more), stored, NOW).free]


@pytest.mark.parametrize("what", ["artefacts", "run"])
def test_a_removal_record_frees_nothing_that_a_live_branch_or_a_release_needs(what: str) -> None:
    told = "erased, says record x by Eve"
    run = Holding("r1", {OBJECT: 5}, needed_by="main asks for it", rule="age > 1d", gone=what, told=told)
    assert freed(run, erased={OBJECT: told}) == []


def test_a_removal_record_frees_artefacts_only_where_a_rule_still_lets_them_go() -> None:
    assert freed(Holding("r1", {OBJECT: 5}, gone="artefacts")) == []
    both = [("local", "let go before"), ("remote", "let go before")]
    assert freed(Holding("r1", {OBJECT: 5}, rule="age > 1d", gone="artefacts")) == both


@pytest.mark.parametrize("gone", ["", "artefacts"])
def test_the_raw_data_of_a_run_that_is_let_go_stay_also_where_what_is_unknown_may_go(gone: str) -> None:
    run = Holding("r1", {"b" * 32: 5}, frozenset({OBJECT}), rule="age > 1d", gone=gone)
    stored = [Stored(where, OBJECT, 5, NOW - GRACE) for where in ("local", "remote")]
    assert sweep(Inventory((run,)), stored, NOW, unknown=("local", "remote")).free == ()


def test_a_pin_of_the_past_does_not_keep_what_was_erased() -> None:
    told = "erased, says record x by Ada"
    run = Holding("r1", {}, frozenset({OBJECT}), gone="run", told=told)
    assert freed(run, erased={OBJECT: told}, pinned=frozenset({OBJECT})) == [("local", told), ("remote", told)]


def test_what_bears_no_name_of_an_object_stays_whatever_may_go() -> None:
    stored = [Stored("local", name, 5, NOW - GRACE) for name in ("README", "../x", "A" * 32)]
    assert sweep(Inventory(()), stored, NOW, unknown=("local", "remote")).free == ()


def test_what_was_shown_for_one_place_is_not_deleted_in_the_other() -> None:
    inventory = Inventory((Holding("r1", {OBJECT: 5}, rule="age > 1d"),))
    both = [Stored(where, OBJECT, 5, NOW - GRACE) for where in ("local", "remote")]
    shown, now = sweep(inventory, both[:1], NOW), sweep(inventory, both, NOW)
    assert [one.stored.where for one in still_free(shown, now)] == ["local"]


def test_what_another_clone_erased_goes_when_it_is_old_and_names_the_record() -> None:
    told = "erased, says record x by Ada"
    run = Holding("r1", {OBJECT: 5}, gone="run", told=told)
    assert freed(run, erased={OBJECT: told}) == [("local", told), ("remote", told)]
    assert freed(run, erased={OBJECT: told}, age=GRACE - 1) == []


def test_a_record_of_an_erasure_frees_nothing_that_is_pinned_now() -> None:
    told = {OBJECT: "erased, says record x by Eve"}
    run = Holding("r1", {}, frozenset({OBJECT}), gone="run")
    assert freed(run, erased=told, pinned=frozenset({OBJECT}), pinned_now=frozenset({OBJECT})) == []


def test_what_a_folder_of_an_erased_run_lists_is_erased_with_it_unless_another_run_has_it() -> None:
    folder, inside, shared = "f" * 32 + ".dir", "1" * 32, "2" * 32
    one, other = Holding("r1", {folder: 5}), Holding("r2", {shared: 5})
    doomed = erasure([one, other], "r1", {}, {folder: frozenset({inside, shared})}, keep_data=True)
    assert doomed.objects == {folder, inside}


def test_a_rule_that_cannot_be_read_names_file_key_and_place_in_one_line() -> None:
    origin = {"index.let_go": "conf/config.yaml"}
    (problem,) = rule_problems(["age > 1d", "lifecycle = discarded and age > 1d"], origin)
    assert "\n" not in str(problem)
    assert str(problem).startswith("conf/config.yaml: index.let_go.1: filter, character 13: ")
    assert str(problem).endswith("lifecycle = ^discarded and age > 1d")


def test_what_a_record_says_of_a_run_that_a_release_needs_takes_nothing_from_it() -> None:
    """Anybody may have landed it: such a run is named as one of the data's, and its objects stay."""
    old = Holding("r1", {"a" * 32: 1}, frozenset({"d" * 32}))
    released = Holding("r2", {"b" * 32: 1}, frozenset({"d" * 32}), needed_by="tag m@v1.0.0", gone="run")
    found = erasure([old, released], "r1", {}, {})
    assert (found.with_data, found.runs) == (("r2",), ("r1", "r2"))
    alone = erasure([old, released], "r1", {}, {}, keep_data=True)
    assert (alone.runs, alone.objects) == (("r1",), frozenset({"a" * 32}))
    ours = replace(released, erased_here=True)
    assert erasure([old, ours], "r1", {}, {}).with_data == ()


def test_of_a_purged_run_goes_what_its_tombstone_names_but_for_what_is_pinned_or_another_needs() -> None:
    purged = {"r1": frozenset({"a" * 32, "d" * 32, "b" * 32}), "r2": frozenset({"c" * 32, "d" * 32})}
    other = Holding("r3", {"b" * 32: 1})
    pinned = frozenset({"d" * 32})
    one = erasure_of_purged([other], "r1", purged, {}, pinned)
    assert (one.runs, one.objects) == (("r1",), frozenset({"a" * 32}))
    whole = erasure_of_purged([other], "r1", purged, {}, frozenset(), all_runs_of_data=True)
    assert (whole.runs, whole.objects) == (("r1", "r2"), frozenset({"a" * 32, "c" * 32, "d" * 32}))
    draft, landed = Holding("r4", {"e" * 32: 1}, frozenset({"d" * 32})), Holding("r5", {}, frozenset({"c" * 32}))
    held = [other, draft, landed]
    here = erasure_of_purged(held, "r1", purged, {}, frozenset(), drafts=("r4",), all_runs_of_data=True)
    assert (here.runs, here.objects) == (("r1", "r2", "r4"), frozenset({"a" * 32, "d" * 32, "e" * 32}))
    more = [Holding("r6", {}, frozenset({"d" * 32, "f" * 32})), Holding("r7", {}, frozenset({"f" * 32}))]
    both = erasure_of_purged(more, "r1", purged, {}, frozenset(), drafts=("r6", "r7"), all_runs_of_data=True)
    assert (both.runs, "f" * 32 in both.objects) == (("r1", "r2", "r6"), False)
    kept = erasure_of_purged(held, "r1", purged, {}, frozenset(), drafts=("r4",))
    assert (kept.runs, kept.objects) == (("r1",), frozenset({"a" * 32}))
