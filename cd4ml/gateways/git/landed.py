"""What a commit holds beside its parent, read through one helper process: a fold asks this of every landed ref."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from cd4ml.errors import RepositoryError
from cd4ml.gateways.git.history import Commits
from cd4ml.gateways.git.trees import Entries, Growth, object_name, parse_tree

_LARGEST_COMMIT = 1 << 20
_MOST_CHANGED = 10_000
_FOLDER = b"40000"
_FILES = frozenset({b"100644", b"100755"})
_MADE_PLAINLY = re.compile(rb"committer ([^<>\0-\x1f\x7f]*[^<>\0- \x7f]) <([^<>\0- \x7f]*)> [0-9]+ [+-][0-9]{4}")


@dataclass(frozen=True)
class CommitOverParent:
    """A commit's parents, the paths in which its tree differs from the first one's, and who made it."""

    tree: str
    parents: tuple[str, ...]
    changed: tuple[str, ...]
    committer: str


class Landings(Commits):
    """Questions about landed commits, and about what a tree holds at many paths."""

    def over_parent(self, commit: str) -> CommitOverParent:
        """Facts of a commit. Raises RepositoryError for what is none, IntegrityError when an object is missing."""
        tree, parents, committer = self._commit_head(commit)
        changed: tuple[str, ...] = ()
        if parents:
            before, _, _ = self._commit_head(parents[0])
            changed = tuple(sorted(islice(self._differing(before, tree), _MOST_CHANGED)))
        return CommitOverParent(tree, parents, changed, committer or self.commit_info(commit).committer)

    def file_at(self, tree: str, path: str, limit: int) -> bytes | None:
        """The bytes of the regular file at ``path`` of a tree (by its id), or nothing; nothing when over ``limit``."""
        mode, object_id = self._entry_at(tree, path)
        return self._read_object(object_id.hex(), limit) if mode in _FILES else None

    def names_in(self, tree: str, folder: str) -> tuple[str, ...]:
        """The names that a folder of a tree (by its id) holds; none when there is no such folder."""
        mode, object_id = self._entry_at(tree, folder)
        names = self._entries(object_id) if mode == _FOLDER else ()
        return tuple(name.decode("utf-8", "backslashreplace") for name in names)

    def _entries(self, tree: bytes) -> Entries:
        """What a tree holds. Raises IntegrityError where other bytes lie under its name."""
        try:
            return parse_tree(self._read_tree_object(tree))
        except ValueError as error:
            raise self._unreadable(tree.hex()) from error

    def _entry_at(self, tree: str, path: str) -> tuple[bytes, bytes]:
        """Mode and id of what lies at ``path``, both empty when there is nothing."""
        mode, here = _FOLDER, bytes.fromhex(tree)
        for step in path.encode("utf-8", "surrogateescape").split(b"/"):
            if mode != _FOLDER:
                return b"", b""
            mode, here = self._entries(here).get(step, (b"", b""))
        return mode, here

    def existing(self, treeish: str, paths: Sequence[str]) -> frozenset[str]:
        """Those of the paths at which a tree holds anything. Paths hold no line ends."""
        asked = "".join(f"{treeish}:{path}\n" for path in paths).encode()
        told = self.git("cat-file", "--batch-check=%(objecttype)", stdin=asked).stdout.splitlines() if paths else []
        return frozenset(path for path, answer in zip(paths, told, strict=True) if answer in (b"blob", b"tree"))

    def write_children(self, asked: Sequence[tuple[str, Mapping[str, bytes], str]]) -> list[str]:
        """A commit for each parent, files and message: the parent's tree with these files. Writes objects only.

        In a few commands however many there are, all by one committer at one time.
        """
        made = self.git("var", "GIT_COMMITTER_IDENT", env=self._identity).stdout.strip()
        growth = Growth(self._read_tree_object)
        commits: dict[bytes, bytes] = {}
        for parent, files, message in asked:
            self._refuse_unwritable(files)
            tree = growth.tree(bytes.fromhex(self._commit_head(parent)[0]), files).hex()
            head = f"tree {tree}\nparent {parent}\n".encode()
            data = head + b"author " + made + b"\ncommitter " + made + b"\n\n" + message.encode()
            commits[object_name("commit", data)] = data
        self._store({"blob": growth.blobs, "tree": growth.trees, "commit": commits})
        return [object_id.hex() for object_id in commits]

    def _commit_head(self, commit: str) -> tuple[str, tuple[str, ...], str]:
        """Tree, parents and committer; no committer where it is not written in the plain form."""
        with self._reading:
            try:
                stream = self._objects.odb.stream(bytes.fromhex(commit))
                kind, data = stream.type, bytes(stream.read(_LARGEST_COMMIT))
                while stream.read(1 << 20):  # the rest has to be taken before the next object can be asked for
                    pass
            except (ValueError, OSError) as error:
                raise self._unreadable(commit) from error
        lines = data.partition(b"\n\n")[0].split(b"\n")
        if kind != b"commit" or not lines[0].startswith(b"tree "):
            raise RepositoryError(f"{commit}: is not a commit here")
        parents = tuple(line[7:].decode() for line in lines[1:] if line.startswith(b"parent "))
        made = next((match for line in lines if (match := _MADE_PLAINLY.fullmatch(line))), None)
        plain = made is not None and not any(line.startswith(b"encoding ") for line in lines)
        try:
            committer = f"{made[1].decode()} <{made[2].decode()}>" if made is not None and plain else ""
        except UnicodeDecodeError:
            committer = ""
        return lines[0][5:].decode(), parents, committer

    def _differing(self, before: str, after: str) -> Iterator[str]:
        """Paths of files in which two trees differ, renames taken as two; the first of very many."""
        # Not by recursion, and not without an end: whoever made these trees may have had neither in mind.
        pairs: list[tuple[str, bytes | None, bytes | None]] = [("", bytes.fromhex(before), bytes.fromhex(after))]
        while pairs:
            folder, *both = pairs.pop()
            old, new = (self._entries(one) if one is not None else {} for one in both)
            for name in (name for name in {**old, **new} if old.get(name) != new.get(name)):
                sides = [entries.get(name) for entries in (old, new)]
                path = folder + name.decode("utf-8", "backslashreplace")
                below = [one[1] if one is not None and one[0] == _FOLDER else None for one in sides]
                if below != [None, None]:
                    pairs.append((f"{path}/", below[0], below[1]))
                if any(one is not None and one[0] != _FOLDER for one in sides):
                    yield path
