"""The port to GitLab, against a fake that is held to what its documentation says."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from cd4ml.gateways.forge import Check, ForgeError, GoneError, NotAllowedError, UnclearError
from cd4ml.gateways.forge.gitlab import GitLab
from tests.forge.gitlab_world import BOT, SOMEBODY
from tests.forge.posting_world import HEAD, NOW, OnGitLab, gitlab_access, on_gitlab
from tests.forge.served_world import TOKEN, Fault

CHECK = Check("cd4ml", "failure", "worse", "**worse** by 3", "https://gitlab.example/r.md")
OTHER = "b" * 40


@pytest.fixture
def on() -> Iterator[OnGitLab]:
    with on_gitlab() as found:
        found.world.add_pull(7, "exp/a", HEAD)
        yield found


def test_the_open_merge_requests_of_a_branch_are_found_and_no_others(on: OnGitLab) -> None:
    on.world.add_pull(8, "exp/a", OTHER, base="next")
    on.world.add_pull(9, "exp/a", OTHER, state="closed")
    on.world.add_pull(10, "exp/a", OTHER, fork=True)
    assert [pull.number for pull in on.forge.pulls_for("exp/a")] == [8, 7]


def test_merge_requests_of_forks_are_found_by_their_head_beyond_the_first_page(on: OnGitLab) -> None:
    on.world.add_pull(1, "theirs", OTHER, fork=True)
    for number in range(20, 130):
        on.world.add_pull(number, f"exp/{number}", f"{number:040d}")
    (found,) = on.forge.pulls_for_commit(OTHER)
    assert (found.number, found.is_fork, found.head_repository) == (1, True, "77")


def test_a_merge_request_whose_fork_was_deleted_is_read(on: OnGitLab) -> None:
    on.world.add_pull(8, "x", OTHER)
    on.world.pulls[8]["source_project_id"] = None
    found = on.forge.pull(8)
    assert (found.is_fork, found.head_repository) == (True, "")


def test_the_note_after_two_hundred_others_is_found(on: OnGitLab) -> None:
    for number in range(201):
        on.world.add_comment(7, SOMEBODY, f"note {number}")
    on.world.add_comment(7, BOT, "ours")
    found = on.forge.comments(7)
    assert len(found) == 202
    assert (found[-1].author, found[-1].body) == (BOT, "ours")


def test_notes_that_gitlab_itself_writes_are_no_comments(on: OnGitLab) -> None:
    on.world.add_comment(7, BOT, "added 1 commit", system=True)
    assert on.forge.comments(7) == ()


def test_a_note_is_made_and_edited(on: OnGitLab) -> None:
    on.forge.create_comment(7, "one")
    on.forge.edit_comment(7, on.forge.comments(7)[0].id, "two")
    assert on.world.bodies(7) == ["two"]


def test_editing_a_note_that_was_deleted_says_so(on: OnGitLab) -> None:
    with pytest.raises(GoneError):
        on.forge.edit_comment(7, 4711, "two")


def test_a_commit_status_is_written_once_and_then_stands(on: OnGitLab) -> None:
    assert not on.forge.check_stands(HEAD, CHECK)
    on.forge.set_check(HEAD, CHECK)
    assert on.forge.check_stands(HEAD, CHECK)
    (status,) = on.world.statuses
    assert (status["status"], status["name"], status["description"]) == ("failed", "cd4ml", "worse")


def test_the_newest_status_of_the_name_is_the_one_that_counts(on: OnGitLab) -> None:
    on.forge.set_check(HEAD, CHECK)
    on.forge.set_check(HEAD, Check("cd4ml", "success", "better"))
    assert not on.forge.check_stands(HEAD, CHECK)


def test_a_status_that_is_pending_already_is_no_error(on: OnGitLab) -> None:
    on.forge.set_check(HEAD, Check("cd4ml", "pending", "not run yet"))
    on.forge.set_check(HEAD, Check("cd4ml", "pending", "still not"))
    assert [one["status"] for one in on.world.statuses] == ["pending"]


def test_what_is_not_verified_is_skipped_and_on_an_older_gitlab_pending(on: OnGitLab) -> None:
    unverified = Check("cd4ml (unverified)", "neutral", "unverified")
    on.forge.set_check(HEAD, unverified)
    on.world.takes_skipped = False
    on.forge.set_check(OTHER, unverified)
    assert [one["status"] for one in on.world.statuses] == ["skipped", "pending"]
    assert on.forge.check_stands(OTHER, unverified)


def test_an_address_that_is_too_long_for_a_status_is_left_out(on: OnGitLab) -> None:
    long = Check("cd4ml", "success", "better", details_url="https://gitlab.example/" + "x" * 300)
    on.forge.set_check(HEAD, long)
    assert on.world.statuses[0]["target_url"] is None
    assert on.forge.check_stands(HEAD, long)


def test_labels_are_put_on_and_taken_off_together(on: OnGitLab) -> None:
    on.world.add_pull(8, "x", OTHER, labels=("old", "bug"))
    on.forge.change_labels(8, ["new"], ["old", "not there"])
    assert on.world.labels(8) == ["bug", "new"]


def test_the_token_is_sent_where_a_redirection_would_drop_it(on: OnGitLab) -> None:
    on.forge.whoami()
    sent = on.world.asked[-1].headers
    assert sent["Authorization"] == f"Bearer {TOKEN}"
    assert "Private-Token" not in sent


def test_an_expired_token_is_one_line(on: OnGitLab) -> None:
    forge = GitLab(gitlab_access(on.world, token="expired"), on.clock.patience())
    with pytest.raises(ForgeError, match=r"token in CD4ML_FORGE_TOKEN is not accepted \(expired or revoked\?\)"):
        forge.pulls_for("exp/a")


def test_a_missing_right_is_named(on: OnGitLab) -> None:
    on.world.rights.clear()
    with pytest.raises(NotAllowedError, match="scope api, role Reporter"):
        on.forge.create_comment(7, "one")
    with pytest.raises(NotAllowedError, match="scope api, role Developer"):
        on.forge.set_check(HEAD, CHECK)


def test_a_wrong_project_is_named(on: OnGitLab) -> None:
    forge = GitLab(gitlab_access(on.world, repository="data/flightz"), on.clock.patience())
    with pytest.raises(GoneError, match="is data/flightz the right repository"):
        forge.pulls_for("exp/a")


def test_a_failing_server_is_asked_again(on: OnGitLab) -> None:
    on.world.faults.append(Fault("GET", 503, b"<html>", times=2))
    assert len(on.forge.pulls_for("exp/a")) == 1
    assert on.clock.slept == [1, 2]


def test_a_used_up_limit_is_waited_for_and_told(on: OnGitLab) -> None:
    headers = {"RateLimit-Remaining": "0", "RateLimit-Reset": str(int(NOW) + 59)}
    on.world.faults.append(Fault("POST", 429, b"Retry later\n", headers))
    on.forge.create_comment(7, "one")
    assert on.clock.slept == [60]
    assert on.clock.told == ["GitLab lets no more requests through for now: waiting 60 s"]
    assert on.world.bodies(7) == ["one"]


@pytest.mark.parametrize("status", [0, 409, 422, 500, 502])
def test_a_note_that_was_not_confirmed_is_not_made_again_blindly(on: OnGitLab, status: int) -> None:
    on.world.faults.append(Fault("POST", status, {"message": "conflict"}, done=True))
    with pytest.raises(UnclearError):
        on.forge.create_comment(7, "one")
    assert on.world.bodies(7) == ["one"]


@pytest.mark.parametrize(
    "body", [b"<html>sign in</html>", b"{broken", {"message": "an object"}, ["text"], [{"iid": "seven"}], None]
)
def test_an_answer_of_another_form_is_one_line(on: OnGitLab, body: object) -> None:
    on.world.faults.append(Fault("GET /projects/.*/merge_requests$", 200, body, times=9))
    with pytest.raises(ForgeError) as refused:
        on.forge.pulls_for("exp/a")
    assert len(str(refused.value).splitlines()) == 1


def test_a_page_on_another_host_is_not_asked_for(on: OnGitLab) -> None:
    note = on.world.notes[on.world.add_comment(7, SOMEBODY, "hello")]
    with socket.create_server(("127.0.0.2", 0)) as elsewhere:
        elsewhere.settimeout(0.2)
        link = f'<http://127.0.0.2:{elsewhere.getsockname()[1]}/next>; rel="next"'
        on.world.faults.append(Fault("GET /.*/notes", 200, [note], {"Link": link, "X-Next-Page": "2"}))
        assert [one.body for one in on.forge.comments(7)] == ["hello"]
        with pytest.raises(TimeoutError):
            elsewhere.accept()
