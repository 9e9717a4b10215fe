"""What a plan asks to be done, and how each experiment stands, as frozen values.

Nothing here acts. The controller executes the actions and asks for the next plan; an empty plan is the
end.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from cd4ml.errors import Problem
from cd4ml.plan.lifecycle import Became
from cd4ml.plan.state import Experiment, Health, Lifecycle, Side, SyncStatus, Target
from cd4ml.spec.secrets import redacted

Answer = Mapping[Side, str | None]
"""Run ids by side; nothing where a side has no run (no merge result, a conflict, a refusal)."""


@dataclass(frozen=True)
class Run:
    """Execute, judge and land this target for this branch."""

    branch: str
    target: Target
    why: str

    def as_json(self) -> dict[str, Any]:
        target = self.target
        return _action("run", target.side, target.commit, target.fingerprint, self.why)


@dataclass(frozen=True)
class RecordExperiment:
    """Write down what the branch asks for and which runs answer it.

    ``conclusion`` and ``noted_by`` come from an earlier record of the same commit or fingerprint, so that
    a person's note outlives what the machine writes.
    """

    branch: str
    experiment: Experiment
    answer: Answer
    why: str
    conclusion: str = ""
    noted_by: str = ""

    def as_json(self) -> dict[str, Any]:
        return _action("record", None, self.experiment.commit, self.experiment.head.fingerprint, self.why)


Action = Run | RecordExperiment


def _nothing() -> None:
    return None


@dataclass(frozen=True)
class PlanItem:
    """One experiment: how it stands, why, and what is to be done for it, in order.

    ``metrics`` are those of the head's run, ``{"validation": {"rmse": …}, "test": {…}}``, in the units of
    the target. ``became`` says by whom and when a branch was merged or discarded, for who wants to know.
    """

    branch: str
    commit: str
    sync: SyncStatus
    health: Health
    lifecycle: Lifecycle
    fingerprint: str | None
    merge_fingerprint: str | None
    reason: str
    author: str = ""
    name: str = ""
    hypothesis: str = ""
    actions: tuple[Action, ...] = ()
    answer: Answer = field(default_factory=dict)
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    is_base: bool = False
    published: bool = True
    unpushed: str | None = None
    became: Callable[[], Became | None] = field(default=_nothing, compare=False, repr=False)

    def as_json(self) -> dict[str, Any]:
        """The item as ``plan --json`` and ``status --json`` print it."""
        became = self.became()
        return {
            "branch": self.branch,
            "commit": self.commit,
            "is_base": self.is_base,
            "published": self.published,
            "unpushed": self.unpushed,
            "sync": str(self.sync),
            "health": str(self.health),
            "lifecycle": str(self.lifecycle),
            "lifecycle_by": (became and became.by) or None,
            "lifecycle_at": (became and became.when) or None,
            "renamed": (became and became.renamed) or None,
            "fingerprint": self.fingerprint,
            "merge_fingerprint": self.merge_fingerprint,
            "reason": self.reason,
            "author": self.author,
            "name": self.name,
            "hypothesis": self.hypothesis,
            "run": self.answer.get("head"),
            "merge_run": self.answer.get("merge"),
            "metrics": {side: dict(values) for side, values in self.metrics.items()},
            "actions": [action.as_json() for action in self.actions],
        }


@dataclass(frozen=True, eq=False)
class Plan:
    """One item an experiment.

    ``looked_at`` are those of branches that are there, and of gone ones that are still to be recorded. What became
    of the other gone branches is settled and asks for nothing: their items are made by ``settled`` when somebody
    wants to see them, so that a plan costs what there is and not what there ever was. Plans with equal items are
    equal.
    """

    looked_at: tuple[PlanItem, ...]
    settled: Callable[[], tuple[PlanItem, ...]] = tuple

    @cached_property
    def items(self) -> tuple[PlanItem, ...]:
        """Every item, the base branch first, then by branch name."""
        return tuple(sorted((*self.settled(), *self.looked_at), key=lambda item: (not item.is_base, item.branch)))

    @property
    def actions(self) -> tuple[Action, ...]:
        """Everything to be done, in the order of the items."""
        return tuple(action for item in self.looked_at for action in item.actions)

    @property
    def is_empty(self) -> bool:
        return not any(item.actions for item in self.looked_at)

    def __eq__(self, other: object) -> bool:
        return self.items == other.items if isinstance(other, Plan) else NotImplemented

    def __hash__(self) -> int:
        return hash(len(self.looked_at))


def experiment_body(item: PlanItem, action: RecordExperiment) -> dict[str, Any]:
    """The body of the experiment record that ``action`` asks for, without ``schema`` and ``id``.

    It holds nothing but facts of the commit, of the base branch and of the runs that answer, so every
    machine writes the same bytes. Text is cut and cleaned to what the record's schema takes, since a
    branch could otherwise write what no fold accepts and be planned for ever, and without what looks like
    a credential, since the record is kept for good. Raises ValueError when
    ``action`` is another branch's.
    """
    if item.branch != action.branch:
        raise ValueError(f"action of {action.branch} given with the item of {item.branch}")
    asked = action.experiment
    return {
        "kind": "experiment",
        "branch": asked.branch,
        "commit": asked.commit,
        "author": _line(asked.author, 500),
        "committed": asked.committed,
        "name": _line(asked.name, 200),
        "hypothesis": _fitted(asked.hypothesis, 4000, keep="\t\n"),
        "tags": [_line(tag, 200) for tag in asked.tags[:100]],
        "is_base": asked.is_base,
        **claim(asked, action.answer),
        "merge_commit": asked.merge.commit if asked.merge and asked.head.components else None,
        "conclusion": _fitted(action.conclusion, 10_000, keep="\t\n"),
        "noted_by": _line(action.noted_by, 500),
    }


def claim(asked: Experiment, answer: Answer) -> dict[str, Any]:
    """The part of an experiment record that, once written, need not be written again."""
    return {
        "fingerprint": asked.head.fingerprint,
        "merge_fingerprint": merge_fingerprint_of(asked),
        "conflicts": [_line(path, 4096) for path in sorted(asked.conflicts)[:1000]],
        "problems": [_problem(problem) for problem in problems_of(asked)[:1000]],
        "answer": {"head": answer.get("head"), "merge": answer.get("merge")},
    }


def merge_fingerprint_of(asked: Experiment) -> str | None:
    """Nothing for the base branch, a conflict, or where either configuration was refused."""
    return asked.merge.fingerprint if asked.merge and asked.head.components else None


def problems_of(asked: Experiment) -> tuple[Problem, ...]:
    """Why the head was refused or, when it was not, why its merge result was."""
    return asked.head.problems or (asked.merge.problems if asked.merge else ())


def is_recordable(branch: str) -> bool:
    """Can a record name this branch? It is the key of its records, so it is never cut or cleaned."""
    return 0 < len(branch) <= 255 and _line(branch, 255) == branch


def _problem(problem: Problem) -> dict[str, str]:
    return {
        "file": _line(problem.file, 4096),
        "key": _line(problem.key, 1000),
        "message": _line(problem.message, 2000) or "refused",
        "hint": _line(problem.hint, 2000),
    }


def _line(text: str, length: int) -> str:
    return _fitted(text, length).replace("\u2028", "\ufffd").replace("\u2029", "\ufffd")


def _fitted(text: str, length: int, keep: str = "") -> str:
    """No credential, at most ``length`` characters; controls but ``keep``, and surrogates, become U+FFFD."""
    text = redacted(text)  # before the cut: half a credential is not recognized
    shown = text if len(text) <= length else text[: length - 1] + "…"
    return "".join(
        "\ufffd" if character not in keep and unicodedata.category(character) in ("Cc", "Cs") else character
        for character in shown
    )


def _action(action: str, side: Side | None, commit: str, fingerprint: str | None, why: str) -> dict[str, Any]:
    return {"action": action, "side": side, "commit": commit, "fingerprint": fingerprint, "why": why}
