"""What the judge believes: the pins and the predictions, and nothing else that a run left behind."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cd4ml.controller.desired.data import ensure_raw
from cd4ml.controller.desired.scaffold import load_templates
from cd4ml.controller.landing.land import land_success
from cd4ml.controller.project import Project, open_project
from cd4ml.controller.reconciling.observe import observe
from cd4ml.controller.running import judge as judging
from cd4ml.controller.running import run as running
from cd4ml.controller.running.run import JUDGE_VERDICT, Execution, Job, Verdict, execute, judge, truth_key
from cd4ml.errors import IntegrityError, StageFailed
from cd4ml.gateways.dvc import RemoteObjects, Storage
from cd4ml.spec.pipeline import FEATURES, METRICS, MODEL, MODEL_CARD, PREDICTIONS, SPLIT, TABLE
from tests.conftest import Shell
from tests.controller.controller_world import RECORDS, cd4ml, experiment, experiments, refs, remote

NEVER = threading.Event()


@dataclass(frozen=True)
class Bench:
    """A finished execution, and all that judging it takes."""

    project: Project
    job: Job
    storage: Storage
    raw: Path
    warm: str
    execution: Execution

    @contextmanager
    def copy(self) -> Iterator[Execution]:
        """The execution again, to be tampered with."""
        folder = self.execution.folder.with_name("tampered")
        shutil.copytree(self.execution.folder, folder, symlinks=True)
        try:
            yield replace(self.execution, folder=folder)
        finally:
            shutil.rmtree(folder)

    def judge(self, execution: Execution) -> Verdict:
        return judge(self.project, self.job, execution, raw=self.raw, warm=self.warm, stop=NEVER)


@pytest.fixture(scope="module")
def bench(template_project: Path, tmp_path_factory: pytest.TempPathFactory, warm: str) -> Bench:
    folder = tmp_path_factory.mktemp("bench") / "team"
    shutil.copytree(template_project, folder, symlinks=True)
    project = open_project(folder / "project")
    observation = observe(project)
    storage = project.storage(observation.base_commit)
    asked = observation.asked[observation.base_commit]
    tree = project.repository.tree_of(observation.base_commit)
    templates = load_templates(project, observation.base_commit)
    job = Job("main", "head", observation.base_commit, tree, asked, observation.policy, templates)
    raw = ensure_raw(project, storage, asked.pins.values(), {})
    execution = execute(
        project, job, cache=storage.cache, raw=raw, warm=warm, watch=lambda _: None, stop=threading.Event()
    )
    assert execution.failure is None
    return Bench(project, job, storage, raw, warm, execution)


def altered(path: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], None]:
    """Write a table again, changed, with the very types that it had."""

    def alter(clone: Path) -> None:
        schema = pq.read_schema(clone / path)
        frame = change(pq.read_table(clone / path).to_pandas())
        (clone / path).unlink()
        pq.write_table(pa.Table.from_pandas(frame, schema=schema, preserve_index=False), clone / path)

    return alter


def replaced(path: str, data: bytes) -> Callable[[Path], None]:
    def replace_it(clone: Path) -> None:
        (clone / path).unlink()
        (clone / path).write_bytes(data)

    return replace_it


def linked(path: str) -> Callable[[Path], None]:
    def link(clone: Path) -> None:
        (clone / path).rename(clone / "elsewhere")
        (clone / path).symlink_to(clone / "elsewhere")

    return link


def linked_folder(clone: Path) -> None:
    (clone / "artifacts/predict").rename(clone / "elsewhere")
    (clone / "artifacts/predict").symlink_to(clone / "elsewhere")


def swap_digests(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(digest=frame["digest"].to_numpy()[::-1])


def with_first(column: str, value: Any) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame.loc[0, column] = value
        return frame

    return change


TAMPERED: dict[str, tuple[Callable[[Path], None], str]] = {
    "fewer predictions": (altered(PREDICTIONS, lambda frame: frame.iloc[1:]), "rows"),
    "more predictions": (altered(PREDICTIONS, lambda frame: pd.concat([frame, frame.head(1)])), "rows"),
    "not a number": (altered(PREDICTIONS, with_first("prediction", float("nan"))), PREDICTIONS.split("/")[-1][:10]),
    "infinite": (altered(PREDICTIONS, with_first("prediction", float("inf"))), "not finite"),
    "another row": (altered(PREDICTIONS, with_first("row", 0)), "were not asked for"),
    "rows exchanged": (altered(PREDICTIONS, swap_digests), "another digest"),
    "side exchanged": (altered(PREDICTIONS, lambda frame: frame.assign(side="validation")), "another side"),
    "no table": (replaced(PREDICTIONS, b"PAR1 and no more"), PREDICTIONS),
    "linked predictions": (linked(PREDICTIONS), PREDICTIONS),
    "linked folder": (linked_folder, PREDICTIONS),
    "no predictions": (lambda clone: (clone / PREDICTIONS).unlink(), f"{PREDICTIONS} was not written"),
    "easier table": (altered(TABLE, lambda frame: frame.assign(arr_delay=0.0)), TABLE),
    "easier split": (altered(SPLIT, lambda frame: frame.assign(side=frame["side"].to_numpy()[::-1])), SPLIT),
    "other features": (altered(FEATURES["test"], lambda frame: frame.iloc[::-1]), FEATURES["test"]),
    "another model": (replaced(MODEL, b"not the model"), MODEL_CARD),
    "a card of no sense": (replaced(MODEL_CARD, b"[]"), MODEL_CARD),
    "a card of 2 MiB": (replaced(MODEL_CARD, b" " * (2 << 20)), MODEL_CARD),
    "a card that is no JSON": (replaced(MODEL_CARD, b"{"), MODEL_CARD),
}


@pytest.mark.parametrize("case", TAMPERED)
def test_a_tampered_output_is_refused_for_good_and_named(bench: Bench, case: str) -> None:
    tamper, told = TAMPERED[case]
    with bench.copy() as execution:
        tamper(execution.clone)
        with pytest.raises(StageFailed) as failure:
            bench.judge(execution)
    assert failure.value.kind == "deterministic", failure.value
    assert told in str(failure.value)
    assert "\n" not in str(failure.value)


def test_metrics_that_the_run_wrote_count_for_nothing(bench: Bench) -> None:
    honest = bench.judge(bench.execution)
    with bench.copy() as execution:
        forged = {"validation": {"rmse": 0.0}, "test": {"rmse": 0.0}}
        (execution.clone / METRICS).parent.mkdir(exist_ok=True)
        (execution.clone / METRICS).write_text(json.dumps(forged), "utf-8")
        assert bench.judge(execution).metrics == honest.metrics
    assert honest.metrics["test"]["rmse"] > 1


@pytest.mark.parametrize("what", ["lost", "cut off", "changed"])
def test_a_result_whose_bytes_do_not_arrive_on_the_dvc_remote_is_not_recorded(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    verdict = bench.judge(bench.execution)
    shell = Shell(bench.project.root, {})
    before = refs(remote(shell))
    target = verdict.files[PREDICTIONS].md5
    place = bench.project.root.parent / "storage" / "files" / "md5" / target[:2] / target[2:]
    place.unlink()
    store = RemoteObjects.digest

    def damaging(self: RemoteObjects, md5: str) -> Any:
        """The remote as it is when it is read back."""
        if md5 == target and place.exists():
            data = place.read_bytes()
            place.chmod(0o600)
            place.unlink() if what == "lost" else place.write_bytes(data[:-1] if what == "cut off" else data[::-1])
        return store(self, md5)

    monkeypatch.setattr(RemoteObjects, "digest", damaging)
    with pytest.raises(IntegrityError, match=target):
        land_success(bench.project, bench.storage, bench.job, bench.execution, verdict)
    assert refs(remote(shell)) == before
    monkeypatch.undo()
    with bench.storage.open_remote() as objects:
        objects.store(bench.execution.clone / PREDICTIONS, verdict.files[PREDICTIONS])


def test_predictions_that_change_between_two_looks_at_them_are_refused(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The digest that is recorded is of the bytes that were judged."""
    copy = judging._copy  # the moment between the two looks

    def late(source: Path, target: Path, path: str) -> None:
        if path == PREDICTIONS:
            replaced(PREDICTIONS, b"others")(source)
        copy(source, target, path)

    with bench.copy() as execution:
        bench.judge(execution)
        monkeypatch.chdir(execution.folder / "judge")
        monkeypatch.setattr(judging, "limit_memory", lambda: None)  # of the tests' own process
        monkeypatch.setattr(judging, "_copy", late)
        judging.judge_main()
        told = json.loads(Path(JUDGE_VERDICT).read_text("utf-8"))
    assert told["failure"]["message"] == f"{PREDICTIONS}: changed while it was judged"


def test_outputs_that_change_after_they_were_judged_are_not_recorded(bench: Bench) -> None:
    with bench.copy() as execution:
        verdict = bench.judge(execution)
        replaced(MODEL, b"another model")(execution.clone)
        with pytest.raises(IntegrityError, match="changed after it was judged"):
            land_success(bench.project, bench.storage, bench.job, execution, verdict)
    assert not [ref for ref in refs(remote(Shell(bench.project.root, {}))) if ref.startswith(RECORDS)]


def test_damaged_objects_in_the_cache_and_on_the_remote_are_replaced(team: Shell) -> None:
    cache = team.folder / ".dvc" / "cache" / "files" / "md5"
    storage = team.folder.parent / "storage" / "files" / "md5"
    damaged = []
    for folder in (cache, storage):
        for path in sorted(folder.glob("*/*")):
            path.chmod(0o600)
            path.write_bytes(path.read_bytes()[:-1] + b"?")
            damaged.append(path)
    assert len(damaged) > 10
    experiment(team, "exp/x", seed=4)
    cd4ml(team, "reconcile")
    assert experiments(team)["exp/x"]["health"] == "Healthy"
    team.run("git", "fetch", "--quiet", "origin")
    found = team.run("cd4ml", "show", "exp/x", "--json")
    (row,) = json.loads(found)["runs"]
    for told in (one for path, one in row["record"]["files"].items() if path.startswith("artifacts/")):
        for folder in (cache, storage):
            data = (folder / told["md5"][:2] / told["md5"][2:]).read_bytes()
            assert hashlib.md5(data, usedforsecurity=False).hexdigest() == told["md5"]
    commit = row["result_commit"]
    team.run("git", "clone", "--quiet", "--no-checkout", "../remote.git", "../fresh")
    fresh = team.at(team.folder.parent / "fresh")
    fresh.run("git", "checkout", "--quiet", commit)
    fresh.run("dvc", "pull", "--quiet", "-r", "storage")
    assert fresh.run("dvc", "status").strip() == "Data and pipelines are up to date."


def test_what_our_stages_gave_is_kept_under_all_that_it_follows_from(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that no run is judged by the table of other data, rules or libraries."""
    asked = bench.job.asked
    other = "0" * 64
    moved = [
        replace(asked, components=replace(asked.components, **{name: other})) for name in ("data", "pipeline", "env")
    ]
    for name in ("data", "validation", "split", "features"):
        resolved = {**asked.spec.resolved, name: {**asked.spec.resolved[name], "estimator": {"_target_": "other"}}}
        moved.append(replace(asked, spec=replace(asked.spec, resolved=resolved)))
    keys = [truth_key(one) for one in (asked, *moved)]
    monkeypatch.setattr(running, "installed_versions", lambda names: dict.fromkeys(names, "9.9"))
    assert len({*keys, truth_key(asked)}) == len(keys) + 1
