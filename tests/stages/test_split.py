"""Stage split: which row goes where by each method, what moves it and what does not, and what is proved of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cd4ml.errors import ConfigError, StageFailed
from cd4ml.spec.experiment import SplitSpec
from cd4ml.stages.ingest import ingest_table
from cd4ml.stages.split import assign_sides, prove
from cd4ml.stages.table import read_table, row_digests
from tests.stages.stage_world import CSVS, data, spec

SPLIT = spec().split


@pytest.fixture
def table(tmp_path: Path) -> pd.DataFrame:
    frames = {}
    for name, text in CSVS.items():
        (tmp_path / name).write_text(text)
        frames[name] = read_table(tmp_path / name, "csv", f"{name}.csv")
    return ingest_table(data(), frames, "regression")[0]


def test_sides_follow_time_and_their_bounds_belong_to_the_later_side(table: pd.DataFrame) -> None:
    sides = assign_sides(table, SPLIT)
    bounds = [pd.Timestamp(text) for text in (SPLIT.validation_from, SPLIT.test_from)]
    expected = [("train", "validation", "test")[sum(moment >= bound for bound in bounds)] for moment in table["start"]]
    assert sides["side"].tolist() == expected
    assert sides["row"].tolist() == list(range(len(table)))
    assert sides["digest"].tolist() == [row.tobytes() for row in row_digests(table)]
    exact = SplitSpec("time", "start", table["start"].iloc[30].isoformat(), table["start"].iloc[40].isoformat())
    assert assign_sides(table, exact)["side"].iloc[[29, 30, 39, 40]].tolist() == [
        "train",
        "validation",
        "validation",
        "test",
    ]


def test_bounds_without_a_zone_are_utc(table: pd.DataFrame) -> None:
    plain = SplitSpec("time", "start", SPLIT.validation_from.rstrip("Z"), "2013-02-20T01:00:00+01:00")
    assert assign_sides(table, plain).equals(assign_sides(table, SPLIT))


def test_the_proof_counts_and_orders_what_is_really_there(table: pd.DataFrame) -> None:
    sides = assign_sides(table, SPLIT)
    proof = prove(table, sides, SPLIT)
    assert proof["disjoint"] is True
    assert proof["ordered"] is True
    assert sum(proof[side]["rows"] for side in ("train", "validation", "test")) == len(table)
    assert proof["train"]["last"] < proof["validation"]["first"] < proof["validation"]["last"] < proof["test"]["first"]
    shuffled = sides.sample(frac=1.0, random_state=1)
    assert prove(table.iloc[shuffled["row"]].reset_index(drop=True), shuffled.reset_index(drop=True), SPLIT) == proof


def test_a_proof_is_refused_when_sides_overlap_in_time_or_share_a_row(table: pd.DataFrame) -> None:
    sides = assign_sides(table, SPLIT)
    mixed = sides.assign(side=["test", *sides["side"][1:]])
    with pytest.raises(StageFailed, match="reaches into the time"):
        prove(table, mixed, SPLIT)
    shared = sides.assign(digest=[*sides["digest"][:-1], sides["digest"][0]])
    with pytest.raises(StageFailed, match="1 rows are on both the train and the test side"):
        prove(table, shared, SPLIT)


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        (("2012-01-01", "2013-02-20"), r"train side is empty.*split\.validation_from"),
        (("2013-02-19T23:00:00", "2013-02-20"), r"validation side is empty"),
        (("2013-02-08", "2030-01-01"), r"test side is empty.*split\.test_from"),
    ],
)
def test_an_empty_side_names_the_bound_to_move(table: pd.DataFrame, bounds: tuple[str, str], message: str) -> None:
    with pytest.raises(StageFailed, match=message):
        assign_sides(table, SplitSpec("time", "start", *bounds))


def test_bounds_in_the_wrong_order_and_columns_that_are_no_times_are_refused(table: pd.DataFrame) -> None:
    with pytest.raises(ConfigError, match=r"split\.test_from: must be later"):
        assign_sides(table, SplitSpec("time", "start", "2013-02-20", "2013-02-08"))
    with pytest.raises(StageFailed, match="'city' is no time column"):
        assign_sides(table, SplitSpec("time", "city", "2013-02-08", "2013-02-20"))
    timeless = table.assign(start=table["start"].where(table.index != 3))
    with pytest.raises(StageFailed, match="1 of 54 rows have no 'start'"):
        assign_sides(timeless, SPLIT)


# --- the other methods ---------------------------------------------------------------------------------

SHARES: dict[str, Any] = {"validation": 0.2, "test": 0.3}
NAMES = ("train", "validation", "test")


def rows(count: int, start: int = 0) -> pd.DataFrame:
    """Distinct rows: ``n`` counts, ``kind`` has three values of 5, 3 and 2 parts, ``who`` comes back every so often."""
    numbers = range(start, start + count)
    return pd.DataFrame(
        {
            "n": pd.Series(numbers, dtype="int64"),
            "kind": pd.Series(["aaaaabbbcc"[n % 10] for n in numbers], dtype="str"),
            "who": pd.Series([f"p{n * 7 % 401}" for n in numbers], dtype="str"),
        }
    )


def sides(table: pd.DataFrame, split: SplitSpec) -> list[str]:
    return assign_sides(table, split)["side"].tolist()


def by_row(table: pd.DataFrame, split: SplitSpec) -> dict[int, str]:
    return dict(zip(table["n"].tolist(), sides(table, split), strict=True))


METHODS = [
    SplitSpec("random", **SHARES),
    SplitSpec("group", "who", **SHARES),
    SplitSpec("stratified", "kind", **SHARES),
]


@pytest.mark.parametrize("split", METHODS, ids=lambda split: split.method)
def test_the_shares_are_met_and_the_proof_counts_every_row(split: SplitSpec) -> None:
    table = rows(3000)
    assigned = assign_sides(table, split)
    proof = prove(table, assigned, split)
    assert proof["method"] == split.method
    assert proof["disjoint"] is True
    assert sum(proof[name]["rows"] for name in NAMES) == len(table)
    for name, share in (*SHARES.items(), ("train", 0.5)):
        assert proof[name]["rows"] == assigned["side"].value_counts()[name]
        assert abs(proof[name]["rows"] / len(table) - share) < 0.05


@pytest.mark.parametrize("split", METHODS, ids=lambda split: split.method)
@settings(max_examples=15)
@given(order=st.randoms(use_true_random=False), seed=st.integers(0, 2**32 - 1))
def test_the_order_of_rows_moves_nothing(split: SplitSpec, order: Any, seed: int) -> None:
    split = replace(split, seed=seed)
    table = rows(200)
    shuffled = table.iloc[order.sample(range(200), 200)].reset_index(drop=True)
    assert by_row(shuffled, split) == by_row(table, split)
    proofs = [prove(one, assign_sides(one, split), split) for one in (table, shuffled)]
    assert proofs[0] == proofs[1]


@pytest.mark.parametrize("split", METHODS[:2], ids=lambda split: split.method)
@settings(max_examples=15)
@given(more=st.integers(1, 300), seed=st.integers(0, 2**32 - 1))
def test_a_row_stays_on_its_side_when_rows_are_added(split: SplitSpec, more: int, seed: int) -> None:
    split = replace(split, seed=seed)
    before, after = by_row(rows(200), split), by_row(rows(200 + more), split)
    assert {n: after[n] for n in before} == before


@pytest.mark.parametrize("split", METHODS, ids=lambda split: split.method)
def test_another_seed_parts_the_rows_otherwise(split: SplitSpec) -> None:
    found = {tuple(sides(rows(300), replace(split, seed=seed))) for seed in range(4)}
    assert len(found) == 4


def test_where_rows_go_never_moves() -> None:
    """Committed experiments are compared on these sides: a change here moves every test side ever declared."""
    told = {split.method: "".join(str(NAMES.index(side)) for side in sides(rows(40), split)) for split in METHODS}
    assert told == GOLDEN_SIDES


GOLDEN_SIDES = {
    "random": "0122010221000001102110200002000100002010",
    "group": "0010000001202102001001012000200000100121",
    "stratified": "0222110221010011202020200002000200102010",
}


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=60, max_size=120), st.integers(0, 99))
def test_equal_rows_share_a_side_and_no_group_is_split(cells: list[tuple[int, bool]], seed: int) -> None:
    table = pd.DataFrame(cells, columns=["who", "flag"]).astype({"who": "int64", "flag": "bool"})
    for split in (SplitSpec("random", seed=seed, **SHARES), SplitSpec("group", "who", seed=seed, **SHARES)):
        try:
            assigned = assign_sides(table, split)
        except StageFailed:  # so few groups may all fall on two sides
            continue
        keys = ["who"] if split.method == "group" else ["who", "flag"]
        assert (table.assign(side=assigned["side"]).groupby(keys)["side"].nunique() == 1).all()
        assert prove(table, assigned, split)["disjoint"] is True


@settings(max_examples=40)
@given(
    sizes=st.lists(st.integers(3, 40), min_size=1, max_size=6),
    validation=st.floats(0.05, 0.45),
    test=st.floats(0.05, 0.45),
    seed=st.integers(0, 2**32 - 1),
)
def test_each_class_meets_the_shares_as_nearly_as_whole_rows_allow(
    sizes: list[int], validation: float, test: float, seed: int
) -> None:
    table = pd.DataFrame({"kind": pd.Series([n for n, size in enumerate(sizes) for _ in range(size)], dtype="int64")})
    table["n"] = range(len(table))
    split = SplitSpec("stratified", "kind", validation=validation, test=test, seed=seed)
    assigned = assign_sides(table, split)
    proof = prove(table, assigned, split)
    for index, size in enumerate(sizes):
        there = {name: proof[name]["classes"][index] for name in NAMES}
        assert sum(there.values()) == size
        assert min(there.values()) >= 1
        for name, share in (("test", test), ("validation", validation)):
            assert abs(there[name] - share * size) <= 1 or 1 in there.values()


def test_copies_of_a_row_count_for_its_class_and_stay_together() -> None:
    table = pd.DataFrame({"kind": ["a"] * 100, "n": [n % 10 for n in range(100)]}).astype({"kind": "str"})
    split = SplitSpec("stratified", "kind", **SHARES)
    proof = prove(table, assign_sides(table, split), split)
    assert [proof[name]["classes"] for name in NAMES] == [[50], [20], [30]]


@pytest.mark.parametrize("values", [["x", "y"], [1, 2], [True, False]])
def test_classes_of_every_kind_are_counted_in_the_order_of_their_names(values: list[Any]) -> None:
    table = pd.DataFrame({"kind": values * 30 + values[1:] * 30, "n": range(90)})
    split = SplitSpec("stratified", "kind", **SHARES)
    proof = prove(table, assign_sides(table, split), split)
    assert sum(proof[name]["classes"][sorted(values).index(values[1])] for name in NAMES) == 60


def test_a_group_is_told_by_its_value_and_not_by_how_it_is_kept() -> None:
    numbers = rows(200).assign(who=[n % 50 for n in range(200)])
    texts = numbers.assign(who=numbers["who"].astype("str"))
    split = SplitSpec("group", "who", **SHARES)
    assert sides(numbers, split) == sides(texts, split)
    proof = prove(numbers, assign_sides(numbers, split), split)
    assert proof["groups_disjoint"] is True
    assert sum(proof[name]["groups"] for name in NAMES) == 50


def test_a_proof_is_refused_when_a_group_is_on_two_sides() -> None:
    table = rows(1000)
    assigned = assign_sides(table, SplitSpec("random", **SHARES))
    with pytest.raises(StageFailed, match=r"\d+ groups are on both the train and the validation side"):
        prove(table, assigned, SplitSpec("group", "who", **SHARES))


def test_a_column_says_the_side_in_the_words_declared() -> None:
    table = rows(9).assign(fold=pd.Series(["1", "2", "3"] * 3, dtype="str"))
    split = SplitSpec("predefined", "fold", values={"train": ("1",), "validation": ("2",), "test": ("3", "4")})
    assert sides(table, split) == ["train", "validation", "test"] * 3
    assert sides(table.assign(fold=[1, 2, 3] * 3), split) == ["train", "validation", "test"] * 3


def test_rows_that_a_predefined_split_repeats_on_another_side_are_counted() -> None:
    table = pd.DataFrame(
        {"x": [1, 2, 3, 1, 4, 1], "side": ["train", "train", "validation", "validation", "test", "test"]}
    )
    split = SplitSpec("predefined", "side", values={name: (name,) for name in NAMES})
    table = table.astype({"side": "str"})
    proof = prove(table, assign_sides(table, split), split)
    assert [proof[name]["repeated"] for name in NAMES] == [0, 1, 1]


def gaps(table: pd.DataFrame, column: str, *where: int) -> pd.DataFrame:
    return table.assign(**{column: table[column].where(~table.index.isin(where))})


WORDS = {name: (name,) for name in NAMES}
REFUSED: dict[str, tuple[pd.DataFrame, SplitSpec, str]] = {
    "no such column": (rows(50), SplitSpec("group", "whom", **SHARES), r"split\.column: .*'whom' \(did you mean 'who'"),
    "no such time": (rows(50), SplitSpec("time", "m", "2013-01-01", "2013-02-01"), r"split\.column: .* no column 'm'"),
    "a row without a group": (gaps(rows(50), "who", 3, 4), METHODS[1], r"^split: 2 of 50 rows have no 'who'$"),
    "a row without a class": (gaps(rows(50), "kind", 3), METHODS[2], r"^split: 1 of 50 rows have no 'kind'$"),
    "a class of two rows": (rows(10), METHODS[2], r"^split: 1 of 3 classes of 'kind' have fewer than 3 distinct rows"),
    "copies only": (
        pd.DataFrame({"kind": pd.Series(["a"] * 9, dtype="str")}),
        METHODS[2],
        r"1 of 1 classes of 'kind' have fewer than 3 distinct rows",
    ),
    "fractions as classes": (
        rows(99).assign(kind=[n / 7 for n in range(99)]),
        METHODS[2],
        r"'kind' is float64 with 99 distinct values, and so no class",
    ),
    "an unknown word": (
        rows(4).assign(side=pd.Series(["train", "tset", "dev", "tset"], dtype="str")),
        SplitSpec("predefined", "side", values=WORDS),
        r"^split: 3 of 4 rows say in 'side' what split\.values has for no side \(2 other words\)$",
    ),
    "a word missing": (
        gaps(rows(4).assign(side=pd.Series(["train", "test", "test", "train"], dtype="str")), "side", 1),
        SplitSpec("predefined", "side", values=WORDS),
        r"1 of 4 rows have no 'side'",
    ),
    "no validation": (
        rows(4).assign(side=pd.Series(["train", "test", "test", "train"], dtype="str")),
        SplitSpec("predefined", "side", values=WORDS),
        r"validation side is empty: no row of 'side' says a word of split\.values\.validation$",
    ),
    "too few rows": (rows(1), METHODS[0], r"side is empty: the table has 1 rows; change split\.\w+.*, or split\.seed$"),
    "one group": (rows(9).assign(who=1), METHODS[1], r"side is empty: 'who' has 1 groups; change"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_split_says_why_by_counts_alone(case: str) -> None:
    table, split, message = REFUSED[case]
    with pytest.raises((StageFailed, ConfigError), match=message) as caught:
        assign_sides(table, split)
    assert len(str(caught.value).splitlines()) == 1
    assert "tset" not in str(caught.value)
