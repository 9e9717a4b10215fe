"""What a run may take, how it can fail, and that nothing of it outlives its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cd4ml.controller.running import stage
from cd4ml.controller.running.run import judge_memory_gib
from cd4ml.gateways.git import CLAIMS
from cd4ml.stages import runner
from tests.conftest import Shell
from tests.controller.controller_world import (
    branch,
    cd4ml,
    commit,
    experiments,
    git,
    push,
    refs,
    remote,
    runs,
)

OWN = '''
import os, signal, subprocess, sys, time
import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin


class Odd(RegressorMixin, BaseEstimator):
    """An estimator that does on ``fit`` what its parameter says."""

    def __init__(self, how="nothing", place=""):
        self.how = how
        self.place = place

    def fit(self, X, y):
        getattr(self, "_" + self.how)()
        self.mean_ = float(np.mean(y))
        return self

    def predict(self, X):
        return np.full(len(X), self.mean_)

    def _python_memory(self):
        kept = []
        while True:
            kept.append(bytearray(1 << 24))

    def _library_memory(self):
        raise RuntimeError("[12:00:00] src/common/x.cc: std::bad_alloc")

    def _kill(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def _error(self):
        raise ValueError("secret cell")

    def _hide(self):
        """Children that left the session, one of them an orphan and deaf to SIGTERM; then an endless training."""
        code = (
            "import os, signal, sys, time\\n"
            "signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.signal(signal.SIGINT, signal.SIG_IGN)\\n"
            "os.setsid()\\n"
            "if os.fork(): os._exit(0)\\n"
            "open(sys.argv[1] + '/' + str(os.getpid()), 'w').close(); time.sleep(600)\\n"
        )
        subprocess.Popen([sys.executable, "-c", code, self.place]).wait()
        stays = "import os,sys,time; open(sys.argv[1]+'/'+str(os.getpid()), 'w').close(); time.sleep(600)"
        subprocess.Popen([sys.executable, "-c", stays, self.place], start_new_session=True)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        open(self.place + "/" + str(os.getpid()), "w").close()
        time.sleep(600)
'''
DETERMINISTIC, TRANSIENT = "deterministic", "transient"
KINDS = {
    "python_memory": (TRANSIENT, "train: ran out of memory: executor.memory_gib allows 0.75 GiB"),
    "library_memory": (TRANSIENT, "train: ran out of memory: executor.memory_gib allows 0.75 GiB"),
    "kill": (TRANSIENT, "train: was killed (SIGKILL), as the kernel does when memory runs out; executor.memory_gib"),
    "error": (DETERMINISTIC, "train: ValueError in Odd"),
}
RETRIES = 1


def odd(shell: Shell, name: str, how: str, place: str = "") -> str:
    """A branch with an estimator of its own."""
    estimator = {"_target_": "odd.Odd", "how": how, "place": place}
    model = f"name: odd\nparameters: {{}}\nestimator: {json.dumps(estimator)}\n"
    config = git(shell, "show", "main:conf/config.yaml").replace("model: ridge", "model: odd")
    return branch(shell, name, {"conf/model/odd.yaml": model, "conf/config.yaml": config + "\n"})


@pytest.fixture
def odd_team(team: Shell) -> Shell:
    """A team whose base branch allows an estimator of its own, 0.75 GiB of memory and one retry."""
    config = git(team, "show", "main:conf/config.yaml")
    config = config.replace("retries: 2", f"retries: {RETRIES}").replace(
        "[sklearn, xgboost]", "[sklearn, xgboost, odd]"
    )
    config = config.replace("code: []", "code: [odd.py]")
    executor = git(team, "show", "main:conf/executor/local.yaml").replace("memory_gib: null", "memory_gib: 0.75")
    files = {"conf/config.yaml": config + "\n", "conf/executor/local.yaml": executor, "odd.py": OWN}
    made = commit(team, "main", files)
    team.run("git", "update-ref", "refs/heads/main", made)
    push(team, "refs/heads/main", made)
    return team


def test_each_kind_of_failure_is_recorded_as_it_is_and_retried_as_often_as_main_says(odd_team: Shell) -> None:
    names = {f"exp/{how.replace('_', '-')}": how for how in KINDS}
    for name, how in names.items():
        odd(odd_team, name, how)
    cd4ml(odd_team, "reconcile", *names, code=1)
    found = experiments(odd_team)
    for name, how in names.items():
        kind, message = KINDS[how]
        assert (found[name]["sync"], found[name]["health"]) == ("Synced", "Degraded"), found[name]
        assert message in found[name]["reason"], found[name]["reason"]
        assert "secret cell" not in json.dumps(found[name])
        attempts = runs(odd_team, f"branch = '{name}'")
        assert len(attempts) == (1 + RETRIES if kind == TRANSIENT else 1), (name, attempts)
        records = [git(odd_team, "show", f"{one['result_commit']}:.cd4ml/record.json") for one in attempts]
        assert {json.loads(record)["reason"]["kind"] for record in records} == {kind}, name
    before = refs(remote(odd_team))
    done = cd4ml(odd_team, "reconcile", *names, code=1)
    assert "started" not in done.err
    assert refs(remote(odd_team)) == before
    cd4ml(odd_team, "reconcile", "exp/error", "--retry", code=1)
    assert len(runs(odd_team, "branch = 'exp/error'")) == 2


@pytest.mark.parametrize(
    ("ending", "told"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), "crashed (SIGSEGV)"),
        (os.abort, "was aborted (SIGABRT), as libraries do when memory runs out; executor.memory_gib allows 64 GiB"),
        (lambda: os.kill(os.getpid(), signal.SIGBUS), "was ended by SIGBUS"),
        (lambda: bytearray(1 << 40), "ran out of memory: executor.memory_gib allows 64 GiB"),
    ],
)
def test_however_a_stage_is_ended_it_leaves_word_and_may_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: Callable[[], object], told: str
) -> None:
    monkeypatch.setattr(runner, "run_stage", lambda *_: ending())
    for name, value in ((stage.RUN_FOLDER, str(tmp_path)), (stage.RAW_FOLDER, "x"), (stage.MEMORY_GIB, "64")):
        monkeypatch.setenv(name, value)
    assert stage.guarded_stage("train") != 0
    assert json.loads((tmp_path / stage.FAILURE).read_text("utf-8")) == {
        "stage": "train",
        "message": told,
        "kind": TRANSIENT,
    }
    events = [json.loads(line)["event"] for line in (tmp_path / stage.EVENTS).read_text("utf-8").splitlines()]
    assert events == ["started", "failed"]


def test_the_judge_has_a_limit_where_main_sets_none() -> None:
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 30)
    assert 2.0 <= judge_memory_gib() <= max(2.0, round(there / 2, 1))


def living(place: Path) -> list[str]:
    """Command lines of the processes that have left their ids in a folder and still run."""
    found = []
    for entry in place.iterdir():
        state = Path(f"/proc/{entry.name}/stat")
        if state.exists() and state.read_text("utf-8").rpartition(")")[2].split()[0] not in ("Z", "X"):
            found.append(Path(f"/proc/{entry.name}/cmdline").read_text("utf-8"))
    return found


def reconciling(shell: Shell, *arguments: str, served: bool) -> subprocess.Popen[str]:
    environment = {**os.environ, **shell.environment}
    if not served:
        environment["CD4ML_WARM"] = ""
    return subprocess.Popen(
        ["cd4ml", "reconcile", *arguments],
        cwd=shell.folder,
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        # whoever runs the tests by nohup ignores it, and so would the command
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )


def until(place: Path, count: int, running: subprocess.Popen[str]) -> None:
    """Wait until so many processes have left their ids."""
    deadline = time.monotonic() + 60
    while len(list(place.iterdir())) < count:
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux lets a process adopt orphans")
@pytest.mark.parametrize(
    ("number", "code", "served"),
    [
        (signal.SIGTERM, 143, True),
        (signal.SIGHUP, 129, False),
        (signal.SIGKILL, -9, True),
        (signal.SIGKILL, -9, False),
    ],
)
def test_a_signal_ends_every_child_also_what_hides_from_it_and_records_nothing(
    odd_team: Shell, tmp_path: Path, number: signal.Signals, code: int, served: bool
) -> None:
    place = tmp_path / "ids"
    place.mkdir()
    odd(odd_team, "exp/hide", "hide", str(place))
    before = refs(remote(odd_team))
    running = reconciling(odd_team, "exp/hide", served=served)
    until(place, 3, running)
    running.send_signal(number)
    _, told = running.communicate(timeout=90)
    assert running.returncode == code, told
    lines = [line for line in told.splitlines() if line.startswith("cd4ml:")]
    assert lines == (
        [] if number is signal.SIGKILL else [f"cd4ml: interrupted{'' if code == 130 else ' by ' + number.name}"]
    )
    assert "Traceback" not in told
    deadline = time.monotonic() + 10
    while living(place) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert living(place) == []
    # who was killed cannot give up its claim: others take it over
    claims = {name for name in refs(remote(odd_team)) if name.startswith(CLAIMS)}
    assert len(claims) == (number is signal.SIGKILL)
    assert {name: commit for name, commit in refs(remote(odd_team)).items() if name not in claims} == before
