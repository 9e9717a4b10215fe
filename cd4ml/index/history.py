"""What has happened, as a fold of the index's entries.

Nothing here is stored: which success is *the* result of a fingerprint, and what answers an experiment,
follow from the entries and their fold order alone, so every clone gives the same answers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain

from cd4ml.index.record import Entry, ExperimentRecord, ImportRecord, RemovalRecord, RunRecord


@dataclass(frozen=True)
class RunEntry:
    """An entry that holds a run record, with the type said."""

    entry: Entry
    run: RunRecord


@dataclass(frozen=True)
class ExperimentEntry:
    """An entry that holds an experiment record, with the type said."""

    entry: Entry
    experiment: ExperimentRecord


@dataclass(frozen=True)
class RemovalEntry:
    """An entry that holds a removal record, with the type said."""

    entry: Entry
    removal: RemovalRecord


@dataclass(frozen=True)
class ImportEntry:
    """An entry that holds an import record, with the type said."""

    entry: Entry
    imported: ImportRecord


class History(ABC):
    """All entries of the index in fold order, looked up by what people ask for.

    What is asked for by name costs what it names; ``runs``, ``experiments``, ``removals`` and ``imports`` are all of
    a kind, and where the history is kept on disk (``controller.landing.landed``) each asks for all of their records.
    """

    @staticmethod
    def of(entries: Iterable[Entry]) -> History:
        """Fold entries, given in any order; an entry given twice counts once."""
        return _Folded.of(entries)

    @property
    @abstractmethod
    def runs(self) -> tuple[RunEntry, ...]:
        """Every run."""

    @property
    @abstractmethod
    def experiments(self) -> tuple[ExperimentEntry, ...]:
        """Every experiment record."""

    @property
    @abstractmethod
    def removals(self) -> tuple[RemovalEntry, ...]:
        """Every removal record."""

    @property
    @abstractmethod
    def imports(self) -> tuple[ImportEntry, ...]:
        """Every imported run."""

    @property
    @abstractmethod
    def branches(self) -> tuple[str, ...]:
        """Every branch that an experiment record speaks of, sorted."""

    @abstractmethod
    def runs_of(self, fingerprint: str) -> tuple[RunEntry, ...]:
        """The runs of a fingerprint, in fold order."""

    @abstractmethod
    def first_success(self, components: Mapping[str, str | None]) -> RunEntry | None:
        """The first succeeded run in fold order that has all of these component digests (and any of the others)."""

    @abstractmethod
    def of_branch(self, branch: str) -> tuple[ExperimentEntry, ...]:
        """The experiment records of a branch, in fold order."""

    @abstractmethod
    def run_by_id(self, run_id: str) -> RunEntry | None:
        """The run of that exact id."""

    def result(self, fingerprint: str) -> RunEntry | None:
        """The first succeeded run of the fingerprint in fold order."""
        return next((run for run in self.runs_of(fingerprint) if run.run.succeeded), None)

    def attempts(self, fingerprint: str) -> tuple[RunEntry, ...]:
        """The failures, in fold order."""
        return tuple(run for run in self.runs_of(fingerprint) if not run.run.succeeded)

    def answering(self, runs: Collection[str]) -> tuple[ExperimentEntry, ...]:
        """The experiment records that name one of these runs as their answer, in fold order."""
        return tuple(one for one in self.experiments if not set(runs).isdisjoint(one.experiment.answer.values()))

    def removals_of(self, runs: Collection[str]) -> tuple[RemovalEntry, ...]:
        """What was let go of these runs, in fold order."""
        return tuple(one for one in self.removals if one.removal.run in runs)

    def each_run(self) -> Iterable[RunEntry]:
        """Every run, in any order: where the history is kept on disk, one after the other and none stays in memory."""
        return self.runs

    def speaking_of(self, text: str) -> Iterable[RunEntry]:
        """The same, of which those may be left out whose entry holds this text (letters and digits) nowhere."""
        del text
        return self.each_run()

    def looked_up(self, branches: Collection[str], fingerprints: Collection[str]) -> History:  # noqa: ARG002  # at hand
        """The same history, with what is recorded of these looked up together: for who asks about many of them."""
        return self

    def with_later(self, entries: Iterable[Entry]) -> History:
        """The history with further entries, none of which it holds and all of which come after its own."""
        later = _Folded.of(entries)
        return _Continued(self, later) if (later.runs or later.experiments or later.removals or later.imports) else self


@dataclass(frozen=True)
class _Folded(History):
    """A history of entries at hand."""

    entries: tuple[Entry, ...]

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> _Folded:
        # The earliest fold counts; the commit settles a tie, so that the order given never does.
        latest_first = sorted(entries, key=lambda entry: (entry.order, entry.result_commit), reverse=True)
        unique = {entry.record.id: entry for entry in latest_first}
        return cls(tuple(sorted(unique.values(), key=lambda entry: entry.order)))

    @cached_property
    def runs(self) -> tuple[RunEntry, ...]:
        return runs_in(self.entries)

    @cached_property
    def experiments(self) -> tuple[ExperimentEntry, ...]:
        return experiments_in(self.entries)

    @cached_property
    def removals(self) -> tuple[RemovalEntry, ...]:
        return removals_in(self.entries)

    @cached_property
    def imports(self) -> tuple[ImportEntry, ...]:
        return imports_in(self.entries)

    @property
    def branches(self) -> tuple[str, ...]:
        return tuple(sorted(self._by_branch))

    def runs_of(self, fingerprint: str) -> tuple[RunEntry, ...]:
        return tuple(self._by_fingerprint.get(fingerprint, ()))

    def first_success(self, components: Mapping[str, str | None]) -> RunEntry | None:
        names = tuple(sorted(components))
        if names not in self._successes:
            found: dict[tuple[str | None, ...], RunEntry] = {}
            for run in self.runs:
                if run.run.succeeded:
                    found.setdefault(tuple(run.run.components.get(name) for name in names), run)
            self._successes[names] = found
        return self._successes[names].get(tuple(components[name] for name in names))

    def of_branch(self, branch: str) -> tuple[ExperimentEntry, ...]:
        return tuple(self._by_branch.get(branch, ()))

    def run_by_id(self, run_id: str) -> RunEntry | None:
        return self._by_id.get(run_id)

    def removals_of(self, runs: Collection[str]) -> tuple[RemovalEntry, ...]:
        found = (one for run in set(runs) for one in self._removals.get(run, ()))
        return tuple(sorted(found, key=lambda one: one.entry.order))

    @cached_property
    def _removals(self) -> Mapping[str, list[RemovalEntry]]:
        found: dict[str, list[RemovalEntry]] = {}
        for one in self.removals:
            found.setdefault(one.removal.run, []).append(one)
        return found

    @cached_property
    def _by_fingerprint(self) -> Mapping[str, list[RunEntry]]:
        found: dict[str, list[RunEntry]] = {}
        for run in self.runs:
            found.setdefault(run.run.fingerprint, []).append(run)
        return found

    @cached_property
    def _by_branch(self) -> Mapping[str, list[ExperimentEntry]]:
        found: dict[str, list[ExperimentEntry]] = {}
        for experiment in self.experiments:
            found.setdefault(experiment.experiment.branch, []).append(experiment)
        return found

    @cached_property
    def _by_id(self) -> Mapping[str, RunEntry]:
        return {run.run.id: run for run in self.runs}

    @cached_property
    def _successes(self) -> dict[tuple[str, ...], dict[tuple[str | None, ...], RunEntry]]:
        return {}


@dataclass(frozen=True)
class LookedUp(History):
    """A history of which a part is at hand: experiment records by branch, runs by fingerprint.

    Removals of the runs at hand, and of those that last answered a branch at hand, are looked up together when
    somebody first asks for one.
    """

    whole: History
    by_branch: Mapping[str, tuple[ExperimentEntry, ...]]
    by_fingerprint: Mapping[str, tuple[RunEntry, ...]]

    @cached_property
    def _by_id(self) -> Mapping[str, RunEntry]:
        return {run.run.id: run for runs in self.by_fingerprint.values() for run in runs}

    @cached_property
    def _removals(self) -> Mapping[str, list[RemovalEntry]]:
        last = (records[-1].experiment for records in self.by_branch.values() if records)
        answering = (run for one in last for run in one.answer.values() if run)
        found: dict[str, list[RemovalEntry]] = {run: [] for run in (*self._by_id, *answering)}
        for one in self.whole.removals_of(found):
            found[one.removal.run].append(one)
        return found

    @property
    def runs(self) -> tuple[RunEntry, ...]:
        return self.whole.runs

    @property
    def experiments(self) -> tuple[ExperimentEntry, ...]:
        return self.whole.experiments

    @property
    def removals(self) -> tuple[RemovalEntry, ...]:
        return self.whole.removals

    @property
    def imports(self) -> tuple[ImportEntry, ...]:
        return self.whole.imports

    @property
    def branches(self) -> tuple[str, ...]:
        return self.whole.branches

    def each_run(self) -> Iterable[RunEntry]:
        return self.whole.each_run()

    def runs_of(self, fingerprint: str) -> tuple[RunEntry, ...]:
        known = self.by_fingerprint.get(fingerprint)
        return self.whole.runs_of(fingerprint) if known is None else known

    def first_success(self, components: Mapping[str, str | None]) -> RunEntry | None:
        return self.whole.first_success(components)

    def looked_up(self, branches: Collection[str], fingerprints: Collection[str]) -> History:
        """What is at hand already is not looked up again."""
        more = self.whole.looked_up(
            [one for one in branches if one not in self.by_branch],
            [one for one in fingerprints if one not in self.by_fingerprint],
        )
        if not isinstance(more, LookedUp):
            return replace(self, whole=more)
        return LookedUp(
            more.whole, {**self.by_branch, **more.by_branch}, {**self.by_fingerprint, **more.by_fingerprint}
        )

    def answering(self, runs: Collection[str]) -> tuple[ExperimentEntry, ...]:
        return self.whole.answering(runs)

    def removals_of(self, runs: Collection[str]) -> tuple[RemovalEntry, ...]:
        others = [run for run in runs if run not in self._removals]
        found = [one for run in set(runs) for one in self._removals.get(run, ())]
        found += self.whole.removals_of(others) if others else ()
        return tuple(sorted(found, key=lambda one: one.entry.order))

    def speaking_of(self, text: str) -> Iterable[RunEntry]:
        return self.whole.speaking_of(text)

    def of_branch(self, branch: str) -> tuple[ExperimentEntry, ...]:
        known = self.by_branch.get(branch)
        return self.whole.of_branch(branch) if known is None else known

    def run_by_id(self, run_id: str) -> RunEntry | None:
        return self._by_id.get(run_id) or self.whole.run_by_id(run_id)


@dataclass(frozen=True)
class _Continued(History):
    """A history, and what came after it."""

    before: History
    later: History

    @property
    def runs(self) -> tuple[RunEntry, ...]:
        return (*self.before.runs, *self.later.runs)

    @property
    def experiments(self) -> tuple[ExperimentEntry, ...]:
        return (*self.before.experiments, *self.later.experiments)

    @property
    def removals(self) -> tuple[RemovalEntry, ...]:
        return (*self.before.removals, *self.later.removals)

    @property
    def imports(self) -> tuple[ImportEntry, ...]:
        return (*self.before.imports, *self.later.imports)

    @property
    def branches(self) -> tuple[str, ...]:
        return tuple(sorted({*self.before.branches, *self.later.branches}))

    def runs_of(self, fingerprint: str) -> tuple[RunEntry, ...]:
        return (*self.before.runs_of(fingerprint), *self.later.runs_of(fingerprint))

    def first_success(self, components: Mapping[str, str | None]) -> RunEntry | None:
        return self.before.first_success(components) or self.later.first_success(components)

    def answering(self, runs: Collection[str]) -> tuple[ExperimentEntry, ...]:
        return (*self.before.answering(runs), *self.later.answering(runs))

    def removals_of(self, runs: Collection[str]) -> tuple[RemovalEntry, ...]:
        return (*self.before.removals_of(runs), *self.later.removals_of(runs))

    def each_run(self) -> Iterable[RunEntry]:
        return chain(self.before.each_run(), self.later.each_run())

    def speaking_of(self, text: str) -> Iterable[RunEntry]:
        return chain(self.before.speaking_of(text), self.later.speaking_of(text))

    def looked_up(self, branches: Collection[str], fingerprints: Collection[str]) -> History:
        return _Continued(self.before.looked_up(branches, fingerprints), self.later)

    def of_branch(self, branch: str) -> tuple[ExperimentEntry, ...]:
        return (*self.before.of_branch(branch), *self.later.of_branch(branch))

    def run_by_id(self, run_id: str) -> RunEntry | None:
        return self.before.run_by_id(run_id) or self.later.run_by_id(run_id)


def runs_in(entries: Iterable[Entry]) -> tuple[RunEntry, ...]:
    """Those that hold a run record, in the order given."""
    return tuple(RunEntry(one, one.record) for one in entries if isinstance(one.record, RunRecord))


def experiments_in(entries: Iterable[Entry]) -> tuple[ExperimentEntry, ...]:
    """Those that hold an experiment record, in the order given."""
    return tuple(ExperimentEntry(one, one.record) for one in entries if isinstance(one.record, ExperimentRecord))


def removals_in(entries: Iterable[Entry]) -> tuple[RemovalEntry, ...]:
    """Those that hold a removal record, in the order given."""
    return tuple(RemovalEntry(one, one.record) for one in entries if isinstance(one.record, RemovalRecord))


def imports_in(entries: Iterable[Entry]) -> tuple[ImportEntry, ...]:
    """Those that hold an import record, in the order given."""
    return tuple(ImportEntry(one, one.record) for one in entries if isinstance(one.record, ImportRecord))
