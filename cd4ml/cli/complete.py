"""What the shell offers for an argument: names of branches, from refs that are here. It must cost next to nothing."""

from __future__ import annotations

from pathlib import Path

from cd4ml.errors import Cd4mlError

_HEADS = ("refs/heads/", "refs/cd4ml/remote/heads/")


def complete_branch(incomplete: str) -> list[str]:
    """Local branches, and those that the last fetch saw on the remote, that begin so; nothing after any error.

    Completion has no way to say what is wrong, so it says nothing.
    """
    from cd4ml.gateways.git import INDEX_BRANCH, open_repository

    try:
        repository = open_repository(Path.cwd())
        listed = repository.git("for-each-ref", "--format=%(refname)", *_HEADS).text
    except (Cd4mlError, OSError):
        return []
    names = {line.removeprefix(prefix) for line in listed.splitlines() for prefix in _HEADS if line.startswith(prefix)}
    return sorted(name for name in names - {INDEX_BRANCH} if name.startswith(incomplete))
