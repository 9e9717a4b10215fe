"""What a search found, as CSV, Parquet, a data frame and a table of chosen columns."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console, RenderableType

from cd4ml.index.asked import described, parse_columns
from cd4ml.index.grid import Grid, grid, value_at
from cd4ml.report.runs import csv_text, fields_table, frame, grid_table, json_rows, parquet_bytes
from tests.index.filter_world import row

HELD = ("metrics.validation", "metrics.validation.rmse", "metrics.test.rmse", "metrics.test.mae", "params.seed")


def docs() -> list[dict[str, Any]]:
    """Three runs with what a column can meet: types that differ, nothing, lists, nested values."""
    one = row(0, params={"seed": 1, "x": 1, "model": {"name": "ridge", "steps": [["a", 1]]}}, packages={"numpy": "2"})
    two = row(1, params={"seed": 2, "x": "one", "deep": True}, tags=("team=a", "t"), committed="2026-11-03T10:00:00.5Z")
    three = row(2, params={}, metrics={}, started=None, finished=None, health="Degraded", cost={"train": 2})
    return [json.loads(json.dumps(one_.as_json(), default=dict)) for one_ in (one, two, three)]


def columns(text: str) -> Grid:
    return grid(docs(), parse_columns(text))


def test_a_column_has_the_value_of_each_run_and_the_kind_of_all_of_them() -> None:
    asked = (
        "branch,metrics.rmse,metrics.test.rmse,params.seed,params.x,params.deep,tags,tags.team,started,fold,cost.train"
    )
    assert [(column.name, column.kind, column.values) for column in columns(asked).columns] == [
        ("branch", "text", ("exp/0", "exp/1", "exp/2")),
        ("metrics.rmse", "number", (10.0, 10 + 1 / 7, None)),
        ("metrics.test.rmse", "number", (20.0, 20.0, None)),
        ("params.seed", "integer", (1, 2, None)),
        ("params.x", "mixed", (1, "one", None)),
        ("params.deep", "truth", (None, True, None)),
        ("tags", "texts", (["t"], ["team=a", "t"], ["t"])),
        ("tags.team", "text", (None, "a", None)),
        ("started", "instant", ("2026-11-03T10:00:00Z", "2026-11-03T10:00:00Z", None)),
        ("fold", "integer", (1, 2, 3)),
        ("cost.train", "number", (1.0, 1.0, 2)),
    ]


def test_what_holds_several_values_gives_a_column_for_each_that_some_run_has() -> None:
    assert [column.name for column in columns("metrics,params.model,packages").columns] == [
        *("metrics.validation.rmse", "metrics.test.rmse"),
        *("params.model.name", "params.model.steps", "packages.numpy"),
    ]
    assert [column.name for column in columns("metrics.test").columns] == ["metrics.test.rmse"]


def test_without_columns_there_is_one_for_every_field_and_metric_whatever_was_found() -> None:
    every, nothing = grid(docs(), (), HELD), grid([], (), HELD)
    names, always = [[column.name for column in one.columns] for one in (every, nothing)]
    assert names[: len(always)] == always
    assert {"id", "branch", "lifecycle_at", "tags", "validation.failed", "metrics.test.mae"} <= set(always)
    assert {"params.seed", "params.model.name", "cost.train", "primary.metric"} <= set(names) - set(always)
    assert "packages.numpy" not in names
    assert len(set(names)) == len(names)
    kinds = [[column.kind for column in one.columns][: len(always)] for one in (every, nothing)]
    assert kinds[0] == kinds[1]


def test_csv_is_rfc_4180_and_reads_back() -> None:
    hostile = docs()
    hostile[0]["name"] = 'comma, "quote"\r\nline'
    text = csv_text(grid(hostile, parse_columns("branch,name,metrics.rmse,params.x,tags,params.deep")))
    assert text.count("\r\n") == 5
    assert list(csv.reader(io.StringIO(text, newline=""))) == [
        ["branch", "name", "metrics.rmse", "params.x", "tags", "params.deep"],
        ["exp/0", 'comma, "quote"\r\nline', "10.0", "1", '["t"]', ""],
        ["exp/1", "name 1", repr(10 + 1 / 7), '"one"', '["team=a", "t"]', "true"],
        ["exp/2", "name 2", "", "", '["t"]', ""],
    ]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_text_in_csv_begins_a_formula(text: str) -> None:
    hostile = docs()
    hostile[0]["name"], hostile[0]["params"] = text, {"x": text, "n": -1.5}
    hostile[1]["params"] = {}
    shown = csv_text(grid(hostile, parse_columns("name,params.x,params.n")))
    first = list(csv.reader(io.StringIO(shown, newline="")))[1]
    assert first == ["'" + text, "'" + text, "-1.5"]


def test_parquet_has_a_type_for_each_kind_and_the_values() -> None:
    asked = "branch,metrics.rmse,params.seed,params.x,params.deep,tags,committed,fold"
    table = pq.read_table(io.BytesIO(parquet_bytes(columns(asked))))
    assert {field.name: str(field.type) for field in table.schema} == {
        "branch": "string",
        "metrics.rmse": "double",
        "params.seed": "int64",
        "params.x": "string",
        "params.deep": "bool",
        "tags": "list<element: string>",
        "committed": "timestamp[us, tz=UTC]",
        "fold": "int64",
    }
    assert table.to_pylist()[1] == {
        "branch": "exp/1",
        "metrics.rmse": 10 + 1 / 7,
        "params.seed": 2,
        "params.x": '"one"',
        "params.deep": True,
        "tags": ["team=a", "t"],
        "committed": datetime(2026, 11, 3, 10, 0, 0, 500000, UTC),
        "fold": 2,
    }


@pytest.mark.parametrize("some", [True, False])
def test_a_frame_has_a_dtype_for_each_kind_with_or_without_rows(some: bool) -> None:
    table = frame(grid(docs() if some else [], parse_columns("branch,metrics.rmse,fold,validation.success,committed")))
    assert {name: str(dtype) for name, dtype in table.dtypes.items()} == {
        "branch": "string",
        "metrics.rmse": "float64",
        "fold": "Int64",
        "validation.success": "boolean",
        "committed": "datetime64[us, UTC]",
    }
    assert len(table) == (3 if some else 0)
    if some:
        assert table.loc[1, "committed"] == pd.Timestamp("2026-11-03T10:00:00.5Z")
        assert table["metrics.rmse"].isna().tolist() == [False, False, True]
        assert table.loc[2, "fold"] == 3


def test_every_row_of_a_frame_has_its_json_at_its_column() -> None:
    table = frame(grid(docs(), (), HELD))
    for position, doc in enumerate(docs()):
        assert table.loc[position, "branch"] == doc["branch"]
        steps = value_at(doc, ("params", "model", "steps"))
        assert (table.loc[position, "params.model.steps"] == steps) is True or steps is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(st.dictionaries(st.sampled_from(["a", "b", "=c"]), JSON, max_size=3), max_size=3))
def test_whatever_a_configuration_holds_can_be_written_in_every_form(params: list[dict[str, Any]]) -> None:
    some = [{**row(number).as_json(), "params": one} for number, one in enumerate(params)]
    table = grid(some, (), HELD)
    assert len(list(csv.reader(io.StringIO(csv_text(table), newline="")))) == len(some) + 1
    assert len(frame(table)) == len(some)
    assert len(json.loads(json.dumps(json_rows(table)))) == len(some)
    try:
        data = parquet_bytes(table)
    except UnicodeEncodeError:
        raise AssertionError(params) from None
    assert pq.read_table(io.BytesIO(data)).num_rows == len(some)


def shown(view: RenderableType, width: int = 80) -> list[str]:
    console = Console(record=True, width=width, file=io.StringIO())
    console.print(view)
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_chosen_columns_are_a_table_for_people() -> None:
    assert shown(grid_table(columns("branch,metrics.rmse,params.x"))) == [
        "branch  metrics.rmse  params.x",
        "exp/0          10.00  1",
        "exp/1          10.14  one",
        "exp/2              –  –",
    ]
    assert shown(grid_table(grid([], parse_columns("branch")))) == ["No runs."]


def test_where_the_columns_have_no_room_each_run_is_by_itself_and_no_number_is_cut() -> None:
    wide = grid_table(columns("branch,metrics.rmse,params.x,role,health"))
    assert len(shown(wide, 120)) == 4
    lines = shown(wide, 40)
    assert lines[:6] == [
        "branch        exp/0",
        "metrics.rmse  10.00",
        "params.x      1",
        "role          result",
        "health        Healthy",
        "",
    ]
    assert "metrics.rmse  10.14" in lines


@pytest.mark.parametrize("text", ["\x1b[2J[red]x", "long" * 60, "日本語" * 30, ":skull:"])
def test_no_cell_moves_the_cursor_or_leaves_the_terminal(text: str) -> None:
    hostile = docs()
    hostile[0]["name"], hostile[0]["params"] = text, {"x": [text], text: {text: text}}
    for lines in (
        shown(grid_table(grid(hostile, parse_columns("name,params")))),
        shown(fields_table(described([f'params."{text}"']))),
    ):
        assert all(cell_len(line) <= 80 for line in lines)
        assert not any("\x1b" in line or "💀" in line for line in lines)
