"""Objects: blobs and trees, read and written. No ref moves."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from mmap import ACCESS_READ, mmap
from typing import IO, TYPE_CHECKING, NamedTuple

from cd4ml.errors import IntegrityError, RepositoryError, ToolError
from cd4ml.gateways.git.connection import Connection
from cd4ml.gateways.git.trees import Growth, encode_pack
from cd4ml.gateways.git.values import OBJECTS_ALONE

if TYPE_CHECKING:
    import git as gitpython

_FILE_MODES = frozenset({"100644", "100755"})
_KINDS = {"120000": "symbolic link", "160000": "submodule"}
_LONGEST_NAME = 255
_OBJECT_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_REMEMBERED = 1024
_AT_ONCE = 2000
_NO_BASE = "0" * 40
_LARGEST_FOLDER = 32 << 20
_LARGEST_TREE = 64 << 20


class Place(NamedTuple):
    """Where the bytes of an object lie: the number of a file, where in it they begin, and how many they are."""

    file: int
    start: int
    size: int


class Objects(Connection):
    """Questions about trees and files, and the writing of them."""

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

    def close(self) -> None:
        """End the helper processes that reading objects started."""
        if "_objects" in self.__dict__:
            self._objects.close()

    def read_object(self, object_id: str, limit: int) -> bytes | None:
        """The bytes of an object that a ref names itself; nothing when it has more than ``limit``, or is not here."""
        try:
            return self._read_object(object_id, limit)
        except IntegrityError:
            return None

    def write_blob(self, data: bytes) -> str:
        """A blob of these bytes; gives its id. Writes an object only."""
        return self.git("hash-object", "-w", "--no-filters", "--stdin", stdin=data).text.strip()

    def _read_object(self, object_id: str, limit: int) -> bytes | None:
        """The first ``limit`` bytes of a blob; nothing when it has more. One reader at a time, as GitPython asks."""
        with self._reading:
            try:
                odb, name = self._objects.odb, bytes.fromhex(object_id)
                return None if odb.info(name).size > limit else bytes(odb.stream(name).read())
            except (ValueError, OSError) as error:
                raise self._unreadable(object_id) from error

    def _unreadable(self, object_id: str) -> IntegrityError:
        """The error for an object that is missing or damaged. A damaged one ends Git's helper: another is to follow."""
        self._objects.git.clear_cache()
        return IntegrityError(f"object {object_id} cannot be read: the clone is damaged or partial")

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

    def _at(self, treeish: str, path: str) -> tuple[tuple[str, str, bytes], ...]:
        """What is at ``path``. The answer about an object id never changes, and plans ask for it again and again."""
        ask = self._remembered if _OBJECT_ID.fullmatch(treeish) else self._asked
        return ask(treeish, path.rstrip("/") or ".")

    def _asked(self, treeish: str, path: str) -> tuple[tuple[str, str, bytes], ...]:
        return tuple(self._listed(treeish, path))

    @cached_property
    def _remembered(self) -> Callable[[str, str], tuple[tuple[str, str, bytes], ...]]:
        return lru_cache(_REMEMBERED)(self._asked)

    def entry(self, treeish: str, path: str) -> str | None:
        """The object id at ``path`` in a tree, or nothing; nothing for a path that leads out of it, too."""
        return next((object_id for _, object_id, _ in self._at(treeish, path)), None)

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
        for mode, object_id, _ in self._at(treeish, path):
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
        order = list(dict.fromkeys(object_id for _, object_id in names))
        if len(order) > _AT_ONCE:
            order = self.in_stored_order(order)
        found = dict(zip(order, self._each(order), strict=True))
        for name, object_id in names:
            if found[object_id] is None:
                raise IntegrityError(f"{name}: its object {object_id} is not here: the clone is damaged or partial")
        return {name: data for name, object_id in names if (data := found[object_id]) is not None}

    def in_stored_order(self, object_ids: Iterable[str]) -> list[str]:
        """The same ids, each once, an object right after those that Git keeps as differences from it.

        Git keeps in mind what it unpacks on the way to an object. Read so, hardly one is unpacked twice. Those that
        are not here come last.
        """
        options = ("--batch-all-objects", "--unordered", "--batch-check=%(objectname) %(deltabase)")
        wanted = dict.fromkeys(object_ids)
        listed = self.git("cat-file", *options, allowed=(0, 1, 128)).text  # where objects are damaged, of the others
        kept = [one for one in _differences_first(listed.split()) if one in wanted]
        return list(dict.fromkeys((*kept, *wanted)))

    def read_many(self, object_ids: Sequence[str]) -> Iterator[bytes]:
        """The bytes of these blobs, in this order, one in memory at a time.

        Of many, the order of ``in_stored_order`` is several times as fast as another one.

        Raises IntegrityError, naming the object, when one is not here.
        """
        for object_id, data in zip(object_ids, self._each(object_ids), strict=True):
            if data is None:
                raise IntegrityError(f"its object {object_id} is not here: the clone is damaged or partial")
            yield data

    def _each(self, object_ids: Sequence[str]) -> Iterator[bytes | None]:
        """The bytes of these objects; nothing for one that is not here or cannot be read."""
        asked = "".join(f"{one}\n" for one in object_ids).encode()
        if not object_ids:
            return
        with self.git_streamed("cat-file", "--batch", "--buffer", stdin=asked) as told:
            read = objects_told(told, object_ids)
            for _ in object_ids:
                try:
                    yield next(read)
                except (ValueError, StopIteration):  # Git gave up, at this one or before
                    yield None

    def put_many(self, object_ids: Sequence[str], files: Sequence[IO[bytes]]) -> list[Place]:
        """Put the bytes of these blobs into files, where other processes can read them; gives where each lies.

        As many processes of Git as there are files share them, each those that follow each other. Raises OSError
        where it cannot be done for all of them: whoever reads them one by one learns why.
        """
        from concurrent.futures import ThreadPoolExecutor

        share = -(-len(object_ids) // len(files)) or 1
        shares = [object_ids[start : start + share] for start in range(0, len(object_ids), share)]
        with ThreadPoolExecutor(len(files)) as threads:
            found = list(threads.map(self._put, shares, files))
        return [Place(number, *place) for number, places in enumerate(found) for place in places]

    def _put(self, object_ids: Sequence[str], file: IO[bytes]) -> list[tuple[int, int]]:
        asked = "".join(f"{one}\n" for one in object_ids).encode()
        try:
            self.git("cat-file", "--batch", "--buffer", stdin=asked, stdout=file)
        except ToolError as error:
            raise OSError(f"objects could not be put into a file: {error}") from error
        with mmap(file.fileno(), 0, access=ACCESS_READ) as told:
            return list(_places_told(told, object_ids))

    def write_tree(self, base: str | None, files: Mapping[str, bytes], without: str = "") -> str:
        """A tree like ``base`` (or an empty one) with these files put in. Writes objects only.

        What ``base`` holds in the folder ``without`` is left out.

        Raises RepositoryError for a path that leads out of the tree.
        """
        self._refuse_unwritable(files)
        growth = Growth(self._read_tree_object)
        tree = growth.tree(bytes.fromhex(self.tree_of(base)) if base is not None else None, files, without)
        self._store({"blob": growth.blobs, "tree": growth.trees})
        return tree.hex()

    def _refuse_unwritable(self, files: Iterable[str]) -> None:
        wrong = next((path for path in files if not _is_writable(path.encode("utf-8", "surrogateescape"))), None)
        if wrong is not None:
            raise RepositoryError(f"{wrong}: a file of that name cannot be written")

    def _read_tree_object(self, object_id: bytes) -> bytes:
        data = self._read_object(object_id.hex(), _LARGEST_TREE)
        if data is None:
            raise RepositoryError(f"tree {object_id.hex()}: is larger than {_LARGEST_TREE >> 20} MiB")
        return data

    def _store(self, objects: Mapping[str, Mapping[bytes, bytes]]) -> None:
        """Write objects, by kind and name, in one command."""
        given = [(kind, data) for kind, named in objects.items() for data in named.values()]
        if given:
            self.git("unpack-objects", "-q", stdin=encode_pack(given))

    def _bring_missing(self, commit: str) -> None:
        """In a partial clone, fetch what the tree of ``commit`` lacks; a clone of this one could not."""
        if not self._promisor:
            return
        listed = self.git("rev-list", "--objects", "--no-walk", "--missing=print", "--end-of-options", commit).text
        missing = [line[1:] for line in listed.splitlines() if line.startswith("?")]
        if missing:
            self._remote_command(
                "fetch",
                *OBJECTS_ALONE,
                "--stdin",
                "--end-of-options",
                self._promisor,
                settings=("fetch.negotiationAlgorithm=noop",),
                stdin="".join(f"{object_id}\n" for object_id in missing).encode(),
            )


def objects_told(told: IO[bytes], ids: Iterable[str], largest: int | None = None) -> Iterator[bytes | None]:
    """The bytes of objects from what ``cat-file --batch`` tells; nothing for what is not here, or over ``largest``.

    Raises ValueError, naming the object, where it ends early: Git gives up at a damaged one.
    """
    for one in ids:
        line = told.readline()
        size = _size_told(line)
        if size is None:
            if not line.endswith(b" missing\n"):
                raise ValueError(f"{one} is not told")
            yield None
            continue
        if largest is None or size <= largest:
            data = told.read(size + 1)
            if len(data) <= size:
                raise ValueError(f"{one} is cut off")
            yield data[:-1]
            continue
        _skip(told, size + 1)
        yield None


def _size_told(line: bytes) -> int | None:
    """The bytes that follow in what ``cat-file --batch`` tells, from the line before them; nothing if none follow."""
    head = line.split(b" ")
    return int(head[2]) if len(head) == len(("id", "kind", "size")) else None


def _places_told(told: mmap, object_ids: Iterable[str]) -> Iterator[tuple[int, int]]:
    """Where in what ``cat-file --batch`` told each object begins, and its size. Raises OSError for one not told."""
    at = 0
    for one in object_ids:
        start = told.find(b"\n", at) + 1
        size = _size_told(told[at:start])
        if size is None:
            raise OSError(f"{one} could not be put into a file")
        yield start, size
        at = start + size + 1


def _skip(stream: IO[bytes], size: int) -> None:
    while size > 0:
        part = stream.read(min(size, 1 << 20))
        if not part:
            raise ValueError("an object is cut off")
        size -= len(part)


def _differences_first(told: Sequence[str]) -> list[str]:
    """Objects, each right after those that are differences from it; ``told`` is each and its base, zeros for none."""
    differing: dict[str, list[str]] = {}
    for one, base in zip(told[::2], told[1::2], strict=True):
        differing.setdefault(base, []).append(one)
    found = []
    waiting = differing.pop(_NO_BASE, [])
    while waiting:
        one = waiting.pop()
        found.append(one)
        waiting += differing.pop(one, ())
    found.reverse()
    return found


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
