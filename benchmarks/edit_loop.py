"""What one turn of the edit loop costs: a small change of the model, run and compared with the champion.

Run it on a project that is reconciled, such as the one that ``make demo DEMO_DIR=X`` leaves::

    python benchmarks/edit_loop.py X/project

Each round changes the ridge model's ``alpha`` to a value that was never run. The peer is what one does without
``cd4ml run``: change the file, render, ``dvc repro`` (in a copy of the project), ``dvc metrics show``. Rounds
alternate, so that a busy machine slows both alike; a first round of each warms caches and is not counted.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

MODEL = "conf/model/ridge.yaml"


def by_cd4ml(project: Path, alpha: float) -> None:
    """The loop as cd4ml has it."""
    subprocess.run(["cd4ml", "run", f"model.parameters.alpha={alpha}"], cwd=project, check=True, capture_output=True)


def by_hand(project: Path, alpha: float) -> None:
    """The loop as DVC has it."""
    path = project / MODEL
    lines = path.read_text("utf-8").splitlines()
    changed = [f"  alpha: {alpha}" if line.startswith("  alpha:") else line for line in lines]
    path.write_text("\n".join(changed) + "\n", "utf-8")
    for command in (["cd4ml", "render"], ["dvc", "repro", "--quiet"], ["dvc", "metrics", "show"]):
        subprocess.run(command, cwd=project, check=True, capture_output=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    os.environ |= {"DVC_NO_ANALYTICS": "1", "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    taken: dict[str, list[float]] = {"cd4ml run": [], "render, dvc repro, dvc metrics show": []}
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "project"
        shutil.copytree(options.project, copy, symlinks=True)
        for turn in range(options.rounds + 1):
            alpha = round(time.time() % 1e4 + turn, 3)
            for (name, times), (place, step) in zip(
                taken.items(), ((options.project, by_cd4ml), (copy, by_hand)), strict=True
            ):
                began = time.perf_counter()
                step(place, alpha)
                seconds = time.perf_counter() - began
                if turn:
                    times.append(seconds)
                else:
                    print(f"{name:38} first {seconds:6.2f} s")  # noqa: T201  # the table is what it is for
    subprocess.run(["cd4ml", "run", "--stop-warm"], cwd=options.project, check=True, capture_output=True)
    medians = {name: statistics.median(times) for name, times in taken.items()}
    least = medians["cd4ml run"]
    for name, seconds in medians.items():
        print(f"{name:38} {seconds:12.2f} s  {seconds / least:5.1f} x")  # noqa: T201  # the same


if __name__ == "__main__":
    main()
