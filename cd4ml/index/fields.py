"""What can be asked of a run: every field, what it holds, and the other spellings that are understood.

``FIELDS`` have one name (``branch``), ``LISTS`` hold several texts (``tags``), ``GROUPS`` take names after them
(``metrics.rmse``). A path is a tuple of names; ``canonical`` says it in the one way that the rest of the program
knows. The page for people is ``docs/search.md``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Any

from cd4ml.errors import UsageError
from cd4ml.index.paths import Path, path_text

SIDES = ("train", "validation", "test")
DEFAULT_SIDE = "validation"
"""``metrics.rmse`` is the validation side's: the test side decides gates and is not for looking around."""


class Holds(Enum):
    """What a field can be compared with."""

    TEXT = "text in quotes"
    CHOICE = "one of its words, in quotes"
    TIME = "a date such as '2026-11-03' or '2026-11-03T10:00:00Z'"
    AGE = "a duration such as 7d, 12h or 30m, without quotes"
    NUMBER = "a number"
    TRUTH = "true or false"
    VERSION = "a version in quotes"
    ANY = "a number, text in quotes, true or false"


NOUNS: Mapping[Holds, str] = MappingProxyType(
    {
        Holds.TEXT: "text",
        Holds.CHOICE: "word",
        Holds.TIME: "date",
        Holds.AGE: "duration",
        Holds.NUMBER: "number",
        Holds.TRUTH: "truth",
        Holds.VERSION: "version",
        Holds.ANY: "any",
    }
)
"""The type of a field in a word, as ``search --fields`` says it."""

OPERATORS: Mapping[Holds, tuple[str, ...]] = MappingProxyType(
    {
        Holds.TEXT: ("=", "!=", "<", "<=", ">", ">=", "IN", "BETWEEN", "LIKE", "ILIKE", "IS NULL"),
        Holds.CHOICE: ("=", "!=", "<", "<=", ">", ">=", "IN", "BETWEEN", "LIKE", "ILIKE", "IS NULL"),
        Holds.TIME: ("=", "!=", "<", "<=", ">", ">=", "IN", "BETWEEN", "IS NULL"),
        Holds.AGE: ("<", "<=", ">", ">=", "BETWEEN", "IS NULL"),
        Holds.NUMBER: ("=", "!=", "<", "<=", ">", ">=", "IN", "BETWEEN", "IS NULL"),
        Holds.TRUTH: ("=", "!=", "IN", "IS NULL"),
        Holds.VERSION: ("=", "!=", "IN", "LIKE", "ILIKE", "IS NULL"),
        Holds.ANY: ("=", "!=", "<", "<=", ">", ">=", "IN", "BETWEEN", "LIKE", "ILIKE", "IS NULL"),
    }
)
OF_LISTS = ("=", "!=", "IN", "LIKE", "ILIKE", "IS NULL")
"""The operators of a field that holds several texts."""

CHOICES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "health": ("Healthy", "Progressing", "Degraded", "Missing", "Unknown"),
        "lifecycle": ("open", "merged", "discarded"),
        "outcome": ("succeeded", "failed"),
        "role": ("result", "replicate", "attempt", "refused", "unknown", "imported"),
        "side": ("head", "merge"),
        "let_go": ("artefacts", "run"),
        "failure.kind": ("deterministic", "transient"),
        "primary.direction": ("minimize", "maximize"),
    }
)
"""The closed lists of words, by the field that holds one of them."""

_MEANINGS: Mapping[str, tuple[Holds, str]] = {
    "id": (Holds.TEXT, "the run; the experiment record where nothing was run"),
    "fingerprint": (Holds.TEXT, "digest of everything that determines the result"),
    "branch": (Holds.TEXT, "the branch that is answered"),
    "commit": (Holds.TEXT, "its commit"),
    "source_commit": (Holds.TEXT, "the commit that was run"),
    "result_commit": (Holds.TEXT, "the commit that holds the result"),
    "experiment": (Holds.TEXT, "the latest experiment record of the branch's commit"),
    "author": (Holds.TEXT, "who wrote the branch's commit"),
    "name": (Holds.TEXT, "the experiment's name"),
    "hypothesis": (Holds.TEXT, "why it was tried"),
    "conclusion": (Holds.TEXT, "what was learnt"),
    "noted_by": (Holds.TEXT, "who wrote the conclusion"),
    "reason": (Holds.TEXT, "why it failed or was refused, in one line"),
    "model_digest": (Holds.TEXT, "digest of the model"),
    "landed_by": (Holds.TEXT, "who wrote the record"),
    "lifecycle_by": (Holds.TEXT, "who merged the branch; of a discarded one, who recorded it last"),
    "health": (Holds.CHOICE, "how the run stands"),
    "lifecycle": (Holds.CHOICE, "what became of the branch"),
    "outcome": (Holds.CHOICE, "how the run ended"),
    "role": (Holds.CHOICE, "what the run is among those of its fingerprint"),
    "side": (Holds.CHOICE, "whether the branch's head or its merge result is answered"),
    "let_go": (Holds.CHOICE, "what of the run was let go or erased"),
    "started": (Holds.TIME, "when the run began"),
    "finished": (Holds.TIME, "when the run ended"),
    "committed": (Holds.TIME, "when the branch's commit was made"),
    "lifecycle_at": (Holds.TIME, "when the branch was merged; of a discarded one, when it was recorded last"),
    "fold": (Holds.NUMBER, "number of the fold that brought it into the index"),
    "age": (Holds.AGE, "how long ago the run ended, or the commit was made"),
}

FIELDS: Mapping[str, Holds] = MappingProxyType({name: holds for name, (holds, _) in _MEANINGS.items()})
"""Fields of one name."""

LISTS: Mapping[Path, str] = MappingProxyType(
    {
        ("tags",): "free labels; a test is true where any of them passes",
        ("validation", "failed"): "the expectations that were not met, as type(column); true where any passes",
    }
)
"""Fields that hold several texts, with their meaning."""


@dataclass(frozen=True)
class Group:
    """A field that takes names after it: from ``least`` to ``most`` of them (any number for None).

    ``form`` shows how it is written. ``last`` is the closed list of what the last name can be, with what that
    holds; where it is empty the last name is anything and holds ``holds``.
    """

    form: str
    meaning: str
    holds: Holds = Holds.TEXT
    least: int = 1
    most: int | None = 1
    last: Mapping[str, Holds] = field(default_factory=dict)


_DIGEST_ROWS = MappingProxyType({"digest": Holds.TEXT, "rows": Holds.NUMBER})

GROUPS: Mapping[str, Group] = MappingProxyType(
    {
        "metrics": Group("metrics.NAME", "a metric; metrics.SIDE.NAME of another side", Holds.NUMBER, most=None),
        "params": Group("params.PATH", "a value of the resolved configuration", Holds.ANY, most=None),
        "slices": Group(
            "slices.COLUMN.VALUE.METRIC",
            "a metric of the rows that have a value in a column, or their number: slices.COLUMN.VALUE.rows",
            Holds.NUMBER,
            least=3,
            most=4,
        ),
        "data": Group("data.SOURCE.digest", "digest and rows of a data source", least=2, most=2, last=_DIGEST_ROWS),
        "table": Group("table.digest", "digest and rows of the table that the split starts from", last=_DIGEST_ROWS),
        "split": Group("split.SIDE.digest", "digest and rows of a side", least=2, most=2, last=_DIGEST_ROWS),
        "validation": Group(
            "validation.success",
            "what the expectations found",
            last=MappingProxyType(
                {"suite": Holds.TEXT, "success": Holds.TRUTH, "asked": Holds.NUMBER, "returned": Holds.NUMBER}
            ),
        ),
        "failure": Group(
            "failure.stage",
            "the parts of the reason",
            last=MappingProxyType({"kind": Holds.CHOICE, "stage": Holds.TEXT, "message": Holds.TEXT}),
        ),
        "components": Group("components.NAME", "one of the digests that the fingerprint is over"),
        "environment": Group(
            "environment.python",
            "where it ran",
            last=MappingProxyType({"python": Holds.VERSION, "platform": Holds.TEXT}),
        ),
        "packages": Group("packages.NAME", "the version of a package that was installed", Holds.VERSION),
        "cost": Group(
            "cost.STAGE",
            "seconds that a stage took; cost.peak_bytes.STAGE the most memory that it held, in bytes; "
            "cost.prediction_seconds_per_row what a row took stage predict",
            Holds.NUMBER,
            most=2,
        ),
        "primary": Group(
            "primary.metric",
            "the metric that ranks",
            last=MappingProxyType({"metric": Holds.TEXT, "direction": Holds.CHOICE}),
        ),
        "judge": Group(
            "judge.code",
            "whose code computed metrics of the project",
            last=MappingProxyType({"commit": Holds.TEXT, "code": Holds.TEXT}),
        ),
        "imported": Group(
            "imported.source",
            "where an imported run comes from",
            last=MappingProxyType(
                {"source": Holds.TEXT, "location": Holds.TEXT, "experiment": Holds.TEXT, "id": Holds.TEXT}
            ),
        ),
        "tags": Group("tags.KEY", "of a tag KEY=VALUE, the value"),
    }
)
"""Fields that take names after them."""

_HEADS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("metric",), "metrics"),
        **dict.fromkeys(("parameters", "parameter", "param"), "params"),
        **dict.fromkeys(("tag",), "tags"),
        **dict.fromkeys(("reason",), "failure"),
    }
)
_ATTRIBUTES = ("attributes", "attribute", "attr", "run")
_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "run": "id",
        "run_id": "id",
        "run_name": "name",
        "status": "outcome",
        "user_id": "author",
        "start_time": "started",
        "end_time": "finished",
    }
)
SYNONYMS: Mapping[str, str] = MappingProxyType(
    {
        **{f"{other}.X": f"{head}.X" for other, head in _HEADS.items()},
        "tag": "tags",
        "environment.packages.X": "packages.X",
        **{f"{head}.X": "X" for head in _ATTRIBUTES},
        **_NAMES,
    }
)
"""Other spellings that are understood (among them MLflow's), as ``docs/search.md`` lists them."""

_WORDS: Mapping[tuple[str, str], str] = {("outcome", "FINISHED"): "succeeded", ("outcome", "FAILED"): "failed"}


def canonical(path: Path) -> Path:
    """The path in our own spelling."""
    if len(path) > 1 and path[0] in _ATTRIBUTES:
        path = path[1:]
    if path[:2] == ("environment", "packages"):
        path = path[1:]
    head, rest = path[0], path[1:]
    if rest:
        return (_HEADS.get(head, head), *rest)
    return ("tags",) if head == "tag" else (_NAMES.get(head, head),)


def canonical_word(path: Path, value: Any) -> Any:
    """A value in our own spelling: MLflow's ``FINISHED`` and ``FAILED`` of a status."""
    return _WORDS.get((path_text(path), value), value) if isinstance(value, str) else value


def with_side(path: Path) -> Path:
    """The path of a metric or slice with its side said; any other as it is."""
    if path[0] == "metrics" and len(path) > 1 and not (len(path) > 2 and path[1] in SIDES):
        return ("metrics", DEFAULT_SIDE, *path[1:])
    if path[0] == "slices" and len(path) == 1 + GROUPS["slices"].least:
        return ("slices", DEFAULT_SIDE, *path[1:])
    return path


def holds_of(path: Path) -> Holds:
    """What the field can be compared with. Raises UsageError when there is no such field."""
    head, names = path[0], path[1:]
    if path in LISTS:
        return Holds.TEXT
    if head in FIELDS and not names:
        return FIELDS[head]
    if head not in GROUPS or not names:
        raise UsageError(_no_field(path))
    group = GROUPS[head]
    if len(names) < group.least or (group.most is not None and len(names) > group.most):
        raise UsageError(f"there is no field {path_text(path)}; write {_forms(head)}")
    if not group.last:
        return group.holds
    if names[-1] not in group.last:
        near = nearest(names[-1], _lasts(head))
        hint = f"did you mean {path_text((*path[:-1], near))}?" if near else f"write {_forms(head)}"
        raise UsageError(f"there is no field {path_text(path)}; {hint}")
    return group.last[names[-1]]


def check_column(path: Path) -> None:
    """Raises UsageError unless the path is a field, or what holds fields (``metrics``, ``data.flights``)."""
    if path[0] == "age":
        raise UsageError("age is not stored; show finished")
    if path not in LISTS and not (path[0] in GROUPS and len(path) - 1 < GROUPS[path[0]].least):
        holds_of(path)


def meaning_of(name: str) -> str:
    """What a field of one name is, in a line."""
    return _MEANINGS[name][1]


def forms(head: str) -> tuple[tuple[str, Holds], ...]:
    """Every way to write a field of a group, with what it holds; capitals stand for names."""
    group = GROUPS[head]
    if not group.last:
        return ((group.form, group.holds),)
    stem = group.form.rpartition(".")[0]
    return tuple((f"{stem}.{last}", holds) for last, holds in group.last.items())


def _lasts(head: str) -> tuple[str, ...]:
    return (*GROUPS[head].last, *(path[1] for path in LISTS if len(path) == 2 and path[0] == head))


def _forms(head: str) -> str:
    written = [form for form, _ in forms(head)]
    written += [path_text(path) for path in LISTS if len(path) > 1 and path[0] == head]
    return f"{', '.join(written[:-1])} or {written[-1]}" if len(written) > 1 else written[0]


def _no_field(path: Path) -> str:
    head, written = path[0], path_text(path)
    if head in GROUPS and len(path) == 1:
        return f"{head} needs a name after it, such as {_EXAMPLES.get(head, GROUPS[head].form)}"
    if len(path) > 1:
        near = nearest(head, GROUPS)
        return f"there is no field {written}" + (f"; did you mean {path_text((near, *path[1:]))}?" if near else _all())
    near = nearest(head, (*FIELDS, "tags"))
    return f"there is no field {written}" + (f"; did you mean {near}?" if near else _all())


_EXAMPLES = {"metrics": "metrics.rmse", "params": "params.model.name"}


def _all() -> str:
    return f"; there are {', '.join(group.form for group in GROUPS.values())}, {', '.join(FIELDS)}"


def nearest(word: str, words: Iterable[str]) -> str | None:
    """The word most like the given one in spelling, whatever its case, when any is like it."""
    by_lower = {known.lower(): known for known in words}
    found = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[found[0]] if found else None
