"""What two models said of the same rows, as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cd4ml.promotion.review import Ruler
from cd4ml.spec.experiment import Task

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Said:
    """One model's answers for n rows.

    ``predicted``: float64 (n,), of a classification the classes' codes. ``probabilities``: float64 (n, classes) whose
    rows sum to 1, or nothing where the model gives none.
    """

    predicted: npt.NDArray[np.float64]
    probabilities: npt.NDArray[np.float64] | None = None


@dataclass(frozen=True, eq=False)
class Paired:
    """Champion and challenger on the rows of the ruler, in one order; n = ``ruler.rows``.

    ``observed``: float64 (n,), of a classification the classes' codes; of a binary task the class that counts as
    positive has the code 1. ``slices``: by column the code of each row, int64 (n,), and the text of each code.
    ``times``: seconds since 1970 (UTC), float64 (n,), where the split is by time. ``clusters``: int64 (n,), equal for
    rows that depend on each other (``promotion.resample_by``); nothing where each row stands by itself.
    """

    task: Task
    classes: tuple[str, ...]
    observed: npt.NDArray[np.float64]
    champion: Said
    challenger: Said
    ruler: Ruler
    slices: Mapping[str, tuple[npt.NDArray[np.int64], tuple[str, ...]]] = field(default_factory=dict)
    times: npt.NDArray[np.float64] | None = None
    clusters: npt.NDArray[np.int64] | None = None
