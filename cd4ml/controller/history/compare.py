"""Runs against each other: two or more side by side, and the best of all that were measured alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from cd4ml.controller.desired.specs import spec_of
from cd4ml.controller.history.search import cut_off, known_state, named_run, rows_of_runs, search
from cd4ml.controller.landing.landed import IndexHistory, current_cache
from cd4ml.controller.project import Project
from cd4ml.errors import ConfigError, IntegrityError, RepositoryError, ToolError, UsageError
from cd4ml.index.paths import split_path
from cd4ml.index.record import RunRecord
from cd4ml.index.removed import ERASED, counting, words
from cd4ml.index.rows import GONE, Row, run_told_by
from cd4ml.promotion.compare import Comparison, finite
from cd4ml.promotion.inputs import Columns, LinesChanged, Source
from cd4ml.promotion.leaderboard import DECIDES, BoardSide, Candidate, Leaderboard, Measured, measured_of, ranked
from cd4ml.promotion.table import Contrast, contrast
from cd4ml.spec.environment import lock_entries
from cd4ml.spec.pin import parse_pin
from cd4ml.spec.pipeline import pin_path

MOST_FILES = 100
"""Files of which a patch is made at most."""

MOST_LINES = 5000
"""Lines that a patch has at most."""

_LARGEST_INPUT = 4 << 20


@dataclass(frozen=True)
class Patch:
    """The code of two runs as Git's diff, and how many files and lines of it were too many."""

    champion: str
    challenger: str
    text: str
    files_left_out: int = 0
    lines_left_out: int = 0


@dataclass(frozen=True)
class Compared:
    """Named runs side by side, the first against each other one; with patches where they were asked for.

    ``unread`` says of which runs the commit cannot be read here, and so which part of a comparison is missing;
    ``let_go`` which of them were erased or had their artefacts let go.
    """

    contrast: Contrast
    patches: tuple[Patch, ...]
    unread: tuple[str, ...]
    let_go: tuple[str, ...] = ()

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        return self.contrast.comparisons


def compare_named(project: Project, names: Sequence[str], *, patch: bool = False) -> Compared:
    """Two or more named runs, by the base branch's rules; ``patch`` adds what differs in the files that count.

    Raises UsageError for a name that means no run, and for fewer than two.
    """
    if len(names) < 2:
        raise UsageError("a comparison needs two runs or more")
    least = _min_improvement(project)
    runs = [named_run(project, name).run for name in names]
    sources = {run.id: source_of(project, run) for run in runs}
    first, *others = runs
    lines = [_lines(project, first, other, sources) for other in others]
    table = contrast(runs, least, [sources[run.id] for run in runs], lines)
    pairs = zip(table.comparisons, others, strict=True) if patch else ()
    patches = tuple(_patch(project, one, first, other) for one, other in pairs)
    unread = tuple(
        f"{run.id}: its commit {run.commit[:12]} is not here, so its code and lock file are not compared"
        for run in {run.id: run for run in runs}.values()
        if sources[run.id].files is None
    )
    return Compared(table, patches, unread, _let_go(project, sources))


def _let_go(project: Project, runs: Iterable[str]) -> tuple[str, ...]:
    state, _ = known_state(project)
    removals = counting(IndexHistory(current_cache(project, state), drafts=True).removals_of(list(runs)))
    return tuple(f"{run}: {words(removals[run].removal.body)}" for run in runs if run in removals)


def _min_improvement(project: Project) -> float:
    state, _ = known_state(project)
    base_commit = state.heads.get(project.base)
    if base_commit is None:
        raise project.without_base()
    policy, _ = spec_of(project, base_commit)
    return policy.promotion.min_improvement


# ── what the commit of a run holds ───────────────────────────────────────────────────────────────────────────────


def source_of(project: Project, run: RunRecord, beside: RunRecord | None = None) -> Source:
    """What of a run's commit can be read here. A record is not believed: it may name any path, and any commit.

    With a run ``beside`` it, only what may differ from that one's is read: where both records name the same code,
    lock or data, there is nothing to find.
    """
    if project.repository.resolve(run.commit) is None:
        return Source()
    other = beside.body if beside is not None else {}
    try:
        files = {} if beside is not None and _same_code(run, beside) else _files(project, run)
    except (ToolError, RepositoryError, IntegrityError):
        return Source()
    old, new = other.get("data") or {}, run.body.get("data") or {}
    names = [name for name in new if name not in old or old[name].get("digest") != new[name].get("digest")]
    pinned = {name: columns for name in names if (columns := _columns(project, run.commit, name)) is not None}
    locks = [(body.get("environment") or {}).get("lock") for body in (run.body, other)]
    return Source(_packages(project, run) if locks[0] != locks[1] or not locks[0] else None, pinned, files)


def _same_code(one: RunRecord, other: RunRecord) -> bool:
    """Do the records name the same code? Then their files are the same, and none of them is one that differs."""
    return one.components.get("code") == other.components.get("code") and code_paths(one) == code_paths(other)


def code_paths(run: RunRecord) -> tuple[str, ...]:
    """What ``code:`` names, as the record says it."""
    paths = run.params.get("code")
    return tuple(path.rstrip("/") for path in paths if isinstance(path, str)) if isinstance(paths, list) else ()


def _files(project: Project, run: RunRecord) -> dict[str, str]:
    listed = (project.repository.blob_ids(run.commit, path) for path in code_paths(run) if path)
    return {path: blob for blobs in listed for path, blob in blobs.items()}


def _packages(project: Project, run: RunRecord) -> Mapping[str, str] | None:
    """Versions by name and marker; none without a lock file that can be read."""
    environment = run.params.get("environment")
    path = environment.get("lock") if isinstance(environment, Mapping) else None
    text = _text(project, run.commit, path) if isinstance(path, str) and path else None
    if text is None:
        return None
    try:
        entries = lock_entries(text, str(path))
    except ConfigError:
        return None
    parts = (entry.partition(" ; ") for entry in entries)
    named = ((*pinned.partition("=="), marker) for pinned, _, marker in parts)
    return {f"{name} ; {marker}" if marker else name: version for name, _, version, marker in named}


def _columns(project: Project, commit: str, source: str) -> Columns | None:
    text = _text(project, commit, pin_path(source))
    try:
        return parse_pin(text, pin_path(source)).columns if text is not None else None
    except ConfigError:
        return None


def _text(project: Project, commit: str, path: str) -> str | None:
    try:
        data = project.repository.read_blob(commit, path, _LARGEST_INPUT)
    except (ToolError, RepositoryError, IntegrityError):
        return None
    return None if data is None else data.decode("utf-8", "replace")


def _lines(project: Project, first: RunRecord, other: RunRecord, sources: Mapping[str, Source]) -> LinesChanged:
    """Lines gained and lost by file; nothing where Git cannot tell."""
    if None in (sources[first.id].files, sources[other.id].files):
        return {}
    paths = dict.fromkeys((*code_paths(first), *code_paths(other)))
    try:
        return project.repository.lines_changed(first.commit, other.commit, paths)
    except RepositoryError:
        return {}


def _patch(project: Project, comparison: Comparison, first: RunRecord, other: RunRecord) -> Patch:
    paths = [change.path for change in comparison.code or ()]
    text = project.repository.patch(first.commit, other.commit, paths[:MOST_FILES])
    lines = text.split("\n")
    kept = "\n".join(lines[:MOST_LINES]) + ("\n" if len(lines) > MOST_LINES else "")
    return Patch(first.id, other.id, kept, max(0, len(paths) - MOST_FILES), max(0, len(lines) - 1 - MOST_LINES))


# ── the best ─────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Standing:
    """Where a run belongs: one of the ``branches`` that it was run for or answers, and that one's lifecycle."""

    branch: str
    lifecycle: str
    branches: tuple[str, ...]


@dataclass(frozen=True)
class Ranking:
    """The lists, and of each run on them, by id, where it belongs.

    ``stale`` says why they are of the last fetch and not of now, or not whole, or nothing.
    """

    board: Leaderboard
    standings: Mapping[str, Standing]
    stale: str


def rank_runs(
    project: Project, text: str = "", *, side: BoardSide = "validation", metric: str = "", limit: int | None = None
) -> Ranking:
    """The best results of the index among those that a filter picks, a list for each thing that was measured.

    An erased run has no place: a later one of its fingerprint has it.

    Of each list the first ``limit`` are told where they belong. Raises UsageError for a filter that cannot be read, or
    a metric that no run has.
    """
    picked = {row["fingerprint"] for row in search(project, text, order="", limit=None).runs} if text else None
    state, stale = known_state(project)
    cache = current_cache(project, state)

    board = cache.of_successes(
        DECIDES,
        lambda doc: measured_of(run_told_by(doc).run, side, metric),
        lambda runs: ranked(
            candidate_of(doc, measured)
            for doc, measured in runs
            if doc["let_go"] != ERASED and (picked is None or doc["fingerprint"] in picked)
        ),
    )
    if metric and not board.boards:
        _refuse_unknown(cache.paths(), metric)
    shown = [place.id for each in board.boards for place in each.places[:limit]]
    return Ranking(board, _standings(rows_of_runs(project, state, cache, shown)), stale or cut_off(project))


def candidate_of(doc: Mapping[str, Any], measured: Measured | None) -> Candidate:
    """A succeeded run, by what its row says of it alone."""
    key = measured.key if measured else None
    value = finite((doc["metrics"].get(key.side) or {}).get(key.metric)) if key else None
    run_id, fingerprint, branch, commit, model = _facts(doc)
    return Candidate(run_id, fingerprint, branch, commit, model, (doc["fold"], run_id), measured, value)


_facts = itemgetter("id", "fingerprint", "branch", "source_commit", "model_digest")


def _standings(rows: Mapping[str, Sequence[Row]]) -> dict[str, Standing]:
    """A run that was made for a branch which is gone belongs to one that it answers and that is not."""
    found: dict[str, Standing] = {}
    for run, told in rows.items():
        here = next((row for row in told if row.lifecycle != GONE), told[0])
        found[run] = Standing(here.branch, here.lifecycle, tuple(dict.fromkeys(row.branch for row in told)))
    return found


def _refuse_unknown(paths: Sequence[str], metric: str) -> None:
    """Say that no run has the metric, and which one was probably meant. Raises UsageError, or finds that some has."""
    from cd4ml.index.fields import nearest

    held = (split_path(path) for path in paths)
    names = {path[2] for path in held if path[0] == "metrics" and len(path) > 2}  # metrics, side, name
    if metric not in names:
        near = nearest(metric, sorted(names))
        raise UsageError(f"no run has a metric {metric!r}{f'; did you mean {near}?' if near else ''}")
