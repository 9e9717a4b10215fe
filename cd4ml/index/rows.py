"""What ``search`` and ``show`` list: one row for each run and each branch that it answers."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from itertools import chain
from typing import Any, Literal, NamedTuple, Protocol

from cd4ml.errors import Problem
from cd4ml.index.history import ExperimentEntry, History, ImportEntry, RemovalEntry, RunEntry
from cd4ml.index.instant import utc_form
from cd4ml.index.record import Entry, RunRecord
from cd4ml.index.removed import ERASED, counting, words

Health = Literal["Healthy", "Degraded", "Unknown"]
Role = Literal["result", "replicate", "attempt", "refused", "unknown", "imported"]
Side = Literal["head", "merge"]

GONE = "discarded"
"""The lifecycle of a branch that nobody speaks of any more."""

JUDGED = ("validation", "test")
"""The sides of the data that metrics of slices are of."""

_SIDES: tuple[Side, ...] = ("head", "merge")
_MOST_PROBLEMS = 5


@dataclass(frozen=True)
class Row:
    """One run and one branch that it answers.

    ``id`` is the run's, or the experiment record's when ``role`` is ``refused``: there was nothing to run.
    ``commit`` is the branch's, ``source_commit`` the one that was run: they differ for a merge result and
    for a run that was made for another branch. ``result_commit`` keeps both alive; for what was refused it
    is the commit that holds the experiment record. ``role`` is ``unknown`` when the index names a run that
    this version cannot read. ``fold`` is the number of the fold that made the row. ``started``,
    ``finished``, ``committed`` and ``lifecycle_at`` are ISO 8601 in UTC. ``cost`` is in seconds, by stage;
    in it ``peak_bytes`` are by stage too, and ``prediction_seconds_per_row`` is what a row took stage ``predict``.
    ``removal`` says what was let go of the run, when, by whom and why (``what``, ``at``, ``by``, ``reason``, ``rule``).
    ``slices`` are by side, column, value and metric (``rows`` is their number). An imported run, which no branch asked
    for, goes by ``TOOL:EXPERIMENT`` as its branch: no branch of Git can have such a name.
    """

    id: str
    fingerprint: str | None
    branch: str
    commit: str
    result_commit: str | None
    health: Health
    lifecycle: str
    params: Mapping[str, Any]
    metrics: Mapping[str, Mapping[str, float]]
    reason: str | None
    outcome: str | None
    role: Role
    side: Side
    source_commit: str | None
    experiment: str | None
    name: str
    author: str | None
    hypothesis: str | None
    tags: tuple[str, ...]
    conclusion: str | None
    noted_by: str | None
    started: str | None
    finished: str | None
    committed: str | None
    model_digest: str | None
    components: Mapping[str, str] | None
    primary: Mapping[str, str] | None
    cost: Mapping[str, Any]
    landed_by: str | None
    fold: int
    lifecycle_by: str | None = None
    lifecycle_at: str | None = None
    let_go: str | None = None
    failure: Mapping[str, str] | None = None
    slices: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    table: Mapping[str, Any] | None = None
    split: Mapping[str, Any] = field(default_factory=dict)
    validation: Mapping[str, Any] | None = None
    environment: Mapping[str, str] | None = None
    packages: Mapping[str, str] = field(default_factory=dict)
    judge: Mapping[str, str] | None = None
    imported: Mapping[str, str] | None = None
    removal: Mapping[str, str] | None = None

    @classmethod
    def of_values(cls, values: dict[str, Any]) -> Row:
        """The row that has these values, one for each field: in a tenth of the time that the constructor takes.

        A frozen dataclass sets its fields one by one, and rows are made by the hundred thousand.
        """
        row = object.__new__(cls)
        row.__dict__.update(values)
        return row

    def as_json(self) -> dict[str, Any]:
        """The object that ``--json`` lists under ``runs``; see ``docs/json.md``."""
        value = dict(vars(self))  # in the order of the fields
        value["tags"] = list(self.tags)
        return value


@dataclass(frozen=True)
class _Asked:
    """What the experiment records say of one commit of one branch, in fold order."""

    records: tuple[ExperimentEntry, ...]

    @property
    def latest(self) -> ExperimentEntry:
        return self.records[-1]

    @property
    def first_fold(self) -> int:
        return self.records[0].entry.fold

    @property
    def answering(self) -> dict[str, Side]:
        """The ids of the runs that the latest record names, each with the first side that it answers."""
        answer = self.latest.experiment.answer
        found: dict[str, Side] = {}
        for side in _SIDES:
            if (run_id := answer[side]) is not None:
                found.setdefault(run_id, side)
        return found

    def shared(self) -> dict[str, Any]:
        """The fields of a row that speak of the branch and not of a run."""
        body = self.latest.experiment.body
        noted = next((one.experiment.body for one in reversed(self.records) if one.experiment.body["conclusion"]), body)
        return {
            "branch": body["branch"],
            "commit": body["commit"],
            "experiment": body["id"],
            "name": body["name"],
            "author": body["author"] or None,
            "hypothesis": body["hypothesis"] or None,
            "tags": tuple(body["tags"]),
            "conclusion": noted["conclusion"] or None,
            "noted_by": noted["noted_by"] or None,
            "committed": utc_form(body["committed"]),
        }


class Became(Protocol):
    """What became of a branch, by whom, and when (ISO 8601 with a zone), as far as Git tells."""

    @property
    def lifecycle(self) -> str: ...
    @property
    def by(self) -> str | None: ...
    @property
    def when(self) -> str | None: ...


class Lives(Protocol):
    """What became of a branch as it was at each of its commits."""

    def of(self, commit: str, /) -> Became: ...


Key = tuple[str, str]
Lifecycles = Mapping[str, "str | Became | Lives"]


def rows(history: History, lifecycles: Lifecycles) -> tuple[Row, ...]:
    """Everything that the index has to list, in fold order.

    A run gives a row for the branch that it was run for, enriched by the latest experiment record of that
    commit, and one for each other branch and commit whose latest record it answers. A commit that was
    refused, or whose merge conflicts, and that no run answers gives a row of role ``refused``.
    ``lifecycles`` is by branch; a branch that is not in it is discarded. An imported run gives one row.
    """
    questions = Questions.of(history.experiments, history.removals)
    runs: dict[str, list[RunEntry]] = {}
    for run in history.runs:
        runs.setdefault(run.run.fingerprint, []).append(run)
    made = [*chain.from_iterable(questions.rows_of(same, lifecycles) for same in runs.values())]
    made += questions.rows_without_run({run.run.id for run in history.runs}, lifecycles)
    found = [*(one.row for one in made), *(questions.row_of_import(one) for one in history.imports)]
    return tuple(sorted(found, key=fold_order))


def fold_order(row: Row) -> tuple[int, str, str, str, str]:
    """The key that rows are sorted by."""
    return (row.fold, row.id, row.branch, row.commit, row.side)


class Made(NamedTuple):
    """A row, and whether it is the one that the run has by itself, rather than as the answer to another commit."""

    row: Row
    own: bool


@dataclass(frozen=True)
class Questions:
    """What the experiment records ask, and what removals let go: all that makes rows of runs.

    Of part of an index it gives the same rows as of the whole, for a fingerprint all of whose runs are given,
    if it was made of all records that speak of their commits, name them as answers or name their merge commits.
    """

    asked: Mapping[Key, _Asked]
    merges: Mapping[Key, Key]
    answered: Mapping[str, tuple[tuple[Key, Side], ...]]
    let_go: Mapping[str, RemovalEntry]

    @classmethod
    def of(cls, experiments: Iterable[ExperimentEntry], removals: Iterable[RemovalEntry]) -> Questions:
        """Both in fold order."""
        records: dict[Key, list[ExperimentEntry]] = {}
        for one in experiments:
            records.setdefault((one.experiment.branch, one.experiment.commit), []).append(one)
        asked = {key: _Asked(tuple(found)) for key, found in records.items()}
        merges = {
            (branch, one.experiment.body["merge_commit"]): (branch, commit)
            for (branch, commit), ask in asked.items()
            for one in ask.records
            if one.experiment.body["merge_commit"]
        }
        answered: dict[str, tuple[tuple[Key, Side], ...]] = {}
        for key, ask in asked.items():
            for run_id, side in ask.answering.items():
                answered[run_id] = (*answered.get(run_id, ()), (key, side))
        return cls(asked, merges, answered, counting(removals))

    def own_key(self, run: RunEntry) -> Key:
        """The branch and commit that the run was made for: of a merge result, the branch's and not the merge's."""
        source = (run.run.branch, run.run.commit)
        return self.merges.get(source, source) if run.run.body["side"] == "merge" else source

    def rows_of(self, runs: Iterable[RunEntry], lifecycles: Lifecycles) -> Iterator[Made]:
        """The rows of all runs of one fingerprint, given in fold order."""
        answered = False
        for run in runs:
            role: Role = "attempt" if not run.run.succeeded else "replicate" if answered else "result"
            answered = answered or run.run.succeeded
            own, side = self.own_key(run), run.run.body["side"]
            yield self._made(_run_row(run, role, side, self.asked.get(own), lifecycles, run.entry.fold), own=True)
            for key, asked_side in self.answered.get(run.run.id, ()):
                if key != own:
                    ask = self.asked[key]
                    fold = max(run.entry.fold, ask.first_fold)
                    yield self._made(_run_row(run, role, asked_side, ask, lifecycles, fold), own=False)

    def rows_without_run(self, known: Container[str], lifecycles: Lifecycles) -> Iterator[Made]:
        """Rows of commits that no run of the ``known`` ids answers: refused, or answered by what cannot be read."""
        for ask in self.asked.values():
            for run_id, side in ask.answering.items():
                if run_id not in known:
                    yield self._made(_unknown_row(run_id, side, ask, lifecycles), own=False)
            body = ask.latest.experiment.body
            if not ask.answering:
                refused = body["problems"] or body["conflicts"]
                yield self._made((_refused_row if refused else _unrun_row)(ask, lifecycles), own=False)

    def row_of_import(self, entry: ImportEntry) -> Row:
        """The one row of an imported run."""
        return self._made(_imported_row(entry), own=True).row

    def _made(self, row: Row, *, own: bool) -> Made:
        """With what was let go of its run. An erased run is Degraded, and its reason says so after its own."""
        known = self.let_go.get(row.id)
        if known is None:
            return Made(row, own)
        removal = known.removal
        told = {part: str(removal.body[part]) for part in ("what", "at", "by", "reason", "rule")}
        told["at"] = utc_form(told["at"])
        row = replace(row, let_go=removal.what, removal=told)
        if removal.what != ERASED:
            return Made(row, own)
        # that the index holds no such run says nothing more once its record was erased as well
        before = (row.reason,) if row.reason and row.role != "unknown" else ()
        return Made(replace(row, health="Degraded", reason="; ".join((*before, words(told)))), own)


def _run_row(run: RunEntry, role: Role, side: Side, ask: _Asked | None, lifecycles: Lifecycles, fold: int) -> Row:
    body = run.run.body
    shared = ask.shared() if ask else _shared_of_run(run)
    model, environment = body["model"], body["environment"]
    return Row.of_values(
        {
            **_FURTHER,
            **shared,
            **_became(shared["branch"], shared["commit"], lifecycles),
            "id": body["id"],
            "fingerprint": body["fingerprint"],
            "result_commit": run.entry.result_commit,
            "health": "Healthy" if run.run.succeeded else "Degraded",
            "params": body["params"],
            "metrics": run.run.metrics,
            "reason": _reason(run),
            "outcome": body["outcome"],
            "role": role,
            "side": side,
            "source_commit": body["commit"],
            "started": utc_form(body["started"]),
            "finished": utc_form(body["finished"]),
            "model_digest": model["digest"] if model else None,
            "components": body["components"],
            "primary": body["primary"],
            "cost": _cost(body["cost"]),
            "landed_by": run.entry.landed_by or None,
            "fold": fold,
            "failure": _failure(run),
            "slices": _slices(body.get("slices") or {}),
            "data": _digests(body["data"]),
            "table": _digest_of(body["table"]),
            "split": _digests(body["split"]),
            "validation": _validation(body["validation"]),
            "environment": {"python": environment["python"], "platform": environment["platform"]},
            "packages": environment["packages"],
            "judge": _judge(body.get("judge")),
        }
    )


_FURTHER: Mapping[str, Any] = dict.fromkeys(one.name for one in fields(Row))
"""What a run's row may have beside what every run has; and the order of the fields."""


def run_told_by(doc: Mapping[str, Any]) -> RunEntry:
    """The run of a row's JSON, with as much of its record as the row tells: no files, no tree, no lock file."""
    told = ("id", "fingerprint", "branch", "outcome", "params", "metrics", "primary", "split", "data", "judge", "table")
    body = {name: doc[name] for name in told}
    model = {"digest": doc["model_digest"]} if doc["model_digest"] else None
    record = RunRecord(
        {**body, "kind": "run", "commit": doc["source_commit"], "model": model, "reason": doc["failure"]}
    )
    return RunEntry(Entry(record, "", doc["result_commit"] or "", doc["landed_by"] or "", doc["fold"]), record)


def _shared_of_run(run: RunEntry) -> dict[str, Any]:
    return {
        "branch": run.run.branch,
        "commit": run.run.commit,
        "experiment": None,
        "name": run.run.body["name"],
        "author": None,
        "hypothesis": None,
        "tags": (),
        "conclusion": None,
        "noted_by": None,
        "committed": None,
    }


def _became(branch: str, commit: str, lifecycles: Lifecycles) -> dict[str, Any]:
    became = lifecycles.get(branch, GONE)
    if isinstance(became, str):  # a Lifecycle is one, too
        return {"lifecycle": str(became)}
    told: Became = became.of(commit) if hasattr(became, "of") else became
    return {
        "lifecycle": str(told.lifecycle),
        "lifecycle_by": told.by or None,
        "lifecycle_at": _instant(told.when),
    }


def _reason(run: RunEntry) -> str | None:
    reason = run.run.reason
    return f"{reason['stage']}: {reason['message']}" if reason else None


def _cost(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Seconds by stage, and what a record may say beside them, where it is made of numbers."""
    found = dict(recorded["seconds"])
    for other in _BESIDE_SECONDS & found.keys():
        del found[other]
    peaks, latency = recorded.get("peak_bytes"), recorded.get("prediction_seconds_per_row")
    if isinstance(peaks, Mapping) and peaks and all(map(_is_number, peaks.values())):
        found["peak_bytes"] = dict(peaks)
    if _is_number(latency):
        found["prediction_seconds_per_row"] = latency
    return found


_BESIDE_SECONDS = frozenset({"peak_bytes", "prediction_seconds_per_row"})


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _failure(run: RunEntry) -> dict[str, str] | None:
    reason = run.run.reason
    return {part: reason[part] for part in ("kind", "stage", "message")} if reason else None


def _slices(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """By side, column and value: the number of rows, and each metric that is defined for so few."""
    found: dict[str, Any] = {}
    for column, slices in recorded.items():
        for one in slices["values"]:
            for side in (side for side in JUDGED if side in one):
                defined = {metric: value for metric, value in one[side].items() if value is not None}
                rows_ = {"rows": one["rows"][side]} if side in one["rows"] else {}
                found.setdefault(side, {}).setdefault(column, {})[one["value"]] = {**rows_, **defined}
    return found


def _digest_of(recorded: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return {"digest": recorded["digest"], "rows": recorded["rows"]} if recorded else None


def _digests(recorded: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _digest_of(one) for name, one in recorded.items()}


def _validation(recorded: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What was found, with the expectations that were not met as ``type(column)``."""
    if recorded is None:
        return None
    failed = [f"{one['type']}({one['column']})" if one["column"] else one["type"] for one in recorded["failed"]]
    return {
        "suite": recorded["suite"],
        "success": recorded["success"],
        "asked": recorded["asked"],
        "returned": recorded["returned"],
        "failed": failed,
    }


def _judge(recorded: Mapping[str, str] | None) -> dict[str, str] | None:
    return {part: recorded[part] for part in ("commit", "code")} if recorded else None


def _imported_row(entry: ImportEntry) -> Row:
    imported, body = entry.imported, entry.imported.body
    succeeded = body["outcome"] == "succeeded"
    source = imported.source
    return Row(
        id=imported.id,
        fingerprint=None,
        branch=f"{source['kind']}:{source['experiment']}",
        commit=imported.commit,
        result_commit=entry.entry.result_commit,
        health="Healthy" if succeeded else "Degraded",
        lifecycle=GONE,
        params=imported.params,
        metrics=imported.metrics,
        reason=None if succeeded else f"failed, as {source['kind']} says",
        outcome=body["outcome"],
        role="imported",
        side="head",
        source_commit=body["source_commit"],
        experiment=None,
        name=body["name"],
        author=body["author"] or None,
        hypothesis=body["description"] or None,
        tags=tuple(_tags(body["tags"])),
        conclusion=None,
        noted_by=None,
        started=_instant(body["started"]),
        finished=_instant(body["finished"]),
        committed=None,
        model_digest=None,
        components=None,
        primary=None,
        cost={},
        landed_by=entry.entry.landed_by or None,
        fold=entry.entry.fold,
        imported={
            "source": source["kind"],
            "location": source["location"],
            "experiment": source["experiment"],
            "id": source["id"],
        },
    )


def _tags(recorded: Mapping[str, str]) -> Iterable[str]:
    """Tags with a value as tags of one text: ``KEY=VALUE``."""
    return (f"{key}={value}" if value else key for key, value in sorted(recorded.items()))


def _instant(recorded: str | None) -> str | None:
    return utc_form(recorded) if recorded else None


def _runless(ask: _Asked, lifecycles: Lifecycles) -> dict[str, Any]:
    entry = ask.latest.entry
    shared = ask.shared()
    return {
        **shared,
        **_became(shared["branch"], shared["commit"], lifecycles),
        "params": {},
        "metrics": {},
        "outcome": None,
        "source_commit": None,
        "started": None,
        "finished": None,
        "model_digest": None,
        "components": None,
        "primary": None,
        "cost": {},
        "landed_by": entry.landed_by or None,
        "fold": ask.first_fold,
    }


def _unknown_row(run_id: str, side: Side, ask: _Asked, lifecycles: Lifecycles) -> Row:
    body = ask.latest.experiment.body
    return Row(
        **_runless(ask, lifecycles),
        id=run_id,
        fingerprint=body["fingerprint" if side == "head" else "merge_fingerprint"],
        result_commit=None,
        health="Unknown",
        reason=f"the index holds no run {run_id} that this version can read",
        role="unknown",
        side=side,
    )


def _unrun_row(ask: _Asked, lifecycles: Lifecycles) -> Row:
    """Of a commit that was never run, such as that of a branch gone before anybody reconciled it."""
    body = ask.latest.experiment.body
    return Row(
        **_runless(ask, lifecycles),
        id=body["id"],
        fingerprint=body["fingerprint"],
        result_commit=ask.latest.entry.result_commit,
        health="Unknown",
        reason="nothing was run for this commit",
        role="unknown",
        side="head",
    )


def _refused_row(ask: _Asked, lifecycles: Lifecycles) -> Row:
    body = ask.latest.experiment.body
    problems = [
        str(Problem(one["file"], one["key"], one["message"], one["hint"])) for one in body["problems"][:_MOST_PROBLEMS]
    ]
    if body["conflicts"]:
        problems.append("conflicts with the base branch in " + ", ".join(body["conflicts"][:_MOST_PROBLEMS]))
    return Row(
        **_runless(ask, lifecycles),
        id=body["id"],
        fingerprint=body["fingerprint"],
        result_commit=ask.latest.entry.result_commit,
        health="Degraded",
        reason="; ".join(problems),
        role="refused",
        side="head" if body["problems"] else "merge",
    )
