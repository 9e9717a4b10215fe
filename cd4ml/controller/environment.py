"""Is the environment that is installed the one that a commit's lock file names?"""

from __future__ import annotations

import importlib.metadata
from functools import cache

from cd4ml.controller.specs import Asked
from cd4ml.errors import UsageError
from cd4ml.spec.environment import differences

_SHOWN = 3


@cache
def installed() -> dict[str, str]:
    """Versions of all installed distributions by canonical name."""
    from packaging.utils import canonicalize_name

    return {
        canonicalize_name(distribution.name): distribution.version
        for distribution in importlib.metadata.distributions()
        if distribution.name
    }


def environment_differences(lock: tuple[str, ...]) -> tuple[str, ...]:
    """A line for each package that is not installed as the lock's entries say."""
    from packaging.markers import default_environment

    return differences(lock, installed(), {key: str(value) for key, value in default_environment().items()})


def check_environment(asked: Asked) -> None:
    """Raise UsageError, in one line, where the installed packages are not those of the commit's lock."""
    found = environment_differences(asked.lock)
    if found:
        more = f" (+{len(found) - _SHOWN} more)" if len(found) > _SHOWN else ""
        raise UsageError(
            f"{asked.spec.lock}: is not what is installed: {'; '.join(found[:_SHOWN])}{more}: install the lock first"
        )


def installed_versions(names: tuple[str, ...]) -> dict[str, str]:
    """Versions of the distributions that are installed here, by name."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
