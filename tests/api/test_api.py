"""cd4ml in Python: run, load_spec, search, load_model."""

from __future__ import annotations

import hashlib
import importlib
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import cd4ml
from cd4ml.api import RunResult
from cd4ml.errors import ConfigError, IntegrityError, RemoteError, RepositoryError, UsageError
from cd4ml.spec.pipeline import MODEL
from cd4ml.stages.models import MODEL_PACKAGES, dump_model
from tests.conftest import Shell
from tests.controller.compare_world import land, other, result_of_main


@pytest.fixture
def project(team: Shell, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    """A project with a result of main, in this process's environment, while the current folder is another."""
    for name, value in team.environment.items():
        monkeypatch.setenv(name, value)
    before = Path.cwd(), signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    yield team
    assert (Path.cwd(), signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_importing_cd4ml_brings_in_nothing_and_its_functions_are_there_when_asked_for() -> None:
    code = (
        "import sys, cd4ml; before = set(sys.modules); assert not {'pandas', 'cd4ml.api', 'cd4ml.errors'} & before\n"
        "assert callable(cd4ml.run) and 'search' in dir(cd4ml)\n"
        "assert not {'pandas', 'sklearn', 'hydra', 'dvc', 'git'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        cd4ml.nothing  # noqa: B018  # the access is what is tested


def test_a_run_in_a_thread_gives_metrics_comparison_and_a_cell_of_a_notebook(project: Shell) -> None:
    """A kernel runs cells where it likes: nothing needs the main thread."""
    events: list[str] = []
    found: list[RunResult] = []

    def cell() -> None:
        told = cd4ml.run(
            "model.parameters.alpha=21", directory=project.folder, progress=lambda event: events.append(event.stage)
        )
        found.append(told)

    thread = threading.Thread(target=cell)
    thread.start()
    thread.join(120)
    (result,) = found
    assert result.outcome == "succeeded"
    assert not result.known
    assert "train" in events
    assert set(result.metrics) == {"validation", "test"}
    assert result.comparison is not None
    assert result.comparison.challenger == result.id
    assert repr(result).startswith(f"{result.id}: succeeded\n")
    assert "<table>" in result._repr_html_()
    again = cd4ml.run("model.parameters.alpha=21", directory=project.folder / "conf")
    assert (again.id, again.known) == (result.id, True)
    model = cd4ml.load_model(result.id, project.folder)
    assert model.named_steps["regress"].alpha == 21


def test_a_failed_run_is_a_result_and_a_wrong_request_an_error(project: Shell, tmp_path: Path) -> None:
    result = cd4ml.run("validation=gusts", directory=project.folder)
    assert result.outcome == "failed"
    assert result.reason.startswith("validate: ")
    assert result.comparison is None or result.comparison.verdict == "not comparable"
    assert "failed" in repr(result)
    with pytest.raises(ConfigError, match=r"model\.parameters\.alhpa"):
        cd4ml.run("model.parameters.alhpa=1", directory=project.folder)
    with pytest.raises(RepositoryError, match="not a git repository"):
        cd4ml.run(directory=tmp_path)
    with pytest.raises(UsageError, match="failed and has no model"):
        cd4ml.load_model(result.id, project.folder)


def test_a_notebook_cell_shows_text_that_came_from_a_branch_as_text() -> None:
    result = RunResult("r1", "f" * 64, "failed", "train: <script>alert(1)</script>", {}, None, known=False)
    assert "<script>" not in result._repr_html_()


def test_a_spec_is_that_of_the_work_tree_or_of_a_revision(project: Shell) -> None:
    file = project.folder / "conf" / "config.yaml"
    file.write_text(file.read_text("utf-8").replace("seed: 20130101", "seed: 5"), "utf-8")
    assert cd4ml.load_spec(directory=project.folder).seed == 5
    assert cd4ml.load_spec("main", project.folder).seed == 20130101
    with pytest.raises(UsageError, match="no such commit or branch"):
        cd4ml.load_spec("nowhere", project.folder)


def test_search_gives_a_table_with_a_column_for_each_value(project: Shell) -> None:
    found = cd4ml.search(directory=project.folder)
    (row,) = found.to_dict("records")
    assert row["branch"] == "main"
    assert row["outcome"] == "succeeded"
    assert 0 < row["metrics.test.rmse"] < 100
    assert row["params.model.parameters.alpha"] == 1.0
    assert found["metrics.test.rmse"].dtype == "float64"
    assert isinstance(row["params.evaluation.metrics"], list)
    empty = cd4ml.search("branch = 'none'", project.folder)
    assert len(empty) == 0
    assert {"id", "fingerprint", "branch", "commit", "outcome", "metrics.test.rmse"} <= set(empty.columns)
    with pytest.raises(UsageError):
        cd4ml.search("branch ===", project.folder)


def test_a_model_comes_from_the_cache_or_the_remote_and_is_what_was_recorded_to_the_byte(project: Shell) -> None:
    def objects(folder: Path) -> list[Path]:
        return [path for path in folder.rglob("*") if path.is_file()]

    model: Any = cd4ml.load_model("main", project.folder)
    expected = model.named_steps["regress"].coef_.tolist()
    cache, storage = project.folder / ".dvc" / "cache", project.folder.parent / "storage"
    for path in objects(cache):
        path.chmod(0o644)
        path.write_bytes(b"damaged")
    again: Any = cd4ml.load_model("main", project.folder)  # a damaged cache entry is passed over
    assert again.named_steps["regress"].coef_.tolist() == expected
    shutil.rmtree(cache)
    for path in objects(storage):
        path.chmod(0o644)
        path.write_bytes(b"damaged")
    with pytest.raises(IntegrityError, match="promised"):
        cd4ml.load_model("main", project.folder)
    shutil.rmtree(storage)
    storage.mkdir()
    with pytest.raises(RemoteError, match="not there"):
        cd4ml.load_model("main", project.folder)
    with pytest.raises(UsageError, match="is not valid Unicode"):
        cd4ml.load_model("\ud800", project.folder)
    with pytest.raises(UsageError, match="is not valid Unicode"):
        cd4ml.search("name = '\ud800'", project.folder)
    with pytest.raises(UsageError, match="no run is named"):
        cd4ml.load_model("nothing", project.folder)


def test_what_a_model_may_hold_is_what_main_allows_and_not_what_its_run_says(
    project: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere.py").write_text("class Own:\n    value = 1\n", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    data = dump_model(importlib.import_module("elsewhere").Own(), MODEL_PACKAGES | {"elsewhere"})
    known = {"sha256": hashlib.sha256(data).hexdigest(), "md5": hashlib.md5(data, usedforsecurity=False).hexdigest()}
    cached = project.folder / ".dvc/cache/files/md5" / known["md5"][:2] / known["md5"][2:]
    cached.parent.mkdir(parents=True, exist_ok=True)
    cached.write_bytes(data)
    body = result_of_main(project)
    params = {**body["params"], "allowed_packages": [*MODEL_PACKAGES, "elsewhere"]}
    files = {**body["files"], MODEL: {**known, "bytes": len(data)}}
    run = land(project, body, branch="exp/own", params=params, files=files, components=other(body, "spec", "own"))
    with pytest.raises(IntegrityError, match=r"holds what models may not: .*elsewhere\.Own"):
        cd4ml.load_model(run["id"], project.folder)
