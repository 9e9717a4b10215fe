"""What determines a result, as five digests and the fingerprint over all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

from cd4ml.spec.canonical import digest
from cd4ml.spec.pipeline import StageSpec

NOT_IN_SPEC = (
    "name",
    "hypothesis",
    "tags",
    "code",
    "environment",
    "allowed_packages",
    "promotion",
    "report",
    "ci",
    "executor",
    "experiments",
    "index",
)
"""Keys of the resolved configuration that cannot change a result, or that another component holds."""


@dataclass(frozen=True)
class Components:
    """The component digests, each 64 hex digits.

    spec: the resolved configuration without ``NOT_IN_SPEC``. code: the Git trees under ``code:``.
    data: the pins' canonical digests. pipeline: the rendered stages and each stage's meaning.
    env: the lock file's runtime entries and Python's minor version.
    """

    spec: str
    code: str
    data: str
    pipeline: str
    env: str

    @cached_property
    def fingerprint(self) -> str:
        """Digest over all five."""
        return digest(asdict(self))

    def as_mapping(self) -> dict[str, str]:
        return asdict(self)

    def moved_from(self, other: Mapping[str, str]) -> tuple[str, ...]:
        """Names of the components that differ from ``other``, in the order of the fields."""
        return tuple(name for name, value in asdict(self).items() if other.get(name) != value)


COMPONENTS = tuple(component.name for component in fields(Components))
"""Their names."""


def spec_digest(resolved: Mapping[str, Any]) -> str:
    """Component ``spec`` of a resolved configuration."""
    return digest({key: value for key, value in resolved.items() if key not in NOT_IN_SPEC})


def code_digest(trees: Mapping[str, str]) -> str:
    """Component ``code``: object ids of the Git trees (or blobs) by the path declared under ``code:``."""
    return digest(dict(trees))


def own_code_digest(blobs: Mapping[str, str]) -> str:
    """Digest of the files under ``code:`` (Git's blob ids by path), for DVC to see them change; ``""`` without any.

    What Python leaves beside its sources does not count.
    """
    counted = {path: blob for path, blob in blobs.items() if "__pycache__" not in path.split("/")}
    return digest(counted) if counted else ""


def data_digest(pins: Mapping[str, str]) -> str:
    """Component ``data``: canonical digest by source name."""
    return digest(dict(pins))


def pipeline_digest(stages: tuple[StageSpec, ...], judges_code: str = "") -> str:
    """Component ``pipeline``: every stage with its dependencies, outputs, and meaning.

    ``judges_code`` is the digest of the base branch's code where it computes metrics of the project.
    """
    described = [asdict(stage) for stage in stages]
    return digest([described, judges_code] if judges_code else described)


def env_digest(lock_entries: tuple[str, ...], python: str) -> str:
    """Component ``env``: ``name==version ; marker`` lines of the lock, and ``"3.11"``."""
    return digest({"lock": sorted(lock_entries), "python": python})
