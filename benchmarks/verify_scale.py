"""What ``cd4ml verify`` costs on an index of very many runs, with ``git fsck --full`` of the same clone beside it.

    python benchmarks/verify_scale.py --count 10000

First a project is made, and its base branch run once, really: what a run leaves is what verify asks for, to the last
digest. The other runs are derived from that one, with a source commit, a seed, parameters, a lock file, metrics and a
record of their own, and a result commit that is a parent of the fold that took it in. Their outputs are told apart by
``--results``: so many distinct results there are, each with a model, predictions and metrics of its own, in the DVC
cache and on the DVC remote (``--results 0``: one for each run, as where nothing is ever computed twice). Git gets all
that by ``git fast-import``, in the temporary folder ``--folder`` or one of its own.

Then every command is a new process, measured in seconds of processors (its children's too) and in the most memory
that one process held: ``git fsck --full``; ``cd4ml verify``, the first time (``first``) and again, with ``--json`` and
with ``--quick``; and the first look of a fresh clone at the index, as a chain of folds and as the one commit of an
epoch.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from synthetic_index import envelope_of  # type: ignore[import-not-found]  # found beside this file

from cd4ml.index.epoch import Epoch, epoch_message
from cd4ml.index.fold import ENTRY_FOLDERS
from cd4ml.index.record import RECORD_PATH, Entry, as_record, encode, seal
from cd4ml.promotion.summary import PAGE_FILE, SUMMARY_FILE, encode_summary, grown, parse_summary
from cd4ml.report.page import index_page
from cd4ml.spec.canonical import digest
from cd4ml.spec.pipeline import LOCK_FILE, METRICS, MODEL, PARAMS_FILE, PREDICTIONS

FOLD_OF = 100
"""Records that one fold takes in."""
RUNS_OF_BRANCH = 10
"""Runs of one branch, each of a commit on top of the one before; the last has an experiment record."""

INDEX = "refs/heads/cd4ml/index"
EXPERIMENT = "conf/experiment/baseline.yaml"
BIN = Path(sys.executable).parent
WHO = "Judge <judge@example.org>"
COMMITTER = f"committer {WHO} 1760000000 +0000"
OWN = (MODEL, "artifacts/train/model.json", PREDICTIONS, METRICS, "artifacts/evaluate/residuals.csv")
"""Outputs that differ from result to result."""


def sh(folder: Path, *command: str, data: bytes = b"") -> str:
    """Output of a command that must succeed."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", **_IDENTITY}
    done = subprocess.run(command, cwd=folder, input=data, stdout=subprocess.PIPE, check=True, env=env)
    return done.stdout.decode().strip()


_IDENTITY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "Judge"), ("EMAIL", "judge@example.org"))
}


# ── the project ──


def make_world(folder: Path, count: int, results: int) -> Path:
    """A bare remote with a project and an index of ``count`` runs and more, and a clone of it; gives the clone."""
    project, remote, clone = folder / "project", folder / "remote.git", folder / "clone"
    sh(folder, "git", "init", "--quiet", "--bare", "--initial-branch=main", "remote.git")
    sh(folder, str(BIN / "cd4ml"), "init", "project", "--storage", "../storage")
    sh(project, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "eraser", "-f", str(folder / "key"))
    _name_eraser(project / "conf/config.yaml", (folder / "key.pub").read_text("utf-8").strip())
    sh(project, str(BIN / "cd4ml"), "data", "update")
    sh(project, "git", "add", "--all")
    sh(project, "git", "commit", "--quiet", "--message", "A project")
    sh(project, "git", "remote", "add", "origin", "../remote.git")
    sh(project, "git", "push", "--quiet", "--set-upstream", "origin", "HEAD:main")
    sh(project, str(BIN / "cd4ml"), "reconcile", "main")
    Index(folder, count, results).write()
    sh(folder, "git", "clone", "--quiet", f"file://{remote}", str(clone))
    shutil.move(project / ".dvc/cache", clone / ".dvc/cache")
    return clone


def _name_eraser(path: Path, key: str) -> None:
    """Name who may begin an epoch."""
    text = path.read_text("utf-8")
    told = f'index:\n  let_go: []\n  erasers: [{{name: "Judge <judge@example.org>", key: "{key}"}}]\n'
    assert text.count("index:\n  let_go: []\n  erasers: []\n") == 1  # noqa: S101  # a script's
    path.write_text(text.replace("index:\n  let_go: []\n  erasers: []\n", told), "utf-8")


# ── the index ──


@dataclass(frozen=True)
class Result:
    """One of the distinct results: what ``files`` of a record says of its outputs, its metrics and its lock file."""

    files: Mapping[str, Any]
    metrics: Mapping[str, Any]
    metrics_file: bytes
    lock: str


class Index:
    """The runs, derived from the one that was run, and the folds that take them in."""

    def __init__(self, folder: Path, count: int, results: int) -> None:
        self._folder, self._remote, self._count = folder, folder / "remote.git", count
        self._main = sh(self._remote, "git", "rev-parse", "main")
        self._tip = sh(self._remote, "git", "rev-parse", INDEX)
        listed = sh(self._remote, "git", "ls-tree", "-r", "--name-only", INDEX, "runs/").splitlines()
        envelope = json.loads(self._read(f"{INDEX}:{listed[0]}"))
        self._run: dict[str, Any] = envelope["record"]
        commit = envelope["result_commit"]
        self._params, self._lock = (self._read(f"{commit}:{path}").decode() for path in (PARAMS_FILE, LOCK_FILE))
        self._results = [self._result(number) for number in range(min(results or count, count))]

    def _read(self, name: str) -> bytes:
        command = ["git", "cat-file", "blob", name]
        return subprocess.run(command, cwd=self._remote, stdout=subprocess.PIPE, check=True).stdout

    def _result(self, number: int) -> Result:
        """Another result: its outputs are put into the cache and on the DVC remote."""
        metrics = {
            side: {name: value + number / 1e7 for name, value in values.items()}
            for side, values in self._run["metrics"].items()
        }
        files, lock = dict(self._run["files"]), self._lock
        for path in OWN:
            data = f"{path} of result {number}\n".encode()
            if path == METRICS:
                data = (json.dumps(metrics, indent=1, sort_keys=True) + "\n").encode()
            old = files[path]
            md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
            files[path] = {"md5": md5, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
            before = f"md5: {old['md5']}\n      size: {old['bytes']}\n"
            lock = lock.replace(before, f"md5: {md5}\n      size: {len(data)}\n")
            for place in (self._folder / "project/.dvc/cache", self._folder / "storage"):
                target = place / "files/md5" / md5[:2] / md5[2:]
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
                target.chmod(0o444)
        return Result(files, metrics, (json.dumps(metrics, indent=1, sort_keys=True) + "\n").encode(), lock)

    def write(self) -> None:
        """Put runs and folds on the remote."""
        sources = self._import(self._sources())
        trees = self._trees(sources)
        bodies = list(self._bodies(sources, trees))
        landed = self._import(self._landed(bodies))
        self._import(self._folds(bodies, landed))

    def _import(self, stream: Iterator[bytes]) -> list[str]:
        """Feed ``git fast-import``; gives the marked commits in the order of their marks."""
        marks = self._folder / "marks"
        command = ["git", "fast-import", "--quiet", "--force", "--date-format=raw", f"--export-marks={marks}"]
        with subprocess.Popen(command, cwd=self._remote, stdin=subprocess.PIPE) as importer:
            assert importer.stdin is not None  # noqa: S101  # it is a pipe
            for part in stream:
                importer.stdin.write(part)
            importer.stdin.close()
            if importer.wait():
                raise RuntimeError("git fast-import failed")
        told = (line.removeprefix(":").split(" ") for line in marks.read_text("utf-8").splitlines())
        return [commit for _, commit in sorted((int(mark), commit) for mark, commit in told)]

    def _seed(self, number: int) -> int:
        return 1_000_000 + number

    def _sources(self) -> Iterator[bytes]:
        for number in range(self._count):
            over = self._main if number % RUNS_OF_BRANCH == 0 else f":{number}"
            text = f"# @package _global_\nname: baseline\nseed: {self._seed(number)}\n".encode()
            yield _commit("refs/benchmark/sources", number + 1, "an experiment", over) + _file(EXPERIMENT, text)
        yield b"reset refs/benchmark/sources\nfrom " + b"0" * 40 + b"\n\n"

    def _trees(self, commits: Sequence[str]) -> list[str]:
        asked = "".join(f"{commit}^{{tree}}\n" for commit in commits).encode()
        return sh(self._remote, "git", "cat-file", "--batch-check=%(objectname)", data=asked).split()

    def _bodies(self, sources: Sequence[str], trees: Sequence[str]) -> Iterator[dict[str, Any]]:
        """The records, sealed, each run's followed by the experiment's where there is one."""
        for number, (commit, tree) in enumerate(zip(sources, trees, strict=True)):
            result = self._results[number % len(self._results)]
            parts = {**self._run["components"], "spec": hashlib.sha256(str(number).encode()).hexdigest()}
            began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(1_767_225_600 + 60 * number))
            run = seal(
                {
                    **self._run,
                    "commit": commit,
                    "tree": tree,
                    "branch": f"exp/b{number // RUNS_OF_BRANCH}",
                    "components": parts,
                    "fingerprint": digest(parts),
                    "params": {**self._run["params"], "seed": self._seed(number)},
                    "files": result.files,
                    "metrics": result.metrics,
                    "model": {
                        **self._run["model"],
                        "digest": result.files[MODEL]["sha256"],
                        "bytes": result.files[MODEL]["bytes"],
                    },
                    "started": began,
                    "finished": began,
                }
            )
            yield run
            if number % RUNS_OF_BRANCH == RUNS_OF_BRANCH - 1:
                yield _experiment(run)

    def _landed(self, bodies: Sequence[dict[str, Any]]) -> Iterator[bytes]:
        """The landed commits of the records, marked from 1."""
        number = 0
        for mark, body in enumerate(bodies, 1):
            made = _commit("refs/benchmark/landed", mark, f"cd4ml: {body['kind']} {body['id']}", body["commit"])
            made += _file(RECORD_PATH, encode(body))
            if body["kind"] == "run":
                result, seed = self._results[number % len(self._results)], f"seed: {self._seed(number)}\n"
                old = f"seed: {self._run['params']['seed']}\n"
                made += _file(PARAMS_FILE, self._params.replace(old, seed).encode())
                made += _file(LOCK_FILE, result.lock.replace(old, seed).encode())
                made += _file(METRICS, result.metrics_file)
                number += 1
            yield made
        yield b"reset refs/benchmark/landed\nfrom " + b"0" * 40 + b"\n\n"

    def _folds(self, bodies: Sequence[dict[str, Any]], landed: Sequence[str]) -> Iterator[bytes]:
        summary = parse_summary(self._read(f"{self._tip}:{SUMMARY_FILE}"))
        pairs = list(zip(bodies, landed, strict=True))
        for first in range(0, len(pairs), FOLD_OF):
            number = summary["folds"] + 1
            some = sorted(pairs[first : first + FOLD_OF], key=lambda pair: str(pair[0]["id"]))
            entries = [
                Entry(as_record(body), hashlib.sha256(encode(body)).hexdigest(), commit, WHO, number)
                for body, commit in some
            ]
            summary = grown(summary, entries, frozenset())
            made = _commit(INDEX, 0, f"cd4ml: fold {len(some)} records", self._tip if first == 0 else "")
            made += "".join(f"merge {commit}\n" for _, commit in some).encode()
            made += b"".join(_file(*envelope_of(body, number, commit)) for body, commit in some)
            yield made + _file(SUMMARY_FILE, encode_summary(summary)) + _file(PAGE_FILE, index_page(summary).encode())


def _experiment(run: Mapping[str, Any]) -> dict[str, Any]:
    return seal(
        {
            "kind": "experiment",
            "branch": run["branch"],
            "commit": run["commit"],
            "author": "Ada <ada@example.org>",
            "committed": run["started"],
            "name": run["name"],
            "hypothesis": "Another seed does better.",
            "tags": ["seeds"],
            "is_base": False,
            "fingerprint": run["fingerprint"],
            "merge_fingerprint": None,
            "merge_commit": None,
            "conflicts": [],
            "problems": [],
            "answer": {"head": run["id"], "merge": None},
            "conclusion": "",
            "noted_by": "",
        }
    )


def _commit(ref: str, mark: int, message: str, over: str) -> bytes:
    marked = f"mark :{mark}\n" if mark else ""
    begins = f"from {over}\n" if over else ""
    return f"commit {ref}\n{marked}{COMMITTER}\ndata {len(message.encode())}\n{message}\n{begins}".encode()


def _file(path: str, data: bytes) -> bytes:
    return f"M 100644 inline {path}\ndata {len(data)}\n".encode() + data + b"\n"


def begin_epoch(folder: Path) -> None:
    """Put all entries into the one signed commit of a second epoch, which replaces the index."""
    from cd4ml.gateways.git import open_repository
    from cd4ml.index.envelope import read_envelope
    from cd4ml.index.epoch import kept_commits

    remote = folder / "remote.git"
    sh(remote, "git", "config", "user.signingkey", str(folder / "key"))
    repository = open_repository(remote)
    tip = sh(remote, "git", "rev-parse", INDEX)
    files = repository.read_tree(tip)
    entries = [read_envelope(data, path) for path, data in files.items() if path.startswith(ENTRY_FOLDERS)]
    summary = {**parse_summary(files[SUMMARY_FILE]), "epoch": 2}
    derived = {SUMMARY_FILE: encode_summary(summary), PAGE_FILE: index_page(summary).encode()}
    tree = repository.write_tree(tip, derived)
    message = epoch_message(Epoch(2, tip), 0)
    commit = repository.signed_commit(tree, kept_commits(entries), message, WHO, "2026-11-03T10:00:00Z")
    sh(remote, "git", "update-ref", INDEX, commit, tip)


# ── measuring ──


@dataclass(frozen=True)
class Cost:
    """Seconds of the clock and of processors, with its children's; MiB: of the largest process, and of all at once."""

    wall: float
    cpu: float
    largest: float
    together: float

    def line(self, what: str, count: int) -> str:
        """What it was, for people."""
        each = 1000 * self.cpu / count
        told = f"{what}: {self.cpu:.1f} s of processors ({each:.2f} ms a run), {self.wall:.1f} s"
        return f"{told}; {self.largest:.0f} MiB in the largest process, {self.together:.0f} in all at once"


def cost(folder: Path, *command: str, status: int = 0) -> Cost:
    """Of a command that must end so."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, env=env)
    watched = _Watched(process.pid)
    assert process.stdout is not None  # noqa: S101  # it is a pipe
    said = process.stdout.read()
    _, code, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    watched.end()
    process.returncode = os.waitstatus_to_exitcode(code)
    if process.returncode != status:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {said[-2000:].decode()}")
    return Cost(wall, used.ru_utime + used.ru_stime, watched.largest, watched.together)


class _Watched:
    """Looks at the memory of a process and of those that it starts, until ``end``; MiB."""

    def __init__(self, pid: int) -> None:
        self.largest = self.together = 0.0
        self._pid, self._over = pid, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def end(self) -> None:
        """Look no more."""
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            sizes = [_own_memory(pid) for pid in _family(self._pid)]
            self.largest, self.together = max((self.largest, *sizes)), max(self.together, sum(sizes))


def _family(pid: int) -> Iterator[int]:
    yield pid
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [child for task in tasks for child in (task / "children").read_text("ascii").split()]
    except OSError:
        return
    for child in children:
        yield from _family(int(child))


def _own_memory(pid: int) -> float:
    """MiB that are this process's own: what Git maps of its packs is the file's."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon:")) / 1024


def measure(options: argparse.Namespace, folder: Path) -> None:
    """Make what is to be looked at, look, and print."""
    count, clone = options.count, folder / "clone"
    if not clone.exists():
        make_world(folder, count, options.results)
        say(f"{count} runs, {options.results or count} distinct results, in {folder}")
    cd4ml = str(BIN / "cd4ml")
    for part in options.parts.split(","):
        if part == "fsck":
            say(cost(clone, "git", "fsck", "--full", "--no-dangling", "--no-progress").line("git fsck --full", count))
        elif part == "look":
            say(cost(*_fresh(folder), sys.executable, __file__, "--look", "fresh").line("first look", count))
        elif part == "epoch":
            begin_epoch(folder)
            say(cost(*_fresh(folder), sys.executable, __file__, "--look", "fresh").line("the same, an epoch", count))
        else:
            arguments = {"json": ["--json"], "quick": ["--quick"]}.get(part, [])
            say(cost(clone, cd4ml, "verify", *arguments).line(" ".join(["cd4ml verify", *arguments]), count))


def _fresh(folder: Path) -> tuple[Path]:
    """A clone that remembers nothing."""
    shutil.rmtree(folder / "fresh", ignore_errors=True)
    sh(folder, "git", "clone", "--quiet", f"file://{folder / 'remote.git'}", "fresh")
    return (folder / "fresh",)


def look() -> None:
    """Look at the index of the project in this folder, and at nothing else."""
    from cd4ml.controller.landing import trust
    from cd4ml.controller.project import open_project

    found = trust.look(open_project(Path.cwd()))
    if found.findings:
        raise SystemExit(str(found.findings[0]))


def say(line: str) -> None:
    """One line, at once."""
    print(line, flush=True)  # noqa: T201  # a script's output


def main() -> None:
    """Measure, or do one part of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--results", type=int, default=48)
    parser.add_argument("--folder", type=Path, help="keep what is made here, and take what is there")
    parser.add_argument("--parts", default="fsck,first,verify,json,quick,look,epoch", help="what is measured, in order")
    parser.add_argument("--look", default="")
    options = parser.parse_args()
    if options.look:
        look()
        return
    if options.folder:
        options.folder.mkdir(parents=True, exist_ok=True)
        measure(options, options.folder.resolve())
        return
    with tempfile.TemporaryDirectory(prefix="cd4ml-verify-") as name:
        measure(options, Path(name))


if __name__ == "__main__":
    main()
