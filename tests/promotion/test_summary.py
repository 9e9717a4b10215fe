"""The index in short: grown fold by fold, of a fixed size, the same for everyone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cd4ml.errors import IntegrityError
from cd4ml.index.record import Entry, RemovalRecord, RunRecord, seal
from cd4ml.promotion.summary import (
    MOST_LATEST,
    MOST_PLACES,
    Summary,
    empty,
    encode_summary,
    grown,
    parse_summary,
    summary_of,
)
from cd4ml.report.page import cell, index_page
from tests.index.index_world import entry, experiment_body, hexes, run_body
from tests.index.test_epoch import tombstone


def run_entry(label: object, rmse: float, fold: int, **changed: Any) -> Entry:
    metrics = {"validation": {"rmse": rmse}, "test": {"rmse": rmse}}
    return entry(run_body(label, metrics=metrics, **changed), fold)


def folds_of(entries: list[Entry]) -> dict[int, list[Entry]]:
    found: dict[int, list[Entry]] = {}
    for one in sorted(entries, key=lambda one: one.order):
        found.setdefault(one.fold, []).append(one)
    return found


def by_folds(entries: list[Entry]) -> Summary:
    summary, answered = empty(), frozenset[str]()
    for _, fold in sorted(folds_of(entries).items()):
        summary = grown(summary, fold, answered)
        answered |= {one.record.fingerprint for one in fold if isinstance(one.record, RunRecord)}
    return summary


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.floats(1, 99), st.integers(1, 5)), max_size=30))
def test_fold_by_fold_gives_what_all_at_once_gives(runs: list[tuple[int, float, int]]) -> None:
    entries = [run_entry(label, rmse, fold, name=f"n{number}") for number, (label, rmse, fold) in enumerate(runs)]
    assert encode_summary(by_folds(entries)) == encode_summary(summary_of(entries))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(1, 99), min_size=1, max_size=30))
def test_the_best_results_are_listed_best_first(values: list[float]) -> None:
    summary = summary_of([run_entry(number, value, 1 + number) for number, value in enumerate(values)])
    (board,) = summary["boards"]
    assert [place["value"] for place in board["best"]] == sorted(values)[:MOST_PLACES]
    assert board["runs"] == len(values)


def test_a_replicate_has_no_place_beside_its_result() -> None:
    again = entry(run_body("a", metrics={"validation": {"rmse": 1.0}}, name="again"), 2)
    summary = summary_of([run_entry("a", 5.0, 1), again])
    (board,) = summary["boards"]
    assert [place["value"] for place in board["best"]] == [5.0]
    assert summary["records"]["run"] == 2


def test_runs_on_other_rows_are_on_another_list() -> None:
    other = {side: {"rows": 9, "digest": hexes(f"other {side}")} for side in ("train", "validation", "test")}
    summary = summary_of([run_entry("a", 5.0, 1), run_entry("b", 1.0, 2, split=other)])
    assert [[place["value"] for place in board["best"]] for board in summary["boards"]] == [[1.0], [5.0]]


def test_it_stays_small_however_much_there_is() -> None:
    few = len(encode_summary(summary_of([run_entry(n, 10.0 + n, n + 1) for n in range(MOST_LATEST)])))
    many = len(encode_summary(summary_of([run_entry(n, 10.0 + n, n + 1) for n in range(20 * MOST_LATEST)])))
    assert many < few * 1.2


def test_an_erased_run_is_not_listed() -> None:
    one = run_entry("a", 5.0, 1)
    body = {"kind": "removal", "run": one.record.id, "commit": hexes("c", 40), "what": "run", "reason": "law"}
    more = {"rule": "", "by": "Ada <a@example.org>", "at": "2026-11-03T10:00:00Z", "objects": []}
    gone = Entry(RemovalRecord(seal({**body, **more})), hexes("s"), hexes("k", 40), "", 2)
    summary = summary_of([one, gone])
    assert one.record.id not in encode_summary(summary).decode()
    assert summary["records"] == {"run": 1, "removal": 1}


def test_what_is_written_can_be_read_again_and_nothing_else() -> None:
    summary = summary_of([run_entry("a", 5.0, 1), entry(experiment_body(), 1)])
    assert parse_summary(encode_summary(summary)) == summary
    for wrong in (b"", b"[]", b"{}", encode_summary(summary)[:-1], encode_summary({**summary, "folds": -1})):
        with pytest.raises(IntegrityError):
            parse_summary(wrong)


def test_nothing_that_a_record_says_is_markup_on_the_page() -> None:
    hostile = "x|<script>[a](http://b) `c` @d *e* \x1b[31m ![f](g)"
    page = index_page(summary_of([run_entry("a", 5.0, 1, name=hostile, branch="exp/$(id)|b")]))
    assert not any(sign in cell(hostile) for sign in "|<>[]`@*\x1b!")
    (row,) = [line for line in page.splitlines() if line.startswith("| 1 |")]
    assert row.count("|") == 7
    assert "$(id)" not in page


def asked(page: str) -> str:
    """The filter of the page's example."""
    return page.split('cd4ml search "')[1].split('"')[0]


def test_the_page_asks_for_what_the_index_has() -> None:
    lower = index_page(summary_of([run_entry(label, 5.0 + label, label) for label in (1, 2)]))
    assert asked(lower) == "metrics.rmse <= 7 and lifecycle = 'discarded'"
    r2 = run_body("r2", primary={"metric": "r2"}, metrics={"validation": {"r2": 0.5}})
    assert asked(index_page(summary_of([entry(r2, 1)]))) == "metrics.r2 >= 0.5 and lifecycle = 'discarded'"
    assert asked(index_page(summary_of([]))) == "metrics.rmse < 12 and lifecycle = 'discarded'"


def test_the_page_counts_every_kind_of_record() -> None:
    summary = {
        **summary_of([run_entry("a", 5.0, 1)]),
        "records": {"run": 1, "experiment": 2, "import": 1, "removal": 3},
    }
    told = (
        "1 runs (1 succeeded, 0 failed), 2 experiment records, 1 imported run, 3 notes of what was erased or let go in"
    )
    assert told in index_page(summary)


def test_an_erased_run_is_no_result_and_a_list_without_one_is_gone() -> None:
    one, other = run_entry("a", 5.0, 1), run_entry("b", 6.0, 2)
    gone = [entry(tombstone(run.record.id), fold) for fold, run in ((3, one), (4, other))]
    (board,) = summary_of([one, other, gone[0]])["boards"]
    assert (board["runs"], [place["run"] for place in board["best"]]) == (1, [other.record.id])
    assert summary_of([one, other, *gone])["boards"] == []


def test_the_page_links_the_record_where_the_index_holds_it() -> None:
    one = run_entry("a", 5.0, 1)
    assert isinstance(one.record, RunRecord)
    fingerprint = one.record.fingerprint
    assert f"(runs/{fingerprint[:2]}/{fingerprint}-{one.record.id}.json)" in index_page(summary_of([one]))
