"""What lands while somebody decides whether to erase."""

from __future__ import annotations

from cd4ml.controller.care.erase import erase, plan_erasure
from tests.conftest import Shell
from tests.controller.keeping_world import plant, project_of


def test_a_run_of_the_same_raw_data_that_lands_after_an_erasure_was_shown_is_named_as_late(team: Shell) -> None:
    one, project = plant(team, "one"), project_of(team)
    shown = plan_erasure(project, one.id, keep_data=False, all_runs_of_data=True)
    late = plant(team, "late")
    assert erase(project, shown, "Erasure request 12").late == (late.id,)
