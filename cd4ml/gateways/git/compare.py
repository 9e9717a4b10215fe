"""What differs between the files of two commits, as Git tells it to nobody's settings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cd4ml.errors import RepositoryError, ToolError
from cd4ml.gateways.git.connection import last_line
from cd4ml.gateways.git.history import Commits

Lines = tuple[int | None, int | None]
"""Lines added and removed; nothing for what is no text."""

_LARGEST_TEXT = "512k"
"""A larger file is told as binary, so that no file of a branch can fill the memory or the screen."""

_PLAIN = (
    "-r",
    "--no-renames",
    "--no-ext-diff",
    "--no-textconv",
    "--no-color",
    "--ignore-submodules=none",
    "--diff-algorithm=myers",
)
_AS_TEXT = ("--patch", "--unified=3", "--inter-hunk-context=0", "--src-prefix=a/", "--dst-prefix=b/")


class Differences(Commits):
    """Questions about two commits, given by their ids. Neither settings nor attributes, of anybody, have a say."""

    def lines_changed(self, old: str, new: str, paths: Iterable[str]) -> dict[str, Lines]:
        """Every file at or under these paths that differs, with the lines that it gained and lost.

        Raises RepositoryError for a commit or an object that is not here.
        """
        told = self._diff(old, new, paths, "--numstat", "-z")
        found: dict[str, Lines] = {}
        for line in filter(None, told.split(b"\0")):
            added, removed, path = line.split(b"\t", 2)
            text = added.isdigit() and removed.isdigit()
            lines = (int(added), int(removed)) if text else (None, None)
            found[path.decode("utf-8", "backslashreplace")] = lines
        return found

    def patch(self, old: str, new: str, paths: Sequence[str]) -> str:
        """The differences as a unified diff; bytes that are no UTF-8 are written as escapes.

        Raises RepositoryError for a commit or an object that is not here.
        """
        return self._diff(old, new, paths, *_AS_TEXT).decode("utf-8", "backslashreplace")

    def _diff(self, old: str, new: str, paths: Iterable[str], *form: str) -> bytes:
        named = [path for path in paths if _is_inside(path)]
        if not named:
            return b""
        settings = ("-c", "core.attributesFile=/dev/null", "-c", f"core.bigFileThreshold={_LARGEST_TEXT}")
        command = ("--literal-pathspecs", "diff-tree", *_PLAIN, *form, "--end-of-options", old, new, "--", *named)
        try:
            with self._settingless() as env:
                return self.git(*settings, *command, env=env).stdout
        except ToolError as error:
            raise RepositoryError(f"{old[:12]} and {new[:12]} cannot be compared: {last_line(error)}") from error


def _is_inside(path: str) -> bool:
    """Does a path that a record names stay inside the tree?"""
    return "\0" not in path and not set(path.rstrip("/").split("/")) & {"", ".", ".."}
