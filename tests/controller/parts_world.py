"""A project with two clones: one executes, the other lands. What was executed can be changed before it is landed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from cd4ml.gateways.files import digest_file
from tests.conftest import Shell
from tests.controller.controller_world import cd4ml, experiment, git, rejected, remote


@dataclass(frozen=True)
class Parts:
    """``project`` is the scientist's clone, ``runner`` executes, ``lander`` lands what lies in ``bundles``."""

    folder: Path
    environment: Mapping[str, str]

    @property
    def project(self) -> Shell:
        return Shell(self.folder / "project", dict(self.environment))

    @property
    def runner(self) -> Shell:
        return self.project.at(self.folder / "runner")

    @property
    def lander(self) -> Shell:
        return self.project.at(self.folder / "lander")

    @property
    def bundles(self) -> Path:
        return self.folder / "bundles"

    def bundle(self, branch: str) -> Path:
        """The folder of the one bundle of a branch."""
        (found,) = (path for path in self.bundles.glob("*/bundle.json") if told(path.parent)["branch"] == branch)
        return found.parent


def told(bundle: Path) -> dict[str, Any]:
    """What a bundle says of itself."""
    loaded: dict[str, Any] = json.loads((bundle / "bundle.json").read_text("utf-8"))
    return loaded


def retell(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Let a bundle say something else of itself."""
    said = told(bundle)
    change(said)
    (bundle / "bundle.json").write_text(json.dumps(said), "utf-8")


def made_from(template: Path, folder: Path, environment: Mapping[str, str]) -> Parts:
    """The template's project, ``exp/x`` (which succeeds) and ``exp/bad`` (whose data is rejected) executed."""
    shutil.copytree(template, folder, symlinks=True)
    parts = Parts(folder, environment)
    experiment(parts.project, "exp/x", seed=3)
    rejected(parts.project, "exp/bad")
    for name in ("runner", "lander"):
        git(parts.project, "clone", "--quiet", "../remote.git", f"../{name}")
    cd4ml(parts.runner, "execute", "--output", str(parts.bundles))
    return parts


def copied(parts: Parts, folder: Path) -> Parts:
    """A copy to change; its clones stay clones of its own remote, whose paths are relative."""
    shutil.copytree(parts.folder, folder, symlinks=True)
    copy = Parts(folder, parts.environment)
    for shell in (copy.runner, copy.lander):
        git(shell, "remote", "set-url", "origin", os.path.relpath(remote(copy.project).folder, shell.folder))
    return copy


def assert_published(told: dict[str, Any], name: str) -> None:
    """What ``--json`` printed has the shape that is published for the list of that name."""
    path = Path(__file__).parents[2] / "docs" / "schemas" / f"{name}.schema.json"
    Draft202012Validator(json.loads(path.read_text("utf-8"))).validate(told)


def records(shell: Shell) -> dict[str, dict[str, Any]]:
    """Every record of the index by its id."""
    listed = git(remote(shell), "ls-tree", "-r", "--name-only", "cd4ml/index").splitlines()
    found = [path for path in listed if path.startswith(("runs/", "experiments/"))]
    loaded = [json.loads(git(remote(shell), "show", f"cd4ml/index:{path}"))["record"] for path in found]
    return {record["id"]: record for record in loaded}


def run_of(shell: Shell, branch: str) -> dict[str, Any]:
    """The one run of a branch."""
    (found,) = (one for one in records(shell).values() if one["kind"] == "run" and one["branch"] == branch)
    return found


def forge(bundle: Path, path: str, data: bytes) -> None:
    """Put other bytes in a bundle, and let it promise them."""
    file = bundle / "files" / path
    file.write_bytes(data)
    retell(bundle, lambda said: said["files"].update({path: vars(digest_file(file))}))


def only(parts: Parts, branch: str) -> Path:
    """The bundle of one branch, with the other out of the way."""
    bundle = parts.bundle(branch)
    for path in parts.bundles.iterdir():
        if path.is_dir() and path != bundle:
            path.rename(parts.folder / path.name)
    return bundle
