"""How long to wait for a forge, and what its refusals mean in one line.

``pause`` decides from what was answered; ``patiently`` does it. Clock and sleep are given, so that nothing has to wait
in order to be tried.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import count
from typing import TypeVar

from cd4ml.gateways.forge import ForgeError, GoneError, NotAllowedError, UnclearError
from cd4ml.spec.text import one_line

T = TypeVar("T")

_LIMITED = re.compile(r"rate limit|abuse detection|retry your request again later|retry later", re.IGNORECASE)
_ACCEPTED = re.compile(r"[a-z_]+=(?:read|write|admin)(?:[,;] ?[a-z_]+=(?:read|write|admin)){0,9}")
_SECONDARY = 60.0
"""Seconds that GitHub asks to wait where a secondary limit names none."""
_FIRST_PAUSE = 1.0
_MOST_TEXT = 200


@dataclass(frozen=True)
class Failure:
    """A call that gave nothing: the HTTP status (nothing when no answer came), what was said, the headers in small
    letters. ``is_final``: the next answer would be the same (a certificate that is not trusted, an unreadable one)."""

    status: int | None
    message: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    is_final: bool = False

    @property
    def is_limited(self) -> bool:
        """Too many requests: nothing was done, and the same may be asked later."""
        spent = self.headers.get("x-ratelimit-remaining") == "0" or "retry-after" in self.headers
        return self.status == 429 or (self.status == 403 and (spent or _LIMITED.search(self.message) is not None))

    @property
    def passes(self) -> bool:
        """Might the same call succeed in a while, without anybody doing anything?"""
        if self.is_final:
            return False
        return self.status is None or self.status == 408 or self.status >= 500 or self.is_limited

    @property
    def is_unclear(self) -> bool:
        """Of a write: may it have been done all the same? (409 and 422 say that something else stands there.)"""
        return not self.is_limited and (self.passes or self.status in (409, 422))


@dataclass(frozen=True)
class Patience:
    """How often to try, and how many seconds to wait in all for one call. ``tell`` gets a line before a long wait."""

    attempts: int = 5
    longest: float = 900.0
    sleep: Callable[[float], None] = time.sleep
    now: Callable[[], float] = time.time
    tell: Callable[[str], None] = lambda _: None


@dataclass(frozen=True)
class Call:
    """One call, for messages: the ``forge`` and repository, what it does, the ``right`` it takes (``checks: write``).

    ``repeatable`` is false for a write that is to be read back before it is tried again.
    """

    forge: str
    repository: str
    what: str
    right: str
    token: str
    repeatable: bool = True


def pause(failure: Failure, attempt: int, now: float) -> float | None:
    """Seconds to wait before the call is made again, ``attempt`` counted from 0; nothing when it would not help."""
    if not failure.passes:
        return None
    asked = _retry_after(failure.headers.get("retry-after", ""), now)
    if asked is not None:
        return asked
    if not failure.is_limited:
        return _FIRST_PAUSE * 2.0**attempt
    for name in ("x-ratelimit-reset", "ratelimit-reset"):
        reset = _number(failure.headers.get(name, ""))
        remaining = failure.headers.get(name.replace("reset", "remaining"), "0")
        if reset is not None and remaining == "0":
            return max(0.0, reset - now) + 1
    return _SECONDARY * 2.0**attempt


def _retry_after(text: str, now: float) -> float | None:
    seconds = _number(text)
    if seconds is not None:
        return seconds
    with suppress(ValueError, TypeError, OverflowError):
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    return None


def _number(text: str) -> float | None:
    """Of a header that a forge wrote: finite and not negative, or nothing."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and 0 <= value < 1e11 else None


def patiently(
    patience: Patience,
    call: Call,
    action: Callable[[], T],
    caught: tuple[type[Exception], ...],
    failure_of: Callable[[Exception], Failure],
) -> T:
    """What ``action`` gives, tried again while waiting may help. Raises ForgeError and its kinds."""
    waited = 0.0
    for attempt in count():
        try:
            return action()
        except caught as error:
            failure = failure_of(error)
            seconds = pause(failure, attempt, patience.now())
            if failure.is_unclear and not call.repeatable:
                patience.sleep(min(seconds or 0.0, patience.longest))
                raise UnclearError(f"{_start(call)}: {_said(failure) or 'no answer'}") from error
            if seconds is None or attempt + 1 >= patience.attempts or waited + seconds > patience.longest:
                raise as_error(failure, call, patience.now()) from error
        if failure.is_limited:
            patience.tell(f"{call.forge} lets no more requests through for now: waiting {seconds:.0f} s")
        elif attempt or seconds >= 10 or failure.status is None:  # one that passes at once is nobody's concern
            why = f"answers {failure.status}" if failure.status else f"gives no answer ({_said(failure)})"
            patience.tell(f"{call.forge} {why}: trying again in {seconds:.0f} s")
        patience.sleep(seconds)
        waited += seconds
    raise AssertionError  # count() has no end


def as_error(failure: Failure, call: Call, now: float) -> ForgeError:
    """The refusal in one line that says what to do about it."""
    start, said, status = _start(call), _said(failure), failure.status
    tail = f" ({said})" if said else ""
    if status is None:
        return ForgeError(f"{start}: no answer{tail}")
    if failure.is_limited:
        wait = pause(failure, 0, now) or 0.0
        when = datetime.fromtimestamp(min(now + wait, 4e9), UTC)
        return ForgeError(f"{start}: its limit of requests is used up; try again after {when:%Y-%m-%d %H:%M:%S} UTC")
    if status == 401:
        return ForgeError(f"{start}: the token in {call.token} is not accepted (expired or revoked?){tail}")
    if status == 403:
        return NotAllowedError(f"{start}: the token in {call.token} lacks a right, {_right(failure, call)}{tail}")
    if status == 404:
        return GoneError(
            f"{start}: not found: is {call.repository} the right repository, and may the token in {call.token} "
            f"see it ({_right(failure, call)})?"
        )
    return ForgeError(f"{start}: answered {status}{tail}")


def _right(failure: Failure, call: Call) -> str:
    """What the forge says that it asks for, where it says so, else what we know."""
    told = failure.headers.get("x-accepted-github-permissions", "")
    if _ACCEPTED.fullmatch(told):
        return told.replace("=", ": ").replace("_", " ")
    return call.right


def _start(call: Call) -> str:
    return f"{call.forge}, {call.repository}: {call.what}"


def _said(failure: Failure) -> str:
    return one_line(failure.message, _MOST_TEXT)
