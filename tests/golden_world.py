"""Golden files: what is rendered, looked at once and kept."""

from __future__ import annotations

import os
from pathlib import Path

_FOLDER = Path(__file__).parent / "golden"


def assert_golden(name: str, text: str) -> None:
    """The file holds just this. With CD4ML_UPDATE_GOLDEN=1 it is written instead, to be looked at in the diff."""
    file = _FOLDER / name
    if os.environ.get("CD4ML_UPDATE_GOLDEN"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
    assert file.read_text("utf-8") == text, f"{name}: CD4ML_UPDATE_GOLDEN=1 writes it anew"
