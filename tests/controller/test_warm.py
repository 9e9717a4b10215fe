"""The warm process: whatever its clients do, it serves the others, and nothing outlives its reason to run."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from cd4ml.controller.running.warm import warm_process
from cd4ml.gateways.warm import KILLED, SOCKET_VARIABLE, WarmTask, run_stage_warm
from tests.conftest import Shell

QUICK = """
import os, signal, sys
import cd4ml.controller.running.warm as warm
warm._IMPORTS = ()
def run(words):
    scope = {}
    exec(words[1], scope)
    return scope.get("code", 0)
warm._task = run
warm.die_with_parent(int(sys.argv[2]), signal.SIGTERM)
warm.serve(sys.argv[1])
"""
"""The real server with nothing to import, and Python text in the place of stages."""

CLIENT = """
import sys
from pathlib import Path
from cd4ml.gateways.warm import WarmTask
WarmTask(sys.argv[1], ["python", sys.argv[2]], cwd=Path(sys.argv[3]), env={}, output=2).wait(None)
"""

CONTROLLER = """
import os, subprocess, sys, time
from pathlib import Path
from cd4ml.gateways.warm import WarmTask
quick, text, folder = sys.argv[1:]
command = [sys.executable, "-c", quick, f"{folder}/s", str(os.getpid())]
server = subprocess.Popen(command, start_new_session=True)
Path(folder, "server").write_text(f"{server.pid}\\n")
while not Path(folder, "s").exists():
    time.sleep(0.01)
WarmTask(f"{folder}/s", ["python", text], cwd=Path(folder), env={}, output=2).wait(None)
"""


def wait_until(condition: Callable[[], object], seconds: float = 8.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return False


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def pid_in(path: Path) -> int:
    assert wait_until(lambda: path.exists() and path.read_text("utf-8").endswith("\n")), path
    return int(path.read_text("utf-8"))


@dataclass
class Server:
    address: str
    folder: Path
    process: subprocess.Popen[bytes]
    meant_to_end: bool = False

    def start(
        self, text: str, env: dict[str, str] | None = None, cwd: Path | None = None, log: str = "log"
    ) -> WarmTask:
        with (self.folder / log).open("ab") as sink:
            return WarmTask(self.address, ["python", text], cwd=cwd or self.folder, env=env or {}, output=sink.fileno())

    def run(self, text: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> tuple[int | None, str]:
        """Exit code and output of a task."""
        (self.folder / "log").write_bytes(b"")
        task = self.start(text, env, cwd)
        code = task.wait(20)
        task.kill()
        return code, (self.folder / "log").read_text("utf-8")

    def children(self) -> list[str]:
        return Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text("utf-8").split()

    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def connect(self) -> socket.socket:
        line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        line.connect(self.address)
        return line


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    address = str(tmp_path / "s")
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", QUICK, address, str(os.getpid())],
            stdout=log,
            stderr=log,
            env={**os.environ, "SERVER_ONLY": "1"},
            start_new_session=True,
        )
    try:
        assert wait_until(lambda: Path(address).exists()), (tmp_path / "server.log").read_text("utf-8")
        made = Server(address, tmp_path, process)
        yield made
        assert made.meant_to_end or process.poll() is None, (tmp_path / "server.log").read_text("utf-8")
    finally:
        process.kill()
        process.wait()


# ── one task ──


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", 0),
        ("code = 7", 7),
        ("raise ValueError('odd')", 3),
        ("import sys; sys.exit(0)", 3),
        ("import os; os._exit(9)", 9),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", KILLED),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", KILLED),
        ("import os; os.close(1); os.close(2); print('x' * 100000)", 3),
    ],
)
def test_the_exit_code_is_the_task_s_and_a_signal_gives_137(server: Server, text: str, code: int) -> None:
    assert server.run(text)[0] == code


def test_output_and_errors_go_to_the_client_s_descriptor_and_nothing_to_another(server: Server) -> None:
    first = server.start("import os, sys; print('out'); sys.stderr.write('err\\n'); os.system('echo inner')", log="a")
    second = server.start("raise ValueError('told')", log="b")
    assert (first.wait(20), second.wait(20)) == (0, 3)
    assert sorted((server.folder / "a").read_text("utf-8").split()) == ["err", "inner", "out"]
    assert "ValueError: told" in (server.folder / "b").read_text("utf-8")
    assert (server.folder / "server.log").read_text("utf-8") == ""


def test_folder_and_environment_are_the_request_s_and_nothing_else(server: Server, tmp_path: Path) -> None:
    (tmp_path / "größe").mkdir()
    env = {"A": "ü", "TZ": "Asia/Tokyo", "BYTES": os.fsdecode(b"\xff")}
    text = (
        "import os, time, tempfile\n"
        "print(ascii([dict(os.environ), os.getcwd(), time.tzname[0], tempfile.gettempdir()]))"
    )
    code, output = server.run(text, {**env, "TMPDIR": str(tmp_path / "größe")}, tmp_path / "größe")
    place = str(tmp_path / "größe")
    assert (code, output.strip()) == (0, ascii([{**env, "TMPDIR": place}, place, "JST", place]))


def test_nothing_of_one_task_is_left_for_the_next(server: Server, tmp_path: Path) -> None:
    (tmp_path / "own_module.py").write_text("x = 1\n", "utf-8")
    first = (
        "import os, sys, signal, random, resource\n"
        f"sys.path.append({str(tmp_path)!r}); import own_module\n"
        "os.environ['LEFT'] = '1'; os.chdir('/'); os.umask(0o777); random.seed(1)\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); sys.argv.append('left')\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20)); os.close(0)\n"
    )
    look = (
        "import os, sys, signal, resource\n"
        "m = os.umask(0)\n"
        "print(['LEFT' in os.environ, 'SERVER_ONLY' in os.environ, os.getcwd(), m, 'own_module' in sys.modules,"
        " signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL,"
        " 'left' in sys.argv, resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 20, os.read(0, 1)])"
    )
    assert server.run(first)[0] == 0
    umask = os.umask(0)
    os.umask(umask)
    expected = [False, False, str(tmp_path), umask, False, True, True, False, True, b""]
    assert server.run(look) == (0, f"{expected}\n")


def test_a_task_holds_no_descriptor_of_the_server_or_of_another_task(server: Server) -> None:
    other = server.start("import time; time.sleep(30)")
    waiting = server.connect()
    waiting.sendall(b"half")
    code, output = server.run("import os; print(sorted(os.listdir('/proc/self/fd'))[:-1])")
    assert (code, output) == (0, "['0', '1', '2']\n")
    other.kill()
    waiting.close()


def test_a_task_leads_a_session_of_its_own(server: Server) -> None:
    assert server.run("import os; code = 0 if os.getpid() == os.getsid(0) == os.getpgid(0) else 1")[0] == 0


def test_asking_for_the_end_tells_a_running_task_from_an_ended_one(server: Server) -> None:
    task = server.start("import time; time.sleep(0.5); code = 4")
    assert task.wait(0) is None
    assert task.wait(0.05) is None
    assert task.wait(20) == 4
    assert task.wait(0) == task.wait(None) == 4
    task.kill()
    task.kill()
    assert task.wait(1) == 4


def test_an_environment_of_two_megabytes_arrives(server: Server) -> None:
    env = {f"V{number}": "ü" * 20_000 for number in range(50)}
    code, output = server.run("import os; print(sum(len(value) for value in os.environ.values()))", env)
    assert (code, output) == (0, "1000000\n")


# ── ends ──

FAMILY = (
    "import os, subprocess, time\n"
    "inner = subprocess.Popen(['sh', '-c', 'sleep 60 & echo $! > {0}.grandchild; wait'])\n"
    "open('{0}.child', 'w').write(f'{{inner.pid}}\\n')\n"
    "open('{0}.task', 'w').write(f'{{os.getpid()}}\\n')\n"
    "{1}\n"
)


def family(folder: Path, name: str) -> list[int]:
    return [pid_in(folder / f"{name}.{kind}") for kind in ("task", "child", "grandchild")]


def test_killing_a_task_ends_all_that_it_started_before_it_returns(server: Server, tmp_path: Path) -> None:
    task = server.start(FAMILY.format("a", "time.sleep(60)"))
    pids = family(tmp_path, "a")
    assert all(is_alive(pid) for pid in pids)
    task.kill()
    assert not is_alive(pids[0])
    assert wait_until(lambda: not any(is_alive(pid) for pid in pids), 1)
    assert task.wait(0) == KILLED


def test_a_task_ends_when_its_client_dies(server: Server, tmp_path: Path) -> None:
    client = subprocess.Popen(
        [
            sys.executable,
            "-c",
            CLIENT,
            server.address,
            FAMILY.format("a", "time.sleep(60)"),
            str(tmp_path),
        ]
    )
    pids = family(tmp_path, "a")
    client.kill()
    client.wait()
    assert wait_until(lambda: not any(is_alive(pid) for pid in pids))
    assert wait_until(lambda: server.children() == [])


def test_what_a_task_leaves_running_ends_with_it(server: Server, tmp_path: Path) -> None:
    assert server.run(FAMILY.format("a", "time.sleep(0.3)"))[0] == 0
    pids = family(tmp_path, "a")
    assert wait_until(lambda: not any(is_alive(pid) for pid in pids))


def test_a_task_that_is_killed_at_once_never_survives(server: Server, tmp_path: Path) -> None:
    for _ in range(40):
        server.start("import time; time.sleep(60)").kill()
    assert wait_until(lambda: server.children() == [])


def test_a_client_that_sends_more_than_one_request_loses_its_task(server: Server) -> None:
    line = server.connect()
    request = json.dumps({"task": ["python", "import time; time.sleep(60)"], "cwd": "/", "env": {}}).encode() + b"\n"
    line.sendall(request)
    assert wait_until(server.children)
    line.sendall(request)
    line.settimeout(10)
    assert json.loads(line.recv(100)) == {"exit": KILLED}
    line.close()


def test_everything_ends_when_the_controller_is_killed(tmp_path: Path) -> None:
    controller = subprocess.Popen(
        [
            sys.executable,
            "-c",
            CONTROLLER,
            QUICK,
            FAMILY.format("a", "time.sleep(60)"),
            str(tmp_path),
        ]
    )
    pids = [pid_in(tmp_path / "server"), *family(tmp_path, "a")]
    controller.kill()
    controller.wait()
    assert wait_until(lambda: not any(is_alive(pid) for pid in pids))


def test_tasks_end_before_a_server_that_is_asked_to(server: Server, tmp_path: Path) -> None:
    task = server.start(FAMILY.format("a", "time.sleep(60)"))
    pids = family(tmp_path, "a")
    server.process.terminate()
    assert server.process.wait(5) == 0
    assert wait_until(lambda: not any(is_alive(pid) for pid in pids), 1)
    assert task.wait(5) == KILLED
    server.meant_to_end = True


def test_a_server_that_was_started_by_a_process_that_is_gone_does_not_stay(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", QUICK, str(tmp_path / "s"), "1"], check=False, timeout=20)
    assert done.returncode == KILLED


# ── many clients, and bad ones ──


def test_twenty_tasks_run_at_once(server: Server, tmp_path: Path) -> None:
    # each waits for all the others: in turn they would never end
    text = (
        "import os, pathlib, time\npathlib.Path(f'{os.getpid()}.here').touch()\n"
        "while len(list(pathlib.Path('.').glob('*.here'))) < 20: time.sleep(0.01)\ncode = 5"
    )
    with ThreadPoolExecutor(20) as pool:
        assert set(pool.map(lambda _: server.start(text).wait(20), range(20))) == {5}


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\n",
        b"garbage\n",
        b"\xff\xfe\x00\n",
        b"[]\n",
        b"null\n",
        b'"task"\n',
        b'{"task": 1, "cwd": "/", "env": {}}\n',
        b'{"task": ["python", ""], "cwd": 1, "env": {}}\n',
        b'{"task": ["python", ""], "cwd": "/", "env": []}\n',
        b'{"task": ["python", ""], "cwd": "/", "env": {"A": 1}}\n',
        b'{"task": "python", "cwd": "/", "env": {}}\n',
        b'{"cwd": "/", "env": {}}\n',
        b"[" * 100_000 + b"\n",
        b'{"task": ["python"',
        b"x" * (5 << 20),
    ],
)
def test_garbage_is_answered_with_nothing_and_ends_no_server(server: Server, sent: bytes) -> None:
    server.run("")  # what it opens once is open now
    before = server.descriptors()
    line = server.connect()
    try:
        line.sendall(sent)
        line.shutdown(socket.SHUT_WR)
        line.settimeout(10)
        assert line.recv(100) == b""
    except (BrokenPipeError, ConnectionResetError):
        pass  # the server had seen enough
    line.close()
    assert server.run("code = 6")[0] == 6
    assert wait_until(lambda: server.descriptors() <= before)


def test_a_client_that_says_nothing_keeps_nobody_waiting(server: Server) -> None:
    silent = [server.connect() for _ in range(30)]
    for line in silent[:15]:
        line.sendall(b'{"task": ')
    assert server.run("code = 6")[0] == 6
    for line in silent:
        line.close()
    assert wait_until(lambda: server.descriptors() < 20)


def test_a_request_that_arrives_in_pieces_is_whole(server: Server, tmp_path: Path) -> None:
    line = server.connect()
    for byte in json.dumps({"task": ["python", "code = 8"], "cwd": str(tmp_path), "env": {}}).encode() + b"\n":
        line.sendall(bytes([byte]))
    line.settimeout(10)
    assert json.loads(line.recv(100)) == {"exit": 8}
    line.close()


def test_a_folder_that_is_gone_fails_that_task_only(server: Server, tmp_path: Path) -> None:
    code, output = server.run("", cwd=tmp_path / "nowhere")
    assert code == 3
    assert "nowhere" in output
    assert server.run("")[0] == 0


def test_a_hundred_tasks_leave_no_descriptor_and_no_zombie(server: Server) -> None:
    before = server.descriptors()  # before any task: the line to one is open for a moment after its answer
    for _ in range(100):
        task = server.start("code = 1")
        assert task.wait(20) == 1
        task.kill()
    assert wait_until(lambda: (server.descriptors(), server.children()) == (before, []))


def test_the_socket_is_in_a_folder_of_its_owner_alone(warm: str) -> None:
    assert Path(warm).parent.stat().st_mode & 0o077 == 0


# ── none there ──


def test_without_a_warm_process_a_task_cannot_start_and_a_stage_runs_cold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(SOCKET_VARIABLE, raising=False)
    assert run_stage_warm("ingest") is None
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    dead.bind(str(tmp_path / "dead"))
    dead.close()
    for name in ("none", "dead"):
        monkeypatch.setenv(SOCKET_VARIABLE, str(tmp_path / name))
        assert run_stage_warm("ingest") is None
        with pytest.raises(OSError, match=r"No such file|refused"):
            WarmTask(str(tmp_path / name), ["stage", "x"], cwd=tmp_path, env={}, output=2)


def test_a_warm_process_that_cannot_start_gives_no_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SOCKET_VARIABLE, raising=False)
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with warm_process(tmp_path, 1) as address:
        assert address == ""


def test_one_that_serves_already_is_used_and_left_running(
    warm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SOCKET_VARIABLE, warm)
    with warm_process(tmp_path, 1) as address:
        assert address == warm
    assert Path(warm).is_socket()


def test_its_folder_and_socket_are_gone_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SOCKET_VARIABLE, raising=False)
    with warm_process(tmp_path, 1) as address:
        assert Path(address).is_socket()
    assert not Path(address).parent.exists()


# ── the real tasks ──


def test_the_real_process_runs_stages_dvc_and_the_judge_and_no_other_task(warm: str, tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "CD4ML_RAW_FOLDER": str(tmp_path)}

    def run(*task: str) -> tuple[int | None, str]:
        with (tmp_path / "log").open("w+b") as sink:
            done = WarmTask(warm, list(task), cwd=tmp_path, env=env, output=sink.fileno())
            code = done.wait(60)
            done.kill()
        return code, (tmp_path / "log").read_text("utf-8")

    code, text = run("stage", "none")
    assert (code, "params.yaml: is not there" in text) == (2, True)  # which says what stages there are
    assert run("dvc", "version")[0] == 0
    assert run("dvc", "repro")[0] != 0
    assert run("judge")[0] == 3
    code, text = run("sh", "-c", "touch canary")
    assert (code, "unknown task" in text) == (2, True)
    assert not (tmp_path / "canary").exists()


def test_warm_and_cold_stages_write_the_same_bytes(team: Shell, tmp_path: Path) -> None:
    def outputs(name: str, **environment: str) -> dict[str, str]:
        folder = tmp_path / name
        team.at(tmp_path).run("git", "clone", "--quiet", "team/remote.git", name)
        shell = team.at(folder)
        shell.run("dvc", "config", "--quiet", "--local", "cache.dir", str(tmp_path / f"{name}-cache"))
        private = folder / ".git" / "cd4ml"
        shutil.copytree(team.folder / ".git" / "cd4ml" / "raw", private / "raw")
        shell.run("cd4ml", "render")
        done = shell.attempt(
            "dvc", "repro", "predict", DVC_SITE_CACHE_DIR=str(tmp_path / f"{name}-site"), **environment
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return {
            str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted((folder / "artifacts").rglob("*"))
            if path.is_file()
        }

    warm = outputs("warm")
    cold = outputs("cold", CD4ML_WARM="")
    assert len(warm) > 8
    assert warm == cold
