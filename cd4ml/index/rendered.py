"""Rendered files, read back: YAML that cd4ml wrote once, and that anybody may have edited since."""

from __future__ import annotations

from typing import Any

import yaml

from cd4ml.spec.sources import ConfLoader

LARGEST = 4 << 20
"""Bytes of a file that is looked at."""


class _FastLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # C is not there everywhere
    """``ConfLoader`` with the library's parser in C, ten times as fast, where that is there."""


_FastLoader.yaml_implicit_resolvers = ConfLoader.yaml_implicit_resolvers


def read_rendered(data: bytes | None) -> Any:
    """The value of ``params.yaml`` or ``dvc.lock``; nothing for what is missing, too large, or no YAML.

    What ``dump_yaml`` wrote is read back as the value that it was.
    """
    if data is None or len(data) > LARGEST:
        return None
    try:
        return yaml.load(data.decode("utf-8"), Loader=_FastLoader)  # noqa: S506  # _FastLoader is a SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError):
        return None
