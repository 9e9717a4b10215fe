"""Which forge, which repository and which token."""

from __future__ import annotations

import pytest

from cd4ml.errors import UsageError
from cd4ml.gateways.forge.access import find_access
from cd4ml.spec.experiment import CiSpec

GITHUB = CiSpec("github", "3.11")
GITLAB = CiSpec("gitlab", "3.11")
TOKEN = {"CD4ML_FORGE_TOKEN": "s3cret-token"}
SSH = "git@github.com:octo/flights.git"


@pytest.mark.parametrize(
    ("remote", "api", "repository"),
    [
        (SSH, "https://api.github.com", "octo/flights"),
        ("https://github.com/octo/flights", "https://api.github.com", "octo/flights"),
        ("https://git.example.org/octo/flights.git", "https://git.example.org/api/v3", "octo/flights"),
        ("https://acme.ghe.com/octo/flights.git", "https://api.acme.ghe.com", "octo/flights"),
    ],
)
def test_the_remote_tells_the_forge_and_the_repository(remote: str, api: str, repository: str) -> None:
    found = find_access(GITHUB, remote, TOKEN)
    assert (found.api, found.place.repository) == (api, repository)


def test_a_project_of_gitlab_may_lie_deep() -> None:
    found = find_access(GITLAB, "git@gitlab.example.org:data/models/flights.git", TOKEN)
    assert (found.api, found.place.repository) == ("https://gitlab.example.org", "data/models/flights")


def test_ci_variables_win_over_the_remote() -> None:
    told = {
        "GITHUB_API_URL": "https://ghe.example.org/api/v3",
        "GITHUB_SERVER_URL": "https://ghe.example.org",
        "GITHUB_REPOSITORY": "team/flights",
    }
    found = find_access(GITHUB, SSH, {**TOKEN, **told})
    assert found.api == "https://ghe.example.org/api/v3"
    assert (found.place.site, found.place.repository) == ("https://ghe.example.org", "team/flights")


def test_ci_variables_of_gitlab_tell_it_all() -> None:
    told = {"CI_SERVER_URL": "https://gl.example.org", "CI_PROJECT_PATH": "data/flights"}
    found = find_access(GITLAB, "/srv/remote.git", {**TOKEN, **told})
    assert (found.api, found.place.site, found.place.repository) == (
        "https://gl.example.org",
        "https://gl.example.org",
        "data/flights",
    )


def test_conf_wins_over_everything() -> None:
    ci = CiSpec("github", "3.11", url="https://own.example.org/api/v3/")
    found = find_access(ci, SSH, {**TOKEN, "GITHUB_API_URL": "https://api.github.com"})
    assert found.api == "https://own.example.org/api/v3"


def test_the_address_of_the_api_of_a_gitlab_does_as_well() -> None:
    ci = CiSpec("gitlab", "3.11", url="https://gl.example.org/api/v4")
    assert find_access(ci, "git@gl.example.org:a/b.git", TOKEN).api == "https://gl.example.org"


def test_our_own_variable_is_the_first_token() -> None:
    found = find_access(GITHUB, SSH, {"GH_TOKEN": "c", "GITHUB_TOKEN": "b", "CD4ML_FORGE_TOKEN": "a"})
    assert (found.token, found.token_from) == ("a", "CD4ML_FORGE_TOKEN")


def test_the_token_of_one_forge_is_not_sent_to_another() -> None:
    with pytest.raises(UsageError, match="no token for GitLab"):
        find_access(GITLAB, "git@gitlab.com:a/b.git", {"GITHUB_TOKEN": "s3cret", "GH_TOKEN": "s3cret"})


def test_the_token_is_not_in_what_the_value_says_of_itself() -> None:
    assert "s3cret" not in repr(find_access(GITHUB, SSH, TOKEN))


def test_a_job_token_of_gitlab_is_refused_with_what_to_do() -> None:
    with pytest.raises(UsageError, match=r"job token may not write notes.*CD4ML_FORGE_TOKEN"):
        find_access(GITLAB, "git@gitlab.com:a/b.git", {"CI_JOB_TOKEN": "x"})


def test_a_token_with_a_line_end_is_refused_and_not_shown() -> None:
    with pytest.raises(UsageError, match="CD4ML_FORGE_TOKEN") as refused:
        find_access(GITHUB, SSH, {"CD4ML_FORGE_TOKEN": "s3cret\r\nX-Evil: 1"})
    assert "s3cret" not in str(refused.value)


def test_no_token_goes_over_the_network_in_the_clear() -> None:
    with pytest.raises(UsageError, match="in the clear"):
        find_access(CiSpec("github", "3.11", url="http://git.example.org/api/v3"), SSH, TOKEN)


def test_loopback_is_no_network() -> None:
    ci = CiSpec("github", "3.11", url="http://127.0.0.1:8080")
    assert find_access(ci, SSH, TOKEN).api == "http://127.0.0.1:8080"


def test_a_folder_as_remote_tells_no_repository() -> None:
    with pytest.raises(UsageError, match="GITHUB_REPOSITORY=OWNER/NAME"):
        find_access(GITHUB, "/srv/git/flights.git", TOKEN)


@pytest.mark.parametrize("name", ["flights", "../flights", "octo/..", "octo/fl ights", "octo/flights?x=1", "octo//x"])
def test_a_repository_that_is_no_path_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="which repository"):
        find_access(GITHUB, "/srv/git/flights.git", {**TOKEN, "GITHUB_REPOSITORY": name})


def test_a_password_in_the_remote_is_not_shown() -> None:
    with pytest.raises(UsageError) as refused:
        find_access(GITHUB, "https://me:hunter2@github.com/only-one", TOKEN)
    assert "hunter2" not in str(refused.value)
