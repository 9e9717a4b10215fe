"""Student's t against SciPy's, which the tests have and a command need not import."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats  # type: ignore[import-untyped]  # which scikit-learn brings along

from cd4ml.promotion.student import quantile, upper_tail

FREEDOM = st.one_of(st.integers(1, 5000), st.sampled_from([99_999, 5_000_000, 20_000_000]))


@settings(deadline=None)
@given(st.floats(-40, 40), FREEDOM)
def test_the_tail_is_scipy_s(t: float, freedom: int) -> None:
    known = float(stats.t.sf(t, freedom))
    if known > 1e-100:
        assert upper_tail(t, freedom) == pytest.approx(known, rel=1e-4 if freedom > 1e7 else 1e-7)


@settings(deadline=None)
@given(st.floats(-12, math.log10(0.5)), FREEDOM)
def test_the_quantile_is_scipy_s(power: float, freedom: int) -> None:
    known = float(stats.t.isf(10**power, freedom))
    assert quantile(10**power, freedom) == pytest.approx(known, rel=1e-5, abs=1e-7)


def test_a_quantile_beyond_all_numbers_is_infinite() -> None:
    assert quantile(1e-200, 1) == math.inf
