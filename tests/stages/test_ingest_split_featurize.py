"""From pinned sources to features: what is joined, dropped, divided and learnt, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cd4ml.errors import ConfigError, IntegrityError, StageFailed
from cd4ml.spec.experiment import DataSpec, FeaturesSpec, JoinSpec, SourceSpec, SplitSpec
from cd4ml.stages.featurize import featurize_table, load_features
from cd4ml.stages.ingest import ingest_table, pinned_table
from cd4ml.stages.runner import run_stage
from cd4ml.stages.split import assign_sides, prove
from cd4ml.stages.table import column_types, read_table, row_digests, table_digest, to_frame
from tests.stages.stage_world import CSVS, DAYS, build, data, pin, resolved, spec

SPLIT = spec().split


@pytest.fixture
def frames(tmp_path: Path) -> dict[str, pd.DataFrame]:
    found = {}
    for name, text in CSVS.items():
        (tmp_path / name).write_text(text)
        found[name] = read_table(tmp_path / name, "csv", f"{name}.csv")
    return found


@pytest.fixture
def table(frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    return ingest_table(data(), frames)[0]


# --- ingest --------------------------------------------------------------------------------------------


def test_rows_keep_their_order_and_those_without_a_target_are_dropped_and_counted(
    frames: dict[str, pd.DataFrame],
) -> None:
    table, provenance = ingest_table(data(), frames)
    dropped = sum(day % 10 == 9 for day in range(DAYS))
    assert (provenance["rows_in"], provenance["rows_out"], provenance["dropped_missing_target"]) == (
        DAYS,
        len(table),
        dropped,
    )
    assert table["distance"].tolist() == [100 + day for day in range(DAYS) if day % 10 != 9]
    assert provenance["table"]["digest"] == table_digest(table)
    assert provenance["table"]["columns"] == [{"name": name, "type": kind} for name, kind in column_types(table)]


def test_a_join_adds_its_columns_and_counts_who_found_no_partner(frames: dict[str, pd.DataFrame]) -> None:
    table, provenance = ingest_table(data(), frames)
    unmatched = sum(day % 7 == 0 or day % 4 == 3 for day in range(DAYS))
    assert provenance["joins"] == [{"source": "planes", "matched": DAYS - unmatched, "unmatched": unmatched}]
    years = {"P0": 2001.0, "P1": 1999.0, "P2": 2010.0}
    expected = [years.get(str(plane), np.nan) for plane in table["plane"]]
    assert np.array_equal(table["plane_year"].to_numpy(), expected, equal_nan=True)
    kinds = dict(column_types(table))
    assert (kinds["plane_seats"], kinds["plane_electric"], kinds["start"]) == ("float64", "bool", "timestamp")


def test_a_missing_key_never_finds_a_partner(frames: dict[str, pd.DataFrame]) -> None:
    """pandas would join missing to missing."""
    nameless = pd.DataFrame({"plane": [None], "year": [1900.0], "seats": [1], "electric": [True]}).astype(
        {"plane": "str"}
    )
    planes = pd.concat([frames["planes"].astype({"year": "float64"}), nameless, nameless], ignore_index=True)
    table, _ = ingest_table(data(), {**frames, "planes": planes})
    assert not (table["plane_year"] == 1900).any()


def test_a_join_on_a_time_compares_moments_and_not_texts(frames: dict[str, pd.DataFrame]) -> None:
    planes = pd.DataFrame({"start": ["2013-01-01T01:00:00+01:00"], "sky": ["clear"]}).astype("str")
    joins = [{"source": "planes", "on": ["start"], "columns": ["sky"], "prefix": ""}]
    table, provenance = ingest_table(data({"joins": joins}), {**frames, "planes": planes})
    assert provenance["joins"][0]["matched"] == 1
    assert table["sky"].iloc[0] == "clear"


@settings(deadline=None)
@given(
    left=st.lists(st.integers(0, 5) | st.none(), min_size=1, max_size=8),
    right=st.lists(st.integers(0, 5), unique=True, max_size=6),
)
def test_a_join_is_a_lookup(left: list[int | None], right: list[int]) -> None:
    main = to_frame(pa.table({"k": pa.array(left, pa.int64()), "y": pa.array([1.0] * len(left))}), "l")
    other = to_frame(pa.table({"k": pa.array(right, pa.int64()), "v": pa.array([f"v{key}" for key in right])}), "r")
    table, provenance = ingest_table(_lookup_spec(), {"l": main, "r": other})
    expected = [f"v{key}" if key in right else None for key in left]
    assert [None if pd.isna(value) else value for value in table["v"]] == expected
    assert provenance["joins"][0]["matched"] == len(left) - expected.count(None)


def _lookup_spec() -> DataSpec:
    sources = (SourceSpec("l", "l.csv", "csv"), SourceSpec("r", "r.csv", "csv"))
    return DataSpec(sources, (JoinSpec("r", ("k",), ("v",), ""),), "y", (), drop_missing_target=True)


PLANES = {"source": "planes", "on": ["plane"], "columns": ["year"], "prefix": "plane_"}
BAD_INGEST: Mapping[str, tuple[dict[str, Any], str]] = {
    "a key that is not there": ({"joins": [{**PLANES, "on": ["tail"]}]}, r"no column 'tail'"),
    "a column that is not there": ({"joins": [{**PLANES, "columns": ["age"]}]}, r"planes has no column 'age'"),
    "a column that is there": ({"joins": [{**PLANES, "columns": ["distance"], "prefix": ""}]}, r"no column 'distance'"),
    "a collision": ({"joins": [PLANES, PLANES | {"prefix": ""}, PLANES]}, r"'plane_year'.* would be there twice"),
    "a time that is a number": ({"time_columns": ["start", "distance"]}, r"'distance' holds int64"),
    "a time that is a word": (
        {"time_columns": ["start", "city"]},
        r"60 of 60 values of 'city' are not ISO 8601.* row 0",
    ),
    "a time that is not there": ({"time_columns": ["start", "end"]}, r"no column 'end'"),
    "a target that is not there": ({"target": "lateness"}, r"no column 'lateness'"),
    "a target that is a word": ({"target": "city"}, r"'city' holds string"),
    "missing targets": ({"drop_missing_target": False}, r"6 of 60 rows have no 'delay'"),
}


@pytest.mark.parametrize("case", BAD_INGEST)
def test_what_cannot_be_ingested_says_why(frames: dict[str, pd.DataFrame], case: str) -> None:
    changes, message = BAD_INGEST[case]
    changed: dict[str, Any] = dict(changes)
    if "joins" in changed:
        changed["joins"] = tuple(
            JoinSpec(join["source"], tuple(join["on"]), tuple(join["columns"]), join["prefix"])
            for join in changed["joins"]
        )
    if "time_columns" in changed:
        changed["time_columns"] = tuple(changed["time_columns"])
    with pytest.raises(StageFailed, match=message):
        ingest_table(replace(data(), **changed), frames)


def test_a_join_whose_key_is_not_unique_is_refused(frames: dict[str, pd.DataFrame]) -> None:
    planes = pd.concat([frames["planes"], frames["planes"].iloc[:2]], ignore_index=True)
    with pytest.raises(StageFailed, match="2 rows repeat a key"):
        ingest_table(data(), {**frames, "planes": planes})


def test_keys_of_different_kinds_do_not_silently_match_nothing(frames: dict[str, pd.DataFrame]) -> None:
    planes = frames["planes"].assign(plane=[0, 1, 2])
    with pytest.raises(StageFailed, match="key 'plane' is int64 here and string there"):
        ingest_table(data(), {**frames, "planes": planes})


def test_no_target_at_all_is_an_error(frames: dict[str, pd.DataFrame]) -> None:
    with pytest.raises(StageFailed, match="no row has a 'delay'"):
        ingest_table(data(), {**frames, "trips": frames["trips"].assign(delay=np.nan)})


@pytest.mark.parametrize("damage", ["flip", "cut", "grow", "gone", "other table", "other rows"])
def test_raw_bytes_that_are_not_the_pinned_ones_stop_the_run(tmp_path: Path, damage: str) -> None:
    (tmp_path / "data").mkdir()
    value = pin(tmp_path, tmp_path, "planes", "planes.csv", CSVS["planes"].encode())
    path = tmp_path / value.raw_sha256
    raw = path.read_bytes()
    assert len(pinned_table(tmp_path, value)) == value.rows
    if damage == "other table":
        value = replace(value, digest="0" * 64)
    elif damage == "other rows":
        value = replace(value, rows=value.rows + 1)
    elif damage == "gone":
        path.unlink()
    else:
        path.write_bytes({"flip": bytes([raw[0] ^ 1]) + raw[1:], "cut": raw[:-1], "grow": raw + b"\n"}[damage])
    with pytest.raises(IntegrityError, match="source planes"):
        pinned_table(tmp_path, value)


# --- split ---------------------------------------------------------------------------------------------


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


# --- featurize -----------------------------------------------------------------------------------------


def features(**changes: Any) -> FeaturesSpec:
    return replace(spec().features, **changes)


def test_categories_are_learnt_from_the_train_side_alone(table: pd.DataFrame) -> None:
    side = assign_sides(table, SPLIT)["side"]
    frame, schema = featurize_table(table, side, features(), "delay")
    city = next(feature for feature in schema["features"] if feature["name"] == "city")
    assert city["categories"] == ["lima", "oslo", "rome"]
    assert "cairo" in set(table["city"])
    assert frame["city"][(table["city"] == "cairo").to_numpy()].isna().all()
    assert frame["city"][(table["city"] != "cairo").to_numpy()].notna().all()


def test_the_schema_lists_features_in_the_order_declared(table: pd.DataFrame) -> None:
    frame, schema = featurize_table(table, assign_sides(table, SPLIT)["side"], features(), "delay")
    names = ["distance", "late_start", "plane_year", "city", "plane", "start_month", "start_hour"]
    assert [feature["name"] for feature in schema["features"]] == names
    assert list(frame.columns) == [*names, "delay", "__row__"]
    assert frame["start_hour"].tolist() == [float(moment.hour) for moment in table["start"]]
    assert {str(frame[name].dtype) for name in names if name not in {"city", "plane"}} == {"float64"}


def test_few_valued_numbers_and_truth_may_be_categories(table: pd.DataFrame) -> None:
    side = assign_sides(table, SPLIT)["side"]
    frame, schema = featurize_table(table, side, features(categorical=("night", "plane_electric")), "delay")
    assert schema["features"][3]["categories"] == schema["features"][4]["categories"] == ["False", "True"]
    assert frame["plane_electric"].isna().equals(table["plane_electric"].isna())


def test_every_wrong_column_is_reported_at_once(table: pd.DataFrame) -> None:
    wrong = features(
        numeric=("distance", "delay", "city", "distnace", "distance"),
        categorical=("late_start",),
        calendar={"start": ("month", "week"), "distance": ("hour",)},
    )
    with pytest.raises(ConfigError) as caught:
        featurize_table(table, assign_sides(table, SPLIT)["side"], wrong, "delay")
    told = str(caught.value)
    for part in (
        "'delay' is the target",
        "'city' is string",
        "no column 'distnace'",
        "'late_start' is float64",
        "'week' is none of",
        "features.calendar.distance",
        "'distance' is there twice",
    ):
        assert part in told


def test_an_exact_copy_of_the_target_cannot_be_a_feature(table: pd.DataFrame) -> None:
    leaky = table.assign(oracle=table["delay"], nearly=table["delay"] + (table.index == 0))
    side = assign_sides(table, SPLIT)["side"]
    with pytest.raises(ConfigError, match="'oracle' is an exact copy of the target"):
        featurize_table(leaky, side, features(numeric=("oracle",)), "delay")
    featurize_table(leaky, side, features(numeric=("nearly",)), "delay")


@pytest.mark.parametrize("column", ["late_start", "delay"])
def test_infinite_values_are_refused_by_column(table: pd.DataFrame, column: str) -> None:
    endless = table.assign(**{column: table[column].where(table.index != 5, np.inf)})
    with pytest.raises(StageFailed, match=f"column '{column}' holds infinite values"):
        featurize_table(endless, assign_sides(table, SPLIT)["side"], features(), "delay")


def test_what_a_model_is_handed_has_the_schemas_categories_on_every_side(tmp_path: Path) -> None:
    build(tmp_path / "root", tmp_path / "raw", resolved())
    for stage in ("ingest", "split", "featurize"):
        run_stage(stage, tmp_path / "root", tmp_path / "raw")
    sizes = 0
    for side in ("train", "validation", "test"):
        x, y, rows = load_features(tmp_path / "root", side)
        assert x["city"].cat.categories.tolist() == ["lima", "oslo", "rome"]
        assert (str(y.dtype), str(rows.dtype)) == ("float64", "int64")
        assert len(x) == len(y) == len(rows)
        sizes += len(rows)
    assert sizes == sum(day % 10 != 9 for day in range(DAYS))
