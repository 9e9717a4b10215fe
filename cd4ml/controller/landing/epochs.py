"""Epochs of the index: begin one, and tell a sanctioned one from a forged one.

Only who is named by ``index.erasers`` of the base branch's conf may begin an epoch: its commit carries an SSH
signature by one of those keys. Everything else about it is checked against what this clone has seen before.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime

from cd4ml.controller.desired.specs import spec_of
from cd4ml.controller.landing import trust
from cd4ml.controller.landing.fold import derived_files
from cd4ml.controller.project import Project
from cd4ml.errors import Cd4mlError, IntegrityError, RepositoryError, UsageError
from cd4ml.gateways.git import INDEX, INDEX_BRANCH, RefUpdate, RemoteState
from cd4ml.gateways.process import crash_point
from cd4ml.index.epoch import (
    LAST_EPOCH,
    Epoch,
    entry_files,
    epoch_message,
    kept_commits,
    parse_message,
    problems,
    readable,
    without,
)
from cd4ml.index.instant import utc_text
from cd4ml.promotion.summary import summary_of


def accepts(project: Project, base_commit: str, old_tip: str, begun: str) -> bool:
    """Is ``begun`` the index that was at ``old_tip``, erased from by somebody whom that base commit names?

    Both are commits of this clone. Changes nothing.
    """
    return not refusal(project, base_commit, old_tip, begun)


def refusal(project: Project, base_commit: str, old_tip: str, begun: str) -> str:
    """Why ``begun`` begins no sanctioned epoch after ``old_tip``, in a line; ``""`` when it does."""
    try:
        return _refusal(project, base_commit, old_tip, begun)
    except Cd4mlError as error:  # what cannot be read cannot be believed
        return " ".join(str(error).split())


def _refusal(project: Project, base_commit: str, old_tip: str, begun: str) -> str:
    repository = project.repository
    epoch = parse_message(repository.message_of(begun)) if trust.first_of(project, begun) == begun else None
    if epoch is None:
        return "does not follow the index that was seen before, and begins no epoch"
    if epoch.number <= epoch_number(project, old_tip):
        return f"epoch {epoch.number} is not later than what was seen before"
    if not repository.signed_by_one_of(begun, _keys(project, base_commit)):
        return f"epoch {epoch.number} is not signed by anybody whom index.erasers of {project.base} names"
    old, first = repository.read_tree(old_tip), repository.read_tree(begun)
    found = problems(old, first, exact=epoch.replaces == old_tip)
    if found:
        return f"epoch {epoch.number}: {found[0]}" + (f" (and {len(found) - 1} more)" if len(found) > 1 else "")
    if repository.commit_info(begun).parents != kept_commits(readable(entry_files(first))):
        return f"epoch {epoch.number}: its parents are not the landed commits of its entries"
    return ""


def _keys(project: Project, base_commit: str) -> list[str]:
    return [eraser.key for eraser in spec_of(project, base_commit)[0].index.erasers]


def epoch_number(project: Project, tip: str) -> int:
    """Of which epoch an index is: 1 where none was begun. The commit that its chain begins with alone can say so."""
    begun = trust.first_of(project, tip)
    epoch = parse_message(project.repository.message_of(begun)) if begun else None
    return epoch.number if epoch else 1


def check_may_erase(project: Project, base_commit: str) -> None:
    """Raise UsageError, before anything is done, where an epoch by this user would be accepted nowhere."""
    if not _keys(project, base_commit):
        raise UsageError(
            f"conf/: index.erasers: {project.base} names nobody who may erase from the history of the index "
            "(add a name and a public SSH key there, and merge it)"
        )
    if not project.repository.config("user.signingkey"):
        raise RepositoryError("there is no key to sign with: set `git config user.signingkey` to your SSH key")
    index = trust.last_seen(project).index
    if index is not None and epoch_number(project, index) >= LAST_EPOCH:
        raise UsageError(f"the index {INDEX_BRANCH} is of epoch {LAST_EPOCH}, which is the last that there can be")


def check_key(project: Project, base_commit: str) -> None:
    """Raise RepositoryError for a key that cannot sign, UsageError for one that ``index.erasers`` does not name."""
    repository = project.repository
    now = utc_text(datetime.now(UTC).replace(microsecond=0))
    tree = repository.tree_of(base_commit)
    trial = repository.signed_commit(tree, (), "cd4ml: may this key erase?\n", repository.me(), now)
    if not repository.signed_by_one_of(trial, _keys(project, base_commit)):
        raise UsageError(
            f"the key of `git config user.signingkey` is none of those that index.erasers of {project.base} names"
        )


def begin_epoch(project: Project, state: RemoteState, runs: Collection[str]) -> str:
    """Replace the index by one without the records of these runs; gives the new tip.

    Side effect: moves the index branch of the remote, with a lease on the tip in ``state``. Raises UsageError where
    nobody would accept it, IntegrityError for an index that is damaged, RemoteError when the push is refused.
    """
    repository, old_tip = project.repository, state.index
    if old_tip is None:
        raise UsageError(f"{project.remote}: has no index to erase from")
    files = entry_files(repository.read_tree(old_tip))
    kept = without(files, runs)
    entries = readable(kept)
    epoch = Epoch(epoch_number(project, old_tip) + 1, old_tip)
    derived = derived_files(summary_of(entries, epoch.number))
    tree = repository.write_tree(None, {**kept, **derived})
    message = epoch_message(epoch, len(files) - len(kept))
    now = utc_text(datetime.now(UTC).replace(microsecond=0))
    tip = repository.signed_commit(tree, kept_commits(entries), message, repository.me(), now)
    why = refusal(project, state.heads[project.base], old_tip, tip)
    if why:
        raise UsageError(f"the new epoch would not be accepted: {why}")
    gone = {entry.result_commit for entry in readable(files)} - set(kept_commits(entries))
    dropped = [RefUpdate(ref, commit, "") for ref, commit in state.landing.items() if commit in gone]
    crash_point("epoch.committed")
    repository.push(project.remote, [RefUpdate(INDEX, old_tip, tip), *dropped])
    crash_point("epoch.pushed")
    return tip


def erased_commits(project: Project, tip: str, runs: Collection[str]) -> tuple[str, ...]:
    """The landed commits of these runs, as an index says. Raises IntegrityError."""
    files = entry_files(project.repository.read_tree(tip))
    gone = {path: data for path, data in files.items() if path not in without(files, runs)}
    if not gone:
        raise IntegrityError("the index holds none of these runs any more")
    return kept_commits(readable(gone))
