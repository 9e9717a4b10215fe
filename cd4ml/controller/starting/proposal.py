"""A proposal for a project on one's own data: what a table's columns are, and what could be asked of them.

``look`` is a pure function of a canonical frame and hints; ``proposed_conf`` writes its answer as ``conf/``.
Nothing here is certain: each choice says why it was made, and the files say how to change it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from cd4ml.controller.starting.proposed_columns import ROWS_NEEDED, Column, look_at_columns, unusable
from cd4ml.controller.starting.proposed_doubts import USUAL, Reading, counted, nearly_numbers
from cd4ml.controller.starting.proposed_split import FEW_TEST_ROWS, ProposedSplit, propose_split
from cd4ml.controller.starting.proposed_suite import ProposedExpectation, propose_expectations
from cd4ml.errors import UsageError
from cd4ml.spec.checks import nearest
from cd4ml.spec.experiment import Task

if TYPE_CHECKING:
    import pandas as pd

MAX_CLASSES = 100
"""More different texts than this in the target are taken for names or prose, not for classes."""

FEW_NUMBERS = 20
"""A whole-number target with at most so many different values is taken for classes."""

ROWS_OF_A_CLASS = 5
"""So many rows a class, on average, make whole numbers look like classes."""

MAX_SLICES = 8
"""Values of a column for each of which metrics are shown, at most."""

MAX_FEATURES = 2000
"""More columns than this cannot be named one by one in a configuration of bounded size."""

_REGRESSION = (("rmse", "mae", "r2"), "rmse", "rmse is in the units of the target")
_BINARY = (
    ("roc_auc", "log_loss", "average_precision", "f1", "balanced_accuracy", "accuracy"),
    "roc_auc",
    "roc_auc asks how well the classes are ranked, whatever their shares",
)
_MULTICLASS = (
    ("f1_macro", "log_loss", "balanced_accuracy", "accuracy"),
    "f1_macro",
    "f1_macro counts every class alike, also the small ones",
)
_METRICS: Mapping[str, tuple[tuple[str, ...], str, str]] = {
    "regression": _REGRESSION,
    "binary": _BINARY,
    "multiclass": _MULTICLASS,
}

_NO_WORDS = frozenset({"0", "n", "no", "f", "false", "neg", "negative", "none", "never", "absent", "normal", "healthy"})
_YES_WORDS = frozenset({"1", "y", "yes", "t", "true", "pos", "positive", "present"})


@dataclass(frozen=True)
class Hints:
    """What the person said. ``task``, ``time`` and ``group`` are ``""`` where that is left to us."""

    target: str
    task: str = ""
    time: str = ""
    group: str = ""


@dataclass(frozen=True)
class Proposal:
    """What could be asked of a table of ``rows`` rows, ``missing_target`` of which have no target.

    ``columns`` are all of the table's, the target and those left out among them. ``notes`` are what a person
    should know before believing a result.
    """

    target: str
    rows: int
    missing_target: int
    task: Task
    task_why: str
    positive: str
    columns: tuple[Column, ...]
    split: ProposedSplit
    expectations: tuple[ProposedExpectation, ...]
    metrics: tuple[str, ...]
    primary: str
    primary_why: str
    slices: tuple[str, ...]
    notes: tuple[str, ...]

    def with_role(self, role: Literal["numeric", "categorical", "text", "time", "left out"]) -> tuple[Column, ...]:
        """The columns that play a role, in the table's order."""
        return tuple(column for column in self.columns if column.role == role)


def look(frame: pd.DataFrame, hints: Hints, reading: Reading = USUAL) -> Proposal:
    """What could be asked of a canonical frame (``stages.table``), whose cells were read as ``reading`` says.

    Raises UsageError, one line, when the table or the hints give nothing to train on.
    """
    _check_names(frame, hints)
    present = frame[frame[hints.target].notna()].reset_index(drop=True)
    if not len(present):
        raise UsageError(f"column {hints.target!r} has no value in any row, so it cannot be the target")
    if len(present) < ROWS_NEEDED:
        what = "rows" if len(present) == len(frame) else "rows with a target"
        raise UsageError(f"the data has {len(present)} {what}; at least {ROWS_NEEDED} are needed to part them in three")
    task, why = _task(present[hints.target], hints, reading)
    unlike = present.drop_duplicates(ignore_index=True)
    again = len(present) - len(unlike)
    # a row that was pasted twice hides what numbers the rows, and their order; where many are alike, it is no mishap
    looked = unlike if again <= FEW_ALIKE * len(present) else present
    columns = look_at_columns(looked, hints.target, task, time=hints.time, group=hints.group, reading=reading)
    split, columns = propose_split(present, columns, task, hints, looked)
    features = [column for column in columns if column.is_feature]
    if not features:
        left = ", ".join(f"{column.name!r}: {column.why}" for column in columns if column.role == "left out")
        raise UsageError(f"no column beside the target can serve as a feature ({left or 'there is none'})")
    if len(features) > MAX_FEATURES:
        raise UsageError(f"the data has {len(features)} usable columns; a configuration can name {MAX_FEATURES}")
    metrics, primary, primary_why = _METRICS[task]
    return Proposal(
        target=hints.target,
        rows=len(frame),
        missing_target=len(frame) - len(present),
        task=task,
        task_why=why,
        positive=_positive(present[hints.target]) if task == "binary" else "",
        columns=columns,
        split=split,
        expectations=propose_expectations(present, columns, task),
        metrics=metrics,
        primary=primary,
        primary_why=primary_why,
        slices=_slices(columns),
        notes=(*reading.said, *_alike(again), *_notes(frame, present, columns, task, split, hints.target)),
    )


FEW_ALIKE = 0.01
"""The share of rows that are there already up to which they are taken for a mishap."""


def _alike(again: int) -> tuple[str, ...]:
    are = "row is" if again == 1 else "rows are"
    told = f"{again:,} {are} there already, equal in every column: each counts, on the same side as its like"
    return (told,) if again else ()


def _of(column: Column) -> str:
    return "target" if column.role == "target" else "column"


def _check_names(frame: pd.DataFrame, hints: Hints) -> None:
    """That the columns which the person named are there and can be written into a configuration."""
    names = [str(name) for name in frame.columns]
    for option, name in (("--target", hints.target), ("--time", hints.time), ("--group", hints.group)):
        if name and name not in names:
            near = nearest(name, names) or f"there are {len(names)}, such as {', '.join(map(repr, names[:5]))}"
            raise UsageError(f"{option}: the data has no column {name!r} ({near})")
        if name and (reason := unusable(name)):
            raise UsageError(f"{option}: column {name!r} cannot be named in conf/: {reason}; rename it")
    if hints.target in (hints.time, hints.group):
        raise UsageError(f"--target: {hints.target!r} cannot be the time or group column, too")


def _task(target: pd.Series[Any], hints: Hints, reading: Reading) -> tuple[Task, str]:
    """The task, and why. Raises UsageError when the target has one value, or does not fit the task asked for."""
    from cd4ml.stages.table import kind_of

    kind, distinct, name = kind_of(target), int(target.nunique()), hints.target
    if kind == "timestamp":
        raise UsageError(f"--target: {name!r} holds times, which no task here predicts")
    if distinct < 2:
        raise UsageError(f"--target: {name!r} is the same in every row, so there is nothing to learn")
    if kind == "float64" and _infinite(target):
        raise UsageError(f"--target: {name!r} holds infinite values")
    if hints.task:
        return _asked_task(target, kind, distinct, hints, reading)
    if kind in ("string", "bool"):
        nearly = nearly_numbers(target, reading) if kind == "string" and distinct > FEW_NUMBERS else None
        if nearly is not None:
            raise UsageError(f"--target: {name!r}: {nearly.saw}; mend these in the data, or say --task multiclass")
        if distinct > MAX_CLASSES or distinct * 2 > len(target):
            raise UsageError(f"--target: {name!r} holds {distinct} different texts in {len(target)} rows: no classes")
        return _classes(distinct), f"{name!r} holds {distinct} different {'texts' if kind == 'string' else 'truths'}"
    whole = kind == "int64" or bool((target == target.round()).all())
    if whole and distinct <= FEW_NUMBERS and distinct * ROWS_OF_A_CLASS <= len(target):
        amounts = "" if distinct == 2 else " (amounts? then say --task regression)"
        return _classes(distinct), f"{name!r} holds {distinct} different whole numbers{amounts}"
    return "regression", f"{name!r} holds numbers, {distinct} different ones"


def _asked_task(target: pd.Series[Any], kind: str, distinct: int, hints: Hints, reading: Reading) -> tuple[Task, str]:
    task, name = hints.task, hints.target
    if task == "regression":
        if kind in ("string", "bool"):
            nearly = nearly_numbers(target, reading) if kind == "string" else None
            saw = f" ({nearly.saw})" if nearly is not None else ""
            raise UsageError(
                f"--task regression: {name!r} holds {'text' if kind == 'string' else 'truths'}, not numbers{saw}"
            )
        return "regression", "you said so"
    if kind == "float64" and not bool((target == target.round()).all()):
        raise UsageError(f"--task {task}: {name!r} holds numbers with fractions, which are no classes")
    if distinct * 2 > len(target):
        raise UsageError(f"--task {task}: {name!r} holds {distinct} different values in {len(target)} rows: no classes")
    if task == "binary" and distinct != 2:
        raise UsageError(f"--task binary: {name!r} holds {distinct} different values, not two; say --task multiclass")
    if task == "multiclass" and distinct == 2:
        raise UsageError(f"--task multiclass: {name!r} holds two different values; say --task binary")
    return ("binary" if task == "binary" else "multiclass"), "you said so"


def _infinite(column: pd.Series[Any]) -> bool:
    import numpy as np

    return bool(np.isinf(column.to_numpy(dtype="float64", na_value=np.nan)).any())


def _classes(distinct: int) -> Task:
    return "binary" if distinct == 2 else "multiclass"


def _positive(target: pd.Series[Any]) -> str:
    """The class that is likely meant by a yes; ``""`` where that is the later of the two, as it is by default."""
    from cd4ml.stages.table import kind_of

    if kind_of(target) != "string":
        return ""
    counts = target.value_counts()
    words = sorted(str(word) for word in counts.index)
    yes = [word for word in words if word.strip().lower() in _YES_WORDS]
    no = [word for word in words if word.strip().lower() in _NO_WORDS]
    if len(yes) == 1:
        chosen = yes[0]
    elif len(no) == 1:
        chosen = next(word for word in words if word != no[0])
    else:
        chosen = min(words, key=lambda word: (int(counts[word]), word))
    return "" if chosen == words[-1] or unusable(chosen) else chosen


def _slices(columns: tuple[Column, ...]) -> tuple[str, ...]:
    """Up to two categories of few values, for each of which the metrics are shown too."""
    few = [one for one in columns if one.role == "categorical" and one.distinct <= MAX_SLICES and not one.is_group]
    return tuple(column.name for column in few[:2])


def _notes(
    frame: pd.DataFrame,
    present: pd.DataFrame,
    columns: tuple[Column, ...],
    task: Task,
    split: ProposedSplit,
    target: str,
) -> tuple[str, ...]:
    notes = []
    if len(frame) > len(present):
        missing = len(frame) - len(present)
        notes.append(f"{missing:,} of {len(frame):,} rows have no {target!r}; they are left out, and counted")
    notes += [f"column {one.name!r} is left out: {one.why}" for one in columns if one.is_leak]
    notes += [f"{_of(one)} {one.name!r}: {one.doubt}" for one in columns if one.doubt]
    notes += [
        f"the split is not by time, since column {one.name!r} is left out: some of its cells are no times"
        for one in columns
        if one.nearly == "times" and split.method not in ("time", "group")
    ]
    if task != "regression":
        counts = present[target].value_counts()
        rare = counts[counts < ROWS_OF_A_CLASS].sort_values(kind="stable")
        if len(rare):
            few = f"fewer than {ROWS_OF_A_CLASS} rows, too few to be learnt"
            have = "has" if len(rare) == 1 else "have"
            notes.append(f"{len(rare)} of {len(counts)} classes {have} {few}: {counted(rare)}")
    tested = split.rows.get("test", FEW_TEST_ROWS)
    if tested < FEW_TEST_ROWS:
        notes.append(f"the test side has about {tested:,} rows: reports can tell large differences alone")
    odd = [one.name for one in columns if one.is_feature and set("[]<") & set(one.name)]
    if odd:
        notes.append(f"XGBoost takes no feature whose name holds [, ] or <: {', '.join(map(repr, odd[:3]))}")
    return (*notes, *split.notes)
