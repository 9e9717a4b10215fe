"""Scripts of the rendered workflows by themselves: what they give Git, and what of a name reaches the shell."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from cd4ml.render.workflows import FORK_FILE, FORK_REPORT_FILE, GITLAB_FILE, WORKFLOW_FILE, render_workflows
from tests.ci.linters_world import TEMPLATES, project_spec

TOKEN = "canary-token"
FORGE = "https://forge.invalid"
HOSTILE = "ma'in $(touch pwned);`touch pwned`\"&|"
ASKING = r"""#!/bin/sh
# In place of cd4ml: asks for credentials as a fetch from that host would, and says with which words it was called.
echo "called with $# words:"; printf '<%s>\n' "$@"
for host in forge.invalid other.invalid; do
    printf 'protocol=https\nhost=%s\n\n' "$host" | GIT_TERMINAL_PROMPT=0 git credential fill 2>/dev/null
done
exit 0
"""


def steps(path: str) -> list[tuple[str, dict[str, Any]]]:
    """The steps that call cd4ml with a token, by the name of their job."""
    spec = project_spec(fork_label="run this")
    jobs = yaml.safe_load(render_workflows(spec, TEMPLATES, "main")[path])["jobs"]
    found = ((name, step) for name, job in jobs.items() for step in job["steps"] if "run" in step)
    return [(name, step) for name, step in found if "CD4ML_FORGE_TOKEN" in step.get("env", {})]


GITHUB = [(path, name, step) for path in (WORKFLOW_FILE, FORK_FILE, FORK_REPORT_FILE) for name, step in steps(path)]


def run_script(script: str, folder: Path, **variables: str) -> str:
    program = folder / "bin" / "cd4ml"
    program.parent.mkdir()
    program.write_text(ASKING, "utf-8")
    program.chmod(0o755)
    environment = {
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(folder),
        "GIT_CONFIG_NOSYSTEM": "1",
        "RUNNER_TEMP": str(folder),
        "CD4ML_FORGE_TOKEN": TOKEN,
        **variables,
    }
    subprocess.run(("git", "init", "--quiet", "."), cwd=folder, env=environment, check=True)
    subprocess.run(("git", "remote", "add", "origin", str(folder)), cwd=folder, env=environment, check=True)
    done = subprocess.run(
        ("bash", "-e", "-c", script), cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert not list(folder.rglob("pwned"))
    assert not [path for path in folder.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]
    return done.stdout + done.stderr


@pytest.mark.parametrize(("path", "job", "step"), GITHUB, ids=lambda value: value if isinstance(value, str) else "")
def test_the_token_is_given_to_the_forge_alone_and_written_nowhere(
    path: str, job: str, step: dict[str, Any], tmp_path: Path
) -> None:
    script = (setting_up(path, job) + step["run"]).replace("git fetch", "cd4ml fetch")
    variables = {name: HOSTILE for name in step["env"] if name != "CD4ML_FORGE_TOKEN"}
    said = run_script(script, tmp_path, GITHUB_SERVER_URL=FORGE, **variables)
    assert "host=forge.invalid\nusername=x-access-token\npassword=canary-token\n" in said
    assert "host=other.invalid\nusername" not in said


def setting_up(path: str, job: str) -> str:
    """What the steps before did to the clone's configuration."""
    return "".join(step["run"] for name, step in steps(path) if name == job and "git config" in step["run"])


def test_a_name_of_a_branch_is_one_word_of_the_command(tmp_path: Path) -> None:
    (step,) = (step for name, step in steps(WORKFLOW_FILE) if name == "execute")
    said = run_script(step["run"], tmp_path, GITHUB_SERVER_URL=FORGE, CD4ML_BASE="main", CD4ML_BRANCH=HOSTILE)
    assert "called with 5 words" in said
    assert f"<--output>\n<{tmp_path}/cd4ml-runs>\n<-->\n<{HOSTILE}>" in said


def test_without_a_branch_all_are_asked_for(tmp_path: Path) -> None:
    (step,) = (step for name, step in steps(WORKFLOW_FILE) if name == "execute")
    said = run_script(step["run"], tmp_path, GITHUB_SERVER_URL=FORGE, CD4ML_BASE="main", CD4ML_BRANCH="")
    assert "called with 4 words" in said


@pytest.mark.parametrize(("branch", "words"), [("", "<--all>"), ("main", "<--all>"), (HOSTILE, f"<-->\n<{HOSTILE}>")])
def test_a_move_of_the_base_branch_is_reported_on_everywhere(branch: str, words: str, tmp_path: Path) -> None:
    step = [step for name, step in steps(WORKFLOW_FILE) if name == "land"][-1]
    assert f"<report>\n<--post>\n{words}\n" in run_script(step["run"], tmp_path, CD4ML_BASE="main", CD4ML_BRANCH=branch)


def test_gitlabs_job_that_lands_says_what_is_missing_where_it_has_no_token(tmp_path: Path) -> None:
    spec = project_spec(provider="gitlab")
    land = yaml.safe_load(render_workflows(spec, TEMPLATES, "main")[GITLAB_FILE])["land"]["script"]
    said = run_script("\n".join(land), tmp_path, CD4ML_FORGE_TOKEN="", CI_SERVER_URL=FORGE)
    assert (
        said
        == "CD4ML_FORGE_TOKEN: is not given to this job: set it for the environment cd4ml, and protect this branch\n"
    )


def test_gitlabs_token_is_given_to_the_forge_alone_and_a_failure_to_land_is_told_after_the_report(
    tmp_path: Path,
) -> None:
    spec = project_spec(provider="gitlab")
    land = yaml.safe_load(render_workflows(spec, TEMPLATES, "main")[GITLAB_FILE])["land"]["script"]
    given = {
        "CI_SERVER_URL": FORGE,
        "CI_PROJECT_URL": f"{FORGE}/a/b",
        "CI_COMMIT_BRANCH": HOSTILE,
        "CD4ML_BASE": "main",
    }
    script = "\n".join(land).replace("cd4ml land cd4ml-runs", "(cd4ml land cd4ml-runs; exit 7)")
    said = run_script(f"trap 'echo ended with $?' EXIT\n{script}", tmp_path, **given)
    assert "host=forge.invalid\nusername=cd4ml\npassword=canary-token\n" in said
    assert "host=other.invalid\nusername" not in said
    assert f"<report>\n<--post>\n<-->\n<{HOSTILE}>" in said
    assert said.endswith("ended with 7\n")
