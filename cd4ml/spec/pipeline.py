"""The pipeline: which stages there are, what each reads and writes, and what it means.

``render`` turns this into ``dvc.yaml``; the stages read and write exactly these paths. All paths are
relative to the repository root and use ``/``.

``meaning`` is raised when a stage would write other bytes for the same inputs: it is part of the
fingerprint (component ``pipeline``), and a golden test on the outputs fails until it is raised.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # whoever asks for the name of a file needs no specification
    from cd4ml.spec.experiment import OwnStageSpec, Spec, Task

SIDES = ("train", "validation", "test")

PARAMS_FILE = "params.yaml"
PIPELINE_FILE = "dvc.yaml"
LOCK_FILE = "dvc.lock"

TABLE = "artifacts/ingest/table.parquet"
PROVENANCE = "artifacts/ingest/provenance.json"
EXPECTATION_RESULTS = "artifacts/validate/results.json"
DATA_DOCS = "artifacts/validate/data_docs.html"
SPLIT = "artifacts/split/split.parquet"
SPLIT_PROOF = "artifacts/split/proof.json"
FEATURES: Mapping[str, str] = MappingProxyType({side: f"artifacts/featurize/{side}.parquet" for side in SIDES})
FEATURE_SCHEMA = "artifacts/featurize/schema.json"
MODEL = "artifacts/train/model.skops"
MODEL_CARD = "artifacts/train/model.json"
PREDICTIONS = "artifacts/predict/predictions.parquet"
IMPORTANCE = "artifacts/explain/permutation_importance.csv"
METRICS = "artifacts/evaluate/metrics.json"
SLICES = "artifacts/evaluate/slices.json"
PREDICTED_VS_OBSERVED = "artifacts/evaluate/predicted_vs_observed.csv"
RESIDUALS = "artifacts/evaluate/residuals.csv"
RESIDUALS_OVER_TIME = "artifacts/evaluate/residuals_over_time.csv"
ROC = "artifacts/evaluate/roc.csv"
PRECISION_RECALL = "artifacts/evaluate/precision_recall.csv"
CALIBRATION = "artifacts/evaluate/calibration.csv"
CONFUSION = "artifacts/evaluate/confusion.csv"

STAGE_NAMES = ("ingest", "validate", "split", "featurize", "train", "predict", "explain", "evaluate")
"""cd4ml's own stages, in the order they run; ``explain`` is there only where it is asked for."""

JUDGED_ANEW = ("ingest", "validate", "split", "featurize")
"""The stages that run no code of an experiment: what they give follows from pins and configuration alone."""


def pin_path(source: str) -> str:
    """Where the committed pin of the source lives: ``pin_path('flights') == 'data/flights.lock.json'``."""
    return f"data/{source}.lock.json"


@dataclass(frozen=True)
class PlotSpec:
    """A plot file and how ``dvc plots`` draws it."""

    path: str
    x: str
    y: str
    template: str
    title: str


@dataclass(frozen=True)
class StageSpec:
    """One stage of ``dvc.yaml``. ``params`` are dotted keys of ``params.yaml``."""

    name: str
    meaning: int
    deps: tuple[str, ...]
    params: tuple[str, ...]
    outs: tuple[str, ...]
    metrics: tuple[str, ...] = ()
    plots: tuple[PlotSpec, ...] = ()

    @property
    def command(self) -> str:
        """What DVC runs. No value of any configuration is ever part of it."""
        return f"cd4ml stage {self.name}"

    @property
    def written(self) -> tuple[str, ...]:
        """Every path that the stage writes."""
        return (*self.outs, *self.metrics, *(plot.path for plot in self.plots))


@dataclass(frozen=True)
class Pipeline:
    """What of a spec decides which stages there are, and what they read and write.

    ``timed`` says that the split is by time, ``sliced`` that metrics are asked for by slice, ``explained`` that
    permutation importance is, ``named_positive`` that the configuration names the positive class. ``own`` are the
    project's stages.
    """

    sources: tuple[str, ...]
    task: Task = "regression"
    timed: bool = False
    sliced: bool = False
    explained: bool = False
    named_positive: bool = False
    own: tuple[OwnStageSpec, ...] = ()


def pipeline_of(spec: Spec) -> Pipeline:
    """The pipeline that a spec asks for."""
    return Pipeline(
        sources=tuple(source.name for source in spec.data.sources),
        task=spec.evaluation.task,
        timed=spec.split.method == "time",
        sliced=bool(spec.evaluation.slices),
        explained=spec.evaluation.permutation_importance > 0,
        named_positive=bool(spec.evaluation.positive),
        own=spec.stages,
    )


DERIVED = "pipeline"
"""Key of ``params.yaml`` for what cd4ml adds to the configuration: see ``derived_params``."""


def derived_params(pipeline: Pipeline, code: str, env: str) -> dict[str, object]:
    """What DVC must see change though no configuration does: the meaning of each stage, the order of sources and of
    the project's stages, ``code``, a digest of the project's own code (``""`` for none), and ``env``, the
    fingerprint's component of that name.

    DVC compares mappings without their order, and knows nothing of ``meaning`` and of the modules that a stage
    imports; without these, its run cache would hand back outputs that mean something else.
    """
    meaning = {stage.name: stage.meaning for stage in stages(pipeline)}
    own = [one.name for one in pipeline.own]
    return {"meaning": meaning, "sources": list(pipeline.sources), "own": own, "code": code, "env": env}


_CODE, _OWN, _ENV = (f"{DERIVED}.{name}" for name in ("code", "own", "env"))


def _stage(
    name: str,
    meaning: int,
    deps: tuple[str, ...],
    params: tuple[str, ...],
    outs: tuple[str, ...],
    metrics: tuple[str, ...] = (),
    plots: tuple[PlotSpec, ...] = (),
) -> StageSpec:
    return StageSpec(name, meaning, deps, (*params, f"{DERIVED}.meaning.{name}", _ENV), outs, metrics, plots)


def stages(pipeline: Pipeline) -> tuple[StageSpec, ...]:
    """The stages in the order they run.

    ``evaluate`` is run by the judge when cd4ml runs the pipeline, and by DVC when a person does.
    """
    pins = tuple(pin_path(source) for source in pipeline.sources)
    positive = ("evaluation.positive",) if pipeline.named_positive else ()
    feeding = tuple(_own_stage(one) for one in pipeline.own if one.feeds == "features")
    others = tuple(_own_stage(one) for one in pipeline.own if one.feeds == "nothing")
    features = {side: (FEATURES[side], *own_features(pipeline, side)) for side in SIDES}
    explain = _stage(
        "explain",
        1,
        (MODEL, MODEL_CARD, *features["validation"], FEATURE_SCHEMA),
        ("data", "evaluation", "seed", _CODE, _OWN),
        (),
        plots=(PlotSpec(IMPORTANCE, "importance", "feature", "bar_horizontal", "Permutation importance (validation)"),),
    )
    return (
        _stage("ingest", 2, pins, ("data", "evaluation.task", f"{DERIVED}.sources"), (TABLE, PROVENANCE)),
        _stage("validate", 2, (TABLE,), ("data", "validation"), (EXPECTATION_RESULTS, DATA_DOCS)),
        _stage("split", 2, (TABLE, EXPECTATION_RESULTS), ("split",), (SPLIT, SPLIT_PROOF)),
        _stage(
            "featurize",
            2,
            (TABLE, SPLIT),
            ("data", "features", "evaluation.task", *positive),
            (*FEATURES.values(), FEATURE_SCHEMA),
        ),
        *feeding,
        _stage(
            "train",
            3,
            (*features["train"], *features["validation"], FEATURE_SCHEMA),
            ("model", "seed", "evaluation.task", _CODE, _OWN),
            (MODEL, MODEL_CARD),
        ),
        _stage(
            "predict",
            2,
            (MODEL, MODEL_CARD, SPLIT, *features["validation"], *features["test"], FEATURE_SCHEMA),
            (_CODE, _OWN),
            (PREDICTIONS,),
        ),
        *((explain,) if pipeline.explained else ()),
        *others,
        _stage(
            "evaluate",
            2,
            (TABLE, SPLIT, FEATURE_SCHEMA, PREDICTIONS),
            ("data", "split", "evaluation", _CODE),
            (),
            (METRICS, SLICES) if pipeline.sliced else (METRICS,),
            _plots(pipeline),
        ),
    )


def executed(pipeline: Pipeline) -> tuple[StageSpec, ...]:
    """The stages that ``execute`` runs: all but the judge's ``evaluate``, which is the last."""
    return stages(pipeline)[:-1]


def _own_stage(one: OwnStageSpec) -> StageSpec:
    """A stage of the project. Its ``meaning`` is that of how cd4ml calls it; what it does is in its code's digest."""
    outs = tuple(f"artifacts/{one.name}/{name}" for name in one.outs)
    return _stage(one.name, 1, one.deps, (f"stages.{one.name}", "seed", _CODE), outs)


def own_features(pipeline: Pipeline, side: str) -> tuple[str, ...]:
    """The files of further features that the project's own stages write for a side."""
    return tuple(f"artifacts/{one.name}/{side}.parquet" for one in pipeline.own if one.feeds == "features")


def _plots(pipeline: Pipeline) -> tuple[PlotSpec, ...]:
    """What ``evaluate`` draws, all of the validation side but the residuals over time."""
    confusion = PlotSpec(CONFUSION, "predicted", "observed", "confusion", "Confusion (validation)")
    if pipeline.task == "multiclass":
        return (confusion,)
    if pipeline.task == "binary":
        return (
            confusion,
            PlotSpec(ROC, "false_positive_rate", "true_positive_rate", "simple", "ROC (validation)"),
            PlotSpec(PRECISION_RECALL, "recall", "precision", "simple", "Precision and recall (validation)"),
            PlotSpec(CALIBRATION, "predicted", "observed", "simple", "Calibration (validation)"),
        )
    over_time = PlotSpec(
        RESIDUALS_OVER_TIME, "day", "mean_residual", "linear", "Mean residual by day since validation begins"
    )
    return (
        PlotSpec(PREDICTED_VS_OBSERVED, "predicted", "observed", "scatter", "Predicted against observed (validation)"),
        PlotSpec(RESIDUALS, "predicted", "residual", "scatter", "Residual by prediction (validation)"),
        *((over_time,) if pipeline.timed else ()),
    )
