"""How rows are parted, one function per method: tables in, the side of every row out.

Chance comes from digests alone: which side a row goes to follows from what it says and from ``split.seed``, and
neither from where it stands nor from a generator of random numbers, so that any machine parts the same rows alike.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cd4ml.errors import ConfigError, Problem, StageFailed
from cd4ml.spec.checks import instant
from cd4ml.spec.experiment import SplitSpec
from cd4ml.spec.pipeline import PARAMS_FILE, SIDES
from cd4ml.stages.table import did_you_mean, kind_of, words_of

STAGE = "split"
MAX_FLOAT_STRATA = 20
"""A float column of more distinct values is no class."""

SMALLEST_STRATUM = len(SIDES)
"""Distinct rows that a class needs to be on every side."""

_PERSON = b"cd4ml side v1"

Sides = npt.NDArray[np.str_]
Digests = npt.NDArray[np.uint8]
"""Row digests of shape (rows, 16)."""


def sides_of(table: pd.DataFrame, digests: Digests, split: SplitSpec) -> Sides:
    """The side of each row, as ``SplitSpec`` says. ``digests`` are ``table.row_digests(table)``.

    Raises StageFailed for a column that the method cannot use, ConfigError for one that is not there and for
    bounds that are no times or out of order.
    """
    return _METHODS[split.method](table, digests, split)


def _random(table: pd.DataFrame, digests: Digests, split: SplitSpec) -> Sides:  # noqa: ARG001  # one signature for all
    flat = digests.tobytes()
    width = digests.shape[1]
    return _by_threshold(_chance((flat[at : at + width] for at in range(0, len(flat), width)), split.seed), split)


def _group(table: pd.DataFrame, digests: Digests, split: SplitSpec) -> Sides:  # noqa: ARG001  # one signature for all
    codes, groups = pd.factorize(words_of(column_of(table, split)))
    return _by_threshold(_chance((str(group).encode() for group in groups), split.seed), split)[codes]


def _stratified(table: pd.DataFrame, digests: Digests, split: SplitSpec) -> Sides:
    column = column_of(table, split)
    distinct = column.nunique()
    if kind_of(column) == "float64" and distinct > MAX_FLOAT_STRATA:
        message = f"split.column {split.column!r} is float64 with {distinct} distinct values, and so no class"
        raise StageFailed(STAGE, f"{message}; a class has few")
    rows, back, counts = np.unique(
        digests.view(f"V{digests.shape[1]}").ravel(), return_inverse=True, return_counts=True
    )
    strata, _ = pd.factorize(words_of(column))
    of_row = np.empty(len(rows), dtype=np.int64)
    of_row[back] = strata  # equal rows are of one class
    sizes = np.bincount(of_row)
    small = int((sizes < SMALLEST_STRATUM).sum())
    if small:
        message = (
            f"{small} of {len(sizes)} classes of {split.column!r} have fewer than {SMALLEST_STRATUM} distinct rows"
        )
        raise StageFailed(STAGE, f"{message}, so that no side of theirs could be empty; leave them out or merge them")
    order = np.lexsort((_chance((row.tobytes() for row in rows), split.seed), of_row))
    side = np.empty(len(rows), dtype=object)
    for ranked in np.split(order, np.cumsum(sizes)[:-1]):
        side[ranked] = _cut(counts[ranked], split)
    return side[back].astype(str)


def _cut(counts: npt.NDArray[np.int64], split: SplitSpec) -> Sides:
    """Test first, then validation, then train, where the counts of rows come nearest to the shares."""
    total = np.cumsum(counts)
    last = len(counts)
    test = 1 + int(np.abs(total[: last - 2] - split.test * total[-1]).argmin())
    both = (split.test + split.validation) * total[-1]
    until = test + 1 + int(np.abs(total[test : last - 1] - both).argmin())
    return np.repeat(["test", "validation", "train"], [test, until - test, last - until])


def _time(table: pd.DataFrame, digests: Digests, split: SplitSpec) -> Sides:  # noqa: ARG001  # one signature for all
    validation_from, test_from = _bounds(split)
    times = times_of(table, split)
    return np.select([times >= test_from, times >= validation_from], ["test", "validation"], "train")


def _predefined(table: pd.DataFrame, digests: Digests, split: SplitSpec) -> Sides:  # noqa: ARG001  # one signature for all
    side_of = {word: side for side, words in split.values.items() for word in words}
    codes, words = pd.factorize(words_of(column_of(table, split)))
    known = np.array([side_of.get(str(word), "") for word in words], dtype=str)[codes]
    unknown = int((known == "").sum())
    if unknown:
        what = f"{unknown} of {len(table)} rows say in {split.column!r} what split.values has for no side"
        raise StageFailed(STAGE, f"{what} ({int(sum(str(word) not in side_of for word in words))} other words)")
    return known


_METHODS: Mapping[str, Callable[[pd.DataFrame, Digests, SplitSpec], Sides]] = MappingProxyType(
    {
        "random": _random,
        "stratified": _stratified,
        "group": _group,
        "time": _time,
        "predefined": _predefined,
    }
)


def _chance(values: Iterable[bytes], seed: int) -> npt.NDArray[np.uint64]:
    """A number from 0 to 2^64 - 1 for each value, evenly spread, another for another seed: its keyed BLAKE2b."""
    keyed = hashlib.blake2b(digest_size=8, key=seed.to_bytes(8, "little"), person=_PERSON)

    def one(value: bytes) -> bytes:
        state = keyed.copy()
        state.update(value)
        return state.digest()

    return np.frombuffer(b"".join(map(one, values)), dtype="<u8").astype(np.uint64)


def _by_threshold(chances: npt.NDArray[np.uint64], split: SplitSpec) -> Sides:
    """Test below its share, validation below the next, train above: what is added moves nothing."""
    test = int(Fraction(split.test) * 2**64)
    validation = test + int(Fraction(split.validation) * 2**64)
    return np.select([chances < np.uint64(test), chances < np.uint64(validation)], ["test", "validation"], "train")


def column_of(table: pd.DataFrame, split: SplitSpec) -> pd.Series[Any]:
    """The column that the split looks at, nothing of it missing. Raises ConfigError, StageFailed."""
    if split.column not in table.columns:
        message = f"the table has no column {split.column!r}"
        raise ConfigError([Problem(PARAMS_FILE, "split.column", message, did_you_mean(split.column, table.columns))])
    column = table[split.column]
    missing = int(column.isna().sum())
    if missing:
        raise StageFailed(STAGE, f"{missing} of {len(table)} rows have no {split.column!r}")
    return column


def times_of(table: pd.DataFrame, split: SplitSpec) -> pd.Series[Any]:
    """The column of a split by time. Raises StageFailed when it is no time, or a row has none."""
    if split.column in table.columns and kind_of(table[split.column]) != "timestamp":
        raise StageFailed(STAGE, f"split.column {split.column!r} is no time column of the table; see data.time_columns")
    return column_of(table, split)


def _bounds(split: SplitSpec) -> tuple[pd.Timestamp, pd.Timestamp]:
    bounds = {}
    problems = []
    for key, text in (("validation_from", split.validation_from), ("test_from", split.test_from)):
        try:
            bounds[key] = pd.Timestamp(instant(text))
        except ValueError:
            problems.append(Problem(PARAMS_FILE, f"split.{key}", "is not an ISO 8601 time"))
    if len(bounds) == len(("validation_from", "test_from")) and bounds["validation_from"] >= bounds["test_from"]:
        problems.append(Problem(PARAMS_FILE, "split.test_from", "must be later than split.validation_from"))
    if problems:
        raise ConfigError(problems)
    return bounds["validation_from"], bounds["test_from"]
