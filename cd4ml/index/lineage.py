"""Where things come from and what became of them: runs, data, models and files as one graph, by their digests.

Built from records alone, in one pass. A digest may play several parts: a model's is also that of the file that holds
it, and two sources may hold equal rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
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
    """A digest, the parts that it plays, and every run that speaks of it, in fold order."""

    digest: str
    what: tuple[str, ...]
    links: tuple[Link, ...]

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


def trace(runs: Iterable[RunEntry], prefix: str) -> tuple[Trace, ...]:
    """Every digest that begins with ``prefix`` (as ``as_digest`` gives it), with the runs that speak of it.

    The runs may come in any order.
    None where nothing does; several where the prefix is not unique. A digest that is given whole is that one alone.
    """
    links: dict[str, list[Link]] = {}
    for one in runs:
        found: dict[str, list[Mention]] = {}
        for mention in mentions(one):
            if mention.digest.startswith(prefix):
                found.setdefault(mention.digest, []).append(mention)
        for digest, those in found.items():
            links.setdefault(digest, []).append(Link(one, tuple(those)))
    chosen = {prefix: links[prefix]} if prefix in links else links
    return tuple(_trace(digest, tuple(those)) for digest, those in sorted(chosen.items()))


def _trace(digest: str, links: tuple[Link, ...]) -> Trace:
    ordered = tuple(sorted(links, key=lambda link: link.run.entry.order))
    what = dict.fromkeys(mention.what for link in ordered for mention in link.mentions)
    return Trace(digest, tuple(what), ordered)


def trace_of_run(one: RunEntry) -> Trace:
    """A run by itself."""
    return Trace(one.run.id, ("run",), (Link(one, (Mention(one.run.id, "run", "is"),)),))


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
