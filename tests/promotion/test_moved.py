"""Columns that moved: the index of population stability, by hand and by its properties."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cd4ml.promotion.moved import LEAST, MOST_COLUMNS, Binned, binned_numbers, binned_texts, moved_columns, psi

COUNTS = st.lists(st.integers(0, 1000), min_size=1, max_size=12)


def test_the_index_is_the_sum_over_bins_of_the_difference_times_the_logarithm_of_the_ratio() -> None:
    by_hand = (0.25 - 0.5) * math.log(0.25 / 0.5) + (0.75 - 0.5) * math.log(0.75 / 0.5)
    assert psi((5, 5), (1, 3)) == pytest.approx(by_hand)


def test_an_empty_bin_counts_as_a_small_share_and_never_as_infinite() -> None:
    assert psi((10, 0), (0, 10)) == pytest.approx(2 * (1 - 1e-4) * math.log(1 / 1e-4))


@given(counts=COUNTS, factor=st.integers(1, 20))
def test_equal_shares_have_not_moved_however_many_rows_there_are(counts: list[int], factor: int) -> None:
    assert psi(counts, [count * factor for count in counts]) == pytest.approx(0, abs=1e-9)


@given(pair=st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 1000)), min_size=1, max_size=12))
def test_the_index_is_never_negative_and_the_same_both_ways(pair: list[tuple[int, int]]) -> None:
    before, after = [one for one, _ in pair], [other for _, other in pair]
    assert psi(before, after) >= 0
    assert psi(before, after) == pytest.approx(psi(after, before))


def test_numbers_fall_into_the_champions_quantiles_and_missing_ones_into_a_bin_of_their_own() -> None:
    before = np.arange(100.0)
    after = np.concatenate([np.full(50, 99.0), np.full(30, np.nan), np.arange(20.0)])
    found = binned_numbers("x", before, after)
    assert found.before == (*[10] * 10, 0)
    assert found.after == (10, 10, *[0] * 7, 50, 30)


def test_a_number_that_hardly_varies_has_as_many_bins_as_it_has_quantiles() -> None:
    found = binned_numbers("flag", np.array([0.0] * 95 + [1.0] * 5), np.array([0.0] * 5 + [1.0] * 95))
    assert sum(found.before) == sum(found.after) == 100
    assert psi(found.before, found.after) == 0  # every quantile is 0, so that all of it is one bin


def test_infinite_and_empty_columns_are_no_error() -> None:
    found = binned_numbers("x", np.array([-np.inf, 0.0, np.inf, np.nan]), np.array([np.inf] * 4))
    assert (sum(found.before), sum(found.after)) == (4, 4)
    nothing = binned_numbers("x", np.full(5, np.nan), np.arange(5.0))
    assert (nothing.before, nothing.after) == ((0, 5), (5, 0))
    assert binned_numbers("x", np.empty(0), np.empty(0)).before == (0, 0)


def test_texts_beyond_the_champions_top_values_share_a_bin() -> None:
    before = {f"v{number:02}": 100 - number for number in range(25)}
    found = binned_texts("t", before, {"v00": 7, "new": 3}, (2, 1))
    assert found.before == (*[100 - number for number in range(20)], sum(100 - number for number in range(20, 25)), 2)
    assert found.after == (7, *[0] * 19, 3, 1)


def test_only_what_moved_is_told_the_most_moved_first_and_no_more_than_the_limit() -> None:
    moved = [Binned(f"c{number:03}", (50, 50, 0), (50 - number % 40, 50 + number % 40, 0)) for number in range(120)]
    found = moved_columns(moved)
    assert len(found) == MOST_COLUMNS
    assert all(column.psi >= LEAST for column in found)
    assert [column.psi for column in found] == sorted((column.psi for column in found), reverse=True)
    assert moved_columns([Binned("still", (50, 50, 0), (51, 49, 0))]) == ()


def test_the_shares_of_missing_values_are_told() -> None:
    (found,) = moved_columns([Binned("x", (90, 10), (10, 90))])
    assert (found.missing_before, found.missing_after) == (0.1, 0.9)
