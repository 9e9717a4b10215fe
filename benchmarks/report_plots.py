"""What the plots of a report cost, in a fresh process: the import of matplotlib, and each plot.

    python benchmarks/report_plots.py --rows 100000 --rounds 5

Draws the plots of a regression and of a binary task with so many test rows, each round in a process of its own on one
core, and prints the medians in seconds; those of the processor do not count what others did meanwhile.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def once(task: str, rows: int) -> dict[str, float]:
    """Seconds of one drawing in this process, by part."""
    from tests.report import plots_world as world

    paired = world.regression(rows) if task == "regression" else world.binary(rows)
    inputs = world.review_of(), paired, world.story_of(1000), world.importance_of()
    began, worked = time.perf_counter(), time.process_time()
    from cd4ml.report.plots import draw
    from cd4ml.report.plots_canvas import drawing

    with drawing():
        imported = time.perf_counter()
    plots = draw(*inputs)
    drawn, processor = time.perf_counter(), time.process_time() - worked
    again = draw(*inputs)
    if plots != again:
        raise SystemExit("the same inputs gave other bytes")
    return {
        "plots": len(plots),
        "import": imported - began,
        "draw": drawn - imported,
        "whole": drawn - began,
        "processor": processor,
        "bytes": sum(len(plot.png) for plot in plots),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--once", choices=("regression", "binary"))
    options = parser.parse_args()
    if options.once:
        sys.stdout.write(json.dumps(once(options.once, options.rows)))
        return
    for task in ("regression", "binary"):
        command = [sys.executable, "-m", "benchmarks.report_plots", "--once", task, "--rows", str(options.rows)]
        told = [
            json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout)
            for _ in range(options.rounds)
        ]
        medians = {name: statistics.median(one[name] for one in told) for name in told[0]}
        sys.stdout.write(
            f"{task}, {options.rows:,} rows: {medians['plots']:.0f} plots in {medians['whole']:.2f} s "
            f"(import {medians['import']:.2f}, drawing {medians['draw']:.2f}; "
            f"{medians['processor']:.2f} of the processor), {medians['bytes'] / 1024:.0f} KiB\n"
        )


if __name__ == "__main__":
    main()
