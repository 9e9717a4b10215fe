"""Stage ``ingest``: the pinned sources, verified and joined, as one canonical table."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cd4ml.errors import ConfigError, IntegrityError, Problem, StageFailed
from cd4ml.spec.experiment import DataSpec, JoinSpec, Task
from cd4ml.spec.pin import Pin
from cd4ml.spec.pipeline import PARAMS_FILE, PROVENANCE, TABLE
from cd4ml.stages.job import Job, put, put_json

if TYPE_CHECKING:
    import pandas as pd

STAGE = "ingest"
_EXACT = 2**53
"""Whole numbers up to here are told apart by float64."""


def run(job: Job) -> None:
    """Read ``raw_dir``; write ``TABLE`` and ``PROVENANCE``."""
    from cd4ml.stages.table import write_parquet

    pins = {source.name: job.pins[source.name] for source in job.spec.data.sources}
    frames = {name: pinned_table(job.raw_dir, pin) for name, pin in pins.items()}
    table, provenance = ingest_table(job.spec.data, frames, job.spec.evaluation.task)
    put(job.root, TABLE, lambda path: write_parquet(table, path))
    put_json(job.root, PROVENANCE, {**provenance, "sources": {name: _origin(pin) for name, pin in pins.items()}})


def pinned_table(raw_dir: Path, pin: Pin) -> pd.DataFrame:
    """The table that a pin promises, from ``raw_dir/<sha256 of the raw file>``.

    Raises IntegrityError naming the source when the raw bytes, the table's digest or its number of rows
    are not the pin's, or the file is not there. Reads one file.
    """
    from cd4ml.stages.table import read_table, table_digest

    path = raw_dir / pin.raw_sha256
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise IntegrityError(f"source {pin.source}: its raw file {pin.raw_sha256[:12]} is not there") from error
    if len(raw) != pin.raw_bytes or hashlib.sha256(raw).hexdigest() != pin.raw_sha256:
        raise IntegrityError(f"source {pin.source}: the raw file's bytes are not those that were pinned")
    del raw
    frame = read_table(path, pin.format, pin.raw_name, pin.delimiter, pin.decimal, pin.missing)
    if len(frame) != pin.rows or table_digest(frame) != pin.digest:
        raise IntegrityError(f"source {pin.source}: the raw file holds another table than was pinned")
    return frame


def _origin(pin: Pin) -> dict[str, Any]:
    return {
        "digest": pin.digest,
        "rows": pin.rows,
        "raw_sha256": pin.raw_sha256,
        "location": pin.location,
        "fetched": pin.fetched,
    }


def ingest_table(data: DataSpec, frames: Mapping[str, pd.DataFrame], task: Task) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Join the sources' canonical frames as ``data`` says, and tell what was done.

    Rows keep the order of the main source. Returns the table (at least one row, every target there) and
    ``{rows_in, rows_out, dropped_missing_target, joins: [{source, matched, unmatched}],
    table: {digest, rows, columns: [{name, type}]}}``. The target of a classification that is whole numbers with gaps
    becomes int64 once the gaps are dropped. Raises StageFailed when a column is missing or collides, a time cannot
    be read, a join's key is not unique, or the target is not one of ``task``; ConfigError for a time format that
    is none.
    """
    from cd4ml.stages.table import column_types, table_digest

    main = data.sources[0].name
    frame = _with_times(frames[main], data, main)
    rows_in = len(frame)
    joins = []
    for join in data.joins:
        frame, matched = _joined(frame, _with_times(frames[join.source], data, join.source), join)
        joins.append({"source": join.source, "matched": matched, "unmatched": rows_in - matched})
    frame = _with_times(frame, data, "the joined table")
    _refuse_absent("the joined table", frame, [data.target, *data.time_columns])
    frame, dropped = _with_target(frame, data, task)
    provenance = {
        "rows_in": rows_in,
        "rows_out": len(frame),
        "dropped_missing_target": dropped,
        "joins": joins,
        "table": {
            "digest": table_digest(frame),
            "rows": len(frame),
            "columns": [{"name": name, "type": kind} for name, kind in column_types(frame)],
        },
    }
    return frame, provenance


def _refuse_absent(where: str, frame: pd.DataFrame, wanted: list[str]) -> None:
    from cd4ml.stages.table import did_you_mean

    absent = [column for column in wanted if column not in frame.columns]
    if not absent:
        return
    told = []
    for column in absent:
        hint = did_you_mean(column, frame.columns)
        told.append(f"{column!r} ({hint})" if hint else repr(column))
    raise StageFailed(STAGE, f"{where} has no column {', '.join(told)}")


def _with_times(frame: pd.DataFrame, data: DataSpec, where: str) -> pd.DataFrame:
    """The frame with those time columns that it has as UTC timestamps."""
    from cd4ml.stages.table import kind_of

    there = [column for column in data.time_columns if column in frame.columns]
    asked = [column for column in there if kind_of(frame[column]) != "timestamp"]
    parsed = {column: _moments(frame[column], data.time_formats.get(column, ""), where) for column in asked}
    return frame.assign(**parsed) if parsed else frame


def _moments(column: pd.Series[Any], written: str, where: str) -> pd.Series[Any]:
    """A column of texts, or with a format ``written`` of whole numbers, as moments."""
    import pandas as pd

    from cd4ml.stages.table import kind_of, words_of

    kind = kind_of(column)
    if kind in {"int64", "float64"} and written:  # 20130201; with gaps it is float64
        column = pd.Series(words_of(column), index=column.index, name=column.name, dtype="str")
    elif kind != "string" and column.notna().any():
        hint = f"data.time_formats.{column.name} may say how to read it; seconds since 1970 cannot be read"
        raise StageFailed(STAGE, f"{where}: time column {column.name!r} holds {kind}, not ISO 8601 text; {hint}")
    try:
        times = pd.to_datetime(column, format=written or "ISO8601", utc=True, errors="coerce")
        moments = times.astype("datetime64[ns, UTC]")
    except pd.errors.OutOfBoundsDatetime as error:
        raise StageFailed(STAGE, f"{where}: {column.name!r} holds times before 1678 or after 2261") from error
    except ValueError as error:
        key = f"data.time_formats.{column.name}"
        raise ConfigError([Problem(PARAMS_FILE, key, f"{written!r} is no strptime format")]) from error
    bad = moments.isna() & column.notna()
    if bad.any():
        what = f"times of the form {written!r}" if written else "ISO 8601 times"
        message = f"{where}: {int(bad.sum())} of {len(column)} values of {column.name!r} are not {what}"
        hint = "" if written else f"; data.time_formats.{column.name} may say otherwise"
        raise StageFailed(STAGE, f"{message}, the first in row {int(bad.argmax())}{hint}")
    return moments


def _joined(left: pd.DataFrame, right: pd.DataFrame, join: JoinSpec) -> tuple[pd.DataFrame, int]:
    """Left with the join's columns of right beside it, and how many rows of left found a partner.

    A missing key never matches: pandas would pair missing with missing, so such rows of right are left out.
    """
    from cd4ml.stages.table import kind_of

    keys = list(join.on)
    for side, frame, wanted in (("the main table", left, keys), (join.source, right, [*keys, *join.columns])):
        _refuse_absent(f"join of {join.source}: {side}", frame, wanted)
    numbers = {"int64", "float64"}
    for key in keys:
        kinds = {kind_of(left[key]), kind_of(right[key])}
        if len(kinds) > 1 and kinds != numbers:
            raise StageFailed(STAGE, f"join of {join.source}: key {key!r} is {' here and '.join(sorted(kinds))} there")
    names = {column: f"{join.prefix}{column}" for column in join.columns}
    taken = sorted(set(names.values()) & set(left.columns))
    if taken or len(set(names.values())) != len(names):
        message = f"join of {join.source}: column {', '.join(map(repr, taken)) or 'names'} would be there twice"
        raise StageFailed(STAGE, f"{message}; give the join a prefix")
    partner = right[right[keys].notna().all(axis=1)]
    twice = int(partner.duplicated(keys).sum())
    if twice:
        raise StageFailed(STAGE, f"join of {join.source}: {twice} rows repeat a key of {keys}, which must be unique")
    return _merged(left, partner[[*keys, *join.columns]].set_axis([*keys, *names.values()], axis=1), keys)


def _merged(left: pd.DataFrame, right: pd.DataFrame, keys: list[str]) -> tuple[pd.DataFrame, int]:
    """``right`` must hold its keys first and nothing else that ``left`` has.

    The partner of each row is found by position, so that the kinds of right's columns do not depend on how a
    merge fills gaps: whole numbers and truth with gaps become float64 and nullable boolean here.
    """
    import numpy as np

    positions = left[keys].merge(
        right[keys].assign(__partner__=np.arange(len(right))), on=keys, how="left", validate="many_to_one", sort=False
    )["__partner__"]
    found = positions.notna().to_numpy()
    take = positions.fillna(-1).to_numpy(dtype=np.int64)
    columns: dict[str, pd.Series[Any]] = {}
    for name in right.columns[len(keys) :]:
        column = right[name].reset_index(drop=True)
        filled = (column if found.all() else _with_room_for_gaps(column)).reindex(take)
        columns[str(name)] = filled.set_axis(left.index)
    return left.assign(**columns), int(found.sum())


def _with_room_for_gaps(column: pd.Series[Any]) -> pd.Series[Any]:
    """The column in the kind that it has when some of its values are missing."""
    from cd4ml.stages.table import kind_of

    kind = kind_of(column)
    if kind == "int64":
        return column.astype("float64")
    return column.astype("boolean") if kind == "bool" else column


def _with_target(frame: pd.DataFrame, data: DataSpec, task: Task) -> tuple[pd.DataFrame, int]:
    """The rows that have a target, and how many had none."""
    present = frame[data.target].notna()
    missing = int((~present).sum())
    if missing == len(frame):
        raise StageFailed(STAGE, f"no row has a {data.target!r}")
    if missing and not data.drop_missing_target:
        message = f"{missing} of {len(frame)} rows have no {data.target!r}"
        raise StageFailed(STAGE, f"{message}; data.drop_missing_target: true would leave them out")
    kept = frame[present].reset_index(drop=True) if missing else frame
    check = _as_numbers if task == "regression" else _as_classes
    return kept.assign(**{data.target: check(kept[data.target], task)}), missing


def _as_numbers(target: pd.Series[Any], task: Task) -> pd.Series[Any]:
    """The target of a regression."""
    import numpy as np

    from cd4ml.stages.table import kind_of

    kind = kind_of(target)
    if kind not in {"int64", "float64"}:
        two = kind == "bool" or target.nunique() == len(("one", "other"))
        hint = f"did you mean evaluation.task: {'binary' if two else 'multiclass'}?"
        hint = "" if kind == "timestamp" else f"; {hint}"
        raise StageFailed(STAGE, f"target {target.name!r} holds {kind}, not the numbers of a {task}{hint}")
    infinite = int(np.isinf(target.to_numpy(np.float64)).sum())
    if infinite:
        raise StageFailed(STAGE, f"{infinite} of {len(target)} values of the target {target.name!r} are infinite")
    return target


def _as_classes(target: pd.Series[Any], task: Task) -> pd.Series[Any]:
    """The target of a classification: text, truth or whole numbers. Classes are counted, and never shown."""
    import numpy as np

    from cd4ml.stages.table import kind_of

    kind = kind_of(target)
    numbers = target.to_numpy(np.float64) if kind == "float64" else np.zeros(0)
    if not (np.isfinite(numbers) & (numbers == np.floor(numbers)) & (np.abs(numbers) <= _EXACT)).all():
        hint = "; did you mean evaluation.task: regression?"
        raise StageFailed(STAGE, f"target {target.name!r} holds numbers that are not whole, and so no classes{hint}")
    if kind == "timestamp":
        raise StageFailed(STAGE, f"target {target.name!r} holds times, and so no classes")
    classes = target.nunique()
    if classes == 1 or (task == "binary" and classes > len(("one", "other"))):
        wanted = "2" if task == "binary" else "at least 2"
        hint = "; did you mean evaluation.task: multiclass?" if classes > 1 else ""
        count = f"{classes} class" + ("es" if classes > 1 else "")
        raise StageFailed(
            STAGE, f"target {target.name!r} has {count} in {len(target)} rows, a {task} task needs {wanted}{hint}"
        )
    if kind == "float64":
        return target.astype("int64")
    return target.astype("bool") if kind == "bool" else target  # nothing is missing any more
