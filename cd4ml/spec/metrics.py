"""The metrics there are, and which way is better."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from cd4ml.spec.experiment import Direction

DIRECTIONS: Mapping[str, Direction] = MappingProxyType(
    {
        "rmse": "minimize",
        "mae": "minimize",
        "medae": "minimize",
        "max_error": "minimize",
        "mape": "minimize",
        "r2": "maximize",
    }
)
"""Direction of every metric by its name. ``stages.evaluate`` says how each is computed."""
