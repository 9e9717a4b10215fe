"""The measure that tests of hostile texts use can fail."""

from __future__ import annotations

from tests.growth import TIMES, grows_linearly


def test_the_square_is_told_from_what_grows_linearly() -> None:
    assert grows_linearly(lambda length: sum(range(length)), 100_000, 100_000 * TIMES)
    assert not grows_linearly(lambda length: sum(range(length * length)), 200, 200 * TIMES)
