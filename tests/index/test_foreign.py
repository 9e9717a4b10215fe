"""Records of other tools' runs: no credential that a tool tells gets into one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from cd4ml.index.foreign import ForeignRun, import_body, redactions

TOKEN = f"ghp_{'A1b2' * 9}"
URL = "postgresql://u:Passw0rd@h/x"
KEY = "-----BEGIN RSA PRIVATE KEY-----\nPassw0rd\n-----END RSA PRIVATE KEY-----"
PLAIN = ForeignRun("mlflow", "x", "x", "f" * 32, "name", "ada", "text", True, {"a": 1}, {"rmse": 1.0}, {}, None, None)


@pytest.mark.parametrize(
    "told",
    [
        {"params": {"token": TOKEN}},
        {"params": {"a": {"b": [URL, 1]}}},
        {"params": {"a": [{"b": URL}]}},
        {"params": {f"a.{TOKEN}": 1}},
        {"params": {"key": "x" * 3990 + TOKEN}},
        {"tags": {"key": KEY}},
        {"tags": {TOKEN: "x"}},
        {"metrics": {TOKEN: 1.0}},
        {"experiment": URL},
        {"name": TOKEN},
        {"author": URL},
        {"description": f"first line\n{KEY}"},
    ],
    ids=lambda told: str(*told),
)
def test_a_record_leaves_a_credential_out_and_counts_it(told: Mapping[str, Any]) -> None:
    run = replace(PLAIN, **told)
    text = json.dumps(import_body(run, "a" * 40))
    assert "ghp_" not in text
    assert "Passw0rd" not in text
    assert redactions(run) == 1


def test_a_run_without_credentials_is_told_as_it_is() -> None:
    assert redactions(PLAIN) == 0
    assert import_body(PLAIN, "a" * 40)["params"] == {"a": 1}
