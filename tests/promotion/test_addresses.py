"""Addresses on a forge, from what Git calls the repository by."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cd4ml.promotion.addresses import Place, file_addresses, place_of
from cd4ml.spec.experiment import Provider

COMMIT = "a" * 40


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com/ada/flights",
        "https://github.com/ada/flights.git",
        "https://github.com/ada/flights/",
        "https://GitHub.com/ada/flights.git",
        "https://x-access-token:secret@github.com/ada/flights.git",
        "git@github.com:ada/flights.git",
        "github.com:ada/flights",
        "ssh://git@github.com/ada/flights.git",
        "ssh://git@github.com:22/ada/flights.git",
        "git+ssh://git@github.com/ada/flights",
    ],
)
def test_every_address_of_a_repository_names_the_same_place_without_its_user(url: str) -> None:
    assert place_of(url, "github") == Place("github", "https://github.com", "ada/flights")


@pytest.mark.parametrize(
    "url",
    [
        "../remote.git",
        "/srv/git/flights.git",
        "file:///srv/git/flights.git",
        "./a:b",
        "",
        "https://github.com/",
        "https://github.com/ada",
        "https://github.com/ada/flights/more",
        "https://github.com/ada/../flights",
        "https://host:no/ada/flights",
        "https://[::1/ada/flights",
        "https:///ada/flights",
        "https://a b/ada/flights",
        "git@-x:ada/flights",
        "ext::sh -c x",
        "https://github.com/ada/fli\nghts",
    ],
)
def test_a_folder_and_what_is_no_repository_of_a_forge_have_no_place(url: str) -> None:
    assert place_of(url, "github") is None


@pytest.mark.parametrize(
    ("provider", "url", "api", "site", "repository"),
    [
        ("gitlab", "git@gitlab.com:team/deep/er/flights.git", "", "https://gitlab.com", "team/deep/er/flights"),
        ("gitlab", "http://git.example.org:8080/a/b.git", "", "http://git.example.org:8080", "a/b"),
        ("github", "git@git.example.org:a/b", "https://git.example.org/api/v3", "https://git.example.org", "a/b"),
        ("github", "ssh://git@ssh.example.org:2222/a/b", "https://example.org/api/v3/", "https://example.org", "a/b"),
        ("github", "git@work:a/b.git", "https://api.github.com", "https://github.com", "a/b"),
        ("gitlab", "https://example.org/git/a/b.git", "https://example.org/git", "https://example.org/git", "a/b"),
        ("gitlab", "git@example.org:a/b.git", "https://example.org/git/api/v4", "https://example.org/git", "a/b"),
        ("github", "http://[::1]:8000/a/b", "", "http://[::1]:8000", "a/b"),
    ],
)
def test_a_forge_of_ones_own_is_where_its_address_says(
    provider: Provider, url: str, api: str, site: str, repository: str
) -> None:
    assert place_of(url, provider, api) == Place(provider, site, repository)


def test_github_shows_markdown_as_a_page_and_gives_the_rest_as_it_is() -> None:
    place = Place("github", "https://github.com", "ada/flights")
    assert file_addresses(place, COMMIT, ["report.md", "history.png", "report.html"]) == {
        "report.md": f"https://github.com/ada/flights/blob/{COMMIT}/report.md",
        "history.png": f"https://github.com/ada/flights/raw/{COMMIT}/history.png",
        "report.html": f"https://github.com/ada/flights/raw/{COMMIT}/report.html",
    }


def test_gitlab_has_them_below_a_dash() -> None:
    place = Place("gitlab", "https://gitlab.com", "team/deep/flights")
    assert file_addresses(place, COMMIT, ["report.md", "history.png"]) == {
        "report.md": f"https://gitlab.com/team/deep/flights/-/blob/{COMMIT}/report.md",
        "history.png": f"https://gitlab.com/team/deep/flights/-/raw/{COMMIT}/history.png",
    }


def test_a_name_that_is_not_plain_is_quoted_once() -> None:
    place = place_of("https://github.com/ada/fl%20ights%28x", "github")
    assert place == Place("github", "https://github.com", "ada/fl ights(x")
    assert place is not None
    assert file_addresses(place, COMMIT, ["a.png"])["a.png"].startswith("https://github.com/ada/fl%20ights%28x/raw/")


@given(st.text(), st.sampled_from(("github", "gitlab")), st.text(max_size=20))
def test_whatever_a_remote_is_called_an_address_holds_nothing_that_ends_it(
    url: str, provider: Provider, api: str
) -> None:
    place = place_of(url, provider, api)
    for address in file_addresses(place, COMMIT, ["a.png"]).values() if place else ():
        assert address.isascii()
        assert not set(address) & set(" \t\n<>\"'()`|\\@")


@given(st.from_regex(r"https://[a-z]{1,8}:[A-Za-z0-9]{20}@[a-z]{1,8}\.org/[a-z]{1,5}/[a-z]{1,5}", fullmatch=True))
def test_a_token_in_an_address_is_never_shown(url: str) -> None:
    token = url.split(":")[2].split("@")[0]
    place = place_of(url, "github")
    assert place is not None
    assert token not in str(place)
