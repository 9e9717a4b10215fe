"""Who executes or lands in a clone waits for whoever works there: each clears away what the other left lying."""

from __future__ import annotations

import os
import subprocess

import pytest

from cd4ml.controller.running.run import WORK_LOCK
from cd4ml.gateways.files import exclusive
from tests.controller.parts_world import Parts, records


@pytest.mark.parametrize("verb", ["execute", "land"])
def test_the_clone_in_which_another_works_is_waited_for(parts: Parts, verb: str) -> None:
    shell = parts.lander
    output = parts.folder / "again"
    words = ["execute", "exp/bad", "--output", str(output)] if verb == "execute" else ["land", str(parts.bundles)]
    running = shell.folder / ".git/cd4ml/runs/of-another/clone"
    running.mkdir(parents=True)
    before = records(parts.project)
    environment = {**os.environ, **shell.environment}
    with exclusive(shell.folder / ".git/cd4ml" / WORK_LOCK):
        done = subprocess.Popen(["cd4ml", *words], cwd=shell.folder, env=environment, stderr=subprocess.PIPE, text=True)
        assert done.stderr is not None
        told = next((line for line in done.stderr if "waiting for it" in line), "it ended without waiting")
        assert told.count("waiting for it") == 1
        assert running.is_dir()
        assert records(parts.project) == before
        assert not output.exists()
    done.communicate()
    assert done.returncode == 0
    assert not running.exists()
    assert output.exists() if verb == "execute" else records(parts.project) != before
