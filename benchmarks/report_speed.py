"""What a report costs on a warm index: 50 metrics, 100,000 test predictions, 2,000 resamples; with and without plots.

A project of real Git and DVC is made, ``main`` is really run on a few flights, and then two results are made up beside
it: a table of 400,000 rows of which 100,000 are the test side, predictions of two models, 50 metrics (cd4ml's own and,
for the rest, ones of the project's, of which a report tells the recorded values). The champion is ``main``'s result::

    python -m benchmarks.report_speed            # about two minutes, most of it making the project
    python -m benchmarks.report_speed --runs 1000 --columns 40

``--runs`` puts so many more results into the index, ``--columns`` gives the challenger another table, so that the
movement of so many columns is measured too. Of each figure the median, least and most of the rounds are shown.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmarks.synthetic_index import write_index
from cd4ml.controller.landing.land import land_record
from cd4ml.controller.project import Project, open_project
from cd4ml.controller.reconciling.observe import observe, observed_branch
from cd4ml.gateways.files import copy_verified, digest_file
from cd4ml.index.record import RunRecord
from cd4ml.spec.metrics import metrics_of
from cd4ml.spec.pipeline import PREDICTIONS, SPLIT, TABLE
from cd4ml.stages.table import row_digests, table_digest, write_parquet

ROWS, TEST = 400_000, 100_000
METRICS = 50
BASELINE = "# @package _global_\nname: {name}\nseed: {seed}\n"


def run(folder: Path, *command: str) -> str:
    """A command that must succeed; gives what it printed."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stderr}")
    return done.stdout


def make_project(folder: Path, rows: int, columns: int) -> Path:
    """A pushed project with two large results that answer ``main`` and ``exp/large``."""
    project = folder / "project"
    run(folder, "git", "init", "--quiet", "--bare", "remote.git")
    run(folder, "cd4ml", "init", "project", "--storage", "../storage")
    run(project, "cd4ml", "data", "update")
    run(project, "git", "add", "--all")
    run(project, "git", "commit", "--quiet", "--message", "A project")
    run(project, "git", "remote", "add", "origin", "../remote.git")
    run(project, "git", "push", "--quiet", "--set-upstream", "origin", "main")
    run(project, "cd4ml", "reconcile", "main")
    opened = open_project(project)
    (small,) = (one.run for one in observe(opened).history.runs)
    declare(project, "main", 1)
    run(project, "git", "switch", "--quiet", "--create", "exp/large")
    declare(project, "exp/large", 2)
    run(project, "git", "switch", "--quiet", "main")
    rng = np.random.default_rng(1)
    table = table_of(rng, rows)
    other = table.assign(**{f"c{number}": table[f"c{number}"] + 0.5 for number in range(columns)}) if columns else table
    land(opened, small, "main", table, rng.normal(size=rows), rng)
    land(opened, small, "exp/large", other, rng.normal(size=rows), rng)
    return project


def declare(project: Path, branch: str, seed: int) -> None:
    """Commit and push another seed, so that the branch asks for something that was never run."""
    (project / "conf/experiment/baseline.yaml").write_text(BASELINE.format(name="large", seed=seed), "utf-8")
    run(project, "git", "commit", "--quiet", "--all", "--message", "Another seed")
    run(project, "git", "push", "--quiet", "--set-upstream", "origin", branch)


def table_of(rng: np.random.Generator, rows: int) -> pd.DataFrame:
    """A canonical frame of 20 columns: the target, numbers, texts."""
    numbers = {f"c{number}": rng.normal(size=rows) for number in range(17)}
    words = np.array(["EWR", "JFK", "LGA"])
    return pd.DataFrame(
        {
            "arr_delay": rng.normal(scale=40, size=rows),
            **numbers,
            "origin": pd.Series(words[rng.integers(0, 3, rows)], dtype="str"),
            "carrier": pd.Series([f"C{number:02}" for number in rng.integers(0, 16, rows)], dtype="str"),
        }
    )


def land(
    project: Project,
    small: RunRecord,
    branch: str,
    table: pd.DataFrame,
    noise: npt.NDArray[Any],
    rng: np.random.Generator,
) -> None:
    """Land a made-up result that answers a branch's head, its outputs in DVC's cache."""
    observation = observe(project)
    asked = observed_branch(project, observation, branch)
    components = asked.head.components
    if components is None:
        raise RuntimeError(f"{branch} is refused")
    storage = project.storage(observation.base_commit)
    rows = len(table)
    sides = np.repeat(["train", "validation", "test"], [rows // 2, rows - rows // 2 - TEST, TEST])
    digests = row_digests(table)
    judged = np.flatnonzero(sides != "train")
    split = pd.DataFrame({"row": np.arange(rows), "side": pd.Series(sides, dtype="str")})
    said = pd.DataFrame(
        {
            "row": judged,
            "side": pd.Series(sides[judged], dtype="str"),
            "prediction": table["arr_delay"].to_numpy()[judged] * 0.8 + 10 * noise[judged],
        }
    )
    files = {
        TABLE: stored(storage.cached, table, None),
        SPLIT: stored(storage.cached, split, digests),
        PREDICTIONS: stored(storage.cached, said, digests[judged]),
    }
    names = [*metrics_of("regression"), *(f"own_{number}" for number in range(METRICS))][:METRICS]
    params = {**small.params, "evaluation": {**small.params["evaluation"], "metrics": names}}
    body = {
        **{key: value for key, value in small.body.items() if key != "id"},
        "branch": branch,
        "commit": asked.commit,
        "tree": asked.head.tree,
        "params": params,
        "components": components.as_mapping(),
        "fingerprint": components.fingerprint,
        "metrics": {side: {name: float(rng.random()) for name in names} for side in ("validation", "test")},
        "table": {"digest": table_digest(table, digests), "rows": rows},
        "split": {
            side: {"digest": f"{place}{'0' * 63}", "rows": int((sides == side).sum())}
            for place, side in enumerate(("train", "validation", "test"))
        },
        "files": {**small.body["files"], **files},
    }
    land_record(project, body, {}, published=True)


def stored(
    place: Callable[[str], Path], frame: pd.DataFrame, digests: npt.NDArray[np.uint8] | None
) -> Mapping[str, Any]:
    """A frame in the cache; gives what a record says of the file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "part"
        write_parquet(frame, path, {"digest": digests} if digests is not None else None)
        digest = digest_file(path)
        copy_verified(path, place(digest.md5), digest.sha256)
    return {"sha256": digest.sha256, "md5": digest.md5, "bytes": digest.bytes}


def measured(rounds: int, act: Callable[[], object]) -> str:
    """Median, least and most of the wall seconds of some rounds, and the least seconds of the processor."""
    taken, worked = [], []
    for _ in range(rounds):
        before = _worked()
        began = time.perf_counter()
        act()
        taken.append(time.perf_counter() - began)
        worked.append(_worked() - before)
    return f"{statistics.median(taken):6.2f} s   ({min(taken):.2f} to {max(taken):.2f}; processor {min(worked):.2f})"


def _worked() -> float:
    """Seconds of the processor that commands which have ended took."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def tell(line: str) -> None:
    sys.stdout.write(line + "\n")


_IN_PROCESS = """
import sys, time
from pathlib import Path
began = time.perf_counter()
from cd4ml.controller.project import open_project
from cd4ml.controller.reporting.report import report_on
found = report_on(open_project(Path(sys.argv[1])), sys.argv[2])
first = time.perf_counter() - began
taken, worked = [], []
for _ in range(5):
    began, busy = time.perf_counter(), time.process_time()
    found = report_on(open_project(Path(sys.argv[1])), sys.argv[2])
    taken.append(time.perf_counter() - began)
    worked.append(time.process_time() - busy)
from cd4ml.report.plots import draw
began = time.perf_counter()
plots = draw(found.review, found.paired, found.story, found.importance, found.curves)
drawn = time.perf_counter() - began
began = time.perf_counter()
draw(found.review, found.paired, found.story, found.importance, found.curves)
again = time.perf_counter() - began
import json
review = found.review
print(json.dumps({
    "first": first, "again": min(taken), "worked": min(worked), "plots": drawn, "plots again": again,
    "count": len(plots), "metrics": len(review.metrics), "rows": review.ruler.rows,
    "verdict": review.verdict, "reason": review.reason,
}))
"""


def main() -> None:
    """Make the project, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--runs", type=int, default=0)
    parser.add_argument("--columns", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="make the project here and leave it, or use the one that is there")
    options = parser.parse_args()
    os.environ |= {"DVC_NO_ANALYTICS": "1", "GX_ANALYTICS_ENABLED": "false", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory(prefix="cd4ml-report-") as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        project = folder / "project"
        if not project.exists():
            make_project(folder, options.rows, min(options.columns, 17))
            if options.runs:
                run(project, "cd4ml", "reconcile", "main")
                write_index(folder / "remote.git", options.runs)
        command = ["cd4ml", "report", "exp/large"]
        run(project, *command)  # what is remembered is remembered
        found = json.loads(run(project, sys.executable, "-c", _IN_PROCESS, str(project), "exp/large"))
        tell(f"{found['metrics']} metrics, {found['rows']:,} rows: {found['verdict']} ({found['reason']})")
        tell(f"in process, first with its imports  {found['first']:6.2f} s")
        tell(f"in process, again                   {found['again']:6.2f} s   (processor {found['worked']:.2f})")
        tell(f"{found['count']} plots, first with their imports {found['plots']:6.2f} s")
        tell(f"{found['count']} plots, again                    {found['plots again']:6.2f} s")
        tell(f"cd4ml report                        {measured(options.rounds, lambda: run(project, *command))}")
        page = [*command, "-o", str(folder / "report.html")]
        tell(f"cd4ml report -o report.html         {measured(options.rounds, lambda: run(project, *page))}")


if __name__ == "__main__":
    main()
