"""CSV files: unpacked, looked at, and parsed as texts, which become numbers by rules written here.

Whatever is wrong with a file is said in words of our own, by line or record and never with a cell's content: what
a library says of a bad file quotes it.
"""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

MISSING_WORDS = ("", "NA", "N/A", "NaN", "nan", "NULL", "null", "<NA>")
"""What a cell of a CSV file says when it holds nothing."""

TRUE_WORDS = frozenset({"true", "True", "TRUE"})
FALSE_WORDS = frozenset({"false", "False", "FALSE"})

MAX_UNPACKED_BYTES = 4 << 30
"""More than this from one source is refused: it would not fit into memory as a table."""

MAX_RATIO = 200
"""More than this many bytes from one compressed byte, past ``RATIO_FROM``, is taken for a decompression bomb."""

RATIO_FROM = 256 << 20
_PIECE = 1 << 20

_COMPRESSED: Mapping[bytes, tuple[str, str]] = {
    b"PK\x03\x04": ("a zip archive (or an Excel workbook)", ".zip"),
    b"\x1f\x8b": ("compressed by gzip", ".gz"),
    b"BZh": ("compressed by bzip2", ".bz2"),
    b"\xfd7zXZ\x00": ("compressed by xz", ".xz"),
}
_OTHER_DELIMITERS: Mapping[str, str] = {",": "','", ";": "';'", "\t": '"\\t"', "|": "'|'"}
"""What a file may be delimited by instead, as configuration writes it."""


def read_csv(path: Path, name: str, delimiter: str, decimal: str = ".", missing: Iterable[str] = ()) -> pa.Table:
    """The records of a CSV file, columns in the header's order, as int64, float64, bool or string.

    ``name`` tells the compression. A cell is missing that says a word of ``MISSING_WORDS`` or ``missing`` and nothing
    else, quoted or not. ``decimal`` stands before the fraction of a number. Raises ValueError, in one line without any
    cell, for whatever is wrong.
    """
    raw = unpacked(path, name)
    _refuse_what_is_no_csv(raw)
    raw = raw.removeprefix(codecs.BOM_UTF8)
    _refuse_bad_text(raw)
    header = _header(raw, delimiter)
    text = _parsed(raw, header, delimiter, (*MISSING_WORDS, *missing))
    if raw.count(b'"') % 2 and text.num_rows and any("\n" in str(column[-1].as_py()) for column in text.columns):
        raise ValueError("a quoted field is not closed (is the file cut off?)")
    return pa.Table.from_arrays([_inferred(column.combine_chunks(), decimal) for column in text.columns], names=header)


# --- bytes -------------------------------------------------------------------------------------------


def unpacked(path: Path, name: str) -> bytes:
    """The bytes of the file, decompressed as the ending of ``name`` says.

    Raises ValueError when they are cut off, something else, or too many.
    """
    packed = path.stat().st_size
    openers: Mapping[str, Callable[[Any], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
    opener = next((open_ for ending, open_ in openers.items() if name.endswith(ending)), None)
    try:
        with path.open("rb") as file:
            if name.endswith(".zip"):
                with zipfile.ZipFile(file) as archive, archive.open(_only_member(archive)) as stream:
                    return _bounded(stream, packed)
            if opener:
                with opener(file) as stream:
                    return _bounded(stream, packed)
            return _bounded(file, packed)
    except EOFError as error:
        raise ValueError("it is cut off before its compressed data ends") from error
    except (zipfile.BadZipFile, lzma.LZMAError, zlib.error, OSError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"its compressed data is damaged, cut off, or no {name.rpartition('.')[2]} at all") from error


def _only_member(archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    members = [member for member in archive.infolist() if not member.is_dir()]
    if len(members) != 1:
        raise ValueError(f"the archive holds {len(members)} files, one is needed")
    if members[0].flag_bits & 1:
        raise ValueError("the archive is encrypted")
    return members[0]


def _bounded(stream: Any, packed: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while piece := stream.read(_PIECE):
        pieces.append(piece)
        size += len(piece)
        if size > MAX_UNPACKED_BYTES:
            raise ValueError(f"it holds more than {MAX_UNPACKED_BYTES >> 20} MiB")
        if size > RATIO_FROM and size > MAX_RATIO * packed:
            raise ValueError(f"it unpacks to more than {MAX_RATIO} times its size: is it a decompression bomb?")
    return b"".join(pieces)


def _refuse_what_is_no_csv(raw: bytes) -> None:
    if not raw:
        raise ValueError("it is empty")
    if raw.startswith(b"PAR1"):
        raise ValueError("it is a Parquet file; did you mean format: parquet?")
    for magic, (what, ending) in _COMPRESSED.items():
        if raw.startswith(magic):
            raise ValueError(f"it is {what}, but its name does not end in {ending}")
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ValueError("it is encoded in UTF-16; UTF-8 is needed")
    start = raw[:512].removeprefix(codecs.BOM_UTF8).lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise ValueError("it is a web page or XML, no table (does its URL lead to a log-in?)")
    if start.startswith((b'{"', b"[{", b"[\n")):
        raise ValueError("it is JSON, which cd4ml does not read")


def _refuse_bad_text(raw: bytes) -> None:
    if (place := raw.find(b"\0")) >= 0:
        raise ValueError(f"line {_line(raw, place)} holds a NUL byte: it is binary, or encoded in UTF-16")
    decoder = codecs.getincrementaldecoder("utf-8")()
    start = 0
    try:
        for start in range(0, len(raw), _PIECE):
            decoder.decode(raw[start : start + _PIECE], final=start + _PIECE >= len(raw))
    except UnicodeDecodeError as error:
        line = _line(raw, start + error.start)
        raise ValueError(f"line {line} is not UTF-8 (is it encoded in Latin-1 or Windows-1252?)") from error


def _line(raw: bytes, place: int) -> int:
    return raw.count(b"\n", 0, place) + 1


# --- records -----------------------------------------------------------------------------------------


def _header(raw: bytes, delimiter: str) -> list[str]:
    """The column names. Raises ValueError when there are none, or another delimiter would give several."""
    names, first = _first_records(raw, delimiter)
    if not names:
        raise ValueError("its first line is blank, and names no column")
    if not all(names):
        nameless = names.index("") + 1
        raise ValueError(f"the header gives column {nameless} no name (if it is an index, name it or leave it out)")
    if len(names) == 1:
        for other, written in _OTHER_DELIMITERS.items():
            head, record = _first_records(raw, other)
            if other != delimiter and len(head) > 1 and (not first or len(record) == len(head)):
                raise ValueError(f"it has one column only; did you mean delimiter: {written}?")
    return names


def _first_records(raw: bytes, delimiter: str) -> tuple[list[str], list[str]]:
    lines = io.TextIOWrapper(io.BytesIO(raw[: 8 * _PIECE]), encoding="utf-8", errors="replace", newline="")
    records = csv.reader(lines, delimiter=delimiter)
    try:
        names = next(records, [])
    except csv.Error as error:
        raise ValueError("the first line is too long, or its quotes are not closed") from error
    try:
        return names, next(records, [])
    except csv.Error:  # a cell of a length that only the header may not have
        return names, []


def _parsed(raw: bytes, header: list[str], delimiter: str, missing: Iterable[str]) -> pa.Table:
    """Every cell as text, or missing. Columns are told apart by position: their names are looked at elsewhere."""
    ragged: list[Any] = []

    def note(row: Any) -> str:
        ragged.append(row)
        return "error"

    places = [str(index) for index in range(len(header))]
    try:
        text = pacsv.read_csv(
            pa.BufferReader(raw),
            read_options=pacsv.ReadOptions(
                use_threads=False,
                block_size=max(1 << 20, min(len(raw) + 1, 1 << 30)),
                column_names=places,
                skip_rows_after_names=1,
            ),
            parse_options=pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=note),
            convert_options=pacsv.ConvertOptions(
                column_types=dict.fromkeys(places, pa.string()),
                null_values=list(missing),
                strings_can_be_null=True,
            ),
        )
    except pa.ArrowException as error:
        if not ragged:
            raise ValueError("its records cannot be told apart") from error
        raise ValueError(_ragged(ragged[0], len(header), raw)) from error
    return text


def _ragged(row: Any, columns: int, raw: bytes) -> str:
    message = f"record {row.number - 1 if row.number else '?'} has {row.actual_columns} cells, the header has {columns}"
    hint = "; lines that begin with # are not skipped" if row.text.startswith("#") or raw.startswith(b"#") else ""
    return message + hint


def _inferred(text: pa.Array, decimal: str) -> pa.Array:
    """A column of texts as numbers or booleans, where every text that is there is one."""
    if text.null_count == len(text):
        return pa.nulls(len(text), pa.float64())
    numbers = _numbers(text, decimal)
    if numbers is not None:
        return numbers
    words = set(pc.unique(text).to_pylist()) - {None}
    if words <= TRUE_WORDS | FALSE_WORDS:
        return pc.if_else(pc.is_null(text), None, pc.is_in(text, value_set=pa.array(sorted(TRUE_WORDS))))
    return text


def _numbers(text: pa.Array, decimal: str) -> pa.Array | None:
    """A column of texts as numbers, or nothing where one of them is none.

    Where the decimal mark is a comma, a number has no point: between thousands or before a fraction, it looks the same
    (``1.234``), and to take one for the other is a mistake by a factor of a thousand that nothing shows.
    """
    if decimal != ".":
        if pc.any(pc.match_substring(text, ".")).as_py():
            return None
        text = pc.replace_substring(text, decimal, ".")
    for kind in (pa.int64(), pa.float64()):
        try:
            return text.cast(kind)
        except pa.ArrowInvalid:
            continue
    return None
