"""Stage ``split``: which row belongs to train, validation and test, and the proof that the sides are apart."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from cd4ml.errors import ConfigError, Problem, StageFailed
from cd4ml.spec.experiment import SplitSpec
from cd4ml.spec.pipeline import PARAMS_FILE, SIDES, SPLIT, SPLIT_PROOF, TABLE
from cd4ml.stages.job import Job, put, put_json

if TYPE_CHECKING:
    import pandas as pd

STAGE = "split"


def run(job: Job) -> None:
    """Read ``TABLE``; write ``SPLIT`` and ``SPLIT_PROOF``."""
    from cd4ml.stages.table import digest_matrix, read_parquet, write_parquet

    table = read_parquet(job.root / TABLE)
    sides = assign_sides(table, job.spec.split)
    proof = prove(table, sides, job.spec.split)
    digests = {"digest": digest_matrix(sides["digest"])}
    put(job.root, SPLIT, lambda path: write_parquet(sides[["row", "side"]], path, digests))
    put_json(job.root, SPLIT_PROOF, proof)


def assign_sides(table: pd.DataFrame, split: SplitSpec) -> pd.DataFrame:
    """The side of every row of a canonical table: columns ``row`` (int64, its position), ``digest`` (its 16-byte
    digest), ``side`` (``train``, ``validation`` or ``test``), in the table's order.

    Raises ConfigError when the bounds are no times or out of order, StageFailed when the column is no time,
    a row has none, or a side is empty.
    """
    import numpy as np
    import pandas as pd

    from cd4ml.stages.table import row_digests

    validation_from, test_from = _bounds(split)
    times = _times(table, split)
    side = np.select([times >= test_from, times >= validation_from], ["test", "validation"], "train")
    for name, key in zip(SIDES, ("validation_from", "validation_from", "test_from"), strict=True):
        if not (side == name).any():
            message = f"the {name} side is empty: {split.column} runs from {times.min()} to {times.max()}"
            raise StageFailed(STAGE, f"{message}; move split.{key}")
    digests = [row.tobytes() for row in row_digests(table)]
    rows = np.arange(len(table), dtype=np.int64)
    return pd.DataFrame({"row": rows, "digest": pd.Series(digests, dtype=object), "side": pd.Series(side, dtype="str")})


def prove(table: pd.DataFrame, sides: pd.DataFrame, split: SplitSpec) -> dict[str, Any]:
    """What holds of the sides, computed from the rows themselves and not from how they were assigned.

    Returns ``{side: {rows, first, last, digest}, disjoint: true, ordered: true}``: ``first`` and ``last`` are the
    side's earliest and latest times, ``digest`` the SHA-256 of its row digests, sorted. Raises StageFailed
    when an equal row is on two sides, or a side reaches into the time of the next.
    """
    times = _times(table, split)
    proof: dict[str, Any] = {}
    digests: dict[str, set[bytes]] = {}
    for side in SIDES:
        here = (sides["side"] == side).to_numpy()
        listed = sorted(sides.loc[here, "digest"])
        digests[side] = set(listed)
        proof[side] = {
            "rows": int(here.sum()),
            "first": times[here].min().isoformat(),
            "last": times[here].max().isoformat(),
            "digest": hashlib.sha256(b"".join(listed)).hexdigest(),
        }
    for earlier, later in ((0, 1), (0, 2), (1, 2)):
        one, other = SIDES[earlier], SIDES[later]
        shared = len(digests[one] & digests[other])
        if shared:
            raise StageFailed(STAGE, f"{shared} rows are on both the {one} and the {other} side")
        if times[(sides["side"] == one).to_numpy()].max() >= times[(sides["side"] == other).to_numpy()].min():
            raise StageFailed(STAGE, f"the {one} side reaches into the time of the {other} side")
    return {**proof, "disjoint": True, "ordered": True}


def _bounds(split: SplitSpec) -> tuple[pd.Timestamp, pd.Timestamp]:
    import pandas as pd

    bounds = {}
    problems = []
    for key, text in (("validation_from", split.validation_from), ("test_from", split.test_from)):
        try:
            moment = pd.Timestamp(text)
            bounds[key] = moment.tz_localize("UTC") if moment.tzinfo is None else moment.tz_convert("UTC")
        except (ValueError, TypeError, OverflowError):
            problems.append(Problem(PARAMS_FILE, f"split.{key}", "is not an ISO 8601 time"))
    if len(bounds) == len(("validation_from", "test_from")) and bounds["validation_from"] >= bounds["test_from"]:
        problems.append(Problem(PARAMS_FILE, "split.test_from", "must be later than split.validation_from"))
    if problems:
        raise ConfigError(problems)
    return bounds["validation_from"], bounds["test_from"]


def _times(table: pd.DataFrame, split: SplitSpec) -> pd.Series[Any]:
    from cd4ml.stages.table import kind_of

    if split.column not in table.columns or kind_of(table[split.column]) != "timestamp":
        raise StageFailed(STAGE, f"split.column {split.column!r} is no time column of the table; see data.time_columns")
    times = table[split.column]
    missing = int(times.isna().sum())
    if missing:
        raise StageFailed(STAGE, f"{missing} of {len(table)} rows have no {split.column!r}")
    return times
