"""Cut GitHub's description of its API down to the operations that cd4ml uses.

::

    npm pack @octokit/openapi && tar xzf octokit-openapi-*.tgz
    python tests/forge/trim.py package/generated/api.github.com.json package/package.json github.openapi.json

What stays is as GitHub wrote it: the operations below and whatever they refer to. Examples go, but for those that the
fake forge starts from, and so do the prose of operations and GitHub's own extensions.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

_REPOSITORY = "/repos/{owner}/{repo}"
OPERATIONS = {
    "/user": ("get",),
    f"{_REPOSITORY}/pulls": ("get",),
    f"{_REPOSITORY}/pulls/{{pull_number}}": ("get",),
    f"{_REPOSITORY}/issues/{{issue_number}}/comments": ("get", "post"),
    f"{_REPOSITORY}/issues/comments/{{comment_id}}": ("patch",),
    f"{_REPOSITORY}/issues/{{issue_number}}/labels": ("post",),
    f"{_REPOSITORY}/issues/{{issue_number}}/labels/{{name}}": ("delete",),
    f"{_REPOSITORY}/commits/{{ref}}/check-runs": ("get",),
    f"{_REPOSITORY}/commits/{{ref}}/status": ("get",),
    f"{_REPOSITORY}/check-runs": ("post",),
    f"{_REPOSITORY}/check-runs/{{check_run_id}}": ("patch",),
    f"{_REPOSITORY}/statuses/{{sha}}": ("post",),
}
EXAMPLES = (
    "pull-request-simple-items",
    "pull-request",
    "issue-comment",
    "check-run-example-of-completed-conclusion",
    "status",
    "label-items",
    "private-user-response-with-public-and-private-profile-information",
    "combined-commit-status",
)
_DROPPED = {"x-github", "externalDocs", "x-octokit", "x-multi-segment", "example", "examples"}
_PART = "#/components/"


def trimmed(description: dict[str, Any], version: str) -> dict[str, Any]:
    """The description with nothing but these operations."""
    paths = {
        path: {verb: _without_prose(description["paths"][path][verb]) for verb in verbs}
        for path, verbs in OPERATIONS.items()
    }
    components: dict[str, dict[str, Any]] = {
        "examples": {name: description["components"]["examples"][name] for name in EXAMPLES}
    }
    wanted = references(paths)
    while wanted:
        kind, name = wanted.pop().removeprefix(_PART).split("/")
        kept = components.setdefault(kind, {})
        if name not in kept:
            kept[name] = _plain(description["components"][kind][name])
            wanted |= references(kept[name])
    return {
        "openapi": description["openapi"],
        "info": {**description["info"], "x-trimmed-from": f"@octokit/openapi {version}, api.github.com.json"},
        "paths": paths,
        "components": {kind: dict(sorted(parts.items())) for kind, parts in sorted(components.items())},
    }


def _without_prose(operation: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in operation.items() if name not in ("description", "tags")}
    plain: dict[str, Any] = _plain(kept)
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: _plain(inner)
            for name, inner in value.items()
            if name not in _DROPPED or (name in ("example", "examples") and _is_a_property(inner))
        }
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


def _is_a_property(value: Any) -> bool:
    """A schema of a property that happens to be called so."""
    return isinstance(value, dict) and isinstance(value.get("type"), str) and "description" in value


def references(value: Any) -> set[str]:
    """Every part of the description that something in ``value`` refers to."""
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*(references(inner) for inner in value.values()))
    return set().union(*(references(inner) for inner in value)) if isinstance(value, list) else set()


def main(source: str, package: str, target: str) -> None:
    """Write the trimmed description, one line a component, so that a change of it can be read."""
    version = json.loads(Path(package).read_text("utf-8"))["version"]
    whole = trimmed(json.loads(Path(source).read_text("utf-8")), version)
    Path(target).write_text(json.dumps(whole, indent=0, ensure_ascii=False, sort_keys=False) + "\n", "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
