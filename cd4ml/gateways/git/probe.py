"""What this Git and a remote can do, found out by trying; what is tried leaves nothing behind."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from cd4ml.errors import ToolError
from cd4ml.gateways.git.remote import Remotes
from cd4ml.gateways.git.values import HERE, RefUpdate

PROBE = "refs/cd4ml/probe/"
"""Below it lie the refs of a probe, for as long as it takes."""

_VERSION = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")


class Probes(Remotes):
    """Questions that only trying answers."""

    def version(self) -> tuple[int, int, int]:
        """The version of ``git``; zeros when it does not tell."""
        found = _VERSION.search(self.git("--version").text)
        return (int(found[1]), int(found[2]), int(found[3] or 0)) if found else (0, 0, 0)

    def settings(self, pattern: str) -> tuple[tuple[str, str], ...]:
        """Keys and values of this repository's settings, the user's and the system's, whose key matches."""
        told = self.git("config", "--null", "--get-regexp", pattern, allowed=(0, 1)).text
        return tuple((key, value) for key, _, value in (item.partition("\n") for item in told.split("\0") if item))

    def remote_path(self, remote: str) -> Path | None:
        """The Git directory of a remote that lies on this machine, or nothing."""
        if remote == HERE:
            return self.common_dir
        url = self.git("remote", "get-url", remote, allowed=(0, 2, 128)).text.strip().removeprefix("file://")
        if not url or "://" in url:
            return None
        folder = self.root / Path(url).expanduser()
        inside = folder / ".git"
        place = inside if inside.is_dir() else folder
        return place if (place / "objects").is_dir() else None

    def settings_of(self, folder: Path, key: str) -> str:
        """A setting that a repository at ``folder`` has by itself, or ``""``."""
        return self.git("config", "--file", str(folder / "config"), "--get", key, allowed=(0, 1, 3)).text.strip()

    def protocol(self, remote: str) -> int:
        """The version of the protocol that the remote answers in. Raises ToolError."""
        command = ("-c", "protocol.version=2", "ls-remote", "--end-of-options", remote, "refs/cd4ml/none")
        told = self.git(*command, env={"GIT_TRACE_PACKET": "1"}, timeout=60.0).stderr.decode("utf-8", "replace")
        found = re.search(r"< version (\d)", told)
        return int(found[1]) if found else 0

    def push_alone(self, remote: str, update: RefUpdate) -> None:
        """``push`` for one ref, without asking that it be atomic, which some remotes cannot. Raises RemoteError."""
        options = ("--quiet", "--no-verify", "--no-follow-tags", "--recurse-submodules=no", "--no-signed")
        lease, spec = f"--force-with-lease={update.ref}:{update.old}", f"{update.new}:{update.ref}"
        self._remote_command(*("push", *options, lease, "--end-of-options", remote, spec), settings=_unmirrored(remote))

    def would_push(self, remote: str, updates: Sequence[RefUpdate]) -> str:
        """Why a push of these would fail, as far as a dry run tells; ``""`` when it would not."""
        specs = [f"{update.new}:{update.ref}" for update in updates]
        options = ("--dry-run", "--porcelain", "--no-verify", "--no-follow-tags", "--recurse-submodules=no")
        settings = (word for setting in _unmirrored(remote) for word in ("-c", setting))
        try:
            self.git(*settings, "push", *options, "--end-of-options", remote, *specs, timeout=60.0)
        except ToolError as error:
            return " ".join(str(error).split())
        return ""


def _unmirrored(remote: str) -> tuple[str, ...]:
    """Settings by which a push moves what it names and nothing else."""
    return () if remote == HERE else (f"remote.{remote}.mirror=false",)
