"""The primary metric over the index's history: bounded, and this run always in it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cd4ml.promotion.story import MOST_POINTS, Measured, Point, story


def measured(count: int) -> list[Measured]:
    return [Measured(f"r{number}", f"exp/{number}", float(number)) for number in range(count)]


def test_points_are_in_fold_order_and_the_two_that_matter_are_marked() -> None:
    assert story(measured(3), this="r2", champion="r0") == (
        Point(0, 0.0, "exp/0", "champion"),
        Point(1, 1.0, "exp/1", "other"),
        Point(2, 2.0, "exp/2", "this"),
    )


def test_of_too_many_the_newest_stay_and_the_oldest_that_is_marked_too() -> None:
    found = story(measured(MOST_POINTS + 500), this="r3", champion="r1")
    assert len(found) == MOST_POINTS
    assert [(point.order, point.outcome) for point in found[:2]] == [(1, "champion"), (3, "this")]
    assert found[2].order == 502
    assert found[-1].order == MOST_POINTS + 499


@given(count=st.integers(0, 30), most=st.integers(1, 10), this=st.integers(0, 30))
def test_there_are_never_more_points_than_asked_for_and_this_one_is_among_them(
    count: int, most: int, this: int
) -> None:
    found = story(measured(count), this=f"r{this}", most=most)
    assert len(found) == min(count, most)
    assert ("this" in {point.outcome for point in found}) == (this < count)
    assert [point.order for point in found] == sorted(point.order for point in found)


def test_a_champion_that_is_this_very_run_is_marked_as_this() -> None:
    assert [point.outcome for point in story(measured(1), this="r0", champion="r0")] == ["this"]
