"""How many branches are worked on at once: as many as the command line asks for, else as main says."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from cd4ml.controller.reconciling import apply
from tests.conftest import Shell
from tests.controller.controller_world import cd4ml, experiment, git


@pytest.mark.parametrize(("options", "jobs"), [((), 2), (("--jobs", "1"), 1), (("--jobs", "3"), 3)])
def test_as_many_branches_are_worked_on_at_once_as_is_asked_for_or_as_main_says(
    team: Shell, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], jobs: int
) -> None:
    assert "jobs: 2 " in git(team, "show", "main:conf/executor/local.yaml")
    for number in range(4):
        experiment(team, f"exp/{number}", nonsense=number)
    at_work: set[int] = set()
    together, applied = threading.Barrier(jobs), apply._apply_item

    def apply_item(*arguments: Any) -> tuple[str, list[str], str]:
        if threading.get_ident() not in at_work:
            at_work.add(threading.get_ident())
            together.wait(20)  # until as many are at work
        return applied(*arguments)

    monkeypatch.setattr(apply, "_apply_item", apply_item)
    cd4ml(team, "reconcile", *options)
    assert len(at_work) == jobs
