"""Run a stage of the project: an object of one of its classes, called with paths.

``stages.NAME.run`` names a public class of the project's own package and plain parameters; what it leaves open
as ``random_state`` or ``seed`` becomes the configuration's seed. The object's ``run(inputs, outputs)`` gets two
mappings: ``inputs`` from each path of ``deps`` to where it lies, ``outputs`` from each name of ``outs`` to where it is
to be written. Like training, it is code of the experiment, and runs in execute only.
"""

from __future__ import annotations

import difflib
import inspect
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cd4ml.errors import ConfigError, Problem, StageFailed
from cd4ml.spec.experiment import OwnStageSpec
from cd4ml.spec.parse import TARGET
from cd4ml.spec.pipeline import PARAMS_FILE
from cd4ml.stages.guard import explain
from cd4ml.stages.job import Job
from cd4ml.stages.own_code import own_packages
from cd4ml.stages.targets import Site, foreign, is_needed, parameters, resolved

_SEEDS = ("random_state", "seed")


def run(job: Job) -> None:
    """Run the stage ``job.name``; writes its outs, each one whole or not at all.

    Raises ConfigError when the class or a parameter is not what it should be, StageFailed naming the stage and the
    exception's type when it raises, FileNotFoundError when a dep is not there, and StageFailed for an out that it did
    not write.
    """
    stage = next(one for one in job.spec.stages if one.name == job.name)
    made = build_stage(stage, own_packages(job.spec), job.spec.seed)
    inputs = {path: job.root / path for path in stage.deps}
    for place in inputs.values():
        place.stat()
    folder = job.root / "artifacts" / stage.name
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".part-") as scratch:
        outputs = {name: Path(scratch) / name for name in stage.outs}
        _called(stage.name, made, dict(inputs), dict(outputs))
        for name, place in outputs.items():
            if place.is_symlink() or not place.is_file():
                raise StageFailed(stage.name, f"{type(made).__name__}.run did not write {name}")
        for name, place in outputs.items():
            place.chmod(0o644)
            place.replace(folder / name)


def build_stage(stage: OwnStageSpec, packages: tuple[str, ...], seed: int) -> Any:
    """The object that a stage's ``run`` describes; imports modules of ``packages``, the project's own.

    Raises ConfigError with every problem: a target that is no public class of these packages with a method ``run``,
    parameters that it does not take or that are missing. StageFailed when the constructor raises.
    """
    site = Site(packages, PARAMS_FILE, f"stages.{stage.name}.run")
    target = resolved(stage.run.get(TARGET), site.at(TARGET), _unfit)
    if target is None:
        raise ConfigError(site.problems)
    known = parameters(target)
    given = {name: value for name, value in stage.run.items() if name != TARGET}
    problems = [*site.problems, *_problems(target, given, known, site)]
    if problems:
        raise ConfigError(problems)
    seeds = {name: seed for name in _SEEDS if name in known and given.get(name) is None}
    try:
        return target(**{**given, **seeds})
    except Exception as error:  # it is the project's code, and may raise anything
        raise StageFailed(stage.name, _told(error, target)) from error


def _problems(target: type[Any], given: Mapping[str, Any], known: Mapping[str, Any], site: Site) -> list[Problem]:
    problems = []
    for name, value in given.items():
        key = f"{site.where}.{name}"
        if name not in known:
            near = difflib.get_close_matches(name, sorted(known), n=1)
            hint = f"did you mean {near[0]}?" if near else ""
            problems.append(Problem(site.file, key, f"{target.__name__} takes no such parameter", hint))
        elif _holds_target(value):
            problems.append(Problem(site.file, key, f"must be plain data, without {TARGET}"))
    for name, parameter in known.items():
        if is_needed(parameter) and name not in given and name not in _SEEDS:
            problems.append(Problem(site.file, f"{site.where}.{name}", f"{target.__name__} needs this parameter"))
    return problems


def _holds_target(value: Any) -> bool:
    if isinstance(value, Mapping):
        return TARGET in value or any(map(_holds_target, value.values()))
    return isinstance(value, list) and any(map(_holds_target, value))


def _unfit(found: Any, root: str) -> str:
    if not inspect.isclass(found):
        return "is not a class"
    reason = foreign(found, root) or ("is abstract" if inspect.isabstract(found) else "")
    return reason or ("" if callable(getattr(found, "run", None)) else "has no method run(inputs, outputs)")


def _called(name: str, made: Any, inputs: dict[str, Path], outputs: dict[str, Path]) -> None:
    try:
        made.run(inputs, outputs)
    except MemoryError:
        raise
    except Exception as error:  # it is the project's code, and may raise anything
        raise StageFailed(name, _told(error, type(made))) from error


def _told(error: Exception, target: type[Any]) -> str:
    return explain(error, target.__name__, target.__module__.partition(".")[0])
