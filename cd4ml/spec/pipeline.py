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

SIDES = ("train", "validation", "test")

PARAMS_FILE = "params.yaml"
PIPELINE_FILE = "dvc.yaml"
LOCK_FILE = "dvc.lock"

TABLE = "artifacts/ingest/table.parquet"
PROVENANCE = "artifacts/ingest/provenance.json"
EXPECTATION_RESULTS = "artifacts/validate/results.json"
SPLIT = "artifacts/split/split.parquet"
SPLIT_PROOF = "artifacts/split/proof.json"
FEATURES: Mapping[str, str] = MappingProxyType({side: f"artifacts/featurize/{side}.parquet" for side in SIDES})
FEATURE_SCHEMA = "artifacts/featurize/schema.json"
MODEL = "artifacts/train/model.skops"
MODEL_CARD = "artifacts/train/model.json"
PREDICTIONS = "artifacts/predict/predictions.parquet"
METRICS = "artifacts/evaluate/metrics.json"
PREDICTED_VS_OBSERVED = "artifacts/evaluate/predicted_vs_observed.csv"
RESIDUALS_OVER_TIME = "artifacts/evaluate/residuals_over_time.csv"


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


DERIVED = "pipeline"
"""Key of ``params.yaml`` for what the pipeline adds to the configuration: see ``derived_params``."""


def derived_params(sources: tuple[str, ...]) -> dict[str, object]:
    """What DVC must see change though no configuration does: the meaning of each stage, the order of sources.

    DVC compares mappings without their order, and knows nothing of ``meaning``; without these two, its run
    cache would hand back outputs that mean something else.
    """
    return {"meaning": {stage.name: stage.meaning for stage in stages(sources)}, "sources": list(sources)}


def _stage(
    name: str,
    meaning: int,
    deps: tuple[str, ...],
    params: tuple[str, ...],
    outs: tuple[str, ...],
    metrics: tuple[str, ...] = (),
    plots: tuple[PlotSpec, ...] = (),
) -> StageSpec:
    return StageSpec(name, meaning, deps, (*params, f"{DERIVED}.meaning.{name}"), outs, metrics, plots)


def stages(sources: tuple[str, ...]) -> tuple[StageSpec, ...]:
    """The stages in the order they run, for the data sources named.

    ``evaluate`` is run by the judge when cd4ml runs the pipeline, and by DVC when a person does.
    """
    pins = tuple(pin_path(source) for source in sources)
    return (
        _stage("ingest", 1, pins, ("data", f"{DERIVED}.sources"), (TABLE, PROVENANCE)),
        _stage("validate", 1, (TABLE,), ("data", "validation"), (EXPECTATION_RESULTS,)),
        _stage(
            "split",
            1,
            (TABLE, EXPECTATION_RESULTS),
            ("split",),
            (SPLIT, SPLIT_PROOF),
        ),
        _stage(
            "featurize",
            1,
            (TABLE, SPLIT),
            ("data", "features"),
            (*FEATURES.values(), FEATURE_SCHEMA),
        ),
        _stage(
            "train",
            1,
            (FEATURES["train"], FEATURES["validation"], FEATURE_SCHEMA),
            ("model", "seed"),
            (MODEL, MODEL_CARD),
        ),
        _stage(
            "predict",
            1,
            (MODEL, MODEL_CARD, SPLIT, FEATURES["validation"], FEATURES["test"], FEATURE_SCHEMA),
            (),
            (PREDICTIONS,),
        ),
        _stage(
            "evaluate",
            1,
            (TABLE, SPLIT, PREDICTIONS),
            ("data", "split", "evaluation"),
            (),
            (METRICS,),
            (
                PlotSpec(
                    PREDICTED_VS_OBSERVED,
                    "predicted",
                    "observed",
                    "scatter",
                    "Predicted against observed (validation)",
                ),
                PlotSpec(
                    RESIDUALS_OVER_TIME,
                    "day",
                    "mean_residual",
                    "linear",
                    "Mean residual by day since validation begins",
                ),
            ),
        ),
    )


LAST_EXECUTED_STAGE = "predict"
"""``execute`` runs up to and with this stage; what follows it is the judge's."""
