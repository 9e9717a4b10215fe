"""Call code that is not ours, and tell what it raised in words that hold nothing of the data."""

from __future__ import annotations

import re
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cd4ml.errors import Cd4mlError, StageFailed

_LIBRARIES = frozenset({"sklearn", "xgboost"})
_ABOUT_PARAMETERS = frozenset({"InvalidParameterError", "XGBoostError"})
_BAD_PARAMETER = re.compile(r"The '(\w{1,60})' parameter of|Parameter (?:format for )?(\w{1,60})")


def guarded(stage: str, subject: Any, method: str, *arguments: Any) -> Any:
    """``subject.method(*arguments)`` with whatever it raises turned into StageFailed; warnings are dropped."""
    return called(stage, subject, lambda: getattr(subject, method)(*arguments))


def called(stage: str, subject: Any, call: Callable[[], Any]) -> Any:
    """What ``call``, which is about ``subject``, gives.

    Raises StageFailed: transient when memory runs out, deterministic for any other exception. Errors of cd4ml's own
    are left as they are. Warnings are dropped.
    """
    name = type(subject).__name__
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return call()
    except Cd4mlError:
        raise
    except MemoryError as error:
        raise StageFailed(stage, f"{name} ran out of memory", "transient") from error
    except Exception as error:  # it may raise anything, and that is a result
        home = type(subject).__module__.partition(".")[0]
        raise StageFailed(stage, explain(error, name, home)) from error


def explain(error: BaseException, name: str, home: str = "") -> str:
    """What was raised by something called ``name`` of the top-level package ``home``.

    A library's messages may quote cells, so only the exception's type, the innermost function of the library (or of
    ``home``, with its line) and, where the message is about a parameter, its name are told.
    """
    about = _BAD_PARAMETER.search(str(error)) if type(error).__name__ in _ABOUT_PARAMETERS else None
    parameter = f" about parameter {(about.group(1) or about.group(2))!r}" if about else ""
    return f"{type(error).__name__} in {name}{parameter}{_place(error, home)}"


def _place(error: BaseException, home: str) -> str:
    homes = _LIBRARIES | {home}
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        packages = homes & {*path.parts, path.stem}
        if packages:
            line = "" if packages & _LIBRARIES else f" (line {frame.lineno})"
            return f", in {path.stem}.{frame.name}{line}"
    return ""
