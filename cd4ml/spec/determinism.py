"""What is known beforehand to make two runs of the same fingerprint differ, and by how much.

Seeds are set and threads pinned, and what is stored is canonical, so that a run gives the same bytes again. A few
estimators do not promise that, whatever their seed:

- Forests and bagging with several threads add up their trees' predictions in the order in which threads finish
  (scikit-learn's ``_accumulate_prediction``), so a sum may differ in its last digits.
- XGBoost's linear booster with the updater ``shotgun``, its default, updates coefficients in parallel without
  locks (XGBoost's documentation of ``updater`` calls it non-deterministic).
- On a GPU, sums of floats depend on the order in which blocks finish.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_SUMMED_BY_THREADS = ("RandomForest", "ExtraTrees")
_ROUNDING = 1e-9
_LOCKLESS = 1e-2
_DEVICE = 1e-4


@dataclass(frozen=True)
class Determinism:
    """Whether a run gives the same bytes again, as far as is known; ``why`` not, a line for each reason.

    ``tolerance`` is the relative difference up to which metrics of a run again count as equal; 0 where they must be.
    """

    deterministic: bool
    why: tuple[str, ...] = ()
    tolerance: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """What a run record says of it."""
        if self.deterministic:
            return {"deterministic": True}
        return {"deterministic": False, "nondeterminism": {"why": list(self.why), "tolerance": self.tolerance}}


def determinism_of(estimator: Mapping[str, Any], threads: int) -> Determinism:
    """What the blueprint of an estimator (nested ``_target_`` mappings), run on so many threads, lets one expect."""
    found = [reason for blueprint in _blueprints(estimator) for reason in _reasons(blueprint, threads)]
    if not found:
        return Determinism(True)
    return Determinism(False, tuple(dict.fromkeys(why for why, _ in found)), max(tolerance for _, tolerance in found))


def _blueprints(value: Any) -> Iterator[Mapping[str, Any]]:
    stack = [value]
    while stack:
        inner = stack.pop()
        if isinstance(inner, Mapping):
            if isinstance(inner.get("_target_"), str):
                yield inner
            stack.extend(inner.values())
        elif isinstance(inner, list | tuple):
            stack.extend(inner)


def _reasons(blueprint: Mapping[str, Any], threads: int) -> Iterator[tuple[str, float]]:
    name = str(blueprint["_target_"]).rpartition(".")[2]
    jobs = blueprint.get("n_jobs")
    several = isinstance(jobs, int) and jobs not in (0, 1)
    if name.startswith(_SUMMED_BY_THREADS) and several:
        yield f"{name} with n_jobs {jobs} adds up predictions in the order in which threads finish", _ROUNDING
    if str(blueprint.get("device") or "cpu").partition(":")[0] != "cpu":
        yield f"{name} runs on {str(blueprint['device'])[:20]}, where sums depend on the order of blocks", _DEVICE
    shotgun = blueprint.get("booster") == "gblinear" and blueprint.get("updater", "shotgun") == "shotgun"
    if shotgun and (several or (threads > 1 and jobs is None)):
        yield f"{name} with the updater shotgun changes coefficients in parallel without locks", _LOCKLESS
