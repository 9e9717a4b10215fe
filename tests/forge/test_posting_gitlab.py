"""A report on GitLab's merge requests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cd4ml.controller.project import Project
from cd4ml.controller.reporting.post import Posted, open_forge, post_report
from cd4ml.controller.reporting.report import Reported
from cd4ml.errors import UsageError
from cd4ml.promotion.posting import marked, marker
from cd4ml.promotion.review import Review
from cd4ml.report.plots import Plot
from tests.forge.gitlab_world import BOT, PROJECT, SOMEBODY
from tests.forge.posting_world import HEAD, OnGitLab, make_project, on_gitlab, opened, reports
from tests.forge.served_world import TOKEN, Fault
from tests.report.review_world import BETTER, EVERY, UNVERIFIED, WORSE

BRANCH = "exp/boosting"
OTHER = "b" * 40
MARK = marker("", "main", 7)
GOOD = replace(BETTER, branch=BRANCH, commit=HEAD)
BAD = replace(WORSE, branch=BRANCH, commit=HEAD)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    labels = '{better: "model: better", worse: "model: worse"}'
    return make_project(tmp_path_factory.mktemp("posting"), "gitlab", labels)


@pytest.fixture
def project(work: Path) -> Project:
    return opened(work)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    dot = Plot("dot.png", "A dot", "one dot", b"\x89PNG")
    monkeypatch.setattr("cd4ml.report.plots.draw", lambda *_: (dot,))


@pytest.fixture
def on() -> Iterator[OnGitLab]:
    with on_gitlab() as found:
        found.world.add_pull(7, BRANCH, HEAD)
        yield found


def posted(project: Project, on: OnGitLab, review: Review = GOOD) -> Posted:
    return post_report(project, on.again(), Reported(review))


def test_a_first_post_writes_note_status_label_and_plots(project: Project, on: OnGitLab, work: Path) -> None:
    done = posted(project, on)
    (body,) = on.world.bodies(7)
    assert body.startswith(f"{MARK}\n")
    assert [one["name"] for one in on.world.statuses] == ["cd4ml"]
    assert on.world.labels(7) == ["model: better"]
    (commit,) = set(reports(work).values())
    assert f"https://gitlab.example/{PROJECT}/-/raw/{commit}/dot.png" in body
    assert on.world.statuses[0]["target_url"] == f"https://gitlab.example/{PROJECT}/-/blob/{commit}/report.md"
    assert done.lines[0].startswith("pull request 7: comment created, commit status written, label model: better")


@pytest.mark.parametrize("kind", sorted(EVERY))
def test_posting_an_unchanged_report_makes_no_write(project: Project, on: OnGitLab, work: Path, kind: str) -> None:
    review = replace(EVERY[kind], branch=BRANCH, commit=HEAD)
    if review.verdict == "unverified":
        on.world.add_pull(7, BRANCH, HEAD, fork=True)
    posted(project, on, review)
    before, published = list(on.world.writes), reports(work)
    posted(project, on, review)
    assert on.world.writes == before
    assert reports(work) == published
    assert on.world.bodies(7)


def test_another_verdict_edits_the_note_and_sets_a_new_status(project: Project, on: OnGitLab) -> None:
    posted(project, on)
    posted(project, on, BAD)
    assert len(on.world.bodies(7)) == 1
    assert on.world.statuses[-1]["status"] == "failed"
    assert on.world.labels(7) == ["model: worse"]


def test_a_note_of_ours_beyond_the_first_page_is_edited(project: Project, on: OnGitLab) -> None:
    for number in range(150):
        on.world.add_comment(7, SOMEBODY, f"note {number}")
    on.world.add_comment(7, BOT, marked(MARK, "old"))
    assert posted(project, on).pulls[0].comment == "edited"
    assert len(on.world.notes) == 151


def test_a_strangers_note_with_our_marker_is_left_alone(project: Project, on: OnGitLab) -> None:
    on.world.add_comment(7, SOMEBODY, marked(MARK, "all is well"))
    posted(project, on)
    assert on.world.bodies(7)[0] == marked(MARK, "all is well")
    assert len(on.world.bodies(7)) == 2


def test_a_note_that_is_deleted_between_finding_and_editing_is_made_again(project: Project, on: OnGitLab) -> None:
    posted(project, on)
    on.world.faults.append(Fault("PUT /.*notes", first=on.world.notes.clear))
    posted(project, on, BAD)
    assert len(on.world.bodies(7)) == 1


@pytest.mark.parametrize("done", [True, False])
def test_a_note_that_was_not_confirmed_is_there_once(project: Project, on: OnGitLab, done: bool) -> None:
    on.world.faults.append(Fault("POST /.*notes", 502, b"<html>", done=done))
    posted(project, on)
    assert len(on.world.bodies(7)) == 1


def test_a_merge_request_that_was_merged_gets_none(project: Project, on: OnGitLab) -> None:
    on.world.pulls[7]["state"] = "merged"
    done = post_report(project, on.forge, Reported(GOOD), pulls=[7])
    assert done.lines == ("pull request 7: nothing posted, it is merged",)
    assert not on.world.writes


def test_a_result_that_is_not_verified_goes_to_the_forks_merge_request(project: Project, on: OnGitLab) -> None:
    on.world.add_pull(8, "theirs", OTHER, fork=True)
    posted(project, on, replace(UNVERIFIED, branch=BRANCH, commit=OTHER))
    assert not on.world.bodies(7)
    assert len(on.world.bodies(8)) == 1
    (status,) = on.world.statuses
    assert (status["name"], status["status"], status["sha"]) == ("cd4ml (unverified)", "skipped", OTHER)


def test_the_job_token_alone_is_refused_with_what_to_do(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CD4ML_FORGE_TOKEN", "GITLAB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CI_PROJECT_PATH", PROJECT)
    monkeypatch.setenv("CI_JOB_TOKEN", "a-job-token")
    with pytest.raises(UsageError, match="job token may not write notes"):
        open_forge(project)


def test_ci_variables_open_the_forge(project: Project, on: OnGitLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI_SERVER_URL", on.world.api)
    monkeypatch.setenv("CI_PROJECT_PATH", PROJECT)
    monkeypatch.setenv("GITLAB_TOKEN", TOKEN)
    monkeypatch.delenv("CD4ML_FORGE_TOKEN", raising=False)
    assert open_forge(project).whoami() == BOT
