"""Reading a repository that may be damaged: what can be read is, what cannot is nothing, and what is broken is named.

One helper command reads many objects; where it ends at a damaged one, the rest is read in halves, so that no damage
hides more than itself. Nothing here moves a ref.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cd4ml.errors import RemoteError, ToolError
from cd4ml.gateways.files import naming
from cd4ml.gateways.git.connection import Connection, last_line
from cd4ml.gateways.git.objects import objects_told
from cd4ml.gateways.git.trees import object_name
from cd4ml.gateways.git.values import DRAFT, SEEN

LARGEST_READ = 64 << 20
"""Bytes of an object that is read whole; a larger one counts as unreadable here, and is left to ``check_objects``."""

_AT_ONCE = 500
_ANY_CODE = tuple(range(256))
_DIED = 128
_CHECKSUM = 20
_NETWORK_SECONDS = 3600.0
_HEADER = re.compile(rb"([0-9a-f]{40}) (blob|tree|commit|tag) ([0-9]+)")
_MADE = re.compile(rb"committer ([^<>\0-\x1f\x7f]*[^<>\0- \x7f]) <([^<>\0- \x7f]*)> [0-9]+ [+-][0-9]{4}")
_ID = re.compile(r"\b[0-9a-f]{40}\b")
_LOOSE = re.compile(r"objects/([0-9a-f]{2})/([0-9a-f]{38})\b")
_PACK = re.compile(r"\bpack-[0-9a-f]{40}\.(?:pack|idx|rev|bitmap)\b")
_OTHER_FILE = re.compile(r"\b(?:commit-graph\S*|multi-pack-index\S*)")
_NO_DAMAGE = ("broken link from", "to ", "dangling ", "notice: ", "warning ", "warning: ", "error in ", "Checking ")
"""Beginnings of lines that name nothing broken: what points to it, or a form that was always so."""


@dataclass(frozen=True)
class CommitFacts:
    """A commit as its object says it; ``committer`` is nothing where it is not written in the plain form."""

    tree: str
    parents: tuple[str, ...]
    committer: str | None


@dataclass(frozen=True)
class Broken:
    """What ``git fsck`` (or a transfer) named: an object's id or the name of a file of packs, and its words."""

    name: str
    message: str

    @property
    def is_object(self) -> bool:
        return _ID.fullmatch(self.name) is not None


_Asked = TypeVar("_Asked")
_Answer = TypeVar("_Answer")


def in_halves(ask: Callable[[Sequence[_Asked]], list[_Answer]], asked: Sequence[_Asked]) -> list[_Answer | None]:
    """All answers, where one damaged object ends the whole command: whoever asks for it alone gets nothing."""
    try:
        return list(ask(asked))
    except (ToolError, ValueError):
        if len(asked) <= 1:
            return [None] * len(asked)
        middle = len(asked) // 2
        return [*in_halves(ask, asked[:middle]), *in_halves(ask, asked[middle:])]


def at_once(asked: Sequence[_Asked]) -> Iterator[Sequence[_Asked]]:
    """What is asked, in parts that one command answers."""
    return (asked[start : start + _AT_ONCE] for start in range(0, len(asked), _AT_ONCE))


def object_ids(git: Connection, names: Iterable[str]) -> dict[str, str | None]:
    """The id of what each name (an id, ``COMMIT:PATH``) leads to; nothing for what is not there.

    A name with a line end in it leads nowhere.
    """
    asked = [name for name in dict.fromkeys(names) if "\n" not in name]

    def ask(some: Sequence[str]) -> list[str]:
        told = git.git("cat-file", "--batch-check", stdin="".join(f"{name}\n" for name in some).encode()).stdout
        lines = told.splitlines()
        if len(lines) != len(some):
            raise ValueError("fewer answers than questions")
        return [match[1].decode() if (match := _HEADER.fullmatch(line)) else "" for line in lines]

    found = [answer for some in at_once(asked) for answer in in_halves(ask, some)]
    return {name: answer or None for name, answer in zip(asked, found, strict=True)}


def read_objects(git: Connection, ids: Iterable[str]) -> dict[str, bytes | None]:
    """The bytes of objects by id, each once; nothing for what is not here, is damaged, or is over ``LARGEST_READ``."""
    asked = list(dict.fromkeys(ids))
    found = [answer for some in at_once(asked) for answer in in_halves(lambda part: _batch(git, part), some)]
    return dict(zip(asked, found, strict=True))


def _batch(git: Connection, ids: Sequence[str]) -> list[bytes | None]:
    """Objects in one command, one too large for it skipped. Raises ToolError or ValueError where it ends early."""
    asked = "".join(f"{one}\n" for one in ids).encode()
    with git.git_streamed("cat-file", "--batch", "--buffer", stdin=asked) as told:
        return list(objects_told(told, ids, LARGEST_READ))


def read_commits(git: Connection, commits: Iterable[str]) -> dict[str, CommitFacts | None]:
    """Commits by id; nothing for what is no commit or cannot be read."""
    return {commit: _commit(data) for commit, data in read_objects(git, commits).items()}


def _commit(data: bytes | None) -> CommitFacts | None:
    lines = (data or b"").partition(b"\n\n")[0].split(b"\n")
    if not lines[0].startswith(b"tree "):
        return None
    parents = tuple(line[7:].decode("ascii", "replace") for line in lines[1:] if line.startswith(b"parent "))
    made = next((match for line in lines if (match := _MADE.fullmatch(line))), None)
    committer = None
    if made is not None and not any(line.startswith(b"encoding ") for line in lines):
        committer = f"{made[1].decode('utf-8', 'replace')} <{made[2].decode('utf-8', 'replace')}>"
    return CommitFacts(lines[0][5:].decode("ascii", "replace"), parents, committer)


def first_parents_while(git: Connection, tip: str, without: str) -> tuple[tuple[str, ...], bool]:
    """The first-parent history of ``tip``, newest first, up to where a commit holds the path ``without``.

    The second value says whether it was read to its end.
    """
    chain: list[str] = []
    try:
        listed = git.git("rev-list", "--first-parent", "--end-of-options", tip).text.split()
    except ToolError:
        listed, whole = _walk(git, tip)
    else:
        whole = True
    for some in at_once(listed):
        held = object_ids(git, (f"{commit}:{without}" for commit in some))
        for commit in some:
            if held[f"{commit}:{without}"] is not None:
                return tuple(chain), True
            chain.append(commit)
    return tuple(chain), whole


def _walk(git: Connection, tip: str) -> tuple[list[str], bool]:
    """The same, one commit at a time, as far as they can be read."""
    chain: list[str] = []
    following: str | None = tip
    while following is not None:
        facts = read_commits(git, [following])[following]
        if facts is None:
            return chain, False
        chain.append(following)
        following = facts.parents[0] if facts.parents else None
    return chain, True


def check_objects(
    git: Connection, tips: Iterable[str], *, thorough: bool, store: Path | None = None
) -> tuple[Broken, ...]:
    """What is missing of all that the tips reach; and, when ``thorough``, every object whose bytes are damaged.

    Thorough reads the whole object store: each loose object and pack against its name and checksum. ``store`` is
    another repository's folder ``objects``, which is looked at without a look at that one's settings. Where a pipe
    stands for an object, Git would wait for good, and nothing else is looked at.
    """
    strange = _no_files(store or git.common_dir / "objects")
    broken = tuple(Broken(name, f"{name}: is no file that can be read") for name in sorted(strange))
    if any(stat.S_ISFIFO(mode) for mode in strange.values()):
        return broken
    extent = ("--full",) if thorough else ("--connectivity-only",)
    command = ("fsck", "--no-dangling", "--no-reflogs", "--no-progress", *extent, *sorted(set(tips)))
    if store is None:
        done = git.git(*command, allowed=_ANY_CODE)
    else:
        git.private.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="fsck-", dir=git.private) as name:
            _make_bare(Path(name), None)
            env = {"GIT_DIR": name, "GIT_OBJECT_DIRECTORY": str(store)}
            done = git.git(*command, env=env, allowed=_ANY_CODE)
    text = done.text + "\n" + done.stderr.decode("utf-8", "replace")
    named = tuple(one for one in broken_in(text) if one.name not in strange)
    return (*broken, *named) or _unexplained(done.returncode, text)


def _no_files(objects: Path) -> dict[str, int]:
    """What has the name of a loose object and is no file, nor leads to one: by name, its mode (0: nothing is there)."""
    found = {}
    for folder in sorted(objects.glob("[0-9a-f][0-9a-f]")):
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.is_file() or not _ID.fullmatch(folder.name + path.name):
                continue
            try:
                found[folder.name + path.name] = path.stat().st_mode
            except OSError:
                found[folder.name + path.name] = 0
    return found


def store_of(git: Connection, remote: str) -> Path | None:
    """The object store of a remote that is a folder of this machine; nothing for any other."""
    url = git.git("ls-remote", "--get-url", remote).stdout.rstrip(b"\n")
    path = git.root / os.fsdecode(url.removeprefix(b"file://"))
    found = (path / part for part in ("objects", ".git/objects"))
    return next((one for one in found if one.is_dir()), None) if b"://" not in url.removeprefix(b"file://") else None


def _unexplained(code: int, text: str) -> tuple[Broken, ...]:
    """An exit code of fsck for which no line was found, unless the lines speak of form alone."""
    lines = [line for line in text.splitlines() if line and not line.startswith(_NO_DAMAGE)]
    return (Broken("objects", lines[-1]),) if code and lines else ()


def broken_in(text: str) -> tuple[Broken, ...]:
    """The objects and files that the output of ``git fsck``, or of a transfer that failed, calls broken."""
    found: dict[str, list[str]] = {}
    for raw in text.splitlines():
        line = raw.strip().removeprefix("remote: ")
        if (
            line.startswith(_NO_DAMAGE) or not line or "Failed to traverse parents" in line
        ):  # what is broken is named, too
            continue
        loose, packs = _LOOSE.search(line), _PACK.search(line) or _OTHER_FILE.search(line)
        names = [loose[1] + loose[2]] if loose else [packs[0]] if packs else _ID.findall(line)[:1]
        for name in names:
            found.setdefault(name, []).append(line.removeprefix("error: ").removeprefix("fatal: "))
    return tuple(Broken(name, lines[-1] if len(lines) > 1 else lines[0]) for name, lines in sorted(found.items()))


# ── refs, with no look at what they point to ──


def remote_refs(git: Connection, remote: str) -> dict[str, str]:
    """Every ref of the remote, as it tells them now. Raises RemoteError."""
    try:
        told = git.git("ls-remote", "--refs", "--end-of-options", remote, timeout=_NETWORK_SECONDS).text
    except ToolError as error:
        raise RemoteError(f"git ls-remote: {last_line(error)}") from error
    parts = (line.split("\t", 1) for line in told.splitlines() if "\t" in line)
    return {ref: object_id for object_id, ref in parts}


def refs_as_seen(git: Connection) -> dict[str, str]:
    """What the last fetch saw of the remote's refs, by the names that they have there."""
    return {f"refs/{name}".replace("refs/landing/", "refs/cd4ml/landing/"): one for name, one in _local(git, SEEN)}


def draft_commits(git: Connection) -> tuple[str, ...]:
    """The commits of records that are kept here alone."""
    return tuple(one for _, one in _local(git, DRAFT))


def _local(git: Connection, prefix: str) -> list[tuple[str, str]]:
    listed = git.git("for-each-ref", "--format=%(objectname) %(refname)", prefix).text.splitlines()
    parts = (line.split(" ", 1) for line in listed)
    return [(name.removeprefix(prefix), object_id) for object_id, name in parts]


# ── the remote's objects, and putting objects in place ──


class TransferError(RemoteError):
    """A transfer failed. ``broken`` are the objects that either side named."""

    def __init__(self, message: str, broken: tuple[Broken, ...]) -> None:
        self.broken = broken
        super().__init__(message)


@contextmanager
def fresh_copy(git: Connection, remote: str, refs: Iterable[str]) -> Iterator[Path]:
    """An empty repository that all of these refs of the remote were fetched into: the objects that the remote has.

    Every byte comes from the remote and is digested on the way in; settings that say how to reach it are this
    repository's. Removed at the end. Raises TransferError when the remote cannot send all that its refs need.
    """
    git.private.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fresh-", dir=git.private) as name:
        folder = Path(name)
        _make_bare(folder, git.common_dir / "config")
        wanted = [f"+{ref}:{ref}" for ref in refs]
        options = (
            "--quiet",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-recurse-submodules",
            "--refmap=",
            "--no-filter",
        )
        try:
            git.git(
                *("-c", "fetch.unpackLimit=1", "-c", "transfer.unpackLimit=1"),
                *("fetch", *options, "--stdin", "--end-of-options", remote),
                stdin="".join(f"{spec}\n" for spec in wanted).encode(),
                env={"GIT_DIR": name},
                timeout=_NETWORK_SECONDS,
            )
        except ToolError as error:
            raise TransferError(f"git fetch: {last_line(error)}", broken_in(error.stderr)) from error
        yield folder


def _make_bare(folder: Path, settings: Path | None) -> None:
    """A bare repository without objects that knows the remotes of another's settings (of none)."""
    for part in ("objects/pack", "objects/info", "refs"):
        (folder / part).mkdir(parents=True)
    quoted = os.fsencode(settings or os.devnull).replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    with naming(folder):
        (folder / "HEAD").write_text("ref: refs/heads/none\n", "utf-8")
        own = b"[core]\n\trepositoryformatversion = 0\n\tbare = true\n"
        (folder / "config").write_bytes(b'[include]\n\tpath = "' + quoted + b'"\n' + own)


def take_packs(git: Connection, copy: Path) -> int:
    """Put the packs of a fresh copy among this repository's; gives how many. Side effect: objects only."""
    target = git.common_dir / "objects" / "pack"
    target.mkdir(parents=True, exist_ok=True)
    packs = sorted((copy / "objects" / "pack").glob("pack-*.pack"))
    for pack in packs:
        for suffix in (".rev", ".pack", ".idx"):  # the index last: with it the pack is there
            part = pack.with_suffix(suffix)
            if part.is_file():
                part.replace(target / part.name)
    return len(packs)


def set_aside(git: Connection, name: str, folder: Path) -> tuple[Path, ...]:
    """Move the loose file of an object, or all files of a pack, out of the object store; gives where they are now."""
    objects = git.common_dir / "objects"
    if _ID.fullmatch(name):
        files = [objects / name[:2] / name[2:]]
    elif _PACK.fullmatch(name):
        files = sorted((objects / "pack").glob(f"{name.partition('.')[0]}.*"))
    else:
        files = [path for path in (objects / "info" / name, objects / "pack" / name) if "/" not in name]
    moved = []
    for path in files:
        if os.path.lexists(path):
            target = _free(folder / (name if _ID.fullmatch(name) else path.name))
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(path, target)
            moved.append(target)
    return tuple(moved)


def _free(path: Path) -> Path:
    """The path, with a number behind it if something is there."""
    number, free = 0, path
    while os.path.lexists(free):
        number += 1
        free = path.with_name(f"{path.name}.{number}")
    return free


def salvage_pack(git: Connection, files: Sequence[Path]) -> int:
    """Write every object of a pack that was set aside, is not here, and can be read, as a loose one; gives how many.

    ``files`` are those of the pack as ``set_aside`` gave them. Side effect: objects only.
    """
    by_kind = {path.suffix: path for path in files}
    if ".pack" not in by_kind:
        return 0
    git.private.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="salvage-", dir=git.private) as name:
        folder = Path(name)
        _make_bare(folder, None)
        copy = Connection(folder, folder, None)
        listed = _readable_pack(copy, by_kind[".pack"].read_bytes(), by_kind.get(".idx"))
        read = read_objects(copy, sorted(still_missing(git, listed)))
        saved = 0
        for object_id, data in read.items():
            kind = copy.git("cat-file", "-t", object_id, allowed=_ANY_CODE).text.strip()
            if data is not None and object_name(kind, data).hex() == object_id:
                git.git("hash-object", "-w", "-t", kind, "--literally", "--stdin", stdin=data)
                saved += 1
        return saved


def _readable_pack(copy: Connection, data: bytes, index: Path | None) -> list[str]:
    """Put a damaged pack into an empty repository so that Git opens it; gives the ids in it.

    Git opens a pack whose last bytes are the checksum that its index names. Without a sound index one is made, which
    takes a pack that is whole but for that checksum.
    """
    pack = copy.git_dir / "objects" / "pack" / f"pack-{'0' * 40}.pack"
    told = index.read_bytes() if index is not None else b""
    pack.write_bytes(data[:-_CHECKSUM] + told[-2 * _CHECKSUM : -_CHECKSUM])
    pack.with_suffix(".idx").write_bytes(told)
    listed = copy.git("show-index", stdin=told, allowed=_ANY_CODE)
    if (
        told
        and listed.returncode == 0
        and copy.git("fsck", "--full", "--no-dangling", allowed=_ANY_CODE).returncode < _DIED
    ):
        return [line.split()[1] for line in listed.text.splitlines()]
    pack.with_suffix(".idx").unlink()
    body = data[:-_CHECKSUM]
    pack.write_bytes(body + hashlib.sha1(body, usedforsecurity=False).digest())
    copy.git("index-pack", str(pack), allowed=_ANY_CODE)
    made = pack.with_suffix(".idx")
    listed = copy.git("show-index", stdin=made.read_bytes() if made.is_file() else b"", allowed=_ANY_CODE)
    return [line.split()[1] for line in listed.text.splitlines()]


def still_missing(git: Connection, ids: Iterable[str]) -> frozenset[str]:
    """Those objects that are not here, or cannot be read."""
    read = read_objects(git, ids)
    return frozenset(one for one, data in read.items() if data is None)


def trees_below(git: Connection, commit: str) -> frozenset[str] | None:
    """The commit, and every tree and blob in it; nothing when they cannot all be listed."""
    done = git.git("ls-tree", "-r", "-t", "--full-tree", "--end-of-options", commit, allowed=_ANY_CODE)
    if done.returncode:
        return None
    return frozenset({commit, *(line.split()[2] for line in done.text.splitlines())})


def send_objects(git: Connection, remote: str, ids: Sequence[str], ref: str) -> None:
    """Make the remote take objects that it lacks although its refs reach them: by way of refs that are there a moment.

    They, and what they need, are put into an empty repository, so that nothing is left out for being known there, and
    pushed from it: a commit as what it is, anything else in the tree of a commit made for it. The refs, at and below
    ``ref``, are deleted again. Raises TransferError where the remote refuses, ToolError for an object not here.
    """
    git.private.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="send-", dir=git.private) as name:
        folder = Path(name)
        _make_bare(folder, git.common_dir / "config")
        env: Mapping[str, str] = {"GIT_DIR": name}
        packed = git.git("pack-objects", "--revs", "--stdout", "-q", stdin=_lines(ids)).stdout
        git.git("unpack-objects", "-q", stdin=packed, env=env)
        kinds = {one: git.git("cat-file", "-t", one).text.strip() for one in ids}
        commits = [one for one in ids if kinds[one] == "commit"]
        modes = {"blob": "100644", "tree": "040000"}
        held = [f"{modes[kind]} {kind} {one}\t{one}" for one, kind in sorted(kinds.items()) if kind in modes]
        if held:
            tree = git.git("mktree", stdin=_lines(held), env=env).text.strip()
            names = {f"GIT_{who}_{what}": "cd4ml" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
            commits.append(git.git("commit-tree", tree, stdin=b"objects\n", env={**env, **names}).text.strip())
        refs = {f"{ref}/{commit}": commit for commit in commits}
        try:
            for specs in ([f"{commit}:{one}" for one, commit in refs.items()], [f":{one}" for one in refs]):
                command = ("push", "--quiet", "--no-verify", "--end-of-options", remote, *specs)
                git.git(*command, env=env, timeout=_NETWORK_SECONDS)
        except ToolError as error:
            raise TransferError(f"git push: {last_line(error)}", broken_in(error.stderr)) from error


def _lines(words: Iterable[str]) -> bytes:
    return "".join(f"{word}\n" for word in words).encode()
