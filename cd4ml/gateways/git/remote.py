"""The one remote: what it holds, and moving its refs."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from cd4ml.errors import RemoteError, ToolError
from cd4ml.gateways.git.history import Commits
from cd4ml.gateways.git.values import (
    CLAIMS,
    DRAFT,
    HEADS,
    HERE,
    LANDING,
    OBJECTS_ALONE,
    SEEN,
    TAGS,
    Draft,
    RefUpdate,
    RemoteState,
    Tag,
)

_LEAF = "/-"
_FINGERPRINT = re.compile(r"^Fingerprint: ([0-9a-f]{64})$", re.MULTILINE)
"""The trailer of a run's landed commit."""

_NOTES = "fetching-"
"""How the name of a file begins, in cd4ml's private folder, that holds the heads that a fetch may drop."""


def _vanished_ref(branch: str, commit: str) -> str:
    """A name for a head that is gone: two of one branch, or one below another's name, can both be kept."""
    return f"{SEEN}vanished/{commit}/{branch}{_LEAF}"


def _is_at_work(note: Path) -> bool:
    """Is the process that wrote it, or one of its number, there?"""
    number = note.name.removeprefix(_NOTES).partition("-")[0]
    try:
        os.kill(int(number), 0)
    except (ValueError, ProcessLookupError):
        return False
    except (PermissionError, OverflowError):
        return True
    return True


class Remotes(Commits):
    """Fetch and push, and the refs of cd4ml's own that say what was seen."""

    def default_branch(self, remote: str) -> str | None:
        """The branch that the remote's HEAD names. Raises RemoteError."""
        lines = self._remote_command("ls-remote", "--symref", "--end-of-options", remote, "HEAD").text.splitlines()
        for line in lines:
            if line.startswith("ref: " + HEADS):
                return line.split("\t")[0].removeprefix("ref: " + HEADS)
        return None

    def fetch(self, remote: str) -> RemoteState:
        """Bring the remote's heads, landing refs and claims in, under a namespace of cd4ml's own.

        A head that the remote has no more is kept among the vanished ones, also when the fetch fails, or is killed:
        Git drops it first. Side effects: moves refs under ``refs/cd4ml/remote/`` only, and notes the heads in cd4ml's
        private folder meanwhile. Raises RemoteError.
        """
        before = self._refs(SEEN + "heads/")
        with self._noted(before) as noted:
            try:
                self._remote_command(
                    "fetch",
                    "--quiet",
                    "--no-tags",
                    "--prune",
                    "--no-write-fetch-head",
                    "--no-recurse-submodules",
                    "--refmap=",
                    "--end-of-options",
                    remote,
                    f"+{CLAIMS}*:{SEEN}claims/*",
                    f"+{LANDING}*:{SEEN}landing/*",
                    f"+{HEADS}*:{SEEN}heads/*",
                )
            except BaseException:
                self._keep_gone(before, self._refs(SEEN + "heads/"))
                raise
            seen = self.last_seen()
            return replace(seen, vanished=(*seen.vanished, *self._keep_gone({**noted, **before}, seen.heads)))

    def push_head(self, remote: str, branch: str, before: str, commit: str) -> None:
        """Move the head of a branch on the remote, which counts as seen: it may be gone before the next fetch.

        Raises as ``push`` does.
        """
        self.push(remote, [RefUpdate(HEADS + branch, before, commit)])
        self.git("update-ref", f"{SEEN}heads/{branch}", commit, allowed=(0, 1, 128))

    def last_seen(self) -> RemoteState:
        """What the last fetch saw; no network."""
        refs = self._refs_of_any("refs/cd4ml/")
        seen = "remote/claims/"
        claims = {CLAIMS + name.removeprefix(seen): one for name, (_, one) in refs.items() if name.startswith(seen)}
        commits = {name: one for name, (kind, one) in refs.items() if kind == "commit"}
        landed = "remote/landing/"
        misplaced = {
            LANDING + name.removeprefix(landed): one
            for name, (kind, one) in refs.items()
            if name.startswith(landed) and kind != "commit"
        }
        heads, landing, drafts, vanished = (
            {name.removeprefix(prefix): commit for name, commit in commits.items() if name.startswith(prefix)}
            for prefix in ("remote/heads/", "remote/landing/", "draft/", "remote/vanished/")
        )
        return RemoteState(
            heads,
            {LANDING + name: commit for name, commit in landing.items()},
            {LANDING + name: commit for name, commit in drafts.items()},
            claims,
            tuple((name.split("/", 1)[1].removesuffix(_LEAF), commit) for name, commit in vanished.items()),
            misplaced,
        )

    @contextmanager
    def _noted(self, heads: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
        """Note these heads in a file while the block runs; gives those that fetches noted which came to no end."""
        left = [path for path in sorted(self.private.glob(f"{_NOTES}*")) if not _is_at_work(path)]
        noted = self._heads_in(left)
        mine = self.private / f"{_NOTES}{os.getpid()}-{threading.get_ident()}"
        with suppress(OSError):  # as of a repository that can only be read: then none of its refs is dropped either
            if heads:
                self.private.mkdir(parents=True, exist_ok=True)
                lines = (f"{commit} {branch}\n" for branch, commit in heads.items())
                mine.write_text("".join(lines), "utf-8", "surrogateescape")
        try:
            yield noted
            with suppress(OSError):
                for path in left:
                    path.unlink(missing_ok=True)
        finally:
            with suppress(OSError):
                mine.unlink(missing_ok=True)

    def _heads_in(self, notes: Sequence[Path]) -> dict[str, str]:
        found: dict[str, str] = {}
        for path in notes:
            with suppress(OSError):
                text = path.read_text("utf-8", "surrogateescape")
                parts = (line.partition(" ") for line in text.split("\n")[:-1])  # the last may be half a line
                found |= {branch: commit for commit, _, branch in parts if branch}
        known = self._refs(SEEN + "heads/") if found else {}
        return {
            branch: commit
            for branch, commit in found.items()
            if known.get(branch) != commit and self.resolve(commit) == commit
        }

    def _keep_gone(self, before: Mapping[str, str], now: Mapping[str, str]) -> Sequence[tuple[str, str]]:
        gone = [(branch, commit) for branch, commit in before.items() if branch not in now]
        return self._keep_vanished(gone) if gone else ()

    def _keep_vanished(self, heads: Sequence[tuple[str, str]]) -> Sequence[tuple[str, str]]:
        """Keep heads that are gone, with all that they hold, until ``drop_vanished``; gives them."""
        lines = "".join(f"update {_vanished_ref(*one)} {one[1]}\n" for one in heads)
        try:
            self.git("update-ref", "--stdin", stdin=lines.encode())
        except ToolError:  # such as a full disk; what they asked for is then not recorded
            return ()
        return heads

    def drop_vanished(self, heads: Sequence[tuple[str, str]]) -> None:
        """Forget vanished heads, given as branch and commit; harmless for one that is not kept."""
        if heads:
            lines = "".join(f"delete {_vanished_ref(*one)}\n" for one in heads)
            self.git("update-ref", "--stdin", stdin=lines.encode(), allowed=(0, 128))

    def drafts_by_age(self) -> dict[str, Draft]:
        """The drafts by the name of their record, the oldest first; of a commit that tells no fingerprint, with none.

        The trailer is read here: what Git takes for one follows the user's settings.
        """
        form = "%(objectname)%00%(refname)%00%(contents)%00"
        listed = self.git("for-each-ref", "--sort=committerdate", f"--format={form}", DRAFT).text
        fields = listed.removesuffix("\0\n").split("\0") if listed else []
        found = {}
        for commit, ref, message in zip(fields[::3], fields[1::3], fields[2::3], strict=True):
            told = _FINGERPRINT.findall(message)
            found[ref.removeprefix(DRAFT)] = Draft(commit.strip(), told[-1] if told else "")
        return found

    def keep_draft(self, name: str, commit: str) -> None:
        """Keep a record's commit here alone, under the name that it would land with."""
        self.git("update-ref", DRAFT + name, commit)

    def drop_draft(self, name: str) -> None:
        """Forget a draft; harmless when there is none."""
        self.git("update-ref", "-d", DRAFT + name)

    def remote_ref(self, remote: str, ref: str) -> str | None:
        """Read one ref of the remote now. Raises RemoteError."""
        lines = self._remote_command("ls-remote", "--end-of-options", remote, ref).text.splitlines()
        return next((line.split("\t")[0] for line in lines if line.endswith("\t" + ref)), None)

    def tags(self, remote: str) -> dict[str, Tag]:
        """The tags of the remote, by name. Raises RemoteError.

        Nothing is fetched, and the text of a tag is not looked at.
        """
        lines = self._remote_command("ls-remote", "--tags", "--end-of-options", remote).text.splitlines()
        found: dict[str, Tag] = {}
        for line in sorted(lines, key=lambda line: line.endswith("^{}")):  # what an annotated one points to comes last
            commit, _, ref = line.partition("\t")
            found[ref.removeprefix(TAGS).removesuffix("^{}")] = Tag(commit, ref.endswith("^{}"))
        return found

    def tags_here(self) -> dict[str, Tag]:
        """The tags of this clone, by name."""
        form = "%(refname) %(objectname) %(*objectname)"
        parts = (line.split(" ") for line in self.git("for-each-ref", f"--format={form}", TAGS).text.splitlines())
        return {part[0].removeprefix(TAGS): Tag(part[-1] or part[1], bool(part[-1])) for part in parts}

    def tagged(self, remote: str) -> dict[str, str]:
        """What the tags of this clone and of the remote point to, annotated ones followed, by name.

        Raises RemoteError.
        """
        found = {name: tag.commit for name, tag in self.tags_here().items()}
        there = {name: tag.commit for name, tag in self.tags(remote).items()}
        differing = {name for name, commit in found.items() if there.get(name, commit) != commit}
        return {**found, **{f"{remote}: {name}" if name in differing else name: to for name, to in there.items()}}

    def bring_commit(self, remote: str, commit: str) -> bool:
        """Bring a commit (its full id) that no head need have, such as a fork's: objects only, under no ref.

        Says whether it is here.
        """
        if self.resolve(commit) == commit:
            return True
        try:
            self._remote_command("fetch", *OBJECTS_ALONE, "--end-of-options", remote, commit)
        except RemoteError:
            return False
        return self.resolve(commit) == commit

    def push(self, remote: str, updates: Sequence[RefUpdate], *, seconds: float | None = None) -> None:
        """Move all these refs on the remote, or none.

        Each moves only from its stated old value. Raises RemoteError, after which nobody knows: read back; also when
        there is no answer within ``seconds`` (by default, those of every talk with the remote).
        """
        leases = [f"--force-with-lease={update.ref}:{update.old}" for update in updates]
        specs = [f"{update.new}:{update.ref}" for update in updates]
        # what the user's settings would push beside these, or refuse for, is none of this push
        options = ("--no-follow-tags", "--recurse-submodules=no", "--no-signed", "--no-verify")
        settings = ("push.pushOption=", *(() if remote == HERE else (f"remote.{remote}.mirror=false",)))
        self._remote_command(
            *("push", "--quiet", "--atomic", *options, *leases, "--end-of-options", remote, *specs),
            settings=settings,
            seconds=seconds,
        )
