"""A bare remote, clones of it, and records that writers land there without running anything."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from cd4ml.controller.landing.landed import read_history
from cd4ml.controller.project import Project
from cd4ml.gateways.git import open_repository
from cd4ml.index.history import History
from cd4ml.index.rows import rows
from tests.controller.writers import finished
from tests.index.index_world import run_body

ROOT = Path(__file__).parents[2]


def git(folder: Path, *arguments: str, code: int = 0) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == code, f"{arguments}: {done.stderr}"
    return done.stdout.strip()


def until(came: Callable[[], bool], seconds: float = 300.0) -> None:
    """Wait for a state of other processes; fail when it does not come."""
    deadline = time.monotonic() + seconds
    while not came():
        assert time.monotonic() < deadline, "what was waited for did not come"
        time.sleep(0.01)


@dataclass
class Writers:
    """Processes at work; ``pids`` are leaders of their groups."""

    process: subprocess.Popen[str]
    pids: list[int]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """After an error, end whoever is left: who is suspended would stay for ever."""
        for place in range(len(self.pids)) if kind else ():
            self.signal(place, signal.SIGKILL)

    def wake(self, place: int) -> None:
        """Let one go on that suspends itself, once it has."""
        until(lambda: self.state(place) in "TZ")
        assert self.state(place) == "T", "it ended before it suspended itself"
        self.signal(place, signal.SIGCONT)

    def state(self, place: int) -> str:
        """As ``ps`` tells it: ``T`` suspended, ``Z`` ended."""
        try:
            return Path(f"/proc/{self.pids[place]}/stat").read_text("utf-8").rsplit(")", 1)[1].split()[0]
        except OSError:
            return "Z"

    def signal(self, place: int, number: int) -> None:
        """To the whole group of one writer: it and the Git commands that it waits for. Harmless when it has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pids[place], number)

    def end(self) -> list[int]:
        """Wait for all; their exit codes (negative: the signal)."""
        assert self.process.stdout is not None
        codes: list[int] = json.loads(self.process.stdout.readline())
        assert self.process.wait(60) == 0
        return codes


@dataclass
class World:
    """``remote.git``, a clone for each writer, and their logs, in one folder."""

    folder: Path
    source: str
    tree: str
    _clones: int = field(default=0)

    @classmethod
    def make(cls, folder: Path) -> World:
        """A remote whose ``main`` has one commit. Its side of a push lives on when the client's is killed."""
        git(folder, "init", "--quiet", "--bare", "--initial-branch=main", "remote.git")
        git(folder, "clone", "--quiet", "remote.git", "first")
        first = folder / "first"
        for name in ("conf", "src", "data"):
            (first / name).mkdir()
            (first / name / "file.txt").write_text(name, "utf-8")
        git(first, "add", "--all")
        git(first, "commit", "--quiet", "-m", "A project")
        git(first, "push", "--quiet", "origin", "HEAD:refs/heads/main")
        git(first, "config", "remote.origin.url", str(folder / "remote.git"))
        git(first, "config", "remote.origin.receivepack", "setsid -w git-receive-pack")
        (folder / "logs").mkdir()
        return cls(folder, git(first, "rev-parse", "HEAD"), git(first, "rev-parse", "HEAD^{tree}"))

    @property
    def remote(self) -> Path:
        return self.folder / "remote.git"

    @property
    def stop(self) -> Path:
        """Whoever folds or reads until told to stop looks for this file."""
        return self.folder / "stop"

    def clone(self) -> Path:
        """A machine of its own."""
        self._clones += 1
        target = self.folder / f"clone{self._clones}"
        shutil.copytree(self.folder / "first", target)
        return target

    def record(self, label: object, number: int = 0, **changed: Any) -> dict[str, Any]:
        """A success of the fingerprint that a label stands for; ``number`` tells the runs of one apart."""
        finished_at = f"2026-11-03T{number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}Z"
        return run_body(label, commit=self.source, tree=self.tree, finished=finished_at, **changed)

    def worker(self, task: str, records: list[dict[str, Any]] | None = None, **more: Any) -> dict[str, Any]:
        """What one writer is to do, in a clone of its own unless one is given."""
        clone = more.pop("clone", None) or self.clone()
        log = self.folder / "logs" / f"{Path(clone).name}.log"
        known = {"clone": str(clone), "log": str(log), "stop": str(self.stop)}
        return {**known, "task": task, "records": records or [], **more}

    def start(self, specs: list[dict[str, Any]]) -> Writers:
        """Start all writers at once."""
        path = self.folder / "writers.json"
        path.write_text(json.dumps(specs), "utf-8")
        command = [sys.executable, "-m", "tests.controller.writers", str(path)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        return Writers(process, json.loads(process.stdout.readline()))

    def run(self, specs: list[dict[str, Any]]) -> list[int]:
        """Start them and wait for all."""
        return self.start(specs).end()

    def lines(self, word: str = "") -> list[list[str]]:
        """What the writers said, as words, of the lines that begin with one."""
        texts = [path.read_text("utf-8") for path in sorted((self.folder / "logs").glob("*.log"))]
        found = [line.split() for text in texts for line in text.splitlines()]
        return [words for words in found if not word or words[:1] == [word]]

    def finished(self) -> set[str]:
        return finished(self.folder / "logs")

    def history(self) -> History:
        """What a clone made just now reads."""
        project = Project(open_repository(self.clone()), "origin", "main")
        try:
            return read_history(project, project.repository.fetch("origin"), drafts=False)
        finally:
            project.repository.close()

    def results(self) -> dict[str, list[str]]:
        """The ids of the results of each fingerprint, as a search lists them; there should be one."""
        found: dict[str, list[str]] = {}
        for row in rows(self.history(), {}):
            if row.role == "result":
                found.setdefault(str(row.fingerprint), []).append(row.id)
        return found

    def refs(self, prefix: str) -> list[str]:
        return git(self.remote, "for-each-ref", "--format=%(refname)", prefix).split()

    def indexed(self) -> list[str]:
        """The ids of all folded runs, one for each file."""
        listed = git(self.remote, "ls-tree", "-r", "--name-only", "refs/heads/cd4ml/index", "runs")
        return re.findall(r"(r[0-9a-f]{20})\.json$", listed, re.MULTILINE)

    def held(self) -> set[str]:
        """The ids of all records that the remote has, folded or landed, as Git alone tells them."""
        landed = {ref.rpartition("/")[2] for ref in self.refs("refs/cd4ml/landing/")}
        return landed | set(self.indexed() if self.refs("refs/heads/cd4ml/index") else ())

    def assert_sound(self, expected: set[str]) -> None:
        """Exactly these records are folded, each once; nothing else is left, and Git finds nothing wrong."""
        indexed = self.indexed()
        assert len(indexed) == len(set(indexed))
        assert set(indexed) == expected
        assert self.finished() <= expected
        assert self.refs("refs/cd4ml/") == []
        git(self.remote, "fsck", "--strict", "--no-dangling")
        history = self.history()
        assert {entry.run.id for entry in history.runs} == expected
        for entry in history.runs:
            assert entry.run.commit == self.source
            assert git(self.remote, "rev-parse", f"{entry.entry.result_commit}^") == self.source
