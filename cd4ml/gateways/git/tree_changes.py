"""What trees hold and in what they differ, for very many commits with a few commands."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from cd4ml.gateways.git.connection import Connection
from cd4ml.gateways.git.integrity import CommitFacts, at_once, in_halves, read_commits, read_objects
from cd4ml.gateways.git.trees import Entries, parse_tree

EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"

_MOST_CHANGED = 10_000
_MOST_TREES = 20_000
_FOLDER, _SUBMODULE = b"40000", b"160000"
_MODES = frozenset({_FOLDER, b"100644", b"100755", b"120000", _SUBMODULE})
"""Those that Git writes."""

_PLAIN_MODES = frozenset({"100644", "100755"})
_ODD_STEPS = frozenset({b"", b".", b".."})
_ID = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class TreeChange:
    """A path in which two trees differ, renames taken as two: Git's letter, and mode and id in the newer."""

    status: str
    mode: str
    object_id: str
    path: str


class Trees:
    """Trees, read and compared here: paths of very many commits are found with a few commands.

    Of what is not written as Git writes it, nothing is said: ``tree_changes`` and ``object_ids`` ask Git itself.
    """

    def __init__(self, git: Connection) -> None:
        self._git = git
        self._read: dict[bytes, Entries | None] = {}

    def changes(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[TreeChange, ...] | None]:
        """As ``tree_changes``; nothing where that has to be asked, and the first of very many paths."""
        named = [all(map(_ID.fullmatch, pair)) for pair in pairs]
        found: list[list[TreeChange] | None] = [[] if one else None for one in named]
        level: list[tuple[int, bytes, bytes | None, bytes | None]] = [
            (place, b"", bytes.fromhex(pairs[place][0]), bytes.fromhex(pairs[place][1]))
            for place, one in enumerate(named)
            if one
        ]
        while level:
            self._load(one for _, _, old, new in level for one in (old, new) if one is not None)
            level = [
                below for place, folder, old, new in level for below in self._differing(found, place, folder, old, new)
            ]
        return [tuple(changes) if changes is not None else None for changes in found]

    def _differing(
        self, found: list[list[TreeChange] | None], place: int, folder: bytes, old: bytes | None, new: bytes | None
    ) -> Iterator[tuple[int, bytes, bytes | None, bytes | None]]:
        """Tells of the files in which two folders differ; gives the folders in them that do."""
        changes = found[place]
        before = self._read.get(old) if old is not None else {}
        after = self._read.get(new) if new is not None else {}
        if changes is None or len(changes) > _MOST_CHANGED:
            return
        if before is None or after is None:
            found[place] = None
            return
        for name in [*before, *(name for name in after if name not in before)]:
            was, now = before.get(name), after.get(name)
            if was == now:
                continue
            path = folder + name
            below = [one[1] if one is not None and one[0] == _FOLDER else None for one in (was, now)]
            if below != [None, None]:
                yield place, path + b"/", below[0], below[1]
            files = [one is not None and one[0] != _FOLDER for one in (was, now)]
            if any(files):
                changes.append(_changed(path, was if files[0] else None, now if files[1] else None))

    def at(self, asked: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str | None]:
        """The id of what lies at a path of a tree, nothing where nothing does; those that can be told here alone."""
        found: dict[tuple[str, str], str | None] = {}
        level = []
        for tree, path in dict.fromkeys(asked):
            steps = path.encode("utf-8", "surrogateescape").split(b"/")
            if _ID.fullmatch(tree) and not _ODD_STEPS.intersection(steps):
                level.append(((tree, path), steps, bytes.fromhex(tree)))
        while level:
            self._load(here for _, _, here in level)
            deeper = []
            for name, steps, here in level:
                entries = self._read.get(here)
                if entries is None:
                    continue
                mode, object_id = entries.get(steps[0], (b"", b""))
                if mode == _FOLDER and len(steps) > 1:
                    deeper.append((name, steps[1:], object_id))
                elif mode != _SUBMODULE:
                    found[name] = object_id.hex() if len(steps) == 1 and object_id else None
            level = deeper
        return found

    def forget(self) -> None:
        """Let go of what was read, if it is very much."""
        if len(self._read) > _MOST_TREES:
            self._read.clear()

    def _load(self, ids: Iterable[bytes]) -> None:
        wanted = [one for one in dict.fromkeys(ids) if one not in self._read]
        read = read_objects(self._git, [one.hex() for one in wanted])
        self._read.update((one, _entries(read[one.hex()])) for one in wanted)


def _changed(path: bytes, was: tuple[bytes, bytes] | None, now: tuple[bytes, bytes] | None) -> TreeChange:
    """A file's change, by mode and id before and after."""
    mode, object_id = now or (b"000000", bytes(20))
    status = "A" if was is None else "D" if now is None else "M" if was[0][:3] == mode[:3] else "T"
    return TreeChange(status, mode.decode(), object_id.hex(), path.decode("utf-8", "backslashreplace"))


def _entries(data: bytes | None) -> Entries | None:
    """A tree's entries; nothing for what is none, or none that Git writes."""
    if data is None:
        return None
    try:
        entries = parse_tree(data)
    except ValueError:
        return None
    once = sum(len(mode) + len(name) + 22 for name, (mode, _) in entries.items()) == len(data)
    plain = all(mode in _MODES and name and b"/" not in name for name, (mode, _) in entries.items())
    return entries if once and plain else None


def tree_changes(git: Connection, pairs: Sequence[tuple[str, str]]) -> list[tuple[TreeChange, ...] | None]:
    """What the second tree of each pair changes over the first; nothing where one of them cannot be read."""

    def ask(some: Sequence[tuple[str, str]]) -> list[tuple[TreeChange, ...]]:
        options = ("-r", "-z", "--raw", "--no-renames", "--no-abbrev", "--no-ext-diff", "--ignore-submodules=none")
        told = git.git("diff-tree", "--stdin", *options, stdin="".join(f"{a} {b}\n" for a, b in some).encode()).stdout
        return _parsed(told, some)

    return [answer for some in at_once(pairs) for answer in in_halves(ask, some)]


def _parsed(told: bytes, pairs: Sequence[tuple[str, str]]) -> list[tuple[TreeChange, ...]]:
    position = 0
    found = []
    for before, after in pairs:
        head = f"{before} {after}\n".encode()
        if not told.startswith(head, position):
            raise ValueError("a pair is not told")
        position += len(head)
        changes = []
        while told.startswith(b":", position):
            middle = told.index(b"\0", position)
            end = told.index(b"\0", middle + 1)
            _, mode, _, object_id, status = told[position + 1 : middle].decode().split(" ")
            path = told[middle + 1 : end].decode("utf-8", "backslashreplace")
            changes.append(TreeChange(status[:1], mode, object_id, path))
            position = end + 1
        found.append(tuple(changes))
    return found


@dataclass(frozen=True)
class OverParent:
    """A commit, the paths in which it differs from its first parent, and the bytes of one of them."""

    facts: CommitFacts
    changed: tuple[str, ...]
    data: bytes


def read_over_parents(git: Connection, commits: Sequence[str], path: str, limit: int) -> dict[str, OverParent]:
    """Those of the commits that put a plain file of at most ``limit`` bytes at ``path``, in a few commands.

    Left out is, too, what cannot be read and whatever is not written in the plain form.
    """
    trees, found = Trees(git), dict[str, OverParent]()
    for some in at_once(tuple(dict.fromkeys(commits))):
        facts = read_commits(git, some)
        parents = read_commits(git, (one.parents[0] for one in facts.values() if one and one.parents))
        pairs = {
            commit: (parent.tree, one.tree)
            for commit, one in facts.items()
            if one and one.parents and one.committer and (parent := parents[one.parents[0]])
        }
        changes = dict(zip(pairs, trees.changes(list(pairs.values())), strict=True))
        blobs = {
            commit: change.object_id
            for commit, changed in changes.items()
            for change in changed or ()
            if change.path == path and change.mode in _PLAIN_MODES
        }
        read = read_objects(git, blobs.values())
        for commit, blob in blobs.items():
            data, one, changed = read[blob], facts[commit], changes[commit] or ()
            if one is not None and data is not None and len(data) <= limit and len(changed) < _MOST_CHANGED:
                found[commit] = OverParent(one, tuple(sorted(change.path for change in changed)), data)
        trees.forget()
    return found
