"""Where a model, a table or a file comes from, what became of it, and which models were trained on a row."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cd4ml.controller.history.objects import Objects
from cd4ml.controller.history.search import cut_off, known_state, named_run
from cd4ml.controller.landing.landed import read_history
from cd4ml.controller.project import Project
from cd4ml.errors import Cd4mlError, ConfigError, IntegrityError, RepositoryError, ToolError, UsageError
from cd4ml.index.history import History, RunEntry
from cd4ml.index.lineage import MIN_PREFIX, Answer, ModelRun, Trace, answers, as_digest, files_of, trace, trace_of_run
from cd4ml.index.record import RunRecord
from cd4ml.index.removed import ERASED, counting, words
from cd4ml.spec.pin import Pin, parse_pin
from cd4ml.spec.pipeline import SPLIT, TABLE, pin_path

_LARGEST_PIN = 4 << 20
_MOST_NAMED = 5
_SHOWN = 12


@dataclass(frozen=True)
class Descent:
    """A run, and what its record and its commit say of where it comes from and what it led to.

    ``pins`` are by source, those that can be read; ``answers`` the commits of branches that it answers; ``let_go``
    says in a line why its stored objects are gone, or nothing. ``role`` is result, replicate or attempt.
    """

    entry: RunEntry
    role: str
    pins: Mapping[str, Pin]
    answers: tuple[Answer, ...]
    let_go: str = ""


@dataclass(frozen=True)
class Lineage:
    """A thing by its digest (or a run by its id), and its runs in fold order, as far as they are told.

    ``left_out`` more runs speak of it; ``stale`` says why all is of the last fetch and not of now, or not whole, or
    nothing.
    """

    trace: Trace
    runs: tuple[Descent, ...]
    left_out: int = 0
    stale: str = ""


def lineage(project: Project, target: str, *, limit: int | None = None) -> Lineage:
    """What a digest (at least 8 digits of it), a commit, or a name of a run stands for, with at most ``limit`` runs.

    Raises UsageError where nothing, or more than one thing, is meant.
    """
    state, stale = known_state(project)
    history = read_history(project, state)
    found = _traced(project, history, target, limit)
    links = found.links
    told = frozenset(link.run.run.id for link in links)
    answered = answers(history.answering(told), told)
    let_go = _let_go(history, told)
    pins: dict[str, Pin | None] = {}
    runs = tuple(
        Descent(
            link.run,
            _role(history, link.run),
            _pins(project, link.run.run, pins),
            answered.get(link.run.run.id, ()),
            let_go.get(link.run.run.id, ""),
        )
        for link in links
    )
    return Lineage(found, runs, found.count - len(runs), stale or cut_off(project))


def _traced(project: Project, history: History, target: str, newest: int | None = None) -> Trace:
    prefix = as_digest(target)
    if not prefix or history.of_branch(target):
        return trace_of_run(named_run(project, target))
    found = trace(history.speaking_of(prefix), prefix, newest) or _by_raw_bytes(project, history, prefix, newest)
    if len(found) > 1:
        told = [f"{one.digest[: max(_SHOWN, len(prefix) + 2)]} ({one.what[0]})" for one in found[:_MOST_NAMED]]
        more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
        raise UsageError(f"{target!r} begins several digests: {', '.join(told)}{more}")
    return found[0] if found else _named(project, target)


def _named(project: Project, target: str) -> Trace:
    try:
        return trace_of_run(named_run(project, target))
    except UsageError as error:
        message = f"{target!r} is no digest, commit or file that a run of the index speaks of"
        raise UsageError(f"{message} (at least {MIN_PREFIX} digits), and {error}") from error


def _by_raw_bytes(project: Project, history: History, prefix: str, newest: int | None) -> tuple[Trace, ...]:
    """By the archived bytes of a source, which only pins speak of: each distinct pin is read once."""
    pins: dict[str, Pin | None] = {}
    found: dict[str, None] = {}
    for one in history.each_run():
        for pin in _pins(project, one.run, pins).values():
            if pin.raw_sha256.startswith(prefix) or pin.raw_md5.startswith(prefix):
                found[pin.digest] = None
    return tuple(each for digest in found for each in trace(history.speaking_of(digest), digest, newest))


def _pins(project: Project, run: RunRecord, known: dict[str, Pin | None]) -> dict[str, Pin]:
    """The pins of a run that can be read in its commit and say what the record says.

    ``known`` remembers them by the digest of their file, as a record names it, and by commit where that misleads.
    """
    files = files_of(run)
    found: dict[str, Pin] = {}
    for source, recorded in run.body["data"].items():
        path = pin_path(source)
        keys = [*([str(files[path]["sha256"])] if path in files else []), f"{run.commit}:{path}"]
        for key in keys:
            if key not in known:
                known[key] = _read_pin(project, run.commit, path)
            pin = known[key]
            if pin is not None and pin.digest == recorded["digest"]:
                found[source] = pin
                break
    return found


def _read_pin(project: Project, commit: str, path: str) -> Pin | None:
    try:
        data = project.repository.read_blob(commit, path, _LARGEST_PIN)
        return None if data is None else parse_pin(data.decode("utf-8", "replace"), path)
    except (ToolError, RepositoryError, IntegrityError, ConfigError):
        return None


def _role(history: History, one: RunEntry) -> str:
    if not one.run.succeeded:
        return "attempt"
    result = history.result(one.run.fingerprint)
    return "result" if result is not None and result.run.id == one.run.id else "replicate"


def _let_go(history: History, runs: Collection[str]) -> dict[str, str]:
    found = {run: one.removal for run, one in counting(history.removals_of(runs)).items()}
    return {
        run: words(one.body) if one.what == ERASED else f"{words(one.body)}: {one.body['reason']}"
        for run, one in found.items()
    }


# ── a row ────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Look:
    """Where a row lies for the models of runs that share table and split.

    ``sides`` counts the rows that have the values, by side; nothing where it could not be looked up, and ``unknown``
    then says why.
    ``misfit`` tells that the table has no such column, or one of another type; ``let_go``, by run, what was erased or
    let go of it, by whom and when.
    """

    runs: tuple[ModelRun, ...]
    sides: Mapping[str, int] | None
    unknown: str = ""
    misfit: bool = False
    let_go: Mapping[str, str] = field(default_factory=dict)

    @property
    def side(self) -> str:
        """``train``, ``validation``, ``test``, several of them, ``absent`` or ``unknown``."""
        if self.sides is None:
            return "unknown"
        return " and ".join(side for side, rows in self.sides.items() if rows) or "absent"


def row_key(texts: Sequence[str]) -> dict[str, str]:
    """``["month=1", "day=2"]`` as a mapping. Raises UsageError."""
    key: dict[str, str] = {}
    for text in texts:
        column, equals, value = text.partition("=")
        if not equals or not column:
            raise UsageError(f"--row {text!r}: write COLUMN=VALUE")
        if column in key:
            raise UsageError(f"--row: {column} is there twice")
        key[column] = value
    return key


def find_row(project: Project, key: Mapping[str, str], target: str = "") -> tuple[Look, ...]:
    """On which side of the split a row lies, for every model of the index (of those that ``target`` speaks of).

    Brings the tables and splits that it needs from DVC's cache or remote, each checked against the record. One look
    answers for all runs that share both. In fold order of the first run of each. Raises UsageError for a key that
    fits none of the tables.
    """
    state, _ = known_state(project)
    history = read_history(project, state)
    entries: Iterable[RunEntry]
    entries = (link.run for link in _traced(project, history, target).links) if target else history.each_run()
    found: dict[tuple[str, str], list[tuple[tuple[int, str], ModelRun]]] = {}
    files: dict[tuple[str, str], Mapping[str, Mapping[str, Any]]] = {}
    for one in entries:
        if one.run.succeeded:
            known = files_of(one.run)
            table, split = (str(known[path]["sha256"]) if path in known else "" for path in (TABLE, SPLIT))
            found.setdefault((table, split), []).append((one.entry.order, ModelRun.of(one.run)))
            files.setdefault((table, split), {path: known[path] for path in (TABLE, SPLIT) if path in known})
    groups = _in_fold_order(found)
    base_commit = state.heads.get(project.base)
    if base_commit is None:
        raise project.without_base()
    let_go = _let_go(history, {run.id for runs in groups.values() for run in runs})
    with Objects(project.storage(base_commit)) as objects:
        looks = tuple(_look(objects, tuple(runs), files[group], key, let_go) for group, runs in groups.items())
    if looks and all(look.misfit for look in looks):
        raise UsageError(f"--row: {looks[-1].unknown}")
    return looks


def _in_fold_order(
    found: Mapping[tuple[str, str], list[tuple[tuple[int, str], ModelRun]]],
) -> dict[tuple[str, str], list[ModelRun]]:
    """Runs by table and split, all without the places in fold order by which they and their groups come."""
    ordered = {group: sorted(runs, key=lambda placed: placed[0]) for group, runs in found.items()}
    groups = sorted(ordered, key=lambda group: ordered[group][0][0])
    return {group: [run for _, run in ordered[group]] for group in groups}


def _look(
    objects: Objects,
    runs: tuple[ModelRun, ...],
    files: Mapping[str, Mapping[str, Any]],
    key: Mapping[str, str],
    let_go: Mapping[str, str],
) -> Look:
    from cd4ml.stages.lookup import NoSuchRowError, sides_of_row

    if not {TABLE, SPLIT} <= set(files):
        return Look(runs, None, "its record does not name its table and split")
    gone = {run.id: let_go[run.id] for run in runs if run.id in let_go}
    try:
        table, split = (objects.bring(files[path], path) for path in (TABLE, SPLIT))
        return Look(runs, sides_of_row(table, split, key), let_go=gone)
    except NoSuchRowError as error:
        return Look(runs, None, str(error), misfit=True, let_go=gone)
    except Cd4mlError as error:
        why = f"its table cannot be had: {error}"
        return Look(runs, None, next(iter(gone.values())) if len(gone) == len(runs) else why, let_go=gone)
