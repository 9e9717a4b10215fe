"""Commits: what they are, how they relate, what merging them gives, and making them. No ref moves."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import cached_property

from cd4ml.errors import RepositoryError, ToolError
from cd4ml.gateways.git.connection import last_line
from cd4ml.gateways.git.objects import Objects
from cd4ml.gateways.git.values import Authorship, CommitInfo


class Commits(Objects):
    """Questions about commits, and the making of them."""

    def resolve(self, revision: str) -> str | None:
        """The commit that a revision names, or nothing. Never taken for an option."""
        if not revision or "\0" in revision or "\n" in revision:
            return None
        done = self.git(
            "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}", allowed=(0, 1, 128)
        )
        lines = done.text.split()
        return lines[-1] if done.returncode == 0 and lines and not lines[-1].startswith("^") else None

    def commit_info(self, commit: str) -> CommitInfo:
        """Facts of a commit. Raises RepositoryError for what is none."""
        form = "%H%x00%T%x00%P%x00%an <%ae>%x00%cn <%ce>%x00%ct%x00%s"
        options = ("--no-patch", "--no-show-signature", "--no-notes", "--encoding=UTF-8", f"--format={form}")
        try:
            told = self.git("log", "-1", *options, "--end-of-options", f"{commit}^{{commit}}").text
        except ToolError as error:
            raise RepositoryError(f"{commit}: is not a commit here") from error
        fields = told.rstrip("\n").split("\0", 6)
        _, tree, parents, author, committer, seconds, subject = fields
        return CommitInfo(fields[0], tree, tuple(parents.split()), author, committer, _instant(seconds), subject)

    def changed_paths(self, before: str, after: str) -> tuple[str, ...]:
        """Paths that differ between two trees, renames taken as two."""
        options = ("-r", "-z", "--no-renames", "--no-ext-diff", "--ignore-submodules=none", "--name-only")
        listed = self.git("diff-tree", *options, "--end-of-options", before, after).text
        return tuple(filter(None, listed.split("\0")))

    def changed_blobs(self, before: str, after: str) -> dict[str, tuple[str, str]]:
        """By path, the object ids before and after of every file that differs; ``""`` where there is none."""
        options = ("-r", "-z", "--no-renames", "--no-ext-diff", "--ignore-submodules=none", "--raw", "--no-abbrev")
        told = self.git("diff-tree", *options, "--end-of-options", before, after).stdout.split(b"\0")
        found: dict[str, tuple[str, str]] = {}
        for meta, path in zip(told[0:-1:2], told[1::2], strict=True):
            _, _, old, new, _ = meta.decode().split(" ")
            found[path.decode("utf-8", "backslashreplace")] = (old.strip("0") and old, new.strip("0") and new)
        return found

    def is_ancestor(self, ancestor: str, commit: str) -> bool:
        """Does the history of ``commit`` hold ``ancestor``?"""
        return self.git("merge-base", "--is-ancestor", ancestor, commit, allowed=(0, 1)).returncode == 0

    def first_parents(self, commit: str) -> tuple[str, ...]:
        """The commit and its first-parent history, newest first."""
        options = ("--first-parent", "--end-of-options")
        return tuple(self.git("rev-list", *options, commit).text.split())

    def merge_tree(self, ours: str, theirs: str) -> tuple[str | None, tuple[str, ...]]:
        """The tree that merging gives, without a work tree; nothing and the files when it conflicts.

        A function of the two commits alone, so that everyone gets the same tree: neither settings (rename
        detection, merge drivers) nor attributes, of the user or of whatever is checked out, count. (A partial
        clone is the exception: only its own settings can bring missing objects.)
        Raises RepositoryError for histories that share nothing.
        """
        tree, conflicts = self.merged_tree(ours, theirs)
        return (None, conflicts) if conflicts else (tree, ())

    def merged_tree(self, ours: str, theirs: str) -> tuple[str, tuple[str, ...]]:
        """The same, where a conflict gives a tree too: files that conflict hold both sides between markers."""
        options = ("--write-tree", "--name-only", "--no-messages", "-z", "--end-of-options")
        try:
            with self._settingless() as env:
                done = self.git(
                    "-c", "core.attributesFile=/dev/null", "merge-tree", *options, ours, theirs, env=env, allowed=(0, 1)
                )
        except ToolError as error:
            raise RepositoryError(f"{theirs[:12]} cannot be merged: {last_line(error)}") from error
        parts = [part for part in done.text.split("\0") if part]
        if not parts:
            raise RepositoryError(f"{theirs[:12]} cannot be merged: {done.stderr.decode('utf-8', 'replace').strip()}")
        return parts[0].strip(), () if done.returncode == 0 else tuple(dict.fromkeys(parts[1:]))

    def merge_base(self, ours: str, theirs: str) -> str | None:
        """The newest commit that both histories hold; nothing when they share none."""
        done = self.git("merge-base", ours, theirs, allowed=(0, 1))
        return done.text.split()[0] if done.returncode == 0 else None

    def commit_tree(
        self, tree: str, parents: Iterable[str], message: str, identity: Mapping[str, str] | None = None
    ) -> str:
        """A commit of that tree. Without an identity configured, it is cd4ml's own."""
        options = [argument for parent in parents for argument in ("-p", parent)]
        env = identity or self._identity
        return self.git("commit-tree", "--no-gpg-sign", *options, tree, stdin=message.encode(), env=env).text.strip()

    @cached_property
    def _identity(self) -> Mapping[str, str]:
        """What Git lacks to make a commit: nothing when a name and address are configured."""
        if self.git("var", "GIT_COMMITTER_IDENT", allowed=(0, 128)).returncode == 0 and self.config("user.email"):
            return {}
        given = {
            name: value for name, value in os.environ.items() if name.startswith(("GIT_AUTHOR_", "GIT_COMMITTER_"))
        }
        own = {
            "GIT_AUTHOR_NAME": "cd4ml",
            "GIT_AUTHOR_EMAIL": "cd4ml@localhost",
            "GIT_COMMITTER_NAME": "cd4ml",
            "GIT_COMMITTER_EMAIL": "cd4ml@localhost",
        }
        return {**own, **given}

    def me(self) -> str:
        """``Name <address>`` of whoever runs this, as a commit made now would say."""
        told = self.git("var", "GIT_COMMITTER_IDENT", env=self._identity).text
        return told[: told.rindex(">") + 1]

    # ── the same questions about many commits, in one command however many they are ──

    def commit_infos(self, commits: Sequence[str]) -> dict[str, CommitInfo]:
        """Facts of those of the commits that are here, by full id."""
        if not commits:
            return {}
        form = "%H%x00%T%x00%P%x00%an <%ae>%x00%cn <%ce>%x00%ct%x00%s"
        options = ("--no-patch", "--no-show-signature", "--no-notes", "--encoding=UTF-8", "-z", f"--format={form}")
        asked = ("log", "--no-walk=unsorted", "--ignore-missing", "--stdin")
        try:
            told = self.git(*asked, *options, stdin=_lines(commits)).text
        except ToolError:  # something is no commit, or cannot be read
            return self._infos_one_by_one(commits)
        fields = told.removesuffix("\0").split("\0")
        infos = (fields[start : start + 7] for start in range(0, len(fields) - 6, 7))
        return {
            commit: CommitInfo(commit, tree, tuple(parents.split()), author, committer, _instant(seconds), subject)
            for commit, tree, parents, author, committer, seconds, subject in infos
        }

    def _infos_one_by_one(self, commits: Sequence[str]) -> dict[str, CommitInfo]:
        found = {}
        for commit in commits:
            with suppress(RepositoryError):
                found[commit] = self.commit_info(commit)
        return found

    def commits_ahead(self, heads: Sequence[str], base: str) -> dict[str, tuple[str, ...]]:
        """What the histories of ``heads`` hold and that of ``base`` does not: parents by commit."""
        if not heads:
            return {}
        listed = self.git("rev-list", "--parents", "--stdin", stdin=_lines([*heads, f"^{base}"])).text
        parts = (line.split(" ") for line in listed.splitlines())
        return {commit: tuple(parents) for commit, *parents in parts}

    def history_of(self, commit: str) -> dict[str, tuple[str, ...]]:
        """The whole history of a commit, newest first: parents by commit."""
        listed = self.git("rev-list", "--parents", "--topo-order", "--end-of-options", commit).text
        parts = (line.split(" ") for line in listed.splitlines())
        return {one: tuple(parents) for one, *parents in parts}

    def authorship(self, heads: Sequence[str]) -> dict[str, Authorship]:
        """Parents and authors of all commits in the histories of ``heads``; those that are not here are left out."""
        if not heads:
            return {}
        options = ("--no-patch", "--no-show-signature", "--no-notes", "--encoding=UTF-8", "-z")
        asked = ("--ignore-missing", "--stdin")  # in this order: what is read as it is met ignores what it knows of
        told = self.git("log", *options, "--format=%H%x00%P%x00%an <%ae> %at", *asked, stdin=_lines(heads)).text
        fields = told.removesuffix("\0").split("\0")
        parts = (fields[start : start + 3] for start in range(0, len(fields) - 2, 3))
        return {commit: Authorship(tuple(parents.split()), stamp) for commit, parents, stamp in parts}

    def merge_trees(
        self, pairs: Sequence[tuple[str, str]]
    ) -> dict[tuple[str, str], tuple[str | None, tuple[str, ...]]]:
        """What ``merge_tree`` gives for each pair; one that cannot be merged, and those after it, are left out."""
        if not pairs:
            return {}
        options = ("--write-tree", "--stdin", "--name-only", "--no-messages", "-z")
        asked = "".join(f"{ours} {theirs}\n" for ours, theirs in pairs).encode()
        with self._settingless() as env:
            command = ("-c", "core.attributesFile=/dev/null", "merge-tree", *options)
            told = self.git(*command, stdin=asked, env=env, allowed=(0, 1, 128, 129)).text
        # for each: whether it is clean, the tree, the files that conflict; then an empty one
        answers: list[tuple[str | None, tuple[str, ...]]] = []
        fields = iter(told.split("\0"))
        for clean in fields:
            tree, files = next(fields, ""), list(dict.fromkeys(iter(lambda: next(fields, ""), "")))
            if clean not in ("0", "1") or not tree:
                break
            answers.append((tree, ()) if clean == "1" else (None, tuple(files)))
        return dict(zip(pairs, answers, strict=False))

    def paths_changed(self, pairs: Sequence[tuple[str, str]]) -> dict[str, frozenset[str]]:
        """Paths in which the first commit of each pair differs from the second, by the first."""
        if not pairs:
            return {}
        options = ("-r", "-z", "--no-renames", "--no-ext-diff", "--ignore-submodules=none", "--stdin", "--always")
        asked = "".join(f"{after} {before}\n" for after, before in pairs).encode()
        fields = iter(self.git("diff-tree", *options, stdin=asked).text.split("\0"))
        found: dict[str, set[str]] = {after: set() for after, _ in pairs}
        current: set[str] = set()
        for field in fields:
            if field.startswith(":"):  # modes, ids and a letter; the path comes next
                current.add(next(fields, ""))
            else:
                current = found.get(field, current)
        return {after: frozenset(paths) for after, paths in found.items()}

    def commit_text(self, tree: str, parents: Sequence[str], message: str, who: str, when: str) -> tuple[str, bytes]:
        """The id and the bytes of a commit that is not made yet.

        Author and committer are ``who`` (``Name <address>``), at ``when`` (ISO 8601 in UTC).
        """
        seconds = int(datetime.fromisoformat(when).timestamp())
        signed = f"{who} {seconds} +0000"
        lines = [f"tree {tree}", *(f"parent {parent}" for parent in parents), f"author {signed}", f"committer {signed}"]
        data = ("\n".join(lines) + f"\n\n{message}").encode()
        return hashlib.sha1(b"commit %d\0" % len(data) + data, usedforsecurity=False).hexdigest(), data

    def write_commit(self, data: bytes) -> str:
        """Make the commit of these bytes; gives its id. Writes an object only."""
        return self.git("hash-object", "-t", "commit", "-w", "--stdin", stdin=data).text.strip()


def _lines(commits: Iterable[str]) -> bytes:
    return "".join(f"{commit}\n" for commit in commits).encode()


def _instant(seconds: str) -> str:
    """ISO 8601 in UTC. A commit may carry any date: what lies before 1970 or after 9998 becomes the nearest."""
    last = 253_370_764_800
    known = int(seconds) if seconds.strip().isdigit() else 0
    return datetime.fromtimestamp(min(known, last), UTC).isoformat().replace("+00:00", "Z")
