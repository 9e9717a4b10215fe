"""What a plan over many branches costs, and listing them, beside ``dvc exp show``.

Makes a project of its own with that many experiment branches, each with another pin of its data, and an index that
answers all of them (records as real ones have them; nothing is run). Then every command is a new process::

    python benchmarks/many_branches.py --branches 1000 --experiments 100 --rounds 5

``cold``: nothing is remembered. ``nothing changed`` and ``one changed``: what an ordinary day costs. ``the base branch
moved``: what every branch's merge result has to be looked at again for. ``gone``: so many branches more that were
recorded once and are deleted. The branches share 20 configurations, since what Hydra needs for each, once, is another
matter (a quarter of a second); the branch that changes has one of its own every time.

``dvc exp show --json`` is measured in a project of DVC's own with a stage, parameters and a metric, on experiments
that were written as the refs and commits that ``dvc exp run`` leaves. DVC remembers what it has shown, so there are
two figures: the first time, and again. Where fewer experiments were made than there are branches, what each costs
beyond an empty listing is scaled to their number.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cd4ml.controller.project import open_project
from cd4ml.controller.reconciling.observe import observe
from cd4ml.controller.reconciling.reconcile import Request, make_plan
from cd4ml.index.record import RECORD_PATH, encode, seal
from cd4ml.plan.action import RecordExperiment, Run, experiment_body

sys.path.insert(0, str(Path(__file__).parent))
from synthetic_index import envelope_of, run_body  # type: ignore[import-not-found]  # found beside this file

WHO = "Judge <judge@example.org> 1760000000 +0000"
EXPERIMENT = "conf/experiment/baseline.yaml"
PIN = "data/planes.lock.json"
CONFIGURATIONS = 20
LISTINGS = ("search", "status")
BIN = Path(sys.executable).parent
INDEX = "refs/heads/cd4ml/index"


def sh(folder: Path, *command: str, data: bytes = b"") -> str:
    """Output of a command that must succeed."""
    return subprocess.run(command, cwd=folder, input=data, stdout=subprocess.PIPE, check=True).stdout.decode().strip()


@dataclass(frozen=True)
class Cost:
    """Seconds that a command took: on the clock, and of processors (its children's too)."""

    wall: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.wall:7.2f} s ({self.cpu:.2f} s of processors)"


def cost(folder: Path, *command: str, rounds: int = 1) -> Cost:
    """Of a command that must succeed, the median of several rounds."""
    found = []
    for _ in range(rounds):
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, check=True)
        wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append(Cost(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime))
    return middle(found)


def middle(found: list[Cost]) -> Cost:
    """The median of each."""
    return Cost(statistics.median(one.wall for one in found), statistics.median(one.cpu for one in found))


def commits(ref_of: dict[str, str], base: str, files: dict[str, dict[str, bytes]]) -> bytes:
    """A stream for ``git fast-import``: for each ref a commit on ``base`` with these files."""
    parts: list[bytes] = []
    for name, ref in ref_of.items():
        parts.append(f"commit {ref}\nauthor {WHO}\ncommitter {WHO}\ndata {len(name)}\n{name}\nfrom {base}\n".encode())
        for path, data in files[name].items():
            parts.append(f"M 100644 inline {path}\ndata {len(data)}\n".encode() + data + b"\n")
    return b"".join(parts)


def make_project(folder: Path, branches: int) -> Path:
    """A project with a bare remote that has the branches; returns its folder."""
    project, remote = folder / "project", folder / "remote.git"
    sh(folder, "git", "init", "--quiet", "--bare", "--initial-branch=main", "remote.git")
    sh(folder, str(BIN / "cd4ml"), "init", "project", "--storage", "../storage")
    sh(project, str(BIN / "cd4ml"), "data", "update")
    sh(project, "git", "add", "--all")
    sh(project, "git", "commit", "--quiet", "--message", "A project")
    sh(project, "git", "remote", "add", "origin", "../remote.git")
    sh(project, "git", "push", "--quiet", "--set-upstream", "origin", "HEAD:main")
    names = [f"exp/b{number}" for number in range(branches)]
    pin = json.loads((project / PIN).read_text("utf-8"))
    text = "# @package _global_\nname: b\nseed: {seed}\n"
    files = {
        name: {
            EXPERIMENT: text.format(seed=1000 + number % CONFIGURATIONS).encode(),
            PIN: json.dumps({**pin, "digest": f"{number:064x}"}, indent=1).encode() + b"\n",
        }
        for number, name in enumerate(names)
    }
    base = sh(remote, "git", "rev-parse", "main")
    stream = commits({name: f"refs/heads/{name}" for name in names}, base, files)
    sh(remote, "git", "fast-import", "--quiet", data=stream)
    return project


def answer_all(folder: Path) -> None:
    """Give the remote an index that answers everything that the heads ask for, as two folds would have left it."""
    observation = observe(open_project(folder / "project"))
    plan = make_plan(observation, Request())
    runs = []
    for number, action in enumerate(plan.actions):
        if isinstance(action, Run) and action.target.components:
            parts = action.target.components
            facts = {
                "fingerprint": parts.fingerprint,
                "components": parts.as_mapping(),
                "commit": action.target.commit,
                "tree": action.target.tree,
                "branch": action.branch,
                "side": action.target.side,
            }
            body = run_body(50 * number)  # none that repeats another
            failed = body["outcome"] == "failed"
            runs.append(seal({**body, **facts} if not failed else {**run_body(50 * number + 1), **facts}))
    write_fold(folder / "remote.git", 1, runs)
    again = make_plan(observe(open_project(folder / "project")), Request())
    records = [
        seal(experiment_body(item, action))
        for item in again.items
        for action in item.actions
        if isinstance(action, RecordExperiment)
    ]
    write_fold(folder / "remote.git", 2, records)


def write_fold(remote: Path, number: int, bodies: list[dict[str, Any]]) -> None:
    """One fold commit more, and the commits that landed for it, which it has as parents."""
    marks = remote / "marks"
    landed = []
    for mark, body in enumerate(bodies, 1):
        data = encode(body)
        landed.append(
            f"commit refs/benchmark/landed\nmark :{mark}\ncommitter {WHO}\ndata 7\nlanded\n\nfrom {body['commit']}\n"
            f"M 100644 inline {RECORD_PATH}\ndata {len(data)}\n".encode()
            + data
            + b"\n"
        )
    command = ("git", "fast-import", "--quiet", "--force")
    sh(remote, *command, f"--export-marks={marks}", data=b"".join(landed))
    commit_of = dict(line.removeprefix(":").split(" ") for line in marks.read_text("utf-8").splitlines())
    known = sh(remote, "git", "for-each-ref", "--format=%(objectname)", INDEX)
    head = f"commit {INDEX}\ncommitter {WHO}\ndata 4\nfold\n" + (f"from {known}\n" if known else "")
    parents = "".join(f"merge {commit}\n" for commit in commit_of.values())
    made = [envelope_of(body, number, commit_of[str(mark)]) for mark, body in enumerate(bodies, 1)]
    files = b"".join(f"M 100644 inline {path}\ndata {len(data)}\n".encode() + data + b"\n" for path, data in made)
    sh(remote, *command, data=(head + parents).encode() + files)
    sh(remote, "git", "update-ref", "-d", "refs/benchmark/landed")


def record_gone(remote: Path, count: int) -> None:
    """So many branches that were recorded at main's commit once, each with a record of its own, and are deleted."""
    main = sh(remote, "git", "rev-parse", "main")
    listed = sh(remote, "git", "ls-tree", "-r", "--name-only", INDEX, "experiments/").splitlines()
    template = json.loads(sh(remote, "git", "show", f"{INDEX}:{listed[0]}"))["record"]
    bodies = [
        seal({**template, "branch": f"exp/gone{number}", "name": f"gone{number}", "commit": main, "is_base": False})
        for number in range(count)
    ]
    write_fold(remote, 3, bodies)


def make_experiments(folder: Path, count: int) -> Path:
    """A project of DVC's with so many experiments on its only commit."""
    project = folder / f"dvc-{count}"
    project.mkdir()
    sh(project, "git", "init", "--quiet")
    sh(project, str(BIN / "dvc"), "init", "--quiet")
    stage = "stages:\n  train:\n    cmd: train\n    params: [seed]\n    metrics:\n    - metrics.json: {cache: false}\n"
    (project / "dvc.yaml").write_text(stage, "utf-8")
    (project / "params.yaml").write_text("seed: 0\n", "utf-8")
    (project / "metrics.json").write_text('{"rmse": 0.5}\n', "utf-8")
    sh(project, "git", "add", "--all")
    sh(project, "git", "commit", "--quiet", "--message", "A project")
    base = sh(project, "git", "rev-parse", "HEAD")
    names = [f"named-{number}" for number in range(count)]
    files = {
        name: {"params.yaml": f"seed: {number}\n".encode(), "metrics.json": f'{{"rmse": 0.{number}}}\n'.encode()}
        for number, name in enumerate(names)
    }
    stream = commits({name: f"refs/exps/{base[:2]}/{base[2:]}/{name}" for name in names}, base, files)
    sh(project, "git", "fast-import", "--quiet", data=stream)
    return project


def push_one(folder: Path, number: int) -> None:
    """Another commit on one branch."""
    text = f"# @package _global_\nname: changed\nseed: {50_000 + number}\n".encode()
    tip = sh(folder / "remote.git", "git", "rev-parse", "exp/b0")
    stream = commits({"changed": "refs/heads/exp/b0"}, tip, {"changed": {EXPERIMENT: text}})
    sh(folder / "remote.git", "git", "fast-import", "--quiet", "--force", data=stream)


def move_base(folder: Path, number: int) -> None:
    """Another commit on the base branch, which changes no fingerprint."""
    tip = sh(folder / "remote.git", "git", "rev-parse", "main")
    stream = commits({"moved": "refs/heads/main"}, tip, {"moved": {"NOTES.md": f"{number}\n".encode()}})
    sh(folder / "remote.git", "git", "fast-import", "--quiet", data=stream)


def forget(project: Path) -> None:
    """Nothing remembered."""
    shutil.rmtree(project / ".git" / "cd4ml", ignore_errors=True)


def say(line: str) -> None:
    """One line of the result."""
    print(line, flush=True)  # noqa: T201  # a script's output


def main() -> None:
    """Make everything in a temporary folder, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--branches", type=int, default=1000)
    parser.add_argument("--experiments", type=int, default=100)
    parser.add_argument("--gone", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    os.environ |= {"DVC_NO_ANALYTICS": "1", "CD4ML_WARM_MINUTES": "0"}
    with tempfile.TemporaryDirectory(prefix="cd4ml-branches-") as name:
        measure(Path(name), options)


def measure(folder: Path, options: argparse.Namespace) -> None:
    """Every figure, as one line each."""
    count, rounds = options.branches, options.rounds
    project = make_project(folder, count)
    plan = (str(BIN / "cd4ml"), "plan")
    say(f"{count} branches; whole commands, the median of {rounds} where more than one is possible")
    say(f"plan, first ever:            {cost(project, *plan)}")
    answer_all(folder)
    forget(project)
    say(f"plan, cold:                  {cost(project, *plan)}")
    sh(project, *plan, "--exit-code")
    say(f"plan, nothing changed:       {cost(project, *plan, rounds=rounds)}")
    changed = []
    for number in range(rounds):
        push_one(folder, number)
        changed.append(cost(project, *plan))
    say(f"plan, one branch changed:    {middle(changed)}")
    move_base(folder, 0)
    say(f"plan, base branch moved:     {cost(project, *plan)}")
    listings = {verb: cost(project, str(BIN / "cd4ml"), verb, "--json", rounds=rounds + 1) for verb in LISTINGS}
    for verb, found in listings.items():
        say(f"{verb} --json, {count} experiments, again: {found}")
    (project / ".git/cd4ml/query.sqlite").unlink(missing_ok=True)
    rebuilt = cost(project, str(BIN / "cd4ml"), "search", "--json")
    say(f"search --json, {count} experiments, its cache to be rebuilt: {rebuilt}")
    listings = {**listings, "search that rebuilds its cache": rebuilt}
    record_gone(folder / "remote.git", options.gone)
    say(f"plan, {options.gone} gone branches more, first look: {cost(project, *plan)}")
    say(f"plan, {options.gone} gone branches more: {cost(project, *plan, rounds=rounds)}")
    beside_dvc(folder, options, listings)


def beside_dvc(folder: Path, options: argparse.Namespace, listings: dict[str, Cost]) -> None:
    """The same listing by DVC, the first time and again, and the ratios to ours."""
    show = (str(BIN / "dvc"), "exp", "show", "--json")
    made, count, rounds = options.experiments, options.branches, options.rounds
    some = make_experiments(folder, made)
    none = cost(make_experiments(folder, 0), *show, rounds=rounds)
    first = []
    for _ in range(rounds):
        shutil.rmtree(some / ".dvc/tmp/exps", ignore_errors=True)
        first.append(cost(some, *show))
    looks = {"first time": middle(first), "again": cost(some, *show, rounds=rounds)}
    say(f"dvc exp show --json, no experiments: {none}")
    for when, found in looks.items():
        walls, cpus = (none.wall, found.wall), (none.cpu, found.cpu)
        scaled = Cost(*(few + max(0.0, many - few) / made * count for few, many in (walls, cpus)))
        say(f"dvc exp show --json, {made} experiments, {when}: {found}; makes for {count}: {scaled}")
        for verb, ours in listings.items():
            say(f"  ratio to {verb}: {scaled.wall / ours.wall:.1f}x, of processors {scaled.cpu / ours.cpu:.1f}x")


if __name__ == "__main__":
    main()
