"""What two runs said of the same rows, from their stored outputs.

Everything here is read as a stranger's file. A record says what the files hold, by digest, and a record may have been
written by anybody who may push a ref; so sizes are looked at before anything is read, and what does not fit together
is no evidence.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from cd4ml.controller.history.objects import Objects
from cd4ml.controller.reporting.columns import (
    LONGEST,
    MOST_TEXT,
    SHORT,
    NoEvidenceError,
    Role,
    as_numpy,
    as_text,
    indices,
    names_of,
    open_output,
    read_columns,
    schema_of,
    whole,
)
from cd4ml.controller.reporting.observed import Columns, observe_rows
from cd4ml.errors import Cd4mlError
from cd4ml.index.lineage import files_of
from cd4ml.index.record import RunRecord
from cd4ml.promotion.paired import Paired, Said
from cd4ml.promotion.review import Ruler
from cd4ml.spec.experiment import Task, rows_asked
from cd4ml.spec.pipeline import FEATURE_SCHEMA, IMPORTANCE, MODEL_CARD, PREDICTIONS, SPLIT, TABLE
from cd4ml.spec.text import one_line
from cd4ml.stages.parquet import longest_text, with_plain_texts

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

MOST_CLASSES = 1000

_LARGEST_JSON = 4 << 20
_MOST_FEATURES = 1000
_MOST_STEPS = 1000
_ROUNDING = 1e-6
_DIGEST_BYTES = 16
_SIDES = ("train", "validation", "test")
_TEST = 2


@dataclass(frozen=True)
class Request:
    """What is wanted of two runs: the base branch's columns, and what the ruler tells beside rows.

    ``min_share`` is the share of the champion's test side that both must be scored on.
    """

    columns: Columns
    min_rows: int
    uses: int = 1
    min_share: float = 0.0


def pair(objects: Objects, champion: RunRecord, challenger: RunRecord, request: Request) -> Paired:
    """Both runs' predictions for the rows of the champion's test side that neither has seen.

    Both records are of succeeded runs of one task, target and positive class. Rows are matched by their digest; where
    the tables have other columns, by a digest over those that both have. A digest that occurs several times is dropped
    when any of its rows was seen. Raises NoEvidenceError.
    """
    task = _task(champion)
    old, new = (_read(objects, run, role) for run, role in ((champion, "champion"), (challenger, "challenger")))
    declared = _test_rows(old)
    match = _match(objects, old, new, declared)
    rows = declared[match.kept]
    classes, recoded = _classes(task, old.classes, new.classes)
    ruler = Ruler(
        digest=str(champion.body["split"]["test"]["digest"]),
        declared=len(declared),
        rows=len(rows),
        min_rows=rows_asked(len(declared), request.min_rows, request.min_share),
        seen_by_champion=match.seen_by_champion,
        seen_by_challenger=match.seen_by_challenger,
        not_predicted=match.not_predicted,
        uses=request.uses,
        matched_by=match.columns,
    )
    found = observe_rows(objects, champion, rows, old.rows, classes, request.columns)
    return Paired(
        task=task,
        classes=classes,
        observed=found.target,
        champion=_said(old, match.kept, len(classes), {}),
        challenger=_said(new, match.places, len(classes), recoded),
        ruler=ruler,
        slices=found.slices,
        times=found.times,
        clusters=found.clusters,
    )


def importance_of(objects: Objects, run: RunRecord) -> tuple[tuple[str, float, float], ...]:
    """Permutation importance as the run stored it: feature, mean drop of the score, its deviation; none without."""
    recorded = files_of(run).get(IMPORTANCE)
    if recorded is None:
        return ()
    try:
        text = objects.open(recorded, IMPORTANCE).read(_LARGEST_JSON).decode()
    except (Cd4mlError, OSError, ValueError):
        return ()
    found = []
    for row in csv.reader(text.splitlines()[1 : _MOST_FEATURES + 1]):
        try:
            name, mean, deviation = row[0], float(row[1]), float(row[2])
        except (ValueError, IndexError):
            return ()
        if math.isfinite(mean) and math.isfinite(deviation):
            found.append((one_line(name, LONGEST), mean, deviation))
    return tuple(found)


def curves_of(objects: Objects, run: RunRecord) -> dict[str, tuple[tuple[float, ...], ...]]:
    """The learning curve that the run's model card tells, as rows by name; nothing without one."""
    recorded = files_of(run).get(MODEL_CARD)
    if recorded is None:
        return {}
    try:
        curve = json.loads(objects.open(recorded, MODEL_CARD).read(_LARGEST_JSON)).get("curve")
        rows = tuple(tuple(map(float, row)) for row in curve["rows"][:_MOST_STEPS])
        name = one_line(str(curve["name"]), LONGEST)
    except (Cd4mlError, OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return {}
    sound = all(len(row) in (2, 3) and all(map(math.isfinite, row)) for row in rows)
    return {name: rows} if rows and sound else {}


# ── what one run left ────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, eq=False)
class _Left:
    """What was read of a run. ``sides`` are codes by row (n,), ``predicted`` what was said of ``_test_rows``, in their
    order: float64 (m,), and ``shares`` float64 (m, classes) or nothing."""

    run: RunRecord
    role: Role
    rows: int
    sides: npt.NDArray[np.int8]
    digests: pa.Array
    predicted: npt.NDArray[np.float64]
    shares: npt.NDArray[np.float64] | None
    classes: tuple[str, ...]

    @property
    def split_file(self) -> str:
        return str(files_of(self.run)[SPLIT]["sha256"])


def _task(run: RunRecord) -> Task:
    evaluation = run.params.get("evaluation")
    name = evaluation.get("task") if isinstance(evaluation, Mapping) else None
    task = next((task for task in get_args(Task) if task == name), None)
    if task is None:
        raise NoEvidenceError("its record names no task")
    found: Task = task
    return found


def _read(objects: Objects, run: RunRecord, role: str) -> _Left:
    import numpy as np

    known: Role = "champion" if role == "champion" else "challenger"
    classes = () if _task(run) == "regression" else _labels(objects, run, known)
    rows, sides, digests = _read_split(objects, run, known)
    test = np.flatnonzero(sides == _TEST)
    predicted, shares = _read_predictions(objects, run, known, test, len(classes))
    return _Left(run, known, rows, sides, digests, predicted, shares, classes)


def _test_rows(one: _Left) -> npt.NDArray[np.int64]:
    import numpy as np

    found: npt.NDArray[np.int64] = np.flatnonzero(one.sides == _TEST).astype(np.int64, copy=False)
    return found


def _read_split(objects: Objects, run: RunRecord, role: Role) -> tuple[int, npt.NDArray[np.int8], pa.Array]:
    import numpy as np
    import pyarrow as pa

    what = f"the {role}'s split"
    table = read_columns(open_output(objects, run, role, SPLIT), what, ("row", "side", "digest"), cell=SHORT)
    rows = table.num_rows
    digests = whole(table["digest"])
    if digests.type != pa.binary(_DIGEST_BYTES) or digests.null_count:
        raise NoEvidenceError(f"{what} does not hold the digests of rows")
    if not np.array_equal(_int64(table["row"], what), np.arange(rows)):
        raise NoEvidenceError(f"{what} does not hold the rows of a table in their order")
    return rows, _side_codes(table["side"], what), digests


def _side_codes(column: pa.ChunkedArray, what: str) -> npt.NDArray[np.int8]:
    """0 train, 1 validation, 2 test."""
    import numpy as np
    import pyarrow as pa

    known = pa.types.is_dictionary(column.type) and longest_text(column) <= max(map(len, _SIDES))
    texts = whole(column) if known else None
    names = texts.dictionary.to_pylist() if texts is not None else []
    if texts is None or texts.null_count or not set(names) <= set(_SIDES):
        raise NoEvidenceError(f"{what} knows other sides than {', '.join(_SIDES)}")
    codes = np.array([_SIDES.index(name) for name in names] or [0], dtype=np.int8)
    found: npt.NDArray[np.int8] = codes[as_numpy(texts.indices)]
    return found


def _read_predictions(
    objects: Objects, run: RunRecord, role: Role, test: npt.NDArray[Any], classes: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64] | None]:
    import numpy as np

    what = f"the {role}'s predictions"
    stream = open_output(objects, run, role, PREDICTIONS)
    shares = [f"p{code}" for code in range(classes)]
    has_shares = bool(shares) and shares[0] in names_of(stream, what)
    table = read_columns(stream, what, ("row", "side", "prediction", *(shares if has_shares else ())), cell=SHORT)
    here = np.flatnonzero(_side_codes(table["side"], what) == _TEST)
    rows = _int64(table["row"], what)[here]
    order = np.argsort(rows, kind="stable")
    if not np.array_equal(rows[order], test):
        raise NoEvidenceError(f"{what} are not one for each row of its test side")
    place = here[order]
    predicted = _float64(table["prediction"], what)[place]
    if not np.isfinite(predicted).all():
        raise NoEvidenceError(f"{what} are not all finite")
    if classes and not (np.isin(predicted, np.arange(classes))).all():
        raise NoEvidenceError(f"{what} are no codes of its classes")
    if not has_shares:
        return predicted, None
    told = np.column_stack([_float64(table[name], what)[place] for name in shares])
    if not ((told >= 0) & (told <= 1)).all() or not (abs(told.sum(axis=1) - 1) <= _ROUNDING).all():
        raise NoEvidenceError(f"{what} hold no probabilities that sum to 1")
    return predicted, told


def _labels(objects: Objects, run: RunRecord, role: Role) -> tuple[str, ...]:
    """The classes by code, as text."""
    stream = open_output(objects, run, role, FEATURE_SCHEMA)
    try:
        told = json.loads(stream.read(_LARGEST_JSON))["classes"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise NoEvidenceError(f"the {role}'s {FEATURE_SCHEMA} names no classes") from error
    if not isinstance(told, list) or not 1 < len(told) <= MOST_CLASSES:
        raise NoEvidenceError(f"the {role}'s {FEATURE_SCHEMA} names no classes, or too many")
    labels = tuple(as_text(one) for one in told)
    if len(set(labels)) < len(labels):
        raise NoEvidenceError(f"the {role}'s {FEATURE_SCHEMA} names a class twice")
    return labels


def _int64(column: pa.ChunkedArray, what: str) -> npt.NDArray[np.int64]:
    import pyarrow as pa

    if column.type != pa.int64() or column.null_count:
        raise NoEvidenceError(f"{what} do not number their rows")
    found: npt.NDArray[np.int64] = as_numpy(column)
    return found


def _float64(column: pa.ChunkedArray, what: str) -> npt.NDArray[np.float64]:
    import pyarrow as pa

    if column.type != pa.float64() or column.null_count:
        raise NoEvidenceError(f"{what} hold something else than numbers")
    found: npt.NDArray[np.float64] = as_numpy(column)
    return found


# ── which rows are one and the same ──────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, eq=False)
class _Match:
    """``kept`` are places among the champion's test rows, ``places`` those of the same rows among the challenger's."""

    kept: npt.NDArray[np.int64]
    places: npt.NDArray[np.int64]
    seen_by_champion: int = 0
    seen_by_challenger: int = 0
    not_predicted: int = 0
    columns: tuple[str, ...] = ()


def _match(objects: Objects, old: _Left, new: _Left, declared: npt.NDArray[np.int64]) -> _Match:
    import numpy as np

    if old.split_file == new.split_file:
        everything = np.arange(len(declared))
        return _Match(everything, everything)  # the split's proof: no digest is on two sides
    columns = _shared_columns(objects, old, new)
    if columns is None:
        return _matched(old, new, old.digests, new.digests, ())
    here, there = (_digests_over(objects, one, columns) for one in (old, new))
    return _matched(old, new, here, there, tuple(name for name, _ in columns))


def _matched(old: _Left, new: _Left, here: pa.Array, there: pa.Array, columns: tuple[str, ...]) -> _Match:
    import numpy as np
    import pyarrow.compute as pc

    def of(digests: pa.Array, chosen: npt.NDArray[np.bool_]) -> pa.Array:
        return digests.take(indices(np.flatnonzero(chosen)))

    asked = of(here, old.sides == _TEST)
    by_champion, by_challenger = (
        _flags(pc.is_in(asked, value_set=of(digests, one.sides != _TEST)))
        for one, digests in ((old, here), (new, there))
    )
    answered = of(there, new.sides == _TEST)
    first = _places(pc.index_in(answered, value_set=answered))  # of each digest the row that answers for it
    agree = new.predicted == new.predicted[first]
    if new.shares is not None:
        agree &= (new.shares == new.shares[first]).all(axis=1)
    split = np.zeros(len(first), dtype=bool)
    split[first[~agree]] = True  # several rows with one digest of which different things were said: no answer
    found = _places(pc.index_in(asked, value_set=answered))
    lacking = (found < 0) | (split[found] if len(split) else True)
    kept = np.flatnonzero(~by_champion & ~by_challenger & ~lacking)
    return _Match(
        kept,
        found[kept],
        int(by_champion.sum()),
        int((by_challenger & ~by_champion).sum()),
        int((lacking & ~by_champion & ~by_challenger).sum()),
        columns,
    )


def _flags(found: pa.Array) -> npt.NDArray[np.bool_]:
    flags: npt.NDArray[np.bool_] = as_numpy(found.cast("uint8")).astype(bool)
    return flags


def _places(found: pa.Array) -> npt.NDArray[np.int64]:
    """Places, and -1 for what has none."""
    import numpy as np

    places: npt.NDArray[np.int64] = as_numpy(found.fill_null(-1)).astype(np.int64)
    return places


def _shared_columns(objects: Objects, old: _Left, new: _Left) -> list[tuple[str, str]] | None:
    """Name and type of the columns that both tables have, by name; nothing where all columns are the same.

    The digests in the splits are over all columns of a table, in its order.
    """
    if old.run.body["table"]["digest"] == new.run.body["table"]["digest"]:
        return None
    schemas = [
        schema_of(open_output(objects, one.run, one.role, TABLE), f"the {one.role}'s table") for one in (old, new)
    ]
    if schemas[0] == schemas[1]:
        return None
    shared = sorted(set(schemas[0]) & set(schemas[1]))
    if not shared:
        raise NoEvidenceError("the two tables have no column in common, so no row can be told to be the same")
    return shared


def _digests_over(objects: Objects, one: _Left, columns: list[tuple[str, str]]) -> pa.Array:
    """Digests of the rows of a table over some of its columns. Imports pandas: the slow way, for tables that differ."""
    import pyarrow as pa

    from cd4ml.stages.table import row_digests, to_frame

    names = [name for name, _ in columns]
    what = f"the {one.role}'s table"
    table = read_columns(open_output(objects, one.run, one.role, TABLE), what, names, rows=one.rows)
    try:
        digests = row_digests(to_frame(with_plain_texts(table.select(names), what, MOST_TEXT), what))
    except Cd4mlError as error:
        raise NoEvidenceError(f"{what} cannot be read") from error
    return pa.Array.from_buffers(pa.binary(_DIGEST_BYTES), len(digests), [None, pa.py_buffer(digests.tobytes())])


# ── classes ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _classes(task: Task, old: tuple[str, ...], new: tuple[str, ...]) -> tuple[tuple[str, ...], dict[int, int]]:
    """The classes of both by code, the champion's first, and the challenger's codes in it where they are others."""
    if task == "binary" and (len(old) != 2 or old != new):
        raise NoEvidenceError("the classes of the target differ, or are not two")
    classes = tuple(dict.fromkeys((*old, *new)))
    if len(classes) > MOST_CLASSES:
        raise NoEvidenceError(f"the two know more than {MOST_CLASSES} classes")
    recoded = {code: classes.index(label) for code, label in enumerate(new)}
    return classes, {} if all(code == other for code, other in recoded.items()) else recoded


def _said(one: _Left, places: npt.NDArray[np.int64], classes: int, recoded: Mapping[int, int]) -> Said:
    import numpy as np

    predicted = one.predicted[places]
    shares = one.shares[places] if one.shares is not None else None
    if recoded:
        table = np.array([recoded[code] for code in range(len(recoded))])
        predicted = table[predicted.astype(np.int64)].astype(np.float64)
    if shares is not None and (recoded or shares.shape[1] != classes):
        known = [recoded.get(code, code) for code in range(shares.shape[1])]
        wider = np.zeros((len(shares), classes))
        wider[:, known] = shares
        shares = wider
    return Said(predicted, shares)
