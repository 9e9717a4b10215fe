"""Arguments that are what they are declared to be are taken as they are.

Newer releases of typer convert every argument, defaults among them, with a validation library whose import takes longer
than most commands do. What is plainly right needs none of it; all else is left to typer, with its words for a mistake.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

_INTEGER = re.compile(r"0|[1-9][0-9]{0,14}")
_OF_PATHS = ("exists", "writable", "resolve_path", "allow_dash", "path_type")
"""What else may be asked of a path, which typer sees to."""

Command = TypeVar("Command")


class _NotPlainError(ValueError):
    """To be converted by typer."""


def taking_plainly(command: Command) -> Command:
    """The command, which from now on takes plain arguments as they are; of a group, so do its commands."""
    one: Any = command
    one.get_params = partial(_params, one.get_params)  # which makes that of --help as well
    for inner in getattr(one, "commands", {}).values():
        taking_plainly(inner)
    return command


def _params(params_of: Callable[[Any], list[Any]], context: Any) -> list[Any]:
    params = params_of(context)
    for param in params:
        # an older typer, which describes no types, converts by itself at no cost
        if hasattr(param, "type_descriptor") and not isinstance(param.process_value, partial):
            param.process_value = partial(_processed, param, param.process_value)
    return params


def _processed(param: Any, convert: Callable[[Any, Any], Any], context: Any, value: Any) -> Any:
    try:
        plain = _plain(param, value)
    except _NotPlainError:
        return convert(context, value)
    return param.callback(context, param, plain) if param.callback is not None else plain


def _plain(param: Any, value: Any) -> Any:
    """What typer would make of the value. Raises _NotPlainError where that is not plain to see."""
    declared, info = param.type_descriptor.annotation, param.type_descriptor.parameter_info
    several = param.multiple or param.nargs == -1
    if param.nargs not in (1, -1) or info.parser is not None:
        raise _NotPlainError
    if value is None and not param.required:
        return () if several else None
    if several:
        if declared != list[str] or not _are_texts(value):
            raise _NotPlainError
        return list(value)
    return _one(declared, info, value)


def _are_texts(value: Any) -> bool:
    """At least one: typer tells of a required argument that is missing."""
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(item, str) for item in value)


def _one(declared: Any, info: Any, value: Any) -> Any:
    if (declared is str and isinstance(value, str)) or (isinstance(value, Enum) and type(value) is declared):
        return value
    if declared is int and not info.clamp and (type(value) is int or _INTEGER.fullmatch(str(value))):
        return _within(int(value), info.min, info.max)
    if declared is Path and isinstance(value, str | Path) and _asks_nothing(info, _OF_PATHS):
        if not (info.file_okay and info.dir_okay) or (Path(value).exists() and not os.access(value, os.R_OK)):
            raise _NotPlainError
        return Path(value)
    raise _NotPlainError


def _within(number: int, least: float | None, most: float | None) -> int:
    if (least is not None and number < least) or (most is not None and number > most):
        raise _NotPlainError
    return number


def _asks_nothing(info: Any, names: Iterable[str]) -> bool:
    return not any(getattr(info, name) for name in names)
