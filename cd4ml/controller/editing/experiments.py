"""Open an experiment branch, and add to what is known of one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from cd4ml.controller.desired.scaffold import load_templates
from cd4ml.controller.desired.specs import compose_tree, named_columns
from cd4ml.controller.landing import trust
from cd4ml.controller.landing.fold import fold_landed
from cd4ml.controller.landing.land import land_experiment
from cd4ml.controller.landing.landed import read_history
from cd4ml.controller.project import CONF, Project
from cd4ml.controller.reconciling.lifecycles import lifecycles
from cd4ml.controller.reconciling.observe import known_branches
from cd4ml.errors import ConfigError, RepositoryError, UsageError
from cd4ml.gateways.hydra import compose, parse_overrides
from cd4ml.render.artifacts import render_pipeline
from cd4ml.spec.experiment import Spec
from cd4ml.spec.override import check_name, new_experiment, unchanged
from cd4ml.spec.parse import parse
from cd4ml.spec.pipeline import PIPELINE_FILE
from cd4ml.spec.secrets import secret_kind

_LONGEST_NOTE = 10_000
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Opened:
    """A new experiment branch. ``changed`` are the files that differ from the base branch."""

    branch: str
    commit: str
    changed: tuple[str, ...]


def open_experiment(
    project: Project, name: str, overrides: tuple[str, ...], *, hypothesis: str, checkout: bool, push: bool
) -> Opened:
    """A branch from the remote's base branch whose one commit asks for what the overrides say.

    The work tree is left alone unless ``checkout``. Raises ConfigError or UsageError for overrides that are
    wrong or change nothing, RepositoryError for a branch that exists.
    """
    state = trust.fetch(project)
    base_commit = state.heads.get(project.base)
    if base_commit is None:
        raise project.without_base()
    before, origin = compose_tree(project, base_commit)
    policy = parse(before, origin)
    branch, short = branch_name(name, policy.experiments.branches)
    if branch in state.heads:
        raise RepositoryError(f"branch {branch} exists on {project.remote}")
    if branch in project.repository.local_heads():
        raise RepositoryError(f"branch {branch} exists in this clone")
    files = project.repository.read_files(base_commit, CONF)
    check_name(files, short)
    project.repository.check_branch_name(branch)
    parsed = parse_overrides(overrides)
    if overrides:  # a key that is not there, or a value that is none, is told by the override's name
        asked = compose(files, overrides)
        parse(asked.resolved, asked.origin)
    changed = new_experiment(files, short, parsed, hypothesis)
    tree = project.repository.write_tree(base_commit, changed)
    after, origin = compose_tree(project, tree)  # remembered for the plan that comes next
    spec = parse(after, origin)
    idle = unchanged(before, after, parsed)
    if idle:
        raise UsageError(f"{', '.join(idle)}: changes nothing that {project.base} asks for")
    check_model(spec, origin, policy)
    if problems := named_columns(project, tree, spec, origin):
        raise ConfigError(problems)
    pipeline = render_pipeline(spec, load_templates(project, base_commit)).encode()
    if project.repository.read_blob(base_commit, PIPELINE_FILE, len(pipeline)) != pipeline:
        changed[PIPELINE_FILE] = pipeline
        tree = project.repository.write_tree(base_commit, changed)
    reason = f"\n{hypothesis}\n" if hypothesis else ""
    commit = project.repository.commit_tree(tree, (base_commit,), f"Experiment {short}\n{reason}")
    project.repository.create_branch(branch, commit)
    if push:
        project.repository.push_head(project.remote, branch, "", commit)
    if checkout:
        project.repository.switch(branch)
    return Opened(branch, commit, tuple(sorted(changed)))


def branch_name(name: str, patterns: tuple[str, ...]) -> tuple[str, str]:
    """The branch for an experiment's name, and the name without the pattern's prefix.

    ``branch_name("deeper", ("exp/*",)) == ("exp/deeper", "deeper")``, and the same for ``exp/deeper``.
    """
    prefixes = [pattern[:-1] for pattern in patterns if pattern.endswith("*") and "*" not in pattern[:-1]]
    for prefix in prefixes:
        if prefix and name.startswith(prefix) and len(name) > len(prefix):
            return name, name.removeprefix(prefix)
    if not prefixes:
        raise UsageError("conf/config.yaml: experiments.branches: has no pattern that ends in `*` to make a name from")
    return prefixes[0] + name, name


def check_model(spec: Spec, origin: Mapping[str, str], policy: Spec) -> None:
    """See that the model's class and parameters exist, so that a misspelt one is found now and not by a run.

    The project's own classes are not looked at: its code runs only where experiments are executed.
    """
    from cd4ml.stages.estimators import check_estimator
    from cd4ml.stages.own_code import own_packages

    file = origin.get("model.estimator._target_", "conf/model")
    unseen = frozenset(own_packages(replace(spec, allowed_packages=policy.allowed_packages)))
    problems = check_estimator(spec.model.estimator, policy.allowed_packages, file=file, unseen=unseen)
    if problems:
        raise ConfigError(problems)


def add_note(project: Project, branch: str, text: str) -> tuple[str, str]:
    """Write a conclusion beside the newest experiment record of a branch.

    Gives the new record's id and its branch: that under which a renamed one goes on, whose old name would seem to be
    there again. Raises UsageError for a text that no record takes or a branch that nobody knows.
    """
    if not text.strip():
        raise UsageError("the note is empty")
    if len(text) > _LONGEST_NOTE or _CONTROLS.search(text):
        raise UsageError(f"the note holds control characters, or more than {_LONGEST_NOTE} characters")
    if kind := secret_kind(text):
        raise UsageError(f"the note seems to hold {kind}: what is recorded stays for good")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError("the note is not valid Unicode") from error
    (branch,) = known_branches(project, [branch])
    state = trust.fetch(project)
    history = read_history(project, state, drafts=False)
    if branch not in state.heads and (lives := lifecycles(project, state, history, frozenset({branch})).get(branch)):
        branch = lives.became.renamed or branch
    records = history.of_branch(branch)
    if not records:
        raise RepositoryError(
            f"{branch}: the index has no experiment record of it to note something on: reconcile it first"
        )
    body = {**records[-1].experiment.body, "conclusion": text, "noted_by": project.repository.me()}
    record_id = land_experiment(project, body)
    fold_landed(project, trust.fetch(project))
    return record_id, branch
