"""Tables: canonical reading, and digests whose byte layout is written down here a second time."""

from __future__ import annotations

import csv as csv_module
import hashlib
import io
import struct
import tempfile
import zipfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cd4ml.errors import StageFailed
from cd4ml.spec.canonical import canonical_json
from cd4ml.stages.table import (
    column_types,
    digest_matrix,
    read_parquet,
    read_table,
    row_digests,
    table_digest,
    to_frame,
    write_parquet,
)

numbers = st.floats(allow_nan=True, allow_infinity=True)
cells: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "int64": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "float64": (pa.float64(), numbers | st.none()),
    "string": (pa.string(), st.text(st.characters(codec="utf-8"), max_size=5) | st.none()),
    "bool": (pa.bool_(), st.booleans() | st.none()),
    "timestamp": (pa.timestamp("ns", tz="UTC"), st.integers(-(2**62), 2**62) | st.none()),
}


@st.composite
def frames(draw: st.DrawFn, max_rows: int = 6) -> pd.DataFrame:
    kinds = draw(st.lists(st.sampled_from(sorted(cells)), min_size=1, max_size=5))
    rows = draw(st.integers(1, max_rows))
    columns = {}
    for index, kind in enumerate(kinds):
        arrow, values = cells[kind]
        columns[f"c{index}"] = pa.array(draw(st.lists(values, min_size=rows, max_size=rows)), type=arrow)
    return to_frame(pa.table(columns), "drawn")


def csv(tmp_path: Path, content: str | bytes, name: str = "t.csv") -> pd.DataFrame:
    path = tmp_path / "raw"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table(path, "parquet" if name.endswith(".parquet") else "csv", name)


def by_hand(frame: pd.DataFrame) -> list[bytes]:
    """The documented layout, cell by cell and without NumPy."""
    types = column_types(frame)
    salt = hashlib.sha256(canonical_json(types)).digest()[:16]
    digests = []
    for row in range(len(frame)):
        layout = b""
        for name, kind in types:
            value: Any = frame[name].iloc[row]
            width = {"bool": 1, "string": 16}.get(kind, 8)
            if pd.isna(value):
                layout += b"\0" * (1 + width)
            elif kind == "string":
                layout += b"\1" + hashlib.blake2b(str(value).encode(), digest_size=16).digest()
            elif kind == "float64":
                layout += b"\1" + struct.pack("<d", 0.0 if value == 0 else value)
            elif kind == "bool":
                layout += b"\1" + bytes([bool(value)])
            else:
                layout += b"\1" + struct.pack("<q", value.value if kind == "timestamp" else int(value))
        digests.append(hashlib.blake2b(layout, digest_size=16, salt=salt, person=b"cd4ml row v1").digest())
    return digests


@settings(deadline=None)
@given(frames())
def test_row_digests_follow_the_documented_layout(frame: pd.DataFrame) -> None:
    assert [row.tobytes() for row in row_digests(frame)] == by_hand(frame)


@settings(deadline=None)
@given(frames())
def test_a_row_has_its_digest_wherever_it_stands(frame: pd.DataFrame) -> None:
    turned = frame.iloc[::-1].reset_index(drop=True)
    assert np.array_equal(row_digests(turned), row_digests(frame)[::-1])


@settings(deadline=None)
@given(frames(max_rows=1), st.data())
def test_a_changed_cell_changes_the_row_and_the_table(frame: pd.DataFrame, data: st.DataObject) -> None:
    name, kind = data.draw(st.sampled_from(column_types(frame)))
    arrow, values = cells[kind]
    other = to_frame(pa.table({name: pa.array([data.draw(values)], type=arrow)}), "other")
    changed = frame.assign(**{name: other[name]})
    same = frame[name].equals(changed[name])
    assert np.array_equal(row_digests(frame), row_digests(changed)) == same
    assert (table_digest(frame) == table_digest(changed)) == same


@settings(deadline=None)
@given(frames())
def test_a_table_survives_its_file(frame: pd.DataFrame) -> None:
    buffer = Path("/dev/shm" if Path("/dev/shm").is_dir() else "/tmp") / f"cd4ml-test-{id(frame)}.parquet"  # noqa: S108  # memory
    try:
        write_parquet(frame, buffer, {"digest": row_digests(frame)})
        back = read_parquet(buffer)
    finally:
        buffer.unlink(missing_ok=True)
    assert table_digest(back.drop(columns="digest")) == table_digest(frame)
    assert np.array_equal(digest_matrix(back["digest"]), row_digests(frame))


def test_the_digest_of_a_known_table_never_moves() -> None:
    """Pins in Git carry this digest: a change here makes every pin ever committed wrong."""
    frame = pd.DataFrame(
        {
            "n": [1, -2],
            "x": [0.5, np.nan],
            "s": ["é", None],
            "b": [True, False],
            "t": pd.to_datetime(["2013-01-01T10:00:00Z", "NaT"], utc=True).astype("datetime64[ns, UTC]"),
        }
    )
    assert table_digest(frame) == GOLDEN_TABLE


GOLDEN_TABLE = "745c4e90bc7d18e9102628b8f05a9fc5101b0cd2565abcf0f4898884323300c0"


def test_minus_zero_and_every_nan_count_as_one() -> None:
    payload = np.array([0x7FF8000000000001], dtype=np.uint64).view(np.float64)[0]
    left, right = pd.DataFrame({"x": [0.0, np.nan]}), pd.DataFrame({"x": [-0.0, payload]})
    assert table_digest(left) == table_digest(right)


def test_names_kinds_and_the_order_of_columns_and_rows_are_part_of_the_digest() -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": [1, 2]})
    others = [
        frame.rename(columns={"a": "c"}),
        frame.astype({"a": "float64"}),
        frame[["b", "a"]].set_axis(["b", "a"], axis=1),
        frame.iloc[::-1],
        frame.iloc[:1],
    ]
    assert len({table_digest(one) for one in (frame, *others)}) == len(others) + 1


@pytest.mark.parametrize("dtype", ["object", "str", "string[python]", "string[pyarrow]"])
def test_how_pandas_keeps_text_does_not_matter(dtype: str) -> None:
    words = pd.DataFrame({"s": pd.Series(["a", None, "ü"], dtype=dtype)})
    assert column_types(words) == (("s", "string"),)
    assert table_digest(words) == table_digest(pd.DataFrame({"s": pd.Series(["a", None, "ü"], dtype="str")}))


def test_csv_kinds_are_inferred_by_our_own_rules(tmp_path: Path) -> None:
    frame = csv(
        tmp_path,
        "i,gap,f,flag,holes,word,time,big,none\n"
        "1,1,1.5,true,TRUE,a,2013-01-01T00:00:00Z,1,\n"
        '2,NA,inf,False,,"b, ""c""\nd",2013-01-01T00:00:00Z,99999999999999999999,NA\n',
    )
    assert dict(column_types(frame)) == {
        "i": "int64",
        "gap": "float64",
        "f": "float64",
        "flag": "bool",
        "holes": "bool",
        "word": "string",
        "time": "string",
        "big": "float64",
        "none": "float64",
    }
    assert frame["word"].tolist() == ["a", 'b, "c"\nd']
    assert frame["holes"].isna().tolist() == [False, True]
    assert frame["f"].tolist() == [1.5, np.inf]


words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6).map("w".__add__)


@settings(deadline=None)
@given(
    rows=st.lists(st.tuples(words, words), min_size=1, max_size=6),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    end=st.sampled_from(["\n", "\r\n"]),
    mark=st.booleans(),
)
def test_what_the_csv_module_writes_is_read_back(
    rows: list[tuple[str, str]], delimiter: str, end: str, mark: bool
) -> None:
    text = io.StringIO()
    returns = any("\r" in cell for row in rows for cell in row)  # which the module quotes in newer Pythons only
    quoting: Literal[0, 1] = csv_module.QUOTE_ALL if returns else csv_module.QUOTE_MINIMAL
    writer = csv_module.writer(text, delimiter=delimiter, lineterminator=end, quoting=quoting)
    writer.writerows([("a", "b"), *rows])
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(text.getvalue().encode("utf-8-sig" if mark else "utf-8"))
        frame = read_table(Path(file.name), "csv", "t.csv", delimiter)
    assert list(zip(frame["a"], frame["b"], strict=True)) == rows


def read_otherwise(tmp_path: Path, content: str, decimal: str, *missing: str) -> pd.DataFrame:
    (tmp_path / "raw").write_bytes(content.encode())
    return read_table(tmp_path / "raw", "csv", "t.csv", ";", decimal, missing)


def test_numbers_are_read_with_a_decimal_comma_where_the_source_says_so(tmp_path: Path) -> None:
    frame = read_otherwise(tmp_path, 'x;i;gap\n1,5;1;NA\n-2,5e-3;-2;"0,1"\n,5;3;-1E3\n+7,;4;inf\n', ",")
    assert frame["x"].tolist() == [1.5, -0.0025, 0.5, 7.0]
    assert column_types(frame) == (("x", "float64"), ("i", "int64"), ("gap", "float64"))
    assert frame["gap"].tolist()[1:] == [0.1, -1000.0, np.inf]


@pytest.mark.parametrize("odd", ["1.5", "1.234", "1.234,5", "1,234,5", "1,5 kg", " 1,5", ",", "1,,5"])
def test_a_column_with_a_cell_that_is_no_number_with_a_comma_stays_text_as_it_is(tmp_path: Path, odd: str) -> None:
    assert read_otherwise(tmp_path, f"x;y\n1,5;1\n{odd};2\n", ",")["x"].tolist() == ["1,5", odd]


@settings(deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=5))
def test_any_number_with_a_comma_is_what_it_is_with_a_point(values: list[float]) -> None:
    texts = [repr(value) for value in values]
    with tempfile.TemporaryDirectory() as folder:
        points = read_otherwise(Path(folder), "x;y\n" + "".join(f"{text};1\n" for text in texts), ".")
        commas = "".join(f"{text.replace('.', ',')};1\n" for text in texts)
        assert table_digest(read_otherwise(Path(folder), f"x;y\n{commas}", ",")) == table_digest(points)


def test_a_comma_is_no_decimal_mark_unless_the_source_says_so(tmp_path: Path) -> None:
    assert read_otherwise(tmp_path, "x;y\n1,5;1.5\n", ".").to_dict("list") == {"x": ["1,5"], "y": [1.5]}


def test_words_for_missing_are_whole_cells_quoted_or_not_beside_the_usual_words(tmp_path: Path) -> None:
    content = 'n;w\n-;-a\n"-";k. A.\n3;k. A\nNA;"k. A."\n-4;""\n'
    frame = read_otherwise(tmp_path, content, ".", "-", "k. A.", "NA")
    assert [None if pd.isna(value) else value for value in frame["n"]] == [None, None, 3.0, None, -4.0]
    assert [None if pd.isna(value) else value for value in frame["w"]] == ["-a", None, "k. A", None, None]


def test_the_same_cells_read_otherwise_have_another_digest(tmp_path: Path) -> None:
    content = "x;y\n1,5;-\n2,5;3\n"
    readings = [(".", ()), (",", ()), (".", ("-",)), (",", ("-",))]
    assert len({table_digest(read_otherwise(tmp_path, content, mark, *words)) for mark, words in readings}) == 4


def test_decimals_are_read_to_the_nearest_double(tmp_path: Path) -> None:
    texts = ["0.1", "2.2250738585072014e-308", "9007199254740993.5", "1e23"]
    assert csv(tmp_path, "x\n" + "\n".join(texts) + "\n")["x"].tolist() == [float(text) for text in texts]


@pytest.mark.parametrize("ending", ["", ".gz", ".bz2", ".xz", ".zip"])
def test_compression_follows_the_pinned_name(tmp_path: Path, ending: str) -> None:
    import bz2
    import gzip
    import lzma

    plain = b"a,b\n1,x\n"
    packed = {"": lambda raw: raw, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zip": zipped}
    assert csv(tmp_path, packed[ending](plain), f"t.csv{ending}").to_dict("list") == {"a": [1], "b": ["x"]}


def zipped(*contents: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for index, content in enumerate(contents):
            archive.writestr(f"{index}.csv", content)
    return buffer.getvalue()


BAD_FILES: dict[str, tuple[str | bytes, str]] = {
    "short record": ("a,b\n1,2\n3\n", "t.csv"),
    "long record": ("a,b\n1,2\n3,4,5\n", "t.csv"),
    "cut off in a record": ("a,b\n1,2\n3", "t.csv"),
    "cut off in quotes": ('a,b\n1,"2\n', "t.csv"),
    "column twice": ("a,a\n1,2\n", "t.csv"),
    "column without a name": ("a,\n1,2\n", "t.csv"),
    "no rows": ("a,b\n", "t.csv"),
    "nothing": ("", "t.csv"),
    "not UTF-8": (b"a,b\n1,\xff\xfe\n", "t.csv"),
    "header not UTF-8": (b"\xff\xfea,b\n1,2\n", "t.csv"),
    "binary": (b"\x00\x01\x02", "t.csv"),
    "zip cut off": (zipped(b"a,b\n1,2\n")[:-30], "t.csv.zip"),
    "zip of two": (zipped(b"a\n1\n", b"a\n1\n"), "t.csv.zip"),
    "not a zip": (b"a,b\n1,2\n", "t.csv.zip"),
    "gzip cut off": (b"\x1f\x8b\x08\x00", "t.csv.gz"),
    "not a gzip": (b"a,b\n1,2\n", "t.csv.gz"),
    "not an xz": (b"a,b\n1,2\n", "t.csv.xz"),
    "csv as parquet": (b"a,b\n1,2\n", "t.parquet"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_whatever_is_wrong_with_a_file_is_one_line_that_names_it(tmp_path: Path, case: str) -> None:
    content, name = BAD_FILES[case]
    with pytest.raises(StageFailed) as caught:
        csv(tmp_path, content, name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_parquet_types_come_down_to_the_canonical_kinds(tmp_path: Path) -> None:
    import datetime
    import decimal

    table = pa.table(
        {
            "small": pa.array([1, 2], pa.int8()),
            "gap": pa.array([1, None], pa.int32()),
            "f": pa.array([0.5, None], pa.float32()),
            "d": pa.array([decimal.Decimal("1.25"), None], pa.decimal128(5, 2)),
            "day": pa.array([datetime.date(2013, 1, 1), None]),
            "naive": pa.array([datetime.datetime(2013, 1, 1, 10), None], pa.timestamp("us")),  # noqa: DTZ001  # naive is meant
            "zoned": pa.array([0, 1], pa.timestamp("s", tz="Europe/Oslo")),
            "cat": pa.array(["x", "y"]).dictionary_encode(),
            "large": pa.array(["x", None], pa.large_string()),
            "yes": pa.array([True, None]),
            "null": pa.nulls(2),
        }
    )
    pq.write_table(table, tmp_path / "raw")
    frame = read_table(tmp_path / "raw", "parquet", "t.parquet")
    kinds = [
        "int64",
        "float64",
        "float64",
        "float64",
        "timestamp",
        "timestamp",
        "timestamp",
        "string",
        "string",
        "bool",
        "float64",
    ]
    assert [kind for _, kind in column_types(frame)] == kinds
    assert frame["naive"].iloc[0] == pd.Timestamp("2013-01-01T10:00:00Z")


def test_a_parquet_column_without_a_canonical_kind_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"lists": pa.array([[1], [2]])}), tmp_path / "raw")
    with pytest.raises(StageFailed, match=r"t\.parquet: column 'lists'"):
        read_table(tmp_path / "raw", "parquet", "t.parquet")


def test_equal_tables_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_parquet(pd.DataFrame({"a": [1, 2], "s": ["x", None]}), tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
