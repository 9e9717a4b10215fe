"""A bound on the wall time of work that nothing else can stop, such as a search for a pattern.

Python's own ``re`` looks for signals while it searches, so an alarm ends what would take for ever.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import NoReturn, TypeVar

T = TypeVar("T")

_AGAIN = 0.5
"""Seconds after which the alarm rings once more: an exception in a destructor or a callback is dropped."""


class TooLong(Exception):  # noqa: N818  # says what happened; it is no mistake of anybody's
    """The work did not end within its time."""


class NotHere(Exception):  # noqa: N818  # as above
    """Only the main thread of a process hears an alarm."""


class _Rung(BaseException):
    """What the alarm raises: no library's ``except Exception`` takes it for its own."""


def within(seconds: float, work: Callable[[], T]) -> T:
    """What ``work`` returns, if it returns within ``seconds`` of wall time, else raises TooLong.

    Raises NotHere, without starting, outside the main thread. While it lasts SIGALRM is taken; the handler and
    the timer that were there before are put back, the timer with the time that it had left.
    """
    if threading.current_thread() is not threading.main_thread():
        raise NotHere
    armed = True

    def ring(*_: object) -> None:
        if armed:
            _raise_rung()

    handler = signal.signal(signal.SIGALRM, ring)
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN)
    try:
        try:
            return work()
        finally:
            armed = False
    except _Rung as rung:
        raise TooLong from rung
    finally:
        armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler if handler is not None else signal.SIG_DFL)
        if left:
            signal.setitimer(signal.ITIMER_REAL, left, interval)


def _raise_rung() -> NoReturn:
    raise _Rung
