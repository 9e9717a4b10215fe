"""Runs that were never run: the record of a real one, changed, and landed beside a commit of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cd4ml.index.record import RECORD_PATH, encode, seal
from cd4ml.spec.canonical import digest
from tests.conftest import Shell
from tests.controller.controller_world import RECORDS, Content, commit, git, push, remote


def result_of_main(shell: Shell) -> dict[str, Any]:
    """The record of the base branch's result, as the index holds it."""
    for path in git(remote(shell), "ls-tree", "-r", "--name-only", "cd4ml/index").splitlines():
        if path.startswith("runs/"):
            body: dict[str, Any] = json.loads(git(remote(shell), "show", f"cd4ml/index:{path}"))["record"]
            return body
    raise AssertionError("the project has no run")


def land(
    shell: Shell, body: Mapping[str, Any], source: Mapping[str, Content] | None = None, **changed: Any
) -> dict[str, Any]:
    """Land a run like ``body`` of a commit with ``source`` put in; its fingerprint follows from ``components``."""
    base = commit(shell, str(body["commit"]), source) if source else str(body["commit"])
    content = {key: value for key, value in body.items() if key != "id"} | changed
    content |= {"commit": base, "tree": git(shell, "rev-parse", f"{base}^{{tree}}")}
    content["fingerprint"] = digest({name: content["components"][name] for name in body["components"]})
    sealed = seal(content)
    push(shell, RECORDS + sealed["id"], commit(shell, base, {RECORD_PATH: encode(sealed)}))
    return sealed


def let_go(shell: Shell, body: Mapping[str, Any], reason: str) -> None:
    """Land a record that says that the artefacts of a run were freed."""
    told = {"kind": "removal", "run": body["id"], "commit": git(shell, "rev-parse", "main"), "what": "artefacts"}
    told |= {"reason": reason, "rule": "keep: none", "by": "Ada <ada@example.org>", "at": "2026-11-03T10:00:00Z"}
    sealed = seal({**told, "objects": []})
    push(shell, RECORDS + sealed["id"], commit(shell, told["commit"], {RECORD_PATH: encode(sealed)}))


def other(body: Mapping[str, Any], name: str, label: object) -> dict[str, str]:
    """The components of a run, one of them another."""
    return {**body["components"], name: digest([name, label])}
