"""Removal records into the index: what was let go of a run, what was erased, and what is stored again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from cd4ml.controller.landing import trust
from cd4ml.controller.landing.fold import fold_landed
from cd4ml.controller.landing.land import land_removal
from cd4ml.controller.landing.landed import read_history
from cd4ml.controller.project import Project
from cd4ml.errors import RemoteError
from cd4ml.gateways.git import LANDING
from cd4ml.index.instant import utc_text

_LONGEST = 500


def removal(
    project: Project,
    base_commit: str,
    run: str,
    what: str,
    objects: Mapping[str, int],
    reason: str,
    *,
    rule: str = "",
    sha256: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The body of a removal record of now, on a commit of the base branch."""
    digests = sha256 or {}
    return {
        "kind": "removal",
        "run": run,
        "commit": base_commit,
        "what": what,
        "reason": reason[:_LONGEST],
        "rule": rule,
        "by": project.repository.me()[:_LONGEST],
        "at": utc_text(datetime.now(UTC).replace(microsecond=0)),
        "objects": [
            {"md5": name, "bytes": size, **({"sha256": digests[name]} if name in digests else {})}
            for name, size in sorted(objects.items())
        ],
    }


def record_removals(project: Project, bodies: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Land these removal records, fold them, and see them in the index; gives their ids by run. Raises RemoteError.

    Those are folded, too, that somebody who was cut off has landed: what they let go may be about to be deleted.
    """
    landed = {str(body["run"]): land_removal(project, body) for body in bodies}
    before = trust.fetch(project)
    refused = fold_landed(project, before)
    state = trust.fetch(project)
    known = {one.removal.id for one in read_history(project, state, drafts=False).removals}
    unfolded = {name for name in known if LANDING + name in before.landing and LANDING + name in state.landing}
    missing = sorted((set(landed.values()) - known) | unfolded)
    if missing:
        why = f": {'; '.join(refused)}" if refused else ""
        told = f"the index of {project.remote} does not hold {missing[0]} yet"
        raise RemoteError(f"{told}, so nothing follows from it{why}")
    return landed
