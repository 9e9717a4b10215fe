"""Everything that a reviewer is told of an experiment, as values: what ``cd4ml report`` renders.

All of it is plain: text, numbers and tuples of such, so that a renderer decides nothing and a test needs no other part.
Text that comes from a branch, its configuration or its data stands here as it is; whoever renders it makes it safe.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from cd4ml.promotion.configuration import ConfigChange
from cd4ml.promotion.inputs import DataChange, FileChange, PackageChange
from cd4ml.spec.experiment import Direction

SCHEMA = 1
"""Of the JSON shape of a review."""

Verdict = Literal[
    "better", "worse", "no real difference", "not comparable", "take main in", "failed", "pending", "unverified"
]
"""What the first line says. ``unverified``: a fork's result, of which no record is made."""

Standing = Literal["better", "worse", "no real difference", "unknown"]
"""How a number of the challenger stands to the champion's, when chance is allowed for."""

GateOutcome = Literal["passed", "held"]


@dataclass(frozen=True)
class Interval:
    """Of a change, challenger minus champion, in the metric's units; holds with the confidence that was asked for."""

    low: float
    high: float


@dataclass(frozen=True)
class MetricJudged:
    """One metric on the rows that both were scored on.

    ``change`` is challenger minus champion, ``relative`` the same over the champion's absolute value. ``interval`` is
    what chance allows; ``corrected`` the wider one that gates use, for how often the test side was used. Nothing where
    a value is missing or not finite, or a metric has no interval. ``merge_base`` and ``production`` are those runs' own
    values on the same test side, nothing where they were measured on another one.
    """

    metric: str
    direction: Direction | None
    champion: float | None
    challenger: float | None
    change: float | None = None
    relative: float | None = None
    interval: Interval | None = None
    corrected: Interval | None = None
    standing: Standing = "unknown"
    merge_base: float | None = None
    production: float | None = None


@dataclass(frozen=True)
class SliceJudged:
    """The primary metric where ``column`` has a value; ``interval`` allows for how many slices were looked at."""

    column: str
    value: str
    rows: int
    metric: str
    champion: float
    challenger: float
    change: float
    interval: Interval
    standing: Standing


@dataclass(frozen=True)
class Gate:
    """One condition of the base branch: what was ``asked``, what was ``measured``, both in words with numbers."""

    name: str
    asked: str
    measured: str
    outcome: GateOutcome


@dataclass(frozen=True)
class Ruler:
    """The rows that both models were scored on.

    ``digest`` is that of main's declared test side and ``declared`` the number of its rows; ``rows`` is what both were
    scored on, of which ``min_rows`` are asked for. The rest was dropped: rows that the champion, or the challenger, saw
    in training or validation, and rows for which one of them has no prediction. ``uses`` says how many results can have
    been scored on this test side, this one included; ``matched_by`` names the columns that matched rows where the
    tables differ (none: whole rows).
    """

    digest: str
    declared: int
    rows: int
    min_rows: int
    seen_by_champion: int = 0
    seen_by_challenger: int = 0
    not_predicted: int = 0
    uses: int = 1
    matched_by: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunTold:
    """A run in short. ``release`` is the tag under which it was released, ``environment`` where it runs."""

    id: str
    fingerprint: str
    commit: str
    branch: str
    finished: str
    model: str = ""
    release: str = ""
    environment: str = ""


@dataclass(frozen=True)
class ExpectationTold:
    """An expectation that was not met."""

    type: str
    column: str
    severity: Literal["critical", "warning"]


@dataclass(frozen=True)
class ColumnMoved:
    """A column whose distribution differs between the two tables.

    ``psi`` is the population stability index (Siddiqi 2006) of the challenger's training table against the champion's,
    below 0.1 small, above 0.25 large; missing shares are fractions.
    """

    column: str
    psi: float
    missing_before: float
    missing_after: float


@dataclass(frozen=True)
class CostRow:
    """What one thing costs. ``unit``: ``seconds``, ``bytes`` or ``seconds/row``."""

    name: str
    unit: str
    champion: float | None
    challenger: float | None


@dataclass(frozen=True)
class Relative:
    """A run in the index that asked for the same, or for the same but for one key (``key``, and its value there)."""

    kind: Literal["same", "near"]
    run: str
    branch: str
    lifecycle: str
    outcome: Literal["succeeded", "failed"]
    finished: str
    metric: float | None = None
    reason: str = ""
    key: str = ""
    here: Any = None
    there: Any = None


@dataclass(frozen=True)
class Merge:
    """What merging now would do.

    ``conflicts`` are the files that Git cannot merge. ``promotes`` says whether the gates would let the model through;
    ``trains`` whether main would have to be trained anew; ``moves`` the components of main's fingerprint that move.
    ``policy`` are the keys of which only main's value counts, ``policy_files`` the files that act for main, that would
    change: no run and no gate sees these. The champion of such a change is main.
    """

    conflicts: tuple[str, ...] = ()
    promotes: bool = False
    trains: bool = True
    moves: tuple[str, ...] = ()
    policy: tuple[ConfigChange, ...] = ()
    policy_files: tuple[str, ...] = ()

    @property
    def moves_policy(self) -> bool:
        """Would merging change what later results are judged by, or what runs with main's rights?"""
        return bool(self.policy or self.policy_files)


@dataclass(frozen=True)
class Review:
    """One report. ``reason`` is one line; ``judged`` says which tree was judged, and ``commit`` is the head.

    What is not known is empty. ``reproduce`` is one line for a shell. ``slices`` are those that got significantly worse
    of ``slices_looked_at``. ``notes`` are further things that a reader must know, a sentence each.
    """

    branch: str
    base: str
    commit: str
    base_commit: str
    judged: Literal["head", "merge"]
    verdict: Verdict
    reason: str
    name: str = ""
    hypothesis: str = ""
    author: str = ""
    challenger: RunTold | None = None
    champion: RunTold | None = None
    merge_base: RunTold | None = None
    production: RunTold | None = None
    primary: str = ""
    confidence: float = 0.95
    ruler: Ruler | None = None
    metrics: tuple[MetricJudged, ...] = ()
    gates: tuple[Gate, ...] = ()
    slices: tuple[SliceJudged, ...] = ()
    slices_looked_at: int = 0
    config: tuple[ConfigChange, ...] = ()
    data: tuple[DataChange, ...] = ()
    moved: tuple[ColumnMoved, ...] = ()
    code: tuple[FileChange, ...] = ()
    environment: tuple[PackageChange, ...] = ()
    expectations: tuple[ExpectationTold, ...] = ()
    expectations_asked: int = 0
    merge: Merge = Merge()
    cost: tuple[CostRow, ...] = ()
    relatives: tuple[Relative, ...] = ()
    reproduce: str = ""
    notes: tuple[str, ...] = ()

    @property
    def of_primary(self) -> MetricJudged | None:
        """The metric that ranks."""
        return next((one for one in self.metrics if one.metric == self.primary), None)

    @property
    def held(self) -> bool:
        """Would a gate keep the model from being promoted? With no gate looked at, yes."""
        return not self.gates or any(gate.outcome == "held" for gate in self.gates)

    def as_json(self) -> Mapping[str, Any]:
        """Plain JSON values, with ``schema``; tuples become lists."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return {"schema": SCHEMA, **plain}
