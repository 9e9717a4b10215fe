"""How to part a table's rows into train, validation and test: by time, by group, by class, or at random."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cd4ml.controller.starting.proposed_columns import Column
from cd4ml.errors import Cd4mlError, UsageError
from cd4ml.spec.experiment import DataSpec, SourceSpec, SplitMethod, SplitSpec, Task
from cd4ml.spec.pipeline import SIDES

if TYPE_CHECKING:
    import pandas as pd

    from cd4ml.controller.starting.proposal import Hints

FEW_TEST_ROWS = 100
"""With fewer, the shipped gates (``conf/promotion``) would compare nothing."""

SHARE = 0.15
"""What validation and test get of the rows, each."""

TRIES = 50
"""Seeds that are looked at for sides that all hold rows."""

_HAPPENED = re.compile(r"date|time|timestamp|created|day|month|hour|when|_at$", re.IGNORECASE)
_OF_A_PERSON = re.compile(r"birth|dob|born|expir|due|valid", re.IGNORECASE)
_MONTHS = 12


@dataclass(frozen=True)
class ProposedSplit:
    """The keys of the group ``split`` in the order to write them, why, and the rows of each side where known."""

    method: SplitMethod
    keys: Mapping[str, Any]
    why: str
    rows: Mapping[str, int]
    notes: tuple[str, ...] = ()


def propose_split(
    frame: pd.DataFrame, columns: tuple[Column, ...], task: Task, hints: Hints, looked: pd.DataFrame
) -> tuple[ProposedSplit, tuple[Column, ...]]:
    """A split for a canonical frame whose target is there in every row, and the columns as the split leaves them.

    ``looked`` are the rows whose order tells which column says when they happened: all, or those that differ.
    Raises UsageError when the column that a hint names cannot part the rows.
    """
    if hints.time and hints.group:
        raise UsageError("--time and --group: a split is by one of them")
    if hints.time:
        column = next(one for one in columns if one.name == hints.time)
        times = _times(frame, column)
        if column.nearly == "times":
            raise UsageError(f"--time: {hints.time!r}: {column.why}")
        if times is None or times.nunique() < len(SIDES):
            told = f"--time: {hints.time!r} does not hold times in every row, at least three different ones"
            raise UsageError(f"{told} (ISO 8601 or a usual other form; whole numbers as 20240131, 202401 or 2024)")
        return _by_time(frame, columns, column, times, "you said so", task, hints)
    if hints.group:
        return _by_group(frame, columns, task, hints), columns
    guessed = [(one, times) for one in columns if _happened(looked, one) and (times := _times(frame, one)) is not None]
    if len(guessed) == 1:
        column, times = guessed[0]
        why = f"{column.name!r} is the one column that says when each row happened, and models meet the future"
        split, left = _by_time(frame, columns, column, times, why, task, hints)
        if task == "regression" or not split.notes:
            return split, left
    return _by_rows(frame, columns, task, hints), columns


def _times(frame: pd.DataFrame, column: Column) -> pd.Series[Any] | None:
    """The column as UTC times, when it is one and none is missing."""
    import pandas as pd

    if column.role != "time" or column.missing:
        return None
    values = frame[column.name]
    if column.kind == "timestamp":
        return values
    return pd.to_datetime(values.astype("str"), format=column.time_format or "ISO8601", utc=True)


def _happened(frame: pd.DataFrame, column: Column) -> bool:
    """Does a column likely say when a row happened: by its name, or since the rows are in its order?"""
    times = _times(frame, column)
    if times is None or times.nunique() < len(SIDES) or _OF_A_PERSON.search(column.name):
        return False
    ordered = times.is_monotonic_increasing or times.is_monotonic_decreasing
    return bool(ordered or _HAPPENED.search(column.name))


def _by_time(
    frame: pd.DataFrame,
    columns: tuple[Column, ...],
    column: Column,
    times: pd.Series[Any],
    why: str,
    task: Task,
    hints: Hints,
) -> tuple[ProposedSplit, tuple[Column, ...]]:
    validation_from, test_from = time_bounds(times)
    train = times < validation_from
    rows = {
        "train": int(train.sum()),
        "validation": int(((times >= validation_from) & (times < test_from)).sum()),
        "test": int((times >= test_from).sum()),
    }
    notes = _unlearnt(frame[hints.target], train) if task != "regression" else ()
    bounds = {"validation_from": _text(validation_from), "test_from": _text(test_from)}
    keys = {"method": "time", "column": column.name, **bounds}
    return ProposedSplit("time", keys, why, rows, notes), _known_in(frame, columns, column, train, times)


def _unlearnt(target: pd.Series[Any], train: pd.Series[Any]) -> tuple[str, ...]:
    strange = target.nunique() - target[train].nunique()
    if not strange:
        return ()
    told = f"{strange} of {target.nunique()} classes are not there before validation begins"
    return (f"{told}: they cannot be learnt, and a run fails",)


def _known_in(
    frame: pd.DataFrame, columns: tuple[Column, ...], by: Column, train: pd.Series[Any], times: pd.Series[Any]
) -> tuple[Column, ...]:
    """The columns without those that say nothing on the train side, and without months that it has never seen."""
    kept = []
    for column in columns:
        here = column
        if here.is_feature and not frame.loc[train, here.name].notna().any():
            here = here.left_out("it has no value before validation begins")
        elif here.name == by.name and times[train].dt.month.nunique() < _MONTHS:
            here = replace(here, parts=tuple(part for part in here.parts if part != "month"))
        kept.append(here)
    return tuple(kept)


def time_bounds(times: pd.Series[Any]) -> tuple[pd.Timestamp, pd.Timestamp]:
    """The times at which validation and test begin, near 70 % and 85 % of the rows, no side empty.

    Whole months where the times span two years or more, else whole days, where that moves hardly a row.
    ``times`` must hold three different values at least.
    """
    counts = times.value_counts().sort_index()
    moments = list(counts.index)
    before = (counts.cumsum() - counts).to_numpy() / len(times)
    first = min(range(1, len(moments) - 1), key=lambda at: abs(before[at] - (1 - 2 * SHARE)))
    second = min(range(first + 1, len(moments)), key=lambda at: abs(before[at] - (1 - SHARE)))
    validation_from, test_from = moments[first], moments[second]
    months = (moments[-1] - moments[0]).days >= 2 * 365
    for unit in ("month", "day") if months else ("day",):
        rounded = _rounded(validation_from, unit), _rounded(test_from, unit)
        if _still_near(times, rounded, (before[first], before[second])):
            return rounded
    return validation_from, test_from


def _rounded(moment: pd.Timestamp, unit: str) -> pd.Timestamp:
    day = moment.normalize()
    return day.replace(day=1) if unit == "month" else day


def _still_near(times: pd.Series[Any], bounds: tuple[pd.Timestamp, pd.Timestamp], wanted: tuple[float, float]) -> bool:
    """Do these bounds leave every side rows, and about as many as the exact ones?"""
    shares = [float((times < bound).mean()) for bound in bounds]
    parted = 0 < shares[0] < shares[1] < 1
    return parted and all(abs(share - want) <= SHARE / 3 for share, want in zip(shares, wanted, strict=True))


def _text(moment: pd.Timestamp) -> str:
    """An ISO 8601 time in UTC, to the last digit that it has."""
    return moment.tz_convert("UTC").isoformat().replace("+00:00", "Z")


def _by_group(frame: pd.DataFrame, columns: tuple[Column, ...], task: Task, hints: Hints) -> ProposedSplit:
    group = hints.group
    groups = int(frame[group].nunique())
    if groups < len(SIDES):
        raise UsageError(f"--group: {group!r} has {groups} different values; three sides need three groups")
    if frame[group].isna().any():
        raise UsageError(f"--group: {int(frame[group].isna().sum())} of {len(frame)} rows have no {group!r}")
    keys = {"method": "group", "column": group, "validation": SHARE, "test": SHARE, "seed": 0}
    table = _ingested(frame, columns, task, hints.target)
    return _seeded(table, columns, task, keys, f"you said so: no value of {group!r} is on two sides", hints)


def _by_rows(frame: pd.DataFrame, columns: tuple[Column, ...], task: Task, hints: Hints) -> ProposedSplit:
    table = _ingested(frame, columns, task, hints.target)
    keys = {"method": "random", "validation": SHARE, "test": SHARE, "seed": 0}
    if task == "regression":
        return _seeded(table, columns, task, keys, "no column says when a row happened, and --group named none", hints)
    rare = int((table.drop_duplicates()[hints.target].value_counts() < len(SIDES)).sum())
    if rare:
        why = f"{rare} classes have fewer different rows than there are sides to hold them"
        return _seeded(table, columns, task, keys, why, hints)
    keys = {"method": "stratified", "column": hints.target, "validation": SHARE, "test": SHARE, "seed": 0}
    return _seeded(table, columns, task, keys, "each side gets its share of every class", hints)


def _ingested(frame: pd.DataFrame, columns: tuple[Column, ...], task: Task, target: str) -> pd.DataFrame:
    """The table that ingest would make of the frame: chance in a split comes from the digests of its rows."""
    from cd4ml.stages.ingest import ingest_table

    times = [column for column in columns if column.role == "time"]
    data = DataSpec(
        sources=(SourceSpec("table", "", "csv"),),
        joins=(),
        target=target,
        time_columns=tuple(column.name for column in times),
        drop_missing_target=False,
        time_formats={column.name: column.time_format for column in times if column.time_format},
    )
    return ingest_table(data, {"table": frame}, task)[0]


def _seeded(
    table: pd.DataFrame, columns: tuple[Column, ...], task: Task, keys: dict[str, Any], why: str, hints: Hints
) -> ProposedSplit:
    """The split with the first seed under which every side can be used; few rows, or groups, can fall badly."""
    from cd4ml.stages.split import assign_sides

    features = [column.name for column in columns if column.is_feature]
    for seed in range(TRIES):
        given = {**keys, "seed": seed}
        try:
            side = assign_sides(table, SplitSpec(**given))["side"]
        except Cd4mlError:
            continue
        classes = table[hints.target] if task != "regression" else None
        if _usable(table[features], side, classes):
            counts = side.value_counts()
            return ProposedSplit(keys["method"], given, why, {name: int(counts[name]) for name in SIDES})
    note = "with these shares some side lacks rows, classes or values: a run may fail and say what is lacking"
    return ProposedSplit(keys["method"], keys, why, {}, (note,))


def _usable(features: pd.DataFrame, side: pd.Series[Any], classes: pd.Series[Any] | None) -> bool:
    """Has each side rows (two classes of them, if any), and training every class and a value of every feature?"""
    train = (side == "train").to_numpy()
    if side.nunique() < len(SIDES) or not features[train].notna().any().all():
        return False
    if classes is None:
        return True
    return classes[train].nunique() == classes.nunique() and bool((classes.groupby(side).nunique() > 1).all())
