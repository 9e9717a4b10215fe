"""The kinds of record, as values.

A *run* is one execution and an *experiment* what a branch asked for. Two more are of schema 2, which earlier versions
leave untouched: a *removal* says what was let go of a run, and an *import* is a run that another tool recorded.

A record is an immutable JSON object. Its ``id`` is derived from its content, so a record cannot be
changed without getting another name, and two machines that write down the same fact write the same
bytes. Fields that this version does not know are kept as they are.

The shapes are published in ``cd4ml/index/schemas/{run,experiment,removal,import}.schema.json``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from cd4ml.spec.canonical import canonical_json

SCHEMA_VERSION = 3
"""The newest that this version knows."""

RECORD_PATH = ".cd4ml/record.json"
"""Where the tree of a landed commit holds its record."""

Kind = Literal["run", "experiment", "removal", "import"]
KINDS: Mapping[str, tuple[str, int]] = MappingProxyType(
    {"run": ("r", 1), "experiment": ("e", 1), "removal": ("x", 3), "import": ("i", 2)}
)
"""The letter that ids of a kind begin with, and the newest schema that it is written in."""

Outcome = Literal["succeeded", "failed"]


def record_id(body: Mapping[str, Any]) -> str:
    """The name that this content has: the letter of its kind and 20 hex digits of SHA-256 over all but ``id``."""
    content = {key: value for key, value in body.items() if key != "id"}
    letter, _ = KINDS.get(str(body.get("kind")), ("e", 1))
    return letter + hashlib.sha256(canonical_json(content)).hexdigest()[:20]


def schema_version(body: Mapping[str, Any]) -> int:
    """The schema that such a record is written in.

    A removal is of the third where it takes another back: to versions that know of no such thing it is a later one's,
    which they leave as it is. The others are of the second, as they were.
    """
    kind = str(body.get("kind"))
    return 2 if kind == "removal" and body.get("what") != "stored" else KINDS.get(kind, ("", 1))[1]


def seal(body: Mapping[str, Any]) -> dict[str, Any]:
    """The same content with ``schema`` and its ``id`` set."""
    sealed = {**body, "schema": schema_version(body)}
    return {**sealed, "id": record_id(sealed)}


def encode(body: Mapping[str, Any]) -> bytes:
    """The bytes under which a record is committed: indented, sorted JSON with a final newline."""
    return (json.dumps(body, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()


@dataclass(frozen=True)
class RunRecord:
    """One execution of a fingerprint and its outcome. ``body`` is the JSON object."""

    body: Mapping[str, Any]

    @property
    def id(self) -> str:
        return str(self.body["id"])

    @property
    def fingerprint(self) -> str:
        return str(self.body["fingerprint"])

    @property
    def components(self) -> Mapping[str, str]:
        """The five component digests, by name."""
        return self.body["components"]  # type: ignore[no-any-return]  # checked by the schema

    @property
    def commit(self) -> str:
        """The source commit that was run."""
        return str(self.body["commit"])

    @property
    def branch(self) -> str:
        """The branch for which it was run first."""
        return str(self.body["branch"])

    @property
    def succeeded(self) -> bool:
        return bool(self.body["outcome"] == "succeeded")

    @property
    def reason(self) -> Mapping[str, Any] | None:
        """Why it failed: ``kind``, ``stage``, ``message``; nothing when it succeeded."""
        return self.body.get("reason")

    @property
    def metrics(self) -> Mapping[str, Mapping[str, float]]:
        """``{"validation": {"rmse": …}, "test": {…}}``; empty when it failed before evaluation."""
        return self.body.get("metrics") or {}

    @property
    def params(self) -> Mapping[str, Any]:
        """The resolved configuration."""
        return self.body["params"]  # type: ignore[no-any-return]  # checked by the schema


@dataclass(frozen=True)
class ExperimentRecord:
    """What a branch asked for at a commit, why, by whom, and which runs answer it."""

    body: Mapping[str, Any]

    @property
    def id(self) -> str:
        return str(self.body["id"])

    @property
    def branch(self) -> str:
        return str(self.body["branch"])

    @property
    def commit(self) -> str:
        return str(self.body["commit"])

    @property
    def fingerprint(self) -> str | None:
        """Of the head; nothing when its configuration was refused."""
        return self.body.get("fingerprint")

    @property
    def merge_fingerprint(self) -> str | None:
        """Of the merge result; nothing for the base branch, a conflict or a refused configuration."""
        return self.body.get("merge_fingerprint")

    @property
    def answer(self) -> Mapping[str, str | None]:
        """Run ids: ``{"head": "r…" | None, "merge": "r…" | None}``."""
        return self.body["answer"]  # type: ignore[no-any-return]  # checked by the schema


@dataclass(frozen=True)
class RemovalRecord:
    """What was let go of a run, when, by whom and why. ``body`` is the JSON object.

    ``what`` is ``artefacts`` when a retention rule let its objects be freed, ``stored`` when these were made again and
    stored, and ``run`` when it was erased.
    """

    body: Mapping[str, Any]

    @property
    def id(self) -> str:
        return str(self.body["id"])

    @property
    def commit(self) -> str:
        """The commit of the base branch whose rules were followed."""
        return str(self.body["commit"])

    @property
    def run(self) -> str:
        """The id of the run (or import) that it speaks of."""
        return str(self.body["run"])

    @property
    def what(self) -> str:
        return str(self.body["what"])


@dataclass(frozen=True)
class ImportRecord:
    """A run that another tool recorded. ``body`` is the JSON object."""

    body: Mapping[str, Any]

    @property
    def id(self) -> str:
        return str(self.body["id"])

    @property
    def commit(self) -> str:
        """The commit that it hangs on: the one that was run where that is here, else the base branch's."""
        return str(self.body["commit"])

    @property
    def source(self) -> Mapping[str, str]:
        """Where it comes from: ``kind``, ``location``, ``experiment``, ``id``."""
        return self.body["source"]  # type: ignore[no-any-return]  # checked by the schema

    @property
    def metrics(self) -> Mapping[str, Mapping[str, float]]:
        """By side and name, as of a run record."""
        return self.body.get("metrics") or {}

    @property
    def params(self) -> Mapping[str, Any]:
        return self.body["params"]  # type: ignore[no-any-return]  # checked by the schema


Record = RunRecord | ExperimentRecord | RemovalRecord | ImportRecord


def as_record(body: Mapping[str, Any]) -> Record:
    """The value for a schema-checked body, by its ``kind``."""
    match body["kind"]:
        case "run":
            return RunRecord(body)
        case "removal":
            return RemovalRecord(body)
        case "import":
            return ImportRecord(body)
        case _:
            return ExperimentRecord(body)


@dataclass(frozen=True)
class Entry:
    """A record as the index holds it.

    ``fold`` is the number of the fold commit that took it in (1 for the first), which with ``record.id``
    orders all entries; ``landed_by`` is the committer's name and address of the landed commit.
    """

    record: Record
    record_sha256: str
    result_commit: str
    landed_by: str
    fold: int

    @property
    def order(self) -> tuple[int, str]:
        """The key of fold order."""
        return (self.fold, self.record.id)
