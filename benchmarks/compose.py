"""What it takes to compose a commit's configuration, beside plain Hydra on the same files in the same process.

Run it from the root of a checkout::

    PYTHONPATH=. python benchmarks/compose.py

``conf/`` of this repository, with more and more files of experiments as merged ones leave them. Each time one byte is
another, as from branch to branch, so that no answer is remembered; seconds of a processor, median of the rounds. cd4ml
also checks every file, and tells of each value which file it is from; plain Hydra does neither.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from hydra import compose as hydra_compose
from hydra import initialize_config_dir

from cd4ml.gateways.hydra import compose

ROOT = Path(__file__).parents[1]
FILES = {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in (ROOT / "conf").rglob("*.yaml")}


def with_merged(count: int) -> dict[str, bytes]:
    """The files, and those of so many merged experiments."""
    baseline = FILES["conf/experiment/baseline.yaml"]
    return FILES | {f"conf/experiment/merged{number}.yaml": baseline + b"# %d\n" % number for number in range(count)}


def ours(files: dict[str, bytes], number: int) -> None:
    """cd4ml, on files of which one is another each time."""
    compose({**files, "conf/config.yaml": files["conf/config.yaml"] + b"# %d\n" % number})


def plain(files: dict[str, bytes], folder: Path) -> Callable[[int], None]:
    """Plain Hydra, on the files in a folder."""
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)

    def once(_: int) -> None:
        with initialize_config_dir(str(folder / "conf"), version_base="1.3"):
            hydra_compose("config")

    return once


def median(work: Callable[[int], None], rounds: int) -> float:
    """Seconds of a processor, after one round that is not counted."""
    taken = []
    for number in range(rounds + 1):
        began = time.process_time()
        work(number)
        taken.append(time.process_time() - began)
    return statistics.median(taken[1:])


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    sys.stdout.write(f"{'merged experiments':>20}{'cd4ml':>10}{'Hydra':>10}{'ratio':>8}\n")
    for count in (0, 100, 400, 800):
        files = with_merged(count)
        mine = median(partial(ours, files), rounds)
        with tempfile.TemporaryDirectory(prefix="cd4ml-compose-") as folder:
            theirs = median(plain(files, Path(folder)), rounds)
        sys.stdout.write(f"{count:>20}{mine:>10.3f}{theirs:>10.3f}{mine / theirs:>8.2f}\n")


if __name__ == "__main__":
    main()
