"""What became of every branch, with who and when as far as Git tells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cd4ml.controller.landing.labels import is_of_work_tree, without_label
from cd4ml.controller.project import Project
from cd4ml.controller.reconciling.observe import observe_state
from cd4ml.errors import RepositoryError, UsageError
from cd4ml.gateways.git import RemoteState
from cd4ml.index.history import History
from cd4ml.plan.lifecycle import BaseRecord, Became, Lives, lives_of
from cd4ml.plan.state import DesiredState, Lifecycle

_OPEN = Lives(Became(Lifecycle.OPEN))


class Lifecycles(Mapping[str, Lives]):
    """By name of every branch that is there or was recorded.

    What stands for runs of a branch's work tree fares as the branch.
    """

    def __init__(self, lives: Mapping[str, Lives]) -> None:
        self._lives = lives

    def __getitem__(self, branch: str) -> Lives:
        if branch not in self._lives and is_of_work_tree(branch):
            return self._lives.get(without_label(branch), _OPEN)
        return self._lives[branch]

    def __iter__(self) -> Iterator[str]:
        return iter(self._lives)

    def __len__(self) -> int:
        return len(self._lives)


def lifecycles(
    project: Project, state: RemoteState, history: History, only: frozenset[str] | None = None
) -> Lifecycles:
    """What became of every branch (or ``only`` of some), and of earlier lives of its name.

    A base branch that cannot be read leaves open what is there, and knows nothing of what is gone; the index stays
    searchable. Raises IntegrityError, ToolError. Side effects: remembered answers.
    """
    try:
        observation = observe_state(project, state)
    except (UsageError, RepositoryError):
        return Lifecycles({name: Lives(Became(Lifecycle.OPEN, commit=commit)) for name, commit in state.heads.items()})
    return Lifecycles(lives_of_all(observation.desired, history, only))


def lives_of_all(desired: DesiredState, history: History, only: frozenset[str] | None = None) -> dict[str, Lives]:
    """What became of every branch (or ``only`` of some) that is there or was recorded, by name."""
    there = {one.branch: one for one in desired.experiments}
    names = sorted(there.keys() | {name for name in history.branches if name != desired.base})
    names = names if only is None else [name for name in names if name in only]
    history = history.looked_up([*desired.base_names, *names], ())
    base = BaseRecord.of(history, desired)
    return {name: lives_of(name, history, desired, base, there.get(name)) for name in names}
