"""SIGINT, SIGTERM and SIGHUP end a command in the same orderly way: what runs is ended, nothing is half done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType

from cd4ml.gateways.process import end_children, let_children

_HEARD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass
class Heard:
    """The signal that asked this command to end, or nothing."""

    number: signal.Signals | None = None


@contextmanager
def answering() -> Iterator[Heard]:
    """Turn the signals into KeyboardInterrupt for as long as the block runs; what was ignored (nohup) stays so.

    The programs that this process waits for are ended first, or it would wait on. A second SIGINT interrupts
    the tidying up, too.
    """
    heard = Heard()
    if threading.current_thread() is not threading.main_thread():  # the only one that may set handlers
        yield heard
        return

    def end(number: int, _: FrameType | None) -> None:
        for other in _HEARD[1:]:
            signal.signal(other, signal.SIG_IGN)
        heard.number = heard.number or signal.Signals(number)
        end_children()
        raise KeyboardInterrupt

    let_children()
    before = {number: signal.getsignal(number) for number in _HEARD}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, end)
    try:
        yield heard
    finally:
        for number, handler in before.items():
            with suppress(TypeError):  # one that was not set from Python cannot be set back
                signal.signal(number, handler)
