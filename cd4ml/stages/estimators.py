"""Build a scikit-learn estimator from plain data (design, decision 17).

A mapping with ``_target_`` stands for an object of that class, its other keys for the parameters. The target
comes from a branch, so it is no import path that is followed wherever it leads: it must name a public class,
defined in a package that the base branch allows, that follows the scikit-learn estimator protocol. Nothing
is called but the constructors of such classes, with plain data or further such objects.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from cd4ml.errors import ConfigError, Problem
from cd4ml.spec.parse import TARGET
from cd4ml.stages.targets import Site, foreign, is_needed, parameters, resolved

MAX_DEPTH = 12

UNSTORABLE: Mapping[str, str] = MappingProxyType(
    {
        "Birch": "its tree of clusters is made of objects that skops does not know",
    }
)
"""Classes of scikit-learn that cannot be stored as skops once they are fitted, and why."""

_RANKERS = frozenset({"XGBRanker"})

SCORE_FUNCTIONS = ("f_classif", "f_regression", "chi2", "r_regression")
"""What ``score_func`` of scikit-learn's univariate selectors may be, by name. (``mutual_info_*`` draw random numbers
without a seed.)"""

_FUNCTIONS_ARE_CLASSES = "write a class with fit and transform in the project's own package"

_TUPLES = frozenset({"steps", "transformers", "transformer_list", "estimators"})
"""Parameters that hold lists of (name, object, ...), which YAML can only write as lists."""


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
    site = Site(tuple(allowed_packages), file, where)
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
    unseen: frozenset[str] = frozenset(),
) -> tuple[Problem, ...]:
    """What ``build_estimator`` would refuse, without building anything.

    Imports modules of ``allowed_packages`` but of those in ``unseen``, whose classes are taken to fit.
    """
    site = Site(tuple(allowed_packages), file, where, unseen=unseen)
    _checked(mapping, site, top=True)
    return tuple(site.problems)


def _checked(mapping: Mapping[str, Any], site: Site, top: bool = False) -> _Blueprint | None:
    if not site.may_see(mapping.get(TARGET)):
        for key, value in mapping.items():
            _plain(value, site.at(str(key)))
        return None
    target = resolved(mapping.get(TARGET), site.at(TARGET), _unfit_at_the_top if top else _unfit_inside)
    if target is None:
        return None
    known = parameters(target)
    params: dict[str, Any] = {}
    for key, value in mapping.items():
        if key == TARGET:
            continue
        here = site.at(str(key))
        if key not in known:
            near = difflib.get_close_matches(str(key), sorted(known), n=1)
            here.problem(f"{target.__name__} takes no such parameter", f"did you mean {near[0]}?" if near else "")
        elif problem := _unfit_value(target, str(key), value) or _unfit_list(target, str(key), value):
            here.problem(*problem)
        else:
            params[key] = _as_declared(_plain(value, here, as_tuples=key in _TUPLES), known[key])
    missing = [name for name, parameter in known.items() if is_needed(parameter) and name not in mapping]
    for name in missing:
        site.at(name).problem(f"{target.__name__} needs this parameter")
    return _Blueprint(target, params, site.where)


def _unfit_value(target: type[Any], key: str, value: Any) -> tuple[str, str] | None:
    """Message and hint for a value that no parameter of this name may have."""
    if value is None:
        return None
    if key == "memory":
        return "must be null", "a cache on disk would make the result depend on earlier runs"
    if target.__name__ == "FunctionTransformer" and key in {"func", "inverse_func"}:
        return "must be null: a function cannot be named in configuration", _FUNCTIONS_ARE_CLASSES
    if key == "score_func" and _selects_features(target) and value not in SCORE_FUNCTIONS:
        return f"must be one of {', '.join(SCORE_FUNCTIONS)}", ""
    return None


def _unfit_list(target: type[Any], key: str, value: Any) -> tuple[str, str] | None:
    """Message and hint for a value where scikit-learn wants a list of named objects, and unpacks whatever it gets."""
    if key not in _TUPLES or not target.__module__.startswith("sklearn."):
        return None
    parts = 3 if key == "transformers" else 2
    if isinstance(value, (list, tuple)) and value and all(_is_named(entry, parts) for entry in value):
        return None
    wanted = "[name, object, columns]" if key == "transformers" else "[name, object]"
    return f"must be a list of {wanted}, at least one", "an object is a mapping with _target_, or a word such as drop"


def _is_named(entry: Any, parts: int) -> bool:
    named = isinstance(entry, (list, tuple)) and len(entry) == parts and isinstance(entry[0], str)
    return named and (entry[1] is None or isinstance(entry[1], (str, Mapping)))


def _as_declared(value: Any, parameter: inspect.Parameter) -> Any:
    """A list where the class declares a tuple, such as ``ngram_range``, becomes one: YAML knows lists only."""
    return tuple(value) if isinstance(value, list) and isinstance(parameter.default, tuple) else value


def _plain(value: Any, site: Site, as_tuples: bool = False) -> Any:
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


def _unfit_at_the_top(found: Any, root: str) -> str:
    """Why something may not stand for the model; empty when it may."""
    return _unfit(found, root) or _lacking(found, "get_params", "set_params", "fit", "predict")


def _unfit_inside(found: Any, root: str) -> str:
    """Why something may not stand inside a model; empty when it may.

    Beside estimators and kernels these are scikit-learn's ways to part rows for cross-validation and to choose
    columns, which do not follow the estimator protocol.
    """
    return _unfit(found, root) or (
        "" if _is_splitter(found) or _chooses_columns(found) else _lacking(found, "get_params", "set_params")
    )


def _unfit(found: Any, root: str) -> str:
    if not inspect.isclass(found):
        return "is not a class"
    reason = foreign(found, root) or ("is abstract" if inspect.isabstract(found) else "")
    if reason:
        return reason
    if root == "sklearn" and found.__name__ in UNSTORABLE:
        return f"cannot be stored: {UNSTORABLE[found.__name__]}"
    return "ranks rows in groups, which is no task of cd4ml" if found.__name__ in _RANKERS else ""


def _lacking(found: type[Any], *needed: str) -> str:
    lacking = [name for name in needed if not callable(getattr(found, name, None))]
    return f"does not follow the scikit-learn estimator protocol: no {', '.join(lacking)}" if lacking else ""


def _is_splitter(found: type[Any]) -> bool:
    return all(callable(getattr(found, name, None)) for name in ("split", "get_n_splits"))


def _chooses_columns(found: type[Any]) -> bool:
    return f"{found.__module__}.{found.__name__}" == "sklearn.compose._column_transformer.make_column_selector"


def _selects_features(found: type[Any]) -> bool:
    return found.__module__.startswith("sklearn.feature_selection.")


def _built(blueprint: _Blueprint, seed: int, site: Site) -> Any:
    known = parameters(blueprint.target)
    params = {key: _filled(value, seed, site) for key, value in blueprint.params.items()}
    if params.get("score_func") is not None and _selects_features(blueprint.target):
        import sklearn.feature_selection

        params["score_func"] = getattr(sklearn.feature_selection, params["score_func"])
    # a splitter that does not shuffle refuses a seed
    draws = "shuffle" not in known or not _is_splitter(blueprint.target) or params.get("shuffle")
    for name, value in (("random_state", seed if draws else None), ("n_jobs", 1)):
        if name in known and params.get(name) is None and value is not None:
            params[name] = value
    try:
        return blueprint.target(**params)
    except (TypeError, ValueError) as error:
        message = f"{blueprint.target.__name__} refuses its parameters: {type(error).__name__}"
        site.problems.append(Problem(site.file, blueprint.where, message, str(error)[:200]))
        return None


def _filled(value: Any, seed: int, site: Site) -> Any:
    if isinstance(value, _Blueprint):
        return _built(value, seed, site)
    if isinstance(value, dict):
        return {key: _filled(item, seed, site) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_filled(item, seed, site) for item in value)
    return value
