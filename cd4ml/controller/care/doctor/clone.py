"""This clone: its settings, its history, and cd4ml's own folder in it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from cd4ml.controller.care.doctor.finding import Finding, Level, Subject
from cd4ml.gateways.files import check_writable, told


def private_folder(subject: Subject) -> Iterator[Finding]:
    """cd4ml's own folder in the Git directory."""
    folder = subject.project.private
    try:
        if folder.exists():
            next(iter(folder.iterdir()), None)
        folder.mkdir(parents=True, exist_ok=True)
        check_writable(folder)
    except OSError as error:
        message = f"{told(error)}: cd4ml's own folder cannot be used"
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        yield Finding(Level.PROBLEM, "private folder", message, f"{'df -h' if full else 'ls -ld'} '{folder}'")
    else:
        yield Finding(Level.OK, "private folder", f"{folder} can be written")


def history(subject: Subject) -> Iterator[Finding]:
    """Is all history here?"""
    repository = subject.project.repository
    if repository.is_shallow:
        message = "this clone is shallow: it cannot restore the index, nor tell what was merged"
        yield Finding(Level.WARNING, "history", message, f"git fetch --unshallow {subject.project.remote}")
    if repository.is_partial:
        message = "this clone is partial: what it lacks is fetched when asked for, and is not here to restore from"
        yield Finding(Level.NOTE, "history", message, "git clone URL  # without --filter")


def identity(subject: Subject) -> Iterator[Finding]:
    """Who records say they are by."""
    repository = subject.project.repository
    if not (repository.config("user.name") and repository.config("user.email")):
        message = f"Git knows no name and address of yours: records are by {repository.me()}"
        cure = "git config --global user.name NAME && git config --global user.email ADDRESS"
        yield Finding(Level.NOTE, "identity", message, cure)


def mirror(subject: Subject) -> Iterator[Finding]:
    """A plain ``git push`` to a mirrored remote deletes there whatever is not here."""
    for key, value in subject.project.repository.settings(r"^remote\..*\.mirror$"):
        if value.lower() in ("true", "yes", "on", "1", ""):
            message = f"{key} is set: a plain `git push` deletes the index and landed records of that remote"
            yield Finding(Level.PROBLEM, "mirror", message, f"git config --unset {key}")


def refspecs(subject: Subject) -> Iterator[Finding]:
    """Settings of the user's by which plain Git moves or prunes refs of ours."""
    repository = subject.project.repository
    for key, value in repository.settings(r"^remote\..*\.(fetch|push)$"):
        _, _, there = value.lstrip("+").partition(":")
        if there == "refs/*" or there.startswith("refs/cd4ml/"):
            name = key.rsplit(".", 1)[0].removeprefix("remote.")
            what = "fetch" if key.endswith(".fetch") else "push"
            message = f"{key} = {value}: a plain `git {what}` moves or prunes refs under refs/cd4ml/"
            level = Level.WARNING if what == "fetch" else Level.PROBLEM
            yield Finding(level, "refspecs", message, f'git config --edit  # of [remote "{name}"]')


def hooks(subject: Subject) -> Iterator[Finding]:
    """Hooks that cd4ml's own commits and pushes do not run."""
    repository = subject.project.repository
    folder = repository.common_dir / "hooks"
    named = [value for _, value in repository.settings(r"^core\.hookspath$")][:-1]  # the last is cd4ml's own
    if named:
        folder = repository.root / Path(named[-1]).expanduser()
    if not folder.is_dir():
        return
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.suffix != ".sample")
    found = [path.name for path in files if os.access(path, os.X_OK)]
    if found:
        yield Finding(Level.NOTE, "hooks", f"{', '.join(found)}: cd4ml runs Git without hooks, so these do not see it")
