"""A project as it stands on this machine: its repository, remote, base branch and folders."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cd4ml.errors import RemoteError, RepositoryError, UsageError
from cd4ml.gateways import git

if TYPE_CHECKING:
    from cd4ml.gateways.dvc import Storage

CONF = "conf"
TEMPLATES = "templates"
_LARGEST_SETTINGS = 1 << 20


@dataclass(frozen=True)
class Project:
    """Where things are. ``remote`` is ``.`` for a repository that is its own remote."""

    repository: git.Repository
    remote: str
    base: str

    @property
    def root(self) -> Path:
        return self.repository.root

    @property
    def private(self) -> Path:
        return self.repository.private

    @property
    def has_remote(self) -> bool:
        return self.remote != git.HERE

    def without_base(self) -> RepositoryError:
        """The error for a base branch that is not there, with what to do about it."""
        if not self.has_remote:
            return RepositoryError(
                f"{self.root}: has no commit on {self.base} yet: commit the project first "
                "(or name the base branch with `git config cd4ml.base NAME`)"
            )
        return RepositoryError(
            f"{self.remote}: has no branch {self.base}: push it first (or set `git config cd4ml.base`)"
        )

    def work_tree(self) -> Path:
        """The work tree. Raises RepositoryError in a bare repository."""
        if self.repository.work_tree is None:
            raise RepositoryError(f"{self.root}: a bare repository has no work tree; this needs one")
        return self.repository.work_tree

    def storage(self, commit: str) -> Storage:
        """DVC's storage as the ``.dvc/config`` of that commit (of the base branch) describes it."""
        from cd4ml.gateways.dvc import CONFIG_PATH, open_storage

        config = self.repository.read_blob(commit, CONFIG_PATH, _LARGEST_SETTINGS) or b""
        local = self.root / f"{CONFIG_PATH}.local"
        local_bytes = local.read_bytes() if self.repository.work_tree and local.is_file() else b""
        # of a bare repository, paths count from its own folder, which lies where a clone's would
        owner, cache = self.repository.work_tree or self.root, self.private / ".dvc/cache"
        return open_storage(
            config, local_bytes, owner, self.private / "dvc", None if self.repository.work_tree else cache
        )


def open_project(path: Path, remote: str = "") -> Project:
    """The project that ``path`` lies in.

    The remote is the one named, else ``git config cd4ml.remote``, else ``origin``, else the only one there
    is, else the repository itself. The base branch is ``git config cd4ml.base``, else the remote's HEAD, else
    (when the remote cannot be asked) one of the usual names. Raises RepositoryError, UsageError for a remote
    that is not there.
    """
    repository = git.open_repository(path)
    names = repository.remotes()
    settings = dict(repository.settings(r"^cd4ml\.(remote|base)$"))  # of one that is there twice, the last counts
    chosen = remote or settings.get("cd4ml.remote", "")
    if chosen and chosen not in (*names, git.HERE):
        raise UsageError(f"there is no remote {chosen!r} here (remotes: {', '.join(names) or 'none'})")
    if not chosen:
        chosen = "origin" if "origin" in names else names[0] if len(names) == 1 else ""
    if not chosen and names:
        raise UsageError(
            f"several remotes ({', '.join(names)}) and none is `origin`: "
            "name one with --remote or `git config cd4ml.remote NAME`"
        )
    chosen = chosen or git.HERE
    base = settings.get("cd4ml.base") or _base_branch(repository, chosen)
    return Project(repository, chosen, base)


def _base_branch(repository: git.Repository, remote: str) -> str:
    if remote != git.HERE:
        named = repository.git("symbolic-ref", "--quiet", f"refs/remotes/{remote}/HEAD", allowed=(0, 1)).text.strip()
        if named:
            return named.removeprefix(f"refs/remotes/{remote}/")
        with contextlib.suppress(RemoteError):  # whoever needs the remote will say so; a search does not
            branch = repository.default_branch(remote)
            if branch:
                return branch
    heads = {**repository.last_seen().heads, **repository.local_heads()}
    usual = [name for name in ("main", "master", "trunk") if name in heads]
    branch = usual[0] if usual else repository.current_branch()
    if branch is None:
        raise RepositoryError("cannot tell the base branch: say it with `git config cd4ml.base NAME`")
    return branch
