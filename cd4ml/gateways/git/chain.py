"""The chain of the index's commits, and the refs under which this clone remembers what it has accepted of a remote."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cd4ml.gateways.git.history import Commits
from cd4ml.gateways.git.values import HERE, INDEX_BRANCH, LANDING

TRUSTED = "refs/cd4ml/trusted/"
"""Below it lies, by remote, what this clone has accepted: the index's tip, and landed commits not folded yet."""

_NOTHING = "0" * 40
_SETTLING = 0.1
"""Seconds in which whoever has a ref locked has moved it."""

_INDEX, _LANDED = "index", "landing/"
_RECORD_REF = re.compile(re.escape(LANDING) + r"[a-z][0-9a-f]{20}")


@dataclass(frozen=True)
class Remembered:
    """What this clone has accepted of a remote: the index's tip, and landed commits by full name of their ref."""

    index: str | None = None
    landing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Changed:
    """A file in which a commit differs from its first parent: ``status`` is Git's letter, ``blob`` the object now."""

    path: str
    status: str
    mode: str
    blob: str


class Chain(Commits):
    """Questions about first-parent history, and this clone's memory of a remote."""

    def remembered(self, remote: str) -> Remembered:
        """What was accepted of the remote. No network."""
        found = self._refs(_place(remote))
        landed = {
            LANDING + name.removeprefix(_LANDED): commit for name, commit in found.items() if name.startswith(_LANDED)
        }
        return Remembered(found.get(_INDEX), landed)

    def remember(self, remote: str, before: Remembered, now: Remembered) -> bool:
        """Take ``now`` for ``before``, unless somebody else was faster: Git keeps these commits from then on.

        False when memory does not move, though nobody else has moved it.
        Landing refs that are not named as a record is are no record's, and are not remembered: among them may be names
        of which Git cannot keep both.
        """
        place = _place(remote)
        landing = {ref: commit for ref, commit in now.landing.items() if _RECORD_REF.fullmatch(ref)}
        moves = [(place + _INDEX, before.index or "", now.index or "")]
        moves += [
            (place + _LANDED + ref.removeprefix(LANDING), before.landing.get(ref, ""), landing.get(ref, ""))
            for ref in sorted({*before.landing, *landing})
        ]
        # what goes goes first: Git takes no new name beside one that stands in its way, though that goes with it
        gone = [move for move in moves if move[1] and not move[2]]
        come = [move for move in moves if move[2] and move[1] != move[2]]
        moved = [self._move(place, some) for some in (gone, come) if some]
        return all(moved)

    def _move(self, place: str, moves: Sequence[tuple[str, str, str]]) -> bool:
        """Move all these refs, or none; False when they stand where they stood."""
        lines = "".join(_line(*move) for move in moves).encode()
        if self.git("update-ref", "--stdin", stdin=lines, allowed=(0, 1, 128)).returncode == 0:
            return True
        time.sleep(_SETTLING)
        found = self._refs(place)
        return any(found.get(ref.removeprefix(place), "") != old for ref, old, _ in moves)

    def remember_index(self, remote: str, before: str | None, commit: str) -> None:
        """Take a commit that this clone has just pushed for the index's tip; harmless when memory has moved on."""
        line = _line(_place(remote) + _INDEX, before or "", commit)
        self.git("update-ref", "--stdin", stdin=line.encode(), allowed=(0, 1, 128))

    def remember_landed(self, remote: str, ref: str, commit: str) -> None:
        """Take a commit that this clone has just landed for one that the remote has."""
        self.git("update-ref", _place(remote) + _LANDED + ref.removeprefix(LANDING), commit, allowed=(0, 1, 128))

    def forget_landed(self, remote: str, ref: str) -> None:
        """Take back ``remember_landed``: the remote does not have it after all."""
        self.git("update-ref", "-d", _place(remote) + _LANDED + ref.removeprefix(LANDING))

    def tracked_index(self, remote: str) -> tuple[str, ...]:
        """Where plain Git has put the remote's index: its tracking branch, and the branch of a mirrored clone.

        A branch that this repository made itself, before it had the remote, is none of them.
        """
        if remote == HERE:
            return ()
        tracking, mirrored = map(self.resolve, (f"refs/remotes/{remote}/{INDEX_BRANCH}", f"refs/heads/{INDEX_BRANCH}"))
        own = self.remembered(HERE).index
        is_own = bool(own and mirrored and self.is_ancestor(mirrored, own))
        return tuple(dict.fromkeys(commit for commit in (tracking, "" if is_own else mirrored) if commit))

    def first_parent_chain(
        self, tip: str, without: str = "", limit: int = 0
    ) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Commits of the first-parent history with their parents, newest first.

        None that the history of ``without`` holds; the newest ``limit`` of them (0: all).
        """
        bounds = (*((f"--max-count={limit}",) if limit else ()), "--end-of-options", tip)
        listed = self.git("rev-list", "--first-parent", "--parents", *bounds, *((f"^{without}",) if without else ()))
        parts = (line.split() for line in listed.text.splitlines())
        return tuple((commit, tuple(parents)) for commit, *parents in parts)

    def saying(self, tip: str, line: str, without: str = "") -> frozenset[str]:
        """Commits of the same history with a line in their message that matches an extended regular expression."""
        options = ("--first-parent", "--extended-regexp", f"--grep={line}", "--end-of-options", tip)
        return frozenset(self.git("rev-list", *options, *((f"^{without}",) if without else ())).text.split())

    def changes(self, pairs: Sequence[tuple[str, str]]) -> dict[str, tuple[Changed, ...]]:
        """By commit, what differs from the given parent, in one command. Raises ToolError for an object not here."""
        options = ("--always", "-r", "--raw", "-z", "--no-renames", "--no-abbrev", "--ignore-submodules=none")
        asked = "".join(f"{commit} {parent}\n" for commit, parent in pairs).encode()
        told = self.git("diff-tree", "--stdin", *options, stdin=asked).stdout if pairs else b""
        found: dict[str, list[Changed]] = {}
        parts = iter(filter(None, told.split(b"\0")))
        here: list[Changed] = []
        for part in parts:
            if not part.startswith(b":"):
                here = found.setdefault(part.decode().strip(), [])
                continue
            _, mode, _, blob, status = part.decode().split(" ")
            here.append(Changed(next(parts).decode("utf-8", "backslashreplace"), status, mode, blob))
        return {commit: tuple(files) for commit, files in found.items()}

    def whole(self, treeish: str) -> tuple[Changed, ...]:
        """Every file of a tree, as if it had been added."""
        listed = self._listed(treeish, "", "-r")
        return tuple(Changed(path.decode("utf-8", "backslashreplace"), "A", mode, blob) for mode, blob, path in listed)

    def holding(self, commits: Sequence[str], path: str) -> frozenset[str]:
        """Those of the commits whose tree has anything at ``path``; in one command."""
        asked = "".join(f"{commit}:{path}\n" for commit in commits).encode()
        told = self.git("cat-file", "--batch-check=%(objecttype)", stdin=asked).stdout.splitlines() if commits else []
        return frozenset(one for one, answer in zip(commits, told, strict=True) if answer in (b"blob", b"tree"))

    @property
    def is_shallow(self) -> bool:
        """Is history cut off in this clone?"""
        return (self.common_dir / "shallow").is_file()

    @property
    def is_partial(self) -> bool:
        """Does this clone bring objects only when they are asked for?"""
        return bool(self._promisor)


def _place(remote: str) -> str:
    return f"{TRUSTED}here/" if remote == HERE else f"{TRUSTED}remote/{remote}/"


def _line(ref: str, old: str, new: str) -> str:
    if not new:
        return f"delete {ref} {old}\n"
    return f"update {ref} {new} {old or _NOTHING}\n"
