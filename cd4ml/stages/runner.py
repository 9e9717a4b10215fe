"""Run one stage in a rendered tree: what DVC starts through ``cd4ml stage NAME``.

Importing this module imports no library of data or models; running a stage imports what it needs.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import yaml

from cd4ml.errors import ConfigError, Problem, StageFailed, UsageError
from cd4ml.spec.experiment import Spec
from cd4ml.spec.parse import parse
from cd4ml.spec.pin import Pin, parse_pin, pin_problems
from cd4ml.spec.pipeline import (
    DERIVED,
    PARAMS_FILE,
    STAGE_NAMES,
    StageSpec,
    derived_params,
    pin_path,
    pipeline_of,
    stages,
)
from cd4ml.spec.sources import CONF, RENDERED_FROM, conf_digest, load_yaml
from cd4ml.stages.job import Job
from cd4ml.stages.own_code import code_on_disk, own_code, own_packages

STAGE_MODULES: Mapping[str, str] = MappingProxyType({name: f"cd4ml.stages.{name}" for name in STAGE_NAMES})
OWN_STAGE_MODULE = "cd4ml.stages.own"
"""What runs a stage of the project."""

NO_OWN_CODE_STAGES = frozenset({"ingest", "validate", "split", "featurize"})
"""The stages in which nothing of the project's own package may be used."""


def run_stage(name: str, root: Path, raw_dir: Path) -> Mapping[str, float]:
    """Run the stage ``name`` in the tree at ``root``; raw source files lie in ``raw_dir`` under their SHA-256.

    Removes the stage's old outputs, then writes the paths that ``spec.pipeline`` gives it, each one whole or not at
    all. Gives what the stage measured of itself, by name (of most stages nothing). Raises UsageError for a name that is
    no stage, ConfigError when ``params.yaml`` or a pin is wrong or was rendered from another ``conf/``, IntegrityError
    for bytes that are not what was promised, and StageFailed for everything that the stage could not do.
    """
    spec = read_params(root)
    pipeline = {one.name: one for one in stages(pipeline_of(spec))}
    if name not in pipeline:
        raise UsageError(f"there is no stage {name!r}; there are {', '.join(pipeline)}")
    pins = read_pins(root, spec) if name == "ingest" else {}
    _remove_outputs(root, pipeline[name])
    module = importlib.import_module(STAGE_MODULES.get(name, OWN_STAGE_MODULE))
    run: Callable[[Job], Mapping[str, float] | None] = module.run
    try:
        with own_code(root, () if name in NO_OWN_CODE_STAGES else own_packages(spec), spec.code):
            return run(Job(root, raw_dir, spec, pins, name)) or {}
    except FileNotFoundError as error:
        missing = _inside(root, error.filename)
        raise StageFailed(name, f"{missing} is not there; an earlier stage writes it") from error
    except OSError as error:
        message = f"{_inside(root, error.filename)}: {error.strerror or type(error).__name__}"
        raise StageFailed(name, message, "transient") from error
    except MemoryError as error:
        raise StageFailed(name, "ran out of memory", "transient") from error


def read_params(root: Path) -> Spec:
    """What ``params.yaml`` asks for, seen to be rendered from the ``conf/`` beside it. Raises ConfigError."""
    try:
        content = load_yaml((root / PARAMS_FILE).read_text("utf-8"))
    except FileNotFoundError as error:
        raise _params_problem("", "is not there") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise _params_problem("", "is not valid YAML") from error
    if not isinstance(content, dict) or RENDERED_FROM not in content:
        raise _params_problem(RENDERED_FROM, "is missing: this file was not rendered")
    if content.pop(RENDERED_FROM) != conf_digest(_conf_files(root)):
        raise _params_problem(RENDERED_FROM, "conf/ has changed since this file was rendered")
    derived = content.pop(DERIVED, None)
    spec = parse(content)
    # of the environment whoever rendered knows, and a stage does not
    env = str(derived.get("env", "")) if isinstance(derived, dict) else ""
    expected = derived_params(pipeline_of(spec), code_on_disk(root, spec.code), env)
    if isinstance(derived, dict) and {**derived, "code": expected["code"]} == expected != derived:
        raise _params_problem(f"{DERIVED}.code", "the project's own code has changed since this file was rendered")
    if derived != expected:
        raise _params_problem(DERIVED, "was rendered by another version of cd4ml")
    return spec


def read_pins(root: Path, spec: Spec) -> dict[str, Pin]:
    """The committed pin of every source. Raises ConfigError with every pin that is missing or wrong."""
    pins: dict[str, Pin] = {}
    problems: list[Problem] = []
    for source in spec.data.sources:
        path = pin_path(source.name)
        try:
            pin = parse_pin((root / path).read_text("utf-8"), path)
        except FileNotFoundError:
            problems.append(Problem(path, "", "is not there", f"run `cd4ml data update {source.name}`"))
        except UnicodeDecodeError:
            problems.append(Problem(path, "", "is not UTF-8"))
        except ConfigError as error:
            problems += error.problems
        else:
            problems += pin_problems(pin, source, path)
            pins[source.name] = pin
    if problems:
        raise ConfigError(problems)
    return pins


def _params_problem(key: str, message: str) -> ConfigError:
    return ConfigError([Problem(PARAMS_FILE, key, message, "run `cd4ml render`")])


def _conf_files(root: Path) -> dict[str, bytes]:
    folder = root / CONF
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def _remove_outputs(root: Path, stage: StageSpec) -> None:
    for path in stage.written:
        (root / path).unlink(missing_ok=True)


def _inside(root: Path, filename: object) -> str:
    """A path as the repository names it."""
    path = Path(os.fsdecode(filename)) if isinstance(filename, (str, bytes, os.PathLike)) else Path("a file")
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
