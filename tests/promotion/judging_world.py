"""Pairs of models to judge, made from a seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cd4ml.promotion.gates import gates
from cd4ml.promotion.judgement import Judged, judge
from cd4ml.promotion.paired import Paired, Said
from cd4ml.promotion.review import Ruler
from cd4ml.spec.experiment import PromotionSpec, Task
from cd4ml.spec.metrics import DIRECTIONS

Floats = npt.NDArray[np.float64]
Slices = Mapping[str, tuple[npt.NDArray[np.int64], tuple[str, ...]]]
CLASSES: Mapping[Task, tuple[str, ...]] = {"regression": (), "binary": ("no", "yes"), "multiclass": ("a", "b", "c")}


def policy(**values: Any) -> PromotionSpec:
    """The scaffold's conditions, but for what is said."""
    return PromotionSpec(**{"min_improvement": 0.0, **values})


def ruler(rows: int, digest: str = "rows", uses: int = 1) -> Ruler:
    return Ruler(digest, rows, rows, 100, uses=uses)


def paired(
    observed: npt.ArrayLike,
    champion: npt.ArrayLike | Said,
    challenger: npt.ArrayLike | Said,
    task: Task = "regression",
    digest: str = "rows",
    uses: int = 1,
    slices: Slices | None = None,
    clusters: npt.NDArray[np.int64] | None = None,
) -> Paired:
    """Two models' answers; bare numbers are predictions without probabilities."""
    seen = np.asarray(observed, dtype=np.float64)
    said = [one if isinstance(one, Said) else Said(np.asarray(one, dtype=np.float64)) for one in (champion, challenger)]
    told = ruler(len(seen), digest, uses)
    return Paired(task, CLASSES[task], seen, said[0], said[1], told, slices or {}, clusters=clusters)


def said(shares: Floats) -> Said:
    """A classifier that predicts the class with the largest probability; of two, a probability of the second."""
    both = np.column_stack([1 - shares, shares]) if shares.ndim == 1 else shares
    return Said(both.argmax(axis=1).astype(np.float64), both)


def judged(
    pair: Paired, primary: str, metrics: Sequence[str] = (), asked: PromotionSpec | None = None, **more: Any
) -> Judged:
    """What is judged of a pair by the metrics' own directions."""
    return judge(pair, asked or policy(), primary, metrics or (primary,), more.pop("directions", DIRECTIONS), **more)


def equal_regressors(seed: int, rows: int, heavy: bool = False) -> Paired:
    """Two models whose errors are of one distribution and have half of it in common; those of t with 3 degrees of
    freedom where ``heavy``.
    """
    random = np.random.default_rng([7, seed])
    errors = random.standard_t(3, size=(3, rows)) if heavy else random.normal(size=(3, rows))
    observed = random.normal(10, 3, rows)
    return paired(observed, observed + errors[0] + errors[1], observed + errors[0] + errors[2], digest=f"{seed}")


def equal_classifiers(seed: int, rows: int, share: float = 0.3) -> Paired:
    """Two models that rank by the truth and noise of one distribution, half of it in common."""
    random = np.random.default_rng([8, seed])
    observed = (random.random(rows) < share).astype(np.float64)
    noise = random.normal(size=(3, rows))
    scores = [2 * observed - 1 + noise[0] + noise[1], 2 * observed - 1 + noise[0] + noise[2]]
    old, new = (said(1 / (1 + np.exp(-one))) for one in scores)
    return paired(observed, old, new, "binary", f"{seed}")


def equally_precise(seed: int, rows: int, positives: int, precision: float, challenger: float = 0.0) -> Paired:
    """A champion that predicts a tenth of the rows as positive, and a challenger that predicts ``positives`` of them;
    of both the same share is right by chance, or ``challenger`` of the latter's.
    """
    random = np.random.default_rng([11, seed])
    observed = (random.random(rows) < 0.3).astype(np.float64)

    def predicted(count: int, share: float) -> Floats:
        right = random.binomial(count, share)
        found = np.zeros(rows)
        found[random.choice(np.flatnonzero(observed == 1), right, replace=False)] = 1
        found[random.choice(np.flatnonzero(observed == 0), count - right, replace=False)] = 1
        return found

    old, new = predicted(rows // 10, precision), predicted(positives, challenger or precision)
    return paired(observed, old, new, "binary", f"{seed}")


def family(seed: int, rows: int, members: int) -> Iterator[Paired]:
    """Equal challengers of one champion on one test side, the k-th of which is its k-th use.

    Half of each model's error is common to all, so that challengers have in common what the champion has.
    """
    random = np.random.default_rng([9, seed])
    observed = random.normal(10, 3, rows)
    common = observed + random.normal(size=rows)
    champion = common + random.normal(size=rows)
    for use in range(1, members + 1):
        yield paired(observed, champion, common + random.normal(size=rows), digest=f"family {seed}", uses=use)


def better_or_passed(pair: Paired, primary: str, asked: PromotionSpec) -> tuple[bool, bool]:
    """Is the challenger called better, and does the gate on the primary metric let it through?"""
    result = judged(pair, primary, asked=asked)
    outcome = {one.name: one.outcome for one in gates(result, asked, primary, pair.ruler, (), ())}[primary]
    return result.verdict == "better", outcome == "passed"


def planted_drop(seed: int, rows: int, task: Task) -> tuple[Paired, str]:
    """A challenger whose error is 5 % larger (rmse), or whose accuracy is 5 % smaller, and the metric."""
    random = np.random.default_rng([10, seed])
    if task == "regression":
        observed, error = random.normal(10, 3, rows), random.normal(size=rows)
        worse = 0.8 * error + np.sqrt(1.05**2 - 0.64) * random.normal(size=rows)
        return paired(observed, observed + error, observed + worse, digest=f"{seed}"), "rmse"
    observed = random.integers(2, size=rows).astype(np.float64)
    right = random.random(rows) < 0.8
    spoilt = right & (random.random(rows) < 0.1)
    mended = ~right & (random.random(rows) < 0.2)
    still = (right & ~spoilt) | mended  # 0.8 x 0.9 + 0.2 x 0.2 = 0.76, which is 5 % less than 0.8
    return paired(
        observed,
        np.where(right, observed, 1 - observed),
        np.where(still, observed, 1 - observed),
        task="binary",
        digest=f"{seed}",
    ), "accuracy"
