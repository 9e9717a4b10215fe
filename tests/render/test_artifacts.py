"""Rendered files: golden, pure, the same for experiments of one pipeline, and their checks by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cd4ml.render.artifacts import PIPELINE_TEMPLATE, check, render_params, render_pipeline, with_derived
from cd4ml.render.workflows import (
    FORK_FILE,
    FORK_REPORT_FILE,
    GITLAB_FILE,
    WORKFLOW_FILE,
    WORKFLOW_TEMPLATES,
    render_workflows,
)
from cd4ml.spec.experiment import SourceSpec, Spec
from cd4ml.spec.parse import parse
from cd4ml.spec.pipeline import DERIVED, derived_params, pipeline_of, stages
from cd4ml.spec.sources import RENDERED_FROM, load_yaml
from tests.golden_world import assert_golden

ROOT = Path(__file__).parents[2]
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


def assert_rendered(name: str, text: str) -> None:
    """It is golden, but for what its header says of its inputs."""
    assert_golden(name, without_inputs(text))


def test_the_pipeline_is_golden() -> None:
    assert_rendered("dvc.yaml", render_pipeline(SPEC, TEMPLATES))


def test_the_parameters_are_golden() -> None:
    assert_rendered("params.yaml", render_params(params(), "0" * 64, "for a test\n# twice"))


def test_hostile_values_in_the_pipeline_are_golden_and_inert() -> None:
    text = render_pipeline(hostile_spec(), TEMPLATES)
    assert_rendered("hostile.dvc.yaml", text)
    content = yaml.safe_load(text)
    assert content["stages"]["ingest"]["deps"] == [f"data/{name}.lock.json".replace("${", "\\${") for name in HOSTILE]
    assert {stage["cmd"] for stage in content["stages"].values()} == {
        stage.command for stage in stages(pipeline_of(parse(resolved())))
    }


def test_the_committed_files_are_what_rendering_gives() -> None:
    expected = {"dvc.yaml": render_pipeline(SPEC, TEMPLATES), **render_workflows(SPEC, TEMPLATES, "main")}
    assert check(expected, {path: (ROOT / path).read_text() for path in expected}) == ()


def test_the_pipeline_is_the_same_for_every_experiment_on_the_same_sources() -> None:
    other = resolved() | {"seed": 5, "name": "other", "model": load_yaml((ROOT / "conf/model/ridge.yaml").read_text())}
    other["data"]["target"] = "dep_delay"
    other["features"]["numeric"] = ["distance"]
    assert render_pipeline(parse(other), TEMPLATES) == render_pipeline(SPEC, TEMPLATES)
    del other["data"]["sources"]["planes"]
    del other["data"]["joins"][1]
    assert render_pipeline(parse(other), TEMPLATES) != render_pipeline(SPEC, TEMPLATES)


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
    template = WORKFLOW_TEMPLATES[WORKFLOW_FILE]
    then = render_workflows(SPEC, {**TEMPLATES, template: TEMPLATES[template] + "\n"}, "main")
    (problem,) = check(render_workflows(SPEC, TEMPLATES, "main"), dict(then))
    assert (problem.file, problem.message) == (
        WORKFLOW_FILE,
        f"templates/{template} or cd4ml changed since it was rendered",
    )


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


def with_ci(**values: Any) -> Spec:
    return replace(SPEC, ci=replace(SPEC.ci, **values))


def test_after_a_change_of_the_provider_the_old_workflow_is_called_left_over() -> None:
    old = render_workflows(with_ci(fork_label="run"), TEMPLATES, "main")
    new = render_workflows(with_ci(provider="gitlab"), TEMPLATES, "main")
    problems = check(new, {**old, **new})
    assert [problem.file for problem in problems] == [FORK_REPORT_FILE, FORK_FILE, WORKFLOW_FILE]
    assert all("left over" in problem.message and problem.hint.startswith("remove it") for problem in problems)


def test_a_workflow_that_was_edited_since_is_left_over_too() -> None:
    old = {path: text + "# mine\n" for path, text in render_workflows(SPEC, TEMPLATES, "main").items()}
    new = render_workflows(with_ci(provider="gitlab"), TEMPLATES, "main")
    assert [problem.file for problem in check(new, {**old, **new})] == [WORKFLOW_FILE]


def test_a_pipeline_that_cd4ml_did_not_write_is_nobodys_left_over() -> None:
    expected = render_workflows(SPEC, TEMPLATES, "main")
    assert check(expected, {**expected, GITLAB_FILE: "stages: [mine]\n", "README.md": "x"}) == ()


def test_taking_the_label_back_leaves_the_workflows_of_forks_over() -> None:
    old = render_workflows(with_ci(fork_label="run"), TEMPLATES, "main")
    assert [problem.file for problem in check(render_workflows(SPEC, TEMPLATES, "main"), dict(old))] == [
        FORK_REPORT_FILE,
        FORK_FILE,
    ]
