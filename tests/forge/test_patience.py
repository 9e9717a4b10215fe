"""How long a refusal is waited out, and what is said when it is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cd4ml.gateways.forge.patience import Call, Failure, as_error, pause

NOW = 1_772_359_200.0  # 2026-03-01 10:00:00 UTC
CALL = Call("GitHub", "octo/flights", "comment on #7", "pull requests: write", "CD4ML_FORGE_TOKEN")


def test_what_will_not_pass_is_not_waited_for() -> None:
    assert [pause(Failure(status), 0, NOW) for status in (400, 401, 403, 404, 409, 422)] == [None] * 6


def test_an_untrusted_certificate_is_not_waited_for() -> None:
    assert pause(Failure(None, "certificate", is_final=True), 0, NOW) is None


def test_a_failing_server_is_asked_again_after_ever_longer_pauses() -> None:
    assert [pause(Failure(502), attempt, NOW) for attempt in range(4)] == [1, 2, 4, 8]


def test_retry_after_is_obeyed_in_seconds_and_as_a_date() -> None:
    assert pause(Failure(429, headers={"retry-after": "17"}), 0, NOW) == 17
    assert pause(Failure(503, headers={"retry-after": "Sun, 01 Mar 2026 10:00:30 GMT"}), 0, NOW) == 30


def test_a_used_up_limit_is_waited_for_until_it_is_reset() -> None:
    headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(NOW) + 90)}
    assert pause(Failure(403, "API rate limit exceeded", headers), 0, NOW) == 91


def test_gitlab_says_it_without_an_x() -> None:
    headers = {"ratelimit-remaining": "0", "ratelimit-reset": str(int(NOW) + 40)}
    assert pause(Failure(429, "Retry later", headers), 0, NOW) == 41


def test_a_secondary_limit_that_names_no_time_takes_a_minute_and_then_more() -> None:
    secondary = Failure(403, "You have exceeded a secondary rate limit. Please wait a few minutes.")
    assert [pause(secondary, attempt, NOW) for attempt in (0, 1)] == [60, 120]


def test_a_missing_right_is_no_limit() -> None:
    assert not Failure(403, "Resource not accessible by integration", {"x-ratelimit-remaining": "4999"}).is_limited


@given(st.dictionaries(st.sampled_from(["retry-after", "x-ratelimit-reset", "x-ratelimit-remaining"]), st.text()))
def test_no_header_makes_a_pause_that_is_no_time(headers: dict[str, str]) -> None:
    seconds = pause(Failure(429, headers=headers), 0, NOW)
    assert seconds is not None
    assert 0 <= seconds < 1e12


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (Failure(401, "Bad credentials"), "the token in CD4ML_FORGE_TOKEN is not accepted (expired or revoked?)"),
        (Failure(403, "Resource not accessible"), "lacks a right, pull requests: write"),
        (Failure(404, "Not Found"), "is octo/flights the right repository"),
        (Failure(422, "Validation Failed: Body is too long"), "answered 422 (Validation Failed: Body is too long)"),
        (Failure(502, ""), "answered 502"),
        (Failure(None, "it took too long"), "no answer (it took too long)"),
        (Failure(429, "", {"retry-after": "60"}), "try again after 2026-03-01 10:01:00 UTC"),
    ],
)
def test_each_refusal_says_what_to_do(failure: Failure, words: str) -> None:
    assert words in str(as_error(failure, CALL, NOW))


def test_the_right_is_the_one_that_the_forge_names() -> None:
    failure = Failure(403, "no", {"x-accepted-github-permissions": "issues=write; pull_requests=write"})
    assert "issues: write; pull requests: write" in str(as_error(failure, CALL, NOW))


@given(st.text(), st.text(), st.sampled_from([None, 401, 403, 404, 422, 429, 500]))
def test_whatever_is_answered_an_error_is_one_line(message: str, header: str, status: int | None) -> None:
    failure = Failure(status, message, {"x-accepted-github-permissions": header})
    told = str(as_error(failure, CALL, NOW))
    assert len(told.splitlines()) == 1
    assert told.startswith("GitHub, octo/flights: comment on #7: ")


def test_a_token_that_comes_back_in_an_answer_is_not_shown() -> None:
    token = "ghp_" + "a1B2" * 9
    assert token not in str(as_error(Failure(422, f"bad {token}"), CALL, NOW))
