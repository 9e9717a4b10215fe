"""Programs on a real machine: what they inherit, how they end, and what is left of them."""

from __future__ import annotations

import ast
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import cd4ml
from cd4ml.errors import ToolError
from cd4ml.gateways import process
from cd4ml.gateways.process import CRASH_POINTS, ProcessGroup, execute_environment, run, streamed, thread_environment


def is_alive(pid: int) -> bool:
    """Does the process run (a zombie that nobody has reaped does not)?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition: object, seconds: float = 5.0) -> bool:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return False


def test_output_and_input_are_bytes_and_no_shell_reads_the_arguments(tmp_path: Path) -> None:
    done = run(["cat", "-"], cwd=tmp_path, stdin=b"a\0\xffb")
    assert (done.returncode, done.stdout) == (0, b"a\0\xffb")
    odd = "$(touch canary); `touch canary` \"'\n"
    assert run(["printf", "%s", odd], cwd=tmp_path).text == odd
    assert list(tmp_path.iterdir()) == []


def test_an_exit_code_that_is_not_allowed_is_an_error_that_tells_all(tmp_path: Path) -> None:
    script = "echo out; echo first >&2; echo last >&2; exit 3"
    with pytest.raises(ToolError, match="ended with 3: last") as caught:
        run(["sh", "-c", script], cwd=tmp_path)
    assert (caught.value.returncode, caught.value.stdout, caught.value.stderr) == (3, "out\n", "first\nlast")
    assert run(["sh", "-c", script], cwd=tmp_path, allowed=(0, 3)).returncode == 3


def test_a_program_that_cannot_be_started_is_an_error_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("x", "utf-8")
    for command, cwd, code in (
        (["no-such-program"], tmp_path, 127),
        (["true"], tmp_path / "nowhere", 127),
        ([str(tmp_path / "plain")], tmp_path, 126),
        (["echo", "a\0b"], tmp_path, 126),
        (["true", "x" * 300_000], tmp_path, 126),
    ):
        with pytest.raises(ToolError) as caught:
            run(command, cwd=cwd)
        assert caught.value.returncode == code
        assert len(str(caught.value).splitlines()) == 1


def test_a_program_that_does_not_answer_is_given_up_even_if_its_child_holds_the_pipe(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"no answer within 0\.3 s"):
        run(["sh", "-c", "(sleep 20; touch late) & sleep 20"], cwd=tmp_path, timeout=0.3)
    assert not (tmp_path / "late").exists()


def test_the_output_of_a_running_program_is_read_and_the_program_ends_with_the_block(tmp_path: Path) -> None:
    script = "import os, sys; print(os.getpid(), flush=True)\nwhile True: print(sys.stdin.read(9) or 'x' * 9999)"
    with streamed([sys.executable, "-c", script], cwd=tmp_path, env=dict(os.environ), stdin=b"a" * 2**21) as told:
        number = int(told.readline())
        assert told.readline() == b"a" * 9 + b"\n"
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)


def test_a_given_environment_is_the_whole_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", "secret")
    assert run(["/usr/bin/env"], cwd=tmp_path, env={"A": "1"}).text == "A=1\n"
    assert "CANARY=secret" in run(["/usr/bin/env"], cwd=tmp_path).text


def test_an_experiment_sees_no_variable_that_is_not_on_the_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "GIT_ASKPASS", "GIT_SSH_COMMAND", "SSH_AUTH_SOCK", "DVC_TOKEN",
        "HTTPS_PROXY", "PYTHONPATH", "PYTHONSTARTUP", "LD_PRELOAD", "NETRC", "XDG_CONFIG_HOME", "CD4ML_WARM", "HOME",
        "VIRTUAL_ENV", "DBUS_SESSION_BUS_ADDRESS", "LANGUAGE",
    ):  # fmt: skip
        monkeypatch.setenv(name, "/canary-secret")
    monkeypatch.setenv("TZ", "Europe/Berlin")
    env = execute_environment(tmp_path, 2, {"CD4ML_RUN_FOLDER": "here"})
    assert "canary-secret" not in str(env)
    assert set(env) <= {
        *thread_environment(1), "LANG", "LC_ALL", "LC_CTYPE", "TZ", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE",
        "HOME", "TMPDIR", "PATH", "PYTHONHASHSEED", "PYTHONDONTWRITEBYTECODE", "PYTHONNOUSERSITE",
        "GIT_CONFIG_GLOBAL", "GIT_CONFIG_NOSYSTEM", "GIT_TERMINAL_PROMPT", "GX_ANALYTICS_ENABLED",
        "DVC_NO_ANALYTICS", "NO_COLOR", "CD4ML_RUN_FOLDER",
    }  # fmt: skip
    assert (env["HOME"], env["TMPDIR"], env["TZ"]) == (str(tmp_path), str(tmp_path / "tmp"), "Europe/Berlin")
    assert env["OMP_NUM_THREADS"] == env["OPENBLAS_NUM_THREADS"] == "2"
    assert env["OMP_WAIT_POLICY"] == "passive"
    assert env["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)


def test_variables_that_point_git_elsewhere_are_dropped_and_ways_to_a_remote_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gone = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_CONFIG_COUNT", "GIT_CONFIG_KEY_0", "GIT_EXEC_PATH",
            "GIT_EXTERNAL_DIFF", "GIT_PROXY_COMMAND", "GIT_TEMPLATE_DIR", "GIT_SEQUENCE_EDITOR")  # fmt: skip
    kept = ("GIT_SSH_COMMAND", "GIT_ASKPASS", "GIT_AUTHOR_DATE", "GIT_COMMITTER_EMAIL", "GITHUB_TOKEN")
    for name in (*gone, *kept):
        monkeypatch.setenv(name, "x")
    process.scrub_git_variables()
    assert [name for name in gone if name in os.environ] == []
    assert [name for name in kept if name not in os.environ] == []


def test_a_process_group_runs_with_its_own_folder_environment_and_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n", "utf-8")
    group = ProcessGroup(["/bin/sh", "-c", "pwd; echo $A >&2; cat; exit 7"], cwd=tmp_path, env={"A": "1"}, log=log)
    assert group.wait(5) == 7
    group.kill()
    assert log.read_text("utf-8") == f"before\n{tmp_path}\n1\n"


def test_killing_a_group_ends_its_grandchildren_too(tmp_path: Path) -> None:
    script = "(sh -c 'echo $$ > inner; sleep 60' & sleep 60) & echo $! > outer; sleep 60"
    group = ProcessGroup(["sh", "-c", script], cwd=tmp_path, env=dict(os.environ), log=tmp_path / "log")
    assert wait_until(lambda: (tmp_path / "inner").exists() and (tmp_path / "inner").read_text("utf-8"))
    assert group.wait(0.05) is None
    pids = [int((tmp_path / name).read_text("utf-8")) for name in ("inner", "outer")]
    assert all(is_alive(pid) for pid in pids)
    group.kill()
    assert wait_until(lambda: not any(is_alive(pid) for pid in pids))
    assert group.wait(0) == -signal.SIGKILL
    group.kill()


def test_killing_a_group_whose_leader_has_ended_ends_what_it_left(tmp_path: Path) -> None:
    group = ProcessGroup(
        ["sh", "-c", "sleep 60 & echo $! > left"], cwd=tmp_path, env=dict(os.environ), log=tmp_path / "log"
    )
    assert group.wait(5) == 0
    pid = int((tmp_path / "left").read_text("utf-8"))
    assert is_alive(pid)
    group.kill()
    assert wait_until(lambda: not is_alive(pid))


def test_a_group_can_be_asked_to_end(tmp_path: Path) -> None:
    script = "trap 'echo asked; exit 4' TERM; echo > ready; while :; do sleep 0.05; done"
    group = ProcessGroup(["sh", "-c", script], cwd=tmp_path, env=dict(os.environ), log=tmp_path / "log")
    assert wait_until(lambda: (tmp_path / "ready").exists())
    group.terminate()
    assert group.wait(5) == 4
    assert "asked" in (tmp_path / "log").read_text("utf-8")
    group.terminate()


@pytest.mark.parametrize(
    ("wanted", "last"),
    [
        ("land.pushed", "land.committed"),
        ("fold.pushed", "end"),
        ("land.pushed:2", "again"),
        ("", "end"),
        ("land", "end"),
    ],
)
def test_a_process_dies_at_the_named_crash_point_and_at_no_other(tmp_path: Path, wanted: str, last: str) -> None:
    script = (
        "from cd4ml.gateways.process import crash_point\n"
        "for name in ('execute.started', 'land.committed', 'land.pushed', 'again', 'land.pushed', 'end'):\n"
        "    crash_point(name)\n"
        "    print(name, flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "CD4ML_CRASH_AT": wanted},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split()[-1] == last
    assert done.returncode == (0 if last == "end" else -signal.SIGKILL)


def test_every_crash_point_is_passed_somewhere_and_none_is_unnamed() -> None:
    passed = []
    for path in Path(cd4ml.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "crash_point":
                with contextlib.suppress(IndexError):
                    assert isinstance(node.args[0], ast.Constant)
                    passed.append(node.args[0].value)
    assert sorted(map(str, passed)) == sorted(CRASH_POINTS)
