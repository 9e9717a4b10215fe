"""Which commit an answer may be recorded for: the one that is asked for, or one that the branch had when it was run.

While a run lasts, branches move on, often without asking for anything else: a word in a README gives the head another
commit, and the base branch's next commit gives every merge result another one. What was computed from the earlier
commit is still the answer, of that commit, if Git shows that it was there.
"""

from __future__ import annotations

from dataclasses import dataclass

from cd4ml.controller.ci.bundle import Bundle
from cd4ml.controller.desired.heads import Head, HeadReader
from cd4ml.controller.desired.specs import Asked, Base, asked_of
from cd4ml.controller.project import Project
from cd4ml.controller.reconciling.observe import Observation
from cd4ml.errors import Cd4mlError
from cd4ml.plan.action import Run


@dataclass(frozen=True)
class Source:
    """A commit that is here, its tree, and what it asks for."""

    commit: str
    tree: str
    asked: Asked


def source_of(project: Project, seen: Observation, bundle: Bundle, action: Run) -> Source | None:
    """The commit that a bundle answers ``action`` for; nothing when Git does not bear it out.

    The fingerprint is worked out anew, under today's policy. Side effects: the objects of a merge result.
    """
    target = action.target
    if target.fingerprint != bundle.fingerprint or target.side != bundle.side:
        return None
    try:
        if bundle.commit == target.commit:
            return Source(target.commit, target.tree, seen.asked[target.commit])
        found = _earlier(project, seen, bundle, action)
        if found is None:
            return None
        asked = asked_of(project, found[1], Base(seen.base_commit, seen.policy))
    except Cd4mlError:
        return None
    return Source(*found, asked) if asked.components.fingerprint == bundle.fingerprint else None


def _earlier(project: Project, seen: Observation, bundle: Bundle, action: Run) -> tuple[str, str] | None:
    """Commit and tree of an earlier head of the branch, or of a merge result of earlier heads."""
    now = next(one.commit for one in seen.desired.experiments if one.branch == action.branch)
    for earlier, later in ((bundle.head, now), (bundle.base, seen.base_commit)):
        if project.repository.resolve(earlier) != earlier or not project.repository.is_ancestor(earlier, later):
            return None
    if bundle.side == "head":
        return (bundle.commit, project.repository.tree_of(bundle.commit)) if bundle.commit == bundle.head else None
    reader = HeadReader(project, Base(bundle.base, seen.policy))
    head = reader.read([bundle.head])[bundle.head]
    if not isinstance(head, Head) or head.merge is None or head.merge.commit != bundle.commit:
        return None
    reader.make_merge(head)
    return head.merge.commit, head.merge.tree
