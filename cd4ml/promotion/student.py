"""Student's t distribution: its quantiles for intervals, its tails for p-values, without SciPy's start-up."""

from __future__ import annotations

import math
from functools import cache
from statistics import NormalDist

_NEARLY_NORMAL = 1e7
"""Degrees of freedom from which t and the normal distribution differ by less than 1e-6 at any quantile in use."""

_NORMAL = NormalDist()


def upper_tail(t: float, freedom: float) -> float:
    """P(T > t) for ``freedom`` > 0 degrees of freedom; relative error below 1e-8 for tails down to 1e-100."""
    if freedom >= _NEARLY_NORMAL:
        return 0.5 * math.erfc(t / math.sqrt(2))
    if t < 0:
        return 1.0 - upper_tail(-t, freedom)
    # In this form nothing cancels: x is near 1 only where t is near 0.
    return 0.5 * _incomplete_beta(freedom / (freedom + t * t), t * t / (freedom + t * t), freedom / 2, 0.5)


@cache
def quantile(tail: float, freedom: float) -> float:
    """The t with P(T > t) = ``tail``, for 0 < tail <= 0.5; infinite where it lies beyond 1e150."""
    if freedom >= _NEARLY_NORMAL:
        return -_NORMAL.inv_cdf(tail)
    low, high = 0.0, 1.0
    while upper_tail(high, freedom) > tail:
        low, high = high, high * 2
        if high > 1e150:
            return math.inf
    t, wanted = high, math.log(tail)
    for _ in range(200):
        found = upper_tail(t, freedom)
        low, high = (t, high) if found > tail else (low, t)
        # Newton's step on the logarithm, which is nearly straight; a half where it leaves the bracket.
        step = found * (math.log(found) - wanted) / _density(t, freedom) if found > 0 else math.inf
        ahead = t + step if low < t + step < high else (low + high) / 2
        if abs(ahead - t) <= 1e-14 * ahead:
            break
        t = ahead
    return t


def _density(t: float, freedom: float) -> float:
    log_beta = math.lgamma(freedom / 2) + math.lgamma(0.5) - math.lgamma((freedom + 1) / 2)
    return math.exp(-(freedom + 1) / 2 * math.log1p(t * t / freedom) - log_beta) / math.sqrt(freedom)


def _incomplete_beta(x: float, rest: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b), with ``rest`` = 1 - x.

    By its continued fraction (Abramowitz and Stegun 1964, 26.5.8), evaluated by Lentz's method, on the side where it
    converges fast.
    """
    if x <= 0:
        return 0.0
    if rest <= 0:
        return 1.0
    if x > (a + 1) / (a + b + 2):
        return 1.0 - _incomplete_beta(rest, x, b, a)
    # Of x near 1 the logarithm is taken of what is left, which is known more exactly.
    of_x = math.log1p(-rest) if rest < 0.5 else math.log(x)
    of_rest = math.log1p(-x) if x < 0.5 else math.log(rest)
    beta = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    front = math.exp(a * of_x + b * of_rest - beta) / a
    return front * _fraction(x, a, b)


def _fraction(x: float, a: float, b: float) -> float:
    least = 1e-300
    c, d = 1.0, 1.0 / _away(1.0 - (a + b) * x / (a + 1), least)
    value = d
    for m in range(1, 20_000):
        for step in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1.0 / _away(1.0 + step * d, least)
            c = _away(1.0 + step / c, least)
            value *= d * c
        if abs(d * c - 1.0) < 1e-15:
            break
    return value


def _away(value: float, least: float) -> float:
    """A divisor that is not 0."""
    return value if abs(value) > least else least
