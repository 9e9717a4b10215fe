"""``make demo``: type, one after the other, the commands that a person would type, and show what they print."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.rule import Rule

DISCARDED = "exp/boosting"
EXPERIMENTS = (
    (
        "boosting",
        ["model=hist_gradient_boosting"],
        "Delays are not linear in weather and hour; boosted histograms see that.",
    ),
    (
        "xgboost",
        ["model=xgboost"],
        "Finer bins than boosted histograms have tell the long delays apart, and should beat the line.",
    ),
    (
        "gusts",
        ["validation=gusts", "features.numeric=[dep_delay, distance, wind_gust]"],
        "Gusts explain late arrivals.",
    ),
)
console = Console(highlight=False)


class Demo:
    """One run of the demo: its folder, and how long each step took in seconds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.project = folder / "project"
        self.seconds: list[tuple[str, float]] = []

    def step(self, title: str) -> None:
        """Say what comes next."""
        self.seconds.append((title, time.monotonic()))
        console.print()
        console.print(Rule(f"[bold]{len(self.seconds)}. {title}[/bold]", align="left"))

    def type(self, *command: str, cwd: Path | None = None, allowed: tuple[int, ...] = (0,)) -> str:
        """Run a command as a person would type it, and show it and what it prints; gives its output."""
        place = cwd or self.project
        console.print(
            f"[dim]{place.relative_to(self.folder.parent)}[/dim] $ {shlex.join(command)}", style="cyan", soft_wrap=True
        )
        quiet = "--json" in command
        done = subprocess.run(command, cwd=place, check=False, text=True, stdout=subprocess.PIPE if quiet else None)
        if done.returncode not in allowed:
            console.print(f"[red]ended with {done.returncode}[/red]")
            sys.exit(done.returncode or 1)
        return done.stdout or ""

    def finish(self) -> None:
        """Show what each step took."""
        ends = [start for _, start in self.seconds[1:]] + [time.monotonic()]
        console.print()
        console.print(Rule("Done", align="left"))
        for (title, start), end in zip(self.seconds, ends, strict=True):
            console.print(f"{end - start:7.1f} s  {title}")
        console.print(f"{ends[-1] - self.seconds[0][1]:7.1f} s  in all")
        console.print(f"Everything is kept for exploring in {self.folder}", soft_wrap=True)


def play(demo: Demo) -> None:
    """All steps, in order."""
    set_up(demo)
    demo.step("Reconcile main: the baseline")
    demo.type("cd4ml", "reconcile")
    demo.step("Open three experiment branches and push them")
    for name, overrides, hypothesis in EXPERIMENTS:
        demo.type("cd4ml", "new", name, *overrides, "--hypothesis", hypothesis)
    demo.type("git", "push", "--quiet", "origin", *(f"exp/{name}" for name, _, _ in EXPERIMENTS))
    demo.step("Reconcile them")
    demo.type("cd4ml", "reconcile")
    demo.step("See how they stand, and the best against the champion")
    demo.type("cd4ml", "status")
    demo.type("cd4ml", "diff", "main", best(demo))
    demo.step("Plan again: nothing is left to do")
    demo.type("cd4ml", "plan", "--exit-code")
    demo.step(f"Delete {DISCARDED} here and on the remote, and find it all the same")
    demo.type("git", "branch", "-D", DISCARDED)
    demo.type("git", "push", "--quiet", "origin", "--delete", DISCARDED)
    demo.type("cd4ml", "search", "lifecycle = 'discarded' and params.model.name = 'hist_gradient_boosting'")
    demo.step("Reproduce it in a fresh clone with an empty DVC cache")
    demo.type("git", "clone", "--quiet", "remote.git", "clone", cwd=demo.folder)
    demo.type("cd4ml", "reproduce", DISCARDED, cwd=demo.folder / "clone")


def set_up(demo: Demo) -> None:
    """The bare repository as remote, and a project that is pushed to it."""
    demo.step("Make a remote and a project, and pin the data")
    demo.type("git", "init", "--quiet", "--bare", "--initial-branch=main", "remote.git", cwd=demo.folder)
    demo.type("cd4ml", "init", "project", "--storage", "../storage", cwd=demo.folder)
    demo.type("cd4ml", "data", "update")
    demo.type("git", "add", "--all")
    demo.type("git", "commit", "--quiet", "--message", "A project that predicts how late a flight arrives")
    demo.type("git", "remote", "add", "origin", "../remote.git")
    demo.type("git", "push", "--quiet", "--set-upstream", "origin", "main")


def best(demo: Demo) -> str:
    """The branch whose run has the lowest error on the validation side."""
    found = json.loads(demo.type("cd4ml", "search", "health = 'Healthy' and branch != 'main'", "--json"))
    ranked = min(found["runs"], key=lambda run: run["metrics"]["validation"]["rmse"])
    return str(ranked["branch"])


def main() -> None:
    """Read the arguments and play the demo in a new folder."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--directory", type=Path, help="a new or empty folder to work in")
    folder = parser.parse_args().directory or Path(tempfile.mkdtemp(prefix="cd4ml-demo-"))
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        sys.exit(f"{folder} is not empty: name a new folder with DEMO_DIR=")
    for role in ("AUTHOR", "COMMITTER"):  # a machine without a Git identity can run the demo, too
        os.environ.setdefault(f"GIT_{role}_NAME", "cd4ml demo")
        os.environ.setdefault(f"GIT_{role}_EMAIL", "demo@localhost")
    console.print(f"Working in {folder}", soft_wrap=True)
    demo = Demo(folder)
    play(demo)
    demo.finish()


if __name__ == "__main__":
    main()
