"""Files that are no table, or another than was said: each is one line that names the file and shows no cell."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cd4ml.errors import StageFailed
from cd4ml.stages import csv_table
from cd4ml.stages.table import MAX_COLUMNS, column_types, read_table

SECRET = "Klara,Nemo"
TABLE = b"name,age\n" + SECRET.replace(",", " ").encode() + b",31\nOtto,9\n"


def zipped(*contents: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for index, content in enumerate(contents):
            archive.writestr(f"{index}.csv", content)
    return buffer.getvalue()


def encrypted() -> bytes:
    raw = bytearray(zipped(TABLE))
    raw[6] |= 1
    at = raw.index(b"PK\x01\x02")
    raw[at + 8] |= 1
    return bytes(raw)


def parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


PARQUET = parquet(pa.table({"name": ["Klara"], "age": [31]}))
DAMAGED = PARQUET[:4] + b"\xff" * 20 + PARQUET[24:]

BAD: Mapping[str, tuple[str, bytes, str]] = {
    "semicolons": ("t.csv", TABLE.replace(b",", b";"), r"one column only; did you mean delimiter: ';'\?"),
    "tabs": ("t.csv", TABLE.replace(b",", b"\t"), r'did you mean delimiter: "\\t"\?'),
    "bars": ("t.csv", TABLE.replace(b",", b"|"), r"did you mean delimiter: '\|'\?"),
    "semicolons and no rows": ("t.csv", b"name;age\n", r"did you mean delimiter: ';'\?"),
    "short record": ("t.csv", TABLE + b"Nemo\n", r"record 3 has 1 cells, the header has 2$"),
    "long record": ("t.csv", TABLE + b"Klara,Nemo,3\n", r"record 3 has 3 cells, the header has 2$"),
    "a comma at each end": ("t.csv", b"name,age\nKlara,1,\n", r"record 1 has 3 cells, the header has 2$"),
    "cut off in a record": ("t.csv", b"name,age,x\n" + b"Nemo,1,2\nKlara", r"record 2 has 1 cells"),
    "comment before the header": ("t.csv", b"# Klara, 2013\nname,age,x\n", r"begin with # are not skipped"),
    "comment among the rows": ("t.csv", b"name,age\n# Klara\nNemo,3\n", r"record 1 .*begin with # are not skipped"),
    "quote never closed": ("t.csv", b'name,age\nKlara,"3\nNemo,4\n', r"quoted field is not closed"),
    "gzip cut off": ("t.csv.gz", gzip.compress(TABLE)[:-12], r"cut off before its compressed data ends"),
    "gzip damaged": ("t.csv.gz", gzip.compress(TABLE)[:15] + b"\xff\xff" + gzip.compress(TABLE)[17:], r"damaged"),
    "bzip2 cut off": ("t.csv.bz2", bz2.compress(TABLE)[:-12], r"cut off"),
    "xz cut off": ("t.csv.xz", lzma.compress(TABLE)[:-12], r"cut off"),
    "zip cut off": ("t.csv.zip", zipped(TABLE)[:-12], r"damaged, cut off, or no zip at all"),
    "zip damaged": ("t.csv.zip", zipped(TABLE).replace(b"PK\x03\x04", b"PK\x03\x05"), r"damaged"),
    "zip of two": ("t.csv.zip", zipped(TABLE, TABLE), r"holds 2 files, one is needed"),
    "zip with a password": ("t.csv.zip", encrypted(), r"is encrypted"),
    "no gzip": ("t.csv.gz", TABLE, r"no gz at all"),
    "gzip by another name": ("t.csv", gzip.compress(TABLE), r"compressed by gzip, but its name does not end in \.gz"),
    "zip by another name": ("t.csv", zipped(TABLE), r"an Excel workbook.* does not end in \.zip"),
    "xz by another name": ("t.csv", lzma.compress(TABLE), r"compressed by xz"),
    "bzip2 by another name": ("t.csv", bz2.compress(TABLE), r"compressed by bzip2"),
    "Parquet by another name": ("t.csv", PARQUET, r"is a Parquet file; did you mean format: parquet\?"),
    "CSV by another name": ("t.parquet", TABLE, r"no Parquet file; did you mean format: csv\?"),
    "Parquet cut off": ("t.parquet", PARQUET[:-9], r"cut off, or damaged at its end"),
    "Parquet damaged": ("t.parquet", DAMAGED, r"cannot be read as parquet: "),
    "Parquet of nothing": ("t.parquet", b"", r"is empty"),
    "Parquet without rows": ("t.parquet", parquet(pa.table({"name": pa.array([], pa.string())})), r"has no rows$"),
    "Parquet of lists": ("t.parquet", parquet(pa.table({"name": [["Klara"]]})), r"column 'name' of type list"),
    "picture as Parquet": ("t.parquet", b"\x89PNG\r\n\x1a\n Klara", r"it is no Parquet file$"),
    "web page": ("t.csv", b"\n<!DOCTYPE html>\n<html>Klara</html>", r"a web page or XML, no table"),
    "JSON": ("t.csv", b'[{"name": "Klara"}]', r"is JSON"),
    "UTF-16": ("t.csv", TABLE.decode().encode("utf-16"), r"encoded in UTF-16; UTF-8 is needed"),
    "UTF-16 without a mark": ("t.csv", TABLE.decode().encode("utf-16-le"), r"line 1 holds a NUL byte.* UTF-16"),
    "Latin-1": ("t.csv", TABLE + "Zoë,1\n".encode("latin-1"), r"line 4 is not UTF-8 \(is it encoded in Latin-1"),
    "Latin-1 far down": (
        "t.csv",
        TABLE + b"Nemo,1\n" * 400_000 + "Zoë,1\n".encode("latin-1"),
        r"line 400004 is not UTF-8",
    ),
    "Latin-1 in the header": ("t.csv", "größe,x\n1,2\n".encode("latin-1"), r"line 1 is not UTF-8"),
    "NUL": ("t.csv", TABLE + b"Kl\0ara,1\n", r"line 4 holds a NUL byte"),
    "empty": ("t.csv", b"", r"is empty"),
    "blank lines only": ("t.csv", b"\n\n\n", r"its first line is blank"),
    "empty once unpacked": ("t.csv.gz", gzip.compress(b""), r"is empty"),
    "header only": ("t.csv", b"name,age\n", r"has no rows$"),
    "name twice": ("t.csv", b"age,age\n1,2\n", r"columns named twice: 'age'$"),
    "name missing": ("t.csv", b"name,,age\n1,2,3\n", r"header gives column 2 no name"),
    "index without a name": (
        "t.csv",
        b",name\n0,Klara\n",
        r"header gives column 1 no name \(if it is an index, name it",
    ),
    "name of blanks": ("t.csv", b"name,  \n1,2\n", r"name of column 2 must not be empty"),
    "name on two lines": ("t.csv", b'name,"a\ng"\n1,2\n', r"name of column 2 must be one line"),
    "name with a bell": ("t.csv", b"name,a\x07\n1,2\n", r"name of column 2 must be one line without control"),
    "name too long": ("t.csv", b"name," + b"n" * 501 + b"\n1,2\n", r"name of column 2 is longer than 500 characters"),
    "name of ours": ("t.csv", b"name,__row__\n1,2\n", r"name of column 2 is one that cd4ml uses itself"),
    "names in Parquet": ("t.parquet", parquet(pa.table({"a\nb": [1]})), r"name of column 1 must be one line"),
    "name twice in Parquet": (
        "t.parquet",
        parquet(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])),
        r"columns named twice: 'a'",
    ),
    "too wide": ("t.csv", b",".join(b"c%d" % n for n in range(MAX_COLUMNS + 1)) + b"\n" + b"," * MAX_COLUMNS, r"10001"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_one_line_that_names_it_and_shows_no_cell(tmp_path: Path, case: str) -> None:
    name, content, message = BAD[case]
    (tmp_path / "raw").write_bytes(content)
    with pytest.raises(StageFailed, match=message) as caught:
        read_table(tmp_path / "raw", "parquet" if name.endswith("parquet") else "csv", name)
    told = str(caught.value)
    assert name in told
    assert len(told.splitlines()) == 1
    assert len(told) < 300
    assert "Klara" not in told
    assert "Nemo" not in told


GOOD: Mapping[str, tuple[bytes, str, dict[str, list[object]]]] = {
    "a mark of UTF-8": (b"\xef\xbb\xbfa,b\n1,x\n", ",", {"a": [1], "b": ["x"]}),
    "ends of lines as on Windows": (b"a,b\r\n1,x\r\n", ",", {"a": [1], "b": ["x"]}),
    "no end of the last line": (b"a,b\n1,x", ",", {"a": [1], "b": ["x"]}),
    "blank lines": (b"a,b\n\n1,x\n\n", ",", {"a": [1], "b": ["x"]}),
    "lines in quotes": (b'a,b\n1,"x\ny, ""z"""\n', ",", {"a": [1], "b": ['x\ny, "z"']}),
    "an inch": (b'a,b\n1,5"\n2,x\n', ",", {"a": [1, 2], "b": ['5"', "x"]}),
    "semicolons": (b"a;b\n1;2,5\n", ";", {"a": [1], "b": ["2,5"]}),
    "tabs": (b"a\tb\n1\tx y\n", "\t", {"a": [1], "b": ["x y"]}),
    "bars in a header of commas": (b"a|b,c\n1,2\n", ",", {"a|b": [1], "c": [2]}),
    "one column that looks like two once": (b"a;b\n1\n", ",", {"a;b": [1]}),
    "one column of names": (b"name\nSmith; J\n", ",", {"name": ["Smith; J"]}),
    "blanks at the ends of names": (b" a , b\n1,x\n", ",", {" a ": [1], " b": ["x"]}),
    "a number sign": (b"#id,b\n1,x\n", ",", {"#id": [1], "b": ["x"]}),
}


@pytest.mark.parametrize("case", GOOD)
def test_what_is_merely_unusual_is_read_as_it_stands(tmp_path: Path, case: str) -> None:
    content, delimiter, expected = GOOD[case]
    (tmp_path / "raw").write_bytes(content)
    assert read_table(tmp_path / "raw", "csv", "t.csv", delimiter).to_dict("list") == expected


def test_a_cell_may_be_long(tmp_path: Path) -> None:
    (tmp_path / "raw").write_bytes(b"a,b\n1," + b"x" * (2 << 20) + b"\n")
    assert read_table(tmp_path / "raw", "csv", "t.csv")["b"].str.len().tolist() == [2 << 20]


def test_a_table_may_be_wide(tmp_path: Path) -> None:
    wide = b",".join(b"c%d" % n for n in range(3000))
    (tmp_path / "raw").write_bytes(wide + b"\n" + (b",".join([b"1"] * 3000) + b"\n") * 3)
    frame = read_table(tmp_path / "raw", "csv", "t.csv")
    assert frame.shape == (3, 3000)
    assert {kind for _, kind in column_types(frame)} == {"int64"}


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz", ".zip"])
def test_a_decompression_bomb_is_stopped_on_the_way(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    packers: Mapping[str, Callable[[bytes], bytes]] = {
        ".gz": gzip.compress,
        ".bz2": bz2.compress,
        ".xz": lzma.compress,
        ".zip": zipped,
    }
    (tmp_path / "raw").write_bytes(packers[ending](b"a,b\n" + b"1,2\n" * (1 << 19)))
    monkeypatch.setattr(csv_table, "RATIO_FROM", 1 << 20)
    with pytest.raises(StageFailed, match="more than 200 times its size: is it a decompression bomb"):
        read_table(tmp_path / "raw", "csv", f"t.csv{ending}")
    monkeypatch.undo()
    assert len(read_table(tmp_path / "raw", "csv", f"t.csv{ending}")) == 1 << 19


def test_a_source_that_is_too_large_is_refused_before_it_is_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "raw").write_bytes(b"a,b\n" + b"1,2\n" * (1 << 20))
    monkeypatch.setattr(csv_table, "MAX_UNPACKED_BYTES", 1 << 20)
    with pytest.raises(StageFailed, match="holds more than 1 MiB"):
        read_table(tmp_path / "raw", "csv", "t.csv")


def test_a_parquet_file_of_few_bytes_and_very_many_rows_is_refused(tmp_path: Path) -> None:
    rows = 300_000_000
    column = pa.nulls(rows, pa.null())
    pq.write_table(pa.table({"a": column, "b": column}), tmp_path / "raw")
    assert (tmp_path / "raw").stat().st_size < 1 << 20
    with pytest.raises(StageFailed, match="holds more than 4096 MiB"):
        read_table(tmp_path / "raw", "parquet", "t.parquet")


def test_a_length_that_lies_does_not_ask_for_the_memory(tmp_path: Path) -> None:
    (tmp_path / "raw").write_bytes(b"PAR1" + b"\0" * 64 + struct.pack("<I", 0x7FFFFFFF) + b"PAR1")
    with pytest.raises(StageFailed, match=r"t\.parquet cannot be read as parquet: "):
        read_table(tmp_path / "raw", "parquet", "t.parquet")
