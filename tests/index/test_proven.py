"""An entry that was read proves its landed commit just as reading the commit's record does."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cd4ml.errors import IntegrityError
from cd4ml.index.envelope import read_envelope
from cd4ml.index.fold import Landed, check_landed, encode_envelope, entry_path, parse_envelope
from cd4ml.index.proven import check_proven, is_encoded, same_entry
from cd4ml.index.record import RECORD_PATH, encode
from cd4ml.index.validate import MAX_DEPTH
from cd4ml.index.written import as_python_lays_out, as_python_writes, compact, laid_out
from cd4ml.spec.canonical import canonical_json
from tests.index.index_world import entry, experiment_body, landed, run_body

TEXTS = st.one_of(st.text(max_size=6), st.sampled_from(["a  b", "1e-5,", "e-5", "  ", "x\n  y", 'e-5"', "\\", "é"]))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=15,
)


@given(st.dictionaries(TEXTS, VALUES, max_size=4))
@example({"a": 1e-5, "b": [1e-07, 2.5e-10], "c": 1e16, "d": 1.5e300, "e": 1e22})
@example({"a": math.inf, "b": 2**53})
@example({"a": "1e-05", "b": 1e-5, "c": 10.00001, "d": [-1.25e-05, 0.0001, 9.99e-06, 99999.00001]})
def test_the_bytes_of_a_record_are_told_from_any_others(body: dict[str, Any]) -> None:
    try:
        data = encode(body)
    except (ValueError, UnicodeEncodeError):  # a number that is infinite, a text that cannot be stored
        assert not is_encoded(b"{}\n", body)
        return
    assert is_encoded(data, body)
    for other in (
        data[:-1],
        data.replace(b"  ", b" "),
        data.replace(b"e-0", b"e-"),
        data.replace(b"e-5", b"e-05"),
        json.dumps(body).encode(),
    ):
        assert is_encoded(other, body) == (other == data)


BODIES = [run_body("a"), run_body("b", failed=True), experiment_body("exp/a", "a"), run_body("c", name="two  blanks")]
CHANGES: dict[str, Callable[[Landed], Landed]] = {
    "nothing": lambda one: one,
    "another ref": lambda one: replace(one, ref=one.ref[:-1]),
    "another parent": lambda one: replace(one, parents=("1" * 40,)),
    "a second parent": lambda one: replace(one, parents=(*one.parents, "1" * 40)),
    "no parent": lambda one: replace(one, parents=()),
    "the source changed": lambda one: replace(one, tree_changes=(RECORD_PATH, "src/train.py")),
    "no record file": lambda one: replace(one, tree_changes=()),
    "no record": lambda one: replace(one, data=b""),
    "another layout": lambda one: replace(one, data=json.dumps(json.loads(one.data)).encode()),
    "a blank more": lambda one: replace(one, data=one.data + b"\n"),
    "another record": lambda one: replace(one, data=encode(run_body("other"))),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("body", BODIES, ids=lambda body: str(body["name"]))
def test_what_a_fold_would_refuse_is_refused_in_the_same_words(body: dict[str, Any], change: str) -> None:
    made, commit = entry(body), CHANGES[change](landed(body))

    def told(check: Callable[[], object]) -> str:
        try:
            check()
        except IntegrityError as error:
            return str(error)
        return ""

    assert told(lambda: check_proven(commit, made)) == told(lambda: check_landed(commit))


def test_a_record_that_names_its_own_content_and_does_not_fit_the_schema_is_refused() -> None:
    body = run_body("a", side="head", threads="two")
    with pytest.raises(IntegrityError, match="threads"):
        check_proven(landed(body), entry(body))


@pytest.mark.parametrize("body", BODIES, ids=lambda body: str(body["name"]))
def test_an_entry_is_that_of_its_landed_commit_to_the_byte(body: dict[str, Any]) -> None:
    made, commit = entry(body, 7), landed(body)
    data = encode_envelope(made)
    assert same_entry(commit, read_envelope(data, entry_path(made.record)), data)
    other = json.dumps(json.loads(data)).encode()
    assert not same_entry(commit, parse_envelope(other, entry_path(made.record)), other)
    assert not same_entry(replace(commit, committer="Eve <eve@example.org>"), made, data)
    assert not same_entry(replace(commit, commit="1" * 40), made, data)
    assert not same_entry(replace(commit, data=commit.data + b"\n"), made, data)
    digested = replace(made, record_sha256=hashlib.sha256(b"").hexdigest())
    assert not same_entry(commit, digested, data)


def lists(depth: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(depth - 1):
        found = [found]
    return found


def named_after_other_bytes() -> dict[str, Any]:
    """Its name is that of what it would be if a text in it were a number and were written as Python writes it."""
    body = run_body("a", params={"text": ["1e-7,", 1e-7]})
    rest = canonical_json({key: value for key, value in body.items() if key != "id"})
    return {**body, "id": "r" + hashlib.sha256(rest.replace(b"1e-7,", b"1e-07,")).hexdigest()[:20]}


FORGED = {
    "another id": {**run_body("a"), "id": run_body("b")["id"]},
    "an id of other bytes": named_after_other_bytes(),
    "too deep": run_body("a", params={"deep": [1, lists(MAX_DEPTH)]}),
    "an empty list too deep": run_body("a", params={"deep": lists(MAX_DEPTH)}),
    "too large a number": run_body("a", params={"alpha": 1.5e308}),
    "too small a number": run_body("a", params={"alpha": [-1.7e308, 1e-5]}),
}


@pytest.mark.parametrize("case", FORGED)
def test_a_forged_envelope_with_a_right_digest_is_refused_in_the_same_words(case: str) -> None:
    made = entry(FORGED[case])
    data, path = encode_envelope(made), entry_path(made.record)
    with pytest.raises(IntegrityError) as slowly:
        parse_envelope(data, path)
    with pytest.raises(IntegrityError) as quickly:
        read_envelope(data, path)
    assert str(quickly.value) == str(slowly.value)


@given(st.lists(st.floats(-1e-3, 1e-3) | st.floats(-1e20, 1e20) | st.sampled_from([1e-5, 9e-5, 1e16, 2e-7])))
def test_numbers_of_every_size_are_laid_out_as_python_does_by_the_faster_writers(numbers: list[float]) -> None:
    body = {"numbers": [numbers, dict(zip("abc", numbers, strict=False))]}
    assert as_python_lays_out(laid_out(compact(body)))[0] == encode(body)
    assert as_python_writes(compact(body))[0] == canonical_json(body)


def test_a_record_at_every_limit_is_read_by_both() -> None:
    deep = run_body("a", params={"deep": lists(MAX_DEPTH - 1), "alpha": [1e308, -1e308, 1e-5, "1e308,"]})
    made = entry(deep)
    data, path = encode_envelope(made), entry_path(made.record)
    assert read_envelope(data, path) == parse_envelope(data, path) == made


def test_a_key_that_stands_twice_in_an_envelope_is_refused_whatever_its_digest_says() -> None:
    """A reader that takes the first would see other figures than one that takes the last."""
    made = entry(run_body("a"))
    data, path = encode_envelope(made), entry_path(made.record)
    assert read_envelope(data, path) == made
    twice = data.replace(b'\n  "metrics": ', b'\n  "metrics": {},\n  "metrics": ', 1)
    assert twice != data
    with pytest.raises(IntegrityError, match="twice"):
        read_envelope(twice, path)
