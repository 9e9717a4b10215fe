"""What must end does end, and the alarm leaves no trace."""

from __future__ import annotations

import re
import signal
import sys
import threading
import time

import pytest

from cd4ml.stages.time_limit import NotHere, TooLong, within


def test_what_is_done_in_time_is_returned() -> None:
    assert within(5, lambda: 42) == 42


def test_a_search_that_takes_for_ever_is_ended() -> None:
    with pytest.raises(TooLong):
        within(0.2, lambda: re.search("^(a+)+$", "a" * 60 + "b"))


def test_work_that_swallows_every_exception_is_ended_all_the_same() -> None:
    def stubborn() -> None:
        while True:
            try:
                time.sleep(10)
            except Exception:  # noqa: BLE001, S112  # this is what is tested
                continue

    with pytest.raises(TooLong):
        within(0.1, stubborn)


def test_an_alarm_that_is_lost_in_a_destructor_rings_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow:
        def __del__(self) -> None:
            time.sleep(0.3)

    def work() -> None:
        value: Slow | None = Slow()
        del value
        time.sleep(10)

    lost: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lost.append)
    with pytest.raises(TooLong):
        within(0.1, work)
    assert lost


def test_an_error_of_the_work_is_passed_on() -> None:
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 // 0)


def test_the_handler_and_the_timer_from_before_are_put_back() -> None:
    def mine(*_: object) -> None: ...

    before = signal.signal(signal.SIGALRM, mine)
    signal.setitimer(signal.ITIMER_REAL, 60)
    try:
        for seconds, work in ((5.0, lambda: None), (0.05, lambda: time.sleep(5))):
            try:
                within(seconds, work)
            except TooLong:
                assert seconds < 1
            assert signal.getsignal(signal.SIGALRM) is mine
            assert 50 < signal.getitimer(signal.ITIMER_REAL)[0] <= 60
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_another_thread_is_refused_before_the_work_begins() -> None:
    done: list[str] = []

    def try_it() -> None:
        try:
            within(5, lambda: done.append("worked"))
        except NotHere:
            done.append("refused")

    thread = threading.Thread(target=try_it)
    thread.start()
    thread.join()
    assert done == ["refused"]
