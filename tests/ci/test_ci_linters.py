"""actionlint, zizmor and the published schemas over what is rendered: no finding, and no rule that is ignored."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ci.linters_world import ROOT, lint, variants, write_workflows, zizmor_findings

GITHUB = [name for name in variants() if not name.startswith("gitlab")]
GITLAB = [name for name in variants() if name.startswith("gitlab")]
KIND = [("dangerous-triggers", "on")]


@pytest.mark.parametrize("variant", GITHUB)
def test_actionlint_has_nothing_to_say(variant: str, tmp_path: Path) -> None:
    for path in write_workflows(tmp_path, variant):
        assert lint(tmp_path, "actionlint", "-no-color", str(path)) == (0, "")


@pytest.mark.parametrize("variant", GITHUB)
def test_zizmor_has_nothing_to_say_but_that_a_trigger_is_dangerous_by_its_kind(variant: str, tmp_path: Path) -> None:
    """Its rule knows no condition: `workflow_run` is reported whatever the job does. Nothing else may be found."""
    found = {path.name: zizmor_findings(tmp_path, path) for path in write_workflows(tmp_path, variant)}
    assert found.pop("cd4ml-fork-report.yml", KIND) == KIND
    assert not any(found.values()), found


@pytest.mark.parametrize("variant", GITHUB)
def test_the_workflows_are_as_githubs_schema_says(variant: str, tmp_path: Path) -> None:
    for path in write_workflows(tmp_path, variant):
        code, said = lint(tmp_path, "check-jsonschema", "--builtin-schema", "vendor.github-workflows", str(path))
        assert code == 0, said


@pytest.mark.parametrize("variant", GITLAB)
def test_the_pipeline_is_as_gitlabs_schema_says(variant: str, tmp_path: Path) -> None:
    schema = ("--builtin-schema", "vendor.gitlab-ci", "--data-transform", "gitlab-ci")
    for path in write_workflows(tmp_path, variant):
        code, said = lint(tmp_path, "check-jsonschema", *schema, str(path))
        assert code == 0, said


def test_the_linters_pass_over_every_workflow_of_this_repository(tmp_path: Path) -> None:
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        assert lint(tmp_path, "actionlint", "-no-color", str(path)) == (0, "")
        code, said = lint(tmp_path, "zizmor", "--offline", "--no-progress", "--no-config", str(path))
        assert (code, "ignored" in said) == (0, False), said


def test_a_linter_that_finds_something_fails_these_tests(tmp_path: Path) -> None:
    (path,) = write_workflows(tmp_path, "as committed")
    text = path.read_text("utf-8").replace("persist-credentials: false", "persist-credentials: true")
    path.write_text(text.replace("run: if [ -f", 'run: echo "${{ github.head_ref }}"; if [ -f'), "utf-8")
    assert {rule for rule, _ in zizmor_findings(tmp_path, path)} >= {"artipacked", "template-injection"}
    assert lint(tmp_path, "actionlint", "-no-color", str(path))[0] == 1
