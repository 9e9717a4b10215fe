"""What it costs when nothing is to be done, beside what DVC's own questions cost in the same project.

Run it on a project that is reconciled, such as the one that ``make demo DEMO_DIR=X`` leaves::

    python benchmarks/no_op.py X/project

Every command is a new process, run in turn so that a busy machine slows all alike; the median of the rounds
is shown, and its ratio to the median of ``dvc status``. After the table: the sizes of the records.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import time
from pathlib import Path

COMMANDS = (
    ("dvc", "status", "--quiet"),
    ("dvc", "exp", "show", "--json", "--all-branches"),
    ("cd4ml", "plan"),
    ("cd4ml", "reconcile"),
    ("cd4ml", "status", "--json"),
    ("cd4ml", "search", "metrics.rmse < 100", "--json"),
    ("git", "fetch", "--quiet"),
)


def seconds(command: tuple[str, ...], project: Path) -> float:
    """Wall time of one command. A `dvc status` that finds changes ends with 1, and counts."""
    began = time.perf_counter()
    subprocess.run(command, cwd=project, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return time.perf_counter() - began


def record_sizes(project: Path) -> dict[str, list[int]]:
    """Bytes of every record in the index, by kind."""
    listed = subprocess.run(
        ["git", "ls-tree", "-r", "-l", "refs/cd4ml/remote/heads/cd4ml/index"],
        cwd=project,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    sizes: dict[str, list[int]] = {}
    for line in listed.splitlines():
        meta, path = line.split("\t")
        sizes.setdefault(path.split("/")[0], []).append(int(meta.split()[3]))
    return sizes


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    os.environ["DVC_NO_ANALYTICS"] = "1"
    times: dict[tuple[str, ...], list[float]] = {command: [] for command in COMMANDS}
    for _ in range(options.rounds):
        for command in COMMANDS:
            times[command].append(seconds(command, options.project))
    base = statistics.median(times[COMMANDS[0]])
    for command, taken in times.items():
        median = statistics.median(taken)
        print(f"{median:6.2f} s  {median / base:5.2f} ×  {' '.join(command)}")  # noqa: T201  # a script's output
    for kind, sizes in sorted(record_sizes(options.project).items()):
        print(f"{kind}: {len(sizes)} records, {min(sizes):,} to {max(sizes):,} bytes")  # noqa: T201  # as above


if __name__ == "__main__":
    main()
