"""The command line: exit codes, one clear line for what is wrong, help, and tools that work without cd4ml."""

from __future__ import annotations

import importlib
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cd4ml.cli.app import app
from cd4ml.controller.desired.scaffold import merged_templates
from cd4ml.gateways.warm import SOCKET_VARIABLE
from tests.conftest import Shell
from tests.controller.controller_world import (
    BASELINE,
    branch,
    cd4ml,
    commit,
    git,
    holding,
    push,
    rejected,
    remote,
    runs,
)

VERBS = (
    *("init", "new", "config", "data update", "render", "stage", "plan", "reconcile", "status"),
    *("search", "show", "diff", "note", "reproduce", "run", "update", "leaderboard", "lineage"),
    *("verify", "restore", "doctor", "gc", "forget", "import mlflow", "import dvc-exp"),
    *("execute", "land", "check", "report"),
)


@pytest.fixture(scope="module")
def kept(template_project: Path, tmp_path_factory: pytest.TempPathFactory, few_flights: Path, warm: str) -> Shell:
    """A project that the tests of one module share, since they change nothing in it."""
    folder = tmp_path_factory.mktemp("kept") / "team"
    shutil.copytree(template_project, folder, symlinks=True)
    return Shell(folder / "project", {"PYTHONPATH": str(few_flights), SOCKET_VARIABLE: warm})


def one_line(shell: Shell, *arguments: str, code: int, **environment: str) -> str:
    """The one line that a command has to say when it fails; no traceback, nothing on stdout."""
    done = cd4ml(shell, *arguments, code=code, **environment)
    assert len(done.err.splitlines()) == 1, done.err
    assert done.err.startswith("cd4ml: ")
    assert "Traceback" not in done.err
    assert done.out == ""
    return done.err


USAGE = (
    (["nope"], "No such command 'nope'"),
    (["plan", "--nope"], "No such option: --nope"),
    (["search", "--limit", "x"], "--limit"),
    (["search", "--limit", "0"], "--limit"),
    (["--remote"], "requires an argument"),
    (["--remote", "nowhere", "plan"], "there is no remote 'nowhere' here (remotes: origin)"),
    (["show"], "Missing argument 'RUN'"),
    (["show", "nothing"], "nothing"),
    (["show", ""], ""),
    (["diff", "main", "nothing"], "nothing"),
    (["reproduce", "nothing"], "nothing"),
    (["reconcile", "mian"], "mian: no branch of that name here or on origin (did you mean main?)"),
    (["status", "exp/nope"], "exp/nope: no branch"),
    (["note", "exp/nope", "text"], "exp/nope: no branch"),
    (["note", "main", "  "], "the note is empty"),
    (["config", "nope"], "nope: no such commit or branch here"),
    (["config", "--help=x"], "--help"),
    (["stage", "nope"], "there is no stage 'nope'"),
    (["data", "update", "nope"], "has no source 'nope' (sources: flights, weather, planes)"),
    (["new", "x", "model=nope"], "nope"),
    (["new", "x", "modle=xgboost"], "modle"),
    (["new", "x", "model.estimator.max_deep=3", "model=xgboost"], "max_deep"),
    (["new", "x", "seed=20130101"], "seed=20130101"),
    (["new", "x", "seed="], "seed"),
    (["new", "x", "seed=[1"], "seed=[1"),
    (["new", "x", "sed=1"], "sed"),
    (["new", "x", "seed=-1"], "seed"),
    (["new", "a..b", "seed=1"], "a..b"),
    (["new", "", "seed=1"], ""),
    (["new", "x", "model.estimator._target_=os.system", "model=xgboost"], "os.system"),
    (["new", "x", "hydra.run.dir=/tmp", "seed=1"], "hydra"),
)


@pytest.mark.parametrize(("arguments", "told"), USAGE, ids=lambda case: str(case))
def test_bad_usage_is_one_line_and_exit_2(kept: Shell, arguments: list[str], told: str) -> None:
    assert told in one_line(kept, *arguments, code=2)


@pytest.mark.parametrize("text", ["metrics.rmse <", "branch = ", "a ~~ 'b'", "(health = 'x'", "params.x = 1 OR"])
def test_a_filter_that_cannot_be_read_is_shown_with_a_caret_below_the_place(kept: Shell, text: str) -> None:
    done = cd4ml(kept, "search", text, code=2)
    assert done.out == ""
    assert all(line.startswith("cd4ml: ") for line in done.err.splitlines())
    assert re.search(r"^cd4ml: +\^", done.err, re.MULTILINE), done.err


def written(path: str, content: str) -> Callable[[Shell], None]:
    def write(shell: Shell) -> None:
        (shell.folder / path).write_text(content, "utf-8")
        shell.run("git", "commit", "--quiet", "--all", "--message", "Broken")
        shell.run("git", "push", "--quiet", "origin", "main")

    return write


def without(path: str) -> Callable[[Shell], None]:
    def remove(shell: Shell) -> None:
        shell.run("git", "rm", "-r", "--quiet", path)
        shell.run("git", "commit", "--quiet", "--message", "Broken")
        shell.run("git", "push", "--quiet", "origin", "main")

    return remove


def ruined(path: str, content: str) -> Callable[[Shell], None]:
    def ruin(shell: Shell) -> None:
        (shell.folder / path).write_text(content, "utf-8")

    return ruin


def settings(*words: str) -> Callable[[Shell], None]:
    def change(shell: Shell) -> None:
        shell.run("git", *words)

    return change


BROKEN: dict[str, tuple[Callable[[Shell], None], list[str], int, str]] = {
    "no conf": (without("conf"), ["plan"], 2, "conf/: is missing"),
    "no conf here": (lambda shell: shutil.rmtree(shell.folder / "conf"), ["render"], 2, "conf/"),
    "broken YAML": (written("conf/model/ridge.yaml", "a: b: c\n"), ["status"], 2, "conf/model/ridge.yaml"),
    "a misspelt key": (written(BASELINE, "# @package _global_\nsplit: {metod: time}\n"), ["plan"], 2, "method"),
    "an unknown group": (written("conf/config.yaml", "defaults: [{modle: ridge}, _self_]\n"), ["plan"], 2, "modle"),
    "a ruined repository": (ruined(".git/HEAD", "ruined"), ["plan"], 2, "not a git repository"),
    "broken settings": (ruined(".git/config", "[core"), ["plan"], 2, "bad config"),
    "a base that is not there": (settings("config", "cd4ml.base", "nope"), ["plan"], 2, "has no branch nope"),
    "a remote that is none": (settings("config", "cd4ml.remote", "nope"), ["plan"], 2, "no remote 'nope'"),
    "a remote that is nowhere": (settings("remote", "set-url", "origin", "../nowhere"), ["plan"], 1, "git fetch"),
    "a DVC remote that is none": (
        written(".dvc/config", "[core]\n    remote = nope\n"),
        ["reconcile"],
        2,
        "core.remote",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_repository_is_one_line_that_names_what_is_wrong(team: Shell, case: str) -> None:
    break_it, arguments, code, told = BROKEN[case]
    break_it(team)
    if case == "a DVC remote that is none":
        rejected(team, "exp/x")
    assert told in one_line(team, *arguments, code=code)


@pytest.mark.parametrize("verb", ["plan", "status", "reconcile", "search", "render", "config", "data update"])
def test_a_folder_that_is_no_repository_or_has_no_commit_is_one_line(tmp_path: Path, kept: Shell, verb: str) -> None:
    empty = kept.at(tmp_path)
    assert "not a git repository" in one_line(empty, *verb.split(), code=2)
    empty.run("git", "init", "--quiet")
    if verb != "search":  # an index that holds nothing yet
        one_line(empty, *verb.split(), code=2)


def test_a_defect_of_ours_is_exit_3_with_a_report_to_send(
    kept: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # imported before the patch: a module imported under it would keep the broken function for good
    importlib.import_module("cd4ml.controller.reconciling.reconcile")
    importlib.import_module("cd4ml.controller.history.search")
    monkeypatch.setattr("cd4ml.controller.reconciling.observe.observe_state", lambda *_: 1 / 0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    line = one_line(kept, "plan", code=3)
    assert "this is a defect of cd4ml, not of your project: ZeroDivisionError" in line
    (report,) = tmp_path.glob("cd4ml-report-*.txt")
    assert str(report) in line
    assert "Traceback" in report.read_text("utf-8")


def test_debug_shows_the_traceback_of_any_error(kept: Shell) -> None:
    done = cd4ml(kept, "--debug", "show", "nothing", code=2)
    assert "Traceback" in done.err


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_every_verb_has_an_example(kept: Shell, verb: str) -> None:
    text = cd4ml(kept, *verb.split(), "--help").out
    assert re.search(rf"Examples?:.*cd4ml\s+{verb.split()[0]}\b", text, re.DOTALL), text
    assert "\x1b" not in text


def test_every_verb_is_in_the_list_of_this_test() -> None:
    names = {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands}
    assert names == {verb for verb in VERBS if " " not in verb}


def test_plan_exits_10_for_what_is_to_be_done_only_when_asked(team: Shell) -> None:
    cd4ml(team, "plan", "--exit-code")
    rejected(team, "exp/x")
    cd4ml(team, "plan")
    assert "never run" in cd4ml(team, "plan", "--exit-code", code=10).out


# ── the process's surroundings ──


def test_a_folder_that_was_removed_under_us_is_told_as_that(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    command = f"cd {tmp_path}/gone && rmdir {tmp_path}/gone && exec cd4ml status"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "cd4ml: the folder that you are in is no longer there\n"


def test_it_works_with_nothing_of_a_home_and_with_a_closed_pipe(kept: Shell, tmp_path: Path) -> None:
    bare = {"PATH": os.environ["PATH"], "HOME": "/proc/none", "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(["cd4ml", "status"], cwd=kept.folder, env=bare, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done
    assert "\x1b" not in done.stdout
    closed = subprocess.run(
        ["bash", "-c", "cd4ml search --json | true; exit ${PIPESTATUS[0]}"],
        cwd=kept.folder,
        env={**bare, "TMPDIR": str(tmp_path / "none")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert closed.returncode in (0, 1)
    assert closed.stderr == ""


@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_what_the_terminal_s_encoding_lacks_goes_by_its_number(kept: Shell, form: str) -> None:
    asked = ("cd4ml", "search", "--columns", "branch,conclusion", "--format", form)
    done = kept.attempt(*asked, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "main" in done.stdout


@pytest.mark.parametrize("form", ["table", "json", "csv", "parquet"])
def test_a_closed_standard_output_is_no_defect(kept: Shell, form: str) -> None:
    done = kept.attempt("bash", "-c", f"cd4ml search --format {form} >&-")
    assert (done.returncode, done.stderr) == (0, "")


def test_an_argument_that_is_no_text_is_refused_in_a_line(kept: Shell) -> None:
    for words in (("show", "\udcff"), ("search", "name = '\udcff'"), ("forget", "a\udcffb")):
        done = kept.attempt("cd4ml", *words)
        assert (done.returncode, done.stderr) == (2, "cd4ml: argument 2 is not text in UTF-8\n")


def test_a_limit_may_be_any_number(kept: Shell) -> None:
    assert cd4ml(kept, "search", "--json", "--limit", str(2**80)).json["runs"] == runs(kept)


def test_colour_is_for_terminals_and_yields_to_no_color(kept: Shell) -> None:
    def shown(**more: str) -> bytes:
        env = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | {"TERM": "xterm", **more}
        parent, child = pty.openpty()
        process = subprocess.Popen(["cd4ml", "status"], cwd=kept.folder, env=env, stdout=child, stderr=child)
        os.close(child)
        text = b""
        try:
            while data := os.read(parent, 4096):
                text += data
        except OSError:  # the terminal's other side is closed
            pass
        os.close(parent)
        assert process.wait() == 0
        return text

    assert b"\x1b[32m" in shown()
    assert b"\x1b[3" not in shown(NO_COLOR="1")


def test_completion_is_to_be_had_and_versions_are_told(kept: Shell) -> None:
    told = kept.attempt("cd4ml", "--version")
    assert re.fullmatch(r"cd4ml \d+\.\d+\.\d+\S*\n", told.stdout)
    script = kept.attempt("cd4ml", "--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    bash = kept.attempt("bash", "-c", "_CD4ML_COMPLETE=complete_bash COMP_WORDS='cd4ml rec' COMP_CWORD=1 cd4ml")
    assert "_CD4ML_COMPLETE=complete_bash" in script.stdout
    assert bash.stdout.split() == ["reconcile"]


def test_ctrl_c_is_exit_130_and_one_line(kept: Shell, tmp_path: Path) -> None:
    shim, started = tmp_path / "git", tmp_path / "started"
    fetch = f'case " $* " in *" fetch "*) touch {started}; sleep 30;; esac'
    shim.write_text(f'#!/bin/sh\n{fetch}\nexec "{shutil.which("git")}" "$@"\n', "utf-8")
    shim.chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    process = subprocess.Popen(
        ["cd4ml", "plan"], cwd=kept.folder, env=env, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while not started.exists():
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert process.communicate(timeout=20)[1] == "cd4ml: interrupted\n"
    assert process.returncode == 130


def test_secrets_of_the_environment_reach_no_record_log_or_message(team: Shell) -> None:
    canary = "canary-7f1c9e"
    secrets = {"AWS_SECRET_ACCESS_KEY": canary, "GITHUB_TOKEN": canary, "CD4ML_ANYTHING": canary, "PGPASSWORD": canary}
    text = "# @package _global_\nhypothesis: ${oc.env:GITHUB_TOKEN}\n"
    branch(team, "exp/env", {BASELINE: text})
    rejected(team, "exp/x")
    push(
        team,
        "refs/heads/exp/x",
        commit(team, git(team, "rev-parse", "main"), {BASELINE: "# @package _global_\nseed: 6\n"}),
        "-f",
    )
    password = f"https://user:{canary}@localhost:1/x.git"
    team.run("git", "remote", "add", "other", password)
    texts = []
    for arguments in (["reconcile"], ["show", "exp/x", "--log"], ["search", "--json"], ["--remote", "other", "plan"]):
        done = cd4ml(team, *arguments, code=None, **secrets)
        texts.append(done.out + done.err)
    assert "exp/x: run landed" in texts[0]
    assert canary not in "".join(texts)
    found = remote(team).attempt(
        "git", "grep", "--text", canary, *git(remote(team), "for-each-ref", "--format=%(refname)").split()
    )
    assert found.stdout == ""
    assert holding(team.folder / ".git" / "cd4ml", b"exp/x")
    assert not holding(team.folder / ".git" / "cd4ml", canary.encode())


# ── what is left behind works without cd4ml ──


def test_render_check_tells_a_hand_edit_a_template_change_and_a_config_change_apart(team: Shell) -> None:
    cd4ml(team, "render", "--check")
    pipeline = team.folder / "dvc.yaml"
    rendered = pipeline.read_text("utf-8")
    pipeline.write_text(rendered.replace("deps:", "deps: # mine", 1), "utf-8")
    assert "dvc.yaml" in one_line(team, "render", "--check", code=1)
    assert "edited by hand" in one_line(team, "render", "--check", code=1)
    assert "wrote dvc.yaml" in cd4ml(team, "render").out
    assert pipeline.read_text("utf-8") == rendered
    cd4ml(team, "render", "--check")
    pipeline.unlink()
    assert "dvc.yaml: is missing" in one_line(team, "render", "--check", code=1)
    cd4ml(team, "render")
    own = team.folder / "templates" / "dvc.yaml.j2"
    own.parent.mkdir()
    own.write_text(merged_templates({})["dvc.yaml.j2"] + "# ours\n", "utf-8")
    assert "dvc.yaml: templates/dvc.yaml.j2 or cd4ml changed" in one_line(team, "render", "--check", code=1)
    own.unlink()
    data = team.folder / "conf/data/flights.yaml"
    more = "sources:\n  extra: {location: data/extra.csv, format: csv}\n"
    data.write_text(data.read_text("utf-8").replace("sources:\n", more, 1), "utf-8")
    assert "dvc.yaml: conf/ changed since it was rendered" in one_line(team, "render", "--check", code=1)


def test_dvc_by_hand_agrees_with_what_was_recorded(team: Shell) -> None:
    (run,) = runs(team)
    cd4ml(team, "render")
    team.run("dvc", "repro", "--quiet")
    assert json.loads((team.folder / "artifacts/evaluate/metrics.json").read_text("utf-8")) == run["metrics"]
    assert "train" in team.run("dvc", "dag")
    assert "rmse" in team.run("dvc", "metrics", "show", "--md")
    team.run("dvc", "plots", "show", "--out", "plots")
    assert (team.folder / "plots" / "index.html").is_file()
    assert team.run("git", "status", "--porcelain").strip() in ("?? dvc.lock\n?? plots/", "?? plots/", "")
    shutil.rmtree(team.folder / "plots")
    team.run("git", "clean", "-fdxq", "--", "artifacts", "dvc.lock", "params.yaml")
    team.run("git", "fetch", "--quiet", "origin", "cd4ml/index")
    team.run("git", "checkout", "--quiet", run["result_commit"])
    team.run("dvc", "pull", "--quiet")
    assert team.run("dvc", "status").strip() == "Data and pipelines are up to date."
    assert "rmse" in team.run("dvc", "metrics", "show", "--md")
