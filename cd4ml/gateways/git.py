"""Git: one repository and its one remote, as short questions and orders.

Objects are read through GitPython; everything that looks at or moves refs is a plain ``git`` command,
with full ref names, so that no branch name is ever taken for an option. Hooks, fsmonitor and the ext
transport are off in every command.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from cd4ml.errors import RemoteError, RepositoryError, ToolError
from cd4ml.gateways.process import Completed, run

if TYPE_CHECKING:
    import git as gitpython

HERE = "."
"""The remote's name when a repository has none: it is then its own remote."""

HEADS = "refs/heads/"
LANDING = "refs/cd4ml/landing/"
INDEX_BRANCH = "cd4ml/index"
INDEX = HEADS + INDEX_BRANCH
_SEEN = "refs/cd4ml/remote/"

_HARDENING = (
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "protocol.ext.allow=never",
    "-c",
    "gc.auto=0",
    "-c",
    "maintenance.auto=false",
    "-c",
    "advice.detachedHead=false",
)
_FILE_MODES = frozenset({0o100644, 0o100755})
_NETWORK_SECONDS = 600.0


@dataclass(frozen=True)
class CommitInfo:
    """Who made a commit and when; ``author`` is ``Name <address>``, times ISO 8601 with zone."""

    commit: str
    tree: str
    parents: tuple[str, ...]
    author: str
    committer: str
    committed: str
    subject: str


@dataclass(frozen=True)
class RefUpdate:
    """Move ``ref`` on the remote from ``old`` to ``new``; an empty ``old`` creates, an empty ``new`` deletes."""

    ref: str
    old: str
    new: str


@dataclass(frozen=True)
class RemoteState:
    """The remote's refs as one fetch saw them: heads by branch name, landing refs by full name."""

    heads: Mapping[str, str]
    landing: Mapping[str, str]

    @property
    def index(self) -> str | None:
        """The tip of the index branch."""
        return self.heads.get(INDEX_BRANCH)


def _environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    return {
        **os.environ,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "LC_ALL": "C",
        **(extra or {}),
    }


def init(path: Path, *, bare: bool = False, branch: str = "main") -> None:
    """Make a repository at ``path``."""
    command = ["git", "init", "--quiet", f"--initial-branch={branch}", *(["--bare"] if bare else []), str(path)]
    run(command, cwd=path.parent if path.parent.exists() else Path.cwd(), env=_environment())


def clone(source: str, target: Path) -> None:
    """Clone as a person would, all branches. Raises RemoteError."""
    try:
        run(
            ["git", *_HARDENING, "clone", "--quiet", "--", source, str(target)],
            cwd=target.parent,
            env=_environment(),
            timeout=_NETWORK_SECONDS,
        )
    except ToolError as error:
        raise RemoteError(f"cannot clone {source}: {_last_line(error)}") from error


def open_repository(path: Path) -> Repository:
    """The repository that ``path`` lies in.

    Raises RepositoryError when there is none.
    """
    if not path.is_dir():
        raise RepositoryError(f"{path}: no such folder")
    try:
        answer = run(
            ["git", "rev-parse", "--path-format=absolute", "--git-dir", "--git-common-dir", "--is-bare-repository"],
            cwd=path,
            env=_environment(),
        ).text.splitlines()
    except ToolError as error:
        raise RepositoryError(f"{path}: {_last_line(error)} (make a project with `cd4ml init`)") from error
    git_dir, common_dir, bare = Path(answer[0]), Path(answer[1]), answer[2] == "true"
    if bare:
        return Repository(git_dir, common_dir, None)
    top = run(["git", "rev-parse", "--show-toplevel"], cwd=path, env=_environment(), allowed=(0, 128)).text.strip()
    return Repository(git_dir, common_dir, Path(top) if top else None)


@dataclass(frozen=True)
class Repository:
    """One repository on this machine. ``work_tree`` is missing in a bare one."""

    git_dir: Path
    common_dir: Path
    work_tree: Path | None

    @property
    def root(self) -> Path:
        """Where commands run: the work tree, or the Git directory of a bare repository."""
        return self.work_tree or self.git_dir

    @property
    def private(self) -> Path:
        """cd4ml's own folder in the Git directory: caches, private clones, logs. All of it can be deleted."""
        return self.common_dir / "cd4ml"

    def git(
        self,
        *arguments: str,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        allowed: tuple[int, ...] = (0,),
        timeout: float | None = None,
    ) -> Completed:
        """Run ``git`` here. Raises ToolError for an exit code that is not allowed."""
        command = ["git", *_HARDENING, *arguments]
        return run(command, cwd=self.root, env=_environment(env), stdin=stdin, allowed=allowed, timeout=timeout)

    @cached_property
    def _objects(self) -> gitpython.Repo:
        import git as gitpython

        return gitpython.Repo(self.root)

    # ── questions about commits and trees ──

    def resolve(self, revision: str) -> str | None:
        """The commit that a revision names, or nothing. Never taken for an option."""
        done = self.git(
            "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}", allowed=(0, 1, 128)
        )
        lines = done.text.split()
        return lines[-1] if done.returncode == 0 and lines else None

    def commit_info(self, commit: str) -> CommitInfo:
        """Facts of a commit."""
        form = "%H%x00%T%x00%P%x00%an <%ae>%x00%cn <%ce>%x00%cI%x00%s"
        fields = (
            self.git("show", "--no-patch", "--no-show-signature", f"--format={form}", commit)
            .text.rstrip("\n")
            .split("\0")
        )
        return CommitInfo(fields[0], fields[1], tuple(fields[2].split()), fields[3], fields[4], fields[5], fields[6])

    def tree_of(self, treeish: str) -> str:
        """The tree of a commit or tree."""
        return self.git("rev-parse", "--verify", f"{treeish}^{{tree}}").text.strip()

    def entry(self, treeish: str, path: str) -> str | None:
        """The object id at ``path`` in a tree, or nothing."""
        listed = self.git("--literal-pathspecs", "ls-tree", "-z", treeish, "--", path.rstrip("/")).text
        return listed.split("\t", 1)[0].split(" ")[2] if listed else None

    def read_files(self, treeish: str, folder: str) -> dict[str, bytes]:
        """Every regular file under ``folder``, by its path from the root of the tree.

        Raises RepositoryError for a symbolic link or submodule among them.
        """
        import git as gitpython

        object_id = self.entry(treeish, folder)
        if object_id is None:
            return {}
        tree = gitpython.Tree(self._objects, bytes.fromhex(object_id), 0o40000, folder.rstrip("/"))
        files: dict[str, bytes] = {}
        for item in tree.traverse():
            if isinstance(item, gitpython.Tree):
                continue
            if not isinstance(item, gitpython.Blob) or item.mode not in _FILE_MODES:
                kind = "submodule" if not isinstance(item, gitpython.Blob) else "symbolic link"
                raise RepositoryError(f"{getattr(item, 'path', folder)}: a {kind} is not allowed here")
            files[str(item.path)] = item.data_stream.read()
        return files

    def read_blob(self, treeish: str, path: str, limit: int) -> bytes | None:
        """The bytes at ``path``, or nothing when there is no regular file; at most ``limit`` + 1 bytes."""
        listed = self.git("--literal-pathspecs", "ls-tree", "-z", treeish, "--", path).text
        if not listed.startswith(("100644 blob", "100755 blob")):
            return None
        stream = self._objects.odb.stream(bytes.fromhex(listed.split("\t", 1)[0].split(" ")[2]))
        return bytes(stream.read(limit + 1))

    def read_tree(self, treeish: str) -> dict[str, bytes]:
        """Every file of a tree by path, in two commands however many there are."""
        listed = self.git("ls-tree", "-r", "-z", treeish).stdout
        names: list[tuple[str, str]] = []
        for line in filter(None, listed.split(b"\0")):
            meta, path = line.split(b"\t", 1)
            mode, _, object_id = meta.decode().split(" ")
            if int(mode, 8) in _FILE_MODES:
                names.append((path.decode("utf-8", "replace"), object_id))
        packed = self.git(
            "cat-file", "--batch", stdin="".join(f"{object_id}\n" for _, object_id in names).encode()
        ).stdout
        files: dict[str, bytes] = {}
        position = 0
        for name, _ in names:
            end = packed.index(b"\n", position)
            size = int(packed[position:end].split(b" ")[2])
            files[name] = packed[end + 1 : end + 1 + size]
            position = end + 1 + size + 1
        return files

    def changed_paths(self, before: str, after: str) -> tuple[str, ...]:
        """Paths that differ between two trees, renames taken as two."""
        listed = self.git("diff-tree", "-r", "-z", "--no-renames", "--name-only", before, after).text
        return tuple(filter(None, listed.split("\0")))

    def is_ancestor(self, ancestor: str, commit: str) -> bool:
        """Does the history of ``commit`` hold ``ancestor``?"""
        return self.git("merge-base", "--is-ancestor", ancestor, commit, allowed=(0, 1)).returncode == 0

    def first_parents(self, commit: str, most: int) -> tuple[str, ...]:
        """The commit and its first-parent history, newest first."""
        return tuple(self.git("rev-list", "--first-parent", f"--max-count={most}", commit).text.split())

    def merge_tree(self, ours: str, theirs: str) -> tuple[str | None, tuple[str, ...]]:
        """The tree that merging gives, without a work tree; nothing and the files when it conflicts.

        Raises RepositoryError for histories that share nothing.
        """
        try:
            done = self.git(
                "merge-tree", "--write-tree", "--name-only", "--no-messages", "-z", ours, theirs, allowed=(0, 1)
            )
        except ToolError as error:
            raise RepositoryError(f"{theirs[:12]} cannot be merged: {_last_line(error)}") from error
        parts = [part for part in done.text.split("\0") if part]
        return (parts[0].strip(), ()) if done.returncode == 0 else (None, tuple(dict.fromkeys(parts[1:])))

    # ── questions about this clone ──

    def config(self, key: str) -> str:
        """A Git configuration value, or ``""``."""
        return self.git("config", "--get", key, allowed=(0, 1)).text.strip()

    def remotes(self) -> tuple[str, ...]:
        """Names of the remotes of this clone."""
        return tuple(self.git("remote").text.splitlines())

    def remote_url(self, remote: str) -> str:
        """Where a remote lies, as a clone elsewhere on this machine could name it."""
        if remote == HERE:
            return str(self.common_dir)
        url = self.git("remote", "get-url", remote).text.strip()
        local = "://" not in url and ":" not in url.split("/", 1)[0]
        return str((self.root / url).resolve()) if local else url

    def default_branch(self, remote: str) -> str | None:
        """The branch that the remote's HEAD names. Raises RemoteError."""
        lines = self._remote_command("ls-remote", "--symref", remote, "HEAD").text.splitlines()
        for line in lines:
            if line.startswith("ref: " + HEADS):
                return line.split("\t")[0].removeprefix("ref: " + HEADS)
        return None

    def current_branch(self) -> str | None:
        """The branch that HEAD names, or nothing when it is detached."""
        done = self.git("symbolic-ref", "--quiet", "HEAD", allowed=(0, 1))
        return done.text.strip().removeprefix(HEADS) or None

    def local_heads(self) -> dict[str, str]:
        """Commits of the local branches, by name."""
        return self._refs(HEADS)

    def is_dirty(self) -> bool:
        """Are there changes in the work tree or index that are not committed (untracked files aside)?"""
        return bool(self.git("status", "--porcelain", "--untracked-files=no").text.strip())

    def _refs(self, prefix: str, keep_prefix: str = "") -> dict[str, str]:
        listed = self.git("for-each-ref", "--format=%(objectname) %(refname)", prefix).text
        pairs = (line.split(" ", 1) for line in listed.splitlines())
        return {keep_prefix + name.removeprefix(prefix): commit for commit, name in pairs}

    # ── the remote ──

    def _remote_command(self, *arguments: str, allowed: tuple[int, ...] = (0,)) -> Completed:
        try:
            return self.git(*arguments, allowed=allowed, timeout=_NETWORK_SECONDS)
        except ToolError as error:
            raise RemoteError(f"git {arguments[0]}: {_last_line(error)}") from error

    def fetch(self, remote: str) -> RemoteState:
        """Bring the remote's heads and landing refs in, under a namespace of cd4ml's own.

        Side effects: moves refs under ``refs/cd4ml/remote/`` only. Raises RemoteError.
        """
        self._remote_command(
            "fetch",
            "--quiet",
            "--no-tags",
            "--prune",
            "--no-write-fetch-head",
            "--no-recurse-submodules",
            "--refmap=",
            remote,
            f"+{LANDING}*:{_SEEN}landing/*",
            f"+{HEADS}*:{_SEEN}heads/*",
        )
        return self.last_seen()

    def last_seen(self) -> RemoteState:
        """What the last fetch saw; no network."""
        return RemoteState(self._refs(_SEEN + "heads/"), self._refs(_SEEN + "landing/", LANDING))

    def remote_ref(self, remote: str, ref: str) -> str | None:
        """Read one ref of the remote now. Raises RemoteError."""
        lines = self._remote_command("ls-remote", remote, ref).text.splitlines()
        return next((line.split("\t")[0] for line in lines if line.endswith("\t" + ref)), None)

    def push(self, remote: str, updates: Sequence[RefUpdate]) -> None:
        """Move all these refs on the remote, or none.

        Each moves only from its stated old value. Raises RemoteError, after which nobody knows: read back.
        """
        leases = [f"--force-with-lease={update.ref}:{update.old}" for update in updates]
        specs = [f"{update.new}:{update.ref}" for update in updates]
        self._remote_command("push", "--quiet", "--atomic", "--no-verify", *leases, remote, *specs)

    # ── writing objects; no ref moves ──

    def write_tree(self, base: str | None, files: Mapping[str, bytes]) -> str:
        """A tree like ``base`` (or an empty one) with these files put in. Writes objects only."""
        with tempfile.TemporaryDirectory(prefix="cd4ml-index-") as folder:
            env = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
            if base is not None:
                self.git("read-tree", base, env=env)
            lines = []
            for path, data in sorted(files.items()):
                object_id = self.git("hash-object", "-w", "--stdin", "--no-filters", stdin=data).text.strip()
                lines.append(f"100644 {object_id}\t{path}\0")
            self.git("update-index", "-z", "--index-info", stdin="".join(lines).encode(), env=env)
            return self.git("write-tree", env=env).text.strip()

    def commit_tree(
        self, tree: str, parents: Iterable[str], message: str, identity: Mapping[str, str] | None = None
    ) -> str:
        """A commit of that tree. Without an identity configured, it is cd4ml's own."""
        options = [argument for parent in parents for argument in ("-p", parent)]
        env = identity or self._identity
        return self.git("commit-tree", "--no-gpg-sign", *options, tree, stdin=message.encode(), env=env).text.strip()

    @cached_property
    def _identity(self) -> Mapping[str, str]:
        """What Git lacks to make a commit: nothing when a name and address are configured."""
        if self.git("var", "GIT_COMMITTER_IDENT", allowed=(0, 128)).returncode == 0 and self.config("user.email"):
            return {}
        given = {
            name: value for name, value in os.environ.items() if name.startswith(("GIT_AUTHOR_", "GIT_COMMITTER_"))
        }
        own = {
            "GIT_AUTHOR_NAME": "cd4ml",
            "GIT_AUTHOR_EMAIL": "cd4ml@localhost",
            "GIT_COMMITTER_NAME": "cd4ml",
            "GIT_COMMITTER_EMAIL": "cd4ml@localhost",
        }
        return {**own, **given}

    def me(self) -> str:
        """``Name <address>`` of whoever runs this."""
        name = (
            self._identity.get("GIT_COMMITTER_NAME") or os.environ.get("GIT_COMMITTER_NAME") or self.config("user.name")
        )
        mail = (
            self._identity.get("GIT_COMMITTER_EMAIL")
            or os.environ.get("GIT_COMMITTER_EMAIL")
            or self.config("user.email")
        )
        return f"{name} <{mail}>"

    # ── clones and branches ──

    def private_clone(self, commit: str, target: Path) -> Repository:
        """A clone of its own at ``commit`` that shares this one's objects and none of its settings.

        Filters, hooks, submodules and templates of the branch or the user are not run.
        """
        bare = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_LFS_SKIP_SMUDGE": "1"}
        target.mkdir(parents=True)
        run(["git", "init", "--quiet", "--template=", str(target)], cwd=target, env=_environment(bare))
        alternates = target / ".git" / "objects" / "info" / "alternates"
        alternates.parent.mkdir(parents=True, exist_ok=True)
        alternates.write_text(f"{self.common_dir / 'objects'}\n", "utf-8")
        clone_of = Repository(target / ".git", target / ".git", target)
        clone_of.git("update-ref", "--no-deref", "HEAD", commit, env=bare)
        clone_of.git("read-tree", "--reset", "-u", "HEAD", env=bare)
        return clone_of

    def create_branch(self, branch: str, commit: str) -> None:
        """A new local branch. Raises RepositoryError when the name is taken or not one that Git allows."""
        if self.git("check-ref-format", HEADS + branch, allowed=(0, 1)).returncode:
            raise RepositoryError(f"{branch!r} is not a name that Git allows for a branch")
        try:
            self.git("update-ref", HEADS + branch, commit, "0" * 40)
        except ToolError as error:
            raise RepositoryError(f"branch {branch} cannot be made: {_last_line(error)}") from error

    def update_branch(self, branch: str, new: str, old: str) -> None:
        """Move a local branch that is not checked out. Raises ToolError when it has moved."""
        self.git("update-ref", HEADS + branch, new, old)

    def switch(self, branch: str) -> None:
        """Check a branch out. Raises RepositoryError when local changes are in the way."""
        try:
            self.git("switch", "--quiet", "--no-guess", branch)
        except ToolError as error:
            raise RepositoryError(f"cannot switch to {branch}: {_last_line(error)}") from error

    def commit_paths(self, paths: Sequence[str], message: str) -> str:
        """Commit exactly these paths of the work tree, whatever else is staged. Moves HEAD's branch."""
        env = dict(self._identity)
        self.git("--literal-pathspecs", "add", "--force", "--", *paths)
        self.git(
            "--literal-pathspecs",
            "commit",
            "--quiet",
            "--no-verify",
            "--no-gpg-sign",
            "--message",
            message,
            "--only",
            "--",
            *paths,
            env=env,
        )
        return self.git("rev-parse", "HEAD").text.strip()

    def close(self) -> None:
        """End the helper processes that reading objects started."""
        if "_objects" in self.__dict__:
            self._objects.close()


def _last_line(error: ToolError) -> str:
    lines = [line.strip() for line in error.stderr.splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("fatal:", "error:", "!", "remote:"))]
    return (telling or lines or [f"exit code {error.returncode}"])[0].removeprefix("fatal: ").removeprefix("error: ")
