"""Code that a branch brings runs where it may, and nowhere else."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cd4ml.gateways.hydra import compose
from cd4ml.spec.experiment import Spec
from cd4ml.spec.parse import parse
from cd4ml.spec.pipeline import STAGE_NAMES
from cd4ml.stages.own_code import own_code, own_packages
from cd4ml.stages.runner import NO_OWN_CODE_STAGES

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def spec() -> Spec:
    files = {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in (ROOT / "conf").rglob("*.yaml")}
    composed = compose(files)
    return parse(composed.resolved, composed.origin)


@pytest.mark.parametrize(
    ("code", "allowed", "found"),
    [
        (("mine",), ("sklearn", "mine"), ("mine",)),
        (("mine.py",), ("mine.models",), ("mine",)),
        (("mine/models.py",), ("mine",), ()),  # the rest of the package would run, and not count
        (("src/mine",), ("mine",), ()),
        (("substrait.py",), ("sklearn", "xgboost"), ()),  # a library tries to import it, main does not allow it
        ((), ("mine",), ()),  # what the fingerprint does not count is not run
    ],
)
def test_own_packages_are_those_that_are_declared_and_allowed(
    spec: Spec, code: tuple[str, ...], allowed: tuple[str, ...], found: tuple[str, ...]
) -> None:
    assert own_packages(replace(spec, code=code, allowed_packages=allowed)) == found


def test_only_the_named_package_is_importable_and_only_within_the_block(tmp_path: Path) -> None:
    for name in ("cd4ml_test_mine", "cd4ml_test_other", "json"):
        (tmp_path / f"{name}.py").write_text("PLACE = __file__\n", "utf-8")
    with own_code(tmp_path, ("cd4ml_test_mine", "json"), ("cd4ml_test_mine.py", "json.py")):
        import json

        import cd4ml_test_mine  # type: ignore[import-not-found]  # made above

        assert Path(cd4ml_test_mine.PLACE).parent == tmp_path
        assert not hasattr(json, "PLACE")  # what is installed is never hidden
        with pytest.raises(ModuleNotFoundError):
            __import__("cd4ml_test_other")
    del sys.modules["cd4ml_test_mine"]
    with pytest.raises(ModuleNotFoundError):
        __import__("cd4ml_test_mine")


def test_the_stages_that_judge_data_never_see_a_branch_s_code() -> None:
    assert set(STAGE_NAMES) - {"train", "predict", "explain", "evaluate"} == NO_OWN_CODE_STAGES


def test_a_package_beside_the_file_that_counts_is_not_taken_for_it(tmp_path: Path) -> None:
    (tmp_path / "cd4ml_test_twin").mkdir()
    (tmp_path / "cd4ml_test_twin/__init__.py").write_text("", "utf-8")
    (tmp_path / "cd4ml_test_twin.py").write_text("", "utf-8")
    with own_code(tmp_path, ("cd4ml_test_twin",), ("cd4ml_test_twin.py",)), pytest.raises(ModuleNotFoundError):
        __import__("cd4ml_test_twin")
