"""A person's own table as a project is made of it: found, read, looked at, and brought into the repository."""

from __future__ import annotations

import csv
import io
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cd4ml.controller.starting.proposed_conf import Place, check_name
from cd4ml.controller.starting.proposed_doubts import USUAL, Reading
from cd4ml.controller.starting.proposed_reading import propose_reading
from cd4ml.errors import StageFailed, UsageError
from cd4ml.gateways.files import digest_file, replacing, scratch
from cd4ml.gateways.sources import fetch
from cd4ml.spec.checks import location as check_location

if TYPE_CHECKING:
    import pandas as pd

LARGEST_COMMITTED = 10 << 20
"""Bytes above which a table is kept out of Git: its pin's raw bytes are in DVC's storage."""

DELIMITERS = (",", ";", "\t", "|")

_PACKED = (".gz", ".bz2", ".xz", ".zip")
_FORMATS: Mapping[str, str] = {
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
    **dict.fromkeys((".csv", ".tsv", ".txt", ".data", ".tab"), "csv"),
}
_PARQUET_MAGIC = b"PAR1"
_LOOKED_AT = 64 << 10
_NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*")


@dataclass(frozen=True)
class OwnTable:
    """A table as it was read and how, where the project will read it, and the file to copy there, if any.

    ``bytes`` is the size of its file; ``local`` says that this lies in the project and not elsewhere.
    """

    frame: pd.DataFrame
    reading: Reading
    place: Place
    copy_from: Path | None
    bytes: int
    local: bool


def read_own_table(data: str, folder: Path, here: Path, name: str = "") -> OwnTable:
    """Read the table at ``data``, a URL or a path (from ``here``, else ``folder``). Writes nothing to ``folder``.

    Raises UsageError, one line, when it is not there or no table with a header.
    """
    remote = "://" in data
    path = here / data
    if not path.is_file() and (folder / data).is_file():
        path = folder / data
    if not remote and not path.is_file():
        raise UsageError(f"--data: {data}: {'a folder, not a file' if path.is_dir() else 'no such file'}")
    file = data.split("?", 1)[0].rstrip("/").rpartition("/")[2] if remote else path.name
    base, ending, packed = _parts(file)
    chosen = check_name(name) if name else _slug(base)
    with scratch("cd4ml-source-") as fetched:
        raw = path
        if remote:
            if message := check_location(data):
                raise UsageError(f"--data: {data}: {message}")
            raw = fetched / "raw"
            fetch(data, folder, raw)
        file_format = _format(raw, ending)
        delimiter = _delimiter(raw, packed) if file_format == "csv" else ","
        frame = _read(raw, file_format, file, delimiter, data)
        reading = USUAL
        if file_format == "csv":
            from cd4ml.stages.table import read_table

            again = partial(read_table, raw, file_format, file, delimiter)
            frame, reading = propose_reading(frame, f"data.sources.{chosen}", delimiter, again)
        size = raw.stat().st_size
    where, copy_from = (data, None) if remote else _where(path, folder, f"{chosen}{ending or '.csv'}{packed}")
    if not remote and (message := check_location(where)):
        raise UsageError(f"--data: {where}: {message}")
    place = Place(chosen, where, file_format, delimiter, reading.decimal, reading.missing)
    return OwnTable(frame, reading, place, copy_from, size, not remote)


def _parts(file: str) -> tuple[str, str, str]:
    """``flights.csv.zip`` as ``flights``, ``.csv``, ``.zip``; an ending that says nothing is part of the name."""
    lower = file.lower()
    packed = next((ending for ending in _PACKED if lower.endswith(ending)), "")
    base = file[: len(file) - len(packed)]
    ending = next((known for known in _FORMATS if base.lower().endswith(known)), "")
    return base[: len(base) - len(ending)], ending, packed


def _slug(base: str) -> str:
    """A file's name as the name of a source: letters, digits, _ and -."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", base).strip("_-")[:60]
    return name if name and name != "hydra" else "data"


def _format(raw: Path, ending: str) -> str:
    if ending:
        return _FORMATS[ending]
    with raw.open("rb") as stream:
        return "parquet" if stream.read(len(_PARQUET_MAGIC)) == _PARQUET_MAGIC else "csv"


def _head(raw: Path, packed: str) -> bytes:
    """The first bytes of a file, unpacked; nothing when it cannot be unpacked, which reading will say better."""
    import lzma
    import zipfile
    import zlib

    try:
        if packed == ".zip":
            with zipfile.ZipFile(raw) as archive, archive.open(archive.namelist()[0]) as inner:
                return inner.read(_LOOKED_AT)
        with _opened(raw, packed) as stream:
            return stream.read(_LOOKED_AT)
    except (OSError, EOFError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, RuntimeError, IndexError):
        return b""


def _opened(raw: Path, packed: str) -> io.BufferedIOBase:
    import bz2
    import gzip
    import lzma

    if packed == ".gz":
        return gzip.open(raw)
    if packed == ".bz2":
        return bz2.open(raw)
    return lzma.open(raw) if packed == ".xz" else raw.open("rb")


def _delimiter(raw: Path, packed: str) -> str:
    """What stands between the cells of the first lines: of what parts them all alike, what parts them into most."""
    text = _head(raw, packed).decode("utf-8-sig", "replace")
    lines = text.splitlines()[:20]
    sample = "\n".join(lines[:-1] if len(lines) > 2 and len(text) >= _LOOKED_AT else lines)

    def cells(delimiter: str) -> int:
        try:
            widths = [len(row) for row in csv.reader(io.StringIO(sample), delimiter=delimiter) if row]
        except csv.Error:
            return 0
        return widths[0] if widths and len(set(widths)) == 1 else 0

    best = max(DELIMITERS, key=cells)
    return best if cells(best) > 1 else ","


def _read(raw: Path, file_format: str, file: str, delimiter: str, data: str) -> pd.DataFrame:
    from cd4ml.stages.table import read_table

    try:
        frame = read_table(raw, file_format, file, delimiter)
    except StageFailed as error:
        raise UsageError(f"--data: {error.message}") from error
    names = [str(name) for name in frame.columns]
    numbers = [name for name in names if _NUMBER.fullmatch(name)]
    if file_format == "csv" and len(numbers) * 2 > len(names):
        raise UsageError(f"--data: {data}: its first line holds numbers: a line that names the columns is needed")
    if len(names) < 2:
        raise UsageError(f"--data: {data}: has one column only, so there is nothing to predict it from")
    return frame


def _where(path: Path, folder: Path, name: str) -> tuple[str, Path | None]:
    """Where the project reads a file: in its place when it lies in the repository, else a copy in ``data/``.

    Raises UsageError when another file is where the copy would go.
    """
    real, root = path.resolve(), folder.resolve()
    if real.is_relative_to(root) and path.absolute().is_relative_to(folder.absolute()):
        return path.absolute().relative_to(folder.absolute()).as_posix(), None
    if real.is_relative_to(root):
        return real.relative_to(root).as_posix(), None
    target = folder / "data" / name
    if target.is_symlink() or (target.exists() and digest_file(target) != digest_file(real)):
        raise UsageError(f"--data: {path} would be copied to data/{name}, where another file is; say another --name")
    return f"data/{name}", (None if target.exists() else real)


def bring(table: OwnTable, folder: Path) -> bool:
    """Copy the table into the project where it is to be copied; gives whether it was."""
    if table.copy_from is None:
        return False
    with replacing(folder / table.place.location, 0o644) as temporary:
        shutil.copyfile(table.copy_from, temporary)
    return True
