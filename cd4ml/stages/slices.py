"""Metrics by the values of a column: where a model is good, and where it is not."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from cd4ml.errors import StageFailed
from cd4ml.spec.experiment import EvaluationSpec
from cd4ml.spec.text import one_line
from cd4ml.stages.scores import STAGE, Answers, OwnFunction, scores_where_defined

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

MOST_DISTINCT = 1000
"""Most values that a column of slices may have."""

MOST_KEPT = 50
"""Most values of a column for which metrics are kept."""

MOST_NUMBERS = 2000
"""Most metric values of one side: with more columns and metrics, fewer values of a column are kept. What is kept goes
into the run's record, which may be 1 MiB."""

LONGEST = 100
_MARK = 4
"""Digits of the mark on a value that looks like another; more where that is taken."""

MISSING = "(missing)"


def slices_of(
    table: pd.DataFrame,
    sides: Mapping[str, tuple[npt.NDArray[np.int64], Answers]],
    evaluation: EvaluationSpec,
    functions: Mapping[str, OwnFunction],
) -> dict[str, Any]:
    """Every metric for each value of each column of ``evaluation.slices``.

    ``sides`` are, by name, the positions in ``table`` of a side's rows and what was answered for them. Gives by
    column ``{"values": [{"value": text, "rows": {side: n}, side: {metric: value or nothing}}], "left_out": n}``,
    the values with most rows first; a value is left out, and counted, when a side has no row of it or there are
    too many. Raises StageFailed for a column that is not there, or of more than ``MOST_DISTINCT`` values.
    """
    columns = len(evaluation.slices)
    most = min(MOST_KEPT, MOST_NUMBERS // (columns * len(evaluation.metrics))) if columns else 0
    slices: dict[str, Any] = {}
    for column in evaluation.slices:
        codes, texts = _values(table, column)
        counts = {side: _counts(codes[rows], len(texts)) for side, (rows, _) in sides.items()}
        total = sum(counts.values())
        shared = [code for code in range(len(texts)) if all(count[code] for count in counts.values())]
        kept = sorted(shared, key=lambda code: (-total[code], texts[code]))[:most]
        values = []
        for code in kept:
            value: dict[str, Any] = {"value": texts[code]}
            value["rows"] = {side: int(count[code]) for side, count in counts.items()}
            for side, (rows, answers) in sides.items():
                value[side] = scores_where_defined(evaluation, functions, answers.of(codes[rows] == code))
            values.append(value)
        judged = sum(1 for code in range(len(texts)) if total[code])
        slices[column] = {"values": values, "left_out": judged - len(kept)}
    return slices


def _counts(codes: npt.NDArray[np.int64], length: int) -> Any:
    import numpy as np

    return np.bincount(codes, minlength=length)


def _values(table: pd.DataFrame, column: str) -> tuple[npt.NDArray[np.int64], list[str]]:
    """The column's values as codes, and the text of each code."""
    import numpy as np
    import pandas as pd

    if column not in table.columns:
        raise StageFailed(STAGE, f"evaluation.slices: the table has no column {column!r}")
    codes, distinct = pd.factorize(table[column], use_na_sentinel=False)
    if len(distinct) > MOST_DISTINCT:
        message = f"evaluation.slices: column {column!r} has {len(distinct)} values, more than {MOST_DISTINCT}"
        raise StageFailed(STAGE, message)
    return np.asarray(codes, dtype=np.int64), _told_apart(list(distinct))


def _told_apart(values: Sequence[Any]) -> list[str]:
    """A text for each value, and never the same for two: of those that look alike on one line, all but one get a mark.

    What is missing keeps its text, and then what is written as it is shown. The mark is made of the value alone: in
    other data another may do without, but where there is one, it is that value's.
    """
    import pandas as pd

    texts = [_text(value) for value in values]
    shown = [0 if pd.isna(value) else 1 + (text != str(value)) for value, text in zip(values, texts, strict=True)]
    order = sorted(range(len(values)), key=lambda at: (shown[at], str(values[at]), at))
    taken: set[str] = set()
    for at in order:
        digest = sha256(str(values[at]).encode("utf-8", "surrogatepass")).hexdigest()
        marked = (f"{texts[at]} (#{digest[:length]})" for length in range(_MARK, len(digest) + 1))
        texts[at] = next(text for text in itertools.chain((texts[at],), marked) if text not in taken)
        taken.add(texts[at])
    return texts


def _text(value: Any) -> str:
    import pandas as pd

    if pd.isna(value):
        return MISSING
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return one_line(value, LONGEST)
