"""The CI workflows: golden, inert whatever the configuration says, and each job with no more than it needs."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
import yaml

from cd4ml.render.templates import render_template
from cd4ml.render.workflows import (
    FORK_FILE,
    FORK_REPORT_FILE,
    GITLAB_FILE,
    WORKFLOW_FILE,
    WORKFLOW_TEMPLATES,
    render_workflows,
)
from cd4ml.spec.experiment import Spec
from tests.render.test_artifacts import SPEC, TEMPLATES, assert_rendered, hostile_spec

HOSTILE_BASE = "ma'in ${{ x }}\n"
GITHUB = replace(SPEC, ci=replace(SPEC.ci, fork_label="run this"))
GITLAB = replace(SPEC, ci=replace(SPEC.ci, provider="gitlab"))
GOLDEN = {WORKFLOW_FILE: "cd4ml.yml", FORK_FILE: "cd4ml-fork.yml", FORK_REPORT_FILE: "cd4ml-fork-report.yml"} | {
    GITLAB_FILE: "gitlab-ci.yml"
}
BY_PATH = {path: GITLAB if path == GITLAB_FILE else GITHUB for path in WORKFLOW_TEMPLATES}


def hostile(spec: Spec) -> Spec:
    """``spec`` with values that ``parse`` refuses: rendering must be safe by itself."""
    other = hostile_spec()
    ci = replace(other.ci, provider=spec.ci.provider, fork_label="a 'b' ${{ secrets.X }}\n: # c")
    return replace(other, ci=ci)


def rendered(path: str, spec: Spec | None = None, base: str = "main") -> str:
    return render_workflows(spec or BY_PATH[path], TEMPLATES, base)[path]


def content(path: str, spec: Spec | None = None, base: str = "main") -> Any:
    return yaml.safe_load(rendered(path, spec, base))


def actions_jobs(path: str, **given: Any) -> dict[str, Any]:
    return dict(content(path, **given)["jobs"])


def github_jobs() -> list[tuple[str, str, dict[str, Any]]]:
    files = (WORKFLOW_FILE, FORK_FILE, FORK_REPORT_FILE)
    return [(path, name, job) for path in files for name, job in actions_jobs(path).items()]


def scripts(path: str, spec: Spec | None = None, base: str = "main") -> list[str]:
    """All that a shell is given."""
    value = content(path, spec, base)
    if path != GITLAB_FILE:
        return [step["run"] for job in value["jobs"].values() for step in job["steps"] if "run" in step]
    jobs = [value["default"], *(job for job in value.values() if isinstance(job, dict))]
    return [line for job in jobs for key in ("before_script", "script") for line in job.get(key, ())]


@pytest.mark.parametrize("path", WORKFLOW_TEMPLATES)
def test_the_workflow_is_golden(path: str) -> None:
    assert_rendered(GOLDEN[path], rendered(path))


@pytest.mark.parametrize("path", WORKFLOW_TEMPLATES)
def test_hostile_values_are_golden_and_reach_no_shell(path: str) -> None:
    spec = hostile(BY_PATH[path])
    assert_rendered(f"hostile.{GOLDEN[path]}", rendered(path, spec, HOSTILE_BASE))
    assert scripts(path, spec, HOSTILE_BASE) == scripts(path)


@pytest.mark.parametrize("path", WORKFLOW_TEMPLATES)
def test_nothing_is_evaluated_inside_a_script(path: str) -> None:
    assert not any("${{" in script or "$[[" in script for script in scripts(path))


def test_an_expression_in_a_value_stays_text() -> None:
    jobs = actions_jobs(WORKFLOW_FILE, spec=hostile(GITHUB), base=HOSTILE_BASE)
    install = next(step for step in jobs["check"]["steps"] if "CD4ML_LOCK" in step.get("env", {}))
    assert install["env"]["CD4ML_LOCK"] == "lock ${{ '${{' }} secrets.X }}\n'\""


def test_a_label_is_a_literal_of_the_expression_whatever_it_is() -> None:
    condition = actions_jobs(FORK_FILE, spec=hostile(GITHUB))["execute"]["if"]
    assert "secrets" not in condition
    escaped = re.search(r"fromJSON\('(\"[^']*\")'\)", condition)
    assert escaped
    assert yaml.safe_load(escaped[1]) == "a 'b' ${{ secrets.X }}\n: # c"
    assert "name == 'it''s'" in render_template(
        WORKFLOW_TEMPLATES[FORK_FILE],
        TEMPLATES,
        {"base": "main", "base_pattern": "main", "python": "3.11", "lock": "", "fork_label": "it's"},
    )


@pytest.mark.parametrize("path", WORKFLOW_TEMPLATES)
def test_without_a_lock_none_is_installed(path: str) -> None:
    text = rendered(path, replace(BY_PATH[path], lock=""))
    assert "CD4ML_LOCK" not in text
    assert yaml.safe_load(text)


@pytest.mark.parametrize("path", WORKFLOW_TEMPLATES)
def test_the_base_branch_is_a_parameter(path: str) -> None:
    assert not re.search(r"\bmain\b", rendered(path, base="trunk"))
    assert "trunk" in rendered(path, base="trunk")


def test_only_where_a_label_is_named_are_there_workflows_for_the_code_of_forks() -> None:
    assert list(render_workflows(SPEC, TEMPLATES, "main")) == [WORKFLOW_FILE]
    assert set(render_workflows(GITHUB, TEMPLATES, "main")) == {WORKFLOW_FILE, FORK_FILE, FORK_REPORT_FILE}
    assert list(render_workflows(GITLAB, TEMPLATES, "main")) == [GITLAB_FILE]


def test_the_workflow_of_every_branch_does_not_depend_on_the_label() -> None:
    assert rendered(WORKFLOW_FILE, GITHUB) == rendered(WORKFLOW_FILE, SPEC)


# --- GitHub -----------------------------------------------------------------------------------------


def test_it_starts_for_the_base_branch_and_for_experiments() -> None:
    on = content(WORKFLOW_FILE)[True]
    assert on["push"]["branches"] == ["main", "exp/**"]
    assert on["pull_request"] == {"branches": ["main"], "types": ["opened", "reopened", "synchronize"]}


def test_signs_of_a_pattern_in_a_branch_name_are_letters() -> None:
    spec = replace(SPEC, experiments=replace(SPEC.experiments, branches=("c++/*",)))
    assert content(WORKFLOW_FILE, spec, "!x")[True]["push"]["branches"] == [r"\!x", r"c\+\+/**"]


def test_each_job_has_the_rights_it_needs_and_no_others() -> None:
    write = {"contents": "write", "pull-requests": "write", "checks": "write"}
    hostile_artefact = {"actions": "read", "contents": "read", "pull-requests": "write", "checks": "write"}
    assert {(path, name): job["permissions"] for path, name, job in github_jobs()} == {
        (WORKFLOW_FILE, "check"): {"contents": "read"},
        (WORKFLOW_FILE, "again"): {"actions": "write", "contents": "read"},
        (WORKFLOW_FILE, "execute"): {"contents": "read"},
        (WORKFLOW_FILE, "land"): write,
        (WORKFLOW_FILE, "verify"): {"contents": "read"},
        (FORK_FILE, "execute"): {"contents": "read"},
        (FORK_REPORT_FILE, "report"): hostile_artefact,
    }
    assert all(content(path)["permissions"] == {} for path in (WORKFLOW_FILE, FORK_FILE, FORK_REPORT_FILE))


def test_no_job_that_executes_may_write() -> None:
    for path, name, job in github_jobs():
        if any("cd4ml execute" in step.get("run", "") for step in job["steps"]):
            assert set(job["permissions"].values()) == {"read"}, (path, name)


def test_what_a_job_hands_over_is_landed_for_the_branch_that_it_ran_for() -> None:
    jobs = actions_jobs(WORKFLOW_FILE)
    calls = {
        (name, step["run"].splitlines()[-1].strip(), step["env"]["CD4ML_BRANCH"])
        for name in ("execute", "land")
        for step in jobs[name]["steps"]
        if step.get("name") in ("Execute", "Land")
    }
    branch = "${{ inputs.branch || github.head_ref || github.ref_name }}"
    assert calls == {
        ("execute", 'cd4ml execute --output "$RUNNER_TEMP/cd4ml-runs" -- "$CD4ML_BRANCH"', branch),
        ("land", 'cd4ml land "$RUNNER_TEMP/cd4ml-runs" -- "$CD4ML_BRANCH"', branch),
    }


def test_the_clock_has_groups_of_its_own_and_keeps_no_branch_waiting() -> None:
    group = " ".join(content(WORKFLOW_FILE)["concurrency"]["group"].split())
    clock = "github.event_name == 'schedule' || github.event_name == 'workflow_dispatch' && !inputs.branch"
    assert group.startswith(
        f"cd4ml-${{{{ github.event.schedule == '43 3 * * *' && 'verify' || ({clock}) && 'again' || inputs.branch && "
    )


def test_every_job_works_with_the_base_branchs_code_and_leaves_no_token_in_a_file() -> None:
    for path, name, job in github_jobs():
        checkouts = [step["with"] for step in job["steps"] if step.get("uses", "").startswith("actions/checkout@")]
        assert checkouts == [{"ref": "main", "fetch-depth": 0, "persist-credentials": False}], (path, name)


def test_every_job_ends_some_time() -> None:
    assert all(job["timeout-minutes"] <= 360 for _, _, job in github_jobs())


def test_every_action_is_pinned_by_commit_with_its_version_beside_it() -> None:
    for path in (WORKFLOW_FILE, FORK_FILE, FORK_REPORT_FILE):
        used = re.findall(r"uses: (.*)", rendered(path))
        assert used
        assert all(re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", one) for one in used)


def test_no_job_uses_a_cache_or_names_a_secret() -> None:
    for path in (WORKFLOW_FILE, FORK_FILE, FORK_REPORT_FILE):
        assert not re.search(r"\bcache\b|secrets\.", rendered(path))


def test_the_job_that_runs_the_code_of_a_fork_is_given_no_token() -> None:
    steps = actions_jobs(FORK_FILE)["execute"]["steps"]
    (execute,) = (step for step in steps if "cd4ml execute" in step.get("run", ""))
    assert list(execute["env"]) == ["CD4ML_COMMIT"]


# --- GitLab -----------------------------------------------------------------------------------------


def test_gitlabs_runner_unpacks_no_artefact_where_the_token_is() -> None:
    """Its files would lie over the clone, and its dotenv report be variables, before any line of the job's own runs."""
    jobs = yaml.safe_load(render_workflows(GITLAB, TEMPLATES, "main")[GITLAB_FILE])
    (job,) = (job for job in jobs.values() if isinstance(job, dict) and "environment" in job)
    assert job["needs"] == [{"job": "execute", "artifacts": False}]


def test_a_name_from_outside_reaches_gitlabs_shell_as_a_quoted_variable_alone() -> None:
    outside = r"\$\{?CI_(COMMIT_BRANCH|COMMIT_REF_NAME|COMMIT_TITLE|MERGE_REQUEST_\w+|COMMIT_MESSAGE)"
    for script in scripts(GITLAB_FILE):
        for found in re.finditer(outside, script):
            assert script[: found.start()].count('"') % 2 == 1, script


def test_only_the_job_that_lands_names_the_environment_of_the_token() -> None:
    jobs = {name: job for name, job in content(GITLAB_FILE).items() if isinstance(job, dict) and "script" in job}
    assert set(jobs) == {"check", "execute", "land", "verify"}
    assert [name for name, job in jobs.items() if "environment" in job] == ["land"]
    assert [name for name, job in jobs.items() if "FORGE_TOKEN" in str(job)] == ["land"]


def test_patterns_of_branches_are_regular_expressions_of_gitlab() -> None:
    spec = replace(GITLAB, experiments=replace(GITLAB.experiments, branches=("exp/*", "try.2/**", "a-b")))
    rules = [rule["if"] for rule in content(GITLAB_FILE, spec)["workflow"]["rules"]]
    assert rules[-3:] == [
        r"$CI_COMMIT_BRANCH =~ /^exp\/.*$/",
        r"$CI_COMMIT_BRANCH =~ /^try\.2\/.*$/",
        r"$CI_COMMIT_BRANCH =~ /^a-b$/",
    ]


def test_gitlab_expands_no_value_of_the_configuration() -> None:
    variables = content(GITLAB_FILE, replace(GITLAB, lock="$CI_JOB_TOKEN"), "a$CI_JOB_TOKEN")["variables"]
    assert variables["CD4ML_BASE"] == {"value": "a$CI_JOB_TOKEN", "expand": False}
    assert variables["CD4ML_LOCK"] == {"value": "$CI_JOB_TOKEN", "expand": False}
