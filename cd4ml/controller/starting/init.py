"""Start a project: vendor the scaffold into a repository, never overwriting anything."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cd4ml.controller.desired.data import read_folder, update_pins
from cd4ml.controller.desired.render import refuse_own_of_dvc, write_rendered
from cd4ml.controller.desired.scaffold import for_forge, scaffold
from cd4ml.controller.project import CONF, open_project
from cd4ml.controller.starting.own_data import LARGEST_COMMITTED, OwnTable, bring, read_own_table
from cd4ml.controller.starting.proposal import Hints, Proposal, look
from cd4ml.controller.starting.proposed_conf import conf_files
from cd4ml.errors import RepositoryError, UsageError
from cd4ml.gateways import git
from cd4ml.gateways.files import write_atomically
from cd4ml.gateways.hydra import compose
from cd4ml.gateways.process import run
from cd4ml.spec.parse import parse
from cd4ml.spec.pipeline import PIPELINE_FILE, pin_path
from cd4ml.spec.reading import file_of
from cd4ml.spec.sources import CONFIG

_LOCK = "requirements.lock"
_SECOND_LOCK = "cd4ml-requirements.lock"
_IGNORED = ("/params.yaml", "/artifacts/")  # not dvc.lock: DVC refuses to run where Git ignores it
_IGNORE_COMMENT = "# cd4ml: made for each run, committed only in result commits"
_LARGE_COMMENT = "# cd4ml: large data; its pin names the bytes, which DVC's storage keeps"


@dataclass(frozen=True)
class Initialised:
    """What ``cd4ml init`` made. ``kept`` were there and have been left as they are.

    With a person's own data: what was proposed for it, the name of its source, and ``ignored``, paths that have to
    be committed and that the repository's own rules leave out.
    """

    root: Path
    made: tuple[str, ...]
    kept: tuple[str, ...]
    proposal: Proposal | None = None
    source: str = ""
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True)
class OwnData:
    """A person's own table: where it is (a path from ``here``, or a URL), what is to be predicted, and its name."""

    data: str
    here: Path
    hints: Hints
    name: str = ""


def init_project(folder: Path, *, storage: str = "", own: OwnData | None = None) -> Initialised:
    """Put a project into ``folder``, which becomes a Git and DVC repository if it is none.

    Without ``own`` it is the flights example. With it, the configuration is proposed from the table (``proposal``),
    and the pin of the table is written, its bytes archived. ``storage`` is the URL or path of a DVC remote to name
    as the default. Side effects: files in the folder; nothing is committed. Raises UsageError, with nothing written,
    for a folder inside another repository's work tree, for one with a DVC pipeline of its own, for a table that gives
    nothing to train on, and for a folder that is configured for other data already.
    """
    _refuse_inside_another(folder)
    refuse_own_of_dvc(folder)
    if own is None:
        return _vendor(folder, _scaffold(folder), storage, _LOCK)
    table = read_own_table(own.data, folder, own.here, own.name)
    proposal = look(table.frame, own.hints, table.reading)
    lock = _own_lock(folder)
    files = conf_files(proposal, table.place, _scaffold(folder), lock)
    _refuse_conflicts(folder, files, table.place.name)
    brought = bring(table, folder)
    ignored = (_ignored_as(table.place.location),) if _keep_out(table, folder) else ()
    done = _vendor(folder, files, storage, lock, ignored)
    pin = pin_path(table.place.name)
    (change,) = update_pins(open_project(folder), (table.place.name,))
    made = (*([table.place.location] if brought else []), *done.made, *([pin] if change.moved else []))
    unseen = _left_out_by_git(folder, (*files, pin, lock, PIPELINE_FILE))
    return Initialised(folder, made, done.kept, proposal, table.place.name, unseen)


def _scaffold(folder: Path) -> dict[str, bytes]:
    """The shipped configuration, with the CI of the forge that the repository comes from, if it comes from one."""
    try:
        url = git.open_repository(folder).remote_url("origin")
    except RepositoryError:
        return scaffold()
    return for_forge(scaffold(), url)


def _refuse_inside_another(folder: Path) -> None:
    above = next((place for place in (folder, *folder.parents) if place.is_dir()), None)
    if above is None:
        return
    try:
        repository = git.open_repository(above)
    except RepositoryError:
        return
    if repository.work_tree is None or repository.work_tree.resolve() != folder.resolve():
        if repository.work_tree is None:
            raise UsageError(f"{folder}: a bare repository has no work tree: run `cd4ml init` in a clone of it")
        raise UsageError(f"{folder}: is inside the repository {repository.root}: run `cd4ml init` at its top")


def _vendor(
    folder: Path, files: Mapping[str, bytes], storage: str, lock: str, ignored: tuple[str, ...] = ()
) -> Initialised:
    """Write what is not there yet: the repository, its configuration, lock file, DVC's settings, rendered files."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        git.open_repository(folder)
    except RepositoryError:
        if (folder / ".git").exists():  # there is one, and it cannot be worked with
            raise
        git.init(folder)
    made: list[str] = []
    kept: list[str] = []
    for name, data in sorted(files.items()):
        _put(folder, name, data, made, kept)
    _put(folder, lock, frozen_environment().encode(), made, kept)
    _ignore(folder, _IGNORED, _IGNORE_COMMENT, made)
    _ignore(folder, ignored, _LARGE_COMMENT, made)
    if not (folder / ".dvc").is_dir():
        _dvc(folder, "init")
        made.append(".dvc/config")
    if storage:
        _dvc(folder, "remote", "add", "--force", "--default", "storage", storage)
    made += write_rendered(folder, read_folder(folder, CONF), base=_base(folder), keep=True)
    return Initialised(folder, tuple(made), tuple(kept))


def _base(folder: Path) -> str:
    """The branch that the workflow is for."""
    try:
        return open_project(folder).base
    except UsageError:  # no branch yet that could be it, or several remotes: `cd4ml render` will know more
        return "main"


def _own_lock(folder: Path) -> str:
    """The path of the lock file: another one where the project has a file of the usual name for itself."""
    path = folder / _LOCK
    free = not path.exists() or path.read_bytes() == frozen_environment().encode()
    return _LOCK if free else _SECOND_LOCK


def _refuse_conflicts(folder: Path, files: Mapping[str, bytes], source: str) -> None:
    """Raises UsageError when what is there would not be what was proposed, ConfigError when both together are wrong."""
    there = read_folder(folder, CONF) if (folder / CONF).is_dir() else {}
    if there.get(CONFIG, files[CONFIG]) != files[CONFIG]:
        raise UsageError(f"{CONFIG}: is there already, and says something else; nothing was changed")
    if CONFIG not in there and (folder / pin_path(source)).exists():
        raise UsageError(f"{pin_path(source)}: is there already; say another --name")
    composed = compose({**files, **there})
    parse(composed.resolved, composed.origin)
    proposed = compose(files).resolved["data"]
    for key in ("target", "sources"):
        if composed.resolved["data"][key] != proposed[key]:
            file = file_of(composed.origin, f"data.{key}")
            raise UsageError(f"{file}: data.{key}: is there already, and says something else; nothing was changed")


def _keep_out(table: OwnTable, folder: Path) -> bool:
    """Is the table's file too large for Git, and not in it yet?"""
    if not table.local or table.bytes <= LARGEST_COMMITTED:
        return False
    try:
        repository = git.open_repository(folder)
    except UsageError:
        return True
    return not repository.git("ls-files", "--", table.place.location).text.strip()


def _ignored_as(path: str) -> str:
    """The line of .gitignore for exactly this file."""
    return "/" + "".join(f"\\{character}" if character in "\\*?[]!# " else character for character in path)


def _left_out_by_git(folder: Path, paths: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the paths that the repository's own rules ignore, though they have to be committed."""
    asked = git.open_repository(folder).git("check-ignore", "--", *paths, allowed=(0, 1))
    return tuple(sorted(asked.text.splitlines()))


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


def _ignore(folder: Path, lines: tuple[str, ...], comment: str, made: list[str]) -> None:
    path = folder / ".gitignore"
    text = path.read_text("utf-8") if path.is_file() else ""
    missing = [line for line in lines if line not in text.splitlines()]
    if missing:
        head = text if not text or text.endswith("\n") else f"{text}\n"
        write_atomically(path, (head + "\n".join([comment, *missing]) + "\n").encode())
        if ".gitignore" not in made:
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
