"""From what was gathered to a ``Review``: a pure function of frozen facts.

The base branch has the say: its rules are the gates, its metrics are looked at, its expectations count, and the truth
is the target of its table. What a branch declares of these decides nothing.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from cd4ml.index.record import RunRecord
from cd4ml.promotion.compare import directions_of, finite, meaning_of, side_digest
from cd4ml.promotion.configuration import ConfigChange, config_changes
from cd4ml.promotion.expected import expectations_told
from cd4ml.promotion.gates import MODEL, PREDICTION, TRAINING, gates
from cd4ml.promotion.inputs import LinesChanged, Source, data_changes, file_changes, package_changes
from cd4ml.promotion.judgement import Judged, judge
from cd4ml.promotion.paired import Paired
from cd4ml.promotion.review import (
    ColumnMoved,
    CostRow,
    ExpectationTold,
    Gate,
    Merge,
    MetricJudged,
    Relative,
    Review,
    Ruler,
    RunTold,
)
from cd4ml.spec.experiment import Direction, Spec
from cd4ml.spec.metrics import METRICS_BY_NAME
from cd4ml.spec.text import one_line

MEMORY = "peak memory"
_TEST = "test"
_MOST_FILES = 5
_LONGEST = 300
_MOST_METRICS = 2000

AnswerKind = Literal["ran", "erased", "failed", "pending", "refused"]


@dataclass(frozen=True)
class Answered:
    """How a tree that asks for something was answered.

    ``run`` is the run that succeeded, or the failure that counts. What was erased says so in ``reason``, and has no run
    where its record was erased as well. ``params`` is what it asks for, resolved, and
    ``data`` its pins as a record tells them; both are known even where nothing was run. ``reason`` is one line.
    """

    kind: AnswerKind
    reason: str = ""
    run: RunRecord | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    source: Source = field(default_factory=Source)

    @property
    def body(self) -> Mapping[str, Any]:
        """What a record says of inputs, or would say."""
        return self.run.body if self.run is not None else {"data": self.data}


@dataclass(frozen=True)
class Production:
    """A result of the index that a tag says is released."""

    run: RunRecord
    release: str
    environment: str


@dataclass(frozen=True)
class Facts:
    """All that a report is made of. ``policy`` is the base branch's spec, at its tip.

    ``unpaired`` says why there is no evidence, in words that end no sentence. ``held_against`` is what the champion is
    the result of, for people (``main``, or a commit). ``gated`` off, no gate is looked at: the champion is not the
    base branch's result. ``same_as_base`` says that merging would change nothing.
    """

    branch: str
    base: str
    commit: str
    base_commit: str
    judged: Literal["head", "merge"]
    policy: Spec
    challenger: Answered
    champion: Answered | None
    held_against: str
    name: str = ""
    hypothesis: str = ""
    author: str = ""
    is_base: bool = False
    gated: bool = True
    conflicts: tuple[str, ...] = ()
    merge_base: RunRecord | None = None
    production: Production | None = None
    paired: Paired | None = None
    unpaired: str = ""
    lines: LinesChanged = field(default_factory=dict)
    moved: tuple[ColumnMoved, ...] = ()
    relatives: tuple[Relative, ...] = ()
    trains: bool = True
    moves: tuple[str, ...] = ()
    policy_moved: tuple[ConfigChange, ...] = ()
    policy_files: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    measured: Mapping[str, Any] = field(default_factory=dict)


def assemble(facts: Facts) -> Review:
    """The review. Draws resamples where there is evidence, with the seed that ``judge`` fixes; no other effect."""
    champion, challenger = facts.champion, facts.challenger
    old = champion.run if champion is not None and champion.kind == "ran" else None
    new = challenger.run if challenger.kind == "ran" else None
    primary = facts.policy.evaluation.primary
    judged = _judged(facts, old, new, primary)
    ruler = facts.paired.ruler if facts.paired is not None else None
    cost = _cost(old, new, facts.measured)
    expectations, asked = expectations_told(facts.policy, old, new or challenger.run)
    looked_at = _gates(facts, judged, ruler, cost, expectations) if facts.gated else ()
    before = champion or Answered("pending")
    sources = (before.source, challenger.source)
    known = all(one.files is not None for one in sources)
    known_data = challenger.kind != "refused"  # of which nobody knows what it would have read
    config = tuple(config_changes(before.params, challenger.params)) if before.params and challenger.params else ()
    review = Review(
        branch=facts.branch,
        base=facts.base,
        commit=facts.commit,
        base_commit=facts.base_commit,
        judged=facts.judged,
        verdict=judged.verdict,
        reason=one_line(judged.reason, _LONGEST),
        name=facts.name,
        hypothesis=facts.hypothesis,
        author=facts.author,
        challenger=_told(new or challenger.run),
        champion=_told(old),
        merge_base=_told(facts.merge_base),
        production=_told_production(facts.production),
        primary=primary,
        confidence=facts.policy.promotion.confidence,
        ruler=ruler,
        metrics=_with_references(judged.metrics, facts, old),
        gates=looked_at,
        slices=judged.slices,
        slices_looked_at=judged.slices_looked_at,
        config=config,
        data=tuple(data_changes(before.body, challenger.body, sources)) if champion is not None and known_data else (),
        moved=facts.moved,
        code=tuple(file_changes(sources, facts.lines)) if known else (),
        environment=tuple(package_changes(old.body, new.body, sources)) if old is not None and new is not None else (),
        expectations=expectations,
        expectations_asked=asked,
        cost=cost,
        relatives=facts.relatives,
        reproduce=_reproduce(challenger),
        notes=facts.notes,
    )
    return replace(review, merge=_merge(facts, review))


def _reproduce(challenger: Answered) -> str:
    """The command that runs it again; nothing where there is no run, or its data and model were erased."""
    if challenger.run is None or challenger.kind == "erased":
        return ""
    return f"cd4ml reproduce {shlex.quote(challenger.run.id)}"


def _merge(facts: Facts, review: Review) -> Merge:
    if facts.is_base:
        return Merge(trains=False)
    promotes = not review.held and not facts.conflicts and bool(facts.moves)
    return Merge(facts.conflicts, promotes, facts.trains, facts.moves, facts.policy_moved, facts.policy_files)


# ── the verdict ──────────────────────────────────────────────────────────────────────────────────────────────────


def _judged(facts: Facts, old: RunRecord | None, new: RunRecord | None, primary: str) -> Judged:
    """What the numbers say, where there are any; and over it, what keeps them from counting."""
    if new is None:
        return replace(_unanswered(facts), reason=_conflict(facts)) if facts.conflicts else _unanswered(facts)
    found = _measured(facts, old, new, primary)
    return replace(found, verdict="take main in", reason=_conflict(facts)) if facts.conflicts else found


def _unanswered(facts: Facts) -> Judged:
    if facts.conflicts:
        return Judged("take main in", "")
    one = facts.challenger
    if one.kind == "failed":
        return Judged("failed", _failure(one.run))
    if one.kind == "refused":
        return Judged("failed", f"failed at configuration because {one.reason}")
    if one.kind == "erased":
        return Judged("failed", _erased("it", one))
    return Judged("pending", one.reason)


def _failure(run: RunRecord | None) -> str:
    why = (run.reason if run is not None else None) or {}
    message = " ".join(str(why.get("message", "no message")).split())
    return f"failed at {why.get('stage', 'an unnamed stage')} because {message}"


def _erased(whose: str, one: Answered) -> str:
    return f"{whose} was {one.reason}"


def _conflict(facts: Facts) -> str:
    files = ", ".join(one_line(path, 100) for path in facts.conflicts[:_MOST_FILES])
    more = f" and {len(facts.conflicts) - _MOST_FILES} more" if len(facts.conflicts) > _MOST_FILES else ""
    command = f"`cd4ml update {shlex.quote(facts.branch)}`"
    return f"{facts.base} and this branch both changed {files}{more}: {command}"


def _measured(facts: Facts, old: RunRecord | None, new: RunRecord, primary: str) -> Judged:
    if old is None:
        return Judged("not comparable", _without_champion(facts), _alone(new, _names(new, new)))
    names = _names(old, new)
    difference = _difference(old, new, primary)
    if difference:
        return Judged("not comparable", difference)
    if facts.paired is None:
        reason = facts.unpaired or "the predictions of the two cannot be had"
        return Judged("not comparable", reason, _recorded(old, new, names))
    own = _own_values(old, new, names, facts.paired.ruler)
    promotion = facts.policy.promotion
    return judge(facts.paired, promotion, primary, names, _directions(facts, old), own)


def _directions(facts: Facts, old: RunRecord) -> dict[str, Direction]:
    return {**directions_of(old), **{one.name: one.direction for one in facts.policy.evaluation.own}}


def _without_champion(facts: Facts) -> str:
    one = facts.champion
    if one is None:
        return f"nothing was run before it on {facts.base}, so there is nothing to hold it against"
    if one.kind == "failed":
        return f"{facts.held_against} {_failure(one.run)}"
    if one.kind == "refused":
        return f"the configuration of {facts.held_against} is refused: {one.reason}"
    if one.kind == "erased":
        return _erased(f"the result of {facts.held_against}", one)
    return f"{facts.held_against} has no result: {one.reason}"


def _difference(old: RunRecord, new: RunRecord, primary: str) -> str:
    """Why a metric says something else of the two: a branch chooses what it is measured by."""
    before, after = meaning_of(old, primary), meaning_of(new, primary)
    key = next((key for key in before if before[key] != after[key]), None)
    if key is None:
        return ""
    if key == "code":
        return f"the code of {primary} differs"
    return f"{key} differs: {one_line(before[key], 50) or 'none'}, here {one_line(after[key], 50) or 'none'}"


# ── metrics ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _names(old: RunRecord, new: RunRecord) -> tuple[str, ...]:
    """Metrics of either, the champion's first, in the order of their configurations."""
    return tuple(dict.fromkeys(name for run in (old, new) for name in _ordered(run)))[:_MOST_METRICS]


def _ordered(run: RunRecord) -> list[str]:
    measured = list(run.metrics.get(_TEST) or {})
    evaluation = run.params.get("evaluation")
    asked = evaluation.get("metrics") if isinstance(evaluation, Mapping) else None
    rank = {name: place for place, name in enumerate(asked) if isinstance(name, str)} if isinstance(asked, list) else {}
    return sorted(measured, key=lambda name: (rank.get(name, len(rank)), name))


def _own_values(
    old: RunRecord, new: RunRecord, names: Sequence[str], ruler: Ruler
) -> dict[str, tuple[float | None, float | None]]:
    """Values of metrics that only the judge of a run computes: they hold where no row of the test side was dropped."""
    comparable = side_digest(old, _TEST) == side_digest(new, _TEST) and ruler.rows == ruler.declared
    found: dict[str, tuple[float | None, float | None]] = {}
    for name in names:
        if name not in METRICS_BY_NAME:
            alike = comparable and meaning_of(old, name) == meaning_of(new, name)
            found[name] = (_value(old, name), _value(new, name)) if alike else (_value(old, name), None)
    return found


def _value(run: RunRecord, name: str) -> float | None:
    return finite((run.metrics.get(_TEST) or {}).get(name))


def _alone(new: RunRecord, names: Sequence[str]) -> tuple[MetricJudged, ...]:
    directions = directions_of(new)
    return tuple(MetricJudged(name, directions.get(name), None, _value(new, name)) for name in names)


def _recorded(old: RunRecord, new: RunRecord, names: Sequence[str]) -> tuple[MetricJudged, ...]:
    """Values as the records have them, without intervals, where both were measured on the same test side."""
    if side_digest(old, _TEST) is None or side_digest(old, _TEST) != side_digest(new, _TEST):
        return ()
    directions = directions_of(old)
    found = []
    for name in names:
        before, after = _value(old, name), _value(new, name)
        change = finite(after - before) if before is not None and after is not None else None
        relative = finite(change / abs(before)) if change is not None and before else None
        found.append(MetricJudged(name, directions.get(name), before, after, change, relative))
    return tuple(found)


def _with_references(
    metrics: tuple[MetricJudged, ...], facts: Facts, old: RunRecord | None
) -> tuple[MetricJudged, ...]:
    """With the values of the other two runs, as far as they were measured on the champion's test side."""
    if old is None:
        return metrics
    production = facts.production.run if facts.production is not None else None
    return tuple(
        replace(one, merge_base=_reference(facts.merge_base, old, one), production=_reference(production, old, one))
        for one in metrics
    )


def _reference(run: RunRecord | None, old: RunRecord, one: MetricJudged) -> float | None:
    if run is None or side_digest(run, _TEST) is None or side_digest(run, _TEST) != side_digest(old, _TEST):
        return None
    return _value(run, one.metric) if meaning_of(run, one.metric) == meaning_of(old, one.metric) else None


# ── gates and cost ────────────────────────────────────────────────────────────────────────────────────


def _gates(
    facts: Facts,
    judged: Judged,
    ruler: Ruler | None,
    cost: Sequence[CostRow],
    expectations: Sequence[ExpectationTold],
) -> tuple[Gate, ...]:
    if facts.challenger.kind != "ran":
        return (Gate("result", "a run that succeeded", judged.reason or judged.verdict, "held"),)
    promotion, evaluation = facts.policy.promotion, facts.policy.evaluation
    found = gates(judged, promotion, evaluation.primary, ruler, cost, expectations, evaluation.slices)
    if facts.conflicts:
        files = f"{len(facts.conflicts)} files conflict" if len(facts.conflicts) > 1 else "1 file conflicts"
        found = (Gate("merge", f"merges into {facts.base}", files, "held"), *found)
    return found


def _cost(old: RunRecord | None, new: RunRecord | None, measured: Mapping[str, Any]) -> tuple[CostRow, ...]:
    """What the two took: seconds of stage ``train``, the most memory of any stage, the model's bytes, seconds a row.

    ``measured`` is the cost of another run that made the challenger's very model: where DVC handed back what that one
    made, the challenger's own says nothing of it.
    """
    if new is None:
        return ()
    own = new.body.get("cost") or {}
    seconds = {**_part(measured, "seconds"), **_part(own, "seconds")}
    peaks = {**_part(measured, "peak_bytes"), **_part(own, "peak_bytes")}
    new = RunRecord({**new.body, "cost": {**measured, **own, "seconds": seconds, "peak_bytes": peaks}})
    rows = (
        (TRAINING, "seconds", lambda run: _cost_of(run, "seconds").get("train")),
        (
            MEMORY,
            "bytes",
            lambda run: max(filter(None, map(_amount, _cost_of(run, "peak_bytes").values())), default=None),
        ),
        (MODEL, "bytes", lambda run: (run.body.get("model") or {}).get("bytes")),
        (PREDICTION, "seconds/row", lambda run: (run.body.get("cost") or {}).get("prediction_seconds_per_row")),
    )
    return tuple(
        CostRow(name, unit, _amount(of(old)) if old is not None else None, _amount(of(new))) for name, unit, of in rows
    )


def _cost_of(run: RunRecord, part: str) -> Mapping[str, Any]:
    return _part(run.body.get("cost") or {}, part)


def _part(cost: Mapping[str, Any], part: str) -> Mapping[str, Any]:
    found = cost.get(part)
    return found if isinstance(found, Mapping) else {}


def _amount(value: object) -> float | None:
    number = finite(value)
    return number if number is not None and number >= 0 and math.isfinite(number) else None


# ── runs in short ────────────────────────────────────────────────────────────────────────────────────────────────


def _told(run: RunRecord | None) -> RunTold | None:
    if run is None:
        return None
    model = run.body.get("model") or {}
    return RunTold(
        id=run.id,
        fingerprint=run.fingerprint,
        commit=run.commit,
        branch=run.branch,
        finished=str(run.body["finished"]),
        model=str(model.get("digest", "")),
    )


def _told_production(found: Production | None) -> RunTold | None:
    told = _told(found.run) if found is not None else None
    if told is None or found is None:
        return None
    return replace(told, release=one_line(found.release, 200), environment=one_line(found.environment, 100))
