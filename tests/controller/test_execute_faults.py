"""A machine that fails is no word on the experiment in the bundle that it leaves, and no run leaves its clone."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from cd4ml.controller.running import run as run_module
from tests.conftest import Shell
from tests.controller.controller_world import cd4ml, rejected
from tests.controller.parts_world import Parts


def test_a_run_that_was_cut_off_where_a_disk_takes_nothing_leaves_no_bundle_and_is_told(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, words = tmp_path / "out", ("execute", "exp/x", "--output", str(tmp_path / "out"))

    def full(_: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "_limit", lambda _: 0.0)
        patch.setattr(run_module, "check_writable", full)
        (line,) = cd4ml(parts.runner, *words, code=1).lines
    assert line.startswith("cd4ml: exp/x: No space left on device")
    assert [path.name for path in output.iterdir()] == ["bundles.json"]
    assert not [*(parts.runner.folder / ".git/cd4ml/runs").glob("*/clone")]


def test_a_run_that_was_cut_off_leaves_a_bundle_that_says_so_where_the_machine_is_well(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "_limit", lambda _: 0.0)
    (bundle,) = cd4ml(parts.runner, "execute", "exp/x", "--json", "--output", str(tmp_path / "out")).json["bundles"]
    assert bundle["failure"]["kind"] == "transient"
    assert "time limit" in bundle["failure"]["message"]


def test_of_a_run_that_has_landed_its_log_stays_and_the_clone_that_it_ran_in_goes(team: Shell) -> None:
    rejected(team, "exp/x")
    cd4ml(team, "reconcile")
    left = {path.name for path in (team.folder / ".git/cd4ml/runs").glob("*/*")}
    assert "log.txt" in left
    assert left.isdisjoint({"clone", "judge", "home", "site"})
