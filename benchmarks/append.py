"""What one more record costs on top of very many: to land it, and to fold it.

    python benchmarks/append.py --count 100000 --rounds 5

Makes an index of that size in a temporary bare remote (``synthetic_index``) and a clone of it, and then lands and
folds one record after the other, each as ``cd4ml reconcile`` does. A plain ``git push`` of one commit to a branch of
the same remote is measured beside it: what is beyond that is ours.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.synthetic_index import write_index
from cd4ml.controller.landing.fold import fold_landed
from cd4ml.controller.landing.land import land_record
from cd4ml.controller.project import Project
from cd4ml.gateways import git
from cd4ml.gateways.git import INDEX, RefUpdate


def make(folder: Path, count: int) -> Project:
    """A clone of a bare remote with an index of ``count`` runs."""
    remote, clone = folder / "remote.git", folder / "clone"
    git.init(remote, bare=True)
    git.init(clone)
    here = git.open_repository(clone)
    here.git("remote", "add", "origin", str(remote))
    base = here.commit_tree(here.write_tree(None, {"a": b"1"}), (), "base\n")
    here.push("origin", [RefUpdate("refs/heads/main", "", base)])
    write_index(remote, count)
    return Project(here, "origin", "main")


def body_of(base: str, number: int) -> dict[str, object]:
    """An experiment record that differs from every other one."""
    return {
        "kind": "experiment",
        "branch": f"exp/{number}",
        "commit": base,
        "author": "Ada <ada@example.org>",
        "committed": "2026-11-03T09:30:00Z",
        "name": f"n{number}",
        "hypothesis": "",
        "tags": [],
        "is_base": False,
        "fingerprint": None,
        "merge_fingerprint": None,
        "merge_commit": None,
        "conflicts": [],
        "problems": [{"file": "conf/config.yaml", "key": "seed", "message": "is missing", "hint": ""}],
        "answer": {"head": None, "merge": None},
        "conclusion": "",
        "noted_by": "",
    }


def timed(do: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cd4ml-append-") as name:
        project = make(Path(name), options.count)
        repository = project.repository
        state = repository.fetch("origin")
        # its entries have no landed commits, which a first look would rightly call forged
        repository.remember_index("origin", "", state.heads["cd4ml/index"])
        base = state.heads["main"]
        land: list[float] = []
        fold: list[float] = []
        plain: list[float] = []
        for number in range(options.rounds + 1):
            land.append(timed(lambda number=number: land_record(project, body_of(base, number))))  # type: ignore[misc]  # a bound default
            state = repository.fetch("origin")
            fold.append(timed(lambda state=state: fold_landed(project, state)))  # type: ignore[misc]  # a bound default
            commit = repository.commit_tree(repository.write_tree(base, {"n": str(number).encode()}), (base,), "x\n")
            update = RefUpdate(f"refs/heads/plain/{number}", "", commit)
            plain.append(timed(lambda update=update: repository.push("origin", [update])))  # type: ignore[misc]  # a bound default
        tip = subprocess.run(
            ["git", "rev-parse", INDEX], cwd=Path(name) / "remote.git", capture_output=True, check=True, text=True
        ).stdout
        first, rest = fold[0], fold[1:]
        sys.stdout.write(
            f"{options.count} records; the median of {options.rounds}, in seconds\n"
            f"land: {statistics.median(land[1:]):.3f}\n"
            f"fold: {statistics.median(rest):.3f} (the first, which makes the summary anew: {first:.1f})\n"
            f"land and fold: {statistics.median(a + b for a, b in zip(land[1:], rest, strict=True)):.3f}\n"
            f"plain push of one commit: {statistics.median(plain[1:]):.3f}\n"
            f"index at {tip.strip()[:12]}\n"
        )


if __name__ == "__main__":
    main()
