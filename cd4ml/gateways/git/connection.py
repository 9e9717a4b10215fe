"""Running ``git`` in one repository, cut off from hooks, settings and variables that lead elsewhere."""

from __future__ import annotations

import os
import re
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO

from cd4ml.errors import IntegrityError, RemoteError, ToolError
from cd4ml.gateways.files import naming
from cd4ml.gateways.process import Completed, run, streamed, without_git_variables

HARDENING = (
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
NO_SETTINGS = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_ATTR_NOSYSTEM": "1"}
_NETWORK_SECONDS = 600.0


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables of a Git command: none that a ``GIT_*`` outside could bend, no prompt, no translation."""
    return {
        **without_git_variables(os.environ),
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "LC_ALL": "C",
        **(extra or {}),
    }


@dataclass(frozen=True)
class Connection:
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
        stdout: IO[bytes] | None = None,
    ) -> Completed:
        """Run ``git`` here, its output into a file if one is given. Raises ToolError for another exit code."""
        command = ["git", *HARDENING, *arguments]
        env = environment(env)
        return run(command, cwd=self.root, env=env, stdin=stdin, allowed=allowed, timeout=timeout, stdout=stdout)

    def git_streamed(self, *arguments: str, stdin: bytes) -> AbstractContextManager[IO[bytes]]:
        """Run ``git`` here, and read its output while it runs. Raises ToolError when it cannot be started."""
        return streamed(["git", *HARDENING, *arguments], cwd=self.root, env=environment(), stdin=stdin)

    def config(self, key: str) -> str:
        """A Git configuration value, or ``""``."""
        return self.git("config", "--get", key, allowed=(0, 1)).text.strip()

    def remotes(self) -> tuple[str, ...]:
        """Names of the remotes of this clone."""
        return tuple(self.git("remote").text.splitlines())

    def _refs(self, prefix: str) -> dict[str, str]:
        """Commits by the rest of the name of the ref that is at them; refs to anything else are left out."""
        return {name: object_id for name, (kind, object_id) in self._refs_of_any(prefix).items() if kind == "commit"}

    def _refs_of_any(self, prefix: str) -> dict[str, tuple[str, str]]:
        """Type and id of objects by the rest of the name of the ref that is at them.

        Raises IntegrityError where one of them is damaged: to leave its ref out would say that it is gone.
        """
        try:
            listed = self.git("for-each-ref", "--format=%(objecttype) %(objectname) %(refname)", prefix).text
        except ToolError as error:
            raise IntegrityError(
                f"{error}: the clone is damaged (`git fsck` says where; a new clone has it again)"
            ) from error
        parts = (line.split(" ", 2) for line in listed.split("\n") if line)
        return {name.removeprefix(prefix): (kind, object_id) for kind, object_id, name in parts}

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
                **NO_SETTINGS,
                "GIT_DIR": folder,
                "GIT_OBJECT_DIRECTORY": str(self.common_dir / "objects"),
                **({"GIT_SHALLOW_FILE": str(shallow)} if shallow.is_file() else {}),
            }

    @cached_property
    def _promisor(self) -> str:
        """The remote that a partial clone takes missing objects from; ``""`` for a whole clone."""
        listed = self.git("config", "--type=bool", "--get-regexp", r"^remote\..*\.promisor$", allowed=(0, 1)).text
        keys = [line.removesuffix(" true") for line in listed.splitlines() if line.endswith(" true")]
        names = [key.removeprefix("remote.").removesuffix(".promisor") for key in keys]
        return names[0] if names else self.config("extensions.partialClone")

    def _remote_command(
        self,
        verb: str,
        *arguments: str,
        settings: tuple[str, ...] = (),
        stdin: bytes = b"",
        seconds: float | None = None,
    ) -> Completed:
        options = tuple(word for setting in settings for word in ("-c", setting))
        try:
            return self.git(*options, verb, *arguments, stdin=stdin, timeout=seconds or _NETWORK_SECONDS)
        except ToolError as error:
            raise RemoteError(f"git {verb}: {last_line(error)}") from error


_PASSWORD = re.compile(r"(?<=://)[^/@\s]+@")


def _without_password(text: str) -> str:
    """The text with the user part of every URL left out: it may hold a token."""
    return _PASSWORD.sub("", text)


_FOR_ANOTHER = ("(atomic push failed)", "(atomic transaction failed)")
"""Ends of lines about refs that were refused because another was; why, another line tells."""


def last_line(error: ToolError) -> str:
    """The line of Git's output that says what went wrong, without secrets."""
    said = [line.strip() for line in (error.stderr or error.stdout).splitlines() if line.strip()]
    lines = [line for line in said if not line.startswith("hint:")] or said
    refusals = [line for line in lines if line.startswith("!") and not line.endswith(_FOR_ANOTHER)]
    telling = [line for line in lines if line.startswith(("fatal:", "error:", "remote:"))]
    line = (refusals or telling or lines[-1:] or [f"exit code {error.returncode}"])[0]
    return _without_password(line.removeprefix("fatal: ").removeprefix("error: "))
