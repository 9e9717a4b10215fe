"""Worlds that take long to make: once for all workers, and a copy for each test."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cd4ml.gateways.warm import SOCKET_VARIABLE
from tests.conftest import made_once
from tests.controller import parts_world
from tests.controller.parts_world import Parts
from tests.controller.verify_world import World, made_from


@pytest.fixture(scope="session")
def recorded_project(
    template_project: Path, tmp_path_factory: pytest.TempPathFactory, few_flights: Path, warm: str
) -> Path:
    """A folder with a project that has nine records in five folds."""
    environment = {"PYTHONPATH": str(few_flights), SOCKET_VARIABLE: warm}
    once = made_once(
        tmp_path_factory, "recorded", lambda folder: made_from(template_project, folder / "world", environment)
    )
    return once / "world"


@pytest.fixture
def recorded(recorded_project: Path, tmp_path: Path) -> World:
    """A copy of it."""
    shutil.copytree(recorded_project, tmp_path / "world", symlinks=True)
    return World(tmp_path / "world")


@pytest.fixture(scope="session")
def executed_parts(
    template_project: Path, tmp_path_factory: pytest.TempPathFactory, few_flights: Path, warm: str
) -> Parts:
    """Two experiments that one clone executed, and nobody has landed. Not to be changed."""
    environment = {"PYTHONPATH": str(few_flights), SOCKET_VARIABLE: warm}
    once = made_once(
        tmp_path_factory,
        "parts",
        lambda folder: parts_world.made_from(template_project, folder / "world", environment),
    )
    return parts_world.copied(Parts(once / "world", environment), tmp_path_factory.mktemp("parts") / "world")


@pytest.fixture
def parts(executed_parts: Parts, tmp_path: Path) -> Parts:
    """A copy of it."""
    return parts_world.copied(executed_parts, tmp_path / "parts")
