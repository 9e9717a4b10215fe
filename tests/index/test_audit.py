"""Whether the index holds what was written: judged from facts alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cd4ml.index.audit import (
    ChainAudit,
    Change,
    Finding,
    FoldFacts,
    LandedFacts,
    audit_landed,
    audit_landing,
    paths_of,
    pins_of,
)
from cd4ml.index.fold import encode_envelope, entry_path, landing_ref
from cd4ml.index.history import removals_in
from cd4ml.index.promised import Held, Needed, Promises, References, audit_object
from cd4ml.index.record import Entry, RunRecord, encode, seal
from cd4ml.index.retention import OUTPUTS
from cd4ml.spec.canonical import digest
from cd4ml.spec.fingerprint import code_digest, data_digest
from cd4ml.spec.pin import Pin
from cd4ml.spec.pipeline import LOCK_FILE, METRICS, MODEL, PARAMS_FILE, PREDICTIONS, pin_path
from cd4ml.spec.sources import dump_yaml
from tests.index.index_world import bodies, components, entry, experiment_body, hexes, landed, run_body

# ── of all at once, where the index gives some after the other ──


@dataclass(frozen=True)
class Chain:
    """What the chain gives: entries in fold order, ids of records that a later version wrote, and findings."""

    entries: tuple[Entry, ...]
    newer: frozenset[str]
    findings: tuple[Finding, ...]


def audit_chain(folds: Sequence[FoldFacts], blobs: Mapping[str, bytes | None], *, whole: bool = True) -> Chain:
    """Check every fold against the ones before it. ``folds`` are oldest first; ``blobs`` hold what they add by id."""
    audit = ChainAudit(whole=whole)
    entries = [entry for fold in folds for entry in audit.take(fold, fold.changes or (), blobs)]
    audit.end()
    return Chain(tuple(sorted(entries, key=lambda entry: entry.order)), frozenset(audit.newer), tuple(audit.findings))


def audit_references(entries: Iterable[Entry], newer: frozenset[str]) -> Iterator[Finding]:
    """Do answers and removals name runs that are there? ``newer`` are ids that this version cannot read."""
    references, known = References(), set(newer)
    for one in entries:
        known.add(one.record.id)
        references.take(one)
    return references.findings(known)


def objects_of(
    runs: Iterable[tuple[RunRecord, str, Mapping[str, Pin | None]]], removals: Iterable[dict[str, Any]]
) -> tuple[tuple[Needed, ...], tuple[Finding, ...]]:
    """Every object that the runs promise, each once, and findings of records that contradict each other.

    ``runs`` come with their result commit and their pins, whose archived raw bytes count as well.
    """
    promises = Promises(removals_in(map(entry, removals)))
    for run, commit, pins in runs:
        promises.take(run, commit, pins)
    return promises.needed(), tuple(promises.findings)


# ── the chain ──


def blob_of(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


class Index:
    """A chain of folds as a sound one is; each test breaks one thing."""

    def __init__(self, *folds: Sequence[dict[str, Any]]) -> None:
        self.blobs: dict[str, bytes | None] = {}
        self.folds: list[FoldFacts] = []
        for number, some in enumerate(folds, 1):
            entries = sorted((entry(body, number) for body in some), key=lambda one: one.order)
            changes = [self.adds(entry_path(one.record), encode_envelope(one)) for one in entries]
            changes.append(Change("M" if number > 1 else "A", "100644", hexes(number, 40), "summary.json"))
            before = [self.folds[-1].commit] if self.folds else []
            commits = dict.fromkeys(one.result_commit for one in entries)
            self.folds.append(FoldFacts(hexes(f"fold {number}", 40), (*before, *commits), tuple(changes)))

    def adds(self, path: str, data: bytes) -> Change:
        self.blobs[blob_of(data)] = data
        return Change("A", "100644", blob_of(data), path)

    def alter(self, place: int, **changed: Any) -> None:
        self.folds[place] = replace(self.folds[place], **changed)

    def audit(self, *, whole: bool = True) -> Chain:
        return audit_chain(self.folds, self.blobs, whole=whole)


RUN, FAILED, ASKED = run_body("a"), run_body("b", failed=True), experiment_body("exp/a", "a")
PATHS = {body["id"]: entry_path(entry(body).record) for body in (RUN, FAILED, ASKED)}


def sound() -> Index:
    return Index([RUN, FAILED], [ASKED])


def named(findings: Sequence[Finding], where: str, words: str) -> Finding:
    found = [finding for finding in findings if finding.where == where and words in finding.message]
    assert found, [(finding.where, finding.message) for finding in findings]
    return found[0]


def test_a_sound_chain_gives_its_entries_in_fold_order_and_no_finding() -> None:
    chain = sound().audit()
    assert chain.findings == ()
    assert [one.record.id for one in chain.entries] == [*sorted([RUN["id"], FAILED["id"]]), ASKED["id"]]


def test_a_chain_that_is_read_in_parts_is_judged_as_it_is_as_a_whole() -> None:
    """A fold of which parts are missing, dropped or doubled: whatever is said of it is said once it is whole."""
    index = Index([RUN, FAILED, ASKED], [experiment_body("exp/b", "b")])
    first = index.folds[0].changes or ()
    index.alter(1, changes=(*(index.folds[1].changes or ()), first[0], Change("D", "000000", "0" * 40, first[1].path)))
    index.alter(0, parents=(*index.folds[0].parents, "1" * 40))
    whole = index.audit()
    assert len(whole.findings) > 2
    audit = ChainAudit()
    parts = [(fold, [change]) for fold in index.folds for change in fold.changes or ()]
    entries = [entry for fold, some in parts for entry in audit.take(fold, some, index.blobs)]
    audit.end()
    assert set(audit.findings) == set(whole.findings)
    assert sorted(entries, key=lambda one: one.order) == list(whole.entries)
    assert audit.ids == {one.record.id for one in whole.entries}


def test_an_envelope_with_a_byte_changed_is_named_by_its_path() -> None:
    index = sound()
    change = index.folds[0].changes[0]  # type: ignore[index]  # changes were read
    data = index.blobs[change.object_id]
    assert data is not None
    index.blobs[change.object_id] = data.replace(b'"seed": 7', b'"seed": 8')
    assert named(index.audit().findings, change.path, "record_sha256").kind == "edited"


def test_an_entry_that_a_later_fold_drops_rewrites_or_makes_no_plain_file_is_named() -> None:
    for status, mode, words in (("D", "000000", "dropped"), ("M", "100644", "rewritten"), ("A", "120000", "mode")):
        index = sound()
        path = PATHS[RUN["id"]]
        index.alter(1, changes=(*(index.folds[1].changes or ()), Change(status, mode, "0" * 40, path)))
        assert named(index.audit().findings, path, words).kind == "chain"


def test_a_fold_that_changes_anything_but_entries_and_what_is_made_of_them_is_named() -> None:
    index = sound()
    index.alter(1, changes=(*(index.folds[1].changes or ()), Change("A", "100644", "0" * 40, "src/x.py")))
    assert named(index.audit().findings, index.folds[1].commit, "src/x.py").what == "fold"


def test_an_entry_under_another_number_than_its_fold_has_is_named() -> None:
    index = Index([RUN], [ASKED], [FAILED])
    del index.folds[1]
    named(index.audit().findings, PATHS[FAILED["id"]], "fold 3 took it in, and stands in fold 2")


def test_a_record_that_is_taken_in_twice_is_named() -> None:
    index = Index([RUN], [RUN])
    named(index.audit().findings, PATHS[RUN["id"]], "a second time")


def test_parents_that_are_missing_too_many_or_in_another_order_are_named() -> None:
    index = sound()
    one, two = index.folds[0].parents
    for parents, words in (((one,), two), ((one, two, "f" * 40), "f" * 40), ((two, one), "order")):
        index.alter(0, parents=parents)
        named(index.audit().findings, index.folds[0].commit, words)


def test_a_chain_that_was_squashed_is_named_by_what_stands_in_the_wrong_fold() -> None:
    index = sound()
    first, second = index.folds
    index.folds = [
        replace(first, parents=(*first.parents, *second.parents[1:]), changes=(*first.changes, *second.changes))  # type: ignore[misc]  # made up
    ]
    named(index.audit().findings, PATHS[ASKED["id"]], "fold 2 took it in, and stands in fold 1")


def test_an_epoch_carries_entries_of_earlier_folds_over_and_the_next_fold_counts_on() -> None:
    whole = Index([RUN], [ASKED], [FAILED])
    first, second, third = whole.folds
    assert first.changes is not None
    assert second.changes is not None
    changes = (*first.changes[:1], *second.changes[:1])
    begun = FoldFacts(hexes("epoch", 40), (*first.parents, *second.parents[1:]), changes, epoch=True)
    whole.folds = [begun, replace(third, parents=(begun.commit, *third.parents[1:]))]
    assert whole.audit().findings == ()
    whole.folds[0] = replace(begun, epoch=False)
    assert whole.audit().findings


def test_what_cannot_be_read_is_said_to_be_unproven_and_hides_nothing_else() -> None:
    index = Index([RUN], [ASKED], [FAILED])
    index.blobs[index.folds[0].changes[0].object_id] = None  # type: ignore[index]  # changes were read
    index.alter(1, changes=None)
    index.alter(2, parents=index.folds[2].parents[:1])
    findings = index.audit().findings
    assert named(findings, PATHS[RUN["id"]], "cannot be read").kind == "unproven"
    assert named(findings, index.folds[1].commit, "cannot be read").kind == "unproven"
    assert named(findings, index.folds[2].commit, "none of its parents").kind == "chain"


def test_a_later_versions_record_is_no_finding_and_keeps_its_place_in_the_chain() -> None:
    index = Index([RUN], [ASKED])
    body = {**ASKED, "schema": 9, "id": "e" + "7" * 20}
    told = json.loads(encode_envelope(entry(ASKED, 2)))
    data = encode({**told, "record": body, "record_sha256": hashlib.sha256(encode(body)).hexdigest()})
    path = f"experiments/77/{body['id']}.json"
    index.alter(1, changes=(index.adds(path, data),))
    chain = index.audit()
    assert chain.findings == ()
    assert chain.newer == {body["id"]}


@given(st.lists(bodies(), min_size=1, max_size=6), st.data())
def test_any_byte_of_any_envelope_that_changes_its_meaning_is_found(
    some: list[dict[str, Any]], data: st.DataObject
) -> None:
    unique = list({body["id"]: body for body in some}.values())
    index = Index(unique)
    assert index.audit().findings == ()
    change = data.draw(st.sampled_from([one for one in index.folds[0].changes or () if "/" in one.path]))
    held = index.blobs[change.object_id]
    assert held is not None
    place = data.draw(st.integers(0, len(held) - 1))
    flip = data.draw(st.integers(1, 255))
    edited = held[:place] + bytes([held[place] ^ flip]) + held[place + 1 :]
    index.blobs[change.object_id] = edited
    findings = index.audit().findings
    if not findings:
        # what is left is a landed_by: only the landed commit can tell, or white space between the parts
        before, after = json.loads(held), json.loads(edited)
        assert {**before, "landed_by": ""} == {**after, "landed_by": ""}


# ── landed commits ──

PIN = Pin(
    "flights",
    hexes("rows"),
    3,
    (("x", "int64"),),
    hexes("raw"),
    hexes("raw", 32),
    9,
    "f.csv",
    "csv",
    "f.csv",
    "2026-01-01T00:00:00Z",
)


def digests(data: bytes) -> dict[str, Any]:
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    return {"sha256": hashlib.sha256(data).hexdigest(), "md5": md5, "bytes": len(data)}


def whole_run(**changed: Any) -> tuple[Entry, LandedFacts]:
    """A run, and a result commit in which everything follows."""
    measured = {"validation": {"rmse": 12.5}, "test": {"rmse": 13.25}}
    pin = PIN.dump().encode()
    model = {"sha256": hexes("model"), "md5": hexes("model", 32), "bytes": 4}
    files = {
        MODEL: model,
        PREDICTIONS: {"sha256": hexes("predictions"), "md5": hexes("predictions", 32), "bytes": 5},
        METRICS: digests(json.dumps(measured).encode()),
        pin_path("flights"): digests(pin),
    }
    params = {"seed": 7, "code": ["src"], "model": {"alpha": 1e-05, "name": "ridge", "ratio": 3.0}}
    parts = {
        **components(),
        "data": data_digest({"flights": PIN.digest}),
        "code": code_digest({"src": "5" * 40}),
    }
    body = run_body(components=parts, fingerprint=digest(parts), params=params, metrics=measured, files=files)
    listed = [{"path": path, "hash": "md5", "md5": one["md5"], "size": one["bytes"]} for path, one in files.items()]
    lock = {"schema": "2.0", "stages": {"train": {"cmd": "cd4ml stage train", "deps": listed[3:], "outs": listed[:3]}}}
    held: dict[str, bytes | None] = {
        PARAMS_FILE: dump_yaml({**params, "pipeline": {"x": 1}}).encode(),
        LOCK_FILE: dump_yaml(lock).encode(),
        METRICS: json.dumps(measured).encode(),
        pin_path("flights"): pin,
        MODEL: None,
        PREDICTIONS: None,
    }
    body = seal({**body, **changed})
    return entry(body), LandedFacts(landed(body), body["tree"], held, {"src": "5" * 40})


LOCKED_PREDICTIONS = (
    f"    - path: {PREDICTIONS}\n      hash: md5\n      md5: {hexes('predictions', 32)}\n      size: 5\n"
).encode()


def found_in(one: Entry, facts: LandedFacts) -> list[str]:
    return [finding.message for finding in audit_landed(one, entry_path(one.record), facts)]


def test_a_run_whose_commit_carries_what_its_record_states_has_no_finding() -> None:
    one, facts = whole_run()
    assert set(facts.files) == set(paths_of(one.record))
    assert found_in(one, facts) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        (PARAMS_FILE, b"seed: 7", b"seed: 8", "'seed'"),
        (PARAMS_FILE, b"alpha: 1.0e-05", b"alpha: 2.0e-05", "'model'"),
        (LOCK_FILE, b"size: 5", b"size: 6", PREDICTIONS),
        (LOCK_FILE, b"- path: " + MODEL.encode(), b"- path: artifacts/other", "artifacts/other"),
        (LOCK_FILE, b"stages:", b"stage:", "no lock"),
        (LOCK_FILE, LOCKED_PREDICTIONS, b"", f"does not lock {PREDICTIONS!a}"),
        (METRICS, b"12.5", b"12.6", METRICS),
        ("data/flights.lock.json", b'"rows": 3', b'"rows": 4', "rows"),
        ("data/flights.lock.json", b'"schema": 1', b'"schema": 7', "no pin"),
    ],
)
def test_a_file_of_the_result_commit_that_does_not_follow_is_named(
    file: str, old: bytes, new: bytes, words: str
) -> None:
    one, facts = whole_run()
    data = facts.files[file]
    assert data is not None
    assert old in data
    told = found_in(one, replace(facts, files={**facts.files, file: data.replace(old, new)}))
    assert any(message.startswith(file) for message in told), told
    assert words in " ".join(told) or words == "rows"


@pytest.mark.parametrize("file", [PARAMS_FILE, LOCK_FILE, METRICS, "data/flights.lock.json"])
def test_a_file_that_the_result_commit_lacks_is_named(file: str) -> None:
    one, facts = whole_run()
    told = found_in(one, replace(facts, files={**facts.files, file: None}))
    assert any(message.startswith(file) for message in told), told


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tree": "1" * 40}, "states the tree"),
        ({"metrics": {"validation": {"rmse": 1.0}, "test": {"rmse": 1.0}}}, METRICS),
        ({"model": {"digest": "0" * 64, "format": "skops", "bytes": 4}}, "model.digest"),
        ({"data": {"flights": {"digest": "0" * 64, "rows": 3}}}, "components.data"),
        ({"params": {"seed": 9, "code": ["src"]}}, "'seed'"),
    ],
)
def test_a_record_that_was_edited_with_every_digest_of_it_made_anew_does_not_follow_from_its_commit(
    change: dict[str, Any], words: str
) -> None:
    one, facts = whole_run(**change)
    _, sound_facts = whole_run()
    told = found_in(one, replace(facts, source_tree=sound_facts.source_tree))
    assert words in " ".join(told), told


def test_code_that_its_commit_does_not_hold_or_holds_otherwise_is_named() -> None:
    one, facts = whole_run()
    assert "components.code" in " ".join(found_in(one, replace(facts, code={"src": "6" * 40})))
    assert "src" in " ".join(found_in(one, replace(facts, code={"src": None})))


def test_a_landed_commit_of_somebody_else_of_another_parent_or_with_another_record_is_named() -> None:
    one, facts = whole_run()
    assert facts.landed is not None
    for changed, words in (
        ({"committer": "Mallory <m@example.org>"}, "landed it"),
        ({"parents": ("7" * 40,)}, "no child of it"),
        ({"data": facts.landed.data.replace(b'"branch": "exp/a"', b'"branch": "exp/b"')}, "was edited"),
        ({"tree_changes": (*facts.landed.tree_changes, "src/x.py")}, "src/x.py"),
    ):
        told = found_in(one, replace(facts, landed=replace(facts.landed, **changed)))
        assert words in " ".join(told), told


def test_a_landed_commit_that_cannot_be_read_is_missing_and_its_run_named() -> None:
    one, facts = whole_run()
    (finding,) = audit_landed(one, "x", replace(facts, landed=None))
    assert (finding.kind, finding.where, finding.runs) == ("missing", one.result_commit, (one.record.id,))


def test_what_waits_to_be_folded_is_judged_the_same_way() -> None:
    one, facts = whole_run()
    assert facts.landed is not None
    assert list(audit_landing(landing_ref(one.record.id), facts, one.result_commit)) == []
    other = landing_ref("r" + "0" * 20)
    (finding,) = audit_landing(other, replace(facts, landed=replace(facts.landed, ref=other)), one.result_commit)
    assert (finding.kind, finding.where) == ("edited", other)
    assert list(audit_landing(landing_ref(one.record.id), replace(facts, source_tree="9" * 40), one.result_commit))


# ── what records say of each other, and which objects they promise ──


def removal(run: str, what: str) -> dict[str, Any]:
    body = {"kind": "removal", "run": run, "commit": hexes("base", 40), "what": what, "reason": "r", "rule": ""}
    return seal({**body, "by": "A <a@example.org>", "at": "2026-11-03T10:00:00Z", "objects": []})


def test_an_answer_that_names_a_run_which_is_not_there_is_a_finding_unless_it_was_erased_or_is_newer() -> None:
    asked = entry(experiment_body(answer={"head": RUN["id"], "merge": None}))
    (finding,) = audit_references([asked], frozenset())
    assert (finding.kind, finding.what, finding.where) == ("missing", "run", RUN["id"])
    assert list(audit_references([asked, entry(RUN)], frozenset())) == []
    assert list(audit_references([asked], frozenset({RUN["id"]}))) == []
    assert list(audit_references([asked, entry(removal(RUN["id"], "run"))], frozenset())) == []
    assert len(list(audit_references([asked, entry(removal(RUN["id"], "artefacts"))], frozenset()))) == 2


def test_every_object_is_promised_once_by_all_runs_that_need_it_and_not_by_one_that_was_erased() -> None:
    one, facts = whole_run()
    other, _ = whole_run(branch="exp/other")
    assert isinstance(one.record, RunRecord)
    assert isinstance(other.record, RunRecord)
    pins = pins_of(one.record, facts.files)
    runs = [(one.record, "1" * 40, pins), (other.record, "2" * 40, pins)]
    needed, findings = objects_of(runs, [])
    assert findings == ()
    stored = [path for path in one.record.body["files"] if path.startswith(OUTPUTS)]
    assert {one.md5 for one in needed} == {
        PIN.raw_md5,
        *(one.record.body["files"][path]["md5"] for path in stored),
    }
    assert {item.runs for item in needed} == {(one.record.id, other.record.id)}
    gone = [removal(other.record.id, "run")]
    assert {item.runs for item in objects_of(runs, gone)[0]} == {(one.record.id,)}
    both = [*gone, *(removal(one.record.id, what) for what in ("artefacts", "run", "stored"))]
    assert objects_of(runs, both) == ((), ())


def test_a_run_that_was_let_go_still_promises_its_raw_data_and_nothing_else() -> None:
    one, facts = whole_run()
    assert isinstance(one.record, RunRecord)
    runs = [(one.record, "1" * 40, pins_of(one.record, facts.files))]
    let_go, stored = (removal(one.record.id, what) for what in ("artefacts", "stored"))
    for removals in ([let_go], [let_go, stored, let_go]):
        needed, _ = objects_of(runs, removals)
        assert [item.md5 for item in needed] == [PIN.raw_md5]


def test_a_run_that_was_stored_again_promises_all_of_it_again() -> None:
    one, facts = whole_run()
    assert isinstance(one.record, RunRecord)
    runs = [(one.record, "1" * 40, pins_of(one.record, facts.files))]
    assert objects_of(runs, [removal(one.record.id, what) for what in ("artefacts", "stored")]) == objects_of(runs, [])


def test_records_that_state_two_contents_of_one_object_are_named() -> None:
    one, _ = whole_run()
    assert isinstance(one.record, RunRecord)
    files = {**one.record.body["files"], MODEL: {**one.record.body["files"][MODEL], "sha256": "0" * 64}}
    other = RunRecord({**one.record.body, "id": "r" + "2" * 20, "files": files})
    _, (finding,) = objects_of([(one.record, "1" * 40, {}), (other, "2" * 40, {})], [])
    assert (finding.kind, finding.where) == ("edited", files[MODEL]["md5"])


NEEDED = Needed("a" * 32, "b" * 64, 7, ("artifacts/x",), ("r1",))


def test_an_object_is_sound_missing_or_damaged_and_only_the_cache_may_lack_it() -> None:
    whole = Held("b" * 64, "a" * 32, 7)
    for place in ("cache", "remote"):
        assert audit_object(NEEDED, place, whole, only_copy=False) is None
        assert audit_object(NEEDED, place, Held(None, None, 7), only_copy=False) is None
        for held in (Held("b" * 64, "a" * 32, 8), Held("c" * 64, "a" * 32, 7), Held("b" * 64, "c" * 32, 7)):
            damaged = audit_object(NEEDED, place, held, only_copy=False)
            assert damaged is not None
            assert (damaged.kind, damaged.fault, damaged.where) == ("damaged", True, NEEDED.md5)
    faults = {
        (place, only): finding.fault
        for place in ("cache", "remote")
        for only in (False, True)
        if (finding := audit_object(NEEDED, place, None, only_copy=only))
    }
    assert faults == {
        ("cache", False): False,
        ("cache", True): True,
        ("remote", False): True,
        ("remote", True): True,
    }
