"""The base branch's conditions for promotion, each with what was asked and what was measured, in words with numbers.

A gate passes on what was shown, never on what is missing: where the two models are not comparable none does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from cd4ml.promotion.judgement import Judged
from cd4ml.promotion.review import CostRow, ExpectationTold, Gate, Interval, MetricJudged, Ruler
from cd4ml.spec.experiment import PromotionSpec

TRAINING, MODEL, PREDICTION = "training", "model", "prediction"
"""The costs (``CostRow.name``) that limits are set for: seconds, bytes, seconds a row."""

_NAMED = 5
"""Slices and expectations that a gate names; the rest is counted."""


def gates(
    judged: Judged,
    policy: PromotionSpec,
    primary: str,
    ruler: Ruler | None,
    cost: Sequence[CostRow],
    expectations: Sequence[ExpectationTold],
    slices: Sequence[str] = (),
) -> tuple[Gate, ...]:
    """Every gate that the policy sets, in one order: rows, the primary metric, other metrics, slices, data, cost.

    ``expectations`` are those that were not met; ``slices`` are the columns that the base branch declares. A gate of
    slices or expectations that is to warn is none; a critical expectation holds in any case. Model changes of equal
    worth pass a gate on the primary metric in a share of at most 1 - confidence of families, however many share a test
    side (``judgement.level_of_use``).
    """
    found = [_rows(policy, ruler), _primary(judged, policy, primary, ruler)]
    found += [_worsening(judged.of(name), name, most) for name, most in policy.max_worsening.items()]
    found += _slices(judged, policy, slices)
    found += _expectations(policy, expectations)
    found += _limits(policy, {one.name: one for one in cost})
    if judged.verdict != "not comparable":
        return tuple(found)
    return tuple(replace(one, outcome="held", measured=_incomparable(one, judged)) for one in found)


def _incomparable(gate: Gate, judged: Judged) -> str:
    return gate.measured if gate.outcome == "held" else f"{gate.measured}; not comparable: {judged.reason}"


def _gate(name: str, asked: str, measured: str, passed: bool) -> Gate:
    return Gate(name, asked, measured, "passed" if passed else "held")


# ── rows and the primary metric ──────────────────────────────────────────────────────────────────────────────────


def _rows(policy: PromotionSpec, ruler: Ruler | None) -> Gate:
    rows, declared = (ruler.rows, ruler.declared) if ruler else (0, 0)
    least = policy.rows_asked(declared)
    share = f" ({100 * policy.min_share:g} % of {declared:,})" if least > max(policy.min_rows, 2) else ""
    asked = f"at least {least:,} test rows that both were scored on{share}"
    return _gate("rows", asked, f"{rows:,}", ruler is not None and rows >= least)


def _primary(judged: Judged, policy: PromotionSpec, primary: str, ruler: Ruler | None) -> Gate:
    """Better: the corrected interval leaves no loss, and the gain is as large as asked. Not worse: it leaves no loss of
    more than the margin.
    """
    name = primary or "primary metric"
    asked = _asked_of_primary(policy)
    metric = judged.of(primary)
    found = metric and _gain(metric)
    if judged.verdict == "not comparable" or metric is None or not found:
        reason = judged.reason if judged.verdict == "not comparable" else f"{name} has no interval"
        return _gate(name, asked, f"not comparable: {reason}", False)
    gain, around = found
    measured = f"{_gained(gain)}; {_words(around)}{_of_use(ruler)}"
    if policy.require == "not worse":
        return _gate(name, asked, measured, around.low >= -policy.margin)
    return _gate(name, asked, measured, around.low > 0 and gain >= policy.min_improvement)


def _asked_of_primary(policy: PromotionSpec) -> str:
    if policy.require == "not worse":
        return f"not worse by more than {policy.margin:.4g}, beyond chance"
    least = f", and by at least {policy.min_improvement:.4g}" if policy.min_improvement > 0 else ""
    return f"better, beyond chance{least}"


def _gain(metric: MetricJudged) -> tuple[float, Interval] | None:
    """Of a metric, by how much it got better and the corrected interval of that; nothing where it was not judged."""
    if metric.change is None or metric.corrected is None or metric.direction is None:
        return None
    if metric.direction == "maximize":
        return metric.change, metric.corrected
    return -metric.change, Interval(-metric.corrected.high, -metric.corrected.low)


def _gained(gain: float) -> str:
    if gain == 0:
        return "no change"
    return f"better by {gain:.4g}" if gain > 0 else f"worse by {-gain:.4g}"


def _words(around: Interval) -> str:
    """An interval of a gain, in words."""
    if around.low == around.high == 0:
        return "chance allows no change"
    if around.low == around.high:
        return f"chance allows {abs(around.low):.4g} {'better' if around.low > 0 else 'worse'}, no more and no less"
    if around.low >= 0:
        return f"chance allows {abs(around.low):.4g} to {around.high:.4g} better"
    if around.high <= 0:
        return f"chance allows {abs(around.high):.4g} to {-around.low:.4g} worse"
    return f"chance allows from {-around.low:.4g} worse to {around.high:.4g} better"


def _of_use(ruler: Ruler | None) -> str:
    if ruler is None or ruler.uses <= 1:
        return ""
    return f", corrected for {ruler.uses:,} uses of this test side"


# ── other metrics, slices, expectations ──────────────────────────────────────────────────────────────────────────


def _worsening(metric: MetricJudged | None, name: str, most: float) -> Gate:
    """By the values as measured: how far the primary metric may be chance is asked once, of that one."""
    asked = f"worse by at most {most:.4g}"
    if metric is None:
        return _gate(name, asked, "it is not measured", False)
    if metric.change is None:
        return _gate(name, asked, f"missing, or no finite number: {_lacking(metric)}", False)
    if metric.direction is None:
        return _gate(name, asked, "it is not known which way it is better", False)
    worse = metric.change if metric.direction == "minimize" else -metric.change
    return _gate(name, asked, _gained(-worse), worse <= most)


def _lacking(metric: MetricJudged) -> str:
    if metric.champion is None and metric.challenger is None:
        return "champion and challenger"
    return "champion" if metric.champion is None else "challenger"


def _slices(judged: Judged, policy: PromotionSpec, columns: Sequence[str]) -> Iterator[Gate]:
    """Where the answers differ and columns are declared, but no slice was looked at, nothing was shown."""
    if policy.slices != "hold":
        return
    asked = "no slice significantly worse"
    if not judged.slices:
        unseen = bool(columns) and not judged.slices_looked_at and not judged.same
        why = ": no value has enough rows on which the primary metric can be judged" if unseen else ""
        yield _gate("slices", asked, f"none of {judged.slices_looked_at:,}{why}", not unseen)
        return
    named = _listed([f"{one.column} = {one.value}" for one in judged.slices])
    yield _gate("slices", asked, f"{len(judged.slices):,} of {judged.slices_looked_at:,}: {named}", False)


def _expectations(policy: PromotionSpec, unmet: Sequence[ExpectationTold]) -> Iterator[Gate]:
    counted = [one for one in unmet if policy.expectations == "hold" or one.severity == "critical"]
    if policy.expectations != "hold" and not counted:
        return
    asked = "every expectation met" if policy.expectations == "hold" else "every critical expectation met"
    named = _listed([f"{one.type} ({one.column})" if one.column else one.type for one in counted])
    yield _gate("expectations", asked, f"{len(counted):,} not met: {named}" if counted else "all met", not counted)


def _listed(names: Sequence[str]) -> str:
    rest = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + rest


# ── cost ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _limits(policy: PromotionSpec, cost: Mapping[str, CostRow]) -> Iterator[Gate]:
    for name, title, unit, most in (
        (TRAINING, "training time", "s", policy.max_training_seconds),
        (MODEL, "model size", "bytes", policy.max_model_bytes),
        (PREDICTION, "prediction time", "s a row", policy.max_prediction_seconds),
    ):
        if most is not None:
            row = cost.get(name)
            yield _limit(title, unit, most, row.challenger if row else None)


def _limit(title: str, unit: str, most: float, measured: float | None) -> Gate:
    asked = f"at most {_number(most)} {unit}"
    if measured is None or not math.isfinite(measured):
        return _gate(title, asked, "not measured", False)
    return _gate(title, asked, f"{_number(measured)} {unit}", measured <= most)


def _number(value: float) -> str:
    """Four digits that count, and thousands parted, of which none is left out."""
    return f"{value:,.0f}" if abs(value) >= 1000 and abs(value) < 1e15 else f"{value:.4g}"
