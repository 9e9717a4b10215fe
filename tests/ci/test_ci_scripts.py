"""Scripts of the rendered workflows by themselves: what they give Git, and what of a name reaches the shell."""

from __future__ import annotations

import json
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
    script = script.replace('cd4ml plan --json > "$RUNNER_TEMP/plan.json"', "cd4ml plan --json; exit")
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


def test_land_is_told_for_which_branch_the_code_ran(tmp_path: Path) -> None:
    (step,) = (step for name, step in steps(WORKFLOW_FILE) if name == "land" and step["name"] == "Land")
    said = run_script(step["run"], tmp_path, GITHUB_SERVER_URL=FORGE, CD4ML_BASE="main", CD4ML_BRANCH=HOSTILE)
    assert f"called with 4 words:\n<land>\n<{tmp_path}/cd4ml-runs>\n<-->\n<{HOSTILE}>" in said


PLAN = {
    "experiments": [
        {"branch": "main", "is_base": True, "actions": [{"action": "run"}]},
        {"branch": "exp/due", "is_base": False, "actions": [{"action": "record"}]},
        {"branch": "exp/gone", "is_base": False, "actions": [{"action": "run"}]},
        {"branch": HOSTILE, "is_base": False, "actions": [{"action": "run"}, {"action": "record"}]},
        {"branch": "exp/quiet", "is_base": False, "actions": []},
    ]
}
PLANNING = f"""#!/bin/sh
[ "$1" = plan ] && cat <<'END'
{json.dumps(PLAN)}
END
exit 0
"""
STARTING = r"""#!/bin/sh
# In place of gh and gitlab: says with which words it was called, and refuses a branch that went away.
printf '<%s>' "$@" | tr '\n' '~'; echo " by $GH_REPO$GITLAB_URL"
case "$*" in *exp/gone*) exit 1;; esac
"""


def started(script: str, folder: Path, program: str, **variables: str) -> tuple[list[str], str]:
    """What was started for whom, and how the script ended."""
    (folder / "bin").mkdir()
    for name, text in (("cd4ml", PLANNING), (program, STARTING)):
        (folder / "bin" / name).write_text(text, "utf-8")
        (folder / "bin" / name).chmod(0o755)
    environment = {"PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}", "RUNNER_TEMP": str(folder), **variables}
    subprocess.run(("git", "init", "--quiet", "."), cwd=folder, env=environment, check=True)
    subprocess.run(("git", "remote", "add", "origin", str(folder)), cwd=folder, env=environment, check=True)
    done = subprocess.run(
        ("bash", "-e", "-c", script), cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert not list(folder.rglob("pwned"))
    return [line for line in done.stdout.splitlines() if line.startswith("<")], f"{done.returncode}{done.stderr}"


def test_the_clock_starts_a_run_for_each_branch_that_asks_for_one_and_one_that_fails_stops_no_other(
    tmp_path: Path,
) -> None:
    (step,) = (step for name, step in steps(WORKFLOW_FILE) if name == "again")
    given = {"GITHUB_SERVER_URL": FORGE, "CD4ML_BASE": "main", "GH_REPO": "a/b"}
    words, end = started(step["run"], tmp_path, "gh", **given)
    start = "<workflow><run><cd4ml.yml><--ref><main><--raw-field>"
    assert words == [f"{start}<branch={name}> by a/b" for name in ("exp/gone", HOSTILE, "main")]
    assert end == "1"


def gitlabs_land() -> list[str]:
    """The script of the job that lands, without what asks GitLab for the artefact: `test_gitlab_runs` has that."""
    rendered = render_workflows(project_spec(provider="gitlab"), TEMPLATES, "main")[GITLAB_FILE]
    return [words for words in yaml.safe_load(rendered)["land"]["script"] if "zipfile" not in words]


def test_gitlabs_clock_starts_a_pipeline_for_each_branch_that_asks_for_one(tmp_path: Path) -> None:
    land = gitlabs_land()
    given = {
        "CI_SERVER_URL": FORGE,
        "CI_PROJECT_URL": f"{FORGE}/a/b",
        "CI_PROJECT_ID": "7",
        "CI_COMMIT_BRANCH": "main",
        "CI_PIPELINE_SOURCE": "schedule",
        "CD4ML_BASE": "main",
        "CD4ML_FORGE_TOKEN": TOKEN,
    }
    words, end = started("\n".join(land), tmp_path, "gitlab", **given)
    start = "<project-pipeline><create><--project-id><7><--ref>"
    assert words == [f"{start}<{name}> by {FORGE}" for name in ("exp/gone", HOSTILE)]
    assert end == "1"


@pytest.mark.parametrize("base", ["exp/evil", ""])
def test_gitlabs_jobs_install_and_run_nothing_where_the_base_is_not_the_default_branch(
    base: str, tmp_path: Path
) -> None:
    spec = project_spec(provider="gitlab")
    before = yaml.safe_load(render_workflows(spec, TEMPLATES, "main")[GITLAB_FILE])["default"]["before_script"]
    said = run_script("\n".join(before), tmp_path, CD4ML_BASE=base, CI_DEFAULT_BRANCH="main")
    assert said == "CD4ML_BASE: is not the default branch of this project: nothing is installed or run\n"


@pytest.mark.parametrize(("branch", "words"), [("main", "<--all>"), (HOSTILE, f"<-->\n<{HOSTILE}>")])
def test_a_move_of_the_base_branch_is_reported_on_everywhere(branch: str, words: str, tmp_path: Path) -> None:
    step = [step for name, step in steps(WORKFLOW_FILE) if name == "land"][-1]
    assert f"<report>\n<--post>\n{words}\n" in run_script(step["run"], tmp_path, CD4ML_BASE="main", CD4ML_BRANCH=branch)


def test_gitlabs_job_that_lands_says_what_is_missing_where_it_has_no_token(tmp_path: Path) -> None:
    land = gitlabs_land()
    said = run_script("\n".join(land), tmp_path, CD4ML_FORGE_TOKEN="", CI_SERVER_URL=FORGE)
    assert (
        said
        == "CD4ML_FORGE_TOKEN: is not given to this job: set it for the environment cd4ml, and protect this branch\n"
    )


def test_gitlabs_token_is_given_to_the_forge_alone_and_a_failure_to_land_is_told_after_the_report(
    tmp_path: Path,
) -> None:
    land = gitlabs_land()
    given = {
        "CI_SERVER_URL": FORGE,
        "CI_PROJECT_URL": f"{FORGE}/a/b",
        "CI_COMMIT_BRANCH": HOSTILE,
        "CD4ML_BASE": "main",
    }
    asked = 'cd4ml land "$handed/unpacked/cd4ml-runs" -- "$1"'
    script = "\n".join(land).replace(asked, f"({asked}; exit 7)")
    assert "exit 7" in script
    said = run_script(f"trap 'echo ended with $?' EXIT\n{script}", tmp_path, **given)
    assert "host=forge.invalid\nusername=cd4ml\npassword=canary-token\n" in said
    assert "host=other.invalid\nusername" not in said
    assert f"/unpacked/cd4ml-runs>\n<-->\n<{HOSTILE}>" in said
    assert f"<report>\n<--post>\n<-->\n<{HOSTILE}>" in said
    assert said.endswith("ended with 7\n")
