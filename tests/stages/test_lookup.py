"""A row is found by the values of its columns, each read as its column's type, on the side where it lies."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from cd4ml.errors import IntegrityError
from cd4ml.spec.experiment import SplitSpec
from cd4ml.stages.lookup import NoSuchRowError, sides_of_row
from cd4ml.stages.split import assign_sides
from cd4ml.stages.table import digest_matrix, write_parquet

TABLE = pd.DataFrame(
    {
        "number": pd.Series([1, 2, 3, 4, 4], dtype="int64"),
        "delay": [1.0, 2.5, float("nan"), -0.0, 7.0],
        "tail": pd.Series(["N1", "N 2", None, "true", "5"], dtype="str"),
        "late": [True, False, True, False, True],
        "at": pd.to_datetime([f"2013-0{month}-01T0{month}:00" for month in range(1, 6)], utc=True),
        "side": pd.Series(["a", "a", "b", "c", "a"], dtype="str"),
    }
).astype({"at": "datetime64[ns, UTC]"})
SPLIT = SplitSpec("predefined", column="side", values={"train": ("a",), "validation": ("b",), "test": ("c",)})


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The table and its split, as the stages write them."""
    folder = tmp_path_factory.mktemp("lookup")
    sides = assign_sides(TABLE, SPLIT)
    write_parquet(TABLE, folder / "table.parquet")
    write_parquet(sides[["row", "side"]], folder / "split.parquet", {"digest": digest_matrix(sides["digest"])})
    return folder / "table.parquet", folder / "split.parquet"


@pytest.mark.parametrize(
    ("key", "train", "validation", "test"),
    [
        ({"number": "1"}, 1, 0, 0),
        ({"number": "3"}, 0, 1, 0),
        ({"number": "4"}, 1, 0, 1),
        ({"number": "4", "late": "TRUE"}, 1, 0, 0),
        ({"number": "4", "late": "false"}, 0, 0, 1),
        ({"number": "5"}, 0, 0, 0),
        ({"number": "9" * 30}, 0, 0, 0),
        ({"delay": "2.50"}, 1, 0, 0),
        ({"delay": "0"}, 0, 0, 1),
        ({"tail": "N 2"}, 1, 0, 0),
        ({"tail": "true"}, 0, 0, 1),
        ({"tail": "5"}, 1, 0, 0),
        ({"tail": ""}, 0, 1, 0),
        ({"delay": ""}, 0, 1, 0),
        ({"delay": "", "tail": "N1"}, 0, 0, 0),
        ({"at": "2013-03-01T03:00"}, 0, 1, 0),
        ({"at": "2013-04-01T06:00+02:00"}, 0, 0, 1),
    ],
)
def test_rows_are_counted_by_side(
    files: tuple[Path, Path], key: dict[str, str], train: int, validation: int, test: int
) -> None:
    assert sides_of_row(*files, key) == {"train": train, "validation": validation, "test": test}


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ({"numbr": "1"}, "its table has no column 'numbr' (did you mean 'number'?)"),
        ({"number": "one"}, "column 'number' of its table holds int64, and 'one' is none"),
        ({"number": "1.0"}, "column 'number' of its table holds int64, and '1.0' is none"),
        ({"delay": "much"}, "column 'delay' of its table holds float64, and 'much' is none (write 32.1)"),
        ({"delay": "2,5"}, "column 'delay' of its table holds float64, and '2,5' is none (write 32.1)"),
        ({"late": "maybe"}, "column 'late' of its table holds bool, and 'maybe' is none (write true or false)"),
        *(
            (
                {"at": text},
                (
                    f"column 'at' of its table holds timestamp, and {text!r} is none"
                    " (write 2026-01-31, or 2026-01-31T10:00:00, in UTC)"
                ),
            )
            for text in ("whenever", "03.01.2013", "01/03/2013", "2013", "now", "2013-02-30")
        ),
    ],
)
def test_a_key_that_does_not_fit_the_table_is_told_from_a_row_that_is_absent(
    files: tuple[Path, Path], key: dict[str, str], told: str
) -> None:
    with pytest.raises(NoSuchRowError) as caught:
        sides_of_row(*files, key)
    assert str(caught.value) == told


def test_a_split_of_other_rows_is_refused(files: tuple[Path, Path], tmp_path: Path) -> None:
    write_parquet(TABLE.iloc[:3], tmp_path / "table.parquet")
    with pytest.raises(IntegrityError, match="is not of the rows"):
        sides_of_row(tmp_path / "table.parquet", files[1], {"number": "1"})


def test_a_file_that_is_no_table_is_refused_in_a_line(files: tuple[Path, Path], tmp_path: Path) -> None:
    broken = tmp_path / "table.parquet"
    broken.write_bytes(b"PAR1 nothing of the kind")
    with pytest.raises(IntegrityError, match="cannot be read as Parquet"):
        sides_of_row(broken, files[1], {"number": "1"})
