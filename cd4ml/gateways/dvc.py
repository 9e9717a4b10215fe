"""DVC: where its cache and remote lie, and bytes in and out of the remote, by content.

DVC's own ``push``, ``pull`` and ``status`` report success with objects missing or wrong, so objects are
moved one by one through DVC's storage layer (which knows every kind of remote), and read back. The layout
on the remote is DVC's: ``dvc pull`` finds what was put there.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cd4ml.errors import ConfigError, IntegrityError, Problem, RemoteError
from cd4ml.gateways.files import (
    FileDigest,
    copy_verified,
    digest_file,
    digest_stream,
    remove_tree,
    replacing,
    usual_mode,
    write_atomically,
)
from cd4ml.index.retention import GRACE_HOURS, OBJECT_NAME, Stored

CONFIG_PATH = ".dvc/config"
_PREFIX = 2
_DVC_FILES = frozenset({"dvc.yaml", "dvc.lock", ".dvcignore"})
_URL = re.compile(r"\w+://")
_PLACES = (
    "url",
    "gdrive_user_credentials_file",
    "gdrive_service_account_json_file_path",
    "credentialpath",
    "configpath",
    "keyfile",
    "cert_path",
    "key_path",
)
"""Options of a remote that name files: DVC reads them from where its configuration lies."""
_MD5 = re.compile(r"\b[0-9a-f]{32}\b")


@dataclass(frozen=True)
class Storage:
    """The cache on this machine, and the remote that the base branch's ``.dvc/config`` names.

    ``remote`` is its name, ``""`` when there is none. ``admin`` is a folder of cd4ml's own that holds the
    settings, so that the user's work tree is never touched.
    """

    cache: Path
    remote: str
    admin: Path

    @contextmanager
    def open_remote(self) -> Iterator[RemoteObjects]:
        """Reach the remote. Raises RemoteError when DVC cannot make sense of its settings, or cannot keep its notes."""
        os.environ.setdefault("DVC_NO_ANALYTICS", "1")
        os.environ["DVC_SITE_CACHE_DIR"] = str(self.admin / "site")
        from dvc.repo import Repo

        try:
            repo = Repo(str(self.admin))
            odb = repo.cloud.get_remote_odb(self.remote)
        except Exception as error:  # of DVC, of what it imports, of SQLite where a disk is full
            raise RemoteError(f"DVC remote {self.remote!r}: {' '.join(str(error).split())}") from error
        try:
            yield RemoteObjects(self.remote, odb)
        finally:
            repo.close()

    def remove_damaged(self, lock: Path) -> tuple[str, ...]:
        """Drop the cache entries named in a ``dvc.lock`` whose bytes are not what their name says.

        DVC puts such bytes into a work tree without a word. Gives the names dropped. The lock need not be
        trusted: an entry that is sound stays, whoever names it.
        """
        try:
            names = sorted(set(_MD5.findall(lock.read_text("utf-8", "replace"))))
        except OSError:
            return ()
        damaged = [name for name in names if self._is_damaged(name)]
        for name in damaged:
            self.cached(name).unlink(missing_ok=True)
        return tuple(damaged)

    def list_cached(self) -> Iterator[Stored]:
        """The objects of the cache. Only plain files under names that DVC gives; no link is followed."""
        for folder in _entries(self.cache / "files" / "md5"):
            if len(folder.name) == _PREFIX and folder.is_dir(follow_symlinks=False):
                for entry in _entries(Path(folder.path)):
                    name = folder.name + entry.name
                    if OBJECT_NAME.fullmatch(name) and entry.is_file(follow_symlinks=False):
                        found = entry.stat(follow_symlinks=False)
                        yield Stored("local", name, found.st_size, found.st_mtime)

    def drop_cached(self, md5: str) -> bool:
        """Remove an object from the cache; says whether it was there. Raises OSError; ValueError for no such name."""
        path = self.cached(_checked_name(md5))
        if path.parent.is_symlink() or not path.is_file() or path.is_symlink():
            return False
        path.unlink()
        return True

    def drop_run_cache(self, names: Collection[str]) -> int:
        """Remove what DVC remembers of runs by hand that made one of these objects; gives how many it were.

        Folders that are empty then go as well: DVC cannot read an empty one.
        """
        wanted = [name.encode() for name in names]
        dropped = 0
        for path in list((self.cache / "runs").glob("*/*/*")):
            if path.is_file() and not path.is_symlink() and any(name in path.read_bytes() for name in wanted):
                path.unlink()
                dropped += 1
        for folder in list((self.cache / "runs").glob("*/*")):
            if not folder.is_symlink():
                with suppress(OSError):  # it holds something still, or is no folder
                    folder.rmdir()
        return dropped

    def listed(self, md5: str) -> frozenset[str] | None:
        """The objects that a folder's object in the cache lists; nothing where it is not there or cannot be read."""
        path = self.cached(md5)
        return _listed(path.read_bytes()) if path.is_file() else None

    def _is_damaged(self, md5: str) -> bool:
        path = self.cached(md5)
        return path.is_file() and digest_file(path).md5 != md5

    def cached(self, md5: str) -> Path:
        """Where the cache holds (or would hold) an object."""
        return self.cache / "files" / "md5" / md5[:2] / md5[2:]


NO_FILE = FileDigest("", "", -1)
"""Of what is there and is no file."""


@dataclass(frozen=True)
class RemoteObjects:
    """The objects of an open remote, named by their MD5 as DVC names them."""

    name: str
    odb: Any

    def digest(self, md5: str) -> FileDigest | None:
        """What the remote holds under this name, read whole; nothing when it is not there, ``NO_FILE`` for no file."""
        with self._failures():
            if self._is_no_file(md5):
                return NO_FILE
            try:
                with self.odb.fs.open(self.odb.oid_to_path(md5), "rb") as stream:
                    return digest_stream(stream)
            except FileNotFoundError:
                return None

    def list(self) -> tuple[Stored, ...]:
        """Every object of the remote, in the order of their names. Raises RemoteError.

        Only plain files under names that DVC gives; no link is followed, where the remote knows such.
        """
        with self._failures():
            try:
                found = self.odb.fs.fs.find(self.odb.path, detail=True)
                infos = found if isinstance(found, Mapping) else dict.fromkeys(found)
                known = [self._as_stored(path, info) for path, info in infos.items()]
            except FileNotFoundError:
                return ()
        return tuple(sorted((one for one in known if one is not None), key=lambda one: one.md5))

    def _as_stored(self, path: str, info: Mapping[str, Any] | None) -> Stored | None:
        try:
            name = self.odb.path_to_oid(path)
            told = self.odb.fs.fs.info(path) if info is None else info
        except (ValueError, FileNotFoundError):
            return None
        if not OBJECT_NAME.fullmatch(name) or told.get("islink") or told.get("type") != "file":
            return None
        return Stored("remote", name, int(told.get("size") or 0), _modified(told))

    def is_there(self) -> bool:
        """Is the folder of a remote that is one there, as it is not where a disk is not mounted? Raises RemoteError."""
        with self._failures():
            fs, root = self.odb.fs, Path(self.odb.path).parents[1]
            return fs.protocol != "local" or bool(fs.isdir(str(root)))

    def has(self, md5: str) -> bool:
        """Is there an object of that name? Raises RemoteError; ValueError for no name of an object."""
        with self._failures():
            return bool(self.odb.fs.exists(self.odb.oid_to_path(_checked_name(md5))))

    def delete(self, md5: str) -> bool:
        """Remove an object; says whether it was there. Raises RemoteError; ValueError for no name of an object."""
        path = self.odb.oid_to_path(_checked_name(md5))
        with self._failures():
            try:
                if not self.odb.fs.exists(path):  # some kinds of remote say nothing of what is not there
                    return False
                self.odb.fs.remove(path)
            except FileNotFoundError:
                return False
        return True

    def listed(self, md5: str) -> frozenset[str] | None:
        """The objects that a folder's object lists; nothing where it is not there or cannot be read."""
        with self._failures():
            if self._is_no_file(md5):
                return None
            try:
                with self.odb.fs.open(self.odb.oid_to_path(md5), "rb") as stream:
                    return _listed(stream.read())
            except FileNotFoundError:
                return None

    def store(self, path: Path, expected: FileDigest) -> None:
        """Put a file on the remote and read it back.

        One that is there since long is written anew: who frees objects leaves alone what is young, and so knows that
        somebody counts on it. An object that is there and wrong is replaced. In a folder another file takes its place
        at once: a reader finds the old or the new, and no other name of the old one changes. Raises IntegrityError
        when the bytes that arrive are not the ones that were promised (they do not stay there), RemoteError when the
        remote fails.
        """
        if self.digest(expected.md5) == expected and not self._is_old(expected.md5):
            return
        with self._failures():
            self._put(path, expected.md5)
        found = self.digest(expected.md5)
        if found == expected:
            return
        if found is not None:
            with self._failures():
                self.odb.fs.remove(self.odb.oid_to_path(expected.md5))
        what = "is missing" if found is None else f"held {found.bytes} bytes with another digest"
        raise IntegrityError(f"DVC remote {self.name!r}: {path.name} ({expected.md5}) {what} after it was stored")

    def _put(self, path: Path, md5: str) -> None:
        target = self._local(md5)
        if target is not None:  # DVC would write into the file that is there, and so into every link to it
            with replacing(target, usual_mode()) as temporary:
                shutil.copyfile(path, temporary)
            return
        from dvc.fs import localfs

        self.odb.add(str(path), localfs, md5, check_exists=False)

    def _local(self, md5: str) -> Path | None:
        """The file of an object, where the remote is a folder of this machine."""
        return Path(self.odb.oid_to_path(md5)) if self.odb.fs.protocol == "local" else None

    def _is_no_file(self, md5: str) -> bool:
        """Does something else stand there: a folder, a pipe (which nobody may open to read), a link to nothing?"""
        path = self._local(md5)
        if path is None:
            return False
        try:
            return not stat.S_ISREG(path.stat().st_mode)
        except PermissionError:
            return False  # whoever reads it learns more
        except OSError:  # among others a link to itself
            return path.is_symlink()

    def _is_old(self, md5: str) -> bool:
        with self._failures():
            try:
                written = _modified(self.odb.fs.info(self.odb.oid_to_path(md5)))
            except FileNotFoundError:
                return True
        return written is not None and time.time() - written > GRACE_HOURS * 3600 / 2

    def retrieve(self, md5: str, sha256: str, target: Path) -> None:
        """Bring an object here, checked. Raises RemoteError when missing, IntegrityError when wrong."""
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".part-", dir=target.parent) as folder:
            part = Path(folder) / md5
            with self._failures():
                if self._is_no_file(md5):
                    raise RemoteError(f"DVC remote {self.name!r}: object {md5} is no file")
                try:
                    self.odb.fs.get_file(self.odb.oid_to_path(md5), str(part))
                except FileNotFoundError as error:
                    what = f"object {md5}" if self.is_there() else f"its folder {Path(self.odb.path).parents[1]}"
                    raise RemoteError(f"DVC remote {self.name!r}: {what} is not there") from error
            try:
                copy_verified(part, target, sha256)
            except IntegrityError as error:
                message = f"DVC remote {self.name!r}: object {md5} does not hold the bytes that were promised"
                raise IntegrityError(message) from error

    def bring_as_is(self, md5: str, target: Path) -> bool:
        """Bring whatever the remote holds under this name here; says whether there is anything. Raises RemoteError.

        A file stays there too; what is no file goes, since it stands in the way of one.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        with self._failures():
            if self._is_no_file(_checked_name(md5)):
                shutil.move(self.odb.oid_to_path(md5), target)
                return True
            try:
                self.odb.fs.get_file(self.odb.oid_to_path(_checked_name(md5)), str(target))
            except FileNotFoundError:
                return False
        return True

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """Each kind of remote raises its own library's errors: here they all become RemoteError."""
        try:
            yield
        except RemoteError:
            raise
        except Exception as error:
            raise RemoteError(f"DVC remote {self.name!r}: {type(error).__name__}: {error}") from error


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """What lies in a folder; nothing where there is none, or a link."""
    if folder.is_symlink():
        return
    try:
        with os.scandir(folder) as found:
            yield from sorted(found, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return


def _checked_name(md5: str) -> str:
    if not OBJECT_NAME.fullmatch(md5):
        raise ValueError(f"{md5!r} is no name of an object")
    return md5


def _listed(data: bytes) -> frozenset[str] | None:
    """The names in the list of a folder: a JSON list of objects with ``md5``."""
    try:
        found = [one["md5"] for one in json.loads(data)]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return frozenset(found) if all(isinstance(name, str) and OBJECT_NAME.fullmatch(name) for name in found) else None


def _modified(info: Mapping[str, Any]) -> float | None:
    """When a file was written, in seconds since 1970, in whichever words the kind of remote says it."""
    for key in ("mtime", "LastModified", "last_modified", "updated", "modified"):
        told = info.get(key)
        if isinstance(told, datetime):
            return told.timestamp() if told.tzinfo else told.replace(tzinfo=UTC).timestamp()
        if isinstance(told, int | float) and not isinstance(told, bool):
            return float(told)
        if isinstance(told, str):
            with suppress(ValueError):
                return datetime.fromisoformat(told).timestamp()
    return None


def open_storage(
    config: bytes, local_config: bytes, owner: Path, admin: Path, own_cache: Path | None = None
) -> Storage:
    """The storage that a ``.dvc/config`` describes.

    ``config`` is the base branch's; ``local_config`` the user's own ``.dvc/config.local`` (credentials; may
    be empty); ``owner`` the folder that holds ``.dvc`` (relative paths count from there); ``own_cache`` where the cache
    lies if the settings do not say it (by default DVC's own place). Side effect: writes the settings into
    ``admin``. Raises ConfigError for a file that is not DVC configuration.
    """
    dvc_folder = owner / ".dvc"
    settings: dict[str, dict[str, Any]] = {}
    for data, name in ((config, CONFIG_PATH), (local_config, f"{CONFIG_PATH}.local")):
        for section, values in _read(data, name).items():
            settings.setdefault(section, {}).update(values)
    for section, values in settings.items():
        if section.startswith("remote "):
            named = {key: values[key] for key in _PLACES if isinstance(values.get(key), str)}
            values.update({key: _place(value, dvc_folder) for key, value in named.items()})
    named_cache = settings.get("cache", {}).get("dir", own_cache or "cache")
    cache = Path(_place(str(named_cache), dvc_folder))
    remote = settings.get("core", {}).get("remote", "")
    if remote and f'remote "{remote}"' not in settings:
        problem = Problem(CONFIG_PATH, "core.remote", f"names {remote!r}, which no remote section describes")
        raise ConfigError([problem])
    settings["core"] = {"remote": remote, "no_scm": "true", "analytics": "false", "check_update": "false"}
    settings["cache"] = {"dir": str(cache)}
    content = _dump(settings)
    # a folder for each settings: whoever has other ones open must not find these in their place
    own = admin / hashlib.sha256(content).hexdigest()[:16]
    write_atomically(own / CONFIG_PATH, content, mode=0o600)  # it may hold credentials
    return Storage(cache, remote, own)


def isolate(clone: Path, cache: Path) -> None:
    """Make a private clone's DVC ours: our cache, no remote, and no pipeline but the one that is written next.

    Side effects: overwrites ``.dvc/``; removes every ``dvc.yaml``, ``dvc.lock``, ``*.dvc``, ``.dvcignore`` and
    nested ``.dvc/`` of the clone, so that nothing which a branch brought is run, reached or believed; and every
    link that leads out of the clone or into its Git directory, so that no output is written there.
    """
    home = os.path.realpath(clone)
    remove_tree(clone / ".dvc")
    found = list(_below(clone))
    links = [path for path in found if path.is_symlink()]
    for link in [link for link in links if _leads_out(os.path.realpath(link), home)]:
        link.unlink()
    for path in found:
        if path.name in _DVC_FILES or path.suffix == ".dvc" or path.name == ".dvc":
            remove_tree(path)
    settings = {
        "core": {"analytics": "false", "check_update": "false", "autostage": "false"},
        "cache": {"dir": str(cache), "type": "reflink,copy"},
    }
    write_atomically(clone / CONFIG_PATH, _dump(settings))


def _below(folder: Path) -> Iterator[Path]:
    """Everything in a clone but its Git directory; links are named and not followed."""
    for path in folder.iterdir():
        if path.name == ".git":
            continue
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _below(path)


def _leads_out(place: str, home: str) -> bool:
    inside = place == home or place.startswith(home + os.sep)
    return not inside or Path(place).relative_to(home).parts[:1] == (".git",)


def _place(value: str, dvc_folder: Path) -> str:
    """A path of a ``.dvc/config`` as DVC reads it: a URL, absolute, from the home folder, or from ``.dvc``."""
    if _URL.match(value):
        return value
    return os.path.normpath(dvc_folder / Path(value).expanduser())


def _read(data: bytes, name: str) -> dict[str, dict[str, Any]]:
    """The sections of DVC's configuration, read by the library that DVC reads it with."""
    from configobj import ConfigObj, ConfigObjError  # type: ignore[import-untyped]  # ships no types

    try:
        sections = ConfigObj(data.decode("utf-8").splitlines(), interpolation=False).dict()
    except (ConfigObjError, UnicodeDecodeError) as error:
        raise ConfigError([Problem(name, "", f"is not DVC configuration: {str(error).splitlines()[0]}")]) from error
    odd = [key for key, values in sections.items() if not isinstance(values, dict)]
    if odd:
        raise ConfigError([Problem(name, key, "stands outside of a section") for key in odd])
    found: dict[str, dict[str, Any]] = {}
    for section, values in sections.items():
        title = " ".join(section.split())
        found.setdefault(title, {}).update({key.lower(): value for key, value in values.items()})
    return found


def _dump(settings: Mapping[str, Mapping[str, Any]]) -> bytes:
    from configobj import ConfigObj

    writer = ConfigObj(interpolation=False, encoding="utf-8")
    writer.update({section: dict(values) for section, values in settings.items()})
    return b"".join(line + b"\n" for line in writer.write())
