"""Every digest that a record speaks of leads to its runs, and says what it is to them."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cd4ml.index.history import History
from cd4ml.index.lineage import Answer, answers, as_digest, mentions, trace, trace_of_run
from tests.index.index_world import OUTPUTS, bodies, entry, experiment_body, hexes, run_body

MODEL: dict[str, Any] = {"digest": hexes("another model"), "format": "skops", "bytes": 4}


def history(*made: dict[str, Any]) -> History:
    return History.of(entry(one, number) for number, one in enumerate(made, start=1))


def relations(told: History, digest: str) -> dict[str, str]:
    (found,) = trace(told.runs, digest)
    return {link.run.run.id: link.relation for link in found.links}


def test_a_data_digest_leads_to_every_run_that_used_it() -> None:
    used = {"flights": {"digest": hexes("new rows"), "rows": 4}}
    a, b, c = run_body("a"), run_body("b", data=used), run_body("c", data=used, failed=True)
    told = history(a, b, c)
    assert relations(told, hexes("new rows")) == {b["id"]: "used", c["id"]: "used"}
    assert trace(told.runs, hexes("new rows"))[0].what == ("data flights",)


def test_a_model_leads_to_the_runs_that_made_it() -> None:
    a, b = run_body("a"), run_body("b", model=MODEL)
    told = history(a, b)
    (found,) = trace(told.runs, MODEL["digest"])
    assert [one.run.id for one in found.of("made")] == [b["id"]]
    assert (found.of("used"), found.what) == ((), ("model",))


@pytest.mark.parametrize(
    ("what", "relation"),
    [
        ("table", "made"),
        ("test", "made"),
        ("tree x", "used"),
        ("commit x", "used"),
        ("code x", "used"),
    ],
)
def test_table_side_tree_commit_and_code_lead_to_their_runs(what: str, relation: str) -> None:
    body = run_body("x")
    length = 40 if what.startswith(("tree", "commit")) else 64
    assert relations(history(body), hexes(what, length)) == {body["id"]: relation}


def test_result_commit_fingerprint_and_judge_lead_to_their_runs() -> None:
    body = run_body("x", judge={"commit": hexes("judge", 40), "code": "c"})
    told = history(body)
    assert relations(told, told.runs[0].entry.result_commit) == {body["id"]: "made"}
    assert relations(told, body["fingerprint"]) == {body["id"]: "is"}
    assert relations(told, hexes("judge", 40)) == {body["id"]: "used"}


def test_a_file_is_found_by_both_of_its_digests_and_outputs_are_told_from_inputs() -> None:
    out: dict[str, Any] = {"sha256": hexes("out"), "md5": hexes("out md5", 32), "bytes": 1}
    pin: dict[str, Any] = {"sha256": hexes("pin"), "md5": hexes("pin md5", 32), "bytes": 1}
    body = run_body("x", files={OUTPUTS[1]: out, "data/flights.lock.json": pin})
    told = history(body)
    assert relations(told, out["sha256"]) == {body["id"]: "made"}
    assert relations(told, out["md5"][:20]) == {body["id"]: "made"}
    assert relations(told, pin["md5"]) == {body["id"]: "used"}
    assert trace(told.runs, pin["md5"])[0].what == ("file data/flights.lock.json",)


def test_a_digest_that_plays_several_parts_is_one_thing_with_all_of_them() -> None:
    file = {"sha256": MODEL["digest"], "md5": hexes("m", 32), "bytes": 4}
    (found,) = trace(history(run_body("x", model=MODEL, files={OUTPUTS[0]: file})).runs, MODEL["digest"])
    assert found.what == ("model", f"file {OUTPUTS[0]}")
    assert len(found.links) == 1


def test_a_prefix_that_begins_two_digests_gives_both() -> None:
    one, two = "ab" * 20 + "1" * 24, "ab" * 20 + "2" * 24
    told = history(*(run_body(digest, model={**MODEL, "digest": digest}) for digest in (one, two)))
    assert [found.digest for found in trace(told.runs, "ab" * 8)] == [one, two]
    assert trace(told.runs, "ba" * 8) == ()


def test_a_digest_that_is_given_whole_is_that_one_though_it_begins_another() -> None:
    files = {OUTPUTS[0]: {"sha256": hexes("out"), "md5": hexes("out", 32), "bytes": 1}}
    (found,) = trace(history(run_body("x", files=files)).runs, hexes("out", 32))
    assert found.digest == hexes("out", 32)


@pytest.mark.parametrize("text", ["abcdefg1", "1234567", "exp/a", "", "12345678 ", "a" * 65])
def test_what_is_no_digest_is_not_taken_for_one(text: str) -> None:
    assert as_digest(text) == ""


def test_a_digest_may_be_typed_in_either_case_and_as_dvc_writes_that_of_a_folder() -> None:
    assert as_digest("ABCDEF12") == "abcdef12"
    assert as_digest(hexes("x", 32) + ".dir") == hexes("x", 32)


@pytest.mark.parametrize("files", [None, [], {"a": None}, {"a": {"sha256": 1, "md5": "x", "bytes": 1}}])
def test_files_of_a_shape_that_no_reader_relies_on_are_passed_over(files: Any) -> None:
    """The index is not judged by the schema when it is read."""
    body = {**run_body("x"), "files": files}
    assert all(not mention.what.startswith("file") for mention in mentions(history(body).runs[0]))


def test_a_run_is_told_which_heads_and_merges_it_answers_each_once() -> None:
    run, other = run_body("x"), run_body("y")
    asked = [
        experiment_body("exp/a", "x", answer={"head": run["id"], "merge": None}),
        experiment_body("exp/a", "x", answer={"head": run["id"], "merge": None}, conclusion="noted"),
        experiment_body("exp/b", "z", answer={"head": other["id"], "merge": run["id"]}),
    ]
    told = history(run, other, *asked)
    assert answers(told.experiments, frozenset([run["id"]])) == {
        run["id"]: (
            Answer("exp/a", hexes("commit x", 40), "head"),
            Answer("exp/b", hexes("commit z", 40), "merge"),
        )
    }


@given(st.lists(bodies(), max_size=8), st.integers(1, 4), st.randoms())
def test_of_many_runs_the_newest_are_kept_and_all_are_counted(
    made: list[dict[str, Any]], newest: int, random: Random
) -> None:
    told = list(history(*made).runs)
    data = told[0].run.body["data"]["flights"]["digest"][:1] if told else ""
    whole = trace(told, data)
    random.shuffle(told)
    some = trace(told, data, newest)
    assert [(one.digest, one.what, one.count) for one in some] == [(one.digest, one.what, one.count) for one in whole]
    assert [one.links for one in some] == [one.links[-newest:] for one in whole]
    assert all(one.count == len(one.links) for one in whole)


def test_a_run_by_itself_is_itself_alone() -> None:
    told = history(run_body("x"), run_body("y"))
    found = trace_of_run(told.runs[0])
    assert (found.digest, [one.run.id for one in found.of("is")]) == (told.runs[0].run.id, [told.runs[0].run.id])


@given(st.lists(bodies(), max_size=6))
def test_every_digest_of_every_record_leads_back_to_its_run(made: list[dict[str, Any]]) -> None:
    told = history(*made)
    for one in told.runs:
        for mention in mentions(one):
            found = [each for each in trace(told.runs, mention.digest) if each.digest == mention.digest]
            assert len(found) == 1
            assert one.run.id in [link.run.run.id for link in found[0].links]
            assert mention.what in found[0].what
