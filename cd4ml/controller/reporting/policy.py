"""What merging a branch would change of what only the base branch decides: its policy, and the files that act for it.

None of it moves a fingerprint, so no run tells of it, and no gate looks at it.
"""

from __future__ import annotations

from dataclasses import dataclass

from cd4ml.controller.desired.specs import compose_tree
from cd4ml.controller.project import Project
from cd4ml.errors import ConfigError, IntegrityError, RepositoryError, ToolError
from cd4ml.plan.state import Experiment
from cd4ml.promotion.configuration import ConfigChange, policy_changes
from cd4ml.render.workflows import GITLAB_FILE

_FOLDERS = ("templates/", ".github/workflows/", ".gitlab/")
_FILES = frozenset({GITLAB_FILE, ".dvc/config", "CODEOWNERS", ".github/CODEOWNERS"})


@dataclass(frozen=True)
class PolicyMoved:
    """Resolved keys of which only the base branch's value counts, and files by path, that merging would change."""

    keys: tuple[ConfigChange, ...] = ()
    files: tuple[str, ...] = ()


def policy_moved(project: Project, base: Experiment, asked: Experiment, merge_base: str = "") -> PolicyMoved:
    """What of the base branch's policy a branch would change: the merge result against the base branch.

    Where the two conflict the head is held against ``merge_base``, a commit (``""``: nothing is told). Lock files count
    as far as the fingerprint does not see them, as with cd4ml's own version. A configuration that cannot be composed
    tells nothing: it is refused elsewhere.
    """
    if asked.is_base:
        return PolicyMoved()
    new = asked.merge or asked.head
    before = base.commit if asked.merge is not None else merge_base
    if not before:
        return PolicyMoved()
    try:
        changed = project.repository.changed_paths(before, new.tree)
        (old, _), (then, _) = compose_tree(project, before), compose_tree(project, new.tree)
    except (ConfigError, RepositoryError, IntegrityError, ToolError):
        return PolicyMoved()
    env = [one.components.env if one.components else "" for one in (base.head, new)]
    lock = str(old.get("environment", {}).get("lock") or "") if env[0] == env[1] else ""
    files = tuple(path for path in changed if path.startswith(_FOLDERS) or path in _FILES or path == lock)
    return PolicyMoved(tuple(policy_changes(old, then)), files)
