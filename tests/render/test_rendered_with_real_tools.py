"""The rendered pipeline in the hands of those who read it: DVC and Git. Of the workflows see tests/ci."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from cd4ml.render.artifacts import render_params, render_pipeline, with_derived
from cd4ml.spec.experiment import SourceSpec, Spec
from cd4ml.spec.parse import parse
from cd4ml.spec.pipeline import (
    METRICS,
    MODEL,
    PREDICTED_VS_OBSERVED,
    RESIDUALS,
    RESIDUALS_OVER_TIME,
    pipeline_of,
    stages,
)
from cd4ml.spec.sources import load_yaml

ROOT = Path(__file__).parents[2]
TEMPLATES = {
    path.relative_to(ROOT / "templates").as_posix(): path.read_text() for path in (ROOT / "templates").rglob("*.j2")
}
BIN = Path(sys.executable).parent


def project_spec() -> Spec:
    value = load_yaml((ROOT / "conf/config.yaml").read_text())
    for entry in value.pop("defaults"):
        ((group, choice),) = entry.items() if isinstance(entry, dict) else {"experiment": ""}.items()
        if group != "experiment":
            value[group] = load_yaml((ROOT / f"conf/{group}/{choice}.yaml").read_text())
    value["model"]["estimator"] = {"_target_": "sklearn.linear_model.Ridge", "alpha": 1.0}
    return parse(value)


SPEC = project_spec()

STAND_IN = """#!{python}
# Stands in for the stages' bodies: writes each output of the stage, as DVC declares them.
import pathlib, sys, yaml
stage = yaml.safe_load(open("dvc.yaml"))["stages"][sys.argv[2]]
outs = stage.get("outs", []) + [key for metric in stage.get("metrics", []) for key in metric]
for out in outs:
    path = pathlib.Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    alpha = yaml.safe_load(open("params.yaml"))["model"]["estimator"]["alpha"]
    if path.name == "metrics.json":
        path.write_text('{{"test": {{"rmse": %r}}}}' % alpha)
    elif path.name == "predicted_vs_observed.csv":
        path.write_text("predicted,observed\\n1.5,%r\\n" % alpha)
    elif path.name == "residuals_over_time.csv":
        path.write_text("date,day,mean_residual\\n2013-09-01,0,%r\\n" % alpha)
    else:
        path.write_text(out + (str(alpha) if sys.argv[2] in ("train", "predict") else ""))
"""


class Tree:
    """A Git repository with a rendered tree, its own HOME, and a stand-in for the stages."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "repository"
        (folder / "home").mkdir()
        (folder / "bin").mkdir()
        self.root.mkdir()
        program = folder / "bin" / "cd4ml"
        program.write_text(STAND_IN.format(python=sys.executable))
        program.chmod(0o755)
        self.env = {
            "HOME": str(folder / "home"),
            "PATH": os.pathsep.join([str(folder / "bin"), str(BIN), os.environ["PATH"]]),
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(folder / "site"),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": "t",
            "GIT_AUTHOR_EMAIL": "t@example.invalid",
            "GIT_COMMITTER_NAME": "t",
            "GIT_COMMITTER_EMAIL": "t@example.invalid",
        }

    def run(self, *command: str) -> str:
        done = subprocess.run(command, cwd=self.root, env=self.env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def write(self, path: str, text: str) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def commit(self) -> str:
        self.run("git", "add", "--all", "--force", "dvc.yaml", "dvc.lock", "params.yaml", METRICS)
        self.run("git", "commit", "--quiet", "--message", "x")
        return self.run("git", "rev-parse", "HEAD").strip()

    def ran(self, output: str) -> list[str]:
        return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    tree = Tree(tmp_path_factory.mktemp("rendered"))
    tree.run("git", "init", "--quiet", ".")
    tree.run("dvc", "init", "--quiet")
    tree.write(".gitignore", "/artifacts/\n/params.yaml\n")
    tree.write("dvc.yaml", render_pipeline(SPEC, TEMPLATES))
    tree.write("params.yaml", render_params(with_derived(SPEC.resolved, SPEC, "", ""), "0" * 64))
    for source in SPEC.data.sources:
        tree.write(f"data/{source.name}.lock.json", source.name)
    tree.run("git", "add", "--all")
    yield tree
    shutil.rmtree(tree.root, ignore_errors=True)


def test_dvc_reads_runs_and_shows_the_rendered_pipeline(tree: Tree) -> None:
    """One repository from `dvc stage list` to `dvc plots diff`, since every dvc command costs seconds."""
    names = [stage.name for stage in stages(pipeline_of(SPEC))]
    assert tree.run("dvc", "stage", "list", "--name-only").split() == names
    graph = tree.run("dvc", "dag", "--dot")
    for edge in ('"ingest" -> "validate"', '"featurize" -> "train"', '"predict" -> "evaluate"'):
        assert edge in graph
    assert tree.ran(tree.run("dvc", "repro")) == names
    first = tree.commit()
    assert tree.ran(tree.run("dvc", "repro")) == []

    changed = json.loads(json.dumps(SPEC.resolved))
    changed["model"]["estimator"]["alpha"] = 2.0
    tree.write("params.yaml", render_params(with_derived(changed, SPEC, "", ""), "1" * 64))
    assert tree.ran(tree.run("dvc", "repro", "--dry"))[0] == "train"
    assert (tree.root / MODEL).read_text().endswith("1.0")
    assert tree.ran(tree.run("dvc", "repro")) == ["train", "predict", "evaluate"]
    assert (tree.root / MODEL).read_text().endswith("2.0")

    metrics = json.loads(tree.run("dvc", "metrics", "diff", "--json", first))
    assert metrics[METRICS]["test.rmse"]["diff"] == 1.0
    plots = json.loads(tree.run("dvc", "plots", "diff", "--json", first, "workspace"))["data"]
    assert set(plots) == {PREDICTED_VS_OBSERVED, RESIDUALS, RESIDUALS_OVER_TIME}
    for path, words in ((PREDICTED_VS_OBSERVED, "against observed"), (RESIDUALS_OVER_TIME, "residual by day")):
        (plot,) = plots[path]
        assert set(plot["revisions"]) == {first, "workspace"}
        assert len(plot["content"]["data"]["values"]) == 2
        assert words in json.dumps(plot["content"])


def test_dvc_takes_hostile_source_names_as_names(tmp_path: Path) -> None:
    names = ("quo'te\"s", "${oops}", "${{ github.token }}", "$(touch x)", "a: &b *c # d", "<{ 7 * 7 }>")
    tree = Tree(tmp_path)
    tree.run("git", "init", "--quiet", ".")
    tree.run("dvc", "init", "--quiet")
    spec = replace(SPEC, data=replace(SPEC.data, sources=tuple(SourceSpec(name, "x", "csv") for name in names)))
    tree.write("dvc.yaml", render_pipeline(spec, TEMPLATES))
    tree.write("params.yaml", render_params(with_derived(SPEC.resolved, SPEC, "", ""), "0" * 64))
    for name in names:
        tree.write(f"data/{name}.lock.json", name)
    tree.run("dvc", "repro", "--quiet", "ingest")
    lock = yaml.safe_load((tree.root / "dvc.lock").read_text())
    assert {dep["path"] for dep in lock["stages"]["ingest"]["deps"]} == {f"data/{name}.lock.json" for name in names}
    assert not (tree.root / "x").exists()
