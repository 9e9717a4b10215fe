"""Records, landed refs and entries as values: what the index's tests are told in."""

from __future__ import annotations

import hashlib
from typing import Any

from hypothesis import strategies as st

from cd4ml.index.fold import Landed, landing_ref
from cd4ml.index.record import RECORD_PATH, Entry, as_record, encode, seal
from cd4ml.spec.canonical import digest

SIDES = ("train", "validation", "test")
OUTPUTS = ("artifacts/train/model.skops", "artifacts/predict/predictions.parquet")
COMPONENTS = ("spec", "code", "data", "pipeline", "env")


def hexes(label: object, length: int = 64) -> str:
    """A digest for a word."""
    return hashlib.sha256(str(label).encode()).hexdigest()[:length]


FILE = {"sha256": hexes("file"), "md5": hexes("md5", 32) + ".dir", "bytes": 4}


def components(label: object = "x") -> dict[str, str]:
    return {name: hexes(f"{name} {label}") for name in COMPONENTS}


def fingerprint(label: object = "x") -> str:
    return digest(components(label))


def run_body(label: object = "x", *, failed: bool = False, **changed: Any) -> dict[str, Any]:
    """A run record with every field; ``label`` says what was asked for."""
    parts = components(label)
    body = {
        "kind": "run",
        "fingerprint": digest(parts),
        "components": parts,
        "commit": hexes(f"commit {label}", 40),
        "tree": hexes(f"tree {label}", 40),
        "branch": "exp/a",
        "side": "head",
        "name": "a",
        "outcome": "failed" if failed else "succeeded",
        "reason": {"kind": "deterministic", "stage": "validate", "message": "2 rows"} if failed else None,
        "params": {"seed": 7, "model": {"name": "ridge", "estimator": {"steps": [["scale", {"alpha": 0.1}]]}}},
        "metrics": {} if failed else {"validation": {"rmse": 12.5}, "test": {"rmse": 13.25}},
        "primary": {"metric": "rmse", "direction": "minimize"},
        "data": {"flights": {"digest": hexes("rows"), "rows": 3}},
        "table": None if failed else {"digest": hexes("table"), "rows": 3},
        "split": {} if failed else {side: {"rows": 1, "digest": hexes(side)} for side in SIDES},
        "validation": {
            "suite": "flights",
            "success": not failed,
            "asked": 2,
            "returned": 2,
            "failed": [{"type": "expect_x", "column": None, "severity": "warning"}],
        },
        "model": None if failed else {"digest": hexes("model"), "format": "skops", "bytes": 4},
        "files": dict.fromkeys(("data/flights.csv", *(() if failed else OUTPUTS)), FILE),
        "environment": {"python": "3.11.7", "platform": "linux", "packages": {"numpy": "2.4.6"}, "lock": ""},
        "threads": 1,
        "cost": {"seconds": {"train": 1.5}},
        "started": "2026-11-03T10:00:00Z",
        "finished": "2026-11-03T10:00:02.500000+00:00",
    }
    return seal({**body, **changed})


def experiment_body(branch: str = "exp/a", commit: object = "x", **changed: Any) -> dict[str, Any]:
    """An experiment record with every field, of a branch at the commit named by a label."""
    body = {
        "kind": "experiment",
        "branch": branch,
        "commit": hexes(f"commit {commit}", 40),
        "author": "Ada <ada@example.org>",
        "committed": "2026-11-03T11:30:00+02:00",
        "name": "a",
        "hypothesis": "It helps.\nA lot.",
        "tags": ["t"],
        "is_base": False,
        "fingerprint": fingerprint(commit),
        "merge_fingerprint": None,
        "merge_commit": None,
        "conflicts": [],
        "problems": [],
        "answer": {"head": None, "merge": None},
        "conclusion": "",
        "noted_by": "",
    }
    return seal({**body, **changed})


def refused_body(branch: str = "exp/bad", commit: object = "bad", **changed: Any) -> dict[str, Any]:
    problem = {"file": "conf/config.yaml", "key": "model", "message": "unknown", "hint": "choose another"}
    return experiment_body(branch, commit, **{"fingerprint": None, "problems": [problem], **changed})


def landed(body: dict[str, Any], **changed: Any) -> Landed:
    """The record as it lands when all is well."""
    paths = (RECORD_PATH, "dvc.lock", "artifacts/evaluate/metrics.json") if body["kind"] == "run" else (RECORD_PATH,)
    fields = {
        "ref": landing_ref(body["id"]),
        "commit": hexes(f"landed {body['id']}", 40),
        "parents": (body["commit"],),
        "tree_changes": paths,
        "data": encode(body),
        "committer": "Judge <judge@example.org>",
    }
    return Landed(**{**fields, **changed})


def entry(body: dict[str, Any], fold: int = 1) -> Entry:
    """The record as the index holds it."""
    sha256 = hashlib.sha256(encode(body)).hexdigest()
    return Entry(as_record(body), sha256, hexes(f"landed {body['id']}", 40), "Judge <judge@example.org>", fold)


@st.composite
def bodies(draw: st.DrawFn) -> dict[str, Any]:
    """Runs and experiments that speak of few fingerprints and branches, so that they meet."""
    label = draw(st.integers(0, 3))
    branch = draw(st.sampled_from(["main", "exp/a", "exp/b"]))
    if draw(st.booleans()):
        finished = f"2026-11-03T10:00:0{draw(st.integers(2, 9))}Z"
        side = draw(st.sampled_from(["head", "merge"]))
        return run_body(label, failed=draw(st.booleans()), branch=branch, finished=finished, side=side)
    answer = {
        side: draw(st.none() | st.integers(0, 3).map(lambda run: run_body(run)["id"])) for side in ("head", "merge")
    }
    make = refused_body if draw(st.booleans()) else experiment_body
    merge = draw(st.none() | st.integers(0, 3).map(lambda commit: hexes(f"commit {commit}", 40)))
    conclusion = draw(st.sampled_from(["", "worse"]))
    return make(branch, label, answer=answer, merge_commit=merge, conclusion=conclusion)
