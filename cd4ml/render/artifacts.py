"""Which files are rendered, from what, and why one on disk is not the one expected.

The pipeline and the parameters are made here, the CI workflows in ``workflows``; what both begin with is in ``seal``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from cd4ml.errors import Problem
from cd4ml.render.seal import BY, is_rendered, read_header, sealed
from cd4ml.render.templates import TEMPLATES, render_template
from cd4ml.render.workflows import WORKFLOW_TEMPLATES
from cd4ml.spec.canonical import digest
from cd4ml.spec.experiment import Spec
from cd4ml.spec.pipeline import DERIVED, PIPELINE_FILE, Pipeline, derived_params, pipeline_of, stages
from cd4ml.spec.sources import RENDERED_FROM, dump_yaml

PIPELINE_TEMPLATE = "dvc.yaml.j2"

_AGAIN = "run: cd4ml render"

DESCRIPTIONS = {
    "ingest": "Fetch the pinned sources and join them into one table",
    "validate": "Hold the table against its expectations",
    "split": "Part the rows by time into train, validation and test",
    "featurize": "Make the columns that the model sees",
    "train": "Fit the estimator on the training side",
    "predict": "Predict the validation and the test side",
    "explain": "Shuffle each feature and see what the model loses",
    "evaluate": "Compute metrics and plots from the predictions",
}


def render_pipeline(spec: Spec, templates: Mapping[str, str]) -> str:
    """``dvc.yaml``: a function of what ``pipeline_of`` takes from the spec, so the same for most experiments.

    Raises ConfigError for a template that cannot be rendered.
    """
    pipeline = pipeline_of(spec)
    described = [
        {"stage": stage, "desc": DESCRIPTIONS.get(stage.name, "A stage of this project")} for stage in stages(pipeline)
    ]
    body = render_template(PIPELINE_TEMPLATE, templates, {"stages": described})
    ours = [asdict(stage) for stage in stages(Pipeline(()))]
    template = digest([templates[PIPELINE_TEMPLATE], ours, DESCRIPTIONS])
    return sealed(body, digest(asdict(pipeline)), template)


def render_params(params: Mapping[str, Any], conf_digest: str, header: str = "") -> str:
    """``params.yaml``: the params that ``with_derived`` gives in their own order, and where they were rendered from.

    The order is kept, not sorted: the first of ``data.sources`` is the main table. ``header`` may add comment lines.
    """
    lines = [BY, *(f"# {line}".rstrip() for line in header.splitlines())]
    return "\n".join(lines) + "\n" + dump_yaml({**params, RENDERED_FROM: conf_digest})


def with_derived(resolved: Mapping[str, Any], spec: Spec, own_code: str, env: str) -> dict[str, Any]:
    """The configuration as ``params.yaml`` holds it: with what the pipeline of ``spec`` adds to it.

    ``own_code`` is what ``own_code_digest`` gives for the code that the stages will import, ``env`` what ``env_digest``
    gives for the environment that they run in.
    """
    return {**resolved, DERIVED: derived_params(pipeline_of(spec), own_code, env)}


def check(expected: Mapping[str, str], found: Mapping[str, str | None]) -> tuple[Problem, ...]:
    """Why committed files are not what rendering gives now: missing, edited by hand, template or configuration moved.

    Both map paths to text; ``found`` holds nothing for a file that is not there. It may hold more than is expected:
    a workflow that was rendered once and no longer is, as after a change of the provider, is called left over.
    """
    differing = (
        problem
        for path, text in sorted(expected.items())
        for problem in _differences(path, text, found.get(path))
        if found.get(path) != text
    )
    return (*differing, *left_over(expected, found))


def left_over(expected: Collection[str], found: Mapping[str, str | None]) -> tuple[Problem, ...]:
    """The workflows among ``found`` that cd4ml rendered once, and that the configuration no longer asks for."""
    return tuple(
        Problem(path, "", "is left over: conf/ci no longer asks for it", f"remove it: git rm {path}")
        for path, text in sorted(found.items())
        if path in WORKFLOW_TEMPLATES and path not in expected and text is not None and is_rendered(text)
    )


def _differences(path: str, expected: str, found: str | None) -> Iterator[Problem]:
    if found is None:
        yield Problem(path, "", "is missing", _AGAIN)
        return
    now, then = read_header(expected), read_header(found)
    if then is None or now is None:
        yield Problem(path, "", "was edited by hand", f"make the change in templates/ or conf/, then {_AGAIN}")
        return
    if then.template != now.template:
        yield Problem(path, "", f"{_template_of(path)} or cd4ml changed since it was rendered", _AGAIN)
    if then.config != now.config:
        yield Problem(path, "", "conf/ changed since it was rendered", _AGAIN)
    if (then.template, then.config) == (now.template, now.config):
        yield Problem(path, "", "was rendered by another version of cd4ml", _AGAIN)


def _template_of(path: str) -> str:
    return TEMPLATES + {PIPELINE_FILE: PIPELINE_TEMPLATE, **WORKFLOW_TEMPLATES}.get(path, "")
