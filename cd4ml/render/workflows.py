"""What a forge runs: the CI workflows of GitHub or GitLab, as functions of the base branch's configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from cd4ml.render.seal import sealed
from cd4ml.render.templates import render_template
from cd4ml.spec.canonical import digest
from cd4ml.spec.experiment import Spec

WORKFLOW_FILE = ".github/workflows/cd4ml.yml"
FORK_FILE = ".github/workflows/cd4ml-fork.yml"
FORK_REPORT_FILE = ".github/workflows/cd4ml-fork-report.yml"
GITLAB_FILE = ".gitlab-ci.yml"

WORKFLOW_TEMPLATES: Mapping[str, str] = {
    WORKFLOW_FILE: "github/cd4ml.yml.j2",
    FORK_FILE: "github/cd4ml-fork.yml.j2",
    FORK_REPORT_FILE: "github/cd4ml-fork-report.yml.j2",
    GITLAB_FILE: "gitlab/gitlab-ci.yml.j2",
}
"""The template of each file that may be rendered; which of them are, ``conf/ci`` says."""


def render_workflows(spec: Spec, templates: Mapping[str, str], base: str) -> dict[str, str]:
    """The CI workflows by path: a function of the base branch's spec, and of its name ``base``.

    Raises ConfigError for a template that cannot be rendered.
    """
    return {
        path: sealed(
            render_template(WORKFLOW_TEMPLATES[path], templates, values),
            digest(values),
            digest(templates[WORKFLOW_TEMPLATES[path]]),
        )
        for path, values in _values(spec, base).items()
    }


def _values(spec: Spec, base: str) -> dict[str, dict[str, Any]]:
    """What each file is made of, so that a change of what it is not made of leaves it alone."""
    common = {"base": base, "python": spec.ci.python, "lock": spec.lock}
    if spec.ci.provider == "gitlab":
        image = f"docker.io/library/python:{spec.ci.python}-bookworm"
        return {GITLAB_FILE: {**common, "image": image, "branch_rules": _gitlab_rules(spec.experiments.branches)}}
    github = {**common, "base_pattern": _actions_pattern(base)}
    branches = list(dict.fromkeys(_actions_pattern(one) for one in (base, *spec.experiments.branches)))
    files: dict[str, dict[str, Any]] = {WORKFLOW_FILE: {**github, "branches": branches}}
    if spec.ci.fork_label:
        files[FORK_FILE] = {**github, "fork_label": spec.ci.fork_label}
        files[FORK_REPORT_FILE] = dict(common)
    return files


def _actions_pattern(pattern: str) -> str:
    r"""A branch pattern as Actions reads it: there ``*`` stops at ``/``, and ``**`` does not.

    ``+`` and ``!``, which are letters in a branch name, are signs there, and ``\`` takes that from them:
    https://docs.github.com/actions/reference/workflow-syntax-for-github-actions#filter-pattern-cheat-sheet
    """
    return re.sub(r"([+!])", r"\\\1", re.sub(r"\*+", "**", pattern))


def _gitlab_rules(patterns: tuple[str, ...]) -> list[str]:
    """Branch patterns as conditions; the regular expressions are RE2, between slashes."""
    return [f"$CI_COMMIT_BRANCH =~ /^{_regex(one)}$/" for one in dict.fromkeys(patterns)]


def _regex(pattern: str) -> str:
    pieces = (".*" if piece == "*" else re.sub(r"([^A-Za-z0-9_-])", r"\\\1", piece) for piece in _pieces(pattern))
    return "".join(pieces)


def _pieces(pattern: str) -> list[str]:
    return re.findall(r"\*|[^*]+", re.sub(r"\*+", "*", pattern))
