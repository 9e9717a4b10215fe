"""What stands for the branch in the record of a run of a work tree: a name that Git allows for none."""

from __future__ import annotations

_LABEL = " (work tree)"


def work_tree_label(branch: str | None) -> str:
    """What stands for the branch in the record of a run of the work tree."""
    return (branch or "detached HEAD") + _LABEL


def is_of_work_tree(branch: str) -> bool:
    """Was a run of this branch one of the work tree?"""
    return branch.endswith(_LABEL)


def without_label(branch: str) -> str:
    """The branch whose work tree was run."""
    return branch.removesuffix(_LABEL)
