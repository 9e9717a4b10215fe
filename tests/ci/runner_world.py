"""What a forge's runners have in common: a remote, a machine without network, and programs that stand in for downloads.

The machine has the Python of the tests, and with it the cd4ml of this tree, so nothing is installed: ``python -m pip
install`` is only written down. The remote is a bare repository whose hook writes down which job pushed, and refuses
every job but the one that may write, as a token without the right would.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from cd4ml.gateways.warm import SOCKET_VARIABLE
from tests.conftest import Shell
from tests.forge.served_world import TOKEN

BIN = Path(sys.executable).parent
_PYTHON = """#!/bin/sh
# Nothing is installed: it is there.
if [ "$1 $2 $3" = "-m pip install" ]; then
    shift 3
    echo "install $*" >> "$CD4ML_TEST_INSTALLED"
    exit 0
fi
exec {python} "$@"
"""
_CD4ML = """#!/bin/sh
# The one of this tree. It is written down which job called which verb, and whether a token was within its reach.
token=without; env | grep -v ^CD4ML_TEST_ | grep -q "$CD4ML_TEST_TOKEN" && token=with
echo "${{GITHUB_JOB:-$CI_JOB_NAME}} $1 $token" >> "$CD4ML_TEST_CALLED"
exec {cd4ml} "$@"
"""
_GH = """#!/bin/sh
# GitHub's own program: what it is asked to start is only written down.
echo "$*" >> "$CD4ML_TEST_STARTED"
"""
_HOOK = """#!/bin/sh
# A push from a job needs a right that one job alone has.
job="${GITHUB_JOB:-$CI_JOB_NAME}"
[ -z "$job" ] && exit 0
while read -r old new ref; do echo "$job $ref" >> "$CD4ML_TEST_PUSHED"; done
[ "$job" = land ] || { echo "denied to $job" >&2; exit 1; }
"""
TABLE_ROWS = 240


@dataclass(frozen=True)
class Machine:
    """``folder`` holds ``remote.git``, ``storage``, the work tree ``project`` and what the stand-ins leave."""

    folder: Path
    warm: str

    @property
    def project(self) -> Shell:
        """A person at work in a clone."""
        return Shell(self.folder / "project", {SOCKET_VARIABLE: self.warm})

    @property
    def environment(self) -> dict[str, str]:
        """All that a job's process inherits."""
        kept = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "LANG", "DVC_NO_ANALYTICS", "GX_ANALYTICS_ENABLED")
        return {
            **{name: os.environ[name] for name in kept if name in os.environ},
            SOCKET_VARIABLE: self.warm,
            "HOME": str(self.folder / "home"),
            "PATH": os.pathsep.join([str(self.folder / "bin"), "/usr/local/bin", "/usr/bin", "/bin"]),
            "GIT_CONFIG_NOSYSTEM": "1",
            "CD4ML_WARM_MINUTES": "0",
            "TERM": "dumb",
            "NO_COLOR": "1",
            "CD4ML_TEST_REMOTE": str(self.folder / "remote.git"),
            "CD4ML_TEST_ARTIFACTS": str(self.folder / "uploaded"),
            "CD4ML_TEST_INSTALLED": str(self.folder / "installed.txt"),
            "CD4ML_TEST_PUSHED": str(self.folder / "pushed.txt"),
            "CD4ML_TEST_STARTED": str(self.folder / "started.txt"),
            "CD4ML_TEST_CALLED": str(self.folder / "called.txt"),
            "CD4ML_TEST_TOKEN": TOKEN,
        }

    def told(self, what: str) -> list[str]:
        """The lines that the stand-ins wrote so far: ``pushed`` (job, ref), ``called`` (job, verb, with or without a
        token within reach), ``installed`` (what pip was asked for), ``started`` (what GitHub was asked to start)."""
        path = self.folder / f"{what}.txt"
        return path.read_text("utf-8").splitlines() if path.exists() else []

    def commit(self, message: str, *files: tuple[str, str]) -> str:
        """Write files in the work tree and commit all of it; gives the commit."""
        for path, text in files:
            (self.folder / "project" / path).write_text(text, "utf-8")
        self.project.run("git", "add", "--all")
        self.project.run("git", "commit", "--quiet", "--allow-empty", "--message", message)
        return self.head()

    def head(self, revision: str = "HEAD") -> str:
        """A commit of the work tree's repository."""
        return self.project.run("git", "rev-parse", revision).strip()


def make_machine(folder: Path, warm: str, provider: str, fork_label: str = "") -> Machine:
    """A project on one small table and a linear model, pushed and not reconciled, for the provider."""
    machine = Machine(folder, warm)
    for name in ("bin", "home", "uploaded"):
        (folder / name).mkdir(parents=True)
    for name, text in (
        ("python", _PYTHON.format(python=sys.executable)),
        ("cd4ml", _CD4ML.format(cd4ml=BIN / "cd4ml")),
        ("gh", _GH),
    ):
        program = folder / "bin" / name
        program.write_text(text, "utf-8")
        program.chmod(0o755)
    here = Shell(folder, {SOCKET_VARIABLE: warm})
    here.run("git", "init", "--quiet", "--bare", "remote.git")
    hook = folder / "remote.git" / "hooks" / "pre-receive"
    hook.write_text(_HOOK, "utf-8")
    hook.chmod(0o755)
    (folder / "table.csv").write_text(_table(), "utf-8")
    here.run(
        "cd4ml", "init", "project", "--data", "table.csv", "--target", "price", "--storage", str(folder / "storage")
    )
    project = machine.project
    choose(folder / "project", provider, fork_label)
    project.run("cd4ml", "render")
    machine.commit("A project")
    project.run("git", "remote", "add", "origin", str(folder / "remote.git"))
    project.run("git", "push", "--quiet", "--set-upstream", "origin", "main")
    return machine


def choose(project: Path, provider: str, fork_label: str) -> None:
    """Say in ``conf/`` for whom workflows are rendered, and that the model is a linear one."""
    config = project / "conf" / "config.yaml"
    text = config.read_text("utf-8")
    config.write_text(text.replace("ci: github", f"ci: {provider}"), "utf-8")
    ci = project / "conf" / "ci" / f"{provider}.yaml"
    ci.write_text(ci.read_text("utf-8").replace('fork_label: ""', f'fork_label: "{fork_label}"'), "utf-8")


def _table() -> str:
    rows = ["day,size,rooms,price"]
    for row in range(TABLE_ROWS):
        size, rooms = 20 + row * 37 % 90, 1 + row * 11 % 5
        month, day = 1 + row // 28 % 12, 1 + row % 28
        rows.append(f"2024-{month:02d}-{day:02d},{size},{rooms},{3 * size + 10 * rooms + row * 7919 % 13}")
    return "\n".join(rows) + "\n"


def run_runner(command: list[str], folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Start a runner and wait for its end; both outputs come as one text."""
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
