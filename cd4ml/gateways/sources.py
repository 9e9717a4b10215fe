"""Where raw data comes from: files of the project, files that a package ships, and whatever fsspec reads.

Only ``cd4ml data update`` comes here. Runs read the archived bytes that a pin names, never the source.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path, PurePosixPath

from cd4ml.errors import RemoteError, UsageError

_PACKAGE = "package://"


def fetch(location: str, root: Path, target: Path) -> None:
    """Copy the bytes at ``location`` to ``target``.

    ``root`` is where relative paths count from. Raises UsageError for a location that names nothing,
    RemoteError when a URL cannot be read.
    """
    if location.startswith(_PACKAGE):
        _copy(_package_file(location), location, target)
    elif "://" in location:
        _download(location, target)
    else:
        path = root / location
        if "\0" in location or not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root)):
            raise UsageError(f"{location}: lies outside the project")
        _copy(path, location, target)


def file_name(location: str) -> str:
    """The last part of the location, which tells the compression: ``flights.csv.zip``."""
    return PurePosixPath(location.split("?", 1)[0]).name


def _copy(path: Path, location: str, target: Path) -> None:
    if not path.is_file():
        raise UsageError(f"{location}: no such file")
    shutil.copyfile(path, target)


def _package_file(location: str) -> Path:
    """The file of an installed package, found without importing the package."""
    name, _, inner = location.removeprefix(_PACKAGE).partition("/")
    parts = PurePosixPath(inner).parts
    if not name.isidentifier() or not parts or ".." in parts or parts[0] == "/":
        raise UsageError(f"{location}: expected package://NAME/PATH")
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:  # a module that was not imported from a file, like __main__
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise UsageError(f"{location}: the package {name} is not installed")
    places = [Path(place, *parts) for place in spec.submodule_search_locations]
    return next((place for place in places if place.is_file()), places[0])


def _download(location: str, target: Path) -> None:
    import fsspec

    try:
        with fsspec.open(location, "rb") as source, target.open("wb") as sink:
            shutil.copyfileobj(source, sink, 1 << 20)
    except FileNotFoundError as error:
        why = error.__cause__
        if isinstance(why, OSError) and not isinstance(why, FileNotFoundError):  # the host did not answer
            raise RemoteError(f"{location}: {type(why).__name__}: {why}") from error
        raise UsageError(f"{location}: no such file") from error
    except (ValueError, ImportError) as error:
        raise UsageError(f"{location}: {error}") from error
    except Exception as error:  # each kind of store raises its own library's errors
        raise RemoteError(f"{location}: {type(error).__name__}: {error}") from error
