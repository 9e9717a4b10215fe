"""Commands inside the test's own process (a new one costs its imports), and branches made without a work tree."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cd4ml.cli.app import run
from tests.conftest import Shell

BASELINE = "conf/experiment/baseline.yaml"
OTHER_SEED = "# @package _global_\nname: other\nseed: {seed}\n"
RECORDS = "refs/cd4ml/landing/"


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads(self.out)
        return loaded

    @property
    def lines(self) -> list[str]:
        """What it had to say on stderr, without the progress of runs."""
        return [line for line in self.err.splitlines() if line.startswith("cd4ml:")]


def cd4ml(shell: Shell, *arguments: str, code: int | None = 0, **environment: str) -> Done:
    """A command line, run here; it must end with ``code`` unless that is nothing."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**shell.environment, **environment}.items():
            patch.setenv(name, value)
        patch.syspath_prepend(shell.environment["PYTHONPATH"])
        with redirect_stdout(out), redirect_stderr(err):
            found = run(["-C", str(shell.folder), *arguments])
    done = Done(found, out.getvalue(), err.getvalue())
    assert code is None or done.code == code, f"{arguments}: {done.code}\n{done.out}\n{done.err}"
    return done


def experiments(shell: Shell, verb: str = "status", *arguments: str) -> dict[str, dict[str, Any]]:
    """The items of ``status`` (or ``plan``) by branch."""
    return {item["branch"]: item for item in cd4ml(shell, verb, *arguments, "--json").json["experiments"]}


def runs(shell: Shell, text: str = "") -> list[dict[str, Any]]:
    """What ``search`` finds."""
    found: list[dict[str, Any]] = cd4ml(shell, "search", text, "--json").json["runs"]
    return found


def holding(folder: Path, text: bytes) -> list[Path]:
    """The files below a folder that hold these bytes; what is gone by then, as SQLite's own files are, holds none."""
    found = []
    for path in (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()):
        with suppress(FileNotFoundError):
            found += [path] if text in path.read_bytes() else []
    return found


def remote(shell: Shell) -> Shell:
    """The same in the bare repository."""
    return shell.at(shell.folder.parent / "remote.git")


def refs(shell: Shell) -> dict[str, str]:
    """Every ref of a repository."""
    listed = shell.run("git", "for-each-ref", "--format=%(refname) %(objectname)")
    return dict(line.rsplit(" ", 1) for line in listed.splitlines())


def git(shell: Shell, *arguments: str, stdin: bytes = b"", environment: Mapping[str, str] | None = None) -> str:
    """``git`` with bytes on stdin."""
    done = subprocess.run(
        ["git", *arguments],
        cwd=shell.folder,
        env={**os.environ, **(environment or {})},
        input=stdin,
        capture_output=True,
        check=True,
    )
    return done.stdout.decode().strip()


@dataclass(frozen=True)
class Link:
    """A symbolic link to commit."""

    target: str


Content = str | bytes | Link | None


def commit(
    shell: Shell, base: str, files: Mapping[str, Content], message: str = "A change\n", **environment: str
) -> str:
    """A commit on ``base`` with these files put in (nothing removes one), without touching index or work tree."""
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        git(shell, "read-tree", base, environment=index)
        lines = []
        for path, content in files.items():
            if content is None:
                lines.append(f"0 {'0' * 40}\t{path}\0")
                continue
            mode = "120000" if isinstance(content, Link) else "100644"
            data = content.target if isinstance(content, Link) else content
            blob = git(
                shell,
                "hash-object",
                "-w",
                "--no-filters",
                "--stdin",
                stdin=data.encode() if isinstance(data, str) else data,
            )
            lines.append(f"{mode} {blob}\t{path}\0")
        git(shell, "update-index", "-z", "--index-info", stdin="".join(lines).encode(), environment=index)
        tree = git(shell, "write-tree", environment=index)
    return git(shell, "commit-tree", tree, "-p", base, stdin=message.encode(), environment=environment)


def push(shell: Shell, ref: str, revision: str, *options: str) -> None:
    """Put a commit under a full ref name on the remote."""
    shell.run("git", "push", "--quiet", *options, "origin", f"{revision}:{ref}")


def branch(
    shell: Shell, name: str, files: Mapping[str, Content], message: str = "A change\n", **environment: str
) -> str:
    """A branch on the remote (only) with one commit on ``main``; gives the commit."""
    made = commit(shell, "main", files, message, **environment)
    push(shell, f"refs/heads/{name}", made)
    return made


def experiment(shell: Shell, name: str, **values: object) -> str:
    """A branch on the remote whose experiment sets these keys of the root, such as ``seed``."""
    text = "# @package _global_\n" + "".join(f"{key}: {json.dumps(value)}\n" for key, value in values.items())
    return branch(shell, name, {BASELINE: text})


def gusty(shell: Shell) -> dict[str, Content]:
    """A root that asks for expectations which the data does not meet."""
    config = git(shell, "show", "main:conf/config.yaml").replace("validation: flights", "validation: gusts")
    return {"conf/config.yaml": config + "\n"}


def rejected(shell: Shell, name: str, seed: int = 1) -> str:
    """A branch whose data its expectations reject: the cheapest run there is."""
    return branch(shell, name, {**gusty(shell), BASELINE: OTHER_SEED.format(seed=seed)})


def remember_compositions(shell: Shell) -> None:
    """Let a clone know what tests ask for most, as one knows whatever it has composed; no branch comes to be.

    To compose takes as long as to run, and what was composed is known by the tree of ``conf/`` alone.
    """
    asked: list[dict[str, Content]] = [{BASELINE: f"# @package _global_\nseed: {seed}\n"} for seed in (2, 3, 5)]
    asked += [{**gusty(shell), BASELINE: OTHER_SEED.format(seed=seed)} for seed in (1, 2)]
    with tempfile.TemporaryDirectory() as folder:
        aside = shell.at(Path(folder) / "aside")
        shutil.copytree(shell.folder, aside.folder, symlinks=True)
        for files in asked:
            cd4ml(aside, "config", commit(aside, "main", files))
        known = Path(".git/cd4ml/specs")
        shutil.copytree(aside.folder / known, shell.folder / known, dirs_exist_ok=True)
