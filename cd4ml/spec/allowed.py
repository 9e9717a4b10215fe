"""What a commit names of code, against what the base branch allows to be named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cd4ml.errors import Problem
from cd4ml.spec.experiment import Spec
from cd4ml.spec.parse import TARGET
from cd4ml.spec.reading import file_of
from cd4ml.spec.sources import problem


def not_allowed(spec: Spec, allowed: tuple[str, ...], origin: Mapping[str, str]) -> tuple[Problem, ...]:
    """Each class and function that the spec names outside the base branch's ``allowed_packages``.

    It is a matter of the base branch's, which may come to allow it, so no run is made that would only say so.
    """
    own = "; yours count once they are on the base branch" if tuple(allowed) != spec.allowed_packages else ""
    packages = {name.partition(".")[0] for name in allowed}
    return tuple(
        problem(
            file_of(origin, key),
            key,
            f"{name[:120]!r} is not in an allowed package",
            f"the base branch allows {', '.join(allowed)}{own}",
        )
        for key, name in _named(spec)
        if name.partition(".")[0] not in packages
    )


def _named(spec: Spec) -> Iterator[tuple[str, str]]:
    """Every name of a class or function, with its key."""
    yield from _targets(spec.model.estimator, "model.estimator")
    for stage in spec.stages:
        yield from _targets(stage.run, f"stages.{stage.name}.run")
    for metric in spec.evaluation.own:
        yield f"evaluation.own.{metric.name}.function", metric.function


def _targets(value: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        if isinstance(value.get(TARGET), str):
            yield f"{key}.{TARGET}", value[TARGET]
        for name, item in value.items():
            yield from _targets(item, f"{key}.{name}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _targets(item, f"{key}.{index}")
