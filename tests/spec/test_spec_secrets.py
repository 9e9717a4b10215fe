"""Credentials in configuration are found before anything is run or recorded."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from cd4ml.errors import ConfigError
from cd4ml.gateways.hydra import compose
from cd4ml.spec.parse import parse
from cd4ml.spec.secrets import secret_kind

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
        ("https://host/path:8080@tag", None),
        ("https://host:8080/path", None),
        ("Depth helps: see page 12", None),
    ],
)
def test_a_credential_is_known_by_its_published_form(text: str, kind: str | None) -> None:
    assert secret_kind(text) == kind


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
