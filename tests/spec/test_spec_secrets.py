"""Credentials in configuration are found before anything is run or recorded."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cd4ml.errors import ConfigError
from cd4ml.gateways.hydra import compose
from cd4ml.spec.parse import parse
from cd4ml.spec.secrets import redacted, secret_kind
from tests.growth import TIMES, grows_linearly

ROOT = Path(__file__).parents[2]
TOKEN = "ghp_" + "a1" * 18


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("-----BEGIN RSA PRIVATE KEY-----", "a private key"),
        (f"token {TOKEN}", "a GitHub token"),
        ("glpat-" + "x" * 20, "a GitLab token"),
        ("AKIA" + "A" * 16, "an AWS access key"),
        ("postgresql://me:pass@db/flights", "a password in a URL"),
        ("hf_" + "aB3" * 11, "a Hugging Face token"),
        ("sk-proj-" + "aB3-" * 10, "an API key"),
        ("sk-ant-" + "api03-" + "aB3_" * 20, "an API key"),
        ("sk-" + "aB3" * 16, "an API key"),
        ("dapi" + "0123456789abcdef" * 2, "a Databricks token"),
        ("pypi-AgE" + "Ic" * 30, "a PyPI token"),
        ("npm_" + "aB3" * 12, "an npm token"),
        ("AccountName=x;AccountKey=" + "aB3+" * 21 + "aA==", "an Azure storage key"),
        ("eyJhbGciOiJub25lIn0.eyJzdWIiOiJub2JvZHkifQ.c2ln", "a JSON Web Token"),
        ("Server=db;Password=hunter2;Port=1", "a password"),
        ("hf_transformer_of_a_long_name_with_many_parts", None),
        ("task-based sk-learn", None),
        ("PASSWORD=", None),
        ("the password is longer", None),
        ("https://host/path:8080@tag", None),
        ("https://host:8080/path", None),
        ("Depth helps: see page 12", None),
    ],
)
def test_a_credential_is_known_by_its_published_form(text: str, kind: str | None) -> None:
    assert secret_kind(text) == kind


SECRETS = (
    TOKEN,
    "github_pat_" + "a_1" * 25,
    "glpat-" + "x" * 20,
    "AKIA" + "A" * 16,
    "AIza" + "b" * 35,
    "xoxb-" + "1" * 12,
    "hf_" + "aB3" * 11,
    "sk-proj-" + "aB3-" * 10,
    "dapi" + "0123456789abcdef" * 2,
    "AccountKey=" + "aB3+" * 21 + "==",
    "eyJhbGciOiJub25lIn0.eyJzdWIiOiJub2JvZHkifQ.c2ln",
    "password=hunter2",
    "https://me:tok3n-tok3n@host/x",
)


@given(st.sampled_from(SECRETS), st.text(max_size=30), st.sampled_from(["", " ", "\n", "\u00e9", "'", "/", "."]))
def test_what_is_redacted_holds_no_credential_and_keeps_the_rest(secret: str, around: str, space: str) -> None:
    text = redacted(repr(f"{around} {space}{secret}{space} {around}"))
    assert secret_kind(text) is None
    assert secret not in text
    assert "tok3n" not in text
    assert "…" in text


def test_text_without_a_credential_is_not_changed() -> None:
    text = "must be a whole number, not 'https://host:8080/path' (see page 12)"
    assert redacted(text) == text


def test_nothing_of_a_private_key_and_no_user_of_a_url_is_shown() -> None:
    assert redacted("x -----BEGIN PRIVATE KEY-----\nMIIE\n") == "x …"
    assert redacted("https://tok3n@host/x") == "https://…host/x"


@pytest.mark.parametrize(
    "unit",
    [
        *[
            "a.",
            "a",
            "a:",
            "://a:",
            "://",
            "-----BEGIN ",
            "PRIVATE KEY",
            "ghp_",
            "github_pat_",
            "xoxb-",
            "glpat-",
            "AKIA",
        ],
        *["eyJ", "eyJaaaaaaaaaa.", "sk-", "sk-ant-", "hf_", "password=", "PWD=a", "AccountKey=", "pypi-AgE", "dapi0"],
    ],
)
def test_the_work_grows_linearly_with_hostile_text_up_to_a_mebibyte(unit: str) -> None:
    for head in ("", "x://", "-----BEGIN "):
        small, large = (head + unit * (length // len(unit)) for length in (2**20 // TIMES, 2**20))
        assert grows_linearly(lambda text: (secret_kind(text), redacted(text)), small, large)


def test_no_other_problem_repeats_a_credential() -> None:
    """The value is refused where it stands for a number, a choice, a key, a column and a time as well."""
    files = {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in (ROOT / "conf").rglob("*.yaml")}
    for value in (TOKEN, f"a\n{TOKEN}", f"{'x' * 40} {TOKEN}", [TOKEN], {TOKEN: 1}, f"https://me:{TOKEN}@host"):
        resolved = copy.deepcopy(compose(files).resolved)
        resolved["executor"]["threads"] = value
        resolved["split"]["test_from"] = value
        resolved["evaluation"]["task"] = value
        resolved["features"]["numeric"] = [value, value]
        resolved["model"]["parameters"] = {"key": value, str(value): 1}
        resolved["data"]["target"] = value
        with pytest.raises(ConfigError) as caught:
            parse(resolved)
        assert len(caught.value.problems) >= 5
        assert TOKEN[:12] not in str(caught.value)


def test_a_credential_as_a_key_refuses_the_configuration() -> None:
    files = {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in (ROOT / "conf").rglob("*.yaml")}
    resolved = copy.deepcopy(compose(files).resolved)
    resolved["model"]["parameters"] = {TOKEN: 1}
    with pytest.raises(ConfigError, match="a GitHub token"):
        parse(resolved)


def test_a_credential_in_any_value_refuses_the_configuration_and_is_not_repeated() -> None:
    files = {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in (ROOT / "conf").rglob("*.yaml")}
    composed = compose(files)
    resolved = copy.deepcopy(composed.resolved)
    resolved["tags"] = ["fine", f"x {TOKEN}"]
    resolved["model"]["parameters"]["key"] = TOKEN
    with pytest.raises(ConfigError) as caught:
        parse(resolved, composed.origin)
    assert [problem.key for problem in caught.value.problems] == ["model.parameters.key", "tags.1"]
    assert "a GitHub token" in str(caught.value)
    assert TOKEN not in str(caught.value)
