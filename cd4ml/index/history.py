"""What has happened, as a fold of the index's entries.

Nothing here is stored: which success is *the* result of a fingerprint, and what answers an experiment,
follow from the entries and their fold order alone, so every clone gives the same answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cd4ml.index.record import Entry, ExperimentRecord, RunRecord


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
class History:
    """All entries of the index in fold order, looked up by what people ask for."""

    runs: tuple[RunEntry, ...]
    experiments: tuple[ExperimentEntry, ...]
    _by_fingerprint: Mapping[str, tuple[RunEntry, ...]]
    _by_branch: Mapping[str, tuple[ExperimentEntry, ...]]

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> History:
        """Fold entries, given in any order; an entry given twice counts once."""
        # The earliest fold counts; the commit settles a tie, so that the order given never does.
        latest_first = sorted(entries, key=lambda entry: (entry.order, entry.result_commit), reverse=True)
        unique = {entry.record.id: entry for entry in latest_first}
        runs: list[RunEntry] = []
        experiments: list[ExperimentEntry] = []
        for entry in sorted(unique.values(), key=lambda entry: entry.order):
            if isinstance(entry.record, RunRecord):
                runs.append(RunEntry(entry, entry.record))
            else:
                experiments.append(ExperimentEntry(entry, entry.record))
        by_fingerprint: dict[str, list[RunEntry]] = {}
        for run in runs:
            by_fingerprint.setdefault(run.run.fingerprint, []).append(run)
        by_branch: dict[str, list[ExperimentEntry]] = {}
        for experiment in experiments:
            by_branch.setdefault(experiment.experiment.branch, []).append(experiment)
        return cls(
            tuple(runs),
            tuple(experiments),
            {fingerprint: tuple(found) for fingerprint, found in by_fingerprint.items()},
            {branch: tuple(found) for branch, found in by_branch.items()},
        )

    def result(self, fingerprint: str) -> RunEntry | None:
        """The first succeeded run of the fingerprint in fold order."""
        return next((run for run in self._by_fingerprint.get(fingerprint, ()) if run.run.succeeded), None)

    def attempts(self, fingerprint: str) -> tuple[RunEntry, ...]:
        """The failures, in fold order."""
        return tuple(run for run in self._by_fingerprint.get(fingerprint, ()) if not run.run.succeeded)

    def of_branch(self, branch: str) -> tuple[ExperimentEntry, ...]:
        """The experiment records of a branch, in fold order."""
        return self._by_branch.get(branch, ())

    def run_by_id(self, run_id: str) -> RunEntry | None:
        """The run of that exact id."""
        return next((run for run in self.runs if run.run.id == run_id), None)

    @property
    def branches(self) -> tuple[str, ...]:
        """Every branch that an experiment record speaks of, sorted."""
        return tuple(sorted(self._by_branch))
