"""The port to GitHub, against a fake that is held to GitHub's own description."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from cd4ml.gateways.forge import Check, ForgeError, GoneError, NotAllowedError, UnclearError
from cd4ml.gateways.forge.access import Access
from cd4ml.gateways.forge.github import GitHub
from cd4ml.promotion.addresses import Place
from tests.forge.github_world import BOT, SOMEBODY
from tests.forge.posting_world import HEAD, NOW, Clock, OnGitHub, github_access, on_github
from tests.forge.served_world import TOKEN, Fault

CHECK = Check("cd4ml", "failure", "worse", "**worse** by 3", "https://github.example/r.md")
OTHER = "b" * 40


@pytest.fixture
def on() -> Iterator[OnGitHub]:
    with on_github() as found:
        found.world.add_pull(7, "exp/a", HEAD)
        yield found


def test_the_open_pulls_of_a_branch_are_found_and_no_others(on: OnGitHub) -> None:
    on.world.add_pull(8, "exp/a", OTHER, base="next")
    on.world.add_pull(9, "exp/a", OTHER, state="closed")
    on.world.add_pull(10, "exp/a", OTHER, fork="Octo-Fork/flights")
    on.world.add_pull(11, "exp/ab", OTHER)
    assert [pull.number for pull in on.forge.pulls_for("exp/a")] == [8, 7]


def test_a_fork_of_the_same_owner_is_a_fork(on: OnGitHub) -> None:
    on.world.add_pull(8, "exp/f", OTHER, fork="Octo-Org/flights-copy")
    on.world.pulls[8]["head"]["label"] = "Octo-Org:exp/f"
    assert on.forge.pulls_for("exp/f") == ()
    assert on.forge.pull(8).is_fork


def test_a_pull_whose_fork_was_deleted_is_read(on: OnGitHub) -> None:
    on.world.add_pull(8, "exp/g", OTHER, fork="gone")
    (found,) = on.forge.pulls_for_commit(OTHER)
    assert (found.number, found.is_fork, found.head_repository) == (8, True, "")


def test_pulls_of_forks_are_found_by_their_head_beyond_the_first_page(on: OnGitHub) -> None:
    on.world.add_pull(1, "theirs", OTHER, fork="stranger/flights")
    for number in range(20, 130):
        on.world.add_pull(number, f"exp/{number}", f"{number:040d}")
    assert [pull.number for pull in on.forge.pulls_for_commit(OTHER)] == [1]


def test_a_merged_pull_is_told_from_a_closed_one(on: OnGitHub) -> None:
    on.world.add_pull(8, "x", OTHER, state="closed", merged=True)
    on.world.add_pull(9, "x", OTHER, state="closed")
    assert [on.forge.pull(number).state for number in (7, 8, 9)] == ["open", "merged", "closed"]


def test_the_comment_after_two_hundred_others_is_found(on: OnGitHub) -> None:
    for number in range(201):
        on.world.add_comment(7, SOMEBODY, f"comment {number}")
    on.world.add_comment(7, BOT, "ours")
    found = on.forge.comments(7)
    assert len(found) == 202
    assert (found[-1].author, found[-1].body) == (BOT, "ours")


def test_a_comment_is_made_and_edited(on: OnGitHub) -> None:
    on.forge.create_comment(7, "one")
    on.forge.edit_comment(7, on.forge.comments(7)[0].id, "two")
    assert on.world.bodies(7) == ["two"]


@pytest.mark.parametrize("body", [b"<html>Log in</html>", {"ok": True}], ids=["page", "another form"])
def test_an_edit_that_was_answered_and_not_done_is_no_success(on: OnGitHub, body: object) -> None:
    on.forge.create_comment(7, "one")
    on.world.faults.append(Fault("PATCH /repos/.*/comments", 200, body))
    with pytest.raises(ForgeError):
        on.forge.edit_comment(7, on.forge.comments(7)[0].id, "two")
    assert on.world.bodies(7) == ["one"]


def test_editing_a_comment_that_was_deleted_says_so(on: OnGitHub) -> None:
    with pytest.raises(GoneError):
        on.forge.edit_comment(7, 4711, "two")


def test_a_check_run_is_written_once_and_then_stands(on: OnGitHub) -> None:
    assert not on.forge.check_stands(HEAD, CHECK)
    assert on.forge.set_check(HEAD, CHECK) == "check run"
    assert on.forge.check_stands(HEAD, CHECK)
    (run,) = on.world.checks.values()
    assert (run["conclusion"], run["output"]["title"]) == ("failure", "worse")


@pytest.mark.parametrize("field", ["conclusion", "title", "summary", "details_url"])
def test_a_check_that_says_something_else_is_edited(on: OnGitHub, field: str) -> None:
    on.forge.set_check(HEAD, CHECK)
    values = {"conclusion": "success", "title": "t", "summary": "s", "details_url": "https://github.example/2"}
    changed = Check(**{**vars(CHECK), field: values[field]})
    assert not on.forge.check_stands(HEAD, changed)
    on.forge.set_check(HEAD, changed)
    assert on.forge.check_stands(HEAD, changed)
    assert len(on.world.checks) == 1


def test_a_pending_check_is_one_under_way_and_then_completed(on: OnGitHub) -> None:
    pending = Check("cd4ml", "pending", "not run yet")
    on.forge.set_check(HEAD, pending)
    assert on.forge.check_stands(HEAD, pending)
    on.forge.set_check(HEAD, CHECK)
    assert on.forge.check_stands(HEAD, CHECK)


def test_without_the_right_to_checks_a_commit_status_is_written(on: OnGitHub) -> None:
    on.world.rights.discard("checks")
    assert on.forge.set_check(HEAD, CHECK) == "commit status"
    (status,) = on.world.statuses[HEAD]
    assert (status["state"], status["context"], status["description"]) == ("failure", "cd4ml", "worse")
    assert on.forge.check_stands(HEAD, CHECK)


def test_a_status_of_what_is_not_verified_is_not_green(on: OnGitHub) -> None:
    on.world.rights.discard("checks")
    on.forge.set_check(HEAD, Check("cd4ml (unverified)", "neutral", "unverified"))
    assert on.world.statuses[HEAD][0]["state"] == "pending"


def test_a_token_that_may_write_neither_names_the_right(on: OnGitHub) -> None:
    on.world.rights -= {"checks", "statuses"}
    with pytest.raises(NotAllowedError, match="statuses: write"):
        on.forge.set_check(HEAD, CHECK)


def test_the_check_run_of_another_app_is_left_and_ours_put_beside_it(on: OnGitHub) -> None:
    on.forge.set_check(HEAD, CHECK)
    on.world.faults.append(Fault("PATCH /.*check-runs", 403, {"message": "Invalid app_id"}))
    on.forge.set_check(HEAD, Check("cd4ml", "success", "better"))
    assert [run["conclusion"] for run in on.world.checks.values()] == ["failure", "success"]


def test_labels_with_a_slash_are_put_on_and_taken_off(on: OnGitHub) -> None:
    on.forge.change_labels(7, ["model: a/b"], [])
    assert on.world.labels(7) == ["model: a/b"]
    on.forge.change_labels(7, [], ["model: a/b", "not there"])
    assert on.world.labels(7) == []


def test_a_workflows_token_that_may_not_ask_is_the_one_of_actions() -> None:
    with on_github(me=None) as on:
        on.world.add_pull(7, "exp/a", HEAD)
        assert on.forge.whoami() == "github-actions[bot]"
        on.forge.create_comment(7, "one")
        assert on.forge.comments(7)[0].author == "github-actions[bot]"
        assert not on.clock.told


def test_another_account_than_believed_is_told_with_what_to_set(on: OnGitHub) -> None:
    forge = GitHub(github_access(on.world, account="wrong[bot]"), on.clock.patience())
    forge.create_comment(7, "one")
    assert "set CD4ML_FORGE_USER=cd4ml-bot" in on.clock.told[0]


def test_an_expired_token_is_one_line(on: OnGitHub) -> None:
    forge = GitHub(github_access(on.world, token="expired"), on.clock.patience())
    with pytest.raises(ForgeError, match=r"token in CD4ML_FORGE_TOKEN is not accepted \(expired or revoked\?\)"):
        forge.pulls_for("exp/a")
    assert not on.clock.slept


def test_a_missing_right_is_named(on: OnGitHub) -> None:
    on.world.rights.discard("pulls")
    with pytest.raises(NotAllowedError, match="pull requests: write"):
        on.forge.create_comment(7, "one")


def test_a_wrong_repository_is_named(on: OnGitHub) -> None:
    forge = GitHub(github_access(on.world, repository="Octo-Org/flightz"), on.clock.patience())
    with pytest.raises(GoneError, match="is Octo-Org/flightz the right repository"):
        forge.pulls_for("exp/a")


def test_a_failing_server_is_asked_again(on: OnGitHub) -> None:
    on.world.faults.append(Fault("GET", 502, b"<html>Bad gateway</html>", times=2))
    assert len(on.forge.pulls_for("exp/a")) == 1
    assert on.clock.slept == [1, 2]


def test_a_server_that_fails_for_good_ends_in_one_line(on: OnGitHub) -> None:
    on.world.faults.append(Fault("GET", 500, {"message": "oops"}, times=99))
    with pytest.raises(ForgeError, match=r"answered 500 \(oops\)"):
        on.forge.pulls_for("exp/a")
    assert len(on.clock.slept) == 4


def test_a_used_up_limit_is_waited_for_and_told(on: OnGitHub) -> None:
    headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(NOW) + 120)}
    on.world.faults.append(Fault("GET", 403, {"message": "API rate limit exceeded for installation"}, headers))
    assert len(on.forge.pulls_for("exp/a")) == 1
    assert on.clock.slept == [121]
    assert on.clock.told == ["GitHub lets no more requests through for now: waiting 121 s"]


def test_a_secondary_limit_on_a_write_is_waited_for_and_the_write_done_once(on: OnGitHub) -> None:
    said = {"message": "You have exceeded a secondary rate limit and have been temporarily blocked."}
    on.world.faults.append(Fault("POST", 403, said, {"Retry-After": "30"}))
    on.forge.create_comment(7, "one")
    assert on.clock.slept == [30]
    assert on.world.bodies(7) == ["one"]


def test_a_limit_that_takes_too_long_ends_with_the_time(on: OnGitHub) -> None:
    headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(NOW) + 7200)}
    on.world.faults.append(Fault("GET", 429, {"message": "API rate limit exceeded"}, headers, times=9))
    with pytest.raises(ForgeError, match="try again after 2026-03-01 12:00:01 UTC"):
        on.forge.pulls_for("exp/a")
    assert not on.clock.slept


@pytest.mark.parametrize("status", [0, 409, 422, 500, 502])
def test_a_comment_that_was_not_confirmed_is_not_made_again_blindly(on: OnGitHub, status: int) -> None:
    on.world.faults.append(Fault("POST", status, {"message": "conflict"}, done=True))
    with pytest.raises(UnclearError):
        on.forge.create_comment(7, "one")
    assert on.world.bodies(7) == ["one"]


def test_a_connection_that_breaks_is_made_again(on: OnGitHub) -> None:
    on.world.faults.append(Fault("GET", 0, times=2))
    assert len(on.forge.pulls_for("exp/a")) == 1


def test_nobody_there_is_one_line() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = Place("github", "https://github.example", "octo/flights")
        access = Access(place, f"http://127.0.0.1:{free.getsockname()[1]}", TOKEN, "GITHUB_TOKEN")
        with pytest.raises(ForgeError, match=r"list pull requests: no answer \(no connection\)"):
            GitHub(access, Clock().patience()).pulls_for("exp/a")


@pytest.mark.parametrize(
    "body",
    [
        b"<html>captive portal</html>",
        b"{broken",
        {"message": "an object"},
        ["text"],
        [{"number": "seven", "head": {"ref": 3}}],
        [{"number": True}],
    ],
)
def test_an_answer_of_another_form_is_one_line(on: OnGitHub, body: object) -> None:
    on.world.faults.append(Fault("GET /repos/.*/pulls$", 200, body, times=9))
    with pytest.raises(ForgeError) as refused:
        on.forge.pulls_for("exp/a")
    assert len(str(refused.value).splitlines()) == 1


def test_a_page_on_another_host_is_not_asked_for(on: OnGitHub) -> None:
    with socket.create_server(("127.0.0.2", 0)) as elsewhere:
        elsewhere.settimeout(0.2)
        comment = on.world.comments[on.world.add_comment(7, SOMEBODY, "hello")]
        link = f'<http://127.0.0.2:{elsewhere.getsockname()[1]}/next?page=2>; rel="next"'
        on.world.faults.append(Fault("GET /repos/.*/comments", 200, [comment], {"Link": link}))
        with pytest.raises(ForgeError, match="cannot be read"):
            on.forge.comments(7)
        with pytest.raises(TimeoutError):
            elsewhere.accept()


def test_the_token_is_in_no_error(on: OnGitHub) -> None:
    for status in (400, 401, 403, 404, 422, 500):
        on.world.faults.append(Fault("GET", status, {"message": f"token {TOKEN[:3]}"}, times=5))
        with pytest.raises(ForgeError) as refused:
            on.forge.pull(7)
        assert TOKEN not in str(refused.value)
        on.world.faults.clear()
