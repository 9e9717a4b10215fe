"""What stands in the way of working well: of this machine, this clone, the remote, the storage and the index.

A check is a small function that looks at one thing and says what it found, each finding in a line and with its cure.
Checks do not depend on each other, and run at the same time; one that breaks is a finding itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cd4ml.controller.care.doctor import clone, index, machine, remote, storage
from cd4ml.controller.care.doctor.finding import Finding, Level, Subject
from cd4ml.controller.landing import trust
from cd4ml.controller.project import Project, open_project
from cd4ml.errors import Cd4mlError
from cd4ml.gateways.files import told

__all__ = ["Finding", "Level", "examine"]

Check = Callable[[Subject], Iterable[Finding]]

ANYWHERE: tuple[Callable[[], Iterable[Finding]], ...] = (machine.python, machine.packages, machine.threads)
"""What can be said without a project."""

CHECKS: tuple[Check, ...] = (
    machine.git,
    machine.disk,
    clone.private_folder,
    clone.history,
    clone.identity,
    clone.mirror,
    clone.refspecs,
    clone.hooks,
    remote.answers,
    remote.refs,
    remote.index_branch,
    remote.protections,
    remote.leftovers,
    remote.permissions,
    storage.remote_objects,
    storage.cache,
    index.trusted,
    index.unfolded,
    index.claims,
    index.clock,
    index.rendered,
    index.environment,
)
_AT_ONCE = 4


def examine(directory: Path, named_remote: str = "") -> tuple[Finding, ...]:
    """Everything found, in the order of the checks. Raises nothing for what is wrong: that is a finding.

    Side effects: those of a fetch; refs under ``refs/cd4ml/probe/`` on the remote and an object on the DVC remote, for
    as long as it takes to see that they can be made.
    """
    found = [finding for check in ANYWHERE for finding in _guarded(check.__name__, check)]
    try:
        project = open_project(directory, named_remote)
    except Cd4mlError as error:
        return (*found, Finding(Level.PROBLEM, "repository", str(error), "git init, or cd4ml -C DIR doctor"))
    subject = _subject(project)
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        told = pool.map(lambda check: _guarded(check.__name__, lambda: check(subject)), CHECKS)
        return (*found, *(finding for findings in told for finding in findings))


def _subject(project: Project) -> Subject:
    try:
        return Subject(project, trust.look(project))
    except Cd4mlError as error:
        return Subject(project, None, str(error))


def _guarded(name: str, check: Callable[[], Iterable[Finding]]) -> list[Finding]:
    try:
        return list(check())
    except Cd4mlError as error:
        why, cure = str(error), "mend what is named, then: cd4ml doctor"
    except OSError as error:
        why, cure = told(error), "mend what is named, then: cd4ml doctor"
    except Exception as error:  # noqa: BLE001  # a check that breaks must not hide what the others found
        why, cure = f"{type(error).__name__}: {error}", "report it: this is a defect of cd4ml, not of your project"
    return [Finding(Level.WARNING, name, f"could not be looked at: {why}", cure)]
