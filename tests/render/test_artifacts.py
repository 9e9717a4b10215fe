"""Rendered files: golden, pure, the same for experiments of one pipeline, and their checks by name."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cd4ml.render.artifacts import (
    PIPELINE_TEMPLATE,
    WORKFLOW_FILE,
    WORKFLOW_TEMPLATE,
    check,
    render_params,
    render_pipeline,
    render_workflow,
    with_derived,
)
from cd4ml.spec.experiment import SourceSpec, Spec
from cd4ml.spec.parse import parse
from cd4ml.spec.pipeline import DERIVED, derived_params, pipeline_of, stages
from cd4ml.spec.sources import RENDERED_FROM, load_yaml

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
TEMPLATES = {
    path.relative_to(ROOT / "templates").as_posix(): path.read_text() for path in (ROOT / "templates").rglob("*.j2")
}
GROUPS = {
    "data": "flights",
    "validation": "flights",
    "split": "time",
    "features": "flights",
    "model": "xgboost",
    "evaluation": "regression",
    "promotion": "default",
    "ci": "github",
    "executor": "local",
}
HOSTILE = [
    "plain",
    "quo'te\"s",
    "${{ github.token }}",
    "two\nlines: [x]",
    "<{ 7 * 7 }> <% raw %>",
    "no",
    "- a: &b *c # d",
    "$(touch x); `id`",
    "\u202eright to left \U0001f600",
]


def params() -> dict[str, Any]:
    """What params.yaml holds of ``resolved()``."""
    value = resolved()
    return with_derived(value, parse(value), "c" * 64, "e" * 64)


def resolved() -> dict[str, Any]:
    value = load_yaml((ROOT / "conf/config.yaml").read_text())
    del value["defaults"]
    return {
        **value,
        **{group: load_yaml((ROOT / f"conf/{group}/{one}.yaml").read_text()) for group, one in GROUPS.items()},
    }


SPEC = parse(resolved())


def hostile_spec() -> Spec:
    """Values that ``parse`` would refuse, put past it: rendering must be safe by itself."""
    sources = tuple(SourceSpec(name, "x.csv", "csv") for name in HOSTILE)
    return replace(
        SPEC,
        lock="lock ${{ secrets.X }}\n'\"",
        data=replace(SPEC.data, sources=sources),
        ci=replace(SPEC.ci, python="3.11 ${{ 1 }}"),
        experiments=replace(SPEC.experiments, branches=tuple(HOSTILE)),
    )


def without_inputs(text: str) -> str:
    """The digests of the inputs move with every template; the rest is what the goldens are about."""
    return "\n".join(line for line in text.split("\n") if not line.startswith("# inputs: "))


def assert_golden(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("CD4ML_UPDATE_GOLDEN"):
        path.write_text(without_inputs(text))
    assert without_inputs(text) == path.read_text(), f"{name}: CD4ML_UPDATE_GOLDEN=1 writes it anew"


def test_the_pipeline_is_golden() -> None:
    assert_golden("dvc.yaml", render_pipeline(SPEC, TEMPLATES))


def test_the_workflow_is_golden() -> None:
    assert_golden("cd4ml.yml", render_workflow(SPEC, TEMPLATES, "main")[WORKFLOW_FILE])


def test_the_parameters_are_golden() -> None:
    assert_golden("params.yaml", render_params(params(), "0" * 64, "for a test\n# twice"))


def test_hostile_values_in_the_pipeline_are_golden_and_inert() -> None:
    text = render_pipeline(hostile_spec(), TEMPLATES)
    assert_golden("hostile.dvc.yaml", text)
    content = yaml.safe_load(text)
    assert content["stages"]["ingest"]["deps"] == [f"data/{name}.lock.json".replace("${", "\\${") for name in HOSTILE]
    assert {stage["cmd"] for stage in content["stages"].values()} == {
        stage.command for stage in stages(pipeline_of(parse(resolved())))
    }


def test_hostile_values_in_the_workflow_are_golden_and_inert() -> None:
    text = render_workflow(hostile_spec(), TEMPLATES, "ma'in ${{ x }}\n")[WORKFLOW_FILE]
    assert_golden("hostile.cd4ml.yml", text)
    ours = yaml.safe_load(text)
    plain = yaml.safe_load(render_workflow(SPEC, TEMPLATES, "main")[WORKFLOW_FILE])
    runs = [[step.get("run") for step in job["steps"]] for job in ours["jobs"].values()]
    assert runs == [[step.get("run") for step in job["steps"]] for job in plain["jobs"].values()]
    assert not any("${{" in run for job in runs for run in job if run)
    install = next(step for step in ours["jobs"]["check"]["steps"] if "CD4ML_LOCK" in step.get("env", {}))
    assert install["env"]["CD4ML_LOCK"] == "lock ${{ '${{' }} secrets.X }}\n'\""


def test_the_committed_files_are_what_rendering_gives() -> None:
    expected = {"dvc.yaml": render_pipeline(SPEC, TEMPLATES), **render_workflow(SPEC, TEMPLATES, "main")}
    assert check(expected, {path: (ROOT / path).read_text() for path in expected}) == ()


def test_the_pipeline_is_the_same_for_every_experiment_on_the_same_sources() -> None:
    other = resolved() | {"seed": 5, "name": "other", "model": load_yaml((ROOT / "conf/model/ridge.yaml").read_text())}
    other["data"]["target"] = "dep_delay"
    other["features"]["numeric"] = ["distance"]
    assert render_pipeline(parse(other), TEMPLATES) == render_pipeline(SPEC, TEMPLATES)
    del other["data"]["sources"]["planes"]
    del other["data"]["joins"][1]
    assert render_pipeline(parse(other), TEMPLATES) != render_pipeline(SPEC, TEMPLATES)


def test_without_a_lock_the_workflow_installs_none() -> None:
    text = render_workflow(replace(SPEC, lock=""), TEMPLATES, "main")[WORKFLOW_FILE]
    assert "CD4ML_LOCK" not in text
    assert yaml.safe_load(text)["jobs"]


def test_the_base_branch_is_a_parameter() -> None:
    text = render_workflow(SPEC, TEMPLATES, "trunk")[WORKFLOW_FILE]
    content = yaml.safe_load(text)
    assert content[True]["push"]["branches"] == ["trunk", "exp/**"]
    assert "main" not in text


def test_only_the_reconcile_job_may_write_and_never_for_a_pull_request() -> None:
    content = yaml.safe_load(render_workflow(SPEC, TEMPLATES, "main")[WORKFLOW_FILE])
    assert content["permissions"] == {}
    assert content["jobs"]["check"]["permissions"] == {"contents": "read"}
    assert "if" not in content["jobs"]["check"]
    assert content["jobs"]["reconcile"]["permissions"] == {"contents": "write"}
    assert content["jobs"]["reconcile"]["if"] == "github.event_name == 'push' || github.event_name == 'schedule'"
    checkouts = [
        step for job in content["jobs"].values() for step in job["steps"] if "checkout" in step.get("uses", "")
    ]
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)
    assert checkouts[1]["with"]["ref"] == "main"


# --- params.yaml ------------------------------------------------------------------------------------


def test_parameters_are_the_resolved_configuration_and_where_it_came_from() -> None:
    content = load_yaml(render_params(params(), "d" * 64))
    assert content.pop(RENDERED_FROM) == "d" * 64
    assert content.pop(DERIVED) == derived_params(pipeline_of(parse(resolved())), "c" * 64, "e" * 64)
    assert content == resolved()
    assert list(content["data"]["sources"]) == ["flights", "weather", "planes"]
    assert parse(content) == SPEC


def test_a_header_cannot_break_out_of_its_comment() -> None:
    text = render_params({"data": {"sources": {}}, DERIVED: {}}, "d", "one\ntwo: 2\r\n- three\u2028four: 4")
    assert list(load_yaml(text)) == ["data", DERIVED, RENDERED_FROM]


# --- check ------------------------------------------------------------------------------------------

EXPECTED = {"dvc.yaml": render_pipeline(SPEC, TEMPLATES)}


def words_of(found: str | None, expected: dict[str, str] | None = None) -> list[str]:
    problems = check(expected or EXPECTED, {"dvc.yaml": found})
    assert all(problem.file == "dvc.yaml" and problem.hint for problem in problems)
    return [problem.message for problem in problems]


def test_a_file_that_is_as_rendered_is_no_problem() -> None:
    assert words_of(EXPECTED["dvc.yaml"]) == []


def test_a_missing_file_is_called_missing() -> None:
    assert words_of(None) == ["is missing"]
    assert [problem.message for problem in check(EXPECTED, {})] == ["is missing"]


def test_a_changed_configuration_is_called_that() -> None:
    smaller = replace(SPEC, data=replace(SPEC.data, sources=SPEC.data.sources[:1]))
    assert words_of(render_pipeline(smaller, TEMPLATES)) == ["conf/ changed since it was rendered"]


def test_a_changed_template_is_called_that() -> None:
    older = {**TEMPLATES, PIPELINE_TEMPLATE: TEMPLATES[PIPELINE_TEMPLATE] + "# old\n"}
    assert words_of(render_pipeline(SPEC, older)) == [
        f"templates/{PIPELINE_TEMPLATE} or cd4ml changed since it was rendered"
    ]
    workflow = check(
        render_workflow(SPEC, TEMPLATES, "main"),
        dict(render_workflow(SPEC, {**TEMPLATES, WORKFLOW_TEMPLATE: TEMPLATES[WORKFLOW_TEMPLATE] + "\n"}, "main")),
    )
    assert [problem.message for problem in workflow] == [
        f"templates/{WORKFLOW_TEMPLATE} or cd4ml changed since it was rendered"
    ]


def test_both_changes_are_told() -> None:
    smaller = replace(SPEC, data=replace(SPEC.data, sources=SPEC.data.sources[:1]))
    older = {**TEMPLATES, PIPELINE_TEMPLATE: TEMPLATES[PIPELINE_TEMPLATE] + "# old\n"}
    assert len(words_of(render_pipeline(smaller, older))) == 2


def test_a_hand_edit_is_called_that_wherever_it_is_and_whatever_else_changed() -> None:
    text = EXPECTED["dvc.yaml"]
    older = render_pipeline(SPEC, {**TEMPLATES, PIPELINE_TEMPLATE: TEMPLATES[PIPELINE_TEMPLATE] + "# old\n"})
    for edited in (
        text + "# mine\n",
        text.replace("cd4ml stage train", "echo"),
        text.replace("config ", "config f", 1),
        text.split("\n", 1)[1],
        older + "\n",
        "",
    ):
        assert words_of(edited) == ["was edited by hand"]


@given(st.text(max_size=40), st.integers(0, len(EXPECTED["dvc.yaml"])), st.integers(0, 3))
def test_any_edit_is_noticed(insert: str, at: int, drop: int) -> None:
    text = EXPECTED["dvc.yaml"]
    edited = text[:at] + insert + text[at + drop :]
    assert bool(words_of(edited)) is (edited != text)


@pytest.mark.parametrize("order", [1, -1])
def test_problems_are_in_the_order_of_the_paths(order: int) -> None:
    paths = ["a", "b", "c"][::order]
    assert [problem.file for problem in check(dict.fromkeys(paths, "x"), {})] == ["a", "b", "c"]
