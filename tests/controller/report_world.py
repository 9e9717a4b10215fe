"""A project with branches of every kind that a report can be asked on, and what it takes to make one up."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cd4ml.controller.project import open_project
from cd4ml.controller.reconciling.observe import observe, observed_branch
from cd4ml.spec.pipeline import PREDICTIONS
from tests.conftest import Shell
from tests.controller.compare_world import land, let_go, result_of_main
from tests.controller.controller_world import (
    BASELINE,
    OTHER_SEED,
    Done,
    branch,
    cd4ml,
    commit,
    git,
    push,
    rejected,
    remote,
)

ALPHA = "# @package _global_\nname: {name}\nhypothesis: Less is more.\nmodel: {{parameters: {{alpha: {alpha}}}}}\n"
QUOTED = "exp/$(touch${IFS}x)`;'&|"
HOSTILE = "</details><!-- cd4ml --> @all ![x](http://evil.example/x.png) `${{ github.token }}` ‮"


def asks_alpha(alpha: float, name: str = "alpha") -> dict[str, str | bytes | None]:
    """The files of a branch that asks for another strength of regularisation."""
    return {BASELINE: ALPHA.format(alpha=alpha, name=name)}


def with_alpha(body: Mapping[str, Any], alpha: float) -> dict[str, Any]:
    """The configuration of a record with another strength of regularisation, in both places that say it."""
    params: dict[str, Any] = json.loads(json.dumps(body["params"]))
    params["model"]["parameters"]["alpha"] = alpha
    params["model"]["estimator"]["steps"][-1][1]["alpha"] = alpha
    return params


def made_up(shell: Shell, to: str, seed: int, body: Mapping[str, Any], **changed: Any) -> dict[str, Any]:
    """A branch that asks for a seed, and a run that answers it: ``body``, changed; gives its record.

    ``params`` among the changes are put over those of ``body``, whatever the branch says.
    """
    at = branch(shell, to, {BASELINE: OTHER_SEED.format(seed=seed)})
    params = {**body["params"], "seed": seed, **changed.pop("params", {})}
    return land(shell, {**body, "commit": at}, branch=to, params=params, components=components_of(shell, to), **changed)


def components_of(shell: Shell, name: str) -> dict[str, str]:
    """The component digests of what the head of a branch asks for."""
    project = open_project(shell.folder)
    found = observed_branch(project, observe(project), name).head.components
    assert found is not None
    return found.as_mapping()


def reported(done: Done) -> dict[str, Any]:
    """The one report that ``--json`` printed."""
    (one,) = done.json["reports"]
    return dict(one)


def report(shell: Shell, *arguments: str, code: int = 0) -> dict[str, Any]:
    """``cd4ml report``, as JSON."""
    return reported(cd4ml(shell, "report", *arguments, "--json", code=code))


def result_commit(shell: Shell, run: str) -> str:
    """The commit that holds a run's record, as the index names it."""
    for path in git(remote(shell), "ls-tree", "-r", "--name-only", "cd4ml/index").splitlines():
        if run in path:
            return str(json.loads(git(remote(shell), "show", f"cd4ml/index:{path}"))["result_commit"])
    raise AssertionError(f"{run} is not in the index")


def tagged(shell: Shell, name: str, target: str, *, annotated: bool = True) -> None:
    """A tag on the remote alone."""
    bare = remote(shell)
    git(bare, "tag", *(["--annotate", "--message", "anything at all"] if annotated else []), "--force", name, target)


def untagged(shell: Shell, *names: str) -> None:
    git(remote(shell), "tag", "--delete", *names)


def populate(shell: Shell) -> dict[str, Any]:
    """Fill a copy of the template project; gives the record of the base branch's result.

    ``exp/alpha`` was run; ``exp/again`` asks for the same and ``exp/told`` once did; ``exp/conflict`` conflicts with
    what the base branch says by now; ``exp/rejected`` failed; ``exp/refused`` cannot be read; ``exp/pending`` was never
    run; ``exp/near`` was answered by a made-up run.
    """
    body = result_of_main(shell)
    branch(shell, "exp/conflict", {BASELINE: "# @package _global_\nname: ours\nhypothesis: Ours.\n"})
    push(
        shell,
        "refs/heads/main",
        commit(shell, "main", {BASELINE: "# @package _global_\nname: theirs\nhypothesis: Theirs.\n"}),
    )
    shell.run("git", "pull", "--quiet")
    branch(shell, "exp/alpha", asks_alpha(100.0))
    branch(shell, "exp/told", asks_alpha(100.0, "told"))
    rejected(shell, "exp/rejected")
    branch(shell, "exp/refused", {BASELINE: "# @package _global_\nvalidation: {expectations: []}\n"})
    cd4ml(shell, "reconcile", code=None)
    shell.run("git", "push", "--quiet", "origin", "--delete", "exp/told")
    branch(shell, "exp/again", asks_alpha(100.0, "again"))
    cd4ml(shell, "reconcile", "exp/again")
    branch(shell, "exp/pending", asks_alpha(7.0, "pending"))
    at = branch(shell, "exp/near", asks_alpha(1000.0, "near"))
    near = {"params": with_alpha(body, 1000.0), "components": components_of(shell, "exp/near")}
    land(shell, {**body, "commit": at}, branch="exp/near", **near)
    return body


def make_up(shell: Shell) -> dict[str, dict[str, Any]]:
    """Fill a copy of the template project with odd runs that answer branches; gives their records by branch."""
    body = result_of_main(shell)
    nowhere = {**body["files"], PREDICTIONS: {"sha256": "b" * 64, "md5": "b" * 32, "bytes": 5}}
    keys = {f"k{number}": number for number in range(10_000)}
    target = {"data": {**body["params"]["data"], "target": "dep_delay"}}
    own = {side: {**values, "own": 1e-12} for side, values in body["metrics"].items()}
    changes: dict[str, dict[str, Any]] = {
        "exp/odd": {"metrics": own},
        "exp/lost": {"files": nowhere},
        "exp/freed": {"files": nowhere},
        "exp/target": {"params": target},
        "exp/many": {"params": {"model": {"name": HOSTILE, "parameters": keys}}},
        "exp/cost": {"cost": {"seconds": {"train": 1.0, "peak_bytes": 3.0}}},
    }
    made = {to: made_up(shell, to, 100 + seed, body, **changed) for seed, (to, changed) in enumerate(changes.items())}
    let_go(shell, made["exp/freed"], "older than a year")
    branch(shell, QUOTED, asks_alpha(2.0))
    return made
