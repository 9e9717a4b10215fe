"""The frozen values that a commit's ``conf/`` asks for, one per Hydra group.

``spec/parse`` builds them from the composed, resolved mapping; nothing else does. The plain mapping
itself is kept in ``Spec.resolved``, since fingerprints, records and searches speak of its paths
(``model.estimator.max_depth``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Direction = Literal["minimize", "maximize"]
Task = Literal["regression", "binary", "multiclass"]
SplitMethod = Literal["random", "stratified", "group", "time", "predefined"]
Feeds = Literal["nothing", "features"]
Severity = Literal["critical", "warning"]
Consequence = Literal["hold", "warn"]
Provider = Literal["github", "gitlab"]
VERDICTS = ("better", "worse", "no real difference", "not comparable", "take main in", "failed", "pending")
"""What a report can say first. ``pending``: nothing was run yet."""


@dataclass(frozen=True)
class SourceSpec:
    """Where one table comes from. ``format`` is ``csv``, ``parquet`` or ``sql``; compression follows the name.

    ``location`` is a path inside the repository, a URL that fsspec reads, ``package://NAME/PATH`` for a file
    that an installed Python package ships, or for ``sql`` a SQLAlchemy URL without credentials. ``query`` is the
    SELECT of a ``sql`` source (else ``""``). Of a ``csv``, ``delimiter`` is the one character between cells,
    ``decimal`` what stands before the fraction of a number, ``.`` or ``,``, and ``missing`` are the words, sorted, that
    a cell holds nothing beside those that always say so.
    """

    name: str
    location: str
    format: str
    query: str = ""
    delimiter: str = ","
    decimal: str = "."
    missing: tuple[str, ...] = ()


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

    ``time_columns`` are parsed as UTC timestamps: ISO 8601, or as ``time_formats`` (strptime formats by column)
    says. Rows whose ``target`` is missing are dropped by
    ingest, and counted, when ``drop_missing_target`` is true; otherwise they are an error.
    """

    sources: tuple[SourceSpec, ...]
    joins: tuple[JoinSpec, ...]
    target: str
    time_columns: tuple[str, ...]
    drop_missing_target: bool
    time_formats: Mapping[str, str] = field(default_factory=dict)


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
    """How rows are parted into train, validation and test; fields that a method does not use are empty or 0.

    ``random``: each distinct row goes to a side by a digest of its content and ``seed``, so that it stays there
    when rows are added; ``validation`` and ``test`` are the shares (0 to 1) that the sides get, about. ``group``: the
    same by the value of ``column``, so that no group is on two sides. ``stratified``: within each value of
    ``column``, the shares are met as nearly as whole rows allow. ``time``: train < ``validation_from`` <=
    validation < ``test_from`` <= test by the time column ``column``; both bounds are ISO 8601 and taken as UTC when
    they name no zone. ``predefined``: ``column`` says the side of each row, in the words of ``values`` (by side).
    """

    method: SplitMethod
    column: str = ""
    validation_from: str = ""
    test_from: str = ""
    validation: float = 0.0
    test: float = 0.0
    seed: int = 0
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class FeaturesSpec:
    """Columns handed to the model. ``calendar`` maps a time column to parts of it
    (``month``, ``day``, ``dayofweek``, ``hour``, ``minute``), each one numeric feature ``<column>_<part>``.
    ``text`` columns are handed over as text, missing ones as ``""``, for a vectoriser in the model's pipeline.
    """

    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    calendar: Mapping[str, tuple[str, ...]]
    text: tuple[str, ...] = ()


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
class OwnMetricSpec:
    """A metric of the project: the dotted name of a public function ``(observed, predicted) -> float``.

    The judge calls it, with the base branch's code. ``predicted`` are labels (of regression: numbers), or with
    ``needs`` ``probability`` the probability of the positive class (of multiclass: of every class, a column each).
    """

    name: str
    function: str
    direction: Direction
    needs: Literal["prediction", "probability"]


@dataclass(frozen=True)
class EvaluationSpec:
    """Task, the metrics to compute (cd4ml's by name, and the project's ``own``), and the one that ranks.

    ``positive`` is the class that counts as positive in a binary task, as text (``""``: the later of the two in
    sorted order). ``slices`` are columns for each of whose values the metrics are computed too.
    ``permutation_importance`` is how often each feature is shuffled (0: not at all).
    """

    task: Task
    metrics: tuple[str, ...]
    primary: str
    own: tuple[OwnMetricSpec, ...] = ()
    positive: str = ""
    slices: tuple[str, ...] = ()
    permutation_importance: int = 0


@dataclass(frozen=True)
class OwnStageSpec:
    """A stage of the project: a public class (``run``: a mapping with ``_target_`` and plain parameters).

    An object of it is called as ``object.run(inputs, outputs)`` with the paths of ``deps`` and ``outs``, by name.
    ``deps`` are outputs of the pipeline by their path, ``outs`` names of files under ``artifacts/<name>/``. With
    ``feeds`` ``features`` the outs are ``train.parquet``, ``validation.parquet`` and ``test.parquet``, whose columns
    (beside ``__row__``) the model gets as further numeric features.
    """

    name: str
    run: Mapping[str, Any]
    deps: tuple[str, ...]
    outs: tuple[str, ...]
    feeds: Feeds


@dataclass(frozen=True)
class PromotionSpec:
    """What a challenger must show against the champion (read from the base branch only).

    ``min_improvement`` and ``margin`` are in units of the primary metric, ``max_worsening`` of each metric named, all
    on the test side. ``require`` ``better``: the gain is more than chance; ``not worse``: more of a loss than
    ``margin`` can be ruled out. ``min_rows`` are the rows that both must be scored on, and ``min_share`` (above 0, to
    1) their share of the base branch's test side. ``confidence`` (0.5 to 1) is that of every interval, ``resamples``
    how often the bootstrap draws, and ``resample_by`` the column of whose values it draws all rows together (``""``: it
    draws single rows). The limits (seconds, bytes, seconds a row) are of the challenger alone; nothing sets none.
    """

    min_improvement: float
    require: Literal["better", "not worse"] = "better"
    margin: float = 0.0
    min_rows: int = 100
    confidence: float = 0.95
    resamples: int = 2000
    max_worsening: Mapping[str, float] = field(default_factory=dict)
    slices: Consequence = "warn"
    expectations: Consequence = "warn"
    max_training_seconds: float | None = None
    max_model_bytes: float | None = None
    max_prediction_seconds: float | None = None
    resample_by: str = ""
    min_share: float = 0.9

    def rows_asked(self, declared: int) -> int:
        """How many of a test side's ``declared`` rows must be scored by both; 2 at least."""
        return rows_asked(declared, self.min_rows, self.min_share)


def rows_asked(declared: int, min_rows: int, min_share: float) -> int:
    """The larger of a number of rows and a share of those that were declared, rounded up; 2 at least."""
    return max(min_rows, 2, math.ceil(min_share * declared * (1 - 1e-12)))  # 0.7 x 10 is 7, and not 8


@dataclass(frozen=True)
class CiSpec:
    """What the rendered workflow is for, and the forge that reports are posted to (read from the base branch only).

    ``url`` is the API of a forge of one's own (``""``: the public one, or what CI says of itself). ``labels`` are put
    on a pull request by the verdict of its report. ``fork_label`` is the label that lets the code of a fork's pull
    request run on GitHub (``""``: none does; on GitLab it must be that).
    """

    provider: Provider
    python: str
    url: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    fork_label: str = ""


@dataclass(frozen=True)
class ExecutorSpec:
    """How runs are carried out; never part of a fingerprint. ``timeout_minutes`` is per run.

    ``memory_gib`` is what each stage may take of memory, in GiB (nothing: as much as there is).
    """

    threads: int
    jobs: int
    timeout_minutes: float
    memory_gib: float | None = None


@dataclass(frozen=True)
class ExperimentsPolicy:
    """What counts as an experiment and what makes one run again (read from the base branch only)."""

    branches: tuple[str, ...]
    rerun_on: tuple[str, ...]
    retries: int


@dataclass(frozen=True)
class EraserSpec:
    """Who may start a new epoch of the index: a name for people, and the public SSH key (``ssh-ed25519 …``)."""

    name: str
    key: str


@dataclass(frozen=True)
class IndexPolicy:
    """What the index may let go, and who may erase from it (read from the base branch only).

    ``let_go`` are filters in the language of ``cd4ml search``: the artefacts of a run that matches one may be freed.
    """

    let_go: tuple[str, ...] = ()
    erasers: tuple[EraserSpec, ...] = ()


@dataclass(frozen=True)
class Spec:
    """The composed, resolved, checked value of a commit's ``conf/``.

    ``resolved`` is the plain mapping (str keys; JSON values only) that everything above was built from.
    ``code`` are repository paths of the user's own package; ``lock`` the path of the lock file of the
    runtime environment or ``""``, and ``venv`` whether cd4ml may make an environment of it where another one is
    installed; ``allowed_packages`` the packages whose classes ``_target_`` may name.
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
    stages: tuple[OwnStageSpec, ...] = ()
    venv: bool = False
    index: IndexPolicy = IndexPolicy()
