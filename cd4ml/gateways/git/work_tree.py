"""What is checked out, local branches, and private clones."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from cd4ml.errors import RepositoryError, ToolError
from cd4ml.gateways.files import write_atomically
from cd4ml.gateways.git.connection import NO_SETTINGS, environment, last_line
from cd4ml.gateways.git.history import Commits
from cd4ml.gateways.git.values import HEADS
from cd4ml.gateways.process import run

_UNDER_WAY = {
    "MERGE_HEAD": "a merge",
    "CHERRY_PICK_HEAD": "a cherry-pick",
    "REVERT_HEAD": "a revert",
    "rebase-merge": "a rebase",
    "rebase-apply": "a rebase",
}
_RAW_BYTES = "* -text !eol -ident -filter !working-tree-encoding\n"


class WorkTree(Commits):
    """Local branches, the work tree, and clones that share this one's objects."""

    def current_branch(self) -> str | None:
        """The branch that HEAD names, or nothing when it is detached."""
        done = self.git("symbolic-ref", "--quiet", "HEAD", allowed=(0, 1))
        return done.text.strip().removeprefix(HEADS) or None

    def under_way(self) -> str:
        """What waits to be finished in the work tree (``"a merge"``, …), or ``""``."""
        return next((what for name, what in _UNDER_WAY.items() if (self.git_dir / name).exists()), "")

    def local_heads(self) -> dict[str, str]:
        """Commits of the local branches, by name."""
        return self._refs(HEADS)

    def snapshot_tree(self, commit: str, paths: Sequence[str], pins: Sequence[str]) -> str:
        """The tree of ``commit`` with these files and folders as the work tree holds them. Writes objects only.

        Untracked files count and ignored ones do not, as ``git add`` would take them; a file of ``pins`` counts in
        any case. Neither the index nor any file of the work tree is touched. Raises RepositoryError.
        """
        with tempfile.TemporaryDirectory(prefix="cd4ml-index-") as folder:
            env = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
            self.git("read-tree", "--end-of-options", commit, env=env)
            wanted = [path.rstrip("/") for path in paths]
            listed = ("--literal-pathspecs", "ls-files", "-z", "--others", "--exclude-standard", "--", *wanted)
            new = [name for name in self.git(*listed, env=env).stdout.split(b"\0") if name and not name.endswith(b"/")]
            new += [os.fsencode(path) for path in pins if os.path.lexists(self.root / path)]
            tracked = [
                path
                for path in (*wanted, *pins)
                if self.git("--literal-pathspecs", "ls-files", "-z", "--", path, env=env).stdout
            ]
            try:
                if tracked:
                    self.git("--literal-pathspecs", "add", "--update", "--", *tracked, env=env)
                names = b"".join(name + b"\0" for name in new)
                self.git("update-index", "--add", "--replace", "-z", "--stdin", stdin=names, env=env)
                return self.git("write-tree", env=env).text.strip()
            except ToolError as error:
                if self.config("core.sparseCheckout") == "true":
                    cure = "`git sparse-checkout disable` brings them"
                    raise RepositoryError(f"the work tree is sparse and lacks files that count: {cure}") from error
                raise RepositoryError(f"the work tree cannot be read: {last_line(error)}") from error

    def private_clone(self, commit: str, target: Path) -> Self:
        """A clone of its own at ``commit`` that shares this one's objects and none of its settings.

        Every file holds the very bytes of its blob: filters, line ends and encodings that the branch or the user
        ask for are not applied, hooks, submodules and templates of theirs not run. Raises RemoteError when
        objects that a partial clone lacks cannot be brought.
        """
        self._bring_missing(commit)
        bare = {**NO_SETTINGS, "GIT_LFS_SKIP_SMUDGE": "1"}
        target.mkdir(parents=True)
        git_dir = target / ".git"
        run(["git", "init", "--quiet", "--template=", str(target)], cwd=target, env=environment(bare))
        write_atomically(git_dir / "objects" / "info" / "alternates", os.fsencode(self.common_dir / "objects") + b"\n")
        write_atomically(git_dir / "info" / "attributes", _RAW_BYTES.encode())
        shallow = self.common_dir / "shallow"
        if shallow.is_file():
            write_atomically(git_dir / "shallow", shallow.read_bytes())
        clone_of = type(self)(git_dir, git_dir, target)
        clone_of.git("update-ref", "--no-deref", "HEAD", commit, env=bare)
        clone_of.git("read-tree", "--reset", "-u", "HEAD", env=bare)
        return clone_of

    def check_branch_name(self, branch: str) -> None:
        """Raises RepositoryError for a name that Git allows no branch."""
        allowed = not branch.startswith("-") and branch != "HEAD" and "\0" not in branch
        if not allowed or self.git("check-ref-format", HEADS + branch, allowed=(0, 1)).returncode:
            raise RepositoryError(f"{branch!r} is not a name that Git allows for a branch")

    def create_branch(self, branch: str, commit: str) -> None:
        """A new local branch. Raises RepositoryError when the name is taken or not one that Git allows."""
        self.check_branch_name(branch)
        try:
            self.git("update-ref", HEADS + branch, commit, "0" * 40)
        except ToolError as error:
            raise RepositoryError(f"branch {branch} cannot be made: {last_line(error)}") from error

    def switch(self, branch: str) -> None:
        """Check a branch out. Raises RepositoryError when local changes are in the way."""
        try:
            self.git("switch", "--quiet", "--no-guess", "--no-recurse-submodules", "--end-of-options", branch)
        except ToolError as error:
            raise RepositoryError(f"cannot switch to {branch}: {last_line(error)}") from error

    def move_branch(self, branch: str, commit: str, old: str) -> None:
        """Move a local branch that is checked out nowhere from ``old`` (``""`` to make it). Raises RepositoryError."""
        try:
            self.git("update-ref", "-m", "cd4ml update", HEADS + branch, commit, old or "0" * 40)
        except ToolError as error:
            raise RepositoryError(f"branch {branch} cannot be moved: {last_line(error)}") from error

    def fast_forward(self, commit: str) -> None:
        """Move the branch that is checked out to a descendant; work tree and index follow.

        Raises RepositoryError when a file is in the way.
        """
        try:
            self.git("merge", "--quiet", "--ff-only", "--no-autostash", commit)
        except ToolError as error:
            raise RepositoryError(f"the work tree cannot follow: {last_line(error)}") from error

    def uncommitted(self) -> tuple[str, ...]:
        """Tracked paths that differ from HEAD, in the index or in the work tree."""
        return self._differing_from_head("--untracked-files=no")

    def uncommitted_below(self, *paths: str) -> tuple[str, ...]:
        """The same of these files and folders alone, with what is new and not ignored."""
        return self._differing_from_head("--untracked-files=all", "--", *paths)

    def _differing_from_head(self, *options: str) -> tuple[str, ...]:
        listed = self.git("status", "--porcelain=v1", "-z", "--no-renames", *options).text
        return tuple(line[3:] for line in listed.split("\0") if line)

    def worktree_of(self, branch: str) -> str | None:
        """The folder of the work tree in which a branch is checked out, or nothing."""
        folder = None
        for line in self.git("worktree", "list", "--porcelain").text.splitlines():
            word, _, rest = line.partition(" ")
            folder = rest if word == "worktree" else folder
            if (word, rest) == ("branch", HEADS + branch):
                return folder
        return None

    def commit_paths(self, paths: Sequence[str], message: str) -> str:
        """Commit exactly these paths of the work tree, whatever else is staged. Moves HEAD's branch.

        Raises RepositoryError when nothing in them has changed, or a merge is under way.
        """
        options = ("--quiet", "--no-verify", "--no-gpg-sign", "--cleanup=whitespace", "--message", message, "--only")
        if under_way := self.under_way():
            raise RepositoryError(f"cannot commit {', '.join(paths)}: {under_way} is under way: finish it, then commit")
        try:
            self.git("--literal-pathspecs", "add", "--force", "--", *paths)
            self.git("--literal-pathspecs", "commit", *options, "--", *paths, env=self._identity)
        except ToolError as error:
            raise RepositoryError(f"cannot commit {', '.join(paths)}: {last_line(error)}") from error
        return self.git("rev-parse", "HEAD").text.strip()
