"""Build a scikit-learn estimator from plain data (design, decision 17).

A mapping with ``_target_`` stands for an object of that class, its other keys for the parameters. The target
comes from a branch, so it is no import path that is followed wherever it leads: it must name a public class,
defined in a package that the base branch allows, that follows the scikit-learn estimator protocol. Nothing
is called but the constructors of such classes, with plain data or further such objects.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cd4ml.errors import ConfigError, Problem
from cd4ml.spec.parse import TARGET

MAX_DEPTH = 12

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_CLOSED = frozenset({"externals", "tests", "testing", "conftest", "datasets", "dask", "spark"})
"""Modules of an allowed package that hold other people's code, tests or downloads."""

_TUPLES = frozenset({"steps", "transformers", "transformer_list", "estimators"})
"""Parameters that hold lists of (name, object, ...), which YAML can only write as lists."""


@dataclass(frozen=True)
class _Site:
    """Where in the configuration we are, what is allowed there, and what was found wrong so far."""

    allowed: tuple[str, ...]
    file: str
    where: str
    depth: int = 0
    problems: list[Problem] = field(default_factory=list)

    def at(self, step: str | int) -> _Site:
        where = f"{self.where}[{step}]" if isinstance(step, int) else f"{self.where}.{step}"
        return _Site(self.allowed, self.file, where, self.depth + 1, self.problems)

    def problem(self, message: str, hint: str = "") -> None:
        self.problems.append(Problem(self.file, self.where, message, hint))


@dataclass(frozen=True)
class _Blueprint:
    """A checked class and its parameters, in which further blueprints may lie."""

    target: type[Any]
    params: Mapping[str, Any]
    where: str


def build_estimator(
    mapping: Mapping[str, Any],
    allowed_packages: tuple[str, ...],
    seed: int,
    where: str = "model.estimator",
    file: str = "params.yaml",
) -> Any:
    """The estimator that ``mapping`` describes, not fitted.

    A ``random_state`` that is left open (or null) becomes ``seed``, an ``n_jobs`` that is left open 1, in every
    estimator of the tree, so that the outcome is a function of the configuration. Raises ConfigError with
    every problem: targets that are not allowed, parameters that the class does not take, ``memory``.
    Imports modules of ``allowed_packages``; no other effect.
    """
    site = _Site(tuple(allowed_packages), file, where)
    blueprint = _checked(mapping, site, top=True)
    if site.problems or blueprint is None:
        raise ConfigError(site.problems)
    estimator = _built(blueprint, seed, site)
    if site.problems:
        raise ConfigError(site.problems)
    return estimator


def check_estimator(
    mapping: Mapping[str, Any],
    allowed_packages: tuple[str, ...],
    where: str = "model.estimator",
    file: str = "params.yaml",
) -> tuple[Problem, ...]:
    """What ``build_estimator`` would refuse, without building anything. Imports modules of ``allowed_packages``."""
    site = _Site(tuple(allowed_packages), file, where)
    _checked(mapping, site, top=True)
    return tuple(site.problems)


def _checked(mapping: Mapping[str, Any], site: _Site, top: bool = False) -> _Blueprint | None:
    target = _resolved(mapping.get(TARGET), site.at(TARGET), top)
    if target is None:
        return None
    known = _parameters(target)
    params: dict[str, Any] = {}
    for key, value in mapping.items():
        if key == TARGET:
            continue
        here = site.at(str(key))
        if key not in known:
            near = difflib.get_close_matches(str(key), sorted(known), n=1)
            here.problem(f"{target.__name__} takes no such parameter", f"did you mean {near[0]}?" if near else "")
        elif key == "memory" and value is not None:
            here.problem("must be null", "a cache on disk would make the result depend on earlier runs")
        else:
            params[key] = _plain(value, here, as_tuples=key in _TUPLES)
    missing = [name for name, needed in known.items() if needed and name not in mapping]
    for name in missing:
        site.at(name).problem(f"{target.__name__} needs this parameter")
    return _Blueprint(target, params, site.where)


def _plain(value: Any, site: _Site, as_tuples: bool = False) -> Any:
    """Plain data as it is, mappings with a target as blueprints."""
    if site.depth > MAX_DEPTH * 3:
        site.problem(f"is nested deeper than {MAX_DEPTH} estimators")
        return None
    if isinstance(value, Mapping):
        if TARGET in value:
            return _checked(value, site)
        return {key: _plain(item, site.at(str(key))) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [_plain(item, site.at(index)) for index, item in enumerate(value)]
        return [tuple(item) if as_tuples and isinstance(item, list) else item for item in items]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    site.problem(f"must be plain data, not {type(value).__name__}")
    return None


def _resolved(target: Any, site: _Site, top: bool) -> type[Any] | None:
    """The class that a target names, or nothing and a problem."""
    if not isinstance(target, str):
        site.problem("must name a class, such as sklearn.linear_model.Ridge")
        return None
    parts = target.split(".")
    root = parts[0]
    if root not in site.allowed:
        site.problem(f"{target[:120]!r} is not in an allowed package", f"allowed are {', '.join(site.allowed)}")
        return None
    if len(parts) < 2 or len(target) > 200 or not all(_NAME.fullmatch(part) for part in parts) or _CLOSED & set(parts):
        site.problem(f"{target[:120]!r} does not name a public class")
        return None
    found = _found(parts)
    reason = _unfit(found, root, top)
    if reason:
        near = _nearest(parts)
        site.problem(f"{target!r} {reason}", f"did you mean {near}?" if near and found is None else "")
        return None
    return found  # type: ignore[no-any-return]  # _unfit has made sure that it is a class


def _found(parts: list[str]) -> Any:
    """What the dotted name stands for: an attribute of the module that all but its last part name."""
    try:
        return getattr(importlib.import_module(".".join(parts[:-1])), parts[-1], None)
    except ImportError:
        return None


def _nearest(parts: list[str]) -> str:
    try:
        names = [name for name in dir(importlib.import_module(".".join(parts[:-1]))) if _NAME.fullmatch(name)]
    except ImportError:
        return ""
    return next((".".join([*parts[:-1], name]) for name in difflib.get_close_matches(parts[-1], names, n=1)), "")


def _unfit(found: Any, root: str, top: bool) -> str:
    """Why something may not stand for an estimator; empty when it may."""
    if found is None:
        return "does not exist"
    if not inspect.isclass(found):
        return "is not a class"
    if found.__module__.split(".")[0] != root or _CLOSED & set(found.__module__.split(".")):
        return f"is not defined in {root}"
    if found.__name__.startswith("_") or inspect.isabstract(found):
        return "is not a public, concrete class"
    needed = ("get_params", "set_params", *(("fit", "predict") if top else ()))
    lacking = [name for name in needed if not callable(getattr(found, name, None))]
    return f"does not follow the scikit-learn estimator protocol: no {', '.join(lacking)}" if lacking else ""


def _parameters(target: type[Any]) -> dict[str, bool]:
    """The names that a constructor takes, and whether each must be given.

    A ``**kwargs`` swallows every name (XGBoost only warns of unknown ones), so the classes above say what is
    meant by it.
    """
    known: dict[str, bool] = {}
    for base in target.__mro__:
        if "__init__" not in vars(base) or base is object:
            continue
        parameters = list(inspect.signature(base.__init__).parameters.values())[1:]  # type: ignore[misc]  # of a class
        for parameter in parameters:
            if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD):
                known.setdefault(parameter.name, parameter.default is parameter.empty)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            break
    return known


def _built(blueprint: _Blueprint, seed: int, site: _Site) -> Any:
    known = _parameters(blueprint.target)
    params = {key: _filled(value, seed, site) for key, value in blueprint.params.items()}
    for name, value in (("random_state", seed), ("n_jobs", 1)):
        if name in known and params.get(name) is None:
            params[name] = value
    try:
        return blueprint.target(**params)
    except (TypeError, ValueError) as error:
        message = f"{blueprint.target.__name__} refuses its parameters: {type(error).__name__}"
        site.problems.append(Problem(site.file, blueprint.where, message, str(error)[:200]))
        return None


def _filled(value: Any, seed: int, site: _Site) -> Any:
    if isinstance(value, _Blueprint):
        return _built(value, seed, site)
    if isinstance(value, dict):
        return {key: _filled(item, seed, site) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_filled(item, seed, site) for item in value)
    return value
