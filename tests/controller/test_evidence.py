"""Which rows two runs are held against each other on, and what is no evidence: files of made-up runs, really read."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cd4ml.controller.history.objects import Objects
from cd4ml.controller.reporting.columns import NoEvidenceError
from cd4ml.controller.reporting.evidence import Request, curves_of, importance_of, pair
from cd4ml.controller.reporting.movement import moved_between
from cd4ml.controller.reporting.observed import Columns
from cd4ml.index.record import RunRecord
from cd4ml.promotion.paired import Paired
from cd4ml.promotion.review import ColumnMoved
from cd4ml.spec.pipeline import IMPORTANCE, MODEL_CARD, PREDICTIONS, SPLIT, TABLE
from tests.controller.evidence_world import Ran, Store, numbered

SIDES = ("train", "validation", "test")
FIVE = ("train", "validation", "test", "test", "test")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def paired(store: Store, champion: RunRecord, challenger: RunRecord, **columns: Any) -> Paired:
    with Objects(store.storage) as objects:
        return pair(objects, champion, challenger, Request(Columns(**columns), min_rows=1, uses=3))


def why_not(store: Store, champion: RunRecord, challenger: RunRecord, **columns: Any) -> str:
    with pytest.raises(NoEvidenceError) as caught:
        paired(store, champion, challenger, **columns)
    return str(caught.value)


def plain(store: Store, **files: Any) -> RunRecord:
    return Ran(numbered([1, 2, 3, 4, 5]), FIVE, [0, 0, 30, 40, 50]).record(store, **files)


# ── rows ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_runs_of_one_split_are_held_against_each_other_on_the_whole_test_side(store: Store) -> None:
    found = paired(store, plain(store), Ran(numbered([1, 2, 3, 4, 5]), FIVE, [0, 0, 31, 41, 51]).record(store))
    assert found.observed.tolist() == [6, 8, 10]
    assert found.champion.predicted.tolist() == [30, 40, 50]
    assert found.challenger.predicted.tolist() == [31, 41, 51]
    assert (found.ruler.declared, found.ruler.rows, found.ruler.uses, found.ruler.matched_by) == (3, 3, 3, ())
    assert found.ruler.digest == "d" * 64


@pytest.mark.parametrize(("rows", "share", "asked"), [(1, 0.9, 3), (1, 0.5, 2), (7, 0.9, 7)])
def test_the_ruler_says_how_many_rows_are_asked_for(store: Store, rows: int, share: float, asked: int) -> None:
    with Objects(store.storage) as objects:
        found = pair(objects, plain(store), plain(store), Request(Columns(), min_rows=rows, min_share=share))
    assert found.ruler.min_rows == asked


def test_a_row_that_the_challenger_trained_on_or_watched_is_dropped_and_counted(store: Store) -> None:
    other = Ran(numbered([3, 4, 5, 1]), ("train", "validation", "test", "train"), [0, 0, 51, 0]).record(store)
    found = paired(store, plain(store), other)
    assert found.observed.tolist() == [10]
    assert found.champion.predicted.tolist() == [50]
    assert found.challenger.predicted.tolist() == [51]
    assert (found.ruler.seen_by_challenger, found.ruler.not_predicted, found.ruler.rows) == (2, 0, 1)


def test_a_row_that_the_challenger_does_not_have_is_dropped_and_counted(store: Store) -> None:
    other = Ran(numbered([5, 9, 3, 8]), ("test", "train", "test", "validation"), [51, 0, 31, 0]).record(store)
    found = paired(store, plain(store), other)
    assert found.observed.tolist() == [6, 10]
    assert found.challenger.predicted.tolist() == [31, 51]
    assert found.ruler.not_predicted == 1


def test_a_row_that_occurs_several_times_is_dropped_when_any_of_them_was_seen(store: Store) -> None:
    twice = Ran(numbered([1, 2, 3, 3, 5]), FIVE, [0, 0, 30, 33, 50]).record(store)
    other = Ran(numbered([3, 3, 2, 5]), ("test", "train", "validation", "test"), [1, 0, 0, 51]).record(store)
    found = paired(store, twice, other)
    assert found.observed.tolist() == [10]
    assert found.ruler.seen_by_challenger == 2


def test_one_row_is_a_ruler_of_one_row(store: Store) -> None:
    sides = ("train", "validation", "test")
    one, other = (Ran(numbered([1, 2, 3]), sides, [0, 0, said]).record(store) for said in (5.0, 7.0))
    found = paired(store, one, other)
    assert (found.ruler.rows, found.observed.tolist(), found.challenger.predicted.tolist()) == (1, [6], [7])


def test_no_row_in_common_is_a_ruler_of_no_rows(store: Store) -> None:
    other = Ran(numbered([7, 8, 9]), SIDES, [0, 0, 1]).record(store)
    found = paired(store, plain(store), other)
    assert (found.ruler.rows, len(found.observed), found.ruler.not_predicted) == (0, 0, 3)


def test_tables_with_other_columns_are_matched_by_those_that_both_have_and_it_is_said(store: Store) -> None:
    wider = numbered([5, 4, 3, 2, 1], extra=[1.0, 2.0, 3.0, 4.0, 5.0])
    other = Ran(wider, ("test", "train", "test", "train", "validation"), [51, 0, 31, 0, 0]).record(store)
    found = paired(store, plain(store), other)
    assert found.ruler.matched_by == ("x", "y")
    assert found.observed.tolist() == [6, 10]
    assert found.challenger.predicted.tolist() == [31, 51]
    assert found.ruler.seen_by_challenger == 1


def test_rows_that_only_further_columns_tell_apart_have_no_answer_where_the_answers_differ(store: Store) -> None:
    wider = numbered([3, 3, 4, 4, 1, 2], extra=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    sides = ("test", "test", "test", "test", "train", "validation")
    other = Ran(wider, sides, [31, 32, 41, 41, 0, 0]).record(store)
    found = paired(store, plain(store), other)
    assert found.observed.tolist() == [8]
    assert found.ruler.not_predicted == 2


def test_a_column_of_another_type_does_not_match_rows(store: Store) -> None:
    typed = numbered([3, 4, 5, 1], note=[1, 2, 3, 4])
    one = Ran(typed, ("test", "train", "validation", "test"), [1, 0, 0, 1]).record(store)
    other = Ran(typed.assign(note=["1", "2", "3", "4"]), ("test", "train", "validation", "train"), [1, 0, 0, 0]).record(
        store
    )
    assert paired(store, one, other).ruler.matched_by == ("x", "y")


def test_tables_without_a_column_in_common_are_not_comparable(store: Store) -> None:
    frame = pd.DataFrame({"z": [1.0, 2.0, 3.0]})
    other = Ran(frame, SIDES, [0, 0, 1], target="z").record(store)
    assert "no column in common" in why_not(store, plain(store), other)


_ROWS = st.lists(st.tuples(st.integers(0, 5), st.sampled_from(SIDES)), min_size=3, max_size=12)


@settings(max_examples=20)
@given(mine=_ROWS, theirs=_ROWS)
def test_what_is_kept_was_seen_by_neither_and_the_rest_is_counted_once(
    tmp_path_factory: pytest.TempPathFactory, mine: list[tuple[int, str]], theirs: list[tuple[int, str]]
) -> None:
    """By a second, slow way: sets of values."""
    store = Store(tmp_path_factory.mktemp("rows"))
    one, other = (
        Ran(numbered([x for x, _ in rows]), [side for _, side in rows], [10 * x for x, _ in rows]).record(store)
        for rows in (mine, theirs)
    )
    found = paired(store, one, other)
    ruler = found.ruler
    declared = [x for x, side in mine if side == "test"]
    if one.body["files"][SPLIT] != other.body["files"][SPLIT]:
        seen = {x for x, side in (*mine, *theirs) if side != "test"}
        kept = [x for x in declared if x not in seen and (x, "test") in theirs]
        assert found.observed.tolist() == [2 * x for x in kept]
        assert found.challenger.predicted.tolist() == [10 * x for x in kept]
    dropped = ruler.seen_by_champion + ruler.seen_by_challenger + ruler.not_predicted
    assert ruler.rows + dropped == ruler.declared == len(declared)


# ── classes, slices, times ───────────────────────────────────────────────────────────────────────────────────────


def classified(
    store: Store, labels: list[Any], classes: list[Any], codes: list[float], task: str = "multiclass", **more: Any
) -> RunRecord:
    frame = pd.DataFrame({"x": np.arange(5.0), "y": labels})
    return Ran(frame, FIVE, codes, task=task, classes=classes, **more).record(store)


def test_classes_are_matched_by_their_text_and_probabilities_follow(store: Store) -> None:
    labels = ["a", "b", "a", "b", "b"]
    shares = np.array([[0.25, 0.75]] * 5)
    one = classified(store, labels, ["a", "b"], [0, 0, 0, 1, 1], shares=shares)
    other = classified(store, labels, ["b", "a"], [0, 0, 0, 1, 1], shares=shares)
    found = paired(store, one, other)
    assert found.classes == ("a", "b")
    assert found.observed.tolist() == [0, 1, 1]
    assert found.challenger.predicted.tolist() == [1, 0, 0]
    assert found.challenger.probabilities is not None
    assert found.challenger.probabilities[0].tolist() == [0.75, 0.25]


def test_a_class_that_the_champion_does_not_know_comes_after_its_own(store: Store) -> None:
    one = classified(store, [1, 2, 1, 2, 2], [1, 2], [0, 0, 0, 1, 1], shares=np.array([[0.5, 0.5]] * 5))
    other = classified(store, [1, 2, 1, 2, 2], [0, 1, 2], [0, 0, 0, 1, 2])
    found = paired(store, one, other)
    assert found.classes == ("1", "2", "0")
    assert found.challenger.predicted.tolist() == [2, 0, 1]
    assert found.champion.probabilities is not None
    assert found.champion.probabilities.shape == (3, 3)
    assert found.challenger.probabilities is None


@pytest.mark.parametrize("labels", [[True, False], [0, 1], ["no", "yes"], [1.0, 2.0]])
def test_a_binary_target_of_any_kind_has_its_positive_class_last(store: Store, labels: list[Any]) -> None:
    column = [labels[0], labels[1], labels[0], labels[1], labels[1]]
    run = classified(store, column, labels, [0, 0, 0, 1, 1], task="binary")
    assert paired(store, run, run).observed.tolist() == [0, 1, 1]


def test_binary_runs_with_other_classes_are_not_comparable(store: Store) -> None:
    one = classified(store, ["a", "b", "a", "b", "b"], ["a", "b"], [0, 0, 0, 1, 1], task="binary")
    other = classified(store, ["a", "b", "a", "b", "b"], ["b", "a"], [0, 0, 0, 1, 1], task="binary")
    assert "the classes of the target differ" in why_not(store, one, other)


def test_slices_are_the_base_branchs_columns_and_what_is_missing_is_a_value(store: Store) -> None:
    hostile = "`|</details>\n@all"
    frame = numbered([1, 2, 3, 4, 5], where=pd.Series(["a", "b", hostile, None, hostile], dtype="str"))
    run = Ran(frame, FIVE, [0, 0, 1, 2, 3]).record(store)
    found = paired(store, run, run, slices=("where", "nowhere"))
    codes, texts = found.slices["where"]
    assert [texts[code] for code in codes] == ["`|</details> @all", "(missing)", "`|</details> @all"]
    assert set(found.slices) == {"where"}


def test_a_column_with_too_many_values_is_no_slice(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cd4ml.controller.reporting.columns.coded.__defaults__", (2,))
    run = plain(store)
    assert paired(store, run, run, slices=("x",)).slices == {}


def test_times_are_told_where_the_split_is_by_time(store: Store) -> None:
    moments = pd.to_datetime(["1970-01-01T00:00:01", "1970-01-01T00:00:02", *["1970-01-02T00:00:00"] * 3], utc=True)
    frame = numbered([1, 2, 3, 4, 5], when=pd.Series(moments).astype("datetime64[ns, UTC]"))
    timed = Ran(frame, FIVE, [0] * 5, split={"method": "time", "column": "when"}).record(store)
    found = paired(store, timed, timed, slices=("when",), resample_by="when")
    assert found.times is not None
    assert found.times.tolist() == [86400.0] * 3
    assert found.slices["when"][1] == ("1970-01-02T00:00:00+00:00",)
    assert paired(store, plain(store), plain(store)).times is None


def test_rows_of_one_value_are_one_cluster_and_a_column_that_is_not_there_is_no_evidence(store: Store) -> None:
    run = Ran(numbered([1, 2, 3, 4, 5], day=[1, 1, 2, 2, 3]), FIVE, [0] * 5).record(store)
    clusters = paired(store, run, run, resample_by="day").clusters
    assert clusters is not None
    assert (clusters[0] == clusters[1], clusters[0] == clusters[2]) == (True, False)
    assert "names 'night'" in why_not(store, run, run, resample_by="night")


# ── hostile files ────────────────────────────────────────────────────────────────────────────────────────────────


def parquet(store: Store, **columns: Any) -> dict[str, Any]:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return store.put_bytes(sink.getvalue())


def said(rows: Any, predictions: Any, sides: Any = ("validation", "test", "test", "test")) -> dict[str, Any]:
    return {"row": rows, "side": list(sides), "prediction": predictions}


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        (said([1, 2, 3, 4], [0.0, 1.0, float("nan"), 3.0]), "not all finite"),
        (said([1, 2, 3, 4], [0.0, 1.0, float("inf"), 3.0]), "not all finite"),
        (said([1, 2, 3, 4], [0.0, 1.0, None, 3.0]), "something else than numbers"),
        (said([1, 2, 3, 4], ["0", "1", "2", "3"]), "something else than numbers"),
        (said([1, 2, 2, 4], [0.0, 1.0, 2.0, 3.0]), "not one for each row"),
        (said([1, 2, 3], [0.0, 1.0, 2.0], SIDES[1:] + SIDES[2:]), "not one for each row"),
        (said([1, 2, 3, 9], [0.0, 1.0, 2.0, 3.0]), "not one for each row"),
        (said([1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 2.0, 3.0]), "do not number their rows"),
        (said([1, 2, 3, 4], [0.0, 1.0, 2.0, 3.0], ["test", "nowhere", "test", "test"]), "knows other sides"),
        ({"row": [1], "side": ["test"]}, "has no column 'prediction'"),
    ],
)
def test_predictions_that_are_none_are_no_evidence(store: Store, columns: dict[str, Any], told: str) -> None:
    forged = plain(store, **{PREDICTIONS: parquet(store, **columns)})
    message = why_not(store, plain(store), forged)
    assert told in message
    assert message.startswith("the challenger's predictions")


def test_bytes_that_are_no_parquet_are_no_evidence(store: Store) -> None:
    for path in (TABLE, SPLIT, PREDICTIONS):
        broken = plain(store, **{path: store.put_bytes(b"PAR1 no table PAR1")})
        assert "cannot be read" in why_not(store, broken, plain(store))


def test_bytes_other_than_those_that_the_record_promised_are_not_read(store: Store) -> None:
    run = plain(store)
    place = store.storage.cached(run.body["files"][PREDICTIONS]["md5"])
    place.write_bytes(place.read_bytes()[:-1] + b"?")
    message = why_not(store, run, run)
    assert "cannot be had" in message
    assert "is not in the DVC cache" in message


def test_an_output_that_is_not_there_any_more_is_said_so(store: Store) -> None:
    run = plain(store)
    store.storage.cached(run.body["files"][SPLIT]["md5"]).unlink()
    assert SPLIT in why_not(store, run, run)


@pytest.mark.parametrize("name", ["../../../etc/passwd", "", "A" * 32, "0" * 31 + "/"])
def test_what_a_record_names_becomes_no_path(store: Store, name: str) -> None:
    forged = plain(store, **{SPLIT: {"sha256": "0" * 64, "md5": name, "bytes": 3}})
    assert "names no object" in why_not(store, forged, plain(store))


def test_a_link_in_the_cache_is_not_followed(store: Store, tmp_path: Path) -> None:
    run = plain(store)
    place = store.storage.cached(run.body["files"][SPLIT]["md5"])
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    assert "is not in the DVC cache" in why_not(store, run, run)


def test_a_file_that_claims_too_many_rows_or_bytes_is_not_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run = plain(store)
    monkeypatch.setattr("cd4ml.controller.reporting.columns.MOST_UNPACKED", 10)
    assert "is larger than" in why_not(store, run, run)
    monkeypatch.setattr("cd4ml.controller.reporting.columns.MOST_ROWS", 4)
    assert "does not hold the rows" in why_not(store, run, run)


def test_a_table_of_another_number_of_rows_than_the_split_is_no_evidence(store: Store) -> None:
    run = plain(store)
    shorter = plain(store, **{TABLE: parquet(store, x=[1.0], y=[2.0])})
    assert "does not hold the rows that it should" in why_not(store, shorter, run)


def test_a_target_that_is_not_finite_is_no_evidence(store: Store) -> None:
    frame = numbered([1, 2, 3, 4, 5])
    frame.loc[3, "y"] = np.inf
    run = Ran(frame, FIVE, [0] * 5).record(store)
    assert "not finite in every row" in why_not(store, run, run)


@pytest.mark.parametrize(
    ("share", "told"),
    [([0.5, 0.6], "sum to 1"), ([-0.5, 1.5], "sum to 1"), ([np.nan, 1.0], "something else than numbers")],
)
def test_probabilities_that_are_none_are_no_evidence(store: Store, share: list[float], told: str) -> None:
    labels = ["a", "b", "a", "b", "b"]
    run = classified(store, labels, ["a", "b"], [0, 0, 0, 1, 1], shares=np.array([share] * 5))
    assert told in why_not(store, run, run)


def test_codes_of_no_class_are_no_evidence(store: Store) -> None:
    run = classified(store, ["a", "b", "a", "b", "b"], ["a", "b"], [0, 0, 0.5, 1, 2])
    assert "no codes of its classes" in why_not(store, run, run)


@pytest.mark.parametrize("task", ["ranking", None, ["regression"]])
def test_a_task_that_there_is_not_is_no_evidence(store: Store, task: Any) -> None:
    run = plain(store)
    run.body["params"]["evaluation"]["task"] = task
    assert "names no task" in why_not(store, run, run)


# ── importance, learning curves and movement ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("card", "curves"),
    [
        ({"curve": {"name": "rmse", "rows": [[0, 2.5], [1, 2]]}}, {"rmse": ((0.0, 2.5), (1.0, 2.0))}),
        ({"curve": {"name": "rmse", "rows": [[0, 2.5], [1, "NaN"]]}}, {}),
        ({"curve": {"name": "rmse", "rows": [[0, 1, 2, 3]]}}, {}),
        ({"curve": [1, 2]}, {}),
        ({}, {}),
    ],
)
def test_a_learning_curve_is_rows_of_numbers_or_none(store: Store, card: object, curves: object) -> None:
    run = plain(store, **{MODEL_CARD: store.put_bytes(json.dumps(card).encode())})
    with Objects(store.storage) as objects:
        assert curves_of(objects, run) == curves


def test_importance_is_read_in_its_order_and_what_is_no_number_is_none(store: Store) -> None:
    good = plain(store, **{IMPORTANCE: store.put_bytes(b'feature,importance,std\nx,2.5,0.1\n"a,b",1,0\nz,inf,0\n')})
    bad = plain(store, **{IMPORTANCE: store.put_bytes(b"feature,importance,std\nx,lots,0.1\n")})
    with Objects(store.storage) as objects:
        assert importance_of(objects, good) == (("x", 2.5, 0.1), ("a,b", 1.0, 0.0))
        assert importance_of(objects, bad) == ()
        assert importance_of(objects, plain(store)) == ()


def test_columns_that_moved_are_found_with_their_missing_shares(store: Store) -> None:
    count = 400
    rng = np.random.default_rng(5)
    before = pd.DataFrame(
        {"x": rng.normal(size=count), "y": rng.normal(size=count), "t": rng.choice(["a", "b"], count)}
    )
    after = before.assign(x=before["x"] + 3, t=["c"] * count)
    after.loc[: count // 2 - 1, "y"] = np.nan
    sides = [SIDES[place % 3] for place in range(count)]
    one, other = (Ran(frame, sides, [0] * count).record(store) for frame in (before, after))
    with Objects(store.storage) as objects:
        moved, notes = moved_between(objects, one, other)
        assert moved_between(objects, one, one) == ((), ())
    assert notes == ()
    assert {column.column for column in moved} == {"x", "y", "t"}
    assert [column.psi for column in moved] == sorted((column.psi for column in moved), reverse=True)
    assert {column.column: column.missing_after for column in moved}["y"] == 0.5
    assert Counter(column.missing_before for column in moved) == {0.0: 3}


def what_moved(store: Store, before: pd.DataFrame, after: pd.DataFrame) -> dict[str, ColumnMoved]:
    """The columns that moved between the tables of two runs, by name; a reader is told nothing beside."""
    frames = (before, after)
    one, other = (Ran(frame, [SIDES[at % 3] for at in range(len(frame))], [0] * len(frame)) for frame in frames)
    with Objects(store.storage) as objects:
        moved, notes = moved_between(objects, one.record(store), other.record(store))
    assert notes == ()
    return {column.column: column for column in moved}


def test_what_moved_only_in_the_later_rows_of_a_long_table_is_found(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cd4ml.controller.reporting.movement.MOST_SAMPLED", 100)
    before = numbered(range(400))
    after = before.assign(x=before["x"].where(before["x"] < 200, 1000))
    assert what_moved(store, before, after).keys() == {"x"}


def test_texts_that_went_missing_are_no_value_of_the_column(store: Store) -> None:
    texts = pd.Series(["a"] * 100, dtype="str")
    before, after = numbered(range(100), t=texts), numbered(range(100), t=texts.where(texts.index < 25))
    moved = what_moved(store, before, after)
    assert {name: (one.missing_before, one.missing_after) for name, one in moved.items()} == {"t": (0.0, 0.75)}


def test_times_that_moved_are_found(store: Store) -> None:
    times = pd.Series(pd.date_range("2013-01-01", periods=100, tz="UTC").as_unit("ns"))
    before, after = numbered(range(100), t=times), numbered(range(100), t=times + pd.Timedelta(days=365))
    assert what_moved(store, before, after).keys() == {"t"}


def test_a_column_that_became_one_of_another_type_is_not_told_as_moved(store: Store) -> None:
    before = numbered(range(100), t=pd.Series(["a"] * 100, dtype="str"))
    assert what_moved(store, before, before.assign(t=1.0)) == {}


def test_columns_beyond_what_is_read_are_counted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cd4ml.controller.reporting.movement.MOST_CELLS", 10)
    other = Ran(numbered([11, 12, 13, 14, 15]), FIVE, [0] * 5).record(store)
    with Objects(store.storage) as objects:
        moved, notes = moved_between(objects, plain(store), other)
    assert [column.column for column in moved] == ["x"]
    assert notes == ("1 columns were too many to look at for movement",)


def test_a_table_that_cannot_be_had_says_so_and_nothing_moved(store: Store) -> None:
    other = Ran(numbered([11, 12, 13, 14, 15]), FIVE, [0] * 5).record(store)
    store.storage.cached(other.body["files"][TABLE]["md5"]).unlink()
    with Objects(store.storage) as objects:
        moved, notes = moved_between(objects, plain(store), other)
    assert moved == ()
    assert notes[0].startswith("whether columns moved is not known: the challenger's")
