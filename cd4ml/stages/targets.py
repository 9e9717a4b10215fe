"""Names in the configuration that stand for code: a class for ``_target_``, a function for a metric.

They come from a branch, so a name is no import path that is followed wherever it leads: it must name something
public that is defined in a package which the base branch allows. Nothing is called here.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from cd4ml.errors import Problem

CLOSED = frozenset({"externals", "tests", "testing", "conftest", "datasets", "dask", "spark"})
"""Modules of an allowed package that hold other people's code, tests or downloads."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_LONGEST = 200
_EXPERIMENTAL: Mapping[str, str] = MappingProxyType(
    {
        "sklearn.model_selection": "sklearn.experimental.enable_halving_search_cv",
        "sklearn.impute": "sklearn.experimental.enable_iterative_imputer",
    }
)
"""Modules some of whose classes are only there once another one was imported."""


@dataclass(frozen=True)
class Site:
    """Where in the configuration we are, what is allowed there, and what was found wrong so far.

    ``unseen`` are allowed packages that must not be imported here: what they hold is taken on trust.
    """

    allowed: tuple[str, ...]
    file: str
    where: str
    depth: int = 0
    problems: list[Problem] = field(default_factory=list)
    unseen: frozenset[str] = frozenset()

    def at(self, step: str | int) -> Site:
        where = f"{self.where}[{step}]" if isinstance(step, int) else f"{self.where}.{step}"
        return replace(self, where=where, depth=self.depth + 1)

    def may_see(self, target: object) -> bool:
        """Whether what a target names may be imported here: a project's own code only where runs are executed."""
        return not (isinstance(target, str) and target.partition(".")[0] in self.unseen)

    def problem(self, message: str, hint: str = "") -> None:
        self.problems.append(Problem(self.file, self.where, message, hint))


@dataclass(frozen=True)
class Broken:
    """Stands for what could not be had because its module does not import; ``error`` is the exception's type."""

    error: str


def resolved(target: Any, site: Site, unfit: Callable[[Any, str], str]) -> Any:
    """What the dotted name ``target`` stands for, or nothing and a problem.

    ``unfit`` gets what was found (nothing when it is not there) and the top-level package, and says why it may not
    stand where it stands (``""``: it may). Imports modules of ``site.allowed``, and of nothing else.
    """
    if not isinstance(target, str):
        site.problem("must name a class, such as sklearn.linear_model.Ridge")
        return None
    parts = target.split(".")
    root = parts[0]
    if root not in site.allowed:
        site.problem(f"{target[:120]!r} is not in an allowed package", f"allowed are {', '.join(site.allowed)}")
        return None
    plain = len(parts) >= 2 and len(target) <= _LONGEST and all(_NAME.fullmatch(part) for part in parts)
    if not plain or CLOSED & set(parts):
        site.problem(f"{target[:120]!r} does not name a public class")
        return None
    found = _found(parts)
    if isinstance(found, Broken):
        site.problem(f"{target!r} cannot be imported: {found.error}")
        return None
    reason = "does not exist" if found is None else unfit(found, root)
    if reason:
        near = _nearest(parts) if found is None else ""
        site.problem(f"{target!r} {reason}", f"did you mean {near}?" if near else "")
        return None
    return found


def foreign(found: Any, root: str) -> str:
    """Why a class or function is not the package's own and public; empty when it is."""
    home = str(getattr(found, "__module__", "")).split(".")
    if home[0] != root or CLOSED & set(home):
        return f"is not defined in {root}"
    return "is not public" if str(getattr(found, "__name__", "_")).startswith("_") else ""


def parameters(target: type[Any]) -> dict[str, inspect.Parameter]:
    """The parameters of a constructor by name.

    A ``**kwargs`` swallows every name (XGBoost only warns of unknown ones), so the classes above say what is
    meant by it.
    """
    known: dict[str, inspect.Parameter] = {}
    for base in target.__mro__:
        if "__init__" not in vars(base) or base is object:
            continue
        there = list(inspect.signature(base.__init__).parameters.values())[1:]  # type: ignore[misc]  # of a class
        for parameter in there:
            if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD):
                known.setdefault(parameter.name, parameter)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in there):
            break
    return known


def is_needed(parameter: inspect.Parameter) -> bool:
    """Whether a parameter must be given."""
    return parameter.default is parameter.empty


def _found(parts: list[str]) -> Any:
    """What the dotted name stands for: an attribute of the module that all but its last part name."""
    module = ".".join(parts[:-1])
    try:
        if module in _EXPERIMENTAL:
            importlib.import_module(_EXPERIMENTAL[module])
        return getattr(importlib.import_module(module), parts[-1], None)
    except ModuleNotFoundError as error:
        # that the module is not there is one thing, that it cannot import what it needs another
        missing = error.name or ""
        return None if f"{module}.".startswith(f"{missing}.") else Broken(type(error).__name__)
    except ImportError as error:
        return None if parts[0] == "sklearn" else Broken(type(error).__name__)
    except Exception as error:  # noqa: BLE001  # the project's own module may raise anything as it is imported
        return Broken(type(error).__name__)


def _nearest(parts: list[str]) -> str:
    try:
        names = [name for name in dir(importlib.import_module(".".join(parts[:-1]))) if _NAME.fullmatch(name)]
    except ImportError:
        return ""
    return next((".".join([*parts[:-1], name]) for name in difflib.get_close_matches(parts[-1], names, n=1)), "")
