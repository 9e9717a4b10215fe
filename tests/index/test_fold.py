"""From landed refs to index entries."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cd4ml.errors import IntegrityError
from cd4ml.index.envelope import read_envelope
from cd4ml.index.fold import (
    Landed,
    check_landed,
    encode_envelope,
    entry_path,
    fold,
    landing_ref,
    parse_envelope,
)
from cd4ml.index.history import History
from cd4ml.index.record import RECORD_PATH, Entry, encode, seal
from cd4ml.index.validate import MAX_DEPTH, NewerSchemaError
from tests.index.index_world import bodies, entry, experiment_body, hexes, landed, run_body

BODIES = st.lists(bodies(), max_size=8)


def newer_body() -> dict[str, Any]:
    return {**run_body(), "schema": 2, "id": "r" + hexes("newer", 20)}


def test_a_landed_run_and_a_landed_experiment_are_taken() -> None:
    for body in (run_body(), experiment_body()):
        assert check_landed(landed(body)).body == body


RUN = landed(run_body())
EXPERIMENT = landed(experiment_body())
REFUSED = {
    "another ref": (replace(RUN, ref=landing_ref("r" + "0" * 20)), "ref"),
    "a ref outside": (replace(RUN, ref="refs/heads/main"), "ref"),
    "another parent": (replace(RUN, parents=(hexes("other", 40),)), "parent"),
    "no parent": (replace(RUN, parents=()), "parent"),
    "a second parent": (replace(RUN, parents=(*RUN.parents, hexes("other", 40))), "parent"),
    "the source changed": (replace(RUN, tree_changes=(RECORD_PATH, "src/train.py")), "src/train.py"),
    "a workflow added": (replace(RUN, tree_changes=(RECORD_PATH, ".github/workflows/x.yml")), "workflows"),
    "a lookalike folder": (replace(RUN, tree_changes=(RECORD_PATH, "artifacts/evaluate.py")), "evaluate.py"),
    "no record file": (replace(RUN, tree_changes=("dvc.lock",)), RECORD_PATH),
    "no record": (replace(RUN, data=b""), "record"),
    "other bytes": (replace(RUN, data=json.dumps(run_body()).encode()), "canonical"),
    "a forged record": (replace(RUN, data=RUN.data.replace(b"12.5", b"1.25")), "id"),
    "an experiment that changes files": (replace(EXPERIMENT, tree_changes=(RECORD_PATH, "dvc.lock")), "dvc.lock"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_agree_is_refused_with_a_reason_and_stops_nothing(case: str) -> None:
    bad, word = REFUSED[case]
    with pytest.raises(IntegrityError, match=word):
        check_landed(bad)
    good = landed(run_body("good"))
    plan = fold((), [bad, good], 1)
    assert [one.record.id for one in plan.entries] == [good.ref.removeprefix("refs/cd4ml/landing/")]
    assert plan.folded_refs == (good.ref,)
    ((ref, reason),) = plan.refused
    assert ref == bad.ref
    assert "\n" not in reason


@pytest.mark.parametrize("innermost", [[], {}, 1, "x"], ids=repr)
@pytest.mark.parametrize("depth", range(MAX_DEPTH - 4, MAX_DEPTH + 3))
def test_what_is_taken_in_can_be_read_again_however_deep_it_is(depth: int, innermost: object) -> None:
    value = innermost
    for _ in range(depth):
        value = [value]
    body = run_body("a", params={"deep": value})
    plan = fold((), [landed(body), RUN], 1)
    # the lists, the object that they are in, and what is innermost where it has an inside
    assert len(plan.entries) == 2 - (depth + 1 + isinstance(innermost, list | dict) > MAX_DEPTH)
    assert [ref for ref, _ in plan.refused] == [landing_ref(body["id"])] * (2 - len(plan.entries))
    for path, data in plan.files.items():
        assert read_envelope(data, path) == parse_envelope(data, path)


def test_what_no_reader_would_take_is_refused_and_stops_nothing() -> None:
    plan = fold((), [replace(RUN, committer="Eve\0 <eve@example.org>"), EXPERIMENT], 1)
    assert [ref for ref, _ in plan.refused] == [RUN.ref]
    assert list(plan.files) == [entry_path(plan.entries[0].record)]


def test_a_newer_record_is_left_where_it_is() -> None:
    plan = fold((), [landed(newer_body())], 1)
    assert plan.folded_refs == ()
    assert not plan.refused
    assert [ref for ref, _ in plan.untouched] == [landed(newer_body()).ref]


def test_a_known_record_only_gives_up_its_ref() -> None:
    plan = fold({run_body()["id"]}, [RUN, EXPERIMENT], 2)
    assert plan.folded_refs == tuple(sorted((RUN.ref, EXPERIMENT.ref)))
    assert [one.record.id for one in plan.entries] == [experiment_body()["id"]]
    assert plan.parents == (EXPERIMENT.commit,)
    assert list(plan.files) == [entry_path(plan.entries[0].record)]


def test_runs_lie_by_fingerprint_and_experiments_by_id() -> None:
    run, asked = run_body(), experiment_body()
    paths = {entry_path(entry(run).record), entry_path(entry(asked).record)}
    assert paths == {
        f"runs/{run['fingerprint'][:2]}/{run['fingerprint']}-{run['id']}.json",
        f"experiments/{asked['id'][1:3]}/{asked['id']}.json",
    }


def all_landed(found: list[dict[str, Any]]) -> list[Landed]:
    return list({body["id"]: landed(body) for body in found}.values())


@settings(max_examples=40)
@given(BODIES, st.randoms())
def test_the_order_in_which_refs_are_read_changes_nothing(found: list[dict[str, Any]], random: Any) -> None:
    some = all_landed(found)
    shuffled = [*some, *some[:2]]
    random.shuffle(shuffled)
    assert fold((), shuffled, 3) == fold((), some, 3)
    assert list(fold((), shuffled, 3).files) == list(fold((), some, 3).files)


@settings(max_examples=40)
@given(BODIES)
def test_every_landed_record_is_folded_and_reads_back_as_it_was(found: list[dict[str, Any]]) -> None:
    plan = fold((), all_landed(found), 7)
    back = tuple(parse_envelope(data, path) for path, data in plan.files.items())
    assert back == plan.entries
    assert {one.record.id: one.record.body for one in back} == {body["id"]: body for body in found}
    assert {one.fold for one in back} <= {7}
    assert plan.parents == tuple(one.result_commit for one in back)


@settings(max_examples=40)
@given(BODIES, BODIES)
def test_folding_in_two_steps_loses_nothing_and_takes_nothing_twice(
    first: list[dict[str, Any]], second: list[dict[str, Any]]
) -> None:
    one = fold((), all_landed(first), 1)
    two = fold({known.record.id for known in one.entries}, all_landed(first + second), 2)
    assert not one.files.keys() & two.files.keys()
    assert {known.record.id for known in (*one.entries, *two.entries)} == {body["id"] for body in first + second}
    assert set(two.folded_refs) == {landing_ref(body["id"]) for body in first + second}


@settings(max_examples=40)
@given(BODIES, st.randoms())
def test_each_fingerprint_has_one_result_whatever_the_order(found: list[dict[str, Any]], random: Any) -> None:
    entries = [entry(body, 1 + number % 3) for number, body in enumerate(found)]
    shuffled = [*entries, *entries[:3]]
    random.shuffle(shuffled)
    history, same = History.of(entries), History.of(shuffled)
    assert history == same
    for fingerprint in {run.run.fingerprint for run in history.runs}:
        result = history.result(fingerprint)
        of_it = [run for run in history.runs if run.run.fingerprint == fingerprint]
        successes = [run for run in of_it if run not in history.attempts(fingerprint)]
        assert [run.run.succeeded for run in successes] == [True] * len(successes)
        assert (result is None) == (successes == [])
        assert result is None or result.entry.order == min(run.entry.order for run in successes)


@given(bodies(), st.integers(1, 5), st.integers(1, 5))
def test_an_entry_that_is_read_twice_counts_once_at_its_earliest_fold(body: dict[str, Any], one: int, two: int) -> None:
    """As happens when a record is read from its landing ref and from the index."""
    history = History.of([entry(body, one), entry(body, two)])
    assert [known.entry.fold for known in history.runs] == [min(one, two)] * (body["kind"] == "run")
    assert [known.entry.fold for known in history.experiments] == [min(one, two)] * (body["kind"] == "experiment")


ENTRY = entry(run_body(), 4)
ENVELOPE = json.loads(encode_envelope(ENTRY))
PATH = entry_path(ENTRY.record)


def envelope(**changed: Any) -> bytes:
    return encode({**ENVELOPE, **changed})


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (envelope(record_sha256=hexes("other")), "record_sha256"),
        (envelope(record_sha256=None), "record_sha256"),
        (envelope(result_commit="HEAD"), "result_commit"),
        (envelope(result_commit=hexes(1, 40) + "\n"), "result_commit"),
        (envelope(landed_by=3), "landed_by"),
        (envelope(fold=0), "fold"),
        (envelope(fold=True), "fold"),
        (envelope(record=[]), "record"),
        (envelope(record={**ENVELOPE["record"], "name": "b"}), "record_sha256"),
        (b"", "JSON|Expecting"),
        (b"null", "object"),
    ],
)
def test_a_changed_envelope_is_refused_by_its_path_and_field(data: bytes, word: str) -> None:
    with pytest.raises(IntegrityError, match=word) as caught:
        parse_envelope(data, PATH)
    assert str(caught.value).startswith(PATH)


def test_an_entry_in_another_place_is_refused() -> None:
    with pytest.raises(IntegrityError, match="belongs at"):
        parse_envelope(envelope(), PATH.replace("runs/", "experiments/"))


def test_a_record_that_is_well_sealed_but_not_of_its_schema_is_refused() -> None:
    body = seal({**run_body(), "commit": "--upload-pack=x"})
    forged: Entry = entry(body)
    with pytest.raises(IntegrityError, match="commit"):
        parse_envelope(encode_envelope(forged), entry_path(forged.record))


def test_a_newer_entry_is_told_apart() -> None:
    body = newer_body()
    with pytest.raises(NewerSchemaError) as caught:
        parse_envelope(encode_envelope(entry(body)), entry_path(entry(body).record))
    assert caught.value.schema == 2


@settings(max_examples=200)
@given(st.integers(0, len(encode_envelope(ENTRY)) * 8 - 1))
def test_no_single_flipped_bit_goes_unnoticed(bit: int) -> None:
    """What the envelope itself adds is kept by the index's commits; the record proves itself."""
    data = bytearray(encode_envelope(ENTRY))
    data[bit // 8] ^= 1 << bit % 8
    try:
        read = parse_envelope(bytes(data), PATH)
    except IntegrityError:
        return
    assert read.record == ENTRY.record
