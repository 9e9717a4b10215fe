"""The index at scale: the query cache over a synthetic index, and MLflow on SQLite with the same runs beside it.

    python benchmarks/index_scale.py --count 100000 --mlflow /path/to/python/with/mlflow

Without ``--mlflow`` only cd4ml is measured. The index is made first (``synthetic_index``), in a temporary folder: a
bare remote and a clone of it. In this order: a full rebuild of the cache (with the memory that it takes, in a process
of its own); the three queries, each asked ``--rounds`` times in one process; the whole command ``cd4ml search``; and
what 100 further records cost. MLflow gets the same runs, written into its SQLite store by SQL, which is much faster
than its client and leaves the same tables, and is asked through ``MlflowClient.search_runs`` with the same limit;
where a query takes longer than ``--patience`` seconds, the ratio is a lower bound.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.synthetic_index import write_index
from cd4ml.controller.landing import trust
from cd4ml.controller.project import open_project
from cd4ml.gateways.git import open_repository

QUERIES = (
    ("metrics.rmse < 0.01 and params.p3 = '7'", "", 1000),
    ("params.model.name = 'model-7' and metrics.r2 > 0.5", "metrics.r2", 1000),
    ("", "metrics.rmse", 50),
)
IN_MLFLOW: tuple[tuple[str, list[str], int], ...] = (
    ("metrics.rmse < 0.01 and params.p3 = '7'", [], 1000),
    ("tags.model = 'model-7' and metrics.r2 > 0.5", ["metrics.r2 ASC"], 1000),
    ("", ["metrics.rmse ASC"], 50),
)
LATER = 100


def make_remote(folder: Path, count: int) -> Path:
    """A bare remote with a main branch of a project and an index, and a clone of it; gives the clone."""
    remote, clone = folder / "remote.git", folder / "clone"
    _git(folder, "init", "--quiet", "--bare", "--initial-branch=main", str(remote))
    _git(folder, "clone", "--quiet", str(remote), str(clone))
    shutil.copytree(Path(__file__).parents[1] / "conf", clone / "conf")
    _git(clone, "add", ".")
    _git(clone, "-c", "user.name=a", "-c", "user.email=a@localhost", "commit", "--quiet", "-m", "project")
    _git(clone, "push", "--quiet", "origin", "HEAD:main")
    tip = write_index(remote, count)
    _git(clone, "fetch", "--quiet")
    # its entries have no landed commits, which a first look would rightly call forged
    open_repository(clone).remember_index("origin", None, tip)
    trust.set_judged(open_project(clone))
    return clone


def _git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)


def rebuild(clone: Path) -> dict[str, float]:
    """In this process and those that it starts: the cache made whole.

    Seconds, seconds of a processor (of all processes), and the most MiB that this one held.
    """
    from cd4ml.controller.landing.landed import current_cache

    project = open_project(clone)
    state = project.repository.fetch(project.remote)
    began = time.perf_counter()
    before = os.times()
    current_cache(project, state).close()
    taken, after = time.perf_counter() - began, os.times()
    return {
        "seconds": taken,
        "processor": sum(after[:4]) - sum(before[:4]),
        "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def ask(clone: Path, rounds: int) -> list[dict[str, float]]:
    """In this process: the queries, each so many times after once that is not counted, as MLflow is asked; seconds."""
    from cd4ml.controller.landing.landed import current_cache
    from cd4ml.index.query import parse
    from cd4ml.index.sql import compile_filter, compile_order

    project = open_project(clone)
    cache = current_cache(project, project.repository.last_seen())
    found = []
    for text, order, limit in QUERIES:
        taken, rows = [], 0
        for _ in range(1 + rounds):
            began = time.perf_counter()
            where = compile_filter(parse(text), datetime.now(UTC))
            rows = len(cache.search(where, compile_order(order) if order else None, limit))
            taken.append(time.perf_counter() - began)
        taken = sorted(taken[1:])
        p95 = taken[min(len(taken) - 1, int(0.95 * len(taken)))]
        found.append({"median": statistics.median(taken), "p95": p95, "rows": rows})
    return found


def advance(clone: Path) -> dict[str, float]:
    """In this process: the cache brought up to date with what the last fetch brought."""
    from cd4ml.controller.landing.landed import current_cache

    project = open_project(clone)
    state = project.repository.last_seen()
    began = time.perf_counter()
    cache = current_cache(project, state)
    taken = time.perf_counter() - began
    return {"seconds": taken, "rows": len(cache.values("id", "kind = 'run'"))}


def command(clone: Path, rounds: int) -> list[dict[str, float]]:
    """The whole command, each time a new process: seconds of the median."""
    found = []
    for text, order, limit in QUERIES:
        by = ["--order-by", order] if order else []
        found.append({"median": whole(clone, rounds, ["search", text, "--json", "--limit", str(limit), *by])})
    return found


def whole(clone: Path, rounds: int, arguments: list[str]) -> float:
    """A command, each time a new process, after one that is not counted: seconds of the median."""
    program = str(Path(sys.executable).parent / "cd4ml")
    # as where it is installed: what Python has compiled is kept
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    env.setdefault("PYTHONPYCACHEPREFIX", str(clone.parent / "compiled"))
    subprocess.run([program, *arguments], cwd=clone, env=env, check=True, capture_output=True)
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        subprocess.run([program, *arguments], cwd=clone, env=env, check=True, capture_output=True)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


MLFLOW_FILL = """
import json, sqlite3, sys
from mlflow import MlflowClient
uri, path, facts = sys.argv[1], sys.argv[2], sys.argv[3]
client = MlflowClient(uri)
client.search_experiments()
database = sqlite3.connect(path)
def columns(table):
    return [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
def put(table, rows):
    names = [name for name in rows[0] if name in columns(table)]
    marks = ", ".join("?" * len(names))
    database.executemany(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})",
                         [[row[name] for name in names] for row in rows])
def flush(chunk):
    put("runs", [dict(run_uuid=f["id"], name=f["name"], source_type="LOCAL", source_name="", entry_point_name="",
        user_id="a", status="FINISHED" if f["succeeded"] else "FAILED", start_time=f["started"] * 1000,
        end_time=f["started"] * 1000 + 30000, source_version="", lifecycle_stage="active", artifact_uri="/tmp/none",
        experiment_id=0) for f in chunk])
    metrics = [dict(key=k, value=v, timestamp=f["started"] * 1000, step=0, is_nan=0, run_uuid=f["id"])
        for f in chunk for k, v in f["metrics"].items()]
    put("metrics", metrics); put("latest_metrics", metrics)
    put("params", [dict(key=k, value=v, run_uuid=f["id"]) for f in chunk for k, v in f["params"].items()])
    put("tags", [dict(key=k, value=v, run_uuid=f["id"]) for f in chunk for k, v in f["tags"].items()])
chunk = []
with open(facts) as lines:
    for line in lines:
        chunk.append(json.loads(line))
        if len(chunk) == 5000:
            flush(chunk); chunk = []
if chunk:
    flush(chunk)
database.commit()
"""
MLFLOW_ASK = """
import json, sys, time
import mlflow
from mlflow import MlflowClient
client = MlflowClient(sys.argv[1])
text, order, limit, rounds = json.loads(sys.argv[2])
client.search_runs(["0"], "metrics.rmse < -1", max_results=1)
taken = []
for _ in range(rounds):
    began = time.perf_counter()
    found = client.search_runs(["0"], text, max_results=limit, order_by=order)
    taken.append(time.perf_counter() - began)
print(json.dumps({"median": sorted(taken)[len(taken) // 2], "rows": len(found), "version": mlflow.__version__}))
"""


def mlflow(python: str, folder: Path, count: int, patience: float, rounds: int) -> list[dict[str, Any]]:
    """The same queries of MLflow on SQLite, with the same runs; seconds of the median."""
    from benchmarks.synthetic_index import facts

    database, told = folder / "mlflow.db", folder / "facts.jsonl"
    with told.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(vars(facts(number))) + "\n" for number in range(count))
    env = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{database}"}
    fill = [python, "-c", MLFLOW_FILL, f"sqlite:///{database}", str(database), str(told)]
    subprocess.run(fill, cwd=folder, env=env, check=True, stdout=subprocess.DEVNULL)
    found: list[dict[str, Any]] = []
    for text, order, limit in IN_MLFLOW:
        asked = [python, "-c", MLFLOW_ASK, f"sqlite:///{database}", json.dumps([text, order, limit, rounds])]
        try:
            done = subprocess.run(asked, cwd=folder, env=env, check=True, capture_output=True, timeout=patience)
            found.append(json.loads(done.stdout))
        except subprocess.TimeoutExpired:
            found.append({"median": patience, "rows": None, "at_least": True})
    return found


def _in_a_process(what: str, clone: Path, rounds: int) -> Any:
    command = [
        sys.executable,
        "-m",
        "benchmarks.index_scale",
        "--part",
        what,
        "--clone",
        str(clone),
        "--rounds",
        str(rounds),
    ]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def measure(options: argparse.Namespace) -> None:
    """Make the index, measure, and print."""
    with tempfile.TemporaryDirectory(prefix="index-scale-") as name:
        folder = Path(name)
        clone = make_remote(folder, options.count)
        say(f"{options.count:,} runs and {options.count // 10:,} experiment records")
        built = _in_a_process("rebuild", clone, 1)
        say(
            f"full rebuild: {built['seconds']:.1f} s, {built['processor']:.1f} s of a processor,"
            f" {built['mib']:.0f} MiB at most"
        )
        ours = _in_a_process("ask", clone, options.rounds)
        commands = command(clone, 5)
        theirs = mlflow(options.mlflow, folder, options.count, options.patience, 3) if options.mlflow else []
        for number, (text, order, limit) in enumerate(QUERIES):
            asked = f"{text or '(no filter)'}{f' ORDER BY {order}' if order else ''} LIMIT {limit}"
            say(f"{asked}: {ours[number]['rows']} rows")
            line = (
                f"  in process: median {1000 * ours[number]['median']:.1f} ms, p95 {1000 * ours[number]['p95']:.1f} ms"
            )
            say(f"{line}; whole command {commands[number]['median']:.2f} s")
            if theirs:
                other = theirs[number]
                least = "at least " if other.get("at_least") else ""
                ratio = other["median"] / ours[number]["median"]
                say(f"  MLflow: {least}{other['median']:.2f} s, {other['rows']} rows; {least}{ratio:.0f} ×")
        digest = _a_digest(clone)
        for arguments in (["leaderboard", "--json"], ["lineage", digest, "--json"]):
            say(f"{arguments[0]}, whole command: {whole(clone, 3, arguments):.1f} s")
        write_index(folder / "remote.git", LATER, start=options.count)
        _git(clone, "fetch", "--quiet", "origin", "+refs/heads/*:refs/cd4ml/remote/heads/*")
        later = _in_a_process("advance", clone, 1)
        say(f"{LATER} further runs: {later['seconds']:.2f} s")


def _a_digest(clone: Path) -> str:
    """Of the test rows of some run."""
    from cd4ml.controller.landing.landed import current_cache

    project = open_project(clone)
    (doc,) = current_cache(project, project.repository.last_seen()).search(limit=1)
    return str(doc["split"]["test"]["digest"])


def say(line: str) -> None:
    """One line, at once."""
    print(line, flush=True)  # noqa: T201  # a script's output


def main() -> None:
    """Measure, or do one part of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--mlflow", default="")
    parser.add_argument("--patience", type=float, default=600.0)
    parser.add_argument("--part", choices=["rebuild", "ask", "advance"])
    parser.add_argument("--clone", type=Path)
    options = parser.parse_args()
    if options.part is None:
        measure(options)
        return
    parts: dict[str, Callable[[], Any]] = {
        "rebuild": lambda: rebuild(options.clone),
        "advance": lambda: advance(options.clone),
        "ask": lambda: ask(options.clone, options.rounds),
    }
    say(json.dumps(parts[options.part]()))


if __name__ == "__main__":
    main()
