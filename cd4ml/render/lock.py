"""``dvc.lock`` written from what was verified, not from what a run claims.

The shape is DVC's lock schema 2.0: https://dvc.org/doc/user-guide/project-structure/dvcyaml-files (dvc.lock).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cd4ml.spec.pipeline import PARAMS_FILE, StageSpec
from cd4ml.spec.sources import dump_yaml


def render_lock(stages: tuple[StageSpec, ...], params: Mapping[str, Any], files: Mapping[str, tuple[str, int]]) -> str:
    """The lock of these stages.

    ``params`` are those of ``params.yaml``; ``files`` gives MD5 and size in bytes of every dependency and output by
    path. Raises KeyError for one that is missing: a lock with a hole would make DVC run the stage again.
    """

    def listed(paths: tuple[str, ...]) -> list[dict[str, Any]]:
        return [{"path": path, "hash": "md5", "md5": files[path][0], "size": files[path][1]} for path in sorted(paths)]

    content: dict[str, Any] = {}
    for stage in stages:
        entry: dict[str, Any] = {"cmd": stage.command, "deps": listed(stage.deps)}
        if stage.params:
            entry["params"] = {PARAMS_FILE: {key: _at(params, key) for key in sorted(stage.params)}}
        entry["outs"] = listed((*stage.outs, *stage.metrics, *(plot.path for plot in stage.plots)))
        content[stage.name] = entry
    return dump_yaml({"schema": "2.0", "stages": content})


def _at(value: Any, key: str) -> Any:
    """The value at a dotted key."""
    for part in key.split("."):
        value = value[part]
    return value
