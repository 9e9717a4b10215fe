"""Start a project: vendor the scaffold into a repository, never overwriting anything."""

from __future__ import annotations

import importlib.metadata
import sys
from dataclasses import dataclass
from pathlib import Path

from cd4ml.controller.data import read_folder
from cd4ml.controller.project import CONF
from cd4ml.controller.render import write_rendered
from cd4ml.controller.scaffold import shipped
from cd4ml.errors import RepositoryError, UsageError
from cd4ml.gateways import git
from cd4ml.gateways.files import write_atomically
from cd4ml.gateways.process import run

_LOCK = "requirements.lock"
_IGNORED = ("/params.yaml", "/artifacts/")  # not dvc.lock: DVC refuses to run where Git ignores it
_IGNORE_COMMENT = "# cd4ml: made for each run, committed only in result commits"


@dataclass(frozen=True)
class Initialised:
    """What ``cd4ml init`` made. ``kept`` were there and have been left as they are."""

    root: Path
    made: tuple[str, ...]
    kept: tuple[str, ...]


def init_project(folder: Path, *, storage: str = "") -> Initialised:
    """Put the scaffold into ``folder``, which becomes a Git and DVC repository if it is none.

    ``storage`` is the URL or path of a DVC remote to name as the default. Side effects: files in the
    folder; nothing is committed. Raises UsageError for a folder inside another repository's work tree.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        repository = git.open_repository(folder)
    except RepositoryError:
        git.init(folder)
        repository = git.open_repository(folder)
    if repository.work_tree is None or repository.work_tree.resolve() != folder.resolve():
        raise UsageError(f"{folder}: is inside the repository {repository.root}: run `cd4ml init` at its top")
    made: list[str] = []
    kept: list[str] = []
    source = shipped(CONF)
    for path in sorted(source.rglob("*.yaml")):
        name = f"{CONF}/{path.relative_to(source).as_posix()}"
        _put(folder, name, path.read_bytes(), made, kept)
    _put(folder, _LOCK, frozen_environment().encode(), made, kept)
    _ignore(folder, made)
    if not (folder / ".dvc").is_dir():
        _dvc(folder, "init")
        made.append(".dvc/config")
    if storage:
        _dvc(folder, "remote", "add", "--force", "--default", "storage", storage)
    made += write_rendered(folder, read_folder(folder, CONF), base="main", keep=True)
    return Initialised(folder, tuple(made), tuple(kept))


def _dvc(folder: Path, *arguments: str) -> None:
    """Run the DVC that is installed beside cd4ml, whatever the path of programs says."""
    run([sys.executable, "-P", "-m", "dvc", *arguments, "--quiet"], cwd=folder)


def _put(folder: Path, name: str, data: bytes, made: list[str], kept: list[str]) -> None:
    target = folder / name
    if target.exists() or target.is_symlink():
        kept.append(name)
    else:
        write_atomically(target, data)
        made.append(name)


def _ignore(folder: Path, made: list[str]) -> None:
    path = folder / ".gitignore"
    text = path.read_text("utf-8") if path.is_file() else ""
    missing = [line for line in _IGNORED if line not in text.splitlines()]
    if missing:
        head = text if not text or text.endswith("\n") else f"{text}\n"
        write_atomically(path, (head + "\n".join([_IGNORE_COMMENT, *missing]) + "\n").encode())
        made.append(".gitignore")


def frozen_environment() -> str:
    """A lock file of what is installed: cd4ml's runtime closure, one ``name==version`` a line, sorted.

    Found by walking the requirements of the installed distributions, from cd4ml itself on.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    versions: dict[str, str] = {}
    waiting = ["cd4ml"]
    seen: set[str] = set()
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in seen:
            continue
        seen.add(name)
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        versions[name] = distribution.version.partition("+")[0]
        for text in distribution.requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    head = "# What cd4ml runs with, as installed when this project was made.\n"
    return head + "".join(f"{name}=={version}\n" for name, version in sorted(versions.items()))
