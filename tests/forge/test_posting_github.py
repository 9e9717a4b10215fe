"""A report on GitHub's pull requests: written once, kept current, and never more than that."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cd4ml.controller.project import Project
from cd4ml.controller.reporting import post
from cd4ml.controller.reporting.post import Posted, open_forge, post_all, post_report
from cd4ml.controller.reporting.report import Reported
from cd4ml.errors import ConfigError, Problem, UsageError
from cd4ml.gateways.forge import ForgeError
from cd4ml.gateways.forge.github import GitHub
from cd4ml.promotion.posting import marked, marker
from cd4ml.promotion.review import Review
from cd4ml.report.plots import Plot
from tests.forge.github_world import BOT, SOMEBODY
from tests.forge.posting_world import HEAD, OnGitHub, git, github_access, make_project, on_github, opened, reports
from tests.forge.served_world import TOKEN, Fault
from tests.report.review_world import BETTER, EVERY, HOSTILE, PENDING, UNVERIFIED, WORSE, hostile, huge

BRANCH = "exp/boosting"
OTHER = "b" * 40
MARK = marker("", "main", 7)
GOOD = replace(BETTER, branch=BRANCH, commit=HEAD)
BAD = replace(WORSE, branch=BRANCH, commit=HEAD)
LABELS = '{better: "model: better", worse: "model: worse"}'


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("posting"), "github", LABELS)


@pytest.fixture
def project(work: Path) -> Iterator[Project]:
    yield opened(work)
    for key in reports(work):
        git(work.parent / "remote.git", "update-ref", "-d", f"refs/cd4ml/reports/{key}")


@pytest.fixture
def real_plots() -> None:
    """Ask for it, and the plots are drawn. They take seconds, so most tests get one dot for all of them."""


@pytest.fixture(autouse=True)
def _quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "real_plots" not in request.fixturenames:
        dot = Plot("dot.png", "A dot", "one dot", b"\x89PNG")
        monkeypatch.setattr("cd4ml.report.plots.draw", lambda *_: (dot,))


@pytest.fixture
def on() -> Iterator[OnGitHub]:
    with on_github() as found:
        found.world.add_pull(7, BRANCH, HEAD)
        yield found


def posted(project: Project, on: OnGitHub, review: Review = GOOD, *, rehearse: bool = False) -> Posted:
    """Post as another run of the command would."""
    return post_report(project, on.again(), Reported(review), rehearse=rehearse)


@pytest.mark.usefixtures("real_plots")
def test_a_first_post_writes_comment_check_label_and_plots(project: Project, on: OnGitHub, work: Path) -> None:
    done = posted(project, on)
    (body,) = on.world.bodies(7)
    assert body.startswith(f"{MARK}\n")
    (check,) = on.world.checks.values()
    assert (check["name"], check["head_sha"]) == ("cd4ml", HEAD)
    assert on.world.labels(7) == ["model: better"]
    (commit,) = reports(work).values()
    assert f"https://github.example/Octo-Org/flights/raw/{commit}/" in body
    assert check["details_url"] == f"https://github.example/Octo-Org/flights/blob/{commit}/report.md"
    assert done.lines == (
        (
            "pull request 7: comment created, check run written, label model: better put on "
            "(https://github.example/Octo-Org/flights/pull/7)"
        ),
    )


@pytest.mark.parametrize("kind", sorted(EVERY))
def test_posting_an_unchanged_report_makes_no_write(project: Project, on: OnGitHub, work: Path, kind: str) -> None:
    review = replace(EVERY[kind], branch=BRANCH, commit=HEAD)
    if review.verdict == "unverified":
        on.world.add_pull(7, BRANCH, HEAD, fork="stranger/flights", labels=("run it",))
    posted(project, on, review)
    before, published = list(on.world.writes), reports(work)
    done = posted(project, on, review)
    assert on.world.writes == before
    assert reports(work) == published
    assert [pull.writes for pull in done.pulls] == [0]
    assert on.world.bodies(7)


@pytest.mark.usefixtures("real_plots")
def test_the_same_plots_drawn_again_are_no_change(project: Project, on: OnGitHub, work: Path) -> None:
    posted(project, on)
    published = reports(work)
    posted(project, on)
    assert reports(work) == published
    assert len(on.world.writes) == 3


def test_with_a_token_for_statuses_alone_an_unchanged_report_makes_no_write(project: Project, on: OnGitHub) -> None:
    on.world.rights.discard("checks")
    done = posted(project, on)
    assert done.pulls[0].check == "commit status"
    before = list(on.world.writes)
    posted(project, on)
    assert on.world.writes == before


def test_another_verdict_edits_comment_and_check_and_changes_the_label(project: Project, on: OnGitHub) -> None:
    posted(project, on)
    done = posted(project, on, BAD)
    assert len(on.world.bodies(7)) == 1
    assert [run["conclusion"] for run in on.world.checks.values()] == ["failure"]
    assert on.world.labels(7) == ["model: worse"]
    assert (done.pulls[0].comment, done.pulls[0].removed) == ("edited", ("model: better",))


def test_after_a_force_push_under_a_new_name_the_same_comment_is_kept_current(project: Project, on: OnGitHub) -> None:
    posted(project, on)
    on.world.pulls[7]["head"] |= {"sha": OTHER, "ref": "exp/renamed", "label": "Octo-Org:exp/renamed"}
    done = posted(project, on, replace(GOOD, branch="exp/renamed", commit=OTHER))
    assert [pull.comment for pull in done.pulls] == ["edited"]
    assert len(on.world.bodies(7)) == 1
    assert OTHER[:7] in on.world.bodies(7)[0]


def test_a_report_of_an_older_head_does_not_overwrite(project: Project, on: OnGitHub) -> None:
    on.world.pulls[7]["head"]["sha"] = OTHER
    done = posted(project, on)
    assert not on.world.writes
    assert "nothing posted, its head is bbbbbbbb and the report is of aaaaaaaa" in done.lines[0]


def test_each_pull_request_of_the_branch_gets_its_comment_and_the_commit_one_check(
    project: Project, on: OnGitHub, work: Path
) -> None:
    on.world.add_pull(9, BRANCH, HEAD)
    posted(project, on)
    assert [len(on.world.bodies(number)) for number in (7, 9)] == [1, 1]
    assert on.world.bodies(9)[0].startswith(marker("", "main", 9))
    assert len(on.world.checks) == 1
    assert len(reports(work)) == 1


def test_a_pull_request_into_another_base_gets_none(project: Project, on: OnGitHub) -> None:
    on.world.add_pull(9, BRANCH, HEAD, base="next")
    done = posted(project, on)
    assert [len(on.world.bodies(number)) for number in (7, 9)] == [1, 0]
    assert on.world.labels(9) == []
    assert "pull request 9: nothing posted, it is into next, and the report compares with main" in done.lines


def test_a_closed_pull_request_gets_none(project: Project, on: OnGitHub) -> None:
    on.world.pulls[7] |= {"state": "closed"}
    assert posted(project, on).lines == (f"branch {BRANCH}: has no open pull request",)
    named = post_report(project, on.forge, Reported(GOOD), pulls=[7])
    assert named.lines == ("pull request 7: nothing posted, it is closed",)
    assert not on.world.writes


def test_a_comment_that_is_deleted_between_finding_and_editing_is_made_again(project: Project, on: OnGitHub) -> None:
    posted(project, on)
    on.world.faults.append(Fault("PATCH /.*comments", first=on.world.comments.clear))
    done = posted(project, on, BAD)
    assert len(on.world.bodies(7)) == 1
    assert done.pulls[0].comment == "created"


@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize("status", [0, 409, 422, 502])
def test_a_comment_that_was_not_confirmed_is_there_once(
    project: Project, on: OnGitHub, status: int, done: bool
) -> None:
    on.world.faults.append(Fault("POST /.*comments", status, {"message": "?"}, done=done))
    told = posted(project, on)
    assert len(on.world.bodies(7)) == 1
    assert told.pulls[0].comment == "created"
    assert not told.failed


def test_a_forge_that_takes_no_comment_at_all_is_told(project: Project, on: OnGitHub) -> None:
    on.world.faults.append(Fault("POST /.*comments", 422, {"message": "Validation Failed"}, times=9))
    done = posted(project, on)
    assert done.failed
    assert "then GitHub, Octo-Org/flights: comment on #7: Validation Failed" in done.lines[0]


def test_a_strangers_comment_with_our_marker_is_left_alone(project: Project, on: OnGitHub) -> None:
    on.world.add_comment(7, SOMEBODY, marked(MARK, "all is well"))
    posted(project, on)
    posted(project, on, BAD)
    stranger, ours = on.world.bodies(7)
    assert stranger == marked(MARK, "all is well")
    assert ours.startswith(MARK)


def test_a_comment_of_ours_beyond_the_first_page_is_edited(project: Project, on: OnGitHub) -> None:
    for number in range(150):
        on.world.add_comment(7, SOMEBODY, f"comment {number}")
    on.world.add_comment(7, BOT, marked(MARK, "old"))
    assert posted(project, on).pulls[0].comment == "edited"


def test_a_report_that_is_too_long_is_shortened_and_linked_whole(project: Project, on: OnGitHub, work: Path) -> None:
    posted(project, on, replace(huge(), branch=BRANCH, commit=HEAD))
    (body,), (commit,) = on.world.bodies(7), reports(work).values()
    assert len(body) <= 65_536
    assert f"https://github.example/Octo-Org/flights/blob/{commit}/report.md" in body
    assert len(git(work.parent / "remote.git", "show", f"{commit}:report.md")) > len(body)


def test_plots_that_cannot_be_drawn_do_not_stop_the_post(
    project: Project, on: OnGitHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("no ink\n::error::boo")

    monkeypatch.setattr("cd4ml.report.plots.draw", broken)
    done = posted(project, on)
    assert len(on.world.bodies(7)) == 1
    assert done.lines[1].startswith("plots: none, they could not be drawn (ZeroDivisionError: no ink")
    assert not done.failed


def test_a_remote_that_takes_no_plots_does_not_stop_the_post(project: Project, on: OnGitHub, work: Path) -> None:
    hook = work.parent / "remote.git" / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho not here >&2\nexit 1\n", "utf-8")
    hook.chmod(0o755)
    try:
        done = posted(project, on)
    finally:
        hook.unlink()
    (body,) = on.world.bodies(7)
    assert "<img" not in body
    assert done.lines[1].startswith("plots: none, the remote does not take them")


def test_a_rehearsal_says_what_would_be_done_and_writes_nothing(project: Project, on: OnGitHub, work: Path) -> None:
    done = posted(project, on, rehearse=True)
    assert not on.world.writes
    assert not reports(work)
    assert done.lines[0].startswith("pull request 7: comment would be created, check would be written, label ")


def test_a_rehearsal_of_what_stands_there_has_nothing_to_do(project: Project, on: OnGitHub) -> None:
    posted(project, on)
    assert [pull.writes for pull in posted(project, on, rehearse=True).pulls] == [0]


def test_what_one_pull_request_refuses_keeps_no_other_from_its_report(project: Project, on: OnGitHub) -> None:
    on.world.add_pull(9, BRANCH, HEAD)
    refusal = {"message": "Unable to create comment because issue is locked."}
    on.world.faults.append(Fault("POST /.*/issues/9/comments", 403, refusal, times=9))
    done = posted(project, on)
    assert len(on.world.bodies(7)) == 1
    assert done.failed
    assert "issue is locked" in done.lines[0]


def test_an_expired_token_ends_it_in_one_line(project: Project, on: OnGitHub) -> None:
    forge = GitHub(github_access(on.world, token="expired"), on.clock.patience())
    with pytest.raises(ForgeError, match="expired or revoked"):
        post_report(project, forge, Reported(GOOD))


@pytest.mark.parametrize("text", [text for text in HOSTILE if text.startswith(("::", "<!--", "-->", "line\n"))])
def test_hostile_texts_stay_in_their_place(text: str, project: Project, on: OnGitHub) -> None:
    done = posted(project, on, replace(hostile(text), branch=BRANCH, commit=HEAD))
    (body,) = on.world.bodies(7)
    (check,) = on.world.checks.values()
    assert body.startswith(f"{MARK}\n")
    assert [line for line in body.splitlines() if line.lstrip().startswith("<!--")] == [MARK]
    for shown in (body, check["output"]["summary"], check["output"]["title"], *done.lines):
        assert not [line for line in shown.splitlines() if line.lstrip().startswith("::")]
    assert check["output"]["title"].isprintable()


def test_what_a_forge_says_of_itself_cannot_command_the_runner(project: Project, on: OnGitHub) -> None:
    on.world.pulls[7]["html_url"] = "https://x.test/\n::add-mask::7\u202e##[add-mask]7"
    for line in posted(project, on).lines:
        assert line.isprintable()
        assert "##[" not in line
        assert line.startswith("pull request 7: ")


def test_a_result_that_is_not_verified_goes_to_the_forks_pull_request_whatever_it_claims(
    project: Project, on: OnGitHub
) -> None:
    on.world.add_pull(8, "theirs", OTHER, fork="stranger/flights", labels=("run it",))
    lie = replace(UNVERIFIED, branch=BRANCH, commit=OTHER)  # pull request 7's branch
    posted(project, on, lie)
    assert not on.world.bodies(7)
    assert len(on.world.bodies(8)) == 1
    (check,) = on.world.checks.values()
    assert (check["name"], check["conclusion"], check["head_sha"]) == ("cd4ml (unverified)", "neutral", OTHER)


def test_a_later_commit_of_a_fork_is_not_told_of_by_the_label_of_an_earlier_one(project: Project, on: OnGitHub) -> None:
    on.world.add_pull(8, "theirs", OTHER, fork="stranger/flights", labels=("bug", "run it"))
    done = posted(project, on, replace(UNVERIFIED, commit=OTHER))
    assert done.pulls[0].removed == ("run it",)
    assert on.world.labels(8) == ["bug"]
    on.world.pulls[8]["head"]["sha"] = later = "c" * 40
    before = list(on.world.writes)
    again = posted(project, on, replace(UNVERIFIED, commit=later))
    assert on.world.writes == before
    assert again.pulls[0].left == "it does not have the label 'run it'"


def test_the_code_of_a_fork_that_ran_without_the_label_is_not_told_of(project: Project, on: OnGitHub) -> None:
    on.world.add_pull(8, "theirs", OTHER, fork="stranger/flights")
    done = posted(project, on, replace(UNVERIFIED, commit=OTHER))
    assert not on.world.writes
    assert done.pulls[0].left == "it does not have the label 'run it'"


def test_of_a_result_that_is_not_verified_nothing_is_pushed(project: Project, on: OnGitHub, work: Path) -> None:
    on.world.add_pull(8, "theirs", OTHER, fork="stranger/flights", labels=("run it",))
    done = posted(project, on, replace(UNVERIFIED, commit=OTHER))
    assert done.pulls[0].comment == "created"
    assert not reports(work)


def test_a_result_that_is_not_verified_never_goes_to_a_branch_of_ours(project: Project, on: OnGitHub) -> None:
    posted(project, on, replace(UNVERIFIED, branch=BRANCH, commit=HEAD))
    post_report(project, on.forge, Reported(replace(UNVERIFIED, commit=OTHER)), pulls=[7])
    assert not on.world.writes


def test_a_verified_report_never_goes_to_a_forks_pull_request(project: Project, on: OnGitHub) -> None:
    on.world.add_pull(8, BRANCH, HEAD, fork="stranger/flights")
    done = post_report(project, on.forge, Reported(GOOD), pulls=[8])
    assert not on.world.writes
    assert done.pulls[0].left.startswith("it is a fork's")


def test_all_pull_requests_get_theirs_and_one_that_fails_stops_no_other(
    project: Project, on: OnGitHub, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on.world.add_pull(4, "exp/defect", OTHER)
    on.world.add_pull(5, "exp/broken", OTHER)
    on.world.add_pull(6, "theirs", "c" * 40, fork="stranger/flights")
    posted(project, on)
    on.world.add_pull(8, "exp/other", "d" * 40)
    on.world.comments.clear()

    heads = {BRANCH: HEAD, "exp/other": "d" * 40}

    class Reporter:
        @classmethod
        def open(cls, _: Project) -> Reporter:
            return cls()

        def on(self, branch: str) -> Reported:
            if branch == "exp/broken":
                raise ConfigError([Problem("conf/config.yaml", "seed", "is missing")])
            if branch == "exp/defect":
                raise ZeroDivisionError("by zero")
            return Reported(replace(PENDING, branch=branch, commit=heads[branch]))

    monkeypatch.setattr(post, "Reporter", Reporter)
    done = post_all(project, on.forge)
    assert [one.failed for one in done] == [False, True, True, False]
    assert done[1].lines == ("branch exp/broken: conf/config.yaml: seed: is missing",)
    assert done[2].lines == ("branch exp/defect: a defect of cd4ml: ZeroDivisionError: by zero",)
    assert [len(on.world.bodies(number)) for number in (4, 5, 6, 7, 8)] == [0, 0, 0, 1, 1]
    assert len(reports(work)) == 2


def test_the_report_of_a_pull_request_that_was_closed_is_dropped(
    project: Project, on: OnGitHub, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    posted(project, on)
    assert len(reports(work)) == 1
    on.world.pulls[7]["state"] = "closed"
    assert post_all(project, on.forge, rehearse=True) == ()
    assert len(reports(work)) == 1, "nothing goes where it is only said what would be done"
    assert post_all(project, on.forge) == ()
    assert not reports(work)


def test_the_forge_is_the_one_that_the_base_branch_names(
    project: Project, on: OnGitHub, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_API_URL", on.world.api)
    monkeypatch.setenv("GITHUB_REPOSITORY", "Octo-Org/flights")
    monkeypatch.setenv("CD4ML_FORGE_TOKEN", TOKEN)
    ci = work / "conf" / "ci" / "github.yaml"
    whole, main = ci.read_text("utf-8"), git(work, "rev-parse", "main")
    try:
        ci.write_text(
            whole.replace('url: ""', "url: https://thief.example/api/v3"), "utf-8"
        )  # a work tree decides nothing
        assert [pull.number for pull in open_forge(project).pulls_for(BRANCH)] == [7]
        git(
            work, "commit", "--quiet", "--all", "--message", "Here alone"
        )  # and neither does a commit that is not pushed
        git(work, "update-ref", "refs/heads/main", git(work, "rev-parse", "HEAD"))
        assert [pull.number for pull in open_forge(project).pulls_for(BRANCH)] == [7]
    finally:
        git(work, "update-ref", "refs/heads/main", main)
        git(work, "reset", "--quiet", "--hard", "main")


def test_without_a_token_it_is_said_which_variable_to_set(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CD4ML_FORGE_TOKEN", "GITHUB_TOKEN", "GH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GITHUB_REPOSITORY", "Octo-Org/flights")
    with pytest.raises(UsageError, match="CD4ML_FORGE_TOKEN, GITHUB_TOKEN, GH_TOKEN"):
        open_forge(project)
