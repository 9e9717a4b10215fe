"""A fork's commit: run where there is nothing to take, told of by a job that believes none of it, never recorded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from cd4ml.controller.ci.unverified import SECRETS, unverified_report
from cd4ml.controller.desired.specs import Base, asked_of, spec_of
from cd4ml.controller.project import open_project
from cd4ml.errors import IntegrityError, UsageError
from cd4ml.gateways.files import digest_file
from cd4ml.gateways.warm import SOCKET_VARIABLE
from cd4ml.promotion.review import Review
from cd4ml.spec.pipeline import MODEL, PREDICTIONS
from tests.controller.controller_world import BASELINE, cd4ml, commit, git, refs, remote
from tests.controller.parts_world import Parts, retell, told

FORK = "# @package _global_\nname: fork\nhypothesis: <b>Mine</b> @everyone\nseed: 9\n"
PULL = "refs/pull/7/head"


@pytest.fixture(autouse=True)
def _no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRETS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def forked(template_project: Path, tmp_path_factory: pytest.TempPathFactory, few_flights: Path, warm: str) -> Parts:
    """A pull request whose head one clone has run; another clone, the lander, has never seen that commit."""
    folder = tmp_path_factory.mktemp("fork") / "world"
    shutil.copytree(template_project, folder, symlinks=True)
    parts = Parts(folder, {"PYTHONPATH": str(few_flights), SOCKET_VARIABLE: warm})
    head = commit(parts.project, "main", {BASELINE: FORK})
    git(parts.project, "push", "--quiet", "origin", f"{head}:{PULL}")
    for name in ("runner", "lander"):
        git(parts.project, "clone", "--quiet", "../remote.git", f"../{name}")
    git(parts.runner, "fetch", "--quiet", "origin", PULL)
    cd4ml(parts.lander, "plan")  # from here on its refs stay as they are
    with pytest.MonkeyPatch.context() as patch:
        for name in SECRETS:
            patch.delenv(name, raising=False)
        cd4ml(parts.runner, "execute", "--commit", head, "--unverified", "--output", str(parts.bundles))
    return parts


@dataclass(frozen=True)
class Artefact:
    """Bundles to change, and the world that they came from, which stays as it is."""

    world: Parts
    bundles: Path

    @property
    def bundle(self) -> Path:
        (found,) = self.bundles.glob("*/bundle.json")
        return found.parent


@pytest.fixture
def fork(forked: Parts, tmp_path: Path) -> Artefact:
    """What the job left, in a folder of its own."""
    shutil.copytree(forked.bundles, tmp_path / "bundles")
    return Artefact(forked, tmp_path / "bundles")


def head_of(parts: Parts) -> str:
    return git(remote(parts.project), "rev-parse", PULL)


def report(fork: Artefact, head: str = "") -> Review:
    project = open_project(fork.world.lander.folder)
    return unverified_report(project, fork.bundles, head or head_of(fork.world)).review


@pytest.fixture
def unmoved(forked: Parts) -> Iterator[None]:
    """Whatever a test does, no ref moves anywhere and nothing is stored on the DVC remote."""
    before = [refs(shell) for shell in (remote(forked.project), forked.lander)]
    stored = sorted(path.name for path in (forked.folder / "storage").rglob("*"))
    yield
    assert [refs(shell) for shell in (remote(forked.project), forked.lander)] == before
    assert sorted(path.name for path in (forked.folder / "storage").rglob("*")) == stored


# ── run it ──


def test_one_bundle_of_the_commit_is_left_and_nothing_is_recorded(forked: Parts) -> None:
    (bundle,) = forked.bundles.glob("*/bundle.json")
    said = told(bundle.parent)
    assert (said["kind"], said["commit"], said["branch"]) == ("unverified", head_of(forked), "fork")
    assert set(said["metrics"]) == {"validation", "test"}
    assert not [ref for ref in refs(remote(forked.project)) if ref.startswith("refs/cd4ml/")]
    assert not [ref for ref in refs(forked.runner) if ref.startswith("refs/cd4ml/draft")]


@pytest.mark.parametrize(
    "name", ["CD4ML_FORGE_TOKEN", "GITHUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "CD4ML_SOURCE_FLIGHTS_URL"]
)
def test_no_code_of_a_stranger_is_run_where_a_credential_is_in_the_environment(forked: Parts, name: str) -> None:
    words = ("execute", "--commit", head_of(forked), "--unverified", "--output", str(forked.folder / "none"))
    done = cd4ml(forked.runner, *words, code=2, **{name: "secret-value"})
    assert done.lines == [f"cd4ml: {name}: no code of a stranger is run beside credentials: start the job without"]
    assert "secret-value" not in done.err
    assert not (forked.folder / "none").exists()


def test_no_code_of_a_stranger_is_run_beside_credentials_in_settings(forked: Parts, tmp_path: Path) -> None:
    shutil.copytree(forked.folder, tmp_path / "world", symlinks=True)
    parts = Parts(tmp_path / "world", forked.environment)
    words = ("execute", "--commit", head_of(forked), "--unverified", "--output", str(tmp_path / "none"))
    git(parts.runner, "config", "http.https://forge.example/.extraheader", "AUTHORIZATION: basic c2VjcmV0")
    done = cd4ml(parts.runner, *words, code=2)
    assert "holds a token (check out with persist-credentials: false)" in done.err
    assert "c2VjcmV0" not in done.err
    git(parts.runner, "config", "--unset", "http.https://forge.example/.extraheader")
    (parts.runner.folder / ".dvc/config.local").write_text("", "utf-8")
    assert ".dvc/config.local" in cd4ml(parts.runner, *words, code=2).err


@pytest.mark.parametrize(
    "words",
    [["--commit", "HEAD"], ["--unverified"], ["--commit", "HEAD", "--unverified", "exp/x"]],
)
def test_a_commit_is_run_as_a_strangers_or_not_at_all(forked: Parts, words: list[str]) -> None:
    done = cd4ml(forked.runner, "execute", *words, "--output", str(forked.folder / "none"), code=2)
    assert done.lines == ["cd4ml: --commit SHA and --unverified belong together, and name no branch"]


def test_a_folder_that_holds_bundles_already_is_refused(forked: Parts) -> None:
    words = ("execute", "--commit", head_of(forked), "--unverified", "--output", str(forked.bundles))
    assert "holds bundles: name an empty folder" in cd4ml(forked.runner, *words, code=2).err


# ── tell of it ──


@pytest.mark.usefixtures("unmoved")
def test_predictions_are_judged_by_mains_data_and_the_metric_is_told_as_unverified(fork: Artefact) -> None:
    review = report(fork)
    said = told(fork.bundle)["metrics"]["validation"]["rmse"]
    assert review.verdict == "unverified"
    assert review.reason.startswith(f"rmse {said:.4g}"[:8])
    assert "on the validation side, where the base branch has " in review.reason
    assert review.reason.endswith("judged here from its predictions, by the data that main pins")
    assert (review.commit, review.gates, review.metrics) == (head_of(fork.world), (), ())
    assert {change.key for change in review.config} == {"seed"}
    assert review.hypothesis == "<b>Mine</b> @everyone", "as it is: whoever renders it makes it safe"


@pytest.mark.usefixtures("unmoved")
def test_what_the_job_says_of_itself_counts_for_nothing_where_it_can_be_judged(fork: Artefact) -> None:
    honest = report(fork).reason
    bundle = fork.bundle
    retell(bundle, lambda said: said["metrics"]["validation"].update(rmse=0.001))
    assert report(fork).reason == honest


@pytest.mark.usefixtures("unmoved")
def test_predictions_that_lack_rows_are_told_as_refused_by_the_judge(fork: Artefact) -> None:
    bundle = fork.bundle
    file = bundle / "files" / PREDICTIONS
    frame = pd.read_parquet(file)
    frame.iloc[: len(frame) // 2].to_parquet(file)
    retell(bundle, lambda said: said["files"].update({PREDICTIONS: vars(digest_file(file))}))
    assert report(fork).reason.startswith("it gave no rmse (the judge refuses it: ")


@pytest.mark.usefixtures("unmoved")
def test_a_bundle_of_another_commit_than_the_forge_names_is_refused(fork: Artefact) -> None:
    with pytest.raises(IntegrityError, match="and the pull request's head is"):
        report(fork, git(fork.world.project, "rev-parse", "main"))
    with pytest.raises(UsageError, match="is not the full id of a commit"):
        report(fork, "main; rm -rf /")


@pytest.mark.usefixtures("unmoved")
def test_a_bundle_that_lies_about_what_its_commit_asks_for_is_refused(fork: Artefact) -> None:
    main = git(fork.world.project, "rev-parse", "main")
    bundle = fork.bundle
    retell(bundle, lambda said: said.update(commit=main))
    with pytest.raises(IntegrityError, match="asks for"):
        report(fork, main)


@pytest.mark.usefixtures("unmoved")
def test_none_or_two_bundles_or_a_run_are_no_artefact_of_a_fork(fork: Artefact) -> None:
    bundle = fork.bundle
    other = bundle.with_name("f" * 64)
    shutil.copytree(bundle, other)
    with pytest.raises(IntegrityError, match=r"the artefact: f+: bundle\.json: fingerprint"):
        report(fork)
    retell(other, lambda said: said.update(fingerprint=other.name))
    with pytest.raises(IntegrityError, match="holds 2 bundles"):
        report(fork)
    shutil.rmtree(other)
    retell(bundle, lambda said: said.update(kind="run", metrics={}))
    with pytest.raises(IntegrityError, match="is not of an execute --unverified"):
        report(fork)
    shutil.rmtree(bundle)
    with pytest.raises(IntegrityError, match="holds 0 bundles"):
        report(fork)


@pytest.mark.usefixtures("unmoved")
def test_a_changed_file_is_refused_as_land_refuses_it(fork: Artefact) -> None:
    bundle = fork.bundle
    (bundle / "files" / MODEL).write_bytes(b"x")
    with pytest.raises(IntegrityError, match="were promised"):
        report(fork)


@pytest.mark.usefixtures("unmoved")
def test_a_failure_is_told_in_one_line(fork: Artefact) -> None:
    bundle = fork.bundle
    failure = {"stage": "train", "message": "no\n::error::luck\x1b[0m", "kind": "deterministic"}
    retell(bundle, lambda said: said.update(failure=failure, files={}, metrics={}))
    review = report(fork)
    assert review.reason == "its run failed at train (deterministic): no ::error::luck[0m"
    assert review.verdict == "unverified"


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", '"0"', "1e31", "true", "null"])
def test_a_number_that_is_none_is_refused(fork: Artefact, number: str) -> None:
    bundle = fork.bundle
    text = json.dumps(told(bundle) | {"metrics": {"validation": {"rmse": "HERE"}}}).replace('"HERE"', number)
    (bundle / "bundle.json").write_text(text, "utf-8")
    with pytest.raises(IntegrityError, match="the artefact"):
        report(fork)


@pytest.mark.usefixtures("unmoved")
def test_where_the_commit_cannot_be_read_its_numbers_are_told_as_its_own_word(fork: Artefact) -> None:
    bundle = fork.bundle
    retell(bundle, lambda said: said.update(commit="1" * 40))
    retell(bundle, lambda said: said["metrics"]["validation"].update(rmse=12.5))
    review = report(fork, "1" * 40)
    assert review.reason == (
        "rmse 12.50 on the validation side; by the word of the job that ran it, since the commit cannot be read here"
    )
    assert review.config == ()


def test_a_fork_that_asks_for_other_data_is_told_by_its_own_word(forked: Parts, tmp_path: Path) -> None:
    shutil.copytree(forked.folder, tmp_path / "world", symlinks=True)
    parts = Parts(tmp_path / "world", forked.environment)
    pin = json.loads(git(parts.lander, "show", "origin/main:data/planes.lock.json"))
    pin["digest"] = "0" * 64
    head = commit(parts.lander, "origin/main", {"data/planes.lock.json": json.dumps(pin, indent=1) + "\n"})
    project = open_project(parts.lander.folder)
    main = git(parts.lander, "rev-parse", "origin/main")
    asked = asked_of(project, head, Base(main, spec_of(project, main)[0]))
    (bundle,) = (path.parent for path in parts.bundles.glob("*/bundle.json"))
    fingerprint = asked.components.fingerprint
    retell(bundle, lambda said: said.update(commit=head, fingerprint=fingerprint))
    bundle.rename(bundle.with_name(fingerprint))
    review = unverified_report(project, parts.bundles, head).review
    assert review.reason.endswith("by the word of the job that ran it, since it asks for other data than main")
