"""What was erased, as tombstones say: it is not stored again unasked."""

from __future__ import annotations

from contextlib import suppress

from cd4ml.controller.landing import trust
from cd4ml.controller.landing.landed import read_history
from cd4ml.controller.project import Project
from cd4ml.errors import Cd4mlError
from cd4ml.index.removed import ERASED, words


def erased_objects(project: Project, *, fetch: bool = False) -> dict[str, str]:
    """The objects of erased runs, their raw data among them, by name, each with who erased it, when and why.

    As the last fetch saw it, or a fetch of now if there can be one; nothing where the index cannot be read.
    """
    if fetch:
        with suppress(Cd4mlError):
            trust.fetch(project)
    try:
        removals = read_history(project, project.repository.last_seen(), drafts=False).removals
    except Cd4mlError:
        return {}
    told = (one.removal.body for one in removals if one.removal.what == ERASED)
    return {str(held["md5"]): words(body) for body in told for held in body["objects"]}
