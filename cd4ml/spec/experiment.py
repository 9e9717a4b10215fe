"""The frozen values that a commit's ``conf/`` asks for, one per Hydra group.

``spec/parse`` builds them from the composed, resolved mapping; nothing else does. The plain mapping
itself is kept in ``Spec.resolved``, since fingerprints, records and searches speak of its paths
(``model.estimator.max_depth``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Direction = Literal["minimize", "maximize"]
Task = Literal["regression"]
Severity = Literal["critical", "warning"]


@dataclass(frozen=True)
class SourceSpec:
    """Where one table comes from. ``format`` is ``csv`` or ``parquet``; compression follows the name.

    ``location`` is a path inside the repository, a URL that fsspec reads, or
    ``package://NAME/PATH`` for a file that an installed Python package ships.
    """

    name: str
    location: str
    format: str


@dataclass(frozen=True)
class JoinSpec:
    """A left join of one more source onto the first; ``on`` must be unique in the joined source."""

    source: str
    on: tuple[str, ...]
    columns: tuple[str, ...]
    prefix: str


@dataclass(frozen=True)
class DataSpec:
    """Sources by name, in the order declared; the first is the main table, ``joins`` add to it.

    ``time_columns`` are parsed as UTC timestamps. Rows whose ``target`` is missing are dropped by
    ingest, and counted, when ``drop_missing_target`` is true; otherwise they are an error.
    """

    sources: tuple[SourceSpec, ...]
    joins: tuple[JoinSpec, ...]
    target: str
    time_columns: tuple[str, ...]
    drop_missing_target: bool


@dataclass(frozen=True)
class ExpectationSpec:
    """One Great Expectations expectation by its snake-case type and kwargs."""

    type: str
    kwargs: Mapping[str, Any]
    severity: Severity


@dataclass(frozen=True)
class ValidationSpec:
    """The expectation suite that the ingested table must meet."""

    suite: str
    expectations: tuple[ExpectationSpec, ...]


@dataclass(frozen=True)
class SplitSpec:
    """A split by time: train < ``validation_from`` <= validation < ``test_from`` <= test.

    Both bounds are ISO 8601 and taken as UTC when they name no zone; ``column`` is a time column.
    """

    method: Literal["time"]
    column: str
    validation_from: str
    test_from: str


@dataclass(frozen=True)
class FeaturesSpec:
    """Columns handed to the model. ``calendar`` maps a time column to parts of it
    (``month``, ``day``, ``dayofweek``, ``hour``, ``minute``), each one numeric feature ``<column>_<part>``.
    """

    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    calendar: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class ModelSpec:
    """``estimator`` is a plain mapping with a ``_target_``; nested ``_target_`` mappings allowed.

    ``parameters`` are values that ``estimator`` refers to as ``${model.parameters.NAME}``: they give a name
    that an override can use to what lies deep inside a pipeline's lists.
    """

    name: str
    estimator: Mapping[str, Any]
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class EvaluationSpec:
    """Task, the metrics to compute, and the one that ranks."""

    task: Task
    metrics: tuple[str, ...]
    primary: str


@dataclass(frozen=True)
class PromotionSpec:
    """What a challenger must show against the champion (read from the base branch only).

    ``min_improvement`` is in units of the primary metric, on the test side.
    """

    min_improvement: float


@dataclass(frozen=True)
class CiSpec:
    """What the rendered workflow is for (read from the base branch only)."""

    provider: Literal["github"]
    python: str


@dataclass(frozen=True)
class ExecutorSpec:
    """How runs are carried out; never part of a fingerprint. ``timeout_minutes`` is per run."""

    threads: int
    jobs: int
    timeout_minutes: float


@dataclass(frozen=True)
class ExperimentsPolicy:
    """What counts as an experiment and what makes one run again (read from the base branch only)."""

    branches: tuple[str, ...]
    rerun_on: tuple[str, ...]
    retries: int


@dataclass(frozen=True)
class Spec:
    """The composed, resolved, checked value of a commit's ``conf/``.

    ``resolved`` is the plain mapping (str keys; JSON values only) that everything above was built from.
    ``code`` are repository paths of the user's own package; ``lock`` the path of the lock file of the
    runtime environment or ``""``; ``allowed_packages`` the packages whose classes ``_target_`` may name.
    """

    name: str
    hypothesis: str
    tags: tuple[str, ...]
    seed: int
    code: tuple[str, ...]
    lock: str
    allowed_packages: tuple[str, ...]
    data: DataSpec
    validation: ValidationSpec
    split: SplitSpec
    features: FeaturesSpec
    model: ModelSpec
    evaluation: EvaluationSpec
    promotion: PromotionSpec
    ci: CiSpec
    executor: ExecutorSpec
    experiments: ExperimentsPolicy
    resolved: Mapping[str, Any]
