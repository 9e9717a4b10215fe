"""Stage ``split``: which row belongs to train, validation and test, and the proof that the sides are apart."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from cd4ml.errors import StageFailed
from cd4ml.spec.experiment import SplitSpec
from cd4ml.spec.pipeline import SIDES, SPLIT, SPLIT_PROOF, TABLE
from cd4ml.stages.job import Job, put, put_json

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
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

    Raises ConfigError when the column is not there, or the bounds are no times or out of order, StageFailed when
    the method cannot use the column, a row has no value there, or a side is empty.
    """
    import numpy as np
    import pandas as pd

    from cd4ml.stages.split_methods import sides_of
    from cd4ml.stages.table import row_digests

    matrix = row_digests(table)
    side = sides_of(table, matrix, split)
    for name in SIDES:
        if not (side == name).any():
            raise StageFailed(STAGE, f"the {name} side is empty: {_advice(table, split, name)}")
    digests = [row.tobytes() for row in matrix]
    rows = np.arange(len(table), dtype=np.int64)
    return pd.DataFrame({"row": rows, "digest": pd.Series(digests, dtype=object), "side": pd.Series(side, dtype="str")})


def _advice(table: pd.DataFrame, split: SplitSpec, side: str) -> str:
    """What there is to part, and what to change so that a side gets some of it."""
    rows = f"the table has {len(table)} rows"
    if split.method == "time":
        times = table[split.column]
        key = "test_from" if side == "test" else "validation_from"
        return f"{split.column} runs from {times.min()} to {times.max()}; move split.{key}"
    if split.method == "predefined":
        return f"no row of {split.column!r} says a word of split.values.{side}"
    if split.method == "group":
        rows = f"{split.column!r} has {table[split.column].nunique()} groups"
    share = "split.validation and split.test" if side == "train" else f"split.{side}"
    return f"{rows}; change {share}, or split.seed"


def prove(table: pd.DataFrame, sides: pd.DataFrame, split: SplitSpec) -> dict[str, Any]:
    """What holds of the sides, computed from the rows themselves and not from how they were assigned.

    Returns ``{method, side: {rows, digest, …}, disjoint: true, …}``: ``digest`` is the SHA-256 of the side's row
    digests, sorted. By method there are also: for ``time`` the side's ``first`` and ``last`` moment, and
    ``ordered: true``; for ``group`` its number of ``groups``, and ``groups_disjoint: true``; for ``stratified`` its
    rows in each class, ``classes``, in the order of the classes' names; for ``predefined`` ``repeated``, how many of
    its rows are also on an earlier side but for the column that says the side. Raises StageFailed when an equal row,
    or a group, is on two sides, or a side reaches into the time of the next.
    """
    here = {side: (sides["side"] == side).to_numpy() for side in SIDES}
    proof: dict[str, Any] = {"method": split.method, "disjoint": True}
    digests: dict[str, set[Any]] = {}
    for side in SIDES:
        listed = sorted(sides.loc[here[side], "digest"])
        digests[side] = set(listed)
        proof[side] = {"rows": len(listed), "digest": hashlib.sha256(b"".join(listed)).hexdigest()}
    for one, other in _PAIRS:
        shared = len(digests[one] & digests[other])
        if shared:
            raise StageFailed(STAGE, f"{shared} rows are on both the {one} and the {other} side")
    provers = {"time": _prove_time, "group": _prove_group, "stratified": _count_classes, "predefined": _count_repeated}
    if split.method in provers:
        provers[split.method](table, here, split, proof)
    return proof


_PAIRS = (("train", "validation"), ("train", "test"), ("validation", "test"))


def _prove_time(
    table: pd.DataFrame, here: dict[str, npt.NDArray[np.bool_]], split: SplitSpec, proof: dict[str, Any]
) -> None:
    from cd4ml.stages.split_methods import times_of

    times = times_of(table, split)
    for side in SIDES:
        proof[side] |= {"first": times[here[side]].min().isoformat(), "last": times[here[side]].max().isoformat()}
    for one, other in _PAIRS:
        if times[here[one]].max() >= times[here[other]].min():
            raise StageFailed(STAGE, f"the {one} side reaches into the time of the {other} side")
    proof["ordered"] = True


def _prove_group(
    table: pd.DataFrame, here: dict[str, npt.NDArray[np.bool_]], split: SplitSpec, proof: dict[str, Any]
) -> None:
    groups = {side: set(table.loc[here[side], split.column]) for side in SIDES}
    for one, other in _PAIRS:
        shared = len(groups[one] & groups[other])
        if shared:
            raise StageFailed(STAGE, f"{shared} groups are on both the {one} and the {other} side")
    for side in SIDES:
        proof[side]["groups"] = len(groups[side])
    proof["groups_disjoint"] = True


def _count_classes(
    table: pd.DataFrame, here: dict[str, npt.NDArray[np.bool_]], split: SplitSpec, proof: dict[str, Any]
) -> None:
    classes = sorted(table[split.column].unique())
    for side in SIDES:
        counts = table.loc[here[side], split.column].value_counts()
        proof[side]["classes"] = [int(counts.get(one, 0)) for one in classes]


def _count_repeated(
    table: pd.DataFrame, here: dict[str, npt.NDArray[np.bool_]], split: SplitSpec, proof: dict[str, Any]
) -> None:
    from cd4ml.stages.table import row_digests

    others = table.drop(columns=split.column)
    rows = [row.tobytes() for row in row_digests(others)] if len(others.columns) else []
    earlier: set[bytes] = set()
    for side in SIDES:
        listed = [row for row, is_here in zip(rows, here[side], strict=False) if is_here]
        proof[side]["repeated"] = sum(row in earlier for row in listed)
        earlier |= set(listed)
