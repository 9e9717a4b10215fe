"""How the distributions of columns moved between the tables of two runs."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

from cd4ml.controller.history.objects import Objects
from cd4ml.controller.reporting.columns import (
    NoEvidenceError,
    Role,
    as_numpy,
    indices,
    open_output,
    read_columns,
    schema_of,
    whole,
)
from cd4ml.index.record import RunRecord
from cd4ml.promotion.moved import Binned, binned_numbers, binned_texts, moved_columns
from cd4ml.promotion.review import ColumnMoved
from cd4ml.spec.pipeline import TABLE

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

MOST_CELLS = 40_000_000
"""Values that are read of the two tables; further columns, in the order of the table, are not looked at."""

MOST_SAMPLED = 100_000
"""Rows of each table of which a column is binned: evenly spaced ones where there are more. An index of distributions
that are the same is then off by less than 0.001."""


def moved_between(
    objects: Objects, champion: RunRecord, challenger: RunRecord
) -> tuple[tuple[ColumnMoved, ...], tuple[str, ...]]:
    """The columns of both tables that moved, the most moved first, and what a reader must know of that.

    Nothing is read where the tables are the same.
    """
    tables = [(run.body.get("table") or {}).get("digest") for run in (champion, challenger)]
    if tables[0] == tables[1]:
        return (), ()
    try:
        old, new = (
            _Table.open(objects, run, role) for run, role in (_as(champion, "champion"), _as(challenger, "challenger"))
        )
        shared = [(name, kind) for name, kind in old.types.items() if new.types.get(name) == kind]
        most = max(1, MOST_CELLS // max(1, old.rows + new.rows))
        found = [one for name, kind in shared[:most] if (one := _binned(old, new, name, kind)) is not None]
    except NoEvidenceError as error:
        return (), (f"whether columns moved is not known: {error}",)
    left = len(shared) - most
    return moved_columns(found), (f"{left} columns were too many to look at for movement",) if left > 0 else ()


def _as(run: RunRecord, role: Role) -> tuple[RunRecord, Role]:
    return run, role


class _Table:
    """A table of a run, of which a column at a time is read."""

    def __init__(self, stream: IO[bytes], what: str, types: dict[str, str], rows: int) -> None:
        self._stream, self._what = stream, what
        self.types, self.rows = types, rows

    @classmethod
    def open(cls, objects: Objects, run: RunRecord, role: Role) -> _Table:
        stream = open_output(objects, run, role, TABLE)
        what = f"the {role}'s table"
        rows = (run.body.get("table") or {}).get("rows")
        if not isinstance(rows, int):
            raise NoEvidenceError(f"{what} has no number of rows in its record")
        return cls(stream, what, dict(schema_of(stream, what)), rows)

    def column(self, name: str) -> pa.Array:
        """The sampled rows of a column, text as a dictionary."""
        import numpy as np

        self._stream.seek(0)
        table = read_columns(self._stream, self._what, [name], self.rows)
        step = -(-self.rows // MOST_SAMPLED)
        array = whole(table[name])
        return array if step <= 1 else array.take(indices(np.arange(0, len(array), step)))


def _binned(old: _Table, new: _Table, name: str, kind: str) -> Binned | None:
    """A column of both in bins; nothing for one of a kind that no table of ours has."""
    columns = [one.column(name) for one in (old, new)]
    if kind in ("int64", "double", "timestamp[ns, tz=UTC]"):
        return binned_numbers(name, _numbers(columns[0]), _numbers(columns[1]))
    if kind in ("string", "bool"):
        (before, gone), (after, lost) = (_counted(column) for column in columns)
        return binned_texts(name, before, after, (gone, lost))
    return None


def _numbers(column: pa.Array) -> npt.NDArray[np.float64]:
    import pyarrow as pa

    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    values: npt.NDArray[np.float64] = as_numpy(column.cast(pa.float64(), safe=False).fill_null(float("nan")))
    return values


def _counted(column: pa.Array) -> tuple[dict[str, int], int]:
    """Rows by value, and those without one."""
    import numpy as np
    import pyarrow as pa

    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    counts = np.bincount(
        as_numpy(encoded.indices.fill_null(len(encoded.dictionary))),
        minlength=len(encoded.dictionary) + 1,
    )
    values = map(str, encoded.dictionary.to_pylist())
    return dict(zip(values, map(int, counts[:-1]), strict=True)), int(counts[-1])
