"""An index of any size, made at once: real envelopes on a real ``cd4ml/index`` branch, and nothing run for them.

Every envelope is one that ``cd4ml.index.fold.parse_envelope`` accepts and a fold could have written: ids, digests
and fingerprints follow from the content. The commits that records name do not exist: the index is what a search
needs and no more. The same count and seed give the same index.

By hand::

    python benchmarks/synthetic_index.py REPOSITORY 10000
"""

from __future__ import annotations

import argparse
import hashlib
import random
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from cd4ml.index.fold import entry_path
from cd4ml.index.record import as_record, encode, seal
from cd4ml.spec.canonical import digest

INDEX = "refs/heads/cd4ml/index"
FOLD_OF = 100
"""Records that one fold commit takes in."""

RUNS_OF_BRANCH = 10
"""Runs (commits) of one branch; the last of them has an experiment record, with five tags."""

METRICS = ("rmse", "mae", "r2", "mape", "max_error")
_ESTIMATORS = tuple(f"model-{number}" for number in range(10))
_WHO = "Judge <judge@example.org>"
_COMMITTER = f"committer {_WHO} 1760000000 +0000"
_FROM = 1_767_225_600


@dataclass(frozen=True)
class Facts:
    """What a run is told by in flat form, for whoever wants the same runs elsewhere."""

    id: str
    name: str
    started: int
    succeeded: bool
    metrics: dict[str, float]
    params: dict[str, str]
    tags: dict[str, str]


def write_index(repository: Path, count: int, seed: int = 0, *, ref: str = INDEX, start: int = 0) -> str:
    """Put ``count`` run records, and an experiment record to every tenth, on the index branch; gives its tip.

    They go on top of what the branch holds. With ``start`` the records are those that a larger index would have
    from that number on. Side effects: objects and ``ref``.
    """
    tip = _tip(repository, ref)
    fold = _folds(repository, tip)
    command = ["git", "fast-import", "--quiet", "--force", "--date-format=raw"]
    with subprocess.Popen(command, cwd=repository, stdin=subprocess.PIPE) as importer:
        stream = _Stream(cast("IO[bytes]", importer.stdin), ref, tip)
        for first in range(start, start + count, FOLD_OF):
            fold += 1
            bodies = [
                body for number in range(first, min(first + FOLD_OF, start + count)) for body in bodies_of(number, seed)
            ]
            stream.fold(fold, bodies)
        stream.close()
        if importer.wait():
            raise RuntimeError("git fast-import failed")
    return str(_tip(repository, ref))


def bodies_of(number: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """The sealed records of run ``number``: the run's, and the experiment's where the branch ends with it."""
    run = run_body(number, seed)
    yield run
    if number % RUNS_OF_BRANCH == RUNS_OF_BRANCH - 1:
        yield experiment_body(number, run)


def run_body(number: int, seed: int = 0) -> dict[str, Any]:
    """A sealed run record with every field that a real one has, 5 metrics a side and 10 parameters of its own."""
    of = random.Random(f"{seed} {number}")  # noqa: S311  # not for secrets
    failed = of.random() < 0.05
    model = _ESTIMATORS[of.randrange(10)]
    parts = {name: _hex(name, seed, of.randrange(1 << 30)) for name in ("spec", "code")}
    parts |= {name: _hex(name, seed, of.randrange(20)) for name in ("data", "pipeline", "env")}
    if number % 50 == 49:  # some were run twice
        again = run_body(number - 20, seed)
        parts, model = again["components"], again["params"]["model"]["name"]
    branch = number // RUNS_OF_BRANCH
    began = _FROM + 60 * number
    sides = {side: {name: of.random() for name in METRICS} for side in ("validation", "test")}
    digests = {name: _hex(name, seed, branch % 50) for name in ("rows", "table", "train", "validation", "test")}
    return seal(
        {
            "kind": "run",
            "fingerprint": digest(parts),
            "components": parts,
            "commit": _hex("commit", seed, number)[:40],
            "tree": _hex("tree", seed, number)[:40],
            "branch": f"exp/b{branch}",
            "side": "head",
            "name": f"b{branch}",
            "outcome": "failed" if failed else "succeeded",
            "reason": {"kind": "deterministic", "stage": "train", "message": "the loss is not finite"}
            if failed
            else None,
            "params": {
                **{f"p{index}": str(of.randrange(10 * (1 + index))) for index in range(10)},
                "seed": of.randrange(100),
                "model": {
                    "name": model,
                    "estimator": {"_target_": f"sklearn.{model}", "alpha": of.randrange(100) / 100},
                },
                "data": {"sources": {"flights": {"format": "csv"}}, "target": "delay"},
                "evaluation": {"metrics": list(METRICS), "primary": "rmse", "task": "regression"},
            },
            "metrics": {} if failed else sides,
            "primary": {"metric": "rmse", "direction": "minimize"},
            "data": {"flights": {"digest": digests["rows"], "rows": 3000}},
            "table": None if failed else {"digest": digests["table"], "rows": 3000},
            "split": {}
            if failed
            else {side: {"rows": 1000, "digest": digests[side]} for side in ("train", "validation", "test")},
            "validation": {"suite": "flights", "success": True, "asked": 12, "returned": 12, "failed": []},
            "model": None if failed else {"digest": _hex("model", seed, number), "format": "skops", "bytes": 40_000},
            "files": {
                path: {
                    "sha256": _hex(path, seed, number),
                    "md5": _hex(path, seed, number)[:32],
                    "bytes": 1000 + number % 977,
                }
                for path in ("artifacts/train/model.skops", "artifacts/predict/predictions.parquet")
            },
            "environment": {
                "python": "3.11.7",
                "platform": "linux-x86_64",
                "packages": {"numpy": "2.4.6", "pandas": "2.3.3", "scikit-learn": "1.7.2", "xgboost": "3.1.1"},
                "lock": parts["env"],
            },
            "threads": 1,
            "cost": {"seconds": {"ingest": 0.5, "train": round(of.random() * 10, 3), "evaluate": 0.25}},
            "started": _instant(began),
            "finished": _instant(began + 30),
        }
    )


def experiment_body(number: int, run: dict[str, Any]) -> dict[str, Any]:
    """The sealed experiment record of the commit that the run is of."""
    return seal(
        {
            "kind": "experiment",
            "branch": run["branch"],
            "commit": run["commit"],
            "author": f"Person {number % 50} <person{number % 50}@example.org>",
            "committed": run["started"],
            "name": run["name"],
            "hypothesis": f"{run['params']['model']['name']} with p3 = {run['params']['p3']} does better in summer.",
            "tags": [f"t{index}-{number // RUNS_OF_BRANCH % (3 + index)}" for index in range(5)],
            "is_base": False,
            "fingerprint": run["fingerprint"],
            "merge_fingerprint": None,
            "merge_commit": None,
            "conflicts": [],
            "problems": [],
            "answer": {"head": run["id"], "merge": None},
            "conclusion": "No better." if number % 3 == 0 else "",
            "noted_by": _WHO if number % 3 == 0 else "",
        }
    )


def facts(number: int, seed: int = 0) -> Facts:
    """The run of that number in flat form: 5 metrics of the validation side, 10 parameters, 5 tags."""
    run = run_body(number, seed)
    params = {name: value for name, value in run["params"].items() if isinstance(value, str)}
    branch = number // RUNS_OF_BRANCH
    tags = {f"t{index}": f"t{index}-{branch % (3 + index)}" for index in range(4)}
    tags["model"] = run["params"]["model"]["name"]
    return Facts(
        run["id"],
        run["name"],
        _FROM + 60 * number,
        run["outcome"] == "succeeded",
        dict(run["metrics"].get("validation", {})),
        params,
        tags,
    )


def envelope_of(body: dict[str, Any], fold: int, result_commit: str) -> tuple[str, bytes]:
    """Path and bytes under which the index holds a record; the bytes that ``encode_envelope`` gives, sooner."""
    data = encode(body)
    sha256 = hashlib.sha256(data).hexdigest()
    whole = (
        f'{{\n "fold": {fold},\n "landed_by": "{_WHO}",\n "record": '.encode()
        + data[:-1].replace(b"\n", b"\n ")
        + f',\n "record_sha256": "{sha256}",\n "result_commit": "{result_commit}"\n}}\n'.encode()
    )
    return entry_path(as_record(body)), whole


class _Stream:
    """What goes to ``git fast-import``."""

    def __init__(self, out: IO[bytes], ref: str, tip: str | None) -> None:
        self._out, self._ref, self._tip = out, ref, tip

    def fold(self, number: int, bodies: list[dict[str, Any]]) -> None:
        """One fold commit, on top of the last."""
        self._commit(self._ref, f"cd4ml: fold {len(bodies)} records\n", self._tip)
        for body in bodies:
            path, data = envelope_of(body, number, _hex("landed", body["id"])[:40])
            self._file(path, data)
        self._write(b"\n")
        self._tip = None

    def close(self) -> None:
        """Say that this is all."""
        self._out.close()

    def _commit(self, ref: str, message: str, parent: str | None) -> None:
        text = message.encode()
        self._write(f"commit {ref}\n{_COMMITTER}\ndata {len(text)}\n".encode() + text)
        if parent:
            self._write(f"from {parent}\n".encode())

    def _file(self, path: str, data: bytes) -> None:
        self._write(f"M 100644 inline {path}\ndata {len(data)}\n".encode() + data + b"\n")

    def _write(self, data: bytes) -> None:
        self._out.write(data)


def _tip(repository: Path, ref: str) -> str | None:
    command = ["git", "rev-parse", "--verify", "--quiet", ref]
    return subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False).stdout.strip() or None


def _folds(repository: Path, tip: str | None) -> int:
    if tip is None:
        return 0
    command = ["git", "rev-list", "--first-parent", "--count", tip]
    return int(subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True).stdout)


def _hex(*label: object) -> str:
    return hashlib.sha256(" ".join(map(str, label)).encode()).hexdigest()


def _instant(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def main() -> None:
    """Write one by hand."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repository", type=Path)
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(write_index(options.repository, options.count, options.seed))  # noqa: T201  # a script's output


if __name__ == "__main__":
    main()
