"""Which files are rendered, from what, and why one on disk is not the one expected.

Every committed file begins with two comment lines: who wrote it, and short digests of what it was made of.
They tell a hand edit from a changed template and from a changed configuration without looking anywhere else.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cd4ml.errors import Problem
from cd4ml.render.templates import TEMPLATES, render_template
from cd4ml.spec.canonical import digest
from cd4ml.spec.experiment import Spec
from cd4ml.spec.pipeline import DERIVED, PIPELINE_FILE, Pipeline, derived_params, pipeline_of, stages
from cd4ml.spec.sources import RENDERED_FROM, dump_yaml

PIPELINE_TEMPLATE = "dvc.yaml.j2"
WORKFLOW_TEMPLATE = "github/cd4ml.yml.j2"
WORKFLOW_FILE = ".github/workflows/cd4ml.yml"

_BY = "# rendered by cd4ml; edit templates/ or conf/, then run: cd4ml render"
_INPUTS = re.compile(r"# inputs: config (?P<config>\w{12}) template (?P<template>\w{12}) content (?P<content>\w{12})")
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
    return _sealed(body, digest(asdict(pipeline)), template)


def render_workflow(spec: Spec, templates: Mapping[str, str], base: str) -> dict[str, str]:
    """The CI workflows by path: a function of the base branch's spec, and of its name ``base``.

    Raises ConfigError for a template that cannot be rendered.
    """
    values: dict[str, Any] = {
        "base": base,
        "branches": list(dict.fromkeys((base, *(_actions_pattern(one) for one in spec.experiments.branches)))),
        "python": spec.ci.python,
        "lock": spec.lock,
    }
    body = render_template(WORKFLOW_TEMPLATE, templates, values)
    return {WORKFLOW_FILE: _sealed(body, digest(values), digest(templates[WORKFLOW_TEMPLATE]))}


def render_params(params: Mapping[str, Any], conf_digest: str, header: str = "") -> str:
    """``params.yaml``: the params that ``with_derived`` gives in their own order, and where they were rendered from.

    The order is kept, not sorted: the first of ``data.sources`` is the main table. ``header`` may add comment lines.
    """
    lines = [_BY, *(f"# {line}".rstrip() for line in header.splitlines())]
    return "\n".join(lines) + "\n" + dump_yaml({**params, RENDERED_FROM: conf_digest})


def with_derived(resolved: Mapping[str, Any], spec: Spec, own_code: str, env: str) -> dict[str, Any]:
    """The configuration as ``params.yaml`` holds it: with what the pipeline of ``spec`` adds to it.

    ``own_code`` is what ``own_code_digest`` gives for the code that the stages will import, ``env`` what ``env_digest``
    gives for the environment that they run in.
    """
    return {**resolved, DERIVED: derived_params(pipeline_of(spec), own_code, env)}


def check(expected: Mapping[str, str], found: Mapping[str, str | None]) -> tuple[Problem, ...]:
    """Why committed files are not what rendering gives now: missing, edited by hand, template or configuration moved.

    Both map paths to text; ``found`` holds nothing for a file that is not there.
    """
    return tuple(
        problem
        for path, text in sorted(expected.items())
        for problem in _differences(path, text, found.get(path))
        if found.get(path) != text
    )


# --- the header -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Header:
    """Short digests: of the values given to the template, of the template, and of all three parts together."""

    config: str
    template: str
    content: str


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _content(config: str, template: str, body: str) -> str:
    return _short(f"{config}\n{template}\n{body}")


def _sealed(body: str, config_digest: str, template_digest: str) -> str:
    config, template = config_digest[:12], template_digest[:12]
    inputs = f"# inputs: config {config} template {template} content {_content(config, template, body)}"
    return f"{_BY}\n{inputs}\n{body}"


def _read_header(text: str) -> _Header | None:
    """The header of a file that nobody touched since it was rendered, or nothing."""
    by, _, rest = text.partition("\n")
    line, _, body = rest.partition("\n")
    match = _INPUTS.fullmatch(line)
    if by != _BY or match is None or match["content"] != _content(match["config"], match["template"], body):
        return None
    return _Header(match["config"], match["template"], match["content"])


def _differences(path: str, expected: str, found: str | None) -> Iterator[Problem]:
    if found is None:
        yield Problem(path, "", "is missing", _AGAIN)
        return
    now, then = _read_header(expected), _read_header(found)
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
    return TEMPLATES + {PIPELINE_FILE: PIPELINE_TEMPLATE, WORKFLOW_FILE: WORKFLOW_TEMPLATE}.get(path, "")


def _actions_pattern(pattern: str) -> str:
    """A branch pattern as Actions reads it: there ``*`` stops at ``/``, and ``**`` does not."""
    return re.sub(r"\*+", "**", pattern)
