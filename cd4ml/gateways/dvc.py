"""DVC: where its cache and remote lie, and bytes in and out of the remote, by content.

DVC's own ``push``, ``pull`` and ``status`` report success with objects missing or wrong, so objects are
moved one by one through DVC's storage layer (which knows every kind of remote), and read back. The layout
on the remote is DVC's: ``dvc pull`` finds what was put there.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cd4ml.errors import ConfigError, IntegrityError, Problem, RemoteError
from cd4ml.gateways.files import FileDigest, copy_verified, digest_stream, remove_tree, write_atomically

CONFIG_PATH = ".dvc/config"


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
        """Reach the remote. Raises RemoteError when DVC cannot make sense of its settings."""
        os.environ.setdefault("DVC_NO_ANALYTICS", "1")
        os.environ["DVC_SITE_CACHE_DIR"] = str(self.admin / "site")
        from dvc.exceptions import DvcException
        from dvc.repo import Repo

        try:
            repo = Repo(str(self.admin))
            odb = repo.cloud.get_remote_odb(self.remote)
        except DvcException as error:
            raise RemoteError(f"DVC remote {self.remote!r}: {error}") from error
        try:
            yield RemoteObjects(self.remote, odb)
        finally:
            repo.close()

    def cached(self, md5: str) -> Path:
        """Where the cache holds (or would hold) an object."""
        return self.cache / "files" / "md5" / md5[:2] / md5[2:]


@dataclass(frozen=True)
class RemoteObjects:
    """The objects of an open remote, named by their MD5 as DVC names them."""

    name: str
    odb: Any

    def digest(self, md5: str) -> FileDigest | None:
        """What the remote holds under this name, read whole; nothing when it is not there."""
        try:
            with self.odb.fs.open(self.odb.oid_to_path(md5), "rb") as stream:
                return digest_stream(stream)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise RemoteError(f"DVC remote {self.name!r}: {error}") from error

    def store(self, path: Path, expected: FileDigest) -> None:
        """Put a file on the remote and read it back.

        An object that is there and wrong is replaced. Raises IntegrityError when the bytes that arrive are
        not the ones that were promised, RemoteError when the remote fails.
        """
        from dvc.fs import localfs

        if self.digest(expected.md5) == expected:
            return
        try:
            self.odb.add(str(path), localfs, expected.md5, check_exists=False)
        except Exception as error:  # each kind of remote raises its own library's errors
            raise RemoteError(f"DVC remote {self.name!r}: {type(error).__name__}: {error}") from error
        found = self.digest(expected.md5)
        if found != expected:
            what = "is missing" if found is None else f"holds {found.bytes} bytes with another digest"
            raise IntegrityError(f"DVC remote {self.name!r}: {path.name} ({expected.md5}) {what} after it was stored")

    def retrieve(self, md5: str, sha256: str, target: Path) -> None:
        """Bring an object here, checked. Raises RemoteError when missing, IntegrityError when wrong."""
        part = target.with_name(f".{target.name}.part")
        part.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.odb.fs.get_file(self.odb.oid_to_path(md5), str(part))
            copy_verified(part, target, sha256)
        except FileNotFoundError as error:
            raise RemoteError(f"DVC remote {self.name!r}: object {md5} is not there") from error
        except OSError as error:
            raise RemoteError(f"DVC remote {self.name!r}: {error}") from error
        finally:
            part.unlink(missing_ok=True)


def open_storage(config: bytes, local_config: bytes, owner: Path, admin: Path) -> Storage:
    """The storage that a ``.dvc/config`` describes.

    ``config`` is the base branch's; ``local_config`` the user's own ``.dvc/config.local`` (credentials; may
    be empty); ``owner`` the folder that holds ``.dvc`` (relative paths count from there). Side effect:
    writes the settings into ``admin``. Raises ConfigError for a file that is not DVC configuration.
    """
    settings = _read(config, CONFIG_PATH)
    for section, values in _read(local_config, f"{CONFIG_PATH}.local").items():
        settings.setdefault(section, {}).update(values)
    dvc_folder = owner / ".dvc"
    for section, values in settings.items():
        url = values.get("url", "")
        if section.startswith("'remote") and url and "://" not in url:
            values["url"] = os.path.normpath(dvc_folder / url)
    cache = Path(os.path.normpath(dvc_folder / settings.get("cache", {}).get("dir", "cache")))
    remote = settings.get("core", {}).get("remote", "")
    if remote and f"'remote \"{remote}\"'" not in settings:
        problem = Problem(CONFIG_PATH, "core.remote", f"names {remote!r}, which no remote section describes")
        raise ConfigError([problem])
    settings["core"] = {"remote": remote, "no_scm": "true", "analytics": "false", "check_update": "false"}
    settings["cache"] = {"dir": str(cache)}
    write_atomically(admin / CONFIG_PATH, _dump(settings))
    return Storage(cache, remote, admin)


def isolate(clone: Path, cache: Path) -> None:
    """Make a private clone's DVC ours: our cache, no remote, and no other pipeline than the root's.

    Side effects: overwrites ``.dvc/`` and removes every nested ``dvc.yaml`` and ``*.dvc`` of the clone, so
    that nothing which a branch brought is run or reached.
    """
    remove_tree(clone / ".dvc")
    settings = {
        "core": {"analytics": "false", "check_update": "false", "autostage": "false"},
        "cache": {"dir": str(cache), "type": "reflink,copy"},
    }
    write_atomically(clone / CONFIG_PATH, _dump(settings))
    for path in [*clone.rglob("dvc.yaml"), *clone.rglob("*.dvc"), *clone.rglob("dvc.lock")]:
        if path.parent != clone and ".git" not in path.relative_to(clone).parts and not path.is_dir():
            path.unlink()
    (clone / ".dvcignore").unlink(missing_ok=True)


def _read(data: bytes, name: str) -> dict[str, dict[str, str]]:
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[method-assign,assignment]  # option names keep their case
    try:
        text = "\n".join(line.strip() for line in data.decode("utf-8").splitlines())
        parser.read_string(text, name)
    except (configparser.Error, UnicodeDecodeError) as error:
        raise ConfigError([Problem(name, "", str(error).splitlines()[0])]) from error
    return {section: dict(parser.items(section)) for section in parser.sections()}


def _dump(settings: Mapping[str, Mapping[str, str]]) -> bytes:
    lines: list[str] = []
    for section, values in settings.items():
        lines.append(f"[{section}]")
        lines.extend(f"    {key} = {value}" for key, value in values.items())
    return ("\n".join(lines) + "\n").encode()
