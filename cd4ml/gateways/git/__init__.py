"""Git: one repository and its one remote, as short questions and orders.

Objects are read through GitPython; everything that looks at or moves refs is a plain ``git`` command,
with full ref names, so that no branch name is ever taken for an option. Hooks, fsmonitor and the ext
transport are off in every command, and no ``GIT_*`` variable leads one to another place.

``Repository`` is one class in seven rooms: ``connection`` (running git), ``objects`` (blobs and trees), ``history``
(commits), ``compare`` (what differs between two), ``remote`` (fetch and push), ``reports`` (files of a report on the
remote), ``work_tree`` (local branches and clones).
"""

from __future__ import annotations

import os
from pathlib import Path

from cd4ml.errors import RepositoryError, ToolError
from cd4ml.gateways.git.chain import Chain, Changed, Remembered
from cd4ml.gateways.git.compare import Differences
from cd4ml.gateways.git.connection import HARDENING, environment, last_line
from cd4ml.gateways.git.keeping import Keeping
from cd4ml.gateways.git.landed import Landings
from cd4ml.gateways.git.probe import PROBE, Probes
from cd4ml.gateways.git.remote import Remotes
from cd4ml.gateways.git.reports import REPORTS, Reports
from cd4ml.gateways.git.values import (
    CLAIMS,
    DRAFT,
    HEADS,
    HERE,
    IMPORTS,
    INDEX,
    INDEX_BRANCH,
    LANDING,
    SEEN,
    Authorship,
    CommitInfo,
    Draft,
    RefUpdate,
    RemoteState,
)
from cd4ml.gateways.git.work_tree import WorkTree
from cd4ml.gateways.process import run

__all__ = [
    "CLAIMS",
    "DRAFT",
    "HEADS",
    "HERE",
    "IMPORTS",
    "INDEX",
    "INDEX_BRANCH",
    "LANDING",
    "PROBE",
    "REPORTS",
    "SEEN",
    "Authorship",
    "Changed",
    "CommitInfo",
    "Draft",
    "RefUpdate",
    "Remembered",
    "RemoteState",
    "Repository",
    "init",
    "open_repository",
]


class Repository(Probes, Reports, Remotes, WorkTree, Differences, Landings, Keeping, Chain):
    """One repository on this machine. ``work_tree`` is missing in a bare one."""


def init(path: Path, *, bare: bool = False, branch: str = "main") -> None:
    """Make a repository at ``path``."""
    command = ["git", "init", "--quiet", f"--initial-branch={branch}", *(["--bare"] if bare else []), str(path)]
    run(command, cwd=path.parent if path.parent.exists() else Path.cwd(), env=environment())


_ASKED = ("--git-dir", "--git-common-dir", "--is-bare-repository", "--show-object-format")
_OUTSIDE = b"this operation must be run in a work tree"


def open_repository(path: Path) -> Repository:
    """The repository that ``path`` lies in.

    Raises RepositoryError when there is none.
    """
    if not path.is_dir():
        raise RepositoryError(f"{path}: no such folder")
    command = ["git", *HARDENING, "rev-parse", "--path-format=absolute", *_ASKED]
    try:
        done = run([*command, "--show-toplevel"], cwd=path, env=environment(), allowed=(0, 128))
        if done.returncode and _OUTSIDE not in done.stderr:
            done = run(command, cwd=path, env=environment())
    except ToolError as error:
        hint = " (make a project with `cd4ml init`)" if "not a git repository" in error.stderr else ""
        raise RepositoryError(f"{path}: {last_line(error)}{hint}") from error
    *answer, top = done.stdout.split(b"\n", len(_ASKED))
    git_dir, common_dir, bare = Path(os.fsdecode(answer[0])), Path(os.fsdecode(answer[1])), answer[2] == b"true"
    if answer[3] != b"sha1":
        raise RepositoryError(f"{path}: its objects are named by {answer[3].decode()}; cd4ml works with sha1")
    if bare or done.returncode or not top:
        return Repository(git_dir, common_dir, None)
    return Repository(git_dir, common_dir, Path(os.fsdecode(top.removesuffix(b"\n"))))
