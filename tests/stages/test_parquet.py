"""Small Parquet files that unpack to gigabytes: refused, and not unpacked to see it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cd4ml.errors import IntegrityError
from cd4ml.stages.parquet import Bounds, longest_text, read_bounded, with_plain_texts

ROWS = 4000
LONG = "x" * (1 << 20)
MOST_MIB = 700
"""Of the child that reads all bombs: one of them unpacked takes 4 GiB."""

CHILD = """
import io, json, sys
from pathlib import Path
from cd4ml.controller.reporting.columns import NoEvidenceError, read_columns
from cd4ml.errors import IntegrityError
from cd4ml.stages.evaluate import read_predictions
from cd4ml.stages.parquet import Bounds
from cd4ml.stages.table import read_parquet

folder, rows = Path(sys.argv[1]), int(sys.argv[2])
readers = {
    "a side that is long": lambda path: read_predictions(path, rows),
    "values of prefixes": lambda path: read_columns(path.open("rb"), "it", ("row", "side")),
    "rows that are texts": lambda path: read_columns(path.open("rb"), "it", ("row", "side"), cell=64),
    "more text than that": lambda path: read_columns(path.open("rb"), "it", ("row", "side"), cell=64),
    "a table": lambda path: read_parquet(path, bounds=Bounds(rows, 64 << 20)),
    "a column beside": lambda path: read_columns(path.open("rb"), "it", ("side",), cell=64),
}
told = {}
for case, read in readers.items():
    try:
        read(folder / case)
        told[case] = "read"
    except (IntegrityError, NoEvidenceError, ValueError) as error:
        told[case] = str(error)
# of this program alone: ru_maxrss counts what the process held before it became it
status = Path("/proc/self/status").read_text().split()
print(json.dumps({**told, "peak": int(status[status.index("VmHWM:") + 1]) // 1024}))
"""


def repeated(text: str, rows: int = ROWS) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, dtype="int32")), pa.array([text]))


def bomb(path: Path, columns: dict[str, pa.Array]) -> None:
    pq.write_table(pa.table(columns), path, store_schema=False, compression="zstd", dictionary_pagesize_limit=64 << 20)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What became of each bomb, all read in one child process; and its peak, in MiB."""
    folder = tmp_path_factory.mktemp("bombs")
    row, number = pa.array(np.arange(ROWS)), pa.array(np.zeros(ROWS))
    digest, side = pa.array([b"0" * 16] * ROWS, pa.binary(16)), pa.array(["test"] * ROWS)
    predictions = {"row": row, "side": repeated(LONG), "prediction": number, "digest": digest}
    bomb(folder / "a side that is long", predictions)
    few = {name: column.slice(0, 40) for name, column in predictions.items()}
    table = pa.table({**few, "side": pa.array([LONG] * 40)})
    encodings = {"side": "DELTA_BYTE_ARRAY"}
    pq.write_table(
        table, folder / "values of prefixes", use_dictionary=False, column_encoding=encodings, store_schema=False
    )
    bomb(folder / "rows that are texts", {"row": repeated(LONG), "side": side})
    bomb(folder / "more text than that", {"row": row, "side": repeated(LONG * 20)})
    bomb(folder / "a table", {"x": number, "name": repeated(LONG)})
    bomb(folder / "a column beside", {"side": side, "side.x": repeated(LONG)})
    assert max(path.stat().st_size for path in folder.iterdir()) < 100_000
    child = [sys.executable, "-c", CHILD, str(folder), str(ROWS)]
    done = subprocess.run(child, capture_output=True, text=True, check=True)
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    ("case", "why"),
    [
        ("a side that is long", "knows other sides than validation and test"),
        ("values of prefixes", "it cannot be read"),
        ("more text than that", "is larger than"),
        ("a table", "is larger than"),
    ],
)
def test_a_small_file_of_long_values_is_refused(told: dict[str, object], case: str, why: str) -> None:
    assert why in str(told[case])


@pytest.mark.parametrize("case", ["a column beside", "rows that are texts"])
def test_texts_in_place_of_numbers_and_columns_that_were_not_asked_for_cost_nothing(
    told: dict[str, object], case: str
) -> None:
    assert told[case] == "read"


def test_no_bomb_is_unpacked(told: dict[str, object]) -> None:
    assert int(str(told["peak"])) < MOST_MIB


def test_texts_are_measured_by_how_often_they_occur(tmp_path: Path) -> None:
    path = tmp_path / "table"
    bomb(path, {"name": pa.array(["a", "bcd", None, "bcd"])})
    table = read_bounded(path, "it", Bounds(4, 1 << 20))
    assert longest_text(table["name"]) == 3
    assert with_plain_texts(table, "it", 7 + 4 * 4)["name"].to_pylist() == ["a", "bcd", None, "bcd"]
    with pytest.raises(IntegrityError, match="it is larger than"):
        with_plain_texts(table, "it", 6 + 4 * 4)


@pytest.mark.parametrize("rows", [3, 5])
def test_rows_are_exactly_those_asked_for(tmp_path: Path, rows: int) -> None:
    bomb(tmp_path / "table", {"x": pa.array([1, 2, 3, 4])})
    with pytest.raises(IntegrityError, match="does not hold the rows"):
        read_bounded(tmp_path / "table", "it", Bounds(rows, 1 << 20))


@pytest.mark.parametrize("column", [pa.array([[1], [2]]), pa.array([{"a": 1}, {"a": 2}]), pa.array([b"a", b"b"])])
def test_values_that_no_table_of_ours_has_are_refused(tmp_path: Path, column: pa.Array) -> None:
    bomb(tmp_path / "table", {"x": pa.array([1, 2]), "odd": column})
    with pytest.raises(IntegrityError, match="values that no table of cd4ml has"):
        read_bounded(tmp_path / "table", "it", Bounds(2, 1 << 20))


def test_several_row_groups_and_none_are_read_whole(tmp_path: Path) -> None:
    table = pa.table({"x": pa.array(range(10)), "name": pa.array(list("abcabcabca"))})
    for rows in (10, 0):
        pq.write_table(table.slice(0, rows), tmp_path / "table", row_group_size=3)
        found = read_bounded(tmp_path / "table", "it", Bounds(rows, 1 << 20), ["name", "x"])
        assert (
            with_plain_texts(found, "it", 1 << 20).to_pydict() == table.slice(0, rows).select(["name", "x"]).to_pydict()
        )
