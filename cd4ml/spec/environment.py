"""The environment that runs execute in: what its lock file says, and how an installed one differs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from packaging.markers import Marker, UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from cd4ml.errors import ConfigError, Problem
from cd4ml.spec.secrets import redacted
from cd4ml.spec.sources import problem

ITSELF = "cd4ml"
"""Left out of the entries: a fix in cd4ml changes no result; where it does, a stage's ``meaning`` is raised."""

_GLOBAL_OPTION = re.compile(
    r"(-i|-f|--(index-url|extra-index-url|find-links|no-index|no-binary|only-binary|prefer-binary|trusted-host|pre"
    r"|require-hashes|use-feature))\b"
)
_HASH = re.compile(r"\s--hash[= ](?P<hash>\S+)")
_COMMENT = re.compile(r"(^|\s)#.*$")
_SOME_ENVIRONMENT = MappingProxyType(
    {
        "implementation_name": "cpython",
        "implementation_version": "3.11.9",
        "os_name": "posix",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "platform_release": "6.1.0",
        "platform_system": "Linux",
        "platform_version": "1",
        "python_full_version": "3.11.9",
        "python_version": "3.11",
        "sys_platform": "linux",
    }
)
"""Markers are tried in it, so that one which has no meaning anywhere is found where the lock is read."""

_SHA256 = re.compile(r"sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}")


def lock_entries(text: str, file: str) -> tuple[str, ...]:
    """The sorted ``name==version`` or ``name==version ; marker`` of a locked requirements file.

    Hashes may be there or not (``cd4ml init`` writes down what is installed, which has none). Names are canonical
    (PEP 503), versions normal (PEP 440), extras and hashes left out, ``cd4ml`` itself too.
    Raises ConfigError, with all problems, for a line that is not pinned by ``==`` to one version, that carries
    a malformed hash or a marker without a meaning, or that includes another file.
    """
    problems: list[Problem] = []
    found: dict[tuple[str, str], str] = {}
    for number, line in _logical_lines(text):
        if _GLOBAL_OPTION.match(line):
            continue
        try:
            name, version, marker = _entry(line)
        except ValueError as error:
            problems.append(problem(file, f"line {number}", str(error)))
            continue
        if found.setdefault((name, marker), version) != version:
            problems.append(problem(file, f"line {number}", f"{name} is locked to two versions"))
    if problems:
        raise ConfigError(problems)
    return tuple(
        sorted(
            f"{name}=={version} ; {marker}" if marker else f"{name}=={version}"
            for (name, marker), version in found.items()
            if name != ITSELF
        )
    )


def requirements(text: str, names: frozenset[str]) -> tuple[str, ...]:
    """The lines of a lock that ``lock_entries`` accepts, for the packages named (canonical), as pip takes them.

    Each is ``name==version``, its marker and its hashes; nothing else of the file is handed on.
    """
    lines = []
    for _, line in _logical_lines(text):
        if _GLOBAL_OPTION.match(line):
            continue
        name, version, marker = _entry(line)
        if name in names:
            hashes = "".join(f" --hash={one}" for one in _HASH.findall(line))
            lines.append(f"{name}=={version}{f' ; {marker}' if marker else ''}{hashes}")
    return tuple(lines)


def differences(
    entries: tuple[str, ...], installed: Mapping[str, str], marker_environment: Mapping[str, str]
) -> tuple[str, ...]:
    """One line for each entry that holds in the marker environment (PEP 508) and is not installed as locked.

    ``entries`` as ``lock_entries`` gives them; ``installed`` maps distribution names, in any spelling, to versions.
    Raises ConfigError for an entry whose marker cannot be evaluated in this environment.
    """
    have = {canonicalize_name(name): version for name, version in installed.items()}
    lines: list[str] = []
    for entry in entries:
        pinned, _, marker = entry.partition(" ; ")
        if marker and not _holds(Marker(marker), marker_environment, entry):
            continue
        name, _, version = pinned.partition("==")
        present = have.get(canonicalize_name(name))
        if present is None:
            lines.append(f"{name}: lock says {version}, it is not installed")
        elif not _equal(version, present):
            lines.append(f"{name}: lock says {version}, {present} is installed")
    return tuple(lines)


def _holds(marker: Marker, marker_environment: Mapping[str, str], entry: str) -> bool:
    try:
        return marker.evaluate(dict(marker_environment))
    except (UndefinedComparison, UndefinedEnvironmentName, InvalidVersion):
        raise ConfigError([problem("environment.lock", entry, "its marker cannot be evaluated here")]) from None


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with continuations joined and comments dropped, each with the number of its first line."""
    pending, start = "", 0
    for number, raw in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        line = _COMMENT.sub("", raw).rstrip()
        start = start if pending else number
        if line.endswith("\\"):
            pending += line[:-1] + " "
            continue
        whole = (pending + line).strip()
        pending = ""
        if whole:
            yield start, whole
    if pending.strip():
        yield start, pending.strip()


def _entry(line: str) -> tuple[str, str, str]:
    """Canonical name, version and marker of one line. Raises ValueError saying what is wrong."""
    if line.startswith("-"):
        raise ValueError(f"{redacted(line).split()[0][:60]} is not allowed in a lock: it must say every version itself")
    hashes = _HASH.findall(line)
    try:
        requirement = Requirement(_HASH.sub("", line).strip())
    except (InvalidRequirement, RecursionError) as error:
        raise ValueError(f"is not a requirement: {redacted(_HASH.sub('', line)).strip()[:60]}") from error
    specifiers = list(requirement.specifier)
    if requirement.url or len(specifiers) != 1 or specifiers[0].operator != "==" or "*" in specifiers[0].version:
        raise ValueError(f"{requirement.name} is not pinned by == to one version")
    if not all(_SHA256.fullmatch(one) for one in hashes):
        raise ValueError(f"{requirement.name} carries a malformed hash; write --hash=sha256:…")
    if requirement.marker:
        _try_marker(requirement.marker, requirement.name)
    marker = str(requirement.marker) if requirement.marker else ""
    return canonicalize_name(requirement.name), str(Version(specifiers[0].version)), marker


def _try_marker(marker: Marker, name: str) -> None:
    try:
        marker.evaluate(dict(_SOME_ENVIRONMENT))
    except (UndefinedComparison, UndefinedEnvironmentName, InvalidVersion):
        raise ValueError(f"{name} has a marker that cannot be evaluated") from None


def _equal(locked: str, present: str) -> bool:
    try:
        return Version(locked) == Version(present)
    except InvalidVersion:
        return locked == present
