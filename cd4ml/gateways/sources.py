"""Where raw data comes from: files of the project, files that a package ships, and whatever fsspec reads.

Only ``cd4ml data update`` comes here. Runs read the archived bytes that a pin names, never the source.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from pathlib import Path, PurePosixPath

from cd4ml.errors import RemoteError, UsageError
from cd4ml.spec.experiment import SourceSpec
from cd4ml.spec.text import one_line

_PACKAGE = "package://"


def fetch_source(source: SourceSpec, root: Path, target: Path) -> None:
    """Write the raw bytes of ``source`` as it is now to ``target``: a file's own, or a query's answer as Parquet.

    The environment variable that ``override_variable`` names replaces the location, for this once and nowhere
    else, so that credentials stay out of what is committed. Raises UsageError when the source is described
    wrongly, RemoteError when it cannot be reached; no message shows a credential.
    """
    override = os.environ.get(override_variable(source.name), "")
    if source.format == "sql":
        from cd4ml.gateways.database import fetch_query

        fetch_query(source, override, root, target)
    elif override:
        _download(override, target, f"source {source.name}: ${override_variable(source.name)}")
    else:
        fetch(source.location, root, target)


def override_variable(name: str) -> str:
    """``CD4ML_SOURCE_DAILY_SALES_URL`` for the source ``daily-sales``."""
    return f"CD4ML_SOURCE_{re.sub('[^A-Z0-9]', '_', name.upper())}_URL"


def fetch(location: str, root: Path, target: Path) -> None:
    """Copy the bytes at ``location`` to ``target``.

    ``root`` is where relative paths count from. Raises UsageError for a location that names nothing,
    RemoteError when a URL cannot be read.
    """
    if location.startswith(_PACKAGE):
        _copy(_package_file(location), location, target)
    elif "://" in location:
        _download(location, target, location)
    else:
        path = root / location
        if "\0" in location or not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root)):
            raise UsageError(f"{location}: lies outside the project")
        _copy(path, location, target)


def file_name(source: SourceSpec) -> str:
    """The last part of the location, which tells the compression: ``flights.csv.zip``; a query's answer has none."""
    if source.format == "sql":
        return f"{source.name}.parquet"
    return PurePosixPath(source.location.split("?", 1)[0]).name


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


def _download(url: str, target: Path, told: str) -> None:
    """Copy what fsspec reads at ``url``. Messages say ``told``; where that is another, ``url`` may be signed."""
    import fsspec

    def why(error: BaseException) -> str:
        return one_line(f"{type(error).__name__}: {error}", 300) if told == url else type(error).__name__

    try:
        with fsspec.open(url, "rb") as source, target.open("wb") as sink:
            shutil.copyfileobj(source, sink, 1 << 20)
    except FileNotFoundError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError):  # the host did not answer
            raise RemoteError(f"{told}: {why(cause)}") from None
        raise UsageError(f"{told}: no such file") from None
    except (ValueError, ImportError) as error:
        raise UsageError(f"{told}: {why(error)}") from None
    except Exception as error:  # noqa: BLE001  # each kind of store raises its own library's errors
        raise RemoteError(f"{told}: {why(error)}") from None
