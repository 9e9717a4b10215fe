"""Run one stage in a rendered tree: what DVC starts through ``cd4ml stage NAME``.

Importing this module imports no library of data or models; running a stage imports what it needs.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path, PurePosixPath
from types import MappingProxyType, ModuleType

import yaml

from cd4ml.errors import ConfigError, Problem, StageFailed, UsageError
from cd4ml.spec.experiment import Spec
from cd4ml.spec.parse import parse
from cd4ml.spec.pin import Pin, parse_pin
from cd4ml.spec.pipeline import DERIVED, PARAMS_FILE, StageSpec, derived_params, pin_path, stages
from cd4ml.spec.sources import CONF, RENDERED_FROM, conf_digest, load_yaml
from cd4ml.stages.job import Job

STAGE_MODULES: Mapping[str, str] = MappingProxyType({stage.name: f"cd4ml.stages.{stage.name}" for stage in stages(())})
OWN_CODE_STAGES = frozenset({"train", "predict"})
"""The stages in which classes of the project's own package may be used."""


def run_stage(name: str, root: Path, raw_dir: Path) -> None:
    """Run the stage ``name`` in the tree at ``root``; raw source files lie in ``raw_dir`` under their SHA-256.

    Removes the stage's old outputs, then writes the paths that ``spec.pipeline`` gives it, each one whole or not at
    all. Raises UsageError for a name that is no stage, ConfigError when ``params.yaml`` or a pin is wrong
    or was rendered from another ``conf/``, IntegrityError for bytes that are not what was promised, and
    StageFailed for everything that the stage could not do.
    """
    stage = next((one for one in stages(()) if one.name == name), None)
    if stage is None:
        raise UsageError(f"there is no stage {name!r}; there are {', '.join(STAGE_MODULES)}")
    spec = read_params(root)
    pins = read_pins(root, spec) if name == "ingest" else {}
    _remove_outputs(root, stage)
    run: Callable[[Job], None] = importlib.import_module(STAGE_MODULES[name]).run
    try:
        with _own_code(root, _own_packages(spec) if name in OWN_CODE_STAGES else ()):
            run(Job(root, raw_dir, spec, pins))
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
    if derived != derived_params(tuple(source.name for source in spec.data.sources)):
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
            if (pin.source, pin.location, pin.format) != (source.name, source.location, source.format):
                message = f"is the pin of another source than data.sources.{source.name} describes"
                problems.append(Problem(path, "", message, f"run `cd4ml data update {source.name}`"))
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


@dataclass(frozen=True)
class _OwnPackages(MetaPathFinder):
    """Finds the named packages in the project's root, and nothing else there.

    It is asked last, so that it can hide nothing that is installed; and a library that tries whether some
    package exists does not run a file of that name that a branch has put there.
    """

    root: Path
    names: tuple[str, ...]

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is not None or fullname not in self.names:
            return None
        return PathFinder.find_spec(fullname, [os.fspath(self.root)], target)


def _own_packages(spec: Spec) -> tuple[str, ...]:
    """Top-level packages that ``code:`` declares, so that the fingerprint counts them, and that are allowed."""
    declared = {PurePosixPath(path).parts[0].removesuffix(".py") for path in spec.code}
    return tuple(sorted(declared.intersection(name.partition(".")[0] for name in spec.allowed_packages)))


@contextmanager
def _own_code(root: Path, names: tuple[str, ...]) -> Iterator[None]:
    """Let the project's own packages be imported for as long as the block runs."""
    finder = _OwnPackages(root.resolve(), names)
    sys.meta_path.append(finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


def _remove_outputs(root: Path, stage: StageSpec) -> None:
    for path in (*stage.outs, *stage.metrics, *(plot.path for plot in stage.plots)):
        (root / path).unlink(missing_ok=True)


def _inside(root: Path, filename: object) -> str:
    """A path as the repository names it."""
    path = Path(os.fsdecode(filename)) if isinstance(filename, (str, bytes, os.PathLike)) else Path("a file")
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
