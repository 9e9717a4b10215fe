"""GitLab's runner, played by ``gitlab-ci-local`` with its shell executor: pipelines of the pushed commit really run.

What a pipeline is of (a branch, a merge request, a schedule) GitLab says in variables, which are given here. The token
is a variable of the environment ``cd4ml``, as docs/ci.md asks for. The runner knows no rules of ``workflow``: whether
there is a pipeline at all, it is asked as of the rules of a job.
"""

from __future__ import annotations

import io
import itertools
import re
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from cd4ml.render.workflows import GITLAB_FILE
from tests.ci.act_world import Ran
from tests.ci.runner_world import Machine, run_runner
from tests.forge.gitlab_world import PROJECT, GitLabWorld
from tests.forge.served_world import TOKEN

PROGRAM = Path(__file__).parent / "node_modules" / ".bin" / "gitlab-ci-local"
OURS = "42"
FORK = "77"


@dataclass
class Pipelines:
    """A project on the fake GitLab whose pipelines really run."""

    machine: Machine
    forge: GitLabWorld
    _numbers: Any = field(default_factory=lambda: itertools.count(1))

    def push(self, branch: str, *, force: bool = False) -> Ran:
        """Push the branch as it stands in the work tree, and run its merge request's pipeline, else its own."""
        self.machine.project.run("git", "push", "--quiet", *["--force"] * force, "origin", branch)
        commit = self.machine.head(branch)
        ours = (pull for pull in self.forge.pulls.values() if pull["source_branch"] == branch)
        open_ones = [
            pull["iid"] for pull in ours if pull["state"] == "opened" and str(pull["source_project_id"]) == OURS
        ]
        for number in open_ones:
            self.forge.pulls[number]["sha"] = commit
        if not open_ones:
            return self.run(branch, commit, {"CI_PIPELINE_SOURCE": "push", "CI_COMMIT_BRANCH": branch})
        told = {"CI_OPEN_MERGE_REQUESTS": f"{PROJECT}!{open_ones[0]}", "CI_COMMIT_BRANCH": branch}
        assert self.jobs_of(branch, commit, {"CI_PIPELINE_SOURCE": "push", **told}) == []
        return self.merge_request(open_ones[0])

    def merge_request(self, number: int, *, here: str = OURS) -> Ran:
        """The pipeline of a merge request, in the project with the id ``here``."""
        pull = self.forge.pulls[number]
        return self.run(pull["source_branch"], pull["sha"], self._of(number, here))

    def merge_request_jobs(self, number: int, *, here: str = OURS) -> list[str]:
        """The jobs that such a pipeline would have."""
        pull = self.forge.pulls[number]
        return self.jobs_of(pull["source_branch"], pull["sha"], self._of(number, here))

    def _of(self, number: int, here: str) -> dict[str, str]:
        pull = self.forge.pulls[number]
        return {
            "CI_PIPELINE_SOURCE": "merge_request_event",
            "CI_PROJECT_ID": here,
            "CI_MERGE_REQUEST_IID": str(number),
            "CI_MERGE_REQUEST_PROJECT_ID": OURS,
            "CI_MERGE_REQUEST_SOURCE_PROJECT_ID": str(pull["source_project_id"]),
            "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": pull["source_branch"],
            "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": pull["target_branch"],
        }

    def schedule(self) -> Ran:
        """What the schedule starts."""
        given = {"CI_PIPELINE_SOURCE": "schedule", "CI_COMMIT_BRANCH": "main"}
        return self.run("main", self.machine.head("origin/main"), given)

    def run(self, branch: str, commit: str, given: dict[str, str]) -> Ran:
        """Run the pipeline of a commit, which must have one."""
        number, place = self._set_up(branch, commit)
        assert self._starts(place, given)
        self.forge.handed_over = lambda job: _zipped(place / "checkout" / ".gitlab-ci-local" / "artifacts" / job)
        done = run_runner(self._command(given), place / "checkout", self._environment(place))
        ended = re.findall(r"^ (PASS|FAIL) +([\w-]+) *$", done.stdout, re.MULTILINE)
        return Ran(number, {job: how == "PASS" for how, job in ended}, done.stdout)

    def jobs_of(self, branch: str, commit: str, given: dict[str, str]) -> list[str]:
        """The jobs of the pipeline of a commit; none where there is no pipeline."""
        _, place = self._set_up(branch, commit)
        return self._listed(place, given) if self._starts(place, given) else []

    def _starts(self, place: Path, given: dict[str, str]) -> bool:
        pipeline = yaml.safe_load((place / "checkout" / GITLAB_FILE).read_text("utf-8"))
        rules = [{key: rule[key] for key in ("if", "when") if key in rule} for rule in pipeline["workflow"]["rules"]]
        asked = {"variables": pipeline["variables"], "asked": {"script": ["true"], "rules": rules}}
        (place / "checkout" / "asked.yml").write_text(yaml.safe_dump(asked), "utf-8")
        return self._listed(place, given, "--file", "asked.yml") == ["asked"]

    def _listed(self, place: Path, given: dict[str, str], *options: str) -> list[str]:
        command = [*self._command(given), *options, "--list-csv"]
        listed = run_runner(command, place / "checkout", self._environment(place))
        lines = listed.stdout.splitlines()
        at = next((number for number, line in enumerate(lines) if line.startswith("name;")), None)
        assert at is not None, listed.stdout
        return [line.partition(";")[0] for line in lines[at + 1 :] if ";" in line]

    def _set_up(self, branch: str, commit: str) -> tuple[int, Path]:
        """A fresh clone at the commit, and the runner's home with the variable of one environment."""
        number = next(self._numbers)
        place = self.machine.folder / "runs" / str(number)
        settings = place / "home" / ".gitlab-ci-local"
        settings.mkdir(parents=True)
        variables = {"global": {"CD4ML_FORGE_TOKEN": {"values": {"cd4ml": TOKEN}}}}
        (settings / "variables.yml").write_text(yaml.safe_dump(variables), "utf-8")
        shell = self.machine.project.at(place)
        shell.run("git", "clone", "--quiet", "--no-checkout", str(self.machine.folder / "remote.git"), "checkout")
        clone = shell.at(place / "checkout")
        clone.run("git", "fetch", "--quiet", "origin", commit)
        clone.run("git", "checkout", "--quiet", "-B", branch, commit)
        assert (place / "checkout" / GITLAB_FILE).is_file()
        return number, place

    def _command(self, given: dict[str, str]) -> list[str]:
        assert PROGRAM.exists(), "gitlab-ci-local is missing: run make tools"
        variables = {
            "CI_SERVER_URL": self.forge.api,
            "CI_PROJECT_PATH": PROJECT,
            "CI_PROJECT_URL": str(self.machine.folder / "remote"),  # a push goes to it with .git at its end
            "CI_PROJECT_ID": OURS,
            "CI_DEFAULT_BRANCH": "main",
            **given,
        }
        command = [str(PROGRAM), "--force-shell-executor", "--shell-isolation", "--no-color", "--concurrency", "1"]
        for name, value in variables.items():
            command += ["--variable", f"{name}={value}"]
        if "CI_COMMIT_BRANCH" not in given:
            command += ["--unset-variable", "CI_COMMIT_BRANCH"]
        return command

    def _environment(self, place: Path) -> dict[str, str]:
        return {**self.machine.environment, "HOME": str(place / "home")}


def _zipped(folder: Path) -> bytes:
    """What a job left as GitLab hands it out, with what code that took the job's token may have put beside it."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder))
        archive.writestr(".git/config", '[core]\n\tfsmonitor = "touch pwned-by-settings"\n')
        archive.writestr("../../pwned-by-a-path", "")
    return made.getvalue()
