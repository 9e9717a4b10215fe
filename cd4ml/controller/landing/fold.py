"""Fold: gather what has landed into the index branch, with its summary and its first page.

A fold looks into Git alone and never at a cache, and at what has landed, not at all that the index holds.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cd4ml.controller.landing import trust
from cd4ml.controller.landing.landed import LARGEST_RECORD, erased_in, read_entries, read_landed
from cd4ml.controller.project import Project
from cd4ml.errors import IntegrityError, RemoteError, ToolError
from cd4ml.gateways.git import INDEX, RefUpdate, RemoteState
from cd4ml.gateways.process import crash_point
from cd4ml.index.fold import FoldPlan, fold, landing_ref, less, names_record, not_erased, parse_envelope
from cd4ml.index.record import RunRecord
from cd4ml.promotion.summary import (
    PAGE_FILE,
    SUMMARY_FILE,
    Summary,
    empty,
    encode_summary,
    grown,
    parse_summary,
    summary_of,
)
from cd4ml.report.page import index_page

MOST_FOLDED = 300
"""So many records go into one fold commit; the rest into the next."""

_LOG = logging.getLogger("cd4ml")
_FOLD_TRIES = 12
_TOLD = 3
"""So many landing refs that are refused are named; of the others, the count."""
_LONGEST_WAIT = 1.0
_LARGEST_SUMMARY = 4 << 20


def give_way(attempt: int) -> None:
    """Wait before a push is tried again that others were faster than: the longer the more often, at random."""
    time.sleep(random.uniform(0, min(_LONGEST_WAIT, 0.01 * 2**attempt)))  # noqa: S311  # spreads writers


def fold_landed(project: Project, state: RemoteState) -> tuple[str, ...]:
    """Gather what has landed into the index; gives a line for what was refused.

    One atomic push moves the index and drops the folded refs. Whoever loses that race looks again, and
    then has less, or nothing, to do. Whoever may not push to the index leaves the records where they landed,
    where readers see them too: that is one more line. A record that was erased before gives up its ref, and is logged
    as a warning. Raises RemoteError when the remote cannot be reached.
    """
    told = {ref: "is not the name of a record" for ref in state.landing if not names_record(ref)}
    attempt = 0
    while waiting := sorted(ref for ref in state.landing if ref not in told and names_record(ref)):
        prepared = prepare(project, state, waiting[:MOST_FOLDED])
        plan = prepared.plan
        told |= dict((*plan.refused, *plan.untouched))
        if not plan.folded_refs:
            continue
        try:
            _push(project, state, prepared)
        except RemoteError as error:
            before, attempt = state, attempt + 1
            state = trust.fetch(project)
            if state == before:
                return (*_lines(told), f"{len(waiting)} landed records count, and are not folded: {error}")
            if attempt == _FOLD_TRIES:
                why = "the index keeps moving"
                return (*_lines(told), f"{len(waiting)} landed records count, and wait to be folded: {why}")
            give_way(attempt)
            continue
        crash_point("fold.pushed")
        for line in _few(dict.fromkeys(prepared.erased, "was erased: it is not taken in again"), "held erased records"):
            _LOG.warning("%s", line)
        if len(waiting) <= MOST_FOLDED:
            break
        state = trust.fetch(project)
    return _lines(told)


def _lines(told: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(_few(told, "are not folded: `cd4ml restore` offers to drop those that never are"))


def _few(told: Mapping[str, str], what: str) -> list[str]:
    lines = [f"{ref}: {reason}" for ref, reason in sorted(told.items())]
    more = len(lines) - _TOLD
    return [*lines[:_TOLD], f"{more} more landing ref{'s' * (more != 1)} {what}"] if more > 0 else lines


@dataclass(frozen=True)
class Prepared:
    """A fold that can be pushed: the plan, and every file of its commit.

    ``erased`` are the refs whose records were erased before: they are dropped, and not taken in.
    """

    plan: FoldPlan
    files: Mapping[str, bytes]
    erased: tuple[str, ...] = ()


def prepare(project: Project, state: RemoteState, refs: Sequence[str]) -> Prepared:
    """What folding these landed refs would write. Reads Git, writes nothing."""
    before = _summary(project, state.index)
    landed = [read_landed(project, ref, state.landing[ref]) for ref in refs]
    plan = fold((), landed, before["folds"] + 1)
    if state.index is not None and plan.files:
        plan = less(plan, project.repository.existing(state.index, sorted(plan.files)))
    erased = erased_in(project, state.index, [entry.record.id for entry in plan.entries])
    plan = not_erased(plan, erased)
    refs = tuple(map(landing_ref, sorted(erased)))
    if not plan.files:
        return Prepared(plan, {}, refs)
    return Prepared(plan, {**plan.files, **derived_files(_after(project, state.index, before, plan))}, refs)


def derived_files(summary: Summary) -> dict[str, bytes]:
    """The files of the index branch that are made from its entries, by path."""
    return {SUMMARY_FILE: encode_summary(summary), PAGE_FILE: index_page(summary).encode()}


def _after(project: Project, index: str | None, before: Summary, plan: FoldPlan) -> Summary:
    try:
        summary = grown(before, plan.entries, _answered(project, index, plan))
        index_page(summary)
    except (KeyError, TypeError, ValueError, AttributeError):  # of a form that no fold wrote: made anew
        return summary_of((*read_entries(project, index), *plan.entries), before["epoch"])
    return summary


def _summary(project: Project, index: str | None) -> Summary:
    """The summary of the index as it stands; of one that has none, or a damaged one, made from its entries."""
    if index is None:
        return empty()
    data = project.repository.read_blob(index, SUMMARY_FILE, _LARGEST_SUMMARY)
    try:
        if data is not None:
            return parse_summary(data)
    except IntegrityError:
        pass
    return summary_of(read_entries(project, index))


def _answered(project: Project, index: str | None, plan: FoldPlan) -> frozenset[str]:
    """Those fingerprints of the plan's runs that the index holds a success of."""
    if index is None:
        return frozenset()
    runs = [entry.record for entry in plan.entries if isinstance(entry.record, RunRecord) and entry.record.succeeded]
    folders: dict[str, list[str]] = {}
    for run in runs:
        folders.setdefault(f"runs/{run.fingerprint[:2]}", []).append(run.fingerprint)
    tree = project.repository.tree_of(index)
    return frozenset(
        fingerprint
        for folder, fingerprints in folders.items()
        for name in project.repository.names_in(tree, folder)
        for fingerprint in fingerprints
        if name.startswith(f"{fingerprint}-") and _is_success(project, tree, f"{folder}/{name}")
    )


def _is_success(project: Project, tree: str, path: str) -> bool:
    data = project.repository.file_at(tree, path, 4 * LARGEST_RECORD) or b""
    try:
        record = parse_envelope(data, path).record
    except IntegrityError:
        return False  # not for a fold to judge: `cd4ml verify` names it
    return isinstance(record, RunRecord) and record.succeeded


def _push(project: Project, state: RemoteState, prepared: Prepared) -> None:
    repository, plan = project.repository, prepared.plan
    updates = [RefUpdate(ref, state.landing[ref], "") for ref in plan.folded_refs]
    if prepared.files:
        tree = repository.write_tree(state.index, prepared.files)
        parents = (*([state.index] if state.index else []), *plan.parents)
        message = f"cd4ml: fold {len(plan.entries)} record{'s' * (len(plan.entries) != 1)}\n"
        try:
            commit = repository.commit_tree(tree, parents, message)
        except ToolError as error:
            raise RemoteError(f"the fold commit could not be made: {error}") from error
        crash_point("fold.committed")
        updates.insert(0, RefUpdate(INDEX, state.index or "", commit))
    repository.push(project.remote, updates)
    if prepared.files:
        repository.remember_index(project.remote, state.index, commit)
