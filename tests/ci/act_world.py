"""GitHub's runner, played by ``act`` without Docker: events in, the rendered workflows of the right commit run.

As GitHub does it, the workflows come from the pushed commit, of a pull request from its head, and for `workflow_run`
from the base branch. The actions are stand-ins in ``actions/``: none is fetched.
"""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from cd4ml.render.workflows import FORK_FILE, FORK_REPORT_FILE, WORKFLOW_FILE
from tests.ci.runner_world import BIN, Machine, run_runner
from tests.forge.github_world import REPOSITORY, GitHubWorld
from tests.forge.served_world import TOKEN

ACTIONS = Path(__file__).parent / "actions"


@dataclass(frozen=True)
class Ran:
    """What one workflow run did: ``jobs`` says of each job that ran whether it succeeded."""

    number: int
    jobs: dict[str, bool]
    log: str

    @property
    def succeeded(self) -> bool:
        return all(self.jobs.values())


@dataclass
class Runner:
    """A repository on the fake GitHub whose workflows really run."""

    machine: Machine
    forge: GitHubWorld
    _numbers: Any = field(default_factory=lambda: itertools.count(1))

    def push(self, branch: str, *, force: bool = False) -> Ran:
        """Push the branch as it stands in the work tree, and run what that starts."""
        before = "0" * 40
        self.machine.project.run("git", "push", "--quiet", *["--force"] * force, "origin", branch)
        after = self.machine.head(branch)
        for pull in self.forge.pulls.values():
            if pull["head"]["ref"] == branch and pull["head"]["repo"]["full_name"] == REPOSITORY:
                pull["head"]["sha"] = after
        event = {"ref": f"refs/heads/{branch}", "before": before, "after": after, "deleted": False}
        return self.run("push", event, WORKFLOW_FILE, after)

    def pull_request(self, number: int, action: str, label: str = "") -> Ran:
        """What an event of a pull request starts: of a fork, with a token that may only read."""
        pull = self.forge.pulls[number]
        where = f"+{pull['head']['sha']}:refs/pull/{number}/head"  # GitHub keeps it
        self.machine.project.run("git", "push", "--quiet", "origin", where)
        event = {"action": action, "number": number, "pull_request": pull}
        if label:
            event["label"] = {"name": label}
        ours = pull["head"]["repo"] and pull["head"]["repo"]["full_name"] == REPOSITORY
        file = FORK_FILE if action == "labeled" else WORKFLOW_FILE
        return self.run("pull_request", event, file, pull["head"]["sha"], rights=None if ours else frozenset())

    def after(self, ran: Ran, number: int) -> Ran:
        """What the end of a run of a fork's code starts."""
        pull = self.forge.pulls[number]
        run = {
            "id": ran.number,
            "name": "cd4ml fork",
            "event": "pull_request",
            "conclusion": "success" if ran.succeeded else "failure",
            "head_sha": pull["head"]["sha"],
            "head_repository": pull["head"]["repo"],
            "pull_requests": [],
        }
        event = {"action": "completed", "workflow_run": run}
        return self.run("workflow_run", event, FORK_REPORT_FILE, self.machine.head("origin/main"))

    def schedule(self, cron: str) -> Ran:
        """What the clock starts."""
        return self.run("schedule", {"schedule": cron}, WORKFLOW_FILE, self.machine.head("origin/main"))

    def dispatch(self, branch: str) -> Ran:
        """What the clock asked for, or a person: ``Run workflow`` on the base branch."""
        event = {"ref": "refs/heads/main", "inputs": {"branch": branch}}
        return self.run("workflow_dispatch", event, WORKFLOW_FILE, self.machine.head("origin/main"))

    def run(
        self, name: str, event: dict[str, Any], file: str, commit: str, *, rights: frozenset[str] | None = None
    ) -> Ran:
        """Run one workflow file as the commit has it; ``rights`` are the token's, if not what the jobs ask for."""
        event = _as_github_sends(name, event)
        number = next(self._numbers)
        place = self.machine.folder / "runs" / str(number)
        workflow = self._set_up(place, file, commit)
        event |= {"repository": {"full_name": REPOSITORY, "name": "flights", "default_branch": "main"}}
        (place / "event.json").write_text(json.dumps(event), "utf-8")
        given = self.forge.rights
        self.forge.rights = set(_rights(workflow) if rights is None else rights)
        environment = {
            **self.machine.environment,
            "CD4ML_TEST_RUN": str(number),
            "XDG_CACHE_HOME": str(place / "cache"),
        }
        command = [str(BIN / "act"), name, "--eventpath", str(place / "event.json"), "--workflows", file]
        command += ["--platform", "ubuntu-24.04=-self-hosted", "--no-skip-checkout", "--no-cache-server"]
        command += ["--env", f"GITHUB_API_URL={self.forge.api}", "--secret", f"GITHUB_TOKEN={TOKEN}"]
        command += ["--concurrent-jobs", "1", "--log-prefix-job-id", "--rm"]
        for action in sorted(set(re.findall(r"uses: (\S+)", workflow))):
            stand_in = ACTIONS / action.partition("@")[0].partition("/")[2]
            command += ["--local-repository", f"{action}={stand_in}"]
        try:
            done = run_runner(command, place / "checkout", environment)
        finally:
            self.forge.rights = given
        ended = re.findall(r"^\[([\w-]+) *\].*Job (succeeded|failed)$", done.stdout, re.MULTILINE)
        said = "\n".join(line for line in done.stdout.splitlines() if re.match(r"\[[\w-]+ *\] +(\||❌)|Error", line))
        return Ran(number, {job: how == "succeeded" for job, how in ended}, said or done.stdout)

    def _set_up(self, place: Path, file: str, commit: str) -> str:
        """A folder with the workflow as the commit has it, and the address by which act knows the repository."""
        checkout = place / "checkout"
        workflow = self.machine.project.run("git", "show", f"{commit}:{file}")
        (checkout / file).parent.mkdir(parents=True)
        (checkout / file).write_text(workflow, "utf-8")
        shell = self.machine.project.at(checkout)
        shell.run("git", "init", "--quiet", "--initial-branch", "main")
        shell.run("git", "add", "--all")
        shell.run("git", "commit", "--quiet", "--message", "As pushed")
        shell.run("git", "remote", "add", "origin", f"https://github.com/{REPOSITORY}.git")
        return workflow


def _as_github_sends(name: str, event: dict[str, Any]) -> dict[str, Any]:
    """GitHub's own example of the event (``events.json``), with what is to be said in this one put over it."""
    examples = json.loads((Path(__file__).parent / "events.json").read_text("utf-8"))
    kind = f"{name} {event['action']}" if "action" in event else name
    return _over(examples.get(kind, {}), event)


def _over(example: dict[str, Any], said: dict[str, Any]) -> dict[str, Any]:
    both = {key: (example[key], said[key]) for key in said if isinstance(example.get(key), dict)}
    deeper = {key: _over(old, new) for key, (old, new) in both.items() if isinstance(new, dict)}
    return {**example, **said, **deeper}


def _rights(workflow: str) -> set[str]:
    """What the workflow's jobs may write on the forge, by the words of the fake."""
    words = {"pull-requests": "pulls", "checks": "checks", "statuses": "statuses"}
    jobs = yaml.safe_load(workflow)["jobs"].values()
    asked = {name for job in jobs for name, level in job["permissions"].items() if level == "write"}
    return {words[name] for name in asked if name in words}
