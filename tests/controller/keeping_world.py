"""Runs that are in the index, with stored objects of the right digests, without running anything."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cd4ml.controller.landing.fold import fold_landed
from cd4ml.controller.project import Project, open_project
from cd4ml.gateways.git import LANDING, RefUpdate
from cd4ml.index.record import RECORD_PATH, encode, seal
from cd4ml.spec.pipeline import MODEL, PREDICTIONS
from tests.conftest import Shell
from tests.controller.controller_world import BASELINE, OTHER_SEED, commit, git, push
from tests.index.index_world import run_body

TABLE = "artifacts/ingest/table.parquet"
OLD = 40 * 24 * 3600
CONFIG = "conf/config.yaml"
EMPTY = "index:\n  let_go: []\n  erasers: []\n"


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def project_of(shell: Shell) -> Project:
    return open_project(shell.folder)


def cache(shell: Shell) -> Path:
    return shell.folder / ".dvc/cache/files/md5"


def storage(shell: Shell) -> Path:
    return shell.folder.parent / "storage/files/md5"


def listing(folder: Path) -> dict[str, bytes]:
    """What a place for objects holds, by the objects' names."""
    paths = (path for path in folder.glob("*/*") if path.is_file())
    return {path.parent.name + path.name: path.read_bytes() for path in paths}


def put(shell: Shell, data: bytes, age: float = OLD, ending: str = "") -> str:
    """An object in the cache and on the DVC remote, so many seconds old; gives its name."""
    name = md5(data) + ending
    for folder in (cache(shell), storage(shell)):
        path = folder / name[:2] / name[2:]
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            path.chmod(0o444)
        os.utime(path, (time.time() - age,) * 2)
    return name


def described(data: bytes) -> dict[str, Any]:
    return {"md5": md5(data), "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


@dataclass(frozen=True)
class Planted:
    """A run in the index and its objects by path."""

    id: str
    commit: str
    result_commit: str
    branch: str
    outputs: dict[str, bytes]

    @property
    def objects(self) -> set[str]:
        return {md5(data) for data in self.outputs.values()}


def outputs_of(label: str, table: str = "") -> dict[str, bytes]:
    """A model and predictions of its own, and a table that runs may share."""
    return {
        MODEL: f"the model of {label}".encode(),
        PREDICTIONS: f"the predictions of {label}".encode(),
        TABLE: f"the table of {table or label}".encode(),
    }


def plant(
    shell: Shell,
    label: str,
    *,
    table: str = "",
    outputs: dict[str, bytes] | None = None,
    age: float = OLD,
    fold: bool = True,
) -> Planted:
    """A succeeded run of the branch ``exp/LABEL``, which is a change to main; the branch is not pushed."""
    seed = int(hashlib.sha256(label.encode()).hexdigest()[:6], 16)
    source = commit(shell, "main", {BASELINE: OTHER_SEED.format(seed=seed)})
    made = outputs_of(label, table) if outputs is None else outputs
    for data in made.values():
        put(shell, data, age)
    body = run_body(
        label,
        branch=f"exp/{label}",
        commit=source,
        tree=git(shell, "rev-parse", f"{source}^{{tree}}"),
        files={path: described(data) for path, data in made.items()},
        data={name: {"digest": "0" * 64, "rows": 3} for name in ("flights", "weather", "planes")},
        name=label,
    )
    landed = land(shell, body)
    if fold:
        project = project_of(shell)
        assert fold_landed(project, project.repository.fetch(project.remote)) == ()
    return Planted(body["id"], source, landed, f"exp/{label}", made)


def land(shell: Shell, body: dict[str, Any]) -> str:
    """Put a record on the remote as a run lands it; gives the result commit."""
    project = project_of(shell)
    repository = project.repository
    tree = repository.write_tree(body["commit"], {RECORD_PATH: encode(body)})
    made = repository.commit_tree(tree, (body["commit"],), f"cd4ml: result {body['id']}\n")
    repository.push(project.remote, [RefUpdate(LANDING + body["id"], "", made)])
    return made


def land_removal_of(shell: Shell, run: str, objects: set[str], what: str) -> None:
    """Put a removal record on the remote as anybody may who can push its ref."""
    body = {"kind": "removal", "run": run, "commit": git(shell, "rev-parse", "main"), "what": what, "rule": "x"}
    told = {"reason": "rule x", "by": "Eve", "at": "2026-11-03T10:00:00Z"}
    land(shell, seal({**body, **told, "objects": [{"md5": name, "bytes": 1} for name in sorted(objects)]}))


def outputs_in_index(shell: Shell, run: dict[str, Any]) -> set[str]:
    """The names of the stored outputs of a run, as ``search`` tells of it."""
    record = json.loads(git(shell, "show", f"{run['result_commit']}:{RECORD_PATH}"))
    return {known["md5"] for path, known in record["files"].items() if path.startswith("artifacts/")}


def clone(team: Shell, name: str = "second") -> Shell:
    folder = team.folder.parent / name
    team.run("git", "clone", "--quiet", str(team.folder.parent / "remote.git"), str(folder))
    return team.at(folder)


def copies(team: Shell) -> Shell:
    """Another clone, which has everything in its cache and copies of raw data that this one has."""
    second = clone(team)
    for folder in (".dvc/cache/files/md5", ".git/cd4ml/raw"):
        (second.folder / folder).parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", str(team.folder / folder), str(second.folder / folder)], check=True)
    return second


def make_old(shell: Shell) -> None:
    """Everything in the cache and on the DVC remote was written long ago."""
    for place in (cache(shell), storage(shell)):
        for path in place.glob("*/*"):
            os.utime(path, (time.time() - OLD,) * 2)


def rule(shell: Shell, *filters: str, erasers: str = "[]", branch: str = "main") -> None:
    """Retention rules on a branch of the remote, made of ``main``; those of ``main`` in this clone's as well."""
    listed = "[" + ", ".join(f'"{text}"' for text in filters) + "]"
    config = git(shell, "show", f"main:{CONFIG}") + "\n"
    start = config.index("index:\n  let_go:")
    changed = config[:start] + f"index:\n  let_go: {listed}\n  erasers: {erasers}\n"
    made = commit(shell, "main", {CONFIG: changed})
    push(shell, f"refs/heads/{branch}", made)
    if branch == "main":
        git(shell, "update-ref", "refs/heads/main", made)
