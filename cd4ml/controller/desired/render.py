"""Render: write what templates and configuration give, or check that it is there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from cd4ml.controller.desired.data import read_folder
from cd4ml.controller.desired.scaffold import merged_templates
from cd4ml.controller.desired.specs import python_minor
from cd4ml.controller.project import CONF, TEMPLATES, Project
from cd4ml.errors import Problem, UsageError
from cd4ml.gateways.files import write_atomically
from cd4ml.gateways.hydra import compose
from cd4ml.render.artifacts import check, left_over, render_params, render_pipeline, with_derived
from cd4ml.render.seal import is_rendered
from cd4ml.render.workflows import GITLAB_FILE, WORKFLOW_TEMPLATES, render_workflows
from cd4ml.spec.environment import lock_entries
from cd4ml.spec.fingerprint import env_digest
from cd4ml.spec.parse import parse
from cd4ml.spec.pipeline import PARAMS_FILE, PIPELINE_FILE
from cd4ml.spec.sources import conf_digest
from cd4ml.stages.own_code import code_on_disk

_GITLAB = f"a copy of {WORKFLOW_TEMPLATES[GITLAB_FILE]} (cd4ml render --template)"
_OF_DVC = (PIPELINE_FILE, PARAMS_FILE)


def templates_of(root: Path) -> Mapping[str, str]:
    """The shipped templates, and over them the folder's own."""
    return merged_templates(read_folder(root, TEMPLATES) if (root / TEMPLATES).is_dir() else {})


def committed_files(root: Path, files: Mapping[str, bytes], base: str) -> dict[str, str]:
    """The rendered files that are committed, by path: the pipeline and the workflows."""
    composed = compose(files)
    spec, templates = parse(composed.resolved, composed.origin), templates_of(root)
    return {PIPELINE_FILE: render_pipeline(spec, templates), **render_workflows(spec, templates, base)}


def write_rendered(root: Path, files: Mapping[str, bytes], *, base: str, keep: bool = False) -> list[str]:
    """Write all rendered files of ``root``; gives the paths that changed. With ``keep``, none that exists.

    ``params.yaml`` is written too, which Git ignores: the stages that a person starts read it. Raises UsageError, with
    nothing written, where a person's own file would be written over.
    """
    composed = compose(files)
    spec = parse(composed.resolved, composed.origin)
    params = with_derived(composed.resolved, spec, code_on_disk(root, spec.code), _environment(root, spec.lock))
    expected = {**committed_files(root, files, base), PARAMS_FILE: render_params(params, conf_digest(files))}
    there = _found(root, expected)
    if not keep:
        _refuse_own(there)
    changed = []
    for path, text in expected.items():
        target, found = root / path, there[path]
        if found != text and not (keep and found is not None):
            write_atomically(target, text.encode())
            changed.append(path)
    return changed


def refuse_own_of_dvc(root: Path) -> None:
    """Raise UsageError where a person's own pipeline or parameters are where ours belong."""
    _refuse_own(_found(root, _OF_DVC))


def _refuse_own(there: Mapping[str, str | None]) -> None:
    """Raise UsageError for the first of these files, by path, that a person wrote: nobody's work is written over."""
    for path, text in there.items():
        if text is None or is_rendered(text):
            continue
        if path == GITLAB_FILE:
            raise UsageError(f"{path}: is your own; move it, say to .gitlab/own.yml, and include that in {_GITLAB}")
        raise UsageError(
            f"{path}: is your own, and cd4ml renders a file of that name: move it (delete it, if it was once rendered),"
            " or begin in a folder and repository of its own"
        )


def _found(root: Path, paths: Iterable[str]) -> dict[str, str | None]:
    return {path: (root / path).read_text("utf-8") if (root / path).is_file() else None for path in paths}


def _environment(root: Path, lock: str) -> str:
    """The ``env`` component for the lock file as it stands. Raises ConfigError for one that is none."""
    path = root / lock
    text = path.read_text("utf-8", "replace") if lock and path.is_file() else ""
    return env_digest(lock_entries(text, lock), python_minor())


def render(project: Project) -> list[str]:
    """Render the work tree's configuration into the work tree."""
    root = project.work_tree()
    return write_rendered(root, read_folder(root, CONF), base=project.base)


def vendor_template(project: Project, name: str) -> str:
    """Copy a template that cd4ml ships into the work tree's ``templates/``; gives its path there.

    Raises UsageError for a name that is none, or a file that is there already.
    """
    ours = merged_templates({})
    if name not in ours:
        raise UsageError(f"there is no template {name!r}; there are {', '.join(sorted(ours))}")
    path = f"{TEMPLATES}/{name}"
    target = project.work_tree() / path
    if target.exists() or target.is_symlink():
        raise UsageError(f"{path}: is there already")
    write_atomically(target, ours[name].encode())
    return path


def check_rendered(project: Project) -> tuple[Problem, ...]:
    """What is wrong with the committed rendered files of the work tree, and why. Writes nothing."""
    root = project.work_tree()
    expected = committed_files(root, read_folder(root, CONF), project.base)
    return check(expected, _found(root, {*expected, *WORKFLOW_TEMPLATES}))


def no_longer_rendered(project: Project) -> tuple[Problem, ...]:
    """The workflows in the work tree that were rendered once, as for another provider. Removes none."""
    root = project.work_tree()
    return left_over(committed_files(root, read_folder(root, CONF), project.base), _found(root, WORKFLOW_TEMPLATES))
