"""A forge of either kind, the port to it without any real waiting, and a small real project that is on it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cd4ml.controller.project import Project, open_project
from cd4ml.controller.reporting.report import Reported
from cd4ml.gateways.forge.access import Access
from cd4ml.gateways.forge.github import GitHub
from cd4ml.gateways.forge.gitlab import GitLab
from cd4ml.gateways.forge.patience import Patience
from cd4ml.promotion.addresses import Place
from cd4ml.promotion.review import Review
from tests.forge.github_world import REPOSITORY, GitHubWorld
from tests.forge.gitlab_world import PROJECT, GitLabWorld
from tests.forge.served_world import TOKEN

CONF = Path(__file__).parents[2] / "conf"
HEAD = "a" * 40
NOW = 1_772_359_200.0


@dataclass
class Clock:
    """Time that passes only when somebody sleeps; ``told`` are the lines said meanwhile."""

    now: float = NOW
    slept: list[float] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def patience(self, longest: float = 900.0) -> Patience:
        return Patience(longest=longest, sleep=self.sleep, now=lambda: self.now, tell=self.told.append)


def github_access(world: GitHubWorld, token: str = TOKEN, repository: str = REPOSITORY, account: str = "") -> Access:
    place = Place("github", "https://github.example", repository)
    return Access(place, world.api, token, "CD4ML_FORGE_TOKEN", account)


def gitlab_access(world: GitLabWorld, token: str = TOKEN, repository: str = PROJECT) -> Access:
    return Access(Place("gitlab", "https://gitlab.example", repository), world.api, token, "CD4ML_FORGE_TOKEN")


@dataclass
class OnGitHub:
    """What a test needs: the fake, the port to it, the time that it waits."""

    world: GitHubWorld
    clock: Clock
    forge: GitHub

    def again(self) -> GitHub:
        """A port as another run of the command has it: it remembers nothing."""
        return GitHub(github_access(self.world), self.clock.patience())


@dataclass
class OnGitLab:
    world: GitLabWorld
    clock: Clock
    forge: GitLab

    def again(self) -> GitLab:
        return GitLab(gitlab_access(self.world), self.clock.patience())


@contextmanager
def on_github(me: str | None = "cd4ml-bot") -> Iterator[OnGitHub]:
    """Ends by asking that nothing broke GitHub's description."""
    world, clock = GitHubWorld(me), Clock()
    with world:
        yield OnGitHub(world, clock, GitHub(github_access(world), clock.patience()))
    assert not world.violations


@contextmanager
def on_gitlab() -> Iterator[OnGitLab]:
    world, clock = GitLabWorld(), Clock()
    with world:
        yield OnGitLab(world, clock, GitLab(gitlab_access(world), clock.patience()))
    assert not world.violations


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def make_project(folder: Path, provider: str, labels: str = "{}") -> Path:
    """A repository with the conf of this project on ``main``, pushed to a bare one beside it."""
    work = folder / "project"
    work.mkdir(parents=True)
    git(folder, "init", "--quiet", "--bare", "remote.git")
    git(work, "init", "--quiet")
    shutil.copytree(CONF, work / "conf")
    config = work / "conf" / "config.yaml"
    config.write_text(config.read_text("utf-8").replace("- ci: github", f"- ci: {provider}"), "utf-8")
    ci = work / "conf" / "ci" / f"{provider}.yaml"
    text = ci.read_text("utf-8").replace("labels: {}", f"labels: {labels}")
    if provider == "github":  # of GitLab it must be empty
        text = text.replace('fork_label: ""', 'fork_label: "run it"')
    ci.write_text(text, "utf-8")
    git(work, "add", "--all")
    git(work, "commit", "--quiet", "--message", "A project")
    git(work, "remote", "add", "origin", "../remote.git")
    git(work, "push", "--quiet", "--set-upstream", "origin", "main")
    return work


def opened(work: Path) -> Project:
    """The project, its remote looked at once."""
    project = open_project(work)
    project.repository.fetch(project.remote)
    return project


def reports(work: Path) -> dict[str, str]:
    """The published reports on the remote, by key."""
    listed = git(work.parent / "remote.git", "for-each-ref", "--format=%(refname) %(objectname)", "refs/cd4ml/reports/")
    return dict(line.removeprefix("refs/cd4ml/reports/").split(" ") for line in listed.splitlines())


def reported(review: Review) -> Reported:
    return Reported(review)
