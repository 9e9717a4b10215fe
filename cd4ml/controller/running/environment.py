"""The environment that a run executes in: the installed one where it is what the lock says, else one made for it."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import shutil
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import cd4ml
from cd4ml.controller.desired.specs import Asked
from cd4ml.controller.project import Project
from cd4ml.errors import ToolError, UsageError
from cd4ml.gateways.files import write_atomically
from cd4ml.gateways.process import run
from cd4ml.spec.canonical import digest
from cd4ml.spec.environment import differences, requirements
from cd4ml.spec.experiment import Spec

_SHOWN = 3
_LARGEST_LOCK = 4 << 20
_KEPT = 5
"""Environments that stay; the ones unused for longest go first."""


@cache
def installed() -> dict[str, str]:
    """Versions of all installed distributions by canonical name; of one that is there twice, what is imported."""
    from packaging.utils import canonicalize_name

    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():  # in the order of the path
        if distribution.name and distribution.version:
            found.setdefault(canonicalize_name(distribution.name), distribution.version)
    return found


def environment_differences(lock: tuple[str, ...]) -> tuple[str, ...]:
    """A line for each package that is not installed as the lock's entries say."""
    from packaging.markers import default_environment

    return differences(lock, installed(), {key: str(value) for key, value in default_environment().items()})


def check_environment(asked: Asked, *, allowed: bool = False) -> tuple[str, ...]:
    """What is not installed as the commit's lock says, a line for each package.

    Raises UsageError, in one line, when there is anything and no environment is ``allowed`` to be made for it.
    """
    found = environment_differences(asked.lock)
    if found and not allowed:
        raise UsageError(
            f"{asked.spec.lock}: is not what is installed: {_shown(found)}: install the lock first, or let main allow "
            "cd4ml to make environments (environment.venv: true)"
        )
    return found


def python_for(project: Project, asked: Asked, tree: str, policy: Spec) -> str:
    """The Python that a run of ``tree`` executes with.

    The running one where the installed packages are those of the lock. Otherwise, where the base branch's
    ``environment.venv`` allows it, that of an environment which is made now or was made before; else UsageError
    is raised, in one line. Side effects: a folder below cd4ml's private one, and pip's downloads.
    """
    found = check_environment(asked, allowed=policy.venv)
    if not found:
        return sys.executable
    wanted = _wanted(project, asked, tree, found)
    key = digest([sorted(wanted), sorted(installed().items()), sys.version, sys.prefix, cd4ml.__version__])
    folder = project.private / "environments" / key[:16]
    if not (folder / "bin/cd4ml").is_file():
        _make(folder, wanted, asked.spec.lock)
    folder.touch()
    return str(folder / "bin/python")


@contextmanager
def throwaway_environment(project: Project, asked: Asked, tree: str) -> Iterator[str]:
    """The Python of an environment as the lock of ``tree`` says, for as long as the block runs.

    The running one where nothing differs. Raises UsageError where the environment cannot be made. Side effects: a
    folder below cd4ml's private one, removed afterwards, and pip's downloads.
    """
    found = environment_differences(asked.lock)
    if not found:
        yield sys.executable
        return
    folder = project.private / "reproduce" / f"environment-{uuid.uuid4().hex[:12]}"
    try:
        _make(folder, _wanted(project, asked, tree, found), asked.spec.lock)
        yield str(folder / "bin/python")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wanted(project: Project, asked: Asked, tree: str, found: tuple[str, ...]) -> tuple[str, ...]:
    """The lock's lines of the packages that differ."""
    text = (project.repository.read_blob(tree, asked.spec.lock, _LARGEST_LOCK) or b"").decode("utf-8", "replace")
    return requirements(text, frozenset(line.partition(":")[0] for line in found))


def _shown(lines: tuple[str, ...]) -> str:
    more = f" (+{len(lines) - _SHOWN} more)" if len(lines) > _SHOWN else ""
    return "; ".join(lines[:_SHOWN]) + more


def _make(folder: Path, wanted: tuple[str, ...], lock: str) -> None:
    """An environment over the running one: what differs is installed, and found first; all else is shared.

    Only wheels are taken, since building from source would run code of whoever is named in the lock.
    """
    part = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:8]}.part")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        run([sys.executable, "-I", "-m", "venv", "--without-pip", str(part)], cwd=Path(sys.prefix))
        write_atomically(part / "requirements.txt", "".join(f"{line}\n" for line in wanted).encode())
        pip = [
            sys.executable,
            "-I",
            "-m",
            "pip",
            "--python",
            str(part / "bin/python"),
            "install",
            "--quiet",
            "--no-input",
        ]
        pip += [
            "--disable-pip-version-check",
            "--no-deps",
            "--only-binary",
            ":all:",
            "-r",
            str(part / "requirements.txt"),
        ]
        run(pip, cwd=part)
        _share(part)
        script = part / "bin/cd4ml"
        text = f"#!{folder / 'bin/python'} -P\nfrom cd4ml.cli.entry import main\n\nmain()\n"
        write_atomically(script, text.encode())
        script.chmod(0o755)
        part.rename(folder)
    except ToolError as error:
        raise UsageError(f"{lock}: its environment cannot be made: {_why_not(error)}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _why_not(error: ToolError) -> str:
    """Why pip failed; where it found no such version, which ones it did find: none, where it reached no index."""
    found = _FOUND.search(error.stderr)
    if not found:
        return str(error)
    versions = [] if found[2] == "none" else found[2].split(", ")
    there = f"there are {', '.join(versions[-_SHOWN:])}" if versions else "no package index that can be reached has any"
    return f"{found[1]} cannot be had: {there}"


def _share(part: Path) -> None:
    """Let the new environment find what the running one has, after its own, and cd4ml itself."""
    (site,) = (part / "lib").glob("python*/site-packages")
    shared = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    lines = dict.fromkeys([*shared, str(Path(cd4ml.__file__).parents[1])])
    write_atomically(site / "shared.pth", "".join(f"{line}\n" for line in lines).encode())


def drop_old_environments(project: Project) -> None:
    """Remove all environments but those used last. Only while nothing runs in this clone."""
    folder = project.private / "environments"
    if not folder.is_dir():
        return
    made = sorted((path for path in folder.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for path in made[:-_KEPT]:
        shutil.rmtree(path, ignore_errors=True)


_FOUND = re.compile(r"satisfies the requirement (\S+).* \(from versions: (.+)\)")

_TOLD = (
    "numpy",
    "scipy",
    "pandas",
    "pyarrow",
    "scikit-learn",
    "xgboost",
    "skops",
    "great-expectations",
    "dvc",
    "hydra-core",
)
"""Packages whose versions a record tells."""


def executed_with(lock: tuple[str, ...], *, here: bool) -> dict[str, Any]:
    """Python's version, the platform, and versions of the packages that matter most, as a record tells them.

    ``lock`` are the entries of the commit's lock; where a run does not execute ``here``, in the running environment,
    its versions are those that the lock says.
    """
    packages = installed_versions(_TOLD)
    if not here:
        locked = dict(entry.partition(" ; ")[0].split("==", 1) for entry in lock)
        packages |= {name: version for name, version in locked.items() if name in _TOLD}
    system = f"{platform.system()}-{platform.machine()}"
    return {"python": platform.python_version(), "platform": system, "packages": packages}


def installed_versions(names: tuple[str, ...]) -> dict[str, str]:
    """Versions of the distributions that are installed here, by name."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
