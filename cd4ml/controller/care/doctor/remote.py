"""The Git remote: what it allows, found out by trying on refs that nobody else looks at, and what lies about there."""

from __future__ import annotations

import os
import shlex
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from cd4ml.controller.care.doctor.finding import Finding, Level, Subject
from cd4ml.errors import RemoteError, ToolError
from cd4ml.gateways.git import INDEX, INDEX_BRANCH, PROBE, RefUpdate

_STALE_SECONDS = 600.0
_LOCKS = ("*.lock", "refs/**/*.lock", "objects/info/*.lock", "objects/pack/*.lock")
_TRUE = ("true", "yes", "on", "1")
_INCOMING = "objects/tmp_objdir-incoming-*"


def answers(subject: Subject) -> Iterator[Finding]:
    """Can it be reached, and in the protocol that does not list every ref each time?"""
    name = subject.remote_name
    if subject.look is None:
        yield Finding(Level.PROBLEM, "remote", subject.unreachable, f"git ls-remote {subject.project.remote}")
        return
    if subject.base_commit is None:
        yield _without_base(subject)
    try:
        version = subject.project.repository.protocol(subject.project.remote)
    except ToolError as error:
        cure = f"git -c protocol.version=2 ls-remote {shlex.quote(subject.project.remote)}"
        yield Finding(Level.WARNING, "remote", f"{name}: {error}", cure)
        return
    if version == 2:
        yield Finding(Level.OK, "remote", f"{name} answers, in version 2 of the protocol")
    else:
        message = f"{name} does not speak version 2 of Git's protocol: every fetch reads all of its refs"
        yield Finding(Level.NOTE, "remote", message, "git config protocol.version 2  # or a newer Git on the host")


def _without_base(subject: Subject) -> Finding:
    project, base = subject.project, shlex.quote(subject.project.base)
    cure = f"git push {shlex.quote(project.remote)} {base}" if project.has_remote else "git add --all && git commit"
    message = f"{subject.remote_name} has no branch {project.base} to start from"
    return Finding(Level.PROBLEM, "remote", message, f"{cure}  # or, for another branch: git config cd4ml.base NAME")


def refs(subject: Subject) -> Iterator[Finding]:
    """May refs of our own be made, moved and deleted there, together, and only from where they were seen?"""
    if subject.base_commit is None:
        return
    project, commit = subject.project, subject.base_commit
    one, two = (f"{PROBE}{uuid.uuid4().hex}/{name}" for name in ("one", "two"))
    try:
        yield from _tried(subject, one, two, commit)
    finally:
        for ref in (one, two):
            try:
                if found := project.repository.remote_ref(project.remote, ref):
                    project.repository.push_alone(project.remote, RefUpdate(ref, found, ""))
            except RemoteError:
                message = f"{subject.remote_name}: {ref} was made and cannot be deleted: what lands is never folded"
                yield Finding(Level.PROBLEM, "refs", message, "allow the deletion of refs/cd4ml/* there")


def _tried(subject: Subject, one: str, two: str, commit: str) -> Iterator[Finding]:
    project, name = subject.project, subject.remote_name
    push, read = project.repository.push, project.repository.remote_ref
    try:
        project.repository.push_alone(project.remote, RefUpdate(one, "", commit))
    except RemoteError as error:
        message = f"{name} refuses refs outside of branches, so that no record can land: {error}"
        cure = "allow pushes to refs/cd4ml/* (hosts that cannot would need the records on a branch)"
        yield Finding(Level.PROBLEM, "refs", message, cure)
        return
    try:
        push(project.remote, [RefUpdate(one, commit, ""), RefUpdate(two, "", commit)])
    except RemoteError as error:
        message = f"{name} does not move several refs together: {error}"
        yield Finding(Level.PROBLEM, "refs", message, "git config receive.advertiseAtomic true  # on the remote")
        return
    other = project.repository.write_blob(b"probe\n")
    for update in (RefUpdate(two, other, ""), RefUpdate(two, "", other)):
        try:
            push(project.remote, [update])
        except RemoteError:
            continue
        if read(project.remote, two) != commit:
            message = f"{name} moved a ref from another value than was asked for: writers would overwrite each other"
            yield Finding(Level.PROBLEM, "refs", message, "use another remote, or another version of Git on it")
            return
    yield Finding(Level.OK, "refs", f"{name} takes refs of our own, moves them together, and honours leases")


def index_branch(subject: Subject) -> Iterator[Finding]:
    """May this user move the index? As far as a dry run tells: a rule of the host's is seen only when it refuses."""
    if subject.look is None or subject.base_commit is None or not subject.project.has_remote:
        return
    tip = subject.look.state.index
    update = RefUpdate(INDEX, tip or "", tip or subject.base_commit)
    why = subject.project.repository.would_push(subject.project.remote, [update])
    if why:
        message = f"{INDEX_BRANCH} cannot be pushed by you, so others have to fold what you land: {why}"
        yield Finding(Level.WARNING, "index branch", message, f"ask for the right to push {INDEX_BRANCH}")
    else:
        yield Finding(Level.OK, "index branch", f"{INDEX_BRANCH} can be pushed, as far as a dry run tells")


def protections(subject: Subject) -> Iterator[Finding]:
    """What the remote does against an index that is deleted or moved back."""
    repository, name = subject.project.repository, subject.remote_name
    if not subject.project.has_remote:
        return
    place = repository.remote_path(subject.project.remote)
    if place is None:
        message = f"{name} has to say by itself whether {INDEX_BRANCH} may be deleted or forced"
        yield Finding(Level.NOTE, "protections", message, f"protect {INDEX_BRANCH}: no deletion, no force push")
        return
    settings = ("receive.denyDeletes", "receive.denyNonFastForwards")
    denied = all(repository.settings_of(place, key).lower() in _TRUE for key in settings)
    if not denied and not any(os.access(place / "hooks" / hook, os.X_OK) for hook in ("update", "pre-receive")):
        message = f"{name}: {INDEX_BRANCH} can be deleted and moved back there, as any branch can"
        yield Finding(Level.NOTE, "protections", message, "protect it: docs/care.md has a hook for it")


def leftovers(subject: Subject) -> Iterator[Finding]:
    """What killed pushes left in a remote on this machine: a lock refuses every later push."""
    place = subject.project.repository.remote_path(subject.project.remote)
    if place is None:
        return
    for path in sorted({path for pattern in _LOCKS for path in place.glob(pattern)}):
        if _age(path) > _STALE_SECONDS:
            message = f"{path}: a lock that nobody seems to hold refuses pushes"
            yield Finding(Level.PROBLEM, "leftovers", message, f"rm {shlex.quote(str(path))}")
    incoming = [path for path in place.glob(_INCOMING) if _age(path) > _STALE_SECONDS]
    if incoming:
        message = f"{subject.remote_name}: {len(incoming)} folders that killed pushes left take up room"
        yield Finding(Level.NOTE, "leftovers", message, f"git --git-dir={shlex.quote(str(place))} gc")


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


def permissions(subject: Subject) -> Iterator[Finding]:
    """Can everybody who pushes to a shared folder write where the others have written?"""
    place = subject.project.repository.remote_path(subject.project.remote)
    if place is None:
        return
    folders = [place, place / "refs", place / "objects", *(place / "objects").glob("[0-9a-f][0-9a-f]")]
    closed = [folder for folder in folders if folder.is_dir() and not os.access(folder, os.W_OK)]
    if closed:
        quoted = shlex.quote(str(place))
        message = f"{closed[0]}: cannot be written by you" + (f" (and {len(closed) - 1} more)" if closed[1:] else "")
        cure = f"git --git-dir={quoted} config core.sharedRepository group && chmod -R g+rwX {quoted}  # as their owner"
        yield Finding(Level.PROBLEM, "permissions", message, cure)
