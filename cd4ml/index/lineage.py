"""Where things come from and what became of them: runs, data, models and files as one graph, by their digests.

Built from records alone, in one pass. A digest may play several parts: a model's is also that of the file that holds
it, and two sources may hold equal rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from cd4ml.index.history import ExperimentEntry, RunEntry
from cd4ml.index.record import RunRecord

Relation = Literal["made", "used", "is"]
MIN_PREFIX = 8
"""Digits of a digest that must be given."""

_HEX = re.compile(rf"[0-9a-f]{{{MIN_PREFIX},64}}")
_SIDES: tuple[Literal["head", "merge"], ...] = ("head", "merge")


@dataclass(frozen=True)
class Mention:
    """One digest that a record speaks of: what it is, and whether the run made it, used it, or is named by it."""

    digest: str
    what: str
    relation: Relation


@dataclass(frozen=True)
class Link:
    """A run that speaks of a digest, and in which parts."""

    run: RunEntry
    mentions: tuple[Mention, ...]

    @property
    def relation(self) -> Relation:
        """The strongest: what a run is named by it also made or used."""
        found = {one.relation for one in self.mentions}
        return "is" if "is" in found else "made" if "made" in found else "used"


@dataclass(frozen=True)
class Trace:
    """A digest, the parts that it plays, and the runs that speak of it, in fold order.

    ``count`` is how many there are; ``links`` are all of them, or as many of the newest as were asked for.
    """

    digest: str
    what: tuple[str, ...]
    links: tuple[Link, ...]
    count: int

    def of(self, relation: Relation) -> tuple[RunEntry, ...]:
        """The runs that stand to it so."""
        return tuple(link.run for link in self.links if link.relation == relation)


@dataclass(frozen=True)
class Answer:
    """A commit of a branch that a run answers, as head or as merge result."""

    branch: str
    commit: str
    side: Literal["head", "merge"]


@dataclass(frozen=True)
class ModelRun:
    """A run that made a model, by what names both."""

    id: str
    fingerprint: str
    branch: str
    model_digest: str

    @classmethod
    def of(cls, run: RunRecord) -> ModelRun:
        """Of a run that succeeded."""
        return cls(run.id, run.fingerprint, run.branch, run.body["model"]["digest"])


def as_digest(text: str) -> str:
    """The text as the beginning of a digest, or ``""`` when it cannot be one."""
    lowered = text.lower().removesuffix(".dir")
    return lowered if _HEX.fullmatch(lowered) else ""


def mentions(one: RunEntry) -> Iterator[Mention]:
    """Every digest that a run's record speaks of. Its shape beyond what readers rely on is not believed."""
    body = one.run.body
    yield Mention(one.run.fingerprint, "run", "is")
    yield Mention(one.run.commit, "source commit", "used")
    yield Mention(one.entry.result_commit, "result commit", "made")
    yield Mention(body["tree"], "source tree", "used")
    if body.get("judge"):
        yield Mention(body["judge"]["commit"], "judge's commit", "used")
    for source, pin in body["data"].items():
        yield Mention(pin["digest"], f"data {source}", "used")
    for name, value in one.run.components.items():
        yield Mention(value, f"{name} component", "used")
    for what in ("table", "model"):
        if one.run.succeeded:
            yield Mention(body[what]["digest"], what, "made")
    for side, part in body["split"].items():
        yield Mention(part["digest"], f"{side} rows", "made")
    for path, file in files_of(one.run).items():
        relation: Relation = "made" if path.startswith("artifacts/") else "used"
        for name in ("sha256", "md5"):
            yield Mention(file[name].removesuffix(".dir"), f"file {path}", relation)


def files_of(run: RunRecord) -> dict[str, Mapping[str, Any]]:
    """What a run read and wrote, by path, with ``sha256``, ``md5`` and ``bytes``; entries of another shape left out."""
    files = run.body.get("files")
    return {path: file for path, file in files.items() if _is_file(file)} if isinstance(files, Mapping) else {}


def _is_file(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return False
    digests = (value.get("sha256"), value.get("md5"))
    return all(isinstance(one, str) for one in digests) and isinstance(value.get("bytes"), int)


def trace(runs: Iterable[RunEntry], prefix: str, newest: int | None = None) -> tuple[Trace, ...]:
    """Every digest that begins with ``prefix`` (as ``as_digest`` gives it), with the runs that speak of it.

    The runs may come in any order; of each digest at most ``newest`` are kept, and no more than twice as many are in
    memory at a time.
    None where nothing does; several where the prefix is not unique. A digest that is given whole is that one alone.
    """
    gathered: dict[str, _Gathered] = {}
    for one in runs:
        found: dict[str, list[Mention]] = {}
        for mention in mentions(one):
            if mention.digest.startswith(prefix):
                found.setdefault(mention.digest, []).append(mention)
        for digest, those in found.items():
            gathered.setdefault(digest, _Gathered(newest)).add(Link(one, tuple(those)))
    chosen = {prefix: gathered[prefix]} if prefix in gathered else gathered
    return tuple(those.trace(digest) for digest, those in sorted(chosen.items()))


@dataclass
class _Gathered:
    """What is known of one digest while runs come in."""

    newest: int | None
    links: list[Link] = field(default_factory=list)
    count: int = 0
    first: dict[str, tuple[tuple[int, str], int]] = field(default_factory=dict)
    """By part, where in fold order the digest first plays it."""

    def add(self, link: Link) -> None:
        self.count += 1
        self.links.append(link)
        for number, mention in enumerate(link.mentions):
            place = (link.run.entry.order, number)
            self.first[mention.what] = min(place, self.first.get(mention.what, place))
        if self.newest is not None and len(self.links) > 2 * self.newest:
            self._keep_newest()

    def _keep_newest(self) -> None:
        self.links.sort(key=lambda link: link.run.entry.order)
        if self.newest is not None:
            del self.links[: -self.newest]

    def trace(self, digest: str) -> Trace:
        self._keep_newest()
        return Trace(digest, tuple(sorted(self.first, key=self.first.__getitem__)), tuple(self.links), self.count)


def trace_of_run(one: RunEntry) -> Trace:
    """A run by itself."""
    return Trace(one.run.id, ("run",), (Link(one, (Mention(one.run.id, "run", "is"),)),), 1)


def answers(experiments: Iterable[ExperimentEntry], run_ids: frozenset[str]) -> dict[str, tuple[Answer, ...]]:
    """What each of these runs answers, in fold order, each commit of a branch once."""
    found: dict[str, dict[Answer, None]] = {}
    for one in experiments:
        for side in _SIDES:
            run_id = one.experiment.answer.get(side)
            if run_id in run_ids:
                answer = Answer(one.experiment.branch, one.experiment.commit, side)
                found.setdefault(str(run_id), {})[answer] = None
    return {run_id: tuple(those) for run_id, those in found.items()}
