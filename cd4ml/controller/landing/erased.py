"""What was erased, as tombstones say: it is not stored again unasked."""

from __future__ import annotations

from contextlib import suppress

from cd4ml.controller.desired.data import is_gone
from cd4ml.controller.landing import trust
from cd4ml.controller.landing.landed import read_history
from cd4ml.controller.project import Project
from cd4ml.errors import Cd4mlError
from cd4ml.gateways.dvc import Storage
from cd4ml.index.audit import pins_of
from cd4ml.index.record import RunRecord
from cd4ml.index.removed import erasures
from cd4ml.spec.pipeline import MODEL, pin_path

_LARGEST_PIN = 4 << 20


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
    return erasures(removals)


def made_of_erased(project: Project, storage: Storage, run: RunRecord) -> str:
    """Who erased the raw data of a run, or the very model that it gave, when and why; nothing where that may be stored.

    What is stored yet was not erased, whatever a record says. Its other outputs say nothing: others may share them.
    """
    erased = erased_objects(project)
    paths = [pin_path(source) for source in run.body["data"]] if erased else []
    files = {path: project.repository.read_blob(run.commit, path, _LARGEST_PIN) for path in paths}
    raw = (pin.raw_md5 for pin in pins_of(run, files).values() if pin is not None)
    model = (run.body["files"][MODEL]["md5"],) if MODEL in run.body["files"] else ()
    return next((erased[name] for name in (*raw, *model) if name in erased and is_gone(storage, name)), "")
