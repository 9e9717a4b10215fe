"""Git: one repository and its one remote, as short questions and orders.

Objects are read through GitPython; everything that looks at or moves refs is a plain ``git`` command,
with full ref names, so that no branch name is ever taken for an option. Hooks, fsmonitor and the ext
transport are off in every command, and no ``GIT_*`` variable leads one to another place.
"""

from __future__ import annotations

import os
import re
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from cd4ml.errors import IntegrityError, RemoteError, RepositoryError, ToolError
from cd4ml.gateways.files import naming, write_atomically
from cd4ml.gateways.process import Completed, run, without_git_variables

if TYPE_CHECKING:
    import git as gitpython

HERE = "."
"""The remote's name when a repository has none: it is then its own remote."""

HEADS = "refs/heads/"
LANDING = "refs/cd4ml/landing/"
INDEX_BRANCH = "cd4ml/index"
INDEX = HEADS + INDEX_BRANCH
_SEEN = "refs/cd4ml/remote/"
_DRAFT = "refs/cd4ml/draft/"

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
    "-c",
    "core.useReplaceRefs=false",
    "-c",
    "core.splitIndex=false",
    "-c",
    "i18n.commitEncoding=UTF-8",
)
_FILE_MODES = frozenset({"100644", "100755"})
_KINDS = {"120000": "symbolic link", "160000": "submodule"}
_UNDER_WAY = {
    "MERGE_HEAD": "a merge",
    "CHERRY_PICK_HEAD": "a cherry-pick",
    "REVERT_HEAD": "a revert",
    "rebase-merge": "a rebase",
    "rebase-apply": "a rebase",
}
_LONGEST_NAME = 255
_LARGEST_FOLDER = 32 << 20
_RAW_BYTES = "* -text !eol -ident -filter !working-tree-encoding\n"
_NETWORK_SECONDS = 600.0
_NO_SETTINGS = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_ATTR_NOSYSTEM": "1"}


@dataclass(frozen=True)
class CommitInfo:
    """Who made a commit and when; ``author`` is ``Name <address>``, ``committed`` ISO 8601 in UTC."""

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
    """The remote's refs as one fetch saw them: heads by branch name, landing refs by full name.

    ``drafts`` are records that are kept here alone, by the name of the ref that they would land under."""

    heads: Mapping[str, str]
    landing: Mapping[str, str]
    drafts: Mapping[str, str] = field(default_factory=dict)

    @property
    def index(self) -> str | None:
        """The tip of the index branch."""
        return self.heads.get(INDEX_BRANCH)


@dataclass(frozen=True)
class Draft:
    """A record that is kept here alone: its commit, and the fingerprint that the commit's message names."""

    commit: str
    fingerprint: str


def _environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    return {
        **without_git_variables(os.environ),
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "LC_ALL": "C",
        **(extra or {}),
    }


def init(path: Path, *, bare: bool = False, branch: str = "main") -> None:
    """Make a repository at ``path``."""
    command = ["git", "init", "--quiet", f"--initial-branch={branch}", *(["--bare"] if bare else []), str(path)]
    run(command, cwd=path.parent if path.parent.exists() else Path.cwd(), env=_environment())


_ASKED = ("--is-bare-repository", "--show-object-format")


def open_repository(path: Path) -> Repository:
    """The repository that ``path`` lies in.

    Raises RepositoryError when there is none.
    """
    if not path.is_dir():
        raise RepositoryError(f"{path}: no such folder")
    try:
        answer = run(
            ["git", *_HARDENING, "rev-parse", "--path-format=absolute", "--git-dir", "--git-common-dir", *_ASKED],
            cwd=path,
            env=_environment(),
        ).stdout.splitlines()
    except ToolError as error:
        hint = " (make a project with `cd4ml init`)" if "not a git repository" in error.stderr else ""
        raise RepositoryError(f"{path}: {_last_line(error)}{hint}") from error
    git_dir, common_dir, bare = Path(os.fsdecode(answer[0])), Path(os.fsdecode(answer[1])), answer[2] == b"true"
    if answer[3] != b"sha1":
        raise RepositoryError(f"{path}: its objects are named by {answer[3].decode()}; cd4ml works with sha1")
    if bare:
        return Repository(git_dir, common_dir, None)
    command = ["git", *_HARDENING, "rev-parse", "--show-toplevel"]
    top = os.fsdecode(run(command, cwd=path, env=_environment(), allowed=(0, 128)).stdout).removesuffix("\n")
    return Repository(git_dir, common_dir, Path(top) if top else None)


@dataclass(frozen=True)
class Repository:
    """One repository on this machine. ``work_tree`` is missing in a bare one."""

    git_dir: Path
    common_dir: Path
    work_tree: Path | None
    _reading: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

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

        repository = gitpython.Repo(self.root)
        places = {
            "GIT_DIR": str(self.git_dir),
            "GIT_COMMON_DIR": str(self.common_dir),
            "GIT_OBJECT_DIRECTORY": str(self.common_dir / "objects"),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": "",
            "GIT_CONFIG_COUNT": "0",
            "GIT_CONFIG_PARAMETERS": "",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_TERMINAL_PROMPT": "0",
        }
        repository.git.update_environment(**places)
        return repository

    def _read_object(self, object_id: str, limit: int) -> bytes | None:
        """The first ``limit`` bytes of a blob; nothing when it has more. One reader at a time, as GitPython asks."""
        with self._reading:
            try:
                odb, name = self._objects.odb, bytes.fromhex(object_id)
                return None if odb.info(name).size > limit else bytes(odb.stream(name).read())
            except ValueError as error:
                raise IntegrityError(f"object {object_id} cannot be read: the clone is damaged or partial") from error

    # ── questions about commits and trees ──

    def resolve(self, revision: str) -> str | None:
        """The commit that a revision names, or nothing. Never taken for an option."""
        if not revision or "\0" in revision or "\n" in revision:
            return None
        done = self.git(
            "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}", allowed=(0, 1, 128)
        )
        lines = done.text.split()
        return lines[-1] if done.returncode == 0 and lines and not lines[-1].startswith("^") else None

    def commit_info(self, commit: str) -> CommitInfo:
        """Facts of a commit. Raises RepositoryError for what is none."""
        form = "%H%x00%T%x00%P%x00%an <%ae>%x00%cn <%ce>%x00%ct%x00%s"
        options = ("--no-patch", "--no-show-signature", "--no-notes", "--encoding=UTF-8", f"--format={form}")
        try:
            told = self.git("log", "-1", *options, "--end-of-options", f"{commit}^{{commit}}").text
        except ToolError as error:
            raise RepositoryError(f"{commit}: is not a commit here") from error
        fields = told.rstrip("\n").split("\0", 6)
        _, tree, parents, author, committer, seconds, subject = fields
        return CommitInfo(fields[0], tree, tuple(parents.split()), author, committer, _instant(seconds), subject)

    def tree_of(self, treeish: str) -> str:
        """The tree of a commit or tree. Raises RepositoryError when it is not here."""
        done = self.git(
            "rev-parse", "--verify", "--quiet", "--end-of-options", f"{treeish}^{{tree}}", allowed=(0, 1, 128)
        )
        if done.returncode:
            raise RepositoryError(f"{treeish}: no such commit or tree here")
        return done.text.split()[-1]

    def _listed(self, treeish: str, path: str = "", *options: str) -> Iterator[tuple[str, str, bytes]]:
        """Mode, object id and path of the entry at ``path`` (of all, with ``-r`` and no path)."""
        if path and (set(path.split("/")) & {"", ".", ".."} or "\0" in path):
            return
        paths = ("--", path) if path else ()
        listed = self.git("--literal-pathspecs", "ls-tree", "-z", *options, "--end-of-options", treeish, *paths).stdout
        for line in filter(None, listed.split(b"\0")):
            meta, name = line.split(b"\t", 1)
            mode, _, object_id = meta.decode().split(" ")
            yield mode, object_id, name

    def entry(self, treeish: str, path: str) -> str | None:
        """The object id at ``path`` in a tree, or nothing; nothing for a path that leads out of it, too."""
        return next((object_id for _, object_id, _ in self._listed(treeish, path.rstrip("/") or ".")), None)

    def read_files(self, treeish: str, folder: str) -> dict[str, bytes]:
        """Every regular file under ``folder``, by its path from the root of the tree.

        What comes back can be written to any folder: it stays inside, and every name fits. Raises RepositoryError
        for a symbolic link or submodule among the files, a name that no file system takes, or more than
        32 MiB in all.
        """
        files: dict[str, bytes] = {}
        left = _LARGEST_FOLDER
        for mode, object_id, name in self._listed(treeish, folder.rstrip("/"), "-r"):
            path = name.decode("utf-8", "backslashreplace")
            if mode not in _FILE_MODES or path == folder.rstrip("/"):
                raise RepositoryError(f"{path}: a {_KINDS.get(mode, 'file')} is not allowed here")
            if not _is_writable(name):
                raise RepositoryError(f"{path}: a file of that name cannot be written")
            data = self._read_object(object_id, left)
            if data is None:
                raise RepositoryError(f"{path}: with it, {folder} holds more than {_LARGEST_FOLDER >> 20} MiB")
            left -= len(data)
            files[path] = data
        twice = next((path for path in files for above in _above(path) if above in files), None)
        if twice is not None:
            raise RepositoryError(f"{twice}: lies below a file")
        return files

    def blob_ids(self, treeish: str, path: str) -> dict[str, str]:
        """The object id of every file, link and submodule at or under ``path``, by its path from the root."""
        listed = self._listed(treeish, path.rstrip("/"), "-r")
        return {name.decode("utf-8", "backslashreplace"): object_id for _, object_id, name in listed}

    def read_blob(self, treeish: str, path: str, limit: int) -> bytes | None:
        """The bytes at ``path``, or nothing when there is no regular file; the first ``limit`` + 1 of them."""
        for mode, object_id, _ in self._listed(treeish, path.rstrip("/") or "."):
            if mode in _FILE_MODES:
                whole = self._read_object(object_id, limit)
                return self._first_bytes(object_id, limit + 1) if whole is None else whole
        return None

    def _first_bytes(self, object_id: str, count: int) -> bytes:
        with self._reading:
            stream = self._objects.odb.stream(bytes.fromhex(object_id))
            start = bytes(stream.read(count))
            while stream.read(1 << 20):  # the rest has to be taken before the next object can be asked for
                pass
        return start

    def read_tree(self, treeish: str) -> dict[str, bytes]:
        """Every file of a tree by path, in two commands however many there are.

        Links and submodules are left out; a path that is not UTF-8 is shown with escapes. Raises RepositoryError
        when an object is missing.
        """
        names = [
            (path.decode("utf-8", "backslashreplace"), object_id)
            for mode, object_id, path in self._listed(treeish, "", "-r")
            if mode in _FILE_MODES
        ]
        packed = self.git(
            "cat-file", "--batch", stdin="".join(f"{object_id}\n" for _, object_id in names).encode()
        ).stdout
        files: dict[str, bytes] = {}
        position = 0
        for name, object_id in names:
            end = packed.index(b"\n", position)
            head = packed[position:end].split(b" ")
            if len(head) != 3:  # "<id> blob <size>"; "<id> missing" when it is not there
                raise IntegrityError(f"{name}: its object {object_id} is not here: the clone is damaged or partial")
            size = int(head[2])
            files[name] = packed[end + 1 : end + 1 + size]
            position = end + 1 + size + 1
        return files

    def changed_paths(self, before: str, after: str) -> tuple[str, ...]:
        """Paths that differ between two trees, renames taken as two."""
        options = ("-r", "-z", "--no-renames", "--no-ext-diff", "--ignore-submodules=none", "--name-only")
        listed = self.git("diff-tree", *options, "--end-of-options", before, after).text
        return tuple(filter(None, listed.split("\0")))

    def is_ancestor(self, ancestor: str, commit: str) -> bool:
        """Does the history of ``commit`` hold ``ancestor``?"""
        return self.git("merge-base", "--is-ancestor", ancestor, commit, allowed=(0, 1)).returncode == 0

    def first_parents(self, commit: str) -> tuple[str, ...]:
        """The commit and its first-parent history, newest first."""
        options = ("--first-parent", "--end-of-options")
        return tuple(self.git("rev-list", *options, commit).text.split())

    def merge_tree(self, ours: str, theirs: str) -> tuple[str | None, tuple[str, ...]]:
        """The tree that merging gives, without a work tree; nothing and the files when it conflicts.

        A function of the two commits alone, so that everyone gets the same tree: neither settings (rename
        detection, merge drivers) nor attributes, of the user or of whatever is checked out, count. (A partial
        clone is the exception: only its own settings can bring missing objects.)
        Raises RepositoryError for histories that share nothing.
        """
        tree, conflicts = self.merged_tree(ours, theirs)
        return (None, conflicts) if conflicts else (tree, ())

    def merged_tree(self, ours: str, theirs: str) -> tuple[str, tuple[str, ...]]:
        """The same, where a conflict gives a tree too: files that conflict hold both sides between markers."""
        options = ("--write-tree", "--name-only", "--no-messages", "-z", "--end-of-options")
        try:
            with self._settingless() as env:
                done = self.git(
                    "-c", "core.attributesFile=/dev/null", "merge-tree", *options, ours, theirs, env=env, allowed=(0, 1)
                )
        except ToolError as error:
            raise RepositoryError(f"{theirs[:12]} cannot be merged: {_last_line(error)}") from error
        parts = [part for part in done.text.split("\0") if part]
        if not parts:
            raise RepositoryError(f"{theirs[:12]} cannot be merged: {done.stderr.decode('utf-8', 'replace').strip()}")
        return parts[0].strip(), () if done.returncode == 0 else tuple(dict.fromkeys(parts[1:]))

    def merge_base(self, ours: str, theirs: str) -> str | None:
        """The newest commit that both histories hold; nothing when they share none."""
        done = self.git("merge-base", ours, theirs, allowed=(0, 1))
        return done.text.split()[0] if done.returncode == 0 else None

    @contextmanager
    def _settingless(self) -> Iterator[Mapping[str, str]]:
        """Variables for a command that sees this repository's objects, and no settings, refs or files."""
        if self._promisor:
            yield {}
            return
        with tempfile.TemporaryDirectory(prefix="cd4ml-merge-") as folder:
            bare = Path(folder)
            (bare / "objects").mkdir()
            (bare / "refs").mkdir()
            with naming(bare):
                (bare / "HEAD").write_text("ref: refs/heads/none\n", "utf-8")
                (bare / "config").write_text("[core]\n\trepositoryformatversion = 0\n\tbare = true\n", "utf-8")
            shallow = self.common_dir / "shallow"
            yield {
                **_NO_SETTINGS,
                "GIT_DIR": folder,
                "GIT_OBJECT_DIRECTORY": str(self.common_dir / "objects"),
                **({"GIT_SHALLOW_FILE": str(shallow)} if shallow.is_file() else {}),
            }

    # ── questions about this clone ──

    def config(self, key: str) -> str:
        """A Git configuration value, or ``""``."""
        return self.git("config", "--get", key, allowed=(0, 1)).text.strip()

    def remotes(self) -> tuple[str, ...]:
        """Names of the remotes of this clone."""
        return tuple(self.git("remote").text.splitlines())

    def default_branch(self, remote: str) -> str | None:
        """The branch that the remote's HEAD names. Raises RemoteError."""
        lines = self._remote_command("ls-remote", "--symref", "--end-of-options", remote, "HEAD").text.splitlines()
        for line in lines:
            if line.startswith("ref: " + HEADS):
                return line.split("\t")[0].removeprefix("ref: " + HEADS)
        return None

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

    def _refs(self, prefix: str, keep_prefix: str = "") -> dict[str, str]:
        listed = self.git("for-each-ref", "--format=%(objecttype) %(objectname) %(refname)", prefix).text
        parts = (line.split(" ", 2) for line in listed.split("\n") if line)
        return {keep_prefix + name.removeprefix(prefix): commit for kind, commit, name in parts if kind == "commit"}

    # ── the remote ──

    def _remote_command(
        self, verb: str, *arguments: str, settings: tuple[str, ...] = (), stdin: bytes = b""
    ) -> Completed:
        options = tuple(word for setting in settings for word in ("-c", setting))
        try:
            return self.git(*options, verb, *arguments, stdin=stdin, timeout=_NETWORK_SECONDS)
        except ToolError as error:
            raise RemoteError(f"git {verb}: {_last_line(error)}") from error

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
            "--end-of-options",
            remote,
            f"+{LANDING}*:{_SEEN}landing/*",
            f"+{HEADS}*:{_SEEN}heads/*",
        )
        return self.last_seen()

    def last_seen(self) -> RemoteState:
        """What the last fetch saw; no network. A landing ref to anything but a commit holds no record: left out."""
        seen = (self._refs(_SEEN + "heads/"), self._refs(_SEEN + "landing/", LANDING))
        return RemoteState(*seen, self._refs(_DRAFT, LANDING))

    def drafts_by_age(self) -> dict[str, Draft]:
        """The drafts by the name of their record, the oldest first."""
        form = "%(objectname) %(refname) %(contents:trailers:key=Fingerprint,valueonly)"
        listed = self.git("for-each-ref", "--sort=committerdate", f"--format={form}%00", _DRAFT).text
        parts = (line.strip().split(" ", 2) for line in listed.split("\0") if line.strip())
        return {ref.removeprefix(_DRAFT): Draft(commit, fingerprint.strip()) for commit, ref, fingerprint in parts}

    def keep_draft(self, name: str, commit: str) -> None:
        """Keep a record's commit here alone, under the name that it would land with."""
        self.git("update-ref", _DRAFT + name, commit)

    def drop_draft(self, name: str) -> None:
        """Forget a draft; harmless when there is none."""
        self.git("update-ref", "-d", _DRAFT + name)

    def remote_ref(self, remote: str, ref: str) -> str | None:
        """Read one ref of the remote now. Raises RemoteError."""
        lines = self._remote_command("ls-remote", "--end-of-options", remote, ref).text.splitlines()
        return next((line.split("\t")[0] for line in lines if line.endswith("\t" + ref)), None)

    def push(self, remote: str, updates: Sequence[RefUpdate]) -> None:
        """Move all these refs on the remote, or none.

        Each moves only from its stated old value. Raises RemoteError, after which nobody knows: read back.
        """
        leases = [f"--force-with-lease={update.ref}:{update.old}" for update in updates]
        specs = [f"{update.new}:{update.ref}" for update in updates]
        # what the user's settings would push beside these, or refuse for, is none of this push
        options = ("--no-follow-tags", "--recurse-submodules=no", "--no-signed", "--no-verify")
        settings = ("push.pushOption=", *(() if remote == HERE else (f"remote.{remote}.mirror=false",)))
        self._remote_command(
            "push", "--quiet", "--atomic", *options, *leases, "--end-of-options", remote, *specs, settings=settings
        )

    # ── writing objects; no ref moves ──

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
                raise RepositoryError(f"the work tree cannot be read: {_last_line(error)}") from error

    def write_tree(self, base: str | None, files: Mapping[str, bytes], without: str = "") -> str:
        """A tree like ``base`` (or an empty one) with these files put in. Writes objects only.

        What ``base`` holds in the folder ``without`` is left out.

        Raises RepositoryError for a path that leads out of the tree.
        """
        wrong = next((path for path in files if not _is_writable(path.encode("utf-8", "surrogateescape"))), None)
        if wrong is not None:  # Git would leave such a path out and report success
            raise RepositoryError(f"{wrong}: a file of that name cannot be written")
        with tempfile.TemporaryDirectory(prefix="cd4ml-index-") as folder:
            env = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
            if base is not None:
                self.git("read-tree", "--end-of-options", base, env=env)
            if base is not None and without:
                gone = (f"0 {'0' * 40}\t".encode() + name + b"\0" for _, _, name in self._listed(base, without, "-r"))
                self.git("update-index", "-z", "--index-info", stdin=b"".join(gone), env=env)
            ordered = sorted(files.items())
            sources = [Path(folder) / str(number) for number in range(len(ordered))]
            for source, (_, data) in zip(sources, ordered, strict=True):
                with naming(source):
                    source.write_bytes(data)
            listed = "".join(f"{source}\n" for source in sources).encode()
            made = self.git("hash-object", "-w", "--no-filters", "--stdin-paths", stdin=listed).text.split()
            lines = [f"100644 {object_id}\t{path}\0" for object_id, (path, _) in zip(made, ordered, strict=True)]
            # a file of the base where a folder has to be, or the other way round, gives way
            self.git("update-index", "--replace", "-z", "--index-info", stdin="".join(lines).encode(), env=env)
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
        """``Name <address>`` of whoever runs this, as a commit made now would say."""
        told = self.git("var", "GIT_COMMITTER_IDENT", env=self._identity).text
        return told[: told.rindex(">") + 1]

    # ── clones and branches ──

    def private_clone(self, commit: str, target: Path) -> Repository:
        """A clone of its own at ``commit`` that shares this one's objects and none of its settings.

        Every file holds the very bytes of its blob: filters, line ends and encodings that the branch or the user
        ask for are not applied, hooks, submodules and templates of theirs not run. Raises RemoteError when
        objects that a partial clone lacks cannot be brought.
        """
        self._bring_missing(commit)
        bare = {**_NO_SETTINGS, "GIT_LFS_SKIP_SMUDGE": "1"}
        target.mkdir(parents=True)
        git_dir = target / ".git"
        run(["git", "init", "--quiet", "--template=", str(target)], cwd=target, env=_environment(bare))
        write_atomically(git_dir / "objects" / "info" / "alternates", os.fsencode(self.common_dir / "objects") + b"\n")
        write_atomically(git_dir / "info" / "attributes", _RAW_BYTES.encode())
        shallow = self.common_dir / "shallow"
        if shallow.is_file():
            write_atomically(git_dir / "shallow", shallow.read_bytes())
        clone_of = Repository(git_dir, git_dir, target)
        clone_of.git("update-ref", "--no-deref", "HEAD", commit, env=bare)
        clone_of.git("read-tree", "--reset", "-u", "HEAD", env=bare)
        return clone_of

    @cached_property
    def _promisor(self) -> str:
        """The remote that a partial clone takes missing objects from; ``""`` for a whole clone."""
        listed = self.git("config", "--type=bool", "--get-regexp", r"^remote\..*\.promisor$", allowed=(0, 1)).text
        keys = [line.removesuffix(" true") for line in listed.splitlines() if line.endswith(" true")]
        names = [key.removeprefix("remote.").removesuffix(".promisor") for key in keys]
        return names[0] if names else self.config("extensions.partialClone")

    def _bring_missing(self, commit: str) -> None:
        """In a partial clone, fetch what the tree of ``commit`` lacks; a clone of this one could not."""
        if not self._promisor:
            return
        listed = self.git("rev-list", "--objects", "--no-walk", "--missing=print", "--end-of-options", commit).text
        missing = [line[1:] for line in listed.splitlines() if line.startswith("?")]
        if missing:
            options = ("--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--refmap=")
            self._remote_command(
                "fetch",
                *options,
                "--stdin",
                "--end-of-options",
                self._promisor,
                settings=("fetch.negotiationAlgorithm=noop",),
                stdin="".join(f"{object_id}\n" for object_id in missing).encode(),
            )

    def create_branch(self, branch: str, commit: str) -> None:
        """A new local branch. Raises RepositoryError when the name is taken or not one that Git allows."""
        allowed = not branch.startswith("-") and branch != "HEAD" and "\0" not in branch
        if not allowed or self.git("check-ref-format", HEADS + branch, allowed=(0, 1)).returncode:
            raise RepositoryError(f"{branch!r} is not a name that Git allows for a branch")
        try:
            self.git("update-ref", HEADS + branch, commit, "0" * 40)
        except ToolError as error:
            raise RepositoryError(f"branch {branch} cannot be made: {_last_line(error)}") from error

    def switch(self, branch: str) -> None:
        """Check a branch out. Raises RepositoryError when local changes are in the way."""
        try:
            self.git("switch", "--quiet", "--no-guess", "--no-recurse-submodules", "--end-of-options", branch)
        except ToolError as error:
            raise RepositoryError(f"cannot switch to {branch}: {_last_line(error)}") from error

    def move_branch(self, branch: str, commit: str, old: str) -> None:
        """Move a local branch that is checked out nowhere from ``old`` (``""`` to make it). Raises RepositoryError."""
        try:
            self.git("update-ref", "-m", "cd4ml update", HEADS + branch, commit, old or "0" * 40)
        except ToolError as error:
            raise RepositoryError(f"branch {branch} cannot be moved: {_last_line(error)}") from error

    def fast_forward(self, commit: str) -> None:
        """Move the branch that is checked out to a descendant; work tree and index follow.

        Raises RepositoryError when a file is in the way.
        """
        try:
            self.git("merge", "--quiet", "--ff-only", "--no-autostash", commit)
        except ToolError as error:
            raise RepositoryError(f"the work tree cannot follow: {_last_line(error)}") from error

    def uncommitted(self) -> tuple[str, ...]:
        """Tracked paths that differ from HEAD, in the index or in the work tree."""
        listed = self.git("status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=no").text
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
            raise RepositoryError(f"cannot commit {', '.join(paths)}: {_last_line(error)}") from error
        return self.git("rev-parse", "HEAD").text.strip()

    def close(self) -> None:
        """End the helper processes that reading objects started."""
        if "_objects" in self.__dict__:
            self._objects.close()


def _above(path: str) -> Iterator[str]:
    """The folders that a path lies in."""
    parts = path.split("/")
    return ("/".join(parts[:count]) for count in range(1, len(parts)))


def _is_writable(name: bytes) -> bool:
    """Does the path stay inside the folder that it is written to, and fit a file system?"""
    try:
        parts = name.decode("utf-8").split("/")
    except UnicodeDecodeError:
        return False
    wrong = {"", ".", ".."}.intersection(parts) or ".git" in (part.lower() for part in parts)
    return not wrong and all(len(part.encode()) <= _LONGEST_NAME for part in parts)


_PASSWORD = re.compile(r"(?<=://)[^/@\s]+@")


def _without_password(text: str) -> str:
    """The text with the user part of every URL left out: it may hold a token."""
    return _PASSWORD.sub("", text)


def _instant(seconds: str) -> str:
    """ISO 8601 in UTC. A commit may carry any date: what lies before 1970 or after 9998 becomes the nearest."""
    last = 253_370_764_800
    known = int(seconds) if seconds.strip().isdigit() else 0
    return datetime.fromtimestamp(min(known, last), UTC).isoformat().replace("+00:00", "Z")


def _last_line(error: ToolError) -> str:
    lines = [line.strip() for line in (error.stderr or error.stdout).splitlines() if line.strip()]
    refusals = [line for line in lines if line.startswith("!") and "atomic push failed" not in line]
    telling = [line for line in lines if line.startswith(("fatal:", "error:", "remote:"))]
    line = (refusals or telling or lines[-1:] or [f"exit code {error.returncode}"])[0]
    return _without_password(line.removeprefix("fatal: ").removeprefix("error: "))
