"""Release tags as GTO writes them, read from their names alone.

``NAME@v1.2.3`` says that a commit's model is version 1.2.3 of NAME, ``NAME#production#4`` that it was put into an
environment by the fourth such tag; a ``!`` takes it back. A name is a claim and no more: whether the commit holds a
result of the index is for whoever reads these to see.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

IN_PRODUCTION = ("production", "prod")
"""Environments that are production, the likelier name first."""

MOST_CANDIDATES = 20

_VERSION = r"v(?P<major>\d{1,9})\.(?P<minor>\d{1,9})\.(?P<patch>\d{1,9})(?P<pre>-[0-9A-Za-z.-]{1,50})?"
_RELEASE = re.compile(rf"(?P<name>[^\s@#!]{{1,100}})@{_VERSION}(?P<off>!?)(#(?P<number>\d{{1,9}}))?")
_ASSIGNED = re.compile(r"(?P<name>[^\s@#!]{1,100})#(?P<environment>[^\s@#!]{1,50})(?P<off>!?)(#(?P<number>\d{1,9}))?")


class Tag(Protocol):
    """What Git says of a tag."""

    @property
    def commit(self) -> str:
        """What it points to, an annotated one followed."""

    @property
    def annotated(self) -> bool:
        """Has it a message, an author and a date of its own?"""


@dataclass(frozen=True)
class Claim:
    """What tags claim of a commit: the version that it is, and the environment that it is in (``""``: none)."""

    commit: str
    tag: str
    release: str = ""
    environment: str = ""


def candidates(tags: Mapping[str, str]) -> tuple[Claim, ...]:
    """What may be in production, the likeliest first, of annotated tags by name; values are the commits.

    First what was put into production last; then the newest version; then what is in another environment. Of one
    environment the tag with the highest number counts, and those before it only in its place. Of a name that was taken
    out of production, and not put there since, nothing is.
    """
    out = taken_out(tags)
    versions = _versions(tags)
    named = {commit: tag for tag, commit in reversed(versions)}
    assigned = _assigned(tags)
    production = [one for word in IN_PRODUCTION for one in assigned if one.environment == word]
    others = [one for one in assigned if one.environment not in IN_PRODUCTION]
    released = [Claim(commit, tag, tag) for tag, commit in versions]
    found = [one for one in (*production, *released, *others) if re.split("[@#]", one.tag)[0] not in out]
    return tuple(
        Claim(one.commit, one.tag, named.get(one.commit, ""), one.environment) for one in found[:MOST_CANDIDATES]
    )


def uncounted(there: Mapping[str, Tag]) -> tuple[str, ...]:
    """That release tags of the remote are plain ones, and so count for nothing."""
    plain = [name for name, tag in there.items() if _is_release(name) and not tag.annotated]
    return _told(plain, "no annotated tag, and is not counted")


def differing(there: Mapping[str, Tag], here: Mapping[str, Tag], remote: str) -> tuple[str, ...]:
    """Release tags that this clone has otherwise than the remote, which is the one that counts.

    A tag that somebody deletes or moves leaves no trace on the remote: only a clone that has it knows.
    """
    ours = {name: tag for name, tag in here.items() if _is_release(name) and tag.annotated}
    lacking = [name for name in ours if name not in there]
    moved = [name for name, tag in ours.items() if name in there and there[name].commit != tag.commit]
    lacks = f"a release tag of this clone that {remote} lacks: it was deleted there, or never pushed"
    elsewhere = f"a release tag that is on another commit in this clone than on {remote}, where it counts"
    return (*_told(lacking, lacks), *_told(moved, elsewhere))


def _told(names: Sequence[str], what: str) -> tuple[str, ...]:
    return (f"{_some(sorted(names))} is {what}",) if names else ()


def _is_release(name: str) -> bool:
    return bool(_RELEASE.fullmatch(name) or _ASSIGNED.fullmatch(name))


def _some(names: Sequence[str]) -> str:
    return names[0][:100] + (f" (and {len(names) - 1} more)" if len(names) > 1 else "")


def names_in_production(tags: Mapping[str, str]) -> tuple[str, ...]:
    """The names of which something was put into production and not taken out: of one model there is one."""
    standing = [one.tag for one in _assigned(tags) if one.environment in IN_PRODUCTION]
    return tuple(sorted({tag.partition("#")[0] for tag in standing}))


def taken_out(tags: Mapping[str, str]) -> dict[str, str]:
    """The names that were in production and are not any more, each with the tag that took it out last."""
    found: dict[str, tuple[int, str]] = {}
    for tag in tags:
        match = _ASSIGNED.fullmatch(tag)
        if match is not None and match["environment"] in IN_PRODUCTION and match["off"]:
            found[match["name"]] = max(found.get(match["name"], (-1, "")), (int(match["number"] or 0), tag))
    there = names_in_production(tags)
    return {name: tag for name, (_, tag) in found.items() if name not in there}


def _versions(tags: Mapping[str, str]) -> list[tuple[str, str]]:
    """Tags of versions that were not taken back, and their commits, the newest version first."""
    taken_back = {tag.partition("!")[0] for tag in tags if "!" in tag and _RELEASE.fullmatch(tag)}
    found = []
    for tag, commit in tags.items():
        match = _RELEASE.fullmatch(tag)
        if match and not match["off"] and tag.partition("#")[0] not in taken_back:
            numbers = tuple(int(match[part]) for part in ("major", "minor", "patch"))
            found.append(((numbers, _precedence(match["pre"]), tag), tag.partition("#")[0], commit))
    return [(tag, commit) for _, tag, commit in sorted(found, reverse=True)]


def _precedence(pre: str | None) -> tuple[bool, list[tuple[bool, int, str]]]:
    """The order of what makes a version a pre-release, as rule 11 of Semantic Versioning 2.0.0 has it."""
    parts = (pre or "").removeprefix("-").split(".")
    return not pre, [(not one.isdigit(), int(one) if one.isdigit() else 0, one) for one in parts]


def _assigned(tags: Mapping[str, str]) -> list[Claim]:
    """Tags that put something into an environment since it was last emptied, the highest number first."""
    found = []
    emptied: dict[tuple[str, str], int] = {}
    for tag, commit in tags.items():
        match = _ASSIGNED.fullmatch(tag)
        if match is None:
            continue
        place, number = (match["name"], match["environment"]), int(match["number"] or 0)
        if match["off"]:
            emptied[place] = max(emptied.get(place, -1), number)
        else:
            found.append((number, place, Claim(commit, tag, "", match["environment"])))
    standing = [one for one in found if one[0] > emptied.get(one[1], -1)]
    return [claim for _, _, claim in sorted(standing, key=lambda one: (-one[0], one[1]))]
