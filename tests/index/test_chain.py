"""A chain of folds is sound when each only adds what landed; whatever else one does is found, and named."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cd4ml.index.chain import Checked, FoldCommit, Touched, check_chain
from cd4ml.index.fold import Landed, fold
from cd4ml.index.record import RECORD_PATH, encode, seal
from cd4ml.index.validate import MAX_DEPTH
from tests.index.index_world import experiment_body, hexes, landed, run_body

SUMMARY = "summary.json"


def chain_of(folds: list[list[dict[str, Any]]]) -> list[FoldCommit]:
    """The commits that folding these records, one list after the other, makes."""
    made: list[FoldCommit] = []
    for number, bodies in enumerate(folds, 1):
        taken = [landed(body) for body in bodies]
        plan = fold((), taken, number)
        entries = [Touched(path, "A", "100644", data) for path, data in plan.files.items()]
        counted = Touched(SUMMARY, "M", "100644", json.dumps({"folds": number}).encode())
        landings = {one.commit: one for one in taken}
        made.append(FoldCommit(hexes(f"fold {number}", 40), (*entries, counted), landings, begins=number == 1))
    return made


def checked(folds: list[FoldCommit], tip: str | None = None, number: int | None = None) -> Checked:
    held = {(one.commit, touched.path) for one in folds for touched in one.touched}
    return check_chain(folds, tip, number, summary=SUMMARY, holds=lambda commit, path: (commit, path) in held)


@st.composite
def histories(draw: st.DrawFn) -> list[list[dict[str, Any]]]:
    """Records in folds, no record twice."""
    count = draw(st.integers(1, 5))
    bodies = [
        run_body(label, failed=draw(st.booleans())) if draw(st.booleans()) else experiment_body(f"exp/{label}", label)
        for label in range(count)
    ]
    folds: list[list[dict[str, Any]]] = [[bodies[0]]]
    for body in bodies[1:]:
        if draw(st.booleans()):
            folds.append([body])
        else:
            folds[-1].append(body)
    return folds


@settings(max_examples=20)
@given(histories(), st.data())
def test_what_folds_make_is_sound_and_can_be_checked_in_parts(
    history: list[list[dict[str, Any]]], data: st.DataObject
) -> None:
    chain = chain_of(history)
    whole = checked(chain)
    assert whole == Checked(chain[-1].commit, len(chain))
    cut = data.draw(st.integers(0, len(chain)))
    first = checked(chain[:cut])
    assert checked(chain[cut:], first.tip, first.number) == whole


def entry_of(fold_commit: FoldCommit) -> Touched:
    return next(one for one in fold_commit.touched if one.is_entry)


def with_entry(fold_commit: FoldCommit, entry: Touched) -> FoldCommit:
    others = tuple(one for one in fold_commit.touched if one.path != entry.path)
    return replace(fold_commit, touched=(*others, entry))


def one_byte(one: FoldCommit, flip: int) -> FoldCommit:
    entry = entry_of(one)
    data = bytearray(entry.data or b"")
    data[flip % len(data)] ^= 1
    return with_entry(one, replace(entry, data=bytes(data)))


def another_value(one: FoldCommit, _: int) -> FoldCommit:
    """The record sealed and digested anew, so that it agrees with itself."""
    entry = entry_of(one)
    envelope = json.loads(entry.data or b"")
    envelope["record"] = seal(envelope["record"] | {"branch": "exp/forged"})
    body = (json.dumps(envelope["record"], indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()
    envelope["record_sha256"] = hashlib.sha256(body).hexdigest()
    return with_entry(one, replace(entry, data=(json.dumps(envelope, indent=1, sort_keys=True) + "\n").encode()))


def another_hand(one: FoldCommit, _: int) -> FoldCommit:
    entry = entry_of(one)
    told = (entry.data or b"").replace(b"Judge <judge@example.org>", b"Eve <eve@example.org>", 1)
    return with_entry(one, replace(entry, data=told))


def status(letter: str) -> Callable[[FoldCommit, int], FoldCommit]:
    def change(one: FoldCommit, _: int) -> FoldCommit:
        return with_entry(one, replace(entry_of(one), status=letter))

    change.__name__ = f"status_{letter}"
    return change


def executable(one: FoldCommit, _: int) -> FoldCommit:
    return with_entry(one, replace(entry_of(one), mode="100755"))


def another_place(one: FoldCommit, _: int) -> FoldCommit:
    entry = entry_of(one)
    others = tuple(touched for touched in one.touched if touched != entry)
    return replace(one, touched=(*others, replace(entry, path=f"{entry.path}.json")))


def no_proof(one: FoldCommit, _: int) -> FoldCommit:
    return replace(one, landed={})


def left_out(one: FoldCommit, _: int) -> FoldCommit:
    entry = entry_of(one)
    return replace(one, touched=tuple(touched for touched in one.touched if touched != entry))


def proof_of_something_else(one: FoldCommit, _: int) -> FoldCommit:
    other = landed(experiment_body("exp/other", "other"))
    return replace(one, landed={commit: replace(other, commit=commit) for commit in one.landed})


def no_record(one: FoldCommit, _: int) -> FoldCommit:
    return replace(one, landed={commit: Landed("", commit, (), (), b"", "") for commit in one.landed})


def miscounted(one: FoldCommit, _: int) -> FoldCommit:
    return with_entry(one, Touched(SUMMARY, "M", "100644", b'{"folds": 999}'))


def uncounted(one: FoldCommit, _: int) -> FoldCommit:
    return with_entry(one, Touched(SUMMARY, "D", "000000"))


def garbled_count(one: FoldCommit, flip: int) -> FoldCommit:
    garbled = (b'{"folds": "many"}', b'{"folds": true}', b"{}", b"[]", b"\xff", b'{"folds": null}')
    return with_entry(one, Touched(SUMMARY, "M", "100644", garbled[flip % len(garbled)]))


def another_commits_child(one: FoldCommit, _: int) -> FoldCommit:
    return replace(one, landed={commit: replace(told, parents=("0" * 40,)) for commit, told in one.landed.items()})


def changes_the_source(one: FoldCommit, _: int) -> FoldCommit:
    landings = {
        commit: replace(told, tree_changes=(*told.tree_changes, "src/model.py")) for commit, told in one.landed.items()
    }
    return replace(one, landed=landings)


def another_parent(one: FoldCommit, _: int) -> FoldCommit:
    """A commit that is no landed one; behind it a landed one may hide."""
    return replace(one, landed={**one.landed, "1" * 40: Landed("", "1" * 40, ("2" * 40,), ("x",), b"", "x")})


def with_a_record_of_its_own(one: FoldCommit, _: int) -> FoldCommit:
    return replace(one, touched=(*one.touched, Touched(RECORD_PATH, "A", "100644", b"{}")))


def says_epoch(one: FoldCommit, _: int) -> FoldCommit:
    return replace(one, says_epoch=True, begins=False)


FORGERIES = (
    *(one_byte, another_value, another_hand, status("M"), status("D"), status("T"), executable, another_place),
    *(no_proof, left_out, proof_of_something_else, no_record, miscounted, uncounted, garbled_count),
    *(another_commits_child, changes_the_source, another_parent, with_a_record_of_its_own, says_epoch),
)


@pytest.mark.parametrize("forge", FORGERIES, ids=lambda forge: forge.__name__)
@settings(max_examples=12)
@given(histories(), st.data())
def test_a_forged_commit_is_found_and_named_and_what_came_before_it_is_sound(
    forge: Callable[[FoldCommit, int], FoldCommit], history: list[list[dict[str, Any]]], data: st.DataObject
) -> None:
    chain = chain_of(history)
    place = data.draw(st.integers(0, len(chain) - 1))
    chain[place] = forge(chain[place], data.draw(st.integers(0, 10_000)))
    found = checked(chain)
    assert found.forgery is not None
    assert found.forgery.fold == chain[place].commit
    assert found.tip == (chain[place - 1].commit if place else None)


@pytest.mark.parametrize("order", [order for order in permutations(range(1, 4)) if order != (1, 2, 3)])
def test_folds_in_another_order_are_found(order: tuple[int, ...]) -> None:
    first, *others = chain_of([[run_body(number)] for number in range(4)])
    assert checked([first, *(others[place - 1] for place in order)]).forgery is not None


def test_the_first_of_an_epoch_may_hold_entries_of_several_folds() -> None:
    first, second = chain_of([[run_body(1)], [run_body(2)]])
    entries = (*(one for one in first.touched if one.is_entry), *second.touched)
    epoch = FoldCommit(hexes("epoch", 40), entries, {**first.landed, **second.landed}, begins=True)
    assert checked([epoch]) == Checked(epoch.commit, 2)
    assert checked([replace(epoch, begins=False)], "x", 1).forgery is not None


def test_a_record_of_a_later_version_is_held_against_what_landed_too() -> None:
    body = run_body(1) | {"schema": 99, "kind": "later", "id": f"l{'0' * 20}"}
    data = (json.dumps(body, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()
    landing = replace(landed(run_body(1)), data=data)
    envelope = {
        "record_sha256": hashlib.sha256(data).hexdigest(),
        "result_commit": landing.commit,
        "landed_by": landing.committer,
        "fold": 1,
        "record": body,
    }
    told = (json.dumps(envelope, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()
    path = f"runs/xx/{body['id']}.json"
    sound = FoldCommit(hexes("fold", 40), (Touched(path, "A", "100644", told),), {landing.commit: landing}, begins=True)
    assert checked([sound]).forgery is None
    forged = Touched(path, "A", "100644", told.replace(b'"numpy": "2.4.6"', b'"numpy": "2.4.7"'))
    assert checked([replace(sound, touched=(forged,))]).forgery is not None


def taken_in(body: dict[str, Any], path: str) -> FoldCommit:
    """A first fold of this record as it is, whether or not a fold would take it."""
    landing = replace(landed({"commit": hexes("source", 40), **body}), data=encode(body))
    envelope = {
        "record_sha256": hashlib.sha256(landing.data).hexdigest(),
        "result_commit": landing.commit,
        "landed_by": landing.committer,
        "fold": 1,
        "record": body,
    }
    entry = Touched(path, "A", "100644", encode(envelope))
    return FoldCommit(hexes("fold", 40), (entry,), {landing.commit: landing}, begins=True)


@pytest.mark.parametrize(
    ("body", "path", "word"),
    [
        ({"kind": "zzz", "id": "e00", "schema": 1}, "experiments/00/e00.json", "kind"),
        (experiment_body("exp/x") | {"id": f"e{'0' * 20}"}, f"experiments/00/e{'0' * 20}.json", "not the name"),
        ({"kind": "experiment", "id": f"e{'0' * 20}", "schema": 1}, f"experiments/00/e{'0' * 20}.json", "record"),
    ],
    ids=["unknown kind", "false id", "nothing else"],
)
def test_a_record_that_no_reader_could_read_is_no_entry(body: dict[str, Any], path: str, word: str) -> None:
    forgery = checked([taken_in(body, path)]).forgery
    assert forgery is not None
    assert forgery.file == path
    assert word in forgery.message


def test_a_later_versions_record_that_is_nested_deeper_than_readers_go_is_no_entry() -> None:
    deep: dict[str, Any] = {}
    for _ in range(MAX_DEPTH):
        deep = {"x": deep}
    body = {"kind": "later", "id": f"l{'0' * 20}", "schema": 99, "deep": deep}
    assert checked([taken_in(body, "runs/xx/later.json")]).forgery is not None
    assert checked([taken_in(body | {"deep": {}}, "runs/xx/later.json")]).forgery is None


def test_a_fold_that_does_not_count_itself_is_found_where_folds_are_counted() -> None:
    _, second = chain_of([[run_body(1)], [run_body(2)]])
    silent = replace(second, touched=(entry_of(second),))
    for counted in (True, False):
        found = check_chain([silent], "x", 1, summary=SUMMARY, holds=lambda _, path, held=counted: held)  # type: ignore[misc]  # binds the loop's value
        assert (found.forgery is not None) == counted


def test_a_parent_whose_record_is_there_already_is_no_forgery() -> None:
    first, second = chain_of([[run_body(1)], [run_body(2)]])
    again = replace(second, landed={**second.landed, **first.landed})
    held = {entry_of(first).path}
    found = check_chain([again], "x", 1, summary=SUMMARY, holds=lambda _, path: path in held)
    assert found == Checked(again.commit, 2)


def test_an_epoch_may_say_so_where_a_chain_begins() -> None:
    first, _ = chain_of([[run_body(1)], [run_body(2)]])
    assert checked([replace(first, says_epoch=True)]).forgery is None
