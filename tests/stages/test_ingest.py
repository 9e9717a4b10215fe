"""Stage ingest: what is joined, read as time and dropped, and what is refused."""

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
from cd4ml.spec.experiment import DataSpec, JoinSpec, SourceSpec, Task
from cd4ml.stages.ingest import ingest_table, pinned_table
from cd4ml.stages.table import column_types, kind_of, read_table, table_digest, to_frame
from tests.stages.stage_world import CSVS, DAYS, data, pin


@pytest.fixture
def frames(tmp_path: Path) -> dict[str, pd.DataFrame]:
    found = {}
    for name, text in CSVS.items():
        (tmp_path / name).write_text(text)
        found[name] = read_table(tmp_path / name, "csv", f"{name}.csv")
    return found


def ingested(
    asked: DataSpec, frames: Mapping[str, pd.DataFrame], task: Task = "regression"
) -> tuple[pd.DataFrame, dict[str, Any]]:
    return ingest_table(asked, frames, task)


def test_rows_keep_their_order_and_those_without_a_target_are_dropped_and_counted(
    frames: dict[str, pd.DataFrame],
) -> None:
    table, provenance = ingested(data(), frames)
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
    table, provenance = ingested(data(), frames)
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
    table, _ = ingested(data(), {**frames, "planes": planes})
    assert not (table["plane_year"] == 1900).any()


def test_a_join_on_a_time_compares_moments_and_not_texts(frames: dict[str, pd.DataFrame]) -> None:
    planes = pd.DataFrame({"start": ["2013-01-01T01:00:00+01:00"], "sky": ["clear"]}).astype("str")
    joins = [{"source": "planes", "on": ["start"], "columns": ["sky"], "prefix": ""}]
    table, provenance = ingested(data({"joins": joins}), {**frames, "planes": planes})
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
    table, provenance = ingested(_lookup_spec(), {"l": main, "r": other})
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
        ingested(replace(data(), **changed), frames)


def test_a_join_whose_key_is_not_unique_is_refused(frames: dict[str, pd.DataFrame]) -> None:
    planes = pd.concat([frames["planes"], frames["planes"].iloc[:2]], ignore_index=True)
    with pytest.raises(StageFailed, match="2 rows repeat a key"):
        ingested(data(), {**frames, "planes": planes})


def test_keys_of_different_kinds_do_not_silently_match_nothing(frames: dict[str, pd.DataFrame]) -> None:
    planes = frames["planes"].assign(plane=[0, 1, 2])
    with pytest.raises(StageFailed, match="key 'plane' is int64 here and string there"):
        ingested(data(), {**frames, "planes": planes})


def test_no_target_at_all_is_an_error(frames: dict[str, pd.DataFrame]) -> None:
    with pytest.raises(StageFailed, match="no row has a 'delay'"):
        ingested(data(), {**frames, "trips": frames["trips"].assign(delay=np.nan)})


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


# --- times ---------------------------------------------------------------------------------------------


def one(column: str, values: list[Any], **more: Any) -> pd.DataFrame:
    return to_frame(pa.table({column: values, "y": [float(n) for n in range(len(values))], **more}), "one")


def alone(**changes: Any) -> DataSpec:
    """One source ``m`` with a target ``y``."""
    plain = DataSpec((SourceSpec("m", "m.csv", "csv"),), (), "y", (), drop_missing_target=True)
    return replace(plain, **changes)


@pytest.mark.parametrize(
    ("written", "values", "expected"),
    [
        ("", ["2013-02-01", "2013-02-01T10:00:00+02:00", None], ["2013-02-01T00:00", "2013-02-01T08:00", None]),
        ("%d/%m/%Y", ["01/02/2013", "28/02/2013"], ["2013-02-01T00:00", "2013-02-28T00:00"]),
        ("%d.%m.%y %H:%M %z", ["01.02.13 10:00 +0200"], ["2013-02-01T08:00"]),
        ("%Y%m%d", [20130201, 20130228], ["2013-02-01T00:00", "2013-02-28T00:00"]),
        ("%Y%m%d", [20130201, None], ["2013-02-01T00:00", None]),
    ],
)
def test_times_are_read_as_their_format_says(written: str, values: list[Any], expected: list[str | None]) -> None:
    asked = alone(time_columns=("t",), time_formats={"t": written} if written else {})
    times = ingested(asked, {"m": one("t", values)})[0]["t"]
    assert kind_of(times) == "timestamp"
    assert [None if pd.isna(time) else time.strftime("%Y-%m-%dT%H:%M") for time in times] == expected


@pytest.mark.parametrize(
    ("written", "values", "message"),
    [
        ("", [1_356_998_400], r"'t' holds int64, not ISO 8601 text; data\.time_formats\.t may .* seconds since 1970"),
        ("", [1_356_998_400.5], r"'t' holds float64"),
        ("", ["01/02/2013", "2013-02-01"], r"1 of 2 values of 't' .*first in row 0; data\.time_formats\.t"),
        ("%d/%m/%Y", ["01/02/2013", "2013-02-01"], r"1 of 2 values of 't' are not times of the form '%d/%m/%Y'.*row 1"),
        ("%d/%m/%Y", ["31/02/2013"], r"1 of 1 values"),
        ("", ["1500-01-01"], r"'t'"),
    ],
)
def test_a_time_that_cannot_be_read_is_counted_and_not_shown(written: str, values: list[Any], message: str) -> None:
    asked = alone(time_columns=("t",), time_formats={"t": written} if written else {})
    with pytest.raises(StageFailed, match=message) as caught:
        ingested(asked, {"m": one("t", values)})
    assert "2013-02-01" not in str(caught.value)


def test_a_format_that_is_none_is_named_by_its_key() -> None:
    asked = alone(time_columns=("t",), time_formats={"t": "%Q %"})
    with pytest.raises(ConfigError, match=r"^params\.yaml: data\.time_formats\.t: '%Q %' is no strptime format"):
        ingested(asked, {"m": one("t", ["x"])})


# --- targets -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "task", "kind"),
    [
        (["no", "yes", "no"], "binary", "string"),
        ([0, 1, 0], "binary", "int64"),
        ([0.0, 1.0, None], "binary", "int64"),
        ([True, None, False], "binary", "bool"),
        ([3, 1, 2], "multiclass", "int64"),
        (["a", "b", None, "c"], "multiclass", "string"),
        ([True, False, True], "multiclass", "bool"),
        ([1, 2, 3], "regression", "int64"),
        ([1.5, None], "regression", "float64"),
    ],
)
def test_a_target_of_its_task_is_taken_with_the_kind_that_its_labels_have(
    values: list[Any], task: Task, kind: str
) -> None:
    table, provenance = ingested(alone(target="label"), {"m": one("label", values)}, task)
    assert kind_of(table["label"]) == kind
    assert table["label"].tolist() == [value for value in values if value is not None]
    assert provenance["dropped_missing_target"] == values.count(None)


@pytest.mark.parametrize(
    ("values", "task", "message"),
    [
        ([True, False], "regression", r"holds bool, not the numbers of a regression; did you mean .*binary\?"),
        (["no", "yes"], "regression", r"holds string.* evaluation\.task: binary\?"),
        (["klara", "nemo", "otto"], "regression", r"holds string.* evaluation\.task: multiclass\?"),
        ([1.0, np.inf, -np.inf], "regression", r"2 of 3 values of the target 'label' are infinite"),
        ([0.5, 1.0], "binary", r"not whole.* evaluation\.task: regression\?"),
        ([1.0, np.inf], "multiclass", r"not whole"),
        (["klara"] * 3, "binary", r"'label' has 1 class in 3 rows, a binary task needs 2$"),
        (["klara"] * 3, "multiclass", r"has 1 class in 3 rows, a multiclass task needs at least 2$"),
        (["klara", "nemo", "otto"], "binary", r"has 3 classes in 3 rows, a binary .*evaluation\.task: multiclass\?"),
        ([None, None], "binary", r"no row has a 'label'"),
        ([None, None], "regression", r"no row has a 'label'"),
        (pd.to_datetime(["2013-01-01", "2013-01-02"], utc=True), "multiclass", r"holds times"),
        (pd.to_datetime(["2013-01-01", "2013-01-02"], utc=True), "regression", r"holds timestamp"),
    ],
)
def test_a_target_of_another_task_is_refused_without_showing_a_label(values: Any, task: Task, message: str) -> None:
    with pytest.raises(StageFailed, match=message) as caught:
        ingested(alone(target="label"), {"m": one("label", list(values))}, task)
    assert "klara" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(("asked", "near"), [("lable", "'label'"), ("label", "' label'"), ("Y2", "")])
def test_a_column_that_is_not_there_is_told_with_the_nearest(asked: str, near: str) -> None:
    frame = one(" label" if near == "' label'" else "label", [1, 2])
    hint = rf" \(did you mean {near}\?\)" if near else ""
    with pytest.raises(StageFailed, match=rf"the joined table has no column '{asked}'{hint}$"):
        ingested(alone(target=asked), {"m": frame})


def test_a_source_of_a_database_is_joined_to_a_file(tmp_path: Path) -> None:
    import contextlib
    import sqlite3

    from cd4ml.gateways.sources import fetch_source

    with contextlib.closing(sqlite3.connect(tmp_path / "shops.db")) as shops:
        shops.executescript(
            "CREATE TABLE shop (id INTEGER, town TEXT); INSERT INTO shop VALUES (2, 'Bergen'), (1, 'Oslo')"
        )
    (tmp_path / "sales.csv").write_text("shop;y\n1;3\n3;4\n2;5\n")
    sources = (
        SourceSpec("sales", "sales.csv", "csv", delimiter=";"),
        SourceSpec("shops", "sqlite:///shops.db", "sql", "SELECT id AS shop, town FROM shop"),
    )
    frames = {}
    for source in sources:
        fetch_source(source, tmp_path, tmp_path / source.name)
        kind = "parquet" if source.format == "sql" else "csv"
        frames[source.name] = read_table(tmp_path / source.name, kind, f"{source.name}.{kind}", source.delimiter)
    asked = DataSpec(sources, (JoinSpec("shops", ("shop",), ("town",), ""),), "y", (), drop_missing_target=False)
    table, provenance = ingested(asked, frames)
    assert [None if pd.isna(town) else town for town in table["town"]] == ["Oslo", None, "Bergen"]
    assert provenance["joins"] == [{"source": "shops", "matched": 2, "unmatched": 1}]
