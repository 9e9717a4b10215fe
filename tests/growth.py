"""How the work of a function grows with what it is given: a ratio of two looks in one process, never a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Given = TypeVar("Given")

TIMES = 8
"""How much larger the larger one is."""
_LOOKS = 3


def grows_linearly(work: Callable[[Given], object], small: Given, large: Given) -> bool:
    """Does ``large``, which is ``TIMES`` as much as ``small``, take far less than the square of that?

    Of several looks the quickest counts, in time of the processor: what else the machine does only ever adds. Halfway
    to the square there is room for what a cold cache costs.
    """
    work(small)
    return _quickest(work, large) < TIMES * TIMES / 2 * max(_quickest(work, small), _CLOCK)


_CLOCK = 1e-4
"""Seconds below which nothing can be told apart."""


def _quickest(work: Callable[[Given], object], given: Given) -> float:
    taken = []
    for _ in range(_LOOKS):
        began = time.process_time()
        work(given)
        taken.append(time.process_time() - began)
    return min(taken)
