"""Every injected fault is found, and the finding names what was damaged.

Here once for each family; ``benchmarks/verify_faults.py`` injects as many as one likes (``CD4ML_FAULTS``).
"""

from __future__ import annotations

import os

from tests.controller.verify_faults import Faults, run_faults
from tests.controller.verify_world import World


def test_every_fault_of_every_family_is_found_and_named(recorded: World) -> None:
    faults = Faults(recorded, seed=int(os.environ.get("CD4ML_FAULTS_SEED", "1")))
    assert len(faults.families) > 50
    count = int(os.environ.get("CD4ML_FAULTS", len(faults.families)))
    missed = run_faults(faults, count, tell=print)
    assert missed == []
    assert recorded.verify().findings == ()  # what was undone left nothing behind
